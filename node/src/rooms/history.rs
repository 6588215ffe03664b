//! What is fetched from other servers because it was missing: events of the past, and events that others rest on.

use std::sync::Arc;

use kith_room::{Event, EventNumber, Outcome, Placement, Source, SourceError, StateMap, Status, join};
use ruma::{EventId, OwnedEventId};

use super::{
    Received,
    commit::Beside,
    head::{self, Manner},
    room::{Room, loaded},
    source::Past,
};
use crate::http::{Answer, MatrixError};

/// An event whose place in the graph is bridged by a state that another server gave.
#[derive(Debug)]
pub struct GivenState {
    /// The event.
    pub event: Arc<Event>,
    /// The state before it.
    pub state: Vec<Arc<Event>>,
    /// What that state rests on.
    pub auth_chain: Vec<Arc<Event>>,
}

impl Room {
    /// Stores events that others cite as auth events, without a place in the graph. All have passed
    /// [`kith_room::receive::receive`]. Gives how many were new.
    ///
    /// # Errors
    /// The store's.
    pub async fn add_outliers(&self, events: Vec<Arc<Event>>) -> Answer<usize> {
        let mut guard = self.head().await?;
        let head = loaded(&mut guard)?;
        let snapshot = self.parts.store.snapshot()?;
        let before = head.at.clone();
        let mut change = head::Draft::new(self.number(), self.rules(), head, &self.parts.store, &snapshot);
        let checked = {
            let past = Past::new(self.number(), self.rules(), &head.recent, &snapshot);
            join::check_outliers(self.rules(), self.id(), events, &past).map_err(MatrixError::internal)?
        };
        if let Err(error) = change.outliers(head, checked.events) {
            head.recent.forget(&change.ids);
            head.at = before;
            return Err(error);
        }
        let count = change.ids.len();
        if count > 0 {
            let submitted = self.submit(guard, change, Beside::default())?;
            drop(snapshot);
            self.committed(submitted).await?;
        }
        Ok(count)
    }

    /// Stores a piece of history: `roots` are the events where it begins, with the states before them; `events` are those that
    /// follow, each after its prev events. None of them is shown as new. Gives how many were stored.
    ///
    /// # Errors
    /// 400 if a state makes no sense, or the store's.
    pub async fn add_history(&self, roots: Vec<GivenState>, events: Vec<Arc<Event>>) -> Answer<usize> {
        let mut guard = self.head().await?;
        let head = loaded(&mut guard)?;
        let snapshot = self.parts.store.snapshot()?;
        let before = head.at.clone();
        let mut change = head::Draft::new(self.number(), self.rules(), head, &self.parts.store, &snapshot);
        let mut stored = 0;
        let fill = |head: &mut head::Head, change: &mut head::Draft<'_>| -> Answer<()> {
            for root in roots {
                let result =
                    self.place(head, change, root.auth_chain, root.state, root.event, Placement::Historical)?;
                stored += usize::from(matches!(result, Received::Accepted | Received::Hidden(_)));
            }
            for event in events {
                let outcome = {
                    let past = Past::new(self.number(), self.rules(), &head.recent, &snapshot);
                    let outcome = head.at.engine.handle_pdu(event, &Followed(&past));
                    let read = past.loaded.into_inner();
                    head.recent.absorb(read);
                    outcome.map_err(MatrixError::internal)?
                };
                if let Outcome::Verdict(verdict) = outcome {
                    change.take(head, &verdict, Manner::default())?;
                    stored += 1;
                }
            }
            Ok(())
        };
        let filled = fill(head, &mut change);
        if filled.is_err() {
            head.recent.forget(&change.ids);
            head.at = before;
            return filled.map(|()| 0);
        }
        if !change.is_empty() {
            let submitted = self.submit(guard, change, Beside::default())?;
            drop(snapshot);
            self.committed(submitted).await?;
        }
        Ok(stored)
    }

    /// Which of these events have no place in the room's graph here.
    ///
    /// # Errors
    /// The store's.
    pub fn unknown<'a>(&self, ids: impl IntoIterator<Item = &'a OwnedEventId>) -> Answer<Vec<OwnedEventId>> {
        let snapshot = self.parts.store.snapshot()?;
        let recent = super::source::Recent::default();
        let past = Past::new(self.number(), self.rules(), &recent, &snapshot);
        let mut unknown = Vec::new();
        for id in ids {
            if !past.has_place(id).map_err(MatrixError::internal)? {
                unknown.push(id.clone());
            }
        }
        Ok(unknown)
    }
}

/// The room's past, in which all that comes is followed by something: it goes into the history, not to the live end.
struct Followed<'a>(&'a Past<'a>);

impl Source for Followed<'_> {
    fn event(&self, id: &EventId) -> Result<Option<Arc<Event>>, SourceError> {
        self.0.event(id)
    }

    fn status(&self, id: &EventId) -> Result<Option<Status>, SourceError> {
        self.0.status(id)
    }

    fn number(&self, id: &EventId) -> Result<Option<EventNumber>, SourceError> {
        self.0.number(id)
    }

    fn state_after(&self, id: &EventId) -> Result<Option<StateMap>, SourceError> {
        self.0.state_after(id)
    }

    fn is_followed(&self, _: &EventId) -> Result<bool, SourceError> {
        Ok(true)
    }
}
