//! How flows end.

use super::*;

fn ended(flow: u64, reason: EndReason) -> Output {
    Output::Ended { flow: FlowId(flow), reason }
}

fn gone(flow: u64, reason: EndReason) -> Output {
    Output::Gone { flow: FlowId(flow), reason }
}

#[test]
fn dealloc_is_told_after_the_send_queue_is_empty_and_until_it_is_heard() {
    let mut bench = Bench::new();
    let (key, ours, theirs) = bench.held(1);
    bench.shim.released(bench.now, FlowId(1));
    let outputs = bench.outputs();
    assert_eq!(
        outputs,
        [Output::Forget { flow: FlowId(1) }, ended(1, EndReason::Deallocated), Output::CheckSent { key }]
    );
    bench.shim.sent_all(bench.now, key, false);
    assert_eq!(bench.next(), [Output::CheckSent { key }]);
    bench.shim.sent_all(bench.now, key, true);
    let outputs = bench.outputs();
    assert_eq!(outputs[0], Output::Close { key });
    let (to, control) = control_of(&outputs[1]).unwrap();
    assert_eq!((to, control.kind), (addr(B), ControlKind::Dealloc { died: false }));
    assert_eq!((control.sender, control.receiver), (ours, theirs));
    let mut told = vec![bench.elapsed().as_millis()];
    for _ in 0..7 {
        assert!(control_of(&bench.next()[0]).is_some());
        told.push(bench.elapsed().as_millis());
    }
    let gaps: Vec<_> = told.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // Spread, so that flows that ended together are not told of together again.
    for (gap, pause) in gaps.iter().zip([100, 200, 400, 800, 1600, 3200, 6400]) {
        assert!((pause / 2..=pause * 3 / 2).contains(gap), "{gaps:?}");
    }
    assert_eq!(bench.next(), []);
    assert_eq!(bench.shim.counters().get(Reason::DeallocUnheard), 1);
    bench.assert_empty();
}

#[test]
fn an_ack_with_both_ids_ends_the_telling() {
    let mut bench = Bench::new();
    let (key, ours, theirs) = bench.held(1);
    bench.shim.released(bench.now, FlowId(1));
    bench.shim.sent_all(bench.now, key, true);
    bench.control_from_b(ControlKind::DeallocAck, WireId(theirs.0 ^ 1), ours);
    assert_eq!(bench.shim.census().0, 1, "half the ids are nobody's");
    bench.control_from_b(ControlKind::DeallocAck, theirs, ours);
    bench.assert_empty();
}

#[test]
fn a_send_queue_that_never_empties_is_left_after_a_second() {
    let mut bench = Bench::new();
    let (key, ..) = bench.held(1);
    bench.shim.released(bench.now, FlowId(1));
    bench.outputs();
    loop {
        bench.shim.sent_all(bench.now, key, false);
        if let Some((_, control)) = bench.outputs().iter().find_map(control_of) {
            assert!(matches!(control.kind, ControlKind::Dealloc { .. }));
            break;
        }
        assert_eq!(bench.next(), [Output::CheckSent { key }]);
    }
    assert_eq!(bench.elapsed(), ms(1000));
}

#[test]
fn a_dead_program_is_told_of_as_dead_and_its_socket_revoked() {
    let mut bench = Bench::new();
    let (key, ..) = bench.held(1);
    bench.shim.died(bench.now, FlowId(1));
    let outputs = bench.outputs();
    assert!(outputs.contains(&ended(1, EndReason::ProgramDied)) && outputs.contains(&Output::Revoke { key }));
    bench.shim.sent_all(bench.now, key, true);
    let (_, control) = bench.outputs().iter().find_map(control_of).unwrap();
    assert_eq!(control.kind, ControlKind::Dealloc { died: true });
}

