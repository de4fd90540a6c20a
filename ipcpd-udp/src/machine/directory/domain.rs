//! Names of services as domain names: docs/directory.md, "Names".
//!
//! The rule is injective and can be turned back. It writes nothing but letters, digits and dashes, because name servers
//! refuse address records at anything else (BIND's `check-names`).

use std::fmt::{self, Write};

use proto::Name;

/// What every record of ours but addresses stands under, as RFC 2782 and RFC 8552 want it.
pub const SERVICE: &str = "_flowring._udp";
/// Longest domain name, in text without the last dot (RFC 1035 §2.3.4).
const LONGEST: usize = 253;
const LONGEST_LABEL: usize = 63;
/// Begins a label that says something else than it looks like. Not with its third and fourth letter a dash: tools that
/// know internationalised names (RFC 5891 §4.2.3.1) refuse those.
const ESCAPED: &str = "flx-";

/// A zone: lower case, without the last dot.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone(String);

/// Why a name has no place in a zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DomainError {
    /// One of its labels would be longer than DNS takes.
    #[error(
        "{name} cannot be written in DNS: between two dots, {label:?} takes more than 63 bytes; choose a shorter name"
    )]
    LongLabel {
        /// The name.
        name: Name,
        /// What lies between its dots.
        label: String,
    },
    /// With its zone it would be longer than DNS takes.
    #[error("{name} cannot be written in DNS: with {zone} it takes more than {most} bytes; choose a shorter name")]
    Long {
        /// The name.
        name: Name,
        /// The zone.
        zone: Zone,
        /// What there is room for.
        most: usize,
    },
}

impl Zone {
    /// Checks a zone as it is written in a configuration.
    pub fn new(text: &str) -> Result<Self, String> {
        let zone = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        let label = |label: &str| (1..=LONGEST_LABEL).contains(&label.len()) && label.bytes().all(plain);
        if zone.len() <= LONGEST / 2 && zone.split('.').all(label) {
            return Ok(Self(zone));
        }
        Err(format!("{text:?} is no DNS zone; write it as in flows.example.org"))
    }

    /// As text, without the last dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part of a name that stands before the zone, if the name ends in the zone.
    fn inside<'a>(&self, name: &'a str) -> Option<&'a str> {
        if name == self.0 {
            return Some("");
        }
        // ".zone" alone is a name of its own, not the zone.
        name.strip_suffix(&self.0).and_then(|rest| rest.strip_suffix('.')).filter(|rest| !rest.is_empty())
    }

    /// The domain name of a service.
    pub fn domain(&self, name: &Name) -> Result<String, DomainError> {
        let most = LONGEST - SERVICE.len() - 1;
        let rest = self.inside(name.as_str()).unwrap_or(name.as_str());
        let mut domain = String::new();
        // Dots that part nothing are escaped like any other character.
        let odd = !rest.is_empty() && rest.split('.').any(str::is_empty);
        let labels: Vec<&str> =
            if odd { vec![rest] } else { rest.split('.').filter(|label| !label.is_empty()).collect() };
        for label in labels {
            let escaped = escape(label);
            if escaped.len() > LONGEST_LABEL {
                return Err(DomainError::LongLabel { name: name.clone(), label: label.to_owned() });
            }
            domain.push_str(&escaped);
            domain.push('.');
        }
        domain.push_str(&self.0);
        if domain.len() > most {
            return Err(DomainError::Long { name: name.clone(), zone: self.clone(), most });
        }
        Ok(domain)
    }

    /// The names that have this domain name: the short one, and the one that ends in the zone. Which of them a record
    /// means, it says itself.
    pub fn names(&self, domain: &str) -> Option<(Option<Name>, Name)> {
        let rest = self.inside(domain)?;
        let labels: Option<Vec<String>> =
            if rest.is_empty() { Some(Vec::new()) } else { rest.split('.').map(unescape).collect() };
        let short = labels?.join(".");
        let long = if short.is_empty() { self.0.clone() } else { format!("{short}.{}", self.0) };
        let check = |text: &str| Name::new(text).ok().filter(|name| self.domain(name).as_deref() == Ok(domain));
        Some((check(&short), check(&long)?))
    }
}

