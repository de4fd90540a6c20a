use proptest::prelude::*;
use proto::{BootId, HostId, Qos};

use super::*;
use crate::machine::words::line;

const WIRE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto/tests/wire/");

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What each datagram of a capture of 2016 is, in words; data left out.
fn heard(file: &str) -> (Vec<String>, Tap) {
    let bytes = std::fs::read(format!("{WIRE}{file}")).expect("the captures are part of the repository");
    let mut tap = Tap::new([]);
    let mut lines = Vec::new();
    for sent in capture::sent(&bytes).unwrap() {
        match tap.hear(sent.from, sent.to, &sent.payload, sent.payload.len()) {
            Some(Heard::Data { .. }) | None => {}
            Some(heard) => lines.push(line(&heard, tap.flows(), sent.payload.len())),
        }
    }
    (lines, tap)
}

#[test]
fn the_captures_of_2016() {
    let (request, echo) = ("classic request echo-server", "classic echo echo-server");
    let table = [
        ("flow-4d348ef9s.pcap", vec![request, echo]),
        ("unknown-name.pcap", vec![request]),
        ("refused-by-server-app.pcap", vec![request, echo]),
        ("c-server-duplicate-request.pcap", vec![request, echo, request, echo]),
    ];
    for (file, want) in table {
        let (lines, _) = heard(file);
        assert_eq!(lines[..want.len()], want, "{file}: {lines:?}");
    }
    let (lines, tap) = heard("flow-4d348ef9s.pcap");
    assert_eq!(lines.len(), 2, "{lines:?}");
    let [flow] = tap.flows() else { panic!("{:?}", tap.flows()) };
    assert_eq!((flow.name.as_str(), flow.cube), ("echo-server", Some(Cube::Raw)));
    assert!(flow.up.datagrams > 0 && flow.down.datagrams > 0, "{flow:?}");
    let (lines, _) = heard("c-client-vs-scripted-server.pcap");
    assert_eq!(lines.iter().filter(|line| *line == request).count(), 7, "{lines:?}");
    // Two answers with another name, and what the client, which takes any, was sent from there.
    assert_eq!(lines.iter().filter(|line| line.starts_with("malformed: other_name")).count(), 6, "{lines:?}");
    let (lines, _) = heard("c-server-edge-requests.pcap");
    assert!(lines.contains(&"classic request nobody".to_owned()), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("malformed: empty")), "{lines:?}");
}

fn extension() -> Extension {
    Extension {
        host: HostId(1),
        boot: BootId(2),
        client: WireId(3),
        source: "me".into(),
        qos: Qos { cube: Cube::Stream, ..Qos::raw() },
        deadline_ms: 5_000,
        listen_port: PORT,
        direct: false,
        data: vec![],
        cookie: vec![],
    }
}

fn answer(verdict: Verdict, reason: &str, server_port: Option<u16>) -> Vec<u8> {
    let server = WireId(if verdict == Verdict::Accepted { 4 } else { 0 });
    let (data, cookie) = (vec![], vec![]);
    let (host, boot, client, reason) = (HostId(9), BootId(8), WireId(3), reason.to_owned());
    let answer = Answer::Extended { host, boot, client, server, verdict, reason, data, cookie, server_port };
    answer.encode(&name())
}

fn name() -> Name {
    Name::new("echo").unwrap()
}

fn control(kind: ControlKind, sender: u64, receiver: u64) -> Vec<u8> {
    let (sender, receiver) = (WireId(sender), WireId(receiver));
    Control { kind, host: HostId(1), boot: BootId(2), sender, receiver }.encode().to_vec()
}

