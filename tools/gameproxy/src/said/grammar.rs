//! The original's configuration, as rq2proxy 2.0 has it.
//!
//! ```text
//! # who may send to the client side: the first that matches decides, no match rejects
//! global allow 192.168.1.0/255.255.255.0 from 1024 -
//! global deny  0.0.0.0/0.0.0.0
//!
//! # where players' datagrams go
//! redirect 192.168.1.1 port 27910 to q2.example.org 27910
//! on gw.example.org redirect 192.168.1.1 port 27911 to q2.example.org 27911 allow 192.168.1.7 delay 30ms+20ms
//! ```
//!
//! | | |
//! |---|---|
//! | statement | `global` entry · \[`on` ADDRESS\] `redirect` ADDRESS `port` PORT `to` ADDRESS PORT entry… \[`delay` TIME \[`+` TIME\]\] |
//! | entry | `allow` or `deny` ADDRESS \[`/` MASK\] \[`from` \[PORT\] `-` \[PORT\] or `port` PORT\] |
//! | ADDRESS | an IPv4 or IPv6 address, a host name, `*`: any, as `0.0.0.0/0.0.0.0` of an entry and `0.0.0.0` of a redirect are |
//! | MASK | an address, which may have holes, or how many of its first bits are ones |
//! | TIME | a number and `s`, `ms` or `us`; at most 10 s |
//!
//! White space and line ends part words and mean nothing else; `#` begins a comment. It is read by hand: the words are few,
//! and each place can say what it expected (docs/decisions/0033).

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use service::Fault;

use super::rule::{Access, Host, Net, Place, Redirect, Rules, Verdict};

/// Longest induced delay.
pub const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// Longest host name, bytes (RFC 1035, 2.3.4, without the last dot).
const LONGEST_HOST: usize = 253;
/// Words that are no host's name.
const WORDS: [&str; 9] = ["global", "allow", "deny", "from", "port", "on", "redirect", "to", "delay"];
/// Any address.
pub const ANY: Host = Host::Address(IpAddr::V4(Ipv4Addr::UNSPECIFIED));

/// What is wrong at which byte.
pub(super) type Wrong = (usize, String);

/// Reads a configuration. Every redirect with the byte where its statement begins.
///
/// # Errors
/// What is wrong with it, and where.
pub fn parse(text: &str) -> Result<(Rules, Vec<usize>), Fault> {
    let mut words = Words { text, at: 0 };
    let (mut rules, mut places) = (Rules::default(), Vec::new());
    let read = loop {
        words.skip();
        let at = words.at;
        if at == text.len() {
            break Ok(());
        }
        let statement = match words.peek() {
            "global" => words.global().map(|entry| rules.access.push(entry)),
            "on" | "redirect" => words.redirect().map(|redirect| {
                rules.redirects.push(redirect);
                places.push(at);
            }),
            _ => Err(words.expected("'global', 'on' or 'redirect'")),
        };
        if let Err(wrong) = statement {
            break Err(wrong);
        }
    };
    read.map(|()| (rules, places)).map_err(|(at, what)| Fault::at(text, at, what))
}

/// One entry of an access list, such as `allow 10.0.0.0/8 from 1024 -`.
pub(super) fn access(text: &str) -> Result<Access, Wrong> {
    let mut words = Words { text, at: 0 };
    let entry = words.entry()?;
    words.end().map(|()| entry)
}

/// One time or two, `30ms` or `30ms+20ms`: from player to server, and back; none back where one is written.
///
/// # Errors
/// What is wrong with it, in one sentence.
pub fn delays(text: &str) -> Result<(Duration, Duration), String> {
    let mut words = Words { text, at: 0 };
    words.delays().and_then(|delays| words.end().map(|()| delays)).map_err(|(_, what)| what)
}

/// An address, a host name or `*`.
///
/// # Errors
/// What is wrong with it, in one sentence.
pub fn host(text: &str) -> Result<Host, String> {
    let mut words = Words { text, at: 0 };
    words.host("an address or a host name").and_then(|host| words.end().map(|()| host)).map_err(|(_, what)| what)
}

/// Whether a server can be there.
///
/// # Errors
/// What is wrong with it, in one sentence.
pub(super) fn one_host(host: &Host) -> Result<(), String> {
    let Host::Address(ip) = host else { return Ok(()) };
    let (everybody, one_link) = match ip.to_canonical() {
        IpAddr::V4(v4) => (v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast(), false),
        IpAddr::V6(v6) => (v6.is_unspecified() || v6.is_multicast(), v6.is_unicast_link_local()),
    };
    if everybody {
        return Err("the server of a redirect is one host; write its address or its name".to_owned());
    }
    if one_link {
        return Err(format!(
            "{ip} is of one link and does not say of which; write an address of the server that it has everywhere"
        ));
    }
    Ok(())
}

