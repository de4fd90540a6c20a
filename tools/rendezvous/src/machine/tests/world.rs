//! A server, members that say what they are told to say, and what comes back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::rendezvous::{
    Bind, DATAGRAM, Envelope, Head, Introduce, Join, Joined, Mapped, Meet, NameChange, NamesAt, Nat, Said, Seen,
    SessionId, SessionKey,
};
use proto::{BootId, HostId, Name, WireId};

use super::super::*;

/// Members speak to it there.
pub(super) const SERVER: &str = "198.51.100.1:3360";

pub(super) struct World {
    pub(super) server: Server,
    pub(super) now: Instant,
    /// All that was sent because of the last datagram.
    pub(super) sent: Vec<Sending>,
}

/// A member, or somebody who would like to be one.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) at: SocketAddr,
    pub(super) host: HostId,
    pub(super) session: String,
    pub(super) secret: Vec<u8>,
    pub(super) boot: BootId,
    pub(super) count: u64,
    pub(super) cookie: Vec<u8>,
    pub(super) seen: Seen,
    pub(super) names_at: NamesAt,
    pub(super) locals: Vec<SocketAddr>,
}

pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(super) fn via(role: Role) -> Via {
    Via { place: 0, role, local: None }
}

pub(super) fn rules() -> Rules {
    let session = |name: &str| SessionRules {
        name: name.into(),
        key: SessionKey::new(name, b"secret"),
        members: None,
        relay: true,
    };
    Rules { sessions: vec![session("lobby"), session("other")], ..Rules::default() }
}

impl World {
    pub(super) fn new(rules: Rules) -> Self {
        let place = Place {
            main: address(SERVER),
            other: Some(address("198.51.100.1:3361")),
            relay: rules.relay.map(|_| address("198.51.100.1:3362")),
        };
        Self { server: Server::new(rules, vec![place], [7; 32]), now: Instant::now(), sent: Vec::new() }
    }

    /// One datagram to a port of the server. What it sends because of it is together never longer, headers included.
    pub(super) fn give(&mut self, role: Role, from: SocketAddr, bytes: &[u8]) -> &[Sending] {
        match role {
            Role::Relay => drop(self.server.relay(self.now, via(role), from, bytes)),
            _ => self.server.handle(self.now, via(role), from, bytes),
        }
        self.sent = std::iter::from_fn(|| self.server.poll_output()).collect();
        let header = if from.is_ipv4() { 28 } else { 48 };
        let out: usize = self.sent.iter().map(|sending| sending.bytes.len() + header).sum();
        assert!(out <= bytes.len() + header, "{out} bytes because of {}", bytes.len());
        &self.sent
    }

