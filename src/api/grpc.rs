//! The gRPC door: thin adapters from the generated services to the handlers.

use std::pin::Pin;

use tokio_stream::Stream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use crate::api::handlers::{Handlers, SearchAnswers};
use crate::pb::{self, v1};
use crate::types::limits::MESSAGE_BYTES_MAX;
use v1::admin_service_server::{AdminService, AdminServiceServer};
use v1::collection_service_server::{CollectionService, CollectionServiceServer};
use v1::vector_service_server::{VectorService, VectorServiceServer};

/// The services and reflection (v1 and v1alpha).
pub fn routes(handlers: Handlers) -> Routes {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let described = "the descriptor set comes from the build";
    Routes::new(VectorServiceServer::new(handlers.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(CollectionServiceServer::new(handlers.clone()))
        .add_service(AdminServiceServer::new(handlers))
        .add_service(reflection().build_v1().expect(described))
        .add_service(reflection().build_v1alpha().expect(described))
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl VectorService for Handlers {
    type StreamUpsertStream = Answers<v1::StreamUpsertResponse>;
    type StreamSearchStream = SearchAnswers<Streaming<v1::StreamSearchRequest>>;

    async fn upsert(&self, request: Request<v1::UpsertRequest>) -> Result<Response<v1::UpsertResponse>, Status> {
        Ok(Response::new(self.upsert(request.into_inner()).await?))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        Ok(Response::new(self.get(request.into_inner()).await?))
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Result<Response<v1::DeleteResponse>, Status> {
        Ok(Response::new(self.delete(request.into_inner()).await?))
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn count(&self, request: Request<v1::CountRequest>) -> Result<Response<v1::CountResponse>, Status> {
        Ok(Response::new(self.count(request.into_inner()).await?))
    }

    async fn search(&self, request: Request<v1::SearchRequest>) -> Result<Response<v1::SearchResponse>, Status> {
        Ok(Response::new(self.search(request.into_inner()).await?))
    }

    async fn stream_upsert(
        &self,
        requests: Request<Streaming<v1::StreamUpsertRequest>>,
    ) -> Result<Response<Self::StreamUpsertStream>, Status> {
        Ok(Response::new(Box::pin(self.stream_upsert(requests.into_inner()))))
    }

    async fn stream_search(
        &self,
        queries: Request<Streaming<v1::StreamSearchRequest>>,
    ) -> Result<Response<Self::StreamSearchStream>, Status> {
        Ok(Response::new(self.stream_search(queries.into_inner())))
    }
}

#[tonic::async_trait]
impl CollectionService for Handlers {
    async fn create_collection(
        &self,
        request: Request<v1::CreateCollectionRequest>,
    ) -> Result<Response<v1::CreateCollectionResponse>, Status> {
        Ok(Response::new(self.create_collection(request.into_inner()).await?))
    }

    async fn get_collection(
        &self,
        request: Request<v1::GetCollectionRequest>,
    ) -> Result<Response<v1::GetCollectionResponse>, Status> {
        Ok(Response::new(self.get_collection(request.into_inner()).await?))
    }

    async fn list_collections(
        &self,
        request: Request<v1::ListCollectionsRequest>,
    ) -> Result<Response<v1::ListCollectionsResponse>, Status> {
        Ok(Response::new(self.list_collections(request.into_inner()).await?))
    }

    async fn update_collection(
        &self,
        request: Request<v1::UpdateCollectionRequest>,
    ) -> Result<Response<v1::UpdateCollectionResponse>, Status> {
        Ok(Response::new(self.update_collection(request.into_inner()).await?))
    }

    async fn delete_collection(
        &self,
        request: Request<v1::DeleteCollectionRequest>,
    ) -> Result<Response<v1::DeleteCollectionResponse>, Status> {
        Ok(Response::new(self.delete_collection(request.into_inner()).await?))
    }
}

#[tonic::async_trait]
impl AdminService for Handlers {
    type DownloadSnapshotStream = Answers<v1::DownloadSnapshotResponse>;

    async fn get_server_info(
        &self,
        _: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::GetServerInfoResponse>, Status> {
        Ok(Response::new(self.server_info().await?))
    }

    async fn get_statistics(
        &self,
        _: Request<v1::GetStatisticsRequest>,
    ) -> Result<Response<v1::GetStatisticsResponse>, Status> {
        Ok(Response::new(self.statistics().await?))
    }

    async fn run_benchmark(
        &self,
        request: Request<v1::RunBenchmarkRequest>,
    ) -> Result<Response<v1::RunBenchmarkResponse>, Status> {
        Ok(Response::new(self.run_benchmark(request.into_inner()).await?))
    }

    async fn create_snapshot(
        &self,
        request: Request<v1::CreateSnapshotRequest>,
    ) -> Result<Response<v1::CreateSnapshotResponse>, Status> {
        Ok(Response::new(self.create_snapshot(request.into_inner()).await?))
    }

    async fn list_snapshots(
        &self,
        request: Request<v1::ListSnapshotsRequest>,
    ) -> Result<Response<v1::ListSnapshotsResponse>, Status> {
        Ok(Response::new(self.list_snapshots(request.into_inner()).await?))
    }

    async fn delete_snapshot(
        &self,
        request: Request<v1::DeleteSnapshotRequest>,
    ) -> Result<Response<v1::DeleteSnapshotResponse>, Status> {
        Ok(Response::new(self.delete_snapshot(request.into_inner()).await?))
    }

    async fn restore_snapshot(
        &self,
        request: Request<v1::RestoreSnapshotRequest>,
    ) -> Result<Response<v1::RestoreSnapshotResponse>, Status> {
        Ok(Response::new(self.restore_snapshot(request.into_inner()).await?))
    }

    async fn download_snapshot(
        &self,
        request: Request<v1::DownloadSnapshotRequest>,
    ) -> Result<Response<Self::DownloadSnapshotStream>, Status> {
        Ok(Response::new(Box::pin(self.download_snapshot(request.into_inner()).await?)))
    }

    async fn upload_snapshot(
        &self,
        requests: Request<Streaming<v1::UploadSnapshotRequest>>,
    ) -> Result<Response<v1::UploadSnapshotResponse>, Status> {
        Ok(Response::new(self.upload_snapshot(requests.into_inner()).await?))
    }
}
