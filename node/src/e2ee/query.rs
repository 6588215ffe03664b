//! Keys of others, of this node and of other servers, for our users.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::StreamExt as _;
use http::Method;
use kith_transport::Class;
use ruma::{
    OwnedDeviceId, OwnedServerName, OwnedUserId, ServerName, UserId, api::federation::keys::get_keys::v1 as get_keys,
    serde::Raw,
};
use serde_json::{Value, json};

use super::{
    Object,
    cross_signing::{self, Usage},
    one_time_keys::{self, Claimed},
    remote,
    view::{self, UserKeys, Viewer},
};
use crate::{
    Node,
    federation::FederationError,
    http::{Answer, MatrixError},
};

/// The field by which a request of ours names itself to a kith node, which answers it once: see
/// `server_api::devices`. Other servers ignore it.
pub const REQUEST_ID: &str = "org.kith.request_id";

/// Servers asked at a time for one request of a client.
const AT_ONCE: usize = 32;

/// What a query found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The keys by user.
    pub users: BTreeMap<OwnedUserId, UserKeys>,
    /// Why a server could not be asked, by server name.
    pub failures: BTreeMap<String, Value>,
}

/// The keys of these users (of the devices named; of all when none is) as `viewer` may see them. Lists that are followed are
/// answered from here; the servers of the others are asked, and if one does not answer, what is known from before is given.
///
/// # Errors
/// As all reads; servers that do not answer in time are named in the failures.
pub async fn query(
    node: &Arc<Node>,
    viewer: &UserId,
    wanted: BTreeMap<OwnedUserId, Vec<String>>,
    wait: Duration,
) -> Answer<Found> {
    let mut found = Found::default();
    let now = node.clock.now_ms();
    let viewer = Viewer::User(viewer.as_str());
    let mut unknown: BTreeMap<OwnedServerName, BTreeMap<OwnedUserId, Vec<String>>> = BTreeMap::new();
    for (user, devices) in wanted {
        let here = node.store.read(|read| -> Answer<Option<UserKeys>> {
            if node.is_local(&user) || remote::is_fresh(read, user.as_str())? {
                if remote::is_old(read, user.as_str(), now)? {
                    node.e2ee.stale.add(&user);
                }
                return Ok(Some(view::keys_of(read, user.as_str(), named(&devices), viewer)?));
            }
            if remote::shares_a_room(read, user.as_str())? {
                node.e2ee.stale.add(&user);
            }
            Ok(None)
        })?;
        match here {
            Some(keys) => {
                found.users.insert(user, keys);
            }
            None => {
                unknown.entry(user.server_name().to_owned()).or_default().insert(user, devices);
            }
        }
    }
    let asked = unknown.into_iter().map(|(server, users)| async move {
        let answer = ask(node, &server, &users, wait).await;
        (server, users, answer)
    });
    let mut asked = futures::stream::iter(asked).buffer_unordered(AT_ONCE);
    while let Some((server, users, answer)) = asked.next().await {
        match answer {
            Ok(mut answer) => {
                for (user, devices) in users {
                    let mut keys = answer.remove(&user).unwrap_or_default();
                    if let Some(devices) = named(&devices) {
                        keys.devices.retain(|device, _| devices.contains(device));
                    }
                    node.store.read(|read| view::sign(read, user.as_str(), viewer, &mut keys))?;
                    found.users.insert(user, keys);
                }
            }
            Err(error) => {
                for (user, devices) in users {
                    let keys = node.store.read(|read| view::keys_of(read, user.as_str(), named(&devices), viewer))?;
                    if !keys.devices.is_empty() {
                        found.users.insert(user, keys);
                    }
                }
                found.failures.insert(server.to_string(), remote::failure(&error));
            }
        }
    }
    Ok(found)
}

fn named(devices: &[String]) -> Option<&[String]> {
    Some(devices).filter(|devices| !devices.is_empty())
}

