//! Middleboxes as rules of nftables. `eth0` is outside, the bridge `sw` is inside.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use super::middlebox::Middlebox;

/// The rules of a single box with the address `public` outside, which hands UDP to its ports in `forwarded` on to the
/// host `server`; none where it needs none.
pub(crate) fn ruleset(
    kind: Middlebox,
    public: Ipv4Addr,
    server: Ipv4Addr,
    forwarded: &[RangeInclusive<u16>],
) -> Option<String> {
    match kind {
        Middlebox::Open => None,
        Middlebox::Firewall => Some(firewall(server, forwarded)),
        _ => Some(nat(kind, public, server, forwarded)),
    }
}

/// Ports as nftables has them.
fn set_of(ports: &[RangeInclusive<u16>]) -> String {
    let ranges: Vec<_> = ports.iter().map(|range| format!("{}-{}", range.start(), range.end())).collect();
    format!("{{ {} }}", ranges.join(", "))
}

/// How many ports a symmetric NAT that does not roll dice has, from [`FIRST_PORT`] on.
const PORTS: u16 = 4096;
const FIRST_PORT: u16 = 40_000;

/// A port for each number. Written out: nft takes a computed number as a port with its bytes swapped.
fn numbered_ports() -> String {
    let ports: Vec<_> = (0..PORTS).map(|number| format!("{number} : {}", FIRST_PORT + number)).collect();
    format!("{{ {} }}", ports.join(", "))
}

fn firewall(server: Ipv4Addr, forwarded: &[RangeInclusive<u16>]) -> String {
    let open = if forwarded.is_empty() {
        String::new()
    } else {
        format!("ip daddr {server} udp dport {} accept", set_of(forwarded))
    };
    format!(
        "table ip box {{
  chain forward {{
    type filter hook forward priority filter; policy drop;
    iifname \"sw\" accept
    ct state established,related accept
    {open}
  }}
}}
"
    )
}

fn nat(kind: Middlebox, public: Ipv4Addr, server: Ipv4Addr, forwarded: &[RangeInclusive<u16>]) -> String {
    // Whom a port was sent from by, and to whom: what a cone lets in is sent to that host. Plain translation keeps the
    // port and needs no such map to let answers in.
    let (key, learn, look_up) = match kind {
        Middlebox::FullCone => ("inet_service", "udp sport", "udp dport"),
        Middlebox::AddressRestricted => ("ipv4_addr . inet_service", "ip daddr . udp sport", "ip saddr . udp dport"),
        _ => ("", "", ""),
    };
    let (mut map, mut learning, mut letting_in) = (String::new(), String::new(), String::new());
    let (mut forwarding, mut answering) = (String::new(), String::new());
    if !key.is_empty() {
        map = format!("map senders {{ type {key} : ipv4_addr; flags dynamic, timeout; timeout 2m; }}");
        // In the filter, where every packet comes along, not only the first of a flow: so it lives on while used.
        learning = format!("oifname \"eth0\" update @senders {{ {learn} : ip saddr }}");
        letting_in = format!("iifname \"eth0\" dnat to {look_up} map @senders");
    }
    if !forwarded.is_empty() {
        let ports = set_of(forwarded);
        forwarding = format!("iifname \"eth0\" udp dport {ports} dnat to {server}");
        // What the server sends from such a port comes from that port, whatever the kind.
        answering = format!("oifname \"eth0\" ip saddr {server} udp sport {ports} snat to {public}");
    }
    let to = |port: &str| format!("oifname \"eth0\" meta l4proto udp snat to {public}{port}");
    let translating = match kind {
        // The same for the same address, and another for another. Turned around instead of hashed: two of the host's ports
        // never meet in one, which would lose the datagrams of the second.
        Middlebox::SymmetricByAddress => by_address(public),
        Middlebox::SymmetricSequential => to(&format!(":numgen inc mod {PORTS} map {}", numbered_ports())),
        Middlebox::SymmetricRandom => to(":20000-65535 fully-random"),
        _ => to(""),
    };
    // What nobody asked for must not make an entry on the box itself, which would take the port away from the host: such
    // a packet is dropped before its entry is kept.
    format!(
        "table ip box {{
  {map}
  chain input {{
    type filter hook input priority filter;
    iifname \"eth0\" meta l4proto udp drop
  }}
  chain forward {{
    type filter hook forward priority filter;
    {learning}
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    {forwarding}
    {letting_in}
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    {answering}
    {translating}
    oifname \"eth0\" snat to {public}
  }}
}}
"
    )
}

/// What a full cone's rules need so that the hosts inside reach each other at its address outside; each is seen there, too
/// (RFC 4787, REQ-9).
pub(crate) fn hairpin(public: Ipv4Addr, gateway: Ipv4Addr) -> String {
    format!(
        "add rule ip box prerouting iifname \"sw\" ip daddr {public} dnat to udp dport map @senders
add rule ip box postrouting oifname \"sw\" ct status dnat ip saddr {gateway}/24 snat to {public}
"
    )
}

/// Another port for each destination address, as far as their last four bits differ.
fn by_address(public: Ipv4Addr) -> String {
    let rule = |last: u16| {
        let turn = (last + 1) << 8 | 1;
        format!(
            "oifname \"eth0\" meta l4proto udp ip daddr & 0.0.0.15 == 0.0.0.{last} snat to {public}:udp sport ^ {turn:#x}"
        )
    };
    (0..16).map(rule).collect::<Vec<_>>().join("\n    ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(kind: Middlebox, forwarded: &[RangeInclusive<u16>]) -> String {
        ruleset(kind, Ipv4Addr::new(10, 0, 0, 3), Ipv4Addr::new(192, 168, 3, 2), forwarded).unwrap_or_default()
    }

    #[test]
    fn only_what_translates_has_rules_of_translation() {
        for kind in Middlebox::ALL {
            assert_eq!(rules(kind, &[]).contains("snat to 10.0.0.3"), kind.translates(), "{kind}");
            assert_eq!(rules(kind, &[]).is_empty(), !kind.needs_nft(), "{kind}");
            assert_eq!(rules(kind, &[]).contains("map senders"), kind.remembers_senders(), "{kind}");
        }
    }

    #[test]
    fn forwarded_ports_are_handed_on() {
        for kind in Middlebox::ALL.into_iter().filter(|kind| kind.needs_nft()) {
            assert!(!rules(kind, &[]).contains("192.168.3.2"), "{kind}");
            let text = rules(kind, &[3359..=3359, 40000..=40009]);
            assert!(text.contains("udp dport { 3359-3359, 40000-40009 }"), "{kind}: {text}");
            assert!(text.contains("192.168.3.2"), "{kind}: {text}");
        }
    }
}
