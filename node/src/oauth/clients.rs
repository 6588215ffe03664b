//! `/oauth2/register`: clients tell who they are (RFC 7591; client-server specification, "Client registration").
//!
//! The ID is the hash of what is kept of the metadata: however many devices register the same client, it is one row, and one that
//! registers again after its row went has the ID that it had. A client in use is never dropped.

use std::sync::Arc;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Request, StatusCode};
use kith_store::tables::oauth::{ClientMetadata, ClientRow, MAX_CLIENTS, OAUTH_CLIENTS, OAUTH_DEVICES};
use kith_store::{Json, Read, StoreError, Tx};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::error::{Answered, OauthError, json};
use super::{form, redirect};
use crate::Node;
use crate::accounts::limits::{self, Action};

/// How long a client without a device is kept, in milliseconds.
const UNUSED_MS: u64 = 24 * 60 * 60 * 1000;
/// How far the stored time of a registration may be behind.
const COARSE_MS: u64 = 10 * 60 * 1000;
/// The longest name, in characters.
const LONGEST_NAME: usize = 100;
/// The most redirect URIs.
const MOST_REDIRECTS: usize = 10;
/// The longest metadata that are kept, in bytes of JSON.
const LONGEST_METADATA: usize = 8 << 10;

/// The grants that a client can use.
pub(super) const CODE: &str = "authorization_code";
pub(super) const REFRESH: &str = "refresh_token";
pub(super) const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// `POST /oauth2/register`.
pub(super) async fn register(node: Arc<Node>, request: Request<Body>) -> Answered {
    let (from, body) = form::body(&node, request).await?;
    let body: Map<String, Value> =
        serde_json::from_slice(&body).map_err(|_| OauthError::invalid("the body is not a JSON object"))?;
    let metadata = understood(&body)?;
    limits::check_address(&node, Action::Question, &from)?;
    let id = id_of(&metadata)?;
    let mut answer = serde_json::to_value(&metadata).map_err(crate::http::MatrixError::internal)?;
    answer["client_id"] = id.as_str().into();
    let now = node.clock.now_ms();
    node.store.write(move |tx| keep(tx, id, metadata, now)).await?;
    Ok(json(StatusCode::CREATED, answer))
}

/// A client that is registered.
pub(super) fn get(read: &dyn Read, id: &str) -> Result<Option<ClientMetadata>, StoreError> {
    Ok(OAUTH_CLIENTS.get(read, &id.to_owned())?.map(|row| row.0.metadata))
}

/// What a person is told a client is called.
pub(super) fn name(client: &ClientMetadata) -> String {
    client.client_name.clone().unwrap_or_else(|| redirect::shown(&client.client_uri))
}

fn id_of(metadata: &ClientMetadata) -> Result<String, OauthError> {
    let text = serde_json::to_vec(metadata).map_err(crate::http::MatrixError::internal)?;
    if text.len() > LONGEST_METADATA {
        return Err(invalid("the metadata are too long"));
    }
    Ok(URL_SAFE_NO_PAD.encode(Sha256::digest(&text)))
}

fn keep(tx: &mut Tx, id: String, metadata: ClientMetadata, now: u64) -> Result<(), OauthError> {
    match OAUTH_CLIENTS.get(tx, &id)? {
        Some(Json(row)) if now.abs_diff(row.registered) < COARSE_MS => return Ok(()),
        Some(_) => {}
        None => make_room(tx, now)?,
    }
    Ok(OAUTH_CLIENTS.put(tx, &id, &Json(ClientRow { registered: now, metadata }))?)
}

/// Drops the clients that nobody uses; if there are still too many, the one that registered first of those without a device.
fn make_room(tx: &mut Tx, now: u64) -> Result<(), OauthError> {
    let mut unused = Vec::new();
    let mut count = 0;
    for row in OAUTH_CLIENTS.range(tx, ..)? {
        let (id, Json(row)) = row?;
        count += 1;
        if OAUTH_DEVICES.prefix(tx, &id)?.next().is_none() {
            unused.push((row.registered, id));
        }
    }
    unused.sort();
    for (registered, id) in unused {
        if now.saturating_sub(registered) >= UNUSED_MS || count >= MAX_CLIENTS {
            OAUTH_CLIENTS.delete(tx, &id)?;
            count -= 1;
        }
    }
    if count >= MAX_CLIENTS {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let error = OauthError::new("temporarily_unavailable", "too many clients are in use here");
        return Err(OauthError { status, ..error });
    }
    Ok(())
}

fn invalid(description: &str) -> OauthError {
    OauthError::new("invalid_client_metadata", description)
}

