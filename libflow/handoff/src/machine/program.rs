//! The ledger's inputs from programs: leases that open, speak and end.

use std::collections::{BTreeSet, HashSet};

use proto::handoff::{ToDaemon, ToProgram};
use proto::shim::Unwanted;
use proto::v1::{self, Adopt, Counters, Failure, FailureKind};
use proto::{FlowId, Token, protocol_version};

use super::failures::{no_slot, not_yours, too_many_waiting, unknown_token};
use super::ledger::{Adoption, Holder, Lease, Ledger, Row};
use super::slots::Slots;
use super::tokens::{Offered, Redeemed};
use super::{Effect, LeaseId, Told};
use crate::server::{AdoptionId, MAX_TICKET, Owner, Process};

impl<S> Ledger<S> {
    /// A program has opened a lease; it has yet to say Hello.
    pub(crate) fn opened(&mut self, lease: LeaseId, process: Process) {
        let slots = Slots::new(self.limits.slots);
        let row = Lease {
            process,
            greeted: false,
            slots,
            waiting: HashSet::new(),
            adopting: HashSet::new(),
            flows: BTreeSet::new(),
        };
        self.leases.insert(lease, row);
    }

    /// A lease has ended, whoever ended it.
    pub(crate) fn closed(&mut self, lease: LeaseId) {
        let Some(row) = self.leases.remove(&lease) else { return };
        for token in row.waiting {
            self.tokens.stop_waiting(token, lease);
        }
        for adoption in row.adopting {
            self.adoptions.remove(&adoption);
        }
        let mut flows = Vec::new();
        for flow in row.flows {
            let Some(old) = self.flows.remove(&flow) else { continue };
            if let Holder::Held { lease, slot, released } = old.holder {
                self.effects.push_back(Effect::Count { lease, slot, seen: old.seen });
                if !released && old.gone.is_none() && !old.forgotten {
                    flows.push((flow, slot));
                }
            }
        }
        if !row.greeted {
            return;
        }
        let left = self.leases_of.get_mut(&row.process).map_or(0, |n| {
            *n -= 1;
            *n
        });
        if left == 0 {
            self.leases_of.remove(&row.process);
        }
        self.tell(Told::LeaseClosed { lease, process: row.process, flows, last_of_process: left == 0 });
    }

    /// A program said something; `descriptor`: one came beside it.
    pub(crate) fn handle_packet(&mut self, lease: LeaseId, packet: ToDaemon, descriptor: bool) {
        let Some(row) = self.leases.get(&lease) else { return };
        match packet {
            ToDaemon::Hello(hello) if !row.greeted => self.hello(lease, hello.version),
            _ if !row.greeted => self.close(lease, "it did not begin with Hello"),
            ToDaemon::Hello(_) => self.close(lease, "it said Hello twice"),
            ToDaemon::Redeem(redeem) => match Token::from_bytes(&redeem.token) {
                Some(token) => self.redeem(lease, token),
                None => self.close(lease, "a token was not 16 bytes long"),
            },
            ToDaemon::Release(release) => self.release(lease, FlowId(release.flow_id)),
            ToDaemon::Suspect(suspect) => {
                let flow = FlowId(suspect.flow_id);
                if row.flows.contains(&flow) {
                    self.tell(Told::Suspect { flow });
                }
            }
            ToDaemon::Heard(v1::Heard { flow_id, from, datagram }) => match from.parse() {
                Ok(from) if row.flows.contains(&FlowId(flow_id)) => {
                    self.tell(Told::Heard { flow: FlowId(flow_id), from, datagram });
                }
                // Released in this moment.
                Ok(_) => {}
                Err(_) => self.close(lease, "a datagram came from no address"),
            },
            ToDaemon::Adopt(adopt) if descriptor => self.adopt(lease, adopt),
            ToDaemon::Adopt(_) => self.close(lease, "it handed back a flow without its socket"),
        }
    }

    /// How sending a Grant went: `None` when it has been sent, else why it could not be.
    pub(crate) fn granted(&mut self, lease: LeaseId, flow: FlowId, token: Token, failed: Option<Failure>) {
        let Some(row) = self.leases.get(&lease) else { return self.tell(Told::NotTaken { flow }) };
        let Some(failure) = failed else {
            let process = row.process;
            return self.tell(Told::Taken { flow, process });
        };
        if let Some(Row { holder: Holder::Held { lease, slot, .. }, .. }) = self.flows.remove(&flow)
            && let Some(row) = self.leases.get_mut(&lease)
        {
            row.flows.remove(&flow);
            row.slots.give_back(slot);
        }
        self.deny(lease, &token.0, failure);
        self.tell(Told::NotTaken { flow });
    }

