//! The lists of operations (`operations.tsv`; `unstable.tsv`, of proposals), held to what the router answers, and
//! `docs/client-api.md` held to the lists.

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
}

fn all(list: &'static str) -> Vec<Operation> {
    list.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [method, path, name, status, remark] = fields[..] else { panic!("five fields: {line}") };
            Operation { method: method.parse().unwrap(), path, name, status, remark }
        })
        .collect()
}

/// The table of a list as it stands in the documentation.
fn table(list: &'static str) -> String {
    let mut table = "| operation | method and path | what becomes of it |\n| --- | --- | --- |\n".to_owned();
    for Operation { method, path, name, status, remark } in all(list) {
        let becomes = match (status, remark) {
            ("done", "") => "done".to_owned(),
            ("done", remark) => format!("done ({remark})"),
            (refusal, remark) => format!("refused, {refusal}: {remark}"),
        };
        table.push_str(&format!("| `{name}` | `{method} {path}` | {becomes} |\n"));
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

#[test]
fn the_documentation_holds_the_tables_of_operations() {
    for list in [LIST, UNSTABLE] {
        let table = table(list);
        assert!(PAGE.contains(&table), "put this into docs/client-api.md:\n{table}");
    }
}
