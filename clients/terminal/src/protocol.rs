//! What the screen and the worker say to each other.

use eyeball_im::VectorDiff;
use image::DynamicImage;

use crate::model::{Found, Member, Message, Person, Room, Trust, Verification};

/// What the screen wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Show a conversation from now on.
    Open {
        room: String,
    },
    /// Load what was said before.
    Earlier,
    Send {
        text: String,
        reply: Option<String>,
        emote: bool,
    },
    Edit {
        key: String,
        text: String,
    },
    React {
        key: String,
        reaction: String,
    },
    Delete {
        key: String,
    },
    /// Try again what could not be sent.
    Retry {
        key: String,
    },
    SendFile {
        path: String,
    },
    /// Save a message's file.
    Save {
        key: String,
    },
    /// Fetch a message's picture.
    Picture {
        key: String,
    },
    /// The conversation is seen to its end.
    Seen,
    Typing(bool),
    Draft {
        room: String,
        text: String,
    },
    Accept {
        room: String,
    },
    Leave {
        room: String,
    },
    Join {
        room: String,
    },
    Chat {
        user: String,
    },
    Create {
        name: String,
    },
    Invite {
        user: String,
    },
    Kick {
        user: String,
    },
    Name {
        name: String,
    },
    Topic {
        topic: String,
    },
    Encrypt,
    Members,
    People,
    Near(bool),
    Contact,
    Add {
        link: String,
    },
    Search {
        text: String,
    },
    Devices,
    Node,
    Verify {
        user: Option<String>,
    },
    /// A step in the verification under way.
    AcceptVerification,
    ConfirmVerification,
    DenyVerification,
    CancelVerification,
    /// The name that others see; an empty one takes it away.
    MyName {
        name: String,
    },
    /// One's own picture, out of a photo; none takes it away.
    MyPicture {
        path: Option<String>,
    },
    Key,
    /// The recovery key is written down: it need not be kept here.
    KeySaved,
    Recover {
        key: String,
    },
    SignOut,
}

/// Whether the server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    Starting,
    Online,
    Offline(String),
    /// The server does not know this session any more.
    SignedOut,
}

/// What the worker tells.
#[derive(Clone, Debug)]
pub enum News {
    Me {
        user: String,
        device: String,
    },
    Connection(Connection),
    Extension(bool),
    Rooms(Vec<Room>),
    Trust(Trust),
    /// The messages of the open conversation changed.
    Timeline {
        room: String,
        changes: Vec<VectorDiff<Message>>,
    },
    /// Loading what was before has ended; whether nothing is before that.
    Earlier {
        room: String,
        beginning: bool,
    },
    /// How far an own event has come (see the node's extension).
    Delivery {
        room: String,
        event: String,
        waiting: u64,
        away_since_ms: Option<u64>,
    },
    Typing {
        room: String,
        names: Vec<String>,
    },
    Draft {
        room: String,
        text: String,
    },
    /// A room was made or joined: show it.
    Show {
        room: String,
    },
    People(Vec<Person>),
    Contact {
        link: String,
    },
    Found {
        text: String,
        found: Vec<Found>,
    },
    Members {
        room: String,
        members: Vec<Member>,
        total: u64,
    },
    Picture {
        key: String,
        picture: Result<DynamicImage, String>,
    },
    /// Lines to read.
    Text {
        title: String,
        lines: Vec<String>,
    },
    RecoveryKey {
        key: Option<String>,
    },
    Verification(Verification),
    /// Something worth a notification.
    Notify {
        room: String,
        room_name: String,
        name: String,
        text: String,
    },
    /// Something was done.
    Note(String),
    /// Something went wrong.
    Problem(String),
    /// Signed out: the end.
    Gone,
}
