//! A server, as far as two members need one. The real one is tools/rendezvous.

use std::collections::BTreeMap;

use proto::rendezvous::{
    Bound, Change, Changes, Envelope, Head, Introduce, Introduction, Join, Joined, Meet, Meeting, NameChange, NamesAt,
    Said, Seen, SessionId, SessionKey,
};
use proto::{BootId, WireId};

use super::*;
use std::time::Instant;

/// What the server sends: from which of its ports, where to, what.
type Sent = (u16, SocketAddr, Vec<u8>);

struct Known {
    boot: BootId,
    count: u64,
    at: SocketAddr,
    locals: Vec<SocketAddr>,
    names_at: NamesAt,
    names: Vec<Name>,
}

impl Known {
    fn take_name(&mut self, member: HostId, change: NameChange) -> Change {
        self.names_at.count += 1;
        match change {
            NameChange::Add(name) => {
                self.names.push(name.clone());
                Change::Name(member, name)
            }
            NameChange::Remove(name) => {
                self.names.retain(|known| *known != name);
                Change::NameGone(member, name)
            }
        }
    }
}

struct Asked {
    asker: HostId,
    at: SocketAddr,
    said: Introduce,
    peer: HostId,
    met: Option<(SocketAddr, WireId, Meet)>,
}

pub(in crate::machine) struct Server {
    pub(in crate::machine) at: SocketAddr,
    pub(in crate::machine) key: SessionKey,
    session: SessionId,
    members: BTreeMap<HostId, Known>,
    changes: Vec<Change>,
    pub(in crate::machine) epoch: u64,
    attempts: BTreeMap<WireId, Asked>,
    pub(in crate::machine) up: bool,
    /// So many members, and no more.
    pub(in crate::machine) room: usize,
    pub(in crate::machine) joins: u32,
    /// Whether it relays, and from where to where.
    pub(in crate::machine) relays: bool,
    bound: BTreeMap<(WireId, HostId), SocketAddr>,
}

impl Server {
    pub(in crate::machine) fn new(at: SocketAddr) -> Self {
        let (key, session) = (SessionKey::new("darkreign", b"secret"), SessionId::of("darkreign"));
        let (members, attempts) = (BTreeMap::new(), BTreeMap::new());
        Self {
            at,
            key,
            session,
            members,
            changes: Vec::new(),
            epoch: 1,
            attempts,
            up: true,
            room: usize::MAX,
            joins: 0,
            relays: false,
            bound: BTreeMap::new(),
        }
    }

    /// It forgets everything.
    pub(in crate::machine) fn restart(&mut self) {
        let (epoch, joins, relays) = (self.epoch + 1, self.joins, self.relays);
        *self = Self { epoch, joins, relays, ..Self::new(self.at) };
    }

    pub(in crate::machine) fn names(&self, member: u64) -> Vec<String> {
        self.members.get(&HostId(member)).map_or(Vec::new(), |known| known.names.iter().map(Name::to_string).collect())
    }

    fn cookie(&self, from: SocketAddr) -> Vec<u8> {
        format!("{}/{}", self.epoch, from.ip()).into_bytes()[..].chunks(32).next().unwrap().to_vec()
    }

