//! Which host is trusted with a name: what was said by hand, and what was remembered.
//!
//! The first of these that says something decides:
//!
//! 1. what was said by hand of the name, or of the pattern that says most of it: those hosts and those CAs, and nobody else;
//! 2. what is remembered of the name, for flows of the same user: that host, and no other;
//! 3. the key beside the peer's address in the directory: that host, which is remembered;
//! 4. whoever comes first, who is remembered; or nobody, where `trust-first-use` is off.
//!
//! A user's memory is its own: a program shows irmd what its peer showed, and could show a chain of its own making.

use std::collections::BTreeMap;

use identity::{CertificateDer, CheckError, Fingerprint, Shown, moment, vouched};
use proto::Name;

use super::name::Origin;
use crate::config::{Identity, Pattern, TrustEntry};

/// Names that are remembered, of all users together.
pub const MOST_KNOWN: usize = 16_384;
/// Names that are remembered for one user, if it is none without quotas.
pub const MOST_KNOWN_OF_USER: usize = 4_096;

/// Why a host is trusted, or let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grounds {
    /// A CA stands behind it.
    Ca,
    /// It was named by hand.
    Pin,
    /// It is the one of the last time.
    Remembered,
    /// The directory says so.
    Directory,
    /// It came first.
    FirstUse,
    /// A rule of the name lets this host in.
    Allowed,
    /// Whoever shows an identity is let in.
    Any,
}

impl Grounds {
    /// As listings say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ca => "ca",
            Self::Pin => "pin",
            Self::Remembered => "remembered",
            Self::Directory => "directory",
            Self::FirstUse => "first use",
            Self::Allowed => "allowed",
            Self::Any => "any",
        }
    }
}

/// How a remembered host came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It came first.
    FirstUse,
    /// The directory named it.
    Directory,
    /// The user said so.
    Trusted,
}

impl Source {
    const ALL: [Self; 3] = [Self::FirstUse, Self::Directory, Self::Trusted];

    /// As listings say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FirstUse => "first use",
            Self::Directory => "directory",
            Self::Trusted => "trusted",
        }
    }

    /// As the file of remembered hosts says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::FirstUse => "first-use",
            other => other.as_str(),
        }
    }

    /// What [`Self::word`] wrote.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.word() == word)
    }
}

/// A host that is remembered for the flows of one user to one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The user.
    pub uid: u32,
    /// The name.
    pub name: Name,
    /// The host.
    pub host: Fingerprint,
    /// How it came to be.
    pub source: Source,
    /// Since when, seconds since 1970.
    pub since: u64,
}

/// What is said by hand.
#[derive(Clone, Debug)]
pub(super) struct Pinned {
    pub(super) entry: TrustEntry,
    pub(super) origin: Origin,
}

/// Who asks whether a peer is the right one.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The name that a flow was asked for to.
    pub name: &'a Name,
    /// Whose flow it is.
    pub uid: u32,
    /// Where the peer is.
    pub peer: &'a str,
    /// Who it showed to be.
    pub shown: &'a Shown,
    /// With this.
    pub chain: &'a [CertificateDer<'static>],
    /// The key beside its address in the directory.
    pub directory: Option<Fingerprint>,
    /// Whoever comes first is trusted.
    pub first_use: bool,
    /// This host's clock, seconds since 1970.
    pub wall: u64,
}

/// All that is trusted.
#[derive(Debug, Default)]
pub struct Trust {
    /// Those that say most of a name first.
    pinned: Vec<Pinned>,
    known: BTreeMap<(u32, Name), Known>,
}

impl Trust {
    /// Sets what is said of a name or pattern by hand, or takes it away if it names nobody.
    pub fn pin(&mut self, entry: TrustEntry, origin: Origin) {
        self.pinned.retain(|known| known.entry.name != entry.name);
        if !entry.identities.is_empty() {
            let at = self.pinned.partition_point(|known| known.entry.name.weight() >= entry.name.weight());
            self.pinned.insert(at, Pinned { entry, origin });
        }
    }

    /// What is said by hand, from these places.
    pub fn pinned(&self, origins: &[Origin]) -> Vec<TrustEntry> {
        self.pinned.iter().filter(|p| origins.contains(&p.origin)).map(|p| p.entry.clone()).collect()
    }

    pub(super) fn pins(&self) -> &[Pinned] {
        &self.pinned
    }

    /// What is said by hand of exactly this name or pattern.
    pub(super) fn pin_of(&self, name: &Pattern) -> Option<&Pinned> {
        self.pinned.iter().find(|pinned| pinned.entry.name == *name)
    }

    /// Remembers a host, instead of the one before.
    pub fn remember(&mut self, known: Known) {
        self.known.insert((known.uid, known.name.clone()), known);
    }

