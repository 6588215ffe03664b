//! The epoch: how often a node began anew under its name, in the high bits of what other servers compare (DESIGN section 2).
//!
//! Other servers keep the newest of what a name says by number: its record, its device lists. If the tables of a node are lost
//! and its key is not, its numbers would begin at the lowest again, and all that it says would be taken for old. So such a node
//! begins a new epoch. Which ones it had is lost, too; a count of hours is higher than any count of restored backups.

use kith_store::{
    Read, Store, StoreError,
    tables::node::{EPOCH, FACTS},
};

use super::Identity;

/// The epoch of a node that never began anew.
const FIRST: u64 = 1;
/// The count of hours begins here, unix milliseconds: 2025-01-01.
const BEGINNING_MS: u64 = 1_735_689_600_000;

/// The epoch of this node: the one place where it is read. At most `kith_transport::MAX_EPOCH` counts.
///
/// # Errors
/// As all reads.
pub fn epoch(read: &dyn Read) -> Result<u64, StoreError> {
    Ok(FACTS.get(read, &EPOCH.to_owned())?.unwrap_or(FIRST))
}

/// Looks at start whether the tables belong to the key: if they are new and the key is not, a new epoch begins, and
/// [`Identity::began_anew`] tells it.
///
/// # Errors
/// The store's.
pub(crate) async fn begin(store: &Store, identity: &mut Identity, now_ms: u64) -> Result<(), StoreError> {
    // Tables that were ever in use know when, and how often.
    let is_new =
        store.position() == 0 && store.read(|read| FACTS.range(read, ..).map(|mut rows| rows.next().is_none()))?;
    if !is_new || !identity.from_file {
        return Ok(());
    }
    let epoch = match identity.created {
        true => FIRST,
        false => FIRST + 1 + now_ms.saturating_sub(BEGINNING_MS) / 3_600_000,
    };
    store.write(move |tx| FACTS.put(tx, &EPOCH.to_owned(), &epoch)).await?;
    identity.began_anew = !identity.created;
    Ok(())
}

#[cfg(test)]
mod tests {
    use kith_store::{MemoryBackend, Options};
    use kith_transport::{SecretKey, Sequence};

    use super::*;
    use crate::config::Config;

    fn identity(created: bool, from_file: bool) -> Identity {
        let config = Config::in_folder("unused");
        Identity { created, from_file, ..Identity::new(SecretKey::from_seed([1; 32]), &config).unwrap() }
    }

    fn epoch_of(store: &Store) -> u64 {
        store.read(|read| epoch(read)).unwrap()
    }

    const NOW: u64 = BEGINNING_MS + 1000 * 3_600_000;

    #[tokio::test]
    async fn a_key_whose_tables_are_lost_begins_an_epoch_above_all_before_and_tells_it() {
        let disk = MemoryBackend::new();
        let store = Store::open(disk.clone(), Options::default()).unwrap();
        let mut first = identity(true, true);
        begin(&store, &mut first, NOW).await.unwrap();
        assert_eq!((epoch_of(&store), first.began_anew), (1, false), "the first start");
        let mut later = identity(false, true);
        begin(&store, &mut later, NOW).await.unwrap();
        assert_eq!((epoch_of(&store), later.began_anew), (1, false), "its tables are there");

        let mut last = 1;
        for hours in [0, 1, 5000] {
            let store = Store::open(MemoryBackend::new(), Options::default()).unwrap();
            let mut orphan = identity(false, true);
            begin(&store, &mut orphan, NOW + hours * 3_600_000).await.unwrap();
            assert!(orphan.began_anew);
            assert!(epoch_of(&store) > last, "after {hours} hours");
            last = epoch_of(&store);
            assert!(Sequence::new(u32::try_from(last).unwrap(), 0) > Sequence::for_run(1, 1_000_000));
        }
        // A clock that is far behind still leads out of the first epoch.
        let store = Store::open(MemoryBackend::new(), Options::default()).unwrap();
        begin(&store, &mut identity(false, true), 0).await.unwrap();
        assert_eq!(epoch_of(&store), 2);
    }

    #[tokio::test]
    async fn a_key_that_the_platform_keeps_says_nothing_about_the_first_start() {
        let store = Store::open(MemoryBackend::new(), Options::default()).unwrap();
        let mut given = identity(false, false);
        begin(&store, &mut given, NOW).await.unwrap();
        assert_eq!((epoch_of(&store), given.began_anew), (1, false));
    }
}
