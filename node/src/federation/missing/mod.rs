//! Getting what is missing of a room's graph: events that others build on or rest on.
//!
//! A received event whose prev or auth events are not here waits on disk (parked). One job per room, in the background, asks
//! servers of the room for what lies between (`gap.rs`: `get_missing_events`, in bounded steps); where too much is missing, or
//! none of them has it, the gap is bridged (`bridge.rs`): the state behind it is taken from another server and checked, and
//! the history before it can be scrolled back to later. Then the parked events are offered to the room again. An event that
//! cannot be placed is dropped after some tries and a day; comparing heads ([`super::heads`]) finds it again if it matters.

mod bridge;
mod gap;
mod signatures;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::FutureExt as _;
use kith_room::{Event, graph::sort_by_prev_events};
use kith_store::{
    Json, StoreError,
    tables::rooms::{PARKED, ParkedRow, ROOMS},
};
use kith_transport::Class;
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, ServerName,
    api::federation::authorization::get_event_authorization::v1 as event_auth,
};
use tokio::sync::{Notify, Semaphore};

use super::{Federation, pdus};
use crate::{
    Node,
    http::{Answer, MatrixError},
    platform::timeout,
    rooms::{Received, Room, parking, read},
};

/// Rooms that are worked on at a time.
const JOBS: usize = 32;
/// Events handed to the room at once.
const BATCH: usize = 100;
/// Servers asked in one attempt.
const MOST_SERVERS: usize = 4;
/// Events whose auth events are asked for in one attempt.
const MOST_AUTH_CHAINS: usize = 40;
/// Servers remembered whose events were not kept.
const MOST_UNKEPT: usize = 64;
/// How long one attempt may take with one server.
const ONE_SERVER: Duration = Duration::from_secs(180);
/// How long a server may take for an answer.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// A parked event is dropped after this many attempts, once it is this old (milliseconds).
const MOST_TRIES: u32 = 8;
const LONGEST_WAIT: u64 = 24 * 3_600_000;
/// The wait after a failed attempt: doubling from the first to the last.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LAST_WAIT: Duration = Duration::from_secs(1800);
/// The least time between two attempts when the first failed: whoever sends what cannot be completed does not set the pace.
const LEAST_WAIT: Duration = Duration::from_millis(500);

/// Rooms that lack something.
#[derive(Debug)]
pub struct Missing {
    jobs: Mutex<BTreeMap<OwnedRoomId, Arc<Job>>>,
    slots: Semaphore,
}

#[derive(Debug, Default)]
struct Job {
    /// Something changed: try (again) now.
    kick: Notify,
    /// The job ended, one way or the other.
    ended: tokio::sync::watch::Sender<bool>,
    /// Servers some of whose events were not kept, because too many of theirs wait.
    unkept: Mutex<BTreeSet<OwnedServerName>>,
}

impl Job {
    fn note(&self, server: Option<&ServerName>) {
        let mut unkept = self.unkept.lock().unwrap_or_else(PoisonError::into_inner);
        if unkept.len() < MOST_UNKEPT {
            unkept.extend(server.map(ToOwned::to_owned));
        }
    }
}

impl Default for Missing {
    fn default() -> Self {
        Self { jobs: Mutex::default(), slots: Semaphore::new(JOBS) }
    }
}

impl Missing {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<OwnedRoomId, Arc<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a job that has nothing more to do. False when something was parked this moment, which has kicked: look again.
    fn end(&self, room_id: &RoomId, job: &Job) -> bool {
        let mut jobs = self.lock();
        if job.kick.notified().now_or_never().is_some() {
            return false;
        }
        jobs.remove(room_id);
        job.ended.send_replace(true);
        true
    }

    /// Every room that lacks something tries again now.
    pub(super) fn kick_all(&self) {
        for job in self.lock().values() {
            job.kick.notify_one();
        }
    }
}

