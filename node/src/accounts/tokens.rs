//! Access and refresh tokens (client-server specification, "Client Authentication").
//!
//! A token is 256 random bits; the store knows its SHA-256 only. With refresh tokens an access token lives
//! [`ACCESS_TOKEN_MS`]; both tokens of a refresh stay good until one of the next pair is used, so that an answer that
//! got lost locks nobody out. Of devices that signed in by OAuth 2.0 the refresh tokens before that are remembered: one that is
//! shown again was stolen, and ends the device ("Refresh token grant").

use std::sync::Arc;

use http::{Method, Uri};
use kith_store::tables::accounts::{DEVICE_TOKENS, DEVICES, OauthRow, TOKENS, TokenHash, TokenRow, USERS};
use kith_store::{Json, Read, StoreError, Tx};
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use sha2::{Digest as _, Sha256};

use super::SEEN_EVERY_MS;
use crate::Node;
use crate::appservice;
use crate::http::{Anonymous, Answer, MatrixError, Session};
use crate::platform::Rng;

/// How long an access token lives whose client can refresh it.
pub const ACCESS_TOKEN_MS: u64 = 60 * 60 * 1000;
/// Spent refresh tokens remembered of a device.
const SPENT: u64 = 4;
/// The longest token looked at.
const MAX_TOKEN: usize = 512;

/// Tokens as a client gets them.
#[derive(Clone)]
pub struct Tokens {
    /// The access token.
    pub access: String,
    /// The refresh token, when the client asked for one.
    pub refresh: Option<String>,
    /// How long the access token lives in milliseconds; none: until it is signed out.
    pub expires_in_ms: Option<u64>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("expires_in_ms", &self.expires_in_ms).finish_non_exhaustive()
    }
}

impl Tokens {
    /// New tokens, not stored yet.
    pub(crate) fn new(rng: &Rng, refreshable: bool) -> Self {
        // 43 characters of six bits: more than 256.
        Self {
            access: format!("kat_{}", rng.token(43)),
            refresh: refreshable.then(|| format!("krt_{}", rng.token(43))),
            expires_in_ms: refreshable.then_some(ACCESS_TOKEN_MS),
        }
    }
}

/// What a token is stored under.
pub(crate) fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// Stores tokens for a device.
pub(crate) fn store(
    tx: &mut Tx,
    user: &UserId,
    device: &DeviceId,
    tokens: &Tokens,
    now_ms: u64,
    generation: u64,
) -> Result<(), StoreError> {
    let row = |refresh: bool| TokenRow {
        user: user.to_string(),
        device: device.to_string(),
        expires: if refresh { None } else { tokens.expires_in_ms.map(|ms| now_ms.saturating_add(ms)) },
        refresh,
        generation,
        unused: generation > 0,
        spent: false,
    };
    put(tx, hash(&tokens.access), row(false))?;
    match &tokens.refresh {
        Some(token) => put(tx, hash(token), row(true)),
        None => Ok(()),
    }
}

fn put(tx: &mut Tx, hash: TokenHash, row: TokenRow) -> Result<(), StoreError> {
    DEVICE_TOKENS.put(tx, &(row.user.clone(), row.device.clone(), hash), &())?;
    TOKENS.put(tx, &hash, &Json(row))
}

/// Deletes those tokens of a device that `which` picks.
pub(crate) fn delete(
    tx: &mut Tx,
    user: &str,
    device: &str,
    which: impl Fn(&TokenRow) -> bool,
) -> Result<(), StoreError> {
    for hash in of_device(tx, user, device)? {
        if TOKENS.get(tx, &hash)?.is_none_or(|row| which(&row.0)) {
            TOKENS.delete(tx, &hash)?;
            DEVICE_TOKENS.delete(tx, &(user.to_owned(), device.to_owned(), hash))?;
        }
    }
    Ok(())
}

fn of_device(read: &dyn Read, user: &str, device: &str) -> Result<Vec<TokenHash>, StoreError> {
    DEVICE_TOKENS
        .prefix(read, &(user.to_owned(), device.to_owned()))?
        .map(|row| row.map(|((_, _, hash), ())| hash))
        .collect()
}

