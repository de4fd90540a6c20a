//! A file of rules: the seed's lines (`7005 -> 192.168.0.1:8005`) or TOML, told apart by what stands in it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::Path;
use std::time::Duration;

use service::Fault;

use super::end::{End, Host, Place};
use super::rule::Rule;
use super::{lines, toml};

/// Most rules of a file, those of ranges counted one by one: each has a socket of its own.
pub const MOST_RULES: usize = 10_000;

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// Of the whole forwarder.
    pub options: Options,
    /// One for each listening end; no two listen at the same.
    pub rules: Vec<Rule>,
}

/// What holds for all rules together. What is `None` here may be said on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Threads that forward.
    pub workers: Option<NonZeroU16>,
    /// Where metrics are served over HTTP.
    pub metrics: Option<SocketAddr>,
    /// How long connections may go on after SIGTERM.
    pub drain: Option<Duration>,
}

/// A rule as it was written, perhaps of many ports, and the byte where it was.
pub(super) struct Written {
    pub(super) rule: Rule,
    pub(super) at: usize,
}

impl File {
    /// Reads a file's text. Its name decides nothing but that `.toml` is TOML.
    pub fn parse(name: &Path, text: &str) -> Result<Self, Fault> {
        let is_toml = name.extension().is_some_and(|extension| extension == "toml") || !looks_like_lines(text);
        let (options, written) = if is_toml { toml::parse(text)? } else { (Options::default(), lines::parse(text)?) };
        let rules = each(text, written)?;
        if rules.is_empty() {
            return Err(Fault::at(text, 0, "there is no rule; write a line such as 7005 -> 192.168.0.1:8005"));
        }
        Ok(Self { options, rules })
    }

    /// Files that it names are in this folder, unless they are named from /.
    pub fn base(&mut self, folder: &Path) {
        let rules = self.rules.iter_mut().map(|rule| &mut rule.options);
        for options in rules {
            if let Some(tls) = &mut options.tls_in {
                tls.cert = folder.join(&tls.cert);
                tls.key = folder.join(&tls.key);
                tls.client_ca = tls.client_ca.as_ref().map(|ca| folder.join(ca));
            }
            if let Some(tls) = &mut options.tls_out {
                tls.ca = tls.ca.as_ref().map(|ca| folder.join(ca));
            }
        }
    }
}

/// Whether the first line that says something is no table's head and no key of TOML. An empty file is one of lines.
fn looks_like_lines(text: &str) -> bool {
    let text = text.trim_start_matches('\u{feff}');
    let mut said = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let word = |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.\"".contains(&b));
    said.next().is_none_or(|line| match line.split_once('=') {
        Some((key, _)) if word(key.trim_end()) => false,
        Some((key, _)) => key.contains("->") || !key.starts_with('['),
        None => line.contains("->") || !line.starts_with('['),
    })
}

/// The rules one by one, and that no two of them listen at the same end.
fn each(text: &str, written: Vec<Written>) -> Result<Vec<Rule>, Fault> {
    let mut taken = Taken::default();
    let mut rules = Vec::new();
    for Written { rule, at } in written {
        // Before they are made: a single line can stand for 65,535.
        let more = rule.listen.ports().map_or(1, super::end::Ports::len);
        if rules.len() + more > MOST_RULES {
            return Err(Fault::at(text, at, format!("these are more than {MOST_RULES} rules; listen on fewer ports")));
        }
        for rule in rule.each().map_err(|error| Fault::at(text, at, error))? {
            if let Some((other, at_other)) = taken.take(&rule.listen, at) {
                let line = Fault::at(text, at_other, "").line;
                let also = if other == rule.listen { String::new() } else { format!(" as {other}") };
                let what = format!("{} is listened at{also} by line {line} already; leave one of them", rule.listen);
                return Err(Fault::at(text, at, what));
            }
            rules.push(rule);
        }
    }
    Ok(rules)
}

/// Who listens where.
#[derive(Default)]
struct Taken {
    ports: HashMap<(bool, u16), Vec<(End, usize)>>,
    others: HashMap<End, usize>,
}

impl Taken {
    /// Takes an end, or says who has it, or one that overlaps it.
    fn take(&mut self, end: &End, at: usize) -> Option<(End, usize)> {
        let Some(ports) = end.ports() else {
            return self.others.insert(end.clone(), at).map(|before| (end.clone(), before));
        };
        let here = self.ports.entry((end.is_udp(), ports.first())).or_default();
        let other = here.iter().find(|(other, _)| overlap(other, end)).cloned();
        here.push((end.clone(), at));
        other
    }
}

/// Whether the kernel would not let two listening ends of single ports be opened side by side.
pub fn overlap(a: &End, b: &End) -> bool {
    let any = |host: &Host| match host {
        Host::This => true,
        Host::Address(address, _) => address.is_unspecified(),
        Host::Zoned(..) | Host::Named(_) => false,
    };
    let v6 =
        |host: &Host| matches!(host, Host::Zoned(..)) || matches!(host, Host::Address(address, _) if address.is_ipv6());
    match (a, b) {
        (End::Tcp(a), End::Tcp(b)) | (End::Udp(a), End::Udp(b)) => {
            let Place { host: one, ports } = a;
            let Place { host: other, ports: theirs } = b;
            // 0.0.0.0 leaves IPv6 to others; all that is not an address of IPv4 takes both.
            let families = |any: &Host, one: &Host| !(matches!(any, Host::Address(a, _) if a.is_ipv4()) && v6(one));
            let hosts = one == other || any(one) && families(one, other) || any(other) && families(other, one);
            ports == theirs && hosts
        }
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests;
