//! The list of rooms, and coming and going.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, anyhow};
use matrix_sdk::{
    Client, Room, RoomDisplayName, RoomMemberships, RoomState,
    room::RoomMemberRole,
    ruma::{
        OwnedUserId, RoomId, RoomOrAliasId, ServerName,
        api::client::room::create_room,
        events::{
            EmptyStateKey, InitialStateEvent, room::encryption::RoomEncryptionEventContent,
            room::member::MembershipState,
        },
    },
};

use super::{Worker, user_id};
use crate::{
    model::{self, Member, Standing},
    protocol::News,
    text,
};

/// Members that are listed by name.
const MOST_MEMBERS: usize = 500;

impl Worker {
    /// Draws the list anew whenever something changed, at most a few times a second.
    pub(super) async fn keep_rooms(self: Arc<Self>) {
        let mut updates = self.client.room_info_notable_update_receiver();
        loop {
            tokio::select! {
                () = self.rooms_changed.notified() => {}
                update = updates.recv() => {
                    if matches!(update, Err(tokio::sync::broadcast::error::RecvError::Closed)) {
                        return;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            while updates.try_recv().is_ok() {}
            self.tell_rooms().await;
        }
    }

    pub(super) async fn tell_rooms(&self) {
        self.tell(News::Rooms(list(&self.client).await));
    }

    pub(super) async fn accept(&self, room: &str) -> Result<()> {
        let room = self.room(room)?;
        join_invited(&room).await?;
        self.rooms_changed.notify_one();
        self.tell(News::Show { room: room.room_id().to_string() });
        Ok(())
    }

    pub(super) async fn leave(&self, room: &str) -> Result<()> {
        let room = self.room(room)?;
        room.leave().await?;
        room.forget().await.ok();
        self.rooms_changed.notify_one();
        self.tell(News::Note("left".to_owned()));
        Ok(())
    }

    pub(super) async fn join(&self, wanted: &str) -> Result<()> {
        let room = join(&self.client, wanted).await?;
        self.rooms_changed.notify_one();
        self.tell(News::Show { room: room.room_id().to_string() });
        Ok(())
    }

    /// The conversation with somebody, made where there is none.
    pub(super) async fn chat(&self, user: &str) -> Result<()> {
        let room = conversation(&self.client, user).await?;
        self.tell_rooms().await;
        self.tell(News::Show { room: room.room_id().to_string() });
        Ok(())
    }

    pub(super) async fn create(&self, name: &str) -> Result<()> {
        let mut request = create_room::v3::Request::new();
        request.name = Some(name.to_owned());
        request.preset = Some(create_room::v3::RoomPreset::PrivateChat);
        let encryption = RoomEncryptionEventContent::with_recommended_defaults();
        request.initial_state = vec![InitialStateEvent::new(EmptyStateKey, encryption).to_raw_any()];
        let room = self.client.create_room(request).await?;
        self.tell_rooms().await;
        self.tell(News::Show { room: room.room_id().to_string() });
        self.tell(News::Note("made; /invite @user brings others in".to_owned()));
        Ok(())
    }

    pub(super) async fn invite(&self, user: &str) -> Result<()> {
        let user = user_id(user)?;
        self.the_room().await?.invite_user_by_id(&user).await?;
        self.tell(News::Note(format!("{} is invited", text::line(user.as_str()))));
        Ok(())
    }

    pub(super) async fn kick(&self, user: &str) -> Result<()> {
        let user = user_id(user)?;
        self.the_room().await?.kick_user(&user, None).await?;
        self.tell(News::Note(format!("{} is removed", text::line(user.as_str()))));
        Ok(())
    }

    pub(super) async fn members(&self) -> Result<()> {
        let room = self.the_room().await?;
        let mut all = room.members(RoomMemberships::ACTIVE).await?;
        let total = all.len() as u64;
        all.sort_by(|one, other| {
            let power = |member: &matrix_sdk::room::RoomMember| std::cmp::Reverse(member.power_level());
            power(one).cmp(&power(other)).then_with(|| one.name().cmp(other.name()))
        });
        let members = all.iter().take(MOST_MEMBERS).map(|member| Member {
            user: text::line(member.user_id().as_str()),
            name: text::line(member.name()),
            role: match member.suggested_role_for_power_level() {
                RoomMemberRole::Creator => "owner",
                RoomMemberRole::Administrator => "admin",
                RoomMemberRole::Moderator => "moderator",
                RoomMemberRole::User => "",
            },
            invited: *member.membership() == MembershipState::Invite,
        });
        self.tell(News::Members { room: room.room_id().to_string(), members: members.collect(), total });
        Ok(())
    }
}

/// Joins where one is invited, and keeps in mind that it is a conversation of two if it was meant so.
async fn join_invited(room: &Room) -> Result<()> {
    room.join().await.map_err(crate::connect::judge)
}

/// Joins by id or alias, or by the name of an invitation.
pub async fn join(client: &Client, wanted: &str) -> Result<Room> {
    if wanted.starts_with('@') {
        return conversation(client, wanted).await;
    }
    if let Ok(room) = crate::scripts::find_room(client, wanted).await {
        join_invited(&room).await?;
        return Ok(room);
    }
    let id = RoomOrAliasId::parse(wanted).map_err(|_| {
        anyhow!(crate::failure::Failure::NoSuchRoom(format!(
            "“{}” is no room: these look like #room:example.org",
            text::line(wanted)
        )))
    })?;
    // Of the old ids, which name a server, that server can be asked.
    let via: Vec<_> =
        wanted.split_once(':').and_then(|(_, server)| ServerName::parse(server).ok()).into_iter().collect();
    client.join_room_by_id_or_alias(&id, &via).await.map_err(crate::connect::judge)
}

/// The room of two with somebody; an invitation of theirs is accepted instead of making another.
pub async fn conversation(client: &Client, user: &str) -> Result<Room> {
    let user = user_id(user)?;
    if let Some(room) = client.get_dm_room(&user) {
        return Ok(room);
    }
    for room in client.invited_rooms() {
        let from = inviter(&room).await.map(|(_, user)| user);
        if from.as_ref() == Some(&user) && room.is_direct().await.unwrap_or(false) {
            join_invited(&room).await?;
            return Ok(room);
        }
    }
    client.create_dm(&user).await.map_err(crate::connect::judge)
}

/// All rooms but spaces, as lines of the list.
pub async fn list(client: &Client) -> Vec<model::Room> {
    let mut rooms = Vec::new();
    for room in client.joined_rooms().into_iter().chain(client.invited_rooms()) {
        if !room.is_space() {
            if room.state() == RoomState::Joined {
                client.latest_events().await.listen_to_room(room.room_id()).await.ok();
            }
            rooms.push(line(&room).await);
        }
    }
    rooms
}

/// A room as a line of the list.
pub async fn line(room: &Room) -> model::Room {
    let invited = room.state() == RoomState::Invited;
    let inviter = inviter(room).await;
    let counts = room.unread_notification_counts();
    let direct = room.direct_targets().into_iter().next().map(|user| user.to_string());
    model::Room {
        id: room.room_id().to_string(),
        name: name(room).await,
        topic: text::line(&room.topic().unwrap_or_default()),
        standing: if invited { Standing::Invited } else { Standing::Joined },
        direct: direct.map(|user| text::line(&user)),
        encrypted: room.encryption_state().is_encrypted(),
        members: room.active_members_count(),
        unread: counts.notification_count.max(room.num_unread_notifications()),
        mentions: counts.highlight_count.max(room.num_unread_mentions()),
        last_ms: room.latest_event_timestamp().map_or(0, |at| at.get().into()),
        inviter: inviter.map(|(name, user)| {
            let (name, user) = (text::line(&name), text::line(user.as_str()));
            if name == user { user } else { format!("{name} ({user})") }
        }),
        replaced_by: room.successor_room().map(|successor| successor.room_id.to_string()),
    }
}

/// What a room is called: by its name, its people, who invites to it; safe to show.
pub async fn name(room: &Room) -> String {
    let known = match room.cached_display_name() {
        Some(name) => Some(name),
        None => room.display_name().await.ok(),
    };
    let name = match known {
        Some(RoomDisplayName::Empty) | None => {
            inviter(room).await.map_or_else(|| "nobody else here".to_owned(), |(name, _)| name)
        }
        Some(RoomDisplayName::EmptyWas(name)) => format!("{name} (gone)"),
        Some(name) => name.to_string(),
    };
    Some(text::line(&name)).filter(|name| !name.is_empty()).unwrap_or_else(|| room.room_id().to_string())
}

/// Who invites to a room: their name, as far as the invitation tells it, and who that is.
async fn inviter(room: &Room) -> Option<(String, OwnedUserId)> {
    if room.state() != RoomState::Invited {
        return None;
    }
    let invite = room.invite_details().await.ok()?;
    let name = invite.inviter.map_or_else(|| invite.inviter_id.to_string(), |inviter| inviter.name().to_owned());
    Some((name, invite.inviter_id))
}

/// A room by its id, where it is one.
pub fn by_id(client: &Client, wanted: &str) -> Option<Room> {
    client.get_room(&RoomId::parse(wanted).ok()?)
}
