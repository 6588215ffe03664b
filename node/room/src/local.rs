//! Events that this node makes: where they stand in the graph, what authorizes them, whether they are allowed.

use std::sync::Arc;

use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName, RoomVersionId,
    room_version_rules::EventsReferenceFormatVersion, state_res::auth_types_for_event,
};

use crate::{
    build::{BuildError, Builder, Signer, build_with_rules, unsigned_event},
    engine::{Decision, EngineError, Placement, Room, Verdict},
    event::{Event, EventNumber, MAX_DEPTH},
    format,
    resolve::resolve_with,
    source::{Memo, Source, SourceError, Status},
    state::{StateKey, StateMap},
};

/// How many extremities one event of ours follows at most.
pub const MAX_CITED_EXTREMITIES: usize = 10;

/// Which forward extremities an event of ours follows where there are many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Citing {
    /// At most ten; if there are more, the deepest five and a random choice of the others. (Were the choice fixed, servers with
    /// many extremities would all leave the same ones behind.)
    #[default]
    Spread,
    /// At most so many, all of them chosen at random: for experiments.
    Random(usize),
}

/// What chance has a say in, when an event is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Draw {
    /// A random number that was not used before.
    pub random: u64,
    /// How extremities are chosen with it.
    pub citing: Citing,
}

impl From<u64> for Draw {
    fn from(random: u64) -> Self {
        Self { random, citing: Citing::default() }
    }
}

/// Why an event of ours is not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CreateError {
    /// The room does not allow it (`M_FORBIDDEN`).
    #[error("{0}")]
    Forbidden(String),
    /// It is allowed, but the room's policy server has to sign it first.
    #[error("the room's policy server, {server}, has to sign it")]
    Unsigned {
        /// The event.
        event: Arc<Event>,
        /// The policy server.
        server: OwnedServerName,
    },
    /// It is no valid event.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// No verdict could be had.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<SourceError> for CreateError {
    fn from(error: SourceError) -> Self {
        Self::Engine(error.into())
    }
}

/// A place in the graph for a new event.
struct Place {
    prev_events: Vec<OwnedEventId>,
    auth_events: Vec<OwnedEventId>,
    state_before: StateMap,
    depth: u64,
}

impl Room {
    /// Makes a room: builds its create event and judges it. From version 12 on, the room's ID follows from the event;
    /// before that `builder` brings one of the sender's server. `content.room_version` is set to `version`.
    ///
    /// The room given back has not applied the verdict yet.
    ///
    /// # Errors
    ///
    /// The version is not supported, or the create event is invalid.
    pub fn create(
        version: &RoomVersionId,
        mut builder: Builder,
        origin_server_ts: MilliSecondsSinceUnixEpoch,
        signer: Signer<'_>,
    ) -> Result<(Self, Verdict), CreateError> {
        let rules = format::rules(version).ok_or_else(|| EngineError::UnknownVersion(version.clone()))?;
        builder.content.insert("room_version".to_owned(), version.as_str().into());
        let event = Arc::new(build_with_rules(builder, &rules, &[], &[], 1, origin_server_ts, signer)?);
        let room = Self::new(version, event.room_id())?;
        let verdict = room.judge(event, StateMap::new(), Placement::Live, &Memo::new(&NoEvents))?;
        allowed(verdict).map(|verdict| (room, verdict))
    }

    /// Builds, signs and judges an event at the end of the room.
    ///
    /// It follows the extremities, or those that are drawn.
    ///
    /// # Errors
    ///
    /// The room does not allow the event, its policy server has to sign it, or it is none.
    pub fn create_local(
        &self,
        builder: Builder,
        origin_server_ts: MilliSecondsSinceUnixEpoch,
        draw: impl Into<Draw>,
        signer: Signer<'_>,
        source: &dyn Source,
    ) -> Result<Verdict, CreateError> {
        let memo = Memo::new(source);
        let mut builder = builder.room_id(self.room_id.clone());
        let place = self.place(&mut builder, draw.into(), &memo)?;
        let event = build_with_rules(
            builder,
            &self.rules,
            &place.prev_events,
            &place.auth_events,
            place.depth,
            origin_server_ts,
            signer,
        )?;
        allowed(self.judge(Arc::new(event), place.state_before, Placement::Live, &memo)?)
    }

