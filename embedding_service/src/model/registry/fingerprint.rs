//! Which embeddings can be compared: those of equal fingerprints.
//!
//! A fingerprint is a hash of all that decides what the numbers are. Collections have it stored: what is hashed is written
//! out below, and a change of it is another version.
//!
//! Version 1 is a local model without prompts. Version 2 is every other model: what identifies it (its files, its
//! provider's name for it, or the space that models.toml says it shares), then dimension, normalization and prompts.

use super::super::hash::Sha256Hex;
use super::{LocalSpec, ModelFiles, ModelSpec, Prompts, Provider, RemoteSpec, Runs};
use crate::encoder::{Pooling, Precision};

/// Hexadecimal digits of a fingerprint: 128 bits.
const DIGITS: usize = 32;

impl ModelSpec {
    /// The fingerprint, as far as models.toml decides it: nothing for a local model whose files it does not pin.
    pub fn fingerprint(&self) -> Option<String> {
        match &self.runs {
            Runs::Here(local) if local.files.is_none() && self.space.is_none() => None,
            Runs::Here(local) => Some(self.fingerprint_here(local, local.files.as_ref())),
            Runs::There(remote) => Some(self.fingerprint_there(remote)),
        }
    }

    /// The fingerprint of a model that runs here, of these files.
    pub fn fingerprint_of(&self, local: &LocalSpec, files: &ModelFiles) -> String {
        self.fingerprint_here(local, Some(files))
    }

    /// What is known to decide an embedding of a model of this fingerprint, for those who keep embeddings. It is more than the
    /// fingerprint where a provider runs the model and nobody has said of which space it is: two servers may call different
    /// models by one name, and cut texts differently.
    pub fn cache_identity(&self, fingerprint: &str) -> String {
        match &self.runs {
            Runs::There(remote) if self.space.is_none() => {
                let RemoteSpec { base_url, tokenizer, .. } = &**remote;
                let tokens_max = self.tokens_max;
                format!("{fingerprint}\nbase_url {base_url}\ntokenizer {tokenizer:?}\ntokens_max {tokens_max}\n")
            }
            _ => fingerprint.to_owned(),
        }
    }

    fn fingerprint_here(&self, local: &LocalSpec, files: Option<&ModelFiles>) -> String {
        // Nothing for f32: fingerprints of collections that were made before there was a choice stay as they are.
        let precision = match local.precision {
            Precision::F32 => "",
            Precision::Int8 => "precision int8\n",
        };
        // Whoever vouches for a space has compared embeddings in f32.
        let Some(files) = files.filter(|_| self.space.is_none()) else { return self.fingerprint_2(precision) };
        let pooling = match local.pooling {
            Pooling::Mean => "mean",
            Pooling::Cls => "cls",
        };
        let ModelFiles { config, tokenizer, weights } = files;
        let files = format!("weights {weights}\ntokenizer {tokenizer}\nconfig {config}\npooling {pooling}\n");
        let tokens_max = format!("tokens_max {}\n{precision}", self.tokens_max);
        if self.prompts == Prompts::default() {
            return hash(&format!("vectron fingerprint 1\n{files}normalize {}\n{tokens_max}", self.normalizes()));
        }
        self.fingerprint_2(&format!("{files}{tokens_max}"))
    }

    /// The fingerprint of a model that this provider runs.
    pub(crate) fn fingerprint_there(&self, remote: &RemoteSpec) -> String {
        if self.space.is_some() {
            return self.fingerprint_2("");
        }
        let input_types = match remote.provider {
            Provider::Cohere => "input types search_document search_query\n",
            Provider::OpenAi | Provider::HuggingFace => "",
        };
        self.fingerprint_2(&format!("provider {}\nmodel {}\n{input_types}", remote.provider.name(), self.model_name))
    }

    /// `identity` is what the model is; of one with a space, what is to be known beside its name.
    fn fingerprint_2(&self, identity: &str) -> String {
        let space = self.space.as_ref().map_or_else(String::new, |space| format!("space {space}\n"));
        let Prompts { query, document } = &self.prompts;
        hash(&format!(
            "vectron fingerprint 2\n{space}{identity}dimension {}\nnormalize {}\nquery prompt {query:?}\n\
             document prompt {document:?}\n",
            self.dimension,
            self.normalizes()
        ))
    }

    fn normalizes(&self) -> &'static str {
        if self.normalize { "yes" } else { "no" }
    }
}

