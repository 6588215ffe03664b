//! A network on which one endpoint of the others does not exist.

use std::sync::Arc;

use futures::future::BoxFuture;
use kith_transport::{Body, Class, Network, NetworkError, NetworkEvent, PeerInfo, ServerKey, full};
use tokio::sync::broadcast;

/// A network on which requests to some path are lost, as if the other side did not serve it.
pub struct Without {
    pub inner: Arc<dyn Network>,
    pub path: &'static str,
}

impl Network for Without {
    fn local(&self) -> ServerKey {
        self.inner.local()
    }

    fn request(
        &self,
        peer: ServerKey,
        class: Class,
        request: http::Request<Body>,
    ) -> BoxFuture<'static, Result<http::Response<Body>, NetworkError>> {
        if request.uri().path().contains(self.path) {
            let mut response = http::Response::new(full(r#"{"errcode":"M_UNRECOGNIZED","error":"no"}"#));
            *response.status_mut() = http::StatusCode::NOT_FOUND;
            return Box::pin(async { Ok(response) });
        }
        self.inner.request(peer, class, request)
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

    fn network_changed(&self) {}

    fn shutdown(&self) -> BoxFuture<'static, ()> {
        self.inner.shutdown()
    }
}
