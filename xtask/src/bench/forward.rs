//! `cargo xtask bench forward`: portfwd beside the forwarders that people use today, and all of them beside none, in one run;
//! the tables go into docs/bench.md.

mod contenders;
mod figures;
mod knee;

use std::cell::Cell;
use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};
use lab::binaries::Build;
use lab::{Daemon, Host, Lab, Running};
use serde_json::Value;

use self::figures::Figures;
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
    begin: "<!-- forward: made by `cargo xtask bench forward` -->\n",
    end: "<!-- end of forward -->\n",
};

/// What is behind every forwarder, on the loopback of host b.
pub(crate) const TARGET: &str = "127.0.0.1:9000";
/// Idle connections that memory is measured with.
const IDLE: u64 = 2000;

/// Measures, and writes docs/bench.md unless `dry`.
pub(crate) fn run(rounds: u32, seconds: f64, dry: bool, part: Option<&str>) -> Result<()> {
    let part = Part::of(&["host", "hosts", "knee"], part)?;
    println!("Building with optimisation …");
    lab::binaries::prepare(Build { show: true, release: true, also: &[] })?;
    if let Err(refused) = lab::enter() {
        bail!("hosts of their own need network namespaces, and there are none here: {refused}");
    }
    let stage = Stage::up()?;
    let mut text = format!(
        "\n# Forwarders\n\n{} medians of {rounds} rounds of {seconds} s each. × is the ratio to no forwarder within a round.\n",
        made_by("forward")
    );
    let (on_one_host, between_hosts) = (contenders::on_one_host(), contenders::between_hosts());
    let one = |road: &Road| stage.one(road, seconds);
    if part.has("host") {
        text += "\n## On one host\n\nClient, forwarder and server on one loopback.\n";
        text += &table(&measure(&stage, &on_one_host, rounds, one)?);
    }
    if part.has("hosts") {
        text += "\n## Between two hosts\n\nTwo network namespaces, a veth pair each; client and server on the loopback of theirs, but for none.\n";
        text += &table(&measure(&stage, &between_hosts, rounds, one)?);
    }
    if part.has("knee") {
        text += "\n## Until it bends\n\nOne client more each 2 ms, 10 µs between an answer and the next question, until the 99th \
             percentile of their round trips is ten times that of the first hundred. Two processes of clients; what is \
             beside them shares their cores.\n";
        let all = on_one_host.into_iter().chain(between_hosts).filter(contenders::bends);
        text += &knee::measure(&stage, &all.collect::<Vec<_>>(), rounds)?;
    }
    println!("{text}");
    if dry || !part.is_all() { Ok(()) } else { PAGE.write(&text) }
}

/// Two hosts, the server behind everything at b.
pub(crate) struct Stage {
    pub(crate) a: Host,
    pub(crate) b: Host,
    /// Where the next forwarder listens.
    next: Cell<u16>,
    _server: Vec<Running>,
    _daemons: [Daemon; 2],
    _lab: Lab,
}

impl Stage {
    fn up() -> Result<Self> {
        let lab = Lab::new()?;
        let [a, b] = lab.hosts(["a", "b"])?;
        let daemons = [a.irmd().start()?, b.irmd().start()?];
        a.bootstrap(&[("forwarded", &b)])?;
        b.bootstrap(&[])?;
        let mut servers = Vec::new();
        for at in [TARGET.to_owned(), format!("{}:9000", b.address())] {
            let server = load(&b, &["serve", &at])?;
            server.expect_line(super::STEP, "serving")?;
            servers.push(server);
        }
        Ok(Self { a, b, next: Cell::new(9001), _server: servers, _daemons: daemons, _lab: lab })
    }

    /// A port that nothing has listened on before.
    pub(crate) fn port(&self) -> u16 {
        self.next.replace(self.next.get() + 1)
    }

    /// All figures of one forwarder in one round.
    fn one(&self, road: &Road, seconds: f64) -> Result<Figures> {
        let time = seconds.to_string();
        let ask = |words: &[&str]| -> Result<Value> {
            let output = load(&road.from, &[words, &["--seconds", &time]].concat())?.wait(super::STEP)?;
            serde_json::from_str(output.out.trim()).with_context(|| format!("{words:?}: {} {}", output.out, output.err))
        };
        let value = |json: &Value, key: &str| json[key].as_f64().with_context(|| format!("no {key} in {json}"));
        let before = road.cpu()?;
        let one = ask(&["stream", &road.to])?;
        let cpu = (road.cpu()? - before) / (value(&one, "bytes")? / 1e9);
        let eight = ask(&["stream", &road.to, "--streams", "8"])?;
        let trip = ask(&["trip", &road.to])?;
        let connects = ask(&["connect", &road.to])?;
        Ok(Figures {
            one: value(&one, "gbit_s")?,
            eight: value(&eight, "gbit_s")?,
            cpu,
            p50: value(&trip, "p50_us")?,
            p99: value(&trip, "p99_us")?,
            connects: value(&connects, "per_second")?,
            idle: self.idle(road)?,
        })
    }

    /// Kibibytes of the forwarder's memory for each idle connection; none where it takes fewer.
    fn idle(&self, road: &Road) -> Result<Option<f64>> {
        if road.processes.is_empty() {
            return Ok(None);
        }
        let before = road.memory()?;
        let holder = load(&road.from, &["hold", &road.to, "--count", &IDLE.to_string()])?;
        let line = holder.expect_line(super::STEP, "held")?;
        let held: Value = serde_json::from_str(&line)?;
        if held["held"].as_u64() != Some(IDLE) {
            println!("it holds {held}");
            return Ok(None);
        }
        Ok(Some(road.memory()?.saturating_sub(before) as f64 / 1024.0 / IDLE as f64))
    }
}

/// Starts the load's program.
pub(crate) fn load(host: &Host, words: &[&str]) -> Result<Running> {
    host.start("examples/forward-load", words)
}

/// The figures, beside those of the first, which is none.
fn table(all: &Measured<Figures>) -> String {
    let mut text = "\n| | 1 stream Gbit/s | × | 8 streams Gbit/s | × | CPU s/GB | round trip of 64 B, added p50 µs | added p99 µs | \
                    connects/s | × | KiB per idle connection |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    let Some((_, none)) = all.first() else { return text };
    for (index, (name, rounds)) in all.iter().enumerate() {
        let pick = |figure: fn(&Figures) -> f64| number(middle(rounds.iter().map(figure).collect()));
        let beside = |figure: fn(&Figures) -> f64| {
            let ratios = rounds.iter().zip(none).map(|(ours, none)| figure(ours) / figure(none)).collect();
            if index == 0 { String::new() } else { format!("**{}**", number(middle(ratios))) }
        };
        let added = |figure: fn(&Figures) -> f64| {
            let more = rounds.iter().zip(none).map(|(ours, none)| figure(ours) - figure(none)).collect();
            if index == 0 { pick(figure) } else { format!("+{}", number(middle(more))) }
        };
        let idle: Option<Vec<f64>> = rounds.iter().map(|round| round.idle).collect();
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            pick(|it| it.one),
            beside(|it| it.one),
            pick(|it| it.eight),
            beside(|it| it.eight),
            if index == 0 { String::new() } else { pick(|it| it.cpu) },
            added(|it| it.p50),
            added(|it| it.p99),
            pick(|it| it.connects),
            beside(|it| it.connects),
            idle.map_or_else(String::new, |values| number(middle(values))),
        );
    }
    text
}
