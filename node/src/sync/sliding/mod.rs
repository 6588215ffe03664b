//! `POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync`: simplified sliding sync (MSC4186), a window on the rooms of a
//! user in place of all of them.
//!
//! | module | what it does |
//! | --- | --- |
//! | `request` | what is asked for |
//! | `required` | which state is |
//! | `connection` | what a client was told, and what becomes of an answer that is lost |
//! | `rooms` | the rooms of a user by activity, and filters over them |
//! | `room` | what is new of one room |
//! | `extensions` | what goes along with rooms |
//!
//! It waits as [`super::sync`] does: at the user's bell, holding nothing. Of the rooms in its window it looks only at those that were
//! touched since the client was told of them; for the others it compares two numbers that are in memory.

mod connection;
mod extensions;
mod request;
mod required;
mod room;
mod rooms;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
};

use kith_store::{
    Read, Snapshot,
    tables::rooms::{CURRENT_STATE, membership},
};
use ruma::{OwnedRoomId, api::client::sync::sync_events::v5};
use serde::Serialize;

use self::{
    connection::{Connection, Connections, Known, Moment, State, Wanted},
    extensions::{InScope, Telling},
    request::{Filters, Request},
    room::Look,
    rooms::{AllRooms, Entry, Rooms},
};
use super::{LONGEST_WAIT, e2ee, notifications::Reader, settled};
use crate::{
    Node,
    accounts::invites::Permissions,
    client_api::untyped::{Untyped, Written},
    ephemeral::presence,
    http::{Answer, Session},
    platform::timeout,
    rooms::{client_event::Viewer, read},
};

/// How many rooms one answer tells that the client does not know yet. The next ones come with the next answer, at once.
const MOST_NEW_ROOMS: usize = 500;

/// What is kept in memory for sliding sync.
#[derive(Debug, Default)]
pub struct Sliding {
    connections: Connections,
    rooms: AllRooms,
}

/// The answer.
#[derive(Debug, Default, Serialize)]
struct Body {
    #[serde(skip_serializing_if = "Option::is_none")]
    txn_id: Option<String>,
    pos: String,
    lists: BTreeMap<String, Count>,
    rooms: BTreeMap<OwnedRoomId, room::Told>,
    extensions: extensions::Told,
}

#[derive(Debug, Serialize)]
struct Count {
    count: usize,
}

/// Answers a sliding sync.
pub(crate) async fn sync(node: Arc<Node>, session: Session, request: Untyped<v5::Request, Written>) -> Answer<Written> {
    let request = Request::read(request.body, &request.query, session.user_id.as_str())?;
    let key = (session.user_id.to_string(), session.device_id.to_string(), request.connection.clone());
    let now = node.clock.monotonic();
    let acknowledged = extensions::since_of(request.extensions.to_device.since.as_deref())?;
    let (connection, turn) = node.sliding.connections.ask(key, request.pos.as_deref(), &node.rng, now)?;
    let _here = presence::Here::new(&node, &session, request.set_presence.clone())?;
    if request.extensions.to_device.is_enabled() && (1..=node.activity.position()).contains(&acknowledged) {
        e2ee::acknowledge_up_to(&node, &session, acknowledged)?;
    }
    let deadline = now + request.timeout.min(LONGEST_WAIT);
    let mut bell = node.notifier.subscribe(session.user_id.as_str());
    loop {
        // Serials before the snapshot: what comes in between is told next time.
        let serial = node.ephemeral.serial();
        let left = deadline.saturating_sub(node.clock.monotonic());
        let at_once = request.pos.is_none() || left.is_zero() || *node.stopping().borrow();
        let answer = {
            let (snapshot, upto) = settled(&node).await?;
            let asked = Asked { node: &node, session: &session, request: &request, connection: &connection, turn };
            asked.answer(&snapshot, (upto, serial), at_once)?
        };
        if let Some(answer) = answer {
            return Written::of(&answer);
        }
        // Waiting holds nothing but a place at the bell.
        let _ = timeout(&*node.clock, left, bell.changed_or(node.stopping())).await;
    }
}

/// A request with its connection.
struct Asked<'a> {
    node: &'a Arc<Node>,
    session: &'a Session,
    request: &'a Request,
    connection: &'a Connection,
    turn: u64,
}

