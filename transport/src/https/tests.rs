//! Over real sockets and TLS on loopback, with DNS that the test makes up.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::Uri;
use http_body_util::BodyExt as _;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::srv::Srv;
use super::well_known::Fetch as _;
use super::*;
use crate::{TokioTimer, full, read_body};

/// A certificate authority in a folder.
struct Authority {
    folder: TempDir,
    certificate: Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { folder, certificate, key }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What a server needs that is certified to be `name`.
    fn server(&self, name: &str) -> rustls::ServerConfig {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.certificate, &self.key).unwrap();
        std::fs::write(self.path("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
        tls::server(&self.path("cert.pem"), &self.path("key.pem")).unwrap()
    }
}

/// All names are this device; some have SRV records.
#[derive(Default)]
struct Names(BTreeMap<String, u16>);

impl Resolve for Names {
    fn addresses<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, String>> {
        Box::pin(async { Ok(vec!["127.0.0.1".parse().unwrap()]) })
    }

    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Srv>, String>> {
        let port = self.0.get(name).copied();
        let records = port.map(|port| Srv { priority: 1, weight: 1, target: "target.test".to_owned(), port });
        Box::pin(async { Ok(records.into_iter().collect()) })
    }
}

fn spawn() -> Spawn {
    #[expect(clippy::disallowed_methods, reason = "the tasks of a test over real sockets")]
    Arc::new(|task| drop(tokio::spawn(task)))
}

fn https(authority: &Authority, private: bool, names: Names) -> Https {
    let config = HttpsConfig { extra_roots: vec![authority.path("ca.pem")], allow_private_addresses: private };
    let timer = Arc::new(TokioTimer::default());
    Https::with(config, timer, spawn(), Arc::new(|_| 0), Arc::new(names))
}

/// What a server saw of each request: protocol, method, target, `Host` or authority, body.
type Seen = Arc<Mutex<Vec<(http::Version, String, String)>>>;

struct Server {
    port: u16,
    seen: Seen,
    connections: Arc<AtomicUsize>,
}

/// Answers each request with its body. Without `kept`, it closes each connection after its first response without a word.
async fn serve(mut config: rustls::ServerConfig, protocols: &[&str], kept: bool) -> Server {
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (seen, connections) = (Seen::default(), Arc::new(AtomicUsize::new(0)));
    let (log, count, start) = (seen.clone(), connections.clone(), spawn());
    let start_connection = start.clone();
    start(Box::pin(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let (acceptor, log) = (acceptor.clone(), log.clone());
            start_connection(Box::pin(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let answered = Arc::new(tokio::sync::Notify::new());
                let done = answered.clone();
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let (log, done) = (log.clone(), done.clone());
                    async move {
                        let host = request.headers().get("host").and_then(|host| host.to_str().ok());
                        let host =
                            host.or(request.uri().authority().map(|a| a.as_str())).unwrap_or_default().to_owned();
                        let what = format!("{} {}", request.method(), request.uri().path_and_query().unwrap());
                        log.lock().unwrap().push((request.version(), what, host));
                        let body = request.into_body().collect().await?.to_bytes();
                        done.notify_one();
                        Ok::<_, hyper::Error>(http::Response::new(full(body)))
                    }
                });
                let builder = auto::Builder::new(TokioExecutor::new());
                let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
                if kept {
                    let _ = connection.await;
                    return;
                }
                // Until the response has left.
                while answered.notified().now_or_never().is_none() {
                    if futures::poll!(connection.as_mut()).is_ready() {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
                for _ in 0..20 {
                    let _ = futures::poll!(connection.as_mut());
                    tokio::task::yield_now().await;
                }
            }));
        }
    }));
    Server { port, seen, connections }
}

async fn post(https: &Https, name: &str, body: &'static str) -> Result<Bytes, HttpsError> {
    let request = http::Request::post(format!("https://{name}/path?query=1")).body(full(body)).unwrap();
    let response = https.request(name, Class::Control, request).await?;
    Ok(read_body(response.into_body(), 1000).await.unwrap())
}

