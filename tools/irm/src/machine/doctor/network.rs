//! Addresses, interfaces, ports and the firewall of this host.

use std::net::{IpAddr, SocketAddr};

use proto::v1;

use super::command;
use super::facts::{Facts, Heard, Interface, Ipcp, Probe};
use super::finding::{Line, Lines};
use super::nft::{self, Datagram, Fate};
use super::words::{
    ADDRESS_GONE, ADDRESS_TENTATIVE, FIREWALL_DROPS, FIREWALL_KEEPS, FIREWALL_MAY_DROP, INTERFACE_DOWN, IPV6_OFF,
    LOOPBACK, MTU_SMALL, PORT_FOREIGN, PORT_TAKEN_BY_WHOM, PORT_UNBOUND, SELF_CLOSED, SELF_SILENT,
};

/// Where an IPCP is to listen, by its configuration, or by its own word where its address follows this host's; none before it was
/// given one.
pub fn shim(info: &v1::IpcpInfo) -> Option<SocketAddr> {
    let udp = info.config.as_ref()?;
    if let Some(now) = info.address.parse().ok().filter(|_| udp.follow) {
        return Some(now);
    }
    let port = u16::try_from(udp.port).ok().filter(|port| *port != 0).unwrap_or(proto::shim::PORT);
    Some(SocketAddr::new(udp.ip.parse().ok()?, port))
}

fn shims(facts: &Facts) -> impl Iterator<Item = (&Ipcp, SocketAddr)> {
    facts.ipcps.iter().filter_map(|ipcp| Some((ipcp, shim(&ipcp.info)?)))
}

fn interface_of(interfaces: &[Interface], ip: IpAddr) -> Option<&Interface> {
    // All of 127.0.0.0/8 is the loopback's.
    let has = |interface: &&Interface| {
        interface.addresses.contains(&ip) || interface.loopback && matches!(ip, IpAddr::V4(ip) if ip.is_loopback())
    };
    interfaces.iter().find(has)
}

/// The IPCPs' addresses: there, up, wide enough, of use.
pub(super) fn addresses(facts: &Facts) -> Vec<Line> {
    let mut lines = Lines::of("addresses");
    for (ipcp, shim) in shims(facts) {
        match &facts.interfaces {
            Err(why) => lines.unchecked(format!("not checked: {why}")),
            Ok(interfaces) => address(&mut lines, facts, interfaces, ipcp, shim.ip()),
        }
    }
    lines.done()
}

fn address(lines: &mut Lines, facts: &Facts, interfaces: &[Interface], ipcp: &Ipcp, ip: IpAddr) {
    let (name, shown) = (ipcp.info.name.as_str(), ip.to_string());
    let of = [("ipcp", name), ("ip", shown.as_str())];
    let with = |more: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
        of.iter().chain(more).map(|(word, value)| (*word, (*value).to_owned())).collect()
    };
    let mut find = |words, values: Vec<(&'static str, String)>| {
        let values: Vec<_> = values.iter().map(|(word, value)| (*word, value.as_str())).collect();
        lines.find(words, &values);
    };
    if ip.is_ipv6()
        && let Some(setting) = facts.system.no_ipv6.first()
    {
        return find(&IPV6_OFF, with(&[("setting", setting)]));
    }
    let Some(interface) = interface_of(interfaces, ip) else {
        let mut others = interfaces.iter().filter(|interface| !interface.loopback);
        let device = others.next().filter(|_| others.next().is_none()).map_or("DEVICE", |only| &only.name);
        let prefix = if ip.is_ipv4() { "24" } else { "64" };
        return find(&ADDRESS_GONE, with(&[("device", device), ("prefix", prefix)]));
    };
    let device = ("device", interface.name.as_str());
    if !interface.up {
        return find(&INTERFACE_DOWN, with(&[device]));
    }
    if !interface.running {
        return find(&ADDRESS_TENTATIVE, with(&[device]));
    }
    if interface.loopback {
        let hosts = ipcp.info.config.iter().flat_map(|udp| &udp.hosts);
        let mut elsewhere =
            hosts.filter(|host| super::peers::address(&host.address).is_some_and(|at| !at.ip().is_loopback()));
        if let Some(host) = elsewhere.next() {
            let own = interfaces.iter().filter(|other| other.up && !other.loopback).flat_map(|other| &other.addresses);
            let own = own.copied().find(|own| own.is_ipv4() == ip.is_ipv4()).map(|own| own.to_string());
            let again = command::bootstrap(&ipcp.info, Some(own.as_deref().unwrap_or("ADDRESS")));
            return find(&LOOPBACK, with(&[("host", &host.address), ("bootstrap command", &again)]));
        }
    }
    let need = proto::shim::DATAGRAM as u32 + if ip.is_ipv4() { 28 } else { 48 };
    if interface.mtu != 0 && interface.mtu < need {
        return find(&MTU_SMALL, with(&[device, ("mtu", &interface.mtu.to_string()), ("need", &need.to_string())]));
    }
    lines.ok(format!("{ip} of IPCP {name} is on {}, up, MTU {}", interface.name, interface.mtu));
}