    /// Forgets what `gone` says of what is remembered of a name; says how many.
    pub fn forget(&mut self, name: &str, gone: impl Fn(&Known) -> bool) -> usize {
        let before = self.known.len();
        self.known.retain(|(_, known), row| known.as_str() != name || !gone(row));
        before - self.known.len()
    }

    /// All that is remembered.
    pub fn known(&self) -> impl Iterator<Item = &Known> {
        self.known.values()
    }

    /// Why one more cannot be remembered for a user.
    pub fn is_full(&self, uid: u32, unlimited: bool) -> Option<String> {
        if self.known.len() >= MOST_KNOWN {
            return Some(format!("this irmd remembers {MOST_KNOWN} hosts, as many as it may"));
        }
        if unlimited || self.known.len() < MOST_KNOWN_OF_USER {
            return None;
        }
        let first = (uid, Name::new("!").ok()?);
        let of_user = self.known.range(first..).take_while(|((whose, _), _)| *whose == uid).count();
        (of_user >= MOST_KNOWN_OF_USER)
            .then(|| format!("{of_user} hosts are remembered for user {uid}, as many as may be"))
    }

    /// Whether a peer is the one to be trusted with the name, and why; else a sentence about it.
    pub fn judge(&self, asked: &Asked<'_>) -> Result<Grounds, String> {
        let Asked { name, peer, shown, .. } = asked;
        let host = shown.host;
        shown.check_name(name).map_err(|error| not_taken(name, peer, &error))?;
        if let Some(pinned) = self.pinned.iter().find(|pinned| pinned.entry.name.matches(name.as_str())) {
            return by_hand(pinned, asked);
        }
        if let Some(known) = self.known.get(&(asked.uid, (*name).clone())) {
            return match known.source {
                _ if known.host != host => Err(changed(known, asked)),
                Source::Trusted => Ok(Grounds::Pin),
                Source::FirstUse | Source::Directory => Ok(Grounds::Remembered),
            };
        }
        match asked.directory {
            Some(said) if said == host => Ok(Grounds::Directory),
            Some(said) => Err(format!(
                "{name} at {peer} is the host {host}, and its record in the directory says {said}; somebody may pretend to be \
                 it: correct the record, or if this is the right host, irm identity trust {name} {host}"
            )),
            None if asked.first_use => Ok(Grounds::FirstUse),
            None => Err(format!(
                "{name} at {peer} is the host {host}, which nothing here says is the right one, and trust-first-use is off; if \
                 it is, irm identity trust {name} {host}"
            )),
        }
    }
}

/// What is to be said of a peer whose certificates are none.
pub(super) fn not_taken(name: &Name, peer: &str, error: &CheckError) -> String {
    format!("the identity of {name} at {peer} is not taken: {error}")
}

fn by_hand(pinned: &Pinned, asked: &Asked<'_>) -> Result<Grounds, String> {
    let identities = &pinned.entry.identities;
    if identities.contains(&Identity::Host(asked.shown.host)) {
        return Ok(Grounds::Pin);
    }
    let mut why = None;
    for identity in identities {
        let Identity::Ca(cas) = identity else { continue };
        match vouched(asked.chain, cas.certificates.as_deref().unwrap_or_default(), moment(asked.wall)) {
            Ok(()) => return Ok(Grounds::Ca),
            // That a certificate is over says more than that another CA knows nothing of it.
            Err(error @ (CheckError::Expired { .. } | CheckError::NotYet { .. })) => why = Some(error),
            Err(error) => why = why.or(Some(error)),
        }
    }
    let Asked { name, peer, shown: Shown { host, .. }, .. } = asked;
    let place = if pinned.origin == Origin::Config { "irmd.toml" } else { "runtime.toml" };
    let pattern = pinned.entry.name.as_str();
    let why = why.map(|error| format!(" ({error})")).unwrap_or_default();
    Err(format!(
        "{name} at {peer} is the host {host}, and {place} trusts others with {pattern}: {}{why}; somebody may pretend to be \
         it: if this is the right host, irm identity trust {name} {host}",
        listed(identities)
    ))
}

fn changed(known: &Known, asked: &Asked<'_>) -> String {
    let Asked { name, peer, shown: Shown { host, .. }, .. } = asked;
    let directory = match asked.directory {
        Some(said) if said == *host => " (the directory names the new one, too)",
        Some(said) if said == known.host => " (the directory names the old one)",
        _ => "",
    };
    format!(
        "the host of {name} has changed: it was {} ({}), and the one at {peer} is {host}{directory}; somebody may pretend to \
         be it: if the change is wanted, irm identity trust {name} {host}",
        known.host,
        known.source.as_str()
    )
}

/// At most four of a list.
fn listed(identities: &[Identity]) -> String {
    let mut words: Vec<String> = identities.iter().take(4).map(ToString::to_string).collect();
    if identities.len() > words.len() {
        words.push(format!("{} more", identities.len() - words.len()));
    }
    words.join(", ")
}
