//! Text in URLs.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but the unreserved characters of RFC 3986, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Text as one part of a path, as a value of a query, or as an extended value of a header (RFC 8187): percent-encoded, whatever
/// is in it.
pub fn escaped(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_end_a_part_of_a_path_or_is_not_ascii_is_escaped() {
        assert_eq!(escaped("!a-b_c.d~e:x/y?z#%&=+ \u{e4}"), "%21a-b_c.d~e%3Ax%2Fy%3Fz%23%25%26%3D%2B%20%C3%A4");
    }
}
