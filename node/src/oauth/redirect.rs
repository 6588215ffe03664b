//! Where a user may be sent back to (client-server specification, "Redirect URI validation"; RFC 8252, section 7).

use url::{Host, Url};

/// The longest address, in bytes.
pub(super) const LONGEST_URI: usize = 2048;
/// The hosts of the loopback interface, as they are written.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Checks an address that a client registers.
///
/// # Errors
/// What is wrong with it, for the client's developer.
pub(super) fn check(uri: &str, client_uri: &Url, native: bool) -> Result<(), &'static str> {
    plain(uri)?;
    if uri.starts_with("https://") {
        return same_site(uri, client_uri);
    }
    if !native {
        return Err("a web client's redirect URI must use https");
    }
    if let Some(rest) = uri.strip_prefix("http://") {
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        return if LOOPBACK.contains(&host) {
            Ok(())
        } else {
            Err("a redirect URI with http must be on localhost, 127.0.0.1 or [::1], without a port")
        };
    }
    let (scheme, rest) = uri.split_once(':').ok_or("a redirect URI needs a scheme")?;
    let reversed = client_uri.host_str().map(|host| host.rsplit('.').collect::<Vec<_>>().join(".")).unwrap_or_default();
    let own = scheme.strip_prefix(&reversed).is_some_and(|more| more.is_empty() || more.starts_with('.'));
    if !own || !scheme.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'.' | b'-' | b'+'))
    {
        return Err("a private scheme must begin with the host of `client_uri`, its parts reversed");
    }
    if rest.starts_with("//") {
        return Err("a redirect URI with a private scheme has no host");
    }
    Url::parse(uri).map(drop).map_err(|_| "a redirect URI is none")
}

/// Checks that an address is of `https`, on the host of the client's page or below it.
///
/// # Errors
/// What is wrong with it.
pub(super) fn same_site(uri: &str, client_uri: &Url) -> Result<(), &'static str> {
    plain(uri)?;
    let url = Url::parse(uri).map_err(|_| "an address is none")?;
    if url.scheme() != "https" || !url.username().is_empty() || url.password().is_some() {
        return Err("an address must use https, without a user name and password");
    }
    let same = match (url.host(), client_uri.host()) {
        (Some(Host::Domain(host)), Some(Host::Domain(base))) => {
            host == base || host.strip_suffix(base).is_some_and(|before| before.ends_with('.'))
        }
        (host, base) => host.is_some() && host == base,
    };
    if same { Ok(()) } else { Err("an address must be on the host of `client_uri`, or below it") }
}

/// Checks the address of a client's page, on which all its others are based.
///
/// # Errors
/// What is wrong with it.
pub(super) fn client_page(uri: &str) -> Result<Url, &'static str> {
    plain(uri)?;
    let url = Url::parse(uri).map_err(|_| "`client_uri` is no address")?;
    if url.scheme() != "https" || !url.username().is_empty() || url.password().is_some() {
        return Err("`client_uri` must use https, without a user name and password");
    }
    match url.host() {
        // Else all of a top-level domain would be one site.
        Some(Host::Domain(name)) if !name.trim_end_matches('.').contains('.') => Err("`client_uri` needs a whole name"),
        Some(_) => Ok(url),
        None => Err("`client_uri` has no host"),
    }
}

/// What is written as browsers read it: printable ASCII, no fragment, nothing that they would change.
fn plain(uri: &str) -> Result<(), &'static str> {
    if uri.len() > LONGEST_URI {
        return Err("an address is too long");
    }
    if !uri.bytes().all(|c| c.is_ascii_graphic() && !matches!(c, b'#' | b'\\' | b'"' | b'<' | b'>' | b'`')) {
        return Err("an address must be of printable ASCII, without a fragment");
    }
    Ok(())
}

/// Whether a request may be answered at `given` because `registered` is: the same text, but for the port of the loopback interface.
pub(super) fn matches(registered: &str, given: &str) -> bool {
    if registered == given {
        return true;
    }
    let split = |uri: &str| {
        let rest = uri.strip_prefix("http://")?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        Some((authority.to_owned(), path.to_owned()))
    };
    let (Some((host, path)), Some((authority, given_path))) = (split(registered), split(given)) else { return false };
    let port = authority.strip_prefix(&host).and_then(|rest| rest.strip_prefix(':'));
    LOOPBACK.contains(&host.as_str())
        && path == given_path
        && port.is_some_and(|port| port.bytes().all(|c| c.is_ascii_digit()) && port.parse::<u16>().is_ok())
}

/// Where the parameters of an answer stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Behind `?`.
    Query,
    /// Behind `#`, so that the server there is not told.
    Fragment,
}

/// The address with an answer for the client.
pub(super) fn answer(uri: &str, mode: Mode, parameters: &[(&str, &str)]) -> String {
    let sign = match mode {
        Mode::Fragment => '#',
        Mode::Query if uri.contains('?') => '&',
        Mode::Query => '?',
    };
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    text.extend_pairs(parameters);
    format!("{uri}{sign}{}", text.finish())
}

