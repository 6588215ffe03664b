//! Application services: how far each was told what happened, and the rooms that each lists.

use crate::{Json, Table};

/// ID of an application service to how far it was told. Bound: one per registration that there ever was.
pub const APPSERVICES: Table<String, Json<AppserviceRow>> = Table::new("appservices");
/// `(network, room ID)` of each room that an application service lists, to the service's ID. The network is `<service>|<network of
/// the service's>`. Bound: what services list, [`MAX_LISTED`] each.
pub const LISTED_ROOMS: Table<(String, String), String> = Table::new("appservice_listed_rooms");

/// Rooms that one application service may list.
pub const MAX_LISTED: usize = 100_000;

/// How far an application service was told.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AppserviceRow {
    /// The stream position up to which it was told all that concerns it.
    pub position: u64,
    /// The number of its latest transaction.
    pub transaction: u64,
    /// The position that the latest transaction reaches to, while it is not acknowledged: it is repeated as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<u64>,
    /// Since when it takes nothing, unix milliseconds; 0 while it does.
    #[serde(default)]
    pub failing_since: u64,
}
