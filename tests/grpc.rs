//! The gRPC door through a real socket: every method, every error with its code and reason, and the same answers as
//! the REST door.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::collections::BTreeMap;

use common::{Server, Texts, data_folder, http};
use prost::Message;
use serde_json::json;
use tokio_stream::StreamExt;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use vectron::pb::v1 as pb;
use vectron::pb::v1::search_request::Query;
use vectron::pb::v1::vector::Components;

fn floats(values: &[f32]) -> pb::Vector {
    pb::Vector {
        components: Some(Components::Floats(pb::FloatArray { values: values.to_vec() })),
        space: String::new(),
    }
}

fn input(id: &str, values: &[f32]) -> pb::RecordInput {
    pb::RecordInput { id: id.into(), vector: Some(floats(values)), ..Default::default() }
}

fn upsert(records: Vec<pb::RecordInput>) -> pb::UpsertRequest {
    pb::UpsertRequest { collection: "c".into(), records, ..Default::default() }
}

fn search(values: &[f32]) -> pb::SearchRequest {
    pb::SearchRequest { collection: "c".into(), query: Some(Query::Vector(floats(values))), ..Default::default() }
}

fn space(name: &str, dimension: u32, metric: pb::Metric) -> pb::Space {
    pb::Space { name: name.into(), dimension, metric: metric.into(), ..Default::default() }
}

async fn create(server: &Server, spaces: Vec<pb::Space>) -> pb::Collection {
    let collection = Some(pb::Collection { name: "c".into(), spaces, ..Default::default() });
    let request = pb::CreateCollectionRequest { collection, ..Default::default() };
    server.collections().await.create_collection(request).await.unwrap().into_inner().collection.unwrap()
}

/// Code, reason, and parts of the message.
#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, reason: &str, says: &[&str]) {
    let status = result.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "vectron"), "{status:?}");
    for part in says {
        assert!(status.message().contains(part), "no {part:?} in {:?}", status.message());
    }
}

