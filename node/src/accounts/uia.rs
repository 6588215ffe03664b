//! User-interactive authentication (client-server specification, "User-Interactive Authentication API"): the one piece
//! that endpoints call which ask their user to prove again who it is.
//!
//! ```ignore
//! uia::require(&node, &session, request.auth.as_ref(), "POST /keys/device_signing/upload").await?;
//! ```
//!
//! The answer to a request without (or with wrong) authentication is the 401 of the specification: flows, session,
//! completed stages. A session belongs to one operation of one user, lives [`SESSION_MS`] and is spent by passing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use ruma::api::client::uiaa::{AuthData, Dummy, MatrixUserIdentifier, Password, RegistrationToken, UserIdentifier};
use ruma::{OwnedUserId, UserId};
use serde_json::{Map, Value, json};

use super::limits::{self, Action};
use super::tokens::hash;
use super::{localpart, monotonic_ms, password, registration, users};
use crate::Node;
use crate::http::{Anonymous, Answer, MatrixError, Session};
use crate::oauth;

/// How long a session lives, in milliseconds.
pub const SESSION_MS: u64 = 30 * 60 * 1000;
/// Sessions at once; beyond it the one that ends first goes.
const MAX_SESSIONS: usize = 2000;

/// A step of an interactive authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// `m.login.password`
    Password,
    /// `m.login.registration_token`
    RegistrationToken,
    /// `m.login.dummy`: nothing to prove.
    Dummy,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Password => "m.login.password",
            Self::RegistrationToken => "m.login.registration_token",
            Self::Dummy => "m.login.dummy",
        }
    }
}

/// Authentications under way.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<BTreeMap<String, Pending>>);

#[derive(Debug)]
struct Pending {
    operation: String,
    user: Option<String>,
    stages: &'static [Stage],
    /// What was passed on a page of ours, so that the session alone is enough.
    passed: Option<Passed>,
    /// Monotonic milliseconds.
    expires: u64,
}

