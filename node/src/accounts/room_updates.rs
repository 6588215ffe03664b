//! What a change of an account means for its rooms: a new name or picture goes into the member event of each, a
//! deactivated user leaves them. It runs behind the request that caused it; a row (`ROOM_UPDATES`) that is written with
//! the change keeps it from being lost, so it goes on after a restart.

use std::collections::BTreeSet;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use kith_store::tables::accounts::ROOM_UPDATES;
use kith_store::tables::rooms::membership;
use kith_store::{StoreError, Tx};
use ruma::{OwnedUserId, RoomId, UserId};
use serde_json::{Map, Value};

use super::profile::{self, AVATAR_URL, DISPLAYNAME};
use crate::Node;
use crate::client_api::rooms::membership as member_changes;
use crate::http::{Answer, MatrixError};
use crate::rooms::{Draft, read};

/// The type of member events.
const MEMBER: &str = "m.room.member";
/// How long a failure is left alone, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 60 * 60);

/// Notes, in the change that causes it, that a user's rooms have to learn of its profile, or (`leave`) that it is gone.
pub(super) fn note(tx: &mut Tx, user: &UserId, leave: bool) -> Result<(), StoreError> {
    let (changes, leaves) = ROOM_UPDATES.get(tx, &user.to_string())?.unwrap_or_default();
    ROOM_UPDATES.put(tx, &user.to_string(), &(changes + 1, leaves.max(u64::from(leave))))
}

/// Begins what was noted for a user, unless it is under way.
pub(super) fn begin(node: &Arc<Node>, user: &UserId) {
    if !enter(node, user) {
        return;
    }
    let (task, user) = (node.clone(), user.to_owned());
    node.spawner.spawn(
        "tell rooms of a profile",
        Box::pin(async move {
            loop {
                until_done(&task, &user).await;
                lock(&task).remove(&user);
                // What was noted since the last look found this one still there, and left it to it.
                let more = task.store.read(|read| ROOM_UPDATES.contains(read, &user.to_string()));
                if !matches!(more, Ok(true)) || !enter(&task, &user) {
                    break;
                }
            }
        }),
    );
}

fn lock(node: &Node) -> MutexGuard<'_, BTreeSet<OwnedUserId>> {
    node.accounts.updating_rooms.lock().unwrap_or_else(PoisonError::into_inner)
}

fn enter(node: &Node, user: &UserId) -> bool {
    lock(node).insert(user.to_owned())
}

/// Tries until all rooms know, with growing pauses: the server of an invite may be away, the disk may be full.
async fn until_done(node: &Arc<Node>, user: &UserId) {
    let mut pause = FIRST_PAUSE;
    while let Err(error) = run(node, user).await {
        tracing::warn!(%user, %error, ?pause, "not all rooms of the user could be told of its change; tried again");
        node.clock.sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Goes on, at start, with what was noted and not finished.
///
/// # Errors
/// As all reads.
pub fn resume(node: &Arc<Node>) -> Answer<()> {
    let users = node.store.read(|read| {
        ROOM_UPDATES.range(read, ..)?.map(|row| row.map(|(user, _)| user)).collect::<Result<Vec<_>, _>>()
    })?;
    for user in users {
        begin(node, &OwnedUserId::try_from(user).map_err(MatrixError::internal)?);
    }
    Ok(())
}

async fn run(node: &Arc<Node>, user: &UserId) -> Answer<()> {
    let Some(noted) = node.store.read(|read| ROOM_UPDATES.get(read, &user.to_string()))? else { return Ok(()) };
    let leave = noted.1 > 0;
    let rooms = node.store.read(|read| {
        let mut rooms = Vec::new();
        for (number, part) in read::rooms_of(read, user.as_str())? {
            if let Some(room) = read::room(read, number)? {
                rooms.push((room.room_id, part.membership));
            }
        }
        Ok::<_, StoreError>(rooms)
    })?;
    let mut failed = None;
    for (room_id, membership) in rooms {
        let done = match (membership, leave) {
            (membership::JOIN, false) => refresh(node, user, &room_id).await,
            (membership::JOIN | membership::INVITE | membership::KNOCK, true) => {
                self::leave(node, user, &room_id).await
            }
            _ => Ok(()),
        };
        match done {
            Ok(()) => {}
            // Left or banned meanwhile, or not allowed to: nothing to make up for.
            Err(error) if error.status.is_client_error() => {
                tracing::debug!(%user, %room_id, %error, "a room did not take a member event");
            }
            Err(error) => failed = Some(error),
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let key = user.to_string();
    node.store
        .write(move |tx| {
            // What was noted while this ran has its own run.
            if ROOM_UPDATES.get(tx, &key)? == Some(noted) {
                ROOM_UPDATES.delete(tx, &key)?;
            }
            Ok(())
        })
        .await
}

/// Sends the member event anew if it does not show the profile as it is now.
async fn refresh(node: &Arc<Node>, user: &UserId, room_id: &str) -> Answer<()> {
    let room_id = <&RoomId>::try_from(room_id).map_err(MatrixError::internal)?;
    let Some(room) = node.rooms.get(room_id)? else { return Ok(()) };
    let content = node.store.read(|snapshot| {
        let Some(event) = read::state_event(snapshot, room.number(), MEMBER, user.as_str())? else {
            return Ok::<_, StoreError>(None);
        };
        Ok(renewed(event.content(), profile::for_member_event(snapshot, user)?))
    })?;
    match content {
        Some(content) => room.send(Draft::state(user.to_owned(), MEMBER, user.as_str(), content)).await.map(drop),
        None => Ok(()),
    }
}

/// A joined user's member event with another profile; none when it has that already.
fn renewed(content: &Map<String, Value>, profile: Map<String, Value>) -> Option<Map<String, Value>> {
    if content.get("membership").and_then(Value::as_str) != Some("join")
        || [DISPLAYNAME, AVATAR_URL].iter().all(|field| content.get(*field) == profile.get(*field))
    {
        return None;
    }
    let mut content = content.clone();
    // These belong to the join itself: the first would need the signature of another server again.
    for field in ["join_authorised_via_users_server", "reason", DISPLAYNAME, AVATAR_URL] {
        content.remove(field);
    }
    content.extend(profile);
    Some(content)
}

async fn leave(node: &Arc<Node>, user: &UserId, room_id: &str) -> Answer<()> {
    let room_id = <&RoomId>::try_from(room_id).map_err(MatrixError::internal)?;
    member_changes::leave(node, user, room_id, None).await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(object) => object,
            _ => panic!("an object"),
        }
    }

    #[test]
    fn a_member_event_takes_the_new_profile_and_drops_what_belonged_to_the_join() {
        let content = object(json!({
            "membership": "join", "displayname": "A", "avatar_url": "mxc://x/y", "org.example": 1,
            "reason": "hello", "join_authorised_via_users_server": "@b:y",
        }));
        let renewed_content = renewed(&content, object(json!({ "displayname": "B" })));
        assert_eq!(
            renewed_content,
            Some(object(json!({ "membership": "join", "displayname": "B", "org.example": 1 })))
        );
        assert_eq!(renewed(&content, object(json!({ "displayname": "A", "avatar_url": "mxc://x/y" }))), None);
    }
}
