//! `PUT /sendToDevice/{eventType}/{txnId}`: messages from device to device.

use std::{collections::BTreeMap, sync::Arc};

use ruma::{
    OwnedUserId,
    api::client::to_device::send_event_to_device::v3::{Request, Response},
};
use serde_json::Value;

use crate::{
    Node,
    client_api::untyped::Untyped,
    e2ee::{
        self,
        to_device::{ALL_DEVICES, MAX_CONTENT},
    },
    http::{Answer, MatrixError, Routes, Session},
};

/// Messages of one request, `*` counted once.
const MOST_AT_ONCE: usize = 10_000;
/// The longest event type, transaction ID and device ID, in bytes.
const MAX_NAME: usize = 255;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(send)
}

async fn send(node: Arc<Node>, session: Session, request: Untyped<Request, Response>) -> Answer<Response> {
    let (kind, transaction) = (request.parameter(0).to_owned(), request.parameter(1).to_owned());
    if [&kind, &transaction].iter().any(|text| text.is_empty() || text.len() > MAX_NAME) {
        return Err(MatrixError::invalid_param(format!("event types and transaction IDs have 1 to {MAX_NAME} bytes")));
    }
    let Some(Value::Object(messages)) = request.body.get("messages") else {
        return Err(MatrixError::bad_json("`messages` must map users to devices to contents"));
    };
    let mut wanted: BTreeMap<OwnedUserId, BTreeMap<String, Value>> = BTreeMap::new();
    let mut count = 0;
    for (user, devices) in messages {
        let id = OwnedUserId::try_from(user.as_str())
            .map_err(|_| MatrixError::invalid_param(format!("`{user}` is no user ID")))?;
        let Value::Object(devices) = devices else {
            return Err(MatrixError::bad_json(format!("`messages.{user}` must map devices to contents")));
        };
        for (device, content) in devices {
            count += 1;
            if !content.is_object() {
                return Err(MatrixError::bad_json("the content of a message must be an object"));
            }
            if content.to_string().len() > MAX_CONTENT {
                return Err(MatrixError::too_large(format!("a message to a device has at most {MAX_CONTENT} bytes")));
            }
            if device.is_empty() || (device != ALL_DEVICES && device.len() > MAX_NAME) {
                return Err(MatrixError::invalid_param(format!("`{device}` is no device ID")));
            }
        }
        wanted.insert(id, devices.clone().into_iter().collect());
    }
    if count > MOST_AT_ONCE {
        return Err(MatrixError::too_large(format!("at most {MOST_AT_ONCE} messages can be sent at once")));
    }
    e2ee::send::send(&node, &session, kind, transaction, wanted).await?;
    Ok(Response::new())
}
