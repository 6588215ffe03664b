//! Draws marks as SVG and as PNG.

use std::fmt::Write as _;

use tiny_skia::{FillRule, Paint, Path, PathBuilder, Pixmap, Stroke, StrokeDash, Transform};

use super::chart::{Anchor, HEIGHT, Mark, WIDTH};
use super::letters::{self, Step};

/// Pixels of a PNG to a point.
const DENSITY: f32 = 2.0;
/// How much of what is behind an area is hidden by it, of 255.
const OPACITY: u8 = 46;
/// Lengths of a dash and of the gap after it.
const DASHES: (f32, f32) = (7.0, 5.0);

/// The figure as an SVG document. Viewers draw the text with a font of their own.
pub fn svg(marks: &[Mark], title: &str) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"DejaVu Sans, Verdana, sans-serif\">\n<title>{}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        escaped(title)
    );
    for mark in marks {
        // Writing into a string does not fail.
        let _ = match mark {
            Mark::Line { points, colour, width, dashed } => {
                let dashes =
                    if *dashed { format!(" stroke-dasharray=\"{} {}\"", DASHES.0, DASHES.1) } else { String::new() };
                writeln!(
                    out,
                    "<polyline points=\"{}\" fill=\"none\" stroke=\"#{colour:06x}\" stroke-width=\"{width}\" \
                     stroke-linejoin=\"round\"{dashes}/>",
                    listed(points)
                )
            }
            Mark::Area { points, colour } => {
                let opacity = f64::from(OPACITY) / 255.0;
                let points = listed(points);
                writeln!(out, "<polygon points=\"{points}\" fill=\"#{colour:06x}\" fill-opacity=\"{opacity:.2}\"/>")
            }
            Mark::Text { at, text, size, colour, anchor, upwards } => {
                let anchor = match anchor {
                    Anchor::Start => "start",
                    Anchor::Middle => "middle",
                    Anchor::End => "end",
                };
                let (x, y) = at;
                let turn = if *upwards { format!(" transform=\"rotate(-90 {x:.2} {y:.2})\"") } else { String::new() };
                writeln!(
                    out,
                    "<text x=\"{x:.2}\" y=\"{y:.2}\" font-size=\"{size}\" fill=\"#{colour:06x}\" \
                     text-anchor=\"{anchor}\"{turn}>{}</text>",
                    escaped(text)
                )
            }
        };
    }
    out.push_str("</svg>\n");
    out
}

fn listed(points: &[(f64, f64)]) -> String {
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.2},{y:.2}")).collect();
    points.join(" ")
}

fn escaped(text: &str) -> String {
    let kept = text.chars().filter(|letter| !letter.is_control());
    kept.map(|letter| match letter {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        letter => letter.to_string(),
    })
    .collect()
}

/// The figure as a PNG file.
///
/// # Errors
/// When memory does not suffice for the image.
pub fn png(marks: &[Mark]) -> Result<Vec<u8>, String> {
    let (width, height) = ((WIDTH as f32 * DENSITY) as u32, (HEIGHT as f32 * DENSITY) as u32);
    let mut pixels = Pixmap::new(width, height).ok_or("no memory for the image")?;
    pixels.fill(tiny_skia::Color::WHITE);
    let scale = Transform::from_scale(DENSITY, DENSITY);
    for mark in marks {
        match mark {
            Mark::Line { points, colour, width, dashed } => {
                let dash = if *dashed { StrokeDash::new(vec![DASHES.0, DASHES.1], 0.0) } else { None };
                let line_join = tiny_skia::LineJoin::Round;
                let stroke = Stroke { width: *width as f32, line_join, dash, ..Stroke::default() };
                if let Some(path) = along(points, false) {
                    pixels.stroke_path(&path, &paint(*colour, 255), &stroke, scale, None);
                }
            }
            Mark::Area { points, colour } => {
                if let Some(path) = along(points, true) {
                    pixels.fill_path(&path, &paint(*colour, OPACITY), FillRule::Winding, scale, None);
                }
            }
            Mark::Text { at, text, size, colour, anchor, upwards } => {
                let width = letters::width(text, *size);
                let back = match anchor {
                    Anchor::Start => 0.0,
                    Anchor::Middle => width / 2.0,
                    Anchor::End => width,
                };
                let mut place = scale.pre_translate(at.0 as f32, at.1 as f32);
                if *upwards {
                    place = place.pre_rotate(-90.0);
                }
                let place = place.pre_translate(-back as f32, 0.0).pre_scale(*size as f32, -*size as f32);
                if let Some(path) = written(text) {
                    pixels.fill_path(&path, &paint(*colour, 255), FillRule::Winding, place, None);
                }
            }
        }
    }
    encode(&pixels).map_err(|error| error.to_string())
}

fn encode(pixels: &Pixmap) -> Result<Vec<u8>, png::EncodingError> {
    // All is opaque, as the ground is white: the fourth channel says nothing.
    let opaque: Vec<u8> = pixels.data().chunks_exact(4).flat_map(|pixel| pixel.iter().copied().take(3)).collect();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, pixels.width(), pixels.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&opaque)?;
    writer.finish()?;
    Ok(file)
}

fn paint(colour: u32, opacity: u8) -> Paint<'static> {
    let [_, red, green, blue] = colour.to_be_bytes();
    let mut paint = Paint::default();
    paint.set_color_rgba8(red, green, blue, opacity);
    paint
}

fn along(points: &[(f64, f64)], closed: bool) -> Option<Path> {
    let mut path = PathBuilder::new();
    for (turn, (x, y)) in points.iter().enumerate() {
        let (x, y) = (*x as f32, *y as f32);
        if turn == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
    }
    if closed {
        path.close();
    }
    path.finish()
}

fn written(text: &str) -> Option<Path> {
    let mut path = PathBuilder::new();
    for step in letters::outline(text) {
        match step {
            Step::Move(x, y) => path.move_to(x as f32, y as f32),
            Step::Line(x, y) => path.line_to(x as f32, y as f32),
            Step::Curve(a, b, x, y) => path.quad_to(a as f32, b as f32, x as f32, y as f32),
            Step::Close => path.close(),
        }
    }
    path.finish()
}
