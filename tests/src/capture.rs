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
/// Where there is no such file or it is no little-endian pcap of Ethernet frames.
pub fn datagrams(file: &str) -> Vec<Datagram> {
    let bytes = FILES.iter().find(|(name, _)| *name == file).expect("a capture of proto/tests/wire").1;
    assert_eq!(bytes[..4], [0xd4, 0xc3, 0xb2, 0xa1], "{file}");
    let word = |b: &[u8]| u16::from_be_bytes([b[0], b[1]]);
    let (mut at, mut found) = (24, Vec::new());
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().expect("4 bytes")) as usize;
        let frame = &bytes[at + 16..at + 16 + length];
        at += 16 + length;
        let ip = &frame[14..];
        if word(&frame[12..]) == 0x0800 && ip[9] == 17 {
            let udp = &ip[usize::from(ip[0] & 15) * 4..];
            let payload = udp[8..usize::from(word(&udp[4..]))].to_vec();
            found.push(Datagram { from: word(udp), to: word(&udp[2..]), payload });
        }
    }
    found
}
