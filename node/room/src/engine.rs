//! One room: its forward extremities, its current state, and what a new event does to them.
//!
//! [`Room`] is a pure machine. Its methods, in the order in which a node calls them:
//!
//! - making one: [`Room::create`] for a new room, [`Room::load`] for a stored one, [`crate::join::handle_send_join`] for one
//!   that is joined over federation;
//! - asking: [`Room::current`], [`Room::extremities`], [`Room::template`];
//! - judging an event, without changing anything: [`Room::handle_pdu`], [`Room::with_given_state`], [`Room::create_local`];
//! - going on: once the node has handed a [`Verdict`] to its store, [`Room::apply`].
//!
//! The checks are those of <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu> from
//! step 4 on; the first three are in [`crate::receive`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kith_mutants::mutant;
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, RoomVersionId, room_version_rules::RoomVersionRules,
};

use crate::{
    auth::{check_auth, check_state_independent},
    event::{Event, KnownEvent},
    format, policy,
    resolve::{ResolveError, resolve_with},
    source::{Memo, Source, SourceError, Status},
    state::{StateKey, StateMap},
};

/// How many soft-failed and rejected ancestors are looked through for extremities that a new event replaces.
const MAX_HIDDEN_ANCESTORS: usize = 1_000;

/// The head of one room in memory.
#[derive(Debug, Clone)]
pub struct Room {
    pub(crate) version: RoomVersionId,
    pub(crate) rules: RoomVersionRules,
    pub(crate) room_id: OwnedRoomId,
    pub(crate) heads: BTreeMap<OwnedEventId, Head>,
    pub(crate) current: StateMap,
    pub(crate) generation: u64,
    pub(crate) partial: bool,
}

/// A forward extremity.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) state_after: StateMap,
    pub(crate) depth: u64,
}

/// What comes of a PDU.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Known already; nothing to do.
    Duplicate,
    /// To be judged once these are there: events to follow that are unknown or have no state yet, and auth events that
    /// are unknown.
    Missing {
        /// Unknown `prev_events`.
        prev: Vec<OwnedEventId>,
        /// Unknown `auth_events`.
        auth: Vec<OwnedEventId>,
    },
    /// To be dropped without a trace in the room: it does not belong here at all.
    Refused {
        /// Why, for the log and the sender.
        reason: String,
    },
    /// Judged; to be stored, whatever the decision.
    Verdict(Box<Verdict>),
}

/// The decision about an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Allowed.
    Accepted,
    /// Allowed by the state before it, but not by the room's current state or by its policy server.
    SoftFailed {
        /// The rule it breaks.
        reason: String,
    },
    /// Not allowed.
    Rejected {
        /// The rule it breaks.
        reason: String,
    },
}

impl Decision {
    /// The status to store with the event.
    pub fn status(&self) -> Status {
        match self {
            Self::Accepted => Status::Accepted,
            Self::SoftFailed { .. } => Status::SoftFailed,
            Self::Rejected { .. } => Status::Rejected,
        }
    }

    /// Why it is not accepted.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Accepted => None,
            Self::SoftFailed { reason } | Self::Rejected { reason } => Some(reason),
        }
    }
}

/// Where an event is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// At the end of the room: it may become an extremity and change the current state.
    Live,
    /// Behind events that came first, which follow it over a bridged gap: extremities and current state stay, but it is new
    /// here, so it is shown, and may soft-fail.
    Late,
    /// Into the past (backfill, filled gaps): extremities and current state stay, and nothing soft-fails.
    Historical,
}

/// Everything the node has to store about an event.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The event.
    pub event: Arc<Event>,
    /// What became of it.
    pub decision: Decision,
    /// Where it was put.
    pub placement: Placement,
    /// The state before it.
    pub state_before: StateMap,
    /// The state after it; that before it, if it was rejected or is no state event.
    pub state_after: StateMap,
    /// The room's forward extremities from now on.
    pub new_extremities: BTreeSet<OwnedEventId>,
    /// The room's current state from now on.
    pub current: StateMap,
    /// The room's policy server, if the event is soft-failed only for want of its signature.
    pub unsigned_by: Option<OwnedServerName>,
    heads: BTreeMap<OwnedEventId, Head>,
    generation: u64,
}

