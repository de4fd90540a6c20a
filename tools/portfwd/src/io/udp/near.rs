//! `udp:5353 -> flow:NAME`: from a socket into a message flow, in which each client has a number.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libflow::{AllocError, Batch as Messages, Flow, FlowError, Qos, Stack};
use proto::forward::Broken;
use proto::forward::datagram::{LONGEST_HEAD, Message, Said};
use tokio::io::Interest;
use tool::watched;

use super::batch::{MANY, Sending};
use super::direct::send_all;
use super::upward::datagrams;
use super::{AT_ONCE, Client, Rules, bounds, changed, until};
use crate::io::accept::cut;
use crate::io::connection;
use crate::io::live::Live;
use crate::io::over;
use crate::io::roster::Listed;
use crate::io::running::{Place, Running};
use crate::io::worker::Worker;
use crate::machine::cause::{Cause, Refusal};
use crate::machine::life::{Outcome, Side};
use crate::machine::udp::{Arrival, SessionId, Sessions};
use crate::said::end::End;

/// Bytes of clients' datagrams that wait while a flow is allocated; more are dropped.
const HELD: usize = 256 << 10;
/// After a flow that was not allocated none is asked for again so long.
const AGAIN: Duration = Duration::from_secs(1);

type Allocating = Pin<Box<dyn Future<Output = (usize, Result<Flow, AllocError>)> + Send>>;

/// The way to the far side.
enum Way {
    /// None; before this moment none is asked for.
    None(Option<Instant>),
    Allocating(Allocating),
    Flow(usize, Arc<Flow>),
}

/// What became of the way.
enum News {
    Allocated(usize, Box<Result<Flow, AllocError>>),
    /// Messages are there.
    Said,
    Gone(FlowError),
}

struct Near {
    running: Arc<Running>,
    worker: Arc<Worker>,
    stack: Stack,
    sessions: Sessions<Client>,
    talks: Vec<Option<Talk>>,
    way: Way,
    message: Vec<u8>,
    /// What came while there was no flow yet.
    held: Vec<(SessionId, Box<[u8]>)>,
    held_bytes: usize,
}

/// A client.
struct Talk {
    id: SessionId,
    answered: bool,
    live: Arc<Live>,
    _listed: Listed,
    _place: Place,
}

/// Serves until the rule is taken away; then its sessions end.
pub(crate) async fn serve(worker: Arc<Worker>, mut rules: Rules, clients: OwnedFd, stack: Stack) {
    let Some(running) = rules.borrow_and_update().clone() else { return };
    let name = running.rule.name.clone();
    let near = Near {
        sessions: Sessions::new(bounds(&running.rule)),
        running,
        worker,
        stack,
        talks: Vec::new(),
        way: Way::None(None),
        message: Vec::with_capacity(2048),
        held: Vec::new(),
        held_bytes: 0,
    };
    if let Err(error) = near.run(&mut rules, clients).await {
        tracing::error!("rule {name} cannot carry datagrams any more: {error}");
    }
}

impl Near {
    async fn run(mut self, rules: &mut Rules, clients: OwnedFd) -> std::io::Result<()> {
        let mut phase = self.worker.phase();
        let local = rustix::net::getsockname(&clients).ok().and_then(|local| SocketAddr::try_from(local).ok());
        let clients = watched(clients, Interest::READABLE)?;
        let mut messages = Messages::new();
        loop {
            let due = self.sessions.poll_timeout().map(|due| due + Duration::from_millis(50));
            tokio::select! {
                () = cut(&mut phase) => break,
                running = changed(rules) => match running {
                    Some(running) => self.change(running),
                    None => break,
                },
                () = until(due) => while let Some(id) = self.sessions.poll_silent(Instant::now()) {
                    self.over(id, &Outcome::Clean);
                },
                news = self.way.news(&mut messages) => match news {
                    News::Allocated(target, done) => self.allocated(target, *done),
                    News::Said => self.answer(Instant::now(), clients.get_ref().as_fd(), &messages),
                    News::Gone(error) => self.gone(&error),
                },
                guard = clients.readable() => {
                    let mut guard = guard?;
                    if !self.take(Instant::now(), clients.get_ref().as_fd(), local) {
                        guard.clear_ready();
                    }
                    drop(guard);
                    tokio::task::yield_now().await;
                }
            }
        }
        let ids: Vec<SessionId> = self.sessions.iter().collect();
        for id in ids {
            self.over(id, &Outcome::Broken { by: None, cause: Cause::plain(Broken::Stopped) });
        }
        Ok(())
    }

