//! One room's author: takes what users and servers want to add, judges it, stores it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use kith_mutants::mutant;
use kith_room::{BuildError, CreateError, Event, Outcome, Signer, StateMap};
use kith_store::{
    Snapshot,
    tables::rooms::{EVENT_IDS, EventStatus, PARKED, ParkedRow, ROOMS},
};
use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, RoomId, RoomVersionId, UInt,
    room_version_rules::RoomVersionRules,
};
use tokio::sync::{Mutex, MutexGuard};

use super::{
    Draft, Parts, Received,
    commit::Beside,
    head::{self, Head, Manner},
    source::Past,
};
use crate::{
    federation::partial::not_whole,
    http::{Answer, MatrixError},
    platform::Clock,
};

/// How events of another server are taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taking {
    /// What lacks others, or the signature of the room's policy server, waits for them on disk.
    Parking,
    /// What lacks others is not kept.
    AtOnce,
    /// The policy server will not sign it.
    Unsigned,
    /// It is sent on to the other servers, or refused.
    ForOthers {
        /// Device and transaction ID of a client's request that made it.
        transaction: Option<(String, String)>,
    },
}

/// A handle to one room. Cheap to clone; all handles of a room share its head.
#[derive(Clone)]
pub struct Room {
    pub(super) shared: Arc<Shared>,
    pub(super) parts: Arc<Parts>,
}

pub(super) struct Shared {
    pub(super) id: OwnedRoomId,
    pub(super) number: u64,
    pub(super) version: RoomVersionId,
    pub(super) rules: RoomVersionRules,
    pub(super) head: Mutex<Option<Head>>,
    /// When it was used last, in milliseconds of the monotonic clock.
    pub(super) used: AtomicU64,
}

impl Shared {
    pub(super) fn used(&self, clock: &dyn Clock) {
        let now = u64::try_from(clock.monotonic().as_millis()).unwrap_or(u64::MAX);
        self.used.store(now, Ordering::Relaxed);
    }
}

impl Room {
    /// The room's ID.
    pub fn id(&self) -> &RoomId {
        &self.shared.id
    }

    /// The number it has in the store.
    pub fn number(&self) -> u64 {
        self.shared.number
    }

    /// Whether somebody of ours is in it.
    ///
    /// # Errors
    /// The store's.
    pub fn is_joined(&self) -> Answer<bool> {
        Ok(self.parts.store.read(|snapshot| super::read::room(snapshot, self.number()))?.is_some_and(|row| row.joined))
    }

    /// Its version.
    pub fn version(&self) -> &RoomVersionId {
        &self.shared.version
    }

    /// The rules of its version.
    pub fn rules(&self) -> &RoomVersionRules {
        &self.shared.rules
    }

    /// Adds one event of a local user. It is committed when this returns.
    ///
    /// # Errors
    /// `M_FORBIDDEN` with the rule that forbids it, `M_TOO_LARGE`, `M_BAD_JSON`, or what the store says.
    pub async fn send(&self, draft: Draft) -> Answer<OwnedEventId> {
        let ids = self.send_many(vec![draft]).await?;
        ids.into_iter().next().ok_or_else(|| MatrixError::internal("an event was sent without an ID"))
    }

    /// Adds events of local users, all or none; in a room with a policy server one after the other, until one is refused.
    pub async fn send_many(&self, drafts: Vec<Draft>) -> Answer<Vec<OwnedEventId>> {
        let mut guard = self.head().await?;
        let head = loaded(&mut guard)?;
        let snapshot = self.parts.store.snapshot()?;
        if head.at.engine.current_id("m.room.policy", "").is_some() {
            drop(guard);
            return self.send_signed(drafts).await;
        }
        let before = head.at.clone();
        let mut draft = head::Draft::new(self.number(), self.rules(), head, &self.parts.store, &snapshot);
        if let Err(error) = self.write(head, &mut draft, drafts) {
            head.recent.forget(&draft.ids);
            head.at = before;
            return Err(error);
        }
        let ids = draft.ids.clone();
        let submitted = self.submit(guard, draft, Beside::default())?;
        drop(snapshot);
        self.committed(submitted).await?;
        Ok(ids)
    }

