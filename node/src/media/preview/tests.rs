//! Pages of a web that is made up.

use http::{Response, header};
use kith_store::{MemoryBackend, tables::media::MEDIA};
use serde_json::json;

use crate::{
    testing::{
        TestNode,
        web::{FakeWeb, answer},
    },
    web::WebError,
};

const PATH: &str = "/_matrix/client/v1/media/preview_url?url=https%3A%2F%2Fexample.org%2F";

fn html(body: &str) -> Response<bytes::Bytes> {
    let mut page = answer(200, body.to_owned());
    page.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/html; charset=utf-8"));
    page
}

fn redirect(to: &str) -> Response<bytes::Bytes> {
    let mut page = answer(302, "");
    page.headers_mut().insert(header::LOCATION, to.parse().unwrap());
    page
}

fn picture() -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::DynamicImage::new_rgb8(3, 2).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

async fn node(web: &std::sync::Arc<FakeWeb>) -> TestNode {
    TestNode::start_on_web(MemoryBackend::new(), web.choice(), |config| config.client.url_previews = true).await
}

#[tokio::test]
async fn a_page_is_previewed_with_its_picture_as_a_file_of_this_node_and_asked_again_after_a_day() {
    let web = FakeWeb::new();
    web.answer(|asked| {
        Ok(match asked.url.as_str() {
            "https://example.org/" => redirect("/page"),
            "https://example.org/page" => {
                html(r#"<meta property="og:title" content="Page"><meta property="og:image" content="pic.png">"#)
            }
            "https://example.org/pic.png" => answer(200, picture()),
            _ => answer(404, ""),
        })
    });
    let node = node(&web).await;
    let alice = node.register("alice").await;
    let preview = alice.get(PATH).await.ok();
    assert_eq!(preview["og:title"], "Page");
    let sizes =
        ["og:image:width", "og:image:height", "matrix:image:size"].map(|field| preview[field].as_u64().unwrap());
    assert_eq!(sizes, [3, 2, picture().len() as u64]);
    let uri = preview["og:image"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned();
    assert_eq!(alice.get(&format!("/_matrix/client/v1/media/download/{uri}")).await.status.as_u16(), 200);

    let asked = web.asked().len();
    assert_eq!(alice.get(PATH).await.ok(), preview);
    assert_eq!(alice.get(&PATH.replace("client/v1/media", "media/v3")).await.ok(), preview);
    assert_eq!(web.asked().len(), asked, "it was kept");
    node.clock.advance(std::time::Duration::from_secs(25 * 3600));
    let anew = alice.get(PATH).await.ok();
    assert_eq!((web.asked().len(), anew["og:image"] == preview["og:image"]), (2 * asked, false));
    let (server, id) = uri.split_once('/').unwrap();
    let old = node.node().store.read(|read| MEDIA.get(read, &(server.to_owned(), id.to_owned()))).unwrap();
    assert!(old.is_none(), "the picture goes with the preview");
    // Without a token there is nothing.
    node.client().get(PATH).await.fails(401, "M_MISSING_TOKEN");
}

#[tokio::test]
async fn what_cannot_be_had_is_not_asked_for_again_and_again() {
    let web = FakeWeb::new();
    let node = node(&web).await;
    let alice = node.register("alice").await;
    web.answer(|_| Err(WebError::Private));
    alice.get(PATH).await.fails(502, "M_UNKNOWN");
    alice.get(PATH).await.fails(502, "M_UNKNOWN");
    assert_eq!(web.asked().len(), 1);
    for (number, target) in ["file:///etc/passwd", "https://example.org/loop"].into_iter().enumerate() {
        web.answer(move |_| Ok(redirect(target)));
        let before = web.asked().len();
        alice.get(&format!("{PATH}{number}")).await.fails(502, "M_UNKNOWN");
        assert!(web.asked().len() - before <= 6, "{target}");
        assert!(web.asked().iter().all(|asked| asked.url.starts_with("https://example.org/")));
    }
    for url in ["", "nonsense", "ftp://example.org/", "file:///etc/passwd", &format!("https://a/{}", "x".repeat(3_000))]
    {
        let path = PATH.replace("https%3A%2F%2Fexample.org%2F", &crate::http::escape::escaped(url));
        alice.get(&path).await.fails(400, "M_INVALID_PARAM");
    }
}

#[tokio::test]
async fn a_picture_is_its_own_preview_and_what_is_neither_says_nothing() {
    let web = FakeWeb::new();
    let node = node(&web).await;
    let alice = node.register("alice").await;
    web.answer(|asked| {
        let mut found = answer(200, if asked.url.ends_with('1') { picture() } else { b"<svg/>".to_vec() });
        found.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("image/png"));
        Ok(found)
    });
    let found = alice.get(&format!("{PATH}1")).await.ok();
    assert_eq!((&found["og:image:type"], &found["og:image:width"]), (&json!("image/png"), &json!(3)));
    assert_eq!(alice.get(&format!("{PATH}2")).await.ok(), json!({}));
}

#[tokio::test]
async fn without_the_configuration_nothing_is_asked() {
    let web = FakeWeb::new();
    let node = TestNode::start_on_web(MemoryBackend::new(), web.choice(), |_| {}).await;
    let alice = node.register("alice").await;
    alice.get(PATH).await.fails(404, "M_NOT_FOUND");
    assert_eq!(web.asked().len(), 0);
}
