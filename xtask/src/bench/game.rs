//! `cargo xtask bench game`: gameproxy beside the proxies of UDP that people use today, and all of them beside none, in one run;
//! the tables go into docs/bench.md.

mod contenders;

use std::cell::Cell;
use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};
use lab::binaries::Build;
use lab::{Daemon, Host, Lab, Running};
use serde_json::Value;

use crate::bench::STEP;
use crate::bench::contender::{Measured, measure};
use crate::bench::page::Page;
use crate::bench::part::Part;
use crate::bench::place::made_by;
use crate::bench::report::number;
use crate::bench::road::Road;
use crate::bench::transports::middle;

/// Where the tables stand.
pub(crate) const PAGE: Page = Page {
    file: "docs/bench.md",
    begin: "<!-- game: made by `cargo xtask bench game` -->\n",
    end: "<!-- end of game -->\n",
};

/// The game server behind every proxy, on the loopback of host b.
pub(crate) const TARGET: &str = "127.0.0.1:9000";
/// Round trips, one after the other.
const PINGS: &str = "20000";

/// Measures, and writes docs/bench.md unless `dry`.
pub(crate) fn run(rounds: u32, seconds: f64, dry: bool, part: Option<&str>) -> Result<()> {
    let part = Part::of(&["host", "hosts"], part)?;
    println!("Building with optimisation …");
    lab::binaries::prepare(Build { show: true, release: true, also: &[] })?;
    if let Err(refused) = lab::enter() {
        bail!("hosts of their own need network namespaces, and there are none here: {refused}");
    }
    let stage = Stage::up()?;
    let seconds = (seconds.ceil() as u64).max(1).to_string();
    let mut text = format!(
        "\n# Game proxies\n\n{} medians of {rounds} rounds. Players send 100 bytes 30 times a second each, for {seconds} s, and are sent \
         400 for each; round trips are the players' own.\n",
        made_by("game")
    );
    let one = |road: &Road| one(road, &seconds);
    if part.has("host") {
        text += "\n## On one host\n\nPlayers, proxy and server on one loopback.\n";
        text += &table(&measure(&stage, &contenders::on_one_host(), rounds, one)?);
    }
    if part.has("hosts") {
        text += "\n## Between two hosts\n\nTwo network namespaces, a veth pair each; players and server on the loopback of theirs, but for none.\n";
        text += &table(&measure(&stage, &contenders::between_hosts(), rounds, one)?);
    }
    println!("{text}");
    if dry || !part.is_all() { Ok(()) } else { PAGE.write(&text) }
}

/// Two hosts, the server behind everything at b.
pub(crate) struct Stage {
    pub(crate) a: Host,
    pub(crate) b: Host,
    /// Where the next proxy listens.
    next: Cell<u16>,
    _servers: Vec<Running>,
    _daemons: [Daemon; 2],
    _lab: Lab,
}

/// Of one round.
#[derive(Clone, Copy, Debug)]
struct Figures {
    /// Round trip of 64 bytes, µs.
    ping: [f64; 2],
    /// Of 200 players.
    few: Play,
    /// Of 1,000.
    many: Play,
    /// CPU of the proxy for each datagram that 1,000 players were sent, µs.
    cpu: f64,
    /// The proxy's memory then, MiB.
    memory: f64,
}

/// What players saw.
#[derive(Clone, Copy, Debug)]
struct Play {
    /// Percent.
    lost: f64,
    /// µs.
    p50: f64,
    p99: f64,
}

impl Stage {
    fn up() -> Result<Self> {
        let lab = Lab::new()?;
        let [a, b] = lab.hosts(["a", "b"])?;
        let daemons = [a.irmd().start()?, b.irmd().start()?];
        a.bootstrap(&[("game", &b)])?;
        b.bootstrap(&[])?;
        let servers = [TARGET.to_owned(), format!("{}:9000", b.address())];
        let servers = servers.iter().map(|at| load(&b, &["serve", at])).collect::<Result<Vec<_>>>()?;
        Ok(Self { a, b, next: Cell::new(9001), _servers: servers, _daemons: daemons, _lab: lab })
    }

    /// A port that nothing has listened on before.
    pub(crate) fn port(&self) -> u16 {
        self.next.replace(self.next.get() + 1)
    }
}

/// All figures of one proxy in one round.
fn one(road: &Road, seconds: &str) -> Result<Figures> {
    let ask = |words: &[&str]| -> Result<Value> {
        let output = load(&road.from, words)?.wait(STEP)?;
        serde_json::from_str(output.out.trim()).with_context(|| format!("{words:?}: {} {}", output.out, output.err))
    };
    let value = |json: &Value, key: &str| json[key].as_f64().with_context(|| format!("no {key} in {json}"));
    let ping = ask(&["ping", &road.to, PINGS])?;
    let play = |players: &str| -> Result<(Play, f64)> {
        let json = ask(&["play", &road.to, players, seconds])?;
        let (lost, p50, p99) = (value(&json, "lost_percent")?, value(&json, "p50_us")?, value(&json, "p99_us")?);
        if json["stray"] != 0 {
            println!("datagrams came to others' players: {json}");
        }
        Ok((Play { lost, p50, p99 }, value(&json, "came")?))
    };
    let (few, _) = play("200")?;
    let before = road.cpu()?;
    let (many, came) = play("1000")?;
    Ok(Figures {
        ping: [value(&ping, "p50_us")?, value(&ping, "p99_us")?],
        few,
        many,
        cpu: (road.cpu()? - before) * 1e6 / came.max(1.0),
        memory: road.memory()? as f64 / f64::from(1 << 20),
    })
}

/// Starts the load's program.
fn load(host: &Host, words: &[&str]) -> Result<Running> {
    host.start("examples/game-load", words)
}

/// The figures, beside those of the first, which is none.
fn table(all: &Measured<Figures>) -> String {
    let mut text = "\n| | round trip of 64 B, added p50 µs | added p99 µs | 200 players: lost % | p50 µs | p99 µs | 1,000 players: lost % | \
                    p50 µs | p99 µs | CPU µs per datagram | MiB |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    let Some((_, none)) = all.first() else { return text };
    for (index, (name, rounds)) in all.iter().enumerate() {
        let pick = |figure: fn(&Figures) -> f64| number(middle(rounds.iter().map(figure).collect()));
        let own = |figure: fn(&Figures) -> f64| if index == 0 { String::new() } else { pick(figure) };
        let added = |figure: fn(&Figures) -> f64| {
            let more = rounds.iter().zip(none).map(|(ours, none)| figure(ours) - figure(none)).collect();
            if index == 0 { pick(figure) } else { format!("+{}", number(middle(more))) }
        };
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            added(|it| it.ping[0]),
            added(|it| it.ping[1]),
            pick(|it| it.few.lost),
            pick(|it| it.few.p50),
            pick(|it| it.few.p99),
            pick(|it| it.many.lost),
            pick(|it| it.many.p50),
            pick(|it| it.many.p99),
            own(|it| it.cpu),
            own(|it| it.memory),
        );
    }
    text
}
