//! Scopes (client-server specification, "Scope"): access to the whole client API, and the device that gets it.

/// The names of the scope for the whole API: the specification's, and the one of the proposal, which clients still use.
const API: [&str; 2] = ["urn:matrix:client:api:*", "urn:matrix:org.matrix.msc2967.client:api:*"];
/// What stands before the device's ID.
const DEVICE: [&str; 2] = ["urn:matrix:client:device:", "urn:matrix:org.matrix.msc2967.client:device:"];

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    /// The device.
    pub(super) device: String,
    /// The scope that is granted: what was asked for, by the names that were used, without what is not known here.
    pub(super) granted: String,
}

/// Reads a scope.
///
/// # Errors
/// What is wrong with it, for the client's developer.
pub(super) fn parse(scope: &str) -> Result<Scope, &'static str> {
    let (mut api, mut device, mut granted) = (false, None::<&str>, Vec::new());
    for token in scope.split(' ').filter(|token| !token.is_empty()) {
        if API.contains(&token) {
            api = true;
        } else if let Some(id) = DEVICE.iter().find_map(|start| token.strip_prefix(start)) {
            if device.is_some_and(|other| other != id) {
                return Err("the scope names two devices");
            }
            device = Some(id);
        } else {
            continue;
        }
        if !granted.contains(&token) {
            granted.push(token);
        }
    }
    let device = device.ok_or("the scope names no device: `urn:matrix:client:device:<device ID>`")?;
    if !api {
        return Err("the scope lacks `urn:matrix:client:api:*`, and there is nothing else to be had");
    }
    // RFC 6749, section 3.3.
    let allowed = |c: u8| c.is_ascii_graphic() && c != b'"' && c != b'\\';
    if device.is_empty() || device.len() > crate::accounts::devices::MAX_NAME || !device.bytes().all(allowed) {
        return Err("a device ID has 1 to 255 of the characters that a scope may hold");
    }
    Ok(Scope { device: device.to_owned(), granted: granted.join(" ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_has_the_api_and_one_device_by_either_name() {
        for (scope, device, granted) in [
            ("urn:matrix:client:api:* urn:matrix:client:device:ABC", "ABC", None),
            (
                "openid  urn:matrix:org.matrix.msc2967.client:api:* urn:matrix:org.matrix.msc2967.client:device:a.b~c",
                "a.b~c",
                Some("urn:matrix:org.matrix.msc2967.client:api:* urn:matrix:org.matrix.msc2967.client:device:a.b~c"),
            ),
            (
                "urn:matrix:client:device:X urn:matrix:client:api:* urn:matrix:org.matrix.msc2967.client:device:X",
                "X",
                None,
            ),
        ] {
            let parsed = parse(scope).unwrap();
            assert_eq!((parsed.device.as_str(), parsed.granted.as_str()), (device, granted.unwrap_or(scope)));
        }
        for bad in [
            "",
            "openid",
            "urn:matrix:client:api:*",
            "urn:matrix:client:device:ABC",
            "urn:matrix:client:api:* urn:matrix:client:device:",
            "urn:matrix:client:api:* urn:matrix:client:device:A urn:matrix:client:device:B",
            "urn:matrix:client:api:* urn:matrix:client:device:a\"b",
            "urn:matrix:client:api:* urn:matrix:client:device:\u{e4}",
            "urn:matrix:client:api:*\turn:matrix:client:device:A",
            &format!("urn:matrix:client:api:* urn:matrix:client:device:{}", "x".repeat(256)),
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
