//! `/login`, `/refresh`, `/logout`, `/logout/all`, `/account/whoami`
//! (client-server specification, "Legacy API": login, refreshing access tokens, logout).
//!
//! Threats met: guessing passwords, by limits per address and per account and by hashes that are slow to try; learning
//! which accounts there are, by the same answer and time for a wrong name and a wrong password.

use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use ruma::api::client::account::whoami;
use ruma::api::client::session::{get_login_token, get_login_types, login, logout, logout_all, refresh_token};
use ruma::{OwnedDeviceId, OwnedUserId};
use serde_json::Value;

use crate::Node;
use crate::accounts::devices::{self, NewDevice};
use crate::accounts::limits::{self, Action};
use crate::accounts::{localpart, login_tokens, sign_in, tokens, uia, users};
use crate::client_api::untyped::{Lenient, Untyped};
use crate::http::endpoint::Stranger;
use crate::http::{Anonymous, Answer, MatrixError, Routes, Session};

pub(super) fn routes(routes: Routes) -> Routes {
    let routes = ["v3", "r0"].iter().fold(routes, |routes, version| {
        let path = format!("/_matrix/client/{version}/login/sso/redirect");
        routes.raw(&path, get(no_single_sign_on)).raw(&format!("{path}/{{idp_id}}"), get(no_single_sign_on))
    });
    routes.add(login_types).add(log_in).add(get_token).add(refresh).add(sign_out).add(sign_out_all).add(who_am_i)
}

/// `GET /login/sso/redirect`: no login flow leads here.
async fn no_single_sign_on() -> MatrixError {
    MatrixError::not_found("this server has no single sign-on: sign in with a user name and a password")
}

async fn login_types(
    node: Arc<Node>,
    _: Anonymous,
    _: get_login_types::v3::Request,
) -> Answer<get_login_types::v3::Response> {
    use get_login_types::v3::{ApplicationServiceLoginType, LoginType, PasswordLoginType, TokenLoginType};
    let mut token = TokenLoginType::new();
    token.get_login_token = true;
    let password = LoginType::Password(PasswordLoginType::default());
    let mut flows = vec![password, LoginType::Token(token)];
    if !node.appservices.all().is_empty() {
        flows.push(LoginType::ApplicationService(ApplicationServiceLoginType::default()));
    }
    Ok(get_login_types::v3::Response::new(flows))
}

/// `POST /login`. Parsed by hand: ruma's type panics on a body without `type`.
async fn log_in(
    node: Arc<Node>,
    caller: Stranger,
    request: Untyped<login::v3::Request, login::v3::Response>,
) -> Answer<login::v3::Response> {
    let from = &caller.from;
    let user_id = match request.text("type") {
        Some("m.login.password") => by_password(&node, from, &request).await?,
        Some("m.login.token") => {
            let token = request.text("token").ok_or_else(|| MatrixError::missing_param("`token` is missing"))?;
            limits::check_address(&node, Action::Login, from)?;
            login_tokens::spend(&node, token)?
                .ok_or_else(|| MatrixError::forbidden("the token was used, has expired, or never was one"))?
        }
        Some("m.login.application_service") => by_service(&node, &caller, &request)?,
        Some(other) => return Err(MatrixError::bad_request(format!("signing in by {other:.80} is not offered"))),
        None => return Err(MatrixError::missing_param("`type` is missing: how to sign in")),
    };
    sign_in::check_not_locked(&node, &user_id)?;
    let device = NewDevice {
        device_id: request.text("device_id").map(OwnedDeviceId::from),
        display_name: request.text("initial_device_display_name").map(str::to_owned),
        refreshable: request.body.get("refresh_token").and_then(Value::as_bool).unwrap_or(false),
        oauth: None,
    };
    let (device_id, tokens) = devices::sign_in(&node, &user_id, device).await?;
    let mut response = login::v3::Response::new(user_id, tokens.access, device_id);
    response.refresh_token = tokens.refresh;
    response.expires_in = tokens.expires_in_ms.map(Duration::from_millis);
    // Only what the owner set: the default names this very device, which the client may not be.
    if let Some(url) = &node.config.client.public_base_url {
        let homeserver = login::v3::HomeserverInfo::new(url.clone());
        response.well_known = Some(login::v3::DiscoveryInfo::new(homeserver));
    }
    Ok(response)
}

