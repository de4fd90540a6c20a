//! Ways through middleboxes: acceptance said twice, OPEN, the catcher.

use super::super::open::CATCHING;
use super::*;

pub(super) const SP: &str = "10.0.0.2:45000";
/// What a symmetric NAT makes of the caller towards sp.
const OUTSIDE: &str = "10.0.0.2:61000";

pub(super) fn aside(client: WireId, port: Option<u16>) -> Vec<u8> {
    let mut aside = answer(client, WireId(7), Verdict::Accepted);
    if let Answer::Extended { server_port, .. } = &mut aside {
        *server_port = port;
    }
    aside.encode(&name("echo"))
}

pub(super) fn control(kind: ControlKind, sender: WireId, receiver: WireId) -> Vec<u8> {
    Control { kind, host: HostId(2), boot: BootId(2), sender, receiver }.encode().to_vec()
}

/// Where OPENs went. The caller may be told of the flow behind them.
fn opens(outputs: &[Output], ours: WireId) -> Vec<SocketAddr> {
    outputs
        .iter()
        .filter(|output| !matches!(output, Output::Expect { .. } | Output::Allocated { .. }))
        .map(|output| {
            let Output::SendFlow { to: Some(to), bytes, .. } = output else { panic!("{output:?}") };
            let open = Control::decode(bytes).unwrap();
            assert_eq!((open.kind, open.sender, open.receiver), (ControlKind::Open, ours, WireId(7)));
            *to
        })
        .collect()
}

/// A client that heard the acceptance from the listen port only, and knocks.
fn knocking(bench: &mut Bench, flow: u64) -> (Key, WireId) {
    let (key, extension, _) = bench.asking(bench.ask(flow, "echo"));
    assert!(!extension.direct, "nothing is known of the way yet");
    bench.answer(key, B, &aside(extension.client, Some(45_000)));
    let outputs = bench.outputs();
    assert_eq!(opens(&outputs, extension.client), [addr(SP), addr(B)], "at once; the middlebox is opened first");
    (key, extension.client)
}

/// A flow that B asked for, accepted by a program of this host. Its key, its id here, and the caller's.
fn accepted(bench: &mut Bench, client: u64) -> (Key, WireId, Vec<Output>) {
    bench.request(B_FLOW, &extended("here", client));
    let outputs = bench.outputs();
    let Some(Output::Arrived { key, .. }) = outputs.last() else { panic!("{outputs:?}") };
    let accept = Accept { flow: FlowId(100 + client), owner: owner(), data: vec![] };
    bench.shim.answered(bench.now, *key, Ok(accept));
    let Output::Connect { filter: Filter::NoControl(ours), .. } = bench.one() else { panic!() };
    bench.shim.connected(bench.now, *key, Ok(1472));
    let outputs = bench.outputs();
    bench.shim.taken(bench.now, FlowId(100 + client));
    (*key, ours, outputs)
}

fn caught(bench: &mut Bench, key: Key, from: &str, bytes: &[u8]) -> Vec<Output> {
    bench.shim.handle_datagram(bench.now, Via::Catcher(key), addr(from), bytes);
    bench.outputs()
}

fn is_opened(output: &Output, ours: WireId, theirs: u64) -> bool {
    let Output::SendFlow { to: None, bytes, .. } = output else { return false };
    let want = Control {
        kind: ControlKind::Opened,
        host: settings(A).host,
        boot: settings(A).boot,
        sender: ours,
        receiver: WireId(theirs),
    };
    Control::decode(bytes) == Ok(want)
}

pub(super) fn directed() -> Vec<Bench> {
    let mut bench = Bench::new();
    knocking(&mut bench, 1);
    bench.shim.cancel(bench.now, FlowId(1));
    bench.outputs();
    let (key, ours) = knocking(&mut bench, 2);
    bench.answer(key, B, &control(ControlKind::NoSuchFlow, WireId(7), ours));
    bench.outputs();
    vec![bench]
}

