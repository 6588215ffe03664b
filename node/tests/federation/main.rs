//! Federation between nodes in one process.

mod absence;
mod client;
mod hostile;
mod memberships;
mod messages;
mod partial;
mod profiles;
mod queries;
mod requests;
mod sending;
mod third_party;
mod versions;
mod ways_in;
mod without;
mod world;
