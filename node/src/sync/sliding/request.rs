//! What a client asks for (MSC4186, "Request Body"). Beside the form that clients use at the unstable path, that of the proposal's
//! text is understood: `required_state` as an object, `range`, `is_invited`, `pos` and `timeout` in the body.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ruma::{OwnedRoomId, presence::PresenceState};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::required::{Required, RequiredState};
use crate::http::{Answer, MatrixError};

/// Lists and subscriptions in one request (MSC4186).
const MOST_LISTS: usize = 100;
/// Ranges of one list.
const MOST_RANGES: usize = 20;
/// Names and IDs in all filters, and in all extensions.
const MOST_NAMES: usize = 1_000;
/// The longest name of a connection, of a list and of a request, in bytes.
const LONGEST_NAME: usize = 255;
/// The most events of a room's timeline that are given, whatever is asked for.
const MOST_IN_TIMELINE: u64 = 200;

/// A request, checked.
#[derive(Debug, Default)]
pub(super) struct Request {
    /// Where the client is; none: it begins.
    pub(super) pos: Option<String>,
    /// The connection's name, empty if it has none.
    pub(super) connection: String,
    pub(super) txn_id: Option<String>,
    pub(super) timeout: Duration,
    pub(super) set_presence: PresenceState,
    pub(super) lists: BTreeMap<String, List>,
    pub(super) subscriptions: BTreeMap<OwnedRoomId, Config>,
    pub(super) extensions: Extensions,
}

/// A list of rooms.
#[derive(Debug)]
pub(super) struct List {
    /// First and last place, both in it; none: all rooms.
    pub(super) ranges: Option<Vec<(u64, u64)>>,
    pub(super) filters: Filters,
    pub(super) config: Config,
}

/// What is wanted of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) timeline_limit: usize,
    pub(super) required: Arc<Required>,
}

/// Which rooms are in a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Filters {
    pub(super) is_dm: Option<bool>,
    pub(super) spaces: Option<Vec<String>>,
    pub(super) is_encrypted: Option<bool>,
    #[serde(alias = "is_invited")]
    pub(super) is_invite: Option<bool>,
    pub(super) room_types: Option<Vec<Option<String>>>,
    pub(super) not_room_types: Option<Vec<Option<String>>>,
    pub(super) tags: Option<Vec<String>>,
    pub(super) not_tags: Option<Vec<String>>,
}

impl Filters {
    /// How many things it names.
    fn names(&self) -> usize {
        let texts = [&self.spaces, &self.tags, &self.not_tags].into_iter().flatten().map(Vec::len);
        let kinds = [&self.room_types, &self.not_room_types].into_iter().flatten().map(Vec::len);
        texts.chain(kinds).sum()
    }
}

/// The extensions that are asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Extensions {
    pub(super) to_device: ToDevice,
    pub(super) e2ee: Extension,
    pub(super) account_data: Extension,
    pub(super) receipts: Extension,
    pub(super) typing: Extension,
    #[serde(rename = "io.element.msc4308.thread_subscriptions", alias = "thread_subscriptions")]
    pub(super) threads: Extension,
}

/// One of them, with the rooms that it is wanted of.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Extension {
    enabled: Option<bool>,
    lists: Option<Vec<String>>,
    rooms: Option<Vec<String>>,
    /// Of thread subscriptions: how many at once.
    pub(super) limit: Option<u64>,
}

/// Messages to the device.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ToDevice {
    enabled: Option<bool>,
    pub(super) limit: Option<u64>,
    pub(super) since: Option<String>,
}

impl ToDevice {
    pub(super) fn is_enabled(&self) -> bool {
        self.enabled == Some(true)
    }
}

impl Extension {
    pub(super) fn is_enabled(&self) -> bool {
        self.enabled == Some(true)
    }

    /// Whether it is wanted of a room that is in these lists, and is subscribed to or not.
    pub(super) fn wants(&self, room: &str, lists: &[&str], subscribed: bool) -> bool {
        let names = |names: &Option<Vec<String>>, name: &str| {
            names.as_ref().is_none_or(|names| names.iter().any(|one| one == "*" || one == name))
        };
        lists.iter().any(|list| names(&self.lists, list))
            || subscribed && names(&self.rooms, room)
            || self.rooms.as_ref().is_some_and(|rooms| rooms.iter().any(|one| one == room))
    }
}

/// As it comes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    pos: Option<String>,
    conn_id: Option<String>,
    txn_id: Option<String>,
    timeout: Option<u64>,
    set_presence: Option<String>,
    lists: BTreeMap<String, ListBody>,
    room_subscriptions: BTreeMap<String, ConfigBody>,
    extensions: Extensions,
}

