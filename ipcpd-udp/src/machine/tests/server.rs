//! The accepting side.

use super::*;

fn arrival(outputs: &[Output]) -> Option<(Key, Arrival)> {
    outputs.iter().find_map(|output| match output {
        Output::Arrived { key, arrival } => Some((*key, arrival.clone())),
        _ => None,
    })
}

fn accept(flow: u64) -> Result<Accept, Failure> {
    Ok(Accept { flow: FlowId(flow), owner: owner(), data: b"welcome".to_vec() })
}

fn refusal(kind: FailureKind) -> Result<Accept, Failure> {
    Err(Failure { reason: "full house".into(), ..Failure::new(kind, "no") })
}

/// From the program's acceptance to the answer from sp.
fn connect(bench: &mut Bench, key: Key) -> Vec<Output> {
    let [Output::Connect { key: of, peer, filter: Filter::NoControl(_) | Filter::Flow }] = bench.outputs()[..] else {
        panic!()
    };
    assert_eq!((of, peer), (key, addr(B_FLOW)));
    bench.shim.connected(bench.now, key, Ok(1472));
    bench.outputs()
}

#[test]
fn a_flow_for_an_extended_caller() {
    let mut bench = Bench::new();
    bench.request(B_FLOW, &extended("here", 5));
    let outputs = bench.outputs();
    assert_eq!(verdict_of(&outputs[0], "here").unwrap().0, Verdict::Pending);
    let (key, arrival) = arrival(&outputs).unwrap();
    assert_eq!((arrival.source.as_str(), &*arrival.data, arrival.peer), ("you", &b"hello"[..], addr(B_FLOW)));
    // Half a second before the caller gives up.
    assert_eq!((arrival.within, arrival.classic), (ms(4500), false));
    bench.shim.answered(bench.now, key, accept(9));
    let outputs = connect(&mut bench, key);
    let [
        Output::SendFlow { to: None, bytes, .. },
        aside,
        Output::Offer { flow: FlowId(9), token, .. },
        Output::Catch { .. },
    ] = &outputs[..]
    else {
        panic!("{outputs:?}")
    };
    // The same once more from the listen port, for callers whose middlebox knows only that.
    let Output::SendListen { to, bytes: aside } = aside else { panic!() };
    let Ok(Answer::Extended { server_port: Some(50_000..=50_999), .. }) = Answer::decode(aside, &name("here")) else {
        panic!()
    };
    assert_eq!(*to, addr(B_FLOW));
    assert_eq!(*token, arrival.token);
    let Ok(Answer::Extended { client, server, verdict: Verdict::Accepted, data, .. }) =
        Answer::decode(bytes, &name("here"))
    else {
        panic!()
    };
    assert_eq!((client, &*data), (WireId(5), &b"welcome"[..]));
    assert_ne!(server, WireId(0));
}

#[test]
fn the_same_request_gets_the_same_answer_and_never_a_second_flow() {
    let mut bench = Bench::new();
    let request = extended("here", 5);
    bench.request(B_FLOW, &request);
    let (key, _) = arrival(&bench.outputs()).unwrap();
    bench.request(B_FLOW, &request);
    assert_eq!(verdict_of(&bench.one(), "here").unwrap().0, Verdict::Pending);
    bench.shim.answered(bench.now, key, accept(9));
    let first = connect(&mut bench, key)[..2].to_vec();
    bench.request(B_FLOW, &request);
    assert_eq!(bench.outputs(), first, "from the same sp, with the same ids");
    bench.shim.taken(bench.now, FlowId(9));
    bench.request(B_FLOW, &request);
    assert_eq!(bench.outputs(), first);
    assert_eq!(bench.shim.counters().get(Reason::Duplicate), 3);
    // Another id, port, host or name is another request.
    bench.request(B_FLOW, &extended("here", 6));
    assert!(arrival(&bench.outputs()).is_some());
    bench.request("10.0.0.2:45001", &request);
    assert!(arrival(&bench.outputs()).is_some());
    bench.request("10.0.0.3:45000", &request);
    assert!(arrival(&bench.outputs()).is_some());
}

#[test]
fn a_late_duplicate_of_a_flow_that_is_over_begins_none() {
    let mut bench = Bench::new();
    let request = extended("here", 5);
    bench.request(B_FLOW, &request);
    let (key, _) = arrival(&bench.outputs()).unwrap();
    bench.shim.answered(bench.now, key, accept(9));
    connect(&mut bench, key);
    bench.shim.taken(bench.now, FlowId(9));
    bench.shim.released(bench.now, FlowId(9));
    bench.outputs();
    bench.shim.sent_all(bench.now, key, true);
    let (_, dealloc) = bench.outputs().iter().find_map(control_of).unwrap();
    bench.control_from_b(ControlKind::DeallocAck, WireId(5), dealloc.sender);
    bench.assert_empty();
    bench.request(B_FLOW, &request);
    let (verdict, reason) = verdict_of(&bench.one(), "here").unwrap();
    assert_eq!((verdict, reason.as_str()), (Verdict::Refused, "the flow is over already"));
    bench.assert_empty();
}

