//! What one source of requests may take: requests per second, requests at a time, large bodies at a time.
//!
//! The source is the peer that brought the request, whose key the transport has proven, or the address it comes from. The
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
use http::StatusCode;
use http_body_util::Limited;
use kith_transport::{RemotePeer, ServerKey};
use tokio::sync::Semaphore;

use crate::{Node, config::Rate, http::MatrixError};

/// How many periods' worth of requests may come at once before the rate counts.
const BURST: u32 = 5;
/// Requests of each [`Kind`] worked on at a time.
const AT_A_TIME: [usize; 3] = [16, 4, 4];
/// Requests that wait for their turn; more are refused.
const WAITING: usize = 256;
/// The longest body of a request, unless that may be large.
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

/// What a request takes. Each kind has its own queue: a server that asks for much can still send, and is not asked for while it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Small,
    /// Its body may be large: transactions, membership events.
    Large,
    /// Much is read or fetched for it: states, auth chains, the keys of other servers.
    Costly,
}

impl Kind {
    fn of(request: &Request) -> Self {
        const COSTLY: [&str; 4] = [
            "/_matrix/federation/v1/state/",
            "/_matrix/federation/v1/state_ids/",
            "/_matrix/federation/v1/event_auth/",
            "/_matrix/key/v2/query",
        ];
        if request.method() == http::Method::PUT {
            return Self::Large;
        }
        match COSTLY.iter().any(|path| request.uri().path().starts_with(path)) {
            true => Self::Costly,
            false => Self::Small,
        }
    }
}

#[derive(Debug)]
struct Share {
    /// What is left to spend, and when that was so: each second gives one second, each request costs its part of the period.
    left: Duration,
    at: Duration,
    queues: [Arc<Semaphore>; 3],
}

/// The shares of all sources.
#[derive(Debug, Default)]
pub struct Limits {
    shares: Mutex<BTreeMap<Source, Share>>,
}

impl Limits {
    /// Takes one request off a source's share. Gives the queue to wait in, or after how many milliseconds to come again.
    fn take(&self, source: Source, kind: Kind, now: Duration, rate: Option<Rate>) -> Result<Arc<Semaphore>, u64> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if shares.len() >= SOURCES && !shares.contains_key(&source) {
            shares.retain(|_, share| share.queues.iter().any(|queue| Arc::strong_count(queue) > 1));
            if shares.len() >= SOURCES {
                return Err(1_000);
            }
        }
        let share = shares.entry(source).or_insert_with(|| Share {
            left: Duration::MAX,
            at: now,
            queues: AT_A_TIME.map(|places| Arc::new(Semaphore::new(places))),
        });
        let cost = rate.map_or(Duration::ZERO, |rate| rate.per / rate.count.max(1));
        let most = rate.map_or(Duration::MAX, |rate| rate.per.saturating_mul(BURST).max(cost));
        share.left = share.left.saturating_add(now.saturating_sub(share.at)).min(most);
        share.at = now;
        if share.left < cost {
            let wait = (cost - share.left).as_micros().div_ceil(1_000);
            return Err(u64::try_from(wait).unwrap_or(u64::MAX).max(1));
        }
        let queue = &share.queues[kind as usize];
        // The map has one clone, each request that runs or waits has another.
        if Arc::strong_count(queue) > 1 + AT_A_TIME[kind as usize] + WAITING {
            return Err(1_000);
        }
        share.left -= cost;
        Ok(queue.clone())
    }
}

