//! `/user/{userId}/filter` (client-server specification, "Filtering"). A filter's ID is a hash of what it says, so a
//! client that makes the same filter again gets the same ID and nothing grows.

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use kith_store::tables::accounts::{FILTERS, FilterRow, MAX_FILTERS};
use kith_store::{Json, Read};
use ruma::UserId;
use ruma::api::client::filter::{FilterDefinition, create_filter, get_filter};
use sha2::{Digest as _, Sha256};

use super::own_user;
use super::untyped::{Reply, Untyped};
use crate::Node;
use crate::http::{Answer, MatrixError, Routes, Session};

/// The longest filter, in bytes of JSON.
const MAX_FILTER: usize = 64 << 10;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(create).add(get)
}

/// The filter a user made under this ID; for sync and all else that takes filter IDs.
///
/// # Errors
/// `M_NOT_FOUND`.
pub fn stored(read: &dyn Read, user: &UserId, id: &str) -> Answer<FilterDefinition> {
    let row = FILTERS.get(read, &(user.to_string(), id.to_owned()))?;
    let row = row.ok_or_else(|| MatrixError::not_found("there is no such filter"))?.0;
    serde_json::from_str(&row.filter).map_err(MatrixError::internal)
}

/// Stored as its client wrote it, once ruma understands it: nothing that a later version knows is lost.
async fn create(
    node: Arc<Node>,
    session: Session,
    request: Untyped<create_filter::v3::Request, create_filter::v3::Response>,
) -> Answer<create_filter::v3::Response> {
    own_user(&session, request.parameter(0))?;
    let filter = serde_json::Value::Object(request.body);
    if let Err(error) = serde_json::from_value::<FilterDefinition>(filter.clone()) {
        return Err(MatrixError::bad_json(format!("this is not a filter: {error}")));
    }
    let filter = filter.to_string();
    if filter.len() > MAX_FILTER {
        return Err(MatrixError::too_large(format!("a filter has at most {MAX_FILTER} bytes")));
    }
    let digest: [u8; 32] = Sha256::digest(filter.as_bytes()).into();
    // 96 bits: nobody has reason to make two of one's own filters collide.
    let id = BASE64URL_NOPAD.encode(digest.first_chunk::<12>().unwrap_or(&[0; 12]));
    let row = FilterRow { created: node.clock.now_ms(), filter };
    let key = (session.user_id.to_string(), id.clone());
    node.store
        .write(move |tx| {
            if !FILTERS.contains(tx, &key)? {
                let known: Vec<_> = FILTERS.prefix(tx, &key.0)?.collect::<Result<_, _>>()?;
                if known.len() >= MAX_FILTERS
                    && let Some((oldest, _)) = known.iter().min_by_key(|(_, row)| row.0.created)
                {
                    FILTERS.delete(tx, oldest)?;
                }
            }
            FILTERS.put(tx, &key, &Json(row)).map_err(MatrixError::from)
        })
        .await?;
    Ok(create_filter::v3::Response::new(id))
}

async fn get(node: Arc<Node>, session: Session, request: Untyped<get_filter::v3::Request, Reply>) -> Answer<Reply> {
    own_user(&session, request.parameter(0))?;
    let key = (session.user_id.to_string(), request.parameter(1).to_owned());
    let row = node.store.read(|read| FILTERS.get(read, &key))?;
    let row = row.ok_or_else(|| MatrixError::not_found("there is no such filter"))?.0;
    serde_json::from_str(&row.filter).map(Reply::ok).map_err(MatrixError::internal)
}