#[test]
fn refusals_carry_their_reason_and_are_remembered() {
    let table = [
        (FailureKind::Refused, Verdict::Refused, "full house"),
        (FailureKind::UnknownName, Verdict::UnknownName, ""),
        (FailureKind::NobodyAccepts, Verdict::NobodyAccepts, ""),
        (FailureKind::NotPermitted, Verdict::NotPermitted, "full house"),
        (FailureKind::UnsupportedQos, Verdict::UnsupportedQos, ""),
        (FailureKind::Exhausted, Verdict::Exhausted, ""),
        (FailureKind::IpcpDown, Verdict::NobodyAccepts, "irmd does not run on that host"),
    ];
    for (kind, verdict, reason) in table {
        let mut bench = Bench::new();
        bench.request(B_FLOW, &extended("here", 5));
        let (key, arrival) = arrival(&bench.outputs()).unwrap();
        bench.shim.answered(bench.now, key, refusal(kind));
        let outputs = bench.outputs();
        assert_eq!(outputs[0], Output::Close { key });
        assert!(matches!(&outputs[1], Output::Withdraw { token, .. } if *token == arrival.token));
        assert_eq!(verdict_of(&outputs[2], "here").unwrap(), (verdict, reason.to_owned()), "{kind:?}");
        bench.assert_empty();
        bench.request(B_FLOW, &extended("here", 5));
        assert_eq!(bench.one(), outputs[2]);
    }
}

#[test]
fn an_unknown_name_is_said_at_once_to_extended_and_not_at_all_to_classic_callers() {
    let mut bench = Bench::new();
    bench.request(B_FLOW, &extended("nowhere", 5));
    assert_eq!(verdict_of(&bench.one(), "nowhere").unwrap().0, Verdict::UnknownName);
    bench.request(B_FLOW, b"nowhere");
    assert_eq!(bench.outputs(), []);
    assert_eq!(bench.shim.counters().get(Reason::NotRegistered), 2);
    bench.shim.unregister(bench.now, &name("here"), None).unwrap();
    bench.request(B_FLOW, &extended("here", 5));
    assert_eq!(verdict_of(&bench.one(), "here").unwrap().0, Verdict::UnknownName);
    bench.assert_empty();
}

#[test]
fn stale_pending_flows_are_reaped_in_time() {
    // irmd never answers: the C original kept such a flow for ever.
    let mut bench = Bench::new();
    bench.request(B_FLOW, &extended("here", 5));
    let (key, arrival) = arrival(&bench.outputs()).unwrap();
    let outputs = bench.next();
    assert_eq!(bench.elapsed(), ms(4500));
    assert_eq!(outputs[..2], [Output::Close { key }, Output::Abandon { key }]);
    assert!(matches!(&outputs[2], Output::Withdraw { token, .. } if *token == arrival.token));
    assert_eq!(verdict_of(&outputs[3], "here").unwrap().0, Verdict::NobodyAccepts);
    bench.assert_empty();
    // An acceptance that comes after all is undone.
    bench.shim.answered(bench.now, key, accept(9));
    assert_eq!(bench.one(), Output::Ended { flow: FlowId(9), reason: EndReason::NeverTaken });
    bench.assert_empty();
}

#[test]
fn no_callers_deadline_lasts_for_ever() {
    for (deadline_ms, want) in [(0, 4500), (800, 700), (u32::MAX, 59_500)] {
        let mut bench = Bench::new();
        let asked = Request::Extended(name("here"), Extension { deadline_ms, ..extension(5) });
        bench.request(B_FLOW, &asked.encode());
        let (_, arrival) = arrival(&bench.outputs()).unwrap();
        assert_eq!(arrival.within, ms(want), "{deadline_ms}");
    }
}

#[test]
fn a_caller_that_gives_up_is_no_longer_waited_for() {
    let mut bench = Bench::new();
    bench.request(B_FLOW, &extended("here", 5));
    let (key, _) = arrival(&bench.outputs()).unwrap();
    // Somebody else cannot know the id; from another host it is nobody's.
    let control = Control {
        kind: ControlKind::Dealloc { died: true },
        host: HostId(2),
        boot: BootId(2),
        sender: WireId(5),
        receiver: WireId(0),
    };
    bench.request("10.0.0.3:3359", &control.encode());
    assert_eq!(bench.shim.census(), (1, 1));
    bench.outputs();
    bench.control_from_b(ControlKind::Dealloc { died: true }, WireId(5), WireId(0));
    let outputs = bench.outputs();
    assert_eq!(outputs[..2], [Output::Close { key }, Output::Abandon { key }]);
    let (_, ack) = control_of(outputs.last().unwrap()).unwrap();
    assert_eq!((ack.kind, ack.sender, ack.receiver), (ControlKind::DeallocAck, WireId(0), WireId(5)));
    bench.assert_empty();
}

