//! Events of room versions 1 to 5 whose numbers canonical JSON does not know.
//!
//! These versions do not enforce canonical JSON (<https://spec.matrix.org/v1.19/rooms/v5/#canonical-json>): an event may hold
//! floats and integers of any size, and still has hashes and signatures. What these cover is the text that the servers which
//! made such events write, so numbers are written here in the same way: integers digit by digit, floats as the shortest
//! decimal that reads back as the same double. Keys that are there twice and too deep nesting are refused as everywhere.

use std::collections::BTreeMap;

use ruma::{CanonicalJsonObject, CanonicalJsonValue, Int};

use crate::json::{JsonError, MAX_NESTING};

/// How many digits an integer may have.
const MAX_DIGITS: usize = 4_300;

/// One step on the way to a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

/// What is odd about a value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Odd {
    /// It is a number that canonical JSON does not know; so it is written.
    Number(String),
    /// It holds such numbers.
    Within(OddNumbers),
}

/// Where an object or array holds numbers that canonical JSON does not know. In the object itself an integer stands for each:
/// the number without its fraction, and the nearest of ±(2^53 − 1) where it is beyond.
pub(crate) type OddNumbers = BTreeMap<Step, Odd>;

/// Reads exactly one JSON object with any numbers in it.
pub(crate) fn parse_object(text: &str) -> Result<(CanonicalJsonObject, OddNumbers), JsonError> {
    parse_nested(text, MAX_NESTING)
}

/// The same, nested `deepest` levels deep at most.
pub(crate) fn parse_nested(text: &str, deepest: usize) -> Result<(CanonicalJsonObject, OddNumbers), JsonError> {
    let mut reader = Reader { text, at: 0, nesting: 0, deepest };
    let read = reader.value()?;
    reader.skip_space();
    match read {
        (CanonicalJsonValue::Object(_), _) if reader.at != text.len() => Err(reader.error("trailing characters")),
        (CanonicalJsonValue::Object(object), Some(Odd::Within(odd))) => Ok((object, odd)),
        (CanonicalJsonValue::Object(object), _) => Ok((object, OddNumbers::new())),
        _ => Err(JsonError::new("expected an object")),
    }
}

/// The text of an object with such numbers: as [`crate::json::to_text`], and these as they are to be written.
pub(crate) fn to_text(object: &CanonicalJsonObject, odd: &OddNumbers) -> String {
    let mut writer = Writer { out: String::new() };
    writer.object(object, Some(odd));
    writer.out
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// How many arrays and objects are open.
    nesting: usize,
    /// How many may be.
    deepest: usize,
}

/// A value, and what is odd about it.
type Read = (CanonicalJsonValue, Option<Odd>);

fn within(odd: OddNumbers) -> Option<Odd> {
    (!odd.is_empty()).then_some(Odd::Within(odd))
}

impl Reader<'_> {
    fn error(&self, what: &str) -> JsonError {
        JsonError::new(format!("{what} at byte {}", self.at))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Steps over `byte` if it comes next.
    fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn value(&mut self) -> Result<Read, JsonError> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => Ok((self.string()?.into(), None)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Ok((self.word()?, None)),
        }
    }

    fn word(&mut self) -> Result<CanonicalJsonValue, JsonError> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        for (word, value) in [
            ("null", CanonicalJsonValue::Null),
            ("true", CanonicalJsonValue::Bool(true)),
            ("false", CanonicalJsonValue::Bool(false)),
        ] {
            if rest.starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.error("expected a value"))
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Read, JsonError>) -> Result<Read, JsonError> {
        self.at += 1;
        if self.nesting >= self.deepest {
            return Err(JsonError::new(format!("nested deeper than {} levels", self.deepest)));
        }
        self.nesting += 1;
        let value = read(self)?;
        self.nesting -= 1;
        Ok(value)
    }

    fn object(&mut self) -> Result<Read, JsonError> {
        let mut object = CanonicalJsonObject::new();
        let mut all_odd = OddNumbers::new();
        if self.take(b'}') {
            return Ok((object.into(), None));
        }
        loop {
            self.skip_space();
            let key = self.string()?;
            if object.contains_key(&key) {
                return Err(JsonError::new(format!("the key {key:?} is there twice")));
            }
            if !self.take(b':') {
                return Err(self.error("expected `:`"));
            }
            let (value, odd) = self.value()?;
            if let Some(odd) = odd {
                all_odd.insert(Step::Key(key.clone()), odd);
            }
            object.insert(key, value);
            if self.take(b'}') {
                return Ok((object.into(), within(all_odd)));
            }
            if !self.take(b',') {
                return Err(self.error("expected `,` or `}`"));
            }
        }
    }

    fn array(&mut self) -> Result<Read, JsonError> {
        let mut array = Vec::new();
        let mut all_odd = OddNumbers::new();
        if self.take(b']') {
            return Ok((CanonicalJsonValue::Array(array), None));
        }
        loop {
            let (value, odd) = self.value()?;
            if let Some(odd) = odd {
                all_odd.insert(Step::Index(array.len()), odd);
            }
            array.push(value);
            if self.take(b']') {
                return Ok((CanonicalJsonValue::Array(array), within(all_odd)));
            }
            if !self.take(b',') {
                return Err(self.error("expected `,` or `]`"));
            }
        }
    }

    fn string(&mut self) -> Result<String, JsonError> {
        let start = self.at;
        if !self.take(b'"') {
            return Err(self.error("expected a string"));
        }
        loop {
            match self.peek() {
                None => return Err(self.error("EOF in a string")),
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        let quoted = self.text.get(start..self.at).unwrap_or_default();
        serde_json::from_str(quoted).map_err(|error| JsonError::new(error.to_string()))
    }

    fn number(&mut self) -> Result<Read, JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
            self.at += 1;
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        let (value, odd) = read_number(text).ok_or_else(|| self.error("invalid number"))?;
        Ok((CanonicalJsonValue::Integer(value), odd.map(Odd::Number)))
    }
}

