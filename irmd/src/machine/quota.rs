//! What one user's programs may have of this host, so that none takes it from the others.

use std::collections::HashMap;

use proto::v1::{Failure, FailureKind};

use super::flow::Flow;
use super::transitions::Kind;
use super::{Caller, Irm, fail};

/// How much one user may have. Users in `unlimited` may have what the host has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Flows, at either end, with those being allocated.
    pub flows: usize,
    /// Allocations under way.
    pub pending: usize,
    /// Names that the user's programs serve, each process counted by itself.
    pub names: usize,
    /// Accepts of one process that wait.
    pub accepts: usize,
    /// Users without a limit.
    pub unlimited: Vec<u32>,
}

impl Default for Quotas {
    /// 8,192 flows, 2,048 of them under way, 4,096 names, 1,024 accepts per process; nobody is unlimited.
    fn default() -> Self {
        Self { flows: 8_192, pending: 2_048, names: 4_096, accepts: 1_024, unlimited: Vec::new() }
    }
}

/// What a user has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Ends of flows.
    pub flows: usize,
    /// Those it asked for that are not allocated yet.
    pub pending: usize,
}

/// What every user has who has anything.
#[derive(Debug, Default)]
pub struct Usage(HashMap<u32, Held>);

impl Usage {
    /// A row is there, as it is now.
    pub fn add(&mut self, flow: &Flow) {
        for (uid, pending) in ends(flow) {
            let held = self.0.entry(uid).or_default();
            held.flows += 1;
            held.pending += usize::from(pending);
        }
    }

    /// A row goes, or changes and is to be added again.
    pub fn remove(&mut self, flow: &Flow) {
        for (uid, pending) in ends(flow) {
            let Some(held) = self.0.get_mut(&uid) else { continue };
            held.flows -= 1;
            held.pending -= usize::from(pending);
            if held.flows == 0 {
                self.0.remove(&uid);
            }
        }
    }

    /// What a user has.
    pub fn of(&self, uid: u32) -> Held {
        self.0.get(&uid).copied().unwrap_or_default()
    }

    /// Whether nobody has anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The users of a flow's ends on this host, and whether theirs is still being asked for.
fn ends(flow: &Flow) -> impl Iterator<Item = (u32, bool)> {
    let pending = flow.stage.kind() != Kind::Allocated;
    // An end that was not brought back after a restart is nobody's yet.
    let asks = flow.caller().filter(|process| process.pid != 0).map(|process| (process.uid, pending));
    let accepts = flow.stage.acceptor().map(|process| (process.uid, false));
    asks.into_iter().chain(accepts)
}

impl Irm {
    pub(super) fn is_unlimited(&self, uid: u32) -> bool {
        self.settings.quotas.unlimited.contains(&uid)
    }

    /// Counts what was refused for the sake of a quota or a bound.
    pub(super) fn exhausted(&mut self, counter: &'static str, text: String) -> Failure {
        *self.refused.entry(counter).or_default() += 1;
        fail(FailureKind::Exhausted, text)
    }

    /// Whether a user's program may ask for one more flow.
    pub(super) fn check_user(&mut self, uid: u32) -> Result<(), Failure> {
        let (held, quotas) = (self.flows.users().of(uid), &self.settings.quotas);
        if self.is_unlimited(uid) {
            return Ok(());
        }
        if held.flows >= quotas.flows {
            return Err(self.too_many_flows(uid, held.flows));
        }
        if held.pending >= quotas.pending {
            let text = over(uid, "waits for", held.pending, "flows", "pending-per-user", "wait for some");
            return Err(self.exhausted("refused_pending_per_user", text));
        }
        Ok(())
    }

    fn too_many_flows(&mut self, uid: u32, held: usize) -> Failure {
        let text = over(uid, "holds", held, "flows", "flows-per-user", "deallocate some");
        self.exhausted("refused_flows_per_user", text)
    }

    /// Whether one more accept of the process may wait. One that is given a flow is a flow: so it needs room for it.
    pub(super) fn check_accepts(&mut self, caller: Caller, waiting: usize) -> Result<(), Failure> {
        let (uid, quotas, all) = (caller.uid, &self.settings.quotas, self.settings.accepts);
        let full = self.accepting >= all;
        if !full && self.is_unlimited(uid) {
            return Ok(());
        }
        let held = self.flows.users().of(uid).flows;
        if held >= quotas.flows {
            return Err(self.too_many_flows(uid, held));
        }
        if waiting >= quotas.accepts {
            let text = format!(
                "{waiting} accepts of process {} wait, as many as may (accepts-per-process in irmd.toml); \
                 take the flows of those first",
                caller.pid
            );
            return Err(self.exhausted("refused_accepts_per_process", text));
        }
        // Summing up walks all processes, so only where the sum could matter.
        let users = if self.accepting >= all / 4 { self.processes.accepts_of(uid) } else { 0 };
        if full || users >= all / 4 {
            let text = format!(
                "{} accepts wait on this host, {users} of them user {uid}'s, as many as may; \
                 end programs that accept and take nothing",
                self.accepting
            );
            return Err(self.exhausted("refused_accepts", text));
        }
        Ok(())
    }
}

/// A quota that is used up, in words: how much of what, its key, what to do.
pub(super) fn over(uid: u32, has: &str, count: usize, what: &str, key: &str, remedy: &str) -> String {
    format!("user {uid} {has} {count} {what}, as many as a user may ({key} in irmd.toml); {remedy} or raise it")
}
