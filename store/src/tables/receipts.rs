//! Read receipts: the latest of each user per kind and thread. Bounded by users times threads of a room; an older
//! receipt is replaced, never kept.

use crate::{Json, Read, StoreError, Table, Tx};

/// User, kind and thread of a receipt. The thread is empty for receipts that cover all threads.
pub type ReceiptKey = (String, String, String);

/// `(room, user, kind, thread)` to the receipt.
pub const RECEIPTS: Table<(u64, String, String, String), Json<ReceiptRow>> = Table::new("receipts");
/// `(room, stream position)` to the key of the receipt that changed there, for sync.
pub const RECEIPT_CHANGES: Table<(u64, u64), Json<ReceiptKey>> = Table::new("receipt_changes");

/// A receipt.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ReceiptRow {
    /// The event that was read.
    pub event: String,
    /// When, unix milliseconds, as the reader's server says.
    pub ts: u64,
    /// Stream position of its change.
    pub position: u64,
}

/// Replaces a receipt. Gives its stream position.
pub fn put(tx: &mut Tx, room: u64, key: ReceiptKey, event: String, ts: u64) -> Result<u64, StoreError> {
    let row_key = (room, key.0.clone(), key.1.clone(), key.2.clone());
    if let Some(Json(old)) = RECEIPTS.get(tx, &row_key)? {
        RECEIPT_CHANGES.delete(tx, &(room, old.position))?;
    }
    let position = tx.next_position();
    RECEIPTS.put(tx, &row_key, &Json(ReceiptRow { event, ts, position }))?;
    RECEIPT_CHANGES.put(tx, &(room, position), &Json(key))?;
    Ok(position)
}

/// Receipts of a room that changed after `since` and up to `upto`: `(user, kind, thread)` and the receipt.
pub fn changes(read: &dyn Read, room: u64, since: u64, upto: u64) -> Result<Vec<(ReceiptKey, ReceiptRow)>, StoreError> {
    let mut changes = Vec::new();
    for row in RECEIPT_CHANGES.range(read, (room, since.saturating_add(1))..=(room, upto))? {
        let (_, Json(key)) = row?;
        if let Some(Json(row)) = RECEIPTS.get(read, &(room, key.0.clone(), key.1.clone(), key.2.clone()))? {
            changes.push((key, row));
        }
    }
    Ok(changes)
}
