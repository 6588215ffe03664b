//! Introductions: who on the nodes near by wants to be found (extension `org.kith.node`, `docs/extension.md`).
//!
//! A user says so in the account data `org.kith.introduction`. The node then tells its user ID, name and picture to nodes that it sees
//! on the local network and that are connected directly (served by `server_api/introductions.rs`). The other side
//! asks while one of its own users looks who is near ([`Introductions::look`]): a node on which nobody looks contacts no stranger. What
//! it was told is kept in memory only, within the bounds below; of what a hostile node tells, only IDs of its own server are taken.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::FutureExt as _;
use kith_store::{Read, tables::accounts::USERS};
use kith_transport::{Class, PeerInfo, ServerKey};
use ruma::{MxcUri, OwnedServerName, ServerName, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::Notify;

use crate::{
    Node,
    accounts::{account_data, profile},
    http::Answer,
    platform::timeout,
};

/// Where nodes ask each other.
pub const PATH: &str = "/_matrix/federation/unstable/org.kith/introduction";
/// The account data by which a user wants to be found: `{"nearby": true}`.
pub const ACCOUNT_DATA: &str = "org.kith.introduction";
/// Users that are told of one node.
pub const MOST_USERS: usize = 32;
/// Nodes whose introductions are kept; of more that are near, those with the higher keys are not asked.
const MOST_NODES: usize = 64;
/// Accounts that are looked at for an answer: a server of more is not a person's device.
const MOST_ACCOUNTS: usize = 1_000;
/// The longest name that is told, in characters; the rest is cut off.
const LONGEST_NAME: usize = 100;
/// The longest URI of a picture that is told, in bytes; longer ones are left out.
const LONGEST_PICTURE: usize = 320;
/// The longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 64 << 10;
/// How long an answer counts.
const FRESH: Duration = Duration::from_secs(30);
/// The pause after a failure; it doubles up to the longest. The first is short: the other node may not have seen us yet.
const PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long a node may take for its answer.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// A user who wants to be found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduced {
    /// The user ID.
    pub user_id: String,
    /// The name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub displayname: Option<String>,
    /// The picture, an `mxc://` URI of the same server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
}

/// The answer of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// Its users who want to be found, at most [`MOST_USERS`].
    pub users: Vec<Introduced>,
}

/// What the nodes near by told. See the module for the bounds.
#[derive(Debug, Default)]
pub struct Introductions {
    nodes: Mutex<BTreeMap<ServerKey, Told>>,
    /// Somebody answered, or failed to.
    news: Notify,
}

/// What one node told.
#[derive(Debug, Default)]
struct Told {
    users: Vec<Introduced>,
    asking: bool,
    /// Whether it answered or failed to, once.
    settled: bool,
    failures: u32,
    /// When it is to be asked again, on the monotonic clock.
    next: Duration,
}

impl Introductions {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServerKey, Told>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The users whom a node introduced.
    pub fn of(&self, peer: ServerKey) -> Vec<Introduced> {
        self.lock().get(&peer).map(|told| told.users.clone()).unwrap_or_default()
    }

    /// Asks those of `peers` that are near and whose answer is missing or old, and forgets those that are not near any more. Waits for
    /// nodes that were never asked before, for at most `patience`.
    pub async fn look(&self, node: &Arc<Node>, peers: &[PeerInfo], patience: Duration) {
        let near: BTreeMap<ServerKey, OwnedServerName> =
            peers.iter().filter(|peer| peer.nearby).filter_map(|peer| Some((peer.key, name_of(peer)?))).collect();
        let now = node.clock.monotonic();
        let mut due = Vec::new();
        {
            let mut nodes = self.lock();
            nodes.retain(|key, _| near.contains_key(key));
            for (key, name) in near {
                if nodes.len() >= MOST_NODES && !nodes.contains_key(&key) {
                    break;
                }
                let told = nodes.entry(key).or_default();
                if !told.asking && told.next <= now {
                    told.asking = true;
                    due.push((key, name));
                }
            }
        }
        for (key, name) in due {
            node.spawner.spawn("introduction", ask(node.clone(), key, name).boxed());
        }
        let _ = timeout(&*node.clock, patience, async {
            loop {
                let news = self.news.notified();
                let mut news = std::pin::pin!(news);
                news.as_mut().enable();
                if self.lock().values().all(|told| told.settled) {
                    return;
                }
                news.await;
            }
        })
        .await;
    }

    /// Notes what became of asking a node, unless it is gone meanwhile.
    fn note(&self, peer: ServerKey, answer: Option<Vec<Introduced>>, now: Duration) {
        if let Some(told) = self.lock().get_mut(&peer) {
            told.asking = false;
            told.settled = true;
            match answer {
                Some(users) => {
                    told.users = users;
                    told.failures = 0;
                    told.next = now + FRESH;
                }
                // Whom it introduced before stays until it answers otherwise or goes.
                None => {
                    told.next = now + PAUSE.saturating_mul(1 << told.failures.min(10)).min(LONGEST_PAUSE);
                    told.failures = told.failures.saturating_add(1);
                }
            }
        }
        self.news.notify_waiters();
    }
}

/// The name by which a peer can be asked: one that its own key proves.
pub(crate) fn name_of(peer: &PeerInfo) -> Option<OwnedServerName> {
    match (peer.proven_name(), peer.claimed_name()) {
        (Some(name), _) => name.try_into().ok(),
        (None, None) => peer.key.to_string().try_into().ok(),
        // Under a DNS name that nothing proves nobody can be addressed here.
        (None, Some(_)) => None,
    }
}

