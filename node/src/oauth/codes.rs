//! Authorization codes (RFC 6749, section 4.1.2): good for a minute, once. Kept in memory by their hash; one that was used is
//! remembered for ten minutes, so that a second use ends what the first got.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kith_store::tables::accounts::{OauthRow, TokenHash};
use ruma::{OwnedUserId, UserId};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::accounts::tokens::hash;

/// How long a code is good, in milliseconds.
pub(super) const CODE_MS: u64 = 60 * 1000;
/// How long a used code is remembered.
const REMEMBERED_MS: u64 = 10 * 60 * 1000;
/// Codes at once; beyond it the one that ends first goes.
const MAX_CODES: usize = 1000;

/// What a user has granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) user: OwnedUserId,
    pub(super) device: String,
    /// How the device signs in.
    pub(super) oauth: OauthRow,
}

/// What a code stands for.
#[derive(Debug, Clone)]
pub(super) struct Code {
    pub(super) grant: Grant,
    pub(super) redirect_uri: String,
    /// The SHA-256 of the client's verifier, base64url.
    pub(super) challenge: String,
}

/// What came of showing a code.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// It was good, and is spent.
    Good(Grant),
    /// It was used before: what it brought must end.
    Again(Grant),
    /// It is worth nothing, for this reason.
    Bad(&'static str),
}

#[derive(Debug)]
struct Entry {
    code: Code,
    spent: bool,
    /// Monotonic milliseconds.
    expires: u64,
}

/// All codes.
#[derive(Debug, Default)]
pub(super) struct Codes(Mutex<BTreeMap<TokenHash, Entry>>);

impl Codes {
    /// Takes a code in.
    pub(super) fn insert(&self, text: &str, code: Code, now: u64) {
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if codes.len() >= MAX_CODES {
            codes.retain(|_, entry| entry.expires > now);
        }
        if codes.len() >= MAX_CODES
            && let Some(first) = codes.iter().min_by_key(|(_, entry)| entry.expires).map(|(hash, _)| *hash)
        {
            codes.remove(&first);
        }
        codes.insert(hash(text), Entry { code, spent: false, expires: now.saturating_add(CODE_MS) });
    }

    /// Takes back a user's codes. Those that were used stay known, so that a second use still tells.
    pub(super) fn forget(&self, user: &UserId) {
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        codes.retain(|_, entry| entry.spent || entry.code.grant.user != user);
    }

    /// Whether there is such a code, good or used.
    pub(super) fn knows(&self, text: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&hash(text))
    }

    /// Shows a code. Wrong company does not spend it: who has the verifier may still come.
    pub(super) fn show(&self, text: &str, client: &str, redirect_uri: &str, verifier: &str, now: u64) -> Shown {
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = codes.get_mut(&hash(text)).filter(|entry| entry.expires > now) else {
            return Shown::Bad("the code has expired, or never was one");
        };
        if entry.spent {
            return Shown::Again(entry.code.grant.clone());
        }
        if entry.code.grant.oauth.client != client {
            return Shown::Bad("the code is another client's");
        }
        if entry.code.redirect_uri != redirect_uri {
            return Shown::Bad("`redirect_uri` is not the one of the authorization request");
        }
        if !answers(&entry.code.challenge, verifier) {
            return Shown::Bad("`code_verifier` does not answer the challenge");
        }
        entry.spent = true;
        entry.expires = now.saturating_add(REMEMBERED_MS);
        Shown::Good(entry.code.grant.clone())
    }
}

/// Whether a challenge is one of the method `S256` (RFC 7636, section 4.2).
pub(super) fn is_challenge(challenge: &str) -> bool {
    challenge.len() == 43 && challenge.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
}

fn answers(challenge: &str, verifier: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_' | b'~');
    (43..=128).contains(&verifier.len())
        && verifier.bytes().all(allowed)
        && URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)).as_bytes().ct_eq(challenge.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    /// RFC 7636, appendix B.
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    fn code() -> Code {
        let oauth = OauthRow { client: "c".into(), scope: "s".into(), session: "n".into() };
        let grant = Grant { user: "@alice:x".try_into().unwrap(), device: "D".into(), oauth };
        Code { grant, redirect_uri: "r".into(), challenge: CHALLENGE.into() }
    }

    #[test]
    fn a_code_is_good_once_for_its_client_address_and_verifier() {
        let codes = Codes::default();
        codes.insert("x", code(), 0);
        let other = "a".repeat(43);
        for (text, client, uri, verifier, now) in [
            ("y", "c", "r", VERIFIER, 1),
            ("x", "d", "r", VERIFIER, 1),
            ("x", "c", "q", VERIFIER, 1),
            ("x", "c", "r", other.as_str(), 1),
            ("x", "c", "r", "", 1),
            ("x", "c", "r", CHALLENGE, 1),
            ("x", "c", "r", VERIFIER, CODE_MS),
        ] {
            assert!(matches!(codes.show(text, client, uri, verifier, now), Shown::Bad(_)), "{text} {client} {uri}");
        }
        assert_eq!(codes.show("x", "c", "r", VERIFIER, CODE_MS - 1), Shown::Good(code().grant));
        assert_eq!(codes.show("x", "c", "r", VERIFIER, CODE_MS), Shown::Again(code().grant));
        assert!(matches!(codes.show("x", "c", "r", VERIFIER, CODE_MS + REMEMBERED_MS), Shown::Bad(_)));
    }

    #[test]
    fn codes_are_bounded() {
        let codes = Codes::default();
        for number in 0..=MAX_CODES as u64 {
            codes.insert(&number.to_string(), code(), number);
        }
        assert_eq!(codes.0.lock().unwrap().len(), MAX_CODES);
        assert!(matches!(codes.show("0", "c", "r", VERIFIER, 1), Shown::Bad(_)));
    }

    #[test]
    fn a_challenge_is_a_sha_256() {
        assert!(is_challenge(CHALLENGE));
        for bad in ["", "x", &CHALLENGE[1..], &format!("{CHALLENGE}A"), &CHALLENGE.replace('-', "+")] {
            assert!(!is_challenge(bad), "{bad}");
        }
    }
}
