//! Asks the terminal how it shows pictures. Asking works where names in the environment do not, such as over SSH.

use std::env;

use ratatui_image::{
    FontSize,
    picker::{Picker, ProtocolType},
};

/// How to show pictures here: as KITHCHAT_PICTURES says, else by what the terminal answers, else in half blocks. To be called in
/// raw mode, before keys are read.
pub fn picker() -> Picker {
    let wanted = env::var("KITHCHAT_PICTURES").unwrap_or_default().to_lowercase();
    // tmux and screen answer for themselves, and do not hand pictures on.
    let term = env::var("TERM").unwrap_or_default();
    let inside = env::var_os("TMUX").is_some_and(|tmux| !tmux.is_empty())
        || term.starts_with("tmux")
        || term.starts_with("screen");
    let answer = if wanted == "blocks" || (inside && wanted.is_empty()) { Answer::default() } else { ask() };
    let kind = match wanted.as_str() {
        "kitty" => ProtocolType::Kitty,
        "iterm" => ProtocolType::Iterm2,
        "sixel" => ProtocolType::Sixel,
        "blocks" => ProtocolType::Halfblocks,
        _ => answer.best(),
    };
    let cell = answer.cell.or_else(cell_by_size);
    match cell {
        Some((width, height)) if kind != ProtocolType::Halfblocks => {
            #[allow(deprecated, reason = "there is no other way to give it what was asked already")]
            let mut picker = Picker::from_fontsize(FontSize::new(width, height));
            picker.set_protocol_type(kind);
            picker
        }
        _ => Picker::halfblocks(),
    }
}

/// Pixels of a cell, by the size of the window.
fn cell_by_size() -> Option<(u16, u16)> {
    let size = crossterm::terminal::window_size().ok()?;
    let cell = (size.width.checked_div(size.columns)?, size.height.checked_div(size.rows)?);
    (cell.0 > 0 && cell.1 > 0).then_some(cell)
}

/// What a terminal answered.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    kitty: bool,
    sixel: bool,
    /// Its name, in lower case.
    name: String,
    /// Pixels of a cell.
    cell: Option<(u16, u16)>,
}

impl Answer {
    fn best(&self) -> ProtocolType {
        match self.name.as_str() {
            // These two take pictures by kitty's protocol too, but not between characters.
            name if name.starts_with("iterm2") || name.starts_with("wezterm") => ProtocolType::Iterm2,
            // Nor does this one, and its sixels stay when the text is gone.
            name if name.starts_with("konsole") => ProtocolType::Halfblocks,
            _ if self.kitty => ProtocolType::Kitty,
            _ if self.sixel => ProtocolType::Sixel,
            _ => ProtocolType::Halfblocks,
        }
    }
}

/// Its name (XTVERSION); whether it takes a picture of one pixel by kitty's protocol; its attributes, among which is sixel; the
/// size of a cell; and what every terminal answers, so that the end is known.
#[cfg(unix)]
const QUESTIONS: &str = "\x1b[>0q\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\\x1b[c\x1b[16t\x1b[5n";
#[cfg(unix)]
const END: &str = "\x1b[0n";

/// Asks, and waits for two seconds at most: over slow lines an answer takes its time, and some terminals give none.
#[cfg(unix)]
fn ask() -> Answer {
    use std::{
        io::{self, Write as _},
        time::{Duration, Instant},
    };

    use rustix::termios::{OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};

    const PATIENCE: Duration = Duration::from_secs(2);
    /// Bytes of an answer.
    const LONGEST: usize = 4096;

    let (mut out, input) = (io::stdout(), io::stdin());
    let Ok(before) = tcgetattr(&input) else { return Answer::default() };
    // A read gives up after a tenth of a second.
    let mut patient = before.clone();
    patient.special_codes[SpecialCodeIndex::VMIN] = 0;
    patient.special_codes[SpecialCodeIndex::VTIME] = 1;
    if tcsetattr(&input, OptionalActions::Now, &patient).is_err() {
        return Answer::default();
    }
    let mut told = Vec::new();
    let asked = out.write_all(QUESTIONS.as_bytes()).and_then(|()| out.flush());
    let end = Instant::now() + PATIENCE;
    while asked.is_ok() && told.len() < LONGEST && !told.ends_with(END.as_bytes()) && Instant::now() < end {
        // One byte at a time: what comes after the answer are keys.
        let mut byte = [0];
        match rustix::io::read(&input, &mut byte) {
            Ok(count) => told.extend(&byte[..count]),
            Err(_) => break,
        }
    }
    tcsetattr(&input, OptionalActions::Now, &before).ok();
    read_answer(&String::from_utf8_lossy(&told))
}

#[cfg(not(unix))]
fn ask() -> Answer {
    Answer::default()
}

#[cfg_attr(not(unix), allow(dead_code, reason = "nobody is asked"))]
fn read_answer(told: &str) -> Answer {
    let between = |begin: &str, end: &str| Some(told.split_once(begin)?.1.split_once(end)?.0);
    let cell = between("\x1b[6;", "t").and_then(|cell| {
        let (height, width) = cell.split_once(';')?;
        let (width, height) = (width.parse().ok()?, height.parse().ok()?);
        // A cell of nothing would be divided by, and one of thousands is none.
        (1..=500).contains(&width).then_some(())?;
        (1..=500).contains(&height).then_some((width, height))
    });
    Answer {
        kitty: told.contains("\x1b_Gi=31;OK"),
        sixel: between("\x1b[?", "c").is_some_and(|attributes| attributes.split(';').skip(1).any(|one| one == "4")),
        name: between("\x1bP>|", "\x1b\\").unwrap_or_default().to_lowercase(),
        cell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_protocol_is_taken_of_what_a_terminal_answers() {
        let cell = "\x1b[6;20;10t\x1b[0n";
        for (told, best) in [
            ("\x1bP>|kitty(0.35.2)\x1b\\\x1b_Gi=31;OK\x1b\\\x1b[?62;c", ProtocolType::Kitty),
            ("\x1bP>|ghostty 1.0.0\x1b\\\x1b_Gi=31;OK\x1b\\\x1b[?62;22c", ProtocolType::Kitty),
            ("\x1bP>|iTerm2 3.5.4\x1b\\\x1b_Gi=31;OK\x1b\\\x1b[?64;1;2;4c", ProtocolType::Iterm2),
            ("\x1bP>|WezTerm 20240203\x1b\\\x1b_Gi=31;OK\x1b\\\x1b[?65;4;6c", ProtocolType::Iterm2),
            ("\x1bP>|foot(1.16.2)\x1b\\\x1b[?62;4;22c", ProtocolType::Sixel),
            ("\x1bP>|Konsole 23.08.1\x1b\\\x1b_Gi=31;OK\x1b\\\x1b[?62;1;4c", ProtocolType::Halfblocks),
            ("\x1b_Gi=31;ENOTSUPPORTED\x1b\\\x1b[?4;22c", ProtocolType::Halfblocks),
            ("\x1b[?1;2c", ProtocolType::Halfblocks),
        ] {
            let answer = read_answer(&format!("{told}{cell}"));
            assert_eq!((answer.best(), answer.cell), (best, Some((10, 20))), "{told:?}");
        }
    }

    #[test]
    fn answers_of_another_kind_say_nothing() {
        for told in ["", "\x1b[6;0;0t", "\x1b[6;99999;3t", "\x1b[6;;t\x1b[?c", "\x1b[6;20", "jjj\x1bP>|"] {
            assert_eq!(read_answer(told), Answer::default(), "{told:?}");
        }
    }
}
