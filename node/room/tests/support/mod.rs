//! What the tests and benchmarks of the engine share: servers with keys, a store in memory, and rooms kept by a server.

#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::{cell::Cell, collections::BTreeMap, sync::Arc};

use kith_room::{
    Builder, CreateError, Decision, Event, EventNumber, Outcome, Room, Signer, Source, SourceError, StateMap, Status,
    Verdict, keys::key_label,
};
use ruma::{
    CanonicalJsonObject, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName, OwnedUserId,
    RoomVersionId, ServerName, UInt, UserId, signatures::Ed25519KeyPair,
};
use serde_json::{Value, json};

pub const VERSIONS: [RoomVersionId; 12] = [
    RoomVersionId::V1,
    RoomVersionId::V2,
    RoomVersionId::V3,
    RoomVersionId::V4,
    RoomVersionId::V5,
    RoomVersionId::V6,
    RoomVersionId::V7,
    RoomVersionId::V8,
    RoomVersionId::V9,
    RoomVersionId::V10,
    RoomVersionId::V11,
    RoomVersionId::V12,
];

/// The number of a room version.
pub fn number(version: &RoomVersionId) -> u32 {
    version.as_str().parse().unwrap()
}

pub fn key_pair(seed: u8, key_name: &str) -> Ed25519KeyPair {
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend([seed; 32]);
    Ed25519KeyPair::from_der(&der, key_name.to_owned()).unwrap()
}

pub struct Server {
    pub name: OwnedServerName,
    pub key: Ed25519KeyPair,
}

impl Server {
    /// A kith server, named by its key.
    pub fn new(seed: u8) -> Self {
        let key = key_pair(seed, "0");
        Self { name: ServerName::parse(key_label(&key.public_key())).unwrap(), key }
    }

    pub fn signer(&self) -> Signer<'_> {
        Signer { server_name: &self.name, key: &self.key }
    }

    pub fn user(&self, name: &str) -> OwnedUserId {
        UserId::parse(format!("@{name}:{}", self.name)).unwrap()
    }
}

pub fn ts(ms: u64) -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(UInt::try_from(ms).unwrap())
}

pub fn object(value: Value) -> CanonicalJsonObject {
    serde_json::from_value(value).unwrap()
}

pub fn message(sender: &UserId, body: &str) -> Builder {
    Builder::new(sender, "m.room.message", object(json!({ "msgtype": "m.text", "body": body })))
}

pub fn state(sender: &UserId, kind: &str, key: &str, content: Value) -> Builder {
    Builder::new(sender, kind, object(content)).state_key(key)
}

pub fn member(sender: &UserId, target: &UserId, membership: &str) -> Builder {
    state(sender, "m.room.member", target.as_str(), json!({ "membership": membership }))
}

pub struct Stored {
    pub event: Arc<Event>,
    pub status: Status,
    pub number: EventNumber,
    pub state_before: Option<StateMap>,
    pub state_after: Option<StateMap>,
    pub reason: Option<String>,
}

/// Everything a node stores of one room.
#[derive(Default)]
pub struct Memory {
    pub events: BTreeMap<OwnedEventId, Stored>,
    pub reads: Cell<u64>,
}

impl Memory {
    pub fn put(&mut self, verdict: &Verdict) {
        let number = self.events.len() as u64;
        self.events.insert(
            verdict.event.event_id().to_owned(),
            Stored {
                event: verdict.event.clone(),
                status: verdict.status(),
                number,
                state_before: Some(verdict.state_before.clone()),
                state_after: Some(verdict.state_after.clone()),
                reason: verdict.decision.reason().map(ToOwned::to_owned),
            },
        );
    }

    pub fn put_outlier(&mut self, event: &Arc<Event>, status: Status) {
        let number = self.events.len() as u64;
        self.events.insert(
            event.event_id().to_owned(),
            Stored { event: event.clone(), status, number, state_before: None, state_after: None, reason: None },
        );
    }
}

impl Source for Memory {
    fn event(&self, id: &EventId) -> Result<Option<Arc<Event>>, SourceError> {
        self.reads.set(self.reads.get() + 1);
        Ok(self.events.get(id).map(|stored| stored.event.clone()))
    }

    fn status(&self, id: &EventId) -> Result<Option<Status>, SourceError> {
        Ok(self.events.get(id).map(|stored| stored.status))
    }

