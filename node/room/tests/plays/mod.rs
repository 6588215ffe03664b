//! Generated rooms: what a few servers do that hear of each other late, or never, and of which some keep to no rule.
//!
//! A [`Script`] is data, so that a failing one shrinks. A [`Play`] acts it out: each person has a server with its own view
//! of the room, follows the extremities that it sees, and so forks the room. The events are made with the help of the
//! oracle alone, and their IDs are made up, which leaves the ties to be broken by them open.

#![allow(dead_code)]

mod third_party;

use std::{collections::BTreeSet, sync::Arc};

use kith_room::{Event, format};
use proptest::{collection::vec, prelude::*, sample::Index};
use ruma::{EventId, RoomId, RoomVersionId};
use serde_json::{Value, json};

use crate::oracle::{Book, Id, Pdu, State, auth, receiver::Receiver};

/// Everybody's server is another one.
pub const PEOPLE: [&str; 4] = ["@a:a.example", "@b:b.example", "@c:c.example", "@d:d.example"];

#[derive(Debug, Clone)]
pub struct Script {
    pub version: u8,
    pub setup: Setup,
    pub steps: Vec<Step>,
    /// Event IDs follow from it.
    pub salt: u64,
}

/// How the room begins. The first person is its creator and joined.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The levels of the others; without, the room has no power levels event.
    pub levels: Option<[i64; 3]>,
    pub state_default: i64,
    pub join_rule: &'static str,
    /// Whether the second person is a creator, too (from version 12 on).
    pub two_creators: bool,
    pub federate: bool,
    /// Whether the others join before anything else happens.
    pub joined: bool,
    /// Whether the first two people begin with a third-party invite each.
    pub third_party: bool,
}

#[derive(Debug, Clone)]
pub struct Step {
    pub who: usize,
    /// What the person's server hears of before.
    pub hears: Option<Index>,
    pub what: What,
    /// What the person does instead where the rules forbid it.
    pub or: What,
    pub how: How,
    pub at: u8,
}

#[derive(Debug, Clone)]
pub enum How {
    /// As the rules want it; if they forbid it, it is not done.
    Honestly,
    /// Where an honest server would put it, though the rules forbid it.
    Anyway,
    /// Behind any events (or none), authorized by the state at any other.
    Forged { after: Vec<Index>, auth_at: Index },
}

#[derive(Debug, Clone)]
pub enum What {
    Say,
    Topic(u8),
    /// A state event under the user ID of somebody.
    Note {
        about: usize,
    },
    Membership {
        target: usize,
        membership: &'static str,
    },
    RestrictedJoin {
        via: usize,
    },
    JoinRule(&'static str),
    Level {
        target: usize,
        level: i64,
    },
    Field {
        name: &'static str,
        level: i64,
    },
    Kind {
        map: &'static str,
        name: &'static str,
        level: i64,
    },
    ThirdPartyInvite {
        token: usize,
        keys: u8,
    },
    /// An invite by one of these.
    UseThirdPartyInvite {
        target: usize,
        token: usize,
        flaw: u8,
    },
    Aliases {
        of: usize,
    },
    /// An event of a form that the rules know and refuse.
    Malformed(u8),
}

const TOKENS: [&str; 2] = ["one", "two"];
const LEVELS: [i64; 5] = [0, 40, 50, 60, 100];
const JOIN_RULES: [&str; 7] = ["public", "invite", "knock", "restricted", "knock_restricted", "private", "odd"];

pub fn what() -> impl Strategy<Value = What> {
    let person = || 0..PEOPLE.len();
    let level = || prop::sample::select(&LEVELS[..]);
    let of = |names: &'static [&'static str]| prop::sample::select(names);
    prop_oneof![
        2 => Just(What::Say),
        6 => (0..3_u8).prop_map(What::Topic),
        1 => person().prop_map(|about| What::Note { about }),
        12 => (person(), of(&["leave", "ban", "join", "invite", "knock", "odd"]))
            .prop_map(|(target, membership)| What::Membership { target, membership }),
        2 => person().prop_map(|via| What::RestrictedJoin { via }),
        4 => of(&JOIN_RULES).prop_map(What::JoinRule),
        10 => (person(), level()).prop_map(|(target, level)| What::Level { target, level }),
        2 => (of(&["ban", "kick", "invite", "state_default", "users_default", "events_default"]), level())
            .prop_map(|(name, level)| What::Field { name, level }),
        2 => (of(&["events", "events", "notifications"]), of(&["m.room.topic", "m.room.power_levels", "room"]), level())
            .prop_map(|(map, name, level)| What::Kind { map, name, level }),
        2 => (0..TOKENS.len(), 0..5_u8).prop_map(|(token, keys)| What::ThirdPartyInvite { token, keys }),
        5 => (person(), 0..TOKENS.len(), 0..14_u8)
            .prop_map(|(target, token, flaw)| What::UseThirdPartyInvite { target, token, flaw }),
        1 => person().prop_map(|of| What::Aliases { of }),
        1 => (0..7_u8).prop_map(What::Malformed),
    ]
}

