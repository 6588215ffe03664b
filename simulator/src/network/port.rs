//! [`Port`]: one run of a node's end of the [`Air`].

use std::fmt;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kith_transport::{Body, Class, Network, NetworkError, NetworkEvent, PeerInfo, ServerKey};
use tokio::sync::broadcast;

use super::{Air, carry};

/// See the module. It does not outlive its run: a node that was started again has another.
pub struct Port {
    air: Air,
    key: ServerKey,
    number: u32,
    run: u64,
    events: broadcast::Sender<NetworkEvent>,
}

impl Port {
    pub(super) fn new(
        air: Air,
        key: ServerKey,
        number: u32,
        run: u64,
        events: broadcast::Sender<NetworkEvent>,
    ) -> Self {
        Self { air, key, number, run, events }
    }
}

impl Network for Port {
    fn local(&self) -> ServerKey {
        self.key
    }

    fn request(
        &self,
        peer: ServerKey,
        _class: Class,
        request: http::Request<Body>,
    ) -> BoxFuture<'static, Result<http::Response<Body>, NetworkError>> {
        if peer == self.key {
            return futures::future::ready(Err(NetworkError::Ourselves)).boxed();
        }
        carry::request(self.air.clone(), (self.number, self.run), peer, request).boxed()
    }

    fn events(&self) -> broadcast::Receiver<NetworkEvent> {
        self.events.subscribe()
    }

    fn peers(&self) -> Vec<PeerInfo> {
        if !self.air.runs(self.number, self.run) {
            return Vec::new();
        }
        let info = |key: ServerKey| PeerInfo {
            key,
            server_name: Some(key.to_string()),
            connected: true,
            direct: true,
            nearby: true,
            addresses: vec![format!("/memory/{key}")],
            last_seen: Some(Duration::ZERO),
            rtt: None,
            last_error: None,
        };
        let mut keys = self.air.lock().believed(self.number);
        keys.sort_unstable();
        keys.into_iter().map(info).collect()
    }

    fn add_address(&self, _peer: ServerKey, _address: String) -> Result<(), NetworkError> {
        Ok(())
    }

    fn own_addresses(&self) -> Vec<String> {
        vec![format!("/memory/{}", self.key)]
    }

    fn dial(&self, _peer: ServerKey) {}

    fn network_changed(&self) {}

    fn shutdown(&self) -> BoxFuture<'static, ()> {
        if self.air.runs(self.number, self.run) {
            self.air.leave(self.number);
        }
        futures::future::ready(()).boxed()
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("number", &self.number).field("run", &self.run).finish_non_exhaustive()
    }
}
