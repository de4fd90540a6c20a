//! What a ruleset of nftables does to a datagram: rules are followed as the kernel would, and where one asks for what
//! is not known here (who sends, say), it holds perhaps.

use std::net::IpAddr;

use serde_json::Value;

/// Chains that call chains, at most so deep: the kernel's own bound.
const DEPTH: usize = 16;

/// Rules looked at, at most: chains that are called again and again would take for ever.
const RULES: usize = 100_000;

/// A UDP datagram that begins something, as far as it is known.
#[derive(Clone, Debug)]
pub(super) struct Datagram<'a> {
    /// Going out; else coming in from another host.
    pub(super) out: bool,
    /// This host's address in it.
    pub(super) own: IpAddr,
    /// The port it goes to.
    pub(super) port: u16,
    /// The interface it passes; empty: not known.
    pub(super) device: &'a str,
}

/// Where a ruleset drops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// `inet`, `ip`, `ip6`.
    pub(super) family: String,
    /// The table.
    pub(super) table: String,
    /// The chain.
    pub(super) chain: String,
    /// The rule, in words.
    pub(super) rule: String,
}

/// What becomes of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It passes.
    Passes,
    /// It is dropped or rejected.
    Dropped(Place),
    /// It may be: the rules ask for more than is known.
    Perhaps(Place),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Yes,
    No,
    Perhaps,
}

impl Holds {
    fn from_bool(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Perhaps => Self::Perhaps,
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Perhaps,
        }
    }
}

/// How a chain was left.
enum Left {
    Accepted,
    Dropped(Place),
    /// At its end, or by `return`.
    Through,
}

/// What `ruleset` (the answer of `nft -j list ruleset`) does to `datagram`; an error where it cannot be read.
pub(super) fn fate(ruleset: &str, datagram: &Datagram<'_>) -> Result<Fate, String> {
    let json: Value = serde_json::from_str(ruleset).map_err(|error| format!("nft's answer is no JSON: {error}"))?;
    let all = json["nftables"].as_array().ok_or("nft's answer has no ruleset")?;
    let mut perhaps = None;
    for chain in all.iter().map(|one| &one["chain"]).filter(|chain| is_met(chain, datagram)) {
        let mut walk = Walk { all, datagram, certain: true, perhaps: None, rules: 0 };
        let left = walk.chain(chain, 0);
        let dropped = match left {
            Left::Dropped(place) => Some(place),
            Left::Through if chain["policy"] == "drop" => Some(place(chain, "its policy".to_owned())),
            Left::Accepted | Left::Through => None,
        };
        match dropped {
            Some(place) if walk.certain => return Ok(Fate::Dropped(place)),
            dropped => perhaps = perhaps.or(walk.perhaps).or(dropped),
        }
    }
    Ok(perhaps.map_or(Fate::Passes, Fate::Perhaps))
}

fn is_met(chain: &Value, datagram: &Datagram<'_>) -> bool {
    let family = match chain["family"].as_str() {
        Some("inet") => true,
        Some("ip") => datagram.own.is_ipv4(),
        Some("ip6") => datagram.own.is_ipv6(),
        _ => false,
    };
    let hooks = if datagram.out { ["output", "postrouting"] } else { ["input", "prerouting"] };
    family && chain["hook"].as_str().is_some_and(|hook| hooks.contains(&hook))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// `of` is a chain, or a rule with its chain's name under `chain`.
fn place(of: &Value, rule: String) -> Place {
    let chain = if of["chain"].is_null() { &of["name"] } else { &of["chain"] };
    Place { family: text(&of["family"]), table: text(&of["table"]), chain: text(chain), rule }
}

struct Walk<'a> {
    all: &'a [Value],
    datagram: &'a Datagram<'a>,
    /// No rule before would perhaps have decided otherwise.
    certain: bool,
    /// The first rule that drops perhaps.
    perhaps: Option<Place>,
    rules: usize,
}

impl<'a> Walk<'a> {
    fn chain(&mut self, chain: &Value, depth: usize) -> Left {
        if depth > DEPTH {
            return Left::Through;
        }
        let all = self.all;
        let of_chain = |rule: &&Value| {
            rule["family"] == chain["family"] && rule["table"] == chain["table"] && rule["chain"] == chain["name"]
        };
        for rule in all.iter().map(|one| &one["rule"]).filter(of_chain) {
            self.rules += 1;
            if self.rules > RULES {
                self.certain = false;
                return Left::Through;
            }
            if let Some(left) = self.rule(rule, depth) {
                return left;
            }
        }
        Left::Through
    }

