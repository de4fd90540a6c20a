//! `irm nat`: sockets of its own ask a rendezvous where it sees them.
#![expect(clippy::disallowed_methods, reason = "io asks by the clock")]
#![expect(clippy::disallowed_types, reason = "these sockets are nobody else's, and nobody shuts them down")]

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use proto::rendezvous::{DATAGRAM, Envelope, Head, PORT, Said, SessionId};
use proto::{HostId, RunDir, WireId, v1};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::irmd::{Irmd, QUICK};
use super::{Fault, print};
use crate::cli::{Listing, Nat};
use crate::machine::nat::lifetime::{self, Trial};
use crate::machine::nat::{self, Facts, Found, Hairpin, Hindrance, Lifetime, Seen};

/// A question is asked so often, with this pause.
const TIMES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(400);
/// Fresh sockets that are looked at for the order of their ports.
const SOCKETS: usize = 6;
/// Fresh sockets until one has a port, or an address, as is needed.
const OTHERS: usize = 16;
/// The server sends to none below.
const LEAST_PORT: u16 = 1_024;

/// What `irm nat` prints.
pub(super) async fn nat(run_dir: Option<&std::path::Path>, how: Nat) -> Result<(), Fault> {
    let mut servers = Vec::new();
    if how.via.is_empty() {
        servers.push(resolved(&enrolled(run_dir).await?, None).await?);
    }
    if how.via.len() > 2 {
        return Err(Fault::Unable("two servers tell all that servers can; leave out the others".to_owned()));
    }
    for via in &how.via {
        let family = servers.first().map(SocketAddr::is_ipv4);
        servers.push(resolved(via, family).await?);
    }
    if servers.len() == 2 && servers[0].ip() == servers[1].ip() {
        return Err(Fault::Unable(format!("both servers are at {}; name one at another address", servers[0].ip())));
    }
    let (facts, router) = tokio::join!(ask_all(&servers, how.lifetime), router(servers[0]));
    let found = Facts { router, ..facts? }.found();
    print::listing(Listing { json: how.json }, &found, |found: &Found| nat::text(found))
}

/// The rendezvous of the first layer that has one.
async fn enrolled(run_dir: Option<&std::path::Path>) -> Result<String, Fault> {
    let run_dir = RunDir::find(run_dir).map_err(|error| Fault::Unable(error.to_string()))?;
    let mut irmd = Irmd::dial(&run_dir).await?;
    let path = irmd.path();
    let stream = Irmd::answer(&path, QUICK, irmd.client.ipcp_list(v1::Empty {})).await?;
    let rows: Vec<v1::IpcpInfo> = Irmd::rows(&path, stream).await?;
    let servers = rows.into_iter().filter_map(|row| row.config).map(|config| config.rendezvous);
    servers.into_iter().find(|server| !server.is_empty()).ok_or_else(|| {
        let text = "no layer of this host is enrolled in a session; name a rendezvous with --via HOST[:PORT]";
        Fault::Said(v1::Failure::new(v1::FailureKind::NotFound, text))
    })
}

/// Where a server is; of the first one's family.
async fn resolved(via: &str, v4: Option<bool>) -> Result<SocketAddr, Fault> {
    let bare = via.trim_start_matches('[').trim_end_matches(']');
    let found = match bare.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, PORT)],
        Err(_) if via.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) => {
            tokio::net::lookup_host(via).await.map(Iterator::collect).map_err(|error| not_found(via, &error))?
        }
        Err(_) => {
            tokio::net::lookup_host((via, PORT)).await.map(Iterator::collect).map_err(|error| not_found(via, &error))?
        }
    };
    let fits = |at: &SocketAddr| v4.is_none_or(|v4| at.is_ipv4() == v4);
    // Of an IPv6 host there is seldom a NAT to be found.
    let best = found.iter().copied().filter(fits).max_by_key(SocketAddr::is_ipv4);
    best.ok_or_else(|| not_found(via, &"it has no address of this family"))
}

fn not_found(via: &str, why: &dyn std::fmt::Display) -> Fault {
    Fault::Unable(format!("the rendezvous {via} is not found: {why}; give its name or address as HOST[:PORT]"))
}

/// A socket that asks.
struct Asker {
    socket: UdpSocket,
    local: SocketAddr,
}

/// An answer.
struct Answer {
    from: SocketAddr,
    public: SocketAddr,
    alternate: Option<SocketAddr>,
}

