//! `/user/{userId}/rooms/{roomId}/tags` (client-server specification, "Room Tagging"): kept as account data `m.tag`.

use std::sync::Arc;

use ruma::api::client::tag::{create_tag, delete_tag, get_tags};
use serde_json::{Map, Value, json};

use super::account_data::room_id;
use super::own_user;
use super::untyped::{Reply, Untyped};
use crate::Node;
use crate::accounts::account_data::{self, TAG};
use crate::http::{Answer, MatrixError, Routes, Session};

/// The longest name of a tag, in bytes, as the specification has it.
const MAX_TAG: usize = 255;
/// Tags a room may have.
const MAX_TAGS: usize = 100;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(list).add(put).add(delete)
}

async fn list(node: Arc<Node>, session: Session, request: Untyped<get_tags::v3::Request, Reply>) -> Answer<Reply> {
    own_user(&session, request.parameter(0))?;
    let room = room_id(request.parameter(1))?;
    let content =
        node.store.read(|read| account_data::get(read, session.user_id.as_str(), Some(room.as_str()), TAG))?;
    let tags = content.and_then(|mut content| content.remove("tags")).unwrap_or_else(|| json!({}));
    Ok(Reply::ok(json!({ "tags": tags })))
}

async fn put(
    node: Arc<Node>,
    session: Session,
    request: Untyped<create_tag::v3::Request, create_tag::v3::Response>,
) -> Answer<create_tag::v3::Response> {
    own_user(&session, request.parameter(0))?;
    let (room, tag) = (room_id(request.parameter(1))?, request.parameter(2).to_owned());
    if tag.is_empty() || tag.len() > MAX_TAG {
        return Err(MatrixError::invalid_param(format!("a tag has 1 to {MAX_TAG} bytes")));
    }
    if let Some(order) = request.body.get("order")
        && !order.as_f64().is_some_and(|order| (0.0..=1.0).contains(&order))
    {
        return Err(MatrixError::invalid_param("`order` is a number from 0 to 1"));
    }
    let info = Value::Object(request.body.clone());
    account_data::update(&node, &session.user_id, Some(room.as_str()), TAG, move |content| {
        let tags = tags(content);
        tags.insert(tag, info);
        if tags.len() > MAX_TAGS {
            return Err(MatrixError::invalid_param(format!("a room has at most {MAX_TAGS} tags")));
        }
        Ok(())
    })
    .await?;
    Ok(create_tag::v3::Response::new())
}

async fn delete(
    node: Arc<Node>,
    session: Session,
    request: Untyped<delete_tag::v3::Request, delete_tag::v3::Response>,
) -> Answer<delete_tag::v3::Response> {
    own_user(&session, request.parameter(0))?;
    let (room, tag) = (room_id(request.parameter(1))?, request.parameter(2).to_owned());
    account_data::update(&node, &session.user_id, Some(room.as_str()), TAG, move |content| {
        tags(content).remove(&tag);
        Ok(())
    })
    .await?;
    Ok(delete_tag::v3::Response::new())
}

/// The tags in the content of an `m.tag`; made when they are missing or no object.
fn tags(content: &mut Map<String, Value>) -> &mut Map<String, Value> {
    let tags = content.entry("tags").or_insert_with(|| json!({}));
    if !tags.is_object() {
        *tags = json!({});
    }
    match tags {
        Value::Object(tags) => tags,
        _ => unreachable!("it was made an object just above"),
    }
}
