//! Everything a kith node keeps on disk: one database file, and media beside it.
//!
//! # How a change travels
//!
//! ```text
//!   submit(closure) ─► queue ─► writer ─► closure runs on a Tx ─► ... more closures of the batch ...
//!                                              │ Err or panic: its writes vanish
//!                                              ▼
//!        answer ◄─ listeners ◄─ position ◄─ one durable commit for all of them
//! ```
//!
//! Whoever wants to change something hands [`Store::submit`] (or [`Store::write`]) a closure. The one writer takes all
//! closures that wait, runs them one after the other, and commits once for all: while one commit waits for the disk, the
//! next batch gathers. After the commit it publishes the stream position, calls the listeners ([`Store::on_commit`]: sync
//! is woken, queues to other servers run), and answers. Nothing is answered, shown or sent before it is durable.
//!
//! Each closure writes into an overlay of its own ([`Tx`]), over those of its batch, over a snapshot of what is
//! committed. It is folded into the batch when the closure returns `Ok`, and forgotten otherwise, so a change is whole or
//! nothing, and a failed one does not disturb its neighbours. Changes are committed in the order of submission. One may
//! therefore build on another that is not answered yet; as that one may fail alone, the closure checks what it builds on.
//!
//! Readers take a [`Snapshot`], which no writer ever blocks, and drop it soon; those that come between two commits share one. Tables are read alike through a snapshot
//! and through a [`Tx`]: both are [`Read`].
//!
//! ```
//! use kith_store::{MemoryBackend, Options, Store, StoreError, Table, Touched};
//!
//! /// (room, position) -> event ID
//! const TIMELINE: Table<(u64, u64), String> = Table::new("doc_timeline");
//!
//! let store = Store::open(MemoryBackend::new(), Options::default()).unwrap();
//! let position = store
//!     .submit(|tx| {
//!         let position = tx.next_position();
//!         TIMELINE.put(tx, &(7, position), &"$event".to_owned())?;
//!         tx.touch(Touched::Room(7));
//!         Ok::<u64, StoreError>(position)
//!     })
//!     .wait() // in async code: .await
//!     .unwrap();
//!
//! let snapshot = store.snapshot().unwrap();
//! let latest = TIMELINE.prefix_rev(&snapshot, &7u64).unwrap().next().unwrap().unwrap();
//! assert_eq!(latest, ((7, position), "$event".to_owned()));
//! ```
//!
//! # What is promised after a crash
//!
//! - What was answered is there. What is there is a beginning of the order of commits; no change is there in part.
//! - Stream positions go on after the last committed one. Numbers ([`Store::allocate`]) are never given twice; a crash
//!   can leave holes in them.
//! - The database opens in milliseconds: every commit is made with redb's quick repair.
//!   (Of [`VolatileRows`] none of this holds: they are for simulations without such faults.)
//! - A row never refers to a missing or partial file of [`blobs`]; what a crash leaves over is swept.
//!
//! When a commit fails, its changes and all that wait are answered with the error, and the database is reopened, which
//! shows whether the commit got through after all. If it does not reopen, [`Store::on_failure`] is called, all calls
//! answer [`StoreError::Failed`], and the node exits and says why. When the disk is nearly full, changes are refused
//! ([`StoreError::DiskFull`]) and reads go on.
//!
//! # Tables and keys
//!
//! To redb all tables are bytes to bytes; a [`Table`] says what they mean. Keys are encoded so that their order as bytes is
//! their order as values, and the first parts of a tuple are a prefix of it ([`Key`] says how): "all of a room, from this
//! position down" is one walk through neighbouring pages. [`tables`] tells how to add a table, [`migrations`] how to
//! change one that is released.
//!
//! # Where what is
//!
//! [`Store`] in `store.rs` is the face; `queue.rs` is where changes wait, `writer.rs` has the batch, the commit and the recovery; `overlay.rs` and `tx.rs`
//! uncommitted writes; `database.rs` and `folder.rs` opening; `medium.rs` a database or, in `volatile.rs`, maps; `counters.rs` the numbers; [`backend`] where bytes
//! go, and [`memory`] a disk that fails and crashes on demand, for tests and the simulator.

pub mod backend;
pub mod blobs;
mod counters;
mod database;
mod error;
mod examine;
mod folder;
pub mod key;
mod medium;
pub mod memory;
mod meta;
pub mod migrations;
mod overlay;
mod pending;
mod queue;
mod read;
mod snapshot;
mod store;
mod table;
pub mod tables;
mod tx;
mod value;
mod volatile;
mod writer;

pub use backend::{Backend, FileBackend};
pub use counters::{Counter, now_and_then};
pub use error::{Corrupt, OpenError, StoreError};
pub use examine::{Examined, examine};
pub use key::{Key, StartOf};
pub use memory::MemoryBackend;
pub use pending::Pending;
pub use read::{Bytes, RawRow, RawRows, Read};
pub use snapshot::Snapshot;
pub use store::{Committed, Driver, FreeSpace, Options, Stats, Store, Waiting, WriterMode};
pub use table::{MAX_KEY_BYTES, MAX_VALUE_BYTES, Rows, Table};
pub use tx::{Touched, Tx};
pub use value::{Json, Value, without_mark};
pub use volatile::VolatileRows;
