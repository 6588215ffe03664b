//! What waits is sent in order, once, and within its bounds.

use kith_store::{
    MemoryBackend, Options, Store, WriterMode,
    tables::rooms::{EventRow, EventStatus},
};
use ruma::{
    api::federation::transactions::edu::{DeviceListUpdateContent, DirectDeviceContent, SigningKeyUpdateContent},
    server_name, uint, user_id,
};

use super::*;

const AWAY: &str = "away.example.org";

fn store() -> Store {
    let options = Options { writer: WriterMode::Inline, reserve_bytes: 0, cache_bytes: 1 << 20, ..Options::default() };
    Store::open(MemoryBackend::new(), options).unwrap()
}

fn change<T: Send + 'static>(
    store: &Store,
    change: impl FnOnce(&mut Tx) -> Result<T, StoreError> + Send + 'static,
) -> T {
    store.submit(change).wait().unwrap()
}

/// An event of ours (or of others) at the next position of a room; what of ours is new is to be sent.
fn event(store: &Store, room: u64, ours: bool, body: &str) {
    let json = format!("{{\"body\":\"{body}\"}}");
    change(store, move |tx| {
        let (number, position) = (tx.allocate(Counter::Event), tx.next_position());
        let row = EventRow {
            room,
            status: EventStatus::Accepted,
            ours,
            depth: position,
            position,
            state_before: 0,
            state_after: 0,
            auth: vec![],
            event_id: format!("${number}"),
            json,
        };
        ROOM_SERVERS.put(tx, &(room, AWAY.to_owned()), &1)?;
        EVENTS.put(tx, &number, &row)?;
        if ours {
            OWN_STREAM.put(tx, &(room, position), &number)?;
            let key = (AWAY.to_owned(), room);
            let sent = OUTGOING.get(tx, &key)?.map_or(position - 1, |(sent, _)| sent);
            OUTGOING.put(tx, &key, &(sent, position))?;
        }
        Ok(())
    });
}

fn next(store: &Store, away: bool) -> Option<Transaction> {
    store.read(|read| compose(read, AWAY, &mut VecDeque::new(), How { away, ..How::default() }, || 0)).unwrap()
}

fn bodies(transaction: &Transaction) -> Vec<String> {
    let body = |pdu: &RawValue| serde_json::from_str::<Value>(pdu.get()).unwrap()["body"].as_str().unwrap().to_owned();
    transaction.pdus.iter().map(|pdu| body(pdu)).collect()
}

fn deliver(store: &Store, transaction: Transaction) {
    change(store, move |tx| complete(tx, AWAY, &transaction, false));
}

fn to_device(id: &str) -> Edu {
    let sender = user_id!("@a:us.example.org").to_owned();
    Edu::DirectToDevice(DirectDeviceContent::new(sender, "m.dummy".into(), id.into()))
}

fn enqueue(store: &Store, edu: Edu, now: u64) {
    change(store, move |tx| enqueue_edu(tx, server_name!("away.example.org"), &edu, now));
}

#[test]
fn events_of_several_rooms_go_in_the_order_in_which_they_were_written() {
    let store = store();
    let mut all = Vec::new();
    for number in 0..130 {
        event(&store, number % 3, true, &number.to_string());
        event(&store, number % 3, false, "of another server");
        all.push(number.to_string());
    }
    let mut sent = Vec::new();
    while let Some(transaction) = next(&store, false) {
        assert!(transaction.pdus.len() <= MOST_PDUS && !transaction.still_away);
        sent.extend(bodies(&transaction));
        deliver(&store, transaction);
    }
    assert_eq!(sent, all);
}

#[test]
fn the_same_transaction_is_made_again_after_a_failure_and_another_one_when_there_is_more() {
    let store = store();
    event(&store, 1, true, "one");
    let first = next(&store, false).unwrap();
    assert_eq!(next(&store, false).unwrap().id, first.id);
    event(&store, 1, true, "two");
    assert_ne!(next(&store, false).unwrap().id, first.id);
    // What came in between stays when the first is acknowledged.
    deliver(&store, first);
    assert_eq!(bodies(&next(&store, false).unwrap()), ["two"]);
}

