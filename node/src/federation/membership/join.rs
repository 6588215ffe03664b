//! Joining a room through another server. Server-server specification, "Joining Rooms".

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::FutureExt as _;
use kith_room::{Event, keys::may_share};
use kith_transport::Class;
use ruma::{
    OwnedServerName, RoomId, RoomVersionId, ServerName, UserId,
    api::federation::membership::{create_join_event::v2 as send_join, prepare_join_event::v1 as make_join},
};
use serde_json::{Map, Value};

use super::{Failures, STEP, WHOLE_ROOM, complete, known_versions, version_of};
use crate::{
    Node,
    federation::{Federation, FederationError, heads, keys, pdus, rules},
    http::{Answer, MatrixError},
    rooms::{
        Draft, Received, Room,
        partial::{self, PartialJoin},
    },
};

/// The waits before a join is tried again that was refused a moment after its invite came.
const AGAIN_AFTER: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(600), Duration::from_millis(1_800)];

/// Servers beside the one joined through that are asked what was said during a join.
const MOST_ASKED: usize = 3;

/// Servers of a room that are noted while its members are not known.
const MOST_SERVERS_IN_ROOM: usize = 20_000;

/// Why joining through one server failed.
enum Failure {
    /// What the server answers, or that it does not.
    Server(FederationError),
    /// Its answer is of no use.
    Answer(MatrixError),
    /// No server will do better.
    Final(MatrixError),
}

impl From<FederationError> for Failure {
    fn from(error: FederationError) -> Self {
        Self::Server(error)
    }
}

impl Federation {
    /// Joins a user of ours to a room, through the servers of `via`, the inviter's, and those known to be in it. `content` may
    /// hold `displayname`, `avatar_url`, `reason` and whatever else the member event is to carry. When this returns the
    /// user is in the room and its state is here. A room that everybody has left is entered by this node alone, when it was
    /// among the last to leave and none of the others is in the room again.
    ///
    /// # Errors
    /// The refusal of a server that was asked (`M_FORBIDDEN`, `M_UNABLE_TO_AUTHORISE_JOIN`, ...); 404 if no server is known; 502
    /// if none answers.
    pub async fn join(
        &self,
        user: &UserId,
        room_id: &RoomId,
        via: &[OwnedServerName],
        content: &Map<String, Value>,
    ) -> Answer<()> {
        let node = self.node()?;
        for wait in AGAIN_AFTER {
            match self.join_through_one(&node, user, room_id, via, content).await {
                Err(error) if error.is("M_FORBIDDEN") && self.invites.is_fresh(&*node.clock, room_id, user) => {
                    tracing::info!(%room_id, %error, "the invite may not be part of the room yet: trying again");
                    node.clock.sleep(wait).await;
                }
                result => return result,
            }
        }
        self.join_through_one(&node, user, room_id, via, content).await
    }

    /// Joins through the first server that can.
    async fn join_through_one(
        &self,
        node: &Arc<Node>,
        user: &UserId,
        room_id: &RoomId,
        via: &[OwnedServerName],
        content: &Map<String, Value>,
    ) -> Answer<()> {
        let mut failures = Failures::default();
        for server in self.servers_to_ask(node, user, room_id, via)? {
            if let Err(error) = rules::check_pair(&server, node.server_name()) {
                failures.somebody = true;
                failures.refusal.get_or_insert(error);
                continue;
            }
            match self.join_through(node, &server, user, room_id, content).await {
                Ok(()) => return Ok(()),
                Err(Failure::Server(error)) => {
                    let incompatible = error.errcode() == Some("M_INCOMPATIBLE_ROOM_VERSION");
                    failures.add(&server, error);
                    if incompatible {
                        break;
                    }
                }
                Err(Failure::Answer(error)) => failures.add_nonsense(&server, error),
                Err(Failure::Final(error)) => return Err(error),
            }
        }
        if !failures.somebody
            && let Some(room) = deserted(node, room_id)?
        {
            let content = content.clone().into_iter().chain([("membership".to_owned(), "join".into())]).collect();
            room.send(Draft::state(user.to_owned(), "m.room.member", user.as_str(), content)).await?;
            return Ok(());
        }
        Err(failures.answer("join that room"))
    }

    async fn join_through(
        &self,
        node: &Arc<Node>,
        server: &ServerName,
        user: &UserId,
        room_id: &RoomId,
        content: &Map<String, Value>,
    ) -> Result<(), Failure> {
        keys::fetch_ahead(node, server);
        let mut request = make_join::Request::new(room_id.to_owned(), user.to_owned());
        request.ver = known_versions();
        let proposal = self.client().request(server, request, Class::Control, STEP).await?;
        let version = version_of(proposal.room_version).map_err(Failure::Final)?;
        let join =
            complete(node, &proposal.event, &version, room_id, user, "join", content).map_err(Failure::Answer)?;
        let pdu = pdus::raw(join.text()).map_err(Failure::Answer)?;
        let mut request = send_join::Request::new(room_id.to_owned(), join.event_id().to_owned(), pdu);
        // Of a large room the members come later: it is of use without them.
        request.omit_members = true;
        // The answer may be lost; the same request again gets the same answer.
        let (answer, _place) = match self.client().request_large(server, request.clone(), WHOLE_ROOM).await {
            Err(FederationError::Transport(error)) if error.maybe_delivered() => {
                self.client().request_large(server, request, WHOLE_ROOM).await?
            }
            answer => answer?,
        };
        self.enter(node, server, room_id, &version, join, answer.room_state).await
    }

