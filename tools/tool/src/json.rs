//! JSON for terminals and pipes: JSON itself forbids the controls below U+0020 only, terminals obey those from U+007F to
//! U+009F as well, and what peers chose is in it.

use std::io::{self, BufWriter, Write};

use serde::Serialize;

/// What begins U+0080 to U+00BF in UTF-8.
const LEAD: u8 = 0xc2;
const DEL: u8 = 0x7f;
/// Bytes that are looked through and written at a time: listings are long, and are nowhere whole.
const CHUNK: usize = 64 << 10;

/// A value as JSON on one line. No control character is in it.
pub fn json<T: Serialize + ?Sized>(value: &T) -> String {
    let bytes = serde_json::to_vec(value).unwrap_or_else(|error| format!("\"not to be written: {error}\"").into());
    let mut escaped = Escaped { out: Vec::with_capacity(bytes.len()), lead: false };
    // A Vec takes everything.
    let _ = escaped.write_all(&bytes);
    String::from_utf8_lossy(&escaped.out).into_owned()
}

/// Writes [`json`], as it is made.
///
/// # Errors
/// What `out` says.
pub fn write_json<T: Serialize + ?Sized>(out: impl Write, value: &T) -> io::Result<()> {
    written(out, |escaped| serde_json::to_writer(escaped, value))
}

/// The same for people, over several lines.
///
/// # Errors
/// What `out` says.
pub fn write_json_pretty<T: Serialize + ?Sized>(out: impl Write, value: &T) -> io::Result<()> {
    written(out, |escaped| serde_json::to_writer_pretty(escaped, value))
}

/// Many values as one JSON array, a line for each.
///
/// # Errors
/// What `out` says.
pub fn write_json_rows<T: Serialize>(out: impl Write, rows: &[T]) -> io::Result<()> {
    written(out, |escaped| {
        for (index, row) in rows.iter().enumerate() {
            let before = if index == 0 { "[\n" } else { ",\n" };
            escaped.write_all(before.as_bytes()).map_err(serde_json::Error::io)?;
            serde_json::to_writer(&mut *escaped, row)?;
        }
        let after = if rows.is_empty() { "[]" } else { "\n]" };
        escaped.write_all(after.as_bytes()).map_err(serde_json::Error::io)
    })
}

fn written<W: Write>(
    out: W,
    write: impl FnOnce(&mut BufWriter<Escaped<W>>) -> serde_json::Result<()>,
) -> io::Result<()> {
    let mut escaped = BufWriter::with_capacity(CHUNK, Escaped { out, lead: false });
    write(&mut escaped)?;
    escaped.flush()
}

/// Writes control characters as `\u` and four digits.
struct Escaped<W> {
    out: W,
    /// The byte before was [`LEAD`], and is not written.
    lead: bool,
}

impl<W: Write> Escaped<W> {
    fn rewritten(&mut self, bytes: &[u8]) -> io::Result<()> {
        for &byte in bytes {
            match (std::mem::take(&mut self.lead), byte) {
                (true, 0x80..=0x9f) | (false, DEL) => write!(self.out, "\\u{:04x}", u16::from(byte))?,
                (true, _) => self.out.write_all(&[LEAD, byte])?,
                (false, LEAD) => self.lead = true,
                (false, _) => self.out.write_all(&[byte])?,
            }
        }
        Ok(())
    }
}

impl<W: Write> Write for Escaped<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Without a branch for each byte. Of most there is nothing to do.
        let special = bytes.iter().fold(false, |found, byte| found | (*byte == LEAD) | (*byte == DEL));
        match special || self.lead {
            false => self.out.write_all(bytes)?,
            true => self.rewritten(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_is_printed() {
        let value = vec!["clear \u{9b}2J, bell \u{7}, delete \u{7f}, é, §"];
        let line = json(&value);
        assert!(line.chars().all(|c| !c.is_control()), "{line:?}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&line).unwrap(), value);
        let mut pretty = Vec::new();
        write_json_pretty(&mut pretty, &value).unwrap();
        assert_eq!(serde_json::from_slice::<Vec<String>>(&pretty).unwrap(), value);
    }

    #[test]
    fn each_row_has_its_line() {
        for rows in [vec![], vec!["a"], vec!["a", "b\u{7f}", "c"]] {
            let mut text = Vec::new();
            write_json_rows(&mut text, &rows).unwrap();
            let text = String::from_utf8(text).unwrap();
            assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), rows);
            assert_eq!(text.lines().filter(|line| line.starts_with('"')).count(), rows.len(), "{text}");
        }
    }

    #[test]
    fn a_character_may_lie_across_two_writes() {
        let mut escaped = Escaped { out: Vec::new(), lead: false };
        for part in ["a".as_bytes(), &[LEAD], &[0x9b, b'b', LEAD], &[0xa7], &[DEL]] {
            escaped.write_all(part).unwrap();
        }
        assert_eq!(String::from_utf8(escaped.out).unwrap(), "a\\u009bb§\\u007f");
    }

    #[test]
    fn long_text_is_whole() {
        let value = vec!["é\u{85}x".repeat(100_000)];
        assert_eq!(serde_json::from_str::<Vec<String>>(&json(&value)).unwrap(), value);
    }
}
