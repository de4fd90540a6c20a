//! Flows on the listen port (`--sp-range listen`).

use super::*;

const USER: u32 = 1000;

fn bench() -> Bench {
    Bench::with(Settings { shares: Some(USER), ..settings(A) })
}

/// Asks as a client does: again with the cookie it is told to bring.
fn prove(bench: &mut Bench, from: &str, extension: &Extension) -> Vec<Output> {
    let request = |extension: &Extension| Request::Extended(name("here"), extension.clone()).encode();
    bench.request(from, &request(extension));
    let Output::SendListen { to, bytes } = bench.one() else { panic!("one answer") };
    assert_eq!(to, addr(from));
    let Ok(Answer::Extended { verdict: Verdict::Cookie, cookie, .. }) = Answer::decode(&bytes, &name("here")) else {
        panic!("a cookie, however calm it is")
    };
    bench.request(from, &request(&Extension { cookie, ..extension.clone() }));
    bench.outputs()
}

/// A request that waits for its program.
fn waiting(bench: &mut Bench, from: &str, client: u64) -> Key {
    let outputs = prove(bench, from, &extension(client));
    let [pending, Output::Arrived { key, arrival }] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!(super::verdict_of(pending, "here").unwrap().0, Verdict::Pending);
    assert!(arrival.proven);
    *key
}

/// A flow that a program holds: its key, our id, what acceptance brought.
fn held(bench: &mut Bench, from: &str, client: u64) -> (Key, WireId, Vec<Output>) {
    let key = waiting(bench, from, client);
    let accept = Accept { flow: FlowId(100 + client), owner: owner(), data: b"welcome".to_vec() };
    bench.shim.answered(bench.now, key, Ok(accept));
    let Output::Join { peer, filter: Filter::NoRequests(of, theirs, ours), .. } = bench.one() else { panic!() };
    assert_eq!((peer, of, theirs), (addr(from), name("here"), WireId(client)));
    bench.shim.connected(bench.now, key, Ok(1472));
    let outputs = bench.outputs();
    bench.shim.taken(bench.now, FlowId(100 + client));
    (key, ours, outputs)
}

/// Whether an output is acceptance, as the flow's socket says it on the listen port.
fn accepts(output: &Output) -> bool {
    let Output::SendFlow { to: None, bytes, .. } = output else { return false };
    let answer = Answer::decode(bytes, &name("here"));
    matches!(answer, Ok(Answer::Extended { verdict: Verdict::Accepted, server_port: None, .. }))
}

#[test]
fn acceptance_is_said_once_from_the_flows_own_socket() {
    let mut bench = bench();
    let (key, _, outputs) = held(&mut bench, B_FLOW, 5);
    let [accepted, Output::Offer { .. }] = &outputs[..] else { panic!("{outputs:?}") };
    assert!(accepts(accepted));
    assert_eq!(bench.shim.rows(bench.now, Key(0), 1)[0].local, Some(addr(A)));
    bench.shim.released(bench.now, FlowId(105));
    bench.shim.sent_all(bench.now, key, true);
    bench.control_from_b(ControlKind::DeallocAck, WireId(5), bench.shim.flows[&key].ours);
    bench.assert_empty();
}

#[test]
fn nobody_takes_an_address_that_is_not_its_own() {
    let mut bench = bench();
    for client in 0..2000 {
        bench.request(B_FLOW, &extended("here", client + 1));
        let [Output::SendListen { bytes, .. }] = &bench.outputs()[..] else { panic!("a cookie, nothing kept") };
        assert!(bytes.len() < 100);
    }
    assert_eq!(bench.shim.census(), (0, 0));
    assert!(bench.shim.by_peer.is_empty());
}

