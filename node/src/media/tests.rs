//! Files through the client API of a node on memory.

use axum::body::Body;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::testing::{Client, TestNode};

async fn call(
    node: &TestNode,
    client: &Client,
    method: &str,
    path: &str,
    kind: &str,
    body: impl Into<Body>,
) -> Response<Body> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost")
        .header(header::AUTHORIZATION, format!("Bearer {}", client.token.as_deref().unwrap_or_default()))
        .header(header::CONTENT_TYPE, kind)
        .body(body.into())
        .unwrap();
    node.handle.client_router().oneshot(request).await.unwrap()
}

async fn bytes(response: Response<Body>) -> Vec<u8> {
    response.into_body().collect().await.unwrap().to_bytes().to_vec()
}

async fn json(response: Response<Body>) -> Value {
    serde_json::from_slice(&bytes(response).await).unwrap()
}

async fn upload(node: &TestNode, client: &Client, kind: &str, file: &[u8]) -> String {
    let path = "/_matrix/media/v3/upload?filename=caf%C3%A9.png";
    let response = call(node, client, "POST", path, kind, file.to_vec()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let uri = json(response).await["content_uri"].as_str().unwrap().to_owned();
    uri.strip_prefix("mxc://").unwrap().to_owned()
}

async fn download(node: &TestNode, client: &Client, place: &str) -> Response<Body> {
    call(node, client, "GET", &format!("/_matrix/client/v1/media/download/{place}"), "", Body::empty()).await
}

#[tokio::test]
async fn a_file_comes_back_byte_for_byte_and_cannot_run_in_a_browser() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let file: Vec<u8> = (0..700_000u32).map(|n| (n % 251) as u8).collect();
    let place = upload(&node, &alice, "text/html", &file).await;
    let response = download(&node, &alice, &place).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html");
    assert_eq!(response.headers()[header::CONTENT_DISPOSITION], "attachment; filename*=utf-8''caf%C3%A9.png");
    assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert!(response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("sandbox"));
    assert_eq!(bytes(response).await, file);
    let picture = upload(&node, &alice, "image/png", b"no picture, but shown as one").await;
    let disposition = download(&node, &alice, &picture).await.headers()[header::CONTENT_DISPOSITION].clone();
    assert!(disposition.to_str().unwrap().starts_with("inline"));
}

