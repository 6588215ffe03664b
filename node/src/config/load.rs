//! Reading: file, environment and flags are merged into one table, each key with the place it came from.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::keys::{Key, Kind, SECTIONS, all};
use super::parse::{Rate, size};
use super::{Client, Config, default_data_dir, keys, validate};

/// What the command line says, above file and environment.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--data`
    pub data_dir: Option<PathBuf>,
}

/// Variables that begin with `KITH_` and are no configuration keys: of the command line, and of the build, whose environment
/// `cargo run` hands on.
const OTHER_VARIABLES: &[&str] = &["KITH_CONFIG", "KITH_LOG", "KITH_LOG_FORMAT", "KITH_WEB_DIST"];

/// The name of the configuration file that is looked for in the data folder.
const FILE_NAME: &str = "kith.toml";

/// A configuration is at most this long.
const MAX_FILE: u64 = 1 << 20;

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file, at a line (from 1).
    File(PathBuf, usize),
    /// In an environment variable.
    Variable(String),
    /// Nowhere: the default, or given by the program that embeds the node.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line) => write!(f, "{}, line {line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Default => f.write_str("configuration"),
        }
    }
}

/// Why there is no configuration. Each says where, what and what is right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}. {}", remedy(.source), path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{path} is not valid TOML: {message}", path = .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        message: String,
    },
    /// There is no such key.
    #[error("{place}: unknown key `{key}`; {}", hint(.nearest.as_deref()))]
    Unknown {
        /// The key as written.
        key: String,
        /// Where it is written.
        place: Place,
        /// The valid key that is most like it, in the same spelling.
        nearest: Option<String>,
    },
    /// The value has the wrong form.
    #[error("{place}: `{key}` must be {expected}, not {found}")]
    Value {
        /// The key.
        key: String,
        /// Where it is written.
        place: Place,
        /// What is right.
        expected: String,
        /// What is there; hidden for secrets.
        found: String,
    },
    /// The value has the right form but makes no sense, alone or with others.
    #[error("{place}: `{key}`: {reason}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// Where it is set.
        place: Place,
        /// What is wrong and what to do.
        reason: String,
    },
}

/// The values read so far, by section, and where each came from.
#[derive(Default)]
struct Merged {
    values: BTreeMap<&'static str, Table>,
    places: BTreeMap<String, Place>,
}

impl Config {
    /// Reads the configuration.
    ///
    /// `file` must exist if given; otherwise `kith.toml` in the data folder is read if it is there (the data folder of
    /// the flags or the environment, or the platform's). `environment` is usually [`std::env::vars_os`]; of it,
    /// `KITH_<KEY>` and `KITH_<SECTION>_<KEY>` count, with lists separated by commas or written in TOML.
    ///
    /// # Errors
    /// A [`ConfigError`] for the first thing that is wrong.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        flags: &Flags,
    ) -> Result<Self, ConfigError> {
        let environment: BTreeMap<OsString, OsString> = environment.into_iter().collect();
        let start_folder = start_folder(&environment, flags);
        let mut merged = Merged::default();
        match file {
            Some(path) => merged.file(path, read(path)?)?,
            None => {
                let path = start_folder.join(FILE_NAME);
                match read(&path) {
                    Ok(text) => merged.file(&path, text)?,
                    Err(ConfigError::Read { source, .. }) if is_absent(&path, &source) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        merged.environment(&environment)?;

        let mut config = merged.config(start_folder)?;
        if let Some(folder) = &flags.data_dir {
            config.data_dir = absolute(folder.clone());
        }
        config.check(&merged.places)?;
        Ok(config)
    }

    /// The file that [`load`](Self::load) reads: `file` if given, else the one in the data folder, which may not exist.
    pub fn file(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        flags: &Flags,
    ) -> PathBuf {
        let environment: BTreeMap<OsString, OsString> = environment.into_iter().collect();
        file.map_or_else(|| start_folder(&environment, flags).join(FILE_NAME), Path::to_owned)
    }

    /// Checks what types cannot say. [`load`](Self::load) does it; programs that build a `Config` do it themselves.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] for the first key that makes no sense.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.check(&BTreeMap::new())
    }

    fn check(&self, places: &BTreeMap<String, Place>) -> Result<(), ConfigError> {
        validate::check(self).map_err(|(key, reason)| ConfigError::Invalid {
            key,
            place: places.get(key).cloned().unwrap_or(Place::Default),
            reason,
        })
    }
}

/// The data folder as far as it is known before the file is read.
fn start_folder(environment: &BTreeMap<OsString, OsString>, flags: &Flags) -> PathBuf {
    let variable = |name: &str| environment.get(OsStr::new(name)).filter(|value| !value.is_empty()).cloned();
    let given = flags.data_dir.clone().map(absolute).or_else(|| variable("KITH_DATA_DIR").map(PathBuf::from));
    given.unwrap_or_else(|| default_data_dir(&variable))
}

/// No file, or no folder to have it in. A folder that may not be entered is told later, by what opens it. But a file that
/// is there and may not be read counts: a name made without the zone that stands in it could never be changed again.
fn is_absent(path: &Path, error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    match error.kind() {
        NotFound | NotADirectory => true,
        // Looking at a file needs its folder to be open, and not the file.
        PermissionDenied => std::fs::symlink_metadata(path).is_err(),
        _ => false,
    }
}

/// What to do about a key that does not exist.
fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(|| "`kith config` prints all keys".to_owned(), |nearest| format!("did you mean `{nearest}`?"))
}

