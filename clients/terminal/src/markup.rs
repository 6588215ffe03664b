//! The marks of Markdown in a message's plain body, shown as styles. HTML is never read: the plain body is what counts.

/// How a stretch of text is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    pub bold: bool,
    pub italic: bool,
    pub code: bool,
    pub struck: bool,
    pub quote: bool,
    pub link: bool,
}

/// Splits a safe text into styled pieces.
pub fn pieces(text: &str) -> Vec<(String, Look)> {
    let mut pieces = Vec::new();
    let mut fenced = false;
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            pieces.push(("\n".to_owned(), Look::default()));
        }
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if fenced {
            pieces.push((line.to_owned(), Look { code: true, ..Look::default() }));
        } else if let Some(quoted) = line.strip_prefix("> ").or_else(|| (line == ">").then_some("")) {
            let look = Look { quote: true, ..Look::default() };
            pieces.push(("│ ".to_owned(), look));
            inline(quoted, look, &mut pieces);
        } else if let Some(title) = heading(line) {
            pieces.push((title.to_owned(), Look { bold: true, ..Look::default() }));
        } else if let Some((indent, item)) = bullet(line) {
            pieces.push((format!("{indent}• "), Look::default()));
            inline(item, Look::default(), &mut pieces);
        } else {
            inline(line, Look::default(), &mut pieces);
        }
    }
    pieces
}

fn heading(line: &str) -> Option<&str> {
    let title = line.trim_start_matches('#');
    let depth = line.len() - title.len();
    (1..=6).contains(&depth).then(|| title.strip_prefix(' ')).flatten()
}

fn bullet(line: &str) -> Option<(&str, &str)> {
    let item = line.trim_start();
    let indent = &line[..line.len() - item.len()];
    item.strip_prefix("- ").or_else(|| item.strip_prefix("* ")).map(|item| (indent, item))
}

const MARKS: [&str; 6] = ["**", "__", "~~", "*", "_", "`"];

/// Reads the marks of one line. A mark without an end is text, and is not looked for again: else a line of marks would take time
/// that grows with its square.
fn inline(line: &str, look: Look, pieces: &mut Vec<(String, Look)>) {
    let mut rest = line;
    let mut endless = [false; MARKS.len()];
    let mut plain = String::new();
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        if let Some(length) = link(rest, before) {
            flush(&mut plain, look, pieces);
            pieces.push((rest[..length].to_owned(), Look { link: true, ..look }));
            before = 'x';
            rest = &rest[length..];
            continue;
        }
        let mut found = None;
        for (mark, endless) in
            MARKS.iter().zip(&mut endless).filter(|(mark, endless)| !**endless && rest.starts_with(**mark))
        {
            *endless = !rest[mark.len()..].contains(mark);
            if !*endless && let Some(inner) = marked(rest, mark, before) {
                found = Some((*mark, inner));
                break;
            }
        }
        let Some((mark, inner)) = found else {
            plain.push(first);
            before = first;
            rest = &rest[first.len_utf8()..];
            continue;
        };
        flush(&mut plain, look, pieces);
        let mut within = look;
        match mark {
            "**" | "__" => within.bold = true,
            "~~" => within.struck = true,
            "`" => within.code = true,
            _ => within.italic = true,
        }
        if within.code {
            pieces.push((inner.to_owned(), within));
        } else {
            inline(inner, within, pieces);
        }
        before = 'x';
        rest = &rest[inner.len() + 2 * mark.len()..];
    }
    flush(&mut plain, look, pieces);
}

fn flush(plain: &mut String, look: Look, pieces: &mut Vec<(String, Look)>) {
    if !plain.is_empty() {
        pieces.push((std::mem::take(plain), look));
    }
}

/// What stands between a mark here and its next occurrence, if that makes sense as a mark.
fn marked<'a>(rest: &'a str, mark: &str, before: char) -> Option<&'a str> {
    let inner = rest.strip_prefix(mark)?;
    if mark.starts_with('_') && before.is_alphanumeric() {
        return None;
    }
    let mut end = inner.find(mark)?;
    // Of several marks in a row the last ones close this: those before close what is inside.
    if mark.len() == 2 && inner[end + 2..].starts_with(&mark[..1]) {
        end += 1;
    }
    let inner = &inner[..end];
    let (first, last) = (inner.chars().next()?, inner.chars().next_back()?);
    (!first.is_whitespace() && !last.is_whitespace() && !mark.ends_with(first)).then_some(inner)
}

fn link(rest: &str, before: char) -> Option<usize> {
    if before.is_alphanumeric() || !["https://", "http://", "matrix:"].iter().any(|scheme| rest.starts_with(scheme)) {
        return None;
    }
    let end =
        rest.find(|character: char| character.is_whitespace() || "<>\"`".contains(character)).unwrap_or(rest.len());
    Some(rest[..end].trim_end_matches(['.', ',', ')', ']', '!', '?', ':', ';', '*', '_']).len())
        .filter(|length| *length > 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<(String, String)> {
        pieces(text)
            .into_iter()
            .map(|(text, look)| {
                let marks = [
                    (look.bold, 'b'),
                    (look.italic, 'i'),
                    (look.code, 'c'),
                    (look.struck, 's'),
                    (look.quote, 'q'),
                    (look.link, 'l'),
                ];
                (text, marks.iter().filter(|(on, _)| *on).map(|(_, mark)| *mark).collect())
            })
            .collect()
    }

    fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter().map(|(text, marks)| ((*text).to_owned(), (*marks).to_owned())).collect()
    }

    #[test]
    fn marks_become_styles() {
        assert_eq!(
            of("a **b** *c* `d*` ~~e~~"),
            pairs(&[("a ", ""), ("b", "b"), (" ", ""), ("c", "i"), (" ", ""), ("d*", "c"), (" ", ""), ("e", "s")])
        );
        assert_eq!(of("**bold and *both***")[0], ("bold and ".to_owned(), "b".to_owned()));
    }

    #[test]
    fn marks_without_an_end_and_names_with_underscores_are_text() {
        for text in ["2 * 3 * 4", "snake_case_name", "**open", "a ** b ** c", "``"] {
            assert_eq!(of(text), pairs(&[(text, "")]), "{text}");
        }
    }

    #[test]
    fn quotes_headings_lists_and_fences_are_seen() {
        assert_eq!(of("> so"), pairs(&[("│ ", "q"), ("so", "q")]));
        assert_eq!(of("# Title"), pairs(&[("Title", "b")]));
        assert_eq!(of("- one"), pairs(&[("• ", ""), ("one", "")]));
        assert_eq!(of("```\n*x*\n```"), pairs(&[("\n", ""), ("*x*", "c"), ("\n", "")]));
    }

    #[test]
    fn a_link_is_marked_without_the_full_stop_behind_it() {
        assert_eq!(
            of("see https://example.org/a_b_c."),
            pairs(&[("see ", ""), ("https://example.org/a_b_c", "l"), (".", "")])
        );
    }

    #[test]
    fn endless_marks_take_no_endless_time() {
        let begin = std::time::Instant::now();
        for mark in ["*", "**a", "_", "`", "~~", "> *"] {
            pieces(&mark.repeat(4_000));
        }
        assert!(begin.elapsed().as_secs() < 5);
    }
}
