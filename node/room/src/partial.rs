//! Rooms that are joined before their members are known.
//!
//! A server that is asked to (`omit_members`) leaves the memberships out of its answer to `send_join`:
//! <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid>. Such a room has *partial*
//! states. While it has, an event's own auth events stand in for the memberships that its state lacks
//! ([`crate::Room::set_partial`]): what it cites has been checked, though it need not be the last word. When the whole state
//! has been fetched, [`complete`] judges all that came since the join anew, in the order in which it came, as if the
//! members had been known from the start.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::{EventId, OwnedEventId, RoomVersionId};

use crate::{
    engine::{Placement, Room, Verdict, unique},
    event::{Event, EventNumber},
    join::{CheckedState, JoinError, SendJoin, handle_send_join},
    resolve::resolve_with,
    source::{Memo, Source, SourceError, Status},
    state::StateMap,
};

/// Whether a state holds the memberships.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Members {
    /// All of them.
    Whole,
    /// None, or only some.
    Omitted,
}

/// An event that was judged by a partial state.
#[derive(Debug, Clone)]
pub struct Passed {
    /// The event.
    pub event: Arc<Event>,
    /// Where it was put.
    pub placement: Placement,
    /// The state before it, where another server gave that: then it was never partial.
    pub given: Option<StateMap>,
}

/// A room whose states are whole.
#[derive(Debug, Clone)]
pub struct Completion {
    /// The room before the join event; apply the verdicts in turn to go on from it.
    pub room: Room,
    /// Outliers, to be stored first.
    pub checked: CheckedState,
    /// The join, and then all that came after it, in that order.
    pub verdicts: Vec<Verdict>,
}

/// Judges a join and what `passed` after it, in the order in which it came, by the whole state before the join, of which
/// `auth_chain` and `state` are the events. All have passed [`crate::receive::receive`]. `source` knows what the node has.
///
/// # Errors
///
/// As [`handle_send_join`]. The room stays partial, and another server may do better.
pub fn complete(
    version: &RoomVersionId,
    auth_chain: Vec<Arc<Event>>,
    state: Vec<Arc<Event>>,
    join: Arc<Event>,
    passed: Vec<Passed>,
    source: &dyn Source,
) -> Result<Completion, JoinError> {
    let SendJoin { room, checked, verdict } =
        handle_send_join(version, auth_chain, state, join, Members::Whole, source)?;
    let stored = checked.overlay(source);
    let waiting = passed.iter().map(|passed| passed.event.event_id().to_owned()).collect();
    let mut replay = Replay { base: &stored, judged: BTreeMap::new(), waiting };
    let mut engine = room.clone();
    let mut verdicts = Vec::with_capacity(passed.len().saturating_add(1));
    engine.apply(&verdict)?;
    replay.add(&verdict);
    verdicts.push(verdict);
    for event in passed {
        let verdict = engine.judge_anew(event, &replay)?;
        engine.apply(&verdict)?;
        replay.add(&verdict);
        verdicts.push(verdict);
    }
    Ok(Completion { room, checked, verdicts })
}

impl Room {
    fn judge_anew(&self, passed: Passed, source: &dyn Source) -> Result<Verdict, JoinError> {
        let memo = Memo::new(source);
        let state_before = match passed.given {
            Some(state) => state,
            None => {
                let mut states = Vec::new();
                for id in unique(passed.event.prev_events()) {
                    states.extend(self.state_after(id, source)?);
                }
                resolve_with(self.rules(), &states, &memo).map_err(crate::EngineError::from)?
            }
        };
        Ok(self.judge(passed.event, state_before, passed.placement, &memo)?)
    }
}

/// The source as it was at the join, and what has been judged anew since.
struct Replay<'a> {
    base: &'a dyn Source,
    judged: BTreeMap<OwnedEventId, (Status, StateMap)>,
    /// What the source has judged by a partial state.
    waiting: BTreeSet<OwnedEventId>,
}

impl Replay<'_> {
    fn add(&mut self, verdict: &Verdict) {
        let id = verdict.event.event_id();
        self.waiting.remove(id);
        self.judged.insert(id.to_owned(), (verdict.status(), verdict.state_after.clone()));
    }
}

impl Source for Replay<'_> {
    fn event(&self, id: &EventId) -> Result<Option<Arc<Event>>, SourceError> {
        self.base.event(id)
    }

    fn status(&self, id: &EventId) -> Result<Option<Status>, SourceError> {
        match self.judged.get(id) {
            Some((status, _)) => Ok(Some(*status)),
            // It has no place yet. What was not allowed by its auth events was not without one either.
            None if self.waiting.contains(id) => Ok(match self.base.status(id)? {
                Some(Status::Rejected) => Some(Status::Rejected),
                _ => Some(Status::Outlier),
            }),
            None => self.base.status(id),
        }
    }

    fn number(&self, id: &EventId) -> Result<Option<EventNumber>, SourceError> {
        self.base.number(id)
    }

    fn state_after(&self, id: &EventId) -> Result<Option<StateMap>, SourceError> {
        match self.judged.get(id) {
            Some((_, state)) => Ok(Some(state.clone())),
            None if self.waiting.contains(id) => Ok(None),
            None => self.base.state_after(id),
        }
    }
}
