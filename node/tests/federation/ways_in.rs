//! Ways into a room across servers: through several servers in turn, vouched for or knocking, after everybody left, and into the
//! room that replaces another.

use http::{Method, StatusCode};
use kith::rooms::read;
use kith_store::tables::rooms::membership::{INVITE, JOIN, KNOCK};
use kith_transport::memory::MemoryHub;
use ruma::{OwnedServerName, RoomVersionId};
use serde_json::{Map, Value, json};

use crate::{
    client::Client,
    memberships::invite,
    requests::name,
    world::{Peer, until},
};

async fn peers<const N: usize>(hub: &MemoryHub) -> [Peer; N] {
    let mut peers = Vec::new();
    for seed in (1_u8..).take(N) {
        peers.push(Peer::new(hub, seed).await);
    }
    peers.try_into().unwrap_or_else(|_| unreachable!("so many were made"))
}

fn server(of: &Peer) -> OwnedServerName {
    of.node().server_name().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_are_asked_in_turn_when_the_first_are_dead_and_others_are_not_in_the_room_or_refuse() {
    let hub = MemoryHub::new();
    let [one, two, three, stranger] = peers(&hub).await;
    let club = one.public_room().await.id().to_owned();
    three.join(&club, &one).await.expect("joined the club");
    let rule = json!({"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": club}]});
    let room = one.create_room(RoomVersionId::V12, rule).await.id().to_owned();
    invite(&one, &room, &two).await.expect("invited");
    two.join(&room, &one).await.expect("joined");
    // The second is in the room, but not in the club: it cannot tell who is.
    let [nobody, neither] = [name(8), name(9)];
    let useless = [nobody, neither, server(&stranger), server(&two)];
    let join = async |via: &[OwnedServerName]| three.node().federation.join(&three.user, &room, via, &Map::new()).await;
    let refused = join(&useless).await.expect_err("nobody can let it in");
    assert_eq!(refused.status, StatusCode::NOT_FOUND, "the first refusal: {refused}");
    let via: Vec<_> = useless.into_iter().chain([server(&one)]).collect();
    join(&via).await.expect("let in by the last");
    until("all have one state", || one.state(&room) == three.state(&room)).await;
    assert_eq!(one.membership(&room, &three.user), Some(JOIN));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_of_rule_knock_restricted_takes_members_of_the_other_room_and_has_the_rest_knock() {
    for version in [RoomVersionId::V10, RoomVersionId::V12] {
        let hub = MemoryHub::new();
        let [one, two, three] = peers(&hub).await;
        let club = one.public_room().await.id().to_owned();
        two.join(&club, &one).await.expect("joined the club");
        let rule = json!({"join_rule": "knock_restricted", "allow": [{"type": "m.room_membership", "room_id": club}]});
        let room = one.create_room(version, rule).await.id().to_owned();
        two.join(&room, &one).await.expect("let in");
        let refused = three.join(&room, &one).await.expect_err("not in the club");
        assert!(refused.is("M_FORBIDDEN"), "{refused}");
        three.node().federation.knock(&three.user, &room, &[server(&one)], &Map::new()).await.expect("knocked");
        until("all hear the knock", || {
            [&one, &two, &three].iter().all(|peer| peer.membership(&room, &three.user) == Some(KNOCK))
        })
        .await;
        invite(&one, &room, &three).await.expect("let in");
        assert_eq!(three.membership(&room, &three.user), Some(INVITE));
        three.join(&room, &one).await.expect("joined");
        until("all have one state", || one.state(&room) == two.state(&room) && one.state(&room) == three.state(&room))
            .await;
    }
}

