//! The table `meta`: what the store keeps about itself.

use crate::error::StoreError;
use crate::read::Read;
use crate::table::Table;

/// Names and numbers. Its rows:
///
/// | key | value |
/// | --- | --- |
/// | `format` | [`FORMAT`]; its absence tells a foreign database |
/// | `schema` | schema version |
/// | `commit` | number of commits so far |
/// | `position` | stream position |
/// | `counter/…` | numbers below this may have been given |
pub(crate) const META: Table<String, u64> = Table::new("meta");

/// "kith" in ASCII.
pub(crate) const FORMAT: u64 = 0x6b69_7468;

pub(crate) const FORMAT_KEY: &str = "format";
pub(crate) const SCHEMA_KEY: &str = "schema";
pub(crate) const COMMIT_KEY: &str = "commit";
pub(crate) const POSITION_KEY: &str = "position";

/// What each commit moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    pub(crate) commit: u64,
    pub(crate) position: u64,
}

pub(crate) fn progress(read: &dyn Read) -> Result<Progress, StoreError> {
    Ok(Progress { commit: get(read, COMMIT_KEY)?, position: get(read, POSITION_KEY)? })
}

/// The number under `key`, 0 if there is none.
pub(crate) fn get(read: &dyn Read, key: &str) -> Result<u64, StoreError> {
    Ok(META.get(read, &key.to_owned())?.unwrap_or(0))
}
