//! Comparison of models over gRPC and REST: what is measured, on the real model and on providers of the test's own; what is
//! skipped; bounds; one at a time; progress; callers that leave.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::{Duration, Instant};

use common::provider::{Provider, Seen, answer_json, entry, good, retry_delay_ms, serve, told, write_models};
use common::{Served, cache_with_weights, components, options};
use serde_json::{Value, json};
use tokio_stream::StreamExt;
use tonic::{Code, Streaming};
use vectron_embedding::Options;
use vectron_embedding::pb::v1 as pb;
use vectron_embedding::pb::v1::benchmark_models_response::Message;

type Answers = Streaming<pb::BenchmarkModelsResponse>;

/// Starts a comparison of these models, of the built-in set where there are no samples.
async fn compare(served: &Served, request: pb::BenchmarkModelsRequest) -> Result<Answers, tonic::Status> {
    served.grpc().benchmark_models(request).await.map(tonic::Response::into_inner)
}

fn of(ids: &[&str]) -> pb::BenchmarkModelsRequest {
    pb::BenchmarkModelsRequest { model_ids: ids.iter().map(|id| (*id).to_owned()).collect(), ..Default::default() }
}

fn samples(all: &[(&str, &str)]) -> Vec<pb::BenchmarkSample> {
    all.iter().map(|(topic, text)| pb::BenchmarkSample { topic: (*topic).into(), text: (*text).into() }).collect()
}

fn pairs(all: &[(&str, &str)]) -> Vec<pb::BenchmarkPair> {
    all.iter()
        .map(|(query, document)| pb::BenchmarkPair { query: (*query).into(), document: (*document).into() })
        .collect()
}

/// All messages: what is compared, progress, results.
async fn all(mut answers: Answers) -> (pb::BenchmarkStarted, Vec<pb::BenchmarkProgress>, Vec<pb::ModelBenchmark>) {
    let Some(Message::Started(started)) = answers.next().await.unwrap().unwrap().message else {
        panic!("it comes first")
    };
    let (mut progress, mut results) = (Vec::new(), Vec::new());
    while let Some(answer) = answers.next().await {
        match answer.unwrap().message.unwrap() {
            Message::Progress(one) => progress.push(one),
            Message::Result(one) => results.push(one),
            Message::Started(again) => panic!("{again:?}"),
        }
    }
    (started, progress, results)
}

