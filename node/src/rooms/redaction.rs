//! Redaction: what a redacted event keeps, and really forgetting the rest (client-server specification, "Redactions").

use kith_mutants::mutant;
use kith_room::{format::rules, redact::redact_text};
use kith_store::{
    Corrupt, Json, StoreError, Tx,
    tables::rooms::{EVENT_IDS, EVENTS, REDACTED_BY, WAITING_REDACTIONS, WaitingRedaction as Waiting},
};
use ruma::RoomVersionId;

use super::{
    change::{Judged, Redacts, pdu_text, server_of},
    search,
};

/// The PDU without what redaction removes. The event's ID and signatures stay valid: they cover the redacted form.
pub(super) fn prune(json: &str, version: &RoomVersionId) -> Result<String, StoreError> {
    let damaged = |cause: &'static str| StoreError::Corrupt { table: "events", cause: Corrupt::new(cause) };
    let rules = rules(version).ok_or_else(|| damaged("an event of an unknown room version"))?;
    redact_text(json, &rules).map_err(|_| damaged("a stored event cannot be redacted"))
}

/// Redacts its target if that is here, else as soon as it arrives.
pub(super) fn apply(
    tx: &mut Tx,
    room: u64,
    version: &RoomVersionId,
    redacts: &Redacts,
    redaction: &Judged,
) -> Result<(), StoreError> {
    let author = redaction.sender.clone();
    let stored = match EVENT_IDS.get(tx, &redacts.target)? {
        Some(number) => EVENTS.get(tx, &number)?.map(|row| (number, row)),
        None => None,
    };
    let Some((number, mut row)) = stored else {
        if mutant!("forgets-early-redaction") {
            return Ok(());
        }
        let waits = Json(Waiting { redaction: redaction.event_id.clone(), author, powerful: redacts.powerful });
        return WAITING_REDACTIONS.put(tx, &(room, redacts.target.clone(), redaction.event_id.clone()), &waits);
    };
    let target = (row.event_id.as_str(), &*pdu_text(&row.json, "sender"));
    let allowed = redacts.powerful || same_server((&redaction.event_id, &author), target);
    if row.room != room || !(allowed || mutant!("anybody-redacts")) || REDACTED_BY.contains(tx, &number)? {
        return Ok(());
    }
    row.json = prune(&row.json, version)?;
    EVENTS.put(tx, &number, &row)?;
    search::forget(tx, room, number)?;
    REDACTED_BY.put(tx, &number, &redaction.event_id)
}

/// Whether a redaction that came before `event` takes effect now; it is then noted as done. Of several, those without the right
/// to it count for nothing.
pub(super) fn is_due(tx: &mut Tx, room: u64, event: &Judged) -> Result<bool, StoreError> {
    let all: Vec<_> =
        WAITING_REDACTIONS.prefix(tx, &(room, event.event_id.clone()))?.collect::<Result<_, StoreError>>()?;
    let mut due = false;
    for (key, Json(waiting)) in all {
        WAITING_REDACTIONS.delete(tx, &key)?;
        let by = (waiting.redaction.as_str(), waiting.author.as_str());
        if !due && (waiting.powerful || same_server(by, (&event.event_id, &event.sender))) {
            REDACTED_BY.put(tx, &event.number, &waiting.redaction)?;
            due = true;
        }
    }
    Ok(due)
}

/// Whether two events, by their IDs and senders, are of one server: in room versions 1 and 2 the one that the IDs name, later
/// that of the senders ([`kith_room::redact::may_redact`]).
fn same_server(one: (&str, &str), other: (&str, &str)) -> bool {
    match server_of(one.0) {
        "" => server_of(one.1) == server_of(other.1),
        server => server == server_of(other.0),
    }
}
