//! Sending messages to devices, of this node and of others.

use std::{collections::BTreeMap, sync::Arc};

use ruma::{OwnedServerName, OwnedUserId, api::federation::transactions::edu::Edu};
use serde_json::{Value, json};

use super::to_device::{self, Message};
use crate::{
    Node, federation,
    http::{Answer, MatrixError, Session},
};

/// Messages for one server are put into EDUs of about this many bytes.
const EDU_BYTES: usize = 256 << 10;

/// Sends one message to each of these devices, in one change: user to device (or `*`) to content. Those of other servers wait
/// in the queue of their server until it has them. A transaction of this device that was done before does nothing.
///
/// # Errors
/// As all writes.
pub async fn send(
    node: &Arc<Node>,
    session: &Session,
    kind: String,
    transaction: String,
    messages: BTreeMap<OwnedUserId, BTreeMap<String, Value>>,
) -> Answer<()> {
    let now = node.clock.now_ms();
    let (sender, device) = (session.user_id.to_string(), session.device_id.to_string());
    let mut local = Vec::new();
    let mut remote: BTreeMap<OwnedServerName, Parcels> = BTreeMap::new();
    for (user, devices) in messages {
        if node.is_local(&user) {
            local.push((user, devices));
        } else {
            let parcels = remote.entry(user.server_name().to_owned()).or_default();
            devices.into_iter().for_each(|(device, content)| parcels.add(&user, device, content));
        }
    }
    let mut edus = Vec::new();
    for (server, parcels) in remote {
        for messages in parcels.0.into_iter().map(|parcel| parcel.messages) {
            let content = json!({
                "sender": sender,
                "type": kind,
                // The receiver takes each once.
                "message_id": node.rng.token(22),
                "messages": messages,
            });
            let edu: Edu = serde_json::from_value(json!({ "edu_type": "m.direct_to_device", "content": content }))
                .map_err(|error| MatrixError::invalid_param(error.to_string()))?;
            edus.push((server.clone(), edu));
        }
    }
    // The type is part of the request's path, and so of what the transaction ID is unique for.
    let transaction = format!("{kind}/{transaction}");
    node.store
        .write(move |tx| {
            if !to_device::first_time(tx, &sender, &device, &transaction, now)? {
                return Ok(());
            }
            for (user, devices) in local {
                for (device, content) in devices {
                    let message = Message { sender: sender.clone(), kind: kind.clone(), content };
                    to_device::deliver(tx, user.as_str(), &device, &message, now)?;
                }
            }
            for (server, edu) in &edus {
                federation::enqueue_edu(tx, server, edu, now)?;
            }
            Ok::<_, MatrixError>(())
        })
        .await
}

/// Messages for one server, in parcels of about [`EDU_BYTES`].
#[derive(Default)]
struct Parcels(Vec<Parcel>);

#[derive(Default)]
struct Parcel {
    bytes: usize,
    messages: BTreeMap<OwnedUserId, BTreeMap<String, Value>>,
}

impl Parcels {
    fn add(&mut self, user: &OwnedUserId, device: String, content: Value) {
        let bytes = content.to_string().len() + device.len() + 8;
        if self.0.last().is_none_or(|parcel| parcel.bytes + bytes > EDU_BYTES) {
            self.0.push(Parcel::default());
        }
        if let Some(parcel) = self.0.last_mut() {
            parcel.bytes += bytes;
            parcel.messages.entry(user.clone()).or_default().insert(device, content);
        }
    }
}
