//! Rooms of every version between nodes.

use kith::rooms::{Draft, Received, read};
use kith_room::{Document, Signer, receive::receive};
use kith_store::tables::rooms::membership::{INVITE, JOIN, LEAVE};
use kith_transport::memory::MemoryHub;
use ruma::{EventId, OwnedEventId, RoomId, RoomVersionId, signatures::PublicKeyMap};
use serde_json::{Map, Value, json};

use crate::{
    client::Client,
    memberships::invite,
    requests::{key_pair, name},
    without::Lack,
    world::{Peer, until},
};

fn versions() -> impl Iterator<Item = RoomVersionId> {
    (1..=12).map(|number: u32| RoomVersionId::try_from(number.to_string()).expect("a room version"))
}

async fn redact(peer: &Peer, room: &RoomId, target: &EventId) -> OwnedEventId {
    let mut draft = Draft::message(peer.user.clone(), "m.room.redaction", Map::new());
    draft.redacts = Some(target.to_owned());
    peer.room(room).send(draft).await.expect("a redaction is sent")
}

/// Whether a node has the event, without its content.
fn is_redacted(peer: &Peer, event: &EventId) -> bool {
    let snapshot = peer.node().store.snapshot().expect("a snapshot");
    let event = read::event_by_id(&snapshot, event.as_str()).expect("readable");
    event.is_some_and(|event| event.content().is_empty())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_of_every_version_are_made_joined_used_and_redacted_across_nodes() {
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
    for version in versions() {
        let room = one.create_room(version.clone(), json!({"join_rule": "public"})).await.id().to_owned();
        two.join(&room, &one).await.expect("the join succeeds");
        assert_eq!(one.state(&room), two.state(&room), "version {version}");
        let hers = one.say(&room, "hers").await;
        until("her message comes", || two.messages(&room) == ["hers"]).await;
        let his = two.say(&room, "his").await;
        let also_his = two.say(&room, "also his").await;
        until("his messages come", || one.messages(&room) == ["hers", "his", "also his"]).await;

        redact(&two, &room, &his).await;
        until("his own redaction takes effect", || is_redacted(&one, &his) && is_redacted(&two, &his)).await;
        redact(&one, &room, &also_his).await;
        until("hers, by her power, does too", || is_redacted(&one, &also_his) && is_redacted(&two, &also_his)).await;
        // He has no power over her message. In versions 1 and 2 his redaction is not even allowed.
        let mut draft = Draft::message(two.user.clone(), "m.room.redaction", Map::new());
        draft.redacts = Some(hers.clone());
        let sent = two.room(&room).send(draft).await;
        assert_eq!(sent.is_err(), matches!(version, RoomVersionId::V1 | RoomVersionId::V2), "version {version}");
        two.say(&room, "last").await;
        until("what follows comes", || one.messages(&room).last().is_some_and(|last| last == "last")).await;
        assert!(!is_redacted(&one, &hers) && !is_redacted(&two, &hers), "version {version}");
        assert_eq!(one.state(&room), two.state(&room), "version {version}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invites_and_leaves_work_in_rooms_of_every_version() {
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
    for version in versions() {
        let room = one.create_room(version.clone(), json!({"join_rule": "invite"})).await.id().to_owned();
        two.join(&room, &one).await.expect_err("not invited");
        invite(&one, &room, &two).await.expect("invited");
        assert_eq!(two.membership(&room, &two.user), Some(INVITE), "version {version}");
        two.join(&room, &one).await.expect("joined");
        until("the join is known", || one.membership(&room, &two.user) == Some(JOIN)).await;
        two.set_member(&room, &two.user, "leave").await;
        until("the leave is known", || one.membership(&room, &two.user) == Some(LEAVE)).await;
        // Invited again, and declined from outside.
        invite(&one, &room, &two).await.expect("invited again");
        two.node().federation.leave(&two.user, &room, &Map::new()).await.expect("declined");
        until("the refusal is known", || one.membership(&room, &two.user) == Some(LEAVE)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_knows_only_the_first_way_to_be_invited_is_invited_so_into_rooms_of_its_time() {
    let hub = MemoryHub::new();
    let (one, two) = (Peer::without(&hub, 1, Lack::Endpoints(&["/v2/invite/"])).await, Peer::new(&hub, 2).await);
    for version in [RoomVersionId::V1, RoomVersionId::V2] {
        let room = one.create_room(version.clone(), json!({"join_rule": "invite"})).await.id().to_owned();
        invite(&one, &room, &two).await.expect("invited");
        assert_eq!(two.membership(&room, &two.user), Some(INVITE), "version {version}");
        assert_eq!(one.membership(&room, &two.user), Some(INVITE), "version {version}");
        let sync = Client::of(&two).await.get("/sync?timeout=0").await;
        let state = sync["rooms"]["invite"][room.as_str()]["invite_state"]["events"].as_array().expect("state").clone();
        assert!(state.iter().any(|event| event["content"]["name"] == "a room"), "{state:?}");
        two.join(&room, &one).await.expect("joined");
        until("the join is known", || one.membership(&room, &two.user) == Some(JOIN)).await;
    }
    let room = one.create_room(RoomVersionId::V10, json!({"join_rule": "invite"})).await.id().to_owned();
    let refused = invite(&one, &room, &two).await.expect_err("it knows no such rooms");
    assert_eq!(refused.status, http::StatusCode::NOT_FOUND, "{refused:?}");
    assert_eq!((one.membership(&room, &two.user), two.membership(&room, &two.user)), (None, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_missed_is_fetched_and_a_restart_loses_nothing_in_rooms_of_every_version() {
    let hub = MemoryHub::new();
    let (mut one, two) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
    let mut rooms = Vec::new();
    for version in versions() {
        let room = one.create_room(version, json!({"join_rule": "public"})).await.id().to_owned();
        two.join(&room, &one).await.expect("the join succeeds");
        rooms.push(room);
    }
    hub.cut(one.key(), two.key());
    let server = two.node().server_name().to_string();
    for room in &rooms {
        for number in 0..3 {
            one.say(room, &format!("one {number}")).await;
        }
        two.say(room, "two").await;
    }
    // The queue forgets what it did not send: the heads that are compared, and what they rest on, are fetched.
    crate::messages::forget_queue(&one, &server).await;
    hub.heal(one.key(), two.key());
    for room in &rooms {
        until("all come", || two.messages(room).len() == 4 && one.messages(room).len() == 4).await;
    }
    one.crash().await;
    for room in &rooms {
        assert_eq!(one.messages(room).len(), 4);
        one.say(room, "on").await;
        until("it goes on", || two.messages(room).len() == 5).await;
        assert_eq!(one.state(room), two.state(room));
    }
}

/// In versions 1 and 2 servers name their events as they like. Once the second of two events with one name took the place of
/// the first one in the index of all events, and the first one's room could not be read any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_with_the_name_of_another_rooms_event_takes_nothing_from_that_room() {
    let hub = MemoryHub::new();
    let one = Peer::new(&hub, 1).await;
    let key = key_pair(2);
    let stranger = name(2);
    let named = |room: &RoomId| {
        let event = json!({
            "event_id": format!("$same:{stranger}"), "type": "m.room.message", "sender": format!("@x:{stranger}"),
            "room_id": room, "content": {"body": room}, "depth": 9, "origin_server_ts": 5, "prev_events": [],
            "auth_events": [], "hashes": {}, "signatures": {},
        });
        let rules = RoomVersionId::V1.rules().expect("known");
        let document = |event: &Value| Document::read(&event.to_string(), &rules).expect("an event");
        let mut event = event;
        event["hashes"] = json!({"sha256": document(&event).content_hash_base64().expect("a hash")});
        let mut signed = document(&event);
        signed.sign(&rules, Signer { server_name: &stranger, key: &key }).expect("signed");
        receive(&signed.to_text(), &RoomVersionId::V1, &PublicKeyMap::new()).map(std::sync::Arc::new).expect("an event")
    };
    let first = one.create_room(RoomVersionId::V1, json!({"join_rule": "public"})).await;
    let second = one.create_room(RoomVersionId::V1, json!({"join_rule": "public"})).await;
    let (in_first, in_second) = (named(first.id()), named(second.id()));
    assert_eq!(in_first.event_id(), in_second.event_id());
    let result = first.receive(stranger.as_str(), vec![in_first.clone()]).await.expect("taken");
    assert!(matches!(&result[..], [(_, Received::Hidden(_))]), "{result:?}");
    let result = second.receive(stranger.as_str(), vec![in_second]).await.expect("answered");
    assert!(matches!(&result[..], [(_, Received::Refused(_))]), "{result:?}");
    let snapshot = one.node().store.snapshot().expect("a snapshot");
    let stored = read::event_by_id(&snapshot, in_first.event_id().as_str()).expect("readable").expect("stored");
    assert_eq!(stored.row.room, first.number());
    one.say(first.id(), "on").await;
    one.say(second.id(), "on").await;
}
