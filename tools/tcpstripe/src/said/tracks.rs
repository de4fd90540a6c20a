//! How many tracks a client has.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// Tracks that a group may have.
pub const MAX_TRACKS: u16 = 64;

/// Tracks of a client where none are asked for, and the most where their number adapts.
pub const TRACKS: u16 = 8;

/// How many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub enum Tracks {
    /// Always so many.
    Fixed(u16),
    /// From one for each path to [`TRACKS`], as it pays.
    Auto,
}

/// As a configuration file has it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Raw {
    Number(u16),
    Word(String),
}

impl TryFrom<Raw> for Tracks {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        match raw {
            Raw::Number(number) => Ok(Self::Fixed(number)),
            Raw::Word(word) => word.parse(),
        }
    }
}

impl Tracks {
    /// The fewest and the most, over so many paths.
    pub fn bounds(self, paths: usize) -> (u16, u16) {
        match self {
            Self::Fixed(number) => (number, number),
            Self::Auto => {
                let least = u16::try_from(paths).unwrap_or(MAX_TRACKS).clamp(1, MAX_TRACKS);
                (least, least.max(TRACKS))
            }
        }
    }

    /// What nobody can have.
    pub fn check(self) -> Result<(), String> {
        match self {
            Self::Fixed(1..=MAX_TRACKS) | Self::Auto => Ok(()),
            Self::Fixed(number) => {
                Err(format!("{number} tracks are too few or too many; give 1 to {MAX_TRACKS}, or auto"))
            }
        }
    }
}

impl FromStr for Tracks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            number => number
                .parse()
                .map(Self::Fixed)
                .map_err(|_| format!("{text:?} is no number of tracks; give 1 to {MAX_TRACKS}, or auto")),
        }
    }
}

impl fmt::Display for Tracks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(number) => write!(f, "{number}"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_auto() {
        for (text, tracks) in [("8", Tracks::Fixed(8)), ("auto", Tracks::Auto)] {
            assert_eq!(text.parse(), Ok(tracks));
            assert_eq!(tracks.to_string(), text);
        }
        assert!("many".parse::<Tracks>().unwrap_err().contains("or auto"));
        assert!(Tracks::Fixed(0).check().is_err() && Tracks::Fixed(65).check().is_err());
        assert_eq!(Tracks::Fixed(3).bounds(2), (3, 3));
        assert_eq!(Tracks::Auto.bounds(1), (1, 8));
        assert_eq!(Tracks::Auto.bounds(12), (12, 12));
    }
}
