//! The pages: who is let in, who is shown what, and what a hostile page or client can do.

use std::time::Duration;

use super::*;
use crate::accounts::{registration, users};
use crate::config::{Rate, RegistrationMode, Secret};

#[tokio::test]
async fn nobody_is_sent_to_an_address_that_the_client_did_not_register() {
    let node = TestNode::start().await;
    let client = client(&node).await;
    for changed in [
        vec![("client_id", "nobody")],
        vec![("client_id", "")],
        vec![("redirect_uri", "")],
        vec![("redirect_uri", "https://evil.org/callback")],
        vec![("redirect_uri", "https://app.example.com/callback?x")],
        vec![("redirect_uri", "https://app.example.com/callback/..")],
        vec![("redirect_uri", "https://app.example.com.evil.org/callback")],
        vec![("redirect_uri", "javascript:alert(1)")],
        vec![("redirect_uri", REDIRECT), ("redirect_uri", "https://evil.org/")],
    ] {
        let page = Browser::new(&node).get(&authorize(&client, &changed)).await;
        assert_eq!((page.status, page.header(header::LOCATION)), (400, ""), "{changed:?}");
        assert!(page.text.contains("<h1>"), "{changed:?}");
    }
}

#[tokio::test]
async fn other_errors_are_told_to_the_client() {
    let node = TestNode::start().await;
    let client = client(&node).await;
    let long = "x".repeat(5000);
    for (changed, error) in [
        (vec![("response_type", "token")], "unsupported_response_type"),
        (vec![("response_type", "")], "invalid_request"),
        (vec![("scope", "")], "invalid_scope"),
        (vec![("scope", "openid")], "invalid_scope"),
        (vec![("scope", "urn:matrix:client:api:*")], "invalid_scope"),
        (vec![("code_challenge", "")], "invalid_request"),
        (vec![("code_challenge", "short")], "invalid_request"),
        (vec![("code_challenge_method", "")], "invalid_request"),
        (vec![("code_challenge_method", "plain")], "invalid_request"),
        (vec![("response_mode", "form_post")], "invalid_request"),
        (vec![("request", "x")], "request_not_supported"),
        (vec![("prompt", "none")], "login_required"),
        (vec![("state", &long)], "invalid_request"),
    ] {
        let sent = Browser::new(&node).get(&authorize(&client, &changed)).await;
        assert_eq!((sent.status, sent.parameter("error").as_deref()), (303, Some(error)), "{changed:?}");
        assert!(sent.header(header::LOCATION).starts_with(REDIRECT), "{changed:?}");
        let state = (changed[0].0 != "state").then_some("the state");
        assert_eq!(sent.parameter("state").as_deref(), state, "{changed:?}");
    }
}

#[tokio::test]
async fn the_answer_stands_where_the_client_asked_for_it() {
    let node = TestNode::start().await;
    node.register("alice").await;
    let mut native = metadata();
    native["redirect_uris"] = json!(["com.example:/cb", "http://127.0.0.1/cb"]);
    let client = register(&node, native).await.ok()["client_id"].as_str().unwrap().to_owned();
    let mut browser = Browser::new(&node);
    browser.sign_in("/oauth2/account", "alice").await;
    for (uri, mode, start, source) in [
        ("com.example:/cb", "", "com.example:/cb?code=", "com.example:"),
        ("com.example:/cb", "fragment", "com.example:/cb#code=", "com.example:"),
        ("http://127.0.0.1:4711/cb", "query", "http://127.0.0.1:4711/cb?code=", "http://127.0.0.1:4711"),
    ] {
        let path = authorize(&client, &[("redirect_uri", uri), ("response_mode", mode)]);
        let page = browser.get(&path).await;
        let policy = page.header(header::CONTENT_SECURITY_POLICY);
        assert!(policy.contains(&format!("form-action 'self' {source};")), "{policy}");
        let sent = browser.post(&path, &[("do", "allow")]).await;
        assert!(sent.header(header::LOCATION).starts_with(start), "{}", sent.header(header::LOCATION));
        let code = sent.parameter("code").unwrap();
        exchange(&node, &client, &code, &[("redirect_uri", uri)]).await.ok();
    }
}