pub fn step() -> impl Strategy<Value = Step> {
    let how = prop_oneof![
        20 => Just(How::Honestly),
        1 => Just(How::Anyway),
        3 => (vec(any::<Index>(), 1..4), any::<Index>()).prop_map(|(after, auth_at)| How::Forged { after, auth_at }),
        // Behind nothing at all, where there is no state yet.
        1 => any::<Index>().prop_map(|auth_at| How::Forged { after: Vec::new(), auth_at }),
    ];
    (0..PEOPLE.len(), prop::option::of(any::<Index>()), what(), what(), how, 0..6_u8)
        .prop_map(|(who, hears, what, or, how, at)| Step { who, hears, what, or, how, at })
}

pub fn setup() -> impl Strategy<Value = Setup> {
    let levels = prop::array::uniform3(prop::sample::select(vec![100, 50, 0]));
    (
        prop::option::weighted(0.9, levels),
        prop::sample::select(vec![50, 0]),
        prop::sample::select(&JOIN_RULES[..5]),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.97),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.4),
    )
        .prop_map(|(levels, state_default, join_rule, two_creators, federate, joined, third_party)| Setup {
            levels,
            state_default,
            join_rule,
            two_creators,
            federate,
            joined,
            third_party,
        })
}

/// Rooms of the versions whose algorithm is 2 (3 to 11) and of that with 2.1 (12).
pub fn script(steps: std::ops::Range<usize>) -> impl Strategy<Value = Script> {
    let version = prop_oneof![2 => 3..=9_u8, 1 => Just(10), 2 => Just(11), 5 => Just(12)];
    (version, setup(), vec(step(), steps), any::<u64>()).prop_map(|(version, setup, steps, salt)| Script {
        version,
        setup,
        steps,
        salt,
    })
}

/// A script that has been acted out.
pub struct Play {
    pub version: RoomVersionId,
    pub book: Book,
    /// As the engine reads them, in an order in which parents come first.
    pub events: Vec<Arc<Event>>,
    pub ids: Vec<Id>,
    pub clock: i64,
    views: Vec<Receiver>,
    salt: u64,
    room: String,
}

impl Play {
    pub fn new(script: &Script) -> Self {
        let mut play = Self {
            version: RoomVersionId::try_from(script.version.to_string().as_str()).unwrap(),
            book: Book::new(script.version),
            events: Vec::new(),
            ids: Vec::new(),
            clock: 1_000,
            views: PEOPLE.iter().map(|_| Receiver::default()).collect(),
            salt: script.salt,
            room: "!room:a.example".to_owned(),
        };
        play.set_up(&script.setup);
        script.steps.iter().for_each(|step| play.act(step));
        play
    }

    pub fn room_id(&self) -> &RoomId {
        self.events[0].room_id()
    }

