//! What [`policy`](super::policy) judges, asked for a call: the caller is told the rule, a peer that there is one.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use proto::Name;
use proto::v1::{self, Failure, FailureKind};

use super::policy::{About, PATTERNS, Rank, Ruling, Stranger, User, least};
use super::register::{changed, no_name};
use super::{Answer, Caller, Command, Effect, Irm, Level, Reply, RulesChange, fail, parse_name};
use crate::config::{Account, Pattern, Rules};

/// Refusals are logged at most so often; the rest is counted and told with the next.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// What was refused lately and not logged.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    logged: Option<Instant>,
    unsaid: u64,
}

impl Irm {
    /// What a caller is to this irmd.
    pub(super) fn rank(&self, caller: &Caller) -> Rank {
        if caller.uid == 0 || caller.uid == self.settings.uid {
            return Rank::Trusted;
        }
        let group = self.options.admin_group.as_ref().and_then(|group| group.id);
        if group.is_some_and(|group| caller.is_member(group)) { Rank::Administrator } else { Rank::User }
    }

    /// Whether the caller may give such a command at all.
    pub(super) fn check_rank(&mut self, now: Instant, caller: &Caller, command: &Command) -> Result<(), Failure> {
        let least = least(command);
        if least == Rank::User || self.rank(caller) >= least {
            return Ok(());
        }
        let (uid, own) = (caller.uid, self.settings.uid);
        let group = self.options.admin_group.as_ref().map(|group| format!(", and group {}", group.as_str()));
        let text = match least {
            Rank::Trusted => {
                format!("user {uid} may not be an IPCP of this irmd: only root and its own user {own} may")
            }
            _ => format!(
                "user {uid} may not administrate this irmd: only root, its own user {own}{} may; \
                 run the tool as one of them, or set admin-group in irmd.toml",
                group.unwrap_or_default()
            ),
        };
        Err(self.not_permitted(now, "refused_administration", text))
    }

