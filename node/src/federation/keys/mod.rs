//! Keys of servers with DNS names: fetched from the server itself, else from those in `federation.trusted_key_servers`; kept in
//! memory and on disk. Server-server specification, "Retrieving server keys".
//!
//! However many events and requests wait for the keys of a server, one fetch is under way, and none begins too soon after the
//! one before. How many run for all servers together is bounded, and so is what each may take. A server that does not answer keeps
//! those waiting who need its keys, for a limited time, and nobody else: what keys are needed for has places of its own ([`For`]), and
//! whoever names many servers (in a transaction, a room, or a query) gets a part of these.

pub mod document;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared, join_all},
};
use kith_room::{format, keys::self_certified_key, receive::signing_servers};
use kith_store::{
    Json, StoreError,
    tables::federation::{SERVER_KEYS, SERVER_KEYS_BY_AGE, ServerKeyRow, ServerKeysRow},
};
use kith_transport::{Class, empty, full, read_body};
use ruma::{CanonicalJsonObject, OwnedServerName, RoomVersionId, ServerName, signatures::Ed25519KeyPair};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;

use self::document::{MOST_KEYS, Use, is_signed_by, usable};
use crate::{Node, platform::timeout};

/// How long a server has for its document, and a notary for those of others.
const LIMIT: Duration = Duration::from_secs(20);
/// How long the keys of many servers are waited for, those of a room that is joined for example.
const LIMIT_OF_MANY: Duration = Duration::from_secs(60);
/// The longest answer, in bytes.
const MOST_BYTES: usize = 64 << 10;
/// Fetches at a time, by what they are [`For`]; and how many of these one who needs the keys of many servers gets.
const AT_A_TIME: [usize; 4] = [64, 48, 48, 16];
const OF_ONE: [usize; 4] = [1, 8, 24, 2];
/// How soon keys are fetched again that were fetched.
const AGAIN: Duration = Duration::from_secs(60);
/// How soon they are fetched again from a server that did not give them: doubled each time, up to the second.
const AFTER_FAILURE: [Duration; 2] = [Duration::from_secs(15), Duration::from_secs(300)];
/// Servers whose keys are kept in memory, and whose last fetch is remembered.
const MOST_IN_MEMORY: usize = 4_096;
/// Servers whose keys are kept on disk.
const MOST_ON_DISK: usize = 10_000;

/// The keys of a server.
pub type ServerKeys = Arc<ServerKeysRow>;

type Fetch = BoxFuture<'static, Option<ServerKeys>>;

/// What keys are fetched for. One peer has at most 24 requests worked on at a time, 4 of them with events or queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum For {
    /// To verify who makes a request.
    Requests,
    /// To verify a few events.
    Events,
    /// To verify those of a whole room.
    Rooms,
    /// To tell others, as a notary.
    Others,
}

/// What is known of the keys of other servers.
pub struct Keys {
    state: Mutex<State>,
    places: [Semaphore; 4],
}

#[derive(Default)]
struct State {
    known: BTreeMap<OwnedServerName, ServerKeys>,
    fetching: BTreeMap<(OwnedServerName, For), WeakShared<Fetch>>,
    tried: BTreeMap<OwnedServerName, Tried>,
}

struct Tried {
    failures: u32,
    /// Monotonic time.
    not_before: Duration,
}

