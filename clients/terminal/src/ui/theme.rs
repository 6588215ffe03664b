//! Colours, from the terminal's own sixteen, so that light and dark ones both show them as their owner likes.

use ratatui::style::{Color, Modifier, Style};

use crate::markup::Look;

/// How things are told apart. Without colours, by weight alone.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    colours: bool,
}

impl Theme {
    /// As the environment asks: `NO_COLOR` set to anything, or a terminal without colours, turns them off.
    pub fn from_environment() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        Self::new(!set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb" && term != "vt100"))
    }

    pub fn new(colours: bool) -> Self {
        Self { colours }
    }

    fn coloured(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    pub fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub fn good(self) -> Style {
        self.coloured(Color::Green)
    }

    pub fn bad(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    pub fn accent(self) -> Style {
        self.coloured(Color::Blue).add_modifier(Modifier::BOLD)
    }

    pub fn mention(self) -> Style {
        self.coloured(Color::Magenta).add_modifier(Modifier::BOLD)
    }

    /// The same colour for the same person, of those that are readable on black and on white.
    pub fn name(self, user: &str) -> Style {
        const COLOURS: [Color; 5] = [Color::Blue, Color::Magenta, Color::Red, Color::Green, Color::Cyan];
        let sum = user.bytes().fold(7usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        self.coloured(COLOURS[sum % COLOURS.len()]).add_modifier(Modifier::BOLD)
    }

    pub fn look(self, look: Look) -> Style {
        let mut style = Style::new();
        if look.code {
            style = self.coloured(Color::Cyan);
        }
        if look.link {
            style = self.coloured(Color::Blue).add_modifier(Modifier::UNDERLINED);
        }
        for (on, modifier) in [
            (look.bold, Modifier::BOLD),
            (look.italic, Modifier::ITALIC),
            (look.struck, Modifier::CROSSED_OUT),
            (look.quote, Modifier::DIM),
        ] {
            if on {
                style = style.add_modifier(modifier);
            }
        }
        style
    }
}
