//! Blobs as files: `media/ab/cdef...`, readable by their owner alone.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
#[cfg(test)]
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Blob, BlobName, BlobStore, BlobWriter, Swept};
use crate::backend::{free_space, private_options, sync_folder};

const TEMPORARY: &str = "tmp";
/// A blob being written looks at the free space again after so many bytes. Those of all writers together can go into the
/// reserve, which is far larger.
const LOOK_BYTES: u64 = 4 << 20;

/// Asks for the free bytes of the disk that a path is on.
type Free = fn(&Path) -> Option<u64>;

/// Blobs in a folder of their own. The process must hold the data folder's lock (an open
/// [`Store`](crate::Store) does): two processes would sweep each other's files.
#[derive(Debug)]
pub struct FolderBlobs {
    root: PathBuf,
    space: Space,
    live: Arc<Mutex<Live>>,
    /// Told when a sweep is about to remove a blob, which then waits a moment for the answer.
    #[cfg(test)]
    removing: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
}

/// The reserve, and how it is looked at.
#[derive(Debug, Clone, Copy)]
struct Space {
    reserve_bytes: u64,
    free: Free,
}

impl Space {
    fn check(&self, root: &Path) -> io::Result<()> {
        if self.reserve_bytes > 0 && (self.free)(root).is_some_and(|free| free < self.reserve_bytes) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

/// What must not be swept.
#[derive(Debug, Default)]
struct Live {
    /// Number of the next temporary file.
    next: u64,
    /// Temporary files being written.
    writing: BTreeSet<u64>,
    /// Blobs finished since the last sweep.
    young: BTreeSet<BlobName>,
}

impl FolderBlobs {
    /// Keeps blobs in `root` (the data folder's `media`), which is made if it is not there. New ones are refused, and those
    /// being written cut off, as [`io::ErrorKind::StorageFull`] when less than `reserve_bytes` are free on the disk.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(root: impl Into<PathBuf>, reserve_bytes: u64) -> io::Result<Self> {
        let root = root.into();
        make_folder(&root)?;
        make_folder(&root.join(TEMPORARY))?;
        Ok(Self {
            root,
            space: Space { reserve_bytes, free: free_space },
            live: Arc::default(),
            #[cfg(test)]
            removing: Mutex::default(),
        })
    }

    fn path(&self, name: &BlobName) -> PathBuf {
        path(&self.root, name)
    }

    /// All blobs in the subfolder of those that start with `first`, in order.
    fn list_folder(&self, first: u8) -> io::Result<Vec<(BlobName, PathBuf)>> {
        let prefix = format!("{first:02x}");
        let entries = match fs::read_dir(self.root.join(&prefix)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            // Anything else there is not ours to touch.
            let name = entry.file_name().to_str().and_then(|rest| format!("{prefix}{rest}").parse().ok());
            names.extend(name.map(|name| (name, entry.path())));
        }
        names.sort();
        Ok(names)
    }
}

fn path(root: &Path, name: &BlobName) -> PathBuf {
    let hex = name.to_string();
    let (folder, file) = hex.split_at(2);
    root.join(folder).join(file)
}

/// Makes a folder for the owner alone, durably; says whether it was not there.
fn make_folder(path: &Path) -> io::Result<bool> {
    if path.is_dir() {
        return Ok(false);
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    if let Some(parent) = path.parent() {
        sync_folder(parent)?;
    }
    Ok(true)
}

fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl BlobStore for FolderBlobs {
    fn begin(&self) -> io::Result<Box<dyn BlobWriter>> {
        self.space.check(&self.root)?;
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let number = live.next;
            live.next += 1;
            let path = self.root.join(TEMPORARY).join(number.to_string());
            match private_options().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    live.writing.insert(number);
                    let (root, space, live) = (self.root.clone(), self.space, self.live.clone());
                    let unlooked = 0;
                    return Ok(Box::new(Writer { file, path, number, root, space, unlooked, live, done: false }));
                }
                // Left by a process before us, not swept yet.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn get(&self, name: &BlobName, range: Range<u64>) -> io::Result<Option<Blob>> {
        let Some(mut file) = found(File::open(self.path(name)))? else {
            return Ok(None);
        };
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(range.start.min(size)))?;
        let content = Box::new(file.take(range.end.saturating_sub(range.start)));
        Ok(Some(Blob { size, content }))
    }

