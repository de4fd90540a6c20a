//! Members for a rendezvous, by the thousand: `rendezvous-load SERVER SESSIONS MEMBERS KEYFILE SECONDS`.
//!
//! The sessions are called `s0`, `s1`, … and have one key; each has so many members, whose listen ports are on 127.1.0.0/16, a
//! hundred behind each address. Three steps, each after a line on standard input, each told by a line of JSON: all `join` and
//! name one name each; all are heard again for so many seconds; each asks once for a flow to a neighbour.

#![expect(clippy::disallowed_methods, reason = "a load generator is plain sockets and a clock")]

use std::collections::HashMap;
use std::io::BufRead as _;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use proto::rendezvous::{
    Envelope, Head, Introduce, Introduction, Join, Mapped, Meet, NameChange, NamesAt, Nat, Said, Seen, SessionId,
    SessionKey,
};
use proto::{BootId, HostId, Name, WireId};

/// Members behind one address.
const BEHIND: usize = 100;
/// Questions of one address that wait for their answers.
const WINDOW: usize = 50;
/// Who gets no answer asks again.
const PATIENCE: Duration = Duration::from_millis(300);
/// So often.
const TIMES: u32 = 30;

struct Member {
    session: SessionId,
    key: SessionKey,
    host: HostId,
    seen: Seen,
    names_at: NamesAt,
    name: Name,
    /// Who it asks for.
    wanted: Name,
}

/// An address, and who is behind it.
struct Address {
    socket: UdpSocket,
    cookie: Vec<u8>,
    members: Vec<Member>,
    /// The last id of a question.
    count: u64,
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [server, sessions, members, key, seconds] = &words[..] else {
        anyhow::bail!("rendezvous-load SERVER SESSIONS MEMBERS KEYFILE SECONDS");
    };
    let (server, secret): (SocketAddr, _) = (server.parse()?, std::fs::read(key).context("the key file")?);
    let (sessions, members): (usize, usize) = (sessions.parse()?, members.parse()?);
    let seconds = Duration::from_secs_f64(seconds.parse()?);
    let mut all = addresses(server, sessions, members, &secret)?;
    let total = sessions * members;
    await_line()?;
    let took = each(&mut all, Address::join)?;
    tell("joined", total, took);
    // Whoever came early hears of those who came late.
    each(&mut all, Address::join)?;
    println!("{{\"step\":\"heard\"}}");
    await_line()?;
    let (begin, mut count) = (Instant::now(), 0);
    while begin.elapsed() < seconds {
        each(&mut all, Address::join)?;
        count += total;
    }
    tell("refreshed", count, begin.elapsed());
    await_line()?;
    let took = each(&mut all, Address::introduce)?;
    tell("introduced", total, took);
    Ok(())
}

fn tell(step: &str, count: usize, took: Duration) {
    println!("{{\"step\":\"{step}\",\"count\":{count},\"seconds\":{:.4}}}", took.as_secs_f64());
}

fn await_line() -> Result<()> {
    std::io::stdin().lock().read_line(&mut String::new()).map(drop).context("standard input")
}

fn each(all: &mut [Address], work: impl FnMut(&mut Address) -> Result<()>) -> Result<Duration> {
    let begin = Instant::now();
    all.iter_mut().try_for_each(work)?;
    Ok(begin.elapsed())
}

fn addresses(server: SocketAddr, sessions: usize, members: usize, secret: &[u8]) -> Result<Vec<Address>> {
    let mut all: Vec<Address> = Vec::new();
    for session in 0..sessions {
        let name = format!("s{session}");
        let (id, key) = (SessionId::of(&name), SessionKey::new(&name, secret));
        for member in 0..members {
            if all.last().is_none_or(|address| address.members.len() == BEHIND) {
                let [high, low] = u16::try_from(all.len() + 1).context("too many members")?.to_be_bytes();
                let socket = UdpSocket::bind((Ipv4Addr::new(127, 1 + high, low, 1), 0))?;
                socket.connect(server)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                all.push(Address { socket, cookie: Vec::new(), members: Vec::new(), count: 0 });
            }
            let named = |member: usize| Name::new(&format!("name-{member}.of.{session}")).context("a name");
            let host = HostId((session * members + member) as u64 + 1);
            let address = all.last_mut().context("no address")?;
            let names_at = NamesAt { generation: 1, count: 0 };
            let (seen, wanted) = (Seen::default(), named((member + 1) % members)?);
            address.members.push(Member {
                session: id,
                key: key.clone(),
                host,
                seen,
                names_at,
                name: named(member)?,
                wanted,
            });
        }
    }
    Ok(all)
}

impl Address {
    fn head(&self, member: usize, id: u64) -> Head {
        let Member { session, host, .. } = self.members[member];
        Head { session, member: host, sender: WireId(id), receiver: WireId(0) }
    }

