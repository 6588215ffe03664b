//! A change while it is made up.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use kith_mutants::mutant;

use crate::counters::{Counter, Counters};
use crate::error::StoreError;
use crate::overlay::Overlay;
use crate::read::{Bytes, RawRows, Read, is_empty};
use crate::snapshot::Snapshot;
use crate::table::{MAX_KEY_BYTES, MAX_VALUE_BYTES};

/// Whom a commit concerns, so that only they are woken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touched {
    /// A user's own things (account data, to-device, device lists...), by user ID.
    User(String),
    /// A room, by its number.
    Room(u64),
    /// What is queued for another server, by name.
    Destination(String),
    /// Anything else, by a name that its writer and its listener agree on.
    Other(&'static str),
}

/// A change: reads see what is committed, what earlier changes of the same batch wrote, and what this one wrote.
///
/// If the closure that makes it up gives an error or panics, nothing of it is kept. Closures run on the writer, one
/// after the other: they must be quick, and must not wait for anything.
pub struct Tx {
    base: Snapshot,
    batch: Overlay,
    own: Overlay,
    counters: Arc<Counters>,
    batch_position: u64,
    own_position: u64,
    batch_touched: BTreeSet<Touched>,
    own_touched: Vec<Touched>,
}

impl Tx {
    pub(crate) fn new(base: Snapshot, position: u64, counters: Arc<Counters>) -> Self {
        Self {
            base,
            batch: Overlay::default(),
            own: Overlay::default(),
            counters,
            batch_position: position,
            own_position: position,
            batch_touched: BTreeSet::new(),
            own_touched: Vec::new(),
        }
    }

    /// Gives the next stream position. Positions are given in the order of commits, without holes; readers learn
    /// of one when it is published, after the commit.
    pub fn next_position(&mut self) -> u64 {
        self.own_position += 1;
        self.own_position
    }

    /// The last stream position given so far, by this change or those before it.
    pub fn position(&self) -> u64 {
        self.own_position
    }

    /// Gives a number, as [`Store::allocate`](crate::Store::allocate). It stays used if the change fails.
    pub fn allocate(&self, counter: Counter) -> u64 {
        self.counters.allocate(counter)
    }

    /// Says whom this change concerns: see [`Store::on_commit`](crate::Store::on_commit).
    pub fn touch(&mut self, touched: Touched) {
        self.own_touched.push(touched);
    }

    pub(crate) fn put_raw(&mut self, table: &'static str, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        // redb would fail the whole batch.
        if key.len() > MAX_KEY_BYTES || value.len() > MAX_VALUE_BYTES {
            return Err(StoreError::TooLarge { table, bytes: key.len().max(value.len()) });
        }
        self.own.write(table, key, Some(value));
        Ok(())
    }

    pub(crate) fn delete_raw(&mut self, table: &'static str, key: Vec<u8>) -> Result<bool, StoreError> {
        let was_there = self.get_raw(table, &key)?.is_some();
        if was_there {
            self.own.write(table, key, None);
        }
        Ok(was_there)
    }

    /// The change succeeded: its neighbours see it.
    pub(crate) fn keep(&mut self) {
        self.batch.absorb(&mut self.own);
        self.batch_position = self.own_position;
        self.batch_touched.extend(self.own_touched.drain(..));
    }

    /// The change failed: as if it had never been.
    pub(crate) fn discard(&mut self) {
        self.own.clear();
        self.own_position = self.batch_position;
        self.own_touched.clear();
    }

    /// About how much memory the batch takes.
    pub(crate) fn bytes(&self) -> usize {
        self.batch.bytes()
    }

    /// Gives the writes, the position and whom they concern; closes the snapshot.
    pub(crate) fn finish(self) -> (Overlay, u64, BTreeSet<Touched>) {
        (self.batch, self.batch_position, self.batch_touched)
    }
}

impl Read for Tx {
    fn get_raw(&self, table: &'static str, key: &[u8]) -> Result<Option<Bytes<'_>>, StoreError> {
        match self.own.get(table, key).or_else(|| self.batch.get(table, key)) {
            Some(written) => Ok(written.map(Bytes::Held)),
            None => self.base.get_raw(table, key),
        }
    }

    fn range_raw(&self, table: &'static str, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<RawRows<'_>, StoreError> {
        if is_empty(from, to) {
            return Ok(Box::new(std::iter::empty()));
        }
        let rows = self.base.range_raw(table, from, to)?;
        let rows = if mutant!("reads-past-the-batch") { rows } else { self.batch.over(table, from, to, rows) };
        Ok(self.own.over(table, from, to, rows))
    }
}
