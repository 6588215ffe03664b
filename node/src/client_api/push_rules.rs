//! `/pushrules/*` (client-server specification, "Push Rules: API").

use std::sync::Arc;

use ruma::api::client::push::{
    PushRule, delete_pushrule, get_pushrule, get_pushrule_actions, get_pushrule_enabled, get_pushrules_all,
    get_pushrules_global_scope, set_pushrule, set_pushrule_actions, set_pushrule_enabled,
};
use ruma::push::{AnyPushRuleRef, RuleKind};
use serde_json::json;

use super::untyped::{Reply, Untyped};
use crate::Node;
use crate::accounts::push_rules;
use crate::http::{Answer, MatrixError, Routes, Session};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .add(all)
        .add(global)
        .add(get)
        .add(put)
        .add(delete)
        .add(enabled)
        .add(set_enabled)
        .add(actions)
        .add(set_actions)
}

async fn all(node: Arc<Node>, session: Session, _: Untyped<get_pushrules_all::v3::Request, Reply>) -> Answer<Reply> {
    let rules = node.store.read(|read| push_rules::get(read, &session.user_id))?;
    Ok(Reply::ok(json!({ "global": push_rules::global(&rules) })))
}

async fn global(
    node: Arc<Node>,
    session: Session,
    _: Untyped<get_pushrules_global_scope::v3::Request, Reply>,
) -> Answer<Reply> {
    let rules = node.store.read(|read| push_rules::get(read, &session.user_id))?;
    Ok(Reply::ok(push_rules::global(&rules)))
}

fn rule(node: &Node, session: &Session, kind: &RuleKind, id: &str) -> Answer<PushRule> {
    let rules = node.store.read(|read| push_rules::get(read, &session.user_id))?;
    let rule = rules.get(known(kind)?, id).ok_or_else(push_rules::no_such_rule)?;
    Ok(match rule {
        // ruma's conversion panics at this kind.
        AnyPushRuleRef::PostContent(rule) => rule.clone().into(),
        rule => rule.into(),
    })
}

fn known(kind: &RuleKind) -> Answer<RuleKind> {
    match kind {
        RuleKind::Override
        | RuleKind::Underride
        | RuleKind::Sender
        | RuleKind::Room
        | RuleKind::Content
        | RuleKind::PostContent => Ok(kind.clone()),
        // As MSC4306 and the rule set itself call it.
        kind if kind.as_str() == "postcontent" => Ok(RuleKind::PostContent),
        _ => Err(MatrixError::invalid_param("there is no such kind of push rule")),
    }
}

async fn get(
    node: Arc<Node>,
    session: Session,
    request: get_pushrule::v3::Request,
) -> Answer<get_pushrule::v3::Response> {
    Ok(get_pushrule::v3::Response::new(rule(&node, &session, &request.kind, &request.rule_id)?))
}

async fn put(
    node: Arc<Node>,
    session: Session,
    request: set_pushrule::v3::Request,
) -> Answer<set_pushrule::v3::Response> {
    push_rules::put(&node, &session.user_id, request.rule, request.after, request.before).await?;
    Ok(set_pushrule::v3::Response::new())
}

async fn delete(
    node: Arc<Node>,
    session: Session,
    request: delete_pushrule::v3::Request,
) -> Answer<delete_pushrule::v3::Response> {
    let kind = known(&request.kind)?;
    push_rules::delete(&node, &session.user_id, kind, request.rule_id).await?;
    Ok(delete_pushrule::v3::Response::new())
}

async fn enabled(
    node: Arc<Node>,
    session: Session,
    request: get_pushrule_enabled::v3::Request,
) -> Answer<get_pushrule_enabled::v3::Response> {
    let rule = rule(&node, &session, &request.kind, &request.rule_id)?;
    Ok(get_pushrule_enabled::v3::Response::new(rule.enabled))
}

async fn set_enabled(
    node: Arc<Node>,
    session: Session,
    request: set_pushrule_enabled::v3::Request,
) -> Answer<set_pushrule_enabled::v3::Response> {
    let kind = known(&request.kind)?;
    push_rules::set_enabled(&node, &session.user_id, kind, request.rule_id, request.enabled).await?;
    Ok(set_pushrule_enabled::v3::Response::new())
}

async fn actions(
    node: Arc<Node>,
    session: Session,
    request: get_pushrule_actions::v3::Request,
) -> Answer<get_pushrule_actions::v3::Response> {
    let rule = rule(&node, &session, &request.kind, &request.rule_id)?;
    Ok(get_pushrule_actions::v3::Response::new(rule.actions))
}

async fn set_actions(
    node: Arc<Node>,
    session: Session,
    request: set_pushrule_actions::v3::Request,
) -> Answer<set_pushrule_actions::v3::Response> {
    let kind = known(&request.kind)?;
    push_rules::set_actions(&node, &session.user_id, kind, request.rule_id, request.actions).await?;
    Ok(set_pushrule_actions::v3::Response::new())
}
