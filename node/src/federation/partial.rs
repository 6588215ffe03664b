//! Fetching the members of rooms that were joined without them: in the background, from one server of the room after the other,
//! until one gives the whole state. A restart goes on with it.
//!
//! Server-server specification, "Joining Rooms" (`omit_members`), and `GET /state/{roomId}`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, future::RemoteHandle};
use kith_store::{
    StoreError,
    tables::rooms::{PARTIAL, ROOMS},
};
use ruma::{
    EventId, OwnedRoomId, OwnedServerName, RoomId, ServerName,
    api::federation::event::get_room_state::v1 as get_room_state,
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use super::{Federation, FederationError, heads, large::Place, membership::WHOLE_ROOM, pdus};
use crate::{
    Node,
    http::{Answer, MatrixError},
    platform::timeout,
    rooms::{Room, partial, read},
};

/// Rooms whose members are asked for at a time. A server that does not answer takes one of these for some minutes.
const ASKED_FOR: usize = 32;
/// Rooms that are completed at a time: what is made of the state of each is in memory as a whole.
const AT_A_TIME: usize = 2;
/// Servers asked in one attempt.
const MOST_SERVERS: usize = 6;
/// The wait after a failed attempt: doubling from the first to the last.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LAST_WAIT: Duration = Duration::from_secs(600);
/// The least time between two attempts, whatever happens in between.
const LEAST_WAIT: Duration = Duration::from_millis(500);
/// How long a client waits for a room's members.
const PATIENCE: Duration = Duration::from_secs(120);

/// Rooms that lack their members.
#[derive(Debug)]
pub struct Partial {
    jobs: Mutex<BTreeMap<OwnedRoomId, Arc<Job>>>,
    asking: Arc<Semaphore>,
    completing: Semaphore,
}

#[derive(Debug, Default)]
struct Job {
    /// A peer has come: try again now.
    kick: Notify,
    ended: watch::Sender<bool>,
}

/// What a server gives: the state, and its place in memory.
type Given = Result<(get_room_state::Response, Place), FederationError>;

/// The answer of the server that let us in, on its way already, and the turn in which it is asked for.
pub(super) struct Early {
    turn: OwnedSemaphorePermit,
    answer: RemoteHandle<Given>,
}

impl Default for Partial {
    fn default() -> Self {
        Self {
            jobs: Mutex::default(),
            asking: Arc::new(Semaphore::new(ASKED_FOR)),
            completing: Semaphore::new(AT_A_TIME),
        }
    }
}

impl Partial {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<OwnedRoomId, Arc<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every room that lacks its members tries again now.
    pub(super) fn kick_all(&self) {
        for job in self.lock().values() {
            job.kick.notify_one();
        }
    }
}

/// Goes on with the rooms that lacked their members when the node was stopped.
pub(super) fn start(node: &Arc<Node>) -> Result<(), StoreError> {
    let rooms = node.store.read(|read| {
        let mut rooms = Vec::new();
        for row in PARTIAL.range(read, ..)? {
            rooms.extend(ROOMS.get(read, &row?.0)?.map(|row| row.0.room_id));
        }
        Ok::<_, StoreError>(rooms)
    })?;
    for room in rooms {
        if let Ok(room) = RoomId::parse(room) {
            node.federation.complete(&room);
        }
    }
    Ok(())
}

impl Federation {
    /// Asks the server that lets us in for the room's members while what it gave without them is still looked at. Nothing if others
    /// have their turn. It is given up when what is given back is dropped.
    pub(super) fn ask_early(
        &self,
        node: &Arc<Node>,
        server: &ServerName,
        room: &RoomId,
        join: &EventId,
    ) -> Option<Early> {
        let turn = self.partial.asking.clone().try_acquire_owned().ok()?;
        let request = get_room_state::Request::new(join.to_owned(), room.to_owned());
        let (asking, server) = (node.clone(), server.to_owned());
        let ask = async move { asking.federation.client().request_large(&server, request, WHOLE_ROOM).await };
        let (task, answer) = ask.remote_handle();
        node.spawner.spawn("members of a room, early", task.boxed());
        Some(Early { turn, answer })
    }

    /// Fetches the members of a room that was joined without them, in the background.
    pub fn complete(&self, room_id: &RoomId) {
        self.complete_with(room_id, None);
    }

    /// The same where the members may be on their way.
    pub(super) fn complete_with(&self, room_id: &RoomId, early: Option<Early>) {
        let Ok(node) = self.node() else { return };
        let job = {
            let mut jobs = self.partial.lock();
            if jobs.contains_key(room_id) {
                return;
            }
            let job = Arc::new(Job::default());
            jobs.insert(room_id.to_owned(), job.clone());
            job
        };
        let spawner = node.spawner.clone();
        spawner.spawn("members of a room", run(node, room_id.to_owned(), job, early).boxed());
    }

    /// Waits until all members of a room are known here; at once if they are, or if the room is not.
    ///
    /// # Errors
    /// 504 when they have not come within two minutes.
    pub async fn whole(&self, room_id: &RoomId) -> Answer<()> {
        let node = self.node()?;
        let lacks = || {
            node.store.read(|read| match read::room_number(read, room_id.as_str())? {
                Some(number) => partial::is_partial(read, number),
                None => Ok(false),
            })
        };
        if !lacks()? {
            return Ok(());
        }
        self.complete(room_id);
        let ended = self.partial.lock().get(room_id).map(|job| job.ended.subscribe());
        if let Some(mut ended) = ended {
            let _ = timeout(&*node.clock, PATIENCE, ended.wait_for(|ended| *ended)).await;
        }
        if lacks()? { Err(not_whole()) } else { Ok(()) }
    }
}

/// What whoever needs all members of a room is told while they are not here.
pub(crate) fn not_whole() -> MatrixError {
    MatrixError::new(
        http::StatusCode::GATEWAY_TIMEOUT,
        "M_UNKNOWN",
        "the members of this room are still being fetched from its other servers; try again in a minute",
    )
}

async fn run(node: Arc<Node>, room_id: OwnedRoomId, job: Arc<Job>, mut early: Option<Early>) {
    let mut wait = FIRST_WAIT;
    loop {
        let attempt = match early.take() {
            Some(Early { turn, answer }) => {
                let _turn = turn;
                attempt(&node, &room_id, Some(answer.await)).await
            }
            None => {
                let Ok(_turn) = node.federation.partial.asking.acquire().await else { return };
                attempt(&node, &room_id, None).await
            }
        };
        match attempt {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => tracing::warn!(room = %room_id, %error, "the members of a room could not be stored"),
        }
        let jitter = node.rng.below(u64::try_from(wait.as_millis() / 2).unwrap_or(1));
        node.clock.sleep(LEAST_WAIT).await;
        tokio::select! {
            biased;
            () = job.kick.notified() => {}
            () = node.clock.sleep(wait + Duration::from_millis(jitter)) => {}
        }
        wait = wait.saturating_mul(2).min(LAST_WAIT);
    }
    node.federation.partial.lock().remove(&room_id);
    job.ended.send_replace(true);
    // The room may have been left and joined again this moment.
    let lacks = node.rooms.get(&room_id).ok().flatten().and_then(|room| room.uncompleted().ok().flatten());
    if lacks.is_some() {
        node.federation.complete(&room_id);
    }
}

/// Asks one server after the other for the whole state, unless the one that let us in has answered already. True when the room
/// lacks nothing any more.
async fn attempt(node: &Arc<Node>, room_id: &RoomId, early: Option<Given>) -> Answer<bool> {
    let Some(room) = node.rooms.get(room_id)? else { return Ok(true) };
    let Some(lacking) = room.uncompleted()? else { return Ok(true) };
    if let Some(answer) = early {
        let taken = match answer {
            Ok(given) => take_in(node, &room, &lacking.through, given).await,
            Err(error) => Err(error.into()),
        };
        match taken {
            Ok(()) => return Ok(true),
            Err(error) => tracing::info!(room = %room_id, %error, "the members of a room are asked for once more"),
        }
    }
    for server in servers_to_ask(node, &room, &lacking.through)? {
        match ask(node, &room, &server, &lacking).await {
            Ok(()) => return Ok(true),
            Err(error) if error.status == http::StatusCode::INTERNAL_SERVER_ERROR => return Err(error),
            Err(error) => {
                tracing::info!(room = %room_id, %server, %error, "a server does not give the members of a room")
            }
        }
    }
    Ok(false)
}

async fn ask(node: &Arc<Node>, room: &Room, server: &ServerName, lacking: &partial::Uncompleted) -> Answer<()> {
    let request = get_room_state::Request::new(lacking.join.event_id().to_owned(), room.id().to_owned());
    let given = node.federation.client().request_large(server, request, WHOLE_ROOM).await?;
    take_in(node, room, server, given).await
}

async fn take_in(
    node: &Arc<Node>,
    room: &Room,
    server: &ServerName,
    (answer, _place): (get_room_state::Response, Place),
) -> Answer<()> {
    let _turn = node.federation.partial.completing.acquire().await.map_err(MatrixError::internal)?;
    let checked = |pdus| pdus::check_set(node, room.id(), room.version(), pdus);
    let (state, auth_chain) = futures::future::try_join(checked(answer.pdus), checked(answer.auth_chain)).await?;
    let members = state.len();
    room.complete(auth_chain, state).await?;
    tracing::info!(room = %room.id(), %server, state = members, "a room has its members");
    Ok(())
}

/// The server that let us in, then the others of the room; of all these the reachable ones first.
fn servers_to_ask(node: &Arc<Node>, room: &Room, through: &ServerName) -> Answer<Vec<OwnedServerName>> {
    let others = node.store.read(|read| read::servers(read, room.number()))?;
    let connected = heads::connected_keys(node);
    let others = others.into_iter().filter_map(|name| OwnedServerName::try_from(name).ok());
    let mut servers: Vec<OwnedServerName> = std::iter::once(through.to_owned())
        .chain(others.filter(|name| name != through && name != node.server_name()))
        .collect();
    servers.sort_by_cached_key(|name| !heads::is_connected(&connected, name));
    servers.truncate(MOST_SERVERS);
    Ok(servers)
}
