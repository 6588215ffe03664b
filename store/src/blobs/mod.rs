//! Media and other large things: files beside the database, named by the SHA-256 of their content.
//!
//! A blob is written under a temporary name, synced, renamed, and its folder synced; only then may a row refer to
//! it. So a row never refers to a missing or partial blob; what a crash leaves behind are temporary files and blobs
//! without a row, and [`BlobStore::sweep`] removes both. Deleting goes the other way: first the row, then the blob.
//!
//! All calls block: the node makes them through its `Spawner::blocking`.

mod folder;
mod memory;

use std::fmt;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::str::FromStr;

pub use folder::FolderBlobs;
pub use memory::MemoryBlobs;

use crate::error::Corrupt;

/// The SHA-256 of a blob's content. Shown as 64 lowercase hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobName(pub [u8; 32]);

impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for BlobName {
    type Err = Corrupt;

    /// # Errors
    /// If it is not exactly what `Display` gives.
    fn from_str(hex: &str) -> Result<Self, Corrupt> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let (pairs, []) = hex.as_bytes().as_chunks::<2>() else {
            return Err(Corrupt::new("64 hexadecimal digits"));
        };
        let bytes: Option<Vec<u8>> = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(BlobName).ok_or_else(|| Corrupt::new("64 hexadecimal digits"))
    }
}

/// A blob that is being written. Dropped unfinished, it leaves nothing.
pub trait BlobWriter: Write + Send {
    /// Gives it its name and makes it durable. `name` must be the SHA-256 of all that was written: the store does not
    /// compute it. A blob that is there already stays as it is.
    ///
    /// # Errors
    /// What the operating system says; the blob is not there then.
    fn finish(self: Box<Self>, name: &BlobName) -> io::Result<()>;
}

/// (A part of) a blob, to be read.
pub struct Blob {
    /// Size of the whole blob in bytes.
    pub size: u64,
    /// Gives the range asked for.
    pub content: Box<dyn Read + Send>,
}

/// What a sweep removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Blobs without a row.
    pub orphans: u64,
    /// Files that were never finished.
    pub temporary: u64,
    /// Bytes of both.
    pub bytes: u64,
}

/// Where blobs are kept.
pub trait BlobStore: Send + Sync {
    /// Starts a new blob.
    ///
    /// # Errors
    /// What the operating system says.
    fn begin(&self) -> io::Result<Box<dyn BlobWriter>>;

    /// Opens a blob for the part of `range` that it has (`0..u64::MAX` for all); `None` if it is not there.
    ///
    /// # Errors
    /// What the operating system says.
    fn get(&self, name: &BlobName, range: Range<u64>) -> io::Result<Option<Blob>>;

    /// Size of a blob in bytes; `None` if it is not there.
    ///
    /// # Errors
    /// What the operating system says.
    fn size(&self, name: &BlobName) -> io::Result<Option<u64>>;

    /// Deletes a blob; says whether it was there. Its rows must be gone before.
    ///
    /// # Errors
    /// What the operating system says.
    fn delete(&self, name: &BlobName) -> io::Result<bool>;

    /// The names after `after` (all if `None`), in order, `limit` at most.
    ///
    /// # Errors
    /// What the operating system says.
    fn list(&self, after: Option<&BlobName>, limit: usize) -> io::Result<Vec<BlobName>>;

    /// Deletes the blobs that `keep` does not want, and unfinished files that nobody writes any more. Blobs finished
    /// since the sweep before are spared: their rows may still be on the way.
    ///
    /// # Errors
    /// What the operating system says, or `keep` does; what was removed by then stays removed.
    fn sweep(&self, keep: &mut dyn FnMut(&BlobName) -> io::Result<bool>) -> io::Result<Swept>;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a blob in pieces.
    pub(super) fn put(blobs: &dyn BlobStore, name: u8, content: &[u8]) -> BlobName {
        let name = BlobName([name; 32]);
        let mut writer = blobs.begin().unwrap();
        content.chunks(3).for_each(|chunk| writer.write_all(chunk).unwrap());
        writer.finish(&name).unwrap();
        name
    }

    pub(super) fn read(blobs: &dyn BlobStore, name: &BlobName, range: Range<u64>) -> Option<Vec<u8>> {
        let mut blob = blobs.get(name, range).unwrap()?;
        let mut out = Vec::new();
        blob.content.read_to_end(&mut out).unwrap();
        Some(out)
    }

    /// What every blob store does.
    pub(super) fn behaves(blobs: &dyn BlobStore) {
        let (a, b) = (put(blobs, 1, b"hello world"), put(blobs, 2, b""));
        assert_eq!(read(blobs, &a, 0..u64::MAX).unwrap(), b"hello world");
        assert_eq!(read(blobs, &a, 6..8).unwrap(), b"wo");
        assert_eq!(read(blobs, &a, 100..200).unwrap(), b"");
        #[allow(clippy::reversed_empty_ranges)]
        let backwards = read(blobs, &a, 5..2).unwrap();
        assert_eq!(backwards, b"");
        assert_eq!(blobs.get(&a, 0..1).unwrap().unwrap().size, 11);
        assert_eq!(read(blobs, &b, 0..9).unwrap(), b"");
        assert_eq!(read(blobs, &BlobName([9; 32]), 0..9), None);
        assert_eq!(blobs.size(&a).unwrap(), Some(11));
        assert_eq!(blobs.list(None, 9).unwrap(), [a, b]);
        assert_eq!(blobs.list(Some(&a), 9).unwrap(), [b]);
        assert_eq!(blobs.list(None, 1).unwrap(), [a]);

        // An upload that fails leaves nothing; one that goes on is left alone by a sweep.
        drop(blobs.begin().unwrap());
        let mut running = blobs.begin().unwrap();
        running.write_all(b"half").unwrap();
        // Young blobs are spared once.
        assert_eq!(blobs.sweep(&mut |_| Ok(false)).unwrap(), Swept::default());
        let swept = blobs.sweep(&mut |name| Ok(*name == b)).unwrap();
        assert_eq!(swept, Swept { orphans: 1, temporary: 0, bytes: 11 });
        let c = BlobName([3; 32]);
        running.finish(&c).unwrap();
        assert_eq!(read(blobs, &c, 0..9).unwrap(), b"half");
        assert_eq!(blobs.list(None, 9).unwrap(), [b, c]);

        assert!(blobs.delete(&b).unwrap());
        assert!(!blobs.delete(&b).unwrap());
        // The same content twice is one blob.
        put(blobs, 3, b"half");
        assert_eq!(blobs.list(None, 9).unwrap(), [c]);
    }

    #[test]
    fn names_are_64_lowercase_digits() {
        let name = BlobName([0xa7; 32]);
        assert_eq!(name.to_string().parse(), Ok(name));
        for wrong in
            ["", "a7", &"A7".repeat(32), &"a7".repeat(33), &"a7".repeat(31), &"é".repeat(32), "../../../../etc/passwd"]
        {
            assert!(wrong.parse::<BlobName>().is_err(), "{wrong}");
        }
    }
}
