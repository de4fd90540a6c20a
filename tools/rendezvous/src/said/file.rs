//! The configuration.
//!
//! ```toml
//! listen = ["0.0.0.0:3360", "[::]:3360"]
//! metrics = "127.0.0.1:9108"
//! hide-local = true
//!
//! [limits]
//! members = 1000
//!
//! [relay]                          # off without
//! rate = "250kB"                   # a second, each way of each pair
//!
//! [[session]]
//! name = "lobby"
//! key-file = "lobby.key"           # beside this file
//! ```

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use service::Fault;
use service::values::{Limit, Time, Word};
use toml::Spanned;

use crate::cli;
use crate::machine::{Limits, RelayRules};

/// Most sessions.
const MOST: usize = 100_000;
/// Longest name of a session, bytes.
const LONGEST: usize = 255;
/// A member may be told to be heard again so often, and so seldom.
const REFRESH: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// Of the process.
    pub options: Options,
    /// How much of all.
    pub limits: Limits,
    /// What is relayed.
    pub relay: Option<RelayRules>,
    /// The sessions.
    pub sessions: Vec<SessionFile>,
}

/// What holds for the process. What is empty here may be said on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Where members speak to.
    pub listen: Vec<SocketAddr>,
    /// Where metrics are served over HTTP.
    pub metrics: Option<SocketAddr>,
    /// How long what is under way may go on after SIGTERM.
    pub drain: Option<Duration>,
    /// Local addresses are said only to members behind the same public address.
    pub hide_local: bool,
    /// Under which addresses members reach this server.
    pub advertise: Vec<IpAddr>,
    /// The port that NATs are probed from; the one after the first without.
    pub nat_port: Option<u16>,
    /// The relay's port; the second after the first without.
    pub relay_port: Option<u16>,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFile {
    /// Its name.
    pub name: String,
    /// Where its key is.
    pub key_file: PathBuf,
    /// Most members.
    pub members: Option<u32>,
    /// Whether its members may use the relay.
    pub relay: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Table {
    listen: Vec<Word<Listen>>,
    metrics: Option<SocketAddr>,
    drain: Option<Time>,
    hide_local: bool,
    advertise: Vec<IpAddr>,
    nat_port: Option<NonZeroU16>,
    limits: Option<Spanned<LimitKeys>>,
    relay: Option<RelayKeys>,
    #[serde(rename = "session")]
    sessions: Vec<Spanned<SessionKeys>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct LimitKeys {
    members: Option<NonZeroU32>,
    members_per_address: Option<NonZeroU32>,
    names: Option<NonZeroU32>,
    rate: Option<NonZeroU32>,
    introductions: Option<NonZeroU32>,
    attempts: Option<NonZeroU32>,
    refresh: Option<Time>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct RelayKeys {
    port: Option<NonZeroU16>,
    pairs: Option<Limit>,
    pairs_per_session: Option<Limit>,
    rate: Option<Word<Bytes>>,
    total: Option<Word<Bytes>>,
    session_rate: Option<Word<Bytes>>,
    idle: Option<Time>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SessionKeys {
    name: Spanned<String>,
    key_file: PathBuf,
    members: Option<NonZeroU32>,
    relay: Option<bool>,
}

#[derive(Clone, Copy, Debug)]
struct Listen(SocketAddr);

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        cli::listen(text).map(Self)
    }
}

/// `"250kB"`, `"1 GB"`, or `"none"`: no limit, 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bytes(u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(0));
        }
        let wrong = || format!("{text:?} is no number of bytes; write one such as \"250kB\", \"1GB\" or \"none\"");
        let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(unit_at);
        let unit: u64 = match unit {
            "B" => 1,
            "kB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            _ => return Err(wrong()),
        };
        let number: u64 = number.trim().parse().map_err(|_| wrong())?;
        number.checked_mul(unit).filter(|bytes| *bytes > 0).map(Self).ok_or_else(wrong)
    }
}

impl File {
    /// Reads a file's text; paths in it begin in the file's folder.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(name: &Path, text: &str) -> Result<Self, Fault> {
        let table: Table = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            Fault::at(text, at, error.message().lines().collect::<Vec<_>>().join(" "))
        })?;
        let folder = name.parent().unwrap_or(Path::new("."));
        let options = Options {
            listen: table.listen.into_iter().map(|listen| listen.0.0).collect(),
            metrics: table.metrics,
            drain: table.drain.map(|time| time.0),
            hide_local: table.hide_local,
            advertise: table.advertise,
            nat_port: table.nat_port.map(NonZeroU16::get),
            relay_port: table.relay.as_ref().and_then(|relay| relay.port).map(NonZeroU16::get),
        };
        let limits = match table.limits {
            Some(keys) => limits(keys.as_ref()).map_err(|what| Fault::at(text, keys.span().start, what))?,
            None => Limits::default(),
        };
        let sessions = sessions(text, folder, table.sessions)?;
        Ok(Self { options, limits, relay: table.relay.map(|keys| relay(&keys)), sessions })
    }
}

fn limits(keys: &LimitKeys) -> Result<Limits, String> {
    let usual = Limits::default();
    let or = |said: Option<NonZeroU32>, usual: u32| said.map_or(usual, NonZeroU32::get);
    let refresh = keys.refresh.map_or(usual.refresh, |time| time.0);
    if !REFRESH.contains(&refresh) {
        return Err(format!("refresh is {refresh:?} and may be {:?} to {:?}", REFRESH.start(), REFRESH.end()));
    }
    Ok(Limits {
        members: or(keys.members, usual.members),
        members_per_address: or(keys.members_per_address, usual.members_per_address),
        names: or(keys.names, usual.names),
        rate: or(keys.rate, usual.rate),
        introductions: or(keys.introductions, usual.introductions),
        attempts: or(keys.attempts, usual.attempts),
        refresh,
    })
}