struct Words<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Words<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// White space, comments, and a byte order mark, which is no word.
    fn skip(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}').len();
            let comment = match rest[blank..].starts_with('#') {
                true => rest[blank..].find('\n').unwrap_or(rest.len() - blank),
                false => 0,
            };
            self.at += blank + comment;
            if blank + comment == 0 {
                return;
            }
        }
    }

    /// The next word, up to white space or a comment; none at the end.
    fn peek(&mut self) -> &'a str {
        self.skip();
        let rest = self.rest();
        &rest[..rest.find(|c: char| c.is_whitespace() || c == '#').unwrap_or(rest.len())]
    }

    /// The next characters of a kind.
    fn run(&mut self, kind: impl Fn(char) -> bool) -> &'a str {
        self.skip();
        let rest = self.rest();
        let run = &rest[..rest.find(|c: char| !kind(c)).unwrap_or(rest.len())];
        self.at += run.len();
        run
    }

    fn take(&mut self, word: &str) -> bool {
        let there = self.peek() == word;
        self.at += if there { word.len() } else { 0 };
        there
    }

    fn symbol(&mut self, symbol: char) -> bool {
        self.skip();
        let there = self.rest().starts_with(symbol);
        self.at += if there { symbol.len_utf8() } else { 0 };
        there
    }

    fn keyword(&mut self, word: &str, behind: &str) -> Result<(), Wrong> {
        if self.take(word) { Ok(()) } else { Err(self.expected(&format!("'{word}' behind {behind}"))) }
    }

    fn end(&mut self) -> Result<(), Wrong> {
        self.skip();
        if self.rest().is_empty() { Ok(()) } else { Err(self.expected("nothing more")) }
    }

    /// Here stands something else.
    fn expected(&mut self, what: &str) -> Wrong {
        let found = match self.peek() {
            "" => "the text ends".to_owned(),
            word => {
                let short: String = word.chars().take(40).collect();
                format!("'{short}' stands")
            }
        };
        (self.at, format!("{found} where {what} is expected"))
    }

    fn global(&mut self) -> Result<Access, Wrong> {
        self.keyword("global", "the statement before")?;
        self.entry()
    }

    fn entry(&mut self) -> Result<Access, Wrong> {
        let verdict = match self.peek() {
            "allow" => Verdict::Allow,
            "deny" => Verdict::Deny,
            _ => return Err(self.expected("'allow' or 'deny'")),
        };
        self.run(char::is_alphabetic);
        let anybody = self.peek().starts_with('*');
        let host = self.host("an address or a host name")?;
        let mask = match self.symbol('/') {
            true => Some(self.mask(&host)?),
            false => anybody.then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        };
        Ok(Access { verdict, from: Net { host, mask }, ports: self.ports()? })
    }

    fn ports(&mut self) -> Result<(u16, u16), Wrong> {
        if self.take("port") {
            return self.number("a port from 0 to 65535", 0).map(|port| (port, port));
        }
        if !self.take("from") {
            return Ok((0, u16::MAX));
        }
        let first = if self.digit() { self.number("a port from 0 to 65535", 0)? } else { 0 };
        if !self.symbol('-') {
            return Err(self.expected("'-' of a range of ports, such as 1024-2047 or 1024-,"));
        }
        self.skip();
        let at = self.at;
        let last = if self.digit() { self.number("a port from 0 to 65535", 0)? } else { u16::MAX };
        match first <= last {
            true => Ok((first, last)),
            false => Err((at, format!("the ports {first} - {last} go backwards; write {last} - {first}"))),
        }
    }

    fn digit(&mut self) -> bool {
        self.skip();
        self.rest().starts_with(|c: char| c.is_ascii_digit())
    }

    fn number(&mut self, what: &str, least: u16) -> Result<u16, Wrong> {
        self.skip();
        let at = self.at;
        let digits = self.run(|c| c.is_ascii_digit());
        let glued = self.rest().starts_with(|c: char| c.is_alphanumeric() || c == '.' || c == '_');
        match digits.parse::<u16>() {
            Ok(number) if number >= least && !glued => Ok(number),
            _ => {
                self.at = at;
                Err(self.expected(what))
            }
        }
    }

    fn host(&mut self, what: &str) -> Result<Host, Wrong> {
        self.skip();
        let at = self.at;
        if self.symbol('*') {
            return Ok(ANY);
        }
        let word = self.run(|c| c.is_alphanumeric() || "._:-[]%".contains(c));
        let bare = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')).unwrap_or(word);
        if let Ok(address) = bare.parse() {
            return Ok(Host::Address(address));
        }
        let name = word.strip_suffix('.').unwrap_or(word).to_ascii_lowercase();
        let label = |label: &str| {
            let letters = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            (1..=63).contains(&label.len()) && letters && !label.starts_with('-') && !label.ends_with('-')
        };
        // What looks like an address and is none is not looked up as a name: 10.0.0.256.
        let numbers = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let good = name.len() <= LONGEST_HOST && !numbers && name.split('.').all(label) && !WORDS.contains(&&*name);
        if good {
            return Ok(Host::Named(name));
        }
        self.at = at;
        Err(self.expected(what))
    }

    fn mask(&mut self, of: &Host) -> Result<IpAddr, Wrong> {
        self.skip();
        let at = self.at;
        let word = self.run(|c| c.is_ascii_hexdigit() || c == '.' || c == ':');
        let v6 = match of {
            Host::Address(address) => Some(address.is_ipv6()),
            Host::Named(_) => None,
        };
        let bits = word.parse::<u8>().ok().filter(|bits| *bits <= if v6 == Some(true) { 128 } else { 32 });
        let mask = match (bits, word.parse::<IpAddr>()) {
            (Some(bits), _) => Some(ones(bits, v6 == Some(true))),
            (None, Ok(mask)) if v6.is_none_or(|v6| v6 == mask.is_ipv6()) => Some(mask),
            _ => None,
        };
        mask.ok_or_else(|| {
            self.at = at;
            let example = if v6 == Some(true) { "ffff:ffff:: or 32" } else { "255.255.255.0 or 24" };
            self.expected(&format!("a mask, such as {example},"))
        })
    }

    fn redirect(&mut self) -> Result<Redirect, Wrong> {
        let on =
            if self.take("on") { Some(self.host("an address or a host name of the client machine")?) } else { None };
        self.keyword("redirect", "'on' and its address")?;
        let host = self.host("the address or the host name that players send to")?;
        self.keyword("port", "the address of a redirect")?;
        let from = Place { host, port: self.number("the port that players send to, 1 to 65535,", 1)? };
        self.keyword("to", "the port of a redirect")?;
        self.skip();
        let at = self.at;
        let host = self.host("the address or the host name of the server")?;
        one_host(&host).map_err(|what| (at, what))?;
        let to = Place { host, port: self.number("the port of the server, 1 to 65535,", 1)? };
        let mut redirect = Redirect::new(from, to);
        if let Some(on) = on {
            redirect.name = format!("{on} {}", redirect.name);
            redirect.on = Some(on);
        }
        while matches!(self.peek(), "allow" | "deny") {
            redirect.access.push(self.entry()?);
        }
        if self.take("delay") {
            let (up, down) = self.delays()?;
            (redirect.carriage.up.delay, redirect.carriage.down.delay) = (up, down);
        }
        Ok(redirect)
    }

    fn delays(&mut self) -> Result<(Duration, Duration), Wrong> {
        let up = self.time()?;
        let down = if self.symbol('+') { self.time()? } else { Duration::ZERO };
        Ok((up, down))
    }

    fn time(&mut self) -> Result<Duration, Wrong> {
        self.skip();
        let at = self.at;
        let digits = self.run(|c| c.is_ascii_digit());
        if digits.is_empty() {
            return Err(self.expected("a time, such as 30ms,"));
        }
        self.skip();
        let unit_at = self.at;
        let micros = match self.run(|c| c.is_alphanumeric() || c == '.') {
            "s" => 1_000_000,
            "ms" => 1_000,
            "us" => 1,
            _ => {
                self.at = unit_at;
                return Err(self.expected(&format!("the unit of {digits}, s, ms or us,")));
            }
        };
        let time = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(micros)).map(Duration::from_micros);
        time.filter(|time| *time <= LONGEST_DELAY)
            .ok_or_else(|| (at, format!("a delay is at most {} s", LONGEST_DELAY.as_secs())))
    }
}

