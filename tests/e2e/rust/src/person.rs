//! An account on this device: rooms and messages.

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use matrix_sdk::{
    Client, Room, RoomState,
    attachment::AttachmentConfig,
    config::SyncSettings,
    deserialized_responses::{TimelineEvent, TimelineEventKind},
    encryption::{BackupDownloadStrategy, EncryptionSettings, verification::SasVerification},
    media::{MediaFormat, MediaRequestParameters},
    ruma::{
        EventId, RoomId, UserId,
        api::client::{
            account::register,
            room::create_room,
            uiaa::{AuthData, Dummy},
        },
        events::{
            EmptyStateKey, InitialStateEvent,
            room::{
                encryption::RoomEncryptionEventContent,
                member::MembershipState,
                message::{MessageType, RoomMessageEventContent},
            },
        },
    },
    sync::SyncResponse,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::Options;

/// Who uses this program.
pub struct Person {
    pub client: Client,
    pub password: String,
    /// What came, in order: room, and the event as it could be read then.
    seen: Mutex<Vec<(Room, TimelineEvent)>>,
    /// Verification requests of others: who, and the flow.
    pub requests: Mutex<Vec<(String, String)>>,
    pub verification: Mutex<Option<SasVerification>>,
}

/// Calls `condition` until it gives something, at most so many seconds.
pub async fn until<T, F: Future<Output = Option<T>>>(seconds: u64, what: &str, condition: impl Fn() -> F) -> Result<T> {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(value) = condition().await {
            return Ok(value);
        }
        if Instant::now() > end {
            bail!("not within {seconds} s: {what}");
        }
        sleep(Duration::from_millis(20)).await;
    }
}

impl Person {
    /// Registers or logs in, and keeps syncing.
    pub async fn begin(options: &Options, registers: bool) -> Result<(Arc<Self>, Value)> {
        let (username, password) = (options.text("username")?, options.text("password")?);
        let settings = EncryptionSettings {
            backup_download_strategy: BackupDownloadStrategy::OneShot,
            ..EncryptionSettings::default()
        };
        let client = Client::builder()
            .homeserver_url(options.text("homeserver")?)
            .with_encryption_settings(settings)
            .build()
            .await?;
        if registers {
            let mut request = register::v3::Request::new();
            request.username = Some(username.to_owned());
            request.password = Some(password.to_owned());
            request.auth = Some(AuthData::Dummy(Dummy::new()));
            client.matrix_auth().register(request).await?;
        } else {
            client.matrix_auth().login_username(username, password).send().await?;
        }
        let person = Arc::new(Self {
            client,
            password: password.to_owned(),
            seen: Mutex::default(),
            requests: Mutex::default(),
            verification: Mutex::default(),
        });
        person.record(person.client.sync_once(SyncSettings::new()).await?);
        tokio::spawn(person.clone().sync());
        let answer = json!({
            "user_id": person.client.user_id(),
            "device_id": person.client.device_id(),
            "access_token": person.client.access_token(),
            "fingerprint": person.client.encryption().ed25519_key().await,
        });
        Ok((person, answer))
    }

