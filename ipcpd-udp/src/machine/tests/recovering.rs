//! A shim that was started again: what it says while programs bring their flows back, and what its peers make of it.

use super::*;

const RECOVERY: u64 = 5_000;

fn recovering() -> Bench {
    let mut bench = Bench::new();
    bench.shim.recover(bench.now);
    bench
}

#[test]
fn what_is_not_known_yet_is_recovering_for_five_seconds() {
    let mut bench = recovering();
    for kind in [ControlKind::Probe, ControlKind::Dealloc { died: false }, ControlKind::Open] {
        bench.control_from_b(kind, WireId(7), WireId(8));
        let (to, answer) = control_of(&bench.one()).unwrap();
        assert_eq!((to, answer.kind), (addr(B), ControlKind::Recovering), "{kind:?}");
        assert_eq!((answer.sender, answer.receiver), (WireId(8), WireId(7)));
    }
    bench.request(B_FLOW, &extended("later", 5));
    assert_eq!(verdict_of(&bench.one(), "later").unwrap().0, Verdict::Recovering);
    // What it knows it serves.
    bench.request(B_FLOW, &extended("here", 6));
    assert!(bench.outputs().iter().any(|output| matches!(output, Output::Arrived { .. })));
    bench.now += ms(RECOVERY);
    let after = [
        (ControlKind::Probe, ControlKind::NoSuchFlow),
        (ControlKind::Dealloc { died: false }, ControlKind::DeallocAck),
        (ControlKind::Open, ControlKind::NoSuchFlow),
    ];
    for (kind, want) in after {
        bench.control_from_b(kind, WireId(7), WireId(8));
        assert_eq!(control_of(&bench.one()).unwrap().1.kind, want, "{kind:?}");
    }
    bench.request(B_FLOW, &extended("later", 5));
    assert_eq!(verdict_of(&bench.one(), "later").unwrap().0, Verdict::UnknownName);
    assert_eq!(bench.shim.counters().get(Reason::SaidRecovering), 4);
}

#[test]
fn a_first_start_recovers_nothing() {
    let mut bench = Bench::new();
    bench.control_from_b(ControlKind::Probe, WireId(7), WireId(8));
    assert_eq!(control_of(&bench.one()).unwrap().1.kind, ControlKind::NoSuchFlow);
}

fn from_boot(boot: u64, kind: ControlKind, theirs: WireId, ours: WireId) -> Vec<u8> {
    Control { kind, host: HostId(2), boot: BootId(boot), sender: theirs, receiver: ours }.encode().to_vec()
}

#[test]
fn a_recovering_peer_is_asked_until_it_knows() {
    let mut bench = Bench::new();
    let (_, ours, theirs) = bench.held(1);
    bench.shim.suspect(bench.now, FlowId(1));
    bench.outputs();
    // Longer than all probes of a silent peer, and still the flow lives.
    for _ in 0..8 {
        bench.request(B, &from_boot(3, ControlKind::Recovering, theirs, ours));
        assert_eq!(bench.outputs(), []);
        let asked = bench.now;
        let outputs = bench.next();
        assert_eq!(control_of(&outputs[0]).unwrap().1.kind, ControlKind::Probe);
        assert_eq!(bench.now - asked, ms(1000));
    }
    bench.request(B, &from_boot(3, ControlKind::Alive, theirs, ours));
    bench.outputs();
    assert_eq!(bench.shim.row(bench.now, FlowId(1)).unwrap().state, proto::v1::FlowState::Allocated);
    assert!(bench.shim.visited.iter().any(|(from, _, to)| (*from, *to) == (Phase::Probing, Phase::Held)));
}

#[test]
fn flows_that_were_brought_back_go_on_and_the_others_end() {
    let mut bench = Bench::new();
    let flows: Vec<_> = (1..=9).map(|flow| bench.held(flow)).collect();
    let mut asked: std::collections::VecDeque<_> = bench.next().iter().filter_map(control_of).collect();
    while let Some((_, probe)) = asked.pop_front() {
        // Every third one's program died with the machine's last boot.
        let kind = if probe.receiver.0 % 3 == 0 { ControlKind::NoSuchFlow } else { ControlKind::Alive };
        bench.request(B, &from_boot(3, kind, probe.receiver, probe.sender));
        asked.extend(bench.outputs().iter().filter_map(control_of).filter(|(_, c)| c.kind == ControlKind::Probe));
    }
    let states = flows
        .iter()
        .enumerate()
        .map(|(n, (_, _, theirs))| (theirs.0 % 3 == 0, bench.shim.row(bench.now, FlowId(n as u64 + 1)).unwrap().state));
    for (ends, state) in states {
        let want = if ends { proto::v1::FlowState::Ending } else { proto::v1::FlowState::Allocated };
        assert_eq!(state, want);
    }
    assert!(bench.shim.counters().get(Reason::PeersRestarted) > 0);
}

