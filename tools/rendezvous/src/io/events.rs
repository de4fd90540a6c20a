//! The log of who comes and goes.

use std::time::{Duration, Instant};

use pace::{Bucket, Pace};
use proto::rendezvous::Refusal;
use service::table::printable;

use crate::machine::{Event, Introduced};

/// Lines a second: more would fill disks.
const LINES: Pace = Pace::per_second(200, Duration::from_secs(5));

/// Writes them, not too many.
#[derive(Debug, Default)]
pub(super) struct Log {
    bucket: Bucket,
    left_out: u64,
}

impl Log {
    pub(super) fn write(&mut self, now: Instant, event: &Event) {
        if !self.bucket.take(now, LINES, 1) {
            self.left_out += 1;
            return;
        }
        if self.left_out > 0 {
            tracing::warn!(
                "{} lines about members and introductions were left out: there were too many",
                self.left_out
            );
            self.left_out = 0;
        }
        line(event);
    }
}

fn line(event: &Event) {
    match event {
        Event::Joined { session, member, at, anew } => {
            let how = if *anew { "a member is there anew" } else { "a member is there" };
            tracing::info!(session = %printable(session), %member, %at, "{how}");
        }
        Event::Moved { session, member, from, to } => {
            tracing::info!(session = %printable(session), %member, %from, %to, "a member is seen elsewhere");
        }
        Event::Left { session, member, at, silent, after } => {
            let how = if *silent { "a member was silent for too long" } else { "a member left" };
            tracing::info!(session = %printable(session), %member, %at, after = ?rounded(*after), "{how}");
        }
        Event::Introduced { session, asker, name, round, outcome } => {
            introduced(&printable(session), *asker, name, *round, *outcome);
        }
        Event::Relaying { session, asker, asked } => {
            tracing::info!(session = %printable(session), %asker, %asked, "relays");
        }
        Event::Relayed { session, asker, asked, bytes, after } => {
            let after = rounded(*after);
            tracing::info!(session = %printable(session), %asker, %asked, bytes, ?after, "relays no more");
        }
    }
}

fn introduced(session: &str, asker: proto::HostId, name: &proto::Name, round: u8, outcome: Introduced) {
    match outcome {
        Introduced::Met(asked, took) => {
            let took = rounded(took);
            tracing::info!(session, %asker, %asked, %name, round, ?took, "introduced");
        }
        Introduced::Unmet(asked) => {
            tracing::info!(session, %asker, %asked, %name, round, "not introduced: the other side did not come");
        }
        Introduced::PassedOn(asked, next) => {
            tracing::info!(session, %asker, %asked, %next, %name, round, "the other side does not come: the next one is asked");
        }
        Introduced::Refused(refusal) => {
            tracing::info!(session, %asker, %name, round, "not introduced: {}", words(refusal));
        }
    }
}

fn words(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::UnknownName => "no member has the name",
        Refusal::Silent => "the member that has the name is silent",
        Refusal::TooMany => "too many at once",
        Refusal::Yourself => "the asker has the name itself",
        Refusal::Exhausted => "the other side has no socket to give",
        Refusal::NoRelay => "there is no relay for it",
        Refusal::Quota => "the relay's quota is used up",
        Refusal::UnknownAttempt => "the asker is no member",
    }
}

fn rounded(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
