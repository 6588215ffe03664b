//! The web client at `/`, from the files that are embedded in the program (`kith-web`), and `/config.json`, which tells it where it is.
//!
//! Threats met (DESIGN section 8): the policy allows scripts from this origin alone, none inline and none made of text (but WebAssembly,
//! with which the client encrypts), no frames around the page and no forms, so that what a message brings along runs nowhere; other
//! origins may not load these files, nor read the configuration, which names the server. Media that people send never lie below these paths.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Body,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use kith_web::{Client, Encoding, File};
use ruma::ServerName;
use serde::Serialize;
use tower::ServiceExt as _;

use super::page::HEADERS;

/// See the module. Pictures and sounds of messages are decrypted in the page and shown as `blob:`; `data:` are thumbnails.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; \
                      media-src 'self' blob:; font-src 'self'; connect-src 'self'; worker-src 'self'; manifest-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The camera scans codes, the microphone records messages; for nobody but the page itself.
const PERMISSIONS: &str = "camera=(self), microphone=(self), geolocation=(), payment=(), usb=(), serial=()";

/// What the client is told.
#[derive(Debug, Clone, Serialize)]
struct Told {
    base_url: String,
    server_name: String,
    kith: bool,
}

/// `/config.json`: where the homeserver of this page is.
pub fn config<S: Clone + Send + Sync + 'static>(server_name: &ServerName, public_base_url: &str) -> Router<S> {
    let told = Told { base_url: public_base_url.to_owned(), server_name: server_name.to_string(), kith: true };
    let config = get(move || async move {
        let mut response = Json(told).into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response.headers_mut().extend(HEADERS);
        response
    });
    Router::new().route("/config.json", config)
}

/// Serves the files of a client, and hands everything else to `others`. To be asked last, after all routes.
pub fn before(others: Router, client: &'static Client) -> Router {
    if !client.is_there() {
        return others;
    }
    let others = Arc::new(others);
    Router::new().fallback(move |request: Request<Body>| {
        let others = others.clone();
        async move {
            match file(client, &request) {
                Some(file) => answer(file, request.method(), request.headers()),
                None => Router::clone(&others).oneshot(request).await.unwrap_or_else(|never| match never {}),
            }
        }
    })
}

/// The file that a request is for.
fn file(client: &Client, request: &Request<Body>) -> Option<&'static File> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    match request.uri().path().strip_prefix('/')? {
        "" => client.file("index.html"),
        path => client.file(path),
    }
}

