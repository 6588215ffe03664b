//! `/admin/lock/{userId}`, `/admin/suspend/{userId}` (client-server specification, "Server Administration").

use std::sync::Arc;

use ruma::api::client::admin::{is_user_locked, is_user_suspended, lock_user, suspend_user};

use crate::Node;
use crate::accounts::standing;
use crate::http::{Answer, Routes, Session};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(is_locked).add(lock).add(is_suspended).add(suspend)
}

async fn is_locked(
    node: Arc<Node>,
    session: Session,
    request: is_user_locked::v1::Request,
) -> Answer<is_user_locked::v1::Response> {
    let row = node.store.read(|read| standing::look(read, &node, &session, &request.user_id))?;
    Ok(is_user_locked::v1::Response::new(row.locked))
}

async fn lock(node: Arc<Node>, session: Session, request: lock_user::v1::Request) -> Answer<lock_user::v1::Response> {
    let locked = request.locked;
    standing::change(&node, session, &request.user_id, move |row| row.locked = locked).await?;
    Ok(lock_user::v1::Response::new(locked))
}

async fn is_suspended(
    node: Arc<Node>,
    session: Session,
    request: is_user_suspended::v1::Request,
) -> Answer<is_user_suspended::v1::Response> {
    let row = node.store.read(|read| standing::look(read, &node, &session, &request.user_id))?;
    Ok(is_user_suspended::v1::Response::new(row.suspended))
}

async fn suspend(
    node: Arc<Node>,
    session: Session,
    request: suspend_user::v1::Request,
) -> Answer<suspend_user::v1::Response> {
    let suspended = request.suspended;
    standing::change(&node, session, &request.user_id, move |row| row.suspended = suspended).await?;
    Ok(suspend_user::v1::Response::new(suspended))
}
