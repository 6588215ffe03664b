//! Connections (MSC4186, "Connections"): what a client was told, so that it is told what is new.
//!
//! They are kept in memory only. A node that was started again answers `M_UNKNOWN_POS`, and the client begins anew; what must not be
//! lost (messages to the device) has a token of its own, and waits in the store until the client shows it.
//!
//! Of each connection two moments are known: the one that the client is known to have reached, as it asked from there, and the one
//! that it was told last. If it asks from the first again, the answer was lost: what it changed is dropped, and it is answered anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::required::Required;
use crate::{
    http::{Answer, MatrixError},
    platform::Rng,
};

/// Connections of one device.
const MOST_OF_A_DEVICE: usize = 10;
/// Connections in all, and the rooms that they know together.
const MOST: usize = 2_000;
const MOST_ROOMS: usize = 500_000;
/// A connection that is not used for so long is dropped.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

/// What is wanted of a room by all lists and subscriptions that it is in.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) timeline_limit: usize,
    pub(super) required: Vec<Arc<Required>>,
}

impl Wanted {
    /// Whether one of them requires the state event with this type and key.
    pub(super) fn requires(&self, kind: &str, key: &str) -> bool {
        self.required.iter().any(|required| required.wants(kind, key))
    }

    /// Whether the members that the timeline needs are wanted.
    pub(super) fn is_lazy(&self) -> bool {
        self.required.iter().any(|required| required.lazy)
    }

    /// Whether the same state is required.
    pub(super) fn same_state(&self, other: &Self) -> bool {
        self.required == other.required
    }
}

/// What the client knows of a room.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// Position up to which it was told.
    pub(super) position: u64,
    pub(super) membership: u8,
    /// Whether it was told as to one who is in the room.
    pub(super) saw_inside: bool,
    pub(super) wanted: Arc<Wanted>,
    /// How many of the latest events it has without a gap, and whether that is all that there are.
    pub(super) events: usize,
    pub(super) from_the_start: bool,
    /// Numbers of member events that it was told because it needed them.
    pub(super) members: BTreeSet<u64>,
    pub(super) unread: (u64, u64),
    pub(super) bump: u64,
    pub(super) is_dm: bool,
    /// Positions up to which it was told of receipts and of account data; 0: not yet.
    pub(super) receipts: u64,
    pub(super) account_data: u64,
}

impl Known {
    /// Nothing yet.
    pub(super) fn new(wanted: Arc<Wanted>) -> Self {
        Self {
            position: 0,
            membership: 0,
            saw_inside: false,
            wanted,
            events: 0,
            from_the_start: false,
            members: BTreeSet::new(),
            unread: (0, 0),
            bump: 0,
            is_dm: false,
            receipts: 0,
            account_data: 0,
        }
    }
}

/// What a client knows beside rooms: small, and copied with each answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Moment {
    /// The token that the client shows for it; empty before the first answer.
    pub(super) pos: String,
    /// Stream position up to which it was told.
    pub(super) position: u64,
    /// Serial of what is in memory only, likewise.
    pub(super) serial: u64,
    /// How many rooms its lists have.
    pub(super) counts: BTreeMap<String, usize>,
    /// Rooms of which it was told that somebody types.
    pub(super) typing: BTreeSet<u64>,
    /// Positions up to which the extensions told; 0: not yet.
    pub(super) account_data: u64,
    pub(super) e2ee: u64,
    pub(super) threads: u64,
}

/// The state of one connection.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Counts the requests: one that waits gives way to the next.
    pub(super) turn: u64,
    /// The moment that the client has reached.
    pub(super) reached: Moment,
    /// What it knows of rooms then.
    pub(super) rooms: BTreeMap<u64, Known>,
    /// The moment that the last answer led to, and what it changed.
    next: Option<(Moment, BTreeMap<u64, Known>)>,
    /// Combinations of what is wanted that were met, so that rooms share them.
    pub(super) wanted: Vec<Arc<Wanted>>,
}