/// A mask whose first so many bits are ones.
fn ones(bits: u8, v6: bool) -> IpAddr {
    match v6 {
        true => Ipv6Addr::from_bits(u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)).into(),
        false => Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)).into(),
    }
}

/// An entry in the original's words: read again it is the same.
pub fn write_access(entry: &Access) -> String {
    let verdict = match entry.verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    };
    let mut text = format!("{verdict} {}", entry.from.host);
    // Writing to a String does not fail.
    let _ = match entry.from.mask {
        Some(mask) => write!(text, "/{mask}"),
        None => Ok(()),
    };
    let _ = match entry.ports {
        (0, u16::MAX) => Ok(()),
        (first, last) if first == last => write!(text, " port {first}"),
        (first, u16::MAX) => write!(text, " from {first} -"),
        (0, last) => write!(text, " from - {last}"),
        (first, last) => write!(text, " from {first} - {last}"),
    };
    text
}

/// A redirect in the original's words, as far as it has some for it; of several servers the first.
pub fn write_redirect(redirect: &Redirect) -> String {
    let mut text = redirect.on.as_ref().map_or_else(String::new, |on| format!("on {on} "));
    let from = &redirect.from;
    let _ = write!(text, "redirect {} port {}", from.host, from.port);
    if let Some(target) = redirect.to.first() {
        let _ = write!(text, " to {} {}", target.place.host, target.place.port);
    }
    for entry in &redirect.access {
        let _ = write!(text, " {}", write_access(entry));
    }
    let (up, down) = (redirect.carriage.up.delay, redirect.carriage.down.delay);
    if !up.is_zero() || !down.is_zero() {
        let _ = write!(text, " delay {}us+{}us", up.as_micros(), down.as_micros());
    }
    text
}

#[cfg(test)]
mod tests;
