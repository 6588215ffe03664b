//! Rooms over a real engine and a store on memory.

mod partial;

use std::sync::{Arc, Mutex};

use kith_store::{
    Json, MemoryBackend, Options, Store, WriterMode,
    tables::rooms::{OUTGOING, ROOM_IDS, ROOMS, RoomRow, membership},
};
use kith_transport::{KithName, SecretKey};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, ServerName, UserId};
use serde_json::{Map, Value, json};

use super::{Draft, Room, Rooms, read};
use crate::platform::{ManualClock, Rng};

pub(crate) struct Server {
    pub(crate) rooms: Rooms,
    pub(crate) store: Store,
    pub(crate) backend: MemoryBackend,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) user: OwnedUserId,
}

fn options() -> Options {
    Options { writer: WriterMode::Inline, reserve_bytes: 0, cache_bytes: 1 << 20, ..Options::default() }
}

pub(crate) fn server(seed: u8, backend: MemoryBackend) -> Server {
    server_with(seed, backend, options())
}

fn server_with(seed: u8, backend: MemoryBackend, options: Options) -> Server {
    let secret = SecretKey::from_seed([seed; 32]);
    let name = KithName::new(secret.public(), None).unwrap().to_string();
    let store = Store::open(backend.clone(), options).unwrap();
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let rooms = Rooms::new(
        store.clone(),
        clock.clone(),
        Rng::from_seed(seed.into()),
        ServerName::parse(&name).unwrap(),
        Arc::new(crate::node::key_pair(&secret).unwrap()),
    );
    Server { rooms, store, backend, clock, user: UserId::parse(format!("@alice:{name}")).unwrap() }
}

pub(crate) fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

pub(crate) async fn create(server: &Server, version: &RoomVersionId) -> Room {
    let user = &server.user;
    let content = match version {
        &RoomVersionId::V10 => object(json!({"creator": user})),
        _ => Map::new(),
    };
    let levels = match version {
        &RoomVersionId::V12 => json!({"users_default": 0}),
        _ => json!({"users": {user.as_str(): 100}}),
    };
    let create = Draft::state(user.clone(), "m.room.create", "", content);
    let id = (version != &RoomVersionId::V12).then(|| server.rooms.new_room_id());
    let drafts = |_: &ruma::RoomId| {
        vec![
            Draft::state(user.clone(), "m.room.member", user.as_str(), object(json!({"membership": "join"}))),
            Draft::state(user.clone(), "m.room.power_levels", "", object(levels)),
            Draft::state(user.clone(), "m.room.join_rules", "", object(json!({"join_rule": "public"}))),
        ]
    };
    server.rooms.create(version, id, drafts, create).await.unwrap()
}

fn text(user: &UserId, body: &str) -> Draft {
    Draft::message(user.to_owned(), "m.room.message", object(json!({"msgtype": "m.text", "body": body})))
}

#[tokio::test]
async fn a_created_room_has_its_state_and_survives_a_crash() {
    for version in [RoomVersionId::V10, RoomVersionId::V11, RoomVersionId::V12] {
        let one = server(1, MemoryBackend::new());
        let room = create(&one, &version).await;
        let sent = room.send(text(&one.user, "hello")).await.unwrap();
        let id = room.id().to_owned();
        one.store.close();
        let one = server(1, one.backend.crash(7));
        let room = one.rooms.require(&id).unwrap();
        let snapshot = one.store.snapshot().unwrap();
        assert_eq!(read::current_state(&snapshot, room.number()).unwrap().len(), 4, "{version}");
        assert!(read::is_joined(&snapshot, one.user.as_str(), room.number()).unwrap());
        let event = read::event_by_id(&snapshot, sent.as_str()).unwrap().unwrap();
        assert_eq!(event.content()["body"], "hello");
        let state = read::state_at(&snapshot, event.row.state_before).unwrap();
        assert_eq!(state.len(), 4);
        // The room goes on from where it was.
        let next = room.send(text(&one.user, "again")).await.unwrap();
        let snapshot = one.store.snapshot().unwrap();
        let next = read::event_by_id(&snapshot, next.as_str()).unwrap().unwrap();
        assert_eq!(next.pdu()["prev_events"], json!([sent]));
        assert_eq!(next.row.depth, event.row.depth + 1);
    }
}

