//! A program brings a flow back after this process was restarted.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::Cube;
use proto::v1::{Failure, FailureKind};

use super::finding::Others;
use super::flow::{Flow, State};
use super::liveness::Vital;
use super::open::Path;
use super::output::{Key, Owner};
use super::roaming::{Adrift, Place};
use super::shared::Shared;
use super::table::{Cause, Phase};
use super::{Reason, Shim, ticket};

/// A flow that was taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// The machine's number of it from now on.
    pub key: Key,
    /// irmd's id of it.
    pub flow: proto::FlowId,
    /// Longest SDU, bytes.
    pub sdu_limit: u32,
}

impl Shim {
    /// Takes a flow back whose socket is bound to `local` (perhaps to no address of this host's) and connected to `peer`, if the ticket says the same and the
    /// process is of the ticket's user. `None`: connected to nobody, which of message and stream flows the
    /// accepting side may be, and the asking one through a rendezvous.
    pub fn adopt(
        &mut self,
        now: Instant,
        sealed: &[u8],
        owner: Owner,
        local: SocketAddr,
        peer: impl Into<Option<SocketAddr>>,
    ) -> Result<Adopted, Failure> {
        let result = self.take_back(now, sealed, owner, local, peer.into());
        self.counters.count(if result.is_ok() { Reason::Adopted } else { Reason::TicketRefused });
        result
    }

    fn take_back(
        &mut self,
        now: Instant,
        sealed: &[u8],
        owner: Owner,
        local: SocketAddr,
        peer: Option<SocketAddr>,
    ) -> Result<Adopted, Failure> {
        let (local, anywhere) = self.place(local);
        let ticket = self.check_ticket(sealed, &owner, local, peer, anywhere)?;
        let moved = ticket.local.ip() != local.ip();
        let peer = peer.unwrap_or(ticket.peer);
        let key = self.next_key();
        let shared = ticket.accepting && local == self.settings.listen;
        let (flow, sdu_limit, of) = (ticket.flow, ticket.sdu_limit, ticket.of());
        let mut adopted = Flow {
            id: Some(ticket.flow),
            name: ticket.name,
            source: ticket.source,
            qos: ticket.qos,
            since: self.born(now, ticket.born),
            accepting: ticket.accepting,
            classic: ticket.classic,
            ours: ticket.ours,
            theirs: ticket.theirs,
            of,
            starts: Vec::new(),
            peer,
            control: ticket.control,
            local: Some(local),
            owner,
            sdu_limit,
            data: Vec::new(),
            heard: Vec::new(),
            asked: None,
            requests: 0,
            taken: None,
            request: None,
            answered: None,
            swap_at: None,
            keepalive: None,
            path: Path::default(),
            others: Others::default(),
            shared: shared.then(Shared::default),
            met: None,
            way: ticket.way,
            moving: None,
            place: Place { anywhere, adrift: None, counts: None },
            vital: Vital::default(),
            state: State::Held,
            armed: None,
            tallied: Phase::Held,
            #[cfg(test)]
            visited: Vec::new(),
        };
        adopted.begin(Cause::Adopted);
        adopted.keepalive(now);
        self.keep_port(key, local, peer, shared);
        self.insert(key, adopted);
        self.pair(now, key);
        self.brought_back(key);
        self.begin_moving(now, key);
        self.resume_mapping(now, key);
        if moved {
            self.set_adrift(now, key, Adrift::Here, Duration::ZERO);
        }
        self.settle(key);
        Ok(Adopted { key, flow, sdu_limit })
    }

    /// What the ticket was sealed for, if it is this user's and this socket's, and there is room for it.
    fn check_ticket(
        &self,
        sealed: &[u8],
        owner: &Owner,
        local: SocketAddr,
        peer: Option<SocketAddr>,
        anywhere: bool,
    ) -> Result<ticket::Ticket, Failure> {
        let not_permitted = |text: &str| Err(Failure::new(FailureKind::NotPermitted, text));
        let Some(ticket) = ticket::open(&self.settings.ticket_key, sealed) else {
            return not_permitted("the ticket is not one of this IPCP's; allocate the flow anew");
        };
        if ticket.uid != owner.uid {
            return not_permitted("the ticket belongs to another user; allocate the flow anew");
        }
        // An accepted flow may have followed its peer through a middlebox after the ticket was sealed.
        let asks = !ticket.accepting;
        let strayed = match peer {
            Some(peer) => ticket.peer != peer && (ticket.classic || !ticket.accepting),
            // The asking side's socket has no peer where it started at a relay, from which it may move.
            None => ticket.qos.cube == Cube::Raw || asks && ticket.way.is_none() || local == self.settings.listen,
        };
        // A host behind NATs may have gone to another address since, and have this one still.
        let elsewhere = self.member.is_none() && (anywhere || local.ip() != self.settings.listen.ip());
        // And that of one that is bound to none is this host's, wherever that was then.
        let own = if anywhere { ticket.local.port() == local.port() } else { ticket.local == local };
        if !own || strayed || elsewhere {
            return not_permitted("the socket is not the one of the ticket; allocate the flow anew");
        }
        if self.by_id.contains_key(&ticket.flow) || self.by_wire.contains_key(&ticket.ours) {
            let text = format!("flow {} is here already; it cannot be brought back twice", ticket.flow);
            return Err(Failure::new(FailureKind::AlreadyExists, text));
        }
        if self.full() {
            let text = format!("{} flows are open, no more fit; deallocate some", self.flows.len());
            return Err(Failure::new(FailureKind::Exhausted, text));
        }
        Ok(ticket)
    }

    fn keep_port(&mut self, key: Key, local: SocketAddr, peer: SocketAddr, shared: bool) {
        if shared {
            self.by_peer.insert(peer, key);
        } else {
            self.ports.hold(local.port());
        }
    }

    fn born(&self, now: Instant, host_ms: u64) -> Instant {
        self.epoch.filter(|_| host_ms > 0).map_or(now, |epoch| epoch.to_instant(host_ms, now))
    }
}
