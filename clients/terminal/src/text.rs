//! Making text of strangers safe to show, and fitting it into columns.
//!
//! Whatever comes from the network passes through [`line`] or [`block`] before it reaches a terminal: no control character, no
//! escape sequence and no sign that turns the writing direction survives.

use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// What stands for a character that must not reach the terminal.
const REPLACEMENT: char = '\u{FFFD}';
/// Marks without a width of their own that one character may carry.
const MOST_MARKS: usize = 6;
/// Characters of one message that are shown.
pub const LONGEST_BODY: usize = 4_000;
/// Lines of one message that are shown.
pub const MOST_LINES: usize = 60;
/// Characters of a name or title that are kept.
const LONGEST_LINE: usize = 200;

/// One safe line: a name, a title, a file name. Line breaks become spaces.
pub fn line(text: &str) -> String {
    line_of(text, LONGEST_LINE)
}

/// One safe line of at most so many characters.
pub fn line_of(text: &str, characters: usize) -> String {
    let mut clean = Cleaner::default();
    for character in text.chars().take(characters) {
        match character {
            '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' | '\u{85}' => clean.push(' '),
            other => clean.push(other),
        }
    }
    clean.text.trim().to_owned()
}

/// Safe lines: a message. Cut where it is longer than anybody reads, with a note that says so.
pub fn block(text: &str) -> String {
    let mut clean = Cleaner::default();
    let mut lines = 1;
    let mut characters = text.chars().peekable();
    for number in 0.. {
        let Some(character) = characters.next() else { break };
        if number >= LONGEST_BODY || lines > MOST_LINES {
            let left = 1 + characters.count();
            clean.text.push_str(&format!(" … [{left} more characters]"));
            break;
        }
        match character {
            '\r' if characters.peek() == Some(&'\n') => {}
            '\n' | '\r' | '\u{2028}' | '\u{2029}' | '\u{85}' => {
                lines += 1;
                clean.push_break();
            }
            '\t' => clean.text.push_str("    "),
            other => clean.push(other),
        }
    }
    clean.text.trim_end().to_owned()
}

/// JSON whose strings hold nothing that a terminal would obey: what JSON itself leaves as it is becomes `\u` escapes.
pub fn json(value: &serde_json::Value) -> String {
    let mut text = String::new();
    for character in value.to_string().chars() {
        if character == '\u{7F}' || character > '\u{7F}' && (character.is_control() || is_hidden(character)) {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            text.push(character);
        }
    }
    text
}

#[derive(Default)]
struct Cleaner {
    text: String,
    marks: usize,
}

impl Cleaner {
    fn push(&mut self, character: char) {
        if is_hidden(character) {
            return;
        }
        if character.is_control() {
            self.marks = 0;
            self.text.push(REPLACEMENT);
            return;
        }
        if character.width().unwrap_or(0) == 0 {
            self.marks += 1;
            if self.marks > MOST_MARKS {
                return;
            }
        } else {
            self.marks = 0;
        }
        self.text.push(character);
    }

    fn push_break(&mut self) {
        self.marks = 0;
        self.text.push('\n');
    }
}

/// Signs that are not seen and change what is seen: directions, tags, invisible joiners. (The joiner of emoji stays.)
fn is_hidden(character: char) -> bool {
    matches!(character,
        '\u{061C}' | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}'
        | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}' | '\u{180E}')
}

/// Columns that a text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// The text in at most so many columns, with an ellipsis where something is missing.
pub fn fit(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    if columns == 0 {
        return String::new();
    }
    let mut kept = String::new();
    let mut used = 0;
    for cluster in text.graphemes(true) {
        let wide = cluster.width();
        if used + wide > columns - 1 {
            break;
        }
        used += wide;
        kept.push_str(cluster);
    }
    kept.push('…');
    kept
}

/// A stretch of text and whatever belongs to it, such as its style.
pub type Piece<T> = (String, T);