/// A JSON number as an integer, and how it is written if that does not say all of it. `None` if it is no number, is beyond
/// the range of doubles, or has too many digits.
fn read_number(text: &str) -> Option<(Int, Option<String>)> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = match digits.find(|c: char| !c.is_ascii_digit()) {
        Some(end) => digits.split_at(end),
        None => (digits, ""),
    };
    if whole.is_empty() || (whole.len() > 1 && whole.starts_with('0')) || whole.len() > MAX_DIGITS {
        return None;
    }
    if fraction.is_empty() {
        return Some(match text.parse::<i64>().ok().and_then(|value| Int::try_from(value).ok()) {
            Some(value) => (value, None),
            None if text.starts_with('-') => (Int::MIN, Some(text.to_owned())),
            None => (Int::MAX, Some(text.to_owned())),
        });
    }
    let (decimals, exponent) = match fraction.find(['e', 'E']) {
        Some(at) => (fraction.get(..at)?, fraction.get(at + 1..)),
        None => (fraction, None),
    };
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !decimals.is_empty() && !decimals.strip_prefix('.').is_some_and(all_digits) {
        return None;
    }
    if let Some(exponent) = exponent
        && !all_digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))
    {
        return None;
    }
    let value: f64 = text.parse().ok().filter(|value: &f64| value.is_finite())?;
    Some((truncated(value), Some(write_float(value))))
}

/// A float without its fraction, as power levels are read in versions 1 to 5
/// (<https://spec.matrix.org/v1.19/rooms/v1/#mroompower_levels-events-accept-values-as-floats>).
pub(crate) fn truncated(value: f64) -> Int {
    // The cast cuts the fraction off and stops at the ends of the range.
    #[allow(clippy::cast_possible_truncation)]
    clamped(value as i64)
}

/// The nearest integer that canonical JSON knows.
pub(crate) fn clamped(value: i64) -> Int {
    Int::try_from(value).unwrap_or(if value < 0 { Int::MIN } else { Int::MAX })
}

/// The shortest digits that read back as the same double; from 10^16 on and below 10^-4 with an exponent.
fn write_float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{value}");
    if plain.contains('.') { plain } else { format!("{plain}.0") }
}

struct Writer {
    out: String,
}

