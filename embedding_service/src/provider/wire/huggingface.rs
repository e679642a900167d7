//! `feature-extraction` of Hugging Face's inference API
//! (https://huggingface.co/docs/inference-providers/tasks/feature-extraction): `[[0.1, …], …]`.

use serde::Serialize;

use super::bounded::{self, Bounds};
use super::{Answer, malformed};

#[derive(Serialize)]
struct Body<'a> {
    inputs: &'a [&'a str],
    /// Whether long texts are cut: without it, they are refused.
    truncate: bool,
}

pub(super) fn body(texts: &[&str]) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Body { inputs: texts, truncate: true })
}

pub(super) fn read(body: &[u8], bounds: Bounds) -> Result<Answer, String> {
    let embeddings = bounded::read(body, bounds.rows()).map_err(malformed)?;
    Ok(Answer { embeddings, tokens: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { count: 2, dimension: 2 };

    #[test]
    fn request_is_as_documented() {
        let sent: serde_json::Value = serde_json::from_slice(&body(&["a", "b"]).unwrap()).unwrap();
        assert_eq!(sent, serde_json::json!({"inputs": ["a", "b"], "truncate": true}));
    }

    #[test]
    fn an_embedding_for_each_text_is_read_and_one_for_each_token_is_not() {
        assert_eq!(read(b"[[1.0, 2.0]]", BOUNDS), Ok(Answer { embeddings: vec![vec![1.0, 2.0]], tokens: None }));
        let error = read(b"[[[1.0, 2.0], [3.0, 4.0]]]", BOUNDS).unwrap_err();
        assert!(error.contains("invalid type: sequence, expected f32"), "{error}");
    }
}
