//! Accounts through the client API, on a node in memory.

mod about;
mod data;
mod devices;
mod nonsense;
mod rooms;
mod sessions;
mod standing;
