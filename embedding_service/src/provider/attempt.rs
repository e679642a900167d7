//! One try of one request: sent, answered within its time, read up to a bound, and understood.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use reqwest::{Client, Response, redirect};

use super::error::{ErrorKind, ProviderError};
use super::key::Key;
use super::pace::Turn;
use super::wire::{self, Bounds};
use crate::locality::names_this_machine;
use crate::model::{ModelSpec, Provider, RemoteSpec};
use crate::told::with_causes;

const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// An answer has at most so many bytes for each component: a number of JSON has some 20.
const COMPONENT_BYTES_MAX: usize = 32;
/// And so many beside them: some providers repeat the texts, which are at most 8 MiB.
const ANSWER_BYTES_MIN: usize = 16 << 20;
/// Of an answer that is an error.
const ERROR_BYTES_MAX: usize = 16 << 10;
/// What comes later of an error is not waited for: its status says the most.
const ERROR_TIME_MAX: Duration = Duration::from_secs(1);
/// Characters of an answer that a message repeats.
const REPEATED_CHARS_MAX: usize = 200;
/// An answer of more bytes is understood on a thread that may block.
const INLINE_BYTES_MAX: usize = 256 << 10;
/// A provider that wants to be left alone for longer is asked again after this time.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// The client of all providers, made when the first is asked: a machine without certificates is no trouble to those who
/// never leave it.
#[derive(Default)]
pub(crate) struct Http {
    elsewhere: OnceLock<Result<Client, String>>,
    /// Without the proxy that the environment names: what goes to this machine stays on it, the key too.
    here: OnceLock<Result<Client, String>>,
}

/// One try.
pub(super) struct Attempt<'a> {
    pub(super) body: Bytes,
    /// Texts in it.
    pub(super) count: usize,
    pub(super) key: Option<&'a Key>,
    pub(super) deadline: Instant,
    /// Held until nothing works on the answer any more, even where the caller has left.
    pub(super) turn: Arc<Turn>,
}

/// Where a request goes, and what is known of it, for messages.
struct Place<'a> {
    url: &'a str,
    key: Option<&'a Key>,
    key_env: Option<&'a str>,
}

impl Http {
    /// The client for providers at `base_url`.
    fn client(&self, base_url: &str) -> Result<&Client, ProviderError> {
        let is_here = is_here(base_url);
        let build = || {
            // Asked of rustls by reqwest. A second call is refused, which is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let client = Client::builder()
                .user_agent(concat!("vectron-embedding/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_TIME_MAX)
                // The key would go along.
                .redirect(redirect::Policy::none());
            let client = if is_here { client.no_proxy() } else { client };
            client.build().map_err(|error| with_causes(&error))
        };
        let failed = |reason: &String| {
            ProviderError::lasting(ErrorKind::Refused, format!("no provider can be asked from here: {reason}"))
        };
        let client = if is_here { &self.here } else { &self.elsewhere };
        client.get_or_init(build).as_ref().map_err(failed)
    }

    /// Sends the request, and understands the answer, all before its deadline.
    pub(super) async fn post(
        &self,
        spec: &ModelSpec,
        remote: &RemoteSpec,
        attempt: Attempt<'_>,
    ) -> Result<wire::Answer, ProviderError> {
        let Attempt { body, count, key, deadline, turn } = attempt;
        let url = wire::url(spec, remote);
        let place = Place { url: &url, key, key_env: remote.key_env.as_deref() };
        let since = Instant::now();
        let answer = async {
            let mut request =
                self.client(&remote.base_url)?.post(&url).header(header::CONTENT_TYPE, "application/json").body(body);
            if let Some(key) = key {
                request = request.header(header::AUTHORIZATION, key.header());
            }
            let response = request.send().await.map_err(|error| place.broken(error))?;
            read(&place, response, COMPONENT_BYTES_MAX * spec.dimension * count + ANSWER_BYTES_MIN).await
        };
        let answer = tokio::time::timeout_at(deadline.into(), answer).await;
        let late =
            |_| place.unavailable(format!("no whole answer within {:.1} s", since.elapsed().as_secs_f32()), None);
        let body = answer.map_err(late)??;

        let understood = understand(remote.provider, body, Bounds { count, dimension: spec.dimension }, turn).await;
        // What is wrong with an answer may be what the provider has put into it.
        understood.map_err(|reason| place.wrong(&place.repeat(&reason)))
    }
}

/// What came, checked; else what is wrong with it.
async fn understand(
    provider: Provider,
    body: Vec<u8>,
    bounds: Bounds,
    turn: Arc<Turn>,
) -> Result<wire::Answer, String> {
    let is_short = body.len() <= INLINE_BYTES_MAX;
    let understand = move || {
        let _turn = turn;
        wire::read(provider, &body, bounds).and_then(|answer| answer.check(bounds.count, bounds.dimension))
    };
    if is_short {
        return understand();
    }
    let thread = tokio::task::spawn_blocking(understand);
    thread.await.unwrap_or_else(|_| Err("it could not be understood; the log has more".to_owned()))
}

/// The body of an answer that is one, up to `bytes_max`.
async fn read(place: &Place<'_>, mut response: Response, bytes_max: usize) -> Result<Vec<u8>, ProviderError> {
    let status = response.status();
    if !status.is_success() {
        let beginning = beginning(&mut response).await;
        return Err(place.refused(status, response.headers(), &beginning));
    }
    let kind =
        response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("").to_owned();
    let essence = kind.split(';').next().unwrap_or("").trim();
    if !essence.eq_ignore_ascii_case("application/json") && !essence.to_ascii_lowercase().ends_with("+json") {
        let beginning = place.repeat(&String::from_utf8_lossy(&beginning(&mut response).await));
        return Err(place.wrong(&format!("expected JSON, got `{}`, which begins: {beginning}", place.repeat(&kind))));
    }
    let told = response.content_length().unwrap_or(0);
    if told > bytes_max as u64 {
        return Err(place.wrong(&format!("it has {told} bytes: expected at most {bytes_max}")));
    }
    match read_up_to(&mut response, bytes_max).await {
        Ok((body, true)) => Ok(body),
        Ok((_, false)) => Err(place.wrong(&format!("it has more than {bytes_max} bytes, and was cut off"))),
        Err(error) => Err(place.broken(error)),
    }
}

/// The beginning of what is no answer. Nothing where it does not come soon.
async fn beginning(response: &mut Response) -> Vec<u8> {
    let beginning = tokio::time::timeout(ERROR_TIME_MAX, read_up_to(response, ERROR_BYTES_MAX)).await;
    beginning.ok().and_then(Result::ok).unwrap_or_default().0
}

/// The body, and whether it is all of it.
async fn read_up_to(response: &mut Response, bytes_max: usize) -> Result<(Vec<u8>, bool), reqwest::Error> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await? {
        let room = bytes_max - body.len();
        body.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            return Ok((body, false));
        }
    }
    Ok((body, true))
}

