//! One end of a flow: the socket, and all that its users and libflow's thread share about it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
#[cfg(test)]
use handoff::client::SlotMap;
use handoff::client::{Sender, Slot};
use proto::FlowId;
use proto::handoff::ToDaemon;
use proto::{shim, v1};
use rustix::net::{AddressFamily, SocketType};
use tokio::sync::{Notify, oneshot};
use transport::quic::Watch;

use super::batches::Leftovers;
use super::keeper::Keeper;
use super::moving::Moving;
use super::unwanted::Unwanted;
use crate::machine::spin::Spin;
use crate::peer::EndReason;

/// Processors this program may run on; asked once, since the answer takes reading files.
static PROCESSORS: LazyLock<usize> = LazyLock::new(|| std::thread::available_parallelism().map_or(1, Into::into));

/// Turns given to threads that count in a slot while it is replaced; one that is stopped for longer loses its count.
const COUNTERS_LET_GO: usize = 10_000;

/// What carries a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    Udp4,
    Udp6,
    /// A SEQPACKET pair within this host.
    Local,
}

/// Shared by a [`crate::Flow`] and the lease's task; the flow is released when its last user drops it.
pub(crate) struct Core {
    pub(crate) fd: Arc<OwnedFd>,
    pub(crate) carrier: Carrier,
    /// Local flows only.
    pub(super) spin: Spin,
    id: AtomicU64,
    pub(super) sdu_limit: AtomicU32,
    pub(super) unwanted: Unwanted,
    /// An [`EndReason`], 0 while the flow lives.
    reason: AtomicU8,
    ended: Notify,
    slot: ArcSwap<Slot>,
    /// UDP_GRO is on: a receive may bring several SDUs.
    pub(super) gro: AtomicBool,
    /// The device or the kernel cannot segment: batches go by sendmmsg.
    pub(crate) unsegmented: AtomicBool,
    /// SDUs that came together and have not been read yet.
    pub(super) left_over: AtomicBool,
    pub(super) leftovers: Mutex<Option<Box<Leftovers>>>,
    closed_noted: AtomicBool,
    suspected: AtomicBool,
    released: AtomicBool,
    pub(super) link: Option<Link>,
    /// Message and stream flows between hosts.
    pub(crate) secured: Option<Secured>,
    /// Where a flow that may move goes.
    pub(super) moving: Option<Moving>,
    /// What carries it, where that is to hear of its moves.
    pub(super) carried: OnceLock<Watch>,
}

/// What a handshake needs of the daemon.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Secured {
    /// What request and answer said.
    pub(crate) binding: shim::Binding,
    /// The socket's connection to its peer is not the program's to dissolve, unless the flow may move.
    pub(crate) fixed: bool,
    /// It may move to another path.
    pub(crate) movable: bool,
}

/// How a flow reaches its lease, and keeps libflow's thread alive.
pub(crate) struct Link {
    pub(crate) outside: Arc<Outside>,
    pub(crate) _keeper: Option<Arc<Keeper>>,
}

/// What flows, from any thread, leave for the task of their lease.
#[derive(Default)]
pub(crate) struct Outside {
    state: Mutex<OutsideState>,
    pub(super) notify: Notify,
}

#[derive(Default)]
struct OutsideState {
    sender: Option<Sender>,
    notes: Vec<Note>,
    over: bool,
}

/// Each flow leaves at most one of each kind but the last, so their number is bounded by the flows.
pub(crate) enum Note {
    Released {
        flow: FlowId,
        said: bool,
        written: Option<oneshot::Sender<()>>,
    },
    Suspect(FlowId),
    FoundClosed(FlowId),
    /// Of these a bounded number a second.
    Heard(v1::Heard),
}

