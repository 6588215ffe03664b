//! Asking policy servers to sign events: `POST /_matrix/policy/v1/sign`. Server-server specification, "Policy Servers".

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use kith_room::Event;
use kith_transport::Class;
use ruma::{OwnedServerName, api::federation::policy::sign_event::v1 as sign_event};

use super::pdus;
use crate::{
    Node,
    http::{Answer, MatrixError},
    rooms::PolicyServers,
};

/// How long a policy server may take.
const TIME_LIMIT: Duration = Duration::from_secs(15);

/// Asks policy servers in the name of a node.
pub(crate) struct Asking(pub(crate) Weak<Node>);

impl PolicyServers for Asking {
    fn sign(&self, server: OwnedServerName, event: Arc<Event>) -> BoxFuture<'static, Answer<String>> {
        let node = self.0.clone();
        async move {
            let node = node.upgrade().ok_or_else(|| MatrixError::unreachable("the node is stopping"))?;
            if server == *node.server_name() {
                return Err(MatrixError::forbidden("the room names this server as its policy server, which it is not"));
            }
            let request = sign_event::Request::new(pdus::raw(event.text())?);
            let answer = node.federation.client().request(&server, request, Class::Control, TIME_LIMIT).await?;
            let signature = answer.ed25519_signature(&server).map(str::to_owned);
            signature
                .ok_or_else(|| MatrixError::unreachable(format!("{server}, the room's policy server, signs nothing")))
        }
        .boxed()
    }
}
