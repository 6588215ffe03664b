//! What lies over the conversation.

use qrcode::{EcLevel, QrCode};
use ratatui::{
    Frame,
    layout::{Alignment, Rect},
    text::{Line, Span},
    widgets::{Block, Borders, Clear, Paragraph, Wrap},
};
use ratatui_image::{StatefulImage, picker::Picker, protocol::StatefulProtocol};

use super::{Theme, field, first_row};
use crate::{
    app::{
        App,
        commands::COMMANDS,
        dialogs::{Dialog, Picture, REACTIONS},
        editor::Editor,
    },
    model::{Found, Person, Step, Verification},
    text, when,
};

/// How pictures reach this terminal, and the one that is shown.
pub struct Pictures {
    picker: Picker,
    shown: Option<(String, StatefulProtocol)>,
}

impl Pictures {
    pub fn new(picker: Picker) -> Self {
        Self { picker, shown: None }
    }
}

const KEYS: &[(&str, &str)] = &[
    ("everywhere", ""),
    ("F1  ?", "this help"),
    ("Tab  Shift-Tab", "rooms → messages → writing"),
    ("F2  F3  F4  F5", "people near · search · my link and QR code · add by link"),
    ("Ctrl-N", "the next room with something new"),
    ("Ctrl-Q  Ctrl-C", "end"),
    ("Esc", "back, or close what is open"),
    (":", "a command (in the message field: /)"),
    ("", ""),
    ("rooms", ""),
    ("↑ ↓  k j  g G", "choose"),
    ("Enter  l", "open"),
    ("/", "filter"),
    ("n  c  a  p", "write to somebody · new group · add by link · people near"),
    ("d", "leave"),
    ("q", "end"),
    ("", ""),
    ("messages", ""),
    ("↑ ↓  k j  PgUp PgDn", "choose; at the top, earlier ones are loaded"),
    ("G  End", "the latest"),
    ("Enter  v", "show it whole, or its picture"),
    ("r  e  x", "reply · edit · delete"),
    ("a  +", "react"),
    ("s  y", "save its file · copy its text"),
    ("R", "try again to send it"),
    ("u  m  I", "send a file · members · invite somebody"),
    ("i", "write"),
    ("", ""),
    ("writing", ""),
    ("Enter", "send"),
    ("Alt-Enter  Ctrl-J", "a new line"),
    ("Ctrl-A E W U K", "begin, end; delete word, to the begin, to the end"),
    ("**bold** *it* `code`", "Markdown; //text begins with one slash"),
    ("", ""),
    ("commands", ""),
];

pub fn draw(frame: &mut Frame, area: Rect, app: &App, theme: &Theme, pictures: &mut Pictures) {
    if let Some(verification) = &app.verification {
        return verify(frame, area, verification, theme);
    }
    let Some(dialog) = &app.dialog else { return };
    match dialog {
        Dialog::Help { scroll } => lines(frame, area, "Keys and commands", &help(theme), *scroll, theme),
        Dialog::Text { title, lines: text, scroll } => {
            let shown: Vec<Line> = text.iter().map(|line| Line::raw(line.clone())).collect();
            lines(frame, area, title, &shown, *scroll, theme);
        }
        Dialog::Question { title, hint, answer, secret, .. } => {
            question(frame, area, title, hint, answer, *secret, theme)
        }
        Dialog::Confirm { title, text, .. } => {
            let columns = area.width.saturating_sub(4).min(64);
            let rows = text::wrap(&[(text.clone(), ())], usize::from(columns.saturating_sub(2))).len();
            let inner = open(frame, area, title, columns, u16::try_from(rows).unwrap_or(3), theme);
            frame.render_widget(Paragraph::new(text.as_str()).wrap(Wrap { trim: true }), inner);
        }
        Dialog::React { chosen, .. } => {
            let inner = open(frame, area, "React", 62, 2, theme);
            let spans = REACTIONS.iter().enumerate().map(|(at, reaction)| {
                let shown = format!(" {}{reaction} ", at + 1);
                if at == *chosen { Span::styled(shown, theme.chosen()) } else { Span::raw(shown) }
            });
            let hint = Line::styled("1-9 or ← → Enter · any letter: another", theme.faint());
            frame.render_widget(Paragraph::new(vec![Line::from(spans.collect::<Vec<_>>()), hint]), inner);
        }
        Dialog::People { people, chosen } => {
            let entries = people.as_ref().map(|people| people.iter().map(|one| person(one, theme)).collect::<Vec<_>>());
            let hint = "nobody near or known yet; /near on lets others find you";
            list(frame, area, "People", entries.as_deref(), *chosen, hint, "Enter write · r look again · Esc", theme);
        }
        Dialog::Contact { link } => contact(frame, area, link.as_deref(), theme),
        Dialog::Search { wanted, searched, found, chosen, busy } => {
            search(frame, area, wanted, searched, found, *chosen, *busy, theme);
        }
        Dialog::Members { members, total, scroll } => {
            let Some(members) = members else {
                return lines(frame, area, "Members", &[Line::raw("loading …")], 0, theme);
            };
            let mut shown: Vec<Line> = members
                .iter()
                .map(|member| {
                    let state = if member.invited { " invited" } else { "" };
                    Line::from(vec![
                        Span::styled(format!("{} ", member.name), theme.name(&member.user)),
                        Span::styled(format!("{} {}{state}", member.user, member.role), theme.faint()),
                    ])
                })
                .collect();
            let left = total.saturating_sub(members.len() as u64);
            if left > 0 {
                shown.push(Line::styled(format!("… and {left} more"), theme.faint()));
            }
            lines(frame, area, &format!("Members ({total})"), &shown, *scroll, theme);
        }
        Dialog::Picture { key, name, picture } => show_picture(frame, area, key, name, picture, theme, pictures),
        Dialog::RecoveryKey { key } => {
            let shown = match key {
                Some(key) => vec![
                    Line::raw("With this key you can read your messages again after losing all"),
                    Line::raw("your devices. Write it down and keep it away from this one:"),
                    Line::default(),
                    Line::styled(key.clone(), theme.strong()),
                    Line::default(),
                    Line::styled("w  it is written down: forget it here · Esc  later", theme.faint()),
                ],
                None => vec![
                    Line::raw("There is no recovery key on this device: it was written down,"),
                    Line::raw("or another device has made it. /recover uses it."),
                ],
            };
            lines(frame, area, "Recovery key", &shown, 0, theme);
        }
    }
}

