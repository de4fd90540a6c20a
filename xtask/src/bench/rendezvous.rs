//! `cargo xtask bench rendezvous`: what 20,000 members in 2,000 sessions cost the server; the table goes into docs/bench.md.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::{Context as _, Result, bail, ensure};
use lab::binaries::Build;
use lab::{Host, Lab, Running};
use serde_json::Value;

use crate::bench::STEP;
use crate::bench::page::Page;
use crate::bench::place::made_by;
use crate::bench::process::Process;
use crate::bench::report::number;

/// Where the table stands.
pub(crate) const PAGE: Page = Page {
    file: "docs/bench.md",
    begin: "<!-- rendezvous: made by `cargo xtask bench rendezvous` -->\n",
    end: "<!-- end of rendezvous -->\n",
};

const SESSIONS: usize = 2_000;
/// Of each session.
const MEMBERS: usize = 10;
const AT: &str = "127.0.0.1:3360";

/// Of one round.
struct Figures {
    /// Of a step each: how many a second, and the server's CPU for each, µs.
    joins: [f64; 2],
    refreshes: [f64; 2],
    introductions: [f64; 2],
    /// The server's memory for a member, bytes.
    memory: f64,
}

/// Measures, and writes docs/bench.md unless `dry`.
pub(crate) fn run(rounds: u32, seconds: f64, dry: bool) -> Result<()> {
    println!("Building with optimisation …");
    lab::binaries::prepare(Build { show: true, release: true, also: &[] })?;
    if let Err(refused) = lab::enter() {
        bail!("200 addresses on loopback need a network namespace, and there is none here: {refused}");
    }
    let mut all = Vec::new();
    for round in 0..rounds {
        println!("round {} of {rounds}", round + 1);
        all.push(one(seconds)?);
    }
    let text = page(rounds, &all)?;
    println!("{text}");
    if dry { Ok(()) } else { PAGE.write(&text) }
}

fn one(seconds: f64) -> Result<Figures> {
    let lab = Lab::new()?;
    let [host] = lab.hosts(["server"])?;
    let config = configuration(&host)?;
    let server = host.start("rendezvous", &["--listen", AT, "--config", &config, "--log", "warn"])?;
    lab::wait_until(STEP, "the server", || host.run("rendezvous", &["status"]).is_ok_and(|output| output.code() == 0))?;
    let process = Process(server.pid());
    let empty = process.memory()?;
    let (key, seconds) = (host.run_dir().join("key"), seconds.to_string());
    let words = [AT, &SESSIONS.to_string(), &MEMBERS.to_string(), &key.display().to_string(), &seconds];
    let mut load = host.start("examples/rendezvous-load", &words)?;
    let mut go = load.input().context("the generator's input")?;
    let mut step = |name: &str| -> Result<[f64; 2]> {
        let before = process.cpu()?;
        writeln!(go)?;
        let json = said(&load, name)?;
        let cpu = process.cpu()? - before;
        let (count, took) = (json["count"].as_f64().context("count")?, json["seconds"].as_f64().context("seconds")?);
        Ok([count / took, cpu / count * 1e6])
    };
    let joins = step("joined")?;
    said(&load, "heard")?;
    let full = process.memory()?;
    let refreshes = step("refreshed")?;
    let introductions = step("introduced")?;
    let status = host.run("rendezvous", &["status", "--json"])?;
    let status: Value = serde_json::from_str(&status.out).with_context(|| status.err.clone())?;
    let there = status["members"].as_u64();
    ensure!(there == Some((SESSIONS * MEMBERS) as u64), "there are {there:?} members");
    let memory = (full.saturating_sub(empty)) as f64 / (SESSIONS * MEMBERS) as f64;
    Ok(Figures { joins, refreshes, introductions, memory })
}

/// What the generator says of a step.
fn said(load: &Running, step: &str) -> Result<Value> {
    let line = load.expect_line(STEP, &format!("\"step\":\"{step}\""))?;
    serde_json::from_str(&line).with_context(|| line.clone())
}

fn configuration(host: &Host) -> Result<String> {
    let mut text = String::from("[limits]\nrefresh = \"10min\"\n");
    for session in 0..SESSIONS {
        write!(text, "[[session]]\nname = \"s{session}\"\nkey-file = \"key\"\n")?;
    }
    std::fs::write(host.run_dir().join("key"), "one key for all of these sessions")?;
    crate::bench::road::file(host, "rendezvous.toml", &text)
}

fn page(rounds: u32, all: &[Figures]) -> Result<String> {
    let median = |of: &dyn Fn(&Figures) -> f64| {
        let mut values: Vec<f64> = all.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let mut text = format!(
        "\n# The rendezvous\n\n{} medians of {rounds} rounds. {} members in {SESSIONS} sessions, each with a name; members and server on one \
         loopback, so the rates are those of both. CPU is the server's, with what the kernel does for it.\n\n\
         | | a second | CPU µs each |\n|---|---|---|\n",
        made_by("rendezvous"),
        SESSIONS * MEMBERS
    );
    type Of = fn(&Figures) -> [f64; 2];
    let rows: [(&str, Of); 3] = [
        ("first JOIN of a member, with its name; the list as it is then", |figures| figures.joins),
        ("JOIN of a member that is there", |figures| figures.refreshes),
        ("introduction, from INTRODUCE to both MEETINGs", |figures| figures.introductions),
    ];
    for (what, of) in rows {
        let [rate, cpu] = [0, 1].map(|at: usize| number(median(&|figures| of(figures)[at])));
        writeln!(text, "| {what} | {rate} | {cpu} |")?;
    }
    let each = median(&|figures| figures.refreshes[1]);
    let share = each * (SESSIONS * MEMBERS) as f64 / 20.0 / 1e6 * 100.0;
    writeln!(
        text,
        "\nMemory: {} bytes for each member, its name and its share of the session. All of them heard every 20 s: {} % of a core.",
        number(median(&|figures| figures.memory)),
        number(share)
    )?;
    Ok(text)
}
