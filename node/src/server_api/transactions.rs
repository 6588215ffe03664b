//! `PUT /_matrix/federation/v1/send/{txnId}`: events and EDUs of another server. Server-server specification, "Transactions".
//!
//! Answers when each event is committed, parked (until what it builds on is fetched) or refused; it never waits for a fetch. The
//! same transaction sent twice gets the first answer. A transaction fails as a whole only when this node cannot store
//! anything: then the other server keeps it and tries again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kith_mutants::mutant;
use kith_room::{Event, graph::sort_by_prev_events, receive::event_id_of};
use kith_store::{
    Read,
    tables::rooms::{ROOM_SERVERS, ROOMS, membership},
};
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, RoomId, ServerName, UserId,
    api::federation::transactions::{edu::Edu, send_transaction_message::v1 as send},
    serde::Raw,
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::edus;
use crate::{
    Node,
    federation::{
        ends,
        outgoing::{MOST_EDUS, MOST_PDUS},
        pdus,
        pending::{self, Outside},
        rules,
        stats::Refusal,
    },
    http::{Answer, MatrixError, Routes, endpoint::Origin},
    rooms::{Received, Room, parking},
};

/// Events of one server that may wait in one room: of a server in the room, and of another.
const PARKED_OF_MEMBER: usize = 250;
const PARKED_OF_STRANGER: usize = 20;

/// The routes of this file.
pub fn routes(routes: Routes) -> Routes {
    routes.add(receive)
}

type Results = BTreeMap<OwnedEventId, Result<(), String>>;

async fn receive(node: Arc<Node>, origin: Origin, request: send::Request) -> Answer<send::Response> {
    let stats = &node.federation.stats;
    if request.origin != origin.server && !mutant!("takes-foreign-transactions") {
        stats.transactions_refused.add();
        return Err(MatrixError::forbidden("the transaction is of another server than the one that signed it"));
    }
    if request.pdus.len() > MOST_PDUS || request.edus.len() > MOST_EDUS {
        stats.transactions_refused.add();
        return Err(MatrixError::invalid_param(format!(
            "a transaction holds at most {MOST_PDUS} PDUs and {MOST_EDUS} EDUs"
        )));
    }
    let id = request.transaction_id.to_string();
    let server = origin.server.clone();
    let answer = node.federation.answers.transaction(stats, &server, &id, work(&node, &server, request)).await?;
    let results = serde_json::from_value((*answer).clone()).map_err(MatrixError::internal)?;
    Ok(send::Response::new(results))
}

async fn work(node: &Arc<Node>, origin: &ServerName, request: send::Request) -> Answer<Value> {
    node.federation.stats.transactions_in.add();
    let results = take_pdus(node, origin, request.pdus).await?;
    for edu in request.edus {
        take_edu(node, origin, &edu).await?;
    }
    serde_json::to_value(results).map_err(MatrixError::internal)
}

async fn take_pdus(node: &Arc<Node>, origin: &ServerName, pdus: Vec<Box<RawValue>>) -> Answer<Results> {
    let mut results = Results::new();
    let mut rooms: BTreeMap<OwnedRoomId, Vec<Box<RawValue>>> = BTreeMap::new();
    for pdu in pdus {
        match pdus::room_of(&pdu).and_then(|room| OwnedRoomId::try_from(room).ok()) {
            Some(room) => rooms.entry(room).or_default().push(pdu),
            // Without its room an event has no ID that could be answered for.
            None => node.federation.stats.refused.add(Refusal::Format),
        }
    }
    for (room_id, pdus) in rooms {
        take_room(node, origin, &room_id, pdus, &mut results).await?;
    }
    Ok(results)
}

