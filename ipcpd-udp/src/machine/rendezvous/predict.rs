//! Which ports a NAT that gives another one to each mapping will give next.
//!
//! A member behind such a NAT sends from some sockets to both of the server's ports at once: the two ports that one socket is
//! then seen with are as far apart as those of two mappings in a row. It says that distance with what it says of its NAT. The other
//! side says hello to the ports behind the one that the flow's socket has just been seen with, as many as may have been given to
//! others meanwhile.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::WireId;
use proto::rendezvous::{Envelope, Head, Mapping, Nat, Said};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng;

use super::nat;

/// What is done where hellos to the addresses that are known come to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// Nothing.
    Plain,
    /// Ports in a row are predicted.
    #[default]
    Predict,
    /// And ports without order are searched for.
    Search,
}

/// Ports that are tried behind the one that was seen.
const AHEAD: u16 = 10;
/// Sockets that ask.
pub const SOCKETS: usize = 3;
/// Two ports farther apart than this are in no order.
const FARTHEST: i16 = 64;
/// Between two questions; each is said so often.
const PAUSE: Duration = Duration::from_millis(400);
const TIMES: u32 = 3;

/// Whether prediction may do where plain hellos cannot: of each side whose port changes it is known how.
pub fn may_do(own: Nat, peer: Nat) -> bool {
    let known = |nat: Nat| nat.mapping != Mapping::PortDependent || nat.step != 0;
    nat::hindrance(own, peer).is_some() && known(own) && known(peer)
}

/// Where the other side's next mappings will be seen, the next one first; none where its port does not change.
pub fn next_of(peer: Nat, public: SocketAddr) -> impl Iterator<Item = SocketAddr> {
    let count = if peer.mapping == Mapping::PortDependent && peer.step != 0 { AHEAD } else { 0 };
    (1..=count).map(move |n| SocketAddr::new(public.ip(), port_ahead(public.port(), peer.step, n)))
}

/// The n-th port behind one; behind the last one come those from 1,024 on, as everywhere.
pub(super) fn port_ahead(from: u16, step: i16, n: u16) -> u16 {
    let (first, count) = (1_024_i64, 64_512_i64);
    let at = i64::from(from) + i64::from(step) * i64::from(n);
    u16::try_from(first + (at - first).rem_euclid(count)).unwrap_or(from)
}

/// Finds out how far apart the ports of two mappings in a row are.
#[derive(Debug)]
pub struct Steps {
    server: SocketAddr,
    other: SocketAddr,
    head: Head,
    asked: Vec<Asked>,
    next: Instant,
    sent: u32,
}

/// By one socket.
#[derive(Clone, Copy, Debug)]
struct Asked {
    id: WireId,
    /// Seen by the server's port, and by its other one.
    seen: [Option<u16>; 2],
}

impl Steps {
    /// Begins. `head`: this member.
    pub fn new(now: Instant, server: SocketAddr, other: SocketAddr, head: Head, rng: &mut ChaCha12Rng) -> Self {
        let ask = |_| Asked { id: WireId(rng.next_u64().max(1)), seen: [None; 2] };
        let asked = (0..SOCKETS).map(ask).collect();
        Self { server, other, head, asked, next: now, sent: 0 }
    }

    /// What is due, and from which of the sockets: to both ports from one, then from the next.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<(usize, SocketAddr, Vec<u8>)> {
        if now < self.next || self.is_over() {
            return Vec::new();
        }
        (self.sent, self.next) = (self.sent + 1, now + PAUSE);
        if self.sent > TIMES {
            return Vec::new();
        }
        let probe = Said::NatProbe { alternate: false };
        let ports = [self.server, self.other];
        let asked = self.asked.iter().enumerate().filter(|(_, asked)| asked.seen.contains(&None));
        let of = |(n, asked): (usize, &Asked)| {
            let head = Head { sender: asked.id, receiver: WireId(0), ..self.head };
            ports.map(|to| (n, to, head.encode_bare(&probe)))
        };
        asked.flat_map(of).collect()
    }

    /// A datagram came to one of the sockets.
    pub fn handle(&mut self, socket: usize, from: SocketAddr, bytes: &[u8]) {
        let Some(asked) = self.asked.get_mut(socket) else { return };
        let Ok(envelope) = Envelope::read(bytes) else { return };
        if envelope.head.receiver != asked.id {
            return;
        }
        let Ok(Said::NatSeen { public, .. }) = envelope.unsealed() else { return };
        if let Some(port) = [self.server, self.other].iter().position(|at| *at == from) {
            asked.seen[port] = Some(public.port());
        }
    }

    /// Everything was answered, or asked for the last time.
    pub fn is_over(&self) -> bool {
        self.sent > TIMES || self.asked.iter().all(|asked| !asked.seen.contains(&None))
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.is_over()).then_some(self.next)
    }

    /// How far apart; 0 where there is no order.
    pub fn found(&self) -> i16 {
        let pairs = self.asked.iter().filter_map(|asked| Some((asked.seen[0]?, asked.seen[1]?)));
        step_of(&pairs.collect::<Vec<_>>())
    }
}

