//! Message and stream flows go along when their host, or the peer's, is somewhere else, or when nothing is heard of the peer any more:
//! another path is looked for at once, the relay's among them. docs/decisions/0043.
//!
//! The sockets of flows through a rendezvous are bound to no address, where the layer follows its own: from where they send, and
//! where they receive, is the kernel's to say. So nothing is bound anew, and the program keeps what it has.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use proto::shim::{Control, ControlKind};
use proto::v1::EndReason;

use super::flow::Flow;
use super::meeting::carried_to;
use super::output::Key;
use super::rendezvous::punch::Way;
use super::{Reason, Shim};

/// QUIC confirms what it gets: who sent so many datagrams and got none for so long is deaf, or the other is.
const UNCONFIRMED: u64 = 3;
const DEAF_AFTER: Duration = Duration::from_secs(4);

/// Of one flow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// Its socket is bound to no address: it has all that this host has.
    pub(super) anywhere: bool,
    /// Its path is gone, as far as this side knows.
    pub(super) adrift: Option<Adrift>,
    /// Its program's counts when something had come last, or when nothing was sent since; none: of another path.
    pub(super) counts: Option<Counts>,
}

/// Of SDUs, which are datagrams here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    received: u64,
    sent: u64,
    /// First seen to have sent more, and received nothing.
    since: Option<Instant>,
}

/// Why another path is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Adrift {
    /// This host has another address.
    Here,
    /// One of the two is seen elsewhere.
    Seen,
    /// The peer's shim is not heard.
    Silent,
}

impl Flow {
    /// It goes where its host goes.
    fn goes_along(&self) -> bool {
        self.place.anywhere && self.may_move() && self.is_live()
    }

    /// Whether its program sent something and nothing has come since.
    pub(super) fn is_unconfirmed(&self) -> bool {
        self.place.counts.is_some_and(|counts| counts.since.is_some())
    }

    /// Whether nothing comes though its program sends, as these counts of it say.
    fn is_deaf(&mut self, now: Instant, received: u64, sent: u64) -> bool {
        match &mut self.place.counts {
            Some(counts) if counts.received == received && sent > counts.sent => {
                let since = *counts.since.get_or_insert(now);
                sent >= counts.sent + UNCONFIRMED && now >= since + DEAF_AFTER
            }
            counts => {
                *counts = Some(Counts { received, sent, since: None });
                false
            }
        }
    }

    /// What a program reads whose peer was silent for too long.
    pub(super) fn reason_of_silence(&self) -> EndReason {
        match self.place.adrift {
            Some(Adrift::Here) => EndReason::AddressGone,
            _ => EndReason::PeerTimedOut,
        }
    }
}

impl Shim {
    /// Whether a flow's socket is better bound to no address, where this host may have another one later: a message or stream flow
    /// through a rendezvous, or what may become one.
    pub fn may_go_along(&self, key: Key) -> bool {
        let key = self.sides.flow_of(key).unwrap_or(key);
        self.flows.get(&key).is_some_and(|flow| flow.met.is_some() && (flow.accepting || flow.is_protected()))
    }

    /// The socket of a flow was connected, and has this address by that; of one that is bound to no address.
    pub fn is_at(&mut self, key: Key, local: SocketAddr) {
        if let Some(flow) = self.flows.get_mut(&key)
            && flow.place.anywhere
            && !local.ip().is_unspecified()
        {
            flow.local = Some(local);
        }
    }

    /// Where a socket is that was opened or handed back. `true`: all over this host.
    pub(super) fn place(&self, local: SocketAddr) -> (SocketAddr, bool) {
        let anywhere = local.ip().is_unspecified();
        let ip = if anywhere { self.settings.listen.ip() } else { local.ip() };
        (SocketAddr::new(ip, local.port()), anywhere)
    }