/// Opens a framed box in the middle and gives its inside.
fn open(frame: &mut Frame, area: Rect, title: &str, columns: u16, rows: u16, theme: &Theme) -> Rect {
    let width = (columns + 2).min(area.width);
    let height = (rows + 2).min(area.height);
    let place = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    frame.render_widget(Clear, place);
    let title = text::fit(&text::line(title), usize::from(width.saturating_sub(4)));
    let block = Block::new().borders(Borders::ALL).border_style(theme.accent()).title(format!(" {title} "));
    let inner = block.inner(place);
    frame.render_widget(block, place);
    inner
}

fn lines(frame: &mut Frame, area: Rect, title: &str, shown: &[Line], scroll: usize, theme: &Theme) {
    let columns = area.width.saturating_sub(2).min(78);
    // Wrapped here, so that the last row is known.
    let wide = usize::from(columns).max(1);
    let mut rows: Vec<Line> = Vec::new();
    for line in shown {
        let pieces: Vec<_> =
            line.spans.iter().map(|span| (span.content.to_string(), span.style.patch(line.style))).collect();
        for row in text::wrap(&pieces, wide) {
            rows.push(Line::from(row.into_iter().map(|(text, style)| Span::styled(text, style)).collect::<Vec<_>>()));
        }
    }
    let inner = open(frame, area, title, columns, u16::try_from(rows.len()).unwrap_or(u16::MAX - 2), theme);
    let scroll = scroll.min(rows.len().saturating_sub(inner.height.into()));
    let more = rows.len() > scroll + usize::from(inner.height);
    let shown: Vec<Line> = rows.into_iter().skip(scroll).take(inner.height.into()).collect();
    frame.render_widget(Paragraph::new(shown), inner);
    if more && inner.height > 0 {
        let place = Rect { x: inner.x, y: inner.y + inner.height, width: inner.width, height: 1 };
        frame.render_widget(Line::styled(" ↓ more ", theme.faint()), place);
    }
}

fn help(theme: &Theme) -> Vec<Line<'static>> {
    let keys = KEYS.iter().map(|(keys, what)| {
        if what.is_empty() {
            Line::styled(*keys, theme.strong())
        } else {
            Line::from(vec![Span::styled(format!("{keys:<22}"), theme.accent()), Span::raw(*what)])
        }
    });
    let commands = COMMANDS.iter().map(|(name, argument, what)| {
        Line::from(vec![
            Span::styled(format!("{:<22}", format!("/{name} {argument}")), theme.accent()),
            Span::raw(*what),
        ])
    });
    keys.chain(commands).collect()
}

fn question(frame: &mut Frame, area: Rect, title: &str, hint: &str, answer: &Editor, secret: bool, theme: &Theme) {
    let columns = area.width.saturating_sub(4).min(64);
    let inner = open(frame, area, title, columns, 2, theme);
    let (text, cursor) = if secret {
        let stars = "*".repeat(answer.text().chars().count());
        let at = answer.text()[..answer.cursor()].chars().count();
        (stars, at)
    } else {
        (answer.text().to_owned(), answer.cursor())
    };
    let (shown, column) = field(&text, cursor, inner.width);
    frame.render_widget(Paragraph::new(vec![Line::raw(shown), Line::styled(hint.to_owned(), theme.faint())]), inner);
    frame.set_cursor_position((inner.x + column, inner.y));
}

