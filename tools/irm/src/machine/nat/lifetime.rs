//! How long an idle mapping lives: many are made at once, and each is tried once, after another time.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// Seconds after which mappings are tried.
const AFTER: [u64; 17] = [5, 10, 15, 20, 25, 30, 40, 50, 60, 75, 90, 120, 150, 180, 240, 300, 600];

/// What became of one mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trial {
    /// The server reached it.
    Lived,
    /// It did not.
    Gone,
    /// That could not be tried.
    Untried(Hindrance),
}

/// Why a mapping cannot be tried: the server answers to another port of who asks, of the same address and from 1,024 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hindrance {
    /// Even a fresh one was not reached.
    NotReached,
    /// The NAT gave all that were made ports below 1,024.
    LowPorts,
    /// The NAT has several addresses, and of the sockets that were to ask none had the mapping's.
    OtherAddress,
    /// The server did not answer when the time had come.
    Silent,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Lifetime {
    /// No mapping could be tried.
    Unknown {
        /// Why.
        why: Hindrance,
    },
    /// It lived after so long, and did not after so long.
    Between {
        /// Seconds; 0: it did not live until the first look.
        #[serde(serialize_with = "seconds")]
        lived: Duration,
        /// Seconds.
        #[serde(serialize_with = "seconds")]
        gone: Duration,
    },
    /// It lived after all of the time.
    More {
        /// Seconds.
        #[serde(serialize_with = "seconds")]
        lived: Duration,
    },
}

fn seconds<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(time.as_secs())
}

/// When mappings are tried that are looked at for so long at most; the first at once, to see that it can be done.
pub fn rungs(most: Duration) -> Vec<Duration> {
    let within = AFTER.into_iter().map(Duration::from_secs).filter(|after| *after < most);
    std::iter::once(Duration::ZERO).chain(within).chain([most]).collect()
}

/// What trials come to, each with its time; in order of time. The first, of a fresh mapping, says whether it can be measured at all;
/// of the others those count that could be tried.
pub fn lifetime(trials: &[(Duration, Trial)]) -> Lifetime {
    let rest = match trials.split_first() {
        Some(((_, Trial::Lived), rest)) => rest,
        Some(((_, Trial::Untried(why)), _)) => return Lifetime::Unknown { why: *why },
        Some(((_, Trial::Gone), _)) | None => return Lifetime::Unknown { why: Hindrance::NotReached },
    };
    let tried = || rest.iter().filter(|(_, trial)| !matches!(trial, Trial::Untried(_)));
    let lived = tried().take_while(|(_, trial)| *trial == Trial::Lived).last().map(|(after, _)| *after);
    match (tried().find(|(_, trial)| *trial == Trial::Gone), lived) {
        (Some((gone, _)), lived) => Lifetime::Between { lived: lived.unwrap_or_default(), gone: *gone },
        (None, Some(lived)) => Lifetime::More { lived },
        (None, None) => {
            let why = rest.iter().find_map(|(_, trial)| match trial {
                Trial::Untried(why) => Some(*why),
                Trial::Lived | Trial::Gone => None,
            });
            Lifetime::Unknown { why: why.unwrap_or(Hindrance::NotReached) }
        }
    }
}
