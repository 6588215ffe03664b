//! Tells on the terminal who comes near, is connected, and goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use kith_transport::{Network, NetworkEvent, PeerInfo, ServerKey};
use tokio::sync::broadcast;

use super::{peers::shown_name, text::line};

/// So many lines are written; after that, quietly.
const MAX_TOLD: usize = 200;

/// Tells until the network ends, or often enough.
pub(super) async fn tell(network: Arc<dyn Network>, mut events: broadcast::Receiver<NetworkEvent>) {
    let mut told = Told::default();
    for peer in network.peers() {
        if peer.nearby {
            say(network.as_ref(), peer.key, told.news(&NetworkEvent::Discovered { peer: peer.key }, true));
        }
        if peer.connected {
            let connected = NetworkEvent::Connected { peer: peer.key, direct: peer.direct };
            say(network.as_ref(), peer.key, told.news(&connected, peer.nearby));
        }
    }
    while told.lines < MAX_TOLD {
        match events.recv().await {
            Ok(event) => {
                let Some(key) = event.peer() else { continue };
                let nearby = network.peers().iter().any(|peer| peer.key == key && peer.nearby);
                say(network.as_ref(), key, told.news(&event, nearby));
            }
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
    line("  (no more of this here: see `kith peers`)");
}

fn say(network: &dyn Network, key: ServerKey, news: Option<&str>) {
    if let Some(news) = news {
        let peer = network.peers().into_iter().find(|peer| peer.key == key);
        let proven = peer.as_ref().and_then(PeerInfo::proven_name).map_or_else(|| key.to_string(), str::to_owned);
        let name = shown_name(&proven, peer.as_ref().and_then(PeerInfo::claimed_name));
        line(format!("  {name} {news}"));
    }
}

/// What was told of whom.
#[derive(Debug, Default)]
struct Told {
    peers: BTreeMap<ServerKey, Peer>,
    lines: usize,
}

#[derive(Debug, Default)]
struct Peer {
    /// It was told that it is connected. An idle connection ends and is made again without a word.
    connection_told: bool,
    connected: bool,
}

impl Told {
    /// What to say about an event; `nearby` tells whether the peer is seen on the local network after it.
    fn news(&mut self, event: &NetworkEvent, nearby: bool) -> Option<&'static str> {
        let key = event.peer()?;
        let news = match event {
            NetworkEvent::Discovered { .. } if nearby && !self.peers.contains_key(&key) => {
                self.peers.insert(key, Peer::default());
                Some("is near")
            }
            NetworkEvent::Connected { direct, .. } => {
                let peer = self.peers.entry(key).or_default();
                peer.connected = true;
                let first = !std::mem::replace(&mut peer.connection_told, true);
                first.then_some(if *direct { "is connected" } else { "is connected (by relay)" })
            }
            NetworkEvent::Disconnected { .. } => {
                let peer = self.peers.get_mut(&key)?;
                peer.connected = false;
                self.gone(key, nearby)
            }
            NetworkEvent::Lost { .. } => self.gone(key, nearby),
            _ => None,
        };
        self.lines += usize::from(news.is_some());
        news
    }

    /// Neither connected nor near any more.
    fn gone(&mut self, key: ServerKey, nearby: bool) -> Option<&'static str> {
        if nearby || self.peers.get(&key)?.connected {
            return None;
        }
        self.peers.remove(&key);
        Some("is gone")
    }
}

#[cfg(test)]
mod tests {
    use kith_transport::SecretKey;

    use super::*;

    #[test]
    fn a_neighbour_is_told_when_it_comes_near_is_connected_first_and_goes_and_not_in_between() {
        let peer = SecretKey::from_seed([1; 32]).public();
        let mut told = Told::default();
        let connected = NetworkEvent::Connected { peer, direct: true };
        assert_eq!(told.news(&NetworkEvent::Discovered { peer }, true), Some("is near"));
        assert_eq!(told.news(&NetworkEvent::Discovered { peer }, true), None);
        assert_eq!(told.news(&connected, true), Some("is connected"));
        assert_eq!(told.news(&NetworkEvent::Disconnected { peer }, true), None, "it was idle");
        assert_eq!(told.news(&connected, true), None);
        assert_eq!(told.news(&NetworkEvent::Lost { peer }, false), None, "it is still connected");
        assert_eq!(told.news(&NetworkEvent::Disconnected { peer }, false), Some("is gone"));
        assert_eq!(told.news(&NetworkEvent::Lost { peer }, false), None);
        assert_eq!(told.lines, 3);
    }

    #[test]
    fn a_peer_elsewhere_is_told_only_when_it_is_connected() {
        let peer = SecretKey::from_seed([1; 32]).public();
        let mut told = Told::default();
        assert_eq!(told.news(&NetworkEvent::Discovered { peer }, false), None);
        assert_eq!(told.news(&NetworkEvent::Lost { peer }, false), None);
        assert_eq!(told.news(&NetworkEvent::Connected { peer, direct: false }, false), Some("is connected (by relay)"));
        assert_eq!(told.news(&NetworkEvent::Disconnected { peer }, false), Some("is gone"));
    }
}
