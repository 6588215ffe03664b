//! The open conversation: following it, and what is said in it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use futures_util::StreamExt as _;
use matrix_sdk::{
    ComposerDraft, ComposerDraftType, Room,
    room::edit::EditedContent,
    ruma::{
        EventId,
        api::client::receipt::create_receipt::v3::ReceiptType,
        events::{
            AnySyncMessageLikeEvent, AnySyncTimelineEvent,
            room::message::{
                EmoteMessageEventContent, MessageType, Relation, RoomMessageEventContent,
                RoomMessageEventContentWithoutRelation,
            },
        },
        room_version_rules::RoomVersionRules,
    },
};
use matrix_sdk_ui::timeline::{EventTimelineItem, RoomExt as _, Timeline, TimelineEventItemId, default_event_filter};

use super::{Worker, convert};
use crate::{
    extension::{self, Reach},
    protocol::News,
    text,
};

/// Messages that are loaded at once.
const PAGE: u16 = 40;
/// Own events whose delivery is asked for.
const MOST_EVENTS: usize = 30;
const DELIVERY_EVERY: Duration = Duration::from_secs(3);

/// The conversation on the screen.
pub struct Open {
    pub timeline: Arc<Timeline>,
    /// Own events that have arrived wherever they should: nothing more is asked about them.
    arrived: BTreeSet<String>,
    follows: tokio::task::JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.follows.abort();
    }
}

/// A timeline with everything that is to be seen, strange things included.
pub async fn timeline(room: &Room) -> Result<Timeline> {
    Ok(room.timeline_builder().event_filter(is_shown).build().await?)
}

fn is_shown(event: &AnySyncTimelineEvent, rules: &RoomVersionRules) -> bool {
    if default_event_filter(event, rules) {
        return true;
    }
    let AnySyncTimelineEvent::MessageLike(event) = event else { return false };
    if let AnySyncMessageLikeEvent::RoomMessage(message) = event {
        let replaces = |message: &RoomMessageEventContent| matches!(message.relates_to, Some(Relation::Replacement(_)));
        return message.as_original().is_some_and(|message| !replaces(&message.content));
    }
    let kind = event.event_type().to_string();
    !kind.starts_with("m.") && !kind.starts_with("org.matrix.")
}

impl Worker {
    pub(super) async fn open(self: &Arc<Self>, id: &str) -> Result<()> {
        let room = self.room(id)?;
        // What the room before still does is over before the next begins.
        self.open.lock().await.take();
        let timeline = Arc::new(timeline(&room).await?);
        let (items, changes) = timeline.subscribe().await;
        let few = items.len() < 10;
        let me = self.me.clone();
        let first =
            eyeball_im::VectorDiff::Reset { values: items.iter().map(|item| convert::message(item, &me)).collect() };
        self.tell(News::Timeline { room: id.to_owned(), changes: vec![first] });
        let (news, room_id) = (self.news.clone(), id.to_owned());
        let (typing_guard, mut typing) = room.subscribe_to_typing_notifications();
        let typing_room = room.clone();
        let follows = tokio::spawn(async move {
            let _typing_guard = typing_guard;
            let mut changes = std::pin::pin!(changes);
            loop {
                tokio::select! {
                    diffs = changes.next() => {
                        let Some(diffs) = diffs else { return };
                        let changes = diffs.into_iter().map(|diff| diff.map(|item| convert::message(&item, &me))).collect();
                        news.send(News::Timeline { room: room_id.clone(), changes }).ok();
                    }
                    Ok(users) = typing.recv() => {
                        let mut names = Vec::new();
                        for user in users.iter().take(3) {
                            let member = typing_room.get_member_no_sync(user).await.ok().flatten();
                            names.push(text::line(member.as_ref().map_or(user.as_str(), |member| member.name())));
                        }
                        news.send(News::Typing { room: room_id.clone(), names }).ok();
                    }
                }
            }
        });
        *self.open.lock().await = Some(Open { timeline: timeline.clone(), arrived: BTreeSet::new(), follows });
        if let Ok(Some(draft)) = room.load_composer_draft(None).await {
            self.tell(News::Draft { room: id.to_owned(), text: draft.plain_text });
        }
        if few {
            let worker = self.clone();
            tokio::spawn(async move {
                if let Err(error) = worker.earlier().await {
                    worker.tell(News::Problem(crate::failure::words(&error)));
                }
            });
        } else {
            self.tell(News::Earlier { room: id.to_owned(), beginning: false });
        }
        self.rooms_changed.notify_one();
        self.ask_delivery().await;
        Ok(())
    }

    async fn the_timeline(&self) -> Result<Arc<Timeline>> {
        Ok(self.open.lock().await.as_ref().context("open a room first")?.timeline.clone())
    }

    pub(super) async fn earlier(&self) -> Result<()> {
        let timeline = self.the_timeline().await?;
        let result = timeline.paginate_backwards(PAGE).await;
        let room = timeline.room().room_id().to_string();
        self.tell(News::Earlier { room, beginning: *result.as_ref().unwrap_or(&false) });
        result?;
        Ok(())
    }

