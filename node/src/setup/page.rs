//! The plain page, always at `/plain/`, and at `/` where no web client is embedded: what runs here, which address to give to a client, and
//! the form behind the one-time link.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderName, HeaderValue, header};
use ruma::ServerName;

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("setup.js");
const STYLE: &str = include_str!("setup.css");
const ICON: &str = include_str!("icon.svg");

/// What the page says of the web client.
const WITH_CLIENT: &str = "<p><a href=\"/\">Open kith's own app</a> in this browser, or use any other, such as Element, Cinny or FluffyChat.</p>";
const WITHOUT_CLIENT: &str = "<p>Element, Cinny and FluffyChat work well.</p>\n<p class=\"quiet\">This program was built without kith's own \
     app, which would be on this page. To have it, install Node.js (20.19 or later) with npm, and build kith again: \
     <code class=\"command\">cargo build --release --bin kith</code>.</p>";

/// Everything from this origin, nothing inline, nothing framed, no form sent anywhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What protects any page of this node.
pub(super) const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// The routes of the page. `public_base_url` is the address to give to clients; `with_client`: whether `/` is the web client's.
pub fn routes<S: Clone + Send + Sync + 'static>(
    server_name: &ServerName,
    public_base_url: &str,
    with_client: bool,
) -> Router<S> {
    let page = PAGE
        .replace("{{client}}", if with_client { WITH_CLIENT } else { WITHOUT_CLIENT })
        .replace("{{server_name}}", &escape(server_name.as_str()))
        .replace("{{base_url}}", &escape(public_base_url));
    let page = get(move || async move { answer("text/html; charset=utf-8", page) });
    let router = Router::new()
        .route("/plain", get(|| async { axum::response::Redirect::permanent("/plain/") }))
        .route("/plain/", page.clone())
        .route("/plain/setup.js", get(|| async { answer("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/plain/setup.css", get(|| async { answer("text/css; charset=utf-8", STYLE) }))
        .route("/plain/icon.svg", get(|| async { answer("image/svg+xml", ICON) }));
    if with_client { router } else { router.route("/", page) }
}

fn answer(content_type: &'static str, body: impl IntoResponse) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.extend(HEADERS);
    response
}

/// Text for HTML, also within quotes.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use tower::ServiceExt as _;

    use super::*;

    async fn fetch(path: &str, base_url: &str, with_client: bool) -> (http::HeaderMap, String) {
        let router: Router = routes(ruma::server_name!("example.org"), base_url, with_client);
        let response = router.oneshot(http::Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let headers = response.headers().clone();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn every_file_comes_with_a_policy_that_allows_nothing_foreign_inline_or_framed() {
        for (path, content_type) in [
            ("/", "text/html"),
            ("/plain/", "text/html"),
            ("/plain/setup.js", "text/javascript"),
            ("/plain/setup.css", "text/css"),
            ("/plain/icon.svg", "image/svg+xml"),
        ] {
            let (headers, _) = fetch(path, "http://localhost:8008", false).await;
            let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
                assert!(policy.contains(part), "{path}: {part}");
            }
            assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"), "{policy}");
            assert!(headers[header::CONTENT_TYPE].to_str().unwrap().starts_with(content_type));
            assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert_eq!(headers[header::REFERRER_POLICY], "no-referrer");
            assert_eq!(headers["cross-origin-resource-policy"], "same-origin");
        }
    }

    #[tokio::test]
    async fn the_page_works_under_its_own_policy() {
        for with_client in [false, true] {
            let (_, page) = fetch("/plain/", "http://localhost:8008", with_client).await;
            let lower = page.to_lowercase();
            assert!(!lower.contains("style=") && !lower.contains("<style"), "inline styles are blocked by the policy");
            assert!(!lower.contains(" onclick") && !lower.contains(" onsubmit") && !lower.contains("javascript:"));
            for script in lower.match_indices("<script") {
                assert!(lower[script.0..].starts_with("<script src=\"/plain/setup.js\" defer></script>"));
            }
            for link in ["href=\"http", "src=\"http"] {
                assert!(!lower.contains(link), "nothing is loaded from elsewhere");
            }
        }
    }

    #[tokio::test]
    async fn the_page_tells_the_address_for_clients_and_escapes_it() {
        let (_, page) = fetch("/plain/", "https://chat.example.org", true).await;
        assert!(page.contains("https://chat.example.org") && page.contains("example.org"));
        assert!(!page.contains("{{"));
        let (_, page) = fetch("/plain/", "http://a/\"><script>", true).await;
        assert!(!page.contains("\"><script>"));
    }

    #[tokio::test]
    async fn the_page_leads_to_the_client_or_says_how_to_get_it() {
        let (_, page) = fetch("/", "http://localhost:8008", false).await;
        assert!(page.contains("npm") && !page.contains("href=\"/\""));
        let (_, page) = fetch("/plain/", "http://localhost:8008", true).await;
        assert!(!page.contains("npm") && page.contains("href=\"/\""));
        let router: Router = routes(ruma::server_name!("example.org"), "http://localhost", true);
        let response = router.oneshot(http::Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 404, "`/` is left to the client");
    }
}