#[test]
fn close_before_the_queue_is_drained() {
    // The C original closed at once; a dealloc may also overtake SDUs.
    let mut bench = Bench::new();
    let (key, ours, theirs) = bench.held(1);
    bench.control_from_b(ControlKind::Dealloc { died: false }, theirs, ours);
    let (to, ack) = control_of(&bench.one()).unwrap();
    assert_eq!((to, ack.kind, ack.sender, ack.receiver), (addr(B), ControlKind::DeallocAck, ours, theirs));
    // Not before the grace is over, though the queue is empty.
    bench.shim.read_all(bench.now, key, true);
    assert_eq!(bench.outputs(), []);
    assert_eq!(bench.next(), [Output::CheckRead { key }]);
    assert_eq!(bench.elapsed(), ms(100));
    bench.shim.read_all(bench.now, key, false);
    // Said again: acknowledged again.
    bench.control_from_b(ControlKind::Dealloc { died: false }, theirs, ours);
    assert!(control_of(&bench.one()).is_some());
    assert_eq!(bench.next(), [Output::CheckRead { key }]);
    bench.shim.read_all(bench.now, key, true);
    let reason = EndReason::PeerDeallocated;
    assert_eq!(bench.outputs(), [gone(1, reason), Output::Retire { key }, ended(1, reason), Output::Close { key }]);
    bench.assert_empty();
}

#[test]
fn a_program_that_does_not_read_is_told_soon_and_revoked_after_two_seconds() {
    let mut bench = Bench::new();
    let (key, ours, theirs) = bench.held(1);
    bench.control_from_b(ControlKind::Dealloc { died: true }, theirs, ours);
    bench.outputs();
    let mut told = None;
    let outputs = loop {
        let outputs = bench.next();
        if outputs.contains(&Output::Retire { key }) {
            break outputs;
        }
        if outputs.contains(&gone(1, EndReason::PeerDied)) {
            assert_eq!(told.replace(bench.elapsed()), None, "told once");
        }
        assert!(outputs.contains(&Output::CheckRead { key }));
        bench.shim.read_all(bench.now, key, false);
    };
    assert!(told.unwrap() < ms(700), "{told:?}");
    assert!((ms(2000)..ms(2200)).contains(&bench.elapsed()), "{:?}", bench.elapsed());
    assert_eq!(outputs, [Output::Retire { key }, ended(1, EndReason::PeerDied), Output::Close { key }]);
    bench.assert_empty();
}

#[test]
fn what_was_sent_before_the_program_took_its_socket_can_be_read() {
    let mut bench = Bench::new();
    let (key, extension, _) = bench.asking(bench.ask(1, "echo"));
    bench.answer(key, B_FLOW, &answer(extension.client, WireId(7), Verdict::Accepted).encode(&name("echo")));
    bench.shim.connected(bench.now, key, Ok(1472));
    bench.outputs();
    bench.control_from_b(ControlKind::Dealloc { died: false }, WireId(7), extension.client);
    bench.outputs();
    for _ in 0..20 {
        assert_eq!(bench.next(), [], "nothing is taken from a program that has nothing yet");
    }
    bench.shim.taken(bench.now, FlowId(1));
    let taken = bench.now;
    loop {
        let outputs = bench.next();
        if outputs.contains(&Output::Retire { key }) {
            break;
        }
        bench.shim.read_all(bench.now, key, false);
    }
    assert!(bench.now >= taken + ms(2000));
    bench.assert_empty();
}

#[test]
fn dealloc_of_an_unknown_flow_is_acknowledged_so_that_the_peer_stops() {
    let mut bench = Bench::new();
    bench.control_from_b(ControlKind::Dealloc { died: false }, WireId(7), WireId(8));
    let (_, ack) = control_of(&bench.one()).unwrap();
    assert_eq!((ack.kind, ack.sender, ack.receiver), (ControlKind::DeallocAck, WireId(8), WireId(7)));
}

#[test]
fn half_the_ids_end_no_flow() {
    let mut bench = Bench::new();
    let (_, ours, theirs) = bench.held(1);
    for (sender, receiver) in
        [(WireId(theirs.0 ^ 1), ours), (theirs, WireId(ours.0 ^ 1)), (WireId(0), ours), (theirs, WireId(0))]
    {
        for kind in [ControlKind::Dealloc { died: false }, ControlKind::NoSuchFlow, ControlKind::DeallocAck] {
            bench.control_from_b(kind, sender, receiver);
        }
    }
    assert_eq!(bench.shim.row(bench.now, FlowId(1)).unwrap().state, proto::v1::FlowState::Allocated);
}

#[test]
fn both_sides_at_once() {
    let mut bench = Bench::new();
    let (key, ours, theirs) = bench.held(1);
    bench.shim.released(bench.now, FlowId(1));
    bench.shim.sent_all(bench.now, key, true);
    bench.outputs();
    bench.control_from_b(ControlKind::Dealloc { died: false }, theirs, ours);
    assert!(matches!(control_of(&bench.one()).unwrap().1.kind, ControlKind::DeallocAck));
    bench.assert_empty();
}