    /// What happened, for whoever looks for the reason of a failure.
    pub fn story(&self) -> String {
        let place = |id: &Id| self.ids.iter().position(|known| known == id).unwrap();
        let line = |id: &Id| {
            let pdu = &self.book.pdus[id];
            let (prev, auth) = (pdu.prev.iter().map(place), pdu.auth.iter().map(place));
            let who = PEOPLE.iter().position(|user| **user == *pdu.sender).unwrap();
            format!(
                "{} by {who} at {}: {} {} {} prev {:?} auth {:?} {}\n",
                place(id),
                pdu.ts,
                pdu.kind,
                pdu.state_key.as_deref().unwrap_or("-"),
                pdu.content,
                prev.collect::<Vec<_>>(),
                auth.collect::<Vec<_>>(),
                self.book.fates[id].rejected.unwrap_or("")
            )
        };
        self.ids.iter().map(line).collect()
    }

    fn set_up(&mut self, setup: &Setup) {
        let version = self.book.version;
        let mut create = json!({ "room_version": version.to_string() });
        if version < 11 {
            create["creator"] = json!(PEOPLE[0]);
        }
        if version >= 12 && setup.two_creators {
            create["additional_creators"] = json!([PEOPLE[1]]);
        }
        if !setup.federate {
            create["m.federate"] = json!(false);
        }
        let mut begin = vec![(0, "m.room.create", "", create)];
        begin.push((0, "m.room.member", PEOPLE[0], json!({ "membership": "join" })));
        if let Some(levels) = setup.levels {
            let mut users: serde_json::Map<_, _> =
                PEOPLE[1..].iter().zip(levels).map(|(user, level)| ((*user).to_owned(), json!(level))).collect();
            if version < 12 {
                users.insert(PEOPLE[0].to_owned(), json!(100));
            } else if setup.two_creators {
                users.remove(PEOPLE[1]);
            }
            let content = json!({ "users": users, "state_default": setup.state_default });
            begin.push((0, "m.room.power_levels", "", content));
        }
        begin.push((0, "m.room.join_rules", "", json!({ "join_rule": "public" })));
        for person in (1..PEOPLE.len()).filter(|_| setup.joined) {
            begin.push((person, "m.room.member", PEOPLE[person], json!({ "membership": "join" })));
        }
        for (person, token) in TOKENS.iter().enumerate().filter(|_| setup.third_party) {
            begin.push((person, third_party::KIND, token, third_party::invite(0)));
        }
        if setup.join_rule != "public" {
            begin.push((0, "m.room.join_rules", "", json!({ "join_rule": setup.join_rule })));
        }
        for (person, kind, key, content) in begin {
            self.add_honestly(person, kind, Some(key), content, false);
            let last = self.ids.last().cloned().unwrap();
            (0..PEOPLE.len()).for_each(|person| self.hear(person, &last));
        }
    }

    fn act(&mut self, step: &Step) {
        self.clock = 2_000 + i64::from(step.at);
        if let Some(heard) = &step.hears {
            let heard = heard.get(&self.ids).clone();
            self.hear(step.who, &heard);
        }
        match &step.how {
            How::Honestly | How::Anyway => {
                let state = self.views[step.who].current(&self.book);
                let anyway = matches!(step.how, How::Anyway);
                for what in [&step.what, &step.or].into_iter().filter(|what| !unseats_creator(step.who, what)) {
                    let (kind, key, content) = self.event(what, step.who, &state);
                    if self.add_honestly(step.who, kind, key.as_deref(), content, anyway) {
                        break;
                    }
                }
            }
            How::Forged { after, auth_at } if !unseats_creator(step.who, &step.what) => {
                let prev: BTreeSet<Id> = after.iter().map(|index| index.get(&self.ids).clone()).collect();
                let state = self.book.fates[auth_at.get(&self.ids)].after.clone();
                let (kind, key, content) = self.event(&step.what, step.who, &state);
                let auth = self.choose_auth(step.who, kind, key.as_deref(), &content, &state);
                let pdu = self.draft(step.who, kind, key.as_deref(), content, prev.into_iter().collect(), auth);
                self.add(pdu);
            }
            How::Forged { .. } => {}
        }
    }

