//! `cargo xtask bench see`: what it costs to look at ten thousand flows; the table goes into docs/bench.md.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use lab::{Host, Lab};

use crate::bench::page::Page;
use crate::bench::place::made_by;
use crate::bench::report::number;
use crate::bench::transports::middle;
use crate::bench::{STEP, build, memory, operf};

/// Where the table stands.
pub(crate) const PAGE: Page = Page {
    file: "docs/bench.md",
    begin: "<!-- watching: made by `cargo xtask bench see` -->\n",
    end: "<!-- end of watching -->\n",
};

const FLOWS: u32 = 10_000;
/// How much longer the second flowtop watches, seconds.
const WATCHED: f64 = 10.0;

/// Measures, and writes docs/bench.md unless `dry`.
pub(crate) fn run(rounds: u32, dry: bool) -> Result<()> {
    build()?;
    if let Err(refused) = lab::enter() {
        bail!("hosts need network namespaces, and there are none here: {refused}");
    }
    let lab = Lab::new()?;
    let [a, b] = lab.hosts(["a", "b"])?;
    let _daemons = [a.irmd().start()?, b.irmd().start()?];
    a.bootstrap(&[("echo", &b), ("perf", &b)])?;
    b.bootstrap(&[])?;
    let _servers = [b.serve("echo")?, b.await_server(b.start("operf", &["--listen", "perf", "--quiet"])?, "perf")?];
    println!("{FLOWS} flows are allocated");
    let mut holder = a.start("holder", &["echo", &FLOWS.to_string()])?;
    holder.expect_line(STEP, &format!("{FLOWS} flows"))?;
    let (irmd, ipcpd) = memory(&a)?;
    let list = list(&a, rounds)?;
    let (frame, least) = (flowtop(&a, WATCHED + 1.0)?, flowtop(&a, 1.0)?);
    let refresh = (frame - least).max(0.0) / WATCHED * 1000.0;
    let watched = watched(&a, rounds)?;
    let counted = counted(&a, rounds)?;
    let text = format!(
        "\n# Watching ten thousand flows\n\n{} medians of {rounds} rounds. {FLOWS} raw flows are open between two hosts; irmd has {} MiB then, ipcpd-udp {} MiB.\n\n\
         | | | target |\n|---|---|---|\n\
         | `irm flow list --json`, from start to end | **{} ms** | ≤ 100 ms |\n\
         | CPU of one refresh of flowtop, a second apart | **{} ms** | ≤ 10 ms |\n\
         | SDUs of 64 B one by one over a flow while flowtop watches, of those while nobody does | **{}** | |\n\
         | Counting an SDU in the statistics memory, of the time that sending one takes ({} of {} ns) | **{} %** | ≤ 1 % |\n",
        made_by("see"),
        number(irmd as f64 / 1048576.0),
        number(ipcpd as f64 / 1048576.0),
        number(list),
        number(refresh),
        number(watched.ratio),
        number(counted),
        number(watched.nanoseconds),
        number(counted * 100.0 / watched.nanoseconds),
    );
    drop(holder.input());
    holder.wait(STEP)?;
    println!("{text}");
    if dry { Ok(()) } else { PAGE.write(&text) }
}

/// Milliseconds.
#[expect(clippy::disallowed_methods, reason = "it measures")]
fn list(host: &Host, rounds: u32) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..rounds {
        let begun = Instant::now();
        let output = host.command("irm").args(["flow", "list", "--json"]).stderr(Stdio::inherit()).output()?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)?;
        ensure!(rows.len() >= FLOWS as usize, "{} rows", rows.len());
    }
    Ok(middle(times))
}

/// CPU seconds of a flowtop that draws a frame after so many seconds, refreshed each second.
fn flowtop(host: &Host, after: f64) -> Result<f64> {
    let after = after.to_string();
    let script = "\"$@\" > /dev/null && times";
    let output = host
        .command("bash")
        .args(["-c", script, "bash"])
        .arg(lab::binaries::folder().context("the programs")?.join("flowtop"))
        .args(["--once", "--after", &after, "--width", "120", "--height", "40"])
        .output()?;
    ensure!(output.status.success(), "flowtop: {}", String::from_utf8_lossy(&output.stderr));
    cpu(&String::from_utf8_lossy(&output.stdout)).context("bash said no times")
}

/// User and system time of a shell's children, as `times` prints them: the second line, "0m0.012s 0m0.003s".
fn cpu(times: &str) -> Option<f64> {
    let seconds = |text: &str| {
        let (minutes, seconds) = text.strip_suffix('s')?.split_once('m')?;
        Some(minutes.parse::<f64>().ok()? * 60.0 + seconds.parse::<f64>().ok()?)
    };
    times.lines().nth(1)?.split(' ').map(seconds).sum()
}

/// Nanoseconds that a program spends to count one SDU.
fn counted(host: &Host, rounds: u32) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..rounds {
        let output = host.run::<&str>("counting", &[])?;
        times.push(output.out.trim().parse().with_context(|| format!("counting says {output:?}"))?);
    }
    Ok(middle(times))
}

struct Watched {
    /// The rate of a flow beside a flowtop, of its rate without one.
    ratio: f64,
    /// For one SDU, without one.
    nanoseconds: f64,
}

fn watched(host: &Host, rounds: u32) -> Result<Watched> {
    let rate = || -> Result<f64> {
        let json = operf(host, &["perf", "--size", "64", "--json", "-t", "2"])?;
        json["received_sdus_per_second"].as_f64().with_context(|| format!("operf says no rate: {json}"))
    };
    let (mut ratios, mut times) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        println!("beside flowtop: round {} of {rounds}", round + 1);
        let alone = rate()?;
        let mut watching = host.start("flowtop", &["--once", "--after", "4"])?;
        let beside = rate()?;
        watching.wait(STEP + Duration::from_secs(4))?;
        ratios.push(beside / alone);
        times.push(1e9 / alone);
    }
    Ok(Watched { ratio: middle(ratios), nanoseconds: middle(times) })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_shells_times_are_read() {
        let times = "0m0.001s 0m0.002s\n0m1.250s 1m0.500s\n";
        assert_eq!(super::cpu(times), Some(61.75));
        assert_eq!(super::cpu(""), None);
    }
}
