//! Federation from our side: signed requests to other servers, what waits for them, joining and leaving their rooms, and
//! getting what was missed. What other servers ask of us is in [`crate::server_api`].
//!
//! | module | what it does |
//! | --- | --- |
//! | [`client`], [`signing`], [`error`] | requests to other servers |
//! | [`outgoing`] | transactions: queues, senders, backoff |
//! | [`membership`] | joins, leaves, knocks and invites that cross servers |
//! | [`missing`], [`heads`], [`history`] | events that were missed: behind parked ones, by comparing heads, by scrolling back |
//! | [`partial`] | the members of rooms that were joined without them |
//! | [`policy`] | asking policy servers to sign events |
//! | [`introductions`] | who on the nodes near by wants to be found |
//! | [`queries`] | aliases, profiles and public rooms of other servers |
//! | [`answers`] | answers kept for requests that come twice |
//! | [`keys`] | keys of servers with DNS names |
//! | [`pdus`], [`rules`] | checking events that come; who may take part in a room |

pub mod answers;
pub mod client;
pub mod ends;
pub mod error;
pub mod heads;
pub mod history;
pub mod introductions;
pub mod keys;
pub mod large;
pub mod membership;
pub mod missing;
pub mod outgoing;
pub mod partial;
pub mod patterns;
pub mod pdus;
pub mod pending;
pub mod policy;
pub mod queries;
pub mod rules;
pub mod signing;
pub mod stats;

use std::sync::{Arc, Weak};

use kith_store::{Committed, StoreError, Touched};
use kith_transport::Transport;
use ruma::{OwnedServerName, api::federation::transactions::edu::Edu, signatures::Ed25519KeyPair};

use self::{answers::Answers, heads::Heads, missing::Missing, outgoing::Outgoing, patterns::Blocked};
pub use self::{
    client::Client,
    error::FederationError,
    outgoing::{DestinationStatus, enqueue_edu},
    stats::Stats,
};
use crate::{
    Node,
    http::{Answer, MatrixError},
    platform::Clock,
    server_api::limits::Limits,
};

/// The node's part in federation.
#[derive(Debug)]
pub struct Federation {
    node: Weak<Node>,
    client: Client,
    /// Servers that are neither heard nor asked.
    pub(crate) blocked: Blocked,
    pub(crate) outgoing: Outgoing,
    pub(crate) missing: Missing,
    pub(crate) partial: partial::Partial,
    pub(crate) heads: Heads,
    pub(crate) ends: ends::Ends,
    pub(crate) answers: Answers,
    pub(crate) limits: Limits,
    pub(crate) keys: keys::Keys,
    pub(crate) introductions: introductions::Introductions,
    pub(crate) invites: membership::on_the_way::Invites,
    /// Counters since the start.
    pub stats: Arc<Stats>,
}

impl Federation {
    /// The federation of `node`, which signs as `server_name` with `key` (the same that signs events), and has nothing to do with
    /// those that are `blocked`.
    pub fn new(
        node: Weak<Node>,
        server_name: OwnedServerName,
        key: Arc<Ed25519KeyPair>,
        transport: Transport,
        clock: Arc<dyn Clock>,
        blocked: Blocked,
    ) -> Self {
        let stats = Arc::new(Stats::default());
        Self {
            node,
            client: Client::new(server_name, key, transport, clock, blocked.clone(), stats.clone()),
            blocked,
            outgoing: Outgoing::default(),
            missing: Missing::default(),
            partial: partial::Partial::default(),
            heads: Heads::default(),
            ends: ends::Ends::default(),
            answers: Answers::default(),
            limits: Limits::default(),
            keys: keys::Keys::default(),
            introductions: introductions::Introductions::default(),
            invites: membership::on_the_way::Invites::default(),
            stats,
        }
    }

    /// Starts sending what waits from before, fetching what is missing from before, and listening for peers. To be called
    /// once, when the node can be reached.
    ///
    /// # Errors
    /// The store's.
    pub fn start(&self) -> Result<(), StoreError> {
        let Some(node) = self.node.upgrade() else { return Ok(()) };
        outgoing::start(&node)?;
        missing::start(&node)?;
        partial::start(&node)?;
        heads::start(&node);
        Ok(())
    }

    /// To be called after each commit: wakes the senders of the destinations it concerns.
    pub fn committed(&self, committed: &Committed) {
        for touched in &committed.touched {
            if let Touched::Destination(name) = touched
                && let Some(node) = self.node.upgrade()
            {
                outgoing::wake(&node, name);
            }
        }
    }

    /// Writes what other servers have acknowledged, at the end: what is not written is sent once more.
    pub(crate) async fn write_acknowledged(&self) {
        if let Some(node) = self.node.upgrade()
            && let Err(error) = outgoing::write_acknowledged(&node).await
        {
            tracing::debug!(%error, "what other servers have acknowledged could not be written");
        }
    }

    /// Requests to other servers.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Sends an EDU that may be lost (typing, presence). Servers that cannot be reached now never get it.
    pub fn send_ephemeral(&self, destinations: impl IntoIterator<Item = OwnedServerName>, edu: &Edu) {
        if let Some(node) = self.node.upgrade() {
            outgoing::send_ephemeral(&node, destinations, edu);
        }
    }

    /// Every destination for which something waits, or that cannot be reached: for `kith status`.
    ///
    /// # Errors
    /// The store's.
    pub fn status(&self) -> Result<Vec<DestinationStatus>, StoreError> {
        match self.node.upgrade() {
            Some(node) => outgoing::status(&node),
            None => Ok(Vec::new()),
        }
    }

    pub(crate) fn node(&self) -> Answer<Arc<Node>> {
        self.node
            .upgrade()
            .ok_or_else(|| MatrixError::new(http::StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", "the node is stopping"))
    }
}