    fn event(&self, what: &What, who: usize, state: &State) -> (&'static str, Option<String>, Value) {
        let levels = |change: &dyn Fn(&mut Value)| {
            let held = state.get(&("m.room.power_levels".into(), "".into())).map(|id| &self.book.pdus[id].content);
            let mut content = held.cloned().unwrap_or(json!({ "users": {} }));
            if self.book.version < 12 {
                content["users"][PEOPLE[0]] = json!(100);
            }
            change(&mut content);
            ("m.room.power_levels", Some(String::new()), content)
        };
        let member = |target: &str, content: Value| ("m.room.member", Some(target.to_owned()), content);
        match what {
            What::Say => ("m.room.message", None, json!({ "body": "hi" })),
            What::Topic(topic) => ("m.room.topic", Some(String::new()), json!({ "topic": topic })),
            What::Note { about } => ("org.example.note", Some(PEOPLE[*about].to_owned()), json!({})),
            What::Membership { target, membership } => {
                // Nobody joins or knocks for others, except when the rules are to be tried.
                let target = if *membership == "join" && *target != 0 { who } else { *target };
                member(PEOPLE[target], json!({ "membership": membership }))
            }
            What::RestrictedJoin { via } => {
                member(PEOPLE[who], json!({ "membership": "join", "join_authorised_via_users_server": PEOPLE[*via] }))
            }
            What::JoinRule(rule) => ("m.room.join_rules", Some(String::new()), json!({ "join_rule": rule })),
            What::Level { target, level } => levels(&|content| content["users"][PEOPLE[*target]] = json!(level)),
            What::Field { name, level } => levels(&|content| {
                // Old versions take integers written as text.
                content[*name] = if self.book.version < 10 && *level == 40 { json!("40") } else { json!(level) };
            }),
            What::Kind { map, name, level } => levels(&|content| content[*map][*name] = json!(level)),
            What::ThirdPartyInvite { token, keys } => {
                (third_party::KIND, Some(TOKENS[*token].to_owned()), third_party::invite(*keys))
            }
            What::UseThirdPartyInvite { target, token, flaw } => {
                // Mostly one that the person may use.
                let own = |token: &&&str| {
                    let invite = state.get(&(third_party::KIND.into(), (**token).into()));
                    invite.is_some_and(|id| *self.book.pdus[id].sender == *PEOPLE[who])
                };
                let token = TOKENS.iter().find(own).filter(|_| *flaw != 8).unwrap_or(&TOKENS[*token]);
                let used = third_party::used(PEOPLE[*target], PEOPLE[who], token, *flaw);
                member(PEOPLE[*target], json!({ "membership": "invite", "third_party_invite": used }))
            }
            What::Aliases { of } => {
                let server = PEOPLE[*of].split_once(':').unwrap().1.to_owned();
                ("m.room.aliases", Some(server), json!({ "aliases": [] }))
            }
            What::Malformed(0) => member(PEOPLE[who], json!({})),
            What::Malformed(1) => levels(&|content| content["users"] = json!([])),
            What::Malformed(2) => levels(&|content| content["users"]["nobody"] = json!(1)),
            What::Malformed(3) if self.book.version >= 10 => levels(&|content| content["ban"] = json!("50")),
            What::Malformed(4) if self.book.version >= 10 => levels(&|content| content["events"] = json!({ "a": "1" })),
            What::Malformed(5) if self.book.version >= 10 => levels(&|content| content["notifications"] = json!(1)),
            What::Malformed(_) => ("m.room.join_rules", Some(String::new()), json!({})),
        }
    }

    /// Has a person who knows everything set something that the room allows.
    pub fn add_next(&mut self, who: usize, kind: &str, key: &str, content: Value) -> Id {
        self.clock += 1;
        let last = self.ids.last().cloned().unwrap();
        self.hear(who, &last);
        assert!(self.add_honestly(who, kind, Some(key), content, false), "the room does not allow it");
        self.ids.last().cloned().unwrap()
    }

