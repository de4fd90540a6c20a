//! The asking side.

use super::*;
use proto::Cube;

fn failure(outputs: &[Output]) -> &Failure {
    outputs
        .iter()
        .find_map(|output| match output {
            Output::Failed { failure, .. } => Some(failure),
            _ => None,
        })
        .unwrap_or_else(|| panic!("no failure in {outputs:?}"))
}

#[test]
fn a_flow_from_an_extended_peer() {
    let mut bench = Bench::new();
    let (key, extension, bytes) = bench.asking(bench.ask(1, "echo"));
    assert_eq!(bytes.len(), 1200);
    assert_eq!((extension.source.as_str(), extension.deadline_ms, &*extension.data), ("me", 5000, &b"hello"[..]));
    let accepted = answer(extension.client, WireId(77), Verdict::Accepted);
    bench.answer(key, B_FLOW, &accepted.encode(&name("echo")));
    let want = Filter::NoAnswers(name("echo"), extension.client);
    assert_eq!(bench.one(), Output::Connect { key, peer: addr(B_FLOW), filter: want });
    bench.shim.connected(bench.now, key, Ok(1472));
    let outputs = bench.outputs();
    let [
        Output::Offer { flow, token, owner: taker, sdu_limit: 1472, ticket, .. },
        Output::Allocated { token: told, peer, data, classic: false, .. },
        probe,
    ] = &outputs[..]
    else {
        panic!("{outputs:?}")
    };
    assert_eq!((*flow, token, taker), (FlowId(1), told, &owner()));
    assert_eq!((*peer, &**data), (addr(B_FLOW), &b"welcome"[..]));
    // The first flow between two hosts: from now on the peer's shim can reach this one through any NAT.
    let (to, probe) = control_of(probe).unwrap();
    assert_eq!((to, probe.kind, probe.receiver), (addr(B), ControlKind::Probe, WireId(77)));
    let ticket = ticket::open(&[3; 32], ticket).unwrap();
    assert_eq!((ticket.ours, ticket.theirs, ticket.peer), (extension.client, WireId(77), addr(B_FLOW)));
}

#[test]
fn an_unknown_name_fails_at_once_and_sends_nothing() {
    let mut bench = Bench::new();
    for unknown in ["nowhere", "here"] {
        let failure = bench.shim.flow_alloc(bench.now, bench.ask(1, unknown)).unwrap_err();
        assert_eq!(failure.kind(), FailureKind::UnknownName, "{failure}");
    }
    assert!(bench.outputs().is_empty());
    bench.assert_empty();
}

#[test]
fn a_static_row_that_points_here_does_not_loop() {
    let mut bench = Bench::new();
    bench.shim.add_host(name("loop"), addr(A)).unwrap();
    let failure = bench.shim.flow_alloc(bench.now, bench.ask(1, "loop")).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::UnknownName);
    assert!(bench.outputs().is_empty());
}

#[test]
fn nonsense_is_refused_at_once() {
    let mut bench = Bench::new();
    let long = Ask { data: vec![0; 513], ..bench.ask(1, "echo") };
    let source = Ask { source: "two words".into(), ..bench.ask(1, "echo") };
    for ask in [long, source] {
        assert_eq!(bench.shim.flow_alloc(bench.now, ask).unwrap_err().kind(), FailureKind::Invalid);
    }
    bench.asking(bench.ask(1, "echo"));
    let twice = bench.shim.flow_alloc(bench.now, bench.ask(1, "echo")).unwrap_err();
    assert_eq!(twice.kind(), FailureKind::AlreadyExists);
    let v6 = bench.shim.add_host(name("six"), addr("[fd00::2]:3359")).unwrap_err();
    assert_eq!(v6.kind(), FailureKind::Invalid);
}

/// Times of the requests after the first, to a host that says nothing.
fn times(bench: &mut Bench) -> (Vec<u128>, Failure) {
    let mut times = Vec::new();
    loop {
        let outputs = bench.next();
        match &outputs[..] {
            [Output::SendFlow { bytes, .. }] => {
                assert_eq!(bytes.len(), 1200);
                times.push(bench.elapsed().as_millis());
            }
            _ => return (times, failure(&outputs).clone()),
        }
    }
}

fn about(times: &[u128], want: &[u128]) {
    let near = |(a, b): (&u128, &u128)| a.abs_diff(*b) * 10 <= *b;
    assert!(times.len() == want.len() && times.iter().zip(want).all(near), "{times:?} is not about {want:?}");
}

