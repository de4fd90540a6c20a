//! One program's lease: a task that reads its packets and writes what is queued for it.
#![expect(clippy::disallowed_methods, reason = "io reads the clock and owns the timers")]

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::handoff::{ToDaemon, ToProgram};
use proto::v1::{Failure, FailureKind, Welcome};
use proto::{FlowId, Token, protocol_version};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::packet;
use super::server::Shared;
use super::slots::SlotMap;
use super::watch::watch;
use crate::machine::LeaseId;
use crate::server::Process;

/// Packets queued for a program beyond which its own are left unread.
const QUEUED_BEFORE_PAUSE: usize = 64;
/// Packets handled before other leases get their turn.
const PACKETS_PER_TURN: usize = 64;
/// Turns for what an ended program has left behind.
const LAST_TURNS: usize = 64;
/// A new lease says Hello within this time.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// A program whose receive buffer is full for this long has lost its lease.
const READ_WITHIN: Duration = Duration::from_secs(30);

const PROGRAM_GONE: &str = "the program is gone";

enum Outgoing {
    Plain { packet: ToProgram, descriptor: Option<OwnedFd> },
    Grant { packet: ToProgram, socket: Arc<OwnedFd>, flow: FlowId, token: Token },
}

/// What waits to be sent to one program. A flow puts at most two packets into it and an unread program is not
/// listened to, so its length is bounded by the flows of the lease.
pub(super) struct Outbox {
    queue: VecDeque<Outgoing>,
    /// The lease ends once the queue is sent.
    close: Option<&'static str>,
    notify: Arc<Notify>,
    pub(super) slots: Option<Arc<SlotMap>>,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self { queue: VecDeque::new(), close: None, notify: Arc::new(Notify::new()), slots: None }
    }

    fn add(&mut self, outgoing: Outgoing) {
        self.queue.push_back(outgoing);
        self.notify.notify_one();
    }

    pub(super) fn push(&mut self, packet: ToProgram) {
        self.add(Outgoing::Plain { packet, descriptor: None });
    }

    pub(super) fn push_grant(&mut self, packet: ToProgram, socket: Arc<OwnedFd>, flow: FlowId, token: Token) {
        self.add(Outgoing::Grant { packet, socket, flow, token });
    }

    pub(super) fn close(&mut self, why: &'static str) {
        self.close.get_or_insert(why);
        self.notify.notify_one();
    }

    pub(super) fn welcome(&mut self, slots: u32) {
        match SlotMap::make(slots) {
            Ok((memory, descriptor)) => {
                self.slots = Some(Arc::new(memory));
                let packet = ToProgram::Welcome(Welcome { version: protocol_version(), slots });
                self.add(Outgoing::Plain { packet, descriptor: Some(descriptor) });
            }
            Err(error) => {
                tracing::warn!(%error, "a lease gets no statistics memory");
                self.close("there is no memory for its statistics");
            }
        }
    }
}

/// Serves the lease until either side ends it.
pub(super) async fn run(shared: Arc<Shared>, lease: LeaseId, process: Process, socket: OwnedFd) {
    let why = match watch(socket) {
        Ok(socket) => serve(&shared, lease, &socket).await,
        Err(_) => "its socket cannot be watched",
    };
    tracing::debug!(pid = process.pid, uid = process.uid, why, "lease closed");
    // Flows whose socket was queued and not sent. The statistics are still read for the event.
    let queue = shared.lock().outboxes.get_mut(&lease).map(|outbox| std::mem::take(&mut outbox.queue));
    let unsent: Vec<(FlowId, Token)> = queue.iter().flatten().filter_map(Outgoing::grant).collect();
    shared.change(|ledger| {
        for (flow, token) in unsent {
            ledger.granted(lease, flow, token, Some(lease_over()));
        }
        ledger.closed(lease);
    });
    // Last, so that what its flows have carried could still be read; of a lease that never said hello nothing was told.
    shared.lock().outboxes.remove(&lease);
}

impl Outgoing {
    fn grant(&self) -> Option<(FlowId, Token)> {
        match self {
            Self::Grant { flow, token, .. } => Some((*flow, *token)),
            Self::Plain { .. } => None,
        }
    }
}

async fn serve(shared: &Shared, lease: LeaseId, socket: &AsyncFd<OwnedFd>) -> &'static str {
    let hello_by = tokio::time::Instant::now() + HELLO_WITHIN;
    let mut stuck_since: Option<Instant> = None;
    let Some(notify) = shared.lock().outboxes.get(&lease).map(|o| o.notify.clone()) else { return "" };
    loop {
        shared.room().await;
        let (blocked, pause) = match flush(shared, lease, socket) {
            Ok(state) => state,
            Err(PROGRAM_GONE) => {
                read_the_rest(shared, lease, socket).await;
                return PROGRAM_GONE;
            }
            Err(why) => return why,
        };
        stuck_since = if blocked { stuck_since.or_else(|| Some(Instant::now())) } else { None };
        let greeted = shared.lock().outboxes.get(&lease).is_some_and(|o| o.slots.is_some());
        let read_by = stuck_since.map(|since| tokio::time::Instant::from_std(since + READ_WITHIN));
        tokio::select! {
            () = notify.notified(), if !blocked => {}
            ready = socket.writable(), if blocked => match ready {
                // A successful `flush` empties the queue, a blocked one clears the readiness again.
                Ok(_) => {}
                Err(_) => return "its socket failed",
            },
            ready = socket.ready(Interest::READABLE), if !pause => match ready {
                Ok(_) => match read(shared, lease, socket) {
                    Ok(More::Later) => {}
                    Ok(More::Now) => tokio::task::yield_now().await,
                    Err(why) => return why,
                },
                Err(_) => return "its socket failed",
            },
            () = tokio::time::sleep_until(hello_by), if !greeted => return "it said no Hello in time",
            () = tokio::time::sleep_until(read_by.unwrap_or(hello_by)), if blocked => return "it does not read",
        }
    }
}