/// The IPCPs' ports: bound, by them.
pub(super) fn ports(facts: &Facts) -> Vec<Line> {
    let mut lines = Lines::of("ports");
    for (ipcp, shim) in shims(facts) {
        match &facts.udp {
            Err(why) => lines.unchecked(format!("not checked: {why}")),
            // It may have the port already, and then is not told from another that has it.
            Ok(_) if ipcp.info.state() == v1::IpcpState::Starting => {
                lines.unchecked(format!("not checked: IPCP {} is just being started", ipcp.info.name));
            }
            Ok(_) => port(&mut lines, facts, &ipcp.info, shim),
        }
    }
    lines.done()
}

fn port(lines: &mut Lines, facts: &Facts, info: &v1::IpcpInfo, shim: SocketAddr) {
    let here = |at: SocketAddr| at.port() == shim.port() && (at.ip() == shim.ip() || at.ip().is_unspecified());
    let rows = facts.udp.iter().flatten().filter(|row| row.unconnected && here(row.local));
    let is_ours = |inode| facts.holders.iter().any(|holder| holder.inode == inode && holder.pid == info.pid);
    let operational = info.state() == v1::IpcpState::Operational;
    let (mut bound, mut others) = (false, Vec::new());
    for row in rows {
        bound |= operational || is_ours(row.inode);
        // Flows that outlive their IPCP share its port with `--sp-range listen`, connected; this one is not.
        if !operational && !is_ours(row.inode) {
            others.push(row);
        }
    }
    let (ip, port) = (shim.ip().to_string(), shim.port().to_string());
    let of = [("ipcp", info.name.as_str()), ("ip", &ip), ("port", &port)];
    if let Some(row) = others.first() {
        match facts.holders.iter().find(|holder| holder.inode == row.inode) {
            Some(holder) => {
                let (pid, who) = (holder.pid.to_string(), format!("{} (pid {})", holder.command, holder.pid));
                lines.find(&PORT_FOREIGN, &[of.as_slice(), &[("pid", &pid), ("holder", &who)]].concat());
            }
            None => lines.find(&PORT_TAKEN_BY_WHOM, &[of.as_slice(), &[("uid", &row.uid.to_string())]].concat()),
        }
    } else if operational && !bound {
        let pid = info.pid.to_string();
        lines.find(&PORT_UNBOUND, &[("ipcp", info.name.as_str()), ("address", &info.address), ("pid", &pid)]);
    } else if bound {
        lines.ok(format!("UDP port {port} of {ip} is bound by IPCP {}", info.name));
    } else {
        lines.unchecked(format!(
            "not checked: IPCP {} does not run, and its UDP port {port} of {ip} is free",
            info.name
        ));
    }
}

