//! How long an idle mapping lives: many are made at once, and each is tried once, after another time.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// Seconds after which mappings are tried.
const AFTER: [u64; 17] = [5, 10, 15, 20, 25, 30, 40, 50, 60, 75, 90, 120, 150, 180, 240, 300, 600];

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Lifetime {
    /// Even a fresh one was not reached from the server: it may be too old to be asked, or the NAT has several addresses.
    Unknown,
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

/// What trials come to, each with its time and whether the mapping lived; in order of time.
pub fn lifetime(trials: &[(Duration, bool)]) -> Lifetime {
    match trials.split_first() {
        Some(((_, true), rest)) => {
            let lived = rest.iter().take_while(|(_, lives)| *lives).last().map_or(Duration::ZERO, |(after, _)| *after);
            match rest.iter().find(|(_, lives)| !*lives) {
                Some((gone, _)) => Lifetime::Between { lived, gone: *gone },
                None if rest.is_empty() => Lifetime::Unknown,
                None => Lifetime::More { lived },
            }
        }
        _ => Lifetime::Unknown,
    }
}