#[derive(Debug, Deserialize)]
struct ListBody {
    ranges: Option<Vec<(u64, u64)>>,
    range: Option<(u64, u64)>,
    filters: Option<Filters>,
    #[serde(flatten)]
    config: ConfigBody,
}

#[derive(Debug, Deserialize)]
struct ConfigBody {
    timeline_limit: u64,
    #[serde(default)]
    required_state: RequiredState,
}

impl ConfigBody {
    fn read(self, me: &str) -> Answer<Config> {
        let limit = self.timeline_limit.min(MOST_IN_TIMELINE);
        Ok(Config {
            timeline_limit: usize::try_from(limit).unwrap_or_default(),
            required: Arc::new(self.required_state.read(me)?),
        })
    }
}

impl Request {
    /// Reads a request of the user `me`.
    ///
    /// # Errors
    /// `M_BAD_JSON` for what has another form, `M_INVALID_PARAM` for what is too much or is not known.
    pub(super) fn read(body: Map<String, Value>, query: &str, me: &str) -> Answer<Self> {
        let mut body: Body =
            serde_json::from_value(Value::Object(body)).map_err(|error| MatrixError::bad_json(error.to_string()))?;
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "pos" => body.pos = Some(value.into_owned()),
                "timeout" => {
                    let wrong = |_| MatrixError::invalid_param("`timeout` is a number of milliseconds");
                    body.timeout = Some(value.parse().map_err(wrong)?);
                }
                "set_presence" => body.set_presence = Some(value.into_owned()),
                _ => {}
            }
        }
        let set_presence = match body.set_presence.as_deref() {
            None | Some("online") => PresenceState::Online,
            Some("offline") => PresenceState::Offline,
            Some("unavailable") => PresenceState::Unavailable,
            Some(_) => return Err(MatrixError::invalid_param("there is no such presence")),
        };
        let connection = body.conn_id.unwrap_or_default();
        let is_long = |name: &String| name.len() > LONGEST_NAME;
        if is_long(&connection) || body.txn_id.as_ref().is_some_and(is_long) || body.lists.keys().any(is_long) {
            return Err(MatrixError::invalid_param(format!("a name has at most {LONGEST_NAME} bytes")));
        }
        if body.lists.len() > MOST_LISTS || body.room_subscriptions.len() > MOST_LISTS {
            return Err(MatrixError::invalid_param(format!("there are at most {MOST_LISTS} lists and subscriptions")));
        }
        let mut lists = BTreeMap::new();
        for (name, list) in body.lists {
            lists.insert(name, list.read(me)?);
        }
        if lists.values().map(|list: &List| list.filters.names()).sum::<usize>() > MOST_NAMES {
            return Err(MatrixError::invalid_param(format!("all filters together name at most {MOST_NAMES} things")));
        }
        let mut subscriptions = BTreeMap::new();
        for (room, config) in body.room_subscriptions {
            let wrong = |_| MatrixError::invalid_param(format!("{room:?} is no room ID"));
            subscriptions.insert(OwnedRoomId::try_from(room.as_str()).map_err(wrong)?, config.read(me)?);
        }
        check_names(&body.extensions)?;
        Ok(Self {
            pos: body.pos.filter(|pos| !pos.is_empty()),
            connection,
            txn_id: body.txn_id,
            timeout: Duration::from_millis(body.timeout.unwrap_or_default()),
            set_presence,
            lists,
            subscriptions,
            extensions: body.extensions,
        })
    }
}

impl ListBody {
    fn read(self, me: &str) -> Answer<List> {
        let ranges = match (self.range, self.ranges) {
            (Some(range), _) => Some(vec![range]),
            (None, ranges) => ranges,
        };
        let wrong = ranges.iter().flatten().any(|(first, last)| first > last);
        if wrong || ranges.as_ref().is_some_and(|ranges| ranges.len() > MOST_RANGES) {
            return Err(MatrixError::invalid_param(format!(
                "a list has up to {MOST_RANGES} ranges, each of [first, last]"
            )));
        }
        let filters = self.filters.unwrap_or_default();
        Ok(List { ranges, filters, config: self.config.read(me)? })
    }
}

