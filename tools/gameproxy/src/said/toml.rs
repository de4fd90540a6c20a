//! The same as TOML, with what the original has no words for.
//!
//! ```toml
//! access = ["allow 192.168.1.0/24", "deny *"]
//!
//! [defaults]                       # of all redirects
//! prune-after = "10s"
//!
//! [[redirect]]
//! from = "192.168.1.1:27910"
//! to = ["q2a.example.org:27910", "q2b.example.org:27910"]
//! balance = "least-players"
//! delay = "30ms+20ms"
//! ```

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use service::Fault;
use service::values::{Limit, Time, Word};
use toml::Spanned;

use super::file::Options;
use super::grammar::{self, Wrong};
use super::rule::{
    Access, Balance, Carriage, Full, Health, Limits, Place, Prune, Query, Redirect, Rules, Silence, Target, TokenAt,
    Way,
};
use super::values::{Delay, Fair, Loss, Pair, Room, Token};

/// Most servers of one redirect.
const MOST_TARGETS: usize = 64;

#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Table {
    options: Whole,
    access: Vec<Spanned<String>>,
    limits: LimitKeys,
    defaults: Option<Spanned<Keys>>,
    #[serde(rename = "redirect")]
    redirects: Vec<Spanned<Keys>>,
}

#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Whole {
    metrics: Option<SocketAddr>,
    drain: Option<Time>,
    resolve: Option<Time>,
}

#[derive(serde::Deserialize, Clone, Copy, Default)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct LimitKeys {
    players: Option<Limit>,
    per_address: Option<Limit>,
    per_client: Option<Limit>,
    rate: Option<Limit>,
}

/// The keys of a redirect, and of the defaults: there those that name places have no place.
#[derive(serde::Deserialize, Clone, Default)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Keys {
    name: Option<String>,
    on: Option<Spanned<String>>,
    from: Option<Spanned<String>>,
    to: Option<Spanned<Servers>>,
    access: Option<Vec<Spanned<String>>>,
    delay: Option<Word<Pair<Delay>>>,
    jitter: Option<Word<Pair<Delay>>>,
    loss: Option<Word<Pair<Loss>>>,
    queue: Option<Room>,
    when_full: Option<Word<Full>>,
    prune_after: Option<Time>,
    prune_of: Option<Word<Silence>>,
    own_source: Option<bool>,
    proxy_header: Option<bool>,
    balance: Option<Word<Balance>>,
    health: Option<HealthKeys>,
    token: Option<Word<TokenAt>>,
    fair_ping: Option<Fair>,
    limits: LimitKeys,
}

#[derive(serde::Deserialize, Clone, Copy)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct HealthKeys {
    query: Word<Query>,
    every: Option<Time>,
    fails: Option<NonZeroU32>,
}

/// Places are not known in what is one of several kinds: a fault is at the whole.
#[derive(serde::Deserialize, Clone)]
#[serde(untagged, expecting = "a server such as \"HOST:PORT\", or a list of servers and of { address, tokens }")]
enum Servers {
    One(String),
    Several(Vec<Server>),
}

#[derive(serde::Deserialize, Clone)]
#[serde(untagged, expecting = "a server such as \"HOST:PORT\", or { address, tokens } of one")]
enum Server {
    Plain(String),
    Tokens(WithTokens),
}

#[derive(serde::Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct WithTokens {
    address: String,
    #[serde(default)]
    tokens: Vec<Word<Token>>,
}

