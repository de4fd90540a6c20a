//! Numbers, times and words that fit into columns.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Text that a peer or a program chose, safe on a terminal: control characters become `\u{…}`.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// At most `width` columns of a text; what does not fit is an ellipsis.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut left = width.saturating_sub(1);
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if wide > left {
            break;
        }
        left -= wide;
        out.push(c);
    }
    if width > 0 {
        out.push('…');
    }
    out
}

/// `0`, `999`, `1.2k`, `345M`: five columns at most, powers of 1000.
pub fn short(value: f64) -> String {
    const UNITS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let mut value = value.max(0.0);
    let mut unit = 0;
    // 999.5 would be printed as 1000.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit > 0 && value < 99.95 { format!("{value:.1}{}", UNITS[unit]) } else { format!("{value:.0}{}", UNITS[unit]) }
}

/// A rate in bytes per second, for a column: `-` where nothing moved.
pub fn rate(value: f32) -> String {
    if value < 0.5 { "-".to_owned() } else { short(f64::from(value)) }
}

/// Bytes in words: `1.2 MB`.
pub fn bytes(count: f64) -> String {
    let text = short(count);
    match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => format!("{} {}B", &text[..at], &text[at..]),
        None => format!("{text} B"),
    }
}

/// `85us`, `1.2ms`, `340ms`, `1.5s`; `-` where it is not known.
pub fn rtt(us: u32) -> String {
    match us {
        0 => "-".to_owned(),
        1..=999 => format!("{us}us"),
        1_000..=99_949 => format!("{:.1}ms", f64::from(us) / 1e3),
        99_950..=999_499 => format!("{:.0}ms", f64::from(us) / 1e3),
        _ => format!("{:.1}s", f64::from(us) / 1e6),
    }
}

/// `850ms`, `59s`, `3m`, `7h`, `12d`.
pub fn age(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0 => format!("{ms}ms"),
        1..=119 => format!("{s}s"),
        120..=7_199 => format!("{}m", s / 60),
        7_200..=172_799 => format!("{}h", s / 3_600),
        _ => format!("{}d", s / 86_400),
    }
}

/// `1,234,567`.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 flow`, `2 flows`.
pub fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count as u64), if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_their_columns() {
        let table = [
            (0.0, "0"),
            (999.4, "999"),
            (999.5, "1.0k"),
            (99_949.0, "99.9k"),
            (99_950.0, "100k"),
            (999_500.0, "1.0M"),
            (1.8e19, "18.0E"),
            (-1.0, "0"),
        ];
        for (value, want) in table {
            assert_eq!(short(value), want);
            assert!(short(value).len() <= 5);
        }
        assert_eq!((rate(0.2).as_str(), rate(1500.0).as_str()), ("-", "1.5k"));
        assert_eq!((bytes(10.0).as_str(), bytes(1.5e6).as_str()), ("10 B", "1.5 MB"));
        assert_eq!(
            (grouped(0).as_str(), grouped(999).as_str(), grouped(1_234_567).as_str()),
            ("0", "999", "1,234,567")
        );
        assert_eq!((counted(1, "flow", "flows"), counted(0, "flow", "flows")), ("1 flow".into(), "0 flows".into()));
    }

    #[test]
    fn times() {
        let table =
            [(0, "-"), (85, "85us"), (1_000, "1.0ms"), (99_949, "99.9ms"), (99_950, "100ms"), (1_500_000, "1.5s")];
        for (us, want) in table {
            assert_eq!(rtt(us), want);
        }
        assert!(rtt(u32::MAX).len() <= 7);
        let table = [(12, "12ms"), (119_999, "119s"), (120_000, "2m"), (7_200_000, "2h"), (172_800_000, "2d")];
        for (ms, want) in table {
            assert_eq!(age(ms), want);
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_at_a_column() {
        assert_eq!(cut("game.q2", 7), "game.q2");
        assert_eq!(cut("game.q2", 5), "game…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!((cut("abc", 0).as_str(), cut("abc", 1).as_str()), ("", "…"));
        assert_eq!(printable("\u{1b}[2Jhi"), "\\u{1b}[2Jhi");
    }
}
