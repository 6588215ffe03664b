//! `/auth/{auth type}/fallback/web` (client-server specification, "User-Interactive Authentication API", "Fallback"): a page on which a
//! person passes a stage of which the client knows nothing. The client waits until the page tells it, and goes on with the session alone.
//!
//! Threats met: the page runs one script of its own and is framed by nobody; a session's ID is 24 random characters that only the client has;
//! tries are limited as those by the API are.

use std::sync::Arc;

use axum::{
    body::Body,
    response::{Html, IntoResponse as _, Response},
    routing::get,
};
use http::{HeaderName, HeaderValue, Request, header};
use serde::Deserialize;

use crate::{
    Node,
    accounts::uia,
    http::{Answer, MatrixError, Routes, endpoint},
};

/// The longest form.
const LONGEST_FORM: usize = 16 << 10;
/// The longest session ID that is looked at.
const LONGEST_SESSION: usize = 100;

pub(super) fn routes(routes: Routes) -> Routes {
    ["v3", "r0"].iter().fold(routes, |routes, version| {
        let (shown, filled) = (routes.node().clone(), routes.node().clone());
        let path = format!("/_matrix/client/{version}/auth/{{auth_type}}/fallback/web");
        let methods = get(move |request: Request<Body>| answer(show(shown.clone(), request)))
            .post(move |request: Request<Body>| answer(fill(filled.clone(), request)));
        routes.raw(&path, methods)
    })
}

async fn answer(work: impl Future<Output = Answer<Response>>) -> Response {
    work.await.unwrap_or_else(|error| error.into_response())
}

#[derive(Deserialize)]
struct Query {
    session: Option<String>,
}

async fn show(node: Arc<Node>, request: Request<Body>) -> Answer<Response> {
    let (_, path, request) = endpoint::admit_anybody(&node, request).await?;
    let session = endpoint::query::<Query>(&request)?.session;
    let session = session.ok_or_else(|| MatrixError::missing_param("`session` is missing"))?;
    let kind = path.first().map_or("", String::as_str);
    let stage = uia::stage_by_page(&node, &session, kind)
        .filter(|_| session.len() <= LONGEST_SESSION)
        .ok_or_else(|| MatrixError::not_found("this authentication has no such stage, or has expired"))?;
    Ok(page(&node, stage, &session, ""))
}

async fn fill(node: Arc<Node>, request: Request<Body>) -> Answer<Response> {
    let (from, _, request) = endpoint::admit_anybody(&node, request).await?;
    let (_, path, body) = endpoint::read(request, LONGEST_FORM).await?;
    let (mut session, mut secret) = (String::new(), String::new());
    for (name, value) in url::form_urlencoded::parse(&body) {
        match &*name {
            "session" => session = value.into_owned(),
            "secret" => secret = value.into_owned(),
            _ => {}
        }
    }
    let kind = path.first().map_or("", String::as_str);
    let stage = uia::stage_by_page(&node, &session, kind)
        .ok_or_else(|| MatrixError::not_found("this authentication has no such stage, or has expired"))?;
    match uia::pass_by_page(&node, &from, &session, stage, &secret).await? {
        Ok(()) => Ok(done(&node)),
        Err(reason) => Ok(page(&node, stage, &session, reason)),
    }
}

/// The form of a stage. `session` is one of ours: letters and digits.
fn page(node: &Node, stage: uia::Stage, session: &str, wrong: &str) -> Response {
    let field = match stage {
        uia::Stage::Password => "<p><label>Your password: <input name=secret type=password autofocus></label></p>",
        uia::Stage::RegistrationToken => "<p><label>Your registration token: <input name=secret autofocus></label></p>",
        uia::Stage::Dummy => "",
    };
    let body = format!(
        "<p>{wrong}</p><form method=post><input type=hidden name=session value=\"{session}\">{field}<p><button>Go on</button></p></form>"
    );
    html(&body, &node.rng.token(24), "")
}

/// The stage is passed: the page tells the client, as the specification says.
fn done(node: &Node) -> Response {
    const SCRIPT: &str = "if (window.onAuthDone) { window.onAuthDone(); } \
                          else if (window.opener && window.opener.postMessage) { window.opener.postMessage('authDone', '*'); }";
    html("<p>Done. You can go back to your app.</p>", &node.rng.token(24), SCRIPT)
}

