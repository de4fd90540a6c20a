//! A host: its shim, and a kernel, an irmd and programs that are played. The shim may crash and come back; what the
//! kernel holds for programs stays.

use std::collections::{BTreeMap, HashMap};

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sim::Sockets;

use super::kernel::Socket;
use super::model::{Deed, Story, Told};
use super::*;

/// What accepting programs do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answering {
    Accept { after: u64 },
    Refuse { after: u64 },
    Never,
}

/// How a host's kernel and programs behave.
#[derive(Clone, Debug)]
pub(super) struct Manners {
    pub(super) answering: Answering,
    /// In a hundred: sockets that cannot be opened or connected.
    pub(super) trouble: u32,
    /// In a hundred: tokens that nobody takes.
    pub(super) untaken: u32,
    /// A program takes its socket after up to so many milliseconds.
    pub(super) takes_within: u64,
    /// In a hundred: programs that read late.
    pub(super) slow: u32,
    /// In a hundred: programs that send as soon as they have a flow.
    pub(super) talkative: u32,
}

/// A socket of the kernel's, numbered for ever.
pub(super) type Number = u64;

pub(super) struct Program {
    pub(super) socket: Number,
    pub(super) ticket: Vec<u8>,
    pub(super) slow: bool,
    pub(super) holds: bool,
    /// Its flow may move: where it sends to.
    pub(super) goes_to: Option<SocketAddr>,
    /// It was told that the flow is over, and has not closed it yet.
    pub(super) gone: bool,
}

/// What is to happen on a host by itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Task {
    Answer(Key, bool),
    Take(FlowId),
    LetLie(FlowId),
    Read(FlowId),
    Leave(FlowId),
    Adopt(FlowId),
    Restart,
}

/// A datagram on its way out: from, to, payload.
pub(super) type Sent = (SocketAddr, SocketAddr, Vec<u8>);

pub(super) struct Host {
    pub(super) shim: Option<Shim>,
    pub(super) listen: SocketAddr,
    pub(super) settings: Settings,
    serves: Vec<Name>,
    rows: Vec<(Name, SocketAddr)>,
    pub(super) kernel: Sockets<Number>,
    pub(super) sockets: BTreeMap<Number, Socket>,
    pub(super) by_key: BTreeMap<Key, Number>,
    pub(super) catchers: BTreeMap<Key, Number>,
    pub(super) manners: Manners,
    pub(super) story: Story,
    pub(super) programs: BTreeMap<FlowId, Program>,
    /// Requests that irmd is to answer.
    pub(super) arrived: BTreeMap<Key, WireId>,
    /// Whose request became which flow, in this life of the shim.
    pub(super) callers: BTreeMap<Key, WireId>,
    /// Tokens of flows that callers were told of ahead of the socket.
    ahead: HashMap<proto::Token, Option<Key>>,
    /// Whose request was handed to the shim last.
    pub(super) caller: WireId,
    agenda: BTreeMap<(Instant, u64), Task>,
    pub(super) count: u64,
    pub(super) flows: u64,
    pub(super) boots: u64,
    pub(super) rng: ChaCha12Rng,
    pub(super) visited: std::collections::BTreeSet<(Phase, table::Cause, Phase)>,
    /// Its layer follows it to other addresses.
    pub(super) follows: bool,
    /// Flows whose programs send at once, for the world to carry out.
    pub(super) eager: Vec<FlowId>,
}

impl Host {
    pub(super) fn new(listen: SocketAddr, seed: u64, flows: u64) -> Self {
        let settings = Settings { host: HostId(flows), ..settings(&listen.to_string()) };
        let mut host = Self {
            shim: None,
            listen,
            settings,
            serves: Vec::new(),
            rows: Vec::new(),
            kernel: Sockets::default(),
            sockets: BTreeMap::new(),
            by_key: BTreeMap::new(),
            catchers: BTreeMap::new(),
            manners: Manners {
                answering: Answering::Accept { after: 0 },
                trouble: 0,
                untaken: 0,
                takes_within: 0,
                slow: 0,
                talkative: 0,
            },
            story: Story::default(),
            programs: BTreeMap::new(),
            arrived: BTreeMap::new(),
            callers: BTreeMap::new(),
            ahead: HashMap::new(),
            caller: WireId(0),
            agenda: BTreeMap::new(),
            count: 0,
            flows,
            boots: 0,
            rng: ChaCha12Rng::seed_from_u64(seed ^ flows << 32),
            visited: std::collections::BTreeSet::new(),
            follows: true,
            eager: Vec::new(),
        };
        host.start(None);
        host
    }

