//! Connections: addresses are looked up once, looked at, and then connected to, so that no second look-up could give another
//! (DNS rebinding).

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{BoxFuture, Either, select};
use futures::stream::FuturesUnordered;
use http::{Uri, header};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::address::is_public;
use super::discovery::{Resolve, Route};
use super::host::{self, Host};
use super::well_known::{Answer, Fetch, MOST_BYTES};
use super::{Counters, HttpsError, tls};
use crate::{BodyError, Timer, empty, read_body};

/// How many addresses of one host are tried.
const MOST_ADDRESSES: usize = 4;
/// The next address is tried when the one before failed, or did not answer so fast; they then run together.
const STAGGER: Duration = Duration::from_millis(300);
/// How long a host has for taking a connection.
const TCP_LIMIT: Duration = Duration::from_secs(8);
/// How long it has for proving who it is.
const TLS_LIMIT: Duration = Duration::from_secs(10);
/// How long it has for a well-known document.
const DOCUMENT_LIMIT: Duration = Duration::from_secs(10);
/// The most of an answer's head that is kept, in bytes.
pub(super) const MOST_HEAD: usize = 64 << 10;

/// Which protocols are offered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    One,
    OneAndTwo,
}

/// Makes connections.
pub(super) struct Connector {
    resolve: Arc<dyn Resolve>,
    timer: Arc<dyn Timer>,
    counters: Arc<Counters>,
    extra_roots: Vec<PathBuf>,
    private: bool,
    /// Made at the first connection: reading the platform's certificates takes a while.
    tls: OnceLock<[Arc<ClientConfig>; 2]>,
}

impl Connector {
    pub(super) fn new(
        resolve: Arc<dyn Resolve>,
        timer: Arc<dyn Timer>,
        counters: Arc<Counters>,
        extra_roots: Vec<PathBuf>,
        private: bool,
    ) -> Self {
        Self { resolve, timer, counters, extra_roots, private, tls: OnceLock::new() }
    }