#[test]
fn a_flow_is_followed_from_its_request_to_its_end() {
    let (cp, sp) = (at("10.0.0.1:40000"), at("10.0.0.2:41000"));
    let (client, server) = (at("10.0.0.1:3359"), at("10.0.0.2:3400"));
    let moved = at("192.0.2.9:7");
    let request = Request::Extended(name(), extension()).encode();
    let story = [
        (cp, server, request, "request echo, stream, flow 0000000000000003, by me"),
        (server, cp, answer(Verdict::Cookie, "", None), "answer echo: cookie wanted, flow 0000000000000003"),
        (server, cp, answer(Verdict::Pending, "", None), "answer echo: PENDING, flow 0000000000000003"),
        (
            server,
            cp,
            answer(Verdict::Accepted, "", Some(41_000)),
            "answer echo: ACCEPTED, flow 0000000000000003 / 0000000000000004, at port 41000",
        ),
        (cp, sp, b"hello".to_vec(), "QUIC of 5 bytes (stream), flow to echo"),
        // Its NAT gives it another address.
        (moved, sp, control(ControlKind::Open, 3, 4), "OPEN, flow 0000000000000003 to 0000000000000004"),
        (sp, moved, vec![], "keep-alive, flow to echo"),
        (moved, sp, b"again".to_vec(), "QUIC of 5 bytes (stream), flow to echo"),
        (
            client,
            server,
            control(ControlKind::Dealloc { died: true }, 3, 4),
            "dealloc (its program ended without it), flow 0000000000000003 to 0000000000000004",
        ),
        (
            server,
            cp,
            answer(Verdict::Refused, "no\u{1b}[2J", None),
            "answer echo: refused, flow 0000000000000003: \"no\u{fffd}[2J\"",
        ),
        // The listen port was learned from the request; nobody else's ports are ours.
        (cp, server, vec![0xff; 9], "malformed: bad_name, 9 bytes"),
    ];
    let mut tap = Tap::new([]);
    for (from, to, payload, want) in story {
        let heard = tap.hear(from, to, &payload, payload.len()).unwrap_or_else(|| panic!("{want}"));
        assert_eq!(line(&heard, tap.flows(), payload.len()), want);
    }
    assert_eq!(tap.hear(at("10.0.0.1:5353"), at("10.0.0.2:5353"), b"mdns", 4), None);
    let [flow] = tap.flows() else { panic!("{:?}", tap.flows()) };
    let one = Carried { datagrams: 2, bytes: 10, keepalives: 0 };
    assert_eq!((flow.client, flow.up, flow.down.keepalives), (moved, one, 1));
}

#[test]
fn a_label_names_the_flow_whose_allocation_is_not_there() {
    let label: Label = "Flowring flow 7 raw 10.0.0.1:40000 <-> 10.0.0.2:41000 layer net name echo".parse().unwrap();
    let mut tap = Tap::new([]);
    tap.label(&label);
    for (from, to) in [(label.local, label.peer), (label.peer, label.local), (label.local, label.peer)] {
        assert!(matches!(tap.hear(from, to, b"sdu", 3), Some(Heard::Data { .. })));
    }
    assert_eq!((tap.flows()[0].up.datagrams, tap.flows()[0].down.datagrams), (2, 1));
}

proptest! {
    #[test]
    fn hearing_is_total(datagrams in proptest::collection::vec((0..4u16, 0..4u16, 0..7usize, proptest::collection::vec(any::<u8>(), 0..60)), 0..30)) {
        let mut tap = Tap::new([3_360]);
        for (from, to, kind, noise) in datagrams {
            let bytes = match kind {
                0 => noise.clone(),
                1 => [b"\0Flow\x01", &noise[..]].concat(),
                2 => [b"echo\0Flow\x01\x01", &noise[..]].concat(),
                3 => Request::Extended(name(), extension()).encode(),
                4 => answer(Verdict::Accepted, "", Some(noise.len() as u16)),
                5 => control(ControlKind::Open, 3, 4),
                _ => b"echo".to_vec(),
            };
            let port = |n: u16| SocketAddr::from(([10, 0, 0, (n % 2) as u8], 3_358 + n));
            let before = tap.flows().iter().map(|flow| flow.up.datagrams + flow.down.datagrams).sum::<u64>();
            let heard = tap.hear(port(from), port(to), &bytes, bytes.len());
            let after = tap.flows().iter().map(|flow| flow.up.datagrams + flow.down.datagrams).sum::<u64>();
            let data = matches!(heard, Some(Heard::Data { .. })) && !bytes.is_empty();
            prop_assert_eq!(after - before, u64::from(data));
            if let Some(heard) = heard {
                prop_assert!(!line(&heard, tap.flows(), bytes.len()).chars().any(char::is_control));
            }
        }
    }
}
