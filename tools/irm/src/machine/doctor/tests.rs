//! What is found in a host where one thing is wrong, in which words; and that nothing is in one where all is well.

use std::collections::BTreeSet;

use proto::v1;

use super::facts::{
    Clock, Facts, Folder, Heard, Here, Holder, Interface, Ipcp, Irmd, Owner, Probe, Process, State, Stranger, System, Zone,
};
use super::proc::UdpRow;
use super::*;

const NOW: u64 = 1_795_268_759;
const MINUTES: u64 = 60_000;

fn ipcp() -> Ipcp {
    let host = |name: &str| v1::StaticHost { name: name.into(), address: "10.0.0.2".into() };
    let udp = v1::UdpConfig { ip: "10.0.0.1".into(), port: 3359, hosts: vec![host("echo")], ..Default::default() };
    let info = v1::IpcpInfo {
        name: "udp0".into(),
        r#type: "udp".into(),
        layer: "net".into(),
        state: v1::IpcpState::Operational.into(),
        pid: 43,
        address: "10.0.0.1:3359".into(),
        restart: true,
        config: Some(udp),
        ..Default::default()
    };
    Ipcp { info, stopped: false }
}

fn interface(name: &str, addresses: &[&str]) -> Interface {
    let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
    Interface { name: name.into(), up: true, running: true, loopback: name == "lo", mtu: 1500, addresses }
}

fn process(program: &str, pid: u32, daemon: bool) -> Process {
    Process {
        program: program.into(),
        pid,
        daemon,
        flows: 1,
        limit: Ok((20_000, 20_000)),
        open: Ok(20),
        age_ms: Ok(10 * MINUTES),
        replaced: Ok(false),
        memory: Ok(None),
        unit: Some("flowring-irmd.service".into()),
    }
}

fn probe(to: &str, heard: Heard) -> Probe {
    let names = vec!["echo".to_owned()];
    Probe { ipcp: "udp0".into(), to: to.parse().unwrap(), names, sent: 3, ms: 1400, heard }
}

fn row(inode: u64) -> UdpRow {
    UdpRow { local: "10.0.0.1:3359".parse().unwrap(), unconnected: true, uid: 1000, inode }
}

fn folder(path: &str, mode: u32) -> Folder {
    Folder { path: path.into(), about: Some(Owner { uid: 1000, mode }) }
}