fn relay(keys: &RelayKeys) -> RelayRules {
    let usual = RelayRules::default();
    let count = |said: Option<Limit>, usual: u32| said.map_or(usual, |limit| limit.0.map_or(0, NonZeroU32::get));
    let bytes = |said: Option<Word<Bytes>>, usual: u64| said.map_or(usual, |bytes| bytes.0.0);
    RelayRules {
        pairs: count(keys.pairs, usual.pairs),
        pairs_per_session: count(keys.pairs_per_session, usual.pairs_per_session),
        rate: bytes(keys.rate, usual.rate),
        total: bytes(keys.total, usual.total),
        session_rate: bytes(keys.session_rate, usual.session_rate),
        idle: keys.idle.map_or(usual.idle, |time| time.0),
    }
}

fn sessions(text: &str, folder: &Path, all: Vec<Spanned<SessionKeys>>) -> Result<Vec<SessionFile>, Fault> {
    if all.is_empty() {
        return Err(Fault::at(text, 0, "there is no session; write [[session]] with name and key-file"));
    }
    if let Some(session) = all.get(MOST) {
        return Err(Fault::at(text, session.span().start, format!("there may be {MOST} sessions")));
    }
    let mut names = HashSet::new();
    let mut sessions = Vec::with_capacity(all.len());
    for keys in all {
        let SessionKeys { name, key_file, members, relay } = keys.into_inner();
        let at = name.span().start;
        let name = name.into_inner();
        check_name(&name).map_err(|what| Fault::at(text, at, what))?;
        if !names.insert(name.clone()) {
            return Err(Fault::at(text, at, format!("the session {name} is there twice; rename one")));
        }
        let members = members.map(NonZeroU32::get);
        sessions.push(SessionFile { name, key_file: folder.join(key_file), members, relay: relay.unwrap_or(true) });
    }
    Ok(sessions)
}

/// What a session may be called.
///
/// # Errors
/// What is wrong with it, in one sentence.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > LONGEST || name.chars().any(char::is_control) {
        return Err(format!("{name:?} is no name of a session; it has 1 to {LONGEST} bytes and no control characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<File, String> {
        File::parse(Path::new("/etc/flowring/rendezvous.toml"), text).map_err(|fault| fault.to_string())
    }

    #[test]
    fn all_that_can_be_said_is_read() {
        let file = parse(
            "listen = [\"0.0.0.0\", \"[::]:5\"]\nmetrics = \"127.0.0.1:9108\"\ndrain = \"10s\"\nhide-local = true\n\
             advertise = [\"203.0.113.5\"]\nnat-port = 7\n\n[limits]\nmembers = 2\nmembers-per-address = 3\nnames = 4\n\
             rate = 5\nintroductions = 6\nattempts = 7\nrefresh = \"15s\"\n\n[relay]\nport = 8\npairs = 9\n\
             pairs-per-session = \"none\"\nrate = \"250kB\"\ntotal = \"none\"\nsession-rate = \"1 GB\"\nidle = 30\n\n\
             [[session]]\nname = \"lobby\"\nkey-file = \"lobby.key\"\nmembers = 20\n\n\
             [[session]]\nname = \"two words\"\nkey-file = \"/k\"\nrelay = false\n",
        )
        .unwrap();
        assert_eq!(file.options.listen, ["0.0.0.0:3360", "[::]:5"].map(|text| text.parse().unwrap()));
        assert_eq!((file.options.nat_port, file.options.relay_port, file.options.hide_local), (Some(7), Some(8), true));
        let limits = Limits {
            members: 2,
            members_per_address: 3,
            names: 4,
            rate: 5,
            introductions: 6,
            attempts: 7,
            refresh: Duration::from_secs(15),
        };
        assert_eq!(file.limits, limits);
        let relay = RelayRules {
            pairs: 9,
            pairs_per_session: 0,
            rate: 250_000,
            total: 0,
            session_rate: 1_000_000_000,
            idle: Duration::from_secs(30),
        };
        assert_eq!(file.relay, Some(relay));
        let [lobby, two] = &file.sessions[..] else { panic!("{:?}", file.sessions) };
        assert_eq!((&*lobby.name, lobby.members, lobby.relay), ("lobby", Some(20), true));
        assert_eq!(lobby.key_file, Path::new("/etc/flowring/lobby.key"));
        assert_eq!((&*two.name, two.relay, &two.key_file), ("two words", false, &PathBuf::from("/k")));
    }

    #[test]
    fn what_is_wrong_has_a_place() {
        let session = "[[session]]\nname = \"a\"\nkey-file = \"b\"\n";
        for (text, want) in [
            (String::new(), "1:1: there is no session"),
            (format!("{session}{session}"), "5:8: the session a is there twice"),
            ("[[session]]\nname = \"\"\nkey-file = \"b\"\n".to_owned(), "2:8: \"\" is no name of a session"),
            (format!("listen = [\"x\"]\n{session}"), "1:10: 'x' is no address to listen at"),
            (format!("[limits]\nrefresh = \"1h\"\n{session}"), "refresh is 3600s and may be 1s to 600s"),
            (format!("[limits]\nmembers = 0\n{session}"), "2:11: "),
            (format!("[relay]\nrate = \"fast\"\n{session}"), "2:8: \"fast\" is no number of bytes"),
            (format!("[relay]\nrate = \"0kB\"\n{session}"), "is no number of bytes"),
            (format!("key = \"secret\"\n{session}"), "1:1: unknown field"),
        ] {
            let fault = parse(&text).unwrap_err();
            assert!(fault.contains(want), "{text:?} is told as {fault}");
        }
    }
}