#[test]
fn a_client_that_restarts_is_heard_at_once_by_the_flows_it_brings_back() {
    // Two machines, the client's as it was and as it is after its restart.
    let mut before = Bench::new();
    let (key, extension, _) = before.asking(before.ask(1, "echo"));
    before.answer(key, B_FLOW, &answer(extension.client, WireId(7), Verdict::Accepted).encode(&name("echo")));
    before.shim.connected(before.now, key, Ok(1472));
    let ticket = before.outputs().into_iter().find_map(|output| match output {
        Output::Offer { ticket, .. } => Some(ticket),
        _ => None,
    });
    let mut after = Bench::with(Settings { boot: BootId(10), ..settings(A) });
    after.shim.recover(after.now);
    let ticket = ticket.unwrap();
    let said = ticket::open(&[3; 32], &ticket).unwrap();
    assert_eq!((said.host, said.boot), (HostId(2), BootId(2)));
    after.control_from_b(ControlKind::Probe, WireId(7), extension.client);
    assert_eq!(control_of(&after.one()).unwrap().1.kind, ControlKind::Recovering);
    after.shim.adopt(after.now, &ticket, owner(), said.local, said.peer).unwrap();
    let (to, probe) = control_of(&after.one()).unwrap();
    assert_eq!((to, probe.kind, probe.boot), (addr(B), ControlKind::Probe, BootId(10)));
    after.control_from_b(ControlKind::Probe, WireId(7), extension.client);
    assert_eq!(control_of(&after.one()).unwrap().1.kind, ControlKind::Alive);
}

#[test]
fn a_ticket_is_good_for_its_own_user_and_socket_only() {
    let mut before = Bench::new();
    let (key, extension, _) = before.asking(before.ask(1, "echo"));
    before.answer(key, B_FLOW, &answer(extension.client, WireId(7), Verdict::Accepted).encode(&name("echo")));
    before.shim.connected(before.now, key, Ok(1472));
    let offered = |output| if let Output::Offer { ticket, .. } = output { Some(ticket) } else { None };
    let ticket = before.outputs().into_iter().find_map(offered).unwrap();
    let said = ticket::open(&[3; 32], &ticket).unwrap();
    let mut after = Bench::with(Settings { boot: BootId(10), ..settings(A) });
    let mut forged = ticket.clone();
    forged[9] ^= 1;
    let another = Owner { uid: owner().uid + 1, ..owner() };
    let elsewhere = addr("10.9.9.9:1");
    let tries = [
        (&forged, owner(), said.local, said.peer, "not one of this IPCP's"),
        (&ticket, another, said.local, said.peer, "belongs to another user"),
        (&ticket, owner(), elsewhere, said.peer, "not the one of the ticket"),
        (&ticket, owner(), said.local, elsewhere, "not the one of the ticket"),
    ];
    for (ticket, owner, local, peer, why) in tries {
        let failure = after.shim.adopt(after.now, ticket, owner, local, peer).unwrap_err();
        assert!(failure.kind() == FailureKind::NotPermitted && failure.message.contains(why), "{failure:?}");
    }
    after.shim.adopt(after.now, &ticket, owner(), said.local, said.peer).unwrap();
    let again = after.shim.adopt(after.now, &ticket, owner(), said.local, said.peer).unwrap_err();
    assert_eq!(again.kind(), FailureKind::AlreadyExists);
}

#[test]
fn a_flow_that_followed_its_client_can_be_brought_back() {
    let mut bench = Bench::new();
    bench.request(B_FLOW, &extended("here", 5));
    let Some(Output::Arrived { key, .. }) = bench.outputs().pop() else { panic!() };
    bench.shim.answered(bench.now, key, Ok(Accept { flow: FlowId(9), owner: owner(), data: vec![] }));
    bench.outputs();
    bench.shim.connected(bench.now, key, Ok(1472));
    let ticket = bench.outputs().into_iter().find_map(|output| match output {
        Output::Offer { ticket, .. } => Some(ticket),
        _ => None,
    });
    let said = ticket::open(&[3; 32], ticket.as_ref().unwrap()).unwrap();
    let mut after = Bench::new();
    // The ticket was sealed before OPEN came; the socket's own port is still the proof.
    let adopted = after.shim.adopt(after.now, &ticket.unwrap(), owner(), said.local, addr("10.0.0.2:61000")).unwrap();
    assert_eq!(after.shim.row(after.now, adopted.flow).unwrap().peer, addr("10.0.0.2:61000"));
    assert_eq!(after.outputs(), [], "the side that accepted is asked, it does not ask");
}

