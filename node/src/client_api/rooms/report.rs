//! `POST /rooms/{roomId}/report[/{eventId}]`, `POST /users/{userId}/report` (client-server specification, "Reporting
//! content"). Reports are kept for the node's owner.

use std::sync::Arc;

use kith_store::tables::directory::{ReportRow, add_report};
use ruma::api::client::{
    reporting::report_user::v3 as report_user,
    room::{report_content::v3 as report_content, report_room::v3 as report_room},
};

use super::{entered, seen};
use crate::{
    Node,
    accounts::users,
    http::{Answer, MatrixError, Routes, Session},
    rooms::read,
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(report_content).add(report_room).add(report_user)
}

/// The longest reason that is kept, in bytes.
const LONGEST_REASON: usize = 8_192;

async fn keep(node: &Node, session: &Session, mut report: ReportRow) -> Answer<()> {
    if report.reason.len() > LONGEST_REASON {
        return Err(MatrixError::invalid_param(format!("the reason is longer than {LONGEST_REASON} bytes")));
    }
    report.by = session.user_id.to_string();
    report.at = node.clock.now_ms();
    tracing::info!(room = report.room_id, event = report.event_id, user = report.user_id, "something was reported");
    node.store.write(move |tx| add_report(tx, report)).await?;
    Ok(())
}

fn empty(reason: String) -> ReportRow {
    ReportRow { by: String::new(), at: 0, room_id: None, event_id: None, user_id: None, reason }
}

async fn report_content(
    node: Arc<Node>,
    session: Session,
    request: report_content::Request,
) -> Answer<report_content::Response> {
    node.store.read(|read| {
        let none = |_| MatrixError::not_found("there is no such event here, or you may not see it");
        let (_, eyes) = entered(read, &request.room_id, session.user_id.as_str()).map_err(none)?;
        seen(read, &eyes, request.event_id.as_str()).map(drop)
    })?;
    let report = ReportRow {
        room_id: Some(request.room_id.to_string()),
        event_id: Some(request.event_id.to_string()),
        ..empty(request.reason.unwrap_or_default())
    };
    keep(&node, &session, report).await?;
    Ok(report_content::Response::new())
}

async fn report_room(
    node: Arc<Node>,
    session: Session,
    request: report_room::Request,
) -> Answer<report_room::Response> {
    let known = node.store.read(|read| read::room_number(read, request.room_id.as_str()))?;
    if known.is_none() {
        return Err(MatrixError::not_found("this room is not known here"));
    }
    let report = ReportRow { room_id: Some(request.room_id.to_string()), ..empty(request.reason) };
    keep(&node, &session, report).await?;
    Ok(report_room::Response::new())
}

async fn report_user(
    node: Arc<Node>,
    session: Session,
    request: report_user::Request,
) -> Answer<report_user::Response> {
    // Whether a user exists is nobody's business here: the answer is the same, but nothing is kept for one that does not.
    let known = !node.is_local(&request.user_id) || node.store.read(|read| users::exists(read, &request.user_id))?;
    if known {
        let report = ReportRow { user_id: Some(request.user_id.to_string()), ..empty(request.reason) };
        keep(&node, &session, report).await?;
    }
    Ok(report_user::Response::new())
}
