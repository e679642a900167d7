//! Lets in who has a key or a token for what is called. A layer around all routes, gRPC and REST alike, that reads headers
//! only: who is refused has not had a byte of the body read.
//!
//! Fails closed: a route that the table does not know needs `admin`. Where there is no route at all, whoever has a good
//! credential is told so.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::{Extensions, HeaderMap, HeaderValue, header};
use tonic::Status;
use tonic::transport::server::TcpConnectInfo;

use super::error::ApiError;
use crate::auth::{Auth, Caller, Open, Pass, Refusal, Scope, Whose};
use crate::figures;
use crate::port::Door;

/// For clients that send keys so.
const X_API_KEY: &str = "x-api-key";

/// What a path asks of its callers.
#[derive(Debug, PartialEq, Eq)]
enum Needs {
    /// Nothing.
    Nothing,
    /// A credential with this scope.
    Scope(Scope),
    /// The same, unless it is open by option.
    Unless(Open, Scope),
    /// A credential, whatever it allows: nothing answers there.
    Credential,
}

/// The table. Paths are compared as they came, as the router compares them; `route` is what it has found for the path.
fn needs(path: &str, route: Option<&str>) -> Needs {
    match path {
        "/health" | "/livez" | "/readyz" | "/auth/token" => Needs::Nothing,
        "/vectron.embedding.v1.AuthService/IssueToken" => Needs::Nothing,
        "/embed" | "/batch-embed" | "/v1/embeddings" => Needs::Scope(Scope::Embed),
        "/vectron.embedding.v1.EmbeddingService/Embed" => Needs::Scope(Scope::Embed),
        "/vectron.embedding.v1.EmbeddingService/StreamEmbed" => Needs::Scope(Scope::Embed),
        "/models" | "/v1/models" => Needs::Scope(Scope::ModelsRead),
        "/vectron.embedding.v1.EmbeddingService/ListModels" => Needs::Scope(Scope::ModelsRead),
        "/vectron.embedding.v1.EmbeddingService/GetModel" => Needs::Scope(Scope::ModelsRead),
        "/benchmark" | "/vectron.embedding.v1.EmbeddingService/BenchmarkModels" => Needs::Scope(Scope::Benchmark),
        "/metrics" => Needs::Unless(Open::Metrics, Scope::ModelsRead),
        // The page is the same everywhere, and asks for a key itself to read what is described.
        "/docs" => Needs::Nothing,
        "/openapi.json" => Needs::Unless(Open::Docs, Scope::ModelsRead),
        _ if path.starts_with("/grpc.health.v1.Health/") => Needs::Nothing,
        _ if path.starts_with("/grpc.reflection.") => Needs::Unless(Open::Reflection, Scope::ModelsRead),
        _ if path.starts_with("/v1/models/") => Needs::Scope(Scope::ModelsRead),
        // A gRPC service takes all paths below its name; all of its methods are above.
        _ if route.is_none_or(|route| route.ends_with("/{*rest}")) => Needs::Credential,
        _ => Needs::Scope(Scope::Admin),
    }
}

/// The route that the router has found; `None`: its fallback answers.
fn route(request: &Request) -> Option<&str> {
    request.extensions().get::<MatchedPath>().map(MatchedPath::as_str)
}

/// Puts the guard before `router`, its fallback too.
pub(super) fn guarded(router: Router, auth: Arc<Auth>) -> Router {
    router.layer(middleware::from_fn_with_state(auth, guard))
}

async fn guard(State(auth): State<Arc<Auth>>, mut request: Request, next: Next) -> Response {
    match admit(&auth, &request) {
        Ok(pass) => {
            if let Some(pass) = pass {
                request.extensions_mut().insert(pass);
            }
            next.run(request).await
        }
        Err(error) => match Door::of(request.headers()) {
            Door::Grpc => Status::from(error).into_http(),
            Door::Rest => error.into_response(),
        },
    }
}

