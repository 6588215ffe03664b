//! `GET /rooms/{roomId}/members`, `GET /rooms/{roomId}/joined_members` (client-server specification, "Getting events for
//! a room").

use std::{collections::BTreeMap, sync::Arc};

use kith_store::{
    Read,
    tables::rooms::{MEMBERS, STREAM, membership},
};
use ruma::{
    OwnedUserId,
    api::{
        Direction,
        client::membership::{
            get_member_events::v3 as get_member_events,
            joined_members::v3::{self as joined_members, RoomMember},
        },
    },
    events::room::member::MembershipState,
};
use serde_json::Value;

use super::{LONGEST_PAGE, entered, joined, viewer};
use crate::{
    Node,
    http::{Answer, MatrixError, Routes, Session},
    rooms::{
        client_event::{Form, Showing},
        read::{self, StoredEvent},
        timeline::{self, Edge, Place},
        visibility::{Eyes, HistoryVisibility},
    },
    sync::{self, token::Token},
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(get_member_events).add(joined_members)
}

async fn get_member_events(
    node: Arc<Node>,
    session: Session,
    request: get_member_events::Request,
) -> Answer<get_member_events::Response> {
    let viewer = viewer(&node, &session);
    node.federation.whole(&request.room_id).await?;
    node.store.read(|read| {
        let (room, eyes) = entered(read, &request.room_id, &viewer.user_id)?;
        let shown = state_for(read, room, &eyes)?;
        let members = match &request.at {
            Some(token) => members_at(read, state_by(read, room, &eyes, token)?)?,
            None => shown.members(read)?,
        };
        let wanted = |event: &StoredEvent| {
            let now = event.content().get("membership").and_then(Value::as_str).unwrap_or("leave");
            let is = |state: &MembershipState| state.as_str() == now;
            // Either is enough, where both are asked for.
            match (&request.membership, &request.not_membership) {
                (None, None) => true,
                (wanted, unwanted) => {
                    wanted.as_ref().is_some_and(is) || unwanted.as_ref().is_some_and(|state| !is(state))
                }
            }
        };
        let members: Vec<_> = members.into_iter().filter(wanted).collect();
        let showing =
            Showing::new(read, &eyes, &viewer, Form { room_id: Some(request.room_id.as_str()), relations: false });
        Ok(get_member_events::Response::new(showing.raws(&members)?))
    })
}

/// The number of the state that was the room's at a token, as far as the reader may know it; 0 if nothing.
fn state_by(read: &dyn Read, room: u64, eyes: &Eyes<'_>, token: &str) -> Answer<u64> {
    // Sync's tokens say when, in the order of the node. What had come by then may lie on several branches of the room.
    if token.starts_with('s') {
        let position = Token::parse(token)?.position;
        if eyes.joined() && eyes.part().is_some_and(|part| part.joined_at <= position) {
            return Ok(sync::state::number_at(read, room, position)?);
        }
        for row in STREAM.prefix_until(read, &room, &(room, position))?.rev().take(LONGEST_PAGE) {
            let ((_, position), number) = row?;
            if let Some(event) = read::event(read, number)?
                && eyes.sees(&event)?
            {
                // What came after it the reader does not know.
                return Ok(sync::state::number_at(read, room, position)?);
            }
        }
        return Ok(0);
    }
    let place = Place::parse(read, room, token, Edge::Upper)?;
    let page = timeline::page(read, room, Direction::Backward, place, None, 1, |event| eyes.sees(event))?;
    Ok(page.events.first().map_or(0, |event| event.row.state_after))
}

/// The state that a user is shown as the room's: the present one to members (and anybody, where anybody may read), else
/// the one at which the user left.
pub(super) enum Shown {
    /// The current state of the room with this number.
    Current(u64),
    /// This state number.
    Past(u64),
}

impl Shown {
    /// Its event for a type and state key.
    pub(super) fn event(
        &self,
        read: &dyn Read,
        kind: &str,
        key: &str,
    ) -> Result<Option<StoredEvent>, kith_store::StoreError> {
        match *self {
            Self::Current(room) => read::state_event(read, room, kind, key),
            Self::Past(state) => read::state_event_at(read, state, kind, key),
        }
    }

    /// All its events.
    pub(super) fn events(&self, read: &dyn Read) -> Result<Vec<StoredEvent>, kith_store::StoreError> {
        match *self {
            Self::Current(room) => read::current_state(read, room),
            Self::Past(state) => read::state_at(read, state),
        }
    }

    fn members(&self, read: &dyn Read) -> Result<Vec<StoredEvent>, kith_store::StoreError> {
        match *self {
            Self::Current(room) => {
                let mut members = Vec::new();
                for row in MEMBERS.prefix(read, &room)? {
                    let (_, number) = row?;
                    members.extend(read::event(read, number)?);
                }
                Ok(members)
            }
            Self::Past(state) => members_at(read, state),
        }
    }
}

/// Which state `eyes` are shown.
///
/// # Errors
/// `M_FORBIDDEN` for those who never were in the room, unless anybody may read it. As all reads.
pub(super) fn state_for(read: &dyn Read, room: u64, eyes: &Eyes<'_>) -> Answer<Shown> {
    if eyes.joined() || HistoryVisibility::current(read, room)? == HistoryVisibility::WorldReadable {
        return Ok(Shown::Current(room));
    }
    let end = eyes.end_of_stay()?.ok_or_else(|| MatrixError::forbidden("you were never in this room"))?;
    Ok(Shown::Past(end.row.state_after))
}

fn members_at(read: &dyn Read, state: u64) -> Result<Vec<StoredEvent>, kith_store::StoreError> {
    let mut members = Vec::new();
    for ((kind, _), number) in crate::rooms::states::whole(read, state)? {
        if kind == "m.room.member" {
            members.extend(read::event(read, number)?);
        }
    }
    Ok(members)
}

async fn joined_members(
    node: Arc<Node>,
    session: Session,
    request: joined_members::Request,
) -> Answer<joined_members::Response> {
    node.federation.whole(&request.room_id).await?;
    node.store.read(|read| {
        let room = joined(read, &request.room_id, session.user_id.as_str())?;
        let mut members = BTreeMap::new();
        for row in MEMBERS.prefix(read, &(room, membership::JOIN))? {
            let ((_, _, user), number) = row?;
            let (Ok(user), Some(event)) = (OwnedUserId::try_from(user), read::event(read, number)?) else { continue };
            let text = |field: &str| event.content().get(field).and_then(Value::as_str).map(str::to_owned);
            let mut member = RoomMember::new();
            member.display_name = text("displayname");
            member.avatar_url = text("avatar_url").map(Into::into);
            members.insert(user, member);
        }
        Ok::<_, MatrixError>(joined_members::Response::new(members))
    })
}
