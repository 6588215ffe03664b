//! Full-text search (client-server specification, "Server Side Search"): which events have text, what its words are, and whether they
//! are what somebody looks for.
//!
//! A word is a run of letters and digits in lower case; of scripts that put no spaces between words each character is one. Words
//! that are joined in the search term (`foo-bar`, a quoted phrase, `東京`) must stand side by side in the text, too.

use std::{borrow::Cow, collections::BTreeSet};

use kith_store::{
    Read, StoreError, Tx,
    tables::search::{MAX_WORDS, SEARCH_WORDS, Words},
};
use serde_json::{Value, value::RawValue};

use super::read::StoredEvent;

/// Words that a search term may have.
pub const MOST_TERMS: usize = 32;

/// The types of events that are searched, with the field of the content that is.
const SEARCHED: [(&str, &str); 3] = [("m.room.message", "body"), ("m.room.name", "name"), ("m.room.topic", "topic")];

/// The type of event that a key of a search (`content.body`) is found in.
pub fn type_of_key(key: &str) -> Option<&'static str> {
    let field = key.strip_prefix("content.")?;
    SEARCHED.iter().find(|(_, its)| *its == field).map(|(kind, _)| *kind)
}

/// Notes the words of an event that is shown from now on. `json` is its PDU, as it is stored.
pub(super) fn index(tx: &mut Tx, room: u64, number: u64, json: &str) -> Result<(), StoreError> {
    #[derive(serde::Deserialize)]
    struct Pdu<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
        origin_server_ts: u64,
        #[serde(borrow)]
        content: Content<'a>,
    }
    #[derive(serde::Deserialize)]
    struct Content<'a> {
        #[serde(borrow, default)]
        body: Option<&'a RawValue>,
        #[serde(borrow, default)]
        name: Option<&'a RawValue>,
        #[serde(borrow, default)]
        topic: Option<&'a RawValue>,
    }
    // Most of what else there is (encrypted messages, memberships) is not even parsed.
    if !SEARCHED.iter().any(|(kind, _)| json.contains(kind)) {
        return Ok(());
    }
    let Ok(pdu) = serde_json::from_str::<Pdu<'_>>(json) else { return Ok(()) };
    let Content { body, name, topic } = pdu.content;
    let text = match &*pdu.kind {
        "m.room.message" => body,
        "m.room.name" => name,
        "m.room.topic" => topic,
        _ => None,
    };
    let Some(text) = text.and_then(|text| serde_json::from_str::<String>(text.get()).ok()) else { return Ok(()) };
    let hashes = hashes(&text);
    if hashes.is_empty() {
        return Ok(());
    }
    SEARCH_WORDS.put(tx, &(room, number), &Words::new(pdu.origin_server_ts, hashes))
}

/// Forgets the words of an event that is shown no more, or was redacted.
pub(super) fn forget(tx: &mut Tx, room: u64, number: u64) -> Result<(), StoreError> {
    SEARCH_WORDS.delete(tx, &(room, number)).map(drop)
}

fn hashes(text: &str) -> Vec<u32> {
    let mut hashes = BTreeSet::new();
    for word in words(text) {
        hashes.insert(hash(&word));
        if hashes.len() >= MAX_WORDS {
            break;
        }
    }
    hashes.into_iter().collect()
}

/// FNV-1a, because it must stay the same for ever.
fn hash(word: &str) -> u32 {
    word.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// What somebody looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Words that stand side by side, each of which must be found.
    phrases: Vec<Vec<String>>,
}

impl Query {
    /// Understands a search term. None if it has more than [`MOST_TERMS`] words.
    pub fn parse(term: &str) -> Option<Self> {
        let mut phrases = Vec::new();
        let mut count = 0;
        for (number, part) in term.split('"').enumerate() {
            // Every other part stands in quotation marks.
            let chunks: Box<dyn Iterator<Item = &str>> =
                if number % 2 == 1 { Box::new(std::iter::once(part)) } else { Box::new(part.split_whitespace()) };
            for chunk in chunks {
                let phrase: Vec<String> = words(chunk).take(MOST_TERMS + 1).collect();
                count += phrase.len();
                if count > MOST_TERMS {
                    return None;
                }
                if !phrase.is_empty() {
                    phrases.push(phrase);
                }
            }
        }
        Some(Self { phrases })
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.phrases.is_empty()
    }

    /// The words, each once, as they are shown highlighted.
    pub fn terms(&self) -> Vec<String> {
        let mut terms: Vec<String> = self.phrases.iter().flatten().cloned().collect();
        terms.sort_unstable();
        terms.dedup();
        terms
    }

    /// The words by their hashes.
    pub fn hashes(&self) -> Vec<u32> {
        self.terms().iter().map(|term| hash(term)).collect()
    }

