//! What a run leaves: the digest of all that happened, counters, and the rows of the tables.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher as _};
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::engine::{Nanos, Timeline};
use crate::errands::Errands;
use crate::network::Passed;

/// Broken invariants kept with their words; of more, the number.
const MOST_BREACHES: usize = 1_000;

/// Collects what happens. Clones are the same.
#[derive(Clone)]
pub struct Record {
    timeline: Timeline,
    state: Arc<Mutex<State>>,
}

/// Everything collected.
#[derive(Default)]
pub struct State {
    digest: Sha256,
    trace: Option<Box<dyn Write + Send>>,
    /// How often what occurred.
    pub counters: BTreeMap<String, u64>,
    /// Event IDs by their number in the other tables.
    pub events: Vec<EventInfo>,
    numbers: BTreeMap<String, u32>,
    /// Which event was shown where, and when, in order.
    pub deliveries: Vec<Delivery>,
    /// What clients were told is sent.
    pub acknowledged: Vec<Acknowledged>,
    /// `(second, from, to)` to requests, answers and bytes.
    pub links: BTreeMap<(u64, u32, u32), Traffic>,
    /// What went wrong on purpose.
    pub faults: Vec<FaultRow>,
    /// What should not have happened.
    pub breaches: Vec<Breach>,
    /// The greatest that was seen of what a node holds.
    pub most: crate::bounds::Most,
    /// Extremities and the like, now and then.
    pub samples: Vec<Sample>,
    /// Before which event, by its number, which node had to resolve states.
    pub resolutions: Vec<(u32, Resolution)>,
    /// What users did beside talking.
    pub errands: Errands,
    /// Events before which it was looked which branches their resolution took.
    explained: BTreeSet<String>,
    /// Hashes of the events that came to each node in transactions.
    pushed: BTreeMap<u32, BTreeSet<u64>>,
}

/// An event.
#[derive(Debug, Clone)]
pub struct EventInfo {
    /// Its ID.
    pub id: String,
    /// The room, counted from 0.
    pub room: u32,
    /// The node that made it, if a client of this simulation asked for it.
    pub origin: Option<u32>,
    /// When it was asked for, or first seen.
    pub begun: Nanos,
}

/// An event was shown on a node.
#[derive(Debug, Clone, Copy)]
pub struct Delivery {
    /// Number of the event.
    pub event: u32,
    /// The node.
    pub node: u32,
    /// When.
    pub at: Nanos,
}

/// A client was told that its event is sent.
#[derive(Debug, Clone, Copy)]
pub struct Acknowledged {
    /// Number of the event.
    pub event: u32,
    /// The client's node.
    pub node: u32,
    /// When.
    pub at: Nanos,
}

/// What passed one way of a link in a second.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traffic {
    /// Requests.
    pub requests: u64,
    /// Answers.
    pub answers: u64,
    /// What was lost.
    pub lost: u64,
    /// Bytes that arrived.
    pub bytes: u64,
    /// Events that arrived in transactions.
    pub pdus: u64,
    /// Those among them that the node had been sent before, by anybody.
    pub repeated: u64,
}

/// The body of a transaction, as far as it is looked at.
#[derive(serde::Deserialize)]
struct Pushed<'a> {
    #[serde(borrow, default)]
    pdus: Vec<&'a serde_json::value::RawValue>,
}

/// A node had to resolve several states into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolution {
    /// When it was seen.
    pub at: Nanos,
    /// The node.
    pub node: u32,
    /// The room, counted from 0.
    pub room: u32,
    /// How many events the event follows.
    pub follows: usize,
    /// How many different states these left.
    pub states: usize,
    /// Keys that are not the same in all of them.
    pub conflicts: usize,
}

