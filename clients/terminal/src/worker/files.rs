//! Photos and files: sending, saving, showing.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use image::DynamicImage;
use matrix_sdk::{
    Client, Room,
    attachment::{AttachmentConfig, AttachmentInfo, BaseFileInfo, BaseImageInfo, Thumbnail},
    media::{MediaFormat, MediaRequestParameters},
    ruma::{
        UInt,
        events::room::{
            MediaSource,
            message::{MessageType, TextMessageEventContent},
        },
    },
};
use matrix_sdk_ui::timeline::{self, AttachmentSource, EventTimelineItem, MsgLikeKind, TimelineItemContent};

use super::Worker;
use crate::{folder, photo, protocol::News, text};

/// Bytes of a picture that is fetched to be shown.
const LARGEST_PICTURE: u64 = 40 << 20;
/// Sides of the thumbnails that go along with photos.
const THUMBNAIL: u32 = 800;
/// Sides of a picture that is shown: a terminal has no use for more.
const SHOWN: u32 = 2_000;

impl Worker {
    pub(super) async fn send_file(&self, path: &str) -> Result<()> {
        let room = self.the_room().await?;
        let file = read(&self.client, &from_home(path)).await?;
        let open = self.open.lock().await;
        let shown = &open.as_ref().context("open a room first")?.timeline;
        if shown.room().room_id() != room.room_id() {
            bail!("the room was changed meanwhile");
        }
        if !file.bare {
            self.tell(News::Note("sent as it is: a place in a photo of this kind cannot be taken out".to_owned()));
        }
        let config = timeline::AttachmentConfig {
            info: Some(file.info),
            thumbnail: file.thumbnail,
            ..timeline::AttachmentConfig::default()
        };
        let source = AttachmentSource::Data { bytes: file.data, filename: file.name };
        shown.send_attachment(source, file.kind, config).use_send_queue().await?;
        Ok(())
    }

    pub(super) async fn save(&self, key: &str) -> Result<()> {
        let (_, event) = self.item(key).await?;
        let (source, name) = media(&event).context("there is no file in that message")?;
        self.tell(News::Note("loading …".to_owned()));
        let request = MediaRequestParameters { source, format: MediaFormat::File };
        let data = self.client.media().get_media_content(&request, true).await?;
        let path = tokio::task::spawn_blocking(move || folder::save_download(&name, &data)).await??;
        self.tell(News::Note(format!("saved as {}", text::line(&path.display().to_string()))));
        Ok(())
    }

    pub(super) async fn picture(&self, key: String) -> Result<()> {
        let picture = self.fetch_picture(&key).await.map_err(|error| crate::failure::words(&error));
        self.tell(News::Picture { key, picture });
        Ok(())
    }

    async fn fetch_picture(&self, key: &str) -> Result<DynamicImage> {
        let (_, event) = self.item(key).await?;
        if size(&event).is_some_and(|bytes| bytes > LARGEST_PICTURE) {
            bail!("it is too large");
        }
        let (source, _) = media(&event).context("there is no picture in that message")?;
        let request = MediaRequestParameters { source, format: MediaFormat::File };
        let data = self.client.media().get_media_content(&request, true).await?;
        tokio::task::spawn_blocking(move || {
            let image = photo::decode(&data)?;
            let large = image.width() > SHOWN || image.height() > SHOWN;
            Ok(if large { image.thumbnail(SHOWN, SHOWN) } else { image })
        })
        .await?
    }
}

fn media(event: &EventTimelineItem) -> Option<(MediaSource, String)> {
    let TimelineItemContent::MsgLike(content) = event.content() else { return None };
    match &content.kind {
        MsgLikeKind::Message(message) => match message.msgtype() {
            MessageType::Image(content) => Some((content.source.clone(), content.filename().to_owned())),
            MessageType::Video(content) => Some((content.source.clone(), content.filename().to_owned())),
            MessageType::Audio(content) => Some((content.source.clone(), content.filename().to_owned())),
            MessageType::File(content) => Some((content.source.clone(), content.filename().to_owned())),
            _ => None,
        },
        MsgLikeKind::Sticker(sticker) => {
            let content = sticker.content();
            Some((content.source.clone().into(), content.body.clone()))
        }
        _ => None,
    }
}

