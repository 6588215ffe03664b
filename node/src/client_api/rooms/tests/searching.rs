//! Searching for words in what was said.

use serde_json::{Value, json};

use super::world::{Person, World, encoded, text};

impl Person<'_> {
    /// Searches for room events; gives what was found of them.
    async fn search(&self, criteria: Value) -> Value {
        let body = json!({ "search_categories": { "room_events": criteria } });
        self.post("/search", body).await.ok()["search_categories"]["room_events"].clone()
    }

    async fn search_on(&self, criteria: Value, batch: &Value) -> Value {
        let body = json!({ "search_categories": { "room_events": criteria } });
        let path = format!("/search?next_batch={}", encoded(&text(batch)));
        self.post(&path, body).await.ok()["search_categories"]["room_events"].clone()
    }

    /// The bodies (or names, or topics) of what a term finds, the latest first.
    async fn finds(&self, term: &str) -> Vec<String> {
        found(&self.search(json!({ "search_term": term, "order_by": "recent" })).await)
    }
}

fn found(results: &Value) -> Vec<String> {
    let results = results["results"].as_array().cloned().unwrap_or_default();
    results
        .iter()
        .map(|result| {
            let content = &result["result"]["content"];
            ["body", "name", "topic"].iter().find_map(|field| content[field].as_str()).unwrap_or("?").to_owned()
        })
        .collect()
}

#[tokio::test]
async fn words_are_found_in_messages_names_and_topics_and_keys_choose_among_them() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = alice.create(json!({ "name": "The Garden", "topic": "All about our garden" })).await;
    alice.say(&room, "The garden is green").await;
    alice.say(&room, "Nothing of the kind").await;
    alice.send(&room, "org.example.other", json!({ "body": "garden" })).await;
    alice.send(&room, "m.room.message", json!({ "msgtype": "m.text", "body": { "not": "garden" } })).await;

    let mut all = alice.finds("GARDEN").await;
    all.sort_unstable();
    assert_eq!(all, ["All about our garden", "The Garden", "The garden is green"]);
    assert_eq!(alice.finds("garden green").await, ["The garden is green"]);
    assert_eq!(alice.finds("\"is green\"").await, ["The garden is green"]);
    assert_eq!(alice.finds("\"green is\"").await, Vec::<String>::new());
    assert_eq!(alice.finds("gard").await, Vec::<String>::new());
    for (keys, expected) in [(json!(["content.body"]), "The garden is green"), (json!(["content.name"]), "The Garden")]
    {
        assert_eq!(found(&alice.search(json!({ "search_term": "garden", "keys": keys })).await), [expected]);
    }
    let results = alice.search(json!({ "search_term": "Garden, green" })).await;
    assert_eq!((&results["count"], &results["highlights"]), (&json!(1), &json!(["garden", "green"])));
}

#[tokio::test]
async fn a_search_shows_no_more_than_its_user_may_see() {
    let world = World::new().await;
    let (alice, bob, eve) = (world.person("alice").await, world.person("bob").await, world.person("eve").await);
    let state = json!([{ "type": "m.room.history_visibility", "content": { "history_visibility": "joined" } }]);
    let room = alice.create(json!({ "preset": "public_chat", "initial_state": state })).await;
    alice.say(&room, "secret before").await;
    bob.join(&room).await;
    alice.say(&room, "secret during").await;
    bob.post(&format!("/rooms/{room}/leave"), json!({})).await.ok();
    alice.say(&room, "secret after").await;

    assert_eq!(alice.finds("secret").await, ["secret after", "secret during", "secret before"]);
    assert_eq!(bob.finds("secret").await, ["secret during"]);
    let of_bob = bob.search(json!({ "search_term": "secret", "include_state": true })).await;
    assert_eq!(of_bob["count"], 1, "what cannot be seen is not counted either");
    let context = &of_bob["results"][0]["context"];
    assert!(!context.to_string().contains("secret"), "{context}");
    assert!(of_bob["state"][&room].is_array());
    assert_eq!(eve.finds("secret").await, Vec::<String>::new());
    // Naming the room opens no door.
    let named = json!({ "search_term": "secret", "filter": { "rooms": [room] } });
    assert_eq!(eve.search(named).await["count"], 0);
    bob.post(&format!("/rooms/{room}/forget"), json!({})).await.ok();
    assert_eq!(bob.finds("secret").await, Vec::<String>::new());
    let ignored = json!({ "ignored_users": { alice.id(): {} } });
    bob.join(&room).await;
    assert_eq!(bob.finds("secret").await, ["secret during"]);
    bob.put(&format!("/user/{}/account_data/m.ignored_user_list", bob.id()), ignored).await.ok();
    assert_eq!(bob.finds("secret").await, Vec::<String>::new());
}