impl Place<'_> {
    /// What an answer with an error's status means.
    fn refused(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ProviderError {
        let told = wire::error_text(body);
        let said = match &told {
            Some(said) => format!(": {}", self.repeat(&said.message)),
            None if body.is_empty() => String::new(),
            None => format!(
                ", with something else than JSON, which begins: {}",
                self.repeat(&String::from_utf8_lossy(body))
            ),
        };
        let retry_after = retry_after(headers, SystemTime::now());
        let has_no_quota = told.as_ref().is_some_and(|said| said.code == "insufficient_quota");
        let lasting = |kind| ProviderError::lasting(kind, self.message(&format!("it answered {status}{said}")));
        match status.as_u16() {
            300..400 => {
                let to = headers.get(header::LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("nowhere");
                self.wrong(&format!(
                    "it answered {status} and points to `{}`; redirects are not followed, since the key would go along: \
                     correct base_url",
                    self.repeat(to)
                ))
            }
            // What it says may hold a part of the key.
            401 | 403 | 498 => ProviderError::lasting(ErrorKind::KeyRefused, self.message(&self.about_key(status))),
            402 => lasting(ErrorKind::QuotaExhausted),
            429 if has_no_quota => lasting(ErrorKind::QuotaExhausted),
            429 => ProviderError::rate_limited(self.message(&format!("it answered {status}{said}")), retry_after),
            // Too many texts, one that is too long, or something that no other texts would change: halves will tell.
            400 | 413 | 422 => {
                let is_too_long = status == StatusCode::PAYLOAD_TOO_LARGE || told.as_ref().is_some_and(says_too_long);
                let kind = if is_too_long { ErrorKind::TextsRefused } else { ErrorKind::Refused };
                ProviderError::of_these_texts(kind, self.message(&format!("it answered {status}{said}")))
            }
            408 | 425 | 500.. => self.unavailable(format!("it answered {status}{said}"), retry_after),
            _ => lasting(ErrorKind::Refused),
        }
    }

    fn about_key(&self, status: StatusCode) -> String {
        match (self.key, self.key_env) {
            (Some(key), _) => {
                format!("it answered {status}: it refuses the key of the environment variable {}", key.variable())
            }
            (None, _) => format!(
                "it answered {status}: it asks for a key; name its environment variable as `key_env` in models.toml"
            ),
        }
    }

    fn unavailable(&self, what: String, retry_after: Option<Duration>) -> ProviderError {
        ProviderError::unavailable(self.message(&what), retry_after)
    }

    /// The connection could not be made, or broke.
    fn broken(&self, error: reqwest::Error) -> ProviderError {
        // The address is in the message already.
        self.unavailable(self.repeat(&with_causes(&error.without_url())), None)
    }

    fn wrong(&self, what: &str) -> ProviderError {
        ProviderError::lasting(ErrorKind::WrongAnswer, self.message(&format!("a wrong answer: {what}")))
    }

    fn message(&self, what: &str) -> String {
        format!("{}: {what}", self.url)
    }

    /// The beginning of what came, in one line, without the key.
    fn repeat(&self, text: &str) -> String {
        let text = self.key.map_or_else(|| text.to_owned(), |key| key.hide_in(text));
        let words: Vec<&str> = text.split(|char: char| char.is_whitespace() || char.is_control()).collect();
        let line = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(REPEATED_CHARS_MAX) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line,
        }
    }
}