    fn change(&mut self, running: Arc<Running>) {
        self.sessions.set_bounds(bounds(&running.rule));
        if self.running.rule.targets != running.rule.targets
            || self.running.rule.options.layers != running.rule.options.layers
        {
            // The sessions go on, at another far side.
            self.way = Way::None(None);
            let held = self.unheld().len() as u64;
            if held > 0 {
                self.running.counters.dropped("no flow", held);
            }
            self.unanswered();
        }
        self.running = running;
    }

    /// The far side knows nobody: each client's address is said again.
    fn unanswered(&mut self) {
        for talk in self.talks.iter_mut().flatten() {
            talk.answered = false;
        }
    }

    fn allocated(&mut self, target: usize, done: Result<Flow, AllocError>) {
        match done {
            Ok(flow) => {
                self.running.tried(target, None);
                self.way = Way::Flow(target, Arc::new(flow));
                self.unanswered();
                for talk in self.talks.iter().flatten() {
                    talk.live.joined(target, || self.running.claim(target));
                }
                for (id, datagram) in self.unheld() {
                    self.send(id, &datagram);
                }
            }
            Err(error) => {
                let refusal = Refusal::of_alloc(&error);
                self.running.tried(target, Some(&refusal));
                tracing::warn!("rule {}: {refusal}; datagrams are dropped", self.running.rule.name);
                let held = self.unheld().len() as u64;
                if held > 0 {
                    self.running.counters.dropped("no flow", held);
                }
                self.way = Way::None(Some(Instant::now() + AGAIN));
            }
        }
    }

    fn gone(&mut self, error: &FlowError) {
        tracing::info!("rule {}: {error}", self.running.rule.name);
        self.way = Way::None(None);
    }

    /// What clients say goes into the flow. Whether there may be more.
    fn take(&mut self, now: Instant, clients: BorrowedFd<'_>, local: Option<SocketAddr>) -> bool {
        super::with_batch(|batch| {
            for _ in 0..AT_ONCE {
                batch.clear();
                match batch.receive(clients) {
                    Ok(_) => {}
                    Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
                }
                for place in 0..batch.len() {
                    let (received, bytes) = batch.get(place);
                    let Some(address) = received.from else { continue };
                    let key = Client { address, local: received.to };
                    let listener = local.map(|local| SocketAddr::new(received.to.unwrap_or(local.ip()), local.port()));
                    for datagram in datagrams(&received, bytes) {
                        self.forward(now, key, listener, datagram);
                    }
                }
            }
            true
        })
    }

    fn forward(&mut self, now: Instant, key: Client, listener: Option<SocketAddr>, datagram: &[u8]) {
        let Some(id) = self.session(now, key, listener) else { return };
        if matches!(self.way, Way::None(before) if before.is_none_or(|before| before <= now)) {
            self.ask();
        }
        match self.way {
            Way::Flow(..) => self.send(id, datagram),
            // The first one is a question, mostly, which would be asked again late or never.
            Way::Allocating(_) if self.held_bytes + datagram.len() + 64 <= HELD => {
                self.held_bytes += datagram.len() + 64;
                self.held.push((id, datagram.into()));
            }
            Way::Allocating(_) | Way::None(_) => self.running.counters.dropped("no flow", 1),
        }
    }

    /// What waited for a flow.
    fn unheld(&mut self) -> Vec<(SessionId, Box<[u8]>)> {
        self.held_bytes = 0;
        std::mem::take(&mut self.held)
    }

    fn send(&mut self, id: SessionId, datagram: &[u8]) {
        // It may be over by now, and its place another's.
        let Some(Some(talk)) = self.talks.get(id.place()) else { return };
        let Way::Flow(_, flow) = &self.way else { return };
        if talk.id != id {
            return;
        }
        let said = match talk.answered {
            true => Said::Data(datagram),
            false => Said::First(talk.live.client, datagram),
        };
        self.message.clear();
        Message { client: number(id), said }.encode(&mut self.message);
        match flow.try_send(&self.message) {
            Ok(()) => talk.live.carried(Side::Client, datagram.len() as u64),
            Err(FlowError::WouldBlock) => self.running.counters.dropped("flow's queue full", 1),
            Err(FlowError::Gone(_)) => self.running.counters.dropped("no flow", 1),
            Err(_) if self.message.len() > flow.sdu_limit() => self.running.counters.dropped("too long", 1),
            Err(_) => self.running.counters.dropped("failed", 1),
        }
    }

