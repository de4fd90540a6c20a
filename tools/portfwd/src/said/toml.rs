//! Rules with options, as TOML.
//!
//! ```toml
//! [options]
//! workers = 2
//!
//! [defaults]                       # of all rules
//! idle-timeout = "1h"
//!
//! [[rule]]
//! listen = "7005"
//! targets = ["192.168.0.1:8005", "192.168.0.2:8005"]
//! balance = "least-connections"
//! ```

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use toml::Spanned;

use super::end::End;
use super::file::{self, Fault, Written};
use super::rule::{Accept, Balance, Health, Options, ProxyVersion, Rule, TlsClient, TlsServer};

/// Longest time there is.
const MAX_TIME: Duration = Duration::from_secs(366 * 86_400);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
#[derive(Default)]
struct Table {
    options: Whole,
    defaults: Option<Spanned<Keys>>,
    #[serde(rename = "rule")]
    rules: Vec<Spanned<Keys>>,
}

#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Whole {
    workers: Option<NonZeroU16>,
    metrics: Option<SocketAddr>,
    drain: Option<Time>,
}

/// The keys of a rule, and of the defaults: there those that name ends have no place.
#[derive(serde::Deserialize, Clone, Default)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Keys {
    name: Option<String>,
    listen: Option<Spanned<String>>,
    target: Option<Spanned<String>>,
    targets: Vec<Spanned<String>>,
    accept: Option<Word<Accept>>,
    balance: Option<Word<Balance>>,
    allow: Option<Vec<Word<Prefix>>>,
    deny: Option<Vec<Word<Prefix>>>,
    max_connections: Option<Limit>,
    rate: Option<Limit>,
    connect_timeout: Option<Time>,
    idle_timeout: Option<MaybeTime>,
    keepalive: Option<MaybeTime>,
    backlog: Option<NonZeroU32>,
    proxy_in: Option<bool>,
    proxy_out: Option<Proxy>,
    health: Option<HealthKeys>,
    tls: Option<TlsServerKeys>,
    target_tls: Option<TlsClientKeys>,
    resolve: Option<Time>,
    layers: Option<Vec<String>>,
}

#[derive(serde::Deserialize, Clone, Default)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct HealthKeys {
    fails: Option<NonZeroU32>,
    retry: Option<Time>,
    check: Option<MaybeTime>,
}

#[derive(serde::Deserialize, Clone)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct TlsServerKeys {
    cert: PathBuf,
    key: PathBuf,
    #[serde(default)]
    client_ca: Option<PathBuf>,
}

#[derive(serde::Deserialize, Clone)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct TlsClientKeys {
    verify: bool,
    ca: Option<PathBuf>,
    sni: Option<String>,
}

impl Default for TlsClientKeys {
    fn default() -> Self {
        Self { verify: true, ca: None, sni: None }
    }
}

/// Reads a text: what holds for all, and the rules with the byte where each begins.
pub(super) fn parse(text: &str) -> Result<(file::Options, Vec<Written>), Fault> {
    let table: Table = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        Fault::at(text, at, error.message().trim().replace('\n', ", "))
    })?;
    let mut defaults = Options::default();
    if let Some(keys) = table.defaults {
        let at = keys.span().start;
        let keys = keys.into_inner();
        if keys.listen.is_some() || keys.target.is_some() || !keys.targets.is_empty() || keys.name.is_some() {
            return Err(Fault::at(
                text,
                at,
                "[defaults] is of all rules and has no ends or name of its own; write [[rule]]",
            ));
        }
        defaults = keys.options(defaults);
    }
    let rules = table.rules.into_iter().map(|keys| {
        let at = keys.span().start;
        let rule = keys.into_inner().rule(&defaults, at).map_err(|(at, what)| Fault::at(text, at, what))?;
        Ok(Written { rule, at })
    });
    let rules = rules.collect::<Result<Vec<_>, Fault>>()?;
    let Whole { workers, metrics, drain } = table.options;
    Ok((file::Options { workers, metrics, drain: drain.map(|time| time.0) }, rules))
}

