//! The captures of the classic shim (spring 2016) as golden vectors: every allocation datagram in them reads as what
//! it is, and a classic request or echo of ours has the same bytes.

use std::path::Path;

use proto::Name;
use proto::shim::{Answer, Malformed, PORT, Request};

struct Datagram {
    from_port: u16,
    to_port: u16,
    payload: Vec<u8>,
}

/// The UDP datagrams of a capture.
fn datagrams(file: &str) -> Vec<Datagram> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire").join(file);
    let bytes = std::fs::read(path).expect("the captures are part of the repository");
    let sent = capture::sent(&bytes).expect("a capture");
    let datagram =
        |sent: capture::Sent| Datagram { from_port: sent.from.port(), to_port: sent.to.port(), payload: sent.payload };
    sent.into_iter().map(datagram).collect()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

#[test]
fn every_request_reads_as_classic() {
    let table = [
        ("flow-4d348ef9s.pcap", vec!["echo-server"]),
        ("unknown-name.pcap", vec!["echo-server"]),
        ("refused-by-server-app.pcap", vec!["echo-server"]),
        ("c-server-duplicate-request.pcap", vec!["echo-server"; 2]),
        ("c-client-vs-scripted-server.pcap", vec!["echo-server"; 7]),
        ("c-server-edge-requests.pcap", vec!["echo-server", "echo-server", "echo-server", "nobody", ""]),
    ];
    for (file, want) in table {
        let got: Vec<_> = datagrams(file)
            .iter()
            .filter(|datagram| datagram.to_port == PORT)
            .map(|datagram| Request::decode(&datagram.payload))
            .collect();
        let want: Vec<_> = want
            .iter()
            .map(|text| if text.is_empty() { Err(Malformed::Empty) } else { Ok(Request::Classic(name(text))) })
            .collect();
        assert_eq!(got, want, "{file}");
    }
}

#[test]
fn our_classic_request_and_echo_have_the_captured_bytes() {
    let flow = datagrams("flow-4d348ef9s.pcap");
    let echo_server = name("echo-server");
    assert_eq!(Request::Classic(echo_server.clone()).encode(), flow[0].payload);
    assert_eq!(Answer::ClassicEcho.encode(&echo_server), flow[1].payload);
    assert_eq!((flow[0].to_port, flow[1].to_port), (PORT, flow[0].from_port));
}

#[test]
fn the_first_answer_to_each_request_is_read() {
    use Answer::ClassicEcho;
    let table = [
        ("flow-4d348ef9s.pcap", vec![Ok(ClassicEcho)]),
        ("c-server-edge-requests.pcap", vec![Ok(ClassicEcho); 4]),
        (
            "c-client-vs-scripted-server.pcap",
            // Exact, with a NUL, another name of the same length, a part of the name, 3 s late, twice.
            vec![
                Ok(ClassicEcho),
                Ok(ClassicEcho),
                Err(Malformed::OtherName),
                Err(Malformed::OtherName),
                Ok(ClassicEcho),
                Ok(ClassicEcho),
            ],
        ),
    ];
    for (file, want) in table {
        let all = datagrams(file);
        let got: Vec<_> = all
            .iter()
            .filter(|request| request.to_port == PORT && !request.payload.is_empty())
            .filter_map(|request| {
                let asked = Request::decode(&request.payload).ok()?;
                let Request::Classic(asked) = asked else { panic!("classic") };
                let echo = all.iter().find(|answer| answer.to_port == request.from_port)?;
                Some(Answer::decode(&echo.payload, &asked))
            })
            .collect();
        assert_eq!(got, want, "{file}");
    }
}
