//! iperf3 as a client, through whatever is between it and its server.

use anyhow::{Context as _, Result, ensure};
use lab::{Deadline, Host};
use serde_json::Value;

use crate::net::SOON;

/// Runs `iperf3 -c … --json` with these words at a host; the bytes that were received. A server that is still busy with the
/// measurement before is asked again.
pub fn received(host: &Host, words: &[&str]) -> Result<u64> {
    let deadline = Deadline::after(3 * SOON);
    loop {
        let measured = host.run("iperf3", &[words, &["--json"]].concat())?;
        let json: Value = serde_json::from_str(&measured.out).with_context(|| format!("iperf3 said {measured:?}"))?;
        let busy = json["error"].as_str().is_some_and(|error| error.contains("busy"));
        if busy && !deadline.is_past() {
            continue;
        }
        ensure!(measured.code() == 0, "iperf3 ended with {}: {}", measured.code(), json["error"]);
        let bytes = json["end"]["sum_received"]["bytes"].as_u64();
        return bytes.with_context(|| format!("iperf3 said {json}"));
    }
}