#[test]
fn acceptance_is_said_again_when_the_request_came_again() {
    let mut bench = bench();
    let (key, ..) = held(&mut bench, B_FLOW, 5);
    let check = Output::CheckDropped { key, flow: FlowId(105) };
    let mut looks = Vec::new();
    let mut dropped = 0;
    while bench.elapsed() < ms(5500) {
        let Some((at, _)) = bench.shim.poll_timeout().filter(|(at, _)| *at < bench.start + ms(5500)) else { break };
        bench.now = at;
        bench.shim.handle_timeout(at);
        if !bench.outputs().contains(&check) {
            continue;
        }
        looks.push(bench.elapsed());
        // Every second time one more request was dropped.
        dropped += u32::from(looks.len() % 2 == 0);
        bench.shim.dropped(bench.now, key, dropped, 0);
        let said = bench.outputs();
        assert_eq!(said.iter().filter(|output| accepts(output)).count(), usize::from(looks.len() % 2 == 0));
        assert_eq!(said.len(), usize::from(looks.len() % 2 == 0), "nothing else is said");
    }
    assert!((10..=14).contains(&looks.len()) && looks[0] == ms(100), "{looks:?}");
    assert_eq!(bench.shim.counters().get(Reason::Repeats), u64::from(dropped));
}

#[test]
fn what_a_flood_left_behind_is_no_request_come_again() {
    let mut bench = bench();
    let key = waiting(&mut bench, B_FLOW, 5);
    bench.shim.answered(bench.now, key, Ok(Accept { flow: FlowId(105), owner: owner(), data: vec![] }));
    bench.shim.lost(key, 3);
    bench.shim.connected(bench.now, key, Ok(1472));
    bench.outputs();
    for (dropped, again) in [(3, false), (4, true)] {
        bench.shim.dropped(bench.now, key, dropped, 0);
        assert_eq!(bench.outputs().iter().any(accepts), again);
    }
    assert_eq!(bench.shim.counters().get(Reason::LostJoining), 3);
}

#[test]
fn it_is_not_looked_for_ever() {
    let mut bench = bench();
    let (key, ..) = held(&mut bench, B_FLOW, 5);
    while let Some((at, _)) = bench.shim.poll_timeout().filter(|(at, _)| *at < bench.start + ms(7000)) {
        bench.now = at;
        bench.shim.handle_timeout(at);
        bench.outputs();
    }
    assert!(bench.shim.flows[&key].shared.unwrap().look.is_none());
    // What is dropped now is no request.
    bench.shim.dropped(bench.now, key, 9, 0);
    assert_eq!(bench.outputs(), []);
}

#[test]
fn a_client_that_has_the_answer_is_not_looked_for() {
    // It sends SDUs, or its shim speaks of the flow, or the flow is over.
    let ways: [fn(&mut Bench, Key, WireId); 3] = [
        |bench, key, _| bench.shim.dropped(bench.now, key, 7, 1),
        |bench, _, ours| bench.control_from_b(ControlKind::Probe, WireId(5), ours),
        |bench, _, _| bench.shim.released(bench.now, FlowId(105)),
    ];
    for way in ways {
        let mut bench = bench();
        let (key, ours, _) = held(&mut bench, B_FLOW, 5);
        way(&mut bench, key, ours);
        assert!(!bench.outputs().iter().any(accepts));
        assert!(bench.shim.flows[&key].shared.unwrap().look.is_none());
    }
}

#[test]
fn only_programs_of_this_user_accept() {
    for foreign in [0, USER + 1] {
        let mut bench = bench();
        let key = waiting(&mut bench, B_FLOW, 5);
        let accept = Accept { flow: FlowId(9), owner: Owner { uid: foreign, ..owner() }, data: vec![] };
        bench.shim.answered(bench.now, key, Ok(accept));
        let outputs = bench.outputs();
        let Some(Output::Withdraw { failure, .. }) = outputs.iter().find(|o| matches!(o, Output::Withdraw { .. }))
        else {
            panic!("{outputs:?}")
        };
        assert_eq!(failure.kind(), FailureKind::NotPermitted);
        for word in [&foreign.to_string(), "user 1000 only", "--sp-range listen"] {
            assert!(failure.message.contains(word), "{failure}");
        }
        let said: Vec<_> = outputs.iter().filter_map(|output| super::verdict_of(output, "here")).collect();
        assert_eq!(said, [(Verdict::NotPermitted, String::new())]);
        assert!(outputs.contains(&Output::Ended { flow: FlowId(9), reason: EndReason::NeverTaken }));
        assert!(outputs.contains(&Output::Close { key }) && !outputs.contains(&Output::Detach { key }));
        assert_eq!(bench.shim.counters().get(Reason::OtherUser), 1);
        bench.assert_empty();
    }
}

