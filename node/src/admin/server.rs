//! The node's side of the local socket.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::{UnixSocket, UnixStream};

use super::{Admin, AdminError, SOCKET, socket_path};
use crate::platform::{Clock, Spawner};

/// The largest body of a request.
const MAX_BODY: usize = 64 << 10;
/// Connections that may wait to be taken.
const WAITING: u32 = 128;

/// Removes the socket from the folder when dropped.
#[derive(Debug)]
struct Socket {
    path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A socket left behind answers nothing and is replaced by the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Opens the socket in `data_dir` and answers there until the spawner is shut down. Call it only while the store of this
/// folder is held: a socket that is there already counts as left behind.
///
/// # Errors
/// When the system refuses the socket.
pub fn serve(
    data_dir: &Path,
    admin: Arc<dyn Admin>,
    spawner: Arc<dyn Spawner>,
    clock: Arc<dyn Clock>,
) -> io::Result<()> {
    let (path, _folder) = socket_path(data_dir)?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let opening = UnixSocket::new_stream()?;
    // On Linux the file is made with these rights. Elsewhere they come a moment later; the folder lets nobody else in meanwhile.
    let _ = rustix::fs::fchmod(&opening, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR);
    opening.bind(&path)?;
    let socket = Socket { path: data_dir.join(SOCKET) };
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let listener = opening.listen(WAITING)?;
    let tasks = Arc::clone(&spawner);
    spawner.spawn(
        "admin socket",
        async move {
            let _socket = socket;
            loop {
                match listener.accept().await {
                    Ok((stream, _)) if is_owner(&stream) => {
                        tasks.spawn("admin connection", connection(stream, Arc::clone(&admin)));
                    }
                    Ok(_) => tracing::warn!("another user of this device tried the admin socket and was refused"),
                    Err(error) => {
                        // Out of file descriptors, most likely: others will be closed.
                        tracing::warn!(%error, "the admin socket cannot take a connection");
                        clock.sleep(Duration::from_millis(200)).await;
                    }
                }
            }
        }
        .boxed(),
    );
    Ok(())
}

/// This user, or root.
fn is_owner(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == rustix::process::geteuid().as_raw())
}

fn connection(stream: UnixStream, admin: Arc<dyn Admin>) -> BoxFuture<'static, ()> {
    let service = service_fn(move |request| {
        let admin = Arc::clone(&admin);
        async move { Ok::<_, Infallible>(answer(admin.as_ref(), request).await) }
    });
    async move {
        let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        if let Err(error) = served {
            tracing::debug!(%error, "a connection to the admin socket broke");
        }
    }
    .boxed()
}

async fn answer(admin: &dyn Admin, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (status, body) = match handle(admin, request).await {
        Ok(body) => (StatusCode::OK, body),
        Err(error) => (StatusCode::BAD_REQUEST, json!(error)),
    };
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

async fn handle(admin: &dyn Admin, request: Request<Incoming>) -> Result<Value, AdminError> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    match (parts.method, path.as_str()) {
        (Method::GET, "/status") => admin.status().await.map(|status| json!(status)),
        (Method::GET, "/peers") => admin.peers().await.map(|peers| json!(peers)),
        (Method::GET, "/users") => admin.users().await.map(|users| json!(users)),
        (Method::POST, "/users") => {
            admin.add_user(read(body).await?).await.map(|user_id| json!({ "user_id": user_id }))
        }
        (Method::POST, "/password") => admin.set_password(read(body).await?).await.map(|()| json!({})),
        (Method::POST, "/deactivate") => admin.deactivate(read(body).await?).await.map(|()| json!({})),
        (method, path) => Err(AdminError::new(
            "M_UNRECOGNIZED",
            format!("this node knows no {method} {path}: is it another version?"),
        )),
    }
}

async fn read<T: DeserializeOwned>(body: Incoming) -> Result<T, AdminError> {
    let bytes = Limited::new(body, MAX_BODY)
        .collect()
        .await
        .map_err(|_| AdminError::new("M_TOO_LARGE", "the request is too long, or broke off"))?
        .to_bytes();
    // The parser's message could repeat a part of the body, which may be a password.
    serde_json::from_slice(&bytes).map_err(|_| AdminError::new("M_BAD_JSON", "the request is not of the expected form"))
}
