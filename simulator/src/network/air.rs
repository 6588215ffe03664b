//! [`Air`]: which links there are between the nodes, and who believes so.
//!
//! Two neighbours have a link while both run, nothing lies between them (partition, isolation), and it is not off (it comes and
//! goes, or they are out of range). A node hears of a new link at once, of one that is gone after the time it takes to notice.
//!
//! Behind address translation it matters who begins. A node that comes dials those that can be dialled, and has its links at once.
//! Whom nobody can dial must dial itself: it looks for the others as often as it takes to notice that they are gone, and so does a
//! pair that has to punch through. Such a link is there that much later. Whoever introduces two that punch is not modelled.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kith::platform::Spawner;
use kith_transport::{NetworkEvent, Router, ServerKey};
use tokio::sync::broadcast;

use super::carry::OnArrival;
use super::flows::{Flows, Foreseen, Looked};
use super::{Port, conditions};
use crate::engine::{Nanos, Stream, Timeline, millis};
use crate::scenario::{NatKind, Network};
use crate::topology::Edges;

/// What was carried, or was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed<'a> {
    /// A request arrived.
    Request {
        /// Its method.
        method: &'a str,
        /// Its path, with the query.
        path: &'a str,
        /// Its body.
        body: &'a [u8],
    },
    /// An answer arrived.
    Answer {
        /// Its status.
        status: u16,
    },
    /// More of an answer's body arrived.
    More,
    /// A request, an answer or a part of one was lost.
    Lost,
}

/// Sees all that is carried: sender, receiver, what, and its bytes.
pub type Observer = Arc<dyn Fn(u32, u32, Passed<'_>, usize) + Send + Sync>;

/// The space between the nodes. Clones are the same.
#[derive(Clone)]
pub struct Air(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) timeline: Timeline,
    pub(super) observer: Observer,
    pub(super) network: Network,
    pub(super) seed: u64,
    state: Mutex<State>,
}

pub(super) struct State {
    numbers: BTreeMap<ServerKey, u32>,
    pub(super) nodes: Vec<Node>,
    /// Links that are off just now.
    off: BTreeSet<(u32, u32)>,
    pub(super) flows: Flows,
    /// What goes on when a flow has ended.
    pub(super) waiting: BTreeMap<u64, Box<dyn FnOnce() + Send>>,
    /// Everything is as if nothing could go wrong.
    pub(super) calm: bool,
}

pub(super) struct Node {
    pub(super) key: ServerKey,
    pub(super) here: Option<Here>,
    runs: u64,
    neighbours: BTreeMap<u32, Edge>,
    group: u32,
    isolated: bool,
    /// Its address translation.
    nat: Option<NatKind>,
    /// Its requests that are not answered.
    pub(super) under_way: u64,
    /// For what happens to what this node sends.
    pub(super) random: Stream,
}

/// A node that runs.
#[derive(Clone)]
pub(super) struct Here {
    pub(super) run: u64,
    pub(super) router: Router,
    pub(super) spawner: Arc<dyn Spawner>,
    events: broadcast::Sender<NetworkEvent>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Edge {
    up: bool,
    /// Whether this end believes so.
    told: bool,
}

impl Air {
    /// The air between nodes with these keys. Neighbours whose address translation lets them never meet are none.
    pub fn new(
        timeline: Timeline,
        network: &Network,
        keys: &[ServerKey],
        edges: &Edges,
        seed: u64,
        observer: Observer,
    ) -> Self {
        let numbers = keys.iter().copied().zip(0..).collect();
        let nats = conditions::nats(&network.nat, keys.len() as u32, seed);
        let node = |(key, number): (&ServerKey, u64)| Node {
            key: *key,
            here: None,
            runs: 0,
            neighbours: BTreeMap::new(),
            group: 0,
            isolated: false,
            nat: nats.get(number as usize).copied().flatten(),
            under_way: 0,
            random: Stream::new(seed, "air", number, 0),
        };
        let mut nodes: Vec<Node> = keys.iter().zip(0..).map(node).collect();
        for (a, b) in edges {
            for (from, to) in [(*a, *b), (*b, *a)] {
                if let Some(node) = nodes.get_mut(from as usize) {
                    node.neighbours.insert(to, Edge::default());
                }
            }
        }
        let flows = Flows::new(network.up_kbit, network.down_kbit);
        let state = State { numbers, nodes, off: BTreeSet::new(), flows, waiting: BTreeMap::new(), calm: true };
        let inner = Inner { timeline, observer, network: network.clone(), seed, state: Mutex::new(state) };
        Self(Arc::new(inner))
    }

