//! `GET /user/devices/{userId}`, `POST /user/keys/query`, `POST /user/keys/claim`: keys of our users for other servers
//! (server-server specification, "Device Management" and "End-to-End Encryption"). All of it is public by nature; names of
//! devices are not told.

use std::{collections::BTreeMap, sync::Arc};

use kith_store::Tx;
use ruma::{
    OwnedDeviceId, UInt,
    api::federation::{
        device::get_devices::v1 as get_devices,
        keys::{claim_keys::v1 as claim_keys, get_keys::v1 as get_keys},
    },
    serde::Raw,
};
use serde_json::{Value, json};

use crate::{
    Node,
    accounts::users,
    client_api::untyped::{Reply, Untyped},
    e2ee::{
        Object, lists, one_time_keys,
        query::REQUEST_ID,
        view::{self, Viewer},
    },
    http::{Answer, MatrixError, Routes, endpoint::Origin},
};

/// Users, and devices of all of them, that one request may ask about.
const MOST_AT_ONCE: usize = 10_000;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(devices).add(query).add(claim)
}

fn raw<T>(object: Object) -> Answer<Raw<T>> {
    Raw::new(&object).map(Raw::cast_unchecked).map_err(MatrixError::internal)
}

async fn devices(node: Arc<Node>, _: Origin, request: get_devices::Request) -> Answer<get_devices::Response> {
    let user = request.user_id;
    // From one snapshot, so that the keys are those of the stream ID.
    let (keys, stream_id) = node.store.read(|read| {
        if !node.is_local(&user) || !users::exists(read, &user)? {
            return Err(MatrixError::not_found(format!("{user} has no account here")));
        }
        let keys = view::keys_of(read, user.as_str(), None, Viewer::Server)?;
        Ok((keys, lists::latest_stream_id(read, user.as_str())?))
    })?;
    let mut response = get_devices::Response::new(user, UInt::new_saturating(stream_id));
    for (device, keys) in keys.devices {
        response.devices.push(get_devices::UserDevice::new(OwnedDeviceId::from(device), raw(keys)?));
    }
    response.master_key = keys.master.map(raw).transpose()?;
    response.self_signing_key = keys.self_signing.map(raw).transpose()?;
    Ok(response)
}

async fn query(node: Arc<Node>, _: Origin, request: get_keys::Request) -> Answer<get_keys::Response> {
    if request.device_keys.values().map(|devices| devices.len() + 1).sum::<usize>() > MOST_AT_ONCE {
        return Err(MatrixError::too_large(format!(
            "at most {MOST_AT_ONCE} users and devices can be asked for at once"
        )));
    }
    let mut response = get_keys::Response::default();
    for (user, devices) in request.device_keys.into_iter().filter(|(user, _)| node.is_local(user)) {
        let wanted: Vec<String> = devices.iter().map(ToString::to_string).collect();
        let wanted = Some(wanted).filter(|wanted| !wanted.is_empty());
        let keys = node.store.read(|read| view::keys_of(read, user.as_str(), wanted.as_deref(), Viewer::Server))?;
        let mut by_device = BTreeMap::new();
        for (device, keys) in keys.devices {
            by_device.insert(OwnedDeviceId::from(device), raw(keys)?);
        }
        if let Some(key) = keys.master {
            response.master_keys.insert(user.clone(), raw(key)?);
        }
        if let Some(key) = keys.self_signing {
            response.self_signing_keys.insert(user.clone(), raw(key)?);
        }
        response.device_keys.insert(user, by_device);
    }
    Ok(response)
}

/// A request that names itself ([`REQUEST_ID`]) gets the first answer again when it comes again: its first answer may have been
/// lost. Without a name two requests may be the same and mean two keys.
async fn claim(node: Arc<Node>, origin: Origin, request: Untyped<claim_keys::Request, Reply>) -> Answer<Reply> {
    let name = request.text(REQUEST_ID).filter(|name| name.len() <= 64).map(|name| format!("claim:{name}"));
    let body = request.body.get("one_time_keys").cloned().unwrap_or_default();
    let mut wanted: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_value(body).map_err(|error| MatrixError::bad_json(error.to_string()))?;
    if wanted.values().map(BTreeMap::len).sum::<usize>() > MOST_AT_ONCE {
        return Err(MatrixError::too_large(format!("at most {MOST_AT_ONCE} keys can be claimed at once")));
    }
    wanted.retain(|user, _| crate::e2ee::server_of(user) == node.server_name().as_str());
    let take = move |tx: &mut Tx| {
        let claimed = one_time_keys::claim_all(tx, &wanted)?;
        Ok::<Value, MatrixError>(json!({ "one_time_keys": claimed }))
    };
    match name {
        Some(name) => node.federation.answers.once_in_change(&node, &origin.server, &name, take).await.map(Reply::ok),
        None => node.store.write(take).await.map(Reply::ok),
    }
}
