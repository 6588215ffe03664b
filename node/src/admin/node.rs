//! What the owner can ask, answered by the node itself.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kith_store::tables::rooms::ROOMS;
use kith_transport::PeerInfo;
use ruma::OwnedUserId;

use super::{
    Admin, AdminError, Deactivation, FederationStatus, NewPassword, NewUser, Peer, Queue, Status, StoreStatus, UserInfo,
};
use crate::accounts::registration::Checked;
use crate::accounts::{localpart, registration, users};
use crate::config::RegistrationMode;
use crate::http::MatrixError;
use crate::{Handle, Node, setup};

/// How long a setup link works.
const SETUP_LINK_VALID: Duration = Duration::from_secs(3_600);

/// A node in this process, as its owner sees it.
#[derive(Debug)]
pub struct NodeAdmin {
    node: Arc<Node>,
    addresses: Vec<SocketAddr>,
    federation_addresses: Vec<SocketAddr>,
    /// Monotonic time of the start.
    started: Duration,
    setup: Mutex<Option<SetupLink>>,
}

struct SetupLink {
    link: String,
    /// What makes it work.
    token: String,
}

// The link is a secret.
impl std::fmt::Debug for SetupLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SetupLink").finish_non_exhaustive()
    }
}

impl From<MatrixError> for AdminError {
    fn from(error: MatrixError) -> Self {
        Self::new(error.errcode, error.message)
    }
}

impl NodeAdmin {
    /// For the node behind this handle.
    #[must_use]
    pub fn new(handle: &Handle) -> Self {
        Self::at(handle, handle.addresses())
    }

    pub(super) fn at(handle: &Handle, addresses: &[SocketAddr]) -> Self {
        let node = Arc::clone(handle.node());
        let started = node.clock.monotonic();
        let federation_addresses = handle.federation_addresses().to_vec();
        Self { node, addresses: addresses.to_vec(), federation_addresses, started, setup: Mutex::new(None) }
    }