    /// An event for another server to sign: the answer to `make_join`, `make_leave` and `make_knock`. It is checked as it
    /// will be when it comes back.
    ///
    /// # Errors
    ///
    /// As [`Room::create_local`].
    pub fn template(
        &self,
        builder: Builder,
        origin_server_ts: MilliSecondsSinceUnixEpoch,
        draw: impl Into<Draw>,
        source: &dyn Source,
    ) -> Result<CanonicalJsonObject, CreateError> {
        let memo = Memo::new(source);
        let mut builder = builder.room_id(self.room_id.clone());
        let place = self.place(&mut builder, draw.into(), &memo)?;
        let object =
            builder.unsigned_object(&self.rules, &place.prev_events, &place.auth_events, place.depth, origin_server_ts);
        let event = unsigned_event(object.clone(), &self.rules)?;
        // The room's policy server is asked by who signs it.
        let decision = self.decide(&event, &place.state_before, Placement::Live, &memo);
        memo.finish()?;
        match decision {
            Decision::Accepted => Ok(object),
            Decision::SoftFailed { reason } | Decision::Rejected { reason } => Err(CreateError::Forbidden(reason)),
        }
    }

    fn place(&self, builder: &mut Builder, draw: Draw, memo: &Memo<'_>) -> Result<Place, CreateError> {
        let prev_events = self.cited_extremities(draw);
        let state_before = if prev_events.len() == self.heads.len() {
            self.current.clone()
        } else {
            let states: Vec<StateMap> =
                prev_events.iter().filter_map(|id| Some(self.heads.get(id)?.state_after.clone())).collect();
            resolve_with(&self.rules, &states, memo).map_err(EngineError::from)?
        };
        let content = serde_json::value::to_raw_value(&builder.content)
            .map_err(|error| BuildError::Content(error.to_string()))?;
        let auth_types = auth_types_for_event(
            &builder.kind.as_str().into(),
            &builder.sender,
            builder.state_key.as_deref(),
            &content,
            &self.rules.authorization,
        )
        .map_err(BuildError::Content)?;
        let auth_events: Vec<OwnedEventId> =
            auth_types.iter().filter_map(|(kind, key)| state_before.get(&StateKey::of(kind, key)).cloned()).collect();
        let depth = prev_events.iter().filter_map(|id| self.heads.get(id)).map(|head| head.depth).max();
        let depth = depth.unwrap_or(0).saturating_add(1).min(MAX_DEPTH);
        if self.rules.events_reference_format == EventsReferenceFormatVersion::V1 {
            for id in prev_events.iter().chain(&auth_events) {
                if let Some(event) = memo.event(id) {
                    let hash = event.reference_hash(&self.rules).map_err(BuildError::from)?;
                    builder.reference_hashes.insert(id.clone(), hash);
                }
            }
            memo.finish()?;
        }
        Ok(Place { prev_events, auth_events, state_before, depth })
    }

    fn cited_extremities(&self, Draw { mut random, citing }: Draw) -> Vec<OwnedEventId> {
        let mut heads: Vec<(u64, u64, &OwnedEventId)> =
            self.heads.iter().map(|(id, head)| (head.depth, splitmix(&mut random), id)).collect();
        let (most, deepest) = match citing {
            Citing::Spread => (MAX_CITED_EXTREMITIES, MAX_CITED_EXTREMITIES / 2),
            // An event follows something.
            Citing::Random(most) => (most.max(1), 0),
        };
        if heads.len() > most {
            heads.sort_unstable_by(|one, other| other.cmp(one));
            if let Some(others) = heads.get_mut(deepest..) {
                others.sort_unstable_by_key(|(_, drawn, _)| *drawn);
            }
            heads.truncate(most);
        }
        let mut ids: Vec<OwnedEventId> = heads.into_iter().map(|(_, _, id)| id.clone()).collect();
        ids.sort_unstable();
        ids
    }
}

fn allowed(verdict: Verdict) -> Result<Verdict, CreateError> {
    match verdict.decision {
        Decision::Accepted => Ok(verdict),
        Decision::SoftFailed { .. } if let Some(server) = verdict.unsigned_by => {
            Err(CreateError::Unsigned { event: verdict.event, server })
        }
        Decision::SoftFailed { reason } | Decision::Rejected { reason } => Err(CreateError::Forbidden(reason)),
    }
}

/// Spreads one random value over several draws (the SplitMix64 generator).
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The source of a room that is not there yet.
#[derive(Debug, Clone, Copy)]
pub struct NoEvents;

impl Source for NoEvents {
    fn event(&self, _: &ruma::EventId) -> Result<Option<Arc<Event>>, SourceError> {
        Ok(None)
    }

    fn status(&self, _: &ruma::EventId) -> Result<Option<Status>, SourceError> {
        Ok(None)
    }

    fn number(&self, _: &ruma::EventId) -> Result<Option<EventNumber>, SourceError> {
        Ok(None)
    }

    fn state_after(&self, _: &ruma::EventId) -> Result<Option<StateMap>, SourceError> {
        Ok(None)
    }
}
