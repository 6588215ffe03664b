//! A table: a name, the type of its keys and the type of its values, defined once in [`crate::tables`].

use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};

use crate::error::{Corrupt, StoreError};
use crate::key::{Key, after_prefix};
use crate::read::{RawRow, RawRows, Read};
use crate::tx::Tx;
use crate::value::Value;

/// Largest value in bytes. Larger things are files ([`crate::blobs`]).
pub const MAX_VALUE_BYTES: usize = 64 << 20;
/// Largest encoded key in bytes.
pub const MAX_KEY_BYTES: usize = 64 << 10;

/// A table of the database. It holds nothing, so it is a constant:
///
/// ```
/// use kith_store::{Json, Table};
/// /// (user, device) -> display name
/// const DEVICE_NAMES: Table<(String, String), String> = Table::new("device_names");
/// ```
pub struct Table<K, V> {
    name: &'static str,
    row: PhantomData<fn() -> (K, V)>,
}

impl<K: Key, V: Value> Table<K, V> {
    /// Names a table. Two tables must not have the same name; a name must not change once released.
    pub const fn new(name: &'static str) -> Self {
        Self { name, row: PhantomData }
    }

    /// The name given.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The value under `key`.
    ///
    /// # Errors
    /// As all reads: if the disk fails, the store is closed, or the row is damaged.
    pub fn get(&self, read: &dyn Read, key: &K) -> Result<Option<V>, StoreError> {
        match read.get_raw(self.name, &key.to_bytes())? {
            Some(bytes) => V::decode(&bytes).map(Some).map_err(|cause| self.corrupt(cause)),
            None => Ok(None),
        }
    }

    /// Whether there is a row under `key`.
    ///
    /// # Errors
    /// As [`Table::get`].
    pub fn contains(&self, read: &dyn Read, key: &K) -> Result<bool, StoreError> {
        Ok(read.get_raw(self.name, &key.to_bytes())?.is_some())
    }

