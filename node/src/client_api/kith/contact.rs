//! `GET /_matrix/client/unstable/org.kith/contact`: a link to show as a QR code or to send; `POST`: takes one.
//!
//! Threats met (DESIGN section 8): the addresses in a link are a stranger's. Only a signed-in user can have them dialled, few of a link,
//! and none but QUIC's and TCP's handshake is sent there, in which the other end must prove the key that the name is made of.

use std::sync::Arc;

use kith_transport::KithName;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ruma::{
    MatrixToUri, MatrixUri, OwnedUserId, UserId,
    api::{auth_scheme::AccessToken, metadata},
    matrix_uri::MatrixId,
};
use serde::{Deserialize, Serialize};

use super::body;
use crate::{
    Node,
    client_api::untyped::{Untyped, Written},
    http::{Answer, MatrixError, Routes, Session},
};

/// The query parameter that carries an address.
const ADDRESS: &str = "org.kith.address";
/// The longest link, in bytes.
const LONGEST_LINK: usize = 4_096;
/// The longest address, in bytes.
const LONGEST_ADDRESS: usize = 512;
/// Addresses in a link of ours, so that its QR code stays easy to read.
const MOST_SHOWN: usize = 4;
/// Addresses that are taken of a link.
const MOST_TAKEN: usize = 8;
/// What stands in a query as it is (RFC 3986), for short links.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b':').remove(b'.').remove(b'-').remove(b'_');

/// The request for one's own link.
#[derive(Debug)]
struct GetContact;

metadata! {
    @for GetContact,
    method: GET,
    rate_limited: false,
    authentication: AccessToken,
    history: {
        unstable => "/_matrix/client/unstable/org.kith/contact",
    }
}

/// The request to take a link.
#[derive(Debug)]
struct AddContact;

metadata! {
    @for AddContact,
    method: POST,
    rate_limited: true,
    authentication: AccessToken,
    history: {
        unstable => "/_matrix/client/unstable/org.kith/contact",
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Link {
    link: String,
}

#[derive(Debug, Serialize)]
struct Found {
    user_id: OwnedUserId,
}

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(get_contact).add(add_contact)
}

async fn get_contact(node: Arc<Node>, session: Session, _: Untyped<GetContact, Written>) -> Answer<Written> {
    let addresses = node.transport.network().map(|network| network.own_addresses()).unwrap_or_default();
    Written::of(&Link { link: link(&session.user_id, addresses) })
}

async fn add_contact(node: Arc<Node>, _: Session, request: Untyped<AddContact, Written>) -> Answer<Written> {
    let Link { link } = body(request.body)?;
    let (user_id, addresses) =
        parsed(&link).ok_or_else(|| MatrixError::invalid_param("this is no link to a Matrix user"))?;
    let name = KithName::parse(user_id.server_name().as_str())
        .map_err(|error| MatrixError::invalid_param(format!("the server of this user cannot be: {error}")))?;
    if let (Some(name), Some(network)) = (name, node.transport.network())
        && !node.is_local(&user_id)
    {
        for address in addresses {
            if let Err(error) = network.add_address(name.key, address) {
                tracing::debug!(server = %user_id.server_name(), %error, "an address of a link is passed over");
            }
        }
        network.dial(name.key);
    }
    Written::of(&Found { user_id })
}

/// A user's link, with addresses at which the user's node can be reached by others: QUIC's first.
fn link(user: &UserId, mut addresses: Vec<String>) -> String {
    addresses.retain(|address| {
        let here = ["/ip4/127.", "/ip4/0.", "/ip6/::1/", "/ip6/::/", "/ip6/fe80"];
        address.len() <= LONGEST_ADDRESS && !here.iter().any(|start| address.starts_with(start))
    });
    addresses.sort_by_key(|address| !address.contains("/quic-v1"));
    let mut link = user.matrix_uri(true).to_string();
    for address in addresses.iter().take(MOST_SHOWN) {
        link.push_str(&format!("&{ADDRESS}={}", utf8_percent_encode(address, KEPT)));
    }
    link
}

/// The user and the addresses in a link: `matrix:u/...`, `https://matrix.to/#/@...`, or a bare user ID. None: it is no link to a user.
fn parsed(link: &str) -> Option<(OwnedUserId, Vec<String>)> {
    let link = link.trim();
    if link.len() > LONGEST_LINK {
        return None;
    }
    if link.starts_with('@') {
        return Some((UserId::parse(link).ok()?, Vec::new()));
    }
    let (bare, query) = link.split_once('?').unwrap_or((link, ""));
    let id = match bare.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("matrix:")) {
        true => MatrixUri::parse(bare).ok()?.id().clone(),
        false => MatrixToUri::parse(bare).ok()?.id().clone(),
    };
    let MatrixId::User(user_id) = id else { return None };
    let addresses = url::form_urlencoded::parse(query.as_bytes())
        .filter(|(name, address)| name == ADDRESS && address.len() <= LONGEST_ADDRESS)
        .map(|(_, address)| address.into_owned());
    Some((user_id, addresses.take(MOST_TAKEN).collect()))
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_link_is_read_back_as_it_was_made_and_leaves_out_what_only_this_device_reaches() {
        let user = ruma::user_id!("@alice/b=1:example.org");
        let addresses = [
            "/ip4/127.0.0.1/udp/1/quic-v1",
            "/ip4/192.0.2.1/tcp/1",
            "/ip6/2001:db8::1/udp/1/quic-v1/p2p/12D3Koo",
            "/ip6/fe80::1/udp/1/quic-v1",
            "/dns4/a&b=c%/udp/1/quic-v1",
        ];
        let link = link(user, addresses.iter().map(ToString::to_string).collect());
        assert!(link.starts_with("matrix:u/") && link.contains("action=chat"), "{link}");
        let (read, found) = parsed(&link).expect("a link");
        assert_eq!(read, user);
        assert_eq!(found, [addresses[2], addresses[4], addresses[1]]);
    }

    #[test]
    fn links_of_other_programs_and_bare_ids_are_taken_and_nothing_else() {
        for good in [
            "@alice:example.org",
            " @alice:example.org\n",
            "matrix:u/alice:example.org",
            "MATRIX:u/alice:example.org?action=chat",
            "matrix:u/alice:example.org?via=x&unknown=1",
            "https://matrix.to/#/@alice:example.org",
            "https://matrix.to/#/%40alice%3Aexample.org?via=elsewhere.example",
        ] {
            assert_eq!(parsed(good).expect(good).0, "@alice:example.org", "{good}");
        }
        for bad in [
            "",
            "alice",
            "@alice",
            "!room:example.org",
            "matrix:r/room:example.org",
            "matrix:u/alice",
            "matrix:roomid/room:example.org/e/event",
            "https://matrix.to/#/#room:example.org",
            "https://evil.example/#/@alice:example.org",
            "javascript:alert(1)",
            "mätrix",
            &format!("@{}:example.org", "a".repeat(5_000)),
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
        let many = format!("matrix:u/alice:example.org?{}", format!("{ADDRESS}=/memory/1&").repeat(100));
        assert_eq!(parsed(&many).expect("a link").1.len(), MOST_TAKEN);
        let long = format!("matrix:u/alice:example.org?{ADDRESS}={}", "x".repeat(LONGEST_ADDRESS + 1));
        assert_eq!(parsed(&long).expect("a link").1, [""; 0]);
    }
}
