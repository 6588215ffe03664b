//! A disk in memory that can fail, fill up and lose power, for tests and the simulator.
//!
//! It behaves as a disk with a write cache: what was synced survives, and of what was written since the last sync any
//! part may. Only pages that were written take memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use crate::backend::Backend;

const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// Shared by the disk, its copies and the log: a whole page that is written is copied once.
type Page = Arc<[u8; PAGE]>;

/// The disk. Clones are the same disk.
#[derive(Clone, Default)]
pub struct MemoryBackend(Arc<Mutex<Disk>>);

#[derive(Default)]
struct Disk {
    /// Power was lost: a new disk has taken its place.
    dead: bool,
    len: u64,
    pages: BTreeMap<u64, Page>,
    /// Length at the last sync.
    synced_len: u64,
    /// Pages changed since the last sync, as they were then; `None`: not there.
    before: BTreeMap<u64, Option<Page>>,
    /// Writes since the last sync.
    log: Vec<Write>,
    /// Operations until they fail, and whether only one does.
    fail: Option<(u64, bool)>,
    /// Numbers of single operations that fail.
    fail_at: BTreeSet<u64>,
    /// Syncs are answered, and nothing is synced.
    lies: bool,
    /// Most bytes of pages.
    capacity: Option<u64>,
    operations: u64,
    syncs: u64,
    /// Operations that failed.
    failed: u64,
}

struct Write {
    offset: u64,
    data: Data,
}

enum Data {
    Page(Page),
    /// Less than a page, within one.
    Bytes(Vec<u8>),
    /// So many zeros, left by cutting the file.
    Zeros(u64),
}

impl Write {
    fn len(&self) -> u64 {
        match &self.data {
            Data::Page(_) => PAGE as u64,
            Data::Bytes(bytes) => bytes.len() as u64,
            Data::Zeros(count) => *count,
        }
    }
}

impl MemoryBackend {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power. All that was synced is on the disk this gives; of the writes since then, a part that `seed`
    /// chooses, torn at sectors of 512 bytes or at pages. This disk fails from now on, for good: a node that still
    /// runs on it is as dead as the machine.
    #[must_use = "the disk as it is found when power is back"]
    pub fn crash(&self, seed: u64) -> MemoryBackend {
        let mut disk = self.disk();
        disk.dead = true;
        let found = disk.after_power_cut(&mut Random(seed));
        MemoryBackend(Arc::new(Mutex::new(found)))
    }

    /// Another disk with what is on this one now, synced or not, on which nothing fails. This one goes on.
    #[must_use = "the other disk"]
    pub fn copy(&self) -> MemoryBackend {
        let disk = self.disk();
        let copy = Disk { pages: disk.pages.clone(), len: disk.len, ..Disk::default() };
        MemoryBackend(Arc::new(Mutex::new(copy.settled())))
    }

    /// Operations that failed, ever.
    pub fn failures(&self) -> u64 {
        self.disk().failed
    }

    /// Lets `operations` more reads, writes and syncs succeed; then all fail, until [`MemoryBackend::heal`].
    pub fn fail_after(&self, operations: u64) {
        self.disk().fail = Some((operations, false));
    }

    /// Lets `operations` more reads, writes and syncs succeed; then one fails.
    pub fn fail_once_after(&self, operations: u64) {
        self.disk().fail = Some((operations, true));
    }

    /// Lets single operations fail, each named by how many others, failing ones included, come before it from now on.
    pub fn fail_at(&self, operations: &[u64]) {
        let mut disk = self.disk();
        let now = disk.operations;
        disk.fail_at = operations.iter().map(|operation| now.saturating_add(*operation)).collect();
    }

    /// Ends all that was told to fail, and [`MemoryBackend::full_after`].
    pub fn heal(&self) {
        let mut disk = self.disk();
        disk.fail = None;
        disk.fail_at.clear();
        disk.capacity = None;
    }