/// The layer around all federation routes.
pub async fn admit(State(node): State<Arc<Node>>, request: Request, next: Next) -> Response {
    let source = match (request.extensions().get::<RemotePeer>(), request.extensions().get::<ConnectInfo<SocketAddr>>())
    {
        (Some(RemotePeer(key)), _) => Source::Peer(*key),
        (None, Some(ConnectInfo(address))) => Source::Address(address.ip()),
        (None, None) => Source::Own,
    };
    let kind = Kind::of(&request);
    let rate = node.config.limits.rate_limits.then_some(node.config.limits.rate_federation);
    let queue = match node.federation.limits.take(source, kind, node.clock.monotonic(), rate) {
        Ok(queue) => queue,
        Err(retry_after) => {
            node.federation.stats.limited_requests.add();
            return MatrixError::limit_exceeded(retry_after).into_response();
        }
    };
    let Ok(_place) = queue.acquire_owned().await else {
        return MatrixError::limit_exceeded(1_000).into_response();
    };
    let request = match kind {
        Kind::Large => request,
        Kind::Small | Kind::Costly => request.map(|body| Body::new(Limited::new(body, SMALL_BODY))),
    };
    let response = next.run(request).await;
    if matches!(response.status(), StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT) {
        node.federation.stats.bodies_refused.add();
    }
    response
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
            assert!(limits.take(source(1), Kind::Small, now, RATE).is_ok());
        }
        let retry = limits.take(source(1), Kind::Small, now, RATE).unwrap_err();
        assert_eq!(retry, 5);
        assert!(limits.take(source(2), Kind::Small, now, RATE).is_ok());
        let later = now + Duration::from_millis(retry);
        assert!(limits.take(source(1), Kind::Small, later, RATE).is_ok());
        assert!(limits.take(source(1), Kind::Small, later, RATE).is_err());
        assert!(limits.take(source(1), Kind::Small, later, None).is_ok(), "limits are off");
    }

    #[test]
    fn requests_that_wait_are_bounded_for_each_source() {
        let limits = Limits::default();
        let now = Duration::ZERO;
        let waiting: Vec<_> = (0..=AT_A_TIME[Kind::Large as usize] + WAITING)
            .map(|_| limits.take(source(1), Kind::Large, now, RATE).unwrap())
            .collect();
        assert!(limits.take(source(1), Kind::Large, now, RATE).is_err());
        assert!(limits.take(source(1), Kind::Small, now, RATE).is_ok(), "small ones have a queue of their own");
        assert!(limits.take(source(1), Kind::Costly, now, RATE).is_ok(), "and so do costly ones");
        assert!(limits.take(source(2), Kind::Large, now, RATE).is_ok());
        drop(waiting);
        assert!(limits.take(source(1), Kind::Large, now, RATE).is_ok());
    }

    #[test]
    fn what_is_costly_is_told_by_the_path() {
        let kind = |method: &str, path: &str| {
            Kind::of(&Request::builder().method(method).uri(path).body(Body::empty()).unwrap())
        };
        assert_eq!(kind("PUT", "/_matrix/federation/v1/send/1"), Kind::Large);
        assert_eq!(kind("GET", "/_matrix/federation/v1/state_ids/!room?event_id=$e"), Kind::Costly);
        assert_eq!(kind("POST", "/_matrix/key/v2/query"), Kind::Costly);
        assert_eq!(kind("GET", "/_matrix/key/v2/query/example.org"), Kind::Costly);
        assert_eq!(kind("GET", "/_matrix/key/v2/server"), Kind::Small);
        assert_eq!(kind("GET", "/_matrix/federation/v1/event/$e"), Kind::Small);
    }

    #[test]
    fn sources_are_bounded_and_idle_ones_are_forgotten() {
        let limits = Limits::default();
        let at = |n: usize| Source::Address(IpAddr::from((n as u32).to_be_bytes()));
        let mut held = Vec::new();
        for n in 0..SOURCES {
            held.push(limits.take(at(n), Kind::Small, Duration::ZERO, RATE).unwrap());
        }
        assert!(limits.take(at(SOURCES), Kind::Small, Duration::ZERO, RATE).is_err());
        held.clear();
        assert!(limits.take(at(SOURCES), Kind::Small, Duration::ZERO, RATE).is_ok());
        assert_eq!(limits.shares.lock().unwrap().len(), 1);
    }
}
