//! `/admin/whois/{userId}` (client-server specification, "Server Administration"): for administrators, and for users
//! about themselves.

use std::sync::Arc;

use ruma::api::client::admin::get_user_info::v3::{ConnectionInfo, DeviceInfo, Request, Response, SessionInfo};
use ruma::{MilliSecondsSinceUnixEpoch, UInt};

use crate::Node;
use crate::accounts::{devices, users};
use crate::http::{Answer, MatrixError, Routes, Session};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(whois)
}

async fn whois(node: Arc<Node>, session: Session, request: Request) -> Answer<Response> {
    if !session.admin && session.user_id != request.user_id {
        return Err(MatrixError::forbidden("only administrators may ask about others"));
    }
    let devices = node.store.read(|read| {
        if !users::exists(read, &request.user_id)? {
            return Err(MatrixError::not_found("there is no such user here"));
        }
        Ok(devices::list(read, &request.user_id)?)
    })?;
    let mut response = Response::new();
    response.user_id = Some(request.user_id);
    for (id, row) in devices {
        let mut connection = ConnectionInfo::new();
        connection.ip = row.last_ip;
        connection.last_seen = row.last_seen.and_then(UInt::new).map(MilliSecondsSinceUnixEpoch);
        connection.user_agent = row.user_agent;
        let mut session = SessionInfo::new();
        session.connections.push(connection);
        let mut device = DeviceInfo::new();
        device.sessions.push(session);
        response.devices.insert(id, device);
    }
    Ok(response)
}
