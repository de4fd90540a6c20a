//! Moments as certificates and people have them.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::time::ASN1Time;

/// What a clock says, in seconds since 1970; 0 where it says less.
pub fn unix(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// The same the other way, for those who keep times as numbers. A number that no clock can say is taken for 0.
pub fn moment(unix: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(unix)).unwrap_or(UNIX_EPOCH)
}

/// As certificates count.
pub(crate) fn signed(now: SystemTime) -> i64 {
    i64::try_from(unix(now)).unwrap_or(i64::MAX)
}

/// Seconds since 1970, shown as `2026-11-21 10:31:09 UTC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(pub(crate) i64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ASN1Time::from_timestamp(self.0) {
            Ok(at) => {
                let at = at.to_datetime();
                write!(f, "{} {:02}:{:02}:{:02} UTC", at.date(), at.hour(), at.minute(), at.second())
            }
            // Beyond the year 9999.
            Err(_) => write!(f, "{} s after 1970", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_shown() {
        assert_eq!(Moment(0).to_string(), "1970-01-01 00:00:00 UTC");
        assert_eq!(Moment(1_795_257_069).to_string(), "2026-11-21 10:31:09 UTC");
        assert_eq!(Moment(i64::MAX).to_string(), "9223372036854775807 s after 1970");
        assert_eq!(unix(UNIX_EPOCH - Duration::from_secs(5)), 0);
        assert_eq!((unix(moment(1_795_257_069)), moment(u64::MAX)), (1_795_257_069, UNIX_EPOCH));
    }
}
