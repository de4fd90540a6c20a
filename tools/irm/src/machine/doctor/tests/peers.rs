//! What is wrong with other hosts, name servers, names, which finding that is, words of what was found, the command.

use super::*;

pub(super) const CASES: &[Case] = &[
    (
        |f| f.peer_probes[0].heard = Heard::Closed,
        "peer-closed",
        "10.0.0.2:3359 answers for echo, and its UDP port 3359 is closed",
        "ssh 10.0.0.2 irm doctor",
    ),
    (
        |f| f.peer_probes[0].heard = Heard::Nothing,
        "peer-silent",
        "where echo is to be, did not answer 3 requests within 1400 ms",
        "ssh 10.0.0.2 irm doctor",
    ),
    (
        |f| f.peer_probes[0].heard = Heard::Unreachable("no route to host".into()),
        "peer-unreachable",
        "no way to 10.0.0.2:3359, where echo is to be: no route to host",
        "ip route get 10.0.0.2",
    ),
    (
        |f| f.peer_probes[0].heard = Heard::Forbidden,
        "peer-forbidden",
        "own firewall forbids sending to 10.0.0.2:3359",
        "nft list ruleset",
    ),
    (
        |f| f.peer_probes[0].heard = Heard::OtherVersion(9),
        "peer-version",
        "speaks version 9 of the protocol, this host version 1",
        "ssh 10.0.0.2 irm doctor",
    ),
    (|f| f.peer_probes[0].heard = Heard::Echo, "peer-classic", "is one of 2016", "ssh 10.0.0.2 ipcpd-udp --version"),
    (
        |f| {
            zone(
                f,
                Some(v1::NameResolveReply {
                    steps: vec![step("dns", v1::ResolveOutcome::Failed, "nobody answers at 10.0.0.53")],
                }),
            )
        },
        "dns-failed",
        "cannot look up names in flows.test: nobody answers at 10.0.0.53",
        "irm ipcp destroy --name udp0 && irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --host echo=10.0.0.2 --dns-zone flows.test --dns-server ADDRESS",
    ),
    (
        |f| zone(f, None),
        "dns-slow",
        "for 1500 ms and had no answer",
        "irm ipcp destroy --name udp0 && irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --host echo=10.0.0.2 --dns-zone flows.test --dns-server ADDRESS",
    ),
    (
        |f| {
            let failed = v1::Registration {
                name: "echo".into(),
                layer: "net".into(),
                failure: "BADKEY".into(),
                ..Default::default()
            };
            f.names = Ok(vec![v1::NameInfo { name: "echo".into(), registrations: vec![failed], ..Default::default() }]);
        },
        "dns-not-registered",
        "echo is not in DNS as layer net wants it: BADKEY",
        "irm name register echo --layer net",
    ),
    (
        |f| asked(f, vec![step("hosts", v1::ResolveOutcome::Unknown, "no")]),
        "name-unknown",
        "no layer knows echo",
        "irm ipcp host add --name udp0 echo=ADDRESS",
    ),
    (
        |f| {
            asked(f, vec![bound()]);
            f.names = Ok(vec![v1::NameInfo { name: "echo".into(), ..Default::default() }]);
        },
        "name-not-served",
        "echo exists on this host, and no process serves it",
        "irm bind program PROGRAM --name echo --auto",
    ),
    (
        |f| {
            asked(f, vec![bound()]);
            f.names = Ok(vec![v1::NameInfo {
                name: "echo".into(),
                pending: 5,
                processes: vec![v1::Process::default()],
                ..Default::default()
            }]);
        },
        "name-busy",
        "5 flows to echo wait",
        "irm name list",
    ),
    (
        |f| asked(f, vec![step("dns", v1::ResolveOutcome::Failed, "SERVFAIL")]),
        "name-not-looked-up",
        "dns of layer net could not be asked for echo: SERVFAIL",
        "irm name resolve echo",
    ),
    (
        |f| {
            let host = v1::ResolvedHost {
                address: "10.0.0.7:3359".into(),
                ignored: "its record is void".into(),
                ..Default::default()
            };
            asked(f, vec![v1::ResolveStep { hosts: vec![host], ..step("dns", v1::ResolveOutcome::Unknown, "0 of 1") }]);
        },
        "name-void",
        "echo is at 10.0.0.7:3359, where no flow goes: its record is void",
        "ssh 10.0.0.7 irm name register echo --layer net",
    ),
];
