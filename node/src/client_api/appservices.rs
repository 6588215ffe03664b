//! `POST /appservice/{appserviceId}/ping` and `PUT /directory/list/appservice/{networkId}/{roomId}` (client-server specification,
//! "Application service pinging", "Published room directory"): what application services ask with their own token.

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode};
use kith_store::tables::appservices::{LISTED_ROOMS, MAX_LISTED};
use kith_store::{Counter, StartOf, now_and_then};
use ruma::api::client::{
    appservice::{request_ping::v1 as request_ping, set_room_visibility::v3 as set_room_visibility},
    room::Visibility,
};
use serde_json::json;

use crate::{
    Node,
    appservice::ask::{self, AskError},
    http::{Answer, MatrixError, Routes, endpoint::ServiceCaller},
    rooms::read,
};

/// The longest body of a service's answer that is shown to it, in bytes.
const SHOWN: usize = 1_000;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(ping).add(list_room)
}

async fn ping(
    node: Arc<Node>,
    caller: ServiceCaller,
    request: request_ping::Request,
) -> Answer<request_ping::Response> {
    let service = &caller.service.service;
    if service.id != request.appservice_id {
        return Err(MatrixError::forbidden("this is not the token of that application service"));
    }
    if service.url.is_none() {
        let message = "the application service has no URL";
        return Err(MatrixError::new(StatusCode::BAD_REQUEST, "M_URL_NOT_SET", message));
    }
    let body = match &request.transaction_id {
        Some(transaction) => json!({ "transaction_id": transaction }),
        None => json!({}),
    };
    let begin = node.clock.monotonic();
    let answer = ask::call(&node, service, Method::POST, "ping", Some(&body), ask::PATIENCE).await;
    let took = node.clock.monotonic().saturating_sub(begin);
    match answer {
        Ok(answer) if answer.status().is_success() => {
            caller.service.is_awake();
            Ok(request_ping::Response::new(Duration::from_millis(u64::try_from(took.as_millis()).unwrap_or(u64::MAX))))
        }
        Ok(answer) => {
            let shown = answer.body().get(..SHOWN).unwrap_or(answer.body());
            let message = format!("the application service answered with status {}", answer.status().as_u16());
            Err(MatrixError::new(StatusCode::BAD_GATEWAY, "M_BAD_STATUS", message)
                .with("status", answer.status().as_u16())
                .with("body", String::from_utf8_lossy(shown).into_owned()))
        }
        Err(AskError::Late) => {
            let message = "the application service did not answer in time";
            Err(MatrixError::new(StatusCode::GATEWAY_TIMEOUT, "M_CONNECTION_TIMEOUT", message))
        }
        Err(error) => Err(MatrixError::new(StatusCode::BAD_GATEWAY, "M_CONNECTION_FAILED", error.to_string())),
    }
}

async fn list_room(
    node: Arc<Node>,
    caller: ServiceCaller,
    request: set_room_visibility::Request,
) -> Answer<set_room_visibility::Response> {
    let service = &caller.service.service;
    let network = ask::network_id(service, &request.network_id);
    if network.len() > 255 {
        return Err(MatrixError::invalid_param("the network's ID is too long"));
    }
    let (key, id) = ((network, request.room_id.to_string()), service.id.clone());
    node.store
        .write(move |tx| {
            if request.visibility != Visibility::Public {
                LISTED_ROOMS.delete(tx, &key)?;
                return Ok(());
            }
            if read::room_number(tx, &key.1)?.is_none() {
                return Err(MatrixError::not_found("this room is not known here"));
            }
            // Counting costs, so it is done now and then.
            let counts = now_and_then(tx.allocate(Counter::Row));
            if counts && LISTED_ROOMS.prefix(tx, &StartOf(format!("{id}|")))?.count() >= MAX_LISTED {
                return Err(MatrixError::forbidden(format!("an application service lists at most {MAX_LISTED} rooms")));
            }
            Ok(LISTED_ROOMS.put(tx, &key, &id)?)
        })
        .await?;
    Ok(set_room_visibility::Response::new())
}
