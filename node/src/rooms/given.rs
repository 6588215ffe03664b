//! Events that come with the state before them, as another server gives it: a join, and what lies behind a gap.

use std::sync::Arc;

use kith_room::{Event, Outcome, Placement, join, partial::Members};
use kith_store::tables::rooms::ROOMS;

use super::{
    Received,
    commit::Beside,
    head::{self, Head, Manner},
    partial::PartialJoin,
    room::{Room, loaded},
    source::Past,
};
use crate::http::{Answer, MatrixError};

impl Room {
    /// An event behind a gap or in the past, with the state before it as another server gave it: `state` are the events
    /// of that state, `auth_chain` theirs. All have passed [`kith_room::receive::receive`].
    pub async fn receive_with_state(
        &self,
        auth_chain: Vec<Arc<Event>>,
        state: Vec<Arc<Event>>,
        event: Arc<Event>,
        placement: Placement,
    ) -> Answer<Received> {
        let mut guard = self.head().await?;
        let head = loaded(&mut guard)?;
        let snapshot = self.parts.store.snapshot()?;
        let before = head.at.clone();
        let mut change = head::Draft::new(self.number(), self.rules(), head, &self.parts.store, &snapshot);
        let result = self.place(head, &mut change, auth_chain, state, event, placement);
        if matches!(result, Err(_) | Ok(Received::Parked { .. } | Received::Refused(_) | Received::Known)) {
            head.recent.forget(&change.ids);
            head.at = before;
            return result;
        }
        let submitted = self.submit(guard, change, Beside::default())?;
        drop(snapshot);
        self.committed(submitted).await?;
        result
    }

    pub(super) fn place(
        &self,
        head: &mut Head,
        change: &mut head::Draft<'_>,
        auth_chain: Vec<Arc<Event>>,
        state: Vec<Arc<Event>>,
        event: Arc<Event>,
        placement: Placement,
    ) -> Answer<Received> {
        let bad = |error: &dyn std::fmt::Display| MatrixError::bad_request(error.to_string());
        let checked = {
            let past = Past::new(self.number(), self.rules(), &head.recent, change.read);
            if past.has_place(event.event_id()).map_err(MatrixError::internal)? {
                return Ok(Received::Known);
            }
            if past.is_elsewhere(event.event_id()).map_err(MatrixError::internal)? {
                return Ok(Received::Refused("an event of another room has this ID".to_owned()));
            }
            let auth_chain = past.without_elsewhere(auth_chain).map_err(MatrixError::internal)?;
            let state = past.without_elsewhere(state).map_err(MatrixError::internal)?;
            join::check_state(self.version(), self.id(), auth_chain, state, &past).map_err(|error| bad(&error))?
        };
        change.outliers(head, checked.events)?;
        let past = Past::new(self.number(), self.rules(), &head.recent, change.read);
        let by_its_past = match placement {
            // What it follows may have come while the state was asked for. Then it is an event like others.
            Placement::Live => head.at.engine.handle_pdu(event.clone(), &past).map_err(MatrixError::internal)?,
            _ => Outcome::Missing { prev: Vec::new(), auth: Vec::new() },
        };
        let outcome = match by_its_past {
            Outcome::Missing { .. } => {
                head.at.engine.with_given_state(event, checked.state, placement, &past).map_err(|error| bad(&error))?
            }
            outcome => outcome,
        };
        let loaded = past.loaded.into_inner();
        head.recent.absorb(loaded);
        match outcome {
            Outcome::Duplicate => Ok(Received::Known),
            Outcome::Missing { prev, auth } => Ok(Received::Parked { prev, auth }),
            Outcome::Refused { reason } => Ok(Received::Refused(reason)),
            Outcome::Verdict(verdict) => {
                let reason = verdict.decision.reason().map(str::to_owned);
                change.take(head, &verdict, Manner::default())?;
                Ok(reason.map_or(Received::Accepted, Received::Hidden))
            }
        }
    }

    /// Brings the room here with another server's answer to `send_join`. All events have passed
    /// [`kith_room::receive::receive`]. An earlier head of the room, of a stay before, is left behind. With `partial` the members
    /// were left out: the room is to be completed ([`Room::complete`]). False, and nothing is done, if this node is in the room
    /// already: then the join is an event like others.
    pub async fn import_join(
        &self,
        auth_chain: Vec<Arc<Event>>,
        state: Vec<Arc<Event>>,
        join: Arc<Event>,
        partial: Option<PartialJoin>,
    ) -> Answer<bool> {
        let mut guard = self.shared.head.lock().await;
        self.settle().await?;
        let snapshot = self.parts.store.snapshot()?;
        let mut head = match ROOMS.get(&snapshot, &self.number())? {
            Some(row) if row.0.joined => return Ok(false),
            Some(row) => Head::load(self.number(), &row.0, self.version(), self.id(), self.rules(), &snapshot)?,
            None => Head::empty(self.version(), self.id())?,
        };
        let joined = {
            let past = Past::new(self.number(), self.rules(), &head.recent, &snapshot);
            if past.has_place(join.event_id()).map_err(MatrixError::internal)? {
                return Ok(true);
            }
            let auth_chain = past.without_elsewhere(auth_chain).map_err(MatrixError::internal)?;
            let state = past.without_elsewhere(state).map_err(MatrixError::internal)?;
            let members = if partial.is_some() { Members::Omitted } else { Members::Whole };
            join::handle_send_join(self.version(), auth_chain, state, join, members, &past).map_err(|error| {
                MatrixError::unreachable(format!("the server's answer makes no room that can be joined: {error}"))
            })?
        };
        let mut change = head::Draft::new(self.number(), self.rules(), &head, &self.parts.store, &snapshot);
        change.outliers(&mut head, joined.checked.events)?;
        // It begins without a state: the stored one of the stay before is no state of this engine.
        head.at.engine = joined.room;
        head.at.state = 0;
        change.take(&mut head, &joined.verdict, Manner::default())?;
        let number = head.recent.get(joined.verdict.event.event_id()).map(|known| known.number).unwrap_or_default();
        let partial = partial.map(|partial| partial.row(number));
        *guard = Some(head);
        let submitted = self.submit(guard, change, Beside { enters: true, partial, ..Beside::default() })?;
        drop(snapshot);
        self.committed(submitted).await?;
        Ok(true)
    }
}
