//! A chart, and how it is laid out: axes, ticks, curves with their bands, and a legend, as marks that any format can draw.

use super::letters;

/// Width of a figure, in points.
pub const WIDTH: f64 = 960.0;
/// Height of a figure, in points.
pub const HEIGHT: f64 = 540.0;
/// Colours that colour-blind people tell apart (Okabe and Ito).
const COLOURS: [u32; 7] = [0x0072b2, 0xd55e00, 0x009e73, 0xcc79a7, 0xe69f00, 0x56b4e9, 0x000000];
const INK: u32 = 0x222222;
const PALE: u32 = 0x666666;
const GRID: u32 = 0xe4e4e4;
const FINE: u32 = 0xf3f3f3;
/// Where the plane of the chart begins and ends.
const LEFT: f64 = 78.0;
const TOP: f64 = 92.0;
const BOTTOM: f64 = HEIGHT - 62.0;
/// The widest that the legend may be.
const LEGEND: f64 = 320.0;
/// Entries of a legend; there is no place for more.
const MOST_ENTRIES: usize = 20;

/// How an axis is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// By powers of ten.
    Log,
}

/// An axis.
#[derive(Debug, Clone)]
pub struct Axis {
    /// What it is, with the unit.
    pub label: String,
    /// How it is divided.
    pub scale: Scale,
    /// Its ends; made wider to whole ticks where that is `loose`.
    pub ends: (f64, f64),
    /// Whether the ends may be moved out to the next ticks.
    pub loose: bool,
    /// Whether there is nothing between whole numbers.
    pub whole: bool,
}

/// A point of a curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Where.
    pub x: f64,
    /// The value.
    pub y: f64,
    /// The band's lower end.
    pub low: f64,
    /// The band's upper end.
    pub high: f64,
}

/// A curve.
#[derive(Debug, Clone)]
pub struct Curve {
    /// Its name in the legend.
    pub label: String,
    /// The number of its colour.
    pub colour: usize,
    /// Whether it is dashed.
    pub dashed: bool,
    /// Its points, from left to right.
    pub points: Vec<Point>,
}

/// A chart.
#[derive(Debug, Clone)]
pub struct Chart {
    /// The title.
    pub title: String,
    /// What the curves and bands are; a line each.
    pub subtitle: String,
    /// The axis below.
    pub x: Axis,
    /// The axis on the left.
    pub y: Axis,
    /// The curves. Without points in any, `empty` is told instead.
    pub curves: Vec<Curve>,
    /// Why there may be nothing to see.
    pub empty: String,
}

/// Where a text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// It begins at its place.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// Something to be drawn.
#[derive(Debug, Clone)]
pub enum Mark {
    /// A line through points.
    Line {
        /// The points.
        points: Vec<(f64, f64)>,
        /// The colour.
        colour: u32,
        /// The width.
        width: f64,
        /// Whether it is dashed.
        dashed: bool,
    },
    /// A pale area.
    Area {
        /// Its corners.
        points: Vec<(f64, f64)>,
        /// The colour.
        colour: u32,
    },
    /// Text; `y` is its base line.
    Text {
        /// Where.
        at: (f64, f64),
        /// The text.
        text: String,
        /// Its size.
        size: f64,
        /// The colour.
        colour: u32,
        /// What of it is at that place.
        anchor: Anchor,
        /// Whether it goes upwards.
        upwards: bool,
    },
}

/// Places of ticks with their labels, and finer ones without.
struct Ticks {
    ends: (f64, f64),
    labelled: Vec<(f64, String)>,
    fine: Vec<f64>,
}

fn ticks(axis: &Axis, most: f64) -> Ticks {
    let (mut low, mut high) = axis.ends;
    if axis.scale == Scale::Log {
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        if axis.loose {
            (low, high) = (10_f64.powi(first), 10_f64.powi(last));
        }
        let inside = |value: &f64| *value >= low * 0.999_999 && *value <= high * 1.000_001;
        let of = |factors: &[f64]| -> Vec<f64> {
            let all = (first..=last).flat_map(|power| factors.iter().map(move |factor| factor * 10_f64.powi(power)));
            all.filter(inside).collect()
        };
        let factors: &[f64] = if last - first <= 2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let labelled = of(factors).into_iter().map(|value| (value, number(value))).collect();
        return Ticks { ends: (low, high), labelled, fine: of(&[2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]) };
    }
    let raw = (high - low) / most;
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= raw * 0.999);
    let step = step.unwrap_or(raw).max(if axis.whole { 1.0 } else { 0.0 });
    if axis.loose {
        (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
    }
    let (first, last) = ((low / step).ceil() as i64, (high / step + 1e-6).floor() as i64);
    let labelled = (first..=last).map(|turn| turn as f64 * step).map(|value| (value, number(value))).collect();
    Ticks { ends: (low, high), labelled, fine: Vec::new() }
}

