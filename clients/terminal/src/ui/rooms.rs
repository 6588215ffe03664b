//! The list of rooms.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
    widgets::{Block, Borders, Paragraph},
};

use super::{Theme, field, first_row};
use crate::{
    app::{App, Focus},
    model::{Room, Standing},
    text,
};

pub fn draw(frame: &mut Frame, area: Rect, app: &App, theme: &Theme, bordered: bool) {
    let focused = app.focus == Focus::Rooms;
    let block = Block::new().borders(if bordered { Borders::RIGHT } else { Borders::NONE }).border_style(theme.faint());
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let columns = usize::from(inner.width);
    let title = match &app.filter {
        Some(filter) => {
            let (shown, column) = field(filter.text(), filter.cursor(), inner.width.saturating_sub(2));
            frame.set_cursor_position((inner.x + 1 + column, inner.y));
            Line::raw(format!("/{shown}"))
        }
        None => Line::styled(text::fit(&app.me, columns), if focused { theme.accent() } else { theme.faint() }),
    };
    frame.render_widget(title, Rect { height: 1, ..inner });
    let list = Rect { y: inner.y + 1, height: inner.height.saturating_sub(1), ..inner };
    let rooms = app.visible_rooms();
    if rooms.is_empty() {
        let hint = if app.filter.is_some() {
            "nothing of that name"
        } else {
            "No conversations yet.\n\nn  write to somebody\na  add by link\np  people near\nc  new group"
        };
        frame.render_widget(Paragraph::new(hint).style(theme.faint()), list);
        return;
    }
    let rows = usize::from(list.height);
    let chosen = app.chosen.as_ref().and_then(|id| rooms.iter().position(|room| room.id == *id)).unwrap_or(0);
    let first = first_row(chosen, rooms.len(), rows);
    let lines = rooms.iter().enumerate().skip(first).take(rows).map(|(at, room)| {
        let line = entry(room, columns, app.drafts.contains_key(&room.id), theme);
        let is_open = app.open.as_ref().is_some_and(|open| open.room == room.id);
        if at == chosen && focused {
            line.style(theme.chosen())
        } else if is_open || at == chosen && app.open.is_none() {
            line.style(theme.strong())
        } else {
            line
        }
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), list);
}

fn entry(room: &Room, columns: usize, draft: bool, theme: &Theme) -> Line<'static> {
    let badge = match room {
        room if room.standing == Standing::Invited => " invited".to_owned(),
        room if room.mentions > 0 => format!(" @{}", room.unread.max(room.mentions)),
        room if room.unread > 0 => format!(" {}", room.unread),
        _ if draft => " ✎".to_owned(),
        _ => String::new(),
    };
    let sign = if room.direct.is_some() { "" } else { "#" };
    let wide = columns.saturating_sub(text::width(&badge) + 1);
    let name = text::fit(&format!("{sign}{}", room.name), wide);
    let gap = " ".repeat(wide.saturating_sub(text::width(&name)));
    let style = if room.mentions > 0 || room.standing == Standing::Invited { theme.mention() } else { theme.accent() };
    let name = if badge.is_empty() || draft { Span::raw(name) } else { Span::styled(name, theme.strong()) };
    Line::from(vec![Span::raw(" "), name, Span::raw(gap), Span::styled(badge, style)])
}