impl State {
    /// The client asks from a moment: it got there.
    fn reach(&mut self, pos: &str) -> Answer<()> {
        if self.next.as_ref().is_some_and(|(next, _)| next.pos == pos) {
            if let Some((next, rooms)) = self.next.take() {
                self.reached = next;
                self.rooms.extend(rooms);
            }
        } else if self.reached.pos != pos || pos.is_empty() {
            return Err(unknown_pos());
        }
        // What the client lost, if anything, it is told again.
        self.next = None;
        Ok(())
    }

    /// An answer goes out that leads to a moment.
    pub(super) fn lead_to(&mut self, next: Moment, rooms: BTreeMap<u64, Known>) {
        self.next = Some((next, rooms));
    }

    /// What is wanted, shared with the rooms of which the same was wanted before.
    pub(super) fn share(&mut self, wanted: Wanted) -> Arc<Wanted> {
        let is_same = |known: &&Arc<Wanted>| known.timeline_limit == wanted.timeline_limit && known.same_state(&wanted);
        if let Some(known) = self.wanted.iter().find(is_same) {
            return known.clone();
        }
        let wanted = Arc::new(wanted);
        self.wanted.retain(|known| Arc::strong_count(known) > 1);
        self.wanted.push(wanted.clone());
        wanted
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// Tells it from others that had the same name.
    nonce: u64,
    answers: AtomicU64,
    rooms: AtomicUsize,
    state: Mutex<State>,
}

impl Connection {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token for a moment: what clients may also use as one of `/messages`.
    pub(super) fn token(&self, position: u64) -> String {
        let answer = self.answers.fetch_add(1, Ordering::AcqRel) + 1;
        format!("s{position}_{:x}_{answer}", self.nonce)
    }

    /// Notes how many rooms it knows.
    pub(super) fn note_rooms(&self, rooms: usize) {
        self.rooms.store(rooms, Ordering::Release);
    }
}

/// User, device and name of the connection.
type Key = (String, String, String);

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<BTreeMap<Key, (Duration, Arc<Connection>)>>);

impl Connections {
    /// The connection of a client that asks from `pos`, or a new one in place of what there was; with the number of the request.
    ///
    /// # Errors
    /// 400 `M_UNKNOWN_POS` when the client has to begin anew.
    pub(super) fn ask(&self, key: Key, pos: Option<&str>, rng: &Rng, now: Duration) -> Answer<(Arc<Connection>, u64)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (used, _)| now.saturating_sub(*used) < LONGEST_PAUSE);
        let connection = match pos {
            Some(_) => {
                let (used, connection) = all.get_mut(&key).ok_or_else(unknown_pos)?;
                *used = now;
                connection.clone()
            }
            None => {
                let connection = Arc::new(Connection {
                    nonce: rng.u64() >> 32,
                    answers: AtomicU64::new(0),
                    rooms: AtomicUsize::new(0),
                    state: Mutex::default(),
                });
                all.insert(key.clone(), (now, connection.clone()));
                make_room(&mut all, &key);
                connection
            }
        };
        drop(all);
        let mut state = connection.lock();
        if let Some(pos) = pos {
            state.reach(pos)?;
        }
        state.turn += 1;
        let turn = state.turn;
        drop(state);
        Ok((connection, turn))
    }
}

/// Drops the connections that were not used for longest while there are too many, but not the one just made.
fn make_room(all: &mut BTreeMap<Key, (Duration, Arc<Connection>)>, made: &Key) {
    let device = |key: &Key| (key.0.clone(), key.1.clone());
    let oldest = |all: &BTreeMap<Key, (Duration, Arc<Connection>)>, among: &dyn Fn(&Key) -> bool| {
        let others = all.iter().filter(|(key, _)| *key != made && among(key));
        others.min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone())
    };
    let of_device = |key: &Key| device(key) == device(made);
    while all.keys().filter(|key| of_device(key)).count() > MOST_OF_A_DEVICE {
        let Some(key) = oldest(all, &of_device) else { break };
        all.remove(&key);
    }
    let rooms = |all: &BTreeMap<Key, (Duration, Arc<Connection>)>| {
        all.values().map(|(_, connection)| connection.rooms.load(Ordering::Acquire)).sum::<usize>()
    };
    while all.len() > MOST || rooms(all) > MOST_ROOMS {
        let Some(key) = oldest(all, &|_| true) else { break };
        all.remove(&key);
    }
}

