//! Which invites a user takes (client-server specification, "Invite permission"), and, finer than that, of whom (MSC4155): account data
//! that lists users and servers whose invites are allowed, ignored (the inviter does not notice) or blocked.

use kith_store::Read;
use ruma::UserId;
use serde_json::{Map, Value};

use super::account_data;
use crate::{
    federation::patterns::{fits, without_port},
    http::{Answer, MatrixError},
};

/// The account data by which a user refuses all invites.
const TYPE: &str = "m.invite_permission_config";
/// The same for some of them, as long as that is a proposal. Both hold.
const FILTER: &str = "org.matrix.msc4155.invite_permission_config";
/// How many patterns of one list are looked at, and the longest of them, in bytes.
const MOST_PATTERNS: usize = 1_000;
const LONGEST_PATTERN: usize = 255;

/// What becomes of an invite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The user is told.
    Allow,
    /// It is as if the user did not look: the invite is made, and nobody is told.
    Ignore,
    /// It is refused.
    Block,
}

/// What a user wants, as of one moment.
#[derive(Debug, Clone, Default)]
pub struct Permissions {
    blocks_all: bool,
    /// In the order in which they are asked, each with what it means.
    lists: Vec<(Who, Vec<String>, Verdict)>,
}

/// What the patterns of a list stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    User,
    Server,
}

impl Permissions {
    /// What the user's account data say.
    ///
    /// # Errors
    /// As all reads.
    pub fn of(read: &dyn Read, user: &UserId) -> Answer<Self> {
        let config = account_data::get(read, user.as_str(), None, TYPE)?;
        let action = config.as_ref().and_then(|config| config.get("default_action")).and_then(Value::as_str);
        let filter = account_data::get(read, user.as_str(), None, FILTER)?;
        let lists = filter.as_ref().and_then(lists).unwrap_or_default();
        Ok(Self { blocks_all: action == Some("block"), lists })
    }

    /// What becomes of an invite of this sender.
    pub fn judge(&self, sender: &str) -> Verdict {
        if self.blocks_all {
            return Verdict::Block;
        }
        let server = sender.split_once(':').map_or("", |(_, server)| server);
        let server = without_port(server);
        let found = self.lists.iter().find(|(who, patterns, _)| {
            let name = if *who == Who::User { sender } else { server };
            patterns.iter().any(|pattern| fits(pattern.as_bytes(), name.as_bytes()))
        });
        found.map_or(Verdict::Allow, |(_, _, verdict)| *verdict)
    }

    /// Whether the user is told of an invite of this sender.
    pub fn shows(&self, sender: &str) -> bool {
        self.judge(sender) == Verdict::Allow
    }
}

/// That a user of this node may be invited by another.
///
/// # Errors
/// 403 `M_INVITE_BLOCKED`.
pub fn check(read: &dyn Read, user: &UserId, sender: &UserId) -> Answer<()> {
    if Permissions::of(read, user)?.judge(sender.as_str()) == Verdict::Block {
        let message = format!("{user} takes no such invites");
        return Err(MatrixError::new(http::StatusCode::FORBIDDEN, "M_INVITE_BLOCKED", message));
    }
    Ok(())
}

/// The lists of the account data; none if they say nothing, or are wrong and so count for nothing.
fn lists(config: &Map<String, Value>) -> Option<Vec<(Who, Vec<String>, Verdict)>> {
    if config.get("enabled").is_some_and(|enabled| enabled == &Value::Bool(false)) {
        return None;
    }
    let mut lists = Vec::new();
    for (who, name) in [(Who::User, "users"), (Who::Server, "servers")] {
        for (verdict, prefix) in
            [(Verdict::Allow, "allowed"), (Verdict::Ignore, "ignored"), (Verdict::Block, "blocked")]
        {
            let Some(list) = config.get(&format!("{prefix}_{name}")) else { continue };
            let patterns = list.as_array()?.iter().map(|pattern| pattern.as_str().map(str::to_owned));
            let mut patterns = patterns.collect::<Option<Vec<String>>>()?;
            patterns.retain(|pattern| pattern.len() <= LONGEST_PATTERN);
            patterns.truncate(MOST_PATTERNS);
            lists.push((who, patterns, verdict));
        }
    }
    Some(lists)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn permissions(config: Value) -> Permissions {
        Permissions { blocks_all: false, lists: lists(config.as_object().unwrap()).unwrap_or_default() }
    }

    #[test]
    fn stars_and_question_marks_stand_for_what_they_are_said_to() {
        for (pattern, name, is_fit) in [
            ("*", "", true),
            ("*", "anything", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*.org", "example.org", true),
            ("*.org", "example.org.uk", false),
            ("a*b*c", "axxbyybzzc", true),
            ("a*b*c", "axxbyyb", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), is_fit, "{pattern} and {name}");
        }
    }

    #[test]
    fn users_are_asked_before_servers_and_the_first_list_that_fits_decides() {
        let config = permissions(json!({
            "allowed_users": ["@good:bad.org"],
            "blocked_users": ["@evil:*"],
            "allowed_servers": ["good.org", "*.good.org"],
            "ignored_servers": ["worse.org"],
            "blocked_servers": ["*"],
        }));
        for (sender, verdict) in [
            ("@good:bad.org", Verdict::Allow),
            ("@evil:good.org", Verdict::Block),
            ("@a:good.org:8448", Verdict::Allow),
            ("@a:x.good.org", Verdict::Allow),
            ("@a:worse.org", Verdict::Ignore),
            ("@a:bad.org", Verdict::Block),
        ] {
            assert_eq!(config.judge(sender), verdict, "{sender}");
        }
        assert_eq!(permissions(json!({})).judge("@a:x"), Verdict::Allow);
    }

    #[test]
    fn what_is_turned_off_or_wrong_counts_for_nothing() {
        let off = permissions(json!({ "enabled": false, "blocked_servers": ["*"] }));
        assert_eq!(off.judge("@a:x"), Verdict::Allow);
        for wrong in [json!({ "blocked_servers": ["*"], "allowed_users": "x" }), json!({ "blocked_servers": ["*", 3] })]
        {
            assert_eq!(permissions(wrong).judge("@a:x"), Verdict::Allow);
        }
    }
}
