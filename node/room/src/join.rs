//! State and auth chains that another server gives: on a join, and where a gap in the graph cannot be filled.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>. Nothing in them is believed that its own auth events
//! do not allow; what does not hold is left out, the same on every node.

use std::{collections::BTreeSet, sync::Arc};

use kith_mutants::mutant;
use ruma::{EventId, OwnedEventId, RoomId, RoomVersionId, room_version_rules::RoomVersionRules};

use crate::{
    auth::{check_auth, check_state_independent},
    engine::{Decision, EngineError, Outcome, Placement, Room, Verdict},
    event::{Event, EventNumber, KnownEvent},
    format,
    ids::IdMap,
    partial::Members,
    source::{Memo, Source, SourceError, Status},
    state::{StateKey, StateMap},
};

/// Numbers of events that are about to be stored begin here.
const PROVISIONAL: EventNumber = 1 << 62;

/// State that another server gave, checked. The events are outliers to be stored before whatever cites them.
#[derive(Debug, Clone)]
pub struct CheckedState {
    /// The events that the node did not have, each after its auth events.
    pub events: Vec<CheckedEvent>,
    /// Events that cannot even be stored, as they are of another room or their auth events are not to be had.
    pub dropped: Vec<(OwnedEventId, String)>,
    /// The state, without what was dropped or rejected.
    pub state: StateMap,
    /// `events` by ID.
    index: Index,
}

/// Events that are about to be stored, with their provisional numbers.
type Index = Arc<IdMap<(Arc<Event>, Status, EventNumber)>>;

/// An event of a [`CheckedState`].
#[derive(Debug, Clone)]
pub struct CheckedEvent {
    /// The event.
    pub event: Arc<Event>,
    /// [`Status::Outlier`] or [`Status::Rejected`].
    pub status: Status,
    /// Why it is rejected.
    pub reason: Option<String>,
}

/// What a node has to store when it joins a room.
#[derive(Debug, Clone)]
pub struct SendJoin {
    /// The room before the join event; apply the verdict to go on from it. It knows nothing of extremities that the node
    /// may have from an earlier stay: those are behind the join, and the verdict's extremities replace them.
    pub room: Room,
    /// Outliers, to be stored first.
    pub checked: CheckedState,
    /// The join event.
    pub verdict: Verdict,
}

/// Why a room cannot be joined with what the other server gave.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JoinError {
    /// The state names two events for one place.
    #[error("the state holds two events for {0:?}")]
    AmbiguousState(StateKey),
    /// There is no valid create event, or it is of another room version.
    #[error("the state has no create event of this room and version")]
    NoCreateEvent,
    /// The join event is not allowed by that state.
    #[error("the join is not allowed: {0}")]
    NotAllowed(String),
    /// Auth events of the join event are not in the auth chain.
    #[error("the auth chain lacks {0:?}")]
    MissingAuthEvents(Vec<OwnedEventId>),
    /// No verdict could be had.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<SourceError> for JoinError {
    fn from(error: SourceError) -> Self {
        Self::Engine(error.into())
    }
}

/// Checks the answer to `send_join`. All events have passed [`crate::receive::receive`]; `source` knows what the node
/// has of the room from before ([`crate::local::NoEvents`] if nothing). With [`Members::Omitted`] the room has partial states
/// until it is completed ([`crate::partial`]).
///
/// # Errors
///
/// The answer makes no room in which the join is allowed. Another server may do better.
pub fn handle_send_join(
    version: &RoomVersionId,
    auth_chain: Vec<Arc<Event>>,
    state: Vec<Arc<Event>>,
    join_event: Arc<Event>,
    members: Members,
    source: &dyn Source,
) -> Result<SendJoin, JoinError> {
    let mut room = Room::new(version, join_event.room_id())?;
    if members == Members::Omitted {
        room.set_partial();
    }
    let checked = check_state(version, room.room_id(), auth_chain, state, source)?;
    let outcome = {
        let source = checked.overlay(source);
        room.with_given_state(join_event, checked.state.clone(), Placement::Live, &source)?
    };
    match outcome {
        Outcome::Verdict(verdict) => match &verdict.decision {
            Decision::Accepted => Ok(SendJoin { room, checked, verdict: *verdict }),
            Decision::SoftFailed { reason } | Decision::Rejected { reason } => {
                Err(JoinError::NotAllowed(reason.clone()))
            }
        },
        Outcome::Missing { auth, .. } => Err(JoinError::MissingAuthEvents(auth)),
        Outcome::Refused { reason } => Err(JoinError::NotAllowed(reason)),
        Outcome::Duplicate => Err(JoinError::NotAllowed("the join event is known already".to_owned())),
    }
}

