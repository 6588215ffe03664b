//! A web of which a test says what it answers.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response};
use serde_json::Value;

use crate::{
    platform::WebChoice,
    web::{Reach, Web, WebError},
};

/// What came out of the node.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) headers: HeaderMap,
    /// The body, if it is JSON.
    pub(crate) body: Value,
}

type Answers = dyn Fn(&Asked) -> Result<Response<Bytes>, WebError> + Send + Sync;

/// Answers as it is told, and remembers what it was asked.
pub(crate) struct FakeWeb {
    asked: Mutex<Vec<Asked>>,
    answers: Mutex<Arc<Answers>>,
}

impl FakeWeb {
    pub(crate) fn new() -> Arc<Self> {
        let answers: Arc<Answers> = Arc::new(|_| Ok(answer(200, "{}")));
        Arc::new(Self { asked: Mutex::default(), answers: Mutex::new(answers) })
    }

    pub(crate) fn choice(self: &Arc<Self>) -> WebChoice {
        WebChoice::Given(self.clone())
    }

    /// From now on answers so.
    pub(crate) fn answer(&self, answers: impl Fn(&Asked) -> Result<Response<Bytes>, WebError> + Send + Sync + 'static) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(answers);
    }

    /// All that it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// An answer.
pub(crate) fn answer(status: u16, body: impl Into<Bytes>) -> Response<Bytes> {
    Response::builder().status(status).body(body.into()).expect("a response")
}

impl Web for FakeWeb {
    fn call(&self, request: Request<Bytes>, _: Reach) -> BoxFuture<'static, Result<Response<Bytes>, WebError>> {
        let (parts, body) = request.into_parts();
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let asked = Asked { method: parts.method, url: parts.uri.to_string(), headers: parts.headers, body };
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let answer = answers(&asked);
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
        Box::pin(async move { answer })
    }
}
