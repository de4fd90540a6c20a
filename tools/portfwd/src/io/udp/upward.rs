//! Sessions whose target is a socket: one connected socket each, all looked at together.

use std::hash::Hash;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::forward::{Broken, Verdict};
use rustix::event::epoll::{self, EventData, EventFlags};

use super::batch::{self, Batch, Received, Sending};
use super::{bounds, sockets};
use crate::io::connection;
use crate::io::live::Live;
use crate::io::room::{self, Counted};
use crate::io::roster::Listed;
use crate::io::running::{Place, Running};
use crate::io::worker::Worker;
use crate::machine::cause::{Cause, Refusal};
use crate::machine::life::{Outcome, Side};
use crate::machine::udp::{Arrival, SessionId, Sessions};

/// Sockets that are looked at together.
const EVENTS: usize = 256;
/// Marks the clients' socket.
const CLIENTS: u64 = u64::MAX;

/// The sessions of a rule, or of a flow.
pub(super) struct Upward<K> {
    pub(super) running: Arc<Running>,
    epoll: OwnedFd,
    sessions: Sessions<K>,
    ups: Vec<Option<Up>>,
    worker: Arc<Worker>,
    refused: Vec<(K, Verdict)>,
}

/// A session's socket.
struct Up {
    id: SessionId,
    socket: OwnedFd,
    target: usize,
    /// No target has answered it.
    stranger: Option<Counted>,
    live: Arc<Live>,
    _listed: Listed,
    _place: Place,
}

/// What a client's datagram comes with.
#[derive(Clone, Copy, Debug)]
pub(super) struct From<K> {
    pub(super) key: K,
    /// For the log, and for who is let in.
    pub(super) client: Option<SocketAddr>,
    pub(super) listener: Option<SocketAddr>,
}

impl<K: Copy + Eq + Hash> Upward<K> {
    pub(super) fn new(running: Arc<Running>, worker: Arc<Worker>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let sessions = Sessions::new(bounds(&running.rule));
        Ok(Self { running, epoll, sessions, ups: Vec::new(), worker, refused: Vec::new() })
    }

