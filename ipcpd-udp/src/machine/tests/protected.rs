//! Message and stream flows: bound to request and answer, never with a classic peer, and followed to where the client is.

use proto::shim::Binding;
use proto::{Cube, Qos};

use super::super::directory::Target;
use super::*;

/// What a program is given beside its socket.
#[derive(Debug, PartialEq)]
struct Given {
    binding: Option<Binding>,
    fixed: bool,
    ticket: Vec<u8>,
}

fn given(outputs: &[Output]) -> Given {
    let given = outputs.iter().find_map(|output| match output {
        Output::Offer { binding, fixed, ticket, .. } => {
            Some(Given { binding: *binding, fixed: *fixed, ticket: ticket.clone() })
        }
        _ => None,
    });
    given.unwrap_or_else(|| panic!("no offer in {outputs:?}"))
}

fn server(shares: Option<u32>) -> Bench {
    let mut bench = Bench::with(Settings { host: HostId(2), boot: BootId(2), shares, ..settings(B) });
    bench.shim.register(bench.now, name("echo"), None).unwrap();
    bench
}

fn of(cube: Cube) -> Qos {
    Qos { cube, keepalive_ms: 2000, ..Qos::raw() }
}

/// Accepts whatever a peer asked for; the acceptance as sp says it, and all that was to be done.
fn accept(server: &mut Bench, cp: &str, request: &[u8]) -> (Key, Vec<u8>, Vec<Output>) {
    server.shim.handle_datagram(server.now, Via::Listen, addr(cp), request);
    let Some(Output::Open { key, port, .. }) = server.shim.poll_output() else { panic!("sp") };
    server.shim.opened(server.now, key, Ok(SocketAddr::new(addr(B).ip(), port)));
    server.outputs();
    server.shim.answered(server.now, key, Ok(Accept { flow: FlowId(9), owner: owner(), data: b"welcome".to_vec() }));
    server.outputs();
    server.shim.connected(server.now, key, Ok(1472));
    let outputs = server.outputs();
    let Some(Output::SendFlow { to: None, bytes, .. }) = outputs.first() else { panic!("{outputs:?}") };
    server.shim.taken(server.now, FlowId(9));
    (key, bytes.clone(), outputs)
}

/// A flow from one machine to the other, over a path that changes what it likes.
fn across(cube: Cube, request: impl Fn(&mut Extension), answer: impl Fn(&mut Answer)) -> [Given; 2] {
    let (mut client, mut server) = (Bench::new(), server(None));
    let (key, _, bytes) = client.asking(Ask { qos: of(cube), ..client.ask(1, "echo") });
    let Ok(Request::Extended(_, mut said)) = Request::decode(&bytes) else { panic!() };
    request(&mut said);
    let heard = Request::Extended(name("echo"), said).encode();
    let (_, bytes, accepted) = accept(&mut server, "10.0.0.1:40000", &heard);
    let mut said = Answer::decode(&bytes, &name("echo")).unwrap();
    answer(&mut said);
    client.answer(key, B_FLOW, &said.encode(&name("echo")));
    client.outputs();
    client.shim.connected(client.now, key, Ok(1472));
    [given(&client.outputs()), given(&accepted)]
}

fn unchanged<T>(_: &mut T) {}

