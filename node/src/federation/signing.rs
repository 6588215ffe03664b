//! What the signature of a request between servers covers. Server-server specification, "Request Authentication".
//!
//! `ruma` signs what `serde_json` makes of the body. That is not always what the body says: numbers that canonical JSON does not
//! know (events of room versions 1 to 5 may hold them) are refused, and a key that `serde_json` uses for itself is misread. One
//! event with either in a transaction would hold up all that comes after it.

use http::{Request, header};
use kith_room::document::text_with_any_numbers;
use ruma::{
    ServerName,
    api::federation::authentication::XMatrix,
    serde::Base64,
    signatures::{Ed25519KeyPair, KeyPair as _},
};
use serde_json::json;

/// The text that is signed; none if the body is no JSON object.
pub fn signed_text<T: AsRef<[u8]>>(
    request: &Request<T>,
    origin: &ServerName,
    destination: &ServerName,
) -> Option<String> {
    let body = std::str::from_utf8(request.body().as_ref()).ok()?;
    let content = match body {
        "" => String::new(),
        body => format!(r#""content":{},"#, text_with_any_numbers(body).ok()?),
    };
    let uri = request.uri().path_and_query()?.as_str();
    let [destination, method, origin, uri] =
        [destination.as_str(), request.method().as_str(), origin.as_str(), uri].map(|text| json!(text));
    Some(format!(r#"{{{content}"destination":{destination},"method":{method},"origin":{origin},"uri":{uri}}}"#))
}

/// Signs a request; false if its body is no JSON object.
pub fn sign<T: AsRef<[u8]>>(
    request: &mut Request<T>,
    origin: &ServerName,
    destination: &ServerName,
    key: &Ed25519KeyPair,
) -> bool {
    let Some(text) = signed_text(request, origin, destination) else { return false };
    let signature = key.sign(text.as_bytes());
    kith_room::signature::made(&key.public_key(), signature.as_bytes(), text.as_bytes());
    let Ok(key_id) = signature.id().try_into() else { return false };
    let signature = Base64::new(signature.as_bytes().to_vec());
    let header = XMatrix::new(origin.to_owned(), destination.to_owned(), key_id, signature);
    request.headers_mut().insert(header::AUTHORIZATION, header::HeaderValue::from(&header));
    true
}
