//! A file of rules: in the original's words or as TOML, told apart by what stands in it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use service::Fault;

use super::rule::{Host, Place, Redirect, Rules, Way};
use super::{grammar, toml};

/// Most entries of all access lists together.
pub const MOST_ENTRIES: usize = 4096;
/// Most redirects: the client side has a socket for each.
pub const MOST_REDIRECTS: usize = 1024;

/// Games send and are sent more datagrams a second than that.
const SLOW: f64 = 100.0;

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// Of the whole process.
    pub options: Options,
    /// Who may play, and where.
    pub rules: Rules,
}

/// What holds for the process. What is `None` here may be said on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where metrics are served over HTTP.
    pub metrics: Option<SocketAddr>,
    /// How long players may go on after SIGTERM.
    pub drain: Option<Duration>,
    /// How often names are looked up again.
    pub resolve: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { metrics: None, drain: None, resolve: Duration::from_secs(30) }
    }
}

impl File {
    /// Reads a file's text. Its name decides nothing but that `.toml` is TOML.
    pub fn parse(name: &Path, text: &str) -> Result<Self, Fault> {
        let is_toml = name.extension().is_some_and(|extension| extension == "toml") || looks_like_toml(text);
        let (options, mut rules, places) = match is_toml {
            true => toml::parse(text)?,
            false => grammar::parse(text).map(|(rules, places)| (Options::default(), rules, places))?,
        };
        if rules.redirects.is_empty() {
            return Err(Fault::at(
                text,
                0,
                "there is no redirect; write one such as redirect 192.168.1.1 port 27910 to q2.example.org 27910",
            ));
        }
        let entries = rules.access.len() + rules.redirects.iter().map(|redirect| redirect.access.len()).sum::<usize>();
        if entries > MOST_ENTRIES {
            let what =
                format!("the access lists have {entries} entries and may have {MOST_ENTRIES}; give masks to some");
            return Err(Fault::at(text, 0, what));
        }
        if let Some(at) = places.get(MOST_REDIRECTS) {
            let what = format!("this is redirect {}, and there may be {MOST_REDIRECTS}", MOST_REDIRECTS + 1);
            return Err(Fault::at(text, *at, what));
        }
        name_apart(&mut rules);
        Ok(Self { options, rules })
    }

    /// What is no mistake and yet hardly meant, a sentence each.
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.rules.access.is_empty() {
            doubts.push("nobody may play, since no access list lets anybody in; write global allow *".to_owned());
        }
        doubts.extend(self.rules.redirects.iter().filter_map(short_queue));
        doubts.extend(self.rules.redirects.iter().filter_map(no_own_source));
        let mut before: HashMap<_, &str> = HashMap::new();
        for redirect in &self.rules.redirects {
            let key = (&redirect.on, &redirect.from);
            match before.get(&key) {
                Some(first) if redirect.token.is_none() => doubts.push(format!(
                    "the redirect {} is reached by those only whom the access list of {first} does not let in, which is for the \
                     same port",
                    redirect.name
                )),
                Some(_) => {}
                None => {
                    before.insert(key, &redirect.name);
                }
            }
        }
        doubts
    }
}

/// A queue that is too short for its delay: what comes faster drops what has not waited long enough.
fn short_queue(redirect: &Redirect) -> Option<String> {
    let waits = |way: &Way| (way.delay + way.jitter).as_secs_f64();
    let ways = [redirect.carriage.up, redirect.carriage.down];
    let slowest = ways.into_iter().max_by(|a, b| waits(a).total_cmp(&waits(b)))?;
    let queue = f64::from(slowest.queue?);
    let through = queue / waits(&slowest);
    (through < SLOW).then(|| {
        format!(
            "of each player the redirect {} carries {through:.0} datagrams a second at most, since its queue of {queue} is for a delay \
             of {:?}; leave queue out, or make it longer",
            redirect.name,
            slowest.delay + slowest.jitter
        )
    })
}

/// Own sources of players, where servers are elsewhere: they see all players at one address, and whom they ban are all.
fn no_own_source(redirect: &Redirect) -> Option<String> {
    let mut places = redirect.to.iter().map(|target| &target.place);
    let elsewhere = |place: &&Place| place.address().is_some_and(|at| !(at.ip().is_loopback() && at.is_ipv4()));
    let place = places.find(elsewhere).filter(|_| redirect.carriage.own_source)?;
    Some(format!(
        "own-source of the redirect {} is for servers at 127.0.0.1, and does nothing for {place}; leave it out, or use proxy-header",
        redirect.name
    ))
}

/// Names are for status and metrics: no two are the same.
fn name_apart(rules: &mut Rules) {
    let mut seen: HashMap<String, u32> = HashMap::new();
    for redirect in &mut rules.redirects {
        let turn = seen.entry(redirect.name.clone()).or_default();
        *turn += 1;
        if *turn > 1 {
            redirect.name = format!("{} ({turn})", redirect.name);
        }
    }
}

/// Whether the first line that says something is a table's head or a key of TOML, neither of which the original has.
fn looks_like_toml(text: &str) -> bool {
    let text = text.trim_start_matches('\u{feff}');
    let mut said = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let word = |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.\"".contains(&b));
    said.next()
        .is_some_and(|line| line.starts_with('[') || line.split_once('=').is_some_and(|(key, _)| word(key.trim_end())))
}

/// Host names that rules have to look up, each once, in order.
pub fn names(rules: &Rules) -> Vec<&str> {
    let mut names = Vec::new();
    let mut hosts: Vec<&Host> = rules.access.iter().map(|entry| &entry.from.host).collect();
    for redirect in &rules.redirects {
        hosts.extend(redirect.on.iter().chain([&redirect.from.host]));
        hosts.extend(redirect.to.iter().map(|target| &target.place.host));
        hosts.extend(redirect.access.iter().map(|entry| &entry.from.host));
    }
    for host in hosts {
        if let Host::Named(name) = host
            && !names.contains(&name.as_str())
        {
            names.push(name.as_str());
        }
    }
    names
}

#[cfg(test)]
mod tests;