    pub(super) fn write(&self, head: &mut Head, change: &mut head::Draft<'_>, drafts: Vec<Draft>) -> Answer<()> {
        for mut draft in drafts {
            self.check_whole(head, &draft)?;
            let manner = Manner { ours: true, transaction: draft.transaction.take() };
            let now = draft.timestamp.unwrap_or_else(|| self.parts.clock.now_ms());
            let builder = draft.builder(Some(self.shared.id.clone()))?;
            let past = Past::new(self.number(), self.rules(), &head.recent, change.read);
            let verdict = head
                .at
                .engine
                .create_local(builder, timestamp(now), self.parts.draw(), self.signer(), &past)
                .map_err(refusal)?;
            let loaded = past.loaded.into_inner();
            head.recent.absorb(loaded);
            change.take(head, &verdict, manner)?;
        }
        Ok(())
    }

    /// While the members of the room are not here, a membership that is not known may be a ban, which a new one would lift.
    pub(super) fn check_whole(&self, head: &Head, draft: &Draft) -> Answer<()> {
        let engine = &head.at.engine;
        let user = draft.state_key.as_ref().filter(|_| draft.kind == "m.room.member");
        match user {
            Some(user) if engine.is_partial() && engine.current_id(&draft.kind, user).is_none() => Err(not_whole()),
            _ => Ok(()),
        }
    }

    /// Takes events of another server in, whose format, hashes and signatures were checked. They are committed or
    /// parked when this returns, in the order given.
    pub async fn receive(&self, origin: &str, events: Vec<Arc<Event>>) -> Answer<Vec<(OwnedEventId, Received)>> {
        self.take_in(origin, events, Taking::Parking).await
    }

    /// As [`Room::receive`], from a server of which too many events wait already: what would have to wait is not kept.
    pub async fn receive_without_parking(
        &self,
        origin: &str,
        events: Vec<Arc<Event>>,
    ) -> Answer<Vec<(OwnedEventId, Received)>> {
        self.take_in(origin, events, Taking::AtOnce).await
    }

    /// As [`Room::receive`], for the join, leave or knock that this node lets in and sends on to the other servers.
    /// It is refused, not stored, unless it is accepted.
    pub async fn receive_for_others(&self, origin: &str, event: Arc<Event>) -> Answer<()> {
        self.take_own(origin, event, Taking::ForOthers { transaction: None }).await
    }

    /// As [`Room::receive`], for an event that the room's policy server will not sign: it is not shown.
    pub async fn receive_unsigned(&self, origin: &str, event: Arc<Event>) -> Answer<()> {
        self.take_in(origin, vec![event], Taking::Unsigned).await?;
        Ok(())
    }

    pub(super) async fn take_own(&self, origin: &str, event: Arc<Event>, taking: Taking) -> Answer<()> {
        let results = self.take_in(origin, vec![event], taking).await?;
        match results.into_iter().next() {
            Some((_, Received::Accepted)) => Ok(()),
            // It may have come before on another way, and not have been allowed then.
            Some((id, Received::Known)) if self.is_accepted(&id).await? => Ok(()),
            Some((_, Received::Known)) => Err(MatrixError::forbidden("the event was not allowed when it came before")),
            Some((_, Received::Hidden(reason) | Received::Refused(reason))) => Err(MatrixError::forbidden(reason)),
            _ => Err(MatrixError::bad_request("the event builds on events that are not known here")),
        }
    }

    async fn is_accepted(&self, id: &EventId) -> Answer<bool> {
        let guard = self.head().await?;
        let snapshot = self.parts.store.snapshot()?;
        let recent = &guard.as_ref().ok_or_else(unloaded)?.recent;
        let past = Past::new(self.number(), self.rules(), recent, &snapshot);
        let known = past.known(id).map_err(MatrixError::internal)?;
        Ok(known.is_some_and(|known| known.status == EventStatus::Accepted))
    }