    fn size(&self, name: &BlobName) -> io::Result<Option<u64>> {
        Ok(found(fs::metadata(self.path(name)))?.map(|metadata| metadata.len()))
    }

    fn delete(&self, name: &BlobName) -> io::Result<bool> {
        Ok(found(fs::remove_file(self.path(name)))?.is_some())
    }

    fn list(&self, after: Option<&BlobName>, limit: usize) -> io::Result<Vec<BlobName>> {
        let mut names = Vec::new();
        for first in after.map_or(0, |name| name.0[0])..=u8::MAX {
            let folder = self.list_folder(first)?.into_iter().map(|(name, _)| name);
            names.extend(folder.filter(|name| after.is_none_or(|after| name > after)));
            if names.len() >= limit {
                names.truncate(limit);
                break;
            }
        }
        Ok(names)
    }

    fn sweep(&self, keep: &mut dyn FnMut(&BlobName) -> io::Result<bool>) -> io::Result<Swept> {
        let mut swept = Swept::default();
        for entry in fs::read_dir(self.root.join(TEMPORARY))? {
            let entry = entry?;
            let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
            if number.is_some_and(|number| !live.writing.contains(&number)) {
                let size = found(entry.metadata())?.map_or(0, |metadata| metadata.len());
                if found(fs::remove_file(entry.path()))?.is_some() {
                    swept.temporary += 1;
                    swept.bytes += size;
                }
            }
        }
        let young = std::mem::take(&mut self.live.lock().unwrap_or_else(PoisonError::into_inner).young);
        for first in 0..=u8::MAX {
            for (name, path) in self.list_folder(first)? {
                // `keep` may ask anything, so nothing is locked here.
                if young.contains(&name) || keep(&name)? {
                    continue;
                }
                // Held until the file is gone: a blob of this name may be finished in this very moment.
                let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
                if live.young.contains(&name) {
                    continue;
                }
                #[cfg(test)]
                if let Some((removing, answer)) = self.removing.lock().unwrap().take() {
                    removing.send(()).unwrap();
                    let _ = answer.recv_timeout(std::time::Duration::from_millis(300));
                }
                let size = found(fs::metadata(&path))?.map_or(0, |metadata| metadata.len());
                if found(fs::remove_file(&path))?.is_some() {
                    swept.orphans += 1;
                    swept.bytes += size;
                }
            }
        }
        Ok(swept)
    }
}

