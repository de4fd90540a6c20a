//! What is asked again while a daemon is restarted, and for how long.
#![expect(clippy::disallowed_methods, reason = "io reads the clock")]

use std::time::Duration;

use proto::v1::FailureKind;

use crate::error::CallError;

/// irmd is not there at this moment, or has come back a moment ago and asks to be asked again.
pub(super) fn comes_back(error: &CallError) -> bool {
    match error {
        CallError::Irmd(_) => true,
        CallError::Failed(failure) => failure.kind() == FailureKind::Recovering,
        CallError::Ended(_) | CallError::Handoff(_) => false,
    }
}

/// The same for what waits for the next irmd however long that takes.
pub(super) fn comes_back_some_day(error: &CallError) -> bool {
    comes_back(error) || matches!(error, CallError::Failed(failure) if failure.kind() == FailureKind::ShuttingDown)
}

/// How long something is tried again; without end where no time is given.
pub(super) struct Patience(Option<tokio::time::Instant>);

impl Patience {
    pub(super) fn new(within: Option<Duration>) -> Self {
        Self(within.map(|within| tokio::time::Instant::now() + within))
    }

    pub(super) fn left(&self) -> Option<Duration> {
        self.0.map(|until| until.saturating_duration_since(tokio::time::Instant::now()))
    }

    pub(super) fn lasts(&self) -> bool {
        self.left().is_none_or(|left| !left.is_zero())
    }
}