    pub(super) fn serve(&mut self, to: &str) {
        self.serves.push(name(to));
        self.shim.as_mut().unwrap().register(origin(), name(to), None).unwrap();
    }

    pub(super) fn know(&mut self, to: &str, at: SocketAddr) {
        self.rows.push((name(to), at));
        self.shim.as_mut().unwrap().add_host(name(to), at).unwrap();
    }

    /// Starts the shim; again at an instant.
    fn start(&mut self, again: Option<Instant>) {
        self.boots += 1;
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let mut shim =
            Shim::new(Settings { boot: BootId(self.boots), start: self.boots, ..self.settings.clone() }, seed);
        for name in &self.serves {
            shim.register(origin(), name.clone(), None).unwrap();
        }
        for (name, at) in &self.rows {
            shim.add_host(name.clone(), *at).unwrap();
        }
        if let Some(now) = again {
            shim.recover(now);
        }
        self.shim = Some(shim);
    }

    /// It finds its peers through a rendezvous; nothing has happened yet.
    pub(super) fn meet_at(&mut self, rendezvous: super::super::rendezvous::Rendezvous) {
        self.rows.clear();
        self.settings.rendezvous = Some(rendezvous);
        self.begin_anew();
    }

    /// Starts the shim with other settings; nothing has happened yet.
    pub(super) fn begin_anew(&mut self) {
        self.boots -= 1;
        self.start(None);
    }

    pub(super) fn dice(&mut self, hundredth: u32) -> bool {
        self.rng.next_u32() % 100 < hundredth
    }

    pub(super) fn later(&mut self, at: Instant, task: Task) {
        self.count += 1;
        self.agenda.insert((at, self.count), task);
    }

    /// The shim's process ends at once, and is started again later.
    pub(super) fn crash(&mut self, now: Instant, back_after: u64) {
        let Some(shim) = self.shim.take() else { return };
        self.visited.extend(shim.visited.iter().copied());
        self.story.crashes.push(now);
        self.story.shim_is_down(now);
        self.arrived.clear();
        self.callers.clear();
        self.ahead.clear();
        self.by_key.clear();
        self.catchers.clear();
        // Of what lay ahead only that of programs with a socket stays.
        self.agenda.retain(|_, task| matches!(task, Task::Read(_) | Task::Leave(_)));
        self.programs.retain(|flow, program| {
            let untaken = !program.holds && self.sockets.get(&program.socket).is_some_and(|s| s.key.is_some());
            if untaken {
                self.story.did(*flow, Deed::Unseen);
            }
            true
        });
        for number in self.sockets.keys().copied().collect::<Vec<_>>() {
            self.sockets.get_mut(&number).unwrap().key = None;
            self.sweep(number);
        }
        self.later(now + ms(back_after), Task::Restart);
    }

    /// This host is at another address, and not at that of before; sockets that are bound to none go along.
    pub(super) fn goes(&mut self, now: Instant, ip: IpAddr) {
        let before = self.listen;
        self.listen.set_ip(ip);
        self.story.went = true;
        self.settings.listen = self.listen;
        for (number, socket) in &self.sockets {
            if let Some((local, None)) = self.kernel.ends(*number).filter(|_| socket.anywhere) {
                self.kernel.go(*number, SocketAddr::new(ip, local.port()));
            }
        }
        if let Some(shim) = &mut self.shim {
            shim.moved(now, self.listen);
            shim.lost_address(now, before.ip());
        }
    }

