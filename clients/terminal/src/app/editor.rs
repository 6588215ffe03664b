//! A small text field: for messages (several lines) and for answers to questions (one).

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use unicode_segmentation::UnicodeSegmentation as _;

/// Bytes that one may type or paste. A Matrix event holds 64 KiB, escapes and keys included.
const LONGEST: usize = 40_000;

/// Text and a cursor in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Editor {
    text: String,
    /// A byte position, always between two clusters.
    cursor: usize,
}

impl Editor {
    /// A field that holds a text, the cursor behind it.
    pub fn with(text: &str) -> Self {
        let mut editor = Self::default();
        editor.insert(text);
        editor
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn cursor(&self) -> usize {
        self.cursor
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Empties it and gives what was in it.
    pub fn take(&mut self) -> String {
        self.cursor = 0;
        std::mem::take(&mut self.text)
    }

    /// Writes at the cursor, as typing and pasting do. What a terminal would obey is left out.
    pub fn insert(&mut self, text: &str) {
        let clean: String = text
            .replace("\r\n", "\n")
            .replace('\r', "\n")
            .chars()
            .filter(|character| *character == '\n' || *character == '\t' || !character.is_control())
            .collect();
        if self.text.len() + clean.len() <= LONGEST {
            self.text.insert_str(self.cursor, &clean);
            self.cursor += clean.len();
        }
    }

    /// Moves and deletes. Whether the key meant something here.
    pub fn key(&mut self, key: KeyEvent) -> bool {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        match key.code {
            KeyCode::Char('a') if control => self.cursor = self.line_begin(),
            KeyCode::Char('e') if control => self.cursor = self.line_end(),
            KeyCode::Char('w') if control => self.delete_to(self.word_before()),
            KeyCode::Char('u') if control => self.delete_to(self.line_begin()),
            KeyCode::Char('k') if control => self.delete_to(self.line_end()),
            KeyCode::Char('b') if alt => self.cursor = self.word_before(),
            KeyCode::Char('f') if alt => self.cursor = self.word_after(),
            KeyCode::Left if control || alt => self.cursor = self.word_before(),
            KeyCode::Right if control || alt => self.cursor = self.word_after(),
            KeyCode::Char(character) if !control && !alt => self.insert(character.encode_utf8(&mut [0; 4])),
            KeyCode::Backspace if alt => self.delete_to(self.word_before()),
            KeyCode::Backspace => self.delete_to(self.before()),
            KeyCode::Delete => self.delete_to(self.after()),
            KeyCode::Left => self.cursor = self.before(),
            KeyCode::Right => self.cursor = self.after(),
            KeyCode::Home => self.cursor = self.line_begin(),
            KeyCode::End => self.cursor = self.line_end(),
            KeyCode::Up => return self.vertical(false),
            KeyCode::Down => return self.vertical(true),
            _ => return false,
        }
        true
    }

    fn before(&self) -> usize {
        self.text[..self.cursor].grapheme_indices(true).next_back().map_or(0, |(at, _)| at)
    }

    fn after(&self) -> usize {
        self.cursor + self.text[self.cursor..].graphemes(true).next().map_or(0, str::len)
    }

    fn word_before(&self) -> usize {
        let words = self.text[..self.cursor].split_word_bound_indices();
        words.rev().find(|(_, word)| !word.trim().is_empty()).map_or(0, |(at, _)| at)
    }

    fn word_after(&self) -> usize {
        let mut words = self.text[self.cursor..].split_word_bound_indices();
        words
            .find(|(_, word)| !word.trim().is_empty())
            .map_or(self.text.len(), |(at, word)| self.cursor + at + word.len())
    }

    fn line_begin(&self) -> usize {
        self.text[..self.cursor].rfind('\n').map_or(0, |at| at + 1)
    }

    fn line_end(&self) -> usize {
        self.text[self.cursor..].find('\n').map_or(self.text.len(), |at| self.cursor + at)
    }

    fn delete_to(&mut self, other: usize) {
        let (from, to) = (self.cursor.min(other), self.cursor.max(other));
        self.text.replace_range(from..to, "");
        self.cursor = from;
    }

    /// Goes a line up or down; false where there is none.
    fn vertical(&mut self, down: bool) -> bool {
        let begin = self.line_begin();
        let column = self.text[begin..self.cursor].graphemes(true).count();
        let target = if down {
            let end = self.line_end();
            if end == self.text.len() {
                return false;
            }
            end + 1
        } else {
            if begin == 0 {
                return false;
            }
            self.text[..begin - 1].rfind('\n').map_or(0, |at| at + 1)
        };
        let line = self.text[target..].split('\n').next().unwrap_or_default();
        self.cursor = target + line.grapheme_indices(true).nth(column).map_or(line.len(), |(at, _)| at);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(editor: &mut Editor, codes: &[(KeyCode, KeyModifiers)]) {
        for (code, modifiers) in codes {
            editor.key(KeyEvent::new(*code, *modifiers));
        }
    }

    #[test]
    fn moving_and_deleting_keeps_clusters_whole() {
        let mut editor = Editor::with("a👩\u{200D}🚀e\u{301}");
        press(&mut editor, &[(KeyCode::Backspace, KeyModifiers::NONE)]);
        assert_eq!(editor.text(), "a👩\u{200D}🚀");
        press(&mut editor, &[(KeyCode::Left, KeyModifiers::NONE), (KeyCode::Char('b'), KeyModifiers::NONE)]);
        assert_eq!(editor.text(), "ab👩\u{200D}🚀");
        press(&mut editor, &[(KeyCode::Delete, KeyModifiers::NONE)]);
        assert_eq!(editor.text(), "ab");
    }

    #[test]
    fn words_and_lines_are_deleted_by_their_keys() {
        let mut editor = Editor::with("one two  three\nfour");
        press(&mut editor, &[(KeyCode::Char('u'), KeyModifiers::CONTROL), (KeyCode::Backspace, KeyModifiers::NONE)]);
        assert_eq!(editor.text(), "one two  three");
        press(&mut editor, &[(KeyCode::Char('w'), KeyModifiers::CONTROL)]);
        assert_eq!(editor.text(), "one two  ");
        press(&mut editor, &[(KeyCode::Home, KeyModifiers::NONE), (KeyCode::Char('k'), KeyModifiers::CONTROL)]);
        assert!(editor.is_empty());
    }

    #[test]
    fn up_and_down_keep_the_column_and_end_at_the_edges() {
        let mut editor = Editor::with("abc\nde\nfgh");
        assert!(editor.key(KeyEvent::from(KeyCode::Up)) && editor.key(KeyEvent::from(KeyCode::Up)));
        assert_eq!(editor.cursor(), 2);
        assert!(!editor.key(KeyEvent::from(KeyCode::Up)));
        assert!(editor.key(KeyEvent::from(KeyCode::Down)) && editor.key(KeyEvent::from(KeyCode::Down)));
        assert!(!editor.key(KeyEvent::from(KeyCode::Down)));
    }

    #[test]
    fn what_is_pasted_brings_no_control_characters_and_no_more_than_fits() {
        let mut editor = Editor::with("a\x1b[31mb\r\nc");
        assert_eq!(editor.take(), "a[31mb\nc");
        editor.insert(&"x".repeat(LONGEST + 1));
        assert!(editor.is_empty());
    }
}
