//! Accounts of this node: users, their devices, tokens, filters, profiles and pushers.
//!
//! Users stand here by their whole user ID (`@alice:server`). Secrets are never kept: passwords as argon2id hashes,
//! access, refresh and registration tokens as SHA-256 (they are random, so a plain hash suffices).

use crate::{Json, Table};

/// SHA-256 of a token.
pub type TokenHash = [u8; 32];

/// User ID to the account. Bound: accounts made. Deactivated accounts stay, so that a name is never given twice.
pub const USERS: Table<String, Json<UserRow>> = Table::new("users");
/// `(user ID, device ID)` to the device. Bound: [`MAX_DEVICES`] per user. A row is there exactly while the device is signed in.
pub const DEVICES: Table<(String, String), Json<DeviceRow>> = Table::new("devices");
/// Hash of an access or refresh token to whose it is. Bound: four per device, and four spent ones; deleted with it.
pub const TOKENS: Table<TokenHash, Json<TokenRow>> = Table::new("tokens");
/// `(user ID, device ID, hash)` of each row of [`TOKENS`], to find a device's tokens.
pub const DEVICE_TOKENS: Table<(String, String, TokenHash), ()> = Table::new("device_tokens");
/// Hash of a one-use registration token to its row. Expired ones are swept when one is made or looked up.
pub const REGISTRATION_TOKENS: Table<TokenHash, Json<RegistrationTokenRow>> = Table::new("registration_tokens");
/// `(user ID, filter ID)` to the filter. Bound: [`MAX_FILTERS`] per user, the oldest goes.
pub const FILTERS: Table<(String, String), Json<FilterRow>> = Table::new("filters");
/// `(user ID, field)` to the field's value, as JSON text. Only users of this node. Bound: 64 KiB per user.
pub const PROFILES: Table<(String, String), String> = Table::new("profiles");
/// `(user ID, app ID, pushkey)` to the pusher. Bound: [`MAX_PUSHERS`] per user; deleted with the device that set it.
pub const PUSHERS: Table<(String, String, String), Json<PusherRow>> = Table::new("pushers");
/// User ID to what is still to be told to its rooms: `(how often that changed, 0: a new name or picture, 1: that it leaves
/// them all)`. Written with the change it follows from, deleted when done, taken up again at start. Bound: one per account.
pub const ROOM_UPDATES: Table<String, (u64, u64)> = Table::new("room_updates");

/// Devices a user may have at once.
pub const MAX_DEVICES: usize = 1000;
/// Filters kept for a user.
pub const MAX_FILTERS: usize = 500;
/// Pushers a user may have.
pub const MAX_PUSHERS: usize = 100;

/// An account.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct UserRow {
    /// argon2id hash of the password in PHC form; none: nobody can sign in by password.
    pub password: Option<String>,
    /// Whether the user administers the node.
    #[serde(default)]
    pub admin: bool,
    /// When the account was made, unix milliseconds.
    pub created: u64,
    /// When it was deactivated, unix milliseconds.
    #[serde(default)]
    pub deactivated: Option<u64>,
    /// Whether its owner asked for erasure when it was deactivated.
    #[serde(default)]
    pub erased: bool,
    /// Whether an administrator has locked it: nothing can be done with it.
    #[serde(default)]
    pub locked: bool,
    /// Whether an administrator has suspended it: its user reads and leaves rooms, and does no more in them.
    #[serde(default)]
    pub suspended: bool,
    /// Whether an application service made it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub service: bool,
}

/// A signed-in device.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeviceRow {
    /// What its user calls it.
    pub display_name: Option<String>,
    /// When it signed in, unix milliseconds.
    pub created: u64,
    /// When it was last seen, unix milliseconds; coarse, some minutes behind.
    #[serde(default)]
    pub last_seen: Option<u64>,
    /// The address it called from then.
    #[serde(default)]
    pub last_ip: Option<String>,
    /// What its client called itself then.
    #[serde(default)]
    pub user_agent: Option<String>,
    /// How it signed in by OAuth 2.0; none: otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth: Option<OauthRow>,
}

/// How a device signed in by OAuth 2.0.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OauthRow {
    /// The client's ID.
    pub client: String,
    /// What the user granted it.
    pub scope: String,
    /// A random name of this sign-in: the device may sign in again.
    pub session: String,
}

/// What an access or refresh token stands for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TokenRow {
    /// The user ID.
    pub user: String,
    /// The device ID.
    pub device: String,
    /// After this, unix milliseconds, it is refused (with `soft_logout`); none: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// Whether it is a refresh token.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refresh: bool,
    /// Counts the refreshes: the access and the refresh token of one answer share it.
    #[serde(default)]
    pub generation: u64,
    /// Whether its generation was not used yet: the first use of either token ends the generation before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unused: bool,
    /// Whether it is a refresh token that has been replaced: whoever shows it has stolen it, or was stolen from.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spent: bool,
}

/// A one-use registration token.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RegistrationTokenRow {
    /// After this, unix milliseconds, it is worth nothing.
    pub expires: u64,
    /// Whether the account made with it administers the node (the setup link).
    #[serde(default)]
    pub admin: bool,
}

/// A filter as its client made it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FilterRow {
    /// When it was last made, unix milliseconds.
    pub created: u64,
    /// The filter, JSON text.
    pub filter: String,
}

/// A pusher.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PusherRow {
    /// The device that set it.
    pub device: String,
    /// When it was set, unix milliseconds.
    pub created: u64,
    /// The pusher as `GET /pushers` gives it.
    pub pusher: serde_json::Value,
    /// The stream position up to which its gateway was told what is new.
    #[serde(default)]
    pub pushed: u64,
    /// The count of unread messages that the gateway was told last.
    #[serde(default)]
    pub badge: u64,
    /// Since when the gateway takes nothing, unix milliseconds; 0 while it does.
    #[serde(default)]
    pub failing_since: u64,
}

impl PusherRow {
    /// Whether another row is of the same pusher, set at the same time.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.device, self.created, &self.pusher) == (&other.device, other.created, &other.pusher)
    }
}
