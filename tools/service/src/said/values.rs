//! Values as people write them, for serde.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// Longest time there is.
const MAX_TIME: Duration = Duration::from_secs(366 * 86_400);

/// A value that is written as a word.
#[derive(Clone, Copy, Debug)]
pub struct Word<T>(pub T);

impl<'de, T: FromStr<Err = String>> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map(Self).map_err(de::Error::custom)
    }
}

/// `10.0.0.0/8`, or a single address.
#[derive(Clone, Copy, Debug)]
pub struct Prefix(pub IpNet);

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let net = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        net.map(Self).ok_or_else(|| format!("{text:?} is no prefix of addresses; write 10.0.0.0/8 or fd00::1"))
    }
}

/// `"5s"`, or a number of seconds. More than nothing.
#[derive(Clone, Copy, Debug)]
pub struct Time(pub Duration);

/// The same, or `"never"`.
#[derive(Clone, Copy, Debug)]
pub struct MaybeTime(pub Option<Duration>);

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
#[derive(Clone, Copy, Debug)]
pub struct Limit(pub Option<NonZeroU32>);

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
