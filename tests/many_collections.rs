//! Many collections that are written to at once, each with its own log: how fast together, and how fairly.
//!
//! Measures a disk, so it does not run by itself: `cargo test --release --test many_collections -- --ignored --nocapture`.
//! TMPDIR chooses the disk.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Server, Texts, data_folder};
use vectron::pb::v1 as pb;
use vectron::pb::v1::vector_service_client::VectorServiceClient;

const COLLECTIONS: usize = 16;
const TIME: Duration = Duration::from_secs(8);

fn upsert(collection: usize, id: u64) -> pb::UpsertRequest {
    let values = (0..384).map(|component| (id + component + 1) as f32).collect();
    let components = Some(pb::vector::Components::Floats(pb::FloatArray { values }));
    let vector = Some(pb::Vector { components, ..Default::default() });
    pb::UpsertRequest {
        collection: format!("c{collection}"),
        records: vec![pb::RecordInput { id: id.to_string(), vector, ..Default::default() }],
        create_missing: true,
        ..Default::default()
    }
}

/// Single durable upserts, one after the other in each collection, for a while; how many each has had acknowledged.
async fn commits(server: &Server, collections: std::ops::Range<usize>) -> Vec<f64> {
    let mut writers = Vec::new();
    let start = Arc::new(tokio::sync::Barrier::new(collections.len()));
    for collection in collections {
        let (channel, start) = (server.channel().await, start.clone());
        writers.push(tokio::spawn(async move {
            let mut client = VectorServiceClient::new(channel);
            client.upsert(upsert(collection, 0)).await.unwrap();
            start.wait().await;
            let (began, mut done) = (Instant::now(), 0_u64);
            while began.elapsed() < TIME {
                client.upsert(upsert(collection, done)).await.unwrap();
                done += 1;
            }
            done as f64 / began.elapsed().as_secs_f64()
        }));
    }
    let mut each = Vec::new();
    for writer in writers {
        each.push(writer.await.unwrap());
    }
    each
}

#[tokio::test]
#[ignore = "measures the disk for 16 seconds"]
#[expect(clippy::print_stdout, reason = "figures are what it is for")]
async fn sixteen_collections_commit_together_and_none_is_left_behind() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let alone: f64 = commits(&server, COLLECTIONS..COLLECTIONS + 1).await.iter().sum();
    let each = commits(&server, 0..COLLECTIONS).await;
    let together: f64 = each.iter().sum();
    let (least, most) = each.iter().fold((f64::MAX, 0.0), |(least, most), &rate| (rate.min(least), rate.max(most)));
    println!(
        "one alone: {alone:.0} commits/s; {COLLECTIONS} at once: {together:.0} commits/s, each {least:.1} to {most:.1}"
    );
    assert!(together >= 150.0, "{together:.0} commits/s");
    assert!(most < 2.0 * least, "{least:.1} to {most:.1}");
}
