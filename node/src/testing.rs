//! For tests: a whole node in memory with a clock moved by hand, and a client that calls it in process.

pub(crate) mod web;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use kith_store::blobs::MemoryBlobs;
use kith_store::{MemoryBackend, Options};
use kith_transport::SecretKey;
use kith_transport::memory::MemoryHub;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::config::{Config, RegistrationMode};
use crate::platform::{
    Citing, ManualClock, NetworkChoice, NetworkFactory, Platform, Rng, Storage, TokioSpawner, WebChoice,
};
use crate::{Handle, Node};

/// 2025-01-01
pub(crate) const START_MS: u64 = 1_735_689_600_000;

/// A node without listeners and peers. Its store lives as long as `backend`, so it can be started again on it.
pub(crate) struct TestNode {
    pub(crate) handle: Handle,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) backend: MemoryBackend,
}

impl TestNode {
    /// A node with open registration and no rate limits.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// As [`TestNode::start`], with changes to the configuration.
    pub(crate) async fn start_with(configure: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(MemoryBackend::new(), configure).await
    }

    /// As [`TestNode::start_with`], on what another node left.
    pub(crate) async fn start_on(backend: MemoryBackend, configure: impl FnOnce(&mut Config)) -> Self {
        Self::start_on_web(backend, WebChoice::None, configure).await
    }

    /// As [`TestNode::start_on`], with a way to the web.
    pub(crate) async fn start_on_web(
        backend: MemoryBackend,
        web: WebChoice,
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        Self::start_at(backend, [7; 32], 7, (NetworkChoice::None, web), configure).await
    }

    /// Another run of a node on what it left: its random numbers are others, as they would be.
    pub(crate) async fn start_anew(backend: MemoryBackend) -> Self {
        Self::start_at(backend, [7; 32], 8, (NetworkChoice::None, WebChoice::None), |_| {}).await
    }

    /// A node whose key is made from `key`, among others: see `kith_transport::memory`.
    pub(crate) async fn start_among(hub: &MemoryHub, key: u8) -> Self {
        let hub = hub.clone();
        Self::start_in(Arc::new(move |secret, router| hub.join(secret.public(), router)), key).await
    }

    /// As [`TestNode::start_among`], in any network.
    pub(crate) async fn start_in(join: NetworkFactory, key: u8) -> Self {
        Self::start_in_with(join, key, |_| {}).await
    }

    /// As [`TestNode::start_in`], with changes to the configuration.
    pub(crate) async fn start_in_with(join: NetworkFactory, key: u8, configure: impl FnOnce(&mut Config)) -> Self {
        let network = (NetworkChoice::Given(join), WebChoice::None);
        Self::start_at(MemoryBackend::new(), [key; 32], u64::from(key), network, configure).await
    }

    async fn start_at(
        backend: MemoryBackend,
        key: [u8; 32],
        seed: u64,
        (network, web): (NetworkChoice, WebChoice),
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        let clock = Arc::new(ManualClock::new(START_MS));
        let mut config = Config::in_folder("/nonexistent");
        config.registration.mode = RegistrationMode::Open;
        config.limits.rate_limits = false;
        configure(&mut config);
        let platform = Platform {
            clock: clock.clone(),
            rng: Rng::from_seed(seed),
            spawner: Arc::new(TokioSpawner::current()),
            storage: Storage::Given {
                backend: backend.clone(),
                options: Arc::new(Options::default),
                blobs: Arc::new(MemoryBlobs::new()),
            },
            network,
            web,
            listeners: false,
            secret: Some(SecretKey::from_seed(key)),
            citing: Citing::default(),
        };
        let handle = Node::start(config, platform).await.expect("the node starts");
        Self { handle, clock, backend }
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        self.handle.node()
    }

    /// A client of the same store, on this node: for one that was started again.
    pub(crate) fn again(&self, client: &Client) -> Client {
        Client { router: self.handle.client_router(), ..client.clone() }
    }

    /// A client that is not signed in.
    pub(crate) fn client(&self) -> Client {
        let (token, page, user, device) = (None, None, String::new(), String::new());
        Client { router: self.handle.client_router(), token, page, user, device }
    }

    /// Makes an account (with password `secret <name>`) and gives its first device.
    pub(crate) async fn register(&self, name: &str) -> Client {
        let body = json!({
            "username": name, "password": format!("secret {name}"), "auth": { "type": "m.login.dummy" }
        });
        let mut client = self.client();
        let answer = client.post("/_matrix/client/v3/register", body).await.ok();
        client.signed_in(&answer);
        client
    }

    /// Signs in as a user made by [`TestNode::register`], on a new device.
    pub(crate) async fn login(&self, name: &str) -> Client {
        let mut client = self.client();
        let answer = client.post("/_matrix/client/v3/login", login_body(name, &format!("secret {name}"))).await.ok();
        client.signed_in(&answer);
        client
    }
}

/// The body of a login by password.
pub(crate) fn login_body(name: &str, password: &str) -> Value {
    json!({
        "type": "m.login.password", "identifier": { "type": "m.id.user", "user": name }, "password": password
    })
}

/// One device of a user.
#[derive(Clone)]
pub(crate) struct Client {
    router: axum::Router,
    pub(crate) token: Option<String>,
    /// The origin of the web page that it is; none: it is no web page.
    pub(crate) page: Option<&'static str>,
    pub(crate) user: String,
    pub(crate) device: String,
}

impl Client {
    pub(crate) fn signed_in(&mut self, answer: &Value) {
        self.token = Some(answer["access_token"].as_str().expect("an access token").to_owned());
        self.user = answer["user_id"].as_str().expect("a user ID").to_owned();
        self.device = answer["device_id"].as_str().expect("a device ID").to_owned();
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Reply {
        self.call(Method::PUT, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.call(Method::DELETE, path, None).await
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(page) = self.page {
            request = request.header(header::ORIGIN, page);
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let mut request = request.body(body).expect("a request");
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 1], 5000))));
        let response = self.router.clone().oneshot(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        Reply { status: parts.status, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
    }
}

/// What a node answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
}

impl Reply {
    /// The body of a success.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        self.body
    }

    /// Checks that it failed so, and gives the body.
    #[track_caller]
    pub(crate) fn fails(self, status: u16, errcode: &str) -> Value {
        assert_eq!((self.status.as_u16(), self.body["errcode"].as_str()), (status, Some(errcode)), "{}", self.body);
        self.body
    }
}

/// Waits until something holds, for 20 seconds at most.
#[allow(clippy::disallowed_methods, reason = "what other tasks do is awaited in real time")]
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..2_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}