/// Breaks pieces into rows of at most so many columns: at spaces where there are some, else anywhere.
pub fn wrap<T: Clone>(pieces: &[Piece<T>], columns: usize) -> Vec<Vec<Piece<T>>> {
    let columns = columns.max(1);
    let mut rows = Vec::new();
    let mut row: Vec<Piece<T>> = Vec::new();
    let mut used = 0;
    for (text, mark) in pieces {
        for (number, part) in text.split('\n').enumerate() {
            if number > 0 {
                rows.push(std::mem::take(&mut row));
                used = 0;
            }
            for word in part.split_word_bounds() {
                let wide = word.width();
                if used + wide <= columns {
                    add(&mut row, word, mark);
                    used += wide;
                    continue;
                }
                if used > 0 {
                    rows.push(std::mem::take(&mut row));
                    used = 0;
                }
                if word.chars().all(char::is_whitespace) {
                    continue;
                }
                for cluster in word.graphemes(true) {
                    let wide = cluster.width();
                    if used + wide > columns && used > 0 {
                        rows.push(std::mem::take(&mut row));
                        used = 0;
                    }
                    add(&mut row, cluster, mark);
                    used += wide;
                }
            }
        }
    }
    rows.push(row);
    rows
}

fn add<T: Clone>(row: &mut Vec<Piece<T>>, text: &str, mark: &T) {
    row.push((text.to_owned(), mark.clone()));
}

/// How many bytes, for people.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str, columns: usize) -> Vec<String> {
        wrap(&[(text.to_owned(), ())], columns)
            .into_iter()
            .map(|row| row.into_iter().map(|(text, ())| text).collect())
            .collect()
    }

    #[test]
    fn escape_sequences_lose_what_makes_them_work() {
        for hostile in ["\x1b]0;owned\x07", "\x1b[2J", "\u{9b}31m", "a\x08b", "\x7f", "\x1b_Gf=100;AAAA\x1b\\", "\x1bP"]
        {
            for clean in [line(hostile), block(hostile)] {
                assert!(clean.chars().all(|character| !character.is_control()), "{clean:?}");
            }
        }
        assert_eq!(block("a\x1b[31mb"), "a\u{FFFD}[31mb");
    }

    #[test]
    fn signs_that_turn_the_direction_are_gone_and_the_rest_of_the_writing_stays() {
        assert_eq!(line("photo\u{202E}gpj.exe"), "photogpj.exe");
        assert_eq!(block("שלום \u{2067}x\u{2069} 👩\u{200D}🚀"), "שלום x 👩\u{200D}🚀");
    }

    #[test]
    fn a_name_has_one_line_and_a_bounded_length() {
        assert_eq!(line("a\r\nb\u{2028}c\u{85}d"), "a  b c d");
        assert_eq!(line(&"x".repeat(100_000)).len(), 200);
    }

    #[test]
    fn a_huge_body_is_cut_and_says_by_how_much() {
        let shown = block(&"y".repeat(60_000));
        assert!(shown.ends_with(" … [56000 more characters]"), "{}", &shown[3_990..]);
        let shown = block(&"\n".repeat(5_000));
        assert!(shown.lines().count() <= MOST_LINES + 1 && shown.contains("more characters"));
    }

    #[test]
    fn heaps_of_combining_marks_are_levelled() {
        let tower = format!("a{}b", "\u{0301}".repeat(500));
        assert_eq!(block(&tower).chars().count(), 2 + MOST_MARKS);
    }

    #[test]
    fn json_for_scripts_holds_the_same_text_and_no_sign_that_a_terminal_obeys() {
        let value = serde_json::json!({ "body": "a\u{9b}31m\u{202E}\x1b\x7f\u{E0041}é" });
        let text = json(&value);
        assert!(text.chars().all(|character| !character.is_control() && !is_hidden(character)), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn rows_break_at_spaces_and_long_words_anywhere() {
        assert_eq!(rows("the quick brown fox", 10), ["the quick ", "brown fox"]);
        assert_eq!(rows("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(rows("one\n\ntwo", 10), ["one", "", "two"]);
        assert_eq!(rows("日本語日本語", 5), ["日本", "語日", "本語"]);
    }

    #[test]
    fn what_does_not_fit_ends_in_an_ellipsis() {
        assert_eq!(fit("hello", 5), "hello");
        assert_eq!(fit("hello world", 6), "hello…");
        assert_eq!(fit("日本語", 4), "日…");
        assert_eq!(fit("x", 0), "");
    }
}