fn check_names(extensions: &Extensions) -> Answer<()> {
    let Extensions { e2ee, account_data, receipts, typing, threads, .. } = extensions;
    let count = [e2ee, account_data, receipts, typing, threads]
        .into_iter()
        .flat_map(|extension| [&extension.lists, &extension.rooms])
        .flatten()
        .map(Vec::len)
        .sum::<usize>();
    if count > MOST_NAMES {
        return Err(MatrixError::invalid_param(format!("extensions name at most {MOST_NAMES} lists and rooms")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value, query: &str) -> Answer<Request> {
        let Value::Object(body) = body else { panic!("an object") };
        Request::read(body, query, "@me:x")
    }

    #[test]
    fn both_forms_of_a_request_say_the_same() {
        let old = json!({
            "conn_id": "c",
            "lists": { "all": {
                "ranges": [[0, 9]], "timeline_limit": 3,
                "required_state": [["m.room.name", ""], ["m.room.member", "$ME"], ["m.room.member", "$LAZY"]],
                "filters": { "is_invite": false, "not_room_types": ["m.space", null] },
            } },
        });
        let new = json!({
            "conn_id": "c", "pos": "s1_2_3", "timeout": 5,
            "lists": { "all": {
                "range": [0, 9], "timeline_limit": 3,
                "required_state": {
                    "include": [{ "type": "m.room.name", "state_key": "" }, { "type": "m.room.member", "state_key": "@me:x" }],
                    "lazy_members": true,
                },
                "filters": { "is_invited": false, "not_room_types": ["m.space", null] },
            } },
        });
        let (old, new) = (read(old, "pos=s1_2_3&timeout=5").unwrap(), read(new, "").unwrap());
        assert_eq!((&old.pos, old.timeout), (&new.pos, new.timeout));
        let (one, other) = (&old.lists["all"], &new.lists["all"]);
        assert_eq!((&one.ranges, &one.config), (&other.ranges, &other.config));
        assert_eq!(one.filters.is_invite, Some(false));
        assert_eq!(other.filters.not_room_types, Some(vec![Some("m.space".to_owned()), None]));
    }

    #[test]
    fn what_is_wrong_or_too_much_is_refused() {
        let list = json!({ "timeline_limit": 1, "required_state": [] });
        let spaces: Vec<String> = (0..=MOST_NAMES).map(|number| format!("!s{number}:x")).collect();
        let many: Map<String, Value> = (0..101).map(|number| (format!("l{number}"), list.clone())).collect();
        for (body, query, code) in [
            (json!({ "lists": many }), "", "M_INVALID_PARAM"),
            (json!({ "lists": { "a": { "ranges": [[3, 1]], "timeline_limit": 1 } } }), "", "M_INVALID_PARAM"),
            (json!({ "lists": { "a": { "ranges": [[0, 1]] } } }), "", "M_BAD_JSON"),
            (json!({ "lists": { "a": { "ranges": [[0, -1]], "timeline_limit": 1 } } }), "", "M_BAD_JSON"),
            (json!({ "lists": 3 }), "", "M_BAD_JSON"),
            (
                json!({ "lists": { "a": { "timeline_limit": 1, "filters": { "spaces": spaces } } } }),
                "",
                "M_INVALID_PARAM",
            ),
            (json!({ "extensions": { "typing": { "rooms": spaces } } }), "", "M_INVALID_PARAM"),
            (json!({ "room_subscriptions": { "nonsense": list } }), "", "M_INVALID_PARAM"),
            (json!({ "conn_id": "x".repeat(256) }), "", "M_INVALID_PARAM"),
            (json!({}), "timeout=soon", "M_INVALID_PARAM"),
            (json!({}), "set_presence=dancing", "M_INVALID_PARAM"),
        ] {
            assert!(read(body.clone(), query).unwrap_err().is(code), "{body} {query}");
        }
    }

    #[test]
    fn an_extension_is_wanted_of_all_rooms_unless_it_names_some() {
        let of = |lists: Option<&[&str]>, rooms: Option<&[&str]>| Extension {
            enabled: Some(true),
            lists: lists.map(|names| names.iter().map(ToString::to_string).collect()),
            rooms: rooms.map(|names| names.iter().map(ToString::to_string).collect()),
            limit: None,
        };
        assert!(of(None, None).wants("!r", &["a"], false));
        assert!(of(None, None).wants("!r", &[], true));
        assert!(!of(Some(&[]), None).wants("!r", &["a"], false));
        assert!(of(Some(&["b"]), None).wants("!r", &["a", "b"], false));
        assert!(!of(Some(&[]), Some(&[])).wants("!r", &["a"], true));
        assert!(of(Some(&[]), Some(&["*"])).wants("!r", &["a"], true));
        assert!(of(Some(&[]), Some(&["!r"])).wants("!r", &["a"], false));
    }
}
