//! Places for events that wait for missing ones: so many in a room, and none takes them all.

use std::collections::BTreeMap;

use kith_store::{
    Json, Read, StoreError, Touched, Tx,
    tables::rooms::{PARKED, PARKED_OF, ParkedRow, ROOM_SERVERS},
};

/// How many events may wait for missing ones in one room; more are dropped, and found again when heads are compared.
pub const MAX_PARKED: usize = 500;

/// Parks events, each under its ID. When all places are taken, the server whose events have most of them gives one to a server
/// whose events have fewer; servers that are not in the room count as one.
pub(super) fn park(tx: &mut Tx, room: u64, events: Vec<(String, ParkedRow)>) -> Result<(), StoreError> {
    if events.is_empty() {
        return Ok(());
    }
    tx.touch(Touched::Room(room));
    let mut held: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
    let mut count = 0;
    let rows: Vec<_> = PARKED_OF
        .prefix(tx, &room)?
        .map(|row| row.map(|((_, origin, id), since)| (origin, since, id)))
        .collect::<Result<_, _>>()?;
    for (origin, since, id) in rows {
        held.entry(share(tx, room, origin)?).or_default().push((since, id));
        count += 1;
    }
    for (id, row) in events {
        let key = (room, id.clone());
        if let Some(Json(waiting)) = PARKED.get(tx, &key)? {
            // It keeps its age, so that it is given up some time. A copy with the right content takes the place of one that
            // somebody had tampered with.
            if waiting.stripped && !row.stripped {
                PARKED.put(tx, &key, &Json(ParkedRow { pdu: row.pdu, stripped: false, ..waiting }))?;
            }
            continue;
        }
        let share = share(tx, room, row.origin.clone())?;
        if count >= MAX_PARKED {
            let own = held.get(&share).map_or(0, Vec::len);
            let Some(most) = held.values_mut().max_by_key(|rows| rows.len()).filter(|rows| rows.len() > own + 1) else {
                continue;
            };
            let newest = most.iter().enumerate().max_by_key(|(_, row)| *row).map(|(index, _)| index);
            let Some((_, out)) = newest.map(|index| most.swap_remove(index)) else { continue };
            unpark(tx, room, &out)?;
            count -= 1;
        }
        held.entry(share).or_default().push((row.since, id));
        PARKED_OF.put(tx, &(room, row.origin.clone(), key.1.clone()), &row.since)?;
        PARKED.put(tx, &key, &Json(row))?;
        count += 1;
    }
    Ok(())
}

/// An event does not wait any more.
pub fn unpark(tx: &mut Tx, room: u64, id: &str) -> Result<(), StoreError> {
    let key = (room, id.to_owned());
    if let Some(Json(row)) = PARKED.get(tx, &key)? {
        PARKED.delete(tx, &key)?;
        PARKED_OF.delete(tx, &(room, row.origin, key.1))?;
    }
    Ok(())
}

/// How many events of a server wait in a room.
pub fn parked_of(read: &dyn Read, room: u64, origin: &str) -> Result<usize, StoreError> {
    Ok(PARKED_OF.prefix(read, &(room, origin.to_owned()))?.count())
}

fn share(tx: &Tx, room: u64, origin: String) -> Result<String, StoreError> {
    let is_in = ROOM_SERVERS.contains(tx, &(room, origin.clone()))?;
    Ok(if is_in { origin } else { String::new() })
}
