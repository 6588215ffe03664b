//! Thumbnails: made once per form, of images only, off the async threads and within bounds.

use std::{
    io::{Cursor, Read as _},
    sync::Arc,
};

use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, Limits, imageops::FilterType};
use kith_store::{
    Json,
    tables::media::{MediaRow, THUMBNAILS},
};
use ruma::ServerName;

use super::ingest::Intake;
use crate::{
    Node,
    http::{Answer, MatrixError},
    platform::SpawnerExt as _,
};

/// The largest file that is decoded.
const MOST_BYTES: u64 = 32 << 20;
/// The largest side of an image that is decoded, in pixels.
const LONGEST_SIDE: u32 = 16_384;
/// The most memory a decoder may take.
const MOST_MEMORY: u64 = 256 << 20;
/// A form that thumbnails are made in; requests are answered with the next larger one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    width: u32,
    height: u32,
    crop: bool,
}

const FORMS: [Form; 5] = [
    Form { width: 32, height: 32, crop: true },
    Form { width: 96, height: 96, crop: true },
    Form { width: 320, height: 240, crop: false },
    Form { width: 640, height: 480, crop: false },
    Form { width: 800, height: 600, crop: false },
];

impl Form {
    /// The smallest form that serves a request.
    pub fn for_request(width: u64, height: u64, crop: bool) -> Self {
        let fits =
            |form: &&Self| form.crop == crop && u64::from(form.width) >= width && u64::from(form.height) >= height;
        FORMS.iter().find(fits).copied().unwrap_or(if crop {
            // Larger crops than are listed are rare: avatars on large screens.
            Self { width: 320, height: 320, crop: true }
        } else {
            Self { width: 800, height: 600, crop: false }
        })
    }

    fn name(self) -> String {
        format!("{}x{}-{}", self.width, self.height, if self.crop { "crop" } else { "scale" })
    }
}

/// The thumbnail of a file: made now if it was not before. An image that is smaller than the form, is given itself.
///
/// # Errors
/// `M_NOT_FOUND`, or `M_UNKNOWN` (400) for what no thumbnail can be made of.
pub async fn thumbnail(node: &Arc<Node>, server: &ServerName, id: &str, form: Form, fetch: bool) -> Answer<MediaRow> {
    let original = super::find(node, server, id, fetch).await?;
    let key = (server.to_string(), id.to_owned(), form.name());
    if let Some(Json(row)) = node.store.read(|read| THUMBNAILS.get(read, &key))? {
        return Ok(row);
    }
    if original.size > MOST_BYTES {
        return Err(no_thumbnail());
    }
    let _turn = node.media.decoders.acquire().await.map_err(MatrixError::internal)?;
    let mut blob = super::open(node, &original).await?;
    let made = node
        .spawner
        .blocking("thumbnail", move || {
            let mut bytes = Vec::new();
            blob.content.read_to_end(&mut bytes).ok()?;
            make(&bytes, form)
        })
        .await
        .map_err(MatrixError::internal)?;
    let (bytes, kind) = match made {
        Some(Made::Thumbnail(bytes, kind)) => (bytes, kind),
        Some(Made::SmallAlready) => return Ok(original),
        None => return Err(no_thumbnail()),
    };
    let mut intake = Intake::begin(node, MOST_BYTES).await?;
    intake.add(&bytes).await?;
    let (blob, size) = intake.finish().await?;
    let row = MediaRow {
        blob,
        size,
        content_type: Some(kind.to_owned()),
        filename: None,
        uploader: None,
        created: node.clock.now_ms(),
        used: 0,
    };
    super::note(node, server, id, Some(form.name()), row.clone()).await?;
    Ok(row)
}

fn no_thumbnail() -> MatrixError {
    MatrixError::bad_request("no thumbnail can be made of this file: it is no image of a known kind, or too large")
}

