//! `/oauth2/authorize`: the user signs in and lets a client in (RFC 6749, section 4.1.1; client-server specification,
//! "Authorisation code flow").
//!
//! The request stays in the address through all steps, and is checked anew at each: nothing is kept for it. What is wrong with the
//! client or its address is said on a page, all else to the client.

use std::sync::Arc;

use axum::body::Body;
use axum::response::IntoResponse as _;
use http::{Request, StatusCode};
use kith_store::tables::accounts::OauthRow;
use kith_store::tables::oauth::ClientMetadata;
use ruma::UserId;

use super::codes::{self, Code, Grant};
use super::form::Parameters;
use super::page::{self, Page, Shown, escape};
use super::redirect::{self, Mode};
use super::scope::{self, Scope};
use super::visit::Visit;
use super::{clients, sign_in};
use crate::Node;
use crate::accounts::{devices, monotonic_ms};

/// The longest `state`, in bytes.
const LONGEST_STATE: usize = 4096;

/// Whom to answer, and where.
struct Callback {
    client_id: String,
    client: ClientMetadata,
    redirect_uri: String,
    mode: Mode,
    state: Option<String>,
}

impl Callback {
    /// The client and an address that it has registered.
    ///
    /// # Errors
    /// The page that says that there is nobody to answer.
    fn of(node: &Node, query: &Parameters) -> Result<Self, Page> {
        let wrong = |message| Page::wrong(StatusCode::BAD_REQUEST, message);
        let client_id = query.get("client_id").ok_or_else(|| wrong("The app did not say who it is."))?;
        let client = node.store.read(|read| clients::get(read, client_id))?;
        let client = client.ok_or_else(|| wrong("The app is not known here (any more). Start again in the app."))?;
        let redirect_uri =
            query.get("redirect_uri").ok_or_else(|| wrong("The app did not say where to go back to."))?;
        if !client.redirect_uris.iter().any(|registered| redirect::matches(registered, redirect_uri)) {
            return Err(wrong("The app wants you to be sent to an address that is not its own."));
        }
        let mode = if query.get("response_mode") == Some("fragment") { Mode::Fragment } else { Mode::Query };
        let state = query.get("state").filter(|state| state.len() <= LONGEST_STATE).map(str::to_owned);
        Ok(Self { client_id: client_id.to_owned(), client, redirect_uri: redirect_uri.to_owned(), mode, state })
    }

    fn answer(&self, visit: &Visit, parameters: &[(&str, &str)]) -> Shown {
        let mut parameters = parameters.to_vec();
        parameters.extend(self.state.as_deref().map(|state| ("state", state)));
        visit.go(&redirect::answer(&self.redirect_uri, self.mode, &parameters))
    }
}

/// What is asked for.
struct Wish {
    scope: Scope,
    challenge: String,
}

impl Wish {
    /// # Errors
    /// Code and description of the error that the client is told.
    fn of(query: &Parameters, client: &ClientMetadata) -> Result<Self, (&'static str, &'static str)> {
        let invalid = |description| ("invalid_request", description);
        if query.get("request").is_some() {
            return Err(("request_not_supported", "`request` is not supported"));
        }
        if query.get("request_uri").is_some() {
            return Err(("request_uri_not_supported", "`request_uri` is not supported"));
        }
        match query.get("response_type") {
            Some("code") => {}
            None => return Err(invalid("`response_type` is missing")),
            Some(_) => return Err(("unsupported_response_type", "`response_type` must be `code`")),
        }
        if !client.grant_types.iter().any(|grant| grant == clients::CODE) {
            return Err(("unauthorized_client", "the client did not register for authorization codes"));
        }
        if !matches!(query.get("response_mode"), None | Some("query" | "fragment")) {
            return Err(invalid("`response_mode` must be `query` or `fragment`"));
        }
        if query.get("state").is_some_and(|state| state.len() > LONGEST_STATE) {
            return Err(invalid("`state` is too long"));
        }
        if query.get("code_challenge_method") != Some("S256") {
            return Err(invalid("`code_challenge_method` must be `S256`"));
        }
        let challenge = query.get("code_challenge").filter(|challenge| codes::is_challenge(challenge));
        let challenge = challenge.ok_or_else(|| invalid("`code_challenge` must be the SHA-256 of a verifier"))?;
        let scope = query.get("scope").unwrap_or_default();
        let scope = scope::parse(scope).map_err(|reason| ("invalid_scope", reason))?;
        Ok(Self { scope, challenge: challenge.to_owned() })
    }
}

