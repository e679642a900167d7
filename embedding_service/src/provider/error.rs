//! Why a provider has not embedded texts.

use std::time::Duration;

/// When to come back to a provider that does not say.
const COME_BACK_AFTER: Duration = Duration::from_secs(5);

/// Why a provider has not embedded texts. The message says where it was asked and what came, and never holds a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ProviderError {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    /// Which of the texts that were asked for it is about, where it is about one.
    pub(crate) text: Option<usize>,
    /// When the provider, or its breaker, wants to be asked again.
    pub(super) retry_after: Option<Duration>,
    /// Whether the next try of the same request may succeed.
    may_pass: bool,
    /// Whether fewer of its texts may.
    fewer_may_pass: bool,
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// There is no key here.
    NoKey,
    /// The provider refuses the key, or asks for one.
    KeyRefused,
    /// The provider cannot be reached, does not answer in time, fails, or is left alone because it did.
    Unavailable,
    /// The provider takes no more at this rate.
    RateLimited,
    /// The account with the provider has nothing left.
    QuotaExhausted,
    /// So many requests are under way to the provider that this one has no turn.
    Overloaded,
    /// The provider refuses a text for its length.
    TextsRefused,
    /// The provider refuses whatever is asked: it does not know the model, or the address.
    Refused,
    /// The provider's answer is not what it should be.
    WrongAnswer,
}

impl ErrorKind {
    /// As figures tell it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NoKey => "no_key",
            Self::KeyRefused => "key_refused",
            Self::Unavailable => "unavailable",
            Self::RateLimited => "rate_limited",
            Self::QuotaExhausted => "quota_exhausted",
            Self::Overloaded => "overloaded",
            Self::TextsRefused => "texts_refused",
            Self::Refused => "refused",
            Self::WrongAnswer => "wrong_answer",
        }
    }
}

impl ProviderError {
    pub(super) fn no_key(message: String) -> Self {
        Self { kind: ErrorKind::NoKey, message, text: None, retry_after: None, may_pass: false, fewer_may_pass: false }
    }

    /// What did not come to an answer, or to one that says that the provider fails.
    pub(super) fn unavailable(message: String, retry_after: Option<Duration>) -> Self {
        Self { kind: ErrorKind::Unavailable, message, text: None, retry_after, may_pass: true, fewer_may_pass: false }
    }

    /// Nobody is asked, for that time.
    pub(super) fn resting(time: Duration) -> Self {
        let message = format!("the provider failed again and again, and is left alone for {:.1} s", time.as_secs_f32());
        Self::now(ErrorKind::Unavailable, message, time)
    }

    /// Nobody is asked before the provider wants it.
    pub(super) fn held_off(time: Duration) -> Self {
        let message = format!("the provider wants to be left alone for another {:.1} s", time.as_secs_f32());
        Self::now(ErrorKind::RateLimited, message, time)
    }

    /// Others are asked for so much that this request does not come to it.
    pub(super) fn overloaded(message: String) -> Self {
        Self::now(ErrorKind::Overloaded, message, Duration::from_secs(1))
    }

    /// What only passes after that time.
    fn now(kind: ErrorKind, message: String, time: Duration) -> Self {
        Self { retry_after: Some(time), ..Self::lasting(kind, message) }
    }

    pub(super) fn rate_limited(message: String, retry_after: Option<Duration>) -> Self {
        Self { kind: ErrorKind::RateLimited, message, text: None, retry_after, may_pass: true, fewer_may_pass: false }
    }

    /// What another try would not change.
    pub(super) fn lasting(kind: ErrorKind, message: String) -> Self {
        Self { kind, message, text: None, retry_after: None, may_pass: false, fewer_may_pass: false }
    }

    /// What may be the fault of one text, or of so many at once.
    pub(super) fn of_these_texts(kind: ErrorKind, message: String) -> Self {
        Self { fewer_may_pass: true, ..Self::lasting(kind, message) }
    }

    /// The same, saying which of the call's texts it is about.
    pub(super) fn about_text(self, index: usize) -> Self {
        Self { text: Some(index), ..self }
    }

    /// When callers may come back. Nothing where coming back changes nothing.
    pub(crate) fn come_back_after(&self) -> Option<Duration> {
        let passes = matches!(self.kind, ErrorKind::Unavailable | ErrorKind::RateLimited);
        self.retry_after.or(passes.then_some(COME_BACK_AFTER))
    }

    /// Whether the next try of the same request may succeed.
    pub(super) fn may_pass(&self) -> bool {
        self.may_pass
    }

    /// Whether fewer texts than those of the request may be taken.
    pub(super) fn fewer_may_pass(&self) -> bool {
        self.fewer_may_pass
    }

    /// Whether another model may serve in the place of this one.
    pub(crate) fn may_be_another_models(&self) -> bool {
        self.kind != ErrorKind::TextsRefused
    }
}
