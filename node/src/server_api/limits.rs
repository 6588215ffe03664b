//! What one source of requests may take: requests per second, requests at a time, large bodies at a time.
//!
//! The source is the peer that brought the request, whose key the transport has proven, or the address of the connection: where a
//! proxy on this device made it, the one that the proxy says it comes from. The
//! server named in the request is not used: anybody can write any name there, and would use up another's share.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::Body,
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::HeaderMap;
use http_body_util::Limited;
use kith_transport::{RemotePeer, ServerKey};
use tokio::sync::Semaphore;

use crate::{Node, config::Rate, http::MatrixError};

/// How many periods' worth of requests may come at once before the rate counts.
const BURST: u32 = 5;
/// Small requests worked on at a time.
const SMALL: usize = 16;
/// Requests with large bodies (transactions, membership events) worked on at a time.
const LARGE: usize = 4;
/// Requests that wait for their turn; more are refused.
const WAITING: usize = 256;
/// The longest body of a small request.
const SMALL_BODY: usize = 1 << 20;
/// Sources remembered; then those that ask for nothing now are forgotten.
const SOURCES: usize = 4_096;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Peer(ServerKey),
    Address(IpAddr),
    /// A call in process.
    Own,
}

#[derive(Debug)]
struct Share {
    /// What is left to spend, and when that was so: each second gives one second, each request costs its part of the period.
    left: Duration,
    at: Duration,
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

/// The shares of all sources.
#[derive(Debug, Default)]
pub struct Limits {
    shares: Mutex<BTreeMap<Source, Share>>,
}

impl Limits {
    /// Takes one request off a source's share. Gives the queue to wait in, or after how many milliseconds to come again.
    fn take(&self, source: Source, large: bool, now: Duration, rate: Option<Rate>) -> Result<Arc<Semaphore>, u64> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if shares.len() >= SOURCES && !shares.contains_key(&source) {
            shares.retain(|_, share| Arc::strong_count(&share.small) > 1 || Arc::strong_count(&share.large) > 1);
            if shares.len() >= SOURCES {
                return Err(1_000);
            }
        }
        let share = shares.entry(source).or_insert_with(|| Share {
            left: Duration::MAX,
            at: now,
            small: Arc::new(Semaphore::new(SMALL)),
            large: Arc::new(Semaphore::new(LARGE)),
        });
        let cost = rate.map_or(Duration::ZERO, |rate| rate.per / rate.count.max(1));
        let most = rate.map_or(Duration::MAX, |rate| rate.per.saturating_mul(BURST).max(cost));
        share.left = share.left.saturating_add(now.saturating_sub(share.at)).min(most);
        share.at = now;
        if share.left < cost {
            let wait = (cost - share.left).as_micros().div_ceil(1_000);
            return Err(u64::try_from(wait).unwrap_or(u64::MAX).max(1));
        }
        let (queue, at_once) = if large { (&share.large, LARGE) } else { (&share.small, SMALL) };
        // The map has one clone, each request that runs or waits has another.
        if Arc::strong_count(queue) > 1 + at_once + WAITING {
            return Err(1_000);
        }
        share.left -= cost;
        Ok(queue.clone())
    }
}

/// For whom a proxy on this device speaks: the last address of `X-Forwarded-For`, which is the one that the proxy wrote.
fn behind_proxy(address: IpAddr, headers: &HeaderMap) -> IpAddr {
    let forwarded = headers.get_all("x-forwarded-for").iter().next_back().and_then(|value| value.to_str().ok());
    let last = forwarded.and_then(|list| list.rsplit(',').next()?.trim().parse().ok());
    last.filter(|_| address.to_canonical().is_loopback()).unwrap_or(address)
}

/// Whether a request may have a large body.
fn is_large(request: &Request) -> bool {
    request.method() == http::Method::PUT
}

/// The layer around all federation routes.
pub async fn admit(State(node): State<Arc<Node>>, request: Request, next: Next) -> Response {
    let source = match (request.extensions().get::<RemotePeer>(), request.extensions().get::<ConnectInfo<SocketAddr>>())
    {
        (Some(RemotePeer(key)), _) => Source::Peer(*key),
        (None, Some(ConnectInfo(address))) => Source::Address(behind_proxy(address.ip(), request.headers())),
        (None, None) => Source::Own,
    };
    let large = is_large(&request);
    let rate = node.config.limits.rate_limits.then_some(node.config.limits.rate_federation);
    let queue = match node.federation.limits.take(source, large, node.clock.monotonic(), rate) {
        Ok(queue) => queue,
        Err(retry_after) => {
            node.federation.stats.limited_requests.add();
            return MatrixError::limit_exceeded(retry_after).into_response();
        }
    };
    let Ok(_place) = queue.acquire_owned().await else {
        return MatrixError::limit_exceeded(1_000).into_response();
    };
    let request = if large { request } else { request.map(|body| Body::new(Limited::new(body, SMALL_BODY))) };
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Option<Rate> = Some(Rate::per_second(200));

    fn source(n: u8) -> Source {
        Source::Address(IpAddr::from([127, 0, 0, n]))
    }

    #[test]
    fn a_source_that_floods_waits_and_another_does_not() {
        let limits = Limits::default();
        let now = Duration::from_secs(5);
        for _ in 0..1_000 {
            assert!(limits.take(source(1), false, now, RATE).is_ok());
        }
        let retry = limits.take(source(1), false, now, RATE).unwrap_err();
        assert_eq!(retry, 5);
        assert!(limits.take(source(2), false, now, RATE).is_ok());
        let later = now + Duration::from_millis(retry);
        assert!(limits.take(source(1), false, later, RATE).is_ok());
        assert!(limits.take(source(1), false, later, RATE).is_err());
        assert!(limits.take(source(1), false, later, None).is_ok(), "limits are off");
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

    #[test]
    fn requests_that_wait_are_bounded_for_each_source() {
        let limits = Limits::default();
        let now = Duration::ZERO;
        let waiting: Vec<_> = (0..=LARGE + WAITING).map(|_| limits.take(source(1), true, now, RATE).unwrap()).collect();
        assert!(limits.take(source(1), true, now, RATE).is_err());
        assert!(limits.take(source(1), false, now, RATE).is_ok(), "small ones have a queue of their own");
        assert!(limits.take(source(2), true, now, RATE).is_ok());
        drop(waiting);
        assert!(limits.take(source(1), true, now, RATE).is_ok());
    }

    #[test]
    fn sources_are_bounded_and_idle_ones_are_forgotten() {
        let limits = Limits::default();
        let at = |n: usize| Source::Address(IpAddr::from((n as u32).to_be_bytes()));
        let mut held = Vec::new();
        for n in 0..SOURCES {
            held.push(limits.take(at(n), false, Duration::ZERO, RATE).unwrap());
        }
        assert!(limits.take(at(SOURCES), false, Duration::ZERO, RATE).is_err());
        held.clear();
        assert!(limits.take(at(SOURCES), false, Duration::ZERO, RATE).is_ok());
        assert_eq!(limits.shares.lock().unwrap().len(), 1);
    }
}