/// Something that went wrong on purpose.
#[derive(Debug, Clone)]
pub struct FaultRow {
    /// When.
    pub at: Nanos,
    /// Its kind.
    pub kind: &'static str,
    /// The node, if it is about one.
    pub node: Option<u32>,
    /// Whether it begins or ends.
    pub begins: bool,
}

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Breach {
    /// Its name.
    pub invariant: &'static str,
    /// When it showed.
    pub at: Nanos,
    /// The node.
    pub node: Option<u32>,
    /// What is wrong.
    pub what: String,
}

/// A look at a node.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When.
    pub at: Nanos,
    /// The node.
    pub node: u32,
    /// The room, counted from 0.
    pub room: u32,
    /// Forward extremities.
    pub extremities: u64,
    /// Events that wait for others.
    pub parked: u64,
}

impl Record {
    /// An empty record; with a trace, each line of what is digested is written there, too.
    pub fn new(timeline: Timeline, trace: Option<Box<dyn Write + Send>>) -> Self {
        Self { timeline, state: Arc::new(Mutex::new(State { trace, ..State::default() })) }
    }

    /// What is collected by now.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The digest of all that happened by now, in hex.
    pub fn digest(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.lock().digest.clone().finalize())
    }

    /// Writes out what the trace has by now.
    pub fn flush_trace(&self) {
        // A trace that cannot be written must not change the run.
        let _ = self.lock().trace.as_mut().map_or(Ok(()), Write::flush);
    }

    /// Something happened that must be the same in each run.
    pub fn note(&self, line: &str) {
        let now = self.timeline.now();
        self.lock().note(now, line);
    }

    /// Counts something.
    pub fn count(&self, what: &str) {
        self.lock().count(what, 1);
    }

    /// Something was carried, or lost.
    pub fn passed(&self, from: u32, to: u32, passed: Passed<'_>, bytes: usize) {
        let now = self.timeline.now();
        let mut state = self.lock();
        let (pdus, repeated) = match passed {
            Passed::Request { method: "PUT", path, body } if path.starts_with("/_matrix/federation/v1/send/") => {
                state.pushed(to, body)
            }
            _ => (0, 0),
        };
        let traffic = state.links.entry((now / 1_000_000_000, from, to)).or_default();
        traffic.pdus += pdus;
        traffic.repeated += repeated;
        match passed {
            Passed::Request { .. } => traffic.requests += 1,
            Passed::Answer { .. } => traffic.answers += 1,
            Passed::Lost => traffic.lost += 1,
            Passed::More => {}
        }
        if passed != Passed::Lost {
            traffic.bytes += bytes as u64;
        }
        match passed {
            Passed::Request { method, path, .. } => {
                state.count("requests", 1);
                state.note(now, &format!("{from}>{to} {method} {path} {bytes}"));
            }
            Passed::Answer { status } => state.note(now, &format!("{from}>{to} {status} {bytes}")),
            Passed::More => state.note(now, &format!("{from}>{to} more {bytes}")),
            Passed::Lost => {
                state.count("lost", 1);
                state.note(now, &format!("{from}>{to} lost {bytes}"));
            }
        }
    }

    /// A fault begins or ends.
    pub fn fault(&self, kind: &'static str, node: Option<u32>, begins: bool) {
        let at = self.timeline.now();
        let mut state = self.lock();
        if begins {
            state.count(kind, 1);
        }
        state.note(at, &format!("fault {kind} {node:?} {begins}"));
        state.faults.push(FaultRow { at, kind, node, begins });
    }

    /// An invariant does not hold.
    pub fn breach(&self, invariant: &'static str, node: Option<u32>, what: String) {
        let at = self.timeline.now();
        let mut state = self.lock();
        state.count(&format!("breach_{invariant}"), 1);
        state.note(at, &format!("breach {invariant} {node:?} {what}"));
        if state.breaches.len() < MOST_BREACHES {
            state.breaches.push(Breach { invariant, at, node, what });
        }
    }

    /// An event came to be shown on a node. True if nobody had it before.
    pub fn delivered(&self, event_id: &str, room: u32, node: u32) -> bool {
        let at = self.timeline.now();
        let mut state = self.lock();
        let (event, new) = state.event(event_id, room, at);
        state.deliveries.push(Delivery { event, node, at });
        state.note(at, &format!("{node} shows {event_id}"));
        new
    }

    /// A node had to resolve states before an event that it has shown.
    pub fn resolved(&self, event_id: &str, resolution: Resolution) {
        let mut state = self.lock();
        state.count("resolutions", 1);
        let Resolution { at, node, room, follows, states, conflicts } = resolution;
        let (event, _) = state.event(event_id, room, at);
        state.note(
            at,
            &format!("{node} resolved {states} states of {follows} events, {conflicts} conflicts, for {event_id}"),
        );
        state.resolutions.push((event, resolution));
    }

    /// Whether nobody looked yet which branches the resolution before an event took. From now on somebody did.
    pub fn is_new_resolution(&self, event_id: &str) -> bool {
        self.lock().explained.insert(event_id.to_owned())
    }

    /// A client was told that its event is sent; it asked for it at `asked`.
    pub fn acknowledged(&self, event_id: &str, room: u32, node: u32, asked: Nanos) {
        let at = self.timeline.now();
        let mut state = self.lock();
        let (event, _) = state.event(event_id, room, at);
        if let Some(info) = state.events.get_mut(event as usize) {
            info.origin = Some(node);
            info.begun = asked;
        }
        state.acknowledged.push(Acknowledged { event, node, at });
        state.note(at, &format!("{node} acknowledges {event_id}"));
    }
}

