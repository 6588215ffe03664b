//! `POST /keys/upload`: a device's identity keys, one-time keys and fallback keys.

use std::{collections::BTreeMap, sync::Arc};

use ruma::{
    OneTimeKeyAlgorithm, OwnedOneTimeKeyId, UInt,
    api::client::keys::upload_keys::v3::{Request, Response},
    encryption::OneTimeKey,
    serde::Raw,
};

use super::object;
use crate::{
    Node,
    e2ee::{
        device_keys,
        one_time_keys::{self, NamedKey},
    },
    http::{Answer, MatrixError, Routes, Session},
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(upload)
}

async fn upload(node: Arc<Node>, session: Session, request: Request) -> Answer<Response> {
    // An application service may come without a device.
    if session.device_id.as_str().is_empty() {
        return Err(MatrixError::missing_param("keys are a device's: `device_id` is missing in the query"));
    }
    let identity = match &request.device_keys {
        Some(keys) => Some(device_keys::check(object(keys, "device_keys")?, &session.user_id, &session.device_id)?),
        None => None,
    };
    let one_time = named(&request.one_time_keys)?;
    let fallback = named(&request.fallback_keys)?;
    let (user, device) = (session.user_id.to_string(), session.device_id.to_string());
    let counts = if identity.is_none() && one_time.is_empty() && fallback.is_empty() {
        // Clients ask so how many keys they have left.
        node.store.read(|read| one_time_keys::counts(read, &user, &device))?
    } else {
        node.store
            .write(move |tx| {
                if let Some(keys) = identity {
                    device_keys::put(tx, &user, &device, keys)?;
                }
                one_time_keys::add(tx, &user, &device, &one_time)?;
                one_time_keys::set_fallback(tx, &user, &device, fallback)?;
                Ok::<_, MatrixError>(one_time_keys::counts(tx, &user, &device)?)
            })
            .await?
    };
    let counts = counts
        .into_iter()
        .map(|(algorithm, count)| (OneTimeKeyAlgorithm::from(algorithm), UInt::new_saturating(count)))
        .collect();
    Ok(Response::new(counts))
}

/// Checks the keys of an upload.
pub(super) fn named(keys: &BTreeMap<OwnedOneTimeKeyId, Raw<OneTimeKey>>) -> Answer<Vec<NamedKey>> {
    keys.iter()
        .map(|(id, key)| {
            let value =
                serde_json::from_str(key.json().get()).map_err(|error| MatrixError::bad_json(error.to_string()))?;
            NamedKey::check(id.as_str(), value)
        })
        .collect()
}
