//! `cargo xtask bench goodput`: streams over a bad link, beside kernel TCP: goodput, waste and fairness for each congestion
//! control; the tables go into docs/bench.md.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lab::{Host, Lab, Link, Running};
use serde_json::Value;

use crate::bench::page::Page;
use crate::bench::peers;
use crate::bench::place::made_by;
use crate::bench::report::number;
use crate::bench::transports::middle;
use crate::bench::{STEP, build, operf};

/// Where the tables stand.
pub(crate) const PAGE: Page = Page {
    file: "docs/bench.md",
    begin: "<!-- goodput: made by `cargo xtask bench goodput` -->\n",
    end: "<!-- end of goodput -->\n",
};

/// Of the link, both ways.
const RATE: u64 = 100_000_000;
/// One way: what the receiver gets of it, at least this share of frames is headers.
const ROUND_TRIPS: [u64; 3] = [20, 40, 100];
const LOSSES: [f64; 4] = [0.0, 0.001, 0.01, 0.03];
const OURS: [&str; 3] = ["bbr3", "cubic", "newreno"];
const KERNEL: [&str; 2] = ["bbr", "cubic"];
const IPERF_PORT: &str = "7101";

/// Two hosts with a link between them, and servers.
struct Stage {
    a: Host,
    b: Host,
    iperf3: bool,
    _running: Vec<Running>,
    _daemons: [lab::Daemon; 2],
    _lab: Lab,
}

/// What one transfer came to.
#[derive(Clone, Copy)]
struct Transfer {
    /// Mbit/s that the receiving program got.
    goodput: f64,
    /// Share of packets taken for lost, percent.
    lost: Option<f64>,
}

/// Measures, and writes docs/bench.md unless `dry`.
pub(crate) fn run(rounds: u32, seconds: f64, dry: bool) -> Result<()> {
    build()?;
    if let Err(refused) = lab::enter() {
        bail!("links need network namespaces, and there are none here: {refused}");
    }
    let mut text = format!("\n# Streams over a bad link\n\n{} medians of {rounds} transfers.\n", made_by("goodput"));
    text += &measure(rounds, seconds)?;
    println!("{text}");
    if dry { Ok(()) } else { PAGE.write(&text) }
}

fn measure(rounds: u32, seconds: f64) -> Result<String> {
    let stage = Stage::up()?;
    let mut text = format!(
        "\nOne stream for {seconds} s over 100 Mbit/s with a queue of one bandwidth-delay product, random loss one way (from the sender). Mbit/s that the receiving \
         program got; in brackets the share of packets taken for lost, which is the link's loss and what the sender's own queue overflow and false alarms add.\n\n| RTT | loss |"
    );
    for control in OURS {
        let _ = write!(text, " stream flow, {control} |");
    }
    for control in KERNEL {
        let _ = write!(text, " kernel TCP, {control} |");
    }
    let _ = writeln!(text, " bbr3 / TCP bbr |\n|---|---|{}", "---|".repeat(OURS.len() + KERNEL.len() + 1));
    for round_trip in ROUND_TRIPS {
        for loss in LOSSES {
            println!("{round_trip} ms, {} %", loss * 100.0);
            stage.link(round_trip, loss)?;
            let row = format!("| {round_trip} ms | {} % | {} |", loss * 100.0, stage.row(rounds, seconds)?);
            println!("{row}");
            let _ = writeln!(text, "{row}");
        }
    }
    stage.link(40, 0.0)?;
    text += &stage.fairness(seconds.max(10.0))?;
    Ok(text)
}

impl Stage {
    fn up() -> Result<Self> {
        let lab = Lab::new()?;
        let [a, b] = lab.hosts(["a", "b"])?;
        let daemons = [a.irmd().start()?, b.irmd().start()?];
        a.bootstrap(&[("perf", &b)])?;
        b.bootstrap(&[])?;
        let server = b.start("operf", &["--listen", "perf", "--quiet"])?;
        let mut running = vec![b.await_server(server, "perf")?];
        let iperf3 = peers::installed("iperf3");
        if iperf3 {
            running.push(peers::iperf3_server(&b)?);
        }
        Ok(Self { a, b, iperf3, _running: running, _daemons: daemons, _lab: lab })
    }

    fn link(&self, round_trip: u64, loss: f64) -> Result<()> {
        let queue = usize::try_from(RATE / 8 * round_trip / 1000)?;
        let delay = Duration::from_millis(round_trip) / 2;
        let down = Link { delay, loss, rate: Some(RATE), queue, seed: 1, ..Link::CLEAN };
        // From a to b goes what is measured: down to b.
        self.b.link().set_each(Link { loss: 0.0, ..down }, down)
    }

    /// Each control in turn, and so each round: what the machine does meanwhile falls on all.
    fn row(&self, rounds: u32, seconds: f64) -> Result<String> {
        let mut ours = vec![Vec::new(); OURS.len()];
        let mut kernel = vec![Vec::new(); KERNEL.len()];
        for _ in 0..rounds {
            for (control, all) in OURS.into_iter().zip(&mut ours) {
                all.push(self.stream(control, seconds)?);
            }
            for (control, all) in KERNEL.into_iter().zip(&mut kernel).filter(|_| self.iperf3) {
                all.push(self.tcp(control, seconds)?);
            }
        }
        let ours: Vec<Transfer> = ours.iter().map(|all| Transfer::middle(all)).collect();
        let kernel: Vec<Option<f64>> = kernel.into_iter().map(|all| (!all.is_empty()).then(|| middle(all))).collect();
        let mut columns: Vec<String> = ours.iter().map(Transfer::text).collect();
        columns.extend(kernel.iter().map(|rate| rate.map_or("–".to_owned(), number)));
        let bbr = kernel.first().copied().flatten().zip(ours.first());
        columns.push(bbr.map_or("–".to_owned(), |(kernel, ours)| format!("{:.2}", ours.goodput / kernel)));
        Ok(columns.join(" | "))
    }

