//! The gRPC door: messages of the contract to and from the handlers.

use bytes::Bytes;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use super::compare;
use super::error::ApiError;
use super::handlers::{Embed, Embedded, Handlers};
use super::sending::UntilSent;
use super::stream;
use super::texts::CheckedTexts;
use crate::auth::Pass;
use crate::batch::Held;
use crate::catalogue::{Model, ModelState};
use crate::engine::TextEmbedding;
use crate::model::Input;
use crate::pb::v1 as pb;
use crate::port::Deadline;

/// Serves `vectron.embedding.v1.EmbeddingService`.
pub(super) struct EmbeddingApi {
    pub(super) handlers: Handlers,
    pub(super) stopping: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl pb::embedding_service_server::EmbeddingService for EmbeddingApi {
    async fn embed(&self, request: Request<pb::EmbedRequest>) -> Result<Response<pb::EmbedResponse>, Status> {
        let deadline = request.extensions().get::<Deadline>().map(|deadline| deadline.0);
        let request = Embed { deadline, ..Embed::try_from(request.into_inner())? };
        let embedded = self.handlers.embed(request).await?;
        let (answer, held) = embedded.into_answer();
        let mut response = Response::new(answer);
        response.extensions_mut().insert(UntilSent::new(held));
        Ok(response)
    }

    type StreamEmbedStream = stream::Answers;

    async fn stream_embed(
        &self,
        requests: Request<Streaming<pb::StreamEmbedRequest>>,
    ) -> Result<Response<Self::StreamEmbedStream>, Status> {
        let pass = requests.extensions().get::<Pass>().cloned();
        let answers = stream::answers(self.handlers.clone(), requests.into_inner(), pass, self.stopping.clone());
        Ok(Response::new(answers))
    }

    async fn list_models(
        &self,
        request: Request<pb::ListModelsRequest>,
    ) -> Result<Response<pb::ListModelsResponse>, Status> {
        let request = request.into_inner();
        let page = self.handlers.list(request.page_size, &request.page_token)?;
        let models = page.models.iter().map(|model| self.describe(model)).collect();
        Ok(Response::new(pb::ListModelsResponse { models, next_page_token: page.next_token }))
    }

    async fn get_model(&self, request: Request<pb::GetModelRequest>) -> Result<Response<pb::GetModelResponse>, Status> {
        let model = self.handlers.model(&request.into_inner().model_id)?;
        Ok(Response::new(pb::GetModelResponse { model: Some(self.describe(model)) }))
    }

    type BenchmarkModelsStream = compare::Answers;

    async fn benchmark_models(
        &self,
        request: Request<pb::BenchmarkModelsRequest>,
    ) -> Result<Response<Self::BenchmarkModelsStream>, Status> {
        let answers = compare::answers(&self.handlers, request.into_inner(), self.stopping.clone())?;
        Ok(Response::new(answers))
    }
}

impl EmbeddingApi {
    fn describe(&self, model: &Model) -> pb::Model {
        let told = model.state();
        let state = match told {
            ModelState::NotLoaded => pb::ModelState::NotLoaded,
            ModelState::Loading => pb::ModelState::Loading,
            ModelState::Ready { .. } => pb::ModelState::Ready,
            ModelState::Failed { .. } => pb::ModelState::Failed,
            ModelState::NoKey { .. } => pb::ModelState::NoKey,
        };
        let spec = model.spec();
        pb::Model {
            id: spec.id.clone(),
            provider: spec.provider_name().to_owned(),
            model_name: spec.model_name.clone(),
            dimension: u32::try_from(spec.dimension).unwrap_or(u32::MAX),
            tokens_max: u32::try_from(spec.tokens_max).unwrap_or(u32::MAX),
            is_default: spec.id == self.handlers.models.default().spec().id,
            state: state.into(),
            state_reason: told.reason().to_owned(),
            fingerprint: model.fingerprint().unwrap_or_default(),
            precision: spec.precision_name().unwrap_or_default().to_owned(),
        }
    }
}

impl TryFrom<pb::EmbedRequest> for Embed {
    type Error = ApiError;

    fn try_from(request: pb::EmbedRequest) -> Result<Self, ApiError> {
        let input = match pb::InputType::try_from(request.input_type) {
            Ok(pb::InputType::Unspecified | pb::InputType::Document) => Input::Document,
            Ok(pb::InputType::Query) => Input::Query,
            Err(_) => return Err(ApiError::UnknownInputType { value: request.input_type }),
        };
        let pb::EmbedRequest { texts, model_id, normalize, .. } = request;
        let texts = CheckedTexts::new(texts)?;
        // What calls store and compare must never come from another space.
        Ok(Self { texts, model_id, normalize, input, any_space: false, deadline: None })
    }
}

impl Embedded {
    /// The answer, and what it holds until it is sent.
    pub(super) fn into_answer(self) -> (pb::EmbedResponse, Held) {
        let answer = pb::EmbedResponse {
            embeddings: self.embeddings.into_iter().map(pb::Embedding::from).collect(),
            model_id: self.model_id,
            fingerprint: self.fingerprint,
            dimension: u32::try_from(self.dimension).unwrap_or(u32::MAX),
            times: Some(pb::EmbedTimes {
                tokenize_us: self.tokenize_us,
                queue_us: self.queue_us,
                inference_us: self.inference_us,
            }),
        };
        (answer, self.held)
    }
}

impl From<TextEmbedding> for pb::Embedding {
    fn from(embedding: TextEmbedding) -> Self {
        let f32_le: Vec<u8> = embedding.components.iter().flat_map(|component| component.to_le_bytes()).collect();
        Self {
            f32_le: Bytes::from(f32_le),
            tokens: u32::try_from(embedding.tokens).unwrap_or(u32::MAX),
            truncated: embedding.truncated,
            cached: embedding.cached,
        }
    }
}