impl Outside {
    fn with<R>(&self, act: impl FnOnce(&mut OutsideState) -> R) -> R {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The lease is open: releases go straight into it.
    pub(super) fn set_sender(&self, sender: Option<Sender>) {
        self.with(|state| state.sender = sender);
    }

    /// The lease is open at this moment.
    pub(super) fn is_open(&self) -> bool {
        self.with(|state| state.sender.is_some())
    }

    pub(crate) fn take_notes(&self) -> Vec<Note> {
        self.with(|state| std::mem::take(&mut state.notes))
    }

    /// The task has ended; nobody answers any more.
    pub(super) fn end(&self) {
        self.with(|state| state.over = true);
    }

    /// False when nobody will read the note.
    pub(super) fn leave(&self, note: Note) -> bool {
        let left = self.with(|state| {
            if !state.over {
                state.notes.push(note);
            }
            !state.over
        });
        self.notify.notify_one();
        left
    }

    fn release(&self, flow: FlowId, written: Option<oneshot::Sender<()>>) {
        self.with(|state| {
            if state.over {
                return;
            }
            // Straight into the socket: a program that ends right after its last flow must not seem to have died.
            let release = ToDaemon::Release(v1::Release { flow_id: flow.0 });
            let said = state.sender.as_ref().is_some_and(|sender| sender.say(&release, None).is_ok());
            let written = written.filter(|_| !said);
            state.notes.push(Note::Released { flow, said, written });
        });
        self.notify.notify_one();
    }
}

impl Core {
    pub(crate) fn new(
        fd: OwnedFd,
        id: FlowId,
        sdu_limit: u32,
        slot: Slot,
        unwanted: Option<shim::Unwanted>,
        link: Option<Link>,
    ) -> std::io::Result<Self> {
        let carrier = match (rustix::net::sockopt::socket_type(&fd)?, rustix::net::sockopt::socket_domain(&fd)?) {
            (SocketType::DGRAM, AddressFamily::INET) => Carrier::Udp4,
            (SocketType::DGRAM, AddressFamily::INET6) => Carrier::Udp6,
            (SocketType::SEQPACKET, AddressFamily::UNIX) => Carrier::Local,
            _ => return Err(std::io::ErrorKind::InvalidInput.into()),
        };
        Ok(Self {
            fd: Arc::new(fd),
            carrier,
            spin: Spin::new(*PROCESSORS),
            id: AtomicU64::new(id.0),
            sdu_limit: AtomicU32::new(sdu_limit),
            unwanted: Unwanted::new(unwanted),
            reason: AtomicU8::new(0),
            ended: Notify::new(),
            slot: ArcSwap::from_pointee(slot),
            gro: AtomicBool::new(false),
            unsegmented: AtomicBool::new(false),
            left_over: AtomicBool::new(false),
            leftovers: Mutex::new(None),
            closed_noted: AtomicBool::new(false),
            suspected: AtomicBool::new(false),
            released: AtomicBool::new(false),
            link,
            secured: None,
            moving: None,
            carried: OnceLock::new(),
        })
    }

    /// A flow that no daemon knows of, counting into memory of its own.
    #[cfg(test)]
    pub(crate) fn unmanaged(fd: OwnedFd, sdu_limit: u32, outside: Option<Arc<Outside>>) -> std::io::Result<Self> {
        let (map, _) = SlotMap::make(1)?;
        let slot = SlotMap::slot(&Arc::new(map), 0).ok_or(std::io::ErrorKind::InvalidData)?;
        Self::new(fd, FlowId(7), sdu_limit, slot, None, outside.map(|outside| Link { outside, _keeper: None }))
    }

    pub(crate) fn id(&self) -> FlowId {
        FlowId(self.id.load(Ordering::Relaxed))
    }

    pub(crate) fn slot(&self) -> arc_swap::Guard<Arc<Slot>> {
        self.slot.load()
    }

