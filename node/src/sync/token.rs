//! Sync tokens: `s<stream position>_<ephemeral serial>_<start>[_<to-device position>]`. The position covers everything that
//! is stored; the serial counts what is only in memory (typing, presence) and is meaningless after a restart, which the start tells.

use std::fmt;

use crate::http::{Answer, MatrixError};

/// Where a client is in the node's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Token {
    /// Stream position.
    pub position: u64,
    /// Serial of ephemeral changes.
    pub ephemeral: u64,
    /// Which run of the node the serial is of.
    pub run: u64,
    /// Position up to which messages to the device were given, when there were more than one answer takes; 0: as `position`.
    pub to_device: u64,
}

impl Token {
    /// Reads a client's token.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` when it is none of ours.
    pub fn parse(text: &str) -> Answer<Self> {
        let wrong = || MatrixError::invalid_param("this is no sync token of this server: sync without `since`");
        let mut parts = text.strip_prefix('s').ok_or_else(wrong)?.split('_');
        let mut next = || parts.next().map_or(Ok(0), |part| part.parse().map_err(|_| wrong()));
        let token = Self { position: next()?, ephemeral: next()?, run: next()?, to_device: next()? };
        if parts.next().is_some() { Err(wrong()) } else { Ok(token) }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}_{}_{}", self.position, self.ephemeral, self.run)?;
        if self.to_device == 0 { Ok(()) } else { write!(f, "_{}", self.to_device) }
    }
}

#[cfg(test)]
mod tests {
    use super::Token;

    #[test]
    fn a_token_reads_back_and_nonsense_is_refused() {
        let token = Token { position: 12, ephemeral: 3, run: 4, to_device: 0 };
        assert_eq!(Token::parse(&token.to_string()).unwrap(), token);
        let token = Token { to_device: 9, ..token };
        assert_eq!(Token::parse(&token.to_string()).unwrap(), token);
        assert_eq!(Token::parse("s7").unwrap().position, 7);
        for wrong in ["", "x1", "s", "s-1", "s1_2_3_4_5", "t1_2"] {
            assert!(Token::parse(wrong).unwrap_err().is("M_INVALID_PARAM"), "{wrong}");
        }
    }
}
