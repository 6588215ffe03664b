//! Clients that sign in by OAuth 2.0, and the devices that each signed in.

use crate::{Json, Table};

/// Client ID to the client. The ID is made of the metadata, so that the same client is one row however often it registers.
/// Bound: [`MAX_CLIENTS`]; one without a device goes a day after it registered last.
pub const OAUTH_CLIENTS: Table<String, Json<ClientRow>> = Table::new("oauth_clients");
/// `(client ID, user ID, device ID)` of each device whose row names the client, to know which clients are in use. Deleted with
/// the device.
pub const OAUTH_DEVICES: Table<(String, String, String), ()> = Table::new("oauth_devices");

/// Clients kept at once.
pub const MAX_CLIENTS: usize = 500;

/// A client that registered.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ClientRow {
    /// When it registered last, unix milliseconds; some minutes coarse.
    pub registered: u64,
    /// What it says of itself.
    pub metadata: ClientMetadata,
}

/// What a client says of itself (RFC 7591, section 2), as far as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ClientMetadata {
    /// Its name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_name: Option<String>,
    /// Its page; the base of all its other addresses.
    pub client_uri: String,
    /// Its picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logo_uri: Option<String>,
    /// Its terms of service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tos_uri: Option<String>,
    /// Its privacy policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_uri: Option<String>,
    /// Where users may be sent back to.
    pub redirect_uris: Vec<String>,
    /// How it may get tokens.
    pub grant_types: Vec<String>,
    /// How it is answered: `code`.
    pub response_types: Vec<String>,
    /// `web` or `native`.
    pub application_type: String,
    /// `none`: clients have no secrets.
    pub token_endpoint_auth_method: String,
}