    /// After the daemon's restart: another id perhaps, another slot. `told`: the counts the new slot began with.
    pub(super) fn rehome(&self, id: FlowId, slot: Slot, told: v1::Counters) {
        self.id.store(id.0, Ordering::Relaxed);
        self.closed_noted.store(false, Ordering::Relaxed);
        let old = self.slot.swap(Arc::new(slot));
        // Whoever counts at this moment holds the old slot for an instant more; after the swap nobody new does.
        for _ in 0..COUNTERS_LET_GO {
            if Arc::strong_count(&old) == 1 {
                break;
            }
            std::thread::yield_now();
        }
        let now = old.read();
        self.slot.load().take_times(&old);
        self.slot.load().add(v1::Counters {
            sdus_sent: now.sdus_sent.wrapping_sub(told.sdus_sent),
            bytes_sent: now.bytes_sent.wrapping_sub(told.bytes_sent),
            sdus_received: now.sdus_received.wrapping_sub(told.sdus_received),
            bytes_received: now.bytes_received.wrapping_sub(told.bytes_received),
            send_errors: now.send_errors.wrapping_sub(told.send_errors),
            receive_errors: now.receive_errors.wrapping_sub(told.receive_errors),
        });
    }

    /// Why the flow is over; `None` while it lives.
    pub(crate) fn reason(&self) -> Option<EndReason> {
        match self.reason.load(Ordering::Acquire) {
            0 => None,
            code => EndReason::from_code(code),
        }
    }

    /// The flow is over. The first reason stands.
    pub(crate) fn end(&self, reason: EndReason) {
        let _ = self.reason.compare_exchange(0, reason as u8, Ordering::AcqRel, Ordering::Acquire);
        self.ended.notify_waiters();
    }

    /// After a release with other users left: wakes them, and has them count where it harms no other flow, since the
    /// daemon may give the slot to one.
    pub(crate) fn part(&self) {
        self.shut();
        if let Some(nowhere) = Slot::nowhere() {
            self.slot.store(Arc::new(nowhere));
        }
    }

    /// Wakes whoever waits on the socket.
    pub(super) fn shut(&self) {
        let _ = rustix::net::shutdown(&self.fd, rustix::net::Shutdown::Both);
    }

    /// The socket was found closed: why? Waits for the daemon's word, a bounded time.
    pub(crate) async fn why_closed(&self) -> EndReason {
        loop {
            let ended = self.ended.notified();
            if let Some(reason) = self.note_closed() {
                return reason;
            }
            ended.await;
        }
    }

    /// Waits until the flow is over.
    pub(crate) async fn over(&self) -> EndReason {
        loop {
            let ended = self.ended.notified();
            if let Some(reason) = self.reason() {
                return reason;
            }
            ended.await;
        }
    }

    /// The socket was found closed: the reason, if it is known already.
    pub(crate) fn note_closed(&self) -> Option<EndReason> {
        if self.reason().is_none() && !self.closed_noted.swap(true, Ordering::Relaxed) {
            let note = Note::FoundClosed(self.id());
            if !self.link.as_ref().is_some_and(|link| link.outside.leave(note)) {
                self.end(EndReason::Unknown);
            }
        }
        self.reason()
    }

    /// The kernel reported the peer's port unreachable: the daemon is to find out whether that is so.
    pub(crate) fn suspect(&self) {
        if let Some(link) = &self.link
            && !self.suspected.swap(true, Ordering::Relaxed)
        {
            link.outside.leave(Note::Suspect(self.id()));
        }
    }

    /// The suspicion has been told; the next one may be.
    pub(super) fn suspicion_told(&self) {
        self.suspected.store(false, Ordering::Relaxed);
    }

    /// Tells the daemon that this side is done; the returned receiver ends when that has been written.
    pub(crate) fn release(&self) -> oneshot::Receiver<()> {
        let (written, done) = oneshot::channel();
        self.end(EndReason::Deallocated);
        if let Some(link) = &self.link
            && !self.released.swap(true, Ordering::Relaxed)
        {
            link.outside.release(self.id(), Some(written));
        }
        done
    }

    pub(crate) fn borrow(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        drop(self.release());
    }
}
