//! Numbers that are given once.
//!
//! A number is given from memory, so that it is known while its change still waits; what stands on disk is a mark
//! below which all given numbers lie. Each commit moves the marks ahead of what was given by then, so a number in a
//! committed row is below the mark of the same commit. After a crash counting goes on at the mark: holes, never reuse.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::StoreError;
use crate::meta;
use crate::read::Read;

/// What is counted. A new counter is one line here (and in [`Counter::ALL`]); its name must not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counter {
    /// Event numbers: storage order of events.
    Event,
    /// Ids of past room states.
    State,
    /// Short numbers for rooms, to be used in keys.
    Room,
    /// Transactions towards other servers.
    Transaction,
    /// For any table that wants an append-only key.
    Row,
}

impl Counter {
    /// All of them.
    pub const ALL: [Counter; 5] = [Counter::Event, Counter::State, Counter::Room, Counter::Transaction, Counter::Row];

    fn key(self) -> &'static str {
        match self {
            Counter::Event => "counter/event",
            Counter::State => "counter/state",
            Counter::Room => "counter/room",
            Counter::Transaction => "counter/transaction",
            Counter::Row => "counter/row",
        }
    }
}

/// Whether a chore is to be done that costs too much to be done each time: true for about one number in 64. Any series of
/// numbers will do, also one that is given to several uses in turn.
pub fn now_and_then(number: u64) -> bool {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58 == 0
}

/// How far ahead of the given numbers a mark is set, and how little of that may be left before it is moved.
const AHEAD: u64 = 4096;
const LEFT: u64 = 2048;

#[derive(Debug)]
struct State {
    /// The next number to give; 0 is never given.
    next: AtomicU64,
    /// The mark on disk.
    mark: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Counters([State; Counter::ALL.len()]);

impl Counters {
    /// Goes on where the disk says.
    pub(crate) fn load(read: &dyn Read) -> Result<Self, StoreError> {
        let counters = Self(Counter::ALL.map(|_| State { next: AtomicU64::new(1), mark: AtomicU64::new(0) }));
        for counter in Counter::ALL {
            let mark = meta::get(read, counter.key())?;
            let state = counters.state(counter);
            state.mark.store(mark, Ordering::Release);
            state.next.store(mark.max(1), Ordering::Release);
        }
        Ok(counters)
    }

    /// Takes the marks from the disk again: after a failed commit nobody knows which ones it holds.
    pub(crate) fn reload_marks(&self, read: &dyn Read) -> Result<(), StoreError> {
        for counter in Counter::ALL {
            self.state(counter).mark.store(meta::get(read, counter.key())?, Ordering::Release);
        }
        Ok(())
    }

    fn state(&self, counter: Counter) -> &State {
        let [event, state, room, transaction, row] = &self.0;
        match counter {
            Counter::Event => event,
            Counter::State => state,
            Counter::Room => room,
            Counter::Transaction => transaction,
            Counter::Row => row,
        }
    }

    pub(crate) fn allocate(&self, counter: Counter) -> u64 {
        self.state(counter).next.fetch_add(1, Ordering::AcqRel)
    }

    /// The marks that a commit made now must write, each with its key. To be called after its changes were
    /// made up, as they may have taken numbers.
    pub(crate) fn due(&self) -> Vec<(Counter, &'static str, u64)> {
        self.marks(|next, mark| (mark < next.saturating_add(LEFT)).then(|| next.saturating_add(AHEAD)))
    }

    /// The marks that leave no hole, for the last commit before closing.
    pub(crate) fn exact(&self) -> Vec<(Counter, &'static str, u64)> {
        self.marks(|next, mark| (mark != next).then_some(next))
    }

    fn marks(&self, new: impl Fn(u64, u64) -> Option<u64>) -> Vec<(Counter, &'static str, u64)> {
        let mut marks = Vec::new();
        for counter in Counter::ALL {
            let state = self.state(counter);
            let next = state.next.load(Ordering::Acquire);
            // A counter nobody used needs no row.
            if next > 1
                && let Some(mark) = new(next, state.mark.load(Ordering::Acquire))
            {
                marks.push((counter, counter.key(), mark));
            }
        }
        marks
    }

    /// Notes marks that are now on disk.
    pub(crate) fn written(&self, marks: &[(Counter, &'static str, u64)]) {
        for (counter, _, mark) in marks {
            self.state(*counter).mark.store(*mark, Ordering::Release);
        }
    }
}
