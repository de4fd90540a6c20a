//! The task that owns the machine and every flow's socket.
//!
//! It waits on: the listen port, the sockets of pending flows, calls from gRPC, events of the hand-over, irmd's answers, the
//! machine's next deadline. After each it does what the machine wants done.
#![expect(clippy::disallowed_methods, reason = "io reads the clock")]

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use handoff::server as hand;
use handoff::service::Service;
use proto::FlowId;
use proto::shim;
use proto::v1::{self, Failure, FailureKind};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::asking::{Asking, Ready};
use super::batch::{self, Batch};
use super::command::{Command, Moment, Reply};
use super::directory;
use super::dns::{Dns, Done};
use super::irm::{Irm, News};
use super::limits;
use super::network::{self, Network};
use super::router::{Heard, Router};
use super::session::{self, Server};
use super::socket::{self, Listener, Received};
use super::state::Identity;
use crate::config::{Bootstrap, Sp};
use crate::machine::directory::Waiter;
use crate::machine::rendezvous::Rendezvous;
use crate::machine::{Accept, Key, Shim, Via};

/// Datagrams read from one pending flow's socket, or events of the hand-over, before others get their turn.
const PER_TURN: usize = 64;

/// What the driver works with beside sockets.
pub(super) struct Tools {
    pub(super) hand: hand::Server,
    pub(super) hand_events: mpsc::Receiver<hand::Event>,
    pub(super) irm: Irm,
    pub(super) news: mpsc::Sender<News>,
    pub(super) identity: Identity,
    pub(super) ipcp: String,
    pub(super) service: Service,
}

pub(super) struct Driver {
    pub(super) shim: Shim,
    pub(super) tools: Tools,
    pub(super) listen: AsyncFd<OwnedFd>,
    /// Held as long as the listen port.
    _guard: Option<OwnedFd>,
    pub(super) asking: Asking,
    pub(super) sockets: HashMap<Key, Arc<OwnedFd>>,
    /// Second sockets on ports of accepted flows.
    pub(super) catchers: HashMap<Key, OwnedFd>,
    /// What processes that hold a lease are called.
    pub(super) commands: HashMap<u32, Arc<str>>,
    /// What flows had carried whose slots are given back, until their ends are told.
    pub(super) parting: HashMap<proto::FlowId, v1::Counters>,
    /// Datagrams that the queues of flows that are over had turned away.
    pub(super) overflown: u64,
    /// Those of flows that were brought back, before they were.
    pub(super) overflown_before: u64,
    /// Calls of `Alloc` that wait.
    pub(super) allocs: HashMap<Key, (FlowId, Reply<v1::AllocReply>)>,
    /// Calls of `FlowReqArr` under way.
    pub(super) arrivals: JoinSet<(Key, Result<Accept, Failure>)>,
    pub(super) arriving: HashMap<Key, AbortHandle>,
    /// Name servers, if the layer has a zone.
    pub(super) dns: Option<Dns>,
    /// The rendezvous' address being looked up.
    pub(super) server: Server,
    /// What the router is asked.
    pub(super) router: Router,
    /// Changes of this host's addresses, where the layer follows them.
    pub(super) network: Option<Network>,
    /// Calls that wait for a name server's word.
    pub(super) waiters: HashMap<Waiter, Reply<()>>,
    pub(super) last_waiter: u64,
    /// Calls of `Retire` that wait for the names to be out of DNS.
    pub(super) retiring: Vec<Reply<()>>,
    /// Calls of `Shutdown` that wait for the flows to end.
    stops: Vec<Reply<()>>,
    pub(super) stopped: bool,
    /// For those who follow names.
    pub(super) names_known: watch::Sender<Moment>,
    /// Changes of the static table.
    pub(super) hosts_changed: u64,
    pub(super) buffer: Box<[u8]>,
    batch: Batch,
    said: v1::UdpConfig,
}

enum Woken {
    Listen,
    Asking,
    Call(Option<Command>),
    Hand(Option<hand::Event>),
    Answer(Key, Result<Accept, Failure>),
    Dns(Done),
    Server(Option<SocketAddr>),
    Network,
    Router(Heard),
    Time,
    Watchdog,
}

