//! What one user's programs may have of this host, so that none takes it from the others.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use proto::v1::{Failure, FailureKind};

use super::flow::{Flow, Way};
use super::name::Origin;
use super::policy::Rank;
use super::transitions::Kind;
use super::{Caller, Irm, fail};

/// So many changes of names and programs in so long a time are a user's who is no administrator.
const CHANGES: u32 = 32;
const CHANGES_WITHIN: Duration = Duration::from_secs(10);
/// Programs that one such user may bind, in all.
const PROGRAMS: usize = 64;

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
    /// Flows that one prefix of peers' addresses (/24, /56) may have, with those that wait.
    pub prefix: usize,
    /// Users without a limit.
    pub unlimited: Vec<u32>,
}

impl Default for Quotas {
    /// 8,192 flows, 2,048 of them under way, 4,096 names, 1,024 accepts per process, 12,288 flows per prefix; nobody is
    /// unlimited.
    fn default() -> Self {
        Self { flows: 8_192, pending: 2_048, names: 4_096, accepts: 1_024, prefix: 12_288, unlimited: Vec::new() }
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
pub struct Usage {
    users: HashMap<u32, Held>,
    prefixes: HashMap<Prefix, usize>,
}

impl Usage {
    /// A row is there, as it is now.
    pub fn add(&mut self, flow: &Flow) {
        for (uid, pending) in ends(flow) {
            let held = self.users.entry(uid).or_default();
            held.flows += 1;
            held.pending += usize::from(pending);
        }
        if let Some(prefix) = prefix(flow) {
            *self.prefixes.entry(prefix).or_default() += 1;
        }
    }

    /// A row goes, or changes and is to be added again.
    pub fn remove(&mut self, flow: &Flow) {
        for (uid, pending) in ends(flow) {
            let Some(held) = self.users.get_mut(&uid) else { continue };
            held.flows -= 1;
            held.pending -= usize::from(pending);
            if held.flows == 0 {
                self.users.remove(&uid);
            }
        }
        if let Some(prefix) = prefix(flow)
            && let Some(count) = self.prefixes.get_mut(&prefix)
        {
            *count -= 1;
            if *count == 0 {
                self.prefixes.remove(&prefix);
            }
        }
    }

    /// What a user has.
    pub fn of(&self, uid: u32) -> Held {
        self.users.get(&uid).copied().unwrap_or_default()
    }

    /// How many flows a prefix has.
    pub fn of_prefix(&self, prefix: Prefix) -> usize {
        self.prefixes.get(&prefix).copied().unwrap_or_default()
    }

    /// Whether nobody has anything.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.prefixes.is_empty()
    }
}

/// Addresses that share what one may have: those of an IPv4 /24 or an IPv6 /56, as everywhere in the shim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix(IpNet);

impl Prefix {
    /// Of a peer's address with its port; `None` where it is no address.
    pub fn of(address: &str) -> Option<Self> {
        let ip = address.parse::<SocketAddr>().ok()?.ip().to_canonical();
        let bits = if ip.is_ipv4() { 24 } else { 56 };
        IpNet::new(ip, bits).ok().map(|net| Self(net.trunc()))
    }
}

/// How often each user changed what is written down; changes are written one by one.
#[derive(Debug, Default)]
pub struct Changes(HashMap<u32, (Instant, u32)>);

impl Changes {
    /// Whether the user may change something now; counted if so.
    fn take(&mut self, now: Instant, uid: u32) -> bool {
        self.0.retain(|_, (since, _)| now < *since + CHANGES_WITHIN);
        let (_, count) = self.0.entry(uid).or_insert((now, 0));
        *count += 1;
        *count <= CHANGES
    }
}

/// The users of a flow's ends on this host, and whether theirs is still being asked for.
pub(super) fn ends(flow: &Flow) -> impl Iterator<Item = (u32, bool)> {
    let pending = flow.stage.kind() != Kind::Allocated;
    // An end that was not brought back after a restart is nobody's yet.
    let asks = flow.caller().filter(|process| process.pid != 0).map(|process| (process.uid, pending));
    let accepts = flow.stage.acceptor().map(|process| (process.uid, false));
    asks.into_iter().chain(accepts)
}

fn prefix(flow: &Flow) -> Option<Prefix> {
    if let Way::In(arrived) = &flow.way { arrived.prefix } else { None }
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

    /// Whether a prefix of addresses may have one more flow; gives the prefix.
    pub(super) fn check_prefix(&mut self, address: &str) -> Result<Option<Prefix>, Failure> {
        let Some(prefix) = Prefix::of(address) else { return Ok(None) };
        let (held, most) = (self.flows.users().of_prefix(prefix), self.settings.quotas.prefix);
        if held < most {
            return Ok(Some(prefix));
        }
        let text = format!(
            "{} has {held} flows here, as many as a prefix may (flows-per-prefix in irmd.toml); end some or raise it",
            prefix.0
        );
        Err(self.exhausted("refused_flows_per_prefix", text))
    }

    /// Whether a user may make one more name that lasts.
    pub(super) fn check_made(&mut self, uid: u32) -> Result<(), Failure> {
        let made = self.names.iter().filter(|(_, e)| e.owner == uid && e.origin != Origin::Process).count();
        if self.is_unlimited(uid) || made < self.settings.quotas.names {
            return Ok(());
        }
        let text = over(uid, "made", made, "names", "names-per-user", "destroy some");
        Err(self.exhausted("refused_names_per_user", text))
    }

    /// Whether a user may bind one more program.
    pub(super) fn check_programs(&mut self, uid: u32) -> Result<(), Failure> {
        let own = self.settings.uid;
        let bound = self.names.iter().flat_map(|(_, e)| &e.programs).filter(|p| p.uid(own) == uid).count();
        if bound < PROGRAMS {
            return Ok(());
        }
        let text = format!("user {uid} has bound {bound} programs, as many as a user may; unbind some");
        Err(self.exhausted("refused_programs_per_user", text))
    }

    /// Whether the caller may change what is written down once more: each change costs the disk a write.
    pub(super) fn check_change(&mut self, now: Instant, caller: &Caller) -> Result<(), Failure> {
        if self.rank(caller) >= Rank::Administrator || self.changes.take(now, caller.uid) {
            return Ok(());
        }
        let seconds = CHANGES_WITHIN.as_secs();
        let text = format!(
            "user {} changed names and programs {CHANGES} times within {seconds} s, as often as a user may; \
             try again in {seconds} s",
            caller.uid
        );
        Err(self.exhausted("refused_changes_per_user", text))
    }

    /// Whether one more accept of the process may wait. One that is given a flow is a flow: so it needs room for it.
    pub(super) fn check_accepts(&mut self, caller: &Caller, waiting: usize) -> Result<(), Failure> {
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
