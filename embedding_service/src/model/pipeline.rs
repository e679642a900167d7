//! What sentence-transformers says of a model beside its checkpoint: which modules come after one another, and how the vectors
//! of tokens become one. A model that is more than what runs here would give wrong embeddings without a word: it is refused.
//!
//! `modules.json` has the modules in their order, each with its type and folder; the folder of the Pooling module,
//! `1_Pooling` as a rule, has a config.json with the kinds of pooling
//! (https://sbert.net/docs/sentence_transformer/usage/custom_models.html). Both may be missing: a plain checkpoint has neither.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::registry::LocalSpec;
use crate::encoder::Pooling;

pub(super) const MODULES: &str = "modules.json";
/// Where the Pooling module is, unless modules.json says otherwise.
const POOLING_FOLDER: &str = "1_Pooling";
/// What runs here, in its order. The last one may be missing.
const RUNS: [&str; 3] = ["Transformer", "Pooling", "Normalize"];

/// The model is not what models.toml says, or more than what runs here.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", folder.join(file).display())]
pub struct PipelineError {
    /// The model's folder.
    pub folder: PathBuf,
    /// The file in it.
    pub file: String,
    /// What was expected and what came.
    pub reason: String,
}

#[derive(Deserialize)]
struct Module {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: String,
}

/// Whether the files of `folder` say that the model is what the registry says. Those that are not there say nothing.
pub(super) fn check(folder: &Path, model: &LocalSpec) -> Result<(), PipelineError> {
    let refused = |file: &str, reason| PipelineError { folder: folder.to_owned(), file: file.to_owned(), reason };
    let modules: Option<Vec<Module>> = read(folder, MODULES).map_err(|reason| refused(MODULES, reason))?;
    if let Some(modules) = &modules {
        check_modules(modules, model).map_err(|reason| refused(MODULES, reason))?;
    }
    let file = pooling_file(modules.as_deref().unwrap_or_default()).map_err(|reason| refused(MODULES, reason))?;
    let pooling: Option<Map<String, Value>> = read(folder, &file).map_err(|reason| refused(&file, reason))?;
    pooling.map_or(Ok(()), |pooling| check_pooling(&pooling, model).map_err(|reason| refused(&file, reason)))
}

/// Where the folder's pooling is told, as far as its modules.json can be understood.
pub(super) fn pooling_file_of(folder: &Path) -> String {
    let modules: Option<Vec<Module>> = read(folder, MODULES).ok().flatten();
    pooling_file(&modules.unwrap_or_default()).unwrap_or_else(|_| format!("{POOLING_FOLDER}/config.json"))
}

fn pooling_file(modules: &[Module]) -> Result<String, String> {
    let named = modules.iter().find(|module| module.name() == Some("Pooling")).map(|module| module.path.as_str());
    let folder = named.unwrap_or(POOLING_FOLDER);
    // It becomes part of a path, and of an address.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if folder.is_empty() || folder.starts_with('.') || !folder.bytes().all(plain) {
        return Err(format!(
            "the Pooling module is in `{folder}`; expected a folder's name, such as `{POOLING_FOLDER}`"
        ));
    }
    Ok(format!("{folder}/config.json"))
}

impl Module {
    /// The last part of its type, where it is one of sentence-transformers itself.
    fn name(&self) -> Option<&str> {
        self.kind.strip_prefix("sentence_transformers.")?.rsplit('.').next()
    }
}

fn check_modules(modules: &[Module], model: &LocalSpec) -> Result<(), String> {
    let runs = RUNS.join(", ");
    if let Some(other) = modules.iter().find(|module| !module.name().is_some_and(|name| RUNS.contains(&name))) {
        return Err(format!("the model has a module `{}`, which is not run here; supported are {runs}", other.kind));
    }
    let names: Vec<&str> = modules.iter().filter_map(Module::name).collect();
    if names != RUNS && names != RUNS[..2] {
        return Err(format!(
            "the modules are `{}`; supported are {runs} in this order, or without the last",
            names.join(", ")
        ));
    }
    if !modules[0].path.is_empty() {
        return Err(format!("the Transformer is in `{}`; supported is the model's own folder", modules[0].path));
    }
    match (names.len() == RUNS.len(), model.normalize) {
        (true, false) => Err("the model scales embeddings to unit length (module Normalize), and models.toml says \
                              `normalize = false`; expected `true`"
            .to_owned()),
        (false, true) => Err("the model does not scale embeddings to unit length (no module Normalize), and models.toml \
                              says `normalize = true`; expected `false`, and requests that ask for it where it is wanted"
            .to_owned()),
        _ => Ok(()),
    }
}

fn check_pooling(pooling: &Map<String, Value>, model: &LocalSpec) -> Result<(), String> {
    // Older files have a key for each kind, newer ones one key.
    let is_true = |(key, value): (&String, &Value)| {
        key.strip_prefix("pooling_mode_").filter(|_| *value == Value::Bool(true)).map(str::to_owned)
    };
    let mut kinds: Vec<String> = pooling.iter().filter_map(is_true).collect();
    if let (true, Some(kind)) = (kinds.is_empty(), pooling.get("pooling_mode").and_then(Value::as_str)) {
        kinds.push(kind.to_owned());
    }
    let (ours, known): (_, &[&str]) = match model.pooling {
        Pooling::Mean => ("mean", &["mean_tokens", "mean"]),
        Pooling::Cls => ("cls", &["cls_token", "cls"]),
    };
    if !matches!(&kinds[..], [kind] if known.contains(&kind.as_str())) {
        let kinds = if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") };
        return Err(format!(
            "the model's pooling is `{kinds}`, and models.toml says `{ours}`; supported are mean and cls, one of them"
        ));
    }
    if model.pooling == Pooling::Mean && pooling.get("include_prompt") == Some(&Value::Bool(false)) {
        return Err("include_prompt is `false`; supported is `true`: a prompt's tokens count in the mean".to_owned());
    }
    Ok(())
}