/// 400 `M_UNKNOWN_POS`
fn unknown_pos() -> MatrixError {
    MatrixError::new(
        http::StatusCode::BAD_REQUEST,
        "M_UNKNOWN_POS",
        "this connection is not known any more: begin anew",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(device: &str, name: &str) -> Key {
        ("@a:x".to_owned(), device.to_owned(), name.to_owned())
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Tells room 1 up to a position, and gives the token.
    fn answer(connection: &Connection, position: u64) -> String {
        let mut state = connection.lock();
        let pos = connection.token(position);
        let known = Known { position, ..Known::new(Arc::default()) };
        let next = Moment { pos: pos.clone(), position, ..state.reached.clone() };
        state.lead_to(next, BTreeMap::from([(1, known)]));
        pos
    }

    #[test]
    fn a_lost_answer_is_as_if_it_had_not_been_given() {
        let (all, rng) = (Connections::default(), Rng::from_seed(1));
        let ask = |pos: Option<&str>| all.ask(key("D", ""), pos, &rng, at(1));
        let (connection, _) = ask(None).unwrap();
        let first = answer(&connection, 5);
        ask(Some(&first)).unwrap();
        assert_eq!(connection.lock().rooms[&1].position, 5);
        let lost = answer(&connection, 6);
        ask(Some(&first)).unwrap();
        assert_eq!(connection.lock().rooms[&1].position, 5);
        let second = answer(&connection, 7);
        assert!(ask(Some(&lost)).unwrap_err().is("M_UNKNOWN_POS"), "the answer was given anew");
        ask(Some(&second)).unwrap();
        assert_eq!(connection.lock().rooms[&1].position, 7);
        assert!(ask(Some(&first)).unwrap_err().is("M_UNKNOWN_POS"), "the client was further already");
        assert!(ask(Some("")).unwrap_err().is("M_UNKNOWN_POS"));
    }

    #[test]
    fn a_token_is_good_for_its_connection_only() {
        let (all, rng) = (Connections::default(), Rng::from_seed(1));
        let (connection, _) = all.ask(key("D", ""), None, &rng, at(1)).unwrap();
        let pos = answer(&connection, 5);
        for other in [key("D", "other"), key("E", ""), ("@b:x".to_owned(), "D".to_owned(), String::new())] {
            assert!(all.ask(other.clone(), Some(&pos), &rng, at(1)).unwrap_err().is("M_UNKNOWN_POS"));
            all.ask(other.clone(), None, &rng, at(1)).unwrap();
            assert!(all.ask(other, Some(&pos), &rng, at(1)).unwrap_err().is("M_UNKNOWN_POS"));
        }
        all.ask(key("D", ""), None, &rng, at(1)).unwrap();
        assert!(all.ask(key("D", ""), Some(&pos), &rng, at(1)).unwrap_err().is("M_UNKNOWN_POS"), "begun anew");
    }

    #[test]
    fn connections_are_bounded_and_end_when_they_are_not_used() {
        let (all, rng) = (Connections::default(), Rng::from_seed(1));
        let mut tokens = Vec::new();
        for number in 0..=MOST_OF_A_DEVICE {
            let (connection, _) = all.ask(key("D", &number.to_string()), None, &rng, at(number as u64)).unwrap();
            tokens.push(answer(&connection, 5));
        }
        let ask =
            |number: usize, seconds| all.ask(key("D", &number.to_string()), Some(&tokens[number]), &rng, at(seconds));
        assert!(ask(0, 20).unwrap_err().is("M_UNKNOWN_POS"), "the one that was used longest ago");
        ask(1, 20).unwrap();
        let late = 20 + LONGEST_PAUSE.as_secs();
        assert!(ask(1, late).unwrap_err().is("M_UNKNOWN_POS"));
        assert_eq!(all.0.lock().unwrap().len(), 0);
        let (big, _) = all.ask(key("E", ""), None, &rng, at(late)).unwrap();
        big.note_rooms(MOST_ROOMS + 1);
        all.ask(key("F", ""), None, &rng, at(late + 1)).unwrap();
        assert_eq!(all.0.lock().unwrap().len(), 1, "it knew too many rooms");
    }
}
