//! Filters: what is a good one, and which one holds.

use std::fmt;
use std::time::{Duration, Instant};

/// Longest filter, bytes.
const LONGEST: usize = 1_024;
/// What a filter may set targets to.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// What to log: a level, or `TARGET=LEVEL`, several with commas between them. Checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(String);

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError(String);

impl Filter {
    /// Checks a text. A word that is no level is refused: taken for a target, as filters of other programs do, it would
    /// silence all others.
    pub fn new(text: &str) -> Result<Self, FilterError> {
        let error = |why: String| Err(FilterError(format!("{why}; write info, debug or irmd=debug,info")));
        if text.len() > LONGEST {
            return error(format!("a filter of {} bytes is too long", text.len()));
        }
        for part in text.split(',').map(str::trim) {
            let (target, level) = part.rsplit_once('=').map_or((None, part), |(target, level)| (Some(target), level));
            if !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
                return error(format!("{level:?} is no level to log at"));
            }
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-');
            if target.is_some_and(|target| target.is_empty() || !target.chars().all(good)) {
                return error(format!("{:?} is no part of a daemon", target.unwrap_or_default()));
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FilterError {
    /// What the library says that reads filters; it takes what [`Filter::new`] does.
    pub(crate) fn of(error: &impl fmt::Display) -> Self {
        Self(format!("the filter cannot be used: {error}; write info, debug or irmd=debug,info"))
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FilterError {}

/// The filters of a process: the one that lasts, and perhaps one that holds for a while.
#[derive(Clone, Debug)]
pub struct State {
    lasting: Filter,
    passing: Option<(Filter, Instant)>,
}

impl State {
    /// Begins with `lasting`.
    pub fn new(lasting: Filter) -> Self {
        Self { lasting, passing: None }
    }

    /// `filter` holds from now on, or until a moment, after which the lasting one does again.
    pub fn set(&mut self, filter: Filter, until: Option<Instant>) {
        match until {
            Some(until) => self.passing = Some((filter, until)),
            None => (self.lasting, self.passing) = (filter, None),
        }
    }

    /// The time is over? Says whether another filter holds now.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let over = self.passing.as_ref().is_some_and(|(_, until)| *until <= now);
        if over {
            self.passing = None;
        }
        over
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.passing.as_ref().map(|(_, until)| *until)
    }

    /// The one that holds.
    pub fn current(&self) -> &Filter {
        self.passing.as_ref().map_or(&self.lasting, |(filter, _)| filter)
    }

    /// The one that lasts, if another holds for so long still.
    pub fn then(&self, now: Instant) -> Option<(&Filter, Duration)> {
        self.passing.as_ref().map(|(_, until)| (&self.lasting, until.saturating_duration_since(now)))
    }

    /// The one that lasts.
    pub fn lasting(&self) -> &Filter {
        &self.lasting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_levels_and_targets_with_levels() {
        for good in ["info", "DEBUG", "off", "irmd=debug", "info,irmd=debug", "ipcpd_udp::io=trace, warn"] {
            assert_eq!(Filter::new(good).unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("dbug", "\"dbug\" is no level"),
            ("", "\"\" is no level"),
            ("irmd", "\"irmd\" is no level"),
            ("irmd=", "\"\" is no level"),
            ("=debug", "\"\" is no part of a daemon"),
            ("irmd=debug,", "\"\" is no level"),
            ("[span{x=1}]=debug", "is no part"),
            ("a\nb=info", "is no part"),
        ] {
            let error = Filter::new(bad).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("write info"), "{bad}: {error}");
        }
        assert!(Filter::new(&"info,".repeat(1_000)).unwrap_err().to_string().contains("too long"));
    }

    #[test]
    fn a_passing_filter_gives_way_to_the_lasting_one() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do to begin with")]
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let filter = |text| Filter::new(text).unwrap();
        let mut state = State::new(filter("info"));
        state.set(filter("debug"), Some(at(10)));
        assert_eq!((state.current().as_str(), state.poll_timeout()), ("debug", Some(at(10))));
        assert_eq!(state.then(at(4)), Some((&filter("info"), Duration::from_secs(6))));
        // Another meanwhile takes its place, not that of the lasting one.
        state.set(filter("trace"), Some(at(20)));
        assert!(!state.handle_timeout(at(10)));
        assert!(state.handle_timeout(at(20)) && !state.handle_timeout(at(21)));
        assert_eq!(state.current().as_str(), "info");
        // A lasting one ends a passing one.
        state.set(filter("debug"), Some(at(30)));
        state.set(filter("warn"), None);
        assert_eq!((state.current().as_str(), state.poll_timeout(), state.then(at(25))), ("warn", None, None));
    }
}
