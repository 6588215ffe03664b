//! Rows in ordered maps and on no disk: for simulations in which no disk fails, as they are several times faster.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use imbl::OrdMap;

use crate::overlay::Overlay;
use crate::read::{Bytes, RawRows};

/// Copied where a reader still looks at the map that changes, and only what changes of it.
type Table = OrdMap<Box<[u8]>, Box<[u8]>>;

/// All rows, by table.
#[derive(Clone, Default)]
pub(crate) struct Tables(BTreeMap<&'static str, Table>);

impl Tables {
    pub(crate) fn get(&self, table: &str, key: &[u8]) -> Option<Bytes<'_>> {
        Some(Bytes::Held(self.0.get(table)?.get(key)?))
    }

    /// The bounds must not cross.
    pub(crate) fn range(&self, table: &str, from: Bound<&[u8]>, to: Bound<&[u8]>) -> RawRows<'_> {
        match self.0.get(table) {
            Some(rows) => Box::new(
                rows.range::<_, [u8]>((from, to)).map(|(key, value)| Ok((Bytes::Held(key), Bytes::Held(value)))),
            ),
            None => Box::new(std::iter::empty()),
        }
    }

    pub(crate) fn rows(&self, table: &str) -> u64 {
        self.0.get(table).map_or(0, |rows| rows.len() as u64)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }
}

/// Rows that outlive a [`Store`](crate::Store), in memory: give it as [`Options::volatile`](crate::Options::volatile). Clones are
/// the same rows.
#[derive(Clone, Default)]
pub struct VolatileRows(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    tables: Arc<Tables>,
    bytes: u64,
}

impl VolatileRows {
    /// None at first.
    pub fn new() -> Self {
        Self::default()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tables(&self) -> Arc<Tables> {
        self.kept().tables.clone()
    }

    /// Length of all keys and values.
    pub fn bytes(&self) -> u64 {
        self.kept().bytes
    }

    /// Takes the writes over, all at once for whoever reads.
    pub(crate) fn apply(&self, overlay: &mut Overlay) {
        let mut kept = self.kept();
        let (mut more, mut less) = (0, 0);
        let tables = Arc::make_mut(&mut kept.tables);
        for (name, rows) in overlay.take() {
            let table = tables.0.entry(name).or_default();
            for (key, value) in rows {
                match value {
                    Some(value) => {
                        let (key_bytes, value_bytes) = (key.len(), value.len());
                        more += value_bytes;
                        match table.get_mut(key.as_slice()) {
                            Some(old) => less += std::mem::replace(old, value.into_boxed_slice()).len(),
                            None => {
                                more += key_bytes;
                                table.insert(key.into_boxed_slice(), value.into_boxed_slice());
                            }
                        }
                    }
                    None => less += table.remove(key.as_slice()).map_or(0, |old| key.len() + old.len()),
                }
            }
        }
        kept.bytes = kept.bytes + more as u64 - less as u64;
    }
}

impl fmt::Debug for VolatileRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VolatileRows({} B)", self.bytes())
    }
}
