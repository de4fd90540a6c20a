//! Rules in words: whom a rule names, and which addresses. What they mean is decided in [`crate::machine::policy`].

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use proto::v1;
use serde::{Deserialize, Serialize};

use super::Identity;
use super::trust::check_list;

/// Entries of one list.
const MOST: usize = 64;
/// Longest name of a user or group, bytes.
const LONGEST: usize = 64;
/// Words that name nobody in particular.
const RESERVED: [&str; 4] = ["any", "none", "owner", "default"];

/// A user or group, by name or number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Account {
    text: String,
    /// Its number; `None` until it was looked up, and where it does not exist: then it is nobody.
    pub id: Option<u32>,
}

/// Whom a rule names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Who {
    /// Every user of this host.
    Any,
    /// The user whom the name belongs to.
    Owner,
    /// One user.
    User(Account),
    /// The members of a group.
    Group(Account),
}

/// Addresses that a rule names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Range {
    /// Every address.
    Any,
    /// Those of a prefix.
    Net(IpNet),
}

/// Who may use a name. A key that is not given leaves the decision to a pattern, or to the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Who may serve it; nobody if empty.
    pub serve: Option<Vec<Who>>,
    /// Which users may allocate flows to it that stay on this host.
    pub allow_local: Option<Vec<Who>>,
    /// Which hosts may allocate flows to it.
    pub allow_remote: Option<Vec<Range>>,
    /// Which may not. The longest prefix of both lists decides.
    pub deny_remote: Option<Vec<Range>>,
    /// Of the hosts that may, those that show one of these identities may; raw flows, which show none, are refused.
    pub identities: Option<Vec<Identity>>,
}

/// A table `[[rule]]`: rules of all names that a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PatternEntry {
    /// A name, or the beginning of names and a `*`.
    pub pattern: Pattern,
    /// See [`Rules`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serve: Option<Vec<Who>>,
    /// See [`Rules`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_local: Option<Vec<Who>>,
    /// See [`Rules`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_remote: Option<Vec<Range>>,
    /// See [`Rules`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deny_remote: Option<Vec<Range>>,
    /// See [`Rules`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identities: Option<Vec<Identity>>,
}

/// A name, or the beginning of names and a `*`: `game.*`; `*` alone is every name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

impl Account {
    fn new(text: &str, what: &str) -> Result<Self, String> {
        let good = |c: char| c.is_ascii_graphic() && !"@,:/\"'\\".contains(c);
        if text.is_empty() || text.len() > LONGEST || !text.chars().all(good) || RESERVED.contains(&text) {
            return Err(format!("{text:?} is no {what}; write its name or number"));
        }
        // A number of 32 ones stands for "no change" in the kernel's calls.
        let id = text.parse().ok().filter(|id| *id != u32::MAX);
        if id.is_none() && text.chars().all(|c| c.is_ascii_digit()) {
            return Err(format!("{text:?} is no {what}; numbers go up to {}", u32::MAX - 1));
        }
        Ok(Self { text: text.to_owned(), id })
    }

    /// A user by name or number.
    pub fn user(text: &str) -> Result<Self, String> {
        Self::new(text, "user")
    }

    /// A group by name or number; `@` before it may be left out.
    pub fn group(text: &str) -> Result<Self, String> {
        Self::new(text.strip_prefix('@').unwrap_or(text), "group")
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl From<u32> for Account {
    fn from(id: u32) -> Self {
        Self { text: id.to_string(), id: Some(id) }
    }
}

impl TryFrom<String> for Account {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::user(&text)
    }
}

impl From<Account> for String {
    fn from(account: Account) -> Self {
        account.text
    }
}

impl TryFrom<String> for Who {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match (text.as_str(), text.strip_prefix('@')) {
            ("any", _) => Ok(Self::Any),
            ("owner", _) => Ok(Self::Owner),
            ("none", _) => Err("\"none\" stands alone; write [] for nobody".to_owned()),
            (_, Some(group)) => Account::new(group, "group").map(Self::Group),
            (user, None) => Account::user(user).map(Self::User).map_err(|e| format!("{e}, @group, owner or any")),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Owner => f.write_str("owner"),
            Self::User(account) => f.write_str(&account.text),
            Self::Group(account) => write!(f, "@{}", account.text),
        }
    }
}

impl From<Who> for String {
    fn from(who: Who) -> Self {
        who.to_string()
    }
}

impl TryFrom<String> for Range {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "any" {
            return Ok(Self::Any);
        }
        let net = text
            .parse()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| format!("{text:?} is no address and no prefix; write 10.0.0.0/8, 10.0.0.1, fd00::/64, any"))?;
        if net.trunc() != net {
            return Err(format!("{text:?} names a host within its prefix; write {} or {}", net.trunc(), net.addr()));
        }
        if net.addr().to_canonical() != net.addr() {
            return Err(format!("{text:?} is IPv4 in IPv6's clothes; write the IPv4 address"));
        }
        Ok(Self::Net(net))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => net.addr().fmt(f),
            Self::Net(net) => net.fmt(f),
        }
    }
}

impl From<Range> for String {
    fn from(range: Range) -> Self {
        range.to_string()
    }
}

