//! Tokens for credentials: `POST /auth/token` and `AuthService.IssueToken`.
//!
//! REST takes JSON, and the form of OAuth 2.0's password grant (RFC 6749 §4.3), which many clients send.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::header;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tonic::{Request, Status};

use super::error::ApiError;
use crate::auth::{Auth, Credential, Issued, Refusal, Scopes};
use crate::pb::v1 as pb;
use crate::port::{self, JsonOrForm};

/// Bytes of a request: whoever sends it has not proved anything yet.
pub(super) const TOKEN_REQUEST_BYTES_MAX: usize = 16 << 10;
const TOKEN_TYPE: &str = "bearer";

/// Gives out tokens. `None`: nobody is asked for one.
#[derive(Clone)]
pub(super) struct TokenApi {
    pub(super) auth: Option<Arc<Auth>>,
}

impl TokenApi {
    async fn issue(&self, credential: Credential, scopes: &[&str]) -> Result<Issued, ApiError> {
        let auth = self.auth.as_ref().ok_or(Refusal::Off)?;
        let scopes = Scopes::read(scopes.iter().copied()).map_err(Refusal::from)?;
        Ok(auth.issue(credential, scopes).await?)
    }
}

#[tonic::async_trait]
impl pb::auth_service_server::AuthService for TokenApi {
    async fn issue_token(
        &self,
        request: Request<pb::IssueTokenRequest>,
    ) -> Result<tonic::Response<pb::IssueTokenResponse>, Status> {
        use pb::issue_token_request::Credential as Sent;
        let pb::IssueTokenRequest { credential, scopes } = request.into_inner();
        let credential = match credential {
            Some(Sent::ApiKey(key)) => Credential::Key(key.into()),
            Some(Sent::Password(pb::PasswordCredential { username, password })) => {
                Credential::Password { username, password: password.into() }
            }
            None => return Err(ApiError::NoCredential.into()),
        };
        let Issued { token, expires_in_s } =
            self.issue(credential, &scopes.iter().map(String::as_str).collect::<Vec<_>>()).await?;
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
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenBody {
    api_key: Option<SecretString>,
    username: Option<String>,
    password: Option<SecretString>,
    #[serde(default)]
    scopes: Vec<String>,
}

/// The form of OAuth. Clients send more than these, such as an empty `client_id`.
#[derive(Deserialize)]
struct TokenForm {
    grant_type: String,
    username: Option<String>,
    password: Option<SecretString>,
    /// With spaces between.
    #[serde(default)]
    scope: String,
}

#[derive(Serialize)]
struct TokenAnswer {
    access_token: String,
    token_type: &'static str,
    /// Seconds.
    expires_in: u32,
}

async fn token(State(api): State<TokenApi>, body: JsonOrForm<TokenBody, TokenForm>) -> Result<Response, ApiError> {
    let TokenBody { api_key, username, password, scopes } = match body {
        JsonOrForm::Json(body) => body,
        JsonOrForm::Form(form) => form.try_into()?,
    };
    let credential = match (api_key, username, password) {
        (Some(key), None, None) => Credential::Key(key),
        (None, Some(username), Some(password)) => Credential::Password { username, password },
        _ => return Err(ApiError::NoCredential),
    };
    let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let Issued { token, expires_in_s } = api.issue(credential, &scopes).await?;
    let answer = TokenAnswer { access_token: token, token_type: TOKEN_TYPE, expires_in: expires_in_s };
    // RFC 6749 §5.1: nobody on the way keeps it.
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}

impl TryFrom<TokenForm> for TokenBody {
    type Error = ApiError;

    fn try_from(form: TokenForm) -> Result<Self, ApiError> {
        let TokenForm { grant_type, username, password, scope } = form;
        if grant_type != "password" {
            return Err(ApiError::GrantType);
        }
        let scopes = scope.split_whitespace().map(str::to_owned).collect();
        Ok(Self { api_key: None, username, password, scopes })
    }
}
