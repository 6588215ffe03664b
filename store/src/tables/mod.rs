//! The tables of the application, one file per topic.
//!
//! To add one: in the file of its topic, write a constant
//!
//! ```
//! use kith_store::{Json, Table};
//!
//! /// (user ID, device ID) -> name. Bound: 1,000 devices per user. Read by `GET /devices`.
//! pub const DEVICE_NAMES: Table<(String, String), String> = Table::new("device_names");
//! ```
//!
//! whose doc says what its key and value are, what bounds its size or when its rows expire, and who reads it. The
//! name (the string) is unique and never changes once released; a table appears in the file with its first row. What
//! a row's JSON gains later has a default; any other change of what is stored is a step in [`crate::migrations`].
//! Keys that are given by time or counter (event numbers, [`Counter::Row`](crate::Counter::Row)) keep the file half
//! as large as random ones.

pub mod account_data;
pub mod accounts;
pub mod appservices;
pub mod delayed;
pub mod directory;
pub mod e2ee;
pub mod federation;
pub mod media;
pub mod node;
pub mod oauth;
pub mod receipts;
pub mod rooms;
pub mod search;
pub mod threads;