#[test]
fn behind_a_firewall_the_client_opens_the_way_in_two_round_trips() {
    let mut bench = Bench::new();
    let (key, ours) = knocking(&mut bench, 1);
    let opened = control(ControlKind::Opened, WireId(7), ours);
    // Only from sp, only by both ids, only by the host that accepted.
    let mut other = Control::decode(&opened).unwrap();
    other.host = HostId(3);
    let table: [(&str, Vec<u8>, Reason); 6] = [
        (B, opened.clone(), Reason::UnexpectedControl),
        ("10.0.0.2:45001", opened.clone(), Reason::UnexpectedControl),
        ("10.0.0.3:45000", opened.clone(), Reason::Stranger),
        (SP, control(ControlKind::Opened, WireId(8), ours), Reason::Spoofed),
        (SP, other.encode().to_vec(), Reason::Spoofed),
        (SP, vec![0; 40], Reason::NotControl),
    ];
    for (from, bytes, reason) in table {
        let before = bench.shim.counters().get(reason);
        bench.answer(key, from, &bytes);
        assert_eq!(bench.outputs(), [], "{from} {reason:?}");
        assert_eq!(bench.shim.counters().get(reason), before + 1, "{from} {reason:?}");
    }
    bench.answer(key, SP, &opened);
    let filter = Filter::NoAnswers(name("echo"), ours);
    assert_eq!(bench.one(), Output::Connect { key, peer: addr(SP), filter });
    bench.shim.connected(bench.now, key, Ok(1472));
    assert!(
        matches!(bench.outputs()[..], [Output::Offer { .. }, Output::SendListen { .. }]),
        "told ahead, and a probe"
    );
    assert_eq!(bench.now, bench.start);
}

#[test]
fn open_is_sent_until_it_is_heard_or_the_deadline() {
    let mut bench = Bench::new();
    let (key, ours) = knocking(&mut bench, 1);
    // What middleboxes say of the first ones ends nothing.
    for what in [Unreachable::Port, Unreachable::Host, Unreachable::Port] {
        bench.shim.handle_unreachable(bench.now, key, what);
    }
    let mut tries = 1;
    let failure = loop {
        let outputs = bench.next();
        if let Some(Output::Withdraw { failure, .. }) = outputs.iter().find(|o| matches!(o, Output::Withdraw { .. })) {
            // The peer accepted: it is told.
            let (to, dealloc) = outputs.iter().find_map(control_of).unwrap();
            assert_eq!((to, dealloc.sender, dealloc.receiver), (addr(B), ours, WireId(7)));
            break failure.clone();
        }
        assert_eq!(opens(&outputs, ours), [addr(SP), addr(B)]);
        tries += 1;
    };
    assert_eq!(bench.elapsed(), ms(5000));
    assert!((10..=20).contains(&tries), "{tries}");
    assert_eq!((failure.kind(), failure.asked), (FailureKind::TimedOut, tries), "{failure}");
    assert!(failure.message.contains("port 45000 was not reached"), "{failure}");
    bench.control_from_b(ControlKind::DeallocAck, WireId(7), ours);
    bench.assert_empty();
}

#[test]
fn the_answer_from_sp_wins_whenever_it_comes() {
    let mut bench = Bench::new();
    let (key, ours) = knocking(&mut bench, 1);
    bench.answer(key, SP, &answer(ours, WireId(7), Verdict::Accepted).encode(&name("echo")));
    assert!(matches!(bench.one(), Output::Connect { peer, .. } if peer == addr(SP)));
    // And what comes aside behind it is late.
    bench.answer(key, B, &aside(ours, Some(45_000)));
    assert_eq!(bench.outputs(), []);
    assert_eq!(bench.shim.counters().get(Reason::Late), 1);
}

#[test]
fn a_flow_that_ended_meanwhile_is_not_knocked_for() {
    for (kind, ends) in [(ControlKind::NoSuchFlow, true), (ControlKind::Recovering, false), (ControlKind::Alive, false)]
    {
        let mut bench = Bench::new();
        let (key, ours) = knocking(&mut bench, 1);
        bench.answer(key, SP, &control(kind, WireId(7), ours));
        assert_eq!(bench.outputs(), [], "from where it cannot come");
        bench.answer(key, B, &control(kind, WireId(7), ours));
        let failed = bench.outputs().iter().any(|output| matches!(output, Output::Withdraw { .. }));
        assert_eq!(failed, ends, "{kind:?}");
    }
}

#[test]
fn nonsense_for_sp_is_not_knocked_at() {
    for port in [Some(0), Some(PORT)] {
        let mut bench = Bench::new();
        let (key, extension, _) = bench.asking(bench.ask(1, "echo"));
        bench.answer(key, B, &aside(extension.client, port));
        assert_eq!(bench.outputs(), [], "{port:?}");
    }
}

