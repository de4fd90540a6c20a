//! How it reads.

use std::time::Duration;

/// Text that a peer chose, safe on a terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// "1.50 MiB".
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut scaled, mut unit) = (count as f64 / 1024.0, 0);
    if count < 1024 {
        return format!("{count} B");
    }
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{scaled:.2} {}", UNITS[unit])
}

/// "sent 1.50 MiB, received 0 B in 1.5 s, 1.00 MiB/s"
pub fn progress(sent: u64, received: u64, time: Duration) -> String {
    let rate = (sent + received) as f64 / time.as_secs_f64().max(0.001);
    format!(
        "sent {}, received {} in {:.1} s, {}/s",
        bytes(sent),
        bytes(received),
        time.as_secs_f64(),
        bytes(rate as u64)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        for (count, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (1536 * 1024, "1.50 MiB"), (u64::MAX, "16.00 EiB")]
        {
            assert_eq!(bytes(count), text);
        }
        let line = progress(3 << 20, 0, Duration::from_secs(2));
        assert_eq!(line, "sent 3.00 MiB, received 0 B in 2.0 s, 1.50 MiB/s");
        assert!(progress(1, 1, Duration::ZERO).ends_with("/s"));
    }

    #[test]
    fn a_peer_s_text_does_nothing_to_the_terminal() {
        assert_eq!(printable("a\x1b[31mb\n"), "a\u{fffd}[31mb\u{fffd}");
    }
}
