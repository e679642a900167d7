//! Filters through real sockets: the same answer at both doors, in every call that takes one, and every way to get them
//! wrong.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::collections::BTreeMap;

use common::{Server, Texts, data_folder, http};
use serde_json::{Value, json};
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_types::StatusExt;
use vectron::api::convert::filter_from_json;
use vectron::pb::v1 as pb;
use vectron::pb::v1::delete_request::Selector;
use vectron::pb::v1::filter::Condition;
use vectron::pb::v1::search_request::Query;
use vectron::pb::v1::value::Kind;
use vectron::pb::v1::vector::Components;

const COUNT: usize = 300;

fn vector(values: &[f32]) -> pb::Vector {
    let components = Some(Components::Floats(pb::FloatArray { values: values.to_vec() }));
    pb::Vector { components, space: String::new() }
}

fn value(kind: Kind) -> pb::Value {
    pb::Value { kind: Some(kind) }
}

fn record(n: usize) -> pb::RecordInput {
    let topic = ["animal", "plant", "food"][n % 3];
    let tags = (0..n % 4).map(|tag| value(Kind::StringValue(format!("t{tag}")))).collect();
    let source = pb::ObjectValue { fields: [("page".to_owned(), value(Kind::IntValue(n as i64 / 10)))].into() };
    let mut metadata: BTreeMap<String, pb::Value> = [
        ("topic".to_owned(), value(Kind::StringValue(topic.to_owned()))),
        (
            "words".to_owned(),
            value(if n.is_multiple_of(2) { Kind::IntValue(n as i64) } else { Kind::DoubleValue(n as f64) }),
        ),
        ("tags".to_owned(), value(Kind::ListValue(pb::ListValue { values: tags }))),
        ("source".to_owned(), value(Kind::ObjectValue(source))),
    ]
    .into();
    if n.is_multiple_of(5) {
        metadata.insert("note".to_owned(), value(Kind::NullValue(0)));
    }
    pb::RecordInput { id: id(n), vector: Some(vector(&[1.0, n as f32])), metadata, ..Default::default() }
}

fn id(n: usize) -> String {
    format!("{n:03}")
}

async fn filled(server: &Server) {
    let records = (0..COUNT).map(record).collect();
    let request =
        pb::UpsertRequest { collection: "default".into(), records, create_missing: true, ..Default::default() };
    server.vectors().await.upsert(request).await.unwrap();
}

fn search(filter: pb::Filter, top_k: u32) -> pb::SearchRequest {
    pb::SearchRequest {
        collection: "default".into(),
        query: Some(Query::Vector(vector(&[1.0, 0.0]))),
        top_k: Some(top_k),
        filter: Some(filter),
        explain: true,
        ..Default::default()
    }
}

/// What a filter means for record `n`.
type Matches = fn(usize) -> bool;

fn cases() -> Vec<(Value, Matches)> {
    vec![
        (json!({"equals": {"field": "topic", "value": "animal"}}), |n| n.is_multiple_of(3)),
        (json!({"equals": {"field": "words", "value": 7}}), |n| n == 7),
        (json!({"equals": {"field": "words", "value": 8.0}}), |n| n == 8),
        (json!({"equals": {"field": "note", "value": null}}), |n| n.is_multiple_of(5)),
        (json!({"in": {"field": "topic", "values": ["plant", "food", "stone"]}}), |n| !n.is_multiple_of(3)),
        (json!({"range": {"field": "words", "at_least": 30, "lessThan": 40.5}}), |n| (30..=40).contains(&n)),
        (json!({"exists": {"field": "note"}}), |n| n.is_multiple_of(5)),
        (json!({"contains": {"field": "tags", "value": "t1"}}), |n| n % 4 >= 2),
        (json!({"equals": {"field": "source.page", "value": 3}}), |n| n / 10 == 3),
        (json!({"not": {"exists": {"field": "note"}}}), |n| !n.is_multiple_of(5)),
        (json!({"allOf": {"filters": []}}), |_| true),
        (json!({"any_of": []}), |_| false),
        (
            json!({"all_of": [
                {"equals": {"field": "topic", "value": "animal"}},
                {"any_of": [{"contains": {"field": "tags", "value": "t2"}}, {"range": {"field": "words", "greater_than": 290}}]},
            ]}),
            |n| n.is_multiple_of(3) && (n % 4 == 3 || n > 290),
        ),
    ]
}

