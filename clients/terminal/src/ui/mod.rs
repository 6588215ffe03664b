//! Drawing: from the state to the cells of a terminal. Nothing here changes the state.

mod conversation;
mod dialogs;
mod rooms;
mod theme;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::{Line, Span},
    widgets::Paragraph,
};

pub use dialogs::Pictures;
pub use theme::Theme;

use crate::{
    app::{App, Focus, news::trust_hint},
    protocol::Connection,
    text,
};

/// Below this width the rooms and the conversation take turns.
const BOTH: u16 = 60;
/// The smallest terminal in which there is anything to see.
const LEAST: (u16, u16) = (20, 5);

/// Draws everything.
pub fn draw(frame: &mut Frame, app: &mut App, theme: &Theme, pictures: &mut Pictures) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        frame.render_widget(Paragraph::new("too small"), area);
        return;
    }
    let [main, bottom] = Layout::vertical([Constraint::Min(1), Constraint::Length(1)]).areas(area);
    if main.width >= BOTH {
        let list = (main.width * 3 / 10).clamp(20, 36);
        let [left, right] = Layout::horizontal([Constraint::Length(list), Constraint::Min(1)]).areas(main);
        rooms::draw(frame, left, app, theme, true);
        conversation::draw(frame, right, app, theme);
    } else if app.focus == Focus::Rooms || app.open.is_none() {
        rooms::draw(frame, main, app, theme, false);
    } else {
        conversation::draw(frame, main, app, theme);
    }
    status(frame, bottom, app, theme);
    if app.verification.is_some() || app.dialog.is_some() {
        dialogs::draw(frame, main, app, theme, pictures);
    }
}

fn status(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    if let Some(line) = &app.command {
        let shown = field(line.text(), line.cursor(), area.width.saturating_sub(1));
        frame.render_widget(Line::from(vec![Span::raw(":"), Span::raw(shown.0)]), area);
        frame.set_cursor_position((area.x + 1 + shown.1, area.y));
        return;
    }
    if let Some(note) = &app.note {
        let style = if note.bad { theme.bad() } else { theme.good() };
        frame.render_widget(Line::styled(text::fit(&text::line(&note.text), area.width.into()), style), area);
        return;
    }
    let state = match &app.connection {
        Connection::Starting => Span::styled("connecting … ", theme.faint()),
        Connection::Online => Span::styled("● ", theme.good()),
        Connection::Offline(why) => Span::styled(format!("○ offline: {} ", text::line(why)), theme.bad()),
        Connection::SignedOut => {
            Span::styled("this session has ended on the server: `kith-chat logout`, then `login` ", theme.bad())
        }
    };
    let hint = match (trust_hint(app), app.focus) {
        (Some(hint), Focus::Rooms) => hint,
        (_, Focus::Rooms) => "Enter open · n new · a add · p people · / filter · ? help",
        (_, Focus::Timeline) => "r reply · e edit · a react · x delete · Enter view · i write · ? help",
        (_, Focus::Compose) => "Enter send · Alt-Enter new line · /file · Esc messages · F1 help",
    };
    let used = state.width();
    let room = usize::from(area.width).saturating_sub(used);
    frame.render_widget(Line::from(vec![state, Span::styled(text::fit(hint, room), theme.faint())]), area);
}

/// The part of a one-line field around its cursor, and the cursor's column in it.
fn field(text: &str, cursor: usize, columns: u16) -> (String, u16) {
    let columns = usize::from(columns.max(2));
    let before = &text[..cursor];
    let mut skip = 0;
    while text::width(&before[skip..]) >= columns {
        skip += before[skip..].chars().next().map_or(1, char::len_utf8);
    }
    let column = u16::try_from(text::width(&before[skip..])).unwrap_or(0);
    (text::fit(&text[skip..].replace('\n', "⏎"), columns), column)
}

/// The first of a list's rows to show so that the chosen one is seen.
fn first_row(chosen: usize, count: usize, rows: usize) -> usize {
    chosen.saturating_sub(rows / 2).min(count.saturating_sub(rows))
}
