//! Bandwidth: each node's is shared fairly by all that it sends, or receives, at a time.
//!
//! A flow's rate is the smaller of its shares at both ends, an equal part each. Whenever flows begin or end, the flows that share an
//! end with them have their progress noted and their rates set anew, once for all that begin and end at one moment: a message to a
//! thousand servers makes a thousand flows.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::Nanos;

/// Bytes a nanosecond of an end, or none when it has no bound.
type Rate = Option<f64>;

/// All flows under way.
#[derive(Debug, Default)]
pub struct Flows {
    /// Bytes a nanosecond that each node can send.
    up: Rate,
    down: Rate,
    flows: BTreeMap<u64, Flow>,
    sending: BTreeMap<u32, BTreeSet<u64>>,
    receiving: BTreeMap<u32, BTreeSet<u64>>,
    next: u64,
    /// Whose flows have other shares since they were last shared out.
    senders: BTreeSet<u32>,
    receivers: BTreeSet<u32>,
}

#[derive(Debug)]
struct Flow {
    from: u32,
    to: u32,
    left: f64,
    rate: f64,
    noted: Nanos,
    /// When it ends at its present rate.
    ends: Nanos,
    /// Counts the times that its end was foreseen: all but the last are void.
    turn: u64,
    /// What was foreseen last.
    foreseen: Nanos,
}

/// When a flow is to be looked at: it ends then, unless its share has become smaller meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreseen {
    /// The flow.
    pub flow: u64,
    /// See [`Flows::end`].
    pub turn: u64,
    /// When.
    pub at: Nanos,
}

/// What became of a flow at the moment that was foreseen for it.
#[derive(Debug, PartialEq, Eq)]
pub enum Looked {
    /// Another moment was foreseen since.
    Void,
    /// It has got slower, and this is when to look again.
    Later(Foreseen),
    /// It has ended, and [`Flows::share`] is due.
    Ended,
}

impl Flows {
    /// Nodes that send and receive so many kbit/s each; 0 is without bound.
    pub fn new(up_kbit: u32, down_kbit: u32) -> Self {
        // 1 kbit/s is 125 bytes a second.
        let rate = |kbit: u32| (kbit > 0).then(|| f64::from(kbit) * 125e-9);
        Self { up: rate(up_kbit), down: rate(down_kbit), ..Self::default() }
    }

    /// Whether nothing has a bound, so that there is no need for flows.
    pub fn unbounded(&self) -> bool {
        self.up.is_none() && self.down.is_none()
    }

    /// Begins a flow, and gives its number. [`Flows::share`] is due at this moment, when all that begins and ends with it has.
    pub fn begin(&mut self, from: u32, to: u32, bytes: usize, now: Nanos) -> u64 {
        let flow = self.next;
        self.next += 1;
        let left = bytes.max(1) as f64;
        let (ends, foreseen) = (Nanos::MAX, Nanos::MAX);
        self.flows.insert(flow, Flow { from, to, left, rate: 0.0, noted: now, ends, turn: 0, foreseen });
        self.sending.entry(from).or_default().insert(flow);
        self.receiving.entry(to).or_default().insert(flow);
        self.senders.insert(from);
        self.receivers.insert(to);
        flow
    }

    /// Looks at a flow at the moment that was foreseen.
    pub fn end(&mut self, foreseen: Foreseen) -> Looked {
        let Some(flow) = self.flows.get_mut(&foreseen.flow).filter(|flow| flow.turn == foreseen.turn) else {
            return Looked::Void;
        };
        if flow.ends > foreseen.at {
            flow.foreseen = flow.ends;
            return Looked::Later(Foreseen { at: flow.ends, ..foreseen });
        }
        let (from, to) = (flow.from, flow.to);
        self.flows.remove(&foreseen.flow);
        for (ends, node) in [(&mut self.sending, from), (&mut self.receiving, to)] {
            if let Some(flows) = ends.get_mut(&node) {
                flows.remove(&foreseen.flow);
                if flows.is_empty() {
                    ends.remove(&node);
                }
            }
        }
        self.senders.insert(from);
        self.receivers.insert(to);
        Looked::Ended
    }

    /// Whether [`Flows::share`] has to be called before time goes on.
    pub fn is_due(&self) -> bool {
        !(self.senders.is_empty() && self.receivers.is_empty())
    }

