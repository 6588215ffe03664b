//! `/.well-known/matrix/server` of other servers: asking for it, reading it, and for how long what it says is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::Uri;

use super::host;

/// The longest document that is read, in bytes.
pub const MOST_BYTES: usize = 50 << 10;
/// How many redirects are followed.
const MOST_REDIRECTS: usize = 5;
/// How long a document is kept that does not say.
const DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// The shortest and the longest time that it is kept, whatever it says.
const LEAST: Duration = Duration::from_secs(300);
const LONGEST: Duration = Duration::from_secs(48 * 3600);
/// How long it is taken as settled that there is no document.
const NONE: Duration = Duration::from_secs(3600);
/// The same where nobody answered: doubled each time, up to [`NONE`].
const SILENT: Duration = Duration::from_secs(15);
/// How many hosts are remembered.
const MOST_HOSTS: usize = 4_096;

/// What one request brought.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Where a redirect leads.
    pub location: Option<String>,
    /// The header `Cache-Control`.
    pub cache_control: Option<String>,
    /// The headers `Date` and `Expires`.
    pub expires: Option<[String; 2]>,
    /// The body; none if it has more than [`MOST_BYTES`].
    pub body: Option<Bytes>,
}

/// Makes single requests; redirects are followed here.
pub trait Fetch: Send + Sync + 'static {
    /// Gets an `https` URL. `Err`: nobody answered; what went wrong, for the log.
    fn get(&self, url: Uri) -> BoxFuture<'_, Result<Answer, String>>;
}

/// What is known of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It delegates to this server name, for so long.
    Delegates(String, Duration),
    /// It has no document.
    Nothing(String),
    /// What it has in its place is no valid document, too long, or a way without end.
    Invalid(String),
    /// Nobody answered.
    Silent(String),
}

/// Asks a host for its document.
pub async fn ask(fetch: &dyn Fetch, host: &str) -> Found {
    let mut url = format!("https://{host}/.well-known/matrix/server");
    for _ in 0..=MOST_REDIRECTS {
        let Some(uri) = url.parse::<Uri>().ok().filter(is_https) else {
            return Found::Invalid(format!("it redirects to {:?}, which is no https URL", shortened(&url)));
        };
        let answer = match fetch.get(uri.clone()).await {
            Ok(answer) => answer,
            Err(reason) => return Found::Silent(reason),
        };
        match answer.status {
            200 => return read(&answer),
            301 | 302 | 303 | 307 | 308 => match answer.location.and_then(|to| against(&uri, &to)) {
                Some(next) => url = next,
                None => return Found::Invalid("it redirects to nowhere".to_owned()),
            },
            // It may be there again in a moment.
            status @ (429 | 500..) => return Found::Silent(format!("it answers {status}")),
            status => return Found::Nothing(format!("it answers {status}")),
        }
    }
    Found::Invalid(format!("it redirects more than {MOST_REDIRECTS} times"))
}

fn is_https(uri: &Uri) -> bool {
    uri.scheme_str() == Some("https") && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
}

fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}

/// A redirect's target, which may leave out the host.
fn against(base: &Uri, location: &str) -> Option<String> {
    let location = location.split('#').next().unwrap_or_default();
    if location.contains("://") {
        return Some(location.to_owned());
    }
    let authority = base.authority()?;
    if let Some(rest) = location.strip_prefix("//") {
        return Some(format!("https://{rest}"));
    }
    if location.starts_with('/') {
        return Some(format!("https://{authority}{location}"));
    }
    let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    (!location.is_empty()).then(|| format!("https://{authority}{folder}/{location}"))
}

fn read(answer: &Answer) -> Found {
    #[derive(serde::Deserialize)]
    struct Document {
        #[serde(rename = "m.server")]
        server: String,
    }
    let Some(body) = &answer.body else {
        return Found::Invalid(format!("its document has more than {MOST_BYTES} bytes"));
    };
    match serde_json::from_slice::<Document>(body) {
        Err(error) => Found::Invalid(format!("its document is not what the specification says: {error}")),
        Ok(Document { server }) if host::parse(&server).is_none() => {
            Found::Invalid(format!("its document names {:?}, which is no server name", shortened(&server)))
        }
        Ok(Document { server }) => Found::Delegates(server, lifetime(answer)),
    }
}

/// How long a document is kept: by its `Cache-Control`, else until it `Expires`, by the clock of who sent it.
fn lifetime(answer: &Answer) -> Duration {
    let mut kept = answer.expires.as_ref().map_or(DEFAULT, |times| {
        let [date, expires] = times.each_ref().map(|time| httpdate::parse_http_date(time).ok());
        // What is no time is one that is over (RFC 9111, section 5.3).
        date.zip(expires).and_then(|(date, expires)| expires.duration_since(date).ok()).unwrap_or(LEAST)
    });
    for directive in answer.cache_control.as_deref().unwrap_or_default().split(',') {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => return LEAST,
            "max-age" => {
                if let Ok(seconds) = value.trim().trim_matches('"').parse::<u64>() {
                    kept = Duration::from_secs(seconds);
                }
            }
            _ => {}
        }
    }
    kept.clamp(LEAST, LONGEST)
}

