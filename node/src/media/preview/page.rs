//! What an HTML page says of itself: `<meta property="og:...">`, else `<meta name="twitter:...">`, `<title>` and
//! `<meta name="description">`. Nothing is built of the page; its beginning is read once, tag by tag.

use http::{HeaderMap, header};
use serde_json::{Map, Value};

/// The longest value that is taken, in characters.
const LONGEST_VALUE: usize = 1_000;
/// Tags that are looked at.
const MOST_TAGS: usize = 20_000;
/// Attributes of one tag that are looked at.
const MOST_ATTRIBUTES: usize = 32;

/// What a preview shows, and what of it is made up for by other tags where a page leaves it out.
const FIELDS: [(&str, &[&str]); 6] = [
    ("og:title", &["twitter:title", "title"]),
    ("og:description", &["twitter:description", "description"]),
    ("og:site_name", &["application-name"]),
    ("og:type", &[]),
    ("og:url", &[]),
    ("og:image:alt", &["twitter:image:alt"]),
];

/// Where a page names its picture, the best first.
const PICTURES: [&str; 5] = ["og:image:secure_url", "og:image:url", "og:image", "twitter:image", "twitter:image:src"];

/// What was found.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    /// Fields of the preview.
    pub(super) fields: Map<String, Value>,
    /// The URL of the page's picture, as it stands there.
    pub(super) picture: Option<String>,
}

