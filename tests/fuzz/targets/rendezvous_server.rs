//! Any datagrams, in any order and at any time, to a rendezvous: no panic, nothing larger than what it answers, nothing kept
//! for ever. The fuzzer's bytes are what members say; seals and cookies, which it cannot guess, are made for it.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use proto::rendezvous::{DATAGRAM, Envelope, Head, Said, SessionId, SessionKey};
use proto::{HostId, WireId};
use rendezvous::machine::{Place, RelayRules, Role, Rules, Server, SessionRules, Via};

const SECRET: &[u8] = b"key";

fuzz_target!(|bytes: &[u8]| {
    let session = SessionRules { name: "a".into(), key: SessionKey::new("a", SECRET), members: Some(5), relay: true };
    let rules = Rules { relay: Some(RelayRules::default()), sessions: vec![session], ..Rules::default() };
    let at = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    let place = Place { main: at(1), other: Some(at(2)), relay: Some(at(3)) };
    let mut world = World { server: Server::new(rules, vec![place], [7; 32]), now: Instant::now(), cookie: Vec::new() };
    let mut rest = bytes;
    while let Some((step, after)) = rest.split_first_chunk::<6>() {
        let length = usize::from(step[5]) * 4;
        let (said, after) = after.split_at(length.min(after.len()));
        rest = after;
        world.step(step, said);
    }
    // All that lives has an end.
    for _ in 0..100_000 {
        let Some(due) = world.server.poll_timeout() else { break };
        world.now = world.now.max(due);
        world.server.handle_timeout(world.now);
        while world.server.poll_output().is_some() {}
    }
    assert_eq!(world.server.poll_timeout(), None, "something is kept for ever");
    assert_eq!(world.server.status(world.now, None).members, 0);
});

struct World {
    server: Server,
    now: Instant,
    cookie: Vec<u8>,
}

impl World {
    /// Who (member and port), which kind, how long after the last one; what it says.
    fn step(&mut self, [who, port, kind, id, wait, _]: &[u8; 6], said: &[u8]) {
        self.now += Duration::from_millis(u64::from(*wait) * 40);
        self.server.handle_timeout(self.now);
        let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, who % 4)), 1 + u16::from(port % 4));
        let role = [Role::Main, Role::Other, Role::Relay][usize::from(port / 4) % 3];
        // News are said to all, and not because of what comes next.
        while self.server.poll_output().is_some() {}
        self.give(role, from, said);
        for bytes in [self.sealed(*who, *id, *kind, said), said.to_vec()] {
            self.give(role, from, &bytes);
        }
    }

    fn give(&mut self, role: Role, from: SocketAddr, bytes: &[u8]) {
        let via = Via { place: 0, role, local: None };
        match role {
            Role::Relay => drop(self.server.relay(self.now, via, from, bytes)),
            Role::Main | Role::Other => self.server.handle(self.now, via, from, bytes),
        }
        let mut out = 0;
        while let Some(sending) = self.server.poll_output() {
            out += sending.bytes.len() + 28;
            if let Ok(Ok(Said::Cookie(cookie))) = Envelope::read(&sending.bytes).map(|envelope| envelope.unsealed()) {
                self.cookie = cookie;
            }
        }
        assert!(out <= bytes.len() + 28, "{out} bytes because of {}", bytes.len());
        while self.server.poll_event().is_some() {}
    }

    /// A datagram with the fuzzer's fields, a cookie and a seal.
    fn sealed(&self, who: u8, id: u8, kind: u8, fields: &[u8]) -> Vec<u8> {
        let key = SessionKey::new("a", SECRET);
        let head = Head {
            session: SessionId::of("a"),
            member: HostId(u64::from(who % 8)),
            sender: WireId(id.into()),
            receiver: WireId(0),
        };
        let mut bytes = head.encode_bare(&Said::Unknown);
        bytes.truncate(42);
        bytes[6] = 32 + kind % 24;
        if !self.cookie.is_empty() {
            bytes.extend([1, 0, self.cookie.len() as u8]);
            bytes.extend(&self.cookie);
        }
        bytes.extend(&fields[..fields.len().min(DATAGRAM - bytes.len() - 16)]);
        let length = (bytes.len() - 42) as u16;
        bytes[40..42].copy_from_slice(&length.to_be_bytes());
        bytes.extend(key.seal(&bytes));
        bytes.resize(if kind % 32 < 24 { DATAGRAM } else { bytes.len() }, 0);
        bytes
    }
}
