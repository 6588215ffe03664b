//! Blobs in memory, for tests and the simulator. They survive crashes as files would.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Cursor, Read, Write};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Blob, BlobName, BlobStore, BlobWriter, Swept};
use crate::memory::Random;

/// Blobs in memory. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct MemoryBlobs(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    dead: bool,
    blobs: BTreeMap<BlobName, Arc<[u8]>>,
    /// Deleted, but a crash may bring them back: deletions are not synced.
    deleted: BTreeMap<BlobName, Arc<[u8]>>,
    /// Sizes of files being written.
    writing: BTreeMap<u64, u64>,
    /// Sizes of files that a crash cut off.
    left: Vec<u64>,
    next: u64,
    young: BTreeSet<BlobName>,
}

impl MemoryBlobs {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts the power: gives what is found afterwards. Finished blobs are there; of unfinished ones and of deletions,
    /// what `seed` chooses. This store fails from now on.
    #[must_use = "the blobs as they are found when power is back"]
    pub fn crash(&self, seed: u64) -> MemoryBlobs {
        let mut state = self.state();
        state.dead = true;
        let mut random = Random(seed);
        let mut blobs = state.blobs.clone();
        for (name, content) in &state.deleted {
            if random.below(2) == 0 {
                blobs.insert(*name, content.clone());
            }
        }
        let left = state.left.iter().chain(state.writing.values()).copied();
        let left = left.filter(|_| random.below(2) == 0).collect();
        MemoryBlobs(Arc::new(Mutex::new(State { blobs, left, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.dead { Err(io::Error::other("the power is off")) } else { Ok(state) }
    }
}

impl State {
    /// Gives the size of what was deleted.
    fn delete(&mut self, name: &BlobName) -> Option<u64> {
        let content = self.blobs.remove(name)?;
        let size = content.len() as u64;
        self.deleted.insert(*name, content);
        Some(size)
    }
}

impl BlobStore for MemoryBlobs {
    fn begin(&self) -> io::Result<Box<dyn BlobWriter>> {
        let mut state = self.alive()?;
        let number = state.next;
        state.next += 1;
        state.writing.insert(number, 0);
        Ok(Box::new(Writer { blobs: self.clone(), number, content: Vec::new() }))
    }

    fn get(&self, name: &BlobName, range: Range<u64>) -> io::Result<Option<Blob>> {
        let content = self.alive()?.blobs.get(name).cloned();
        Ok(content.map(|content| {
            let size = content.len() as u64;
            let mut content = Cursor::new(content);
            content.set_position(range.start.min(size));
            Blob { size, content: Box::new(content.take(range.end.saturating_sub(range.start))) }
        }))
    }

    fn size(&self, name: &BlobName) -> io::Result<Option<u64>> {
        Ok(self.alive()?.blobs.get(name).map(|content| content.len() as u64))
    }

    fn delete(&self, name: &BlobName) -> io::Result<bool> {
        Ok(self.alive()?.delete(name).is_some())
    }

    fn list(&self, after: Option<&BlobName>, limit: usize) -> io::Result<Vec<BlobName>> {
        let state = self.alive()?;
        let names = state.blobs.keys().filter(|name| after.is_none_or(|after| *name > after));
        Ok(names.take(limit).copied().collect())
    }

    fn sweep(&self, keep: &mut dyn FnMut(&BlobName) -> io::Result<bool>) -> io::Result<Swept> {
        let mut swept = Swept::default();
        let names: Vec<BlobName> = {
            let mut state = self.alive()?;
            for bytes in std::mem::take(&mut state.left) {
                swept.temporary += 1;
                swept.bytes += bytes;
            }
            let young = std::mem::take(&mut state.young);
            state.blobs.keys().filter(|name| !young.contains(name)).copied().collect()
        };
        for name in names {
            // `keep` may ask anything, so nothing is locked here.
            if keep(&name)? {
                continue;
            }
            // Held until it is deleted: a blob of this name may be finished in this very moment.
            let mut state = self.alive()?;
            if state.young.contains(&name) {
                continue;
            }
            if let Some(content) = state.delete(&name) {
                swept.orphans += 1;
                swept.bytes += content;
            }
        }
        Ok(swept)
    }
}

struct Writer {
    blobs: MemoryBlobs,
    number: u64,
    content: Vec<u8>,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.blobs.alive()?;
        *state.writing.entry(self.number).or_default() += bytes.len() as u64;
        drop(state);
        self.content.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWriter for Writer {
    fn finish(mut self: Box<Self>, name: &BlobName) -> io::Result<()> {
        let content = std::mem::take(&mut self.content).into();
        let mut state = self.blobs.alive()?;
        state.blobs.insert(*name, content);
        state.deleted.remove(name);
        state.young.insert(*name);
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.blobs.state();
        state.writing.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{behaves, put, read};
    use super::*;

    #[test]
    fn memory_keeps_blobs() {
        behaves(&MemoryBlobs::new());
    }

    #[test]
    fn after_a_crash_finished_blobs_are_there_and_the_rest_is_swept() {
        let mut left = BTreeSet::new();
        for seed in 0..20 {
            let blobs = MemoryBlobs::new();
            let (kept, deleted) = (put(&blobs, 1, b"kept"), put(&blobs, 2, b"deleted"));
            assert!(blobs.delete(&deleted).unwrap());
            let mut writer = blobs.begin().unwrap();
            writer.write_all(b"half").unwrap();
            let after = blobs.crash(seed);
            assert!(writer.write_all(b"more").is_err());
            assert_eq!(read(&after, &kept, 0..9).unwrap(), b"kept");
            let swept = after.sweep(&mut |name| Ok(*name == kept)).unwrap();
            assert_eq!(after.list(None, 9).unwrap(), [kept]);
            left.insert((swept.orphans, swept.temporary));
        }
        assert_eq!(left, BTreeSet::from([(0, 0), (0, 1), (1, 0), (1, 1)]));
    }
}