#[tokio::test]
async fn past_states_are_found_at_every_event() {
    let one = server(1, MemoryBackend::new());
    let room = create(&one, &RoomVersionId::V12).await;
    let mut events = Vec::new();
    for number in 0..70 {
        let topic = object(json!({"topic": format!("topic {number}")}));
        events.push(room.send(Draft::state(one.user.clone(), "m.room.topic", "", topic)).await.unwrap());
    }
    let snapshot = one.store.snapshot().unwrap();
    for (number, event) in events.iter().enumerate() {
        let event = read::event_by_id(&snapshot, event.as_str()).unwrap().unwrap();
        let after = read::state_event_at(&snapshot, event.row.state_after, "m.room.topic", "").unwrap().unwrap();
        assert_eq!(after.content()["topic"], format!("topic {number}"));
        let before = read::state_event_at(&snapshot, event.row.state_before, "m.room.topic", "").unwrap();
        assert_eq!(before.is_some(), number > 0);
        assert_eq!(read::state_at(&snapshot, event.row.state_after).unwrap().len(), 5);
    }
}

#[tokio::test]
async fn events_sent_at_once_form_one_line() {
    let one = server(1, MemoryBackend::new());
    let room = create(&one, &RoomVersionId::V12).await;
    let sends = (0..50).map(|number| room.send(text(&one.user, &number.to_string())));
    let sent: Vec<_> = futures::future::join_all(sends).await.into_iter().map(Result::unwrap).collect();
    let snapshot = one.store.snapshot().unwrap();
    for pair in sent.windows(2) {
        let event = read::event_by_id(&snapshot, pair[1].as_str()).unwrap().unwrap();
        assert_eq!(event.pdu()["prev_events"], json!([pair[0]]));
    }
}

#[tokio::test]
async fn a_forbidden_event_leaves_nothing_behind_and_the_room_goes_on() {
    let one = server(1, MemoryBackend::new());
    let room = create(&one, &RoomVersionId::V11).await;
    let stranger = UserId::parse(format!("@bob:{}", one.user.server_name())).unwrap();
    let refused = room.send_many(vec![text(&one.user, "first"), text(&stranger, "not joined")]).await.unwrap_err();
    assert!(refused.is("M_FORBIDDEN"), "{refused}");
    let sent = room.send(text(&one.user, "after")).await.unwrap();
    let snapshot = one.store.snapshot().unwrap();
    let event = read::event_by_id(&snapshot, sent.as_str()).unwrap().unwrap();
    assert_eq!(event.row.depth, 5, "the refused batch left an event in the graph");
}

#[tokio::test]
async fn a_failed_commit_drops_the_head_and_later_sends_work() {
    let one = server(1, MemoryBackend::new());
    let room = create(&one, &RoomVersionId::V12).await;
    one.backend.fail_once_after(3);
    let mut failed = 0;
    for number in 0..5 {
        failed += u32::from(room.send(text(&one.user, &number.to_string())).await.is_err());
    }
    assert!(failed >= 1, "the injected failure hit nothing");
    assert!(failed < 5, "the room did not recover");
    let snapshot = one.store.snapshot().unwrap();
    assert_eq!(read::room(&snapshot, room.number()).unwrap().unwrap().depth, 4 + u64::from(5 - failed));
}

#[tokio::test]
async fn a_redaction_removes_content_from_the_disk() {
    let one = server(1, MemoryBackend::new());
    let room = create(&one, &RoomVersionId::V12).await;
    let secret = room.send(text(&one.user, "a secret")).await.unwrap();
    let mut redaction =
        Draft::message(one.user.clone(), "m.room.redaction", object(json!({"redacts": secret, "reason": "oops"})));
    redaction.redacts = Some(secret.clone());
    room.send(redaction).await.unwrap();
    let snapshot = one.store.snapshot().unwrap();
    let event = read::event_by_id(&snapshot, secret.as_str()).unwrap().unwrap();
    assert!(event.content().is_empty());
    assert!(!event.row.json.contains("a secret"));
}

