//! The way of a request and of its answer.
//!
//! The head of a request, and of an answer, comes with the first part of its body, the rest part by part: each its turn at the
//! bandwidth, then latency and jitter. What is lost, or whose link goes meanwhile, the sender learns of after the time it takes to
//! notice; a body breaks off there.
//!
//! At the other side a request is a task of that node, which goes on even if the sender gives up, as it does behind the real
//! transport (`transport/src/libp2p/serve.rs`: what a peer asked for is carried out whole). Giving up ends what is still on the way,
//! as a reset of the stream does: no more parts of the request are sent, its body breaks off at the other side after the latency,
//! and from then on an answer is not sent any more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::channel::{mpsc, oneshot};
use futures::{FutureExt as _, StreamExt as _};
use http_body::Frame;
use http_body_util::StreamBody;
use kith_transport::{Body, BoxError, NetworkError, RemotePeer, ServerKey, boxed, full, read_body};

use super::{Air, Passed, conditions};
use crate::engine::{Nanos, millis};

/// Told whether it arrived.
pub(super) type OnArrival = Box<dyn FnOnce(bool) + Send>;

/// The largest body: as large as a node lets a file be by default.
const MOST_BYTES: usize = 128 << 20;
/// About what the head of a request or answer takes, compressed and encrypted, with its signature.
const HEAD_BYTES: usize = 250;
/// A body goes in parts of this size.
const PART: usize = 64 << 10;

/// Carries so many bytes from one node to another: both must run, and have a link, from its beginning to its end.
pub(super) fn begin(air: &Air, from: u32, to: u32, bytes: usize, arrival: OnArrival) {
    let mut state = air.lock();
    let calm = state.calm;
    let run = |number: u32| state.node(number).and_then(|node| node.here.as_ref()).map(|here| here.run);
    let runs = (run(from), run(to));
    let up = state.linked(from, to);
    let network = &air.0.network;
    let mut delay = air.latency((from, to));
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
    let due = state.flows.is_due();
    let flow = state.flows.begin(from, to, bytes, now);
    state.waiting.insert(flow, Box::new(finish));
    drop(state);
    if !due {
        air.share();
    }
}

impl Air {
    /// How long one way of a link takes, without jitter.
    fn latency(&self, (from, to): (u32, u32)) -> Nanos {
        conditions::latency(&self.0.network.latency, self.0.seed, from, to)
    }

    fn under_way_by(&self, number: u32, change: impl Fn(u64) -> u64) {
        if let Some(node) = self.lock().nodes.get_mut(number as usize) {
            node.under_way = change(node.under_way);
        }
    }

    fn lose(&self, from: u32, to: u32, bytes: usize, arrival: OnArrival) {
        (self.0.observer)(from, to, Passed::Lost, bytes);
        self.0.timeline.after(self.notice(), move || arrival(false));
    }

    fn see(&self, from: u32, to: u32, passed: Passed<'_>, bytes: usize) {
        (self.0.observer)(from, to, passed, bytes);
    }
}

type Answer = Result<http::Response<Body>, NetworkError>;

/// A body cut into parts.
struct Parts {
    rest: VecDeque<Bytes>,
    /// False: it breaks off after them.
    whole: bool,
}

impl Parts {
    /// The first part, which comes with the head, and the others.
    fn of(body: &Bytes, whole: bool) -> (Bytes, Self) {
        let parts = (0..body.len()).step_by(PART).map(|at| body.slice(at..(at + PART).min(body.len())));
        let mut rest: VecDeque<Bytes> = parts.collect();
        (rest.pop_front().unwrap_or_default(), Self { rest, whole })
    }

    fn is_done(&self) -> bool {
        self.rest.is_empty() && self.whole
    }
}

/// Whether the sender of a request has given up, and whether the other side has heard of it.
#[derive(Default)]
struct Ends {
    given_up: AtomicBool,
    reset: AtomicBool,
}

/// Held while a request waits for its answer.
struct UnderWay {
    air: Air,
    ends: Arc<Ends>,
    link: (u32, u32),
    answered: bool,
}

