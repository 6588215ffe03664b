//! Servers that take what they are sent in their own way: they ask for pauses, or take only so much at once.

use std::sync::{Arc, Mutex};

use http::StatusCode;
use kith::federation::outgoing::enqueue_edu;
use kith_store::{
    Json,
    tables::{
        federation::{DESTINATIONS, DestinationRow},
        rooms::OUTGOING,
    },
};
use kith_transport::{Router, full, memory::MemoryHub, read_body};
use ruma::{
    ServerName,
    api::federation::transactions::edu::{DirectDeviceContent, Edu},
};
use serde_json::{Value, json};

use crate::{
    requests::name,
    without::Lack,
    world::{Peer, key, until, until_within},
};

const OTHER: u8 = 9;

/// A server that answers transactions as `judge` says, and keeps the EDUs of those that it takes.
fn server(
    hub: &MemoryHub,
    judge: impl Fn(&Value) -> (StatusCode, Value) + Send + Sync + 'static,
) -> (Arc<kith_transport::memory::MemoryNetwork>, Arc<Mutex<Vec<String>>>) {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let judge = Arc::new(judge);
    let keep = taken.clone();
    let router = Router::new(move |request: http::Request<kith_transport::Body>| {
        let (judge, keep) = (judge.clone(), keep.clone());
        async move {
            let is_transaction = request.uri().path().contains("/send/");
            let body = read_body(request.into_body(), 1 << 20).await.unwrap_or_default();
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let (status, answer) = if is_transaction { judge(&body) } else { (StatusCode::NOT_FOUND, json!({})) };
            if status.is_success() {
                let edus = body["edus"].as_array().cloned().unwrap_or_default();
                let ids = edus.iter().filter_map(|edu| edu["content"]["message_id"].as_str().map(str::to_owned));
                keep.lock().expect("no panic").extend(ids);
            }
            let mut response = http::Response::new(full(answer.to_string()));
            *response.status_mut() = status;
            response
        }
    });
    (hub.join(key(OTHER), router), taken)
}