/// What somebody on the path does to a datagram.
type Change<T> = (&'static str, fn(&mut T));

#[test]
fn both_sides_bind_the_handshake_to_the_same() {
    for cube in [Cube::Message, Cube::Stream] {
        let [client, server] = across(cube, unchanged, unchanged);
        assert!(client.binding.is_some());
        assert_eq!(client.binding, server.binding);
        assert_eq!((client.fixed, server.fixed), (true, false), "only the accepting side follows its peer");
    }
    let [client, server] = across(Cube::Raw, unchanged, unchanged);
    assert_eq!([client.binding, server.binding], [None, None]);
    assert!(client.fixed && server.fixed, "a raw flow has no authentication");
}

#[test]
fn what_is_changed_on_the_path_is_bound_otherwise() {
    let changes: [Change<Extension>; 5] = [
        ("source", |said| said.source = "root".into()),
        ("QoS", |said| said.qos.timeout_ms = 1),
        ("cube", |said| said.qos.cube = Cube::Message),
        ("data", |said| said.data = b"hullo".to_vec()),
        ("host", |said| said.host = HostId(66)),
    ];
    for (what, change) in changes {
        let [client, server] = across(Cube::Stream, change, unchanged);
        assert!(client.binding.is_some() && server.binding.is_some(), "{what}");
        assert_ne!(client.binding, server.binding, "{what}");
    }
    let [client, server] = across(Cube::Stream, |said| said.qos = Qos::raw(), unchanged);
    assert!(client.binding.is_some() && server.binding.is_none(), "made raw on the path: never a handshake");
    let changes: [Change<Answer>; 3] = [
        ("data", |said| {
            if let Answer::Extended { data, .. } = said {
                data.clear()
            }
        }),
        ("host", |said| {
            if let Answer::Extended { host, .. } = said {
                *host = HostId(66)
            }
        }),
        ("id", |said| {
            if let Answer::Extended { server, .. } = said {
                server.0 ^= 1
            }
        }),
    ];
    for (what, change) in changes {
        let [client, server] = across(Cube::Stream, unchanged, change);
        assert!(client.binding.is_some(), "{what}");
        assert_ne!(client.binding, server.binding, "{what}");
    }
    // Where repetitions differ anyway, nothing is bound.
    let path = |said: &mut Extension| (said.deadline_ms, said.direct) = (4000, true);
    let [client, server] = across(Cube::Stream, path, unchanged);
    assert_eq!(client.binding, server.binding);
}

/// Acceptance may be heard from the listen port first and from sp later, with other data: what the program was told is bound.
#[test]
fn the_acceptance_that_is_acted_upon_is_the_one_that_is_bound() {
    let offered = |knocks: bool, data: &[u8]| {
        let mut client = Bench::new();
        let (key, extension, _) = client.asking(Ask { qos: Qos::stream(), ..client.ask(1, "echo") });
        let mut said = answer(extension.client, WireId(7), Verdict::Accepted);
        if let Answer::Extended { data: field, server_port, .. } = &mut said {
            (*field, *server_port) = (data.to_vec(), Some(45_000));
        }
        let mut outputs = Vec::new();
        if knocks {
            client.answer(key, B, &said.encode(&name("echo")));
            outputs = client.outputs();
        }
        if let Answer::Extended { data, server_port, .. } = &mut said {
            (*data, *server_port) = (b"welcome".to_vec(), None);
        }
        client.answer(key, B_FLOW, &said.encode(&name("echo")));
        client.outputs();
        client.shim.connected(client.now, key, Ok(1472));
        outputs.extend(client.outputs());
        let told =
            outputs.iter().find_map(|o| if let Output::Allocated { data, .. } = o { Some(&**data) } else { None });
        assert_eq!(told, Some(if knocks { data } else { b"welcome" }));
        given(&outputs).binding.unwrap()
    };
    assert_eq!(offered(true, b"welcome"), offered(false, b""));
    assert_ne!(offered(true, b"forged"), offered(false, b""));
}

#[test]
fn on_the_listen_port_the_connection_is_not_the_programs_to_dissolve() {
    let mut server = server(Some(owner().uid));
    let said = Extension { qos: Qos::stream(), ..extension(5) };
    let ask = |said: &Extension| Request::Extended(name("echo"), said.clone()).encode();
    server.request(B_FLOW, &ask(&said));
    let Output::SendListen { bytes, .. } = server.one() else { panic!() };
    let Ok(Answer::Extended { cookie, .. }) = Answer::decode(&bytes, &name("echo")) else { panic!() };
    server.shim.handle_datagram(server.now, Via::Listen, addr(B_FLOW), &ask(&Extension { cookie, ..said }));
    let Some(Output::Reserve { key }) = server.shim.poll_output() else { panic!() };
    server.shim.opened(server.now, key, Ok(addr(B)));
    server.outputs();
    server.shim.answered(server.now, key, Ok(Accept { flow: FlowId(9), owner: owner(), data: vec![] }));
    server.outputs();
    server.shim.connected(server.now, key, Ok(1472));
    let given = given(&server.outputs());
    assert!(given.binding.is_some() && given.fixed);
    // Nor is it taken back without one.
    let said = ticket::open(&[3; 32], &given.ticket).unwrap();
    let mut after = self::server(Some(owner().uid));
    let refused = after.shim.adopt(after.now, &given.ticket, owner(), said.local, None).unwrap_err();
    assert_eq!(refused.kind(), FailureKind::NotPermitted);
}

#[test]
fn a_classic_answer_is_no_answer_and_the_next_host_is_asked() {
    let mut bench = Bench::new();
    let (key, ..) = bench.asking(Ask { qos: Qos::stream(), ..bench.ask(1, "echo") });
    bench.answer(key, B_FLOW, b"echo");
    let failed = bench.outputs();
    let Some(failure) =
        failed.iter().find_map(|o| if let Output::Failed { failure, .. } = o { Some(failure) } else { None })
    else {
        panic!("{failed:?}")
    };
    assert_eq!(
        failure.message,
        "10.0.0.2:45000 answered for echo as a classic shim does, which carries raw flows only: it is one, or its answer was \
         changed on the path; ask for QoS raw instead of stream, or have that host updated"
    );
    assert_eq!(failure.kind(), FailureKind::UnsupportedQos);
    bench.assert_empty();
}

/// What one host answered is not what the next one is asked with.
#[test]
fn the_next_host_is_asked_with_what_the_program_said() {
    let mut bench = Bench::new();
    let ask = bench.ask(1, "echo");
    let key = bench.shim.next_key();
    let to = |at| Target { at: addr(at), key: None };
    bench.shim.ask(bench.now, key, ask, to(B), vec![to("10.0.0.3:3359")]).unwrap();
    let Output::Open { port, .. } = bench.one() else { panic!() };
    bench.shim.opened(bench.now, key, Ok(SocketAddr::new(addr(A).ip(), port)));
    let Output::SendFlow { bytes, .. } = bench.one() else { panic!() };
    let Ok(Request::Extended(_, said)) = Request::decode(&bytes) else { panic!() };
    // It accepts, and is never reached at sp.
    let mut aside = answer(said.client, WireId(7), Verdict::Accepted);
    if let Answer::Extended { server_port, .. } = &mut aside {
        *server_port = Some(45_000);
    }
    bench.answer(key, B, &aside.encode(&name("echo")));
    let next = loop {
        let outputs = bench.next();
        if let Some(Output::Open { key, port, .. }) = outputs.iter().find(|o| matches!(o, Output::Open { .. })) {
            break (*key, *port);
        }
    };
    bench.shim.opened(bench.now, next.0, Ok(SocketAddr::new(addr(A).ip(), next.1)));
    let Output::SendFlow { to, bytes, .. } = bench.one() else { panic!() };
    let Ok(Request::Extended(_, again)) = Request::decode(&bytes) else { panic!() };
    assert_eq!((to, &*again.data), (Some(addr("10.0.0.3:3359")), &b"hello"[..]));
}

/// A flow that a program of this host accepted, with its catcher.
fn caught(cube: Cube) -> (Bench, Key, WireId) {
    let mut server = server(None);
    let said = Extension { qos: of(cube), ..extension(5) };
    let (key, bytes, outputs) = accept(&mut server, B_FLOW, &Request::Extended(name("echo"), said).encode());
    assert_eq!(outputs.last(), Some(&Output::Catch { key }));
    let Ok(Answer::Extended { server: ours, .. }) = Answer::decode(&bytes, &name("echo")) else { panic!() };
    (server, key, ours)
}

fn at_the_catcher(bench: &mut Bench, key: Key, from: &str, bytes: &[u8]) -> Vec<Output> {
    bench.shim.handle_datagram(bench.now, Via::Catcher(key), addr(from), bytes);
    bench.outputs()
}

/// With its connection dissolved, the flow's socket loses to the catcher, which was bound behind it.
#[test]
fn the_catcher_gets_out_of_the_way_of_a_dissolved_socket() {
    for cube in [Cube::Message, Cube::Stream] {
        let (mut bench, key, _) = caught(cube);
        assert_eq!(at_the_catcher(&mut bench, key, STRANGER, b"\x40of a handshake"), []);
        assert_eq!(at_the_catcher(&mut bench, key, B_FLOW, b"\x40of a handshake"), [Output::Uncatch { key }]);
        // And does not come back for a request that comes again.
        bench.request(B_FLOW, &Request::Extended(name("echo"), Extension { qos: of(cube), ..extension(5) }).encode());
        assert!(!bench.outputs().iter().any(|output| matches!(output, Output::Catch { .. })));
    }
    let (mut bench, key, _) = caught(Cube::Raw);
    assert_eq!(at_the_catcher(&mut bench, key, B_FLOW, b"an SDU"), [], "its program broke its own flow");
}

#[test]
fn a_client_that_speaks_of_its_flow_needs_no_catcher() {
    let (mut bench, key, ours) = caught(Cube::Raw);
    bench.control_from_b(ControlKind::Probe, WireId(5), WireId(ours.0 ^ 1));
    assert!(!bench.outputs().contains(&Output::Uncatch { key }));
    bench.control_from_b(ControlKind::Probe, WireId(5), ours);
    assert!(bench.outputs().contains(&Output::Uncatch { key }));
}

#[test]
fn the_shim_sends_no_keep_alive_where_the_handshake_has_its_own() {
    for (cube, wants) in [(Cube::Raw, true), (Cube::Message, false), (Cube::Stream, false)] {
        let (mut bench, ..) = caught(cube);
        let mut counted = false;
        while bench.elapsed() < ms(5000) {
            counted |= bench.next().iter().any(|output| matches!(output, Output::Count { .. }));
        }
        assert_eq!(counted, wants, "{cube:?}");
    }
}

#[test]
fn a_dissolved_socket_is_taken_back() {
    for (cube, taken) in [(Cube::Raw, false), (Cube::Message, true), (Cube::Stream, true)] {
        let [client, server] = across(cube, unchanged, unchanged);
        let mut after = self::server(None);
        let said = ticket::open(&[3; 32], &server.ticket).unwrap();
        let back = after.shim.adopt(after.now, &server.ticket, owner(), said.local, None);
        assert_eq!(back.is_ok(), taken, "{cube:?}");
        if let Ok(adopted) = back {
            let row = after.shim.row(after.now, adopted.flow).unwrap();
            assert_eq!((row.peer, row.qos.cube), (said.peer, cube));
        }
        let mut after = Bench::new();
        let said = ticket::open(&[3; 32], &client.ticket).unwrap();
        assert!(
            after.shim.adopt(after.now, &client.ticket, owner(), said.local, None).is_err(),
            "who asked stays connected"
        );
    }
}

/// A host with several flows moves: its shim is heard of one of them from the new address.
#[test]
fn the_end_of_a_flow_is_told_where_its_host_has_moved_to() {
    const MOVED: &str = "10.7.7.7:7001";
    for (cube, follows) in [(Cube::Raw, false), (Cube::Stream, true)] {
        let (mut bench, key, _) = caught(cube);
        let second = Extension { qos: of(cube), ..extension(6) };
        let request = Request::Extended(name("echo"), second).encode();
        bench.shim.handle_datagram(bench.now, Via::Listen, addr("10.0.0.2:45001"), &request);
        let Some(Output::Open { key: other, port, .. }) = bench.shim.poll_output() else { panic!() };
        bench.shim.opened(bench.now, other, Ok(SocketAddr::new(addr(B).ip(), port)));
        bench.outputs();
        bench.shim.answered(bench.now, other, Ok(Accept { flow: FlowId(10), owner: owner(), data: vec![] }));
        let ours = bench.shim.flows[&other].ours;
        bench.shim.connected(bench.now, other, Ok(1472));
        bench.shim.taken(bench.now, FlowId(10));
        bench.outputs();
        let probe =
            Control { kind: ControlKind::Probe, host: HostId(2), boot: BootId(2), sender: WireId(6), receiver: ours };
        bench.request(MOVED, &probe.encode());
        bench.outputs();
        bench.shim.died(bench.now, FlowId(9));
        bench.outputs();
        bench.shim.sent_all(bench.now, key, true);
        let mut told = Vec::new();
        let mut outputs = bench.outputs();
        for _ in 0..20 {
            let deallocs = outputs.iter().filter_map(control_of);
            told.extend(deallocs.filter(|(_, c)| matches!(c.kind, ControlKind::Dealloc { .. })).map(|(to, _)| to));
            outputs = bench.next();
        }
        assert_eq!(told[0], addr(B), "first where the host was");
        assert_eq!(told.contains(&addr(MOVED)), follows, "{told:?}");
    }
}