    fn number(&self, id: &EventId) -> Result<Option<EventNumber>, SourceError> {
        Ok(self.events.get(id).map(|stored| stored.number))
    }

    fn state_after(&self, id: &EventId) -> Result<Option<StateMap>, SourceError> {
        Ok(self.events.get(id).and_then(|stored| stored.state_after.clone()))
    }
}

/// One server's copy of a room.
pub struct Replica {
    pub room: Room,
    pub store: Memory,
    pub clock: u64,
}

impl Replica {
    /// Creates a room: create event, the creator's join, power levels, join rules `public`.
    pub fn create(server: &Server, creator: &UserId, version: &RoomVersionId, levels: Value) -> Self {
        let mut this = Self::create_bare(server, creator, version, json!({}));
        this.send(server, member(creator, creator, "join"));
        this.send(server, state(creator, "m.room.power_levels", "", levels));
        this.send(server, state(creator, "m.room.join_rules", "", json!({ "join_rule": "public" })));
        this
    }

    pub fn create_bare(server: &Server, creator: &UserId, version: &RoomVersionId, mut content: Value) -> Self {
        if number(version) < 11 {
            content["creator"] = json!(creator);
        }
        let mut builder = state(creator, "m.room.create", "", content);
        if *version != RoomVersionId::V12 {
            builder = builder.room_id(ruma::RoomId::parse(format!("!room:{}", server.name)).unwrap());
        }
        let (room, verdict) = Room::create(version, builder, ts(1_000), server.signer()).unwrap();
        let mut this = Self { room, store: Memory::default(), clock: 1_000 };
        this.take(&verdict);
        this
    }

    /// A copy that knows nothing but the room's ID.
    pub fn empty(version: &RoomVersionId, room_id: &ruma::RoomId) -> Self {
        Self { room: Room::new(version, room_id).unwrap(), store: Memory::default(), clock: 0 }
    }

    pub fn take(&mut self, verdict: &Verdict) {
        self.store.put(verdict);
        self.room.apply(verdict).unwrap();
        assert_eq!(
            self.room.extremities().map(ToOwned::to_owned).collect::<std::collections::BTreeSet<_>>(),
            verdict.new_extremities
        );
    }

    pub fn try_send(&mut self, server: &Server, builder: Builder) -> Result<Arc<Event>, CreateError> {
        self.clock += 1;
        let verdict = self.room.create_local(builder, ts(self.clock), self.clock, server.signer(), &self.store)?;
        self.take(&verdict);
        Ok(verdict.event)
    }

    pub fn send(&mut self, server: &Server, builder: Builder) -> Arc<Event> {
        self.try_send(server, builder).unwrap()
    }

    /// The reason for which the room refuses what `builder` says.
    pub fn refusal(&mut self, server: &Server, builder: Builder) -> String {
        match self.try_send(server, builder) {
            Err(CreateError::Forbidden(reason)) => reason,
            Err(other) => panic!("another error: {other}"),
            Ok(event) => panic!("allowed: {}", event.text()),
        }
    }

    pub fn offer(&mut self, event: &Arc<Event>) -> Outcome {
        let outcome = self.room.handle_pdu(event.clone(), &self.store).unwrap();
        if let Outcome::Verdict(verdict) = &outcome {
            self.take(verdict);
        }
        outcome
    }

    pub fn decide(&mut self, event: &Arc<Event>) -> Decision {
        match self.offer(event) {
            Outcome::Verdict(verdict) => verdict.decision,
            other => panic!("no verdict: {other:?}"),
        }
    }

    pub fn current(&self, kind: &str, key: &str) -> Option<Arc<Event>> {
        let id = self.room.current_id(kind, key)?;
        Some(self.store.events[id].event.clone())
    }

    /// An event as a server makes it that does not care for the rules: it cites what it likes.
    pub fn forge(
        &self,
        server: &Server,
        builder: Builder,
        prev: &[OwnedEventId],
        auth: &[OwnedEventId],
        at: u64,
    ) -> Arc<Event> {
        let depth = prev.iter().filter_map(|id| self.store.events.get(id)).map(|stored| stored.event.depth()).max();
        let builder = builder.room_id(self.room.room_id().to_owned());
        Arc::new(
            kith_room::build::build(
                builder,
                self.room.version(),
                prev,
                auth,
                depth.unwrap_or(0) + 1,
                ts(at),
                server.signer(),
            )
            .unwrap(),
        )
    }
}
