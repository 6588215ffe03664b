//! A node whose owner means harm: what a second program with its key does.

use std::sync::Arc;
use std::time::Duration;

use kith::Node;
use kith::http::MatrixError;
use kith::rooms::Room;
use kith_room::{Builder, Event, build};
use kith_transport::Class;
use ruma::{MilliSecondsSinceUnixEpoch, RoomId, ServerName, UInt, UserId};
use serde_json::{Value, json};

use crate::engine::Stream;
use crate::world::World;

/// How long it waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What it does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deeds {
    pub(super) forks: bool,
    pub(super) withholds: bool,
    pub(super) lies: bool,
    pub(super) floods: u32,
}

/// State of a room that the node's user may not set: power levels that give it all power, or a name, which no room has, so that only
/// the rules speak against it.
pub(super) async fn forged(world: &World, node: u32, room: u32, random: &Stream) -> Option<Arc<Event>> {
    let forger = Forger::new(world, node, room, random)?;
    let at = forger.message("forged").await.ok()?;
    if random.chance(0.5) { forger.crown(&at) } else { forger.name(&at) }
}

/// Does one of its deeds.
pub(super) async fn act(world: &World, node: u32, room: u32, deeds: Deeds, random: &Stream) {
    let mut choices: Vec<&'static str> = Vec::new();
    choices.extend(deeds.forks.then_some("byzantine_fork"));
    choices.extend(deeds.withholds.then_some("byzantine_withhold"));
    choices.extend(deeds.lies.then_some("byzantine_lie"));
    choices.extend((deeds.floods > 0).then_some("byzantine_flood"));
    let Some(deed) = random.pick(&choices).copied() else { return };
    let mut others: Vec<u32> = world.members(room).into_iter().filter(|other| *other != node).collect();
    random.shuffle(&mut others);
    let Some(forger) = Forger::new(world, node, room, random) else { return };
    let Ok(first) = forger.message("one").await else { return };
    world.record().fault(deed, Some(node), true);
    match deed {
        "byzantine_fork" => {
            let Ok(second) = forger.message("the other").await else { return };
            for (number, other) in others.iter().enumerate() {
                let event = if number % 2 == 0 { &first } else { &second };
                forger.send(*other, std::slice::from_ref(event)).await;
            }
        }
        "byzantine_withhold" => {
            // To some only, at least one and not all of them.
            let some = 1 + random.index(others.len().saturating_sub(1));
            for other in others.into_iter().take(some) {
                forger.send(other, std::slice::from_ref(&first)).await;
            }
        }
        "byzantine_lie" => {
            let lies = [forger.crown(&first), forger.orphan(&first)];
            let lies: Vec<Arc<Event>> = lies.into_iter().flatten().collect();
            for other in others {
                forger.send(other, &lies).await;
            }
        }
        _ => {
            let mut flood = vec![first];
            while flood.len() < deeds.floods as usize {
                match forger.message("flood").await {
                    Ok(event) => flood.push(event),
                    Err(_) => break,
                }
            }
            // All to one: the others fetch what they miss.
            if let Some(other) = others.first() {
                for some in flood.chunks(50) {
                    forger.send(*other, some).await;
                }
            }
        }
    }
}

/// A node's key and its view of a room, in the wrong hands.
pub(super) struct Forger<'a> {
    pub(super) world: &'a World,
    pub(super) node: Arc<Node>,
    pub(super) room: Room,
    pub(super) user: String,
    pub(super) random: &'a Stream,
}

impl<'a> Forger<'a> {
    /// None while the node is off, or not in the room.
    pub(super) fn new(world: &'a World, node: u32, room: u32, random: &'a Stream) -> Option<Self> {
        let inside = world.node(node)?;
        let id = RoomId::parse(world.room_id(room)?).ok()?;
        let room = inside.rooms.get(&id).ok().flatten()?;
        Some(Self { world, node: inside, room, user: world.user(node), random })
    }
}

impl Forger<'_> {
    pub(super) fn now(&self) -> MilliSecondsSinceUnixEpoch {
        MilliSecondsSinceUnixEpoch(UInt::try_from(self.node.clock.now_ms()).unwrap_or(UInt::MAX))
    }

    pub(super) fn builder(&self, kind: &str, content: Value) -> Option<Builder> {
        let sender = UserId::parse(&self.user).ok()?;
        Builder::with_content(&sender, kind, content).ok()
    }

    /// A good message at the end of the room, which its own server knows nothing of.
    pub(super) async fn message(&self, text: &str) -> Result<Arc<Event>, MatrixError> {
        let body = json!({"msgtype": "m.text", "body": format!("{text} {}", self.random.u64())});
        let builder = self.builder("m.room.message", body).ok_or_else(|| MatrixError::bad_request("no message"))?;
        let (now, random, signer) = (self.now(), self.random.u64(), self.room.signer());
        let made = self.room.with_engine(|engine, past| {
            engine.create_local(builder, now, random, signer, past).map_err(MatrixError::internal)
        });
        made.await.map(|verdict| verdict.event)
    }

    /// Its user makes itself the mightiest, which it may not.
    pub(super) fn crown(&self, at: &Event) -> Option<Arc<Event>> {
        let content = json!({"users": {self.user.clone(): 100}, "state_default": 50, "ban": 0});
        self.forge(self.builder("m.room.power_levels", content)?.state_key(""), at, false)
    }

    /// Its user names the room, which it may not.
    fn name(&self, at: &Event) -> Option<Arc<Event>> {
        self.forge(self.builder("m.room.name", json!({"name": "of the liar"}))?.state_key(""), at, false)
    }

    /// A message by a user of whom its auth events do not say that it is in the room.
    fn orphan(&self, at: &Event) -> Option<Arc<Event>> {
        self.forge(self.builder("m.room.message", json!({"msgtype": "m.text", "body": "from nowhere"}))?, at, true)
    }

    fn forge(&self, builder: Builder, at: &Event, orphan: bool) -> Option<Arc<Event>> {
        let builder = builder.room_id(self.room.id().to_owned());
        let auth: &[_] = if orphan { at.auth_events().get(..1)? } else { at.auth_events() };
        let built = build::build(
            builder,
            self.room.version(),
            at.prev_events(),
            auth,
            at.depth(),
            self.now(),
            self.room.signer(),
        );
        built.ok().map(Arc::new)
    }

    /// Sends events to one server only.
    pub(super) async fn send(&self, to: u32, events: &[Arc<Event>]) {
        let pdus: Vec<Value> = events.iter().filter_map(|event| serde_json::from_str(event.text()).ok()).collect();
        self.send_as_it_is(to, pdus).await;
    }

    /// Sends anything as events, to one server only.
    pub(super) async fn send_as_it_is(&self, to: u32, pdus: Vec<Value>) {
        let name = self.world.server_name(to);
        let Ok(server) = <&ServerName>::try_from(name.as_str()) else { return };
        let body = json!({
            "origin": self.node.server_name(),
            "origin_server_ts": self.node.clock.now_ms(),
            "pdus": pdus,
        });
        let path = format!("/_matrix/federation/v1/send/{}", self.random.u64());
        let client = self.node.federation.client();
        let sent = client.request_json(server, http::Method::PUT, &path, &body, Class::Control, PATIENCE).await;
        self.world.record().count(if sent.is_ok() { "byzantine_sent" } else { "byzantine_unsent" });
    }
}