#[tokio::test]
async fn records_are_written_read_listed_counted_and_deleted() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    create(&server, vec![space("raw", 3, pb::Metric::Euclidean)]).await;
    let mut client = server.vectors().await;
    let nested = pb::Value { kind: Some(pb::value::Kind::IntValue(i64::MIN)) };
    let metadata = BTreeMap::from([("n".to_owned(), nested)]);
    let with_content =
        pb::RecordInput { text: Some("kept".into()), metadata: metadata.clone(), ..input("b", &[1.0, 0.0, 0.0]) };
    let bytes = pb::Vector {
        components: Some(Components::F32Le(vec![0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0].into())),
        space: "raw".into(),
    };
    let as_bytes = pb::RecordInput { id: "a".into(), vector: Some(bytes), ..Default::default() };
    let written =
        client.upsert(upsert(vec![with_content, as_bytes, input("c", &[9.0, 0.0, 0.0])])).await.unwrap().into_inner();
    assert_eq!((written.record_count, written.sequence), (3, 2));

    let found = client
        .search(pb::SearchRequest { explain: true, top_k: Some(2), ..search(&[1.0, 0.0, 0.0]) })
        .await
        .unwrap()
        .into_inner();
    let hits: Vec<_> = found.hits.iter().map(|hit| (hit.record.as_ref().unwrap().id.as_str(), hit.score)).collect();
    assert_eq!((hits, found.space.as_str(), found.sequence), (vec![("b", 0.0), ("a", 1.0)], "raw", 2));
    assert_eq!(found.hits[0].record.as_ref().unwrap().metadata, metadata);
    let explain = found.explain.unwrap();
    assert_eq!((explain.plan(), explain.distances), (pb::Plan::Flat, 3));

    let read_mask = Some(prost_types::FieldMask { paths: vec!["text".into(), "version".into()] });
    let ids = vec!["b".to_owned(), "nope".to_owned()];
    let got = client
        .get(pb::GetRequest { collection: "c".into(), ids, read_mask, ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(got.missing_ids, ["nope"]);
    let record = &got.records[0];
    assert_eq!(
        (record.text.as_deref(), record.version, &record.vector, record.metadata.len()),
        (Some("kept"), 2, &None, 0)
    );

    let list =
        |page_token: String| pb::ListRequest { collection: "c".into(), page_size: 2, page_token, ..Default::default() };
    let first = client.list(list(String::new())).await.unwrap().into_inner();
    let second = client.list(list(first.next_page_token.clone())).await.unwrap().into_inner();
    let ids: Vec<_> = first.records.iter().chain(&second.records).map(|record| record.id.as_str()).collect();
    assert_eq!((ids, second.next_page_token.as_str()), (vec!["a", "b", "c"], ""));

    let keys = ["a", "c", "nope", "a"].map(|id| pb::RecordKey { id: id.into(), if_version: None }).to_vec();
    let selector = Some(pb::delete_request::Selector::Ids(pb::RecordKeys { keys }));
    let deleted = client
        .delete(pb::DeleteRequest { collection: "c".into(), selector, ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(deleted.deleted_count, 2);
    let count =
        client.count(pb::CountRequest { collection: "c".into(), min_sequence: deleted.sequence, ..Default::default() });
    assert_eq!(count.await.unwrap().into_inner().record_count, 1);
}

#[tokio::test]
async fn both_doors_give_the_same_answer() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Embedded);
    let mut client = server.vectors().await;
    for (n, text) in ["green tea", "black coffee", "orange juice", "cold beer"].iter().enumerate() {
        server.post("/upsert-text", json!({"id": n.to_string(), "text": text, "metadata": {"n": n}})).await;
    }
    let text = pb::TextQuery { text: "a hot drink".into(), ..Default::default() };
    let request =
        pb::SearchRequest { collection: "default".into(), query: Some(Query::Text(text)), ..Default::default() };
    let over_grpc = client.search(request).await.unwrap().into_inner();
    let (_, over_rest) = server.post("/search/text", json!({"text": "a hot drink"})).await;
    let grpc: Vec<_> = over_grpc
        .hits
        .iter()
        .map(|hit| {
            let record = hit.record.as_ref().unwrap();
            json!({"id": record.id, "score": hit.score, "text": record.text, "metadata": {"n": record.id.parse::<u64>().unwrap()}})
        })
        .collect();
    let mut rest = over_rest["results"].as_array().unwrap().clone();
    for hit in &mut rest {
        // JSON writes the shortest digits of the f32; read as f32 they are the same number.
        hit["score"] = json!(hit["score"].as_f64().unwrap() as f32);
    }
    assert_eq!(grpc, rest);
    let ids = vec!["0".to_owned()];
    let record = client
        .get(pb::GetRequest { collection: "default".into(), ids, ..Default::default() })
        .await
        .unwrap()
        .into_inner()
        .records
        .remove(0);
    let Some(Components::F32Le(bytes)) = record.vector.unwrap().components else { panic!("bytes were expected") };
    let floats: Vec<f32> = bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    let (_, body) = server.get("/vector/0").await;
    let over_rest: Vec<f32> = serde_json::from_value(body["vector"].clone()).unwrap();
    assert_eq!(over_rest, floats);
}

#[tokio::test]
async fn collections_are_created_described_changed_and_dropped() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Embedded);
    let with_model = pb::Space {
        text_model: Some(pb::TextModel { model_id: "minilm".into(), ..Default::default() }),
        ..space("docs", 0, pb::Metric::DotProduct)
    };
    let created = create(&server, vec![with_model, space("raw", 2, pb::Metric::Cosine)]).await;
    assert_eq!((created.spaces[0].dimension, created.state()), (384, pb::CollectionState::Ready));
    assert_eq!(created.spaces[0].text_model.as_ref().unwrap().fingerprint.len(), 32);

    let mut client = server.collections().await;
    let again = pb::Collection { name: "c".into(), ..Default::default() };
    let request = pb::CreateCollectionRequest { collection: Some(again), ..Default::default() };
    assert_refused(
        client.create_collection(request).await,
        Code::AlreadyExists,
        "COLLECTION_EXISTS",
        &["a collection \"c\" already"],
    );

    // A text goes to the space of its model; a vector to the space of its dimension.
    let mut vectors = server.vectors().await;
    let text = pb::RecordInput { id: "t".into(), text: Some("hello".into()), ..Default::default() };
    vectors.upsert(upsert(vec![text, input("v", &[1.0, 1.0])])).await.unwrap();
    let wanted = pb::Collection {
        name: "c".into(),
        description: "two kinds".into(),
        spaces: vec![space("more", 7, pb::Metric::Euclidean)],
        ..Default::default()
    };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["description".into(), "spaces".into()] });
    client
        .update_collection(pb::UpdateCollectionRequest { collection: Some(wanted), update_mask, ..Default::default() })
        .await
        .unwrap();
    let got = client
        .get_collection(pb::GetCollectionRequest { name: "c".into() })
        .await
        .unwrap()
        .into_inner()
        .collection
        .unwrap();
    let spaces: Vec<_> = got.spaces.iter().map(|space| (space.name.as_str(), space.record_count)).collect();
    assert_eq!(
        (spaces, got.description.as_str(), got.record_count),
        (vec![("docs", 1), ("raw", 1), ("more", 0)], "two kinds", 2)
    );

    let listed = client.list_collections(pb::ListCollectionsRequest::default()).await.unwrap().into_inner();
    assert_eq!((listed.collections.len(), listed.next_page_token.as_str()), (1, ""));
    let dropped =
        client.delete_collection(pb::DeleteCollectionRequest { name: "c".into(), ..Default::default() }).await.unwrap();
    assert_eq!(dropped.into_inner().record_count, 2);
    let get = client.get_collection(pb::GetCollectionRequest { name: "c".into() }).await;
    assert_refused(get, Code::NotFound, "COLLECTION_NOT_FOUND", &["there are none yet"]);
}

