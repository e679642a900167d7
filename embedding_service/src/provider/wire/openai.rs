//! `POST /embeddings` of OpenAI (https://platform.openai.com/docs/api-reference/embeddings/create), which many servers
//! speak: `{"data": [{"index": 0, "embedding": [0.1, …]}, …], "usage": {"prompt_tokens": 8, "total_tokens": 8}}`.

use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use super::bounded::{self, Bounds, Fields, List};
use super::{Answer, malformed};
use crate::model::{ModelSpec, RemoteSpec};

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    input: &'a [&'a str],
    encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<usize>,
}

pub(super) fn body(spec: &ModelSpec, remote: &RemoteSpec, texts: &[&str]) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Body {
        model: &spec.model_name,
        input: texts,
        encoding_format: "float",
        dimensions: remote.asks_dimension.then_some(spec.dimension),
    })
}

pub(super) fn read(body: &[u8], bounds: Bounds) -> Result<Answer, String> {
    let one = Fields { first: ("embedding", bounds.row()), second: ("index", PhantomData::<usize>) };
    let data = List { seed: one, max: bounds.count, items: "embeddings" };
    let answer = Fields { first: ("data", data), second: ("usage", PhantomData::<Option<Usage>>) };
    let (mut data, usage) = bounded::read(body, answer).map_err(malformed)?;
    // Not promised to be in order.
    data.sort_by_key(|(_, index)| *index);
    for (expected, (_, index)) in data.iter().enumerate() {
        match index {
            None => return Err("missing field `index`".to_owned()),
            Some(index) if *index != expected => {
                return Err(format!("an embedding has the index {index} where {expected} was to come"));
            }
            Some(_) => {}
        }
    }
    let embeddings = data.into_iter().map(|(embedding, _)| embedding).collect();
    Ok(Answer { embeddings, tokens: usage.flatten().and_then(|usage| usage.prompt_tokens) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Registry, Runs};

    const BOUNDS: Bounds = Bounds { count: 2, dimension: 2 };

    #[test]
    fn request_is_as_documented() {
        let spec = Registry::load(None, None).unwrap().get("openai-small").unwrap().clone();
        let Runs::There(remote) = &spec.runs else { panic!("it runs elsewhere") };
        let sent: serde_json::Value = serde_json::from_slice(&body(&spec, remote, &["a", "b"]).unwrap()).unwrap();
        let expected = serde_json::json!({
            "model": "text-embedding-3-small", "input": ["a", "b"], "encoding_format": "float"
        });
        assert_eq!(sent, expected);
        let remote = RemoteSpec { asks_dimension: true, ..(**remote).clone() };
        let sent: serde_json::Value = serde_json::from_slice(&body(&spec, &remote, &["a"]).unwrap()).unwrap();
        assert_eq!(sent["dimensions"], 1536);
    }

    #[test]
    fn embeddings_are_put_into_order() {
        let body = br#"{"object": "list", "model": "m", "data": [
            {"object": "embedding", "index": 1, "embedding": [3.0, 4.0]},
            {"object": "embedding", "index": 0, "embedding": [1.0, 2.0]}], "usage": {"prompt_tokens": 5, "total_tokens": 5}}"#;
        assert_eq!(
            read(body, BOUNDS),
            Ok(Answer { embeddings: vec![vec![1.0, 2.0], vec![3.0, 4.0]], tokens: Some(5) })
        );
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let of = |embedding: &str| format!(r#"{{"data": [{{"index": 0, "embedding": {embedding}}}]}}"#);
        for (body, expected) in [
            (r#"{"data": [{"index": 1, "embedding": [1]}]}"#.to_owned(), "the index 1 where 0 was to come"),
            (of("[1, null]"), "invalid type: null, expected f32"),
            (of("[1, NaN]"), "expected value"),
            (of("[1, 1e999]"), "number out of range"),
            (of("\"AAAA\""), "invalid type: string"),
            (r#"{"data": [{"embedding": [1]}]}"#.to_owned(), "missing field `index`"),
            (r#"{"error": "no"}"#.to_owned(), "missing field `data`"),
            (r#"{"data": ["#.to_owned(), "EOF"),
        ] {
            let error = read(body.as_bytes(), BOUNDS).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
