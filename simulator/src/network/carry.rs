//! The way of a request and of its answer.
//!
//! A request goes whole: its turn at the bandwidth, then latency and jitter. At the other side it is a task of that node, which
//! goes on even if the sender has given up. An answer's head comes with the first part of its body, the rest part by part. What
//! is lost, or whose link goes meanwhile, the sender learns of after the time it takes to notice.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::channel::{mpsc, oneshot};
use futures::{FutureExt as _, StreamExt as _};
use http_body::Frame;
use http_body_util::StreamBody;
use kith::platform::Spawner as _;
use kith_transport::{Body, BoxError, NetworkError, RemotePeer, ServerKey, boxed, full, read_body};

use super::{Air, Passed, conditions};
use crate::engine::millis;

/// Told whether it arrived.
pub(super) type OnArrival = Box<dyn FnOnce(bool) + Send>;

/// The largest body: as large as a node lets a file be by default.
const MOST_BYTES: usize = 128 << 20;
/// About what the head of a request or answer takes, compressed and encrypted, with its signature.
const HEAD_BYTES: usize = 250;
/// An answer's body goes in parts of this size.
const PART: usize = 64 << 10;

/// Carries so many bytes from one node to another: both must run, and have a link, from its beginning to its end.
pub(super) fn begin(air: &Air, from: u32, to: u32, bytes: usize, arrival: OnArrival) {
    let mut state = air.lock();
    let calm = state.calm;
    let run = |number: u32| state.node(number).and_then(|node| node.here.as_ref()).map(|here| here.run);
    let runs = (run(from), run(to));
    let up = state.linked(from, to);
    let network = &air.0.network;
    let mut delay = conditions::latency(&network.latency, air.0.seed, from, to);
    let mut lost = !up;
    if let Some(node) = state.node(from)
        && !calm
    {
        lost |= node.random.chance(network.loss);
        delay += millis(node.random.between(0.0, network.jitter_ms));
    }
    let end = air.clone();
    let finish = move || {
        if lost {
            return end.lose(from, to, bytes, arrival);
        }
        let timeline = end.0.timeline.clone();
        timeline.after(delay, move || {
            let (same, linked) = {
                let state = end.lock();
                let run = |number: u32| state.node(number).and_then(|node| node.here.as_ref()).map(|here| here.run);
                ((run(from), run(to)) == runs, state.linked(from, to))
            };
            if same && linked { arrival(true) } else { end.lose(from, to, bytes, arrival) }
        });
    };
    if state.flows.unbounded() || lost {
        drop(state);
        return finish();
    }
    let now = air.0.timeline.now();
    let (flow, ends) = state.flows.begin(from, to, bytes, now);
    state.waiting.insert(flow, Box::new(finish));
    drop(state);
    air.foresee(ends);
}

impl Air {
    fn lose(&self, from: u32, to: u32, bytes: usize, arrival: OnArrival) {
        (self.0.observer)(from, to, Passed::Lost, bytes);
        self.0.timeline.after(self.notice(), move || arrival(false));
    }

    fn see(&self, from: u32, to: u32, passed: Passed<'_>, bytes: usize) {
        (self.0.observer)(from, to, passed, bytes);
    }
}

type Answer = Result<http::Response<Body>, NetworkError>;

/// Carries a request of a run of node `from` to the peer with key `peer`, and its answer back.
pub(super) async fn request(
    air: Air,
    (from, run): (u32, u64),
    peer: ServerKey,
    request: http::Request<Body>,
) -> Answer {
    let unreachable = |reason: &str| NetworkError::Unreachable { peer, reason: reason.to_owned() };
    let (parts, body) = request.into_parts();
    let body = read_body(body, MOST_BYTES)
        .await
        .map_err(|error| NetworkError::TooLarge { peer, reason: error.to_string() })?;
    let to = {
        let state = air.lock();
        if !state.runs(from, run) {
            return Err(NetworkError::Closed);
        }
        let to = state.number(peer).ok_or_else(|| unreachable("there is no such node"))?;
        if !state.linked(from, to) && !state.believes(from, to) {
            return Err(unreachable("no link leads to it"));
        }
        to
    };
    let (give, take) = oneshot::channel();
    let bytes = HEAD_BYTES + parts.uri.path_and_query().map_or(0, |path| path.as_str().len()) + body.len();
    let far = air.clone();
    let arrival: OnArrival = Box::new(move |arrived| {
        if arrived {
            far.arrive((from, to), http::Request::from_parts(parts, body), bytes, give);
        }
    });
    air.carry(from, to, bytes, arrival);
    let lost = || NetworkError::Lost { peer, reason: "the link broke".to_owned() };
    take.await.unwrap_or_else(|_| Err(lost()))
}