#[tokio::test]
async fn what_was_redacted_is_not_found_any_more() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = alice.create(json!({})).await;
    let said = alice.say(&room, "a regrettable remark").await;
    assert_eq!(alice.finds("regrettable").await.len(), 1);
    alice.put(&format!("/rooms/{room}/redact/{said}/1"), json!({})).await.ok();
    assert_eq!(alice.search(json!({ "search_term": "regrettable" })).await["count"], 0);
}

#[tokio::test]
async fn batches_go_on_until_everything_was_given_once_in_either_order() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let rooms = [alice.create(json!({})).await, alice.create(json!({})).await];
    for number in 0..12 {
        alice.say(&rooms[number % 2], &format!("tea{} {number}", " and cake".repeat(number % 5))).await;
    }
    for order in ["recent", "rank"] {
        let criteria = json!({ "search_term": "tea", "order_by": order, "filter": { "limit": 5 } });
        let mut page = alice.search(criteria.clone()).await;
        let mut all = Vec::new();
        let mut pages = Vec::new();
        loop {
            assert_eq!(page["count"], 12, "{order}");
            pages.push(found(&page).len());
            all.extend(page["results"].as_array().unwrap().clone());
            match &page["next_batch"] {
                Value::Null => break,
                batch => page = alice.search_on(criteria.clone(), batch).await,
            }
        }
        assert_eq!(pages, [5, 5, 2], "{order}");
        let value = |result: &Value| match order {
            "rank" => result["rank"].as_f64().unwrap(),
            _ => result["result"]["origin_server_ts"].as_f64().unwrap(),
        };
        assert!(all.windows(2).all(|pair| value(&pair[0]) >= value(&pair[1])), "{order}");
        all.sort_by_key(|result| text(&result["result"]["event_id"]));
        all.dedup_by_key(|result| text(&result["result"]["event_id"]));
        assert_eq!(all.len(), 12, "{order}");
    }
    alice
        .post(
            "/search?next_batch=nonsense",
            json!({ "search_categories": { "room_events": { "search_term": "tea" } } }),
        )
        .await
        .refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn results_come_with_context_and_profiles_and_in_groups_that_go_on_by_themselves() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    let other = alice.create(json!({})).await;
    bob.put(&format!("/profile/{}/displayname", bob.id()), json!({ "displayname": "Bobby" })).await.ok();
    bob.join(&room).await;
    for number in 0..3 {
        alice.say(&room, &format!("before {number}")).await;
    }
    bob.say(&room, "the needle").await;
    alice.say(&room, "after").await;
    alice.say(&other, "another needle").await;
    alice.say(&room, "needle three").await;

    let criteria = json!({
        "search_term": "needle", "order_by": "recent",
        "filter": { "senders": [bob.id()] },
        "event_context": { "before_limit": 2, "after_limit": 1, "include_profile": true },
    });
    let results = alice.search(criteria).await;
    assert_eq!(results["count"], 1);
    let context = &results["results"][0]["context"];
    let around = [&context["events_before"], &context["events_after"]];
    assert_eq!(around.map(|side| side.as_array().map(Vec::len)), [Some(2), Some(1)]);
    assert_eq!(context["events_before"][0]["content"]["body"], "before 2");
    assert_eq!(context["profile_info"][bob.id()]["displayname"], "Bobby");
    let back = format!("/rooms/{room}/messages?dir=b&limit=1&from={}", text(&context["start"]));
    assert_eq!(alice.get(&back).await.ok()["chunk"][0]["content"]["body"], "before 0");

    let criteria = json!({
        "search_term": "needle", "order_by": "recent", "filter": { "limit": 2 },
        "groupings": { "group_by": [{ "key": "room_id" }, { "key": "sender" }] },
    });
    let results = alice.search(criteria.clone()).await;
    let groups = &results["groups"];
    assert_eq!(groups["room_id"][&room]["results"].as_array().map(Vec::len), Some(1));
    assert_eq!(groups["room_id"][&other]["next_batch"], Value::Null);
    assert_eq!(groups["sender"][alice.id()]["results"].as_array().map(Vec::len), Some(2));
    let more = alice.search_on(criteria, &groups["room_id"][&room]["next_batch"]).await;
    assert_eq!(found(&more), ["the needle"]);
}

#[tokio::test]
async fn nonsense_is_refused_and_nothing_to_look_for_finds_nothing() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    for criteria in [
        json!({ "search_term": "x".repeat(2_000) }),
        json!({ "search_term": "x ".repeat(100) }),
        json!({ "search_term": "x", "order_by": "colour" }),
    ] {
        let body = json!({ "search_categories": { "room_events": criteria } });
        alice.post("/search", body).await.refused(400, "M_INVALID_PARAM");
    }
    alice.post("/search", json!({ "search_categories": { "room_events": {} } })).await.refused(400, "M_BAD_JSON");
    alice.post("/search", json!({ "search_categories": {} })).await.ok();
    assert_eq!(alice.search(json!({ "search_term": " … " })).await["count"], 0);
}
