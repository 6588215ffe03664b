//! What depends on the moment of receipt: soft failure, forward extremities, the current state.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#soft-failure>

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use super::{Book, Id, State};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    SoftFailed,
    Rejected,
}

/// One server's view of a room: what has come to it, in this order.
#[derive(Default)]
pub struct Receiver {
    pub received: BTreeMap<Id, Verdict>,
    extremities: BTreeSet<Id>,
}

impl Receiver {
    /// Takes an event that is in the book and whose prev and auth events were received.
    pub fn receive(&mut self, book: &Book, id: &Id) -> Verdict {
        let verdict = if book.is_rejected(id) {
            Verdict::Rejected
        } else if !self.extremities.is_empty() && book.allowed_in(&book.pdus[id], &self.current(book)).is_err() {
            Verdict::SoftFailed
        } else {
            Verdict::Accepted
        };
        self.received.insert(id.clone(), verdict);
        self.extremities = self.unfollowed(book);
        verdict
    }

    /// The forward extremities.
    pub fn extremities(&self) -> &BTreeSet<Id> {
        &self.extremities
    }

    /// The state after all extremities.
    pub fn current(&self, book: &Book) -> Rc<State> {
        book.state_after_all(&self.extremities)
    }

    /// The accepted events that no accepted event follows, be it through others.
    fn unfollowed(&self, book: &Book) -> BTreeSet<Id> {
        let accepted = || self.received.iter().filter(|(_, verdict)| **verdict == Verdict::Accepted).map(|(id, _)| id);
        let mut followed = BTreeSet::new();
        let mut open: Vec<&Id> = accepted().flat_map(|id| &book.pdus[id].prev).collect();
        while let Some(id) = open.pop() {
            if followed.insert(id) {
                open.extend(&book.pdus[id].prev);
            }
        }
        accepted().filter(|id| !followed.contains(id)).cloned().collect()
    }
}
