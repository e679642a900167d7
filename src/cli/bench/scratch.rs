//! A collection of the benchmark's own, and the few calls around the load.

use std::time::Duration;

use tonic::transport::Channel;
use uuid::Uuid;

use super::BenchError;
use super::connection::refusal;
use super::encoding::Encoding;
use super::server::Server;
use super::vectors::Vectors;
use crate::pb::v1 as pb;
use crate::pb::v1::admin_service_client::AdminServiceClient;
use crate::pb::v1::collection_service_client::CollectionServiceClient;
use crate::pb::v1::vector_service_client::VectorServiceClient;
use crate::types::limits::MESSAGE_BYTES_MAX;

/// Components of one call that fills a collection: some megabytes.
const FILL_COMPONENTS: usize = 1 << 19;

/// How often a server is asked whether it has settled.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The record's id: of constant length, so that every message of a run has the same size.
pub fn record_id(number: u64) -> String {
    format!("{number:012}")
}

/// The number in an id.
pub fn record_number(id: &str) -> Option<u64> {
    id.parse().ok()
}

/// The generated client, for the calls around the load.
pub async fn vector_client(server: &Server) -> Result<VectorServiceClient<Channel>, BenchError> {
    let client = VectorServiceClient::new(server.channel().await?);
    Ok(client.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX))
}

/// A collection with a name that is in nobody's way. To be removed: a server that was not started here keeps it.
pub struct Scratch {
    name: String,
    collections: CollectionServiceClient<Channel>,
}

impl Scratch {
    /// Creates it, with one space of this dimension.
    pub async fn create(server: &Server, dimension: usize) -> Result<Self, BenchError> {
        let name = format!("bench-{}", Uuid::new_v4());
        let space =
            pb::Space { name: "vectors".to_owned(), dimension: u32::try_from(dimension)?, ..Default::default() };
        let collection = pb::Collection {
            name: name.clone(),
            description: "Made by `vectron bench`, which removes it.".to_owned(),
            spaces: vec![space],
            ..Default::default()
        };
        let mut collections = CollectionServiceClient::new(server.channel().await?);
        let request = pb::CreateCollectionRequest { collection: Some(collection), ..Default::default() };
        collections.create_collection(request).await.map_err(|status| refusal(&status))?;
        Ok(Self { name, collections })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes the first `records` vectors.
    pub async fn fill(&self, server: &Server, vectors: &Vectors, records: u64) -> Result<(), BenchError> {
        let mut client = vector_client(server).await?;
        let batch = (FILL_COMPONENTS / vectors.dimension()).clamp(1, 1000) as u64;
        for first in (0..records).step_by(batch as usize) {
            let request = pb::UpsertRequest {
                collection: self.name.clone(),
                records: (first..records.min(first + batch)).map(|number| record(vectors, number)).collect(),
                durability: pb::Durability::Buffered.into(),
                ..Default::default()
            };
            client.upsert(request).await.map_err(|status| refusal(&status))?;
        }
        Ok(())
    }

    /// Waits until everything is built that waits to be.
    pub async fn settle(&self, server: &Server) -> Result<(), BenchError> {
        let mut admin = AdminServiceClient::new(server.channel().await?);
        loop {
            let request = pb::GetStatisticsRequest::default();
            let answer = admin.get_statistics(request).await.map_err(|status| refusal(&status))?.into_inner();
            let own = answer.collections.iter().find(|collection| collection.name == self.name);
            if own.is_none_or(|collection| collection.settled) {
                return Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Drops it.
    pub async fn remove(mut self) -> Result<(), BenchError> {
        let request = pb::DeleteCollectionRequest { name: self.name, ..Default::default() };
        self.collections.delete_collection(request).await.map_err(|status| refusal(&status))?;
        Ok(())
    }
}

fn record(vectors: &Vectors, number: u64) -> pb::RecordInput {
    let components = Some(Encoding::Bytes.components(vectors, number));
    let vector = Some(pb::Vector { components, space: String::new() });
    pb::RecordInput { id: record_id(number), vector, ..Default::default() }
}
