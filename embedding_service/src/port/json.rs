//! Reading REST requests: bodies that must be JSON (or, for one that asks, a form), and query strings. Every refusal is a `Failure` that says what was
//! expected and what came.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Query, Request};
use axum::{Extension, RequestExt};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};
use serde::de::{DeserializeOwned, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tonic::Code;

use super::{Failure, malformed};

/// A body has to come within this time: one that never ends would hold its connection and its memory.
pub(super) const BODY_TIME_MAX: Duration = Duration::from_secs(60);

/// A JSON body.
pub struct Json<T>(pub T);

/// A JSON body that may be missing, which is the default.
pub struct OptionalJson<T>(pub T);

/// A body that is JSON, or a form (`application/x-www-form-urlencoded`).
pub enum JsonOrForm<J, F> {
    /// JSON.
    Json(J),
    /// A form.
    Form(F),
}

/// The query string.
pub struct Params<T>(pub T);

/// No query string: what would not be looked at is refused, never ignored.
pub struct NoParams;

/// The most bytes that a body may have, for the message where it has more.
#[derive(Clone, Copy)]
struct BodyBytesMax(usize);

/// Refuses bodies of more than `bytes_max` bytes.
pub fn limit_bodies<S: Clone + Send + Sync + 'static>(router: Router<S>, bytes_max: usize) -> Router<S> {
    router.layer(DefaultBodyLimit::max(bytes_max)).layer(Extension(BodyBytesMax(bytes_max)))
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        check_content_type(request.headers())?;
        check_encoding(request.headers())?;
        parse(&read(request, BODY_TIME_MAX).await?).map(Self)
    }
}

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let content_type = check_content_type(request.headers());
        check_encoding(request.headers())?;
        let body = read(request, BODY_TIME_MAX).await?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        content_type?;
        parse(&body).map(Self)
    }
}

impl<J: DeserializeOwned, F: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonOrForm<J, F> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        check_encoding(request.headers())?;
        if !is_form(request.headers()) {
            check_content_type(request.headers())?;
            return parse(&read(request, BODY_TIME_MAX).await?).map(Self::Json);
        }
        // serde's message would name the field, but may repeat a value too, and forms carry passwords.
        let malformed =
            |_| invalid("MALFORMED_FORM", "the form: a field is missing, twice there, or malformed".to_owned());
        serde_urlencoded::from_bytes(&read(request, BODY_TIME_MAX).await?).map(Self::Form).map_err(malformed)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let told = |error: QueryRejection| error.body_text();
        let Query(params) = Query::try_from_uri(&parts.uri).map_err(|error| malformed::query(&told(error)))?;
        Ok(Self(params))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for NoParams {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs: Vec<(String, IgnoredAny)> = serde_urlencoded::from_str(query).unwrap_or_default();
        let Some((name, _)) = pairs.into_iter().next() else { return Ok(Self) };
        let where_else = if parts.method == Method::POST { "; what this endpoint takes is in the body" } else { "" };
        Err(malformed::at(
            ("INVALID_ARGUMENT", name.clone()),
            format!("the query string: expected none, got `{name}`{where_else}"),
        ))
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Failure> {
    let content_type = headers.get(header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let content_type = content_type.as_deref().unwrap_or("none");
    if is_json(content_type) {
        return Ok(());
    }
    let codes = ("UNSUPPORTED_MEDIA_TYPE", Code::InvalidArgument, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    Err(Failure::new(codes, format!("expected `content-type: application/json`, but got {content_type}")))
}

/// Bodies are read as they come: what is packed is told from what is broken.
fn check_encoding(headers: &HeaderMap) -> Result<(), Failure> {
    let Some(encoding) = headers.get(header::CONTENT_ENCODING) else { return Ok(()) };
    if encoding.as_bytes().eq_ignore_ascii_case(b"identity") {
        return Ok(());
    }
    let codes = ("UNSUPPORTED_MEDIA_TYPE", Code::InvalidArgument, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let encoding = String::from_utf8_lossy(encoding.as_bytes());
    Err(Failure::new(codes, format!("expected a body as it is, without `content-encoding`, but got {encoding}")))
}

fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

async fn read(request: Request, time_max: Duration) -> Result<Bytes, Failure> {
    let bytes_max = request.extensions().get::<BodyBytesMax>().map(|max| max.0);
    let Ok(body) = tokio::time::timeout(time_max, request.extract::<Bytes, _>()).await else {
        let codes = ("BODY_TOO_SLOW", Code::DeadlineExceeded, StatusCode::REQUEST_TIMEOUT);
        return Err(Failure::new(codes, format!("expected the whole body within {} s", time_max.as_secs())));
    };
    body.map_err(|error| match (error.status(), bytes_max) {
        (StatusCode::PAYLOAD_TOO_LARGE, Some(bytes_max)) => {
            Failure::too_large(&format!("expected a body of at most {bytes_max} bytes, but it has more"))
        }
        _ => invalid("INVALID_ARGUMENT", format!("the body could not be read: {}", error.body_text())),
    })
}

/// serde would take an array for a struct, its values for the fields in their order, which is refused first. What is refused so is
/// read, to tell it from what is no JSON, and never kept: in memory it would be many times as large.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    let kind = match body.trim_ascii_start().first() {
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b'-' | b'0'..=b'9') => "a number",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "",
    };
    if !kind.is_empty() && serde_json::from_slice::<IgnoredAny>(body).is_ok() {
        return Err(invalid("MALFORMED_JSON", format!("the JSON body: expected an object, got {kind}")));
    }
    // Where something is wrong it is read once more, for the path to it, which costs too much to keep track of before.
    serde_json::from_slice(body).map_err(|error| malformed::json::<T>(body, &error))
}

/// A list that may have `COUNT_MAX` elements. Of a longer one so many are kept, and the others counted: a body can have millions of small
/// ones, which in memory are many times as large.
#[derive(Debug)]
pub struct AtMost<T, const COUNT_MAX: usize> {
    kept: Vec<T>,
    count: usize,
}

impl<T, const COUNT_MAX: usize> AtMost<T, COUNT_MAX> {
    /// All of them; where there were too many, how many.
    pub fn all(self) -> Result<Vec<T>, usize> {
        if self.count > self.kept.len() { Err(self.count) } else { Ok(self.kept) }
    }
}

impl<T, const COUNT_MAX: usize> Default for AtMost<T, COUNT_MAX> {
    fn default() -> Self {
        Self { kept: Vec::new(), count: 0 }
    }
}

impl<'de, T: Deserialize<'de>, const COUNT_MAX: usize> Deserialize<'de> for AtMost<T, COUNT_MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(AtMostVisitor(PhantomData))
    }
}

