//! The ledger against a naive model, over random lives of programs and flows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proto::handoff::{ToDaemon, ToProgram};
use proto::v1::{Adopt, EndReason, Failure, FailureKind, Hello, Redeem, Release};
use proto::{FlowId, PROTOCOL_VERSION, Token};

use super::{Effect, LeaseId, Ledger, Limits, Offered, Told};
use crate::server::{Owner, Process};

const SLOTS: u32 = 2;
const TAKE_WITHIN: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
enum Step {
    Open(u64),
    Close(u64),
    Expect(u8),
    Offer(u8, u32),
    Withdraw(u8),
    Redeem(u64, u8),
    Release(u64, u8),
    Adopt(u64, bool),
    Gone(u8),
    Forget(u8),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (lease, flow) = (0..3u64, 1..6u8);
    prop_oneof![
        2 => lease.clone().prop_map(Step::Open),
        1 => lease.clone().prop_map(Step::Close),
        1 => flow.clone().prop_map(Step::Expect),
        3 => (flow.clone(), 0..2u32).prop_map(|(flow, pid)| Step::Offer(flow, pid)),
        1 => flow.clone().prop_map(Step::Withdraw),
        4 => (lease.clone(), flow.clone()).prop_map(|(lease, flow)| Step::Redeem(lease, flow)),
        3 => (lease.clone(), flow.clone()).prop_map(|(lease, flow)| Step::Release(lease, flow)),
        1 => (lease, any::<bool>()).prop_map(|(lease, yes)| Step::Adopt(lease, yes)),
        2 => flow.clone().prop_map(Step::Gone),
        2 => flow.prop_map(Step::Forget),
        1 => (0..4u64).prop_map(Step::Pass),
    ]
}

/// What must hold, kept by watching effects only.
#[derive(Default)]
struct Watch {
    open: BTreeSet<u64>,
    /// Flow → (lease, slot), from the grant on until both sides are done with it.
    held: BTreeMap<u64, (u64, u32)>,
    /// Held flows of which the program, and the daemon, is done.
    released: BTreeSet<u64>,
    done: BTreeSet<u64>,
    offered: BTreeSet<u64>,
    /// Redeems without an answer.
    asked: BTreeMap<(u64, Vec<u8>), i64>,
}

impl Watch {
    fn settle(&mut self) {
        let over: Vec<u64> = self.released.intersection(&self.done).copied().collect();
        for flow in over {
            self.held.remove(&flow);
            self.released.remove(&flow);
            self.done.remove(&flow);
        }
    }

    fn hold(&mut self, flow: FlowId, lease: LeaseId, slot: u32) -> Result<(), TestCaseError> {
        prop_assert!(slot < SLOTS);
        prop_assert!(!self.held.values().any(|held| *held == (lease.0, slot)), "a slot has two flows");
        prop_assert!(self.held.insert(flow.0, (lease.0, slot)).is_none(), "a flow has two holders");
        Ok(())
    }

    fn answered(&mut self, lease: LeaseId, asked: &[u8]) -> Result<(), TestCaseError> {
        let open = self.asked.entry((lease.0, asked.to_vec())).or_default();
        *open -= 1;
        prop_assert!(*open >= 0, "an answer that nobody asked for");
        Ok(())
    }

    fn see(&mut self, ledger: &mut Ledger<u8>, yes: bool) -> Result<(), TestCaseError> {
        while let Some(effect) = ledger.poll_effect() {
            match effect {
                Effect::Grant { lease, flow, token, packet: ToProgram::Grant(grant), socket } => {
                    prop_assert!(self.open.contains(&lease.0), "a grant into a closed lease");
                    prop_assert_eq!((u64::from(socket), grant.flow_id), (flow.0, flow.0));
                    self.answered(lease, &grant.token)?;
                    prop_assert!(self.offered.remove(&flow.0), "granted without an offer");
                    self.hold(flow, lease, grant.slot)?;
                    ledger.granted(lease, flow, token, None);
                }
                Effect::Say { lease, packet: ToProgram::Denied(denied) } => self.answered(lease, &denied.token)?,
                Effect::Say { lease, packet: ToProgram::Grant(grant) } => {
                    self.answered(lease, &grant.token)?;
                    self.hold(FlowId(grant.flow_id), lease, grant.slot)?;
                }
                Effect::Say { lease, packet: ToProgram::Gone(gone) } => {
                    prop_assert_eq!(self.held.get(&gone.flow_id).map(|held| held.0), Some(lease.0));
                }
                Effect::Tell(Told::NotTaken { flow }) => {
                    self.offered.remove(&flow.0);
                    self.done.remove(&flow.0);
                }
                Effect::Tell(Told::LeaseClosed { flows, .. }) => {
                    for (flow, _) in flows {
                        prop_assert!(!self.released.contains(&flow.0) && !self.done.contains(&flow.0));
                    }
                }
                Effect::Tell(Told::Adopt { adoption, ticket, .. }) if yes => {
                    ledger.adopted(adoption, FlowId(ticket[0].into()), 9, vec![]);
                }
                Effect::Tell(Told::Adopt { adoption, .. }) => {
                    ledger.denied(adoption, Failure::new(FailureKind::NotPermitted, "no"));
                }
                Effect::Count { lease, slot, seen } => {
                    prop_assert!(slot < SLOTS && lease.0 < 3);
                    ledger.counted(seen, seen);
                }
                Effect::Tell(_) | Effect::Welcome { .. } | Effect::SetSlot { .. } | Effect::Close { .. } => {}
                other => prop_assert!(false, "{other:?}"),
            }
        }
        Ok(())
    }
}

