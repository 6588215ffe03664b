//! A second, slow and simple judge and resolver, for tests only.
//!
//! It is written from the words of the specification and shares no code with the engine or with `ruma-state-res`, not even
//! the parsing of events: whole auth chains instead of walks, whole states instead of differences, sets instead of numbers.
//! Where the engine and the oracle disagree, one of them is wrong.
//!
//! | file | what it says | where the specification says it |
//! | --- | --- | --- |
//! | `auth.rs` | whether an event is allowed | <https://spec.matrix.org/v1.19/rooms/v12/#authorization-rules> and its siblings back to version 3 |
//! | `resolve.rs` | state resolution, versions 2 and 2.1 | <https://spec.matrix.org/v1.19/rooms/v2/#state-resolution>, <https://spec.matrix.org/v1.19/rooms/v12/#state-resolution> |
//! | `receiver.rs` | soft failure, forward extremities, current state | <https://spec.matrix.org/v1.19/server-server-api/#soft-failure> |
//!
//! Readings, where the words leave a choice:
//!
//! - From version 12 on, the create event counts as one of the auth events of every other event, although it is not listed.
//! - A state without a create event allows nothing but a create event.
//! - "Current value" of a power level that is not there means its default.
//! - The events of a state belong to that state's full auth chain.
//! - Power events are enlarged by those auth events that are reached through the full conflicted set, and ordered by the
//!   auth events that are among them.
//!
//! The last two are not what the letter says: there an auth chain leaves out the event where it starts, and goes through
//! events that do not conflict. But it is how Synapse and ruma read it, and to differ would split rooms; the generated rooms
//! find each difference within a few thousand cases. In version 12 the conflicted subgraph makes the last one vanish.
//!
//! Not here, because no generated event has it: invites by third parties, and the signatures of restricted joins, which are
//! verified before an event gets to the engine.

#![allow(dead_code)]

pub mod auth;
pub mod receiver;
pub mod resolve;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use serde_json::Value;

/// An event ID.
pub type Id = Rc<str>;

/// Which event holds which type and state key.
pub type State = BTreeMap<(Rc<str>, Rc<str>), Id>;

/// An event.
pub struct Pdu {
    pub id: Id,
    pub room_id: Option<String>,
    pub kind: Rc<str>,
    pub state_key: Option<Rc<str>>,
    pub sender: Rc<str>,
    pub content: Value,
    pub prev: Vec<Id>,
    pub auth: Vec<Id>,
    pub ts: i64,
}

impl Pdu {
    pub fn read(id: &str, json: &Value) -> Self {
        let text = |name: &str| json[name].as_str().map(Rc::from);
        let ids = |name: &str| json[name].as_array().into_iter().flatten().filter_map(Value::as_str).map(Rc::from);
        Self {
            id: id.into(),
            room_id: json["room_id"].as_str().map(ToOwned::to_owned),
            kind: text("type").unwrap(),
            state_key: text("state_key"),
            sender: text("sender").unwrap(),
            content: json["content"].clone(),
            prev: ids("prev_events").collect(),
            auth: ids("auth_events").collect(),
            ts: json["origin_server_ts"].as_i64().unwrap(),
        }
    }

    pub fn is(&self, kind: &str, key: &str) -> bool {
        &*self.kind == kind && self.state_key.as_deref() == Some(key)
    }
}

/// What became of an event, whenever and in whatever order it came.
pub struct Fate {
    /// Why it is rejected, if it is.
    pub rejected: Option<&'static str>,
    pub before: Rc<State>,
    pub after: Rc<State>,
    /// All events that its auth events lead to, without itself.
    pub chain: BTreeSet<Id>,
}

/// All events of one room, judged.
pub struct Book {
    pub version: u8,
    pub pdus: BTreeMap<Id, Pdu>,
    pub fates: BTreeMap<Id, Fate>,
    /// What was resolved before, as the same forks are asked for again and again.
    resolved: RefCell<BTreeMap<BTreeSet<Id>, Rc<State>>>,
}

impl Book {
    pub fn new(version: u8) -> Self {
        Self { version, pdus: BTreeMap::new(), fates: BTreeMap::new(), resolved: RefCell::default() }
    }

    /// Judges an event whose prev and auth events are known: steps 4 and 5 of
    /// <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>.
    pub fn add(&mut self, pdu: Pdu) {
        let before = self.state_after_all(&pdu.prev.iter().cloned().collect());
        let auth = self.auth_events_of(&pdu);
        let rejected = auth::by_list(self, &pdu)
            .and_then(|()| {
                let cited = |kind: &str, key: &str| auth.iter().map(|id| &self.pdus[id]).find(|a| a.is(kind, key));
                auth::by_state(self.version, &pdu, &cited, &|id| &*self.pdus[id].kind)
            })
            .and_then(|()| self.allowed_in(&pdu, &before))
            .err();
        let mut after = before.clone();
        if let (None, Some(key)) = (rejected, &pdu.state_key) {
            Rc::make_mut(&mut after).insert((pdu.kind.clone(), key.clone()), pdu.id.clone());
        }
        let mut chain: BTreeSet<Id> = auth.iter().cloned().collect();
        auth.iter().for_each(|id| chain.extend(self.fates[id].chain.iter().cloned()));
        self.fates.insert(pdu.id.clone(), Fate { rejected, before, after, chain });
        self.pdus.insert(pdu.id.clone(), pdu);
    }

    /// The state before an event that follows these.
    pub fn state_after_all(&self, prev: &BTreeSet<Id>) -> Rc<State> {
        if let Some(state) = self.resolved.borrow().get(prev) {
            return state.clone();
        }
        let states: BTreeSet<&State> = prev.iter().map(|id| &*self.fates[id].after).collect();
        let states: Vec<&State> = states.into_iter().collect();
        let state = match &states[..] {
            [] => Rc::new(State::new()),
            [one] => Rc::new((*one).clone()),
            _ => Rc::new(resolve::resolve(self, &states)),
        };
        self.resolved.borrow_mut().insert(prev.clone(), state.clone());
        state
    }

    /// Whether a state allows an event.
    pub fn allowed_in(&self, pdu: &Pdu, state: &State) -> Result<(), &'static str> {
        let held = |kind: &str, key: &str| state.get(&(kind.into(), key.into())).map(|id| &self.pdus[id]);
        auth::by_state(self.version, pdu, &held, &|id| &*self.pdus[id].kind)
    }

    /// The auth events, with the create event, which version 12 leaves out.
    pub fn auth_events_of(&self, pdu: &Pdu) -> Vec<Id> {
        let implied = pdu.room_id.as_ref().filter(|_| self.version >= 12 && &*pdu.kind != "m.room.create");
        pdu.auth.iter().cloned().chain(implied.map(|room| room.replacen('!', "$", 1).into())).collect()
    }

    pub fn is_rejected(&self, id: &Id) -> bool {
        self.fates[id].rejected.is_some()
    }
}