    /// None: the next rule, please.
    fn rule(&mut self, rule: &Value, depth: usize) -> Option<Left> {
        let mut holds = Holds::Yes;
        for part in rule["expr"].as_array()? {
            let (kind, what) = part.as_object()?.iter().next()?;
            match kind.as_str() {
                "match" => holds = holds.and(self.matches(rule, &what["left"], &what["op"], &what["right"])),
                // What counts or writes down passes everything on; what limits or is not known may not.
                "counter" | "log" | "comment" | "mangle" | "notrack" | "meta" => {}
                "vmap" => {
                    let Some(pairs) = self.pairs(rule, &what["data"]) else {
                        self.certain = false;
                        return None;
                    };
                    return pairs.iter().find_map(|pair| {
                        let hit = self.matches(rule, &what["key"], &Value::from("in"), &pair[0]);
                        let (kind, what) = pair[1].as_object()?.iter().next()?;
                        self.verdict(rule, holds.and(hit), kind, what, depth)
                    });
                }
                "accept" | "drop" | "reject" | "return" | "jump" | "goto" | "queue" => {
                    return self.verdict(rule, holds, kind, what, depth);
                }
                _ => holds = holds.and(Holds::Perhaps),
            }
            if holds == Holds::No {
                return None;
            }
        }
        None
    }

    /// A map's keys and verdicts: they stand in the rule, or the map has a name.
    fn pairs(&self, rule: &Value, data: &Value) -> Option<Vec<Value>> {
        let Some(name) = data.as_str().and_then(|name| name.strip_prefix('@')) else {
            return data["set"].as_array().cloned();
        };
        let map = self.named(rule, "map", name)?;
        // An empty map has no elements at all.
        Some(map["elem"].as_array().cloned().unwrap_or_default())
    }