fn process(lease: u64) -> Process {
    Process { pid: u32::try_from(lease % 2).unwrap_or(0), uid: 5, gid: 5 }
}

fn token(flow: u8) -> Token {
    Token([flow; 16])
}

proptest! {
    #[test]
    fn a_flow_has_one_holder_and_each_redeem_one_answer(steps in proptest::collection::vec(step(), 0..120)) {
        let limits = Limits { slots: SLOTS, waiting: 4, take_within: TAKE_WITHIN };
        let mut ledger = Ledger::new(limits);
        let mut watch = Watch::default();
        #[expect(clippy::disallowed_methods, reason = "any instant will do to begin with")]
        let mut now = Instant::now();
        for step in steps {
            let mut yes = false;
            match step {
                Step::Open(lease) if watch.open.insert(lease) => {
                    ledger.opened(LeaseId(lease), process(lease));
                    let hello = ToDaemon::Hello(Hello { version: PROTOCOL_VERSION });
                    ledger.handle_packet(LeaseId(lease), hello, false);
                }
                Step::Open(_) => {}
                Step::Close(lease) => {
                    watch.open.remove(&lease);
                    ledger.closed(LeaseId(lease));
                    watch.see(&mut ledger, false)?;
                    watch.asked.retain(|(asker, _), _| *asker != lease);
                    let gone: Vec<u64> = watch.held.iter().filter(|(_, held)| held.0 == lease).map(|(f, _)| *f).collect();
                    for flow in gone {
                        watch.held.remove(&flow);
                        watch.released.remove(&flow);
                        watch.done.remove(&flow);
                    }
                }
                Step::Expect(flow) => ledger.expect(token(flow)),
                Step::Offer(flow, pid) => {
                    let id = u64::from(flow);
                    // A daemon mints ids and tokens once; offering one that is in use is its bug.
                    if watch.offered.contains(&id) || watch.held.contains_key(&id) {
                        continue;
                    }
                    watch.offered.insert(id);
                    let owner = Owner { uid: 5, pid };
                    let offered = Offered { flow: FlowId(id), owner, socket: flow, sdu_limit: 1, ticket: vec![], unwanted: None, binding: None, fixed: false, movable: false };
                    ledger.offer(now, token(flow), offered);
                }
                Step::Withdraw(flow) => {
                    if watch.offered.remove(&u64::from(flow)) {
                        watch.done.remove(&u64::from(flow));
                    }
                    ledger.withdraw(token(flow), &Failure::new(FailureKind::Refused, "no"));
                }
                Step::Redeem(lease, flow) => {
                    if watch.open.contains(&lease) {
                        *watch.asked.entry((lease, token(flow).0.to_vec())).or_default() += 1;
                    }
                    let redeem = ToDaemon::Redeem(Redeem { token: token(flow).0.to_vec() });
                    ledger.handle_packet(LeaseId(lease), redeem, false);
                }
                Step::Release(lease, flow) => {
                    let id = u64::from(flow);
                    if watch.held.get(&id).is_some_and(|held| held.0 == lease) {
                        watch.released.insert(id);
                    }
                    ledger.handle_packet(LeaseId(lease), ToDaemon::Release(Release { flow_id: id }), false);
                }
                Step::Adopt(lease, answer) => {
                    yes = answer;
                    let ticket = vec![100 + u8::try_from(lease).unwrap_or(0)];
                    if watch.open.contains(&lease) {
                        *watch.asked.entry((lease, ticket.clone())).or_default() += 1;
                    }
                    ledger.handle_packet(LeaseId(lease), ToDaemon::Adopt(Adopt { ticket, counters: None }), true);
                }
                Step::Gone(flow) | Step::Forget(flow) => {
                    let id = u64::from(flow);
                    if watch.held.contains_key(&id) {
                        watch.done.insert(id);
                    }
                    if let Step::Gone(_) = step {
                        // Told to a flow that is still only offered: it counts as done once it is taken.
                        if watch.offered.contains(&id) {
                            watch.done.insert(id);
                        }
                        ledger.gone(FlowId(id), EndReason::Admin);
                    } else {
                        if watch.offered.remove(&id) {
                            watch.done.remove(&id);
                        }
                        ledger.forget(FlowId(id));
                    }
                }
                Step::Pass(seconds) => {
                    now += Duration::from_secs(seconds);
                    ledger.handle_timeout(now);
                }
            }
            watch.see(&mut ledger, yes)?;
            watch.settle();
            for (flow, (lease, slot)) in &watch.held {
                prop_assert_eq!(ledger.slot(FlowId(*flow)), Some((LeaseId(*lease), *slot)));
                prop_assert_eq!(ledger.holder(FlowId(*flow)), Some(process(*lease)));
            }
        }
        // In the end every token has expired and every redeem that still waits waits for an expected token.
        ledger.handle_timeout(now + TAKE_WITHIN);
        watch.see(&mut ledger, false)?;
        prop_assert!(watch.offered.is_empty(), "offered for ever: {:?}", watch.offered);
    }
}
