//! What a service is told that encrypts for its users without syncing (MSC3202): how many keys their devices have left, and whose
//! devices it is to look at anew.

use std::collections::{BTreeMap, BTreeSet};

use kith_store::{Snapshot, StoreError, tables::e2ee::DEVICE_KEYS};
use serde_json::{Map, Value, json};

use crate::{
    Node,
    e2ee::{lists, one_time_keys},
    sync::rooms_since,
};

/// Users of a service whose devices it is told of.
const MOST_USERS: usize = 1_000;

/// What is told of devices.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Devices {
    /// Whose devices to look at anew.
    changed: BTreeSet<String>,
    /// Who shares no encrypted room any more.
    left: BTreeSet<String>,
    /// User, device, and what is left of its keys.
    pub(super) keys: BTreeMap<String, BTreeMap<String, Keys>>,
}

/// What is left of a device's keys that others use up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keys {
    counts: BTreeMap<String, u64>,
    unused_fallbacks: Vec<String>,
}

impl Devices {
    /// Looks at the devices of these users, and at what changed for them after a position of the stream.
    pub(super) fn look(
        node: &Node,
        read: &Snapshot,
        users: &BTreeSet<String>,
        since: u64,
    ) -> Result<Devices, StoreError> {
        let mut devices = Devices::default();
        for user in users {
            let mut keys = BTreeMap::new();
            for row in DEVICE_KEYS.prefix(read, user)? {
                let ((_, device), _) = row?;
                let counts = one_time_keys::counts(read, user, &device)?;
                let unused_fallbacks = one_time_keys::unused_fallbacks(read, user, &device)?;
                keys.insert(device, Keys { counts, unused_fallbacks });
            }
            if keys.is_empty() {
                continue;
            }
            if devices.keys.len() >= MOST_USERS {
                break;
            }
            devices.keys.insert(user.clone(), keys);
            let changes = lists::device_list_changes(read, user, since, &rooms_since(node, read, user, since)?)?;
            devices.changed.extend(changes.changed);
            devices.left.extend(changes.left);
        }
        // One user's loss may be in a room of another's.
        devices.left = &devices.left - &devices.changed;
        Ok(devices)
    }

    /// Whether there is nobody to look at anew.
    pub(super) fn is_still(&self) -> bool {
        self.changed.is_empty() && self.left.is_empty()
    }

    /// Adds it to a transaction.
    pub(super) fn write(&self, body: &mut Map<String, Value>) {
        if !self.is_still() {
            let lists = json!({ "changed": self.changed, "left": self.left });
            body.insert("org.matrix.msc3202.device_lists".to_owned(), lists);
        }
        if self.keys.is_empty() {
            return;
        }
        let of_each = |what: fn(&Keys) -> Value| -> Value {
            let of_user = |devices: &BTreeMap<String, Keys>| -> Map<String, Value> {
                devices.iter().map(|(device, keys)| (device.clone(), what(keys))).collect()
            };
            self.keys.iter().map(|(user, devices)| (user.clone(), Value::from(of_user(devices)))).collect()
        };
        let counts = of_each(|keys| json!(keys.counts));
        let unused = of_each(|keys| json!(keys.unused_fallbacks));
        body.insert("org.matrix.msc3202.device_one_time_keys_count".to_owned(), counts);
        body.insert("org.matrix.msc3202.device_unused_fallback_key_types".to_owned(), unused);
    }
}
