//! Who may make an account (`registration.mode`), and the one-use registration tokens behind the setup link.
//!
//! A stored token is 128 random bits or more, expires, is kept as its hash and is deleted by the very change that makes
//! the account: two requests with one token make one account. A web page in the owner's browser cannot use it: the
//! secret is in the link's fragment only, and is never answered by any endpoint.

use std::sync::Arc;

use kith_store::tables::accounts::{REGISTRATION_TOKENS, RegistrationTokenRow, TokenHash, UserRow};
use kith_store::{Json, Read, StoreError, Tx};
use ruma::OwnedUserId;
use subtle::ConstantTimeEq as _;

use super::devices::{NewDevice, SignIn};
use super::limits::{self, Action};
use super::tokens::{Tokens, hash};
use super::uia::Stage;
use super::{password, users};
use crate::Node;
use crate::config::RegistrationMode;
use crate::http::{Anonymous, Answer, MatrixError};

/// One-use tokens that may wait at once.
const MAX_TOKENS: usize = 1000;

/// What a registration token is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// One of `registration.tokens`: good for any number of accounts.
    Standing,
    /// A stored one: good for one account.
    OneUse,
    /// Nothing.
    Unknown,
}

/// Makes the token of a setup link, good for the first account, which will administer the node. Earlier setup tokens
/// end. None when there is an account already.
///
/// # Errors
/// As all writes.
pub async fn setup_token(node: &Arc<Node>, valid_ms: u64) -> Answer<Option<String>> {
    let token = node.rng.token(27);
    let (hash, now) = (hash(&token), node.clock.now_ms());
    let made = node
        .store
        .write(move |tx| {
            if users::any(tx)? {
                return Ok::<_, MatrixError>(false);
            }
            delete_where(tx, |row| row.admin || row.expires <= now)?;
            let row = RegistrationTokenRow { expires: now.saturating_add(valid_ms), admin: true };
            REGISTRATION_TOKENS.put(tx, &hash, &Json(row))?;
            Ok(true)
        })
        .await?;
    Ok(made.then_some(token))
}

/// Ends the setup link: it makes the first account or none.
///
/// # Errors
/// As all writes.
pub(crate) fn end_setup(tx: &mut Tx) -> Result<(), StoreError> {
    delete_where(tx, |row| row.admin)
}

/// Makes a token that is good for one ordinary account within `valid_ms`.
///
/// # Errors
/// `M_LIMIT_EXCEEDED` when very many wait.
pub async fn invite_token(node: &Arc<Node>, valid_ms: u64) -> Answer<String> {
    let token = node.rng.token(27);
    let (hash, now) = (hash(&token), node.clock.now_ms());
    node.store
        .write(move |tx| {
            delete_where(tx, |row| row.expires <= now)?;
            if REGISTRATION_TOKENS.range(tx, ..)?.count() >= MAX_TOKENS {
                return Err(MatrixError::limit_exceeded(valid_ms));
            }
            let row = RegistrationTokenRow { expires: now.saturating_add(valid_ms), admin: false };
            Ok(REGISTRATION_TOKENS.put(tx, &hash, &Json(row))?)
        })
        .await?;
    Ok(token)
}

/// What `token` is worth now.
///
/// # Errors
/// As all reads.
pub fn check(node: &Node, token: &str) -> Answer<Checked> {
    if node.config.registration.mode == RegistrationMode::Token
        && node
            .config
            .registration
            .tokens
            .iter()
            // Each is compared, so that the time tells nothing.
            .fold(false, |found, known| found | bool::from(known.expose().as_bytes().ct_eq(token.as_bytes())))
    {
        return Ok(Checked::Standing);
    }
    if node.config.registration.mode == RegistrationMode::Closed {
        return Ok(Checked::Unknown);
    }
    let row = node.store.read(|read| REGISTRATION_TOKENS.get(read, &hash(token)))?;
    Ok(match row {
        Some(Json(row)) if row.expires > node.clock.now_ms() => Checked::OneUse,
        _ => Checked::Unknown,
    })
}

/// As [`check`], for a caller whose guesses are limited by its address. A good one-use token always passes: it is too long
/// to be guessed, and otherwise any web page open on the owner's device could use up the tries of the setup link.
///
/// # Errors
/// `M_LIMIT_EXCEEDED`; as all reads.
pub(crate) fn check_limited(node: &Node, from: &Anonymous, token: &str) -> Answer<Checked> {
    let checked = check(node, token)?;
    if checked != Checked::OneUse {
        limits::check_address(node, Action::Question, from)?;
    }
    Ok(checked)
}

