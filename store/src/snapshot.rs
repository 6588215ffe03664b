//! A reader's view: what was committed at one moment.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use redb::{ReadOnlyTable, ReadTransaction, ReadableTableMetadata as _, TableDefinition, TableError};

use crate::error::StoreError;
use crate::meta;
use crate::read::{Bytes, RawRows, Read, is_empty};
use crate::volatile::Tables;
use crate::{Key, Table, Value};

type Opened = Arc<ReadOnlyTable<&'static [u8], &'static [u8]>>;

/// What was committed when it was taken; later commits do not show in it.
///
/// Keep it for 100 ms at most, and never while waiting for something: as long as it lives, the pages that later
/// commits free cannot be used again, and the file grows. After a failed commit its reads may fail: take a new one.
/// Clones are the same snapshot, and so are those that are taken before the next commit.
#[derive(Clone)]
pub struct Snapshot(Arc<View>);

enum View {
    File {
        transaction: ReadTransaction,
        /// Tables opened so far; `None`: not made yet.
        opened: Mutex<BTreeMap<&'static str, Option<Opened>>>,
    },
    Memory(Arc<Tables>),
}

impl Snapshot {
    pub(crate) fn new(transaction: ReadTransaction) -> Self {
        Self(Arc::new(View::File { transaction, opened: Mutex::default() }))
    }

    pub(crate) fn of(tables: Arc<Tables>) -> Self {
        Self(Arc::new(View::Memory(tables)))
    }

    /// The stream position up to which this snapshot shows the live timeline. Unlike
    /// [`Store::position`](crate::Store::position) it is exactly that of this snapshot.
    ///
    /// # Errors
    /// As any read.
    pub fn position(&self) -> Result<u64, StoreError> {
        Ok(meta::progress(self)?.position)
    }

    /// How many rows a table has; cheap.
    ///
    /// # Errors
    /// As any read.
    pub fn rows<K: Key, V: Value>(&self, table: &Table<K, V>) -> Result<u64, StoreError> {
        let name = table.name();
        Ok(match &*self.0 {
            View::File { transaction, opened } => {
                open(transaction, opened, name)?.map_or(Ok(0), |table| table.len())?
            }
            View::Memory(tables) => tables.rows(name),
        })
    }
}

fn open(
    transaction: &ReadTransaction,
    opened: &Mutex<BTreeMap<&'static str, Option<Opened>>>,
    name: &'static str,
) -> Result<Option<Opened>, StoreError> {
    let mut opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(table) = opened.get(name) {
        return Ok(table.clone());
    }
    let table = match transaction.open_table(definition(name)) {
        Ok(table) => Some(Arc::new(table)),
        Err(TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(error.into()),
    };
    opened.insert(name, table.clone());
    Ok(table)
}

/// All tables are the same to redb: bytes to bytes.
pub(crate) fn definition(name: &'static str) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(name)
}

impl Read for Snapshot {
    fn get_raw(&self, table: &'static str, key: &[u8]) -> Result<Option<Bytes<'_>>, StoreError> {
        let (transaction, opened) = match &*self.0 {
            View::File { transaction, opened } => (transaction, opened),
            View::Memory(tables) => return Ok(tables.get(table, key)),
        };
        match open(transaction, opened, table)? {
            Some(table) => Ok(table.get(key)?.map(Bytes::Stored)),
            None => Ok(None),
        }
    }

    fn range_raw(&self, table: &'static str, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<RawRows<'_>, StoreError> {
        if is_empty(from, to) {
            return Ok(Box::new(std::iter::empty()));
        }
        let (transaction, opened) = match &*self.0 {
            View::File { transaction, opened } => (transaction, opened),
            View::Memory(tables) => return Ok(tables.range(table, from, to)),
        };
        match open(transaction, opened, table)? {
            Some(table) => {
                let rows = table.range::<&[u8]>((from, to))?;
                Ok(Box::new(rows.map(|row| {
                    let (key, value) = row?;
                    Ok((Bytes::Stored(key), Bytes::Stored(value)))
                })))
            }
            None => Ok(Box::new(std::iter::empty())),
        }
    }
}
