//! Names of services.

use std::fmt;
use std::sync::Arc;

/// A name that programs allocate flows to: 1 to 255 bytes of UTF-8 without control characters or white space.
///
/// 255 bytes is the longest name a classic shim takes (`wire/`); NUL ends the name in a request.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why some text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// No bytes at all.
    Empty,
    /// More than [`Name::MAX`] bytes.
    TooLong,
    /// Not UTF-8.
    NotText,
    /// A control character (NUL among them) or white space.
    BadCharacter,
}

impl Name {
    /// Longest name, bytes.
    pub const MAX: usize = 255;

    /// Checks `text` against the rules above.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > Self::MAX {
            return Err(NameError::TooLong);
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(NameError::BadCharacter);
        }
        Ok(Self(text.into()))
    }

    /// The same for bytes from the wire.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NameError> {
        // Length first: a datagram of 64 KiB need not be checked for UTF-8.
        if bytes.len() > Self::MAX {
            return Err(NameError::TooLong);
        }
        Self::new(std::str::from_utf8(bytes).map_err(|_| NameError::NotText)?)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a name has at least one character",
            Self::TooLong => "a name has at most 255 bytes",
            Self::NotText => "a name is UTF-8 text",
            Self::BadCharacter => "a name has no white space and no control characters",
        })
    }
}

impl std::error::Error for NameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        let longest = "a".repeat(255);
        let too_long = "a".repeat(256);
        let table = [
            ("echo", Ok(())),
            ("spiel.flöte", Ok(())),
            (longest.as_str(), Ok(())),
            (too_long.as_str(), Err(NameError::TooLong)),
            ("", Err(NameError::Empty)),
            ("two words", Err(NameError::BadCharacter)),
            ("nul\0", Err(NameError::BadCharacter)),
            ("line\n", Err(NameError::BadCharacter)),
        ];
        for (text, want) in table {
            assert_eq!(Name::new(text).map(|_| ()), want, "{text:?}");
        }
        assert_eq!(Name::from_bytes(&[0xff]), Err(NameError::NotText));
    }
}
