//! Counters of federation, for `kith status` and the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! stats {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        /// Counters since the start.
        #[derive(Debug, Default)]
        pub struct Stats {
            $($(#[doc = $doc])+ pub $name: Counter,)*
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
    /// Requests refused because their sender asks too much.
    limited_requests,
    /// Transactions received.
    transactions_in,
    /// Events received in transactions and stored.
    pdus_in,
    /// Events received that were refused.
    pdus_refused,
    /// Events received that wait for others.
    pdus_parked,
    /// Events fetched because they were missing.
    pdus_fetched,
    /// Gaps that could not be filled: the state behind them was taken from another server.
    gaps_bridged,
    /// EDUs received of types this node does not know.
    edus_unknown,
    /// EDUs received that were malformed, or about users of another server than their sender's.
    edus_refused,
}