async fn ask(node: Arc<Node>, peer: ServerKey, name: OwnedServerName) {
    let client = node.federation.client();
    let (get, nothing) = (http::Method::GET, Value::Null);
    let answer = client.request_short(&name, get, PATH, &nothing, Class::Control, TIME_LIMIT, LONGEST_ANSWER).await;
    let answer = match answer {
        Ok(answer) => match serde_json::from_value::<Introduction>(answer) {
            Ok(introduction) => {
                let mut users = introduction.users;
                users.truncate(MOST_USERS);
                let mut known = BTreeSet::new();
                let users = users.into_iter().filter_map(|user| checked(user, &name));
                Some(users.filter(|user| known.insert(user.user_id.clone())).collect())
            }
            Err(error) => {
                tracing::debug!(server = %name, %error, "an introduction is of no known form");
                None
            }
        },
        Err(error) => {
            tracing::debug!(server = %name, %error, "a node near by does not introduce anybody");
            None
        }
    };
    node.federation.introductions.note(peer, answer, node.clock.monotonic());
}

/// A user within the bounds, if it is one of that server.
fn checked(user: Introduced, server: &ServerName) -> Option<Introduced> {
    let user_id = UserId::parse(&user.user_id).ok().filter(|id| id.server_name() == server)?;
    Some(Introduced {
        displayname: user.displayname.map(shortened).filter(|name| !name.is_empty()),
        avatar_url: user.avatar_url.filter(|url| is_picture(url, server)),
        user_id: user_id.to_string(),
    })
}

/// A name of one line and bounded length.
fn shortened(name: String) -> String {
    name.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect()
}

/// Whether this is the URI of a file of that server.
fn is_picture(url: &str, server: &ServerName) -> bool {
    url.len() <= LONGEST_PICTURE && <&MxcUri>::from(url).parts().is_ok_and(|(of, _)| of == server)
}

/// The users of this node who want to be found.
///
/// # Errors
/// As all reads.
pub(crate) fn told(read: &dyn Read, server: &ServerName) -> Answer<Introduction> {
    let mut introduction = Introduction::default();
    for row in USERS.range(read, ..)?.take(MOST_ACCOUNTS) {
        let (user_id, row) = row?;
        if introduction.users.len() >= MOST_USERS {
            break;
        }
        if row.0.deactivated.is_some() || !wants_to_be_found(read, &user_id)? {
            continue;
        }
        let Ok(id) = UserId::parse(&user_id) else { continue };
        let profile: Map<String, Value> = profile::for_member_event(read, &id)?;
        let text = |field: &str| profile.get(field).and_then(Value::as_str).map(str::to_owned);
        let user =
            Introduced { user_id, displayname: text(profile::DISPLAYNAME), avatar_url: text(profile::AVATAR_URL) };
        introduction.users.extend(checked(user, server));
    }
    Ok(introduction)
}

fn wants_to_be_found(read: &dyn Read, user_id: &str) -> Answer<bool> {
    let content = account_data::get(read, user_id, None, ACCOUNT_DATA)?;
    Ok(content.is_some_and(|content| content.get("nearby") == Some(&Value::Bool(true))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_a_node_tells_only_its_own_users_and_pictures_are_taken_and_cut_to_their_bounds() {
        let server = ruma::server_name!("near.example");
        let user = |id: &str, name: &str, picture: &str| Introduced {
            user_id: id.to_owned(),
            displayname: Some(name.to_owned()),
            avatar_url: Some(picture.to_owned()),
        };
        assert_eq!(checked(user("@a:other.example", "", ""), server), None);
        assert_eq!(checked(user("a", "", ""), server), None);
        assert_eq!(checked(user(&format!("@{}:near.example", "a".repeat(300)), "", ""), server), None);
        let taken = checked(user("@a:near.example", "A\n\u{7}lice", "mxc://near.example/abc"), server).unwrap();
        assert_eq!(taken.displayname.as_deref(), Some("Alice"));
        assert_eq!(taken.avatar_url.as_deref(), Some("mxc://near.example/abc"));
        let long = "x".repeat(400);
        for picture in ["mxc://other.example/abc", "https://near.example/abc", &format!("mxc://near.example/{long}")] {
            let taken = checked(user("@a:near.example", &long, picture), server).unwrap();
            assert_eq!((taken.avatar_url, taken.displayname.unwrap().len()), (None, LONGEST_NAME), "{picture}");
        }
    }

    #[test]
    fn a_node_that_fails_is_asked_less_and_less_often_and_keeps_what_it_told() {
        let introductions = Introductions::default();
        let peer = kith_transport::SecretKey::from_seed([1; 32]).public();
        introductions.lock().insert(peer, Told::default());
        let users = vec![Introduced { user_id: "@a:b".to_owned(), displayname: None, avatar_url: None }];
        introductions.note(peer, Some(users.clone()), Duration::ZERO);
        assert_eq!(introductions.lock()[&peer].next, FRESH);
        let mut pauses = Vec::new();
        for _ in 0..40 {
            introductions.note(peer, None, Duration::ZERO);
            pauses.push(introductions.lock()[&peer].next);
        }
        assert_eq!(pauses[..3], [PAUSE, PAUSE * 2, PAUSE * 4]);
        assert_eq!((pauses[39], introductions.of(peer)), (LONGEST_PAUSE, users));
    }
}
