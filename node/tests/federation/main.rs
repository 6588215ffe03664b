//! Federation between nodes in one process.

mod absence;
mod bad_events;
mod client;
mod hostile;
mod memberships;
mod messages;
mod operations;
mod partial;
mod policy;
mod profiles;
mod queries;
mod requests;
mod sending;
mod third_party;
mod versions;
mod visibility;
mod ways_in;
mod without;
mod world;
