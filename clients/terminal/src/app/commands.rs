//! What can be typed after `/` (or `:` outside of the composer).

/// A command with its argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    File { path: String },
    Emote { text: String },
    Invite { user: String },
    Kick { user: String },
    Create { name: String },
    Chat { user: String },
    Join { room: String },
    Leave,
    Name { name: String },
    Topic { topic: String },
    Members,
    People,
    Contact,
    Add { link: String },
    Verify { user: Option<String> },
    MyName { name: String },
    MyPicture { path: Option<String> },
    Key,
    Recover,
    Search { text: String },
    Devices,
    Near { on: bool },
    Encrypt,
    Node,
    SignOut,
    Help,
    Quit,
}

/// Name, argument and purpose of each, as the help shows them.
pub const COMMANDS: &[(&str, &str, &str)] = &[
    ("file", "PATH", "send a photo or file"),
    ("me", "TEXT", "say what you do"),
    ("chat", "@USER", "write to somebody"),
    ("create", "NAME", "make a group"),
    ("invite", "@USER", "invite into this room"),
    ("kick", "@USER", "remove from this room"),
    ("join", "[#ROOM]", "join a room, or the one that replaced this"),
    ("leave", "", "leave this room"),
    ("name", "NAME", "rename this room"),
    ("topic", "TEXT", "set its topic"),
    ("encrypt", "", "encrypt this room from now on"),
    ("members", "", "who is here"),
    ("people", "", "who is near"),
    ("near", "on|off", "be found by people near"),
    ("contact", "", "show my link and QR code"),
    ("add", "LINK", "add somebody by link"),
    ("verify", "[@USER]", "compare emoji: a device of mine, or of USER"),
    ("devices", "", "my devices"),
    ("nick", "NAME", "change my name"),
    ("picture", "[PATH]", "change my picture; without a path it goes"),
    ("key", "", "show my recovery key"),
    ("recover", "", "restore from my recovery key"),
    ("search", "TEXT", "rooms, people and messages"),
    ("node", "", "my node: peers, what waits"),
    ("signout", "", "sign out and erase this device's data"),
    ("help", "", "keys and commands"),
    ("quit", "", "end"),
];

/// Reads a command without its `/`.
pub fn parse(line: &str) -> Result<Command, String> {
    let line = line.trim();
    let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let argument = argument.trim().to_owned();
    let needs =
        |what: &str| if argument.is_empty() { Err(format!("/{name} needs {what}")) } else { Ok(argument.clone()) };
    let user = || needs("a user id such as @alice:example.org");
    Ok(match name {
        "file" | "photo" | "upload" => Command::File { path: needs("the path of a file")? },
        "me" => Command::Emote { text: needs("a text")? },
        "invite" => Command::Invite { user: user()? },
        "kick" => Command::Kick { user: user()? },
        "create" | "new" => Command::Create { name: needs("a name")? },
        "chat" | "dm" => Command::Chat { user: user()? },
        "join" => Command::Join { room: argument },
        "leave" | "part" => Command::Leave,
        "name" => Command::Name { name: needs("a name")? },
        "topic" => Command::Topic { topic: needs("a text")? },
        "members" => Command::Members,
        "people" => Command::People,
        "contact" | "qr" => Command::Contact,
        "add" => Command::Add { link: needs("a link")? },
        "verify" => Command::Verify { user: (!argument.is_empty()).then_some(argument) },
        "nick" => Command::MyName { name: needs("a name")? },
        "picture" | "avatar" => Command::MyPicture { path: (!argument.is_empty()).then_some(argument) },
        "key" => Command::Key,
        "recover" => Command::Recover,
        "search" => Command::Search { text: argument },
        "devices" => Command::Devices,
        "near" => match argument.as_str() {
            "on" => Command::Near { on: true },
            "off" => Command::Near { on: false },
            _ => return Err("/near on, or /near off".to_owned()),
        },
        "encrypt" => Command::Encrypt,
        "node" => Command::Node,
        "signout" | "logout" => Command::SignOut,
        "help" => Command::Help,
        "quit" | "q" => Command::Quit,
        other => return Err(format!("there is no command /{}; /help lists them", crate::text::line(other))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_the_help_can_be_read() {
        for (name, argument, _) in COMMANDS {
            let argument = if *name == "near" { "on" } else { argument };
            let read = parse(&format!("{name} {argument}"));
            assert!(read.is_ok(), "{name}: {read:?}");
        }
    }

    #[test]
    fn an_argument_that_is_missing_is_asked_for() {
        assert!(parse("file").unwrap_err().contains("path"));
        assert!(parse("invite  ").unwrap_err().contains("user id"));
        assert!(parse("nonsense\x1b[2J").unwrap_err().contains("/help"));
    }

    #[test]
    fn paths_keep_their_spaces() {
        assert_eq!(parse("file  a b.jpg "), Ok(Command::File { path: "a b.jpg".to_owned() }));
    }
}
