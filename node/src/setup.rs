//! The first account: a page that the owner opens by a one-time link, and what protects it.
//!
//! The link `<public_base_url>/#/setup/<token>` carries the token in its fragment, which browsers send to no server and
//! put in no referrer. What lies at `/`, the web client ([`client`]) or, without it, the plain page ([`page`]), registers through the ordinary client API with the stage
//! `m.login.registration_token` (client-server specification, "Token-authenticated registration").
//!
//! Threats met (DESIGN section 8), from a hostile web page in the browser of the same device: it cannot guess the
//! token (128 bits, one use, one hour), cannot frame the page (`frame-ancestors 'none'`), cannot inject scripts (strict
//! Content-Security-Policy, everything from this origin, nothing inline), and cannot reach the node under a name of its
//! own (see [`host`]).

pub mod client;
pub mod host;
pub mod page;

/// The link that the owner opens to make the first account.
#[must_use]
pub fn link(public_base_url: &str, token: &str) -> String {
    format!("{}/#/setup/{token}", public_base_url.trim_end_matches('/'))
}

/// The routes of the pages, but for the files of the web client, which come after all others ([`client::before`]).
pub fn routes(server_name: &ruma::ServerName, public_base_url: &str) -> axum::Router {
    let page = page::routes(server_name, public_base_url, kith_web::EMBEDDED.is_there());
    page.merge(client::config(server_name, public_base_url))
}
