//! Aliases, profiles and room directories of other servers.

use std::time::Duration;

use kith_transport::Class;
use ruma::{
    OwnedRoomId, OwnedServerName, RoomAliasId, ServerName, UserId,
    api::federation::{
        directory::get_public_rooms_filtered::v1 as public_rooms,
        query::{get_profile_information::v1 as profile, get_room_information::v1 as directory},
    },
};
use serde_json::{Map, Value};

use super::Federation;
use crate::http::Answer;

/// How long another server may take for an answer that a user waits for.
const TIME_LIMIT: Duration = Duration::from_secs(15);

impl Federation {
    /// Asks an alias's server which room it names, and through which servers that room can be joined.
    ///
    /// # Errors
    /// 404 `M_NOT_FOUND` of that server; 502 if it does not answer.
    pub async fn resolve_alias(&self, alias: &RoomAliasId) -> Answer<(OwnedRoomId, Vec<OwnedServerName>)> {
        let server = alias.server_name();
        let request = directory::Request::new(alias.to_owned());
        let mut answer = self.client().request(server, request, Class::Control, TIME_LIMIT).await?;
        answer.servers.truncate(50);
        if answer.servers.is_empty() {
            answer.servers.push(server.to_owned());
        }
        Ok((answer.room_id, answer.servers))
    }

    /// Asks a user's server for its profile, or for one field of it.
    ///
    /// # Errors
    /// 404 `M_NOT_FOUND` of that server; 502 if it does not answer.
    pub async fn query_profile(&self, user: &UserId, field: Option<&str>) -> Answer<Map<String, Value>> {
        let mut request = profile::Request::new(user.to_owned());
        request.field = field.map(Into::into);
        let answer = self.client().request(user.server_name(), request, Class::Control, TIME_LIMIT).await?;
        Ok(answer.into_iter().filter(|(name, _)| field.is_none_or(|field| field == name)).collect())
    }

    /// The public rooms of another server.
    ///
    /// # Errors
    /// That server's refusal; 502 if it does not answer.
    pub async fn public_rooms(
        &self,
        server: &ServerName,
        request: public_rooms::Request,
    ) -> Answer<public_rooms::Response> {
        Ok(self.client().request(server, request, Class::Control, TIME_LIMIT).await?)
    }
}