    pub(in crate::machine) fn handle(
        &mut self,
        _now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) -> Vec<Sent> {
        if !self.up {
            return Vec::new();
        }
        if to.port() == self.at.port() + 2
            && let Some((key, _)) = self.bound.iter().find(|(_, at)| **at == from)
            && (bytes.len() != proto::rendezvous::DATAGRAM || !proto::rendezvous::is_ours(bytes))
        {
            let other = self.bound.iter().find(|((attempt, host), _)| *attempt == key.0 && *host != key.1);
            return other.map(|(_, at)| (to.port(), *at, bytes.to_vec())).into_iter().collect();
        }
        let Ok(envelope) = Envelope::read(bytes) else { return Vec::new() };
        let (head, main, other) = (envelope.head, self.at.port(), self.at.port() + 1);
        let back = Head { member: HostId(0), sender: WireId(0), receiver: head.sender, ..head };
        if let Ok(Said::NatProbe { alternate }) = envelope.unsealed() {
            let port = if alternate { other } else { to.port() };
            let seen = Said::NatSeen { public: from, alternate: Some(SocketAddr::new(self.at.ip(), other)) };
            return vec![(port, from, back.encode_bare(&seen))];
        }
        if envelope.cookie() != self.cookie(from)
            && !matches!(envelope.unsealed(), Ok(Said::Decline { .. } | Said::Carry { .. }))
        {
            return vec![(main, from, back.encode_bare(&Said::Cookie(self.cookie(from))))];
        }
        let (true, Ok(said)) = (head.session == self.session, envelope.of(&self.key)) else {
            return vec![(main, from, back.encode_bare(&Said::Unknown))];
        };
        let sent = match said {
            Said::Join(_) if self.members.len() >= self.room && !self.members.contains_key(&head.member) => {
                vec![(from, back, Said::NotIntroduced(Refusal::TooMany))]
            }
            Said::Join(join) => self.join(from, head, join),
            Said::Leave { .. } => {
                self.members.remove(&head.member);
                self.changes.push(Change::Left(head.member));
                vec![(from, back, Said::Left)]
            }
            Said::Introduce(introduce) => self.introduce(from, head, introduce),
            Said::Meet(meet) => self.meet(from, head, meet),
            Said::Bind(bind) => {
                self.bound.retain(|_, known| *known != from);
                self.bound.insert((bind.attempt, head.member), from);
                let both = self.bound.keys().filter(|(attempt, _)| *attempt == bind.attempt).count() == 2;
                let said = Said::Bound(Bound { both, rate: 0, left: 0, refresh_ms: 15_000 });
                return vec![(main + 2, from, back.encode(&self.key, &said))];
            }
            Said::Carry { to, payload } => {
                let there = self.members.get(&to).map(|known| (known.at, head, Said::Carried(payload)));
                there.into_iter().collect()
            }
            _ => Vec::new(),
        };
        sent.into_iter().map(|(to, head, said)| (main, to, head.encode(&self.key, &said))).collect()
    }

    fn join(&mut self, from: SocketAddr, head: Head, join: Join) -> Vec<(SocketAddr, Head, Said)> {
        self.joins += 1;
        let fresh = Known {
            boot: join.boot,
            count: 0,
            at: from,
            locals: Vec::new(),
            names_at: NamesAt::default(),
            names: Vec::new(),
        };
        let known = self.members.entry(head.member).or_insert(fresh);
        if known.boot == join.boot && known.count >= head.sender.0 {
            return Vec::new();
        }
        let moved = known.count != 0 && known.at != from;
        if known.count == 0 || moved {
            let locals = join.locals.clone();
            self.changes.push(Change::Member { member: head.member, public: from, locals });
        }
        (known.count, known.at, known.locals) = (head.sender.0, from, join.locals);
        if join.names_at.count == 0 && join.names_at.generation != known.names_at.generation {
            known.names_at = join.names_at;
            known.names.clear();
        }
        if join.names_at == known.names_at {
            join.names.into_iter().for_each(|change| self.changes.push(known.take_name(head.member, change)));
        }
        let names_at = known.names_at;
        let reset = join.seen.epoch != self.epoch;
        let mut version = if reset { 0 } else { join.seen.version as usize };
        let mut fit = Changes::default();
        while version < self.changes.len() && fit.take(self.changes[version].clone()) {
            version += 1;
        }
        let joined = Joined {
            public: from,
            seen: Seen { epoch: self.epoch, version: version as u64 },
            latest: self.changes.len() as u64,
            reset,
            names_at,
            refresh_ms: 20_000,
            relay: if self.relays { self.at.port() + 2 } else { 0 },
            cookie: self.cookie(from),
            changes: fit.taken,
        };
        let answer = Head { member: HostId(0), sender: WireId(0), receiver: head.sender, ..head };
        let seen = Seen { epoch: self.epoch, version: self.changes.len() as u64 };
        let news = Head { receiver: WireId(0), ..answer };
        let others = self.members.iter().filter(|(member, _)| moved && **member != head.member);
        let mut sent: Vec<_> = others.map(|(_, other)| (other.at, news, Said::News(seen))).collect();
        sent.push((from, answer, Said::Joined(joined)));
        sent
    }