struct AtMostVisitor<T, const COUNT_MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const COUNT_MAX: usize> Visitor<'de> for AtMostVisitor<T, COUNT_MAX> {
    type Value = AtMost<T, COUNT_MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut kept = Vec::new();
        while kept.len() < COUNT_MAX {
            let Some(element) = list.next_element()? else { return Ok(AtMost { count: kept.len(), kept }) };
            kept.push(element);
        }
        let mut count = kept.len();
        while list.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(AtMost { kept, count })
    }
}

fn invalid(reason: &'static str, message: String) -> Failure {
    Failure::new((reason, Code::InvalidArgument, StatusCode::BAD_REQUEST), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn body_that_never_ends_is_given_up() {
        let never = axum::body::Body::from_stream(tokio_stream::pending::<Result<Bytes, std::io::Error>>());
        let refused = read(Request::new(never), Duration::from_millis(20)).await.unwrap_err();
        assert_eq!((refused.status, refused.reason), (StatusCode::REQUEST_TIMEOUT, "BODY_TOO_SLOW"));
    }

    #[derive(Debug, Deserialize)]
    struct List {
        list: AtMost<String, 3>,
    }

    #[test]
    fn list_is_kept_as_far_as_it_may_be_long() {
        let kept = |count: usize| {
            let body = format!("{{\"list\": [{}]}}", vec!["\"x\""; count].join(","));
            let list = parse::<List>(body.as_bytes()).unwrap().list;
            (list.kept.len(), list.all().err())
        };
        let told = [(0, None), (2, None), (3, None), (3, Some(4)), (3, Some(1000))];
        assert_eq!([0, 2, 3, 4, 1000].map(kept), told);
        let refused = |body: &str| parse::<List>(body.as_bytes()).unwrap_err().message;
        assert!(refused(r#"{"list": ["x", 1]}"#).contains("expected a string"));
        assert!(refused(r#"{"list": "x"}"#).contains("expected a list"));
        assert!(refused("{}").contains("list"));
        assert!(refused(r#"{"list": ["x", "x", "x", "x", "x""#).contains("EOF"));
    }

    #[test]
    fn what_is_no_object_is_told_by_its_kind() {
        for (body, kind) in [
            (" [1, 2]", "expected an object, got an array"),
            ("\"x\"", "got a string"),
            ("-1.5", "got a number"),
            ("false", "got a boolean"),
            ("null", "got null"),
            ("nonsense", "expected ident"),
            ("", "EOF"),
        ] {
            let refused = parse::<List>(body.as_bytes()).unwrap_err();
            assert!(refused.message.contains(kind), "{body}: {}", refused.message);
        }
    }

    #[test]
    fn json_is_told_from_forms() {
        assert!(is_json("application/json; charset=utf-8"));
        assert!(is_json("application/problem+json"));
        assert!(!is_json("application/x-www-form-urlencoded"));
        assert!(!is_json("text/json"));
    }
}