impl Sessions {
    fn begin(&self, id: String, operation: &str, user: Option<&UserId>, stages: &'static [Stage], now: u64) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= MAX_SESSIONS {
            sessions.retain(|_, session| session.expires > now);
        }
        if sessions.len() >= MAX_SESSIONS
            && let Some(first) = sessions.iter().min_by_key(|(_, session)| session.expires).map(|(id, _)| id.clone())
        {
            sessions.remove(&first);
        }
        let pending = Pending {
            operation: operation.to_owned(),
            user: user.map(ToString::to_string),
            stages,
            passed: None,
            expires: now.saturating_add(SESSION_MS),
        };
        sessions.insert(id, pending);
    }

    /// Whether the session is alive and was begun for this operation of this user.
    fn is_for(&self, id: &str, operation: &str, user: Option<&UserId>, now: u64) -> bool {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(id).is_some_and(|session| {
            session.expires > now
                && session.operation == operation
                && session.user.as_deref() == user.map(UserId::as_str)
        })
    }

    /// Whom a living session is for, and the stage with this name, if it asks for that.
    fn look(&self, id: &str, stage: &str, now: u64) -> Option<(Option<String>, Stage, &'static [Stage])> {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get(id).filter(|session| session.expires > now)?;
        let stage = session.stages.iter().find(|its| its.name() == stage)?;
        Some((session.user.clone(), *stage, session.stages))
    }

    fn note_passed(&self, id: &str, passed: Passed) {
        if let Some(session) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(id) {
            session.passed = Some(passed);
        }
    }

    fn passed(&self, id: &str) -> Option<Passed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id)?.passed.clone()
    }

    fn end(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

/// What a passed authentication brought.
#[derive(Debug, Clone, Default)]
pub(crate) struct Passed {
    /// The stored one-use registration token that was shown; it is spent by the change that makes the account.
    pub(crate) registration_token: Option<kith_store::tables::accounts::TokenHash>,
}

/// Has the signed-in user prove by password who it is, for `operation` (method and path, with what it is done to).
///
/// # Errors
/// The 401 that carries the flows; `M_LIMIT_EXCEEDED` after too many tries.
pub async fn require(node: &Arc<Node>, session: &Session, auth: Option<&AuthData>, operation: &str) -> Answer<()> {
    // Application services' users have no passwords, and they can do everything as them.
    if session.appservice.is_some() {
        return Ok(());
    }
    // "OAuth 2.0 API": such clients cannot know the password, and are not to be told it.
    if oauth::signed_in_by(node, session)? {
        return Err(MatrixError::forbidden(
            "an app that signed in by OAuth 2.0 cannot do this: it is done on the account's page (`account_management_uri`)",
        ));
    }
    pass(node, &session.from, Some(&session.user_id), &[Stage::Password], auth, operation).await.map(drop)
}

/// As [`require`], for the one operation that clients can have who signed in by OAuth 2.0: the user says yes on the account's page
/// (client-server specification, "OAuth authentication").
///
/// # Errors
/// As [`require`].
pub async fn require_or_ask(
    node: &Arc<Node>,
    session: &Session,
    auth: Option<&AuthData>,
    operation: &str,
) -> Answer<()> {
    if session.appservice.is_some() || !oauth::signed_in_by(node, session)? {
        return require(node, session, auth, operation).await;
    }
    let Err(url) = oauth::reset_approved(node, session) else { return Ok(()) };
    let user = Some(&*session.user_id);
    let known = auth.and_then(AuthData::session);
    let known = known.filter(|id| node.accounts.uia.is_for(id, operation, user, monotonic_ms(node)));
    // No error: clients ask again until the user has said yes.
    let mut challenge = challenge(node, user, &[], known, operation, None);
    let flows: Vec<Value> = BY_PAGE.iter().map(|stage| json!({ "stages": [stage] })).collect();
    let params: Map<String, Value> = BY_PAGE.iter().map(|stage| ((*stage).to_owned(), json!({ "url": url }))).collect();
    challenge.extra.insert("flows".to_owned(), flows.into());
    challenge.extra.insert("params".to_owned(), params.into());
    Err(challenge)
}

/// The stage that is passed on the account's page, and its name before it was specified.
const BY_PAGE: [&str; 2] = ["m.oauth", "org.matrix.cross_signing_reset"];

/// Passes one of the stages in `stages` (each is a flow of its own). `user` is whose password counts.
///
/// # Errors
/// As [`require`].
pub(crate) async fn pass(
    node: &Arc<Node>,
    from: &Anonymous,
    user: Option<&UserId>,
    stages: &'static [Stage],
    auth: Option<&AuthData>,
    operation: &str,
) -> Answer<Passed> {
    let Some(auth) = auth else { return Err(challenge(node, user, stages, None, operation, None)) };
    let now = monotonic_ms(node);
    let session = match auth.session() {
        Some(id) if !node.accounts.uia.is_for(id, operation, user, now) => {
            let error = ("M_UNKNOWN", "this authentication has expired or belongs to another request: begin anew");
            return Err(challenge(node, user, stages, None, operation, Some(error)));
        }
        session => session,
    };
    if let (AuthData::FallbackAcknowledgement(_), Some(id)) = (auth, session)
        && let Some(passed) = node.accounts.uia.passed(id)
    {
        node.accounts.uia.end(id);
        return Ok(passed);
    }
    match stage(node, from, user, stages, auth).await? {
        Ok(passed) => {
            if let Some(id) = session {
                node.accounts.uia.end(id);
            }
            Ok(passed)
        }
        Err(reason) => Err(challenge(node, user, stages, session, operation, Some(reason))),
    }
}

type Refused = (&'static str, &'static str);

async fn stage(
    node: &Arc<Node>,
    from: &Anonymous,
    user: Option<&UserId>,
    stages: &[Stage],
    auth: &AuthData,
) -> Answer<Result<Passed, Refused>> {
    let offered = |stage| stages.contains(&stage);
    Ok(match auth {
        AuthData::Dummy(_) if offered(Stage::Dummy) => Ok(Passed::default()),
        AuthData::Password(given) if offered(Stage::Password) => {
            let Some(user) = user else { return Ok(Err(("M_FORBIDDEN", "no user to authenticate"))) };
            limits::check_address(node, Action::Login, from)?;
            // Who tries is signed in as this user, so others' tries at the account do not count here.
            limits::check(node, Action::Login, &format!("{user} signed in"))?;
            let named = match &given.identifier {
                UserIdentifier::Matrix(id) => localpart::local_user_id(&id.user, node.identity.server_name()),
                _ => None,
            };
            let row = node.store.read(|read| users::get(read, user))?;
            let hash = row.filter(|row| row.deactivated.is_none()).and_then(|row| row.password);
            if password::verify(node, &given.password, hash).await? && named.as_deref() == Some(user) {
                Ok(Passed::default())
            } else {
                Err(("M_FORBIDDEN", "the user or the password is wrong"))
            }
        }
        AuthData::RegistrationToken(given) if offered(Stage::RegistrationToken) => {
            match registration::check_limited(node, from, &given.token)? {
                registration::Checked::Standing => Ok(Passed::default()),
                registration::Checked::OneUse => Ok(Passed { registration_token: Some(hash(&given.token)) }),
                registration::Checked::Unknown => {
                    Err(("M_FORBIDDEN", "the registration token is wrong, was used or has expired"))
                }
            }
        }
        _ => Err(("M_UNRECOGNIZED", "this authentication is not among the flows")),
    })
}

/// The stage with this name, if a living session asks for it.
pub(crate) fn stage_by_page(node: &Node, session: &str, name: &str) -> Option<Stage> {
    node.accounts.uia.look(session, name, monotonic_ms(node)).map(|(_, stage, _)| stage)
}

/// Passes a stage of a session on a page of ours: what the stage asks for is in `secret`. The inner error says what is wrong.
///
/// # Errors
/// `M_LIMIT_EXCEEDED` after too many tries; `M_NOT_FOUND` when the session has ended.
pub(crate) async fn pass_by_page(
    node: &Arc<Node>,
    from: &Anonymous,
    session: &str,
    wanted: Stage,
    secret: &str,
) -> Answer<Result<(), &'static str>> {
    let found = node.accounts.uia.look(session, wanted.name(), monotonic_ms(node));
    let (user, _, stages) = found.ok_or_else(|| MatrixError::not_found("this authentication has expired"))?;
    let user = user.and_then(|user| OwnedUserId::try_from(user).ok());
    let auth = match (wanted, &user) {
        (Stage::Dummy, _) => AuthData::Dummy(Dummy::new()),
        (Stage::RegistrationToken, _) => AuthData::RegistrationToken(RegistrationToken::new(secret.to_owned())),
        (Stage::Password, Some(user)) => {
            let identifier = UserIdentifier::Matrix(MatrixUserIdentifier::new(user.to_string()));
            AuthData::Password(Password::new(identifier, secret.to_owned()))
        }
        (Stage::Password, None) => return Ok(Err("no user to authenticate")),
    };
    Ok(match stage(node, from, user.as_deref(), stages, &auth).await? {
        Ok(passed) => {
            node.accounts.uia.note_passed(session, passed);
            Ok(())
        }
        Err((_, reason)) => Err(reason),
    })
}

