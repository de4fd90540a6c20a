//! The first test of the port forwarder's seed: clients join, one each two milliseconds, and echo with ten microseconds between
//! an answer and the next question. How many until the 99th percentile is tenfold?

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use lab::wait_until;
use serde_json::Value;

use super::{Stage, load};
use crate::bench::STEP;
use crate::bench::contender::Contender;
use crate::bench::report::number;
use crate::bench::road::Road;
use crate::bench::transports::middle;

/// Processes of clients: one would be busy before the forwarder is.
const PROCESSES: u32 = 2;
/// Milliseconds between two clients of one process: of all there is one each 2 ms.
const JOIN_MS: u32 = 2 * PROCESSES;

/// Where one round bent.
#[derive(Clone, Copy, Debug)]
struct Knee {
    clients: f64,
    /// Microseconds: of the first hundred clients, and of the last.
    first: f64,
    last: f64,
    /// Connections that were not made or broke.
    errors: f64,
    /// Mebibytes that the forwarder took at most beyond what it took before.
    memory: f64,
}

/// Measures each of them; the table.
pub(super) fn measure(stage: &Stage, contenders: &[Contender<Stage>], rounds: u32) -> Result<String> {
    let mut text = "\n| | clients at the knee | p99 µs of the first 100 | p99 µs at the knee | errors | MiB |\n|---|---|---|---|---|---|\n".to_owned();
    for contender in contenders.iter().filter(|contender| contender.is_installed()) {
        let mut knees = Vec::new();
        for round in 0..rounds {
            println!("{}, until it bends: round {} of {rounds}", contender.name, round + 1);
            let knee = (contender.start)(stage).and_then(|road| climb(&road)).context(contender.name)?;
            println!("  {knee:?}");
            knees.push(knee);
        }
        let pick = |figure: fn(&Knee) -> f64| number(middle(knees.iter().map(figure).collect()));
        let _ = writeln!(
            text,
            "| {} | **{}** | {} | {} | {} | {} |",
            contender.name,
            pick(|it| it.clients),
            pick(|it| it.first),
            pick(|it| it.last),
            pick(|it| it.errors),
            pick(|it| it.memory),
        );
    }
    Ok(text)
}

fn climb(road: &Road) -> Result<Knee> {
    let before = road.memory()?;
    let mut most = before;
    let join = JOIN_MS.to_string();
    let words = ["climb", &road.to, "--join-ms", &join, "--most", "9000"];
    let crowds: Result<Vec<_>> = (0..PROCESSES).map(|_| load(&road.from, &words)).collect();
    let mut crowds = crowds?;
    wait_until(STEP, "the knee", || {
        most = most.max(road.memory().unwrap_or(0));
        crowds.iter_mut().all(|crowd| !crowd.is_running())
    })?;
    let mut knee =
        Knee { clients: 0.0, first: 0.0, last: 0.0, errors: 0.0, memory: (most - before) as f64 / 1048576.0 };
    for crowd in &mut crowds {
        let output = crowd.wait(STEP)?;
        let lines: Vec<Value> = output.out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let steps: Vec<&Value> = lines.iter().filter(|line| line["p99_us"].is_f64()).collect();
        let (Some(first), Some(last), Some(end)) = (steps.first(), steps.last(), lines.last()) else {
            anyhow::bail!("the clients say nothing: {}{}", output.out, output.err)
        };
        ensure!(end["knee"].is_u64(), "9,000 clients and no knee: {end}");
        knee.clients += end["clients"].as_f64().unwrap_or(0.0);
        knee.errors += end["errors"].as_f64().unwrap_or(0.0);
        knee.first = knee.first.max(first["p99_us"].as_f64().unwrap_or(0.0));
        knee.last = knee.last.max(last["p99_us"].as_f64().unwrap_or(0.0));
    }
    Ok(knee)
}
