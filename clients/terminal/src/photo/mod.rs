//! Photos: decoding those of strangers within bounds, and taking out of one's own what is nobody else's business (place,
//! camera, time; what an editor noted). Pure: bytes in, bytes out.

mod strip;

use std::io::Cursor;

use anyhow::{Context as _, Result, bail};
use image::{
    DynamicImage, ImageDecoder, ImageEncoder, ImageFormat, ImageReader, Limits,
    codecs::{jpeg::JpegEncoder, png::PngEncoder, webp::WebPEncoder},
    metadata::Orientation,
};

/// Sides and bytes of memory of strangers' pictures: more is an attack, or of no use in a terminal.
const STRANGERS: (u32, u64) = (12_000, 256 << 20);
/// And of one's own, which cameras make ever larger.
const OWN: (u32, u64) = (60_000, 1 << 30);
/// What a JPEG that had to be turned is written with, of 100.
const QUALITY: u8 = 92;
/// Sides of one's own picture: others show it small.
const PORTRAIT: u32 = 512;

/// A photo that may be sent.
pub struct Clean {
    pub data: Vec<u8>,
    /// As it is seen, in full size. None where it cannot be decoded, such as one that is too large.
    pub image: Option<DynamicImage>,
}

struct Decoded {
    image: DynamicImage,
    orientation: Orientation,
    colours: Option<Vec<u8>>,
}

fn decode_as_stored(data: &[u8], (side, memory): (u32, u64)) -> Result<Decoded> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(side);
    limits.max_image_height = Some(side);
    limits.max_alloc = Some(memory);
    let mut reader = ImageReader::new(Cursor::new(data)).with_guessed_format()?;
    reader.limits(limits);
    let broken = "it is damaged, too large, or of a kind that is not known";
    let mut decoder = reader.into_decoder().context(broken)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let colours = decoder.icc_profile().ok().flatten();
    let image = DynamicImage::from_decoder(decoder).context(broken)?;
    Ok(Decoded { image, orientation, colours })
}

/// Decodes a picture of a stranger, the right way up, within bounds of size and memory.
pub fn decode(data: &[u8]) -> Result<DynamicImage> {
    let Decoded { mut image, orientation, .. } = decode_as_stored(data, STRANGERS)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// The photo without anything but the picture (its colours stay exact), turned where its data told viewers to. JPEG, PNG and
/// WebP; None for a file that is none of these. One that cannot be cleaned is refused: it would tell what it should not.
pub fn clean(data: &[u8]) -> Result<Option<Clean>> {
    let format = match image::guess_format(data) {
        Ok(format @ (ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP)) => format,
        _ => return Ok(None),
    };
    match decode_as_stored(data, OWN) {
        Ok(Decoded { mut image, orientation, colours }) if orientation != Orientation::NoTransforms => {
            image.apply_orientation(orientation);
            let data = encode(&image, format, colours)?;
            Ok(Some(Clean { data, image: Some(image) }))
        }
        decoded => {
            let Some(data) = strip::strip(data, format) else {
                bail!("the picture is damaged, so that the place and time in it cannot be taken out");
            };
            Ok(Some(Clean { data, image: decoded.ok().map(|decoded| decoded.image) }))
        }
    }
}

fn encode(image: &DynamicImage, format: ImageFormat, colours: Option<Vec<u8>>) -> Result<Vec<u8>> {
    fn write(image: &DynamicImage, mut encoder: impl ImageEncoder, colours: Option<Vec<u8>>) -> Result<()> {
        if let Some(colours) = colours {
            // An encoder that knows no profiles writes ordinary colours.
            encoder.set_icc_profile(colours).ok();
        }
        Ok(image.write_with_encoder(encoder)?)
    }
    let mut data = Vec::new();
    match format {
        ImageFormat::Jpeg => write(image, JpegEncoder::new_with_quality(&mut data, QUALITY), colours)?,
        ImageFormat::WebP => write(image, WebPEncoder::new_lossless(&mut data), colours)?,
        _ => write(image, PngEncoder::new(&mut data), colours)?,
    }
    Ok(data)
}

/// A picture of oneself out of a photo: small, a JPEG, and nothing but the picture.
pub fn portrait(data: &[u8]) -> Result<Vec<u8>> {
    jpeg(&decode(data)?, PORTRAIT)
}

/// A JPEG with sides of at most so many pixels.
pub fn jpeg(image: &DynamicImage, most: u32) -> Result<Vec<u8>> {
    let small = if image.width() > most || image.height() > most { image.thumbnail(most, most) } else { image.clone() };
    let mut data = Vec::new();
    small.to_rgb8().write_to(&mut Cursor::new(&mut data), ImageFormat::Jpeg)?;
    Ok(data)
}

#[cfg(test)]
mod tests;
