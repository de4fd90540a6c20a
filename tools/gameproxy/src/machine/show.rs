//! Status for people.

use std::collections::BTreeMap;

use service::table::{age, bytes, printable, table};

use crate::said::control::{PlayerStatus, RedirectStatus, Status, WayStatus};

/// All that `gameproxy status` prints of one.
pub fn status(status: &Status) -> String {
    let mut out = head(status);
    if !status.ways.is_empty() {
        out.push('\n');
        out += &ways(status);
    }
    if !status.redirects.is_empty() {
        out.push('\n');
        out += &redirects(&status.redirects);
    }
    if !status.players.is_empty() {
        out.push('\n');
        out += &players(&status.players);
    }
    match status.left_out {
        0 => {}
        1 => out += "and 1 player more\n",
        more => out += &format!("and {more} players more\n"),
    }
    out
}

fn head(status: &Status) -> String {
    let file = status.file.as_deref().map_or_else(|| "without a file".to_owned(), printable);
    let mut out = format!(
        "gameproxy {} {} (pid {}) is up for {}, {}; {file}\n",
        status.role,
        status.build,
        status.pid,
        age(status.uptime_ms),
        bytes(status.rss_bytes)
    );
    if status.stopping {
        out += "it is being stopped, and lets nobody in any more\n";
    }
    if let Some(why) = &status.reload_failed {
        out += &format!("the last reload was not taken, the rules are those of before: {}\n", printable(why));
    }
    for name in &status.unknown_names {
        out += &format!("{} is not found; what needs it waits\n", printable(name));
    }
    if !status.ports.is_empty() {
        out += &format!("ports: {}\n", status.ports.join(", "));
    }
    out += &format!(
        "{} players; up {} datagrams, {}; down {} datagrams, {}\n",
        status.players_total,
        status.datagrams_up,
        bytes(status.bytes_up),
        status.datagrams_down,
        bytes(status.bytes_down)
    );
    if let (Some(p50), Some(p99)) = (status.queue_p50_us, status.queue_p99_us) {
        out += &format!("queues: half left within {p50} µs of their time, 99 of 100 within {p99} µs\n");
    }
    out + &reasons("dropped", &status.dropped) + &reasons("went", &status.went)
}

fn reasons(what: &str, counts: &BTreeMap<String, u64>) -> String {
    let counts: Vec<String> =
        counts.iter().filter(|(_, count)| **count > 0).map(|(why, count)| format!("{why} {count}")).collect();
    if counts.is_empty() { String::new() } else { format!("{what}: {}\n", counts.join(", ")) }
}

fn ways(status: &Status) -> String {
    let head = if status.role == "client" { "SERVER SIDE" } else { "CLIENT SIDE" };
    let row = |way: &WayStatus| {
        vec![
            printable(&way.other),
            if way.up { "there" } else { "lost" }.to_owned(),
            time(way.round_trip_us),
            way.players.to_string(),
        ]
    };
    table(&[(head, false), ("WAY", false), ("RTT", true), ("PLAYERS", true)], status.ways.iter().map(row))
}

fn redirects(redirects: &[RedirectStatus]) -> String {
    let mut rows = Vec::new();
    for redirect in redirects {
        let mut cells = [
            printable(&redirect.name),
            String::new(),
            redirect.state.clone(),
            String::new(),
            redirect.players.to_string(),
        ];
        let several = redirect.servers.len() > 1;
        if let Some(only) = redirect.servers.first().filter(|_| !several) {
            cells[1] = printable(&only.server);
            cells[3] = time(only.round_trip_us);
            if !only.up {
                cells[2] += ", server down";
            }
        }
        rows.push(cells.to_vec());
        for server in redirect.servers.iter().filter(|_| several) {
            let state = if server.up { "up" } else { "down" };
            rows.push(vec![
                String::new(),
                printable(&server.server),
                state.to_owned(),
                time(server.round_trip_us),
                server.players.to_string(),
            ]);
        }
    }
    table(&[("REDIRECT", false), ("SERVER", false), ("STATE", false), ("RTT", true), ("PLAYERS", true)], rows)
}

