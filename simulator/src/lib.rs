//! Many real nodes in one process, in virtual time, the same every time.
//!
//! The node is the whole node: room engine, store, sync, outgoing queues. Only the network, the disk and the clock are simulated:
//! [`network`] implements `kith_transport::Network`, the disk is `kith_store::MemoryBackend`, and [`engine`] is the time.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`engine`] | virtual time, and the order of all that happens |
//! | [`network`], [`topology`], [`links`] | what lies between the nodes |
//! | [`world`] | the nodes with their machines and users |
//! | [`users`], [`errands`], [`faults`] | what users do, and what goes wrong |
//! | [`invariants`], `checks`, [`rejudge`], [`record`], [`output`], [`tables`] | what must hold, what happened, and how it is told |
//! | [`plot`], [`sweep`], [`shrink`] | figures, many runs, and the least run that still fails |
//! | [`bounds`], [`memory`], [`cover`] | what each node may hold, and what a set of runs must have brought about |
//! | [`mutants`] | whether deliberate bugs of the node are found |
//! | [`scenario`] | all of it as TOML |
//! | [`run`] | a run from its beginning to its end |

pub mod bounds;
mod checks;
pub mod cover;
pub mod engine;
pub mod errands;
pub mod faults;
pub mod invariants;
pub mod links;
pub mod memory;
pub mod mutants;
pub mod network;
pub mod output;
pub mod plot;
pub mod record;
pub mod rejudge;
pub mod run;
pub mod scenario;
pub mod shrink;
pub mod sweep;
pub mod tables;
pub mod topology;
pub mod users;
pub mod world;
