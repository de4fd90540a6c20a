//! Ways through middleboxes. A NAT or firewall of the client's side may drop what comes from sp, because the client
//! sent nothing there yet, and may show the server another address for what the client sends there.
//!
//! The server says acceptance twice, from sp and from the listen port. A client that hears the second only sends OPEN
//! from cp, to sp (which opens its middlebox) and to the listen port (which is heard for certain), until OPENED comes from
//! sp. At the server, an OPEN to sp from the address that asked reaches the flow's own socket, where the filter drops
//! it: hence the one to the listen port. From another address it reaches the catcher, a second socket on sp, and the
//! flow's socket is connected to where it came from: once, and never again. docs/decisions/0011.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::shim::{Control, ControlKind, DATAGRAM, Verdict};
use proto::v1::{Failure, FailureKind};
use proto::{Token, WireId};
use rand_chacha::rand_core::Rng;

use super::client::LONGEST_TIMEOUT;
use super::flow::{Asking, Flow, State};
use super::liveness::Peer;
use super::output::{Key, Output};
use super::table::Cause;
use super::{Reason, Shim};

/// A catcher stays so long after an acceptance.
pub(super) const CATCHING: Duration = Duration::from_secs(3);
/// Catchers at most; a newer one takes the place of the oldest.
const MOST_CATCHING: usize = 1024;
/// Of the flows there may be, catchers at most so many in a hundred: each holds a descriptor, too.
const CATCHING_IN_HUNDRED: usize = 12;
/// Between the first two OPENs; doubles.
const SHORTEST_KNOCK: Duration = Duration::from_millis(50);
const FIRST_KNOCK: Duration = Duration::from_millis(200);
const LONGEST_KNOCK: Duration = Duration::from_millis(500);
/// A program is told of its flow ahead of OPENED where that must come within this time: libflow waits 10 s for a socket.
const AHEAD: Duration = Duration::from_secs(8);
/// IPv6 and UDP headers of one datagram.
const HEADERS: usize = 48;

/// How a flow's datagrams come through middleboxes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Path {
    /// Accepting side: the client says that answers from sp reach it.
    pub(super) direct: bool,
    /// Accepting side: a second socket stands on sp until then.
    pub(super) catching: Option<Instant>,
    /// Accepting side: the flow was followed to another address.
    pub(super) moved: bool,
    /// Accepting side: the client has its way, it said so.
    pub(super) found: bool,
    /// Accepting side: how often acceptance was said again.
    repeated: u32,
    /// Asking side: the way had to be opened.
    pub(super) knocked: bool,
}

/// Asking side: acceptance was heard from the listen port only.
#[derive(Clone, Copy, Debug)]
pub(super) struct Knocking {
    pub(super) deadline: Instant,
    pub(super) next: Instant,
    pause: Duration,
    sp: SocketAddr,
    sent: u32,
    /// The caller has been told of the flow, and its program may wait for the socket already.
    pub(super) told: Option<Token>,
}

/// An acceptance, as it came.
pub(super) struct Acceptance {
    pub(super) server: WireId,
    pub(super) of: Peer,
    pub(super) data: Vec<u8>,
}

