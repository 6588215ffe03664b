//! Rooms: the one place where rooms change.
//!
//! [`Rooms`] hands out a [`Room`] per room; its head (extremities, current state) sits behind a fair lock, so each room
//! has one author of its changes at a time. Under the lock a change is built and judged by the sans-IO engine
//! (`kith_room`) against the head as it will be once earlier changes are committed, and submitted to the store's
//! writer; the answer is awaited outside the lock, so changes of one room pipeline. If a commit fails, the head is
//! dropped and loaded anew.
//!
//! Reading never takes the lock: see [`read`].

mod addressees;
mod change;
pub mod client_event;
mod commit;
pub mod create;
pub mod directory;
mod draft;
pub mod filter;
mod given;
mod head;
mod history;
mod members;
pub mod parking;
pub mod partial;
mod policy;
pub mod power;
pub mod read;
mod redaction;
pub mod relations;
pub(crate) mod retention;
mod room;
pub mod search;
mod source;
pub mod spaces;
pub mod states;
#[cfg(test)]
mod tests;
pub mod timeline;
pub(crate) mod transactions;
pub mod visibility;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kith_room::local::{Citing, Draw};
use kith_room::{Signer, format};
use kith_store::{
    Store,
    tables::rooms::{ROOM_IDS, ROOMS},
};
use ruma::{OwnedRoomId, OwnedServerName, RoomId, RoomVersionId, signatures::Ed25519KeyPair};

pub use self::draft::{Draft, Received};
pub use self::history::GivenState;
pub use self::parking::MAX_PARKED;
pub use self::policy::PolicyServers;
pub use self::room::{Room, timestamp};
pub use self::visibility::DUMMY_EVENT;
use self::{change::Us, commit::Beside, head::Head, room::Shared};
use crate::{
    http::{Answer, MatrixError},
    platform::{Clock, Rng},
};

/// How many rooms keep their head in memory while nobody uses them, and for how long after they were used.
const KEPT: usize = 64;
const KEPT_FOR: Duration = Duration::from_secs(300);
/// How often it is looked for rooms that nobody uses any more.
const LOOK: Duration = Duration::from_secs(60);

/// What rooms are given.
pub(crate) struct Parts {
    store: Store,
    clock: Arc<dyn Clock>,
    rng: Rng,
    citing: OnceLock<Citing>,
    server_name: OwnedServerName,
    key: Arc<Ed25519KeyPair>,
    us: Us,
    policy_servers: OnceLock<Arc<dyn PolicyServers>>,
    counts: Counts,
}

/// What other servers sent and the rooms did not allow, since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Events that break the rules, stored as such.
    pub rejected: AtomicU64,
    /// Events that broke the rules only when they came.
    pub soft_failed: AtomicU64,
}

impl Parts {
    fn draw(&self) -> Draw {
        Draw { random: self.rng.u64(), citing: self.citing.get().copied().unwrap_or_default() }
    }

    fn signer(&self) -> Signer<'_> {
        Signer { server_name: &self.server_name, key: &self.key }
    }
}

/// All rooms of the node.
pub struct Rooms {
    parts: Arc<Parts>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    rooms: BTreeMap<OwnedRoomId, Weak<Shared>>,
    /// The rooms used lately. Others are in memory only as long as somebody holds them.
    lately: Vec<Arc<Shared>>,
}

impl Known {
    fn forget(&mut self, room_id: &RoomId) {
        self.rooms.remove(room_id);
        self.lately.retain(|shared| shared.id != room_id);
    }
}