/// Reads a text: what holds for the process, the rules, and the byte where each redirect begins.
pub(super) fn parse(text: &str) -> Result<(Options, Rules, Vec<usize>), Fault> {
    let fault = |(at, what): Wrong| Fault::at(text, at, what);
    let table: Table = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        Fault::at(text, at, error.message().trim().replace('\n', ", "))
    })?;
    let mut rules = Rules {
        access: entries(&table.access).map_err(fault)?,
        limits: table.limits.over(Limits::default()),
        ..Rules::default()
    };
    // Its places are never looked at.
    let nowhere = Place { host: grammar::ANY, port: 0 };
    let mut defaults = Redirect::new(nowhere.clone(), nowhere);
    if let Some(keys) = table.defaults {
        let at = keys.span().start;
        let keys = keys.into_inner();
        if keys.name.is_some() || keys.on.is_some() || keys.from.is_some() || keys.to.is_some() {
            let what = "[defaults] is of all redirects and has no places or name of its own; write [[redirect]]";
            return Err(Fault::at(text, at, what));
        }
        keys.options(&mut defaults).map_err(fault)?;
    }
    let mut places = Vec::new();
    for keys in table.redirects {
        let at = keys.span().start;
        rules.redirects.push(keys.into_inner().redirect(&defaults, at).map_err(fault)?);
        places.push(at);
    }
    let Whole { metrics, drain, resolve } = table.options;
    let otherwise = Options::default();
    let options =
        Options { metrics, drain: drain.map(|time| time.0), resolve: resolve.map_or(otherwise.resolve, |time| time.0) };
    Ok((options, rules, places))
}

/// What is wrong inside a string that was written in quotes.
fn inside(text: &Spanned<String>, (at, what): Wrong) -> Wrong {
    // Escapes move what follows them: then it is the string itself.
    let plain = text.span().len() == text.get_ref().len() + 2;
    (text.span().start + if plain { at + 1 } else { 0 }, what)
}

fn entries(texts: &[Spanned<String>]) -> Result<Vec<Access>, Wrong> {
    texts.iter().map(|text| grammar::access(text.get_ref()).map_err(|wrong| inside(text, wrong))).collect()
}

/// A place as it is written in TOML and on the command line; where `any` address will do a port alone is one.
///
/// # Errors
/// What is wrong with it, in one sentence.
pub(super) fn place(text: &str, any: bool) -> Result<Place, String> {
    let word = text.trim();
    let (host, port) = match word.rsplit_once(':') {
        None if any && word.parse::<u16>().is_ok() => ("*", word),
        None => return Err(format!("'{word}' has no port; write {word}:27910")),
        Some((host, _)) if host.contains(':') && !host.starts_with('[') => {
            return Err(format!("an IPv6 address needs brackets; write [{host}]:PORT"));
        }
        Some(parts) => parts,
    };
    let host = grammar::host(host)?;
    if !any {
        grammar::one_host(&host)?;
    }
    let port = port.parse::<u16>().ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| format!("'{word}' has no good port; it is a number from 1 to 65535"))?;
    Ok(Place { host, port })
}

