//! How the state follows what the worker tells.

use std::collections::BTreeMap;

use super::{
    App, Focus, Signal, Writing,
    dialogs::{Dialog, Picture},
    editor::Editor,
};
use crate::{
    model::{Delivery, Room, Standing, Step},
    protocol::{Ask, Connection, News},
};

/// How often to look further back for a message that a search found.
const LOOKS_BACK: u8 = 40;

impl App {
    /// The worker tells something.
    pub fn news(&mut self, news: News) -> Vec<Ask> {
        match news {
            News::Me { user, device } => (self.me, self.device) = (user, device),
            News::Connection(connection) => self.connection = connection,
            News::Extension(there) => self.extension = there,
            News::Rooms(rooms) => return self.rooms_changed(rooms),
            News::Trust(trust) => {
                self.trust = trust;
                if trust_hint(self).is_some() && !self.reminded {
                    self.reminded = true;
                    let hint = trust_hint(self).unwrap_or_default();
                    self.say(hint);
                }
            }
            News::Timeline { room, changes } => {
                if let Some(open) = self.open.as_mut().filter(|open| open.room == room) {
                    let delivered = deliveries(&open.messages);
                    for change in changes {
                        change.apply(&mut open.messages);
                    }
                    restore(&mut open.messages, &delivered);
                    mark_read(&mut open.messages);
                    return self.settle();
                }
            }
            News::Earlier { room, beginning } => {
                if let Some(open) = self.open.as_mut().filter(|open| open.room == room) {
                    open.loading = false;
                    open.beginning |= beginning;
                    return self.settle();
                }
            }
            News::Delivery { room, event, waiting, away_since_ms } => {
                self.delivered(&room, &event, waiting, away_since_ms)
            }
            News::Typing { room, names } => {
                if let Some(open) = self.open.as_mut().filter(|open| open.room == room) {
                    open.typing = names;
                }
            }
            News::Draft { room, text } => {
                if let Some(open) = self.open.as_mut().filter(|open| open.room == room) {
                    if open.compose.is_empty() && open.writing == Writing::New {
                        open.compose = Editor::with(&text);
                    }
                } else {
                    self.drafts.entry(room).or_insert_with(|| Editor::with(&text));
                }
            }
            News::Show { room } => return self.show(&room),
            News::People(people) => {
                if let Some(Dialog::People { people: shown, chosen }) = &mut self.dialog {
                    *chosen = (*chosen).min(people.len().saturating_sub(1));
                    *shown = Some(people);
                }
            }
            News::Contact { link } => {
                if let Some(Dialog::Contact { link: shown }) = &mut self.dialog {
                    *shown = Some(link);
                }
            }
            News::Found { text, found } => {
                if let Some(Dialog::Search { searched, found: shown, chosen, busy, .. }) = &mut self.dialog
                    && *searched == text
                {
                    (*shown, *chosen, *busy) = (found, 0, false);
                }
            }
            News::Members { room, members, total } => {
                if let Some(Dialog::Members { members: shown, total: all, .. }) = &mut self.dialog
                    && self.open.as_ref().is_some_and(|open| open.room == room)
                {
                    (*shown, *all) = (Some(members), total);
                }
            }
            News::Picture { key, picture } => {
                if let Some(Dialog::Picture { key: wanted, picture: shown, .. }) = &mut self.dialog
                    && *wanted == key
                {
                    *shown = match picture {
                        Ok(picture) => Picture::Here(Box::new(picture)),
                        Err(why) => Picture::Failed(why),
                    };
                }
            }
            News::Text { title, lines } => self.dialog = Some(Dialog::Text { title, lines, scroll: 0 }),
            News::RecoveryKey { key } => self.dialog = Some(Dialog::RecoveryKey { key }),
            News::Verification(verification) => {
                // One's own "no" needs no further word.
                let over = matches!(verification.step, Step::Over(_));
                if !over || self.verification.as_ref().is_some_and(|shown| shown.flow == verification.flow) {
                    self.verification = Some(verification);
                }
            }
            News::Notify { room, room_name, name, text } => {
                let sees = self.sees_the_end() && self.open.as_ref().is_some_and(|open| open.room == room);
                if !sees {
                    let title = if room_name == name { name } else { format!("{name} · {room_name}") };
                    self.signals.push(Signal::Notify { title, text });
                }
            }
            News::Note(text) => self.say(text),
            News::Problem(text) => {
                // A dialog that waits for what will not come closes.
                if matches!(
                    self.dialog,
                    Some(
                        Dialog::People { people: None, .. }
                            | Dialog::Contact { link: None }
                            | Dialog::Members { members: None, .. }
                    )
                ) {
                    self.dialog = None;
                }
                if let Some(Dialog::Search { busy, .. }) = &mut self.dialog {
                    *busy = false;
                }
                self.complain(text);
            }
            News::Gone => (self.ended, self.gone) = (true, true),
        }
        Vec::new()
    }