    /// The others see this node in the room as soon as one of them has let it in, and may have sent events before the room was
    /// here, which were refused then. Their heads tell of these.
    fn ask_what_was_said_meanwhile(&self, node: &Arc<Node>, server: &ServerName, room: &Room) {
        let (node, server, room) = (node.clone(), server.to_owned(), room.clone());
        let spawner = node.spawner.clone();
        let task = async move {
            let others = node.store.read(|read| crate::rooms::read::servers(read, room.number())).unwrap_or_default();
            let connected = heads::connected_keys(&node);
            let others = others
                .into_iter()
                .filter_map(|name| OwnedServerName::try_from(name).ok())
                .filter(|name| *name != server && heads::is_connected(&connected, name))
                .take(MOST_ASKED);
            for server in std::iter::once(server.clone()).chain(others) {
                if let Err(error) = heads::compare(&node, &server, &[room.number()]).await {
                    tracing::debug!(room = %room.id(), %server, %error, "what was said during the join is not asked for");
                }
            }
        };
        spawner.spawn("after a join", task.boxed());
    }

    /// Takes the room in as the other server gave it.
    async fn enter(
        &self,
        node: &Arc<Node>,
        server: &ServerName,
        room_id: &RoomId,
        version: &RoomVersionId,
        join: Event,
        answer: send_join::RoomState,
    ) -> Result<(), Failure> {
        let in_room = match node.rooms.get(room_id).map_err(Failure::Final)? {
            Some(room) => room.is_joined().map_err(Failure::Final)?,
            None => false,
        };
        let is_partial = answer.members_omitted && !in_room;
        let early = is_partial.then(|| self.ask_early(node, server, room_id, join.event_id())).flatten();
        // A restricted room's join comes back with the signature of the server that authorised it.
        let join = match &answer.event {
            Some(pdu) => {
                let event = pdus::check(node, pdu, version)
                    .await
                    .map_err(|error| Failure::Answer(MatrixError::unreachable(error.to_string())))?;
                if event.event_id() != join.event_id() {
                    let message = "the server answers with another event than the join it was sent";
                    return Err(Failure::Answer(MatrixError::unreachable(message)));
                }
                event
            }
            None => Arc::new(join),
        };
        let checked = |pdus| pdus::check_set(node, room_id, version, pdus);
        let both = futures::future::try_join(checked(answer.state), checked(answer.auth_chain));
        let (state, auth_chain) = both.await.map_err(Failure::Final)?;
        let partial = answer.members_omitted.then(|| without_members(node, server, answer.servers_in_room));
        let members: Vec<&ServerName> = state
            .iter()
            .filter(|event| event.content_str("membership") == Some("join"))
            .filter_map(|event| Some(event.member()?.server_name()))
            .chain(partial.iter().flat_map(|partial| partial.servers.iter().map(AsRef::as_ref)))
            .collect();
        if let Err(error) = may_share(members, node.server_name()) {
            // The other server should have refused. Nothing of the room is kept, and it is told that we are gone.
            let gone = self.leave_through(node, server, join.sender(), room_id, &Map::new()).await;
            tracing::warn!(%room_id, %error, left = gone.is_ok(), "a room is left at once");
            return Err(Failure::Final(rules::cannot_share(error)));
        }
        let room = node.rooms.get_or_new(room_id, version).map_err(Failure::Final)?;
        if !in_room && room.import_join(auth_chain, state, join.clone(), partial).await.map_err(Failure::Answer)? {
            if is_partial {
                self.complete_with(room_id, early);
            }
            self.ask_what_was_said_meanwhile(node, server, &room);
            return Ok(());
        }
        // Another user of ours is there already: the join is one more event of a room that is here.
        let results = room.receive(server.as_str(), vec![join]).await.map_err(Failure::Final)?;
        match results.into_iter().next() {
            Some((_, Received::Accepted | Received::Known)) => Ok(()),
            Some((_, Received::Parked { .. })) => {
                self.fetch_missing(room_id);
                self.missing_settled(room_id).await;
                Ok(())
            }
            Some((_, Received::Hidden(reason) | Received::Refused(reason))) => {
                Err(Failure::Final(MatrixError::forbidden(reason)))
            }
            None => Err(Failure::Final(MatrixError::internal("a received event has no result"))),
        }
    }
}

/// A room whose last members this node saw leave, so that it has the room's whole state, and nobody could have come in since
/// but by a server that has it, too.
fn deserted(node: &Node, room_id: &RoomId) -> Answer<Option<Room>> {
    let Some(room) = node.rooms.get(room_id)? else { return Ok(None) };
    let deserted = node.store.read(|read| {
        let left = crate::rooms::read::room(read, room.number())?.is_some_and(|row| !row.joined && row.state != 0);
        let nobody = crate::rooms::read::servers(read, room.number())?.is_empty();
        Ok::<_, MatrixError>(left && nobody && !partial::is_partial(read, room.number())?)
    })?;
    Ok(deserted.then_some(room))
}

/// What a server that left the members out says of who is in the room. It is there itself, whatever it says.
fn without_members(node: &Node, through: &ServerName, servers: Option<Vec<String>>) -> PartialJoin {
    let servers: BTreeSet<OwnedServerName> = servers
        .into_iter()
        .flatten()
        .take(MOST_SERVERS_IN_ROOM)
        .filter_map(|name| OwnedServerName::try_from(name).ok())
        .chain([through.to_owned()])
        .filter(|name| name != node.server_name())
        .collect();
    PartialJoin { through: through.to_owned(), servers: servers.into_iter().collect() }
}
