//! The node's small extension of the client API: people near, contact links, delivery. Other servers have none of it.

use anyhow::{Context as _, Result, bail};
use matrix_sdk::{Client, reqwest::Method};
use serde_json::{Value, json};

use crate::{model::Person, text};

/// An answer is at most this long.
const LONGEST: usize = 4 << 20;

/// Whether the server announces it.
pub async fn is_there(client: &Client) -> bool {
    let known = client.unstable_features().await;
    known.is_ok_and(|features| features.iter().any(|feature| feature.as_str() == "org.kith.node"))
}

async fn call(client: &Client, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
    let base = client.homeserver();
    let url = format!("{}/_matrix/client/unstable/org.kith/{path}", base.as_str().trim_end_matches('/'));
    let token = client.access_token().context("nobody is signed in")?;
    let mut request = client.http_client().request(method, url).bearer_auth(token);
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    // The address of a request that failed is of no use to its reader, so only the reason is kept.
    let mut response = request.send().await.map_err(|error| error.without_url())?;
    let status = response.status();
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| error.without_url())? {
        answer.extend_from_slice(&chunk);
        if answer.len() > LONGEST {
            bail!("the server's answer is too long");
        }
    }
    let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
    if !status.is_success() {
        bail!("{}", answer["error"].as_str().map_or_else(|| format!("the server answered {status}"), text::line));
    }
    Ok(answer)
}

/// Who is near and who is known.
pub async fn people(client: &Client) -> Result<Vec<Person>> {
    Ok(people_in(&call(client, Method::GET, "people", None).await?))
}

fn people_in(answer: &Value) -> Vec<Person> {
    let mut people = Vec::new();
    for entry in answer["people"].as_array().into_iter().flatten().take(1_000) {
        let person = |user: &Value| Person {
            user: text::line(user["user_id"].as_str().unwrap_or_default()),
            name: text::line(user["displayname"].as_str().or_else(|| user["user_id"].as_str()).unwrap_or_default()),
            server: text::line(entry["server_name"].as_str().unwrap_or_default()),
            near: entry["nearby"] == true,
            connected: entry["connected"] == true,
        };
        match entry["users"].as_array() {
            Some(users) if !users.is_empty() => people.extend(users.iter().take(50).map(person)),
            _ => people.push(person(&Value::Null)),
        }
    }
    people.sort_by(|one, other| {
        let key = |person: &Person| (!person.near, !person.connected, person.user.is_empty(), person.name.clone());
        key(one).cmp(&key(other))
    });
    people
}

/// One's own contact link.
pub async fn contact(client: &Client) -> Result<String> {
    let answer = call(client, Method::GET, "contact", None).await?;
    Ok(text::line_of(answer["link"].as_str().context("the node gave no link")?, 2_000))
}

/// Has the node dial the addresses of a link; gives whose it is.
pub async fn add(client: &Client, link: &str) -> Result<String> {
    let answer = call(client, Method::POST, "contact", Some(json!({ "link": link }))).await?;
    Ok(answer["user_id"].as_str().context("the node gave no user")?.to_owned())
}

/// How far an own event has got.
#[derive(Debug, PartialEq, Eq)]
pub struct Reach {
    pub event: String,
    /// How many servers have not got it yet.
    pub waiting: u64,
    /// Since when the first of these is away (milliseconds since 1970).
    pub away_since_ms: Option<u64>,
    /// For how many servers it is.
    pub total: u64,
}

/// How far own events of a room have got; of those that the node does not know nothing is told.
pub async fn delivery(client: &Client, room: &str, events: &[String]) -> Result<Vec<Reach>> {
    let room: String = room.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let answer =
        call(client, Method::POST, &format!("rooms/{room}/delivery"), Some(json!({ "events": events }))).await?;
    Ok(delivery_in(&answer))
}