/// A number without needless digits.
fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 1e7 || (size > 0.0 && size < 1e-4) {
        return format!("{value:e}");
    }
    let digits = if size >= 1.0 || size == 0.0 { 3 } else { 2 - size.log10().floor() as i32 + 1 };
    let text = format!("{value:.*}", usize::try_from(digits).unwrap_or(0));
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if let Some((whole, rest)) = text.split_once('.') {
        return format!("{whole}.{rest}");
    }
    // Thousands are set apart.
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let mut parts: Vec<&str> = Vec::new();
    let mut rest = digits;
    while rest.len() > 3 && digits.len() > 4 {
        let (front, back) = rest.split_at(rest.len() - 3);
        parts.push(back);
        rest = front;
    }
    parts.push(rest);
    parts.reverse();
    format!("{sign}{}", parts.join(" "))
}

fn line(points: Vec<(f64, f64)>, colour: u32, width: f64) -> Mark {
    Mark::Line { points, colour, width, dashed: false }
}

fn text(at: (f64, f64), text: &str, size: f64, colour: u32, anchor: Anchor) -> Mark {
    Mark::Text { at, text: text.to_owned(), size, colour, anchor, upwards: false }
}

/// The text, cut so that it is not wider than so much.
fn cut(text: &str, size: f64, widest: f64) -> String {
    if letters::width(text, size) <= widest {
        return text.to_owned();
    }
    let mut kept = String::new();
    for letter in text.chars() {
        if letters::width(&format!("{kept}{letter}…"), size) > widest {
            break;
        }
        kept.push(letter);
    }
    kept.push('…');
    kept
}

impl Chart {
    /// All that is to be drawn, from back to front, on white.
    pub fn marks(&self) -> Vec<Mark> {
        let widest = WIDTH - LEFT - 20.0;
        let mut marks = vec![text((LEFT, 32.0), &cut(&self.title, 19.0, widest), 19.0, INK, Anchor::Start)];
        for (row, words) in self.subtitle.lines().enumerate() {
            let at = (LEFT, 54.0 + 18.0 * row as f64);
            marks.push(text(at, &cut(words, 12.5, widest), 12.5, PALE, Anchor::Start));
        }
        if self.curves.iter().all(|curve| curve.points.is_empty()) {
            marks.push(text((WIDTH / 2.0, HEIGHT / 2.0), &self.empty, 15.0, PALE, Anchor::Middle));
            return marks;
        }
        let names: Vec<String> = self.curves.iter().map(|curve| cut(&curve.label, 12.5, LEGEND - 40.0)).collect();
        let widest = names.iter().map(|name| letters::width(name, 12.5)).fold(0.0, f64::max);
        let right = WIDTH - widest - 62.0;
        let (across, up) = (ticks(&self.x, (right - LEFT) / 80.0), ticks(&self.y, 7.0));
        let x = |value: f64| LEFT + place(self.x.scale, across.ends, value) * (right - LEFT);
        let y = |value: f64| BOTTOM - place(self.y.scale, up.ends, value) * (BOTTOM - TOP);
        for value in &across.fine {
            marks.push(line(vec![(x(*value), TOP), (x(*value), BOTTOM)], FINE, 1.0));
        }
        for value in &up.fine {
            marks.push(line(vec![(LEFT, y(*value)), (right, y(*value))], FINE, 1.0));
        }
        for (value, label) in &across.labelled {
            marks.push(line(vec![(x(*value), TOP), (x(*value), BOTTOM)], GRID, 1.0));
            marks.push(text((x(*value), BOTTOM + 19.0), label, 12.5, INK, Anchor::Middle));
        }
        for (value, label) in &up.labelled {
            marks.push(line(vec![(LEFT, y(*value)), (right, y(*value))], GRID, 1.0));
            marks.push(text((LEFT - 9.0, y(*value) + 4.5), label, 12.5, INK, Anchor::End));
        }
        for curve in &self.curves {
            marks.extend(curve.marks(&x, &y));
        }
        marks.push(line(vec![(LEFT, TOP), (LEFT, BOTTOM), (right, BOTTOM)], INK, 1.2));
        marks.push(text(((LEFT + right) / 2.0, HEIGHT - 20.0), &self.x.label, 13.5, INK, Anchor::Middle));
        marks.push(Mark::Text {
            at: (22.0, (TOP + BOTTOM) / 2.0),
            text: self.y.label.clone(),
            size: 13.5,
            colour: INK,
            anchor: Anchor::Middle,
            upwards: true,
        });
        for (row, (curve, name)) in self.curves.iter().zip(&names).enumerate().take(MOST_ENTRIES) {
            let at = TOP + 10.0 + row as f64 * 20.0;
            let points = vec![(right + 14.0, at), (right + 40.0, at)];
            marks.push(Mark::Line { points, colour: curve.colour(), width: 2.4, dashed: curve.dashed });
            marks.push(text((right + 47.0, at + 4.5), name, 12.5, INK, Anchor::Start));
        }
        if let Some(more) = self.curves.len().checked_sub(MOST_ENTRIES).filter(|more| *more > 0) {
            let at = (right + 14.0, TOP + 14.0 + MOST_ENTRIES as f64 * 20.0);
            marks.push(text(at, &format!("and {more} more"), 12.5, PALE, Anchor::Start));
        }
        marks
    }
}

