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
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use service::Fault;
use service::values::{Limit, MaybeTime, Prefix, Time, Word};
use toml::Spanned;

use super::end::End;
use super::file::{self, Written};
use super::rule::{Accept, Balance, Health, Options, ProxyVersion, Rule, TlsClient, TlsServer};

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