impl Verdict {
    /// The status to store with the event.
    pub fn status(&self) -> Status {
        self.decision.status()
    }

    /// Whether the event changes the room's head.
    pub fn is_live(&self) -> bool {
        (self.decision == Decision::Accepted || mutant!("soft-failed-is-live") && self.status() == Status::SoftFailed)
            && self.placement == Placement::Live
    }
}

/// The engine could not come to a verdict.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The node's store failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// State resolution failed.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The room's version is not supported.
    #[error("room version {0} is not supported")]
    UnknownVersion(RoomVersionId),
    /// The store names an extremity without having the event and the state after it.
    #[error("the stored room has an extremity {0} without its state")]
    NoState(OwnedEventId),
    /// The verdict was given for an earlier head of the room.
    #[error("the room has moved on since the event was judged")]
    Stale,
}

impl EngineError {
    /// Whether the node's store failed, so that nothing is said about the event.
    pub fn is_of_source(&self) -> bool {
        matches!(self, Self::Source(_) | Self::Resolve(ResolveError::Source(_)))
    }
}

impl Room {
    /// A room without any event, to be filled by [`Room::with_given_state`] after a join over federation.
    ///
    /// # Errors
    ///
    /// The version is not supported.
    pub fn new(version: &RoomVersionId, room_id: &RoomId) -> Result<Self, EngineError> {
        let rules = format::rules(version).ok_or_else(|| EngineError::UnknownVersion(version.clone()))?;
        Ok(Self {
            version: version.clone(),
            rules,
            room_id: room_id.to_owned(),
            heads: BTreeMap::new(),
            current: StateMap::new(),
            generation: 0,
            partial: false,
        })
    }

    /// A stored room, with the current state stored with it (which is looked at only if there are several extremities).
    ///
    /// # Errors
    ///
    /// The version is not supported, or the source lacks one of the extremities.
    pub fn load(
        version: &RoomVersionId,
        room_id: &RoomId,
        extremities: impl IntoIterator<Item = OwnedEventId>,
        current: StateMap,
        source: &dyn Source,
    ) -> Result<Self, EngineError> {
        let mut room = Self::new(version, room_id)?;
        for id in extremities {
            let (Some(event), Some(state_after)) = (source.event(&id)?, source.state_after(&id)?) else {
                return Err(EngineError::NoState(id));
            };
            room.heads.insert(id, Head { state_after, depth: event.depth() });
        }
        // With one extremity, the state after it is the current one, and shares its memory.
        room.current = match room.heads.values().next() {
            Some(head) if room.heads.len() == 1 => head.state_after.clone(),
            _ => current,
        };
        Ok(room)
    }

    /// The room's ID.
    pub fn room_id(&self) -> &RoomId {
        &self.room_id
    }

    /// The room's version.
    pub fn version(&self) -> &RoomVersionId {
        &self.version
    }

    /// The rules of the room's version.
    pub fn rules(&self) -> &RoomVersionRules {
        &self.rules
    }

    /// The room's current state.
    pub fn current(&self) -> &StateMap {
        &self.current
    }

    /// The event that holds a place in the current state.
    pub fn current_id(&self, kind: &str, key: &str) -> Option<&EventId> {
        crate::state::get(&self.current, kind, key)
    }

    /// The events that no accepted event follows yet.
    pub fn extremities(&self) -> impl Iterator<Item = &EventId> {
        self.heads.keys().map(|id| &**id)
    }

    /// Whether the room's states lack memberships, because it was joined without them ([`crate::partial`]).
    pub fn is_partial(&self) -> bool {
        self.partial
    }

    /// Says that the room's states lack memberships. Then the memberships that an event cites stand in for those that its state
    /// lacks. To be said of a room that is joined without them, and of one that is loaded before they came.
    pub fn set_partial(&mut self) {
        self.partial = true;
    }

