//! `POST /keys/device_signing/upload`, `POST /keys/signatures/upload`: cross-signing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use ruma::{
    OwnedUserId,
    api::client::keys::{upload_signatures::v3 as upload_signatures, upload_signing_keys::v3 as upload_signing_keys},
};
use serde_json::{Value, json};

use super::object;
use crate::{
    Node,
    accounts::uia,
    client_api::untyped::{Lenient, Reply, Untyped},
    e2ee::{
        Object,
        cross_signing::{self, Keys, Refused},
        remote,
    },
    http::{Answer, MatrixError, Routes, Session},
    platform::timeout,
};

/// Keys that may be signed by one request.
const MOST_AT_ONCE: usize = 5_000;
/// How long another server may take to tell a key that is to be signed.
const FETCH_LIMIT: Duration = Duration::from_secs(10);
/// Servers asked at a time for keys that are to be signed.
const FETCHES: usize = 16;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(upload).add(sign)
}

async fn upload(
    node: Arc<Node>,
    session: Session,
    Lenient(request): Lenient<upload_signing_keys::Request>,
) -> Answer<upload_signing_keys::Response> {
    let new = Keys {
        master: request.master_key.as_ref().map(|key| object(key, "master_key")).transpose()?,
        self_signing: request.self_signing_key.as_ref().map(|key| object(key, "self_signing_key")).transpose()?,
        user_signing: request.user_signing_key.as_ref().map(|key| object(key, "user_signing_key")).transpose()?,
    };
    let user = session.user_id.to_string();
    let stored = node.store.read(|read| Keys::load(read, &user))?;
    cross_signing::check(&new, &stored, &user)?;
    // The first keys need no further proof, nor does what is there already: a client may try again after a lost answer.
    let proven = stored.master.is_some() && !cross_signing::brings_nothing_new(&new, &stored);
    if proven {
        uia::require_or_ask(&node, &session, request.auth.as_ref(), "POST /keys/device_signing/upload").await?;
    }
    node.store
        .write(move |tx| {
            // Another request may have been faster.
            let now = Keys::load(tx, &user)?;
            if now != stored && !proven && !cross_signing::brings_nothing_new(&new, &now) {
                return Err(MatrixError::forbidden(
                    "other cross-signing keys were uploaded at the same time: try again",
                ));
            }
            cross_signing::check(&new, &now, &user)?;
            Ok(cross_signing::put(tx, &user, &new)?)
        })
        .await?;
    Ok(upload_signing_keys::Response::new())
}

/// The form of a failure is an object with `errcode` and `error`, which the `ruma` type cannot be made of.
async fn sign(node: Arc<Node>, session: Session, request: Untyped<upload_signatures::Request, Reply>) -> Answer<Reply> {
    let mut wanted: Vec<(OwnedUserId, String, Object)> = Vec::new();
    let mut failures: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    for (owner, keys) in request.body {
        let Value::Object(keys) = keys else {
            return Err(MatrixError::bad_json(format!("`{owner}` must map key IDs to keys")));
        };
        let id = OwnedUserId::try_from(owner.as_str())
            .map_err(|_| MatrixError::invalid_param(format!("`{owner}` is no user ID")))?;
        for (target, key) in keys {
            match key {
                Value::Object(key) => wanted.push((id.clone(), target, key)),
                _ => {
                    let failure = json!({ "errcode": "M_BAD_JSON", "error": "a signed key must be an object" });
                    failures.entry(owner.clone()).or_default().insert(target, failure);
                }
            }
        }
    }
    if wanted.len() > MOST_AT_ONCE {
        return Err(MatrixError::too_large(format!("at most {MOST_AT_ONCE} keys can be signed at once")));
    }
    let signer = session.user_id.to_string();
    let owners = wanted.iter().map(|(owner, ..)| owner.clone()).filter(|owner| !node.is_local(owner)).collect();
    fetch_unknown(&node, owners).await?;
    let refused = node
        .store
        .write(move |tx| {
            let mut refused = Vec::new();
            for (owner, target, key) in wanted {
                if let Err(reason) = cross_signing::sign(tx, &signer, owner.as_str(), &target, &key)? {
                    refused.push((owner, target, reason));
                }
            }
            Ok::<_, MatrixError>(refused)
        })
        .await?;
    for (owner, target, Refused { errcode, error }) in refused {
        let failure = json!({ "errcode": errcode, "error": error });
        failures.entry(owner.to_string()).or_default().insert(target, failure);
    }
    Ok(Reply::ok(json!({ "failures": failures })))
}

/// A remote user's key must be here to be compared with what was signed. What cannot be had in time stays unknown.
async fn fetch_unknown(node: &Arc<Node>, owners: BTreeSet<OwnedUserId>) -> Answer<()> {
    let mut unknown = Vec::new();
    for owner in owners {
        if node.store.read(|read| Keys::load(read, owner.as_str()))?.master.is_none() {
            unknown.push(owner);
        }
    }
    let fetches: Vec<_> = unknown.into_iter().map(|owner| fetch(node.clone(), owner)).collect();
    let fetches = futures::stream::iter(fetches).buffer_unordered(FETCHES).for_each(|()| std::future::ready(()));
    let _ = timeout(&*node.clock, FETCH_LIMIT, fetches).await;
    Ok(())
}

async fn fetch(node: Arc<Node>, owner: OwnedUserId) {
    if let Err(error) = remote::fetch(&node, &owner, FETCH_LIMIT).await {
        tracing::debug!(%owner, %error, "keys to be signed could not be fetched");
    }
}
