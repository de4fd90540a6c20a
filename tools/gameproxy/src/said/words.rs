//! Words of the rules that stand for one of a few, as they are written in TOML.

use std::str::FromStr;

use super::rule::{Balance, Full, Query, Silence, TokenAt};

/// Longest token, bytes.
pub(super) const LONGEST_TOKEN: u8 = 64;

impl FromStr for Full {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "drop-old" => Ok(Self::DropOld),
            "drop-new" => Ok(Self::DropNew),
            _ => Err(format!("when-full is \"drop-old\" or \"drop-new\", not {text:?}")),
        }
    }
}

impl FromStr for Silence {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "either" => Ok(Self::Either),
            "both" => Ok(Self::Both),
            _ => Err(format!("prune-of is \"either\" or \"both\", not {text:?}")),
        }
    }
}

impl FromStr for Balance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "round-robin" => Ok(Self::RoundRobin),
            "hash" => Ok(Self::Hash),
            "least-players" => Ok(Self::LeastPlayers),
            _ => Err(format!("balance is \"round-robin\", \"hash\" or \"least-players\", not {text:?}")),
        }
    }
}

impl FromStr for Query {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "quake2" => Ok(Self::Quake2),
            "quake3" => Ok(Self::Quake3),
            "source" => Ok(Self::Source),
            _ => Err(format!("a query is \"quake2\", \"quake3\" or \"source\", not {text:?}")),
        }
    }
}

impl FromStr for TokenAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no place of a token; write \"front 8\" or \"back 8\", 1 to {LONGEST_TOKEN} bytes");
        let (side, length) = text.split_once(' ').ok_or_else(wrong)?;
        let length = length.trim().parse::<u8>().ok().filter(|length| (1..=LONGEST_TOKEN).contains(length));
        match (side, length) {
            ("front", Some(length)) => Ok(Self::Front(length)),
            ("back", Some(length)) => Ok(Self::Back(length)),
            _ => Err(wrong()),
        }
    }
}
