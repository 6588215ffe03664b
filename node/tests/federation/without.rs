//! A network on which one endpoint of the others does not exist, or knows nothing at first.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use futures::future::BoxFuture;
use kith_transport::{Body, Class, Network, NetworkError, NetworkEvent, PeerInfo, ServerKey, full, read_body};
use serde_json::Value;
use tokio::sync::{Semaphore, broadcast};

use crate::policy::Guard;

/// What a node is told on some path.
#[derive(Debug, Clone, Copy)]
pub enum Lack {
    /// Whatever the others say.
    Nothing,
    /// That there are no such endpoints.
    Endpoints(&'static [&'static str]),
    /// The first time, no missing events.
    FirstMissingEvents,
    /// Answers on paths with this part in them only when there is a permit, though what it asks for happens before.
    Until(&'static str, &'static Semaphore),
    /// Answers on paths with this part in them only when there is a permit, and nobody is asked before. It is counted how often they
    /// are wanted.
    Held(&'static str, &'static Semaphore, &'static AtomicUsize),
    /// What two others say.
    Both(&'static Lack, &'static Lack),
    /// Nothing at all by peers that are not there: it never learns whether they are.
    Silence,
    /// Whatever the others say. It is a policy server to them.
    Guards(&'static Guard),
    /// What becomes of the answers on some paths.
    Altered(&'static [&'static str], fn(Value) -> String),
}

/// A network on which the others' answers lack this.
pub fn without(network: Arc<dyn Network>, lack: Lack) -> Arc<dyn Network> {
    match lack {
        Lack::Nothing | Lack::Guards(_) => network,
        Lack::Both(one, other) => without(without(network, *one), *other),
        lack => Arc::new(Without { inner: network, lack, asked: AtomicBool::new(false) }),
    }
}

struct Without {
    inner: Arc<dyn Network>,
    lack: Lack,
    asked: AtomicBool,
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
        let path = request.uri().path();
        if let Lack::Until(part, permits) = self.lack
            && path.contains(part)
        {
            let answer = self.inner.request(peer, class, request);
            return Box::pin(async move {
                let answer = answer.await;
                let _permit = permits.acquire().await;
                answer
            });
        }
        if matches!(self.lack, Lack::Silence) && !self.inner.peers().iter().any(|there| there.key == peer) {
            return Box::pin(std::future::pending());
        }
        if let Lack::Held(part, permits, wanted) = self.lack
            && path.contains(part)
        {
            wanted.fetch_add(1, Ordering::Relaxed);
            let inner = self.inner.clone();
            return Box::pin(async move {
                let _permit = permits.acquire().await;
                inner.request(peer, class, request).await
            });
        }
        if let Lack::Altered(paths, change) = self.lack
            && paths.iter().any(|part| path.contains(part))
        {
            let answer = self.inner.request(peer, class, request);
            return Box::pin(async move {
                let (parts, body) = answer.await?.into_parts();
                let text = read_body(body, 16 << 20).await.expect("a body");
                if !parts.status.is_success() {
                    return Ok(http::Response::from_parts(parts, full(text)));
                }
                let body = change(serde_json::from_slice(&text).expect("JSON"));
                Ok(http::Response::from_parts(parts, full(body)))
            });
        }
        if matches!(self.lack, Lack::FirstMissingEvents)
            && path.contains("get_missing_events")
            && !self.asked.swap(true, Ordering::Relaxed)
        {
            return Box::pin(async { Ok(http::Response::new(full(r#"{"events":[]}"#))) });
        }
        if matches!(self.lack, Lack::Endpoints(lacking) if lacking.iter().any(|part| path.contains(part))) {
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
