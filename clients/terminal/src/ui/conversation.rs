//! The open conversation: its messages and the field to write in.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::Style,
    text::{Line, Span},
    widgets::Paragraph,
};

use super::Theme;
use crate::{
    app::{App, Focus, Writing},
    markup,
    model::{Body, Delivery, Message},
    text, when,
};

/// Rows that the composer may take.
const MOST_ROWS: usize = 6;
/// Columns before a message's text.
const INDENT: usize = 2;

pub fn draw(frame: &mut Frame, area: Rect, app: &mut App, theme: &Theme) {
    if app.open.is_none() {
        welcome(frame, area, app, theme);
        return;
    }
    let rows = compose_rows(app, area.width);
    let height = u16::try_from(rows.lines.len().min(MOST_ROWS)).unwrap_or(1).min(area.height.saturating_sub(3)).max(1);
    let above = u16::from(rows.above.is_some());
    let [title, timeline, context, compose] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1.max(above)),
        Constraint::Length(height),
    ])
    .areas(area);
    header(frame, title, app, theme);
    app.page = usize::from(timeline.height);
    messages(frame, timeline, app, theme);
    divider(frame, context, app, rows.above.as_deref(), theme);
    composer(frame, compose, app, &rows, theme);
}

fn welcome(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let lines = [
        "",
        "  kith",
        "",
        "  Choose a conversation on the left and press Enter.",
        "",
        "  n   write to somebody     a   add by link",
        "  c   make a group          F2  people near",
        "  F3  search                F4  my link and QR code",
        "  ?   all keys              q   end",
    ];
    let mut lines: Vec<Line> = lines.into_iter().map(|line| Line::styled(line, theme.faint())).collect();
    lines[1] = Line::styled("  kith", theme.accent());
    lines.push(Line::default());
    lines.push(Line::styled(format!("  {}", app.me), theme.faint()));
    frame.render_widget(Paragraph::new(lines), area);
}

fn header(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let Some(room) = app.open_room() else { return };
    let lock = if room.encrypted { "" } else { " (not encrypted)" };
    let members = if room.direct.is_some() { String::new() } else { format!(" · {}", room.members) };
    let topic = if room.topic.is_empty() { String::new() } else { format!(" · {}", room.topic) };
    let topic = match &room.replaced_by {
        Some(_) => " · this room was replaced by another: /join goes there".to_owned(),
        None => topic,
    };
    let style = if app.focus == Focus::Rooms { theme.faint() } else { theme.accent() };
    let shown = text::fit(&format!(" {}{lock}{members}{topic}", room.name), area.width.into());
    frame.render_widget(Line::styled(shown, style), area);
}

/// Fills the area from the bottom; with a chosen message, so that it is seen whole where it fits.
fn messages(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let Some(open) = &app.open else { return };
    let (rows, columns) = (usize::from(area.height), usize::from(area.width));
    let count = open.messages.len();
    let chosen = open.chosen.as_ref().and_then(|key| open.messages.iter().rposition(|message| message.key == *key));
    let render = |at: usize| {
        let before = at.checked_sub(1).map(|at| &open.messages[at]);
        let marked = chosen == Some(at) && app.focus != Focus::Rooms;
        layout(&open.messages[at], before, columns, marked, theme)
    };
    // From the anchor outwards, so that only what can be seen is laid out.
    let anchor = chosen.unwrap_or(count.saturating_sub(1));
    let mut lines: Vec<Line> = if count > 0 { render(anchor) } else { Vec::new() };
    if chosen.is_some() {
        lines.truncate(rows);
    }
    let fill_below = |lines: &mut Vec<Line<'_>>, from: usize, most: usize| {
        let mut next = from;
        while next < count && lines.len() < most {
            lines.extend(render(next));
            next += 1;
        }
        next
    };
    let some_below = (lines.len() + rows / 3).min(rows);
    let next = fill_below(&mut lines, anchor + 1, some_below);
    lines.truncate(rows.max(if chosen.is_some() { 0 } else { lines.len() }));
    for at in (0..anchor.min(count)).rev() {
        if lines.len() >= rows {
            break;
        }
        let mut piece = render(at);
        piece.append(&mut lines);
        lines = piece;
    }
    let skip = lines.len().saturating_sub(rows);
    lines.drain(..skip);
    fill_below(&mut lines, next, rows);
    lines.truncate(rows);
    let blank = rows.saturating_sub(lines.len());
    let top = u16::try_from(blank).unwrap_or(0);
    frame.render_widget(Paragraph::new(lines), Rect { y: area.y + top, height: area.height - top, ..area });
    if open.loading {
        frame.render_widget(Line::styled(" loading …", theme.faint()), Rect { height: 1, ..area });
    }
}