/// Takes the room of `from` to `to` as a join over federation does.
async fn join(from: &Server, room: &Room, to: &Server) -> Room {
    let (state, event) = let_in(from, room, to).await;
    let joined = to.rooms.get_or_new(room.id(), room.version()).unwrap();
    joined.import_join(state.clone(), state, event, None).await.unwrap();
    joined
}

/// The state of the room of `from`, and then the join of the user of `to`, which that room has taken in.
async fn let_in(from: &Server, room: &Room, to: &Server) -> (Vec<Arc<kith_room::Event>>, Arc<kith_room::Event>) {
    let state = {
        let snapshot = from.store.snapshot().unwrap();
        let parse = |event: read::StoredEvent| {
            let id = event.row.event_id.as_str().try_into().unwrap();
            Arc::new(kith_room::Event::from_stored(event.row.json, id, room.rules()).unwrap())
        };
        read::current_state(&snapshot, room.number()).unwrap().into_iter().map(parse).collect()
    };
    let member =
        Draft::state(to.user.clone(), "m.room.member", to.user.as_str(), object(json!({"membership": "join"})));
    let template = room
        .with_engine(|engine, past| {
            engine
                .template(member.builder(None).unwrap(), super::timestamp(1_700_000_000_001), 1, past)
                .map_err(super::room::refusal)
        })
        .await
        .unwrap();
    let event = kith_room::build::complete_template(
        template,
        room.version(),
        super::timestamp(1_700_000_000_001),
        to.rooms.parts.signer(),
    )
    .unwrap();
    let event = Arc::new(event);
    room.receive_for_others(to.user.server_name().as_str(), event.clone()).await.unwrap();
    (state, event)
}

#[tokio::test]
async fn a_room_joined_from_another_server_has_the_same_state_and_goes_on_with_it() {
    for version in [RoomVersionId::V10, RoomVersionId::V12] {
        let (one, two) = (server(1, MemoryBackend::new()), server(2, MemoryBackend::new()));
        let here = create(&one, &version).await;
        here.send(text(&one.user, "before")).await.unwrap();
        let there = join(&one, &here, &two).await;
        let state = |server: &Server, room: &Room| {
            let snapshot = server.store.snapshot().unwrap();
            let mut ids: Vec<_> = read::current_state(&snapshot, room.number())
                .unwrap()
                .into_iter()
                .map(|event| event.row.event_id)
                .collect();
            ids.sort();
            ids
        };
        assert_eq!(state(&one, &here), state(&two, &there));
        let sent = there.send(text(&two.user, "hello")).await.unwrap();
        let event = {
            let snapshot = two.store.snapshot().unwrap();
            assert_eq!(read::users_with(&snapshot, there.number(), membership::JOIN).unwrap().len(), 2, "{version}");
            let destination = (one.user.server_name().to_string(), there.number());
            let (sent_up_to, latest) = OUTGOING.get(&snapshot, &destination).unwrap().unwrap();
            assert!(sent_up_to < latest);
            let row = read::event_by_id(&snapshot, sent.as_str()).unwrap().unwrap().row;
            Arc::new(kith_room::Event::from_stored(row.json, sent.clone(), there.rules()).unwrap())
        };
        let received = here.receive(two.user.server_name().as_str(), vec![event.clone()]).await.unwrap();
        assert_eq!(received[0].1, super::Received::Accepted);
        let again = here.receive(two.user.server_name().as_str(), vec![event]).await.unwrap();
        assert_eq!(again[0].1, super::Received::Known);
    }
}

