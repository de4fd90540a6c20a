//! A latency probe that players may send to any port of a client side, and its answer: `gameproxy ping`.
//!
//! ```text
//! four bytes of ones · "gpping1" and NUL · 8 bytes of the sender's · 12 bytes of zeroes
//! four bytes of ones · "gppong1" and NUL · the same 8 bytes · round trip to the server side in µs (4; 0: not known) · 8 zeroes
//! ```
//! Both are 32 bytes: nobody is made to send more than was sent. Only who may play is answered.

/// Length of a probe and of its answer, bytes.
pub const LENGTH: usize = 32;

const PING: &[u8; 12] = b"\xff\xff\xff\xffgpping1\0";
const PONG: &[u8; 12] = b"\xff\xff\xff\xffgppong1\0";

/// A probe.
pub fn ping(number: u64) -> [u8; LENGTH] {
    let mut probe = [0; LENGTH];
    probe[..12].copy_from_slice(PING);
    probe[12..20].copy_from_slice(&number.to_be_bytes());
    probe
}

/// The answer to a datagram that is a probe.
pub fn answer(datagram: &[u8], round_trip_us: u32) -> Option<[u8; LENGTH]> {
    if datagram.len() != LENGTH || !datagram.starts_with(PING) {
        return None;
    }
    let mut pong = [0; LENGTH];
    pong[..12].copy_from_slice(PONG);
    pong[12..20].copy_from_slice(&datagram[12..20]);
    pong[20..24].copy_from_slice(&round_trip_us.to_be_bytes());
    Some(pong)
}

/// What a datagram that is an answer says: the number of the probe, and the round trip to the server side, if there is one.
pub fn answered(datagram: &[u8]) -> Option<(u64, Option<u32>)> {
    if datagram.len() != LENGTH || !datagram.starts_with(PONG) {
        return None;
    }
    let number = u64::from_be_bytes(datagram[12..20].try_into().ok()?);
    let leg = u32::from_be_bytes(datagram[20..24].try_into().ok()?);
    Some((number, (leg > 0).then_some(leg)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_answered_and_nothing_else_is() {
        let probe = ping(0x0102);
        assert_eq!(probe[..20], *b"\xff\xff\xff\xffgpping1\0\0\0\0\0\0\0\x01\x02");
        let pong = answer(&probe, 1_500).unwrap();
        assert_eq!(pong[..24], *b"\xff\xff\xff\xffgppong1\0\0\0\0\0\0\0\x01\x02\0\0\x05\xdc");
        assert_eq!(answered(&pong), Some((0x0102, Some(1_500))));
        assert_eq!(answered(&answer(&probe, 0).unwrap()), Some((0x0102, None)));
        assert_eq!((answer(&pong, 1), answered(&probe)), (None, None), "two proxies do not answer each other");
        assert_eq!(answer(&probe[..31], 1), None);
    }
}
