//! Whether a peer's host is there: probes per pair of hosts, silence, restarts, and where control datagrams go.

use super::super::table::Cause;
use super::*;

/// The listen port of B as its NAT shows it, and another host's behind the same NAT.
const NATTED: &str = "10.0.0.2:7001";

fn long(bench: &Bench, flow: u64, timeout_ms: u32) -> Ask {
    Ask { qos: Qos { timeout_ms, ..Qos::raw() }, ..bench.ask(flow, "echo") }
}

/// A flow to B whose timeout is chosen.
fn held(bench: &mut Bench, flow: u64, timeout_ms: u32) -> (Key, WireId, WireId) {
    let (key, extension, _) = bench.asking(long(bench, flow, timeout_ms));
    let theirs = WireId(0x5000 + flow);
    bench.answer(key, B_FLOW, &answer(extension.client, theirs, Verdict::Accepted).encode(&name("echo")));
    bench.outputs();
    bench.shim.connected(bench.now, key, Ok(1472));
    bench.shim.taken(bench.now, FlowId(flow));
    bench.outputs();
    bench.control_from_b(ControlKind::Alive, theirs, extension.client);
    bench.outputs();
    (key, extension.client, theirs)
}

/// A flow that B asked for, held by a program here. Its id here.
fn accepted(bench: &mut Bench, client: u64) -> (Key, WireId) {
    bench.request(B_FLOW, &extended("here", client));
    let Some(Output::Arrived { key, .. }) = bench.outputs().pop() else { panic!() };
    let accept = Accept { flow: FlowId(100 + client), owner: owner(), data: vec![] };
    bench.shim.answered(bench.now, key, Ok(accept));
    let Output::Connect { filter: Filter::NoControl(ours), .. } = bench.one() else { panic!() };
    bench.shim.connected(bench.now, key, Ok(1472));
    bench.shim.taken(bench.now, FlowId(100 + client));
    bench.outputs();
    (key, ours)
}

/// Programs that receive nothing; what else is wanted. Answers probes while `alive`.
fn quiet(bench: &mut Bench, outputs: Vec<Output>, received: u64) -> Vec<Output> {
    let mut left = Vec::new();
    for output in outputs {
        match output {
            Output::Look { key, .. } => bench.shim.looked(bench.now, key, received, 0),
            Output::CheckRead { key } => bench.shim.read_all(bench.now, key, true),
            output => left.push(output),
        }
    }
    left.extend(bench.outputs());
    left
}

fn ends(outputs: &[Output]) -> Vec<(u64, EndReason)> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Gone { flow, reason } => Some((flow.0, *reason)),
            _ => None,
        })
        .collect()
}

pub(super) fn directed() -> Vec<Bench> {
    // Not taken yet, when its peer vanishes or knows nothing of it.
    let mut bench = Bench::new();
    for flow in [1, 2] {
        let (key, extension, _) = bench.asking(bench.ask(flow, "echo"));
        bench.answer(key, B_FLOW, &answer(extension.client, WireId(flow), Verdict::Accepted).encode(&name("echo")));
        bench.outputs();
        bench.shim.connected(bench.now, key, Ok(1472));
        bench.outputs();
        if flow == 1 {
            bench.control_from_b(ControlKind::NoSuchFlow, WireId(flow), extension.client);
        } else {
            while bench.shim.poll_timeout().is_some() {
                let outputs = bench.next();
                quiet(&mut bench, outputs, 0);
            }
        }
    }
    // Asked for by a forged ICMP, when its peer's time is up.
    let mut probing = Bench::new();
    held(&mut probing, 1, 1000);
    probing.now += ms(800);
    probing.shim.handle_timeout(probing.now);
    probing.outputs();
    probing.shim.suspect(probing.now, FlowId(1));
    while probing.shim.poll_timeout().is_some() {
        let outputs = probing.next();
        quiet(&mut probing, outputs, 0);
    }
    assert!(probing.shim.visited.iter().any(|(_, cause, _)| *cause == Cause::TimedOut));
    let mut vanished = Bench::new();
    vanished.held(1);
    while vanished.shim.poll_timeout().is_some() {
        let outputs = vanished.next();
        quiet(&mut vanished, outputs, 0);
    }
    vec![bench, probing, vanished, restarted(8).0]
}