    fn hello(&mut self, lease: LeaseId, version: u32) {
        let ours = protocol_version();
        if version != ours {
            let text = format!(
                "the program speaks version {version} of the hand-over protocol, the daemon version {ours}; \
                 run both from the same release"
            );
            self.deny(lease, &[], Failure::new(FailureKind::Invalid, text));
            return self.close(lease, "it speaks another version");
        }
        let Some(row) = self.leases.get_mut(&lease) else { return };
        row.greeted = true;
        let process = row.process;
        *self.leases_of.entry(process).or_default() += 1;
        self.effects.push_back(Effect::Welcome { lease, slots: self.limits.slots });
        self.tell(Told::LeaseOpened(process));
    }

    pub(super) fn redeem(&mut self, lease: LeaseId, token: Token) {
        let Some(row) = self.leases.get_mut(&lease) else { return };
        if row.waiting.len() >= self.limits.waiting {
            return self.deny(lease, &token.0, too_many_waiting());
        }
        let caller = Owner { uid: row.process.uid, pid: row.process.pid };
        match self.tokens.redeem(token, lease, caller) {
            Redeemed::Yours(offered) => self.grant(lease, token, offered),
            Redeemed::Wait => {
                if let Some(row) = self.leases.get_mut(&lease) {
                    row.waiting.insert(token);
                }
            }
            Redeemed::Full => self.deny(lease, &token.0, too_many_waiting()),
            Redeemed::NotYours => self.deny(lease, &token.0, not_yours()),
            Redeemed::Unknown => self.deny(lease, &token.0, unknown_token()),
        }
    }

    fn grant(&mut self, lease: LeaseId, token: Token, offered: Offered<S>) {
        let Offered { flow, socket, sdu_limit, ticket, unwanted, binding, fixed, movable, .. } = offered;
        let Some(slot) = self.hold(lease, flow, Counters::default()) else {
            self.flows.remove(&flow);
            self.deny(lease, &token.0, no_slot());
            return self.tell(Told::NotTaken { flow });
        };
        let (wire_id, answers_at) = unwanted.map_or((0, 0), Unwanted::parts);
        let grant = v1::Grant {
            token: token.0.to_vec(),
            flow_id: flow.0,
            slot,
            sdu_limit,
            ticket,
            wire_id,
            answers_at,
            binding: binding.map(|binding| binding.0.to_vec()).unwrap_or_default(),
            fixed,
            movable,
        };
        self.effects.push_back(Effect::Grant { lease, flow, token, packet: ToProgram::Grant(grant), socket });
        if let Some(reason) = self.flows.get(&flow).and_then(|row| row.gone) {
            self.say_gone(lease, flow, reason);
        }
    }

    /// Gives `flow` a slot of `lease`; keeps what was said of the flow while it was only offered.
    pub(super) fn hold(&mut self, lease: LeaseId, flow: FlowId, counters: Counters) -> Option<u32> {
        let row = self.leases.get_mut(&lease)?;
        let slot = row.slots.take()?;
        row.flows.insert(flow);
        self.effects.push_back(Effect::SetSlot { lease, slot, counters });
        let holder = Holder::Held { lease, slot, released: false };
        let row = self.flows.entry(flow).or_insert(Row::new(holder));
        // What a flow that was brought back carried before, it did not carry here.
        (row.holder, row.seen) = (holder, counters);
        Some(slot)
    }

    fn release(&mut self, lease: LeaseId, flow: FlowId) {
        let Some(row) = self.flows.get_mut(&flow) else { return };
        match &mut row.holder {
            Holder::Held { lease: holder, released, .. } if *holder == lease && !*released => *released = true,
            _ => return,
        }
        if row.gone.is_none() && !row.forgotten {
            return self.tell(Told::Released { flow });
        }
        self.free(flow);
    }

    fn adopt(&mut self, lease: LeaseId, adopt: Adopt) {
        let Adopt { ticket, counters } = adopt;
        if ticket.len() > MAX_TICKET {
            return self.close(lease, "a ticket was too long");
        }
        let Some(row) = self.leases.get_mut(&lease) else { return };
        if row.adopting.len() >= self.limits.slots as usize {
            return self.deny(lease, &ticket, no_slot());
        }
        let adoption = AdoptionId(self.next_adoption);
        self.next_adoption += 1;
        row.adopting.insert(adoption);
        let process = row.process;
        let counters = counters.unwrap_or_default();
        self.adoptions.insert(adoption, Adoption { lease, ticket: ticket.clone(), counters });
        self.tell(Told::Adopt { adoption, process, ticket, counters });
    }
}
