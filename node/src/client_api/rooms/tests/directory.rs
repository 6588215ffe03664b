//! Aliases, the published room directory, the user directory, spaces, summaries, reports.

use http::Method;
use kith_store::tables::directory::REPORTS;
use serde_json::{Value, json};

use super::world::{Person, World, encoded, text};

#[tokio::test]
async fn an_alias_is_made_found_listed_and_deleted() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    let alias = format!("#den:{}", world.node().server_name());
    let path = format!("/directory/room/{}", encoded(&alias));
    alice.get(&path).await.refused(404, "M_NOT_FOUND");
    bob.put(&path, json!({ "room_id": room })).await.refused(403, "M_FORBIDDEN");
    alice.put(&path, json!({ "room_id": room })).await.ok();
    alice.put(&path, json!({ "room_id": room })).await.refused(409, "M_UNKNOWN");
    let foreign = format!("/directory/room/{}", encoded("#den:example.org"));
    alice.put(&foreign, json!({ "room_id": room })).await.refused(400, "M_INVALID_PARAM");
    let found = world.ask(Method::GET, &path, None, None).await.ok();
    assert_eq!(found, json!({ "room_id": room, "servers": [world.node().server_name()] }));
    assert_eq!(alice.get(&format!("/rooms/{room}/aliases")).await.ok()["aliases"], json!([alias]));
    bob.get(&format!("/rooms/{room}/aliases")).await.refused(403, "M_FORBIDDEN");
    assert_eq!(bob.post(&format!("/join/{}", encoded(&alias)), json!({})).await.ok()["room_id"], *room);
    alice.set(&room, "m.room.canonical_alias", json!({ "alias": alias })).await;
    bob.delete(&path).await.refused(403, "M_FORBIDDEN");
    alice.delete(&path).await.ok();
    alice.delete(&path).await.refused(404, "M_NOT_FOUND");
    alice.get(&path).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn published_rooms_are_listed_page_by_page_the_fullest_first_and_filtered() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let mut rooms = Vec::new();
    for n in 0..7 {
        let kind = if n == 3 { json!({ "type": "m.space" }) } else { json!({}) };
        let body = json!({ "visibility": "public", "name": format!("Room {n}"), "creation_content": kind });
        rooms.push(alice.create(body).await);
    }
    let hidden = alice.create(json!({ "preset": "public_chat", "name": "Room hidden" })).await;
    bob.join(&rooms[5]).await;
    let list = async |query: &str| world.ask(Method::GET, &format!("/publicRooms{query}"), None, None).await.ok();
    let ids = |page: &Value| -> Vec<String> {
        page["chunk"].as_array().expect("a chunk").iter().map(|room| text(&room["room_id"])).collect()
    };
    let whole = list("").await;
    let all = ids(&whole);
    assert_eq!((all.len(), &all[0]), (7, &rooms[5]));
    assert_eq!(whole["total_room_count_estimate"], 7);
    assert_eq!(whole["chunk"][0]["num_joined_members"], 2);
    assert_eq!(whole["chunk"][0].get("join_rule"), None, "no rule named means public");
    let mut paged = Vec::new();
    let mut since = String::new();
    let last = loop {
        let page = list(&format!("?limit=3{since}")).await;
        paged.extend(ids(&page));
        match page["next_batch"].as_str() {
            Some(next) => since = format!("&since={}", encoded(next)),
            None => break page,
        }
    };
    assert_eq!(paged, all);
    let before = list(&format!("?limit=3&since={}", encoded(last["prev_batch"].as_str().expect("a token")))).await;
    assert_eq!(ids(&before), all[3..6]);
    let answer = world.ask(Method::GET, "/publicRooms?since=nonsense", None, None).await;
    answer.refused(400, "M_INVALID_PARAM");

    let found = alice.post("/publicRooms", json!({ "filter": { "generic_search_term": "room 2" } })).await.ok();
    assert_eq!(ids(&found), [rooms[2].clone()]);
    let found = alice.post("/publicRooms", json!({ "filter": { "room_types": ["m.space"] } })).await.ok();
    assert_eq!(ids(&found), [rooms[3].clone()]);
    let found = alice.post("/publicRooms", json!({ "filter": { "room_types": [null] } })).await.ok();
    assert_eq!(ids(&found).len(), 6);

    let visibility = |room: &str| format!("/directory/list/room/{room}");
    assert_eq!(world.ask(Method::GET, &visibility(&hidden), None, None).await.ok()["visibility"], "private");
    bob.put(&visibility(&hidden), json!({ "visibility": "public" })).await.refused(403, "M_FORBIDDEN");
    alice.put(&visibility(&hidden), json!({ "visibility": "public" })).await.ok();
    assert_eq!(ids(&list("").await).len(), 8);
    assert_eq!(alice.get(&visibility(&hidden)).await.ok()["visibility"], "public");
    alice.put(&visibility(&hidden), json!({ "visibility": "private" })).await.ok();
    assert_eq!(ids(&list("").await).len(), 7);
    alice.get(&visibility("!nowhere")).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn users_are_found_in_shared_and_published_rooms_only() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let carol = world.person("bobby").await;
    let hermit = world.person("bobhermit").await;
    let shared = alice.create(json!({ "invite": [bob.id()] })).await;
    bob.join(&shared).await;
    carol.create(json!({ "visibility": "public" })).await;
    hermit.create(json!({})).await;
    let search = async |person: &Person<'_>, body: Value| person.post("/user_directory/search", body).await.ok();
    let ids = |found: &Value| -> Vec<String> {
        found["results"].as_array().expect("results").iter().map(|user| text(&user["user_id"])).collect()
    };
    let found = search(&alice, json!({ "search_term": "BOB" })).await;
    assert_eq!((ids(&found), &found["limited"]), (vec![bob.id().to_owned(), carol.id().to_owned()], &json!(false)));
    let found = search(&alice, json!({ "search_term": "bob", "limit": 1 })).await;
    assert_eq!((ids(&found), &found["limited"]), (vec![bob.id().to_owned()], &json!(true)));
    assert_eq!(ids(&search(&hermit, json!({ "search_term": "alice" })).await), Vec::<String>::new());
    let mutual = alice.get(&format!("/_matrix/client/v1/mutual_rooms?user_id={}", bob.id())).await.ok();
    assert_eq!((&mutual["joined"], &mutual["count"]), (&json!([shared]), &json!(1)));
}

