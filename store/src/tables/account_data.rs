//! Account data: what clients keep for their user, globally and per room, with the stream position of the last change
//! (client-server specification, "Client config"). Tags, push rules and the fully-read marker are account data too.

use crate::{Corrupt, Json, Read, StoreError, Table, Touched, Tx, Value};

/// `(user ID, room ID or "", type)` to the content and the position at which it was set. Bound: [`MAX_TYPES`] types per
/// user and room; a content fits into a request.
pub const ACCOUNT_DATA: Table<(String, String, String), AccountDataRow> = Table::new("account_data");
/// `(user ID, position)` to `(room ID or "", type)`: one row for each row of [`ACCOUNT_DATA`]. Read by sync.
pub const ACCOUNT_DATA_CHANGES: Table<(String, u64), Json<(String, String)>> = Table::new("account_data_changes");

/// Types of account data a user may have globally, and in each room.
pub const MAX_TYPES: usize = 1000;

/// A piece of account data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountDataRow {
    /// The stream position at which it was set.
    pub position: u64,
    /// The content, JSON text of an object.
    pub content: String,
}

impl Value for AccountDataRow {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = self.position.to_be_bytes().to_vec();
        bytes.extend_from_slice(self.content.as_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        let (position, content) = bytes.split_first_chunk().ok_or_else(|| Corrupt::new("a position"))?;
        let content = std::str::from_utf8(content).map_err(|_| Corrupt::new("UTF-8"))?;
        Ok(Self { position: u64::from_be_bytes(*position), content: content.to_owned() })
    }
}

/// A piece of account data with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountDataEvent {
    /// The room; none for global account data.
    pub room: Option<String>,
    /// The type, such as `m.direct`.
    pub kind: String,
    /// The content, JSON text of an object.
    pub content: String,
    /// The stream position at which it was set.
    pub position: u64,
}

/// Sets account data (`room` none: global), wakes the user and gives the new position.
///
/// # Errors
/// As all writes.
pub fn set(tx: &mut Tx, user: &str, room: Option<&str>, kind: &str, content: String) -> Result<u64, StoreError> {
    let key = (user.to_owned(), room.unwrap_or_default().to_owned(), kind.to_owned());
    if let Some(old) = ACCOUNT_DATA.get(tx, &key)? {
        ACCOUNT_DATA_CHANGES.delete(tx, &(key.0.clone(), old.position))?;
    }
    let position = tx.next_position();
    ACCOUNT_DATA_CHANGES.put(tx, &(key.0.clone(), position), &Json((key.1.clone(), key.2.clone())))?;
    ACCOUNT_DATA.put(tx, &key, &AccountDataRow { position, content })?;
    tx.touch(Touched::User(key.0));
    Ok(position)
}

/// The content of one type, JSON text (`room` none: global).
///
/// # Errors
/// As all reads.
pub fn get(read: &dyn Read, user: &str, room: Option<&str>, kind: &str) -> Result<Option<String>, StoreError> {
    let key = (user.to_owned(), room.unwrap_or_default().to_owned(), kind.to_owned());
    Ok(ACCOUNT_DATA.get(read, &key)?.map(|row| row.content))
}

/// How many types a user has globally or in a room.
///
/// # Errors
/// As all reads.
pub fn count(read: &dyn Read, user: &str, room: Option<&str>) -> Result<usize, StoreError> {
    let prefix = (user.to_owned(), room.unwrap_or_default().to_owned());
    ACCOUNT_DATA.prefix(read, &prefix)?.try_fold(0, |count, row| row.map(|_| count + 1))
}

/// What changed after position `since` (0: everything), global and per room, in the order of the changes.
///
/// # Errors
/// As all reads.
pub fn changes_since(read: &dyn Read, user: &str, since: u64) -> Result<Vec<AccountDataEvent>, StoreError> {
    let user = user.to_owned();
    let from = (user.clone(), since.saturating_add(1));
    let mut changes = Vec::new();
    for row in ACCOUNT_DATA_CHANGES.prefix_from(read, &user, &from)? {
        let ((_, position), Json((room, kind))) = row?;
        let key = (user.clone(), room, kind);
        if let Some(row) = ACCOUNT_DATA.get(read, &key)? {
            let room = Some(key.1).filter(|room| !room.is_empty());
            changes.push(AccountDataEvent { room, kind: key.2, content: row.content, position });
        }
    }
    Ok(changes)
}

/// All account data of one room, by type.
///
/// # Errors
/// As all reads.
pub fn in_room(read: &dyn Read, user: &str, room: Option<&str>) -> Result<Vec<AccountDataEvent>, StoreError> {
    let prefix = (user.to_owned(), room.unwrap_or_default().to_owned());
    ACCOUNT_DATA
        .prefix(read, &prefix)?
        .map(|row| {
            let ((_, _, kind), row) = row?;
            Ok(AccountDataEvent { room: room.map(str::to_owned), kind, content: row.content, position: row.position })
        })
        .collect()
}

/// Deletes all of a user's account data, for erasure.
///
/// # Errors
/// As all writes.
pub fn delete_all(tx: &mut Tx, user: &str) -> Result<(), StoreError> {
    let user = user.to_owned();
    let keys: Vec<_> = ACCOUNT_DATA.prefix(tx, &user)?.map(|row| row.map(|(key, _)| key)).collect::<Result<_, _>>()?;
    for key in keys {
        ACCOUNT_DATA.delete(tx, &key)?;
    }
    let keys: Vec<_> =
        ACCOUNT_DATA_CHANGES.prefix(tx, &user)?.map(|row| row.map(|(key, _)| key)).collect::<Result<_, _>>()?;
    for key in keys {
        ACCOUNT_DATA_CHANGES.delete(tx, &key)?;
    }
    Ok(())
}
