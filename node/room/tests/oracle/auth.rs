//! The authorization rules of room versions 3 to 12, in their order and by their numbers in version 12 (v10 where it differs).
//!
//! <https://spec.matrix.org/v1.19/rooms/v12/#authorization-rules>

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    SigningKeyAlgorithm,
    serde::{Base64, base64::Standard},
    signatures::verify_canonical_json_bytes,
};
use serde_json::Value;

use super::{Book, Id, Pdu};

type Verdict = Result<(), &'static str>;
type Lookup<'a, 'b> = &'b dyn Fn(&str, &str) -> Option<&'a Pdu>;

const CREATE: &str = "m.room.create";
const MEMBER: &str = "m.room.member";
const LEVELS: &str = "m.room.power_levels";
const JOIN_RULES: &str = "m.room.join_rules";
const THIRD_PARTY: &str = "m.room.third_party_invite";

/// <https://spec.matrix.org/v1.19/server-server-api/#auth-events-selection>
pub fn selection(version: u8, kind: &str, sender: &str, key: Option<&str>, content: &Value) -> Vec<(String, String)> {
    let mut chosen = BTreeSet::new();
    let mut choose = |kind: &str, key: &str| {
        chosen.insert((kind.to_owned(), key.to_owned()));
    };
    if kind == CREATE {
        return Vec::new();
    }
    if version < 12 {
        choose(CREATE, "");
    }
    choose(LEVELS, "");
    choose(MEMBER, sender);
    if let (MEMBER, Some(target)) = (kind, key) {
        let membership = content["membership"].as_str().unwrap_or("");
        choose(MEMBER, target);
        if ["join", "invite", "knock"].contains(&membership) {
            choose(JOIN_RULES, "");
        }
        if let ("join", Some(via), 8..) = (membership, content["join_authorised_via_users_server"].as_str(), version) {
            choose(MEMBER, via);
        }
        if let ("invite", Some(token)) = (membership, content["third_party_invite"]["signed"]["token"].as_str()) {
            choose(THIRD_PARTY, token);
        }
    }
    chosen.into_iter().collect()
}

/// What can be said from the event and the list of its auth events: rules 1 to 3.
pub fn by_list(book: &Book, pdu: &Pdu) -> Verdict {
    let version = book.version;
    if &*pdu.kind == CREATE {
        if !pdu.prev.is_empty() {
            return Err("1.1 create with prev events");
        }
        match &pdu.room_id {
            Some(_) if version >= 12 => return Err("1.2 create with room ID"),
            Some(room) if domain(room) != domain(&pdu.sender) => return Err("1.2 room ID of another domain"),
            _ => {}
        }
        if version <= 10 && pdu.content.get("creator").is_none() {
            return Err("1.4 (v10) no creator");
        }
        if version >= 12
            && let Some(more) = pdu.content.get("additional_creators")
            && !more.as_array().is_some_and(|more| more.iter().all(|user| user.as_str().is_some_and(is_user_id)))
        {
            return Err("1.4 additional creators");
        }
        return Ok(());
    }
    if version >= 12 {
        let create: Id = pdu.room_id.as_ref().ok_or("no room")?.replacen('!', "$", 1).into();
        if book.pdus.get(&create).is_none_or(|create| &*create.kind != CREATE) || book.is_rejected(&create) {
            return Err("2 the room ID is no accepted create event");
        }
    }
    let selection = selection(version, &pdu.kind, &pdu.sender, pdu.state_key.as_deref(), &pdu.content);
    let mut seen = BTreeSet::new();
    for id in &pdu.auth {
        let auth = &book.pdus[id];
        let key = (auth.kind.to_string(), auth.state_key.as_ref().ok_or("3.2 no state event")?.to_string());
        if !selection.contains(&key) {
            return Err("3.2 unexpected");
        }
        if !seen.insert(key) {
            return Err("3.1 duplicate");
        }
        if book.is_rejected(id) {
            return Err("3.3 rejected");
        }
        if auth.room_id != pdu.room_id {
            return Err("3.5 another room");
        }
    }
    if version < 12 && !seen.contains(&(CREATE.to_owned(), String::new())) {
        return Err("2.4 (v10) no create event");
    }
    Ok(())
}