fn person(person: &Person, theme: &Theme) -> Line<'static> {
    let state = match (person.near, person.connected) {
        (true, _) => "near",
        (_, true) => "connected",
        _ => "away",
    };
    let sign = if person.near || person.connected { "● " } else { "○ " };
    let style = if person.near || person.connected { theme.good() } else { theme.faint() };
    let name = if person.name.is_empty() { "somebody".to_owned() } else { person.name.clone() };
    let id = if person.user.is_empty() { &person.server } else { &person.user };
    Line::from(vec![
        Span::styled(sign, style),
        Span::raw(format!("{name}  ")),
        Span::styled(format!("{state}  {}", text::fit(id, 40)), theme.faint()),
    ])
}

#[allow(clippy::too_many_arguments)]
fn list(
    frame: &mut Frame,
    area: Rect,
    title: &str,
    entries: Option<&[Line]>,
    chosen: usize,
    none: &str,
    keys: &str,
    theme: &Theme,
) {
    let count = entries.map_or(1, <[Line]>::len).max(1);
    let columns = area.width.saturating_sub(2).min(76);
    let inner = open(frame, area, title, columns, u16::try_from(count + 1).unwrap_or(u16::MAX - 2), theme);
    let rows = usize::from(inner.height.saturating_sub(1));
    let mut shown: Vec<Line> = match entries {
        None => vec![Line::styled("looking …", theme.faint())],
        Some([]) => vec![Line::styled(none.to_owned(), theme.faint())],
        Some(entries) => {
            let first = first_row(chosen, entries.len(), rows);
            let marked = |(at, line): (usize, &Line<'_>)| {
                let line = Line::from(
                    line.spans
                        .iter()
                        .map(|span| Span::styled(span.content.to_string(), span.style))
                        .collect::<Vec<_>>(),
                );
                if at == chosen { line.style(theme.chosen()) } else { line }
            };
            entries.iter().enumerate().skip(first).take(rows).map(marked).collect()
        }
    };
    shown.push(Line::styled(keys.to_owned(), theme.faint()));
    frame.render_widget(Paragraph::new(shown), inner);
}

fn contact(frame: &mut Frame, area: Rect, link: Option<&str>, theme: &Theme) {
    let Some(link) = link else { return lines(frame, area, "My link", &[Line::raw("asking the node …")], 0, theme) };
    let mut shown: Vec<Line> = Vec::new();
    let rows = qr(link);
    let wide = rows.first().map_or(0, |row| text::width(row));
    let words = text::wrap(&[(link.to_owned(), ())], usize::from(area.width.saturating_sub(2).min(78)).max(1)).len();
    let fits = wide + 2 <= usize::from(area.width) && rows.len() + words.min(3) < usize::from(area.height);
    if fits {
        // Black on white whatever the terminal's colours are: scanners want it so.
        let paper = ratatui::style::Style::new().fg(ratatui::style::Color::Black).bg(ratatui::style::Color::White);
        shown.extend(rows.into_iter().map(|row| Line::from(Span::styled(row, paper)).alignment(Alignment::Center)));
    } else {
        shown.push(Line::styled("(the terminal is too small for the QR code)", theme.faint()));
    }
    let columns = if fits { area.width.saturating_sub(2).min(78) } else { area.width.saturating_sub(2) };
    for row in text::wrap(&[(link.to_owned(), ())], usize::from(columns).max(1)) {
        shown.push(Line::raw(row.into_iter().map(|(text, ())| text).collect::<String>()));
    }
    shown.push(Line::styled("y copy · Esc", theme.faint()));
    let inner = open(frame, area, "My link: scan or send it", columns, u16::try_from(shown.len()).unwrap_or(20), theme);
    frame.render_widget(Paragraph::new(shown), inner);
}

