//! models.toml as it is written, and the checks from there to what the service uses.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::{
    Input, LOCAL, LocalSpec, ModelFiles, ModelSpec, Prompts, Provider, RemoteLimits, RemoteSpec, RemoteTokenizer, Runs,
};
use crate::encoder::{Pooling, Precision};
use crate::model::address::{self, Unfit};
use crate::told::line_of;

/// Components of an embedding: as many as a collection takes.
const DIMENSION_MAX: usize = 65_536;
/// Tokens of a character: one for each of its bytes in UTF-8.
const CHARACTER_TOKENS_MAX: usize = 4;
/// Bytes of a prompt.
const PROMPT_BYTES_MAX: usize = 4096;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    default: Spanned<String>,
    #[serde(rename = "model", default)]
    models: Vec<Entry>,
}

/// A model as it is written. The comment of models.toml says what each key means, and of which providers it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: Spanned<String>,
    provider: Spanned<ProviderKey>,
    model_name: Spanned<String>,
    dimension: Spanned<usize>,
    tokens_max: Spanned<usize>,
    normalize: bool,
    query_prompt: Option<Spanned<String>>,
    document_prompt: Option<Spanned<String>>,
    space: Option<Spanned<String>>,
    #[serde(default)]
    fallback: Vec<Spanned<String>>,
    #[serde(default)]
    fallback_any_space: Vec<Spanned<String>>,

    // Of models that run here.
    revision: Option<Spanned<String>>,
    pooling: Option<Spanned<Pooling>>,
    precision: Option<Spanned<Precision>>,
    files: Option<Spanned<ModelFiles>>,

    // Of models that run elsewhere.
    base_url: Option<Spanned<String>>,
    key_env: Option<Spanned<String>>,
    ask_dimension: Option<Spanned<bool>>,
    tokenizer: Option<Spanned<RemoteTokenizer>>,
    request_texts_max: Option<Spanned<usize>>,
    request_tokens_max: Option<Spanned<usize>>,
    requests_max: Option<Spanned<usize>>,
    tries_max: Option<Spanned<usize>>,
    try_time_max_ms: Option<Spanned<usize>>,
    time_max_ms: Option<Spanned<usize>>,
}

/// `provider` as it is written.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ProviderKey {
    Local,
    OpenAi,
    Cohere,
    HuggingFace,
}

/// What is wrong, and where.
struct Fault {
    at: Range<usize>,
    reason: String,
}

/// What a provider takes, and where it is, unless models.toml says otherwise.
struct Defaults {
    base_url: &'static str,
    texts_max: usize,
    tokens_max: usize,
}

/// The default's id and the models, checked; else what is wrong, with its line. `precision` goes before what is written.
pub(super) fn read(text: &str, precision: Option<Precision>) -> Result<(String, Vec<ModelSpec>), String> {
    let told = |Fault { at, reason }| format!("line {}: {reason}", line_of(text.as_bytes(), at.start));
    // Not the error as a whole: it repeats the line, in which somebody may have written a key.
    let parsed = toml::from_str(text).map_err(|error: toml::de::Error| {
        let reason = error.message().to_owned();
        Fault { at: error.span().unwrap_or_default(), reason }
    });
    parsed.and_then(|file: File| check(&file, precision)).map_err(told)
}

fn check(file: &File, precision: Option<Precision>) -> Result<(String, Vec<ModelSpec>), Fault> {
    let mut models: Vec<ModelSpec> = Vec::with_capacity(file.models.len());
    for entry in &file.models {
        let model = entry.check(precision)?;
        if models.iter().any(|other| other.id == model.id) {
            return Err(fault(&entry.id, format!("id `{}` is given to two models", model.id)));
        }
        models.push(model);
    }
    for (entry, model) in file.models.iter().zip(&models) {
        check_space(entry, model, &models)?;
        check_fallbacks(entry, model, &models)?;
    }
    let default = file.default.get_ref();
    if models.is_empty() {
        return Err(fault(
            &file.default,
            format!("default is `{default}`, but there are no models: expected a [[model]]"),
        ));
    }
    if !models.iter().any(|model| model.id == *default) {
        return Err(fault(&file.default, format!("default is `{default}`, but the models are {}", ids(&models))));
    }
    Ok((default.clone(), models))
}

impl ProviderKey {
    /// Which one; nothing where models run here.
    fn elsewhere(self) -> Option<Provider> {
        match self {
            Self::Local => None,
            Self::OpenAi => Some(Provider::OpenAi),
            Self::Cohere => Some(Provider::Cohere),
            Self::HuggingFace => Some(Provider::HuggingFace),
        }
    }
}

