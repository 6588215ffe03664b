//! Declining an invite, or taking back a knock, in a room that this node is not in. Server-server specification, "Leaving Rooms".

use std::sync::Arc;

use kith_room::{Event, build::Builder, format};
use kith_store::tables::rooms::membership;
use kith_transport::Class;
use ruma::{
    RoomId, RoomVersionId, ServerName, UserId,
    api::federation::membership::{create_leave_event::v2 as send_leave, prepare_leave_event::v1 as make_leave},
    canonical_json::to_canonical_value,
};
use serde_json::{Map, Value};

use super::{Failures, STEP, complete, version_of};
use crate::{
    Node,
    federation::{
        Federation, FederationError, pdus,
        pending::{self, Outside},
    },
    http::{Answer, MatrixError},
    rooms::timestamp,
    server_api::signer,
};

impl Federation {
    /// Ends the invite or knock of a user of ours in a room that this node is not in. For the user it ends in any case: if no
    /// server of the room can be told now, it is told nothing, as after an invite that is ignored. `content` may hold a
    /// `reason`.
    ///
    /// # Errors
    /// 404 if there is no such invite or knock; otherwise only the store's.
    pub async fn leave(&self, user: &UserId, room_id: &RoomId, content: &Map<String, Value>) -> Answer<()> {
        let node = self.node()?;
        let nothing = || MatrixError::not_found("you have no part in that room");
        let pending = node.store.read(|read| pending::pending(read, user, room_id.as_str()))?.ok_or_else(nothing)?;
        if pending.joined || !matches!(pending.part.membership, membership::INVITE | membership::KNOCK) {
            return Err(nothing());
        }
        let mut failures = Failures::default();
        let mut left = None;
        for server in self.servers_to_ask(&node, user, room_id, &[])? {
            match self.leave_through(&node, &server, user, room_id, content).await {
                Ok(event) => {
                    left = Some(event);
                    break;
                }
                Err(error) => failures.add(&server, error),
            }
        }
        let version = pending.version.ok_or_else(nothing)?;
        let event = match left {
            Some(event) => event,
            None => self.leave_alone(&node, user, room_id, &version, content)?,
        };
        let room = node.rooms.get_or_new(room_id, &version)?;
        pending::note(&node, Outside { room, event: Arc::new(event), stripped: Vec::new() }).await
    }

    /// Leaves through one server.
    pub(super) async fn leave_through(
        &self,
        node: &Arc<Node>,
        server: &ServerName,
        user: &UserId,
        room_id: &RoomId,
        content: &Map<String, Value>,
    ) -> Result<Event, FederationError> {
        let nonsense =
            |error: MatrixError| FederationError::Nonsense { server: server.to_owned(), reason: error.message };
        let request = make_leave::Request::new(room_id.to_owned(), user.to_owned());
        let proposal = self.client().request(server, request, Class::Control, STEP).await?;
        let version = version_of(proposal.room_version).map_err(nonsense)?;
        let event = complete(node, &proposal.event, &version, room_id, user, "leave", content).map_err(nonsense)?;
        let pdu = pdus::raw(event.text()).map_err(nonsense)?;
        let request = send_leave::Request::new(room_id.to_owned(), event.event_id().to_owned(), pdu);
        self.client().request(server, request, Class::Control, STEP).await?;
        Ok(event)
    }

    /// A leave event for the user's own clients, when nobody of the room can be asked where it would stand.
    fn leave_alone(
        &self,
        node: &Arc<Node>,
        user: &UserId,
        room_id: &RoomId,
        version: &RoomVersionId,
        content: &Map<String, Value>,
    ) -> Answer<Event> {
        let mut fields = content.clone();
        fields.insert("membership".to_owned(), "leave".into());
        let content = match to_canonical_value(Value::Object(fields)) {
            Ok(ruma::CanonicalJsonValue::Object(content)) => content,
            _ => return Err(MatrixError::bad_json("the content is not canonical JSON")),
        };
        let builder = Builder::new(user, "m.room.member", content).state_key(user.as_str()).room_id(room_id.to_owned());
        let known = format::rules(version).is_some();
        kith_room::build::build(builder, version, &[], &[], 1, timestamp(node.clock.now_ms()), signer(node)).map_err(
            |error| if known { MatrixError::bad_json(error.to_string()) } else { MatrixError::internal(error) },
        )
    }
}