/// `GET` and `POST /oauth2/authorize`.
pub(super) async fn authorize(node: Arc<Node>, request: Request<Body>) -> Shown {
    let mut visit = Visit::receive(&node, request).await?;
    let callback = Callback::of(&node, &visit.query)?;
    let wish = match Wish::of(&visit.query, &callback.client) {
        Ok(wish) => wish,
        Err((code, text)) => return callback.answer(&visit, &[("error", code), ("error_description", text)]),
    };
    if visit.query.get("prompt") == Some("none") {
        let code = if visit.user.is_some() { "consent_required" } else { "login_required" };
        return callback.answer(&visit, &[("error", code)]);
    }
    let purpose = format!("<p>To go on to {}.</p>", app(&callback.client));
    if let Some(response) = sign_in::pass(&mut visit, &purpose).await? {
        return Ok(response);
    }
    let Some(user) = visit.user.clone() else { return Err(Page::wrong(StatusCode::FORBIDDEN, "Nobody is signed in.")) };
    match visit.does() {
        Some("allow") => {
            let session = node.rng.token(22);
            let oauth = OauthRow { client: callback.client_id.clone(), scope: wish.scope.granted, session };
            let grant = Grant { user, device: wish.scope.device, oauth };
            let code = Code { grant, redirect_uri: callback.redirect_uri.clone(), challenge: wish.challenge };
            let text = node.rng.token(43);
            node.oauth.codes.insert(&text, code, monotonic_ms(&node));
            callback.answer(&visit, &[("code", &text)])
        }
        Some("deny") => {
            let text = "the user said no";
            callback.answer(&visit, &[("error", "access_denied"), ("error_description", text)])
        }
        _ => {
            let target = redirect::shown(&callback.redirect_uri);
            let goal = format!("<dt>You are sent on to</dt><dd><strong>{}</strong></dd>", escape(&target));
            let body = consent(&visit, &user, &callback.client, &wish.scope.device, &goal)?;
            let page = visit.page("Let this app in?", body);
            Ok(page.leading_to(Some(redirect::source(&callback.redirect_uri))).into_response())
        }
    }
}

/// How a client is named to people, with the site that it says it is of.
pub(super) fn app(client: &ClientMetadata) -> String {
    let site = redirect::shown(&client.client_uri);
    format!("<strong>{}</strong> <span class=\"quiet\">({})</span>", escape(&clients::name(client)), escape(&site))
}

/// What a user is asked before a client gets in. `goal` is HTML: what happens then.
pub(super) fn consent(
    visit: &Visit,
    user: &UserId,
    client: &ClientMetadata,
    device: &str,
    goal: &str,
) -> Result<String, Page> {
    let known = visit.node.store.read(|read| devices::get(read, user, device.into()))?;
    let again = match known {
        Some(_) => "<br>This device is signed in: that ends, and it signs in again.",
        None => "",
    };
    let link = |uri: &Option<String>, label: &str| match uri {
        Some(uri) => format!("<a href=\"{}\" target=\"_blank\" rel=\"noopener noreferrer\">{label}</a> ", escape(uri)),
        None => String::new(),
    };
    let links = link(&client.tos_uri, "Its terms of service") + &link(&client.policy_uri, "Its privacy policy");
    let links = if links.is_empty() { links } else { format!("<p class=\"quiet\">{links}</p>") };
    let buttons = format!(
        "<p class=\"choices\">{}{}</p>",
        page::button("allow", "Allow", "primary"),
        page::button("deny", "Cancel", "")
    );
    Ok(format!(
        "<p>{app} wants to use your account: read and send messages, and change all that an app can change.</p>\
         <dl><dt>Your account</dt><dd><code>{user}</code></dd>{goal}\
         <dt>Device</dt><dd><code>{device}</code>{again}</dd></dl>\
         <p>Allow it only if you have just opened this app yourself.</p>{links}{form}{other}",
        app = app(client),
        user = escape(user.as_str()),
        device = escape(device),
        form = visit.form(&buttons),
        other = visit.form(&page::button("sign_out", "Use another account", "quiet")),
    ))
}