#[tokio::test]
async fn a_user_can_say_no_and_can_be_another() {
    let node = TestNode::start().await;
    node.register("alice").await;
    node.register("bob").await;
    let client = client(&node).await;
    let path = authorize(&client, &[]);
    let mut browser = Browser::new(&node);
    let page = browser.sign_in(&path, "alice").await;
    assert!(page.text.contains("@alice:") && page.text.contains("PHONE") && page.text.contains("app.example.com"));
    let sent = browser.post(&path, &[("do", "deny")]).await;
    assert_eq!(sent.parameter("error").as_deref(), Some("access_denied"));
    browser.get(&path).await;
    assert_eq!(browser.post(&path, &[("do", "sign_out")]).await.status, 303);
    let page = browser.sign_in(&path, "bob").await;
    assert!(page.text.contains("@bob:") && !page.text.contains("@alice:"));
    // `prompt=login` asks who is signed in, `none` never shows anything.
    let page = browser.get(&authorize(&client, &[("prompt", "login")])).await;
    assert!(page.text.contains("value=\"sign_in\"") && !page.text.contains("value=\"allow\""));
    let sent = browser.get(&authorize(&client, &[("prompt", "none")])).await;
    assert_eq!(sent.parameter("error").as_deref(), Some("consent_required"));
}

#[tokio::test]
async fn a_form_that_is_not_of_our_page_does_nothing() {
    let node = TestNode::start().await;
    node.register("alice").await;
    let client = client(&node).await;
    let path = authorize(&client, &[]);
    let mut browser = Browser::new(&node);
    browser.sign_in(&path, "alice").await;
    let (cookie, csrf) = (browser.cookie.clone().unwrap(), browser.csrf.clone());
    let mut other = Browser::new(&node);
    other.get(&path).await;
    let site = header::HeaderName::from_static("sec-fetch-site");
    let good = [("do", "allow"), ("csrf", csrf.as_str())];
    for (headers, fields) in [
        (vec![(header::COOKIE, cookie.as_str())], vec![("do", "allow")]),
        (vec![(header::COOKIE, cookie.as_str())], vec![("do", "allow"), ("csrf", "nonsense")]),
        (vec![(header::COOKIE, cookie.as_str())], vec![("do", "allow"), ("csrf", other.csrf.as_str())]),
        (vec![], good.to_vec()),
        (vec![(header::COOKIE, other.cookie.as_deref().unwrap())], good.to_vec()),
        (vec![(header::COOKIE, cookie.as_str()), (header::ORIGIN, "https://evil.org")], good.to_vec()),
        (vec![(header::COOKIE, cookie.as_str()), (header::ORIGIN, "null")], good.to_vec()),
        (vec![(header::COOKIE, cookie.as_str()), (site.clone(), "cross-site")], good.to_vec()),
        (vec![(header::COOKIE, cookie.as_str()), (site.clone(), "same-site")], good.to_vec()),
        (vec![(header::COOKIE, "kith_oauth_8008=x")], good.to_vec()),
    ] {
        let seen = call(&node, Method::POST, &path, &headers, encoded(&fields)).await;
        assert_eq!((seen.status, seen.header(header::LOCATION)), (403, ""), "{headers:?} {fields:?}");
    }
    for headers in [
        vec![(header::COOKIE, cookie.as_str())],
        vec![(header::COOKIE, cookie.as_str()), (site, "same-origin")],
        vec![(header::COOKIE, cookie.as_str()), (header::ORIGIN, "http://a.lan"), (header::HOST, "a.lan")],
    ] {
        let seen = call(&node, Method::POST, &path, &headers, encoded(&good)).await;
        assert!(seen.parameter("code").is_some(), "{headers:?}: {}", seen.text);
    }
}