impl Writer {
    fn object(&mut self, object: &CanonicalJsonObject, odd: Option<&OddNumbers>) {
        self.out.push('{');
        for (index, (key, value)) in object.iter().enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            self.plain(key);
            self.out.push(':');
            self.value(value, odd.and_then(|odd| odd.get(&Step::Key(key.clone()))));
        }
        self.out.push('}');
    }

    fn value(&mut self, value: &CanonicalJsonValue, odd: Option<&Odd>) {
        match (value, odd) {
            (CanonicalJsonValue::Integer(_), Some(Odd::Number(text))) => self.out.push_str(text),
            (CanonicalJsonValue::Object(object), Some(Odd::Within(odd))) => self.object(object, Some(odd)),
            (CanonicalJsonValue::Array(items), Some(Odd::Within(odd))) => {
                self.out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.out.push(',');
                    }
                    self.value(item, odd.get(&Step::Index(index)));
                }
                self.out.push(']');
            }
            (plain, _) => self.plain(plain),
        }
    }

    fn plain(&mut self, value: &impl serde::Serialize) {
        self.out.push_str(&serde_json::to_string(value).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> String {
        let (object, odd) = parse_object(text).expect(text);
        to_text(&object, &odd)
    }

    #[test]
    fn numbers_are_written_as_other_servers_write_them() {
        for (read, written) in [
            ("1.5", "1.5"),
            ("1.0", "1.0"),
            ("1e3", "1000.0"),
            ("5.114698E4", "51146.98"),
            ("-0.0", "-0.0"),
            ("-0", "0"),
            ("0.1", "0.1"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("1.5e-7", "1.5e-07"),
            ("123456789012345.6", "123456789012345.6"),
            ("1e15", "1000000000000000.0"),
            ("1e16", "1e+16"),
            ("-1.25e100", "-1.25e+100"),
            ("5e-324", "5e-324"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("0.30000000000000004", "0.30000000000000004"),
            ("9007199254740991", "9007199254740991"),
            ("9007199254740992", "9007199254740992"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("100000000000000000000", "100000000000000000000"),
        ] {
            assert_eq!(
                rewritten(&format!("{{\"b\":[0,{{\"a\": {read} }}]}}")),
                format!("{{\"b\":[0,{{\"a\":{written}}}]}}")
            );
        }
    }

    #[test]
    fn an_integer_stands_for_each_such_number() {
        let (object, odd) = parse_object(r#"{"a":-1.99,"b":1e300,"c":-99999999999999999999,"d":7}"#).expect("valid");
        let integer = |name: &str| object.get(name).and_then(CanonicalJsonValue::as_integer);
        assert_eq!(integer("a"), Some(Int::from(-1)));
        assert_eq!(integer("b"), Some(Int::MAX));
        assert_eq!(integer("c"), Some(Int::MIN));
        assert_eq!(integer("d"), Some(Int::from(7)));
        assert_eq!(odd.len(), 3);
    }

    /// Once the whole way was noted for each number: 60,000 of them deep down took half a gigabyte.
    #[test]
    fn many_numbers_deep_down_cost_no_more_than_elsewhere() {
        let numbers = vec!["1.5"; 60_000].join(",");
        let text = format!("{{\"a\":{}{numbers}{}}}", "[".repeat(MAX_NESTING - 1), "]".repeat(MAX_NESTING - 1));
        assert_eq!(rewritten(&text), text);
        let (_, odd) = parse_object(&text).expect("valid");
        let (mut levels, mut odd) = (1, &odd);
        while let Some(Odd::Within(inner)) = odd.values().next() {
            (levels, odd) = (levels + 1, inner);
        }
        assert_eq!((levels, odd.len()), (MAX_NESTING, 60_000));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(MAX_NESTING), "]".repeat(MAX_NESTING));
        let endless = format!("{{\"a\":{}}}", "9".repeat(MAX_DIGITS + 1));
        for text in [
            r#"{"a":1e400}"#,
            r#"{"a":01}"#,
            r#"{"a":1.}"#,
            r#"{"a":.5}"#,
            r#"{"a":1e}"#,
            r#"{"a":1e+}"#,
            r#"{"a":--1}"#,
            r#"{"a":1-1}"#,
            r#"{"a":NaN}"#,
            r#"{"a":1.5,"a":1.5}"#,
            r#"{"a":1.5,"\u0061":1}"#,
            r#"{"a":1.5} {}"#,
            r#"{"a":1.5"#,
            r#"{"a":1.5,}"#,
            r#"{"a" 1.5}"#,
            r#"{"a":[1.5,]}"#,
            r#"{a:1.5}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\"#,
            "{\"a\":\"\n\"}",
            r#"[1.5]"#,
            "1.5",
            "",
            &deep,
            &endless,
        ] {
            assert!(parse_object(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_strict_reading_takes_is_read_alike() {
        let text = r#" {"b" : [ 1 , true , null, false, {} , [] ] , "a" : "\u65e5\n\"\\", "ab" : -7 } "#;
        let (object, odd) = parse_object(text).expect("valid");
        assert!(odd.is_empty());
        assert_eq!(object, crate::json::parse_object(text).expect("valid"));
        assert_eq!(to_text(&object, &odd), crate::json::to_text(&object));
    }
}