/// What to do about a file that cannot be read.
fn remedy(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::{InvalidData, IsADirectory, NotFound, PermissionDenied};
    match error.kind() {
        NotFound => "Check the path given with --config (KITH_CONFIG)",
        PermissionDenied => "Give it to the user who runs kith (chown), readable for that user (chmod 600)",
        IsADirectory => "It is a folder: name the file in it",
        InvalidData => "Save it as text in UTF-8",
        _ => "Mend that, or name another file with --config",
    }
}

fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let read = || {
        use std::io::Read as _;
        let mut text = String::new();
        std::fs::File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_FILE {
            return Err(std::io::Error::other("it is longer than 1 MiB"));
        }
        Ok(text)
    };
    read().map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

impl Merged {
    fn file(&mut self, path: &Path, text: String) -> Result<(), ConfigError> {
        let table = DeTable::parse(&text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        })?;
        let folder = absolute(path.to_owned()).parent().map(Path::to_owned).unwrap_or_default();
        let place = |offset: usize| {
            let before = text.as_bytes().get(..offset).unwrap_or_default();
            Place::File(path.to_owned(), before.iter().filter(|byte| **byte == b'\n').count() + 1)
        };
        for (name, value) in table.get_ref() {
            let section = SECTIONS.iter().map(|(section, _)| *section).find(|section| section == name.get_ref());
            match (section, value.get_ref()) {
                (Some(section), DeValue::Table(keys)) => {
                    for (name, value) in keys {
                        self.file_key(section, name, value, &folder, &place)?;
                    }
                }
                (Some(section), other) => {
                    return Err(ConfigError::Value {
                        key: section.to_owned(),
                        place: place(name.span().start),
                        expected: format!("a section: write [{section}] and its keys below"),
                        found: other.type_str().to_owned(),
                    });
                }
                (None, DeValue::Table(_)) => {
                    // It was meant as a section: a key would be no better a guess.
                    let sections = SECTIONS.iter().map(|(section, _)| (*section).to_owned());
                    return Err(ConfigError::Unknown {
                        key: name.get_ref().to_string(),
                        place: place(name.span().start),
                        nearest: nearest_of(name.get_ref(), sections.filter(|section| !section.is_empty())),
                    });
                }
                (None, _) => self.file_key("", name, value, &folder, &place)?,
            }
        }
        Ok(())
    }

    fn file_key(
        &mut self,
        section: &str,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        folder: &Path,
        place: &dyn Fn(usize) -> Place,
    ) -> Result<(), ConfigError> {
        let place = place(name.span().start);
        let Some(key) = all().find(|key| key.section == section && key.name == name.get_ref()) else {
            let written =
                if section.is_empty() { name.get_ref().to_string() } else { format!("{section}.{}", name.get_ref()) };
            let nearest = nearest(&written);
            return Err(ConfigError::Unknown { key: written, place, nearest });
        };
        let value = plain(value.get_ref());
        self.set(key, value, Some(folder), place)
    }

    fn environment(&mut self, environment: &BTreeMap<OsString, OsString>) -> Result<(), ConfigError> {
        for (name, value) in environment {
            let Some(name) = name.to_str().filter(|name| name.starts_with("KITH_")) else {
                continue;
            };
            if OTHER_VARIABLES.contains(&name) {
                continue;
            }
            let place = Place::Variable(name.to_owned());
            let Some(key) = all().find(|key| key.variable() == name) else {
                return Err(ConfigError::Unknown { key: name.to_owned(), place, nearest: nearest_variable(name) });
            };
            let Some(text) = value.to_str() else {
                return Err(wrong(key, place, "text that is not UTF-8".to_owned()));
            };
            self.set(key, from_variable(key, text), None, place)?;
        }
        Ok(())
    }

    /// Checks the form of a value and keeps it, sizes as integers and paths absolute.
    fn set(&mut self, key: &'static Key, value: Value, folder: Option<&Path>, place: Place) -> Result<(), ConfigError> {
        let found = match key.kind {
            Kind::Secret | Kind::Secrets => value.type_str().to_owned(),
            _ => value.to_string(),
        };
        let Some(value) = normal(key.kind, value, folder) else {
            return Err(wrong(key, place, found));
        };
        self.values.entry(key.section).or_default().insert(key.name.to_owned(), value);
        self.places.insert(key.full_name(), place);
        Ok(())
    }

    fn section<T: DeserializeOwned>(&mut self, section: &'static str) -> Result<T, ConfigError> {
        let table = self.values.remove(section).unwrap_or_default();
        T::deserialize_table(table).map_err(|message| ConfigError::Invalid {
            key: section,
            place: Place::Default,
            reason: message,
        })
    }

    fn config(&mut self, start_folder: PathBuf) -> Result<Config, ConfigError> {
        let general: keys::General = self.section("")?;
        Ok(Config {
            data_dir: general.data_dir.unwrap_or(start_folder),
            server_name: general.server_name,
            gateway_zone: general.gateway_zone,
            client: self.section::<Client>("client")?,
            registration: self.section("registration")?,
            federation: self.section("federation")?,
            p2p: self.section("p2p")?,
            appservices: self.section("appservices")?,
            limits: self.section("limits")?,
        })
    }
}