impl Asker {
    /// A fresh one, at the address that this host sends to the server from.
    async fn open(server: SocketAddr) -> std::io::Result<Self> {
        let any = if server.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0_u16; 8]) };
        // Connected, so that the kernel says which address that is; another one asks, because answers come from two ports.
        let route = UdpSocket::bind((any, 0)).await?;
        route.connect(server).await?;
        let socket = UdpSocket::bind((route.local_addr()?.ip(), 0)).await?;
        let local = socket.local_addr()?;
        Ok(Self { socket, local })
    }

    fn bytes(said: &Said) -> (WireId, Vec<u8>) {
        let id = fresh_id();
        let head = Head { session: SessionId::of(""), member: HostId(0), sender: id, receiver: WireId(0) };
        (id, head.encode_bare(said))
    }

    /// Asks until something answers; an answer may come from `expected` only. `None`: three times nothing.
    async fn ask(&self, to: SocketAddr, said: &Said, expected: SocketAddr) -> Option<Answer> {
        let (id, bytes) = Self::bytes(said);
        for _ in 0..TIMES {
            // An error may be of an earlier answer; a server that is not there stays silent.
            let _ = self.socket.send_to(&bytes, to).await;
            if let Some(answer) = self.heard(id, Some(expected), PAUSE).await {
                return Some(answer);
            }
        }
        None
    }

    /// Waits for the answer to `id`.
    async fn heard(&self, id: WireId, from: Option<SocketAddr>, within: Duration) -> Option<Answer> {
        let wait = async {
            let mut buffer = [0; DATAGRAM + 1];
            loop {
                let Ok((length, at)) = self.socket.recv_from(&mut buffer).await else { continue };
                let Ok(envelope) = Envelope::read(&buffer[..length]) else { continue };
                let fits = envelope.head.receiver == id && from.is_none_or(|from| from == at);
                if let (true, Ok(Said::NatSeen { public, alternate })) = (fits, envelope.unsealed()) {
                    return Answer { from: at, public, alternate };
                }
            }
        };
        tokio::time::timeout(within, wait).await.ok()
    }
}

const WHERE: Said = Said::NatProbe { alternate: false };

async fn ask_all(servers: &[SocketAddr], most: Option<Duration>) -> Result<Facts, Fault> {
    let server = servers[0];
    let unable = |error: std::io::Error| Fault::Unable(format!("no socket can be had to ask {server}: {error}"));
    let first = Asker::open(server).await.map_err(unable)?;
    let Some(answer) = first.ask(server, &WHERE, server).await else { return Err(silent(server)) };
    // Of its own address: no stranger's port is asked.
    let other = answer.alternate.filter(|other| other.ip() == server.ip() && *other != server);
    let mut sockets = vec![Seen { port: first.local.port(), public: answer.public }];
    let mut fresh = Vec::new();
    for _ in 1..SOCKETS {
        let asker = Asker::open(server).await.map_err(unable)?;
        if let Some(answer) = asker.ask(server, &WHERE, server).await {
            sockets.push(Seen { port: asker.local.port(), public: answer.public });
            fresh.push((asker, answer.public));
        }
    }
    // First, because asking at the other port changes what it lets in.
    let (mut heard_from_other, mut at_other) = (None, None);
    if let Some(other) = other {
        let heard = first.ask(server, &Said::NatProbe { alternate: true }, other).await;
        heard_from_other = Some(heard.is_some());
        at_other = first.ask(other, &WHERE, other).await.map(|answer| answer.public);
    }
    let at_second = match servers.get(1) {
        Some(second) => match first.ask(*second, &WHERE, *second).await {
            Some(answer) => Some(answer.public),
            None => return Err(silent(*second)),
        },
        None => None,
    };
    let hairpin = match &fresh[..] {
        [one, two, ..] => Some(hairpin(one, two).await),
        _ => None,
    };
    let lifetime = match most {
        Some(most) => Some(lives(server, most).await.map_err(unable)?),
        None => None,
    };
    let local = first.local;
    Ok(Facts { server, other, local, sockets, heard_from_other, at_other, at_second, hairpin, lifetime, router: None })
}

/// What the router answers to that maps ports. None is mapped.
async fn router(server: SocketAddr) -> Option<gateway::Survey> {
    let SocketAddr::V4(towards) = server else { return None };
    let asker = Asker::open(server).await.ok()?;
    let SocketAddr::V4(local) = asker.local else { return None };
    gateway::Client::default().survey(*towards.ip(), local).await
}

fn silent(server: SocketAddr) -> Fault {
    let text = format!(
        "{server} does not answer ({TIMES} times asked); is a rendezvous there, and may UDP go to it and come back?"
    );
    Fault::Said(v1::Failure::new(v1::FailureKind::TimedOut, text))
}