#[tokio::test]
async fn every_call_gives_the_same_records_at_both_doors() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    filled(&server).await;
    let mut client = server.vectors().await;
    for (json, matches) in cases() {
        let filter = filter_from_json(json.clone()).unwrap();
        // The cosine with (1, 0) falls from each to the next, so hits come in the order of the ids.
        let expected: Vec<String> = (0..COUNT).filter(|&n| matches(n)).map(id).collect();

        let found = client.search(search(filter.clone(), COUNT as u32)).await.unwrap().into_inner();
        let ids: Vec<&str> = found.hits.iter().map(|hit| hit.record.as_ref().unwrap().id.as_str()).collect();
        assert_eq!(ids, expected, "{json}");
        let share = expected.len() as f64 / COUNT as f64;
        assert_eq!(found.explain.unwrap().selectivity, Some(share), "{json}");
        let few = client.search(search(filter.clone(), 4)).await.unwrap().into_inner();
        assert_eq!(few.hits, found.hits[..expected.len().min(4)], "never fewer than there are: {json}");

        let body = json!({"vector": [1, 0], "top_k": COUNT, "filter": json});
        let (status, hits) = server.post("/search/vector", body).await;
        assert_eq!(status, 200, "{hits}");
        let ids: Vec<&str> = hits.as_array().unwrap().iter().map(|hit| hit["id"].as_str().unwrap()).collect();
        assert_eq!(ids, expected, "{json}");

        let count = pb::CountRequest { collection: "default".into(), filter: Some(filter.clone()), min_sequence: 0 };
        assert_eq!(client.count(count).await.unwrap().into_inner().record_count, expected.len() as u64, "{json}");

        let mut listed = Vec::new();
        let mut request = pb::ListRequest {
            collection: "default".into(),
            page_size: 7,
            filter: Some(filter),
            read_mask: Some(prost_types::FieldMask { paths: vec!["id".into()] }),
            ..Default::default()
        };
        loop {
            let page = client.list(request.clone()).await.unwrap().into_inner();
            let is_last = page.next_page_token.is_empty();
            assert!(page.records.len() == 7 || is_last);
            listed.extend(page.records.into_iter().map(|record| record.id));
            if is_last {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(listed, expected, "{json}");
    }
}

#[tokio::test]
async fn filtered_and_other_queries_share_a_stream() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    filled(&server).await;
    let mut client = server.vectors().await;
    let requests: Vec<pb::SearchRequest> = cases()
        .into_iter()
        .flat_map(|(json, _)| {
            let filtered = search(filter_from_json(json).unwrap(), 9);
            [pb::SearchRequest { filter: None, ..filtered.clone() }, filtered]
        })
        .map(|request| pb::SearchRequest { explain: false, ..request })
        .collect();
    let asks = (0..).zip(requests.clone()).map(|(query_index, search)| pb::StreamSearchRequest {
        query_index,
        search: Some(search),
        deadline_ms: 0,
    });
    let asks: Vec<_> = asks.collect();
    let mut answers = client.stream_search(tokio_stream::iter(asks)).await.unwrap().into_inner();
    let mut count = 0;
    while let Some(answer) = answers.next().await {
        let answer = answer.unwrap();
        let Some(pb::stream_search_response::Result::Response(found)) = answer.result else { panic!("{answer:?}") };
        let alone = client.search(requests[answer.query_index as usize].clone()).await.unwrap().into_inner();
        assert_eq!(found, alone, "query {}", answer.query_index);
        count += 1;
    }
    assert_eq!(count, requests.len());
}

#[tokio::test]
async fn a_delete_by_filter_is_whole_and_its_retry_is_answered() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    filled(&server).await;
    let mut client = server.vectors().await;
    let filter = filter_from_json(json!({"equals": {"field": "topic", "value": "plant"}})).unwrap();
    let delete = pb::DeleteRequest {
        collection: "default".into(),
        selector: Some(Selector::Filter(filter.clone())),
        request_id: "d-1".into(),
        ..Default::default()
    };
    let deleted = client.delete(delete.clone()).await.unwrap().into_inner();
    assert_eq!((deleted.deleted_count, deleted.sequence), (100, 3));
    let again = pb::UpsertRequest { collection: "default".into(), records: vec![record(1)], ..Default::default() };
    client.upsert(again).await.unwrap();
    assert_eq!(client.delete(delete.clone()).await.unwrap().into_inner(), deleted, "what came later is left alone");
    let count = |filter| pb::CountRequest { collection: "default".into(), filter, min_sequence: 0 };
    assert_eq!(client.count(count(Some(filter))).await.unwrap().into_inner().record_count, 1);
    assert_eq!(client.count(count(None)).await.unwrap().into_inner().record_count, 201);

    // The log tells it again.
    server.kill();
    let server = Server::start(data.path(), Texts::Away);
    let mut client = server.vectors().await;
    assert_eq!(client.count(count(None)).await.unwrap().into_inner().record_count, 201);
    assert_eq!(client.delete(delete).await.unwrap().into_inner(), deleted);
    let none = Selector::Filter(filter_from_json(json!({"any_of": []})).unwrap());
    let none = pb::DeleteRequest { collection: "default".into(), selector: Some(none), ..Default::default() };
    assert_eq!(client.delete(none).await.unwrap().into_inner().deleted_count, 0);
}