    /// How well an event fits: how often the phrases stand in it, less for a longer text. None if one of them does not, or
    /// if the event is of none of the types `kinds`.
    pub fn rank(&self, event: &StoredEvent, kinds: &[&str]) -> Option<f64> {
        let (kind, field) = SEARCHED.iter().find(|(kind, _)| *kind == event.kind())?;
        if !kinds.contains(kind) {
            return None;
        }
        self.rank_text(event.content().get(*field).and_then(Value::as_str)?)
    }

    fn rank_text(&self, text: &str) -> Option<f64> {
        let text: Vec<String> = words(text).collect();
        let mut hits = 0;
        for phrase in &self.phrases {
            match text.windows(phrase.len()).filter(|window| window == phrase).count() {
                0 => return None,
                count => hits += count,
            }
        }
        Some(hits as f64 / (text.len() as f64).sqrt())
    }
}

/// The words of a text, in order.
fn words(text: &str) -> impl Iterator<Item = String> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(|c| !is_of_word(c));
        let first = rest.chars().next()?;
        let end = match is_word_alone(first) {
            true => first.len_utf8(),
            false => rest.find(|c| !is_of_word(c) || is_word_alone(c)).unwrap_or(rest.len()),
        };
        let (word, behind) = rest.split_at(end);
        rest = behind;
        Some(word.to_lowercase())
    })
}

/// Whether a character stands in words: letters, digits, and the accents that are written behind their letter.
fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || ('\u{300}'..='\u{36f}').contains(&c)
}

/// Whether a character is of a script without spaces between words.
fn is_word_alone(c: char) -> bool {
    matches!(c,
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' // Thai, Lao, Burmese, Khmer
        | '\u{3040}'..='\u{30ff}' // kana
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Walks through up to `most` rows of a room, from an event number on, and gives those that have all words (by their hashes) to
/// `found`, with their timestamp and number. Gives the number to go on from; none when the room's rows are at an end.
///
/// # Errors
/// The store's.
pub fn scan(
    read: &dyn Read,
    (room, from): (u64, u64),
    most: usize,
    hashes: &[u32],
    mut found: impl FnMut(u64, u64),
) -> Result<Option<u64>, StoreError> {
    let mut rows = SEARCH_WORDS.range(read, (room, from)..=(room, u64::MAX))?;
    for _ in 0..most {
        let Some(row) = rows.next() else { return Ok(None) };
        let ((_, number), words) = row?;
        if words.have(hashes) {
            found(words.timestamp(), number);
        }
    }
    Ok(rows.next().transpose()?.map(|((_, number), _)| number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        words(text).collect()
    }

    #[test]
    fn words_are_runs_of_letters_and_digits_and_single_characters_where_no_spaces_are_written() {
        assert_eq!(of("Hello, WORLD! don't_x 42nd"), ["hello", "world", "don", "t", "x", "42nd"]);
        assert_eq!(of("Größe ÉCOLE e\u{301}"), ["größe", "école", "e\u{301}"]);
        assert_eq!(of("in 東京 today"), ["in", "東", "京", "today"]);
        assert_eq!(of(" …!"), Vec::<String>::new());
    }

    #[test]
    fn a_term_is_found_where_all_its_words_are_and_joined_ones_side_by_side() {
        let found = |term: &str, text: &str| Query::parse(term).unwrap().rank_text(text).is_some();
        for (term, text, expected) in [
            ("apple", "An APPLE a day", true),
            ("day apple", "An apple a day", true),
            ("apple pear", "an apple", false),
            ("app", "an apple", false),
            ("\"apple a day\"", "an apple a day", true),
            ("\"a apple\"", "an apple a day", false),
            ("foo-bar", "see foo bar", true),
            ("foo-bar", "bar foo", false),
            ("京都", "東京都", true),
            ("都京", "東京都", false),
            ("\"", "anything", true),
        ] {
            assert_eq!(found(term, text), expected, "{term:?} in {text:?}");
        }
        assert!(Query::parse("\"").unwrap().is_empty());
        assert!(Query::parse(&"a ".repeat(MOST_TERMS)).is_some());
        assert!(Query::parse(&"a ".repeat(MOST_TERMS + 1)).is_none());
    }

    #[test]
    fn what_is_said_more_often_or_more_briefly_ranks_higher() {
        let rank = |text: &str| Query::parse("tea").unwrap().rank_text(text).unwrap();
        assert!(rank("tea") > rank("tea and much else besides"));
        assert!(rank("tea tea tea x") > rank("tea x x x"));
    }

    #[test]
    fn a_text_of_very_many_words_is_noted_within_the_bound() {
        let long: String = (0..20_000).map(|number| format!("w{number} ")).collect();
        assert_eq!(hashes(&long).len(), MAX_WORDS);
    }
}