/// A room that two made use of, and that both have left: the second first.
async fn deserted(one: &Peer, two: &Peer, join_rule: &str) -> ruma::OwnedRoomId {
    let room = one.create_room(RoomVersionId::V12, json!({"join_rule": join_rule})).await.id().to_owned();
    invite(one, &room, two).await.expect("invited");
    two.join(&room, one).await.expect("joined");
    one.say(&room, "before").await;
    until("it is heard", || two.messages(&room) == ["before"]).await;
    two.set_member(&room, &two.user, "leave").await;
    until("the leaving is known", || one.membership(&room, &two.user) != Some(JOIN)).await;
    one.set_member(&room, &one.user, "leave").await;
    room
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_everybody_left_is_entered_again_through_the_server_that_saw_the_last_one_go() {
    let hub = MemoryHub::new();
    let [mut one, two] = peers(&hub).await;
    let room = deserted(&one, &two, "public").await;
    // The second does not know the end of the room, and the first is not in it.
    let refused = two.join(&room, &one).await.expect_err("nobody is in the room");
    assert!(refused.is("M_NOT_FOUND"), "{refused}");
    // Who cannot be asked might be in the room again.
    hub.cut(one.key(), two.key());
    let refused = one.node().federation.join(&one.user, &room, &[], &Map::new()).await.expect_err("it may have split");
    assert_eq!(refused.status, StatusCode::BAD_GATEWAY, "{refused}");
    hub.heal(one.key(), two.key());
    one.crash().await;
    let client = Client::of(&one).await;
    let (status, answer) = client.call(Method::POST, &format!("/join/{room}"), json!({})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(one.membership(&room, &one.user), Some(JOIN));
    one.say(&room, "back").await;
    two.join(&room, &one).await.expect("joined");
    two.say(&room, "me too").await;
    until("it is heard", || one.messages(&room) == ["before", "back", "me too"]).await;
    assert_eq!(one.state(&room), two.state(&room));
    // While one is in the room, the other comes in through it and not by itself.
    two.set_member(&room, &two.user, "leave").await;
    two.node().federation.join(&two.user, &room, &[], &Map::new()).await.expect("joined again");
    until("all have one state", || one.state(&room) == two.state(&room)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_by_invite_that_everybody_left_stays_closed() {
    let hub = MemoryHub::new();
    let [one, two] = peers(&hub).await;
    let room = deserted(&one, &two, "invite").await;
    let before = one.state(&room);
    let refused = one.node().federation.join(&one.user, &room, &[], &Map::new()).await.expect_err("nobody may enter");
    assert!(refused.is("M_FORBIDDEN"), "{refused}");
    assert_eq!(one.state(&room), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_another_server_follow_a_room_into_the_one_that_replaces_it() {
    let hub = MemoryHub::new();
    let [one, two] = peers(&hub).await;
    let (alice, bob) = (Client::of(&one).await, Client::of(&two).await);
    for (from, to) in [("6", "11"), ("11", "12")] {
        let create = json!({"preset": "public_chat", "name": "Home", "room_version": from});
        let (_, made) = alice.call(Method::POST, "/createRoom", create).await;
        let old = ruma::OwnedRoomId::try_from(made["room_id"].as_str().expect("a room")).expect("a room ID");
        let join = |room: &str| format!("/join/{room}?via={}", server(&one));
        assert_eq!(bob.call(Method::POST, &join(old.as_str()), json!({})).await.0, StatusCode::OK);
        let upgrade = format!("/rooms/{old}/upgrade");
        let (status, answer) = alice.call(Method::POST, &upgrade, json!({"new_version": to})).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let new = answer["replacement_room"].as_str().expect("a room").to_owned();
        let has_tombstone =
            || two.state(&old).iter().any(|(kind, key, _)| kind == "m.room.tombstone" && key.is_empty());
        until("the tombstone comes", has_tombstone).await;
        let tombstone = bob.get(&format!("/rooms/{old}/state/m.room.tombstone")).await;
        assert_eq!(tombstone["replacement_room"], new.as_str());
        let (status, answer) = bob.call(Method::POST, &join(&new), json!({})).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let create: Value = bob.get(&format!("/rooms/{new}/state/m.room.create")).await;
        assert_eq!(create["predecessor"]["room_id"], old.as_str());
        assert_eq!(create["room_version"], to);
        assert_eq!(bob.get(&format!("/rooms/{new}/state/m.room.name")).await["name"], "Home");
        // The old room is closed to who has no power in it, and can still be read.
        let said = format!("/rooms/{old}/send/m.room.message/{from}");
        let (status, answer) = bob.call(Method::PUT, &said, json!({"msgtype": "m.text", "body": "here?"})).await;
        assert_eq!((status, &answer["errcode"]), (StatusCode::FORBIDDEN, &json!("M_FORBIDDEN")));
        assert_eq!(bob.get(&format!("/rooms/{old}/state/m.room.name")).await["name"], "Home");
        let snapshot = two.node().store.snapshot().expect("a snapshot");
        let number = read::room_number(&snapshot, &new).expect("readable").expect("known");
        assert!(read::is_joined(&snapshot, two.user.as_str(), number).expect("readable"));
    }
}