async fn queue(peer: &Peer, ids: &[&str]) {
    for id in ids {
        let sender = peer.user.clone();
        let now = peer.node().clock.now_ms();
        let content = DirectDeviceContent::new(sender, "org.example.note".into(), (*id).into());
        peer.node()
            .store
            .write(move |tx| enqueue_edu(tx, &name(OTHER), &Edu::DirectToDevice(content), now))
            .await
            .expect("queued");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_asks_for_a_pause_gets_it_and_does_not_count_as_away() {
    let hub = MemoryHub::new();
    let refusals = Mutex::new(3);
    let (_network, taken) = server(&hub, move |_| {
        let mut left = refusals.lock().expect("no panic");
        if *left == 0 {
            return (StatusCode::OK, json!({"pdus": {}}));
        }
        *left -= 1;
        (StatusCode::TOO_MANY_REQUESTS, json!({"errcode": "M_LIMIT_EXCEEDED", "error": "slowly", "retry_after_ms": 20}))
    });
    let one = Peer::new(&hub, 1).await;
    queue(&one, &["a", "b", "c"]).await;
    let clock = kith::platform::SystemClock::new();
    let begin = kith::platform::Clock::monotonic(&clock);
    until("all come", || *taken.lock().expect("no panic") == ["a", "b", "c"]).await;
    // As one that cannot be reached it would be tried again after 1, 2 and 4 seconds.
    let took = kith::platform::Clock::monotonic(&clock) - begin;
    assert!(took < std::time::Duration::from_secs(3), "{took:?}");
    assert!(one.node().federation.status().expect("readable").iter().all(|status| status.away_since.is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_much_at_once_for_a_server_is_sent_piece_by_piece_and_nothing_is_thrown_away() {
    let hub = MemoryHub::new();
    let (_network, taken) = server(&hub, |body| match body["edus"].as_array().map_or(0, Vec::len) {
        0 | 1 => (StatusCode::OK, json!({"pdus": {}})),
        _ => (StatusCode::PAYLOAD_TOO_LARGE, json!({"errcode": "M_TOO_LARGE", "error": "too much"})),
    });
    let one = Peer::new(&hub, 1).await;
    hub.cut(one.key(), key(OTHER));
    queue(&one, &["a", "b", "c", "d"]).await;
    hub.heal(one.key(), key(OTHER));
    until("all come in order", || *taken.lock().expect("no panic") == ["a", "b", "c", "d"]).await;
}

/// Rooms of which the disk says that this destination has not got all, and the positions up to which it has.
fn unsent(peer: &Peer, destination: &Peer) -> (usize, Vec<u64>) {
    let snapshot = peer.node().store.snapshot().expect("a snapshot");
    let rows = OUTGOING.prefix(&snapshot, &destination.node().server_name().to_string()).expect("readable");
    let rows: Vec<(u64, u64)> = rows.map(|row| row.expect("readable").1).collect();
    (rows.iter().filter(|(sent, latest)| sent < latest).count(), rows.iter().map(|(sent, _)| *sent).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_arrived_is_noted_on_the_disk_a_moment_later_or_at_the_end_and_not_sent_again_after_a_restart() {
    let hub = MemoryHub::new();
    let (mut a, b) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
    let room = a.public_room().await;
    b.join(room.id(), &a).await.expect("B joins");
    for body in ["one", "two"] {
        a.say(room.id(), body).await;
    }
    until("B has both", || b.messages(room.id()) == ["one", "two"]).await;
    // `kith status` does not wait for the disk.
    until("nothing waits", || a.node().federation.status().expect("readable").iter().all(|to| to.rooms == 0)).await;
    until("the positions are written", || unsent(&a, &b).0 == 0).await;
    a.crash().await;
    let before = b.node().federation.stats.transactions_in.get();
    a.say(room.id(), "three").await;
    until("B has the third", || b.messages(room.id()).len() == 3).await;
    assert_eq!(b.node().federation.stats.transactions_in.get(), before + 1, "the first two did not come again");
    // At the end in good order nobody waits a second for it.
    until("it is acknowledged", || a.node().federation.status().expect("readable").iter().all(|to| to.rooms == 0))
        .await;
    let (_, written) = unsent(&a, &b);
    a.restart().await;
    let (waiting, kept) = unsent(&a, &b);
    assert!(waiting == 0 && kept >= written, "{waiting} rooms wait, sent {kept:?}, before {written:?}");
}

/// Servers that are gone for good, in a room of many: each is tried now and then, and what goes to the others does not wait for them.
/// Queues something for so many servers that are nowhere. `failed`: they could not be reached before, either.
async fn queue_for_nobody(peer: &Peer, servers: usize, failed: bool) {
    let now = peer.node().clock.now_ms();
    let sender = peer.user.clone();
    let queue = move |tx: &mut kith_store::Tx| {
        for number in 0..servers {
            let mut seed = [7; 32];
            seed[..8].copy_from_slice(&number.to_le_bytes());
            let gone = kith_transport::SecretKey::from_seed(seed).public().to_string();
            let content = DirectDeviceContent::new(sender.clone(), "org.example.note".into(), "id".into());
            enqueue_edu(tx, &ServerName::parse(&gone).expect("a name"), &Edu::DirectToDevice(content), now)?;
            if failed {
                let row = DestinationRow { failing_since: now, ..DestinationRow::default() };
                DESTINATIONS.put(tx, &gone, &Json(row))?;
            }
        }
        Ok::<_, kith_store::StoreError>(())
    };
    peer.node().store.write(queue).await.expect("queued");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_servers_that_are_gone_hold_up_nobody_and_are_left_in_peace() {
    const GONE: usize = 400;
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
    let room = one.public_room().await.id().to_owned();
    two.join(&room, &one).await.expect("joined");
    queue_for_nobody(&one, GONE, false).await;
    let stats = &one.node().federation.stats;
    let away = || one.node().federation.status().expect("readable").iter().filter(|to| to.away_since.is_some()).count();
    until("all were tried", || away() == GONE).await;
    // From here on each has its time, one second after the first attempt, then two ...
    let (clock, before) = (kith::platform::SystemClock::new(), stats.transactions_failed.get());
    let begin = kith::platform::Clock::monotonic(&clock);
    for number in 0..50 {
        one.say(&room, &format!("message {number}")).await;
        until("it comes", || two.messages(&room).len() == number + 1).await;
    }
    let took = kith::platform::Clock::monotonic(&clock) - begin;
    assert!(took < std::time::Duration::from_secs(10), "50 messages took {took:?}");
    let tried = stats.transactions_failed.get() - before;
    let most = GONE as u64 * u64::from((took.as_secs() + 2).ilog2() + 1);
    assert!(tried <= most, "{tried} attempts in {took:?}");
    assert_eq!(away(), GONE);
}

/// They take connections and requests, and never say a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_servers_that_never_answer_hold_up_nobody_for_long_and_after_a_restart_not_at_all() {
    const SILENT: usize = 700;
    let hub = MemoryHub::new();
    let (mut one, two) = (Peer::without(&hub, 1, Lack::Silence).await, Peer::new(&hub, 2).await);
    let room = one.public_room().await.id().to_owned();
    two.join(&room, &one).await.expect("joined");
    queue_for_nobody(&one, SILENT, false).await;
    until("some are tried", || one.node().federation.stats.transactions_out.get() > 200).await;
    one.say(&room, "hello").await;
    until_within(25, "it comes", || two.messages(&room) == ["hello"]).await;

    queue_for_nobody(&one, SILENT, true).await;
    one.restart().await;
    until("all are tried", || one.node().federation.stats.transactions_out.get() >= SILENT as u64).await;
    let (clock, mut slowest) = (kith::platform::SystemClock::new(), std::time::Duration::ZERO);
    for number in 2..20 {
        let begin = kith::platform::Clock::monotonic(&clock);
        one.say(&room, &format!("message {number}")).await;
        until("it comes", || two.messages(&room).len() == number).await;
        slowest = slowest.max(kith::platform::Clock::monotonic(&clock) - begin);
    }
    assert!(slowest < std::time::Duration::from_secs(2), "{slowest:?}");
}
