//! [`Transport`]: from a server name to a response.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Either, select};

use kith_mutants::mutant;

use crate::{Body, Class, Https, KithName, Network, NetworkError, TransportError, full, read_body};

/// The longest body of a request that two ways are tried for.
const MOST_REPEATED: usize = 64 << 20;

/// Waits for a time. The node implements it over its clock, so that timeouts pass in simulated time too.
pub trait Timer: Send + Sync + 'static {
    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// The time now, from some beginning on; it never goes back.
    fn now(&self) -> Duration;
}

/// Real time, from tokio.
#[derive(Clone, Copy, Debug)]
pub struct TokioTimer {
    begun: Instant,
}

impl Default for TokioTimer {
    #[expect(clippy::disallowed_methods, reason = "this is the timer of real time; simulations bring their own")]
    fn default() -> Self {
        Self { begun: Instant::now() }
    }
}

impl Timer for TokioTimer {
    #[expect(clippy::disallowed_methods, reason = "this is the timer of real time; simulations bring their own")]
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// Sends requests to servers by name. Cheap to clone.
#[derive(Clone)]
pub struct Transport {
    server_name: Arc<str>,
    network: Option<Arc<dyn Network>>,
    https: Option<Https>,
    timer: Arc<dyn Timer>,
}

impl Transport {
    /// A transport for the server `server_name`. Without a network (peer-to-peer switched off) and without a gateway's zone, no
    /// key name is reached; without `https` no DNS name is.
    pub fn new(
        server_name: &str,
        network: Option<Arc<dyn Network>>,
        https: Option<Https>,
        timer: Arc<dyn Timer>,
    ) -> Self {
        Self { server_name: server_name.into(), network, https, timer }
    }

    /// Our own server name.
    pub fn server_name(&self) -> &str {
        &self.server_name
    }

    /// The network that carries requests to key names.
    pub fn network(&self) -> Option<&Arc<dyn Network>> {
        self.network.as_ref()
    }

    /// What carries requests to DNS names.
    pub fn https(&self) -> Option<&Https> {
        self.https.as_ref()
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
        let answer = match (parsed, &self.network, &self.https) {
            (Some(KithName { key, .. }), Some(network), _) if key == network.local() => {
                return Err(TransportError::Ourselves { name: name() });
            }
            (Some(KithName { key, zone: Some(_) }), Some(network), Some(https)) => {
                let (network, https) = (network.clone(), https.clone());
                by_peers_or_gateway(network, https, key, name(), class, request).boxed()
            }
            (Some(KithName { key, .. }), Some(network), _) => {
                network.request(key, class, request).map(|answer| answer.map_err(Into::into)).boxed()
            }
            (None | Some(KithName { zone: Some(_), .. }), _, Some(https)) => over_https(https, name(), class, request),
            (parsed, ..) => {
                let zoneless = parsed.is_some_and(|name| name.zone.is_none());
                return Err(TransportError::NoRoute { name: name(), zoneless });
            }
        };
        // The answer is polled first, so that it wins when both are there.
        let limit = if mutant!("hasty-timeout") { timeout / 1000 } else { timeout };
        match select(answer, self.timer.sleep(limit)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => Err(TransportError::Timeout { name: name(), after: timeout }),
        }
    }
}

type Answer = Result<http::Response<Body>, TransportError>;

fn over_https(https: &Https, name: String, class: Class, request: http::Request<Body>) -> BoxFuture<'static, Answer> {
    let answer = https.request(&name, class, request);
    answer.map(|answer| answer.map_err(|error| TransportError::Https { name, error })).boxed()
}

/// Sends to the peer itself, and where no way leads to it, to the gateway of its zone, which DNS knows.
async fn by_peers_or_gateway(
    network: Arc<dyn Network>,
    https: Https,
    key: crate::ServerKey,
    name: String,
    class: Class,
    request: http::Request<Body>,
) -> Answer {
    let (parts, body) = request.into_parts();
    // Requests are made of bytes at hand: nothing is waited for here.
    let body = read_body(body, MOST_REPEATED)
        .await
        .map_err(|error| NetworkError::TooLarge { peer: key, reason: error.to_string() })?;
    let request = || http::Request::from_parts(parts.clone(), full(body.clone()));
    match network.request(key, class, request()).await {
        Ok(response) => Ok(response),
        Err(error) if error.maybe_delivered() => Err(error.into()),
        Err(error) => {
            tracing::debug!(%name, %error, "the peer is not reached; its gateway is tried");
            over_https(&https, name, class, request()).await
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("server_name", &self.server_name)
            .field("network", &self.network.is_some())
            .field("https", &self.https.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::https::{discovery::Resolve, srv::Srv};
    use crate::memory::MemoryHub;
    use crate::{HttpsConfig, NameError, Router, SecretKey, ServerKey, empty};
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

        fn now(&self) -> Duration {
            Duration::ZERO
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
        (Transport::new(&name, Some(network), None, timer.clone()), timer)
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

    /// An HTTPS side that says by its error that it was asked: no private address is reached.
    fn with_https(mut transport: Transport) -> Transport {
        let timer = transport.timer.clone();
        let https = Https::with(HttpsConfig::default(), timer, Arc::new(drop), Arc::new(|_| 0), Arc::new(NoDns));
        transport.https = Some(https);
        transport
    }

    struct NoDns;

    impl Resolve for NoDns {
        fn addresses<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, String>> {
            Box::pin(async { Err("no DNS here".to_owned()) })
        }

        fn services<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<Srv>, String>> {
            Box::pin(async { Ok(Vec::new()) })
        }
    }

    #[test]
    fn dns_names_go_over_https_and_key_names_to_peers_first() {
        let (transport, _timer) = pair(Router::new(|_| async { http::Response::new(full("peer")) }));
        let transport = with_https(transport);
        assert!(matches!(block_on(send(&transport, "127.0.0.1:1")), Err(TransportError::Https { .. })));
        let response = block_on(send(&transport, &format!("{}.mesh.example.org", key(2)))).unwrap();
        assert_eq!(block_on(read_body(response.into_body(), 10)).unwrap(), "peer");
        assert!(matches!(block_on(send(&transport, &key(3).to_string())), Err(TransportError::Network(_))));
    }

    #[test]
    fn a_zone_is_asked_only_when_its_peer_is_not_reached() {
        let (transport, _timer) = pair(Router::new(|_| async { http::Response::new(empty()) }));
        let mut transport = with_https(transport);
        let asked = |transport: &Transport| transport.https().unwrap().stats()[0].1;
        block_on(send(&transport, &format!("{}.mesh.example.org", key(2)))).unwrap();
        assert_eq!(asked(&transport), 0);
        let name = format!("{}.mesh.example.org", key(3));
        assert!(matches!(block_on(send(&transport, &name)), Err(TransportError::Https { .. })));
        assert_eq!(asked(&transport), 1);
        transport.network = None;
        assert!(matches!(
            block_on(send(&transport, &key(3).to_string())),
            Err(TransportError::NoRoute { zoneless: true, .. })
        ));
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