#[tokio::test]
async fn an_event_with_a_missing_past_is_parked_and_taken_in_once_that_came() {
    let (one, two) = (server(1, MemoryBackend::new()), server(2, MemoryBackend::new()));
    let here = create(&one, &RoomVersionId::V12).await;
    let there = join(&one, &here, &two).await;
    let first = there.send(text(&two.user, "first")).await.unwrap();
    let second = there.send(text(&two.user, "second")).await.unwrap();
    let event = |id: &ruma::EventId| {
        let row = read::event_by_id(&two.store.snapshot().unwrap(), id.as_str()).unwrap().unwrap().row;
        Arc::new(kith_room::Event::from_stored(row.json, id.to_owned(), there.rules()).unwrap())
    };
    let origin = two.user.server_name().as_str();
    let received = here.receive(origin, vec![event(&second)]).await.unwrap();
    assert_eq!(received[0].1, super::Received::Parked { prev: vec![first.clone()], auth: vec![] });
    assert_eq!(here.parked(&one.store.snapshot().unwrap()).unwrap().len(), 1);
    let received = here.receive(origin, vec![event(&first), event(&second)]).await.unwrap();
    assert!(received.iter().all(|(_, received)| *received == super::Received::Accepted));
    assert!(here.parked(&one.store.snapshot().unwrap()).unwrap().is_empty());
}

/// It was taken for one that is known, and dropped.
#[tokio::test]
async fn a_true_copy_that_comes_while_the_false_one_is_on_its_way_to_the_disk_is_kept() {
    // Commits wait for the word, once it is asked for.
    let waiting: Arc<Mutex<Option<Vec<kith_store::Waiting>>>> = Arc::default();
    let held = waiting.clone();
    let driver: kith_store::Driver = Box::new(move |commit| match &mut *held.lock().unwrap() {
        Some(held) => held.push(commit),
        None => commit.commit(),
    });
    let driven = Options { writer: WriterMode::Driven, driver: Some(driver), ..options() };
    let (one, two) = (server_with(1, MemoryBackend::new(), driven), server(2, MemoryBackend::new()));
    let here = create(&one, &RoomVersionId::V12).await;
    let there = join(&one, &here, &two).await;
    let id = there.send(text(&two.user, "the truth")).await.unwrap();
    let truth = stored(&two, &there, &id);
    let pruned = kith_room::redact::redact_text(truth.text(), there.rules()).unwrap();
    let falsehood = kith_room::Event::from_stored(pruned, id.clone(), there.rules()).unwrap().with_redacted(true);
    let origin = two.user.server_name().as_str();
    *waiting.lock().unwrap() = Some(Vec::new());
    let commit = async {
        let commits = waiting.lock().unwrap().take().unwrap();
        assert!(!commits.is_empty(), "something is on its way");
        commits.iter().for_each(kith_store::Waiting::commit);
    };
    let (first, second, ()) =
        futures::join!(here.receive(origin, vec![Arc::new(falsehood)]), here.receive(origin, vec![truth]), commit);
    assert_eq!((&first.unwrap()[0].1, &second.unwrap()[0].1), (&super::Received::Accepted, &super::Received::Known));
    assert!(row_of(&one, &id).json.contains("the truth"), "{}", row_of(&one, &id).json);
    // What follows it is judged by an event that is there as before.
    let next = there.send(text(&two.user, "next")).await.unwrap();
    let next = here.receive(origin, vec![stored(&two, &there, &next)]).await.unwrap();
    assert_eq!(next[0].1, super::Received::Accepted);
}

#[tokio::test]
async fn equal_rooms_made_in_one_millisecond_are_two_rooms() {
    let one = server(1, MemoryBackend::new());
    let (first, second) = futures::join!(create(&one, &RoomVersionId::V12), create(&one, &RoomVersionId::V12));
    let third = create(&one, &RoomVersionId::V12).await;
    assert_ne!(first.id(), second.id());
    assert_ne!(second.id(), third.id());
}

fn row_of(server: &Server, id: &ruma::EventId) -> kith_store::tables::rooms::EventRow {
    read::event_by_id(&server.store.snapshot().unwrap(), id.as_str()).unwrap().unwrap().row
}

