//! The state of the screen and how it changes: by keys ([`keys`]) and by news of the worker ([`news`]). Pure: no terminal, no
//! network, no clock. What is to be done outside comes back as a list of [`Ask`]s.

pub mod commands;
pub mod dialogs;
pub mod editor;
mod keys;
pub mod news;
pub mod run;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use eyeball_im::Vector;

use crate::{
    model::{Message, Room, Standing, Trust, Verification},
    protocol::{Ask, Connection},
};
use dialogs::Dialog;
use editor::Editor;

/// Which part of the screen takes the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Focus {
    Rooms,
    Timeline,
    Compose,
}

/// What the composer's text will become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writing {
    New,
    Reply { event: String, name: String, words: String },
    Edit { key: String },
}

/// The conversation on the screen.
#[derive(Debug)]
pub struct Conversation {
    pub room: String,
    pub messages: Vector<Message>,
    /// The chosen message, by its key. None follows the latest.
    pub chosen: Option<String>,
    pub compose: Editor,
    pub writing: Writing,
    pub typing: Vec<String>,
    /// Earlier messages are on their way.
    pub loading: bool,
    /// Nothing is before what is here.
    pub beginning: bool,
    /// A message to choose as soon as it is here (a search found it), and how often to look further back for it.
    pub wanted: Option<(String, u8)>,
    said_typing: bool,
}

/// A line at the bottom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub text: String,
    pub bad: bool,
    ticks: u8,
}

/// What the terminal is to be told beside the picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    Notify { title: String, text: String },
    Copy(String),
}

/// Everything on the screen.
pub struct App {
    pub me: String,
    pub device: String,
    pub rooms: Vec<Room>,
    /// The chosen room, by its id.
    pub chosen: Option<String>,
    pub filter: Option<Editor>,
    pub focus: Focus,
    pub open: Option<Conversation>,
    pub dialog: Option<Dialog>,
    /// The line that a `:` begins.
    pub command: Option<Editor>,
    pub note: Option<Note>,
    pub connection: Connection,
    pub trust: Trust,
    /// A verification under way, shown over everything else.
    pub verification: Option<Verification>,
    /// Whether the server tells of people near and of delivery.
    pub extension: bool,
    pub drafts: BTreeMap<String, Editor>,
    /// Whether the person looks at this terminal, as far as it tells.
    pub looked_at: bool,
    /// Set when the program is to end.
    pub ended: bool,
    /// Signed out: what is on this device is to go.
    pub gone: bool,
    pub signals: Vec<Signal>,
    /// Rows of the conversation, for moving by pages.
    pub page: usize,
    reminded: bool,
}

impl App {
    pub fn new() -> Self {
        Self {
            me: String::new(),
            device: String::new(),
            rooms: Vec::new(),
            chosen: None,
            filter: None,
            focus: Focus::Rooms,
            open: None,
            dialog: None,
            command: None,
            note: None,
            connection: Connection::Starting,
            trust: Trust::default(),
            verification: None,
            extension: false,
            drafts: BTreeMap::new(),
            looked_at: true,
            ended: false,
            gone: false,
            signals: Vec::new(),
            page: 10,
            reminded: false,
        }
    }

    /// The rooms that the filter lets through.
    pub fn visible_rooms(&self) -> Vec<&Room> {
        let wanted = self.filter.as_ref().map(|filter| filter.text().to_lowercase()).unwrap_or_default();
        let fits = |room: &&Room| wanted.is_empty() || room.name.to_lowercase().contains(&wanted);
        self.rooms.iter().filter(fits).collect()
    }

    /// A room by its id.
    pub fn room(&self, id: &str) -> Option<&Room> {
        self.rooms.iter().find(|room| room.id == id)
    }

    /// The room of the open conversation.
    pub fn open_room(&self) -> Option<&Room> {
        self.open.as_ref().and_then(|open| self.room(&open.room))
    }

    /// The message that keys act on: the chosen one, else the latest.
    pub fn message(&self) -> Option<&Message> {
        let open = self.open.as_ref()?;
        match &open.chosen {
            Some(key) => open.messages.iter().find(|message| message.key == *key),
            None => open.messages.iter().rev().find(|message| message.is_said()),
        }
    }

    /// Says something at the bottom for a while.
    pub fn say(&mut self, text: impl Into<String>) {
        self.note = Some(Note { text: text.into(), bad: false, ticks: 8 });
    }

