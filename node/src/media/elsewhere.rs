//! Files that their server keeps somewhere else: in its answer it may name a URL instead of giving the file (server-server specification,
//! "Content repository").
//!
//! A hostile server may name any URL, so it is fetched as pages that are previewed are: over `https` alone, within the size for files of
//! other servers, through at most five redirects, and no address of this device or of a local network is asked (DESIGN section 8). Such a
//! file is held in memory while it comes, so few come at a time, and of one server one.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, header};
use ruma::{OwnedServerName, ServerName};
use tokio::sync::Semaphore;
use url::Url;

use crate::{
    Node,
    http::{Answer, MatrixError},
    platform::timeout,
    turns::Turns,
    web::{Longer, Reach},
};

/// How many come at a time, and how many requests for those of one server may wait.
const AT_A_TIME: usize = 3;
const WAITING: usize = 64;
/// Redirects followed.
const MOST_REDIRECTS: usize = 5;
/// The longest URL.
const LONGEST_URL: usize = 4_096;
/// How long it may take in all.
const LONGEST: Duration = Duration::from_secs(120);

/// Who may fetch.
#[derive(Debug)]
pub(super) struct Places {
    all: Semaphore,
    of_server: Turns<OwnedServerName>,
}

impl Default for Places {
    fn default() -> Self {
        Self { all: Semaphore::new(AT_A_TIME), of_server: Turns::new(1, WAITING) }
    }
}

/// Gets what lies at the URL that `server` named for a file of its own.
///
/// # Errors
/// 502 with what went wrong.
pub(super) async fn get(node: &Arc<Node>, server: &ServerName, url: &str) -> Answer<Response<Bytes>> {
    let fetch = async {
        let places = &node.media.elsewhere;
        let _turn =
            places.of_server.take(&server.to_owned()).await.ok_or_else(|| failed("too many files of it come"))?;
        let _place = places.all.acquire().await.map_err(MatrixError::internal)?;
        follow(node, url).await
    };
    let late = |_| Err(failed("it did not come in time"));
    let got = timeout(&*node.clock, LONGEST, fetch).await.unwrap_or_else(late);
    got.inspect_err(|_| node.federation.stats.files_elsewhere_refused.add())
}

async fn follow(node: &Arc<Node>, url: &str) -> Answer<Response<Bytes>> {
    let most = usize::try_from(node.config.limits.remote_media_size).unwrap_or(usize::MAX);
    let reach = Reach { private: node.config.federation.allow_private_addresses, most, longer: Longer::Refuse };
    let mut url = Url::parse(url).map_err(|_| failed("it is said to be at what is no URL"))?;
    for _ in 0..=MOST_REDIRECTS {
        if url.scheme() != "https" || url.as_str().len() > LONGEST_URL {
            return Err(failed("it is said to be at what is no `https` URL"));
        }
        let request = Request::get(url.as_str())
            .header(header::USER_AGENT, "kith (files of other servers)")
            .body(Bytes::new())
            .map_err(|_| failed("it is said to be at what is no URL"))?;
        let answer = node.web.call(request, reach).await.map_err(|error| failed(&error.to_string()))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let target = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let Some(target) = target.filter(|_| answer.status().is_redirection()) else {
            return Err(failed(&format!("where it is said to be, {} is answered", answer.status())));
        };
        url = url.join(target).map_err(|_| failed("it is said to be at what is no URL"))?;
    }
    Err(failed("it is said to be somewhere else again and again"))
}

fn failed(reason: &str) -> MatrixError {
    MatrixError::unreachable(format!("the file's server keeps it elsewhere, and it could not be had there: {reason}"))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use http::StatusCode;
    use kith_store::MemoryBackend;
    use ruma::server_name;

    use super::*;
    use crate::{
        testing::{
            TestNode,
            web::{FakeWeb, answer},
        },
        web::WebError,
    };

    fn redirect(to: &str) -> Response<Bytes> {
        let mut page = answer(302, "");
        page.headers_mut().insert(header::LOCATION, to.parse().unwrap());
        page
    }

    #[tokio::test]
    async fn a_file_is_fetched_from_where_its_server_says_and_from_nowhere_that_is_not_safe() {
        let web = FakeWeb::new();
        web.answer(|asked| {
            Ok(match asked.url.as_str() {
                "https://cdn.example.org/a" => redirect("/b"),
                "https://cdn.example.org/b" => answer(200, "the file"),
                "https://cdn.example.org/down" => redirect("http://cdn.example.org/b"),
                "https://cdn.example.org/round" => redirect("https://cdn.example.org/round"),
                "https://10.0.0.1/" => return Err(WebError::Private),
                _ => answer(404, ""),
            })
        });
        let node = TestNode::start_on_web(MemoryBackend::new(), web.choice(), |_| {}).await;
        let server = server_name!("example.org");
        let file = get(node.node(), server, "https://cdn.example.org/a").await.unwrap();
        assert_eq!(&file.body()[..], b"the file");
        for (url, why) in [
            ("https://cdn.example.org/nothing", "404"),
            ("https://cdn.example.org/down", "no `https` URL"),
            ("https://cdn.example.org/round", "again and again"),
            ("http://cdn.example.org/b", "no `https` URL"),
            ("file:///etc/passwd", "no `https` URL"),
            ("/b", "no URL"),
            ("https://10.0.0.1/", "private"),
        ] {
            let error = get(node.node(), server, url).await.unwrap_err();
            assert_eq!(error.status, StatusCode::BAD_GATEWAY, "{url}");
            assert!(error.message.contains(why), "{url}: {}", error.message);
        }
        assert_eq!(node.node().federation.stats.files_elsewhere_refused.get(), 7);
    }

    #[tokio::test]
    async fn a_server_whose_files_do_not_come_keeps_those_of_others_from_nobody() {
        let web = FakeWeb::new();
        web.answer(|_| Ok(answer(200, "the file")));
        let node = TestNode::start_on_web(MemoryBackend::new(), web.choice(), |_| {}).await;
        let (bad, good) = (server_name!("bad.example.org"), server_name!("example.org"));
        // One file of it never comes.
        let turn = node.node().media.elsewhere.of_server.take(&bad.to_owned()).await;
        let place = node.node().media.elsewhere.all.acquire().await.unwrap();
        let mut waiting: Vec<_> =
            (0..10).map(|_| Box::pin(get(node.node(), bad, "https://cdn.example.org/a"))).collect();
        assert!(waiting.iter_mut().all(|wait| wait.as_mut().now_or_never().is_none()));
        assert!(get(node.node(), good, "https://cdn.example.org/b").await.is_ok());
        node.clock.advance(LONGEST);
        assert!(waiting.remove(0).await.unwrap_err().message.contains("in time"));
        drop((turn, place, waiting));
        assert!(get(node.node(), bad, "https://cdn.example.org/a").await.is_ok());
    }
}