fn stored(server: &Server, room: &Room, id: &ruma::EventId) -> Arc<kith_room::Event> {
    Arc::new(kith_room::Event::from_stored(row_of(server, id).json, id.to_owned(), room.rules()).unwrap())
}

fn member(of: &UserId, membership: &str) -> Draft {
    Draft::state(of.to_owned(), "m.room.member", of.as_str(), object(json!({"membership": membership})))
}

#[tokio::test]
async fn the_state_of_an_earlier_stay_is_not_mixed_into_that_of_a_new_one() {
    let (one, two) = (server(1, MemoryBackend::new()), server(2, MemoryBackend::new()));
    let here = create(&one, &RoomVersionId::V12).await;
    let there = join(&one, &here, &two).await;
    // Nobody else ever learns of this stay.
    let bob = UserId::parse(format!("@bob:{}", two.user.server_name())).unwrap();
    for draft in [member(&bob, "join"), member(&bob, "leave"), member(&two.user, "leave")] {
        there.send(draft).await.unwrap();
    }
    // The new stay begins behind a gap, where nothing here knows the state.
    here.send(text(&one.user, "meanwhile")).await.unwrap();
    let there = join(&one, &here, &two).await;
    let snapshot = two.store.snapshot().unwrap();
    let ids = |events: Vec<read::StoredEvent>| {
        let mut ids: Vec<_> = events.into_iter().map(|event| event.row.event_id).collect();
        ids.sort();
        ids
    };
    let current = ids(read::current_state(&snapshot, there.number()).unwrap());
    assert_eq!(current.len(), 5);
    let row = read::room(&snapshot, there.number()).unwrap().unwrap();
    assert_eq!(ids(read::state_at(&snapshot, row.state).unwrap()), current, "what a restart would load");
}

#[tokio::test]
async fn a_second_join_does_not_replace_the_room_that_is_here_already() {
    let (one, two) = (server(1, MemoryBackend::new()), server(2, MemoryBackend::new()));
    let here = create(&one, &RoomVersionId::V12).await;
    let there = join(&one, &here, &two).await;
    let said = there.send(text(&two.user, "hello")).await.unwrap();
    let join = stored(&one, &here, here.send(member(&one.user, "join")).await.unwrap().as_ref());
    assert!(!there.import_join(vec![], vec![], join, None).await.unwrap());
    let next = there.send(text(&two.user, "again")).await.unwrap();
    let snapshot = two.store.snapshot().unwrap();
    assert_eq!(read::event_by_id(&snapshot, next.as_str()).unwrap().unwrap().pdu()["prev_events"], json!([said]));
}

#[tokio::test]
async fn a_join_that_was_refused_as_an_event_is_refused_as_a_join_too() {
    let (one, two) = (server(1, MemoryBackend::new()), server(2, MemoryBackend::new()));
    let here = create(&one, &RoomVersionId::V12).await;
    let template = here
        .with_engine(|engine, past| {
            let at = super::timestamp(1_700_000_000_001);
            engine.template(member(&two.user, "join").builder(None)?, at, 1, past).map_err(super::room::refusal)
        })
        .await
        .unwrap();
    let at = super::timestamp(1_700_000_000_001);
    let signer = two.rooms.parts.signer();
    let join = Arc::new(kith_room::build::complete_template(template, here.version(), at, signer).unwrap());
    let closed = object(json!({"join_rule": "invite"}));
    here.send(Draft::state(one.user.clone(), "m.room.join_rules", "", closed)).await.unwrap();
    let origin = two.user.server_name().as_str();
    let received = here.receive(origin, vec![join.clone()]).await.unwrap();
    assert!(matches!(received[0].1, super::Received::Hidden(_)), "{received:?}");
    here.receive_for_others(origin, join).await.expect_err("it is known, but not allowed");
}