#[tokio::test]
async fn every_mistake_has_its_code_and_changes_nothing() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Embedded);
    create(
        &server,
        vec![
            space("two", 2, pb::Metric::Cosine),
            space("three", 3, pb::Metric::Cosine),
            space("drei", 3, pb::Metric::DotProduct),
        ],
    )
    .await;
    let mut client = server.vectors().await;
    client.upsert(upsert(vec![input("a", &[1.0, 2.0])])).await.unwrap();
    let good = || input("good", &[1.0, 1.0]);
    let invalid = Code::InvalidArgument;
    let in_space = |name: &str, values: &[f32]| pb::RecordInput {
        vector: Some(pb::Vector { space: name.into(), ..floats(values) }),
        ..input("x", values)
    };
    let text = |text: &str| pb::RecordInput { id: "x".into(), text: Some(text.into()), ..Default::default() };
    let no_kind = BTreeMap::from([("m".to_owned(), pb::Value::default())]);

    for (records, code, reason, says) in [
        (vec![good(), input("x", &[1.0])], invalid, "DIMENSION_MISMATCH", vec!["dimension 1", "two (dimension 2)"]),
        (vec![good(), input("x", &[1.0, 2.0, 3.0])], invalid, "AMBIGUOUS_SPACE", vec!["three", "drei"]),
        (vec![good(), in_space("two", &[1.0])], invalid, "DIMENSION_MISMATCH", vec!["two", "dimension 2"]),
        (vec![good(), in_space("nope", &[1.0])], Code::NotFound, "SPACE_NOT_FOUND", vec!["nope"]),
        (
            vec![good(), input("x", &[f32::NAN, 1.0])],
            invalid,
            "INVALID_VECTOR",
            vec!["records[1].vector", "component 0", "NaN"],
        ),
        (vec![good(), input("x", &[1.0, f32::INFINITY])], invalid, "INVALID_VECTOR", vec!["component 1", "inf"]),
        (vec![good(), input("x", &[0.0, 0.0])], invalid, "ZERO_VECTOR", vec!["\"x\"", "two"]),
        (vec![good(), input("", &[1.0, 2.0])], invalid, "INVALID_ID", vec!["records[1].id", "empty"]),
        (vec![good(), input(&"x".repeat(513), &[1.0, 2.0])], invalid, "INVALID_ID", vec!["513"]),
        (vec![good(), text("")], invalid, "INVALID_TEXT", vec!["records[1].text", "empty"]),
        (vec![good(), text("words")], Code::NotFound, "SPACE_NOT_FOUND", vec!["minilm", "create_missing"]),
        (
            vec![good(), pb::RecordInput { id: "x".into(), ..Default::default() }],
            invalid,
            "INVALID_ARGUMENT",
            vec!["vector, a text, or both"],
        ),
        (
            vec![good(), pb::RecordInput { vector: Some(pb::Vector::default()), ..input("x", &[]) }],
            invalid,
            "INVALID_VECTOR",
            vec!["no components"],
        ),
        (
            vec![good(), pb::RecordInput { metadata: no_kind, ..input("x", &[1.0, 1.0]) }],
            invalid,
            "INVALID_METADATA",
            vec!["null_value"],
        ),
        (
            vec![good(), pb::RecordInput { if_version: Some(7), ..input("a", &[1.0, 1.0]) }],
            Code::Aborted,
            "VERSION_MISMATCH",
            vec!["record \"a\" was", "version 7", "has 2"],
        ),
        (vec![good(), pb::RecordInput { if_version: Some(0), ..good() }], invalid, "INVALID_ARGUMENT", vec!["twice"]),
        (vec![], invalid, "INVALID_ARGUMENT", vec!["1 to 10000", "0"]),
        ((0..10_001).map(|n| input(&n.to_string(), &[1.0, 1.0])).collect(), invalid, "INVALID_ARGUMENT", vec!["10001"]),
    ] {
        assert_refused(client.upsert(upsert(records)).await, code, reason, &says);
    }
    let other = pb::UpsertRequest { collection: "nope".into(), ..upsert(vec![good()]) };
    assert_refused(client.upsert(other).await, Code::NotFound, "COLLECTION_NOT_FOUND", &["nope", "c"]);
    let unknown_model = pb::UpsertRequest { model_id: "nope".into(), ..upsert(vec![text("words")]) };
    assert_refused(client.upsert(unknown_model).await, Code::NotFound, "MODEL_NOT_FOUND", &["nope", "minilm"]);

    for (request, code, reason) in [
        (pb::SearchRequest { top_k: Some(0), ..search(&[1.0, 1.0]) }, invalid, "INVALID_TOP_K"),
        (pb::SearchRequest { top_k: Some(1_000_000), ..search(&[1.0, 1.0]) }, invalid, "INVALID_TOP_K"),
        (search(&[0.0, 0.0]), invalid, "ZERO_VECTOR"),
        (search(&[1.0]), invalid, "DIMENSION_MISMATCH"),
        (pb::SearchRequest { query: None, ..search(&[]) }, invalid, "INVALID_ARGUMENT"),
        (pb::SearchRequest { target_recall: Some(1.5), ..search(&[1.0, 1.0]) }, invalid, "INVALID_ARGUMENT"),
        (pb::SearchRequest { filter: Some(pb::Filter::default()), ..search(&[1.0, 1.0]) }, invalid, "INVALID_FILTER"),
        (pb::SearchRequest { collection: "nope".into(), ..search(&[1.0]) }, Code::NotFound, "COLLECTION_NOT_FOUND"),
    ] {
        assert_refused(client.search(request).await, code, reason, &[]);
    }
    let long_model = pb::UpsertRequest { model_id: "x".repeat(20_000), ..upsert(vec![text("words")]) };
    assert_refused(client.upsert(long_model).await, invalid, "INVALID_ARGUMENT", &["model_id", "1 to 128"]);
    let mask = prost_types::FieldMask { paths: vec!["x".repeat(20_000)] };
    let long_mask = pb::SearchRequest { read_mask: Some(mask), ..search(&[1.0, 1.0]) };
    assert_refused(client.search(long_mask).await, invalid, "INVALID_ARGUMENT", &["read_mask"]);
    let too_large = pb::RecordInput { text: Some("x".repeat(70 << 20)), ..good() };
    assert_refused(
        client.upsert(upsert(vec![too_large])).await,
        Code::ResourceExhausted,
        "MESSAGE_TOO_LARGE",
        &["67108864"],
    );

    let count =
        client.count(pb::CountRequest { collection: "c".into(), ..Default::default() }).await.unwrap().into_inner();
    // The mismatch of the version was decided in the log, so it has a number; nothing else has.
    assert_eq!((count.record_count, count.sequence), (1, 3));
}

