//! The contacts: the kith nodes whose users share a room with ours, and those that the configuration names.
//!
//! They recognise us, and we them, where discovery shows itself to contacts only (`mdns = "contacts"`, DESIGN section 5);
//! they are dialled when they are near, kept connected, and let in when strangers fill all places. They are read from the
//! rooms anew at start and whenever a server comes to a room or leaves one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kith_store::{Committed, Read, StoreError, Touched, tables::rooms::ROOM_SERVERS};
use kith_transport::{KithName, ServerKey};
use tokio::sync::Notify;

use crate::Node;

/// What [`Touched::Other`] says when a server came to a room or left one.
pub(crate) const ROOM_SERVERS_CHANGED: &str = "room servers changed";

/// Most contacts. In a room of thousands of servers they are strangers: those of the smallest rooms come first.
const MOST: usize = 512;
/// Changes within this time count as one; and within so much more for each server that is read, up to the most.
const GATHER: Duration = Duration::from_millis(200);
const GATHER_PER_SERVER: Duration = Duration::from_millis(2);
const GATHER_MOST: Duration = Duration::from_secs(10);

/// Knows when the contacts are to be read again.
#[derive(Debug, Default)]
pub struct Contacts {
    changed: Notify,
}

impl Contacts {
    /// To be called after each commit.
    pub(crate) fn committed(&self, committed: &Committed) {
        if committed.touched.contains(&Touched::Other(ROOM_SERVERS_CHANGED)) {
            self.changed.notify_one();
        }
    }
}

/// Tells the network of the contacts, for as long as the node runs.
pub(crate) async fn watch(node: Arc<Node>) {
    let Some(network) = node.transport.network().cloned() else { return };
    let configured: Vec<ServerKey> = node.config.p2p.bootstrap.iter().filter_map(|address| key_in(address)).collect();
    let mut told = None;
    let mut gather = GATHER;
    loop {
        match node.store.read(|read| sharing_a_room(read, node.server_name().as_str())) {
            Ok((sharing, read)) => {
                gather = (GATHER + GATHER_PER_SERVER * read).min(GATHER_MOST);
                let mut contacts: Vec<ServerKey> = configured.iter().copied().chain(sharing).take(MOST).collect();
                contacts.sort_unstable();
                contacts.dedup();
                if told.as_ref() != Some(&contacts) {
                    network.set_contacts(contacts.clone());
                    told = Some(contacts);
                }
            }
            Err(error) => tracing::warn!(%error, "the contacts could not be read"),
        }
        node.contacts.changed.notified().await;
        node.clock.sleep(gather).await;
    }
}

/// The key at the end of a multiaddr, `/p2p/<peer id>`.
fn key_in(address: &str) -> Option<ServerKey> {
    let (_, id) = address.rsplit_once("/p2p/")?;
    ServerKey::from_peer_id(&id.parse().ok()?)
}

/// The kith servers in the rooms that ours is in: those of the smallest rooms first. Gives how many servers were looked at, too.
fn sharing_a_room(read: &dyn Read, own: &str) -> Result<(Vec<ServerKey>, u32), StoreError> {
    let mut looked_at = 0u32;
    let mut smallest: BTreeMap<ServerKey, usize> = BTreeMap::new();
    let mut note = |servers: &[String]| {
        if !servers.iter().any(|server| server == own) {
            return;
        }
        let keys = servers.iter().filter(|server| *server != own).filter_map(|server| KithName::parse(server).ok()?);
        for name in keys {
            let size = smallest.entry(name.key).or_insert(servers.len());
            *size = servers.len().min(*size);
        }
    };
    let mut room = None;
    let mut servers = Vec::new();
    for row in ROOM_SERVERS.range(read, ..)? {
        let ((number, server), _) = row?;
        if room.replace(number) != Some(number) {
            note(&servers);
            servers.clear();
        }
        servers.push(server);
        looked_at = looked_at.saturating_add(1);
    }
    note(&servers);
    let mut keys: Vec<(usize, ServerKey)> = smallest.into_iter().map(|(key, size)| (size, key)).collect();
    keys.sort_unstable();
    Ok((keys.into_iter().map(|(_, key)| key).collect(), looked_at))
}

#[cfg(test)]
mod tests {
    use kith_store::{MemoryBackend, Options, Store};
    use kith_transport::SecretKey;

    use super::*;

    fn key(n: u8) -> ServerKey {
        SecretKey::from_seed([n; 32]).public()
    }

    #[test]
    fn contacts_are_the_kith_servers_of_rooms_we_are_in_those_of_small_rooms_first() {
        let store = Store::open(MemoryBackend::new(), Options::default()).unwrap();
        let own = key(1).to_string();
        let rooms = [
            (1, vec![own.clone(), key(2).to_string(), key(3).to_string(), "example.org".to_owned()]),
            (2, vec![own.clone(), key(3).to_string()]),
            (3, vec![key(4).to_string(), key(5).to_string()]),
            (4, vec![own.clone(), key(6).to_string() + ".mesh.example.org", key(2).to_string()]),
        ];
        let put = store.submit(move |tx| {
            for (room, servers) in rooms {
                for server in servers {
                    ROOM_SERVERS.put(tx, &(room, server), &1)?;
                }
            }
            Ok::<_, StoreError>(())
        });
        put.wait().unwrap();
        let (contacts, looked_at) = store.read(|read| sharing_a_room(read, &own)).unwrap();
        assert_eq!(looked_at, 4 + 2 + 2 + 3);
        assert_eq!(contacts.first(), Some(&key(3)));
        let mut rest = contacts[1..].to_vec();
        rest.sort_unstable();
        let mut expected = vec![key(2), key(6)];
        expected.sort_unstable();
        assert_eq!(rest, expected);
    }

    #[test]
    fn the_key_of_a_configured_peer_is_in_its_address() {
        let address = format!("/ip4/192.0.2.1/udp/4001/quic-v1/p2p/{}", key(2).peer_id());
        assert_eq!(key_in(&address), Some(key(2)));
        assert_eq!(key_in("/ip4/192.0.2.1/udp/4001/quic-v1"), None);
        assert_eq!(key_in("/ip4/192.0.2.1/udp/4001/quic-v1/p2p/x"), None);
    }
}
