//! What flows between hosts cost on loopback beside TCP, TCP with TLS and the bare QUIC library: by one program,
//! `transport-bench`, in turns.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::bench::report::number;

const CARRIERS: [(&str, &str, &[&str]); 6] = [
    ("kernel TCP", "tcp", &[]),
    ("TCP with TLS 1.3 (rustls)", "tls", &[]),
    ("noq on a socket of its own, Cubic", "bare", &["--congestion", "cubic"]),
    ("a stream flow, Cubic", "flow", &["--congestion", "cubic"]),
    ("noq on a socket of its own, BBRv3", "bare", &["--congestion", "bbr3"]),
    ("a stream flow, BBRv3", "flow", &["--congestion", "bbr3"]),
];

/// The tables.
pub(crate) fn measure(rounds: u32) -> Result<String> {
    let mut text = "\n## Beside what they are made of\n\nBoth ends in one process, a thread each, 127.0.0.1. Ratios within a round, of which the median counts, to the library on a socket \
         of its own with the same congestion control.\n\n| one stream | Gbit/s | × the library | CPU s/GB, both ends | × the library |\n|---|---|---|---|---|\n"
        .to_owned();
    let mut streams: Vec<Vec<(f64, f64)>> = vec![Vec::new(); CARRIERS.len()];
    let mut handshakes: Vec<Vec<(f64, f64)>> = vec![Vec::new(); 4];
    let (mut all, mut some) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        println!("transports: round {} of {rounds}", round + 1);
        for ((_, carrier, more), values) in CARRIERS.iter().zip(&mut streams) {
            let json = run(&[&["stream", carrier, "--megabytes", "1000"], *more].concat())?;
            values.push((value(&json, "gbit_s")?, value(&json, "cpu_s_per_gb")?));
        }
        for (carrier, values) in ["tcp", "tls", "bare", "flow"].iter().zip(&mut handshakes) {
            let json = run(&["handshake", carrier, "--count", "300"])?;
            values.push((value(&json, "p50_us")?, value(&json, "cpu_us")?));
        }
        all.push(value(&run(&["stalled", "--stalled", "0"])?, "gbit_s")?);
        some.push(value(&run(&["stalled", "--stalled", "100"])?, "gbit_s")?);
    }
    for (at, (what, carrier, _)) in CARRIERS.iter().enumerate() {
        let (rate, cpu) = (pick(&streams[at], |v| v.0), pick(&streams[at], |v| v.1));
        let beside = |figure: fn(&(f64, f64)) -> f64| {
            let ratios =
                streams[at].iter().zip(&streams[at.saturating_sub(1)]).map(|(ours, bare)| figure(ours) / figure(bare));
            if *carrier == "flow" { format!("**{}**", number(middle(ratios.collect()))) } else { String::new() }
        };
        let _ = writeln!(
            text,
            "| {what} | {} | {} | {} | {} |",
            number(rate),
            beside(|v| v.0),
            number(cpu),
            beside(|v| v.1)
        );
    }
    text += "\n| from a socket to a byte and back | p50 µs | CPU µs, both ends |\n|---|---|---|\n";
    let names = ["kernel TCP", "TCP with TLS 1.3", "noq on a socket of its own", "a stream flow, with identities"];
    for (what, values) in names.iter().zip(&handshakes) {
        let _ = writeln!(text, "| {what} | {} | {} |", number(pick(values, |v| v.0)), number(pick(values, |v| v.1)));
    }
    let idle = value(&run(&["idle"])?, "bytes_per_end")? / 1024.0;
    let shares = some.iter().zip(&all).map(|(some, all)| some / all).collect();
    let _ = write!(
        text,
        "\nAn idle flow takes **{} KiB** at each end, in the program. Of 1,000 streams of one flow 100 are written to and not read: the others get\n\
         **{}** of the rate they have without them.\n",
        number(idle),
        number(middle(shares))
    );
    Ok(text)
}

fn run(words: &[&str]) -> Result<Value> {
    let program = lab::binaries::folder().context("prepared")?.join("examples/transport-bench");
    let output = Command::new(&program).args(words).output().with_context(|| program.display().to_string())?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "transport-bench {}: {err}", words.join(" "));
    serde_json::from_str(out.trim()).with_context(|| format!("transport-bench {} printed {out}", words.join(" ")))
}

fn value(json: &Value, key: &str) -> Result<f64> {
    json[key].as_f64().with_context(|| format!("transport-bench says no {key}: {json}"))
}

fn pick(values: &[(f64, f64)], figure: fn(&(f64, f64)) -> f64) -> f64 {
    middle(values.iter().map(figure).collect())
}

/// The median.
pub(crate) fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
