//! `/versions`, `/.well-known/matrix/client`, `/capabilities`
//! (client-server specification, "API Versions", "Server Discovery", "Capabilities Negotiation").

use std::sync::Arc;

use axum::{Json, routing::get};
use kith_room::format;
use ruma::RoomVersionId;
use ruma::api::client::discovery::discover_homeserver;
use ruma::api::client::discovery::get_capabilities::v3 as capabilities;
use ruma::api::client::discovery::get_supported_versions as versions;
use serde_json::{Map, Value, json};

use super::untyped::{Reply, Untyped};
use crate::Node;
use crate::config::Contact;
use crate::delayed;
use crate::http::{Anonymous, Answer, MatrixError, Routes, Session};

/// The versions of the specification that clients may rely on: all of the present major one. Clients ask for one that
/// has what they need, some for the oldest they know.
const VERSIONS: &[&str] = &[
    "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10", "v1.11", "v1.12", "v1.13",
    "v1.14", "v1.15", "v1.16", "v1.17", "v1.18", "v1.19",
];

/// Features of proposals, by the names that clients look for; only what is served.
const FEATURES: &[&str] = &[
    // Stable for long, but older clients look for the flag.
    "org.matrix.e2e_cross_signing",
    // Profiles with arbitrary fields (1.16).
    "uk.tcpip.msc4133",
    "uk.tcpip.msc4133.stable",
    // Simplified sliding sync.
    "org.matrix.simplified_msc3575",
    // Delayed events.
    "org.matrix.msc4140",
    // Which invites a user takes, of whom.
    "org.matrix.msc4155",
    // Dehydrated devices.
    "org.matrix.msc3814",
    "org.matrix.msc3814.v1",
    // Thread subscriptions, and what sliding sync tells of them.
    "org.matrix.msc4306",
    "org.matrix.msc4308",
    // Of kith alone: `docs/extension.md`.
    "org.kith.node",
];

/// The version that rooms are made with unless their maker chooses.
const DEFAULT_ROOM_VERSION: &str = "12";

pub(super) fn routes(routes: Routes) -> Routes {
    let node = routes.node().clone();
    routes
        .add(supported_versions)
        .add(well_known)
        .add(capabilities)
        .raw("/.well-known/matrix/support", get(async move || support(&node)))
        .raw("/.well-known/matrix/policy_server", get(no_policy_server))
}

async fn supported_versions(_: Arc<Node>, _: Option<Session>, _: versions::Request) -> Answer<versions::Response> {
    let mut response = versions::Response::new(VERSIONS.iter().map(ToString::to_string).collect());
    response.unstable_features = FEATURES.iter().map(|feature| ((*feature).to_owned(), true)).collect();
    Ok(response)
}

async fn well_known(
    node: Arc<Node>,
    _: Anonymous,
    _: discover_homeserver::Request,
) -> Answer<discover_homeserver::Response> {
    let homeserver = discover_homeserver::HomeserverInfo::new(node.config.public_base_url());
    Ok(discover_homeserver::Response::new(homeserver))
}

/// `GET /.well-known/matrix/support`: whom the owner named.
fn support(node: &Node) -> Answer<Json<Value>> {
    let mut contacts = Vec::new();
    let mut answer = Map::new();
    for entry in &node.config.client.support {
        match Contact::of(entry) {
            Some(Contact::Page) => drop(answer.insert("support_page".to_owned(), json!(entry))),
            Some(Contact::User) => contacts.push(json!({ "matrix_id": entry, "role": "m.role.admin" })),
            Some(Contact::Email) => contacts.push(json!({ "email_address": entry, "role": "m.role.admin" })),
            None => {}
        }
    }
    if !contacts.is_empty() {
        answer.insert("contacts".to_owned(), json!(contacts));
    }
    if answer.is_empty() {
        return Err(MatrixError::not_found("the owner of this server names nobody to ask for help"));
    }
    Ok(Json(Value::Object(answer)))
}

/// `GET /.well-known/matrix/policy_server`: this is none.
async fn no_policy_server() -> MatrixError {
    MatrixError::not_found("this is no policy server")
}

/// Not ruma's answer, which leaves out what is at its default; clients read the fields.
async fn capabilities(node: Arc<Node>, session: Session, _: Untyped<capabilities::Request, Reply>) -> Answer<Reply> {
    // What asks for the password, clients that signed in by OAuth 2.0 cannot do.
    let by_password = !crate::oauth::signed_in_by(&node, &session)?;
    // The engine says what it can.
    let versions: serde_json::Map<_, _> = (1..=12)
        .map(|version| version.to_string())
        .filter(|version| RoomVersionId::try_from(version.as_str()).is_ok_and(|id| format::rules(&id).is_some()))
        .map(|version| (version, json!("stable")))
        .collect();
    let mut answer = json!({
        "capabilities": {
            "m.change_password": { "enabled": by_password },
            "m.room_versions": { "default": DEFAULT_ROOM_VERSION, "available": versions },
            "m.set_displayname": { "enabled": true },
            "m.set_avatar_url": { "enabled": true },
            "m.profile_fields": { "enabled": true },
            "m.3pid_changes": { "enabled": false },
            "m.get_login_token": { "enabled": by_password },
            "m.forget_forced_upon_leave": { "enabled": false },
            "org.matrix.msc4140.delayed_events": {
                "max_delay_ms": delayed::LONGEST_DELAY, "max_scheduled": delayed::MOST_SCHEDULED,
            },
        }
    });
    if session.admin {
        answer["capabilities"]["m.account_moderation"] = json!({ "lock": true, "suspend": true });
    }
    Ok(Reply::ok(answer))
}
