//! HTTP/1.1 with and without TLS: one connection per request. What is asked here is asked now and then, or is on this device.
//!
//! A name is resolved once, and the address that was looked at is the one that is connected to: no second look-up could
//! give another.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, Uri, header, uri::Scheme};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use kith_transport::{https::tls, is_public};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{Longer, Reach, Web, WebError};

/// How many addresses of a host are tried.
const MOST_ADDRESSES: usize = 4;

/// The real client.
pub struct Client {
    extra_roots: Vec<PathBuf>,
    /// Made at the first request that needs it: reading the platform's certificates takes a while.
    tls: OnceLock<Arc<ClientConfig>>,
}

impl Client {
    /// A client that trusts the platform's certificates, and those in these PEM files.
    pub fn new(extra_roots: Vec<PathBuf>) -> Self {
        Self { extra_roots, tls: OnceLock::new() }
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, WebError> {
        if let Some(tls) = self.tls.get() {
            return Ok(tls.clone());
        }
        let tls = Arc::new(tls::client(&self.extra_roots).map_err(|error| WebError::Tls(error.to_string()))?);
        Ok(self.tls.get_or_init(|| tls).clone())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("extra_roots", &self.extra_roots).finish_non_exhaustive()
    }
}

impl Web for Client {
    fn call(&self, request: Request<Bytes>, reach: Reach) -> BoxFuture<'static, Result<Response<Bytes>, WebError>> {
        let tls = match request.uri().scheme() == Some(&Scheme::HTTPS) {
            true => self.tls().map(Some),
            false => Ok(None),
        };
        Box::pin(async move {
            let tls = tls?;
            let target = Target::of(request.uri())?;
            let stream = connect(&target, reach.private).await?;
            match tls {
                None => talk(stream, request, &target, reach).await,
                Some(tls) => {
                    let name = ServerName::try_from(target.host.clone())
                        .map_err(|_| WebError::Url("its host is no name that a certificate could have"))?;
                    let stream = TlsConnector::from(tls).connect(name, stream).await;
                    talk(stream.map_err(|error| WebError::Tls(error.to_string()))?, request, &target, reach).await
                }
            }
        })
    }
}

/// Whom a URL names.
struct Target {
    /// A name, or an address without brackets.
    host: String,
    port: u16,
    /// As it stands in `Host`.
    authority: HeaderValue,
}