/// Values were checked one by one before, so this fails only if a key's kind and its type disagree.
trait DeserializeTable: Sized {
    fn deserialize_table(table: Table) -> Result<Self, String>;
}

impl<T: DeserializeOwned> DeserializeTable for T {
    fn deserialize_table(table: Table) -> Result<Self, String> {
        table.try_into().map_err(|error: toml::de::Error| error.message().to_owned())
    }
}

fn wrong(key: &Key, place: Place, found: String) -> ConfigError {
    ConfigError::Value { key: key.full_name(), place, expected: expected(key), found }
}

fn expected(key: &Key) -> String {
    match key.kind {
        Kind::Bool => "true or false".to_owned(),
        Kind::Integer => "a whole number from 0 to 4294967295".to_owned(),
        Kind::Size => "a size such as \"100 MiB\" or a number of bytes".to_owned(),
        Kind::Text | Kind::Secret => "a text in quotes".to_owned(),
        Kind::Path => "a path in quotes".to_owned(),
        Kind::List | Kind::Secrets => "a list of texts in quotes".to_owned(),
        Kind::Paths => "a list of paths in quotes".to_owned(),
        Kind::Addresses => format!("a list of IP addresses with ports, such as {}", key.value),
        Kind::Choice(choices) => {
            let choices: Vec<_> = choices.iter().map(|choice| format!("\"{choice}\"")).collect();
            format!("one of {}", choices.join(", "))
        }
        Kind::Rate => "a rate such as \"10/min\" (per s, min, h or day)".to_owned(),
    }
}

