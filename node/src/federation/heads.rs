//! Comparing rooms with other servers, so that quiet rooms heal too (anti-entropy).
//!
//! Whenever a peer connects, and now and then, two servers tell each other the forward extremities of the rooms they share.
//! Whoever does not know one fetches it, and what lies before it. So a node that was away gets everything, even what a
//! sender believes it has sent, and a lost event shows without waiting for the next.
//!
//! `POST /_matrix/federation/unstable/org.kith.heads`: `{"rooms": {room ID: [event IDs]}}`, answered in the same form for the
//! rooms of the request that both servers are in. Servers without it answer `M_UNRECOGNIZED`, and are left alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::FutureExt as _;
use http::StatusCode;
use kith_mutants::mutant;
use kith_room::{format, keys::self_certified_key};
use kith_store::{
    Read,
    tables::rooms::{EXTREMITIES, PARKED, ROOM_IDS, ROOM_SERVERS, ROOMS},
};
use kith_transport::{Class, KithName, ServerKey};
use ruma::{OwnedEventId, OwnedServerName, RoomId, ServerName, api::federation::event::get_event::v1 as get_event};
use serde::{Deserialize, Serialize};

use super::{ends, pdus, rules};
use crate::{
    Node, e2ee,
    http::{Answer, MatrixError},
    platform::timeout,
    rooms::{Received, Room, read},
};

/// Where heads are compared.
pub const PATH: &str = "/_matrix/federation/unstable/org.kith.heads";
/// Rooms in one request.
pub const MOST_ROOMS: usize = 200;
/// Heads told of one room; a room that has more is compared by the latest.
pub const MOST_HEADS: usize = 20;
/// The middle of the time between two rounds of comparing with all peers that are there.
const ROUND: Duration = Duration::from_secs(600);
/// A peer that comes and goes is compared with at most this often.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// How long a server may take for an answer.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// How long comparing some rooms with one peer may take in all.
const ONE_COMPARISON: Duration = Duration::from_secs(300);

/// The form of a request and of its answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomHeads {
    /// Room ID to the event IDs of its forward extremities.
    pub rooms: BTreeMap<String, Vec<OwnedEventId>>,
}

/// Whom we compare with.
#[derive(Debug, Default)]
pub struct Heads {
    peers: Mutex<BTreeMap<ServerKey, Comparing>>,
}

#[cfg(test)]
impl Heads {
    /// Whether a peer is being compared with.
    pub(super) fn is_comparing(&self, peer: ServerKey) -> bool {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&peer)
    }

    /// Whether it will be once more.
    pub(super) fn compares_again(&self, peer: ServerKey) -> bool {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).get(&peer).is_some_and(|comparing| comparing.again)
    }
}

/// A peer that is being compared with, or was lately.
#[derive(Debug, Default)]
struct Comparing {
    /// It connected again since the present comparison began.
    again: bool,
}

/// Starts the rounds.
pub(super) fn start(node: &Arc<Node>) {
    let weak = Arc::downgrade(node);
    node.spawner.spawn(
        "compare heads",
        async move {
            loop {
                let Some(node) = weak.upgrade() else { return };
                let half = u64::try_from(ROUND.as_millis() / 2).unwrap_or(u64::MAX);
                let sleep = node.clock.sleep(ROUND / 2 + Duration::from_millis(node.rng.below(2 * half)));
                drop(node);
                sleep.await;
                let Some(node) = weak.upgrade() else { return };
                // Each for itself: one that answers slowly must not keep the others from healing.
                for key in connected_keys(&node) {
                    peer_connected(&node, key);
                }
            }
        }
        .boxed(),
    );
}

/// A peer is there: compare with it, and try again what could not be fetched.
pub(super) fn peer_connected(node: &Arc<Node>, peer: ServerKey) {
    node.federation.missing.kick_all();
    node.federation.partial.kick_all();
    e2ee::remote::servers_reached(node, |server| self_certified_key(server).as_ref() == Some(peer.as_bytes()));
    {
        let mut peers = node.federation.heads.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(comparing) = peers.get_mut(&peer) {
            comparing.again = true;
            return;
        }
        peers.insert(peer, Comparing::default());
    }
    let comparing = node.clone();
    let task = async move {
        loop {
            compare_with_peer(&comparing, peer).await;
            // What was lost when the link broke under it is found when the peer is there again, at once or after this pause.
            comparing.clock.sleep(LEAST_PAUSE).await;
            let mut peers = comparing.federation.heads.peers.lock().unwrap_or_else(PoisonError::into_inner);
            match peers.get_mut(&peer) {
                Some(waiting) if waiting.again => waiting.again = false,
                _ => {
                    peers.remove(&peer);
                    return;
                }
            }
        }
    };
    node.spawner.spawn("compare heads", task.boxed());
}

