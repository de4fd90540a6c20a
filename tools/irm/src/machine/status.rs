//! `irm status`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proto::v1;
use serde::Serialize;

use super::ipcp::{self, IpcpRow};
use super::text::{age, bytes, count, printable};

/// `irm status --json`.
#[derive(Debug, Serialize)]
pub struct StatusRow {
    version: u32,
    build: String,
    pid: u32,
    run_dir: String,
    uptime_ms: u64,
    names: u32,
    processes: u32,
    flows: u32,
    pending: u32,
    rss_bytes: u64,
    ipcps: Vec<IpcpRow>,
    /// What irmd refused, by quota or bound.
    counters: BTreeMap<String, u64>,
    flows_requested: u64,
    flows_allocated: u64,
    /// By the failure.
    refusals: BTreeMap<String, u64>,
    /// By the reason.
    ends: BTreeMap<String, u64>,
}

impl From<v1::StatusReply> for StatusRow {
    fn from(reply: v1::StatusReply) -> Self {
        Self {
            version: reply.version,
            build: reply.build,
            pid: reply.pid,
            run_dir: reply.run_dir,
            uptime_ms: reply.uptime_ms,
            names: reply.names,
            processes: reply.processes,
            flows: reply.flows,
            pending: reply.pending,
            rss_bytes: reply.rss_bytes,
            ipcps: reply.ipcps.into_iter().map(IpcpRow::from).collect(),
            counters: reply.counters.into_iter().collect(),
            flows_requested: reply.flows_requested,
            flows_allocated: reply.flows_allocated,
            refusals: reply.refusals.into_iter().collect(),
            ends: reply.ends.into_iter().collect(),
        }
    }
}

/// Three lines about irmd, what it refused, then its IPCPs.
pub fn text(status: &StatusRow) -> String {
    let mut text = format!(
        "irmd {} (pid {}) up {} in {}\n{}, {}, {} ({} pending)\n{} of memory\n",
        printable(&status.build),
        status.pid,
        age(status.uptime_ms),
        printable(&status.run_dir),
        count(status.names, "name", "names"),
        count(status.processes, "process", "processes"),
        count(status.flows, "flow", "flows"),
        status.pending,
        bytes(status.rss_bytes),
    );
    for (what, times) in &status.counters {
        writeln!(text, "{}: {times}", printable(what)).expect("a String grows");
    }
    if status.ipcps.is_empty() {
        text.push_str("no IPCPs; make one with `irm ipcp bootstrap --type udp --name udp0 --layer net --ip ADDRESS`\n");
    } else {
        text.push('\n');
        text.push_str(&ipcp::table(&status.ipcps));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply() -> v1::StatusReply {
        v1::StatusReply {
            version: 1,
            build: "0.1.0".into(),
            pid: 42,
            run_dir: "/run/flowring".into(),
            uptime_ms: 65_000,
            names: 1,
            processes: 2,
            flows: 0,
            pending: 0,
            rss_bytes: 8_000_000,
            ipcps: vec![],
            ..v1::StatusReply::default()
        }
    }

    #[test]
    fn status_as_text() {
        let want = "\
irmd 0.1.0 (pid 42) up 65 s in /run/flowring
1 name, 2 processes, no flows (0 pending)
8.0 MB of memory
no IPCPs; make one with `irm ipcp bootstrap --type udp --name udp0 --layer net --ip ADDRESS`
";
        assert_eq!(text(&StatusRow::from(reply())), want);
        let with = v1::StatusReply { ipcps: ipcp::tests::sample(), ..reply() };
        assert!(text(&StatusRow::from(with)).contains("\n\nNAME  TYPE"));
        let counters = [("refused_flows_per_user".to_owned(), 3)].into();
        let with = v1::StatusReply { counters, ..reply() };
        assert!(text(&StatusRow::from(with)).contains("memory\nrefused_flows_per_user: 3\nno IPCPs"));
    }

    #[test]
    fn status_as_json() {
        let want = r#"{"version":1,"build":"0.1.0","pid":42,"run_dir":"/run/flowring","uptime_ms":65000,"names":1,"processes":2,"flows":0,"pending":0,"rss_bytes":8000000,"ipcps":[],"counters":{},"flows_requested":0,"flows_allocated":0,"refusals":{},"ends":{}}"#;
        assert_eq!(serde_json::to_string(&StatusRow::from(reply())).unwrap(), want);
    }
}
