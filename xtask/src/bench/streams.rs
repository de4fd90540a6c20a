//! `cargo xtask bench stream`: stream and message flows beside what they are made of and taken instead of; the tables go into
//! docs/bench.md.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail, ensure};
use lab::Lab;

use crate::bench::page::Page;
use crate::bench::place::made_by;
use crate::bench::report::number;
use crate::bench::transports::{self, middle};
use crate::bench::{build, operf};

/// Where the tables stand.
pub(crate) const PAGE: Page = Page {
    file: "docs/bench.md",
    begin: "<!-- streams: made by `cargo xtask bench stream` -->\n",
    end: "<!-- end of streams -->\n",
};

/// Measures, and writes docs/bench.md unless `dry`.
pub(crate) fn run(rounds: u32, seconds: f64, dry: bool) -> Result<()> {
    build()?;
    if let Err(refused) = lab::enter() {
        bail!("links need network namespaces, and there are none here: {refused}");
    }
    let mut text = format!("\n# Streams and messages\n\n{} medians of {rounds} rounds.\n", made_by("stream"));
    text += &transports::measure(rounds)?;
    text += &handshakes(rounds, seconds)?;
    println!("{text}");
    if dry { Ok(()) } else { PAGE.write(&text) }
}

/// What it takes until a flow is there: raw, and with a handshake.
fn handshakes(rounds: u32, seconds: f64) -> Result<String> {
    let lab = Lab::new()?;
    let [a, b] = lab.hosts(["a", "b"])?;
    let _daemons = [a.irmd().start()?, b.irmd().start()?];
    a.bootstrap(&[("perf", &b)])?;
    b.bootstrap(&[])?;
    let server = b.start("operf", &["--listen", "perf", "--quiet"])?;
    let _server = b.await_server(server, "perf")?;
    let mut text = "\n## Until the flow is there\n\nBetween two hosts on this machine, by the real daemons, one after the other.\n\n\
         | flow | allocation p50 ms | p99 ms | allocations and deallocations per second |\n|---|---|---|---|\n"
        .to_owned();
    let seconds = seconds.to_string();
    for qos in ["raw", "message", "stream"] {
        let (mut p50, mut p99, mut rate) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds {
            println!("allocation of {qos} flows: round {} of {rounds}", round + 1);
            let json = operf(&a, &["perf", "--alloc", "--qos", qos, "--json", "-t", &seconds])?;
            ensure!(json["failures"] == 0, "allocations failed: {json}");
            let us = |key: &str| json["alloc_us"][key].as_f64().with_context(|| format!("operf says no {key}: {json}"));
            p50.push(us("p50")? / 1e3);
            p99.push(us("p99")? / 1e3);
            rate.push(json["allocs_per_second"].as_f64().context("allocs_per_second")?);
        }
        let _ =
            writeln!(text, "| {qos} | {} | {} | {} |", number(middle(p50)), number(middle(p99)), number(middle(rate)));
    }
    Ok(text)
}
