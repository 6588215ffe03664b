//! The list of operations between servers (`node/src/server_api/operations.tsv`), held to what the router answers and to the tests that
//! there are, and `docs/server-api.md` held to the list.

use std::{fs, path::Path};

use http::{Method, Request, StatusCode};
use kith::media::ingest::{About, upload};
use kith_transport::{Class, Network as _, full, memory::MemoryHub, read_body};
use serde_json::{Value, json};

use crate::{
    requests::{Forged, Stranger, name},
    world::{Peer, key},
};

const LIST: &str = include_str!("../../src/server_api/operations.tsv");
const PAGE: &str = include_str!("../../../docs/server-api.md");
/// Answered by listeners, not by the router that peers ask, too; its own test is beside it.
const BY_LISTENERS: &str = "getWellKnown";

/// One operation.
struct Operation {
    method: Method,
    path: &'static str,
    name: &'static str,
    /// `done`, or status and code of the refusal.
    status: &'static str,
    remark: &'static str,
    /// The test in which it is asked of us.
    served: &'static str,
    /// The test in which we ask it, if anything here does.
    asked: &'static str,
}

/// Method and path of the operations that are there, as the specification writes them.
pub fn done() -> impl Iterator<Item = (Method, &'static str)> {
    all().filter(|operation| operation.status == "done").map(|operation| (operation.method, operation.path))
}

fn all() -> impl Iterator<Item = Operation> {
    LIST.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [method, path, name, status, remark, served, asked] = fields[..] else { panic!("seven fields: {line}") };
        Operation { method: method.parse().expect("a method"), path, name, status, remark, served, asked }
    })
}

/// The path with something in the place of each parameter.
fn filled(path: &str, one: &Peer) -> String {
    let room = "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM";
    let mut path = path.replace("{roomId}", room).replace("{eventId}", &room.replace('!', "$"));
    path =
        path.replace("{userId}", &format!("@x:{}", name(9))).replace("{serverName}", one.node().server_name().as_str());
    path = path.replace("{mediaId}", "abc").replace("{txnId}", "1").replace("{queryType}", "weather");
    let query = match path.rsplit('/').next() {
        Some("directory") => format!("?room_alias=%23a:{}", one.node().server_name()),
        Some("profile") => format!("?user_id={}", one.user),
        Some("userinfo") => "?access_token=x".to_owned(),
        _ if path.contains("/thumbnail/") => "?width=32&height=32".to_owned(),
        _ if path.contains("/state") => "?event_id=$x".to_owned(),
        _ if path.contains("/backfill/") => "?v=$x&limit=1".to_owned(),
        _ if path.contains("/timestamp_to_event/") => "?ts=1&dir=f".to_owned(),
        _ => String::new(),
    };
    path + &query
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_operation_of_the_list_answers_as_the_list_says() {
    let hub = MemoryHub::new();
    let one = Peer::with(&hub, 1, |config| config.limits.rate_limits = false).await;
    let stranger = Stranger::new(&hub, 9);
    let mut asked = 0;
    for Operation { method, path, name, status, remark, .. } in all() {
        if name == BY_LISTENERS {
            continue;
        }
        asked += 1;
        let path = filled(path, &one);
        let body = if method == Method::GET { Value::Null } else { json!({}) };
        let (got, answer) = stranger.send(&one, Forged { method, path: &path, body, ..stranger.honest(&one) }).await;
        let code = answer["errcode"].as_str().unwrap_or_default();
        if status == "done" {
            assert_ne!(code, "M_UNRECOGNIZED", "{name}: {answer}");
            assert!(got.as_u16() < 500 && got != StatusCode::METHOD_NOT_ALLOWED, "{name}: {got} {answer}");
            assert_ne!(code, "M_UNAUTHORIZED", "{name}: {answer}");
        } else {
            assert_eq!(format!("{} {code}", got.as_u16()), status, "{name}: {answer}");
            assert!(!remark.is_empty(), "{name} is refused for no reason");
        }
    }
    assert_eq!(asked, 35);
}

#[test]
fn each_operation_names_tests_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for Operation { name, status, remark, served, asked, .. } in all() {
        assert_eq!(served.is_empty(), status != "done", "{name}: what is done is shown, and nothing else");
        assert!(!asked.is_empty() || !remark.is_empty(), "{name} is asked by nobody here, and nothing says why");
        for test in [served, asked].into_iter().filter(|test| !test.is_empty()) {
            let (file, function) = test.split_once("::").expect("a file and a name");
            let source = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            let (before, _) = source
                .split_once(&format!("fn {function}("))
                .or_else(|| source.split_once(&format!("def {function}(")))
                .unwrap_or_else(|| panic!("{name}: there is no {test}"));
            let line = before.trim_end_matches("async ").trim_end().rsplit('\n').next().unwrap_or_default();
            let is_test = file.ends_with(".py") || line.contains("test");
            assert!(is_test && !line.contains("ignore"), "{name}: {test} is not run: {line}");
        }
    }
}

