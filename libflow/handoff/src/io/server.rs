//! The server's handle and its main task.
#![expect(clippy::disallowed_methods, reason = "io reads the clock, owns timers and the server's task")]

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proto::handoff::ToProgram;
use proto::v1::{Denied, FailureKind, PathInfo};
use proto::{FlowId, Token};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::admission::Admission;
use super::lease::{self, Outbox};
use super::listener::Listener;
use super::packet;
use super::slots::{Figures, Slot, SlotMap};
use crate::machine::{Effect, LeaseId, Ledger, Limits, Offered, Told};
use crate::server::{AdoptionId, Config, Counters, EndReason, Event, Failure, Offer, Process};

/// Events kept for a daemon that does not read; beyond it the programs' packets are left unread.
const EVENTS_KEPT: usize = 1024;
/// Redeems of one lease that may wait for pending flows.
const WAITING_PER_LEASE: usize = 4096;
/// Accepting pauses this long when descriptors ran out, rather than spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Handle to a hand-over server. Cheap to clone; no call waits.
///
/// The server lives until the receiver of its events is dropped.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

/// What the handle, the main task and the leases' tasks share. Locked for the length of a table look-up only.
pub(super) struct Shared {
    state: Mutex<State>,
    /// The main task has an event to forward or a new deadline to wait for.
    wake: Notify,
    /// There is room for events again.
    room: Notify,
    refused: AtomicU64,
}

pub(super) struct State {
    pub(super) ledger: Ledger<Arc<OwnedFd>>,
    pub(super) outboxes: HashMap<LeaseId, Outbox>,
    events: VecDeque<Event>,
}

impl Server {
    /// Binds the socket (taking a dead server's over) and starts the server's task on the current runtime.
    pub fn start(config: Config) -> io::Result<(Self, mpsc::Receiver<Event>)> {
        let listener = Listener::bind(&config.path)?;
        Ok(Self::serve(config, listener))
    }

    /// The same on a SEQPACKET socket that a service manager has bound and listens on: `config.path` stays when the
    /// server ends.
    pub fn start_on(config: Config, socket: OwnedFd) -> io::Result<(Self, mpsc::Receiver<Event>)> {
        let listener = Listener::inherit(socket)?;
        Ok(Self::serve(config, listener))
    }

