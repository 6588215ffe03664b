//! What happens to a server while it is away, or just coming: it is removed, let in again, spoken to.

use kith::rooms::{Draft, read};
use kith_store::tables::{
    receipts::RECEIPTS,
    rooms::{
        STREAM,
        membership::{BAN, JOIN, LEAVE},
    },
};
use kith_transport::memory::MemoryHub;
use ruma::events::receipt::ReceiptThread;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::{
    messages::{numbered, pair},
    without::Lack,
    world::{Peer, object, until},
};

/// It cannot ask for what it lacks any more, and was sent the latest event only: the kick, which it could not place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_removed_while_away_learns_of_it_and_gets_all_from_before() {
    let (hub, one, two, room) = pair().await;
    hub.cut(one.key(), two.key());
    for number in 0..70 {
        one.say(&room, &format!("one {number}")).await;
    }
    one.set_member(&room, &two.user, "leave").await;
    one.say(&room, "among us").await;
    hub.heal(one.key(), two.key());
    until("the kick is known", || two.membership(&room, &two.user) == Some(LEAVE)).await;
    assert_eq!(two.messages(&room), numbered("one", 70));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_banned_and_unbanned_while_away_gets_what_it_was_there_for_and_nothing_of_the_time_between() {
    let (hub, one, two, room) = pair().await;
    hub.cut(one.key(), two.key());
    for number in 0..5 {
        one.say(&room, &format!("one {number}")).await;
    }
    one.set_member(&room, &two.user, "ban").await;
    for number in 0..5 {
        one.say(&room, &format!("among us {number}")).await;
    }
    let unban = one.set_member(&room, &two.user, "leave").await;
    hub.heal(one.key(), two.key());
    let state = || two.state(&room).into_iter().find(|(kind, key, _)| kind == "m.room.member" && *key == two.user);
    until("the ban or its end is known", || two.membership(&room, &two.user) != Some(JOIN)).await;
    until("the queue is done", || {
        one.node().federation.status().expect("readable").iter().all(|status| status.rooms == 0)
    })
    .await;
    assert_eq!(two.messages(&room), numbered("one", 5));
    assert!(state().is_some_and(|(.., event)| event != unban.as_str()), "after the ban it is told no more of the room");
}

/// One that was removed can still ask for what came before, of those who are in the room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_member_is_told_what_others_said_while_it_was_in_the_room_and_no_more() {
    let hub = MemoryHub::new();
    let (one, two, three) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await, Peer::new(&hub, 3).await);
    let room = one.public_room().await.id().to_owned();
    two.join(&room, &one).await.expect("joined");
    three.join(&room, &one).await.expect("joined");
    until("all know of the third", || two.state(&room) == three.state(&room)).await;
    hub.isolate(two.key());
    for number in 0..5 {
        three.say(&room, &format!("three {number}")).await;
    }
    until("the first has it", || one.messages(&room).len() == 5).await;
    hub.cut(two.key(), three.key());
    one.set_member(&room, &two.user, "leave").await;
    one.say(&room, "among us").await;
    hub.rejoin(two.key());
    until("the kick is known", || two.membership(&room, &two.user) == Some(LEAVE)).await;
    assert_eq!(two.messages(&room), numbered("three", 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_while_a_join_is_being_taken_in_is_not_lost() {
    static LET_IN: Semaphore = Semaphore::const_new(0);
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::without(&hub, 2, Lack::Until("send_join", &LET_IN)).await);
    let room = one.public_room().await.id().to_owned();
    let greeting = async {
        until("the join is known", || one.membership(&room, &two.user) == Some(JOIN)).await;
        one.say(&room, "welcome").await;
        until("it was sent, and not taken", || {
            one.node().federation.status().expect("readable").iter().all(|status| status.rooms == 0)
        })
        .await;
        assert!(two.messages(&room).is_empty());
        LET_IN.add_permits(1);
    };
    let (joined, ()) = tokio::join!(two.join(&room, &one), greeting);
    joined.expect("joined");
    until("the greeting is there", || two.messages(&room) == ["welcome"]).await;
}

/// A server that the room's access list denies still told its heads when it connected, and its events came in that way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_denied_server_says_does_not_come_in_when_rooms_are_compared() {
    let (hub, one, two, room) = pair().await;
    let acl = json!({"allow": ["*"], "deny": [two.node().server_name()]});
    let acl = Draft::state(one.user.clone(), "m.room.server_acl", "", object(acl));
    one.room(&room).send(acl).await.expect("sent");
    until("the list is known", || two.state(&room) == one.state(&room)).await;
    hub.cut(one.key(), two.key());
    two.say(&room, "let me in").await;
    hub.heal(one.key(), two.key());
    let head = two.say(&room, "by the back door").await;
    let heads = kith::federation::heads::RoomHeads { rooms: [(room.to_string(), vec![head])].into() };
    kith::federation::heads::take(one.node(), two.node().server_name(), heads).await.expect("no failure");
    one.say(&room, "still ours").await;
    until("it comes", || two.messages(&room).contains(&"still ours".to_owned())).await;
    assert_eq!(one.messages(&room), ["still ours"]);
}