#[test]
fn a_host_that_vanished_is_noticed_within_the_timeout() {
    for (timeout_ms, want) in [(0, 30_000), (3_000, 3_000), (1, 1_000), (120_000, 120_000)] {
        let mut bench = Bench::new();
        held(&mut bench, 1, timeout_ms);
        bench.start = bench.now;
        let mut sent = 0;
        let gone = loop {
            let outputs = bench.next();
            let left = quiet(&mut bench, outputs, 3);
            sent += left.iter().filter_map(control_of).filter(|(_, c)| c.kind == ControlKind::Probe).count();
            if let [gone] = ends(&left)[..] {
                break gone;
            }
        };
        assert_eq!(gone, (1, EndReason::PeerTimedOut));
        let elapsed = bench.elapsed();
        assert!(elapsed <= ms(want) && elapsed >= ms(want) * 8 / 10, "{timeout_ms}: {elapsed:?}");
        assert!((5..=40).contains(&sent), "{timeout_ms}: {sent} probes");
        assert_eq!(bench.shim.counters().get(Reason::PeersTimedOut), 1);
        bench.assert_empty();
    }
}

#[test]
fn one_probe_per_pair_of_hosts_and_every_flow_in_its_turn() {
    let mut bench = Bench::new();
    let flows: Vec<_> = (1..=5).map(|flow| bench.held(flow)).collect();
    assert_eq!(bench.shim.counters().get(Reason::Probes), 1, "the first flow opens the path");
    let (start, mut asked) = (bench.now, Vec::new());
    while bench.now < start + ms(100_000) {
        for output in bench.next() {
            let Some((to, probe)) = control_of(&output) else { continue };
            assert_eq!((to, probe.kind), (addr(B), ControlKind::Probe));
            asked.push(probe.sender);
            bench.control_from_b(ControlKind::Alive, probe.receiver, probe.sender);
        }
    }
    assert_eq!(asked.len(), 10, "each ten seconds, however many flows");
    assert!(flows.iter().all(|(_, ours, _)| asked.iter().filter(|id| *id == ours).count() == 2), "{asked:?}");
    assert!(bench.outputs().is_empty());
}

#[test]
fn the_side_that_asked_probes_and_the_other_only_hears() {
    let mut bench = Bench::new();
    let (_, ours) = accepted(&mut bench, 5);
    for _ in 0..10 {
        bench.now += ms(10_000);
        bench.shim.handle_timeout(bench.now);
        assert!(bench.outputs().iter().all(|output| control_of(output).is_none()));
        bench.control_from_b(ControlKind::Probe, WireId(5), ours);
        assert_eq!(control_of(&bench.one()).unwrap().1.kind, ControlKind::Alive);
    }
    // Left alone it asks itself, and ends in time.
    let (start, mut probes) = (bench.now, 0);
    let gone = loop {
        let outputs = bench.next();
        let left = quiet(&mut bench, outputs, 0);
        probes += left.iter().filter_map(control_of).count();
        if let [gone] = ends(&left)[..] {
            break gone;
        }
    };
    assert_eq!(gone, (105, EndReason::PeerTimedOut));
    assert!(bench.now - start <= ms(30_000) && probes >= 10, "{:?} {probes}", bench.now - start);
}

#[test]
fn the_path_is_kept_even_where_no_timeout_asks_for_it() {
    let mut bench = Bench::new();
    let (_, ours, theirs) = held(&mut bench, 1, 600_000);
    let start = bench.now;
    for n in 1..=3 {
        assert_eq!(control_of(&bench.next()[0]).unwrap().1.kind, ControlKind::Probe);
        assert_eq!(bench.now - start, ms(20_000 * n), "NATs forget after 30 s");
        bench.control_from_b(ControlKind::Alive, theirs, ours);
    }
}

#[test]
fn flows_that_carry_sdus_outlive_their_peers_shim() {
    let mut bench = Bench::new();
    let (one, ..) = bench.held(1);
    bench.held(2);
    let start = bench.now;
    // The peer's shim is down, its programs are not: one of them sends.
    let (mut received, mut gone) = (0, Vec::new());
    while bench.now < start + ms(90_000) {
        for output in bench.next() {
            match output {
                Output::Look { key, .. } => {
                    received += 1;
                    bench.shim.looked(bench.now, key, if key == one { received } else { 7 }, 0);
                }
                Output::CheckRead { key } => bench.shim.read_all(bench.now, key, true),
                _ => {}
            }
        }
        gone.extend(ends(&bench.outputs()));
    }
    assert_eq!(gone, [(2, EndReason::PeerTimedOut)]);
    assert_eq!(bench.shim.census().0, 1);
}

#[test]
fn each_flow_has_its_own_timeout() {
    let mut bench = Bench::new();
    for (flow, timeout) in [(1, 4_000), (2, 8_000), (3, 0)] {
        held(&mut bench, flow, timeout);
    }
    let (start, mut gone) = (bench.now, Vec::new());
    while gone.len() < 3 {
        let outputs = bench.next();
        let left = quiet(&mut bench, outputs, 0);
        let elapsed = bench.now - start;
        gone.extend(ends(&left).into_iter().map(|(flow, _)| (flow, elapsed)));
    }
    for ((flow, elapsed), (want, timeout)) in gone.iter().zip([(1, 4_000), (2, 8_000), (3, 30_000)]) {
        assert!(*flow == want && *elapsed <= ms(timeout) && *elapsed >= ms(timeout * 8 / 10), "{gone:?}");
    }
    bench.assert_empty();
}