impl Target {
    fn of(uri: &Uri) -> Result<Self, WebError> {
        let standard = match uri.scheme_str() {
            Some("http") => 80,
            Some("https") => 443,
            _ => return Err(WebError::Url("it begins neither with http:// nor with https://")),
        };
        let authority = uri.authority().ok_or(WebError::Url("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(WebError::Url("it has a user name in it"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(WebError::Url("it has no host"));
        }
        let value = HeaderValue::from_str(authority.as_str()).map_err(|_| WebError::Url("its host is no name"))?;
        Ok(Self { host: host.to_owned(), port: authority.port_u16().unwrap_or(standard), authority: value })
    }
}

async fn connect(target: &Target, private: bool) -> Result<TcpStream, WebError> {
    let addresses: Vec<SocketAddr> = match target.host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, target.port)],
        Err(_) => {
            let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await;
            found.map_err(WebError::Resolve)?.collect()
        }
    };
    let mut failure = WebError::Private;
    let allowed = addresses.into_iter().filter(|address| private || is_public(address.ip()));
    for address in allowed.take(MOST_ADDRESSES) {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => failure = WebError::Connect(error),
        }
    }
    Err(failure)
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Bytes>,
    target: &Target,
    reach: Reach,
) -> Result<Response<Bytes>, WebError> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = path.parse().map_err(|_| WebError::Url("its path is none"))?;
    parts.headers.insert(header::HOST, target.authority.clone());
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    parts.headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static("kith"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let response = sender.send_request(Request::from_parts(parts, Full::new(body))).await?;
        let (parts, mut body) = response.into_parts();
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = match (frame, reach.longer) {
                (Ok(frame), _) => frame,
                // Many servers end an answer without a word. Who takes a beginning takes this one.
                (Err(_), Longer::Cut) => break,
                (Err(error), Longer::Refuse) => return Err(error.into()),
            };
            let Ok(data) = frame.into_data() else { continue };
            let room = reach.most.saturating_sub(bytes.len());
            bytes.extend_from_slice(data.get(..room).unwrap_or(&data));
            if data.len() > room {
                match reach.longer {
                    Longer::Refuse => return Err(WebError::TooLong(reach.most)),
                    Longer::Cut => break,
                }
            }
        }
        Ok(Response::from_parts(parts, bytes.freeze()))
    };
    let mut exchange = std::pin::pin!(exchange);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        // The connection may end in good order just before its answer was read.
        _ = &mut connection => exchange.await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// Answers one request with `answer`; gives its address and what it was asked.
    async fn server(answer: &'static str) -> (SocketAddr, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        #[expect(clippy::disallowed_methods, reason = "the other end of a real connection")]
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let length = stream.read(&mut asked).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            asked.truncate(length);
            String::from_utf8(asked).unwrap()
        });
        (address, asked)
    }

    fn get(url: &str) -> Request<Bytes> {
        Request::get(url).body(Bytes::new()).unwrap()
    }

    const ANYWHERE: Reach = Reach { private: true, most: 10, longer: Longer::Refuse };

    #[tokio::test]
    async fn a_request_reaches_a_server_and_brings_its_answer_home() {
        let (address, asked) = server("HTTP/1.1 418 I'm a teapot\r\nContent-Length: 5\r\nX-A: b\r\n\r\nshort").await;
        let url = format!("http://{address}/path?query=1");
        let request = Request::post(&url).body(Bytes::from_static(b"hello")).unwrap();
        let answer = Client::new(Vec::new()).call(request, ANYWHERE).await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.body()[..]), (418, &b"short"[..]));
        assert_eq!(answer.headers()["x-a"], "b");
        let asked = asked.await.unwrap();
        assert!(asked.starts_with("POST /path?query=1 HTTP/1.1\r\n") && asked.ends_with("\r\n\r\nhello"), "{asked}");
        assert!(asked.to_lowercase().contains(&format!("\r\nhost: {address}\r\n")), "{asked}");
    }

    #[tokio::test]
    async fn an_answer_that_is_too_long_is_refused_or_cut() {
        let client = Client::new(Vec::new());
        let long = "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n0123456789abcdef";
        let (address, _asked) = server(long).await;
        let refused = client.call(get(&format!("http://{address}/")), ANYWHERE).await;
        assert!(matches!(refused, Err(WebError::TooLong(10))), "{refused:?}");
        let (address, _asked) = server(long).await;
        let cut = client.call(get(&format!("http://{address}/")), Reach { longer: Longer::Cut, ..ANYWHERE }).await;
        assert_eq!(&cut.unwrap().body()[..], b"0123456789");
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_a_beginning_or_nothing() {
        let client = Client::new(Vec::new());
        let broken = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort";
        let (address, _asked) = server(broken).await;
        let refused = client.call(get(&format!("http://{address}/")), ANYWHERE).await;
        assert!(matches!(refused, Err(WebError::Http(_))), "{refused:?}");
        let (address, _asked) = server(broken).await;
        let cut = client.call(get(&format!("http://{address}/")), Reach { longer: Longer::Cut, ..ANYWHERE }).await;
        assert_eq!(&cut.unwrap().body()[..], b"short");
    }

    #[tokio::test]
    async fn private_addresses_are_not_reached_by_number_or_name_unless_allowed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = Client::new(Vec::new());
        let public = Reach { private: false, ..ANYWHERE };
        for host in ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost", "0.0.0.0"] {
            for scheme in ["http", "https"] {
                let answer = client.call(get(&format!("{scheme}://{host}:{port}/")), public).await;
                assert!(matches!(answer, Err(WebError::Private | WebError::Tls(_))), "{scheme} {host}: {answer:?}");
            }
        }
        let nobody_came = futures::poll!(std::pin::pin!(listener.accept())).is_pending();
        assert!(nobody_came);
        for url in ["ftp://example.org/", "http://user@127.0.0.1/", "/path"] {
            let answer = client.call(get(url), ANYWHERE).await;
            assert!(matches!(answer, Err(WebError::Url(_))), "{url}: {answer:?}");
        }
    }
}
