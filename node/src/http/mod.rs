//! HTTP, on both faces of the node: the error type that every handler answers with, the one generic piece that
//! turns a `ruma` request type into a route, and the layers around all routes.

pub mod acme;
pub mod certificate;
pub mod endpoint;
pub mod error;
pub mod escape;
pub mod layers;
pub mod patience;
pub mod server;

pub use endpoint::{Anonymous, Routes, Session};
pub use error::{Answer, MatrixError};
