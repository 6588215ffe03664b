//! The simulated network, without nodes: bodies go in parts, giving up is heard of, and who is behind address translation begins.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::FutureExt as _;
use kith::platform::{InlineSpawner, Spawner};
use kith_simulator::engine::{Engine, seconds};
use kith_simulator::network::{Air, Passed, Port};
use kith_simulator::scenario::{Nat, NatKind, Network};
use kith_transport::{Body, Class, Network as _, Router, SecretKey, ServerKey, full, read_body};

/// What was carried, and what the servers made of it.
type Log = Arc<Mutex<Vec<String>>>;

struct Net {
    engine: Engine,
    air: Air,
    keys: Vec<ServerKey>,
    log: Log,
}

impl Net {
    /// Two nodes with 80 kbit/s (10 kB a second) up.
    fn new(network: Network) -> Self {
        let engine = Engine::new();
        let keys: Vec<ServerKey> = (1..=2).map(|seed| SecretKey::from_seed([seed; 32]).public()).collect();
        let log = Log::default();
        let seen = log.clone();
        let observer = Arc::new(move |from, to, passed: Passed<'_>, _| {
            let what = match passed {
                Passed::Request { path, .. } => path.to_owned(),
                Passed::Answer { status } => status.to_string(),
                Passed::More => "more".to_owned(),
                Passed::Lost => "lost".to_owned(),
            };
            seen.lock().unwrap().push(format!("{from}>{to} {what}"));
        });
        let network = Network { up_kbit: 80, notice_ms: 1_000.0, ..network };
        let air = Air::new(engine.timeline().clone(), &network, &keys, &[(0, 1)].into(), 1, observer);
        Self { engine, air, keys, log }
    }

    /// A node that says what it was sent, two seconds later.
    fn join(&self, number: usize) -> (Arc<Port>, InlineSpawner) {
        let (log, timeline) = (self.log.clone(), self.engine.timeline().clone());
        let router = Router::new(move |request: http::Request<Body>| {
            let (log, timeline) = (log.clone(), timeline.clone());
            async move {
                let read = read_body(request.into_body(), 1 << 20).await;
                let told = read.map_or_else(|error| format!("broke: {error}"), |body| format!("read {}", body.len()));
                log.lock().unwrap().push(told.clone());
                timeline.sleep(seconds(2.0)).await;
                log.lock().unwrap().push("carried out".to_owned());
                http::Response::new(full(told))
            }
        });
        let spawner = self.engine.spawner();
        let shared: Arc<dyn Spawner> = Arc::new(spawner.clone());
        (self.air.join(self.keys[number], router, shared).unwrap(), spawner)
    }

    /// Sends so many bytes from node 0 to node 1; dropping what `spawner` runs gives up.
    fn upload(&self, port: &Arc<Port>, spawner: &InlineSpawner, bytes: usize) {
        let request = http::Request::put("/upload").body(full(Bytes::from(vec![1; bytes]))).unwrap();
        let (sent, log) = (port.request(self.keys[1], Class::Bulk, request), self.log.clone());
        let task = async move {
            let answer = match sent.await {
                Ok(response) => read_body(response.into_body(), 1 << 20)
                    .await
                    .map_or("broke".into(), |body| String::from_utf8_lossy(&body).into_owned()),
                Err(error) => format!("no answer: {error}"),
            };
            log.lock().unwrap().push(format!("answered {answer}"));
        };
        spawner.spawn("upload", task.boxed());
    }

    fn until(&self, at_s: f64) -> Vec<String> {
        self.engine.run_until(seconds(at_s), || false);
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}

#[test]
fn a_large_request_goes_in_parts_and_arrives_whole() {
    let net = Net::new(Network::default());
    let ((one, spawner), _other) = (net.join(0), net.join(1));
    net.upload(&one, &spawner, 150_000);
    // The first part takes 6.6 seconds, all of it 15.
    assert_eq!(net.until(8.0), ["0>1 /upload"]);
    assert_eq!(net.until(16.0), ["0>1 more", "0>1 more", "read 150000"]);
    assert_eq!(net.until(30.0), ["carried out", "1>0 200", "answered read 150000"]);
}

#[test]
fn a_link_that_goes_under_a_large_request_breaks_its_body_at_the_other_side() {
    let net = Net::new(Network::default());
    let ((one, spawner), _other) = (net.join(0), net.join(1));
    net.upload(&one, &spawner, 150_000);
    net.until(8.0);
    net.air.switch((0, 1), false);
    let log = net.until(60.0);
    assert_eq!(log[0], "0>1 lost");
    assert!(log[1].starts_with("broke: "), "{log:?}");
    assert!(log.last().unwrap().starts_with("answered no answer"), "{log:?}");
}

#[test]
fn a_small_request_is_carried_out_though_its_sender_gave_up_and_is_not_answered() {
    let net = Net::new(Network::default());
    let ((one, spawner), _other) = (net.join(0), net.join(1));
    net.upload(&one, &spawner, 100);
    assert_eq!(net.until(1.0), ["0>1 /upload", "read 100"]);
    assert_eq!(net.air.under_way(0), 1);
    assert!(spawner.shutdown().now_or_never().is_some());
    assert_eq!(net.air.under_way(0), 0);
    assert_eq!(net.until(60.0), ["carried out"]);
}

#[test]
fn a_sender_that_gives_up_sends_no_more_of_a_large_request() {
    let net = Net::new(Network::default());
    let ((one, spawner), _other) = (net.join(0), net.join(1));
    net.upload(&one, &spawner, 150_000);
    net.until(8.0);
    assert!(spawner.shutdown().now_or_never().is_some());
    let log = net.until(60.0);
    assert_eq!(log[..2], ["0>1 more", "broke: the body broke off: the sender gave up"], "what was on its way arrives");
    assert!(!log.iter().any(|line| line.starts_with("1>0")), "{log:?}");
}

#[test]
fn a_node_behind_address_translation_dials_and_is_not_dialled() {
    let nat = vec![Nat { kind: NatKind::Closed, share: 0.5 }];
    let net = Net::new(Network { nat, ..Network::default() });
    let hidden = usize::from(
        kith_simulator::network::conditions::nats(&[Nat { kind: NatKind::Closed, share: 0.5 }], 2, 1)[1].is_some(),
    );
    let (_open, _hidden) = (net.join(1 - hidden), net.join(hidden));
    assert!(net.air.linked(0, 1), "who comes dials");
    net.air.leave(1 - hidden as u32);
    let _again = net.join(1 - hidden);
    assert!(!net.air.linked(0, 1), "what is open cannot dial the other");
    net.until(1.5);
    assert!(net.air.linked(0, 1), "the other looks for it again");
}