/// Goes on with what waited before the node was stopped.
pub(super) fn start(node: &Arc<Node>) -> Result<(), StoreError> {
    let rooms = node.store.read(|read| {
        let mut numbers = BTreeSet::new();
        for row in PARKED.range(read, ..)? {
            numbers.insert(row?.0.0);
        }
        let mut rooms = Vec::new();
        for number in numbers {
            rooms.extend(ROOMS.get(read, &number)?.map(|row| row.0.room_id));
        }
        Ok::<_, StoreError>(rooms)
    })?;
    for room in rooms {
        if let Ok(room) = RoomId::parse(room) {
            node.federation.fetch_missing(&room);
        }
    }
    Ok(())
}

impl Federation {
    /// Parked events of a room wait for others: fetch these, in the background.
    pub fn fetch_missing(&self, room_id: &RoomId) {
        self.work_on(room_id, None);
    }

    fn work_on(&self, room_id: &RoomId, unkept: Option<&ServerName>) {
        let Ok(node) = self.node() else { return };
        let job = {
            let mut jobs = self.missing.lock();
            if let Some(job) = jobs.get(room_id) {
                job.note(unkept);
                job.kick.notify_one();
                return;
            }
            let job = Arc::new(Job::default());
            job.note(unkept);
            jobs.insert(room_id.to_owned(), job.clone());
            job
        };
        let spawner = node.spawner.clone();
        spawner.spawn("missing events", run(node, room_id.to_owned(), job).boxed());
    }

    /// An event of a server was not kept in a room, because too many wait there: compares the room with that server when what
    /// waits is through.
    pub fn compare_when_settled(&self, room_id: &RoomId, server: &ServerName) {
        self.work_on(room_id, Some(server));
    }

    /// Waits until nothing of a room is being fetched.
    pub(super) async fn missing_settled(&self, room_id: &RoomId) {
        let ended = self.missing.lock().get(room_id).map(|job| job.ended.subscribe());
        if let Some(mut ended) = ended {
            let _ = ended.wait_for(|ended| *ended).await;
        }
    }
}

async fn run(node: Arc<Node>, room_id: OwnedRoomId, job: Arc<Job>) {
    let mut failures = 0u32;
    loop {
        let attempt = {
            let Ok(_slot) = node.federation.missing.slots.acquire().await else { return };
            attempt(&node, &room_id).await
        };
        match attempt {
            Ok(true) => {
                if node.federation.missing.end(&room_id, &job) {
                    return compare_with_unkept(&node, &room_id, &job).await;
                }
                failures = 0;
            }
            Ok(false) => failures += 1,
            Err(error) => {
                tracing::info!(room = %room_id, %error, "missing events could not be fetched");
                failures += 1;
            }
        }
        if failures > 0 {
            // Whoever waits for this room has waited long enough.
            job.ended.send_replace(true);
            let wait = FIRST_WAIT.saturating_mul(1 << (failures - 1).min(16)).min(LAST_WAIT);
            let jitter = Duration::from_millis(node.rng.below(u64::try_from(wait.as_millis() / 2).unwrap_or(1)));
            node.clock.sleep(LEAST_WAIT).await;
            tokio::select! {
                biased;
                () = job.kick.notified() => {}
                () = node.clock.sleep(wait + jitter) => {}
            }
        }
    }
}

/// Nothing waits in a room any more: what was not kept of some servers' events is found by their heads.
async fn compare_with_unkept(node: &Arc<Node>, room_id: &RoomId, job: &Job) {
    let servers = std::mem::take(&mut *job.unkept.lock().unwrap_or_else(PoisonError::into_inner));
    let Ok(Some(room)) = node.rooms.get(room_id) else { return };
    for server in servers {
        if let Err(error) = super::heads::compare(node, &server, &[room.number()]).await {
            tracing::debug!(room = %room_id, %server, %error, "a room could not be compared");
        }
    }
}

/// Parked events with what they lack.
#[derive(Default)]
struct Waiting {
    events: BTreeMap<OwnedEventId, Arc<Event>>,
    /// Those that only lack the signature of the room's policy server.
    unsigned: BTreeSet<OwnedEventId>,
    lacks_auth: BTreeSet<OwnedEventId>,
    lacks_prev: bool,
}

