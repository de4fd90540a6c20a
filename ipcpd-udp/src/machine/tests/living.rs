//! Flows that live: suspected, probed, kept alive, taken back after a restart.

use super::*;

fn gone(flow: u64, reason: EndReason) -> Output {
    Output::Gone { flow: FlowId(flow), reason }
}

#[test]
fn icmp_on_an_extended_flow_only_asks_its_shim() {
    let mut bench = Bench::new();
    let (key, ours, theirs) = bench.held(1);
    bench.shim.suspect(bench.now, FlowId(1));
    let (to, probe) = control_of(&bench.one()).unwrap();
    assert_eq!((to, probe.kind, probe.sender, probe.receiver), (addr(B), ControlKind::Probe, ours, theirs));
    bench.shim.suspect(bench.now, FlowId(1));
    assert_eq!(bench.outputs(), [], "asked already");
    bench.control_from_b(ControlKind::Recovering, theirs, ours);
    assert!(control_of(&bench.next()[0]).is_some(), "asked again");
    bench.control_from_b(ControlKind::Alive, theirs, ours);
    let quiet = bench.now;
    // Silence is no proof.
    bench.shim.suspect(bench.now, FlowId(1));
    let mut probes = bench.outputs().len();
    while bench.shim.poll_timeout().is_some_and(|(at, _)| at < quiet + ms(10_000)) {
        probes += bench.next().len();
    }
    assert_eq!(probes, 4);
    assert_eq!(bench.shim.counters().get(Reason::ProbeUnanswered), 1);
    // Its shim's word is.
    bench.control_from_b(ControlKind::NoSuchFlow, theirs, ours);
    assert_eq!(bench.shim.census().0, 1, "only when asked");
    bench.shim.suspect(bench.now, FlowId(1));
    bench.outputs();
    bench.control_from_b(ControlKind::NoSuchFlow, theirs, ours);
    assert_eq!(bench.next(), [Output::CheckRead { key }]);
    bench.shim.read_all(bench.now, key, true);
    assert!(bench.outputs().contains(&gone(1, EndReason::PeerUnknown)));
    bench.assert_empty();
}

#[test]
fn icmp_on_a_classic_flow_ends_it() {
    let mut bench = Bench::new();
    let key = bench.held_classic(1);
    bench.shim.suspect(bench.now, FlowId(1));
    assert_eq!(bench.next(), [Output::CheckRead { key }]);
    bench.shim.read_all(bench.now, key, true);
    assert!(bench.outputs().contains(&gone(1, EndReason::PeerUnknown)));
    bench.assert_empty();
}

#[test]
fn a_probe_is_answered_by_both_ids() {
    let mut bench = Bench::new();
    let (_, ours, theirs) = bench.held(1);
    bench.control_from_b(ControlKind::Probe, theirs, ours);
    assert_eq!(control_of(&bench.one()).unwrap().1.kind, ControlKind::Alive);
    bench.control_from_b(ControlKind::Probe, WireId(theirs.0 ^ 1), ours);
    assert_eq!(control_of(&bench.one()).unwrap().1.kind, ControlKind::NoSuchFlow);
}

#[test]
fn control_answers_follow_the_peer_that_knows_both_ids() {
    let mut bench = Bench::new();
    let (_, ours, theirs) = bench.held(1);
    let control =
        Control { kind: ControlKind::Probe, host: HostId(2), boot: BootId(2), sender: theirs, receiver: ours };
    bench.request("10.0.0.9:1234", &control.encode());
    assert_eq!(control_of(&bench.one()).unwrap().0, addr("10.0.0.9:1234"));
    bench.shim.suspect(bench.now, FlowId(1));
    assert_eq!(control_of(&bench.one()).unwrap().0, addr("10.0.0.9:1234"));
}

