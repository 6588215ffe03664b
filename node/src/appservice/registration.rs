//! Registration files: what an application service is, and which users, aliases and rooms are its own (application service
//! specification, "Registration"). YAML, as Synapse takes it.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use http::Uri;
use regex::Regex;
use ruma::{OwnedUserId, ServerName, UserId};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;
use yaml_rust2::{Yaml, YamlLoader};

/// The longest registration file.
const LONGEST_FILE: u64 = 1 << 20;
/// Application services that a node may have.
const MOST_SERVICES: usize = 100;
/// Short tokens can be guessed.
const SHORTEST_TOKEN: usize = 16;

/// Why a registration does not count.
#[derive(Debug, thiserror::Error)]
#[error("the registration of an application service, {}, cannot be used: {problem}", .path.display())]
pub struct RegistrationError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, in words.
    pub problem: String,
}

/// An application service, as its registration describes it.
pub struct Service {
    /// Its name, which never changes.
    pub id: String,
    /// Where it is asked and told, without a slash at the end; none: never.
    pub url: Option<String>,
    /// The user that it is itself.
    pub sender: OwnedUserId,
    /// Whether it is told who types, has read what and is there.
    pub receive_ephemeral: bool,
    /// Whether it is told what is sent to its users' devices (MSC3202, MSC4203). Else these devices sync, and find it there.
    pub receive_to_device: bool,
    /// Whether its users' requests are limited. Its own never are.
    pub rate_limited: bool,
    /// The networks that it bridges to.
    pub protocols: Vec<String>,
    as_token: String,
    hs_token: String,
    users: Vec<Namespace>,
    aliases: Vec<Namespace>,
    rooms: Vec<Namespace>,
}

struct Namespace {
    exclusive: bool,
    regex: Regex,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("id", &self.id).field("url", &self.url).finish_non_exhaustive()
    }
}

impl Service {
    /// Whether this is the token that the service shows. Takes as long for any wrong one.
    pub fn is_token(&self, token: &str) -> bool {
        self.as_token.as_bytes().ct_eq(token.as_bytes()).into()
    }

    /// The token that is shown to the service.
    pub fn hs_token(&self) -> &str {
        &self.hs_token
    }

    /// Whether the service may act as a user, and is told of the user's rooms.
    pub fn has_user(&self, user: &UserId) -> bool {
        user.server_name() == self.sender.server_name()
            && (*user == self.sender || matches(&self.users, user.as_str(), false))
    }

    /// Whether nobody else may be this user.
    pub fn owns_user(&self, user: &UserId) -> bool {
        user.server_name() == self.sender.server_name()
            && (*user == self.sender || matches(&self.users, user.as_str(), true))
    }

    /// Whether the service is told of rooms with this alias.
    pub fn has_alias(&self, alias: &str) -> bool {
        matches(&self.aliases, alias, false)
    }

    /// Whether nobody else may make this alias.
    pub fn owns_alias(&self, alias: &str) -> bool {
        matches(&self.aliases, alias, true)
    }

    /// Whether the service is told of this room.
    pub fn has_room(&self, room_id: &str) -> bool {
        matches(&self.rooms, room_id, false)
    }
}

fn matches(namespaces: &[Namespace], text: &str, exclusive_only: bool) -> bool {
    namespaces.iter().any(|namespace| (namespace.exclusive || !exclusive_only) && namespace.regex.is_match(text))
}

/// Reads all registrations.
///
/// # Errors
/// What is wrong with the first that is, or with two that are at odds.
pub fn read_all(paths: &[PathBuf], server: &ServerName) -> Result<Vec<Service>, RegistrationError> {
    let mut services: Vec<Service> = Vec::new();
    for path in paths {
        let wrong = |problem: String| RegistrationError { path: path.clone(), problem };
        let service = read(path).and_then(|text| parse(&text, server)).map_err(wrong)?;
        if let Some(other) = services.iter().find(|other| other.id == service.id) {
            return Err(wrong(format!("another one has the id {:?}", other.id)));
        }
        if services.iter().any(|other| other.is_token(&service.as_token)) {
            return Err(wrong("another one has the same as_token".to_owned()));
        }
        services.push(service);
        if services.len() > MOST_SERVICES {
            return Err(wrong(format!("there are more than {MOST_SERVICES}")));
        }
    }
    Ok(services)
}

fn read(path: &Path) -> Result<String, String> {
    let told = |error: io::Error| format!("it cannot be read: {error}");
    let length = fs::metadata(path).map_err(told)?.len();
    if length > LONGEST_FILE {
        return Err(format!("it has {length} bytes, more than {LONGEST_FILE}"));
    }
    fs::read_to_string(path).map_err(told)
}