/// The signed-in device that an access token stands for, if its user may make a request of this method to this URI. An
/// application service's token stands for whom the URI names. Also notes,
/// some minutes coarse, that the device was seen.
///
/// # Errors
/// `M_UNKNOWN_TOKEN`, with `soft_logout` when it expired and can be refreshed; `M_USER_DEACTIVATED`, `M_USER_LOCKED`,
/// `M_USER_SUSPENDED`.
pub async fn authenticate(
    node: &Arc<Node>,
    token: &str,
    from: Anonymous,
    method: &Method,
    uri: &Uri,
) -> Answer<Session> {
    if token.len() > MAX_TOKEN {
        return Err(MatrixError::unknown_token(false));
    }
    if let Some(service) = node.appservices.by_token(token) {
        return appservice::authenticate(node, service, from, method, uri);
    }
    let hash = hash(token);
    let (row, user) = node.store.read(|read| {
        let row = TOKENS.get(read, &hash)?.ok_or_else(|| MatrixError::unknown_token(false))?.0;
        let user = USERS.get(read, &row.user)?.ok_or_else(|| MatrixError::unknown_token(false))?.0;
        Ok::<_, MatrixError>((row, user))
    })?;
    if row.refresh {
        return Err(MatrixError::unknown_token(false));
    }
    if row.expires.is_some_and(|expires| node.clock.now_ms() >= expires) {
        return Err(MatrixError::unknown_token(true));
    }
    if user.deactivated.is_some() {
        return Err(super::users::is_deactivated());
    }
    super::standing::check(&user, method, uri.path())?;
    if row.unused {
        let row = row.clone();
        node.store.write(move |tx| confirm(tx, hash, &row)).await?;
    }
    note_seen(node, &row, &from);
    let user_id = OwnedUserId::try_from(row.user).map_err(MatrixError::internal)?;
    Ok(Session { user_id, device_id: OwnedDeviceId::from(row.device), admin: user.admin, appservice: None, from })
}

/// First use of a pair of tokens: the pair before it ends.
fn confirm(tx: &mut Tx, hash: TokenHash, row: &TokenRow) -> Result<(), MatrixError> {
    if !TOKENS.contains(tx, &hash)? {
        return Err(MatrixError::unknown_token(false));
    }
    let remembered = oauth_of(tx, row)?.map_or(0, |_| SPENT);
    delete(tx, &row.user, &row.device, |other| {
        other.generation < row.generation
            && !(other.refresh && other.generation.saturating_add(remembered) >= row.generation)
    })?;
    for hash in of_device(tx, &row.user, &row.device)? {
        if let Some(Json(mut other)) = TOKENS.get(tx, &hash)?
            && other.generation <= row.generation
        {
            other.unused = false;
            other.spent = other.generation < row.generation;
            TOKENS.put(tx, &hash, &Json(other))?;
        }
    }
    Ok(())
}

/// How the device of a token signed in by OAuth 2.0, if it did.
fn oauth_of(read: &dyn Read, row: &TokenRow) -> Result<Option<OauthRow>, StoreError> {
    Ok(DEVICES.get(read, &(row.user.clone(), row.device.clone()))?.and_then(|device| device.0.oauth))
}

/// Whether this is a refresh token that may still be good.
///
/// # Errors
/// As all reads.
pub(crate) fn is_refresh_token(read: &dyn Read, token: &str) -> Result<bool, StoreError> {
    Ok(token.len() <= MAX_TOKEN && TOKENS.get(read, &hash(token))?.is_some_and(|row| row.0.refresh && !row.0.spent))
}

/// Exchanges a refresh token for new tokens. Not for devices that signed in by OAuth 2.0.
///
/// # Errors
/// `M_UNKNOWN_TOKEN`, `M_USER_DEACTIVATED`, `M_USER_LOCKED`.
pub async fn refresh(node: &Arc<Node>, token: &str) -> Answer<Tokens> {
    exchange(node, token, None).await.map(|(tokens, _)| tokens)
}

