//! What the kernel lets through, as a classic BPF program for an AF_PACKET socket that sees frames from their beginning.
//!
//! It reads headers only: what datagrams say is judged by whoever reads them. Of something sent in several pieces the
//! first passes, which has the ports.

use std::net::IpAddr;

/// An instruction, as the kernel has it (`struct sock_filter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// So many instructions are skipped if it holds.
    pub then: u8,
    /// If not.
    pub other: u8,
    /// Its number.
    pub k: u32,
}

/// Packets that pass are kept up to here.
const KEEP: u32 = capture::LONGEST as u32;

// linux/bpf_common.h, linux/filter.h
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF_AT_X: u16 = 0x48;
const X_HEADER_LENGTH: u16 = 0xb1;
const X_NUMBER: u16 = 0x01;
const IF_EQUAL: u16 = 0x15;
const IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;
/// Offsets from here on are of the network header, wherever it begins.
const NET: u32 = (-0x10_0000_i32).cast_unsigned();
const AD: i32 = -0x1000;
const PROTOCOL: u32 = AD.cast_unsigned();
const PACKET_TYPE: u32 = (AD + 4).cast_unsigned();
const HARDWARE: u32 = (AD + 28).cast_unsigned();
const VLAN_TAG_PRESENT: u32 = (AD + 48).cast_unsigned();

const OUTGOING: u32 = 4;
const ETHERNET: u32 = 1;
const LOOPBACK: u32 = 772;
const ETHERNET_HEADER: u32 = 14;
const UDP: u32 = 17;

/// Lets UDP pass from and to each address, of all ports or of those two.
pub fn program(places: &[(IpAddr, Option<[u16; 2]>)]) -> Vec<Instruction> {
    let mut out = vec![
        // A tagged frame passes again at the VLAN's own device.
        op(LOAD_WORD, VLAN_TAG_PRESENT),
        branch(IF_EQUAL, 0, 1, 0),
        op(RETURN, 0),
        // At lo each packet passes twice: as it is sent, and as it comes.
        op(LOAD_WORD, HARDWARE),
        branch(IF_EQUAL, LOOPBACK, 0, 3),
        op(LOAD_WORD, PACKET_TYPE),
        branch(IF_EQUAL, OUTGOING, 0, 1),
        op(RETURN, 0),
    ];
    // Of a driver's frame only the beginning may be where NET reads; offsets from the frame's beginning read all of it.
    for (hardware, base) in [(Some(ETHERNET), ETHERNET_HEADER), (Some(LOOPBACK), ETHERNET_HEADER), (None, NET)] {
        let body = body(places, base);
        if let Some(hardware) = hardware {
            out.push(op(LOAD_WORD, HARDWARE));
            out.push(branch(IF_EQUAL, hardware, 1, 0));
            // Skips what is for other hardware, however long it is.
            out.push(op(0x05, u32::try_from(body.len()).expect("a program is short")));
        }
        out.extend(body);
    }
    out
}

/// For packets whose network header begins at `base`; ends with a return.
fn body(places: &[(IpAddr, Option<[u16; 2]>)], base: u32) -> Vec<Instruction> {
    let at = |offset: u32| base.wrapping_add(offset);
    let mut v4 = vec![
        op(LOAD_BYTE, at(9)),
        branch(IF_EQUAL, UDP, 1, 0),
        op(RETURN, 0),
        op(LOAD_HALF, at(6)),
        branch(IF_ANY_BIT, 0x1fff, 0, 1),
        op(RETURN, 0),
        op(X_HEADER_LENGTH, at(0)),
    ];
    let mut v6 = vec![op(LOAD_BYTE, at(6)), branch(IF_EQUAL, UDP, 1, 0), op(RETURN, 0), op(X_NUMBER, 40)];
    for (address, ports) in places {
        match address {
            IpAddr::V4(address) => {
                for (place, port) in [(12, 0), (16, 2)] {
                    v4.extend(clause(base, place, &[u32::from(*address)], port, *ports));
                }
            }
            IpAddr::V6(address) => {
                let words = address.octets();
                let words: Vec<u32> = words
                    .chunks_exact(4)
                    .map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]))
                    .collect();
                for (place, port) in [(8, 0), (24, 2)] {
                    v6.extend(clause(base, place, &words, port, *ports));
                }
            }
        }
    }
    v4.push(op(RETURN, 0));
    v6.push(op(RETURN, 0));
    let skip = |length: usize| op(0x05, u32::try_from(length).expect("a program is short"));
    let mut out = vec![op(LOAD_WORD, PROTOCOL), branch(IF_EQUAL, 0x0800, 1, 0), skip(v4.len())];
    out.extend(v4);
    out.extend([op(LOAD_WORD, PROTOCOL), branch(IF_EQUAL, 0x86dd, 1, 0), op(RETURN, 0)]);
    out.extend(v6);
    out
}

/// Keeps a packet whose address at `place` and whose port at `port` are right; else goes on behind.
fn clause(base: u32, place: u32, words: &[u32], port: u32, ports: Option<[u16; 2]>) -> Vec<Instruction> {
    let mut tail = match ports {
        None => Vec::new(),
        Some([first, second]) => vec![
            op(LOAD_HALF_AT_X, base.wrapping_add(port)),
            branch(IF_EQUAL, first.into(), 1, 0),
            branch(IF_EQUAL, second.into(), 0, 1),
        ],
    };
    tail.push(op(RETURN, KEEP));
    let mut out = Vec::new();
    for (number, word) in words.iter().enumerate() {
        let behind = 2 * (words.len() - number - 1) + tail.len();
        out.push(op(LOAD_WORD, base.wrapping_add(place + 4 * number as u32)));
        out.push(branch(IF_EQUAL, *word, 0, u8::try_from(behind).expect("a clause is short")));
    }
    out.extend(tail);
    out
}

fn op(code: u16, k: u32) -> Instruction {
    Instruction { code, then: 0, other: 0, k }
}

fn branch(code: u16, k: u32, then: u8, other: u8) -> Instruction {
    Instruction { code, then, other, k }
}