/// The rows of one message.
fn layout<'a>(
    message: &Message,
    before: Option<&Message>,
    columns: usize,
    marked: bool,
    theme: &Theme,
) -> Vec<Line<'a>> {
    let mut lines = Vec::new();
    match &message.body {
        Body::Day => return vec![rule(&when::day(message.at_ms), columns, theme)],
        Body::NewFromHere => return vec![rule("new", columns, theme).style(theme.mention())],
        Body::Beginning => return vec![rule("the beginning", columns, theme)],
        Body::Change(text) => {
            let shown = text::fit(&format!("   {} {text}", when::time(message.at_ms)), columns);
            return vec![Line::styled(shown, theme.faint())];
        }
        _ => {}
    }
    let follows = before.is_some_and(|before| {
        before.is_said() && before.sender == message.sender && message.at_ms.saturating_sub(before.at_ms) < 300_000
    });
    if !follows || message.reply.is_some() {
        let name = text::fit(&message.name, columns.saturating_sub(14));
        let mut head = vec![Span::styled(name, theme.name(&message.sender))];
        head.push(Span::styled(format!("  {}", when::time(message.at_ms)), theme.faint()));
        lines.push(Line::from(head));
    }
    if let Some((name, words)) = &message.reply {
        let shown = text::fit(&format!("  ┌ {name}: {words}"), columns);
        lines.push(Line::styled(shown, theme.faint()));
    }
    let mut pieces: Vec<(String, Style)> = body(message, theme);
    if message.in_thread && message.reply.is_none() {
        pieces.insert(0, ("(thread) ".to_owned(), theme.faint()));
    }
    if message.edited {
        pieces.push((" (edited)".to_owned(), theme.faint()));
    }
    if let Some(warning) = message.warning {
        match warning.grave {
            true => pieces.push((format!(" ⚠ {}", warning.words), theme.bad())),
            false => pieces.push((" ⚠".to_owned(), theme.faint())),
        }
    }
    if let Some((sign, style)) = sign(&message.delivery, theme) {
        pieces.push((sign, style));
    }
    for row in text::wrap(&pieces, columns.saturating_sub(INDENT + 1)) {
        let mut spans = vec![Span::raw(" ".repeat(INDENT))];
        spans.extend(row.into_iter().map(|(text, style)| Span::styled(text, style)));
        lines.push(Line::from(spans));
    }
    if !message.reactions.is_empty() {
        let reactions = message.reactions.iter().map(|(key, count, mine)| {
            let shown = if *count > 1 { format!("[{key} {count}]") } else { format!("[{key}]") };
            (format!("{shown} "), if *mine { theme.accent() } else { theme.faint() })
        });
        for row in text::wrap(&reactions.collect::<Vec<_>>(), columns.saturating_sub(INDENT + 1)).into_iter().take(2) {
            let mut spans = vec![Span::raw(" ".repeat(INDENT))];
            spans.extend(row.into_iter().map(|(text, style)| Span::styled(text, style)));
            lines.push(Line::from(spans));
        }
    }
    if marked {
        for line in &mut lines {
            line.spans.insert(0, Span::styled("▌", theme.accent()));
            // The mark takes the place of a space, and of nothing where there is none.
            match line.spans.get_mut(1) {
                Some(span) if span.content.starts_with(' ') => span.content = span.content[1..].to_owned().into(),
                _ => {}
            }
        }
    }
    lines
}

fn body(message: &Message, theme: &Theme) -> Vec<(String, Style)> {
    let plain = Style::new();
    match &message.body {
        Body::Text(text) => markup::pieces(text).into_iter().map(|(text, look)| (text, theme.look(look))).collect(),
        Body::Notice(text) => {
            markup::pieces(text).into_iter().map(|(text, look)| (text, theme.look(look).patch(theme.faint()))).collect()
        }
        Body::Emote(text) => vec![(format!("* {} ", message.name), theme.name(&message.sender)), (text.clone(), plain)],
        Body::File(file) => {
            let size = file.bytes.map(|bytes| format!(" ({})", text::size(bytes))).unwrap_or_default();
            let mut pieces = vec![
                (format!("{} ", file.kind.sign()), theme.accent()),
                (file.name.clone(), theme.strong()),
                (size, theme.faint()),
            ];
            if let Some(caption) = &file.caption {
                pieces.push((format!("\n{caption}"), plain));
            }
            pieces
        }
        Body::Deleted => vec![("deleted".to_owned(), theme.faint())],
        Body::Undecryptable(why) => vec![(format!("cannot be read yet: {why}"), theme.faint())],
        Body::Placeholder(what) => vec![(format!("[{what}]"), theme.faint())],
        Body::Change(text) => vec![(text.clone(), theme.faint())],
        Body::Day | Body::NewFromHere | Body::Beginning => Vec::new(),
    }
}

