//! Records of peers, kept in the store: after a restart their addresses are known though nothing discovers them.

use std::{fmt, sync::Arc};

use kith_store::{
    Json, Store, StoreError,
    tables::node::{PEER_RECORDS, PeerRecordRow},
};
use kith_transport::{RecordStore, SavedRecord, ServerKey};

use crate::platform::Clock;

/// Most records kept; of more, those saved longest ago go, contacts' last.
const MOST: usize = 1024;

/// Keeps them in the table [`PEER_RECORDS`].
pub(super) struct StoredRecords {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
}

impl fmt::Debug for StoredRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredRecords").finish_non_exhaustive()
    }
}

impl RecordStore for StoredRecords {
    fn load(&self) -> Vec<SavedRecord> {
        let rows = self.store.read(|read| {
            PEER_RECORDS
                .range(read, ..)?
                .map(|row| row.map(|(_, Json(row))| row))
                .collect::<Result<Vec<_>, StoreError>>()
        });
        match rows {
            Ok(rows) => rows
                .into_iter()
                .map(|row| SavedRecord {
                    record: row.record.into(),
                    within_device: row.within_device,
                    contact: row.contact,
                })
                .collect(),
            Err(error) => {
                tracing::warn!(%error, "the records of peers could not be read: they are to be found anew");
                Vec::new()
            }
        }
    }

    fn save(&self, node: ServerKey, record: SavedRecord) {
        // Records are canonical JSON.
        let Ok(text) = String::from_utf8(record.record.to_vec()) else { return };
        let row = PeerRecordRow {
            record: text,
            within_device: record.within_device,
            contact: record.contact,
            saved: self.clock.now_ms(),
        };
        // Nobody waits: on a disk that is full, say, it is found anew after the next start.
        drop(self.store.submit(move |tx| {
            let is_new = PEER_RECORDS.get(tx, &node.to_string())?.is_none();
            PEER_RECORDS.put(tx, &node.to_string(), &Json(row))?;
            if !is_new {
                return Ok(());
            }
            let mut rows = Vec::new();
            for row in PEER_RECORDS.range(tx, ..)? {
                let (key, Json(row)) = row?;
                rows.push((row.contact, row.saved, key));
            }
            rows.sort_unstable();
            for (_, _, key) in rows.iter().take(rows.len().saturating_sub(MOST)) {
                PEER_RECORDS.delete(tx, key)?;
            }
            Ok::<_, StoreError>(())
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kith_store::{MemoryBackend, Options};
    use kith_transport::SecretKey;

    use super::*;
    use crate::platform::ManualClock;

    fn key(n: u16) -> ServerKey {
        let mut seed = [1; 32];
        seed[..2].copy_from_slice(&n.to_be_bytes());
        SecretKey::from_seed(seed).public()
    }

    fn record(text: &str, contact: bool) -> SavedRecord {
        SavedRecord { record: text.to_owned().into(), within_device: false, contact }
    }

    #[test]
    fn records_of_peers_outlast_the_run_and_stay_within_their_bound() {
        let disk = MemoryBackend::new();
        let clock = Arc::new(ManualClock::new(1000));
        let open = |disk: &MemoryBackend| StoredRecords {
            store: Store::open(disk.clone(), Options { reserve_bytes: 0, ..Options::default() }).unwrap(),
            clock: clock.clone(),
        };
        let records = open(&disk);
        records.save(key(1), record("old", true));
        records.save(key(1), record("a contact", true));
        records.save(key(2), record("a stranger", false));
        records.store.close();
        let records = open(&disk);
        let mut loaded = records.load();
        loaded.sort_by_key(|saved| saved.contact);
        assert_eq!(loaded, [record("a stranger", false), record("a contact", true)]);
        for n in 0..u16::try_from(MOST).unwrap() {
            clock.advance(Duration::from_millis(1));
            records.save(key(n + 10), record("another", false));
        }
        // What was submitted before is committed before.
        records.store.submit(|_| Ok::<_, StoreError>(())).wait().unwrap();
        let loaded = records.load();
        assert_eq!(loaded.len(), MOST);
        assert!(loaded.contains(&record("a contact", true)) && !loaded.contains(&record("a stranger", false)));
    }
}
