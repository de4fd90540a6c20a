//! The directory: which names this host answers for, and which host answers for a name.
//!
//! Asked in order: names registered here and the static table (`table`), then DNS: [`domain`] says how a name is written
//! there, `lookups` who is asked when and for how long that holds, [`answer`] what to make of the records, [`claim`]
//! what hosts write down of themselves, `registrar` when, and [`plan`] how. `Shim::flow_alloc` looks up, `Shim::ask`
//! goes on with addresses, and only the first knows where they came from.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::Name;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng;

pub mod answer;
pub mod claim;
pub mod domain;
pub mod fingerprint;
pub mod key;
pub(super) mod lookups;
pub mod plan;
pub(super) mod registrar;
mod table;
#[cfg(test)]
mod tests;
pub mod trouble;

pub use lookups::LookedUp;
pub use registrar::{Standing, Updated, Waiter};

use answer::{Asked, Host};
use domain::Zone;
use fingerprint::Fingerprint;
use lookups::{Known, Lookups};
use registrar::{Registrar, Step};
pub(super) use table::{Full, MOST};
use table::{Row, Table};

/// Hosts that one flow is asked of, one after the other.
const MOST_TRIED: usize = 8;

/// How a layer uses DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Where names are looked up and registered.
    pub zone: Zone,
    /// Names are registered: there is a key.
    pub writes: bool,
    /// A record is void after so many seconds without a refresh.
    pub lifetime: u32,
    /// Others may keep a record so many seconds.
    pub ttl: u32,
}

/// A host that is asked for a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Where its shim listens.
    pub(super) at: SocketAddr,
    /// Its key, where the directory has it.
    pub(super) key: Option<Fingerprint>,
}

/// Whether a name begins so, and goes on.
pub(super) fn begins(name: &Name, prefix: &Name) -> bool {
    name.as_str().len() > prefix.as_str().len() && name.as_str().starts_with(prefix.as_str())
}

/// Where a name is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On this host, as registered or by the table or DNS: a flow to it is a local flow.
    Here,
    /// On one of these hosts, the first to be asked first.
    At(Target, Vec<Target>),
    /// DNS has to be asked; it is, or will be.
    Asking,
    /// Nobody has a host for it, and why.
    Unknown(Arc<str>),
    /// The name servers could not be asked; the whole sentence.
    Outage(Arc<str>),
}

#[derive(Debug, Default)]
pub(super) struct Directory {
    table: Table,
    dns: Option<Dns>,
    lookups: Lookups,
    pub(super) registrar: Registrar,
}

impl Directory {
    pub(super) fn new(dns: Option<Dns>) -> Self {
        let lifetime = dns.as_ref().map_or(0, |dns| dns.lifetime);
        Self { dns, registrar: Registrar::new(Duration::from_secs(lifetime.into())), ..Self::default() }
    }

    pub(super) fn register(&mut self, now: Instant, name: Name) -> Result<(), Full> {
        self.table.register(now, name)
    }

    pub(super) fn doubt(&mut self, now: Instant, before: Instant) {
        self.table.doubt(now, before);
    }

    pub(super) fn lost_names(&mut self, now: Instant) -> Vec<Name> {
        self.table.lost(now)
    }

    pub(super) fn starts(&mut self, name: &Name, starts: bool) {
        self.table.starts(name, starts);
    }

    pub(super) fn unregister(&mut self, name: &Name) -> bool {
        self.table.unregister(name)
    }

    pub(super) fn answers_for(&self, name: &Name) -> bool {
        self.table.answers_for(name)
    }

    pub(super) fn needs_cookie(&self, name: &[u8]) -> bool {
        self.table.needs_cookie(name)
    }

    pub(super) fn add_host(&mut self, name: Name, shim: SocketAddr) -> Result<(), Full> {
        self.table.add_host(name, shim)
    }

    pub(super) fn remove_host(&mut self, name: &Name) -> bool {
        self.table.remove_host(name)
    }

    /// Names of the static table that begin so and are of other hosts, in order.
    pub(super) fn hosts_below<'a>(&'a self, prefix: &'a Name, own: SocketAddr) -> impl Iterator<Item = &'a Name> {
        self.table.hosts_below(prefix, own)
    }

    /// The name's domain name, where the layer has a zone: or why it has none.
    pub(super) fn domain(&self, name: &Name) -> Option<Result<String, domain::DomainError>> {
        self.dns.as_ref().map(|dns| dns.zone.domain(name))
    }

    /// Whether names registered here are to stand in DNS.
    pub(super) fn writes(&self) -> bool {
        self.dns.as_ref().is_some_and(|dns| dns.writes)
    }

    /// What the static table says of the name.
    pub(super) fn row(&self, name: &Name) -> Option<SocketAddr> {
        self.table.row(name)
    }

    /// Whether an answer of DNS is at hand.
    pub(super) fn keeps(&self, now: Instant, name: &Name) -> bool {
        self.lookups.fresh(now, name).is_some()
    }

    /// How a name stands in DNS.
    pub(super) fn standing(&self, now: Instant, name: &Name) -> Standing {
        if let Some(standing) = self.registrar.standing(now, name) {
            return standing;
        }
        let domain = if self.writes() { self.domain(name) } else { None };
        Standing {
            name: name.clone(),
            state: "local",
            domain: "".into(),
            lives: None,
            failure: domain.and_then(Result::err).map(|error| error.to_string().into()),
            next: None,
        }
    }

