//! End-to-end encryption: keys of devices and users, messages to devices, device lists and their changes, key backups
//! (client-server specification, "End-to-End Encryption", "Send-to-Device messaging", "Key backups").
//!
//! Keys stand here as the JSON objects they came as, because signatures cover fields that nobody here knows.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as JsonValue};

use crate::{Corrupt, Json, Table, Value};

/// A JSON object.
pub type Object = Map<String, JsonValue>;

/// `(user, device)` to the device's identity keys. Users of this node, and remote ones whose lists are tracked
/// ([`REMOTE_LISTS`]). Bound: the devices there are; a remote user has at most 1,000. Goes with the device.
pub const DEVICE_KEYS: Table<(String, String), Json<Object>> = Table::new("device_keys");

/// `(user, device, algorithm, row number)` to `(key ID, key as JSON text)`: one-time keys of our users' devices, in the order
/// in which they came, which is the order in which they are handed out. Bound: 1,000 per device. A key goes in the change
/// that hands it out.
pub const ONE_TIME_KEYS: Table<(String, String, String, u64), (String, String)> = Table::new("one_time_keys");

/// `(user, device, algorithm)` to how many keys [`ONE_TIME_KEYS`] holds. Goes with the device. Read by each sync.
pub const ONE_TIME_KEY_COUNTS: Table<(String, String, String), u64> = Table::new("one_time_key_counts");

/// `(user, device, algorithm, row number)` to `(key ID, public key)`: the one-time keys of [`ONE_TIME_KEYS`] that were handed out
/// last, in order, so that one whose upload is repeated is not handed out again. Bound: 200 per device and algorithm. Goes with
/// the device.
pub const CLAIMED_KEYS: Table<(String, String, String, u64), (String, String)> = Table::new("claimed_one_time_keys");

/// `(user, device, algorithm)` to the key handed out when there is no one-time key. Bound: 20 algorithms per device.
pub const FALLBACK_KEYS: Table<(String, String, String), Json<FallbackKey>> = Table::new("fallback_keys");

/// `(user, usage)` to the cross-signing key: `master`, `self_signing`, `user_signing` (the last for our users only).
/// Users of this node, and remote ones whose lists are tracked.
pub const CROSS_SIGNING_KEYS: Table<(String, String), Json<Object>> = Table::new("cross_signing_keys");

/// `(signing user, signed user, device ID or public key that is signed, key ID of the signing key)` to the signature:
/// what our users signed after the key itself was uploaded. Bound: 10,000 per signing user.
pub const SIGNATURES: Table<(String, String, String, String), String> = Table::new("key_signatures");

/// `(signing user, stream position)` to a user whose key the first one signed then: only the signer sees that. Bound:
/// one row per pair of users. Read by sync.
pub const SIGNED_USERS: Table<(String, u64), String> = Table::new("signed_users");

/// Stream position to the user whose device list or cross-signing keys changed then. Bound: one row per user, the latest
/// change. Read by sync.
pub const DEVICE_LIST_CHANGES: Table<u64, String> = Table::new("device_list_changes");

/// User to the position of its row in [`DEVICE_LIST_CHANGES`].
pub const DEVICE_LIST_CHANGED_AT: Table<String, u64> = Table::new("device_list_changed_at");

/// `(room, stream position, user)` to whether the user joined (else left) then: encrypted rooms only, and only while this
/// node is in the room. Bound: one row per room and user, the latest change. Read by sync.
pub const MEMBER_CHANGES: Table<(u64, u64, String), bool> = Table::new("member_changes");

/// `(room, user)` to the position of its row in [`MEMBER_CHANGES`].
pub const MEMBER_CHANGED_AT: Table<(u64, String), u64> = Table::new("member_changed_at");

/// `(user, device)` of ours whose change is still to be queued for other servers, to the change's stream ID; device `""`
/// stands for the cross-signing keys. Rows go when that is done, right after the commit.
pub const UNANNOUNCED: Table<(String, String), u64> = Table::new("unannounced_devices");

/// `(server, room)` where the first user of a server joined a room of ours, until its users' lists are told to it, right after
/// the commit: what changed before that server was known to be there went past it.
pub const NEWCOMERS: Table<(String, u64), ()> = Table::new("newcomer_servers");

