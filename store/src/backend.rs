//! Where the bytes of the database go: a file, or memory that can crash.
//!
//! The store keeps the [`Backend`], not what it opened, because after an I/O error redb refuses further work and the
//! database has to be opened anew. A backend that encrypts pages wraps another one.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use redb::StorageBackend;
use redb::backends::FileBackend as RedbFile;

use crate::error::OpenError;

/// Something that can be opened as the storage of the database, again and again.
pub trait Backend: Send + Sync + 'static {
    /// Opens it; an empty one is made if there is none. Only the last one opened is used.
    ///
    /// # Errors
    /// What the operating system says.
    fn open(&self) -> io::Result<Box<dyn StorageBackend>>;

    /// Bytes free on its disk, if that can be told.
    fn free_space(&self) -> Option<u64> {
        None
    }

    /// What to call it in messages.
    fn path(&self) -> PathBuf;
}

/// A file.
#[derive(Debug, Clone)]
pub struct FileBackend {
    path: PathBuf,
}

impl FileBackend {
    /// The file need not exist; its folder must.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl Backend for FileBackend {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        let new = !self.path.exists();
        let file = private_options().read(true).write(true).create(true).truncate(false).open(&self.path)?;
        if new && let Some(folder) = self.path.parent() {
            sync_folder(folder)?;
        }
        let file = RedbFile::new(file).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Box::new(file))
    }

    fn free_space(&self) -> Option<u64> {
        free_space(self.path.parent()?)
    }

    fn path(&self) -> PathBuf {
        self.path.clone()
    }
}

/// Options that make files only their owner can read.
pub(crate) fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes the names in a folder durable. Does nothing where folders cannot be opened (Windows).
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Bytes that this user may still write to the disk of `folder`.
#[cfg(unix)]
pub(crate) fn free_space(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Cannot be told here.
#[cfg(not(unix))]
pub(crate) fn free_space(_: &Path) -> Option<u64> {
    None
}

/// The largest file that an interrupted creation can have left: redb's first layout is under 2 MiB.
const LARGEST_UNFINISHED: u64 = 8 << 20;

/// redb writes its magic number last when it makes a database. A crash before that leaves a file it refuses: such a
/// file, which holds nothing but (part of) a header, is emptied to be made anew.
pub(crate) fn restart_unfinished(storage: &dyn StorageBackend) -> io::Result<()> {
    if is_unfinished(storage)? { storage.set_len(0) } else { Ok(()) }
}

/// Whether this is such a file. An empty one is none.
pub(crate) fn is_unfinished(storage: &dyn StorageBackend) -> io::Result<bool> {
    let len = storage.len()?;
    if len == 0 || len > LARGEST_UNFINISHED {
        return Ok(false);
    }
    let mut at = 0;
    let mut page = [0; 4096];
    while at < len {
        let size = usize::try_from(len - at).map_or(page.len(), |rest| rest.min(page.len()));
        let Some(chunk) = page.get_mut(..size) else {
            break;
        };
        storage.read(at, chunk)?;
        // Of the first page only the magic number tells: the header behind it is written before it.
        let looked_at = if at == 0 { chunk.get(..chunk.len().min(9)) } else { Some(&*chunk) };
        if looked_at.is_some_and(|bytes| bytes.iter().any(|&byte| byte != 0)) {
            return Ok(false);
        }
        at += size as u64;
    }
    Ok(true)
}

pub(crate) fn unusable(path: &Path, cause: io::Error) -> OpenError {
    OpenError::Unusable { path: path.to_owned(), cause }
}