    /// Asks for each member until each has its answer; `answer` says whether what came is one.
    fn ask(
        &mut self,
        question: impl Fn(&Self, usize, u64) -> Vec<u8>,
        mut answer: impl FnMut(&mut Self, usize, Said) -> bool,
    ) -> Result<()> {
        let mut left: Vec<usize> = (0..self.members.len()).rev().collect();
        let mut tries = 0;
        while !left.is_empty() {
            tries += 1;
            ensure!(tries < TIMES * 10, "{} members get no answer", left.len());
            let now: Vec<usize> = left.split_off(left.len().saturating_sub(WINDOW));
            let mut waiting = HashMap::new();
            for member in now {
                self.count += 1;
                let bytes = question(self, member, self.count);
                self.socket.send(&bytes)?;
                waiting.insert(self.count, member);
            }
            while !waiting.is_empty() {
                let Some((id, said)) = self.hear(&waiting)? else { break };
                let member = waiting[&id];
                if let Said::Cookie(cookie) = said {
                    self.cookie = cookie;
                    waiting.remove(&id);
                    left.push(member);
                } else if answer(self, member, said) {
                    waiting.remove(&id);
                }
            }
            left.extend(waiting.into_values());
        }
        Ok(())
    }

    /// The next answer to one of these questions.
    fn hear(&mut self, waiting: &HashMap<u64, usize>) -> Result<Option<(u64, Said)>> {
        let mut buffer = [0; 2048];
        loop {
            let length = match self.socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let Ok(envelope) = Envelope::read(&buffer[..length]) else { continue };
            let id = envelope.head.receiver.0;
            // News, and what comes late.
            let Some(member) = waiting.get(&id) else { continue };
            let key = &self.members[*member].key;
            let said = if envelope.is_sealed() { envelope.of(key) } else { envelope.unsealed() };
            return Ok(said.ok().map(|said| (id, said)));
        }
    }

    fn join(&mut self) -> Result<()> {
        let question = |address: &Self, member: usize, id: u64| {
            let Member { host, seen, names_at, name, key, .. } = &address.members[member];
            let names = if names_at.count == 0 { vec![NameChange::Add(name.clone())] } else { Vec::new() };
            let local = SocketAddr::new([192, 168, 0, host.0.to_be_bytes()[7]].into(), 3359);
            let join = Join {
                cookie: address.cookie.clone(),
                boot: BootId(1),
                locals: vec![local],
                seen: *seen,
                names_at: *names_at,
                names,
                round_trip_us: 100,
            };
            address.head(member, id).encode(key, &Said::Join(join))
        };
        self.ask(question, |address, member, said| {
            let Said::Joined(joined) = said else { return false };
            address.cookie = joined.cookie;
            (address.members[member].seen, address.members[member].names_at) = (joined.seen, joined.names_at);
            true
        })
    }

    /// INTRODUCE, and the neighbour's MEET, which is said from the same socket: the server does not mind.
    fn introduce(&mut self) -> Result<()> {
        let question = |address: &Self, member: usize, id: u64| {
            let Member { wanted, key, .. } = &address.members[member];
            let (cookie, name, peer) = (address.cookie.clone(), wanted.clone(), HostId(0));
            let (locals, nat) = (Vec::new(), Nat::default());
            let said = Introduce {
                cookie,
                name,
                peer,
                locals,
                round: 0,
                nat,
                mapped: Mapped::default(),
                round_trip_us: 100,
                moves: None,
            };
            address.head(member, id).encode(key, &Said::Introduce(said))
        };
        let by_host: HashMap<u64, usize> = self.members.iter().enumerate().map(|(n, m)| (m.host.0, n)).collect();
        let mut waiting: HashMap<u64, usize> = HashMap::new();
        let mut left: Vec<usize> = (0..self.members.len()).rev().collect();
        let (mut buffer, mut patience) = ([0; 2048], TIMES);
        while !left.is_empty() || !waiting.is_empty() {
            while waiting.len() < WINDOW
                && let Some(member) = left.pop()
            {
                self.count += 1;
                self.socket.send(&question(self, member, self.count))?;
                waiting.insert(self.count, member);
            }
            let Ok(length) = self.socket.recv(&mut buffer) else {
                patience = patience.checked_sub(1).context("introductions are not answered")?;
                left.extend(waiting.drain().map(|(_, member)| member));
                continue;
            };
            let Ok(envelope) = Envelope::read(&buffer[..length]) else { continue };
            // Which of the members is meant: an id of a question, or a session's key.
            let asked = waiting.get(&envelope.head.receiver.0).copied();
            let of_session = || self.members.iter().position(|member| member.session == envelope.head.session);
            let Some(reader) = asked.or_else(of_session) else { continue };
            match envelope.of(&self.members[reader].key) {
                Ok(Said::Introduction(introduction)) => {
                    let asker = by_host.get(&introduction.asker.0).copied().unwrap_or(reader);
                    self.meet(asker, &introduction)?;
                }
                Ok(Said::Meeting(_) | Said::NotIntroduced(_)) => drop(waiting.remove(&envelope.head.receiver.0)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The neighbour's socket is this one.
    fn meet(&mut self, asker: usize, introduction: &Introduction) -> Result<()> {
        let Member { session, wanted, .. } = &self.members[asker];
        let Some(neighbour) = self.members.iter().position(|m| m.session == *session && m.name == *wanted) else {
            return Ok(());
        };
        self.count += 1;
        let said = Said::Meet(Meet {
            cookie: self.cookie.clone(),
            attempt: introduction.attempt,
            nonce: introduction.nonce,
            locals: Vec::new(),
            nat: Nat::default(),
            mapped: Mapped::default(),
            round_trip_us: 100,
        });
        let bytes = self.head(neighbour, self.count).encode(&self.members[neighbour].key, &said);
        self.socket.send(&bytes)?;
        Ok(())
    }
}
