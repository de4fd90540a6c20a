//! Numbers, times and words for people.

use proto::v1;

/// Text that a peer or a file chose, safe on a terminal: control characters become `\u{…}`.
pub fn printable(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// The same, and `-` for nothing, so that columns stay countable.
pub fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { printable(text) }
}

/// `999 B`, `1.2 kB`, `345 MB`: powers of 1000.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = count as f64;
    let mut unit = 0;
    // 999.5 would be printed as 1000.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit > 0 && value < 9.95 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

/// `850 ms`, `59 s`, `3 min`, `7 h`, `12 d`.
pub fn age(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0 => format!("{ms} ms"),
        1..=119 => format!("{s} s"),
        120..=7_199 => format!("{} min", s / 60),
        7_200..=172_799 => format!("{} h", s / 3_600),
        _ => format!("{} d", s / 86_400),
    }
}

/// `no flows`, `1 flow`, `2 flows`.
pub fn count(n: u32, one: &str, many: &str) -> String {
    match n {
        0 => format!("no {many}"),
        1 => format!("1 {one}"),
        n => format!("{n} {many}"),
    }
}

/// State of an IPCP.
pub fn ipcp_state(state: v1::IpcpState) -> &'static str {
    match state {
        v1::IpcpState::Unspecified => "unknown",
        v1::IpcpState::Starting => "starting",
        v1::IpcpState::Attached => "attached",
        v1::IpcpState::Operational => "operational",
        v1::IpcpState::Down => "down",
    }
}

/// State of a flow.
pub fn flow_state(state: v1::FlowState) -> &'static str {
    match state {
        v1::FlowState::Unspecified => "unknown",
        v1::FlowState::Pending => "pending",
        v1::FlowState::Allocated => "allocated",
        v1::FlowState::Ending => "ending",
        v1::FlowState::Ended => "ended",
    }
}

/// Load balancing of a name.
pub fn policy(policy: v1::LoadBalancing) -> &'static str {
    match policy {
        v1::LoadBalancing::Spill => "spill",
        v1::LoadBalancing::Unspecified | v1::LoadBalancing::RoundRobin => "round-robin",
    }
}

/// The cube of a QoS specification.
pub fn cube(qos: Option<&v1::QosSpec>) -> &'static str {
    match qos.map(v1::QosSpec::cube) {
        None | Some(v1::Cube::Unspecified | v1::Cube::Raw) => "raw",
        Some(v1::Cube::Message) => "message",
        Some(v1::Cube::Stream) => "stream",
    }
}

/// `oping (4711)`, `4711` where the command is not known, `-` where there is no process.
pub fn process(process: Option<&v1::Process>) -> String {
    match process {
        Some(p) if p.pid != 0 && p.command.is_empty() => p.pid.to_string(),
        Some(p) if p.pid != 0 => format!("{} ({})", printable(&p.command), p.pid),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let table = [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (9_949, "9.9 kB"),
            (9_950, "10 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (12_345_678_901, "12 GB"),
            (u64::MAX, "18 EB"),
        ];
        for (n, want) in table {
            assert_eq!(bytes(n), want);
        }
    }

    #[test]
    fn ages() {
        let table = [
            (0, "0 ms"),
            (999, "999 ms"),
            (119_999, "119 s"),
            (120_000, "2 min"),
            (7_200_000, "2 h"),
            (172_800_000, "2 d"),
        ];
        for (ms, want) in table {
            assert_eq!(age(ms), want);
        }
    }

    #[test]
    fn a_peer_cannot_write_to_the_terminal() {
        assert_eq!(printable("\u{1b}[2Jhi\u{9b}x"), "\\u{1b}[2Jhi\\u{9b}x");
        assert_eq!(printable("John Day"), "John Day");
        assert_eq!(or_dash(""), "-");
    }
}