#[tokio::test]
async fn a_browser_stays_signed_in_for_a_quarter_of_an_hour_and_its_cookie_changes() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let mut browser = Browser::new(&node);
    browser.get("/oauth2/account").await;
    let before = browser.cookie.clone();
    assert!(browser.sign_in("/oauth2/account", "alice").await.text.contains("value=\"rename\""));
    assert_ne!(browser.cookie, before, "who planted the cookie would be signed in as well");
    let is_in =
        async |browser: &mut Browser<'_>| browser.get("/oauth2/account").await.text.contains("value=\"rename\"");
    node.clock.advance(Duration::from_secs(15 * 60 - 1));
    assert!(is_in(&mut browser).await);
    node.clock.advance(Duration::from_secs(1));
    assert!(!is_in(&mut browser).await);
    // It ends with the password, too.
    browser.sign_in("/oauth2/account", "alice").await;
    let user = ruma::OwnedUserId::try_from(alice.user.as_str()).unwrap();
    users::set_password(node.node(), &user, "another secret", false, None, false).await.unwrap();
    assert!(!is_in(&mut browser).await);
}

#[tokio::test]
async fn what_a_client_says_of_itself_is_text() {
    let node = TestNode::start().await;
    node.register("alice").await;
    let mut hostile = metadata();
    hostile["client_name"] = "</strong><script>alert(1)</script><img src=x onerror=\"'\u{202e}".into();
    hostile["tos_uri"] = "https://example.com/?a=1&b='x".into();
    hostile["logo_uri"] = "https://example.com/logo.png".into();
    let client = register(&node, hostile).await.ok()["client_id"].as_str().unwrap().to_owned();
    let scope = "urn:matrix:client:api:* urn:matrix:client:device:<b>'&";
    let path = authorize(&client, &[("scope", scope), ("state", "\"><script>")]);
    let mut browser = Browser::new(&node);
    let first = browser.get(&path).await;
    let second = browser.sign_in(&path, "alice").await;
    for page in [&first, &second] {
        let lower = page.text.to_ascii_lowercase();
        assert!(!lower.contains("<script") && !lower.contains("<img src=x") && !lower.contains("<b>"), "{lower}");
        assert!(!lower.contains("logo.png") && !lower.contains('\u{202e}'), "{lower}");
        assert!(page.text.contains("&lt;script&gt;alert(1)"));
        let policy = page.header(header::CONTENT_SECURITY_POLICY);
        assert!(policy.starts_with("default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self' "));
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("script-src"), "{policy}");
        assert_eq!(page.header(header::X_FRAME_OPTIONS), "DENY");
        assert_eq!(page.header(header::CACHE_CONTROL), "no-store");
    }
    assert!(second.text.contains("href=\"https://example.com/?a=1&amp;b=&#39;x\""), "{}", second.text);
    assert!(second.text.contains("&lt;b&gt;&#39;&amp;"));
}

#[tokio::test]
async fn a_wrong_password_is_said_and_guessing_ends_soon() {
    let node = TestNode::start_with(|config| {
        config.limits.rate_limits = true;
        config.limits.rate_login = Rate::per_minute(3);
    })
    .await;
    users::create(node.node(), "alice", Some("secret alice"), false).await.unwrap();
    let mut browser = Browser::new(&node);
    browser.get("/oauth2/account").await;
    let (mut wrong, mut limited) = (0, 0);
    for name in ["alice", "nobody", "<i>", "alice"] {
        let seen = browser.post("/oauth2/account", &[("do", "sign_in"), ("name", name), ("password", "guess")]).await;
        wrong += usize::from(seen.status == 403 && seen.text.contains("the user name or the password is wrong"));
        limited += usize::from(seen.status == 429);
        assert!(!seen.text.contains("guess") && !seen.text.contains("<i>"), "{}", seen.text);
    }
    assert_eq!((wrong, limited), (3, 1));
}