#[tokio::test]
async fn a_retry_with_the_same_request_id_is_answered_and_not_applied() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    create(&server, vec![space("raw", 1, pb::Metric::DotProduct)]).await;
    let mut client = server.vectors().await;
    let request = pb::UpsertRequest { request_id: "r-1".into(), ..upsert(vec![input("a", &[1.0])]) };
    let first = client.upsert(request.clone()).await.unwrap().into_inner();
    client.upsert(upsert(vec![input("a", &[2.0])])).await.unwrap();
    assert_eq!(client.upsert(request).await.unwrap().into_inner(), first);
    let ids = vec!["a".to_owned()];
    let got =
        client.get(pb::GetRequest { collection: "c".into(), ids, ..Default::default() }).await.unwrap().into_inner();
    assert_eq!(got.records[0].version, first.sequence + 1);
    let reused = pb::UpsertRequest { request_id: "r-1".into(), ..upsert(vec![input("b", &[1.0])]) };
    assert_refused(client.upsert(reused).await, Code::FailedPrecondition, "REQUEST_ID_REUSED", &["r-1"]);
}

#[tokio::test]
async fn every_method_of_the_contract_is_among_the_capabilities() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let info = server.admin().await.get_server_info(pb::GetServerInfoRequest {}).await.unwrap().into_inner();
    let described = prost_types::FileDescriptorSet::decode(vectron::pb::DESCRIPTOR_SET).unwrap();
    let mut methods = 0;
    for file in described.file.iter().filter(|file| file.package() == "vectron.v1") {
        for service in &file.service {
            for method in &service.method {
                let name = format!("{}.{}", service.name(), method.name());
                assert!(info.capabilities.contains(&name), "{name}");
                methods += 1;
            }
        }
    }
    assert!(methods > 20, "{methods}");
    assert_eq!(info.limits.unwrap().top_k_max, 10_000);
}

