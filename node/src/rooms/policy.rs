//! Events of ours that the room's policy server has to sign before they go anywhere.
//!
//! Server-server specification, "Policy Servers". The server is asked while the room goes on: an event that was made before
//! others came follows what its sender saw.

use std::sync::Arc;

use futures::future::BoxFuture;
use kith_room::{CreateError, Event, policy::with_signature};
use ruma::{OwnedEventId, OwnedServerName};

use super::{
    Draft,
    room::{Room, Taking, loaded, refusal, timestamp},
    source::Past,
};
use crate::http::{Answer, MatrixError};

/// Asks policy servers.
pub trait PolicyServers: Send + Sync {
    /// The signature of a server for an event, in Base64.
    ///
    /// The error is the server's refusal in its own words, or 502 if it gives no answer.
    fn sign(&self, server: OwnedServerName, event: Arc<Event>) -> BoxFuture<'static, Answer<String>>;
}

impl Room {
    /// Makes an event of a local user that is not stored yet. If the room has a policy server, it has signed it.
    ///
    /// # Errors
    /// As [`Room::send`]; the refusal of the policy server, or 502 if it cannot be reached.
    pub async fn make(&self, draft: Draft) -> Answer<Arc<Event>> {
        let unsigned = {
            let mut guard = self.head().await?;
            let head = loaded(&mut guard)?;
            self.check_whole(head, &draft)?;
            let snapshot = self.parts.store.snapshot()?;
            let now = draft.timestamp.unwrap_or_else(|| self.parts.clock.now_ms());
            let builder = draft.builder(Some(self.id().to_owned()))?;
            let past = Past::new(self.number(), self.rules(), &head.recent, &snapshot);
            let draw = self.parts.draw();
            match head.at.engine.create_local(builder, timestamp(now), draw, self.signer(), &past) {
                Ok(verdict) => return Ok(verdict.event),
                Err(CreateError::Unsigned { event, server }) => (event, server),
                Err(error) => return Err(refusal(error)),
            }
        };
        self.ask_for_signature(unsigned.0, unsigned.1).await
    }

    /// The event with the signature of the room's policy server, if it lacks that; else as it is.
    ///
    /// # Errors
    /// As [`Room::make`].
    pub async fn with_policy_signature(&self, event: Arc<Event>) -> Answer<Arc<Event>> {
        let server = self
            .with_engine(|engine, past| engine.lacks_signature_of(&event, past).map_err(MatrixError::internal))
            .await?;
        match server {
            Some(server) => self.ask_for_signature(event, server).await,
            None => Ok(event),
        }
    }

    async fn ask_for_signature(&self, event: Arc<Event>, server: OwnedServerName) -> Answer<Arc<Event>> {
        let asking = self.parts.policy_servers.get();
        let asking = asking.ok_or_else(|| MatrixError::unreachable("this node cannot ask policy servers"))?;
        let signature = asking.sign(server.clone(), event.clone()).await?;
        let signed = with_signature(&event, self.rules(), &server, &signature)
            .map_err(|error| MatrixError::too_large(format!("with the policy server's signature: {error}")))?;
        let signed = Arc::new(signed);
        // Signed with another key than the room knows, it would be thrown away by everybody.
        let lacks =
            self.with_engine(|engine, past| engine.lacks_signature_of(&signed, past).map_err(MatrixError::internal));
        match lacks.await? {
            None => Ok(signed),
            Some(_) => Err(MatrixError::unreachable(format!(
                "{server}, the room's policy server, signs with another key than the one that the room names"
            ))),
        }
    }

    /// Sends events of local users into a room with a policy server: one after the other, each once it is signed.
    pub(super) async fn send_signed(&self, drafts: Vec<Draft>) -> Answer<Vec<OwnedEventId>> {
        let mut ids = Vec::with_capacity(drafts.len());
        for mut draft in drafts {
            let transaction = draft.transaction.take();
            let event = self.make(draft).await?;
            ids.push(event.event_id().to_owned());
            self.take_own("", event, Taking::ForOthers { transaction }).await?;
        }
        Ok(ids)
    }
}