impl Pattern {
    /// Checks a pattern.
    pub fn new(text: &str) -> Result<Self, String> {
        let name = text.strip_suffix('*').unwrap_or(text);
        if !name.is_empty() || text.is_empty() {
            proto::Name::new(name).map_err(|e| format!("{text:?} is no pattern: {e}; write game.* or *"))?;
        }
        if name.contains('*') {
            return Err(format!("{text:?} is no pattern: * stands at the end only; write game.* or *"));
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether text is meant as one: `irm` takes a name or a pattern.
    pub fn is_one(text: &str) -> bool {
        text.ends_with('*')
    }

    /// Whether it matches a name.
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == self.0,
        }
    }

    /// The more it says of a name, the more it weighs: a whole name more than any beginning of it.
    pub fn weight(&self) -> usize {
        self.0.strip_suffix('*').map_or(usize::MAX, str::len)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0
    }
}

/// A list of a message: empty says nothing (the outer `None`), "default" takes the rule away.
fn said<T>(texts: &[String]) -> Result<Option<Option<Vec<T>>>, String>
where
    T: TryFrom<String, Error = String>,
{
    match texts {
        [] => Ok(None),
        [word] if word == "default" => Ok(Some(None)),
        [word] if word == "none" => Ok(Some(Some(Vec::new()))),
        texts => texts.iter().cloned().map(T::try_from).collect::<Result<_, _>>().map(|list| Some(Some(list))),
    }
}

/// A list for a message.
fn texts<T: fmt::Display>(list: Option<&Vec<T>>) -> Vec<String> {
    match list {
        None => Vec::new(),
        Some(list) if list.is_empty() => vec!["none".to_owned()],
        Some(list) => list.iter().map(ToString::to_string).collect(),
    }
}

impl Rules {
    /// Whether no rule is given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What a message changes of them.
    pub fn change(&mut self, by: &v1::NameRules) -> Result<(), String> {
        let mut new = self.clone();
        let key = |key: &'static str| move |e: String| format!("{key}: {e}");
        if let Some(list) = said(&by.serve).map_err(key("serve"))? {
            new.serve = list;
        }
        if let Some(list) = said(&by.allow_local).map_err(key("allow-local"))? {
            new.allow_local = list;
        }
        if let Some(list) = said(&by.allow_remote).map_err(key("allow-remote"))? {
            new.allow_remote = list;
        }
        if let Some(list) = said(&by.deny_remote).map_err(key("deny-remote"))? {
            new.deny_remote = list;
        }
        if let Some(list) = said(&by.identities).map_err(key("identities"))? {
            new.identities = list;
        }
        new.check()?;
        *self = new;
        Ok(())
    }

    /// What no single entry can show.
    pub fn check(&self) -> Result<(), String> {
        let lengths = [
            self.serve.as_ref().map(Vec::len),
            self.allow_local.as_ref().map(Vec::len),
            self.allow_remote.as_ref().map(Vec::len),
            self.deny_remote.as_ref().map(Vec::len),
        ];
        if lengths.into_iter().flatten().any(|length| length > MOST) {
            return Err(format!("a list has at most {MOST} entries; use a group, or longer prefixes"));
        }
        check_list(self.identities.as_deref().unwrap_or_default()).map_err(|e| format!("identities: {e}"))?;
        let both = |range: &&Range| self.allow_remote.iter().flatten().any(|allowed| allowed == *range);
        match self.deny_remote.iter().flatten().find(both) {
            Some(range) => Err(format!("{range} is both in allow-remote and in deny-remote; take it out of one")),
            None => Ok(()),
        }
    }

    /// As a message.
    pub fn message(&self) -> v1::NameRules {
        v1::NameRules {
            serve: texts(self.serve.as_ref()),
            allow_local: texts(self.allow_local.as_ref()),
            allow_remote: texts(self.allow_remote.as_ref()),
            deny_remote: texts(self.deny_remote.as_ref()),
            identities: texts(self.identities.as_ref()),
        }
    }

    /// The identities that they name.
    pub fn identities(&mut self) -> impl Iterator<Item = &mut Identity> {
        self.identities.iter_mut().flatten()
    }

    /// The accounts that they name, and whether each is a group.
    pub fn accounts(&mut self) -> impl Iterator<Item = (&mut Account, bool)> {
        let lists = self.serve.iter_mut().chain(self.allow_local.iter_mut());
        lists.flatten().filter_map(|who| match who {
            Who::User(account) => Some((account, false)),
            Who::Group(account) => Some((account, true)),
            Who::Any | Who::Owner => None,
        })
    }
}

impl PatternEntry {
    /// An entry of a file.
    pub fn new(pattern: Pattern, rules: Rules) -> Self {
        let Rules { serve, allow_local, allow_remote, deny_remote, identities } = rules;
        Self { pattern, serve, allow_local, allow_remote, deny_remote, identities }
    }

    /// Its rules.
    pub fn rules(&self) -> Rules {
        let Self { serve, allow_local, allow_remote, deny_remote, identities, .. } = self.clone();
        Rules { serve, allow_local, allow_remote, deny_remote, identities }
    }
}
