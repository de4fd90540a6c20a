//! What people compare: a host's key, hashed.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64_NOPAD;
use sha2::{Digest, Sha256};

const WORD: &str = "SHA256:";

/// A host's key, as SHA-256 of its SubjectPublicKeyInfo (DER, RFC 5280 §4.1.2.7). It stays the same whoever signs the
/// host's certificate.
///
/// Written as ssh writes its own: `SHA256:` and 43 characters of base64 without padding. Each fingerprint has one text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// Some text is no fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no fingerprint; one is SHA256: and 43 characters of base64, as irm identity show prints it")]
pub struct BadFingerprint(String);

impl Fingerprint {
    /// That of a public key, given as DER of its SubjectPublicKeyInfo.
    pub fn of_public_key(spki: &[u8]) -> Self {
        Self(Sha256::digest(spki).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{WORD}{}", BASE64_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = BadFingerprint;

    fn from_str(text: &str) -> Result<Self, BadFingerprint> {
        // What is said of nonsense is short, however long the nonsense.
        let bad = || BadFingerprint(text.chars().take(64).collect());
        let hash = text.strip_prefix(WORD).filter(|hash| hash.len() == 43).ok_or_else(bad)?;
        let bytes = BASE64_NOPAD.decode(hash.as_bytes()).map_err(|_| bad())?;
        bytes.try_into().map(Self).map_err(|_| bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_printed_is_read() {
        // sha256sum and base64 say the same of these bytes.
        let print = Fingerprint::of_public_key(b"key");
        let text = "SHA256:LHDhK3oGRvkiefQnx7OOczTY5Tic/xZ6HcMOc/gmtoM";
        assert_eq!(print.to_string(), text);
        assert_eq!(text.parse(), Ok(print));
        let hash = &text[7..];
        let lower = format!("sha256:{hash}");
        for nonsense in ["", "SHA256:", hash, &text[..49], &format!("{text}="), &format!("{text} "), &lower, "MD5:00"] {
            assert!(nonsense.parse::<Fingerprint>().is_err(), "{nonsense}");
        }
        assert!("SHA256:\u{e9}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".parse::<Fingerprint>().is_err());
    }

    proptest::proptest! {
        #[test]
        fn every_fingerprint_has_one_text(bytes: [u8; 32]) {
            proptest::prop_assert_eq!(Fingerprint(bytes).to_string().parse(), Ok(Fingerprint(bytes)));
        }

        #[test]
        fn whatever_is_read_is_printed_the_same(text in "(SHA256:)?[A-Za-z0-9+/=]{40,46}") {
            if let Ok(print) = text.parse::<Fingerprint>() {
                proptest::prop_assert_eq!(print.to_string(), text);
            }
        }
    }
}
