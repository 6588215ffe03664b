//! Canonical JSON (Matrix appendices, "Canonical JSON"): sorted keys, no spaces, integers within +-(2^53 - 1).
//!
//! The transport knows none of the other crates, so it writes its own; `serde_json` keeps maps sorted only while no other
//! crate in the build asks it to preserve their order.

use serde_json::{Map, Value};

/// The canonical bytes of a value. `None` when it has none: fractions, or integers beyond 2^53 - 1.
pub(super) fn to_bytes(value: &Value) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    write(value, &mut bytes)?;
    Some(bytes)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Option<()> {
    const MAX: i64 = (1 << 53) - 1;
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => {
            let number = number.as_i64().filter(|n| (-MAX..=MAX).contains(n))?;
            out.extend_from_slice(number.to_string().as_bytes());
        }
        Value::String(text) => write_text(text, out)?,
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(object) => write_object(object, out)?,
    }
    Some(())
}

/// Appends an object.
pub(super) fn write_object(object: &Map<String, Value>, out: &mut Vec<u8>) -> Option<()> {
    let mut entries: Vec<_> = object.iter().collect();
    entries.sort_by(|a, b| a.0.cmp(b.0));
    out.push(b'{');
    for (index, (key, value)) in entries.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_text(key, out)?;
        out.push(b':');
        write(value, out)?;
    }
    out.push(b'}');
    Some(())
}

/// serde_json escapes exactly what canonical JSON escapes: quote, backslash and control characters.
fn write_text(text: &str, out: &mut Vec<u8>) -> Option<()> {
    serde_json::to_writer(out, text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(json: &str) -> Option<String> {
        let bytes = to_bytes(&serde_json::from_str(json).unwrap())?;
        Some(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn the_examples_of_the_specification_come_out_as_written_there() {
        for (given, expected) in [
            ("{}", "{}"),
            ("{\"one\": 1, \"two\": \"Two\"}", "{\"one\":1,\"two\":\"Two\"}"),
            ("{\"b\": \"2\", \"a\": \"1\"}", "{\"a\":\"1\",\"b\":\"2\"}"),
            ("{\"a\": \"\\u65e5\"}", "{\"a\":\"日\"}"),
            ("{\"a\": null}", "{\"a\":null}"),
            ("{\"a\": -5, \"b\": [true, \"\\u001f\\n\"]}", "{\"a\":-5,\"b\":[true,\"\\u001f\\n\"]}"),
        ] {
            assert_eq!(canonical(given).as_deref(), Some(expected));
        }
    }

    #[test]
    fn numbers_without_a_canonical_form_are_refused() {
        for json in ["1.5", "9007199254740992", "-9007199254740992", "18446744073709551615"] {
            assert_eq!(canonical(json), None, "{json}");
        }
    }
}