/// Sends what is queued. `Ok((blocked, pause))`: the program's buffer is full; its packets are not read for now.
fn flush(shared: &Shared, lease: LeaseId, socket: &AsyncFd<OwnedFd>) -> Result<(bool, bool), &'static str> {
    loop {
        let (next, close) = {
            let mut state = shared.lock();
            let Some(outbox) = state.outboxes.get_mut(&lease) else { return Err("it is over") };
            (outbox.queue.pop_front(), outbox.close)
        };
        let Some(outgoing) = next else {
            return close.map_or(Ok((false, false)), Err);
        };
        match send(socket, &outgoing) {
            Ok(()) => {
                if let Some((flow, token)) = outgoing.grant() {
                    shared.change(|ledger| ledger.granted(lease, flow, token, None));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                let mut state = shared.lock();
                let Some(outbox) = state.outboxes.get_mut(&lease) else { return Err("it is over") };
                outbox.queue.push_front(outgoing);
                return Ok((true, outbox.close.is_some() || outbox.queue.len() > QUEUED_BEFORE_PAUSE));
            }
            Err(error) => match (outgoing.grant(), out_of_descriptors(&error)) {
                (Some((flow, token)), true) => {
                    shared.change(|ledger| ledger.granted(lease, flow, token, Some(not_sent(flow))));
                }
                (grant, _) => {
                    if let Some((flow, token)) = grant {
                        shared.change(|ledger| ledger.granted(lease, flow, token, Some(lease_over())));
                    }
                    return Err(PROGRAM_GONE);
                }
            },
        }
    }
}

fn send(socket: &AsyncFd<OwnedFd>, outgoing: &Outgoing) -> std::io::Result<()> {
    let (packet, descriptor) = match outgoing {
        Outgoing::Plain { packet, descriptor } => (packet, descriptor.as_ref()),
        Outgoing::Grant { packet, socket, .. } => (packet, Some(&**socket)),
    };
    let bytes = packet.encode();
    socket.try_io(Interest::WRITABLE, |s| Ok(packet::send(s.as_fd(), &bytes, descriptor.map(AsFd::as_fd))?))
}

/// A program that ends may have said its last (released its flows) before our send to it failed.
async fn read_the_rest(shared: &Shared, lease: LeaseId, socket: &AsyncFd<OwnedFd>) {
    for _ in 0..LAST_TURNS {
        match read(shared, lease, socket) {
            Ok(More::Now) => shared.room().await,
            Ok(More::Later) | Err(_) => return,
        }
    }
}

enum More {
    /// The turn is over, the socket is not empty.
    Now,
    /// Nothing to read at the moment.
    Later,
}

/// Reads a bounded number of packets.
fn read(shared: &Shared, lease: LeaseId, socket: &AsyncFd<OwnedFd>) -> Result<More, &'static str> {
    for _ in 0..PACKETS_PER_TURN {
        match socket.try_io(Interest::READABLE, |s| Ok(packet::receive(s.as_fd())?)) {
            Ok(Some(packet)) if packet.descriptors_cut => return Err("a descriptor beside its packet was lost"),
            Ok(Some(packet)) if packet.cut => return Err("a packet was too long"),
            Ok(Some(packet)) => match ToDaemon::decode(&packet.bytes) {
                Ok(said) => {
                    let descriptor = packet.descriptor;
                    let beside = descriptor.is_some();
                    shared.change_with(descriptor, |ledger| ledger.handle_packet(lease, said, beside));
                }
                Err(_) => return Err("a packet was malformed"),
            },
            Ok(None) => return Err("the program ended it"),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(More::Later),
            // Told once, ahead of what the program sent before it ended with packets of ours unread.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(_) => return Err(PROGRAM_GONE),
        }
    }
    Ok(More::Now)
}

fn out_of_descriptors(error: &std::io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::TOOMANYREFS | Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS))
}

fn not_sent(flow: FlowId) -> Failure {
    let text = format!(
        "flow {flow} could not be handed over: too many descriptors are on their way to programs; \
         read them faster or raise the daemon's descriptor limit"
    );
    Failure::new(FailureKind::Exhausted, text)
}

fn lease_over() -> Failure {
    Failure::new(FailureKind::FlowGone, "the program ended before it took the flow")
}