    async fn take_in(
        &self,
        origin: &str,
        events: Vec<Arc<Event>>,
        taking: Taking,
    ) -> Answer<Vec<(OwnedEventId, Received)>> {
        let (ours, mut transaction) = match &taking {
            Taking::ForOthers { transaction } => (true, transaction.clone()),
            _ => (false, None),
        };
        let park = |event: &Event, now: u64| {
            let (pdu, stripped) = (event.text().to_owned(), event.redacted());
            let row = ParkedRow { origin: origin.to_owned(), pdu, stripped, since: now, tries: 0 };
            (event.event_id().to_string(), row)
        };
        let mut guard = self.head().await?;
        let head = loaded(&mut guard)?;
        let snapshot = self.parts.store.snapshot()?;
        let before = head.at.clone();
        let mut change = head::Draft::new(self.number(), self.rules(), head, &self.parts.store, &snapshot);
        let mut results = Vec::with_capacity(events.len());
        let mut parked = Vec::new();
        let mut copies = Vec::new();
        let now = self.parts.clock.now_ms();
        for event in events {
            let id = event.event_id().to_owned();
            let outcome = {
                let past = Past::new(self.number(), self.rules(), &head.recent, &snapshot);
                let outcome = match past.is_elsewhere(&id) {
                    Ok(false) => head.at.engine.handle_pdu(event.clone(), &past),
                    Ok(true) => Ok(Outcome::Refused { reason: "an event of another room has this ID".to_owned() }),
                    Err(error) => Err(error.into()),
                };
                let loaded = past.loaded.into_inner();
                outcome.map(|outcome| (outcome, loaded))
            };
            let result = match outcome {
                Ok((outcome, loaded)) => {
                    head.recent.absorb(loaded);
                    match outcome {
                        Outcome::Duplicate => {
                            match head.recent.is_stripped(&id, &snapshot) {
                                Ok(stripped) if stripped && !event.redacted() && !mutant!("ignores-right-copy") => {
                                    copies.push(event);
                                }
                                Ok(_) => {}
                                Err(error) => {
                                    head.recent.forget(&change.ids);
                                    head.at = before;
                                    return Err(error.into());
                                }
                            }
                            Received::Known
                        }
                        Outcome::Refused { reason } => Received::Refused(reason),
                        Outcome::Missing { prev, auth } if taking != Taking::Parking => Received::Parked { prev, auth },
                        Outcome::Missing { prev, auth } => {
                            parked.push(park(&event, now));
                            Received::Parked { prev, auth }
                        }
                        // The policy server is asked before it is settled that it did not sign.
                        Outcome::Verdict(verdict)
                            if verdict.unsigned_by.is_some() && matches!(taking, Taking::Parking | Taking::AtOnce) =>
                        {
                            if taking == Taking::Parking {
                                parked.push(park(&event, now));
                            }
                            Received::Parked { prev: Vec::new(), auth: Vec::new() }
                        }
                        Outcome::Verdict(verdict) => {
                            let reason = verdict.decision.reason().map(str::to_owned);
                            match reason {
                                Some(reason) if ours => Received::Refused(reason),
                                reason => {
                                    let manner = Manner { ours, transaction: transaction.take() };
                                    if let Err(error) = change.take(head, &verdict, manner) {
                                        head.recent.forget(&change.ids);
                                        head.at = before;
                                        return Err(error);
                                    }
                                    reason.map_or(Received::Accepted, Received::Hidden)
                                }
                            }
                        }
                    }
                }
                // The store failed, not the event: the other server must keep it.
                Err(error) if error.is_of_source() => {
                    head.recent.forget(&change.ids);
                    head.at = before;
                    return Err(MatrixError::internal(error));
                }
                Err(error) => Received::Refused(error.to_string()),
            };
            results.push((id, result));
        }
        copies.iter().for_each(|copy| head.recent.mend(copy));
        if change.is_empty() && parked.is_empty() && copies.is_empty() {
            let on_its_way = results.iter().any(|(id, _)| head.recent.is_uncommitted(id));
            drop(guard);
            if on_its_way {
                self.settle().await?;
                let ids = results.iter().filter(|(_, result)| *result == Received::Known).map(|(id, _)| id);
                if !self.not_stored(ids)?.is_empty() {
                    return Err(MatrixError::internal("a commit failed that held the same event"));
                }
            }
            return Ok(results);
        }
        let submitted = self.submit(guard, change, Beside { parked, copies, ..Beside::default() })?;
        drop(snapshot);
        self.committed(submitted).await?;
        Ok(results)
    }