struct Writer {
    file: File,
    path: PathBuf,
    number: u64,
    root: PathBuf,
    space: Space,
    /// Bytes written since the free space was looked at.
    unlooked: u64,
    live: Arc<Mutex<Live>>,
    done: bool,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.unlooked >= LOOK_BYTES {
            self.space.check(&self.root)?;
            self.unlooked = 0;
        }
        let written = self.file.write(bytes)?;
        self.unlooked += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWriter for Writer {
    fn finish(mut self: Box<Self>, name: &BlobName) -> io::Result<()> {
        self.file.sync_all()?;
        let path = path(&self.root, name);
        let folder = path.parent().unwrap_or(&self.root);
        make_folder(folder)?;
        {
            // Under one lock, or a sweep that met an older blob of this name could take this one with it.
            let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
            fs::rename(&self.path, &path)?;
            live.young.insert(*name);
        }
        self.done = true;
        sync_folder(folder)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.done
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(%error, "a temporary file stays for the next sweep");
        }
        self.live.lock().unwrap_or_else(PoisonError::into_inner).writing.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{behaves, put, read};
    use super::*;

    #[test]
    fn a_large_blob_is_cut_off_when_the_space_runs_out_while_it_is_written() {
        // Each test process has its own; nobody else asks here.
        static LEFT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(20 << 20);
        let dir = tempfile::tempdir().unwrap();
        let mut blobs = FolderBlobs::open(dir.path(), 10 << 20).unwrap();
        blobs.space.free = |_| Some(LEFT.load(std::sync::atomic::Ordering::SeqCst));
        let piece = vec![7; 1 << 20];
        let mut writer = blobs.begin().unwrap();
        let mut written = 0;
        let error = loop {
            match writer.write_all(&piece) {
                Ok(()) => written += 1,
                Err(error) => break error,
            }
            LEFT.fetch_sub(1 << 20, std::sync::atomic::Ordering::SeqCst);
            assert!(written < 20, "nothing stopped it");
        };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!((10..15).contains(&written), "{written} MiB");
        drop(writer);
        assert_eq!(fs::read_dir(dir.path().join(TEMPORARY)).unwrap().count(), 0, "nothing of it is left");
    }

    /// A sweep once looked whether a blob is young, let go of the lock, and removed it: when the same content was finished
    /// between, an upload that was answered was gone.
    #[test]
    fn a_blob_that_is_finished_while_a_sweep_meets_an_orphan_of_its_name_stays() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = FolderBlobs::open(dir.path(), 0).unwrap();
        let name = put(&blobs, 1, b"content");
        // No longer young.
        blobs.sweep(&mut |_| Ok(true)).unwrap();
        let (removing, wait) = mpsc::channel();
        let (answer, answered) = mpsc::channel();
        *blobs.removing.lock().unwrap() = Some((removing, answered));
        let mut writer = blobs.begin().unwrap();
        writer.write_all(b"content").unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                wait.recv().unwrap();
                writer.finish(&name).unwrap();
                // Nobody listens any more if the sweep came first.
                let _ = answer.send(());
            });
            assert_eq!(blobs.sweep(&mut |_| Ok(false)).unwrap().orphans, 1);
        });
        assert_eq!(read(&blobs, &name, 0..99).unwrap(), b"content");
    }

    #[test]
    fn a_folder_keeps_blobs() {
        let dir = tempfile::tempdir().unwrap();
        behaves(&FolderBlobs::open(dir.path().join("media"), 0).unwrap());
    }

    #[test]
    fn files_of_an_upload_that_a_crash_cut_off_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = FolderBlobs::open(dir.path(), 0).unwrap();
        let name = put(&blobs, 7, b"kept");
        let mut writer = blobs.begin().unwrap();
        writer.write_all(b"half").unwrap();
        // The process dies: nothing is dropped.
        std::mem::forget(writer);
        let blobs = FolderBlobs::open(dir.path(), 0).unwrap();
        // Its number is taken by a file that nobody writes: a new upload does not touch it.
        let mut running = blobs.begin().unwrap();
        running.write_all(b"x").unwrap();
        let swept = blobs.sweep(&mut |_| Ok(true)).unwrap();
        assert_eq!(swept, Swept { orphans: 0, temporary: 1, bytes: 4 });
        running.finish(&BlobName([8; 32])).unwrap();
        assert_eq!(read(&blobs, &name, 0..9).unwrap(), b"kept");
        assert_eq!(read(&blobs, &BlobName([8; 32]), 0..9).unwrap(), b"x");
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_media() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("media");
        let blobs = FolderBlobs::open(&root, 0).unwrap();
        let file = blobs.path(&put(&blobs, 0xab, b"photo"));
        assert_eq!(file, root.join("ab").join("ab".repeat(31)));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&root), mode(&root.join("ab")), mode(&file)), (0o700, 0o700, 0o600));
    }

    #[test]
    fn uploads_are_refused_when_the_disk_is_nearly_full() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = FolderBlobs::open(dir.path(), u64::MAX).unwrap();
        let error = blobs.begin().err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