/// The 401 of the specification. Goes on with `session`, or begins one.
fn challenge(
    node: &Arc<Node>,
    user: Option<&UserId>,
    stages: &'static [Stage],
    session: Option<&str>,
    operation: &str,
    error: Option<Refused>,
) -> MatrixError {
    let session = match session {
        Some(id) => id.to_owned(),
        None => {
            let id = node.rng.token(24);
            node.accounts.uia.begin(id.clone(), operation, user, stages, monotonic_ms(node));
            id
        }
    };
    let mut body = Map::new();
    let flows: Vec<Value> = stages.iter().map(|stage| json!({ "stages": [stage.name()] })).collect();
    body.insert("flows".to_owned(), flows.into());
    body.insert("params".to_owned(), json!({}));
    body.insert("completed".to_owned(), json!([]));
    body.insert("session".to_owned(), session.into());
    if let Some((errcode, error)) = error {
        body.insert("errcode".to_owned(), errcode.into());
        body.insert("error".to_owned(), error.into());
    }
    MatrixError::interactive(body)
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    #[test]
    fn a_session_counts_for_its_operation_and_user_until_it_ends() {
        let sessions = Sessions::default();
        let (alice, bob) = (user_id!("@alice:x"), user_id!("@bob:x"));
        sessions.begin("s".to_owned(), "DELETE /devices/A", Some(alice), &[], 0);
        assert!(sessions.is_for("s", "DELETE /devices/A", Some(alice), 1));
        assert!(!sessions.is_for("s", "DELETE /devices/B", Some(alice), 1));
        assert!(!sessions.is_for("s", "DELETE /devices/A", Some(bob), 1));
        assert!(!sessions.is_for("s", "DELETE /devices/A", None, 1));
        assert!(!sessions.is_for("s", "DELETE /devices/A", Some(alice), SESSION_MS));
        sessions.end("s");
        assert!(!sessions.is_for("s", "DELETE /devices/A", Some(alice), 1));
    }

    #[test]
    fn sessions_are_bounded_and_the_oldest_goes_first() {
        let sessions = Sessions::default();
        for number in 0..MAX_SESSIONS as u64 + 10 {
            sessions.begin(format!("{number:06}"), "x", None, &[], number);
        }
        assert_eq!(sessions.0.lock().unwrap().len(), MAX_SESSIONS);
        assert!(!sessions.is_for("000009", "x", None, 5000));
        assert!(sessions.is_for("000010", "x", None, 5000));
    }
}
