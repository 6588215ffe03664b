//! A Matrix homeserver that runs on each person's own device: the node as a library.
//!
//! [`Node::start`] takes a [`config::Config`] and a [`platform::Platform`] and gives a [`Handle`]. ARCHITECTURE.md in the
//! repository tells where what is.

pub mod accounts;
pub mod admin;
pub mod appservice;
pub mod cli;
pub mod client_api;
pub mod config;
pub(crate) mod contacts;
pub mod delayed;
pub mod e2ee;
pub mod ephemeral;
pub mod federation;
pub mod http;
pub mod identity;
pub mod media;
mod node;
mod notifier;
pub mod oauth;
mod p2p;
pub mod platform;
pub mod push;
pub mod rooms;
pub mod server_api;
pub mod setup;
pub mod sync;
#[cfg(test)]
pub(crate) mod testing;
mod turns;
pub mod web;

pub use node::{Handle, Node, StartError};
pub use notifier::{Notifier, Subscription};
