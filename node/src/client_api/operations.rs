//! The lists of operations (`operations.tsv`; `unstable.tsv`, of proposals), held to what the router answers and to the
//! tests that there are, and `docs/client-api.md` held to the lists.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use http::Method;
use serde_json::{Value, json};

use crate::{
    accounts::{
        devices::{self, NewDevice},
        users,
    },
    testing::{Client, TestNode},
};

const LIST: &str = include_str!("operations.tsv");
const UNSTABLE: &str = include_str!("unstable.tsv");
const PAGE: &str = include_str!("../../../docs/client-api.md");

/// One operation.
struct Operation {
    method: Method,
    path: &'static str,
    name: &'static str,
    /// `done`, or status and code of the refusal.
    status: &'static str,
    remark: &'static str,
    /// Of one that is done: the test that asserts what it changes or gives, as `cargo test` calls it.
    test: &'static str,
}

fn all(list: &'static str) -> Vec<Operation> {
    list.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [method, path, name, status, remark, test] = fields[..] else { panic!("six fields: {line}") };
            Operation { method: method.parse().unwrap(), path, name, status, remark, test }
        })
        .collect()
}

/// The table of a list as it stands in the documentation.
fn table(list: &'static str) -> String {
    let mut table =
        "| operation | method and path | what becomes of it | test |\n| --- | --- | --- | --- |\n".to_owned();
    for Operation { method, path, name, status, remark, test } in all(list) {
        let becomes = match (status, remark) {
            ("done", "") => "done".to_owned(),
            ("done", remark) => format!("done ({remark})"),
            (refusal, remark) => format!("refused, {refusal}: {remark}"),
        };
        let test = if test.is_empty() { String::new() } else { format!("`{test}`") };
        table.push_str(&format!("| `{name}` | `{method} {path}` | {becomes} | {test} |\n"));
    }
    table
}

/// A signed-in user who has just come, so that what an operation does to it (signing out, deactivation) disturbs no other.
async fn newcomer(node: &TestNode, number: usize) -> Client {
    let user = users::create(node.node(), &format!("user{number}"), None, false).await.unwrap();
    let (device, tokens) = devices::sign_in(node.node(), &user, NewDevice::default()).await.unwrap();
    let mut client = node.client();
    client.signed_in(&json!({ "access_token": tokens.access, "user_id": user, "device_id": device }));
    client
}

/// The path with something in the place of each parameter.
fn filled(path: &str, client: &Client, room: &str) -> String {
    let mut out = String::new();
    let mut rest = path;
    while let Some((before, behind)) = rest.split_once('{') {
        let (name, behind) = behind.split_once('}').unwrap();
        out.push_str(before);
        out.push_str(match name {
            "userId" => &client.user,
            "deviceId" => &client.device,
            "roomId" | "roomIdOrAlias" => room,
            "eventId" => "$event",
            "roomAlias" => "%23alias:example.org",
            "serverName" => "example.org",
            "kind" => "override",
            "ruleId" => ".m.rule.master",
            "receiptType" => "m.read",
            "keyName" => "displayname",
            "eventType" => "m.room.name",
            _ => "x",
        });
        rest = behind;
    }
    out + rest
}

fn body(name: &str) -> Value {
    match name {
        "inviteBy3PID" => json!({
            "id_server": "example.org", "id_access_token": "token", "medium": "email", "address": "a@example.org",
        }),
        "bind3PID" => json!({
            "client_secret": "s", "id_access_token": "token", "id_server": "example.org", "sid": "1",
        }),
        "add3PID" => json!({ "client_secret": "s", "sid": "1" }),
        _ => json!({}),
    }
}

#[tokio::test]
async fn each_operation_of_the_list_answers_as_the_list_says() {
    let node = TestNode::start().await;
    let (mut done, mut refused) = (0, 0);
    for (number, operation) in all(LIST).into_iter().chain(all(UNSTABLE)).enumerate() {
        let client = newcomer(&node, number).await;
        let room = client.post("/_matrix/client/v3/createRoom", json!({})).await.ok();
        let mut path = filled(operation.path, &client, room["room_id"].as_str().unwrap());
        if operation.path.ends_with("/preview_url") {
            path.push_str("?url=https://example.org/");
        }
        let body = (operation.method != Method::GET).then(|| body(operation.name));
        let reply = client.call(operation.method.clone(), &path, body).await;
        let code = reply.body["errcode"].as_str().unwrap_or_default();
        let told = format!("{} {}", reply.status.as_u16(), code);
        if operation.status == "done" {
            assert_ne!(code, "M_UNRECOGNIZED", "{}: {told}", operation.name);
            // Of other servers nobody answers here.
            assert!(matches!(reply.status.as_u16(), 502 | ..500), "{}: {told}", operation.name);
            assert_ne!(reply.status.as_u16(), 405, "{}", operation.name);
            done += 1;
        } else {
            assert_eq!(told, operation.status, "{}", operation.name);
            assert!(!operation.remark.is_empty(), "{} is refused for no reason", operation.name);
            refused += 1;
        }
    }
    assert!(done > 140 && refused < 20, "{done} are done and {refused} refused");
}

#[tokio::test]
async fn what_is_no_operation_is_not_recognized() {
    let node = TestNode::start().await;
    let client = newcomer(&node, 0).await;
    client.get("/_matrix/client/v3/nonsense").await.fails(404, "M_UNRECOGNIZED");
    client.delete("/_matrix/client/v3/sync").await.fails(405, "M_UNRECOGNIZED");
}

/// The tests of this program that an ordinary run runs, as it tells them itself.
fn tests() -> BTreeSet<String> {
    let told = |more: &[&str]| -> BTreeSet<String> {
        let program = std::env::current_exe().unwrap();
        let output = Command::new(program).args(["--list", "--format", "terse"]).args(more).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
    };
    let left_out = told(&["--ignored"]);
    told(&[]).into_iter().filter(|test| !left_out.contains(test)).collect()
}

/// The sources of a test: its file, and what it shares with its neighbours.
fn sources(test: &str) -> String {
    let (module, _) = test.rsplit_once("::").unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(module.replace("::", "/")).with_extension("rs");
    let shared = fs::read_to_string(file.with_file_name("mod.rs")).unwrap_or_default();
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())) + &shared
}

/// The last part of a path that is no parameter.
fn last_fixed(path: &str) -> &str {
    path.split('/').rfind(|part| !part.is_empty() && !part.starts_with('{')).unwrap()
}

#[test]
fn each_operation_that_is_done_names_a_test_that_is_run_in_a_file_that_speaks_of_its_path() {
    let tests = tests();
    for Operation { name, path, status, test, .. } in all(LIST).into_iter().chain(all(UNSTABLE)) {
        if status != "done" {
            assert_eq!(test, "", "{name} is refused, which the test of the whole list asserts");
            continue;
        }
        assert!(tests.contains(test), "{name}: there is no test {test:?}");
        let (sources, part) = (sources(test), last_fixed(path));
        let is_called = ['/', '"'].iter().any(|before| sources.contains(&format!("{before}{part}")));
        assert!(is_called, "{name}: nothing beside {test} says {part:?}");
    }
}

#[test]
fn the_documentation_holds_the_tables_of_operations() {
    for list in [LIST, UNSTABLE] {
        let table = table(list);
        assert!(PAGE.contains(&table), "put this into docs/client-api.md:\n{table}");
    }
}