    /// Lets writes fail for want of space that would take more than `bytes` in all.
    pub fn full_after(&self, bytes: u64) {
        self.disk().capacity = Some(bytes);
    }

    /// Makes every sync from now on a lie, as that of a disk with a write cache that it does not own up to: it is answered, and
    /// what was written may still be lost. [`MemoryBackend::heal`] does not end it; a disk found after a crash is honest.
    pub fn lie_about_syncs(&self) {
        self.disk().lies = true;
    }

    /// Bytes of memory that written pages take.
    pub fn used_bytes(&self) -> u64 {
        self.disk().used()
    }

    /// Reads, writes and syncs so far.
    pub fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// Syncs so far.
    pub fn syncs(&self) -> u64 {
        self.disk().syncs
    }
}

impl Backend for MemoryBackend {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        self.disk().check()?;
        Ok(Box::new(self.clone()))
    }

    fn free_space(&self) -> Option<u64> {
        let disk = self.disk();
        disk.capacity.map(|capacity| capacity.saturating_sub(disk.used()))
    }

    fn path(&self) -> PathBuf {
        "memory".into()
    }
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackend").finish_non_exhaustive()
    }
}

impl StorageBackend for MemoryBackend {
    fn len(&self) -> io::Result<u64> {
        let mut disk = self.disk();
        disk.step()?;
        Ok(disk.len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut disk = self.disk();
        disk.step()?;
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > disk.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        disk.read(offset, out);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut disk = self.disk();
        disk.step()?;
        disk.set_len(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.disk();
        disk.step()?;
        disk.syncs += 1;
        if disk.lies {
            return Ok(());
        }
        disk.before.clear();
        disk.log.clear();
        disk.synced_len = disk.len;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut disk = self.disk();
        disk.step()?;
        disk.write(offset, data)
    }
}

/// The pieces of `offset..offset + len` by units of `unit` bytes: (unit, place in it, length).
fn pieces(offset: u64, len: u64, unit: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let unit_bytes = unit as u64;
    let mut at = offset;
    let end = offset + len;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let start = at % unit_bytes;
            let size = (unit_bytes - start).min(end - at);
            let piece = (at / unit_bytes, start as usize, size as usize);
            at += size;
            piece
        })
    })
}