#[test]
fn a_caller_is_told_that_the_shim_restarted() {
    let mut bench = Bench::new();
    let (key, extension, _) = bench.asking(bench.ask(1, "echo"));
    bench.answer(key, B, &answer(extension.client, WireId(0), Verdict::Recovering).encode(&name("echo")));
    let failure = loop {
        if let Some(Output::Failed { failure, .. }) =
            bench.next().into_iter().find(|output| matches!(output, Output::Failed { .. }))
        {
            break failure;
        }
    };
    assert_eq!(failure.kind(), FailureKind::TimedOut);
    assert!(failure.message.contains("restarted and does not know echo yet; try again"), "{failure}");
}

#[test]
fn what_a_peer_let_go_while_this_shim_was_down_is_found_at_its_first_word() {
    // Flows that this side accepted, so that the peer's shim is the one who asks; its deallocs went unheard.
    let mut bench = Bench::new();
    let mut tickets = Vec::new();
    for flow in 1..=30u64 {
        bench.request(&format!("10.0.0.2:{}", 45_000 + flow), &extended("here", 100 + flow));
        let Some(Output::Arrived { key, .. }) = bench.outputs().pop() else { panic!() };
        bench.shim.answered(bench.now, key, Ok(Accept { flow: FlowId(flow), owner: owner(), data: vec![] }));
        bench.outputs();
        bench.shim.connected(bench.now, key, Ok(1472));
        tickets.extend(bench.outputs().into_iter().find_map(|output| match output {
            Output::Offer { ticket, .. } => Some(ticket),
            _ => None,
        }));
    }
    let mut after = Bench::with(Settings { boot: BootId(10), ..settings(A) });
    after.shim.recover(after.now);
    let mut ids = Vec::new();
    for ticket in &tickets {
        let said = ticket::open(&[3; 32], ticket).unwrap();
        after.shim.adopt(after.now, ticket, owner(), said.local, said.peer).unwrap();
        ids.push((said.ours, said.theirs));
    }
    assert_eq!(after.outputs(), [], "nobody is asked before the peer's shim is heard");
    // It has the even ones still, and asks for one of them.
    after.control_from_b(ControlKind::Probe, ids[1].1, ids[1].0);
    let mut asked: std::collections::VecDeque<_> = after.outputs().iter().filter_map(control_of).collect();
    let mut probes = 0;
    while let Some((_, control)) = asked.pop_front() {
        if control.kind != ControlKind::Probe {
            continue;
        }
        probes += 1;
        let lost = control.receiver.0 % 2 == 1;
        let kind = if lost { ControlKind::NoSuchFlow } else { ControlKind::Alive };
        after.control_from_b(kind, control.receiver, control.sender);
        let now: Vec<_> = after.outputs().iter().filter_map(control_of).collect();
        assert!(now.len() <= 5, "a few at each answer: {now:?}");
        asked.extend(now);
    }
    assert_eq!(probes, 29, "each but the one that the peer named is asked for once");
    for (n, (_, theirs)) in ids.iter().enumerate() {
        let state = after.shim.row(after.now, FlowId(n as u64 + 1)).unwrap().state;
        let want = if theirs.0 % 2 == 1 { proto::v1::FlowState::Ending } else { proto::v1::FlowState::Allocated };
        assert_eq!(state, want, "flow {}", n + 1);
    }
}

#[test]
fn a_flow_brought_back_is_as_old_as_it_is() {
    let mut before = Bench::new();
    let epoch = handoff::kept::Epoch { at: before.now, ms: 1_000_000 };
    before.shim.clock(epoch);
    before.request(B_FLOW, &extended("here", 5));
    let Some(Output::Arrived { key, .. }) = before.outputs().pop() else { panic!() };
    before.shim.answered(before.now, key, Ok(Accept { flow: FlowId(9), owner: owner(), data: vec![] }));
    before.outputs();
    before.shim.connected(before.now, key, Ok(1472));
    let ticket = before.outputs().into_iter().find_map(|output| match output {
        Output::Offer { ticket, .. } => Some(ticket),
        _ => None,
    });
    let ticket = ticket.unwrap();
    let said = ticket::open(&[3; 32], &ticket).unwrap();
    assert_eq!(said.born, 1_000_000);
    // Another process, an hour later, with a clock of its own.
    let mut after = Bench::new();
    after.shim.clock(handoff::kept::Epoch { at: after.now, ms: 4_600_000 });
    after.now += ms(500);
    after.shim.adopt(after.now, &ticket, owner(), said.local, said.peer).unwrap();
    assert_eq!(after.shim.row(after.now, FlowId(9)).unwrap().age, ms(3_600_500));
    assert_eq!(after.shim.counters().get(Reason::Adopted), 1);
    let again = after.shim.adopt(after.now, &ticket, owner(), said.local, said.peer).unwrap_err();
    assert_eq!(again.kind(), FailureKind::AlreadyExists);
    let mut forged = ticket.clone();
    forged[20] ^= 1;
    let refused = after.shim.adopt(after.now, &forged, owner(), said.local, said.peer).unwrap_err();
    assert_eq!(refused.kind(), FailureKind::NotPermitted);
    assert_eq!(after.shim.counters().get(Reason::TicketRefused), 2);
}