#[test]
fn classic_peers_are_not_probed() {
    let mut bench = Bench::new();
    bench.held_classic(1);
    bench.next();
    assert_eq!(bench.shim.poll_timeout(), None);
    assert_eq!(bench.shim.counters().get(Reason::Probes), 0);
}

#[test]
fn a_client_behind_a_nat_is_told_where_its_shim_was_heard() {
    let mut bench = Bench::new();
    let (one, ours) = accepted(&mut bench, 5);
    let probe =
        Control { kind: ControlKind::Probe, host: HostId(2), boot: BootId(2), sender: WireId(5), receiver: ours };
    bench.request(NATTED, &probe.encode());
    let [Output::Uncatch { .. }, alive] = &bench.outputs()[..] else { panic!("its way is known") };
    assert_eq!(control_of(alive).unwrap().0, addr(NATTED));
    // Of the same host, another flow: told there too, though nothing was ever heard of this one.
    let (two, _) = accepted(&mut bench, 6);
    for (key, flow) in [(one, 105), (two, 106)] {
        bench.shim.released(bench.now, FlowId(flow));
        bench.shim.sent_all(bench.now, key, true);
        let (to, dealloc) = bench.outputs().iter().find_map(control_of).unwrap();
        assert_eq!((to, dealloc.kind), (addr(NATTED), ControlKind::Dealloc { died: false }));
    }
    // The NAT has another port for it meanwhile: the probe that says so is answered with what it has not heard yet.
    bench.request("10.0.0.2:7002", &probe.encode());
    let (to, again) = control_of(&bench.one()).unwrap();
    assert_eq!((to, again.kind), (addr("10.0.0.2:7002"), ControlKind::Dealloc { died: false }));
    assert!(control_of(&bench.next()[0]).is_some());
}

#[test]
fn nobody_elsewhere_takes_the_path_of_a_host_whose_ids_it_knows() {
    // An attacker allocates a flow under the victim's host and boot ids and is heard by that flow's ids.
    let mut bench = Bench::new();
    let (victim, victims) = accepted(&mut bench, 5);
    bench.control_from_b(ControlKind::Probe, WireId(5), victims);
    bench.request("10.0.0.66:40000", &extended("here", 66));
    let Some(Output::Arrived { key, .. }) = bench.outputs().pop() else { panic!() };
    bench.shim.answered(bench.now, key, Ok(Accept { flow: FlowId(9), owner: owner(), data: vec![] }));
    let Output::Connect { filter: Filter::NoControl(ours), .. } = bench.one() else { panic!() };
    bench.shim.connected(bench.now, key, Ok(1472));
    bench.outputs();
    let probe =
        Control { kind: ControlKind::Probe, host: HostId(2), boot: BootId(2), sender: WireId(66), receiver: ours };
    bench.request("10.0.0.66:3359", &probe.encode());
    // Even a flow of the victim's own address speaks for itself only from elsewhere.
    let (_, other) = accepted(&mut bench, 7);
    let from_elsewhere = Control { sender: WireId(7), receiver: other, ..probe };
    bench.request("10.0.0.66:3359", &from_elsewhere.encode());
    bench.outputs();
    bench.shim.released(bench.now, FlowId(105));
    bench.shim.sent_all(bench.now, victim, true);
    let (to, _) = bench.outputs().iter().find_map(control_of).unwrap();
    assert_eq!(to, addr(B));
}

/// The peer's shim restarts and remembers nothing, while its address is the same. The machine, and how many answers it
/// took until every flow was over.
fn restarted(flows: u64) -> (Bench, u32) {
    let mut bench = Bench::new();
    for flow in 1..=flows {
        bench.held(flow);
    }
    let mut asked: std::collections::VecDeque<_> = bench.next().iter().filter_map(control_of).collect();
    let (start, mut answers) = (bench.now, 0);
    while let Some((_, probe)) = asked.pop_front() {
        answers += 1;
        let control = Control {
            kind: ControlKind::NoSuchFlow,
            host: HostId(2),
            boot: BootId(3),
            sender: probe.receiver,
            receiver: probe.sender,
        };
        bench.request(B, &control.encode());
        asked.extend(bench.outputs().iter().filter_map(control_of));
    }
    assert_eq!(bench.now, start, "at once");
    (bench, answers)
}

#[test]
fn flows_of_an_earlier_boot_end_at_once() {
    let (mut bench, answers) = restarted(100);
    assert_eq!(answers, 100, "each flow is asked for once");
    let mut gone = Vec::new();
    while gone.len() < 100 {
        let outputs = bench.next();
        let left = quiet(&mut bench, outputs, 0);
        gone.extend(ends(&left));
    }
    assert!(gone.iter().all(|(_, reason)| *reason == EndReason::PeerUnknown));
    bench.assert_empty();
}

