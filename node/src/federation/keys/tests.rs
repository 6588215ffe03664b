//! Over real connections: a server that publishes keys, and a node that fetches them.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::routing::{get, post};
use futures::future;
use kith_store::MemoryBackend;
use ruma::signatures::sign_json;
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::watch};

use super::document::tests::{encoded, pair};
use super::*;
use crate::{
    federation::signing,
    http::{
        certificate::{Certificate, Shown},
        server::{Serving, serve},
    },
    platform::{ManualClock, Spawner, SystemClock, TokioSpawner, WebChoice},
    testing::{START_MS, TestNode},
};

/// Nobody listens there.
const SILENT: &str = "127.0.0.1:1";

/// A server on this device with a certificate of its own, and how often it was asked for its keys.
struct Publisher {
    folder: TempDir,
    name: OwnedServerName,
    asked: Arc<AtomicUsize>,
    document: Arc<Mutex<Option<serde_json::Value>>>,
    _stop: watch::Sender<bool>,
}

impl Publisher {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (chain, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&chain, made.cert.pem()).unwrap();
        std::fs::write(&key, made.key_pair.serialize_pem()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let name = format!("localhost:{}", listener.local_addr().unwrap().port());
        let name = OwnedServerName::try_from(name).unwrap();
        let (asked, document) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None)));
        let (count, published) = (asked.clone(), document.clone());
        let own = move || {
            count.fetch_add(1, Ordering::SeqCst);
            let document: Option<serde_json::Value> = published.lock().unwrap().clone();
            async move { document.map(axum::Json).ok_or(http::StatusCode::NOT_FOUND) }
        };
        let (count, published, notary) = (asked.clone(), document.clone(), name.clone());
        let others = move || {
            count.fetch_add(1, Ordering::SeqCst);
            // As a notary, it tells of this one; its own document is what it is trusted by.
            assert!(published.lock().unwrap().is_some());
            let key = pair(1, "a");
            let mut foreign: CanonicalJsonObject = serde_json::from_value(json!({
                "server_name": SILENT,
                "verify_keys": { "ed25519:a": { "key": encoded(&key) } },
                "valid_until_ts": START_MS + 1_000_000,
            }))
            .unwrap();
            sign_json(SILENT, &key, &mut foreign).unwrap();
            sign_json(notary.as_str(), &pair(3, "n"), &mut foreign).unwrap();
            async move { axum::Json(json!({ "server_keys": [foreign] })) }
        };
        let router =
            axum::Router::new().route("/_matrix/key/v2/server", get(own)).route("/_matrix/key/v2/query", post(others));
        let spawner: Arc<dyn Spawner> = Arc::new(TokioSpawner::current());
        let (stop, stopped) = watch::channel(false);
        let serving = Serving {
            router,
            certificate: Some(Arc::new(Shown::Files(Arc::new(Certificate::open(chain, key).unwrap())))),
            clock: Arc::new(ManualClock::new(0)),
            spawner: spawner.clone(),
            stats: Arc::default(),
            stop: stopped,
        };
        spawner.spawn("publisher", Box::pin(serve(listener, serving)));
        Self { folder, name, asked, document, _stop: stop }
    }

    fn publish(&self, seed: u8, id: &str, valid_until: u64) {
        let key = pair(seed, id);
        let mut document: CanonicalJsonObject = serde_json::from_value(json!({
            "server_name": self.name,
            "verify_keys": { format!("ed25519:{id}"): { "key": encoded(&key) } },
            "old_verify_keys": {},
            "valid_until_ts": valid_until,
        }))
        .unwrap();
        sign_json(self.name.as_str(), &key, &mut document).unwrap();
        *self.document.lock().unwrap() = Some(serde_json::to_value(document).unwrap());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// A node with a DNS name that trusts this server's certificate.
    async fn node(&self, backend: MemoryBackend, notaries: &[&str]) -> TestNode {
        let root = self.folder.path().join("cert.pem");
        let notaries = notaries.iter().map(|name| (*name).to_owned()).collect();
        TestNode::start_on_web(backend, WebChoice::Real, move |config| {
            config.server_name = Some("node.test".to_owned());
            config.federation.extra_roots = vec![root];
            config.federation.allow_private_addresses = true;
            config.federation.trusted_key_servers = notaries;
        })
        .await
    }
}

