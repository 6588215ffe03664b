//! `/oauth2/token`: codes, device codes and refresh tokens become tokens (client-server specification, "Grant types").

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::{Request, StatusCode};
use kith_store::{StoreError, Tx};
use ruma::OwnedDeviceId;
use serde_json::json;

use super::clients;
use super::codes::{Grant, Shown};
use super::error::{self, Answered, OauthError};
use super::form::{self, Parameters};
use super::waiting::State;
use crate::Node;
use crate::accounts::devices::{self, SignIn};
use crate::accounts::limits::{self, Action};
use crate::accounts::tokens::{self, Tokens};
use crate::accounts::{monotonic_ms, standing, users};
use crate::http::{Anonymous, MatrixError};

/// `POST /oauth2/token`.
pub(super) async fn token(node: Arc<Node>, request: Request<Body>) -> Answered {
    let (from, form) = form::posted(&node, request).await?;
    let grant_type = form.required("grant_type")?;
    let client = form.required("client_id")?;
    match grant_type {
        clients::REFRESH => refresh(&node, &from, &form, client).await,
        clients::CODE => by_code(&node, &from, &form, client).await,
        clients::DEVICE => by_device_code(&node, &form, client).await,
        _ => Err(OauthError::new("unsupported_grant_type", "this grant type is not served")),
    }
}

fn answer(tokens: Tokens, scope: &str) -> Response {
    let mut body = json!({ "access_token": tokens.access, "token_type": "Bearer", "scope": scope });
    if let Some(ms) = tokens.expires_in_ms {
        body["expires_in"] = (ms / 1000).into();
    }
    if let Some(token) = tokens.refresh {
        body["refresh_token"] = token.into();
    }
    error::json(StatusCode::OK, body)
}

async fn refresh(node: &Arc<Node>, from: &Anonymous, form: &Parameters, client: &str) -> Answered {
    let token = form.required("refresh_token")?;
    // A good token always passes: it is too long to be guessed, and a client that is kept from refreshing is signed out.
    if !node.store.read(|read| tokens::is_refresh_token(read, token))? {
        limits::check_address(node, Action::Login, from)?;
    }
    let (tokens, scope) = tokens::refresh_for_client(node, token, client).await?;
    Ok(answer(tokens, &scope))
}

/// What came of a grant, decided by the one writer: two requests with the same code do not get between each other.
enum Outcome {
    SignedIn(String),
    Refused(OauthError),
}

async fn by_code(node: &Arc<Node>, from: &Anonymous, form: &Parameters, client: &str) -> Answered {
    let code = form.required("code")?.to_owned();
    let redirect_uri = form.required("redirect_uri")?.to_owned();
    let verifier = form.required("code_verifier")?.to_owned();
    let (client, now) = (client.to_owned(), monotonic_ms(node));
    if !node.oauth.codes.knows(&code) {
        limits::check_address(node, Action::Login, from)?;
    }
    sign_in(node, move |node, tx| match node.oauth.codes.show(&code, &client, &redirect_uri, &verifier, now) {
        Shown::Good(grant) => Ok(Ok(grant)),
        Shown::Bad(reason) => Ok(Err(OauthError::grant(reason))),
        Shown::Again(grant) => {
            end(tx, &grant)?;
            Ok(Err(OauthError::grant("the code was used before; what it brought has ended")))
        }
    })
    .await
}

/// Signs out what a code brought, unless the device has signed in anew since.
fn end(tx: &mut Tx, grant: &Grant) -> Result<(), StoreError> {
    let row = devices::get(tx, &grant.user, grant.device.as_str().into())?;
    if row.is_some_and(|row| row.oauth.as_ref() == Some(&grant.oauth)) {
        devices::delete(tx, &grant.user, &grant.device)?;
    }
    Ok(())
}

async fn by_device_code(node: &Arc<Node>, form: &Parameters, client: &str) -> Answered {
    let code = form.required("device_code")?;
    match node.oauth.waiting.ask(code, client, monotonic_ms(node)) {
        State::Granted(grant) => sign_in(node, move |_, _| Ok(Ok(grant))).await,
        State::Pending => Err(OauthError::new("authorization_pending", "the user has not answered yet")),
        State::TooOften => Err(OauthError::new("slow_down", "wait five seconds longer between two questions")),
        State::Denied => Err(OauthError::new("access_denied", "the user said no")),
        State::Gone => Err(OauthError::new("expired_token", "the device code has expired, or never was one")),
    }
}

/// Signs in the device that `granted` names.
async fn sign_in(
    node: &Arc<Node>,
    granted: impl FnOnce(&Node, &mut Tx) -> Result<Result<Grant, OauthError>, StoreError> + Send + 'static,
) -> Answered {
    let (deciding, now_ms) = (node.clone(), node.clock.now_ms());
    // The tokens are drawn beforehand: the writer has no randomness.
    let tokens = Tokens::new(&node.rng, true);
    let given = tokens.clone();
    let outcome = node
        .store
        .write(move |tx| {
            let grant = match granted(&deciding, tx)? {
                Ok(grant) => grant,
                Err(error) => return Ok(Outcome::Refused(error)),
            };
            match users::get(tx, &grant.user)? {
                Some(row) if row.locked => return Err(standing::is_locked()),
                Some(row) if row.deactivated.is_none() => {}
                _ => return Err(users::is_deactivated()),
            }
            let Some(client) = clients::get(tx, &grant.oauth.client)? else {
                return Ok(Outcome::Refused(OauthError::client()));
            };
            let scope = grant.oauth.scope.clone();
            let device = OwnedDeviceId::from(grant.device);
            SignIn::with(tokens, now_ms, device, clients::name(&client), grant.oauth).commit(tx, &grant.user)?;
            Ok::<_, MatrixError>(Outcome::SignedIn(scope))
        })
        .await?;
    match outcome {
        Outcome::SignedIn(scope) => Ok(answer(given, &scope)),
        Outcome::Refused(error) => Err(error),
    }
}
