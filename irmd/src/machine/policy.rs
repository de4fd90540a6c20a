//! Who may do what: the one place where rules are judged.
//!
//! Of the rules about a name the most specific that says something decides: the name's own, else that of the pattern
//! which says most of the name, else the default. A rule that says nothing about a verb leaves it to the next.

use std::fmt;
use std::net::IpAddr;

use identity::{CertificateDer, Fingerprint, moment, vouched};
use ipnet::IpNet;

use super::Command;
use super::name::{Entry, Origin};
use super::trust::Grounds;
use crate::config::{Identity, Pattern, Range, Rules, Who};

/// Patterns of one host.
pub const PATTERNS: usize = 256;

/// What a caller is to this irmd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Any user: flows within quotas, names of its own, a look at what is its own.
    User,
    /// A member of the group of administrators: what `irm` does, short of becoming another user.
    Administrator,
    /// Root and irmd's own user: these, and being an IPCP, and starting programs as anybody.
    Trusted,
}

/// Rules of all names that a pattern matches.
#[derive(Clone, Debug)]
pub(super) struct Patterned {
    pub(super) pattern: Pattern,
    pub(super) rules: Rules,
    pub(super) origin: Origin,
}

/// The rules of patterns, those that say most of a name first.
#[derive(Clone, Debug, Default)]
pub struct Patterns(Vec<Patterned>);

impl Patterns {
    /// Sets the rules of a pattern, or takes them away if there is none in them.
    pub(super) fn set(&mut self, pattern: Pattern, rules: Rules, origin: Origin) {
        self.0.retain(|known| known.pattern != pattern);
        if !rules.is_empty() {
            let at = self.0.partition_point(|known| known.pattern.weight() >= pattern.weight());
            self.0.insert(at, Patterned { pattern, rules, origin });
        }
    }

