//! `GET /_matrix/federation/v1/version`, `GET /_matrix/key/v2/server`, `GET|POST /_matrix/key/v2/query`: who this server is.
//! Server-server specification, "Server implementation", "Retrieving server keys".

use std::{collections::BTreeMap, sync::Arc};

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedServerName,
    api::federation::discovery::{
        ServerSigningKeys, get_remote_server_keys::v2 as query, get_remote_server_keys_batch::v2 as query_many,
        get_server_keys::v2 as own_keys, get_server_version::v1 as version,
    },
    serde::{Base64, Raw},
    signatures::sign_json,
};

use crate::{
    Node,
    config::OldKey,
    federation::keys,
    http::{Anonymous, Answer, MatrixError, Routes},
};

/// For how long others may use the published key without asking again, in milliseconds: a week, as the specification limits it.
const VALID_FOR: u64 = 7 * 24 * 3_600_000;

/// How many servers one request may ask about.
const MOST_ASKED: usize = 32;

/// The routes of this file.
pub fn routes(routes: Routes) -> Routes {
    routes.add(get_version).add(get_own).add(get_one).add(get_many)
}

async fn get_version(_: Arc<Node>, _: Anonymous, _: version::Request) -> Answer<version::Response> {
    let mut server = version::Server::new();
    server.name = Some("kith".to_owned());
    server.version = Some(env!("CARGO_PKG_VERSION").to_owned());
    let mut response = version::Response::new();
    response.server = Some(server);
    Ok(response)
}

async fn get_own(node: Arc<Node>, _: Anonymous, _: own_keys::Request) -> Answer<own_keys::Response> {
    Ok(own_keys::Response::new(document(&node)?))
}

async fn get_one(node: Arc<Node>, _: Anonymous, request: query::Request) -> Answer<query::Response> {
    let until = u64::from(request.minimum_valid_until_ts.get());
    Ok(query::Response::new(attested(&node, BTreeMap::from([(request.server_name, until)])).await?))
}

async fn get_many(node: Arc<Node>, _: Anonymous, request: query_many::Request) -> Answer<query_many::Response> {
    let asked = request.server_keys.into_iter().take(MOST_ASKED).map(|(server, keys)| {
        let until = keys.values().filter_map(|key| key.minimum_valid_until_ts).map(|at| u64::from(at.get())).max();
        (server, until.unwrap_or_else(|| node.clock.now_ms()))
    });
    let asked = asked.collect();
    Ok(query_many::Response::new(attested(&node, asked).await?))
}

/// What this node says of the keys of servers, each valid until then at least where that can be had. It vouches for others only where
/// they could ask it: without a zone, it is known to nobody outside of kith, whose names need no notary.
async fn attested(node: &Arc<Node>, asked: BTreeMap<OwnedServerName, u64>) -> Answer<Vec<Raw<ServerSigningKeys>>> {
    let mut documents = Vec::new();
    if asked.contains_key(node.server_name()) {
        documents.push(document(node)?);
    }
    if node.identity.kith_name().is_none_or(|name| name.zone.is_some()) {
        for attested in keys::attested(node, &asked).await {
            documents.push(Raw::new(&attested).map(Raw::cast_unchecked).map_err(MatrixError::internal)?);
        }
    }
    Ok(documents)
}

/// Our keys, signed with them.
fn document(node: &Node) -> Answer<Raw<ServerSigningKeys>> {
    let id = format!("ed25519:{}", node.key.version());
    let key: Base64 = Base64::new(node.key.public_key().to_vec());
    let text = |text: String| CanonicalJsonValue::String(text);
    let object = |fields: Vec<(&str, CanonicalJsonValue)>| {
        CanonicalJsonObject::from_iter(fields.into_iter().map(|(name, value)| (name.to_owned(), value)))
    };
    let valid = i64::try_from(node.clock.now_ms().saturating_add(VALID_FOR)).unwrap_or(i64::MAX);
    let valid = ruma::Int::new_saturating(valid);
    let old = node.config.federation.old_verify_keys.iter().filter_map(|key| OldKey::parse(key));
    let old: CanonicalJsonObject = old
        .map(|OldKey { id, key, expired }| {
            let expired =
                CanonicalJsonValue::Integer(i64::try_from(expired).map_or(ruma::Int::MAX, ruma::Int::new_saturating));
            (id, object(vec![("key", text(key)), ("expired_ts", expired)]).into())
        })
        .collect();
    let keys = object(vec![(&id, object(vec![("key", text(key.encode()))]).into())]);
    let mut document = object(vec![
        ("server_name", text(node.server_name().to_string())),
        ("verify_keys", keys.into()),
        ("old_verify_keys", old.into()),
        ("valid_until_ts", CanonicalJsonValue::Integer(valid)),
    ]);
    sign_json(node.server_name().as_str(), &*node.key, &mut document).map_err(MatrixError::internal)?;
    Raw::new(&document).map(Raw::cast_unchecked).map_err(MatrixError::internal)
}
