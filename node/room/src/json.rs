//! Strict reading of JSON that came from outside.
//!
//! [Canonical JSON](https://spec.matrix.org/v1.19/appendices/#canonical-json) knows neither floats nor integers
//! beyond ±(2^53 − 1), and an object that names a key twice has no one meaning: servers that read it differently would
//! compute different hashes. So all of these are refused here, before anything is hashed, and nesting is bounded so
//! that no later recursion can overflow the stack. Events of versions 1 to 5 may hold other numbers: see
//! [`crate::document::Document::read`].

use std::{collections::btree_map::Entry, fmt};

use ruma::{CanonicalJsonObject, CanonicalJsonValue, Int};
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// How deep arrays and objects may be nested, the outermost object included.
pub const MAX_NESTING: usize = 120;

/// Reads exactly one JSON object.
///
/// # Errors
///
/// Says what is wrong with the text: not JSON, not an object, a float, an integer out of range, a key named twice, nested
/// deeper than [`MAX_NESTING`], or something after the end.
pub fn parse_object(text: &str) -> Result<CanonicalJsonObject, JsonError> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Strict { nesting: 0 }.deserialize(&mut reader).map_err(|error| JsonError(error.to_string()))?;
    reader.end().map_err(|error| JsonError(error.to_string()))?;
    match value {
        CanonicalJsonValue::Object(object) => Ok(object),
        _ => Err(JsonError("expected an object".to_owned())),
    }
}

/// Reads an object for looking into it, with its keys as they are.
///
/// `serde_json` knows one key by which its own types tell that they hold text (`$serde_json::private::RawValue`), and a
/// [`Value`] that is read takes it for that mark, whoever wrote it: an object with it is not read, or as another. Numbers that a
/// [`Value`] cannot hold are the nearest integers that canonical JSON knows.
///
/// # Errors
///
/// The text is not a JSON object, or nested deeper than [`MAX_NESTING`].
pub fn plain_object(text: &str) -> Result<Map<String, Value>, JsonError> {
    let mut reader = serde_json::Deserializer::from_str(text);
    match Plain.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value)) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(JsonError("expected an object".to_owned())),
        Err(_) => {
            let (object, _) = crate::numbers::parse_object(text)?;
            Ok(object.into_iter().map(|(key, value)| (key, value.into())).collect())
        }
    }
}

/// Whether what is written from this could be read again: whether it is nested no deeper than [`MAX_NESTING`].
pub fn fits_nesting(object: &CanonicalJsonObject) -> bool {
    // A list of what is still to be looked at instead of recursion, so that no depth is too much.
    let mut ahead: Vec<(usize, &CanonicalJsonValue)> = object.values().map(|value| (1, value)).collect();
    while let Some((around, value)) = ahead.pop() {
        match value {
            CanonicalJsonValue::Array(_) | CanonicalJsonValue::Object(_) if around >= MAX_NESTING => return false,
            CanonicalJsonValue::Array(items) => ahead.extend(items.iter().map(|item| (around + 1, item))),
            CanonicalJsonValue::Object(entries) => ahead.extend(entries.values().map(|entry| (around + 1, entry))),
            _ => {}
        }
    }
    true
}

/// The text is not an object of canonical JSON; the message says where and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(String);

