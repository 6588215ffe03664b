//! `/rooms/{roomId}/delivery`.

use kith_store::tables::rooms::OUTGOING;
use kith_transport::{SecretKey, memory::MemoryHub};

use super::*;

async fn reach(who: &Client, room: &str, events: &[&str]) -> Value {
    let path = format!("{PREFIX}/rooms/{room}/delivery");
    who.post(&path, json!({ "events": events })).await.ok()["events"].clone()
}

#[tokio::test]
async fn a_message_waits_for_a_server_that_is_away_since_it_went_and_is_delivered_when_it_comes_back() {
    let hub = MemoryHub::new();
    let (here, there) = (TestNode::start_among(&hub, 1).await, TestNode::start_among(&hub, 2).await);
    let (alice, bob) = (person(&here, "alice", false).await, person(&there, "bob", false).await);
    let room = room_of(&alice, &[&bob]).await;
    let there_name = server(&bob);

    let first = say(&alice, &room, "first").await;
    let delivered = json!({
        "waiting": [], "waiting_count": 0, "delivered": [there_name], "delivered_count": 1, "total": 1,
    });
    eventually("it is delivered", async || reach(&alice, &room, &[&first]).await[&first] == delivered).await;
    // The clock stands still, so the position was acknowledged and is not written.
    let written = here.node().store.read(|read| {
        let rooms: Vec<_> = OUTGOING.prefix(read, &there_name.to_owned())?.collect::<Result<_, _>>()?;
        Ok::<_, kith_store::StoreError>(rooms)
    });
    assert!(written.unwrap().iter().all(|(_, (sent, latest))| sent < latest));

    hub.isolate(SecretKey::from_seed([2; 32]).public());
    let second = say(&alice, &room, "second").await;
    let since = here.clock.now_ms();
    let waiting = json!({
        "waiting": [{ "server_name": there_name, "away_since_ms": since }], "waiting_count": 1,
        "delivered": [], "delivered_count": 0, "total": 1,
    });
    eventually("it waits", async || reach(&alice, &room, &[&second]).await[&second] == waiting).await;
    assert_eq!(reach(&alice, &room, &[&first, &second]).await, json!({ &first: delivered, &second: waiting }));

    hub.rejoin(SecretKey::from_seed([2; 32]).public());
    eventually("it is delivered", async || reach(&alice, &room, &[&second]).await[&second] == delivered).await;
}

#[tokio::test]
async fn an_event_counts_for_the_servers_that_were_in_the_room_when_it_was_sent() {
    let hub = MemoryHub::new();
    let nodes = [
        TestNode::start_among(&hub, 1).await,
        TestNode::start_among(&hub, 2).await,
        TestNode::start_among(&hub, 3).await,
    ];
    let (alice, bob) = (person(&nodes[0], "alice", false).await, person(&nodes[1], "bob", false).await);
    let (brian, carol) = (person(&nodes[1], "brian", false).await, person(&nodes[2], "carol", false).await);
    let room = room_of(&alice, &[]).await;
    let alone = say(&alice, &room, "alone").await;
    let invite = async |who: &Client| {
        let path = format!("/_matrix/client/v3/rooms/{room}/invite");
        alice.post(&path, json!({ "user_id": who.user })).await.ok();
        join(who, &room).await;
    };
    invite(&bob).await;
    let two = say(&alice, &room, "two").await;
    // Somebody else of a server that was there: it counts for the event before, too.
    invite(&brian).await;
    invite(&carol).await;
    let three = say(&alice, &room, "three").await;
    let totals = async || {
        let reached = reach(&alice, &room, &[&alone, &two, &three]).await;
        [&alone, &two, &three].map(|event| reached[event]["total"].as_u64().unwrap())
    };
    assert_eq!(totals().await, [0, 1, 2]);
    let delivered = async || reach(&alice, &room, &[&two, &three]).await;
    eventually("all is delivered", async || delivered().await[&three]["delivered_count"] == 2).await;
    assert_eq!(delivered().await[&two]["delivered"], json!([server(&bob)]));

    // Who left the room is not waited for any more.
    carol.post(&format!("/_matrix/client/v3/rooms/{room}/leave"), json!({})).await.ok();
    eventually("she left", async || totals().await == [0, 1, 1]).await;
}

#[tokio::test]
async fn only_members_are_told_and_of_their_own_events_alone() {
    let hub = MemoryHub::new();
    let (here, there) = (TestNode::start_among(&hub, 1).await, TestNode::start_among(&hub, 2).await);
    let (alice, albert) = (person(&here, "alice", false).await, person(&here, "albert", false).await);
    let (admin, bob) = (person(&here, "admin", true).await, person(&there, "bob", false).await);
    let room = room_of(&alice, &[&albert, &bob]).await;
    let elsewhere = room_of(&alice, &[]).await;
    let own = say(&alice, &room, "own").await;
    let other = say(&alice, &elsewhere, "other").await;
    let of_albert = say(&albert, &room, "albert").await;
    let asked = [own.as_str(), &other, &of_albert, "$unknown", "nonsense"];
    let told = reach(&alice, &room, &asked).await;
    assert_eq!(told.as_object().unwrap().keys().collect::<Vec<_>>(), [&own]);
    assert!(reach(&albert, &room, &asked).await.as_object().unwrap().keys().eq([&of_albert]));
    assert_eq!(reach(&alice, &room, &[]).await, json!({}));

    let path = format!("{PREFIX}/rooms/{room}/delivery");
    let body = json!({ "events": [own] });
    admin.post(&path, body.clone()).await.fails(403, "M_FORBIDDEN");
    here.client().post(&path, body.clone()).await.fails(401, "M_MISSING_TOKEN");
    let unknown = format!("{PREFIX}/rooms/!none:example.org/delivery");
    alice.post(&unknown, body.clone()).await.fails(403, "M_FORBIDDEN");
    alice.post(&format!("{PREFIX}/rooms/nonsense/delivery"), body).await.fails(400, "M_INVALID_PARAM");
    alice.post(&path, json!({ "events": vec!["$x"; 101] })).await.fails(400, "M_INVALID_PARAM");
    for wrong in [json!({}), json!({ "events": "x" }), json!({ "events": [1] })] {
        alice.post(&path, wrong).await.fails(400, "M_BAD_JSON");
    }
    albert.post(&format!("/_matrix/client/v3/rooms/{room}/leave"), json!({})).await.ok();
    albert.post(&path, json!({ "events": [of_albert] })).await.fails(403, "M_FORBIDDEN");
}