/// Two sockets send to each other's public address, both, since each one's filter may want that; what arrives?
async fn hairpin(one: &(Asker, SocketAddr), two: &(Asker, SocketAddr)) -> Hairpin {
    let said = |public| Said::NatSeen { public, alternate: None };
    let id = fresh_id();
    let head = Head { session: SessionId::of(""), member: HostId(0), sender: WireId(0), receiver: id };
    for _ in 0..TIMES {
        for (from, to) in [(one, two), (two, one)] {
            let _ = from.0.socket.send_to(&head.encode_bare(&said(to.1)), to.1).await;
        }
        let heard = tokio::select! {
            heard = one.0.heard(id, None, PAUSE) => heard.map(|heard| heard.from == two.1),
            heard = two.0.heard(id, None, PAUSE) => heard.map(|heard| heard.from == one.1),
        };
        match heard {
            Some(true) => return Hairpin::External,
            Some(false) => return Hairpin::Internal,
            None => {}
        }
    }
    Hairpin::No
}

/// Nobody else knows it, so nobody else answers.
fn fresh_id() -> WireId {
    let mut id = [0; 8];
    let _ = getrandom::fill(&mut id);
    WireId(u64::from_be_bytes(id).max(1))
}

/// Many mappings at once, each tried once: what comes in may keep it alive.
async fn lives(server: SocketAddr, most: Duration) -> std::io::Result<Lifetime> {
    print::note(&format!("idle mappings are looked at for {} s", most.as_secs()));
    let mut trials = JoinSet::new();
    for after in lifetime::rungs(most) {
        let Some((idle, public)) = mapped(server).await? else { continue };
        let made = Instant::now();
        trials.spawn(async move {
            tokio::time::sleep_until((made + after).into()).await;
            (after, tried(&idle, server, public).await)
        });
    }
    let mut seen = Vec::new();
    while let Some(trial) = trials.join_next().await {
        let Ok((after, trial)) = trial else { continue };
        seen.push((after, trial));
        let what = match trial {
            // What cannot be reached at once cannot be reached later.
            Trial::Gone | Trial::Untried(_) if after.is_zero() => break,
            Trial::Lived if after.is_zero() => continue,
            Trial::Lived => "lives",
            Trial::Gone => "is gone",
            Trial::Untried(_) => "could not be tried",
        };
        print::note(&format!("a mapping that was idle for {} s {what}", after.as_secs()));
    }
    seen.sort_unstable();
    Ok(lifetime::lifetime(&seen))
}

/// A mapping, best of a port that the server can be asked for.
async fn mapped(server: SocketAddr) -> std::io::Result<Option<(Asker, SocketAddr)>> {
    let mut best = None;
    for _ in 0..OTHERS {
        let idle = Asker::open(server).await?;
        let Some(answer) = idle.ask(server, &WHERE, server).await else { break };
        let low = answer.public.port() < LEAST_PORT;
        best = Some((idle, answer.public));
        if !low {
            break;
        }
    }
    Ok(best)
}

/// Whether the server reaches an idle socket's mapping: another one, of the same public address, asks it to.
async fn tried(idle: &Asker, server: SocketAddr, public: SocketAddr) -> Trial {
    if public.port() < LEAST_PORT {
        return Trial::Untried(Hindrance::LowPorts);
    }
    let caller = match beside(server, public.ip()).await {
        Ok(caller) => caller,
        Err(why) => return Trial::Untried(why),
    };
    let (id, bytes) = Asker::bytes(&Said::NatReach { port: public.port() });
    for _ in 0..TIMES {
        let _ = caller.socket.send_to(&bytes, server).await;
        if idle.heard(id, Some(server), PAUSE).await.is_some() {
            return Trial::Lived;
        }
    }
    Trial::Gone
}

/// A fresh socket that the server sees at that address: behind a NAT with several, not every one is.
async fn beside(server: SocketAddr, ip: IpAddr) -> Result<Asker, Hindrance> {
    for _ in 0..OTHERS {
        let asker = Asker::open(server).await.map_err(|_| Hindrance::Silent)?;
        let answer = asker.ask(server, &WHERE, server).await.ok_or(Hindrance::Silent)?;
        if answer.public.ip() == ip {
            return Ok(asker);
        }
    }
    Err(Hindrance::OtherAddress)
}

#[cfg(test)]
#[path = "nat_tests.rs"]
mod tests;