impl Entry {
    fn check(&self, precision: Option<Precision>) -> Result<ModelSpec, Fault> {
        let id = self.id.get_ref();
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        // The id names a folder.
        if id.is_empty() || id.len() > 64 || id.starts_with('.') || !id.bytes().all(plain) {
            let expected = "expected 1 to 64 lower-case letters, digits, `-`, `_` and `.`, the first not `.`";
            return Err(fault(&self.id, format!("id `{id}`: {expected}")));
        }
        let prompts = Prompts {
            query: prompt("query_prompt", &self.query_prompt)?,
            document: prompt("document_prompt", &self.document_prompt)?,
        };
        let space = self.space.as_ref().map(|space| space.get_ref().clone());
        if let Some(space) = &self.space
            && (space.get_ref().is_empty() || space.get_ref().len() > 64 || !space.get_ref().bytes().all(plain))
        {
            let expected = "expected 1 to 64 lower-case letters, digits, `-`, `_` and `.`";
            return Err(fault(space, format!("space `{}` of `{id}`: {expected}", space.get_ref())));
        }
        let strings = |ids: &[Spanned<String>]| ids.iter().map(|id| id.get_ref().clone()).collect();
        Ok(ModelSpec {
            id: id.clone(),
            model_name: self.model_name.get_ref().clone(),
            dimension: within("dimension", &self.dimension, 1..=DIMENSION_MAX)?,
            tokens_max: within("tokens_max", &self.tokens_max, 1..=1 << 20)?,
            normalize: self.normalize,
            prompts,
            space,
            fallback: strings(&self.fallback),
            fallback_any_space: strings(&self.fallback_any_space),
            runs: match self.provider.get_ref().elsewhere() {
                None => Runs::Here(Arc::new(self.local(precision)?)),
                Some(provider) => Runs::There(Arc::new(self.remote(provider)?)),
            },
        })
    }