    async fn sync(self: Arc<Self>) {
        let settings = SyncSettings::new().timeout(Duration::from_secs(20));
        loop {
            match self.client.sync_once(settings.clone()).await {
                Ok(response) => self.record(response),
                Err(error) => {
                    eprintln!("sync: {error:?}");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn record(&self, response: SyncResponse) {
        for (room_id, update) in response.rooms.joined {
            let Some(room) = self.client.get_room(&room_id) else { continue };
            for event in update.timeline.events {
                let source = source(&event);
                if source["content"]["msgtype"] == "m.key.verification.request" {
                    self.was_asked(&source["sender"], &source["event_id"]);
                }
                self.seen.lock().unwrap().push((room.clone(), event));
            }
        }
        for event in response.to_device {
            let event = event.to_raw().deserialize_as::<Value>().unwrap_or_default();
            if event["type"] == "m.key.verification.request" {
                self.was_asked(&event["sender"], &event["content"]["transaction_id"]);
            }
        }
    }

    fn was_asked(&self, sender: &Value, flow: &Value) {
        if let (Some(sender), Some(flow)) = (sender.as_str(), flow.as_str())
            && self.client.user_id().is_none_or(|me| me != sender)
        {
            self.requests.lock().unwrap().push((sender.to_owned(), flow.to_owned()));
        }
    }

    fn room(&self, options: &Options) -> Result<Room> {
        let id = RoomId::parse(options.text("room_id")?)?;
        self.client.get_room(&id).context("the room is not known")
    }

    async fn knows_encryption(&self, room: &Room, seconds: u64) -> Result<()> {
        until(seconds, "the room's encryption", || async {
            room.latest_encryption_state().await.ok()?.is_encrypted().then_some(())
        })
        .await
    }

    pub async fn create_room(&self) -> Result<Value> {
        let encryption = RoomEncryptionEventContent::with_recommended_defaults();
        let mut request = create_room::v3::Request::new();
        request.preset = Some(create_room::v3::RoomPreset::PrivateChat);
        request.initial_state = vec![InitialStateEvent::new(EmptyStateKey, encryption).to_raw_any()];
        let room = self.client.create_room(request).await?;
        self.knows_encryption(&room, 20).await?;
        Ok(json!({ "room_id": room.room_id() }))
    }

    pub async fn invite(&self, options: &Options) -> Result<Value> {
        let user = UserId::parse(options.text("user_id")?)?;
        self.room(options)?.invite_user_by_id(&user).await?;
        Ok(json!({}))
    }

    pub async fn accept(&self, options: &Options) -> Result<Value> {
        let room = until(options.seconds(), "an invitation", || async {
            self.room(options).ok().filter(|room| room.state() == RoomState::Invited)
        })
        .await?;
        room.join().await?;
        self.knows_encryption(&room, options.seconds()).await?;
        Ok(json!({}))
    }

    pub async fn sees_member(&self, options: &Options) -> Result<Value> {
        let (room, user) = (self.room(options)?, UserId::parse(options.text("user_id")?)?);
        until(options.seconds(), "the user in the room", || async {
            let member = room.get_member(&user).await.ok()??;
            (*member.membership() == MembershipState::Join).then_some(())
        })
        .await?;
        let device = options.text("device_id")?.into();
        until(options.seconds(), "the user's device", || async {
            self.client.encryption().request_user_identity(&user).await.ok()?;
            self.client.encryption().get_device(&user, device).await.ok()?
        })
        .await?;
        Ok(json!({}))
    }

    pub async fn send(&self, options: &Options) -> Result<Value> {
        let content = RoomMessageEventContent::text_plain(options.text("body")?);
        let sent = self.room(options)?.send(content).await?;
        Ok(json!({ "event_id": sent.response.event_id }))
    }

    pub async fn send_photo(&self, options: &Options) -> Result<Value> {
        let data = tokio::fs::read(options.text("path")?).await?;
        let kind = "image/jpeg".parse()?;
        let room = self.room(options)?;
        let sent = room.send_attachment(options.text("name")?, &kind, data, AttachmentConfig::new()).await?;
        Ok(json!({ "event_id": sent.event_id }))
    }

    pub async fn wait_for_message(&self, options: &Options) -> Result<Value> {
        let (room, body) = (self.room(options)?, options.text("body")?);
        until(options.seconds(), &format!("message {body}"), || async {
            self.read_again(&room).await;
            let seen = self.seen.lock().unwrap();
            let mut of_room = seen.iter().filter(|(where_, _)| where_.room_id() == room.room_id());
            of_room.find_map(|(_, event)| (source(event)["content"]["body"] == body).then(|| shown(event)))
        })
        .await
    }

    /// Keys may come after the messages they open.
    async fn read_again(&self, room: &Room) {
        let is_shut = |event: &TimelineEvent| matches!(event.kind, TimelineEventKind::UnableToDecrypt { .. });
        let of_room = |(where_, event): &&(Room, TimelineEvent)| where_.room_id() == room.room_id() && is_shut(event);
        let shut: Vec<_> =
            self.seen.lock().unwrap().iter().filter(of_room).filter_map(|(_, event)| event.event_id()).collect();
        for id in shut {
            let Ok(again) = room.event(&id, None).await else { continue };
            let mut seen = self.seen.lock().unwrap();
            if let Some((_, event)) = seen.iter_mut().find(|(_, event)| event.event_id().as_ref() == Some(&id)) {
                *event = again;
            }
        }
    }

    pub async fn read(&self, options: &Options) -> Result<Value> {
        let (room, id) = (self.room(options)?, EventId::parse(options.text("event_id")?)?);
        until(options.seconds(), "the event in clear", || async {
            let event = room.event(&id, None).await.ok()?;
            matches!(event.kind, TimelineEventKind::Decrypted(_)).then(|| shown(&event))
        })
        .await
    }

    pub async fn fetch_photo(&self, options: &Options) -> Result<Value> {
        let content: RoomMessageEventContent = serde_json::from_value(options.value("content"))?;
        let MessageType::Image(image) = content.msgtype else { bail!("this is no image") };
        let request = MediaRequestParameters { source: image.source, format: MediaFormat::File };
        let data = self.client.media().get_media_content(&request, false).await?;
        tokio::fs::write(options.text("path")?, data).await?;
        Ok(json!({}))
    }
}

fn source(event: &TimelineEvent) -> Value {
    event.raw().deserialize_as::<Value>().unwrap_or_default()
}

fn shown(event: &TimelineEvent) -> Value {
    let source = source(event);
    json!({
        "event_id": source["event_id"],
        "sender": source["sender"],
        "type": source["type"],
        "content": source["content"],
        "encrypted": matches!(event.kind, TimelineEventKind::Decrypted(_)),
    })
}
