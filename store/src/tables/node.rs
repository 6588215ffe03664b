//! Facts about the node itself.

use crate::Table;

/// Name of a fact to its number. A fixed set of names, the constants of this module.
pub const FACTS: Table<String, u64> = Table::new("facts");

/// The latest time the node knows of, unix milliseconds: its clock never runs behind it.
pub const CLOCK_FLOOR: &str = "clock_floor";

/// The epoch, from 1 on: higher each time that a backup of the node was restored, or that it began anew without its tables.
/// Stands in the high bits of what other servers compare.
pub const EPOCH: &str = "epoch";

/// How often the node was started.
pub const RUNS: &str = "runs";