/// Whether a refusal is about the length of a text. There is no code for it that providers share: their words are those of
/// OpenAI ("maximum context length is 8192 tokens"), text-embeddings-inference ("must have less than 512 tokens"), Ollama
/// ("the input length exceeds the context length") and others like them.
fn says_too_long(told: &wire::ErrorText) -> bool {
    const WORDS: [&str; 7] = [
        "context length",
        "context window",
        "input length",
        "maximum length",
        "too long",
        "too many tokens",
        " tokens",
    ];
    let message = told.message.to_ascii_lowercase();
    // Of a key's or an account's tokens none of them counts.
    let counts = message.bytes().any(|byte| byte.is_ascii_digit());
    told.code == "context_length_exceeded"
        || WORDS.iter().any(|words| message.contains(words) && (*words != " tokens" || counts))
}

/// Whether that is on this machine.
pub(super) fn is_here(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    url.host_str().is_some_and(names_this_machine)
}

/// When the provider wants to be asked again: `retry-after`, in seconds or as a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let time = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(time.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::super::pace::Pace;
    use super::*;
    use crate::batch::WhenFull;

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date() {
        let now = httpdate::parse_http_date("Fri, 31 Dec 1999 23:59:00 GMT").unwrap();
        let read = |value: &'static str| {
            retry_after(&HeaderMap::from_iter([(header::RETRY_AFTER, value.parse().unwrap())]), now)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::from_secs(59)));
        assert_eq!(read("Fri, 31 Dec 1999 23:58:59 GMT"), Some(Duration::ZERO));
        assert_eq!(read("99999999999"), Some(RETRY_AFTER_MAX));
        assert_eq!((read("soon"), read("-1"), retry_after(&HeaderMap::new(), now)), (None, None, None));
    }

    #[test]
    fn this_machine_is_known_in_every_form_of_its_address() {
        for host in ["localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::FFFF:7F00:1]", "LocalHost"] {
            assert!(is_here(&format!("http://{host}:11434/v1")), "{host}");
        }
        for host in ["api.openai.com", "[::ffff:10.0.0.1]", "10.0.0.1"] {
            assert!(!is_here(&format!("http://{host}:11434/v1")), "{host}");
        }
    }

    #[tokio::test]
    async fn a_caller_that_leaves_keeps_its_turn_until_nothing_works_on_its_answer() {
        let pace = Pace::new(1);
        let turn = Arc::new(pace.turn(WhenFull::Refuse, None).await.unwrap());
        let count = 400_000;
        let body = format!("[{}]", vec!["[0.123456789,-0.25]"; count].join(",")).into_bytes();
        let work = understand(Provider::HuggingFace, body, Bounds { count, dimension: 2 }, turn);
        assert!(tokio::time::timeout(Duration::from_millis(1), work).await.is_err(), "it takes longer");
        assert!(pace.turn(WhenFull::Refuse, Some(Instant::now())).await.is_err());
        let soon = Instant::now() + Duration::from_secs(10);
        assert!(pace.turn(WhenFull::Refuse, Some(soon)).await.is_ok());
    }

    #[test]
    fn length_is_told_from_other_refusals() {
        let told = |message: &str, code: &str| {
            says_too_long(&wire::ErrorText { message: message.to_owned(), code: code.to_owned() })
        };
        for message in [
            "This model's maximum context length is 8192 tokens, however you requested 9000 tokens",
            "Input validation error: `inputs` must have less than 512 tokens. Given: 600",
            "the input length exceeds the context length",
            "prompt is too long",
        ] {
            assert!(told(message, ""), "{message}");
        }
        assert!(told("no", "context_length_exceeded"));
        for message in [
            "batch size 64 > maximum allowed batch size 32",
            "API key not valid. Please pass a valid API key.",
            "invalid access tokens",
            "This model does not support specifying dimensions.",
        ] {
            assert!(!told(message, ""), "{message}");
        }
    }

    #[test]
    fn what_is_repeated_is_one_line_without_the_key() {
        let key = Key::new("K", "sk-1");
        let place = Place { url: "http://x", key: Some(&key), key_env: Some("K") };
        assert_eq!(place.repeat("<html>\n\r\n no: sk-1\u{1b}[31m</html>"), "<html> no: *** [31m</html>");
        assert_eq!(place.repeat(&"ä".repeat(1000)).chars().count(), REPEATED_CHARS_MAX + 1);
    }
}
