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
//! - `size`: what they take in memory;
//! - `wire`: the JSON of each provider;
//! - `attempt`: one try of one request;
//! - `pace`: when to try: turns, and what the provider itself wants;
//! - `breaker`: whether to try at all;
//! - `error`: why there is no answer.
//!
//! Redirects are not followed: the key would go along.

mod attempt;
mod breaker;
mod error;
mod key;
mod pace;
mod size;
mod split;
mod tokenizer;
mod wire;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;

use attempt::Attempt;
pub(crate) use attempt::Http;
use breaker::Breaker;
pub(crate) use error::{ErrorKind, ProviderError};
use key::Key;
pub(crate) use key::KeyProblem;
use pace::{NoTurn, Pace, Turn};
use tokenizer::Prepared;

use crate::batch::WhenFull;
use crate::figures;
use crate::model::{Input, ModelSpec, RemoteSpec};

/// The first pause between two tries; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// The longest pause, unless the provider asks for a longer one.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A try after a pause or a wait that would have less is not made, unless models.toml gives it less.
const TRY_TIME_MIN: Duration = Duration::from_secs(1);
/// Components that one answer may have: as JSON 256 MiB at most. Requests have no more texts than that.
const COMPONENTS_MAX: usize = 8 << 20;
/// Calls whose texts are cut at once.
const CUTTING_MAX: usize = 4;

/// A model that a provider runs.
pub(crate) struct RemoteModel {
    spec: ModelSpec,
    /// That of `spec`, shared with it.
    remote: Arc<RemoteSpec>,
    fingerprint: String,
    key: Result<Option<Key>, KeyProblem>,
    http: Arc<Http>,
    breaker: Breaker,
    pace: Pace,
    /// For each call whose texts are being cut: so much goes on at most for callers that have left.
    cutting: Arc<Semaphore>,
    /// Whether it was said that it takes fewer texts than models.toml says.
    is_too_much_told: AtomicBool,
}

