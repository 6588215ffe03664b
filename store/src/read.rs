//! Reading rows as bytes: what [`Snapshot`](crate::Snapshot) and [`Tx`](crate::Tx) have in common, so that a
//! table's functions serve readers and writers alike.

use std::ops::{Bound, Deref};

use redb::AccessGuard;

use crate::error::StoreError;

/// Something rows can be read from. Code above this crate passes it on to [`Table`](crate::Table)'s functions.
pub trait Read {
    /// The value under `key`, if there is one. A table nobody ever wrote to is empty.
    ///
    /// # Errors
    /// If the disk fails or the store is closed.
    fn get_raw(&self, table: &'static str, key: &[u8]) -> Result<Option<Bytes<'_>>, StoreError>;

    /// All rows between the bounds, in the order of their keys, from both ends. Bounds that cross give none.
    ///
    /// # Errors
    /// If the disk fails or the store is closed.
    fn range_raw(&self, table: &'static str, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<RawRows<'_>, StoreError>;
}

/// One row: key and value.
pub type RawRow<'a> = (Bytes<'a>, Bytes<'a>);

/// Rows as they are read.
pub type RawRows<'a> = Box<dyn DoubleEndedIterator<Item = Result<RawRow<'a>, StoreError>> + 'a>;

/// Bytes of a key or value.
pub enum Bytes<'a> {
    /// In a page of the database.
    Stored(AccessGuard<'a, &'static [u8]>),
    /// In memory: written by this change or an earlier one of the same batch, or committed to
    /// [`VolatileRows`](crate::VolatileRows).
    Held(&'a [u8]),
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Stored(guard) => guard.value(),
            Self::Held(bytes) => bytes,
        }
    }
}

/// Whether nothing can lie between the bounds.
pub(crate) fn is_empty(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(a), Bound::Included(b)) => a > b,
        (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => a >= b,
    }
}