    /// A connection to the first server of a route that answers and proves to be the one.
    pub(super) async fn connect(
        &self,
        route: &Route,
        offer: Offer,
    ) -> Result<TokioIo<TlsStream<TcpStream>>, HttpsError> {
        let tls = self.tls(offer)?;
        let name = ServerName::try_from(route.certificate.to_string()).map_err(|_| HttpsError::Name)?;
        let mut failure = HttpsError::NotOffered;
        for (host, port) in &route.targets {
            match self.secured(host, *port, &name, &tls).await {
                Ok(stream) => {
                    self.counters.connections.add();
                    return Ok(TokioIo::new(stream));
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn secured(
        &self,
        host: &Host,
        port: u16,
        name: &ServerName<'static>,
        tls: &Arc<ClientConfig>,
    ) -> Result<TlsStream<TcpStream>, HttpsError> {
        let stream = self.tcp(host, port).await?;
        let _ = stream.set_nodelay(true);
        let failed = |reason: String| HttpsError::Tls { host: host.to_string(), reason };
        match self.within(TLS_LIMIT, TlsConnector::from(tls.clone()).connect(name.clone(), stream)).await {
            Some(Ok(stream)) => Ok(stream),
            Some(Err(error)) => Err(failed(error.to_string())),
            None => Err(failed("it took too long".to_owned())),
        }
    }

    async fn tcp(&self, host: &Host, port: u16) -> Result<TcpStream, HttpsError> {
        let found = match host {
            Host::Ip(address) => vec![*address],
            Host::Name(name) => {
                let found = self.resolve.addresses(name).await;
                found.map_err(|reason| HttpsError::Resolve { host: name.clone(), reason })?
            }
        };
        let allowed: Vec<IpAddr> = found.into_iter().filter(|address| self.private || is_public(*address)).collect();
        if allowed.is_empty() {
            self.counters.private_addresses.add();
            return Err(HttpsError::Private { host: host.to_string() });
        }
        let mut waiting = alternating(allowed).into_iter().take(MOST_ADDRESSES).map(|ip| SocketAddr::new(ip, port));
        let mut running = FuturesUnordered::new();
        let mut failure = HttpsError::NotOffered;
        let mut next = waiting.next();
        loop {
            running.extend(next.take().map(|address| self.attempt(address)));
            let answer = match select(running.next(), self.timer.sleep(STAGGER)).await {
                Either::Left((answer, _)) => answer,
                Either::Right(_) => {
                    next = waiting.next();
                    continue;
                }
            };
            match answer {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => failure = error,
                None => return Err(failure),
            }
            next = waiting.next();
        }
    }

    async fn attempt(&self, address: SocketAddr) -> Result<TcpStream, HttpsError> {
        let reason = match self.within(TCP_LIMIT, TcpStream::connect(address)).await {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => error.to_string(),
            None => "it does not answer".to_owned(),
        };
        Err(HttpsError::Connect { address, reason })
    }

    async fn within<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
        match select(std::pin::pin!(future), self.timer.sleep(limit)).await {
            Either::Left((value, _)) => Some(value),
            Either::Right(_) => None,
        }
    }

    fn tls(&self, offer: Offer) -> Result<Arc<ClientConfig>, HttpsError> {
        let made = match self.tls.get() {
            Some(made) => made,
            None => {
                let mut one = tls::client(&self.extra_roots)?;
                one.alpn_protocols = vec![b"http/1.1".to_vec()];
                let mut both = one.clone();
                both.alpn_protocols.insert(0, b"h2".to_vec());
                self.tls.get_or_init(|| [Arc::new(one), Arc::new(both)])
            }
        };
        Ok(made[usize::from(offer == Offer::OneAndTwo)].clone())
    }

    async fn document(&self, url: Uri) -> Result<Answer, String> {
        let authority = url.authority().ok_or("the URL has no host")?.as_str();
        let (host, port) = host::parse(authority).ok_or("the URL's host is none")?;
        let route = Route {
            targets: vec![(host.clone(), port.unwrap_or(443))],
            host_header: authority.to_owned(),
            certificate: host,
        };
        let stream = self.connect(&route, Offer::One).await.map_err(|error| error.to_string())?;
        let mut builder = hyper::client::conn::http1::Builder::new();
        builder.max_buf_size(MOST_HEAD);
        let (mut sender, connection) = builder.handshake(stream).await.map_err(|error| error.to_string())?;
        let request = http::Request::get(url.path_and_query().map_or("/", |path| path.as_str()))
            .header(header::HOST, authority)
            .header(header::USER_AGENT, super::USER_AGENT)
            .header(header::ACCEPT, "application/json")
            .header(header::CONNECTION, "close")
            .body(empty())
            .map_err(|error| error.to_string())?;
        let exchange = async {
            let (parts, body) = sender.send_request(request).await.map_err(|error| error.to_string())?.into_parts();
            let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
            let (location, cache_control) = (text(header::LOCATION), text(header::CACHE_CONTROL));
            let expires = text(header::DATE).zip(text(header::EXPIRES)).map(Into::into);
            let status = parts.status.as_u16();
            // Only this one's body is of interest.
            let body = match status {
                200 => match read_body(crate::boxed(body), MOST_BYTES).await {
                    Ok(body) => Some(body),
                    Err(BodyError::TooLarge { .. }) => None,
                    Err(error) => return Err(error.to_string()),
                },
                _ => Some(bytes::Bytes::new()),
            };
            Ok(Answer { status, location, cache_control, expires, body })
        };
        let (mut exchange, connection) = (std::pin::pin!(exchange), std::pin::pin!(connection));
        match select(exchange.as_mut(), connection).await {
            Either::Left((answer, _)) => answer,
            // The connection may end in good order just before its answer was read.
            Either::Right(_) => exchange.await,
        }
    }
}

impl Fetch for Connector {
    fn get(&self, url: Uri) -> BoxFuture<'_, Result<Answer, String>> {
        Box::pin(async move {
            let answer = self.within(DOCUMENT_LIMIT, self.document(url)).await;
            answer.unwrap_or_else(|| Err("it took too long".to_owned()))
        })
    }
}

/// One address of each kind after the other, in their order, so that a network without one kind costs little.
fn alternating(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let (six, four): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv6);
    let longer = six.len().max(four.len());
    let (six, four) = (six.into_iter().map(Some), four.into_iter().map(Some));
    let (six, four) = (six.chain(std::iter::repeat(None)), four.chain(std::iter::repeat(None)));
    six.zip(four).take(longer).flat_map(|(six, four)| [six, four]).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_addresses_are_tried_in_turn() {
        let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let mixed = parse(&["::1", "::2", "::3", "1.1.1.1"]);
        assert_eq!(alternating(mixed), parse(&["::1", "1.1.1.1", "::2", "::3"]));
        assert_eq!(alternating(parse(&["1.1.1.1", "1.1.1.2"])), parse(&["1.1.1.1", "1.1.1.2"]));
        assert!(alternating(Vec::new()).is_empty());
    }
}
