//! What is found in a host where one thing is wrong, in which words; and that nothing is in one where all is well.

mod daemons;
mod network;
mod peers;
mod system;

use std::collections::BTreeSet;

use proto::v1;

use super::facts::{
    Clock, Facts, Folder, Heard, Here, Holder, Interface, Ipcp, Irmd, Owner, Probe, Process, State, Stranger, System,
    Zone,
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
    facts.zones =
        vec![Zone { ipcp: "udp0".into(), layer: "net".into(), zone: "flows.test".into(), said: Ok(said), ms: 1500 }];
}

fn step(source: &str, outcome: v1::ResolveOutcome, said: &str) -> v1::ResolveStep {
    v1::ResolveStep {
        source: source.into(),
        layer: "net".into(),
        outcome: outcome.into(),
        said: said.into(),
        ..Default::default()
    }
}

fn asked(facts: &mut Facts, steps: Vec<v1::ResolveStep>) {
    facts.name = Some(("echo".into(), Ok(v1::NameResolveReply { steps })));
}

fn bound() -> v1::ResolveStep {
    v1::ResolveStep { won: true, ..step("bound", v1::ResolveOutcome::Found, "it exists") }
}

fn firewall(facts: &mut Facts, hook: &str) {
    let text =
        r#"{"nftables": [{"chain": {"family": "inet", "table": "t", "name": "c", "hook": "HOOK", "policy": "drop"}}]}"#;
    facts.firewall = Ok(text.replace("HOOK", hook));
}

type Case = (fn(&mut Facts), &'static str, &'static str, &'static str);

/// What is wrong, which finding that is, words of what was found, the command.
fn all_cases() -> Vec<Case> {
    [daemons::CASES, network::CASES, peers::CASES, system::CASES].concat()
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
    for (wrong, id, found, mend) in all_cases() {
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
    let found: BTreeSet<_> = all_cases().iter().map(|(_, id, _, _)| *id).collect();
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
    let mut table =
        String::from("| finding | | what was found | what it means | what mends it |\n|---|---|---|---|---|\n");
    for words in words::ALL {
        let (id, level) = (words.id, words.level.as_str());
        table.push_str(&format!("| `{id}` | {level} | {} | {} | `{}` |\n", words.found, words.means, words.mend));
    }
    let page = include_str!("../../../../../docs/tools.md");
    assert!(page.contains(&table), "docs/tools.md shows another table:\n{table}");
}

#[test]
fn a_layer_that_follows_its_host_is_looked_for_where_it_is() {
    let mut info = ipcp().info;
    info.address = "10.0.0.77:3359".into();
    assert_eq!(shim(&info), "10.0.0.1:3359".parse().ok());
    info.config.as_mut().unwrap().follow = true;
    assert_eq!(shim(&info), "10.0.0.77:3359".parse().ok());
}
