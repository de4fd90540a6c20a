//! Seals of tickets: bytes that only the daemon that sealed them takes for true, under a key that it never shows.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Length of a key, bytes.
pub const KEY: usize = 32;
/// Length that a seal adds, bytes.
pub const SEAL: usize = 32;

/// `body` with its seal (HMAC-SHA-256) behind it.
pub fn seal(key: &[u8; KEY], mut body: Vec<u8>) -> Vec<u8> {
    let seal = mac(key, &body).finalize().into_bytes();
    body.extend(seal);
    body
}

/// What was sealed; `None` for any other bytes.
pub fn unseal<'a>(key: &[u8; KEY], sealed: &'a [u8]) -> Option<Reader<'a>> {
    let (body, seal) = sealed.split_at_checked(sealed.len().checked_sub(SEAL)?)?;
    mac(key, body).verify_slice(seal).ok()?;
    Some(Reader(body))
}

fn mac(key: &[u8; KEY], bytes: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key length will do");
    mac.update(bytes);
    mac
}

/// Reads numbers (in network order) and texts, one after the other; `None` where there are too few bytes.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    /// The next 2 bytes as a number.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// The next 4 bytes as a number.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next 8 bytes as a number.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A text with its length, one byte, before it.
    pub fn text(&mut self) -> Option<&'a str> {
        let [length] = self.array()?;
        let (text, rest) = self.0.split_at_checked(length.into())?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    /// Whether all has been read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A text with its length before it, as [`Reader::text`] reads it; cut at 255 bytes.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    let text = proto::clip(text, u8::MAX.into());
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn only_the_sealed_bytes_open(body in proptest::collection::vec(any::<u8>(), 0..99), at in any::<usize>()) {
            let key = [7; KEY];
            let sealed = seal(&key, body.clone());
            prop_assert_eq!(unseal(&key, &sealed).map(|reader| reader.0), Some(&body[..]));
            prop_assert!(unseal(&[8; KEY], &sealed).is_none());
            let at = at % sealed.len();
            prop_assert!(unseal(&key, &sealed[..at]).is_none());
            let mut forged = sealed;
            forged[at] ^= 1;
            prop_assert!(unseal(&key, &forged).is_none());
        }

        #[test]
        fn texts_are_read_as_they_were_put(text in "\\PC{0,200}") {
            let mut out = Vec::new();
            put_text(&mut out, &text);
            let mut reader = Reader(&out);
            let read = reader.text().unwrap();
            prop_assert!(text.starts_with(read) && reader.is_empty() && (read == text || read.len() > 251));
        }
    }
}
