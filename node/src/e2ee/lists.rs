//! Whose device list changed for whom (client-server specification, "Tracking the device list for a user").
//!
//! A user's latest change has one row, found by position; a member's latest coming or going in an encrypted room has one
//! too. From these a sync tells which users' keys its client has to look at anew (`changed`) and whom it need not follow any
//! more (`left`).

use std::collections::BTreeSet;

use kith_store::{
    Read, StoreError, Touched, Tx,
    tables::{
        accounts::USERS,
        e2ee::{
            DEVICE_LIST_CHANGED_AT, DEVICE_LIST_CHANGES, DEVICE_STREAM_IDS, MEMBER_CHANGED_AT, MEMBER_CHANGES,
            NEWCOMERS, SIGNED_USERS, UNANNOUNCED,
        },
        rooms::{CURRENT_STATE, EVENTS, MEMBERS, USER_ROOMS, UserRoomRow, membership},
    },
};

use super::server_of;
use crate::{identity::epoch, rooms::read};

/// What [`Touched::Other`] says when a change waits to be queued for other servers.
pub const UNANNOUNCED_CHANGE: &str = "unannounced device change";
/// The device that stands for the cross-signing keys in `UNANNOUNCED`.
pub const CROSS_SIGNING: &str = "";

/// Up to this many accounts are looked through for members of a room; with more, the members are.
const FEW_ACCOUNTS: usize = 64;

/// Users for whom a client has to act.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Their devices or cross-signing keys changed, or they now share an encrypted room.
    pub changed: BTreeSet<String>,
    /// They share no encrypted room any more.
    pub left: BTreeSet<String>,
}

/// Notes that the device list or cross-signing keys of a user changed, and wakes the users of `server` (ours) who follow it.
/// Gives the position.
///
/// # Errors
/// As all writes.
pub fn note_change(tx: &mut Tx, server: &str, user: &str) -> Result<u64, StoreError> {
    let user = user.to_owned();
    if let Some(old) = DEVICE_LIST_CHANGED_AT.get(tx, &user)? {
        DEVICE_LIST_CHANGES.delete(tx, &old)?;
    }
    let position = tx.next_position();
    DEVICE_LIST_CHANGES.put(tx, &position, &user)?;
    DEVICE_LIST_CHANGED_AT.put(tx, &user, &position)?;
    let mut followers = BTreeSet::new();
    for (room, part) in read::rooms_of(tx, &user)? {
        if part.membership == membership::JOIN && is_encrypted(tx, room)? {
            followers.extend(our_members(tx, server, room)?);
        }
    }
    if server_of(&user) == server {
        followers.insert(user);
    }
    for follower in followers {
        tx.touch(Touched::User(follower));
    }
    Ok(position)
}

/// Notes that a device of ours (or, as [`CROSS_SIGNING`], the user's cross-signing keys) changed: our users learn it by
/// sync, other servers by an update.
///
/// # Errors
/// As all writes.
pub fn device_changed(tx: &mut Tx, user: &str, device: &str) -> Result<(), StoreError> {
    let position = note_change(tx, server_of(user), user)?;
    let id = stream_id(epoch(tx)?, position);
    UNANNOUNCED.put(tx, &(user.to_owned(), device.to_owned()), &id)?;
    tx.touch(Touched::Other(UNANNOUNCED_CHANGE));
    Ok(())
}

/// Notes that the first user of another server joined a room of ours: it is told what it may have missed before we knew.
/// Called in the change of the room.
///
/// # Errors
/// As all writes.
pub fn note_server(tx: &mut Tx, server: &str, room: u64) -> Result<(), StoreError> {
    NEWCOMERS.put(tx, &(server.to_owned(), room), &())?;
    tx.touch(Touched::Other(UNANNOUNCED_CHANGE));
    Ok(())
}

/// A stream ID as other servers compare it: after a restored backup it is higher than all before. It stays an exact
/// integer of JSON.
fn stream_id(epoch: u64, position: u64) -> u64 {
    (epoch & 0x1f_ffff) << 32 | (position & 0xffff_ffff)
}

/// The stream ID of the latest change of a user of ours; 0 when there was none.
///
/// # Errors
/// As all reads.
pub fn latest_stream_id(read: &dyn Read, user: &str) -> Result<u64, StoreError> {
    let mut latest = DEVICE_STREAM_IDS.get(read, &user.to_owned())?.unwrap_or_default();
    for row in UNANNOUNCED.prefix(read, &user.to_owned())? {
        latest = latest.max(row?.1);
    }
    Ok(latest)
}

/// Notes that one of our users signed another's key: nobody else sees that.
///
/// # Errors
/// As all writes.
pub fn note_signed(tx: &mut Tx, signer: &str, signed: &str) -> Result<(), StoreError> {
    let known: Option<(String, u64)> = SIGNED_USERS
        .prefix(tx, &signer.to_owned())?
        .find_map(|row| match row {
            Ok((key, user)) => (user == signed).then_some(Ok(key)),
            Err(error) => Some(Err(error)),
        })
        .transpose()?;
    if let Some(known) = known {
        SIGNED_USERS.delete(tx, &known)?;
    }
    let position = tx.next_position();
    SIGNED_USERS.put(tx, &(signer.to_owned(), position), &signed.to_owned())?;
    tx.touch(Touched::User(signer.to_owned()));
    Ok(())
}

