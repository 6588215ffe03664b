//! Push rules (client-server specification, "Push Rules"): the user's rule set is account data `m.push_rules`, so sync
//! delivers it; here it is read and changed. Default rules of later versions of the specification are merged in when
//! it is read, with what the user changed about them.

use std::sync::Arc;

use kith_store::tables::{account_data as table, threads};
use kith_store::{Read, StoreError, Tx};
use ruma::UserId;
use ruma::push::{Action, NewPushRule, PushCondition, RemovePushRuleError, RuleKind, Ruleset};
use serde_json::{Map, Value, json};

use crate::Node;
use crate::http::{Answer, MatrixError};

/// The type of account data that holds the rules.
pub const TYPE: &str = "m.push_rules";
/// The longest rule ID in bytes.
const MAX_RULE_ID: usize = 255;
/// The rules of a user take at most so many bytes of JSON.
const MAX_RULES: usize = 256 << 10;

/// Gives a user the default rules of the specification.
///
/// # Errors
/// As all writes.
pub(crate) fn reset(tx: &mut Tx, user: &UserId) -> Result<(), StoreError> {
    let rules = default(tx, user)?;
    table::set(tx, user.as_str(), None, TYPE, content(&rules).to_string()).map(drop)
}

/// Tells the user's clients of default rules that came since.
///
/// # Errors
/// As all writes.
pub(crate) fn refresh(tx: &mut Tx, user: &UserId) -> Answer<()> {
    let rules = get(tx, user)?;
    table::set(tx, user.as_str(), None, TYPE, content(&rules).to_string())?;
    Ok(())
}

/// The default rules. Those for threads (MSC4306) come with the user's first subscription to one: they silence threads that are not
/// followed, and clients that know nothing of subscriptions never follow any.
fn default(read: &dyn Read, user: &UserId) -> Result<Ruleset, StoreError> {
    let mut rules = Ruleset::server_default(user);
    if !threads::any(read, user.as_str())? {
        rules.postcontent.clear();
    }
    Ok(rules)
}

/// The user's rules: the specification's defaults with the user's changes, and the user's own.
///
/// # Errors
/// As all reads.
pub fn get(read: &dyn Read, user: &UserId) -> Answer<Ruleset> {
    #[derive(serde::Deserialize)]
    struct Content {
        global: Ruleset,
    }
    let default = default(read, user)?;
    match table::get(read, user.as_str(), None, TYPE)? {
        Some(stored) => {
            let mut rules = serde_json::from_str::<Content>(&stored).map_err(MatrixError::internal)?.global;
            // ruma merges all kinds but this one.
            let mut for_threads = default.postcontent.clone();
            for old in rules.postcontent.drain(..) {
                if let Some(mut new) = for_threads.get(old.rule_id.as_str()).cloned() {
                    (new.enabled, new.actions) = (old.enabled, old.actions);
                    for_threads.replace(new);
                }
            }
            rules.update_with_server_default(default);
            rules.postcontent = for_threads;
            Ok(rules)
        }
        None => Ok(default),
    }
}

/// A rule set as JSON, with each kind present though empty, as clients expect.
pub fn global(rules: &Ruleset) -> Value {
    let mut kinds = match serde_json::to_value(rules) {
        Ok(Value::Object(kinds)) => kinds,
        _ => Map::new(),
    };
    for kind in ["override", "content", "room", "sender", "underride"] {
        kinds.entry(kind).or_insert_with(|| json!([]));
    }
    Value::Object(kinds)
}

fn content(rules: &Ruleset) -> Value {
    json!({ "global": global(rules) })
}

async fn change<F>(node: &Arc<Node>, user: &UserId, change: F) -> Answer<()>
where
    F: FnOnce(&mut Ruleset) -> Answer<()> + Send + 'static,
{
    let user = user.to_owned();
    node.store
        .write(move |tx| {
            let mut rules = get(tx, &user)?;
            change(&mut rules)?;
            let content = content(&rules).to_string();
            if content.len() > MAX_RULES {
                return Err(MatrixError::too_large("there are too many push rules"));
            }
            table::set(tx, user.as_str(), None, TYPE, content)?;
            Ok(())
        })
        .await
}