/// With what somebody is let in; `None` where nothing is asked for.
fn admit(auth: &Arc<Auth>, request: &Request) -> Result<Option<Pass>, ApiError> {
    let path = request.uri().path();
    let needed = match needs(path, route(request)) {
        Needs::Nothing => return Ok(None),
        Needs::Unless(open, _) if auth.is_open(open) => return Ok(None),
        Needs::Scope(scope) | Needs::Unless(_, scope) => Some(scope),
        Needs::Credential => None,
    };
    let refused = |refusal, whose| tell_refused(auth, refusal, &whose, peer(request.extensions()));
    let credential = credential(request.headers()).map_err(|refusal| refused(refusal, Whose::Credential("")))?;
    let pass = auth.pass(credential).map_err(|refusal| refused(refusal, Whose::Credential(credential)))?;
    let Caller { name, scopes } = &pass.caller;
    if let Some(needed) = needed
        && !scopes.allow(needed)
    {
        let what = match Door::of(request.headers()) {
            Door::Grpc => path.to_owned(),
            Door::Rest => format!("{} {path}", request.method()),
        };
        return Err(refused(Refusal::NotAllowed { what, needed, has: *scopes }, Whose::Name(name)));
    }
    tracing::trace!("{name} calls {path}");
    Ok(Some(pass))
}

/// Counts and logs a refusal, and makes it the caller's answer.
pub(super) fn tell_refused(auth: &Auth, refusal: Refusal, whose: &Whose<'_>, peer: Option<IpAddr>) -> ApiError {
    let error = ApiError::from(refusal);
    figures::caller_refused(error.reason());
    auth.tell_refused(error.reason(), whose, peer);
    error
}

/// Whether a stream may go on: what it was opened with is still good, and allows `what`.
pub(super) fn check_still(pass: Option<&Pass>, needed: Scope, what: &str) -> Result<(), ApiError> {
    let Some(pass) = pass else { return Ok(()) };
    pass.check(needed, what)
        .map_err(|refusal| tell_refused(pass.auth(), refusal, &Whose::Name(&pass.caller.name), None))
}

/// The address that a request comes from: of a proxy, where there is one.
pub(super) fn peer(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<TcpConnectInfo>()?.remote_addr().map(|address| address.ip())
}

/// Whether a request comes with a credential of this scope, of paths that answer everybody and say more to some.
pub(super) fn allows(auth: &Arc<Auth>, headers: &HeaderMap, scope: Scope) -> bool {
    credential(headers).and_then(|credential| auth.pass(credential)).is_ok_and(|pass| pass.caller.scopes.allow(scope))
}