/// From the ports that some sockets are seen with by two others, one right behind the other. Where somebody else's mapping came
/// between, they are farther apart: the least distance is the step.
fn step_of(pairs: &[(u16, u16)]) -> i16 {
    // Around the end of the ports, too: it is one of them at most that is there.
    let mut steps: Vec<i16> = pairs.iter().map(|(first, second)| second.wrapping_sub(*first).cast_signed()).collect();
    steps.retain(|step| step.unsigned_abs() <= FARTHEST.unsigned_abs() && *step != 0);
    let one_way = steps.iter().all(|step| *step > 0) || steps.iter().all(|step| *step < 0);
    let enough = steps.len() >= 2 && steps.len() + 1 >= pairs.len();
    let least = steps.into_iter().min_by_key(|step| step.unsigned_abs());
    least.filter(|_| one_way && enough).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_from_disorder() {
        let table: &[(&[(u16, u16)], i16)] = &[
            (&[(4000, 4001), (4002, 4003), (4004, 4005)], 1),
            (&[(4000, 4002), (4005, 4007), (4010, 4012)], 2),
            // Somebody else's mappings came between.
            (&[(4000, 4003), (4009, 4010), (4015, 4019)], 1),
            (&[(4005, 4004), (4003, 4002), (4001, 4000)], -1),
            // Behind the last port the first one: not a step.
            (&[(65_534, 65_535), (1024, 1025), (1026, 1027)], 1),
            (&[(65_535, 1024), (1025, 1026), (1027, 1028)], 1),
            (&[(4000, 4001), (4003, 4002), (4004, 4005)], 0),
            (&[(4000, 4001), (9000, 12_000), (7000, 50_000)], 0),
            (&[(4000, 4001)], 0),
            (&[(4000, 4001), (4002, 4003)], 1),
            (&[(4000, 4000), (4001, 4001), (4002, 4002)], 0),
            (&[], 0),
        ];
        for (pairs, want) in table {
            assert_eq!(step_of(pairs), *want, "{pairs:?}");
        }
    }

    /// Three pairs of random ports are as good as never in order.
    #[test]
    fn dice_have_no_step() {
        use rand_chacha::rand_core::SeedableRng;
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let mut port = || (1024 + rng.next_u32() % 64_512) as u16;
        let found =
            (0..100_000).filter(|_| step_of(&std::array::from_fn::<_, 3, _>(|_| (port(), port()))) != 0).count();
        assert!(found <= 3, "{found} of 100,000");
    }

    #[test]
    fn the_next_ports_go_on_from_the_first_one() {
        let nat = |step| Nat { mapping: Mapping::PortDependent, step, ..Nat::default() };
        let ports = |step, from: u16| -> Vec<u16> {
            next_of(nat(step), SocketAddr::from(([192, 0, 2, 1], from))).map(|at| at.port()).collect()
        };
        assert_eq!(ports(1, 40_000), (40_001..=40_010).collect::<Vec<_>>());
        assert_eq!(ports(-2, 2_000)[..3], [1_998, 1_996, 1_994]);
        assert_eq!(ports(1, 65_534)[..4], [65_535, 1_024, 1_025, 1_026]);
        assert_eq!(ports(-1, 1_025)[..3], [1_024, 65_535, 65_534]);
        assert_eq!(ports(i16::MIN, 1_024).len(), 10);
        assert!(ports(0, 40_000).is_empty());
        assert_eq!(next_of(Nat { step: 1, ..Nat::default() }, SocketAddr::from(([192, 0, 2, 1], 9))).count(), 0);
    }
}