fn size(event: &EventTimelineItem) -> Option<u64> {
    match event.content().as_message()?.msgtype() {
        MessageType::Image(content) => content.info.as_ref()?.size.map(Into::into),
        _ => None,
    }
}

/// A file that is about to be sent.
pub struct Outgoing {
    pub name: String,
    pub kind: mime_guess::Mime,
    pub data: Vec<u8>,
    pub info: AttachmentInfo,
    pub thumbnail: Option<Thumbnail>,
    /// False for a photo of a kind in which the place and the time, if it tells them, cannot be looked for.
    pub bare: bool,
}

/// A file of this device that is not larger than the server takes.
pub async fn load(client: &Client, path: &Path) -> Result<Vec<u8>> {
    let shown = text::line(&path.display().to_string());
    let about = tokio::fs::metadata(path).await.with_context(|| format!("{shown} cannot be read"))?;
    if !about.is_file() {
        bail!("{shown} is no file");
    }
    let most: u64 = client.load_or_fetch_max_upload_size().await.map_or(100 << 20, Into::into);
    if about.len() > most {
        bail!("{shown} is too large: {} and at most {}", text::size(about.len()), text::size(most));
    }
    tokio::fs::read(path).await.with_context(|| format!("{shown} cannot be read"))
}

/// Reads a file and what others should know of it before they load it.
pub async fn read(client: &Client, path: &Path) -> Result<Outgoing> {
    let name = path.file_name().context("that is no file")?.to_string_lossy().into_owned();
    let shown = text::line(&name);
    let data = load(client, path).await?;
    let kind = mime_guess::from_path(path).first_or_octet_stream();
    let is_image = kind.type_() == mime_guess::mime::IMAGE;
    tokio::task::spawn_blocking(move || {
        // Whatever its name says it is.
        let (data, image, bare) = match photo::clean(&data).with_context(|| format!("{shown} is not sent"))? {
            Some(clean) => (clean.data, clean.image, true),
            None => {
                let image = photo::decode(&data).ok();
                (data, image, !is_image || kind == mime_guess::mime::IMAGE_GIF)
            }
        };
        let size = UInt::new(data.len() as u64);
        if !is_image {
            let info = AttachmentInfo::File(BaseFileInfo { size });
            return Ok(Outgoing { name, kind, data, info, thumbnail: None, bare });
        }
        let side = |side: u32| Some(UInt::from(side));
        let info = AttachmentInfo::Image(BaseImageInfo {
            width: image.as_ref().and_then(|image| side(image.width())),
            height: image.as_ref().and_then(|image| side(image.height())),
            size,
            ..BaseImageInfo::default()
        });
        let thumbnail = image.as_ref().and_then(thumbnail);
        Ok(Outgoing { name, kind, data, info, thumbnail, bare })
    })
    .await?
}

fn thumbnail(image: &DynamicImage) -> Option<Thumbnail> {
    if image.width() <= THUMBNAIL && image.height() <= THUMBNAIL {
        return None;
    }
    let small = image.thumbnail(THUMBNAIL, THUMBNAIL);
    let data = photo::jpeg(&small, THUMBNAIL).ok()?;
    Some(Thumbnail {
        size: UInt::new(data.len() as u64)?,
        width: small.width().into(),
        height: small.height().into(),
        content_type: mime_guess::mime::IMAGE_JPEG,
        data,
    })
}

/// Sends a file and waits until the server has it.
pub async fn send_now(room: &Room, file: Outgoing, caption: Option<String>) -> Result<String> {
    let caption = caption.map(TextMessageEventContent::markdown);
    let config = AttachmentConfig::new().info(file.info).thumbnail(file.thumbnail).caption(caption);
    let sent = room.send_attachment(file.name, &file.kind, file.data, config).await;
    Ok(sent.map_err(crate::connect::judge)?.event_id.to_string())
}

/// A path as it is typed or dropped: quotes and `~/` are understood.
pub fn from_home(path: &str) -> PathBuf {
    let path = path.trim();
    let unquoted = ['\'', '"'].iter().find_map(|quote| path.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(path);
    match (unquoted.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(unquoted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_paths_lose_their_quotes() {
        assert_eq!(from_home(" '/tmp/a b.jpg' "), PathBuf::from("/tmp/a b.jpg"));
        assert_eq!(from_home("/tmp/x"), PathBuf::from("/tmp/x"));
    }
}
