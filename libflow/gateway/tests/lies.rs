//! Routers that lie, talk nonsense or say nothing, on addresses of loopback.
#![expect(clippy::disallowed_methods, reason = "a router of the test's own")]

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use gateway::{Client, Gateway, Granted, Port, Protocol, Refusal};

const PORT: Port =
    Port { local: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 40_000), outside: 0, nonce: [1, 2, 3], lifetime: 300 };
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

/// A PCP answer to [`PORT`]: mapped at 192.0.2.7:41000 for so many seconds.
fn pcp(lifetime: u32) -> Vec<u8> {
    let mut answer = vec![2, 0x81, 0, 0];
    answer.extend([lifetime, 7, 0, 0, 0, 1, 2, 3].iter().flat_map(|number| number.to_be_bytes()));
    answer.extend([17, 0, 0, 0]);
    answer.extend([40_000_u16, 41_000].iter().flat_map(|port| port.to_be_bytes()));
    answer.extend(OUTSIDE.to_ipv6_mapped().octets());
    answer
}

/// The same of NAT-PMP.
fn nat_pmp(lifetime: u32) -> Vec<u8> {
    let mut answer = vec![0, 0x81, 0, 0, 0, 0, 0, 7];
    answer.extend([40_000_u16, 41_000].iter().flat_map(|port| port.to_be_bytes()));
    answer.extend(lifetime.to_be_bytes());
    answer
}

/// What comes of asking a router that answers with these bytes, one after the other.
fn asked(at: Ipv4Addr, by: Protocol, answers: &[Vec<u8>]) -> Vec<Result<Granted, Refusal>> {
    let socket = UdpSocket::bind((at, 5351)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let over = AtomicBool::new(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::scope(|scope| {
        let answering = std::thread::Builder::new().spawn_scoped(scope, || {
            let (mut buffer, mut answers) = ([0; 1_200], answers.iter());
            while !over.load(Relaxed) {
                let Ok((_, from)) = socket.recv_from(&mut buffer) else { continue };
                let answer = answers.next().map_or(&[][..], Vec::as_slice);
                let _ = socket.send_to(answer, from);
            }
        });
        answering.unwrap();
        let client = Client::default();
        let ask = |_: &Vec<u8>| runtime.block_on(client.map(Gateway { at, by, outside: OUTSIDE }, PORT));
        let results = answers.iter().map(ask).collect();
        over.store(true, Relaxed);
        results
    })
}

#[test]
fn what_is_granted_is_read() {
    let granted = Ok(Granted { outside: SocketAddrV4::new(OUTSIDE, 41_000), lifetime: 300 });
    assert_eq!(asked([127, 0, 53, 1].into(), Protocol::Pcp, &[pcp(300)]), std::slice::from_ref(&granted));
    assert_eq!(asked([127, 0, 53, 2].into(), Protocol::NatPmp, &[nat_pmp(300)]), [granted]);
}

#[test]
fn what_is_granted_for_no_time_or_to_others_is_not_granted() {
    let mut other_nonce = pcp(300);
    other_nonce[24] = 9;
    let mut other_port = pcp(300);
    other_port[41] = 9;
    let mut no_port = pcp(300);
    no_port[42..44].fill(0);
    let mut nowhere = pcp(300);
    nowhere[56..60].fill(0);
    let all = [pcp(0), other_nonce, other_port, no_port, nowhere, Vec::new(), pcp(300)[..59].to_vec()];
    for result in asked([127, 0, 53, 3].into(), Protocol::Pcp, &all) {
        assert!(matches!(result, Err(Refusal::Said(_))), "{result:?}");
    }
    for result in asked([127, 0, 53, 4].into(), Protocol::NatPmp, &[nat_pmp(0), nat_pmp(300)[..15].to_vec()]) {
        assert!(matches!(result, Err(Refusal::Said(_))), "{result:?}");
    }
}

/// Answers that were damaged on purpose, and bytes of chance: no panic, no wait, nothing but what was said.
#[test]
fn nonsense_ends_the_question() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap()
    };
    for (at, by, good) in [(5, Protocol::Pcp, pcp(300)), (6, Protocol::NatPmp, nat_pmp(300))] {
        let answers: Vec<Vec<u8>> = (0..400)
            .map(|number| {
                if number % 2 == 0 {
                    let length = next() % 1_300;
                    return (0..length).map(|_| u8::try_from(next() & 0xff).unwrap()).collect();
                }
                let mut bytes = good.clone();
                let (place, length) = (next() % bytes.len(), next() % (bytes.len() + 1));
                bytes[place] = u8::try_from(next() & 0xff).unwrap();
                bytes.truncate(length.max(1));
                bytes
            })
            .collect();
        for result in asked([127, 0, 53, at].into(), by, &answers) {
            assert_ne!(result, Err(Refusal::Silent));
        }
    }
}
