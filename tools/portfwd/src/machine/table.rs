//! Status for people: tables as `ip` prints them, numbers as one says them.

use std::collections::BTreeMap;

use service::table::{age, bytes, printable, table};

use crate::said::control::{ConnectionStatus, RuleStatus, Status};

/// All that `portfwd status` prints.
pub fn status(status: &Status) -> String {
    let mut out = head(status);
    out += &rules(&status.rules);
    if !status.connections.is_empty() {
        out.push('\n');
        out += &connections(&status.connections);
    }
    match status.left_out {
        0 => {}
        1 => out += "and 1 connection more\n",
        more => out += &format!("and {more} connections more\n"),
    }
    out
}

fn head(status: &Status) -> String {
    let file = status.file.as_deref().map_or_else(|| "rules of its command line".to_owned(), printable);
    let threads = if status.workers == 1 { "1 thread".to_owned() } else { format!("{} threads", status.workers) };
    let mut out = format!(
        "portfwd {} (pid {}) is up for {}, {threads}, {}; {file}\n",
        status.build,
        status.pid,
        age(status.uptime_ms),
        bytes(status.rss_bytes)
    );
    if status.stopping {
        out += "it is being stopped, and takes no connections any more\n";
    }
    if let Some(why) = &status.reload_failed {
        out += &format!("the last reload was not taken, the rules are those of before: {}\n", printable(why));
    }
    out.push('\n');
    out
}

fn rules(rules: &[RuleStatus]) -> String {
    const HEADS: [(&str, bool); 8] = [
        ("RULE", false),
        ("TARGET", false),
        ("STATE", false),
        ("OPEN", true),
        ("TOTAL", true),
        ("REFUSED", true),
        ("IN", true),
        ("OUT", true),
    ];
    let mut rows = Vec::new();
    for rule in rules {
        let refused = rule.refused.values().chain(rule.dropped.values()).sum::<u64>();
        let mut cells = [
            printable(&rule.name),
            String::new(),
            printable(&rule.state),
            rule.open.to_string(),
            rule.accepted.to_string(),
            refused.to_string(),
            bytes(rule.bytes_in),
            bytes(rule.bytes_out),
        ];
        let mut targets = rule.targets.iter();
        if let Some(only) = targets.next().filter(|_| rule.targets.len() == 1) {
            cells[1] = printable(&only.target);
            if !only.up {
                cells[2] += ", target down";
            }
            rows.push(cells.to_vec());
            continue;
        }
        cells[1] = format!("{} targets", rule.targets.len());
        rows.push(cells.to_vec());
        for target in &rule.targets {
            let state = if target.up { "up" } else { "down" };
            let mut cells = vec![String::new(); HEADS.len()];
            cells[1] = printable(&target.target);
            cells[2] = state.to_owned();
            cells[3] = target.open.to_string();
            cells[4] = target.connected.to_string();
            cells[5] = target.failed.to_string();
            rows.push(cells);
        }
    }
    table(&HEADS, rows) + &reasons(rules)
}

/// Why connections were refused and ended, and datagrams dropped, of all rules together.
fn reasons(rules: &[RuleStatus]) -> String {
    let mut out = String::new();
    for (what, of) in [
        ("refused", (|rule| &rule.refused) as fn(&RuleStatus) -> &BTreeMap<String, u64>),
        ("dropped", |rule| &rule.dropped),
        ("ended", |rule| &rule.ended),
    ] {
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for (reason, count) in rules.iter().flat_map(of) {
            *sums.entry(reason).or_default() += count;
        }
        sums.retain(|_, count| *count > 0);
        let words: Vec<String> = sums.iter().map(|(reason, count)| format!("{} {count}", printable(reason))).collect();
        if !words.is_empty() {
            out += &format!("{what}: {}\n", words.join(", "));
        }
    }
    out
}

fn connections(connections: &[ConnectionStatus]) -> String {
    const HEADS: [(&str, bool); 6] =
        [("RULE", false), ("CLIENT", false), ("TARGET", false), ("AGE", true), ("IN", true), ("OUT", true)];
    let rows = connections.iter().map(|connection| {
        vec![
            printable(&connection.rule),
            printable(&connection.client),
            connection.target.as_deref().map_or_else(|| "-".to_owned(), printable),
            age(connection.age_ms),
            bytes(connection.bytes_in),
            bytes(connection.bytes_out),
        ]
    });
    table(&HEADS, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::said::control::TargetStatus;

    fn target(target: &str, up: bool) -> TargetStatus {
        TargetStatus { target: target.into(), up, open: 1, connected: 7, failed: 2 }
    }

    #[test]
    fn a_status_is_two_tables_and_what_went_wrong() {
        let web = RuleStatus {
            name: "7005".into(),
            listen: "7005".into(),
            state: "listening".into(),
            open: 2,
            accepted: 14,
            bytes_in: 1_200,
            bytes_out: 5_000_000,
            refused: BTreeMap::from([("denied".into(), 3), ("rate".into(), 0)]),
            ended: BTreeMap::from([("clean".into(), 12)]),
            targets: vec![target("10.0.0.1:80", true), target("10.0.0.2:80", false)],
            ..RuleStatus::default()
        };
        let dead = RuleStatus {
            name: "bad\u{1b}[2J".into(),
            state: "listening".into(),
            targets: vec![target("10.0.0.3:80", false)],
            ended: BTreeMap::from([("clean".into(), 1)]),
            ..RuleStatus::default()
        };
        let connection = ConnectionStatus {
            rule: "7005".into(),
            client: "10.0.0.9:40000".into(),
            age_ms: 61_000,
            bytes_in: 999,
            ..ConnectionStatus::default()
        };
        let all = Status {
            build: "0.1.0".into(),
            pid: 7,
            uptime_ms: 7_200_000,
            file: Some("/etc/rules".into()),
            reload_failed: Some("rules:3:1: 'x' is no port".into()),
            workers: 2,
            rss_bytes: 5_400_000,
            rules: vec![web, dead],
            connections: vec![connection],
            left_out: 1,
            ..Status::default()
        };
        let expected = "\
portfwd 0.1.0 (pid 7) is up for 2 h, 2 threads, 5.4 MB; /etc/rules
the last reload was not taken, the rules are those of before: rules:3:1: 'x' is no port

RULE          TARGET       STATE                   OPEN  TOTAL  REFUSED      IN     OUT
7005          2 targets    listening                  2     14        3  1.2 kB  5.0 MB
              10.0.0.1:80  up                         1      7        2
              10.0.0.2:80  down                       1      7        2
bad\\u{1b}[2J  10.0.0.3:80  listening, target down     0      0        0     0 B     0 B
refused: denied 3
ended: clean 13

RULE  CLIENT          TARGET   AGE     IN  OUT
7005  10.0.0.9:40000  -       61 s  999 B  0 B
and 1 connection more
";
        assert_eq!(status(&all), expected, "\n{}", status(&all));
    }
}
