//! `/oauth2/device` and `/oauth2/link`: a device without a browser gets a code, which its user types on a page elsewhere (RFC 8628;
//! client-server specification, "Device authorisation flow").

use std::sync::Arc;

use axum::body::Body;
use axum::response::IntoResponse as _;
use http::{Request, StatusCode};
use kith_store::tables::accounts::OauthRow;
use serde_json::json;

use super::codes::Grant;
use super::error::{Answered, OauthError, json};
use super::page::{self, Page, Shown, escape};
use super::visit::Visit;
use super::waiting::{self, Device, State};
use super::{address, authorize, clients, form, scope, sign_in};
use crate::Node;
use crate::accounts::limits::{self, Action};
use crate::accounts::monotonic_ms;

/// How often a new user code is drawn when another device has it.
const DRAWS: usize = 5;

/// `POST /oauth2/device`.
pub(super) async fn begin(node: Arc<Node>, request: Request<Body>) -> Answered {
    let (from, form) = form::posted(&node, request).await?;
    let client_id = form.required("client_id")?;
    let scope = scope::parse(form.required("scope")?).map_err(|reason| OauthError::new("invalid_scope", reason))?;
    limits::check_address(&node, Action::Question, &from)?;
    let client = node.store.read(|read| clients::get(read, client_id))?.ok_or_else(OauthError::client)?;
    if !client.grant_types.iter().any(|grant| grant == clients::DEVICE) {
        return Err(OauthError::new("unauthorized_client", "the client did not register for device codes"));
    }
    let device_code = node.rng.token(43);
    let device = Device { client: client_id.to_owned(), device: scope.device, scope: scope.granted };
    for _ in 0..DRAWS {
        let user_code = waiting::user_code(&node.rng);
        if node.oauth.waiting.insert(&device_code, user_code.clone(), device.clone(), monotonic_ms(&node)) {
            let shown = waiting::shown(&user_code);
            let answer = json!({
                "device_code": device_code,
                "user_code": shown,
                "verification_uri": address(&node, "link"),
                "verification_uri_complete": format!("{}?user_code={shown}", address(&node, "link")),
                "expires_in": waiting::WAITING_MS / 1000,
                "interval": waiting::INTERVAL,
            });
            return Ok(json(StatusCode::OK, answer));
        }
    }
    Err(OauthError { status: StatusCode::SERVICE_UNAVAILABLE, ..OauthError::new("server_error", "no code is free") })
}

/// `GET` and `POST /oauth2/link`.
pub(super) async fn link(node: Arc<Node>, request: Request<Body>) -> Shown {
    let mut visit = Visit::receive(&node, request).await?;
    let purpose = "<p>To let an app in on another device.</p>";
    if let Some(response) = sign_in::pass(&mut visit, purpose).await? {
        return Ok(response);
    }
    let Some(user) = visit.user.clone() else { return Err(Page::wrong(StatusCode::FORBIDDEN, "Nobody is signed in.")) };
    if let Some(typed) = visit.posted("user_code").map(waiting::typed) {
        // The steps that follow find the code in the address.
        return visit.go(&visit.here(&format!("user_code={typed}")));
    }
    let Some(code) = visit.query.get("user_code").map(waiting::typed) else {
        return Ok(ask(&visit, "", StatusCode::OK).into_response());
    };
    // Codes could be guessed, were there no end of it.
    if let Err(error) = limits::check(&node, Action::Login, &format!("{user} types codes")) {
        return Ok(ask(&visit, &error.message, error.status).into_response());
    }
    let now = monotonic_ms(&node);
    let gone = "No device waits with this code: it was typed wrongly, was used, or has expired.";
    let Some(device) = node.oauth.waiting.find(&code, now) else {
        return Ok(ask(&visit, gone, StatusCode::NOT_FOUND).into_response());
    };
    let client = node.store.read(|read| clients::get(read, &device.client))?;
    let Some(client) = client else { return Ok(ask(&visit, gone, StatusCode::NOT_FOUND).into_response()) };
    let (state, title, text) = match visit.does() {
        Some("allow") => {
            let session = node.rng.token(22);
            let oauth = OauthRow { client: device.client, scope: device.scope, session };
            let grant = Grant { user, device: device.device, oauth };
            (
                State::Granted(grant),
                "The app is let in",
                "Go back to the other device: it signs in within some seconds.",
            )
        }
        Some("deny") => (State::Denied, "The app is not let in", "Nothing has changed."),
        _ => {
            let shown = escape(&waiting::shown(&code));
            let goal = format!("<dt>Your device must show this code</dt><dd><code>{shown}</code></dd>");
            let body = authorize::consent(&visit, &user, &client, &device.device, &goal)?;
            return Ok(visit.page("Let this app in?", body).into_response());
        }
    };
    if !node.oauth.waiting.answer(&code, state, now) {
        return Ok(ask(&visit, gone, StatusCode::NOT_FOUND).into_response());
    }
    Ok(visit.page(title, format!("<p>{text}</p>")).into_response())
}

fn ask(visit: &Visit, wrong: &str, status: StatusCode) -> Page {
    let attributes = "autocomplete=\"off\" autocapitalize=\"characters\" spellcheck=\"false\" maxlength=\"20\"";
    let code = page::field("user_code", "Code", attributes, "Eight letters, which the other device shows.");
    let fields = format!("{}{code}{}", page::notice(wrong), page::button("look", "Go on", "primary"));
    visit.page("Type the code", visit.form(&fields)).status(status)
}