/// The stages (each a flow of its own) by which an account can be made now.
///
/// # Errors
/// `M_FORBIDDEN` when none can.
pub(crate) fn stages(node: &Node) -> Answer<&'static [Stage]> {
    const TOKEN: &[Stage] = &[Stage::RegistrationToken];
    match node.config.registration.mode {
        RegistrationMode::Open => Ok(&[Stage::Dummy]),
        RegistrationMode::Token => Ok(TOKEN),
        RegistrationMode::Setup if node.store.read(|read| any_token(read, node.clock.now_ms()))? => Ok(TOKEN),
        RegistrationMode::Setup | RegistrationMode::Closed => Err(MatrixError::forbidden(
            "accounts cannot be made here; the owner of this node can make one with `kith user add`",
        )),
    }
}

fn any_token(read: &dyn Read, now: u64) -> Result<bool, StoreError> {
    for row in REGISTRATION_TOKENS.range(read, ..)? {
        if row?.1.0.expires > now {
            return Ok(true);
        }
    }
    Ok(false)
}

fn delete_where(tx: &mut Tx, which: impl Fn(&RegistrationTokenRow) -> bool) -> Result<(), StoreError> {
    let mut hashes = Vec::new();
    for row in REGISTRATION_TOKENS.range(tx, ..)? {
        let (hash, row) = row?;
        if which(&row.0) {
            hashes.push(hash);
        }
    }
    for hash in hashes {
        REGISTRATION_TOKENS.delete(tx, &hash)?;
    }
    Ok(())
}

/// Makes the account of a user of an application service's, and signs a device in if one is wanted.
///
/// # Errors
/// `M_USER_IN_USE`; those of signing in.
pub(crate) async fn register_for_service(
    node: &Arc<Node>,
    user_id: OwnedUserId,
    device: Option<NewDevice>,
) -> Answer<Option<(ruma::OwnedDeviceId, Tokens)>> {
    let now = node.clock.now_ms();
    let sign_in = device.map(|device| SignIn::prepare(&node.rng, now, device)).transpose()?;
    let answer = sign_in.as_ref().map(|sign_in| (sign_in.device_id.clone(), sign_in.tokens.clone()));
    node.store
        .write(move |tx| {
            let row = UserRow { created: now, service: true, ..UserRow::default() };
            users::insert(tx, &user_id, row)?;
            sign_in.map_or(Ok(()), |sign_in| sign_in.commit(tx, &user_id))
        })
        .await?;
    Ok(answer)
}

/// An account to be made over the client API.
pub(crate) struct NewAccount<'a> {
    pub(crate) user_id: OwnedUserId,
    pub(crate) password: &'a str,
    /// The one-use token that pays for it.
    pub(crate) token: Option<TokenHash>,
    pub(crate) admin: bool,
    /// The device to sign in at once; none: `inhibit_login`.
    pub(crate) device: Option<NewDevice>,
}

/// Makes an account, spends its token and signs its first device in, all in one change.
///
/// # Errors
/// `M_USER_IN_USE`; `M_FORBIDDEN` when the token was spent meanwhile; those of hashing and signing in.
pub(crate) async fn register(
    node: &Arc<Node>,
    account: NewAccount<'_>,
) -> Answer<Option<(ruma::OwnedDeviceId, Tokens)>> {
    let hash = password::hash(node, account.password).await?;
    let now = node.clock.now_ms();
    let sign_in = match account.device {
        Some(device) => Some(SignIn::prepare(&node.rng, now, device)?),
        None => None,
    };
    let answer = sign_in.as_ref().map(|sign_in| (sign_in.device_id.clone(), sign_in.tokens.clone()));
    let (user_id, token, mut admin) = (account.user_id, account.token, account.admin);
    node.store
        .write(move |tx| {
            if let Some(token) = token {
                let row = REGISTRATION_TOKENS.get(tx, &token)?.filter(|row| row.0.expires > now);
                let Some(Json(row)) = row else {
                    return Err(MatrixError::forbidden("the registration token was used or has expired"));
                };
                REGISTRATION_TOKENS.delete(tx, &token)?;
                admin |= row.admin;
            }
            let row = UserRow { password: Some(hash), admin, created: now, ..UserRow::default() };
            users::insert(tx, &user_id, row)?;
            match sign_in {
                Some(sign_in) => sign_in.commit(tx, &user_id),
                None => Ok(()),
            }
        })
        .await?;
    Ok(answer)
}