#[tokio::test]
async fn a_space_is_gone_through_depth_first_in_the_order_of_its_children() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let space = json!({ "preset": "public_chat", "creation_content": { "type": "m.space" } });
    let outer = alice.create(space.clone()).await;
    let inner = alice.create(space).await;
    let first = alice.create(json!({ "preset": "public_chat", "name": "first" })).await;
    let last = alice.create(json!({ "preset": "public_chat" })).await;
    let closed = alice.create(json!({})).await;
    let via = json!([world.node().server_name()]);
    for (parent, child, content) in [
        (&outer, &last, json!({ "via": via })),
        (&outer, &inner, json!({ "via": via, "order": "a", "suggested": true })),
        (&outer, &closed, json!({ "via": via, "order": "b" })),
        (&outer, &first, json!({})),
        (&inner, &first, json!({ "via": via })),
        (&inner, &outer, json!({ "via": via })),
    ] {
        alice.put(&format!("/rooms/{parent}/state/m.space.child/{child}"), content).await.ok();
    }
    let ask = async |person: &Person<'_>, query: &str| {
        person.get(&format!("/_matrix/client/v1/rooms/{outer}/hierarchy{query}")).await.ok()
    };
    let ids = |page: &Value| -> Vec<String> {
        page["rooms"].as_array().expect("rooms").iter().map(|room| text(&room["room_id"])).collect()
    };
    let whole = ask(&bob, "").await;
    assert_eq!(ids(&whole), [outer.clone(), inner.clone(), first.clone(), last.clone()], "what is closed is left out");
    assert_eq!(whole["rooms"][0]["children_state"].as_array().map(Vec::len), Some(3));
    assert_eq!(
        ids(&ask(&alice, "").await),
        [outer.clone(), inner.clone(), first.clone(), closed.clone(), last.clone()]
    );
    assert_eq!(ids(&ask(&bob, "?suggested_only=true").await), [outer.clone(), inner.clone()]);
    assert_eq!(ids(&ask(&bob, "?max_depth=1").await), [outer.clone(), inner.clone(), last.clone()]);
    let page = ask(&bob, "?limit=3").await;
    let next = text(&page["next_batch"]);
    assert_eq!(ids(&ask(&bob, &format!("?limit=3&from={next}")).await), std::slice::from_ref(&last));
    bob.get(&format!("/_matrix/client/v1/rooms/{outer}/hierarchy?max_depth=1&from={next}"))
        .await
        .refused(400, "M_INVALID_PARAM");
    bob.get(&format!("/_matrix/client/v1/rooms/{closed}/hierarchy")).await.refused(403, "M_FORBIDDEN");

    let summary = bob.get(&format!("/_matrix/client/v1/room_summary/{first}")).await.ok();
    assert_eq!(summary["name"], "first");
    assert_eq!((&summary["membership"], &summary["num_joined_members"]), (&json!("leave"), &json!(1)));
    bob.get(&format!("/_matrix/client/v1/room_summary/{closed}")).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn reports_are_kept_for_the_owner() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let eve = world.person("eve").await;
    let room = alice.create(json!({})).await;
    let event = alice.say(&room, "bad").await;
    alice.post(&format!("/rooms/{room}/report/{event}"), json!({ "reason": "bad" })).await.ok();
    alice.post(&format!("/rooms/{room}/report"), json!({ "reason": "worse" })).await.ok();
    alice.post(&format!("/users/{}/report", eve.id()), json!({ "reason": "worst" })).await.ok();
    eve.post(&format!("/rooms/{room}/report/{event}"), json!({})).await.refused(404, "M_NOT_FOUND");
    let reasons: Vec<String> = world
        .node()
        .store
        .read(|read| {
            REPORTS
                .range(read, ..)?
                .map(|row| row.map(|(_, row)| row.0.reason))
                .collect::<Result<_, kith_store::StoreError>>()
        })
        .expect("a read");
    assert_eq!(reasons, ["bad", "worse", "worst"]);
}