fn players(players: &[PlayerStatus]) -> String {
    let heads = [
        ("PLAYER", false),
        ("AT", false),
        ("SERVER", false),
        ("AGE", true),
        ("UP", true),
        ("DOWN", true),
        ("WAIT", true),
        ("ANSWERS IN", true),
    ];
    let row = |player: &PlayerStatus| {
        vec![
            printable(&player.client),
            printable(&player.orig),
            printable(&player.server),
            age(player.age_ms),
            player.up.to_string(),
            player.down.to_string(),
            player.waiting.to_string(),
            time(player.answers_in_us),
        ]
    };
    table(&heads, players.iter().map(row))
}

/// `0.35 ms`; `-` where it is not known.
fn time(micros: Option<u64>) -> String {
    micros.map_or_else(|| "-".to_owned(), |micros| format!("{:.2} ms", micros as f64 / 1_000.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::said::control::ServerStatus;

    const WANT: &str = "\
gameproxy server 0.1.0 (pid 7) is up for 2 h, 5.4 MB; /etc/q2
the last reload was not taken, the rules are those of before: q2:1:1: what
q2.example\\u{1b} is not found; what needs it waits
2 players; up 3 datagrams, 1.2 kB; down 0 datagrams, 0 B
queues: half left within 64 µs of their time, 99 of 100 within 512 µs
dropped: denied 4

CLIENT SIDE  WAY         RTT  PLAYERS
10.0.0.1:5   there  20.45 ms        2

REDIRECT  SERVER  STATE                     RTT  PLAYERS
a                 open                                 2
          s:1     up                    0.30 ms        1
          t:1     down                        -        1
b         u:1     waiting, server down        -        0

PLAYER      AT          SERVER   AGE  UP  DOWN  WAIT  ANSWERS IN
10.1.0.1:2  10.0.0.9:1  s:1     61 s   3     0     0           -
and 1 player more
";

    #[test]
    fn a_status_is_tables_and_what_went_wrong() {
        let server = |name: &str, up: bool, rtt: Option<u64>| ServerStatus {
            server: name.into(),
            up,
            players: 1,
            round_trip_us: rtt,
        };
        let all = Status {
            build: "0.1.0".into(),
            role: "server".into(),
            pid: 7,
            uptime_ms: 7_200_000,
            file: Some("/etc/q2".into()),
            reload_failed: Some("q2:1:1: what".into()),
            rss_bytes: 5_400_000,
            unknown_names: vec!["q2.example\u{1b}".into()],
            ways: vec![WayStatus { other: "10.0.0.1:5".into(), up: true, round_trip_us: Some(20_450), players: 2 }],
            redirects: vec![
                RedirectStatus {
                    name: "a".into(),
                    state: "open".into(),
                    players: 2,
                    servers: vec![server("s:1", true, Some(300)), server("t:1", false, None)],
                },
                RedirectStatus {
                    name: "b".into(),
                    state: "waiting".into(),
                    players: 0,
                    servers: vec![server("u:1", false, None)],
                },
            ],
            datagrams_up: 3,
            bytes_up: 1_200,
            dropped: BTreeMap::from([("denied".into(), 4), ("late".into(), 0)]),
            queue_p50_us: Some(64),
            queue_p99_us: Some(512),
            players_total: 2,
            players: vec![PlayerStatus {
                client: "10.1.0.1:2".into(),
                orig: "10.0.0.9:1".into(),
                server: "s:1".into(),
                age_ms: 61_000,
                up: 3,
                ..PlayerStatus::default()
            }],
            left_out: 1,
            ..Status::default()
        };
        assert_eq!(status(&all), WANT, "\n{}", status(&all));
    }
}