    pub(super) fn pass(&mut self, time: Duration) -> Vec<Sending> {
        let end = self.now + time;
        let mut sent = Vec::new();
        while let Some(due) = self.server.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.server.handle_timeout(self.now);
            sent.extend(std::iter::from_fn(|| self.server.poll_output()));
        }
        self.now = end;
        sent
    }

    /// Says something of a peer's, with a cookie, from an address of its own; what is said back there.
    pub(super) fn say(
        &mut self,
        peer: &mut Peer,
        from: SocketAddr,
        id: u64,
        said: impl Fn(Vec<u8>) -> Said,
    ) -> Vec<Said> {
        let role = if matches!(said(Vec::new()), Said::Bind(_)) { Role::Relay } else { Role::Main };
        for _ in 0..2 {
            let bytes = peer.head(id).encode(&peer.key(), &said(peer.cookie.clone()));
            self.give(role, from, &bytes);
            match self.answers(peer, from).as_slice() {
                [Said::Cookie(cookie)] => peer.cookie.clone_from(cookie),
                answers => return answers.to_vec(),
            }
        }
        panic!("a cookie is not taken");
    }

    /// What was sent to an address, as its member reads it.
    pub(super) fn answers(&self, peer: &Peer, to: SocketAddr) -> Vec<Said> {
        let to = self.sent.iter().filter(|sending| sending.to == to);
        to.map(|sending| peer.read(&sending.bytes).1).collect()
    }

    pub(super) fn join(&mut self, peer: &mut Peer, names: &[&str]) -> Option<Joined> {
        peer.count += 1;
        let (count, at) = (peer.count, peer.at);
        let join = Join {
            cookie: Vec::new(),
            boot: peer.boot,
            locals: peer.locals.clone(),
            seen: peer.seen,
            names_at: peer.names_at,
            names: names.iter().map(|text| NameChange::Add(name(text))).collect(),
            round_trip_us: 20_000,
        };
        match self.say(peer, at, count, |cookie| Said::Join(Join { cookie, ..join.clone() })).as_slice() {
            [Said::Joined(joined)] => {
                (peer.seen, peer.names_at) = (joined.seen, joined.names_at);
                peer.cookie.clone_from(&joined.cookie);
                Some(joined.clone())
            }
            _ => None,
        }
    }

    /// An INTRODUCE from a flow's socket.
    pub(super) fn introduce(&mut self, peer: &mut Peer, from: &str, id: u64, wanted: &str) -> Vec<Said> {
        let said = |cookie| {
            Said::Introduce(Introduce {
                cookie,
                name: name(wanted),
                peer: HostId(0),
                locals: vec![address("192.168.1.5:40000")],
                round: 0,
                nat: Nat::default(),
                mapped: Mapped::default(),
                round_trip_us: 20_000,
                moves: None,
            })
        };
        self.say(peer, address(from), id, said)
    }

    /// A MEET from a flow's socket.
    pub(super) fn meet(&mut self, peer: &mut Peer, from: &str, id: u64, attempt: u64, nonce: [u8; 16]) -> Vec<Said> {
        let said = |cookie| {
            Said::Meet(Meet {
                cookie,
                attempt: WireId(attempt),
                nonce,
                locals: vec![address("192.168.2.5:50000")],
                nat: Nat::default(),
                mapped: Mapped::default(),
                round_trip_us: 60_000,
            })
        };
        self.say(peer, address(from), id, said)
    }

    pub(super) fn bind(&mut self, peer: &mut Peer, from: &str, id: u64, bind: (u64, u64, [u8; 16])) -> Vec<Said> {
        let (other, attempt, nonce) = bind;
        let said = |cookie| Said::Bind(Bind { cookie, peer: HostId(other), attempt: WireId(attempt), nonce });
        self.say(peer, address(from), id, said)
    }

    /// Two members that have been introduced: the nonce of the attempt, whose id is 7.
    pub(super) fn introduced(&mut self) -> (Peer, Peer, [u8; 16]) {
        let (mut alice, mut bob) = (Peer::new(1, "203.0.113.1:3359"), Peer::new(2, "203.0.113.2:3359"));
        self.join(&mut alice, &[]).unwrap();
        self.join(&mut bob, &["bob.chat"]).unwrap();
        assert_eq!(self.introduce(&mut alice, "203.0.113.1:40000", 7, "bob.chat"), [Said::Introducing]);
        let [Said::Introduction(introduction)] = &self.answers(&bob, bob.at)[..] else { panic!("{:?}", self.sent) };
        let nonce = introduction.nonce;
        let met = self.meet(&mut bob, "203.0.113.2:50000", 9, 7, nonce);
        assert!(matches!(met[..], [Said::Meeting(_)]), "{met:?}");
        (alice, bob, nonce)
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.server.poll_event()).collect()
    }
}

impl Peer {
    pub(super) fn new(host: u64, at: &str) -> Self {
        Self {
            at: address(at),
            host: HostId(host),
            session: "lobby".to_owned(),
            secret: b"secret".to_vec(),
            boot: BootId(host * 100 + 1),
            count: 0,
            cookie: Vec::new(),
            seen: Seen::default(),
            names_at: NamesAt { generation: 1, count: 0 },
            locals: vec![SocketAddr::new([192, 168, 0, host.to_le_bytes()[0]].into(), 3359)],
        }
    }

    pub(super) fn key(&self) -> SessionKey {
        SessionKey::new(&self.session, &self.secret)
    }

    pub(super) fn head(&self, id: u64) -> Head {
        let session = SessionId::of(&self.session);
        Head { session, member: self.host, sender: WireId(id), receiver: WireId(0) }
    }

    pub(super) fn read(&self, bytes: &[u8]) -> (Head, Said) {
        assert!(bytes.len() <= DATAGRAM);
        let envelope = Envelope::read(bytes).unwrap();
        let said = if envelope.is_sealed() { envelope.of(&self.key()) } else { envelope.unsealed() };
        (envelope.head, said.unwrap())
    }
}
