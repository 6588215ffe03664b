//! A node whose owner speaks in the name of others, and bends the rules where they could give way.

use std::sync::Arc;
use std::time::Duration;

use kith_room::{Builder, Event, Signer, build};
use kith_transport::{Class, full};
use ruma::{EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName, ServerName, UInt, UserId};
use serde_json::{Value, json};

use super::byzantine::Forger;
use crate::engine::{Stream, seconds};
use crate::invariants::Invariant;
use crate::world::World;

/// How long it waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Does one of its deeds.
pub(super) async fn act(world: &World, node: u32, room: u32, random: &Stream) {
    let mut others: Vec<u32> = world.members(room).into_iter().filter(|other| *other != node).collect();
    random.shuffle(&mut others);
    let (Some(forger), [victim, ..]) = (Forger::new(world, node, room, random), &others[..]) else { return };
    let deeds =
        ["impersonates", "tampers", "unsigned", "misnamed", "ghost", "heir", "orphan", "redacts", "peeks", "messages"];
    let Some(deed) = random.pick(&deeds).copied() else { return };
    world.record().count(&format!("forger_{deed}"));
    world.record().fault("forger", Some(node), true);
    let made = match deed {
        "impersonates" => forger.in_the_name_of(*victim).await,
        "tampers" => return forger.tampers(&others).await,
        "unsigned" => return forger.asks_unsigned(*victim).await,
        "peeks" => return forger.peeks(node).await,
        "misnamed" => return forger.names_another(&others).await,
        "ghost" => forger.ghost().await,
        "heir" => forger.heir().await,
        "orphan" => forger.without_member().await,
        "redacts" => forger.redacts(room).await,
        _ => return forger.sends_messages(&others).await,
    };
    for other in others {
        forger.send(other, &made).await;
    }
}