/// User of ours to the stream ID of the latest change of a device or of the cross-signing keys that was queued for other
/// servers.
pub const DEVICE_STREAM_IDS: Table<String, u64> = Table::new("device_stream_ids");

/// Remote user to what is known of its device list. Bound: users who share a room with ours.
pub const REMOTE_LISTS: Table<String, Json<RemoteList>> = Table::new("remote_device_lists");

/// `(user, device, stream position)` to a message that waits for the device. Bound: 10,000 per device and 30 days. Rows go
/// when the device syncs from a token behind them.
pub const TO_DEVICE: Table<(String, String, u64), ToDeviceMessage> = Table::new("to_device");

/// `(user, device, server)` to how many of the messages in [`TO_DEVICE`] come from users of that server, so that each has its
/// share. Bound: that of [`TO_DEVICE`].
pub const TO_DEVICE_OF: Table<(String, String, String), u64> = Table::new("to_device_of");

/// `(user, device, transaction ID)` of sent to-device messages, to when (unix milliseconds), so that a repeated request
/// sends nothing twice. Bound: about 1,000 per device; goes with the device.
pub const SENT_TO_DEVICE: Table<(String, String, String), u64> = Table::new("sent_to_device");

/// `(user, version)` to a key backup. Bound: 100 per user.
pub const BACKUPS: Table<(String, u64), Json<Backup>> = Table::new("key_backups");

/// User to the version that was given last; versions are never given twice.
pub const BACKUP_VERSIONS: Table<String, u64> = Table::new("key_backup_versions");

/// `(user, version, room ID, session ID)` to the encrypted room key. Bound: 500,000 per version.
pub const BACKUP_KEYS: Table<(String, u64, String, String), Json<Object>> = Table::new("key_backup_keys");

/// User to its dehydrated device (MSC3814): one, which goes with the device of that ID. Read when it is to be rehydrated.
pub const DEHYDRATED_DEVICES: Table<String, Json<DehydratedDevice>> = Table::new("dehydrated_devices");

/// A device that nobody holds: what it needs to come to life is kept here, encrypted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DehydratedDevice {
    /// Its ID.
    pub device: String,
    /// What its user's clients make it of, opaque to the server.
    pub data: Object,
}

/// A fallback key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FallbackKey {
    /// Its ID, without the algorithm.
    pub id: String,
    /// The key.
    pub key: JsonValue,
    /// Whether it was handed out.
    pub used: bool,
}

/// What is known of a remote user's device list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteList {
    /// The stream ID up to which the list here is right.
    pub stream_id: u64,
    /// Whether the list must be fetched before it may be used.
    pub stale: bool,
    /// When it was fetched last, unix milliseconds.
    #[serde(default)]
    pub fetched: u64,
    /// Counts the updates that came, so that a list that was being fetched meanwhile is not taken for fresh.
    pub updates: u64,
}

/// A version of a user's key backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backup {
    /// The algorithm of the backup.
    pub algorithm: String,
    /// Its data, opaque to the server.
    pub auth_data: JsonValue,
    /// Grows with each change of the keys.
    pub etag: u64,
    /// How many keys it holds.
    pub count: u64,
}

/// A message that waits for a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToDeviceMessage {
    /// Since when it waits, unix milliseconds.
    pub since: u64,
    /// The server of the sender, at most 255 bytes; empty if it shared no room with the user.
    pub origin: String,
    /// The event as sync gives it: JSON text of an object with `type`, `sender` and `content`.
    pub event: String,
}

impl Value for ToDeviceMessage {
    fn encode(&self) -> Vec<u8> {
        let origin = self.origin.get(..255).unwrap_or(&self.origin);
        let mut bytes = self.since.to_be_bytes().to_vec();
        bytes.push(u8::try_from(origin.len()).unwrap_or_default());
        bytes.extend_from_slice(origin.as_bytes());
        bytes.extend_from_slice(self.event.as_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        let (since, event) = bytes.split_first_chunk().ok_or_else(|| Corrupt::new("a time"))?;
        let (length, rest) = event.split_first().ok_or_else(|| Corrupt::new("a length"))?;
        let (origin, event) = rest.split_at_checked((*length).into()).ok_or_else(|| Corrupt::new("a server name"))?;
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| Corrupt::new("UTF-8"));
        Ok(Self { since: u64::from_be_bytes(*since), origin: text(origin)?.to_owned(), event: text(event)?.to_owned() })
    }
}
