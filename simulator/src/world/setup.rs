//! Before anything goes wrong: the nodes start, each gets its user, and the rooms get their first members.

use std::collections::BTreeSet;

use futures::FutureExt as _;
use futures::channel::oneshot;
use kith::accounts::{devices, users};
use kith::platform::Spawner as _;
use serde_json::{Map, Value, json};

use super::{World, WorldError};
use crate::engine::seconds;
use crate::scenario::{Room, Scenario};
use crate::topology::Edges;

/// How often a join is tried.
const TRIES: u32 = 5;

/// For each room the nodes that are in it from the beginning, in the order in which they join: its maker, and those nearest to
/// it, so that each has a neighbour that is in before it. Of equally near ones those with the next numbers, round the circle.
pub(super) fn first_members(scenario: &Scenario, edges: &Edges) -> Vec<Vec<u32>> {
    let count = scenario.nodes.count;
    let mut neighbours = vec![Vec::new(); count as usize];
    for (a, b) in edges {
        for (from, to) in [(*a, *b), (*b, *a)] {
            if let Some(list) = neighbours.get_mut(from as usize) {
                list.push(to);
            }
        }
    }
    let nearest = |room: &Room| {
        let wanted = room.members.unwrap_or(count) as usize;
        let mut found = vec![room.maker];
        let mut seen = BTreeSet::from([room.maker]);
        let mut ring = 0..1;
        while found.len() < wanted && !ring.is_empty() {
            let around = found.get(ring.clone()).unwrap_or_default().iter();
            let around = around.flat_map(|node| neighbours.get(*node as usize).into_iter().flatten());
            let mut next: Vec<u32> = around.copied().filter(|node| seen.insert(*node)).collect();
            next.sort_unstable_by_key(|node| (*node + count - room.maker) % count);
            ring = found.len()..found.len() + next.len();
            found.extend(next);
        }
        found.truncate(wanted);
        found
    };
    scenario.rooms.iter().map(nearest).collect()
}

impl World {
    /// Starts all nodes, makes the users and the rooms, and lets the first members join.
    ///
    /// # Errors
    /// Anything that fails: nothing goes wrong on purpose yet.
    pub async fn set_up(&self) -> Result<(), WorldError> {
        for node in self.numbers() {
            self.start(node).await?;
            self.sign_in(node).await?;
        }
        for room in 0..self.scenario().rooms.len() as u32 {
            self.make_room(room).await?;
            // One after the other: joins at one time follow the same events, and each node would have to fetch the others.
            for node in self.first_members(room).iter().skip(1) {
                self.first_join(*node, room).await?;
            }
        }
        // What the joins made is told to all before anything begins.
        self.timeline().sleep(seconds(30.0)).await;
        Ok(())
    }

    async fn first_join(&self, node: u32, room: u32) -> Result<(), WorldError> {
        let mut failure = None;
        for _ in 0..TRIES {
            match self.join(node, room).await {
                Ok(()) => return Ok(()),
                Err(error) => failure = Some(error),
            }
            self.timeline().sleep(seconds(2.0)).await;
        }
        Err(WorldError(format!("node {node} cannot join room {room}: {failure:?}")))
    }

    /// Makes the user of a node, without a password, and signs a device in.
    async fn sign_in(&self, number: u32) -> Result<(), WorldError> {
        let failed = |what: &dyn std::fmt::Display| WorldError(format!("node {number} has no user: {what}"));
        let node = self.node(number).ok_or_else(|| failed(&"it is off"))?;
        let spawner = self.spawner_of(number).ok_or_else(|| failed(&"it is off"))?;
        let (give, take) = oneshot::channel();
        let task = async move {
            let made = async {
                let user = users::create(&node, &format!("u{number}"), None, false).await?;
                let device = devices::NewDevice { device_id: Some("SIM".into()), ..Default::default() };
                devices::sign_in(&node, &user, device).await
            };
            let _ = give.send(made.await.map(|(_, tokens)| tokens.access));
        };
        spawner.spawn("sign in", task.boxed());
        let token = take.await.map_err(|_| failed(&"it crashed"))?.map_err(|error| failed(&error.message))?;
        if let Some(mut machine) = self.machine(number) {
            machine.token = token;
        }
        Ok(())
    }

    async fn make_room(&self, room: u32) -> Result<(), WorldError> {
        let Some(wanted) = self.scenario().rooms.get(room as usize).cloned() else { return Ok(()) };
        let creators_rule = ruma::RoomVersionId::try_from(wanted.room_version.as_str())
            .ok()
            .and_then(|version| kith_room::format::rules(&version))
            .is_some_and(|rules| rules.authorization.explicitly_privilege_room_creators);
        let maker = wanted.maker;
        let users: Map<String, Value> = self
            .moderators(room)
            .into_iter()
            // Where creators are above all levels, they stand in no list.
            .filter(|node| *node != maker || !creators_rule)
            .map(|node| (self.user(node), Value::from(wanted.moderator_level)))
            .collect();
        let body = json!({
            "preset": "public_chat",
            "room_version": wanted.room_version,
            "power_level_content_override": {"users": users},
        });
        let made = self.call(maker, "POST", "/_matrix/client/v3/createRoom", Some(body)).await;
        let made = made.map_err(|failure| WorldError(format!("room {room} cannot be made: {failure:?}")))?;
        let id = made["room_id"].as_str().unwrap_or_default().to_owned();
        super::lock(&self.0.rooms).push(id);
        self.set_member(room, maker, true);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::parse;

    fn members(topology: &str, room: &str) -> Vec<u32> {
        let text = format!(
            "version = 1\nname = \"x\"\nduration_s = 1\n[nodes]\ncount = 6\n[topology]\nkind = \"{topology}\"\n[[rooms]]\n{room}"
        );
        let scenario = parse(&text).unwrap();
        let edges = crate::topology::edges(&scenario.topology, 6, &crate::engine::Stream::new(1, "topology", 0, 0));
        first_members(&scenario, &edges).remove(0)
    }

    #[test]
    fn rooms_have_the_nodes_nearest_to_their_maker_each_behind_a_neighbour() {
        assert_eq!(members("full_mesh", "moderators = 1"), [0, 1, 2, 3, 4, 5]);
        assert_eq!(members("full_mesh", "maker = 4\nmembers = 4\nmoderators = 1"), [4, 5, 0, 1]);
        assert_eq!(members("line", "maker = 2\nmembers = 5\nmoderators = 1"), [2, 3, 1, 4, 0]);
        assert_eq!(members("star", "maker = 3\nmembers = 3\nmoderators = 1"), [3, 0, 4]);
        assert_eq!(members("ring", "maker = 5\nmembers = 1\nmoderators = 1"), [5]);
    }
}
