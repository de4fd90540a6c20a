//! A path where one side's port changes with where it sends to, in no order that is known, and the other side's filter passes only
//! ports it has sent to: many sockets on the one side, many ports on the other, until two of them meet (the birthday paradox).
//!
//! The side whose port changes says one hello from each of many sockets to where the other is seen: so many ports of its NAT are
//! open for the other then. That says hello to so many ports of that NAT. A hello to one of the open ones arrives; the socket that
//! hears it goes on as any flow's socket does, and becomes the flow's. With 256 sockets and 1,024 of 64,512 ports, 98 of 100
//! searches find one.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::rendezvous::{AttemptKey, Envelope, Head, Hello, Malformed, Mapped, Mapping, Meeting, Nat, Said};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng;

use super::predict::port_ahead;
use super::punch::{Punch, Won};
use super::{Sends, nat};

/// Sockets that the one side opens.
pub const SOCKETS: usize = 256;
/// So many of them say hello at once, and then again after this.
const HELLOS: usize = 32;
const HELLOS_EVERY: Duration = Duration::from_millis(25);
/// Ports that the other side tries.
pub const PROBES: u32 = 1_024;
/// 60 kB a second, for two and a half.
const PROBES_AT_ONCE: u32 = 8;
const PROBES_EVERY: Duration = Duration::from_millis(20);
/// Nothing is found by then.
pub const LASTS: Duration = Duration::from_millis(3_500);
/// Sockets that a sealed hello came to, and that answer.
const MOST_HEARD: usize = 16;

/// What a side does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its port changes: it opens sockets.
    Opens,
    /// Its filter looks at ports: it tries them.
    Probes,
}

/// Whether a search may do where plain hellos cannot, and which side this is.
pub fn role(own: Nat, peer: Nat) -> Option<Role> {
    let symmetric = |nat: Nat| nat.mapping == Mapping::PortDependent;
    let both = own.search && peer.search && nat::hindrance(own, peer).is_some();
    match (symmetric(own), symmetric(peer)) {
        (true, false) if both => Some(Role::Opens),
        (false, true) if both => Some(Role::Probes),
        _ => None,
    }
}

/// One side's part.
#[derive(Clone, Debug)]
pub struct Search {
    head: Head,
    key: AttemptKey,
    asking: bool,
    meeting: Meeting,
    part: Part,
    /// From which of the sockets; from none of them: from the flow's.
    out: VecDeque<(Option<usize>, SocketAddr, Vec<u8>)>,
    /// No answer to it is looked for: what is heard is answered, and said hello to, and that counts.
    challenge: u64,
    next: Option<Instant>,
    until: Instant,
}

#[derive(Clone, Debug)]
enum Part {
    Opens(Sockets),
    Probes(Probes),
}

#[derive(Clone, Debug)]
struct Sockets {
    /// Those that are open and have not said hello.
    silent: Vec<(usize, SocketAddr)>,
    open: BTreeMap<usize, SocketAddr>,
    /// Those that heard one.
    heard: BTreeMap<usize, Punch>,
}

/// Each port at most once: in the NAT's own steps where they are known, else in steps that come by all of them.
#[derive(Clone, Debug)]
struct Probes {
    tried: u32,
    step: i16,
    first: u16,
    stride: u16,
}

impl Search {
    /// Begins, once hellos to what the server said have come to nothing. `head` and `key` are those of the hellos.
    pub fn new(
        now: Instant,
        role: Role,
        asking: bool,
        (head, key): (Head, AttemptKey),
        meeting: &Meeting,
        rng: &mut ChaCha12Rng,
    ) -> Self {
        // Only where the server sees the other: an address that has shown that it receives.
        let meeting = Meeting { locals: Vec::new(), mapped: Mapped::default(), start_us: 0, ..meeting.clone() };
        let part = match role {
            Role::Opens => Part::Opens(Sockets { silent: Vec::new(), open: BTreeMap::new(), heard: BTreeMap::new() }),
            Role::Probes => {
                let dice = rng.next_u32().to_be_bytes();
                let [first, stride] = [[dice[0], dice[1]], [dice[2], dice[3]]].map(u16::from_be_bytes);
                Part::Probes(Probes { tried: 0, step: meeting.nat.step, first, stride: stride | 1 })
            }
        };
        Self {
            head,
            key,
            asking,
            meeting,
            part,
            out: VecDeque::new(),
            challenge: rng.next_u64().max(1),
            next: Some(now),
            until: now + LASTS,
        }
    }

