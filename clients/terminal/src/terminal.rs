//! The terminal itself: reading keys, drawing, and the few signals beside the picture.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use crossterm::{
    event::{DisableBracketedPaste, DisableFocusChange, EnableBracketedPaste, EnableFocusChange, Event, EventStream},
    execute,
    terminal::{Clear, ClearType, SetTitle},
};
use futures_util::StreamExt as _;
use matrix_sdk::Client;
use ratatui::DefaultTerminal;
use tokio::sync::mpsc;

use crate::{
    app::{App, Signal},
    asking, bridge,
    folder::Folder,
    text,
    ui::{self, Pictures, Theme},
    worker::Worker,
};

/// How an evening with the client ended.
pub enum End {
    Quit,
    /// What is on this device is to be erased.
    SignedOut,
}

/// Shows the conversations until their owner has had enough.
pub async fn run(client: Client, folder: Folder) -> Result<End> {
    let (ask, asks) = mpsc::unbounded_channel();
    let (news_sender, mut news) = mpsc::unbounded_channel();
    let serving = tokio::spawn(bridge::serve(client.clone(), folder.clone()));
    let socket = folder.socket();
    let worker = Worker::start(client, folder, news_sender).await?;
    let working = tokio::spawn(worker.run(asks));

    let mut terminal = ratatui::try_init()?;
    let mut pictures = Pictures::new(asking::picker());
    // A terminal that does not understand a question may have written it.
    execute!(io::stdout(), Clear(ClearType::All), EnableBracketedPaste, EnableFocusChange, SetTitle("kith"))?;
    let result = watch(&mut terminal, &mut pictures, &ask, &mut news).await;
    execute!(io::stdout(), DisableFocusChange, DisableBracketedPaste).ok();
    ratatui::restore();

    serving.abort();
    std::fs::remove_file(socket).ok();
    // What was asked for last, such as keeping a draft, is still done.
    drop(ask);
    tokio::time::timeout(Duration::from_secs(3), working).await.ok();
    result
}

async fn watch(
    terminal: &mut DefaultTerminal,
    pictures: &mut Pictures,
    ask: &mpsc::UnboundedSender<crate::protocol::Ask>,
    news: &mut mpsc::UnboundedReceiver<crate::protocol::News>,
) -> Result<End> {
    let theme = Theme::from_environment();
    let mut app = App::new();
    let mut keys = EventStream::new();
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    let mut ended = std::pin::pin!(told_to_end());
    let mut dirty = true;
    loop {
        if std::mem::take(&mut dirty) {
            terminal.draw(|frame| ui::draw(frame, &mut app, &theme, pictures))?;
        }
        let mut asked = Vec::new();
        tokio::select! {
            event = keys.next() => {
                dirty = true;
                match event {
                    Some(Ok(Event::Key(key))) => asked = app.key(key),
                    Some(Ok(Event::Paste(text))) => asked = app.paste(&text),
                    Some(Ok(Event::FocusGained)) => asked = app.looked_at(true),
                    Some(Ok(Event::FocusLost)) => asked = app.looked_at(false),
                    Some(Ok(_)) => {}
                    // The terminal is gone.
                    Some(Err(_)) | None => return Ok(End::Quit),
                }
            }
            Some(first) = news.recv() => {
                dirty = true;
                asked = app.news(first);
                // What came together is drawn together.
                for _ in 0..500 {
                    let Ok(next) = news.try_recv() else { break };
                    asked.extend(app.news(next));
                }
            }
            _ = seconds.tick() => {
                dirty = app.tick();
            }
            () = &mut ended => {
                asked = app.quit();
            }
        }
        for one in asked {
            ask.send(one).ok();
        }
        for signal in app.signals.drain(..) {
            send_signal(&signal).ok();
        }
        if app.ended {
            return Ok(if app.gone { End::SignedOut } else { End::Quit });
        }
    }
}

/// Until the system, or a connection that breaks, asks the program to end.
#[cfg(unix)]
async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut hup)) = (signal(SignalKind::terminate()), signal(SignalKind::hangup())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = hup.recv() => {}
    }
}

#[cfg(not(unix))]
async fn told_to_end() {
    std::future::pending().await
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default().to_lowercase()
}

/// Tells the terminal something beside the picture. Every text in it is safe, and cut.
fn send_signal(signal: &Signal) -> io::Result<()> {
    let mut out = io::stdout();
    match signal {
        Signal::Notify { title, text } => out.write_all(notification(title, text).as_bytes())?,
        Signal::Copy(text) => write!(out, "\x1b]52;c;{}\x07", STANDARD.encode(text))?,
    }
    out.flush()
}

/// The bell, and the notification that this terminal understands.
fn notification(title: &str, body: &str) -> String {
    let (term, program) = (variable("TERM"), variable("TERM_PROGRAM"));
    let clean = |text: &str, most| text::fit(&text::line(text).replace(';', ","), most);
    let (title, body) = (clean(title, 60), clean(body, 120));
    let nine = format!("\x1b]9;{title}: {body}\x07");
    let triple = format!("\x1b]777;notify;{title};{body}\x07");
    match variable("KITHCHAT_NOTIFY").as_str() {
        "off" => String::new(),
        "bell" => "\x07".to_owned(),
        "osc9" => nine,
        "osc777" => triple,
        _ if term.starts_with("tmux") || term.starts_with("screen") => "\x07".to_owned(),
        _ if term.starts_with("foot") || term.starts_with("rxvt") || term.contains("ghostty") => triple + "\x07",
        _ if program == "iterm.app" || program == "wezterm" || term.contains("kitty") => nine + "\x07",
        _ => "\x07".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_holds_nothing_but_its_own_escape_sequences() {
        let told = notification("Mallory\x1b]52;c;AAAA\x07", "a\x1b\\;b\x07");
        let inside = told.trim_end_matches('\x07').trim_start_matches("\x1b]9;").trim_start_matches("\x1b]777;");
        assert!(!inside.contains('\x1b') && told.matches('\x1b').count() <= 1, "{told:?}");
    }
}
