//! What the system gives: descriptors, ports, memory.

/// Descriptors that flows leave alone: catchers, sockets of searches (512), of irmd, leases of programs, files.
const RESERVE: u64 = 1536;

/// Memory of this process, bytes; 0 where /proc does not say.
pub(super) fn rss_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// Each flow holds a descriptor; the rest of the process needs some, too.
pub(super) fn max_flows() -> usize {
    use rustix::process::{Resource, getrlimit};
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    let flows = limit.saturating_sub(RESERVE).max(limit / 2).min(60_000);
    usize::try_from(flows).unwrap_or(60_000)
}

/// The ports the system gives to sockets that ask for none.
pub(super) fn ephemeral_ports() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let ports: Vec<u16> = text.split_whitespace().filter_map(|port| port.parse().ok()).collect();
    match ports[..] {
        [first, last] if 0 < first && first <= last => (first, last),
        _ => (32_768, 60_999),
    }
}
