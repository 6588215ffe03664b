//! One room in an answer (MSC4186, "Room results"): what is new of it for the connection, by the user's part in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kith_store::{
    Snapshot,
    tables::rooms::{CURRENT_STATE, MEMBERS, STREAM, UserRoomRow, membership},
};
use ruma::{RoomId, api::client::filter::RoomEventFilter, serde::Raw};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    connection::{Known, Wanted},
    required::{Lookup, Required},
    rooms::Entry,
};
use crate::{
    Node,
    http::Answer,
    rooms::{
        client_event::{Form, Showing, Viewer, raw},
        read::{self, StoredEvent},
        states,
        timeline::Place,
        visibility::Eyes,
    },
    sync::{
        notifications::{self, Reader},
        room::{outside_event, stripped_of},
        state,
        timeline::{self, Timeline},
    },
};

/// Events of these types are what a room is sorted by (MSC4186, `bump_stamp`).
const BUMPS: [&str; 7] = [
    "m.room.create",
    "m.room.message",
    "m.room.encrypted",
    "m.sticker",
    "m.call.invite",
    "m.poll.start",
    "m.beacon_info",
];
/// Also such.
const UNSTABLE_BUMPS: [&str; 2] = ["org.matrix.msc3381.poll.start", "org.matrix.msc3672.beacon_info"];
/// How many events are looked through for one of them.
const MOST_LOOKED_THROUGH: usize = 200;
/// How many member events are remembered as told, of one room.
const MOST_MEMBERS: usize = 100;

/// What is told of a room.
#[derive(Debug, Default, Serialize)]
pub(super) struct Told {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avatar: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    heroes: Option<Vec<Hero>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_dm: Option<bool>,
    #[serde(skip_serializing_if = "is_false")]
    initial: bool,
    #[serde(skip_serializing_if = "is_false")]
    unstable_expanded_timeline: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    required_state: Vec<Raw<Value>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    timeline: Vec<Raw<Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_batch: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    limited: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_live: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    joined_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invited_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notification_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    highlight_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bump_stamp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    membership: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invite_state: Option<Vec<Value>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) lists: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_false(value: &bool) -> bool {
    !value
}

#[derive(Debug, Serialize)]
struct Hero {
    user_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    displayname: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avatar_url: Option<Value>,
}

/// A look at rooms for one answer.
pub(super) struct Look<'a> {
    pub(super) node: &'a Node,
    pub(super) read: &'a Snapshot,
    pub(super) viewer: &'a Viewer,
    pub(super) reader: &'a Reader<'a>,
    /// Position up to which is told.
    pub(super) upto: u64,
    /// Position that the connection had reached: what came since just happened. 0: nothing just happened, the client begins.
    pub(super) reached: u64,
}

/// What was found out about a room.
pub(super) struct Found {
    /// What to tell; none if nothing is new.
    pub(super) told: Option<Told>,
    /// What the client knows then.
    pub(super) known: Known,
    /// The events of the timeline that is told.
    pub(super) events: Vec<String>,
}

/// A room while it is looked at.
struct Room<'a> {
    look: &'a Look<'a>,
    number: u64,
    room_id: &'a RoomId,
    entry: &'a Entry,
    part: UserRoomRow,
    wanted: &'a Arc<Wanted>,
    /// What the client knows of it, unless it has to forget that.
    known: Option<&'a Known>,
}

impl Look<'_> {
    /// Looks what is new of a room. None if the user has no part in it any more.
    pub(super) fn at(
        &self,
        number: u64,
        entry: &Entry,
        known: Option<&Known>,
        wanted: &Arc<Wanted>,
    ) -> Answer<Option<Found>> {
        let part = read::user_room(self.read, &self.viewer.user_id, number)?.filter(|part| !part.forgotten);
        let Some(part) = part else { return Ok(None) };
        // What it has from before the user came, or came again, does not join on to what it is told now.
        let joins_on = |known: &&Known| match part.membership {
            membership::JOIN => known.saw_inside && part.joined_at <= known.position,
            membership::INVITE | membership::KNOCK => known.membership == part.membership,
            _ => true,
        };
        let known = known.filter(joins_on);
        let room = Room { look: self, number, room_id: &entry.room_id, entry, part, wanted, known };
        match room.part.membership {
            membership::JOIN => room.joined(),
            membership::INVITE | membership::KNOCK => room.invited(),
            _ => room.left(),
        }
        .map(Some)
    }
}

