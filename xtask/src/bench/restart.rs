//! `cargo xtask bench restart`: how soon a daemon that was killed knows all its flows again, into docs/restart.md.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use lab::{Daemon, Host, Lab, wait_until};
use serde_json::Value;

use crate::bench::build;
use crate::bench::page::in_workspace;
use crate::bench::place::Machine;

const STEP: Duration = Duration::from_secs(120);

/// Who holds flows, and how many.
struct Case {
    what: &'static str,
    flows: u64,
    /// 0: all of one program.
    programs: u64,
    /// Within host a.
    local: bool,
}

const CASES: [Case; 4] = [
    Case { what: "1,000 flows of one program", flows: 1_000, programs: 0, local: false },
    Case { what: "10,000 flows of one program", flows: 10_000, programs: 0, local: false },
    Case { what: "1,000 programs with a flow each", flows: 1_000, programs: 1_000, local: false },
    Case { what: "8,000 flows within the host", flows: 8_000, programs: 0, local: true },
];

const KILLED: [&str; 3] = ["irmd", "ipcpd-udp", "both"];

/// From the kill until the daemons serve, and from then until they know all, ms; the median of the rounds.
struct Point {
    what: &'static str,
    killed: &'static str,
    away: f64,
    whole: f64,
}

/// Measures and writes.
pub(crate) fn run(rounds: u32, dry: bool) -> Result<()> {
    let folder = build()?;
    let optimised = !folder.ends_with("debug");
    if let Err(refused) = lab::enter() {
        bail!("two hosts need network namespaces, and there are none here: {refused}");
    }
    let mut points = Vec::new();
    for case in &CASES {
        points.extend(measure(case, rounds)?);
    }
    let text = text(&points, rounds, optimised);
    println!("\n{text}");
    if !dry {
        let file = in_workspace("docs/restart.md")?;
        std::fs::write(&file, text).with_context(|| file.display().to_string())?;
        println!("Written to {}.", file.display());
    }
    Ok(())
}

fn measure(case: &Case, rounds: u32) -> Result<Vec<Point>> {
    println!("{}", case.what);
    let lab = Lab::new()?;
    let [a, b] = lab.hosts(["a", "b"])?;
    let (mut irmd, _irmd_b) = (a.irmd().start()?, b.irmd().start()?);
    a.bootstrap(&[("echo", &b)])?;
    b.bootstrap(&[])?;
    let _server = (if case.local { &a } else { &b }).serve("echo")?;
    let mut words = vec!["echo".to_owned(), case.flows.to_string()];
    if case.programs > 0 {
        words.push(case.programs.to_string());
    }
    let holder = a.start("holder", &words)?;
    holder.expect_line(STEP, &format!("{} flows", case.flows))?;
    wait_until(STEP, "all flows to be listed", || knows_all(&a, case))?;
    let before = ids(&a)?;
    let mut points = Vec::new();
    for killed in KILLED {
        if case.local && killed != "irmd" {
            continue;
        }
        let mut times = Vec::new();
        for _ in 0..rounds {
            times.push(strike(&a, &mut irmd, killed, case)?);
            ensure!(ids(&a)? == before, "other flows are listed than before");
        }
        times.sort_by(|a, b| a.1.total_cmp(&b.1));
        let (away, whole) = times[times.len() / 2];
        println!("  {killed} killed: whole {whole:.0} ms after its return");
        points.push(Point { what: case.what, killed, away, whole });
    }
    Ok(points)
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn strike(host: &Host, irmd: &mut Daemon, killed: &str, case: &Case) -> Result<(f64, f64)> {
    let ms = |from: Instant| from.elapsed().as_secs_f64() * 1000.0;
    let pid = || {
        let rows = host.list("ipcp list").ok()?;
        rows.first().filter(|row| row["state"] == "operational")?["pid"].as_u64().filter(|pid| *pid > 0)
    };
    let before = pid().context("the IPCP's process")?;
    let begun = Instant::now();
    if killed != "irmd" {
        let output = host.run("kill", &["-KILL", &before.to_string()])?;
        ensure!(output.status.success(), "{output:?}");
    }
    if killed != "ipcpd-udp" {
        irmd.process().kill()?;
        *irmd = host.irmd().start()?;
    }
    if killed != "irmd" {
        wait_until(STEP, "the IPCP to be back", || pid().is_some_and(|pid| pid != before))?;
    }
    let (away, back) = (ms(begun), Instant::now());
    wait_until(STEP, "all flows to be known again", || knows_all(host, case))?;
    Ok((away, ms(back)))
}

/// irmd's own table has all, and so has the IPCP's.
fn knows_all(host: &Host, case: &Case) -> bool {
    let status = host.irm(&["status", "--json"]).unwrap_or_default();
    let Ok(status) = serde_json::from_str::<Value>(&status) else { return false };
    status["flows"] == case.flows && (case.local || status["ipcps"][0]["flows"] == case.flows)
}

fn ids(host: &Host) -> Result<Vec<u64>> {
    Ok(host.list("flow list")?.iter().filter_map(|row| row["id"].as_u64()).collect())
}

fn text(points: &[Point], rounds: u32, optimised: bool) -> String {
    let built = if optimised { "" } else { " **built without optimisation**" };
    let mut text = format!(
        "# How soon flows are back\n\n\
        `cargo xtask bench restart`: a daemon{built} of the host that asked for the flows is killed (SIGKILL) and comes back; programs bring\n\
        their flows to it. *Away*: from the kill until it serves again, which is the supervisor's pause and the start, and in which no SDU\n\
        is lost. *Whole*: from then until irmd and the IPCP list all flows, as `irm status` says (looked at every few ms). Same ids before and\n\
        after. Medians of {rounds} rounds, on {}.\n\n\
        | | killed | away | whole |\n|---|---|---|---|\n",
        Machine::now().words()
    );
    for Point { what, killed, away, whole } in points {
        let _ = writeln!(text, "| {what} | {killed} | {away:.0} ms | {whole:.0} ms |");
    }
    text
}
