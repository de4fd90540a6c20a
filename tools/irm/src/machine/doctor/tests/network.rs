//! What is wrong with addresses, ports and the firewall, which finding that is, words of what was found, the command.

use super::*;

pub(super) const CASES: &[Case] = &[
    (
        |f| set_ip(f, "10.0.0.9"),
        "address-gone",
        "10.0.0.9 of IPCP udp0 is on no interface",
        "ip address add 10.0.0.9/24 dev eth0",
    ),
    (
        |f| eth0(f).running = false,
        "interface-no-carrier",
        "eth0, which has the address 10.0.0.1 of IPCP udp0, has no carrier",
        "ip -details link show eth0",
    ),
    (
        |f| eth0(f).up = false,
        "interface-down",
        "eth0, which has the address 10.0.0.1 of IPCP udp0, is down",
        "ip link set eth0 up",
    ),
    (|f| eth0(f).mtu = 1227, "mtu-small", "an MTU of 1227 bytes; a request needs 1228", "ip link set eth0 mtu 1500"),
    (
        |f| set_ip(f, "127.0.0.1"),
        "loopback-address",
        "127.0.0.1, and its directory names the host 10.0.0.2",
        "irm ipcp destroy --name udp0 && irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --host echo=10.0.0.2",
    ),
    (
        |f| {
            set_ip(f, "fd00::1");
            f.system.no_ipv6 = vec!["net.ipv6.conf.all.disable_ipv6".into()];
        },
        "ipv6-off",
        "IPv6 is switched off",
        "sysctl -w net.ipv6.conf.all.disable_ipv6=0",
    ),
    (
        |f| {
            state_of(f, v1::IpcpState::Attached);
            f.holders = vec![Holder { inode: 7, pid: 55, command: "nc".into() }];
        },
        "port-taken",
        "UDP port 3359 of 10.0.0.1, which IPCP udp0 needs, is held by nc (pid 55)",
        "kill 55",
    ),
    (
        |f| state_of(f, v1::IpcpState::Attached),
        "port-taken-by-somebody",
        "held by a socket of user 1000",
        "ss -Hulpn 'sport = :3359'",
    ),
    (
        |f| f.udp = Ok(vec![]),
        "port-not-bound",
        "listens on 10.0.0.1:3359, and no socket",
        "nsenter --target 43 --net irm doctor",
    ),
    (
        |f| f.own_probes[0].heard = Heard::Nothing,
        "self-silent",
        "did not answer requests that this host sent to its own 10.0.0.1:3359 within 1400 ms",
        "nft list ruleset",
    ),
    (
        |f| f.own_probes[0].heard = Heard::Closed,
        "self-closed",
        "were answered by: port unreachable",
        "nft list ruleset",
    ),
    (
        |f| firewall(f, "input"),
        "firewall-drops",
        "drops UDP to port 3359: its policy in chain c of table t",
        "nft insert rule inet t c udp dport 3359 accept",
    ),
    (
        |f| {
            f.firewall = Ok(r#"{"nftables": [{"chain": {"family": "inet", "table": "t", "name": "c", "hook": "input", "policy": "accept"}},
            {"rule": {"family": "inet", "table": "t", "chain": "c", "handle": 4, "expr": [{"xt": null}, {"drop": null}]}}]}"#.into())
        },
        "firewall-may-drop",
        "may drop UDP to port 3359: rule 4 in chain c",
        "nft list chain inet t c",
    ),
    (
        |f| firewall(f, "output"),
        "firewall-keeps-in",
        "drops what this host sends to UDP port 3359",
        "nft insert rule inet t c udp dport 3359 accept",
    ),
];