    /// The clients' socket is looked at with the others.
    pub(super) fn watch(&self, clients: &OwnedFd) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, clients, EventData::new_u64(CLIENTS), EventFlags::IN)?)
    }

    /// Readable when any socket is.
    pub(super) fn epoll(&self) -> io::Result<OwnedFd> {
        self.epoll.try_clone()
    }

    /// The rule says something else from now on; sessions go on to the targets that they have.
    pub(super) fn change(&mut self, running: Arc<Running>) {
        self.sessions.set_bounds(bounds(&running.rule));
        self.running = running;
    }

    /// A client's datagrams go to its session's target; the first makes the session.
    pub(super) fn forward(&mut self, now: Instant, from: From<K>, bytes: &[u8], segment: usize) {
        let id = match self.sessions.find(&from.key) {
            Some(id) => {
                self.sessions.from_client(now, from.key);
                id
            }
            None => match self.begin(now, from) {
                Some(id) => id,
                None => return,
            },
        };
        let Some(Some(up)) = self.ups.get(id.place()) else { return };
        let sending = Sending { bytes, segment, to: None, from: None };
        match sent(up.socket.as_fd(), &sending) {
            Ok(()) => up.live.carried(Side::Client, bytes.len() as u64),
            Err(error) => self.failed(id, &error),
        }
    }

    /// Room for a newcomer, where one whom nobody answered may have to go: of the rule's sessions, which those of other flows count
    /// among, and of all rules' strangers.
    fn room(&mut self) -> Option<Counted> {
        let most = self.running.rule.options.max_connections;
        let full = most.is_some_and(|most| self.running.counters.open() >= most.get());
        if (full || !self.sessions.has_room()) && !self.evict() {
            return None;
        }
        Counted::stranger().or_else(|| if self.evict() { Counted::stranger() } else { None })
    }

    fn evict(&mut self) -> bool {
        let evicted = self.sessions.make_room();
        if let Some(id) = evicted {
            self.over(id, &Outcome::Clean);
        }
        evicted.is_some()
    }

    fn begin(&mut self, now: Instant, from: From<K>) -> Option<SessionId> {
        let running = self.running.clone();
        let Some(stranger) = self.room() else {
            running.counters.dropped("too many clients", 1);
            return None;
        };
        let live = Arc::new(Live::new(running.clone(), from.client, from.listener, now));
        let refused = |refusal: &Refusal| connection::turned_away(&live, refusal);
        let place = running.admit_session(from.client).inspect_err(refused).ok()?;
        let (target, claim, socket) = {
            let (index, target, claim) = running.targets(from.client).next()?;
            let made = sockets::connected(target).and_then(spared);
            let made = made.inspect_err(|refusal| running.tried(index, Some(refusal))).inspect_err(refused);
            (index, claim, made.ok()?)
        };
        let id = match self.sessions.from_client(now, from.key) {
            Arrival::Known(id) => id,
            Arrival::New(id, evicted) => {
                if let Some(evicted) = evicted {
                    self.over(evicted, &Outcome::Clean);
                }
                id
            }
            Arrival::Full => {
                running.counters.dropped("too many clients", 1);
                return None;
            }
        };
        let data = EventData::new_u64(id.number());
        if let Err(errno) = epoll::add(&self.epoll, &socket, data, EventFlags::IN) {
            self.sessions.end(id);
            connection::turned_away(&live, &Refusal::of_dial(&errno.into()));
            return None;
        }
        live.joined(target, || claim);
        let listed = self.worker.roster.list(live.clone());
        let up = Up { id, socket, target, stranger: Some(stranger), live, _listed: listed, _place: place };
        if self.ups.len() <= id.place() {
            self.ups.resize_with(id.place() + 1, || None);
        }
        self.ups[id.place()] = Some(up);
        Some(id)
    }

    /// Looks at the sockets that have something. Answers go to `deliver`, many at a time, each with its session's key; `clients`
    /// is called when theirs has something. Whether there may be more.
    pub(super) fn turn(
        &mut self,
        now: Instant,
        mut deliver: impl FnMut(&Running, &Batch, &[(usize, K)]),
        mut clients: impl FnMut(&mut Self),
    ) -> io::Result<bool> {
        let mut events = [const { std::mem::MaybeUninit::uninit() }; EVENTS];
        let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let (ready, _) = epoll::wait(&self.epoll, &mut events, Some(&none))?;
        let ready: Vec<u64> = ready.iter().map(|event| event.data.u64()).collect();
        super::with_batch(|batch| {
            let mut keys = Vec::with_capacity(batch::MANY);
            for number in ready.iter().filter(|number| **number != CLIENTS) {
                self.collect(now, SessionId::from_number(*number), batch, &mut keys, &mut deliver);
            }
            deliver(&self.running, batch, &keys);
        });
        if ready.contains(&CLIENTS) {
            clients(self);
        }
        Ok(!ready.is_empty())
    }

    /// What a session's target says, into the batch; delivered when that is full.
    fn collect(
        &mut self,
        now: Instant,
        id: SessionId,
        batch: &mut Batch,
        keys: &mut Vec<(usize, K)>,
        deliver: &mut impl FnMut(&Running, &Batch, &[(usize, K)]),
    ) {
        let Some(Some(up)) = self.ups.get_mut(id.place()) else { return };
        if up.id != id {
            return;
        }
        if batch.is_full() {
            deliver(&self.running, batch, keys);
            batch.clear();
            keys.clear();
        }
        let first = batch.len();
        match batch.receive(up.socket.as_fd()) {
            Ok(0) => {}
            Ok(_) => {
                let Some(key) = self.sessions.from_target(now, id) else { return };
                if up.stranger.take().is_some() {
                    up.live.running.tried(up.target, None);
                }
                for place in first..batch.len() {
                    up.live.carried(Side::Target, batch.get(place).1.len() as u64);
                    keys.push((place, key));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.failed(id, &error),
        }
    }

    /// A session's socket says that something is wrong.
    fn failed(&mut self, id: SessionId, error: &io::Error) {
        let counters = &self.running.counters;
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS) => counters.dropped("target's queue full", 1),
            Some(libc::EMSGSIZE) => counters.dropped("too long", 1),
            Some(libc::EINTR) => {}
            // The target's host said that nobody is there, or that there is no way: the next datagram may go elsewhere.
            _ => {
                let refusal = Refusal::of_dial(error);
                counters.dropped(refusal.label(), 1);
                let mut known = false;
                if let Some(Some(up)) = self.ups.get(id.place()) {
                    known = up.stranger.is_some() && !up.live.running.is_up(up.target);
                    up.live.running.tried(up.target, Some(&refusal));
                }
                let cause = match refusal.verdict {
                    Verdict::Refused => Cause::said(Broken::Unreachable, "nobody listens there (ICMP)"),
                    _ => Cause::of_errno(error.raw_os_error().unwrap_or(libc::EIO)),
                };
                if let Some(key) = self.sessions.client(id).filter(|_| self.refused.len() < EVENTS) {
                    self.refused.push((key, refusal.verdict));
                }
                self.sessions.end(id);
                if known {
                    // A line for every datagram to a target that is known to be dead would be many.
                    self.ups[id.place()] = None;
                    self.running.counters.ended(refusal.label());
                    return;
                }
                self.over(id, &Outcome::Broken { by: Some(Side::Target), cause });
            }
        }
    }

    /// Whose target said no since this was last asked.
    pub(super) fn refused(&mut self) -> Vec<(K, Verdict)> {
        std::mem::take(&mut self.refused)
    }

    /// Ends the sessions that nobody speaks on.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(id) = self.sessions.poll_silent(now) {
            self.over(id, &Outcome::Clean);
        }
    }

    /// When to [expire](Self::expire).
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        // Many end together: what ends a moment later costs nothing.
        self.sessions.poll_timeout().map(|due| due + Duration::from_millis(50))
    }

    fn over(&mut self, id: SessionId, outcome: &Outcome) {
        if let Some(up) = self.ups.get_mut(id.place()).and_then(Option::take) {
            connection::ended(&up.live, outcome);
        }
    }

    /// Ends all: the rule is taken away, or the flow is gone.
    pub(super) fn end(&mut self, cause: &Cause) {
        for up in self.ups.drain(..).flatten() {
            self.sessions.end(up.id);
            connection::ended(&up.live, &Outcome::Broken { by: None, cause: cause.clone() });
        }
    }
}

