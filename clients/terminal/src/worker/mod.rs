//! The side of the client that talks to the server: it takes the screen's [`Ask`]s and tells it [`News`].

pub mod account;
pub mod convert;
pub mod files;
mod people;
pub mod rooms;
mod search;
mod sync;
pub mod timeline;
mod verification;

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use matrix_sdk::{
    Client, Room,
    ruma::{OwnedUserId, RoomId, UserId},
};
use tokio::sync::{Mutex, Notify, mpsc};

use crate::{
    failure::words,
    folder::Folder,
    protocol::{Ask, News},
};

/// Everything that talks to the server.
pub struct Worker {
    client: Client,
    folder: Folder,
    me: OwnedUserId,
    news: mpsc::UnboundedSender<News>,
    open: Mutex<Option<timeline::Open>>,
    verifying: Mutex<Option<verification::Flow>>,
    /// Whether the server has the node's extension.
    extension: std::sync::atomic::AtomicBool,
    /// Wakes who draws the list of rooms anew.
    rooms_changed: Notify,
    /// The search that counts: an earlier one that is still under way stops.
    search: std::sync::atomic::AtomicU64,
}

impl Worker {
    /// Begins to sync and to tell news.
    pub async fn start(client: Client, folder: Folder, news: mpsc::UnboundedSender<News>) -> Result<Arc<Self>> {
        let me = client.user_id().context("nobody is signed in")?.to_owned();
        client.event_cache().subscribe()?;
        let worker = Arc::new(Self {
            client,
            folder,
            me,
            news,
            open: Mutex::default(),
            verifying: Mutex::default(),
            extension: false.into(),
            rooms_changed: Notify::new(),
            search: 0.into(),
        });
        worker.tell(News::Me {
            user: crate::text::line(worker.me.as_str()),
            device: worker.client.device_id().map(ToString::to_string).unwrap_or_default(),
        });
        worker.clone().listen_for_verifications();
        worker.tell_rooms().await;
        worker.tell_trust();
        tokio::spawn(worker.clone().keep_rooms());
        tokio::spawn(worker.clone().keep_syncing());
        tokio::spawn(worker.clone().keep_asking_delivery());
        Ok(worker)
    }

    /// Obeys, in order for what must keep its order, beside the rest for what takes long.
    pub async fn run(self: Arc<Self>, mut asks: mpsc::UnboundedReceiver<Ask>) {
        while let Some(ask) = asks.recv().await {
            let in_order = matches!(
                ask,
                Ask::Open { .. }
                    | Ask::Send { .. }
                    | Ask::Edit { .. }
                    | Ask::React { .. }
                    | Ask::SendFile { .. }
                    | Ask::Draft { .. }
            );
            if in_order {
                self.obey(ask).await;
            } else {
                let worker = self.clone();
                tokio::spawn(async move { worker.obey(ask).await });
            }
        }
    }

    /// Obeys and tells what went wrong.
    async fn obey(self: &Arc<Self>, ask: Ask) {
        if let Err(error) = self.attempt(ask).await {
            self.tell(News::Problem(words(&error)));
        }
    }

    async fn attempt(self: &Arc<Self>, ask: Ask) -> Result<()> {
        match ask {
            Ask::Open { room } => self.open(&room).await,
            Ask::Earlier => self.earlier().await,
            Ask::Send { text, reply, emote } => self.send(&text, reply, emote).await,
            Ask::Edit { key, text } => self.edit(&key, &text).await,
            Ask::React { key, reaction } => self.react(&key, &reaction).await,
            Ask::Delete { key } => self.delete(&key).await,
            Ask::Retry { key } => self.retry(&key).await,
            Ask::SendFile { path } => self.send_file(&path).await,
            Ask::Save { key } => self.save(&key).await,
            Ask::Picture { key } => self.picture(key).await,
            Ask::Seen => self.seen().await,
            Ask::Typing(typing) => {
                if let Some(room) = self.open_room().await {
                    room.typing_notice(typing).await?;
                }
                Ok(())
            }
            Ask::Draft { room, text } => self.keep_draft(&room, text).await,
            Ask::Accept { room } => self.accept(&room).await,
            Ask::Leave { room } => self.leave(&room).await,
            Ask::Join { room } => self.join(&room).await,
            Ask::Chat { user } => self.chat(&user).await,
            Ask::Create { name } => self.create(&name).await,
            Ask::Invite { user } => self.invite(&user).await,
            Ask::Kick { user } => self.kick(&user).await,
            Ask::Name { name } => {
                self.the_room().await?.set_name(name).await?;
                Ok(())
            }
            Ask::Topic { topic } => {
                self.the_room().await?.set_room_topic(&topic).await?;
                Ok(())
            }
            Ask::Encrypt => {
                self.the_room().await?.enable_encryption().await?;
                Ok(())
            }
            Ask::Members => self.members().await,
            Ask::People => self.people().await,
            Ask::Near(on) => self.be_found(on).await,
            Ask::Contact => self.contact().await,
            Ask::Add { link } => self.add(&link).await,
            Ask::Search { text } => self.search(text).await,
            Ask::Devices => self.devices().await,
            Ask::Node => {
                let lines = crate::extension::node(&self.client).await?;
                self.tell(News::Text { title: "My node".to_owned(), lines });
                Ok(())
            }
            Ask::Verify { user } => self.verify(user).await,
            Ask::AcceptVerification => self.accept_verification().await,
            Ask::ConfirmVerification => self.confirm_verification().await,
            Ask::DenyVerification => self.deny_verification().await,
            Ask::CancelVerification => self.cancel_verification().await,
            Ask::MyName { name } => self.my_name(&name).await,
            Ask::MyPicture { path } => self.my_picture(path.as_deref()).await,
            Ask::Key => self.key(),
            Ask::KeySaved => self.key_saved(),
            Ask::Recover { key } => self.recover(&key).await,
            Ask::SignOut => self.sign_out().await,
        }
    }

    fn tell(&self, news: News) {
        // Nobody listens any more when the program ends.
        self.news.send(news).ok();
    }

    fn room(&self, id: &str) -> Result<Room> {
        let id = RoomId::parse(id).map_err(|_| anyhow!("that is no room"))?;
        self.client.get_room(&id).context("the room is not known (any more)")
    }

    async fn open_room(&self) -> Option<Room> {
        self.open.lock().await.as_ref().map(|open| open.timeline.room().clone())
    }

    async fn the_room(&self) -> Result<Room> {
        self.open_room().await.context("open a room first")
    }

    fn has_extension(&self) -> bool {
        self.extension.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// A user id, or what is wrong with it.
pub fn user_id(text: &str) -> Result<OwnedUserId> {
    UserId::parse(text.trim())
        .map_err(|_| anyhow!("“{}” is no user id: these look like @alice:example.org", crate::text::line(text)))
}
