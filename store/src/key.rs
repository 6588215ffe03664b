//! Keys: how a typed key becomes bytes whose order is the order of the values.
//!
//! redb compares keys as bytes. Every encoding here keeps the order of its type, and none is a prefix of
//! another of the same type, so tuples are simply their parts one after the other: they sort part by part, and
//! the first parts of a tuple alone are the prefix under which all its rows stand together.
//!
//! | type | bytes |
//! | --- | --- |
//! | `u8` to `u64` | big endian |
//! | `i64` | big endian, sign bit flipped |
//! | `bool` | 0 or 1 |
//! | `String`, `Vec<u8>` | the bytes (`00` as `01 01`, `01` as `01 02`), then `00` |
//! | `[u8; 32]` | as it is |
//! | tuples | one after the other; `()` is empty |

use crate::error::Corrupt;

/// A type that can be (a part of) a key. See the [module](self).
pub trait Key: Sized {
    /// Appends the bytes of this key.
    fn encode(&self, out: &mut Vec<u8>);

    /// Takes this key off the front of `input`.
    ///
    /// # Errors
    /// If `input` does not start with such a key.
    fn decode(input: &mut &[u8]) -> Result<Self, Corrupt>;

    /// The bytes of this key alone.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24);
        self.encode(&mut out);
        out
    }
}

fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], Corrupt> {
    let (bytes, rest) = input.split_first_chunk::<N>().ok_or_else(|| Corrupt::new("a longer key"))?;
    *input = rest;
    Ok(*bytes)
}

macro_rules! unsigned {
    ($($t:ty),*) => {$(
        impl Key for $t {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn decode(input: &mut &[u8]) -> Result<Self, Corrupt> {
                Ok(<$t>::from_be_bytes(take(input)?))
            }
        }
    )*};
}
unsigned!(u8, u16, u32, u64);

impl Key for i64 {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.cast_unsigned() ^ (1 << 63)).encode(out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, Corrupt> {
        Ok((u64::decode(input)? ^ (1 << 63)).cast_signed())
    }
}

impl Key for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn decode(input: &mut &[u8]) -> Result<Self, Corrupt> {
        match u8::decode(input)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Corrupt::new("0 or 1")),
        }
    }
}

impl<const N: usize> Key for [u8; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, Corrupt> {
        take(input)
    }
}

const END: u8 = 0;
const ESCAPE: u8 = 1;

fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() + 1);
    for &byte in bytes {
        if byte <= ESCAPE {
            out.push(ESCAPE);
            out.push(byte + 1);
        } else {
            out.push(byte);
        }
    }
}

impl Key for Vec<u8> {
    fn encode(&self, out: &mut Vec<u8>) {
        escape(self, out);
        out.push(END);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, Corrupt> {
        let mut out = Vec::new();
        let mut bytes = input.iter().enumerate();
        while let Some((at, &byte)) = bytes.next() {
            match byte {
                END => {
                    *input = input.get(at + 1..).unwrap_or_default();
                    return Ok(out);
                }
                ESCAPE => match bytes.next() {
                    Some((_, &escaped @ 1..=2)) => out.push(escaped - 1),
                    _ => return Err(Corrupt::new("an escaped byte")),
                },
                byte => out.push(byte),
            }
        }
        Err(Corrupt::new("the end of a string"))
    }
}

impl Key for String {
    fn encode(&self, out: &mut Vec<u8>) {
        escape(self.as_bytes(), out);
        out.push(END);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, Corrupt> {
        String::from_utf8(Vec::decode(input)?).map_err(|_| Corrupt::new("UTF-8"))
    }
}

/// The beginning of a `String` or `Vec<u8>`: only for [`crate::Table::prefix`], as the last part of a prefix,
/// where it stands for all strings that start so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartOf(pub String);

impl Key for StartOf {
    fn encode(&self, out: &mut Vec<u8>) {
        escape(self.0.as_bytes(), out);
    }