fn answer(file: &'static File, method: &Method, asked: &HeaderMap) -> Response {
    // Weak, as the same one stands for the file in each encoding.
    let etag = format!("W/\"{}\"", file.etag);
    let known = of(asked, &header::IF_NONE_MATCH)
        .any(|tag| tag == "*" || tag.trim_start_matches("W/").trim_matches('"') == file.etag);
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert("permissions-policy", HeaderValue::from_static(PERMISSIONS));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    headers.extend(HEADERS);
    headers.extend(HeaderValue::try_from(etag).map(|etag| (header::ETAG, etag)));
    let caching = if file.immutable { "public, max-age=31536000, immutable" } else { "no-cache" };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    if known {
        headers.remove(header::CONTENT_TYPE);
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    let as_it_is_kept = match file.encoding {
        Encoding::Identity => true,
        Encoding::Gzip => takes_gzip(asked),
    };
    if as_it_is_kept && file.encoding == Encoding::Gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    let length = if as_it_is_kept { file.bytes.len() } else { file.length };
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if *method != Method::HEAD {
        *response.body_mut() = match as_it_is_kept {
            true => Body::from(Bytes::from_static(file.bytes)),
            // Piece by piece, so that whoever reads slowly takes no memory.
            false => Body::from_stream(futures::stream::iter(file.plain())),
        };
    }
    response
}

/// The parts of a header that is a list.
fn of<'a>(headers: &'a HeaderMap, name: &'a header::HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// Whether a client takes `gzip` (RFC 9110, section 12.5.3).
fn takes_gzip(headers: &HeaderMap) -> bool {
    let mut any = false;
    for part in of(headers, &header::ACCEPT_ENCODING) {
        let (name, parameters) = part.split_once(';').unwrap_or((part, ""));
        let weight = parameters.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
        let takes = weight.is_ok_and(|weight| weight > 0.0);
        match name.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => return takes,
            "*" => any = takes,
            _ => {}
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    /// `gzip` of `const a = 1;` a hundred times.
    const PACKED: &[u8] = &[
        31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 75, 206, 207, 43, 46, 81, 72, 84, 176, 85, 48, 180, 78, 30, 101, 143, 178, 71,
        217, 163, 236, 65, 204, 6, 0, 191, 247, 22, 218, 176, 4, 0, 0,
    ];
    static CLIENT: Client = Client::new(&[
        File {
            path: "assets/index-1a2B3c4D.js",
            content_type: "text/javascript; charset=utf-8",
            etag: "11",
            immutable: true,
            encoding: Encoding::Gzip,
            bytes: PACKED,
            length: 1_200,
        },
        File {
            path: "index.html",
            content_type: "text/html; charset=utf-8",
            etag: "22",
            immutable: false,
            encoding: Encoding::Identity,
            bytes: b"<!doctype html>",
            length: 15,
        },
    ]);
    static NONE: Client = Client::new(&[]);

    fn plain() -> String {
        "const a = 1;".repeat(100)
    }

    async fn ask(client: &'static Client, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
        let others = Router::new().fallback(async || (StatusCode::IM_A_TEAPOT, "others"));
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        before(others, client).oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    async fn text(response: Response) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn the_page_is_asked_for_anew_each_time_and_a_hashed_file_never_again() {
        for path in ["/", "/index.html"] {
            let page = ask(&CLIENT, Method::GET, path, &[]).await;
            assert_eq!(
                (page.status(), &page.headers()["cache-control"]),
                (StatusCode::OK, &"no-cache".parse().unwrap())
            );
            assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
            let tag = page.headers()["etag"].to_str().unwrap().to_owned();
            assert_eq!(text(page).await, "<!doctype html>");
            for known in [tag.as_str(), "\"other\", W/\"22\"", "\"22\"", "*"] {
                let again = ask(&CLIENT, Method::GET, path, &[("if-none-match", known)]).await;
                assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known}");
                assert_eq!(again.headers()["etag"], tag.as_str());
                assert_eq!(text(again).await, "");
            }
            let other = ask(&CLIENT, Method::GET, path, &[("if-none-match", "W/\"2\"")]).await;
            assert_eq!(other.status(), StatusCode::OK);
        }
        let script = ask(&CLIENT, Method::GET, "/assets/index-1a2B3c4D.js", &[]).await;
        assert!(script.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    }

    #[tokio::test]
    async fn a_compressed_file_goes_out_as_it_is_kept_to_those_who_take_it_and_plain_to_the_others() {
        let script = "/assets/index-1a2B3c4D.js";
        for takes in ["gzip", "br, GZIP;q=0.5", "*", "deflate, x-gzip"] {
            let response = ask(&CLIENT, Method::GET, script, &[("accept-encoding", takes)]).await;
            assert_eq!(response.headers()["content-encoding"], "gzip", "{takes}");
            assert_eq!(response.headers()["content-length"], PACKED.len().to_string().as_str());
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), PACKED);
        }
        for refuses in ["", "identity", "br", "gzip;q=0", "*;q=0", "*, gzip;q=0.0", "gzip;q=x"] {
            let response = ask(&CLIENT, Method::GET, script, &[("accept-encoding", refuses)]).await;
            assert!(!response.headers().contains_key("content-encoding"), "{refuses}");
            assert_eq!(response.headers()["content-length"], "1200");
            assert_eq!(response.headers()["vary"], "Accept-Encoding");
            assert_eq!(text(response).await, plain());
        }
        let head = ask(&CLIENT, Method::HEAD, script, &[]).await;
        assert_eq!(head.headers()["content-length"], "1200");
        assert_eq!(text(head).await, "");
    }

    #[tokio::test]
    async fn every_file_comes_with_a_policy_that_lets_nothing_run_but_the_clients_own_files() {
        for path in ["/", "/assets/index-1a2B3c4D.js"] {
            let response = ask(&CLIENT, Method::GET, path, &[]).await;
            let policy = response.headers()["content-security-policy"].to_str().unwrap();
            let directives: std::collections::BTreeMap<&str, &str> =
                policy.split("; ").filter_map(|each| each.trim().split_once(' ')).collect();
            for (directive, sources) in [
                ("default-src", "'none'"),
                ("script-src", "'self' 'wasm-unsafe-eval'"),
                ("style-src", "'self'"),
                ("connect-src", "'self'"),
                ("frame-ancestors", "'none'"),
                ("base-uri", "'none'"),
                ("form-action", "'none'"),
            ] {
                assert_eq!(directives[directive], sources, "{path}");
            }
            assert!(!policy.contains("'unsafe-") && !policy.contains('*') && !policy.contains("http"), "{policy}");
            assert_eq!(response.headers()["x-content-type-options"], "nosniff");
            assert_eq!(response.headers()["cross-origin-resource-policy"], "same-origin");
        }
    }

    #[tokio::test]
    async fn what_is_no_file_of_the_client_is_left_to_others() {
        let post = ask(&CLIENT, Method::POST, "/", &[]).await;
        assert_eq!(post.status(), StatusCode::IM_A_TEAPOT);
        for path in
            ["/assets/", "/assets/none.js", "/../index.html", "//index.html", "/_matrix/federation/v1/version", "/%2e"]
        {
            assert_eq!(text(ask(&CLIENT, Method::GET, path, &[]).await).await, "others", "{path}");
        }
        assert_eq!(text(ask(&NONE, Method::GET, "/", &[]).await).await, "others");
    }

    #[tokio::test]
    async fn the_configuration_tells_where_the_homeserver_is_and_is_not_kept() {
        let router: Router = config(ruma::server_name!("example.org"), "https://chat.example.org");
        let response = router.oneshot(Request::get("/config.json").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.headers()["cache-control"], "no-store");
        let told: serde_json::Value = serde_json::from_str(&text(response).await).unwrap();
        let expected = serde_json::json!({
            "base_url": "https://chat.example.org", "server_name": "example.org", "kith": true,
        });
        assert_eq!(told, expected);
    }
}
