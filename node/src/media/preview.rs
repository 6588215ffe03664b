//! Previews of web pages: what a page says of itself for being linked to (OpenGraph), and its picture as a file of this node
//! (client-server specification, "Getting a preview for a URL").
//!
//! Whoever sends a link chooses what this node asks for. So there are none unless the configuration wants them
//! (`client.url_previews`), none of private addresses, whatever redirects say ([`crate::web`]), no more than four pages at
//! a time, and of each a bounded beginning within a bounded time. A page is asked again after a day.

mod page;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::Full;
use kith_store::{
    Json, StoreError, Tx,
    tables::media::{MAX_PREVIEWS, MEDIA, PREVIEWS, PreviewRow},
};
use ruma::UserId;
use serde_json::{Map, Value, json};
use url::Url;

use super::{ingest, remote::forget};
use crate::{
    Node,
    http::{Answer, MatrixError},
    platform::timeout,
    web::{Longer, Reach},
};

/// Pages that are fetched at a time.
pub(super) const FETCHERS: usize = 4;
/// The longest URL.
const LONGEST_URL: usize = 2_000;
/// How much of a page is looked at.
const LONGEST_PAGE: usize = 1 << 20;
/// The largest picture.
const LARGEST_PICTURE: usize = 5 << 20;
/// Redirects that are followed.
const MOST_REDIRECTS: usize = 5;
/// How long a page and its picture may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a preview counts, and how long it counts that there is none.
const GOOD_MS: u64 = 24 * 60 * 60 * 1000;
const BAD_MS: u64 = 10 * 60 * 1000;

/// The preview of a page; an empty object if it says nothing of itself.
///
/// # Errors
/// `M_NOT_FOUND` where there are no previews, `M_INVALID_PARAM` for what is no URL of a page, 502 if it cannot be had.
pub async fn preview(node: &Arc<Node>, user: &UserId, url: &str) -> Answer<Value> {
    if !node.config.client.url_previews {
        return Err(MatrixError::not_found("this server makes no previews of web pages"));
    }
    let mut url = Url::parse(url)
        .ok()
        .filter(|url| url.as_str().len() <= LONGEST_URL && matches!(url.scheme(), "http" | "https"))
        .ok_or_else(|| MatrixError::invalid_param("this is no URL of a web page"))?;
    url.set_fragment(None);
    let key = url.to_string();
    if let Some(known) = known(node, &key)? {
        return known;
    }
    let place = node.media.previewers.acquire().await.map_err(MatrixError::internal)?;
    // Somebody else may have waited for the same.
    if let Some(known) = known(node, &key)? {
        return known;
    }
    let looked = timeout(&*node.clock, PATIENCE, look(node, user, url)).await;
    drop(place);
    let (data, picture) = match looked {
        Ok(Ok(found)) => (Some(found.0), found.1),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a web page could not be previewed");
            (None, None)
        }
        Err(_) => (None, None),
    };
    let now = node.clock.now_ms();
    let until = now + if data.is_some() { GOOD_MS } else { BAD_MS };
    let (server, row) = (node.server_name().to_string(), PreviewRow { until, data: data.clone(), picture });
    node.store.write(move |tx| keep(tx, server, key, row)).await?;
    data.ok_or_else(unreachable)
}

fn unreachable() -> MatrixError {
    MatrixError::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", "the web page could not be had")
}

/// What is known of a page that counts still.
fn known(node: &Node, key: &String) -> Answer<Option<Answer<Value>>> {
    let row = node.store.read(|read| PREVIEWS.get(read, key))?;
    let row = row.filter(|row| row.0.until > node.clock.now_ms());
    Ok(row.map(|Json(row)| row.data.ok_or_else(unreachable)))
}

/// Keeps a preview in place of an older one, and drops those that are the oldest when there are too many. Their pictures go, too.
fn keep(tx: &mut Tx, server: String, key: String, row: PreviewRow) -> Result<(), StoreError> {
    if let Some(Json(old)) = PREVIEWS.get(tx, &key)? {
        drop_picture(tx, &server, old.picture)?;
    }
    PREVIEWS.put(tx, &key, &Json(row))?;
    let mut all: Vec<(u64, String)> =
        PREVIEWS.range(tx, ..)?.map(|row| row.map(|(key, row)| (row.0.until, key))).collect::<Result<_, _>>()?;
    if all.len() > MAX_PREVIEWS {
        all.sort_unstable();
        // Some more than must go, so that this is not done each time.
        for (_, key) in all.into_iter().take(MAX_PREVIEWS / 10) {
            if let Some(Json(old)) = PREVIEWS.get(tx, &key)? {
                drop_picture(tx, &server, old.picture)?;
            }
            PREVIEWS.delete(tx, &key)?;
        }
    }
    Ok(())
}

