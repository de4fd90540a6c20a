//! From one flow to ten thousand: setting them up, a round trip beside them, what the daemons keep of them.

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Context as _, Result};
use lab::Host;

use crate::bench::report::number;
use crate::bench::{STEP, memory, operf};

const FLOWS: [u64; 4] = [1, 100, 1_000, 10_000];

/// What was measured with so many flows open.
pub(crate) struct Point {
    /// So many.
    pub(crate) flows: u64,
    /// Until the last was there, 32 under way at a time, ms.
    set_up: f64,
    /// Median round trips of one more flow, and of a bare socket right after it, µs.
    pub(crate) trip: f64,
    pub(crate) bare: f64,
    /// What both daemons of the accepting host grew by, KiB.
    memory: f64,
}

impl Point {
    /// Of one flow, KiB.
    #[expect(clippy::cast_precision_loss, reason = "ten thousand flows")]
    pub(crate) fn memory_each(&self) -> f64 {
        self.memory / self.flows as f64
    }
}

/// Measures at each number of flows. `bare`: where an `operf --bare-listen` answers.
pub(crate) fn measure(a: &Host, b: &Host, bare: &str, seconds: &str) -> Result<Vec<Point>> {
    let _server = b.serve("echo")?;
    // What earlier flows left behind is reused: it counts.
    let (irmd, ipcpd) = memory(b)?;
    FLOWS.iter().map(|flows| point([a, b], bare, seconds, *flows, irmd + ipcpd)).collect()
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn point(hosts: [&Host; 2], bare: &str, seconds: &str, flows: u64, before: u64) -> Result<Point> {
    let [a, b] = hosts;
    println!("{flows} flows open");
    let begun = Instant::now();
    let mut holder = a.start("holder", &["echo", &flows.to_string()])?;
    holder.expect_line(STEP, &format!("{flows} flows"))?;
    let set_up = begun.elapsed().as_secs_f64() * 1000.0;
    let after = memory(b)?;
    let trip = |target: &[&str]| -> Result<f64> {
        let words = [target, &["--rtt", "--json", "-t", seconds]].concat();
        operf(a, &words)?["rtt_us"]["p50"].as_f64().context("rtt_us.p50")
    };
    let (trip, bare) = (trip(&["perf"])?, trip(&["--bare", bare])?);
    drop(holder.input());
    holder.wait(STEP)?;
    #[expect(clippy::cast_precision_loss, reason = "memory of daemons is far below 2^52 bytes")]
    let memory = (after.0 + after.1).saturating_sub(before) as f64 / 1024.0;
    Ok(Point { flows, set_up, trip, bare, memory })
}

/// As Markdown.
pub(crate) fn text(points: &[Point]) -> String {
    let mut text = "\n## From one flow to ten thousand\n\n\
        Set-up: from the start of the program that holds them until the last is there, 32 under way at a time. Memory: what irmd and\n\
        ipcpd-udp of the accepting host grew by since before the first, together.\n\n\
        | flows open | set-up | each | round trip beside them, 64 B | bare socket then | memory |\n|---|---|---|---|---|---|\n"
        .to_owned();
    for point in points {
        #[expect(clippy::cast_precision_loss, reason = "ten thousand flows")]
        let each = point.set_up * 1000.0 / point.flows as f64;
        let _ = writeln!(
            text,
            "| {} | {} ms | {} µs | {} µs | {} µs | {} KiB |",
            point.flows,
            number(point.set_up),
            number(each),
            number(point.trip),
            number(point.bare),
            number(point.memory)
        );
    }
    text
}