/// Adds a rule of the user's own or replaces one, and puts it right behind `after`, right before `before`, or (when
/// new) before all of the user's of its kind.
///
/// # Errors
/// `M_INVALID_PARAM` for IDs that users may not give, `M_UNKNOWN` (400) when the rule to stand beside is not there.
pub async fn put(
    node: &Arc<Node>,
    user: &UserId,
    rule: NewPushRule,
    after: Option<String>,
    before: Option<String>,
) -> Answer<()> {
    if rule.rule_id().is_empty() || rule.rule_id().len() > MAX_RULE_ID {
        return Err(MatrixError::invalid_param(format!("a rule ID has 1 to {MAX_RULE_ID} bytes")));
    }
    if rule.kind() == RuleKind::PostContent {
        return Err(MatrixError::invalid_param("of this kind there are only the server's rules"));
    }
    check_conditions(&rule)?;
    change(node, user, move |rules| insert(rules, rule, after.as_deref(), before.as_deref())).await
}

fn insert(rules: &mut Ruleset, rule: NewPushRule, after: Option<&str>, before: Option<&str>) -> Answer<()> {
    let (kind, id) = (rule.kind(), rule.rule_id().to_owned());
    // ruma would move the rule behind the end of the list.
    if after == Some(id.as_str()) || before == Some(id.as_str()) {
        return Err(MatrixError::bad_request("a rule cannot stand before or after itself"));
    }
    let known = rules.get(kind.clone(), &id).map(|rule| rule.enabled());
    if known.is_some() && !id.starts_with('.') && (after.is_some() || before.is_some()) {
        // Taken out before it is put elsewhere: the places of the others are counted without it.
        rules.remove(kind.clone(), &id).map_err(|error| MatrixError::bad_request(error.to_string()))?;
    }
    rules.insert(rule, after, before).map_err(|error| {
        use ruma::push::InsertPushRuleError as Error;
        match error {
            Error::UnknownRuleId => MatrixError::not_found("there is no such rule to stand before or after"),
            Error::ServerDefaultRuleId | Error::InvalidRuleId => MatrixError::invalid_param(error.to_string()),
            error => MatrixError::bad_request(error.to_string()),
        }
    })?;
    if let Some(enabled) = known {
        rules.set_enabled(kind, &id, enabled).map_err(MatrixError::internal)?;
    }
    Ok(())
}

/// Conditions without a kind cannot ever match; refuse them while somebody listens.
fn check_conditions(rule: &NewPushRule) -> Answer<()> {
    let (NewPushRule::Override(rule) | NewPushRule::Underride(rule)) = rule else { return Ok(()) };
    let empty = |condition: &PushCondition| match serde_json::to_value(condition) {
        Ok(condition) => condition.get("kind").and_then(Value::as_str).is_none_or(str::is_empty),
        Err(_) => true,
    };
    if rule.conditions.iter().any(empty) {
        return Err(MatrixError::invalid_param("a condition needs a kind"));
    }
    Ok(())
}

/// Deletes a rule of the user's own.
///
/// # Errors
/// `M_NOT_FOUND`; `M_UNKNOWN` (400) for default rules.
pub async fn delete(node: &Arc<Node>, user: &UserId, kind: RuleKind, id: String) -> Answer<()> {
    change(node, user, move |rules| {
        rules.remove(kind, &id).map_err(|error| match error {
            RemovePushRuleError::NotFound => no_such_rule(),
            error => MatrixError::bad_request(error.to_string()),
        })
    })
    .await
}

/// Turns a rule on or off.
///
/// # Errors
/// `M_NOT_FOUND`.
pub async fn set_enabled(node: &Arc<Node>, user: &UserId, kind: RuleKind, id: String, enabled: bool) -> Answer<()> {
    change(node, user, move |rules| rules.set_enabled(kind, &id, enabled).map_err(|_| no_such_rule())).await
}