/// One attempt at everything that waits in a room. True when nothing waits any more.
async fn attempt(node: &Arc<Node>, room_id: &RoomId) -> Answer<bool> {
    let Some(room) = node.rooms.get(room_id)? else { return Ok(true) };
    let rows = give_up_old(node, &room).await?;
    if rows.is_empty() {
        return Ok(true);
    }
    if !room.is_joined()? {
        drop_parked(node, &room, rows.into_iter().map(|(id, _)| id).collect()).await?;
        return Ok(true);
    }
    if signatures::offer_signed(node, &room).await?.events.is_empty() {
        return Ok(true);
    }
    let servers = servers_to_ask(node, &room, &rows)?;
    let mut gap = gap::Gap::new(node, &room)?;
    for server in &servers {
        let mut waiting = offer(node, &room, &parked(node, &room)?).await?;
        if waiting.events.is_empty() {
            return Ok(true);
        }
        let helped = async {
            fetch_auth(node, &room, server, &waiting).await?;
            if waiting.lacks_prev {
                gap.drop_old(&mut waiting.events).await?;
                gap.ask(server, &waiting.events).await?;
            }
            Ok::<(), MatrixError>(())
        };
        // One that answers slowly and of no use must not keep other rooms waiting for their turn.
        let helped = timeout(&*node.clock, ONE_SERVER, helped).await;
        let helped = helped.unwrap_or_else(|_| {
            node.federation.stats.gaps_given_up.add();
            Err(MatrixError::unreachable("it took too long"))
        });
        if let Err(error) = helped {
            tracing::info!(room = %room_id, %server, %error, "a server could not help with missing events");
        }
        if gap.open(&waiting.events)?.is_empty() {
            gap.hand_in(server, &waiting.events).await?;
        } else if gap.is_full() {
            break;
        }
    }
    let waiting = offer(node, &room, &parked(node, &room)?).await?;
    if !waiting.events.is_empty() && waiting.lacks_prev {
        bridge::bridge_all(node, &room, &servers, &mut gap, &waiting.events).await?;
    }
    let waiting = signatures::offer_signed(node, &room).await?;
    count_tries(node, &room, waiting.events.into_keys().collect()).await
}

fn parked(node: &Arc<Node>, room: &Room) -> Answer<Vec<(String, ParkedRow)>> {
    room.parked(&node.store.snapshot()?)
}

/// Offers what is parked to the room again; gives what still waits.
async fn offer(node: &Arc<Node>, room: &Room, rows: &[(String, ParkedRow)]) -> Answer<Waiting> {
    let mut waiting = Waiting::default();
    let mut settled = Vec::new();
    let mut events = BTreeMap::new();
    for (id, row) in rows {
        let Ok(id) = OwnedEventId::try_from(id.as_str()) else { continue };
        if let Ok(event) = Event::from_stored(row.pdu.as_str(), id.clone(), room.rules()) {
            events.insert(id, Arc::new(event.with_redacted(row.stripped)));
        }
    }
    for batch in sort_by_prev_events(events.values().cloned()).chunks(BATCH) {
        for (id, received) in room.receive("", batch.to_vec()).await? {
            if matches!(received, Received::Known | Received::Refused(_)) {
                // What was taken in has left its place by itself. This one would keep it for ever.
                settled.push(id.to_string());
            } else if let Received::Parked { prev, auth } = received {
                waiting.lacks_prev |= !prev.is_empty();
                if prev.is_empty() && auth.is_empty() {
                    waiting.unsigned.insert(id.clone());
                }
                if !auth.is_empty() {
                    waiting.lacks_auth.insert(id.clone());
                }
                if let Some(event) = events.get(&id) {
                    waiting.events.insert(id, event.clone());
                }
            }
        }
    }
    if !settled.is_empty() {
        drop_parked(node, room, settled).await?;
    }
    Ok(waiting)
}

