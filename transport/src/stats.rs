//! Counters for `kith status` and `kith doctor`.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! stats {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        /// Counters since the start, changed from any thread.
        #[derive(Debug, Default)]
        pub struct Stats {
            $($(#[doc = $doc])+ pub $name: Counter,)*
        }

        impl Stats {
            /// The counters of this moment.
            pub fn snapshot(&self) -> StatsSnapshot {
                StatsSnapshot { $($name: self.$name.get(),)* }
            }
        }

        /// The counters at one moment.
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
        pub struct StatsSnapshot {
            $($(#[doc = $doc])+ pub $name: u64,)*
        }

        impl StatsSnapshot {
            /// Name and value of each counter.
            pub fn entries(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
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
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

stats! {
    /// Attempts to connect to a peer (all its addresses at once are one attempt).
    dials,
    /// Attempts that failed.
    dial_failures,
    /// Connections that peers opened.
    inbound_connections,
    /// Connections that we opened.
    outbound_connections,
    /// Connections refused by a limit (of number or memory) or while handshaking.
    refused_connections,
    /// Second connections to one peer that were drained and closed.
    duplicate_connections,
    /// Connections ended because the peer answered no ping.
    dead_connections,
    /// Peers refused because the name or record they showed is not of their key.
    mismatched_names,
    /// Peers refused because their key is not ed25519, or not usable.
    foreign_keys,
    /// Node records dropped as malformed or wrongly signed.
    bad_records,
    /// Node records that suggest two running nodes with one key.
    record_conflicts,
    /// Streams refused: of no known kind, or more than a peer may have.
    refused_streams,
    /// Requests sent to peers.
    requests_out,
    /// Requests to peers that got no answer.
    requests_failed,
    /// Requests received from peers.
    requests_in,
    /// Services announced nearby that were malformed, or that claimed our own name.
    bad_announcements,
    /// Peers found by discovery.
    discovered,
}