/// The keys of peers that requests reach now.
pub(super) fn connected_keys(node: &Node) -> BTreeSet<ServerKey> {
    let peers = node.transport.network().map(|network| network.peers()).unwrap_or_default();
    peers.into_iter().filter(|peer| peer.connected).map(|peer| peer.key).collect()
}

/// Whether a server is one of these peers.
pub(super) fn is_connected(keys: &BTreeSet<ServerKey>, name: &ServerName) -> bool {
    KithName::parse(name.as_str()).is_ok_and(|name| name.is_some_and(|name| keys.contains(&name.key)))
}

async fn compare_with_peer(node: &Arc<Node>, peer: ServerKey) {
    let shared = match node.store.read(|read| rooms_shared_with(read, peer)) {
        Ok(shared) => shared,
        Err(error) => {
            tracing::warn!(%error, "the rooms shared with a peer could not be read");
            return;
        }
    };
    for (server, rooms) in shared {
        if server == node.server_name() {
            continue;
        }
        for rooms in rooms.chunks(MOST_ROOMS) {
            let late = || Err(MatrixError::internal("it took too long"));
            let compared = timeout(&*node.clock, ONE_COMPARISON, compare(node, &server, rooms)).await;
            if let Err(error) = compared.unwrap_or_else(|_| late()) {
                tracing::debug!(%server, %error, "rooms could not be compared");
                if error.status == StatusCode::BAD_GATEWAY {
                    break;
                }
            }
        }
    }
}

/// Server names of a peer to the numbers of the rooms we share with them.
fn rooms_shared_with(read: &dyn Read, peer: ServerKey) -> Answer<BTreeMap<OwnedServerName, Vec<u64>>> {
    let mut shared: BTreeMap<OwnedServerName, Vec<u64>> = BTreeMap::new();
    let label = peer.to_string();
    let mut from = (0, label.clone());
    // From room to room, without the other servers of large ones.
    while let Some(row) = ROOM_SERVERS.range(read, &from..)?.next() {
        let ((room, server), _) = row?;
        if !server.starts_with(&label) {
            let next = if room > from.0 && server < label { room } else { room + 1 };
            from = (next, label.clone());
            continue;
        }
        from = (room, server.clone() + "\0");
        if ROOMS.get(read, &room)?.is_some_and(|row| row.0.joined)
            && let Ok(server) = OwnedServerName::try_from(server)
            && rules::check_acl(read, room, &server).is_ok()
        {
            shared.entry(server).or_default().push(room);
        }
    }
    Ok(shared)
}

/// Tells a server the heads of some rooms, by their numbers, and fetches what it answers with.
pub(super) async fn compare(node: &Arc<Node>, server: &ServerName, rooms: &[u64]) -> Answer<()> {
    let ours = node.store.read(|read| heads_of(read, rooms))?;
    let body = serde_json::to_value(&ours).map_err(MatrixError::internal)?;
    let answer = node
        .federation
        .client()
        .request_json(server, http::Method::POST, PATH, &body, Class::Control, TIME_LIMIT)
        .await?;
    let mut theirs: RoomHeads = serde_json::from_value(answer)
        .map_err(|error| MatrixError::unreachable(format!("the answer is no list of heads: {error}")))?;
    // Only what was asked for.
    theirs.rooms.retain(|room, _| ours.rooms.contains_key(room));
    take(node, server, theirs).await
}

/// The heads of rooms by number.
pub fn heads_of(read: &dyn Read, rooms: &[u64]) -> Answer<RoomHeads> {
    let mut heads = RoomHeads::default();
    for room in rooms {
        let Some(row) = ROOMS.get(read, room)? else { continue };
        let mut ids = Vec::new();
        for row in EXTREMITIES.prefix_rev(read, room)?.take(MOST_HEADS) {
            let ((_, number), ()) = row?;
            let event = read::event(read, number)?;
            ids.extend(event.and_then(|event| OwnedEventId::try_from(event.row.event_id).ok()));
        }
        heads.rooms.insert(row.0.room_id, ids);
    }
    Ok(heads)
}