    /// When this host next does something by itself.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let shim = self.shim.as_ref().and_then(|shim| shim.poll_timeout()).map(|(at, _)| at);
        self.agenda.keys().next().map(|(at, _)| *at).into_iter().chain(shim).min()
    }

    /// Does one thing that is due; whether there was one.
    pub(super) fn wake(&mut self, now: Instant) -> bool {
        if let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= now
        {
            let task = entry.remove();
            self.perform(now, task);
            return true;
        }
        match &mut self.shim {
            Some(shim) if shim.poll_timeout().is_some_and(|(at, _)| at <= now) => shim.handle_timeout(now),
            _ => return false,
        }
        true
    }

    fn perform(&mut self, now: Instant, task: Task) {
        match task {
            Task::Answer(key, accepts) => self.answer(now, key, accepts),
            Task::Take(flow) => self.take(now, flow),
            Task::LetLie(flow) => {
                self.story.did(flow, Deed::NotTaken);
                if let Some(shim) = &mut self.shim {
                    shim.not_taken(now, flow);
                }
            }
            Task::Read(flow) => self.read(flow),
            Task::Leave(flow) => self.leave(now, flow, false),
            Task::Adopt(flow) => self.adopt(now, flow),
            Task::Restart => {
                self.start(Some(now));
                // libflow notices at once, and brings flows back one after the other.
                for flow in self.programs.iter().filter(|(_, p)| p.holds).map(|(flow, _)| *flow).collect::<Vec<_>>() {
                    let after = u64::from(self.rng.next_u32() % 500);
                    self.later(now + ms(after), Task::Adopt(flow));
                }
            }
        }
    }

    /// Everything that leaves by what the machine wants now.
    pub(super) fn carry_out(&mut self, now: Instant) -> Vec<Sent> {
        let mut sent = Vec::new();
        while let Some(output) = self.shim.as_mut().and_then(Shim::poll_output) {
            match output {
                Output::SendListen { to, bytes } => sent.push((self.listen, to, bytes)),
                Output::SendFlow { key, to, bytes } => {
                    let number = self.by_key[&key];
                    let (local, peer) = self.kernel.ends(number).expect("an open socket");
                    // These programs' handshakes are done before the answer has come.
                    let moving = self.programs.values().find(|program| program.socket == number);
                    let peer = peer.or(moving.and_then(|program| program.goes_to));
                    self.story.requested(key, &bytes);
                    sent.push((local, to.or(peer).expect("connected"), bytes));
                }
                output => self.carry_out_inside(now, output),
            }
        }
        sent
    }

    fn carry_out_inside(&mut self, now: Instant, output: Output) {
        match output {
            Output::Open { key, port, watch } => self.open(now, key, port, watch),
            Output::Connect { key, peer, filter } => self.connect(now, key, peer, filter),
            Output::Reserve { key } => self.reserve(now, key),
            Output::Join { key, peer, filter } => self.join(now, key, peer, filter),
            Output::Detach { key } => drop(self.kernel.connect(self.by_key[&key], addr(NOBODY))),
            Output::CheckDropped { key, flow } => {
                let (dropped, received) = (self.socket(key).dropped, self.story.received(flow));
                self.shim.as_mut().unwrap().dropped(now, key, dropped, received);
            }
            Output::Refilter { key, filter } => self.socket(key).filter = filter,
            Output::Arrived { key, .. } => {
                self.story.arrived(self.caller, self.boots);
                self.arrived.insert(key, self.caller);
                self.callers.insert(key, self.caller);
                match self.manners.answering {
                    Answering::Accept { after } => self.later(now + ms(after), Task::Answer(key, true)),
                    Answering::Refuse { after } => self.later(now + ms(after), Task::Answer(key, false)),
                    Answering::Never => {}
                }
            }
            Output::Abandon { key } => drop(self.arrived.remove(&key)),
            told @ (Output::Offer { .. }
            | Output::Expect { .. }
            | Output::Withdraw { .. }
            | Output::Allocated { .. }
            | Output::Gone { .. }
            | Output::Moved { .. }
            | Output::Failed { .. }) => self.tell(now, told),
            Output::CheckSent { key } => self.shim.as_mut().unwrap().sent_all(now, key, true),
            Output::CheckRead { key } => {
                let all = self.socket(key).queue.is_empty();
                self.shim.as_mut().unwrap().read_all(now, key, all);
            }
            Output::Revoke { key } | Output::Retire { key } => self.socket(key).revoked = true,
            Output::Close { key } => {
                let number = self.by_key.remove(&key).expect("an open socket");
                self.sockets.get_mut(&number).unwrap().key = None;
                self.sweep(number);
            }
            Output::Swap { key, with } => self.swap(key, with),
            Output::Ended { flow, reason } => self.story.ended(flow, reason),
            Output::Count { key, flow } => {
                let sent = self.story.sent.get(&flow).copied().unwrap_or(0);
                self.shim.as_mut().unwrap().counted(key, sent);
            }
            Output::Look { key, flow } => {
                let (received, sent) = (self.story.received(flow), self.story.sent.get(&flow).copied().unwrap_or(0));
                self.shim.as_mut().unwrap().looked(now, key, received, sent);
            }
            Output::Move { key, peer } => drop(self.kernel.connect(self.by_key[&key], peer)),
            Output::Catch { key } => self.catch(key),
            Output::Uncatch { key } => self.uncatch(key),
            Output::Forget { .. } | Output::Stopped | Output::Note { .. } | Output::Warn { .. } => {}
            Output::SendListen { .. } | Output::SendFlow { .. } => unreachable!("sent above"),
            Output::FindServer { server } => self.shim.as_mut().unwrap().server_found(now, server.parse().ok()),
            Output::Again { key, next } => self.story.again(key, next),
            found => unreachable!("these hosts have no DNS: {found:?}"),
        }
    }

    fn swap(&mut self, key: Key, with: Key) {
        let number = self.by_key.remove(&with).expect("an open socket");
        self.sockets.get_mut(&number).unwrap().key = Some(key);
        let before = self.by_key.insert(key, number).expect("an open socket");
        self.sockets.get_mut(&before).unwrap().key = None;
        self.sweep(before);
    }

    /// What callers and programs are told.
    fn tell(&mut self, now: Instant, output: Output) {
        match output {
            Output::Offer { key, flow, token, ticket, binding, movable, .. } => {
                self.offer(now, key, flow, ticket, binding);
                if movable {
                    self.let_move(flow);
                }
                if self.ahead.remove(&token).is_some() {
                    self.story.told(now, key, Told::Allocated);
                }
            }
            // Told ahead of its socket, a program waits for that.
            Output::Allocated { key, token, .. } if self.ahead.contains_key(&token) => {
                self.ahead.insert(token, Some(key));
            }
            Output::Allocated { key, .. } => self.story.told(now, key, Told::Allocated),
            Output::Expect { token } => drop(self.ahead.insert(token, None)),
            Output::Withdraw { token, failure } => {
                if let Some(Some(key)) = self.ahead.remove(&token) {
                    self.story.told(now, key, Told::Failed(failure));
                }
            }
            Output::Failed { key, failure } => self.story.told(now, key, Told::Failed(failure)),
            Output::Moved { flow, peer, ticket, .. } => {
                let program = self.programs.get_mut(&flow).expect("a program's flow");
                (program.goes_to, program.ticket) = (Some(peer), ticket);
            }
            Output::Gone { flow, .. } => {
                if let Some(program) = self.programs.get_mut(&flow) {
                    program.gone = true;
                }
                let after = u64::from(self.rng.next_u32() % 200);
                self.later(now + ms(after), Task::Leave(flow));
            }
            _ => unreachable!("the rest is no program's"),
        }
    }

    /// Flows that programs hold and may send on: where from, where to.
    pub(super) fn live(&self) -> BTreeMap<FlowId, (SocketAddr, SocketAddr)> {
        let held = self.programs.iter().filter(|(_, program)| program.holds);
        held.filter(|(_, program)| self.sockets.get(&program.socket).is_some_and(|socket| !socket.revoked))
            .filter_map(|(flow, program)| {
                let (local, peer) = self.kernel.ends(program.socket)?;
                Some((*flow, (local, program.goes_to.or(peer)?)))
            })
            .collect()
    }

    /// Open sockets of flows.
    pub(super) fn open_sockets(&self) -> usize {
        assert!(self.kernel.len() <= self.sockets.len(), "some may not be bound yet");
        self.sockets.len()
    }

    pub(super) fn seen(&mut self) -> std::collections::BTreeSet<(Phase, table::Cause, Phase)> {
        let mut seen = std::mem::take(&mut self.visited);
        seen.extend(self.shim.iter().flat_map(|shim| shim.visited.iter().copied()));
        seen
    }
}
