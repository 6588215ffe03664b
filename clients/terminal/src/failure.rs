//! Errors that have an exit code of their own.

use std::fmt;

/// Why a command ended, where scripts tell the reasons apart.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    NotSignedIn,
    NoSuchRoom(String),
    Unreachable(String),
    InUse,
}

impl Failure {
    pub fn code(&self) -> u8 {
        match self {
            Self::NotSignedIn => 3,
            Self::NoSuchRoom(_) => 4,
            Self::Unreachable(_) => 5,
            Self::InUse => 6,
        }
    }

    /// The same from another process.
    pub fn from_code(code: u8, text: &str) -> Option<Self> {
        Some(match code {
            3 => Self::NotSignedIn,
            4 => Self::NoSuchRoom(text.to_owned()),
            5 => Self::Unreachable(text.to_owned()),
            6 => Self::InUse,
            _ => return None,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSignedIn => formatter.write_str("nobody is signed in here; `kith-chat login` does it"),
            Self::NoSuchRoom(what) => formatter.write_str(what),
            Self::Unreachable(what) => formatter.write_str(what),
            Self::InUse => formatter.write_str("another kith-chat uses this data; end it, or give another --data"),
        }
    }
}

impl std::error::Error for Failure {}

/// An error in words for people: its causes in one line, nothing a terminal would obey.
pub fn words(error: &anyhow::Error) -> String {
    let mut words = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if !words.contains(&text) {
            if !words.is_empty() {
                words.push_str(": ");
            }
            words.push_str(&text);
        }
    }
    crate::text::line(&words)
}