#[test]
fn a_classic_caller_is_john_day_and_hears_of_acceptance_only() {
    let mut bench = Bench::new();
    for (n, request) in [&b"here"[..], b"here\0", b"here\0junk"].into_iter().enumerate() {
        let from = format!("10.0.0.2:4500{n}");
        bench.request(&from, request);
        let outputs = bench.outputs();
        assert_eq!(outputs.len(), 1, "nothing is said yet: {outputs:?}");
        let (key, arrival) = arrival(&outputs).unwrap();
        assert_eq!((arrival.source.as_str(), arrival.classic), (CLASSIC_SOURCE, true));
        bench.shim.answered(bench.now, key, refusal(FailureKind::Refused));
        let outputs = bench.outputs();
        assert!(matches!(outputs[..], [Output::Close { .. }, Output::Withdraw { .. }]), "silence is its refusal");
        // Its duplicate is no second request.
        bench.request(&from, request);
        assert_eq!(bench.outputs(), []);
    }
    bench.request(B_FLOW, b"here");
    bench.now += ms(5000);
    bench.request(B_FLOW, b"here");
    assert!(arrival(&bench.outputs()).is_some());
}

#[test]
fn a_classic_duplicate_gets_the_same_echo_from_the_same_sp() {
    for echo in [Echo::OnAccept, Echo::OnArrival] {
        let mut bench = Bench::with(Settings { echo, ..settings(A) });
        bench.request(B_FLOW, b"here");
        let (key, first) = if echo == Echo::OnArrival {
            // sp is open and the echo sent before irmd is asked.
            let key = bench.shim.rows(bench.now, Key(0), 1)[0].key;
            let outputs = connect(&mut bench, key);
            assert!(arrival(&outputs[1..]).is_some());
            bench.shim.answered(bench.now, key, accept(9));
            assert!(matches!(bench.one(), Output::Offer { .. }));
            (key, outputs[0].clone())
        } else {
            let (key, _) = arrival(&bench.outputs()).unwrap();
            bench.request(B_FLOW, b"here");
            assert_eq!(bench.outputs(), [], "not accepted yet");
            bench.shim.answered(bench.now, key, accept(9));
            (key, connect(&mut bench, key)[0].clone())
        };
        assert_eq!(first, Output::SendFlow { key, to: None, bytes: b"here".to_vec() });
        bench.request(B_FLOW, b"here");
        assert_eq!(bench.one(), first, "{echo:?}");
        // Later it is a new flow from a port used again.
        bench.now += ms(5000);
        bench.request(B_FLOW, b"here");
        assert_eq!(bench.shim.census().0, 2, "{echo:?}");
    }
}

#[test]
fn an_early_echo_that_is_refused_closes_its_socket() {
    let mut bench = Bench::with(Settings { echo: Echo::OnArrival, ..settings(A) });
    bench.request(B_FLOW, b"here");
    let key = bench.shim.rows(bench.now, Key(0), 1)[0].key;
    connect(&mut bench, key);
    bench.shim.answered(bench.now, key, refusal(FailureKind::Refused));
    assert!(bench.outputs().contains(&Output::Close { key }));
    bench.assert_empty();
}

#[test]
fn all_answers_to_a_request_together_are_never_longer_than_it() {
    let long = "n".repeat(255);
    let mut bench = Bench::new();
    bench.shim.register(bench.now, name(&long), None).unwrap();
    let headers = 28;
    for verdict in ["accepted", "refused"] {
        let client = if verdict == "accepted" { 5 } else { 6 };
        bench.request(B_FLOW, &extended(&long, client));
        let outputs = bench.outputs();
        let (key, _) = arrival(&outputs).unwrap();
        let mut sent = outputs;
        let answer = match verdict {
            "accepted" => Ok(Accept { flow: FlowId(client), owner: owner(), data: vec![7; 512] }),
            _ => Err(Failure { reason: "r".repeat(4000), ..Failure::new(FailureKind::Refused, "") }),
        };
        bench.shim.answered(bench.now, key, answer);
        if verdict == "accepted" {
            sent.extend(connect(&mut bench, key));
        } else {
            sent.extend(bench.outputs());
        }
        let bytes: usize = sent
            .iter()
            .map(|output| match output {
                Output::SendListen { bytes, .. } | Output::SendFlow { bytes, .. } => bytes.len() + headers,
                _ => 0,
            })
            .sum();
        assert!(bytes > 800 || verdict == "refused", "both answers were seen: {bytes}");
        assert!(bytes <= 1200 + headers, "{verdict}: {bytes}");
    }
    // An extended request that is not padded would be answered with more than it brought.
    let mut short = extended("here", 7);
    short.truncate(200);
    bench.request(B_FLOW, &short);
    assert_eq!(bench.outputs(), []);
    assert_eq!(bench.shim.counters().get(Reason::Unpadded), 1);
}

