//! The node: [`Node::start`] puts its parts together, each given what it uses, and [`Handle`] runs and stops it.
//!
//! A node has no globals and takes no signals, so several can run in one process: the binary runs one, tests and the
//! simulator run many.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use futures::future::BoxFuture;
use kith_store::{
    OpenError, Options, Store, StoreError, Touched,
    blobs::{BlobStore, FolderBlobs},
    tables::node::{CLOCK_FLOOR, FACTS},
};
use kith_transport::{Https, HttpsConfig, Network, Router, SecretKey, Transport, https::tls::TlsError};
use ruma::{
    ServerName, UserId,
    signatures::{Ed25519KeyPair, Ed25519KeyPairParseError},
};
use tokio::sync::watch;

use crate::{
    accounts::{self, Accounts},
    appservice::{self, Appservices, RegistrationError},
    client_api,
    config::Config,
    contacts::{self, Contacts},
    delayed::{self, Delayed},
    e2ee::{self, E2ee},
    ephemeral::{self, Ephemeral},
    federation::{Federation, patterns::Blocked, policy::Asking},
    http::{
        certificate::Shown,
        server::{self, ListenError, Serving},
    },
    identity::{self, Identity, IdentityError},
    media::Media,
    notifier::Notifier,
    oauth::Oauth,
    platform::{Clock, NetworkChoice, Platform, Rng, Spawner, Storage, WebChoice},
    push::{self, Push},
    rooms::Rooms,
    server_api, setup,
    sync::{activity::Activity, notifications::Remembered, sliding::Sliding},
    web::{self, NoWeb, Web},
};

/// How often the time is noted on disk, so that a clock set back cannot make the node sign in the past.
const CLOCK_NOTE: Duration = Duration::from_secs(60);

