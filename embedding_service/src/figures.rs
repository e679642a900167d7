//! What is counted, in one place: by whom it is told is in each function's name.
//!
//! Read at `GET /metrics`, in the text format of Prometheus. Labels are ids of the registry, routes, codes, and words of this
//! file, never what a client sent: their number is bounded. Gauges are set as they are read.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::port::RequestFigures;

/// How all names here begin.
pub const PREFIX: &str = "vectron_embedding_";

/// Of requests.
pub(crate) const REQUESTS: RequestFigures =
    RequestFigures { requests: "vectron_embedding_requests_total", seconds: "vectron_embedding_request_seconds" };
const TEXTS: &str = "vectron_embedding_texts_total";
const TOKENS: &str = "vectron_embedding_tokens_total";
const CACHE_HITS: &str = "vectron_embedding_cache_hits_total";
const CACHE_MISSES: &str = "vectron_embedding_cache_misses_total";
const CACHE_BYTES: &str = "vectron_embedding_cache_bytes";
const QUEUE_TOKENS: &str = "vectron_embedding_queue_tokens";
const QUEUE_BYTES: &str = "vectron_embedding_queue_bytes";
const QUEUE_SECONDS: &str = "vectron_embedding_queue_seconds";
const INFERENCE_SECONDS: &str = "vectron_embedding_inference_seconds";
const BATCH_TOKENS: &str = "vectron_embedding_batch_tokens";
const REJECTED: &str = "vectron_embedding_rejected_total";
const CALLERS_LEFT: &str = "vectron_embedding_callers_left_total";
const AUTH_REFUSED: &str = "vectron_embedding_auth_refused_total";
const PRINCIPALS_STALE: &str = "vectron_embedding_principals_stale";
const MODEL_STATE: &str = "vectron_embedding_model_state";
const MODEL_BYTES: &str = "vectron_embedding_model_bytes";
const PROVIDER_CALLS: &str = "vectron_embedding_provider_calls_total";
const PROVIDER_SECONDS: &str = "vectron_embedding_provider_seconds";
const PROVIDER_RETRIES: &str = "vectron_embedding_provider_retries_total";
const PROVIDER_RESTING: &str = "vectron_embedding_provider_resting";

/// Says what each is. After the recorder was set up.
pub(crate) fn describe() {
    describe_counter!(REQUESTS.requests, "Requests answered, by door (grpc or rest), route and code.");
    describe_histogram!(REQUESTS.seconds, "Seconds from a request to the head of its answer, by door and route.");
    describe_counter!(TEXTS, "Texts of calls that were answered, by model.");
    describe_counter!(TOKENS, "Tokens of texts that a model embedded, by model.");
    describe_counter!(CACHE_HITS, "Texts whose embedding was there before, or was that of an equal text of the call.");
    describe_counter!(CACHE_MISSES, "Texts that had to be embedded.");
    describe_gauge!(CACHE_BYTES, "Bytes of the embeddings that are kept.");
    describe_gauge!(QUEUE_TOKENS, "Tokens that wait.");
    describe_gauge!(QUEUE_BYTES, "Bytes of the texts and answers of all calls in flight.");
    describe_histogram!(QUEUE_SECONDS, "Seconds that a text waited for a thread.");
    describe_histogram!(INFERENCE_SECONDS, "Seconds that a batch ran, by model.");
    describe_histogram!(BATCH_TOKENS, "Tokens of a batch, by model.");
    describe_counter!(
        REJECTED,
        "Calls that were refused for there was too much (RESOURCE_EXHAUSTED, 429), by reason, and by what there was no room for: \
         tokens, bytes, time, or memory."
    );
    describe_counter!(
        CALLERS_LEFT,
        "Calls that were given up before they were answered: their callers left or had no more time, or the service stopped."
    );
    describe_counter!(AUTH_REFUSED, "Callers that were refused for their key, token or password, by reason.");
    describe_gauge!(
        PRINCIPALS_STALE,
        "Whether the file of principals cannot be taken up, so that changes of it, revoked keys too, have no effect."
    );
    describe_gauge!(MODEL_STATE, "1 for the state that a model is in, 0 for the others.");
    describe_gauge!(MODEL_BYTES, "Bytes of a model's weights in memory.");
    describe_counter!(PROVIDER_CALLS, "Requests to a provider, retries included, by model, provider and outcome.");
    describe_histogram!(PROVIDER_SECONDS, "Seconds of a request to a provider, by model and provider.");
    describe_counter!(PROVIDER_RETRIES, "Requests to a provider that were made again, by model and provider.");
    describe_gauge!(PROVIDER_RESTING, "Whether a provider is left alone because it failed again and again, by model.");
}