fn now(id: &str) -> Vec<(String, Use)> {
    vec![(format!("ed25519:{id}"), Use::Request(START_MS))]
}

#[tokio::test]
async fn many_that_need_one_key_ask_once_and_it_outlasts_a_restart() {
    let publisher = Publisher::start().await;
    publisher.publish(1, "a", START_MS + 1_000_000);
    let backend = MemoryBackend::new();
    let node = publisher.node(backend.clone(), &[]).await;
    let needed = now("a");
    let all = join_all((0..300).map(|_| of(node.node(), &publisher.name, &needed, For::Requests))).await;
    assert!(all.iter().all(|row| row.as_ref().is_some_and(|row| row.keys["ed25519:a"].expired.is_none())));
    assert_eq!(publisher.asked(), 1);
    node.handle.stop().await;

    let node = publisher.node(node.backend, &[]).await;
    assert!(of(node.node(), &publisher.name, &needed, For::Requests).await.is_some());
    assert_eq!(publisher.asked(), 1);
}

#[tokio::test]
async fn servers_that_do_not_answer_keep_nobody_waiting_but_those_who_need_their_keys() {
    // Connections are taken by the system, and nobody speaks.
    let silent = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let names =
        |net: usize| (1..=32).map(move |host| OwnedServerName::try_from(format!("127.1.{net}.{host}:{port}")).unwrap());
    let publisher = Publisher::start().await;
    publisher.publish(1, "a", START_MS + 1_000_000);
    let node = publisher.node(MemoryBackend::new(), &[]).await;
    // As many queries as one peer may make at a time, events that name many servers, rooms of such servers, and requests.
    let queries: Vec<BTreeMap<_, _>> = (0..4).map(|net| names(net).map(|name| (name, START_MS)).collect()).collect();
    let needs: Vec<Needs> = (4..8).map(|net| names(net).map(|name| (name, now("x"))).collect()).collect();
    let requests: Vec<OwnedServerName> = names(8).take(24).collect();
    let of_publisher = Needs::from([(publisher.name.clone(), now("a"))]);
    let node = node.node();
    let mut waiting: Vec<BoxFuture<'_, ()>> = Vec::new();
    waiting.extend(queries.iter().map(|asked| attested(node, asked).map(drop).boxed()));
    for (needs, purpose) in needs.iter().zip([For::Events, For::Events, For::Events, For::Rooms]) {
        waiting.push(gather(node, needs, purpose).map(drop).boxed());
    }
    waiting.extend(requests.iter().map(|server| for_request(node, server, "ed25519:x").map(drop).boxed()));
    for wait in &mut waiting {
        assert!(wait.as_mut().now_or_never().is_none());
    }
    let honest = async {
        assert!(for_request(node, &publisher.name, "ed25519:a").await.is_some());
        for purpose in [For::Events, For::Rooms, For::Others] {
            // As if it were not known yet.
            let keys = &node.federation.keys;
            keys.state().known.clear();
            keys.state().tried.clear();
            let name = publisher.name.to_string();
            node.store.write(move |tx| SERVER_KEYS.delete(tx, &name)).await.unwrap();
            let got = match purpose {
                For::Others => attested(node, &[(publisher.name.clone(), START_MS)].into()).await.len(),
                _ => gather(node, &of_publisher, purpose).await.len(),
            };
            assert_eq!(got, 1, "{purpose:?}");
        }
        assert_eq!(publisher.asked(), 4);
    };
    let either = future::select(join_all(waiting), Box::pin(honest));
    match timeout(&SystemClock::new(), Duration::from_secs(30), either).await {
        Ok(future::Either::Right(_)) => {}
        Ok(future::Either::Left(_)) => panic!("nobody answers them"),
        Err(_) => panic!("who is there waits for those who are not"),
    }
}