    /// The policy server whose signature an event lacks that is to be added to the room now; none if it needs none.
    ///
    /// # Errors
    ///
    /// The source failed.
    pub fn lacks_signature_of(
        &self,
        event: &Event,
        source: &dyn Source,
    ) -> Result<Option<OwnedServerName>, SourceError> {
        let memo = Memo::new(source);
        let server = policy::lacks_signature_of(event, &self.rules, &self.current, &memo);
        memo.finish()?;
        Ok(server)
    }

    /// How deep the room is: the depth of its deepest extremity.
    pub fn depth(&self) -> u64 {
        self.heads.values().map(|head| head.depth).max().unwrap_or(0)
    }

    /// Judges an event that came over federation and passed [`crate::receive::receive`].
    ///
    /// # Errors
    ///
    /// Only when no verdict can be had; the same event may be offered again.
    pub fn handle_pdu(&self, event: Arc<Event>, source: &dyn Source) -> Result<Outcome, EngineError> {
        if event.room_id() != &*self.room_id {
            return Ok(Outcome::Refused {
                reason: format!("the event is of room {}, not of {}", event.room_id(), self.room_id),
            });
        }
        let is_followed = source.is_followed(event.event_id())?;
        match source.status(event.event_id())? {
            // The room's own create event, where the room was joined: it is the past of everything here. It comes into the
            // history, behind what follows it, and never at the end: taken for a second creation, all events of the room would
            // fall with it, and once it had a place, other old events could be put at the end behind it.
            Some(Status::Outlier) if event.kind() == "m.room.create" && !is_followed => return Ok(Outcome::Duplicate),
            None | Some(Status::Outlier) => {}
            // As an outlier it was not allowed. Where it stands in the graph it is not either, but it gets its state.
            Some(Status::Rejected) if source.state_after(event.event_id())?.is_none() => {}
            Some(_) => return Ok(Outcome::Duplicate),
        }

        let memo = Memo::new(source);
        let mut states = Vec::new();
        let mut prev = Vec::new();
        for id in unique(event.prev_events()) {
            match self.state_after(id, source)? {
                Some(state) => states.push(state),
                None if mutant!("missing-prev-is-known") => {}
                None => prev.push(id.clone()),
            }
        }
        let auth: Vec<OwnedEventId> =
            event.all_auth_events().filter(|id| memo.get(id).is_none()).map(|id| id.into_owned()).collect();
        memo.finish()?;
        if !prev.is_empty() || !auth.is_empty() {
            return Ok(Outcome::Missing { prev, auth });
        }

        let mut state_before = resolve_with(&self.rules, &states, &memo)?;
        if self.partial {
            state_before = with_cited_members(state_before, &event, &memo);
        }
        let placement = match is_followed {
            true if source.is_late(&event)? => Placement::Late,
            true => Placement::Historical,
            false => Placement::Live,
        };
        self.judge(event, state_before, placement, &memo).map(|verdict| Outcome::Verdict(Box::new(verdict)))
    }

    /// Judges an event whose state before it is known from elsewhere: a join over federation, and events behind a gap or
    /// in the past, whose state another server gave and [`crate::join`] has checked. Its prev events need not be known.
    ///
    /// # Errors
    ///
    /// As [`Room::handle_pdu`].
    pub fn with_given_state(
        &self,
        event: Arc<Event>,
        mut state_before: StateMap,
        placement: Placement,
        source: &dyn Source,
    ) -> Result<Outcome, EngineError> {
        if event.room_id() != &*self.room_id {
            return Ok(Outcome::Refused {
                reason: format!("the event is of room {}, not of {}", event.room_id(), self.room_id),
            });
        }
        let memo = Memo::new(source);
        let auth: Vec<OwnedEventId> =
            event.all_auth_events().filter(|id| memo.get(id).is_none()).map(|id| id.into_owned()).collect();
        memo.finish()?;
        if !auth.is_empty() {
            return Ok(Outcome::Missing { prev: Vec::new(), auth });
        }
        if self.partial {
            state_before = with_cited_members(state_before, &event, &memo);
        }
        self.judge(event, state_before, placement, &memo).map(|verdict| Outcome::Verdict(Box::new(verdict)))
    }

