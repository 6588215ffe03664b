//! What discovery sees at the moment, within bounds: whose service is which, and announcements of nobody we know.

use std::collections::BTreeMap;

use crate::ServerKey;

/// Services remembered at once; a flood of announcements ends here.
const MAX_SERVICES: usize = 2048;
/// After so many names that were new to one session the daemon's own memory, which has no bound, is to be emptied.
const MAX_NAMES: usize = 4 * MAX_SERVICES;

/// Services by name. `T` is what is kept of one that nobody is recognised in.
pub(super) struct Seen<T> {
    /// Whose a service is, and when it came, as a count.
    services: BTreeMap<String, (ServerKey, u64)>,
    /// Kept so that a new contact is recognised at once.
    unknown: BTreeMap<String, (T, u64)>,
    /// Names that were new, ever.
    names: u64,
    /// Names that were new in this session.
    session_names: usize,
    /// Services of the session before that were not heard of in this one.
    inherited: BTreeMap<String, ServerKey>,
}

impl<T> Seen<T> {
    pub(super) fn new() -> Self {
        Self {
            services: BTreeMap::new(),
            unknown: BTreeMap::new(),
            names: 0,
            session_names: 0,
            inherited: BTreeMap::new(),
        }
    }

    /// The next session of the daemon begins, which has heard of nothing yet.
    pub(super) fn next_session(&mut self) {
        self.session_names = 0;
        self.unknown.clear();
        let services = std::mem::take(&mut self.services);
        self.inherited.extend(services.into_iter().map(|(name, (key, _))| (name, key)));
    }

    /// The services of earlier sessions that were not heard of again: they are gone.
    pub(super) fn take_inherited(&mut self) -> BTreeMap<String, ServerKey> {
        std::mem::take(&mut self.inherited)
    }

    /// Whether this session has heard of so many names that its daemon is to be replaced.
    pub(super) fn is_flooded(&self) -> bool {
        self.session_names >= MAX_NAMES
    }

    /// Makes room for a service of this name, unless it has a place already. Those of nobody we know go first, the oldest of
    /// them; then the oldest of peers that `is_used` does not claim. Gives `None` when there is no room, else whose services
    /// are gone by it.
    pub(super) fn make_room(
        &mut self,
        name: &str,
        is_used: impl Fn(ServerKey) -> bool,
    ) -> Option<Option<(String, ServerKey)>> {
        if self.services.contains_key(name) || self.unknown.contains_key(name) {
            return Some(None);
        }
        self.session_names += 1;
        if self.services.len() + self.unknown.len() < MAX_SERVICES {
            return Some(None);
        }
        if let Some(oldest) = oldest(&self.unknown) {
            self.unknown.remove(&oldest);
            return Some(None);
        }
        let unused = self.services.iter().filter(|(_, (key, _))| !is_used(*key));
        let victim = unused.min_by_key(|(_, (_, count))| *count).map(|(name, _)| name.clone())?;
        let (key, _) = self.services.remove(&victim)?;
        Some(Some((victim, key)))
    }

    /// A service is of nobody we know.
    pub(super) fn put_unknown(&mut self, name: String, what: T) -> Option<ServerKey> {
        self.names += 1;
        let former = self.forget(&name);
        self.unknown.insert(name, (what, self.names));
        former
    }

    /// A service is this peer's. Gives whose it was before, if it was another's.
    pub(super) fn put(&mut self, name: String, key: ServerKey) -> Option<ServerKey> {
        self.names += 1;
        let former = self.forget(&name);
        self.services.insert(name, (key, self.names));
        former.filter(|former| *former != key)
    }

    /// A service is gone. Gives whose it was.
    pub(super) fn forget(&mut self, name: &str) -> Option<ServerKey> {
        self.unknown.remove(name);
        let inherited = self.inherited.remove(name);
        self.services.remove(name).map(|(key, _)| key).or(inherited)
    }

    /// All services of nobody we know, to be looked at again.
    pub(super) fn take_unknown(&mut self) -> impl Iterator<Item = T> + use<T> {
        // They are not counted again.
        self.session_names = self.session_names.saturating_sub(self.unknown.len());
        std::mem::take(&mut self.unknown).into_values().map(|(what, _)| what)
    }
}

fn oldest<T>(services: &BTreeMap<String, (T, u64)>) -> Option<String> {
    services.iter().min_by_key(|(_, (_, count))| *count).map(|(name, _)| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;

    fn key(n: u16) -> ServerKey {
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&n.to_be_bytes());
        SecretKey::from_seed(seed).public()
    }

    /// Once the first names kept their places for ever, and a flood of invented ones hid everybody who came later.
    #[test]
    fn a_flood_of_names_takes_no_place_from_those_in_use_and_hides_no_newcomer() {
        let mut seen = Seen::new();
        let friend = key(1);
        let is_used = |key| key == friend;
        assert_eq!(seen.make_room("friend", is_used), Some(None));
        seen.put("friend".to_owned(), friend);
        let mut gone = 0;
        for n in 0..6000u16 {
            let name = format!("flood{n}");
            let room = seen.make_room(&name, is_used).expect("there is room");
            gone += usize::from(room.is_some());
            if n % 2 == 0 {
                seen.put(name, key(n + 10))
            } else {
                seen.put_unknown(name, n)
            };
        }
        assert!(seen.services.len() + seen.unknown.len() <= MAX_SERVICES);
        assert_eq!(seen.services["friend"].0, friend);
        assert!(gone > 0, "those of nobody we know went first, then others");
        let newcomer = key(2);
        assert!(seen.make_room("newcomer", is_used).is_some());
        seen.put("newcomer".to_owned(), newcomer);
        assert_eq!(seen.services["newcomer"].0, newcomer);
        // Where all are in use there is no room, rather than one of them lost.
        let mut full = Seen::<()>::new();
        for n in 0..MAX_SERVICES {
            full.put(n.to_string(), friend);
        }
        assert_eq!(full.make_room("one more", is_used), None);
        assert_eq!(full.make_room("7", is_used), Some(None), "it has its place");
    }

    #[test]
    fn so_many_names_flood_a_session_and_the_next_one_begins_anew() {
        let mut seen = Seen::<()>::new();
        for n in 0..MAX_NAMES {
            assert!(!seen.is_flooded());
            seen.make_room(&n.to_string(), |_| false);
            seen.put(n.to_string(), key(1));
        }
        assert!(seen.is_flooded());
        seen.next_session();
        assert!(!seen.is_flooded());
    }

    #[test]
    fn what_the_next_session_does_not_hear_of_again_is_gone() {
        let mut seen = Seen::<()>::new();
        seen.put("stays".to_owned(), key(1));
        seen.put("goes".to_owned(), key(2));
        seen.next_session();
        assert_eq!(seen.put("stays".to_owned(), key(1)), None);
        assert_eq!(seen.take_inherited(), BTreeMap::from([("goes".to_owned(), key(2))]));
        assert_eq!(seen.forget("stays"), Some(key(1)));
        assert_eq!(seen.put("other".to_owned(), key(3)), None);
        assert_eq!(seen.put("other".to_owned(), key(4)), Some(key(3)), "a name changed hands");
    }
}
