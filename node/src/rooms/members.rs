//! What follows from a change of a room's current state for who is in it: the tables of members, servers and our users' rooms.

use kith_mutants::mutant;
use kith_room::Event;
use kith_store::{
    Json, StoreError, Touched, Tx,
    tables::rooms::{LOCAL_MEMBERS, MEMBERS, OUTGOING, ROOM_SERVERS, USER_ROOMS, UserRoomRow, membership},
};

use super::change::{Us, server_of};
use crate::{contacts::ROOM_SERVERS_CHANGED, e2ee};

/// What the current state has in one place from now on.
#[derive(Debug, Clone)]
pub(super) struct StateChange {
    /// Type and state key.
    pub(super) key: (String, String),
    /// The event's number, or none.
    pub(super) event: Option<u64>,
    /// What the event says of a member, if it is about one.
    pub(super) member: Option<Member>,
}

/// What a member event says.
#[derive(Debug, Clone)]
pub(super) struct Member {
    /// A number of [`membership`].
    membership: u8,
    /// Who says it.
    sender: String,
}

impl Member {
    /// None for events of other types.
    pub(super) fn of(event: &Event) -> Option<Self> {
        if event.kind() != "m.room.member" {
            return None;
        }
        let membership = event.membership().and_then(|membership| membership::number(membership.as_str()));
        Some(Self { membership: membership.unwrap_or(membership::LEAVE), sender: event.sender().to_string() })
    }
}

/// The room while memberships change in it: what is the same for all of them is looked up once.
pub(super) struct Memberships<'a> {
    pub(super) us: &'a Us,
    pub(super) room: u64,
    /// Whether this node was in the room before.
    pub(super) joined: bool,
    /// Whether its messages are encrypted, once that was asked.
    pub(super) encrypted: Option<bool>,
    /// The stream position of the change; 0 for none.
    pub(super) position: u64,
}

impl Memberships<'_> {
    /// A member's part in the room is what `place` says from now on.
    pub(super) fn change(&mut self, tx: &mut Tx, place: &StateChange) -> Result<(), StoreError> {
        let (room, position, user, event) = (self.room, self.position, &place.key.1, place.event);
        let old = USER_ROOMS.get(tx, &(user.to_owned(), room))?.map(|row| row.0);
        let now = place.member.as_ref().map_or(membership::LEAVE, |member| member.membership);
        if let Some(old) = &old {
            MEMBERS.delete(tx, &(room, old.membership, user.to_owned()))?;
        }
        MEMBERS.put(tx, &(room, now, user.to_owned()), &event.unwrap_or_default())?;
        // Only rows that counted as joined in MEMBERS count in ROOM_SERVERS: an invite known from outside did not.
        let was_joined = old.as_ref().is_some_and(|old| old.membership == membership::JOIN);
        let is_joined = now == membership::JOIN;
        if was_joined != is_joined {
            self.count(tx, user, is_joined)?;
        }
        let joined_at = match (&old, was_joined, is_joined) {
            (Some(old), true, _) | (Some(old), false, false) => old.joined_at,
            (_, _, true) => position,
            (None, ..) => 0,
        };
        let row = UserRoomRow {
            membership: now,
            event: event.unwrap_or_default(),
            position,
            joined_at,
            sender: place.member.as_ref().map(|member| member.sender.clone()).unwrap_or_default(),
            stripped: Vec::new(),
            pdu: None,
            forgotten: old.as_ref().is_some_and(|old| old.forgotten && old.membership == now),
        };
        USER_ROOMS.put(tx, &(user.to_owned(), room), &Json(row))?;
        if self.us.hosts(user) {
            match is_joined {
                true => LOCAL_MEMBERS.put(tx, &(room, user.to_owned()), &())?,
                false => drop(LOCAL_MEMBERS.delete(tx, &(room, user.to_owned()))?),
            }
            tx.touch(Touched::User(user.to_owned()));
        } else if was_joined && !is_joined {
            e2ee::remote::member_left(tx, user)?;
        }
        Ok(())
    }

    /// Counts a user who comes or goes among those of their server.
    fn count(&mut self, tx: &mut Tx, user: &str, is_joined: bool) -> Result<(), StoreError> {
        let room = self.room;
        let server = (room, server_of(user).to_owned());
        let count = ROOM_SERVERS.get(tx, &server)?.unwrap_or_default();
        let comes_back = is_joined && count == 0;
        if comes_back {
            tx.touch(Touched::Other(ROOM_SERVERS_CHANGED));
        }
        let leaving = u64::from(!mutant!("keeps-departed-server"));
        match if is_joined { count + 1 } else { count.saturating_sub(leaving) } {
            0 => {
                ROOM_SERVERS.delete(tx, &server)?;
                tx.touch(Touched::Other(ROOM_SERVERS_CHANGED));
            }
            count => ROOM_SERVERS.put(tx, &server, &count)?,
        }
        // A server that comes back is not sent what was said while it was away.
        let queue = (server.1, room);
        if comes_back && OUTGOING.contains(tx, &queue)? {
            OUTGOING.put(tx, &queue, &(self.position, self.position))?;
        }
        // Who comes with the room when this node joins it is new to our user anyway.
        if self.joined {
            let position = if self.position == 0 { tx.next_position() } else { self.position };
            // `m.room.encryption` stands before `m.room.member` in a change.
            let encrypted = match self.encrypted {
                Some(encrypted) => encrypted,
                None => *self.encrypted.insert(e2ee::lists::is_encrypted(tx, room)?),
            };
            e2ee::lists::note_member(tx, room, user, is_joined, encrypted, position)?;
            if comes_back && !self.us.hosts(user) {
                e2ee::lists::note_server(tx, server_of(user), room)?;
            }
        }
        Ok(())
    }
}
