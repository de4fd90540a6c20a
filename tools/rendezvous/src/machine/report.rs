//! How the server is.

use std::time::{Duration, Instant};

use super::server::Server;
use super::session::Session;
use crate::said::control::{MemberStatus, SessionStatus, Status};

impl Server {
    /// How it is, with the members of a session. What is of the process is left to whoever runs it.
    pub fn status(&self, now: Instant, session: Option<&str>) -> Status {
        let mut sessions: Vec<SessionStatus> = self.sessions.values().map(said).collect();
        sessions.sort_by(|a, b| a.name.cmp(&b.name));
        let of = session.and_then(|name| self.sessions.values().find(|session| &*session.rules.name == name));
        let counts = &self.counts;
        let named = [
            ("received", counts.received[0]),
            ("received_bytes", counts.received[1]),
            ("sent", counts.sent[0]),
            ("sent_bytes", counts.sent[1]),
            ("cookies", counts.cookies),
            ("unknown_sessions", counts.unknown_sessions),
            ("wrong_keys", counts.wrong_keys),
            ("joins", counts.joins),
            ("refreshes", counts.refreshes),
            ("left", counts.left[0]),
            ("silent", counts.left[1]),
            ("attempts", counts.attempts),
            ("met", counts.met),
            ("unmet", counts.unmet),
            ("passed_on", counts.passed_on),
            ("probes", counts.probes),
            ("pairs", counts.pairs),
            ("relayed", counts.relayed[0]),
            ("relayed_bytes", counts.relayed[1]),
        ];
        Status {
            listens: self.places.iter().map(|place| place.main.to_string()).collect(),
            members: sessions.iter().map(|session| session.members).sum(),
            sessions,
            attempts: self.attempts.len() as u64,
            pairs: self.relay.len() as u64,
            counts: named.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            dropped: counts.dropped().map(|(why, count)| (why.to_owned(), count)).collect(),
            refused: counts.refused().map(|(why, count)| (why.to_owned(), count)).collect(),
            of_session: of.map(|session| members(now, session)).unwrap_or_default(),
            stopping: self.closing,
            ..Status::default()
        }
    }
}

fn said(session: &Session) -> SessionStatus {
    SessionStatus {
        name: session.rules.name.to_string(),
        members: session.members.len() as u64,
        names: session.name_count() as u64,
        attempts: session.attempts[0],
        met: session.attempts[1],
        pairs: session.pairs.into(),
    }
}

fn members(now: Instant, session: &Session) -> Vec<MemberStatus> {
    let millis = |since: Instant| millis(now.saturating_duration_since(since));
    let mut all: Vec<_> = session.members.iter().collect();
    all.sort_by_key(|(host, _)| **host);
    let each = all.into_iter().map(|(host, member)| MemberStatus {
        host: host.to_string(),
        public: member.at.to_string(),
        locals: member.locals.iter().map(ToString::to_string).collect(),
        names: member.names.iter().map(ToString::to_string).collect(),
        age_ms: millis(member.since),
        silent_ms: millis(member.heard),
        round_trip_us: (member.round_trip_us > 0).then_some(member.round_trip_us.into()),
    });
    each.collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