#[test]
fn nobody_takes_the_socket() {
    let mut bench = Bench::new();
    let (key, extension, _) = bench.asking(bench.ask(1, "echo"));
    bench.answer(key, B_FLOW, &answer(extension.client, WireId(7), Verdict::Accepted).encode(&name("echo")));
    bench.shim.connected(bench.now, key, Ok(1472));
    bench.outputs();
    bench.shim.not_taken(bench.now, FlowId(1));
    assert!(bench.outputs().contains(&ended(1, EndReason::NeverTaken)));
    bench.shim.sent_all(bench.now, key, true);
    assert!(bench.outputs().iter().find_map(control_of).is_some());
}

#[test]
fn nothing_is_ever_said_to_a_classic_peer() {
    let mut bench = Bench::new();
    let key = bench.held_classic(1);
    bench.shim.released(bench.now, FlowId(1));
    let outputs = bench.outputs();
    assert!(outputs.contains(&Output::Close { key }) && !outputs.iter().any(|output| control_of(output).is_some()));
    bench.assert_empty();
}

#[test]
fn irmd_ends_a_flow_in_any_state() {
    let mut bench = Bench::new();
    assert!(!bench.shim.dealloc(bench.now, FlowId(1)));
    let (key, ..) = bench.held(1);
    assert!(bench.shim.dealloc(bench.now, FlowId(1)));
    let outputs = bench.outputs();
    let reason = EndReason::Admin;
    assert_eq!(outputs, [gone(1, reason), ended(1, reason), Output::Revoke { key }, Output::CheckSent { key }]);
    assert!(!bench.shim.dealloc(bench.now, FlowId(1)), "it is over");
    bench.asking(bench.ask(2, "echo"));
    assert!(bench.shim.dealloc(bench.now, FlowId(2)));
    assert!(bench.outputs().iter().any(|output| matches!(output, Output::Failed { .. })));
}

#[test]
fn a_stop_tells_everybody_and_does_not_wait_for_ever() {
    let mut bench = Bench::new();
    let (key, ours, theirs) = bench.held(1);
    bench.asking(bench.ask(2, "echo"));
    bench.request(B_FLOW, &extended("here", 5));
    bench.outputs();
    bench.shim.stop(bench.now);
    let outputs = bench.outputs();
    assert!(outputs.contains(&gone(1, EndReason::IpcpStopped)) && outputs.contains(&Output::Revoke { key }));
    assert!(outputs.iter().any(|output| matches!(output, Output::Failed { .. })));
    assert!(outputs.iter().any(|output| verdict_of(output, "here").is_some_and(|(v, _)| v == Verdict::Exhausted)));
    assert!(!outputs.contains(&Output::Stopped));
    bench.shim.sent_all(bench.now, key, true);
    bench.outputs();
    // No new flows in the meantime.
    assert_eq!(bench.shim.flow_alloc(bench.now, bench.ask(3, "echo")).unwrap_err().kind(), FailureKind::IpcpDown);
    bench.request(B_FLOW, &extended("here", 6));
    assert_eq!(verdict_of(&bench.one(), "here").unwrap().0, Verdict::Exhausted);
    bench.control_from_b(ControlKind::DeallocAck, theirs, ours);
    bench.shim.handle_timeout(bench.now);
    assert_eq!(bench.one(), Output::Stopped);
    // Where nobody acknowledges, a second is enough.
    let mut deaf = Bench::new();
    let (key, ..) = deaf.held(1);
    deaf.shim.stop(deaf.now);
    deaf.shim.sent_all(deaf.now, key, true);
    while !deaf.next().contains(&Output::Stopped) {}
    assert_eq!(deaf.elapsed(), ms(1000));
}

#[test]
fn a_closed_ports_number_is_in_quarantine() {
    // Its next owner would get the old peer's datagrams.
    let mut bench = Bench::with(Settings { cp: (40_000, 40_000), ..settings(A) });
    bench.asking(bench.ask(1, "echo"));
    bench.shim.cancel(bench.now, FlowId(1));
    bench.outputs();
    let failure = bench.shim.flow_alloc(bench.now + ms(1999), bench.ask(2, "echo")).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Exhausted, "{failure}");
    assert!(bench.shim.flow_alloc(bench.now + ms(2000), bench.ask(2, "echo")).is_ok());
}
