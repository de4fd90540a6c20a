//! What the system gives: descriptors, ports, memory; and what a layer begins with.

use super::state::Identity;
use crate::config::{Bootstrap, Sp};
use crate::machine::rendezvous::Rendezvous;
use crate::machine::{Limits, Settings};

/// Flows that may wait for a program's answer.
const MAX_PENDING: usize = 4096;

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
fn max_flows() -> usize {
    use rustix::process::{Resource, getrlimit};
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    let flows = limit.saturating_sub(RESERVE).max(limit / 2).min(60_000);
    usize::try_from(flows).unwrap_or(60_000)
}

/// The ports the system gives to sockets that ask for none.
fn ephemeral_ports() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let ports: Vec<u16> = text.split_whitespace().filter_map(|port| port.parse().ok()).collect();
    match ports[..] {
        [first, last] if 0 < first && first <= last => (first, last),
        _ => (32_768, 60_999),
    }
}

/// What a layer's machine begins with.
pub(super) fn settings(identity: &Identity, bootstrap: &Bootstrap, rendezvous: Option<Rendezvous>) -> Settings {
    let range = ephemeral_ports();
    Settings {
        layer: bootstrap.layer.clone(),
        listen: bootstrap.listen,
        host: identity.host,
        boot: identity.boot,
        start: identity.start,
        cp: range,
        sp: match bootstrap.sp {
            Some(Sp::Range(first, last)) => (first, last),
            Some(Sp::Listen) | None => range,
        },
        shares: (bootstrap.sp == Some(Sp::Listen)).then(|| rustix::process::geteuid().as_raw()),
        echo: bootstrap.echo,
        max_flows: max_flows(),
        max_pending: MAX_PENDING,
        ticket_key: identity.ticket_key,
        limits: Limits::default(),
        dns: bootstrap.dns.as_ref().map(|dns| dns.machine()),
        rendezvous,
        map_ports: bootstrap.via.as_ref().is_some_and(|via| via.map_ports),
    }
}