    /// The parked events of the room, oldest first.
    pub fn parked(&self, read: &Snapshot) -> Answer<Vec<(String, ParkedRow)>> {
        let mut rows = Vec::new();
        for row in PARKED.prefix(read, &self.number())? {
            let ((_, id), row) = row?;
            rows.push((id, row.0));
        }
        rows.sort_by_key(|(_, row)| row.since);
        Ok(rows)
    }

    /// Runs `ask` on the engine's room and its past: for templates (`make_join`), power levels and the like.
    pub async fn with_engine<T>(
        &self,
        ask: impl FnOnce(&kith_room::Room, &dyn kith_room::Source) -> Answer<T>,
    ) -> Answer<T> {
        let mut guard = self.head().await?;
        let head = loaded(&mut guard)?;
        let snapshot = self.parts.store.snapshot()?;
        let past = Past::new(self.number(), self.rules(), &head.recent, &snapshot);
        ask(&head.at.engine, &past)
    }

    /// A stored state with event IDs, as the engine takes it.
    pub fn state_map(&self, read: &Snapshot, state: u64) -> Answer<StateMap> {
        let recent = super::source::Recent::default();
        Past::new(self.number(), self.rules(), &recent, read).state(state).map_err(MatrixError::internal)
    }

    /// This server's name and key.
    pub fn signer(&self) -> Signer<'_> {
        self.parts.signer()
    }

    /// Which of these are not on disk.
    fn not_stored<'a>(&self, ids: impl Iterator<Item = &'a OwnedEventId>) -> Answer<Vec<&'a OwnedEventId>> {
        let snapshot = self.parts.store.snapshot()?;
        let mut missing = Vec::new();
        for id in ids {
            if !EVENT_IDS.contains(&snapshot, &id.to_string())? {
                missing.push(id);
            }
        }
        Ok(missing)
    }

    /// Locks the head, loading it if need be.
    pub(super) async fn head(&self) -> Answer<MutexGuard<'_, Option<Head>>> {
        let mut guard = self.shared.head.lock().await;
        if guard.is_none() {
            self.settle().await?;
            let snapshot = self.parts.store.snapshot()?;
            let row = ROOMS
                .get(&snapshot, &self.number())?
                .ok_or_else(|| MatrixError::not_found("this room is not known here"))?
                .0;
            *guard = Some(Head::load(self.number(), &row, self.version(), self.id(), self.rules(), &snapshot)?);
        }
        Ok(guard)
    }

    /// Waits until all changes submitted so far are committed or have failed, so that the store shows the last word.
    pub(super) async fn settle(&self) -> Answer<()> {
        self.parts.store.write(|_| Ok::<(), kith_store::StoreError>(())).await?;
        Ok(())
    }
}

pub(super) fn loaded<'a>(guard: &'a mut MutexGuard<'_, Option<Head>>) -> Answer<&'a mut Head> {
    guard.as_mut().ok_or_else(unloaded)
}

fn unloaded() -> MatrixError {
    MatrixError::internal("a room's head is not loaded")
}

/// Unix milliseconds as Matrix has them.
pub fn timestamp(ms: u64) -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(UInt::new_saturating(ms))
}

/// What a client is told when the engine will not have its event.
pub(super) fn refusal(error: CreateError) -> MatrixError {
    match error {
        CreateError::Forbidden(reason) => MatrixError::forbidden(reason),
        error @ CreateError::Unsigned { .. } => MatrixError::forbidden(error.to_string()),
        CreateError::Build(BuildError::Content(reason)) => MatrixError::bad_json(reason),
        CreateError::Build(error @ BuildError::UnknownVersion(_)) => MatrixError::internal(error),
        CreateError::Build(error) => MatrixError::too_large(error.to_string()),
        CreateError::Engine(error) => MatrixError::internal(error),
    }
}