    /// The item that the screen calls by this key.
    pub(super) async fn item(&self, key: &str) -> Result<(Arc<Timeline>, EventTimelineItem)> {
        let timeline = self.the_timeline().await?;
        let items = timeline.items().await;
        let item = items.iter().rev().find(|item| item.unique_id().0 == key);
        let event = item.and_then(|item| item.as_event()).context("that message is gone")?.clone();
        Ok((timeline, event))
    }

    async fn item_id(&self, key: &str) -> Result<(Arc<Timeline>, TimelineEventItemId)> {
        let (timeline, event) = self.item(key).await?;
        let id = event.identifier();
        Ok((timeline, id))
    }

    pub(super) async fn send(&self, text: &str, reply: Option<String>, emote: bool) -> Result<()> {
        let timeline = self.the_timeline().await?;
        match reply {
            Some(event) => {
                let event = EventId::parse(event)?;
                timeline.send_reply(RoomMessageEventContentWithoutRelation::text_markdown(text), event).await?;
            }
            None if emote => {
                let content = MessageType::Emote(EmoteMessageEventContent::markdown(text));
                timeline.send(RoomMessageEventContent::new(content).into()).await?;
            }
            None => {
                timeline.send(RoomMessageEventContent::text_markdown(text).into()).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn edit(&self, key: &str, text: &str) -> Result<()> {
        let (timeline, id) = self.item_id(key).await?;
        let content = RoomMessageEventContentWithoutRelation::text_markdown(text);
        timeline.edit(&id, EditedContent::RoomMessage(content)).await?;
        Ok(())
    }

    pub(super) async fn react(&self, key: &str, reaction: &str) -> Result<()> {
        let (timeline, id) = self.item_id(key).await?;
        timeline.toggle_reaction(&id, reaction).await?;
        Ok(())
    }

    pub(super) async fn delete(&self, key: &str) -> Result<()> {
        let (timeline, id) = self.item_id(key).await?;
        timeline.redact(&id, None).await?;
        Ok(())
    }

    pub(super) async fn retry(&self, key: &str) -> Result<()> {
        let (timeline, event) = self.item(key).await?;
        let Some(handle) = event.local_echo_send_handle() else { bail!("that message is sent") };
        timeline.room().send_queue().set_enabled(true);
        handle.unwedge().await?;
        Ok(())
    }

    pub(super) async fn seen(&self) -> Result<()> {
        let timeline = self.the_timeline().await?;
        timeline.mark_as_read(ReceiptType::Read).await?;
        timeline.mark_as_read(ReceiptType::FullyRead).await?;
        self.rooms_changed.notify_one();
        Ok(())
    }

    pub(super) async fn keep_draft(&self, room: &str, text: String) -> Result<()> {
        let room = self.room(room)?;
        if text.is_empty() {
            room.clear_composer_draft(None).await?;
        } else {
            let draft = ComposerDraft {
                plain_text: text,
                html_text: None,
                draft_type: ComposerDraftType::NewMessage,
                attachments: vec![],
            };
            room.save_composer_draft(draft, None).await?;
        }
        Ok(())
    }

    /// Asks again and again while a message is on its way to other nodes: no sync tells when it has arrived.
    pub(super) async fn keep_asking_delivery(self: Arc<Self>) {
        loop {
            tokio::time::sleep(DELIVERY_EVERY).await;
            self.ask_delivery().await;
        }
    }

    /// Asks the node how far the latest own messages have come. Other servers tell nothing of that.
    pub(super) async fn ask_delivery(&self) {
        if !self.has_extension() {
            return;
        }
        let Some((timeline, arrived)) =
            self.open.lock().await.as_ref().map(|open| (open.timeline.clone(), open.arrived.clone()))
        else {
            return;
        };
        let items = timeline.items().await;
        let own = items.iter().rev().filter_map(|item| item.as_event()).filter(|event| event.is_own());
        let events: Vec<String> = own
            .filter_map(|event| event.event_id().map(ToString::to_string))
            .take(MOST_EVENTS)
            .filter(|event| !arrived.contains(event))
            .collect();
        if events.is_empty() {
            return;
        }
        let room = timeline.room().room_id();
        let Ok(told) = extension::delivery(&self.client, room.as_str(), &events).await else { return };
        if let Some(open) = self.open.lock().await.as_mut().filter(|open| open.timeline.room().room_id() == room) {
            open.arrived.extend(told.iter().filter(|reach| reach.waiting == 0).map(|reach| reach.event.clone()));
        }
        // Where nobody else's server is, "stored" is all there is to say.
        for reach in told.into_iter().filter(|reach| reach.total > 0) {
            let Reach { event, waiting, away_since_ms, .. } = reach;
            self.tell(News::Delivery { room: room.to_string(), event, waiting, away_since_ms });
        }
    }
}
