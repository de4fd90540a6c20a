//! The configuration file: many proxies and relays.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::rule::{How, Proxy, Relay, Rule};
use super::tracks::{TRACKS, Tracks};

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadConfig {
    /// From 1 on.
    pub line: usize,
    /// From 1 on.
    pub column: usize,
    /// What.
    pub what: String,
}

impl fmt::Display for BadConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.what)
    }
}

impl std::error::Error for BadConfig {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    proxy: Vec<Spanned<RawProxy>>,
    #[serde(default)]
    relay: Vec<Spanned<RawRelay>>,
}

type Text = Spanned<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawProxy {
    listen: Text,
    to: Vec<Text>,
    tracks: Option<Tracks>,
    schedule: Option<Text>,
    window: Option<Text>,
    chunk: Option<u32>,
    framing: Option<Text>,
    end: Option<Text>,
    congestion: Option<String>,
    patience: Option<Spanned<f64>>,
    dial_timeout: Option<Spanned<f64>>,
    max_clients: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawRelay {
    accept: Vec<Text>,
    to: Text,
    schedule: Option<Text>,
    window: Option<Text>,
    chunk: Option<u32>,
    framing: Option<Text>,
    end: Option<Text>,
    congestion: Option<String>,
    patience: Option<Spanned<f64>>,
    dial_timeout: Option<Spanned<f64>>,
    max_clients: Option<usize>,
}

/// Reads a file: at least one rule, all of them sound.
pub fn parse(text: &str) -> Result<Vec<Rule>, BadConfig> {
    let read = Reading { text };
    let file: File = toml::from_str(text)
        .map_err(|error| read.bad(error.span().map_or(0, |span| span.start), error.message().replace('\n', ", ")))?;
    let mut rules = Vec::new();
    for raw in file.proxy {
        let at = raw.span().start;
        rules.push(read.sound(at, read.proxy(raw.into_inner())?)?);
    }
    for raw in file.relay {
        let at = raw.span().start;
        rules.push(read.sound(at, read.relay(raw.into_inner())?)?);
    }
    if rules.is_empty() {
        return Err(read.bad(0, "there is no rule; write [[proxy]] or [[relay]]".to_owned()));
    }
    Ok(rules)
}

struct Reading<'a> {
    text: &'a str,
}

impl Reading<'_> {
    fn bad(&self, at: usize, what: String) -> BadConfig {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        BadConfig { line, column, what }
    }

    fn sound(&self, at: usize, rule: Rule) -> Result<Rule, BadConfig> {
        rule.check().map_err(|what| self.bad(at, what))?;
        Ok(rule)
    }

    fn value<T: FromStr<Err: fmt::Display>>(&self, text: &Text) -> Result<T, BadConfig> {
        text.get_ref().parse().map_err(|error: T::Err| self.bad(text.span().start, error.to_string()))
    }

    fn or<T: FromStr<Err: fmt::Display>>(&self, text: Option<&Text>, default: T) -> Result<T, BadConfig> {
        text.map_or(Ok(default), |text| self.value(text))
    }

    fn seconds(&self, value: Option<Spanned<f64>>, default: Duration) -> Result<Duration, BadConfig> {
        let Some(value) = value else { return Ok(default) };
        seconds(*value.get_ref()).map_err(|what| self.bad(value.span().start, what))
    }

    fn window(&self, text: Option<&Text>, default: u32) -> Result<u32, BadConfig> {
        text.map_or(Ok(default), |text| size(text.get_ref()).map_err(|what| self.bad(text.span().start, what)))
    }

    fn proxy(&self, raw: RawProxy) -> Result<Rule, BadConfig> {
        let default = How::default();
        Ok(Rule::Proxy(Proxy {
            listen: self.value(&raw.listen)?,
            to: raw.to.iter().map(|via| self.value(via)).collect::<Result<_, _>>()?,
            tracks: raw.tracks.unwrap_or(Tracks::Fixed(TRACKS)),
            how: How {
                policy: self.or(raw.schedule.as_ref(), default.policy)?,
                window: self.window(raw.window.as_ref(), default.window)?,
                chunk: raw.chunk,
                framing: self.or(raw.framing.as_ref(), default.framing)?,
                end: self.or(raw.end.as_ref(), default.end)?,
                congestion: raw.congestion,
                patience: self.seconds(raw.patience, default.patience)?,
                dial_timeout: self.seconds(raw.dial_timeout, default.dial_timeout)?,
                max_clients: raw.max_clients.unwrap_or(default.max_clients),
            },
        }))
    }

    fn relay(&self, raw: RawRelay) -> Result<Rule, BadConfig> {
        let how = RawProxy {
            listen: Spanned::new(0..0, "0".to_owned()),
            to: Vec::new(),
            tracks: None,
            schedule: raw.schedule,
            window: raw.window,
            chunk: raw.chunk,
            framing: raw.framing,
            end: raw.end,
            congestion: raw.congestion,
            patience: raw.patience,
            dial_timeout: raw.dial_timeout,
            max_clients: raw.max_clients,
        };
        let Rule::Proxy(Proxy { how, .. }) = self.proxy(how)? else { unreachable!("a proxy was asked for") };
        let accept = raw.accept.iter().map(|via| self.value(via)).collect::<Result<_, _>>()?;
        Ok(Rule::Relay(Relay { accept, to: self.value(&raw.to)?, how }))
    }
}