/// Two hosts that work, seen from the one.
fn well() -> Facts {
    let status = v1::StatusReply {
        version: 1,
        build: "0.1.0".into(),
        pid: 42,
        run_dir: "/run/f".into(),
        uptime_ms: 10 * MINUTES,
        ..Default::default()
    };
    let system = System {
        release: "6.18.0".into(),
        buffers: vec![("net.core.rmem_max", Ok(8_000_000)), ("net.core.rmem_default", Ok(212_992))],
        queues: Ok((1000, 0)),
        segment: Ok(true),
        receive: Ok(true),
        conntrack: Ok(Some((10, 1000))),
        no_user_namespaces: None,
        no_ipv6: vec![],
    };
    let state = State {
        folder: folder("/run/f/state", 0o700),
        uid: 1000,
        read_only: false,
        mount: "/run".into(),
        free: 1 << 30,
        key: Ok(folder("/run/f/state/host-key.pem", 0o600)),
    };
    Facts {
        here: Here { uid: 1000, version: 1, build: "0.1.0".into(), now: NOW, unit: false },
        run_dir: Ok(folder("/run/f", 0o755)),
        elsewhere: None,
        irmd: Irmd::Up { status: Box::new(status), uid: 1000, ms: 1 },
        others: Ok(vec![]),
        ipcps: vec![ipcp()],
        strangers: vec![],
        interfaces: Ok(vec![interface("lo", &["127.0.0.1"]), interface("eth0", &["10.0.0.1", "fd00::1"])]),
        udp: Ok(vec![row(7)]),
        holders: vec![],
        own_probes: vec![probe("10.0.0.1:3359", Heard::Answer(300))],
        peer_probes: vec![probe("10.0.0.2:3359", Heard::Answer(12_000))],
        peers_left_out: 0,
        firewall: Ok(r#"{"nftables": []}"#.into()),
        zones: vec![],
        names: Ok(vec![]),
        name: None,
        clock: Clock { synchronised: Ok(true), ahead: None },
        certificate: Ok((0, NOW as i64 + 365 * 86_400)),
        state: Ok(state),
        processes: vec![process("irmd", 42, true), process("ipcpd-udp", 43, true), process("oping", 50, false)],
        system,
    }
}

fn status(facts: &mut Facts) -> &mut v1::StatusReply {
    match &mut facts.irmd {
        Irmd::Up { status, .. } => status,
        other => panic!("{other:?}"),
    }
}

fn udp(facts: &mut Facts) -> &mut v1::UdpConfig {
    facts.ipcps[0].info.config.as_mut().unwrap()
}

fn set_ip(facts: &mut Facts, ip: &str) {
    udp(facts).ip = ip.into();
}

fn eth0(facts: &mut Facts) -> &mut Interface {
    &mut facts.interfaces.as_mut().unwrap()[1]
}

fn state_of(facts: &mut Facts, state: v1::IpcpState) {
    facts.ipcps[0].info.state = state.into();
}

fn irmd_is(facts: &mut Facts, irmd: Irmd) {
    facts.irmd = irmd;
    facts.ipcps.clear();
    facts.own_probes.clear();
    facts.peer_probes.clear();
}

fn zone(facts: &mut Facts, said: Option<v1::NameResolveReply>) {
    udp(facts).dns_zone = "flows.test".into();
    udp(facts).dns_servers = vec!["10.0.0.53".into()];
    facts.zones = vec![Zone { ipcp: "udp0".into(), layer: "net".into(), zone: "flows.test".into(), said: Ok(said), ms: 1500 }];
}

fn step(source: &str, outcome: v1::ResolveOutcome, said: &str) -> v1::ResolveStep {
    v1::ResolveStep { source: source.into(), layer: "net".into(), outcome: outcome.into(), said: said.into(), ..Default::default() }
}

fn asked(facts: &mut Facts, steps: Vec<v1::ResolveStep>) {
    facts.name = Some(("echo".into(), Ok(v1::NameResolveReply { steps })));
}

fn bound() -> v1::ResolveStep {
    v1::ResolveStep { won: true, ..step("bound", v1::ResolveOutcome::Found, "it exists") }
}

fn firewall(facts: &mut Facts, hook: &str) {
    let text = r#"{"nftables": [{"chain": {"family": "inet", "table": "t", "name": "c", "hook": "HOOK", "policy": "drop"}}]}"#;
    facts.firewall = Ok(text.replace("HOOK", hook));
}

type Break = fn(&mut Facts);

/// What is wrong, which finding that is, words of what was found, the command.
fn cases() -> Vec<(Break, &'static str, &'static str, &'static str)> {
    let mut cases = daemons();
    cases.extend(network());
    cases.extend(peers());
    cases.extend(system());
    cases
}

fn daemons() -> Vec<(Break, &'static str, &'static str, &'static str)> {
    vec![
        (|f| { f.run_dir = Err("none".into()); irmd_is(f, Irmd::Nowhere); }, "run-dir-none", "are not set", "export FLOWRING_RUN_DIR=/run/flowring"),
        (|f| { f.run_dir = Ok(Folder { path: "/run/f g".into(), about: None }); irmd_is(f, Irmd::Missing); }, "run-dir-missing", "/run/f g does not exist", "irmd --run-dir '/run/f g'"),
        (|f| { f.elsewhere = Some("/run/flowring".into()); irmd_is(f, Irmd::Missing); }, "run-dir-elsewhere", "no irmd runs in /run/f, one runs in /run/flowring", "export FLOWRING_RUN_DIR=/run/flowring"),
        (|f| f.run_dir.as_mut().unwrap().about.as_mut().unwrap().uid = 7, "run-dir-foreign", "is user 7's", "export FLOWRING_RUN_DIR=/run/flowring"),
        (|f| f.run_dir.as_mut().unwrap().about.as_mut().unwrap().mode = 0o775, "run-dir-writable", "(mode 0775)", "chmod go-w /run/f"),
        (|f| f.run_dir.as_mut().unwrap().about.as_mut().unwrap().mode = 0o700, "run-dir-closed", "(mode 0700)", "chmod a+rx /run/f"),
        (|f| irmd_is(f, Irmd::Dead), "irmd-dead", "nobody listens at /run/f/irmd.sock", "irmd --run-dir /run/f"),
        (|f| { f.here.unit = true; irmd_is(f, Irmd::Dead); }, "irmd-dead", "nobody listens", "systemctl start flowring-irmd"),
        (|f| irmd_is(f, Irmd::Missing), "irmd-none", "there is no /run/f/irmd.sock", "irmd --run-dir /run/f"),
        (|f| irmd_is(f, Irmd::Forbidden), "irmd-forbidden", "may not use /run/f/irmd.sock", "chmod a+rx /run/f && chmod a+rw /run/f/irmd.sock"),
        (|f| irmd_is(f, Irmd::Silent { pid: 42, stopped: true, ms: 700 }), "irmd-stopped", "irmd (pid 42) is stopped", "kill -CONT 42"),
        (|f| irmd_is(f, Irmd::Silent { pid: 42, stopped: false, ms: 700 }), "irmd-stuck", "did not answer within 700 ms", "kill 42 && irmd --run-dir /run/f"),
        (|f| irmd_is(f, Irmd::Strange("it is no socket".into())), "irmd-not-irmd", "is no irmd: it is no socket", "irmd --run-dir /run/f"),
        (|f| status(f).version = 2, "irmd-version", "version 2, this irm and what was installed with it version 1", "kill 42 && irmd --run-dir /run/f"),
        (|f| status(f).build = "0.0.9".into(), "irmd-build", "irmd is build 0.0.9, this irm build 0.1.0", "kill 42 && irmd --run-dir /run/f"),
        (|f| f.processes[1].replaced = Ok(true), "daemon-replaced", "ipcpd-udp (pid 43) was replaced", "kill 43"),
        (|f| f.processes[0].age_ms = Ok(3_000), "daemon-young", "irmd (pid 42) started 3 s ago", "irm doctor"),
        (|f| f.others = Ok(vec![77, 78]), "irmd-others", "on this host: 77,78", "ps -o pid,user,args -p 77,78"),
        (|f| { f.ipcps.clear(); f.own_probes.clear(); }, "ipcp-none", "there is no IPCP", "irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1"),
        (|f| { state_of(f, v1::IpcpState::Down); f.ipcps[0].info.last_end = "was killed by signal 9".into(); }, "ipcp-down", "udp0 is down: was killed by signal 9", "irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --host echo=10.0.0.2"),
        (|f| { f.ipcps[0].info.restarts = 9; f.processes[1].age_ms = Ok(100); }, "ipcp-looping", "started 9 times again", "irm ipcp list --json"),
        (|f| state_of(f, v1::IpcpState::Attached), "ipcp-not-bootstrapped", "is in no layer: it was not bootstrapped", "irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --host echo=10.0.0.2"),
        (|f| state_of(f, v1::IpcpState::Starting), "ipcp-starting", "just being started", "irm doctor"),
        (|f| f.ipcps[0].stopped = true, "ipcp-stopped", "udp0 (pid 43) is stopped", "kill -CONT 43"),
        (|f| f.strangers = vec![Stranger { name: "udp1".into(), socket: "/run/f/ipcp-udp1.sock".into(), alive: true, pid: 99 }], "ipcp-refused", "irmd does not know it", "kill 99"),
        (|f| f.strangers = vec![Stranger { name: "udp1".into(), socket: "/run/f/ipcp-udp1.sock".into(), alive: false, pid: 0 }], "ipcp-stale", "nobody listens at /run/f/ipcp-udp1.sock", "rm /run/f/ipcp-udp1.sock"),
    ]
}

fn network() -> Vec<(Break, &'static str, &'static str, &'static str)> {
    vec![
        (|f| set_ip(f, "10.0.0.9"), "address-gone", "10.0.0.9 of IPCP udp0 is on no interface", "ip address add 10.0.0.9/24 dev eth0"),
        (|f| eth0(f).running = false, "interface-no-carrier", "eth0, which has the address 10.0.0.1 of IPCP udp0, has no carrier", "ip -details link show eth0"),
        (|f| eth0(f).up = false, "interface-down", "eth0, which has the address 10.0.0.1 of IPCP udp0, is down", "ip link set eth0 up"),
        (|f| eth0(f).mtu = 1227, "mtu-small", "an MTU of 1227 bytes; a request needs 1228", "ip link set eth0 mtu 1500"),
        (|f| set_ip(f, "127.0.0.1"), "loopback-address", "127.0.0.1, and its directory names the host 10.0.0.2", "irm ipcp destroy --name udp0 && irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --host echo=10.0.0.2"),
        (|f| { set_ip(f, "fd00::1"); f.system.no_ipv6 = vec!["net.ipv6.conf.all.disable_ipv6".into()]; }, "ipv6-off", "IPv6 is switched off", "sysctl -w net.ipv6.conf.all.disable_ipv6=0"),
        (|f| { state_of(f, v1::IpcpState::Attached); f.holders = vec![Holder { inode: 7, pid: 55, command: "nc".into() }]; }, "port-taken", "UDP port 3359 of 10.0.0.1, which IPCP udp0 needs, is held by nc (pid 55)", "kill 55"),
        (|f| state_of(f, v1::IpcpState::Attached), "port-taken-by-somebody", "held by a socket of user 1000", "ss -Hulpn 'sport = :3359'"),
        (|f| f.udp = Ok(vec![]), "port-not-bound", "listens on 10.0.0.1:3359, and no socket", "nsenter --target 43 --net irm doctor"),
        (|f| f.own_probes[0].heard = Heard::Nothing, "self-silent", "did not answer requests that this host sent to its own 10.0.0.1:3359 within 1400 ms", "nft list ruleset"),
        (|f| f.own_probes[0].heard = Heard::Closed, "self-closed", "were answered by: port unreachable", "nft list ruleset"),
        (|f| firewall(f, "input"), "firewall-drops", "drops UDP to port 3359: its policy in chain c of table t", "nft insert rule inet t c udp dport 3359 accept"),
        (|f| f.firewall = Ok(r#"{"nftables": [{"chain": {"family": "inet", "table": "t", "name": "c", "hook": "input", "policy": "accept"}},
            {"rule": {"family": "inet", "table": "t", "chain": "c", "handle": 4, "expr": [{"xt": null}, {"drop": null}]}}]}"#.into()), "firewall-may-drop", "may drop UDP to port 3359: rule 4 in chain c", "nft list chain inet t c"),
        (|f| firewall(f, "output"), "firewall-keeps-in", "drops what this host sends to UDP port 3359", "nft insert rule inet t c udp dport 3359 accept"),
    ]
}

fn peers() -> Vec<(Break, &'static str, &'static str, &'static str)> {
    vec![
        (|f| f.peer_probes[0].heard = Heard::Closed, "peer-closed", "10.0.0.2:3359 answers for echo, and its UDP port 3359 is closed", "ssh 10.0.0.2 irm doctor"),
        (|f| f.peer_probes[0].heard = Heard::Nothing, "peer-silent", "where echo is to be, did not answer 3 requests within 1400 ms", "ssh 10.0.0.2 irm doctor"),
        (|f| f.peer_probes[0].heard = Heard::Unreachable("no route to host".into()), "peer-unreachable", "no way to 10.0.0.2:3359, where echo is to be: no route to host", "ip route get 10.0.0.2"),
        (|f| f.peer_probes[0].heard = Heard::Forbidden, "peer-forbidden", "own firewall forbids sending to 10.0.0.2:3359", "nft list ruleset"),
        (|f| f.peer_probes[0].heard = Heard::OtherVersion(9), "peer-version", "speaks version 9 of the protocol, this host version 1", "ssh 10.0.0.2 irm doctor"),
        (|f| f.peer_probes[0].heard = Heard::Echo, "peer-classic", "is one of 2016", "ssh 10.0.0.2 ipcpd-udp --version"),
        (|f| zone(f, Some(v1::NameResolveReply { steps: vec![step("dns", v1::ResolveOutcome::Failed, "nobody answers at 10.0.0.53")] })), "dns-failed", "cannot look up names in flows.test: nobody answers at 10.0.0.53", "irm ipcp destroy --name udp0 && irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --host echo=10.0.0.2 --dns-zone flows.test --dns-server ADDRESS"),
        (|f| zone(f, None), "dns-slow", "for 1500 ms and had no answer", "irm ipcp destroy --name udp0 && irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --host echo=10.0.0.2 --dns-zone flows.test --dns-server ADDRESS"),
        (|f| {
            let failed = v1::Registration { name: "echo".into(), layer: "net".into(), failure: "BADKEY".into(), ..Default::default() };
            f.names = Ok(vec![v1::NameInfo { name: "echo".into(), registrations: vec![failed], ..Default::default() }]);
        }, "dns-not-registered", "echo is not in DNS as layer net wants it: BADKEY", "irm name register echo --layer net"),
        (|f| asked(f, vec![step("hosts", v1::ResolveOutcome::Unknown, "no")]), "name-unknown", "no layer knows echo", "irm ipcp host add --name udp0 echo=ADDRESS"),
        (|f| { asked(f, vec![bound()]); f.names = Ok(vec![v1::NameInfo { name: "echo".into(), ..Default::default() }]); }, "name-not-served", "echo exists on this host, and no process serves it", "irm bind program PROGRAM --name echo --auto"),
        (|f| {
            asked(f, vec![bound()]);
            f.names = Ok(vec![v1::NameInfo { name: "echo".into(), pending: 5, processes: vec![v1::Process::default()], ..Default::default() }]);
        }, "name-busy", "5 flows to echo wait", "irm name list"),
        (|f| asked(f, vec![step("dns", v1::ResolveOutcome::Failed, "SERVFAIL")]), "name-not-looked-up", "dns of layer net could not be asked for echo: SERVFAIL", "irm name resolve echo"),
        (|f| {
            let host = v1::ResolvedHost { address: "10.0.0.7:3359".into(), ignored: "its record is void".into(), ..Default::default() };
            asked(f, vec![v1::ResolveStep { hosts: vec![host], ..step("dns", v1::ResolveOutcome::Unknown, "0 of 1") }]);
        }, "name-void", "echo is at 10.0.0.7:3359, where no flow goes: its record is void", "ssh 10.0.0.7 irm name register echo --layer net"),
    ]
}

fn system() -> Vec<(Break, &'static str, &'static str, &'static str)> {
    vec![
        (|f| f.here.now = 86_400, "clock-wrong", "the clock says Jan  2 ", "timedatectl set-ntp true"),
        (|f| f.clock.ahead = Some(("/run/f/irmd.sock".into(), 3_600)), "clock-set-back", "/run/f/irmd.sock was written 60 min in the future", "timedatectl set-ntp true"),
        (|f| f.clock.synchronised = Ok(false), "clock-not-synchronised", "nothing keeps this host's clock right", "timedatectl set-ntp true"),
        (|f| f.certificate = Ok((0, NOW as i64 - 3 * 86_400)), "certificate-expired", "ended 3 d ago", "irm identity show --request"),
        (|f| f.certificate = Ok((NOW as i64 + 7_200, NOW as i64 + 9_000)), "certificate-of-the-future", "begins in 2 h", "timedatectl set-ntp true"),
        (|f| f.certificate = Ok((0, NOW as i64 + 86_400)), "certificate-ends", "ends in 24 h", "irm identity show --request"),
        (|f| f.state.as_mut().unwrap().folder.about = None, "state-missing", "/run/f/state does not exist", "install -d -m 700 -o 1000 /run/f/state"),
        (|f| f.state.as_mut().unwrap().read_only = true, "state-read-only", "on a file system that cannot be written", "mount -o remount,rw /run"),
        (|f| f.state.as_mut().unwrap().uid = 8, "state-foreign", "is user 1000's, irmd runs as user 8", "chown 8 /run/f/state"),
        (|f| f.state.as_mut().unwrap().folder = folder("/run/f/state", 0o777), "state-writable", "(mode 0777)", "chmod go-w /run/f/state"),
        (|f| f.state.as_mut().unwrap().free = 4_096, "disk-full", "has 4.1 kB left", "df -h /run/f/state"),
        (|f| f.state.as_mut().unwrap().key = Ok(Folder { path: "/k".into(), about: None }), "key-missing", "key /k is gone", "irm identity show"),
        (|f| f.state.as_mut().unwrap().key = Ok(folder("/k", 0o644)), "key-open", "key /k may be read by others (mode 0644)", "chmod 600 /k"),
        (|f| f.processes[1].open = Ok(19_000), "descriptors-short", "ipcpd-udp (pid 43) has 19000 of 20000 descriptors open", "prlimit --pid 43 --nofile=80000"),
        (|f| f.processes[0].limit = Ok((1_024, 4_096)), "descriptors-few", "irmd (pid 42) may have 1024 descriptors open", "prlimit --pid 42 --nofile=4096"),
        (|f| f.system.buffers[1].1 = Ok(4_608), "buffers-tiny", "4608 bytes (net.core.rmem_default)", "sysctl -w net.core.rmem_default=212992"),
        (|f| f.system.buffers[0].1 = Ok(212_992), "buffers-small", "at most 212992 bytes (net.core.rmem_max)", "sysctl -w net.core.rmem_max=5000000"),
        (|f| f.system.queues = Ok((900, 100)), "queue-overflow", "overflowed 100 times since the host started (10.00 % of what came)", "sysctl -w net.core.rmem_max=5000000"),
        (|f| { f.ipcps[0].info.counters.insert("dropped_queue_full".into(), 3); }, "queue-listen-port", "udp0 lost 3 datagrams", "irm ipcp list --json"),
        (|f| f.system.receive = Ok(false), "segmentation-missing", "(UDP_GRO)", "uname -r"),
        (|f| { f.system.release = "6.12.9".into(); udp(f).sp_listen = true; }, "kernel-hash", "Linux 6.12.9 finds sockets", "irm ipcp destroy --name udp0 && irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --host echo=10.0.0.2"),
        (|f| f.system.conntrack = Ok(Some((950, 1000))), "conntrack-full", "has 950 of 1000 entries", "sysctl -w net.netfilter.nf_conntrack_max=4000"),
        (|f| f.processes[0].memory = Ok(Some((95, 100))), "memory-short", "irmd (pid 42) has 95 B of the 100 B", "systemctl set-property flowring-irmd.service MemoryMax=200"),
        (|f| f.system.no_user_namespaces = Some(("user.max_user_namespaces", "16384")), "user-namespaces", "(user.max_user_namespaces)", "sysctl -w user.max_user_namespaces=16384"),
    ]
}

#[test]
fn a_host_that_works_has_no_findings() {
    let report = examine(&well());
    let found: Vec<_> = report.checks.iter().filter(|line| line.level != Level::Ok).collect();
    assert!(found.is_empty() && report.is_well(), "{found:#?}");
    let text = text(&report, false);
    assert!(text.ends_with("\nNothing is wrong (0 notes).\n"), "{text}");
    assert!(text.contains("\nok       peers                10.0.0.2:3359, for echo, answered in 12 ms\n"), "{text}");
}

#[test]
fn each_thing_that_is_wrong_is_found_and_mended() {
    for (wrong, id, found, mend) in cases() {
        let mut facts = well();
        wrong(&mut facts);
        let report = examine(&facts);
        let lines: Vec<_> = report.checks.iter().filter(|line| line.id == Some(id)).collect();
        let [line] = lines[..] else { panic!("{id}: {:#?}", report.checks) };
        assert!(line.found.contains(found), "{id}: {}", line.found);
        assert_eq!(line.mend.as_deref(), Some(mend), "{id}");
        let words = words::ALL.iter().find(|words| words.id == id).unwrap();
        assert_eq!(line.level, words.level);
        assert_eq!(report.is_well(), report.troubles == 0);
        assert_eq!(line.level == Level::Trouble, report.troubles > 0, "{id}: {:#?}", report.checks);
    }
}

#[test]
fn every_finding_is_found_in_some_case() {
    let found: BTreeSet<_> = cases().iter().map(|(_, id, _, _)| *id).collect();
    let known: BTreeSet<_> = words::ALL.iter().map(|words| words.id).collect();
    assert_eq!(found, known);
}

#[test]
fn what_could_not_be_looked_at_is_said_with_the_reason() {
    let mut facts = well();
    let why = || "nobody may see it".to_owned();
    facts.others = Err(why());
    facts.interfaces = Err(why());
    facts.udp = Err(why());
    facts.firewall = Err(why());
    facts.own_probes[0].heard = Heard::Unasked(why());
    facts.peer_probes[0].heard = Heard::Unasked(why());
    facts.peers_left_out = 9;
    facts.clock.synchronised = Err(why());
    facts.certificate = Err(why());
    facts.state = Err(why());
    facts.processes[0].open = Err(why());
    facts.processes[0].memory = Err(why());
    facts.system.buffers = vec![("net.core.rmem_max", Err(why()))];
    facts.system.queues = Err(why());
    facts.system.segment = Err(why());
    facts.system.conntrack = Err(why());
    facts.system.release = "six".into();
    asked(&mut facts, vec![]);
    facts.name.as_mut().unwrap().1 = Err(why());
    let report = examine(&facts);
    assert!(report.is_well(), "{:#?}", report.checks);
    let unchecked: Vec<_> = report.checks.iter().filter(|line| line.level == Level::Unchecked).collect();
    assert_eq!(unchecked.len(), 18, "{unchecked:#?}");
    assert!(unchecked.iter().all(|line| line.found.starts_with("not checked: ")), "{unchecked:#?}");
    assert!(text(&report, false).contains("\n-        peers"), "{}", text(&report, false));
}

#[test]
fn a_dead_irmd_leaves_what_can_be_seen_without_it() {
    let mut facts = well();
    irmd_is(&mut facts, Irmd::Dead);
    let report = examine(&facts);
    assert_eq!(report.troubles, 1, "{:#?}", report.checks);
    assert!(report.checks.iter().any(|line| line.check == "kernel" && line.level == Level::Ok));
}

#[test]
fn text_and_json_for_one_trouble_and_a_note() {
    let mut facts = well();
    facts.clock.synchronised = Ok(false);
    facts.peer_probes[0].heard = Heard::Closed;
    let mut report = examine(&facts);
    report.checks.retain(|line| line.level != Level::Ok);
    let want = "\
trouble  peers  10.0.0.2:3359 answers for echo, and its UDP port 3359 is closed
                means  no ipcpd-udp listens there: it is dead, has another address, or another port
                do     ssh 10.0.0.2 irm doctor
note     clock  nothing keeps this host's clock right, says the kernel
1 trouble, 1 note; --verbose says more of notes.
";
    assert_eq!(text(&report, false), want);
    assert!(text(&report, true).contains("\n                do     timedatectl set-ntp true\n1 trouble, 1 note.\n"));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!((&json["troubles"], &json["notes"]), (&1.into(), &1.into()));
    assert_eq!(json["checks"][0]["level"], "trouble");
    assert_eq!(json["checks"][0]["id"], "peer-closed");
    assert_eq!(json["checks"][0]["do"], "ssh 10.0.0.2 irm doctor");
}

/// docs/tools.md has the words of every finding.
#[test]
fn the_findings_are_written_down() {
    let mut table = String::from("| finding | | what was found | what it means | what mends it |\n|---|---|---|---|---|\n");
    for words in words::ALL {
        let (id, level) = (words.id, words.level.as_str());
        table.push_str(&format!("| `{id}` | {level} | {} | {} | `{}` |\n", words.found, words.means, words.mend));
    }
    let page = include_str!("../../../../../docs/tools.md");
    assert!(page.contains(&table), "docs/tools.md shows another table:\n{table}");
}
