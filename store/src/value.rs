//! Values: what stands in a row, and how it becomes bytes.
//!
//! Fixed-size numbers are big endian as in keys; larger things are [`Json`], or the bytes themselves (event bodies).

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Corrupt;

/// A type that can be the value of a row.
pub trait Value: Sized {
    /// The bytes of this value.
    fn encode(&self) -> Vec<u8>;

    /// The value of these bytes.
    ///
    /// # Errors
    /// If they are not the whole of one.
    fn decode(bytes: &[u8]) -> Result<Self, Corrupt>;
}

impl Value for () {
    fn encode(&self) -> Vec<u8> {
        Vec::new()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        if bytes.is_empty() { Ok(()) } else { Err(Corrupt::new("an empty value")) }
    }
}

impl Value for u64 {
    fn encode(&self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        bytes.try_into().map(u64::from_be_bytes).map_err(|_| Corrupt::new("8 bytes"))
    }
}

impl Value for (u64, u64) {
    fn encode(&self) -> Vec<u8> {
        [self.0.to_be_bytes(), self.1.to_be_bytes()].concat()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        match bytes.as_chunks::<8>() {
            ([a, b], []) => Ok((u64::from_be_bytes(*a), u64::from_be_bytes(*b))),
            _ => Err(Corrupt::new("16 bytes")),
        }
    }
}

impl Value for Vec<u64> {
    fn encode(&self) -> Vec<u8> {
        self.iter().flat_map(|n| n.to_be_bytes()).collect()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        match bytes.as_chunks::<8>() {
            (numbers, []) => Ok(numbers.iter().map(|n| u64::from_be_bytes(*n)).collect()),
            _ => Err(Corrupt::new("a multiple of 8 bytes")),
        }
    }
}

/// Two texts, written as the key of the same parts is.
impl Value for (String, String) {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        crate::Key::encode(self, &mut out);
        out
    }

    fn decode(mut bytes: &[u8]) -> Result<Self, Corrupt> {
        let pair = crate::Key::decode(&mut bytes)?;
        if bytes.is_empty() { Ok(pair) } else { Err(Corrupt::new("two texts and nothing more")) }
    }
}

impl Value for bool {
    fn encode(&self) -> Vec<u8> {
        vec![u8::from(*self)]
    }

    fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        match bytes {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Corrupt::new("0 or 1")),
        }
    }
}

impl Value for String {
    fn encode(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Corrupt::new("UTF-8"))
    }
}

impl Value for Vec<u8> {
    fn encode(&self) -> Vec<u8> {
        self.clone()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        Ok(bytes.to_vec())
    }
}

impl<const N: usize> Value for [u8; N] {
    fn encode(&self) -> Vec<u8> {
        self.to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        bytes.try_into().map_err(|_| Corrupt::new(format!("{N} bytes")))
    }
}

/// A value kept as JSON. Fields that later versions add must have defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Json<T>(pub T);

impl<T: Serialize + DeserializeOwned> Value for Json<T> {
    /// # Panics
    /// If `T` cannot be JSON (a map whose keys are not strings): a mistake in the table's definition,
    /// which drops the change as any panic in it does.
    fn encode(&self) -> Vec<u8> {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => bytes,
            Err(error) => panic!("a table's value type cannot be JSON: {error}"),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        // serde's own message can quote the value: only the place is told.
        serde_json::from_slice(bytes)
            .or_else(|error| match std::str::from_utf8(bytes).map(without_mark) {
                Ok(Cow::Owned(text)) => serde_json::from_str(&text),
                _ => Err(error),
            })
            .map(Json)
            .map_err(|error| Corrupt::new(format!("the table's JSON, at column {}", error.column())))
    }
}

/// Compact JSON whose objects do not hold the key that `serde_json` takes for a mark of its own (`$serde_json::private::RawValue`):
/// it stands there under another name. With it, a [`serde_json::Value`] cannot be read, whoever wrote it.
pub fn without_mark(text: &str) -> Cow<'_, str> {
    // Within strings there are no bare quotation marks, so this is a key.
    const MARK: &str = r#""$serde_json::private::RawValue":"#;
    match text.contains(MARK) {
        true => text.replace(MARK, r#""$serde_json:private:RawValue":"#).into(),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_about_damaged_json_does_not_quote_it() {
        let error = Json::<u64>::decode(br#""hunter2""#).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    /// An invite with such state made the row of its room unreadable, and with that all of its user's rooms.
    #[test]
    fn a_key_that_serde_json_takes_for_its_mark_makes_no_row_unreadable() {
        let inner = serde_json::Map::from_iter([
            ("a".to_owned(), "\"$serde_json::private::RawValue\":".into()),
            ("$serde_json::private::RawValue".to_owned(), serde_json::Value::Bool(true)),
        ]);
        let row = Json(serde_json::json!({ "content": inner, "type": "t" }));
        let read = Json::<serde_json::Value>::decode(&row.encode()).unwrap().0;
        assert_eq!((&read["type"], &read["content"]["a"]), (&row.0["type"], &row.0["content"]["a"]));
        assert_eq!(read["content"]["$serde_json:private:RawValue"], true);
    }

    #[test]
    fn values_come_back_and_wrong_lengths_are_refused() {
        let numbers = vec![1, u64::MAX, 7];
        assert_eq!(Vec::<u64>::decode(&numbers.encode()).unwrap(), numbers);
        assert_eq!(<(u64, u64)>::decode(&(3, 4).encode()).unwrap(), (3, 4));
        assert!(<(u64, u64)>::decode(&[0; 15]).is_err());
        assert!(Vec::<u64>::decode(&[0; 9]).is_err());
        assert!(u64::decode(&[0; 7]).is_err());
        assert!(<[u8; 32]>::decode(&[0; 31]).is_err());
        assert!(<()>::decode(&[0]).is_err());
    }
}