    pub(super) fn get(&self, pattern: &str) -> Option<&Patterned> {
        self.0.iter().find(|known| known.pattern.as_str() == pattern)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Patterned> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Where a rule stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By<'a> {
    Own(Origin),
    Pattern(&'a Pattern, Origin),
    Default,
}

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says<'a> {
    Serve(&'a [Who]),
    Local(&'a [Who]),
    Identities(&'a [Identity]),
    /// No prefix of either list contains the address.
    NotListed(Option<&'a [Range]>),
    Allowed(&'a Range),
    Denied(&'a Range),
    /// The address is one of this host's, behind which any of its users may be.
    Ourselves,
    /// The address is only claimed.
    Unproven,
    Everybody,
    OwnerOnly(u32),
    /// Root and irmd's own user.
    Trusted,
}

/// A judgement, and which rule it is by. Its words are made only where they are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruling<'a> {
    /// Yes or no.
    pub allowed: bool,
    by: By<'a>,
    says: Says<'a>,
}

/// The rules about one name.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    name: &'a str,
    own: Option<(&'a Rules, Origin)>,
    patterns: &'a Patterns,
    /// Whom it belongs to; the caller, for a name that does not exist yet.
    owner: u32,
}

/// Who asks to serve or to allocate: a user of this host.
#[derive(Clone, Copy, Debug)]
pub struct User<'a> {
    /// Its number.
    pub uid: u32,
    /// Its first group.
    pub gid: u32,
    /// Its other groups.
    pub groups: &'a [u32],
    /// Root, or irmd's own user.
    pub trusted: bool,
}

/// Who asks from elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Stranger {
    /// Where it says it is; `None` where that is no address.
    pub address: Option<IpAddr>,
    /// It was shown to receive there.
    pub proven: bool,
    /// The address is one of this host's own.
    pub ours: bool,
}

impl<'a> About<'a> {
    /// `entry`: of the name, if it exists; else it would be `owner`'s.
    pub fn new(name: &'a str, entry: Option<&'a Entry>, patterns: &'a Patterns, owner: u32) -> Self {
        let own = entry.map(|entry| (&entry.rules, entry.origin));
        Self { name, own, patterns, owner: entry.map_or(owner, |entry| entry.owner) }
    }

    /// The most specific rules for which `has` holds.
    fn find(&self, has: impl Fn(&Rules) -> bool) -> Option<(&'a Rules, By<'a>)> {
        if let Some((rules, origin)) = self.own
            && has(rules)
        {
            return Some((rules, By::Own(origin)));
        }
        let mut patterns = self.patterns.0.iter();
        let found = patterns.find(|p| has(&p.rules) && p.pattern.matches(self.name))?;
        Some((&found.rules, By::Pattern(&found.pattern, found.origin)))
    }

    fn names(&self, list: &[Who], user: &User<'_>) -> bool {
        list.iter().any(|who| match who {
            Who::Any => true,
            Who::Owner => user.uid == self.owner,
            Who::User(account) => account.id == Some(user.uid),
            Who::Group(account) => account.id.is_some_and(|id| user.gid == id || user.groups.contains(&id)),
        })
    }

    /// Whether a user may serve the name.
    pub fn serve(&self, user: &User<'_>) -> Ruling<'a> {
        let found = self.find(|rules| rules.serve.is_some());
        let Some((list, by)) = found.and_then(|(rules, by)| Some((rules.serve.as_deref()?, by))) else {
            let allowed = user.trusted || user.uid == self.owner;
            let says = if user.trusted { Says::Trusted } else { Says::OwnerOnly(self.owner) };
            return Ruling { allowed, by: By::Default, says };
        };
        match self.names(list, user) {
            false if user.trusted => Ruling { allowed: true, by: By::Default, says: Says::Trusted },
            allowed => Ruling { allowed, by, says: Says::Serve(list) },
        }
    }

    /// Whether a user of this host may allocate flows to the name that stay on it.
    pub fn allocate(&self, user: &User<'_>) -> Ruling<'a> {
        let found = self.find(|rules| rules.allow_local.is_some());
        let Some((list, by)) = found.and_then(|(rules, by)| Some((rules.allow_local.as_deref()?, by))) else {
            return Ruling { allowed: true, by: By::Default, says: Says::Everybody };
        };
        match self.names(list, user) {
            false if user.trusted => Ruling { allowed: true, by: By::Default, says: Says::Trusted },
            allowed => Ruling { allowed, by, says: Says::Local(list) },
        }
    }

    /// Whether addresses matter for who may allocate, so that callers must be proven.
    pub fn judges_addresses(&self) -> bool {
        self.find(has_remote).is_some()
    }

    /// Whom the name lets in of the hosts that show who they are; `None`: it asks nobody.
    fn identities(&self) -> Option<(&'a [Identity], By<'a>)> {
        let (rules, by) = self.find(|rules| rules.identities.is_some())?;
        Some((rules.identities.as_deref()?, by))
    }

    /// Whether who asks for flows must show an identity.
    pub fn judges_identities(&self) -> bool {
        self.identities().is_some()
    }

    /// The rule by which who asks for flows must show an identity.
    pub fn identity_rule(&self) -> Option<Ruling<'a>> {
        let (list, by) = self.identities()?;
        Some(Ruling { allowed: true, by, says: Says::Identities(list) })
    }

    /// Whether, and why, a host that showed who it is may allocate flows to the name. `None`: no rule asks.
    pub fn admit(
        &self,
        host: Fingerprint,
        chain: &[CertificateDer<'_>],
        wall: u64,
    ) -> Option<(Option<Grounds>, Ruling<'a>)> {
        let (list, by) = self.identities()?;
        let by_ca = |who: &Identity| match who {
            Identity::Ca(cas) => vouched(chain, cas.certificates.as_deref().unwrap_or_default(), moment(wall)).is_ok(),
            Identity::Host(_) | Identity::Any => false,
        };
        let grounds = if list.contains(&Identity::Host(host)) {
            Some(Grounds::Allowed)
        } else if list.iter().any(by_ca) {
            Some(Grounds::Ca)
        } else {
            list.contains(&Identity::Any).then_some(Grounds::Any)
        };
        Some((grounds, Ruling { allowed: grounds.is_some(), by, says: Says::Identities(list) }))
    }

    /// The rule by which not every user of this host may allocate.
    fn local_rule(&self) -> Option<By<'a>> {
        let (rules, by) = self.find(|rules| rules.allow_local.is_some())?;
        let everybody = rules.allow_local.iter().flatten().any(|who| *who == Who::Any);
        (!everybody).then_some(by)
    }

    /// Whether a host elsewhere may allocate flows to the name.
    pub fn allocate_from(&self, from: &Stranger) -> Ruling<'a> {
        // Any user here can send from an address of this host: it must not get around the rule for users.
        if from.ours
            && let Some(by) = self.local_rule()
        {
            return Ruling { allowed: false, by, says: Says::Ourselves };
        }
        let Some((rules, by)) = self.find(has_remote) else {
            return Ruling { allowed: true, by: By::Default, says: Says::Everybody };
        };
        let (allowed, says) = weigh(rules, from.address);
        // Whoever is allowed must have shown that it is there.
        if allowed && !from.proven {
            return Ruling { allowed: false, by, says: Says::Unproven };
        }
        Ruling { allowed, by, says }
    }
}

fn has_remote(rules: &Rules) -> bool {
    rules.allow_remote.is_some() || rules.deny_remote.is_some()
}

/// The longest prefix that contains the address decides; where none does, an address is allowed unless some are named.
fn weigh(rules: &Rules, address: Option<IpAddr>) -> (bool, Says<'_>) {
    // An IPv4 address may come in IPv6's clothes.
    let address = address.map(|address| address.to_canonical());
    let (allow, deny) = (longest(&rules.allow_remote, address), longest(&rules.deny_remote, address));
    match (allow, deny) {
        (None, None) => (rules.allow_remote.is_none(), Says::NotListed(rules.allow_remote.as_deref())),
        (Some((bits, range)), deny) if deny.is_none_or(|(denied, _)| bits > denied) => (true, Says::Allowed(range)),
        (_, Some((_, range))) => (false, Says::Denied(range)),
        (Some((_, range)), None) => (true, Says::Allowed(range)),
    }
}

/// The longest prefix of a list that contains the address, and its weight.
fn longest(list: &Option<Vec<Range>>, address: Option<IpAddr>) -> Option<(u8, &Range)> {
    let bits = |range: &Range| match (range, address) {
        (Range::Any, Some(_)) => Some(0),
        (Range::Net(net), Some(address)) if net.contains(&address) => Some(weight(net)),
        _ => None,
    };
    list.iter().flatten().filter_map(|range| Some((bits(range)?, range))).max_by_key(|(bits, _)| *bits)
}

/// More than that of every address, even for the prefix of all addresses of a family.
fn weight(net: &IpNet) -> u8 {
    net.prefix_len() + 1
}

impl fmt::Display for Ruling<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, list) = match self.says {
            Says::Everybody => return f.write_str("no rule says otherwise"),
            Says::Trusted => return f.write_str("root and irmd's own user may"),
            Says::OwnerOnly(owner) => return write!(f, "no rule says otherwise, and the name is user {owner}'s"),
            Says::Ourselves => {
                return write!(f, "{} says allow-local, and any user may send from this host's own address", self.by);
            }
            Says::Unproven => {
                return write!(f, "{} is about addresses, and this one is claimed, not shown", self.by);
            }
            Says::Serve(list) => ("serve", listed(list)),
            Says::Local(list) => ("allow-local", listed(list)),
            Says::Identities(list) => ("identities", listed(list)),
            Says::NotListed(None) => return write!(f, "{} does not deny the address", self.by),
            Says::NotListed(Some(list)) => ("allow-remote", listed(list)),
            Says::Allowed(range) => ("allow-remote", listed(std::slice::from_ref(range))),
            Says::Denied(range) => ("deny-remote", listed(std::slice::from_ref(range))),
        };
        write!(f, "{} says {key} = {list}", self.by)
    }
}

impl fmt::Display for By<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |origin| if origin == Origin::Config { "irmd.toml" } else { "runtime.toml" };
        match self {
            Self::Own(origin) => write!(f, "its rule ({})", place(*origin)),
            Self::Pattern(pattern, origin) => write!(f, "the rule of {} ({})", pattern.as_str(), place(*origin)),
            Self::Default => f.write_str("the default"),
        }
    }
}

