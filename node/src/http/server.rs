//! Real listeners: accept, serve, stop. Only here does hyper stand between the wire and the router; in simulation and in
//! process, requests enter the router as calls.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::extract::ConnectInfo;
use futures::future::BoxFuture;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tower::ServiceExt as _;

use super::patience::Patient;
use crate::platform::{Clock, Spawner, timeout};

/// How many connections one listener holds at a time; further ones wait in the system's queue.
const MAX_CONNECTIONS: usize = 1024;
/// A client that takes longer than this for a request's head is cut off.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long requests may go on after a stop began.
const GRACE: Duration = Duration::from_secs(5);

/// An address that could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {}", describe(.cause, *.address))]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub cause: io::Error,
}

fn describe(cause: &io::Error, address: SocketAddr) -> String {
    match cause.kind() {
        io::ErrorKind::AddrInUse => format!(
            "port {} is in use by another program. Stop that program, or choose another port: \
             client.listen in kith.toml, or KITH_CLIENT_LISTEN=127.0.0.1:PORT",
            address.port()
        ),
        io::ErrorKind::PermissionDenied => {
            format!(
                "not permitted. Ports below 1024 need rights that kith should not have; choose another than {}",
                address.port()
            )
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this device has no address {}. Choose one it has in client.listen", address.ip())
        }
        _ => cause.to_string(),
    }
}

/// Takes the addresses, all or none.
pub async fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, ListenError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for &address in addresses {
        let listener = TcpListener::bind(address).await.map_err(|cause| ListenError { address, cause })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Serves `router` on `listener` until `stop` turns true; then lets running requests end within a grace time.
pub async fn serve(
    listener: TcpListener,
    router: axum::Router,
    clock: Arc<dyn Clock>,
    spawner: Arc<dyn Spawner>,
    mut stop: watch::Receiver<bool>,
) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = tokio::select! {
            biased;
            () = async { drop(stop.wait_for(|stop| *stop).await) } => return,
            accepted = listener.accept(), if open.load(Ordering::Acquire) < MAX_CONNECTIONS => accepted,
            () = clock.sleep(Duration::from_millis(20)), if open.load(Ordering::Acquire) >= MAX_CONNECTIONS => continue,
        };
        match accepted {
            Ok((stream, remote)) => {
                open.fetch_add(1, Ordering::AcqRel);
                let (router, clock, stop, open) = (router.clone(), clock.clone(), stop.clone(), open.clone());
                spawner.spawn(
                    "http connection",
                    Box::pin(async move {
                        connection(stream, remote, router, clock, stop).await;
                        open.fetch_sub(1, Ordering::AcqRel);
                    }),
                );
            }
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to be given back.
                tracing::warn!(%error, "a connection could not be accepted");
                clock.sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    remote: SocketAddr,
    router: axum::Router,
    clock: Arc<dyn Clock>,
    mut stop: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let called = Arc::new(AtomicBool::new(false));
    let arrival = Arrival { remote, called: called.clone(), clock: clock.clone() };
    let service = TowerToHyperService::new(router.map_request(move |request| arrival.note(request)));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(64 << 10);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(128)
        .max_header_list_size(32 << 10)
        .keep_alive_interval(Duration::from_secs(30));
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let stopping = async { drop(stop.wait_for(|stop| *stop).await) };
    // hyper's own limit begins with the first byte of HTTP/1; this one also ends connections that say nothing at all.
    let mut silent = silence(&*clock, called);
    let stopped = tokio::select! {
        biased;
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%remote, %error, "a connection ended badly");
            }
            false
        }
        () = &mut silent => false,
        () = stopping => true,
    };
    if stopped {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(&*clock, GRACE, connection).await;
    }
}

/// What each request of a connection is given on its way to the router.
#[derive(Clone)]
struct Arrival {
    remote: SocketAddr,
    called: Arc<AtomicBool>,
    clock: Arc<dyn Clock>,
}

impl Arrival {
    fn note(&self, request: http::Request<hyper::body::Incoming>) -> http::Request<axum::body::Body> {
        self.called.store(true, Ordering::Release);
        let mut request = request.map(|body| axum::body::Body::new(Patient::new(body, self.clock.clone())));
        request.extensions_mut().insert(ConnectInfo(self.remote));
        request
    }
}

/// Completes if the flag is not set within [`HEAD_TIMEOUT`].
fn silence(clock: &dyn Clock, called: Arc<AtomicBool>) -> BoxFuture<'static, ()> {
    let time_is_up = clock.sleep(HEAD_TIMEOUT);
    Box::pin(async move {
        time_is_up.await;
        if called.load(Ordering::Acquire) {
            std::future::pending::<()>().await;
        }
    })
}
