//! OAuth 2.0 (client-server specification, "OAuth 2.0 API"): users sign in, make accounts and manage them on pages of this node, and
//! clients get tokens without ever seeing a password.
//!
//! ```text
//!   client                         browser                            node
//!     │ auth_metadata, register ─────────────────────────────────────►│ metadata.rs, clients.rs
//!     │ opens /oauth2/authorize ─►│ signs in, consents ──────────────►│ authorize.rs, visit.rs, sign_in.rs
//!     │◄──── redirect_uri?code= ──│                                   │ redirect.rs, codes.rs
//!     │ code, verifier ──────────────────────────────────────────────►│ token.rs
//!     │ (or) /oauth2/device; polls│ /oauth2/link: types a code ──────►│ device.rs, waiting.rs
//!     │ opens /oauth2/account ───►│ devices, name, password, end ────►│ account.rs
//! ```
//!
//! What is signed in is an ordinary device with ordinary tokens (`accounts::tokens`), whose row names the client. Clients are
//! durable; codes, device codes and signed-in browsers are kept in memory within bounds, and a restart ends them early.
//!
//! Threats met
//! - A hostile page or app registers as a client under a good one's name: the consent page shows where the user will be sent,
//!   which the client must own (`redirect.rs`), and never its picture. Nobody is sent to an address that is not registered.
//! - A code is stolen: it needs the verifier (PKCE, always), lives a minute, counts once; a second try ends what the first got. So
//!   does a refresh token that was replaced.
//! - A hostile page posts or frames our forms: each form holds a token made of the browser's cookie, `Origin` must be ours, and
//!   nothing may frame the pages. No script runs on them.
//! - Guessing: passwords as everywhere; user codes only by those who are signed in, a few a minute.
//! - On plain HTTP, browsers send cookies to every port of `localhost`, so a server of another user of this device could see one:
//!   it lives a quarter of an hour, and what is grave asks for the password again.

mod account;
mod authorize;
mod clients;
mod codes;
mod device;
mod error;
mod form;
mod metadata;
mod page;
mod redirect;
mod revoke;
mod scope;
mod sign_in;
#[cfg(test)]
mod tests;
mod token;
mod visit;
mod waiting;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use http::Request;
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};

use crate::Node;
use crate::accounts::passes::Passes;
use crate::accounts::{devices, monotonic_ms};
use crate::http::{Answer, Routes, Session};

/// How long a browser stays signed in, in milliseconds.
const BROWSER_MS: u64 = 15 * 60 * 1000;
/// How long the user's word that a device may replace the cross-signing keys is good, in milliseconds.
const RESET_MS: u64 = 10 * 60 * 1000;
/// Such words at once; beyond it the first goes.
const MAX_RESETS: usize = 1000;

/// The paths that clients call, from whatever web page.
pub const API_PATHS: [&str; 4] = ["/oauth2/register", "/oauth2/token", "/oauth2/revoke", "/oauth2/device"];

/// What is kept in memory.
#[derive(Debug)]
pub struct Oauth {
    /// Makes the tokens of forms; drawn when the first is made.
    key: OnceLock<[u8; 32]>,
    /// Browsers that are signed in, by their cookie.
    browsers: Passes,
    codes: codes::Codes,
    waiting: waiting::Waiting,
    /// Who lets which device (none: whichever asks first) replace the cross-signing keys, until when (monotonic milliseconds).
    resets: Mutex<BTreeMap<(OwnedUserId, Option<OwnedDeviceId>), u64>>,
}

impl Default for Oauth {
    fn default() -> Self {
        Self {
            key: OnceLock::new(),
            browsers: Passes::new(BROWSER_MS),
            codes: codes::Codes::default(),
            waiting: waiting::Waiting::default(),
            resets: Mutex::default(),
        }
    }
}

impl Oauth {
    /// Signs a user out of all browsers, and takes back what the user granted there and nobody has used yet: the password changed,
    /// or the account ended.
    pub(crate) fn forget(&self, user: &UserId) {
        self.browsers.forget(user);
        self.codes.forget(user);
        self.waiting.forget(user);
        self.resets.lock().unwrap_or_else(PoisonError::into_inner).retain(|(whose, _), _| whose != user);
    }

