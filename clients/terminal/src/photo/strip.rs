//! Takes everything but the picture out of image files without encoding them anew: part by part, as each format orders them. None
//! where a file is not in order.

use image::ImageFormat;

/// The file without what tells of anything but its pixels and colours.
pub fn strip(data: &[u8], format: ImageFormat) -> Option<Vec<u8>> {
    match format {
        ImageFormat::Jpeg => jpeg(data),
        ImageFormat::Png => png(data),
        ImageFormat::WebP => webp(data),
        _ => None,
    }
}

fn number(data: &[u8], at: usize, bytes: usize, big_endian: bool) -> Option<usize> {
    let part = data.get(at..at.checked_add(bytes)?)?;
    let add = |sum: usize, byte: &u8| (sum << 8) | usize::from(*byte);
    Some(if big_endian { part.iter().fold(0, add) } else { part.iter().rev().fold(0, add) })
}

/// Segments up to the end of the image. Kept are those that say how to decode it: of the APPn JFIF (0), a colour profile (2) and
/// Adobe's colour transform (14). What follows the image, such as the film that phones put there, is left out.
fn jpeg(data: &[u8]) -> Option<Vec<u8>> {
    const COLOURS: &[u8] = b"ICC_PROFILE\0";
    let mut kept = data.get(..2).filter(|begin| *begin == [0xFF, 0xD8])?.to_vec();
    let mut at = 2;
    loop {
        // Bytes of 0xFF may fill the space before a marker.
        while data.get(at..at + 2)? == [0xFF, 0xFF] {
            at += 1;
        }
        let [0xFF, marker] = *data.get(at..at + 2)? else { return None };
        if marker == 0xD9 {
            kept.extend([0xFF, 0xD9]);
            return Some(kept);
        }
        let segment =
            data.get(at..(at + 2).checked_add(number(data, at + 2, 2, true).filter(|length| *length >= 2)?)?)?;
        at += segment.len();
        let wanted = match marker {
            0xE0 | 0xEE => true,
            0xE2 => segment.get(4..).is_some_and(|content| content.starts_with(COLOURS)),
            0xE1..=0xEF | 0xFE => false,
            _ => true,
        };
        if wanted {
            kept.extend(segment);
        }
        if marker == 0xDA {
            // The compressed picture: up to a marker that is neither a stuffed byte nor a restart.
            let rest = &data[at..];
            let ends = |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xD0..=0xD7 | 0xFF);
            let length = rest.windows(2).position(ends)?;
            kept.extend(&rest[..length]);
            at += length;
        }
    }
}

/// Chunks up to the last. Left out are texts, the time, EXIF and whatever else a viewer does not need.
fn png(data: &[u8]) -> Option<Vec<u8>> {
    const KEPT: [&[u8]; 16] = [
        b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"bKGD",
        b"pHYs", b"acTL", b"fcTL", b"fdAT",
    ];
    let mut kept = data.get(..8)?.to_vec();
    let mut at = 8;
    loop {
        let length = number(data, at, 4, true)?;
        let kind = data.get(at + 4..at + 8)?;
        let chunk = data.get(at..at.checked_add(length)?.checked_add(12)?)?;
        if KEPT.contains(&kind) {
            kept.extend(chunk);
        }
        if kind == b"IEND" {
            return Some(kept);
        }
        at += chunk.len();
    }
}

/// Chunks of the container; those of EXIF and XMP go, with the bits that announce them.
fn webp(data: &[u8]) -> Option<Vec<u8>> {
    const KEPT: [&[u8]; 7] = [b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP"];
    const EXIF_AND_XMP: u8 = 0x0C;
    let end = number(data, 4, 4, false)?.checked_add(8)?;
    let data = data.get(..end)?;
    let mut chunks = Vec::new();
    let mut at = 12;
    while at < end {
        let length = number(data, at + 4, 4, false)?;
        let kind = data.get(at..at + 4)?;
        // Padded to an even length; at the very end some programs forget it.
        let chunk = data.get(at..at.checked_add(length)?.checked_add(8)?)?;
        if KEPT.contains(&kind) {
            let begin = chunks.len();
            chunks.extend(chunk);
            if kind == b"VP8X" {
                *chunks.get_mut(begin + 8)? &= !EXIF_AND_XMP;
            }
            chunks.resize(chunks.len() + length % 2, 0);
        }
        at += chunk.len() + length % 2;
    }
    let mut kept = b"RIFF".to_vec();
    kept.extend(u32::try_from(chunks.len() + 4).ok()?.to_le_bytes());
    kept.extend(b"WEBP");
    kept.extend(chunks);
    Some(kept)
}
