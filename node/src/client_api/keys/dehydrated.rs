//! `/dehydrated_device` (MSC3814): a device is stored, looked at, and what it was sent is read.

use std::sync::Arc;

use ruma::{
    OwnedDeviceId,
    api::{
        auth_scheme::AccessToken,
        client::dehydrated_device::{
            delete_dehydrated_device::unstable as delete_device, get_dehydrated_device::unstable as get_device,
            get_events::unstable as get_events, put_dehydrated_device::unstable as put_device,
        },
        metadata,
    },
};
use serde_json::{Value, json};

use super::{object, upload::named};
use crate::{
    Node,
    accounts::devices::MAX_NAME,
    client_api::untyped::{Reply, Untyped},
    e2ee::{
        dehydrated::{self, MAX_DATA, Upload},
        device_keys, to_device,
    },
    http::{Answer, MatrixError, Routes, Session},
};

/// `GET .../events`, as the proposal has it; ruma knows the older form only.
#[derive(Debug)]
struct ReadEvents;

metadata! {
    @for ReadEvents,
    method: GET,
    rate_limited: false,
    authentication: AccessToken,
    history: {
        unstable => "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{device_id}/events",
    }
}

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(put).add(get).add(delete).add(read_events).add(read_events_older)
}

async fn put(node: Arc<Node>, session: Session, request: put_device::Request) -> Answer<put_device::Response> {
    let device = request.device_id;
    if device.as_str().is_empty() || device.as_str().len() > MAX_NAME {
        return Err(MatrixError::invalid_param(format!("a device ID has 1 to {MAX_NAME} bytes")));
    }
    if request.initial_device_display_name.as_ref().is_some_and(|name| name.len() > MAX_NAME) {
        return Err(MatrixError::invalid_param(format!("a device name has at most {MAX_NAME} bytes")));
    }
    let data = object(&request.device_data, "device_data")?;
    if !data.get("algorithm").is_some_and(Value::is_string) {
        return Err(MatrixError::bad_json("`device_data` says its `algorithm`"));
    }
    if request.device_data.json().get().len() > MAX_DATA {
        return Err(MatrixError::too_large(format!("`device_data` has at most {MAX_DATA} bytes")));
    }
    let upload = Upload {
        data,
        display_name: request.initial_device_display_name,
        keys: device_keys::check(object(&request.device_keys, "device_keys")?, &session.user_id, &device)?,
        one_time: named(&request.one_time_keys)?,
        fallback: named(&request.fallback_keys)?,
    };
    let (user, now, id) = (session.user_id.clone(), node.clock.now_ms(), device.clone());
    node.store.write(move |tx| dehydrated::put(tx, &user, &id, upload, now)).await?;
    Ok(put_device::Response::new(device))
}

async fn get(node: Arc<Node>, session: Session, _: Untyped<get_device::Request, Reply>) -> Answer<Reply> {
    let row = node.store.read(|read| dehydrated::get(read, session.user_id.as_str()))?;
    let row = row.ok_or_else(none)?;
    Ok(Reply::ok(json!({ "device_id": row.device, "device_data": row.data })))
}

async fn delete(node: Arc<Node>, session: Session, _: delete_device::Request) -> Answer<delete_device::Response> {
    let user = session.user_id.clone();
    let device = node.store.write(move |tx| dehydrated::delete(tx, &user)).await?;
    Ok(delete_device::Response::new(OwnedDeviceId::from(device.ok_or_else(none)?)))
}

/// What the device was sent, from the query's `from` on. `next_batch` says that there is more.
async fn read_events(node: Arc<Node>, session: Session, request: Untyped<ReadEvents, Reply>) -> Answer<Reply> {
    let mut query = url::form_urlencoded::parse(request.query.as_bytes());
    let from = query.find(|(name, _)| name == "from").map(|(_, value)| value.into_owned());
    events(&node, &session, request.parameter(0), from.as_deref(), false)
}

/// The same, from the body's `next_batch` on. Clients of this form go on until nothing comes, so that they need a token each time.
async fn read_events_older(
    node: Arc<Node>,
    session: Session,
    request: Untyped<get_events::Request, Reply>,
) -> Answer<Reply> {
    events(&node, &session, request.parameter(0), request.text("next_batch"), true)
}

/// Nothing is deleted by that: whoever is interrupted can begin anew.
fn events(node: &Node, session: &Session, device: &str, from: Option<&str>, always: bool) -> Answer<Reply> {
    let user = session.user_id.as_str();
    let wrong = |_| MatrixError::invalid_param("this is no token of this server");
    let from: u64 = from.map_or(Ok(0), str::parse).map_err(wrong)?;
    node.store.read(|read| {
        if dehydrated::get(read, user)?.is_none_or(|row| row.device != device) {
            return Err(MatrixError::forbidden("this is not your dehydrated device"));
        }
        let (events, next) = to_device::to_device_since(read, user, device, from, u64::MAX, to_device::MOST_AT_ONCE)?;
        let is_all = next == u64::MAX;
        let count = events.len();
        let events: Vec<Value> = events
            .iter()
            .map(|event| serde_json::from_str(event))
            .collect::<Result<_, _>>()
            .map_err(MatrixError::internal)?;
        let mut answer = json!({ "events": events });
        if !is_all {
            answer["next_batch"] = json!(next.to_string());
        } else if always {
            // Behind the last one; what comes later is behind it, too.
            let last = to_device::last_position(read, user, device)?.filter(|_| count > 0);
            answer["next_batch"] = json!(last.unwrap_or(from).to_string());
        }
        Ok(Reply::ok(answer))
    })
}

fn none() -> MatrixError {
    MatrixError::not_found("you have no dehydrated device")
}