    fn local(&self, precision: Option<Precision>) -> Result<LocalSpec, Fault> {
        let elsewhere = [
            ("base_url", span(&self.base_url)),
            ("key_env", span(&self.key_env)),
            ("ask_dimension", span(&self.ask_dimension)),
            ("tokenizer", span(&self.tokenizer)),
            ("request_texts_max", span(&self.request_texts_max)),
            ("request_tokens_max", span(&self.request_tokens_max)),
            ("requests_max", span(&self.requests_max)),
            ("tries_max", span(&self.tries_max)),
            ("try_time_max_ms", span(&self.try_time_max_ms)),
            ("time_max_ms", span(&self.time_max_ms)),
        ];
        self.refuse(&elsewhere)?;
        self.check_repository()?;
        let revision = self.required("revision", &self.revision)?;
        if revision.is_empty() || !revision.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
            let reason = format!("revision `{revision}` of `{}`: expected a commit, tag or branch", self.id.get_ref());
            return Err(Fault { at: span(&self.revision).unwrap_or_default(), reason });
        }
        Ok(LocalSpec {
            id: self.id.get_ref().clone(),
            repository: self.model_name.get_ref().clone(),
            revision: revision.clone(),
            pooling: *self.required("pooling", &self.pooling)?,
            normalize: self.normalize,
            precision: match (precision, &self.precision) {
                (Some(precision), _) => precision,
                (None, Some(precision)) => *precision.get_ref(),
                // By what the file says, so that the fingerprint is known before the model is loaded.
                (None, None) => Precision::of_dimension(*self.dimension.get_ref()),
            },
            files: self.files.as_ref().map(|files| files.get_ref().clone()),
        })
    }

    fn remote(&self, provider: Provider) -> Result<RemoteSpec, Fault> {
        let here = [
            ("revision", span(&self.revision)),
            ("pooling", span(&self.pooling)),
            ("precision", span(&self.precision)),
            ("files", span(&self.files)),
        ];
        self.refuse(&here)?;
        if provider != Provider::OpenAi {
            self.refuse(&[("ask_dimension", span(&self.ask_dimension)), ("tokenizer", span(&self.tokenizer))])?;
        }
        match provider {
            // Part of the address.
            Provider::HuggingFace => self.check_repository()?,
            _ if self.model_name.get_ref().is_empty() => {
                return Err(fault(&self.model_name, "model_name is empty: expected the provider's name of the model"));
            }
            _ => {}
        }
        self.check_cut()?;
        let defaults = Defaults::of(provider);
        let limit = |name, value: &Option<Spanned<usize>>, default, max| match value {
            Some(value) => within(name, value, 1..=max),
            None => Ok(default),
        };
        let limits = RemoteLimits {
            texts_max: limit("request_texts_max", &self.request_texts_max, defaults.texts_max, 1 << 20)?,
            tokens_max: limit("request_tokens_max", &self.request_tokens_max, defaults.tokens_max, 1 << 30)?,
            requests_max: limit("requests_max", &self.requests_max, 4, 1024)?,
            tries_max: limit("tries_max", &self.tries_max, 3, 10)?,
            try_time_max: milliseconds(limit("try_time_max_ms", &self.try_time_max_ms, 15_000, 600_000)?),
            time_max: milliseconds(limit("time_max_ms", &self.time_max_ms, 40_000, 600_000)?),
        };
        Ok(RemoteSpec {
            provider,
            base_url: match &self.base_url {
                None => defaults.base_url.to_owned(),
                Some(url) => check_url(url)?,
            },
            key_env: self.key_env.as_ref().map(check_variable).transpose()?,
            asks_dimension: self.ask_dimension.as_ref().is_some_and(|asks| *asks.get_ref()),
            tokenizer: self.tokenizer.as_ref().map(|tokenizer| *tokenizer.get_ref()),
            limits,
        })
    }

    /// Where texts are cut here, something of each must be left: after its prompt, and of its first character.
    fn check_cut(&self) -> Result<(), Fault> {
        let Some(RemoteTokenizer::Cl100kBase) = self.tokenizer.as_ref().map(|tokenizer| *tokenizer.get_ref()) else {
            return Ok(());
        };
        let tokens_max = *self.tokens_max.get_ref();
        for (key, prompt) in [("query_prompt", &self.query_prompt), ("document_prompt", &self.document_prompt)] {
            let prompt = prompt.as_ref().map_or("", |prompt| prompt.get_ref());
            let tokens = bpe_openai::cl100k_base().count(prompt);
            if tokens_max < tokens + CHARACTER_TOKENS_MAX {
                let expected = tokens + CHARACTER_TOKENS_MAX;
                let reason = format!(
                    "tokens_max is {tokens_max}: expected at least {expected}, for {key} has {tokens}, and a character up to \
                     {CHARACTER_TOKENS_MAX}"
                );
                return Err(fault(&self.tokens_max, reason));
            }
        }
        Ok(())
    }

    fn check_repository(&self) -> Result<(), Fault> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let named = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain);
        let name = self.model_name.get_ref();
        if name.split_once('/').is_some_and(|(organization, name)| named(organization) && named(name)) {
            return Ok(());
        }
        let id = self.id.get_ref();
        Err(fault(&self.model_name, format!("model_name `{name}` of `{id}`: expected `organization/name`")))
    }

    fn required<'a, T>(&self, key: &str, value: &'a Option<Spanned<T>>) -> Result<&'a T, Fault> {
        let missing =
            || fault(&self.id, format!("model `{}` has no `{key}`, which a local one needs", self.id.get_ref()));
        Ok(value.as_ref().ok_or_else(missing)?.get_ref())
    }

    /// Refuses keys that mean nothing to this provider.
    fn refuse(&self, keys: &[(&str, Option<Range<usize>>)]) -> Result<(), Fault> {
        for (key, at) in keys {
            if let Some(at) = at {
                let (id, provider) =
                    (self.id.get_ref(), self.provider.get_ref().elsewhere().map_or(LOCAL, Provider::name));
                let reason = format!("`{key}` means nothing to model `{id}`, whose provider is `{provider}`");
                return Err(Fault { at: at.clone(), reason });
            }
        }
        Ok(())
    }
}

impl Defaults {
    fn of(provider: Provider) -> Self {
        match provider {
            // https://platform.openai.com/docs/api-reference/embeddings/create: 2,048 inputs and 300,000 tokens.
            Provider::OpenAi => Self { base_url: "https://api.openai.com/v1", texts_max: 2048, tokens_max: 300_000 },
            // https://docs.cohere.com/reference/embed: 96 texts.
            Provider::Cohere => Self { base_url: "https://api.cohere.com", texts_max: 96, tokens_max: 1 << 20 },
            // As many as text-embeddings-inference takes by default.
            Provider::HuggingFace => {
                Self { base_url: "https://router.huggingface.co/hf-inference", texts_max: 32, tokens_max: 1 << 20 }
            }
        }
    }
}