/// Understands the text of a registration. What is wrong is told without what stands there: it holds secrets.
fn parse(text: &str, server: &ServerName) -> Result<Service, String> {
    let documents = YamlLoader::load_from_str(text)
        .map_err(|error| format!("it is not YAML, at line {}", error.marker().line()))?;
    let [document] = documents.as_slice() else { return Err("it is not one YAML document".to_owned()) };
    let Value::Object(fields) = json(document, 0)? else { return Err("it is not a mapping".to_owned()) };
    let text = |field: &str| match fields.get(field) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(_) => Err(format!("`{field}` is not a text")),
        None => Err(format!("`{field}` is missing")),
    };
    let flag = |field: &str| match fields.get(field) {
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        None | Some(Value::Null) => Ok(None),
        Some(_) => Err(format!("`{field}` is neither true nor false")),
    };
    let token = |field: &str| match text(field)? {
        token if token.len() < SHORTEST_TOKEN => Err(format!("`{field}` is shorter than {SHORTEST_TOKEN} characters")),
        token if token.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(token),
        _ => Err(format!("`{field}` has other characters than printable ASCII")),
    };
    let url = match fields.get("url") {
        None => return Err("`url` is missing; it may be null".to_owned()),
        Some(Value::Null) => None,
        Some(Value::String(url)) if url.is_empty() => None,
        Some(Value::String(url)) => {
            let is_url = url.parse::<Uri>().is_ok_and(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some() && uri.query().is_none()
            });
            if !is_url {
                return Err("`url` is neither null nor an http or https URL".to_owned());
            }
            Some(url.trim_end_matches('/').to_owned())
        }
        Some(_) => return Err("`url` is not a text".to_owned()),
    };
    let localpart = text("sender_localpart")?;
    let sender = UserId::parse(format!("@{localpart}:{server}"))
        .map_err(|_| "`sender_localpart` is no localpart of a user ID".to_owned())?;
    let namespaces = match fields.get("namespaces") {
        Some(Value::Object(namespaces)) => namespaces.clone(),
        _ => return Err("`namespaces` is missing".to_owned()),
    };
    let protocols = match fields.get("protocols") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(protocols)) if protocols.iter().all(Value::is_string) => {
            protocols.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        Some(_) => return Err("`protocols` is not a list of texts".to_owned()),
    };
    let ephemeral = ["receive_ephemeral", "de.sorunome.msc2409.push_ephemeral", "push_ephemeral"];
    let mut receive_ephemeral = false;
    for field in ephemeral {
        receive_ephemeral |= flag(field)?.unwrap_or(false);
    }
    Ok(Service {
        id: text("id")?,
        url,
        sender,
        receive_ephemeral,
        receive_to_device: flag("org.matrix.msc3202")?.unwrap_or(false),
        rate_limited: flag("rate_limited")?.unwrap_or(true),
        protocols,
        as_token: token("as_token")?,
        hs_token: token("hs_token")?,
        users: namespace(&namespaces, "users")?,
        aliases: namespace(&namespaces, "aliases")?,
        rooms: namespace(&namespaces, "rooms")?,
    })
}

fn namespace(namespaces: &Map<String, Value>, name: &str) -> Result<Vec<Namespace>, String> {
    let entries = match namespaces.get(name) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err(format!("`namespaces.{name}` is not a list")),
    };
    let entry = |entry: &Value| {
        let regex = entry.get("regex").and_then(Value::as_str);
        let regex = regex.ok_or_else(|| format!("an entry of `namespaces.{name}` has no `regex`"))?;
        let exclusive = entry.get("exclusive").and_then(Value::as_bool);
        let exclusive = exclusive
            .ok_or_else(|| format!("an entry of `namespaces.{name}` does not say whether it is `exclusive`"))?;
        // It need not say all of what it matches, but begins where that begins.
        let regex = Regex::new(&format!("^(?:{regex})"))
            .map_err(|_| format!("`{regex}` in `namespaces.{name}` is no regular expression that is known here"))?;
        Ok(Namespace { exclusive, regex })
    };
    entries.iter().map(entry).collect()
}