#[tokio::test]
async fn a_download_has_the_name_that_its_reader_wants() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let place = upload(&node, &alice, "text/plain", b"hello").await;
    let response = download(&node, &alice, &format!("{place}/note.txt")).await;
    assert_eq!(response.headers()[header::CONTENT_DISPOSITION], "inline; filename=\"note.txt\"");
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/plain");
    assert_eq!(bytes(response).await, b"hello");
    let response = download(&node, &alice, &format!("{place}/caf%C3%A9%22.txt")).await;
    assert_eq!(response.headers()[header::CONTENT_DISPOSITION], "inline; filename*=utf-8''caf%C3%A9%22.txt");
    let stranger = node.client();
    assert_eq!(download(&node, &stranger, &format!("{place}/note.txt")).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn clients_are_told_how_large_a_file_may_be() {
    let node = TestNode::start_with(|config| config.limits.upload_size = 1234).await;
    let alice = node.register("alice").await;
    for path in ["/_matrix/client/v1/media/config", "/_matrix/media/v3/config"] {
        assert_eq!(alice.get(path).await.ok(), json!({ "m.upload.size": 1234 }));
        node.client().get(path).await.fails(401, "M_MISSING_TOKEN");
    }
}

#[tokio::test]
async fn files_are_for_signed_in_clients_only() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let place = upload(&node, &alice, "text/plain", b"hello").await;
    let stranger = node.client();
    assert_eq!(download(&node, &stranger, &place).await.status(), StatusCode::UNAUTHORIZED);
    let old = call(&node, &stranger, "GET", &format!("/_matrix/media/v3/download/{place}"), "", Body::empty()).await;
    assert_eq!(old.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_file_over_the_limit_is_refused_and_leaves_nothing() {
    let node = TestNode::start_with(|config| config.limits.upload_size = 1000).await;
    let alice = node.register("alice").await;
    let response = call(&node, &alice, "POST", "/_matrix/media/v3/upload", "text/plain", vec![0; 1001]).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(json(response).await["errcode"], "M_TOO_LARGE");
    assert!(node.node().blobs.list(None, 10).unwrap().is_empty());
    upload(&node, &alice, "text/plain", &[0; 1000]).await;
}

#[tokio::test]
async fn a_reserved_file_can_be_uploaded_once_by_its_owner() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let reserved = alice.post("/_matrix/media/v1/create", json!({})).await.ok();
    let place = reserved["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned();
    let early = download(&node, &alice, &place).await;
    assert_eq!(early.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(json(early).await["errcode"], "M_NOT_YET_UPLOADED");
    let path = format!("/_matrix/media/v3/upload/{place}");
    let foreign = call(&node, &bob, "PUT", &path, "text/plain", "x").await;
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);
    assert_eq!(call(&node, &alice, "PUT", &path, "text/plain", "mine").await.status(), StatusCode::OK);
    assert_eq!(bytes(download(&node, &bob, &place).await).await, b"mine");
    let again = call(&node, &alice, "PUT", &path, "text/plain", "other").await;
    assert_eq!(json(again).await["errcode"], "M_CANNOT_OVERWRITE_MEDIA");
}

/// A body whose end is still to come, and what ends it.
fn unfinished(text: &'static str) -> (Body, tokio::sync::oneshot::Sender<()>) {
    let (end, ended) = tokio::sync::oneshot::channel();
    let frames = futures::stream::unfold((Some(text), Some(ended)), |(text, ended)| async move {
        if let Some(text) = text {
            return Some((Ok::<_, std::io::Error>(text), (None, ended)));
        }
        let _ = ended?.await;
        None
    });
    (Body::from_stream(frames), end)
}

#[tokio::test]
async fn of_two_uploads_at_once_to_one_reservation_the_first_to_end_stays() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let reserved = alice.post("/_matrix/media/v1/create", json!({})).await.ok();
    let place = reserved["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned();
    let path = format!("/_matrix/media/v3/upload/{place}");
    let (slow_body, end) = unfinished("slow");
    let mut slow = Box::pin(call(&node, &alice, "PUT", &path, "text/plain", slow_body));
    // It is under way: its reservation was looked at.
    assert!(futures::poll!(&mut slow).is_pending());
    assert_eq!(call(&node, &alice, "PUT", &path, "text/plain", "quick").await.status(), StatusCode::OK);
    end.send(()).unwrap();
    let late = slow.await;
    assert_eq!(late.status(), StatusCode::CONFLICT);
    assert_eq!(json(late).await["errcode"], "M_CANNOT_OVERWRITE_MEDIA");
    assert_eq!(bytes(download(&node, &alice, &place).await).await, b"quick");
}

#[tokio::test]
async fn a_thumbnail_is_smaller_and_what_is_no_image_has_none() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let mut file = std::io::Cursor::new(Vec::new());
    image::DynamicImage::new_rgb8(1200, 600).write_to(&mut file, image::ImageFormat::Png).unwrap();
    let place = upload(&node, &alice, "image/png", &file.into_inner()).await;
    let path = format!("/_matrix/client/v1/media/thumbnail/{place}?width=300&height=200&method=scale");
    let response = call(&node, &alice, "GET", &path, "", Body::empty()).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "image/jpeg");
    let small = image::load_from_memory(&bytes(response).await).unwrap();
    assert_eq!((small.width(), small.height()), (320, 160));
    let text = upload(&node, &alice, "image/png", b"text").await;
    let path = format!("/_matrix/client/v1/media/thumbnail/{text}?width=96&height=96&method=crop");
    assert_eq!(call(&node, &alice, "GET", &path, "", Body::empty()).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn files_of_other_servers_are_kept_within_the_bound_and_those_asked_for_longest_ago_go() {
    use kith_store::{
        Json, StoreError,
        tables::media::{BLOB_USES, MEDIA, MediaRow},
    };

    let node = TestNode::start_with(|config| config.limits.remote_media_cache = 2500).await;
    let alice = node.register("alice").await;
    let own = upload(&node, &alice, "text/plain", &[7; 5000]).await;
    let mut blobs = vec![];
    for n in 0..3u8 {
        let mut intake = super::ingest::Intake::begin(node.node(), 10_000).await.unwrap();
        intake.add(&[n; 1000]).await.unwrap();
        let (blob, size) = intake.finish().await.unwrap();
        let created = node.node().clock.now_ms() - 3 * 60 * 60 * 1000 + u64::from(n);
        let row =
            MediaRow { blob: blob.clone(), size, content_type: None, filename: None, uploader: None, created, used: 0 };
        let (server, id) = ("example.org".to_owned(), format!("file{n}"));
        blobs.push(blob.clone());
        let put = node.node().store.write(move |tx| {
            BLOB_USES.put(tx, &(blob, server.clone(), id.clone()), &())?;
            MEDIA.put(tx, &(server, id), &Json(row))
        });
        put.await.map_err(|error: StoreError| error).unwrap();
    }
    // The oldest is asked for again: the second is the one not asked for longest.
    assert_eq!(download(&node, &alice, "example.org/file0").await.status(), StatusCode::OK);
    super::sweep::once(node.node()).await.unwrap();
    super::sweep::once(node.node()).await.unwrap();
    let kept = |n: u8| {
        let key = ("example.org".to_owned(), format!("file{n}"));
        node.node().store.read(|read| MEDIA.contains(read, &key)).unwrap()
    };
    assert_eq!([kept(0), kept(1), kept(2)], [true, false, true]);
    let size = |blob: &String| node.node().blobs.size(&blob.parse().unwrap()).unwrap();
    assert_eq!([size(&blobs[0]), size(&blobs[1])], [Some(1000), None], "its bytes are gone, too");
    assert_eq!(bytes(download(&node, &alice, &own).await).await.len(), 5000, "our own files are not counted");
}

#[tokio::test]
async fn what_no_row_names_is_swept_and_files_in_use_stay() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let place = upload(&node, &alice, "text/plain", b"wanted").await;
    let mut orphan = super::ingest::Intake::begin(node.node(), 100).await.unwrap();
    orphan.add(b"the row of this one was never written").await.unwrap();
    orphan.finish().await.unwrap();
    // What was finished since the last sweep is spared once.
    super::sweep::once(node.node()).await.unwrap();
    let swept = super::sweep::once(node.node()).await.unwrap();
    assert_eq!(swept.orphans, 1);
    assert_eq!(bytes(download(&node, &alice, &place).await).await, b"wanted");
}
