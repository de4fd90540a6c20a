//! Bytes as hex digits.

use std::fmt::Write as _;

/// Bytes of hex digits, as people paste them: with or without blanks, colons, commas and `0x`. Nothing for other text.
pub fn read(text: &str) -> Option<Vec<u8>> {
    let digits: String = text
        .split(|c: char| c.is_whitespace() || [':', ',', '-'].contains(&c))
        .map(|word| word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")).unwrap_or(word))
        .collect();
    if digits.is_empty() || !digits.len().is_multiple_of(2) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    digits.as_bytes().chunks_exact(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// The opposite: digits alone.
pub fn write(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_as_they_are_pasted() {
        for text in ["00466c6f77", "00 46 6c 6f 77", "00:46:6C:6F:77", "0x00, 0x46, 0x6c, 0x6f, 0x77", "0046 6c6f\n77"]
        {
            assert_eq!(read(text).as_deref(), Some(&b"\0Flow"[..]), "{text}");
        }
        for text in ["", "0", "4g", "flow.pcap", "é0", " "] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(write(b"\0Flow"), "00466c6f77");
    }
}
