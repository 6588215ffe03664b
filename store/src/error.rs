//! What can go wrong in the store, in words for the person who reads it.
//!
//! [`StoreError`] is cloned to every change of a failed batch, so causes are kept as shared text.
//! Neither error ever carries a stored key or value: those may be secrets.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::folder::DATABASE;

/// Stored bytes that are not what their table promises.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Corrupt(Cow<'static, str>);

impl Corrupt {
    /// Says what was expected; never quotes the bytes found.
    pub fn new(expected: impl Into<Cow<'static, str>>) -> Self {
        Self(expected.into())
    }
}

/// A read or a change that did not happen.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// The disk is full, or nearly: changes are refused, reads go on.
    #[error(
        "the disk is full: {} bytes are free where kith keeps a reserve of {reserve_bytes}; free some space and try again",
        .free_bytes.map_or_else(|| "no".to_owned(), |n| n.to_string())
    )]
    DiskFull {
        /// What was free when it was looked at; `None` if the disk itself refused a write.
        free_bytes: Option<u64>,
        /// Changes are refused below this.
        reserve_bytes: u64,
    },
    /// The disk or the operating system refused; the database is reopened at once.
    #[error("the database could not be read or written: {0}")]
    Io(Arc<str>),
    /// A row is not what its table promises.
    #[error("a row of table {table} is damaged: {cause}")]
    Corrupt {
        /// Name of the table.
        table: &'static str,
        /// What was expected.
        cause: Corrupt,
    },
    /// The database failed and could not be reopened: this node must stop.
    #[error("the database failed and could not be reopened: {0}")]
    Failed(Arc<str>),
    /// [`crate::Store::close`] was called.
    #[error("the database is closed")]
    Closed,
    /// More changes wait than the queue takes; try again later.
    #[error("too many changes wait for the disk")]
    Overloaded,
    /// The code that made up the change panicked; nothing of it was kept.
    #[error("a change was dropped because its code panicked (a bug: the log says where)")]
    Panicked,
    /// A value of more than [`crate::MAX_VALUE_BYTES`], or a key of more than [`crate::MAX_KEY_BYTES`].
    #[error("a row of {bytes} bytes is too large for table {table}")]
    TooLarge {
        /// Name of the table.
        table: &'static str,
        /// Size of the key or value.
        bytes: usize,
    },
    /// The operation needs the database for itself, but readers hold it.
    #[error("the database is being read; try again later")]
    Busy,
}

impl StoreError {
    pub(crate) fn corrupt(table: &'static str, cause: Corrupt) -> Self {
        Self::Corrupt { table, cause }
    }

    /// Whether writing failed for want of space (Matrix: `M_RESOURCE_LIMIT_EXCEEDED`, 507).
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }
}

impl From<redb::StorageError> for StoreError {
    fn from(error: redb::StorageError) -> Self {
        match error {
            redb::StorageError::Io(error) => error.into(),
            error => Self::Io(error.to_string().into()),
        }
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { free_bytes: None, reserve_bytes: 0 }
            }
            _ => Self::Io(error.to_string().into()),
        }
    }
}

impl From<redb::TableError> for StoreError {
    fn from(error: redb::TableError) -> Self {
        match error {
            redb::TableError::Storage(error) => error.into(),
            error => Self::Io(error.to_string().into()),
        }
    }
}

impl From<redb::TransactionError> for StoreError {
    fn from(error: redb::TransactionError) -> Self {
        match error {
            redb::TransactionError::Storage(error) => error.into(),
            error => Self::Io(error.to_string().into()),
        }
    }
}

impl From<redb::CommitError> for StoreError {
    fn from(error: redb::CommitError) -> Self {
        match error {
            redb::CommitError::Storage(error) => error.into(),
            error => Self::Io(error.to_string().into()),
        }
    }
}

impl From<redb::CompactionError> for StoreError {
    fn from(error: redb::CompactionError) -> Self {
        match error {
            redb::CompactionError::Storage(error) => error.into(),
            redb::CompactionError::TransactionInProgress => Self::Busy,
            error => Self::Io(error.to_string().into()),
        }
    }
}

impl From<redb::DatabaseError> for StoreError {
    fn from(error: redb::DatabaseError) -> Self {
        match error {
            redb::DatabaseError::Storage(error) => error.into(),
            error => Self::Io(error.to_string().into()),
        }
    }
}

/// Why a data folder could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process works on the folder.
    #[error(
        "the data folder {} is in use by {}; stop it first, or choose another folder with --data",
        .path.display(),
        .pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The process, if it could be told.
        pid: Option<u32>,
    },
    /// Something that kith did not make stands there; it is left as it is.
    #[error("{} does not belong to kith ({found}); choose another folder with --data", .path.display())]
    Foreign {
        /// The folder or file.
        path: PathBuf,
        /// What was found there.
        found: String,
    },
    /// A newer kith wrote the database.
    #[error(
        "the data folder {} was written by a newer kith (its schema is {found}, this kith knows up to {supported}); run that version again, or a newer one",
        .path.display()
    )]
    NewerSchema {
        /// The folder or file.
        path: PathBuf,
        /// Version found.
        found: u64,
        /// Newest version known.
        supported: u64,
    },
    /// The operating system refuses.
    #[error(
        "cannot use {}: {cause}. It must belong to the user who runs kith, on a disk that can be written to; or choose another folder with --data",
        .path.display()
    )]
    Unusable {
        /// The folder or file.
        path: PathBuf,
        /// What it said.
        cause: io::Error,
    },
    /// The database is ours, but does not open.
    #[error("the database {} is damaged: {cause}. It was left as it is: stop whatever uses it, and put a copy of the data folder back", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        cause: String,
    },
    /// The first commits failed, or a migration did.
    #[error("the database {} could not be brought into service: {cause}", .path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: StoreError,
    },
}

impl OpenError {
    /// The same for a folder that is known to be a node's: what is no database of kith was one, and is damaged.
    #[must_use]
    pub fn of_ours(self) -> Self {
        match self {
            Self::Foreign { path, found } if path.file_name().is_some_and(|name| name == DATABASE) => {
                Self::Damaged { path, cause: found }
            }
            other => other,
        }
    }
}
