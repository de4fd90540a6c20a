//! Other hosts: those of the directory, name servers, and where a name leads.

use std::net::{IpAddr, SocketAddr};

use proto::v1::{self, ResolveOutcome};

use super::command;
use super::facts::{Facts, Heard, Probe, Zone};
use super::finding::{Line, Lines};
use super::network::latency;
use super::words::{
    DNS_FAILED, DNS_SLOW, DNS_UNREGISTERED, NAME_BUSY, NAME_FAILED, NAME_UNKNOWN, NAME_UNSERVED, NAME_VOID,
    PEER_CLASSIC, PEER_CLOSED, PEER_FORBIDDEN, PEER_SILENT, PEER_UNREACHABLE, PEER_VERSION,
};

/// Names of one peer that are shown.
const NAMES: usize = 3;

/// An address of the directory, with the usual port where none is said.
pub fn address(text: &str) -> Option<SocketAddr> {
    let plain = || text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, proto::shim::PORT));
    text.parse().ok().or_else(plain)
}

/// Whether each host of the directory has a shim that answers.
pub(super) fn peers(facts: &Facts) -> Vec<Line> {
    let mut lines = Lines::of("peers");
    for probe in &facts.peer_probes {
        peer(&mut lines, probe);
    }
    if facts.peers_left_out > 0 {
        let asked = facts.peer_probes.len();
        lines.unchecked(format!("not checked: {} more hosts; {asked} were asked", facts.peers_left_out));
    }
    lines.done()
}

fn peer(lines: &mut Lines, probe: &Probe) {
    let (host, ip, port) = (probe.to.to_string(), probe.to.ip().to_string(), probe.to.port().to_string());
    let mut names = probe.names.iter().take(NAMES).cloned().collect::<Vec<_>>().join(", ");
    if probe.names.len() > NAMES {
        names.push_str(&format!(" and {} more", probe.names.len() - NAMES));
    }
    let (sent, ms, ours) = (probe.sent.to_string(), probe.ms.to_string(), proto::shim::VERSION.to_string());
    let mut values = vec![
        ("host", host.as_str()),
        ("ip", &ip),
        ("port", &port),
        ("names", &names),
        ("sent", &sent),
        ("ms", &ms),
        ("ours", &ours),
    ];
    let theirs;
    let words = match &probe.heard {
        Heard::Answer(us) => return lines.ok(format!("{host}, for {names}, answered in {}", latency(*us))),
        Heard::Unasked(why) => return lines.unchecked(format!("not checked: {host}: {why}")),
        Heard::Echo => &PEER_CLASSIC,
        Heard::Closed => &PEER_CLOSED,
        Heard::Forbidden => &PEER_FORBIDDEN,
        Heard::Nothing => &PEER_SILENT,
        Heard::Unreachable(why) => {
            values.push(("why", why));
            &PEER_UNREACHABLE
        }
        Heard::OtherVersion(version) => {
            theirs = version.to_string();
            values.push(("theirs", &theirs));
            &PEER_VERSION
        }
    };
    lines.find(words, &values);
}

/// Name servers, and what was to be registered with them.
pub(super) fn dns(facts: &Facts) -> Vec<Line> {
    let mut lines = Lines::of("DNS");
    for zone in &facts.zones {
        one_zone(&mut lines, facts, zone);
    }
    for name in facts.names.iter().flatten() {
        for registration in name.registrations.iter().filter(|registration| !registration.failure.is_empty()) {
            let values = [("name", name.name.as_str()), ("layer", &registration.layer), ("why", &registration.failure)];
            lines.find(&DNS_UNREGISTERED, &values);
        }
    }
    lines.done()
}

fn one_zone(lines: &mut Lines, facts: &Facts, zone: &Zone) {
    let info = facts.ipcps.iter().map(|ipcp| &ipcp.info).find(|info| info.name == zone.ipcp);
    let again = info.map_or(String::new(), command::other_server);
    let ms = zone.ms.to_string();
    let of = [("layer", zone.layer.as_str()), ("zone", &zone.zone), ("ms", &ms), ("again command", &again)];
    match &zone.said {
        Err(why) => lines.unchecked(format!("not checked: {why}")),
        Ok(None) => lines.find(&DNS_SLOW, &of),
        Ok(Some(reply)) => {
            let dns = reply.steps.iter().find(|step| step.source == "dns");
            let failed = reply.steps.iter().find(|step| step.outcome() == ResolveOutcome::Failed);
            match (failed, dns) {
                (Some(step), _) => lines.find(&DNS_FAILED, &[of.as_slice(), &[("why", &step.said)]].concat()),
                (None, Some(step)) => {
                    let server = if step.server.is_empty() { "a name server" } else { &step.server };
                    lines.ok(format!("{server} answers for {} of layer {}", zone.zone, zone.layer));
                }
                (None, None) => lines.unchecked(format!("not checked: layer {} did not ask DNS", zone.layer)),
            }
        }
    }
}

/// Where a flow to the name goes.
pub(super) fn name(facts: &Facts) -> Vec<Line> {
    let mut lines = Lines::of("name");
    let Some((name, reply)) = &facts.name else { return lines.done() };
    let reply = match reply {
        Ok(reply) => reply,
        Err(why) => {
            lines.unchecked(format!("not checked: {why}"));
            return lines.done();
        }
    };
    let of = ("name", name.as_str());
    for step in &reply.steps {
        let said = [of, ("layer", step.layer.as_str()), ("source", &step.source), ("why", &step.said)];
        if step.outcome() == ResolveOutcome::Failed {
            lines.find(&NAME_FAILED, &said);
        }
        for host in step.hosts.iter().filter(|host| !host.ignored.is_empty()) {
            let ip = address(&host.address).map_or_else(|| host.address.clone(), |at| at.ip().to_string());
            let values = [of, ("layer", &step.layer), ("host", &host.address), ("why", &host.ignored), ("ip", &ip)];
            lines.find(&NAME_VOID, &values);
        }
    }
    match reply.steps.iter().find(|step| step.won) {
        // Why it was not found is said already.
        None if !lines.is_empty() => {}
        // It waits for a program all the same.
        None if facts.names.iter().flatten().any(|row| row.name == *name) => at_home(&mut lines, facts, name),
        None => {
            let ipcp = facts.ipcps.first().map_or("IPCP", |ipcp| &ipcp.info.name);
            lines.find(&NAME_UNKNOWN, &[of, ("ipcp", ipcp)]);
        }
        Some(step) if step.hosts.is_empty() => at_home(&mut lines, facts, name),
        Some(step) => {
            let hosts = step.hosts.iter().filter(|host| host.ignored.is_empty());
            let hosts: Vec<&str> = hosts.map(|host| host.address.as_str()).collect();
            lines.ok(format!("a flow to {name} goes over {} to {}", step.layer, hosts.join(" or ")));
        }
    }
    lines.done()
}

/// A name of this host: somebody is there for it.
fn at_home(lines: &mut Lines, facts: &Facts, name: &str) {
    let row: Option<&v1::NameInfo> = facts.names.iter().flatten().find(|row| row.name == name);
    match row {
        Some(row) if row.processes.is_empty() && !row.programs.iter().any(|program| program.auto_start) => {
            lines.find(&NAME_UNSERVED, &[("name", name)]);
        }
        Some(row) if row.pending > 0 && row.accepting == 0 => {
            lines.find(&NAME_BUSY, &[("name", name), ("pending", &row.pending.to_string())]);
        }
        _ => lines.ok(format!("a flow to {name} stays on this host")),
    }
}