impl Default for Keys {
    fn default() -> Self {
        Self { state: Mutex::default(), places: AT_A_TIME.map(Semaphore::new) }
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

/// Which keys of which servers are needed, and for what.
pub type Needs = BTreeMap<OwnedServerName, Vec<(String, Use)>>;

/// What must be known to verify an event, beside keys that are names.
pub fn needs(text: &str, version: &RoomVersionId) -> Needs {
    #[derive(Deserialize)]
    struct Fields {
        origin_server_ts: Option<i64>,
    }
    let mut needs = Needs::new();
    let Ok(servers) = signing_servers(text, version) else { return needs };
    if servers.is_empty() {
        return needs;
    }
    let strict = format::rules(version).is_some_and(|rules| rules.enforce_key_validity);
    let at = serde_json::from_str::<Fields>(text).ok().and_then(|fields| fields.origin_server_ts).unwrap_or_default();
    let needed_for = if strict { Use::EventAt(u64::try_from(at).unwrap_or_default()) } else { Use::Event };
    for (server, key_id) in servers {
        needs.entry(server).or_default().push((key_id, needed_for));
    }
    needs
}

/// Fetches the keys with which one event is verified, as far as they are not at hand.
pub async fn fetch_for_event(node: &Arc<Node>, text: &str, version: &RoomVersionId) {
    gather(node, &needs(text, version), For::Events).await;
}

/// Fetches the keys of a server in the background, if none are known and its name is none: what it signed is about to come.
pub fn fetch_ahead(node: &Arc<Node>, server: &ServerName) {
    if self_certified_key(server).is_none() {
        let (fetching, server) = (node.clone(), server.to_owned());
        let fetch = async move { drop(of(&fetching, &server, &[], For::Events).await) };
        node.spawner.spawn("keys of a server", fetch.boxed());
    }
}

/// The key with which a server signs requests now; fetches it if it is not known.
pub async fn for_request(node: &Arc<Node>, server: &ServerName, key_id: &str) -> Option<[u8; 32]> {
    let needed = [(key_id.to_owned(), Use::Request(node.clock.now_ms()))];
    let row = of(node, server, &needed, For::Requests).await?;
    usable(&row, key_id, needed[0].1).copied()
}

/// The keys of several servers, as far as they can be had within the time.
pub async fn gather(node: &Arc<Node>, needs: &Needs, purpose: For) -> BTreeMap<OwnedServerName, ServerKeys> {
    let known = Mutex::new(BTreeMap::new());
    let turns = Semaphore::new(OF_ONE[purpose as usize]);
    let each = needs.iter().map(|(server, needed)| {
        let (known, turns) = (&known, &turns);
        async move {
            let _turn = turns.acquire().await;
            if let Some(row) = of(node, server, needed, purpose).await {
                known.lock().unwrap_or_else(PoisonError::into_inner).insert(server.clone(), row);
            }
        }
    });
    if !needs.is_empty() && timeout(&*node.clock, LIMIT_OF_MANY, join_all(each)).await.is_err() {
        tracing::info!("the keys of some servers could not be had in time");
    }
    known.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A key with which a server signed an event, if it may be used for it and is known already. `at`: when the event says it was made, in
/// rooms that ask for keys which were valid then.
pub fn at_hand(node: &Node, server: &ServerName, key_id: &str, at: Option<u64>) -> Option<[u8; 32]> {
    if server == node.server_name() {
        return usable_at(&own(node), key_id, at);
    }
    usable_at(node.federation.keys.known(node, server).ok().flatten().as_deref()?, key_id, at)
}

/// The key of that ID, if it may be used for an event.
pub fn usable_at(row: &ServerKeysRow, key_id: &str, at: Option<u64>) -> Option<[u8; 32]> {
    usable(row, key_id, at.map_or(Use::Event, Use::EventAt)).copied()
}

/// What is known of a server's keys, once what is needed was fetched if possible.
pub async fn of(node: &Arc<Node>, server: &ServerName, needed: &[(String, Use)], purpose: For) -> Option<ServerKeys> {
    if server == node.server_name() {
        return Some(Arc::new(own(node)));
    }
    let known = match node.federation.keys.known(node, server) {
        Ok(known) => known,
        Err(error) => {
            tracing::warn!(%error, "the keys of a server could not be read");
            None
        }
    };
    let enough = |row: &ServerKeys| needed.iter().all(|(id, needed_for)| usable(row, id, *needed_for).is_some());
    if known.as_ref().is_some_and(enough) {
        return known;
    }
    match node.federation.keys.fetch(node, server, purpose) {
        Some(fetch) => fetch.await.or(known),
        None => known,
    }
}

fn own(node: &Node) -> ServerKeysRow {
    let key = ServerKeyRow { key: *node.identity.public().as_bytes(), expired: None };
    let keys = BTreeMap::from([(format!("ed25519:{}", node.key.version()), key)]);
    ServerKeysRow { keys, valid_until: u64::MAX, fetched: u64::MAX, document: String::new() }
}

impl Keys {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known, in memory or on disk.
    fn known(&self, node: &Node, server: &ServerName) -> Result<Option<ServerKeys>, StoreError> {
        if let Some(known) = self.state().known.get(server) {
            return Ok(Some(known.clone()));
        }
        let Some(Json(row)) = node.store.read(|read| SERVER_KEYS.get(read, &server.to_string()))? else {
            return Ok(None);
        };
        let row = Arc::new(row);
        self.remember(server, row.clone());
        Ok(Some(row))
    }

    fn remember(&self, server: &ServerName, row: ServerKeys) {
        let mut state = self.state();
        if state.known.len() >= MOST_IN_MEMORY {
            state.known.clear();
        }
        state.known.insert(server.to_owned(), row);
    }

    /// The fetch that is under way, or a new one. None: the last one was too short a time ago.
    fn fetch(&self, node: &Arc<Node>, server: &ServerName, purpose: For) -> Option<Shared<Fetch>> {
        let mut state = self.state();
        state.fetching.retain(|_, fetch| fetch.upgrade().is_some_and(|fetch| fetch.peek().is_none()));
        let place = (server.to_owned(), purpose);
        if let Some(fetch) = state.fetching.get(&place).and_then(WeakShared::upgrade) {
            return Some(fetch);
        }
        let now = node.clock.monotonic();
        if state.tried.get(server).is_some_and(|tried| now < tried.not_before) {
            return None;
        }
        let (node, name) = (Arc::downgrade(node), server.to_owned());
        let fetch = async move {
            let node = node.upgrade()?;
            node.federation.keys.fetched(&node, &name, purpose).await
        };
        let fetch = fetch.boxed().shared();
        state.fetching.insert(place, fetch.downgrade()?);
        Some(fetch)
    }

    async fn fetched(&self, node: &Arc<Node>, server: &ServerName, purpose: For) -> Option<ServerKeys> {
        let place = self.places[purpose as usize].acquire().await.ok()?;
        let fetched = from_anywhere(node, server).await;
        drop(place);
        self.note(node.clock.monotonic(), server, fetched.is_ok());
        match fetched {
            Ok(row) => {
                node.federation.stats.keys_fetched.add();
                Some(self.keep(node, server, row).await)
            }
            Err(reason) => {
                node.federation.stats.keys_not_fetched.add();
                tracing::info!(%server, reason, "the keys of a server could not be fetched");
                None
            }
        }
    }

    fn note(&self, now: Duration, server: &ServerName, good: bool) {
        let mut state = self.state();
        if state.tried.len() >= MOST_IN_MEMORY {
            state.tried.retain(|_, tried| now < tried.not_before);
            if state.tried.len() >= MOST_IN_MEMORY {
                state.tried.clear();
            }
        }
        let tried = state.tried.entry(server.to_owned()).or_insert(Tried { failures: 0, not_before: now });
        let wait = if good { AGAIN } else { AFTER_FAILURE[0].saturating_mul(1 << tried.failures.min(8)) };
        tried.failures = if good { 0 } else { tried.failures + 1 };
        tried.not_before = now + wait.min(AFTER_FAILURE[1]);
    }

    /// Keeps what was fetched, with the keys that were known before: what a server leaves away still verifies what it signed then.
    async fn keep(&self, node: &Arc<Node>, server: &ServerName, mut row: ServerKeysRow) -> ServerKeys {
        if let Ok(Some(before)) = self.known(node, server) {
            if changed(&before, &row) {
                node.federation.stats.keys_changed.add();
                tracing::warn!(%server, "a server has another key under the ID of one it had before");
            }
            for (id, key) in &before.keys {
                if row.keys.len() < MOST_KEYS && !row.keys.contains_key(id) {
                    let expired = key.expired.unwrap_or(before.valid_until.min(row.fetched));
                    row.keys.insert(id.clone(), ServerKeyRow { key: key.key, expired: Some(expired) });
                }
            }
        }
        let row = Arc::new(row);
        self.remember(server, row.clone());
        let (name, stored) = (server.to_string(), (*row).clone());
        let written: Result<(), StoreError> = node
            .store
            .write(move |tx| {
                if let Some(Json(before)) = SERVER_KEYS.get(tx, &name)? {
                    SERVER_KEYS_BY_AGE.delete(tx, &(before.fetched, name.clone()))?;
                } else if SERVER_KEYS_BY_AGE.range(tx, ..)?.count() >= MOST_ON_DISK {
                    let oldest = SERVER_KEYS_BY_AGE.range(tx, ..)?.next().transpose()?;
                    if let Some((oldest, ())) = oldest {
                        SERVER_KEYS_BY_AGE.delete(tx, &oldest)?;
                        SERVER_KEYS.delete(tx, &oldest.1)?;
                    }
                }
                SERVER_KEYS_BY_AGE.put(tx, &(stored.fetched, name.clone()), &())?;
                SERVER_KEYS.put(tx, &name, &Json(stored))
            })
            .await;
        if let Err(error) = written {
            tracing::warn!(%error, "the keys of a server could not be stored");
        }
        row
    }
}

/// Whether an ID stands for another key than before.
fn changed(before: &ServerKeysRow, now: &ServerKeysRow) -> bool {
    now.keys.iter().any(|(id, key)| before.keys.get(id).is_some_and(|before| before.key != key.key))
}

/// From the server, else from the notaries, one after the other.
async fn from_anywhere(node: &Arc<Node>, server: &ServerName) -> Result<ServerKeysRow, String> {
    let mut reason = match from_itself(node, server).await {
        Ok(row) => return Ok(row),
        Err(reason) => reason,
    };
    for notary in &node.config.federation.trusted_key_servers {
        let Ok(notary) = <&ServerName>::try_from(notary.as_str()) else { continue };
        if notary == server || notary == node.server_name() {
            continue;
        }
        match from_notary(node, notary, server).await {
            Ok(row) => return Ok(row),
            Err(error) => reason = format!("{reason}; {notary}: {error}"),
        }
    }
    Err(reason)
}

async fn from_itself(node: &Arc<Node>, server: &ServerName) -> Result<ServerKeysRow, String> {
    let request = http::Request::get(format!("https://{server}/_matrix/key/v2/server"));
    let answer = ask(node, server, request.body(empty()).map_err(|error| error.to_string())?).await?;
    let document: CanonicalJsonObject = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
    document::read(document, server, node.clock.now_ms())
}

async fn from_notary(node: &Arc<Node>, notary: &ServerName, server: &ServerName) -> Result<ServerKeysRow, String> {
    #[derive(Deserialize)]
    struct Answer {
        server_keys: Vec<CanonicalJsonObject>,
    }
    let now = node.clock.now_ms();
    let body = json!({ "server_keys": { server.as_str(): {} } }).to_string();
    let request = http::Request::post(format!("https://{notary}/_matrix/key/v2/query"))
        .header(http::header::CONTENT_TYPE, "application/json");
    let answer = ask(node, notary, request.body(full(body)).map_err(|error| error.to_string())?).await?;
    let answer: Answer = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
    // A notary's own keys come from nobody else.
    let of_notary = match self_certified_key(notary) {
        Some(key) => BTreeMap::from([("ed25519:0".to_owned(), key)]),
        None => {
            let known = node.federation.keys.known(node, notary).ok().flatten();
            let valid = |row: &ServerKeysRow| now <= row.valid_until;
            let row = match known.filter(|row| valid(row)) {
                Some(row) => row,
                None => node.federation.keys.keep(node, notary, from_itself(node, notary).await?).await,
            };
            let usable = row.keys.keys().filter_map(|id| Some((id.clone(), *usable(&row, id, Use::Request(now))?)));
            usable.collect()
        }
    };
    let mut newest: Option<ServerKeysRow> = None;
    for document in answer.server_keys.into_iter().take(MOST_KEYS) {
        if !is_signed_by(&document, notary, |id| of_notary.get(id))? {
            return Err("it did not sign what it says".to_owned());
        }
        let row = document::read(document, server, now)?;
        if newest.as_ref().is_none_or(|newest| newest.valid_until < row.valid_until) {
            newest = Some(row);
        }
    }
    newest.ok_or_else(|| "it does not know them".to_owned())
}

async fn ask(
    node: &Arc<Node>,
    server: &ServerName,
    request: http::Request<kith_transport::Body>,
) -> Result<bytes::Bytes, String> {
    let exchange = async {
        let response = node.transport.send(server.as_str(), Class::Control, LIMIT, request).await;
        let (parts, body) = response.map_err(|error| error.to_string())?.into_parts();
        if !parts.status.is_success() {
            return Err(format!("{server} answers {}", parts.status));
        }
        read_body(body, MOST_BYTES).await.map_err(|error| error.to_string())
    };
    timeout(&*node.clock, LIMIT, exchange).await.unwrap_or_else(|_| Err(format!("{server} does not answer in time")))
}

/// Documents of other servers for somebody who asks, each signed by us too: the server's is known or fetched, and valid until then at
/// least where that can be had.
pub async fn attested(node: &Arc<Node>, asked: &BTreeMap<OwnedServerName, u64>) -> Vec<CanonicalJsonObject> {
    let documents = Mutex::new(Vec::new());
    let turns = Semaphore::new(OF_ONE[For::Others as usize]);
    let each = asked.iter().filter(|(server, _)| *server != node.server_name()).map(|(server, until)| {
        let (documents, turns) = (&documents, &turns);
        async move {
            let _turn = turns.acquire().await;
            if let Some(document) = attested_one(node, server, *until).await {
                documents.lock().unwrap_or_else(PoisonError::into_inner).push(document);
            }
        }
    });
    // Those that came in time are told.
    let _ = timeout(&*node.clock, LIMIT, join_all(each)).await;
    documents.into_inner().unwrap_or_else(PoisonError::into_inner)
}

async fn attested_one(node: &Arc<Node>, server: &ServerName, until: u64) -> Option<CanonicalJsonObject> {
    let known = node.federation.keys.known(node, server).ok().flatten();
    let row = match known.filter(|row| row.valid_until >= until && !row.document.is_empty()) {
        Some(row) => Some(row),
        None => match node.federation.keys.fetch(node, server, For::Others) {
            Some(fetch) => fetch.await,
            None => None,
        },
    };
    let row = match row {
        Some(row) => row,
        None => node.federation.keys.known(node, server).ok().flatten()?,
    };
    attest(&row, node.server_name(), &node.key)
}

fn attest(row: &ServerKeysRow, name: &ServerName, key: &Ed25519KeyPair) -> Option<CanonicalJsonObject> {
    let mut document: CanonicalJsonObject = serde_json::from_str(&row.document).ok()?;
    ruma::signatures::sign_json(name.as_str(), key, &mut document).ok()?;
    Some(document)
}

#[cfg(test)]
mod tests;