#[test]
fn whoever_still_holds_the_socket_keeps_nothing_from_the_listener() {
    let ends: [fn(&mut Bench, Key, WireId); 4] = [
        |bench, _, _| bench.shim.released(bench.now, FlowId(105)),
        |bench, _, _| bench.shim.died(bench.now, FlowId(105)),
        |bench, _, _| assert!(bench.shim.dealloc(bench.now, FlowId(105))),
        |bench, _, ours| bench.control_from_b(ControlKind::Dealloc { died: false }, WireId(5), ours),
    ];
    for end in ends {
        let mut bench = bench();
        let (key, ours, _) = held(&mut bench, B_FLOW, 5);
        end(&mut bench, key, ours);
        let mut outputs = bench.outputs();
        for _ in 0..8 {
            bench.shim.sent_all(bench.now, key, true);
            bench.shim.read_all(bench.now, key, true);
            outputs.extend(bench.outputs());
            if outputs.contains(&Output::Close { key }) {
                break;
            }
            outputs.extend(bench.next());
        }
        let place = |wanted: &Output| outputs.iter().position(|output| output == wanted).expect("it comes");
        assert!(place(&Output::Detach { key }) < place(&Output::Close { key }), "{outputs:?}");
        assert!(!outputs[place(&Output::Close { key })..].contains(&Output::Detach { key }));
    }
}

#[test]
fn late_sdus_are_no_requests() {
    let mut bench = bench();
    bench.shim.register(bench.now, name("an-sdu"), None).unwrap();
    let (key, ours, _) = held(&mut bench, B_FLOW, 5);
    bench.shim.released(bench.now, FlowId(105));
    bench.shim.sent_all(bench.now, key, true);
    bench.control_from_b(ControlKind::DeallocAck, WireId(5), ours);
    bench.outputs();
    // Not even where they look like a classic request; from elsewhere they are one.
    bench.request(B_FLOW, b"an-sdu");
    bench.request(B_FLOW, &[255; 1200]);
    assert_eq!((bench.outputs(), bench.shim.counters().get(Reason::LateSdu)), (vec![], 2));
    bench.request("10.0.0.2:45001", b"an-sdu");
    assert!(matches!(bench.outputs()[..], [Output::Arrived { .. }]));
    // The same request is told that its flow is over, another one is another.
    let again = prove(&mut bench, B_FLOW, &extension(5));
    assert_eq!(super::verdict_of(&again[0], "here").unwrap().0, Verdict::Refused);
    waiting(&mut bench, B_FLOW, 6);
    bench.now += ms(60_000);
    bench.request(B_FLOW, &[255; 40]);
    assert_eq!(bench.shim.counters().get(Reason::LateSdu), 2);
}

#[test]
fn who_asks_anew_has_given_up_what_it_asked_before() {
    let mut bench = bench();
    let before = waiting(&mut bench, B_FLOW, 5);
    let outputs = prove(&mut bench, B_FLOW, &extension(6));
    assert!(outputs.contains(&Output::Abandon { key: before }), "{outputs:?}");
    assert!(outputs.iter().any(|output| matches!(output, Output::Arrived { .. })));
    assert_eq!(bench.shim.census(), (1, 1));
    // Its acceptance comes too late.
    bench.shim.answered(bench.now, before, Ok(Accept { flow: FlowId(9), owner: owner(), data: vec![] }));
    assert_eq!(bench.one(), Output::Ended { flow: FlowId(9), reason: EndReason::NeverTaken });
}