/// The address as a source of a Content-Security-Policy: browsers hold the redirect after a form to `form-action`.
pub(super) fn source(uri: &str) -> String {
    let scheme = uri.split(':').next().unwrap_or_default();
    match Url::parse(uri) {
        // There is no way to write an IPv6 address there.
        Ok(url) if url.has_host() && !matches!(url.host(), Some(Host::Ipv6(_))) => url.origin().ascii_serialization(),
        _ => format!("{scheme}:"),
    }
}

/// What a person is told of where the address leads.
pub(super) fn shown(uri: &str) -> String {
    match Url::parse(uri).ok().and_then(|url| url.host().map(|host| (url.scheme() == "http", host.to_string()))) {
        Some((true, _)) => "an app on this device".to_owned(),
        Some((false, host)) => host,
        None => format!("the app {}", uri.split(':').next().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Url {
        client_page("https://example.com/").unwrap()
    }

    #[test]
    fn the_specification_s_examples_are_judged_as_it_says() {
        for good in [
            "https://example.com/callback",
            "https://app.example.com/callback",
            "https://example.com:5173/?query=value",
        ] {
            assert_eq!((check(good, &page(), false), check(good, &page(), true)), (Ok(()), Ok(())), "{good}");
        }
        for bad in [
            "https://example.com/callback#fragment",
            "http://example.com/callback",
            "http://localhost/",
            "com.example.app:/callback",
        ] {
            assert!(check(bad, &page(), false).is_err(), "{bad}");
        }
        for good in [
            "com.example.app:/callback",
            "com.example:/",
            "com.example:callback",
            "http://localhost/callback",
            "http://127.0.0.1/callback",
            "http://[::1]/callback",
            "http://localhost",
        ] {
            assert_eq!(check(good, &page(), true), Ok(()), "{good}");
        }
        for bad in [
            "example:/callback",
            "com.example.app://callback",
            "https://localhost/callback",
            "http://localhost:1234/callback",
            "http://localhost.example.com/",
            "http://localhost@evil.org/",
            "com.examples:/x",
            "javascript:alert(1)",
            "data:text/html,x",
            "com.example:/\u{e4}",
            "",
            ":",
        ] {
            assert!(check(bad, &page(), true).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_other_site_passes_for_the_client_s() {
        for bad in [
            "https://evil.org/",
            "https://example.com.evil.org/",
            "https://badexample.com/",
            "https://user@example.com/",
            "https://example.com\\@evil.org/",
            "https://evil.org/\\example.com",
            "https://example.com\n.evil.org/",
            "https://",
        ] {
            assert!(check(bad, &page(), false).is_err(), "{bad}");
        }
        for bad in ["https://com/", "http://example.com/", "https://a:b@example.com/", "nonsense", "https://com./"] {
            assert!(client_page(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_the_port_of_the_loopback_interface_is_free() {
        assert!(matches("https://a.org/x", "https://a.org/x"));
        assert!(matches("http://127.0.0.1/x?y", "http://127.0.0.1:4711/x?y"));
        assert!(matches("http://[::1]/", "http://[::1]:65535/"));
        for (registered, given) in [
            ("https://a.org/x", "https://a.org:1/x"),
            ("https://a.org/x", "https://a.org/x?"),
            ("http://127.0.0.1/x", "http://127.0.0.1:4711/y"),
            ("http://127.0.0.1/x", "http://127.0.0.1:65536/x"),
            ("http://127.0.0.1/x", "http://127.0.0.1:/x"),
            ("http://127.0.0.1/x", "http://127.0.0.1:1@evil.org/x"),
            ("http://127.0.0.1/x", "http://127.0.0.1.evil.org/x"),
            ("http://127.0.0.1/x", "http://localhost:1/x"),
        ] {
            assert!(!matches(registered, given), "{given}");
        }
    }

    #[test]
    fn an_answer_is_written_where_it_was_asked_for() {
        let parameters = [("code", "a&b"), ("state", "x y")];
        assert_eq!(answer("io.element:/cb", Mode::Query, &parameters), "io.element:/cb?code=a%26b&state=x+y");
        assert_eq!(answer("https://a.org/?q=1", Mode::Query, &parameters), "https://a.org/?q=1&code=a%26b&state=x+y");
        assert_eq!(answer("https://a.org/", Mode::Fragment, &parameters), "https://a.org/#code=a%26b&state=x+y");
        assert_eq!(source("https://a.org/x"), "https://a.org");
        assert_eq!(source("http://localhost:5000/x"), "http://localhost:5000");
        assert_eq!(source("http://[::1]:5000/x"), "http:");
        assert_eq!(source("io.element:/x"), "io.element:");
    }
}
