//! The client-server API: one folder per chapter of the specification, one file per group of endpoints.

mod account_data;
mod accounts;
mod appservices;
mod discovery;
mod ephemeral;
pub mod filters;
mod keys;
pub mod kith;
mod media;
mod notifications;
#[cfg(test)]
mod operations;
mod profile;
mod push_rules;
mod pushers;
pub mod rooms;
mod tags;
mod third_party_networks;
pub(crate) mod untyped;

use std::sync::Arc;

use crate::Node;
use crate::http::{Answer, MatrixError, Routes, Session};

/// All client routes.
pub fn router(node: &Arc<Node>) -> axum::Router {
    let routes = Routes::new(node.clone());
    let routes = discovery::routes(routes);
    let routes = accounts::routes(routes);
    let routes = crate::oauth::routes(routes);
    let routes = profile::routes(routes);
    let routes = filters::routes(routes);
    let routes = account_data::routes(routes);
    let routes = tags::routes(routes);
    let routes = push_rules::routes(routes);
    let routes = pushers::routes(routes);
    let routes = third_party_networks::routes(routes);
    let routes = appservices::routes(routes);
    let routes = rooms::routes(routes);
    let routes = routes.add(crate::sync::sync).add(crate::sync::sliding::sync);
    let routes = media::routes(routes);
    let routes = ephemeral::routes(routes);
    let routes = notifications::routes(routes);
    let routes = keys::routes(routes);
    let routes = kith::routes(routes);
    routes.finish()
}

/// Refuses what a user asks about or for another one, where the path names the user and must be the caller.
///
/// # Errors
/// `M_FORBIDDEN`.
pub(crate) fn own_user(session: &Session, user: impl AsRef<str>) -> Answer<()> {
    if session.user_id.as_str() == user.as_ref() {
        Ok(())
    } else {
        Err(MatrixError::forbidden("this may only be asked of one's own account"))
    }
}
