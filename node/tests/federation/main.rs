//! Federation between nodes in one process.

mod hostile;
mod memberships;
mod messages;
mod profiles;
mod queries;
mod requests;
mod versions;
mod without;
mod world;