    /// Nothing was found.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// A socket is open.
    pub fn opened(&mut self, socket: usize, local: SocketAddr) {
        if let Part::Opens(sockets) = &mut self.part
            && socket < SOCKETS
        {
            sockets.open.insert(socket, local);
            sockets.silent.push((socket, local));
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Part::Opens(sockets) = &mut self.part {
            for (socket, punch) in &mut sockets.heard {
                let mut sends = Sends::new();
                punch.handle_timeout(now, &mut sends);
                self.out.extend(sends.into_iter().map(|(to, bytes)| (Some(*socket), to, bytes)));
            }
        }
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        let (head, key, seen_at, public) = (self.head, &self.key, self.meeting.own_public, self.meeting.public);
        let hello = Hello { challenge: self.challenge, echo: 0, seen_at, locals: Vec::new() };
        let hello = head.encode_between(key, &Said::Hello(hello));
        match &mut self.part {
            Part::Opens(sockets) => {
                let some = sockets.silent.len().min(HELLOS);
                for (socket, _) in sockets.silent.drain(..some) {
                    self.out.push_back((Some(socket), public, hello.clone()));
                }
                self.next = Some(now + HELLOS_EVERY);
            }
            Part::Probes(probes) => {
                for _ in 0..PROBES_AT_ONCE {
                    let Some(port) = probes.next_port(public.port()) else { break };
                    self.out.push_back((None, SocketAddr::new(public.ip(), port), hello.clone()));
                }
                self.next = (probes.tried < PROBES).then(|| now + PROBES_EVERY);
            }
        }
        if self.next.is_some_and(|next| next >= self.until) {
            self.next = None;
        }
    }

    /// A datagram of this family came to one of the sockets; the path, if it has one by now.
    pub fn handle(
        &mut self,
        now: Instant,
        socket: usize,
        from: SocketAddr,
        bytes: &[u8],
        rng: &mut ChaCha12Rng,
    ) -> Result<Option<Won>, Malformed> {
        let Part::Opens(sockets) = &mut self.part else { return Err(Malformed::Header) };
        let local = *sockets.open.get(&socket).ok_or(Malformed::Header)?;
        let envelope = Envelope::read(bytes)?;
        let said = envelope.between(&self.key)?;
        let Head { sender, receiver, .. } = self.head;
        if envelope.head != (Head { member: self.meeting.peer, sender: receiver, receiver: sender, ..self.head }) {
            return Err(Malformed::Header);
        }
        let room = sockets.heard.len() < MOST_HEARD && matches!(said, Said::Hello(_));
        let punch = match sockets.heard.entry(socket) {
            Entry::Occupied(heard) => heard.into_mut(),
            Entry::Vacant(_) if !room => return Ok(None),
            Entry::Vacant(unheard) => {
                let (head, key, none) = (self.head, self.key.clone(), std::iter::empty());
                unheard.insert(Punch::new(now, self.asking, head, key, &self.meeting, &[local], none, rng))
            }
        };
        let mut sends = Sends::new();
        if !punch.handle(now, from, &said, rng, &mut sends) {
            return Err(Malformed::Header);
        }
        self.out.extend(sends.into_iter().map(|(to, bytes)| (Some(socket), to, bytes)));
        Ok(punch.won())
    }

    /// Whether the other side was heard by the socket, from there.
    pub fn was_heard(&self, socket: usize, from: SocketAddr) -> bool {
        let Part::Opens(sockets) = &self.part else { return false };
        sockets.heard.get(&socket).is_some_and(|punch| punch.was_heard(from).is_some())
    }

    /// The hellos of a socket that is to be the flow's, and that socket's address.
    pub fn give_up_for(self, socket: usize) -> Option<(Punch, SocketAddr)> {
        let Part::Opens(mut sockets) = self.part else { return None };
        Some((sockets.heard.remove(&socket)?, *sockets.open.get(&socket)?))
    }

    /// The next datagram to send, and from which of the sockets; without one, from the flow's own.
    pub fn poll_output(&mut self) -> Option<(Option<usize>, SocketAddr, Vec<u8>)> {
        self.out.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let heard = match &self.part {
            Part::Opens(sockets) => sockets.heard.values().filter_map(Punch::poll_timeout).min(),
            Part::Probes(_) => None,
        };
        [self.next, heard].into_iter().flatten().min()
    }
}

impl Probes {
    fn next_port(&mut self, public: u16) -> Option<u16> {
        loop {
            if self.tried == PROBES {
                return None;
            }
            let n = u16::try_from(self.tried).unwrap_or(u16::MAX);
            self.tried += 1;
            let port = match self.step {
                0 => self.first.wrapping_add(self.stride.wrapping_mul(n)),
                step => port_ahead(public, step, n + 1),
            };
            // Below, no NAT gives any; the next one in the row is as good.
            if port >= 1_024 {
                return Some(port);
            }
            self.first = self.first.wrapping_add(self.stride);
            self.tried -= 1;
        }
    }
}