fn read<T: DeserializeOwned>(folder: &Path, file: &str) -> Result<Option<T>, String> {
    match fs::read(folder.join(file)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            format!("it is not what sentence-transformers writes: {error}; remove {} to get others", folder.display())
        }),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(format!("it cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::registry::Registry;
    use super::*;

    const OF_BGE: &str = r#"[
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
    ]"#;
    const CLS: &str = r#"{"word_embedding_dimension": 384, "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false,
        "pooling_mode_max_tokens": false, "pooling_mode_mean_sqrt_len_tokens": false}"#;

    /// What is said of a model with `cls` and `normalize = true`.
    fn checked(
        modules: Option<&str>,
        pooling: Option<&str>,
        change: impl FnOnce(&mut LocalSpec),
    ) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        if let Some(modules) = modules {
            fs::write(folder.path().join(MODULES), modules).unwrap();
        }
        if let Some(pooling) = pooling {
            fs::create_dir(folder.path().join("1_Pooling")).unwrap();
            fs::write(folder.path().join("1_Pooling/config.json"), pooling).unwrap();
        }
        let mut model = Registry::load(None, None).unwrap().get("bge-small").unwrap().local().unwrap().clone();
        change(&mut model);
        check(folder.path(), &model).map_err(|error| error.to_string())
    }

    #[test]
    fn model_as_the_registry_says_it_is_taken() {
        for (modules, pooling) in [(None, None), (Some(OF_BGE), Some(CLS)), (Some(OF_BGE), None), (None, Some(CLS))] {
            checked(modules, pooling, |_| ()).unwrap();
        }
        checked(None, Some(r#"{"pooling_mode": "cls"}"#), |_| ()).unwrap();
        let mean = CLS.replace("true", "null").replace(r#"mean_tokens": false"#, r#"mean_tokens": true"#);
        checked(Some(OF_BGE), Some(&mean), |model| model.pooling = Pooling::Mean).unwrap();
        let moved = OF_BGE.replace("sentence_transformers.models.", "sentence_transformers.base.modules.");
        checked(Some(&moved), None, |_| ()).unwrap();
    }

    #[test]
    fn what_is_not_run_here_is_refused_by_name() {
        let dense = OF_BGE.replace("models.Normalize", "models.Dense");
        let own = OF_BGE.replace("sentence_transformers.models.Transformer", "custom_st.Transformer");
        let twice = OF_BGE.replace("models.Normalize", "models.Pooling");
        let deep = OF_BGE.replace(r#""path": """#, r#""path": "0_Transformer""#);
        let outside = OF_BGE.replace("1_Pooling", "../1_Pooling");
        let max = CLS.replace(r#"max_tokens": false"#, r#"max_tokens": true"#);
        let last = CLS.replace("pooling_mode_cls_token", "pooling_mode_lasttoken");
        let none = CLS.replace("true", "false");
        for (modules, pooling, says) in [
            (
                Some(dense.as_str()),
                None,
                "`sentence_transformers.models.Dense`, which is not run here; supported are Transformer",
            ),
            (Some(&own), None, "`custom_st.Transformer`"),
            (Some(&twice), None, "the modules are `Transformer, Pooling, Pooling`"),
            (Some("[]"), None, "the modules are ``"),
            (Some(&deep), None, "the Transformer is in `0_Transformer`"),
            (Some(&outside), None, "the Pooling module is in `../1_Pooling`"),
            (Some("<html>"), None, "modules.json: it is not what sentence-transformers writes"),
            (None, Some(max.as_str()), "the model's pooling is `cls_token, max_tokens`, and models.toml says `cls`"),
            (None, Some(&last), "1_Pooling/config.json: the model's pooling is `lasttoken`"),
            (None, Some(&none), "the model's pooling is `none`"),
        ] {
            let error = checked(modules, pooling, |_| ()).expect_err(says);
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn what_the_registry_says_otherwise_is_refused() {
        let error = checked(None, Some(CLS), |model| model.pooling = Pooling::Mean).unwrap_err();
        assert!(error.contains("`cls_token`, and models.toml says `mean`"), "{error}");
        let error = checked(Some(OF_BGE), None, |model| model.normalize = false).unwrap_err();
        assert!(error.contains("models.toml says `normalize = false`; expected `true`"), "{error}");
        let two: Vec<Value> = serde_json::from_str(OF_BGE).unwrap();
        let two = Value::from(&two[..2]).to_string();
        let error = checked(Some(&two), None, |_| ()).unwrap_err();
        assert!(error.contains("models.toml says `normalize = true`; expected `false`"), "{error}");
        checked(Some(&two), None, |model| model.normalize = false).unwrap();
        let without = r#"{"pooling_mode": "mean", "include_prompt": false}"#;
        let error = checked(None, Some(without), |model| model.pooling = Pooling::Mean).unwrap_err();
        assert!(error.contains("include_prompt"), "{error}");
    }
}