/// A time in seconds, such as 0.5.
pub fn seconds(value: f64) -> Result<Duration, String> {
    if (0.001..=86_400.0).contains(&value) {
        return Ok(Duration::from_secs_f64(value));
    }
    Err(format!("{value} is no time; give seconds from 0.001 to 86400, such as 0.5"))
}

/// Bytes, such as 65536, 64K or 16M.
pub fn size(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text:?} is no number of bytes; write 65536, 64K or 16M");
    let (digits, shift) = match text.strip_suffix(['K', 'k']) {
        Some(digits) => (digits, 10),
        None => text.strip_suffix(['M', 'm']).map_or((text, 0), |digits| (digits, 20)),
    };
    let value: u32 = digits.parse().map_err(|_| wrong())?;
    value.checked_mul(1 << shift).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::said::classic::Framing;
    use crate::said::rule::Policy;

    #[test]
    fn a_file_is_read() {
        let rules = parse(
            r#"
[[proxy]]
listen = "127.0.0.1:9000"
to = ["flow:bulk,layer=wifi", "flow:bulk,layer=lte"]
tracks = "auto"
schedule = "lowest-rtt"
window = "8M"
patience = 5.5

[[relay]]
accept = ["tcp:0.0.0.0:9100"]
to = "127.0.0.1:5201"
framing = "u32"
"#,
        )
        .unwrap();
        let [Rule::Proxy(proxy), Rule::Relay(relay)] = &rules[..] else { panic!("{rules:?}") };
        assert_eq!((proxy.tracks, proxy.how.policy, proxy.how.window), (Tracks::Auto, Policy::LowestRtt, 8 << 20));
        assert_eq!(proxy.how.patience, Duration::from_millis(5500));
        assert_eq!((relay.how.framing, relay.accept.len()), (Framing::Long, 1));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let table = [
            ("", "line 1, column 1: there is no rule"),
            ("[[proxy]]\nlisten = 5", "line 2, column 10: "),
            (
                "[[proxy]]\nlisten = \"9000\"\nto = [\"bulk\"]",
                "line 3, column 7: \"bulk\" is nothing that tracks run over",
            ),
            ("[[proxy]]\nlisten = \"9000\"\nto = []", "line 1, column 1: no track runs over nothing"),
            ("[[proxy]]\nlisten = \"9000\"\nto = [\"flow:a\"]\nlanes = 4", "line 4, column 1: unknown field `lanes`"),
            (
                "[[relay]]\naccept = [\"flow:a\"]\nto = \"80\"\nwindow = \"huge\"",
                "line 4, column 10: \"huge\" is no number of bytes",
            ),
            ("[[relay]]\naccept = [\"flow:a\"]\nto = \"80\"\npatience = -1.0", "line 4, column 12: -1 is no time"),
        ];
        for (text, words) in table {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(words), "{text:?}: {error}");
        }
        assert!(size("4G").is_err() && size("5000M").is_err() && size("64K") == Ok(65_536));
    }
}
