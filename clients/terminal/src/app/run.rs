//! What commands and answers lead to.

use super::{
    App,
    commands::Command,
    dialogs::{Deed, Dialog, Picture, Purpose},
};
use crate::{
    model::{Body, Delivery, FileKind, Message},
    protocol::Ask,
};

impl App {
    /// Runs a command.
    pub(super) fn run(&mut self, command: Command) -> Vec<Ask> {
        let needs_room = matches!(
            command,
            Command::File { .. }
                | Command::Emote { .. }
                | Command::Invite { .. }
                | Command::Kick { .. }
                | Command::Name { .. }
                | Command::Topic { .. }
                | Command::Members
                | Command::Encrypt
        );
        if needs_room && self.open.is_none() {
            self.complain("open a room first");
            return Vec::new();
        }
        match command {
            Command::File { path } => return vec![Ask::SendFile { path }],
            Command::Emote { text } => return vec![Ask::Send { text, reply: None, emote: true }],
            Command::Invite { user } => return vec![Ask::Invite { user }],
            Command::Kick { user } => return vec![Ask::Kick { user }],
            Command::Create { name } => return vec![Ask::Create { name }],
            Command::Chat { user } => return vec![Ask::Chat { user }],
            Command::Join { room } if room.is_empty() => {
                match self.open_room().and_then(|room| room.replaced_by.clone()) {
                    Some(room) => return vec![Ask::Join { room }],
                    None => self.complain("/join needs a room such as #room:example.org"),
                }
            }
            Command::Join { room } => return vec![Ask::Join { room }],
            Command::Leave => {
                if let Some(room) = self.open.as_ref().map(|open| open.room.clone()).or_else(|| self.chosen.clone()) {
                    self.ask_leave(&room);
                }
            }
            Command::Name { name } => return vec![Ask::Name { name }],
            Command::Topic { topic } => return vec![Ask::Topic { topic }],
            Command::Members => {
                self.dialog = Some(Dialog::Members { members: None, total: 0, scroll: 0 });
                return vec![Ask::Members];
            }
            Command::People if self.extension => {
                self.dialog = Some(Dialog::People { people: None, chosen: 0 });
                return vec![Ask::People];
            }
            Command::People => self.complain("this server does not tell who is near"),
            Command::Contact => {
                self.dialog = Some(Dialog::Contact { link: None });
                return vec![Ask::Contact];
            }
            Command::Add { link } => return vec![Ask::Add { link }],
            Command::Verify { user } => return vec![Ask::Verify { user }],
            Command::MyName { name } => return vec![Ask::MyName { name }],
            Command::MyPicture { path } => return vec![Ask::MyPicture { path }],
            Command::Key => return vec![Ask::Key],
            Command::Recover => self.dialog = Some(Dialog::question(Purpose::Recover)),
            Command::Search { text } => {
                self.dialog = Some(Dialog::search(&text));
                return if text.is_empty() { Vec::new() } else { vec![Ask::Search { text }] };
            }
            Command::Devices => return vec![Ask::Devices],
            Command::Near { on } if self.extension => return vec![Ask::Near(on)],
            Command::Near { .. } => self.complain("this server has no people near"),
            Command::Encrypt => {
                self.dialog = Some(Dialog::Confirm {
                    title: "Encrypt".to_owned(),
                    text: "Encrypt this room from now on? It cannot be undone.  y yes · Esc no".to_owned(),
                    yes: Deed::Encrypt,
                    no: None,
                });
            }
            Command::Node if self.extension => return vec![Ask::Node],
            Command::Node => self.complain("this server tells nothing of itself"),
            Command::SignOut => {
                self.dialog = Some(Dialog::Confirm {
                    title: "Sign out".to_owned(),
                    text: "Sign out and erase the messages and keys on this device? Without a recovery key or another device, \
                           encrypted messages are lost.  y yes · Esc no"
                        .to_owned(),
                    yes: Deed::SignOut,
                    no: None,
                });
            }
            Command::Help => self.dialog = Some(Dialog::Help { scroll: 0 }),
            Command::Quit => return self.quit(),
        }
        Vec::new()
    }