/// The ids that one delete has room for are bounded; up to the bound it is whole.
#[tokio::test]
async fn a_delete_of_more_than_a_log_record_holds_is_refused_whole() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let mut client = server.vectors().await;
    let long = |n: usize| pb::RecordInput { id: format!("{n:0512}"), ..record(n) };
    for batch in 0..13 {
        let records = (batch * 10_000..(batch + 1) * 10_000).map(long).collect();
        let request =
            pb::UpsertRequest { collection: "default".into(), records, create_missing: true, ..Default::default() };
        client.upsert(request).await.unwrap();
    }
    let delete = |filter| pb::DeleteRequest {
        collection: "default".into(),
        selector: Some(Selector::Filter(filter_from_json(filter).unwrap())),
        ..Default::default()
    };
    let status = client.delete(delete(json!({"all_of": []}))).await.unwrap_err();
    assert_eq!(status.get_details_error_info().unwrap().reason, "LIMIT_REACHED");
    assert!(status.message().contains("nothing was deleted"), "{status:?}");
    let most = json!({"range": {"field": "words", "less_than": 120_000}});
    let deleted = client.delete(delete(most)).await.unwrap().into_inner();
    assert_eq!(deleted.deleted_count, 120_000);
    let count = pb::CountRequest { collection: "default".into(), ..Default::default() };
    assert_eq!(client.count(count).await.unwrap().into_inner().record_count, 10_000);
}

/// A list ends a page after some work, also where nothing was found.
#[tokio::test]
async fn a_rare_match_is_found_over_pages_that_may_be_empty() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    filled(&server).await;
    let mut client = server.vectors().await;
    // As many conditions as there may be, so that a page has work for some two hundred records.
    let never = json!({"equals": {"field": "topic", "value": "stone"}});
    let mut parts = vec![never; 1022];
    parts.push(json!({"equals": {"field": "words", "value": 299}}));
    let filter = Some(filter_from_json(json!({"any_of": parts})).unwrap());
    let mut request = pb::ListRequest { collection: "default".into(), filter, ..Default::default() };
    let first = client.list(request.clone()).await.unwrap().into_inner();
    assert_eq!((first.records.len(), first.next_page_token.is_empty()), (0, false));
    request.page_token = first.next_page_token;
    let second = client.list(request).await.unwrap().into_inner();
    assert_eq!((second.records.len(), second.next_page_token.as_str()), (1, ""));
    assert_eq!(second.records[0].id, "299");
}

fn exists() -> pb::Filter {
    pb::Filter { condition: Some(Condition::Exists(pb::FieldExists { field: "topic".into() })) }
}

fn nested(levels: usize) -> pb::Filter {
    (0..levels).fold(exists(), |part, _| pb::Filter { condition: Some(Condition::Not(Box::new(part))) })
}

fn any_of(filters: Vec<pb::Filter>) -> pb::Filter {
    pb::Filter { condition: Some(Condition::AnyOf(pb::FilterList { filters })) }
}

