//! What opens over the conversation and waits for an answer. Escape closes each of them.

use crate::{
    app::editor::Editor,
    model::{Found, Member, Person, Room},
};
use image::DynamicImage;

/// Reactions that are one key away.
pub const REACTIONS: [&str; 9] = ["👍", "❤️", "😂", "🎉", "😮", "😢", "🙏", "👀", "👎"];

/// What the answer to a question is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Chat,
    Add,
    Create,
    SendFile,
    Reaction,
    Recover,
    Invite,
}

/// What is about to be done, unless somebody thinks better of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    Delete { key: String },
    Leave { room: String },
    Accept { room: String },
    Encrypt,
    SignOut,
}

/// A picture on its way.
#[derive(Clone, Debug)]
pub enum Picture {
    Loading,
    Here(Box<DynamicImage>),
    Failed(String),
}

/// Something over the conversation.
#[derive(Clone, Debug)]
pub enum Dialog {
    Help {
        scroll: usize,
    },
    Text {
        title: String,
        lines: Vec<String>,
        scroll: usize,
    },
    Question {
        title: String,
        hint: String,
        purpose: Purpose,
        answer: Editor,
        secret: bool,
    },
    /// `no` is what the other key does, when it does more than closing.
    Confirm {
        title: String,
        text: String,
        yes: Deed,
        no: Option<Deed>,
    },
    React {
        key: String,
        chosen: usize,
    },
    People {
        people: Option<Vec<Person>>,
        chosen: usize,
    },
    Contact {
        link: Option<String>,
    },
    Search {
        wanted: Editor,
        searched: String,
        found: Vec<Found>,
        chosen: usize,
        busy: bool,
    },
    Members {
        members: Option<Vec<Member>>,
        total: u64,
        scroll: usize,
    },
    Picture {
        key: String,
        name: String,
        picture: Picture,
    },
    RecoveryKey {
        key: Option<String>,
    },
}

impl Dialog {
    /// The question whether to accept an invitation.
    pub fn invitation(room: &Room) -> Self {
        let from = room.inviter.as_deref().unwrap_or("somebody");
        Self::Confirm {
            title: "Invitation".to_owned(),
            text: format!("{from} invites you to “{}”. Accept?  y accept · n decline · Esc later", room.name),
            yes: Deed::Accept { room: room.id.clone() },
            no: Some(Deed::Leave { room: room.id.clone() }),
        }
    }

    /// A question with a line for the answer.
    pub fn question(purpose: Purpose) -> Self {
        let (title, hint) = match purpose {
            Purpose::Chat => ("Write to somebody", "their user id, such as @alice:example.org"),
            Purpose::Add => ("Add somebody", "their link: matrix:u/… or https://matrix.to/…"),
            Purpose::Create => ("New group", "its name"),
            Purpose::SendFile => ("Send a photo or file", "its path"),
            Purpose::Reaction => ("Reaction", "an emoji or a short word"),
            Purpose::Recover => ("Restore", "your recovery key or passphrase"),
            Purpose::Invite => ("Invite", "their user id, such as @alice:example.org"),
        };
        Self::Question {
            title: title.to_owned(),
            hint: hint.to_owned(),
            purpose,
            answer: Editor::default(),
            secret: purpose == Purpose::Recover,
        }
    }

    /// A search that begins with some words.
    pub fn search(text: &str) -> Self {
        let busy = !text.is_empty();
        Self::Search { wanted: Editor::with(text), searched: text.to_owned(), found: Vec::new(), chosen: 0, busy }
    }
}
