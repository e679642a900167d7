//! Instruction sets: the real process with each of those that this machine has, on the same vectors.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use common::{Server, Texts, command, data_folder};
use vectron::pb::v1 as pb;
use vectron::pb::v1::search_request::Query;

const ROWS: usize = 3000;
const DIMENSION: usize = 128;
const TOP_K: usize = 10;

/// Numbers from -1 to 1, the same for the same seed (SplitMix64).
fn vector(seed: usize) -> pb::Vector {
    let mut state = seed as u64;
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let values = (0..DIMENSION).map(|_| next()).collect();
    pb::Vector { components: Some(pb::vector::Components::Floats(pb::FloatArray { values })), space: String::new() }
}

/// Ids and scores of the hits of one query.
type Hits = Vec<(String, f32)>;

/// What a server with those kernels answers, by whichever way it chooses and by exact search, and the kernels that it has.
async fn answers(kernels: &str, metric: pb::Metric) -> (String, Vec<Hits>) {
    let data = data_folder();
    let mut command = command(data.path(), Texts::Away);
    command.env("VECTRON_CPU", kernels);
    let server = Server::run(command, Texts::Away);
    let info = server.admin().await.get_server_info(pb::GetServerInfoRequest {}).await.unwrap().into_inner();

    let space =
        pb::Space { name: "s".into(), dimension: DIMENSION as u32, metric: metric.into(), ..Default::default() };
    let collection = Some(pb::Collection { name: "c".into(), spaces: vec![space], ..Default::default() });
    let request = pb::CreateCollectionRequest { collection, ..Default::default() };
    server.collections().await.create_collection(request).await.unwrap();
    let mut client = server.vectors().await;
    let record =
        |row: usize| pb::RecordInput { id: format!("{row:04}"), vector: Some(vector(row)), ..Default::default() };
    for first in (0..ROWS).step_by(1000) {
        let records = (first..first + 1000).map(record).collect();
        client.upsert(pb::UpsertRequest { collection: "c".into(), records, ..Default::default() }).await.unwrap();
    }
    let mut answers = Vec::new();
    for query in 0..40 {
        for exact in [false, true] {
            let request = pb::SearchRequest {
                collection: "c".into(),
                query: Some(Query::Vector(vector(1_000_000 + query))),
                // One more than is compared: a tie may lie at the border.
                top_k: Some(TOP_K as u32 + 1),
                exact,
                ..Default::default()
            };
            let found = client.search(request).await.unwrap().into_inner();
            answers.push(found.hits.into_iter().map(|hit| (hit.record.unwrap().id, hit.score)).collect());
        }
    }
    (info.kernel, answers)
}

#[tokio::test]
async fn every_instruction_set_gives_the_same_answers() {
    let available: Vec<&str> = vectron::quantization::available().iter().map(|kernels| kernels.name).collect();
    for metric in [pb::Metric::Cosine, pb::Metric::DotProduct, pb::Metric::Euclidean] {
        let (kernel, expected) = answers("scalar", metric).await;
        assert_eq!(kernel, "scalar");
        for &name in &available[1..] {
            let (kernel, got) = answers(name, metric).await;
            assert_eq!(kernel, name);
            for (number, (got, expected)) in got.iter().zip(&expected).enumerate() {
                compare(&format!("{name}, {metric:?}, answer {number}"), got, expected);
            }
        }
    }
}

/// Panics unless places have the same scores, and ids too but for ties.
fn compare(name: &str, got: &Hits, expected: &Hits) {
    assert_eq!((got.len(), expected.len()), (TOP_K + 1, TOP_K + 1), "{name}");
    let is_near = |a: f32, b: f32| (a - b).abs() <= 1e-5 * b.abs().max(1.0);
    for (hit, wanted) in got.iter().zip(expected) {
        assert!(is_near(hit.1, wanted.1), "{name}: {hit:?}, but scalar {wanted:?}");
    }
    for hit in &got[..TOP_K] {
        let same = expected.iter().find(|wanted| wanted.0 == hit.0);
        // What is not there at all can only have been tied with the last.
        let (_, score) = same.unwrap_or(&expected[TOP_K]);
        assert!(is_near(hit.1, *score), "{name}: {hit:?} is not among {expected:?}");
    }
}