impl Asked<'_> {
    /// The answer, if there is something to tell or it has to be given `at_once`.
    fn answer(&self, read: &Snapshot, (upto, serial): (u64, u64), at_once: bool) -> Answer<Option<Body>> {
        let mut state = self.connection.lock();
        if state.turn != self.turn {
            // The client has asked again, and does not look at this answer. It could go on from where it is.
            let pos = self.request.pos.clone().unwrap_or_default();
            return Ok(Some(Body { txn_id: self.request.txn_id.clone(), pos, ..Body::default() }));
        }
        let rooms = self.node.sliding.rooms.of(self.session.user_id.as_str(), self.node.clock.monotonic());
        let mut rooms = rooms.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.refresh(read, &self.node.activity, upto)?;
        let reader = Reader::new(&self.node.unread, read, &self.session.user_id)?;
        let mut body = Body { txn_id: self.request.txn_id.clone(), ..Body::default() };
        let scope = self.scope(read, &rooms, &reader, &mut state, &mut body)?;
        let mut next = Moment { position: upto, ..state.reached.clone() };
        let mut changed: BTreeMap<u64, Known> = BTreeMap::new();
        let viewer = Viewer {
            user_id: self.session.user_id.to_string(),
            device_id: Some(self.session.device_id.to_string()),
            now: self.node.clock.now_ms(),
        };
        let reached = state.reached.position;
        let look = Look { node: self.node, read, viewer: &viewer, reader: &reader, upto, reached };
        let telling =
            Telling { node: self.node, read, session: self.session, wanted: &self.request.extensions, upto, serial };
        telling.at_large(&state.reached, &mut next, &mut body.extensions)?;
        let mut new = 0;
        for (room, wanted) in scope.rooms.iter().zip(&scope.wanted) {
            let before = state.rooms.get(&room.number);
            if before.is_none() {
                new += 1;
                if new > MOST_NEW_ROOMS {
                    continue;
                }
            }
            let is_same =
                before.is_some_and(|known| room.entry.touched <= known.position && Arc::ptr_eq(&known.wanted, wanted));
            let (mut known, events) = match before {
                Some(known) if is_same && !telling.may_tell(room, known) => continue,
                Some(known) if is_same => (known.clone(), None),
                _ => {
                    let Some(found) = look.at(room.number, room.entry, before, wanted)? else { continue };
                    if let Some(mut told) = found.told {
                        told.lists = room.lists.iter().map(ToString::to_string).collect();
                        body.rooms.insert(room.entry.room_id.clone(), told);
                    }
                    (found.known, Some(found.events.into_iter().collect::<BTreeSet<_>>()))
                }
            };
            telling.of_room(room, &mut known, events.as_ref(), &mut body.extensions)?;
            changed.insert(room.number, known);
        }
        telling.typing(&scope.rooms, &state.reached, &mut next, &mut body.extensions);
        next.counts = body.lists.iter().map(|(name, list)| (name.clone(), list.count)).collect();
        let is_news = !body.rooms.is_empty() || body.extensions.is_news() || next.counts != state.reached.counts;
        if !is_news && !at_once {
            return Ok(None);
        }
        body.pos = self.connection.token(upto);
        next.pos = body.pos.clone();
        self.connection.note_rooms(state.rooms.len() + changed.len());
        state.lead_to(next, changed);
        Ok(Some(body))
    }

    /// The rooms that lists and subscriptions want; fills in how many rooms the lists have.
    fn scope<'a>(
        &'a self,
        read: &Snapshot,
        rooms: &'a Rooms,
        reader: &Reader<'_>,
        state: &mut State,
        body: &mut Body,
    ) -> Answer<Scope<'a>> {
        let invites = Permissions::of(read, &self.session.user_id)?;
        let user = self.session.user_id.as_str();
        let mut hidden: BTreeSet<&str> = BTreeSet::new();
        for entry in rooms.entries.values().filter(|entry| entry.part.membership == membership::INVITE) {
            let sender = entry.part.sender.as_str();
            if !invites.shows(sender) || reader.ignores(sender)? {
                hidden.insert(sender);
            }
        }
        let known = &state.rooms;
        let is_shown = |number: u64, entry: &Entry| match entry.part.membership {
            membership::INVITE => !hidden.contains(entry.part.sender.as_str()),
            // Who left knows it. Who was made to leave may not.
            membership::LEAVE | membership::BAN => {
                known.contains_key(&number) || entry.part.joined_at != 0 && entry.part.sender != user
            }
            _ => true,
        };
        let mut found: BTreeMap<u64, (&Entry, Vec<&str>, bool)> = BTreeMap::new();
        let mut order = Vec::new();
        for (name, list) in &self.request.lists {
            let spaces = spaces(read, &list.filters, user)?;
            let mut count = 0;
            for (number, entry) in rooms.filtered(&list.filters, spaces.as_ref()) {
                if !is_shown(number, entry) {
                    continue;
                }
                let place = count as u64;
                count += 1;
                let in_range =
                    |ranges: &Vec<(u64, u64)>| ranges.iter().any(|(first, last)| (*first..=*last).contains(&place));
                if list.ranges.as_ref().is_none_or(in_range) {
                    let (_, lists, _) = found.entry(number).or_insert_with(|| {
                        order.push(number);
                        (entry, Vec::new(), false)
                    });
                    lists.push(name);
                }
            }
            body.lists.insert(name.clone(), Count { count });
        }
        for room_id in self.request.subscriptions.keys() {
            let Some(number) = read::room_number(read, room_id.as_str())? else { continue };
            let Some(entry) = rooms.entries.get(&number) else { continue };
            let may_be =
                matches!(entry.part.membership, membership::LEAVE | membership::BAN) && entry.part.joined_at != 0;
            if !is_shown(number, entry) && !may_be {
                continue;
            }
            found
                .entry(number)
                .or_insert_with(|| {
                    order.push(number);
                    (entry, Vec::new(), false)
                })
                .2 = true;
        }
        let mut scope = Scope { rooms: Vec::with_capacity(order.len()), wanted: Vec::with_capacity(order.len()) };
        // Most rooms are in the same lists.
        let mut combined: BTreeMap<(Vec<&str>, Option<&str>), Arc<Wanted>> = BTreeMap::new();
        for number in order {
            let Some((entry, lists, subscribed)) = found.remove(&number) else { continue };
            let subscription = subscribed.then_some(entry.room_id.as_str());
            let wanted = match combined.get(&(lists.clone(), subscription)) {
                Some(wanted) => wanted.clone(),
                None => {
                    let wanted = state.share(self.combine(&lists, subscribed.then_some(&entry.room_id)));
                    combined.insert((lists.clone(), subscription), wanted.clone());
                    wanted
                }
            };
            scope.rooms.push(InScope { number, entry, lists, subscribed });
            scope.wanted.push(wanted);
        }
        Ok(scope)
    }

    /// What lists and a subscription want together (MSC4186, "Combining room configs").
    fn combine(&self, lists: &[&str], subscription: Option<&OwnedRoomId>) -> Wanted {
        let lists = lists.iter().filter_map(|name| self.request.lists.get(*name)).map(|list| &list.config);
        let subscription = subscription.and_then(|room| self.request.subscriptions.get(room));
        let mut wanted = Wanted::default();
        for config in lists.chain(subscription) {
            wanted.timeline_limit = wanted.timeline_limit.max(config.timeline_limit);
            if !wanted.required.contains(&config.required) {
                wanted.required.push(config.required.clone());
            }
        }
        wanted
    }
}

/// The rooms that are wanted, and what of each.
struct Scope<'a> {
    rooms: Vec<InScope<'a>>,
    wanted: Vec<Arc<Wanted>>,
}

/// The rooms that are in one of the spaces that a filter names, as far as the user is in these.
fn spaces(read: &dyn Read, filters: &Filters, user: &str) -> Answer<Option<BTreeSet<String>>> {
    let Some(spaces) = &filters.spaces else { return Ok(None) };
    let mut rooms = BTreeSet::new();
    for space in spaces {
        let Some(number) = read::room_number(read, space)? else { continue };
        if !read::is_joined(read, user, number)? {
            continue;
        }
        for row in CURRENT_STATE.prefix(read, &(number, "m.space.child".to_owned()))? {
            let ((_, _, child), event) = row?;
            // A child without servers to find it by is none (specification, "Managing rooms within a space").
            let is_child = read::event(read, event)?.is_some_and(|event| event.content().get("via").is_some());
            if is_child {
                rooms.insert(child);
            }
        }
    }
    Ok(Some(rooms))
}