/// The mean cosines of texts of the same topic and of different ones: by definition, from the service's own embeddings.
async fn contrast_by_definition(served: &Served, samples: &[(&str, &str)]) -> (f64, f64) {
    let texts: Vec<&str> = samples.iter().map(|(_, text)| *text).collect();
    let rows: Vec<_> = served.embed(&texts).await.embeddings.iter().map(components).collect();
    let cosine = |a: &[f32], b: &[f32]| {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    let (mut within, mut across) = (Vec::new(), Vec::new());
    for i in 0..rows.len() {
        for j in 0..i {
            let same = samples[i].0 == samples[j].0;
            if same { &mut within } else { &mut across }.push(cosine(&rows[i], &rows[j]));
        }
    }
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    (mean(&within), mean(&across))
}

#[tokio::test]
async fn the_real_model_is_measured_and_what_cannot_run_is_skipped_by_name() {
    let served = Served::start().await;
    let started_at = Instant::now();
    let (started, progress, results) = all(compare(&served, of(&[])).await.unwrap()).await;
    let elapsed = started_at.elapsed().as_secs_f64();
    let ids = ["minilm", "bge-small", "bge-base", "openai-small", "cohere-english", "huggingface-bge"];
    assert_eq!(started.model_ids, ids);
    assert_eq!((started.texts, started.topics, started.pairs, started.repeats), (64, 8, 0, 3));
    assert_eq!(results.iter().map(|result| result.model_id.as_str()).collect::<Vec<_>>(), ids);

    let minilm = &results[0];
    assert_eq!((minilm.provider.as_str(), minilm.dimension, minilm.skipped_reason.as_str()), ("local", 384, ""));
    assert_eq!(minilm.precision, "int8");
    let table = std::fs::read_to_string("samples.tsv").unwrap();
    let built_in: Vec<_> = table.lines().map(|line| line.split_once('\t').unwrap()).collect();
    let (within, across) = contrast_by_definition(&served, &built_in).await;
    assert!((minilm.cosine_within - within).abs() < 1e-6 && (minilm.cosine_across - across).abs() < 1e-6, "{minilm:?}");
    assert!((minilm.contrast_score - (within - across)).abs() < 1e-6, "{minilm:?}");
    assert!(minilm.contrast_score > 0.1, "the model tells the topics apart: {minilm:?}");
    let tokens: u32 = served
        .embed(&built_in.iter().map(|(_, text)| *text).collect::<Vec<_>>())
        .await
        .embeddings
        .iter()
        .map(|one| one.tokens)
        .sum();
    assert_eq!((minilm.tokens, minilm.truncated), (u64::from(tokens), 0));
    assert!(minilm.processing_seconds > 0.0 && minilm.processing_seconds < elapsed, "{minilm:?}");
    assert!((minilm.texts_per_second * minilm.processing_seconds - 64.0).abs() < 1e-6, "{minilm:?}");
    assert!((minilm.tokens_per_second * minilm.processing_seconds - f64::from(tokens)).abs() < 1e-3, "{minilm:?}");
    assert!(minilm.single_p50_seconds > 0.0 && minilm.single_mean_seconds > 0.0 && minilm.retrieval.is_none());

    for (id, code, says) in [
        (1, "MODEL_FAILED", "the weights of `bge-small` are not here"),
        (2, "MODEL_FAILED", "the weights of `bge-base` are not here"),
        (3, "PROVIDER_NO_KEY", "OPENAI_API_KEY"),
        (4, "PROVIDER_NO_KEY", "COHERE_API_KEY"),
        (5, "PROVIDER_NO_KEY", "HF_TOKEN"),
    ] {
        let result = &results[id];
        assert_eq!((result.skipped_code.as_str(), result.processing_seconds), (code, 0.0), "{result:?}");
        assert!(result.skipped_reason.contains(says) && result.dimension > 0, "{result:?}");
    }

    // 1 to load, 64 to warm up, 20 alone and 64 together, three times.
    let of_minilm: Vec<_> = progress.iter().filter(|one| one.model_id == "minilm").collect();
    assert!(of_minilm.iter().all(|one| one.texts_total == 1 + 64 + 3 * (20 + 64)), "{of_minilm:?}");
    assert!(of_minilm.windows(2).all(|two| (two[0].stage, two[0].texts_done) <= (two[1].stage, two[1].texts_done)));
    let mut stages: Vec<_> = of_minilm.iter().map(|one| one.stage()).collect();
    stages.dedup();
    use pb::BenchmarkStage::{Batch, Load, Single, WarmUp};
    assert_eq!(stages, [Load, WarmUp, Single, Batch]);
    let last = of_minilm.last().unwrap();
    assert_eq!(last.texts_done, last.texts_total);
}

/// A provider of four components whose embeddings a test can foresee: what stands in brackets in a text is its embedding.
/// `[3,4,0,0]` of a document, and the same of a query, which begins with `query:`.
fn in_brackets(seen: &Seen) -> axum::response::Response {
    let row = |text: &Value| -> Vec<f64> {
        let text = text.as_str().unwrap();
        let numbers = text.split_once('[').unwrap().1.split(']').next().unwrap();
        numbers.split(',').map(|number| number.parse().unwrap()).collect()
    };
    let texts = seen.body["input"].as_array().unwrap();
    let data = texts.iter().enumerate().map(|(index, text)| json!({"index": index, "embedding": row(text)}));
    answer_json(200, json!({"data": data.collect::<Vec<_>>(), "usage": {"prompt_tokens": 3 * texts.len()}}))
}

#[tokio::test]
async fn own_samples_and_pairs_are_measured_as_defined() {
    let provider = Provider::start(|seen| async move { in_brackets(&seen) }).await;
    let prompts = "query_prompt = \"query: \"\ndocument_prompt = \"document: \"";
    let served = serve(&[entry("m", provider.address, prompts)]).await;
    let samples = samples(&[("a", "x [1,0,0,0]"), ("b", "y [0,2,0,0]"), ("a", "z [3,4,0,0]")]);
    // Three of the five documents are distinct, and two of those lie in the same direction.
    let pairs = pairs(&[
        ("p [1,0,0,0]", "first [1,0,0,0]"),
        ("q [1,3,0,0]", "first [1,0,0,0]"),
        ("r [0,1,1,0]", "third [2,0,0,0]"),
        ("s [0,5,0,0]", "second [0,1,0,0]"),
        ("t [1,0,0,0]", "third [2,0,0,0]"),
    ]);
    let request = pb::BenchmarkModelsRequest { samples, pairs, repeats: 2, ..of(&["m"]) };
    let (started, progress, results) = all(compare(&served, request).await.unwrap()).await;
    assert_eq!((started.texts, started.topics, started.pairs, started.documents, started.repeats), (3, 2, 5, 3, 2));
    let result = &results[0];
    // Within: cos(x, z) = 3/5. Across: cos(x, y) = 0 and cos(y, z) = 4/5.
    assert!((result.cosine_within - 0.6).abs() < 1e-6 && (result.cosine_across - 0.4).abs() < 1e-6, "{result:?}");
    assert!((result.contrast_score - 0.2).abs() < 1e-6, "{result:?}");
    assert_eq!((result.tokens, result.dimension), (9, 4));

    let seen = provider.seen();
    let sent: Vec<Vec<&str>> = seen
        .iter()
        .map(|one| one.body["input"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect())
        .collect();
    let prompted =
        |texts: &[&str], prompt: &str| texts.iter().map(|text| format!("{prompt}: {text}")).collect::<Vec<_>>();
    let texts = ["x [1,0,0,0]", "y [0,2,0,0]", "z [3,4,0,0]"];
    let mut expected = vec![prompted(&texts[..1], "document"), prompted(&texts, "document")];
    for _ in 0..2 {
        expected.extend(texts.iter().map(|text| prompted(&[text], "document")));
    }
    expected.extend([prompted(&texts, "document"), prompted(&texts, "document")]);
    let queries = ["p [1,0,0,0]", "q [1,3,0,0]", "r [0,1,1,0]", "s [0,5,0,0]", "t [1,0,0,0]"];
    expected.push(prompted(&queries, "query"));
    expected.push(prompted(&["first [1,0,0,0]", "third [2,0,0,0]", "second [0,1,0,0]"], "document"));
    assert_eq!(sent, expected, "every measurement is a request of its own: nothing is remembered");

    let found = result.retrieval.unwrap();
    // p: behind `third`, which lies in the same direction: 2. q: cosines 1, 1 and 3: behind two: 3. r: 0, 0 and 1: 3.
    // s: 1. t: 2.
    assert_eq!((found.recall_at_1, found.recall_at_5, found.recall_at_10), (Some(0.2), None, None));
    let reciprocal = (1.0 / 2.0 + 1.0 / 3.0 + 1.0 / 3.0 + 1.0 + 1.0 / 2.0) / 5.0;
    assert!((found.mean_reciprocal_rank - reciprocal).abs() < 1e-9, "{found:?}");
    let last = progress.last().unwrap();
    assert_eq!((last.stage(), last.texts_done, last.texts_total), (pb::BenchmarkStage::Retrieval, 24, 24));
}

#[tokio::test]
async fn rest_answers_the_same_table() {
    let provider = Provider::start(|seen| async move { in_brackets(&seen) }).await;
    let served =
        serve(&[entry("m", provider.address, ""), entry("k", provider.address, "key_env = \"NO_SUCH_KEY\"")]).await;
    let body = json!({
        "samples": [{"topic": "a", "text": "[1,0,0,0]"}, {"topic": "b", "text": "[0,2,0,0]"}, {"topic": "a", "text": "[3,4,0,0]"}],
        "pairs": [{"query": "[1,1,0,0]", "document": "[0,1,0,0]"}, {"query": "[0,0,1,0]", "document": "[0,0,1,1]"}],
        "repeats": 1
    });
    let (status, answer) = served.post("/benchmark", body.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    let expected = json!({"texts": 3, "topics": 2, "pairs": 2, "documents": 2, "repeats": 1});
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&answer[name], value, "{name}");
    }
    let row = &answer["models"][0];
    assert_eq!((&row["model_id"], &row["provider"], &row["dimensions"]), (&json!("m"), &json!("openai"), &json!(4)));
    assert!((row["contrast_score"].as_f64().unwrap() - 0.2).abs() < 1e-6, "{row}");
    assert!(row["processing_time"].as_f64().unwrap() > 0.0 && row["texts_per_second"].as_f64().unwrap() > 0.0, "{row}");
    assert_eq!(
        row["retrieval"],
        json!({"recall_at_1": 1.0, "recall_at_5": null, "recall_at_10": null, "mean_reciprocal_rank": 1.0})
    );
    let skipped = json!({
        "model_id": "k", "provider": "openai", "model_name": "k-1", "dimensions": 4,
        "skipped": answer["models"][1]["skipped"], "skipped_code": "PROVIDER_NO_KEY"
    });
    assert_eq!(answer["models"][1], skipped);
    assert!(skipped["skipped"].as_str().unwrap().contains("NO_SUCH_KEY"), "{skipped}");

    let (status, answer) = served.post("/benchmark", r#"{"model": ["m"]}"#).await;
    assert_eq!((status, &answer["code"]), (400, &json!("MALFORMED_JSON")), "{answer}");
}

#[tokio::test]
async fn a_provider_that_is_down_is_skipped_and_no_fallback_is_measured_in_its_place() {
    let down = Provider::start(|_| async { answer_json(503, json!({"error": "down"})) }).await;
    let up = Provider::good().await;
    let same_space = "space = \"s\"\n";
    let served = serve(&[
        entry("down", down.address, &format!("{same_space}fallback = [\"up\"]\ntries_max = 1")),
        entry("up", up.address, same_space),
    ])
    .await;
    assert_eq!(served.embed(&["x"]).await.model_id, "up", "others are served by the fallback");
    let (_, _, results) = all(compare(&served, of(&["down", "up"])).await.unwrap()).await;
    assert_eq!(results[0].skipped_code, "PROVIDER_UNAVAILABLE", "{:?}", results[0]);
    assert_eq!(results[1].skipped_code, "", "{:?}", results[1]);
    assert!(results[1].processing_seconds > 0.0);
}

#[tokio::test]
async fn a_model_that_fails_half_way_is_skipped_and_the_next_one_measured() {
    let provider = Provider::start(|seen| async move {
        if seen.number < 5 { good(&seen) } else { answer_json(400, json!({"error": "enough"})) }
    })
    .await;
    let other = Provider::good().await;
    let served = serve(&[entry("fails", provider.address, ""), entry("good", other.address, "")]).await;
    let (_, _, results) = all(compare(&served, of(&[])).await.unwrap()).await;
    assert_eq!(results[0].skipped_code, "PROVIDER_REFUSED", "{:?}", results[0]);
    assert_eq!((results[0].processing_seconds, results[1].skipped_code.as_str()), (0.0, ""));
}

#[tokio::test]
async fn a_provider_that_wants_to_be_asked_later_is_waited_for_and_others_still_ask_it() {
    // Six refusals one after the other: five failures would have it left alone.
    let provider = Provider::start(|seen| async move {
        if (4..10).contains(&seen.number) {
            let mut answer = answer_json(429, json!({"error": "slowly"}));
            answer.headers_mut().insert("retry-after", "0".parse().unwrap());
            return answer;
        }
        good(&seen)
    })
    .await;
    let served = serve(&[entry("m", provider.address, "tries_max = 1")]).await;
    let request = pb::BenchmarkModelsRequest { samples: samples(&[("a", "x"), ("a", "y"), ("b", "zz")]), ..of(&[]) };
    let (_, _, results) = all(compare(&served, request).await.unwrap()).await;
    assert_eq!(results[0].skipped_code, "", "{:?}", results[0]);
    assert_eq!(provider.seen().len(), 2 + 3 * 4 + 6);
    served.embed(&["x"]).await;
}

#[tokio::test]
async fn embeddings_that_would_not_fit_are_not_made() {
    let provider = Provider::good().await;
    let wide = entry("wide", provider.address, "").replace("dimension = 4", "dimension = 65536");
    let served = serve(&[wide]).await;
    let pairs: Vec<_> = (0..600).map(|number| (format!("q{number}"), format!("d{number}"))).collect();
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(query, document)| (query.as_str(), document.as_str())).collect();
    let request = pb::BenchmarkModelsRequest { pairs: self::pairs(&pairs), ..of(&[]) };
    let (_, _, results) = all(compare(&served, request).await.unwrap()).await;
    assert_eq!(results[0].skipped_code, "INVALID_ARGUMENT", "{:?}", results[0]);
    assert!(results[0].skipped_reason.contains("expected at most 1024 texts of 65536 components each, got 1200"));
    assert!(provider.seen().is_empty());
}

#[tokio::test]
async fn the_whole_of_a_registry_has_the_same_bound() {
    let provider = Provider::good().await;
    let entries: Vec<String> = (0..65).map(|number| entry(&format!("m{number}"), provider.address, "")).collect();
    let served = serve(&entries).await;
    let status = compare(&served, of(&[])).await.unwrap_err();
    assert_eq!(status.message(), "model_ids: expected at most 64, and the registry has 65: name some");
    assert!(compare(&served, of(&["m64"])).await.is_ok());
}

#[tokio::test]
async fn mistakes_are_told_before_anything_is_measured() {
    let provider = Provider::good().await;
    let served = serve(&[entry("m", provider.address, "")]).await;
    let with = |all: &[(&str, &str)]| pb::BenchmarkModelsRequest { samples: samples(all), ..of(&[]) };
    let one_topic = [("a", "x"), ("a", "y")];
    for (request, code, says) in [
        (of(&["m", "n"]), Code::NotFound, "there is no model `n`; the models are m"),
        (of(&["m", "m"]), Code::InvalidArgument, "model_ids: expected each once, got `m` twice"),
        (of(&[""]), Code::InvalidArgument, "model_ids: expected ids, got an empty one"),
        (of(&["m"; 65]), Code::InvalidArgument, "model_ids: expected at most 64, got 65"),
        (with(&one_topic), Code::InvalidArgument, "samples: expected at least 2 topics, got `a` alone"),
        (
            with(&[("a", ""), ("b", "y")]),
            Code::InvalidArgument,
            "samples[0].text: expected 1 to 1048576 bytes, got none",
        ),
        (with(&vec![("a", "x"); 2049]), Code::InvalidArgument, "samples: expected 2 to 2048, got 2049"),
        (
            pb::BenchmarkModelsRequest { repeats: 21, ..of(&[]) },
            Code::InvalidArgument,
            "repeats: expected 1 to 20, or 0 for the default, got 21",
        ),
    ] {
        let status = compare(&served, request).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, says));
    }
    let (status, answer) = served.post("/benchmark", r#"{"samples": [{"topic": "a", "text": "x"}]}"#).await;
    assert_eq!((status, &answer["details"]["field"]), (400, &json!("samples")), "{answer}");
    let (status, answer) = served.post("/benchmark", r#"{"models": ["m", "m"]}"#).await;
    assert_eq!((status, &answer["message"]), (400, &json!("models: expected each once, got `m` twice")));
    assert!(provider.seen().is_empty());
}

/// A provider that never answers.
async fn silent() -> Provider {
    Provider::start(|_| std::future::pending()).await
}

#[tokio::test]
async fn one_comparison_runs_at_a_time_and_ends_when_its_caller_leaves() {
    let provider = silent().await;
    let served = serve(&[entry("m", provider.address, "")]).await;
    let mut answers = compare(&served, of(&[])).await.unwrap();
    assert!(matches!(answers.next().await.unwrap().unwrap().message, Some(Message::Started(_))));
    assert!(matches!(answers.next().await.unwrap().unwrap().message, Some(Message::Progress(_))));
    let busy = compare(&served, of(&[])).await.unwrap_err();
    assert_eq!(told(&busy), (Code::ResourceExhausted, "COMPARISON_RUNS".to_owned()));
    assert_eq!(retry_delay_ms(&busy), Some(15_000));
    let (status, answer) = served.post("/benchmark", "").await;
    assert_eq!((status, &answer["details"]["retry_after_s"]), (429, &json!(15)), "{answer}");

    drop(answers);
    let started = Instant::now();
    let next = loop {
        match compare(&served, of(&[])).await {
            Ok(answers) => break answers,
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status}"),
        }
        assert!(started.elapsed() < Duration::from_secs(60), "the turn is free once its caller has left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    drop(next);

    // Over REST, too, a caller that leaves ends it.
    while tokio::time::timeout(Duration::from_millis(300), async { served.post("/benchmark", "{}").await })
        .await
        .is_ok()
    {
        assert!(started.elapsed() < Duration::from_secs(60), "the turn is free once its caller has left");
    }
    let started = Instant::now();
    while compare(&served, of(&[])).await.is_err() {
        assert!(started.elapsed() < Duration::from_secs(60), "the turn is free once its caller has left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_service_that_stops_ends_a_comparison() {
    let provider = silent().await;
    let served = serve(&[entry("m", provider.address, "")]).await;
    let mut answers = compare(&served, of(&[])).await.unwrap();
    answers.next().await.unwrap().unwrap();
    served.stop.send(()).unwrap();
    let started = Instant::now();
    let ended = loop {
        match answers.next().await.unwrap() {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn a_caller_that_reads_late_has_all_results() {
    let provider = Provider::good().await;
    let ids: Vec<String> = (0..64).map(|number| format!("m{number}")).collect();
    let entries: Vec<String> = ids.iter().map(|id| entry(id, provider.address, "")).collect();
    let served = serve(&entries).await;
    let request = pb::BenchmarkModelsRequest { samples: samples(&[("a", "x"), ("a", "y"), ("b", "zz")]), ..of(&[]) };
    let answers = compare(&served, request).await.unwrap();
    // Long enough for all of it; what is wanted is only that nothing waits for the reader.
    let started = Instant::now();
    while provider.seen().len() < 64 * (2 + 3 * 4) {
        assert!(started.elapsed() < Duration::from_secs(60), "{} requests", provider.seen().len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (_, _, results) = all(answers).await;
    assert_eq!(results.iter().map(|result| &result.model_id).collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn the_real_model_finds_documents() {
    let cache = cache_with_weights();
    let provider = Provider::good().await;
    let local =
        "[[model]]\nid = \"minilm\"\nprovider = \"local\"\nmodel_name = \"sentence-transformers/all-MiniLM-L6-v2\"\n\
                 revision = \"c9745ed1d9f207416be6d2e6f8de32d1f16199bf\"\ndimension = 384\ntokens_max = 256\n\
                 pooling = \"mean\"\nnormalize = true\n"
            .to_owned();
    let models = write_models(&cache, &[local, entry("length", provider.address, "")]);
    let served = Served::start_with(&Options { models_file: Some(models), ..options(cache.path()) }).await;
    assert_eq!(served.embed(&["x"]).await.model_id, "minilm");
    let pairs = pairs(&[
        ("how to make bread rise", "Let the dough rest in a warm place until it has doubled."),
        ("treatment of high blood pressure", "Hypertension is often treated with ACE inhibitors."),
        ("undo a commit", "git revert makes a new commit that takes the changes of an earlier one back."),
        ("planet with rings", "Saturn is surrounded by a system of ice and dust."),
    ]);
    let (_, _, results) = all(compare(&served, pb::BenchmarkModelsRequest { pairs, ..of(&[]) }).await.unwrap()).await;
    let [minilm, length] = [&results[0], &results[1]].map(|result| (result.retrieval.unwrap(), result.contrast_score));
    assert_eq!(minilm.0.recall_at_1, Some(1.0), "{minilm:?}");
    assert!(minilm.0.mean_reciprocal_rank > length.0.mean_reciprocal_rank, "{minilm:?}, {length:?}");
    assert!(minilm.1 > length.1 + 0.05, "the length of a text says little of its topic: {minilm:?}, {length:?}");
    // A text of each topic alone is no sample of it.
    let lone = pb::BenchmarkModelsRequest { samples: samples(&[("a", "x"), ("b", "y")]), ..of(&[]) };
    assert_eq!(compare(&served, lone).await.unwrap_err().code(), Code::InvalidArgument);
}
