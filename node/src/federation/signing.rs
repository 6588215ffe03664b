//! What a signature of a request between servers covers. Server-server specification, "Request Authentication".
//!
//! By `ruma`, except where a body holds numbers that canonical JSON does not know: events of room versions 1 to 5 may, and
//! whoever sends or passes on such an event signs it as it is.

use http::{Request, header};
use kith_room::document::text_with_any_numbers;
use ruma::{
    ServerName,
    api::{
        auth_scheme::AuthScheme as _,
        federation::authentication::{ServerSignatures, XMatrixSigningInput},
    },
    signatures::{Ed25519KeyPair, KeyPair as _},
};
use serde_json::json;

/// The text that the signature of a request with a body covers, with the numbers in it as they are written. None if the body is
/// no JSON.
pub fn text_of<B: AsRef<[u8]>>(request: &Request<B>, origin: &ServerName, destination: &ServerName) -> Option<String> {
    let body = std::str::from_utf8(request.body().as_ref()).ok()?;
    let content = text_with_any_numbers(body).ok()?;
    let uri = request.uri().path_and_query()?;
    let [destination, method, origin, uri] =
        [destination.as_str(), request.method().as_str(), origin.as_str(), uri.as_str()].map(|text| json!(text));
    Some(format!(
        r#"{{"content":{content},"destination":{destination},"method":{method},"origin":{origin},"uri":{uri}}}"#
    ))
}

/// Signs a request in the name of `origin`.
///
/// # Errors
/// Why it cannot be signed.
pub(super) fn sign(
    request: &mut Request<Vec<u8>>,
    origin: &ServerName,
    destination: &ServerName,
    key: &Ed25519KeyPair,
) -> Result<(), String> {
    let input = XMatrixSigningInput::new(origin.to_owned(), destination.to_owned(), key);
    let Err(error) = ServerSignatures::add_authentication(request, input) else { return Ok(()) };
    let signed = text_of(request, origin, destination).ok_or_else(|| error.to_string())?;
    let signature = key.sign(signed.as_bytes());
    let (id, signature) = (signature.id(), signature.base64());
    let value = format!(r#"X-Matrix origin="{origin}",destination="{destination}",key="{id}",sig="{signature}""#);
    let value = header::HeaderValue::from_str(&value).map_err(|error| error.to_string())?;
    request.headers_mut().insert(header::AUTHORIZATION, value);
    Ok(())
}