impl Keys {
    fn rule(self, defaults: &Options, at: usize) -> Result<Rule, (usize, String)> {
        let end = |text: &Spanned<String>| {
            End::from_str(text.get_ref()).map_err(|error| (text.span().start, error.to_string()))
        };
        let Some(listen) = &self.listen else {
            return Err((at, "this rule does not say where it listens; add listen = \"PORT\"".to_owned()));
        };
        let listen = end(listen)?;
        let targets = self.target.iter().chain(&self.targets).map(end).collect::<Result<Vec<_>, _>>()?;
        if targets.is_empty() {
            return Err((at, format!("the rule of {listen} has no target; add target = \"HOST:PORT\"")));
        }
        let name = self.name.clone().unwrap_or_else(|| listen.to_string());
        if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
            return Err((at, format!("the rule of {listen} has no good name; take 1 to 128 printable characters")));
        }
        Ok(Rule { name, listen, targets, options: self.options(defaults.clone()) })
    }

    /// What is written here, and `otherwise` where nothing is.
    fn options(self, otherwise: Options) -> Options {
        let nets = |nets: Vec<Word<Prefix>>| nets.into_iter().map(|net| net.0.0).collect();
        let or = |said: Option<MaybeTime>, otherwise| said.map_or(otherwise, |time| time.0);
        let limit = |said: Option<Limit>, otherwise| said.map_or(otherwise, |limit| limit.0);
        let health = self.health.unwrap_or_default();
        let before = otherwise.health;
        Options {
            accept: self.accept.map_or(otherwise.accept, |word| word.0),
            balance: self.balance.map_or(otherwise.balance, |word| word.0),
            allow: self.allow.map_or(otherwise.allow, nets),
            deny: self.deny.map_or(otherwise.deny, nets),
            max_connections: limit(self.max_connections, otherwise.max_connections),
            rate: limit(self.rate, otherwise.rate),
            connect_timeout: self.connect_timeout.map_or(otherwise.connect_timeout, |time| time.0),
            idle_timeout: or(self.idle_timeout, otherwise.idle_timeout),
            keepalive: or(self.keepalive, otherwise.keepalive),
            backlog: self.backlog.unwrap_or(otherwise.backlog),
            proxy_in: self.proxy_in.unwrap_or(otherwise.proxy_in),
            proxy_out: self.proxy_out.map_or(otherwise.proxy_out, |proxy| proxy.0),
            health: Health {
                fails: health.fails.unwrap_or(before.fails),
                retry: health.retry.map_or(before.retry, |time| time.0),
                check: or(health.check, before.check),
            },
            tls_in: self
                .tls
                .map(|tls| TlsServer { cert: tls.cert, key: tls.key, client_ca: tls.client_ca })
                .or(otherwise.tls_in),
            tls_out: self
                .target_tls
                .map(|tls| TlsClient { verify: tls.verify, ca: tls.ca, sni: tls.sni })
                .or(otherwise.tls_out),
            resolve: self.resolve.map_or(otherwise.resolve, |time| time.0),
            layers: self.layers.unwrap_or(otherwise.layers),
        }
    }
}

/// A value that is written as a word.
#[derive(Clone, Copy)]
struct Word<T>(T);

impl<'de, T: FromStr<Err = String>> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map(Self).map_err(de::Error::custom)
    }
}

impl FromStr for Accept {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "always" => Ok(Self::Always),
            "after-target" => Ok(Self::AfterTarget),
            _ => Err(format!("accept is \"always\" or \"after-target\", not {text:?}")),
        }
    }
}

impl FromStr for Balance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "round-robin" => Ok(Self::RoundRobin),
            "least-connections" => Ok(Self::LeastConnections),
            "source-hash" => Ok(Self::SourceHash),
            _ => Err(format!("balance is \"round-robin\", \"least-connections\" or \"source-hash\", not {text:?}")),
        }
    }
}