impl Rooms {
    /// Rooms over a store, signed for by `key` in the name of `server_name`.
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        rng: Rng,
        server_name: OwnedServerName,
        key: Arc<Ed25519KeyPair>,
    ) -> Self {
        let us = Us { server: server_name.to_string() };
        Self {
            parts: Arc::new(Parts {
                store,
                clock,
                rng,
                server_name,
                key,
                us,
                policy_servers: OnceLock::new(),
                citing: OnceLock::new(),
                counts: Counts::default(),
            }),
            known: Mutex::default(),
        }
    }

    /// Says who asks the policy servers of rooms. Until then nothing can be sent into rooms that have one.
    pub fn ask_policy_servers(&self, by: Arc<dyn PolicyServers>) {
        // Whoever was first stays: there is one node.
        let _ = self.parts.policy_servers.set(by);
    }

    /// Says which extremities the events made here follow; the engine's own choice if nobody does.
    pub fn cite(&self, citing: Citing) {
        let _ = self.parts.citing.set(citing);
    }

    /// What was stored and is shown to nobody.
    pub fn counts(&self) -> &Counts {
        &self.parts.counts
    }

    /// A room that is known here, joined or not.
    pub fn get(&self, room_id: &RoomId) -> Answer<Option<Room>> {
        if let Some(room) = self.remembered(room_id) {
            return Ok(Some(room));
        }
        let found = self.parts.store.read(|read| {
            let Some(number) = ROOM_IDS.get(read, &room_id.to_string())? else { return Ok(None) };
            Ok::<_, MatrixError>(ROOMS.get(read, &number)?.map(|row| (number, row.0)))
        })?;
        let Some((number, row)) = found else { return Ok(None) };
        let version = version(&row.version)?;
        self.remember(room_id, number, &version).map(Some)
    }

    /// A room that must be known here, else `M_NOT_FOUND`.
    pub fn require(&self, room_id: &RoomId) -> Answer<Room> {
        self.get(room_id)?.ok_or_else(|| MatrixError::not_found("this room is not known here"))
    }

    /// A handle for a room that may not be known yet: for bringing it here by a join. The version of a room of which nothing
    /// but an invite came is hearsay, and gives way.
    pub fn get_or_new(&self, room_id: &RoomId, version: &RoomVersionId) -> Answer<Room> {
        match self.get(room_id)? {
            Some(room) if room.version() == version => Ok(room),
            Some(room) if self.is_hearsay(&room)? => {
                // While a join is bringing the room here, what is said of it is settled.
                let Ok(head) = room.shared.head.try_lock() else {
                    return Err(MatrixError::bad_request("this room is just being joined"));
                };
                if head.is_none() && self.is_hearsay(&room)? {
                    self.known.lock().unwrap_or_else(PoisonError::into_inner).forget(room_id);
                    return self.remember(room_id, room.number(), version);
                }
                Err(other_version(&room, version))
            }
            Some(room) => Err(other_version(&room, version)),
            None => self.remember(room_id, self.parts.store.allocate(kith_store::Counter::Room), version),
        }
    }

    /// Makes a room of its first events, all in one commit. The first draft is the create event's; for versions before
    /// 12 `room_id` must be given, from 12 on it follows from that event. Gives the room.
    ///
    /// # Errors
    /// `M_UNSUPPORTED_ROOM_VERSION`, or what [`Room::send`] says of one of the events; nothing is stored then.
    pub async fn create(
        &self,
        version: &RoomVersionId,
        room_id: Option<OwnedRoomId>,
        drafts: impl FnOnce(&RoomId) -> Vec<Draft>,
        create: Draft,
    ) -> Answer<Room> {
        let mut at = create.timestamp.unwrap_or_else(|| self.parts.clock.now_ms());
        let builder = create.builder(room_id)?;
        // From version 12 on, equal create events of one millisecond would be one room: the later waits a millisecond.
        let mut attempts = 0;
        let (engine, verdict, room) = loop {
            let (engine, verdict) =
                kith_room::Room::create(version, builder.clone(), timestamp(at), self.parts.signer())
                    .map_err(room::refusal)?;
            let id = engine.room_id();
            if self.get(id)?.is_none() {
                let number = self.parts.store.allocate(kith_store::Counter::Room);
                let room = self.remember(id, number, version)?;
                // Whoever got the handle first makes the room.
                if room.number() == number {
                    break (engine, verdict, room);
                }
            }
            attempts += 1;
            at += 1;
            if builder.room_id.is_some() || attempts > 1_000 {
                return Err(MatrixError::bad_request("a room with this ID exists already"));
            }
        };
        let id = room.id().to_owned();
        let mut guard = room.shared.head.lock().await;
        let mut head = Head::empty(version, &id)?;
        head.at.engine = engine;
        let snapshot = self.parts.store.snapshot()?;
        let mut change = head::Draft::new(room.number(), room.rules(), &head, &self.parts.store, &snapshot);
        change.take(&mut head, &verdict, head::Manner { ours: true, transaction: None })?;
        room.write(&mut head, &mut change, drafts(&id))?;
        *guard = Some(head);
        let submitted = room.submit(guard, change, Beside::default())?;
        drop(snapshot);
        room.committed(submitted).await?;
        Ok(room)
    }

    /// A fresh room ID for versions before 12.
    pub fn new_room_id(&self) -> OwnedRoomId {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let local: String = (0..18).map(|_| char::from(*self.parts.rng.pick(LETTERS).unwrap_or(&b'A'))).collect();
        RoomId::parse(format!("!{local}:{}", self.parts.server_name))
            .unwrap_or_else(|_| unreachable!("letters and a server name make a room ID"))
    }

    /// Lets go of the rooms that nobody has used for some minutes: their heads are read from the store when they are needed again.
    pub fn drop_idle(&self) {
        let now = self.parts.clock.monotonic();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let in_use = |room: &Arc<Shared>| now < Duration::from_millis(room.used.load(Ordering::Relaxed)) + KEPT_FOR;
        known.lately.retain(in_use);
        known.rooms.retain(|_, room| room.strong_count() > 0);
    }

    /// How many rooms are in memory.
    pub fn in_memory(&self) -> usize {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.rooms.values().filter(|room| room.strong_count() > 0).count()
    }

    fn is_hearsay(&self, room: &Room) -> Answer<bool> {
        let row = self.parts.store.read(|read| ROOMS.get(read, &room.number()))?;
        Ok(row.is_none_or(|row| row.0.changes == 0))
    }

    fn remembered(&self, room_id: &RoomId) -> Option<Room> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = known.rooms.get(room_id)?.upgrade()?;
        shared.used(&*self.parts.clock);
        Some(Room { shared, parts: self.parts.clone() })
    }

    fn remember(&self, room_id: &RoomId, number: u64, version: &RoomVersionId) -> Answer<Room> {
        let rules = format::rules(version).ok_or_else(|| unsupported(version.as_str()))?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Two may look for the same room at once; both must get the same head.
        let shared = match known.rooms.get(room_id).and_then(Weak::upgrade) {
            Some(shared) => shared,
            None => {
                let shared = Arc::new(Shared {
                    id: room_id.to_owned(),
                    number,
                    version: version.clone(),
                    rules,
                    head: tokio::sync::Mutex::new(None),
                    used: AtomicU64::new(0),
                });
                known.rooms.insert(room_id.to_owned(), Arc::downgrade(&shared));
                shared
            }
        };
        shared.used(&*self.parts.clock);
        if !known.lately.iter().any(|other| Arc::ptr_eq(other, &shared)) {
            known.lately.push(shared.clone());
        }
        if known.lately.len() > KEPT {
            let longest_ago = known.lately.iter().enumerate().min_by_key(|(_, room)| room.used.load(Ordering::Relaxed));
            if let Some((index, _)) = longest_ago {
                known.lately.swap_remove(index);
            }
            known.rooms.retain(|_, room| room.strong_count() > 0);
        }
        Ok(Room { shared, parts: self.parts.clone() })
    }
}

/// Drops idle rooms now and then, until the node is gone.
pub(crate) async fn run_idle(node: std::sync::Weak<crate::Node>) {
    loop {
        let Some(strong) = node.upgrade() else { return };
        strong.rooms.drop_idle();
        let sleep = strong.clock.sleep(LOOK);
        drop(strong);
        sleep.await;
    }
}

impl fmt::Debug for Rooms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rooms").finish_non_exhaustive()
    }
}

fn version(text: &str) -> Answer<RoomVersionId> {
    RoomVersionId::try_from(text).map_err(|_| unsupported(text))
}

fn other_version(room: &Room, version: &RoomVersionId) -> MatrixError {
    MatrixError::bad_request(format!("this room is known here with version {}, not {version}", room.version()))
}

fn unsupported(version: &str) -> MatrixError {
    MatrixError::new(
        http::StatusCode::BAD_REQUEST,
        "M_UNSUPPORTED_ROOM_VERSION",
        format!("room version {version} is not supported here"),
    )
}
