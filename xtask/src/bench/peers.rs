//! The usual tools for the same jobs, measured in the same round: sockperf for round trips, iperf3 for datagrams.

use anyhow::{Context as _, Result, ensure};
use lab::{Host, Running};
use serde_json::Value;

use crate::bench::STEP;

/// sockperf's port, and iperf3's.
const PORTS: [&str; 2] = ["7100", "7101"];

/// Whether a program is installed; says so if it is not.
pub(crate) fn installed(program: &str) -> bool {
    let there = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()));
    if !there {
        println!("{program} is not installed: its rows are left out");
    }
    there
}

/// A sockperf that answers at `host` until it is dropped.
pub(crate) fn sockperf_server(host: &Host) -> Result<Running> {
    let server = host.start("sockperf", &["server", "-i", &host.address().to_string(), "-p", PORTS[0]])?;
    server.expect_line(STEP, "using recvfrom")?;
    Ok(server)
}

/// Median round trip of 64 B by sockperf, µs.
pub(crate) fn sockperf(from: &Host, to: &Host, seconds: &str) -> Result<f64> {
    let seconds = whole(seconds)?;
    let address = to.address().to_string();
    let args = ["ping-pong", "-i", &address, "-p", PORTS[0], "-m", "64", "-t", &seconds];
    let mut running = from.start("sockperf", &args)?;
    let output = running.wait(STEP)?;
    half_of_round_trip(&output.out).map(|half| half * 2.0).with_context(|| format!("sockperf said: {}", output.out))
}

/// sockperf halves what it measures.
fn half_of_round_trip(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.contains("percentile 50.000"))?;
    line.split('=').nth(1)?.trim().parse().ok()
}

/// An iperf3 that answers at `host` until it is dropped.
pub(crate) fn iperf3_server(host: &Host) -> Result<Running> {
    let args = ["-s", "-B", &host.address().to_string(), "-p", PORTS[1], "--forceflush"];
    let server = host.start("iperf3", &args)?;
    server.expect_line(STEP, "Server listening")?;
    Ok(server)
}

/// Datagrams of 1,400 B that arrived, per second.
pub(crate) fn iperf3(from: &Host, to: &Host, seconds: &str) -> Result<f64> {
    let seconds = whole(seconds)?;
    let address = to.address().to_string();
    let args = ["-c", &address, "-p", PORTS[1], "-u", "-b", "0", "-l", "1400", "-t", &seconds, "--json"];
    let mut running = from.start("iperf3", &args)?;
    let output = running.wait(STEP)?;
    ensure!(output.code() == 0, "iperf3 ended with {}: {}", output.code(), output.out);
    arrived(&serde_json::from_str(&output.out)?).with_context(|| format!("iperf3 said: {}", output.out))
}

fn arrived(json: &Value) -> Option<f64> {
    let sum = &json["end"]["sum"];
    Some((sum["packets"].as_f64()? - sum["lost_packets"].as_f64()?) / sum["seconds"].as_f64()?)
}

/// Both tools count in whole seconds.
fn whole(seconds: &str) -> Result<String> {
    Ok(seconds.parse::<f64>()?.ceil().max(1.0).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tools_say_is_read() {
        assert_eq!(half_of_round_trip("x\nsockperf: ---> percentile 50.000 =    2.860\n"), Some(2.86));
        let json = serde_json::json!({"end": {"sum": {"packets": 1100, "lost_packets": 100, "seconds": 2.0}}});
        assert_eq!(arrived(&json), Some(500.0));
        assert_eq!(whole("0.5").unwrap(), "1");
    }
}