/// Notes that a user joined or left a room that this node is in, and that is encrypted or not. Called in the change of the room,
/// when membership moves to or from `join`.
///
/// # Errors
/// As all writes.
pub fn note_member(
    tx: &mut Tx,
    room: u64,
    user: &str,
    joined: bool,
    encrypted: bool,
    position: u64,
) -> Result<(), StoreError> {
    let key = (room, user.to_owned());
    let old = MEMBER_CHANGED_AT.get(tx, &key)?;
    if let Some(old) = old {
        MEMBER_CHANGES.delete(tx, &(room, old, key.1.clone()))?;
    }
    if encrypted {
        MEMBER_CHANGES.put(tx, &(room, position, key.1.clone()), &joined)?;
        MEMBER_CHANGED_AT.put(tx, &key, &position)?;
    } else if old.is_some() {
        MEMBER_CHANGED_AT.delete(tx, &key)?;
    }
    Ok(())
}

/// Whether messages of the room are encrypted now.
///
/// # Errors
/// As all reads.
pub fn is_encrypted(read: &dyn Read, room: u64) -> Result<bool, StoreError> {
    CURRENT_STATE.contains(read, &(room, "m.room.encryption".to_owned(), String::new()))
}

/// The joined members of a room that have accounts on `server`, which is ours.
pub(crate) fn our_members(read: &dyn Read, server: &str, room: u64) -> Result<Vec<String>, StoreError> {
    let accounts: Vec<String> =
        USERS.range(read, ..)?.take(FEW_ACCOUNTS + 1).map(|row| row.map(|row| row.0)).collect::<Result<_, _>>()?;
    let candidates = if accounts.len() <= FEW_ACCOUNTS {
        accounts
    } else {
        MEMBERS
            .prefix(read, &(room, membership::JOIN))?
            .filter_map(|row| match row {
                Ok(((_, _, user), _)) => (server_of(&user) == server).then_some(Ok(user)),
                Err(error) => Some(Err(error)),
            })
            .collect::<Result<_, _>>()?
    };
    let mut members = Vec::new();
    for user in candidates {
        if read::is_joined(read, &user, room)? {
            members.push(user);
        }
    }
    Ok(members)
}

/// Whether two users share an encrypted room.
///
/// # Errors
/// As all reads.
pub fn share_an_encrypted_room(read: &dyn Read, one: &str, other: &str) -> Result<bool, StoreError> {
    // The other one may be remote, and then has fewer rooms that are known here.
    for row in USER_ROOMS.prefix(read, &other.to_owned())? {
        let ((_, room), part) = row?;
        if part.0.membership == membership::JOIN && read::is_joined(read, one, room)? && is_encrypted(read, room)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What changed for `user` after position `since`. `rooms` are the rooms of the user in which anything may have happened since
/// then (or simply all), those it left among them.
///
/// # Errors
/// As all reads.
pub fn device_list_changes(
    read: &dyn Read,
    user: &str,
    since: u64,
    rooms: &[(u64, UserRoomRow)],
) -> Result<Changes, StoreError> {
    let mut changed = BTreeSet::new();
    for row in DEVICE_LIST_CHANGES.range(read, since.saturating_add(1)..)? {
        let (_, other) = row?;
        if other == user || share_an_encrypted_room(read, user, &other)? {
            changed.insert(other);
        }
    }
    let from = (user.to_owned(), since.saturating_add(1));
    for row in SIGNED_USERS.prefix_from(read, &user.to_owned(), &from)? {
        changed.insert(row?.1);
    }
    let mut gone = BTreeSet::new();
    for (room, part) in rooms {
        let Some(encrypted_at) = encrypted_at(read, *room)? else { continue };
        let moved = part.position > since;
        match part.membership {
            // The user came, or encryption did: all members are new to it.
            membership::JOIN if part.joined_at > since || encrypted_at > since => {
                changed.extend(read::users_with(read, *room, membership::JOIN)?);
            }
            membership::JOIN => {}
            membership::LEAVE | membership::BAN if moved && part.joined_at != 0 => {
                gone.extend(read::users_with(read, *room, membership::JOIN)?);
            }
            _ => continue,
        }
        let from = (*room, since.saturating_add(1), String::new());
        for row in MEMBER_CHANGES.prefix_from(read, room, &from)? {
            let ((_, _, other), joined) = row?;
            if joined && part.membership == membership::JOIN {
                changed.insert(other);
            } else if !joined {
                gone.insert(other);
            }
        }
    }
    let mut left = BTreeSet::new();
    for other in gone {
        if other != user && !share_an_encrypted_room(read, user, &other)? {
            changed.remove(&other);
            left.insert(other);
        }
    }
    Ok(Changes { changed, left })
}

/// The position at which the room became encrypted (or its settings last changed); 0 when that is not known, none when it is
/// not encrypted.
fn encrypted_at(read: &dyn Read, room: u64) -> Result<Option<u64>, StoreError> {
    match CURRENT_STATE.get(read, &(room, "m.room.encryption".to_owned(), String::new()))? {
        Some(number) => Ok(Some(EVENTS.get(read, &number)?.map_or(0, |event| event.position))),
        None => Ok(None),
    }
}
