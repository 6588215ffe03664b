//! Events that relate to others: edits, threads, references, reactions (client-server specification, "Forming
//! relationships between events", "Aggregations of child events").

use kith_store::{Read, StoreError, tables::rooms::RELATIONS};
use serde_json::{Map, Value, json};

use super::{
    client_event::Showing,
    read::{self, StoredEvent},
    visibility::Eyes,
};
use crate::http::MatrixError;

/// How many children of an event are looked at for one bundle. Threads with more are counted up to here.
const MOST_CHILDREN: usize = 1_000;

/// The type of relation and the event that `event` relates to.
pub fn relation(event: &StoredEvent) -> Option<(&str, &str)> {
    let relates = event.content().get("m.relates_to")?;
    Some((relates.get("rel_type")?.as_str()?, relates.get("event_id")?.as_str()?))
}

/// That an event which a client wants to send relates to another as the specification lets it.
///
/// # Errors
/// 400 `M_DUPLICATE_ANNOTATION` for a second annotation of the same event by the same user with the same type and key; 400
/// `M_UNKNOWN` for a thread that begins at an event which itself relates to another. As all reads.
pub fn check_new(
    read: &dyn Read,
    room: u64,
    sender: &str,
    kind: &str,
    content: &Map<String, Value>,
) -> Result<(), MatrixError> {
    let Some(relates) = content.get("m.relates_to") else { return Ok(()) };
    let text = |field: &str| relates.get(field).and_then(Value::as_str);
    let (Some(relation_type), Some(target)) = (text("rel_type"), text("event_id")) else { return Ok(()) };
    if relation_type == "m.thread"
        && let Some(root) = read::event_by_id(read, target)?
        && relation(&root).is_some()
    {
        return Err(MatrixError::bad_request("a thread cannot begin at an event that itself relates to another"));
    }
    if relation_type == "m.annotation" {
        let key_of = |content: &Map<String, Value>| content.get("m.relates_to").and_then(|it| it.get("key")).cloned();
        for number in last(children(read, room, target, Some("m.annotation"))?) {
            if let Some(other) = read::event(read, number)?
                && other.sender() == sender
                && other.kind() == kind
                && other.visible()
                // What was redacted relates to nothing any more.
                && relation(&other).is_some()
                && key_of(other.content()) == key_of(content)
            {
                let (status, code) = (http::StatusCode::BAD_REQUEST, "M_DUPLICATE_ANNOTATION");
                return Err(MatrixError::new(status, code, "you have annotated this event so already"));
            }
        }
    }
    Ok(())
}

/// The numbers of the events that relate to `target`, by the relation `kind` if one is given, in the order they came.
pub fn children(read: &dyn Read, room: u64, target: &str, kind: Option<&str>) -> Result<Vec<u64>, StoreError> {
    let rows = match kind {
        Some(kind) => RELATIONS.prefix(read, &(room, target.to_owned(), kind.to_owned()))?,
        None => RELATIONS.prefix(read, &(room, target.to_owned()))?,
    };
    rows.map(|row| row.map(|((_, _, _, number), _)| number)).collect()
}

/// The latest edit of an event that its reader may see: by its own sender, of its own type, with a new content.
pub fn latest_edit(read: &dyn Read, eyes: &Eyes<'_>, event: &StoredEvent) -> Result<Option<StoredEvent>, StoreError> {
    if event.state_key().is_some() || relation(event).is_some_and(|(kind, _)| kind == "m.replace") {
        return Ok(None);
    }
    let mut latest: Option<StoredEvent> = None;
    for number in last(children(read, event.row.room, &event.row.event_id, Some("m.replace"))?) {
        let Some(edit) = read::event(read, number)? else { continue };
        let order = |event: &StoredEvent| (event.timestamp(), event.row.event_id.clone());
        if edit.sender() == event.sender()
            && edit.kind() == event.kind()
            && edit.state_key().is_none()
            && relation(&edit).is_some()
            && (edit.kind() == "m.room.encrypted" || edit.content().get("m.new_content").is_some_and(Value::is_object))
            && latest.as_ref().is_none_or(|latest| order(&edit) > order(latest))
            && eyes.sees(&edit)?
        {
            latest = Some(edit);
        }
    }
    Ok(latest)
}

/// What is bundled with an event in `unsigned.m.relations`; none when nothing relates to it.
pub fn bundle(
    read: &dyn Read,
    eyes: &Eyes<'_>,
    showing: &Showing<'_>,
    event: &StoredEvent,
) -> Result<Option<Value>, StoreError> {
    // Most events have no children at all: one look says so.
    if RELATIONS.prefix(read, &(event.row.room, event.row.event_id.clone()))?.next().is_none() {
        return Ok(None);
    }
    let mut bundle = Map::new();
    if let Some(edit) = latest_edit(read, eyes, event)? {
        bundle.insert("m.replace".to_owned(), Value::Object(showing.without_relations(&edit)?));
    }
    if let Some(thread) = thread(read, eyes, showing, event)? {
        bundle.insert("m.thread".to_owned(), thread);
    }
    let mut references = Vec::new();
    for number in last(children(read, event.row.room, &event.row.event_id, Some("m.reference"))?) {
        if let Some(child) = read::event(read, number)?
            && relation(&child).is_some()
            && eyes.sees(&child)?
        {
            references.push(json!({ "event_id": child.row.event_id }));
        }
    }
    if !references.is_empty() {
        bundle.insert("m.reference".to_owned(), json!({ "chunk": references }));
    }
    Ok((!bundle.is_empty()).then_some(Value::Object(bundle)))
}

/// The summary of the thread whose root `event` is.
fn thread(
    read: &dyn Read,
    eyes: &Eyes<'_>,
    showing: &Showing<'_>,
    event: &StoredEvent,
) -> Result<Option<Value>, StoreError> {
    let mut count = 0u64;
    let mut participated = event.sender() == eyes.user();
    let mut latest: Option<StoredEvent> = None;
    for number in last(children(read, event.row.room, &event.row.event_id, Some("m.thread"))?) {
        let Some(child) = read::event(read, number)? else { continue };
        if relation(&child).is_none() || !eyes.sees(&child)? {
            continue;
        }
        count += 1;
        participated |= child.sender() == eyes.user();
        if latest.as_ref().is_none_or(|latest| (child.row.depth, child.number) > (latest.row.depth, latest.number)) {
            latest = Some(child);
        }
    }
    let Some(latest) = latest else { return Ok(None) };
    let mut shown = showing.without_relations(&latest)?;
    if let Some(edit) = latest_edit(read, eyes, &latest)? {
        let edit = Value::Object(showing.without_relations(&edit)?);
        if let Some(Value::Object(unsigned)) = shown.get_mut("unsigned") {
            unsigned.insert("m.relations".to_owned(), json!({ "m.replace": edit }));
        }
    }
    Ok(Some(json!({
        "latest_event": shown,
        "count": count,
        "current_user_participated": participated,
    })))
}

/// The last of many children.
fn last(mut numbers: Vec<u64>) -> Vec<u64> {
    numbers.drain(..numbers.len().saturating_sub(MOST_CHILDREN));
    numbers
}