impl Driver {
    /// Opens the listen port and starts a layer on it.
    pub(super) fn open(tools: Tools, bootstrap: &Bootstrap) -> anyhow::Result<Self> {
        let listen = socket::listen(bootstrap.listen, bootstrap.sp == Some(Sp::Listen))?;
        let beyond = (directory::open(bootstrap)?, session::open(bootstrap, tools.identity.host)?);
        Self::with_socket(tools, bootstrap, listen, beyond)
    }

    /// Starts a layer on an open listen port, with what finds names beyond this host.
    pub(super) fn with_socket(
        tools: Tools,
        bootstrap: &Bootstrap,
        listen: Listener,
        (dns, rendezvous): (Option<Dns>, Option<Rendezvous>),
    ) -> anyhow::Result<Self> {
        let settings = limits::settings(&tools.identity, bootstrap, rendezvous);
        let mut shim = Shim::new(settings, tools.identity.seed);
        shim.clock(handoff::kept::epoch());
        if tools.identity.restarted {
            shim.recover(Instant::now());
        }
        shim.host_key(Instant::now(), bootstrap.host_key);
        for (name, at) in &bootstrap.hosts {
            shim.add_host(name.clone(), *at)?;
        }
        tracing::info!(ipcp = tools.ipcp, layer = bootstrap.layer, address = %bootstrap.listen, "layer up");
        Ok(Self {
            shim,
            tools,
            listen: handoff::watch_readable(listen.socket)?,
            _guard: listen.guard,
            asking: Asking::new()?,
            sockets: HashMap::new(),
            catchers: HashMap::new(),
            commands: HashMap::new(),
            parting: HashMap::new(),
            overflown: 0,
            overflown_before: 0,
            allocs: HashMap::new(),
            arrivals: JoinSet::new(),
            arriving: HashMap::new(),
            dns,
            server: Server::default(),
            router: Router::default(),
            network: bootstrap.via.as_ref().filter(|via| via.follow).map(|_| Network::watch()),
            waiters: HashMap::new(),
            last_waiter: 0,
            retiring: Vec::new(),
            stops: Vec::new(),
            stopped: false,
            names_known: watch::Sender::default(),
            hosts_changed: 0,
            buffer: vec![0; socket::LONGEST].into(),
            batch: Batch::default(),
            said: bootstrap.said.clone(),
        })
    }

    /// Runs until irmd shuts the IPCP down.
    pub(super) async fn run(&mut self, calls: &mut mpsc::Receiver<Command>) -> anyhow::Result<()> {
        while !self.stopped {
            let due = self.shim.poll_timeout().map(|(at, _)| at);
            let woken = self.wait(due, calls).await?;
            let now = Instant::now();
            logs::note_late(due, now);
            match woken {
                Woken::Listen => self.read_listen(now),
                Woken::Asking => self.read_asking(now),
                Woken::Call(Some(command)) => self.call(now, command),
                Woken::Call(None) => anyhow::bail!("the gRPC socket is gone"),
                Woken::Hand(Some(event)) => self.hand_some(now, event),
                Woken::Hand(None) => anyhow::bail!("the hand-over socket is gone"),
                Woken::Answer(key, answer) => {
                    self.arriving.remove(&key);
                    self.shim.answered(now, key, answer);
                }
                Woken::Dns(done) => self.dns_done(now, done),
                Woken::Server(found) => {
                    self.shim.server_found(now, found);
                    // Which of this host's addresses reaches it is known now.
                    if self.network.is_some() {
                        self.look_at_network(now);
                    }
                }
                Woken::Network => self.look_at_network(now),
                Woken::Router(heard) => self.router_said(now, heard),
                Woken::Time => {}
                Woken::Watchdog => self.tools.service.alive(&self.summary()),
            }
            self.shim.handle_timeout(now);
            self.carry_out(now);
            self.tell_names();
        }
        self.router.end().await;
        for reply in self.stops.drain(..) {
            let _ = reply.send(Ok(()));
        }
        Ok(())
    }