#[test]
fn who_hears_sp_says_so_and_is_answered_once() {
    let mut bench = Bench::new();
    bench.held(1);
    let (key, extension, _) = bench.asking(bench.ask(2, "echo"));
    assert!(extension.direct);
    // Only of the first request: where no answer comes, it may have become wrong.
    let Output::SendFlow { bytes, .. } = &bench.next()[0] else { panic!() };
    let Ok(Request::Extended(_, again)) = Request::decode(bytes) else { panic!() };
    assert!(!again.direct);
    bench.answer(key, B, &aside(extension.client, Some(45_000)));
    assert_eq!(opens(&bench.outputs(), extension.client).len(), 2);

    let mut server = Bench::new();
    let direct = Extension { direct: true, ..extension_of(5) };
    server.request(B_FLOW, &Request::Extended(name("here"), direct).encode());
    let Some(Output::Arrived { key, .. }) = server.outputs().pop() else { panic!() };
    server.shim.answered(server.now, key, Ok(Accept { flow: FlowId(9), owner: owner(), data: vec![] }));
    server.outputs();
    server.shim.connected(server.now, key, Ok(1472));
    assert!(matches!(server.outputs()[..], [Output::SendFlow { .. }, Output::Offer { .. }]), "no copy, no catcher");
    server.request(B_FLOW, &extended("here", 5));
    let outputs = server.outputs();
    assert!(
        matches!(outputs[..], [Output::SendFlow { .. }, Output::SendListen { .. }, Output::Catch { .. }]),
        "asked again: everything"
    );
}

fn extension_of(client: u64) -> Extension {
    super::extension(client)
}

#[test]
fn an_open_from_another_address_moves_the_flow_there_once() {
    let mut bench = Bench::new();
    let (key, ours, outputs) = accepted(&mut bench, 5);
    assert_eq!(outputs.last(), Some(&Output::Catch { key }));
    let open = control(ControlKind::Open, WireId(5), ours);
    // Neither half the ids, nor another host's word, nor any other datagram.
    let mut stranger = Control::decode(&open).unwrap();
    stranger.host = HostId(3);
    let noise: [Vec<u8>; 7] = [
        control(ControlKind::Open, WireId(6), ours),
        control(ControlKind::Open, WireId(5), WireId(ours.0 ^ 1)),
        control(ControlKind::Open, WireId(0), ours),
        control(ControlKind::Probe, WireId(5), ours),
        stranger.encode().to_vec(),
        b"an SDU".to_vec(),
        Vec::new(),
    ];
    for (n, bytes) in noise.iter().enumerate() {
        assert_eq!(caught(&mut bench, key, OUTSIDE, bytes), [], "{bytes:?}");
        assert_eq!(bench.shim.counters().get(Reason::Uncaught), n as u64 + 1);
    }
    let outputs = caught(&mut bench, key, OUTSIDE, &open);
    assert_eq!(outputs[..2], [Output::Move { key, peer: addr(OUTSIDE) }, Output::Uncatch { key }]);
    assert!(is_opened(&outputs[2], ours, 5) && outputs.len() == 3);
    assert_eq!(bench.shim.rows(bench.now, Key(0), 1)[0].peer, addr(OUTSIDE));
    // A raw flow has no authentication of its own: it never moves again.
    assert_eq!(caught(&mut bench, key, "10.0.0.9:1", &open), []);
    // OPENED may be lost: the client says OPEN to the listen port, too, and is answered where the flow is now.
    for from in [B_FLOW, OUTSIDE, "10.0.0.9:1"] {
        bench.request(from, &open);
        assert!(is_opened(&bench.one(), ours, 5), "{from}");
    }
}