#[tokio::test]
async fn a_request_reaches_the_server_and_the_connection_is_used_again() {
    let authority = Authority::new();
    for (protocol, version) in [("http/1.1", http::Version::HTTP_11), ("h2", http::Version::HTTP_2)] {
        let server = serve(authority.server("localhost"), &[protocol], true).await;
        let https = https(&authority, true, Names::default());
        let name = format!("localhost:{}", server.port);
        for body in ["one", "two", ""] {
            assert_eq!(post(&https, &name, body).await.unwrap(), body);
            // The connection comes back by a task.
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(server.connections.load(Ordering::SeqCst), 1, "{protocol}");
        let seen = server.seen.lock().unwrap();
        assert_eq!(seen.len(), 3);
        assert!(seen.iter().all(|seen| *seen == (version, "POST /path?query=1".to_owned(), name.clone())), "{seen:?}");
    }
}

#[tokio::test]
async fn a_server_behind_an_srv_record_proves_the_name_that_was_asked_for_not_its_own() {
    let authority = Authority::new();
    for (certified, good) in [("name.test", true), ("target.test", false)] {
        let server = serve(authority.server(certified), &["http/1.1"], true).await;
        let names = Names([("_matrix-fed._tcp.name.test".to_owned(), server.port)].into());
        let https = https(&authority, true, names);
        let answer = post(&https, "name.test", "hello").await;
        assert_eq!(answer.is_ok(), good, "{certified}: {answer:?}");
        let seen = server.seen.lock().unwrap();
        if good {
            assert_eq!(seen[0].2, "name.test");
        } else {
            assert!(seen.is_empty() && matches!(answer, Err(HttpsError::Tls { .. })));
        }
    }
}

#[tokio::test]
async fn a_server_certified_by_somebody_whom_nobody_trusts_is_refused() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = serve(stranger.server("localhost"), &["http/1.1"], true).await;
    let https = https(&authority, true, Names::default());
    let answer = post(&https, &format!("localhost:{}", server.port), "hello").await;
    assert!(matches!(&answer, Err(error @ HttpsError::Tls { .. }) if !error.maybe_delivered()), "{answer:?}");
    assert!(server.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn private_addresses_are_refused_after_the_look_up_and_nobody_is_connected_to() {
    let authority = Authority::new();
    let server = serve(authority.server("rebinding.test"), &["http/1.1"], true).await;
    let https = https(&authority, false, Names::default());
    for host in ["rebinding.test", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "10.0.0.1"] {
        let answer = post(&https, &format!("{host}:{}", server.port), "hello").await;
        assert!(matches!(answer, Err(HttpsError::Private { .. })), "{host}: {answer:?}");
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
    assert!(https.stats().contains(&("https_private_addresses", 6)));
}

#[tokio::test]
async fn a_connection_that_the_server_closed_meanwhile_costs_no_request() {
    let authority = Authority::new();
    let server = serve(authority.server("localhost"), &["http/1.1"], false).await;
    let https = https(&authority, true, Names::default());
    let name = format!("localhost:{}", server.port);
    for body in ["one", "two", "three"] {
        assert_eq!(post(&https, &name, body).await.unwrap(), body);
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        #[expect(clippy::disallowed_methods, reason = "the other side's goodbye crosses the loopback in real time")]
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 3);
}

/// A server that says `head`, then `rest` again and again.
async fn endless(config: rustls::ServerConfig, head: &'static str, rest: &'static [u8]) -> u16 {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    spawn()(Box::pin(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        let _ = stream.read(&mut [0; 1000]).await;
        let _ = stream.write_all(head.as_bytes()).await;
        while !rest.is_empty() && stream.write_all(rest).await.is_ok() {}
        std::future::pending::<()>().await;
    }));
    port
}

/// A timer whose long waits are over at once.
struct Hasty;

impl Timer for Hasty {
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        #[expect(clippy::disallowed_methods, reason = "long enough for a loopback to answer")]
        Box::pin(tokio::time::sleep(duration / 20))
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

fn connector(ca: &Path) -> Connector {
    Connector::new(Arc::new(Names::default()), Arc::new(Hasty), Arc::default(), vec![ca.to_owned()], true)
}

#[tokio::test]
async fn a_document_that_never_ends_and_a_server_that_says_nothing_are_given_up() {
    const FILLER: &[u8] = &[b' '; 16 << 10];
    let authority = Authority::new();
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n";
    for (head, rest, reason) in [
        ("HTTP/1.1 200 OK\r\nX-Long: ", FILLER, "too large"),
        ("", b"".as_slice(), "too long"),
        (length, b"".as_slice(), "too long"),
    ] {
        let port = endless(authority.server("localhost"), head, rest).await;
        let url: Uri = format!("https://localhost:{port}/.well-known/matrix/server").parse().unwrap();
        let error = connector(&authority.path("ca.pem")).get(url).await.unwrap_err();
        assert!(error.contains(reason), "{head:?}: {error}");
    }
    let port = endless(authority.server("localhost"), length, FILLER).await;
    let url: Uri = format!("https://localhost:{port}/.well-known/matrix/server").parse().unwrap();
    let answer = connector(&authority.path("ca.pem")).get(url).await.unwrap();
    assert_eq!((answer.status, answer.body), (200, None), "a document of 1 GiB is not read");
}

#[test]
fn what_is_wrong_with_certificates_is_said_with_the_file() {
    let authority = Authority::new();
    let path = |name: &str| authority.path(name);
    authority.server("localhost");
    std::fs::write(path("empty.pem"), "").unwrap();
    std::fs::write(path("other.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    for (certificate, key, named) in [
        ("missing.pem", "key.pem", "missing.pem"),
        ("empty.pem", "key.pem", "empty.pem"),
        ("cert.pem", "missing.pem", "missing.pem"),
        ("cert.pem", "cert.pem", "cert.pem"),
        ("cert.pem", "other.pem", "other.pem"),
    ] {
        let error = tls::server(&path(certificate), &path(key)).unwrap_err().to_string();
        assert!(error.contains(named), "{certificate} {key}: {error}");
    }
    let error = tls::client(&[path("missing.pem")]).unwrap_err().to_string();
    assert!(error.contains("missing.pem"), "{error}");
}
