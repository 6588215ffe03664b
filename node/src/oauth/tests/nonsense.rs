//! Requests that make no sense: each is answered with an error or a page, none ends the node or is its fault.

use super::*;

#[tokio::test]
async fn no_nonsense_in_a_request_is_the_nodes_fault() {
    let node = TestNode::start().await;
    node.register("alice").await;
    let client = client(&node).await;
    let mut browser = Browser::new(&node);
    browser.sign_in("/oauth2/account", "alice").await;
    let good = authorize(&client, &[]);
    let paths = [
        "/oauth2/register",
        "/oauth2/token",
        "/oauth2/revoke",
        "/oauth2/device",
        "/oauth2/link",
        "/oauth2/link?user_code=%00%ff%F0%9F%A6%80",
        "/oauth2/link?user_code=BCDFGHJK&user_code=",
        "/oauth2/account",
        "/oauth2/account?action=%00&device_id=%ff%0d%0a",
        "/oauth2/account?action=org.matrix.device_view&device_id=%F0%9F%A6%80",
        "/oauth2/account?action=org.matrix.cross_signing_reset&device_id=../..",
        "/oauth2/authorize",
        "/oauth2/authorize?client_id=%00&redirect_uri=%00",
        "/oauth2/authorize?prompt=create&prompt=login",
        good.as_str(),
    ];
    let long = "x".repeat(20_000);
    let csrf = browser.csrf.clone();
    let deep = "[".repeat(5000);
    let bodies = [
        String::new(),
        "{}".to_owned(),
        "null".to_owned(),
        deep,
        long.clone(),
        "%".to_owned(),
        "=&=&%00=%ff&do".to_owned(),
        "grant_type=authorization_code&client_id=%00&code=%ff&redirect_uri=:&code_verifier=x".to_owned(),
        format!("grant_type=refresh_token&client_id={client}&refresh_token={}", "r".repeat(600)),
        format!("grant_type=urn:ietf:params:oauth:grant-type:device_code&client_id={client}&device_code=%00"),
        format!("client_id={client}&scope=%0d%0a&token=%00&token_type_hint="),
        r#"{"client_uri":"https://[::1]:0/","redirect_uris":["https://[::1]/"],"client_name":"\u0000"}"#.to_owned(),
        r#"{"client_uri":"https://xn--a.b/","redirect_uris":["b.xn--a:%"],"application_type":"native"}"#.to_owned(),
        format!("csrf={csrf}&do=allow&user_code=%F0%9F%A6%80%F0%9F%A6%80%F0%9F%A6%80"),
        format!("csrf={csrf}&do=reset&password=%00"),
        format!("csrf={csrf}&do=delete&device_id=%ff"),
        format!("csrf={csrf}&do=rename&displayname=%00"),
        format!("csrf={csrf}&do=password&new_password={}", "x".repeat(3000)),
        format!("csrf={csrf}&do=register&name=%00&password=xxxxxxxxx"),
        format!("csrf={csrf}&do=%ff"),
    ];
    for path in paths {
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::HEAD] {
            for body in &bodies {
                for cookie in [browser.cookie.as_deref().unwrap(), "kith_oauth_8008=;;=", ""] {
                    let headers = [(header::COOKIE, cookie)];
                    let seen = call(&node, method.clone(), path, &headers, body.clone()).await;
                    let what = format!("{method} {path} {:.80}: {} {}", body, seen.status, seen.text);
                    assert!(seen.status < 500, "{what}");
                    if seen.status >= 400 && method != Method::HEAD {
                        assert!(seen.text.contains("<h1>") || seen.json()["error"].is_string(), "{what}");
                    }
                }
            }
        }
    }
    // Too much of an address is refused, too.
    let seen = browser.get(&format!("/oauth2/authorize?client_id={client}&redirect_uri={long}")).await;
    assert_eq!(seen.status, 400);
    // Her password is what it was, and she is not deactivated.
    node.login("alice").await;
}