    /// The edges of a topology that address translation leaves.
    pub fn possible(network: &Network, edges: &Edges, count: u32, seed: u64) -> Edges {
        let nats = conditions::nats(&network.nat, count, seed);
        let nat = |node: u32| nats.get(node as usize).copied().flatten();
        edges.iter().copied().filter(|(a, b)| conditions::can_connect(nat(*a), nat(*b))).collect()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node comes.
    pub fn join(&self, key: ServerKey, router: Router, spawner: Arc<dyn Spawner>) -> Option<Arc<Port>> {
        let mut state = self.lock();
        let number = state.number(key)?;
        self.depart(&mut state, number);
        let degree = state.node(number)?.neighbours.len();
        // The buffer is made whole at once, for each node. Whoever lags behind compares heads.
        let (events, _) = broadcast::channel((4 * degree + 16).clamp(64, 256));
        let node = state.nodes.get_mut(number as usize)?;
        node.runs += 1;
        let run = node.runs;
        node.here = Some(Here { run, router, spawner, events: events.clone() });
        // Who believes in a connection to its earlier run learns that it is another one now.
        for peer in state.neighbours(number) {
            if let Some(edge) = state.edge(peer, number)
                && std::mem::take(&mut edge.told)
            {
                state.tell(peer, NetworkEvent::Disconnected { peer: key });
            }
        }
        self.refresh_node(&mut state, number);
        drop(state);
        Some(Arc::new(Port::new(self.clone(), key, number, run, events)))
    }

    /// A node is gone, as when its power is lost.
    pub fn leave(&self, number: u32) {
        self.depart(&mut self.lock(), number);
    }

    fn depart(&self, state: &mut State, number: u32) {
        let Some(node) = state.nodes.get_mut(number as usize) else { return };
        if node.here.take().is_none() {
            return;
        }
        node.neighbours.values_mut().for_each(|edge| edge.told = false);
        self.refresh_node(state, number);
    }

    /// Whether requests of a run of a node are still carried.
    pub(super) fn runs(&self, number: u32, run: u64) -> bool {
        self.lock().runs(number, run)
    }

    /// Puts the nodes into groups that do not hear each other.
    pub fn partition(&self, groups: &[u32]) {
        let mut state = self.lock();
        for (node, group) in state.nodes.iter_mut().zip(groups) {
            node.group = *group;
        }
        self.refresh_all(&mut state);
    }

    /// Cuts a node off, or ends that.
    pub fn isolate(&self, number: u32, isolated: bool) {
        let mut state = self.lock();
        if let Some(node) = state.nodes.get_mut(number as usize) {
            node.isolated = isolated;
        }
        self.refresh_node(&mut state, number);
    }

    /// Switches the link between two neighbours off, or on.
    pub fn switch(&self, pair: (u32, u32), on: bool) {
        let mut state = self.lock();
        let changed = if on { state.off.remove(&pair) } else { state.off.insert(pair) };
        if changed {
            self.refresh(&mut state, pair.0, pair.1, None);
        }
    }

    /// Switches all links on.
    pub fn switch_all_on(&self) {
        let mut state = self.lock();
        state.off.clear();
        self.refresh_all(&mut state);
    }

    /// Sets whether requests and answers may be lost and jittered: not while the nodes are set up, nor in the end.
    pub fn calm(&self, calm: bool) {
        self.lock().calm = calm;
    }

    /// Pairs of neighbours, the lower number first.
    pub fn pairs(&self) -> Vec<(u32, u32)> {
        let state = self.lock();
        let of = |(node, number): (&Node, u32)| {
            let higher: Vec<_> =
                node.neighbours.keys().filter(|peer| **peer > number).map(|peer| (number, *peer)).collect();
            higher
        };
        state.nodes.iter().zip(0..).flat_map(of).collect()
    }

    /// The number of the node with a key.
    pub fn number_of(&self, key: ServerKey) -> Option<u32> {
        self.lock().number(key)
    }

    /// How many requests of a node are not answered.
    pub fn under_way(&self, number: u32) -> u64 {
        self.lock().node(number).map_or(0, |node| node.under_way)
    }

    /// Whether there is a link now.
    pub fn linked(&self, a: u32, b: u32) -> bool {
        self.lock().linked(a, b)
    }

    fn refresh_node(&self, state: &mut State, number: u32) {
        for peer in state.neighbours(number) {
            self.refresh(state, number, peer, Some(number));
        }
    }

    fn refresh_all(&self, state: &mut State) {
        for number in 0..state.nodes.len() as u32 {
            for peer in state.neighbours(number).into_iter().filter(|peer| *peer > number) {
                self.refresh(state, number, peer, None);
            }
        }
    }

    /// Sees whether a link came or went, as `by` did.
    fn refresh(&self, state: &mut State, a: u32, b: u32, by: Option<u32>) {
        let up = state.possible(a, b);
        if up && !state.linked(a, b) && !state.at_once(a, b, by) {
            let air = self.clone();
            self.0.timeline.after(self.notice(), move || {
                let mut state = air.lock();
                if state.possible(a, b) {
                    air.set(&mut state, a, b, true);
                }
            });
            return;
        }
        self.set(state, a, b, up);
    }

    fn set(&self, state: &mut State, a: u32, b: u32, up: bool) {
        let Some(edge) = state.edge(a, b) else { return };
        let was = std::mem::replace(&mut edge.up, up);
        if let Some(other) = state.edge(b, a) {
            other.up = up;
        }
        if up {
            state.announce(a, b);
            state.announce(b, a);
        } else if was {
            let air = self.clone();
            self.0.timeline.after(self.notice(), move || {
                let mut state = air.lock();
                state.notice(a, b);
                state.notice(b, a);
            });
        }
    }

    /// How long it takes to notice that a link is gone.
    pub(super) fn notice(&self) -> Nanos {
        millis(self.0.network.notice_ms)
    }

    /// Begins to carry so many bytes; `arrival` is told whether they came, as soon as that shows.
    pub(super) fn carry(&self, from: u32, to: u32, bytes: usize, arrival: OnArrival) {
        super::carry::begin(self, from, to, bytes, arrival);
    }

    /// Shares bandwidth out when all that begins and ends at this moment has.
    pub(super) fn share(&self) {
        let air = self.clone();
        self.0.timeline.after(0, move || {
            let now = air.0.timeline.now();
            let foreseen = air.lock().flows.share(now);
            foreseen.into_iter().for_each(|end| air.foresee(end));
        });
    }

    fn foresee(&self, end: Foreseen) {
        let air = self.clone();
        self.0.timeline.at(end.at, move || {
            let (due, looked, next) = {
                let mut state = air.lock();
                let due = state.flows.is_due();
                let looked = state.flows.end(end);
                let next = if looked == Looked::Ended { state.waiting.remove(&end.flow) } else { None };
                (due, looked, next)
            };
            match looked {
                Looked::Void => {}
                Looked::Later(end) => air.foresee(end),
                Looked::Ended if !due => air.share(),
                Looked::Ended => {}
            }
            if let Some(next) = next {
                next();
            }
        });
    }
}

impl State {
    pub(super) fn number(&self, key: ServerKey) -> Option<u32> {
        self.numbers.get(&key).copied()
    }

