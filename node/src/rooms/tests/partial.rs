//! Rooms joined without their members.

use kith_room::build::build;
use kith_store::tables::rooms::{EventStatus, PARTIAL, PARTIAL_EVENTS, STREAM, TIMELINE};
use ruma::OwnedEventId;

use super::*;
use crate::rooms::{Received, partial::PartialJoin};

/// A message that the server's user sends where it likes, citing what it likes.
fn forged(
    server: &Server,
    room: &Room,
    prev: &[OwnedEventId],
    auth: &[OwnedEventId],
    depth: u64,
) -> Arc<kith_room::Event> {
    let builder = text(&server.user, "still here").builder(Some(room.id().to_owned())).unwrap();
    let at = super::super::timestamp(1_700_000_000_500);
    Arc::new(build(builder, room.version(), prev, auth, depth, at, server.rooms.parts.signer()).unwrap())
}

#[tokio::test]
async fn what_a_banned_user_said_while_the_members_were_missing_is_hidden_when_they_come() {
    let (one, two, bad) =
        (server(1, MemoryBackend::new()), server(2, MemoryBackend::new()), server(3, MemoryBackend::new()));
    let here = create(&one, &RoomVersionId::V12).await;
    let of_bad = join(&one, &here, &bad).await;
    let cited = {
        let snapshot = bad.store.snapshot().unwrap();
        let of = |kind: &str, key: &str| {
            let event = read::state_event(&snapshot, of_bad.number(), kind, key).unwrap().unwrap();
            OwnedEventId::try_from(event.row.event_id).unwrap()
        };
        vec![of("m.room.power_levels", ""), of("m.room.member", bad.user.as_str())]
    };
    let mut ban = member(&bad.user, "ban");
    ban.sender = one.user.clone();
    here.send(ban).await.unwrap();

    let (state, event) = let_in(&one, &here, &two).await;
    let without: Vec<_> = state.iter().filter(|event| event.kind() != "m.room.member").cloned().collect();
    // What the room rests on comes all the same, and the membership that is cited is fetched when it is.
    let chain: Vec<_> = here_all(&one, &here).into_iter().filter(|event| event.kind() == "m.room.member").collect();
    let there = two.rooms.get_or_new(here.id(), here.version()).unwrap();
    let servers = [&one, &bad].map(|server| server.user.server_name().to_owned()).to_vec();
    let partial = PartialJoin { through: one.user.server_name().to_owned(), servers };
    assert!(there.import_join(chain, without, event.clone(), Some(partial)).await.unwrap());
    assert_eq!(there.uncompleted().unwrap().unwrap().join.event_id(), event.event_id());
    {
        let snapshot = two.store.snapshot().unwrap();
        let mut known = read::servers(&snapshot, there.number()).unwrap();
        known.sort();
        let mut all = [&one, &two, &bad].map(|server| server.user.server_name().to_string());
        all.sort();
        assert_eq!(known, all, "all servers of the room are sent to");
    }

    let said = forged(&bad, &here, &[event.event_id().to_owned()], &cited, event.depth() + 1);
    let results = there.receive("", vec![said.clone()]).await.unwrap();
    assert_eq!(results[0].1, Received::Accepted, "the ban is not known yet");
    let own = there.send(text(&two.user, "who is there?")).await.unwrap();
    let number = there.number();
    let shown = |server: &Server| {
        let snapshot = server.store.snapshot().unwrap();
        let stream = STREAM.prefix(&snapshot, &number).unwrap().count();
        let timeline = TIMELINE.prefix(&snapshot, &number).unwrap().count();
        (stream, timeline)
    };
    assert_eq!(shown(&two), (3, 3));

    // A state that does not hold the room together changes nothing.
    let nonsense = state.iter().filter(|event| event.kind() != "m.room.create").cloned().collect();
    assert!(there.complete(Vec::new(), nonsense).await.is_err());
    assert!(there.uncompleted().unwrap().is_some());

    assert!(there.complete(Vec::new(), state).await.unwrap());
    assert!(!there.complete(Vec::new(), Vec::new()).await.unwrap(), "once is enough");
    let look = |server: &Server| {
        let snapshot = server.store.snapshot().unwrap();
        let status = |id: &ruma::EventId| read::event_by_id(&snapshot, id.as_str()).unwrap().unwrap().row.status;
        assert_eq!(status(said.event_id()), EventStatus::Rejected);
        // It was cited by what followed, which stays.
        assert_eq!(status(&own), EventStatus::Accepted);
        let row = read::room(&snapshot, number).unwrap().unwrap();
        let mut current = read::current_state(&snapshot, number).unwrap();
        let mut stored = read::state_at(&snapshot, row.state).unwrap();
        for events in [&mut current, &mut stored] {
            events.sort_by_key(|event| event.number);
        }
        let ids = |events: &[read::StoredEvent]| -> Vec<String> {
            events.iter().map(|event| event.row.event_id.clone()).collect()
        };
        assert_eq!(ids(&current), ids(&stored));
        assert_eq!(current.len(), 6, "create, levels, rules, and three members");
        assert_eq!(PARTIAL.range(&snapshot, ..).unwrap().count(), 0);
        assert_eq!(PARTIAL_EVENTS.range(&snapshot, ..).unwrap().count(), 0);
        let mut known = read::servers(&snapshot, number).unwrap();
        known.sort();
        let mut expected = [&one, &two].map(|server| server.user.server_name().to_string());
        expected.sort();
        assert_eq!(known, expected, "the banned user's server is in the room no more");
    };
    look(&two);
    assert_eq!(shown(&two), (2, 2), "the join, and what its own user said");
    there.send(text(&two.user, "on we go")).await.unwrap();
    two.store.close();
    let two = server(2, two.backend.crash(7));
    look(&two);
    let there = two.rooms.require(here.id()).unwrap();
    there.send(text(&two.user, "after a restart")).await.unwrap();
}

/// All events that a server has of a room.
fn here_all(server: &Server, room: &Room) -> Vec<Arc<kith_room::Event>> {
    let snapshot = server.store.snapshot().unwrap();
    let rows = TIMELINE.prefix(&snapshot, &room.number()).unwrap();
    rows.map(|row| {
        let event = read::event(&snapshot, row.unwrap().0.2).unwrap().unwrap();
        let id = OwnedEventId::try_from(event.row.event_id.as_str()).unwrap();
        Arc::new(kith_room::Event::from_stored(event.row.json, id, room.rules()).unwrap())
    })
    .collect()
}

#[tokio::test]
async fn while_the_members_are_missing_nobody_is_let_in_who_might_be_banned() {
    let (one, two) = (server(1, MemoryBackend::new()), server(2, MemoryBackend::new()));
    let here = create(&one, &RoomVersionId::V11).await;
    let (state, event) = let_in(&one, &here, &two).await;
    let without: Vec<_> = state.iter().filter(|event| event.kind() != "m.room.member").cloned().collect();
    let there = two.rooms.get_or_new(here.id(), here.version()).unwrap();
    let partial = PartialJoin { through: one.user.server_name().to_owned(), servers: Vec::new() };
    assert!(there.import_join(state.clone(), without, event, Some(partial)).await.unwrap());
    let other = UserId::parse(format!("@bob:{}", two.user.server_name())).unwrap();
    let refused = there.send(member(&other, "join")).await.unwrap_err();
    assert_eq!(refused.status, http::StatusCode::GATEWAY_TIMEOUT, "{refused:?}");
    there.complete(Vec::new(), state).await.unwrap();
    there.send(member(&other, "join")).await.unwrap();
}