    /// Puts an event where an honest server would. Says whether it did.
    fn add_honestly(&mut self, who: usize, kind: &str, key: Option<&str>, content: Value, anyway: bool) -> bool {
        let prev = self.views[who].extremities().clone();
        let state = self.book.state_after_all(&prev);
        let auth = self.choose_auth(who, kind, key, &content, &state);
        let pdu = self.draft(who, kind, key, content, prev.into_iter().collect(), auth);
        if !anyway && self.book.allowed_in(&pdu.0, &state).is_err() {
            return false;
        }
        let id = pdu.0.id.clone();
        self.add(pdu);
        self.hear(who, &id);
        true
    }

    /// The events of a state that are to be cited.
    pub fn choose_auth(&self, who: usize, kind: &str, key: Option<&str>, content: &Value, state: &State) -> Vec<Id> {
        let selection = auth::selection(self.book.version, kind, PEOPLE[who], key, content);
        selection
            .iter()
            .filter_map(|(kind, key)| state.get(&(kind.as_str().into(), key.as_str().into())))
            .cloned()
            .collect()
    }

    /// An event, not added yet, and its text.
    pub fn draft(
        &self,
        who: usize,
        kind: &str,
        key: Option<&str>,
        content: Value,
        prev: Vec<Id>,
        auth: Vec<Id>,
    ) -> (Pdu, Value) {
        let ids = |ids: &[Id]| ids.iter().map(|id| json!(&**id)).collect::<Vec<_>>();
        let depth = 1 + prev.iter().map(|id| self.depth(id)).max().unwrap_or(0);
        let mut json = json!({
            "type": kind, "sender": PEOPLE[who], "content": content, "prev_events": ids(&prev), "auth_events": ids(&auth),
            "depth": depth, "origin_server_ts": self.clock,
        });
        if let Some(key) = key {
            json["state_key"] = json!(key);
        }
        if self.book.version < 12 || kind != "m.room.create" {
            json["room_id"] = json!(self.room);
        }
        (Pdu::read(&self.next_id(), &json), json)
    }

    pub fn add(&mut self, (pdu, json): (Pdu, Value)) {
        let rules = format::rules(&self.version).unwrap();
        let id = EventId::parse(&*pdu.id).unwrap();
        if self.book.version >= 12 && &*pdu.kind == "m.room.create" {
            self.room = pdu.id.replacen('$', "!", 1);
        }
        self.events.push(Arc::new(Event::from_stored(json.to_string(), id, &rules).unwrap()));
        self.ids.push(pdu.id.clone());
        self.book.add(pdu);
    }

    fn depth(&self, id: &Id) -> u64 {
        let place = self.ids.iter().position(|known| known == id).unwrap();
        self.events[place].depth()
    }

    fn next_id(&self) -> String {
        let drawn = mix(self.salt ^ mix(self.ids.len() as u64));
        format!("${drawn:016x}{:027}", self.ids.len())
    }

    /// A person's server hears of an event and, before it, of what it builds on.
    fn hear(&mut self, who: usize, id: &Id) {
        view_of(&mut self.views, who, &self.book, id);
    }
}

/// The room's creator stays with full power, so that somebody can merge the heads in the end.
fn unseats_creator(who: usize, what: &What) -> bool {
    let by_whom = who == 0 || matches!(what, What::UseThirdPartyInvite { .. });
    by_whom
        && match what {
            What::Membership { target, .. } | What::Level { target, .. } | What::UseThirdPartyInvite { target, .. } => {
                *target == 0
            }
            What::Malformed(_) => true,
            _ => false,
        }
}

fn view_of(views: &mut [Receiver], who: usize, book: &Book, id: &Id) {
    let view = &mut views[who];
    if view.received.contains_key(id) {
        return;
    }
    let pdu = &book.pdus[id];
    for before in pdu.prev.iter().cloned().chain(book.auth_events_of(pdu)) {
        view_of(views, who, book, &before);
    }
    views[who].receive(book, id);
}

/// Spreads a number (the SplitMix64 finalizer).
pub fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
