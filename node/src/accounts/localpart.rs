//! What may stand before the colon of a new user's ID (appendices, "User Identifiers").

use ruma::{OwnedUserId, ServerName, UserId};

use crate::http::MatrixError;

/// The user ID that a new account with this name gets. `name` may be the localpart, or the whole user ID of this server;
/// capitals are lowered.
///
/// # Errors
/// `M_INVALID_USERNAME` with the rule that it breaks.
pub fn new_user_id(name: &str, server: &ServerName) -> Result<OwnedUserId, MatrixError> {
    let invalid =
        |reason: &str| MatrixError::new(http::StatusCode::BAD_REQUEST, "M_INVALID_USERNAME", reason.to_owned());
    let localpart = match name.strip_prefix('@') {
        Some(rest) => match rest.split_once(':') {
            Some((localpart, of)) if of == server.as_str() => localpart,
            Some(_) => return Err(invalid("this user name belongs to another server")),
            None => rest,
        },
        None => name,
    }
    .to_ascii_lowercase();
    if localpart.is_empty() {
        return Err(invalid("a user name needs at least one character"));
    }
    if !localpart.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'=' | b'-' | b'/' | b'+')) {
        return Err(invalid("a user name may only hold a-z, 0-9 and . _ = - / +"));
    }
    if localpart.bytes().all(|c| c.is_ascii_digit()) {
        return Err(invalid("a user name of digits only is reserved for guests"));
    }
    let id = format!("@{localpart}:{server}");
    if id.len() > 255 {
        return Err(invalid("the user name is too long: the whole user ID has at most 255 bytes"));
    }
    UserId::parse(&id).map_err(|_| invalid("this is not a valid user name"))
}

/// The ID of the local user that a client means by `name`: a localpart or a whole user ID, which may be of an older,
/// laxer grammar. None for users of other servers.
pub fn local_user_id(name: &str, server: &ServerName) -> Option<OwnedUserId> {
    let id =
        if name.starts_with('@') { UserId::parse(name) } else { UserId::parse(format!("@{name}:{server}")) }.ok()?;
    (id.server_name() == server).then_some(id)
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn new_names_keep_the_grammar_and_capitals_are_lowered() {
        let server = server_name!("example.org");
        assert_eq!(new_user_id("Alice", server).unwrap(), "@alice:example.org");
        assert_eq!(new_user_id("@alice:example.org", server).unwrap(), "@alice:example.org");
        assert_eq!(new_user_id("a.b_c=d-e/f+g", server).unwrap(), "@a.b_c=d-e/f+g:example.org");
        for bad in ["", "@", "ä", "a b", "a:b", "@alice:other.org", "123", "a!b", "a#b"] {
            assert!(new_user_id(bad, server).is_err_and(|error| error.is("M_INVALID_USERNAME")), "{bad}");
        }
    }

    #[test]
    fn a_user_id_has_at_most_255_bytes() {
        let server = server_name!("example.org");
        let longest = 255 - "@:example.org".len();
        assert!(new_user_id(&"a".repeat(longest), server).is_ok());
        assert!(new_user_id(&"a".repeat(longest + 1), server).is_err());
    }

    #[test]
    fn users_of_other_servers_are_not_local() {
        let server = server_name!("example.org");
        assert_eq!(local_user_id("alice", server).unwrap(), "@alice:example.org");
        assert_eq!(local_user_id("@alice:example.org", server).unwrap(), "@alice:example.org");
        assert_eq!(local_user_id("@alice:other.org", server), None);
    }
}
