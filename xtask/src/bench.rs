//! `cargo xtask bench flow`: flows beside bare sockets, in one run, by one binary; the table goes into docs/bench.md.
//!
//! Every round measures the bare socket and the flow one right after the other, so that what else the machine does hits
//! both alike; a ratio is taken within a round, and the median of the rounds is what counts.

mod chart;
mod contender;
mod flood;
mod forward;
mod game;
mod goodput;
mod loss;
pub(crate) mod page;
mod part;
pub(crate) mod peers;
mod place;
mod process;
mod rendezvous;
pub(crate) mod report;
mod restart;
mod road;
mod scale;
mod see;
mod streams;
mod stripe;
mod transports;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lab::binaries::Build;
use lab::{Daemon, Host, Lab, Running};
use serde_json::Value;

use crate::bench::page::in_workspace;
use crate::bench::report::{Column, Row, Table};

pub(crate) const STEP: Duration = Duration::from_secs(60);

/// Builds all that any bench runs, the same for each: linking as one unit takes minutes.
fn build() -> Result<&'static Path> {
    println!("Building with optimisation …");
    lab::binaries::prepare(Build { show: true, release: true, also: &["flowring-tests", "flowring-transport"] })
}

/// What `cargo xtask bench` may be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What to measure: "flow" (beside bare sockets), "stream" (beside TCP, TLS and the bare QUIC library), "goodput" (of streams
    /// over bad links, beside kernel TCP), "forward" (portfwd beside other forwarders), "game" (gameproxy beside other proxies of UDP), "loss" (allocation over bad links and behind middleboxes), "flood" (of forged requests), "rendezvous" (20,000 members of the server for hosts behind NATs), "restart" (of killed daemons), "see" (watching ten thousand flows) or "stripe" (one TCP connection over many)
    what: String,
    /// How often each pair is measured; 7 times for "flow", 5 for "stream", 3 for "game", "goodput", "flood", "rendezvous", "restart" and "stripe" unless given
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Seconds for each measurement; 2 for "flow", 5 for "stream", "goodput", "loss" and "rendezvous", 10 for "flood", "game" and "stripe" unless given
    #[arg(long)]
    seconds: Option<f64>,
    /// Print the table and leave the page in docs as it is
    #[arg(long)]
    dry: bool,
    /// Only this part of it, and the page stays as it is; "stripe": "near", "lossy", "paths"; "forward": "host", "hosts",
    /// "knee"; "game": "host", "hosts"
    #[arg(long)]
    part: Option<String>,
}

/// Measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    let rounds = |otherwise: u32| options.rounds.unwrap_or(otherwise);
    let seconds = |otherwise: f64| options.seconds.unwrap_or(otherwise);
    let dry = options.dry;
    match options.what.as_str() {
        "flow" => flows(rounds(7), seconds(2.0), dry),
        "flood" => flood::run(rounds(3), seconds(10.0)),
        "loss" => loss::run(seconds(5.0), dry),
        "restart" => restart::run(rounds(3), dry),
        "stream" => streams::run(rounds(5), seconds(5.0), dry),
        "goodput" => goodput::run(rounds(3), seconds(5.0), dry),
        "forward" => forward::run(rounds(5), seconds(3.0), dry, options.part.as_deref()),
        "game" => game::run(rounds(3), seconds(10.0), dry, options.part.as_deref()),
        "stripe" => stripe::run(rounds(3), seconds(10.0), dry, options.part.as_deref()),
        "rendezvous" => rendezvous::run(rounds(3), seconds(5.0), dry),
        "see" => see::run(rounds(5), dry),
        what => bail!(
            "there is no bench {what:?}; there are \"flow\", \"stream\", \"goodput\", \"forward\", \"game\", \"see\", \"loss\", \"flood\", \"rendezvous\", \"restart\" and \"stripe\""
        ),
    }
}

/// Flows beside bare sockets.
fn flows(rounds: u32, seconds: f64, dry: bool) -> Result<()> {
    build()?;
    let place = match lab::enter() {
        Ok(_) => "two network namespaces, a veth pair each, one bridge",
        Err(refused) => {
            println!("No network namespaces here ({refused}): measuring on 127.0.0.1 and 127.0.0.2.");
            "127.0.0.1 and 127.0.0.2"
        }
    };
    let lab = if place.starts_with("two") { Lab::new()? } else { Lab::on_loopback()? };
    let mut bench = Bench::up(&lab, rounds, seconds)?;
    let mut table = Table::new(place, rounds, seconds)?;
    bench.memory_when_idle(&mut table)?;
    bench.serve()?;
    bench.pairs(&mut table, &PAIRS, "")?;
    bench.segmented(&mut table)?;
    bench.peers(&mut table)?;
    bench.allocations(&mut table)?;
    bench.many_flows(&mut table)?;
    let text = table.text();
    println!("\n{text}");
    if !dry {
        table.draw(&in_workspace("docs/bench.svg")?)?;
        let file = in_workspace(streams::PAGE.file)?;
        let old = std::fs::read_to_string(&file).unwrap_or_default();
        let kept = [
            streams::PAGE,
            crate::bench::goodput::PAGE,
            crate::bench::forward::PAGE,
            crate::bench::game::PAGE,
            crate::bench::see::PAGE,
            crate::bench::rendezvous::PAGE,
        ]
        .map(|page| page.part(&old).unwrap_or_default().to_owned());
        std::fs::write(&file, format!("{text}\n{}", kept.join("\n"))).with_context(|| file.display().to_string())?;
        println!("Written to {}, with its chart beside it.", file.display());
    }
    Ok(())
}

