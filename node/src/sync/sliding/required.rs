//! Which state a client requires of a room (MSC4186, "RequiredStateRequest"; the lists of pairs that clients send at the unstable
//! path, with `*`, `$ME` and `$LAZY`).

use serde::Deserialize;

use crate::http::{Answer, MatrixError};

/// How much one list or subscription may name.
const MOST_ELEMENTS: usize = 500;

/// What is required, ready to be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Required {
    include: Vec<Element>,
    exclude: Vec<Element>,
    /// Whether members are told as they are needed. Those that are named one by one are told anyway.
    pub(super) lazy: bool,
}

/// A type and a state key; none of one stands for all.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Element {
    #[serde(rename = "type")]
    kind: Option<String>,
    state_key: Option<String>,
}

/// As it comes.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum RequiredState {
    Pairs(Vec<(String, String)>),
    Elements {
        #[serde(default)]
        include: Vec<Element>,
        #[serde(default)]
        exclude: Vec<Element>,
        #[serde(default)]
        lazy_members: bool,
    },
}

impl Default for RequiredState {
    fn default() -> Self {
        Self::Pairs(Vec::new())
    }
}

/// Where the state that is required can be found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lookup<'a> {
    /// Anywhere.
    All,
    /// Under this type.
    Kind(&'a str),
    /// Under this key.
    One(&'a str, &'a str),
}

impl RequiredState {
    pub(super) fn read(self, me: &str) -> Answer<Required> {
        let required = match self {
            Self::Elements { include, exclude, lazy_members } => Required { include, exclude, lazy: lazy_members },
            Self::Pairs(pairs) => {
                let mut required = Required::default();
                for (kind, key) in pairs {
                    if kind == "m.room.member" && key == "$LAZY" {
                        required.lazy = true;
                        continue;
                    }
                    let key = if key == "$ME" { me.to_owned() } else { key };
                    let some = |text: String| Some(text).filter(|text| text != "*");
                    required.include.push(Element { kind: some(kind), state_key: some(key) });
                }
                required
            }
        };
        if required.include.len() + required.exclude.len() > MOST_ELEMENTS {
            return Err(MatrixError::invalid_param(format!("`required_state` names at most {MOST_ELEMENTS} things")));
        }
        Ok(required)
    }
}

impl Element {
    fn fits(&self, kind: &str, key: &str) -> bool {
        self.kind.as_deref().is_none_or(|own| own == kind) && self.state_key.as_deref().is_none_or(|own| own == key)
    }

    fn names_one(&self) -> bool {
        self.kind.is_some() && self.state_key.is_some()
    }
}

impl Required {
    /// Whether the state event with this type and key is required, whoever speaks.
    pub(super) fn wants(&self, kind: &str, key: &str) -> bool {
        let is_lazy = self.lazy && kind == "m.room.member";
        self.include.iter().any(|element| element.fits(kind, key) && (!is_lazy || element.names_one()))
            && !self.exclude.iter().any(|element| element.fits(kind, key))
    }

    /// Where to look for all that [`Required::wants`]. Some of it may be found twice.
    pub(super) fn lookups(&self) -> Vec<Lookup<'_>> {
        if self.include.iter().any(|element| element.kind.is_none()) {
            return vec![Lookup::All];
        }
        self.include
            .iter()
            .filter_map(|element| match (&element.kind, &element.state_key) {
                (Some(kind), Some(key)) => Some(Lookup::One(kind, key)),
                (Some(kind), None) => Some(Lookup::Kind(kind)),
                _ => None,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn required(value: Value) -> Required {
        serde_json::from_value::<RequiredState>(value).unwrap().read("@me:x").unwrap()
    }

    #[test]
    fn stars_me_and_lazy_mean_what_they_are_said_to() {
        let some = required(json!([["m.room.name", ""], ["m.space.child", "*"], ["m.room.member", "$ME"]]));
        assert!(some.wants("m.room.name", "") && some.wants("m.space.child", "!a:x"));
        assert!(some.wants("m.room.member", "@me:x") && !some.wants("m.room.member", "@you:x"));
        assert!(!some.wants("m.room.topic", ""));
        let key = required(json!([["*", ""]]));
        assert!(key.wants("m.anything", "") && !key.wants("m.anything", "k"));
        assert_eq!(key.lookups(), [Lookup::All]);
        let lazy = required(json!([["*", "*"], ["m.room.member", "$LAZY"]]));
        assert!(lazy.lazy && lazy.wants("m.room.topic", "") && !lazy.wants("m.room.member", "@you:x"));
        let named = required(json!([["m.room.member", "$LAZY"], ["m.room.member", "@you:x"]]));
        assert!(named.wants("m.room.member", "@you:x") && !named.wants("m.room.member", "@me:x"));
    }

    #[test]
    fn what_is_excluded_is_not_required() {
        let required = required(json!({ "include": [{}], "exclude": [{ "type": "m.room.create" }] }));
        assert!(required.wants("m.room.member", "@you:x") && !required.wants("m.room.create", ""));
    }

    #[test]
    fn too_much_is_refused() {
        let pairs: Vec<_> = (0..=MOST_ELEMENTS).map(|number| (format!("t{number}"), String::new())).collect();
        assert!(RequiredState::Pairs(pairs).read("@me:x").unwrap_err().is("M_INVALID_PARAM"));
    }
}