impl Shim {
    /// Acceptance from the listen port, carrying sp. Usually the one from sp was faster, and the socket is connected.
    pub(super) fn aside(&mut self, now: Instant, key: Key, port: u16, accepted: Acceptance) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let (State::Asking(Asking { deadline, .. }) | State::Promised(Asking { deadline, .. })) = flow.state else {
            return self.counters.count(Reason::Late);
        };
        if port == 0 || port == flow.peer.port() {
            return self.counters.count(Reason::Spoofed);
        }
        let round_trip = self.peers.find(flow.peer).map(|known| known.round_trip).filter(|time| !time.is_zero());
        let pause = round_trip.map_or(FIRST_KNOCK, |time| (time * 3 / 2).clamp(SHORTEST_KNOCK, LONGEST_KNOCK));
        // What was remembered of the way is wrong, or was overtaken: then the next answer from sp says so.
        let shim = flow.peer;
        self.peers.remember(shim).direct = false;
        let Some(flow) = self.flows.get_mut(&key) else { return };
        flow.theirs = accepted.server;
        flow.of = Some(accepted.of);
        flow.heard = accepted.data;
        flow.path.knocked = true;
        let sp = SocketAddr::new(flow.peer.ip(), port);
        flow.go(Cause::Aside, State::Knocking(Knocking { deadline, next: now, pause, sp, sent: 0, told: None }));
        self.counters.count(Reason::Opens);
        self.knock(now, key);
        self.tell_ahead(now, key);
    }

    /// While OPEN is on its way, the caller hears of the flow, and its program comes for the socket: three processes are woken
    /// meanwhile and not afterwards. Where nothing comes of it, the program is told by its token. Not while another
    /// host could be asked instead. docs/decisions/0018.
    fn tell_ahead(&mut self, now: Instant, key: Key) {
        let token = self.token();
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let State::Knocking(knocking) = &mut flow.state else { return };
        if !flow.others.hosts.is_empty() || knocking.deadline > now + AHEAD {
            return;
        }
        knocking.told = Some(token);
        let (peer, data, host_key) = (knocking.sp, flow.heard.clone(), flow.others.key);
        let asked = flow.requests;
        self.out(Output::Expect { token });
        self.out(Output::Allocated { key, token, peer, data, classic: false, host_key, asked });
    }

    /// Sends OPEN both ways, again if it was sent before, and says when next.
    fn knock(&mut self, now: Instant, key: Key) {
        let jitter = 900 + self.rng.next_u32() % 201;
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let State::Knocking(knocking) = &mut flow.state else { return };
        knocking.sent += 1;
        knocking.next = now + knocking.pause * jitter / 1000;
        knocking.pause = (knocking.pause * 2).min(LONGEST_KNOCK);
        let (sp, listen, ours, theirs) = (knocking.sp, flow.peer, flow.ours, flow.theirs);
        let bytes = self.said(ControlKind::Open, ours, theirs);
        // To sp first: the middlebox is open when the answer to the other comes.
        for to in [sp, listen] {
            self.out(Output::SendFlow { key, to: Some(to), bytes: bytes.clone() });
        }
    }

    pub(super) fn knocking_timeout(&mut self, now: Instant, key: Key) {
        let Some(flow) = self.flows.get(&key) else { return };
        let State::Knocking(Knocking { deadline, next, sp, sent, .. }) = flow.state else { return };
        if now >= deadline {
            let text = format!(
                "{} was accepted at {}, but its port {} was not reached ({sent} tries); let the firewalls between pass UDP \
                 from there",
                flow.name,
                flow.peer,
                sp.port()
            );
            let failure = Failure { asked: sent, ..Failure::new(FailureKind::TimedOut, text) };
            return self.fail(now, key, Cause::Deadline, failure);
        }
        if now >= next {
            self.knock(now, key);
        }
    }

    /// A datagram on cp that begins with NUL: the answer to OPEN.
    pub(super) fn handle_opened(&mut self, now: Instant, key: Key, from: SocketAddr, bytes: &[u8]) {
        let control = match Control::decode(bytes) {
            Ok(control) => control,
            Err(malformed) => return self.counters.count(malformed),
        };
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let State::Knocking(Knocking { deadline, sp, told, .. }) = flow.state else {
            return self.counters.count(Reason::Late);
        };
        let of = Some(Peer { host: control.host, boot: control.boot });
        if !flow.is(control.receiver, control.sender) || of.map(|of| of.host) != flow.of.map(|of| of.host) {
            return self.counters.count(Reason::Spoofed);
        }
        match control.kind {
            ControlKind::Opened if from == sp => self.join(key, Cause::PathOpen, deadline, from, told),
            ControlKind::NoSuchFlow if from == flow.peer => {
                let text = format!("{} was accepted at {from} and ended before its way was open; try again", flow.name);
                self.fail(now, key, Cause::NoSuchFlow, Failure::new(FailureKind::FlowGone, text));
            }
            // Its ipcpd restarted in this moment: its program may still bring the flow back.
            ControlKind::Recovering if from == flow.peer => {}
            _ => self.counters.count(Reason::UnexpectedControl),
        }
    }

    /// The accepting side: says acceptance from sp and from the listen port, as far as both fit the request they
    /// answer; `spent`: bytes of an answer it had already.
    pub(super) fn say_accepted(&mut self, now: Instant, key: Key, spent: Option<usize>) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let (theirs, ours, data) = (flow.theirs, flow.ours, flow.data.clone());
        let (name, asker, direct) = (flow.name.clone(), flow.request.as_ref().map(|r| r.from), flow.path.direct);
        let again = spent.is_none();
        if again {
            flow.path.repeated = flow.path.repeated.wrapping_add(1);
        }
        let odd = flow.path.repeated % 2 == 1;
        let port = flow.local.map(|local| local.port());
        let answer = |port| self.verdict(theirs, ours, Verdict::Accepted, "", data.clone(), port).encode(&name);
        let (from_sp, aside) = (answer(None), answer(port));
        let cost = [from_sp.len(), aside.len()].map(|length| length + HEADERS).iter().sum::<usize>();
        let fits = cost + spent.map_or(0, |length| length + HEADERS) <= DATAGRAM + HEADERS;
        // Where both do not fit, a caller that asks again gets one and then the other.
        if fits || !again || direct || !odd {
            self.counters.count(Reason::Answers);
            self.out(Output::SendFlow { key, to: None, bytes: from_sp });
        }
        if let Some(asker) = asker
            && !direct
            && (fits || again && odd)
        {
            self.counters.count(Reason::Answers);
            self.out(Output::SendListen { to: asker, bytes: aside });
        }
        if again {
            self.heard_asking(now, key);
            self.catch(now, key);
        }
    }

    /// Puts a second socket on the flow's port for a while.
    pub(super) fn catch(&mut self, now: Instant, key: Key) {
        let most = (self.settings.max_flows * CATCHING_IN_HUNDRED / 100).clamp(1, MOST_CATCHING);
        let Some(flow) = self.flows.get_mut(&key) else { return };
        // Not for one who asks for ever.
        let late = flow.answered.is_none_or(|at| now >= at + LONGEST_TIMEOUT);
        let Path { direct, moved, found, catching, .. } = flow.path;
        if flow.classic || direct || moved || found || catching.is_some() || late {
            return;
        }
        flow.path.catching = Some(now + CATCHING);
        self.catching.insert(key);
        self.out(Output::Catch { key });
        while self.catching.len() > most {
            let Some(&oldest) = self.catching.first() else { break };
            self.uncatch(oldest);
            self.settle(oldest);
        }
    }

    /// The client has its way: its shim spoke of the flow by both ids, or it sent on the flow what comes behind that.
    pub(super) fn way_found(&mut self, key: Key) {
        if let Some(flow) = self.flows.get_mut(&key).filter(|flow| flow.accepting && !flow.path.found) {
            flow.path.found = true;
            self.uncatch(key);
        }
    }

    pub(super) fn uncatch(&mut self, key: Key) {
        if self.catching.remove(&key) {
            if let Some(flow) = self.flows.get_mut(&key) {
                flow.path.catching = None;
            }
            self.out(Output::Uncatch { key });
        }
    }

    /// A datagram at a catcher. Whoever knows both ids and the host is the client, seen from outside.
    pub(super) fn handle_caught(&mut self, key: Key, from: SocketAddr, bytes: &[u8]) {
        let flow = self.flows.get_mut(&key).filter(|flow| flow.path.catching.is_some() && flow.waits_for_open());
        let control = match (Control::decode(bytes), &flow) {
            (Ok(control), Some(_)) => control,
            // The flow's own socket takes all that comes from there, unless its program has dissolved the connection: then
            // the catcher takes all that comes, from wherever, and is in the way.
            (Err(_), Some(flow)) if from == flow.peer && flow.may_dissolve() => {
                self.counters.count(Reason::Uncaught);
                self.way_found(key);
                return self.settle(key);
            }
            _ => return self.counters.count(Reason::Uncaught),
        };
        let Some(flow) = flow else { return };
        let host = flow.of.map(|of| of.host);
        let genuine = flow.is(control.receiver, control.sender) && host == Some(control.host);
        if control.kind != ControlKind::Open || !genuine || flow.path.moved {
            return self.counters.count(Reason::Uncaught);
        }
        // From where it came before, it reaches the flow's own socket; only a kernel in mid-change brings it here.
        if from != flow.peer {
            flow.path.moved = true;
            flow.peer = from;
            self.counters.count(Reason::Moves);
            self.out(Output::Move { key, peer: from });
            self.uncatch(key);
        }
        self.say_opened(key);
        self.settle(key);
    }

    /// OPEN at the listen port, with both ids right. It moves nothing: behind some NATs it comes from another address
    /// than what is sent to sp. What to answer its sender, if anything.
    pub(super) fn open_aside(&mut self, key: Key, control: &Control) -> Option<ControlKind> {
        let flow = self.flows.get(&key)?;
        if !flow.accepting || flow.of.map(|of| of.host) != Some(control.host) {
            self.counters.count(Reason::Spoofed);
            return None;
        }
        if !flow.waits_for_open() {
            return Some(ControlKind::NoSuchFlow);
        }
        self.say_opened(key);
        None
    }

    fn say_opened(&mut self, key: Key) {
        let Some(flow) = self.flows.get(&key) else { return };
        let bytes = self.said(ControlKind::Opened, flow.ours, flow.theirs);
        self.out(Output::SendFlow { key, to: None, bytes });
    }
}

impl Flow {
    /// The accepting side of a flow that a program has or will have.
    fn waits_for_open(&self) -> bool {
        self.accepting && !self.classic && matches!(self.state, State::Offered | State::Held | State::Probing(_))
    }
}