struct Bench {
    a: Host,
    b: Host,
    rounds: u32,
    seconds: String,
    servers: Vec<Running>,
    _daemons: [Daemon; 2],
}

/// The bare socket of another host, and of the same.
const FAR: u16 = 7000;
const NEAR: &str = "127.0.0.1:7001";

/// A measurement of a bare socket and of a flow, and what of the result counts.
struct Pair {
    what: &'static str,
    args: &'static [&'static str],
    /// Path of the number in operf's JSON.
    key: [&'static str; 2],
    unit: &'static str,
    target: Column,
    /// Within host b instead of from a to b.
    local: bool,
}

const PAIRS: [Pair; 4] = [
    Pair {
        what: "round trip, 64 B",
        args: &["--rtt"],
        key: ["rtt_us", "p50"],
        unit: "µs",
        target: Column::AtMost(1.05),
        local: false,
    },
    Pair {
        what: "SDUs one by one, 1400 B",
        args: &[],
        key: ["received_sdus_per_second", ""],
        unit: "/s",
        target: Column::AtLeast(0.95),
        local: false,
    },
    Pair {
        what: "SDUs in batches, 1400 B",
        args: &["--batch"],
        key: ["received_sdus_per_second", ""],
        unit: "/s",
        target: Column::AtLeast(0.9),
        local: false,
    },
    Pair {
        what: "round trip within a host, 64 B, beside UDP on its loopback",
        args: &["--rtt"],
        key: ["rtt_us", "p50"],
        unit: "µs",
        target: Column::AtMost(0.8),
        local: true,
    },
];

impl Bench {
    fn up(lab: &Lab, rounds: u32, seconds: f64) -> Result<Self> {
        let [a, b] = lab.hosts(["a", "b"])?;
        let daemons = [a.irmd().start()?, b.irmd().start()?];
        a.bootstrap(&[("perf", &b), ("echo", &b)])?;
        b.bootstrap(&[])?;
        Ok(Self { a, b, rounds, seconds: seconds.to_string(), servers: Vec::new(), _daemons: daemons })
    }

    /// Before anything is asked of the daemons.
    fn memory_when_idle(&self, table: &mut Table) -> Result<()> {
        let (irmd, ipcpd) = memory(&self.b)?;
        table.add(Row::single("memory of irmd when idle", mebibytes(irmd), "MiB", Column::AtMost(12.0)));
        table.add(Row::single("memory of ipcpd-udp when idle", mebibytes(ipcpd), "MiB", Column::AtMost(12.0)));
        Ok(())
    }

    /// What answers at host b until the end: bare sockets and a name.
    fn serve(&mut self) -> Result<()> {
        self.servers.push(self.b.start("operf", &["--bare-listen", &self.far()])?);
        self.servers.push(self.b.start("operf", &["--bare-listen", NEAR])?);
        let server = self.b.start("operf", &["--listen", "perf", "--quiet"])?;
        self.servers.push(self.b.await_server(server, "perf")?);
        Ok(())
    }

    fn far(&self) -> String {
        format!("{}:{FAR}", self.b.address())
    }

    /// The pairs between hosts again, where no device takes a batch whole and the kernel cuts it. Hosts in namespaces have
    /// IPv6 addresses.
    fn segmented(&self, table: &mut Table) -> Result<()> {
        if self.a.address6().is_some() && peers::installed("ethtool") {
            self.offloads("off")?;
            self.pairs(table, &PAIRS[..3], ", kernel segments")?;
            self.offloads("on")?;
        }
        Ok(())
    }

    fn offloads(&self, state: &str) -> Result<()> {
        for host in [&self.a, &self.b] {
            let output = host.run("ethtool", &["-K", "eth0", "tx-udp-segmentation", state, "gso", state])?;
            ensure!(output.code() == 0, "ethtool on host {}: {}", host.name(), output.err.trim());
        }
        Ok(())
    }

    fn pairs(&self, table: &mut Table, pairs: &[Pair], how: &str) -> Result<()> {
        for pair in pairs {
            let (from, bare) = if pair.local { (&self.b, NEAR.to_owned()) } else { (&self.a, self.far()) };
            let mut values = Vec::new();
            for round in 0..self.rounds {
                println!("{}{how}: round {} of {}", pair.what, round + 1, self.rounds);
                let bare = self.measure(from, &["--bare", &bare], pair)?;
                let flow = self.measure(from, &["perf"], pair)?;
                values.push((bare, flow));
            }
            table.add(Row::pair(&format!("{}{how}", pair.what), &values, pair.unit, pair.target));
        }
        Ok(())
    }