fn sign(delivery: &Delivery, theme: &Theme) -> Option<(String, Style)> {
    Some(match delivery {
        Delivery::None => return None,
        Delivery::Sending => (" …".to_owned(), theme.faint()),
        Delivery::Failed(why) => (format!(" ✗ not sent: {why} (R tries again, x deletes)"), theme.bad()),
        Delivery::Stored => (" ✓".to_owned(), theme.faint()),
        Delivery::Waiting(_, Some(since)) => (format!(" ⌛ away since {}", when::time(*since)), theme.faint()),
        Delivery::Waiting(..) => (" ⌛".to_owned(), theme.faint()),
        Delivery::Delivered => (" ✓✓".to_owned(), theme.faint()),
        Delivery::Read(_) => (" ✓✓".to_owned(), theme.good()),
    })
}

fn rule<'a>(words: &str, columns: usize, theme: &Theme) -> Line<'a> {
    let side = columns.saturating_sub(text::width(words) + 2) / 2;
    Line::styled(text::fit(&format!("{0} {words} {0}", "─".repeat(side)), columns), theme.faint())
}

fn divider(frame: &mut Frame, area: Rect, app: &App, above: Option<&str>, theme: &Theme) {
    let Some(open) = &app.open else { return };
    let words = match (above, open.typing.as_slice()) {
        (Some(above), _) => above.to_owned(),
        (None, []) => String::new(),
        (None, [one]) => format!("{one} is typing …"),
        (None, [one, other]) => format!("{one} and {other} are typing …"),
        (None, several) => format!("{} people are typing …", several.len()),
    };
    let columns = usize::from(area.width);
    let words = text::fit(&words, columns.saturating_sub(4));
    let line = if words.is_empty() {
        "─".repeat(columns)
    } else {
        format!("─ {words} {}", "─".repeat(columns.saturating_sub(text::width(&words) + 3)))
    };
    let style = if app.focus == Focus::Compose { theme.accent() } else { theme.faint() };
    frame.render_widget(Line::styled(line, style), area);
}

struct Rows {
    lines: Vec<String>,
    /// Row and column of the cursor.
    cursor: (usize, u16),
    above: Option<String>,
}

fn compose_rows(app: &App, columns: u16) -> Rows {
    let mut rows = Rows { lines: vec![String::new()], cursor: (0, 0), above: None };
    let Some(open) = &app.open else { return rows };
    rows.above = match &open.writing {
        Writing::New => None,
        Writing::Reply { name, words, .. } => Some(format!("reply to {name}: {words} (Esc: not)")),
        Writing::Edit { .. } => Some("edit (Esc: leave as it was)".to_owned()),
    };
    let columns = usize::from(columns).saturating_sub(3).max(1);
    let before = &open.compose.text()[..open.compose.cursor()];
    let tabbed = |text: &str| text.replace('\t', "    ");
    let flat = |pieces: &[(String, ())]| -> Vec<String> {
        let rows = text::wrap(pieces, columns);
        rows.into_iter().map(|row| row.into_iter().map(|(text, ())| text).collect()).collect()
    };
    let to_cursor = flat(&[(tabbed(before), ())]);
    rows.lines = flat(&[(tabbed(open.compose.text()), ())]);
    let last = to_cursor.len() - 1;
    rows.cursor = (last, u16::try_from(text::width(&to_cursor[last])).unwrap_or(0));
    if rows.cursor.0 >= rows.lines.len() {
        rows.lines.push(String::new());
    }
    rows
}

fn composer(frame: &mut Frame, area: Rect, app: &App, rows: &Rows, theme: &Theme) {
    let focused = app.focus == Focus::Compose;
    let height = usize::from(area.height);
    let first = (rows.cursor.0 + 1).saturating_sub(height);
    let is_empty = app.open.as_ref().is_none_or(|open| open.compose.is_empty());
    let lines = rows.lines.iter().enumerate().skip(first).take(height).map(|(at, line)| {
        let prompt =
            Span::styled(if at == 0 { "> " } else { "  " }, if focused { theme.accent() } else { theme.faint() });
        let text =
            if is_empty && !focused { Span::styled("i to write", theme.faint()) } else { Span::raw(line.clone()) };
        Line::from(vec![prompt, text])
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), area);
    if focused && app.dialog.is_none() && app.verification.is_none() && app.command.is_none() {
        let row = u16::try_from(rows.cursor.0 - first).unwrap_or(0);
        frame.set_cursor_position((area.x + 2 + rows.cursor.1, area.y + row));
    }
}
