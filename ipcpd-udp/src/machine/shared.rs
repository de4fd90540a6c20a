//! Accepted flows on the listen port: one port to open or forward at the server, for all flows (`--sp-range listen`).
//!
//! The sockets share the port with the listener's under SO_REUSEPORT: what comes from a flow's client goes to its
//! socket, all else to the listener. So three things are other than on ports of their own:
//!
//! * Whoever gets a socket connected takes an address away from everybody. Only callers that are proven do.
//! * A request that comes again once its flow's socket is connected goes there, and the filter drops it. The kernel
//!   counts that; whoever looks at the count knows that the answer was lost.
//! * What a client sends to a flow that is over comes to the listener. docs/decisions/0012.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::shim::Peek;
use proto::v1::{Failure, FailureKind};

use super::flow::{Flow, State};
use super::output::{Key, Output, Owner};
use super::{Reason, Shim};

/// Between the first two looks for repeated requests; grows by half.
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LONGEST_LOOK: Duration = Duration::from_millis(500);
/// Looked for so much longer than the client asks.
const LAST_LOOK: Duration = Duration::from_secs(1);
/// Requests of a classic caller that come again are kept from the program this long.
const CLASSIC_REPEATS: Duration = Duration::from_secs(3);
/// What still comes from the client of a flow that is over is no request for so long.
const LATE: Duration = Duration::from_secs(60);

/// Of a flow on the listen port.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shared {
    /// Its client may ask until then.
    pub(super) asks_until: Option<Instant>,
    /// When it is looked whether the request came again.
    pub(super) look: Option<Look>,
    /// What was dropped at its socket before it was connected.
    lost: u32,
    /// Nothing of its client's comes to its socket any more, unless that was retired since.
    detached: bool,
}

/// Looking for repeated requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) next: Instant,
    pause: Duration,
    /// What the filter had dropped at the last look.
    dropped: u32,
}

impl Shared {
    /// Of a flow with a port of its own, to which its request came: that comes there again, too.
    pub(super) fn asked_until(until: Instant) -> Self {
        Self { asks_until: Some(until), ..Self::default() }
    }
}

impl Shim {
    /// Whether accepted flows are on the listen port.
    pub(super) fn shares(&self) -> bool {
        self.settings.shares.is_some()
    }

    /// A new flow's socket is to be on the listen port. One address has one flow: a client that asks anew from where it
    /// asked before has given that up.
    pub(super) fn reserve(&mut self, now: Instant, key: Key) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        flow.shared = Some(Shared::default());
        flow.path.direct = true;
        let from = flow.peer;
        if let Some(before) = self.by_peer.insert(from, key)
            && self.flows.get(&before).is_some_and(|before| matches!(before.state, State::Waiting(_)))
        {
            self.withdrawn(now, before);
            self.settle(before);
        }
        self.out(Output::Reserve { key });
    }

    /// Whether a classic caller may have the address. Nobody proves anything in classic: not one that is asked for or
    /// from which a shim speaks.
    pub(super) fn is_taken(&self, from: SocketAddr) -> bool {
        self.by_peer.contains_key(&from) || self.pairs.speaks(from)
    }

    /// On the listen port: late for a flow that is over.
    pub(super) fn is_late(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) -> bool {
        let late = self.shares() && self.left.has(now, &from) && Peek::read(bytes).is_none();
        if late {
            self.counters.count(Reason::LateSdu);
        }
        late
    }

    /// Why a program may not have the flow: on the listen port, who holds a socket could take the listener's datagrams.
    pub(super) fn not_for(&mut self, owner: &Owner) -> Option<Failure> {
        let own = self.settings.shares.filter(|own| *own != owner.uid)?;
        self.counters.count(Reason::OtherUser);
        let text = format!(
            "layer {} has its flows on the listen port, for programs of user {own} only, and this one is of user {}; run \
             it as that user, or bootstrap without --sp-range listen",
            self.settings.layer, owner.uid
        );
        Some(Failure::new(FailureKind::NotPermitted, text))
    }

    /// The flow's socket is to be connected to its client.
    pub(super) fn connect_sp(&mut self, now: Instant, key: Key) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let (peer, filter, shared) = (flow.peer, flow.filter(), flow.is_on_listen_port());
        if flow.classic && shared {
            flow.swap_at = Some(now + CLASSIC_REPEATS);
        }
        self.out(if shared { Output::Join { key, peer, filter } } else { Output::Connect { key, peer, filter } });
    }

    /// While the flow's socket joined the port, so many datagrams of others did not fit its queue.
    pub fn lost(&mut self, key: Key, datagrams: u32) {
        self.counters.add(Reason::LostJoining, datagrams.into());
        if let Some(shared) = self.flows.get_mut(&key).and_then(|flow| flow.shared.as_mut()) {
            shared.lost = datagrams;
        }
    }

    /// Acceptance was said: from now on it is looked whether the client asks again.
    pub(super) fn look_for_repeats(&mut self, now: Instant, key: Key) {
        if let Some(flow) = self.flows.get_mut(&key)
            && let Some(shared) = &mut flow.shared
            && !flow.classic
        {
            shared.look = Some(Look { next: now + FIRST_LOOK, pause: FIRST_LOOK * 3 / 2, dropped: shared.lost });
        }
    }

    /// A look is due.
    pub(super) fn look_again(&mut self, now: Instant, key: Key) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let (Some(id), Some(shared)) = (flow.id, &mut flow.shared) else { return };
        let Some(look) = &mut shared.look else { return };
        if look.next > now {
            return;
        }
        look.next = now + look.pause;
        look.pause = (look.pause * 3 / 2).min(LONGEST_LOOK);
        if shared.asks_until.is_none_or(|until| now >= until + LAST_LOOK) {
            shared.look = None;
        }
        self.out(Output::CheckDropped { key, flow: id });
    }

    /// How many datagrams were dropped at the flow's socket so far, and how many SDUs its program received, as
    /// [`Output::CheckDropped`] asked.
    pub fn dropped(&mut self, now: Instant, key: Key, dropped: u32, received: u64) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let live = matches!(flow.state, State::Offered | State::Held | State::Probing(_));
        let Some(look) = flow.shared.as_mut().and_then(|shared| shared.look.as_mut()) else { return };
        let more = look.dropped != dropped;
        look.dropped = dropped;
        if received > 0 || !live {
            // The client sends SDUs: it has the answer.
            flow.answer_arrived();
        } else if more {
            self.counters.count(Reason::Repeats);
            self.say_accepted(now, key, None);
        }
        self.settle(key);
    }

    /// What its client still sends is not for the program: whoever holds the flow's socket keeps nothing from the
    /// listener. Again when the socket is closed: it may have been retired in between.
    pub(super) fn detach(&mut self, now: Instant, key: Key, closing: bool) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let (peer, connected) = (flow.peer, flow.answered.is_some() || flow.request.is_none());
        let on_listen_port = flow.is_on_listen_port();
        if let Some(shared) = &mut flow.shared
            && on_listen_port
            && connected
            && (closing || !shared.detached)
        {
            shared.detached = true;
            self.left.rest(now, peer, LATE);
            self.out(Output::Detach { key });
        }
    }
}

impl Flow {
    /// The client has shown that it heard the acceptance.
    pub(super) fn answer_arrived(&mut self) {
        if let Some(shared) = &mut self.shared {
            shared.look = None;
        }
    }
}