/// What of the metadata is understood. Optional addresses that break the rules are left out.
fn understood(given: &Map<String, Value>) -> Result<ClientMetadata, OauthError> {
    let text = |field: &str| match given.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(invalid(&format!("`{field}` must be a text"))),
    };
    let list = |field: &str| match given.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().ok_or_else(|| invalid(&format!("`{field}` must be a list of texts"))))
            .collect::<Result<Vec<&str>, _>>()
            .map(Some),
        Some(_) => Err(invalid(&format!("`{field}` must be a list"))),
    };
    let client_uri = text("client_uri")?.ok_or_else(|| invalid("`client_uri` is missing"))?;
    let page = redirect::client_page(client_uri).map_err(invalid)?;
    let native = match text("application_type")? {
        None | Some("web") => false,
        Some("native") => true,
        Some(_) => return Err(invalid("`application_type` must be `web` or `native`")),
    };
    if !matches!(text("token_endpoint_auth_method")?, None | Some("none")) {
        return Err(invalid("`token_endpoint_auth_method` must be `none`: clients have no secrets here"));
    }
    let grant_types = list("grant_types")?.unwrap_or_else(|| vec![CODE, REFRESH]);
    let grant_types: Vec<String> = [CODE, REFRESH, DEVICE]
        .iter()
        .filter(|known| grant_types.contains(known))
        .map(|known| (*known).into())
        .collect();
    let by_code = grant_types.iter().any(|grant| grant == CODE);
    if !by_code && !grant_types.iter().any(|grant| grant == DEVICE) {
        return Err(invalid("`grant_types` must hold `authorization_code` or the one of device codes"));
    }
    let response_types = list("response_types")?.unwrap_or_else(|| vec!["code"]);
    if by_code && !response_types.contains(&"code") {
        return Err(invalid("`response_types` must hold `code`"));
    }
    let mut redirect_uris: Vec<String> = Vec::new();
    for uri in list("redirect_uris")?.unwrap_or_default().into_iter().take(MOST_REDIRECTS + 1) {
        if !redirect_uris.iter().any(|other| other == uri) {
            redirect_uris.push(uri.to_owned());
        }
    }
    if redirect_uris.len() > MOST_REDIRECTS || (by_code && redirect_uris.is_empty()) {
        let description = format!("`redirect_uris` must hold 1 to {MOST_REDIRECTS} addresses");
        return Err(OauthError::new("invalid_redirect_uri", description));
    }
    for uri in &redirect_uris {
        redirect::check(uri, &page, native).map_err(|reason| OauthError::new("invalid_redirect_uri", reason))?;
    }
    let page_of_it = |field: &str| {
        Ok::<_, OauthError>(text(field)?.filter(|uri| redirect::same_site(uri, &page).is_ok()).map(str::to_owned))
    };
    Ok(ClientMetadata {
        client_name: text("client_name")?.map(readable).filter(|name| !name.is_empty()),
        client_uri: client_uri.to_owned(),
        logo_uri: page_of_it("logo_uri")?,
        tos_uri: page_of_it("tos_uri")?,
        policy_uri: page_of_it("policy_uri")?,
        redirect_uris,
        grant_types,
        response_types: vec!["code".to_owned()],
        application_type: if native { "native" } else { "web" }.to_owned(),
        token_endpoint_auth_method: "none".to_owned(),
    })
}

/// A name as a line of a page can show it: nothing that controls, turns or hides text, and not too long.
fn readable(name: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    };
    let mut name: String = name.chars().filter(|c| !hidden(*c)).take(LONGEST_NAME).collect();
    // It becomes the device's.
    while name.len() > crate::accounts::devices::MAX_NAME {
        name.pop();
    }
    name.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(value: Value) -> Result<ClientMetadata, OauthError> {
        understood(value.as_object().unwrap())
    }

    #[test]
    fn what_is_not_understood_is_left_out_and_what_is_wrong_is_refused() {
        let good = of(json!({
            "client_name": "  App\u{202e}\n", "client_name#fr": "L'app", "client_uri": "https://example.com/",
            "logo_uri": "https://evil.org/logo.png", "tos_uri": "https://example.com/tos",
            "redirect_uris": ["https://app.example.com/cb", "https://app.example.com/cb"],
            "grant_types": [REFRESH, CODE, "password"], "response_types": ["code", "token"], "contacts": 7,
        }))
        .unwrap();
        assert_eq!(good.client_name.as_deref(), Some("App"));
        assert_eq!((good.logo_uri, good.tos_uri.as_deref()), (None, Some("https://example.com/tos")));
        assert_eq!((good.redirect_uris.len(), good.grant_types), (1, vec![CODE.to_owned(), REFRESH.to_owned()]));
        let base = json!({ "client_uri": "https://example.com/", "redirect_uris": ["https://example.com/cb"] });
        assert!(of(base.clone()).is_ok());
        for (field, value, code) in [
            ("client_uri", json!(null), "invalid_client_metadata"),
            ("client_uri", json!("http://example.com/"), "invalid_client_metadata"),
            ("client_name", json!(["x"]), "invalid_client_metadata"),
            ("application_type", json!("desktop"), "invalid_client_metadata"),
            ("token_endpoint_auth_method", json!("client_secret_basic"), "invalid_client_metadata"),
            ("grant_types", json!(["password"]), "invalid_client_metadata"),
            ("grant_types", json!("authorization_code"), "invalid_client_metadata"),
            ("response_types", json!(["token"]), "invalid_client_metadata"),
            ("redirect_uris", json!([]), "invalid_redirect_uri"),
            ("redirect_uris", json!([5]), "invalid_client_metadata"),
            ("redirect_uris", json!(["http://example.com/cb"]), "invalid_redirect_uri"),
            ("redirect_uris", json!(["javascript:alert(1)"]), "invalid_redirect_uri"),
            ("redirect_uris", json!("https://example.com/cb"), "invalid_client_metadata"),
            (
                "redirect_uris",
                json!((0..=MOST_REDIRECTS).map(|n| format!("https://example.com/{n}")).collect::<Vec<_>>()),
                "invalid_redirect_uri",
            ),
        ] {
            let mut metadata = base.clone();
            metadata[field] = value.clone();
            assert_eq!(of(metadata).map_err(|error| error.code), Err(code), "{field}: {value}");
        }
        let by_device = of(json!({ "client_uri": "https://example.com/", "grant_types": [DEVICE] })).unwrap();
        assert!(by_device.redirect_uris.is_empty());
    }
}
