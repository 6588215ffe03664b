//! Searching what is on this device: rooms, people, messages. The server is asked for people alone.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use anyhow::Result;
use matrix_sdk::{Client, Room, deserialized_responses::TimelineEvent};
use serde_json::Value;

use super::Worker;
use crate::{
    model::{Found, Standing},
    protocol::News,
    text,
};

/// Messages that are shown of those found.
const MOST_MESSAGES: usize = 200;
/// How long the server may take to name people.
const PATIENCE: Duration = Duration::from_secs(3);

impl Worker {
    pub(super) async fn search(&self, wanted: String) -> Result<()> {
        let turn = self.search.fetch_add(1, Ordering::Relaxed) + 1;
        let mut found = rooms(&self.client, &wanted).await;
        found.extend(people(&self.client, &wanted).await);
        let mut messages = Vec::new();
        for room in self.client.joined_rooms() {
            if self.search.load(Ordering::Relaxed) != turn {
                return Ok(());
            }
            messages.extend(messages_of(&self.client, &room, &wanted).await?);
        }
        messages.sort_by_key(|message| std::cmp::Reverse(message.at_ms));
        messages.truncate(MOST_MESSAGES);
        for message in messages {
            let name = message.room.cached_display_name().map(|name| name.to_string()).unwrap_or_default();
            let sender = match matrix_sdk::ruma::UserId::parse(&message.sender) {
                Ok(sender) => message.room.get_member_no_sync(&sender).await.ok().flatten(),
                Err(_) => None,
            };
            found.push(Found::Message {
                room: message.room.room_id().to_string(),
                room_name: text::line(&name),
                event: message.event,
                name: text::line(sender.as_ref().map_or(&message.sender, |member| member.name())),
                at_ms: message.at_ms,
                text: around(&text::line_of(&message.body, 20_000), &wanted),
            });
        }
        self.tell(News::Found { text: wanted, found });
        Ok(())
    }
}

async fn rooms(client: &Client, wanted: &str) -> Vec<Found> {
    let wanted = wanted.to_lowercase();
    let rooms = super::rooms::list(client).await.into_iter();
    rooms
        .filter(|room| room.standing == Standing::Joined)
        .filter(|room| room.name.to_lowercase().contains(&wanted) || room.topic.to_lowercase().contains(&wanted))
        .map(|room| Found::Room { id: room.id, name: room.name })
        .collect()
}

async fn people(client: &Client, wanted: &str) -> Vec<Found> {
    let answer = tokio::time::timeout(PATIENCE, client.search_users(wanted, 20)).await;
    let Ok(Ok(answer)) = answer else { return Vec::new() };
    let person = |user: matrix_sdk::ruma::api::client::user_directory::search_users::v3::User| Found::Person {
        name: text::line(user.display_name.as_deref().unwrap_or(user.user_id.localpart())),
        user: text::line(user.user_id.as_str()),
    };
    answer.results.into_iter().take(50).map(person).collect()
}

struct Hit {
    room: Room,
    event: String,
    sender: String,
    at_ms: u64,
    body: String,
}

/// The messages of a room that hold the words, as they were last edited.
async fn messages_of(client: &Client, room: &Room, wanted: &str) -> Result<Vec<Hit>> {
    let events = {
        let store = client.event_cache_store().lock().await?;
        let Some(store) = store.as_clean() else { return Ok(Vec::new()) };
        store.get_room_events(room.room_id(), None, None).await?
    };
    let (room, wanted) = (room.clone(), wanted.to_lowercase());
    Ok(tokio::task::spawn_blocking(move || hits(&room, &events, &wanted)).await?)
}

fn hits(room: &Room, events: &[TimelineEvent], wanted: &str) -> Vec<Hit> {
    let mut messages = BTreeMap::new();
    let mut edits = BTreeMap::new();
    for event in events {
        let Ok(event) = serde_json::from_str::<Value>(event.raw().json().get()) else { continue };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (id, sender) = (text(&event["event_id"]), text(&event["sender"]));
        let at_ms = event["origin_server_ts"].as_u64().unwrap_or(0);
        let content = &event["content"];
        if content["m.relates_to"]["rel_type"] == "m.replace" {
            let target = (text(&content["m.relates_to"]["event_id"]), sender);
            let body = text(&content["m.new_content"]["body"]);
            let newest = edits.entry(target).or_insert((at_ms, body.clone()));
            if at_ms >= newest.0 {
                *newest = (at_ms, body);
            }
        } else if event["type"] == "m.room.message" && content["body"].is_string() {
            messages.insert(id, (sender, at_ms, text(&content["body"])));
        }
    }
    let mut hits = Vec::new();
    for (event, (sender, at_ms, body)) in messages {
        let body = match edits.get(&(event.clone(), sender.clone())) {
            Some((_, edited)) => edited.clone(),
            None => body,
        };
        if body.to_lowercase().contains(wanted) {
            hits.push(Hit { room: room.clone(), event, sender, at_ms, body });
        }
    }
    hits
}

/// The words with a little of what is around them.
fn around(body: &str, wanted: &str) -> String {
    let lower = body.to_lowercase();
    let at = lower.find(&wanted.to_lowercase()).map_or(0, |at| lower[..at].chars().count());
    let skip = at.saturating_sub(12);
    let shown: String = body.chars().skip(skip).take(120).collect();
    if skip > 0 { format!("…{shown}") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_looked_for_is_seen_in_a_long_message() {
        let body = format!("{} needle {}", "a ".repeat(300), "b ".repeat(300));
        assert!(around(&body, "NEEDLE").contains("needle"));
        assert_eq!(around("short needle", "needle"), "short needle");
        assert!(around("İİİİ x", "x").contains('x'));
    }
}