/// Asks a server for keys of its users. What is misshapen is left out: other users' keys are none the worse for it.
async fn ask(
    node: &Arc<Node>,
    server: &ServerName,
    users: &BTreeMap<OwnedUserId, Vec<String>>,
    wait: Duration,
) -> Result<BTreeMap<OwnedUserId, UserKeys>, FederationError> {
    let devices = |devices: &[String]| devices.iter().map(|device| OwnedDeviceId::from(device.as_str())).collect();
    let wanted = users.iter().map(|(user, names)| (user.clone(), devices(names))).collect();
    let request = get_keys::Request::new(wanted);
    let answer = node.federation.client().request(server, request, Class::Control, wait).await?;
    let mut found: BTreeMap<OwnedUserId, UserKeys> = BTreeMap::new();
    for (user, devices) in answer.device_keys {
        if !users.contains_key(&user) {
            continue;
        }
        let keys = found.entry(user.clone()).or_default();
        for (device, raw) in devices.into_iter().take(remote::MAX_DEVICES) {
            if let Some(object) = remote::shaped(&raw, user.as_str(), device.as_str(), None) {
                keys.devices.insert(device.to_string(), object);
            }
        }
    }
    let key = |user: &UserId, raw: Raw<ruma::encryption::CrossSigningKey>, usage| -> Option<Object> {
        let object: Object = serde_json::from_str(raw.json().get()).ok()?;
        cross_signing::shape(&object, user.as_str(), usage).ok().map(|()| object)
    };
    for (user, raw) in answer.master_keys.into_iter().filter(|(user, _)| users.contains_key(user)) {
        found.entry(user.clone()).or_default().master = key(&user, raw, Usage::Master);
    }
    for (user, raw) in answer.self_signing_keys.into_iter().filter(|(user, _)| users.contains_key(user)) {
        found.entry(user.clone()).or_default().self_signing = key(&user, raw, Usage::SelfSigning);
    }
    Ok(found)
}

/// Takes one-time keys: user to device to algorithm. Gives them, and why servers could not be asked.
///
/// # Errors
/// As all writes.
pub async fn claim(
    node: &Arc<Node>,
    wanted: BTreeMap<String, BTreeMap<String, String>>,
    wait: Duration,
) -> Answer<(Claimed, BTreeMap<String, Value>)> {
    let own = node.server_name().as_str();
    let (local, remote): (BTreeMap<_, _>, BTreeMap<_, _>) =
        wanted.into_iter().partition(|(user, _)| super::server_of(user) == own);
    let mut servers: BTreeMap<OwnedServerName, BTreeMap<String, BTreeMap<String, String>>> = BTreeMap::new();
    for (user, devices) in remote {
        if let Ok(server) = OwnedServerName::try_from(super::server_of(&user)) {
            servers.entry(server).or_default().insert(user, devices);
        }
    }
    let mut claimed = match local.is_empty() {
        true => Claimed::new(),
        false => node.store.write(move |tx| Ok::<_, MatrixError>(one_time_keys::claim_all(tx, &local)?)).await?,
    };
    let mut failures = BTreeMap::new();
    let asked = servers.into_iter().map(|(server, users)| async move {
        let answer = claim_from(node, &server, &users, wait).await;
        (server, users, answer)
    });
    let mut asked = futures::stream::iter(asked).buffer_unordered(AT_ONCE);
    while let Some((server, users, answer)) = asked.next().await {
        match answer {
            Ok(answer) => {
                let keys = answer.into_iter().filter(|(user, _)| users.contains_key(user));
                claimed.extend(keys);
            }
            Err(error) => {
                failures.insert(server.to_string(), remote::failure(&error));
            }
        }
    }
    Ok((claimed, failures))
}

/// Claims keys from another server. If the answer is lost, the same request is sent once more.
async fn claim_from(
    node: &Arc<Node>,
    server: &ServerName,
    users: &BTreeMap<String, BTreeMap<String, String>>,
    wait: Duration,
) -> Result<Claimed, FederationError> {
    let body = json!({ "one_time_keys": users, REQUEST_ID: node.rng.token(22) });
    let path = "/_matrix/federation/v1/user/keys/claim";
    let client = node.federation.client();
    let began = node.clock.monotonic();
    let mut answer = client.request_json(server, Method::POST, path, &body, Class::Control, wait).await;
    let lost = match &answer {
        Err(FederationError::Transport(error)) => error.maybe_delivered(),
        Err(FederationError::Nonsense { .. }) => true,
        _ => false,
    };
    let left = wait.saturating_sub(node.clock.monotonic().saturating_sub(began));
    if lost && !left.is_zero() {
        answer = client.request_json(server, Method::POST, path, &body, Class::Control, left).await;
    }
    let nonsense = |reason: String| FederationError::Nonsense { server: server.to_owned(), reason };
    match answer?.get_mut("one_time_keys").map(Value::take) {
        Some(keys) => serde_json::from_value(keys).map_err(|error| nonsense(error.to_string())),
        None => Err(nonsense("the answer holds no one_time_keys".to_owned())),
    }
}