    /// The link that makes the first account: while there is none, and the configuration lets it be made so. A link
    /// whose time is over is replaced by a new one.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn setup_link(&self) -> Result<Option<String>, AdminError> {
        let node = &self.node;
        if node.config.registration.mode != RegistrationMode::Setup || self.addresses.is_empty() {
            return Ok(None);
        }
        if node.store.read(|read| users::any(read)).map_err(MatrixError::from)? {
            return Ok(None);
        }
        let held = self.held().as_ref().map(|held| (held.link.clone(), held.token.clone()));
        // Asked of what decides when the link is used: a device may have slept, or its clock have been set, meanwhile.
        if let Some((link, token)) = held
            && registration::check(node, &token)? == Checked::OneUse
        {
            return Ok(Some(link));
        }
        let milliseconds = u64::try_from(SETUP_LINK_VALID.as_millis()).unwrap_or(u64::MAX);
        let Some(token) = registration::setup_token(node, milliseconds).await? else { return Ok(None) };
        let link = setup::link(&node.config.public_base_url_at(&self.addresses), &token);
        *self.held() = Some(SetupLink { link: link.clone(), token });
        Ok(Some(link))
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<SetupLink>> {
        self.setup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn user(&self, name: &str) -> Result<OwnedUserId, AdminError> {
        let server = self.node.identity.server_name();
        localpart::local_user_id(name, server).ok_or_else(|| {
            AdminError::new("M_NOT_FOUND", format!("`{name}` is not the name of an account of {server}"))
        })
    }

    fn known_peers(&self) -> Vec<PeerInfo> {
        self.node.transport.network().map(|network| network.peers()).unwrap_or_default()
    }

    async fn collect_status(&self) -> Result<Status, AdminError> {
        let node = &self.node;
        let (accounts, rooms) = node
            .store
            .read(|read| {
                let active = users::list(read)?.iter().filter(|user| user.row.deactivated.is_none()).count();
                let rooms = ROOMS.range(read, ..)?.count();
                Ok::<_, MatrixError>((active as u64, rooms as u64))
            })
            .map_err(AdminError::from)?;
        // On a full disk no new link can be noted. That must not hide how full the disk is, and what the rest is like.
        let setup_link = match self.setup_link().await {
            Err(error) if error.errcode == "M_RESOURCE_LIMIT_EXCEEDED" => None,
            link => link?,
        };
        let stats = node.store.stats();
        let peers = self.known_peers();
        let count = |which: &dyn Fn(&PeerInfo) -> bool| peers.iter().filter(|peer| which(peer)).count() as u64;
        Ok(Status {
            server_name: node.identity.server_name().to_string(),
            peer_id: node.identity.peer_id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: node.clock.monotonic().saturating_sub(self.started).as_secs(),
            now_ms: node.clock.now_ms(),
            data_dir: node.config.data_dir.clone(),
            public_base_url: node.config.public_base_url_at(&self.addresses),
            client_listeners: self.addresses.iter().map(ToString::to_string).collect(),
            federation_listeners: self.federation_addresses.iter().map(ToString::to_string).collect(),
            setup_link,
            accounts,
            rooms,
            addresses: node.transport.network().map(|network| network.own_addresses()).unwrap_or_default(),
            peers_connected: count(&|peer| peer.connected),
            peers_nearby: count(&|peer| peer.nearby),
            queues: self.queues()?,
            store: StoreStatus {
                file_bytes: stats.file_bytes,
                free_bytes: stats.free_bytes,
                commits: stats.commits,
                waiting: stats.waiting as u64,
                reopened: stats.reopened,
            },
            federation: self.federation(),
        })
    }

    fn federation(&self) -> FederationStatus {
        let stats = &self.node.federation.stats;
        let named = |entries: Vec<(&'static str, u64)>| {
            entries.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
        };
        let counts = self.node.rooms.counts();
        let mut counters = stats.entries();
        counters.extend(self.node.transport.https().map(|https| https.stats()).unwrap_or_default());
        FederationStatus {
            counters: named(counters),
            refused: named(stats.refused.entries()),
            rejected: counts.rejected.load(Ordering::Relaxed),
            soft_failed: counts.soft_failed.load(Ordering::Relaxed),
        }
    }

    fn queues(&self) -> Result<Vec<Queue>, AdminError> {
        let destinations = self.node.federation.status().map_err(MatrixError::from)?;
        let queue = |destination: crate::federation::outgoing::DestinationStatus| Queue {
            destination: destination.server,
            rooms: destination.rooms as u64,
            messages: destination.messages as u64,
            away_since_ms: destination.away_since,
            retry_in_ms: destination.retry_in,
            last_error: destination.last_error,
            dropped: destination.dropped,
        };
        Ok(destinations.into_iter().map(queue).collect())
    }
}

fn peer(info: PeerInfo) -> Peer {
    Peer {
        server_name: info.proven_name().map_or_else(|| info.key.to_string(), str::to_owned),
        unverified_name: info.claimed_name().map(str::to_owned),
        peer_id: info.key.peer_id().to_string(),
        connected: info.connected,
        direct: info.direct,
        nearby: info.nearby,
        rtt_ms: info.rtt.map(|rtt| rtt.as_secs_f64() * 1_000.0),
        last_seen_s: info.last_seen.map(|seen| seen.as_secs_f64()),
        addresses: info.addresses,
        last_error: info.last_error,
    }
}

impl Admin for NodeAdmin {
    fn status(&self) -> BoxFuture<'_, Result<Status, AdminError>> {
        self.collect_status().boxed()
    }

    fn peers(&self) -> BoxFuture<'_, Result<Vec<Peer>, AdminError>> {
        async {
            let mut peers = self.known_peers();
            peers.sort_by_key(|peer| (!peer.nearby, !peer.connected, peer.last_seen.unwrap_or(Duration::MAX)));
            Ok(peers.into_iter().map(peer).collect())
        }
        .boxed()
    }

    fn users(&self) -> BoxFuture<'_, Result<Vec<UserInfo>, AdminError>> {
        async {
            let users = self.node.store.read(|read| users::list(read)).map_err(AdminError::from)?;
            let info = |user: users::User| UserInfo {
                user_id: user.user_id.to_string(),
                admin: user.row.admin,
                deactivated: user.row.deactivated.is_some(),
                created_ms: user.row.created,
            };
            Ok(users.into_iter().map(info).collect())
        }
        .boxed()
    }

    fn add_user(&self, user: NewUser) -> BoxFuture<'_, Result<String, AdminError>> {
        async move {
            let user_id = users::create(&self.node, &user.name, Some(&user.password), user.admin).await?;
            Ok(user_id.to_string())
        }
        .boxed()
    }

    fn set_password(&self, change: NewPassword) -> BoxFuture<'_, Result<(), AdminError>> {
        async move {
            let user_id = self.user(&change.name)?;
            users::set_password(&self.node, &user_id, &change.password, !change.keep_devices, None, true).await?;
            Ok(())
        }
        .boxed()
    }

    fn deactivate(&self, user: Deactivation) -> BoxFuture<'_, Result<(), AdminError>> {
        async move {
            let user_id = self.user(&user.name)?;
            users::deactivate(&self.node, &user_id, user.erase).await?;
            Ok(())
        }
        .boxed()
    }
}
