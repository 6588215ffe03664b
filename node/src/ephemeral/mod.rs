//! What passes: who is typing, who has read how far, who is there. Receipts are stored, the rest lives in memory and is
//! counted by a serial that sync tokens carry.

pub mod presence;
pub mod receipts;
pub mod typing;

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use kith_store::{Read, StoreError, tables::rooms::ROOM_SERVERS};
use ruma::{OwnedServerName, ServerName};
use tokio::sync::Notify;

use crate::platform::Rng;

/// What is in memory of these.
#[derive(Debug)]
pub struct Ephemeral {
    /// Tells serials of this run from those before a restart.
    run: u64,
    serial: AtomicU64,
    bell: Notify,
    typing: Mutex<typing::Typing>,
    presence: Mutex<presence::Presence>,
}

impl Ephemeral {
    /// Nobody types, nobody is there.
    pub fn new(rng: &Rng) -> Self {
        // Small enough to read in a token.
        Self {
            run: rng.u64() >> 32,
            serial: AtomicU64::new(0),
            bell: Notify::new(),
            typing: Mutex::default(),
            presence: Mutex::default(),
        }
    }

    /// The run that serials belong to.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// The serial of the latest change.
    pub fn serial(&self) -> u64 {
        self.serial.load(Ordering::Acquire)
    }

    fn next(&self) -> u64 {
        let serial = self.serial.fetch_add(1, Ordering::AcqRel) + 1;
        self.bell.notify_waiters();
        serial
    }

    /// Waits for the next change after this call.
    pub fn changed(&self) -> impl Future<Output = ()> + '_ {
        self.bell.notified()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The other servers of a room.
fn other_servers(read: &dyn Read, us: &ServerName, room: u64) -> Result<Vec<OwnedServerName>, StoreError> {
    let mut servers = Vec::new();
    for row in ROOM_SERVERS.prefix(read, &room)? {
        let ((_, server), _) = row?;
        if server != us.as_str()
            && let Ok(server) = OwnedServerName::try_from(server)
        {
            servers.push(server);
        }
    }
    Ok(servers)
}
