//! `/devices`, `/devices/{deviceId}`, `/delete_devices` (client-server specification, "Device Management").

use std::sync::Arc;

use kith_store::tables::accounts::DeviceRow;
use ruma::api::client::device::{Device, delete_device, delete_devices, get_device, get_devices, update_device};
use ruma::{MilliSecondsSinceUnixEpoch, OwnedDeviceId, UInt};
use serde_json::{Value, json};

use crate::Node;
use crate::accounts::{devices, uia};
use crate::client_api::untyped::{Lenient, Reply, Untyped};
use crate::http::{Answer, MatrixError, Routes, Session};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(list).add(get).add(rename).add(delete).add(delete_many)
}

fn shown(id: OwnedDeviceId, row: DeviceRow) -> Device {
    let mut device = Device::new(id);
    device.display_name = row.display_name;
    device.last_seen_ip = row.last_ip;
    device.last_seen_ts = row.last_seen.and_then(UInt::new).map(MilliSecondsSinceUnixEpoch);
    device
}

async fn list(node: Arc<Node>, session: Session, _: get_devices::v3::Request) -> Answer<get_devices::v3::Response> {
    let devices = node.store.read(|read| devices::list(read, &session.user_id))?;
    let devices = devices.into_iter().map(|(id, row)| shown(id.into(), row)).collect();
    Ok(get_devices::v3::Response::new(devices))
}

async fn get(node: Arc<Node>, session: Session, request: get_device::v3::Request) -> Answer<get_device::v3::Response> {
    let row = node.store.read(|read| devices::get(read, &session.user_id, &request.device_id))?;
    let row = row.ok_or_else(|| MatrixError::not_found("there is no such device"))?;
    Ok(get_device::v3::Response::new(shown(request.device_id, row)))
}

/// Application services make devices of their users so, which answers 201.
async fn rename(
    node: Arc<Node>,
    session: Session,
    request: Untyped<update_device::v3::Request, Reply>,
) -> Answer<Reply> {
    let device = OwnedDeviceId::from(request.parameter(0));
    let name = match request.body.get("display_name") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) => Some(name.clone()),
        Some(_) => return Err(MatrixError::bad_json("`display_name` is not a text")),
    };
    if session.appservice.is_some() && node.store.read(|read| devices::get(read, &session.user_id, &device))?.is_none()
    {
        devices::create(&node, &session.user_id, &device, name).await?;
        return Ok(Reply::created(json!({})));
    }
    devices::rename(&node, &session.user_id, &device, name).await?;
    Ok(Reply::ok(json!({})))
}

async fn delete(
    node: Arc<Node>,
    session: Session,
    Lenient(request): Lenient<delete_device::v3::Request>,
) -> Answer<delete_device::v3::Response> {
    let operation = format!("DELETE /devices/{}", request.device_id);
    uia::require(&node, &session, request.auth.as_ref(), &operation).await?;
    remove(&node, session, vec![request.device_id]).await?;
    Ok(delete_device::v3::Response::new())
}

async fn delete_many(
    node: Arc<Node>,
    session: Session,
    Lenient(request): Lenient<delete_devices::v3::Request>,
) -> Answer<delete_devices::v3::Response> {
    let mut ids: Vec<&str> = request.devices.iter().map(|id| id.as_str()).collect();
    ids.sort_unstable();
    let operation = format!("POST /delete_devices {ids:?}");
    uia::require(&node, &session, request.auth.as_ref(), &operation).await?;
    remove(&node, session, request.devices).await?;
    Ok(delete_devices::v3::Response::new())
}

/// Devices that are not there (any more) are fine: the outcome is what was asked for.
async fn remove(node: &Arc<Node>, session: Session, ids: Vec<OwnedDeviceId>) -> Answer<()> {
    node.store
        .write(move |tx| {
            for id in ids {
                devices::delete(tx, &session.user_id, id.as_str())?;
            }
            Ok(())
        })
        .await
}
