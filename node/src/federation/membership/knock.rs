//! Asking to be let into a room of other servers. Server-server specification, "Knocking upon a room".

use std::sync::Arc;

use kith_room::json::plain_object;
use kith_transport::Class;
use ruma::{
    OwnedServerName, RoomId, ServerName, UserId,
    api::federation::membership::{
        RawStrippedState, create_knock_event::v1 as send_knock, prepare_knock_event::v1 as make_knock,
    },
};
use serde_json::{Map, Value};

use super::{Failures, STEP, complete, known_versions, version_of};
use crate::{
    Node,
    federation::{
        Federation, FederationError, pdus,
        pending::{self, MOST_STRIPPED, Outside},
        rules,
    },
    http::{Answer, MatrixError},
};

impl Federation {
    /// Knocks for a user of ours, through the servers of `via` and those known to be in the room. `content` may hold a
    /// `reason`, `displayname` and `avatar_url`.
    ///
    /// # Errors
    /// As [`Federation::join`].
    pub async fn knock(
        &self,
        user: &UserId,
        room_id: &RoomId,
        via: &[OwnedServerName],
        content: &Map<String, Value>,
    ) -> Answer<()> {
        let node = self.node()?;
        let mut failures = Failures::default();
        for server in self.servers_to_ask(&node, user, room_id, via)? {
            if let Err(error) = rules::check_pair(&server, node.server_name()) {
                failures.refusal.get_or_insert(error);
                continue;
            }
            match self.knock_through(&node, &server, user, room_id, content).await {
                Ok(outside) => return pending::note(&node, outside).await,
                Err(error) => failures.add(&server, error),
            }
        }
        Err(failures.answer("knock at that room"))
    }

    async fn knock_through(
        &self,
        node: &Arc<Node>,
        server: &ServerName,
        user: &UserId,
        room_id: &RoomId,
        content: &Map<String, Value>,
    ) -> Result<Outside, FederationError> {
        let nonsense =
            |error: MatrixError| FederationError::Nonsense { server: server.to_owned(), reason: error.message };
        let mut request = make_knock::Request::new(room_id.to_owned(), user.to_owned());
        request.ver = known_versions();
        let proposal = self.client().request(server, request, Class::Control, STEP).await?;
        let version = version_of(Some(proposal.room_version)).map_err(nonsense)?;
        let event = complete(node, &proposal.event, &version, room_id, user, "knock", content).map_err(nonsense)?;
        let pdu = pdus::raw(event.text()).map_err(nonsense)?;
        let request = send_knock::Request::new(room_id.to_owned(), event.event_id().to_owned(), pdu);
        let answer = self.client().request(server, request, Class::Control, STEP).await?;
        let stripped = answer
            .knock_room_state
            .iter()
            .take(MOST_STRIPPED)
            .filter_map(|entry| {
                let text = match entry {
                    RawStrippedState::Pdu(pdu) => pdu.get(),
                    #[allow(deprecated)]
                    RawStrippedState::Stripped(raw) => raw.json().get(),
                    _ => return None,
                };
                pending::strip(&Value::Object(plain_object(text).ok()?))
            })
            .collect();
        let room = node.rooms.get_or_new(room_id, &version).map_err(nonsense)?;
        Ok(Outside { room, event: Arc::new(event), stripped })
    }
}
