//! `/account/password` and `/account/deactivate`
//! (client-server specification, "Account management"); both ask for the password again.

use std::sync::Arc;

use ruma::api::client::account::{ThirdPartyIdRemovalStatus, change_password, deactivate};

use crate::Node;
use crate::accounts::{uia, users};
use crate::client_api::untyped::Lenient;
use crate::http::{Answer, MatrixError, Routes, Session};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(set_password).add(deactivate_account)
}

async fn set_password(
    node: Arc<Node>,
    session: Option<Session>,
    Lenient(request): Lenient<change_password::v3::Request>,
) -> Answer<change_password::v3::Response> {
    // Without a token it would take an email address or phone number to prove who asks; there are none here.
    let session = session.ok_or_else(MatrixError::missing_token)?;
    uia::require(&node, &session, request.auth.as_ref(), "POST /account/password").await?;
    let keep = Some(session.device_id.to_string());
    users::set_password(&node, &session.user_id, &request.new_password, request.logout_devices, keep, false).await?;
    Ok(change_password::v3::Response::new())
}

async fn deactivate_account(
    node: Arc<Node>,
    session: Option<Session>,
    Lenient(request): Lenient<deactivate::v3::Request>,
) -> Answer<deactivate::v3::Response> {
    let session = session.ok_or_else(MatrixError::missing_token)?;
    uia::require(&node, &session, request.auth.as_ref(), "POST /account/deactivate").await?;
    users::deactivate(&node, &session.user_id, request.erase).await?;
    // Nothing was ever bound at an identity server by this node, so nothing could be left behind.
    Ok(deactivate::v3::Response::new(ThirdPartyIdRemovalStatus::Success))
}