impl JsonError {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

#[derive(Clone, Copy)]
struct Strict {
    nesting: usize,
}

impl Strict {
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.nesting >= MAX_NESTING {
            return Err(E::custom(format_args!("nested deeper than {MAX_NESTING} levels")));
        }
        Ok(Self { nesting: self.nesting + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = CanonicalJsonValue;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = CanonicalJsonValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("canonical JSON")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(CanonicalJsonValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(CanonicalJsonValue::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Self::Value, E> {
        Int::try_from(value).map(CanonicalJsonValue::Integer).map_err(|_| E::custom("integer outside of ±(2^53 - 1)"))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Self::Value, E> {
        Int::try_from(value).map(CanonicalJsonValue::Integer).map_err(|_| E::custom("integer outside of ±(2^53 - 1)"))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Err(E::custom("floats are not allowed"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(CanonicalJsonValue::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Self::Value, E> {
        Ok(CanonicalJsonValue::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let inner = self.inner()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            array.push(item);
        }
        Ok(CanonicalJsonValue::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let inner = self.inner()?;
        let mut object = CanonicalJsonObject::new();
        while let Some(key) = entries.next_key::<String>()? {
            match object.entry(key) {
                Entry::Occupied(taken) => {
                    return Err(A::Error::custom(format_args!("the key {:?} is there twice", taken.key())));
                }
                Entry::Vacant(free) => {
                    free.insert(entries.next_value_seed(inner)?);
                }
            }
        }
        Ok(CanonicalJsonValue::Object(object))
    }
}

/// Reads any JSON as it is.
#[derive(Clone, Copy)]
struct Plain;

impl<'de> DeserializeSeed<'de> for Plain {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Plain {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            object.insert(key, entries.next_value_seed(self)?);
        }
        Ok(Value::Object(object))
    }
}

/// The canonical encoding of an object: sorted keys, no spaces, shortest escapes.
pub fn to_text(object: &CanonicalJsonObject) -> String {
    // Writing a tree of strings, integers and booleans into memory has no way to fail.
    serde_json::to_string(object).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_single_meaning_is_refused() {
        for (text, why) in [
            (r#"{"a":1.5}"#, "floats"),
            (r#"{"a":1e3}"#, "floats"),
            (r#"{"a":-0.0}"#, "floats"),
            (r#"{"a":9007199254740992}"#, "integer outside"),
            (r#"{"a":-9007199254740992}"#, "integer outside"),
            (r#"{"a":1,"a":1}"#, "twice"),
            (r#"{"a":{"b":[{"c":1,"c":2}]}}"#, "twice"),
            (r#"{"a":1,"\u0061":1}"#, "twice"),
            (r#"[1]"#, "expected an object"),
            (r#"{} {}"#, "trailing"),
            (r#"{"a":"\ud800"}"#, "hex escape"),
            ("", "EOF"),
        ] {
            let error = parse_object(text).expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| format!("{{\"a\":{}1{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        assert!(parse_object(&nested(MAX_NESTING)).is_ok());
        assert!(parse_object(&nested(MAX_NESTING + 1)).is_err());
        assert!(parse_object(&nested(100_000)).is_err());
    }

    #[test]
    fn what_fits_can_be_read_again_and_what_does_not_cannot() {
        for levels in [1, 2, MAX_NESTING - 1, MAX_NESTING, MAX_NESTING + 1, MAX_NESTING + 2] {
            let mut value = CanonicalJsonValue::Object(CanonicalJsonObject::new());
            for level in 1..levels {
                value = match level % 2 {
                    0 => CanonicalJsonObject::from([("a".to_owned(), value)]).into(),
                    _ if level + 1 == levels => CanonicalJsonObject::from([("a".to_owned(), value)]).into(),
                    _ => CanonicalJsonValue::Array(vec![CanonicalJsonValue::Bool(true), value]),
                };
            }
            let CanonicalJsonValue::Object(object) = value else { panic!("the outermost is an object") };
            assert_eq!(fits_nesting(&object), levels <= MAX_NESTING, "{levels}");
            assert_eq!(parse_object(&to_text(&object)).is_ok(), levels <= MAX_NESTING, "{levels}");
        }
    }

    /// Found by fuzzing: such an event was accepted, and then could not be looked into, or was taken for another.
    #[test]
    fn the_key_by_which_serde_json_marks_its_own_text_is_a_key_like_others() {
        let text = r#"{"content":{"$serde_json::private::RawValue":{}},"b":[{"\u0024serde_json::private::RawValue":"{\"a\":1}"}]}"#;
        serde_json::from_str::<Value>(text).expect_err("serde_json's own reader has got better");
        let object = plain_object(text).expect("JSON");
        assert_eq!(object["content"].as_object().map(Map::len), Some(1));
        assert_eq!(object["b"][0]["$serde_json::private::RawValue"], r#"{"a":1}"#);
        let canonical = to_text(&parse_object(text).expect("valid"));
        assert_eq!(plain_object(&canonical).expect("JSON"), object);
    }

    #[test]
    fn numbers_that_no_double_holds_do_not_keep_the_rest_from_being_read() {
        let long = format!(r#"{{"a":{},"b":1.5,"c":"x"}}"#, "9".repeat(400));
        serde_json::from_str::<Value>(&long).expect_err("serde_json's own reader has got better");
        let object = plain_object(&long).expect("JSON");
        assert_eq!(object["c"], "x");
        assert_eq!(plain_object(r#"{"b":1.5}"#).expect("JSON")["b"], 1.5);
        for text in ["[]", "{", "{} {}", ""] {
            assert!(plain_object(text).is_err(), "{text}");
        }
    }

    #[test]
    fn canonical_text_is_sorted_and_tight() {
        let object =
            parse_object("{ \"b\" : [ 1 , true , null ] , \"a\" : \"\\u65e5\\n\" , \"max\": 9007199254740991}");
        assert_eq!(to_text(&object.expect("valid")), r#"{"a":"日\n","b":[1,true,null],"max":9007199254740991}"#);
    }
}