#[test]
fn a_silent_host_is_asked_with_back_off_until_the_deadline() {
    let mut bench = Bench::new();
    bench.asking(Ask { timeout: ms(19_000), ..bench.ask(1, "echo") });
    let (times, failure) = times(&mut bench);
    about(&times, &[500, 1000, 1500, 2000, 2500, 3000, 3500, 4000, 4500, 5000, 6000, 8000, 12_000, 16_000]);
    assert_eq!((failure.kind(), failure.asked), (FailureKind::TimedOut, 15), "{failure}");
    assert_eq!(bench.elapsed(), ms(19_000));
    bench.assert_empty();
}

#[test]
fn a_host_known_to_be_extended_is_asked_quickly() {
    let mut bench = Bench::new();
    bench.held(1);
    bench.start = bench.now;
    bench.asking(Ask { timeout: ms(3000), ..bench.ask(2, "echo") });
    let (times, failure) = times(&mut bench);
    about(&times, &[100, 300, 700, 1200, 1700, 2200, 2700]);
    assert_eq!(failure.asked, 8);
}

#[test]
fn after_pending_the_peer_is_polled_and_nobody_accepts() {
    let mut bench = Bench::new();
    let (key, extension, _) = bench.asking(Ask { timeout: ms(4000), ..bench.ask(1, "echo") });
    let pending = answer(extension.client, WireId(0), Verdict::Pending).encode(&name("echo"));
    bench.answer(key, B, &pending);
    assert!(bench.outputs().is_empty());
    let (times, failure) = times(&mut bench);
    about(&times, &[300, 750, 1425, 2425, 3425]);
    assert_eq!(failure.kind(), FailureKind::NobodyAccepts, "{failure}");
    // The peer, which may accept at this very moment, is told by our id alone until it says it heard.
    let (to, control) = bench.next().iter().find_map(control_of).unwrap();
    assert_eq!((to, control.kind), (addr(B), ControlKind::Dealloc { died: true }));
    assert_eq!((control.sender, control.receiver), (extension.client, WireId(0)));
    bench.control_from_b(ControlKind::DeallocAck, WireId(0), extension.client);
    bench.assert_empty();
}

#[test]
fn every_refusal_is_its_own_failure() {
    let table = [
        (Verdict::Refused, FailureKind::Refused),
        (Verdict::UnknownName, FailureKind::UnknownName),
        (Verdict::NobodyAccepts, FailureKind::NobodyAccepts),
        (Verdict::NotPermitted, FailureKind::NotPermitted),
        (Verdict::UnsupportedQos, FailureKind::UnsupportedQos),
        (Verdict::Exhausted, FailureKind::Exhausted),
        (Verdict::Version, FailureKind::Invalid),
    ];
    for (verdict, want) in table {
        let mut bench = Bench::new();
        let (key, extension, _) = bench.asking(bench.ask(1, "echo"));
        let Answer::Extended { .. } = answer(extension.client, WireId(0), verdict) else { panic!() };
        let mut refusal = answer(extension.client, WireId(0), verdict);
        if let Answer::Extended { reason, .. } = &mut refusal {
            *reason = "full house".into();
        }
        // Only from where it was asked: sp says nothing but acceptance.
        bench.answer(key, B_FLOW, &refusal.encode(&name("echo")));
        assert_eq!(bench.outputs(), [], "{verdict:?} from another port");
        bench.answer(key, B, &refusal.encode(&name("echo")));
        let outputs = bench.outputs();
        assert_eq!(failure(&outputs).kind(), want, "{verdict:?}");
        assert_eq!(failure(&outputs).reason, "full house");
        assert!(outputs.contains(&Output::Close { key }));
        bench.assert_empty();
    }
}

#[test]
fn only_the_peers_own_answer_counts() {
    let mut bench = Bench::new();
    let (key, extension, request) = bench.asking(bench.ask(1, "echo"));
    let ours = extension.client;
    let accepted = |client, server| answer(client, server, Verdict::Accepted).encode(&name("echo"));
    let table: [(&str, Vec<u8>, Reason); 11] = [
        ("10.0.0.3:3359", accepted(ours, WireId(7)), Reason::Stranger),
        ("10.0.0.3:45000", b"echo".to_vec(), Reason::Stranger),
        ("0.0.0.0:45000", b"echo".to_vec(), Reason::Spoofed),
        ("10.0.0.2:0", b"echo".to_vec(), Reason::Spoofed),
        (B_FLOW, accepted(WireId(ours.0 ^ 1), WireId(7)), Reason::Spoofed),
        (B_FLOW, accepted(ours, WireId(0)), Reason::Late),
        (B_FLOW, b"ech".to_vec(), Reason::OtherName),
        (B_FLOW, b"echo2".to_vec(), Reason::OtherName),
        (B_FLOW, Vec::new(), Reason::Empty),
        (B_FLOW, vec![b'x'; 65_535], Reason::TooLong),
        (B, b"echo".to_vec(), Reason::Spoofed),
    ];
    for (from, bytes, reason) in table {
        let before = bench.shim.counters().get(reason);
        bench.answer(key, from, &bytes);
        assert_eq!(bench.outputs(), [], "{from} {reason:?}");
        assert_eq!(bench.shim.counters().get(reason), before + 1, "{from} {reason:?}");
    }
    // Our own request come back is a classic shim's echo, with our id only.
    let mut other = request.clone();
    other[4 + 1 + 24] ^= 1;
    bench.answer(key, B_FLOW, &other);
    assert_eq!(bench.outputs(), []);
    bench.answer(key, B_FLOW, &request);
    assert!(matches!(bench.one(), Output::Connect { filter: Filter::NoEchoes(..), .. }));
}

