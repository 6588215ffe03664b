use image::{Rgb, RgbImage};

use super::*;

/// EXIF that tells of a place and, in its first field, how to turn the picture.
fn exif(orientation: u8) -> Vec<u8> {
    let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    exif.extend(b"SECRET PLACE");
    exif
}

/// The left half is red, the right one blue.
fn picture(format: ImageFormat) -> Vec<u8> {
    let image = RgbImage::from_fn(32, 16, |x, _| if x < 16 { Rgb([250, 0, 0]) } else { Rgb([0, 0, 250]) });
    let mut data = Vec::new();
    DynamicImage::from(image).write_to(&mut Cursor::new(&mut data), format).unwrap();
    data
}

fn with_exif(format: ImageFormat, orientation: u8) -> Vec<u8> {
    let (data, exif) = (picture(format), exif(orientation));
    match format {
        ImageFormat::Jpeg => {
            let content = [b"Exif\0\0", exif.as_slice()].concat();
            let length = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
            let comment = b"\xFF\xFE\0\x08SECRET";
            [&data[..2], b"\xFF\xE1", &length, &content, comment, &data[2..], b"SECRET FILM"].concat()
        }
        ImageFormat::Png => {
            let chunk = |kind: &[u8], content: &[u8]| {
                let sum = crc(&[kind, content].concat()).to_be_bytes();
                [&u32::try_from(content.len()).unwrap().to_be_bytes(), kind, content, &sum].concat()
            };
            // Behind the header, which is 25 bytes long.
            [&data[..33], &chunk(b"eXIf", &exif), &chunk(b"tEXt", b"Comment\0SECRET"), &data[33..], b"SECRET"].concat()
        }
        ImageFormat::WebP => {
            let chunk = |kind: &[u8], content: &[u8]| {
                let padding = vec![0; content.len() % 2];
                [kind, &u32::try_from(content.len()).unwrap().to_le_bytes(), content, &padding].concat()
            };
            let head = chunk(b"VP8X", &[8, 0, 0, 0, 31, 0, 0, 15, 0, 0]);
            let chunks = [&head, &data[12..], &chunk(b"EXIF", &exif)].concat();
            let length = u32::try_from(chunks.len() + 4).unwrap().to_le_bytes();
            [b"RIFF".as_slice(), &length, b"WEBP", &chunks].concat()
        }
        _ => unreachable!(),
    }
}

fn crc(data: &[u8]) -> u32 {
    let step = |sum: u32| if sum & 1 == 1 { 0xEDB8_8320 ^ (sum >> 1) } else { sum >> 1 };
    !data.iter().fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), |sum, _| step(sum)))
}

fn is_red(image: &DynamicImage, x: u32, y: u32) -> bool {
    let [red, _, blue] = image.to_rgb8().get_pixel(x, y).0;
    red > 150 && blue < 100
}

const FORMATS: [ImageFormat; 3] = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP];

#[test]
fn what_is_sent_holds_no_place_and_the_very_same_pixels() {
    for format in FORMATS {
        let photo = with_exif(format, 1);
        assert!(photo.windows(6).any(|part| part == b"SECRET"));
        let clean = clean(&photo).unwrap().unwrap();
        assert!(!clean.data.windows(6).any(|part| part == b"SECRET"), "{format:?}");
        assert_eq!(decode(&clean.data).unwrap(), decode(&picture(format)).unwrap(), "{format:?}");
        assert_eq!(clean.image.map(|image| (image.width(), image.height())), Some((32, 16)));
    }
}

#[test]
fn a_photo_that_says_how_to_turn_it_is_turned_before_it_forgets_that() {
    for format in FORMATS {
        // Turned clockwise by a quarter: what was left is above.
        let clean = clean(&with_exif(format, 6)).unwrap().unwrap();
        assert!(!clean.data.windows(6).any(|part| part == b"SECRET"), "{format:?}");
        for image in [clean.image.unwrap(), decode(&clean.data).unwrap()] {
            assert_eq!((image.width(), image.height()), (16, 32), "{format:?}");
            assert!(is_red(&image, 8, 4) && !is_red(&image, 8, 28), "{format:?}");
        }
        assert_eq!(image::guess_format(&clean.data).unwrap(), format);
    }
}

#[test]
fn colours_stay_exact_when_a_photo_is_turned() {
    let mut photo = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut photo, 90);
    encoder.set_icc_profile(b"a profile".to_vec()).unwrap();
    encoder.set_exif_metadata(exif(6)).unwrap();
    decode(&picture(ImageFormat::Png)).unwrap().write_with_encoder(encoder).unwrap();
    let clean = clean(&photo).unwrap().unwrap().data;
    assert_eq!(decode_as_stored(&clean, OWN).unwrap().colours.as_deref(), Some(b"a profile".as_slice()));
}

#[test]
fn a_damaged_photo_is_not_sent_with_what_cannot_be_taken_out_of_it() {
    for format in FORMATS {
        let photo = with_exif(format, 1);
        for length in 16..photo.len().min(200) {
            if let Ok(Some(clean)) = clean(&photo[..length]) {
                assert!(!clean.data.windows(6).any(|part| part == b"SECRET"), "{format:?} cut at {length}");
            }
        }
    }
    assert!(clean(b"\xFF\xD8\xFF\xE1\x40\0Exif\0\0SECRET").is_err());
    assert!(clean(b"text").unwrap().is_none() && clean(b"").unwrap().is_none());
}

#[test]
fn broken_pictures_and_bombs_are_refused() {
    assert!(decode(b"no picture").is_err());
    // The head of a PNG that claims 60,000 pixels a side.
    let mut bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    bomb.extend(60_000u32.to_be_bytes());
    bomb.extend(60_000u32.to_be_bytes());
    bomb.extend([8, 6, 0, 0, 0, 0, 0, 0, 0]);
    assert!(decode(&bomb).is_err());
    let good = picture(ImageFormat::Png);
    assert_eq!(decode(&good).unwrap().width(), 32);
    assert!(decode(&good[..good.len() / 2]).is_err());
}

#[test]
fn a_picture_of_oneself_is_small_and_the_right_way_up() {
    let portrait = portrait(&with_exif(ImageFormat::Jpeg, 6)).unwrap();
    let image = decode(&portrait).unwrap();
    assert!(is_red(&image, 8, 4) && image.height() == 32);
    let mut large = Vec::new();
    DynamicImage::new_rgba8(2000, 1000).write_to(&mut Cursor::new(&mut large), ImageFormat::Png).unwrap();
    let image = decode(&super::portrait(&large).unwrap()).unwrap();
    assert_eq!((image.width(), image.height()), (512, 256));
}