    fn user<'a>(&self, caller: &'a Caller) -> User<'a> {
        User { uid: caller.uid, gid: caller.gid, groups: caller.groups(), trusted: self.rank(caller) == Rank::Trusted }
    }

    pub(super) fn about<'a>(&'a self, name: &'a str, owner: u32) -> About<'a> {
        About::new(name, self.names.get(name), &self.patterns, owner)
    }

    /// Whether the caller may serve a name, whether it exists or is to be made.
    pub(super) fn check_serve(&mut self, now: Instant, caller: &Caller, name: &Name) -> Result<(), Failure> {
        let ruling = self.about(name.as_str(), caller.uid).serve(&self.user(caller));
        if ruling.allowed {
            return Ok(());
        }
        let text = format!(
            "user {} may not serve {name}: {ruling}; choose another name, or let an administrator allow it with \
             irm name rules",
            caller.uid
        );
        Err(self.not_permitted(now, "refused_serve", text))
    }

    /// Whether the caller may allocate flows to a name that stay on this host.
    pub(super) fn check_allocate(&mut self, now: Instant, caller: &Caller, name: &Name) -> Result<(), Failure> {
        let ruling = self.about(name.as_str(), caller.uid).allocate(&self.user(caller));
        if ruling.allowed {
            return Ok(());
        }
        let text = format!(
            "user {} may not allocate flows to {name}: {ruling}; an administrator may allow it with irm name rules",
            caller.uid
        );
        Err(self.not_permitted(now, "refused_allocate_local", text))
    }

    /// Whether a peer may allocate flows to a name of this host. It hears that it may not, and no more.
    pub(super) fn check_stranger(
        &mut self,
        now: Instant,
        name: &Name,
        request: &v1::FlowReqArrRequest,
    ) -> Result<(), Failure> {
        let proven = request.proven || request.classic && self.options.classic_addresses;
        let stranger = self.stranger(&request.peer_address, proven);
        let ruling = self.about(name.as_str(), self.settings.uid).allocate_from(&stranger);
        if ruling.allowed {
            return Ok(());
        }
        let text = format!("{} may not allocate flows to {name}: {ruling}", request.peer_address);
        Err(self.not_permitted(now, "refused_allocate_remote", text))
    }

    fn stranger(&self, address: &str, proven: bool) -> Stranger {
        let address = host_of(address);
        let ours = address.is_some_and(|ip| {
            ip.to_canonical().is_loopback() || self.ipcps.iter().any(|i| host_of(&i.address) == Some(ip))
        });
        Stranger { address, proven, ours }
    }

    /// Whether callers of a name must be shown to be where they say they are.
    pub(super) fn judges_addresses(&self, name: &Name) -> bool {
        self.about(name.as_str(), self.settings.uid).judges_addresses()
    }

    /// Whether callers of a name must show who they are.
    pub(super) fn judges_identities(&self, name: &Name) -> bool {
        self.about(name.as_str(), self.settings.uid).judges_identities()
    }

    fn not_permitted(&mut self, now: Instant, counter: &'static str, text: String) -> Failure {
        self.refused(now, counter, FailureKind::NotPermitted, text.clone(), text)
    }

    /// Counts and logs a refusal; who floods with them does not flood the log. `log` is not told to the caller.
    pub(super) fn refused(
        &mut self,
        now: Instant,
        counter: &'static str,
        kind: FailureKind,
        text: String,
        log: String,
    ) -> Failure {
        *self.refused.entry(counter).or_default() += 1;
        if self.refusals.logged.is_none_or(|at| now >= at + LOG_EVERY) {
            let more = std::mem::take(&mut self.refusals.unsaid);
            self.refusals.logged = Some(now);
            let line = if more > 0 { format!("{log} (and {more} refusals before)") } else { log };
            self.effects.push_back(Effect::Log(Level::Info, line));
        } else {
            self.refusals.unsaid += 1;
        }
        fail(kind, text)
    }

    /// Whether the caller may change a name that exists: its owner and administrators may.
    pub(super) fn check_owner(&mut self, now: Instant, caller: &Caller, name: &Name) -> Result<(), Failure> {
        let Some(entry) = self.names.get(name.as_str()) else { return Err(no_name(name)) };
        if entry.owner == caller.uid || self.rank(caller) >= Rank::Administrator {
            return Ok(());
        }
        let text = format!(
            "user {} may not change the name {name}: it is user {}'s; ask that user or an administrator",
            caller.uid, entry.owner
        );
        Err(self.not_permitted(now, "refused_administration", text))
    }

    /// New rules of a name or of a pattern.
    pub(super) fn name_rules(&mut self, name: &str, change: &RulesChange) -> Answer {
        let rules = changed_rules(self.rules_of(name)?, change)?;
        self.set_rules(name, rules)
    }

    pub(super) fn set_rules(&mut self, name: &str, rules: Rules) -> Answer {
        if Pattern::is_one(name) {
            let pattern = Pattern::new(name).map_err(|e| fail(FailureKind::Invalid, e))?;
            if self.patterns.get(name).is_none() && self.patterns.len() >= PATTERNS {
                let text = format!("{PATTERNS} patterns have rules, as many as may; take some away");
                return Err(fail(FailureKind::Exhausted, text));
            }
            self.patterns.set(pattern, rules, super::name::Origin::Runtime);
            self.proofs_changed();
        } else {
            let name = parse_name(name)?;
            let Some(entry) = self.names.get_mut(name.as_str()) else { return Err(no_name(&name)) };
            entry.rules = rules;
            entry.origin = changed(entry.origin);
            self.register_again(&name);
        }
        self.effects.push_back(Effect::Persist);
        Ok(Some(Reply::Done))
    }

    /// The rules of a name or pattern as they are, for a change.
    pub(super) fn rules_of(&self, name: &str) -> Result<Rules, Failure> {
        if Pattern::is_one(name) {
            return Ok(self.patterns.get(name).map(|known| known.rules.clone()).unwrap_or_default());
        }
        let name = parse_name(name)?;
        self.names.get(name.as_str()).map(|entry| entry.rules.clone()).ok_or_else(|| no_name(&name))
    }

    /// Rules of patterns changed: layers hear of which names callers must be proven now.
    fn proofs_changed(&mut self) {
        let names: Vec<Name> = self.names.iter().map(|(name, _)| name.clone()).collect();
        for name in names {
            self.register_again(&name);
        }
    }

    pub(super) fn rule_list(&self) -> Answer {
        let rule = |p: &super::policy::Patterned| v1::RuleInfo {
            pattern: p.pattern.as_str().to_owned(),
            rules: Some(p.rules.message()),
        };
        Ok(Some(Reply::Rules(self.patterns.iter().map(rule).collect())))
    }

    /// Whether somebody may use a name, and which rule says so.
    pub(super) fn name_may(&mut self, now: Instant, caller: &Caller, asked: &super::May) -> Answer {
        let name = parse_name(&asked.name)?;
        let about_others = asked.user.as_ref().is_some_and(|user| user.uid != caller.uid) || !asked.address.is_empty();
        if about_others && self.rank(caller) < Rank::Administrator {
            let text =
                format!("user {} may not ask for others, only for itself; leave out --user and --from", caller.uid);
            return Err(self.not_permitted(now, "refused_administration", text));
        }
        let row = |verb: &str, ruling: Ruling<'_>| v1::Ruling {
            verb: verb.to_owned(),
            allowed: ruling.allowed,
            why: ruling.to_string(),
        };
        let about = self.about(name.as_str(), self.settings.uid);
        let rulings = if asked.address.is_empty() {
            let who = asked.user.as_ref().unwrap_or(caller);
            let about = self.about(name.as_str(), who.uid);
            let user = self.user(who);
            vec![row("serve", about.serve(&user)), row("allocate", about.allocate(&user))]
        } else {
            let Ok(address) = asked.address.parse::<IpAddr>() else {
                let text = format!("{:?} is no address; write 10.0.0.2 or fd00::2", asked.address);
                return Err(fail(FailureKind::Invalid, text));
            };
            let mut allocate = row("allocate", about.allocate_from(&self.stranger(&address.to_string(), true)));
            if let Some(rule) = about.identity_rule().filter(|_| allocate.allowed) {
                allocate.why += &format!("; it must show an identity: {rule}");
            }
            vec![allocate]
        };
        Ok(Some(Reply::Rulings(rulings)))
    }

    /// As whom a program is to run that `caller` binds: as itself, or as the one named, where it may say so.
    pub(super) fn runs_as(&mut self, now: Instant, caller: &Caller, user: Option<Account>) -> Result<Account, Failure> {
        let trusted = self.rank(caller) == Rank::Trusted;
        let user = user.unwrap_or_else(|| if trusted { self.settings.uid.into() } else { caller.uid.into() });
        let Some(uid) = user.id else {
            let text = format!("there is no user {} on this host; see getent passwd", user.as_str());
            return Err(fail(FailureKind::NotFound, text));
        };
        if uid != caller.uid && !trusted {
            let text = format!(
                "user {} may not bind programs that run as user {uid}: only root and irmd's own user {} may",
                caller.uid, self.settings.uid
            );
            return Err(self.not_permitted(now, "refused_administration", text));
        }
        if uid != self.settings.uid && self.settings.uid != 0 {
            let text = format!(
                "user {} may not bind programs that run as user {uid}: this irmd runs as user {} and can become nobody \
                 else; run irmd as root, or bind the program as user {}",
                caller.uid, self.settings.uid, self.settings.uid
            );
            return Err(self.not_permitted(now, "refused_administration", text));
        }
        Ok(user)
    }
}

/// Rules with a change made, all of whose accounts were looked up.
pub(super) fn changed_rules(mut rules: Rules, change: &RulesChange) -> Result<Rules, Failure> {
    rules.change(&change.said).map_err(|e| fail(FailureKind::Invalid, e))?;
    for (account, group) in rules.accounts().filter(|(account, _)| account.id.is_none()) {
        let known =
            change.accounts.iter().find(|(known, is_group)| (known.as_str(), *is_group) == (account.as_str(), group));
        account.id = known.and_then(|(known, _)| known.id);
    }
    for identity in rules.identities() {
        if let Some(read) = change.cas.iter().find(|read| *read == identity) {
            identity.clone_from(read);
        }
    }
    Ok(rules)
}

/// The host of an address with or without a port.
fn host_of(address: &str) -> Option<IpAddr> {
    let with_port = address.parse::<SocketAddr>().map(|at| at.ip());
    with_port.or_else(|_| address.parse()).ok()
}
