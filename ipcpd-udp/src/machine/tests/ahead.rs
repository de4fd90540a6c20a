//! A caller that is told of its flow while the way to it is being opened.

use super::open::{SP, aside, control};
use super::*;

/// A client that knocks, and what its caller was told already.
fn told_ahead(bench: &mut Bench) -> (Key, WireId, proto::Token) {
    let (key, extension, _) = bench.asking(bench.ask(1, "echo"));
    bench.answer(key, B, &aside(extension.client, Some(45_000)));
    let outputs = bench.outputs();
    let [.., Output::Expect { token: expected }, Output::Allocated { token, peer, data, .. }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(expected, token);
    assert_eq!((*peer, &**data), (addr(SP), &b"welcome"[..]), "the piggy-back came with the first answer");
    (key, extension.client, *token)
}

/// The processes between shim and program are woken while OPEN is on its way.
#[test]
fn the_caller_is_told_ahead_of_the_socket_and_gets_that_one() {
    let mut bench = Bench::new();
    let (key, ours, token) = told_ahead(&mut bench);
    assert!(bench.shim.reads(key), "OPENED is to be read, though nobody waits for the answer any more");
    // An acceptance of another flow that says otherwise is not what the program was told of; nor are other data.
    let mut other = answer(ours, WireId(8), Verdict::Accepted);
    if let Answer::Extended { data, .. } = &mut other {
        *data = b"otherwise".to_vec();
    }
    bench.answer(key, SP, &other.encode(&name("echo")));
    assert_eq!(bench.outputs(), []);
    if let Answer::Extended { server, .. } = &mut other {
        *server = WireId(7);
    }
    bench.answer(key, SP, &other.encode(&name("echo")));
    assert_eq!(bench.shim.flows[&key].heard, b"welcome");
    assert!(matches!(bench.one(), Output::Connect { .. }));
    assert!(!bench.shim.reads(key), "the program's");
    bench.shim.connected(bench.now, key, Ok(1472));
    let outputs = bench.outputs();
    assert!(
        matches!(outputs[..], [Output::Offer { token: offered, .. }, Output::SendListen { .. }] if offered == token)
    );
}

#[test]
fn what_comes_to_nothing_after_all_is_told_by_the_token() {
    // The deadline, the peer's word, irmd's, and a socket that cannot be connected.
    for how in 0..4 {
        let mut bench = Bench::new();
        let (key, ours, token) = told_ahead(&mut bench);
        let outputs = match how {
            0 => loop {
                let outputs = bench.next();
                if outputs.iter().any(|output| matches!(output, Output::Close { .. })) {
                    assert_eq!(bench.elapsed(), ms(5000));
                    break outputs;
                }
            },
            1 => {
                bench.answer(key, B, &control(ControlKind::NoSuchFlow, WireId(7), ours));
                bench.outputs()
            }
            2 => {
                assert!(bench.shim.dealloc(bench.now, FlowId(1)));
                bench.outputs()
            }
            _ => {
                bench.answer(key, SP, &control(ControlKind::Opened, WireId(7), ours));
                bench.outputs();
                bench.shim.connected(bench.now, key, Err("no".into()));
                bench.outputs()
            }
        };
        let withdrawn = |o: &Output| matches!(o, Output::Withdraw { token: void, .. } if *void == token);
        assert!(outputs.iter().any(withdrawn), "{how}: {outputs:?}");
        assert!(
            outputs.contains(&Output::Ended { flow: FlowId(1), reason: EndReason::NeverTaken }),
            "{how}: {outputs:?}"
        );
        assert!(!outputs.iter().any(|output| matches!(output, Output::Failed { .. })), "{how}");
        // The number is free again.
        bench.shim.check(&bench.ask(1, "echo")).unwrap();
    }
}

/// Where libflow would not wait so long for a socket, and where another host may have a flow to give, the caller is told when it
/// is certain.
#[test]
fn the_caller_is_not_told_ahead_of_what_may_take_long_or_come_from_elsewhere() {
    let target = |at| super::super::directory::Target { at: addr(at), key: None };
    for (timeout, others) in [(60_000, vec![]), (5_000, vec![target("10.0.0.3:3359")])] {
        let mut bench = Bench::new();
        let key = bench.shim.next_key();
        let ask = Ask { timeout: ms(timeout), ..bench.ask(1, "echo") };
        bench.shim.ask(bench.now, key, ask, target(B), others).unwrap();
        let Output::Open { port, .. } = bench.one() else { panic!() };
        bench.shim.opened(bench.now, key, Ok(SocketAddr::new(addr(A).ip(), port)));
        bench.outputs();
        let ours = bench.shim.flows[&key].ours;
        bench.answer(key, B, &aside(ours, Some(45_000)));
        assert_eq!(bench.outputs().len(), 2, "two OPENs");
        bench.answer(key, SP, &control(ControlKind::Opened, WireId(7), ours));
        bench.outputs();
        bench.shim.connected(bench.now, key, Ok(1472));
        assert!(matches!(bench.outputs()[..], [Output::Offer { .. }, Output::Allocated { .. }, _]));
    }
}

/// The peer's shim was restarted in this moment. What it says short of acceptance changes nothing of what was accepted; the flow that
/// it accepts anew is taken, where it is all that the program was told.
#[test]
fn a_flow_that_is_accepted_anew_takes_the_place_of_the_one_that_was_told() {
    let mut bench = Bench::new();
    let (key, ours, token) = told_ahead(&mut bench);
    let by = |boot, server, verdict| {
        let mut said = answer(ours, WireId(server), verdict);
        if let Answer::Extended { boot: field, data, .. } = &mut said {
            *field = BootId(boot);
            data.truncate(if verdict == Verdict::Accepted { 100 } else { 0 });
        }
        said.encode(&name("echo"))
    };
    bench.answer(key, B, &by(3, 0, Verdict::Pending));
    assert_eq!(bench.shim.flows[&key].of.unwrap().boot, BootId(2), "which accepted");
    // Of the start before, it is over.
    bench.answer(key, SP, &by(2, 7, Verdict::Accepted));
    assert_eq!(bench.outputs(), []);
    bench.answer(key, B_FLOW, &by(3, 8, Verdict::Accepted));
    assert!(matches!(bench.one(), Output::Connect { .. }));
    let flow = &bench.shim.flows[&key];
    assert_eq!((flow.theirs, flow.of.unwrap().boot), (WireId(8), BootId(3)));
    bench.shim.connected(bench.now, key, Ok(1472));
    assert!(matches!(bench.outputs()[0], Output::Offer { token: offered, .. } if offered == token));
}
