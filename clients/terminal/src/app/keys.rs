//! What keys do. Plain keys (arrows, Enter, Escape, F1 to F5) and vi's (j k g G i / : q) mean the same outside of text fields.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{
    App, Focus, Signal, Writing,
    commands::{self, Command},
    dialogs::{Deed, Dialog, Purpose, REACTIONS},
    editor::Editor,
};
use crate::{
    model::{Body, Found, Step},
    protocol::Ask,
};

impl App {
    /// A key was pressed.
    pub fn key(&mut self, key: KeyEvent) -> Vec<Ask> {
        if key.kind == KeyEventKind::Release {
            return Vec::new();
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'q')) {
            return self.quit();
        }
        if self.verification.is_some() {
            return self.verification_key(key);
        }
        if let Some(dialog) = self.dialog.take() {
            return self.dialog_key(dialog, key);
        }
        if let Some(line) = self.command.take() {
            return self.command_key(line, key);
        }
        if let Some(asks) = self.everywhere(key) {
            return asks;
        }
        match self.focus {
            Focus::Rooms => self.rooms_key(key),
            Focus::Timeline => self.timeline_key(key),
            Focus::Compose => self.compose_key(key),
        }
    }

    /// Text was pasted.
    pub fn paste(&mut self, text: &str) -> Vec<Ask> {
        if self.verification.is_some() {
            return Vec::new();
        }
        let one_line = text.replace(['\r', '\n'], " ");
        match (&mut self.dialog, &mut self.command, &mut self.open) {
            (Some(Dialog::Question { answer, .. } | Dialog::Search { wanted: answer, .. }), _, _) => {
                answer.insert(one_line.trim())
            }
            (Some(_), _, _) => {}
            (None, Some(line), _) => line.insert(&one_line),
            (None, None, Some(open)) if self.focus != Focus::Rooms => {
                self.focus = Focus::Compose;
                open.compose.insert(text);
            }
            _ => {
                if let Some(filter) = &mut self.filter {
                    filter.insert(&one_line);
                }
            }
        }
        Vec::new()
    }

    fn everywhere(&mut self, key: KeyEvent) -> Option<Vec<Ask>> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::F(1) => self.dialog = Some(Dialog::Help { scroll: 0 }),
            KeyCode::F(2) => return Some(self.run(Command::People)),
            KeyCode::F(3) => return Some(self.run(Command::Search { text: String::new() })),
            KeyCode::F(4) => return Some(self.run(Command::Contact)),
            KeyCode::F(5) => self.dialog = Some(Dialog::question(Purpose::Add)),
            KeyCode::Char('f') if control => return Some(self.run(Command::Search { text: String::new() })),
            KeyCode::Char('n') if control => self.next_unread(),
            KeyCode::Tab => self.next_focus(true),
            KeyCode::BackTab => self.next_focus(false),
            _ => return None,
        }
        Some(Vec::new())
    }

    fn next_focus(&mut self, forward: bool) {
        let all = [Focus::Rooms, Focus::Timeline, Focus::Compose];
        let at = all.iter().position(|focus| *focus == self.focus).unwrap_or(0);
        self.focus = if self.open.is_none() { Focus::Rooms } else { all[(at + if forward { 1 } else { 2 }) % 3] };
    }

    /// Chooses the next room with something unread.
    fn next_unread(&mut self) {
        let at = self
            .chosen
            .as_ref()
            .and_then(|id| self.rooms.iter().position(|room| room.id == *id))
            .map_or(0, |at| at + 1);
        let (before, after) = self.rooms.split_at(at.min(self.rooms.len()));
        if let Some(room) = after.iter().chain(before).find(|room| room.unread > 0) {
            self.chosen = Some(room.id.clone());
            self.focus = Focus::Rooms;
        }
    }

    fn rooms_key(&mut self, key: KeyEvent) -> Vec<Ask> {
        if let Some(mut filter) = self.filter.take() {
            match key.code {
                KeyCode::Esc => return Vec::new(),
                KeyCode::Enter => {
                    self.filter = Some(filter);
                    let asks = self.open_chosen();
                    self.filter = None;
                    return asks;
                }
                KeyCode::Up | KeyCode::Down => {
                    self.filter = Some(filter);
                    self.move_room(if key.code == KeyCode::Up { -1 } else { 1 });
                }
                _ => {
                    filter.key(key);
                    self.filter = Some(filter);
                    if !self.visible_rooms().iter().any(|room| Some(&room.id) == self.chosen.as_ref()) {
                        self.chosen = self.visible_rooms().first().map(|room| room.id.clone());
                    }
                }
            }
            return Vec::new();
        }
        match key.code {
            KeyCode::Down | KeyCode::Char('j') => self.move_room(1),
            KeyCode::Up | KeyCode::Char('k') => self.move_room(-1),
            KeyCode::PageDown => self.move_room(10),
            KeyCode::PageUp => self.move_room(-10),
            KeyCode::Home | KeyCode::Char('g') => self.move_room(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.move_room(isize::MAX),
            KeyCode::Enter | KeyCode::Right | KeyCode::Char('l') => return self.open_chosen(),
            KeyCode::Esc if self.open.is_some() => self.focus = Focus::Timeline,
            KeyCode::Char('/') => self.filter = Some(Editor::default()),
            KeyCode::Char('n') => self.dialog = Some(Dialog::question(Purpose::Chat)),
            KeyCode::Char('c') => self.dialog = Some(Dialog::question(Purpose::Create)),
            KeyCode::Char('a') => self.dialog = Some(Dialog::question(Purpose::Add)),
            KeyCode::Char('p') => return self.run(Command::People),
            KeyCode::Char('d') | KeyCode::Delete => {
                if let Some(id) = self.chosen.clone() {
                    self.ask_leave(&id);
                }
            }
            KeyCode::Char('?') => self.dialog = Some(Dialog::Help { scroll: 0 }),
            KeyCode::Char(':') => self.command = Some(Editor::default()),
            KeyCode::Char('q') => return self.quit(),
            _ => {}
        }
        Vec::new()
    }

    fn timeline_key(&mut self, key: KeyEvent) -> Vec<Ask> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let page = isize::try_from(self.page / 2).unwrap_or(5).max(1);
        match key.code {
            KeyCode::Char('d') if control => return self.move_message(page),
            KeyCode::Char('u') if control => return self.move_message(-page),
            _ if control => {}
            KeyCode::Down | KeyCode::Char('j') => return self.move_message(1),
            KeyCode::Up | KeyCode::Char('k') => return self.move_message(-1),
            KeyCode::PageDown => return self.move_message(page),
            KeyCode::PageUp => return self.move_message(-page),
            KeyCode::Home | KeyCode::Char('g') => return self.move_message(isize::MIN / 2),
            KeyCode::End | KeyCode::Char('G') => return self.move_message(isize::MAX / 2),
            KeyCode::Char('i') => self.focus = Focus::Compose,
            KeyCode::Esc | KeyCode::Left | KeyCode::Char('h' | 'q') => self.focus = Focus::Rooms,
            KeyCode::Char('/') => return self.run(Command::Search { text: String::new() }),
            KeyCode::Char(':') => self.command = Some(Editor::default()),
            KeyCode::Char('?') => self.dialog = Some(Dialog::Help { scroll: 0 }),
            KeyCode::Char('m') => return self.run(Command::Members),
            KeyCode::Char('u') => self.dialog = Some(Dialog::question(Purpose::SendFile)),
            KeyCode::Char('I') => self.dialog = Some(Dialog::question(Purpose::Invite)),
            _ => return self.message_key(key),
        }
        Vec::new()
    }

    /// Keys that act on the chosen message.
    fn message_key(&mut self, key: KeyEvent) -> Vec<Ask> {
        let Some(message) = self.message().cloned() else { return Vec::new() };
        match key.code {
            KeyCode::Char('r') => match message.event.clone() {
                Some(event) => self.write(Writing::Reply { event, words: message.summary(), name: message.name }, None),
                None => self.complain("it is not sent yet"),
            },
            KeyCode::Char('e') if message.editable => {
                self.write(Writing::Edit { key: message.key }, Some(&message.source))
            }
            KeyCode::Char('e') => self.complain("only own messages can be edited"),
            KeyCode::Char('+' | 'a') => self.dialog = Some(Dialog::React { key: message.key, chosen: 0 }),
            KeyCode::Char('x') | KeyCode::Delete => {
                self.dialog = Some(Dialog::Confirm {
                    title: "Delete".to_owned(),
                    text: format!(
                        "Delete “{}” for everybody?  y yes · Esc no",
                        crate::text::fit(&message.summary(), 40)
                    ),
                    yes: Deed::Delete { key: message.key },
                    no: None,
                });
            }
            KeyCode::Char('R') => return vec![Ask::Retry { key: message.key }],
            KeyCode::Char('s') if matches!(message.body, Body::File(_)) => return vec![Ask::Save { key: message.key }],
            KeyCode::Char('y') => {
                self.signals.push(Signal::Copy(message.source));
                self.say("copied");
            }
            KeyCode::Enter | KeyCode::Char('v') => return self.view(message),
            _ => {}
        }
        Vec::new()
    }

    fn write(&mut self, writing: Writing, text: Option<&str>) {
        if let Some(open) = &mut self.open {
            if let Some(text) = text {
                open.compose = Editor::with(text);
            }
            open.writing = writing;
            self.focus = Focus::Compose;
        }
    }

    fn compose_key(&mut self, key: KeyEvent) -> Vec<Ask> {
        let Some(open) = &mut self.open else {
            self.focus = Focus::Rooms;
            return Vec::new();
        };
        let breaks = key.modifiers.intersects(KeyModifiers::ALT | KeyModifiers::SHIFT);
        match key.code {
            KeyCode::Char('j') if key.modifiers.contains(KeyModifiers::CONTROL) => open.compose.insert("\n"),
            KeyCode::Enter if breaks => open.compose.insert("\n"),
            KeyCode::Enter => return self.send(),
            KeyCode::Esc if open.writing != Writing::New => {
                if matches!(open.writing, Writing::Edit { .. }) {
                    open.compose = Editor::default();
                }
                open.writing = Writing::New;
            }
            KeyCode::Esc => self.focus = Focus::Timeline,
            KeyCode::PageUp | KeyCode::PageDown => {
                self.focus = Focus::Timeline;
                return self.timeline_key(key);
            }
            _ => {
                if !open.compose.key(key) && key.code == KeyCode::Up {
                    self.focus = Focus::Timeline;
                    return self.move_message(-1);
                }
            }
        }
        self.typing()
    }

    /// Tells others that somebody writes, once when it begins and once when it ends.
    fn typing(&mut self) -> Vec<Ask> {
        let Some(open) = &mut self.open else { return Vec::new() };
        let now = !open.compose.is_empty() && !open.compose.text().starts_with('/');
        if now == open.said_typing {
            return Vec::new();
        }
        open.said_typing = now;
        vec![Ask::Typing(now)]
    }

    fn send(&mut self) -> Vec<Ask> {
        let Some(open) = &mut self.open else { return Vec::new() };
        let text = open.compose.text().trim_end().to_owned();
        if text.trim().is_empty() {
            open.compose.take();
            return self.typing();
        }
        if let Some(line) = text.strip_prefix('/').filter(|line| !line.starts_with('/')) {
            return match commands::parse(line) {
                Ok(command) => {
                    open.compose.take();
                    self.run(command)
                }
                Err(error) => {
                    self.complain(error);
                    Vec::new()
                }
            };
        }
        open.compose.take();
        open.chosen = None;
        // A doubled slash begins a message that begins with one.
        let text = text.strip_prefix('/').map(str::to_owned).unwrap_or(text);
        let mut asks = vec![match std::mem::replace(&mut open.writing, Writing::New) {
            Writing::New => Ask::Send { text, reply: None, emote: false },
            Writing::Reply { event, .. } => Ask::Send { text, reply: Some(event), emote: false },
            Writing::Edit { key } => Ask::Edit { key, text },
        }];
        asks.extend(self.typing());
        asks
    }

    fn command_key(&mut self, mut line: Editor, key: KeyEvent) -> Vec<Ask> {
        match key.code {
            KeyCode::Esc => return Vec::new(),
            KeyCode::Backspace if line.is_empty() => return Vec::new(),
            KeyCode::Enter => match commands::parse(line.text()) {
                Ok(command) => return self.run(command),
                Err(error) => self.complain(error),
            },
            _ => {
                line.key(key);
                self.command = Some(line);
            }
        }
        Vec::new()
    }

    fn verification_key(&mut self, key: KeyEvent) -> Vec<Ask> {
        let Some(verification) = &mut self.verification else { return Vec::new() };
        match (&verification.step, key.code) {
            (Step::Done | Step::Over(_), KeyCode::Enter | KeyCode::Esc | KeyCode::Char('q')) => {
                self.verification = None;
                Vec::new()
            }
            (_, KeyCode::Esc | KeyCode::Char('q')) => vec![Ask::CancelVerification],
            (Step::Asked, KeyCode::Enter | KeyCode::Char('y')) => {
                verification.step = Step::Waiting("accepting");
                vec![Ask::AcceptVerification]
            }
            (Step::Asked, KeyCode::Char('n')) => vec![Ask::CancelVerification],
            (Step::Compare(_), KeyCode::Char('y')) => {
                verification.step = Step::Waiting("waiting until the other side confirms");
                vec![Ask::ConfirmVerification]
            }
            (Step::Compare(_), KeyCode::Char('n')) => vec![Ask::DenyVerification],
            _ => Vec::new(),
        }
    }

    fn dialog_key(&mut self, mut dialog: Dialog, key: KeyEvent) -> Vec<Ask> {
        let down = matches!(key.code, KeyCode::Down | KeyCode::Char('j'));
        let up = matches!(key.code, KeyCode::Up | KeyCode::Char('k'));
        let step = |at: usize, most: usize| {
            if down {
                (at + 1).min(most)
            } else if up {
                at.saturating_sub(1)
            } else {
                at
            }
        };
        match &mut dialog {
            _ if key.code == KeyCode::Esc => return Vec::new(),
            Dialog::Question { answer, purpose, .. } => {
                if key.code == KeyCode::Enter {
                    return self.answered(*purpose, answer.take());
                }
                answer.key(key);
            }
            Dialog::Search { wanted, searched, found, chosen, busy } => match key.code {
                KeyCode::Enter if wanted.text() == searched && !found.is_empty() => {
                    let found = found.swap_remove((*chosen).min(found.len() - 1));
                    return self.go_to(found);
                }
                KeyCode::Enter if !wanted.is_empty() => {
                    *searched = wanted.text().to_owned();
                    *busy = true;
                    let ask = Ask::Search { text: searched.clone() };
                    self.dialog = Some(dialog);
                    return vec![ask];
                }
                KeyCode::Down => *chosen = (*chosen + 1).min(found.len().saturating_sub(1)),
                KeyCode::Up => *chosen = chosen.saturating_sub(1),
                _ => {
                    wanted.key(key);
                }
            },
            _ if key.code == KeyCode::Char('q') => return Vec::new(),
            Dialog::Confirm { yes, no, .. } => match (key.code, no) {
                (KeyCode::Char('y') | KeyCode::Enter, _) => return self.do_it(yes.clone()),
                (KeyCode::Char('n'), Some(no)) => return self.do_it(no.clone()),
                (KeyCode::Char('n'), None) => return Vec::new(),
                _ => {}
            },
            Dialog::React { key: message, chosen } => match key.code {
                KeyCode::Right | KeyCode::Char('l') => *chosen = (*chosen + 1).min(REACTIONS.len() - 1),
                KeyCode::Left | KeyCode::Char('h') => *chosen = chosen.saturating_sub(1),
                KeyCode::Enter => return react(message, REACTIONS[*chosen]),
                KeyCode::Char(digit @ '1'..='9') => return react(message, REACTIONS[digit as usize - '1' as usize]),
                KeyCode::Char(_) => dialog = Dialog::question(Purpose::Reaction),
                _ => {}
            },
            Dialog::People { people: Some(people), chosen } => match key.code {
                KeyCode::Enter => match people.get(*chosen) {
                    Some(person) if !person.user.is_empty() => return vec![Ask::Chat { user: person.user.clone() }],
                    Some(_) => self.complain("its owner does not introduce themselves: ask for their link"),
                    None => {}
                },
                KeyCode::Char('r') => {
                    self.dialog = Some(dialog);
                    return vec![Ask::People];
                }
                _ => *chosen = step(*chosen, people.len().saturating_sub(1)),
            },
            Dialog::Contact { link: Some(link) } if key.code == KeyCode::Char('y') => {
                self.signals.push(Signal::Copy(link.clone()));
                self.say("copied");
            }
            Dialog::RecoveryKey { key: Some(_) } if key.code == KeyCode::Char('w') => return vec![Ask::KeySaved],
            Dialog::Help { scroll } | Dialog::Text { scroll, .. } | Dialog::Members { scroll, .. } => match key.code {
                KeyCode::PageDown | KeyCode::Char(' ') => *scroll += self.page,
                KeyCode::PageUp => *scroll = scroll.saturating_sub(self.page),
                KeyCode::Enter => return Vec::new(),
                _ => *scroll = step(*scroll, usize::MAX - 1),
            },
            Dialog::Picture { key: message, .. } if key.code == KeyCode::Char('s') => {
                let ask = Ask::Save { key: message.clone() };
                self.dialog = Some(dialog);
                return vec![ask];
            }
            _ if key.code == KeyCode::Enter => return Vec::new(),
            _ => {}
        }
        self.dialog = Some(dialog);
        Vec::new()
    }
}

fn react(key: &str, reaction: &str) -> Vec<Ask> {
    vec![Ask::React { key: key.to_owned(), reaction: reaction.to_owned() }]
}

/// What is found and where it leads.
impl App {
    fn go_to(&mut self, found: Found) -> Vec<Ask> {
        match found {
            Found::Room { id, .. } => self.show(&id),
            Found::Person { user, .. } => vec![Ask::Chat { user }],
            Found::Message { room, event, .. } => {
                let asks = self.show(&room);
                self.focus = Focus::Timeline;
                asks.into_iter().chain(self.want(&event)).collect()
            }
        }
    }
}
