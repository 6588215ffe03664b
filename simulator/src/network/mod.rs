//! The simulated network: [`Air`] is what lies between the nodes, [`Port`] is one node's end of it, a
//! [`kith_transport::Network`].
//!
//! | module | what it knows |
//! | --- | --- |
//! | [`air`] | which links there are, and who believes so |
//! | `carry` | the way of a request and of its answer |
//! | [`flows`] | bandwidth, shared fairly |
//! | [`conditions`] | latency, address translation |
//! | [`mobility`], [`contacts`] | links that come and go |

pub mod air;
mod carry;
pub mod conditions;
pub mod contacts;
pub mod flows;
pub mod mobility;
mod port;

pub use air::{Air, Observer, Passed};
pub use port::Port;
