//! Models that providers run: texts over HTTP, embeddings back, and what becomes of a provider that misbehaves.
//!
//! A call is cut into requests of what the provider takes, some of them at once. Each request has a deadline, and is tried
//! again where that may help. A provider that fails again and again is left alone for a while. What comes back is read up
//! to a bound and checked: so many embeddings, of the right dimension, of finite numbers, in the order of the texts. All of
//! it runs in the caller's task: a caller that leaves takes its requests along.
//!
//! - `key`: the secret, which nothing prints;
//! - `tokenizer`: cutting texts where their tokens can be counted here;
//! - `split`: texts into requests;
//! - `wire`: the JSON of each provider;
//! - `attempt`: one try of one request;
//! - `breaker`: whether to try at all;
//! - `error`: why there is no answer.
//!
//! Redirects are not followed: the key would go along.

mod attempt;
mod breaker;
mod error;
mod key;
mod split;
mod tokenizer;
mod wire;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;

pub(crate) use attempt::Http;
use breaker::Breaker;
pub(crate) use error::{ErrorKind, ProviderError};
use key::Key;
pub(crate) use key::KeyProblem;
use tokenizer::Prepared;

use crate::model::{Input, ModelSpec, RemoteSpec};

/// The first pause between two tries; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// The longest pause, unless the provider asks for a longer one.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A model that a provider runs.
pub(crate) struct RemoteModel {
    spec: ModelSpec,
    remote: RemoteSpec,
    fingerprint: String,
    key: Result<Option<Key>, KeyProblem>,
    http: Arc<Http>,
    breaker: Breaker,
    /// One permit for each request at once, so that one caller's many texts do not run into the provider's own limits.
    requests: Semaphore,
}

/// The embedding of one text.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RemoteEmbedding {
    pub(crate) components: Vec<f32>,
    /// Where a tokenizer is known: counted. Else this text's share, by bytes, of what the provider says of its request; 0
    /// where it says nothing.
    pub(crate) tokens: usize,
    /// Whether it was cut here. Whether the provider cut it, none of them says.
    pub(crate) truncated: bool,
}

impl RemoteModel {
    /// Reads the key from the environment. Asks nobody anything.
    pub(crate) fn new(spec: ModelSpec, remote: RemoteSpec, http: Arc<Http>) -> Self {
        let key = remote.key_env.as_deref().map(Key::from_environment).transpose();
        if matches!(key, Ok(Some(_))) && is_in_the_clear(&remote.base_url) {
            tracing::warn!("model {}: its key goes to {} in the clear", spec.id, remote.base_url);
        }
        let fingerprint = spec.fingerprint().expect("that of a remote model is decided by the registry");
        let (breaker, requests) = (Breaker::new(&spec.id), Semaphore::new(remote.limits.requests_max));
        Self { spec, remote, fingerprint, key, http, breaker, requests }
    }

    /// What the registry says of the model.
    pub(crate) fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// See `ModelSpec::fingerprint`.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// What is wrong with the key, if something is.
    pub(crate) fn key_problem(&self) -> Option<&KeyProblem> {
        self.key.as_ref().err()
    }

    /// For how long the provider is left alone from now on, because it failed again and again.
    pub(crate) fn rests_for(&self) -> Option<Duration> {
        self.breaker.rests_for(Instant::now())
    }

    /// The embeddings of `texts`, in their order, as the provider scales them.
    pub(crate) async fn embed(&self, texts: &[String], input: Input) -> Result<Vec<RemoteEmbedding>, ProviderError> {
        let key = self.key.as_ref().map_err(|problem| ProviderError::no_key(problem.to_string()))?.as_ref();
        let texts = tokenizer::prepare(&self.spec, self.remote.tokenizer, texts, input).await;
        let limits = &self.remote.limits;
        let weights = texts.iter().map(Prepared::weight);
        let requests = split::into_requests(weights, limits.texts_max, limits.tokens_max);
        let answers = stream::iter(requests)
            .map(|range| self.request(&texts, range, input, key))
            .buffered(limits.requests_max)
            .try_collect::<Vec<_>>()
            .await?;
        let components = answers.into_iter().flatten();
        Ok(texts
            .iter()
            .zip(components)
            .map(|(text, (components, tokens))| {
                let tokens = text.tokens.unwrap_or(tokens);
                RemoteEmbedding { components, tokens, truncated: text.truncated }
            })
            .collect())
    }

    /// Embeddings and tokens of one request's texts.
    async fn request(
        &self,
        texts: &[Prepared],
        range: Range<usize>,
        input: Input,
        key: Option<&Key>,
    ) -> Result<Vec<(Vec<f32>, usize)>, ProviderError> {
        let texts: Vec<&str> = texts[range].iter().map(|text| text.text.as_str()).collect();
        let body = Bytes::from(wire::body(&self.spec, &self.remote, &texts, input));
        let _turn = self.requests.acquire().await.expect("it is never closed");

        let deadline = Instant::now() + self.remote.limits.time_max;
        let attempt = || self.attempt(body.clone(), texts.len(), key, deadline);
        let answer = attempt
            .retry(self.pauses())
            .when(ProviderError::may_pass)
            .adjust(|error, pause| {
                let pause = pause?.max(error.retry_after.unwrap_or_default());
                let now = Instant::now();
                // Where the next try would not be made, or have no time left, nobody has to wait for it.
                let rests = self.breaker.rests_for(now).is_some_and(|rest| rest > pause);
                (!rests && now + pause < deadline).then_some(pause)
            })
            .notify(|error, pause| tracing::debug!("model {}: {error}; again in {pause:?}", self.spec.id))
            .await?;
        let tokens = split::share(answer.tokens.unwrap_or(0), &texts);
        Ok(answer.embeddings.into_iter().zip(tokens).collect())
    }

    /// One try, unless the provider is left alone.
    async fn attempt(
        &self,
        body: Bytes,
        count: usize,
        key: Option<&Key>,
        deadline: Instant,
    ) -> Result<wire::Answer, ProviderError> {
        let pass = self.breaker.enter(Instant::now()).map_err(ProviderError::resting)?;
        let deadline = deadline.min(Instant::now() + self.remote.limits.try_time_max);
        let answer = self.http.post(&self.spec, &self.remote, body, count, key, deadline).await;
        match &answer {
            Err(error) if error.kind == ErrorKind::Unavailable => pass.failed(Instant::now()),
            // What it refuses or garbles, it answers.
            _ => pass.succeeded(),
        }
        answer
    }

    fn pauses(&self) -> ExponentialBuilder {
        ExponentialBuilder::default()
            .with_min_delay(PAUSE_MIN)
            .with_max_delay(PAUSE_MAX)
            .with_max_times(self.remote.limits.tries_max - 1)
            .with_jitter()
    }
}

/// Whether others on the way could read what is sent.
fn is_in_the_clear(url: &str) -> bool {
    url.starts_with("http:") && !attempt::is_here(url)
}
