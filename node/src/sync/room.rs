//! One room in a sync, by the user's part in it.

use std::collections::BTreeSet;

use kith_store::{
    Read, Snapshot,
    tables::rooms::{MEMBERS, STREAM, UserRoomRow, membership},
};
use ruma::{
    EventId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, UInt,
    api::client::{
        filter::{EventFormat, FilterDefinition, LazyLoadOptions, RoomEventFilter, RoomFilter},
        sync::sync_events::UnreadNotificationsCount,
        sync::sync_events::v3::{
            InviteState, InvitedRoom, JoinedRoom, KnockState, KnockedRoom, LeftRoom, State, StateEvents,
        },
    },
    serde::Raw,
};
use serde_json::{Value, json};

use super::{
    notifications::{self, Count, Counts, Reader},
    state,
    timeline::{self, Timeline},
};
use crate::{
    Node,
    ephemeral::receipts,
    federation::pending,
    http::{Answer, MatrixError},
    rooms::{
        client_event::{Form, Showing, Viewer, stripped, stripped_state},
        filter,
        read::{self, StoredEvent},
        timeline::Place,
        visibility::{Eyes, membership_of},
    },
};

/// Events of a timeline when the filter does not say.
const TIMELINE_LIMIT: usize = 20;
/// The most a filter may ask for.
const MOST_IN_TIMELINE: u64 = 200;

/// A look at one room for one sync.
pub(super) struct Glance<'a> {
    pub(super) read: &'a Snapshot,
    pub(super) viewer: &'a Viewer,
    pub(super) filter: &'a FilterDefinition,
    pub(super) state_after: bool,
    pub(super) full_state: bool,
    /// Position up to which the client knows everything; none in a first sync.
    pub(super) since: Option<u64>,
    /// Position up to which it is told.
    pub(super) upto: u64,
    pub(super) room: u64,
    pub(super) room_id: &'a RoomId,
    pub(super) part: &'a UserRoomRow,
}

/// Whether the filter wants the room at all.
pub(super) fn wanted(filter: &RoomFilter, room_id: &OwnedRoomId) -> bool {
    !filter.not_rooms.contains(room_id) && filter.rooms.as_ref().is_none_or(|rooms| rooms.contains(room_id))
}

