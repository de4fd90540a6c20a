//! One flow: what it is, and its state with the state's data inside.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::shim::Asked;
use proto::{FlowId, Name, Qos, Token, WireId};

use super::finding::Others;
use super::introduced::Refusing;
use super::liveness::{Peer, Vital};
use super::meeting::{Meeting, Met};
use super::moving::Moving;
use super::open::{Knocking, Path};
use super::output::Owner;
use super::rendezvous::punch::Way;
use super::roaming::Place;
use super::shared::Shared;
use super::table::{self, Cause, Phase};

/// Starts of a peer's shim within one allocation; more are no shim's.
const MOST_STARTS: usize = 4;

/// Everything the machine knows of a flow.
#[derive(Debug)]
pub(super) struct Flow {
    /// irmd's id: given with `flow_alloc`, or with the program's acceptance.
    pub(super) id: Option<FlowId>,
    pub(super) name: Name,
    /// Who asked for it.
    pub(super) source: String,
    pub(super) qos: Qos,
    pub(super) since: Instant,
    /// A program of this host accepted it; else one of this host asked for it.
    pub(super) accepting: bool,
    pub(super) classic: bool,
    /// This side's random id.
    pub(super) ours: WireId,
    /// The peer's; zero while it is not known, and for classic peers for ever.
    pub(super) theirs: WireId,
    /// The peer's host and its start, which accepted; none of a classic peer.
    pub(super) of: Option<Peer>,
    /// Asking side: starts of the peer's shim, in the order in which they answered first.
    pub(super) starts: Vec<Peer>,
    /// The peer's end: cp of an asking peer; the listen port, then sp, of an accepting one.
    pub(super) peer: SocketAddr,
    /// Where the peer's shim takes control datagrams.
    pub(super) control: SocketAddr,
    /// This end, once its socket is open.
    pub(super) local: Option<SocketAddr>,
    pub(super) owner: Owner,
    pub(super) sdu_limit: u32,
    /// Piggy-back that this side sends: with the request, or with the answer. At the accepting side first what came.
    pub(super) data: Vec<u8>,
    /// Asking side: piggy-back of the acceptance.
    pub(super) heard: Vec<u8>,
    /// Message and stream flows, until their program may have the socket: the request as both sides know it.
    pub(super) asked: Option<Box<Asked>>,
    /// Asking side: requests sent to its peer, in all.
    pub(super) requests: u32,
    /// When its program took it.
    pub(super) taken: Option<Instant>,
    /// Accepting side: what makes a request a duplicate of the one that began this flow.
    pub(super) request: Option<RequestKey>,
    /// Accepting side: when it was answered.
    pub(super) answered: Option<Instant>,
    /// Asking side of a classic flow: late echoes are no longer expected from here on.
    pub(super) swap_at: Option<Instant>,
    pub(super) keepalive: Option<KeepAlive>,
    /// How its datagrams come through middleboxes.
    pub(super) path: Path,
    /// Asking side: hosts that have the name, too, for when this one has no flow to give.
    pub(super) others: Others,
    /// Accepting side: it is on the listen port.
    pub(super) shared: Option<Shared>,
    /// It comes, or came, about through a rendezvous.
    pub(super) met: Option<Box<Met>>,
    /// What the peer's address is, where a rendezvous introduced the two.
    pub(super) way: Option<Way>,
    /// It may move from there.
    pub(super) moving: Option<Box<Moving>>,
    /// Where its socket is, and whether its path is.
    pub(super) place: Place,
    /// What is known of the peer's being there.
    pub(super) vital: Vital,
    pub(super) state: State,
    /// The state's entry in the timers.
    pub(super) armed: Option<Instant>,
    /// What the machine's tally counts the flow as.
    pub(super) tallied: Phase,
    #[cfg(test)]
    pub(super) visited: Vec<(Phase, Cause, Phase)>,
}

/// What makes two requests one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RequestKey {
    pub(super) from: SocketAddr,
    /// The client's id; `None` from a classic shim.
    pub(super) client: Option<WireId>,
    pub(super) name: Name,
}

/// When an empty datagram is due, if the program sends nothing itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeepAlive {
    pub(super) every: Duration,
    pub(super) next: Instant,
    /// SDUs the program had sent at the last look.
    pub(super) sent: u64,
}

