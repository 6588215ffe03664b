//! Using third-party invites: who has proven to own what such an invite was sent to becomes invited. Client-server
//! specification, "Third-party invites"; server-server specification, "Third-party invites".
//!
//! The proof is what the identity server signed; the room's `m.room.third_party_invite` names its keys, and the room's
//! authorization rules check the one against the other. Any server of the room may make the invite, in the name of who sent
//! the `m.room.third_party_invite`. Its `key_validity_url` is not asked whether a key was revoked meanwhile: this node
//! reaches no servers but those of Matrix rooms, trusts no identity server, and would let a room's member choose what it
//! connects to. Who wants to take such an invite back replaces its state event, which takes the keys away.

use http::Method;
use kith_store::Read;
use kith_transport::Class;
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, UserId};
use serde_json::{Map, Value, json, value::RawValue};

use super::{Failures, STEP};
use crate::{
    accounts::profile,
    client_api::rooms::membership::takes_part,
    federation::{Federation, pdus, rules},
    http::{Answer, MatrixError, escape::escaped},
    rooms::{Draft, Room, read},
};

/// The type of the state events that are such invites.
pub const THIRD_PARTY_INVITE: &str = "m.room.third_party_invite";
/// The longest token, in bytes: it is a state key.
const LONGEST_TOKEN: usize = 255;

/// Who is to be invited by a third-party invite of a room, and the proof that it is for them. It has no `Debug`: who sees a
/// token with its signatures could use it.
pub struct Exchange {
    room_id: OwnedRoomId,
    sender: OwnedUserId,
    invited: OwnedUserId,
    signed: Map<String, Value>,
}

impl Exchange {
    /// `sender` is who sent the `m.room.third_party_invite`, `signed` what the identity server signed for `invited`, with the
    /// signatures.
    ///
    /// # Errors
    /// 400 `M_MISSING_PARAM` or `M_BAD_JSON` when `signed` lacks what it needs, 403 when it is for somebody else.
    pub fn new(
        room_id: OwnedRoomId,
        sender: OwnedUserId,
        invited: OwnedUserId,
        signed: Map<String, Value>,
    ) -> Answer<Self> {
        for (field, sound) in [
            ("mxid", signed.get("mxid").map(Value::is_string)),
            ("token", signed.get("token").map(Value::is_string)),
            ("signatures", signed.get("signatures").map(Value::is_object)),
        ] {
            match sound {
                Some(true) => {}
                Some(false) => return Err(MatrixError::bad_json(format!("`{field}` of what is signed is malformed"))),
                None => return Err(MatrixError::missing_param(format!("`{field}` is missing in what is signed"))),
            }
        }
        let exchange = Self { room_id, sender, invited, signed };
        if exchange.token().len() > LONGEST_TOKEN {
            return Err(MatrixError::invalid_param("the token is too long for a state key"));
        }
        if exchange.signed.get("mxid").and_then(Value::as_str) != Some(exchange.invited.as_str()) {
            return Err(MatrixError::forbidden("what is signed is for somebody else"));
        }
        Ok(exchange)
    }

    /// The room.
    pub fn room_id(&self) -> &RoomId {
        &self.room_id
    }

    /// Who invites.
    pub fn sender(&self) -> &UserId {
        &self.sender
    }

    /// Who is to be invited.
    pub fn invited(&self) -> &UserId {
        &self.invited
    }

    fn token(&self) -> &str {
        self.signed.get("token").and_then(Value::as_str).unwrap_or_default()
    }

    /// The content of the invite. From outside of the room the name in it is not known; the room's servers replace it.
    fn content(&self, display_name: Option<&str>) -> Map<String, Value> {
        let display_name = display_name.unwrap_or_else(|| self.invited.localpart());
        let mut content = Map::new();
        content.insert("membership".to_owned(), json!("invite"));
        let used = json!({ "display_name": display_name, "signed": self.signed });
        content.insert("third_party_invite".to_owned(), used);
        content
    }
}

impl Federation {
    /// Has a user of ours invited who uses a third-party invite: by this node when it is in the room, else by another server, of
    /// which at most `most` are asked. Gives the server that did it, unless it was this one.
    ///
    /// # Errors
    /// As [`Federation::use_third_party_invite`] and [`Federation::exchange_third_party_invite`]; 504 when this node does not
    /// learn the room's members in time.
    pub async fn claim_third_party_invite(
        &self,
        exchange: &Exchange,
        via: &[OwnedServerName],
        most: usize,
    ) -> Answer<Option<OwnedServerName>> {
        let node = self.node()?;
        if !takes_part(&node, &exchange.room_id)? {
            return self.exchange_third_party_invite(exchange, via, most).await.map(Some);
        }
        self.whole(&exchange.room_id).await?;
        let room = node.rooms.require(&exchange.room_id)?;
        self.use_third_party_invite(&room, exchange).await.map(|()| None)
    }

