//! The JSON of each provider: requests, answers, and errors.
//!
//! One file for each; what they have in common is here: an answer is embeddings in the order of the texts, and how many
//! tokens the provider counted. `bounded` reads no more of it than it may have.

mod bounded;
mod cohere;
mod huggingface;
mod openai;

use serde::Deserialize;

pub(super) use bounded::Bounds;

use crate::model::{Input, ModelSpec, Provider, RemoteSpec};

/// What a provider answered.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    /// In the order of the texts.
    pub(super) embeddings: Vec<Vec<f32>>,
    /// Of all texts together, where it says so.
    pub(super) tokens: Option<usize>,
}

/// An error as it is told: by one of the names that the providers use.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ErrorText {
    pub(super) message: String,
    /// Machine-readable; empty where there is none.
    pub(super) code: String,
}

/// Where texts are sent.
pub(super) fn url(spec: &ModelSpec, remote: &RemoteSpec) -> String {
    let base = &remote.base_url;
    match remote.provider {
        Provider::OpenAi => format!("{base}/embeddings"),
        Provider::Cohere => format!("{base}/v2/embed"),
        Provider::HuggingFace => format!("{base}/models/{}/pipeline/feature-extraction", spec.model_name),
    }
}

/// What is sent.
pub(super) fn body(spec: &ModelSpec, remote: &RemoteSpec, texts: &[&str], input: Input) -> Vec<u8> {
    let body = match remote.provider {
        Provider::OpenAi => openai::body(spec, remote, texts),
        Provider::Cohere => cohere::body(spec, texts, input),
        Provider::HuggingFace => huggingface::body(texts),
    };
    body.expect("strings and numbers can be written as JSON")
}

/// What came; else what is wrong with it.
pub(super) fn read(provider: Provider, body: &[u8], bounds: Bounds) -> Result<Answer, String> {
    match provider {
        Provider::OpenAi => openai::read(body, bounds),
        Provider::Cohere => cohere::read(body, bounds),
        Provider::HuggingFace => huggingface::read(body, bounds),
    }
}

impl Answer {
    /// Itself, where it has `count` embeddings of `dimension` finite components; else what is wrong with it.
    pub(super) fn check(self, count: usize, dimension: usize) -> Result<Self, String> {
        if self.embeddings.len() != count {
            return Err(format!("{} embeddings for {count} texts", self.embeddings.len()));
        }
        for (index, embedding) in self.embeddings.iter().enumerate() {
            if embedding.len() != dimension {
                let got = embedding.len();
                return Err(format!(
                    "embedding {index} has {got} components: expected {dimension}, as models.toml says"
                ));
            }
            if let Some(component) = embedding.iter().position(|x| !x.is_finite()) {
                return Err(format!("embedding {index} has a component, {component}, that is no finite number"));
            }
        }
        Ok(self)
    }
}

/// `{"error": {"message", "code"}}` of OpenAI, `{"error": "…"}` of Hugging Face and Ollama, `{"message"}` of Cohere, and
/// `{"detail"}` of servers in Python.
pub(super) fn error_text(body: &[u8]) -> Option<ErrorText> {
    #[derive(Deserialize)]
    struct Told {
        error: Option<serde_json::Value>,
        message: Option<serde_json::Value>,
        detail: Option<serde_json::Value>,
    }

    let Told { error, message, detail } = serde_json::from_slice(body).ok()?;
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let told = error.or(message).or(detail)?;
    let message = told.get("message").map_or_else(|| text(&told), text);
    let code = told.get("code").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    Some(ErrorText { message, code })
}

/// What JSON itself says of an answer that is none of ours.
fn malformed(error: serde_json::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_all_providers_are_read() {
        for (body, message, code) in [
            (
                r#"{"error": {"message": "no", "type": "x", "param": null, "code": "insufficient_quota"}}"#,
                "no",
                "insufficient_quota",
            ),
            (
                r#"{"error": "Model x is currently loading", "estimated_time": 20.0}"#,
                "Model x is currently loading",
                "",
            ),
            (r#"{"error": ["a", "b"]}"#, r#"["a","b"]"#, ""),
            (r#"{"id": "1", "message": "invalid api token"}"#, "invalid api token", ""),
            (r#"{"detail": "Not Found"}"#, "Not Found", ""),
        ] {
            let told = error_text(body.as_bytes()).unwrap();
            assert_eq!((told.message.as_str(), told.code.as_str()), (message, code));
        }
        assert_eq!((error_text(b"<html>"), error_text(b"{}")), (None, None));
    }

    #[test]
    fn answers_are_checked() {
        let answer = |embeddings: &[&[f32]]| Answer {
            embeddings: embeddings.iter().map(|e| e.to_vec()).collect(),
            tokens: None,
        };
        assert!(answer(&[&[1.0, 2.0]]).check(1, 2).is_ok());
        for (embeddings, expected) in [
            (&[][..], "0 embeddings for 1 texts"),
            (&[&[1.0][..]], "embedding 0 has 1 components: expected 2"),
            (&[&[1.0, f32::INFINITY]], "embedding 0 has a component, 1, that is no finite number"),
        ] {
            let error = answer(embeddings).check(1, 2).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