/// Which of its users an application service signs in.
fn by_service(
    node: &Node,
    caller: &Stranger,
    request: &Untyped<login::v3::Request, login::v3::Response>,
) -> Answer<OwnedUserId> {
    let service = caller.service.as_ref().ok_or_else(|| match caller.shows_token {
        true => MatrixError::unknown_token(false),
        false => MatrixError::missing_token(),
    })?;
    let name = name_of(&request.body)?;
    let user_id = localpart::local_user_id(name, node.identity.server_name())
        .ok_or_else(|| MatrixError::invalid_param("the user is not of this server"))?;
    if !service.service.has_user(&user_id) {
        let message = "this user is not in the application service's namespaces";
        return Err(MatrixError::new(http::StatusCode::BAD_REQUEST, "M_EXCLUSIVE", message));
    }
    if !node.store.read(|read| users::exists(read, &user_id))? {
        return Err(MatrixError::forbidden("the application service has not registered this user"));
    }
    Ok(user_id)
}

/// Whose password it is that the request shows.
async fn by_password(
    node: &Arc<Node>,
    from: &Anonymous,
    request: &Untyped<login::v3::Request, login::v3::Response>,
) -> Answer<OwnedUserId> {
    let Some(given) = request.text("password") else {
        return Err(MatrixError::missing_param("`password` is missing"));
    };
    sign_in::by_password(node, from, name_of(&request.body)?, given).await
}

/// `POST /login/get_token`: a token with which another client of the user signs in. The user proves again who it is, as whoever
/// has the token has the account.
async fn get_token(
    node: Arc<Node>,
    session: Session,
    Lenient(request): Lenient<get_login_token::v1::Request>,
) -> Answer<get_login_token::v1::Response> {
    limits::check(&node, Action::Login, &format!("{} asks for login tokens", session.user_id))?;
    uia::require(&node, &session, request.auth.as_ref(), "POST /login/get_token").await?;
    let token = login_tokens::issue(&node, &session.user_id);
    Ok(get_login_token::v1::Response::new(Duration::from_millis(login_tokens::TOKEN_MS), token))
}

/// The user's name in a login request: in an `identifier`, or in `user` as before r0.4.0.
fn name_of(body: &serde_json::Map<String, Value>) -> Answer<&str> {
    let text = |value: &'_ Value, field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
    match body.get("identifier") {
        Some(identifier) => match text(identifier, "type").as_deref() {
            Some("m.id.user") => identifier
                .get("user")
                .and_then(Value::as_str)
                .ok_or_else(|| MatrixError::missing_param("`identifier.user` is missing")),
            Some("m.id.thirdparty" | "m.id.phone") => {
                Err(MatrixError::forbidden("this server knows no email addresses or phone numbers: use the user name"))
            }
            Some(_) => Err(MatrixError::bad_request("this kind of `identifier` is not known")),
            None => Err(MatrixError::missing_param("`identifier.type` is missing")),
        },
        None => body
            .get("user")
            .and_then(Value::as_str)
            .ok_or_else(|| MatrixError::missing_param("`identifier` is missing: who signs in")),
    }
}

async fn refresh(
    node: Arc<Node>,
    from: Anonymous,
    request: refresh_token::v3::Request,
) -> Answer<refresh_token::v3::Response> {
    // A good token always passes: it is too long to be guessed, and a client that is kept from refreshing is signed out.
    if !node.store.read(|read| tokens::is_refresh_token(read, &request.refresh_token))? {
        limits::check_address(&node, Action::Login, &from)?;
    }
    let tokens = tokens::refresh(&node, &request.refresh_token).await?;
    let mut response = refresh_token::v3::Response::new(tokens.access);
    response.refresh_token = tokens.refresh;
    response.expires_in_ms = tokens.expires_in_ms.map(Duration::from_millis);
    Ok(response)
}

async fn sign_out(node: Arc<Node>, session: Session, _: logout::v3::Request) -> Answer<logout::v3::Response> {
    node.store
        .write(move |tx| devices::delete(tx, &session.user_id, session.device_id.as_str()).map_err(MatrixError::from))
        .await?;
    Ok(logout::v3::Response::new())
}

async fn sign_out_all(
    node: Arc<Node>,
    session: Session,
    _: logout_all::v3::Request,
) -> Answer<logout_all::v3::Response> {
    node.store.write(move |tx| devices::delete_all(tx, &session.user_id, None).map_err(MatrixError::from)).await?;
    Ok(logout_all::v3::Response::new())
}

async fn who_am_i(_: Arc<Node>, session: Session, _: whoami::v3::Request) -> Answer<whoami::v3::Response> {
    let mut response = whoami::v3::Response::new(session.user_id, false);
    response.device_id = Some(session.device_id).filter(|device| !device.as_str().is_empty());
    Ok(response)
}
