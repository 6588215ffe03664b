//! Rooms that are joined without their members, which come later.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use http::{Method, StatusCode};
use kith::{
    platform::{SystemClock, timeout},
    rooms::{partial, read},
};
use kith_store::tables::rooms::{PARTIAL_EVENTS, membership};
use kith_transport::memory::MemoryHub;
use ruma::{OwnedRoomId, RoomId};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{
    client::Client,
    third_party::{exchange, signed, template},
    without::Lack,
    world::{Peer, until},
};

/// How long is looked whether something waits.
const WHILE: Duration = Duration::from_millis(200);

/// A room of `one` with so many members beside its maker.
async fn large_room(one: &Peer, members: usize) -> OwnedRoomId {
    let room = one.public_room().await.id().to_owned();
    one.populate(&room, members).await;
    room
}

fn lacks_members(peer: &Peer, room: &RoomId) -> bool {
    peer.room(room).uncompleted().expect("readable").is_some()
}

fn joined_count(peer: &Peer, room: &RoomId) -> u64 {
    let snapshot = peer.node().store.snapshot().expect("a snapshot");
    read::joined_count(&snapshot, peer.room(room).number()).expect("readable")
}

/// The members that a sync shows as the room's state, sorted.
fn members(sync: &Value, room: &RoomId) -> Vec<String> {
    let events = sync["rooms"]["join"][room.as_str()]["state"]["events"].as_array().cloned().unwrap_or_default();
    let of_members = events.iter().filter(|event| event["type"] == "m.room.member");
    let mut users: Vec<String> =
        of_members.map(|event| event["state_key"].as_str().unwrap_or_default().to_owned()).collect();
    users.sort();
    users
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_of_thousands_is_of_use_before_its_members_are_here_and_gets_them_in_the_background() {
    static STATE: Semaphore = Semaphore::const_new(0);
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::without(&hub, 2, Lack::Until("/v1/state/", &STATE)).await);
    let room = large_room(&one, 2_000).await;
    two.join(&room, &one).await.expect("joined");
    assert!(lacks_members(&two, &room), "the members were left out");

    // It is of use: the room has its name, both sides hear each other, and who speaks is known.
    let client = Client::of(&two).await;
    assert_eq!(client.get(&format!("/rooms/{room}/state/m.room.name")).await["name"], "a room");
    let eager = client.get("/sync?timeout=0").await;
    assert!(members(&eager, &room).is_empty(), "only the newcomer is known, whose join is in the timeline");
    let since = eager["next_batch"].as_str().expect("a token").to_owned();
    two.say(&room, "hello").await;
    until("one hears two", || one.messages(&room) == ["hello"]).await;
    one.say(&room, "welcome").await;
    until("two hears one", || two.messages(&room) == ["hello", "welcome"]).await;
    assert_eq!(client.get(&format!("/rooms/{room}/state/m.room.member/{}", two.user)).await["membership"], "join");
    assert_eq!(two.membership(&room, &one.user), Some(membership::JOIN), "it is cited by what was said");
    let filter = "%7B%22room%22%3A%7B%22state%22%3A%7B%22lazy_load_members%22%3Atrue%7D%7D%7D";
    let lazy = client.get(&format!("/sync?timeout=0&filter={filter}")).await;
    assert_eq!(members(&lazy, &room), [one.user.as_str()]);
    let lazy_since = lazy["next_batch"].as_str().expect("a token").to_owned();

    // Who asks for all members waits for them.
    let path = format!("/rooms/{room}/joined_members");
    let mut waiting = std::pin::pin!(client.get(&path));
    assert!(timeout(&SystemClock::new(), WHILE, &mut waiting).await.is_err() && lacks_members(&two, &room));
    STATE.add_permits(100);
    assert_eq!(waiting.await["joined"].as_object().map(serde_json::Map::len), Some(2_002));
    assert!(!lacks_members(&two, &room));
    assert_eq!(two.state(&room), one.state(&room));
    assert_eq!(joined_count(&two, &room), 2_002);
    assert_eq!(two.messages(&room), ["hello", "welcome"], "nothing is shown twice, nothing is gone");

    // Clients that want all members are told of them now; those that load them lazily are not.
    let client = Client::of(&two).await;
    let news = client.get(&format!("/sync?timeout=0&since={since}")).await;
    assert_eq!(members(&news, &room).len(), 2_001, "all but the newcomer itself, of whom it was told");
    let news = client.get(&format!("/sync?timeout=0&since={lazy_since}&filter={filter}")).await;
    assert!(members(&news, &room).len() <= 2, "{news}");
    assert_eq!(news["rooms"]["join"][room.as_str()]["summary"]["m.joined_member_count"], 2_002);
    two.say(&room, "all here").await;
    until("one hears two", || one.messages(&room).len() == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_room_comes_with_its_members() {
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
    let room = large_room(&one, 50).await;
    two.join(&room, &one).await.expect("joined");
    assert!(!lacks_members(&two, &room));
    assert_eq!(two.state(&room), one.state(&room));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_crashes_before_the_members_came_gets_them_after_its_restart() {
    static STATE: Semaphore = Semaphore::const_new(0);
    let hub = MemoryHub::new();
    let (one, mut two) = (Peer::new(&hub, 1).await, Peer::without(&hub, 2, Lack::Until("/v1/state/", &STATE)).await);
    let room = large_room(&one, 150).await;
    two.join(&room, &one).await.expect("joined");
    one.say(&room, "before").await;
    until("it is heard", || two.messages(&room) == ["before"]).await;
    two.crash().await;
    assert!(lacks_members(&two, &room));
    one.say(&room, "after").await;
    until("it is heard", || two.messages(&room) == ["before", "after"]).await;
    assert!(lacks_members(&two, &room));
    STATE.add_permits(100);
    until("the members are here", || !lacks_members(&two, &room)).await;
    assert_eq!(two.state(&room), one.state(&room));
    assert_eq!(joined_count(&two, &room), 152);
    two.crash().await;
    assert_eq!(two.state(&room), one.state(&room), "it is stored");
    two.say(&room, "still here").await;
    until("it is heard", || one.messages(&room) == ["before", "after", "still here"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_members_are_missing_memberships_of_others_and_the_whole_state_wait_and_other_servers_are_sent_on() {
    static STATE: Semaphore = Semaphore::const_new(0);
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::without(&hub, 2, Lack::Until("/v1/state/", &STATE)).await);
    let three = Peer::new(&hub, 3).await;
    let room = large_room(&one, 150).await;
    one.set_member(&room, &three.user, "ban").await;
    two.join(&room, &one).await.expect("joined");
    // Whether the third is banned is not known here: it is not let in, and not invited.
    let refused = three.join(&room, &two).await.expect_err("not let in");
    assert_eq!(refused.status, StatusCode::BAD_GATEWAY, "{refused:?}");
    let proof = template(&room, &one.user, &three.user, &signed(&three.user, "t"));
    assert_eq!(exchange(&three, &two, &room, &proof).await, Some((503, "M_UNKNOWN".to_owned())));
    let client = Client::of(&two).await;
    let invite = format!("/rooms/{room}/invite");
    let body = json!({ "user_id": three.user });
    let mut inviting = std::pin::pin!(client.call(Method::POST, &invite, body));
    assert!(timeout(&SystemClock::new(), WHILE, &mut inviting).await.is_err());
    STATE.add_permits(100);
    let (status, answer) = inviting.await;
    assert_eq!((status, &answer["errcode"]), (StatusCode::FORBIDDEN, &json!("M_FORBIDDEN")), "{answer}");
    let refused = three.join(&room, &two).await.expect_err("banned");
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_let_the_node_in_may_be_gone_and_another_server_gives_the_members() {
    static STATE: Semaphore = Semaphore::const_new(0);
    static WANTED: AtomicUsize = AtomicUsize::new(0);
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
    let room = large_room(&one, 150).await;
    two.join(&room, &one).await.expect("joined");
    until("two has all members", || !lacks_members(&two, &room)).await;
    let three = Peer::without(&hub, 3, Lack::Held("/v1/state/", &STATE, &WANTED)).await;
    three.join(&room, &one).await.expect("joined");
    until("two hears of it", || two.membership(&room, &three.user) == Some(membership::JOIN)).await;
    assert!(lacks_members(&three, &room));
    hub.leave(one.key());
    STATE.add_permits(100);
    until("the members are here", || !lacks_members(&three, &room)).await;
    assert_eq!(three.state(&room), two.state(&room));
    assert!(WANTED.load(Ordering::Relaxed) > 1, "of the one that is gone, and then of the other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_members_are_asked_for_once() {
    static STATE: Semaphore = Semaphore::const_new(0);
    static WANTED: AtomicUsize = AtomicUsize::new(0);
    let hub = MemoryHub::new();
    let lack = Lack::Held("/v1/state/", &STATE, &WANTED);
    let (one, two) = (Peer::new(&hub, 1).await, Peer::without(&hub, 2, lack).await);
    let room = large_room(&one, 150).await;
    two.join(&room, &one).await.expect("joined");
    until("they are asked for", || WANTED.load(Ordering::Relaxed) > 0).await;
    STATE.add_permits(100);
    until("the members are here", || !lacks_members(&two, &room)).await;
    assert_eq!(two.state(&room), one.state(&room));
    assert_eq!(WANTED.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_do_not_come_keep_no_other_room_waiting() {
    static STATE: Semaphore = Semaphore::const_new(0);
    static WANTED: AtomicUsize = AtomicUsize::new(0);
    let hub = MemoryHub::new();
    let lack = Lack::Held("/v1/state/", &STATE, &WANTED);
    let (one, two) = (Peer::new(&hub, 1).await, Peer::without(&hub, 2, lack).await);
    let mut rooms = Vec::new();
    for number in 1..=5 {
        let room = large_room(&one, 120).await;
        two.join(&room, &one).await.expect("joined");
        until("its members are asked for", || WANTED.load(Ordering::Relaxed) == number).await;
        rooms.push(room);
    }
    assert!(rooms.iter().all(|room| lacks_members(&two, room)));
    STATE.add_permits(100);
    for room in rooms {
        until("the members are here", || !lacks_members(&two, &room)).await;
        assert_eq!(two.state(&room), one.state(&room));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_that_fail_after_the_members_were_asked_for_give_their_turn_back() {
    static BROKEN: AtomicBool = AtomicBool::new(true);
    static STATE: Semaphore = Semaphore::const_new(0);
    static WANTED: AtomicUsize = AtomicUsize::new(0);
    static HELD: Lack = Lack::Held("/v1/state/", &STATE, &WANTED);
    static ALTERED: Lack = Lack::Altered(&["/send_join/"], without_create);
    fn without_create(mut answer: Value) -> String {
        if BROKEN.load(Ordering::Relaxed)
            && let Some(state) = answer["state"].as_array_mut()
        {
            state.retain(|event| event["type"] != "m.room.create");
        }
        answer.to_string()
    }
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::without(&hub, 2, Lack::Both(&HELD, &ALTERED)).await);
    let room = large_room(&one, 150).await;
    // More than there are turns.
    for _ in 0..40 {
        let refused = two.join(&room, &one).await.expect_err("there is no room without its create event");
        assert_eq!(refused.status, StatusCode::BAD_GATEWAY, "{refused:?}");
    }
    assert!(WANTED.load(Ordering::Relaxed) > 0, "they are asked for while it is looked whether there is a room at all");
    STATE.add_permits(100);
    BROKEN.store(false, Ordering::Relaxed);
    two.join(&room, &one).await.expect("joined");
    until("the members are here", || !lacks_members(&two, &room)).await;
    assert_eq!(two.state(&room), one.state(&room));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_may_be_left_before_its_members_came_and_joined_again() {
    static STATE: Semaphore = Semaphore::const_new(0);
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::without(&hub, 2, Lack::Until("/v1/state/", &STATE)).await);
    let room = large_room(&one, 150).await;
    two.join(&room, &one).await.expect("joined");
    two.set_member(&room, &two.user, "leave").await;
    until("one sees that two is gone", || one.membership(&room, &two.user) == Some(membership::LEAVE)).await;
    let noted = |peer: &Peer| {
        let snapshot = peer.node().store.snapshot().expect("a snapshot");
        let number = peer.room(&room).number();
        let partial = partial::is_partial(&snapshot, number).expect("readable");
        (partial, PARTIAL_EVENTS.prefix(&snapshot, &number).expect("readable").count())
    };
    assert_eq!(noted(&two), (false, 0), "nobody waits for the members any more");
    one.say(&room, "not for two").await;
    two.join(&room, &one).await.expect("joined again");
    assert!(lacks_members(&two, &room));
    STATE.add_permits(100);
    until("the members are here", || !lacks_members(&two, &room)).await;
    assert_eq!(two.state(&room), one.state(&room));
    assert_eq!(joined_count(&two, &room), 152);
    assert_eq!(noted(&two), (false, 0));
}
