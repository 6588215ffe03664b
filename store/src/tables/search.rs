//! Full-text search: which words each searchable event has.
//!
//! There is no list of events per word: it would be a table of random keys, written once for each word of each message. The words of
//! an event stand in one row at the end of its room's rows, as 32-bit hashes in rising order, and a search walks through the rows of
//! its rooms. What it finds may be wrong where two words have one hash, so the event itself has the last word.

use crate::{Corrupt, Table, Value};

/// `(room, event number)` to the words of an event that has text. Encrypted events have none. Bound: one row per event of the visible
/// history, [`MAX_WORDS`] each; it goes when the event is redacted.
pub const SEARCH_WORDS: Table<(u64, u64), Words> = Table::new("search_words");

/// Different words that are noted of one event. Of a longer text those at the end are not found.
pub const MAX_WORDS: usize = 4_000;

/// When an event was sent, and the hashes of its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words(Vec<u8>);

/// The timestamp.
const HEAD: usize = 8;

impl Words {
    /// The row of an event with this `origin_server_ts` and these hashes of words, in any order.
    pub fn new(timestamp: u64, mut hashes: Vec<u32>) -> Self {
        hashes.sort_unstable();
        hashes.dedup();
        let mut bytes = timestamp.to_be_bytes().to_vec();
        bytes.extend(hashes.iter().flat_map(|hash| hash.to_be_bytes()));
        Self(bytes)
    }

    /// The event's `origin_server_ts`, unix milliseconds.
    pub fn timestamp(&self) -> u64 {
        self.0.first_chunk::<HEAD>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    /// Whether all of these words are there, given by their hashes.
    pub fn have(&self, hashes: &[u32]) -> bool {
        let (here, _) = self.0.get(HEAD..).unwrap_or_default().as_chunks::<4>();
        hashes.iter().all(|hash| here.binary_search(&hash.to_be_bytes()).is_ok())
    }
}

impl Value for Words {
    fn encode(&self) -> Vec<u8> {
        self.0.clone()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        if bytes.len() < HEAD || !bytes.len().is_multiple_of(4) {
            return Err(Corrupt::new("a timestamp and hashes of four bytes"));
        }
        Ok(Self(bytes.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_back_and_knows_its_words() {
        let row = Words::new(12, vec![7, 1, u32::MAX, 7]);
        let back = Words::decode(&row.encode()).unwrap();
        assert_eq!((&back, back.timestamp()), (&row, 12));
        assert!(back.have(&[]) && back.have(&[1, 7, u32::MAX]));
        assert!(!back.have(&[1, 2]));
        assert!(Words::decode(&[0; 7]).is_err() && Words::decode(&[0; 10]).is_err());
    }
}