#[derive(Debug)]
struct Entry {
    delegated: Option<String>,
    until: Duration,
    /// When the document was read that is in use.
    read: Duration,
    /// How often in a row nobody answered.
    silent: u32,
}

/// What hosts said, for as long as it counts. Times are those of a monotonic clock.
#[derive(Debug, Default)]
pub struct Cache {
    hosts: BTreeMap<String, Entry>,
}

impl Cache {
    /// To whom a host delegates (`Some(None)`: to nobody). `None`: it has to be asked.
    pub fn get(&self, host: &str, now: Duration) -> Option<Option<String>> {
        self.hosts.get(host).filter(|entry| now < entry.until).map(|entry| entry.delegated.clone())
    }

    /// Takes what asking brought, and gives what holds now. A document that cannot be asked for again goes on to count until it is
    /// two days old: its server would be looked for in a wrong place otherwise.
    pub fn put(&mut self, host: &str, found: &Found, now: Duration) -> Option<String> {
        let before = self.hosts.remove(host);
        let entry = match found {
            Found::Delegates(server, kept) => {
                Entry { delegated: Some(server.clone()), until: now + *kept, read: now, silent: 0 }
            }
            Found::Nothing(_) | Found::Invalid(_) => Entry { delegated: None, until: now + NONE, read: now, silent: 0 },
            Found::Silent(_) => {
                let silent = before.as_ref().map_or(0, |entry| entry.silent);
                let wait = SILENT.saturating_mul(1 << silent.min(16)).min(NONE);
                let old = before.filter(|entry| entry.delegated.is_some() && now < entry.read + LONGEST);
                Entry {
                    read: old.as_ref().map_or(now, |entry| entry.read),
                    delegated: old.and_then(|entry| entry.delegated),
                    until: now + wait,
                    silent: silent + 1,
                }
            }
        };
        let delegated = entry.delegated.clone();
        self.make_room(now);
        self.hosts.insert(host.to_owned(), entry);
        delegated
    }

    /// Another network may answer where this one did not.
    pub fn forget_silence(&mut self) {
        self.hosts.retain(|_, entry| entry.silent == 0);
    }