    fn introduce(&mut self, from: SocketAddr, head: Head, said: Introduce) -> Vec<(SocketAddr, Head, Said)> {
        let back = Head { member: HostId(0), sender: WireId(0), receiver: head.sender, ..head };
        let known = |(host, known): &(&HostId, &Known)| match said.moves {
            Some(_) => **host == said.peer,
            None => known.names.contains(&said.name),
        };
        let Some((peer, known)) = self.members.iter().find(known) else {
            return vec![(from, back, Said::NotIntroduced(Refusal::UnknownName))];
        };
        let (peer, listen, name, round) = (*peer, known.at, said.name.clone(), said.round);
        let moves = said.moves;
        let asked = Asked { asker: head.member, at: from, said, peer, met: None };
        let asked = self.attempts.entry(head.sender).or_insert(asked);
        if asked.met.is_some() {
            return self.meetings(head.sender);
        }
        let introduction =
            Introduction { asker: asked.asker, attempt: head.sender, nonce: [9; 16], name, round, moves };
        let told = Head { receiver: WireId(0), ..back };
        vec![(from, back, Said::Introducing), (listen, told, Said::Introduction(introduction))]
    }

    fn meet(&mut self, from: SocketAddr, head: Head, meet: Meet) -> Vec<(SocketAddr, Head, Said)> {
        let attempt = meet.attempt;
        let Some(asked) = self.attempts.get_mut(&attempt).filter(|asked| asked.peer == head.member) else {
            let back = Head { member: HostId(0), sender: WireId(0), receiver: head.sender, ..head };
            return vec![(from, back, Said::NotIntroduced(Refusal::UnknownAttempt))];
        };
        asked.met = Some((from, head.sender, meet));
        self.meetings(attempt)
    }

    fn meetings(&self, attempt: WireId) -> Vec<(SocketAddr, Head, Said)> {
        let asked = &self.attempts[&attempt];
        let Some((met_at, met_id, meet)) = &asked.met else { return Vec::new() };
        let times = [asked.said.round_trip_us, meet.round_trip_us].map(|time| time.min(1_000_000));
        let longest = times[0].max(times[1]);
        let start = |own: u32, asker: bool| {
            longest / 2 - own / 2 + if asker && asked.said.round % 2 == 1 { 300_000 } else { 0 }
        };
        let meeting = |peer: HostId, public, locals: &Vec<SocketAddr>, (nat, mapped), own_public, start_us| {
            let known = &self.members[&peer];
            Said::Meeting(Meeting {
                peer,
                nonce: [9; 16],
                public,
                locals: locals.clone(),
                shim_public: known.at,
                shim_locals: known.locals.clone(),
                own_public,
                nat,
                mapped,
                start_us,
            })
        };
        let head = |sender, receiver| Head { session: self.session, member: HostId(0), sender, receiver };
        let to_asker =
            meeting(asked.peer, *met_at, &meet.locals, (meet.nat, meet.mapped), asked.at, start(times[0], true));
        let said = &asked.said;
        let kinds = (said.nat, said.mapped);
        let to_asked = meeting(asked.asker, asked.at, &said.locals, kinds, *met_at, start(times[1], false));
        vec![(asked.at, head(*met_id, attempt), to_asker), (*met_at, head(attempt, *met_id), to_asked)]
    }
}
