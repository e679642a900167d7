//! Tokens for credentials: `POST /auth/token` and `AuthService.IssueToken`.
//!
//! REST takes JSON, and the form of OAuth 2.0's password grant (RFC 6749 §4.3), which many clients send. To a form the errors
//! are those of OAuth (§5.2), beside ours.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::{Extensions, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tonic::{Request, Status};
use utoipa::ToSchema;

use super::error::ApiError;
use super::guard::{peer, tell_refused};
use crate::auth::{Auth, Credential, Issued, Refusal, Scopes, Whose};
use crate::pb::v1 as pb;
use crate::port::{self, FailureBody, JsonOrForm, NoParams};

/// Bytes of a request: whoever sends it has not proved anything yet.
pub(super) const TOKEN_REQUEST_BYTES_MAX: usize = 16 << 10;
const TOKEN_TYPE: &str = "bearer";

/// Gives out tokens. `None`: nobody is asked for one.
#[derive(Clone)]
pub(super) struct TokenApi {
    pub(super) auth: Option<Arc<Auth>>,
}

impl TokenApi {
    async fn issue(&self, credential: Credential, scopes: &[&str], peer: Option<IpAddr>) -> Result<Issued, ApiError> {
        let auth = self.auth.as_ref().ok_or(Refusal::Off)?;
        let scopes = Scopes::read(scopes.iter().copied()).map_err(Refusal::from)?;
        let sent = credential.clone();
        auth.issue(credential, scopes, peer).await.map_err(|refusal| {
            let whose = match &sent {
                Credential::Key(key) => Whose::Credential(key.expose_secret()),
                Credential::Password { username, .. } => Whose::Name(username),
            };
            tell_refused(auth, refusal, &whose, peer)
        })
    }
}

#[tonic::async_trait]
impl pb::auth_service_server::AuthService for TokenApi {
    async fn issue_token(
        &self,
        request: Request<pb::IssueTokenRequest>,
    ) -> Result<tonic::Response<pb::IssueTokenResponse>, Status> {
        use pb::issue_token_request::Credential as Sent;
        let peer = peer(request.extensions());
        let pb::IssueTokenRequest { credential, scopes } = request.into_inner();
        let credential = match credential {
            Some(Sent::ApiKey(key)) => Credential::Key(key.into()),
            Some(Sent::Password(pb::PasswordCredential { username, password })) => {
                Credential::Password { username, password: password.into() }
            }
            None => return Err(ApiError::NoCredential.into()),
        };
        let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
        let Issued { token, expires_in_s, .. } = self.issue(credential, &scopes, peer).await?;
        let token_type = TOKEN_TYPE.to_owned();
        Ok(tonic::Response::new(pb::IssueTokenResponse { access_token: token, token_type, expires_in_s }))
    }
}

/// `POST /auth/token`, for a router of any state.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(api: TokenApi) -> Router<S> {
    let router = Router::new().route("/auth/token", post(token)).with_state(api);
    port::limit_bodies(router, TOKEN_REQUEST_BYTES_MAX)
}

/// JSON: an API key, or a user name and password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenBody {
    /// An API key; or `username` and `password`.
    #[schema(value_type = Option<String>, format = Password)]
    api_key: Option<SecretString>,
    username: Option<String>,
    #[schema(value_type = Option<String>, format = Password)]
    password: Option<SecretString>,
    /// Fewer than the credential has. Absent: all of them.
    #[serde(default)]
    scopes: Vec<String>,
}

/// The form of OAuth 2.0's password grant. Other fields are not looked at, such as an empty `client_id`.
#[derive(Deserialize, ToSchema)]
pub(super) struct TokenForm {
    /// Always `password`.
    grant_type: Option<String>,
    username: Option<String>,
    #[schema(value_type = Option<String>, format = Password)]
    password: Option<SecretString>,
    /// Fewer scopes than the user has, with spaces between. Absent: all of them.
    #[serde(default)]
    scope: String,
}

/// Answer to `POST /auth/token`.
#[derive(Serialize, ToSchema)]
struct TokenAnswer {
    access_token: String,
    /// Always `bearer`.
    token_type: &'static str,
    /// Seconds.
    expires_in: u32,
    /// What it allows, with spaces between.
    scope: String,
}