impl Curve {
    fn colour(&self) -> u32 {
        COLOURS.get(self.colour % COLOURS.len()).copied().unwrap_or(INK)
    }

    fn marks(&self, x: &dyn Fn(f64) -> f64, y: &dyn Fn(f64) -> f64) -> Vec<Mark> {
        let mut marks = Vec::new();
        if self.points.iter().any(|point| point.high > point.low) {
            let upper = self.points.iter().map(|point| (x(point.x), y(point.high)));
            let lower = self.points.iter().rev().map(|point| (x(point.x), y(point.low)));
            marks.push(Mark::Area { points: upper.chain(lower).collect(), colour: self.colour() });
        }
        let points = self.points.iter().map(|point| (x(point.x), y(point.y))).collect();
        marks.push(Mark::Line { points, colour: self.colour(), width: 2.0, dashed: self.dashed });
        marks
    }
}

/// Where a value is between the ends, from 0 to 1.
fn place(scale: Scale, (low, high): (f64, f64), value: f64) -> f64 {
    let share = match scale {
        Scale::Linear => (value - low) / (high - low),
        Scale::Log => (value / low).log10() / (high / low).log10(),
    };
    if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(scale: Scale, ends: (f64, f64)) -> Axis {
        Axis { label: String::new(), scale, ends, loose: true, whole: false }
    }

    #[test]
    fn ticks_are_round_numbers_that_hold_all_values() {
        let found = ticks(&axis(Scale::Linear, (0.0, 87.0)), 7.0);
        assert_eq!(found.ends, (0.0, 100.0));
        let labels: Vec<&str> = found.labelled.iter().map(|tick| tick.1.as_str()).collect();
        assert_eq!(labels, ["0", "20", "40", "60", "80", "100"]);
        let found = ticks(&axis(Scale::Log, (0.03, 700.0)), 7.0);
        let labels: Vec<&str> = found.labelled.iter().map(|tick| tick.1.as_str()).collect();
        assert_eq!(labels, ["0.01", "0.1", "1", "10", "100", "1000"]);
    }

    #[test]
    fn nodes_are_counted_in_whole_numbers() {
        let found = ticks(&Axis { whole: true, loose: false, ..axis(Scale::Linear, (1.0, 5.0)) }, 12.0);
        let labels: Vec<&str> = found.labelled.iter().map(|tick| tick.1.as_str()).collect();
        assert_eq!(labels, ["1", "2", "3", "4", "5"]);
    }

    #[test]
    fn numbers_have_no_needless_digits() {
        let cases =
            [(0.0, "0"), (0.25, "0.25"), (1.5, "1.5"), (1000.0, "1000"), (1_234_000.0, "1 234 000"), (0.001, "0.001")];
        for (value, right) in cases {
            assert_eq!(number(value), right);
        }
    }

    #[test]
    fn a_long_name_is_cut() {
        let name = cut(&"network.loss ".repeat(40), 12.5, 200.0);
        assert!(name.ends_with('…') && letters::width(&name, 12.5) <= 200.0, "{name}");
    }
}