    pub(super) fn ask_leave(&mut self, room: &str) {
        let name = self.room(room).map_or("this room", |room| &room.name).to_owned();
        self.dialog = Some(Dialog::Confirm {
            title: "Leave".to_owned(),
            text: format!("Leave “{name}”?  y yes · Esc no"),
            yes: Deed::Leave { room: room.to_owned() },
            no: None,
        });
    }

    /// A question was answered.
    pub(super) fn answered(&mut self, purpose: Purpose, answer: String) -> Vec<Ask> {
        let text = answer.trim().to_owned();
        if text.is_empty() {
            return Vec::new();
        }
        vec![match purpose {
            Purpose::Chat => Ask::Chat { user: text },
            Purpose::Add => Ask::Add { link: text },
            Purpose::Create => Ask::Create { name: text },
            Purpose::SendFile => Ask::SendFile { path: text },
            Purpose::Invite => Ask::Invite { user: text },
            Purpose::Recover => {
                self.say("restoring …");
                Ask::Recover { key: text }
            }
            Purpose::Reaction => match self.message() {
                Some(message) => Ask::React { key: message.key.clone(), reaction: text },
                None => return Vec::new(),
            },
        }]
    }

    pub(super) fn do_it(&mut self, deed: Deed) -> Vec<Ask> {
        vec![match deed {
            Deed::Delete { key } => Ask::Delete { key },
            Deed::Leave { room } => Ask::Leave { room },
            Deed::Accept { room } => Ask::Accept { room },
            Deed::Encrypt => Ask::Encrypt,
            Deed::SignOut => Ask::SignOut,
        }]
    }

    /// Shows a message by itself: its picture, or everything about it.
    pub(super) fn view(&mut self, message: Message) -> Vec<Ask> {
        if let Body::File(file) = &message.body
            && file.kind == FileKind::Photo
        {
            let (key, name) = (message.key.clone(), file.name.clone());
            self.dialog = Some(Dialog::Picture { key: key.clone(), name, picture: Picture::Loading });
            return vec![Ask::Picture { key }];
        }
        let mut lines: Vec<String> = crate::text::block(&message.source).lines().map(str::to_owned).collect();
        if lines.is_empty() {
            lines.push(message.summary());
        }
        lines.push(String::new());
        lines.push(format!("from {} ({})", message.name, message.sender));
        lines.push(format!("at   {}", crate::when::full(message.at_ms)));
        if let Some(event) = &message.event {
            lines.push(format!("id   {}", crate::text::line(event)));
        }
        lines.push(if message.encrypted { "encrypted".to_owned() } else { "not encrypted".to_owned() });
        lines.extend(message.warning.map(|warning| format!("⚠ {}", warning.words)));
        lines.extend(delivery(&message.delivery));
        for (key, count, mine) in &message.reactions {
            lines.push(format!("{key} {count}{}", if *mine { " (you too)" } else { "" }));
        }
        self.dialog = Some(Dialog::Text { title: "Message".to_owned(), lines, scroll: 0 });
        Vec::new()
    }
}

/// How far a message has come, in words.
pub fn delivery(delivery: &Delivery) -> Option<String> {
    Some(match delivery {
        Delivery::None => return None,
        Delivery::Sending => "sending".to_owned(),
        Delivery::Failed(why) => format!("not sent: {why}"),
        Delivery::Stored => "stored on the server".to_owned(),
        Delivery::Waiting(count, since) => {
            let since = since.map(|since| format!(", away since {}", crate::when::full(since))).unwrap_or_default();
            let devices = if *count == 1 { "their device".to_owned() } else { format!("{count} of their devices") };
            format!("waiting for {devices}{since}")
        }
        Delivery::Delivered => "delivered".to_owned(),
        Delivery::Read(count) => format!("read by {count}"),
    })
}