/// A running node: what its endpoints work with.
pub struct Node {
    /// The configuration it was started with.
    pub config: Config,
    /// Its name and key.
    pub identity: Identity,
    /// The key as events and requests are signed with it (`ed25519:0`).
    pub key: Arc<Ed25519KeyPair>,
    /// Its time.
    pub clock: Arc<dyn Clock>,
    /// Its randomness.
    pub rng: Rng,
    /// Its tasks.
    pub spawner: Arc<dyn Spawner>,
    /// Its tables.
    pub store: Store,
    /// Its media files.
    pub blobs: Arc<dyn BlobStore>,
    /// What is kept in memory for media.
    pub media: Media,
    /// Wakes long-polling syncs.
    pub notifier: Arc<Notifier>,
    /// The application services that its owner registered.
    pub appservices: Appservices,
    /// What is kept in memory of accounts.
    pub accounts: Accounts,
    /// What is kept in memory for OAuth 2.0.
    pub(crate) oauth: Oauth,
    /// Who types, who is there.
    pub ephemeral: Ephemeral,
    /// Unread counts that need not be counted again.
    pub unread: Remembered,
    /// Which rooms changed when.
    pub activity: Arc<Activity>,
    /// What is kept in memory for sliding sync.
    pub sliding: Sliding,
    /// The rooms.
    pub rooms: Rooms,
    /// Sends of clients that are being carried out.
    pub sending: client_api::rooms::send::Sending,
    /// The way to other servers.
    pub transport: Transport,
    /// The way to push gateways, application services and web pages.
    pub web: Arc<dyn Web>,
    /// What goes to and comes from other servers.
    pub federation: Federation,
    /// Whom discovery shows us to.
    pub(crate) contacts: Contacts,
    /// Pushers that have something to do.
    pub push: Push,
    /// What is to do for end-to-end encryption.
    pub e2ee: E2ee,
    /// What is kept in memory for delayed events.
    pub delayed: Delayed,
    /// What is kept in memory for the extension of the client API.
    pub(crate) extension: client_api::kith::Extension,
    stop: watch::Sender<bool>,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The server key or name.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The key cannot sign.
    #[error("the server key cannot be used: {0}")]
    Key(#[from] Ed25519KeyPairParseError),
    /// The data folder.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The first reads or writes.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder of media.
    #[error("the media folder cannot be used: {0}")]
    Media(io::Error),
    /// The registration of an application service.
    #[error(transparent)]
    Appservice(#[from] RegistrationError),
    /// A listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The certificate of the listeners for other servers.
    #[error("the TLS certificate of section [federation] cannot be used: {0}")]
    Certificate(#[from] TlsError),
    /// The network of peers.
    #[error(transparent)]
    Network(#[from] kith_transport::libp2p::StartError),
}

impl Node {
    /// Starts a node.
    pub async fn start(config: Config, platform: Platform) -> Result<Handle, StartError> {
        let Platform { clock, rng, spawner, storage, network, web, listeners, secret, citing } = platform;
        let mut identity = match secret {
            Some(secret) => Identity::new(secret, &config)?,
            None => Identity::open(&config, &rng)?,
        };
        let services = appservice::read_all(&config.appservices.registrations, identity.server_name())?;
        let key = Arc::new(key_pair(identity.secret())?);
        let (store, blobs): (Store, Arc<dyn BlobStore>) = match storage {
            Storage::Folder => {
                let options = Options {
                    cache_bytes: usize::try_from(config.limits.store_cache_size).unwrap_or(usize::MAX),
                    reserve_bytes: config.limits.free_disk_reserve,
                    beside: identity::beside(&config.data_dir),
                    ..Options::default()
                };
                let reserve = options.reserve_bytes;
                // A key that was there before says whose database this is.
                let of_ours = |error: OpenError| if identity.created { error } else { error.of_ours() };
                let store = Store::open_folder(&config.data_dir, options).map_err(of_ours)?;
                let blobs = FolderBlobs::open(config.data_dir.join("media"), reserve).map_err(StartError::Media)?;
                (store, Arc::new(blobs))
            }
            Storage::Given { backend, options, blobs } => (Store::open(backend, options())?, blobs),
        };
        // Listen before anything else is done: a port in use is the likeliest failure.
        let listen = |addresses: Vec<SocketAddr>, key| async move {
            if listeners { server::bind(&addresses, key).await } else { Ok(Vec::new()) }
        };
        let bound = listen(config.client.listen.clone(), "client.listen").await?;
        let bound_for_servers = listen(config.federation_listen(), "federation.listen").await?;
        let (certificate, renewal) = if bound_for_servers.is_empty() { (None, None) } else { Shown::of(&config)? };
        if let Some(floor) = store.read(|read| FACTS.get(read, &CLOCK_FLOOR.to_owned()))? {
            clock.floor(floor);
        }
        identity::begin(&store, &mut identity, clock.now_ms()).await?;

        let notifier = Arc::new(Notifier::default());
        let activity = Arc::new(Activity::new(store.position()));
        let (bells, log) = (notifier.clone(), activity.clone());
        store.on_commit(Box::new(move |committed| {
            log.note(committed);
            bells.wake(committed.touched.iter().filter_map(|touched| match touched {
                Touched::User(user) => Some(user.as_str()),
                _ => None,
            }));
        }));
        let rooms =
            Rooms::new(store.clone(), clock.clone(), rng.fork(), identity.server_name().to_owned(), key.clone());
        rooms.cite(citing);
        let ephemeral = Ephemeral::new(&rng);
        let inbound = Arc::new(OnceLock::new());
        let network = start_network(network, &config, &identity, &store, &clock, late(inbound.clone())).await?;
        let timer = Arc::new(ClockTimer(clock.clone()));
        let https = match web {
            WebChoice::Real => Some(start_https(&config, &spawner, &rng, timer.clone())),
            WebChoice::Given(_) | WebChoice::None => None,
        };
        let transport = Transport::new(identity.server_name().as_str(), network, https, timer);
        let web: Arc<dyn Web> = match web {
            WebChoice::Real => Arc::new(web::Client::new(config.federation.extra_roots.clone())),
            WebChoice::Given(web) => web,
            WebChoice::None => Arc::new(NoWeb),
        };
        let (stop, stopped) = watch::channel(false);
        let extension = client_api::kith::Extension::new(clock.monotonic());
        let node = Arc::new_cyclic(|node: &Weak<Self>| Self {
            federation: Federation::new(
                node.clone(),
                identity.server_name().to_owned(),
                key.clone(),
                transport.clone(),
                clock.clone(),
                Blocked::new(&config.federation.blocked_servers),
            ),
            config,
            identity,
            key,
            clock,
            rng,
            spawner,
            store,
            blobs,
            media: Media::default(),
            notifier,
            appservices: Appservices::new(services),
            accounts: Accounts::default(),
            oauth: Oauth::default(),
            ephemeral,
            unread: Remembered::default(),
            activity,
            sliding: Sliding::default(),
            rooms,
            sending: Default::default(),
            transport,
            web,
            contacts: Contacts::default(),
            push: Push::default(),
            e2ee: E2ee::default(),
            delayed: Delayed::default(),
            extension,
            stop,
        });

        node.rooms.ask_policy_servers(Arc::new(Asking(Arc::downgrade(&node))));
        let listener = Arc::downgrade(&node);
        node.store.on_commit(Box::new(move |committed| {
            if let Some(node) = listener.upgrade() {
                node.federation.committed(committed);
                node.contacts.committed(committed);
                node.push.committed(committed);
                node.appservices.committed(committed);
            }
        }));
        // What was noted before the last stop goes on.
        if let Err(error) = accounts::resume(&node) {
            tracing::warn!(%error, "unfinished updates of profiles could not be taken up");
        }
        let server_router = server_api::router(&node);
        let addresses: Vec<SocketAddr> = bound.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let federation_addresses: Vec<SocketAddr> =
            bound_for_servers.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let base_url = node.config.public_base_url_at(&addresses);
        let for_servers = server_api::well_known::routes(node.config.delegation(&federation_addresses));
        let client_router = client_api::router(&node).merge(for_servers.clone());
        let client_router = client_router.merge(setup::routes(node.server_name(), &base_url));
        let others = setup::client::before(server_router.clone(), &kith_web::EMBEDDED);
        let client_router = crate::http::layers::around(client_router, others);
        let _ = inbound.set(Router::from_service(server_router.clone()));
        node.federation.start()?;
        node.spawner.spawn("contacts", Box::pin(contacts::watch(node.clone())));
        e2ee::start(&node);
        if let Err(error) = appservice::start(&node).await {
            tracing::warn!(%error, "application services could not be started");
        }
        node.spawner.spawn("delayed events", Box::pin(delayed::run(node.clone())));
        node.spawner.spawn("push", Box::pin(push::run(node.clone())));
        let guarded = setup::host::guard(client_router.clone(), &node.config, node.server_name(), &addresses);
        let serving = Serving {
            router: guarded,
            certificate: None,
            clock: node.clock.clone(),
            spawner: node.spawner.clone(),
            stats: node.federation.stats.clone(),
            stop: stopped,
        };
        if let Some(Shown::Files(certificate)) = certificate.as_deref() {
            let watching = certificate.clone().watch(node.clock.clone(), node.spawner.clone());
            node.spawner.spawn("certificate", Box::pin(watching));
        }
        if let Some(renewal) = renewal {
            node.spawner.spawn("certificate", Box::pin(renewal.run()));
        }
        let router = crate::http::layers::around(for_servers, server_router.clone());
        let with_tls = Serving { router, certificate, ..serving.clone() };
        let servers = bound_for_servers.into_iter().map(|listener| (listener, with_tls.clone()));
        for (listener, serving) in bound.into_iter().map(|listener| (listener, serving.clone())).chain(servers) {
            node.spawner.spawn("listener", Box::pin(server::serve(listener, serving)));
        }
        node.spawner.spawn("presence", Box::pin(ephemeral::presence::watch(node.clone())));
        node.spawner.spawn("idle rooms", Box::pin(crate::rooms::run_idle(Arc::downgrade(&node))));
        node.spawner.spawn("retention", Box::pin(crate::rooms::retention::run(Arc::downgrade(&node))));
        node.spawner.spawn("media sweep", Box::pin(crate::media::sweep::run(node.clone())));
        node.spawner.spawn("clock note", Box::pin(note_time(node.clone())));
        Ok(Handle { node, client_router, server_router, addresses, federation_addresses })
    }

    /// The server's name, as it stands in user IDs.
    pub fn server_name(&self) -> &ServerName {
        self.identity.server_name()
    }

    /// Whether a user has an account here (or would have, by name).
    pub fn is_local(&self, user: &UserId) -> bool {
        user.server_name() == self.server_name()
    }

    /// Turns true when the node begins to stop.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("server_name", &self.server_name()).finish_non_exhaustive()
    }
}

/// What the one who started a node holds.
#[derive(Clone)]
pub struct Handle {
    node: Arc<Node>,
    client_router: axum::Router,
    server_router: axum::Router,
    addresses: Vec<SocketAddr>,
    federation_addresses: Vec<SocketAddr>,
}

impl Handle {
    /// The node.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// The client API as a service, for calls in process.
    pub fn client_router(&self) -> axum::Router {
        self.client_router.clone()
    }

    /// The federation API as a service, for calls in process.
    pub fn server_router(&self) -> axum::Router {
        self.server_router.clone()
    }

    /// The addresses that are listened on for clients.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The addresses that are listened on for other servers, with TLS.
    pub fn federation_addresses(&self) -> &[SocketAddr] {
        &self.federation_addresses
    }

    /// The device is about to sleep, or the app goes to the background: requests under way end, connections to peers are closed
    /// so that they know at once, and nobody is dialled until [`Handle::resume`]. Takes a few seconds at most. What is committed
    /// stays; requests of clients still work.
    pub async fn suspend(&self) {
        if let Some(network) = self.node.transport.network() {
            network.suspend().await;
        }
    }

    /// The device woke up or its network changed: peers are dialled anew at once.
    pub async fn resume(&self) {
        if let Some(https) = self.node.transport.https() {
            https.network_changed();
        }
        if let Some(network) = self.node.transport.network() {
            network.resume();
        }
    }

    /// Stops in good order: no new requests, running ones end, peers are told, everything acknowledged is on disk.
    pub async fn stop(&self) {
        let _ = self.node.stop.send(true);
        if let Some(network) = self.node.transport.network() {
            network.shutdown().await;
        }
        self.node.federation.write_acknowledged().await;
        self.node.spawner.shutdown().await;
        self.node.store.close();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("node", &self.node).field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// The server key as ruma's signing functions take it.
pub(crate) fn key_pair(secret: &SecretKey) -> Result<Ed25519KeyPair, Ed25519KeyPairParseError> {
    // PKCS#8 version 1 (RFC 8410, section 7): a fixed head, then the seed.
    let mut document = zeroize::Zeroizing::new(Vec::with_capacity(48));
    document.extend_from_slice(&[
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
    ]);
    document.extend_from_slice(secret.seed());
    Ed25519KeyPair::from_der(&document, "0".to_owned())
}

/// A router that answers 503 until the real one is there: the network must be up before the node that serves it.
fn late(inbound: Arc<OnceLock<Router>>) -> Router {
    Router::new(move |request| {
        let inbound = inbound.clone();
        async move {
            match inbound.get() {
                Some(router) => router.call(request).await,
                None => {
                    let mut response = http::Response::new(kith_transport::empty());
                    *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
                    response
                }
            }
        }
    })
}

async fn start_network(
    choice: NetworkChoice,
    config: &Config,
    identity: &Identity,
    store: &Store,
    clock: &Arc<dyn Clock>,
    router: Router,
) -> Result<Option<Arc<dyn Network>>, StartError> {
    match choice {
        NetworkChoice::None => Ok(None),
        NetworkChoice::Given(join) => Ok(Some(join(identity.secret(), router))),
        NetworkChoice::Libp2p if !config.p2p.enabled => Ok(None),
        NetworkChoice::Libp2p => crate::p2p::start(config, identity, store, clock, router).await.map(Some),
    }
}

struct ClockTimer(Arc<dyn Clock>);

impl kith_transport::Timer for ClockTimer {
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.sleep(duration)
    }

    fn now(&self) -> Duration {
        self.0.monotonic()
    }
}

/// The way to servers that DNS knows.
fn start_https(config: &Config, spawner: &Arc<dyn Spawner>, rng: &Rng, timer: Arc<dyn kith_transport::Timer>) -> Https {
    let settings = HttpsConfig {
        extra_roots: config.federation.extra_roots.clone(),
        allow_private_addresses: config.federation.allow_private_addresses,
    };
    let (spawner, rng) = (spawner.clone(), rng.fork());
    let spawn = Arc::new(move |task| spawner.spawn("https", task));
    Https::new(settings, timer, spawn, Arc::new(move |bound| rng.below(bound)))
}

async fn note_time(node: Arc<Node>) {
    loop {
        let now = node.clock.now_ms();
        let noted: Result<(), StoreError> =
            node.store.write(move |tx| FACTS.put(tx, &CLOCK_FLOOR.to_owned(), &now)).await;
        if let Err(error) = noted {
            tracing::debug!(%error, "the time could not be noted");
        }
        node.clock.sleep(CLOCK_NOTE).await;
    }
}
