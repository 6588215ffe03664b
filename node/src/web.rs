//! Requests that leave the Matrix network: to push gateways, application services and web pages that are previewed.
//!
//! Who is asked is chosen by users and, for previews, by whoever sends a link. So each request says whom it may reach
//! ([`Reach`]): unless the configuration allows it, no address of this device or of a local network (DESIGN section 8), whatever a
//! name resolves to. Redirects are not followed here; who follows one makes a request of its own, which is checked again.
//!
//! [`Web`] is a trait so that tests and the simulator give another; [`Client`] is the real one. Its time is real, so callers set
//! their limit through the node's clock.

mod client;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};

pub use client::Client;
pub use kith_transport::is_public;

/// The world outside, as far as HTTP reaches.
pub trait Web: Send + Sync + 'static {
    /// Sends a request to the absolute `http` or `https` URL that it has, and gives the whole answer, whatever its status.
    fn call(&self, request: Request<Bytes>, reach: Reach) -> BoxFuture<'static, Result<Response<Bytes>, WebError>>;
}

/// How far a request may reach, and what may come back.
#[derive(Debug, Clone, Copy)]
pub struct Reach {
    /// Whether addresses of this device and of local networks may be asked.
    pub private: bool,
    /// The longest body of an answer, in bytes.
    pub most: usize,
    /// What to do about a longer one.
    pub longer: Longer,
}

/// What to do about an answer that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Longer {
    /// Fail.
    Refuse,
    /// Take its beginning.
    Cut,
}

/// Why there was no answer. Never tells the URL, which may hold a secret.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The URL is none that can be asked.
    #[error("the URL cannot be asked: {0}")]
    Url(&'static str),
    /// The host has no address that may be asked.
    #[error("the host has only private addresses; `federation.allow_private_addresses` lets them be reached")]
    Private,
    /// The name does not resolve.
    #[error("the host's name does not resolve: {0}")]
    Resolve(std::io::Error),
    /// Nobody answers there.
    #[error("the host cannot be reached: {0}")]
    Connect(std::io::Error),
    /// No secure connection.
    #[error("no secure connection: {0}")]
    Tls(String),
    /// The conversation broke off.
    #[error("the answer broke off: {0}")]
    Http(#[from] hyper::Error),
    /// The answer is longer than allowed.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// There is no outside: in simulation.
    #[error("this node has no way to the web")]
    None,
}

/// No way to the web.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoWeb;

impl Web for NoWeb {
    fn call(&self, _: Request<Bytes>, _: Reach) -> BoxFuture<'static, Result<Response<Bytes>, WebError>> {
        Box::pin(async { Err(WebError::None) })
    }
}
