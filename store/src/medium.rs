//! Where committed rows are: in a redb database, or in memory.

use redb::{
    CompactionError, Database, Durability, ReadTransaction, ReadableDatabase as _, ReadableTableMetadata as _,
    TableHandle as _, UntypedTableHandle, WriteTransaction,
};

use kith_mutants::mutant;

use crate::error::StoreError;
use crate::overlay::Overlay;
use crate::snapshot::{Snapshot, definition};
use crate::volatile::VolatileRows;

/// See the module.
pub(crate) enum Medium {
    File(Database),
    Memory(VolatileRows),
}

/// A commit that was begun.
pub(crate) enum Writing {
    File(Box<WriteTransaction>),
    Memory(VolatileRows),
}

impl Medium {
    /// What is committed.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Ok(match self {
            Self::File(database) => Snapshot::new(database.begin_read()?),
            Self::Memory(rows) => Snapshot::of(rows.tables()),
        })
    }

    pub(crate) fn begin(&self) -> Result<Writing, StoreError> {
        Ok(match self {
            Self::File(database) => Writing::File(Box::new(database.begin_write()?)),
            Self::Memory(rows) => Writing::Memory(rows.clone()),
        })
    }

    /// Names of all tables.
    pub(crate) fn names(&self) -> Result<Vec<String>, StoreError> {
        match self {
            Self::File(database) => names(&database.begin_read()?),
            Self::Memory(rows) => Ok(rows.tables().names().map(str::to_owned).collect()),
        }
    }

    /// See [`Store::table_rows`](crate::Store::table_rows).
    pub(crate) fn table_rows(&self) -> Result<Vec<(String, u64)>, StoreError> {
        match self {
            Self::File(database) => {
                let transaction = database.begin_read()?;
                let rows = |table: UntypedTableHandle| {
                    Ok((table.name().to_owned(), transaction.open_untyped_table(table)?.len()?))
                };
                transaction.list_tables()?.map(rows).collect()
            }
            Self::Memory(rows) => {
                let tables = rows.tables();
                Ok(tables.names().map(|name| (name.to_owned(), tables.rows(name))).collect())
            }
        }
    }

    /// Says whether anything was gained.
    pub(crate) fn compact(&mut self) -> Result<bool, CompactionError> {
        match self {
            Self::File(database) => database.compact(),
            Self::Memory(_) => Ok(false),
        }
    }
}

/// Names of all tables of a database.
pub(crate) fn names(transaction: &ReadTransaction) -> Result<Vec<String>, StoreError> {
    Ok(transaction.list_tables()?.map(|table| table.name().to_owned()).collect())
}

impl Writing {
    /// Writes the rows, table by table and in order, and makes them as durable as the medium is.
    pub(crate) fn commit(self, overlay: &mut Overlay) -> Result<(), StoreError> {
        let mut transaction = match self {
            Self::File(transaction) => transaction,
            Self::Memory(rows) => {
                rows.apply(overlay);
                return Ok(());
            }
        };
        let durable = !mutant!("commits-without-sync");
        let durability = if durable { Durability::Immediate } else { Durability::None };
        transaction.set_durability(durability).map_err(|error| StoreError::Io(error.to_string().into()))?;
        // On every commit, or the next opening after a crash takes seconds.
        transaction.set_quick_repair(durable);
        for (name, rows) in overlay.tables() {
            let mut table = transaction.open_table(definition(name))?;
            for (key, value) in rows {
                match value {
                    Some(value) => drop(table.insert(key.as_slice(), value.as_slice())?),
                    None => drop(table.remove(key.as_slice())?),
                }
            }
        }
        Ok(transaction.commit()?)
    }
}