    fn make_room(&mut self, now: Duration) {
        if self.hosts.len() < MOST_HOSTS {
            return;
        }
        self.hosts.retain(|_, entry| now < entry.until);
        while self.hosts.len() >= MOST_HOSTS {
            let soonest = self.hosts.iter().min_by_key(|(_, entry)| entry.until).map(|(host, _)| host.clone());
            let Some(host) = soonest else { return };
            self.hosts.remove(&host);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::executor::block_on;

    use super::*;

    /// Answers by URL; anything else is silence. Keeps what was asked.
    #[derive(Default)]
    struct Pages {
        pages: BTreeMap<&'static str, Answer>,
        asked: Mutex<Vec<String>>,
    }

    impl Fetch for Pages {
        fn get(&self, url: Uri) -> BoxFuture<'_, Result<Answer, String>> {
            self.asked.lock().unwrap().push(url.to_string());
            let answer = self.pages.get(url.to_string().as_str()).cloned().ok_or_else(|| "nobody".to_owned());
            Box::pin(futures::future::ready(answer))
        }
    }

    fn page(status: u16, body: &'static str) -> Answer {
        Answer {
            status,
            location: None,
            cache_control: None,
            expires: None,
            body: Some(Bytes::from_static(body.as_bytes())),
        }
    }

    fn redirect(to: &str) -> Answer {
        Answer { location: Some(to.to_owned()), ..page(302, "") }
    }

    const START: &str = "https://example.org/.well-known/matrix/server";
    const GOOD: &str = r#"{"m.server":"matrix.example.org:443"}"#;

    fn found(pages: &[(&'static str, Answer)]) -> (Found, usize) {
        let pages = Pages { pages: pages.iter().cloned().collect(), ..Pages::default() };
        let found = block_on(ask(&pages, "example.org"));
        (found, pages.asked.into_inner().unwrap().len())
    }

    #[test]
    fn a_document_delegates_for_as_long_as_its_header_says_within_bounds() {
        let hour = 3600;
        for (header, seconds) in [
            (None, 24 * hour),
            (Some("max-age=7200"), 2 * hour),
            (Some("public, Max-Age=\"7200\", immutable"), 2 * hour),
            (Some("max-age=0"), 300),
            (Some("max-age=99999999"), 48 * hour),
            (Some("max-age=18446744073709551616"), 24 * hour),
            (Some("no-store, max-age=7200"), 300),
            (Some("private"), 24 * hour),
        ] {
            let answer = Answer { cache_control: header.map(str::to_owned), ..page(200, GOOD) };
            let expected = Found::Delegates("matrix.example.org:443".to_owned(), Duration::from_secs(seconds));
            assert_eq!(found(&[(START, answer)]).0, expected, "{header:?}");
        }
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (expires, header, seconds) in [
            ("Sun, 06 Nov 1994 10:49:37 GMT", None, 2 * hour),
            ("Sun, 06 Nov 1994 10:49:37 GMT", Some("max-age=10800"), 3 * hour),
            ("Sat, 06 Nov 2094 10:49:37 GMT", None, 48 * hour),
            ("Sun, 06 Nov 1994 08:00:00 GMT", None, 300),
            ("0", None, 300),
        ] {
            let expired = Some([date.to_owned(), expires.to_owned()]);
            let answer = Answer { cache_control: header.map(str::to_owned), expires: expired, ..page(200, GOOD) };
            let expected = Found::Delegates("matrix.example.org:443".to_owned(), Duration::from_secs(seconds));
            assert_eq!(found(&[(START, answer)]).0, expected, "{expires:?} {header:?}");
        }
    }

    #[test]
    fn what_is_no_document_is_none_and_silence_is_told_apart() {
        for answer in [page(404, GOOD), page(401, GOOD), page(204, "")] {
            let (found, asked) = found(&[(START, answer.clone())]);
            assert!(matches!(found, Found::Nothing(_)), "{answer:?}: {found:?}");
            assert_eq!(asked, 1);
        }
        for answer in [
            Answer { body: None, ..page(200, "") },
            page(200, ""),
            page(200, "<html>"),
            page(200, "[]"),
            page(200, r#"{"m.server":1}"#),
            page(200, r#"{"m.server":""}"#),
            page(200, r#"{"m.server":"https://example.org"}"#),
            page(200, r#"{"m.server":"a:99999"}"#),
            page(302, ""),
            redirect("http://example.org/"),
            redirect("ftp://example.org/"),
            redirect("https://user@example.org/"),
            redirect("https:// /"),
        ] {
            let (found, asked) = found(&[(START, answer.clone())]);
            assert!(matches!(found, Found::Invalid(_)), "{answer:?}: {found:?}");
            assert_eq!(asked, 1);
        }
        for pages in [&[][..], &[(START, page(500, ""))], &[(START, page(429, ""))], &[(START, redirect("https://b/"))]]
        {
            assert!(matches!(found(pages).0, Found::Silent(_)));
        }
    }

    #[test]
    fn redirects_are_followed_and_loops_end() {
        let good = page(200, GOOD);
        for (to, target) in [
            ("https://b.example/x", "https://b.example/x"),
            ("//b.example/x", "https://b.example/x"),
            ("/x", "https://example.org/x"),
            ("x#y", "https://example.org/.well-known/matrix/x"),
        ] {
            let (found, asked) = found(&[(START, redirect(to)), (target, good.clone())]);
            assert!(matches!(found, Found::Delegates(..)), "{to}: {found:?}");
            assert_eq!(asked, 2);
        }
        let (looped, asked) = found(&[(START, redirect(START))]);
        assert!(matches!(looped, Found::Invalid(_)));
        assert_eq!(asked, MOST_REDIRECTS + 1);
    }

    #[test]
    fn answers_are_kept_for_their_time_and_errors_for_an_hour() {
        let mut cache = Cache::default();
        let at = Duration::from_secs;
        let delegates = Found::Delegates("b".to_owned(), at(1000));
        assert_eq!(cache.get("a", at(0)), None);
        assert_eq!(cache.put("a", &delegates, at(0)), Some("b".to_owned()));
        assert_eq!(cache.get("a", at(999)), Some(Some("b".to_owned())));
        assert_eq!(cache.get("a", at(1000)), None);
        assert_eq!(cache.put("a", &Found::Nothing(String::new()), at(1000)), None);
        assert_eq!(cache.get("a", at(4599)), Some(None));
        assert_eq!(cache.get("a", at(4600)), None);
    }

    #[test]
    fn silence_is_asked_about_less_and_less_and_an_old_document_holds_meanwhile() {
        let mut cache = Cache::default();
        let at = Duration::from_secs;
        let silent = Found::Silent(String::new());
        cache.put("a", &Found::Delegates("b".to_owned(), at(1000)), at(0));
        let mut now = at(1000);
        let mut waits = Vec::new();
        for _ in 0..12 {
            assert_eq!(cache.put("a", &silent, now), Some("b".to_owned()));
            let wait = (1..=3600).find(|wait| cache.get("a", now + at(*wait)).is_none()).unwrap();
            waits.push(wait);
            now += at(wait);
        }
        assert_eq!(waits, [15, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]);
        assert_eq!(cache.put("a", &silent, LONGEST), None, "it is two days old");
        cache.forget_silence();
        assert_eq!(cache.get("a", LONGEST), None);
    }

    #[test]
    fn hosts_that_are_remembered_are_bounded() {
        let mut cache = Cache::default();
        for n in 0..MOST_HOSTS + 10 {
            cache.put(&n.to_string(), &Found::Nothing(String::new()), Duration::from_secs(n as u64));
        }
        let now = Duration::from_secs(MOST_HOSTS as u64 + 10);
        assert!(cache.hosts.len() <= MOST_HOSTS);
        assert!(cache.get(&(MOST_HOSTS + 9).to_string(), now - Duration::from_secs(1)).is_some());
    }
}
