//! Counters of federation, for `kith status`.

use std::sync::atomic::{AtomicU64, Ordering};

use kith_room::ReceiveError;

use crate::http::MatrixError;

macro_rules! stats {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        /// Counters since the start.
        #[derive(Debug, Default)]
        pub struct Stats {
            $($(#[doc = $doc])+ pub $name: Counter,)*
            /// Events refused, by reason, wherever another server sent them.
            pub refused: Refused,
        }

        impl Stats {
            /// Name and value of each counter.
            pub fn entries(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add(&self) {
        self.add_many(1);
    }

    /// Several more.
    pub fn add_many(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

stats! {
    /// Requests refused because their signature, destination or origin is wrong.
    unsigned_requests,
    /// Requests refused because the peer that brought them is not the server they name.
    wrong_peers,
    /// Requests refused because their sender is blocked here.
    blocked_requests,
    /// Requests refused because their sender asks too much.
    limited_requests,
    /// Requests refused because their body is too long, or comes too slowly.
    bodies_refused,
    /// Connections refused because their address has too many.
    connections_refused,
    /// Connections ended because no request, or no handshake of TLS, came in time.
    connections_cut,
    /// Answers of other servers that mean nothing, are too long, come too slowly or break off.
    answers_refused,
    /// Transactions received.
    transactions_in,
    /// Transactions received again, which are answered as before.
    transactions_repeated,
    /// Transactions refused as a whole: of another server than the one that signed them, or too long.
    transactions_refused,
    /// Transactions sent, again after a failure included.
    transactions_out,
    /// Transactions that were sent in vain.
    transactions_failed,
    /// Events received in transactions and stored, allowed or not.
    pdus_in,
    /// Events received that wait for others.
    pdus_parked,
    /// Events received without their content, because it is not the one their hash is of.
    pdus_redacted,
    /// Events fetched because they were missing.
    pdus_fetched,
    /// Gaps that could not be filled: the state behind them was taken from another server.
    gaps_bridged,
    /// Servers that were not asked on for missing events: they tell of more and more that joins nothing here, or take too long.
    gaps_given_up,
    /// Files kept elsewhere by their server that could not be had there, or must not be.
    files_elsewhere_refused,
    /// Documents with keys of servers that were fetched.
    keys_fetched,
    /// Attempts to fetch one that brought none.
    keys_not_fetched,
    /// Documents that have another key under an ID than the one before.
    keys_changed,
    /// EDUs received of types this node does not know.
    edus_unknown,
    /// EDUs received that were malformed, or about users of another server than their sender's.
    edus_refused,
}

macro_rules! refusals {
    ($($(#[doc = $doc:literal])+ $variant:ident => $name:literal,)*) => {
        /// Why an event of another server is not taken. (What the room's rules do not allow is stored as rejected or soft-failed;
        /// the rooms count it.)
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Refusal {
            $($(#[doc = $doc])+ $variant,)*
        }

        impl Refusal {
            const ALL: &[(Self, &str)] = &[$((Self::$variant, $name),)*];
        }
    };
}

refusals! {
    /// It is longer than an event may be.
    TooLong => "too_long",
    /// It is not JSON that the room version allows: too deep, a key twice, a number that is not allowed.
    Json => "bad_json",
    /// It is not an event of the room version.
    Format => "bad_format",
    /// This program does not know the room version.
    Version => "unknown_version",
    /// A signature is missing or false.
    Signature => "bad_signature",
    /// It is of a room in which this server takes no part, or of another than it was asked for or sent as.
    Room => "wrong_room",
    /// It follows itself by others.
    Cycle => "cycle",
    /// The room's access list denies the server that sends it.
    Denied => "denied_server",
    /// It waits for others, and too many of that server's events do.
    Waiting => "too_many_waiting",
    /// The room does not let it in.
    NotAllowed => "not_allowed",
}

impl From<&ReceiveError> for Refusal {
    fn from(error: &ReceiveError) -> Self {
        match error {
            ReceiveError::UnknownVersion(_) => Self::Version,
            ReceiveError::TooLong(_) => Self::TooLong,
            ReceiveError::Json(_) => Self::Json,
            ReceiveError::Format(_) => Self::Format,
            ReceiveError::NotSigned(_) | ReceiveError::NoKey { .. } | ReceiveError::BadSignature(_) => Self::Signature,
        }
    }
}

/// One counter for each [`Refusal`].
#[derive(Debug, Default)]
pub struct Refused([Counter; Refusal::ALL.len()]);

impl Refused {
    /// One more event was refused.
    pub fn add(&self, refusal: impl Into<Refusal>) {
        self.add_many(refusal, 1);
    }

    /// Several more were.
    pub fn add_many(&self, refusal: impl Into<Refusal>, count: usize) {
        if let Some(counter) = self.0.get(refusal.into() as usize) {
            counter.add_many(count as u64);
        }
    }

    /// Counts the event if the room did not let it in: it, not the store, is what failed.
    pub fn note(&self, error: &MatrixError) {
        if error.is("M_FORBIDDEN") {
            self.add(Refusal::NotAllowed);
        }
    }

    /// How many were refused for a reason.
    pub fn get(&self, refusal: Refusal) -> u64 {
        self.0.get(refusal as usize).map_or(0, Counter::get)
    }

    /// Name and value of each counter.
    pub fn entries(&self) -> Vec<(&'static str, u64)> {
        Refusal::ALL.iter().map(|(refusal, name)| (*name, self.get(*refusal))).collect()
    }
}