impl Keys {
    fn redirect(self, defaults: &Redirect, at: usize) -> Result<Redirect, Wrong> {
        let Some(from) = &self.from else {
            return Err((
                at,
                "this redirect does not say where players send to; add from = \"ADDRESS:PORT\"".to_owned(),
            ));
        };
        let from = place(from.get_ref(), true).map_err(|what| (from.span().start, what))?;
        let to = match &self.to {
            Some(to) => to.get_ref().targets().map_err(|what| (to.span().start, what))?,
            None => Vec::new(),
        };
        if to.is_empty() || to.len() > MOST_TARGETS {
            return Err((
                at,
                format!(
                    "the redirect of {from} has {} servers; give it 1 to {MOST_TARGETS} with to = \"HOST:PORT\"",
                    to.len()
                ),
            ));
        }
        let on = self.on.as_ref().map(|on| grammar::host(on.get_ref()).map_err(|what| (on.span().start, what)));
        let on = on.transpose()?;
        let name = self.name.clone().unwrap_or_else(|| match &on {
            Some(on) => format!("{on} {from}"),
            None => from.to_string(),
        });
        if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
            return Err((at, format!("the redirect of {from} has no good name; take 1 to 128 printable characters")));
        }
        let mut redirect = Redirect { name, on, from, to, ..defaults.clone() };
        self.options(&mut redirect)?;
        check(&redirect).map_err(|what| (at, what))?;
        Ok(redirect)
    }

    /// Puts in what is written here.
    fn options(self, to: &mut Redirect) -> Result<(), Wrong> {
        if let Some(access) = &self.access {
            to.access = entries(access)?;
        }
        let Carriage { up, down, prune, own_source, proxy_header } = to.carriage;
        let way = |way: Way, back: bool| {
            let of = |pair: Option<Word<Pair<Delay>>>, otherwise| {
                pair.map_or(otherwise, |Word(Pair(up, down))| if back { down.0 } else { up.0 })
            };
            Way {
                delay: of(self.delay, way.delay),
                jitter: of(self.jitter, way.jitter),
                loss: self.loss.map_or(way.loss, |Word(Pair(up, down))| if back { down.0 } else { up.0 }),
                queue: self.queue.map(|room| room.0).or(way.queue),
                full: self.when_full.map_or(way.full, |word| word.0),
            }
        };
        to.carriage = Carriage {
            up: way(up, false),
            down: way(down, true),
            prune: Prune {
                after: self.prune_after.map_or(prune.after, |time| time.0),
                of: self.prune_of.map_or(prune.of, |word| word.0),
            },
            own_source: self.own_source.unwrap_or(own_source),
            proxy_header: self.proxy_header.unwrap_or(proxy_header),
        };
        to.balance = self.balance.map_or(to.balance, |word| word.0);
        to.health = self.health.map(HealthKeys::health).or(to.health);
        to.token = self.token.map(|word| word.0).or(to.token);
        to.fair_ping = self.fair_ping.map_or(to.fair_ping, |fair| fair.0);
        to.limits = self.limits.over(to.limits);
        Ok(())
    }
}

/// What does not go together.
fn check(redirect: &Redirect) -> Result<(), String> {
    let name = &redirect.name;
    let with = redirect.to.iter().find(|target| !target.tokens.is_empty());
    let Some(at) = redirect.token else {
        return match with {
            None => Ok(()),
            Some(target) => Err(format!(
                "the server {} has tokens, and the redirect {name} does not say where in a datagram they are; add token = \"front N\"",
                target.place
            )),
        };
    };
    let (TokenAt::Front(length) | TokenAt::Back(length)) = at;
    let mut all = redirect.to.iter().flat_map(|target| &target.tokens);
    if let Some(odd) = all.find(|token| token.len() != usize::from(length)) {
        return Err(format!("the redirect {name} has tokens of {length} bytes, and one has {}", odd.len()));
    }
    match with {
        Some(_) => Ok(()),
        None => Err(format!("the redirect {name} has a token and no server has one of its own; add tokens = [\"…\"]")),
    }
}

impl Servers {
    fn targets(&self) -> Result<Vec<Target>, String> {
        let plain = |address: &str| place(address, false).map(|place| Target { place, tokens: Vec::new() });
        let target = |server: &Server| match server {
            Server::Plain(address) => plain(address),
            Server::Tokens(with) => {
                let tokens = with.tokens.iter().map(|token| token.0.0.clone()).collect();
                plain(&with.address).map(|target| Target { tokens, ..target })
            }
        };
        match self {
            Self::One(one) => Ok(vec![plain(one)?]),
            Self::Several(several) => several.iter().map(target).collect(),
        }
    }
}

impl HealthKeys {
    fn health(self) -> Health {
        Health {
            query: self.query.0,
            every: self.every.map_or(Duration::from_secs(5), |time| time.0),
            fails: self.fails.unwrap_or(const { NonZeroU32::new(3).unwrap() }),
        }
    }
}

impl LimitKeys {
    fn over(self, otherwise: Limits) -> Limits {
        let or = |said: Option<Limit>, otherwise| said.map_or(otherwise, |limit| limit.0);
        Limits {
            players: or(self.players, otherwise.players),
            per_address: or(self.per_address, otherwise.per_address),
            per_client: or(self.per_client, otherwise.per_client),
            rate: or(self.rate, otherwise.rate),
        }
    }
}

#[cfg(test)]
mod tests;
