//! What `tcpstripe send` says to `tcpstripe recv` over a group: which file comes, its bytes, their SHA-256. The answer is one
//! byte, 0 when the file is stored, and words when it is not.
//!
//! Six bytes `tcpsf` and the version 1, the length of the name (16 bits), the name (UTF-8), the file's length (64 bits), its
//! bytes, 32 bytes of SHA-256; numbers in network order.

/// What every transfer begins with.
const MAGIC: [u8; 6] = *b"tcpsf\x01";
/// Bytes before the name.
pub const FIXED: usize = 8;
/// Bytes of the longest name.
pub const MAX_NAME: usize = 255;
/// The answer of who stored a file.
pub const STORED: u8 = 0;
/// The answer of who did not; words follow.
pub const NOT_STORED: u8 = 1;

/// What is wrong with a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFile {
    /// Something else than a transfer came.
    #[error("what came is no file of tcpstripe send")]
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

/// What goes before the file's bytes.
pub fn head(name: &str, len: u64) -> Result<Vec<u8>, BadFile> {
    check_name(name)?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend(u16::try_from(name.len()).map_err(|_| BadFile::Name)?.to_be_bytes());
    bytes.extend(name.as_bytes());
    bytes.extend(len.to_be_bytes());
    Ok(bytes)
}

/// How long the name is that follows.
pub fn name_len(fixed: [u8; FIXED]) -> Result<usize, BadFile> {
    let len = fixed.strip_prefix(&MAGIC[..]).and_then(|rest| rest.first_chunk()).ok_or(BadFile::NoTransfer)?;
    match usize::from(u16::from_be_bytes(*len)) {
        len @ 1..=MAX_NAME => Ok(len),
        _ => Err(BadFile::Name),
    }
}

/// The name and the file's length, of the bytes behind the fixed ones.
pub fn name_and_len(bytes: &[u8]) -> Result<(String, u64), BadFile> {
    let (name, len) = bytes.split_last_chunk().ok_or(BadFile::NoTransfer)?;
    let name = std::str::from_utf8(name).map_err(|_| BadFile::Name)?;
    check_name(name)?;
    Ok((name.to_owned(), u64::from_be_bytes(*len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let bytes = head("a file.tar", 1 << 40).unwrap();
        let (fixed, rest) = bytes.split_first_chunk().unwrap();
        assert_eq!(name_len(*fixed), Ok(10));
        assert_eq!(name_and_len(rest), Ok(("a file.tar".to_owned(), 1 << 40)));
        assert_eq!(name_len(*b"GET / HT"), Err(BadFile::NoTransfer));
        assert_eq!(name_len(*b"tcpsf\x01\0\0"), Err(BadFile::Name));
        for name in ["", ".", "..", "a/b", "a\nb", &"x".repeat(256)] {
            assert_eq!(head(name, 1), Err(BadFile::Name), "{name:?}");
        }
        assert_eq!(name_and_len(b"../etc\0\0\0\0\0\0\0\x01"), Err(BadFile::Name));
    }
}
