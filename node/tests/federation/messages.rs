//! Messages between nodes: order, absence, lost answers, restarts.

use kith::rooms::{Draft, Received, read};
use kith_store::tables::rooms::{EventStatus, OUTGOING};
use kith_transport::memory::{Fault, MemoryHub};
use serde_json::json;

use crate::{
    without::Lack,
    world::{Peer, object, until},
};

/// Two nodes in one room.
pub async fn pair() -> (MemoryHub, Peer, Peer, ruma::OwnedRoomId) {
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
    let room = one.public_room().await.id().to_owned();
    two.join(&room, &one).await.expect("the join succeeds");
    (hub, one, two, room)
}

/// Bodies of messages that differ by their number.
pub fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix} {number}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_go_both_ways_in_order_and_the_state_is_the_same() {
    let (_hub, one, two, room) = pair().await;
    assert_eq!(one.state(&room), two.state(&room));
    for number in 0..20 {
        one.say(&room, &format!("one {number}")).await;
    }
    until("the messages come", || two.messages(&room) == numbered("one", 20)).await;
    for number in 0..20 {
        two.say(&room, &format!("two {number}")).await;
    }
    let all = [numbered("one", 20), numbered("two", 20)].concat();
    until("the answers come", || one.messages(&room) == all).await;
    assert_eq!(two.messages(&room), all);
    assert_eq!(one.state(&room), two.state(&room));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_a_transaction_makes_nothing_appear_twice() {
    let (hub, one, two, room) = pair().await;
    one.say(&room, "before").await;
    until("the first comes", || two.messages(&room) == ["before"]).await;
    hub.fail(one.key(), two.key(), 0, Fault::LoseResponse);
    one.say(&room, "once").await;
    until("it comes", || two.messages(&room) == ["before", "once"]).await;
    one.say(&room, "after").await;
    until("the next comes", || two.messages(&room).len() >= 3).await;
    assert_eq!(two.messages(&room), ["before", "once", "after"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_cut_off_while_200_messages_are_written_gets_all_in_order() {
    let (hub, one, two, room) = pair().await;
    hub.cut(one.key(), two.key());
    for number in 0..200 {
        one.say(&room, &format!("one {number}")).await;
    }
    two.say(&room, "alone").await;
    assert_eq!(two.messages(&room), ["alone"]);
    hub.heal(one.key(), two.key());
    until("all come", || two.messages(&room).len() >= 201 && one.messages(&room).len() >= 201).await;
    let ours: Vec<_> = two.messages(&room).into_iter().filter(|body| body != "alone").collect();
    assert_eq!(ours, numbered("one", 200));
    assert_eq!(one.messages(&room).len(), 201);
    assert_eq!(one.state(&room), two.state(&room));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_survives_a_crash_of_the_sender() {
    let (hub, mut one, two, room) = pair().await;
    hub.cut(one.key(), two.key());
    for number in 0..10 {
        one.say(&room, &format!("one {number}")).await;
    }
    one.crash().await;
    assert_eq!(two.messages(&room), Vec::<String>::new());
    hub.heal(one.key(), two.key());
    until("the messages come", || two.messages(&room) == numbered("one", 10)).await;
}

/// Makes the sender believe it has sent all.
pub async fn forget_queue(of: &Peer, server: &str) {
    let server = server.to_owned();
    of.node()
        .store
        .write(move |tx| {
            let rows: Vec<_> = OUTGOING.prefix(tx, &server)?.collect::<Result<_, _>>()?;
            for (key, (_, latest)) in rows {
                OUTGOING.put(tx, &key, &(latest, latest))?;
            }
            Ok::<(), kith_store::StoreError>(())
        })
        .await
        .expect("written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_are_compared_when_the_sender_believes_it_has_sent_all() {
    let (hub, one, two, room) = pair().await;
    // The sender's queue forgets what it did not send.
    hub.cut(one.key(), two.key());
    for number in 0..5 {
        one.say(&room, &format!("one {number}")).await;
    }
    let server = two.node().server_name().to_string();
    forget_queue(&one, &server).await;
    hub.heal(one.key(), two.key());
    until("the messages come", || two.messages(&room) == numbered("one", 5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_node_hands_on_what_two_cannot_tell_each_other() {
    let hub = MemoryHub::new();
    let (one, two, three) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await, Peer::new(&hub, 3).await);
    let room = one.public_room().await.id().to_owned();
    two.join(&room, &one).await.expect("joined");
    three.join(&room, &two).await.expect("joined");
    until("all know of the third", || one.state(&room) == three.state(&room)).await;
    hub.cut(one.key(), three.key());
    one.say(&room, "for all").await;
    until("the second has it", || two.messages(&room) == ["for all"]).await;
    two.say(&room, "seen").await;
    until("the third has both", || three.messages(&room) == ["for all", "seen"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_to_a_room_is_not_sent_what_was_said_meanwhile() {
    let (_hub, one, two, room) = pair().await;
    let leave = two.user.clone();
    two.set_member(&room, &leave, "leave").await;
    until("the leave is known", || one.membership(&room, &leave) == Some(4)).await;
    one.say(&room, "among us").await;
    two.join(&room, &one).await.expect("joined again");
    one.say(&room, "welcome back").await;
    until("the welcome comes", || two.messages(&room).contains(&"welcome back".to_owned())).await;
    assert_eq!(two.messages(&room), ["welcome back"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_that_cannot_be_filled_is_bridged_and_its_history_fetched_later() {
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::without(&hub, 2, Lack::Endpoints(&["get_missing_events"])).await);
    let room = one.public_room().await.id().to_owned();
    two.join(&room, &one).await.expect("joined");
    hub.cut(one.key(), two.key());
    for number in 0..60 {
        one.say(&room, &format!("one {number}")).await;
    }
    let topic = object(json!({"topic": "changed meanwhile"}));
    one.room(&room).send(Draft::state(one.user.clone(), "m.room.topic", "", topic)).await.expect("sent");
    one.say(&room, "last").await;
    hub.heal(one.key(), two.key());
    until("the latest comes", || two.messages(&room) == ["last"]).await;
    assert_eq!(one.state(&room), two.state(&room), "the state came with it");
    one.say(&room, "live").await;
    until("the room goes on", || two.messages(&room) == ["last", "live"]).await;
    two.say(&room, "answer").await;
    until("both ways", || one.messages(&room).last().is_some_and(|body| body == "answer")).await;
    let mut fetched = 0;
    while let Ok(count @ 1..) = two.node().federation.backfill(&two.room(&room), None, 20).await {
        fetched += count;
        assert!(fetched < 1_000);
    }
    assert!(fetched >= 61, "{fetched}");
    assert_eq!(two.messages(&room), ["last", "live", "answer"], "history is not shown as new");
    assert!(two.node().federation.stats.gaps_bridged.get() >= 1);
}

/// One room of three, the first and the second of whom cannot reach each other.
async fn three(lack: Lack) -> (MemoryHub, [Peer; 3], ruma::OwnedRoomId) {
    let hub = MemoryHub::new();
    let (one, two, three) = (Peer::new(&hub, 1).await, Peer::without(&hub, 2, lack).await, Peer::new(&hub, 3).await);
    let room = one.public_room().await.id().to_owned();
    two.join(&room, &one).await.expect("joined");
    three.join(&room, &one).await.expect("joined");
    until("all know of the third", || two.state(&room) == three.state(&room)).await;
    hub.cut(one.key(), two.key());
    (hub, [one, two, three], room)
}

/// Two events of one moment reach servers in different orders. A server was asked what lies before an event that it had not yet,
/// told nothing, had the event a moment later when its state was asked for, and what lay between was bridged over and
/// shown to nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_did_not_have_yet_when_it_was_asked_is_not_bridged_over() {
    let (_hub, [one, two, three], room) = three(Lack::FirstMissingEvents).await;
    for body in ["first", "second"] {
        one.say(&room, body).await;
    }
    until("the third has both", || three.messages(&room) == ["first", "second"]).await;
    three.say(&room, "third").await;
    until("all come in order", || two.messages(&room) == ["first", "second", "third"]).await;
    assert_eq!(two.node().federation.stats.gaps_bridged.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_was_bridged_over_is_shown_when_it_comes_by_itself() {
    let (hub, [one, two, three], room) = three(Lack::Endpoints(&["get_missing_events", "/event/"])).await;
    one.say(&room, "first").await;
    let topic = object(json!({"topic": "of the first"}));
    one.room(&room).send(Draft::state(one.user.clone(), "m.room.topic", "", topic)).await.expect("sent");
    until("the third has it", || three.state(&room) == one.state(&room)).await;
    three.say(&room, "answer").await;
    until("the answer is there", || two.messages(&room) == ["answer"]).await;
    until("it is counted", || two.node().federation.stats.gaps_bridged.get() == 1).await;
    hub.heal(one.key(), two.key());
    until("the first comes too", || two.messages(&room) == ["answer", "first"]).await;
    assert_eq!(two.state(&room), one.state(&room), "and changes nothing");
    two.say(&room, "seen").await;
    until("the room goes on", || one.messages(&room) == ["first", "answer", "seen"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_with_and_without_a_zone_meet_in_a_room() {
    let hub = MemoryHub::new();
    let zoned = Peer::with(&hub, 1, |config| config.gateway_zone = Some("mesh.example.org".to_owned())).await;
    let bare = Peer::new(&hub, 2).await;
    assert!(zoned.user.as_str().ends_with(".mesh.example.org"));
    let room = zoned.public_room().await.id().to_owned();
    bare.join(&room, &zoned).await.expect("joined");
    zoned.say(&room, "one").await;
    until("it comes", || bare.messages(&room) == ["one"]).await;
    hub.cut(zoned.key(), bare.key());
    bare.say(&room, "two").await;
    hub.heal(zoned.key(), bare.key());
    until("the answer comes", || zoned.messages(&room) == ["one", "two"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_parked_before_a_crash_is_completed_after_it() {
    let (hub, one, mut two, room) = pair().await;
    one.say(&room, "zero").await;
    until("it comes", || two.messages(&room) == ["zero"]).await;
    hub.isolate(two.key());
    one.say(&room, "one").await;
    let second = one.say(&room, "two").await;
    // The second alone reaches the other node, and then its plug is pulled.
    let pdu = {
        let snapshot = one.node().store.snapshot().expect("a snapshot");
        read::event_by_id(&snapshot, second.as_str()).expect("readable").expect("stored").row.json
    };
    let event = kith_room::receive::receive(&pdu, two.room(&room).version(), &Default::default()).expect("valid");
    let origin = one.node().server_name().to_string();
    let results = two.room(&room).receive(&origin, vec![event.into()]).await.expect("received");
    assert!(matches!(results[0].1, Received::Parked { .. }));
    let server = two.node().server_name().to_string();
    forget_queue(&one, &server).await;
    two.crash().await;
    assert_eq!(two.messages(&room), ["zero"]);
    hub.rejoin(two.key());
    until("both come", || two.messages(&room) == ["zero", "one", "two"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_before_the_join_is_not_fetched_as_missing_and_shown_as_new() {
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
    let room = one.public_room().await.id().to_owned();
    for number in 0..20 {
        one.say(&room, &format!("before {number}")).await;
    }
    two.join(&room, &one).await.expect("joined");
    for round in 0..3 {
        hub.cut(one.key(), two.key());
        for number in 0..20 {
            one.say(&room, &format!("one {round} {number}")).await;
            two.say(&room, &format!("two {round} {number}")).await;
        }
        // Too much for the queue: the rest is fetched.
        let server = two.node().server_name().to_string();
        forget_queue(&one, &server).await;
        hub.heal(one.key(), two.key());
        let all = 40 * (round + 1);
        until("all come", || two.messages(&room).len() >= all && one.messages(&room).len() >= all + 20).await;
        assert_eq!((two.messages(&room).len(), one.messages(&room).len()), (all, all + 20));
    }
    assert!(two.messages(&room).iter().all(|body| !body.starts_with("before")));
    assert_eq!(one.state(&room), two.state(&room));
    let snapshot = two.node().store.snapshot().expect("a snapshot");
    let events = kith_store::tables::rooms::EVENTS.range(&snapshot, ..).expect("readable");
    let hidden = events.filter(|row| {
        let status = row.as_ref().expect("readable").1.status;
        !matches!(status, EventStatus::Accepted | EventStatus::Outlier)
    });
    assert_eq!(hidden.count(), 0, "nothing was rejected");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_events_sent_once_more_do_no_harm() {
    let (_hub, one, two, room) = pair().await;
    let create = {
        let snapshot = one.node().store.snapshot().expect("a snapshot");
        let number = read::room_number(&snapshot, room.as_str()).expect("readable").expect("known");
        read::state_event(&snapshot, number, "m.room.create", "").expect("readable").expect("there").row.json
    };
    let event = kith_room::receive::receive(&create, two.room(&room).version(), &Default::default()).expect("valid");
    let origin = one.node().server_name().to_string();
    let results = two.room(&room).receive(&origin, vec![event.into()]).await.expect("received");
    assert_eq!(results[0].1, Received::Known);
    // Another event of the state with which the room came here, whose place is before that.
    let levels = one.state(&room).into_iter().find(|(kind, ..)| kind == "m.room.power_levels").expect("there").2;
    let pdu = {
        let snapshot = one.node().store.snapshot().expect("a snapshot");
        read::event_by_id(&snapshot, &levels).expect("readable").expect("there").row.json
    };
    let event = kith_room::receive::receive(&pdu, two.room(&room).version(), &Default::default()).expect("valid");
    let results = two.room(&room).receive(&origin, vec![event.into()]).await.expect("received");
    assert!(matches!(results[0].1, Received::Parked { .. }));
    two.node().federation.fetch_missing(&room);
    until("it is dropped", || {
        let snapshot = two.node().store.snapshot().expect("a snapshot");
        two.room(&room).parked(&snapshot).expect("readable").is_empty()
    })
    .await;
    let snapshot = two.node().store.snapshot().expect("a snapshot");
    let stored = read::event_by_id(&snapshot, &levels).expect("readable").expect("there").row;
    assert_eq!((stored.status, stored.position), (EventStatus::Outlier, 0), "it is not shown as new");
    drop(snapshot);
    two.say(&room, "still here").await;
    until("it comes", || one.messages(&room) == ["still here"]).await;
}

/// `serde_json` takes one key for its own mark. Found by fuzzing: a message with it could not be signed for the other servers, and
/// nothing after it was sent; a membership with it was one to the room's rules, and none to the list of its members.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_the_json_library_knows_is_content_like_any_other() {
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
    let room = one.public_room().await.id().to_owned();
    two.join(&room, &one).await.expect("joined");
    let key = "$serde_json::private::RawValue";
    for (number, value) in [json!({}), json!("{\"membership\":\"ban\"}"), json!(1)].into_iter().enumerate() {
        let odd = serde_json::Value::Object([(key.to_owned(), value)].into_iter().collect());
        let mut content = object(json!({"membership": "join"}));
        content.insert("odd".to_owned(), odd.clone());
        let draft = Draft::state(one.user.clone(), "m.room.member", one.user.as_str(), content);
        one.room(&room).send(draft).await.expect("sent");
        let body = format!("odd {number}");
        let mut content = object(json!({"msgtype": "m.text", "body": body}));
        content.insert("odd".to_owned(), odd.clone());
        let id = one.room(&room).send(Draft::message(one.user.clone(), "m.room.message", content)).await.expect("sent");
        until("it comes", || two.messages(&room).last() == Some(&body)).await;
        let snapshot = two.node().store.snapshot().expect("a snapshot");
        let event = read::event_by_id(&snapshot, id.as_str()).expect("readable").expect("stored");
        assert_eq!(event.content()["odd"], odd);
        for peer in [&one, &two] {
            assert_eq!(peer.membership(&room, &one.user), Some(kith_store::tables::rooms::membership::JOIN));
        }
    }
    assert_eq!(one.state(&room), two.state(&room));
    two.say(&room, "answer").await;
    until("both ways", || one.messages(&room).last().is_some_and(|body| body == "answer")).await;
}