/// The value in the form that the types take, or nothing if it does not fit the kind.
fn normal(kind: Kind, value: Value, folder: Option<&Path>) -> Option<Value> {
    let path = |value: Value| {
        let text = value.as_str().filter(|text| !text.is_empty())?;
        let path = folder.map_or_else(|| PathBuf::from(text), |folder| folder.join(text));
        absolute(path).to_str().map(|path| Value::String(path.to_owned()))
    };
    let list = |value: Value, each: &dyn Fn(Value) -> Option<Value>| match value {
        Value::Array(items) => items.into_iter().map(each).collect::<Option<Vec<_>>>().map(Value::Array),
        _ => None,
    };
    match kind {
        Kind::Bool => value.is_bool().then_some(value),
        Kind::Integer => value.as_integer().is_some_and(|number| u32::try_from(number).is_ok()).then_some(value),
        Kind::Size => match value {
            Value::Integer(bytes) if bytes >= 0 => Some(value),
            Value::String(text) => size(&text).and_then(|bytes| i64::try_from(bytes).ok()).map(Value::Integer),
            _ => None,
        },
        Kind::Text | Kind::Secret => value.is_str().then_some(value),
        Kind::Path => path(value),
        Kind::List | Kind::Secrets => list(value, &|item| item.is_str().then_some(item)),
        Kind::Paths => list(value, &path),
        Kind::Addresses => list(value, &|item| {
            item.as_str()?.parse::<std::net::SocketAddr>().ok().map(|address| Value::String(address.to_string()))
        }),
        Kind::Choice(choices) => value.as_str().is_some_and(|text| choices.contains(&text)).then_some(value),
        Kind::Rate => value.as_str().and_then(Rate::parse).is_some().then_some(value),
    }
}

/// A variable's text as a value of the key's kind; what does not fit stays text, and is refused as such.
fn from_variable(key: &Key, text: &str) -> Value {
    let toml = |text: &str| format!("v = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
    let as_text = || Value::String(text.to_owned());
    match key.kind {
        Kind::Bool | Kind::Integer => toml(text.trim()).unwrap_or_else(as_text),
        Kind::List | Kind::Secrets | Kind::Paths | Kind::Addresses => {
            if text.trim_start().starts_with('[') {
                return toml(text.trim()).unwrap_or_else(as_text);
            }
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
        }
        Kind::Size | Kind::Text | Kind::Secret | Kind::Path | Kind::Choice(_) | Kind::Rate => as_text(),
    }
}

/// The value without its positions.
fn plain(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Array(items) => Value::Array(items.iter().map(|item| plain(item.get_ref())).collect()),
        DeValue::Table(table) => {
            Value::Table(table.iter().map(|(key, value)| (key.get_ref().to_string(), plain(value.get_ref()))).collect())
        }
        DeValue::Datetime(value) => Value::Datetime(*value),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Value::String(number.as_str().to_owned()), Value::Integer),
        DeValue::Float(number) => {
            number.as_str().parse().map_or_else(|_| Value::String(number.as_str().to_owned()), Value::Float)
        }
    }
}

/// The valid key that is most like the written one: by its whole name, or by its last part in another section.
fn nearest(written: &str) -> Option<String> {
    let last = written.rsplit('.').next().unwrap_or(written);
    if let Some(elsewhere) = all().find(|key| key.name == last) {
        return Some(elsewhere.full_name());
    }
    nearest_of(written, all().map(Key::full_name))
}

/// The variable that is most like the written one. What all of them begin with makes nothing alike, and a wrong guess is
/// worse than none.
fn nearest_variable(written: &str) -> Option<String> {
    let bare = |name: &str| name.trim_start_matches("KITH_").to_owned();
    let keys = all().map(|key| (key.variable(), key.name.to_uppercase()));
    let others = OTHER_VARIABLES.iter().map(|name| ((*name).to_owned(), bare(name)));
    keys.chain(others)
        .map(|(variable, last)| {
            let whole = strsim::jaro_winkler(&bare(written), &bare(&variable));
            (whole.max(strsim::jaro_winkler(&bare(written), &last) * 0.99), variable)
        })
        .filter(|(likeness, _)| *likeness > 0.9)
        // The first of those that are equally near.
        .min_by(|(one, _), (other, _)| other.total_cmp(one))
        .map(|(_, variable)| variable)
}

fn nearest_of(written: &str, valid: impl Iterator<Item = String>) -> Option<String> {
    let name = |full: &str| full.rsplit('.').next().unwrap_or(full).to_owned();
    valid
        .map(|candidate| {
            let whole = strsim::jaro_winkler(written, &candidate);
            let last = strsim::jaro_winkler(&name(written), &name(&candidate));
            (whole.max(last * 0.99), candidate)
        })
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