/// A simulated partition showed it: an event that was bridged to soft-failed, and the good message before it was neither fetched nor
/// to be found by scrolling back.
#[tokio::test]
async fn what_lies_under_a_soft_failed_event_is_a_gap_too_which_closes_whatever_becomes_of_what_comes() {
    use kith_store::tables::rooms::GAPS;
    let (one, two) = (server(1, MemoryBackend::new()), server(2, MemoryBackend::new()));
    let here = create(&one, &RoomVersionId::V12).await;
    let there = join(&one, &here, &two).await;
    let missed = there.send(text(&two.user, "missed")).await.unwrap();
    let next = there.send(text(&two.user, "next")).await.unwrap();
    let banned = object(json!({"membership": "ban"}));
    here.send(Draft::state(one.user.clone(), "m.room.member", two.user.as_str(), banned)).await.unwrap();
    let before = row_of(&two, &next).state_before;
    let state = read::state_at(&two.store.snapshot().unwrap(), before).unwrap();
    let state = state.into_iter().map(|event| {
        let id = ruma::OwnedEventId::try_from(event.row.event_id.as_str()).unwrap();
        stored(&two, &there, &id)
    });
    let bridged =
        here.receive_with_state(vec![], state.collect(), stored(&two, &there, &next), kith_room::Placement::Live);
    let bridged = bridged.await.unwrap();
    assert!(matches!(bridged, super::Received::Hidden(_)), "{bridged:?}");
    let gaps = || {
        let snapshot = one.store.snapshot().unwrap();
        GAPS.prefix(&snapshot, &here.number()).unwrap().map(|row| row.unwrap().0.2).collect::<Vec<_>>()
    };
    assert_eq!(gaps(), [missed.to_string()]);
    here.receive(two.user.server_name().as_str(), vec![stored(&two, &there, &missed)]).await.unwrap();
    assert!(gaps().is_empty());
}

#[tokio::test]
async fn a_strangers_redaction_does_not_push_out_the_authors_before_the_message_comes() {
    let (one, two) = (server(1, MemoryBackend::new()), server(2, MemoryBackend::new()));
    let three = server(3, MemoryBackend::new());
    let here = create(&one, &RoomVersionId::V12).await;
    let there = join(&one, &here, &two).await;
    let second = join(&one, &here, &three).await;
    let target = there.send(text(&two.user, "a secret")).await.unwrap();
    let redact = |user: &UserId| {
        let mut draft = Draft::message(user.to_owned(), "m.room.redaction", object(json!({"redacts": target})));
        draft.redacts = Some(target.clone());
        draft
    };
    // Both come before what they redact: the author's first, then that of somebody without any right to it.
    let by_author = here.send(redact(&one.user)).await.unwrap();
    let by_stranger = stored(&three, &second, second.send(redact(&three.user)).await.unwrap().as_ref());
    here.receive(three.user.server_name().as_str(), vec![by_stranger]).await.unwrap();
    let received = here.receive(two.user.server_name().as_str(), vec![stored(&two, &there, &target)]).await.unwrap();
    assert_eq!(received[0].1, super::Received::Accepted);
    assert!(!row_of(&one, &target).json.contains("a secret"));
    let snapshot = one.store.snapshot().unwrap();
    let number = kith_store::tables::rooms::EVENT_IDS.get(&snapshot, &target.to_string()).unwrap().unwrap();
    let by = kith_store::tables::rooms::REDACTED_BY.get(&snapshot, &number).unwrap();
    assert_eq!(by.as_deref(), Some(by_author.as_str()));
}

#[tokio::test]
async fn a_version_that_was_only_heard_of_gives_way_and_a_known_one_does_not() {
    let (one, two) = (server(1, MemoryBackend::new()), server(2, MemoryBackend::new()));
    let here = create(&one, &RoomVersionId::V11).await;
    // An invite claimed another version.
    two.rooms.get_or_new(here.id(), &RoomVersionId::V10).unwrap();
    let there = join(&one, &here, &two).await;
    assert_eq!(there.version(), &RoomVersionId::V11);
    let snapshot = two.store.snapshot().unwrap();
    assert_eq!(read::room(&snapshot, there.number()).unwrap().unwrap().version, "11");
    assert!(two.rooms.get_or_new(here.id(), &RoomVersionId::V10).is_err());
    there.send(text(&two.user, "hello")).await.unwrap();
}

