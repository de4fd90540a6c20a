//! `cargo xtask bench stripe`: tcpstripe over a long and lossy link and within a host, beside as many kernel TCP connections; the
//! tables go into docs/tcpstripe.md. Every TCP figure names its congestion control.

mod mptcp;
mod paths;

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lab::{Daemon, Host, Lab, Link, Running};
use serde_json::Value;

use crate::bench::page::Page;
use crate::bench::part::Part;
use crate::bench::place::made_by;
use crate::bench::report::number;
use crate::bench::transports::middle;
use crate::bench::{STEP, build, peers};

/// Where the tables stand.
const PAGE: Page = Page {
    file: "docs/tcpstripe.md",
    begin: "<!-- made by `cargo xtask bench stripe` -->\n",
    end: "<!-- end of what is made -->\n",
};

/// What can be measured for itself.
const PARTS: [&str; 3] = ["near", "lossy", "paths"];
/// Of the link.
const RATE: u64 = 100_000_000;
/// Round trip and loss from the sender.
const PATHS: [(u64, f64); 4] = [(20, 0.001), (40, 0.01), (100, 0.001), (100, 0.01)];
const TRACKS: [u16; 4] = [1, 2, 4, 8];
const IPERF_PORT: &str = "7101";

/// One way to carry bytes: over N flows, or N TCP connections, with a congestion control.
#[derive(Clone, Copy)]
enum Way {
    Kernel(&'static str),
    /// One connection with N subflows.
    Multipath(&'static str),
    Flows(&'static str),
    Tcp(&'static str),
}

const WAYS: [Way; 6] = [
    Way::Kernel("cubic"),
    Way::Multipath("cubic"),
    Way::Flows("cubic"),
    Way::Tcp("cubic"),
    Way::Kernel("bbr"),
    Way::Flows("bbr3"),
];

impl Way {
    fn text(self) -> String {
        match self {
            Self::Kernel(control) => format!("N kernel TCP, {control}"),
            Self::Multipath(control) => format!("MPTCP, N subflows, {control}"),
            Self::Flows(control) => format!("N flows, {control}"),
            Self::Tcp(control) => format!("N TCP tracks, {control}"),
        }
    }
}

/// Measures, and writes docs/tcpstripe.md unless `dry`.
pub(crate) fn run(rounds: u32, seconds: f64, dry: bool, part: Option<&str>) -> Result<()> {
    let part = Part::of(&PARTS, part)?;
    build()?;
    if let Err(refused) = lab::enter() {
        bail!("links need network namespaces, and there are none here: {refused}");
    }
    ensure!(peers::installed("iperf3"), "iperf3 is not installed; it makes and measures the load");
    let mut text = format!("\n{} medians of {rounds} transfers of {seconds} s.\n", made_by("stripe"));
    if part.has("near") || part.has("lossy") {
        let stage = Stage::up()?;
        if part.has("near") {
            text += &stage.near(rounds, seconds)?;
        }
        if part.has("lossy") {
            text += &stage.lossy(rounds, seconds)?;
        }
    }
    if part.has("paths") {
        text += &paths::two(rounds, seconds)?;
    }
    println!("{text}");
    if dry || !part.is_all() { Ok(()) } else { PAGE.write(&text) }
}

/// Two hosts with a link between them, and what serves.
struct Stage {
    a: Host,
    b: Host,
    _running: Vec<Running>,
    _daemons: [Daemon; 2],
    _lab: Lab,
}

impl Stage {
    fn up() -> Result<Self> {
        let lab = Lab::new()?;
        let [a, b] = lab.hosts(["a", "b"])?;
        let daemons = [a.irmd().start()?, b.irmd().start()?];
        let names = ["cubic", "bbr3"];
        a.bootstrap(&names.map(|name| (name, &b)))?;
        b.bootstrap(&[])?;
        let mut running = Vec::new();
        let target = format!("{}:{IPERF_PORT}", b.address());
        for control in names {
            let words = ["relay", "--accept", &format!("flow:{control}"), "--to", &target, "--congestion", control];
            running.push(ready(&b, &words)?);
        }
        let words = ["relay", "--accept", "tcp:0.0.0.0:9100", "--to", &target, "--congestion", "cubic"];
        running.push(ready(&b, &words)?);
        Ok(Self { a, b, _running: running, _daemons: daemons, _lab: lab })
    }

    fn lossy(&self, rounds: u32, seconds: f64) -> Result<String> {
        let mut text = "\n## Over a long and lossy link\n\n100 Mbit/s with a queue of one bandwidth-delay product, random loss one way (from the sender). Mbit/s that \
             the receiving program got.\n\n| RTT | loss | N |"
            .to_owned();
        let multipath = mptcp::there_is(&self.a)?;
        let ways: Vec<Way> = WAYS.into_iter().filter(|way| multipath || !matches!(way, Way::Multipath(_))).collect();
        for way in &ways {
            let _ = write!(text, " {} |", way.text());
        }
        let _ = writeln!(text, "\n|---|---|---|{}", "---|".repeat(ways.len()));
        for (round_trip, loss) in PATHS {
            let queue = usize::try_from(RATE / 8 * round_trip / 1000)?;
            let delay = Duration::from_millis(round_trip) / 2;
            let down = Link { delay, loss, rate: Some(RATE), queue, seed: 1, ..Link::CLEAN };
            self.b.link().set_each(Link { loss: 0.0, ..down }, down)?;
            for tracks in TRACKS {
                println!("{round_trip} ms, {} %, N = {tracks}", loss * 100.0);
                let mut columns = vec![Vec::new(); ways.len()];
                // Each way in turn, and so each round: what the machine does meanwhile falls on all.
                for _ in 0..rounds {
                    for (way, all) in ways.iter().zip(&mut columns) {
                        all.push(self.goodput(*way, tracks, seconds)?);
                    }
                }
                let columns: Vec<String> = columns.into_iter().map(|all| number(middle(all))).collect();
                let _ = writeln!(text, "| {round_trip} ms | {} % | {tracks} | {} |", loss * 100.0, columns.join(" | "));
            }
        }
        Ok(text)
    }

    fn goodput(&self, way: Way, tracks: u16, seconds: f64) -> Result<f64> {
        if let Way::Multipath(control) = way {
            return self.multipath(way, control, tracks, seconds);
        }
        let seconds = seconds.ceil().to_string();
        let n = tracks.to_string();
        let address = self.b.address().to_string();
        let (proxy, words) = match way {
            Way::Multipath(_) => unreachable!("it needs no iperf3"),
            Way::Kernel(control) => (None, vec!["-c", &address, "-p", IPERF_PORT, "-C", control, "-P", &n]),
            Way::Flows(control) => {
                (Some(self.proxy(&format!("flow:{control}"), &n, control)?), vec!["-c", "127.0.0.1", "-p", "9000"])
            }
            Way::Tcp(control) => {
                let to = format!("tcp:{address}:9100");
                (Some(self.proxy(&to, &n, control)?), vec!["-c", "127.0.0.1", "-p", "9000"])
            }
        };
        // One for each transfer: a server takes no other before it knows that the last one is over.
        let _server = peers::iperf3_server(&self.b)?;
        let json = iperf(&self.a, &[&words[..], &["-t", &seconds]].concat())?;
        drop(proxy);
        let rate = received(&json).with_context(|| format!("iperf3 said: {json}"))?;
        println!("  {}: {rate:.1} Mbit/s", way.text());
        Ok(rate)
    }

    fn multipath(&self, way: Way, control: &str, tracks: u16, seconds: f64) -> Result<f64> {
        mptcp::subflows(&self.a, &self.b, tracks)?;
        let before = mptcp::joined(&self.b)?;
        let rate = mptcp::goodput(&self.a, &self.b, control, seconds)?;
        let joined = mptcp::joined(&self.b)? - before;
        ensure!(joined + 1 == u64::from(tracks), "MPTCP made {} subflows of {tracks}", joined + 1);
        println!("  {}: {rate:.1} Mbit/s", way.text());
        Ok(rate)
    }

    fn proxy(&self, to: &str, n: &str, control: &str) -> Result<Running> {
        ready(&self.a, &["proxy", "--listen", "127.0.0.1:9000", "--to", to, "-n", n, "--congestion", control])
    }

    /// On loopback: what striping itself costs.
    fn near(&self, rounds: u32, seconds: f64) -> Result<String> {
        let mut text = "\n## Within a host\n\nOn loopback, where there is nothing to gain: what it costs. The control of all TCP connections is the kernel's default.\n\n\
             | | Gbit/s | of direct | CPU s/GB of proxy and relay |\n|---|---|---|---|\n"
            .to_owned();
        let address = self.b.address().to_string();
        let target = format!("{address}:{IPERF_PORT}");
        let ways = [
            ("4 TCP tracks", "tcp:127.0.0.1:9101", "tcp:127.0.0.1:9101", "u16"),
            ("4 TCP tracks, u32", "tcp:127.0.0.1:9101", "tcp:127.0.0.1:9101", "u32"),
            ("4 local flows", "flow:near", "flow:near", "u16"),
        ];
        let seconds = seconds.ceil().to_string();
        let mut direct = Vec::new();
        for (what, accept, to, framing) in ways {
            let (mut rates, mut ratios, mut costs) = (Vec::new(), Vec::new(), Vec::new());
            for round in 0..rounds {
                println!("{what}: round {} of {rounds}", round + 1);
                let server = peers::iperf3_server(&self.b)?;
                let bare = rate(&iperf(&self.b, &["-c", &address, "-p", IPERF_PORT, "-t", &seconds])?)?;
                drop(server);
                let _server = peers::iperf3_server(&self.b)?;
                let relay = ready(&self.b, &["relay", "--accept", accept, "--to", &target, "--framing", framing])?;
                let words = ["proxy", "--listen", "127.0.0.1:9000", "--to", to, "-n", "4", "--framing", framing];
                let proxy = ready(&self.b, &words)?;
                let json = iperf(&self.b, &["-c", "127.0.0.1", "-p", "9000", "-t", &seconds])?;
                let bytes = json["end"]["sum_received"]["bytes"].as_f64().context("iperf3 says no bytes")?;
                costs.push((cpu(&relay)? + cpu(&proxy)?) / (bytes / 1e9));
                let through = rate(&json)?;
                rates.push(through);
                ratios.push(through / bare);
                direct.push(bare);
            }
            let (rate, ratio, cost) = (middle(rates), middle(ratios), middle(costs));
            let _ = writeln!(text, "| {what} | {} | {ratio:.2} | {cost:.2} |", number(rate));
        }
        let _ = writeln!(text, "| direct | {} | 1 | |", number(middle(direct)));
        Ok(text)
    }
}

fn ready(at: &Host, words: &[&str]) -> Result<Running> {
    let running = at.start("tcpstripe", words)?;
    running.expect_line(STEP, "ready")?;
    Ok(running)
}

fn iperf(at: &Host, words: &[&str]) -> Result<Value> {
    let mut running = at.start("iperf3", &[words, &["--json"]].concat())?;
    let output = running.wait(STEP)?;
    ensure!(output.code() == 0, "iperf3 {} ended with {}: {}", words.join(" "), output.code(), output.out);
    serde_json::from_str(&output.out).context("iperf3 printed no JSON")
}

/// Mbit/s that the server got.
fn received(json: &Value) -> Option<f64> {
    Some(json["end"]["sum_received"]["bits_per_second"].as_f64()? / 1e6)
}

/// Gbit/s.
fn rate(json: &Value) -> Result<f64> {
    received(json).map(|rate| rate / 1e3).with_context(|| format!("iperf3 said: {json}"))
}

/// Seconds of processor time that a process has taken.
fn cpu(of: &Running) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", of.pid()))?;
    cpu_of(&stat).with_context(|| format!("/proc says {stat}"))
}

fn cpu_of(stat: &str) -> Option<f64> {
    // Behind the name, which may have blanks: the state is the third field, the times are 14 and 15, in hundredths.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_is_read() {
        let stat = "77 (tcp) stripe) S 1 77 77 0 -1 4194560 1 0 0 0 250 150 0 0 20 0 3 0";
        assert_eq!(cpu_of(stat), Some(4.0));
        let json = serde_json::json!({"end": {"sum_received": {"bits_per_second": 5e9}}});
        assert_eq!(rate(&json).unwrap(), 5.0);
    }
}