/// Servers that may have what is missing: those that sent what waits, then the others of the room; reachable ones first. Who is
/// not in the room is not asked: what it sends would only make work.
fn servers_to_ask(node: &Arc<Node>, room: &Room, rows: &[(String, ParkedRow)]) -> Answer<Vec<OwnedServerName>> {
    let members = node.store.read(|read| read::servers(read, room.number()))?;
    let mut names: Vec<String> = rows.iter().rev().map(|(_, row)| row.origin.clone()).collect();
    names.retain(|name| members.contains(name));
    names.extend(members);
    let mut seen = BTreeSet::new();
    let mut servers: Vec<OwnedServerName> = names
        .into_iter()
        .filter_map(|name| OwnedServerName::try_from(name).ok())
        .filter(|name| name != node.server_name() && seen.insert(name.clone()))
        .collect();
    let connected = super::heads::connected_keys(node);
    servers.sort_by_cached_key(|name| !super::heads::is_connected(&connected, name));
    servers.truncate(MOST_SERVERS);
    Ok(servers)
}

/// Asks a server for the events that others rest on.
async fn fetch_auth(node: &Arc<Node>, room: &Room, server: &ServerName, waiting: &Waiting) -> Answer<()> {
    let lack_auth = waiting.events.values().filter(|event| waiting.lacks_auth.contains(event.event_id()));
    for event in fairly(lack_auth.cloned().collect()).into_iter().take(MOST_AUTH_CHAINS) {
        let request = event_auth::Request::new(room.id().to_owned(), event.event_id().to_owned());
        let answer = match node.federation.client().request(server, request, Class::Bulk, TIME_LIMIT).await {
            Ok(answer) => answer,
            // Perhaps nobody has it. The others must not wait behind it.
            Err(error) if error.is_refusal() => continue,
            Err(error) => return Err(error.into()),
        };
        let chain = pdus::check_set(node, room.id(), room.version(), answer.auth_chain).await?;
        let added = room.add_outliers(chain).await?;
        node.federation.stats.pdus_fetched.add_many(added as u64);
    }
    Ok(())
}

/// One event of each sender's server in turn, so that none takes the places of all.
fn fairly(events: Vec<Arc<Event>>) -> Vec<Arc<Event>> {
    let mut of_server: BTreeMap<OwnedServerName, usize> = BTreeMap::new();
    let mut turns: Vec<(usize, Arc<Event>)> = events
        .into_iter()
        .map(|event| {
            let turn = of_server.entry(event.sender().server_name().to_owned()).or_default();
            *turn += 1;
            (*turn, event)
        })
        .collect();
    turns.sort_by_key(|(turn, _)| *turn);
    turns.into_iter().map(|(_, event)| event).collect()
}

/// Drops what has waited too long; gives the rest.
async fn give_up_old(node: &Arc<Node>, room: &Room) -> Answer<Vec<(String, ParkedRow)>> {
    let now = node.clock.now_ms();
    let (old, rows): (Vec<_>, Vec<_>) = parked(node, room)?
        .into_iter()
        .partition(|(_, row)| row.tries >= MOST_TRIES && now.saturating_sub(row.since) > LONGEST_WAIT);
    if !old.is_empty() {
        tracing::warn!(room = %room.id(), count = old.len(), "events are given up: what they build on cannot be had");
        drop_parked(node, room, old.into_iter().map(|(id, _)| id).collect()).await?;
    }
    Ok(rows)
}

async fn drop_parked(node: &Arc<Node>, room: &Room, ids: Vec<String>) -> Answer<()> {
    let number = room.number();
    node.store
        .write(move |tx| {
            for id in ids {
                parking::unpark(tx, number, &id)?;
            }
            Ok::<(), StoreError>(())
        })
        .await?;
    Ok(())
}

/// Counts an attempt for what still waits. True when that is nothing.
async fn count_tries(node: &Arc<Node>, room: &Room, ids: Vec<OwnedEventId>) -> Answer<bool> {
    if ids.is_empty() {
        return Ok(true);
    }
    let number = room.number();
    node.store
        .write(move |tx| {
            for id in ids {
                let key = (number, id.to_string());
                if let Some(Json(mut row)) = PARKED.get(tx, &key)? {
                    row.tries = row.tries.saturating_add(1);
                    PARKED.put(tx, &key, &Json(row))?;
                }
            }
            Ok::<(), StoreError>(())
        })
        .await?;
    Ok(false)
}
