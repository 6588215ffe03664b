//! What the screen knows of the Matrix world: plain values, made by the worker. Every text in them that is meant to be shown is
//! safe to show already (see [`crate::text`]), except where a field says otherwise.

use serde::Serialize;

/// How this account stands in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    Joined,
    Invited,
}

/// A line of the list of rooms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Room {
    #[serde(rename = "room_id")]
    pub id: String,
    pub name: String,
    pub topic: String,
    pub standing: Standing,
    /// A conversation of two, and with whom.
    pub direct: Option<String>,
    pub encrypted: bool,
    pub members: u64,
    pub unread: u64,
    pub mentions: u64,
    /// When something was last said (milliseconds since 1970), 0 when that is not known.
    pub last_ms: u64,
    /// Who invited us.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inviter: Option<String>,
    /// The room that replaced this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<String>,
}

/// What kind of file a message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    Photo,
    Video,
    Audio,
    File,
}

/// A file in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub kind: FileKind,
    pub name: String,
    pub bytes: Option<u64>,
    pub caption: Option<String>,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Text(String),
    /// `/me` does something.
    Emote(String),
    Notice(String),
    File(File),
    Deleted,
    /// Why it cannot be read.
    Undecryptable(String),
    /// Somebody came, went, or changed the room.
    Change(String),
    /// Something that this program does not show: what it is.
    Placeholder(String),
    /// A new day begins.
    Day,
    /// What follows is new.
    NewFromHere,
    /// Nothing is before.
    Beginning,
}

/// How far an own message has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Somebody else's, or nothing to tell.
    None,
    Sending,
    Failed(String),
    /// The server has it.
    Stored,
    /// So many servers have not got it yet; since when the first of these is away (milliseconds since 1970).
    Waiting(u64, Option<u64>),
    /// Every server in the room has it.
    Delivered,
    /// So many others have read this or something later.
    Read(u64),
}

/// A line of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Stays the same while it is on the screen.
    pub key: String,
    /// Its event, once the server knows it.
    pub event: Option<String>,
    pub sender: String,
    pub name: String,
    pub own: bool,
    pub at_ms: u64,
    pub body: Body,
    /// As it was written, unsafe to show: for editing and for scripts.
    pub source: String,
    /// Whom it answers, and what they had said.
    pub reply: Option<(String, String)>,
    /// Key, how many, and whether oneself is among them.
    pub reactions: Vec<(String, usize, bool)>,
    pub edited: bool,
    pub in_thread: bool,
    pub delivery: Delivery,
    /// Others who have read until here.
    pub readers: u64,
    pub editable: bool,
    pub encrypted: bool,
    /// What is doubtful about who sent it.
    pub warning: Option<Warning>,
}

/// What is doubtful about who sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warning {
    pub words: &'static str,
    /// It must be seen at once. What many devices have in common is told by a sign, and in words when asked for.
    pub grave: bool,
}

impl Message {
    /// Whether it can be chosen, answered, reacted to.
    pub fn is_said(&self) -> bool {
        matches!(
            self.body,
            Body::Text(_)
                | Body::Emote(_)
                | Body::Notice(_)
                | Body::File(_)
                | Body::Undecryptable(_)
                | Body::Placeholder(_)
        ) && !self.sender.is_empty()
    }

    /// Its words in one line.
    pub fn summary(&self) -> String {
        match &self.body {
            Body::Text(text) | Body::Notice(text) => crate::text::line(text),
            Body::Emote(text) => format!("* {} {}", self.name, crate::text::line(text)),
            Body::File(file) => format!("{} {}", file.kind.sign(), file.name),
            Body::Deleted => "[deleted]".to_owned(),
            Body::Undecryptable(_) => "[cannot be read yet]".to_owned(),
            Body::Change(text) | Body::Placeholder(text) => text.clone(),
            Body::Day | Body::NewFromHere | Body::Beginning => String::new(),
        }
    }
}

impl FileKind {
    /// A word that stands for it.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Photo => "[photo]",
            Self::Video => "[video]",
            Self::Audio => "[audio]",
            Self::File => "[file]",
        }
    }
}

/// Somebody near or known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Empty for a device near whose owner does not introduce themselves.
    pub user: String,
    pub name: String,
    pub server: String,
    pub near: bool,
    pub connected: bool,
}

/// Something that a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Room { id: String, name: String },
    Person { user: String, name: String },
    Message { room: String, room_name: String, event: String, name: String, at_ms: u64, text: String },
}

/// A member of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub user: String,
    pub name: String,
    pub role: &'static str,
    pub invited: bool,
}

/// Where a verification stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Somebody asks us.
    Asked,
    /// We asked and wait, or something is under way.
    Waiting(&'static str),
    /// Compare these: sign and name.
    Compare(Vec<(String, String)>),
    Done,
    Over(String),
}

/// A verification under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    pub flow: String,
    pub who: String,
    /// Another device of one's own.
    pub own: bool,
    pub step: Step,
}

/// How this device is set up for encryption.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Verified by another device of one's own, or the first one.
    pub verified: bool,
    /// Keys are kept on the server, encrypted.
    pub backup: bool,
    /// There is a recovery key on this device that nobody has written down yet.
    pub unsaved_key: bool,
}