/// At most eight of a list: it may have sixty-four.
fn listed<T: fmt::Display>(list: &[T]) -> String {
    let mut words: Vec<String> = list.iter().take(8).map(ToString::to_string).collect();
    if list.len() > words.len() {
        words.push(format!("{} more", list.len() - words.len()));
    }
    format!("[{}]", words.join(", "))
}

/// The least that a caller must be to give a command; whose row it is about is judged beside.
pub fn least(command: &Command) -> Rank {
    match command {
        Command::Attach(_)
        | Command::FlowReqArr(_)
        | Command::FlowEnded(_)
        | Command::FlowsAdopted(_)
        | Command::Census => Rank::Trusted,
        Command::IpcpCreate(_)
        | Command::IpcpBootstrap(_)
        | Command::IpcpDestroy(_)
        | Command::HostAdd(_)
        | Command::HostRemove(_)
        | Command::Administers
        | Command::Shutdown(_)
        | Command::NameRules(..)
        | Command::RuleList
        | Command::IdentityAllow { .. }
        | Command::BindProcess(_)
        | Command::UnbindProcess(_)
        | Command::ConfigExport => Rank::Administrator,
        Command::FlowAlloc(..)
        | Command::Certify(_)
        | Command::Judge(_)
        | Command::Names(_)
        | Command::IdentityTrust { .. }
        | Command::IdentityForget(..)
        | Command::IdentityList
        | Command::Serve(_)
        | Command::Unserve(_)
        | Command::FlowAccept(_)
        | Command::FlowAnswer(_)
        | Command::Status
        | Command::IpcpList
        | Command::NameCreate(..)
        | Command::NameDestroy(_)
        | Command::NameList
        | Command::NameRegister(_)
        | Command::NameUnregister(_)
        | Command::NameMay(_)
        | Command::NameResolve(_)
        | Command::BindProgram(_)
        | Command::UnbindProgram(_)
        | Command::FlowList(_)
        | Command::FlowEvents(_)
        | Command::FlowSeen
        | Command::FlowShow(_)
        | Command::FlowDealloc(_) => Rank::User,
    }
}