    fn allow_reset(&self, user: &UserId, device: Option<OwnedDeviceId>, now: u64) {
        let mut resets = self.resets.lock().unwrap_or_else(PoisonError::into_inner);
        resets.retain(|_, until| *until > now);
        if resets.len() >= MAX_RESETS
            && let Some(first) = resets.iter().min_by_key(|(_, until)| **until).map(|(key, _)| key.clone())
        {
            resets.remove(&first);
        }
        resets.insert((user.to_owned(), device), now.saturating_add(RESET_MS));
    }

    /// Whether the user has just said on the account's page that this device may replace the cross-signing keys. Counts once.
    fn take_reset(&self, user: &UserId, device: &DeviceId, now: u64) -> bool {
        let mut resets = self.resets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut take = |device| resets.remove(&(user.to_owned(), device)).is_some_and(|until| until > now);
        take(Some(device.to_owned())) || take(None)
    }
}

/// Whether the session's device signed in by OAuth 2.0.
///
/// # Errors
/// As all reads.
pub(crate) fn signed_in_by(node: &Node, session: &Session) -> Answer<bool> {
    let row = node.store.read(|read| devices::get(read, &session.user_id, &session.device_id))?;
    Ok(row.is_some_and(|row| row.oauth.is_some()))
}

/// Whether the user has said that the session's device may replace the cross-signing keys; otherwise where it is said.
pub(crate) fn reset_approved(node: &Node, session: &Session) -> Result<(), String> {
    if node.oauth.take_reset(&session.user_id, &session.device_id, monotonic_ms(node)) {
        return Ok(());
    }
    let device = crate::http::escape::escaped(session.device_id.as_str());
    Err(format!("{}?action={}&device_id={device}", address(node, "account"), account::RESET))
}

/// The address of one of the pages and endpoints.
fn address(node: &Node, name: &str) -> String {
    format!("{}/oauth2/{name}", node.config.public_base_url())
}

/// All routes; only `auth_metadata`, which says that there are none, when it is switched off.
pub fn routes(routes: Routes) -> Routes {
    let routes = routes.add(metadata::metadata);
    if !routes.node().config.oauth() {
        return routes;
    }
    let node = routes.node().clone();
    routes
        .raw("/oauth2/register", endpoint(&node, clients::register))
        .raw("/oauth2/token", endpoint(&node, token::token))
        .raw("/oauth2/revoke", endpoint(&node, revoke::revoke))
        .raw("/oauth2/device", endpoint(&node, device::begin))
        .raw("/oauth2/authorize", seen(&node, authorize::authorize))
        .raw("/oauth2/link", seen(&node, device::link))
        .raw("/oauth2/account", seen(&node, account::account))
}

type Answering = futures::future::BoxFuture<'static, Response>;

fn called<F, Fut, E>(node: &Arc<Node>, handler: F) -> Arc<dyn Fn(Request<Body>) -> Answering + Send + Sync>
where
    F: Fn(Arc<Node>, Request<Body>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Response, E>> + Send + 'static,
    E: IntoResponse + Send,
{
    let node = node.clone();
    Arc::new(move |request| {
        let work = handler(node.clone(), request);
        Box::pin(async move { work.await.unwrap_or_else(IntoResponse::into_response) })
    })
}

/// What a client posts to.
fn endpoint<F, Fut>(node: &Arc<Node>, handler: F) -> MethodRouter
where
    F: Fn(Arc<Node>, Request<Body>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = error::Answered> + Send + 'static,
{
    let called = called(node, handler);
    post(move |request: Request<Body>| called(request))
}

/// A page, which is looked at and whose forms post to itself.
fn seen<F, Fut>(node: &Arc<Node>, handler: F) -> MethodRouter
where
    F: Fn(Arc<Node>, Request<Body>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = page::Shown> + Send + 'static,
{
    let called = called(node, handler);
    let posted = called.clone();
    get(move |request: Request<Body>| called(request)).post(move |request: Request<Body>| posted(request))
}