    fn serve(config: Config, listener: Listener) -> (Self, mpsc::Receiver<Event>) {
        let limits = Limits { slots: config.slots, waiting: WAITING_PER_LEASE, take_within: config.take_within };
        let state = State { ledger: Ledger::new(limits), outboxes: HashMap::new(), events: VecDeque::new() };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            wake: Notify::new(),
            room: Notify::new(),
            refused: AtomicU64::new(0),
        });
        let (sender, receiver) = mpsc::channel(EVENTS_KEPT);
        // Detached on purpose: it ends when the daemon drops the receiver.
        tokio::spawn(run(listener, shared.clone(), sender, Admission::new(config)));
        (Self { shared }, receiver)
    }

    /// A flow is pending: an early redeem of `token` waits (a bounded number of them) for `offer` or `withdraw`.
    pub fn expect(&self, token: Token) {
        self.shared.change(|ledger| ledger.expect(token));
    }

    /// The flow's end can be taken now.
    pub fn offer(&self, offer: Offer) {
        let Offer { token, flow, owner, socket, sdu_limit, ticket, unwanted, binding, fixed, movable } = offer;
        let offered = Offered { flow, owner, socket, sdu_limit, ticket, unwanted, binding, fixed, movable };
        self.shared.change(|ledger| ledger.offer(Instant::now(), token, offered));
    }

    /// The expected or offered token is void; redeems that wait for it are denied with `failure`. No event follows.
    pub fn withdraw(&self, token: Token, failure: Failure) {
        self.shared.change(|ledger| ledger.withdraw(token, &failure));
    }

    /// The flow is over: tells the program, now or right after it took the flow. No event follows, and the row goes
    /// when the program releases the flow.
    pub fn gone(&self, flow: FlowId, reason: EndReason) {
        self.shared.change(|ledger| ledger.gone(flow, reason));
    }

    /// The flow's peer is elsewhere. `ticket` is shown from now on in place of the first one.
    pub fn moved(&self, flow: FlowId, peer: SocketAddr, ticket: Vec<u8>) {
        self.shared.change(|ledger| ledger.moved(flow, peer, ticket));
    }

    /// The daemon is done with the flow: its slot is free as soon as the program has released it too.
    pub fn forget(&self, flow: FlowId) {
        self.shared.change(|ledger| ledger.forget(flow));
    }

    /// What the flow's program says it has carried; `None` unless a program holds the flow.
    pub fn counters(&self, flow: FlowId) -> Option<Counters> {
        self.with_slot(flow, |slot| slot.read())
    }

    /// The same, and when it carried something last.
    pub fn figures(&self, flow: FlowId) -> Option<Figures> {
        self.with_slot(flow, |slot| slot.figures())
    }

    /// What the program of a message or stream flow of this age says of its path; `None`: nothing yet.
    pub fn path(&self, flow: FlowId, age_ms: u64) -> Option<PathInfo> {
        self.with_slot(flow, |slot| slot.read_path(age_ms)).flatten()
    }

    fn with_slot<R>(&self, flow: FlowId, read: impl FnOnce(Slot) -> R) -> Option<R> {
        let state = self.shared.lock();
        let (lease, slot) = state.ledger.slot(flow)?;
        let slots = state.outboxes.get(&lease)?.slots.as_ref()?;
        SlotMap::slot(slots, slot).map(read)
    }

    /// What all flows have carried since the server started, as their programs count: those that are over too, and of
    /// those that were brought back what they carried since. Never falls.
    pub fn carried(&self) -> Counters {
        let mut state = self.shared.lock();
        let State { ledger, outboxes, .. } = &mut *state;
        ledger.carried(|lease, slot| read(outboxes, lease, slot))
    }

    /// Leases refused because there were as many as may be, in all or of a user.
    pub fn refused_leases(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Who holds the flow; `None` unless a program does.
    pub fn holder(&self, flow: FlowId) -> Option<Process> {
        self.shared.lock().ledger.holder(flow)
    }

    /// Answers [`Event::Adopt`]: the flow is the program's again, under `flow`. `socket` is the daemon's to keep; the
    /// program still has its own.
    pub fn adopted(&self, adoption: AdoptionId, flow: FlowId, socket: Arc<OwnedFd>, sdu_limit: u32, ticket: Vec<u8>) {
        drop(socket);
        self.shared.change(|ledger| ledger.adopted(adoption, flow, sdu_limit, ticket));
    }

    /// Answers [`Event::Adopt`]: no.
    pub fn denied(&self, adoption: AdoptionId, failure: Failure) {
        self.shared.change(|ledger| ledger.denied(adoption, failure));
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the ledger decide and does what follows, all but waiting.
    pub(super) fn change(&self, decide: impl FnOnce(&mut Ledger<Arc<OwnedFd>>)) {
        self.change_with(None, decide);
    }

    /// The same for a packet that a descriptor may have come with.
    pub(super) fn change_with(&self, mut descriptor: Option<OwnedFd>, decide: impl FnOnce(&mut Ledger<Arc<OwnedFd>>)) {
        let mut state = self.lock();
        let deadline = state.ledger.poll_timeout();
        decide(&mut state.ledger);
        let mut wake = deadline.is_none() && state.ledger.poll_timeout().is_some();
        while let Some(effect) = state.ledger.poll_effect() {
            wake |= state.apply(effect, &mut descriptor);
        }
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Waits until the daemon has read enough of its events.
    pub(super) async fn room(&self) {
        loop {
            let room = self.room.notified();
            if self.lock().events.len() < EVENTS_KEPT {
                return;
            }
            room.await;
        }
    }
}

impl State {
    /// Does one effect; says whether there is an event to forward.
    fn apply(&mut self, effect: Effect<Arc<OwnedFd>>, descriptor: &mut Option<OwnedFd>) -> bool {
        match effect {
            Effect::Tell(told) => {
                let event = self.event(told, descriptor);
                let told = event.is_some();
                self.events.extend(event);
                return told;
            }
            Effect::Welcome { lease, slots } => self.outbox(lease, |outbox| outbox.welcome(slots)),
            Effect::Say { lease, packet } => self.outbox(lease, |outbox| outbox.push(packet)),
            Effect::Close { lease, why } => self.outbox(lease, |outbox| outbox.close(why)),
            Effect::Grant { lease, flow, token, packet, socket } => {
                self.outbox(lease, |outbox| outbox.push_grant(packet, socket, flow, token));
            }
            Effect::Count { lease, slot, seen } => {
                if let Some(counters) = read(&self.outboxes, lease, slot) {
                    self.ledger.counted(seen, counters);
                }
            }
            Effect::SetSlot { lease, slot, counters } => self.outbox(lease, |outbox| {
                if let Some(slot) = outbox.slots.as_ref().and_then(|slots| SlotMap::slot(slots, slot)) {
                    slot.write(counters);
                }
            }),
        }
        false
    }

    fn event(&mut self, told: Told, descriptor: &mut Option<OwnedFd>) -> Option<Event> {
        Some(match told {
            Told::LeaseOpened(process) => Event::LeaseOpened(process),
            Told::LeaseClosed { lease, process, flows, last_of_process } => {
                let slots = self.outboxes.remove(&lease).and_then(|outbox| outbox.slots);
                let read = |slot| SlotMap::slot(slots.as_ref()?, slot).map(|slot| slot.figures());
                let (flows, figures) = flows.into_iter().map(|(id, slot)| (id, read(slot).unwrap_or_default())).unzip();
                Event::LeaseClosed { process, flows, figures, last_of_process }
            }
            Told::Taken { flow, process } => Event::Taken { flow, process },
            Told::NotTaken { flow } => Event::NotTaken { flow },
            Told::Released { flow } => {
                let held = self.ledger.slot(flow);
                let slots = held.and_then(|(lease, slot)| Some((self.outboxes.get(&lease)?.slots.as_ref()?, slot)));
                let slot = slots.and_then(|(slots, slot)| SlotMap::slot(slots, slot));
                Event::Released { flow, counters: slot.map(|slot| slot.read()).unwrap_or_default() }
            }
            Told::Suspect { flow } => Event::Suspect { flow },
            Told::Heard { flow, from, datagram } => Event::Heard { flow, from, datagram },
            Told::Adopt { adoption, process, ticket, counters } => {
                Event::Adopt { adoption, process, ticket, socket: descriptor.take()?, counters }
            }
        })
    }

    fn outbox(&mut self, lease: LeaseId, act: impl FnOnce(&mut Outbox)) {
        if let Some(outbox) = self.outboxes.get_mut(&lease) {
            act(outbox);
        }
    }
}

/// What a slot holds; `None` where its lease has no memory (any more).
fn read(outboxes: &HashMap<LeaseId, Outbox>, lease: LeaseId, slot: u32) -> Option<Counters> {
    SlotMap::slot(outboxes.get(&lease)?.slots.as_ref()?, slot).map(|slot| slot.read())
}

/// The main task: accepts leases, forwards events, lets tokens expire.
async fn run(listener: Listener, shared: Arc<Shared>, events: mpsc::Sender<Event>, mut admission: Admission) {
    let mut leases = JoinSet::new();
    let mut next = 0;
    let mut paused_until = None;
    loop {
        let deadline = shared.lock().ledger.poll_timeout();
        tokio::select! {
            () = events.closed() => break,
            () = shared.wake.notified() => {}
            () = until(deadline) => shared.change(|ledger| ledger.handle_timeout(Instant::now())),
            () = until(paused_until), if paused_until.is_some() => paused_until = None,
            Some(ended) = leases.join_next() => admission.left(ended.ok()),
            accepted = listener.accept(), if paused_until.is_none() => match accepted {
                Ok(Some((socket, process))) => {
                    if let Err(why) = admission.enter(process) {
                        shared.refused.fetch_add(1, Ordering::Relaxed);
                        refuse(&socket, process, why);
                        continue;
                    }
                    next += 1;
                    let lease = LeaseId(next);
                    shared.lock().outboxes.insert(lease, Outbox::new());
                    shared.change(|ledger| ledger.opened(lease, process));
                    let lease = lease::run(shared.clone(), lease, process, socket);
                    leases.spawn(async move {
                        lease.await;
                        process.uid
                    });
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "no program can open a lease for {ACCEPT_PAUSE:?}; close flows or raise the descriptor limit");
                    paused_until = Some(Instant::now() + ACCEPT_PAUSE);
                }
            },
        }
        if forward(&shared, &events).await.is_err() {
            break;
        }
    }
}

async fn forward(shared: &Shared, events: &mpsc::Sender<Event>) -> Result<(), mpsc::error::SendError<Event>> {
    loop {
        let Some(event) = shared.lock().events.pop_front() else { return Ok(()) };
        shared.room.notify_waiters();
        events.send(event).await?;
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn refuse(socket: &OwnedFd, process: Process, why: String) {
    use std::os::fd::AsFd;
    tracing::debug!(pid = process.pid, uid = process.uid, why, "a program's lease was refused");
    let failure = Failure::new(FailureKind::Exhausted, why);
    let denied = ToProgram::Denied(Denied { token: Vec::new(), failure: Some(failure) });
    let _ = packet::send(socket.as_fd(), &denied.encode(), None);
}