#[tokio::test]
async fn reflection_lists_the_services_in_both_versions() {
    use tonic_reflection::pb::{v1, v1alpha};
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let channel = server.channel().await;

    let request = v1::ServerReflectionRequest {
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap();
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) = answer.message_response
    else {
        panic!("{answer:?}");
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for service in
        ["vectron.v1.AdminService", "vectron.v1.CollectionService", "vectron.v1.VectorService", "grpc.health.v1.Health"]
    {
        assert!(names.contains(&service), "{names:?}");
    }

    let request = v1alpha::ServerReflectionRequest {
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
            "vectron.v1.VectorService".into(),
        )),
        ..Default::default()
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response.unwrap();
    assert!(
        matches!(answer, v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_)),
        "{answer:?}"
    );
}

#[tokio::test]
async fn health_is_told_per_service_and_watched() {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let mut client = HealthClient::new(server.channel().await);
    for service in ["", "vectron.v1.VectorService", "vectron.v1.CollectionService", "vectron.v1.AdminService"] {
        let request = HealthCheckRequest { service: service.into() };
        assert_eq!(client.check(request).await.unwrap().into_inner().status(), ServingStatus::Serving, "{service:?}");
    }
    let unknown = client.check(HealthCheckRequest { service: "nope".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);

    let mut watch =
        client.watch(HealthCheckRequest { service: "vectron.v1.VectorService".into() }).await.unwrap().into_inner();
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let ended = tokio::spawn(server.terminate());
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::NotServing, "told before it stops");
    drop((watch, client));
    assert!(ended.await.unwrap().success());
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let response = http()
        .post(server.url("/vectron.v1.VectorService/Nope"))
        .header("content-type", "application/grpc")
        .send()
        .await
        .unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["grpc-status"].to_str().unwrap()), (200, "12"));
    let response = http()
        .post(server.url("/no.such.Service/Nope"))
        .header("content-type", "application/grpc")
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["grpc-status"].to_str().unwrap(), "12");
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_given_up_before_it_is_built() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    create(&server, vec![space("raw", 1, pb::Metric::DotProduct)]).await;
    let mut client = server.vectors().await;
    let text = Some("x".repeat(1 << 20));
    client.upsert(upsert(vec![pb::RecordInput { text, ..input("a", &[1.0]) }])).await.unwrap();
    let ids = vec!["a".to_owned(); 5_000];
    let get = client.get(pb::GetRequest { collection: "c".into(), ids, ..Default::default() }).await;
    assert_refused(get, Code::ResourceExhausted, "MESSAGE_TOO_LARGE", &["67108864", "fewer ids"]);
    // 5 GiB of text were asked for.
    let peak_kb = server.peak_memory_kb();
    assert!(peak_kb < 1 << 20, "{peak_kb} KB");
}

