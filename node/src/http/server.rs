//! Real listeners: accept, serve, stop. Only here does hyper stand between the wire and the router; in simulation and in
//! process, requests enter the router as calls.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::extract::ConnectInfo;
use futures::future::BoxFuture;
use http::HeaderMap;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tower::ServiceExt as _;

use super::{certificate::Shown, patience::Patient};
use crate::{
    federation::stats::Stats,
    platform::{Clock, Spawner, timeout},
};

/// How many connections one listener holds at a time; further ones wait in the system's queue.
const MAX_CONNECTIONS: usize = 1024;
/// How many of these one address may have where TLS is spoken, so that one stranger does not take them all. (Behind a proxy, all come
/// from one address: that is the listener without TLS.)
const OF_ONE_ADDRESS: usize = 64;
/// A client that takes longer than this for a request's head, or for TLS, is cut off.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long requests may go on after a stop began.
const GRACE: Duration = Duration::from_secs(5);

/// An address that could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {}", describe(.cause, *.address, .key))]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// The key of the configuration that has it.
    pub key: &'static str,
    /// What the system said.
    pub cause: io::Error,
}

fn describe(cause: &io::Error, address: SocketAddr, key: &str) -> String {
    match cause.kind() {
        io::ErrorKind::AddrInUse => format!(
            "port {} is in use by another program. Stop that program, or choose another port: \
             {key} in kith.toml, or KITH_{}={}:PORT",
            address.port(),
            key.replace('.', "_").to_uppercase(),
            address.ip()
        ),
        io::ErrorKind::PermissionDenied => {
            format!(
                "not permitted. Ports below 1024 need rights that kith should not have; choose another than {}",
                address.port()
            )
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this device has no address {}. Choose one it has in {key}", address.ip())
        }
        _ => cause.to_string(),
    }
}

