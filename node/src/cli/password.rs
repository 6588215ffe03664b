//! Passwords come from the terminal without echo, or from standard input; never from arguments, which other users of
//! the device can see.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::args::PasswordSource;
use super::exit::Failure;

/// The longest password in bytes.
const MAX: usize = 512;

/// Reads a new password: from standard input's first line, or twice from the terminal.
pub(super) fn read_new(source: PasswordSource, name: &str) -> Result<Zeroizing<String>, Failure> {
    let password = if source.password_stdin {
        first_line(&mut io::stdin().lock())?
    } else {
        if !io::stdin().is_terminal() {
            return Err(Failure::general("no terminal to ask for the password: use --password-stdin"));
        }
        let mut terminal = Terminal::open().map_err(|error| unreadable(&error))?;
        let password = terminal.ask(&format!("New password for {name}: "))?;
        if *terminal.ask("Once more: ")? != *password {
            return Err(Failure::general("the two passwords differ; nothing was changed"));
        }
        password
    };
    if password.is_empty() {
        return Err(Failure::general("the password is empty; nothing was changed"));
    }
    Ok(password)
}

/// Asks a yes-or-no question; anything but "y" or "yes" is no.
pub(super) fn confirm(question: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::general("no terminal to ask for confirmation: use --yes"));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().take(64).read_line(&mut answer).map_err(|error| unreadable(&error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::general(format!("cannot read the password: {error}"))
}

fn first_line(input: &mut impl io::BufRead) -> Result<Zeroizing<String>, Failure> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX + 2));
    input.take(MAX as u64 + 2).read_until(b'\n', &mut bytes).map_err(|error| unreadable(&error))?;
    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    text(line)
}

fn text(bytes: &[u8]) -> Result<Zeroizing<String>, Failure> {
    if bytes.len() > MAX {
        return Err(Failure::general(format!("the password is longer than {MAX} bytes")));
    }
    std::str::from_utf8(bytes)
        .map(|text| Zeroizing::new(text.to_owned()))
        .map_err(|_| Failure::general("the password is not UTF-8 text"))
}

/// The controlling terminal, silent while this is held.
struct Terminal {
    device: File,
    before: Termios,
}

impl Terminal {
    fn open() -> io::Result<Self> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&device)?;
        let mut silent = before.clone();
        // Keys come one by one, and Ctrl-C as a key: so that the echo is always switched on again.
        silent.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        silent.special_codes[SpecialCodeIndex::VMIN] = 1;
        silent.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&device, OptionalActions::Flush, &silent)?;
        Ok(Self { device, before })
    }

    fn ask(&mut self, prompt: &str) -> Result<Zeroizing<String>, Failure> {
        self.device.write_all(prompt.as_bytes()).map_err(|error| unreadable(&error))?;
        let line = line_of_keys(&mut self.device);
        self.device.write_all(b"\n").map_err(|error| unreadable(&error))?;
        line
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.device, OptionalActions::Now, &self.before);
    }
}

/// What is typed up to Enter, with the usual keys for mending it.
fn line_of_keys(keys: &mut impl io::Read) -> Result<Zeroizing<String>, Failure> {
    let mut line = Zeroizing::new(Vec::with_capacity(MAX + 4));
    let mut key = [0];
    loop {
        if keys.read(&mut key).map_err(|error| unreadable(&error))? == 0 {
            return Err(Failure::general("the terminal was closed; nothing was changed"));
        }
        match key {
            [b'\r' | b'\n'] => return text(&line),
            // Ctrl-C, Ctrl-D, Ctrl-\
            [0x03 | 0x04 | 0x1c] => return Err(Failure::general("cancelled; nothing was changed")),
            // Ctrl-U
            [0x15] => line.clear(),
            [0x08 | 0x7f] => {
                // The last character, which may have several bytes.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            [byte] if line.len() <= MAX => line.push(byte),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(typed: &str) -> Result<String, Failure> {
        line_of_keys(&mut typed.as_bytes()).map(|line| line.to_string())
    }

    #[test]
    fn the_first_line_of_standard_input_is_the_password() {
        let read = |input: &str| first_line(&mut input.as_bytes()).map(|line| line.to_string());
        assert_eq!(read("hunter2\nmore\n").unwrap(), "hunter2");
        assert_eq!(read("hunter2\r\n").unwrap(), "hunter2");
        assert_eq!(read(" ü with blanks ").unwrap(), " ü with blanks ");
        assert_eq!(read("").unwrap(), "");
        assert!(read(&"x".repeat(MAX + 1)).is_err());
        assert!(read(&"x".repeat(MAX)).is_ok());
    }

    #[test]
    fn typed_characters_can_be_taken_back_and_the_input_cancelled() {
        assert_eq!(keys("abc\n").unwrap(), "abc");
        assert_eq!(keys("abü\x7f\x7fc\r").unwrap(), "ac");
        assert_eq!(keys("wrong\x15right\n").unwrap(), "right");
        assert_eq!(keys("\x7f\x7fa\n").unwrap(), "a");
        assert!(keys("abc\x03").is_err());
        assert!(keys("abc").is_err());
        assert!(keys(&format!("{}\n", "x".repeat(5_000))).is_err());
    }
}