#[test]
fn who_was_away_for_long_gets_the_latest_event_of_each_room_and_fetches_the_rest() {
    let store = store();
    for number in 0..40 {
        event(&store, 1, true, &format!("one {number}"));
        event(&store, 2, true, &format!("two {number}"));
    }
    let transaction = next(&store, true).unwrap();
    assert!(transaction.still_away);
    assert_eq!(bodies(&transaction), ["two 39", "one 39"]);
    deliver(&store, transaction);
    assert!(next(&store, true).is_none());
    event(&store, 1, true, "new");
    assert_eq!(bodies(&next(&store, true).unwrap()), ["new"], "little is missing: it is sent in full");
}

#[test]
fn updates_of_a_user_collapse_and_an_old_acknowledgement_does_not_delete_a_newer_one() {
    let store = store();
    let user = user_id!("@a:us.example.org");
    let update = |device: &str, stream| {
        let content = DeviceListUpdateContent::new(user.to_owned(), device.into(), stream);
        Edu::DeviceListUpdate(content)
    };
    enqueue(&store, update("ONE", uint!(1)), 5);
    let first = next(&store, false).unwrap();
    enqueue(&store, update("TWO", uint!(2)), 6);
    deliver(&store, first);
    let second = next(&store, false).unwrap();
    assert_eq!(second.edus.len(), 1);
    assert!(second.edus[0].get().contains("TWO"));
    deliver(&store, second);
    assert!(next(&store, false).is_none());
    // Keys of two updates that wait together are both new to the receiver.
    let mut keys = SigningKeyUpdateContent::new(user.to_owned());
    keys.master_key = Some(serde_json::from_value(json!({"k": "master"})).unwrap());
    enqueue(&store, Edu::SigningKeyUpdate(keys), 7);
    let mut keys = SigningKeyUpdateContent::new(user.to_owned());
    keys.self_signing_key = Some(serde_json::from_value(json!({"k": "self-signing"})).unwrap());
    enqueue(&store, Edu::SigningKeyUpdate(keys), 8);
    let both = next(&store, false).unwrap();
    assert_eq!(both.edus.len(), 1);
    assert!(both.edus[0].get().contains("master\"") && both.edus[0].get().contains("self-signing\""));
}

#[test]
fn device_messages_wait_in_order_for_thirty_days() {
    let store = store();
    for number in 0..250 {
        enqueue(&store, to_device(&format!("m{number}")), number);
    }
    let mut ids = Vec::new();
    while let Some(transaction) = next(&store, false) {
        assert!(transaction.edus.len() <= MOST_EDUS);
        for edu in &transaction.edus {
            let edu: Value = serde_json::from_str(edu.get()).unwrap();
            ids.push(edu["content"]["message_id"].as_str().unwrap().to_owned());
        }
        deliver(&store, transaction);
    }
    assert_eq!(ids, (0..250).map(|number| format!("m{number}")).collect::<Vec<_>>());
    enqueue(&store, to_device("old"), 1);
    enqueue(&store, to_device("new"), LONGEST_WAIT);
    let dropped = change(&store, |tx| expire(tx, &AWAY.to_owned(), LONGEST_WAIT + 2));
    assert_eq!(dropped, 1);
    assert_eq!(next(&store, false).unwrap().edus.len(), 1);
    let row = store.read(|read| DESTINATIONS.get(read, &AWAY.to_owned())).unwrap().unwrap().0;
    assert_eq!(row.dropped, 1);
}

#[test]
fn what_may_be_lost_fills_the_transaction_up_and_the_rest_waits() {
    let store = store();
    let mut ephemeral: VecDeque<Value> = (0..150).map(|n| json!({"edu_type": "m.typing", "n": n})).collect();
    let first = store.read(|read| compose(read, AWAY, &mut ephemeral, How::default(), || 1)).unwrap().unwrap();
    assert!(first.droppable);
    assert_eq!((first.edus.len(), ephemeral.len()), (MOST_EDUS, 50));
    let mut again: VecDeque<Value> = (0..100).map(|n| json!({"edu_type": "m.typing", "n": n})).collect();
    let second = store.read(|read| compose(read, AWAY, &mut again, How::default(), || 2)).unwrap().unwrap();
    assert_ne!(first.id, second.id, "typing again is not the same typing");
}