async fn take_room(
    node: &Arc<Node>,
    origin: &ServerName,
    room_id: &RoomId,
    pdus: Vec<Box<RawValue>>,
    results: &mut Results,
) -> Answer<()> {
    let stats = &node.federation.stats;
    let Some(room) = node.rooms.get(room_id)? else {
        // Its version is not known either, and with that the IDs of its events.
        stats.refused.add_many(Refusal::Room, pdus.len());
        return Ok(());
    };
    // Before anything is verified: the keys for that may have to be fetched.
    let standing = node.store.read(|read| standing(read, &room, origin))?;
    let (pdus, refused, why) = match &standing {
        Standing::Open | Standing::Full => (pdus, Vec::new(), ""),
        Standing::Denied(reason) => {
            stats.refused.add_many(Refusal::Denied, pdus.len());
            (Vec::new(), pdus, reason.as_str())
        }
        Standing::Apart => {
            let (may, other): (Vec<_>, Vec<_>) = pdus.into_iter().partition(|pdu| may_end_invite(node, pdu));
            stats.refused.add_many(Refusal::Room, other.len());
            (may, other, NO_PART)
        }
    };
    for pdu in refused {
        if let Ok(id) = event_id_of(pdu.get(), room.version()) {
            results.insert(id, Err(why.to_owned()));
        }
    }
    let mut events = Vec::with_capacity(pdus.len());
    let texts = pdus.clone();
    for (pdu, checked) in texts.iter().zip(pdus::check_each(node, room.version(), pdus).await?) {
        match checked {
            Ok(event) => events.push(event),
            Err(error) => {
                tracing::info!(%origin, room = %room_id, %error, "an event is refused");
                if let Ok(id) = event_id_of(pdu.get(), room.version()) {
                    results.insert(id, Err(error.to_string()));
                }
            }
        }
    }
    if matches!(standing, Standing::Apart) {
        for event in events {
            let result = end_invite(node, origin, &room, &event).await?;
            if result.is_err() {
                stats.refused.add(Refusal::Room);
            }
            results.insert(event.event_id().to_owned(), result);
        }
        return Ok(());
    }
    let (mut parked, full) = (false, matches!(standing, Standing::Full));
    let sorted = sort_by_prev_events(events.iter().cloned());
    let placed: BTreeSet<&EventId> = sorted.iter().map(|event| event.event_id()).collect();
    events.retain(|event| !placed.contains(event.event_id()));
    stats.refused.add_many(Refusal::Cycle, events.len());
    results
        .extend(events.iter().map(|event| (event.event_id().to_owned(), Err("the event follows itself".to_owned()))));
    let received = match full {
        true => room.receive_without_parking(origin.as_str(), sorted).await?,
        false => room.receive(origin.as_str(), sorted).await?,
    };
    for (id, received) in received {
        let result = match received {
            Received::Accepted | Received::Hidden(_) => {
                stats.pdus_in.add();
                Ok(())
            }
            Received::Known => Ok(()),
            Received::Parked { .. } if full => {
                // It takes this for an answer. Once what waits is through, its heads tell of what was not kept.
                node.federation.compare_when_settled(room_id, origin);
                stats.refused.add(Refusal::Waiting);
                Err("too many of your server's events wait for missing ones here".to_owned())
            }
            Received::Parked { .. } => {
                stats.pdus_parked.add();
                parked = true;
                Ok(())
            }
            Received::Refused(reason) => {
                stats.refused.add(Refusal::NotAllowed);
                Err(reason)
            }
        };
        results.insert(id, result);
    }
    if parked {
        node.federation.fetch_missing(room_id);
    }
    ends::look(node, &room);
    Ok(())
}

/// How this node stands to a room, and the sending server with it.
enum Standing {
    /// We are in the room and take what it sends.
    Open,
    /// As open, but so many of its events wait for others that no more may.
    Full,
    /// We are in it, but will not take anything of that server now.
    Denied(String),
    /// We are not in the room; at most we hold invites or knocks there.
    Apart,
}