/// Each IPCP hears what is sent to its address.
pub(super) fn own(facts: &Facts) -> Vec<Line> {
    let mut lines = Lines::of("reachable");
    for probe in &facts.own_probes {
        let (address, ms) = (probe.to.to_string(), probe.ms.to_string());
        let values =
            |why| [("ipcp", probe.ipcp.as_str()), ("address", address.as_str()), ("ms", ms.as_str()), ("why", why)];
        match &probe.heard {
            Heard::Answer(us) => lines.ok(format!("IPCP {} answers at {address} in {}", probe.ipcp, latency(*us))),
            Heard::Nothing => lines.find(&SELF_SILENT, &values("")),
            Heard::Closed => lines.find(&SELF_CLOSED, &values("port unreachable")),
            Heard::Unreachable(why) => lines.find(&SELF_CLOSED, &values(why)),
            Heard::Forbidden => lines.find(&SELF_CLOSED, &values("the firewall forbids sending")),
            Heard::OtherVersion(_) | Heard::Echo => lines.find(&SELF_CLOSED, &values("a shim of another version")),
            Heard::Unasked(why) => lines.unchecked(format!("not checked: {why}")),
        }
    }
    lines.done()
}

/// `850 µs`, `12 ms`.
pub(super) fn latency(us: u64) -> String {
    if us < 10_000 { format!("{us} µs") } else { format!("{} ms", us / 1000) }
}

/// Whether the rules let requests in and out.
pub(super) fn firewall(facts: &Facts) -> Vec<Line> {
    let mut lines = Lines::of("firewall");
    let ruleset = match &facts.firewall {
        Ok(ruleset) => ruleset,
        Err(why) => {
            lines.unchecked(format!("not checked: {why}{}", concluded(&facts.own_probes)));
            return lines.done();
        }
    };
    for (ipcp, shim) in shims(facts) {
        let interfaces = facts.interfaces.as_ref().map_or(&[][..], Vec::as_slice);
        let device = interface_of(interfaces, shim.ip()).map_or("", |interface| &interface.name);
        let incoming = Datagram { out: false, own: shim.ip(), port: shim.port(), device };
        one_way(&mut lines, ruleset, &incoming);
        let mut ports: Vec<u16> = facts
            .peer_probes
            .iter()
            .filter(|probe| probe.ipcp == ipcp.info.name)
            .map(|probe| probe.to.port())
            .collect();
        ports.sort_unstable();
        ports.dedup();
        for port in ports {
            one_way(&mut lines, ruleset, &Datagram { out: true, port, ..incoming.clone() });
        }
        if lines.is_empty() {
            lines.ok(format!("nftables lets requests to UDP port {} of {} in and out", shim.port(), shim.ip()));
        }
    }
    lines.done()
}

fn one_way(lines: &mut Lines, ruleset: &str, datagram: &Datagram<'_>) {
    let fate = match nft::fate(ruleset, datagram) {
        Ok(fate) => fate,
        Err(why) => return lines.unchecked(format!("not checked: {why}")),
    };
    let (words, place) = match fate {
        Fate::Passes => return,
        Fate::Dropped(place) => (if datagram.out { &FIREWALL_KEEPS } else { &FIREWALL_DROPS }, place),
        Fate::Perhaps(place) => (&FIREWALL_MAY_DROP, place),
    };
    let port = datagram.port.to_string();
    let at =
        [("family", place.family.as_str()), ("table", &place.table), ("chain", &place.chain), ("rule", &place.rule)];
    lines.find(words, &[at.as_slice(), &[("port", &port)]].concat());
}

/// What follows without the rules.
fn concluded(own: &[Probe]) -> &'static str {
    match own {
        [] => "",
        probes if probes.iter().all(|probe| matches!(probe.heard, Heard::Answer(_))) => {
            "; from this host itself requests are let in"
        }
        _ => "; requests of this host itself go unanswered",
    }
}