fn delivery_in(answer: &Value) -> Vec<Reach> {
    let listed = |entry: &Value, list: &str| entry[list].as_array().map_or(0, Vec::len) as u64;
    let reach = |(event, entry): (&String, &Value)| {
        let waiting = entry["waiting_count"].as_u64().unwrap_or(0).max(listed(entry, "waiting"));
        let since =
            entry["waiting"].as_array().into_iter().flatten().filter_map(|server| server["away_since_ms"].as_u64());
        let total = entry["total"].as_u64().unwrap_or(0).max(waiting).max(listed(entry, "delivered"));
        Reach { event: event.clone(), waiting, away_since_ms: since.min(), total }
    };
    answer["events"].as_object().into_iter().flatten().map(reach).collect()
}

/// The node itself, in lines to read.
pub async fn node(client: &Client) -> Result<Vec<String>> {
    Ok(node_in(&call(client, Method::GET, "node", None).await?))
}

fn node_in(answer: &Value) -> Vec<String> {
    let text = |value: &Value| text::line(value.as_str().unwrap_or_default());
    let bytes = |value: &Value| value.as_u64().map_or_else(|| "unknown".to_owned(), text::size);
    let mut lines = vec![
        format!("name      {}", text(&answer["server_name"])),
        format!("version   {}", text(&answer["version"])),
        format!("peers     {} connected, {} near", answer["peers"]["connected"], answer["peers"]["nearby"]),
        format!(
            "storage   messages {}, media {}, free {}",
            bytes(&answer["storage"]["database_bytes"]),
            bytes(&answer["storage"]["media_bytes"]),
            bytes(&answer["storage"]["free_bytes"])
        ),
    ];
    for address in answer["addresses"].as_array().into_iter().flatten().take(20) {
        lines.push(format!("address   {}", text(address)));
    }
    for queue in answer["queues"].as_array().into_iter().flatten().take(100) {
        let away = queue["away_since_ms"].as_u64().map(|since| format!(", away since {}", crate::when::full(since)));
        lines.push(format!(
            "waiting   {}: {} messages{}",
            text(&queue["server_name"]),
            queue["messages"].as_u64().unwrap_or(0),
            away.unwrap_or_default()
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_near_come_first_and_a_device_without_an_introduction_is_shown_too() {
        let people = people_in(&json!({ "people": [
            { "server_name": "far", "contact": true, "users": [{ "user_id": "@bob:far", "displayname": "Bob\u{1b}[2J" }] },
            { "server_name": "near", "nearby": true, "connected": true, "users": [] },
            { "server_name": "here", "nearby": true, "users": [{ "user_id": "@carol:here" }] },
        ]}));
        let shown: Vec<_> =
            people.iter().map(|person| (person.user.as_str(), person.name.as_str(), person.near)).collect();
        assert_eq!(
            shown,
            [("", "", true), ("@carol:here", "@carol:here", true), ("@bob:far", "Bob\u{FFFD}[2J", false)]
        );
    }

    #[test]
    fn delivery_counts_who_waits_beyond_the_fifty_that_are_named() {
        let of = delivery_in(&json!({ "events": {
            "$a": { "waiting": [{ "server_name": "x", "away_since_ms": 7 }, { "server_name": "y" }], "waiting_count": 60 },
            "$b": { "waiting": [], "delivered": ["x"], "total": 1 },
        }}));
        let reach = |event: &str, waiting, away_since_ms, total| Reach {
            event: event.to_owned(),
            waiting,
            away_since_ms,
            total,
        };
        assert_eq!(of, [reach("$a", 60, Some(7), 60), reach("$b", 0, None, 1)]);
    }

    #[test]
    fn answers_of_another_shape_are_no_accident() {
        for wild in [
            json!(null),
            json!([]),
            json!({ "people": 3, "events": [], "peers": "x", "queues": [[]], "addresses": [1] }),
        ] {
            assert!(people_in(&wild).is_empty() && delivery_in(&wild).is_empty());
            node_in(&wild);
        }
    }
}