    /// A set or map of the rule's table.
    fn named(&self, rule: &Value, kind: &str, name: &str) -> Option<&'a Value> {
        self.all
            .iter()
            .map(|one| &one[kind])
            .find(|one| one["family"] == rule["family"] && one["table"] == rule["table"] && one["name"] == *name)
    }

    fn verdict(&mut self, rule: &Value, holds: Holds, kind: &str, what: &Value, depth: usize) -> Option<Left> {
        if holds == Holds::No {
            return None;
        }
        let here = || place(rule, format!("rule {}", rule["handle"]));
        let left = match kind {
            "accept" => Left::Accepted,
            "drop" | "reject" => Left::Dropped(here()),
            "return" => Left::Through,
            "jump" | "goto" => {
                let named = &what["target"];
                let target = self.all.iter().map(|one| &one["chain"]).find(|chain| {
                    chain["family"] == rule["family"] && chain["table"] == rule["table"] && chain["name"] == *named
                })?;
                let left = self.chain(target, depth + 1);
                return match left {
                    // There and back decided nothing.
                    Left::Through if kind == "jump" => None,
                    left => self.leave(holds, left),
                };
            }
            _ => return self.leave(Holds::Perhaps, Left::Through),
        };
        self.leave(holds, left)
    }

    /// A chain is left for certain, or perhaps: then the next rules count with a doubt.
    fn leave(&mut self, holds: Holds, left: Left) -> Option<Left> {
        if holds == Holds::Yes {
            return Some(left);
        }
        match left {
            Left::Dropped(place) => self.perhaps = self.perhaps.take().or(Some(place)),
            Left::Accepted | Left::Through => self.certain = false,
        }
        None
    }

    fn matches(&self, rule: &Value, left: &Value, op: &Value, right: &Value) -> Holds {
        let Some(known) = self.known(left) else { return Holds::Perhaps };
        // The kernel compares nothing with what is not there, whatever the comparison.
        if known == Part::Absent {
            return Holds::No;
        }
        match op.as_str() {
            Some("==" | "in") => self.among(rule, &known, right),
            Some("!=") => self.among(rule, &known, right).not(),
            Some(op @ ("<" | ">" | "<=" | ">=")) => match (&known, right.as_u64()) {
                (Part::Number(ours), Some(theirs)) => Holds::from_bool(match op {
                    "<" => *ours < theirs,
                    ">" => *ours > theirs,
                    "<=" => *ours <= theirs,
                    _ => *ours >= theirs,
                }),
                _ => Holds::Perhaps,
            },
            _ => Holds::Perhaps,
        }
    }

    /// What a part of the datagram is; None: not known.
    fn known(&self, left: &Value) -> Option<Part> {
        let datagram = self.datagram;
        let word = |value: &str| Some(Part::Word(value.to_owned()));
        let payload = &left["payload"];
        if let (Some(protocol), Some(field)) = (payload["protocol"].as_str(), payload["field"].as_str()) {
            let own = if datagram.out { "saddr" } else { "daddr" };
            return match (protocol, field) {
                ("udp" | "th", "dport") => Some(Part::Number(datagram.port.into())),
                ("udp" | "th", _) => None,
                ("ip", _) if datagram.own.is_ipv6() => Some(Part::Absent),
                ("ip6", _) if datagram.own.is_ipv4() => Some(Part::Absent),
                ("ip" | "ip6", field) if field == own => Some(Part::Address(datagram.own)),
                ("ip", "protocol") | ("ip6", "nexthdr") => word("udp"),
                ("tcp" | "icmp" | "icmpv6" | "sctp" | "dccp" | "esp" | "ah", _) => Some(Part::Absent),
                _ => None,
            };
        }
        if left["ct"]["key"] == "state" {
            return word("new");
        }
        let way = if datagram.out { ["oif", "oifname"] } else { ["iif", "iifname"] };
        match left["meta"]["key"].as_str()? {
            "l4proto" => word("udp"),
            "nfproto" => word(if datagram.own.is_ipv4() { "ipv4" } else { "ipv6" }),
            key if way.contains(&key) && !datagram.device.is_empty() => word(datagram.device),
            _ => None,
        }
    }

    /// Whether a value is what a rule names: one, a range, a prefix, a list, a set.
    fn among(&self, rule: &Value, known: &Part, right: &Value) -> Holds {
        if *known == Part::Absent {
            return Holds::No;
        }
        let any = |values: &[Value]| {
            values.iter().fold(Holds::No, |sum, value| sum.not().and(self.among(rule, known, value).not()).not())
        };
        match (right, known) {
            (Value::Array(values), _) => any(values),
            (Value::String(name), _) if name.starts_with('@') => {
                let set = self.named(rule, "set", &name[1..]);
                set.map_or(Holds::Perhaps, |set| any(set["elem"].as_array().map_or(&[][..], Vec::as_slice)))
            }
            (Value::String(theirs), Part::Word(ours)) => Holds::from_bool(match theirs.strip_suffix('*') {
                Some(begin) => ours.starts_with(begin),
                None => ours == theirs,
            }),
            (Value::String(theirs), Part::Address(ours)) => {
                theirs.parse().map_or(Holds::Perhaps, |theirs: IpAddr| Holds::from_bool(theirs == *ours))
            }
            (Value::Number(theirs), Part::Number(ours)) => Holds::from_bool(theirs.as_u64() == Some(*ours)),
            (Value::Object(object), _) => self.compound(rule, known, object, any),
            _ => Holds::Perhaps,
        }
    }

    fn compound(
        &self,
        rule: &Value,
        known: &Part,
        object: &serde_json::Map<String, Value>,
        any: impl Fn(&[Value]) -> Holds,
    ) -> Holds {
        if let Some(values) = object.get("set").and_then(Value::as_array) {
            return any(values);
        }
        if let Some(element) = object.get("elem") {
            return self.among(rule, known, &element["val"]);
        }
        let range = object.get("range").map(|range| (range[0].as_u64(), range[1].as_u64()));
        if let (Some((Some(first), Some(last))), Part::Number(ours)) = (range, known) {
            return Holds::from_bool((first..=last).contains(ours));
        }
        let prefix = object.get("prefix").map(|prefix| (prefix["addr"].as_str(), prefix["len"].as_u64()));
        if let (Some((Some(addr), Some(length))), Part::Address(ours)) = (prefix, known) {
            return addr.parse().map_or(Holds::Perhaps, |addr| Holds::from_bool(contains(addr, length, *ours)));
        }
        Holds::Perhaps
    }
}

/// A part of the datagram.
#[derive(PartialEq, Eq)]
enum Part {
    Number(u64),
    Word(String),
    Address(IpAddr),
    /// The datagram has no such part.
    Absent,
}

fn contains(prefix: IpAddr, length: u64, address: IpAddr) -> bool {
    let bits = |ip| match ip {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)) << 96, 32),
        IpAddr::V6(ip) => (u128::from(ip), 128),
    };
    let ((prefix, longest), (address, width)) = (bits(prefix), bits(address));
    let shift = 128 - length.min(longest);
    longest == width && (shift == 128 || prefix >> shift == address >> shift)
}

#[cfg(test)]
mod tests;
