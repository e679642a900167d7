//! Texts that were embedded before: told, the same, and not asked for twice.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::provider::{self, Provider, answer_json, entry, good, told, write_models};
use common::{Served, cache_with_weights, options, request};
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt;
use vectron_embedding::Options;
use vectron_embedding::pb::v1 as pb;

const CACHE_BYTES: usize = 1 << 20;

fn cached(answer: &pb::EmbedResponse) -> Vec<bool> {
    answer.embeddings.iter().map(|embedding| embedding.cached).collect()
}

/// A service that remembers, of models that providers run.
async fn serve(entries: &[String]) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let models_file = Some(write_models(&folder, entries));
    Served::start_with(&Options { models_file, cache_bytes_max: CACHE_BYTES, ..options(folder.path()) }).await
}

#[tokio::test]
async fn text_that_was_embedded_before_has_the_same_embedding_on_every_door() {
    let folder = cache_with_weights();
    let served = Served::start_with(&Options { cache_bytes_max: CACHE_BYTES, ..options(folder.path()) }).await;
    let long = "word ".repeat(300);
    let texts = ["a cat", &long, "a cat"];
    let first = served.embed(&texts).await;
    assert_eq!(cached(&first), [false, false, true], "the same text in one call is embedded once");
    let again = served.embed(&texts).await;
    assert_eq!(cached(&again), [true; 3]);
    for (first, again) in first.embeddings.iter().zip(&again.embeddings) {
        assert_eq!((&first.f32_le, first.tokens, first.truncated), (&again.f32_le, again.tokens, again.truncated));
    }
    assert_eq!((again.fingerprint, again.times.unwrap()), (first.fingerprint, pb::EmbedTimes::default()));

    let (_, one) = served.post("/embed", r#"{"text": "a cat"}"#).await;
    assert_eq!((&one["cached"], &one["tokens"], &one["inference_time"]), (&json!(true), &json!(4), &json!(0.0)));
    let (_, one) = served.post("/embed", r#"{"text": "a cat", "normalize": false}"#).await;
    assert_eq!(one["cached"], json!(false), "it would be of another length");
    assert!(one["inference_time"].as_f64().unwrap() > 0.0 && one["queue_time"].as_f64().unwrap() >= 0.0, "{one}");
    let (_, batch) = served.post("/batch-embed", r#"{"texts": ["a cat", "a dog"]}"#).await;
    assert_eq!((&batch["cached"], &batch["tokens"], &batch["truncated"]), (&json!(1), &json!(8), &json!(0)));
}

/// The provider is asked for some of the call's texts alone; its caller knows them by their places among all.
#[tokio::test]
async fn text_at_fault_is_named_by_its_place_in_the_call_and_in_the_words_of_the_door() {
    let provider = Provider::start(|seen| async move {
        match seen.body["input"].to_string().contains("bad") {
            true => answer_json(400, json!({"error": {"message": "no", "code": "context_length_exceeded"}})),
            false => good(&seen),
        }
    })
    .await;
    let served = serve(&[entry("m", provider.address, "")]).await;
    served.embed(&["known"]).await;
    let texts = ["known", "new", "new", "bad", "other"];
    let status = served.grpc().embed(request(&texts)).await.unwrap_err();
    assert_eq!(told(&status), (Code::InvalidArgument, "PROVIDER_REFUSED_TEXTS".to_owned()));
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "texts[3]", "{status:?}");
    assert!(status.message().starts_with("model `m`: texts[3]: http://"), "{status:?}");
    let alone = served.grpc().embed(request(&["known", "bad"])).await.unwrap_err();
    assert_eq!(alone.get_details_bad_request().unwrap().field_violations[0].field, "texts[1]", "{alone:?}");

    for (path, body, field) in [
        ("/batch-embed", json!({ "texts": texts }), "texts[3]"),
        ("/embed", json!({"text": "bad"}), "text"),
        ("/v1/embeddings", json!({ "input": texts }), "input[3]"),
        ("/v1/embeddings", json!({"input": "bad"}), "input"),
    ] {
        let (status, answer) = served.post(path, body.to_string()).await;
        let (named, message) = match answer.get("error") {
            Some(error) => (&error["param"], &error["message"]),
            None => (&answer["details"]["field"], &answer["message"]),
        };
        assert_eq!((status, named), (400, &json!(field)), "{path}: {answer}");
        assert!(message.as_str().unwrap().starts_with(&format!("model `m`: {field}: http://")), "{path}: {answer}");
    }
}

#[tokio::test]
async fn provider_is_paid_once_for_a_text() {
    let provider = Provider::good().await;
    let served = serve(&[entry("m", provider.address, "")]).await;
    served.embed(&["one", "two", "one"]).await;
    let again = served.embed(&["three", "two"]).await;
    let asked: Vec<_> = provider.seen().into_iter().map(|seen| seen.body["input"].clone()).collect();
    assert_eq!(asked, [json!(["one", "two"]), json!(["three"])]);
    // The provider tells a text's length, and its number in the request.
    let firsts: Vec<_> = again.embeddings.iter().map(|one| common::components(one)[..2].to_vec()).collect();
    assert_eq!(firsts, [[5.0, 0.0], [3.0, 1.0]]);
    let query = pb::EmbedRequest { input_type: pb::InputType::Query.into(), ..request(&["two"]) };
    assert_eq!(cached(&served.grpc().embed(query).await.unwrap().into_inner()), [false], "a query is another text");
}

/// Two servers may call different models by one name, and two entries may cut texts differently.
#[tokio::test]
async fn servers_and_limits_do_not_share_embeddings() {
    let (one, other) = (Provider::good().await, Provider::good().await);
    let named = |id: &str, provider: &Provider, tokens_max: usize| {
        let entry = entry(id, provider.address, "").replace(&format!("{id}-1"), "same-name");
        entry.replace("tokens_max = 100", &format!("tokens_max = {tokens_max}"))
    };
    let served = serve(&[named("a", &one, 100), named("b", &other, 100), named("c", &one, 50)]).await;
    let mut fingerprints = std::collections::HashSet::new();
    for expected in [false, true] {
        for model_id in ["a", "b", "c"] {
            let request = pb::EmbedRequest { model_id: model_id.to_owned(), ..request(&["text"]) };
            let answer = served.grpc().embed(request).await.unwrap().into_inner();
            assert_eq!(cached(&answer), [expected], "{model_id}");
            fingerprints.insert(answer.fingerprint);
        }
    }
    assert_eq!(fingerprints.len(), 1, "those of collections stay what they are");
}

#[tokio::test]
async fn fallback_embeds_all_texts_of_a_call_of_which_some_were_known() {
    let provider = Provider::start(|seen| async move {
        match seen.body["model"] == "m-1" && seen.body["input"] != json!(["known"]) {
            true => provider::answer_json(404, json!({"error": {"message": "no such model"}})),
            false => good(&seen),
        }
    })
    .await;
    let entries = [entry("m", provider.address, "fallback_any_space = [\"n\"]"), entry("n", provider.address, "")];
    let served = serve(&entries).await;
    served.post("/embed", r#"{"text": "known"}"#).await;
    let (status, answer) = served.post("/embed", r#"{"text": "unknown"}"#).await;
    assert_eq!((status, &answer["model_id"], &answer["cached"]), (200, &json!("n"), &json!(false)));
    let status = served.grpc().embed(request(&["known", "unknown"])).await.unwrap_err();
    assert_ne!(told(&status).0, Code::Ok);
    let answer = served.embed(&["known"]).await;
    assert_eq!((answer.model_id.as_str(), cached(&answer)), ("m", vec![true]));
}