    fn decode(_: &mut &[u8]) -> Result<Self, Corrupt> {
        Err(Corrupt::new("a whole key"))
    }
}

impl Key for () {
    fn encode(&self, _: &mut Vec<u8>) {}

    fn decode(_: &mut &[u8]) -> Result<Self, Corrupt> {
        Ok(())
    }
}

macro_rules! tuple {
    ($($name:ident),*) => {
        impl<$($name: Key),*> Key for ($($name,)*) {
            fn encode(&self, out: &mut Vec<u8>) {
                #[allow(non_snake_case)]
                let ($($name,)*) = self;
                $($name.encode(out);)*
            }

            fn decode(input: &mut &[u8]) -> Result<Self, Corrupt> {
                Ok(($($name::decode(input)?,)*))
            }
        }
    };
}
tuple!(A);
tuple!(A, B);
tuple!(A, B, C);
tuple!(A, B, C, D);
tuple!(A, B, C, D, E);

/// The first key behind all keys that start with `prefix`; `None` if nothing can stand behind them.
pub(crate) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut end = prefix.get(..=last)?.to_vec();
    if let Some(byte) = end.last_mut() {
        *byte += 1;
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use proptest::prelude::*;

    use super::*;

    fn keeps_order<K: Key + Ord + Debug>(a: &K, b: &K) {
        assert_eq!(a.cmp(b), a.to_bytes().cmp(&b.to_bytes()), "{a:?} and {b:?}");
        let bytes = a.to_bytes();
        let mut input = bytes.as_slice();
        let back = K::decode(&mut input).unwrap();
        assert_eq!((&back, input), (a, &[][..]));
    }

    /// Strings made of the bytes that escaping is about, so that they share long beginnings.
    fn tricky() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(2), Just(255), any::<u8>()], 0..6)
    }

    proptest! {
        #[test]
        fn the_order_of_encoded_keys_is_the_order_of_the_keys(
            a in any::<(u64, i64, bool, u32)>(), b in any::<(u64, i64, bool, u32)>(),
            s in tricky(), t in tricky(), m in any::<String>(), n in any::<String>(),
        ) {
            keeps_order(&a, &b);
            keeps_order(&a.1, &b.1);
            keeps_order(&s, &t);
            keeps_order(&m, &n);
            keeps_order(&(s.clone(), a.0), &(t.clone(), b.0));
            keeps_order(&(s.clone(), t.clone(), a.2), &(t.clone(), s.clone(), b.2));
            keeps_order(&(s.clone(), t.clone(), m.clone(), a.3), &(s, t, n, b.3));
        }

        #[test]
        fn the_first_parts_of_a_tuple_are_a_prefix_of_its_bytes_and_of_no_other(
            s in tricky(), t in tricky(), n in any::<u64>(),
        ) {
            let whole = (s.clone(), n, t.clone()).to_bytes();
            prop_assert!(whole.starts_with(&s.to_bytes()));
            prop_assert!(whole.starts_with(&(s.clone(), n).to_bytes()));
            if s != t {
                prop_assert!(!whole.starts_with(&t.to_bytes()));
            }
        }

        #[test]
        fn the_end_of_a_prefix_stands_behind_all_that_starts_so(prefix in tricky(), rest in tricky(), other in tricky()) {
            let mut row = prefix.clone();
            row.extend(&rest);
            match after_prefix(&prefix) {
                Some(end) => {
                    prop_assert!(row < end);
                    if other >= prefix && other < end {
                        prop_assert!(other.starts_with(&prefix));
                    }
                }
                None => prop_assert!(prefix.iter().all(|&b| b == 255)),
            }
        }

        #[test]
        fn decoding_any_bytes_gives_a_key_or_an_error(bytes in tricky()) {
            let mut input = bytes.as_slice();
            if let Ok(key) = <(String, bool)>::decode(&mut input) {
                prop_assert_eq!(key.to_bytes(), bytes[..bytes.len() - input.len()].to_vec());
            }
        }
    }
}
