//! Writes that are not committed yet, and reading through them.
//!
//! Each change writes into an overlay of its own, over the overlay of its batch, over a snapshot of what is
//! committed. Only when the change succeeds is its overlay folded into the batch's, and only at the commit is that
//! one applied, sorted: a row that thirty changes of the batch rewrite is written once.

use std::collections::BTreeMap;
use std::ops::Bound;

use kith_mutants::mutant;

use crate::error::StoreError;
use crate::read::{Bytes, RawRow, RawRows, is_empty};

type Rows = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Rows by table; `None` is a deletion.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    tables: BTreeMap<&'static str, Rows>,
    bytes: usize,
}

impl Overlay {
    /// Sets (`Some`) or deletes (`None`) a row.
    pub(crate) fn write(&mut self, table: &'static str, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.bytes += key.len() + value.as_ref().map_or(0, Vec::len);
        self.tables.entry(table).or_default().insert(key, value);
    }

    /// `None`: nothing said here, look below. `Some(None)`: deleted here.
    pub(crate) fn get(&self, table: &'static str, key: &[u8]) -> Option<Option<&[u8]>> {
        self.tables.get(table)?.get(key).map(Option::as_deref)
    }

    /// Folds the writes of `newer` in.
    pub(crate) fn absorb(&mut self, newer: &mut Overlay) {
        self.bytes += std::mem::take(&mut newer.bytes);
        for (table, mut rows) in std::mem::take(&mut newer.tables) {
            let older = self.tables.entry(table).or_default();
            if mutant!("older-write-wins") {
                std::mem::swap(older, &mut rows);
            }
            older.append(&mut rows);
        }
    }

    /// Gives all writes, table by table, and keeps none.
    pub(crate) fn take(&mut self) -> BTreeMap<&'static str, Rows> {
        self.bytes = 0;
        std::mem::take(&mut self.tables)
    }

    pub(crate) fn clear(&mut self) {
        self.tables.clear();
        self.bytes = 0;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// About how much memory the writes take (overwritten ones included).
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All tables written to, in order.
    pub(crate) fn tables(&self) -> &BTreeMap<&'static str, Rows> {
        &self.tables
    }

    /// The rows below, as they are seen through this overlay.
    pub(crate) fn over<'a>(
        &'a self,
        table: &'static str,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        below: RawRows<'a>,
    ) -> RawRows<'a> {
        let Some(rows) = self.tables.get(table) else {
            return below;
        };
        // BTreeMap::range panics on crossed bounds.
        if is_empty(from, to) {
            return below;
        }
        let mut upper = rows.range::<[u8], _>((from, to)).peekable();
        if upper.peek().is_none() {
            return below;
        }
        Box::new(Merge { upper: Ends::new(upper), lower: Ends::new(below) })
    }
}

/// An iterator that can be looked at from both ends.
struct Ends<I: DoubleEndedIterator> {
    rest: I,
    front: Option<I::Item>,
    back: Option<I::Item>,
}

impl<I: DoubleEndedIterator> Ends<I> {
    fn new(rest: I) -> Self {
        Self { rest, front: None, back: None }
    }

    fn peek_front(&mut self) -> Option<&I::Item> {
        if self.front.is_none() {
            self.front = self.rest.next().or_else(|| self.back.take());
        }
        self.front.as_ref()
    }

    fn peek_back(&mut self) -> Option<&I::Item> {
        if self.back.is_none() {
            self.back = self.rest.next_back().or_else(|| self.front.take());
        }
        self.back.as_ref()
    }
}

struct Merge<'a, U, L>
where
    U: DoubleEndedIterator<Item = (&'a Vec<u8>, &'a Option<Vec<u8>>)>,
    L: DoubleEndedIterator<Item = Result<RawRow<'a>, StoreError>>,
{
    upper: Ends<U>,
    lower: Ends<L>,
}

/// Both ends do the same, mirrored.
macro_rules! step {
    ($self:ident, $peek:ident, $slot:ident, $first:pat) => {
        loop {
            let upper = $self.upper.$peek().copied();
            let order = match ($self.lower.$peek(), upper) {
                (None, None) => return None,
                (Some(Err(_)), _) | (Some(_), None) => return $self.lower.$slot.take(),
                (None, Some(_)) => None,
                (Some(Ok((below, _))), Some((above, _))) => Some((**below).cmp(above.as_slice())),
            };
            match order {
                Some($first) => return $self.lower.$slot.take(),
                Some(std::cmp::Ordering::Equal) => $self.lower.$slot = None,
                _ => {}
            }
            $self.upper.$slot = None;
            if let Some((key, Some(value))) = upper {
                return Some(Ok((Bytes::Held(key), Bytes::Held(value))));
            }
        }
    };
}

impl<'a, U, L> Iterator for Merge<'a, U, L>
where
    U: DoubleEndedIterator<Item = (&'a Vec<u8>, &'a Option<Vec<u8>>)>,
    L: DoubleEndedIterator<Item = Result<RawRow<'a>, StoreError>>,
{
    type Item = Result<RawRow<'a>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        step!(self, peek_front, front, std::cmp::Ordering::Less)
    }
}

impl<'a, U, L> DoubleEndedIterator for Merge<'a, U, L>
where
    U: DoubleEndedIterator<Item = (&'a Vec<u8>, &'a Option<Vec<u8>>)>,
    L: DoubleEndedIterator<Item = Result<RawRow<'a>, StoreError>>,
{
    fn next_back(&mut self) -> Option<Self::Item> {
        step!(self, peek_back, back, std::cmp::Ordering::Greater)
    }
}
