//! What the engine asks of the node: the events it has stored, and the state after them.

use std::{cell::RefCell, sync::Arc};

use ruma::EventId;

use crate::{
    event::{Event, EventNumber, KnownEvent},
    ids::IdMap,
    state::StateMap,
};

/// What became of a stored event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Part of the room's graph, and allowed.
    Accepted,
    /// Part of the graph, allowed where its author was, but not by the room's state when it came. Never shown, never an
    /// extremity; may be followed by others and may win a resolution.
    SoftFailed,
    /// Not allowed. Kept, so that what cites it is judged alike every time.
    Rejected,
    /// Known only as part of an auth chain or of a state: allowed by its auth events, but with no place in the graph.
    Outlier,
}

/// A read-only view of what the node keeps of one room, with what is about to be committed.
///
/// Each method answers with `None` for what is not known. An `Err` means that the answer could not be had (a failing
/// disk): the engine gives up and hands the error back.
pub trait Source {
    /// An event, whatever became of it. The room's own only: events of other rooms are not known here.
    fn event(&self, id: &EventId) -> Result<Option<Arc<Event>>, SourceError>;

    /// What became of an event.
    fn status(&self, id: &EventId) -> Result<Option<Status>, SourceError>;

    /// An event's number. Auth events have lower numbers than the events that cite them; events that wait for their
    /// commit get provisional numbers above all stored ones.
    fn number(&self, id: &EventId) -> Result<Option<EventNumber>, SourceError>;

    /// The state after an event. `None` when the event is not known or is an outlier without a place in the graph.
    fn state_after(&self, id: &EventId) -> Result<Option<StateMap>, SourceError>;

    /// Whether an accepted event already follows this one, which then is no extremity although it comes only now. This
    /// happens when an event was taken in with a given state before what it follows was known.
    fn is_followed(&self, _id: &EventId) -> Result<bool, SourceError> {
        Ok(false)
    }

    /// Whether an event that is followed already is new all the same, and to be shown: a message that was bridged over and
    /// comes by itself now, not history from before the node came to the room.
    fn is_late(&self, _event: &Event) -> Result<bool, SourceError> {
        Ok(false)
    }
}

/// The node could not read what it has stored.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the room's events could not be read: {0}")]
pub struct SourceError(#[source] Arc<dyn std::error::Error + Send + Sync>);

impl SourceError {
    /// Wraps the store's own error.
    pub fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(Arc::from(error.into()))
    }
}

/// A source that remembers, for the length of one operation, and can be asked from closures that know no errors: the
/// first error is kept for [`Memo::finish`].
pub(crate) struct Memo<'a> {
    source: &'a dyn Source,
    events: RefCell<IdMap<Option<KnownEvent>>>,
    error: RefCell<Option<SourceError>>,
}

impl<'a> Memo<'a> {
    pub(crate) fn new(source: &'a dyn Source) -> Self {
        Self { source, events: RefCell::default(), error: RefCell::default() }
    }

    pub(crate) fn source(&self) -> &'a dyn Source {
        self.source
    }

    /// Adds an event that the source does not know yet.
    pub(crate) fn add(&self, event: KnownEvent) {
        self.events.borrow_mut().insert(event.event.event_id().to_owned(), Some(event));
    }

    pub(crate) fn get(&self, id: &EventId) -> Option<KnownEvent> {
        if let Some(known) = self.events.borrow().get(id) {
            return known.clone();
        }
        let known = self.read(id).unwrap_or_else(|error| {
            self.error.borrow_mut().get_or_insert(error);
            None
        });
        self.events.borrow_mut().insert(id.to_owned(), known.clone());
        known
    }

    pub(crate) fn event(&self, id: &EventId) -> Option<Arc<Event>> {
        self.get(id).map(|known| known.event)
    }

    fn read(&self, id: &EventId) -> Result<Option<KnownEvent>, SourceError> {
        let Some(event) = self.source.event(id)? else {
            return Ok(None);
        };
        let rejected = self.source.status(id)? == Some(Status::Rejected);
        Ok(Some(KnownEvent { event, rejected }))
    }

    /// The first error that closures have met. To be called before their answers are believed.
    pub(crate) fn finish(&self) -> Result<(), SourceError> {
        match self.error.borrow_mut().take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}
