//! OAuth 2.0 as clients and browsers meet it, on a node in memory.

mod account;
mod code;
mod device;
mod nonsense;
mod pages;
mod registration;

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::ConnectInfo;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, Method, Request, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tower::ServiceExt as _;

use crate::testing::{Client, TestNode};

const REDIRECT: &str = "https://app.example.com/callback";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

fn metadata() -> Value {
    json!({
        "client_name": "Example", "client_uri": "https://example.com/", "redirect_uris": [REDIRECT],
        "grant_types": ["authorization_code", "refresh_token", super::clients::DEVICE], "response_types": ["code"],
        "token_endpoint_auth_method": "none", "application_type": "native",
    })
}

fn encoded(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// What came back.
#[derive(Debug)]
struct Seen {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Seen {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    fn header(&self, name: impl header::AsHeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The parameters of the address that the browser is sent to.
    fn parameter(&self, name: &str) -> Option<String> {
        let (_, answer) = self.header(header::LOCATION).split_once(['?', '#'])?;
        url::form_urlencoded::parse(answer.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    #[track_caller]
    fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.json()["error"].as_str()), (status, Some(code)), "{}", self.text);
        assert_eq!(self.header(header::CACHE_CONTROL), "no-store");
    }

    #[track_caller]
    fn ok(&self) -> Value {
        assert!(self.status == 200 || self.status == 201, "{}: {}", self.status, self.text);
        self.json()
    }
}

async fn call(
    node: &TestNode,
    method: Method,
    path: &str,
    headers: &[(header::HeaderName, &str)],
    body: String,
) -> Seen {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let mut request = request.body(Body::from(body)).unwrap();
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 1], 5000))));
    let response = node.handle.client_router().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Seen { status: parts.status.as_u16(), headers: parts.headers, text }
}

/// What a client posts.
async fn post(node: &TestNode, path: &str, fields: &[(&str, &str)]) -> Seen {
    call(node, Method::POST, path, &[], encoded(fields)).await
}

async fn register(node: &TestNode, metadata: Value) -> Seen {
    call(node, Method::POST, "/oauth2/register", &[], metadata.to_string()).await
}

/// A registered client's ID.
async fn client(node: &TestNode) -> String {
    register(node, metadata()).await.ok()["client_id"].as_str().unwrap().to_owned()
}

/// A browser with its cookie, and the token of the form that it shows.
struct Browser<'a> {
    node: &'a TestNode,
    cookie: Option<String>,
    csrf: String,
}

impl<'a> Browser<'a> {
    fn new(node: &'a TestNode) -> Self {
        Self { node, cookie: None, csrf: String::new() }
    }

    async fn send(&mut self, method: Method, path: &str, body: String) -> Seen {
        let cookie = self.cookie.clone().unwrap_or_default();
        let headers = [(header::COOKIE, cookie.as_str()), (header::ORIGIN, "http://localhost:8008")];
        let headers = &headers[..if method == Method::GET { 1 } else { 2 }];
        let seen = call(self.node, method, path, headers, body).await;
        if let Some((cookie, attributes)) = seen.header(header::SET_COOKIE).split_once(';') {
            assert_eq!(attributes, " Path=/oauth2; HttpOnly; SameSite=Lax");
            self.cookie = Some(cookie.to_owned());
        }
        if let Some((_, rest)) = seen.text.split_once("name=\"csrf\" value=\"") {
            self.csrf = rest.split('"').next().unwrap().to_owned();
        }
        seen
    }

    async fn get(&mut self, path: &str) -> Seen {
        self.send(Method::GET, path, String::new()).await
    }

    /// Sends the form of the page that is shown.
    async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Seen {
        let csrf = self.csrf.clone();
        let mut fields = fields.to_vec();
        fields.push(("csrf", &csrf));
        self.send(Method::POST, path, encoded(&fields)).await
    }

    /// Looks at a page, signs in on it, and gives what it leads to.
    async fn sign_in(&mut self, path: &str, name: &str) -> Seen {
        self.get(path).await;
        let password = format!("secret {name}");
        let seen = self.post(path, &[("do", "sign_in"), ("name", name), ("password", &password)]).await;
        assert_eq!(seen.status, 303, "{}", seen.text);
        let back = format!("/oauth2/{}", seen.header(header::LOCATION));
        self.get(&back).await
    }
}

/// The address that a client opens, with some parameters changed; those that are empty are left out.
fn authorize(client: &str, changed: &[(&str, &str)]) -> String {
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
    let mut fields = vec![
        ("response_type", "code"),
        ("client_id", client),
        ("redirect_uri", REDIRECT),
        ("scope", "urn:matrix:client:api:* urn:matrix:client:device:PHONE"),
        ("state", "the state"),
        ("response_mode", "fragment"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    fields.retain(|(name, _)| changed.iter().all(|(other, _)| other != name));
    fields.extend(changed.iter().filter(|(_, value)| !value.is_empty()));
    format!("/oauth2/authorize?{}", encoded(&fields))
}

/// A code for a client, from a user who signs in and says yes.
async fn code(node: &TestNode, client: &str, name: &str, changed: &[(&str, &str)]) -> String {
    let path = authorize(client, changed);
    let mut browser = Browser::new(node);
    browser.sign_in(&path, name).await;
    let sent = browser.post(&path, &[("do", "allow")]).await;
    assert_eq!(sent.parameter("state").as_deref(), Some("the state"), "{}", sent.text);
    sent.parameter("code").unwrap()
}

/// Shows a code, with some parameters changed.
async fn exchange(node: &TestNode, client: &str, code: &str, changed: &[(&str, &str)]) -> Seen {
    let mut fields = vec![
        ("grant_type", "authorization_code"),
        ("client_id", client),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
    ];
    fields.retain(|(name, _)| changed.iter().all(|(other, _)| other != name));
    fields.extend(changed.iter().filter(|(_, value)| !value.is_empty()));
    post(node, "/oauth2/token", &fields).await
}

async fn refresh(node: &TestNode, client: &str, tokens: &Value) -> Seen {
    let token = tokens["refresh_token"].as_str().unwrap();
    post(node, "/oauth2/token", &[("grant_type", "refresh_token"), ("client_id", client), ("refresh_token", token)])
        .await
}

/// A device that has these tokens.
fn device(node: &TestNode, tokens: &Value) -> Client {
    let mut client = node.client();
    client.token = Some(tokens["access_token"].as_str().unwrap().to_owned());
    client
}

/// The tokens of a client that a user let in.
async fn signed_in(node: &TestNode, client: &str, name: &str) -> Value {
    let code = code(node, client, name, &[]).await;
    exchange(node, client, &code, &[]).await.ok()
}