fn hash(all: &str) -> String {
    Sha256Hex::of(all.as_bytes()).as_str()[..DIGITS].to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Registry;
    use super::*;

    fn model(id: &str) -> ModelSpec {
        Registry::load(None, None).unwrap().get(id).unwrap().clone()
    }

    fn pinned(id: &str) -> String {
        model(id).fingerprint().unwrap()
    }

    /// Collections have them stored: another value here means that none of them can embed texts any more.
    #[test]
    fn fingerprints_stay_what_they_are() {
        for (id, fingerprint) in [
            ("minilm", "4f5ce294aabef785dd02e685825491cd"),
            ("bge-small", "51b9ae61e51115808b423334967d9b09"),
            ("openai-small", "3c76e49fcc0ff4d48b70fd97360fc322"),
            ("cohere-english", "ad6118494cf787fa265a0a5b0e9bead5"),
            ("bge-base", "a08b2bd854e16d696d29a13882695318"),
            ("huggingface-bge", "c3d4664edb740ef817b334ab5674d46f"),
        ] {
            assert_eq!(pinned(id), fingerprint, "{id}");
        }
        // Of collections from before int8 was the default.
        let f32 = Registry::load(None, Some(Precision::F32)).unwrap();
        for (id, fingerprint) in [
            ("minilm", "52e3c1c394faaaf4270b264109a1f92c"),
            ("bge-small", "58131284d7c1aaead756acd37296900c"),
            ("bge-base", "37e93383098e33c3465216461cae6df4"),
        ] {
            assert_eq!(f32.get(id).unwrap().fingerprint().unwrap(), fingerprint, "{id} in f32");
        }
        let in_space =
            |spec: &ModelSpec| ModelSpec { space: Some("s".to_owned()), ..spec.clone() }.fingerprint().unwrap();
        assert_eq!(in_space(f32.get("bge-base").unwrap()), "3b6b2113cd7577624da0c173246d21a4");
    }

    #[test]
    fn fingerprint_follows_what_decides_the_numbers() {
        let bge = model("bge-small");
        let prompts = Prompts { query: "other: ".to_owned(), ..Prompts::default() };
        let local = bge.local().unwrap();
        let files = |files| Runs::Here(Arc::new(LocalSpec { files, ..local.clone() }));
        let f32 = Runs::Here(Arc::new(LocalSpec { precision: Precision::F32, ..local.clone() }));
        let Some(pins) = local.files.clone() else { panic!("it is pinned") };
        let others = ModelFiles { config: Sha256Hex::of(b"other"), ..pins };
        for other in [
            ModelSpec { tokens_max: 128, ..bge.clone() },
            ModelSpec { normalize: false, ..bge.clone() },
            ModelSpec { prompts: prompts.clone(), ..bge.clone() },
            ModelSpec { prompts: Prompts::default(), ..bge.clone() },
            ModelSpec { space: Some("bge".to_owned()), ..bge.clone() },
            ModelSpec { runs: files(Some(others)), ..bge.clone() },
            ModelSpec { runs: f32, ..bge.clone() },
        ] {
            assert_ne!(other.fingerprint(), bge.fingerprint(), "{other:?}");
        }
        assert_eq!(ModelSpec { id: "other".to_owned(), ..bge.clone() }.fingerprint(), bge.fingerprint());
        assert_eq!(
            ModelSpec { runs: files(None), ..bge.clone() }.fingerprint(),
            None,
            "nobody knows before it is read"
        );

        let remote = model("huggingface-bge");
        let Runs::There(how) = &remote.runs else { panic!("a provider runs it") };
        let by_openai = Runs::There(Arc::new(RemoteSpec { provider: Provider::OpenAi, ..(**how).clone() }));
        for other in [
            ModelSpec { runs: by_openai, ..remote.clone() },
            ModelSpec { model_name: "BAAI/bge-large-en-v1.5".to_owned(), ..remote.clone() },
            ModelSpec { dimension: 1024, ..remote.clone() },
            ModelSpec { normalize: false, ..remote.clone() },
            ModelSpec { prompts, ..remote.clone() },
        ] {
            assert_ne!(other.fingerprint(), remote.fingerprint(), "{other:?}");
        }
    }

    #[test]
    fn embeddings_are_kept_apart_by_server_and_limits_unless_a_space_is_declared() {
        let kept = |spec: &ModelSpec| spec.cache_identity(&spec.fingerprint().unwrap());
        let openai = model("openai-small");
        let with = |change: fn(&mut RemoteSpec)| {
            let mut other = openai.clone();
            let Runs::There(remote) = &mut other.runs else { panic!("a provider runs it") };
            change(Arc::make_mut(remote));
            other
        };
        for other in [
            ModelSpec { tokens_max: 100, ..openai.clone() },
            with(|remote| remote.base_url = "http://elsewhere/v1".to_owned()),
            with(|remote| remote.tokenizer = None),
        ] {
            assert_eq!(other.fingerprint(), openai.fingerprint());
            assert_ne!(kept(&other), kept(&openai), "{other:?}");
            let in_space = |spec: &ModelSpec| kept(&ModelSpec { space: Some("s".to_owned()), ..spec.clone() });
            assert_eq!(in_space(&other), in_space(&openai));
        }
        assert_eq!(kept(&ModelSpec { id: "other".to_owned(), ..openai.clone() }), kept(&openai));
        assert_eq!(kept(&model("minilm")), pinned("minilm"));
    }

    #[test]
    fn a_space_in_8_bits_is_another() {
        let of = |precision| {
            let mut bge = ModelSpec { space: Some("bge-base".to_owned()), ..model("bge-base") };
            let Runs::Here(local) = &mut bge.runs else { panic!("it runs here") };
            Arc::make_mut(local).precision = precision;
            bge.fingerprint()
        };
        assert_ne!(of(Precision::F32), of(Precision::Int8));
    }

    #[test]
    fn models_of_one_space_have_one_fingerprint() {
        let f32 = Registry::load(None, Some(Precision::F32)).unwrap();
        let in_space = |spec: ModelSpec| ModelSpec { space: Some("bge-base".to_owned()), ..spec }.fingerprint();
        let space = |id: &str| in_space(f32.get(id).unwrap().clone());
        assert_eq!(space("bge-base"), space("huggingface-bge"));
        assert_ne!(space("bge-base"), space("bge-small"), "another dimension");
        assert_ne!(in_space(model("bge-base")), space("bge-base"), "in other numbers");
        assert_ne!(model("bge-base").fingerprint(), model("huggingface-bge").fingerprint());
    }
}