/// Sets what a rule does.
///
/// # Errors
/// `M_NOT_FOUND`.
pub async fn set_actions(
    node: &Arc<Node>,
    user: &UserId,
    kind: RuleKind,
    id: String,
    actions: Vec<Action>,
) -> Answer<()> {
    change(node, user, move |rules| rules.set_actions(kind, &id, actions).map_err(|_| no_such_rule())).await
}

/// 404 `M_NOT_FOUND`.
pub(crate) fn no_such_rule() -> MatrixError {
    MatrixError::not_found("there is no such push rule")
}

#[cfg(test)]
mod tests {
    use ruma::push::{NewConditionalPushRule, NewPatternedPushRule};
    use ruma::user_id;

    use super::*;

    fn content_rule(id: &str) -> NewPushRule {
        NewPushRule::Content(NewPatternedPushRule::new(id.to_owned(), "x".to_owned(), vec![Action::Notify]))
    }

    fn order(rules: &Ruleset) -> Vec<&str> {
        rules.content.iter().map(|rule| rule.rule_id.as_str()).filter(|id| !id.starts_with('.')).collect()
    }

    #[test]
    fn a_rule_moves_behind_the_last_one_and_keeps_whether_it_is_on() {
        let mut rules = Ruleset::new();
        for id in ["c", "b", "a"] {
            insert(&mut rules, content_rule(id), None, None).unwrap();
        }
        assert_eq!(order(&rules), ["a", "b", "c"]);
        rules.set_enabled(RuleKind::Content, "a", false).unwrap();
        insert(&mut rules, content_rule("a"), Some("c"), None).unwrap();
        assert_eq!(order(&rules), ["b", "c", "a"]);
        assert!(!rules.get(RuleKind::Content, "a").unwrap().enabled());
        insert(&mut rules, content_rule("a"), None, Some("c")).unwrap();
        assert_eq!(order(&rules), ["b", "a", "c"]);
        insert(&mut rules, content_rule("c"), Some("b"), None).unwrap();
        assert_eq!(order(&rules), ["b", "c", "a"]);
    }

    #[test]
    fn a_replaced_rule_keeps_its_place() {
        let mut rules = Ruleset::new();
        for id in ["c", "b", "a"] {
            insert(&mut rules, content_rule(id), None, None).unwrap();
        }
        insert(&mut rules, content_rule("c"), None, None).unwrap();
        assert_eq!(order(&rules), ["a", "b", "c"]);
    }

    #[test]
    fn rules_beside_unknown_or_default_ones_are_refused() {
        let alice = user_id!("@alice:x");
        let mut rules = Ruleset::server_default(alice);
        assert!(insert(&mut rules, content_rule("a"), Some("nobody"), None).unwrap_err().is("M_NOT_FOUND"));
        assert!(insert(&mut rules, content_rule("a"), Some(".m.rule.x"), None).is_err());
        assert!(insert(&mut rules, content_rule(".m.a"), None, None).unwrap_err().is("M_INVALID_PARAM"));
        assert!(insert(&mut rules, content_rule("a/b"), None, None).unwrap_err().is("M_INVALID_PARAM"));
        insert(&mut rules, content_rule("a"), None, None).unwrap();
        assert!(insert(&mut rules, content_rule("a"), Some("a"), None).is_err());
        assert!(insert(&mut rules, content_rule("a"), None, Some("a")).is_err());
        assert_eq!(order(&rules), ["a"]);
    }

    #[test]
    fn the_master_rule_stays_first() {
        let alice = user_id!("@alice:x");
        let mut rules = Ruleset::server_default(alice);
        let own = NewPushRule::Override(NewConditionalPushRule::new("mine".to_owned(), vec![], vec![]));
        insert(&mut rules, own, None, None).unwrap();
        let ids: Vec<_> = rules.override_.iter().take(2).map(|rule| rule.rule_id.as_str()).collect();
        assert_eq!(ids, [".m.rule.master", "mine"]);
    }

    #[test]
    fn every_kind_is_there_though_empty() {
        assert_eq!(
            global(&Ruleset::new()),
            json!({ "override": [], "content": [], "room": [], "sender": [], "underride": [] })
        );
    }
}