    pub(super) fn node(&self, number: u32) -> Option<&Node> {
        self.nodes.get(number as usize)
    }

    pub(super) fn runs(&self, number: u32, run: u64) -> bool {
        self.node(number).and_then(|node| node.here.as_ref()).is_some_and(|here| here.run == run)
    }

    fn neighbours(&self, number: u32) -> Vec<u32> {
        self.node(number).map(|node| node.neighbours.keys().copied().collect()).unwrap_or_default()
    }

    fn edge(&mut self, at: u32, peer: u32) -> Option<&mut Edge> {
        self.nodes.get_mut(at as usize)?.neighbours.get_mut(&peer)
    }

    pub(super) fn linked(&self, a: u32, b: u32) -> bool {
        self.node(a).and_then(|node| node.neighbours.get(&b)).is_some_and(|edge| edge.up)
    }

    /// Whether `at` believes that it has a link to `peer`.
    pub(super) fn believes(&self, at: u32, peer: u32) -> bool {
        self.node(at).and_then(|node| node.neighbours.get(&peer)).is_some_and(|edge| edge.told)
    }

    /// The keys of those whom `at` believes to be linked to.
    pub(super) fn believed(&self, at: u32) -> Vec<ServerKey> {
        let Some(node) = self.node(at) else { return Vec::new() };
        let linked = node.neighbours.iter().filter(|(_, edge)| edge.told);
        linked.filter_map(|(peer, _)| self.node(*peer).map(|peer| peer.key)).collect()
    }

