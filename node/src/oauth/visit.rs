//! A browser at one of the pages: its cookie, who is signed in there, and the proof that a form is of our page.
//!
//! Each browser has a cookie of 43 random characters. A form holds the HMAC of it, by a key that is drawn when the node starts: who
//! cannot read our page cannot post to it in a user's name. Signing in and out changes the cookie.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use ruma::OwnedUserId;
use sha2::Sha256;
use url::Url;

use super::form::{self, Parameters};
use super::page::Page;
use crate::Node;
use crate::accounts::{monotonic_ms, sign_in, users};
use crate::http::Anonymous;

/// What the cookie's name begins with; the port follows, which browsers do not tell apart.
const COOKIE: &str = "kith_oauth";
/// The length of the cookie.
const LENGTH: usize = 43;

/// A browser's request for a page.
pub(super) struct Visit {
    pub(super) node: Arc<Node>,
    pub(super) from: Anonymous,
    /// The last part of the path: the name of the page.
    name: String,
    pub(super) query: Parameters,
    /// What was posted.
    pub(super) form: Option<Parameters>,
    /// Who is signed in here.
    pub(super) user: Option<OwnedUserId>,
    cookie: String,
    /// Whether the browser has another cookie yet, or none.
    is_new: bool,
}

impl Visit {
    /// Receives a request. What is posted must come of a form of ours.
    pub(super) async fn receive(node: &Arc<Node>, request: Request<Body>) -> Result<Self, Page> {
        let wrong = |message| Page::wrong(StatusCode::BAD_REQUEST, message);
        let uri = request.uri().clone();
        let (method, headers) = (request.method().clone(), request.headers().clone());
        let query = uri.query().unwrap_or_default();
        let query = Parameters::parse(query.as_bytes()).ok_or_else(|| wrong("A parameter comes twice."))?;
        let (from, body) = form::body(node, request).await?;
        let given = cookie(&cookie_name(node), &headers);
        let mut visit = Self {
            node: node.clone(),
            from,
            name: uri.path().rsplit('/').next().unwrap_or_default().to_owned(),
            query,
            form: None,
            user: None,
            is_new: given.is_none(),
            cookie: given.unwrap_or_else(|| node.rng.token(LENGTH)),
        };
        if method == Method::POST {
            let form = Parameters::parse(&body).ok_or_else(|| wrong("A field comes twice."))?;
            let proven = !visit.is_new && form.get("csrf").is_some_and(|token| visit.is_token(token));
            if !proven || !is_of_our_page(node, &headers) {
                let message = "This form has expired, or the browser keeps no cookies for this page. Go back, load the page \
                               again, and try once more.";
                return Err(Page::wrong(StatusCode::FORBIDDEN, message));
            }
            visit.form = Some(form);
        }
        visit.user = visit.signed_in()?;
        Ok(visit)
    }

    fn signed_in(&self) -> Result<Option<OwnedUserId>, Page> {
        let user = self.node.oauth.browsers.user(&self.cookie, monotonic_ms(&self.node));
        let Some(user) = user else { return Ok(None) };
        let active = self.node.store.read(|read| users::is_active(read, &user))?;
        Ok(Some(user).filter(|user| active && sign_in::check_not_locked(&self.node, user).is_ok()))
    }

    fn mac(&self) -> Option<Hmac<Sha256>> {
        let key = self.node.oauth.key.get_or_init(|| {
            let mut key = [0; 32];
            self.node.rng.fill(&mut key);
            key
        });
        let mut mac = Hmac::new_from_slice(key).ok()?;
        mac.update(self.cookie.as_bytes());
        Some(mac)
    }

    /// Compares in constant time.
    fn is_token(&self, token: &str) -> bool {
        let given = URL_SAFE_NO_PAD.decode(token).unwrap_or_default();
        self.mac().is_some_and(|mac| mac.verify_slice(&given).is_ok())
    }

    /// A form that posts to this very address. `fields` are HTML.
    pub(super) fn form(&self, fields: &str) -> String {
        let token = self.mac().map(|mac| URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())).unwrap_or_default();
        format!("<form method=\"post\"><input type=\"hidden\" name=\"csrf\" value=\"{token}\">{fields}</form>")
    }

    /// A field of what was posted.
    pub(super) fn posted(&self, name: &str) -> Option<&str> {
        self.form.as_ref()?.get(name)
    }

    /// What the button that was pressed does.
    pub(super) fn does(&self) -> Option<&str> {
        self.posted("do")
    }

    /// Signs a user in here.
    pub(super) fn sign_in(&mut self, user: OwnedUserId) {
        self.sign_out();
        self.node.oauth.browsers.insert(&self.cookie, &user, monotonic_ms(&self.node));
        self.user = Some(user);
    }

    /// Signs out here.
    pub(super) fn sign_out(&mut self) {
        self.node.oauth.browsers.spend(&self.cookie, monotonic_ms(&self.node));
        self.cookie = self.node.rng.token(LENGTH);
        self.is_new = true;
        self.user = None;
    }

    /// The cookie to set: for the pages alone, out of reach of scripts, and not sent with what foreign pages post.
    fn set_cookie(&self) -> Option<HeaderValue> {
        let base = Url::parse(&self.node.config.public_base_url()).ok();
        let path = base.as_ref().map_or("", |base| base.path().trim_end_matches('/'));
        let secure = base.as_ref().is_some_and(|base| base.scheme() == "https");
        let secure = if secure { "; Secure" } else { "" };
        let text =
            format!("{}={}; Path={path}/oauth2; HttpOnly; SameSite=Lax{secure}", cookie_name(&self.node), self.cookie);
        self.is_new.then(|| HeaderValue::from_str(&text).ok()).flatten()
    }

    /// A page for this browser.
    pub(super) fn page(&self, title: impl Into<String>, body: impl Into<String>) -> Page {
        Page::new(title, body).with_cookie(self.set_cookie())
    }

    /// Sends the browser to an address, to be looked at.
    pub(super) fn go(&self, to: &str) -> Result<Response, Page> {
        let to = HeaderValue::from_str(to)
            .map_err(|_| Page::wrong(StatusCode::BAD_REQUEST, "The address to go to cannot be written."))?;
        let mut response = (StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        if let Some(cookie) = self.set_cookie() {
            headers.insert(header::SET_COOKIE, cookie);
        }
        Ok(response)
    }

    /// This page's address, with other parameters: relative, as the browser may know the node by another name.
    pub(super) fn here(&self, query: &str) -> String {
        if query.is_empty() { self.name.clone() } else { format!("{}?{query}", self.name) }
    }
}

fn cookie_name(node: &Node) -> String {
    let port = Url::parse(&node.config.public_base_url()).ok().and_then(|base| base.port());
    port.map_or_else(|| COOKIE.to_owned(), |port| format!("{COOKIE}_{port}"))
}

/// The cookie, if the browser has one of ours.
fn cookie(name: &str, headers: &HeaderMap) -> Option<String> {
    let ours = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
        .find(|value| value.len() == LENGTH && value.bytes().all(ours))
        .map(str::to_owned)
}

/// Whether what was posted may come of a page of ours, as far as the browser tells.
fn is_of_our_page(node: &Node, headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Some(origin) = origin.to_str().ok().and_then(|origin| Url::parse(origin).ok()).map(|url| url.origin()) else {
        return false;
    };
    let base = Url::parse(&node.config.public_base_url()).ok().map(|url| url.origin());
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let called = host.and_then(|host| Url::parse(&format!("http://{host}/")).ok()).map(|url| url.origin());
    Some(&origin) == base.as_ref() || Some(origin) == called
}
