//! Names as URIs.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use proto::Name;

const SCHEME: &str = "flow:";

/// All but RFC 3986's unreserved characters, which need no encoding.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A name as a certificate says it: `flow:` and its UTF-8 bytes, percent-encoded (RFC 3986 §2.1). Each name has one URI.
pub fn name_uri(name: &Name) -> String {
    format!("{SCHEME}{}", utf8_percent_encode(name.as_str(), ENCODED))
}

/// The name of a URI that [`name_uri`] made; of no other.
pub fn uri_name(uri: &str) -> Option<Name> {
    let bytes: Vec<u8> = percent_decode_str(uri.strip_prefix(SCHEME)?).collect();
    let name = Name::from_bytes(&bytes).ok()?;
    (name_uri(&name) == uri).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_as_uris() {
        let table = [
            ("echo", "flow:echo"),
            ("game.q2", "flow:game.q2"),
            ("a_b-c~d", "flow:a_b-c~d"),
            ("100%", "flow:100%25"),
            ("a/b?c#d", "flow:a%2Fb%3Fc%23d"),
            ("flöte", "flow:fl%C3%B6te"),
        ];
        for (name, uri) in table {
            assert_eq!(name_uri(&Name::new(name).unwrap()), uri);
            assert_eq!(uri_name(uri), Name::new(name).ok());
        }
        for other in [
            "",
            "echo",
            "flow:",
            "FLOW:echo",
            "flow:%65cho",
            "flow:a%2fb",
            "flow:a/b",
            "flow:%FF",
            "flow:a%20b",
            "flow:%2",
        ] {
            assert_eq!(uri_name(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn each_name_has_one_uri(text in "\\PC{1,80}") {
            if let Ok(name) = Name::new(&text) {
                let uri = name_uri(&name);
                prop_assert!(uri.is_ascii());
                prop_assert_eq!(uri_name(&uri), Some(name));
            }
        }

        #[test]
        fn each_uri_that_is_read_is_the_one_of_its_name(text in "(flow:)?[a-z%0-9A-F./~é]{0,20}") {
            if let Some(name) = uri_name(&text) {
                prop_assert_eq!(name_uri(&name), text);
            }
        }
    }
}