impl Disk {
    fn check(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    /// Counts an operation; fails it if it is to fail.
    fn step(&mut self) -> io::Result<()> {
        self.check()?;
        let number = self.operations;
        self.operations += 1;
        if self.fail_at.remove(&number) {
            self.failed += 1;
            return Err(io::Error::other("injected I/O error"));
        }
        match &mut self.fail {
            Some((0, once)) => {
                if *once {
                    self.fail = None;
                }
                self.failed += 1;
                Err(io::Error::other("injected I/O error"))
            }
            Some((left, _)) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn used(&self) -> u64 {
        (self.pages.len() * PAGE) as u64
    }

    fn read(&self, offset: u64, out: &mut [u8]) {
        let mut rest = out;
        for (page, start, size) in pieces(offset, rest.len() as u64, PAGE) {
            let (piece, behind) = rest.split_at_mut(size);
            match self.pages.get(&page) {
                Some(page) => piece.copy_from_slice(&page[start..start + size]),
                None => piece.fill(0),
            }
            rest = behind;
        }
    }

    fn remember(&mut self, page: u64) {
        self.before.entry(page).or_insert_with(|| self.pages.get(&page).cloned());
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut rest = data;
        for (page, start, size) in pieces(offset, data.len() as u64, PAGE) {
            let (piece, behind) = rest.split_at(size);
            rest = behind;
            if !self.pages.contains_key(&page) {
                let used = self.used();
                if self.capacity.is_some_and(|capacity| used + PAGE as u64 > capacity) {
                    self.failed += 1;
                    return Err(io::ErrorKind::StorageFull.into());
                }
            }
            let place = page * PAGE as u64 + start as u64;
            let data = match <&[u8; PAGE]>::try_from(piece) {
                Ok(whole) => {
                    let new = Arc::new(*whole);
                    let old = self.pages.insert(page, new.clone());
                    self.before.entry(page).or_insert(old);
                    Data::Page(new)
                }
                Err(_) => {
                    self.remember(page);
                    let page = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE]));
                    Arc::make_mut(page)[start..start + size].copy_from_slice(piece);
                    Data::Bytes(piece.to_vec())
                }
            };
            self.log.push(Write { offset: place, data });
        }
        self.len = self.len.max(offset + data.len() as u64);
        Ok(())
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            let pages: Vec<u64> = self.pages.range(len / PAGE as u64..).map(|(page, _)| *page).collect();
            for page in pages {
                self.remember(page);
                let start = page * PAGE as u64;
                if start >= len {
                    self.pages.remove(&page);
                } else if let Some(bytes) = self.pages.get_mut(&page) {
                    Arc::make_mut(bytes)[(len - start) as usize..].fill(0);
                }
            }
            self.log.push(Write { offset: len, data: Data::Zeros(self.len - len) });
        }
        self.len = len;
    }

    fn after_power_cut(&self, random: &mut Random) -> Disk {
        let mut pages = self.pages.clone();
        for (page, before) in &self.before {
            match before {
                Some(bytes) => pages.insert(*page, bytes.clone()),
                None => pages.remove(page),
            };
        }
        let mut disk = Disk { pages, len: self.synced_len, ..Disk::default() };
        let mode = random.below(8);
        if mode == 0 {
            return disk.settled();
        }
        let unit = if random.below(2) == 0 { SECTOR } else { PAGE };
        if mode == 1 || random.below(2) == 0 {
            disk.len = self.len;
        }
        // Which writes touched which unit, in order: the disk shows a unit as it was after any number of them.
        let mut touched: BTreeMap<u64, Vec<&Write>> = BTreeMap::new();
        for write in &self.log {
            // Only what exists is worth zeroing.
            let len = match write.data {
                Data::Zeros(_) => write.len().min(self.synced_len.max(self.len).saturating_sub(write.offset)),
                Data::Page(_) | Data::Bytes(_) => write.len(),
            };
            for (unit, _, _) in pieces(write.offset, len, unit) {
                touched.entry(unit).or_default().push(write);
            }
        }
        for (number, writes) in touched {
            let kept = match (mode, random.below(4)) {
                (1, _) | (_, 0 | 1) => writes.len(),
                (_, 2) => 0,
                _ => random.below(writes.len() as u64 + 1) as usize,
            };
            for write in writes.into_iter().take(kept) {
                disk.replay(write, number * unit as u64, unit);
            }
        }
        disk.settled()
    }

    /// Does the part of a write that lies in one unit.
    fn replay(&mut self, write: &Write, unit_start: u64, unit: usize) {
        let start = write.offset.max(unit_start);
        let end = (write.offset + write.len()).min(unit_start + unit as u64);
        for (page, place, size) in pieces(start, end.saturating_sub(start), PAGE) {
            let from = (page * PAGE as u64 + place as u64 - write.offset) as usize;
            let page = Arc::make_mut(self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE])));
            match &write.data {
                Data::Page(bytes) => page[place..place + size].copy_from_slice(&bytes[from..from + size]),
                Data::Bytes(bytes) => page[place..place + size].copy_from_slice(&bytes[from..from + size]),
                Data::Zeros(_) => page[place..place + size].fill(0),
            }
        }
    }

    /// Nothing is unsynced any more, and nothing stands behind the end.
    fn settled(mut self) -> Disk {
        self.set_len_of_pages();
        self.synced_len = self.len;
        self.before.clear();
        self.log.clear();
        self
    }

    fn set_len_of_pages(&mut self) {
        let len = self.len;
        self.len = u64::MAX;
        self.set_len(len);
    }
}

/// SplitMix64: small, seeded, the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound` (not 0).
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[cfg(test)]
mod tests;