impl Room<'_> {
    /// A room that the user is in.
    fn joined(&self) -> Answer<Found> {
        let (read, upto) = (self.look.read, self.look.upto);
        let eyes = Eyes::new(read, self.number, &self.look.viewer.user_id)?;
        let mut told = Told::default();
        let mut known = self.begin(&mut told);
        let timeline = self.timeline(&eyes, upto, &mut known, &mut told)?;
        let now = state::number_at(read, self.number, upto)?;
        let changes = match self.known {
            Some(before) => states::difference(read, state::number_at(read, self.number, before.position)?, now)?,
            None => BTreeMap::new(),
        };
        let events = self.required(&changes, &timeline, None, &mut known)?;
        self.show(&eyes, &timeline, &events, &changes, &mut told)?;
        self.face(&changes, &mut told)?;
        let counts =
            notifications::count(&self.look.node.unread, read, self.look.reader, self.number, self.room_id, upto)?;
        let unread = counts.values().fold((0, 0), |sum, count| (sum.0 + count.notify, sum.1 + count.highlight));
        if self.known.is_none() || unread != known.unread {
            (told.notification_count, told.highlight_count) = (Some(unread.0), Some(unread.1));
            known.unread = unread;
        }
        known.saw_inside = true;
        self.bump(self.last_bump(&eyes)?, &mut known, &mut told);
        Ok(self.found(told, known, &timeline))
    }

    /// An invite, or a room that the user knocks at.
    fn invited(&self) -> Answer<Found> {
        let mut told = Told::default();
        let mut known = self.begin(&mut told);
        if self.known.is_none_or(|known| known.position < self.part.position) {
            told.invite_state = Some(stripped_of(self.look.read, self.number, &self.part, &self.look.viewer.user_id)?);
        }
        known.saw_inside = false;
        self.bump(Some(self.part.position), &mut known, &mut told);
        Ok(self.found(told, known, &Timeline::default()))
    }

    /// A room that the user left, was kicked from or banned from: up to the end of the last stay, and the event that says how things
    /// stand now. Also an invite or a knock that came to nothing.
    fn left(&self) -> Answer<Found> {
        let (read, upto) = (self.look.read, self.look.upto);
        let eyes = Eyes::new(read, self.number, &self.look.viewer.user_id)?;
        let mut told = Told::default();
        let mut known = self.begin(&mut told);
        let is_news = self.known.is_none_or(|known| known.position < self.part.position);
        let mut timeline = Timeline::default();
        if let Some(end) = eyes.end_of_stay()?
            && (self.known.is_none() || is_news)
        {
            let end = end.row.position.min(upto);
            if self.known.is_none_or(|known| known.position < end) {
                timeline = self.timeline(&eyes, end, &mut known, &mut told)?;
                let now = state::number_at(read, self.number, end)?;
                let changes = match self.known {
                    Some(before) => {
                        states::difference(read, state::number_at(read, self.number, before.position)?, now)?
                    }
                    None => BTreeMap::new(),
                };
                let events = self.required(&changes, &timeline, Some(now), &mut known)?;
                self.show(&eyes, &timeline, &events, &changes, &mut told)?;
            }
        }
        if is_news {
            match read::event(read, self.part.event)? {
                Some(event) if timeline.events.iter().any(|told| told.number == event.number) => {}
                Some(event) => told.timeline.push(self.showing(&eyes).raw(&event)?),
                None => told.timeline.extend(outside_event(read, self.number, &self.part)?),
            }
        }
        known.saw_inside = false;
        self.bump(Some(self.part.position), &mut known, &mut told);
        Ok(self.found(told, known, &timeline))
    }

    /// What stays of what the client knew, and what is told in any case.
    fn begin(&self, told: &mut Told) -> Known {
        let mut known = match self.known {
            Some(known) => known.clone(),
            None => Known::new(self.wanted.clone()),
        };
        told.initial = self.known.is_none();
        known.position = self.look.upto;
        known.wanted = self.wanted.clone();
        let part = self.part.membership;
        if self.known.is_none_or(|before| before.membership != part) {
            told.membership = Some(membership::name(part));
        }
        known.membership = part;
        let is_dm = self.entry.is_dm;
        if self.known.map_or(is_dm, |before| before.is_dm != is_dm) {
            told.is_dm = Some(is_dm);
        }
        known.is_dm = is_dm;
        known
    }

    fn found(&self, told: Told, known: Known, timeline: &Timeline) -> Found {
        let is_news = told.initial
            || told.limited
            || !told.timeline.is_empty()
            || !told.required_state.is_empty()
            || told.invite_state.is_some()
            || told.membership.is_some()
            || told.is_dm.is_some()
            || told.name.is_some()
            || told.avatar.is_some()
            || told.heroes.is_some()
            || told.joined_count.is_some()
            || told.notification_count.is_some()
            || told.bump_stamp.is_some();
        let events = timeline.events.iter().map(|event| event.row.event_id.clone()).collect();
        Found { told: is_news.then_some(told), known, events }
    }

    /// The timeline: what is new, or as much as is wanted where the client has less (MSC4186, "Changes to `timeline_limit`").
    fn timeline(&self, eyes: &Eyes<'_>, upto: u64, known: &mut Known, told: &mut Told) -> Answer<Timeline> {
        let limit = self.wanted.timeline_limit;
        let grows = self
            .known
            .is_some_and(|known| limit > known.wanted.timeline_limit && limit > known.events && !known.from_the_start);
        let all = RoomEventFilter::default();
        let query = |since| timeline::Query {
            room: self.number,
            room_id: self.room_id.as_str(),
            wanted: &all,
            since,
            upto,
            limit,
        };
        let since = self.known.map_or(0, |known| known.position);
        let new = timeline::latest(self.look.read, eyes, &query(since))?;
        let (timeline, whole) = match (self.known, grows) {
            (Some(_), true) => {
                let whole = timeline::latest(self.look.read, eyes, &query(0))?;
                // Else the client has all that there is.
                if whole.events.len() > known.events + new.events.len() { (whole, true) } else { (new, false) }
            }
            (Some(_), false) => (new, false),
            (None, _) => (new, true),
        };
        if whole || timeline.limited {
            (known.events, known.from_the_start) = (timeline.events.len(), !timeline.limited);
        } else {
            known.events = known.events.saturating_add(timeline.events.len());
        }
        told.unstable_expanded_timeline = whole && self.known.is_some();
        let is_live = |event: &&StoredEvent| self.look.reached > 0 && event.row.position > self.look.reached;
        if told.initial || !timeline.events.is_empty() {
            told.num_live = Some(timeline.events.iter().filter(is_live).count());
        }
        Ok(timeline)
    }

    /// The events of the state that the client is told: what is required and changed, or was not required before, and those members
    /// whom the timeline makes it need. `past` is the number of the state to look in, if it is not the current one.
    fn required(
        &self,
        changes: &BTreeMap<(String, String), Option<u64>>,
        timeline: &Timeline,
        past: Option<u64>,
        known: &mut Known,
    ) -> Answer<Vec<StoredEvent>> {
        let read = self.look.read;
        let mut numbers: BTreeSet<u64> = BTreeSet::new();
        let before = self.known.map(|known| &known.wanted);
        for ((kind, key), number) in changes {
            if let Some(number) = number
                && self.wanted.requires(kind, key)
            {
                numbers.insert(*number);
            }
        }
        if before.is_none_or(|before| !before.same_state(self.wanted)) {
            let is_new = |kind: &str, key: &str| {
                self.wanted.requires(kind, key) && before.is_none_or(|before| !before.requires(kind, key))
            };
            for required in &self.wanted.required {
                self.all_required(required, past, &mut |kind, key, number| {
                    if is_new(kind, key) {
                        numbers.insert(number);
                    }
                })?;
            }
        }
        if self.wanted.is_lazy() {
            for number in self.needed_members(changes, timeline, past)? {
                if known.members.insert(number) {
                    numbers.insert(number);
                }
            }
            while known.members.len() > MOST_MEMBERS {
                known.members.pop_first();
            }
        }
        Ok(numbers
            .into_iter()
            .map(|number| read::event(read, number))
            .filter_map(Result::transpose)
            .collect::<Result<_, _>>()?)
    }

    /// Names all state of the room that may be required.
    fn all_required(
        &self,
        required: &Required,
        past: Option<u64>,
        name: &mut dyn FnMut(&str, &str, u64),
    ) -> Answer<()> {
        let read = self.look.read;
        if let Some(past) = past {
            for ((kind, key), number) in states::whole(read, past)? {
                name(&kind, &key, number);
            }
            return Ok(());
        }
        for lookup in required.lookups() {
            let rows = match lookup {
                Lookup::One(kind, key) => {
                    let row = CURRENT_STATE.get(read, &(self.number, kind.to_owned(), key.to_owned()))?;
                    if let Some(number) = row {
                        name(kind, key, number);
                    }
                    continue;
                }
                Lookup::Kind(kind) => CURRENT_STATE.prefix(read, &(self.number, kind.to_owned()))?,
                Lookup::All => CURRENT_STATE.prefix(read, &self.number)?,
            };
            for row in rows {
                let ((_, kind, key), number) = row?;
                name(&kind, &key, number);
            }
        }
        Ok(())
    }

    /// The member events without which the timeline cannot be shown, and, where nothing was left out of it, all that changed.
    fn needed_members(
        &self,
        changes: &BTreeMap<(String, String), Option<u64>>,
        timeline: &Timeline,
        past: Option<u64>,
    ) -> Answer<Vec<u64>> {
        let read = self.look.read;
        let mut users: BTreeSet<&str> = BTreeSet::new();
        for event in &timeline.events {
            users.insert(event.sender());
            if event.kind() == "m.room.member" {
                users.extend(event.state_key());
            }
        }
        let mut numbers = Vec::new();
        for user in users {
            let number = match past {
                Some(past) => states::lookup(read, past, "m.room.member", user)?,
                None => CURRENT_STATE.get(read, &(self.number, "m.room.member".to_owned(), user.to_owned()))?,
            };
            numbers.extend(number);
        }
        // The members of a room that was joined without them come all at once, and nobody waits for them here.
        let completed = read::room(read, self.number)?.map_or(0, |room| room.completed);
        let came = self.known.is_some_and(|known| known.position < completed && completed <= self.look.upto);
        if !timeline.limited && !came {
            let members = changes.iter().filter(|((kind, _), _)| kind == "m.room.member");
            numbers.extend(members.filter_map(|(_, number)| *number));
        }
        Ok(numbers)
    }

    fn showing<'b>(&'b self, eyes: &'b Eyes<'b>) -> Showing<'b> {
        Showing::new(self.look.read, eyes, self.look.viewer, Form { room_id: None, relations: true })
    }

    fn show(
        &self,
        eyes: &Eyes<'_>,
        timeline: &Timeline,
        events: &[StoredEvent],
        changes: &BTreeMap<(String, String), Option<u64>>,
        told: &mut Told,
    ) -> Answer<()> {
        let showing = self.showing(eyes);
        told.limited = timeline.limited;
        let before = match timeline.before {
            // Nothing new, but what the client has does not join on to it.
            None if timeline.limited => {
                Some(Place::untold(self.look.read, self.number, self.look.upto, &BTreeSet::new())?)
            }
            before => before,
        };
        told.prev_batch = before.map(|place| place.to_string());
        told.timeline = showing.raws(&timeline.events)?;
        told.required_state = events.iter().map(|event| showing.raw_state(event)).collect::<Result<_, _>>()?;
        for ((kind, key), event) in changes {
            // What is no state any more is told by a stub (MSC4186, "StateStub").
            if event.is_none() && self.wanted.requires(kind, key) {
                told.required_state.push(raw(&json!({ "type": kind, "state_key": key })));
            }
        }
        Ok(())
    }

    /// By what the room is shown in a list: name, avatar, members.
    fn face(&self, changes: &BTreeMap<(String, String), Option<u64>>, told: &mut Told) -> Answer<()> {
        let read = self.look.read;
        let changed = |kind: &str| self.known.is_none() || changes.contains_key(&(kind.to_owned(), String::new()));
        let text = |kind: &str, field: &str| -> Answer<Option<Value>> {
            let event = read::state_event(read, self.number, kind, "")?;
            let text = event.and_then(|event| event.content().get(field).cloned());
            Ok(text.filter(|text| text.as_str().is_some_and(|text| !text.is_empty())))
        };
        let members_changed = self.known.is_none() || changes.keys().any(|(kind, _)| kind == "m.room.member");
        let name_changed = changed("m.room.name");
        let name = if name_changed || members_changed { text("m.room.name", "name")? } else { None };
        // What there is not, and was not told, need not be told.
        let or_null = |value: Option<Value>| value.or_else(|| self.known.map(|_| Value::Null));
        if (name_changed || members_changed) && name.is_none() {
            told.heroes = Some(self.heroes()?);
        }
        if name_changed {
            told.name = or_null(name);
        }
        if changed("m.room.avatar") {
            told.avatar = or_null(text("m.room.avatar", "url")?);
        }
        if members_changed {
            told.joined_count = Some(read::joined_count(read, self.number)?);
            let invited = MEMBERS.prefix(read, &(self.number, membership::INVITE))?.count();
            told.invited_count = Some(u64::try_from(invited).unwrap_or_default());
        }
        Ok(())
    }

    fn heroes(&self) -> Answer<Vec<Hero>> {
        let read = self.look.read;
        let mut heroes = Vec::new();
        for user_id in read::heroes(read, self.number, &self.look.viewer.user_id)? {
            let member = read::state_event(read, self.number, "m.room.member", &user_id)?;
            let text = |field: &str| {
                let value = member.as_ref()?.content().get(field)?;
                value.is_string().then(|| value.clone())
            };
            heroes.push(Hero { displayname: text("displayname"), avatar_url: text("avatar_url"), user_id });
        }
        Ok(heroes)
    }

    /// The position of the latest event that the room is sorted by; none if there is none since the client looked last.
    fn last_bump(&self, eyes: &Eyes<'_>) -> Answer<Option<u64>> {
        let read = self.look.read;
        let since = self.known.map_or(0, |known| known.position);
        let rows = STREAM.range(read, (self.number, since.saturating_add(1))..=(self.number, self.look.upto))?;
        for row in rows.rev().take(MOST_LOOKED_THROUGH) {
            let ((_, position), number) = row?;
            let Some(event) = read::event(read, number)? else { continue };
            if (BUMPS.contains(&event.kind()) || UNSTABLE_BUMPS.contains(&event.kind())) && eyes.sees(&event)? {
                return Ok(Some(position));
            }
        }
        Ok(self.known.is_none().then_some(self.part.joined_at))
    }

    fn bump(&self, position: Option<u64>, known: &mut Known, told: &mut Told) {
        if let Some(position) = position
            && (self.known.is_none() || known.bump != position)
        {
            told.bump_stamp = Some(position);
            known.bump = position;
        }
    }
}
