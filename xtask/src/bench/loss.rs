//! `cargo xtask bench loss`: allocations over bad links and through middleboxes, by the real daemons in the lab. What the
//! same machines do in the simulation stands beside it in docs/loss.md.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lab::{Behaviour, Host, Lab, Link, Middlebox};

use crate::bench::page::Page;
use crate::bench::place::Machine;
use crate::bench::report::number;
use crate::bench::{build, operf};

const LOSSES: [f64; 4] = [0.0, 0.1, 0.2, 0.3];
const ROUND_TRIPS: [u64; 3] = [20, 100, 200];
/// Of what is measured through middleboxes, ms.
const THROUGH: u64 = 20;
/// Chains of allocations at a time: each waits for its losses by itself.
const PARALLEL: &str = "32";
const PAGE: Page = Page {
    file: "docs/loss.md",
    begin: "<!-- lab tables: made by `cargo xtask bench loss` -->\n",
    end: "<!-- end of lab tables -->\n",
};

/// Measures, and writes docs/loss.md unless `dry`.
pub(crate) fn run(seconds: f64, dry: bool) -> Result<()> {
    build()?;
    if let Err(refused) = lab::enter() {
        bail!("links and middleboxes need network namespaces, and there are none here: {refused}");
    }
    let seconds = seconds.to_string();
    let mut text = format!(
        "\nThe real daemons on {}. 32 chains of allocations at a time for {seconds} s in each row, to a host that is known, with the\n\
         default deadline of 5 s; datagrams are all frames on the link, deallocs and probes of hosts included.\n\n\
         | loss each way | RTT ms | allocated | failed | median ms | p99 ms | frames for one |\n|---|---|---|---|---|---|---|\n",
        Machine::now().words()
    );
    for loss in LOSSES {
        for round_trip in ROUND_TRIPS {
            println!("{} % lost, {round_trip} ms", loss * 100.0);
            let row = lossy(loss, round_trip, &seconds)?;
            let _ = writeln!(text, "| {:.0} % | {round_trip} | {row} |", loss * 100.0);
        }
    }
    let _ = write!(
        text,
        "\nThrough middleboxes in front of the client, {THROUGH} ms there and back by their links, nothing lost, one after the other. The round\n\
         trip is that of SDUs on a flow by the same way; a box that drops what comes from sp takes two of them, by design.\n\n\
         | before the client | round trip ms | allocated | failed | median ms | p99 ms | median beyond its round trips |\n\
         |---|---|---|---|---|---|---|\n"
    );
    for kind in Middlebox::ALL {
        println!("behind {kind}");
        let _ = writeln!(text, "| {kind} | {} |", behind(kind, &seconds)?);
    }
    println!("{text}");
    if dry { Ok(()) } else { PAGE.write(&text) }
}

struct Stage {
    a: Host,
    b: Host,
    _running: (lab::Daemon, lab::Daemon, lab::Running),
    _lab: Lab,
}

fn stage(lab: Lab, a: Host, b: Host, round_trip: u64, loss: f64) -> Result<Stage> {
    let daemons = (a.irmd().start()?, b.irmd().start()?);
    a.bootstrap(&[("perf", &b)])?;
    b.bootstrap(&[])?;
    let server = b.start("operf", &["--listen", "perf", "--quiet"])?;
    let server = b.await_server(server, "perf")?;
    let half = Duration::from_millis(round_trip) / 2;
    b.link().set(Link { delay: half, loss, seed: 1, ..Link::CLEAN })?;
    Ok(Stage { a, b, _running: (daemons.0, daemons.1, server), _lab: lab })
}

fn lossy(loss: f64, round_trip: u64, seconds: &str) -> Result<String> {
    let lab = Lab::new()?;
    let [a, b] = lab.hosts(["a", "b"])?;
    let stage = stage(lab, a, b, round_trip, loss)?;
    let frames = || -> Result<u64> { stage.b.link().counts().map(|(up, down)| up.arrived + down.arrived) };
    let before = frames()?;
    let done = allocate(&stage, &["--parallel", PARALLEL], seconds)?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 frames")]
    let each = (frames()? - before) as f64 / done.count.max(1) as f64;
    Ok(format!("{} | {}", done.columns, number(each)))
}

fn behind(kind: Middlebox, seconds: &str) -> Result<String> {
    let lab = Lab::new()?;
    let [b] = lab.hosts(["b"])?;
    let a = lab.host_behind("a", kind)?;
    let stage = stage(lab, a, b, THROUGH, 0.0)?;
    let round_trip = operf(&stage.a, &["perf", "--rtt", "-s", "64", "--json", "-t", seconds])?["rtt_us"]["p50"]
        .as_f64()
        .context("operf says no round trip")?;
    let done = allocate(&stage, &[], seconds)?;
    let round_trips = if kind.filtering() == Behaviour::AddressAndPortDependent { 2.0 } else { 1.0 };
    let beyond = done.median.map_or("–".to_owned(), |us| {
        format!("{round_trips} × + {} ms", number((us - round_trips * round_trip) / 1000.0))
    });
    Ok(format!("{} | {} | {beyond}", number(round_trip / 1000.0), done.columns))
}

struct Allocations {
    count: u64,
    /// µs.
    median: Option<f64>,
    /// Allocated, failed, median, p99.
    columns: String,
}

fn allocate(stage: &Stage, more: &[&str], seconds: &str) -> Result<Allocations> {
    let json = operf(&stage.a, &[&["perf", "--alloc", "--json", "-t", seconds], more].concat())?;
    let count = json["allocs"].as_u64().with_context(|| format!("operf says no allocs: {json}"))?;
    let ms = |key: &str| json["alloc_us"][key].as_f64().map_or("–".to_owned(), |us| number(us / 1000.0));
    let columns = format!("{count} | {} | {} | {}", json["failures"], ms("p50"), ms("p99"));
    Ok(Allocations { count, median: json["alloc_us"]["p50"].as_f64(), columns })
}