fn drop_picture(tx: &mut Tx, server: &str, picture: Option<String>) -> Result<(), StoreError> {
    let Some(id) = picture else { return Ok(()) };
    let key = (server.to_owned(), id);
    match MEDIA.get(tx, &key)? {
        Some(Json(row)) => forget(tx, key, row.blob),
        None => Ok(()),
    }
}

/// A page's preview, and the media ID of its picture.
async fn look(node: &Arc<Node>, user: &UserId, url: Url) -> Answer<(Value, Option<String>)> {
    let (url, answer) = fetch(node, url, LONGEST_PAGE, Longer::Cut, "text/html,image/*;q=0.5").await?;
    let kind = content_type(answer.headers());
    let mut data = Map::new();
    let mut picture = None;
    match kind.as_str() {
        "text/html" | "application/xhtml+xml" => {
            let text = page::text(answer.body(), answer.headers());
            let found = page::look(&text);
            picture = found.picture.as_deref().and_then(|picture| url.join(picture).ok());
            data = found.fields;
        }
        kind if kind.starts_with("image/") => picture = Some(url),
        _ => {}
    }
    let mut id = None;
    if let Some(picture) = picture
        && let Ok(found) = take_picture(node, user, picture).await
    {
        let uri = format!("mxc://{}/{}", node.server_name(), found.id);
        data.insert("og:image".to_owned(), json!(uri));
        data.insert("og:image:type".to_owned(), json!(found.kind));
        data.insert("og:image:width".to_owned(), json!(found.width));
        data.insert("og:image:height".to_owned(), json!(found.height));
        data.insert("matrix:image:size".to_owned(), json!(found.size));
        id = Some(found.id);
    }
    Ok((Value::Object(data), id))
}

struct Picture {
    id: String,
    kind: &'static str,
    width: u32,
    height: u32,
    size: usize,
}

/// Fetches a picture and keeps it as a file. What is no picture that this node knows is left out.
async fn take_picture(node: &Arc<Node>, user: &UserId, url: Url) -> Answer<Picture> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(unreachable());
    }
    let (_, answer) = fetch(node, url, LARGEST_PICTURE, Longer::Refuse, "image/*").await?;
    let bytes = answer.into_body();
    // Of the whole picture only its head is looked at.
    let reader =
        image::ImageReader::new(std::io::Cursor::new(&bytes)).with_guessed_format().map_err(|_| unreachable())?;
    let kind = reader.format().ok_or_else(unreachable)?.to_mime_type();
    let (width, height) = reader.into_dimensions().map_err(|_| unreachable())?;
    let about = ingest::About { content_type: Some(kind.to_owned()), filename: None };
    let size = bytes.len();
    let id = ingest::upload(node, user, None, about, Full::new(bytes)).await?;
    Ok(Picture { id, kind, width, height, size })
}

/// The answer at a URL, with the URL that redirects led to.
async fn fetch(
    node: &Arc<Node>,
    mut url: Url,
    most: usize,
    longer: Longer,
    accept: &'static str,
) -> Answer<(Url, Response<Bytes>)> {
    let reach = Reach { private: node.config.federation.allow_private_addresses, most, longer };
    for _ in 0..=MOST_REDIRECTS {
        let request = Request::get(url.as_str())
            .header(header::ACCEPT, accept)
            .header(header::USER_AGENT, "kith (previews of links)")
            .body(Bytes::new())
            .map_err(|_| MatrixError::invalid_param("this is no URL of a web page"))?;
        let answer = node.web.call(request, reach).await.map_err(|error| {
            MatrixError::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", format!("the web page could not be had: {error}"))
        })?;
        if answer.status().is_success() {
            return Ok((url, answer));
        }
        let target = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let Some(target) = target.filter(|_| answer.status().is_redirection()) else { break };
        url = url.join(target).map_err(|_| unreachable())?;
        if !matches!(url.scheme(), "http" | "https") || url.as_str().len() > LONGEST_URL {
            break;
        }
    }
    Err(unreachable())
}

/// The content type without its parameters, in lower case.
fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