#[test]
fn one_datagram_from_a_forged_source_asks_for_few_flows() {
    let mut bench = Bench::new();
    let (_, ours, theirs) = bench.held(1);
    for flow in 2..=50 {
        bench.held(flow);
    }
    let control =
        Control { kind: ControlKind::Alive, host: HostId(2), boot: BootId(3), sender: theirs, receiver: ours };
    bench.request("10.0.0.66:3359", &control.encode());
    assert!(bench.outputs().len() <= 6);
}

#[test]
fn a_flow_that_only_one_side_has_is_found() {
    let mut bench = Bench::new();
    for flow in 1..=3 {
        bench.held(flow);
    }
    let start = bench.now;
    let mut gone = Vec::new();
    while gone.is_empty() && bench.now < start + ms(60_000) {
        let outputs = bench.next();
        for (_, probe) in outputs.iter().filter_map(control_of) {
            // The dealloc of the second one was lost as often as it was told.
            let kind = if probe.receiver == WireId(0x5002) { ControlKind::NoSuchFlow } else { ControlKind::Alive };
            bench.control_from_b(kind, probe.receiver, probe.sender);
        }
        let left = quiet(&mut bench, outputs, 0);
        gone.extend(ends(&left));
    }
    assert_eq!(gone, [(2, EndReason::PeerUnknown)]);
    assert_eq!(bench.shim.census().0, 2);
}

#[test]
fn another_host_at_the_same_address_does_not_speak_for_the_flow() {
    let mut bench = Bench::new();
    let (key, ours, theirs) = bench.held(1);
    bench.shim.suspect(bench.now, FlowId(1));
    bench.outputs();
    let other =
        |kind| Control { kind, host: HostId(3), boot: BootId(2), sender: theirs, receiver: ours }.encode().to_vec();
    bench.request(B, &other(ControlKind::NoSuchFlow));
    assert_eq!(bench.shim.row(bench.now, FlowId(1)).unwrap().state, proto::v1::FlowState::Allocated);
    // Nor does it hear for it.
    bench.shim.released(bench.now, FlowId(1));
    bench.shim.sent_all(bench.now, key, true);
    bench.outputs();
    bench.request(B, &other(ControlKind::DeallocAck));
    assert!(control_of(&bench.next()[0]).is_some(), "told on");
    assert_eq!(bench.shim.counters().get(Reason::Spoofed), 2);
}

#[test]
fn a_caller_that_has_not_heard_the_acceptance_is_there() {
    // The accepting side's flow has a timeout below the caller's patience, and all its answers are lost.
    let mut server = Bench::new();
    let mut asked = extension(5);
    (asked.qos.timeout_ms, asked.deadline_ms) = (1000, 60_000);
    let request = Request::Extended(name("here"), asked).encode();
    server.request(B_FLOW, &request);
    let Some(Output::Arrived { key, .. }) = server.outputs().pop() else { panic!() };
    server.shim.answered(server.now, key, Ok(Accept { flow: FlowId(9), owner: owner(), data: vec![] }));
    server.outputs();
    server.shim.connected(server.now, key, Ok(1472));
    server.shim.taken(server.now, FlowId(9));
    for _ in 0..20 {
        server.now += ms(450);
        server.shim.handle_timeout(server.now);
        server.request(B_FLOW, &request);
    }
    assert_eq!(server.shim.row(server.now, FlowId(9)).unwrap().state, proto::v1::FlowState::Allocated);
    // And the caller does not deny a flow whose acceptance it will hear.
    let mut client = Bench::new();
    let (_, extension, _) = client.asking(client.ask(1, "echo"));
    client.control_from_b(ControlKind::Probe, WireId(7), extension.client);
    assert_eq!(client.outputs(), []);
}

#[test]
fn an_end_is_told_where_the_pair_was_heard_last() {
    let mut bench = Bench::new();
    let (one, ours) = accepted(&mut bench, 5);
    let (_, other) = accepted(&mut bench, 6);
    bench.control_from_b(ControlKind::Probe, WireId(5), ours);
    bench.shim.released(bench.now, FlowId(105));
    bench.shim.sent_all(bench.now, one, true);
    assert_eq!(bench.outputs().iter().find_map(control_of).unwrap().0, addr(B));
    // The NAT forgot its listen port, and the next probe has another flow's ids.
    let (host, boot) = (HostId(2), BootId(2));
    let probe = Control { kind: ControlKind::Probe, host, boot, sender: WireId(6), receiver: other };
    bench.request(NATTED, &probe.encode());
    bench.outputs();
    assert_eq!(control_of(&bench.next()[0]).unwrap().0, addr(NATTED));
}
