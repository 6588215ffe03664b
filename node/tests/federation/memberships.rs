//! Invites, knocks, restricted joins, leaves, kicks and bans across servers.

use kith::rooms::read;
use kith_store::tables::rooms::membership::{BAN, INVITE, JOIN, KNOCK, LEAVE};
use kith_transport::memory::{Fault, MemoryHub};
use ruma::RoomVersionId;
use serde_json::{Map, Value, json};

use crate::{
    requests::Stranger,
    world::{Peer, object, until},
};

async fn two() -> (MemoryHub, Peer, Peer) {
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
    (hub, one, two)
}

fn versions() -> [RoomVersionId; 3] {
    [RoomVersionId::V10, RoomVersionId::V11, RoomVersionId::V12]
}

pub async fn invite(one: &Peer, room: &ruma::RoomId, two: &Peer) -> Result<(), kith::http::MatrixError> {
    one.node().federation.invite(&one.room(room), &one.user, &two.user, &Map::new()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invite_comes_with_the_rooms_name_and_can_be_accepted() {
    for version in versions() {
        let (_hub, one, two) = two().await;
        let room = one.create_room(version, json!({"join_rule": "invite"})).await.id().to_owned();
        two.join(&room, &one).await.expect_err("not invited");
        invite(&one, &room, &two).await.expect("invited");
        assert_eq!(one.membership(&room, &two.user), Some(INVITE));
        assert_eq!(two.membership(&room, &two.user), Some(INVITE));
        let snapshot = two.node().store.snapshot().expect("a snapshot");
        let number = read::room_number(&snapshot, room.as_str()).expect("readable").expect("known");
        let part = read::user_room(&snapshot, two.user.as_str(), number).expect("readable").expect("a part");
        assert_eq!(part.sender, one.user.as_str());
        let name = part.stripped.iter().find(|event| event["type"] == "m.room.name").expect("the name");
        assert_eq!(name["content"]["name"], "a room");
        assert!(name.get("signatures").is_none(), "stripped for clients");
        drop(snapshot);
        // The inviter's server is known from the invite.
        two.node().federation.join(&two.user, &room, &[], &Map::new()).await.expect("joined");
        until("the join is known", || one.membership(&room, &two.user) == Some(JOIN)).await;
        assert_eq!(one.state(&room), two.state(&room));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invite_whose_answer_was_lost_rings_once() {
    let (hub, one, two) = two().await;
    let room = one.create_room(RoomVersionId::V12, json!({"join_rule": "invite"})).await.id().to_owned();
    hub.fail(one.key(), two.key(), 0, Fault::LoseResponse);
    let before = two.node().store.position();
    invite(&one, &room, &two).await.expect("invited");
    assert_eq!(two.node().store.position(), before + 1, "one change for the user's sync");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_accepts_an_invite_the_moment_it_comes_is_let_in() {
    let (_hub, one, two) = two().await;
    for round in 0..10 {
        let room = one.create_room(RoomVersionId::V12, json!({"join_rule": "invite"})).await.id().to_owned();
        let accept = async {
            while two.membership(&room, &two.user) != Some(INVITE) {
                tokio::task::yield_now().await;
            }
            two.join(&room, &one).await
        };
        let (invited, accepted) = tokio::join!(invite(&one, &room, &two), accept);
        invited.expect("invited");
        accepted.unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(one.membership(&room, &two.user), Some(JOIN));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declined_invite_is_known_to_the_inviter() {
    let (_hub, one, two) = two().await;
    let room = one.create_room(RoomVersionId::V12, json!({"join_rule": "invite"})).await.id().to_owned();
    invite(&one, &room, &two).await.expect("invited");
    two.node().federation.leave(&two.user, &room, &Map::new()).await.expect("declined");
    assert_eq!(two.membership(&room, &two.user), Some(LEAVE));
    assert_eq!(one.membership(&room, &two.user), Some(LEAVE));
    two.node().federation.leave(&two.user, &room, &Map::new()).await.expect_err("nothing left to decline");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invite_is_declined_even_when_the_inviter_is_gone() {
    let (hub, one, two) = two().await;
    let room = one.create_room(RoomVersionId::V12, json!({"join_rule": "invite"})).await.id().to_owned();
    invite(&one, &room, &two).await.expect("invited");
    hub.cut(one.key(), two.key());
    two.node().federation.leave(&two.user, &room, &Map::new()).await.expect("declined");
    assert_eq!(two.membership(&room, &two.user), Some(LEAVE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invite_taken_back_ends_at_the_invited() {
    let (_hub, one, two) = two().await;
    let room = one.create_room(RoomVersionId::V12, json!({"join_rule": "invite"})).await.id().to_owned();
    invite(&one, &room, &two).await.expect("invited");
    one.set_member(&room, &two.user, "leave").await;
    until("the invite ends", || two.membership(&room, &two.user) == Some(LEAVE)).await;
    two.join(&room, &one).await.expect_err("no longer invited");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_knock_is_let_in() {
    let (_hub, one, two) = two().await;
    let room = one.create_room(RoomVersionId::V12, json!({"join_rule": "knock"})).await.id().to_owned();
    let via = [one.node().server_name().to_owned()];
    two.node().federation.knock(&two.user, &room, &via, &object(json!({"reason": "hello"}))).await.expect("knocked");
    assert_eq!(two.membership(&room, &two.user), Some(KNOCK));
    assert_eq!(one.membership(&room, &two.user), Some(KNOCK));
    invite(&one, &room, &two).await.expect("let in");
    assert_eq!(two.membership(&room, &two.user), Some(INVITE));
    two.join(&room, &one).await.expect("joined");
    assert_eq!(one.state(&room), two.state(&room));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_knock_can_be_refused_and_taken_back() {
    let (hub, one, two) = two().await;
    let room = one.create_room(RoomVersionId::V12, json!({"join_rule": "knock"})).await.id().to_owned();
    let via = [one.node().server_name().to_owned()];
    let knock = || async { two.node().federation.knock(&two.user, &room, &via, &Map::new()).await };
    knock().await.expect("knocked");
    // Somebody else who knows of it cannot end it.
    let mallory = Stranger::new(&hub, 9);
    let forged = mallory.forged_leave(&room, &two);
    let (status, answer) = mallory.send(&two, forged).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(two.membership(&room, &two.user), Some(KNOCK), "{answer}");
    one.set_member(&room, &two.user, "leave").await;
    until("the knock is refused", || two.membership(&room, &two.user) == Some(LEAVE)).await;
    knock().await.expect("knocked again");
    two.node().federation.leave(&two.user, &room, &Map::new()).await.expect("taken back");
    assert_eq!(one.membership(&room, &two.user), Some(LEAVE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restricted_room_lets_members_of_the_other_room_in_and_nobody_else() {
    let hub = MemoryHub::new();
    let (one, two, three) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await, Peer::new(&hub, 3).await);
    let club = one.public_room().await.id().to_owned();
    two.join(&club, &one).await.expect("joined the club");
    let rule = json!({"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": club}]});
    let room = one.create_room(RoomVersionId::V12, rule).await.id().to_owned();
    let refused = three.join(&room, &one).await.expect_err("not in the club");
    assert!(refused.is("M_FORBIDDEN"), "{refused}");
    two.join(&room, &one).await.expect("let in");
    until("the join is known", || one.membership(&room, &two.user) == Some(JOIN)).await;
    assert_eq!(one.state(&room), two.state(&room));
    let snapshot = two.node().store.snapshot().expect("a snapshot");
    let number = read::room_number(&snapshot, room.as_str()).expect("readable").expect("known");
    let join =
        read::state_event(&snapshot, number, "m.room.member", two.user.as_str()).expect("readable").expect("there");
    assert_eq!(join.content()["join_authorised_via_users_server"], one.user.as_str());
    let signatures = join.pdu()["signatures"].as_object().expect("signed");
    assert_eq!(signatures.len(), 2, "by both servers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_banned_is_out_and_stays_out() {
    let (_hub, one, two) = two().await;
    let room = one.public_room().await.id().to_owned();
    two.join(&room, &one).await.expect("joined");
    one.set_member(&room, &two.user, "ban").await;
    until("the ban is known", || two.membership(&room, &two.user) == Some(BAN)).await;
    let refused = two.join(&room, &one).await.expect_err("banned");
    assert!(refused.is("M_FORBIDDEN"), "{refused}");
    one.set_member(&room, &two.user, "leave").await;
    two.join(&room, &one).await.expect("unbanned");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_can_be_joined_through_any_server_that_is_in_it_and_the_first_may_be_gone() {
    let hub = MemoryHub::new();
    let (one, two, three) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await, Peer::new(&hub, 3).await);
    let room = one.public_room().await.id().to_owned();
    two.join(&room, &one).await.expect("joined");
    hub.isolate(one.key());
    let via = [one.node().server_name().to_owned(), two.node().server_name().to_owned()];
    three.node().federation.join(&three.user, &room, &via, &Map::new()).await.expect("joined through the second");
    hub.rejoin(one.key());
    until("the first learns of it", || one.membership(&room, &three.user) == Some(JOIN)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_whose_answer_was_lost_succeeds_and_happens_once() {
    let (hub, one, two) = two().await;
    let room = one.public_room().await.id().to_owned();
    let before = one.node().store.position();
    // make_join passes, the answer to send_join is lost.
    hub.fail(two.key(), one.key(), 1, Fault::LoseResponse);
    two.join(&room, &one).await.expect("joined");
    assert_eq!(one.node().store.position(), before + 1);
    assert_eq!(one.state(&room), two.state(&room));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_denied_by_the_rooms_access_list_can_neither_join_nor_write() {
    let (_hub, one, two) = two().await;
    let room = one.public_room().await.id().to_owned();
    two.join(&room, &one).await.expect("joined");
    let acl = json!({"allow": ["*"], "deny": [two.node().server_name()]});
    let acl = kith::rooms::Draft::state(one.user.clone(), "m.room.server_acl", "", object(acl));
    one.room(&room).send(acl).await.expect("sent");
    two.say(&room, "still here?").await;
    one.say(&room, "done").await;
    until("the last comes", || two.messages(&room).contains(&"done".to_owned())).await;
    until("the queue is done", || {
        two.node().federation.status().expect("readable").iter().all(|status| status.rooms == 0)
    })
    .await;
    assert_eq!(one.messages(&room), ["done"]);
    let user = two.user.clone();
    one.set_member(&room, &user, "leave").await;
    until("the kick is known", || two.membership(&room, &user) == Some(LEAVE)).await;
    assert!(two.join(&room, &one).await.expect_err("denied").is("M_FORBIDDEN"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_share_a_room_are_contacts_until_they_do_not_and_after_a_restart() {
    let (hub, one, mut two) = two().await;
    let contacts = |of: &Peer| hub.contacts(of.key());
    let room = one.public_room().await.id().to_owned();
    assert_eq!((contacts(&one), contacts(&two)), (vec![], vec![]), "strangers");
    two.join(&room, &one).await.expect("joined");
    until("both are contacts", || contacts(&one) == [two.key()] && contacts(&two) == [one.key()]).await;
    two.crash().await;
    until("a restart finds them", || contacts(&two) == [one.key()]).await;
    let user = two.user.clone();
    one.set_member(&room, &user, "leave").await;
    until("they are strangers again", || contacts(&one).is_empty() && contacts(&two).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_from_before_the_join_can_be_fetched() {
    let (_hub, one, two) = two().await;
    let room = one.public_room().await.id().to_owned();
    for number in 0..30 {
        one.say(&room, &format!("{number}")).await;
    }
    two.join(&room, &one).await.expect("joined");
    let mut fetched = 0;
    for _ in 0..10 {
        match two.node().federation.backfill(&two.room(&room), None, 10).await.expect("no error") {
            0 => break,
            count => fetched += count,
        }
    }
    assert_eq!(fetched, 30 + 5, "all messages and the events that made the room");
    assert_eq!(two.messages(&room), Vec::<String>::new(), "none is shown as new");
    let snapshot = two.node().store.snapshot().expect("a snapshot");
    let number = read::room_number(&snapshot, room.as_str()).expect("readable").expect("known");
    let rows = kith_store::tables::rooms::TIMELINE.prefix(&snapshot, &number).expect("readable");
    let bodies: Vec<String> = rows
        .map(|row| read::event(&snapshot, row.expect("readable").0.2).expect("readable").expect("stored"))
        .filter_map(|event| Some(event.content().get("body")?.as_str()?.to_owned()))
        .collect();
    assert_eq!(bodies, (0..30).map(|number| number.to_string()).collect::<Vec<_>>());
    let state = one.state(&room);
    drop(snapshot);
    assert_eq!(state, two.state(&room));
    let _: Value = json!(null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_the_owner_blocks_is_neither_heard_nor_asked() {
    let hub = MemoryHub::new();
    let blocked = crate::requests::name(2).to_string();
    let one = Peer::with(&hub, 1, |config| config.federation.blocked_servers = vec![blocked]).await;
    let (two, three) = (Peer::new(&hub, 2).await, Peer::new(&hub, 3).await);
    let (ours, theirs) = (one.public_room().await.id().to_owned(), two.public_room().await.id().to_owned());
    let refused = two.join(&ours, &one).await.expect_err("it is not heard");
    assert!(refused.is("M_FORBIDDEN"), "{refused}");
    assert!(one.node().federation.stats.blocked_requests.get() > 0);
    let refused = one.join(&theirs, &two).await.expect_err("it is not asked");
    assert!(refused.message.contains("blocked"), "{refused}");
    let refused = invite(&one, &ours, &two).await.expect_err("nobody of it is invited");
    assert!(refused.is("M_FORBIDDEN") && refused.message.contains("blocked"), "{refused}");
    three.join(&ours, &one).await.expect("others are let in");
}