/// Takes the addresses, all or none. `key` is that of the configuration which has them.
pub async fn bind(addresses: &[SocketAddr], key: &'static str) -> Result<Vec<TcpListener>, ListenError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for &address in addresses {
        let listener = TcpListener::bind(address).await.map_err(|cause| ListenError { address, key, cause })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// What all connections of a listener have in common.
#[derive(Clone)]
pub struct Serving {
    /// Where requests go.
    pub router: axum::Router,
    /// What is shown where TLS is spoken. None: plain HTTP.
    pub certificate: Option<Arc<Shown>>,
    /// The node's time.
    pub clock: Arc<dyn Clock>,
    /// Starts a task for each connection.
    pub spawner: Arc<dyn Spawner>,
    /// Counts what is refused.
    pub stats: Arc<Stats>,
    /// Turns true when the node stops.
    pub stop: watch::Receiver<bool>,
}

/// Serves on `listener` until the node stops; then lets running requests end within a grace time.
pub async fn serve(listener: TcpListener, serving: Serving) {
    let open = Arc::new(AtomicUsize::new(0));
    let visitors = Visitors::default();
    let (clock, mut stop) = (serving.clock.clone(), serving.stop.clone());
    loop {
        let accepted = tokio::select! {
            biased;
            () = async { drop(stop.wait_for(|stop| *stop).await) } => return,
            accepted = listener.accept(), if open.load(Ordering::Acquire) < MAX_CONNECTIONS => accepted,
            () = clock.sleep(Duration::from_millis(20)), if open.load(Ordering::Acquire) >= MAX_CONNECTIONS => continue,
        };
        match accepted {
            Ok((stream, remote)) => {
                let visitor = match &serving.certificate {
                    Some(_) => match visitors.enter(remote.ip()) {
                        Some(visitor) => Some(visitor),
                        None => {
                            serving.stats.connections_refused.add();
                            continue;
                        }
                    },
                    None => None,
                };
                open.fetch_add(1, Ordering::AcqRel);
                let (serving, open) = (serving.clone(), open.clone());
                let spawner = serving.spawner.clone();
                spawner.spawn(
                    "http connection",
                    Box::pin(async move {
                        connection(stream, remote, serving).await;
                        drop(visitor);
                        open.fetch_sub(1, Ordering::AcqRel);
                    }),
                );
            }
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to be given back.
                tracing::warn!(%error, "a connection could not be accepted");
                clock.sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// How many connections each address has. A network of IPv6 is one address: whoever has one, has all of it.
#[derive(Clone, Default)]
struct Visitors(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

impl Visitors {
    /// Counts one in, until what this gives is dropped. None: it has too many.
    fn enter(&self, address: IpAddr) -> Option<Visitor> {
        let address = match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            address => address,
        };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        (*count < OF_ONE_ADDRESS).then(|| {
            *count += 1;
            Visitor { address, of: self.clone() }
        })
    }
}

struct Visitor {
    address: IpAddr,
    of: Visitors,
}

impl Drop for Visitor {
    fn drop(&mut self) {
        let mut counts = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

async fn connection(stream: TcpStream, remote: SocketAddr, serving: Serving) {
    let _ = stream.set_nodelay(true);
    let Some(certificate) = &serving.certificate else { return talk(stream, remote, serving).await };
    match timeout(&*serving.clock, HEAD_TIMEOUT, certificate.accept(stream)).await {
        Ok(Ok(Some(stream))) => talk(stream, remote, serving).await,
        Ok(Ok(None)) => tracing::debug!(%remote, "the certificate's authority was answered"),
        Ok(Err(error)) => tracing::debug!(%remote, %error, "no secure connection"),
        Err(_) => {
            serving.stats.connections_cut.add();
            tracing::debug!(%remote, "no secure connection in time");
        }
    }
}

async fn talk(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, remote: SocketAddr, serving: Serving) {
    let Serving { router, clock, stats, mut stop, .. } = serving;
    let called = Arc::new(AtomicBool::new(false));
    let arrival = Arrival { remote, called: called.clone(), clock: clock.clone() };
    let service = TowerToHyperService::new(router.map_request(move |request| arrival.note(request)));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(64 << 10);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(128)
        .max_header_list_size(32 << 10)
        .keep_alive_interval(Duration::from_secs(30));
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let stopping = async { drop(stop.wait_for(|stop| *stop).await) };
    // hyper's own limit begins with the first byte of HTTP/1; this one also ends connections that say nothing at all.
    let mut silent = silence(&*clock, called);
    let stopped = tokio::select! {
        biased;
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                if is_late(&*error) {
                    stats.connections_cut.add();
                }
                tracing::debug!(%remote, %error, "a connection ended badly");
            }
            false
        }
        () = &mut silent => {
            stats.connections_cut.add();
            false
        }
        () = stopping => true,
    };
    if stopped {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(&*clock, GRACE, connection).await;
    }
}

/// Whether a connection ended because the head of a request took too long.
fn is_late(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<hyper::Error>())
        .any(hyper::Error::is_timeout)
}

/// For whom a proxy on this device speaks: the last address of `X-Forwarded-For`, which is the one that the proxy wrote.
fn behind_proxy(address: IpAddr, headers: &HeaderMap) -> IpAddr {
    let forwarded = headers.get_all("x-forwarded-for").iter().next_back().and_then(|value| value.to_str().ok());
    let last = forwarded.and_then(|list| list.rsplit(',').next()?.trim().parse().ok());
    last.filter(|_| address.to_canonical().is_loopback()).unwrap_or(address)
}

/// What each request of a connection is given on its way to the router.
#[derive(Clone)]
struct Arrival {
    remote: SocketAddr,
    called: Arc<AtomicBool>,
    clock: Arc<dyn Clock>,
}

impl Arrival {
    fn note(&self, request: http::Request<hyper::body::Incoming>) -> http::Request<axum::body::Body> {
        self.called.store(true, Ordering::Release);
        let mut request = request.map(|body| axum::body::Body::new(Patient::new(body, self.clock.clone())));
        let from = behind_proxy(self.remote.ip(), request.headers());
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(from, self.remote.port())));
        request
    }
}

/// Completes if the flag is not set within [`HEAD_TIMEOUT`].
fn silence(clock: &dyn Clock, called: Arc<AtomicBool>) -> BoxFuture<'static, ()> {
    let time_is_up = clock.sleep(HEAD_TIMEOUT);
    Box::pin(async move {
        time_is_up.await;
        if called.load(Ordering::Acquire) {
            std::future::pending::<()>().await;
        }
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::TlsConnector;

    use super::{super::certificate::Certificate, *};
    use crate::platform::{ManualClock, TokioSpawner};

    #[test]
    fn one_address_has_so_many_connections_and_a_network_of_ipv6_is_one() {
        let visitors = Visitors::default();
        let parse = |text: &str| text.parse::<IpAddr>().unwrap();
        for (one, same, other) in
            [("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1")]
        {
            let mut here: Vec<_> = (0..OF_ONE_ADDRESS).map(|_| visitors.enter(parse(one)).unwrap()).collect();
            assert!(visitors.enter(parse(same)).is_none());
            let there = visitors.enter(parse(other));
            assert!(there.is_some());
            here.pop();
            assert!(visitors.enter(parse(same)).is_some());
        }
        assert!(visitors.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_proxy_on_this_device_is_believed_and_nobody_else() {
        let headers = |values: &[&str]| {
            values
                .iter()
                .map(|value| (http::HeaderName::from_static("x-forwarded-for"), value.parse().unwrap()))
                .collect()
        };
        let parse = |text: &str| text.parse::<IpAddr>().unwrap();
        for (from, forwarded, source) in [
            ("127.0.0.1", &[][..], "127.0.0.1"),
            ("127.0.0.1", &["192.0.2.1"][..], "192.0.2.1"),
            ("::1", &["10.9.9.9, 192.0.2.1"][..], "192.0.2.1"),
            ("127.0.0.1", &["192.0.2.1", "2001:db8::1"][..], "2001:db8::1"),
            ("127.0.0.1", &["nonsense"][..], "127.0.0.1"),
            ("192.0.2.9", &["192.0.2.1"][..], "192.0.2.9"),
        ] {
            assert_eq!(behind_proxy(parse(from), &headers(forwarded)), parse(source), "{from} {forwarded:?}");
        }
    }

    /// A listener with TLS, its certificate, its virtual clock and what it counts.
    async fn with_tls() -> (SocketAddr, tempfile::TempDir, Arc<ManualClock>, Arc<Stats>, watch::Sender<bool>) {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (chain, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&chain, made.cert.pem()).unwrap();
        std::fs::write(&key, made.key_pair.serialize_pem()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let (clock, stats) = (Arc::new(ManualClock::new(0)), Arc::new(Stats::default()));
        let serving = Serving {
            router: axum::Router::new().route("/", axum::routing::get(async || "here")),
            certificate: Some(Arc::new(Shown::Files(Arc::new(Certificate::open(chain, key).unwrap())))),
            clock: clock.clone(),
            spawner: Arc::new(TokioSpawner::current()),
            stats: stats.clone(),
            stop: stopped,
        };
        let spawner = serving.spawner.clone();
        spawner.spawn("listener", Box::pin(serve(listener, serving)));
        (address, folder, clock, stats, stop)
    }

    async fn connect(from: &str, to: SocketAddr) -> TcpStream {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        socket.connect(to).await.unwrap()
    }

    /// What a server gets that asks for `/`.
    async fn ask(from: &str, to: SocketAddr, folder: &std::path::Path) -> io::Result<String> {
        let trust = kith_transport::https::tls::client(&[folder.join("cert.pem")]).unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(trust)).connect(name, connect(from, to).await).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// Slow loris: connections that are opened, and say nothing, or a little.
    #[tokio::test]
    async fn peers_that_say_nothing_take_only_their_own_places_and_not_for_long() {
        let (address, folder, clock, stats, _stop) = with_tls().await;
        let mut slow = Vec::new();
        for number in 0..2 * OF_ONE_ADDRESS {
            let mut stream = connect("127.0.0.1", address).await;
            if number % 2 == 0 {
                // The first bytes of a handshake that never goes on.
                let _ = stream.write_all(&[22, 3, 1]).await;
            }
            slow.push(stream);
        }
        assert!(ask("127.0.0.1", address, folder.path()).await.is_err(), "that address has all places it may have");
        let answer = ask("127.0.0.2", address, folder.path()).await.unwrap();
        assert!(answer.ends_with("here"), "another is served at once: {answer}");
        clock.advance(HEAD_TIMEOUT);
        for mut stream in slow {
            let mut rest = Vec::new();
            // A connection that was reset has ended, too.
            let _ = stream.read_to_end(&mut rest).await;
        }
        let answer = ask("127.0.0.1", address, folder.path()).await.unwrap();
        assert!(answer.ends_with("here"), "their places are free again: {answer}");
        let counted = (stats.connections_refused.get(), stats.connections_cut.get());
        assert_eq!(counted, (OF_ONE_ADDRESS as u64 + 1, OF_ONE_ADDRESS as u64));
    }
}