fn html(body: &str, nonce: &str, script: &str) -> Response {
    let page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Authentication</title><h1>Authentication</h1>{body}<script nonce=\"{nonce}\">{script}</script></html>"
    );
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    let mut response = Html(page).into_response();
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::extract::ConnectInfo;
    use http::{Method, StatusCode};
    use http_body_util::BodyExt as _;
    use serde_json::{Value, json};
    use tower::ServiceExt as _;

    use super::*;
    use crate::{
        config::{RegistrationMode, Secret},
        testing::TestNode,
    };

    async fn call(node: &TestNode, method: Method, path: &str, form: &str) -> (StatusCode, String, String) {
        let mut request = Request::builder().method(method).uri(path).body(Body::from(form.to_owned())).unwrap();
        request.extensions_mut().insert(ConnectInfo(std::net::SocketAddr::from(([192, 0, 2, 1], 5000))));
        let response = node.handle.client_router().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let policy = headers.get(header::CONTENT_SECURITY_POLICY).and_then(|value| value.to_str().ok());
        let policy = policy.unwrap_or_default().to_owned();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, policy, String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn path(kind: &str, session: &str) -> String {
        format!("/_matrix/client/v3/auth/{kind}/fallback/web?session={session}")
    }

    fn session(challenge: &Value) -> String {
        challenge["session"].as_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_registration_token_can_be_shown_on_a_page_and_the_client_goes_on_with_the_session() {
        let node = TestNode::start_with(|config| {
            config.registration.mode = RegistrationMode::Token;
            config.registration.tokens = vec![Secret::new("good_token")];
        })
        .await;
        let register = "/_matrix/client/v3/register";
        let body = |auth: Value| json!({ "username": "alice", "password": "secret", "auth": auth });
        let session = session(&node.client().post(register, body(json!(null))).await.body);
        let acknowledged = json!({ "session": session });
        assert_eq!(node.client().post(register, body(acknowledged.clone())).await.status.as_u16(), 401);

        let path = path("m.login.registration_token", &session);
        let (status, policy, page) = call(&node, Method::GET, &path, "").await;
        assert!(status.is_success() && page.contains("<form method=post>") && page.contains(&session), "{page}");
        assert!(policy.contains("script-src 'nonce-") && policy.contains("frame-ancestors 'none'"), "{policy}");
        let (_, _, page) = call(&node, Method::POST, &path, &format!("session={session}&secret=wrong")).await;
        assert!(page.contains("<form") && !page.contains("authDone"), "{page}");
        let (_, _, page) = call(&node, Method::POST, &path, &format!("session={session}&secret=good_token")).await;
        assert!(page.contains("window.opener.postMessage('authDone', '*')"), "{page}");
        node.client().post(register, body(acknowledged.clone())).await.ok();
        // It was good once.
        let again = json!({ "username": "bob", "password": "secret", "auth": acknowledged });
        assert_eq!(node.client().post(register, again).await.status.as_u16(), 401);
    }

    #[tokio::test]
    async fn a_password_counts_for_the_user_and_the_operation_that_asked_for_it_only() {
        let node = TestNode::start().await;
        let (alice, other, bob) = (node.register("alice").await, node.login("alice").await, node.register("bob").await);
        let device = format!("/_matrix/client/v3/devices/{}", other.device);
        let session = session(&alice.delete(&device).await.body);
        let path = path("m.login.password", &session);
        let (_, _, page) = call(&node, Method::POST, &path, &format!("session={session}&secret=secret+bob")).await;
        assert!(!page.contains("authDone"), "{page}");
        let (_, _, page) = call(&node, Method::POST, &path, &format!("session={session}&secret=secret+alice")).await;
        assert!(page.contains("authDone"), "{page}");
        let auth = Some(json!({ "auth": { "session": session } }));
        assert_eq!(bob.call(Method::DELETE, &device, auth.clone()).await.status.as_u16(), 401);
        let own = format!("/_matrix/client/v3/devices/{}", alice.device);
        assert_eq!(alice.call(Method::DELETE, &own, auth.clone()).await.status.as_u16(), 401);
        alice.call(Method::DELETE, &device, auth).await.ok();
    }

    #[tokio::test]
    async fn there_is_no_page_for_what_was_not_asked() {
        let node = TestNode::start().await;
        let alice = node.register("alice").await;
        let session = session(&alice.delete("/_matrix/client/v3/devices/X").await.body);
        for path in [
            path("m.login.dummy", &session),
            path("m.login.sso", &session),
            path("m.login.password", "nonsense"),
            path("m.login.password", "%22%3E%3Cscript%3E"),
        ] {
            let (status, _, body) = call(&node, Method::GET, &path, "").await;
            assert!(status == 404 && body.contains("M_NOT_FOUND"), "{path}: {body}");
        }
        let (status, ..) = call(&node, Method::GET, "/_matrix/client/v3/auth/m.login.password/fallback/web", "").await;
        assert_eq!(status, 400);
    }
}