#[tokio::test]
async fn an_account_is_made_on_the_page_where_that_is_possible() {
    let node = TestNode::start().await;
    let client = client(&node).await;
    let path = authorize(&client, &[("prompt", "create")]);
    let mut browser = Browser::new(&node);
    let page = browser.get(&path).await;
    assert!(page.text.contains("value=\"register\"") && !page.text.contains("name=\"token\""), "{}", page.text);
    for (name, password, said) in [
        ("alice", "short", "at least 8"),
        ("a b", "a long password", "may only hold"),
        ("", "a long password", "at least one"),
    ] {
        let seen = browser.post(&path, &[("do", "register"), ("name", name), ("password", password)]).await;
        assert!(seen.status == 400 && seen.text.contains(said), "{}", seen.text);
    }
    let made = browser.post(&path, &[("do", "register"), ("name", "Alice"), ("password", "a long password")]).await;
    let back = made.header(header::LOCATION).to_owned();
    assert!(made.status == 303 && !back.contains("prompt"), "{back}");
    let path = format!("/oauth2/{back}");
    assert!(browser.get(&path).await.text.contains("@alice:"));
    let code = browser.post(&path, &[("do", "allow")]).await.parameter("code").unwrap();
    let tokens = exchange(&node, &client, &code, &[]).await.ok();
    device(&node, &tokens).get(WHOAMI).await.ok();
    let mut other = Browser::new(&node);
    other.get(&authorize(&client, &[("prompt", "create")])).await;
    let again = [("do", "register"), ("name", "alice"), ("password", "a long password")];
    assert!(other.post(&path, &again).await.text.contains("taken"));
}

#[tokio::test]
async fn a_token_is_asked_for_where_accounts_need_one_and_there_is_no_form_where_none_are_made() {
    let node = TestNode::start_with(|config| config.registration.mode = RegistrationMode::Setup).await;
    let setup = registration::setup_token(node.node(), 60_000).await.unwrap().unwrap();
    let client = client(&node).await;
    let path = authorize(&client, &[("prompt", "create")]);
    let mut browser = Browser::new(&node);
    assert!(browser.get(&path).await.text.contains("name=\"token\""));
    let fields = |token: &str| {
        [("do", "register"), ("name", "alice"), ("password", "a long password"), ("token", token)]
            .map(|(a, b)| (a, b.to_owned()))
    };
    let send = async |browser: &mut Browser<'_>, token: &str| {
        let fields = fields(token);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        browser.post(&path, &fields).await
    };
    assert_eq!(send(&mut browser, "guess").await.status, 403);
    let made = send(&mut browser, &format!("http://localhost:8008/#/setup/{setup}")).await;
    assert_eq!(made.status, 303, "{}", made.text);
    let users = node.node().store.read(|read| users::list(read)).unwrap();
    assert!(users.len() == 1 && users[0].row.admin, "the link made the administrator");
    // It is used up, and nobody can make another.
    let mut late = Browser::new(&node);
    let page = late.get(&path).await;
    assert!(page.text.contains("value=\"sign_in\"") && !page.text.contains("value=\"register\""));
    let refused = late.post(&path, &[("do", "register"), ("name", "bob"), ("password", "a long password")]).await;
    assert_eq!(refused.status, 403);

    let node = TestNode::start_with(|config| {
        config.registration.mode = RegistrationMode::Token;
        config.registration.tokens = vec![Secret::new("standing")];
    })
    .await;
    let mut browser = Browser::new(&node);
    browser.get("/oauth2/account?prompt=create").await;
    let fields = [("do", "register"), ("name", "bob"), ("password", "a long password"), ("token", "standing")];
    assert_eq!(browser.post("/oauth2/account?prompt=create", &fields).await.status, 303);
}