impl Glance<'_> {
    /// What the client knows of the room: nothing in a first sync, and nothing that lies before the user's own join.
    pub(super) fn known(&self) -> Option<u64> {
        self.since.filter(|since| self.part.joined_at <= *since)
    }

    /// A room the user is in, and who joined it since the client last heard of it.
    pub(super) fn joined(&self) -> Answer<(JoinedRoom, Vec<OwnedUserId>)> {
        let eyes = Eyes::new(self.read, self.room, &self.viewer.user_id)?;
        let timeline = self.timeline(&eyes, self.upto)?;
        let known = if self.full_state { None } else { self.known() };
        let state = self.state(known, self.upto, &timeline)?;
        let mut room = JoinedRoom::new();
        if state.summary_changed {
            self.summary(&mut room)?;
        }
        let newcomers = if self.known().is_some() { newcomers(self.read, &timeline.events)? } else { Vec::new() };
        let state = self.wanted_state(state, &timeline, &room.summary.heroes)?;
        self.show(&eyes, timeline, state, &mut room.timeline, &mut room.state)?;
        Ok((room, newcomers))
    }

    /// What passes in a room: who types, who has read what, and how much is unread.
    pub(super) fn passing(
        &self,
        node: &Node,
        reader: &Reader<'_>,
        room: &mut JoinedRoom,
        typing: Option<&Vec<OwnedUserId>>,
    ) -> Answer<()> {
        let wanted = &self.filter.room.ephemeral;
        let wants = |kind: &str| filter::wants_type(wanted, kind) && wants_room(wanted, self.room_id);
        let mut events = Vec::new();
        if let Some(users) = typing
            && wants("m.typing")
        {
            events.push(json!({"type": "m.typing", "content": {"user_ids": users}}));
        }
        let since = self.known().unwrap_or(0);
        let receipts = receipts::contents(self.read, self.room, &self.viewer.user_id, since, self.upto)?;
        if wants("m.receipt") {
            events.extend(receipts.events.iter().map(|content| json!({"type": "m.receipt", "content": content})));
        }
        room.ephemeral.events = events.iter().map(raw).collect::<Answer<_>>()?;
        let mut news = STREAM.range(self.read, (self.room, since.saturating_add(1))..=(self.room, self.upto))?;
        if self.known().is_some() && !self.full_state && !receipts.own && news.next().is_none() {
            // Nothing happened here that could change how much is unread.
            return Ok(());
        }
        let counts = notifications::count(&node.unread, self.read, reader, self.room, self.room_id, self.upto)?;
        self.unread(room, &counts);
        Ok(())
    }

    fn unread(&self, room: &mut JoinedRoom, counts: &Counts) {
        let as_told = |count: Count| {
            let mut told = UnreadNotificationsCount::new();
            told.notification_count = Some(UInt::new_saturating(count.notify));
            told.highlight_count = Some(UInt::new_saturating(count.highlight));
            told
        };
        let by_thread = self.filter.room.timeline.unread_thread_notifications;
        let mut whole = Count::default();
        for (thread, count) in counts {
            match thread.as_ref().filter(|_| by_thread) {
                Some(root) => {
                    if let Ok(root) = EventId::parse(root) {
                        room.unread_thread_notifications.insert(root, as_told(*count));
                    }
                }
                None => {
                    whole.notify += count.notify;
                    whole.highlight += count.highlight;
                }
            }
        }
        room.unread_notifications = as_told(whole);
    }

    /// A room the user left, was kicked from or banned from: up to the end of the last stay, and the event that says how
    /// things stand now. Nothing of what happened in the room in between.
    pub(super) fn left(&self) -> Answer<LeftRoom> {
        let mut room = LeftRoom::new();
        let eyes = Eyes::new(self.read, self.room, &self.viewer.user_id)?;
        let mut told = BTreeSet::new();
        let end = eyes.end_of_stay()?.map_or(0, |end| end.row.position.min(self.upto));
        if end > self.since.unwrap_or(0) {
            let timeline = self.timeline(&eyes, end)?;
            told.extend(timeline.events.iter().map(|event| event.number));
            let known = if self.full_state { None } else { self.known() };
            let state = self.state(known, end, &timeline)?;
            let state = self.wanted_state(state, &timeline, &[])?;
            self.show(&eyes, timeline, state, &mut room.timeline, &mut room.state)?;
        }
        let wanted = &self.filter.room.timeline;
        match read::event(self.read, self.part.event)? {
            Some(event) if told.contains(&event.number) || self.limit() == 0 => {}
            Some(event) if filter::passes(wanted, self.room_id.as_str(), &event) => {
                // It does not follow on what the client was told before.
                if told.is_empty() {
                    room.timeline.limited = true;
                    room.timeline.prev_batch = Some(Place::before(&event).to_string());
                }
                room.timeline.events.push(self.showing(&eyes).raw(&event)?);
            }
            // An invite or knock that ended in a room that is not here.
            None if self.limit() > 0 && filter::wants_type(wanted, "m.room.member") => {
                room.timeline.events.extend(outside_event(self.read, self.room, self.part)?);
            }
            _ => {}
        }
        Ok(room)
    }

    /// A room the user is invited to.
    pub(super) fn invited(&self) -> Answer<InvitedRoom> {
        let mut state = InviteState::new();
        state.events = self.stripped()?.iter().map(raw).collect::<Answer<_>>()?;
        let mut room = InvitedRoom::new();
        room.invite_state = state;
        Ok(room)
    }

    /// A room the user knocks at.
    pub(super) fn knocked(&self) -> Answer<KnockedRoom> {
        let mut state = KnockState::new();
        state.events = self.stripped()?.iter().map(raw).collect::<Answer<_>>()?;
        Ok(state.into())
    }

    fn stripped(&self) -> Answer<Vec<Value>> {
        stripped_of(self.read, self.room, self.part, &self.viewer.user_id)
    }

    /// How many events the timeline has at most.
    fn limit(&self) -> usize {
        self.filter.room.timeline.limit.map_or(TIMELINE_LIMIT, |limit| {
            usize::try_from(u64::from(limit).min(MOST_IN_TIMELINE)).unwrap_or(TIMELINE_LIMIT)
        })
    }

    fn timeline(&self, eyes: &Eyes<'_>, upto: u64) -> Answer<Timeline> {
        let query = timeline::Query {
            room: self.room,
            room_id: self.room_id.as_str(),
            wanted: &self.filter.room.timeline,
            // A fresh join brings recent history with it, as far as it may be seen.
            since: self.known().unwrap_or(0),
            upto,
            limit: self.limit(),
        };
        let mut timeline = timeline::latest(self.read, eyes, &query)?;
        // What the client may have from an earlier stay does not join on to it.
        timeline.limited |= self.since.is_some() && self.known().is_none();
        Ok(timeline)
    }

    fn state(&self, known: Option<u64>, upto: u64, timeline: &Timeline) -> Answer<Changed> {
        let now = state::number_at(self.read, self.room, upto)?;
        let before = match known {
            Some(position) => state::number_at(self.read, self.room, position)?,
            None => 0,
        };
        let events = state::needed(self.read, before, now, timeline, self.state_after)?;
        let summary_changed =
            known.is_none() || events.iter().any(is_of_summary) || timeline.events.iter().any(is_of_summary);
        let completed = read::room(self.read, self.room)?.map_or(0, |room| room.completed);
        let members_came = known.is_some_and(|known| known < completed && completed <= upto);
        Ok(Changed { events, now, whole: known.is_none(), members_came, summary_changed })
    }

    /// What the filter wants of it. `heroes` are those whom the summary names.
    fn wanted_state(&self, changed: Changed, timeline: &Timeline, heroes: &[OwnedUserId]) -> Answer<Vec<StoredEvent>> {
        let wanted = &self.filter.room.state;
        let mut events = match wanted.lazy_load_options {
            LazyLoadOptions::Enabled { .. } => self.lazy(changed, timeline, heroes)?,
            LazyLoadOptions::Disabled => changed.events,
        };
        events.retain(|event| filter::passes(wanted, self.room_id.as_str(), event));
        Ok(events)
    }

    /// Leaves of the members, where all would be told, only those who speak in the timeline, those whom the summary
    /// names, and the user itself. Who speaks and is not new is told anyway: the client may not know it.
    fn lazy(&self, changed: Changed, timeline: &Timeline, heroes: &[OwnedUserId]) -> Answer<Vec<StoredEvent>> {
        let mut events = changed.events;
        let mut needed: BTreeSet<&str> = timeline.events.iter().map(StoredEvent::sender).collect();
        needed.extend(heroes.iter().map(|user| user.as_str()));
        if changed.whole || changed.members_came {
            needed.insert(&self.viewer.user_id);
            events.retain(|event| !is_member(event) || event.state_key().is_some_and(|user| needed.contains(user)));
        }
        let told: BTreeSet<String> = events
            .iter()
            .filter(|event| is_member(event))
            .filter_map(|event| event.state_key().map(str::to_owned))
            .collect();
        // As they were when the timeline begins; what it changes about them it tells itself.
        let at = match timeline.events.first() {
            Some(first) if !self.state_after => first.row.state_before,
            _ => changed.now,
        };
        for user in needed {
            if !told.contains(user)
                && let Some(member) = read::state_event_at(self.read, at, "m.room.member", user)?
            {
                events.push(member);
            }
        }
        Ok(events)
    }

    fn showing<'b>(&'b self, eyes: &'b Eyes<'b>) -> Showing<'b> {
        let pdus = self.filter.event_format == EventFormat::Federation;
        Showing::new(self.read, eyes, self.viewer, Form { room_id: None, relations: true }).as_pdus(pdus)
    }

    fn show(
        &self,
        eyes: &Eyes<'_>,
        timeline: Timeline,
        state: Vec<StoredEvent>,
        shown: &mut ruma::api::client::sync::sync_events::v3::Timeline,
        shown_state: &mut State,
    ) -> Answer<()> {
        let showing = self.showing(eyes);
        shown.limited = timeline.limited;
        let before = match timeline.before {
            // Nothing new, but what the client has does not join on to it.
            None if timeline.limited => Some(Place::untold(self.read, self.room, self.upto, &BTreeSet::new())?),
            before => before,
        };
        shown.prev_batch = before.map(|place| place.to_string());
        shown.events = showing.raws(&timeline.events)?;
        let mut events = StateEvents::new();
        events.events = state.iter().map(|event| showing.raw_state(event)).collect::<Result<_, _>>()?;
        *shown_state = if self.state_after { State::After(events) } else { State::Before(events) };
        Ok(())
    }

    fn summary(&self, room: &mut JoinedRoom) -> Answer<()> {
        room.summary.joined_member_count = UInt::try_from(read::joined_count(self.read, self.room)?).ok();
        let invited = MEMBERS.prefix(self.read, &(self.room, membership::INVITE))?.count();
        room.summary.invited_member_count = UInt::try_from(invited).ok();
        if read::has_name(self.read, self.room)? {
            return Ok(());
        }
        let heroes = read::heroes(self.read, self.room, &self.viewer.user_id)?;
        room.summary.heroes = heroes.into_iter().filter_map(|user| OwnedUserId::try_from(user).ok()).collect();
        Ok(())
    }
}

