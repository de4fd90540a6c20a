//! Status for people.

use std::collections::BTreeMap;

use service::table::{age, bytes, printable, table};

use crate::said::control::{MemberStatus, SessionStatus, Status};

/// Sessions that are shown at most.
const MOST: usize = 50;

/// All that `rendezvous status` prints.
pub fn status(status: &Status) -> String {
    let mut out = head(status);
    if !status.sessions.is_empty() {
        out.push('\n');
        out += &sessions(&status.sessions);
    }
    if !status.of_session.is_empty() {
        out.push('\n');
        out += &members(&status.of_session);
    }
    out
}

fn head(status: &Status) -> String {
    let file = status.file.as_deref().map_or_else(|| "without a file".to_owned(), printable);
    let mut out = format!(
        "rendezvous {} (pid {}) is up for {}, {}; {file}\n",
        status.build,
        status.pid,
        age(status.uptime_ms),
        bytes(status.rss_bytes)
    );
    if status.stopping {
        out += "it is being stopped, and lets nobody in any more\n";
    }
    if let Some(why) = &status.reload_failed {
        out += &format!("the last reload failed, and all is as before: {}\n", printable(why));
    }
    let count = |name| status.counts.get(name).copied().unwrap_or(0);
    out += &format!("listens at {}\n", status.listens.join(", "));
    out += &format!(
        "{} in {}; {} at flows, {} of them met; {} relayed now, {} in all\n",
        counted(status.members, "member"),
        counted(status.sessions.len() as u64, "session"),
        counted(count("attempts"), "attempt"),
        count("met"),
        counted(status.pairs, "pair"),
        bytes(count("relayed_bytes"))
    );
    out += &reasons("refused", &status.refused);
    out += &reasons("dropped", &status.dropped);
    out
}

/// `1 session`, `2 sessions`.
pub fn counted(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

fn reasons(what: &str, counts: &BTreeMap<String, u64>) -> String {
    let some: Vec<String> =
        counts.iter().filter(|(_, count)| **count > 0).map(|(why, count)| format!("{count} {why}")).collect();
    if some.is_empty() { String::new() } else { format!("{what}: {}\n", some.join(", ")) }
}

/// Those with the most members first.
fn sessions(sessions: &[SessionStatus]) -> String {
    let mut all: Vec<&SessionStatus> = sessions.iter().collect();
    all.sort_by_key(|session| std::cmp::Reverse(session.members));
    let heads =
        [("SESSION", false), ("MEMBERS", true), ("NAMES", true), ("ATTEMPTS", true), ("MET", true), ("RELAYED", true)];
    let rows = all.iter().take(MOST).map(|session| {
        let numbers = [session.members, session.names, session.attempts, session.met, session.pairs];
        [printable(&session.name)].into_iter().chain(numbers.map(|number| number.to_string())).collect()
    });
    let mut out = table(&heads, rows);
    match all.len().saturating_sub(MOST) {
        0 => {}
        1 => out += "and 1 session more\n",
        more => out += &format!("and {more} sessions more\n"),
    }
    out
}

fn members(members: &[MemberStatus]) -> String {
    let heads = [
        ("HOST", false),
        ("PUBLIC", false),
        ("LOCAL", false),
        ("AGE", true),
        ("HEARD", true),
        ("RTT", true),
        ("NAMES", false),
    ];
    let rows = members.iter().map(|member| {
        let round_trip = member.round_trip_us.map_or_else(|| "-".to_owned(), |us| format!("{} ms", us.div_ceil(1000)));
        vec![
            member.host.clone(),
            member.public.clone(),
            member.locals.join(" "),
            age(member.age_ms),
            age(member.silent_ms),
            round_trip,
            printable(&member.names.join(" ")),
        ]
    });
    table(&heads, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_who_is_there() {
        let session = SessionStatus { name: "dark\x1breign".into(), members: 2, names: 1, ..SessionStatus::default() };
        let member = MemberStatus {
            host: "00".into(),
            public: "203.0.113.7:3359".into(),
            locals: vec!["10.0.0.1:3359".into()],
            names: vec!["alice.chat".into()],
            age_ms: 61_000,
            round_trip_us: Some(20_300),
            ..MemberStatus::default()
        };
        let shown = status(&Status {
            members: 2,
            sessions: vec![session],
            of_session: vec![member],
            dropped: [("rate".to_owned(), 3), ("stale".to_owned(), 0)].into(),
            ..Status::default()
        });
        for words in ["2 members in 1 session;", "dark\\u{1b}reign", "dropped: 3 rate\n", "21 ms", "alice.chat"] {
            assert!(shown.contains(words), "{words} is not in\n{shown}");
        }
    }

    #[test]
    fn a_list_that_is_too_long_says_so() {
        let sessions = (0..53).map(|n| SessionStatus { name: format!("s{n}"), ..SessionStatus::default() }).collect();
        let shown = status(&Status { sessions, ..Status::default() });
        assert!(shown.ends_with("and 3 sessions more\n"), "{shown}");
    }
}
