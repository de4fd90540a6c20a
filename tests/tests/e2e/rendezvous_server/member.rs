//! A server with its configuration, and members that say what a test wants said.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use flowring_tests::net::SOON;
use lab::{Deadline, Host, Running};
use proto::rendezvous::{
    Change, Envelope, Head, Introduce, Introduction, Join, Joined, Mapped, Meet, Meeting, NameChange, NamesAt, Nat,
    PORT, Said, Seen, SessionId, SessionKey,
};
use proto::{BootId, HostId, Name, WireId};
use serde_json::Value;

/// What a question is said again after.
const AGAIN: Duration = Duration::from_millis(300);
pub(crate) const SECRET: &str = "a key that is long enough";

/// A server that runs.
pub(crate) struct Server {
    pub(crate) running: Running,
    pub(crate) host: Host,
}

/// A configuration with the session `lobby`; `more` stands before it.
pub(crate) fn config(host: &Host, more: &str) -> Result<String> {
    let file = host.run_dir().join("rendezvous.toml");
    std::fs::write(host.run_dir().join("lobby.key"), format!("{SECRET}\n"))?;
    std::fs::write(&file, format!("{more}\n[[session]]\nname = \"lobby\"\nkey-file = \"lobby.key\"\n"))?;
    Ok(file.to_str().context("a path")?.to_owned())
}

impl Server {
    pub(crate) fn start(host: &Host, more: &str) -> Result<Self> {
        let file = config(host, more)?;
        Self::with(host, &["--config", &file])
    }

    pub(crate) fn with(host: &Host, words: &[&str]) -> Result<Self> {
        let running = host.start("rendezvous", words)?;
        running.expect_log(SOON, "listens at")?;
        Ok(Self { running, host: host.clone() })
    }

    pub(crate) fn at(&self) -> SocketAddr {
        SocketAddr::new(self.host.address(), PORT)
    }

    pub(crate) fn status(&self, words: &[&str]) -> Result<Value> {
        let output = self.host.run("rendezvous", &[&["status", "--json"], words].concat())?;
        ensure!(output.code() == 0, "status: {}", output.err.trim());
        Ok(serde_json::from_str(&output.out)?)
    }
}

/// A member, or one side of a flow of its host's.
pub(crate) struct Member {
    pub(crate) socket: UdpSocket,
    pub(crate) server: SocketAddr,
    pub(crate) host: HostId,
    pub(crate) key: SessionKey,
    pub(crate) session: SessionId,
    pub(crate) boot: BootId,
    pub(crate) count: u64,
    pub(crate) cookie: Vec<u8>,
    pub(crate) seen: Seen,
    pub(crate) names: Vec<Name>,
    pub(crate) names_at: NamesAt,
}

impl Member {
    pub(crate) fn new(at: &Host, server: SocketAddr, host: u64) -> Result<Self> {
        Self::of(at.socket(0)?, server, host, "lobby", SECRET)
    }

    pub(crate) fn of(socket: UdpSocket, server: SocketAddr, host: u64, session: &str, secret: &str) -> Result<Self> {
        socket.set_read_timeout(Some(AGAIN))?;
        Ok(Self {
            socket,
            server,
            host: HostId(host),
            key: SessionKey::new(session, secret.as_bytes()),
            session: SessionId::of(session),
            boot: BootId(host + 1),
            count: 0,
            cookie: Vec::new(),
            seen: Seen::default(),
            names: Vec::new(),
            names_at: NamesAt { generation: 1, count: 0 },
        })
    }

    pub(crate) fn named(mut self, names: &[&str]) -> Self {
        self.names = names.iter().filter_map(|name| Name::new(name).ok()).collect();
        self
    }

    /// Another socket of this member's host, for a flow.
    pub(crate) fn flow(&self, at: &Host) -> Result<Self> {
        let socket = at.socket(0)?;
        socket.set_read_timeout(Some(AGAIN))?;
        let (key, cookie, names) = (self.key.clone(), self.cookie.clone(), Vec::new());
        Ok(Self { socket, key, cookie, names, ..*self })
    }