/// What a form is answered with where there is no token: OAuth's fields, and ours.
#[derive(Serialize, ToSchema)]
struct OAuthFailure {
    /// One of RFC 6749 §5.2.
    error: &'static str,
    error_description: String,
    success: bool,
    code: &'static str,
    message: String,
}

/// Describes what is answered with 400.
#[derive(ToSchema)]
#[schema(as = TokenRefused)]
#[serde(untagged)]
#[expect(dead_code, reason = "a description")]
enum Refused {
    Ours(FailureBody),
    OAuth(OAuthFailure),
}

/// No token, told as the request was sent.
pub(super) enum NoToken {
    ToJson(ApiError),
    ToForm(ApiError),
}

/// Gives a token for an API key, or for a user name and password.
#[utoipa::path(
    post,
    path = "/auth/token",
    tag = "Tokens",
    security(()),
    request_body(content((TokenBody = "application/json"), (TokenForm = "application/x-www-form-urlencoded"))),
    responses(
        (status = 200, body = TokenAnswer),
        (status = 400, description = "The first to JSON, the second to most mistakes in a form.", body = Refused),
        (status = "default", body = FailureBody)
    )
)]
pub(super) async fn token(
    State(api): State<TokenApi>,
    _: NoParams,
    extensions: Extensions,
    body: JsonOrForm<TokenBody, TokenForm>,
) -> Result<Response, NoToken> {
    let peer = peer(&extensions);
    match body {
        JsonOrForm::Json(body) => answer(&api, body, peer).await.map_err(NoToken::ToJson),
        JsonOrForm::Form(form) => {
            let body = form.try_into().map_err(NoToken::ToForm)?;
            answer(&api, body, peer).await.map_err(NoToken::ToForm)
        }
    }
}

async fn answer(api: &TokenApi, body: TokenBody, peer: Option<IpAddr>) -> Result<Response, ApiError> {
    let credential = match (body.api_key, body.username, body.password) {
        (Some(key), None, None) => Credential::Key(key),
        (None, Some(username), Some(password)) => Credential::Password { username, password },
        _ => return Err(ApiError::NoCredential),
    };
    let asked: Vec<&str> = body.scopes.iter().map(String::as_str).collect();
    let Issued { token, expires_in_s, scopes } = api.issue(credential, &asked, peer).await?;
    let answer = TokenAnswer {
        access_token: token,
        token_type: TOKEN_TYPE,
        expires_in: expires_in_s,
        scope: scopes.to_string(),
    };
    // RFC 6749 §5.1: nobody on the way keeps it.
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}

impl IntoResponse for NoToken {
    fn into_response(self) -> Response {
        let error = match self {
            Self::ToJson(error) => return error.into_response(),
            Self::ToForm(error) => error,
        };
        // RFC 6749 §5.2; what it has no word for stays as it is.
        let word = match &error {
            ApiError::Refused(Refusal::WrongCredential) => "invalid_grant",
            ApiError::Refused(Refusal::MoreScopes { .. } | Refusal::UnknownScope(_)) => "invalid_scope",
            ApiError::GrantType => "unsupported_grant_type",
            ApiError::NoCredential => "invalid_request",
            _ => return error.into_response(),
        };
        let (code, message) = (error.reason(), error.to_string());
        // It may hold printable ASCII without quotes and backslashes.
        let fits = |c: char| (c.is_ascii_graphic() || c == ' ') && c != '"' && c != '\\';
        let error_description = message.chars().map(|c| if fits(c) { c } else { '?' }).collect();
        let body = OAuthFailure { error: word, error_description, success: false, code, message };
        (StatusCode::BAD_REQUEST, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
    }
}

impl TryFrom<TokenForm> for TokenBody {
    type Error = ApiError;

    fn try_from(form: TokenForm) -> Result<Self, ApiError> {
        let TokenForm { grant_type, username, password, scope } = form;
        match grant_type.as_deref() {
            Some("password") => {}
            Some(_) => return Err(ApiError::GrantType),
            None => return Err(ApiError::NoCredential),
        }
        let scopes = scope.split_whitespace().map(str::to_owned).collect();
        Ok(Self { api_key: None, username, password, scopes })
    }
}