#[tokio::test]
async fn a_bad_filter_is_refused_by_its_place_in_every_call() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    filled(&server).await;
    let mut client = server.vectors().await;
    let field = || "words".to_owned();
    let range = |number| {
        let lower = Some(pb::field_range::Lower::AtLeast(value(Kind::DoubleValue(number))));
        pb::Filter { condition: Some(Condition::Range(pb::FieldRange { field: field(), lower, upper: None })) }
    };
    let equals = |value| pb::Filter { condition: Some(Condition::Equals(pb::FieldEquals { field: field(), value })) };
    let one_of = |values| pb::Filter { condition: Some(Condition::In(pb::FieldIn { field: field(), values })) };
    for (filter, expected) in [
        (pb::Filter::default(), "filter: no condition is set: expected one of `all_of`"),
        (nested(16), "filter is at most 16 levels deep"),
        (nested(60), "filter is at most 16 levels deep"),
        (any_of(vec![exists(); 1024]), "filter.any_of: a filter has at most 1024 nodes"),
        (any_of(vec![any_of(vec![exists(); 600]); 2]), "filter.any_of: a filter has at most 1024 nodes"),
        (
            any_of(vec![exists(), range(f64::NAN)]),
            "filter.any_of[1].range.at_least: expected a finite number, but got NaN",
        ),
        (range(f64::INFINITY), "filter.range.at_least: expected a finite number, but got inf"),
        (equals(None), "filter.equals.value: must be set"),
        (equals(Some(value(Kind::ListValue(pb::ListValue::default())))), "filter.equals.value: expected null, a bool"),
        (one_of(vec![]), "filter.in.values: expected 1 to 10000 values, but got 0"),
        (one_of(vec![value(Kind::IntValue(1)); 10_001]), "filter.in.values: expected 1 to 10000 values, but got 10001"),
    ] {
        let filter = || Some(filter.clone());
        let collection = || "default".to_owned();
        let selector = Some(Selector::Filter(filter().unwrap()));
        let refused = [
            client.search(search(filter().unwrap(), 1)).await.unwrap_err(),
            client
                .count(pb::CountRequest { collection: collection(), filter: filter(), min_sequence: 0 })
                .await
                .unwrap_err(),
            client
                .list(pb::ListRequest { collection: collection(), filter: filter(), ..Default::default() })
                .await
                .unwrap_err(),
            client
                .delete(pb::DeleteRequest { collection: collection(), selector, ..Default::default() })
                .await
                .unwrap_err(),
        ];
        for status in refused {
            assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
            assert_eq!(status.get_details_error_info().unwrap().reason, "INVALID_FILTER");
            assert!(status.get_details_bad_request().unwrap().field_violations[0].field.starts_with("filter"));
            assert!(status.message().contains(expected), "no {expected:?} in {:?}", status.message());
        }
    }
    // Deeper than messages are decoded at all.
    let status = client.search(search(nested(2_000), 1)).await.unwrap_err();
    assert!(status.message().contains("recursion limit"), "{status:?}");
    assert!(!server.logged().contains("panicked"), "{}", server.logged());
}

#[tokio::test]
async fn bad_json_is_refused_by_its_place() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    filled(&server).await;
    let body = |filter: Value| json!({"vector": [1, 0], "filter": filter});
    let mut deep = json!({"exists": {"field": "topic"}});
    for _ in 0..40 {
        deep = json!({"not": deep});
    }
    for (filter, expected) in [
        (json!([]), "filter: expected one of `all_of`"),
        (json!({}), "filter: expected one of `all_of`"),
        (json!({"equal": {"field": "topic", "value": 1}}), "but got \"equal\""),
        (
            json!({"not": {"equals": {"fields": "topic", "value": 1}}}),
            "filter.not.equals: expected `field`, `value`, but got \"fields\"",
        ),
        (json!({"in": {"field": "topic", "values": []}}), "filter.in.values: expected 1 to 10000 values"),
        (
            json!({"range": {"field": "words", "at_least": "NaN"}}),
            "filter.range.at_least: expected a number, but got a string",
        ),
        (deep, "at most 16 levels deep"),
        (
            json!({"all_of": vec![json!({"exists": {"field": "topic"}}); 2000]}),
            "filter.all_of: a filter has at most 1024 nodes",
        ),
    ] {
        for path in ["/search/vector", "/search/text"] {
            let mut body = body(filter.clone());
            if path == "/search/text" {
                body = json!({"text": "x", "filter": filter});
            }
            let (status, answer) = server.post(path, body).await;
            assert_eq!((status, &answer["code"]), (400, &json!("INVALID_FILTER")), "{answer}");
            let message = answer["message"].as_str().unwrap();
            assert!(message.contains(expected), "no {expected:?} in {message:?}");
        }
    }
    let bomb = format!("{{\"vector\": [1, 0], \"filter\": {}1{}}}", "{\"not\": ".repeat(100_000), "}".repeat(100_000));
    let request = http().post(server.url("/search/vector")).header("content-type", "application/json").body(bomb);
    let (status, answer) = common::answer(request).await;
    assert_eq!((status, &answer["success"]), (400, &json!(false)), "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("recursion limit"), "{answer}");
    assert_eq!(server.post("/search/vector", body(Value::Null)).await.0, 200, "null is no filter");
    assert!(!server.logged().contains("panicked"), "{}", server.logged());
}