impl UnderWay {
    fn new(air: Air, link: (u32, u32)) -> Self {
        air.under_way_by(link.0, |count| count + 1);
        Self { air, ends: Arc::default(), link, answered: false }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.air.under_way_by(self.link.0, |count| count.saturating_sub(1));
        if !self.answered {
            self.ends.given_up.store(true, Ordering::Relaxed);
            let ends = self.ends.clone();
            self.air.0.timeline.after(self.air.latency(self.link), move || ends.reset.store(true, Ordering::Relaxed));
        }
    }
}

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
    let mut under_way = UnderWay::new(air.clone(), (from, to));
    let (first, rest) = Parts::of(&body, true);
    let bytes = HEAD_BYTES + parts.uri.path_and_query().map_or(0, |path| path.as_str().len()) + first.len();
    let (far, ends) = (air.clone(), under_way.ends.clone());
    let arrival: OnArrival = Box::new(move |arrived| {
        if arrived {
            let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
            far.see(from, to, Passed::Request { method: parts.method.as_str(), path, body: &body }, bytes);
            let body = far.clone().body((from, to), first, rest, ends.clone());
            far.arrive((from, to), http::Request::from_parts(parts, body), ends, give);
        }
    });
    air.carry(from, to, bytes, arrival);
    let lost = || NetworkError::Lost { peer, reason: "the link broke".to_owned() };
    let answer = take.await.unwrap_or_else(|_| Err(lost()));
    under_way.answered = true;
    answer
}

impl Air {
    /// A request is there: the other node answers it, for as long as it runs.
    fn arrive(
        self,
        (from, to): (u32, u32),
        mut request: http::Request<Body>,
        ends: Arc<Ends>,
        give: oneshot::Sender<Answer>,
    ) {
        let found = {
            let state = self.lock();
            state.node(from).map(|node| node.key).zip(state.node(to).and_then(|node| node.here.clone()))
        };
        let Some((key, here)) = found else { return };
        request.extensions_mut().clear();
        request.extensions_mut().insert(RemotePeer(key));
        let router = here.router.clone();
        let air = self.clone();
        let task = async move {
            let (parts, body) = router.call(request).await.into_parts();
            // A body that breaks here breaks at the other side.
            let (body, whole) = match read_body(body, MOST_BYTES).await {
                Ok(body) => (body, true),
                Err(_) => (Bytes::new(), false),
            };
            if !ends.reset.load(Ordering::Relaxed) {
                air.answer((to, from), http::Response::from_parts(parts, body), whole, give);
            }
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
        let (first, rest) = Parts::of(&body, whole);
        let bytes = HEAD_BYTES + first.len();
        let air = self.clone();
        let arrival: OnArrival = Box::new(move |arrived| {
            if arrived {
                air.see(from, to, Passed::Answer { status: parts.status.as_u16() }, bytes);
                // Whoever asked drops the body when they give up.
                let body = air.body((from, to), first, rest, Arc::default());
                let _ = give.send(Ok(http::Response::from_parts(parts, body)));
            }
        });
        self.carry(from, to, bytes, arrival);
    }

    /// A body of which the first part is there.
    fn body(self, link: (u32, u32), first: Bytes, rest: Parts, ends: Arc<Ends>) -> Body {
        if rest.is_done() {
            return full(first);
        }
        let (more, body) = mpsc::unbounded::<Result<Bytes, BoxError>>();
        let _ = more.unbounded_send(Ok(first));
        self.more(link, rest, ends, more);
        boxed(StreamBody::new(body.map(|part| part.map(Frame::data))))
    }

    /// The rest of a body, one part after the other, while somebody waits for it and its sender has not given up.
    fn more(
        self,
        (from, to): (u32, u32),
        mut parts: Parts,
        ends: Arc<Ends>,
        more: mpsc::UnboundedSender<Result<Bytes, BoxError>>,
    ) {
        if more.is_closed() {
            return;
        }
        if ends.given_up.load(Ordering::Relaxed) {
            return self.0.timeline.after(self.latency((from, to)), move || {
                let _ = more.unbounded_send(Err("the sender gave up".into()));
            });
        }
        let Some(part) = parts.rest.pop_front() else {
            if !parts.whole {
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
            air.more((from, to), parts, ends, more);
        });
        self.carry(from, to, bytes, arrival);
    }
}