    /// Invites who uses a third-party invite, into a room that this node is in and whose members it knows; a user of another
    /// server through that server. Nothing happens when the invite was used by this user already.
    ///
    /// # Errors
    /// `M_FORBIDDEN` when there is no such third-party invite, when the room's rules do not allow its use, and when the user is
    /// in the room; otherwise as [`Federation::invite`].
    pub async fn use_third_party_invite(&self, room: &Room, exchange: &Exchange) -> Answer<()> {
        let node = self.node()?;
        let (name, now) = node.store.read(|read| {
            let invite = read::state_event(read, room.number(), THIRD_PARTY_INVITE, exchange.token())?
                .ok_or_else(|| MatrixError::forbidden("the room has no third-party invite with this token"))?;
            let name = invite.content().get("display_name").and_then(Value::as_str).map(str::to_owned);
            let member = read::state_event(read, room.number(), "m.room.member", exchange.invited.as_str())?;
            Ok::<_, MatrixError>((name, member.map(|member| member.content().clone()).unwrap_or_default()))
        })?;
        match now.get("membership").and_then(Value::as_str) {
            // The rules would take them out of the room.
            Some("join") => return Err(MatrixError::forbidden("this user is in the room already")),
            Some("invite") if token_of(&now) == Some(exchange.token()) => return Ok(()),
            _ => {}
        }
        let mut content = exchange.content(name.as_deref());
        if !node.is_local(&exchange.invited) {
            return self.invite(room, &exchange.sender, &exchange.invited, &content).await;
        }
        content.extend(node.store.read(|read| profile::for_member_event(read, &exchange.invited))?);
        let draft = Draft::state(exchange.sender.clone(), "m.room.member", exchange.invited.as_str(), content);
        room.send(draft).await?;
        Ok(())
    }

    /// Has another server invite a user of ours who uses a third-party invite of its room: at most `most` are asked, first
    /// that of who sent it, then those of `via` and those known to be in the room. When this returns the user is invited.
    ///
    /// # Errors
    /// The refusal of a server that was asked; 404 if none is known; 502 if none answers.
    pub async fn exchange_third_party_invite(
        &self,
        exchange: &Exchange,
        via: &[OwnedServerName],
        most: usize,
    ) -> Answer<OwnedServerName> {
        let node = self.node()?;
        let mut servers = vec![exchange.sender.server_name().to_owned()];
        servers.extend_from_slice(via);
        let servers = self.servers_to_ask(&node, &exchange.invited, &exchange.room_id, &servers)?;
        let path = format!("/_matrix/federation/v1/exchange_third_party_invite/{}", escaped(exchange.room_id.as_str()));
        let body = json!({
            "type": "m.room.member",
            "room_id": exchange.room_id,
            "sender": exchange.sender,
            "state_key": exchange.invited,
            "content": exchange.content(None),
        });
        let mut failures = Failures::default();
        for server in servers.into_iter().take(most) {
            if let Err(error) = rules::check_pair(&server, node.server_name()) {
                failures.refusal.get_or_insert(error);
                continue;
            }
            let asked = self.client().request_json(&server, Method::PUT, &path, &body, Class::Control, STEP);
            match asked.await {
                Ok(_) => return Ok(server),
                Err(error) => failures.add(&server, error),
            }
        }
        Err(failures.answer("invite you to that room"))
    }
}

/// The token of the third-party invite that a member event uses.
pub fn token_of(content: &Map<String, Value>) -> Option<&str> {
    content.get("third_party_invite")?.get("signed")?.get("token")?.as_str()
}

/// The third-party invite that an invite uses, as a PDU for its stripped state: the invited user's server can check by it an
/// invite that comes from another server than its sender's.
///
/// # Errors
/// The store's.
pub fn used_by(read: &dyn Read, room: u64, content: &Map<String, Value>) -> Answer<Option<Box<RawValue>>> {
    let Some(token) = token_of(content) else { return Ok(None) };
    let invite = read::state_event(read, room, THIRD_PARTY_INVITE, token)?;
    invite.map(|event| pdus::raw(&event.row.json)).transpose()
}
