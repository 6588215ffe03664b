//! Whether text is canonical JSON as it stands.
//!
//! Most of what servers send each other is: its signature can be checked over the text itself, which takes a tenth of the time that
//! reading it and writing it again does.

use crate::json::MAX_NESTING;

/// Whether a text is surely an object in the form that canonical JSON gives it
/// (<https://spec.matrix.org/v1.19/appendices/#canonical-json>): then writing it anew changes nothing. `false` says nothing:
/// texts with escaped keys, the longest numbers or the deepest nesting are not looked at closely.
pub(crate) fn is_canonical(text: &str) -> bool {
    let mut scanner = Scanner { text: text.as_bytes(), at: 0 };
    scanner.peek() == Some(b'{') && scanner.value(0).is_some() && scanner.at == text.len()
}

/// Digits of a number that is below 2^53 whatever they are.
const SURE_DIGITS: usize = 15;

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

/// Each gives `None` as soon as something may not be canonical.
impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, expected: u8) -> Option<()> {
        (self.peek()? == expected).then(|| self.at += 1)
    }

    fn word(&mut self, word: &str) -> Option<()> {
        let found = self.text.get(self.at..)?.starts_with(word.as_bytes());
        found.then(|| self.at += word.len())
    }

    fn value(&mut self, around: usize) -> Option<()> {
        if around > MAX_NESTING {
            return None;
        }
        match self.peek()? {
            b'{' => self.object(around),
            b'[' => self.array(around),
            b'"' => self.string().map(drop),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.number(),
        }
    }

    /// Keys stand in the order of their code points, which is that of their bytes.
    fn object(&mut self, around: usize) -> Option<()> {
        self.take(b'{')?;
        if self.take(b'}').is_some() {
            return Some(());
        }
        let mut last: Option<&[u8]> = None;
        loop {
            let (key, escaped) = self.string()?;
            if escaped || last.is_some_and(|last| last >= key) {
                return None;
            }
            last = Some(key);
            self.take(b':')?;
            self.value(around + 1)?;
            if self.take(b',').is_none() {
                return self.take(b'}');
            }
        }
    }

    fn array(&mut self, around: usize) -> Option<()> {
        self.take(b'[')?;
        if self.take(b']').is_some() {
            return Some(());
        }
        loop {
            self.value(around + 1)?;
            if self.take(b',').is_none() {
                return self.take(b']');
            }
        }
    }

    /// What stands between the quotes, and whether something in it is escaped.
    fn string(&mut self) -> Option<(&'a [u8], bool)> {
        self.take(b'"')?;
        let rest = self.text.get(self.at..)?;
        let (mut length, mut escaped) = (0, false);
        loop {
            match rest.get(length)? {
                b'"' => break,
                // The escapes that have no shorter form. Those by number are left to others.
                b'\\' if matches!(rest.get(length + 1)?, b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't') => {
                    escaped = true;
                    length += 2;
                }
                b'\\' | 0..=0x1f => return None,
                _ => length += 1,
            }
        }
        self.at += length + 1;
        Some((rest.get(..length)?, escaped))
    }

    fn number(&mut self) -> Option<()> {
        let negative = self.take(b'-').is_some();
        let rest = self.text.get(self.at..)?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let leads_with_zero = rest.first() == Some(&b'0');
        if !(1..=SURE_DIGITS).contains(&digits) || (leads_with_zero && (digits > 1 || negative)) {
            return None;
        }
        // A fraction or an exponent is where no comma or bracket can be, so that the text is refused there.
        self.at += digits;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{json, numbers};

    /// What is made of a text by reading it and writing it anew.
    fn anew(text: &str) -> Option<String> {
        numbers::parse_nested(text, MAX_NESTING + 10).ok().map(|(object, odd)| numbers::to_text(&object, &odd))
    }

    #[test]
    fn only_canonical_texts_are_taken_for_canonical() {
        for text in [
            "{}",
            r#"{"a":1,"b":[true,false,null,-7,0,"é\n\"\\"],"c":{"":{}}}"#,
            r#"{"0":[],"A":[[]],"a":"","é":"\t","😀":999999999999999}"#,
        ] {
            assert!(is_canonical(text), "{text}");
            assert_eq!(anew(text).as_deref(), Some(text));
        }
        for text in [
            "",
            "1",
            "[]",
            "{",
            "{}x",
            " {}",
            "{} ",
            r#"{"a" :1}"#,
            r#"{"a": 1}"#,
            r#"{"a":1 }"#,
            r#"{"a":1,}"#,
            r#"{"a"}"#,
            r#"{"b":1,"a":2}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"a":1.0}"#,
            r#"{"a":1e3}"#,
            r#"{"a":-0}"#,
            r#"{"a":01}"#,
            r#"{"a":-}"#,
            r#"{"a":9007199254740993}"#,
            r#"{"a":"\u0041"}"#,
            r#"{"a":"\/"}"#,
            r#"{"\n":1}"#,
            "{\"a\":\"\u{1}\"}",
            r#"{"a":"\"#,
            r#"{"a":"b}"#,
            r#"{"a":[1,]}"#,
            r#"{"a":[1 2]}"#,
            r#"{"a":tru}"#,
            r#"{"a":NaN}"#,
        ] {
            assert!(!is_canonical(text), "{text}");
        }
        let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(is_canonical(&nested(MAX_NESTING - 1)) && !is_canonical(&nested(MAX_NESTING + 1)));
        assert!(!is_canonical(&nested(1_000_000)));
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            (-20i64..20).prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            ".*".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::vec((".{0,3}", inner), 0..6).prop_map(|entries| entries.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_taken_for_canonical_is_written_as_it_stands(value in any_json(), cut in any::<prop::sample::Index>(), put in ".") {
            let text = serde_json::json!({ "k": value }).to_string();
            let mut damaged = text.clone();
            let at = (0..=cut.index(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            damaged.insert_str(at, &put);
            for text in [&text, &damaged] {
                if is_canonical(text) {
                    let written = anew(text);
                    prop_assert_eq!(written.as_deref(), Some(text.as_str()));
                }
            }
            // What was written canonically is known as such, unless it holds what is not looked at closely.
            if let Ok(object) = json::parse_object(&text) {
                let canonical = json::to_text(&object);
                let plain = !canonical.contains("\\u") && !canonical.contains('\\');
                let small = !canonical.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > SURE_DIGITS);
                prop_assert!(!(plain && small) || is_canonical(&canonical), "{}", canonical);
            }
        }
    }
}