fn standing(read: &dyn Read, room: &Room, origin: &ServerName) -> Answer<Standing> {
    let number = room.number();
    if !ROOMS.get(read, &number)?.is_some_and(|row| row.0.joined) {
        return Ok(Standing::Apart);
    }
    if let Err(error) = rules::check_acl(read, number, origin) {
        return if error.is("M_FORBIDDEN") { Ok(Standing::Denied(error.message)) } else { Err(error) };
    }
    let quota = match ROOM_SERVERS.contains(read, &(number, origin.to_string()))? {
        true => PARKED_OF_MEMBER,
        false => PARKED_OF_STRANGER,
    };
    if parking::parked_of(read, number, origin.as_str())? >= quota {
        return Ok(Standing::Full);
    }
    Ok(Standing::Open)
}

/// What is answered for events of rooms that we are not in.
const NO_PART: &str = "this server takes no part in that room";

/// Whether an event says that a user of ours is let go or banned.
fn may_end_invite(node: &Node, pdu: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Fields {
        r#type: String,
        state_key: String,
        content: Content,
    }
    #[derive(Deserialize)]
    struct Content {
        membership: String,
    }
    serde_json::from_str::<Fields>(pdu.get()).is_ok_and(|event| {
        let user = <&UserId>::try_from(event.state_key.as_str());
        event.r#type == "m.room.member"
            && matches!(event.content.membership.as_str(), "leave" | "ban")
            && user.is_ok_and(|user| node.is_local(user))
    })
}

/// In a room that we are not in, the one event that concerns us: an invite or knock of a user of ours ends.
async fn end_invite(
    node: &Arc<Node>,
    origin: &ServerName,
    room: &Room,
    event: &Arc<Event>,
) -> Answer<Result<(), String>> {
    let refused = |reason: &str| Ok(Err(reason.to_owned()));
    let ends = matches!(event.content_str("membership"), Some("leave" | "ban"));
    let Some(user) = event.member().filter(|user| ends && node.is_local(user)) else {
        return refused(NO_PART);
    };
    let pending = node.store.read(|read| pending::pending(read, user, room.id().as_str()))?;
    let Some(pending) = pending.filter(|pending| !pending.joined) else {
        return refused(NO_PART);
    };
    let inviter = pending.part.sender.split_once(':').map_or("", |(_, server)| server);
    let sender = event.sender().server_name();
    match pending.part.membership {
        // We cannot judge who has power in that room. The inviter's server can be believed to have the say over its invite.
        membership::INVITE if sender == origin && (sender == inviter || event.sender() == user) => {}
        // A knock is refused by somebody in the room; of these the answer to the knock named some.
        membership::KNOCK if sender == origin && (event.sender() == user || is_in_stripped(&pending, sender)) => {}
        _ => return refused("this server cannot tell whether that event is allowed"),
    }
    let outside = Outside { room: room.clone(), event: event.clone(), stripped: Vec::new() };
    pending::note(node, outside).await?;
    Ok(Ok(()))
}

/// Whether a server sent some of the state that a knock or invite came with, or none is known.
fn is_in_stripped(pending: &pending::Pending, server: &ServerName) -> bool {
    let stripped = &pending.part.stripped;
    stripped.is_empty()
        || stripped.iter().any(|event| {
            let sender = event.get("sender").and_then(Value::as_str);
            sender.and_then(|sender| sender.split_once(':')).is_some_and(|(_, of)| of == server.as_str())
        })
}

async fn take_edu(node: &Arc<Node>, origin: &ServerName, raw: &Raw<Edu>) -> Answer<()> {
    let taken = match raw.deserialize() {
        Ok(edu) => edus::dispatch(node, origin, edu).await,
        Err(error) => Err(MatrixError::bad_json(error.to_string())),
    };
    match taken {
        // Nothing is lost: the other server keeps the transaction.
        Err(error) if error.status.is_server_error() => Err(error),
        Err(error) => {
            node.federation.stats.edus_refused.add();
            tracing::info!(%origin, %error, "an EDU is refused");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}