/// What a state says about the event: rules 4 to 11. `kind_of` gives the type of a prev event.
pub fn by_state<'a>(version: u8, pdu: &Pdu, state: Lookup<'a, '_>, kind_of: &dyn Fn(&Id) -> &'a str) -> Verdict {
    if &*pdu.kind == CREATE {
        return Ok(());
    }
    let create = state(CREATE, "").ok_or("no create event")?;
    if create.content["m.federate"] == Value::Bool(false) && domain(&create.sender) != domain(&pdu.sender) {
        return Err("4 not federated");
    }
    if version <= 5 && &*pdu.kind == "m.room.aliases" {
        return ensure(pdu.state_key.as_deref() == Some(domain(&pdu.sender)), "4 (v5) aliases of another server");
    }
    let levels = Levels::new(version, create, state(LEVELS, ""));
    if &*pdu.kind == MEMBER {
        let first = matches!(&pdu.prev[..], [only] if kind_of(only) == CREATE);
        return by_membership(version, pdu, state, create, &levels, first);
    }
    if membership(state, &pdu.sender) != "join" {
        return Err("6 sender not joined");
    }
    let own = levels.user(&pdu.sender);
    if &*pdu.kind == THIRD_PARTY {
        return ensure(own >= levels.field("invite"), "7.1 invite level");
    }
    if levels.to_send(pdu) > own {
        return Err("8 required level");
    }
    if pdu.state_key.as_ref().is_some_and(|key| key.starts_with('@') && **key != *pdu.sender) {
        return Err("9 state key of another user");
    }
    if &*pdu.kind == LEVELS {
        return by_levels(version, pdu, &levels, own);
    }
    Ok(())
}

/// Rule 5.
fn by_membership(version: u8, pdu: &Pdu, state: Lookup<'_, '_>, create: &Pdu, levels: &Levels, first: bool) -> Verdict {
    let target = pdu.state_key.as_deref().ok_or("5.1 no state key")?;
    let sender = &*pdu.sender;
    let wanted = pdu.content["membership"].as_str().ok_or("5.1 no membership")?;
    let (of_sender, of_target) = (membership(state, sender), membership(state, target));
    let rule = state(JOIN_RULES, "").and_then(|rules| rules.content["join_rule"].as_str()).unwrap_or("none");
    let knocks = version >= 7;
    match wanted {
        "join" => {
            if first && target == levels::creator(version, create) {
                return Ok(());
            }
            if sender != target {
                return Err("5.3.2 join of another");
            }
            if of_sender == "ban" {
                return Err("5.3.3 banned");
            }
            let in_or_invited = ["join", "invite"].contains(&of_sender);
            let restricted = (version >= 8 && rule == "restricted") || (version >= 10 && rule == "knock_restricted");
            if rule == "invite" || (knocks && rule == "knock") {
                return ensure(in_or_invited, "5.3.4 not invited");
            }
            if restricted && !in_or_invited {
                let via = pdu.content["join_authorised_via_users_server"].as_str().ok_or("5.3.5.2 by nobody")?;
                return ensure(
                    membership(state, via) == "join" && levels.user(via) >= levels.field("invite"),
                    "5.3.5.2 by one who may not",
                );
            }
            ensure(restricted || rule == "public", "5.3.7 not public")
        }
        "invite" if pdu.content.get("third_party_invite").is_some() => by_third_party(pdu, state, target, of_target),
        "invite" => {
            if of_sender != "join" {
                return Err("5.4.2 sender not joined");
            }
            if ["join", "ban"].contains(&of_target) {
                return Err("5.4.3 target joined or banned");
            }
            ensure(levels.user(sender) >= levels.field("invite"), "5.4.5 level")
        }
        "leave" => {
            if sender == target {
                let may = ["invite", "join"].contains(&of_sender) || (knocks && of_sender == "knock");
                return ensure(may, "5.5.1 nothing to leave");
            }
            if of_sender != "join" {
                return Err("5.5.2 sender not joined");
            }
            if of_target == "ban" && levels.user(sender) < levels.field("ban") {
                return Err("5.5.3 may not unban");
            }
            let may = levels.user(sender) >= levels.field("kick") && levels.user(target) < levels.user(sender);
            ensure(may, "5.5.5 may not kick")
        }
        "ban" => {
            if of_sender != "join" {
                return Err("5.6.1 sender not joined");
            }
            let may = levels.user(sender) >= levels.field("ban") && levels.user(target) < levels.user(sender);
            ensure(may, "5.6.3 may not ban")
        }
        "knock" if knocks => {
            if rule != "knock" && !(version >= 10 && rule == "knock_restricted") {
                return Err("5.7.1 no knocking");
            }
            if sender != target {
                return Err("5.7.2 knock of another");
            }
            ensure(!["ban", "invite", "join"].contains(&of_sender), "5.7.4 knocks in vain")
        }
        _ => Err("5.8 unknown membership"),
    }
}