    fn measure(&self, from: &Host, target: &[&str], pair: &Pair) -> Result<f64> {
        let words = [target, pair.args, &["--json", "-t", &self.seconds]].concat();
        let json = operf(from, &words)?;
        let value = if pair.key[1].is_empty() { &json[pair.key[0]] } else { &json[pair.key[0]][pair.key[1]] };
        value.as_f64().with_context(|| format!("operf {} says no {:?}: {json}", words.join(" "), pair.key))
    }

    /// Flows beside the usual tools for sockets.
    fn peers(&self, table: &mut Table) -> Result<()> {
        if peers::installed("sockperf") {
            let _server = peers::sockperf_server(&self.b)?;
            let values = self.beside("sockperf", &["--rtt"], &["rtt_us", "p50"], peers::sockperf)?;
            table.add(Row::pair("round trip, 64 B, beside sockperf's", &values, "µs", Column::None));
        }
        if peers::installed("iperf3") {
            let _server = peers::iperf3_server(&self.b)?;
            let values = self.beside("iperf3", &[], &["received_sdus_per_second"], peers::iperf3)?;
            table.add(Row::pair("SDUs one by one, 1400 B, beside iperf3's", &values, "/s", Column::None));
        }
        Ok(())
    }

    fn beside(
        &self,
        what: &str,
        args: &[&str],
        key: &[&str],
        peer: fn(&Host, &Host, &str) -> Result<f64>,
    ) -> Result<Vec<(f64, f64)>> {
        let mut values = Vec::new();
        for round in 0..self.rounds {
            println!("{what}: round {} of {}", round + 1, self.rounds);
            let theirs = peer(&self.a, &self.b, &self.seconds)?;
            let json = operf(&self.a, &[&["perf"], args, &["--json", "-t", &self.seconds]].concat())?;
            let ours = key.iter().fold(&json, |json, key| &json[*key]).as_f64();
            values.push((theirs, ours.with_context(|| format!("operf says no {key:?}: {json}"))?));
        }
        Ok(values)
    }

    fn allocations(&self, table: &mut Table) -> Result<()> {
        let (mut times, mut rates, mut abreast) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..self.rounds {
            println!("allocation: round {} of {}", round + 1, self.rounds);
            let json = self.allocate(&[])?;
            times.push(json["alloc_us"]["p50"].as_f64().context("alloc_us.p50")? / 1000.0);
            rates.push(json["allocs_per_second"].as_f64().context("allocs_per_second")?);
            let json = self.allocate(&["--parallel", "32"])?;
            abreast.push(json["allocs_per_second"].as_f64().context("allocs_per_second")?);
        }
        table.add(Row::several("allocation over UDP, p50", &times, "ms", Column::AtMost(0.6)));
        table.add(Row::several("alloc + dealloc, one after the other", &rates, "/s", Column::AtLeast(1500.0)));
        table.add(Row::several("alloc + dealloc, 32 at once", &abreast, "/s", Column::AtLeast(5000.0)));
        Ok(())
    }

    fn allocate(&self, more: &[&str]) -> Result<Value> {
        let json = operf(&self.a, &[&["perf", "--alloc", "--json", "-t", &self.seconds], more].concat())?;
        ensure!(json["failures"] == 0, "allocations failed: {json}");
        Ok(json)
    }

    fn many_flows(&self, table: &mut Table) -> Result<()> {
        let points = scale::measure(&self.a, &self.b, &self.far(), &self.seconds)?;
        if let Some(most) = points.last() {
            let each = most.memory_each();
            table.add(Row::single("daemon memory per flow, 10,000 open", each, "KiB", Column::AtMost(4.0)));
        }
        table.scale(points);
        Ok(())
    }
}

/// Runs operf; its result.
pub(crate) fn operf(host: &Host, words: &[&str]) -> Result<Value> {
    let mut running = host.start("operf", words)?;
    let output = running.wait(STEP)?;
    if output.code() != 0 {
        bail!("host {}: operf {} ended with {}: {}", host.name(), words.join(" "), output.code(), output.err.trim());
    }
    serde_json::from_str(&output.out).with_context(|| format!("operf {} printed no JSON", words.join(" ")))
}

/// Resident memory of irmd and of its IPCP, bytes.
pub(crate) fn memory(host: &Host) -> Result<(u64, u64)> {
    let status: Value = serde_json::from_str(&host.irm(&["status", "--json"])?)?;
    let irmd = status["rss_bytes"].as_u64().context("irmd's memory")?;
    let ipcpd = status["ipcps"][0]["rss_bytes"].as_u64().context("the IPCP's memory")?;
    Ok((irmd, ipcpd))
}

#[expect(clippy::cast_precision_loss, reason = "memory of daemons is far below 2^52 bytes")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// What a command prints, or "unknown".
pub(crate) fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success());
    output.map_or("unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
