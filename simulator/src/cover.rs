//! What a set of runs must have brought about between them: runs in which nothing happened prove nothing.
//!
//! A file names it, as `checks.occurs` does for a single run: counters of `summary.json`. `simulator/sets/ci.toml` is the one of
//! CI, with each kind of fault and each branch of state resolution.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::scenario::VERSION;

/// What a set must cover.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cover {
    /// The version of the format: 1.
    version: u32,
    /// Names of counters, each of which must be there in one run at least.
    occurs: Vec<String>,
}

impl Cover {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is no TOML, has an unknown key, or is of another version; the text names it.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Reads it from its text.
    ///
    /// # Errors
    /// As [`Cover::load`].
    pub fn parse(text: &str) -> Result<Self, String> {
        let cover: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if cover.version != VERSION {
            return Err(format!("version {} is not known here: this program reads version {VERSION}", cover.version));
        }
        Ok(cover)
    }

    /// What must occur.
    pub fn occurs(&self) -> &[String] {
        &self.occurs
    }

    /// What never occurred, by the counters of all runs together.
    pub fn missing(&self, occurred: &BTreeMap<String, u64>) -> Vec<&str> {
        let never = |name: &&String| occurred.get(*name).is_none_or(|many| *many == 0);
        self.occurs.iter().filter(never).map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use kith_room::explain::Branch;

    use super::*;
    use crate::scenario::What;

    #[test]
    fn what_never_occurred_is_named() {
        let cover = Cover::parse("version = 1\noccurs = [\"crash\", \"fork\", \"flood\"]").unwrap();
        let occurred = BTreeMap::from([("crash".to_owned(), 3), ("fork".to_owned(), 0)]);
        assert_eq!(cover.missing(&occurred), ["fork", "flood"]);
        assert!(Cover::parse("version = 1\noccurs = []\nocurs = []").is_err());
        assert!(Cover::parse("version = 2\noccurs = []").is_err());
    }

    #[test]
    fn the_set_of_ci_names_each_kind_of_fault_and_each_branch_of_resolution() {
        let cover = Cover::parse(include_str!("../sets/ci.toml")).unwrap();
        let branches = Branch::ALL.map(|branch| format!("branch_{}", branch.name()));
        let faults = What::OCCURS.map(str::to_owned);
        for name in branches.iter().chain(&faults) {
            assert!(cover.occurs().contains(name), "{name} is missing in simulator/sets/ci.toml");
        }
    }
}