#[test]
fn an_open_at_the_listen_port_moves_nothing_and_is_answered_from_sp() {
    // What a client sends to sp from the address that asked ends in the filter of the flow's own socket.
    let mut bench = Bench::new();
    let (key, ours, _) = accepted(&mut bench, 5);
    let open = control(ControlKind::Open, WireId(5), ours);
    bench.request(B_FLOW, &open);
    assert!(is_opened(&bench.one(), ours, 5));
    assert_eq!(bench.shim.rows(bench.now, Key(0), 1)[0].peer, addr(B_FLOW));
    // Behind a symmetric NAT the one to the listen port comes from the address that asked, before the other.
    let outputs = caught(&mut bench, key, OUTSIDE, &open);
    assert_eq!(outputs[0], Output::Move { key, peer: addr(OUTSIDE) });
    // Where it came from is no place for control datagrams.
    bench.shim.suspect(bench.now, FlowId(105));
    assert_eq!(control_of(&bench.one()).unwrap().0, addr(B));
    // Of no flow, or one that is over.
    bench.request(B_FLOW, &control(ControlKind::Open, WireId(5), WireId(99)));
    let (to, answer) = control_of(&bench.one()).unwrap();
    assert_eq!((to, answer.kind, answer.receiver), (addr(B_FLOW), ControlKind::NoSuchFlow, WireId(5)));
    bench.shim.released(bench.now, FlowId(105));
    bench.outputs();
    bench.request(B_FLOW, &open);
    assert_eq!(control_of(&bench.one()).unwrap().1.kind, ControlKind::NoSuchFlow);
}

#[test]
fn only_the_accepting_side_is_opened() {
    let mut bench = Bench::new();
    let (_, ours, theirs) = bench.held(1);
    bench.control_from_b(ControlKind::Open, theirs, ours);
    assert_eq!(bench.outputs(), []);
    assert_eq!(bench.shim.counters().get(Reason::Spoofed), 1);
}

#[test]
fn a_catcher_stands_for_three_seconds_and_not_for_the_dead() {
    let mut bench = Bench::new();
    let (key, ours, _) = accepted(&mut bench, 5);
    while bench.next() != [Output::Uncatch { key }] {}
    assert_eq!(bench.elapsed(), CATCHING);
    let open = control(ControlKind::Open, WireId(5), ours);
    assert_eq!(caught(&mut bench, key, OUTSIDE, &open), []);
    // A caller that still asks gets another one.
    bench.request(B_FLOW, &extended("here", 5));
    assert!(bench.outputs().contains(&Output::Catch { key }));
    bench.shim.released(bench.now, FlowId(105));
    assert!(bench.outputs().contains(&Output::Uncatch { key }));
    // But not for ever.
    let (key, ..) = accepted(&mut bench, 6);
    bench.now += ms(60_000);
    bench.shim.handle_timeout(bench.now);
    bench.outputs();
    bench.request(B_FLOW, &extended("here", 6));
    assert!(!bench.outputs().contains(&Output::Catch { key }));
}

#[test]
fn catchers_are_bounded_and_the_oldest_goes_first() {
    let mut bench = Bench::with(Settings { max_flows: 50, ..settings(A) });
    let keys: Vec<Key> = (1..=10).map(|client| accepted(&mut bench, client)).map(|(key, ..)| key).collect();
    let left: Vec<Key> = bench.shim.catching.iter().copied().collect();
    assert_eq!(left, keys[4..], "12 in a hundred of 50");
}

#[test]
fn both_acceptances_fit_the_request_or_come_one_after_the_other() {
    let headers = 48;
    for name_length in [1, 20, 100, 200, 255] {
        for data_length in [0, 1, 100, 300, 512] {
            let long = "n".repeat(name_length);
            let mut bench = Bench::new();
            bench.shim.register(bench.now, name(&long), None).unwrap();
            bench.request(B_FLOW, &extended(&long, 5));
            let mut spent = bench.outputs();
            let Some(Output::Arrived { key, .. }) = spent.last().cloned() else { panic!() };
            let data = vec![7; data_length];
            bench.shim.answered(bench.now, key, Ok(Accept { flow: FlowId(9), owner: owner(), data }));
            bench.outputs();
            bench.shim.connected(bench.now, key, Ok(1472));
            let (mut from_sp, mut aside) = (0, 0);
            for asked in 0..4 {
                if asked > 0 {
                    bench.request(B_FLOW, &extended(&long, 5));
                }
                spent.extend(bench.outputs());
                let bytes: usize = spent
                    .iter()
                    .map(|output| match output {
                        Output::SendListen { bytes, .. } => {
                            aside += usize::from(verdict_of(output, &long).unwrap().0 == Verdict::Accepted);
                            bytes.len() + headers
                        }
                        Output::SendFlow { bytes, .. } => {
                            from_sp += 1;
                            bytes.len() + headers
                        }
                        _ => 0,
                    })
                    .sum();
                assert!(bytes <= 1200 + headers, "{name_length} {data_length}: {bytes}");
                spent.clear();
            }
            assert!(from_sp >= 2 && aside >= 2, "{name_length} {data_length}: {from_sp} {aside}");
        }
    }
}