/// The state by which a user who is invited or knocks is told which room it is, the own member event among it.
pub(super) fn stripped_of(read: &dyn Read, room: u64, part: &UserRoomRow, user: &str) -> Answer<Vec<Value>> {
    let mut events = part.stripped.clone();
    if events.is_empty() {
        events = stripped_state(read, room)?;
    }
    let own = |event: &Value| event["type"] == "m.room.member" && event["state_key"] == user;
    if !events.iter().any(own) {
        // Of a room that this node is not in, the member event is kept with the user's part.
        let member = match read::event(read, part.event)? {
            Some(member) => Some(stripped(&member)),
            None => part.pdu.as_ref().and_then(pending::strip),
        };
        events.extend(member);
    }
    Ok(events)
}

/// The member event that came from outside of the room, as clients see events.
pub(super) fn outside_event<T>(read: &dyn Read, room: u64, part: &UserRoomRow) -> Answer<Option<Raw<T>>> {
    let Some(pdu) = &part.pdu else { return Ok(None) };
    let Some(row) = read::room(read, room)? else { return Ok(None) };
    let Ok(version) = RoomVersionId::try_from(row.version.as_str()) else { return Ok(None) };
    let Ok(id) = kith_room::receive::event_id_of(&pdu.to_string(), &version) else { return Ok(None) };
    let mut event = json!({"event_id": id});
    for field in ["type", "sender", "state_key", "origin_server_ts", "content"] {
        event[field] = pdu[field].clone();
    }
    raw(&event).map(Some)
}