    /// Shares bandwidth out anew where flows have begun or ended. Gives when to look at those that end sooner than was foreseen.
    pub fn share(&mut self, now: Nanos) -> Vec<Foreseen> {
        let part = |rate: Rate, flows: Option<&BTreeSet<u64>>| {
            rate.map_or(f64::INFINITY, |rate| rate / flows.map_or(1, |flows| flows.len().max(1)) as f64)
        };
        let (senders, receivers) = (std::mem::take(&mut self.senders), std::mem::take(&mut self.receivers));
        let sent = senders.iter().filter_map(|node| self.sending.get(node));
        let received = receivers.iter().filter_map(|node| self.receiving.get(node));
        let touched: BTreeSet<u64> = sent.chain(received).flatten().copied().collect();
        let mut foreseen = Vec::new();
        for number in touched {
            let Some(flow) = self.flows.get_mut(&number) else { continue };
            let rate = part(self.up, self.sending.get(&flow.from)).min(part(self.down, self.receiving.get(&flow.to)));
            if rate == flow.rate {
                continue;
            }
            flow.left = (flow.left - flow.rate * (now - flow.noted) as f64).max(0.0);
            flow.rate = rate;
            flow.noted = now;
            flow.ends = now.saturating_add((flow.left / rate).ceil() as Nanos);
            if flow.ends < flow.foreseen {
                flow.turn += 1;
                flow.foreseen = flow.ends;
                foreseen.push(Foreseen { flow: number, turn: flow.turn, at: flow.ends });
            }
        }
        foreseen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::seconds;

    /// Runs flows that begin at given times to their ends.
    fn ends(flows: &mut Flows, begins: &[(f64, u32, u32, usize)]) -> BTreeMap<u64, f64> {
        let mut queue: BTreeSet<(Nanos, u64, u64)> = BTreeSet::new();
        let mut begins = begins.iter().copied().peekable();
        let mut ended = BTreeMap::new();
        loop {
            let next = queue.first().map_or(Nanos::MAX, |first| first.0);
            let now = match begins.peek() {
                Some((at, from, to, bytes)) if seconds(*at) <= next => {
                    flows.begin(*from, *to, *bytes, seconds(*at));
                    let at = seconds(*at);
                    begins.next();
                    at
                }
                _ => {
                    let Some((at, flow, turn)) = queue.pop_first() else { return ended };
                    match flows.end(Foreseen { flow, turn, at }) {
                        Looked::Void => continue,
                        Looked::Later(end) => {
                            queue.insert((end.at, end.flow, end.turn));
                            continue;
                        }
                        Looked::Ended => ended.insert(flow, at as f64 / 1e9),
                    };
                    at
                }
            };
            let more = begins.peek().is_some_and(|next| seconds(next.0) == now)
                || queue.first().is_some_and(|next| next.0 == now);
            if !more {
                queue.extend(flows.share(now).into_iter().map(|end| (end.at, end.flow, end.turn)));
            }
        }
    }

    #[test]
    fn one_flow_has_all_of_it_and_two_have_half_each() {
        // 8 kbit/s are 1,000 bytes a second.
        let ended = ends(&mut Flows::new(8, 0), &[(0.0, 0, 1, 1_000)]);
        assert!((ended[&0] - 1.0).abs() < 1e-6);
        let ended = ends(&mut Flows::new(8, 0), &[(0.0, 0, 1, 1_000), (0.0, 0, 2, 1_000)]);
        assert!((ended[&0] - 2.0).abs() < 1e-6 && (ended[&1] - 2.0).abs() < 1e-6);
    }

    #[test]
    fn a_late_flow_takes_its_share_and_gives_it_back() {
        // The first has sent half when the second comes, and both go on at half the rate.
        let ended = ends(&mut Flows::new(8, 0), &[(0.0, 0, 1, 1_000), (0.5, 0, 2, 250)]);
        assert!((ended[&1] - 1.0).abs() < 1e-6, "{ended:?}");
        assert!((ended[&0] - 1.25).abs() < 1e-6, "{ended:?}");
    }

    #[test]
    fn the_narrower_end_decides() {
        let ended = ends(&mut Flows::new(80, 8), &[(0.0, 0, 1, 1_000)]);
        assert!((ended[&0] - 1.0).abs() < 1e-6);
        let ended = ends(&mut Flows::new(8, 8), &[(0.0, 0, 2, 1_000), (0.0, 1, 2, 1_000)]);
        assert!((ended[&1] - 2.0).abs() < 1e-6);
    }
}
