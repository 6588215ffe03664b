//! How a room's changes are committed.

use std::sync::{Arc, atomic::Ordering};

use kith_mutants::mutant;
use kith_room::Event;
use kith_store::{
    Json, Pending,
    tables::rooms::{EventStatus, ParkedRow, PartialRow, ROOM_IDS, ROOMS, RoomRow},
};
use tokio::sync::MutexGuard;

use super::{
    change::{self, ChangeError},
    head::{self, Head},
    parking, partial,
    room::{Room, loaded},
};
use crate::http::{Answer, MatrixError};

/// What is stored with a change of a room's events.
#[derive(Default)]
pub(super) struct Beside {
    /// Events that wait for others, by ID.
    pub(super) parked: Vec<(String, ParkedRow)>,
    /// Right copies of events whose content did not match when they came.
    pub(super) copies: Vec<Arc<Event>>,
    /// The room is brought here by a join.
    pub(super) enters: bool,
    /// It is so without its members.
    pub(super) partial: Option<PartialRow>,
}

/// A change that waits to be committed.
pub(super) struct Submitted {
    pending: Pending<Vec<u64>, ChangeError>,
    /// Its number among the head's changes.
    count: u64,
    rejected: u64,
    soft_failed: u64,
}

impl Room {
    /// Submits a change, and lets the next author in. No snapshot may be held while [`Room::committed`] waits for it.
    pub(super) fn submit(
        &self,
        mut guard: MutexGuard<'_, Option<Head>>,
        change: head::Draft<'_>,
        beside: Beside,
    ) -> Answer<Submitted> {
        let submitted = self.submit_first(loaded(&mut guard)?, change, beside);
        if submitted.is_err() {
            // The head has gone on to what will not be stored.
            *guard = None;
        }
        submitted
    }

    /// Submits a change that another one by the same author follows. When this fails the head must be given up.
    pub(super) fn submit_first(&self, head: &mut Head, change: head::Draft<'_>, beside: Beside) -> Answer<Submitted> {
        let change = change.finish(head, self.version())?;
        let count = head.at.changes;
        let us = self.parts.us.clone();
        let of_status = |status| change.events.iter().filter(|event| event.status == status).count() as u64;
        let (rejected, soft_failed) = (of_status(EventStatus::Rejected), of_status(EventStatus::SoftFailed));
        let (id, version) = (self.shared.id.to_string(), self.shared.version.to_string());
        let pending = self.parts.store.submit(move |tx| {
            match ROOMS.get(tx, &change.room)? {
                None => {
                    let row = RoomRow {
                        room_id: id.clone(),
                        version,
                        joined: false,
                        state: 0,
                        depth: 0,
                        changes: change.built_on,
                        begin: 0,
                        completed: 0,
                    };
                    ROOM_IDS.put(tx, &id, &change.room)?;
                    ROOMS.put(tx, &change.room, &Json(row))?;
                }
                // What an invite said of the room did not hold.
                Some(Json(mut row)) if row.changes == 0 && row.version != version => {
                    row.version = version;
                    ROOMS.put(tx, &change.room, &Json(row))?;
                }
                Some(_) => {}
            }
            if beside.enters {
                partial::end(tx, change.room)?;
            }
            if let Some(row) = beside.partial {
                partial::begin(tx, change.room, row)?;
            }
            parking::park(tx, change.room, beside.parked)?;
            for copy in beside.copies {
                change::mend(tx, change.room, copy.event_id().as_str(), copy.text().to_owned())?;
            }
            change::store(tx, &us, &change)
        });
        Ok(Submitted { pending, count, rejected, soft_failed })
    }

    /// Waits for the commit.
    pub(super) async fn committed(&self, submitted: Submitted) -> Answer<()> {
        if mutant!("acknowledges-before-commit") {
            return Ok(());
        }
        let result = submitted.pending.await;
        let mut guard = self.shared.head.lock().await;
        match result {
            Ok(_) => {
                self.parts.counts.rejected.fetch_add(submitted.rejected, Ordering::Relaxed);
                self.parts.counts.soft_failed.fetch_add(submitted.soft_failed, Ordering::Relaxed);
                if let Some(head) = guard.as_mut() {
                    head.recent.release(submitted.count);
                }
                Ok(())
            }
            Err(error) => {
                // Everything submitted after this change was built on it and fails as well.
                if !mutant!("keeps-head-of-failed-commit") {
                    *guard = None;
                }
                drop(guard);
                Err(match error {
                    ChangeError::Store(error) => error.into(),
                    error @ (ChangeError::Stale | ChangeError::Taken) => MatrixError::internal(error),
                })
            }
        }
    }
}