    /// The socket's own address, as it thinks.
    pub(crate) fn local(&self) -> Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }

    pub(crate) fn bytes(&self, id: u64, said: &Said) -> Vec<u8> {
        let head = Head { session: self.session, member: self.host, sender: WireId(id), receiver: WireId(0) };
        head.encode(&self.key, said)
    }

    /// The next datagram from the server; none where none comes in a while.
    pub(crate) fn hear(&self) -> Result<Option<(Head, Said)>> {
        let mut buffer = [0; 2048];
        let (length, from) = match self.socket.recv_from(&mut buffer) {
            Ok(got) => got,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        ensure!(from.ip() == self.server.ip(), "{from} is not the server");
        let envelope = Envelope::read(&buffer[..length]).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let said = if envelope.is_sealed() { envelope.of(&self.key) } else { envelope.unsealed() };
        Ok(Some((envelope.head, said.map_err(|error| anyhow::anyhow!("{error:?}"))?)))
    }

    /// Says it until `wanted` finds its answer, with the cookie it is told to bring.
    pub(crate) fn ask<T>(
        &mut self,
        to: SocketAddr,
        mut said: impl FnMut(&mut Self) -> (u64, Said),
        mut wanted: impl FnMut(&Head, Said) -> Option<T>,
    ) -> Result<T> {
        let deadline = Deadline::after(SOON);
        while !deadline.is_past() {
            let (id, question) = said(self);
            self.socket.send_to(&self.bytes(id, &question), to)?;
            while let Some((head, said)) = self.hear()? {
                if let Said::Cookie(cookie) = said {
                    self.cookie = cookie;
                    break;
                }
                if let Some(answer) = wanted(&head, said) {
                    return Ok(answer);
                }
            }
        }
        bail!("{} was not answered by {to}", self.host)
    }

    pub(crate) fn join_said(&mut self) -> (u64, Said) {
        self.count += 1;
        let names = self.names.iter().skip(self.names_at.count as usize).cloned().map(NameChange::Add).collect();
        let locals = self.socket.local_addr().into_iter().collect();
        let (cookie, boot, seen, names_at) = (self.cookie.clone(), self.boot, self.seen, self.names_at);
        (self.count, Said::Join(Join { cookie, boot, locals, seen, names_at, names, round_trip_us: 1_000 }))
    }

    /// Joins, or is heard again.
    pub(crate) fn join(&mut self) -> Result<Joined> {
        let answer = |_: &Head, said| match said {
            Said::Joined(joined) => Some(joined),
            _ => None,
        };
        let joined = self.ask(self.server, Self::join_said, answer)?;
        self.cookie.clone_from(&joined.cookie);
        self.seen = joined.seen;
        if joined.names_at.generation == self.names_at.generation {
            self.names_at = joined.names_at;
        } else {
            self.names_at = NamesAt { generation: self.names_at.generation + 1, count: 0 };
        }
        Ok(joined)
    }

    /// What an INTRODUCE comes to.
    pub(crate) fn introduce(&mut self, id: u64, name: &str) -> Result<Said> {
        let name = Name::new(name).context("a name")?;
        let said = |member: &mut Self| {
            let locals = member.socket.local_addr().into_iter().collect();
            let (cookie, name, peer, nat) = (member.cookie.clone(), name.clone(), HostId(0), Nat::default());
            (
                id,
                Said::Introduce(Introduce {
                    cookie,
                    name,
                    peer,
                    locals,
                    round: 0,
                    nat,
                    mapped: Mapped::default(),
                    round_trip_us: 1_000,
                    moves: None,
                }),
            )
        };
        self.ask(self.server, said, |_, said| Some(said))
    }

    /// Waits for the word that somebody wants a flow.
    pub(crate) fn introduction(&self) -> Result<Introduction> {
        let deadline = Deadline::after(SOON);
        while !deadline.is_past() {
            if let Some((_, Said::Introduction(introduction))) = self.hear()? {
                return Ok(introduction);
            }
        }
        bail!("{} was not told of an introduction", self.host)
    }

    /// Says which socket it has for a flow, until it hears where the other is.
    pub(crate) fn meet(&mut self, id: u64, introduction: &Introduction) -> Result<Meeting> {
        let said = |member: &mut Self| {
            let locals = member.socket.local_addr().into_iter().collect();
            let (attempt, nonce) = (introduction.attempt, introduction.nonce);
            let (cookie, nat, round_trip_us) = (member.cookie.clone(), Nat::default(), 1_000);
            (id, Said::Meet(Meet { cookie, attempt, nonce, locals, nat, mapped: Mapped::default(), round_trip_us }))
        };
        self.ask(self.server, said, |_, said| meeting(said))
    }
}

pub(crate) fn meeting(said: Said) -> Option<Meeting> {
    if let Said::Meeting(meeting) = said { Some(meeting) } else { None }
}

/// Members and names that an answer tells of.
pub(crate) fn told(joined: &Joined) -> Vec<String> {
    let each = joined.changes.iter().map(|change| match change {
        Change::Member { member, .. } => format!("+{}", member.0),
        Change::Left(member) => format!("-{}", member.0),
        Change::Name(member, name) => format!("+{}:{name}", member.0),
        Change::NameGone(member, name) => format!("-{}:{name}", member.0),
    });
    each.collect()
}

/// Where an answer says that a member is seen.
pub(crate) fn seen_at(joined: &Joined, who: u64) -> Option<IpAddr> {
    joined.changes.iter().find_map(|change| match change {
        Change::Member { member, public, .. } if member.0 == who => Some(public.ip()),
        _ => None,
    })
}
