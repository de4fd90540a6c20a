//! Identities in words: hosts by their keys' fingerprints, and CAs by their files.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use identity::{CertificateDer, Fingerprint};
use serde::{Deserialize, Serialize};

use super::{Config, Pattern};

/// Tables `[[trust]]`, in irmd.toml and made at run time together.
pub const MOST_TRUST: usize = 1_024;
/// Identities of one list.
const MOST: usize = 64;
/// Longest path of a file of CAs, bytes.
const LONGEST: usize = 1_024;

/// Reads the certificates of a file; the error says what is wrong with it.
pub type ReadCas<'a> = &'a dyn Fn(&Path) -> Result<Vec<CertificateDer<'static>>, String>;

/// Whom a list of identities names.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Identity {
    /// Whoever shows that it is some host.
    Any,
    /// One host.
    Host(Fingerprint),
    /// The hosts behind which one of a file's CAs stands.
    Ca(Cas),
}

/// A file of CAs, and what was in it when it was read.
#[derive(Clone, Debug)]
pub struct Cas {
    path: String,
    /// `None` until it was read, and where that failed: then it stands behind nobody.
    pub certificates: Option<Arc<[CertificateDer<'static>]>>,
}

/// A table `[[trust]]`: who is trusted with a name, or with the names of a pattern, and nobody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrustEntry {
    /// A name, or the beginning of names and a `*`.
    pub name: Pattern,
    /// Who is.
    pub identities: Vec<Identity>,
}

impl Cas {
    /// The file.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// What is in a file of CAs does not tell it from others.
impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, Self::Any) => true,
            (Self::Host(one), Self::Host(other)) => one == other,
            (Self::Ca(one), Self::Ca(other)) => one.path == other.path,
            _ => false,
        }
    }
}

impl Eq for Identity {}

impl TryFrom<String> for Identity {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "any" {
            return Ok(Self::Any);
        }
        if let Some(path) = text.strip_prefix("ca:") {
            if !path.starts_with('/') || path.len() > LONGEST || path.chars().any(char::is_control) {
                return Err(format!("{path:?} is no absolute path of a file of CAs; write ca:/path/of/ca.pem"));
            }
            return Ok(Self::Ca(Cas { path: path.to_owned(), certificates: None }));
        }
        text.parse().map(Self::Host).map_err(|error| format!("{error}; a CA is written ca:/path/of/ca.pem"))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Host(host) => host.fmt(f),
            Self::Ca(cas) => write!(f, "ca:{}", cas.path),
        }
    }
}

impl From<Identity> for String {
    fn from(identity: Identity) -> Self {
        identity.to_string()
    }
}

impl Identity {
    /// Reads the file of CAs, if it is one that was not read yet.
    pub fn read(&mut self, read: ReadCas<'_>) -> Result<(), String> {
        let Self::Ca(Cas { path, certificates: certificates @ None }) = self else { return Ok(()) };
        let found = read(Path::new(path))
            .map_err(|why| format!("the CAs of {path} cannot be had: {why}; correct the file or name another"))?;
        *certificates = Some(found.into());
        Ok(())
    }
}

/// What no single entry of a list of identities can show.
pub(super) fn check_list(list: &[Identity]) -> Result<(), String> {
    match list.iter().enumerate().find(|(at, identity)| list[..*at].contains(identity)) {
        _ if list.len() > MOST => Err(format!("a list has at most {MOST} identities; use a CA")),
        Some((_, twice)) => Err(format!("{twice} is in it twice; take one out")),
        None => Ok(()),
    }
}

impl TrustEntry {
    /// Whether it says something that can be.
    pub fn check(&self) -> Result<(), String> {
        check_list(&self.identities)?;
        if self.identities.contains(&Identity::Any) {
            return Err("any would trust everybody; name hosts or CAs".to_owned());
        }
        if self.identities.is_empty() {
            return Err("identities is empty; give SHA256:… or ca:/path.pem".to_owned());
        }
        Ok(())
    }
}

impl Config {
    pub(super) fn check_trust(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for entry in &self.trust {
            let name = entry.name.as_str();
            entry.check().map_err(|e| format!("[[trust]] {name}: {e}"))?;
            if !seen.insert(name) {
                return Err(format!("[[trust]] {name} is declared twice; join the two"));
            }
        }
        if self.trust.len() > MOST_TRUST {
            return Err(format!("there are {} [[trust]], more than {MOST_TRUST}; use patterns", self.trust.len()));
        }
        Ok(())
    }

    /// Reads all files of CAs that are named. Gives a sentence for each that could not be read: it stays, and stands
    /// behind nobody.
    pub fn read_cas(&mut self, read: ReadCas<'_>) -> Vec<String> {
        let trust = self.trust.iter_mut().flat_map(|entry| &mut entry.identities);
        let names = self.names.iter_mut().filter_map(|entry| entry.identities.as_mut()).flatten();
        let rules = self.rules.iter_mut().filter_map(|entry| entry.identities.as_mut()).flatten();
        trust.chain(names).chain(rules).filter_map(|identity| identity.read(read).err()).collect()
    }
}
