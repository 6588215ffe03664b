//! Inviting users of other servers. Server-server specification, "Inviting to a room".

use std::sync::Arc;

use http::Method;
use kith_room::Event;
use kith_transport::Class;
use ruma::{
    RoomVersionId, ServerName, UserId,
    api::federation::membership::{RawStrippedState, create_invite::v2 as invite},
};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{STEP, third_party};
use crate::{
    federation::{Federation, FederationError, pdus, pending, rules},
    http::{Answer, MatrixError, escape::escaped},
    rooms::{Draft, Room},
};

impl Federation {
    /// Invites a user of another server: its server signs the invite first, then it becomes part of the room. `content` may
    /// hold a `reason`, `is_direct`, `displayname`, `avatar_url` and `third_party_invite`.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the sender may not invite, or if the user's server could not verify this room's members (the message
    /// names the remedy); the other server's refusal; 502 if it cannot be reached.
    pub async fn invite(
        &self,
        room: &Room,
        sender: &UserId,
        target: &UserId,
        content: &Map<String, Value>,
    ) -> Answer<()> {
        let node = self.node()?;
        let server = target.server_name();
        let _on_the_way = self.invites.begin(room.id(), target);
        let stripped = node.store.read(|read| {
            rules::check_names(read, room.number(), server)?;
            let mut stripped = pending::stripped_pdus(read, room.number(), Some(sender))?;
            stripped.extend(third_party::used_by(read, room.number(), content)?);
            Ok::<_, MatrixError>(stripped)
        })?;
        let mut fields = content.clone();
        fields.insert("membership".to_owned(), "invite".into());
        let event = room.make(Draft::state(sender.to_owned(), "m.room.member", target.as_str(), fields)).await?;
        let request = invite::Request::new(
            room.id().to_owned(),
            event.event_id().to_owned(),
            room.version().clone(),
            pdus::raw(event.text())?,
            stripped.into_iter().map(RawStrippedState::Pdu).collect(),
        );
        // Once more if the answer was lost: the other server has stored it.
        let mut answer = self.client().request(server, request.clone(), Class::Control, STEP).await;
        if matches!(&answer, Err(FederationError::Transport(error)) if error.maybe_delivered()) {
            answer = self.client().request(server, request.clone(), Class::Control, STEP).await;
        }
        let answer = match answer {
            Err(error)
                if error.is_unknown_endpoint() && matches!(room.version(), RoomVersionId::V1 | RoomVersionId::V2) =>
            {
                self.invite_the_old_way(server, &request).await?
            }
            answer => answer?.event,
        };
        let signed = self.signed(&node, room, &event, &answer).await?;
        room.receive_for_others(node.server_name().as_str(), signed).await
    }

    /// Sends an invite as servers know it that know no other rooms than of versions 1 and 2.
    async fn invite_the_old_way(
        &self,
        server: &ServerName,
        invite: &invite::Request,
    ) -> Result<Box<RawValue>, FederationError> {
        #[derive(Deserialize)]
        struct Signed {
            event: Box<RawValue>,
        }
        let mut body: Value = serde_json::from_str(invite.event.get()).unwrap_or_default();
        body["unsigned"] = json!({ "invite_room_state": invite.invite_room_state });
        let (room, event) = (escaped(invite.room_id.as_str()), escaped(invite.event_id.as_str()));
        let path = format!("/_matrix/federation/v1/invite/{room}/{event}");
        let mut answer = self.client().request_json(server, Method::PUT, &path, &body, Class::Control, STEP).await?;
        // The status stands in the body, too: `[200, {"event": ...}]`.
        match serde_json::from_value::<Signed>(answer[1].take()) {
            Ok(signed) => Ok(signed.event),
            Err(error) => Err(FederationError::Nonsense { server: server.to_owned(), reason: error.to_string() }),
        }
    }

    /// The invite as the other server signed it: the same event, and its server's signature on it.
    async fn signed(
        &self,
        node: &Arc<crate::Node>,
        room: &Room,
        event: &Arc<Event>,
        answer: &RawValue,
    ) -> Answer<Arc<Event>> {
        let nonsense =
            |reason: &str| MatrixError::unreachable(format!("the invited user's server answers nonsense: {reason}"));
        let signed = pdus::check(node, answer, room.version()).await.map_err(|error| nonsense(&error.to_string()))?;
        if signed.event_id() != event.event_id() || signed.redacted() {
            return Err(nonsense("it signed another event"));
        }
        let target = event.member().map(UserId::server_name);
        let by_target = signed
            .json()
            .get("signatures")
            .and_then(|signatures| signatures.as_object())
            .zip(target)
            .is_some_and(|(signatures, server)| signatures.contains_key(server.as_str()));
        if by_target { Ok(signed) } else { Err(nonsense("it did not sign the invite")) }
    }
}