/// Models say that they share a space; what can be seen of it here must be true.
fn check_space(entry: &Entry, model: &ModelSpec, models: &[ModelSpec]) -> Result<(), Fault> {
    let Some(space) = &entry.space else { return Ok(()) };
    for other in models.iter().filter(|other| other.space == model.space) {
        let differs = if other.dimension != model.dimension {
            "dimension"
        } else if other.normalize != model.normalize {
            "normalize"
        } else if other.prompts.of(Input::Query) != model.prompts.of(Input::Query) {
            "query_prompt"
        } else if other.prompts.of(Input::Document) != model.prompts.of(Input::Document) {
            "document_prompt"
        } else if other.precision() != model.precision() {
            "precision"
        } else if let (Some(here), Some(too)) = (model.local(), other.local())
            && here.pooling != too.pooling
        {
            "pooling"
        } else if model.local().is_some() && other.local().is_some() && other.tokens_max != model.tokens_max {
            "tokens_max"
        } else {
            continue;
        };
        let (space_name, id, other) = (space.get_ref(), &model.id, &other.id);
        let reason = format!("space `{space_name}` is that of `{other}` and `{id}`, which differ in `{differs}`");
        return Err(fault(space, reason));
    }
    Ok(())
}

fn check_fallbacks(entry: &Entry, model: &ModelSpec, models: &[ModelSpec]) -> Result<(), Fault> {
    let id = &model.id;
    for (key, fallbacks) in [("fallback", &entry.fallback), ("fallback_any_space", &entry.fallback_any_space)] {
        for (index, fallback) in fallbacks.iter().enumerate() {
            let name = fallback.get_ref();
            let Some(other) = models.iter().find(|other| other.id == *name) else {
                let reason = format!("{key} of `{id}` names `{name}`, but the models are {}", ids(models));
                return Err(fault(fallback, reason));
            };
            if other.id == *id || fallbacks[..index].iter().any(|earlier| earlier.get_ref() == name) {
                return Err(fault(fallback, format!("{key} of `{id}` names `{name}`, which was tried before")));
            }
            let same_space = model.fingerprint().is_some() && model.fingerprint() == other.fingerprint();
            if key == "fallback" && !same_space {
                let reason = format!(
                    "fallback of `{id}` names `{name}`, whose embeddings are of another space: they cannot be compared; \
                     give both the same `space` if you know that they can"
                );
                return Err(fault(fallback, reason));
            }
        }
    }
    Ok(())
}

fn prompt(key: &str, prompt: &Option<Spanned<String>>) -> Result<String, Fault> {
    match prompt {
        None => Ok(String::new()),
        Some(prompt) if prompt.get_ref().len() <= PROMPT_BYTES_MAX => Ok(prompt.get_ref().clone()),
        Some(prompt) => {
            let bytes = prompt.get_ref().len();
            Err(fault(prompt, format!("{key} has {bytes} bytes: expected at most {PROMPT_BYTES_MAX}")))
        }
    }
}

/// A key must not stand in the file, nor in an address that errors repeat.
fn check_url(url: &Spanned<String>) -> Result<String, Fault> {
    let expected = match address::plain(url.get_ref()) {
        Ok(plain) => return Ok(plain),
        Err(Unfit::Malformed) => "an address such as http://127.0.0.1:11434/v1",
        Err(Unfit::NoHost) => "http:// or https:// and a host, such as http://127.0.0.1:11434/v1",
        Err(Unfit::NotPlain) => {
            "no user, password, query or fragment in it; a key comes from the variable that `key_env` names"
        }
    };
    Err(fault(url, format!("base_url: expected {expected}")))
}

fn check_variable(name: &Spanned<String>) -> Result<String, Fault> {
    let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let variable = name.get_ref();
    if variable.is_empty() || variable.len() > 64 || !variable.bytes().all(plain) {
        // Whoever writes the key itself here must not find it in a log.
        let reason =
            "key_env: expected the name of an environment variable (upper-case letters, digits and `_`), not the key";
        return Err(fault(name, reason));
    }
    Ok(variable.clone())
}

fn within(key: &str, value: &Spanned<usize>, range: std::ops::RangeInclusive<usize>) -> Result<usize, Fault> {
    let got = *value.get_ref();
    if range.contains(&got) {
        return Ok(got);
    }
    Err(fault(value, format!("{key} is {got}: expected {} to {}", range.start(), range.end())))
}

fn milliseconds(count: usize) -> Duration {
    Duration::from_millis(u64::try_from(count).unwrap_or(u64::MAX))
}

fn span<T>(value: &Option<Spanned<T>>) -> Option<Range<usize>> {
    value.as_ref().map(Spanned::span)
}

fn fault<T>(at: &Spanned<T>, reason: impl Into<String>) -> Fault {
    Fault { at: at.span(), reason: reason.into() }
}

fn ids(models: &[ModelSpec]) -> String {
    models.iter().map(|model| model.id.as_str()).collect::<Vec<_>>().join(", ")
}
