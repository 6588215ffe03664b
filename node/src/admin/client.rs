//! The commands' side of the local socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::{Admin, AdminError, Deactivation, NewPassword, NewUser, Peer, Status, UserInfo, socket_path};

/// The largest answer, in bytes.
const MAX_ANSWER: usize = 16 << 20;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// So many times longer for a change: hashing a password, or leaving many rooms, takes its time on a small device.
const CHANGES_TAKE: u32 = 6;

/// A running node, over its socket.
#[derive(Debug, Clone)]
pub struct AdminClient {
    data_dir: PathBuf,
    patience: Duration,
}

/// Why there is no connection to a node.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers at the socket.
    #[error("no node is running on {}", .0.display())]
    NotRunning(PathBuf),
    /// The socket is another user's.
    #[error("the node on {} belongs to another user: run this command as that user, or as root", .0.display())]
    Forbidden(PathBuf),
    /// Anything else the system says.
    #[error("cannot reach the node on {}: {}", .0.display(), .1)]
    Io(PathBuf, io::Error),
}

impl AdminClient {
    /// Finds out whether a node runs on `data_dir`.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(data_dir: &Path) -> Result<Self, ConnectError> {
        let client = Self { data_dir: data_dir.to_owned(), patience: PATIENCE };
        client.open().await.map(|_| client)
    }

    #[cfg(test)]
    pub(super) fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    async fn open(&self) -> Result<UnixStream, ConnectError> {
        let connect = async {
            let (path, _folder) = socket_path(&self.data_dir)?;
            UnixStream::connect(path).await
        };
        connect.await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
                ConnectError::NotRunning(self.data_dir.clone())
            }
            io::ErrorKind::PermissionDenied => ConnectError::Forbidden(self.data_dir.clone()),
            _ => ConnectError::Io(self.data_dir.clone(), error),
        })
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, AdminError> {
        let patience = if method == Method::GET { self.patience } else { self.patience * CHANGES_TAKE };
        match tokio::time::timeout(patience, self.exchange(method, path, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(AdminError::new(
                "M_UNKNOWN",
                format!(
                    "the node did not answer within {} s: its disk or processor may be overloaded, or it hangs. Its log \
                     may say more; if it stays so, restart it",
                    patience.as_secs()
                ),
            )),
        }
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, AdminError> {
        let broken = |cause: &dyn std::fmt::Display| {
            AdminError::new("M_UNKNOWN", format!("the node did not answer ({cause}): it may be stopping"))
        };
        let stream = self.open().await.map_err(|error| AdminError::new("M_UNKNOWN", error.to_string()))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        let body = serde_json::to_vec(body).map_err(|error| broken(&error))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "kith")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| broken(&error))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
            let status = response.status();
            let body =
                Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|error| broken(&error))?;
            Ok::<_, AdminError>((status, body.to_bytes()))
        };
        let mut exchange = std::pin::pin!(exchange.fuse());
        let mut connection = std::pin::pin!(connection.fuse());
        let (status, body) = loop {
            tokio::select! {
                biased;
                answer = &mut exchange => break answer?,
                ended = &mut connection => if let Err(error) = ended {
                    return Err(broken(&error));
                },
            }
        };
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(|error| broken(&error));
        }
        Err(serde_json::from_slice(&body).unwrap_or_else(|_| broken(&status)))
    }
}

impl Admin for AdminClient {
    fn status(&self) -> BoxFuture<'_, Result<Status, AdminError>> {
        self.call(Method::GET, "/status", &()).boxed()
    }

    fn peers(&self) -> BoxFuture<'_, Result<Vec<Peer>, AdminError>> {
        self.call(Method::GET, "/peers", &()).boxed()
    }

    fn users(&self) -> BoxFuture<'_, Result<Vec<UserInfo>, AdminError>> {
        self.call(Method::GET, "/users", &()).boxed()
    }

    fn add_user(&self, user: NewUser) -> BoxFuture<'_, Result<String, AdminError>> {
        #[derive(serde::Deserialize)]
        struct Added {
            user_id: String,
        }
        async move { Ok(self.call::<Added>(Method::POST, "/users", &user).await?.user_id) }.boxed()
    }

    fn set_password(&self, change: NewPassword) -> BoxFuture<'_, Result<(), AdminError>> {
        async move { self.call::<serde_json::Value>(Method::POST, "/password", &change).await.map(drop) }.boxed()
    }

    fn deactivate(&self, user: Deactivation) -> BoxFuture<'_, Result<(), AdminError>> {
        async move { self.call::<serde_json::Value>(Method::POST, "/deactivate", &user).await.map(drop) }.boxed()
    }
}
