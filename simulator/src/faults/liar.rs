//! A server that adds to the state it gives to who joins by it.

use http_body_util::BodyExt as _;
use kith_room::{Builder, build, receive};
use kith_transport::{Body, Router, full};
use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, UInt, UserId};
use serde_json::{Value, json};

use crate::world::World;

/// Answers joins with a name of the room that its user had no power to set.
pub fn lying(router: Router, world: World, number: u32) -> Router {
    Router::new(move |request: http::Request<Body>| {
        let (answer, world) = (router.clone(), world.clone());
        async move {
            let path = request.uri().path().to_owned();
            let response = answer.call(request).await;
            let room = path.strip_prefix("/_matrix/federation/v2/send_join/").and_then(|rest| rest.split('/').next());
            match room.filter(|_| response.status().is_success()) {
                Some(room) => embellished(response, &world, number, room).await,
                None => response,
            }
        }
    })
}

async fn embellished(response: http::Response<Body>, world: &World, number: u32, room: &str) -> http::Response<Body> {
    let (mut parts, body) = response.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        return http::Response::from_parts(parts, kith_transport::empty());
    };
    let body = match embellish(&body, world, number, room) {
        Some(body) => {
            world.record().count("forger_lies");
            parts.headers.remove(http::header::CONTENT_LENGTH);
            body.into()
        }
        None => body,
    };
    http::Response::from_parts(parts, full(body))
}

fn embellish(body: &[u8], world: &World, number: u32, room: &str) -> Option<String> {
    let mut answer: Value = serde_json::from_slice(body).ok()?;
    let id = RoomId::parse(room.replace("%21", "!").replace("%3A", ":")).ok()?;
    let node = world.node(number)?;
    let place = node.rooms.get(&id).ok().flatten()?;
    let user = world.user(number);
    let state = answer["state"].as_array_mut()?;
    let find = |kind: &str, key: &str| -> Option<OwnedEventId> {
        let found = state.iter().find(|pdu| pdu["type"] == kind && pdu["state_key"] == key)?;
        receive::event_id_of(&found.to_string(), place.version()).ok()
    };
    let auth = [find("m.room.power_levels", "")?, find("m.room.member", &user)?];
    let sender = UserId::parse(&user).ok()?;
    let builder = Builder::with_content(&sender, "m.room.name", json!({"name": "of the liar"})).ok()?;
    let builder = builder.state_key("").room_id(id);
    let now = MilliSecondsSinceUnixEpoch(UInt::try_from(node.clock.now_ms()).ok()?);
    let name = build::build(builder, place.version(), &auth[1..], &auth, 10, now, place.signer()).ok()?;
    state.push(serde_json::from_str(name.text()).ok()?);
    Some(answer.to_string())
}