/// The state a client has to be told, before its filter.
struct Changed {
    events: Vec<StoredEvent>,
    /// The number of the state at the end.
    now: u64,
    /// Whether it is the whole state.
    whole: bool,
    /// Whether the members of a room that was joined without them are among it.
    members_came: bool,
    /// Whether something is told, here or in the timeline, that the room's summary is made of.
    summary_changed: bool,
}

fn is_member(event: &StoredEvent) -> bool {
    event.kind() == "m.room.member"
}

/// Who is there, and whether the room has a name: without one it is named by its members.
fn is_of_summary(event: &StoredEvent) -> bool {
    is_member(event)
        || (matches!(event.kind(), "m.room.name" | "m.room.canonical_alias") && event.state_key() == Some(""))
}

/// Who joined in these events.
fn newcomers(read: &dyn Read, events: &[StoredEvent]) -> Answer<Vec<OwnedUserId>> {
    let mut users = Vec::new();
    for event in events.iter().filter(|event| is_member(event) && membership_of(event) == Some(membership::JOIN)) {
        let Some(user) = event.state_key() else { continue };
        let before = read::state_event_at(read, event.row.state_before, "m.room.member", user)?;
        if before.as_ref().and_then(membership_of) != Some(membership::JOIN) {
            users.extend(OwnedUserId::try_from(user).ok());
        }
    }
    Ok(users)
}

/// Whether a filter wants events of a room.
fn wants_room(filter: &RoomEventFilter, room: &RoomId) -> bool {
    !filter.not_rooms.iter().any(|other| other == room)
        && filter.rooms.as_ref().is_none_or(|rooms| rooms.iter().any(|other| other == room))
}

fn raw<T>(value: &Value) -> Answer<Raw<T>> {
    Ok(Raw::new(value).map_err(MatrixError::internal)?.cast_unchecked())
}