/// The text of a page. Where it says nothing else it is taken for UTF-8.
pub(super) fn text(bytes: &[u8], headers: &HeaderMap) -> String {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.to_ascii_lowercase();
    let is_latin = ["iso-8859-1", "latin1", "windows-1252"].iter().any(|name| kind.contains(name));
    match std::str::from_utf8(bytes) {
        Err(_) if is_latin => bytes.iter().map(|byte| char::from(*byte)).collect(),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// Looks through a page.
pub(super) fn look(page: &str) -> Found {
    let mut said: Map<String, Value> = Map::new();
    let mut say = |name: String, value: &str| {
        let value: String = decoded(value).split_whitespace().collect::<Vec<_>>().join(" ");
        if !value.is_empty() && !said.contains_key(&name) {
            said.insert(name, Value::String(value.chars().take(LONGEST_VALUE).collect()));
        }
    };
    let mut rest = page;
    for _ in 0..MOST_TAGS {
        let Some(start) = rest.find('<') else { break };
        rest = rest.get(start + 1..).unwrap_or_default();
        if let Some(comment) = rest.strip_prefix("!--") {
            rest = comment.split_once("-->").map_or("", |(_, behind)| behind);
            continue;
        }
        let end = rest.find(|c: char| c.is_ascii_whitespace() || c == '>' || c == '/').unwrap_or(rest.len());
        let (name, behind) = rest.split_at(end);
        match name.to_ascii_lowercase().as_str() {
            "meta" => {
                let (attributes, behind) = attributes(behind);
                rest = behind;
                let of = |name: &str| attributes.iter().find(|(its, _)| its == name).map(|(_, value)| *value);
                let name = of("property").or_else(|| of("name"));
                if let (Some(name), Some(value)) = (name, of("content")) {
                    say(name.trim().to_ascii_lowercase(), value);
                }
            }
            "title" => {
                let (_, inside) = attributes(behind);
                let end = inside.find("</").unwrap_or(inside.len());
                let (title, behind) = inside.split_at(end);
                say("title".to_owned(), title);
                rest = behind;
            }
            // What stands in these are no tags.
            name @ ("script" | "style") => {
                let end = format!("</{name}");
                let at = find_ignoring_case(behind, &end).unwrap_or(behind.len());
                rest = behind.get(at..).unwrap_or_default();
            }
            _ => rest = behind,
        }
    }
    let mut found = Found::default();
    for (field, others) in FIELDS {
        let value = std::iter::once(&field).chain(others).find_map(|name| said.get(*name));
        if let Some(value) = value {
            found.fields.insert(field.to_owned(), value.clone());
        }
    }
    found.picture = PICTURES.iter().find_map(|name| said.get(*name)).and_then(Value::as_str).map(str::to_owned);
    found
}

fn find_ignoring_case(text: &str, wanted: &str) -> Option<usize> {
    text.as_bytes().windows(wanted.len()).position(|window| window.eq_ignore_ascii_case(wanted.as_bytes()))
}

/// The attributes of a tag, names in lower case, and what stands behind the tag.
fn attributes(tag: &str) -> (Vec<(String, &str)>, &str) {
    let mut attributes = Vec::new();
    let mut rest = tag;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
        if rest.is_empty() {
            return (attributes, rest);
        }
        if let Some(behind) = rest.strip_prefix('>') {
            return (attributes, behind);
        }
        let end = rest.find(|c: char| c.is_ascii_whitespace() || matches!(c, '=' | '>')).unwrap_or(rest.len());
        // A `=` where a name should be belongs to nothing.
        let (name, behind) =
            rest.split_at(end.max(rest.chars().next().map_or(0, |c| if end == 0 { c.len_utf8() } else { 0 })));
        rest = behind.trim_start_matches(|c: char| c.is_ascii_whitespace());
        let mut value = "";
        if end > 0
            && let Some(behind) = rest.strip_prefix('=')
        {
            let behind = behind.trim_start_matches(|c: char| c.is_ascii_whitespace());
            let quote = behind.chars().next().filter(|c| matches!(c, '"' | '\''));
            (value, rest) = match quote {
                Some(quote) => behind.get(1..).unwrap_or_default().split_once(quote).unwrap_or((behind, "")),
                None => {
                    behind.split_at(behind.find(|c: char| c.is_ascii_whitespace() || c == '>').unwrap_or(behind.len()))
                }
            };
        }
        if attributes.len() < MOST_ATTRIBUTES {
            attributes.push((name.to_ascii_lowercase(), value));
        }
    }
}

/// Text with its character references resolved: numbers, and the names that pages use in their heads.
fn decoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('&') {
        out.push_str(before);
        let reference = behind.split_once(';').filter(|(name, _)| name.len() <= 8);
        let character = reference.and_then(|(name, _)| match name {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            "nbsp" => Some(' '),
            "ndash" => Some('–'),
            "mdash" => Some('—'),
            "hellip" => Some('…'),
            "laquo" => Some('«'),
            "raquo" => Some('»'),
            name => {
                let digits = name.strip_prefix('#')?;
                let number = match digits.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                    None => digits.parse().ok()?,
                };
                char::from_u32(number).filter(|c| !c.is_control())
            }
        });
        match (character, reference) {
            (Some(character), Some((_, behind))) => {
                out.push(character);
                rest = behind;
            }
            _ => {
                out.push('&');
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_is_known_by_what_it_says_of_itself() {
        let found = look(
            r#"<!doctype html><html><head><!-- <meta property="og:title" content="commented"> -->
            <title>Plain &amp; simple</title><script>var a = '<meta property="og:title" content="script">';</script>
            <META content='A "quoted"
               title &#8211; &#x2603;' Property=og:title data-x>
            <meta name=description content="Described"/><meta property="og:title" content="second">
            <meta property="og:image" content="/a.png?b=1&amp;c=2"></head><body><p>text"#,
        );
        let expected = json!({ "og:title": "A \"quoted\" title – ☃", "og:description": "Described" });
        assert_eq!(Value::Object(found.fields), expected);
        assert_eq!(found.picture.as_deref(), Some("/a.png?b=1&c=2"));
        let found = look("<title>Only a title</title>");
        assert_eq!(found.fields["og:title"], "Only a title");
    }

    #[test]
    fn broken_and_hostile_pages_end_and_say_little() {
        for page in [
            "",
            "<",
            "<meta",
            "<meta =",
            "<meta ==== >",
            "<meta a='",
            "<title",
            "<script>",
            "<!--",
            "<é>",
            "&#xffffffff;",
        ] {
            assert_eq!(look(page), Found::default(), "{page}");
        }
        let long = format!("<meta name=description content='{}'>", "é".repeat(100_000));
        assert_eq!(look(&long).fields["og:description"].as_str().unwrap().chars().count(), LONGEST_VALUE);
        for piece in ["<", "<meta ", "<meta property='og:title' ", "<script>", "&", "<!--"] {
            look(&piece.repeat(200_000));
        }
        assert_eq!(decoded("a &b; &; &#0; &amp &lt;"), "a &b; &; &#0; &amp <");
    }

    #[test]
    fn text_is_read_in_the_alphabet_that_the_server_names() {
        let mut headers = HeaderMap::new();
        assert_eq!(text("é".as_bytes(), &headers), "é");
        headers.insert(header::CONTENT_TYPE, "text/html; charset=ISO-8859-1".parse().unwrap());
        assert_eq!(text(&[0xe9], &headers), "é");
    }
}