#[test]
fn the_documentation_holds_the_table() {
    let link = |test: &str| {
        test.rsplit("::").next().filter(|name| !name.is_empty()).map_or(String::new(), |name| format!("`{name}`"))
    };
    let mut table = "| operation | method and path | what becomes of it | asked of us | asked of others |\n".to_owned();
    table.push_str("| --- | --- | --- | --- | --- |\n");
    for Operation { method, path, name, status, remark, served, asked } in all() {
        let becomes = match (status, remark) {
            ("done", "") => "done".to_owned(),
            ("done", remark) => format!("done ({remark})"),
            (refusal, remark) => format!("refused, {refusal}: {remark}"),
        };
        table.push_str(&format!("| `{name}` | `{method} {path}` | {becomes} | {} | {} |\n", link(served), link(asked)));
    }
    assert!(PAGE.contains(&table), "put this into docs/server-api.md:\n{table}");
}

#[tokio::test]
async fn who_the_server_is_and_what_it_runs_is_told_to_anybody() {
    let hub = MemoryHub::new();
    let one = Peer::new(&hub, 1).await;
    let stranger = Stranger::new(&hub, 9);
    let uri = format!("https://{}/_matrix/federation/v1/version", one.node().server_name());
    let request = Request::get(uri).body(full("")).expect("a request");
    let response = stranger.network.request(key(1), Class::Control, request).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    let body: Value =
        serde_json::from_slice(&read_body(response.into_body(), 1000).await.expect("a body")).expect("JSON");
    assert_eq!(body, json!({"server": {"name": "kith", "version": env!("CARGO_PKG_VERSION")}}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_and_its_thumbnail_are_handed_out_to_servers() {
    let hub = MemoryHub::new();
    let one = Peer::new(&hub, 1).await;
    let stranger = Stranger::new(&hub, 9);
    let mut picture = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_pixel(200, 100, image::Rgb([1, 2, 3]))
        .write_to(&mut picture, image::ImageFormat::Png)
        .expect("drawn");
    let picture = picture.into_inner();
    let about = About { content_type: Some("image/png".to_owned()), filename: None };
    let id = upload(one.node(), &one.user, None, about, full(picture.clone())).await.expect("stored");
    let get = async |path: String| {
        let path = format!("/_matrix/federation/v1/media/{path}");
        let forged = Forged { method: Method::GET, path: &path, body: Value::Null, ..stranger.honest(&one) };
        stranger.fetch(&one, forged, String::new()).await
    };
    let (status, whole) = get(format!("download/{id}")).await;
    assert_eq!(status, StatusCode::OK);
    assert!(whole.windows(picture.len()).any(|part| part == picture), "the file is in the answer as it was");
    let (status, small) = get(format!("thumbnail/{id}?width=32&height=32&method=crop")).await;
    assert_eq!(status, StatusCode::OK);
    let begin = small.windows(4).position(|part| part == b"\x89PNG" || part == b"\xff\xd8\xff\xe0").expect("a picture");
    let small = image::load_from_memory(&small[begin..]).expect("a picture that can be read");
    assert_eq!((small.width(), small.height()), (32, 32));
    assert_eq!(get("download/nothing".to_owned()).await.0, StatusCode::NOT_FOUND);
}
