//! Tags: how a node shows itself to its contacts and to nobody else.
//!
//! A node in contacts mode announces a random salt and, for each contact, the first 8 bytes of
//!
//! `SHA-256("kith mdns tag 1" 0x00, shared secret, own key, salt)`
//!
//! where the shared secret is X25519 over the two server keys (each converted from ed25519), so only the two can
//! compute it. A contact computes the same for each of *its* contacts and looks whether the tag is among those announced. The
//! own key makes the tags of the two directions differ. Salt and instance name are drawn anew at every rotation, so two
//! announcements cannot be linked by what is in them; tags are sorted and filled up with random ones, so that neither order nor
//! number tells about contacts. No clock is involved: clocks on meshes are wrong.
//!
//! Not hidden: addresses and ports (whoever sees the same ones twice can link them), and the key from someone who dials the
//! port, or who repeats the announcement from his own address and waits for a contact to dial him.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{SecretKey, ServerKey};

const DOMAIN: &[u8] = b"kith mdns tag 1\0";
const TAG_LEN: usize = 8;
const SALT_LEN: usize = 16;
/// Tags in one TXT string (255 bytes at most, with its key).
const TAGS_PER_STRING: usize = 30;
/// TXT strings with tags.
const MAX_STRINGS: usize = 4;
/// Most contacts shown in one rotation; with more, rotations take turns.
pub(super) const MAX_TAGS: usize = TAGS_PER_STRING * MAX_STRINGS;

type Tag = [u8; TAG_LEN];

/// Computes tags; remembers the shared secrets with the contacts.
pub(super) struct Tags {
    secret: SecretKey,
    local: ServerKey,
    shared: BTreeMap<ServerKey, Zeroizing<[u8; 32]>>,
}

impl Tags {
    pub(super) fn new(secret: SecretKey) -> Self {
        Self { local: secret.public(), secret, shared: BTreeMap::new() }
    }

    /// These are the contacts from now on.
    pub(super) fn set_contacts(&mut self, contacts: &BTreeSet<ServerKey>) {
        self.shared.retain(|key, _| contacts.contains(key));
        for contact in contacts {
            if !self.shared.contains_key(contact)
                && let Some(shared) = self.secret.shared_secret(contact)
            {
                self.shared.insert(*contact, shared);
            }
        }
    }

    /// The TXT entries that show us to our contacts: the salt, then the tags. `random` fills bytes.
    pub(super) fn announce(&self, rotation: usize, random: &mut dyn FnMut(&mut [u8])) -> Vec<(String, Vec<u8>)> {
        let mut salt = [0; SALT_LEN];
        random(&mut salt);
        let count = self.shared.len();
        let skip = if count > MAX_TAGS { rotation.wrapping_mul(MAX_TAGS) % count } else { 0 };
        let mut tags: Vec<Tag> = self
            .shared
            .values()
            .cycle()
            .skip(skip)
            .take(count.min(MAX_TAGS))
            .map(|shared| tag(shared, &self.local, &salt))
            .collect();
        let full = tags.len().div_ceil(TAGS_PER_STRING).max(1) * TAGS_PER_STRING;
        while tags.len() < full {
            let mut filler = Tag::default();
            random(&mut filler);
            tags.push(filler);
        }
        tags.sort_unstable();
        let mut entries = vec![("s".to_owned(), BASE64URL_NOPAD.encode(&salt).into_bytes())];
        for (index, tags) in tags.chunks(TAGS_PER_STRING).enumerate() {
            entries.push((format!("g{index}"), tags.concat()));
        }
        entries
    }

    /// Which contact made an announcement. `get` gives its TXT entries.
    pub(super) fn recognise<'a>(&self, get: impl Fn(&str) -> Option<&'a [u8]>) -> Option<ServerKey> {
        let salt = BASE64URL_NOPAD.decode(get("s")?).ok()?;
        let salt: [u8; SALT_LEN] = salt.try_into().ok()?;
        let mut tags = BTreeSet::new();
        for index in 0..MAX_STRINGS {
            let Some(string) = get(&format!("g{index}")) else {
                break;
            };
            tags.extend(string.chunks_exact(TAG_LEN));
        }
        let found = |(key, shared): (&ServerKey, &Zeroizing<[u8; 32]>)| {
            tags.contains(tag(shared, key, &salt).as_slice()).then_some(*key)
        };
        self.shared.iter().find_map(found)
    }
}

