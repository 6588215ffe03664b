//! A network on which every request and every answer takes a while, each another one, so that they overtake each other.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use kith::platform::{Clock as _, Rng, SystemClock};
use kith_transport::{
    Body, Class, Network, NetworkError, NetworkEvent, PeerInfo, ServerKey, memory::MemoryNetwork, record::SignedRecord,
};
use tokio::sync::broadcast;

/// A [`MemoryNetwork`] with delays.
pub(crate) struct SlowNetwork {
    pub(crate) inner: Arc<MemoryNetwork>,
    pub(crate) rng: Rng,
    /// The longest delay of a request, and of its answer, in milliseconds.
    pub(crate) most: u64,
}

impl Network for SlowNetwork {
    fn local(&self) -> ServerKey {
        self.inner.local()
    }

    fn request(
        &self,
        peer: ServerKey,
        class: Class,
        request: http::Request<Body>,
    ) -> BoxFuture<'static, Result<http::Response<Body>, NetworkError>> {
        // Most are fast: what is slow is overtaken by what depends on it.
        let delay = || {
            let most = if self.rng.below(4) == 0 { self.most } else { self.most / 16 };
            Duration::from_millis(self.rng.below(most + 1))
        };
        let (there, back) = (delay(), delay());
        let inner = self.inner.clone();
        async move {
            let clock = SystemClock::new();
            clock.sleep(there).await;
            let answer = inner.request(peer, class, request).await;
            clock.sleep(back).await;
            answer
        }
        .boxed()
    }

    fn events(&self) -> broadcast::Receiver<NetworkEvent> {
        self.inner.events()
    }

    fn peers(&self) -> Vec<PeerInfo> {
        self.inner.peers()
    }

    fn add_address(&self, peer: ServerKey, address: String) -> Result<(), NetworkError> {
        self.inner.add_address(peer, address)
    }

    fn own_addresses(&self) -> Vec<String> {
        self.inner.own_addresses()
    }

    fn dial(&self, peer: ServerKey) {
        self.inner.dial(peer);
    }

    fn network_changed(&self) {
        self.inner.network_changed();
    }

    fn own_record(&self) -> Option<SignedRecord> {
        self.inner.own_record()
    }

    fn record(&self, peer: &ServerKey) -> Option<SignedRecord> {
        self.inner.record(peer)
    }

    fn shutdown(&self) -> BoxFuture<'static, ()> {
        self.inner.shutdown()
    }
}
