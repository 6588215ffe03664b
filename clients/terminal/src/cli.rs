//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// A Matrix client for the terminal. Without a command it opens the conversations.
#[derive(Debug, Parser)]
#[command(name = "kith-chat", version, about, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Option<Command>,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not signed in, 4 no such room or person, \
                          5 the server cannot be reached, 6 the data is in use by another kith-chat.";

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Where the account's server is: a URL, or a name such as example.org [default: the node on this device]
    #[arg(long, global = true, env = "KITHCHAT_SERVER", value_name = "URL|NAME")]
    pub server: Option<String>,
    /// The folder for the session, keys and messages [default: the platform's]
    #[arg(long, global = true, env = "KITHCHAT_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Answers of commands as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Signs in with a password, or with a login token or link
    Login {
        /// The name or full user id [default: asked for]
        #[arg(long)]
        user: Option<String>,
        /// Reads the password from the first line of standard input
        #[arg(long, conflicts_with = "token_stdin")]
        password_stdin: bool,
        /// Reads a login token, or a link that carries one, from the first line of standard input
        #[arg(long)]
        token_stdin: bool,
    },
    /// Makes an account, the first one of a new node by its setup link
    Register {
        /// The name of the account [default: asked for]
        #[arg(long)]
        user: Option<String>,
        /// Reads the setup link (or registration token, or an empty line) and the password from two lines of standard input
        #[arg(long)]
        stdin: bool,
    },
    /// Signs out and erases the data of this device
    Logout,
    /// Sends a message, encrypted where the room is, and waits until the server has it
    Send {
        /// A room id, alias or name, or a user id
        room: String,
        /// The message, Markdown [default, or with -: standard input]
        text: Option<String>,
        /// Sends this file; the text becomes its caption
        #[arg(long, value_name = "PATH")]
        file: Option<PathBuf>,
        /// Sends the text as it is, without Markdown
        #[arg(long)]
        plain: bool,
    },
    /// Prints the latest messages of a room
    Read {
        /// A room id, alias or name, or a user id
        room: String,
        /// How many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        limit: u16,
    },
    /// Lists the rooms
    Rooms,
    /// Accepts an invitation, or joins a public room
    Join {
        /// A room id or alias, or the name of a room that one is invited to
        room: String,
    },
    /// Shows one's own name and picture, or changes them
    Profile {
        /// The name that others see; an empty one takes it away
        #[arg(long)]
        name: Option<String>,
        /// A photo, of which others see a small copy
        #[arg(long, value_name = "PATH")]
        picture: Option<PathBuf>,
        /// Takes the picture away
        #[arg(long, conflicts_with = "picture")]
        no_picture: bool,
    },
    /// Shows the recovery key, which opens the backup of the message keys
    RecoveryKey {
        /// It is written down: forgets it on this device
        #[arg(long)]
        forget: bool,
    },
    /// Restores keys with the recovery key, read from standard input or asked for
    Recover,
}