/// YAML as JSON.
fn json(yaml: &Yaml, depth: u8) -> Result<Value, String> {
    if depth > 16 {
        return Err("it is nested too deep".to_owned());
    }
    Ok(match yaml {
        Yaml::String(text) => Value::String(text.clone()),
        Yaml::Real(text) => Value::String(text.clone()),
        Yaml::Integer(number) => Value::from(*number),
        Yaml::Boolean(flag) => Value::Bool(*flag),
        Yaml::Null => Value::Null,
        Yaml::Array(list) => list.iter().map(|item| json(item, depth + 1)).collect::<Result<_, _>>()?,
        Yaml::Hash(map) => {
            let entry = |(key, value): (&Yaml, &Yaml)| match key {
                Yaml::String(key) => Ok((key.clone(), json(value, depth + 1)?)),
                _ => Err("a key is not a text".to_owned()),
            };
            Value::Object(map.iter().map(entry).collect::<Result<_, _>>()?)
        }
        Yaml::Alias(_) | Yaml::BadValue => return Err("it holds what is not plain YAML".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use ruma::{server_name, user_id};

    use super::*;

    const GOOD: &str = r##"
# A bridge
id: "bridge"
url: http://localhost:9000/
as_token: abcdefghijklmnopqrstuvwxyz
hs_token: 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'
sender_localpart: bot
rate_limited: false
de.sorunome.msc2409.push_ephemeral: true
protocols: [irc]
namespaces:
  users:
    - exclusive: true
      regex: '@irc_.*:example\.org'
    - { exclusive: false, regex: "@shared.*" }
  aliases:
    - exclusive: true
      regex: "#irc_.*"
  rooms: []
"##;

    fn of(text: &str) -> Result<Service, String> {
        parse(text, server_name!("example.org"))
    }

    #[test]
    fn a_registration_says_who_it_is_and_what_is_its_own() {
        let service = of(GOOD).unwrap();
        assert_eq!((service.id.as_str(), service.url.as_deref()), ("bridge", Some("http://localhost:9000")));
        assert_eq!(service.sender, user_id!("@bot:example.org"));
        assert!(service.receive_ephemeral && !service.receive_to_device && !service.rate_limited);
        assert!(service.is_token("abcdefghijklmnopqrstuvwxyz") && !service.is_token("abc") && !service.is_token(""));
        for (user, has, owns) in [
            ("@irc_a:example.org", true, true),
            ("@irc_a:elsewhere.org", false, false),
            ("@not_irc_a:example.org", false, false),
            ("@shared1:example.org", true, false),
            ("@shared1:elsewhere.org", false, false),
            ("@bot:example.org", true, true),
            ("@alice:example.org", false, false),
        ] {
            let user = UserId::parse(user).unwrap();
            assert_eq!((service.has_user(&user), service.owns_user(&user)), (has, owns), "{user}");
        }
        assert!(service.owns_alias("#irc_x:example.org") && !service.has_alias("#x_#irc_:example.org"));
        assert!(!format!("{service:?}").to_lowercase().contains("abcdef"));
    }

    #[test]
    fn what_is_wrong_is_told_and_no_secret_with_it() {
        for (from, to, expected) in [
            ("id: \"bridge\"", "", "`id` is missing"),
            ("url: http", "url: ftp", "`url`"),
            ("url: http://localhost:9000/", "", "`url` is missing"),
            ("abcdefghijklmnopqrstuvwxyz", "short", "`as_token` is shorter"),
            ("namespaces:", "other:", "`namespaces` is missing"),
            ("exclusive: true\n      regex: '@", "regex: '@", "exclusive"),
            ("@irc_.*", "@irc_(", "no regular expression"),
            ("rate_limited: false", "rate_limited: maybe", "`rate_limited`"),
            ("sender_localpart: bot", "sender_localpart: [ABCDEFGHIJ", "not YAML"),
        ] {
            let error = of(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(expected), "{to}: {error}");
            assert!(!error.contains("ABCDEFGHIJ"), "{error}");
        }
        assert!(of("").is_err() && of("- a").is_err() && of("--- a\n--- b").is_err());
        assert!(of("{\"id\": \"json is yaml\"}").unwrap_err().contains("missing"));
    }

    #[test]
    fn two_of_one_name_or_token_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let one = write("one.yaml", GOOD);
        let other = write("other.yaml", &GOOD.replace("bridge", "another"));
        let error = read_all(&[one.clone(), other], server_name!("example.org")).unwrap_err();
        assert!(error.to_string().contains("as_token"), "{error}");
        let error = read_all(&[one.clone(), one.clone()], server_name!("example.org")).unwrap_err();
        assert!(error.to_string().contains("id"), "{error}");
        assert_eq!(read_all(&[one], server_name!("example.org")).unwrap().len(), 1);
        assert!(read_all(&["/nonexistent".into()], server_name!("example.org")).is_err());
    }
}