#[test]
fn a_keep_alive_at_least_each_period_while_idle() {
    let mut bench = Bench::new();
    let ask = Ask { qos: Qos { keepalive_ms: 4000, ..Qos::raw() }, ..bench.ask(1, "echo") };
    let (key, ..) = bench.asking(ask);
    bench.answer(key, B_FLOW, b"echo");
    bench.outputs();
    bench.shim.connected(bench.now, key, Ok(1472));
    bench.outputs();
    bench.shim.taken(bench.now, FlowId(1));
    let count = Output::Count { key, flow: FlowId(1) };
    let alive = Output::SendFlow { key, to: None, bytes: Vec::new() };
    let mut sent = Vec::new();
    for sdus in [0, 5, 5, 5, 9, 9] {
        while !bench.next().contains(&count) {}
        bench.shim.counted(key, sdus);
        sent.push(bench.outputs() == [alive.clone()]);
    }
    assert_eq!(sent, [true, false, true, true, false, true]);
    assert_eq!(bench.elapsed(), ms(6 * 2000));
    // A peer may not ask for a flood.
    let mut flood = extension(5);
    flood.qos.keepalive_ms = 1;
    bench.request(B_FLOW, &Request::Extended(name("here"), flood).encode());
    let Some(Output::Arrived { key, .. }) = bench.outputs().pop() else { panic!() };
    bench.shim.answered(bench.now, key, Ok(Accept { flow: FlowId(2), owner: owner(), data: vec![] }));
    bench.shim.connected(bench.now, key, Ok(1472));
    bench.outputs();
    let now = bench.now;
    while !bench.next().contains(&Output::Count { key, flow: FlowId(2) }) {}
    assert_eq!(bench.now - now, ms(500));
}

#[test]
fn a_restarted_shim_takes_its_flows_back_and_no_others() {
    let mut bench = Bench::new();
    let (key, extension, _) = bench.asking(bench.ask(1, "echo"));
    bench.answer(key, B_FLOW, &answer(extension.client, WireId(7), Verdict::Accepted).encode(&name("echo")));
    bench.shim.connected(bench.now, key, Ok(1472));
    let Some(Output::Offer { ticket, .. }) = bench.outputs().into_iter().find(|o| matches!(o, Output::Offer { .. }))
    else {
        panic!()
    };
    let local = ticket::open(&[3; 32], &ticket).unwrap().local;
    let mut restarted = Bench::new();
    let adopt = |bench: &mut Bench, ticket: &[u8], uid, local, peer| {
        let owner = Owner { uid, ..owner() };
        bench.shim.adopt(bench.now, ticket, owner, local, peer).map_err(|failure| failure.kind())
    };
    let not_permitted = Err(FailureKind::NotPermitted);
    let mut forged = ticket.clone();
    forged[20] ^= 1;
    assert_eq!(adopt(&mut restarted, &forged, 1000, local, addr(B_FLOW)), not_permitted);
    assert_eq!(adopt(&mut restarted, &ticket, 1001, local, addr(B_FLOW)), not_permitted);
    assert_eq!(adopt(&mut restarted, &ticket, 1000, local, addr("10.0.0.3:45000")), not_permitted);
    assert_eq!(adopt(&mut restarted, &ticket, 1000, addr("10.0.0.1:1"), addr(B_FLOW)), not_permitted);
    let adopted = adopt(&mut restarted, &ticket, 1000, local, addr(B_FLOW)).unwrap();
    assert_eq!((adopted.flow, adopted.sdu_limit), (FlowId(1), 1472));
    let again = adopt(&mut restarted, &ticket, 1000, local, addr(B_FLOW));
    assert_eq!(again, Err(FailureKind::AlreadyExists));
    // And ends them as its own; the peer's shim hears at once where this one is.
    let (to, probe) = control_of(&restarted.one()).unwrap();
    assert_eq!((to, probe.kind), (addr(B), ControlKind::Probe));
    restarted.control_from_b(ControlKind::Dealloc { died: false }, WireId(7), extension.client);
    assert!(control_of(&restarted.one()).is_some());
    let mut full = Bench::with(Settings { max_flows: 0, ..settings(A) });
    assert_eq!(adopt(&mut full, &ticket, 1000, local, addr(B_FLOW)), Err(FailureKind::Exhausted));
}