/// The key or token that was sent: once, in one of the two headers.
fn credential(headers: &HeaderMap) -> Result<&str, Refusal> {
    let sent: Vec<(bool, &HeaderValue)> = headers
        .get_all(header::AUTHORIZATION)
        .iter()
        .map(|value| (true, value))
        .chain(headers.get_all(X_API_KEY).iter().map(|value| (false, value)))
        .collect();
    let malformed = |what| Err(Refusal::Malformed { what });
    let (is_authorization, value) = match sent[..] {
        [] => return Err(Refusal::Missing),
        [one] => one,
        _ => return malformed("expected one of `authorization` and `x-api-key`, once, but more came"),
    };
    let Ok(text) = value.to_str() else { return malformed("the key or token has characters that none has") };
    let credential = if is_authorization {
        match text.split_once(' ') {
            Some((scheme, credential)) if scheme.eq_ignore_ascii_case("bearer") => credential.trim(),
            _ => return malformed("`authorization`: expected `Bearer`, a space, and a key or a token"),
        }
    } else {
        text.trim()
    };
    if credential.is_empty() { Err(Refusal::Missing) } else { Ok(credential) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of any service of gRPC, as tonic adds it to a router.
    const OF_A_SERVICE: Option<&str> = Some("/any.Service/{*rest}");

    fn is_in_table(path: &str, route: Option<&str>) -> bool {
        !matches!(needs(path, route), Needs::Credential | Needs::Scope(Scope::Admin))
    }

    /// Whoever adds a method to the contract, or a service to the port, has to say what it needs.
    #[test]
    fn every_method_of_every_service_is_in_the_table() {
        use tonic_reflection::pb::{v1, v1alpha};
        let sets = [
            crate::pb::DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            v1::FILE_DESCRIPTOR_SET,
            v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let mut methods = 0;
        for set in sets {
            let set = <prost_types::FileDescriptorSet as prost::Message>::decode(set).unwrap();
            for file in &set.file {
                for service in &file.service {
                    for method in &service.method {
                        let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                        assert!(is_in_table(&path, OF_A_SERVICE), "{path}");
                        methods += 1;
                    }
                }
            }
        }
        assert!(methods >= 10, "{methods}");
    }

    #[test]
    fn every_endpoint_of_rest_is_in_the_table() {
        for endpoint in super::super::rest::ENDPOINTS {
            let (_, path) = endpoint.split_once(' ').unwrap();
            assert!(is_in_table(path, Some(path)), "{path}");
        }
    }

    /// Whether there is a route is what the router says: a route that nobody put into the table is for `admin` alone.
    #[tokio::test]
    async fn route_that_is_not_in_the_table_is_told_from_a_path_that_nothing_answers() {
        use tower::ServiceExt;
        let answer = async |request: Request, _: Next| format!("{:?}", needs(request.uri().path(), route(&request)));
        let never = axum::routing::get(async || "the layer answers");
        let service = "/vectron.embedding.v1.EmbeddingService/{*rest}";
        let router = Router::new().route("/new", never.clone()).route(service, never.clone());
        let router = router.merge(Router::new().route("/new/{id}", never)).layer(middleware::from_fn(answer));
        for (path, needed) in [
            ("/new", "Scope(Admin)"),
            ("/new/1", "Scope(Admin)"),
            ("/old", "Credential"),
            ("/new/1/2", "Credential"),
            ("/vectron.embedding.v1.EmbeddingService/Embed", "Scope(Embed)"),
            ("/vectron.embedding.v1.EmbeddingService/Thought", "Credential"),
        ] {
            let request = Request::builder().uri(path).body(axum::body::Body::empty()).unwrap();
            let body = router.clone().oneshot(request).await.unwrap().into_body();
            assert_eq!(axum::body::to_bytes(body, 1000).await.unwrap(), needed, "{path}");
        }
    }

    #[test]
    fn what_is_nearly_open_is_not() {
        for path in [
            "/health/",
            "//health",
            "/Health",
            "/health%2f",
            "/auth/token/",
            "/docs/",
            "/",
            "",
            "/grpc.health.v1.Healthy/X",
        ] {
            assert_eq!(needs(path, None), Needs::Credential, "{path}");
            assert_eq!(needs(path, Some(path)), Needs::Scope(Scope::Admin), "{path}");
        }
    }

    fn sent(headers: &[(&str, &str)]) -> Result<String, Refusal> {
        let pairs = headers.iter().map(|(name, value)| {
            (header::HeaderName::try_from(*name).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        });
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name, value);
        }
        credential(&map).map(str::to_owned)
    }

    #[test]
    fn credential_comes_once_in_one_of_two_headers() {
        assert_eq!(sent(&[("authorization", "Bearer abc")]), Ok("abc".to_owned()));
        assert_eq!(sent(&[("authorization", "bearer  abc ")]), Ok("abc".to_owned()));
        assert_eq!(sent(&[("x-api-key", "abc")]), Ok("abc".to_owned()));
        assert_eq!(sent(&[]), Err(Refusal::Missing));
        assert_eq!(sent(&[("authorization", "Bearer ")]), Err(Refusal::Missing));
        for wrong in [
            &[("authorization", "Basic YTpi")][..],
            &[("authorization", "abc")],
            &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
            &[("authorization", "Bearer a"), ("x-api-key", "a")],
            &[("x-api-key", "ä")],
        ] {
            assert!(matches!(sent(wrong), Err(Refusal::Malformed { .. })), "{wrong:?}");
        }
    }
}