/// Checks a state that another server gave, for [`Room::with_given_state`].
///
/// # Errors
///
/// The events make no state of this room.
pub fn check_state(
    version: &RoomVersionId,
    room_id: &RoomId,
    auth_chain: Vec<Arc<Event>>,
    state: Vec<Arc<Event>>,
    source: &dyn Source,
) -> Result<CheckedState, JoinError> {
    let rules = format::rules(version).ok_or_else(|| EngineError::UnknownVersion(version.clone()))?;
    let in_state: Vec<OwnedEventId> = state.iter().map(|event| event.event_id().to_owned()).collect();
    let mut checked = check_outliers(&rules, room_id, auth_chain.into_iter().chain(state), source)?;

    let overlay = checked.overlay(source);
    let mut map = StateMap::new();
    for id in in_state {
        let (event, status) = match checked.index.get(&id) {
            Some((event, status, _)) => (event.clone(), *status),
            None => match (source.event(&id)?, source.status(&id)?) {
                (Some(event), Some(status)) => (event, status),
                _ => continue,
            },
        };
        let Some(key) = event.state_map_key().filter(|_| status != Status::Rejected) else {
            continue;
        };
        if map.insert(key.clone(), id.clone()).is_some_and(|other| other != id) {
            return Err(JoinError::AmbiguousState(key.clone()));
        }
    }
    let create = map.get(&StateKey::new("m.room.create", "")).map(|id| overlay.event(id)).transpose()?.flatten();
    let create = create.ok_or(JoinError::NoCreateEvent)?;
    if create.room_id() != room_id || create.content_str("room_version").unwrap_or("1") != version.as_str() {
        return Err(JoinError::NoCreateEvent);
    }
    checked.state = map;
    Ok(checked)
}

/// Judges events by their auth events alone, in an order in which these come first. Known events are left as they are.
///
/// # Errors
///
/// The source failed.
pub fn check_outliers(
    rules: &RoomVersionRules,
    room_id: &RoomId,
    events: impl IntoIterator<Item = Arc<Event>>,
    source: &dyn Source,
) -> Result<CheckedState, EngineError> {
    let (mut judged, mut dropped) = (Vec::new(), Vec::new());
    let mut waiting: IdMap<Arc<Event>> = IdMap::new();
    for event in events {
        if event.room_id() != room_id {
            dropped.push((event.event_id().to_owned(), format!("it is of room {}", event.room_id())));
        } else if source.status(event.event_id())?.is_none() {
            waiting.insert(event.event_id().to_owned(), event);
        }
    }

    let memo = Memo::new(source);
    for event in by_auth_events(&waiting) {
        let (mut cited, mut missing) = (Vec::new(), None);
        for id in event.all_auth_events() {
            match memo.get(&id) {
                Some(known) => cited.push(known),
                None => missing = Some(id),
            }
        }
        if let Some(missing) = missing {
            dropped.push((event.event_id().to_owned(), format!("its auth event {missing} is not to be had")));
            continue;
        }
        let at = |key: &StateKey| cited.iter().rev().find(|known| known.event.state_map_key() == Some(key));
        let verdict = check_state_independent(&event, rules, |id| {
            cited.iter().find(|known| known.event.event_id() == id).cloned().or_else(|| memo.get(id))
        })
        .and_then(|()| check_auth(&event, rules, |key| at(key).map(|known| known.event.clone())));
        let (status, reason) = match verdict {
            Err(_) if mutant!("unchecked-outliers") => (Status::Outlier, None),
            Ok(()) => (Status::Outlier, None),
            Err(error) => (Status::Rejected, Some(error.0)),
        };
        memo.add(KnownEvent { event: event.clone(), rejected: status == Status::Rejected });
        judged.push(CheckedEvent { event, status, reason });
    }
    memo.finish()?;
    let index: IdMap<_> = judged
        .iter()
        .zip(PROVISIONAL..)
        .map(|(judged, number)| (judged.event.event_id().to_owned(), (judged.event.clone(), judged.status, number)))
        .collect();
    // Cycles cannot be made with IDs that are hashes; should one be found, its events cite what is not to be had.
    let lost: BTreeSet<&EventId> = dropped.iter().map(|(id, _)| &**id).collect();
    let rest: Vec<_> = waiting.keys().filter(|id| !index.contains_key(id) && !lost.contains(&***id)).cloned().collect();
    dropped.extend(rest.into_iter().map(|id| (id, "it is its own auth event".to_owned())));
    Ok(CheckedState { events: judged, dropped, state: StateMap::new(), index: Arc::new(index) })
}

impl CheckedState {
    /// `base` and these events, as if they were stored.
    pub fn overlay<'a>(&self, base: &'a dyn Source) -> Overlay<'a> {
        Overlay { base, events: self.index.clone() }
    }
}

/// A source with outliers on top that are about to be stored.
pub struct Overlay<'a> {
    base: &'a dyn Source,
    events: Index,
}

impl Source for Overlay<'_> {
    fn event(&self, id: &EventId) -> Result<Option<Arc<Event>>, SourceError> {
        match self.events.get(id) {
            Some((event, _, _)) => Ok(Some(event.clone())),
            None => self.base.event(id),
        }
    }

    fn status(&self, id: &EventId) -> Result<Option<Status>, SourceError> {
        match self.events.get(id) {
            Some((_, status, _)) => Ok(Some(*status)),
            None => self.base.status(id),
        }
    }

    fn number(&self, id: &EventId) -> Result<Option<EventNumber>, SourceError> {
        match self.events.get(id) {
            Some((_, _, number)) => Ok(Some(*number)),
            None => self.base.number(id),
        }
    }

    fn state_after(&self, id: &EventId) -> Result<Option<StateMap>, SourceError> {
        self.base.state_after(id)
    }

    fn is_followed(&self, id: &EventId) -> Result<bool, SourceError> {
        self.base.is_followed(id)
    }

    fn is_late(&self, event: &Event) -> Result<bool, SourceError> {
        self.base.is_late(event)
    }
}

/// Each event after those of its auth events that are among the given; ties by ID.
fn by_auth_events(events: &IdMap<Arc<Event>>) -> Vec<Arc<Event>> {
    crate::graph::topological(events, |event, below| event.all_auth_events().for_each(|id| below(&id)))
}