enum Made {
    Thumbnail(Vec<u8>, &'static str),
    SmallAlready,
}

/// What decodes an image, unless its pixels would take too much memory.
fn decoder(bytes: &[u8]) -> Option<impl image::ImageDecoder + '_> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().ok()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(LONGEST_SIDE);
    limits.max_image_height = Some(LONGEST_SIDE);
    limits.max_alloc = Some(MOST_MEMORY);
    reader.limits(limits);
    let decoder = reader.into_decoder().ok()?;
    // The limits bind what a decoder takes for itself, not the pixels that it is asked for.
    (decoder.total_bytes() <= MOST_MEMORY).then_some(decoder)
}

fn make(bytes: &[u8], form: Form) -> Option<Made> {
    let mut decoder = decoder(bytes)?;
    let orientation = decoder.orientation().ok();
    let mut image = DynamicImage::from_decoder(decoder).ok()?;
    if let Some(orientation) = orientation {
        image.apply_orientation(orientation);
    }
    if image.width() <= form.width && image.height() <= form.height {
        return Some(Made::SmallAlready);
    }
    let small = if form.crop {
        image.resize_to_fill(form.width, form.height, FilterType::Triangle)
    } else {
        image.resize(form.width, form.height, FilterType::Triangle)
    };
    let mut out = Cursor::new(Vec::new());
    let kind = if small.color().has_alpha() {
        small.write_to(&mut out, ImageFormat::Png).ok()?;
        "image/png"
    } else {
        DynamicImage::ImageRgb8(small.to_rgb8()).write_to(&mut out, ImageFormat::Jpeg).ok()?;
        "image/jpeg"
    };
    Some(Made::Thumbnail(out.into_inner(), kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        DynamicImage::new_rgb8(width, height).write_to(&mut out, ImageFormat::Png).unwrap();
        out.into_inner()
    }

    #[test]
    fn a_request_gets_the_next_larger_form() {
        assert_eq!(Form::for_request(50, 50, true).name(), "96x96-crop");
        assert_eq!(Form::for_request(320, 241, false).name(), "640x480-scale");
        assert_eq!(Form::for_request(5000, 5000, false).name(), "800x600-scale");
    }

    #[test]
    fn a_scaled_thumbnail_keeps_its_proportions_and_a_cropped_one_fills_the_form() {
        for (crop, expected) in [(false, (320, 160)), (true, (96, 96))] {
            let form = if crop { FORMS[1] } else { FORMS[2] };
            let Some(Made::Thumbnail(bytes, kind)) = make(&png(1000, 500), form) else { panic!("nothing made") };
            assert_eq!(kind, "image/jpeg");
            let small = image::load_from_memory(&bytes).unwrap();
            assert_eq!((small.width(), small.height()), expected);
        }
    }

    /// A PNG whose head promises so many pixels of 4 bytes, and which holds none.
    fn bomb(side: u32) -> Vec<u8> {
        let chunk = |kind: &[u8; 4], data: &[u8]| {
            let body = [kind.as_slice(), data].concat();
            let sum = !body.iter().fold(u32::MAX, |sum, byte| {
                (0..8)
                    .fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 })
            });
            [&(data.len() as u32).to_be_bytes(), body.as_slice(), &sum.to_be_bytes()].concat()
        };
        let head = [&side.to_be_bytes()[..], &side.to_be_bytes(), &[8, 6, 0, 0, 0]].concat();
        [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &head), chunk(b"IDAT", &[]), chunk(b"IEND", &[])].concat()
    }

    #[test]
    fn an_image_that_would_fill_the_memory_is_not_begun() {
        assert!(decoder(&bomb(4_000)).is_some());
        assert!(decoder(&bomb(LONGEST_SIDE)).is_none(), "a gibibyte of pixels");
    }

    #[test]
    fn small_images_stay_as_they_are_and_what_is_no_image_gives_none() {
        assert!(matches!(make(&png(30, 20), FORMS[0]), Some(Made::SmallAlready)));
        assert!(make(b"hello, this is no image", FORMS[0]).is_none());
        assert!(make(&png(1000, 500)[..200], FORMS[0]).is_none());
    }
}
