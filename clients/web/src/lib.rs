//! The web client of kith as files inside the program.
//!
//! The client itself is TypeScript, beside this crate (`app/`). With the feature `embed` the build script builds it with npm, or takes a
//! folder that was built before (`KITH_WEB_DIST`), and makes a table of its files, compressed where that helps. Where neither is there the
//! table is empty, and the node serves a plain page instead: [`EMBEDDED`] says so ([`Client::is_there`]).

use std::io::{self, Read};

use flate2::read::GzDecoder;

/// The client that was built into this program.
pub static EMBEDDED: Client = Client::new(generated::FILES);

/// How much of a file is given at once, in bytes.
const CHUNK: usize = 64 << 10;

/// The files of a client.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    files: &'static [File],
}

/// One file.
#[derive(Debug)]
pub struct File {
    /// Its path below the root, without a slash at its beginning: `assets/index-abc.js`.
    pub path: &'static str,
    /// Its content type.
    pub content_type: &'static str,
    /// What changes when its content does: hexadecimal digits.
    pub etag: &'static str,
    /// Whether its name changes with its content, so that it may be kept for ever.
    pub immutable: bool,
    /// How [`File::bytes`] are encoded.
    pub encoding: Encoding,
    /// The file, encoded.
    pub bytes: &'static [u8],
    /// Its length in bytes when it is not encoded.
    pub length: usize,
}

/// How a file is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// As `gzip` (RFC 1952).
    Gzip,
}

/// A file of the embedded client.
#[must_use]
pub fn file(path: &str) -> Option<&'static File> {
    EMBEDDED.file(path)
}

impl Client {
    /// A client of these files, which must be in the order of their paths.
    #[must_use]
    pub const fn new(files: &'static [File]) -> Self {
        Self { files }
    }

    /// Whether there is a client at all: a page to begin with.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.file("index.html").is_some()
    }

    /// A file by its path.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&'static File> {
        let place = self.files.binary_search_by(|file| file.path.cmp(path)).ok()?;
        self.files.get(place)
    }

    /// All files.
    #[must_use]
    pub fn files(&self) -> &'static [File] {
        self.files
    }
}

impl File {
    /// The file as it is, piece by piece, for those that do not take its encoding.
    ///
    /// # Errors
    /// When what is embedded is damaged.
    pub fn plain(&self) -> impl Iterator<Item = io::Result<Vec<u8>>> + Send + 'static {
        let (bytes, encoding) = (self.bytes, self.encoding);
        let mut reader: Box<dyn Read + Send> = match encoding {
            Encoding::Identity => Box::new(bytes),
            Encoding::Gzip => Box::new(GzDecoder::new(bytes)),
        };
        let mut failed = false;
        std::iter::from_fn(move || {
            if failed {
                return None;
            }
            let mut chunk = Vec::with_capacity(CHUNK);
            match reader.by_ref().take(CHUNK as u64).read_to_end(&mut chunk) {
                Ok(0) => None,
                Ok(_) => Some(Ok(chunk)),
                Err(error) => {
                    failed = true;
                    Some(Err(error))
                }
            }
        })
    }
}

mod generated {
    use super::Encoding::{Gzip, Identity};
    use super::File;

    #[allow(dead_code, reason = "the table may hold files of one kind only, or none")]
    const KINDS: [super::Encoding; 2] = [Gzip, Identity];

    include!(concat!(env!("OUT_DIR"), "/files.rs"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(file: &File) -> Vec<u8> {
        file.plain().collect::<io::Result<Vec<_>>>().unwrap().concat()
    }

    #[test]
    fn each_embedded_file_is_found_by_its_path_and_is_as_long_as_the_table_says() {
        for file in EMBEDDED.files() {
            assert_eq!(EMBEDDED.file(file.path).unwrap().etag, file.etag);
            assert_eq!(whole(file).len(), file.length, "{}", file.path);
            assert!(!file.path.starts_with('/') && !file.path.contains(".."), "{}", file.path);
            assert!(file.encoding == Encoding::Identity || file.bytes.len() < file.length, "{}", file.path);
        }
        assert!(file("").is_none() && file("no such file").is_none());
        assert_eq!(EMBEDDED.is_there(), !EMBEDDED.files().is_empty());
    }

    #[test]
    fn a_damaged_file_ends_with_an_error() {
        let file = File {
            path: "x",
            content_type: "text/plain",
            etag: "0",
            immutable: false,
            encoding: Encoding::Gzip,
            bytes: b"this is no gzip",
            length: 1,
        };
        let pieces: Vec<_> = file.plain().collect();
        assert!(pieces.len() == 1 && pieces[0].is_err());
    }
}
