//! Keeping up with the server, and saying when it does not answer.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use matrix_sdk::{
    Client, Room,
    deserialized_responses::RawAnySyncOrStrippedTimelineEvent,
    ruma::{push::Action, serde::Raw},
    sync::Notification,
};
use serde_json::Value;

use super::Worker;
use crate::{
    connect, extension,
    failure::words,
    protocol::{Connection, News},
    text, trust,
};

/// Seconds between attempts while the server does not answer: at first, and at most.
const PAUSES: (u64, u64) = (1, 20);

impl Worker {
    /// Syncs until the program ends or the session does.
    pub(super) async fn keep_syncing(self: Arc<Self>) {
        let mut pause = PAUSES.0;
        let mut online = false;
        let mut first = true;
        loop {
            // The first answer comes at once, so that the screen knows how things are.
            let result = self.client.sync_once(trust::settings(if online { 30 } else { 0 })).await;
            match result {
                Ok(_) => {
                    pause = PAUSES.0;
                    self.rooms_changed.notify_one();
                    if !online {
                        online = true;
                        self.tell(News::Connection(Connection::Online));
                        self.extension.store(extension::is_there(&self.client).await, Ordering::Relaxed);
                        self.tell(News::Extension(self.has_extension()));
                        // What could not be sent goes now.
                        self.client.send_queue().set_enabled(true).await;
                    }
                    if first {
                        first = false;
                        self.notify_from_now_on().await;
                        self.client.send_queue().respawn_tasks_for_rooms_with_unsent_requests().await;
                    }
                    self.tell_trust();
                    self.ask_delivery().await;
                }
                Err(error) if connect::is_signed_out(&error) => {
                    self.tell(News::Connection(Connection::SignedOut));
                    return;
                }
                Err(error) => {
                    online = false;
                    let why = words(&anyhow::anyhow!(error));
                    self.tell(News::Connection(Connection::Offline(text::fit(&why, 60))));
                    tokio::time::sleep(Duration::from_secs(pause)).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    /// Tells what asks for attention; what came with the first sync is history.
    async fn notify_from_now_on(self: &Arc<Self>) {
        let news = self.news.clone();
        let handler = move |notification: Notification, room: Room, _: Client| {
            let news = news.clone();
            async move {
                if let Some(notice) = notice(&notification, &room).await {
                    news.send(notice).ok();
                }
            }
        };
        self.client.register_notification_handler(handler).await;
    }
}

async fn notice(notification: &Notification, room: &Room) -> Option<News> {
    notification.actions.iter().any(Action::should_notify).then_some(())?;
    let event = match &notification.event {
        RawAnySyncOrStrippedTimelineEvent::Sync(event) => json(event),
        RawAnySyncOrStrippedTimelineEvent::Stripped(event) => json(event),
    };
    let sender = matrix_sdk::ruma::UserId::parse(event["sender"].as_str()?).ok()?;
    let member = room.get_member_no_sync(&sender).await.ok().flatten();
    let name = member.map_or_else(|| sender.to_string(), |member| member.name().to_owned());
    let text = match event["type"].as_str()? {
        "m.room.member" if event["content"]["membership"] == "invite" => "invites you".to_owned(),
        "m.room.member" => return None,
        _ => event["content"]["body"].as_str().unwrap_or("something new").to_owned(),
    };
    Some(News::Notify {
        room: room.room_id().to_string(),
        room_name: text::line(&room.cached_display_name().map(|name| name.to_string()).unwrap_or_default()),
        name: text::line(&name),
        text: text::line(&text),
    })
}

fn json<T>(event: &Raw<T>) -> Value {
    serde_json::from_str(event.json().get()).unwrap_or_default()
}