    /// Says what went wrong.
    pub fn complain(&mut self, text: impl Into<String>) {
        self.note = Some(Note { text: text.into(), bad: true, ticks: 20 });
    }

    /// A second has passed. Whether anything looks different now.
    pub fn tick(&mut self) -> bool {
        let Some(note) = &mut self.note else { return false };
        note.ticks = note.ticks.saturating_sub(1);
        if note.ticks > 0 {
            return false;
        }
        self.note = None;
        true
    }

    /// Shows a conversation.
    pub fn show(&mut self, room: &str) -> Vec<Ask> {
        let mut asks = self.put_draft_away();
        self.chosen = Some(room.to_owned());
        if self.open.as_ref().is_some_and(|open| open.room == room) {
            self.focus = Focus::Compose;
            return asks;
        }
        self.open = Some(Conversation {
            room: room.to_owned(),
            messages: Vector::new(),
            chosen: None,
            compose: self.drafts.remove(room).unwrap_or_default(),
            writing: Writing::New,
            typing: Vec::new(),
            loading: true,
            beginning: false,
            wanted: None,
            said_typing: false,
        });
        self.focus = Focus::Compose;
        asks.push(Ask::Open { room: room.to_owned() });
        asks
    }

    /// Opens what is chosen in the list: a conversation, or the question whether to accept an invitation.
    fn open_chosen(&mut self) -> Vec<Ask> {
        let Some(id) = self.chosen.clone() else { return Vec::new() };
        match self.room(&id) {
            Some(room) if room.standing == Standing::Invited => {
                self.dialog = Some(Dialog::invitation(room));
                Vec::new()
            }
            Some(_) => self.show(&id),
            None => Vec::new(),
        }
    }

    /// Keeps what is half written.
    fn put_draft_away(&mut self) -> Vec<Ask> {
        let Some(open) = &mut self.open else { return Vec::new() };
        let draft = if matches!(open.writing, Writing::Edit { .. }) { Editor::default() } else { open.compose.clone() };
        let ask = Ask::Draft { room: open.room.clone(), text: draft.text().to_owned() };
        if draft.is_empty() {
            self.drafts.remove(&open.room);
        } else {
            self.drafts.insert(open.room.clone(), draft);
        }
        vec![ask]
    }

    /// Ends the program.
    pub fn quit(&mut self) -> Vec<Ask> {
        self.ended = true;
        self.put_draft_away()
    }

    /// Whether the open conversation is seen to its end.
    fn sees_the_end(&self) -> bool {
        self.looked_at && self.open.as_ref().is_some_and(|open| open.chosen.is_none())
    }

    /// Moves the choice in the list of rooms.
    fn move_room(&mut self, by: isize) {
        let rooms = self.visible_rooms();
        if rooms.is_empty() {
            self.chosen = None;
            return;
        }
        let at = self.chosen.as_ref().and_then(|id| rooms.iter().position(|room| room.id == *id));
        let to = at.map_or(0, |at| at.saturating_add_signed(by).min(rooms.len() - 1));
        self.chosen = Some(rooms[to].id.clone());
    }

    /// Moves the choice in the conversation; past the latest it follows again. At the top, earlier ones are asked for.
    fn move_message(&mut self, by: isize) -> Vec<Ask> {
        let Some(open) = &mut self.open else { return Vec::new() };
        let said: Vec<usize> =
            open.messages.iter().enumerate().filter(|(_, message)| message.is_said()).map(|(at, _)| at).collect();
        let at = match &open.chosen {
            Some(key) => said.iter().position(|at| open.messages[*at].key == *key).unwrap_or(said.len()),
            None => said.len(),
        };
        let to = at.saturating_add_signed(by);
        let at_top = at.saturating_add_signed(by - 3) == 0 && by < 0;
        open.chosen = said.get(to).map(|at| open.messages[*at].key.clone());
        if at_top { self.earlier() } else { self.seen_if_at_end() }
    }

    fn earlier(&mut self) -> Vec<Ask> {
        match &mut self.open {
            Some(open) if !open.loading && !open.beginning => {
                open.loading = true;
                vec![Ask::Earlier]
            }
            _ => Vec::new(),
        }
    }

    fn seen_if_at_end(&self) -> Vec<Ask> {
        if self.sees_the_end() && self.open_room().is_some_and(|room| room.unread > 0) {
            vec![Ask::Seen]
        } else {
            Vec::new()
        }
    }
}