    /// Goes on from a verdict that the node has handed to its store.
    ///
    /// # Errors
    ///
    /// [`EngineError::Stale`] if another verdict that changed the head was applied since this one was given; judge the
    /// event anew.
    pub fn apply(&mut self, verdict: &Verdict) -> Result<(), EngineError> {
        if verdict.generation != self.generation {
            return Err(EngineError::Stale);
        }
        if !verdict.is_live() {
            return Ok(());
        }
        self.heads = verdict.heads.clone();
        self.current = verdict.current.clone();
        self.generation += 1;
        Ok(())
    }

    pub(crate) fn state_after(&self, id: &EventId, source: &dyn Source) -> Result<Option<StateMap>, SourceError> {
        match self.heads.get(id) {
            Some(head) => Ok(Some(head.state_after.clone())),
            None => source.state_after(id),
        }
    }

    /// Steps 4 to 7 of the checks on receipt, and what follows from them.
    pub(crate) fn judge(
        &self,
        event: Arc<Event>,
        state_before: StateMap,
        placement: Placement,
        memo: &Memo<'_>,
    ) -> Result<Verdict, EngineError> {
        let mut decision = self.decide(&event, &state_before, placement, memo);
        let mut unsigned_by = None;
        if decision == Decision::Accepted && placement == Placement::Live && !self.heads.is_empty() {
            unsigned_by = policy::lacks_signature_of(&event, &self.rules, &self.current, memo);
            if let Some(server) = &unsigned_by {
                decision = Decision::SoftFailed { reason: policy::reason(server) };
            }
        }
        memo.finish()?;

        let state_after = match (event.state_map_key(), &decision) {
            (Some(key), decision) if decision.status() != Status::Rejected || mutant!("rejected-state-counts") => {
                state_before.update(key.clone(), event.event_id().to_owned())
            }
            _ => state_before.clone(),
        };
        let mut verdict = Verdict {
            event,
            decision,
            placement,
            state_before,
            state_after,
            new_extremities: BTreeSet::new(),
            current: self.current.clone(),
            unsigned_by,
            heads: self.heads.clone(),
            generation: self.generation,
        };
        if verdict.is_live() {
            self.advance(&mut verdict, memo)?;
        }
        verdict.new_extremities = verdict.heads.keys().cloned().collect();
        Ok(verdict)
    }

    pub(crate) fn decide(
        &self,
        event: &Event,
        state_before: &StateMap,
        placement: Placement,
        memo: &Memo<'_>,
    ) -> Decision {
        let rejected = |reason: String| Decision::Rejected { reason };
        if event.kind() == "m.room.create" && !self.heads.is_empty() && placement == Placement::Live {
            return rejected("the room has been created already".to_owned());
        }
        if let Err(error) = check_state_independent(event, &self.rules, |id| memo.get(id)) {
            return rejected(error.0);
        }
        let cited: BTreeMap<StateKey, Arc<Event>> = event
            .all_auth_events()
            .filter_map(|id| memo.event(&id))
            .filter_map(|cited| Some((cited.state_map_key()?.clone(), cited)))
            .collect();
        if let Err(error) = check_auth(event, &self.rules, |key| cited.get(key).cloned())
            && !mutant!("skips-auth-events")
        {
            return rejected(format!("by its auth events: {error}"));
        }
        let in_state = |state: &StateMap| check_auth(event, &self.rules, |key| memo.event(state.get(key)?));
        if let Err(error) = in_state(state_before)
            && !mutant!("skips-state-before")
        {
            return rejected(format!("by the state before it: {error}"));
        }
        // A room's first event, and a join that brings the room to this node, meet no current state.
        let has_current = !self.heads.is_empty() && !self.current.ptr_eq(state_before);
        if placement == Placement::Historical || !has_current || mutant!("skips-soft-failure") {
            return Decision::Accepted;
        }
        let current = match self.partial {
            true => with_cited_members(self.current.clone(), event, memo),
            false => self.current.clone(),
        };
        match in_state(&current) {
            Ok(()) => Decision::Accepted,
            Err(error) => Decision::SoftFailed { reason: format!("by the current state: {error}") },
        }
    }