/// What was asked by the start before may be answered still, at the port it was asked from: on the listen port of the
/// peer that would be one address for two flows.
#[test]
fn a_restarted_shim_asks_from_other_ports_than_before() {
    let mut asked: Vec<std::collections::BTreeSet<u16>> = Vec::new();
    for start in 1..=3 {
        let mut bench = Bench::with(Settings { start, boot: BootId(start), ..settings(A) });
        bench.shim.recover(bench.now);
        let opened = |flow| {
            bench.shim.flow_alloc(bench.now, bench.ask(flow, "echo")).unwrap();
            let Output::Open { port, .. } = bench.one() else { panic!() };
            port
        };
        let ports = (1..=60).map(opened).collect();
        assert!(asked.iter().all(|before| before.is_disjoint(&ports)), "start {start}");
        asked.push(ports);
    }
}

/// An answer by the peer's `boot`-th start.
fn by(boot: u64, client: WireId, server: u64, verdict: Verdict) -> Vec<u8> {
    let mut said = answer(client, WireId(server), verdict);
    if let Answer::Extended { boot: field, cookie, .. } = &mut said {
        *field = BootId(boot);
        *cookie = if verdict == Verdict::Cookie { vec![boot as u8] } else { Vec::new() };
    }
    said.encode(&name("echo"))
}

/// Flows on the listen port: both starts' flows would be one address to the client's kernel.
#[test]
fn what_a_start_accepted_that_another_one_has_followed_is_nothing() {
    for knocks in [false, true] {
        let mut bench = Bench::new();
        let (key, extension, _) = bench.asking(bench.ask(1, "echo"));
        let ours = extension.client;
        for boot in [2, 3] {
            bench.answer(key, B, &by(boot, ours, 0, Verdict::Cookie));
            assert!(matches!(bench.one(), Output::SendFlow { .. }), "asked again with its cookie");
        }
        // Held up on its way: from sp or from the listen port, it comes too late.
        for from in [B, B_FLOW] {
            bench.answer(key, from, &by(2, ours, 7, Verdict::Accepted));
            bench.answer(key, B, &by(2, ours, 0, Verdict::Refused));
            assert_eq!(bench.outputs(), [], "{from}");
        }
        assert_eq!(bench.shim.counters().get(Reason::Late), 4);
        if knocks {
            let mut aside = answer(ours, WireId(8), Verdict::Accepted);
            if let Answer::Extended { boot, server_port, .. } = &mut aside {
                (*boot, *server_port) = (BootId(3), Some(45_000));
            }
            bench.answer(key, B, &aside.encode(&name("echo")));
            assert_eq!(bench.outputs().len(), 4, "two OPENs, and the caller is told");
            bench.answer(key, B_FLOW, &by(2, ours, 7, Verdict::Accepted));
            assert_eq!(bench.outputs(), []);
        }
        bench.answer(key, B_FLOW, &by(3, ours, 8, Verdict::Accepted));
        assert!(matches!(bench.one(), Output::Connect { .. }));
        assert_eq!((bench.shim.flows[&key].theirs, bench.shim.flows[&key].of.unwrap().boot), (WireId(8), BootId(3)));
    }
}

/// However many starts somebody claims, a bounded number of them is kept.
#[test]
fn a_peer_that_says_it_restarts_all_the_time_is_not_remembered_for_ever() {
    let mut bench = Bench::new();
    let (key, extension, _) = bench.asking(bench.ask(1, "echo"));
    for boot in 0..1000 {
        bench.answer(key, B, &by(boot, extension.client, 0, Verdict::Recovering));
    }
    assert!(bench.shim.flows[&key].starts.len() <= 4);
}

/// Whoever has answered as an extended shim is none of 2016: somebody strips extensions.
#[test]
fn no_classic_echo_counts_behind_an_extended_answer() {
    for verdict in [Verdict::Pending, Verdict::Recovering, Verdict::Cookie] {
        let mut bench = Bench::new();
        let (key, extension, _) = bench.asking(bench.ask(1, "echo"));
        bench.answer(key, B, &by(2, extension.client, 0, verdict));
        bench.outputs();
        bench.answer(key, B_FLOW, b"echo");
        assert_eq!(bench.outputs(), [], "{verdict:?}");
        assert_eq!(bench.shim.counters().get(Reason::Spoofed), 1, "{verdict:?}");
    }
}
