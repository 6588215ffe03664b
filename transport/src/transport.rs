//! [`Transport`]: from a server name to a response.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, Either, select};

use kith_mutants::mutant;

use crate::{Body, Class, KithName, Network, TransportError};

/// Waits for a time. The node implements it over its clock, so that timeouts pass in simulated time too.
pub trait Timer: Send + Sync + 'static {
    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// Real time, from tokio.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioTimer;

impl Timer for TokioTimer {
    #[expect(clippy::disallowed_methods, reason = "this is the timer of real time; simulations bring their own")]
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// Sends requests to servers by name. Cheap to clone.
#[derive(Clone)]
pub struct Transport {
    server_name: Arc<str>,
    network: Option<Arc<dyn Network>>,
    timer: Arc<dyn Timer>,
}

impl Transport {
    /// A transport for the server `server_name`. Without a network (peer-to-peer switched off) no key name is reached.
    pub fn new(server_name: &str, network: Option<Arc<dyn Network>>, timer: Arc<dyn Timer>) -> Self {
        Self { server_name: server_name.into(), network, timer }
    }

    /// Our own server name.
    pub fn server_name(&self) -> &str {
        &self.server_name
    }

    /// The network that carries requests to key names.
    pub fn network(&self) -> Option<&Arc<dyn Network>> {
        self.network.as_ref()
    }

    /// Sends a request to a server and gives its response once the head is there; the body streams.
    ///
    /// `timeout` bounds connecting, sending and waiting for the head; who reads the body bounds that ([`crate::read_body`]).
    /// Signing the request (`X-Matrix`) is the caller's.
    pub async fn send(
        &self,
        server_name: &str,
        class: Class,
        timeout: Duration,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, TransportError> {
        let name = || server_name.to_owned();
        if server_name == &*self.server_name {
            return Err(TransportError::Ourselves { name: name() });
        }
        let parsed = KithName::parse(server_name).map_err(|error| TransportError::Name { name: name(), error })?;
        let answer = match (parsed, &self.network) {
            (Some(KithName { key, .. }), Some(network)) => {
                if key == network.local() {
                    return Err(TransportError::Ourselves { name: name() });
                }
                network.request(key, class, request)
            }
            // Ordinary federation over HTTPS belongs here, for `None` = a DNS name.
            _ => return Err(TransportError::NoRoute { name: name() }),
        };
        // The answer is polled first, so that it wins when both are there.
        let limit = if mutant!("hasty-timeout") { timeout / 1000 } else { timeout };
        match select(answer, self.timer.sleep(limit)).await {
            Either::Left((answer, _)) => Ok(answer?),
            Either::Right(_) => Err(TransportError::Timeout { name: name(), after: timeout }),
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("server_name", &self.server_name)
            .field("network", &self.network.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryHub;
    use crate::{NameError, Router, SecretKey, ServerKey, empty, full, read_body};
    use futures::executor::block_on;

    /// A timer that a test lets run out.
    struct Manual(std::sync::Mutex<Vec<tokio::sync::oneshot::Sender<()>>>);

    impl Timer for Manual {
        fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            self.0.lock().unwrap().push(sender);
            Box::pin(async move {
                let _ = receiver.await;
            })
        }
    }

    fn key(n: u8) -> ServerKey {
        SecretKey::from_seed([n; 32]).public()
    }

    fn pair(handler: Router) -> (Transport, Arc<Manual>) {
        let hub = MemoryHub::new();
        hub.join(key(2), handler);
        let network = hub.join(key(1), Router::new(|_| async { http::Response::new(empty()) }));
        let timer = Arc::new(Manual(Default::default()));
        let name = key(1).to_string();
        (Transport::new(&name, Some(network), timer.clone()), timer)
    }

    fn send(transport: &Transport, name: &str) -> impl Future<Output = Result<http::Response<Body>, TransportError>> {
        let (transport, name) = (transport.clone(), name.to_owned());
        async move {
            let request = http::Request::new(empty());
            let timeout = Duration::from_secs(5);
            transport.send(&name, Class::Control, timeout, request).await
        }
    }

    #[test]
    fn a_key_name_is_reached_with_and_without_its_zone() {
        let (transport, _timer) = pair(Router::new(|_| async { http::Response::new(full("here")) }));
        for name in [key(2).to_string(), format!("{}.mesh.example.org", key(2))] {
            let response = block_on(send(&transport, &name)).unwrap();
            assert_eq!(block_on(read_body(response.into_body(), 10)).unwrap(), "here");
        }
    }

    #[test]
    fn names_that_cannot_be_reached_are_refused_with_the_reason() {
        let (transport, _timer) = pair(Router::new(|_| async { http::Response::new(empty()) }));
        let upper = key(2).to_string().to_ascii_uppercase();
        assert!(matches!(
            block_on(send(&transport, &upper)),
            Err(TransportError::Name { error: NameError::UpperCase, .. })
        ));
        assert!(matches!(block_on(send(&transport, "example.org")), Err(TransportError::NoRoute { .. })));
        for own in [key(1).to_string(), format!("{}.example.org", key(1))] {
            let error = block_on(send(&transport, &own)).unwrap_err();
            assert!(matches!(error, TransportError::Ourselves { .. }));
            assert!(!error.maybe_delivered());
        }
    }

    #[test]
    fn a_server_that_does_not_answer_in_time_is_a_timeout() {
        let (transport, timer) = pair(Router::new(|_| futures::future::pending()));
        let name = key(2).to_string();
        let mut answer = Box::pin(send(&transport, &name));
        assert!(futures::FutureExt::now_or_never(answer.as_mut()).is_none());
        let sender = timer.0.lock().unwrap().pop().unwrap();
        sender.send(()).unwrap();
        let error = block_on(answer).unwrap_err();
        assert!(matches!(error, TransportError::Timeout { .. }) && error.maybe_delivered());
    }
}