    /// The rows whose keys lie in `bounds`, in order; `.rev()` goes down from the upper bound, as cheaply.
    ///
    /// # Errors
    /// As [`Table::get`]; so does each row.
    pub fn range<'a>(&self, read: &'a dyn Read, bounds: impl RangeBounds<K>) -> Result<Rows<'a, K, V>, StoreError> {
        self.rows(read, bytes_of(bounds.start_bound()), bytes_of(bounds.end_bound()))
    }

    /// The rows whose keys start with `prefix`: the first parts of a tuple, or a [`crate::StartOf`].
    ///
    /// # Errors
    /// As [`Table::range`].
    pub fn prefix<'a, P: Key>(&self, read: &'a dyn Read, prefix: &P) -> Result<Rows<'a, K, V>, StoreError> {
        self.prefix_range(read, prefix, (Bound::Unbounded, Bound::Unbounded))
    }

    /// As [`Table::prefix`], from the last row to the first.
    ///
    /// # Errors
    /// As [`Table::range`].
    pub fn prefix_rev<'a, P: Key>(
        &self,
        read: &'a dyn Read,
        prefix: &P,
    ) -> Result<std::iter::Rev<Rows<'a, K, V>>, StoreError> {
        Ok(self.prefix(read, prefix)?.rev())
    }

    /// As [`Table::prefix`], but only from `from` on (that row included), upwards.
    ///
    /// # Errors
    /// As [`Table::range`].
    pub fn prefix_from<'a, P: Key>(
        &self,
        read: &'a dyn Read,
        prefix: &P,
        from: &K,
    ) -> Result<Rows<'a, K, V>, StoreError> {
        self.prefix_range(read, prefix, (Bound::Included(from), Bound::Unbounded))
    }

    /// As [`Table::prefix`], but only up to `until` (that row included); `.rev()` goes down from there.
    ///
    /// # Errors
    /// As [`Table::range`].
    pub fn prefix_until<'a, P: Key>(
        &self,
        read: &'a dyn Read,
        prefix: &P,
        until: &K,
    ) -> Result<Rows<'a, K, V>, StoreError> {
        self.prefix_range(read, prefix, (Bound::Unbounded, Bound::Included(until)))
    }

    /// The rows whose keys start with `prefix` and lie between two bounds.
    ///
    /// # Errors
    /// As [`Table::range`].
    pub fn prefix_range<'a, P: Key>(
        &self,
        read: &'a dyn Read,
        prefix: &P,
        (from, to): (Bound<&K>, Bound<&K>),
    ) -> Result<Rows<'a, K, V>, StoreError> {
        let prefix = prefix.to_bytes();
        let end = after_prefix(&prefix);
        let from = match bytes_of(from) {
            Bound::Included(key) | Bound::Excluded(key) if key < prefix => Bound::Included(prefix),
            Bound::Unbounded => Bound::Included(prefix),
            bound => bound,
        };
        let to = match (bytes_of(to), end) {
            (Bound::Included(key) | Bound::Excluded(key), Some(end)) if key >= end => Bound::Excluded(end),
            (Bound::Unbounded, Some(end)) => Bound::Excluded(end),
            (bound, _) => bound,
        };
        self.rows(read, from, to)
    }

    /// The row with the least key.
    ///
    /// # Errors
    /// As [`Table::get`].
    pub fn first(&self, read: &dyn Read) -> Result<Option<(K, V)>, StoreError> {
        self.rows(read, Bound::Unbounded, Bound::Unbounded)?.next().transpose()
    }

    /// The row with the greatest key.
    ///
    /// # Errors
    /// As [`Table::get`].
    pub fn last(&self, read: &dyn Read) -> Result<Option<(K, V)>, StoreError> {
        self.rows(read, Bound::Unbounded, Bound::Unbounded)?.next_back().transpose()
    }

    /// Sets the row under `key`.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`].
    pub fn put(&self, tx: &mut Tx, key: &K, value: &V) -> Result<(), StoreError> {
        tx.put_raw(self.name, key.to_bytes(), value.encode())
    }

    /// Deletes the row under `key`; says whether there was one.
    ///
    /// # Errors
    /// As [`Table::get`].
    pub fn delete(&self, tx: &mut Tx, key: &K) -> Result<bool, StoreError> {
        tx.delete_raw(self.name, key.to_bytes())
    }

    fn rows<'a>(
        &self,
        read: &'a dyn Read,
        from: Bound<Vec<u8>>,
        to: Bound<Vec<u8>>,
    ) -> Result<Rows<'a, K, V>, StoreError> {
        let rows = read.range_raw(self.name, from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice))?;
        Ok(Rows { table: self.name, rows, row: PhantomData })
    }

    fn corrupt(&self, cause: Corrupt) -> StoreError {
        StoreError::corrupt(self.name, cause)
    }
}

fn bytes_of<K: Key>(bound: Bound<&K>) -> Bound<Vec<u8>> {
    bound.map(Key::to_bytes)
}

/// Rows of a table in the order of their keys, from both ends. A damaged row is an error in its place.
pub struct Rows<'a, K, V> {
    table: &'static str,
    rows: RawRows<'a>,
    row: PhantomData<fn() -> (K, V)>,
}

impl<K: Key, V: Value> Rows<'_, K, V> {
    fn decode(&self, row: Result<RawRow<'_>, StoreError>) -> Result<(K, V), StoreError> {
        let (key, value) = row?;
        let corrupt = |cause| StoreError::corrupt(self.table, cause);
        let mut input = &*key;
        let key = K::decode(&mut input).map_err(corrupt)?;
        if !input.is_empty() {
            return Err(corrupt(Corrupt::new("a shorter key")));
        }
        Ok((key, V::decode(&value).map_err(corrupt)?))
    }
}

impl<K: Key, V: Value> Iterator for Rows<'_, K, V> {
    type Item = Result<(K, V), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.rows.next()?;
        Some(self.decode(row))
    }
}

impl<K: Key, V: Value> DoubleEndedIterator for Rows<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let row = self.rows.next_back()?;
        Some(self.decode(row))
    }
}