#[test]
fn another_version_is_answered_in_ours() {
    let mut bench = Bench::new();
    let mut other = extended("here", 5);
    other[4 + 1 + 4] = 9;
    bench.request(B_FLOW, &other);
    assert_eq!(verdict_of(&bench.one(), "here").unwrap().0, Verdict::Version);
    other.truncate(45);
    bench.request(B_FLOW, &other);
    assert_eq!(bench.outputs(), []);
}

#[test]
fn pending_flows_are_bounded_and_the_next_one_is_told() {
    let mut bench = Bench::with(Settings { max_pending: 3, ..settings(A) });
    for client in 1..=3 {
        bench.request(B_FLOW, &extended("here", client));
        assert!(arrival(&bench.outputs()).is_some());
    }
    bench.request(B_FLOW, &extended("here", 4));
    assert_eq!(verdict_of(&bench.one(), "here").unwrap().0, Verdict::Exhausted);
    bench.request(B_FLOW, b"here");
    assert_eq!(bench.outputs(), []);
    assert_eq!(bench.shim.counters().get(Reason::Exhausted), 2);
    // Nothing is remembered of it: room again, and the same request is a flow.
    bench.next();
    bench.request(B_FLOW, &extended("here", 4));
    assert!(arrival(&bench.outputs()).is_some());
}

#[test]
fn no_socket_is_a_clear_refusal_and_no_program_hears_of_it() {
    for error in [OpenError::Exhausted, OpenError::NoSuchAddress, OpenError::Other("?".into())] {
        let mut bench = Bench::new();
        bench.opens = false;
        bench.request(B_FLOW, &extended("here", 5));
        let Output::Open { key, .. } = bench.one() else { panic!("a socket before a program") };
        bench.shim.opened(bench.now, key, Err(error));
        let outputs = bench.outputs();
        assert!(arrival(&outputs).is_none());
        assert_eq!(verdict_of(outputs.last().unwrap(), "here").unwrap().0, Verdict::Exhausted);
        bench.assert_empty();
    }
}

#[test]
fn a_port_in_use_is_another_port() {
    let mut bench = Bench::new();
    bench.opens = false;
    bench.request(B_FLOW, &extended("here", 5));
    for n in 1..=64 {
        let Output::Open { key, .. } = bench.one() else { panic!("try {n}") };
        bench.shim.opened(bench.now, key, Err(OpenError::PortInUse));
    }
    assert_eq!(verdict_of(bench.outputs().last().unwrap(), "here").unwrap().0, Verdict::Exhausted);
    bench.assert_empty();
}

#[test]
fn refused_flows_use_up_no_ports() {
    // Nobody has heard of a port that was never connected: it need not rest.
    let mut bench = Bench::with(Settings { sp: (50_000, 50_000), ..settings(A) });
    for client in 1..50 {
        bench.request(B_FLOW, &extended("here", client));
        let (key, _) = arrival(&bench.outputs()).unwrap();
        bench.shim.answered(bench.now, key, refusal(FailureKind::Refused));
    }
    bench.assert_empty();
}

#[test]
fn malformed_and_spoofed_requests_are_counted_and_dropped() {
    let mut bench = Bench::new();
    let table: [(&str, Vec<u8>, Reason); 9] = [
        (B_FLOW, Vec::new(), Reason::Empty),
        (B_FLOW, vec![b'x'; 1201], Reason::TooLong),
        (B_FLOW, vec![b'x'; 65_507], Reason::TooLong),
        (B_FLOW, vec![b'x'; 256], Reason::BadName),
        (B_FLOW, vec![0xff; 20], Reason::BadName),
        (B_FLOW, vec![0; 1200], Reason::NotControl),
        (B_FLOW, b"here\0Flow\x01".to_vec(), Reason::Truncated),
        // From a listen port, a request would set two shims on each other.
        (B, b"here".to_vec(), Reason::Spoofed),
        (A, extended("here", 5), Reason::Spoofed),
    ];
    for (from, bytes, reason) in table {
        bench.request(from, &bytes);
        assert_eq!(bench.outputs(), [], "{reason:?}");
        assert!(bench.shim.counters().get(reason) > 0, "{reason:?}");
    }
    bench.assert_empty();
}