/// How texts are to be embedded.
#[derive(Clone, Copy)]
pub(crate) struct Asking {
    pub(crate) input: Input,
    /// Whether they wait in line for as long as it takes.
    pub(crate) when_full: WhenFull,
    /// What the caller can wait for.
    pub(crate) until: Option<Instant>,
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
    pub(crate) fn new(spec: ModelSpec, remote: Arc<RemoteSpec>, http: Arc<Http>) -> Self {
        let key = remote.key_env.as_deref().map(Key::from_environment).transpose();
        if matches!(key, Ok(Some(_))) && is_in_the_clear(&remote.base_url) {
            tracing::warn!("model {}: its key goes to {} in the clear", spec.id, remote.base_url);
        }
        let fingerprint = spec.fingerprint_there(&remote);
        let (breaker, pace) = (Breaker::new(&spec.id), Pace::new(remote.limits.requests_max));
        let cutting = Arc::new(Semaphore::new(CUTTING_MAX));
        Self { spec, remote, fingerprint, key, http, breaker, pace, cutting, is_too_much_told: AtomicBool::new(false) }
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

    /// For how long the provider wants to be left alone from now on, because it was asked for too much.
    pub(crate) fn holds_off(&self) -> Option<Duration> {
        self.pace.holds_off(Instant::now())
    }

    /// What `texts` come to be in memory on their way there, their prompts and requests included.
    pub(crate) fn bytes_for(&self, texts: &[String], input: Input) -> usize {
        size::bytes_of_request(&self.spec, texts, input)
    }

    /// The embeddings of `texts`, in their order, as the provider scales them.
    pub(crate) async fn embed(&self, texts: &[String], asking: Asking) -> Result<Vec<RemoteEmbedding>, ProviderError> {
        let key = self.key.as_ref().map_err(|problem| ProviderError::no_key(problem.to_string()))?.as_ref();
        let texts = tokenizer::prepare(&self.spec, self.remote.tokenizer, texts, asking.input, &self.cutting).await;
        let limits = &self.remote.limits;
        let weights = texts.iter().map(Prepared::weight);
        let texts_max = limits.texts_max.min(COMPONENTS_MAX / self.spec.dimension).max(1);
        let requests = split::into_requests(weights, texts_max, limits.tokens_max);
        let answers = stream::iter(requests)
            .map(|range| self.embed_range(&texts, range, asking, key))
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

    /// Embeddings and tokens of some texts: by one request, or by halves of it for as long as the provider refuses so many.
    async fn embed_range(
        &self,
        texts: &[Prepared],
        range: Range<usize>,
        asking: Asking,
        key: Option<&Key>,
    ) -> Result<Vec<(Vec<f32>, usize)>, ProviderError> {
        let mut done = Vec::with_capacity(range.len());
        let (mut left, mut is_too_much) = (vec![range], None);
        // In the order of the texts, so that what nothing can change is told after as few requests as there are halves.
        while let Some(range) = left.pop() {
            let some: Vec<&str> = texts[range.clone()].iter().map(|text| text.text.as_str()).collect();
            match self.request(&some, asking, key).await {
                Ok(answer) => {
                    if let Some(error) = &is_too_much {
                        self.tell_too_much(range.len(), error);
                    }
                    let tokens = split::share(answer.tokens.unwrap_or(0), &some);
                    done.extend(answer.embeddings.into_iter().zip(tokens));
                }
                Err(error) if error.fewer_may_pass() && range.len() > 1 => {
                    is_too_much = Some(error);
                    let middle = range.start + range.len() / 2;
                    left.extend([middle..range.end, range.start..middle]);
                }
                // Of one text alone a refusal may be the request's as well, unless it says otherwise.
                Err(error) if error.fewer_may_pass() && (texts.len() > 1 || error.kind == ErrorKind::TextsRefused) => {
                    return Err(error.about_text(range.start));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Once: whoever reads the log can say in models.toml what each call has to find out otherwise.
    fn tell_too_much(&self, taken: usize, error: &ProviderError) {
        if !self.is_too_much_told.swap(true, Ordering::Relaxed) {
            let id = &self.spec.id;
            tracing::warn!(
                "model {id}: its provider takes {taken} texts where it refused more; set request_texts_max or \
                 request_tokens_max to what it takes: {error}"
            );
        }
    }

    /// One request, with as many tries as it may have.
    async fn request(&self, texts: &[&str], asking: Asking, key: Option<&Key>) -> Result<wire::Answer, ProviderError> {
        let body = Bytes::from(wire::body(&self.spec, &self.remote, texts, asking.input));
        let limits = &self.remote.limits;
        let mut deadline = Instant::now() + limits.time_max;
        let (mut pauses, mut told) = (self.pauses(), None);
        loop {
            let error = match self.attempt(body.clone(), texts.len(), asking, key, &mut deadline).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let now = Instant::now();
            let deadline = asking.until.map_or(deadline, |until| until.min(deadline));
            if now >= deadline {
                // That there was no time left says less than what the try before it met.
                return Err(told.unwrap_or(error));
            }
            let Some(pause) = pauses.next().filter(|_| error.may_pass()) else { return Err(error) };
            let pause = pause.max(error.retry_after.unwrap_or_default());
            // Where the next try would not be made, or have no time left, nobody has to wait for it.
            let rests = self.breaker.rests_for(now).is_some_and(|rest| rest > pause);
            if rests || now + pause + self.try_time_min() > deadline {
                return Err(error);
            }
            figures::provider_retried(self.figures());
            tracing::debug!("model {}: {error}; again in {pause:?}", self.spec.id);
            told = Some(error);
            tokio::time::sleep(pause).await;
        }
    }

    /// One try, when it is its turn, unless the provider is left alone. Time in a line that one may wait in is not counted.
    async fn attempt(
        &self,
        body: Bytes,
        count: usize,
        asking: Asking,
        key: Option<&Key>,
        deadline: &mut Instant,
    ) -> Result<wire::Answer, ProviderError> {
        let since = Instant::now();
        let turn = self.turn(asking, *deadline).await?;
        let now = Instant::now();
        if asking.when_full == WhenFull::Wait {
            *deadline += now - since;
        }
        let pass = self.breaker.enter(now).map_err(ProviderError::resting)?;
        let time_max = self.remote.limits.try_time_max;
        let ends = (*deadline).min(asking.until.unwrap_or(*deadline)).min(now + time_max);
        // The next one's turn begins when it is known what the provider wants.
        let turn = Arc::new(turn);
        let attempt = Attempt { body, count, key, deadline: ends, turn: turn.clone() };
        let answer = self.http.post(&self.spec, &self.remote, attempt).await;
        let outcome = answer.as_ref().map_or_else(|error| error.kind.name(), |_| "ok");
        figures::provider_called(self.figures(), outcome, now.elapsed());
        let now = Instant::now();
        if let Err(error) = &answer
            && let Some(time) = error.retry_after
        {
            self.pace.hold_off(now, time);
        }
        drop(turn);
        match &answer {
            // Its caller was in haste: the breaker decides whether that says anything of the provider.
            Err(error) if error.kind == ErrorKind::Unavailable && asking.until.is_some_and(|until| now >= until) => {
                drop(pass);
            }
            Err(error) if error.kind == ErrorKind::Unavailable => pass.failed(now),
            // One that is asked for too much is helped by a rest. Those who wait in line (streams, comparisons) wait as it wants
            // them to, and shall not take it away from those who do not.
            Err(error) if error.kind == ErrorKind::RateLimited => match asking.when_full {
                WhenFull::Refuse => pass.failed(now),
                WhenFull::Wait => pass.asked_for_too_much(now),
            },
            // What it refuses or garbles, it answers.
            _ => pass.succeeded(),
        }
        answer
    }

    fn figures(&self) -> figures::Provider<'_> {
        figures::Provider { model: &self.spec.id, provider: self.remote.provider.name() }
    }

    /// Waits until it is this request's turn, and the provider wants to be asked. Who waits in vain learns it before.
    async fn turn(&self, asking: Asking, deadline: Instant) -> Result<Turn, ProviderError> {
        let deadline = asking.until.map_or(deadline, |until| until.min(deadline));
        loop {
            let now = Instant::now();
            // Before the line: a line before a provider that is not asked only grows.
            if let Some(rest) = self.breaker.rests_for(now) {
                return Err(ProviderError::resting(rest));
            }
            if let Some(time) = self.pace.holds_off(now) {
                if now + time + self.try_time_min() > deadline {
                    return Err(ProviderError::held_off(time));
                }
                tokio::time::sleep(time).await;
                continue;
            }
            let until = match asking.when_full {
                // With time left for a try.
                WhenFull::Refuse => Some(deadline.checked_sub(self.try_time_min()).unwrap_or(now)),
                WhenFull::Wait => asking.until,
            };
            let turn = self.pace.turn(asking.when_full, until).await;
            let at_once = self.remote.limits.requests_max;
            let turn = turn.map_err(|no_turn| match no_turn {
                NoTurn::Full { waiting } => ProviderError::overloaded(format!(
                    "{at_once} requests run at once, and {waiting} wait already; try again"
                )),
                NoTurn::Late { waiting } => ProviderError::overloaded(format!(
                    "no turn came in time: {at_once} requests run at once, and {waiting} single calls wait; try again"
                )),
            })?;
            // Somebody may have been told so meanwhile.
            if self.pace.holds_off(Instant::now()).is_none() {
                return Ok(turn);
            }
        }
    }

    /// What a try needs at least, so that it is not made in vain.
    fn try_time_min(&self) -> Duration {
        let limits = &self.remote.limits;
        TRY_TIME_MIN.min(limits.try_time_max).min(limits.time_max / 4)
    }

    fn pauses(&self) -> ExponentialBackoff {
        ExponentialBuilder::default()
            .with_min_delay(PAUSE_MIN)
            .with_max_delay(PAUSE_MAX)
            .with_max_times(self.remote.limits.tries_max - 1)
            .with_jitter()
            .build()
    }
}

/// Whether others on the way could read what is sent.
fn is_in_the_clear(url: &str) -> bool {
    url.starts_with("http:") && !attempt::is_here(url)
}
