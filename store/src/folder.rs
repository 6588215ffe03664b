//! The data folder: ours alone, one process at a time, closed to other users of the device.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

use crate::backend::{private_options, unusable};
use crate::error::OpenError;

/// Name of the database file.
pub(crate) const DATABASE: &str = "kith.redb";
/// Name of the lock file.
pub(crate) const LOCK: &str = "kith.lock";

/// Keeps other processes out until it is dropped (or the process dies).
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: File,
}

/// Makes the folder if there is none, checks that it is ours, closes it to others and locks it.
pub(crate) fn prepare(dir: &Path, beside: &[String]) -> Result<FolderLock, OpenError> {
    create(dir).map_err(|cause| unusable(dir, cause))?;
    check_ours(dir, beside)?;
    let lock = lock(dir)?;
    make_private(dir).map_err(|cause| unusable(dir, cause))?;
    Ok(lock)
}

fn create(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// A folder that holds things but no database is somebody's: it must not be closed to others and filled with ours.
fn check_ours(dir: &Path, beside: &[String]) -> Result<(), OpenError> {
    if dir.join(DATABASE).exists() {
        return Ok(());
    }
    for entry in fs::read_dir(dir).map_err(|cause| unusable(dir, cause))? {
        let name = entry.map_err(|cause| unusable(dir, cause))?.file_name();
        let name = name.to_string_lossy();
        let ours = name.starts_with("kith")
            || name.starts_with('.')
            || ["media", "server.key", "lost+found"].contains(&&*name)
            || beside.iter().any(|other| *other == name);
        if !ours {
            return Err(OpenError::Foreign {
                path: dir.to_owned(),
                found: format!("it holds {name:?} and no kith database"),
            });
        }
    }
    Ok(())
}

#[cfg(unix)]
fn make_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    for (path, mode) in [(dir.to_owned(), 0o700), (dir.join(DATABASE), 0o600)] {
        match fs::metadata(&path) {
            Ok(found) if found.permissions().mode() & 0o077 != 0 => {
                fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn make_private(_: &Path) -> io::Result<()> {
    Ok(())
}

fn lock(dir: &Path) -> Result<FolderLock, OpenError> {
    let path = dir.join(LOCK);
    let mut file = private_options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|cause| unusable(&path, cause))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Best effort: some systems do not let a locked file be read.
            let _ = (&file).take(16).read_to_string(&mut pid);
            return Err(OpenError::InUse { path: dir.to_owned(), pid: pid.trim().parse().ok() });
        }
        Err(TryLockError::Error(cause)) => return Err(unusable(&path, cause)),
    }
    // For the message above; the lock itself does not depend on it.
    let write_pid = |file: &mut File| -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    if let Err(error) = write_pid(&mut file) {
        tracing::debug!(%error, "the lock file could not be written");
    }
    Ok(FolderLock { _file: file })
}