impl Air {
    /// A request is there: the other node answers it, for as long as it runs.
    fn arrive(
        self,
        (from, to): (u32, u32),
        request: http::Request<Bytes>,
        bytes: usize,
        give: oneshot::Sender<Answer>,
    ) {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
        self.see(from, to, Passed::Request { method: parts.method.as_str(), path }, bytes);
        let found = {
            let state = self.lock();
            state.node(from).map(|node| node.key).zip(state.node(to).and_then(|node| node.here.clone()))
        };
        let Some((key, here)) = found else { return };
        parts.extensions.clear();
        parts.extensions.insert(RemotePeer(key));
        let request = http::Request::from_parts(parts, full(body));
        let router = here.router.clone();
        let air = self.clone();
        let task = async move {
            let (parts, body) = router.call(request).await.into_parts();
            // A body that breaks here breaks at the other side.
            let (body, whole) = match read_body(body, MOST_BYTES).await {
                Ok(body) => (body, true),
                Err(_) => (Bytes::new(), false),
            };
            air.answer((to, from), http::Response::from_parts(parts, body), whole, give);
        };
        here.spawner.spawn("answer a peer", task.boxed());
    }

    fn answer(
        self,
        (from, to): (u32, u32),
        response: http::Response<Bytes>,
        whole: bool,
        give: oneshot::Sender<Answer>,
    ) {
        let (parts, body) = response.into_parts();
        let mut rest: VecDeque<Bytes> = VecDeque::new();
        let mut at = PART.min(body.len());
        let first = body.slice(..at);
        while at < body.len() {
            let end = (at + PART).min(body.len());
            rest.push_back(body.slice(at..end));
            at = end;
        }
        let bytes = HEAD_BYTES + first.len();
        let air = self.clone();
        let arrival: OnArrival = Box::new(move |arrived| {
            if !arrived {
                return;
            }
            air.see(from, to, Passed::Answer { status: parts.status.as_u16() }, bytes);
            if rest.is_empty() && whole {
                let _ = give.send(Ok(http::Response::from_parts(parts, full(first))));
                return;
            }
            let (more, body) = mpsc::unbounded::<Result<Bytes, BoxError>>();
            let _ = more.unbounded_send(Ok(first));
            let body = boxed(StreamBody::new(body.map(|part| part.map(Frame::data))));
            if give.send(Ok(http::Response::from_parts(parts, body))).is_ok() {
                air.more((from, to), rest, whole, more);
            }
        });
        self.carry(from, to, bytes, arrival);
    }

    /// The rest of a body, one part after the other, while somebody waits for it.
    fn more(
        self,
        (from, to): (u32, u32),
        mut rest: VecDeque<Bytes>,
        whole: bool,
        more: mpsc::UnboundedSender<Result<Bytes, BoxError>>,
    ) {
        if more.is_closed() {
            return;
        }
        let Some(part) = rest.pop_front() else {
            if !whole {
                let _ = more.unbounded_send(Err("the body broke off".into()));
            }
            return;
        };
        let (bytes, air) = (part.len(), self.clone());
        let arrival: OnArrival = Box::new(move |arrived| {
            if !arrived {
                let _ = more.unbounded_send(Err("the link broke".into()));
                return;
            }
            air.see(from, to, Passed::More, bytes);
            let _ = more.unbounded_send(Ok(part));
            air.more((from, to), rest, whole, more);
        });
        self.carry(from, to, bytes, arrival);
    }
}
