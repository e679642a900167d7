//! The token that a model hub is shown, for repositories that ask for one.

use std::{env, fmt};

use http::HeaderValue;

/// The environment variable that holds it, as the hub's own tools have it
/// (https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables).
pub(super) const VARIABLE: &str = "HF_TOKEN";

/// A token, or none. Shown to the hub alone.
#[derive(Clone, Default)]
pub struct HubToken {
    /// As the header `authorization` has it; marked, so that what logs headers leaves it out.
    header: Option<HeaderValue>,
    /// It holds something that cannot be sent.
    is_malformed: bool,
}

impl HubToken {
    /// The token that `HF_TOKEN` holds. An empty one is not set.
    pub fn from_environment() -> Self {
        env::var_os(VARIABLE).map_or_else(Self::default, |held| Self::new(&held.to_string_lossy()))
    }

    pub(super) fn new(token: &str) -> Self {
        let token = token.trim();
        if token.is_empty() {
            return Self::default();
        }
        let is_visible = token.bytes().all(|byte| byte.is_ascii_graphic());
        let header = HeaderValue::try_from(format!("Bearer {token}")).ok().filter(|_| is_visible);
        let is_malformed = header.is_none();
        let header = header.map(|mut header| {
            header.set_sensitive(true);
            header
        });
        Self { header, is_malformed }
    }

    /// As it is sent, if there is one.
    pub(super) fn header(&self) -> Option<&HeaderValue> {
        self.header.as_ref()
    }

    pub(super) fn is_malformed(&self) -> bool {
        self.is_malformed
    }
}

impl fmt::Debug for HubToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.header.is_some() { "HubToken(***)" } else { "HubToken(none)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_sent_and_not_shown() {
        let token = HubToken::new(" hf_s3cret\n");
        assert_eq!(token.header().unwrap().to_str().unwrap(), "Bearer hf_s3cret");
        assert!(!format!("{token:?} {:?}", token.header()).contains("s3cret"));
        assert!(HubToken::new(" ").header().is_none() && !HubToken::new(" ").is_malformed());
        assert!(HubToken::new("a b").is_malformed() && HubToken::new("schlüssel").is_malformed());
    }
}