#[derive(Debug)]
pub(super) enum State {
    /// The port cp is being opened.
    Opening(Opening),
    /// Through a rendezvous: it is asked, then hellos go out, until there is a path.
    Meeting(Meeting),
    /// Requests are sent, nothing was heard.
    Asking(Asking),
    /// The peer said PENDING.
    Promised(Asking),
    /// The peer accepted and was heard from its listen port only; sp is asked to open the way.
    Knocking(Knocking),
    /// cp is being connected to the peer's sp.
    Joining(Joining),
    /// sp is being opened; for a classic caller whose echo goes on arrival, also connected.
    Reserving(Waiting),
    /// irmd looks for a program.
    Waiting(Waiting),
    /// Through a rendezvous: refused, and said again as often as it is asked.
    Refusing(Refusing),
    /// The program accepted; sp is being connected.
    Accepting(Accepting),
    /// The socket waits for its program, up to the life of a token.
    Offered,
    /// The program has the socket.
    Held,
    /// Something said that the peer's end is gone; its shim is asked.
    Probing(Probing),
    /// This side is done; what it sent is on its way out.
    Flushing(Flushing),
    /// This side is done and says so to the peer.
    Telling(Telling),
    /// The peer is done; the program may read what arrived.
    Draining(Draining),
    /// To be removed.
    Over,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Opening {
    pub(super) deadline: Instant,
    pub(super) timeout: Duration,
    pub(super) tries: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Asking {
    pub(super) deadline: Instant,
    pub(super) timeout: Duration,
    pub(super) asked: u32,
    pub(super) next: Instant,
    /// From the last request to `next`, without jitter.
    pub(super) pause: Duration,
    pub(super) longest: Duration,
    /// So many requests are sent before the pause grows.
    pub(super) steady: u32,
    /// How often in a row the network said unreachable.
    pub(super) unreachable: u32,
    /// The peer's shim said that it restarted a moment ago.
    pub(super) recovering: bool,
    pub(super) cookie: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Joining {
    pub(super) deadline: Instant,
    /// The caller has been told already.
    pub(super) told: Option<Token>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) deadline: Instant,
    pub(super) token: Token,
    /// sp is connected already.
    pub(super) echoed: bool,
    /// The request brought a cookie.
    pub(super) proven: bool,
    pub(super) tries: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Accepting {
    pub(super) token: Token,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Probing {
    pub(super) sent: u32,
    pub(super) next: Instant,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Flushing {
    pub(super) until: Instant,
    pub(super) next: Instant,
    pub(super) died: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Telling {
    pub(super) told: u32,
    pub(super) next: Instant,
    pub(super) died: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Draining {
    pub(super) reason: proto::v1::EndReason,
    /// When the program had the socket and the end was known.
    pub(super) since: Option<Instant>,
    /// When the end was known.
    pub(super) arrived: Instant,
    pub(super) next: Instant,
    pub(super) pause: Duration,
    /// The program knows.
    pub(super) told: bool,
}

impl State {
    pub(super) fn phase(&self) -> Phase {
        match self {
            Self::Opening(_) => Phase::Opening,
            Self::Meeting(_) => Phase::Meeting,
            Self::Refusing(_) => Phase::Refusing,
            Self::Asking(_) => Phase::Asking,
            Self::Promised(_) => Phase::Promised,
            Self::Knocking(_) => Phase::Knocking,
            Self::Joining(_) => Phase::Joining,
            Self::Reserving(_) => Phase::Reserving,
            Self::Waiting(_) => Phase::Waiting,
            Self::Accepting(_) => Phase::Accepting,
            Self::Offered => Phase::Offered,
            Self::Held => Phase::Held,
            Self::Probing(_) => Phase::Probing,
            Self::Flushing(_) => Phase::Flushing,
            Self::Telling(_) => Phase::Telling,
            Self::Draining(_) => Phase::Draining,
            Self::Over => Phase::Over,
        }
    }

    /// When the state wants to be looked at.
    fn wake(&self) -> Option<Instant> {
        match self {
            Self::Opening(Opening { deadline, .. }) | Self::Joining(Joining { deadline, .. }) => Some(*deadline),
            Self::Meeting(Meeting { deadline, next, .. }) => Some(*deadline.min(next)),
            Self::Refusing(refusing) => Some(refusing.until),
            Self::Asking(asking) | Self::Promised(asking) => Some(asking.next.min(asking.deadline)),
            Self::Knocking(knocking) => Some(knocking.next.min(knocking.deadline)),
            Self::Reserving(waiting) | Self::Waiting(waiting) => Some(waiting.deadline),
            Self::Probing(Probing { next, .. })
            | Self::Flushing(Flushing { next, .. })
            | Self::Telling(Telling { next, .. })
            | Self::Draining(Draining { next, .. }) => Some(*next),
            Self::Accepting(_) | Self::Offered | Self::Held | Self::Over => None,
        }
    }
}

impl Flow {
    /// Changes the state; the table must have the transition.
    pub(super) fn go(&mut self, cause: Cause, next: State) {
        let (from, to) = (self.state.phase(), next.phase());
        self.note(from, cause, to);
        self.state = next;
    }

    /// The first transition, for a flow that was made in its first state.
    pub(super) fn begin(&mut self, cause: Cause) {
        self.note(Phase::New, cause, self.state.phase());
    }

    fn note(&mut self, from: Phase, cause: Cause, to: Phase) {
        debug_assert!(table::allowed(from, cause, to), "{from:?} --{cause:?}--> {to:?} is not in the table");
        #[cfg(test)]
        self.visited.push((from, cause, to));
    }

    pub(super) fn wake(&self) -> Option<Instant> {
        let keepalive = self.keepalive.map(|keepalive| keepalive.next);
        let look = self.shared.and_then(|shared| shared.look).map(|look| look.next);
        let moving = self.moving.as_ref().and_then(|moving| moving.wake());
        [self.state.wake(), keepalive, self.swap_at, self.path.catching, look, moving].into_iter().flatten().min()
    }

    /// Asking side: an extended answer came. `false`: from a start of the peer's shim that is over, as a later one's answer
    /// told. What it accepted is gone, and where flows are on the listen port the later one's flow would be taken for it.
    pub(super) fn answers(&mut self, of: Peer) -> bool {
        if let Some(known) = self.starts.iter().position(|start| *start == of) {
            return known + 1 == self.starts.len();
        }
        if self.starts.len() == MOST_STARTS {
            self.starts.remove(0);
        }
        self.starts.push(of);
        true
    }

    /// Whether its socket shares the listen port.
    pub(super) fn is_on_listen_port(&self) -> bool {
        self.shared.is_some() && self.met.is_none()
    }

    /// Whether a peer that knows both ids speaks of this flow.
    pub(super) fn is(&self, ours: WireId, theirs: WireId) -> bool {
        self.ours == ours && self.theirs == theirs && theirs != WireId(0)
    }
}