/// `10.0.0.0/8`, or a single address.
#[derive(Clone, Copy)]
struct Prefix(IpNet);

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let net = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        net.map(Self).ok_or_else(|| format!("{text:?} is no prefix of addresses; write 10.0.0.0/8 or fd00::1"))
    }
}

/// `"5s"`, or a number of seconds. More than nothing.
#[derive(Clone, Copy)]
struct Time(Duration);

/// The same, or `"never"`.
#[derive(Clone, Copy)]
struct MaybeTime(Option<Duration>);

/// A time as it is written: a number and its unit, `250ms`, `5s`, `10m`, `1.5h`, `1d`.
pub fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time; write a number and ms, s, m, h or d, such as \"5s\"");
    let text_trimmed = text.trim();
    let unit_at = text_trimmed.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let (number, unit) = text_trimmed.split_at(unit_at);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.trim_end().parse().map_err(|_| wrong())?;
    within(number * seconds).ok_or_else(|| format!("{text:?} is too short or too long; a time is 1 ms to 366 days"))
}

fn within(seconds: f64) -> Option<Duration> {
    // Comparisons with what is no number fail.
    (0.001..=MAX_TIME.as_secs_f64()).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

struct TimeVisitor;

impl Visitor<'_> for TimeVisitor {
    type Value = Option<Duration>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time such as \"5s\", or a number of seconds")
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Self::Value, E> {
        u64::try_from(seconds)
            .ok()
            .map(Duration::from_secs)
            .filter(|time| !time.is_zero() && *time <= MAX_TIME)
            .map(Some)
            .ok_or_else(|| E::custom(format!("{seconds} seconds are too few or too many; a time is 1 ms to 366 days")))
    }

    fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Self::Value, E> {
        let wrong = || E::custom(format!("{seconds} seconds are too few or too many; a time is 1 ms to 366 days"));
        within(seconds).map(Some).ok_or_else(wrong)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        if text == "never" { Ok(None) } else { time(text).map(Some).map_err(E::custom) }
    }
}

impl<'de> Deserialize<'de> for MaybeTime {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TimeVisitor).map(Self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let time = from.deserialize_any(TimeVisitor)?;
        time.map(Self).ok_or_else(|| de::Error::custom("\"never\" has no place here; write a time such as \"5s\""))
    }
}

/// A number of 1 or more, or `"none"`.
#[derive(Clone, Copy)]
struct Limit(Option<NonZeroU32>);

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct LimitVisitor;
        impl Visitor<'_> for LimitVisitor {
            type Value = Limit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of 1 or more, or \"none\"")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Limit, E> {
                let limit = u32::try_from(number).ok().and_then(NonZeroU32::new).map(|number| Limit(Some(number)));
                limit.ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Limit, E> {
                let none = (text == "none").then_some(Limit(None));
                none.ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        from.deserialize_any(LimitVisitor)
    }
}

/// 1 or 2, or `"none"`.
#[derive(Clone, Copy)]
struct Proxy(Option<ProxyVersion>);

impl<'de> Deserialize<'de> for Proxy {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct ProxyVisitor;
        impl Visitor<'_> for ProxyVisitor {
            type Value = Proxy;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("version 1 or 2 of the PROXY protocol, or \"none\"")
            }

            fn visit_i64<E: de::Error>(self, version: i64) -> Result<Proxy, E> {
                match version {
                    1 => Ok(Proxy(Some(ProxyVersion::V1))),
                    2 => Ok(Proxy(Some(ProxyVersion::V2))),
                    _ => Err(E::invalid_value(de::Unexpected::Signed(version), &self)),
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Proxy, E> {
                match text {
                    "v1" => Ok(Proxy(Some(ProxyVersion::V1))),
                    "v2" => Ok(Proxy(Some(ProxyVersion::V2))),
                    "none" => Ok(Proxy(None)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        from.deserialize_any(ProxyVisitor)
    }
}