/// Rule 5.4.1.
fn by_third_party(pdu: &Pdu, state: Lookup<'_, '_>, target: &str, of_target: &str) -> Verdict {
    if of_target == "ban" {
        return Err("5.4.1.1 target banned");
    }
    let signed = pdu.content["third_party_invite"].get("signed").ok_or("5.4.1.2 nothing signed")?;
    let (Some(mxid), Some(token)) = (signed["mxid"].as_str(), signed["token"].as_str()) else {
        return Err("5.4.1.3 no mxid or token");
    };
    if mxid != target {
        return Err("5.4.1.4 for another user");
    }
    let invite = state(THIRD_PARTY, token).ok_or("5.4.1.5 no third-party invite")?;
    if invite.sender != pdu.sender {
        return Err("5.4.1.6 third-party invite of another");
    }
    let more = invite.content["public_keys"].as_array().into_iter().flatten();
    let keys: Vec<&str> =
        more.map(|key| &key["public_key"]).chain([&invite.content["public_key"]]).filter_map(Value::as_str).collect();
    let by_servers = signed["signatures"].as_object().into_iter().flat_map(|signatures| signatures.values());
    let mut signatures =
        by_servers.filter_map(Value::as_object).flat_map(|keys| keys.values()).filter_map(Value::as_str);
    let mut covered = signed.clone();
    covered.as_object_mut().ok_or("5.4.1.3 no object")?.remove("signatures");
    // Keys are sorted, and there are neither spaces nor numbers: that is canonical.
    let covered = covered.to_string();
    let matches = signatures.any(|signature| keys.iter().any(|key| verifies(key, signature, &covered)));
    ensure(matches, "5.4.1.7 no signature matches")
}

fn verifies(key: &str, signature: &str, text: &str) -> bool {
    let decode = |text: &str| Base64::<Standard>::parse(text).ok();
    let (Some(key), Some(signature)) = (decode(key), decode(signature)) else { return false };
    let (key, signature) = (key.as_bytes(), signature.as_bytes());
    verify_canonical_json_bytes(&SigningKeyAlgorithm::Ed25519, key, signature, text.as_bytes()).is_ok()
}