/// Of these rooms, the numbers of those that we and `server` are both in.
pub fn shared_rooms<'a>(
    read: &dyn Read,
    rooms: impl Iterator<Item = &'a String>,
    server: &ServerName,
) -> Answer<Vec<u64>> {
    let mut shared = Vec::new();
    for room in rooms.take(MOST_ROOMS) {
        let Some(number) = ROOM_IDS.get(read, room)? else { continue };
        if ROOMS.get(read, &number)?.is_some_and(|row| row.0.joined)
            && ROOM_SERVERS.contains(read, &(number, server.to_string()))?
            && rules::check_acl(read, number, server).is_ok()
        {
            shared.push(number);
        }
    }
    Ok(shared)
}

/// Fetches the heads of another server that are not known here, and what lies before them.
///
/// # Errors
/// The store's, or the first of the server's.
pub async fn take(node: &Arc<Node>, server: &ServerName, heads: RoomHeads) -> Answer<()> {
    for (room_id, ids) in heads.rooms.into_iter().take(MOST_ROOMS) {
        let Ok(room_id) = RoomId::parse(room_id) else { continue };
        let Some(room) = node.rooms.get(&room_id)? else { continue };
        let ids: Vec<OwnedEventId> = ids.into_iter().take(MOST_HEADS).collect();
        let mut unknown = if mutant!("compares-no-heads") { Vec::new() } else { room.unknown(&ids)? };
        node.store.read(|read| {
            let mut waiting = BTreeSet::new();
            for row in PARKED.prefix(read, &room.number())? {
                waiting.insert(row?.0.1);
            }
            unknown.retain(|id| !waiting.contains(id.as_str()));
            Ok::<_, kith_store::StoreError>(())
        })?;
        let denied = node.store.read(|read| rules::check_acl(read, room.number(), server)).is_err();
        if !unknown.is_empty() && !denied {
            fetch(node, server, &room, unknown).await?;
        }
    }
    Ok(())
}

async fn fetch(node: &Arc<Node>, server: &ServerName, room: &Room, ids: Vec<OwnedEventId>) -> Answer<()> {
    if format::rules(room.version()).is_none() {
        return Ok(());
    }
    let mut events = Vec::new();
    for id in ids {
        let request = get_event::Request::new(id);
        match node.federation.client().request(server, request, Class::Control, TIME_LIMIT).await {
            Ok(answer) => events.push(answer.pdu),
            // It may not show us that one (it was made before we came, say). The others must not suffer for it.
            Err(error) if error.is_refusal() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let events = pdus::check_many(node, room.id(), room.version(), events).await?;
    node.federation.stats.pdus_fetched.add_many(events.len() as u64);
    let results = room.receive(server.as_str(), events).await?;
    ends::look(node, room);
    if results.iter().any(|(_, received)| matches!(received, Received::Parked { .. })) {
        node.federation.fetch_missing(room.id());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kith_store::{Json, MemoryBackend, Options, Store, StoreError, tables::rooms::RoomRow};
    use kith_transport::SecretKey;

    use super::*;

    #[test]
    fn shared_rooms_are_found_by_any_name_of_the_peer_and_in_rooms_of_any_size() {
        let store = Store::open(MemoryBackend::new(), Options::default()).unwrap();
        let key = |n: u8| SecretKey::from_seed([n; 32]).public();
        // Room `r` has the servers `n` of which bit `n` is in `(r * 37) % 256`; every third is behind a gateway in odd rooms.
        let name = move |n: u8, room: u64| match (n % 3, room % 2) {
            (0, 1) => format!("{}.mesh.example.org", key(n)),
            _ => key(n).to_string(),
        };
        let servers = |room: u64| (0..8u8).filter(move |n| ((room * 37) % 256) >> n & 1 == 1);
        let joined = |room: u64| room % 5 != 4;
        let put = store.submit(move |tx| {
            for room in 1..=40 {
                let row = serde_json::json!({"room_id": format!("!{room}"), "version": "12", "joined": joined(room), "state": 0, "depth": 1, "changes": 1});
                let row: RoomRow = serde_json::from_value(row).unwrap();
                ROOMS.put(tx, &room, &Json(row))?;
                for n in servers(room) {
                    ROOM_SERVERS.put(tx, &(room, name(n, room)), &1)?;
                }
            }
            Ok::<_, StoreError>(())
        });
        put.wait().unwrap();
        for n in 0..8 {
            let mut expected: BTreeMap<OwnedServerName, Vec<u64>> = BTreeMap::new();
            for room in (1..=40).filter(|room| joined(*room) && servers(*room).any(|other| other == n)) {
                expected.entry(name(n, room).try_into().unwrap()).or_default().push(room);
            }
            assert!(!expected.is_empty());
            assert_eq!(store.read(|read| rooms_shared_with(read, key(n))).unwrap(), expected);
        }
        assert!(store.read(|read| rooms_shared_with(read, key(9))).unwrap().is_empty());
    }
}