/// As [`refresh`], of a device that signed in by the OAuth client `client`. Also gives what its user granted.
///
/// # Errors
/// As [`refresh`].
pub(crate) async fn refresh_for_client(node: &Arc<Node>, token: &str, client: &str) -> Answer<(Tokens, String)> {
    let (tokens, oauth) = exchange(node, token, Some(client.to_owned())).await?;
    Ok((tokens, oauth.map(|oauth| oauth.scope).unwrap_or_default()))
}

async fn exchange(node: &Arc<Node>, token: &str, client: Option<String>) -> Answer<(Tokens, Option<OauthRow>)> {
    let unknown = || MatrixError::unknown_token(false);
    if token.len() > MAX_TOKEN {
        return Err(unknown());
    }
    let (hash, now) = (hash(token), node.clock.now_ms());
    let tokens = Tokens::new(&node.rng, true);
    let new = tokens.clone();
    let refreshed = node
        .store
        .write(move |tx| {
            let row = TOKENS.get(tx, &hash)?.filter(|row| row.0.refresh).ok_or_else(unknown)?.0;
            let oauth = oauth_of(tx, &row)?;
            if oauth.as_ref().map(|oauth| &oauth.client) != client.as_ref() {
                return Err(unknown());
            }
            if row.spent {
                let user = OwnedUserId::try_from(row.user).map_err(MatrixError::internal)?;
                super::devices::delete(tx, &user, &row.device)?;
                return Ok(None);
            }
            let user = USERS.get(tx, &row.user)?.ok_or_else(unknown)?.0;
            if user.deactivated.is_some() {
                return Err(super::users::is_deactivated());
            }
            if user.locked {
                return Err(super::standing::is_locked());
            }
            if row.unused {
                confirm(tx, hash, &row)?;
            }
            // An answer to an earlier refresh with this token got lost: what it held was never used.
            delete(tx, &row.user, &row.device, |other| other.generation > row.generation)?;
            let user = OwnedUserId::try_from(row.user).map_err(MatrixError::internal)?;
            store(tx, &user, row.device.as_str().into(), &new, now, row.generation + 1)?;
            Ok(Some(oauth))
        })
        .await?;
    Ok((tokens, refreshed.ok_or_else(unknown)?))
}

/// Signs the device out that a token is of, whether access or refresh token; nothing if it is of none any more.
///
/// # Errors
/// As all writes.
pub(crate) async fn revoke(node: &Arc<Node>, token: &str) -> Answer<()> {
    if token.len() > MAX_TOKEN {
        return Ok(());
    }
    let hash = hash(token);
    node.store
        .write(move |tx| {
            let Some(Json(row)) = TOKENS.get(tx, &hash)?.filter(|row| !row.0.spent) else { return Ok(()) };
            let user = OwnedUserId::try_from(row.user).map_err(MatrixError::internal)?;
            super::devices::delete(tx, &user, &row.device)?;
            Ok(())
        })
        .await
}

/// Writes when and from where a device was seen, if that is some minutes old, or from where is not known. Nobody waits for it.
fn note_seen(node: &Arc<Node>, row: &TokenRow, from: &Anonymous) {
    let monotonic = u64::try_from(node.clock.monotonic().as_millis()).unwrap_or(u64::MAX);
    if !node.accounts.seen_is_due(&row.user, &row.device, monotonic) {
        return;
    }
    let key = (row.user.clone(), row.device.clone());
    let now = node.clock.now_ms();
    let (ip, agent) = (from.remote.map(|address| address.ip().to_string()), from.user_agent.clone());
    // Not awaited: nothing depends on it, and a full disk must not keep anybody from reading.
    drop(node.store.submit(move |tx| {
        if let Some(Json(mut device)) = DEVICES.get(tx, &key)?
            && (device.last_seen.is_none_or(|seen| now.abs_diff(seen) >= SEEN_EVERY_MS / 2) || device.last_ip.is_none())
        {
            device.last_seen = Some(now);
            device.last_ip = ip.or(device.last_ip);
            device.user_agent = agent.or(device.user_agent);
            DEVICES.put(tx, &key, &Json(device))?;
        }
        Ok::<_, StoreError>(())
    }));
}