/// The last descriptors are not for clients over UDP, whom anybody can forge.
fn spared(socket: OwnedFd) -> Result<OwnedFd, Refusal> {
    match room::is_scarce(&socket) {
        true => Err(Refusal::of_dial(&io::Error::from_raw_os_error(libc::EMFILE))),
        false => Ok(socket),
    }
}

/// Sends what one message holds; one by one where the kernel cannot cut it apart.
pub(super) fn sent(socket: BorrowedFd<'_>, sending: &Sending<'_>) -> io::Result<()> {
    match batch::send(socket, std::slice::from_ref(sending)) {
        Ok(_) => Ok(()),
        Err(error) if sending.segment > 0 && cannot_cut(&error) => {
            for datagram in sending.bytes.chunks(sending.segment) {
                batch::send(socket, &[Sending { bytes: datagram, segment: 0, ..*sending }])?;
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// The device has no checksum offload, the kernel no segmentation, or the path is narrower than the segments.
fn cannot_cut(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EIO | libc::EINVAL | libc::ENOPROTOOPT | libc::EOPNOTSUPP | libc::EMSGSIZE)
    )
}

/// The datagrams of a message.
pub(super) fn datagrams<'a>(received: &Received, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let size = if received.segment > 0 { received.segment } else { bytes.len().max(1) };
    // An empty datagram is one, too.
    let empty = bytes.is_empty().then_some(bytes);
    bytes.chunks(size).chain(empty)
}
