//! The room engine: what an event is, whether it is allowed, and what the state of a room is.
//!
//! This crate is pure. It owns no clock, no randomness, no storage and no network: time and random values are
//! arguments, and what the node has stored is read through the trait [`Source`]. It answers with what has to be stored
//! or fetched, and the node does it. So the same input gives the same result on every node, in tests and in the simulator.
//!
//! The way of an event from another server:
//!
//! 1. [`receive::receive`] reads its JSON strictly, verifies signatures and the content hash, and makes an [`Event`]. What
//!    fails here is dropped.
//! 2. [`Room::handle_pdu`] judges it by the state that its auth events, its prev events and the room's present have, and
//!    gives a [`Verdict`], or says which events are missing for that.
//! 3. The node stores the verdict in one change, and [`Room::apply`] goes on from it.
//!
//! An event of this node's own is made and judged in one by [`Room::create_local`].
//!
//! | module | what it knows |
//! | --- | --- |
//! | [`json`], [`document`] | strict JSON; an event's JSON: what is hashed, signed and redacted |
//! | [`mod@format`], [`event`] | the event format and its limits, the parsed event |
//! | [`receive`], [`build`], [`redact`] | signatures, hashes and IDs of events that come, go, and lose their content |
//! | [`state`], [`auth`], [`power`], [`resolve`] | state maps, authorization rules, power levels, state resolution |
//! | [`explain`] | which branches a resolution took, for tests with many rooms |
//! | [`engine`], [`local`], [`graph`] | the room itself: events that come, events of ours, ordering |
//! | [`join`], [`partial`] | a state that another server gives; joining before the members are known |
//! | [`visibility`] | who may see which event |
//! | [`policy`] | policy servers: whose signature an event lacks |
//! | [`signature`] | verifying signatures |
//! | [`ids`] | maps by event ID, for thousands of events |
//! | [`keys`] | server names that are keys, and who may share a room |
//!
//! Room versions are handled by ruma's `RoomVersionRules`: [`format::rules`] says which are supported (1 to 12). In versions 1
//! and 2 events name themselves and cite others by ID and hash; versions 1 to 5 allow any numbers in events.

pub mod auth;
pub mod build;
mod canonical;
mod difference;
pub mod document;
pub mod engine;
pub mod event;
pub mod explain;
pub mod format;
pub mod graph;
pub mod ids;
pub mod join;
pub mod json;
pub mod keys;
pub mod local;
mod numbers;
pub mod partial;
pub mod policy;
pub mod power;
pub mod receive;
pub mod redact;
pub mod resolve;
mod resolve_v1;
pub mod signature;
pub mod source;
pub mod state;
pub mod visibility;

pub use self::{
    build::{BuildError, Builder, Signer},
    document::Document,
    engine::{Decision, EngineError, Outcome, Placement, Room, Verdict},
    event::{Event, EventNumber, KnownEvent},
    local::CreateError,
    receive::ReceiveError,
    source::{Source, SourceError, Status},
    state::{StateKey, StateMap},
};