#[tokio::test]
async fn a_first_write_that_is_refused_makes_no_collection() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let mut client = server.vectors().await;
    let first = |if_version| pb::UpsertRequest {
        create_missing: true,
        ..upsert(vec![pb::RecordInput { if_version, ..input("a", &[1.0]) }])
    };
    assert_refused(client.upsert(first(Some(5))).await, Code::Aborted, "VERSION_MISMATCH", &["version 5"]);
    let listed = server.collections().await.list_collections(pb::ListCollectionsRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().collections, []);
    assert_eq!(std::fs::read_dir(data.path().join("collections")).unwrap().count(), 0);
    assert_eq!(client.upsert(first(Some(0))).await.unwrap().into_inner().record_count, 1);
}

#[tokio::test]
async fn a_collection_that_is_dropped_under_load_is_not_found_from_then_on() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    create(&server, vec![space("raw", 1, pb::Metric::DotProduct)]).await;
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let client = server.vectors();
            async move {
                let mut client = client.await;
                for n in 0.. {
                    let id = format!("{writer}-{n}");
                    let written = client.upsert(upsert(vec![input(&id, &[1.0])])).await;
                    let searched = client.search(search(&[1.0])).await;
                    if let Some(refused) = written.err().or(searched.err()) {
                        return refused;
                    }
                }
                unreachable!("the loop ends with the collection")
            }
        })
        .collect();
    let drop_it = async {
        let count = || pb::CountRequest { collection: "c".into(), ..Default::default() };
        let mut client = server.vectors().await;
        while client.count(count()).await.unwrap().into_inner().record_count < 20 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let request = pb::DeleteCollectionRequest { name: "c".into(), ..Default::default() };
        server.collections().await.delete_collection(request).await.unwrap().into_inner().record_count
    };
    let [a, b, c, d] = writers.try_into().ok().unwrap();
    let (record_count, a, b, c, d) = tokio::join!(drop_it, a, b, c, d);
    assert!(record_count > 0);
    for refused in [a, b, c, d] {
        assert_refused::<()>(Err(refused), Code::NotFound, "COLLECTION_NOT_FOUND", &[]);
    }
}

#[tokio::test]
async fn a_new_space_of_raw_vectors_can_be_named_as_it_will_be() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let named = |space: &str| {
        let vector = pb::Vector { space: space.into(), ..floats(&[1.0, 2.0, 3.0]) };
        let records = vec![pb::RecordInput { vector: Some(vector), ..input("a", &[]) }];
        pb::UpsertRequest { create_missing: true, ..upsert(records) }
    };
    let mut client = server.vectors().await;
    assert_refused(client.upsert(named("raw-4")).await, Code::NotFound, "SPACE_NOT_FOUND", &["raw-4"]);
    for _ in 0..2 {
        client.upsert(named("raw-3")).await.unwrap();
    }
    let strict = pb::UpsertRequest { create_missing: false, collection: "d".into(), ..named("raw-3") };
    assert_refused(client.upsert(strict).await, Code::NotFound, "COLLECTION_NOT_FOUND", &["\"d\""]);
}
