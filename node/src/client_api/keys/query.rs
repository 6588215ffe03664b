//! `POST /keys/query`, `POST /keys/claim`, `GET /keys/changes`: the keys of others.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ruma::{
    OwnedDeviceId, OwnedOneTimeKeyId, OwnedUserId,
    api::client::keys::{
        claim_keys::v3 as claim_keys, get_key_changes::v3 as get_key_changes, get_keys::v3 as get_keys,
    },
};

use super::raw;
use crate::{
    Node,
    e2ee::{self, lists, view::UserKeys},
    http::{Answer, MatrixError, Routes, Session},
    rooms::read,
    sync::token::Token,
};

/// The longest that another server's answer is waited for, and how long when the client does not say.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(query).add(claim).add(changes)
}

async fn query(node: Arc<Node>, session: Session, request: get_keys::Request) -> Answer<get_keys::Response> {
    let wanted = request
        .device_keys
        .into_iter()
        .map(|(user, devices)| (user, devices.into_iter().map(|device| device.to_string()).collect()))
        .collect();
    let wait = request.timeout.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
    let found = e2ee::query::query(&node, &session.user_id, wanted, wait).await?;
    let mut response = get_keys::Response::new();
    for (user, keys) in found.users {
        let UserKeys { devices, master, self_signing, user_signing } = keys;
        let mut by_device = BTreeMap::new();
        for (device, keys) in devices {
            by_device.insert(OwnedDeviceId::from(device), raw(keys)?);
        }
        response.device_keys.insert(user.clone(), by_device);
        if let Some(key) = master {
            response.master_keys.insert(user.clone(), raw(key)?);
        }
        if let Some(key) = self_signing {
            response.self_signing_keys.insert(user.clone(), raw(key)?);
        }
        if let Some(key) = user_signing {
            response.user_signing_keys.insert(user, raw(key)?);
        }
    }
    response.failures = found.failures;
    Ok(response)
}

async fn claim(node: Arc<Node>, _: Session, request: claim_keys::Request) -> Answer<claim_keys::Response> {
    let mut wanted: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (user, devices) in request.one_time_keys {
        let devices = devices.into_iter().map(|(device, algorithm)| (device.to_string(), algorithm.to_string()));
        wanted.insert(user.to_string(), devices.collect());
    }
    let wait = request.timeout.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
    let (claimed, failures) = e2ee::query::claim(&node, wanted, wait).await?;
    let mut response = claim_keys::Response::new(BTreeMap::new());
    for (user, devices) in claimed {
        let Ok(user) = OwnedUserId::try_from(user) else { continue };
        let of_user = response.one_time_keys.entry(user).or_default();
        for (device, keys) in devices {
            let of_device = of_user.entry(OwnedDeviceId::from(device)).or_default();
            for (name, key) in keys {
                let Ok(name) = OwnedOneTimeKeyId::try_from(name) else { continue };
                let key = ruma::serde::Raw::new(&key).map_err(MatrixError::internal)?;
                of_device.insert(name, key.cast_unchecked());
            }
        }
    }
    response.failures = failures;
    Ok(response)
}

async fn changes(
    node: Arc<Node>,
    session: Session,
    request: get_key_changes::Request,
) -> Answer<get_key_changes::Response> {
    let from = Token::parse(&request.from)?;
    // What changed after `to` is told as well: it changed after `from`, and to look at keys once too often does no harm.
    Token::parse(&request.to)?;
    let changes = node.store.read(|snapshot| {
        let user = session.user_id.as_str();
        lists::device_list_changes(snapshot, user, from.position, &read::rooms_of(snapshot, user)?)
    })?;
    let users = |users: std::collections::BTreeSet<String>| {
        users.into_iter().filter_map(|user| OwnedUserId::try_from(user).ok()).collect()
    };
    Ok(get_key_changes::Response::new(users(changes.changed), users(changes.left)))
}
