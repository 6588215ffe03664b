//! `POST /createRoom` (client-server specification, "Creation").

use std::sync::Arc;

use ruma::api::client::room::create_room::v3 as create_room;

use crate::{
    Node,
    accounts::limits::{self, Action},
    appservice::ask,
    http::{Answer, Routes, Session},
    rooms::create,
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(create_room)
}

async fn create_room(
    node: Arc<Node>,
    session: Session,
    request: create_room::Request,
) -> Answer<create_room::Response> {
    limits::check(&node, Action::Join, session.user_id.as_str())?;
    if let Some(name) = &request.room_alias_name {
        let alias = format!("#{name}:{}", node.identity.server_name());
        node.appservices.check_alias(&alias, &session.user_id)?;
    }
    for user in &request.invite {
        ask::introduce(&node, user).await?;
    }
    let room_id = create::create(&node, &session.user_id, request).await?;
    Ok(create_room::Response::new(room_id))
}
