//! Pages of other sites, which a browser lets send requests to any address, this machine's own too.
//!
//! They cannot read the answer, but what the request does is done. A browser says on whose behalf it asks: in
//! `Sec-Fetch-Site` (W3C Fetch Metadata), and in `Origin` (RFC 6454), with every POST, PUT and DELETE to another origin.
//! Programs send neither. For ports that ask nobody for a key; where they do, no page has it unless somebody gave it one.
//!
//! Absent: a look at `Host`. A name of somebody else's that leads to this machine (DNS rebinding) cannot be told from one
//! that a proxy on this machine passes on.

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::Response;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use tonic::Code;

use super::{Door, Failure};

/// Refuses what pages of other sites have a browser send to `router`, but for what only reads.
pub fn refuse_other_sites(router: Router) -> Router {
    router.layer(middleware::from_fn(refuse))
}

async fn refuse(request: Request, next: Next) -> Response {
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if is_safe || is_own(request.uri(), request.headers()) {
        return next.run(request).await;
    }
    let codes = ("OTHER_SITE", Code::PermissionDenied, StatusCode::FORBIDDEN);
    let origin = request.headers().get(header::ORIGIN).map(|origin| String::from_utf8_lossy(origin.as_bytes()));
    let origin = origin.as_deref().unwrap_or("none told");
    let message = format!(
        "a page of another site had a browser send this (origin: {origin}): expected a program, or a page of this host; \
         a proxy has to pass `Host` on"
    );
    Door::of(request.headers()).answer(Failure::new(codes, message))
}

fn is_own(uri: &Uri, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    match text("sec-fetch-site") {
        // The browser has compared; a proxy may have changed `Host` since. `none`: the person asks, not a page.
        Some("same-origin" | "none") => return true,
        Some("cross-site") => return false,
        _ => {}
    }
    let Some(origin) = text("origin") else { return true };
    // In HTTP/2 the host is part of the URI.
    let host = uri.authority().map(|authority| authority.as_str()).or(text("host"));
    // Browsers leave the scheme's own port out, and proxies may put it in.
    let Some((scheme, origin)) = origin.split_once("://") else { return false };
    let port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    let host = host.map(|host| host.strip_suffix(port).unwrap_or(host));
    host.is_some_and(|host| origin.strip_suffix(port).unwrap_or(origin).eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::HeaderName;

    use super::*;

    fn own(headers: &[(&'static str, &'static str)]) -> bool {
        let pairs =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        is_own(&Uri::from_static("/benchmark"), &pairs.collect())
    }

    #[test]
    fn browsers_are_believed_and_programs_say_nothing() {
        let host = ("host", "localhost:8000");
        assert!(own(&[host]), "curl");
        assert!(own(&[host, ("origin", "http://localhost:8000"), ("sec-fetch-site", "same-origin")]));
        assert!(own(&[("host", "127.0.0.1:8000"), ("origin", "https://b.example"), ("sec-fetch-site", "same-origin")]));
        assert!(own(&[host, ("sec-fetch-site", "none")]));
        assert!(own(&[("host", "B.example:80"), ("origin", "http://b.example")]), "over HTTP browsers say no more");
        assert!(!own(&[("host", "b.example:443"), ("origin", "http://b.example")]));
        assert!(!own(&[host, ("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")]));
        assert!(!own(&[host, ("sec-fetch-site", "cross-site")]));
        assert!(!own(&[host, ("origin", "http://localhost:3000"), ("sec-fetch-site", "same-site")]));
        assert!(!own(&[("host", "b.example"), ("origin", "http://evil.example")]));
        assert!(!own(&[host, ("origin", "null")]), "of a file, or of a page in a sandbox");
        assert!(!own(&[("origin", "http://evil.example")]));
        let uri = Uri::from_static("http://localhost:8000/benchmark");
        let origin = |origin| HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))]);
        assert!(is_own(&uri, &origin("http://localhost:8000")) && !is_own(&uri, &origin("http://evil.example")));
    }
}
