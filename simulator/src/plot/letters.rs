//! Letters as outlines, so that the images need no font. What has no outline here is drawn as a question mark.

use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Units of the outlines in an em.
const EM: f64 = 2048.0;

/// A step of an outline; `y` goes upwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// Goes there without drawing.
    Move(f64, f64),
    /// A straight line.
    Line(f64, f64),
    /// A quadratic curve: its control point and its end.
    Curve(f64, f64, f64, f64),
    /// Back to where the outline began.
    Close,
}

#[derive(Debug, Default)]
struct Letter {
    advance: f64,
    outline: Vec<Step>,
}

fn all() -> &'static BTreeMap<char, Letter> {
    static ALL: OnceLock<BTreeMap<char, Letter>> = OnceLock::new();
    ALL.get_or_init(|| include_str!("glyphs.txt").lines().filter_map(read).collect())
}

/// Reads a line of `glyphs.txt`.
fn read(line: &str) -> Option<(char, Letter)> {
    let (code, rest) = line.split_once(' ').filter(|_| !line.starts_with('#'))?;
    let letter = char::from_u32(u32::from_str_radix(code, 16).ok()?)?;
    let (advance, drawn) = rest.split_once(' ').unwrap_or((rest, ""));
    let mut outline = Vec::new();
    let mut at = 0;
    while let Some(kind) = drawn.get(at..at + 1) {
        let tail = drawn.get(at + 1..).unwrap_or_default();
        let length = tail.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(tail.len());
        let numbers: Vec<f64> = tail.get(..length)?.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        outline.push(match (kind, numbers.as_slice()) {
            ("M", [x, y]) => Step::Move(x / EM, y / EM),
            ("L", [x, y]) => Step::Line(x / EM, y / EM),
            ("Q", [a, b, x, y]) => Step::Curve(a / EM, b / EM, x / EM, y / EM),
            ("Z", []) => Step::Close,
            _ => return None,
        });
        at += 1 + length;
    }
    Some((letter, Letter { advance: advance.parse::<f64>().ok()? / EM, outline }))
}

fn letter(letter: char) -> Option<&'static Letter> {
    all().get(&letter).or_else(|| all().get(&'?'))
}

/// How wide a text of a size is.
pub fn width(text: &str, size: f64) -> f64 {
    text.chars().filter_map(letter).map(|letter| letter.advance * size).sum()
}

/// The outlines of a text of size 1, that begins at 0.
pub fn outline(text: &str) -> Vec<Step> {
    let mut at = 0.0;
    let mut steps = Vec::new();
    for letter in text.chars().filter_map(letter) {
        steps.extend(letter.outline.iter().map(|step| match *step {
            Step::Move(x, y) => Step::Move(at + x, y),
            Step::Line(x, y) => Step::Line(at + x, y),
            Step::Curve(a, b, x, y) => Step::Curve(at + a, b, at + x, y),
            Step::Close => Step::Close,
        }));
        at += letter.advance;
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_printable_letter_of_ascii_has_an_outline() {
        for code in 0x21..0x7f_u8 {
            let letter = all().get(&char::from(code)).unwrap();
            assert!(letter.advance > 0.2 && letter.outline.last() == Some(&Step::Close), "{:?}", char::from(code));
        }
        assert!(all()[&' '].outline.is_empty());
        assert!(all().contains_key(&'±') && all().contains_key(&'…'));
    }

    #[test]
    fn texts_grow_with_each_letter() {
        assert_eq!(width("", 12.0), 0.0);
        assert!((width("mm", 10.0) - 2.0 * width("m", 10.0)).abs() < 1e-9);
        assert!(width("m", 10.0) > width("i", 10.0));
        assert_eq!(outline("漢"), outline("?"));
    }
}
