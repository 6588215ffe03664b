//! EDUs of transactions, each handed to the part of the node that knows its kind. Server-server specification, "EDUs".

use std::sync::Arc;

use ruma::{ServerName, api::federation::transactions::edu::Edu};

use crate::{
    Node,
    e2ee::receive as e2ee,
    ephemeral::{presence, receipts, typing},
    http::Answer,
};

/// Hands an EDU over. Types that this node does not know are ignored, as the specification says.
///
/// # Errors
/// 4xx when the EDU is refused; 5xx when this node could not store what must not be lost.
pub(super) async fn dispatch(node: &Arc<Node>, origin: &ServerName, edu: Edu) -> Answer<()> {
    match edu {
        Edu::Typing(content) => typing::receive(node, origin, content).await,
        Edu::Receipt(content) => receipts::receive(node, origin, content).await,
        Edu::Presence(content) => presence::receive(node, origin, content).await,
        Edu::DirectToDevice(content) => e2ee::direct_to_device(node, origin, content).await,
        Edu::DeviceListUpdate(content) => e2ee::device_list_update(node, origin, content).await,
        Edu::SigningKeyUpdate(content) => e2ee::signing_key_update(node, origin, content).await,
        _ => {
            tracing::debug!(%origin, "an EDU is ignored");
            node.federation.stats.edus_unknown.add();
            Ok(())
        }
    }
}
