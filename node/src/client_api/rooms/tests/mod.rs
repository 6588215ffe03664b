//! The room endpoints, through the router of a node in memory.

mod creating;
mod directory;
mod federating;
mod history;
mod inviting;
mod members;
mod old;
mod relating;
mod retaining;
mod searching;
mod sending;
mod upgrading;
mod visibility;
mod world;