#[test]
fn every_form_of_a_classic_echo() {
    for form in ["name", "name and NUL", "request returned"] {
        let mut bench = Bench::new();
        let (key, extension, request) = bench.asking(bench.ask(1, "echo"));
        let echo = match form {
            "name" => b"echo".to_vec(),
            "name and NUL" => b"echo\0".to_vec(),
            _ => request,
        };
        bench.answer(key, B_FLOW, &echo);
        let filter = Filter::NoEchoes(name("echo"), extension.client);
        assert_eq!(bench.one(), Output::Connect { key, peer: addr(B_FLOW), filter }, "{form}");
        bench.shim.connected(bench.now, key, Ok(1472));
        assert!(matches!(bench.outputs()[..], [Output::Offer { .. }, Output::Allocated { classic: true, .. }]));
        bench.shim.taken(bench.now, FlowId(1));
        // Late echoes are kept from the program for three seconds; then an SDU that reads like one is an SDU.
        assert_eq!(bench.next(), [Output::Refilter { key, filter: Filter::Flow }]);
        assert_eq!(bench.elapsed(), ms(3000));
    }
}

#[test]
fn only_raw_flows_go_to_a_classic_peer() {
    for cube in [Cube::Message, Cube::Stream] {
        let mut bench = Bench::new();
        let ask = Ask { qos: Qos { cube, ..Qos::raw() }, ..bench.ask(1, "echo") };
        let (key, ..) = bench.asking(ask);
        bench.answer(key, B_FLOW, b"echo");
        let outputs = bench.outputs();
        assert_eq!(failure(&outputs).kind(), FailureKind::UnsupportedQos);
        assert!(failure(&outputs).message.contains("classic"));
        bench.assert_empty();
    }
}

#[test]
fn a_stripped_extension_is_no_classic_peer() {
    let mut bench = Bench::new();
    let (key, extension, _) = bench.asking(bench.ask(1, "echo"));
    bench.answer(key, B, &answer(extension.client, WireId(0), Verdict::Pending).encode(&name("echo")));
    bench.answer(key, B_FLOW, b"echo");
    assert_eq!(bench.outputs(), []);
    assert_eq!(bench.shim.counters().get(Reason::Spoofed), 1);
}

#[test]
fn a_cookie_is_brought_at_once_and_once() {
    let mut bench = Bench::new();
    let (key, extension, _) = bench.asking(bench.ask(1, "echo"));
    let with = |cookie: &[u8]| {
        let mut answer = answer(extension.client, WireId(0), Verdict::Cookie);
        if let Answer::Extended { cookie: field, .. } = &mut answer {
            *field = cookie.to_vec();
        }
        answer.encode(&name("echo"))
    };
    for cookie in [&b"one"[..], b"two"] {
        bench.answer(key, B, &with(cookie));
        let Output::SendFlow { bytes, .. } = bench.one() else { panic!() };
        let Ok(Request::Extended(_, again)) = Request::decode(&bytes) else { panic!() };
        assert_eq!((again.client, &*again.cookie), (extension.client, cookie));
        bench.answer(key, B, &with(cookie));
        assert_eq!(bench.outputs(), []);
    }
    bench.answer(key, B, &with(b""));
    assert_eq!(bench.outputs(), []);
}

#[test]
fn a_recovering_peer_is_asked_on() {
    let mut bench = Bench::new();
    let (key, extension, _) = bench.asking(bench.ask(1, "echo"));
    bench.answer(key, B, &answer(extension.client, WireId(0), Verdict::Recovering).encode(&name("echo")));
    assert_eq!(bench.outputs(), []);
    assert!(matches!(bench.next()[..], [Output::SendFlow { .. }]));
}

