//! Each event is what its sender's server signed, and has its content unless somebody with the right to it redacted it.

use std::collections::{BTreeMap, BTreeSet};

use kith_room::format;
use kith_room::redact::redact_text;
use kith_store::tables::rooms::{EventStatus, REDACTED_BY};
use kith_transport::KithName;
use ruma::RoomVersionId;
use ruma::canonical_json::CanonicalJsonObject;
use ruma::room_version_rules::RoomVersionRules;
use ruma::serde::Base64;
use ruma::signatures::{PublicKeyMap, Verified, verify_event};

use super::View;
use super::oracle::auth::Levels;
use super::oracle::{Book, Pdu};
use crate::invariants::Invariant;
use crate::world::World;

/// The key ID of a server whose name is its key.
const KEY_ID: &str = "ed25519:0";

/// Looks at all copies of all events.
pub(super) fn check(world: &World, version: &str, book: &Book, views: &[View]) {
    let Some(rules) = RoomVersionId::try_from(version).ok().and_then(|version| format::rules(&version)) else { return };
    // Texts that were looked at, and whether they are whole.
    let mut known: BTreeMap<&str, bool> = BTreeMap::new();
    for view in views {
        let redacted = redacted(book, view);
        for (number, row) in &view.rows {
            let is_whole = match known.get(row.json.as_str()) {
                Some(is_whole) => *is_whole,
                None => match verify(&row.json, &rules) {
                    Ok(is_whole) => is_whole,
                    Err(error) => {
                        let what = format!("{} is here and not what its sender signed: {error}", row.event_id);
                        view.breach(world, Invariant::Authentic, what);
                        false
                    }
                },
            };
            known.insert(&row.json, is_whole);
            let should = !redacted.contains(row.event_id.as_str());
            if !should && !REDACTED_BY.contains(&view.snapshot, number).unwrap_or(true) {
                view.breach(
                    world,
                    Invariant::Content,
                    format!("{} is redacted, and nobody knows by whom", row.event_id),
                );
            }
            // Some have nothing to lose.
            let nothing = is_whole && redact_text(&row.json, &rules).is_ok_and(|pruned| pruned == row.json);
            if is_whole != should && !nothing && book.fates.contains_key(row.event_id.as_str()) {
                let (is, should) =
                    (if is_whole { "has" } else { "lacks" }, if should { "should" } else { "should not" });
                let what = format!("{} {is} its content, and {should} have it", row.event_id);
                view.breach(world, Invariant::Content, what);
            }
        }
    }
}

/// Whether an event has the content that its sender signed; an error if it has another one, or another sender.
fn verify(text: &str, rules: &RoomVersionRules) -> Result<bool, String> {
    let object: CanonicalJsonObject = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut keys = PublicKeyMap::new();
    for server in object.get("signatures").and_then(|all| all.as_object()).into_iter().flat_map(BTreeMap::keys) {
        if let Ok(Some(name)) = KithName::parse(server) {
            let key = Base64::new(name.key.as_bytes().to_vec());
            keys.insert(server.clone(), [(KEY_ID.to_owned(), key)].into());
        }
    }
    match verify_event(&keys, &object, rules) {
        Ok(Verified::All) => Ok(true),
        Ok(Verified::Signatures) if redact_text(text, rules).is_ok_and(|pruned| pruned == text) => Ok(false),
        Ok(Verified::Signatures) => Err("its content has another hash".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The events that are redacted on a node, by the redactions that are accepted there.
fn redacted<'a>(book: &'a Book, view: &'a View) -> BTreeSet<&'a str> {
    let accepted = view.rows.values().filter(|row| row.status == EventStatus::Accepted);
    let redactions = accepted.filter_map(|row| book.pdus.get(row.event_id.as_str()));
    let redactions = redactions.filter(|pdu| &*pdu.kind == "m.room.redaction");
    redactions.filter_map(|redaction| target(book, redaction)).collect()
}

/// What a redaction takes the content of: none if its sender has no right to it.
fn target<'a>(book: &'a Book, redaction: &'a Pdu) -> Option<&'a str> {
    // Before version 11 it stands beside the content, which the oracle does not read.
    let target = redaction.content.get("redacts")?.as_str()?;
    let state = &book.fates.get(&redaction.id)?.before;
    let held = |kind: &str| state.get(&(kind.into(), "".into())).and_then(|id| book.pdus.get(id));
    let levels = Levels::new(book.version, held("m.room.create")?, held("m.room.power_levels"));
    let server = |user: &str| user.split_once(':').map(|(_, server)| server.to_owned());
    let own = server(&redaction.sender) == server(&book.pdus.get(target)?.sender);
    (own || levels.user(&redaction.sender) >= levels.field("redact")).then_some(target)
}
