//! `GET /_matrix/client/unstable/org.kith/people`: who is near, and who is known.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kith_store::{
    Read,
    tables::rooms::{MEMBERS, membership},
};
use kith_transport::{KithName, PeerInfo, ServerKey};
use ruma::api::{auth_scheme::AccessToken, metadata};
use serde::Serialize;
use serde_json::Value;

use super::joined_rooms;
use crate::{
    Node,
    client_api::untyped::{Untyped, Written},
    config::MdnsMode,
    federation::introductions::{Introduced, name_of},
    http::{Answer, Routes, Session},
    rooms::read,
};

/// Servers in one answer: those near by first, then those of the smallest rooms.
const MOST_SERVERS: usize = 500;
/// Users of a contact in one answer.
const MOST_USERS: usize = 50;
/// Members looked at in all, those of the smallest rooms first.
const MOST_MEMBERS: usize = 2_000;
/// How long an answer may wait for nodes that were never asked who is there.
const PATIENCE: Duration = Duration::from_millis(800);

/// The request.
#[derive(Debug)]
struct GetPeople;

metadata! {
    @for GetPeople,
    method: GET,
    rate_limited: false,
    authentication: AccessToken,
    history: {
        unstable => "/_matrix/client/unstable/org.kith/people",
    }
}

/// The answer.
#[derive(Debug, Serialize)]
struct Answered {
    people: Vec<Neighbour>,
}

/// A server that is near or known.
#[derive(Debug, Serialize)]
struct Neighbour {
    server_name: String,
    nearby: bool,
    connected: bool,
    direct: bool,
    contact: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_ms: Option<u64>,
    users: Vec<Introduced>,
}

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(get_people)
}

async fn get_people(node: Arc<Node>, session: Session, _: Untyped<GetPeople, Written>) -> Answer<Written> {
    let peers = node.transport.network().map(|network| network.peers()).unwrap_or_default();
    let contacts = node.store.read(|read| contacts(read, session.user_id.as_str(), node.server_name().as_str()));
    let mut known = contacts?;
    // Who shows itself to contacts only does not call strangers either.
    let only_contacts = node.config.p2p.mdns == MdnsMode::Contacts;
    let is_known = |peer: &PeerInfo| name_of(peer).is_some_and(|name| known.iter().any(|(server, _)| *server == name));
    let asked: Vec<PeerInfo> = peers.iter().filter(|peer| !only_contacts || is_known(peer)).cloned().collect();
    node.federation.introductions.look(&node, &asked, PATIENCE).await;
    let by_key: BTreeMap<ServerKey, &PeerInfo> = peers.iter().map(|peer| (peer.key, peer)).collect();
    let now = node.clock.now_ms();

    let mut people = Vec::new();
    for peer in peers.iter().filter(|peer| peer.nearby) {
        let Some(name) = name_of(peer) else { continue };
        let contact = known.iter().position(|(server, _)| *server == name).map(|place| known.remove(place).1);
        let is_contact = contact.is_some();
        let mut users = contact.unwrap_or_default();
        let there: BTreeSet<String> = users.iter().map(|user| user.user_id.clone()).collect();
        users.extend(
            node.federation.introductions.of(peer.key).into_iter().filter(|user| !there.contains(&user.user_id)),
        );
        people.push(neighbour(name.to_string(), Some(peer), is_contact, users, now));
    }
    for (server, users) in known {
        let key = KithName::parse(&server).ok().flatten().map(|name| name.key);
        let peer = key.and_then(|key| by_key.get(&key).copied());
        people.push(neighbour(server, peer, true, users, now));
    }
    people.truncate(MOST_SERVERS);
    Written::of(&Answered { people })
}

fn neighbour(
    server_name: String,
    peer: Option<&PeerInfo>,
    contact: bool,
    users: Vec<Introduced>,
    now: u64,
) -> Neighbour {
    let ago = peer.and_then(|peer| peer.last_seen).map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX));
    Neighbour {
        server_name,
        nearby: peer.is_some_and(|peer| peer.nearby),
        connected: peer.is_some_and(|peer| peer.connected),
        direct: peer.is_some_and(|peer| peer.connected && peer.direct),
        contact,
        last_seen_ms: ago.map(|ago| now.saturating_sub(ago)),
        users,
    }
}

/// The other servers in a user's rooms, with those of their users that share one: those of the smallest rooms first.
fn contacts(read: &dyn Read, user: &str, own: &str) -> Answer<Vec<(String, Vec<Introduced>)>> {
    let mut rooms = Vec::new();
    for room in joined_rooms(read, user)? {
        rooms.push((read::joined_count(read, room)?, room));
    }
    rooms.sort_unstable();
    let mut order: Vec<String> = Vec::new();
    let mut users: BTreeMap<String, Vec<Introduced>> = BTreeMap::new();
    let mut looked_at = 0;
    for (_, room) in rooms {
        // A server counts though its users are too many to be named here.
        for server in read::servers(read, room)? {
            if server != own && order.len() < MOST_SERVERS && !users.contains_key(&server) {
                order.push(server.clone());
                users.insert(server, Vec::new());
            }
        }
        for row in MEMBERS.prefix(read, &(room, membership::JOIN))? {
            if looked_at >= MOST_MEMBERS {
                break;
            }
            looked_at += 1;
            let ((_, _, member), number) = row?;
            let Some((_, server)) = member.split_once(':') else { continue };
            let Some(known) = users.get_mut(server) else { continue };
            if known.len() < MOST_USERS && known.iter().all(|user| user.user_id != member) {
                let event = read::event(read, number)?;
                let text = |field: &str| {
                    let content = event.as_ref().map(|event| event.content());
                    content.and_then(|content| content.get(field)).and_then(Value::as_str).map(str::to_owned)
                };
                let (displayname, avatar_url) = (text("displayname"), text("avatar_url"));
                known.push(Introduced { user_id: member, displayname, avatar_url });
            }
        }
    }
    Ok(order
        .into_iter()
        .map(|server| {
            let of = users.remove(&server).unwrap_or_default();
            (server, of)
        })
        .collect())
}
