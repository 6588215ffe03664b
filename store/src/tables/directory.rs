//! The directory of this node: aliases of rooms, rooms that are published, and what was reported.

use crate::{Json, Read, StoreError, Table, Tx};

/// Alias of this node (`#name:server`) to its room. Bound: what users make; each at most 255 bytes, `MAX_ALIASES` per room.
pub const ALIASES: Table<String, Json<AliasRow>> = Table::new("aliases");
/// `(room ID, alias)` of each row of [`ALIASES`], to find a room's aliases.
pub const ROOM_ALIASES: Table<(String, String), ()> = Table::new("room_aliases");
/// ID of each room in the published room directory, to who published it and when. Bound: this node's rooms.
pub const PUBLISHED_ROOMS: Table<String, Json<PublishedRow>> = Table::new("published_rooms");
/// Row number to a report of a room, event or user, for the node's owner. Bound: [`MAX_REPORTS`], the oldest go.
pub const REPORTS: Table<u64, Json<ReportRow>> = Table::new("reports");

/// Local aliases that a room may have.
pub const MAX_ALIASES: usize = 1_000;
/// Reports that are kept.
pub const MAX_REPORTS: usize = 1_000;

/// An alias.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AliasRow {
    /// The room it stands for.
    pub room_id: String,
    /// Who made it: may delete it too.
    pub creator: String,
}

/// A room in the published room directory.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PublishedRow {
    /// Who published it.
    pub by: String,
    /// When, unix milliseconds.
    pub since: u64,
}

/// What a user reported.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ReportRow {
    /// Who reported.
    pub by: String,
    /// When, unix milliseconds.
    pub at: u64,
    /// The room; none for a report of a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_id: Option<String>,
    /// The event; none for a report of a room or user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// The user; none for a report of a room or event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Why, in the reporter's words.
    #[serde(default)]
    pub reason: String,
}

/// The aliases of a room, in order.
///
/// # Errors
/// As all reads.
pub fn aliases_of(read: &dyn Read, room_id: &str) -> Result<Vec<String>, StoreError> {
    ROOM_ALIASES.prefix(read, &room_id.to_owned())?.map(|row| row.map(|((_, alias), ())| alias)).collect()
}

/// Makes an alias; gives false, and changes nothing, when it is taken.
///
/// # Errors
/// As all writes.
pub fn add_alias(tx: &mut Tx, alias: &str, room_id: &str, creator: &str) -> Result<bool, StoreError> {
    if ALIASES.contains(tx, &alias.to_owned())? {
        return Ok(false);
    }
    let row = AliasRow { room_id: room_id.to_owned(), creator: creator.to_owned() };
    ALIASES.put(tx, &alias.to_owned(), &Json(row))?;
    ROOM_ALIASES.put(tx, &(room_id.to_owned(), alias.to_owned()), &())?;
    Ok(true)
}

/// Deletes an alias; says whether there was one.
///
/// # Errors
/// As all writes.
pub fn delete_alias(tx: &mut Tx, alias: &str) -> Result<bool, StoreError> {
    let Some(Json(row)) = ALIASES.get(tx, &alias.to_owned())? else { return Ok(false) };
    ALIASES.delete(tx, &alias.to_owned())?;
    ROOM_ALIASES.delete(tx, &(row.room_id, alias.to_owned()))?;
    Ok(true)
}

/// Keeps a report; when there are too many, the oldest go.
///
/// # Errors
/// As all writes.
pub fn add_report(tx: &mut Tx, row: ReportRow) -> Result<(), StoreError> {
    let number = tx.allocate(crate::Counter::Row);
    REPORTS.put(tx, &number, &Json(row))?;
    let kept = REPORTS.range(tx, ..)?.count();
    let old: Vec<u64> = REPORTS
        .range(tx, ..)?
        .take(kept.saturating_sub(MAX_REPORTS))
        .map(|row| row.map(|(number, _)| number))
        .collect::<Result<_, _>>()?;
    for number in old {
        REPORTS.delete(tx, &number)?;
    }
    Ok(())
}
