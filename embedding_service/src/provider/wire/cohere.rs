//! `POST /v2/embed` of Cohere (https://docs.cohere.com/reference/embed):
//! `{"embeddings": {"float": [[0.1, …], …]}, "meta": {"billed_units": {"input_tokens": 8}}}`.

use std::marker::PhantomData;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::bounded::{self, Bounds, Fields};
use super::{Answer, malformed};
use crate::model::{Input, ModelSpec};

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    texts: &'a [&'a str],
    input_type: &'static str,
    embedding_types: [&'static str; 1],
    /// What of a long text is left out: without it, the text is refused.
    truncate: &'static str,
}

#[derive(Deserialize)]
struct Meta {
    billed_units: Option<BilledUnits>,
}

#[derive(Deserialize)]
struct BilledUnits {
    /// A whole number, which some versions write as a float.
    input_tokens: Option<f64>,
}

pub(super) fn body(spec: &ModelSpec, texts: &[&str], input: Input) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Body {
        model: &spec.model_name,
        texts,
        input_type: match input {
            Input::Document => "search_document",
            Input::Query => "search_query",
        },
        embedding_types: ["float"],
        truncate: "END",
    })
}

pub(super) fn read(body: &[u8], bounds: Bounds) -> Result<Answer, String> {
    // Those of other types were not asked for.
    let embeddings = Fields { first: ("float", bounds.rows()), second: ("", PhantomData::<IgnoredAny>) };
    let answer = Fields { first: ("embeddings", embeddings), second: ("meta", PhantomData::<Option<Meta>>) };
    let ((embeddings, _), meta) = bounded::read(body, answer).map_err(malformed)?;
    let billed = meta.flatten().and_then(|meta| meta.billed_units).and_then(|units| units.input_tokens);
    // Out of range or negative: as many as there can be, or none.
    Ok(Answer { embeddings, tokens: billed.map(|tokens| tokens as usize) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Registry;

    const BOUNDS: Bounds = Bounds { count: 2, dimension: 2 };

    #[test]
    fn request_is_as_documented() {
        let spec = Registry::load(None, None).unwrap().get("cohere-english").unwrap().clone();
        for (input, input_type) in [(Input::Document, "search_document"), (Input::Query, "search_query")] {
            let sent: serde_json::Value = serde_json::from_slice(&body(&spec, &["a"], input).unwrap()).unwrap();
            let expected = serde_json::json!({
                "model": "embed-english-light-v3.0", "texts": ["a"], "input_type": input_type,
                "embedding_types": ["float"], "truncate": "END"
            });
            assert_eq!(sent, expected);
        }
    }

    #[test]
    fn answer_is_read() {
        let body = br#"{"id": "1", "embeddings": {"float": [[1.0, 2.0], [3.0, 4.0]]}, "texts": ["a", "b"], "meta":
            {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 2}}, "response_type": "embeddings_by_type"}"#;
        assert_eq!(
            read(body, BOUNDS),
            Ok(Answer { embeddings: vec![vec![1.0, 2.0], vec![3.0, 4.0]], tokens: Some(2) })
        );
        let untold = br#"{"embeddings": {"float": [[1]]}, "meta": {"billed_units": null}}"#;
        assert_eq!(read(untold, BOUNDS), Ok(Answer { embeddings: vec![vec![1.0]], tokens: None }));
        assert!(read(br#"{"embeddings": [[1.0]]}"#, BOUNDS).is_err(), "version 1 of the API");
    }
}