    /// This host is somewhere else: flows that can go along do.
    pub(super) fn go_along(&mut self, now: Instant, ip: IpAddr) {
        let goes = self.flows.iter().filter(|(_, flow)| flow.goes_along()).map(|(key, _)| *key);
        for key in goes.collect::<Vec<_>>() {
            if let Some(local) = self.flows.get_mut(&key).and_then(|flow| flow.local.as_mut()) {
                local.set_ip(ip);
            }
            self.stop_attempt(key);
            self.set_adrift(now, key, Adrift::Here, Duration::ZERO);
        }
    }

    /// Another path is wanted. The asking side looks for one; the other says so, and waits to be asked.
    pub(super) fn set_adrift(&mut self, now: Instant, key: Key, why: Adrift, within: Duration) {
        let Some(flow) = self.flows.get_mut(&key).filter(|flow| flow.may_move() && flow.is_live()) else { return };
        // What this side did itself stays the reason.
        if flow.place.adrift != Some(Adrift::Here) {
            flow.place.adrift = Some(why);
        }
        self.seek_soon(now, key, within);
        self.say_adrift(key);
        self.settle(key);
    }

    /// The accepting side: what it cannot look for itself it asks for, through the server. The other side may hear all that it sends.
    fn say_adrift(&mut self, key: Key) {
        let Some(flow) = self.flows.get(&key).filter(|flow| flow.accepting) else { return };
        if let Some(of) = flow.of {
            let (ours, theirs) = (flow.ours, flow.theirs);
            self.control(carried_to(of.host), ControlKind::Moved, ours, theirs);
        }
    }

    /// The accepting side is adrift, and says so: this one looks, as often as it may.
    pub(super) fn peer_is_adrift(&mut self, now: Instant, key: Key, control: &Control) {
        let asks = |flow: &&Flow| flow.is(control.receiver, control.sender) && !flow.accepting && flow.may_move();
        let Some(flow) = self.flows.get(&key).filter(asks) else {
            return self.counters.count(Reason::UnexpectedControl);
        };
        if flow.place.adrift.is_none() {
            let within = flow.moving.as_ref().map_or(Duration::ZERO, |moving| moving.rest(now));
            self.set_adrift(now, key, Adrift::Seen, within);
        }
    }

    /// Probes of its pair of hosts go unanswered, and nothing came on the flow meanwhile.
    pub(super) fn is_silent(&mut self, now: Instant, key: Key) {
        let spread = self.spread();
        if self.flows.get(&key).is_some_and(|flow| flow.may_move() && flow.place.adrift.is_none()) {
            self.set_adrift(now, key, Adrift::Silent, spread);
            // The box that forgot may be this host's: then no introduction comes through it either.
            if let Some(member) = &mut self.member {
                member.soon(now);
            }
        }
    }

    /// The program's counts of a flow: whether its own path is gone, though the shims may hear each other.
    pub(super) fn listen(&mut self, now: Instant, key: Key, received: u64, sent: u64) {
        let Some(flow) = self.flows.get_mut(&key).filter(|flow| flow.may_move()) else { return };
        let before = flow.place.counts;
        if flow.is_deaf(now, received, sent) {
            match flow.place.adrift {
                None => self.is_silent(now, key),
                // The word may have been lost.
                Some(_) => self.say_adrift(key),
            }
        } else if before.is_some_and(|before| before.received != received) && !self.is_pair_silent(key) {
            self.is_heard_again(&[key]);
        }
    }

    /// The peer's shim is heard again where it was: its flows' paths are taken for good, too.
    pub(super) fn is_heard_again(&mut self, keys: &[Key]) {
        for key in keys {
            let Some(flow) = self.flows.get_mut(key).filter(|flow| flow.place.adrift == Some(Adrift::Silent)) else {
                continue;
            };
            flow.place.adrift = None;
            if flow.way != Some(Way::Relayed) {
                self.seek_no_more(*key);
            }
            self.settle(*key);
        }
    }
}