#[tokio::test]
async fn a_server_without_the_key_is_not_asked_again_at_once_and_a_key_that_went_verifies_what_it_signed() {
    let publisher = Publisher::start().await;
    let node = publisher.node(MemoryBackend::new(), &[]).await;
    // Nothing is published yet.
    for _ in 0..3 {
        assert!(of(node.node(), &publisher.name, &now("a"), For::Requests).await.is_none());
    }
    assert_eq!(publisher.asked(), 1);
    publisher.publish(1, "a", START_MS + 1_000_000);
    node.clock.advance(Duration::from_secs(15));
    assert!(of(node.node(), &publisher.name, &now("a"), For::Requests).await.is_some());
    // Another key takes its place.
    publisher.publish(2, "b", START_MS + 1_000_000);
    let row = of(node.node(), &publisher.name, &now("b"), For::Requests).await.unwrap();
    assert!(!row.keys.contains_key("ed25519:b"), "asked a moment ago");
    node.clock.advance(Duration::from_secs(60));
    let row = of(node.node(), &publisher.name, &now("b"), For::Requests).await.unwrap();
    assert_eq!(publisher.asked(), 3);
    assert!(usable(&row, "ed25519:b", Use::Request(START_MS)).is_some());
    assert!(usable(&row, "ed25519:a", Use::Request(START_MS)).is_none());
    assert!(usable(&row, "ed25519:a", Use::EventAt(START_MS)).is_some());
    // The same ID with another key is noted.
    publisher.publish(3, "b", START_MS + 1_000_000);
    node.clock.advance(Duration::from_secs(60));
    let _ = of(node.node(), &publisher.name, &now("c"), For::Requests).await;
    assert_eq!(node.node().federation.stats.keys_changed.get(), 1);
}

#[tokio::test]
async fn a_notary_is_asked_where_the_server_itself_does_not_answer_and_only_a_trusted_one() {
    let publisher = Publisher::start().await;
    publisher.publish(3, "n", START_MS + 1_000_000);
    let silent = OwnedServerName::try_from(SILENT).unwrap();
    for (notaries, known) in [(&[publisher.name.as_str()][..], true), (&[][..], false)] {
        let node = publisher.node(MemoryBackend::new(), notaries).await;
        let row = match from_anywhere(node.node(), &silent).await {
            Ok(row) => Some(row),
            Err(reason) => {
                assert!(!known, "{reason}");
                None
            }
        };
        assert_eq!(row.is_some_and(|row| row.keys.contains_key("ed25519:a")), known);
    }
    // One that signs with another key than it publishes is not believed.
    publisher.publish(4, "n", START_MS + 1_000_000);
    let node = publisher.node(MemoryBackend::new(), &[]).await;
    let error = from_notary(node.node(), &publisher.name, &silent).await.unwrap_err();
    assert!(error.contains("signature"), "{error}");
}

#[tokio::test]
async fn requests_of_a_dns_server_are_verified_by_its_published_key() {
    let publisher = Publisher::start().await;
    publisher.publish(1, "a", START_MS + 1_000_000);
    let node = publisher.node(MemoryBackend::new(), &[]).await;
    let own = node.node().server_name().to_owned();
    for (key, good) in [(pair(1, "a"), true), (pair(2, "a"), false), (pair(1, "b"), false)] {
        let uri = "/_matrix/federation/v1/query/profile?user_id=%40nobody%3Anode.test";
        let mut request = http::Request::get(uri).body(Vec::new()).unwrap();
        assert!(signing::sign(&mut request, &publisher.name, &own, &key));
        let request = request.map(axum::body::Body::from);
        let answer = tower::ServiceExt::oneshot(node.handle.server_router(), request).await.unwrap();
        let expected = if good { http::StatusCode::NOT_FOUND } else { http::StatusCode::UNAUTHORIZED };
        assert_eq!(answer.status(), expected, "{}", key.version());
    }
    assert_eq!(node.node().federation.stats.unsigned_requests.get(), 2);
    assert_eq!(publisher.asked(), 1);
}

#[tokio::test]
async fn a_node_vouches_for_the_keys_of_others_and_its_own_signature_stands_beside_theirs() {
    let publisher = Publisher::start().await;
    publisher.publish(1, "a", START_MS + 1_000_000);
    let node = publisher.node(MemoryBackend::new(), &[]).await;
    let asked = BTreeMap::from([(publisher.name.clone(), START_MS)]);
    let documents = attested(node.node(), &asked).await;
    let [document] = &documents[..] else { panic!("{documents:?}") };
    let own = node.node().identity.public();
    assert!(
        is_signed_by(document, node.node().server_name(), |id| (id == "ed25519:0").then_some(own.as_bytes())).unwrap()
    );
    assert!(super::document::read(document.clone(), &publisher.name, START_MS).is_ok());
    // Known now: not asked again, unless it has to be valid for longer.
    assert_eq!(attested(node.node(), &asked).await.len(), 1);
    assert_eq!(publisher.asked(), 1);
}