#[tokio::test]
async fn the_events_of_one_server_do_not_take_all_places_of_those_that_wait() {
    use kith_store::tables::rooms::ParkedRow;
    let (one, two) = (server(1, MemoryBackend::new()), server(2, MemoryBackend::new()));
    let here = create(&one, &RoomVersionId::V12).await;
    join(&one, &here, &two).await;
    let park = |origin: String, count: usize| {
        let rows = (0..count).map(|number| {
            let (pdu, since) = ("{}".to_owned(), number as u64);
            let row = ParkedRow { origin: origin.clone(), pdu, stripped: false, since, tries: 0 };
            (format!("${origin}{number}"), row)
        });
        let (rows, room) = (rows.collect::<Vec<_>>(), here.number());
        one.store.write(move |tx| super::parking::park(tx, room, rows))
    };
    for stranger in 0..60 {
        park(format!("stranger{stranger}"), 20).await.unwrap();
    }
    let friend = two.user.server_name().to_string();
    park(friend.clone(), 200).await.unwrap();
    let parked = here.parked(&one.store.snapshot().unwrap()).unwrap();
    assert_eq!(parked.len(), super::MAX_PARKED);
    assert_eq!(parked.iter().filter(|(_, row)| row.origin == friend).count(), 200);
}

#[tokio::test]
async fn of_a_thousand_rooms_only_the_five_in_use_are_in_memory_and_the_others_are_there_when_they_are_needed() {
    let one = server(1, MemoryBackend::new());
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(create(&one, &RoomVersionId::V12).await.id().to_owned());
    }
    // The others are known as rooms are of which nothing came yet: making them takes long, and their heads are heads.
    let others: Vec<OwnedRoomId> = (0..990).map(|number| RoomId::parse(format!("!{number:0>43}")).unwrap()).collect();
    ids.extend(others.iter().cloned());
    let numbers: Vec<u64> = others.iter().map(|_| one.store.allocate(kith_store::Counter::Room)).collect();
    let write = one.store.write(move |tx| {
        for (number, id) in numbers.into_iter().zip(others) {
            let (room_id, version) = (id.to_string(), "12".to_owned());
            let row =
                RoomRow { room_id, version, joined: false, state: 0, depth: 0, changes: 0, begin: 0, completed: 0 };
            ROOM_IDS.put(tx, &id.to_string(), &number)?;
            ROOMS.put(tx, &number, &Json(row))?;
        }
        Ok::<_, kith_store::StoreError>(())
    });
    write.await.unwrap();
    for id in &ids {
        one.rooms.require(id).unwrap().with_engine(|engine, _| Ok(engine.depth())).await.unwrap();
        assert!(one.rooms.in_memory() <= super::KEPT, "{}", one.rooms.in_memory());
    }
    // Five are used all the time.
    let minute = std::time::Duration::from_secs(60);
    for round in 0..6 {
        for id in ids.iter().take(5) {
            one.rooms.require(id).unwrap().send(text(&one.user, &format!("round {round}"))).await.unwrap();
        }
        one.clock.advance(minute);
        one.rooms.drop_idle();
    }
    assert_eq!(one.rooms.in_memory(), 5);
    one.rooms.require(&ids[7]).unwrap().send(text(&one.user, "still here")).await.unwrap();
    assert_eq!(one.rooms.in_memory(), 6);
    // After a restart none is read before it is used.
    one.store.close();
    let one = server(1, one.backend.crash(1));
    assert_eq!(one.rooms.in_memory(), 0);
    for id in ids.iter().take(5) {
        one.rooms.require(id).unwrap().send(text(&one.user, "on")).await.unwrap();
    }
    assert_eq!(one.rooms.in_memory(), 5);
}
