//! Parameters of queries and forms (RFC 6749, section 3.1): one that is empty counts as left out, none may come twice.

use std::collections::BTreeMap;

use axum::body::Body;
use http::Request;

use super::error::OauthError;
use crate::http::{Anonymous, endpoint};
use crate::{Node, http::Answer};
use std::sync::Arc;

/// The longest form, in bytes.
const LONGEST_FORM: usize = 16 << 10;

/// Parameters by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Parameters(BTreeMap<String, String>);

impl Parameters {
    /// Reads `application/x-www-form-urlencoded` text. None when a parameter comes twice.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let mut all = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(text) {
            if all.insert(name.into_owned(), value.into_owned()).is_some() {
                return None;
            }
        }
        all.retain(|_, value| !value.is_empty());
        Some(Self(all))
    }

    /// A parameter that is there.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A parameter that must be there.
    pub(super) fn required(&self, name: &str) -> Result<&str, OauthError> {
        self.get(name).ok_or_else(|| OauthError::invalid(format!("`{name}` is missing")))
    }

    /// The text again, without one of them.
    pub(super) fn without(&self, name: &str) -> String {
        let mut text = url::form_urlencoded::Serializer::new(String::new());
        text.extend_pairs(self.0.iter().filter(|(each, _)| *each != name));
        text.finish()
    }
}

/// Reads the form that a client posts to an endpoint.
pub(super) async fn posted(node: &Arc<Node>, request: Request<Body>) -> Result<(Anonymous, Parameters), OauthError> {
    let (from, body) = body(node, request).await?;
    let form = Parameters::parse(&body).ok_or_else(|| OauthError::invalid("a parameter comes twice"))?;
    Ok((from, form))
}

/// Reads a body that anybody may send.
pub(super) async fn body(node: &Arc<Node>, request: Request<Body>) -> Answer<(Anonymous, bytes::Bytes)> {
    let (from, _, request) = endpoint::admit_anybody(node, request).await?;
    let (_, _, body) = endpoint::read(request, LONGEST_FORM).await?;
    Ok((from, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_is_left_out_and_nothing_comes_twice() {
        let form = Parameters::parse(b"a=1&b=&c=x+y%26&%ff=%ff&d").unwrap();
        assert_eq!((form.get("a"), form.get("b"), form.get("c"), form.get("d")), (Some("1"), None, Some("x y&"), None));
        assert!(form.required("b").is_err());
        assert!(form.without("\u{fffd}").eq("a=1&c=x+y%26"));
        assert!(Parameters::parse(b"a=1&a=1").is_none());
    }
}
