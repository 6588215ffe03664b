//! `/register`, `/register/available`, `/register/m.login.registration_token/validity`
//! (client-server specification, "Account registration").
//!
//! Threats met: a web page in the owner's browser cannot make the first account, because that takes the one-use token
//! of the setup link; guessing tokens is limited per address.

use std::sync::Arc;
use std::time::Duration;

use ruma::api::client::account::register::{self, LoginType, RegistrationKind};
use ruma::api::client::account::{check_registration_token_validity as validity, get_username_availability};
use ruma::{OwnedDeviceId, OwnedUserId};

use crate::Node;
use crate::accounts::devices::NewDevice;
use crate::accounts::limits::{self, Action};
use crate::accounts::registration::{self, Checked, NewAccount};
use crate::accounts::tokens::Tokens;
use crate::accounts::{localpart, uia, users};
use crate::client_api::untyped::Lenient;
use crate::http::endpoint::Stranger;
use crate::http::{Anonymous, Answer, MatrixError, Routes};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(register).add(available).add(token_validity)
}

async fn register(
    node: Arc<Node>,
    caller: Stranger,
    Lenient(request): Lenient<register::v3::Request>,
) -> Answer<register::v3::Response> {
    if request.login_type == Some(LoginType::ApplicationService) {
        return register_for_service(&node, caller, request).await;
    }
    let from = caller.from;
    let stages = registration::stages(&node)?;
    if request.kind == RegistrationKind::Guest {
        let message = "this server has no guest accounts";
        return Err(MatrixError::new(http::StatusCode::FORBIDDEN, "M_GUEST_ACCESS_FORBIDDEN", message));
    }
    let user_id = match request.username.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => {
            let user_id = localpart::new_user_id(name, node.identity.server_name())?;
            if node.store.read(|read| users::exists(read, &user_id))? {
                return Err(users::in_use());
            }
            node.appservices.check_user(&user_id, None)?;
            user_id
        }
        None => localpart::new_user_id(&random_name(&node), node.identity.server_name())?,
    };
    let passed = uia::pass(&node, &from, None, stages, request.auth.as_ref(), "POST /register").await?;
    let Some(password) = request.password.as_deref() else {
        return Err(MatrixError::missing_param("`password` is missing"));
    };
    if passed.registration_token.is_none() {
        limits::check_address(&node, Action::Registration, &from)?;
    }
    let device = (!request.inhibit_login).then(|| NewDevice {
        device_id: request.device_id.clone(),
        display_name: request.initial_device_display_name.clone(),
        refreshable: request.refresh_token,
        oauth: None,
    });
    let account =
        NewAccount { user_id: user_id.clone(), password, token: passed.registration_token, admin: false, device };
    let signed_in = registration::register(&node, account).await?;
    Ok(registered(user_id, signed_in))
}

/// `m.login.application_service`: a service makes one of its users, which has no password.
async fn register_for_service(
    node: &Arc<Node>,
    caller: Stranger,
    request: register::v3::Request,
) -> Answer<register::v3::Response> {
    let service = caller.service.ok_or_else(|| match caller.shows_token {
        true => MatrixError::unknown_token(false),
        false => MatrixError::missing_token(),
    })?;
    let name = request.username.as_deref().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| MatrixError::missing_param("`username` is missing"))?;
    let user_id = localpart::new_user_id(name, node.identity.server_name())?;
    if !service.service.has_user(&user_id) {
        let message = "this user name is not in the application service's namespaces";
        return Err(MatrixError::new(http::StatusCode::BAD_REQUEST, "M_EXCLUSIVE", message));
    }
    node.appservices.check_user(&user_id, Some(&service.service))?;
    let device = (!request.inhibit_login).then(|| NewDevice {
        device_id: request.device_id.clone(),
        display_name: request.initial_device_display_name.clone(),
        refreshable: request.refresh_token,
        oauth: None,
    });
    let signed_in = registration::register_for_service(node, user_id.clone(), device).await?;
    Ok(registered(user_id, signed_in))
}

fn registered(user_id: OwnedUserId, signed_in: Option<(OwnedDeviceId, Tokens)>) -> register::v3::Response {
    let mut response = register::v3::Response::new(user_id);
    if let Some((device_id, tokens)) = signed_in {
        response.device_id = Some(device_id);
        response.access_token = Some(tokens.access);
        response.refresh_token = tokens.refresh;
        response.expires_in = tokens.expires_in_ms.map(Duration::from_millis);
    }
    response
}

/// A name for those who give none: a letter and 48 random bits.
fn random_name(node: &Node) -> String {
    format!("u{:012x}", node.rng.u64() >> 16)
}

async fn available(
    node: Arc<Node>,
    from: Anonymous,
    request: get_username_availability::v3::Request,
) -> Answer<get_username_availability::v3::Response> {
    registration::stages(&node)?;
    limits::check_address(&node, Action::Question, &from)?;
    let user_id = localpart::new_user_id(&request.username, node.identity.server_name())?;
    if node.store.read(|read| users::exists(read, &user_id))? {
        return Err(users::in_use());
    }
    node.appservices.check_user(&user_id, None)?;
    Ok(get_username_availability::v3::Response::new(true))
}

async fn token_validity(
    node: Arc<Node>,
    from: Anonymous,
    request: validity::v1::Request,
) -> Answer<validity::v1::Response> {
    registration::stages(&node)?;
    let checked = registration::check_limited(&node, &from, &request.token)?;
    Ok(validity::v1::Response::new(checked != Checked::Unknown))
}
