//! Transaction IDs of clients' requests (client-server specification, "Transaction identifiers"): a request that comes again
//! adds no second event.

use kith_mutants::mutant;
use kith_store::{
    Read, StoreError, Tx,
    tables::rooms::{EVENT_TRANSACTIONS, EVENTS, TRANSACTIONS},
};

use super::change::{Judged, pdu_text};

/// For how many of the latest events the transaction IDs of their requests are kept.
const KEPT: u64 = 100_000;

/// User, device, transaction ID and what the request was about.
pub(crate) type Key = (String, String, String, String);

/// What names a request. IDs count for one path only: for a room, an event type and, for redactions, the event redacted.
pub(crate) fn key(
    user: &str,
    (device, transaction): &(String, String),
    room: u64,
    kind: &str,
    redacts: Option<&str>,
) -> Key {
    let about = format!("{room} {kind} {}", redacts.unwrap_or_default());
    (user.to_owned(), device.clone(), transaction.clone(), about)
}

/// The event that a request with this key made.
///
/// # Errors
/// The store's.
pub(crate) fn made(read: &dyn Read, key: &Key) -> Result<Option<String>, StoreError> {
    if mutant!("repeats-transactions") { Ok(None) } else { TRANSACTIONS.get(read, key) }
}

/// Notes which request made an event, if one did.
pub(super) fn note(tx: &mut Tx, room: u64, event: &Judged) -> Result<(), StoreError> {
    let Some(transaction) = &event.transaction else { return Ok(()) };
    let redacts = event.redacts.as_ref().map(|redacts| redacts.target.as_str());
    let key = key(&event.sender, transaction, room, &pdu_text(&event.json, "type"), redacts);
    TRANSACTIONS.put(tx, &key, &event.event_id)?;
    EVENT_TRANSACTIONS.put(tx, &event.number, transaction)?;
    forget(tx, event.number)
}

/// Forgets the transaction IDs of events that lie far back: nobody repeats their requests any more.
fn forget(tx: &mut Tx, newest: u64) -> Result<(), StoreError> {
    // Two for each that comes, so that a backlog shrinks.
    for _ in 0..2 {
        let Some((number, (device, transaction))) = EVENT_TRANSACTIONS.first(tx)? else { return Ok(()) };
        if number.saturating_add(KEPT) > newest {
            return Ok(());
        }
        EVENT_TRANSACTIONS.delete(tx, &number)?;
        let Some(row) = EVENTS.get(tx, &number)? else { continue };
        // The same ID may name requests about other things.
        let same_id = (pdu_text(&row.json, "sender"), device, transaction);
        let mut keys = Vec::new();
        for row_of in TRANSACTIONS.prefix(tx, &same_id)? {
            let (key, event_id) = row_of?;
            if event_id == row.event_id {
                keys.push(key);
            }
        }
        for key in keys {
            TRANSACTIONS.delete(tx, &key)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kith_store::{
        MemoryBackend, Options, Store, WriterMode,
        tables::rooms::{EventRow, EventStatus},
    };

    use super::*;

    #[tokio::test]
    async fn only_the_requests_of_events_far_back_are_forgotten() {
        let options =
            Options { writer: WriterMode::Inline, reserve_bytes: 0, cache_bytes: 1 << 20, ..Options::default() };
        let store = Store::open(MemoryBackend::new(), options).unwrap();
        let name = ("D".to_owned(), "t".to_owned());
        let of_room = |room| key("@a:x", &name, room, "m.room.message", None);
        let keys = [of_room(1), of_room(2)];
        let written: Result<(), StoreError> = store
            .write(move |tx| {
                for (number, key) in (1..).zip(keys) {
                    let row = EventRow {
                        room: number,
                        status: EventStatus::Accepted,
                        ours: true,
                        depth: 1,
                        position: number,
                        state_before: 0,
                        state_after: 0,
                        auth: Vec::new(),
                        event_id: format!("${number}"),
                        json: r#"{"type":"m.room.message","sender":"@a:x"}"#.to_owned(),
                    };
                    EVENTS.put(tx, &number, &row)?;
                    EVENT_TRANSACTIONS.put(tx, &number, &(key.1.clone(), key.2.clone()))?;
                    TRANSACTIONS.put(tx, &key, &row.event_id)?;
                }
                forget(tx, KEPT + 1)
            })
            .await;
        written.unwrap();
        let read = store.snapshot().unwrap();
        assert_eq!(made(&read, &of_room(1)).unwrap(), None);
        assert_eq!(made(&read, &of_room(2)).unwrap(), Some("$2".to_owned()));
        assert!(!EVENT_TRANSACTIONS.contains(&read, &1).unwrap());
    }
}
