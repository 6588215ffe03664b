//! Schema versions. A database knows the version it has; opening it brings it to [`current`], one step and one
//! commit at a time. A database of a newer version is refused.
//!
//! To change what is stored in a way that older rows do not fit: write the step as a function over [`Tx`], append
//! it to [`ALL`], and add a test that opens a database of the version before.

use crate::error::StoreError;
use crate::tables::rooms::{EVENTS, OWN_STREAM, STREAM};
use crate::tx::Tx;

/// One step from a version to the next.
#[derive(Clone, Copy)]
pub struct Migration {
    /// What it does, for the log.
    pub name: &'static str,
    /// Rewrites the rows concerned.
    pub run: fn(&mut Tx) -> Result<(), StoreError>,
}

/// The version that a database had before the first migration.
pub const FIRST: u64 = 1;

/// All steps: the first leads from version 1 to 2.
pub const ALL: &[Migration] =
    &[Migration { name: "this server's own events in a table of their own", run: own_stream }];

fn own_stream(tx: &mut Tx) -> Result<(), StoreError> {
    let mut own = Vec::new();
    for row in STREAM.range(tx, ..)? {
        let (place, number) = row?;
        if EVENTS.get(tx, &number)?.is_some_and(|event| event.ours) {
            own.push((place, number));
        }
    }
    own.iter().try_for_each(|(place, number)| OWN_STREAM.put(tx, place, number))
}

/// The version that `migrations` lead to.
pub fn current(migrations: &[Migration]) -> u64 {
    FIRST + migrations.len() as u64
}