impl State {
    fn note(&mut self, at: Nanos, line: &str) {
        let line = format!("{at} {line}\n");
        self.digest.update(line.as_bytes());
        if let Some(trace) = &mut self.trace {
            // A trace that cannot be written must not change the run.
            let _ = trace.write_all(line.as_bytes());
        }
    }

    /// A transaction reached a node: how many events are in it, and how many of them had come in one before. The text is compared:
    /// whoever passes an event on sends it as it was.
    fn pushed(&mut self, node: u32, body: &[u8]) -> (u64, u64) {
        let Ok(Pushed { pdus }) = serde_json::from_slice(body) else { return (0, 0) };
        let known = self.pushed.entry(node).or_default();
        let mut repeated = 0;
        for pdu in &pdus {
            repeated += u64::from(!known.insert(hash(pdu.get())));
        }
        (pdus.len() as u64, repeated)
    }

    /// So much was held by a node.
    pub fn held(&mut self, held: crate::bounds::Most) {
        let most = &mut self.most;
        most.queued = most.queued.max(held.queued);
        most.parked = most.parked.max(held.parked);
        most.waiting = most.waiting.max(held.waiting);
        most.tasks = most.tasks.max(held.tasks);
        most.requests = most.requests.max(held.requests);
    }

    /// Whether an event came to a node in a transaction, with this text.
    pub fn was_pushed(&self, node: u32, text: &str) -> bool {
        self.pushed.get(&node).is_some_and(|known| known.contains(&hash(text)))
    }

    /// Counts something.
    pub fn count(&mut self, what: &str, many: u64) {
        match self.counters.get_mut(what) {
            Some(count) => *count += many,
            None => drop(self.counters.insert(what.to_owned(), many)),
        }
    }

    fn event(&mut self, id: &str, room: u32, at: Nanos) -> (u32, bool) {
        if let Some(number) = self.numbers.get(id) {
            return (*number, false);
        }
        let number = u32::try_from(self.events.len()).unwrap_or(u32::MAX);
        self.events.push(EventInfo { id: id.to_owned(), room, origin: None, begun: at });
        self.numbers.insert(id.to_owned(), number);
        (number, true)
    }

    /// The number of an event that was seen.
    pub fn number_of(&self, id: &str) -> Option<u32> {
        self.numbers.get(id).copied()
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    hasher.finish()
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").finish_non_exhaustive()
    }
}
