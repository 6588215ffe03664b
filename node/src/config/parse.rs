//! Typed values: sizes, rates, choices, secrets.

use std::fmt;
use std::time::Duration;

use ruma::serde::{Base64, base64::Standard};
use serde::{Deserialize, Deserializer};

/// Who may make an account (`registration.mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegistrationMode {
    /// The first account by a one-time link shown at start; further ones by the owner.
    Setup,
    /// Anyone who can connect, in one request with `m.login.dummy`.
    Open,
    /// Whoever knows a token (`m.login.registration_token`).
    Token,
    /// Nobody over the client API.
    Closed,
}

/// What an entry of `client.support` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// A web page.
    Page,
    /// A Matrix user.
    User,
    /// An email address.
    Email,
}

impl Contact {
    /// What an entry names; none for what is nothing of these.
    pub fn of(entry: &str) -> Option<Self> {
        if entry.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return None;
        }
        if ["https://", "http://"].iter().any(|scheme| entry.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
        {
            return Some(Self::Page);
        }
        if entry.starts_with('@') {
            return ruma::UserId::parse(entry).is_ok().then_some(Self::User);
        }
        let (name, host) = entry.split_once('@')?;
        (!name.is_empty() && !host.is_empty()).then_some(Self::Email)
    }
}

/// Who on the local network can see this node (`p2p.mdns`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MdnsMode {
    /// The peer id is announced.
    Everyone,
    /// Only rotating tags are announced, which contacts recognise.
    Contacts,
    /// Nothing is announced and nothing is looked for.
    Off,
}

/// Who may ask for the names and pictures of this node's users (`p2p.profiles`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProfilesFor {
    /// Servers that share a room with the user.
    Contacts,
    /// Any server.
    Everyone,
}

/// A text that is never printed: its `Debug` form hides it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for use and not for display.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// So many actions in so much time, which is also the burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Rate {
    /// How many, at least 1.
    pub count: u32,
    /// In which time.
    pub per: Duration,
}

impl Rate {
    /// `count` each second.
    #[must_use]
    pub const fn per_second(count: u32) -> Self {
        Self { count, per: Duration::from_secs(1) }
    }

    /// `count` each minute.
    #[must_use]
    pub const fn per_minute(count: u32) -> Self {
        Self { count, per: Duration::from_secs(60) }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (count, unit) = text.split_once('/')?;
        let per = match unit.trim() {
            "s" | "second" => 1,
            "min" | "minute" => 60,
            "h" | "hour" => 3_600,
            "d" | "day" => 86_400,
            _ => return None,
        };
        let count = count.trim().parse().ok().filter(|count| *count > 0)?;
        Some(Self { count, per: Duration::from_secs(per) })
    }
}

impl TryFrom<String> for Rate {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("expected a rate such as \"10/min\"")
    }
}

/// Bytes from `"100 MiB"`, `"64kB"` or `"12345"`.
pub(super) fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let factor = match unit.trim() {
        "" | "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    // TOML integers are signed.
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|bytes| i64::try_from(*bytes).is_ok())
}

/// "on" or "off" as a bool.
pub(super) fn on_off<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(serde::de::Error::custom("expected \"on\" or \"off\"")),
    }
}

/// A key with which a server name signed before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldKey {
    /// Its ID, such as `ed25519:a_Xy12`.
    pub id: String,
    /// The public key, in unpadded base64.
    pub key: String,
    /// Until when it was used, Unix milliseconds.
    pub expired: u64,
}

impl OldKey {
    /// From ID, key and time with blanks between. None: it is not that, or the ID is the one of this node's own key.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split_ascii_whitespace().collect();
        let [id, key, expired] = parts[..] else { return None };
        let version = id.strip_prefix("ed25519:")?;
        let is_version = !version.is_empty() && version.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let bytes = Base64::<Standard>::parse(key).ok()?;
        (is_version && version != "0" && bytes.as_bytes().len() == 32).then_some(())?;
        Some(Self { id: id.to_owned(), key: bytes.encode(), expired: expired.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        assert_eq!(size("100 MiB"), Some(104_857_600));
        assert_eq!(size("64kB"), Some(64_000));
        assert_eq!(size("7"), Some(7));
        for bad in ["", "MiB", "-1", "1.5 MiB", "1 mib", "99999999999 GiB", "1 MiB x"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn rates_are_read_and_zero_is_refused() {
        assert_eq!(Rate::parse("10/min"), Some(Rate::per_minute(10)));
        assert_eq!(Rate::parse("3 / h").map(|rate| rate.per), Some(Duration::from_secs(3_600)));
        for bad in ["10", "0/s", "x/s", "1/week", "-1/s", "/s"] {
            assert_eq!(Rate::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        assert!(!format!("{:?}", Secret::new("hunter2")).contains("hunter2"));
    }
}
