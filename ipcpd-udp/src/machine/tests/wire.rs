//! The captures of 2016 played against the machine: what the C shim sent goes in, and what comes out is compared
//! with what its peer sent then.

use std::path::Path;

use super::*;

struct Datagram {
    from: u16,
    to: u16,
    payload: Vec<u8>,
}

/// The UDP datagrams of a capture.
fn capture(file: &str) -> Vec<Datagram> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/tests/wire").join(file);
    let bytes = std::fs::read(path).expect("the captures are part of the repository");
    let sent = ::capture::sent(&bytes).expect("a capture");
    sent.into_iter().map(|one| Datagram { from: one.from.port(), to: one.to.port(), payload: one.payload }).collect()
}

/// The server of a capture, played by ours: gives its answers to the captured requests.
fn our_server(file: &str, echo: Echo, accepts: bool) -> Vec<(u16, Vec<u8>)> {
    let mut bench = Bench::with(Settings { echo, ..settings(A) });
    bench.shim.register(bench.now, name("echo-server"), None).unwrap();
    let mut answers = Vec::new();
    let mut flows = 0;
    for datagram in capture(file).iter().filter(|datagram| datagram.to == PORT) {
        bench.request(&format!("10.0.0.2:{}", datagram.from), &datagram.payload);
        // The captures are seconds apart; only duplicates are not.
        let mut left = std::collections::VecDeque::from(bench.outputs());
        while let Some(output) = left.pop_front() {
            match output {
                Output::Connect { key, .. } => bench.shim.connected(bench.now, key, Ok(1472)),
                Output::Arrived { key, .. } => {
                    flows += 1;
                    let accept = Accept { flow: FlowId(flows), owner: owner(), data: vec![] };
                    let refusal = Failure::new(FailureKind::Refused, "");
                    bench.shim.answered(bench.now, key, if accepts { Ok(accept) } else { Err(refusal) });
                }
                Output::SendFlow { key, to: None, bytes } => {
                    let row = bench.shim.rows(bench.now, Key(key.0 - 1), 1).remove(0);
                    answers.push((row.peer.port(), bytes));
                }
                Output::SendListen { .. } => panic!("a classic caller hears nothing from the listen port"),
                _ => {}
            }
            left.extend(bench.outputs());
        }
    }
    answers
}

/// What the captured server said to each client before anything else: its echoes.
fn captured_echoes(file: &str) -> Vec<(u16, Vec<u8>)> {
    let all = capture(file);
    let clients: Vec<u16> = all.iter().filter(|d| d.to == PORT).map(|d| d.from).collect();
    all.iter()
        .enumerate()
        .filter(|(n, d)| {
            // From a port that had not been heard of before: that is an echo and no SDU.
            clients.contains(&d.to) && !all[..*n].iter().any(|before| before.from == d.from || before.to == d.from)
        })
        .map(|(_, d)| (d.to, d.payload.clone()))
        .collect()
}

#[test]
fn our_echoes_are_those_of_2016() {
    for echo in [Echo::OnArrival, Echo::OnAccept] {
        let ours = our_server("flow-4d348ef9s.pcap", echo, true);
        assert_eq!(ours, captured_echoes("flow-4d348ef9s.pcap"), "{echo:?}");
    }
    // With the echo on arrival a refusal cannot be told from an acceptance, as then.
    let refused = "refused-by-server-app.pcap";
    assert_eq!(our_server(refused, Echo::OnArrival, false), captured_echoes(refused));
    assert_eq!(our_server(refused, Echo::OnAccept, false), []);
    // The name, the name and a NUL, the name and a NUL and more; not the name nobody serves, nor the empty one.
    let edge = "c-server-edge-requests.pcap";
    assert_eq!(our_server(edge, Echo::OnArrival, true), captured_echoes(edge)[..3]);
}

#[test]
fn a_duplicate_is_echoed_twice_but_makes_one_flow() {
    // The C server made two flows, from two ports; the payloads are the same.
    let file = "c-server-duplicate-request.pcap";
    let ours = our_server(file, Echo::OnArrival, true);
    assert_eq!(ours, captured_echoes(file));
    assert_eq!(ours.len(), 2);
}

#[test]
fn our_client_against_the_scripted_servers_of_2016() {
    let all = capture("c-client-vs-scripted-server.pcap");
    let requests: Vec<&Datagram> = all.iter().filter(|d| d.to == PORT).collect();
    // Which echoes a strict client takes: the name, the name and a NUL; not a wrong one, not a short one; the late
    // one and the first of two; the last server said nothing.
    let want = [true, true, false, false, true, true, false];
    assert_eq!(requests.len(), want.len());
    for (request, want) in requests.iter().zip(want) {
        let mut bench = Bench::new();
        bench.shim.add_host(name("echo-server"), addr(B)).unwrap();
        let (key, ..) = bench.asking(bench.ask(1, "echo-server"));
        let echo = all.iter().find(|d| d.to == request.from);
        if let Some(echo) = echo {
            bench.answer(key, &format!("10.0.0.2:{}", echo.from), &echo.payload);
        }
        let connects: Vec<_> =
            bench.outputs().iter().filter(|o| matches!(o, Output::Connect { .. })).cloned().collect();
        assert_eq!(connects.len(), usize::from(want), "echo {:?}", echo.map(|e| String::from_utf8_lossy(&e.payload)));
        if let (true, [Output::Connect { peer, .. }]) = (want, &connects[..]) {
            assert_eq!(peer.port(), echo.unwrap().from, "sp is where the echo came from");
        }
    }
}

#[test]
fn a_classic_server_takes_our_request_for_the_name() {
    // Its buffer has 256 bytes, and it reads to the first NUL.
    let mut bench = Bench::new();
    bench.shim.add_host(name("echo-server"), addr(B)).unwrap();
    let (_, _, request) = bench.asking(bench.ask(1, "echo-server"));
    let seen = &request[..256];
    let end = seen.iter().position(|byte| *byte == 0).unwrap();
    assert_eq!(seen[..end], capture("flow-4d348ef9s.pcap")[0].payload[..]);
}