/// Counters whose labels are known are there from the start, at zero: a first event would else be no increase, and a rate over two of
/// them nothing. After the recorder was set up.
pub(crate) fn begin<'a>(models: impl IntoIterator<Item = &'a str>) {
    for model in models {
        for name in [TEXTS, TOKENS] {
            counter!(name, "model" => model.to_owned()).increment(0);
        }
    }
    for name in [CACHE_HITS, CACHE_MISSES, CALLERS_LEFT] {
        counter!(name).increment(0);
    }
    for no_room_for in ["tokens", "bytes", "time", "memory"] {
        counter!(REJECTED, "reason" => "OVERLOADED", "no_room_for" => no_room_for).increment(0);
    }
}

/// Of a call that was answered.
pub(crate) struct AnsweredCall<'a> {
    pub(crate) model: &'a str,
    pub(crate) texts: usize,
    pub(crate) cached: usize,
    /// Of the texts that were not cached.
    pub(crate) tokens: usize,
}

pub(crate) fn call_answered(call: &AnsweredCall<'_>) {
    counter!(TEXTS, "model" => call.model.to_owned()).increment(call.texts as u64);
    counter!(TOKENS, "model" => call.model.to_owned()).increment(call.tokens as u64);
    counter!(CACHE_HITS).increment(call.cached as u64);
    counter!(CACHE_MISSES).increment((call.texts - call.cached) as u64);
}

/// `reason`: of the error. `no_room_for`: empty where that is not here.
pub(crate) fn call_refused(reason: &'static str, no_room_for: &'static str) {
    counter!(REJECTED, "reason" => reason, "no_room_for" => no_room_for).increment(1);
}

/// `reason`: the refusal's code.
pub(crate) fn caller_refused(reason: &'static str) {
    counter!(AUTH_REFUSED, "reason" => reason).increment(1);
}

pub(crate) fn set_principals_stale(are_stale: bool) {
    gauge!(PRINCIPALS_STALE).set(f64::from(u8::from(are_stale)));
}

pub(crate) fn batch_ran(model: &str, tokens: usize, time: Duration) {
    histogram!(INFERENCE_SECONDS, "model" => model.to_owned()).record(time);
    histogram!(BATCH_TOKENS, "model" => model.to_owned()).record(tokens as f64);
}

pub(crate) fn text_waited(time: Duration) {
    histogram!(QUEUE_SECONDS).record(time);
}

/// Of one request to a provider.
#[derive(Clone, Copy)]
pub(crate) struct Provider<'a> {
    pub(crate) model: &'a str,
    pub(crate) provider: &'static str,
}

pub(crate) fn provider_called(to: Provider<'_>, outcome: &'static str, time: Duration) {
    let model = to.model.to_owned();
    counter!(PROVIDER_CALLS, "model" => model.clone(), "provider" => to.provider, "outcome" => outcome).increment(1);
    histogram!(PROVIDER_SECONDS, "model" => model, "provider" => to.provider).record(time);
}

pub(crate) fn provider_retried(to: Provider<'_>) {
    counter!(PROVIDER_RETRIES, "model" => to.model.to_owned(), "provider" => to.provider).increment(1);
}

/// What the service holds now.
pub(crate) struct Held {
    pub(crate) queue_tokens: usize,
    pub(crate) queue_bytes: usize,
    pub(crate) cache_bytes: u64,
}

pub(crate) fn set_held(held: &Held) {
    gauge!(QUEUE_TOKENS).set(held.queue_tokens as f64);
    gauge!(QUEUE_BYTES).set(held.queue_bytes as f64);
    gauge!(CACHE_BYTES).set(held.cache_bytes as f64);
}

/// `states`: each that there is, and whether it is the model's.
pub(crate) fn set_model(model: &str, states: impl IntoIterator<Item = (&'static str, bool)>, bytes: usize) {
    for (state, is_now) in states {
        gauge!(MODEL_STATE, "model" => model.to_owned(), "state" => state).set(f64::from(u8::from(is_now)));
    }
    gauge!(MODEL_BYTES, "model" => model.to_owned()).set(bytes as f64);
}

pub(crate) fn set_provider(model: &str, is_resting: bool) {
    gauge!(PROVIDER_RESTING, "model" => model.to_owned()).set(f64::from(u8::from(is_resting)));
}

/// A caller that waits. Where this is dropped without an answer, it has left.
pub(crate) struct Caller {
    was_answered: bool,
}

impl Caller {
    pub(crate) fn waits() -> Self {
        Self { was_answered: false }
    }

    pub(crate) fn answered(mut self) {
        self.was_answered = true;
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if !self.was_answered {
            counter!(CALLERS_LEFT).increment(1);
        }
    }
}
