//! The captures of the classic shim (spring 2016, proto/tests/wire) as conversations.

/// In the program: its copies run where the repository cannot be read.
const FILES: [(&str, &[u8]); 3] = [
    ("flow-4d348ef9s.pcap", include_bytes!("../../proto/tests/wire/flow-4d348ef9s.pcap")),
    ("c-server-edge-requests.pcap", include_bytes!("../../proto/tests/wire/c-server-edge-requests.pcap")),
    ("c-client-vs-scripted-server.pcap", include_bytes!("../../proto/tests/wire/c-client-vs-scripted-server.pcap")),
];

/// One UDP datagram of a capture.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// Source port.
    pub from: u16,
    /// Destination port.
    pub to: u16,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// The UDP datagrams of a capture, in order.
///
/// # Panics
/// Where there is no such file.
pub fn datagrams(file: &str) -> Vec<Datagram> {
    let bytes = FILES.iter().find(|(name, _)| *name == file).expect("a capture of proto/tests/wire").1;
    let sent = capture::sent(bytes).expect("a capture");
    sent.into_iter().map(|one| Datagram { from: one.from.port(), to: one.to.port(), payload: one.payload }).collect()
}
