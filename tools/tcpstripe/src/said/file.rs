//! What `tcpstripe send` says to `tcpstripe recv` over a group, and what it hears. Numbers in network order.
//!
//! The sender: six bytes `tcpsf` and the version 2, the length of the name (16 bits), the name (UTF-8), the file's length (64
//! bits), a byte (1: what is there of it is to be forgotten).
//! The receiver: a byte 2 and how many bytes of that file it has (64 bits).
//! The sender: if there are any, 32 bytes of SHA-256 of the file's first so many; then the others, and 32 bytes of SHA-256 of all.
//! The receiver: a byte 0 when the file is stored; or, at any time, a byte 1 and words why it is not.

/// What every transfer begins with.
const MAGIC: [u8; 6] = *b"tcpsf\x02";
/// Bytes before the name.
pub const FIXED: usize = 8;
/// Bytes behind the name.
pub const REST: usize = 9;
/// Bytes of the longest name.
pub const MAX_NAME: usize = 255;
/// The answer of who stored a file.
pub const STORED: u8 = 0;
/// The answer of who did not; words follow.
pub const NOT_STORED: u8 = 1;
/// The answer of who has so much of it and wants the rest.
pub const SEND: u8 = 2;

/// Which file comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Safe in any folder.
    pub name: String,
    /// Bytes.
    pub len: u64,
    /// What is there of it is to be forgotten.
    pub anew: bool,
}

/// What is wrong with a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFile {
    /// Something else than a transfer came.
    #[error("what came is no file of tcpstripe send of this version")]
    NoTransfer,
    /// A name that would leave the folder, or show as something else.
    #[error("its name is none for a file: 1 to 255 bytes, no '/', no control characters, not '.' or '..'")]
    Name,
}

/// A name that is safe in any folder.
pub fn check_name(name: &str) -> Result<(), BadFile> {
    let bad = name.is_empty()
        || name.len() > MAX_NAME
        || name == "."
        || name == ".."
        || name.chars().any(|c| c == '/' || c.is_control());
    if bad { Err(BadFile::Name) } else { Ok(()) }
}

impl Offer {
    /// What goes first.
    pub fn encode(&self) -> Result<Vec<u8>, BadFile> {
        check_name(&self.name)?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(u16::try_from(self.name.len()).map_err(|_| BadFile::Name)?.to_be_bytes());
        bytes.extend(self.name.as_bytes());
        bytes.extend(self.len.to_be_bytes());
        bytes.push(self.anew.into());
        Ok(bytes)
    }

    /// Of the name and the [`REST`] behind it.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadFile> {
        let (rest, anew) = bytes.split_last_chunk::<1>().ok_or(BadFile::NoTransfer)?;
        let (name, len) = rest.split_last_chunk().ok_or(BadFile::NoTransfer)?;
        let name = std::str::from_utf8(name).map_err(|_| BadFile::Name)?;
        check_name(name)?;
        Ok(Self { name: name.to_owned(), len: u64::from_be_bytes(*len), anew: anew[0] != 0 })
    }
}

/// How long the name is that follows.
pub fn name_len(fixed: [u8; FIXED]) -> Result<usize, BadFile> {
    let len = fixed.strip_prefix(&MAGIC[..]).and_then(|rest| rest.first_chunk()).ok_or(BadFile::NoTransfer)?;
    match usize::from(u16::from_be_bytes(*len)) {
        len @ 1..=MAX_NAME => Ok(len),
        _ => Err(BadFile::Name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(name: &str) -> Offer {
        Offer { name: name.to_owned(), len: 1 << 40, anew: true }
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = offer("a file.tar").encode().unwrap();
        let (fixed, rest) = bytes.split_first_chunk().unwrap();
        assert_eq!(name_len(*fixed), Ok(10));
        assert_eq!(rest.len(), 10 + REST);
        assert_eq!(Offer::decode(rest), Ok(offer("a file.tar")));
        assert_eq!(name_len(*b"GET / HT"), Err(BadFile::NoTransfer));
        assert_eq!(name_len(*b"tcpsf\x02\0\0"), Err(BadFile::Name));
        assert_eq!(name_len(*b"tcpsf\x01\0\x01"), Err(BadFile::NoTransfer), "before a transfer could go on");
        for name in ["", ".", "..", "a/b", "a\nb", &"x".repeat(256)] {
            assert_eq!(offer(name).encode(), Err(BadFile::Name), "{name:?}");
        }
        assert_eq!(Offer::decode(b"../etc\0\0\0\0\0\0\0\x01\0"), Err(BadFile::Name));
        assert_eq!(Offer::decode(b"\0\0\0\x01\0"), Err(BadFile::NoTransfer));
    }
}
