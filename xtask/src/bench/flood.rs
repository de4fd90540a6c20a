//! `cargo xtask bench flood`: what 50,000 forged requests a second do to a shim's flows and to its honest callers.
//!
//! An open flow's round trip is measured while the shim of its host is flooded, right after that of a bare pair of
//! sockets while a bare UDP sink beside them is flooded the same way: what is left is what the shim adds.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use lab::{Host, Lab, Running};
use serde_json::Value;

use crate::bench::place::Machine;
use crate::bench::{build, memory, operf};

/// Forged requests per second.
const RATE: u32 = 50_000;
const STEP: Duration = Duration::from_secs(90);
/// Flooded before and after what is measured, seconds.
const MARGIN: f64 = 1.0;

/// What one round gave.
struct Round {
    /// 99th percentiles of round trips, µs: bare and flow in peace, then flooded.
    calm: (f64, f64),
    flooded: (f64, f64),
    /// Median and worst time of an allocation by a host that the shim knows, ms; and allocations that failed.
    known: (f64, f64, u64),
    /// One by a host that never asked before, process start and one round trip included, ms.
    fresh: f64,
    /// The shim's memory before and after, MiB.
    memory: (f64, f64),
}

/// Measures and prints.
pub(crate) fn run(rounds: u32, seconds: f64) -> Result<()> {
    build()?;
    if let Err(refused) = lab::enter() {
        bail!("forging needs network namespaces, and there are none here: {refused}");
    }
    let mut all = Vec::new();
    for n in 0..rounds {
        println!("round {} of {rounds}", n + 1);
        let round = round(seconds)?;
        round.print();
        all.push(round);
    }
    summary(&all);
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn round(seconds: f64) -> Result<Round> {
    let lab = Lab::new()?;
    let [a, b, forger, fresh] = lab.hosts(["a", "b", "forger", "fresh"])?;
    let _daemons = [a.irmd().start()?, b.irmd().start()?, fresh.irmd().start()?];
    for asking in [&a, &fresh] {
        asking.bootstrap(&[("perf", &b), ("echo", &b)])?;
    }
    b.bootstrap(&[])?;
    // Answers to forged requests leave the host as they would anywhere.
    b.run("ip", &["route", "add", "default", "via", &forger.address().to_string()])?;
    let at = |port: u16| format!("{}:{port}", b.address());
    let _bare = b.start("operf", &["--bare-listen", &at(7000)])?;
    let sink = b.start("flooder", &["--sink", &at(7100)])?;
    sink.expect_line(STEP, "reading")?;
    let server = b.start("operf", &["--listen", "perf", "--quiet"])?;
    let _server = b.await_server(server, "perf")?;
    let _echo = b.serve("echo")?;

    let trip = |target: &[&str]| p99(&a, target, seconds);
    let bare = ["--bare", &at(7000)];
    let calm = (trip(&bare)?, trip(&["perf"])?);
    let before = mebibytes(memory(&b)?.1);
    let mut flood = start(&forger, &at(7100), seconds)?;
    let bare = trip(&bare)?;
    flood.wait(STEP)?;
    // The flow is open before the flood begins.
    let flow = during(&a, &forger, &b.shim().to_string(), seconds)?;

    let mut flood = start(&forger, &b.shim().to_string(), seconds)?;
    let begun = Instant::now();
    let output = fresh.run("oping", &["echo", "-c", "1"])?;
    let first = begun.elapsed().as_secs_f64() * 1e3;
    if output.code() != 0 {
        bail!("a fresh host got no flow: {}", output.err.trim());
    }
    let json = operf(&a, &["perf", "--alloc", "--json", "-t", &seconds.to_string()])?;
    let micros = |key: &str| json["alloc_us"][key].as_f64().with_context(|| format!("alloc_us.{key}"));
    let known = (micros("p50")? / 1e3, micros("max")? / 1e3, json["failures"].as_u64().unwrap_or(0));
    flood.wait(STEP)?;
    let after = mebibytes(memory(&b)?.1);
    println!("  the shim's counters: {}", counters(&b)?);
    Ok(Round { calm, flooded: (bare, flow), known, fresh: first, memory: (before, after) })
}

fn start(forger: &Host, to: &str, seconds: f64) -> Result<Running> {
    let seconds = (seconds + 2.0 * MARGIN).to_string();
    let flood = forger.start("flooder", &[to, &RATE.to_string(), &seconds, "echo"])?;
    flood.expect_line(STEP, "flooding")?;
    Ok(flood)
}

/// The round trip of a flow that was open before the flood: it is measured from before on, and the flood lasts longer
/// than what is measured by too little to matter.
fn during(a: &Host, forger: &Host, to: &str, seconds: f64) -> Result<f64> {
    let words = ["perf", "--rtt", "--json", "-t", &(seconds + MARGIN).to_string()];
    let mut measured = a.start("operf", &words)?;
    lab::wait_until(STEP, "the flow", || a.list("flow list").is_ok_and(|rows| !rows.is_empty()))?;
    let mut flood = start(forger, to, seconds)?;
    let output = measured.wait(STEP)?;
    flood.wait(STEP)?;
    let json: Value = serde_json::from_str(&output.out).with_context(|| format!("operf said {}", output.err))?;
    json["rtt_us"]["p99"].as_f64().context("rtt_us.p99")
}

fn p99(from: &Host, target: &[&str], seconds: f64) -> Result<f64> {
    let json = operf(from, &[target, &["--rtt", "--json", "-t", &seconds.to_string()]].concat())?;
    json["rtt_us"]["p99"].as_f64().context("rtt_us.p99")
}

fn counters(host: &Host) -> Result<String> {
    let rows = host.list("ipcp list")?;
    Ok(rows.first().map(|row| row["counters"].to_string()).unwrap_or_default())
}

#[expect(clippy::cast_precision_loss, reason = "memory of daemons is far below 2^52 bytes")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

impl Round {
    fn ratio(&self) -> f64 {
        self.flooded.1 / self.flooded.0
    }

    fn print(&self) {
        let Self { calm, flooded, known, fresh, memory } = self;
        println!("  round trip p99 in peace: bare {:.0} µs, flow {:.0} µs", calm.0, calm.1);
        let (bare, flow, ratio) = (flooded.0, flooded.1, self.ratio());
        println!("  round trip p99 flooded: bare {bare:.0} µs, flow {flow:.0} µs, {ratio:.2} × (target ≤ 1.5)");
        println!("  allocation by a known host: p50 {:.2} ms, worst {:.0} ms, {} failed", known.0, known.1, known.2);
        println!("  first allocation of a fresh host: {fresh:.0} ms (target ≤ 1000)");
        println!("  memory of ipcpd-udp: {:.1} MiB before, {:.1} MiB after", memory.0, memory.1);
    }
}

fn summary(rounds: &[Round]) {
    let median = |pick: fn(&Round) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(pick).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    println!(
        "medians of {}: {:.2} × in the flow's p99; known host {:.2} ms, fresh host {:.0} ms; memory +{:.1} MiB; {}",
        rounds.len(),
        median(Round::ratio),
        median(|round| round.known.0),
        median(|round| round.fresh),
        median(|round| round.memory.1 - round.memory.0),
        Machine::now().words().replace(" before", "")
    );
}