#[test]
fn a_classic_callers_repeats_are_kept_from_the_program() {
    let mut bench = bench();
    bench.request(B_FLOW, b"here");
    let Some(Output::Arrived { key, .. }) = bench.outputs().pop() else { panic!() };
    bench.shim.answered(bench.now, key, Ok(Accept { flow: FlowId(9), owner: owner(), data: vec![] }));
    let filter = Filter::NoRepeats(name("here"));
    assert_eq!(bench.one(), Output::Join { key, peer: addr(B_FLOW), filter });
    bench.shim.connected(bench.now, key, Ok(1472));
    let [Output::SendFlow { to: None, bytes, .. }, Output::Offer { .. }] = &bench.outputs()[..] else { panic!() };
    assert_eq!(bytes, b"here");
    assert_eq!(bench.next(), [Output::Refilter { key, filter: Filter::Flow }]);
    assert_eq!(bench.elapsed(), ms(3000));
}

#[test]
fn a_classic_request_takes_no_address_that_is_in_use() {
    let mut bench = bench();
    let (_, ours, _) = held(&mut bench, B_FLOW, 5);
    // A flow's; and, behind a NAT, that of a client's shim, which every other flow of that client needs.
    let shim = "10.0.0.2:61000";
    let probe =
        Control { kind: ControlKind::Probe, host: HostId(2), boot: BootId(2), sender: WireId(5), receiver: ours };
    bench.request(shim, &probe.encode());
    bench.outputs();
    for from in [B_FLOW, shim] {
        bench.request(from, b"here");
        assert_eq!(bench.outputs(), [], "{from}");
    }
    assert_eq!(bench.shim.counters().get(Reason::Spoofed), 2);
    bench.request("10.0.0.2:61001", b"here");
    assert!(matches!(bench.outputs()[..], [Output::Arrived { .. }]));
}

#[test]
fn a_flow_taken_back_is_on_the_port_as_before() {
    let mut bench = bench();
    let (.., outputs) = held(&mut bench, B_FLOW, 5);
    let Some(Output::Offer { ticket, .. }) = outputs.last() else { panic!() };
    let mut restarted = self::bench();
    let adopted = restarted.shim.adopt(restarted.now, ticket, owner(), addr(A), addr(B_FLOW)).unwrap();
    restarted.request(B_FLOW, b"here");
    assert_eq!(restarted.outputs(), [], "its address is taken");
    restarted.shim.released(restarted.now, FlowId(105));
    restarted.shim.sent_all(restarted.now, adopted.key, true);
    assert!(restarted.outputs().contains(&Output::Detach { key: adopted.key }));
    let (theirs, ours) = (WireId(5), restarted.shim.flows[&adopted.key].ours);
    restarted.control_from_b(ControlKind::DeallocAck, theirs, ours);
    restarted.assert_empty();
}

#[test]
fn the_client_takes_acceptance_from_where_it_asked() {
    let mut bench = Bench::new();
    let (key, extension, _) = bench.asking(bench.ask(1, "echo"));
    let ours = extension.client;
    bench.answer(key, B, &answer(ours, WireId(7), Verdict::Accepted).encode(&name("echo")));
    let filter = Filter::NoAnswers(name("echo"), ours);
    assert_eq!(bench.one(), Output::Connect { key, peer: addr(B), filter });
    bench.shim.connected(bench.now, key, Ok(1472));
    assert!(bench.outputs().iter().any(|o| matches!(o, Output::Allocated { peer, .. } if *peer == addr(B))));
    // Its next one is not answered "from sp alone": nothing came from there.
    let (_, extension, _) = bench.asking(bench.ask(2, "echo"));
    assert!(!extension.direct);
}