/// A QR code of half blocks, two modules a row, with a quiet margin.
pub fn qr(link: &str) -> Vec<String> {
    let Ok(code) = QrCode::with_error_correction_level(link, EcLevel::L) else { return Vec::new() };
    let side = code.width();
    let colours = code.into_colors();
    let dark = |x: usize, y: usize| {
        let (x, y) = (x.wrapping_sub(1), y.wrapping_sub(1));
        x < side && y < side && colours[y * side + x] == qrcode::Color::Dark
    };
    let row = |y: usize| {
        (0..side + 2)
            .map(|x| match (dark(x, y), dark(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            })
            .collect()
    };
    (0..side + 2).step_by(2).map(row).collect()
}

#[allow(clippy::too_many_arguments)]
fn search(
    frame: &mut Frame,
    area: Rect,
    wanted: &Editor,
    searched: &str,
    found: &[Found],
    chosen: usize,
    busy: bool,
    theme: &Theme,
) {
    let columns = area.width.saturating_sub(2).min(76);
    let inner = open(
        frame,
        area,
        "Search rooms, people, messages on this device",
        columns,
        area.height.saturating_sub(2),
        theme,
    );
    if inner.height < 2 {
        return;
    }
    let (shown, column) = field(wanted.text(), wanted.cursor(), inner.width.saturating_sub(2));
    frame.render_widget(
        Line::from(vec![Span::styled("/ ", theme.accent()), Span::raw(shown)]),
        Rect { height: 1, ..inner },
    );
    frame.set_cursor_position((inner.x + 2 + column, inner.y));
    let below = Rect { y: inner.y + 1, height: inner.height - 1, ..inner };
    let words = match found {
        _ if busy => "searching …",
        [] if searched.is_empty() => "Enter searches",
        [] => "nothing found",
        _ => "",
    };
    if !words.is_empty() {
        frame.render_widget(Line::styled(words, theme.faint()), Rect { height: 1, ..below });
        return;
    }
    let rows = usize::from(below.height);
    let first = first_row(chosen, found.len(), rows);
    let lines = found.iter().enumerate().skip(first).take(rows).map(|(at, one)| {
        let line = match one {
            Found::Room { name, .. } => {
                Line::from(vec![Span::styled("room    ", theme.faint()), Span::raw(name.clone())])
            }
            Found::Person { user, name } => Line::from(vec![
                Span::styled("person  ", theme.faint()),
                Span::raw(format!("{name} ")),
                Span::styled(user.clone(), theme.faint()),
            ]),
            Found::Message { room_name, name, at_ms, text, .. } => Line::from(vec![
                Span::styled(format!("{} {} ", when::full(*at_ms), text::fit(room_name, 14)), theme.faint()),
                Span::styled(format!("{} ", text::fit(name, 14)), theme.strong()),
                Span::raw(text.clone()),
            ]),
        };
        if at == chosen { line.style(theme.chosen()) } else { line }
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), below);
}

fn verify(frame: &mut Frame, area: Rect, verification: &Verification, theme: &Theme) {
    let who = if verification.own { "another device of yours".to_owned() } else { verification.who.clone() };
    let mut shown = vec![Line::styled(who, theme.strong()), Line::default()];
    match &verification.step {
        Step::Asked => {
            shown.push(Line::raw("wants to compare emoji with you."));
            shown.push(Line::styled("y begin · n or Esc not now", theme.faint()));
        }
        Step::Waiting(what) => {
            shown.push(Line::raw(format!("{what} …")));
            shown.push(Line::styled("Esc cancel", theme.faint()));
        }
        Step::Compare(signs) => {
            shown.push(Line::raw("Do both sides show these, in this order?"));
            shown.push(Line::default());
            for part in signs.chunks(4) {
                let words: Vec<String> = part.iter().map(|(sign, name)| format!("{sign} {name}")).collect();
                shown.push(Line::styled(words.join("   "), theme.strong()));
            }
            shown.push(Line::default());
            shown.push(Line::styled("y they match · n they do not · Esc cancel", theme.faint()));
        }
        Step::Done => {
            shown.push(Line::styled("Verified.", theme.good()));
            shown.push(Line::styled("Enter close", theme.faint()));
        }
        Step::Over(why) => {
            shown.push(Line::styled(format!("Not verified: {why}"), theme.bad()));
            shown.push(Line::styled("Enter close · /verify begins anew", theme.faint()));
        }
    }
    lines(frame, area, "Verification", &shown, 0, theme);
}

fn show_picture(
    frame: &mut Frame,
    area: Rect,
    key: &str,
    name: &str,
    picture: &Picture,
    theme: &Theme,
    pictures: &mut Pictures,
) {
    let title = format!("{name} · s save · Esc");
    match picture {
        Picture::Loading => lines(frame, area, &title, &[Line::raw("loading …")], 0, theme),
        Picture::Failed(why) => {
            let why = format!("It cannot be shown: {}. s saves it.", text::line(why));
            lines(frame, area, &title, &[Line::raw(why)], 0, theme);
        }
        Picture::Here(image) => {
            let inner = open(frame, area, &title, area.width, area.height, theme);
            if pictures.shown.as_ref().is_none_or(|(shown, _)| shown != key) {
                let protocol = pictures.picker.new_resize_protocol(image.as_ref().clone());
                pictures.shown = Some((key.to_owned(), protocol));
            }
            if let Some((_, protocol)) = &mut pictures.shown {
                frame.render_stateful_widget(StatefulImage::default(), inner, protocol);
            }
        }
    }
}
