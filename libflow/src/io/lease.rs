//! The task of one lease: owns its table and socket, gives redeemed flows to those who wait for them.
#![expect(clippy::disallowed_methods, reason = "io reads the clock and owns the timers")]

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use handoff::client::{OpenError, Receiver, Said, Sender, Slot};
use proto::handoff::ToDaemon;
use proto::shim::Unwanted;
use proto::v1::{self, Failure, FailureKind};
use proto::{FlowId, Token};
use tokio::sync::{mpsc, oneshot, watch};

use super::core::{Core, Link, Note, Outside, Secured};
use super::irm::Irm;
use super::keeper::Keeper;
use super::moving::Moving;
use crate::error::{CallError, Unreachable};
use crate::machine::{CallId, Effect, LeaseTable};

/// A daemon welcomes a program within this time.
const OPEN_WITHIN: Duration = Duration::from_secs(2);
/// Releases still unsent when the last flow is dropped get this long.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);
/// So much may wait to be said before datagrams for the daemon are dropped.
const HEARD_WAITING: usize = 256;
/// Before descriptors are sent again that the kernel did not take.
const NO_ROOM: Duration = Duration::from_millis(2);

/// What the keeper asks of a lease.
pub(super) enum Ask {
    /// A flow for a token.
    Redeem { token: Token, keeper: Arc<Keeper>, reply: oneshot::Sender<Result<Arc<Core>, CallError>> },
    /// The lease is to be open; tells when it is, or why it is not.
    Open { reply: oneshot::Sender<Result<(), CallError>> },
}

/// What comes beside a grant.
struct Granted {
    slot: Slot,
    socket: Option<OwnedFd>,
    unwanted: Option<Unwanted>,
    secured: Option<Secured>,
}

struct Waiting {
    keeper: Arc<Keeper>,
    reply: oneshot::Sender<Result<Arc<Core>, CallError>>,
}

/// What hangs on the lease with irmd.
pub(super) struct Irmd {
    /// gRPC with it, which ends with it.
    pub(super) irm: Rc<Irm>,
    /// Counts how often the lease was opened again.
    pub(super) again: watch::Sender<u64>,
}

type Opened = Result<(Sender, Receiver), OpenError>;

pub(super) struct Lease {
    path: PathBuf,
    table: LeaseTable,
    outside: Arc<Outside>,
    waiting: HashMap<CallId, Waiting>,
    want_open: Vec<oneshot::Sender<Result<(), CallError>>>,
    cores: HashMap<FlowId, Weak<Core>>,
    /// Counters said with a ticket, until the flow is taken back.
    told: HashMap<FlowId, v1::Counters>,
    outgoing: VecDeque<(ToDaemon, Option<Arc<OwnedFd>>)>,
    link: Option<(Sender, Receiver)>,
    opening: Option<Pin<Box<dyn Future<Output = Opened>>>>,
    /// Why the last opening failed.
    failed: Option<Unreachable>,
    next_call: u64,
    /// irmd's lease: what else is done when it is lost, and when it stands again.
    irmd: Option<Irmd>,
    /// The kernel takes no more descriptors at this moment; it does not tell when it does.
    pause_until: Option<tokio::time::Instant>,
    /// Told once all that was queued has been written.
    written: Vec<oneshot::Sender<()>>,
}

impl Lease {
    /// A lease that is opened when it is first wanted. That with irmd is opened again whenever it is lost.
    pub(super) fn new(path: PathBuf, irmd: Option<Irmd>, outside: Arc<Outside>) -> Self {
        Self {
            path,
            table: LeaseTable::new(irmd.is_some(), seed()),
            outside,
            waiting: HashMap::new(),
            want_open: Vec::new(),
            cores: HashMap::new(),
            told: HashMap::new(),
            outgoing: VecDeque::new(),
            link: None,
            opening: None,
            failed: None,
            next_call: 0,
            irmd,
            pause_until: None,
            written: Vec::new(),
        }
    }

    /// Runs until nobody asks any more and the last releases are written.
    pub(super) async fn run(mut self, mut asks: mpsc::Receiver<Ask>) {
        let _end = EndOutside(self.outside.clone());
        let mut last_words: Option<tokio::time::Instant> = None;
        loop {
            self.read_notes();
            self.apply(None);
            self.write();
            if last_words.is_some() && (self.outgoing.is_empty() || self.link.is_none()) {
                return;
            }
            let timeout = self.table.poll_timeout().map(tokio::time::Instant::from_std);
            let outside = self.outside.clone();
            tokio::select! {
                ask = asks.recv(), if last_words.is_none() => match ask {
                    Some(ask) => self.ask(ask),
                    None => last_words = Some(tokio::time::Instant::now() + LAST_WORDS_WITHIN),
                },
                () = outside.notify.notified() => {}
                said = next(self.link.as_ref()) => match said {
                    Ok(said) => self.said(said),
                    Err(_) => self.lost(),
                },
                result = writable(self.link.as_ref()), if !self.outgoing.is_empty() && self.pause_until.is_none() => {
                    if result.is_err() {
                        self.lost();
                    }
                }
                () = until(self.pause_until), if self.pause_until.is_some() => self.pause_until = None,
                opened = poll_option(self.opening.as_mut()) => self.opened(opened),
                () = until(timeout) => self.table.handle_timeout(Instant::now()),
                () = until(last_words), if last_words.is_some() => return,
            }
        }
    }

    fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Redeem { token, keeper, reply } => {
                let call = CallId(self.next_call);
                self.next_call += 1;
                self.waiting.insert(call, Waiting { keeper, reply });
                self.table.redeem(token, call);
            }
            Ask::Open { reply } if self.table.is_open() => drop(reply.send(Ok(()))),
            Ask::Open { reply } => {
                self.want_open.push(reply);
                self.table.want();
            }
        }
    }

    fn read_notes(&mut self) {
        for note in self.outside.take_notes() {
            match note {
                Note::Released { flow, said, written } => {
                    self.cores.remove(&flow);
                    self.told.remove(&flow);
                    self.table.released(flow, said);
                    self.written.extend(written);
                }
                Note::Suspect(flow) => self.table.suspect(flow),
                // What the daemon does not read it does without.
                Note::Heard(heard) if self.link.is_some() && self.outgoing.len() < HEARD_WAITING => {
                    self.outgoing.push_back((ToDaemon::Heard(heard), None));
                }
                Note::Heard(_) => {}
                Note::FoundClosed(flow) => self.table.found_closed(Instant::now(), flow),
            }
        }
    }

    fn said(&mut self, said: Said) {
        match said {
            Said::Granted { asked, flow, slot, sdu_limit, ticket, unwanted, binding, fixed, movable, socket } => {
                self.table.granted(&asked, flow, sdu_limit, ticket, socket.is_some());
                let secured = binding.map(|binding| Secured { binding, fixed, movable });
                self.apply(Some(Granted { slot, socket, unwanted, secured }));
            }
            Said::Denied { asked, failure } => self.table.denied(Instant::now(), &asked, failure),
            Said::Moved { flow, peer, ticket } => {
                self.table.moved(flow, ticket);
                if let Some(core) = self.core_of(flow) {
                    core.moved(peer);
                }
            }
            Said::Gone { flow, reason } => self.table.gone(Instant::now(), flow, reason),
        }
    }

    fn opened(&mut self, opened: Opened) {
        self.opening = None;
        let result = match opened {
            Ok((sender, receiver)) => {
                self.outside.set_sender(Some(sender.clone()));
                self.link = Some((sender, receiver));
                self.failed = None;
                self.table.opened();
                Ok(())
            }
            Err(error) => {
                let unreachable = Unreachable::handoff(&self.path, &error);
                self.failed = Some(unreachable.clone());
                let (failure, told) = match error {
                    // It is there, and says why not.
                    OpenError::Denied(failure) => (failure.clone(), CallError::Failed(failure)),
                    other => {
                        let failure = Failure::new(FailureKind::IpcpDown, other.to_string());
                        (failure, CallError::Handoff(unreachable))
                    }
                };
                self.table.open_failed(Instant::now(), &failure);
                Err(told)
            }
        };
        for reply in self.want_open.drain(..) {
            let _ = reply.send(result.clone());
        }
    }

    fn lost(&mut self) {
        self.outside.set_sender(None);
        self.link = None;
        self.outgoing.clear();
        if let Some(irmd) = &self.irmd {
            irmd.irm.forget();
        }
        self.table.lost(Instant::now());
    }

    /// Does what the table wants; `granted` came beside what was said last.
    fn apply(&mut self, mut granted: Option<Granted>) {
        for effect in self.table.take_effects() {
            match effect {
                Effect::Open => self.opening = Some(Box::pin(open(self.path.clone()))),
                Effect::Say(what) => self.outgoing.push_back((what, None)),
                Effect::HandBack { flow, ticket } => self.hand_back(flow, ticket),
                Effect::Resolve { call, result } => {
                    let Some(waiting) = self.waiting.remove(&call) else { continue };
                    let result = match (result, granted.take()) {
                        (Ok(taken), Some(granted)) if granted.socket.is_some() => self.core(taken, granted, &waiting),
                        (Ok(_), _) => continue,
                        (Err(failure), _) => Err(self.call_error(failure)),
                    };
                    // A caller that is gone drops the flow, which releases it.
                    let _ = waiting.reply.send(result);
                }
                Effect::Rehome { was, now } => {
                    let Some((core, granted)) = self.core_of(was).zip(granted.take()) else { continue };
                    self.cores.remove(&was);
                    self.cores.insert(now, Arc::downgrade(&core));
                    core.rehome(now, granted.slot, self.told.remove(&was).unwrap_or_default());
                }
                Effect::End { flow, reason } => {
                    if let Some(core) = self.core_of(flow) {
                        core.end(reason.into());
                    }
                }
                Effect::Shut { flow } => {
                    if let Some(core) = self.core_of(flow) {
                        core.shut();
                    }
                }
                Effect::Announce => {
                    if let Some(irmd) = &self.irmd {
                        irmd.again.send_modify(|times| *times += 1);
                    }
                }
            }
        }
    }

    fn core_of(&self, flow: FlowId) -> Option<Arc<Core>> {
        self.cores.get(&flow)?.upgrade()
    }

    fn core(
        &mut self,
        taken: crate::machine::Taken,
        granted: Granted,
        waiting: &Waiting,
    ) -> Result<Arc<Core>, CallError> {
        let link = Link { outside: self.outside.clone(), _keeper: Some(waiting.keeper.clone()) };
        let Granted { slot, socket, unwanted, secured } = granted;
        let made = match socket {
            Some(socket) => Core::new(socket, taken.flow, taken.sdu_limit, slot, unwanted, Some(link)),
            None => Err(std::io::ErrorKind::NotFound.into()),
        };
        match made {
            Ok(mut core) => {
                core.secured = secured;
                if secured.is_some_and(|secured| secured.movable) {
                    core.moving = Moving::of(&core.fd);
                }
                let core = Arc::new(core);
                self.cores.insert(taken.flow, Arc::downgrade(&core));
                Ok(core)
            }
            Err(error) => {
                let text = format!("flow {} came with a socket this version does not know: {error}", taken.flow);
                self.table.released(taken.flow, false);
                Err(CallError::Failed(Failure::new(FailureKind::Internal, text)))
            }
        }
    }

    fn call_error(&self, failure: Failure) -> CallError {
        match &self.failed {
            Some(unreachable) if self.link.is_none() => CallError::Handoff(unreachable.clone()),
            _ => CallError::Failed(failure),
        }
    }

    fn hand_back(&mut self, flow: FlowId, ticket: Vec<u8>) {
        let Some(core) = self.core_of(flow) else { return };
        let counters = core.slot().read();
        self.told.insert(flow, counters);
        let adopt = ToDaemon::Adopt(v1::Adopt { ticket, counters: Some(counters) });
        self.outgoing.push_back((adopt, Some(core.fd.clone())));
    }

    /// Writes as much as the daemon takes.
    fn write(&mut self) {
        let Some((sender, _)) = &self.link else {
            self.outgoing.clear();
            return self.written.clear();
        };
        while let Some((what, beside)) = self.outgoing.front() {
            match sender.say(what, beside.as_ref().map(|fd| fd.as_fd())) {
                Ok(()) => {
                    if let ToDaemon::Suspect(v1::Suspect { flow_id }) = what
                        && let Some(core) = self.core_of(FlowId(*flow_id))
                    {
                        core.suspicion_told();
                    }
                    self.outgoing.pop_front();
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                // Descriptors in flight are limited; the receiver's reading makes room.
                Err(error) if error.raw_os_error() == Some(libc::ETOOMANYREFS) => {
                    return self.pause_until = Some(tokio::time::Instant::now() + NO_ROOM);
                }
                // The receiver will read the end.
                Err(_) => return self.outgoing.clear(),
            }
        }
        for written in self.written.drain(..) {
            let _ = written.send(());
        }
    }
}

/// Another one for each lease of each process, so that their pauses differ.
fn seed() -> u64 {
    static LEASES: AtomicU32 = AtomicU32::new(0);
    u64::from(std::process::id()) << 32 | u64::from(LEASES.fetch_add(1, Ordering::Relaxed))
}

/// Whatever ends the task, flows learn that nobody answers.
struct EndOutside(Arc<Outside>);

impl Drop for EndOutside {
    fn drop(&mut self) {
        self.0.end();
    }
}

async fn next(link: Option<&(Sender, Receiver)>) -> std::io::Result<Said> {
    match link {
        Some((_, receiver)) => receiver.next().await,
        None => std::future::pending().await,
    }
}

async fn writable(link: Option<&(Sender, Receiver)>) -> std::io::Result<()> {
    match link {
        Some((_, receiver)) => receiver.writable().await,
        None => std::future::pending().await,
    }
}

async fn open(path: PathBuf) -> Opened {
    tokio::time::timeout(OPEN_WITHIN, handoff::client::open(&path)).await.unwrap_or(Err(OpenError::Silent(OPEN_WITHIN)))
}

async fn poll_option<T>(future: Option<&mut Pin<Box<dyn Future<Output = T>>>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
