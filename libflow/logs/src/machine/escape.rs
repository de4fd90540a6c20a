//! Text that others chose, in a line of a log.

use std::fmt::{self, Write};

/// Writes `text` without anything that a terminal obeys, that ends a line, or that turns the order of letters.
pub fn write(to: &mut impl Write, text: &str) -> fmt::Result {
    let mut rest = text;
    while let Some((at, bad)) = rest.char_indices().find(|(_, c)| is_bad(*c)) {
        to.write_str(&rest[..at])?;
        write!(to, "{}", bad.escape_default())?;
        rest = &rest[at + bad.len_utf8()..];
    }
    to.write_str(rest)
}

/// Control characters, and those that change the direction of what follows.
fn is_bad(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn escaped(text: &str) -> String {
        let mut out = String::new();
        write(&mut out, text).unwrap();
        out
    }

    #[test]
    fn what_a_terminal_obeys_is_spelled_out() {
        for (text, want) in [
            ("a flow to écho", "a flow to écho"),
            ("x\n2026-01-01 INFO irmd: forged", "x\\n2026-01-01 INFO irmd: forged"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\r\t\0", "\\r\\t\\u{0}"),
            ("\u{202e}gnol", "\\u{202e}gnol"),
        ] {
            assert_eq!(escaped(text), want);
        }
    }

    proptest! {
        #[test]
        fn no_text_gets_through(text in any::<String>()) {
            prop_assert!(!escaped(&text).chars().any(is_bad));
        }
    }
}
