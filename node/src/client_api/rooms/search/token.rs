//! Where a search goes on: the tokens `next_batch`.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ruma::{OwnedRoomId, api::client::search::search_events::v3::GroupingKey};

use super::{Hit, Place};
use crate::http::{Answer, MatrixError};

/// The longest token looked at: a room or user ID has at most 255 bytes.
const LONGEST: usize = 1_000;

/// What a search goes on behind.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Batch {
    /// Bits of the rank of the last result.
    #[serde(rename = "r")]
    pub(super) rank: u64,
    /// Its timestamp.
    #[serde(rename = "t")]
    pub(super) timestamp: u64,
    /// Its number.
    #[serde(rename = "n")]
    pub(super) number: u64,
    /// The count of all results, as the first batch told it.
    #[serde(rename = "c")]
    pub(super) count: u64,
    /// The group that is gone on with.
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<Group>,
}

/// Results of one room or one sender.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Group {
    /// Of a room.
    Room(OwnedRoomId),
    /// Of a sender.
    Sender(String),
}

impl Batch {
    pub(super) fn parse(token: &str) -> Answer<Self> {
        (token.len() <= LONGEST)
            .then(|| URL_SAFE_NO_PAD.decode(token).ok())
            .flatten()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or_else(|| MatrixError::invalid_param("this is no token of a search"))
    }

    /// Whether a result stands behind this place, ordered by rank.
    pub(super) fn is_before(&self, rank: f64, timestamp: u64, number: u64) -> bool {
        let order = f64::from_bits(self.rank).total_cmp(&rank);
        order.then((self.timestamp, self.number).cmp(&(timestamp, number))).is_gt()
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_vec(self).map_err(|_| fmt::Error)?;
        f.write_str(&URL_SAFE_NO_PAD.encode(text))
    }
}

impl Group {
    /// The group of a result, if results are grouped by this.
    pub(super) fn of(key: Option<&GroupingKey>, places: &[Place], hit: &Hit) -> Option<Self> {
        match key? {
            GroupingKey::RoomId => Some(Self::Room(places.get(hit.place)?.id.clone())),
            GroupingKey::Sender => Some(Self::Sender(hit.sender.clone())),
            _ => None,
        }
    }

    pub(super) fn has(&self, places: &[Place], hit: &Hit) -> bool {
        match self {
            Self::Room(room) => places.get(hit.place).is_some_and(|place| place.id == *room),
            Self::Sender(sender) => *sender == hit.sender,
        }
    }

    pub(super) fn room(&self) -> Option<OwnedRoomId> {
        if let Self::Room(room) = self { Some(room.clone()) } else { None }
    }

    pub(super) fn sender(&self) -> Option<String> {
        if let Self::Sender(sender) = self { Some(sender.clone()) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_nonsense_is_refused() {
        let group = Some(Group::Sender("@a:x".to_owned()));
        let batch = Batch { rank: 1.5f64.to_bits(), timestamp: 2, number: 3, count: 4, group };
        assert_eq!(Batch::parse(&batch.to_string()).ok(), Some(batch.clone()));
        for wrong in ["", "x", "e30", &"A".repeat(5_000)] {
            assert!(Batch::parse(wrong).is_err(), "{wrong}");
        }
        assert!(batch.is_before(1.0, 9, 9) && batch.is_before(1.5, 2, 2));
        assert!(!batch.is_before(1.5, 2, 3) && !batch.is_before(2.0, 0, 0));
    }
}