/// Receipts are few and matter: who was asleep when others read its messages learns of it later, of each the latest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_when_others_read_learns_how_far_they_have() {
    let (hub, one, two, room) = pair().await;
    one.say(&room, "first").await;
    let last = one.say(&room, "last").await;
    until("both come", || two.messages(&room).len() == 2).await;
    hub.cut(one.key(), two.key());
    let first = message(&two, &room, 0);
    for event in [first, last.clone()] {
        kith::ephemeral::receipts::set(two.node(), &two.user, &room, "m.read", event, ReceiptThread::Unthreaded)
            .await
            .expect("read");
    }
    until("one receipt waits", || {
        two.node().federation.status().expect("readable").iter().map(|status| status.messages).sum::<usize>() == 1
    })
    .await;
    hub.heal(one.key(), two.key());
    until("it is known", || receipt(&one, &room, two.user.as_str()).as_deref() == Some(last.as_str())).await;
}

/// The ID of the message with this index, in the order of sync.
fn message(peer: &Peer, room: &ruma::RoomId, index: usize) -> ruma::OwnedEventId {
    let snapshot = peer.node().store.snapshot().expect("a snapshot");
    let number = read::room_number(&snapshot, room.as_str()).expect("readable").expect("known");
    let events = STREAM.prefix(&snapshot, &number).expect("readable");
    let mut messages = events
        .map(|row| read::event(&snapshot, row.expect("readable").1).expect("readable").expect("stored"))
        .filter(|event| event.kind() == "m.room.message");
    messages.nth(index).expect("there").row.event_id.try_into().expect("an ID")
}

/// How far a user has read.
fn receipt(peer: &Peer, room: &ruma::RoomId, user: &str) -> Option<String> {
    let snapshot = peer.node().store.snapshot().expect("a snapshot");
    let number = read::room_number(&snapshot, room.as_str()).expect("readable")?;
    let row = RECEIPTS.prefix(&snapshot, &(number, user.to_owned())).expect("readable").next()?;
    Some(row.expect("readable").1.0.event)
}

/// It believed for ever that its user was in the room: the ban lay on a branch of which it was allowed to see nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_came_back_on_one_side_of_a_split_and_was_banned_on_the_other_learns_of_it() {
    let hub = MemoryHub::new();
    let (one, two, three) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await, Peer::new(&hub, 3).await);
    let room = one.public_room().await.id().to_owned();
    two.join(&room, &one).await.expect("joined");
    three.join(&room, &one).await.expect("joined");
    two.set_member(&room, &two.user, "leave").await;
    for peer in [&one, &three] {
        until("both see it leave", || peer.membership(&room, &two.user) == Some(LEAVE)).await;
    }
    hub.isolate(one.key());
    one.say(&room, "nobody of that server hears this").await;
    one.set_member(&room, &two.user, "ban").await;
    two.join(&room, &three).await.expect("joined again");
    two.say(&room, "back").await;
    until("three hears it", || three.messages(&room) == ["back"]).await;
    hub.rejoin(one.key());
    for peer in [&one, &three, &two] {
        until("all know of the ban", || peer.membership(&room, &two.user) == Some(BAN)).await;
    }
    assert_eq!(one.state(&room), three.state(&room));
}