    /// Makes an accepted event an extremity and finds the new current state.
    fn advance(&self, verdict: &mut Verdict, memo: &Memo<'_>) -> Result<(), EngineError> {
        let event = &verdict.event;
        memo.add(KnownEvent { event: event.clone(), rejected: false });
        let mut followed: Vec<OwnedEventId> = event.prev_events().to_vec();
        let mut seen = BTreeSet::new();
        while let Some(id) = followed.pop() {
            // Soft-failed and rejected events are no extremities and left those they follow in place. The new event
            // follows these through them.
            if mutant!("keeps-followed-extremity") && self.heads.len() > verdict.heads.len() {
                break;
            }
            if verdict.heads.remove(&id).is_some()
                || verdict.heads.is_empty()
                || seen.len() >= MAX_HIDDEN_ANCESTORS
                || !seen.insert(id.clone())
            {
                continue;
            }
            if !mutant!("stops-at-hidden-events")
                && matches!(memo.source().status(&id)?, Some(Status::SoftFailed | Status::Rejected))
                && let Some(hidden) = memo.event(&id)
            {
                followed.extend_from_slice(hidden.prev_events());
            }
        }
        memo.finish()?;
        if mutant!("loses-an-extremity") {
            verdict.heads.clear();
        }
        let head = Head { state_after: verdict.state_after.clone(), depth: event.depth() };
        verdict.heads.insert(event.event_id().to_owned(), head);
        verdict.current = match verdict.heads.len() {
            1 => verdict.state_after.clone(),
            _ => {
                let states: Vec<StateMap> = verdict.heads.values().map(|head| head.state_after.clone()).collect();
                let overlay = WithNew { source: memo.source(), event: verdict.event.clone() };
                resolve_with(&self.rules, &states, &Memo::new(&overlay))?
            }
        };
        Ok(())
    }
}

/// A partial state with the memberships that the event cites and the state lacks: what the event's sender knew of these users.
fn with_cited_members(mut state: StateMap, event: &Event, memo: &Memo<'_>) -> StateMap {
    for id in event.all_auth_events() {
        if let Some(known) = memo.get(&id).filter(|known| !known.rejected)
            && known.event.kind() == "m.room.member"
            && let Some(key) = known.event.state_map_key()
            && !state.contains_key(key)
        {
            state.insert(key.clone(), id.into_owned());
        }
    }
    state
}

/// The source with one more event, the one being judged.
struct WithNew<'a> {
    source: &'a dyn Source,
    event: Arc<Event>,
}

impl Source for WithNew<'_> {
    fn event(&self, id: &EventId) -> Result<Option<Arc<Event>>, SourceError> {
        if id == self.event.event_id() { Ok(Some(self.event.clone())) } else { self.source.event(id) }
    }

    fn status(&self, id: &EventId) -> Result<Option<Status>, SourceError> {
        if id == self.event.event_id() { Ok(Some(Status::Accepted)) } else { self.source.status(id) }
    }

    fn number(&self, id: &EventId) -> Result<Option<crate::event::EventNumber>, SourceError> {
        if id == self.event.event_id() { Ok(Some(u64::MAX)) } else { self.source.number(id) }
    }

    fn state_after(&self, id: &EventId) -> Result<Option<StateMap>, SourceError> {
        self.source.state_after(id)
    }
}

pub(crate) fn unique(ids: &[OwnedEventId]) -> impl Iterator<Item = &OwnedEventId> {
    let mut seen = BTreeSet::new();
    ids.iter().filter(move |id| seen.insert(*id))
}