    async fn wait(&mut self, due: Option<Instant>, calls: &mut mpsc::Receiver<Command>) -> anyhow::Result<Woken> {
        let time = async {
            match due {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let woken = tokio::select! {
            ready = self.listen.readable() => {
                ready?.retain_ready();
                Woken::Listen
            }
            ready = self.asking.ready() => {
                ready?;
                Woken::Asking
            }
            call = calls.recv() => Woken::Call(call),
            event = self.tools.hand_events.recv() => Woken::Hand(event),
            Some(done) = self.arrivals.join_next() => match done {
                Ok((key, answer)) => Woken::Answer(key, answer),
                // It was aborted: nobody waits for it.
                Err(_) => Woken::Time,
            },
            done = directory::done(&mut self.dns) => Woken::Dns(done),
            found = self.server.found() => Woken::Server(found),
            () = network::changed(&mut self.network) => Woken::Network,
            heard = self.router.heard() => Woken::Router(heard),
            () = time => Woken::Time,
            () = self.tools.service.watchdog() => Woken::Watchdog,
        };
        Ok(woken)
    }

    fn read_listen(&mut self, now: Instant) {
        // One batch, then others get their turn, however many more wait.
        let mut batch = std::mem::take(&mut self.batch);
        match self.listen.try_io(Interest::READABLE, |fd| batch.receive(fd.as_fd())) {
            Ok(()) => {
                for (bytes, from) in batch.iter() {
                    self.shim.handle_datagram(now, Via::Listen, from, bytes);
                    self.carry_out(now);
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // Of an answer sent earlier; whose, an unconnected socket does not say.
            Err(error) if Errno::from_io_error(&error).and_then(socket::unreachable).is_some() => {}
            Err(error) => tracing::warn!(%error, "the listen port could not be read"),
        }
        self.batch = batch;
    }

    fn read_asking(&mut self, now: Instant) {
        for ready in self.asking.take() {
            match ready {
                Ready::Asking(key, failed) => self.read_answers(now, key, failed),
                Ready::Catcher(key) => self.read_catcher(now, key),
            }
        }
    }

    fn read_answers(&mut self, now: Instant, key: Key, failed: bool) {
        for _ in 0..PER_TURN {
            // Closed or connected by what came before: then the rest of its queue is the program's.
            let Some(socket) = self.sockets.get(&key) else { break };
            if !self.shim.reads(key) {
                break;
            }
            match socket::receive(socket.as_fd(), &mut self.buffer) {
                Ok(Received::Datagram(length, from)) => {
                    self.shim.handle_datagram(now, Via::Flow(key), from, &self.buffer[..length]);
                }
                Ok(Received::Unreachable(what)) => {
                    socket::clear_errors(socket.as_fd(), self.shim.settings().listen.is_ipv6());
                    self.shim.handle_unreachable(now, key, what);
                }
                Ok(Received::Nothing) => {
                    // An error in the queue of errors only: it would keep the socket ready for ever.
                    if failed {
                        socket::clear_errors(socket.as_fd(), self.shim.settings().listen.is_ipv6());
                    }
                    break;
                }
                Err(error) => {
                    tracing::warn!(%error, "the socket of a pending flow could not be read");
                    break;
                }
            }
            self.carry_out(now);
        }
    }

    /// After a restart thousands come at once: a bounded number in one turn.
    fn hand_some(&mut self, now: Instant, first: hand::Event) {
        self.hand(now, first);
        for _ in 1..PER_TURN {
            let Ok(event) = self.tools.hand_events.try_recv() else { return };
            self.carry_out(now);
            self.hand(now, event);
        }
    }

    fn hand(&mut self, now: Instant, event: hand::Event) {
        match event {
            hand::Event::LeaseOpened(process) => self.lease_opened(process),
            hand::Event::LeaseClosed { process, flows, figures, last_of_process } => {
                self.parting.extend(flows.iter().copied().zip(figures.into_iter().map(|figures| figures.counters)));
                self.lease_closed(now, process, flows, last_of_process);
            }
            hand::Event::Taken { flow, .. } => self.shim.taken(now, flow),
            hand::Event::NotTaken { flow } => self.shim.not_taken(now, flow),
            hand::Event::Released { flow, counters } => {
                self.parting.insert(flow, counters);
                self.shim.released(now, flow);
            }
            hand::Event::Heard { flow, from, datagram } => self.shim.heard_by_program(now, flow, from, &datagram),
            hand::Event::Suspect { flow } => self.shim.suspect(now, flow),
            hand::Event::Adopt { adoption, process, ticket, socket, .. } => {
                self.adopt(now, adoption, process, &ticket, socket);
            }
        }
    }

    fn call(&mut self, now: Instant, command: Command) {
        let found = |found, what: String| if found { Ok(()) } else { Err(Failure::new(FailureKind::NotFound, what)) };
        match command {
            Command::Bootstrap(bootstrap, reply) => drop(reply.send(self.bootstrapped(now, &bootstrap))),
            Command::Register { name, starts, wait, reply } => self.register(now, &name, starts, wait, reply),
            Command::Unregister { name, wait, reply } => self.unregister(now, &name, wait, reply),
            Command::Resolve(name, reply) => self.resolve(now, name, reply),
            Command::Registrations(after, reply) => drop(reply.send(Ok(self.registrations(now, after.as_ref())))),
            Command::AddHost(name, shim, reply) => {
                self.hosts_changed += 1;
                let _ = reply.send(self.shim.add_host(name, shim));
            }
            Command::RemoveHost(name, reply) => {
                self.hosts_changed += 1;
                let known = self.shim.remove_host(&name);
                let _ = reply.send(found(known, format!("the static table has no host for {name}; nothing to remove")));
            }
            Command::Alloc(ask, reply) => {
                let flow = ask.flow;
                match self.shim.flow_alloc(now, *ask) {
                    Ok(key) => drop(self.allocs.insert(key, (flow, reply))),
                    Err(failure) => drop(reply.send(Err(failure))),
                }
            }
            Command::Cancel(flow) => self.shim.cancel(now, flow),
            Command::Attached(asked) => self.shim.attached(now, asked),
            Command::Dealloc(flow, reply) => {
                let known = self.shim.dealloc(now, flow);
                let _ = reply.send(found(known, format!("there is no flow {flow} here; see `irm flow list`")));
            }
            Command::Page(after, reply) => drop(reply.send(Ok(self.page(now, after)))),
            Command::Counts(after, reply) => drop(reply.send(Ok(self.counts(now, after)))),
            Command::Flow(flow, reply) => {
                let info = self.shim.row(now, flow).map(|row| self.shown(row));
                let missing = || Failure::new(FailureKind::NotFound, format!("there is no flow {flow} here"));
                let _ = reply.send(info.ok_or_else(missing));
            }
            Command::Report(reply) => drop(reply.send(Ok(self.report()))),
            Command::Names(prefix, reply) => drop(reply.send(Ok(self.names(&prefix)))),
            Command::Retire(reply) => self.retire(now, reply),
            Command::Shutdown(reply) => {
                self.stops.push(reply);
                self.shim.stop(now);
            }
        }
    }

    /// A second bootstrap is fine if it says the same, but for the host's key: who bootstrapped itself hears it so.
    fn bootstrapped(&mut self, now: Instant, bootstrap: &Bootstrap) -> Result<v1::BootstrapReply, Failure> {
        if bootstrap.layer == self.shim.settings().layer && bootstrap.said == self.said {
            self.shim.host_key(now, bootstrap.host_key);
            return Ok(v1::BootstrapReply { address: self.shim.settings().listen.to_string() });
        }
        let settings = self.shim.settings();
        let text = format!(
            "this IPCP serves layer {} on {} already; destroy it first, or create another",
            settings.layer, settings.listen
        );
        Err(Failure::new(FailureKind::AlreadyExists, text))
    }
}

const _: () =
    assert!(socket::LONGEST > shim::DATAGRAM && batch::WIDTH > shim::DATAGRAM, "over-long datagrams are seen to be");