    /// The same of names behind `after`, in order, some of them.
    pub(super) fn standings(&self, now: Instant, after: Option<&Name>, most: usize) -> Vec<Standing> {
        let from = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let mut names: BTreeSet<&Name> = self.table.names(from).take(most).collect();
        names.extend(self.registrar.names(from).take(most));
        names.into_iter().take(most).map(|name| self.standing(now, name)).collect()
    }

    pub(super) fn find(&self, now: Instant, rng: &mut ChaCha12Rng, name: &Name, own: SocketAddr) -> Place {
        match (self.table.find(name, own), &self.dns) {
            (Row::At(at), _) => Place::At(Target { at, key: None }, Vec::new()),
            (Row::Here, _) => Place::Here,
            (Row::Unknown, None) => {
                Place::Unknown("has no host for it: register it, or add a row with --host NAME=ADDRESS".into())
            }
            (Row::Unknown, Some(_)) => match self.lookups.fresh(now, name) {
                Some(known) => place(now, rng, &known),
                None => Place::Asking,
            },
        }
    }

    /// A look-up is wanted; `true`: it is to begin now.
    pub(super) fn want(&mut self, now: Instant, name: &Name) -> bool {
        self.lookups.want(now, name)
    }

    /// Nobody wants the look-up any more.
    pub(super) fn forget(&mut self, name: &Name) {
        self.lookups.forget(name);
    }

    /// A look-up has ended: where the name is, and which look-up is to begin next.
    pub(super) fn looked_up(
        &mut self,
        now: Instant,
        name: &Name,
        looked_up: &LookedUp,
        own: SocketAddr,
    ) -> (Known, Option<Name>) {
        let domain = self.domain(name).and_then(Result::ok).unwrap_or_default();
        let known = match &looked_up.records {
            Err(trouble) => Known::Outage(trouble.of_lookup(name.as_str(), &domain, &looked_up.server).into()),
            Ok(records) => {
                let hosts = self.hosts_of(now, name, looked_up, own);
                if hosts.is_empty() {
                    Known::Nothing(nothing(records, looked_up, &domain).into())
                } else {
                    Known::Hosts(hosts.into())
                }
            }
        };
        let denied = matches!(&looked_up.records, Err(trouble) if !trouble.is_outage());
        let known = self.lookups.keep(now, name, known, looked_up.ttl, denied);
        (known, self.lookups.ended(now, name))
    }

    /// The hosts that an answer names, also those no flow goes to.
    pub(super) fn hosts_of(&self, now: Instant, name: &Name, looked_up: &LookedUp, own: SocketAddr) -> Vec<Host> {
        let Ok(records) = &looked_up.records else { return Vec::new() };
        let domain = self.domain(name).and_then(Result::ok).unwrap_or_default();
        answer::hosts(records, Asked { name, domain: &domain, own, wall: looked_up.wall, now })
    }

    /// Look-ups whose end was never told.
    pub(super) fn lost_lookups(&self, now: Instant) -> Vec<Name> {
        self.lookups.lost(now)
    }

    /// When [`Self::lost_lookups`], [`Self::lost_names`] or the registrar has something.
    pub(super) fn next(&self) -> Option<Instant> {
        [self.lookups.next(), self.registrar.next(), self.table.next()].into_iter().flatten().min()
    }

    pub(super) fn next_step(&mut self) -> Option<Step> {
        self.registrar.step()
    }
}

/// Why there is no host.
fn nothing(records: &answer::Records, looked_up: &LookedUp, domain: &str) -> String {
    let server = &looked_up.server;
    if answer::is_of_later_version(records) {
        return format!(
            "has only records of a later version of Flowring for {domain} in DNS, says {server}; update this host"
        );
    }
    let what = if looked_up.absent { "has no such domain name (NXDOMAIN)" } else { "has no address and no host there" };
    format!("has no host for it, and {domain} does not help: name server {server} {what}; register it on its host")
}

/// Where a flow goes, of what is known of a name.
pub(super) fn place(now: Instant, rng: &mut ChaCha12Rng, known: &Known) -> Place {
    let hosts = match known {
        Known::Nothing(why) => return Place::Unknown(why.clone()),
        Known::Outage(sentence) => return Place::Outage(sentence.clone()),
        Known::Hosts(hosts) => hosts,
    };
    let target = |host: &Host| Target { at: host.at, key: host.key };
    let mut usable: Vec<(u32, u64, Target)> = hosts
        .iter()
        .filter(|host| host.is_usable(now))
        .map(|host| (host.rank, turn(rng, host), target(host)))
        .collect();
    usable.sort_unstable_by_key(|(rank, turn, target)| (*rank, *turn, target.at));
    let mut order = usable.into_iter().map(|(_, _, target)| target).take(MOST_TRIED);
    match order.next() {
        Some(first) => Place::At(first, order.collect()),
        None if hosts.iter().any(|host| host.ignored == Some(answer::THIS_HOST)) => Place::Here,
        None => Place::Unknown(unusable(hosts).into()),
    }
}

/// Smaller comes first: by chance, and by weight.
fn turn(rng: &mut ChaCha12Rng, host: &Host) -> u64 {
    u64::from(rng.next_u32()) * 1024 / (1 + u64::from(host.weight))
}

fn unusable(hosts: &[Host]) -> String {
    let host = &hosts[0];
    let more = if hosts.len() > 1 { format!(" (and {} more)", hosts.len() - 1) } else { String::new() };
    let why = host.ignored.unwrap_or("its record is void: the host did not refresh it");
    format!("finds {} for it in DNS{more}, where no flow goes: {why}; register it on its host again", host.at)
}