impl Forger<'_> {
    /// A message of somebody else, signed with the wrong key.
    async fn in_the_name_of(&self, victim: u32) -> Vec<Arc<Event>> {
        let (user, server) = (self.world.user(victim), self.world.server_name(victim));
        let (Ok(user), Ok(server)) = (UserId::parse(&user), OwnedServerName::try_from(server)) else {
            return Vec::new();
        };
        let body = json!({"msgtype": "m.text", "body": format!("not I {}", self.random.u64())});
        let Ok(builder) = Builder::with_content(&user, "m.room.message", body) else { return Vec::new() };
        let (now, random) = (self.now(), self.random.u64());
        let signer = Signer { server_name: &server, key: self.room.signer().key };
        let made = self.room.with_engine(|engine, past| {
            engine.create_local(builder, now, random, signer, past).map_err(kith::http::MatrixError::internal)
        });
        made.await.map(|verdict| vec![verdict.event]).unwrap_or_default()
    }

    /// A message whose first copy has a content that was not signed. The right one comes after it.
    async fn tampers(&self, others: &[u32]) {
        let Ok(event) = self.message("signed").await else { return };
        let Ok(mut false_copy) = serde_json::from_str::<Value>(event.text()) else { return };
        false_copy["content"]["body"] = json!("tampered with");
        for other in others.iter().take(others.len().div_ceil(2)) {
            self.send_as_it_is(*other, vec![false_copy.clone()]).await;
        }
        self.world.timeline().sleep(seconds(1.0)).await;
        for other in others {
            self.send(*other, std::slice::from_ref(&event)).await;
        }
    }

    /// A transaction whose signature is none.
    async fn asks_unsigned(&self, victim: u32) {
        let Ok(event) = self.message("unsigned").await else { return };
        let (own, server) = (self.node.server_name().to_owned(), self.world.server_name(victim));
        let pdu: Value = serde_json::from_str(event.text()).unwrap_or_default();
        let body = json!({"origin": own, "origin_server_ts": self.node.clock.now_ms(), "pdus": [pdu]});
        let signature = "A".repeat(86);
        let request = http::Request::builder()
            .method("PUT")
            .uri(format!("https://{server}/_matrix/federation/v1/send/{}", self.random.u64()))
            .header("Content-Type", "application/json")
            .header(
                "Authorization",
                format!(r#"X-Matrix origin="{own}",destination="{server}",key="ed25519:0",sig="{signature}""#),
            )
            .body(full(body.to_string()));
        let Ok(request) = request else { return };
        if let Ok(answer) = self.node.transport.send(&server, Class::Control, PATIENCE, request).await
            && answer.status().is_success()
        {
            self.world.breach(
                Invariant::Refused,
                Some(victim),
                "a request without a signature is carried out".to_owned(),
            );
        }
    }

    /// A transaction that says it is of somebody else.
    async fn names_another(&self, others: &[u32]) {
        let [victim, name, ..] = others else { return };
        let server = self.world.server_name(*victim);
        let Ok(to) = <&ServerName>::try_from(server.as_str()) else { return };
        let origin = self.world.server_name(*name);
        let body = json!({"origin": origin, "origin_server_ts": self.node.clock.now_ms(), "pdus": []});
        let path = format!("/_matrix/federation/v1/send/{}", self.random.u64());
        let client = self.node.federation.client();
        if client.request_json(to, http::Method::PUT, &path, &body, Class::Control, PATIENCE).await.is_ok() {
            let what = "a transaction in the name of another server is taken".to_owned();
            self.world.breach(Invariant::Refused, Some(*victim), what);
        }
    }

    /// Asks for what was said in a room in which it has no part.
    async fn peeks(&self, node: u32) {
        let rooms = 0..self.world.scenario().rooms.len() as u32;
        let closed: Vec<u32> = rooms
            .filter(|room| self.world.member_since(*room, node).is_none() && !self.world.ever_left(*room, node))
            .collect();
        let said: Vec<(String, u32)> = {
            let state = self.world.record().lock();
            let of_others = state.events.iter().filter(|event| closed.contains(&event.room));
            of_others.map(|event| (event.id.clone(), event.room)).collect()
        };
        let Some((id, room)) = self.random.pick(&said).cloned() else { return };
        let Some(victim) = self.random.pick(&self.world.members(room)).copied() else { return };
        let server = self.world.server_name(victim);
        let Ok(to) = <&ServerName>::try_from(server.as_str()) else { return };
        let path = format!("/_matrix/federation/v1/event/{id}");
        let client = self.node.federation.client();
        if client.request_json(to, http::Method::GET, &path, &Value::Null, Class::Control, PATIENCE).await.is_ok() {
            let what = format!("{id} is shown to a server that has no part in room {room}");
            self.world.breach(Invariant::Refused, Some(victim), what);
        }
    }

    /// Its user leaves, says something by what held before, and comes back.
    async fn ghost(&self) -> Vec<Arc<Event>> {
        let Ok(at) = self.message("before").await else { return Vec::new() };
        let member = |membership: &str| {
            Some(self.builder("m.room.member", json!({"membership": membership}))?.state_key(self.user.clone()))
        };
        let made = async {
            let left = self.build(member("leave")?, at.prev_events(), at.auth_events(), at.depth(), 0)?;
            let after = [left.event_id().to_owned()];
            let depth = left.depth() + 1;
            let body = json!({"msgtype": "m.text", "body": "still here"});
            let ghost = self.build(self.builder("m.room.message", body)?, &after, at.auth_events(), depth, 1)?;
            let mut rights: Vec<OwnedEventId> = self.current("m.room.power_levels", "").await.into_iter().collect();
            rights.extend(self.current("m.room.join_rules", "").await);
            rights.extend(after.clone());
            let back = self.build(member("join")?, &after, &rights, depth, 2)?;
            Some(vec![left, ghost, back])
        };
        made.await.unwrap_or_default()
    }

    /// Its user makes itself the mightiest, and builds on that.
    async fn heir(&self) -> Vec<Arc<Event>> {
        let Ok(at) = self.message("before").await else { return Vec::new() };
        let made = async {
            let crown = self.crown(&at)?;
            let body = json!({"msgtype": "m.text", "body": "the king is dead"});
            let after = [crown.event_id().to_owned()];
            let heir =
                self.build(self.builder("m.room.message", body)?, &after, at.auth_events(), at.depth() + 1, 1)?;
            Some(vec![crown, heir])
        };
        made.await.unwrap_or_default()
    }

    /// A message whose auth events do not say that its user is in the room, as it is.
    async fn without_member(&self) -> Vec<Arc<Event>> {
        let (Ok(at), Some(levels)) = (self.message("before").await, self.current("m.room.power_levels", "").await)
        else {
            return Vec::new();
        };
        let builder = self.builder("m.room.message", json!({"msgtype": "m.text", "body": "from nowhere"}));
        let made = builder.and_then(|builder| self.build(builder, at.prev_events(), &[levels], at.depth(), 0));
        made.into_iter().collect()
    }

    /// Redacts what somebody else said, without the power for it.
    async fn redacts(&self, room: u32) -> Vec<Arc<Event>> {
        let said: Vec<String> = {
            let state = self.world.record().lock();
            let of_room = state.events.iter().filter(|event| event.room == room && event.origin.is_some());
            of_room.map(|event| event.id.clone()).collect()
        };
        let target = self.random.pick(&said).and_then(|id| EventId::parse(id).ok());
        let (Some(target), Ok(at)) = (target, self.message("before").await) else { return Vec::new() };
        let builder = self.builder("m.room.redaction", json!({})).map(|builder| builder.redacts(target));
        let made = builder.and_then(|builder| self.build(builder, at.prev_events(), at.auth_events(), at.depth(), 0));
        made.into_iter().collect()
    }

    /// Device messages in the name of somebody else.
    async fn sends_messages(&self, others: &[u32]) {
        let [victim, name, ..] = others else { return };
        let server = self.world.server_name(*victim);
        let Ok(to) = <&ServerName>::try_from(server.as_str()) else { return };
        let id = format!("forged{}", self.random.u64());
        let edu = json!({"edu_type": "m.direct_to_device", "content": {
            "sender": self.world.user(*name),
            "type": "org.kith.sim",
            "message_id": id,
            "messages": {self.world.user(*victim): {"*": {"id": id}}},
        }});
        let own = self.node.server_name();
        let body = json!({"origin": own, "origin_server_ts": self.node.clock.now_ms(), "pdus": [], "edus": [edu]});
        let path = format!("/_matrix/federation/v1/send/{}", self.random.u64());
        let client = self.node.federation.client();
        let sent = client.request_json(to, http::Method::PUT, &path, &body, Class::Control, PATIENCE).await;
        self.world.record().count(if sent.is_ok() { "forger_sent" } else { "forger_unsent" });
    }

    async fn current(&self, kind: &str, key: &str) -> Option<OwnedEventId> {
        let found = self.room.with_engine(|engine, _| Ok(engine.current_id(kind, key).map(ToOwned::to_owned)));
        found.await.ok().flatten()
    }

    fn build(
        &self,
        builder: Builder,
        prev: &[OwnedEventId],
        auth: &[OwnedEventId],
        depth: u64,
        later_ms: u32,
    ) -> Option<Arc<Event>> {
        let builder = builder.room_id(self.room.id().to_owned());
        let when = MilliSecondsSinceUnixEpoch(self.now().0.saturating_add(UInt::from(later_ms)));
        let built = build::build(builder, self.room.version(), prev, auth, depth, when, self.room.signer());
        built.ok().map(Arc::new)
    }
}
