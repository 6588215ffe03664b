//! Contact traces in the format of The ONE.

use crate::engine::{Nanos, seconds};

/// A link that comes or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// When.
    pub at: Nanos,
    /// Between whom.
    pub pair: (u32, u32),
    /// Whether it comes.
    pub up: bool,
}

/// Reads lines of `<seconds> CONN <node> <node> up|down`. Other lines, of other events, and those that begin with `#` are left
/// out. Hosts are numbers below `count`; letters before them, as The ONE's reports have, do not matter.
///
/// # Errors
/// The line and what is wrong with it.
pub fn read(text: &str, count: u32) -> Result<Vec<Contact>, String> {
    let mut contacts: Vec<Contact> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [at, "CONN", a, b, state] = words[..] else { continue };
        if at.starts_with('#') {
            continue;
        }
        let wrong = |what: &str| format!("network.contacts, line {}: {what}", number + 1);
        let at: f64 = at.parse().map_err(|_| wrong("the time is no number"))?;
        if !(0.0..=1e9).contains(&at) {
            return Err(wrong("the time is not within 0 to 10^9 seconds"));
        }
        let host = |word: &str| -> Result<u32, String> {
            let digits = word.trim_start_matches(|c: char| !c.is_ascii_digit());
            let host = digits.parse().map_err(|_| wrong("a host has no number"))?;
            if host < count { Ok(host) } else { Err(wrong("a host's number is not below nodes.count")) }
        };
        let (a, b) = (host(a)?, host(b)?);
        let up = match state {
            "up" => true,
            "down" => false,
            _ => return Err(wrong("a connection goes \"up\" or \"down\"")),
        };
        let at = seconds(at);
        if contacts.last().is_some_and(|last| last.at > at) {
            return Err(wrong("the lines are not in order of time"));
        }
        if a != b {
            contacts.push(Contact { at, pair: (a.min(b), a.max(b)), up });
        }
    }
    Ok(contacts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_read_and_other_lines_left_out() {
        let trace = "# a comment\n0.5 CONN 3 1 up\n1.0 C M1 0 1 100\n2 CONN p1 p3 down\n";
        let contacts = read(trace, 4).unwrap();
        assert_eq!(contacts.len(), 2);
        assert_eq!(contacts[0], Contact { at: seconds(0.5), pair: (1, 3), up: true });
        assert!(!contacts[1].up);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_line() {
        for (line, what) in [
            ("x CONN 0 1 up", "no number"),
            ("1 CONN 0 9 up", "below nodes.count"),
            ("1 CONN 0 1 sideways", "\"up\" or \"down\""),
            ("5 CONN 0 1 up\n4 CONN 0 1 down", "line 2"),
        ] {
            let error = read(line, 3).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
    }
}