    fn possible(&self, a: u32, b: u32) -> bool {
        let (Some(one), Some(other)) = (self.node(a), self.node(b)) else { return false };
        one.here.is_some()
            && other.here.is_some()
            && one.group == other.group
            && !one.isolated
            && !other.isolated
            && !self.off.contains(&(a.min(b), a.max(b)))
    }

    /// Whether a link between two is there as soon as it can be: who comes dials, and of those that are both there either does.
    fn at_once(&self, a: u32, b: u32, by: Option<u32>) -> bool {
        let nat = |number: u32| self.node(number).and_then(|node| node.nat);
        let dials = |from: u32, to: u32| conditions::can_dial(nat(from), nat(to));
        match by {
            Some(by) if by == a => dials(a, b),
            Some(_) => dials(b, a),
            None => dials(a, b) && dials(b, a),
        }
    }

    /// Tells `at` of its link to `peer`, unless it knows.
    fn announce(&mut self, at: u32, peer: u32) {
        let Some(key) = self.node(peer).map(|node| node.key) else { return };
        let Some(edge) = self.edge(at, peer) else { return };
        if !std::mem::replace(&mut edge.told, true) {
            self.tell(at, NetworkEvent::Discovered { peer: key });
            self.tell(at, NetworkEvent::Connected { peer: key, direct: true });
        }
    }

    /// Tells `at` that its link to `peer` is gone, if it still is.
    fn notice(&mut self, at: u32, peer: u32) {
        let Some(key) = self.node(peer).map(|node| node.key) else { return };
        let Some(edge) = self.edge(at, peer) else { return };
        if !edge.up && std::mem::take(&mut edge.told) {
            self.tell(at, NetworkEvent::Disconnected { peer: key });
            self.tell(at, NetworkEvent::Lost { peer: key });
        }
    }

    fn tell(&self, number: u32, event: NetworkEvent) {
        if let Some(here) = self.node(number).and_then(|node| node.here.as_ref()) {
            // Fails only when nobody listens.
            let _ = here.events.send(event);
        }
    }
}

impl fmt::Debug for Air {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Air").field("nodes", &self.lock().nodes.len()).finish_non_exhaustive()
    }
}