/// All parts have fixed lengths, and what is shown is cut off, so a plain hash serves as the keyed one.
fn tag(shared: &[u8; 32], announcer: &ServerKey, salt: &[u8; SALT_LEN]) -> Tag {
    let hash = Sha256::new()
        .chain_update(DOMAIN)
        .chain_update(shared)
        .chain_update(announcer.as_bytes())
        .chain_update(salt)
        .finalize();
    let mut tag = Tag::default();
    tag.copy_from_slice(&hash[..TAG_LEN]);
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(n: u8) -> SecretKey {
        SecretKey::from_seed([n; 32])
    }

    fn tags(n: u8, contacts: impl IntoIterator<Item = u8>) -> Tags {
        let mut tags = Tags::new(secret(n));
        tags.set_contacts(&contacts.into_iter().map(|n| secret(n).public()).collect());
        tags
    }

    fn counter(start: u8) -> impl FnMut(&mut [u8]) {
        let mut next = start;
        move |bytes| {
            for byte in bytes {
                next = next.wrapping_mul(31).wrapping_add(7);
                *byte = next;
            }
        }
    }

    fn look(who: &Tags, announced: &[(String, Vec<u8>)]) -> Option<ServerKey> {
        who.recognise(|name| {
            let (_, value) = announced.iter().find(|(key, _)| key == name)?;
            Some(value.as_slice())
        })
    }

    #[test]
    fn contacts_recognise_each_other_and_nobody_else_does() {
        let alice = tags(1, [2, 3]);
        let announced = alice.announce(0, &mut counter(1));
        assert_eq!(look(&tags(2, [1, 9]), &announced), Some(secret(1).public()));
        assert_eq!(look(&tags(3, [1]), &announced), Some(secret(1).public()));
        // A stranger who knows both keys, a contact who does not know her, and she herself see noise.
        assert_eq!(look(&tags(4, [1, 2, 3]), &announced), None);
        assert_eq!(look(&tags(2, [3]), &announced), None);
        assert_eq!(look(&alice, &announced), None);
    }

    #[test]
    fn nothing_in_two_announcements_is_the_same_and_the_number_of_contacts_is_hidden() {
        let one = tags(1, [2]).announce(0, &mut counter(1));
        let twenty = tags(1, 2..22).announce(1, &mut counter(99));
        let lengths =
            |entries: &[(String, Vec<u8>)]| -> Vec<usize> { entries.iter().map(|(_, value)| value.len()).collect() };
        assert_eq!(lengths(&one), lengths(&twenty));
        let chunks = |entries: &[(String, Vec<u8>)]| -> BTreeSet<Vec<u8>> {
            let values = entries.iter().flat_map(|(_, value)| value.chunks(TAG_LEN));
            values.map(<[u8]>::to_vec).collect()
        };
        assert!(chunks(&one).is_disjoint(&chunks(&twenty)));
        let text = format!("{one:?}");
        assert!(!text.contains(&secret(1).public().to_string()));
    }

    #[test]
    fn many_contacts_take_turns_within_the_bound() {
        let many = tags(1, 2..=255);
        let others: Vec<Tags> = (2..=255).map(|n| tags(n, [1])).collect();
        let mut seen = BTreeSet::new();
        for rotation in 0..3 {
            let announced = many.announce(rotation, &mut counter(3));
            assert_eq!(announced.len(), 1 + MAX_STRINGS);
            assert!(announced.iter().all(|(key, value)| key.len() + value.len() < 255));
            seen.extend((0..others.len()).filter(|n| look(&others[*n], &announced).is_some()));
        }
        assert_eq!(seen.len(), others.len());
    }

    #[test]
    fn malformed_announcements_are_nobodys() {
        let alice = tags(1, [2]);
        for entries in [
            vec![],
            vec![("s", b"short".to_vec())],
            vec![("s", b"AAAAAAAAAAAAAAAAAAAAAA".to_vec())],
            vec![("s", b"AAAAAAAAAAAAAAAAAAAAAA".to_vec()), ("g0", vec![1; 7])],
            vec![("s", vec![0xff; 22]), ("g0", vec![1; 240])],
        ] {
            let owned: Vec<_> = entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            assert_eq!(look(&alice, &owned), None);
        }
    }
}