fn escape(label: &str) -> String {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let host = label.bytes().all(|c| plain(c) || c == b'-') && !label.starts_with('-') && !label.ends_with('-');
    if host && !label.starts_with(ESCAPED) {
        return label.to_owned();
    }
    let mut escaped = ESCAPED.to_owned();
    for byte in label.bytes() {
        if plain(byte) {
            escaped.push(byte.into());
        } else {
            write!(escaped, "-{byte:02x}").expect("a String grows");
        }
    }
    escaped
}

fn unescape(label: &str) -> Option<String> {
    let Some(escaped) = label.strip_prefix(ESCAPED) else { return Some(label.to_owned()) };
    let mut bytes = Vec::new();
    let mut rest = escaped.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'-' {
            bytes.push(*first);
            continue;
        }
        let (code, after) = after.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok()?);
        rest = after;
    }
    let text = String::from_utf8(bytes).ok()?;
    (escape(&text) == label).then_some(text)
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn zone() -> Zone {
        Zone::new("Flows.Test.").unwrap()
    }

    fn domain(name: &str) -> Result<String, DomainError> {
        zone().domain(&Name::new(name).unwrap())
    }

    #[test]
    fn names_are_written_by_the_rule() {
        let table = [
            ("echo", "echo.flows.test"),
            ("echo.flows.test", "echo.flows.test"),
            ("game.q2", "game.q2.flows.test"),
            ("flows.test", "flows.test"),
            ("xflows.test", "xflows.test.flows.test"),
            (".flows.test", "flx--2eflows-2etest.flows.test"),
            ("a..flows.test", "flx-a-2e.flows.test"),
            ("my-echo", "my-echo.flows.test"),
            ("Echo", "flx--45cho.flows.test"),
            ("echo.Flows.test", "echo.flx--46lows.test.flows.test"),
            ("flöte", "flx-fl-c3-b6te.flows.test"),
            ("-x", "flx--2dx.flows.test"),
            ("x-", "flx-x-2d.flows.test"),
            ("a_b", "flx-a-5fb.flows.test"),
            ("*", "flx--2a.flows.test"),
            ("flx-a", "flx-flx-2da.flows.test"),
            ("xn--bcher-kva", "xn--bcher-kva.flows.test"),
            ("a..b", "flx-a-2e-2eb.flows.test"),
            (".", "flx--2e.flows.test"),
            ("_flowring._udp", "flx--5fflowring.flx--5fudp.flows.test"),
        ];
        for (name, want) in table {
            assert_eq!(domain(name).as_deref(), Ok(want), "{name}");
        }
    }

    #[test]
    fn what_dns_cannot_hold_is_said() {
        assert!(domain(&"a".repeat(63)).is_ok());
        let long = domain(&"a".repeat(64)).unwrap_err().to_string();
        assert!(long.contains("more than 63 bytes"), "{long}");
        assert!(domain(&"ö".repeat(10)).is_err());
        let many = vec!["abcdefghi"; 23].join(".");
        assert!(many.len() <= 229 && domain(&many).is_err());
        assert!(domain(&many[..many.len() - 4]).is_ok());
        for text in ["", ".", "a..b", "a b", "ö.test", &"a.".repeat(100)] {
            assert!(Zone::new(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_the_rule_does_not_write_is_no_name() {
        for domain in ["other.test", "flx-a.flows.test", "flx--4.flows.test", "flx--ff.flows.test", "flx-.flows.test"] {
            assert_eq!(zone().names(domain), None, "{domain}");
        }
    }

    proptest! {
        #[test]
        fn a_domain_name_says_which_name_it_is(text in r"[a-cA-C.\-_öf0l]{1,24}(\.flows\.test)?") {
            let name = Name::new(&text).unwrap();
            let Ok(domain) = zone().domain(&name) else { return Ok(()) };
            prop_assert!(domain.len() <= 238);
            let host = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
            for label in domain.split('.') {
                prop_assert!((1..=63).contains(&label.len()) && label.bytes().all(host), "{}", label);
                prop_assert!(!label.starts_with('-') && !label.ends_with('-'), "{}", label);
            }
            let (short, long) = zone().names(&domain).expect("it is one of ours");
            prop_assert_eq!(short.as_ref() == Some(&name), long != name, "{:?} {:?}", short, long);
        }
    }
}