#[test]
fn a_peer_of_another_version_is_named_with_both_versions() {
    let mut bench = Bench::new();
    let (key, extension, _) = bench.asking(bench.ask(1, "echo"));
    let mut other = answer(extension.client, WireId(0), Verdict::Version).encode(&name("echo"));
    other[4 + 1 + 4] = 9;
    bench.answer(key, B_FLOW, &other);
    assert_eq!(bench.outputs(), []);
    bench.answer(key, B, &other);
    let outputs = bench.outputs();
    let text = &failure(&outputs).message;
    assert!(text.contains("version 9") && text.contains("version 1"), "{text}");
}

#[test]
fn icmp_while_asking_ends_it_only_twice_in_a_row() {
    let mut bench = Bench::new();
    let (key, extension, _) = bench.asking(bench.ask(1, "echo"));
    // One may be forged, or the shim may be starting: an answer in between begins the count anew.
    bench.shim.handle_unreachable(bench.now, key, Unreachable::Port);
    assert_eq!(bench.outputs(), []);
    bench.answer(key, B, &answer(extension.client, WireId(0), Verdict::Recovering).encode(&name("echo")));
    bench.shim.handle_unreachable(bench.now, key, Unreachable::Port);
    assert_eq!(bench.outputs(), []);
    bench.shim.handle_unreachable(bench.now, key, Unreachable::Port);
    let outputs = bench.outputs();
    assert_eq!(failure(&outputs).kind(), FailureKind::TimedOut);
    assert!(failure(&outputs).message.contains("port closed"), "{}", failure(&outputs));
    bench.assert_empty();
}

#[test]
fn a_port_in_use_is_another_port_and_a_full_host_says_so() {
    let mut bench = Bench::new();
    let key = bench.shim.flow_alloc(bench.now, bench.ask(1, "echo")).unwrap();
    let mut ports = std::collections::BTreeSet::new();
    for _ in 0..64 {
        let Output::Open { port, .. } = bench.one() else { panic!() };
        ports.insert(port);
        bench.shim.opened(bench.now, key, Err(OpenError::PortInUse));
    }
    assert!(ports.len() > 32);
    assert_eq!(failure(&bench.outputs()).kind(), FailureKind::Exhausted);
    bench.assert_empty();
    for (error, kind) in [
        (OpenError::Exhausted, FailureKind::Exhausted),
        (OpenError::NoSuchAddress, FailureKind::NoSuchAddress),
        (OpenError::Other("?".into()), FailureKind::Internal),
    ] {
        let key = bench.shim.flow_alloc(bench.now, bench.ask(2, "echo")).unwrap();
        bench.outputs();
        bench.shim.opened(bench.now, key, Err(error));
        assert_eq!(failure(&bench.outputs()).kind(), kind);
    }
    let mut full = Bench::with(Settings { max_flows: 1, ..settings(A) });
    full.asking(full.ask(1, "echo"));
    let failure = full.shim.flow_alloc(full.now, full.ask(2, "echo")).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Exhausted);
}

#[test]
fn a_caller_that_goes_away_leaves_nothing() {
    let mut bench = Bench::new();
    bench.asking(bench.ask(1, "echo"));
    bench.shim.cancel(bench.now, FlowId(1));
    assert!(matches!(bench.outputs()[..], [Output::Close { .. }, Output::Failed { .. }]));
    bench.assert_empty();
    // Where the peer has promised, it is told.
    let (key, extension, _) = bench.asking(bench.ask(2, "echo"));
    bench.answer(key, B, &answer(extension.client, WireId(0), Verdict::Pending).encode(&name("echo")));
    bench.shim.cancel(bench.now, FlowId(2));
    assert!(bench.outputs().iter().any(|output| control_of(output).is_some()));
    // And where it has accepted already, by both ids.
    let (key, extension, _) = bench.asking(bench.ask(3, "echo"));
    bench.answer(key, B_FLOW, &answer(extension.client, WireId(7), Verdict::Accepted).encode(&name("echo")));
    bench.outputs();
    bench.shim.cancel(bench.now, FlowId(3));
    let (_, control) = bench.outputs().iter().find_map(control_of).unwrap();
    assert_eq!((control.sender, control.receiver), (extension.client, WireId(7)));
}

#[test]
fn the_peer_is_told_where_this_shim_listens() {
    let mut bench = Bench::with(settings("10.0.0.1:3400"));
    let (_, extension, _) = bench.asking(bench.ask(1, "echo"));
    assert_eq!(extension.listen_port, 3400);
}