    fn stream(&self, control: &str, seconds: f64) -> Result<Transfer> {
        let seconds = seconds.to_string();
        Transfer::of_operf(&operf(&self.a, &words(control, &seconds))?)
    }

    fn tcp(&self, control: &str, seconds: f64) -> Result<f64> {
        again(|| goodput(self.iperf(control, seconds)?))
    }

    fn iperf(&self, control: &str, seconds: f64) -> Result<Running> {
        let (address, seconds) = (self.b.address().to_string(), seconds.ceil().to_string());
        let args = ["-c", &address, "-p", IPERF_PORT, "-C", control, "-t", &seconds, "--json"];
        self.a.start("iperf3", &args)
    }

    /// Two streams at once, and one beside a TCP with Cubic.
    fn fairness(&self, seconds: f64) -> Result<String> {
        let time = seconds.to_string();
        let mut text = format!(
            "\nTwo at once for {time} s, 40 ms, no random loss:\n\n| | first | second | |\n|---|---|---|---|\n"
        );
        for control in OURS {
            println!("two at once, {control}");
            let mut first = self.a.start("operf", &words(control, &time))?;
            let second = self.stream(control, seconds)?.goodput;
            let first = first.wait(STEP)?;
            let first =
                Transfer::of_operf(&serde_json::from_str(&first.out).context("operf printed no JSON")?)?.goodput;
            let jain = (first + second).powi(2) / (2.0 * (first.powi(2) + second.powi(2)));
            let _ =
                writeln!(text, "| two streams, {control} | {} | {} | Jain {jain:.2} |", number(first), number(second));
        }
        for control in OURS.into_iter().filter(|_| self.iperf3) {
            println!("beside TCP Cubic, {control}");
            let (ours, tcp) = again(|| {
                let tcp = self.iperf("cubic", seconds)?;
                Ok((self.stream(control, seconds)?.goodput, goodput(tcp)?))
            })?;
            let share = tcp / ((ours + tcp) / 2.0);
            let _ = writeln!(
                text,
                "| a stream, {control}, and TCP Cubic | {} | {} | TCP has {share:.2} of its fair share |",
                number(ours),
                number(tcp)
            );
        }
        Ok(text)
    }
}

fn words<'a>(control: &'a str, seconds: &'a str) -> [&'a str; 8] {
    ["perf", "--qos", "stream", "--congestion", control, "--json", "-t", seconds]
}

impl Transfer {
    fn of_operf(json: &Value) -> Result<Self> {
        let goodput =
            json["received_bits_per_second"].as_f64().with_context(|| format!("operf says no rate: {json}"))?;
        let count = |key: &str| json["path"][key].as_f64();
        let lost = count("packets_lost").zip(count("datagrams_sent")).map(|(lost, sent)| lost * 100.0 / sent.max(1.0));
        Ok(Self { goodput: goodput / 1e6, lost })
    }

    /// The medians of several.
    fn middle(all: &[Self]) -> Self {
        let lost: Vec<f64> = all.iter().filter_map(|transfer| transfer.lost).collect();
        Self {
            goodput: middle(all.iter().map(|transfer| transfer.goodput).collect()),
            lost: (!lost.is_empty()).then(|| middle(lost)),
        }
    }

    fn text(&self) -> String {
        let lost = self.lost.map_or(String::new(), |lost| format!(" ({lost:.1} %)"));
        format!("{}{lost}", number(self.goodput))
    }
}

/// On a bad link iperf3's control connection is reset now and then: that says nothing of the link.
fn again<T>(measure: impl Fn() -> Result<T>) -> Result<T> {
    const TIMES: usize = 3;
    for _ in 1..TIMES {
        match measure() {
            Ok(value) => return Ok(value),
            Err(error) => println!("once more, as {error:#}"),
        }
    }
    measure()
}

/// Mbit/s that iperf3's server got.
fn goodput(mut running: Running) -> Result<f64> {
    let output = running.wait(STEP)?;
    ensure!(output.code() == 0, "iperf3 ended with {}: {}", output.code(), output.out);
    received(&serde_json::from_str(&output.out)?).with_context(|| format!("iperf3 said: {}", output.out))
}

fn received(json: &Value) -> Option<f64> {
    Some(json["end"]["sum_received"]["bits_per_second"].as_f64()? / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tools_say_is_read() {
        let json =
            serde_json::json!({"received_bits_per_second": 8e7, "path": {"packets_lost": 20, "datagrams_sent": 1000}});
        assert_eq!(Transfer::of_operf(&json).unwrap().text(), "80.0 (2.0 %)");
        let json = serde_json::json!({"end": {"sum_received": {"bits_per_second": 5e7}}});
        assert_eq!(received(&json), Some(50.0));
    }
}
