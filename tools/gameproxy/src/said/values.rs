//! Values of the rules as they are written in TOML.

use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::grammar;
use super::rule::LONGEST_QUEUE;
use super::words::LONGEST_TOKEN;

/// The bound of `fair-ping = true`.
pub(super) const FAIR_PING: Duration = Duration::from_millis(200);

/// What holds from player to server, and back: `30ms`, only there; or `30ms+20ms`.
#[derive(Clone, Copy)]
pub(super) struct Pair<T>(pub(super) T, pub(super) T);

impl<T: FromStr<Err = String> + Default> FromStr for Pair<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('+') {
            Some((up, down)) => Ok(Self(up.trim().parse()?, down.trim().parse()?)),
            None => Ok(Self(text.trim().parse()?, T::default())),
        }
    }
}

#[derive(Clone, Copy, Default)]
pub(super) struct Delay(pub(super) Duration);

impl FromStr for Delay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('+') {
            return Err(format!("'{text}' is one time too many at this place; write one, such as 30ms"));
        }
        grammar::delays(text).map(|(time, _)| Self(time))
    }
}

/// Of a million.
#[derive(Clone, Copy, Default)]
pub(super) struct Loss(pub(super) u32);

impl FromStr for Loss {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
        let wrong = || format!("{text:?} is no loss; write a part of a hundred, such as \"0.5%\"");
        percent.map(|percent| Self((percent * 10_000.0).round() as u32)).ok_or_else(wrong)
    }
}

/// Datagrams that wait.
#[derive(Clone, Copy)]
pub(super) struct Room(pub(super) u16);

impl<'de> Deserialize<'de> for Room {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let room = i64::deserialize(from)?;
        let room = u16::try_from(room).ok().filter(|room| (1..=LONGEST_QUEUE).contains(room)).map(Self);
        room.ok_or_else(|| de::Error::custom(format!("queue is a number of datagrams from 1 to {LONGEST_QUEUE}")))
    }
}

/// `true`, `false`, or how much anyone is delayed at most.
#[derive(Clone, Copy)]
pub(super) struct Fair(pub(super) Option<Duration>);

impl<'de> Deserialize<'de> for Fair {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct FairVisitor;
        impl Visitor<'_> for FairVisitor {
            type Value = Fair;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("true, false, or the most that anyone is delayed, such as \"150ms\"")
            }

            fn visit_bool<E: de::Error>(self, fair: bool) -> Result<Fair, E> {
                Ok(Fair(fair.then_some(FAIR_PING)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Fair, E> {
                Delay::from_str(text).map(|delay| Fair(Some(delay.0))).map_err(E::custom)
            }
        }
        from.deserialize_any(FairVisitor)
    }
}

/// Bytes: as text, or `0x` and hexadecimal digits.
#[derive(Clone)]
pub(super) struct Token(pub(super) Vec<u8>);

impl FromStr for Token {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = match text.strip_prefix("0x") {
            None => Some(text.as_bytes().to_vec()),
            Some(digits) if digits.is_ascii() && digits.len() % 2 == 0 => digits
                .as_bytes()
                .chunks(2)
                .map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok())
                .collect(),
            Some(_) => None,
        };
        let wrong = || format!("{text:?} is no token; write 1 to {LONGEST_TOKEN} bytes as text, or as 0x and digits");
        bytes.filter(|bytes| (1..=usize::from(LONGEST_TOKEN)).contains(&bytes.len())).map(Self).ok_or_else(wrong)
    }
}