    fn session(&mut self, now: Instant, key: Client, listener: Option<SocketAddr>) -> Option<SessionId> {
        if let Some(id) = self.sessions.find(&key) {
            self.sessions.from_client(now, key);
            return Some(id);
        }
        if !self.sessions.has_room() {
            self.running.counters.dropped("too many clients", 1);
            return None;
        }
        let client = SocketAddr::new(key.address.ip().to_canonical(), key.address.port());
        let live = Arc::new(Live::new(self.running.clone(), Some(client), listener, now));
        let place = match self.running.admit_session(Some(client)) {
            Ok(place) => place,
            Err(refusal) => {
                connection::turned_away(&live, &refusal);
                return None;
            }
        };
        let id = match self.sessions.from_client(now, key) {
            Arrival::Known(id) | Arrival::New(id, None) => id,
            Arrival::New(id, Some(evicted)) => {
                self.over(evicted, &Outcome::Clean);
                id
            }
            Arrival::Full => {
                self.running.counters.dropped("too many clients", 1);
                return None;
            }
        };
        if let Way::Flow(target, _) = &self.way {
            live.joined(*target, || self.running.claim(*target));
        }
        let listed = self.worker.roster.list(live.clone());
        if self.talks.len() <= id.place() {
            self.talks.resize_with(id.place() + 1, || None);
        }
        self.talks[id.place()] = Some(Talk { id, answered: false, live, _listed: listed, _place: place });
        Some(id)
    }

    /// Asks for a flow, to the target whose turn it is.
    fn ask(&mut self) {
        let next = self.running.targets(None).next();
        let Some((target, name)) = next.and_then(|(place, target, _)| match &target.end {
            End::Flow(name) => Some((place, name.as_str().into())),
            _ => None,
        }) else {
            return;
        };
        let options = &self.running.rule.options;
        let (layers, limit) = (options.layers.clone(), options.connect_timeout);
        let asking = over::Asking { stack: self.stack.clone(), name, layers, limit };
        self.way = Way::Allocating(Box::pin(async move { (target, asking.alloc(Qos::message()).await) }));
    }

    /// What the far side says goes to the clients.
    fn answer(&mut self, now: Instant, clients: BorrowedFd<'_>, messages: &Messages) {
        let mut sending: Vec<Sending<'_>> = Vec::with_capacity(MANY);
        for message in messages.iter() {
            let Some(Message { client, said }) = Message::decode(message) else {
                self.running.counters.dropped("no forwarder's message", 1);
                continue;
            };
            let talk = self.talks.get_mut(client as usize & 0xffff).and_then(Option::as_mut);
            let Some(talk) = talk.filter(|talk| number(talk.id) == client) else {
                self.running.counters.dropped("client unknown", 1);
                continue;
            };
            match said {
                Said::Data(datagram) | Said::First(_, datagram) => {
                    let Some(to) = self.sessions.from_target(now, talk.id) else { continue };
                    talk.answered = true;
                    talk.live.carried(Side::Target, datagram.len() as u64);
                    sending.push(Sending { bytes: datagram, segment: 0, to: Some(to.address), from: to.local });
                }
                Said::Refused(verdict) => {
                    let id = talk.id;
                    let cause = Cause::said(Broken::Unreachable, format!("far side: {verdict}"));
                    self.over(id, &Outcome::Broken { by: Some(Side::Target), cause });
                }
            }
        }
        send_all(&self.running, clients, &sending);
    }

    fn over(&mut self, id: SessionId, outcome: &Outcome) {
        self.sessions.end(id);
        if let Some(talk) = self.talks.get_mut(id.place()).and_then(Option::take) {
            connection::ended(&talk.live, outcome);
        }
    }
}

/// A session's number in the flow: its place, of 16 bits, and which of those that had the place it is.
fn number(id: SessionId) -> u32 {
    let [place, turn] = [id.number() & 0xffff, id.number() >> 32 & 0xffff];
    u32::try_from(turn << 16 | place).unwrap_or(u32::MAX)
}

impl Way {
    async fn news(&mut self, messages: &mut Messages) -> News {
        match self {
            Self::None(_) => std::future::pending().await,
            Self::Allocating(allocating) => {
                let (target, done) = allocating.await;
                News::Allocated(target, Box::new(done))
            }
            Self::Flow(_, flow) => match flow.recv_batch(messages).await {
                Ok(_) => News::Said,
                Err(error) => News::Gone(error),
            },
        }
    }
}

/// A datagram that is longer than this, less than the flow carries, may not fit with a head before it.
const _: () = assert!(LONGEST_HEAD < 100);
