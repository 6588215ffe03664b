//! What other servers send for end-to-end encryption: messages to devices and changes of device lists (server-server
//! specification, "Send-to-device messaging" and "Device Management"). A server speaks for its own users only.

use std::{collections::BTreeMap, sync::Arc};

use kith_mutants::mutant;
use ruma::{
    ServerName, UserId,
    api::federation::transactions::edu::{DeviceListUpdateContent, DirectDeviceContent, SigningKeyUpdateContent},
};
use serde_json::Value;

use super::{
    Object,
    cross_signing::{self, Usage},
    remote::{self, Update},
    to_device::{self, MAX_CONTENT, Message},
};
use crate::{
    Node,
    federation::answers,
    http::{Answer, MatrixError},
};

/// Messages in one EDU.
const MOST_MESSAGES: usize = 10_000;
/// The longest name of anything, in bytes.
const MAX_NAME: usize = 255;

fn own_user(origin: &ServerName, user: &UserId) -> Answer<()> {
    if (user.server_name() == origin || mutant!("believes-foreign-users")) && user.as_str().len() <= MAX_NAME {
        Ok(())
    } else {
        Err(MatrixError::forbidden(format!("{origin} does not speak for {user}")))
    }
}

/// Takes an `m.direct_to_device`: each message goes into the inbox of its device, once, however often the EDU comes. Messages
/// that are too long, and those for users or devices that are not here, are passed over.
///
/// # Errors
/// `M_FORBIDDEN`, `M_INVALID_PARAM`; 5xx when nothing could be stored.
pub async fn direct_to_device(node: &Arc<Node>, origin: &ServerName, content: DirectDeviceContent) -> Answer<()> {
    own_user(origin, &content.sender)?;
    let kind = content.ev_type.to_string();
    if kind.len() > MAX_NAME || content.message_id.as_str().len() > MAX_NAME {
        return Err(MatrixError::invalid_param("the type or ID of a message is too long"));
    }
    if content.messages.values().map(BTreeMap::len).sum::<usize>() > MOST_MESSAGES {
        return Err(MatrixError::invalid_param(format!("more than {MOST_MESSAGES} messages at once")));
    }
    let mut messages = Vec::new();
    for (user, devices) in content.messages.into_iter().filter(|(user, _)| node.is_local(user)) {
        for (device, body) in devices {
            let text = body.json().get();
            if text.len() > MAX_CONTENT {
                tracing::info!(%origin, bytes = text.len(), "a message to a device is too long");
                continue;
            }
            if let Ok(Value::Object(body)) = serde_json::from_str(text) {
                messages.push((user.clone(), device.to_string(), Value::Object(body)));
            }
        }
    }
    let (origin, sender, id) = (origin.to_owned(), content.sender.to_string(), content.message_id);
    let now = node.clock.now_ms();
    node.store
        .write(move |tx| {
            if !answers::first_time(tx, &origin, id.as_str())? && !mutant!("delivers-messages-twice") {
                return Ok(());
            }
            for (user, device, content) in messages {
                let message = Message { sender: sender.clone(), kind: kind.clone(), content };
                to_device::deliver(tx, user.as_str(), &device, &message, now)?;
            }
            Ok(())
        })
        .await
}

/// Takes an `m.device_list_update`.
///
/// # Errors
/// `M_FORBIDDEN`, `M_INVALID_PARAM`; 5xx when nothing could be stored.
pub async fn device_list_update(node: &Arc<Node>, origin: &ServerName, content: DeviceListUpdateContent) -> Answer<()> {
    own_user(origin, &content.user_id)?;
    let user = content.user_id;
    let device = content.device_id.to_string();
    let keys = match &content.keys {
        Some(keys) => match remote::shaped(keys, user.as_str(), &device, content.device_display_name) {
            Some(keys) => Some(keys),
            None => return Err(MatrixError::invalid_param("the keys are none of that device")),
        },
        None => None,
    };
    let update = Update {
        device,
        stream_id: content.stream_id.into(),
        prev_id: content.prev_id.into_iter().map(u64::from).collect(),
        deleted: content.deleted == Some(true),
        keys,
    };
    let (own, name) = (node.server_name().to_string(), user.to_string());
    let stale =
        node.store.write(move |tx| Ok::<_, MatrixError>(remote::update_device(tx, &own, &name, update)?)).await?;
    if stale {
        node.e2ee.stale.hurry(&user, node.clock.monotonic());
    }
    Ok(())
}

/// Takes an `m.signing_key_update`.
///
/// # Errors
/// `M_FORBIDDEN`, `M_INVALID_PARAM`; 5xx when nothing could be stored.
pub async fn signing_key_update(node: &Arc<Node>, origin: &ServerName, content: SigningKeyUpdateContent) -> Answer<()> {
    own_user(origin, &content.user_id)?;
    let user = content.user_id;
    let mut keys: BTreeMap<Usage, Object> = BTreeMap::new();
    for (usage, key) in [(Usage::Master, content.master_key), (Usage::SelfSigning, content.self_signing_key)] {
        let Some(key) = key else { continue };
        let key: Object =
            serde_json::from_str(key.json().get()).map_err(|error| MatrixError::bad_json(error.to_string()))?;
        cross_signing::shape(&key, user.as_str(), usage).map_err(MatrixError::invalid_param)?;
        keys.insert(usage, key);
    }
    let (own, name) = (node.server_name().to_string(), user.to_string());
    let stale = node.store.write(move |tx| Ok::<_, MatrixError>(remote::update_keys(tx, &own, &name, keys)?)).await?;
    if stale {
        node.e2ee.stale.hurry(&user, node.clock.monotonic());
    }
    Ok(())
}
