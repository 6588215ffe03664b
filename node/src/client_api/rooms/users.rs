//! `POST /user_directory/search`, `GET /mutual_rooms` (client-server specification, "User directory", MSC2666).

use std::{collections::BTreeMap, sync::Arc};

use kith_store::{
    Read, StoreError,
    tables::{
        directory::PUBLISHED_ROOMS,
        rooms::{MEMBERS, membership},
    },
};
use ruma::{
    OwnedRoomId, OwnedUserId, UInt,
    api::client::{
        membership::get_mutual_rooms::{unstable as unstable_mutual_rooms, v1 as mutual_rooms},
        user_directory::search_users::v3::{self as search_users, User},
    },
};
use serde_json::Value;

use crate::{
    Node,
    http::{Answer, MatrixError, Routes, Session},
    rooms::read,
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(search_users).add(mutual_rooms_stable).add(mutual_rooms_unstable)
}

/// Users given at once, at most.
const MOST_RESULTS: usize = 100;
/// Members looked at for one search, at most.
const MOST_VISITED: usize = 50_000;
/// Mutual rooms on a page.
const ROOMS_PAGE: usize = 100;

async fn search_users(
    node: Arc<Node>,
    session: Session,
    request: search_users::Request,
) -> Answer<search_users::Response> {
    let term = request.search_term.trim().to_lowercase();
    let limit = usize::try_from(u64::from(request.limit)).unwrap_or(MOST_RESULTS).min(MOST_RESULTS);
    if term.is_empty() {
        return Ok(search_users::Response::new(Vec::new(), false));
    }
    let found = node.store.read(|read| find(read, session.user_id.as_str(), &term))?;
    let limited = found.len() > limit;
    Ok(search_users::Response::new(found.into_iter().take(limit).collect(), limited))
}

/// Users who fit, of the rooms the asker is in and the rooms that are published here: the best first.
fn find(read: &dyn Read, asker: &str, term: &str) -> Result<Vec<User>, StoreError> {
    let mut rooms = Vec::new();
    for (room, part) in read::rooms_of(read, asker)? {
        if part.membership == membership::JOIN {
            rooms.push(room);
        }
    }
    for row in PUBLISHED_ROOMS.range(read, ..)? {
        if let Some(room) = read::room_number(read, &row?.0)?
            && !rooms.contains(&room)
        {
            rooms.push(room);
        }
    }
    let mut left = MOST_VISITED;
    let mut found: BTreeMap<String, (u8, User)> = BTreeMap::new();
    for room in rooms {
        for row in MEMBERS.prefix(read, &(room, membership::JOIN))? {
            let ((_, _, user), number) = row?;
            if left == 0 {
                break;
            }
            left -= 1;
            if user == asker || found.contains_key(&user) {
                continue;
            }
            let Some(event) = read::event(read, number)? else { continue };
            let text = |field: &str| event.content().get(field).and_then(Value::as_str);
            let name = text("displayname");
            let Some(rank) = rank(&user, name, term) else { continue };
            let Ok(user_id) = OwnedUserId::try_from(user.as_str()) else { continue };
            let mut entry = User::new(user_id);
            entry.display_name = name.map(str::to_owned);
            entry.avatar_url = text("avatar_url").map(Into::into);
            found.insert(user, (rank, entry));
        }
    }
    let mut found: Vec<(u8, User)> = found.into_values().collect();
    found.sort_by(|one, other| (one.0, &one.1.user_id).cmp(&(other.0, &other.1.user_id)));
    Ok(found.into_iter().map(|(_, user)| user).collect())
}

/// How well a user fits a search term (in lower case): the less the better; none: not at all.
fn rank(user: &str, name: Option<&str>, term: &str) -> Option<u8> {
    let user = user.to_lowercase();
    let localpart = user.strip_prefix('@').and_then(|user| user.split_once(':')).map_or("", |(local, _)| local);
    let name = name.unwrap_or_default().to_lowercase();
    if name == term || localpart == term || user == term {
        Some(0)
    } else if name.starts_with(term) || localpart.starts_with(term) || user.starts_with(term) {
        Some(1)
    } else if name.split(|c: char| !c.is_alphanumeric()).any(|word| word.starts_with(term)) {
        Some(2)
    } else if term.split_whitespace().all(|part| name.contains(part) || user.contains(part)) {
        Some(3)
    } else {
        None
    }
}

/// Rooms that both are joined to, after the room ID `from`, and whether there are more; how many there are in all.
fn mutual(
    read: &dyn Read,
    asker: &OwnedUserId,
    other: &OwnedUserId,
    from: Option<&str>,
) -> Answer<(Vec<OwnedRoomId>, bool, usize)> {
    if asker == other {
        return Err(MatrixError::invalid_param("you share all your rooms with yourself"));
    }
    let mut rooms = Vec::new();
    for (number, part) in read::rooms_of(read, asker.as_str())? {
        if part.membership == membership::JOIN
            && read::is_joined(read, other.as_str(), number)?
            && let Some(room) = read::room(read, number)?
            && let Ok(room_id) = OwnedRoomId::try_from(room.room_id)
        {
            rooms.push(room_id);
        }
    }
    rooms.sort();
    let count = rooms.len();
    if let Some(from) = from {
        rooms.retain(|room| room.as_str() > from);
    }
    let more = rooms.len() > ROOMS_PAGE;
    rooms.truncate(ROOMS_PAGE);
    Ok((rooms, more, count))
}

async fn mutual_rooms_stable(
    node: Arc<Node>,
    session: Session,
    request: mutual_rooms::Request,
) -> Answer<mutual_rooms::Response> {
    node.store.read(|read| {
        let (rooms, more, count) = mutual(read, &session.user_id, &request.user_id, request.from.as_deref())?;
        let next = rooms.last().filter(|_| more).map(ToString::to_string);
        let mut response = mutual_rooms::Response::new(UInt::new_saturating(count as u64), rooms);
        response.next_batch = next;
        Ok(response)
    })
}

async fn mutual_rooms_unstable(
    node: Arc<Node>,
    session: Session,
    request: unstable_mutual_rooms::Request,
) -> Answer<unstable_mutual_rooms::Response> {
    node.store.read(|read| {
        let (rooms, more, _) = mutual(read, &session.user_id, &request.user_id, request.from.as_deref())?;
        let next = rooms.last().filter(|_| more).map(ToString::to_string);
        let mut response = unstable_mutual_rooms::Response::new(rooms);
        response.next_batch = next;
        Ok(response)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_rank_before_beginnings_and_these_before_parts() {
        let rank = |name, term| rank("@bob:example.org", Some(name), term);
        assert_eq!(rank("Robert", "bob"), Some(0));
        assert_eq!(rank("Robert", "rob"), Some(1));
        assert_eq!(rank("Old Robert", "rob"), Some(2));
        assert_eq!(rank("Robert the Old", "old rob"), Some(3));
        assert_eq!(rank("Robert", "alice"), None);
    }
}