    /// The terminal got or lost the eyes of its person.
    pub fn looked_at(&mut self, looked_at: bool) -> Vec<Ask> {
        self.looked_at = looked_at;
        self.seen_if_at_end()
    }

    fn rooms_changed(&mut self, mut rooms: Vec<Room>) -> Vec<Ask> {
        rooms.sort_by(|one, other| {
            let key = |room: &Room| (room.standing != Standing::Invited, std::cmp::Reverse(room.last_ms));
            key(one).cmp(&key(other)).then_with(|| one.name.cmp(&other.name)).then_with(|| one.id.cmp(&other.id))
        });
        self.rooms = rooms;
        if self.chosen.as_ref().is_none_or(|id| self.room(id).is_none()) {
            self.chosen = self.rooms.first().map(|room| room.id.clone());
        }
        if self.connection == Connection::Online
            && let Some(open) = &self.open
            && self.room(&open.room).is_none_or(|room| room.standing == Standing::Invited)
            && !open.messages.is_empty()
        {
            self.open = None;
            self.focus = Focus::Rooms;
        }
        self.seen_if_at_end()
    }

    /// After messages came: chooses the one that is wanted, or looks further back for it; marks what is seen.
    fn settle(&mut self) -> Vec<Ask> {
        let Some(open) = &mut self.open else { return Vec::new() };
        if let Some((event, tries)) = open.wanted.take() {
            let here = open.messages.iter().find(|message| message.event.as_deref() == Some(&event));
            if let Some(message) = here {
                open.chosen = Some(message.key.clone());
                self.focus = Focus::Timeline;
            } else if open.beginning || tries == 0 {
                self.complain("that message is not in reach any more");
            } else {
                let load = !open.loading;
                open.wanted = Some((event, if load { tries - 1 } else { tries }));
                return if load { self.earlier() } else { Vec::new() };
            }
        }
        if let Some(open) = &mut self.open
            && let Some(key) = &open.chosen
            && !open.messages.iter().any(|message| message.key == *key)
        {
            open.chosen = None;
        }
        self.seen_if_at_end()
    }

    /// Shows a message of the open conversation as soon as it is here.
    pub(super) fn want(&mut self, event: &str) -> Vec<Ask> {
        if let Some(open) = &mut self.open {
            open.wanted = Some((event.to_owned(), LOOKS_BACK));
        }
        self.settle()
    }

    fn delivered(&mut self, room: &str, event: &str, waiting: u64, away_since_ms: Option<u64>) {
        let Some(open) = self.open.as_mut().filter(|open| open.room == room) else { return };
        let at = open.messages.iter().rposition(|message| message.event.as_deref() == Some(event));
        if let Some(at) = at
            && !matches!(open.messages[at].delivery, Delivery::Read(_) | Delivery::None)
        {
            let mut message = open.messages[at].clone();
            message.delivery =
                if waiting == 0 { Delivery::Delivered } else { Delivery::Waiting(waiting, away_since_ms) };
            open.messages.set(at, message);
        }
    }
}

/// What the node told of own events, which the timeline itself does not know.
fn deliveries(messages: &eyeball_im::Vector<crate::model::Message>) -> BTreeMap<String, Delivery> {
    messages
        .iter()
        .filter(|message| matches!(message.delivery, Delivery::Waiting(..) | Delivery::Delivered))
        .filter_map(|message| Some((message.event.clone()?, message.delivery.clone())))
        .collect()
}

fn restore(messages: &mut eyeball_im::Vector<crate::model::Message>, known: &BTreeMap<String, Delivery>) {
    if known.is_empty() {
        return;
    }
    for message in messages.iter_mut() {
        if message.delivery == Delivery::Stored
            && let Some(delivery) = message.event.as_ref().and_then(|event| known.get(event))
        {
            message.delivery = delivery.clone();
        }
    }
}

/// Who has read a message has read those before it.
fn mark_read(messages: &mut eyeball_im::Vector<crate::model::Message>) {
    let mut readers = 0;
    for message in messages.iter_mut().rev() {
        readers += message.readers;
        if readers > 0
            && message.own
            && matches!(message.delivery, Delivery::Stored | Delivery::Waiting(..) | Delivery::Delivered)
        {
            message.delivery = Delivery::Read(readers);
        }
    }
}

/// What one might do about the encryption of this device.
pub fn trust_hint(app: &App) -> Option<&'static str> {
    if app.trust.unsaved_key {
        Some("write down your recovery key some time: /key")
    } else if !app.trust.verified && app.connection == Connection::Online {
        Some("this device is not verified: /verify (compare emoji with another) or /recover")
    } else {
        None
    }
}
