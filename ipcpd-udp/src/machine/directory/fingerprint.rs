//! Fingerprints of hosts' keys, as the directory carries them. What they are of is irmd's and the programs' business.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64_NOPAD;

const KIND: &str = "SHA256:";

/// SHA-256 over a host's public key; written `SHA256:` and 43 characters of base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// It is written otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no fingerprint of a key: that is SHA256: and 43 characters of base64")]
pub struct NoFingerprint;

impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    fn from_str(text: &str) -> Result<Self, NoFingerprint> {
        let digits = text.strip_prefix(KIND).ok_or(NoFingerprint)?;
        let bytes = BASE64_NOPAD.decode(digits.as_bytes()).map_err(|_| NoFingerprint)?;
        bytes.try_into().map(Self).map_err(|_| NoFingerprint)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KIND}{}", BASE64_NOPAD.encode_display(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";

    #[test]
    fn one_way_to_write_it() {
        assert_eq!(GOOD.parse::<Fingerprint>().unwrap().to_string(), GOOD);
        let bad = [
            String::new(),
            "SHA256:".into(),
            GOOD.replace("SHA256", "sha256"),
            GOOD.replace("SHA256:", ""),
            GOOD.replace("SHA256", "SHA512"),
            GOOD.replace('+', "-"),
            format!("{GOOD}="),
            format!("{GOOD}A"),
            format!(" {GOOD}"),
            GOOD[..GOOD.len() - 1].to_owned(),
            // Bits behind the last byte: another way to write the same.
            GOOD.replace("uFU", "uFV"),
        ];
        for text in bad {
            assert_eq!(text.parse::<Fingerprint>(), Err(NoFingerprint), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn reading_is_total_and_writing_turns_it_back(bytes: [u8; 32], text: String) {
            let _ = text.parse::<Fingerprint>();
            let fingerprint = Fingerprint(bytes);
            prop_assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        }
    }
}