/// Rule 10.
fn by_levels(version: u8, pdu: &Pdu, levels: &Levels, own: i64) -> Verdict {
    let content = &pdu.content;
    if version >= 10 {
        if levels::FIELDS.iter().any(|(name, _)| content.get(name).is_some_and(|value| !value.is_i64())) {
            return Err("10.1 not an integer");
        }
        let all_integers = |value: &Value| value.as_object().is_some_and(|map| map.values().all(Value::is_i64));
        if ["events", "notifications"].iter().any(|name| content.get(name).is_some_and(|value| !all_integers(value))) {
            return Err("10.2 not an object of integers");
        }
    }
    if let Some(users) = content.get("users") {
        let sound = |(user, level): (&String, &Value)| is_user_id(user) && levels::integer(version, level).is_some();
        if !users.as_object().is_some_and(|users| users.iter().all(sound)) {
            return Err("10.3 users");
        }
        if version >= 12 && levels.creators.iter().any(|creator| users.get(creator).is_some()) {
            return Err("10.4 a creator among the users");
        }
    }
    let Some(old) = levels.content else { return Ok(()) };
    let of = |content: &Value, name: &str| content.get(name).and_then(|value| levels::integer(version, value));
    for (name, default) in levels::FIELDS {
        let (was, is) = (of(old, name), of(content, name));
        if was != is && (was.unwrap_or(default) > own || is.unwrap_or(default) > own) {
            return Err("10.6 a level beyond the sender's");
        }
    }
    for name in ["events", "notifications", "users"] {
        if name == "notifications" && version < 6 {
            continue;
        }
        let empty = Value::Null;
        let (old, new) = (old.get(name).unwrap_or(&empty), content.get(name).unwrap_or(&empty));
        let names = [old, new].into_iter().filter_map(Value::as_object).flat_map(|map| map.keys());
        for entry in names.collect::<BTreeSet<_>>() {
            let (was, is) = (of(old, entry), of(new, entry));
            if was == is {
                continue;
            }
            let untouchable = match name {
                "users" => **entry != *pdu.sender && was.is_some_and(|was| was >= own),
                _ => was.is_some_and(|was| was > own),
            };
            if untouchable {
                return Err("10.7, 10.9 the old value");
            }
            if is.is_some_and(|is| is > own) {
                return Err("10.8, 10.10 the new value");
            }
        }
    }
    Ok(())
}

pub use levels::Levels;

mod levels {
    use super::*;

    /// What holds where a power levels event does not say.
    pub const FIELDS: [(&str, i64); 7] = [
        ("users_default", 0),
        ("events_default", 0),
        ("state_default", 50),
        ("ban", 50),
        ("redact", 50),
        ("kick", 50),
        ("invite", 0),
    ];

    pub fn creator(version: u8, create: &Pdu) -> &str {
        if version >= 11 { &create.sender } else { create.content["creator"].as_str().unwrap_or("") }
    }

    /// An integer; in old versions also a string that is one.
    pub fn integer(version: u8, value: &Value) -> Option<i64> {
        let by_text = || value.as_str().filter(|_| version < 10)?.trim().parse().ok();
        value.as_i64().or_else(by_text)
    }

    /// <https://spec.matrix.org/v1.19/client-server-api/#mroompower_levels>
    pub struct Levels<'a> {
        version: u8,
        pub creators: BTreeSet<&'a str>,
        pub content: Option<&'a Value>,
    }

    impl<'a> Levels<'a> {
        pub fn new(version: u8, create: &'a Pdu, levels: Option<&'a Pdu>) -> Self {
            let more = create.content["additional_creators"].as_array().filter(|_| version >= 12);
            let more = more.into_iter().flatten().filter_map(Value::as_str);
            let creators = more.chain([creator(version, create)]).collect();
            Self { version, creators, content: levels.map(|levels| &levels.content) }
        }

        pub fn user(&self, user: &str) -> i64 {
            let is_creator = self.creators.contains(user);
            match self.content {
                _ if is_creator && self.version >= 12 => i64::MAX,
                None if is_creator => 100,
                None => 0,
                Some(content) => {
                    let level = content["users"].get(user).and_then(|level| integer(self.version, level));
                    level.unwrap_or_else(|| self.field("users_default"))
                }
            }
        }

        pub fn field(&self, name: &str) -> i64 {
            let said = self.content.and_then(|content| integer(self.version, content.get(name)?));
            said.unwrap_or_else(|| BTreeMap::from(FIELDS)[name])
        }

        pub fn to_send(&self, pdu: &Pdu) -> i64 {
            let said = self.content.and_then(|content| integer(self.version, content["events"].get(&*pdu.kind)?));
            said.unwrap_or_else(|| self.field(if pdu.state_key.is_some() { "state_default" } else { "events_default" }))
        }
    }
}

fn membership<'a>(state: Lookup<'a, '_>, user: &str) -> &'a str {
    state(MEMBER, user).and_then(|member| member.content["membership"].as_str()).unwrap_or("leave")
}

fn ensure(holds: bool, why: &'static str) -> Verdict {
    if holds { Ok(()) } else { Err(why) }
}

fn domain(id: &str) -> &str {
    id.split_once(':').map_or("", |(_, domain)| domain)
}

fn is_user_id(text: &str) -> bool {
    text.starts_with('@') && text.contains(':')
}
