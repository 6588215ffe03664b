//! Networks of several libp2p nodes in one process, over loopback.

mod discovery;
mod hostile;
mod links;
mod requests;

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::{RemotePeer, Sequence, full, read_body};

/// Longest wait for anything in these tests: they share two cores with everything else.
const DEADLINE: Duration = Duration::from_secs(30);

struct Node {
    network: Arc<Libp2pNetwork>,
    key: ServerKey,
    /// Requests whose handler ran to its end.
    handled: Arc<AtomicUsize>,
}

fn secret(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn config() -> Libp2pConfig {
    Libp2pConfig {
        listen: vec!["/ip4/127.0.0.1/udp/0/quic-v1".to_owned()],
        mdns: MdnsConfig { mode: MdnsMode::Off, ..MdnsConfig::default() },
        ..Libp2pConfig::default()
    }
}

fn parts(n: u8, run: u32) -> RecordParts {
    RecordParts::new(secret(n).public().to_string(), Sequence::for_run(0, run))
}

/// Paths: `/echo` gives the body back; `/who` the sender's key and class; `/size/<n>` n bytes; `/take` reads the body and
/// gives its length; `/slow` answers after a while; `/stuck` never.
fn router(handled: Arc<AtomicUsize>) -> Router {
    Router::new(move |request: http::Request<Body>| {
        let handled = handled.clone();
        async move {
            let path = request.uri().path().to_owned();
            let who = request.extensions().get::<RemotePeer>().expect("known").0;
            let class = *request.extensions().get::<Class>().expect("known");
            let response = match path.as_str() {
                "/echo" => http::Response::new(request.into_body()),
                "/who" => http::Response::new(full(format!("{who} {class:?}"))),
                "/take" => {
                    let mut body = request.into_body();
                    let mut length = 0;
                    while let Some(Ok(frame)) = http_body_util::BodyExt::frame(&mut body).await {
                        length += frame.data_ref().map_or(0, |data| data.len());
                    }
                    http::Response::new(full(length.to_string()))
                }
                "/slow" => {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    http::Response::new(full("slow"))
                }
                "/stuck" => std::future::pending().await,
                path => {
                    let size = path.strip_prefix("/size/").and_then(|size| size.parse().ok());
                    http::Response::new(stream(size.unwrap_or(0)))
                }
            };
            handled.fetch_add(1, Ordering::SeqCst);
            response
        }
    })
}

/// A body of `size` bytes, made as it is read.
fn stream(size: usize) -> Body {
    let chunk = bytes::Bytes::from(vec![7u8; 16 * 1024]);
    let frames = futures::stream::unfold(size, move |left| {
        let chunk = chunk.clone();
        async move {
            let take = left.min(chunk.len());
            (take > 0).then(|| {
                let frame = http_body::Frame::data(chunk.slice(..take));
                (Ok::<_, crate::BoxError>(frame), left - take)
            })
        }
    });
    crate::boxed(http_body_util::StreamBody::new(frames))
}

async fn start(n: u8, config: Libp2pConfig) -> Node {
    start_run(n, 0, config).await
}

async fn start_run(n: u8, run: u32, config: Libp2pConfig) -> Node {
    let handled = Arc::new(AtomicUsize::new(0));
    let network = Libp2pNetwork::start(config, secret(n), parts(n, run), router(handled.clone()))
        .await
        .expect("the network starts");
    Node { network, key: secret(n).public(), handled }
}

impl Node {
    /// Tells this node the other's addresses.
    fn knows(&self, other: &Node) {
        for address in other.network.own_addresses() {
            self.network.add_address(other.key, address).unwrap();
        }
    }

    async fn call(
        &self,
        to: ServerKey,
        class: Class,
        path: &str,
        body: Body,
    ) -> Result<http::Response<Body>, NetworkError> {
        let request = http::Request::builder().method(http::Method::PUT).uri(path).body(body).unwrap();
        self.network.request(to, class, request).await
    }

    /// A request with a short text back, or what went wrong.
    async fn ask(&self, to: ServerKey, path: &str) -> Result<String, NetworkError> {
        let response = self.call(to, Class::Control, path, full("hello")).await?;
        match read_body(response.into_body(), 1 << 16).await {
            Ok(body) => Ok(String::from_utf8_lossy(&body).into_owned()),
            Err(error) => Err(NetworkError::Lost { peer: to, reason: error.to_string() }),
        }
    }

    fn info(&self, of: ServerKey) -> Option<PeerInfo> {
        self.network.peers().into_iter().find(|info| info.key == of)
    }

    fn is_connected(&self, to: ServerKey) -> bool {
        self.info(to).is_some_and(|info| info.connected)
    }

    fn connections(&self) -> usize {
        self.network.shared.table().connection_ids().len()
    }
}

/// Waits until something is so.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
