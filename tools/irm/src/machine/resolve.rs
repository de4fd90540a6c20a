//! Where a name was found, and what every source said.

use proto::v1::{self, ResolveOutcome};
use serde::Serialize;

use super::ipcp::given;
use super::table::{render, words};
use super::text::{age, or_dash, printable};

/// `irm name resolve --json`.
#[derive(Debug, Serialize)]
pub struct Resolved {
    name: String,
    found: bool,
    sources: Vec<StepRow>,
    /// Seconds since 1970, to say how long records last.
    #[serde(skip)]
    now: u64,
}

/// A source that was asked.
#[derive(Debug, Serialize)]
struct StepRow {
    source: String,
    layer: Option<String>,
    ipcp: Option<String>,
    outcome: &'static str,
    said: String,
    won: bool,
    hosts: Vec<HostRow>,
    domain: Option<String>,
    server: Option<String>,
    ttl_s: Option<u32>,
    cached: bool,
    records: Vec<String>,
}

/// A host that the source names.
#[derive(Debug, Serialize)]
struct HostRow {
    address: String,
    from: String,
    expires: Option<u64>,
    host: Option<String>,
    key: Option<String>,
    ignored: Option<String>,
}

impl Resolved {
    /// An answer that came at `now`, seconds since 1970.
    pub fn new(name: &str, reply: v1::NameResolveReply, now: u64) -> Self {
        let sources: Vec<StepRow> = reply.steps.into_iter().map(StepRow::from).collect();
        Self { name: name.to_owned(), found: sources.iter().any(|step| step.won), sources, now }
    }
}

impl From<v1::ResolveStep> for StepRow {
    fn from(step: v1::ResolveStep) -> Self {
        let outcome = match step.outcome() {
            ResolveOutcome::Found => "found",
            ResolveOutcome::Failed => "failed",
            ResolveOutcome::NotAsked => "not asked",
            ResolveOutcome::Unknown | ResolveOutcome::Unspecified => "unknown",
        };
        let kept = !step.records.is_empty() || step.ttl_s != 0;
        Self {
            source: step.source,
            layer: given(step.layer),
            ipcp: given(step.ipcp),
            outcome,
            said: step.said,
            won: step.won,
            hosts: step.hosts.into_iter().map(HostRow::from).collect(),
            domain: given(step.domain),
            server: given(step.server),
            ttl_s: kept.then_some(step.ttl_s),
            cached: step.cached,
            records: step.records,
        }
    }
}

impl From<v1::ResolvedHost> for HostRow {
    fn from(host: v1::ResolvedHost) -> Self {
        Self {
            address: host.address,
            from: host.from,
            expires: (host.expires != 0).then_some(host.expires),
            host: given(host.host),
            key: given(host.key),
            ignored: given(host.ignored),
        }
    }
}

/// The sources in the order of asking, and what follows for a flow.
pub fn text(resolved: &Resolved) -> String {
    let mut rows = Vec::new();
    for step in &resolved.sources {
        let layer = or_dash(step.layer.as_deref().unwrap_or_default());
        rows.push(vec![printable(&step.source), layer, step.outcome.to_owned(), said(step)]);
        let more = |line: String| vec![String::new(), String::new(), String::new(), format!("  {line}")];
        rows.extend(step.hosts.iter().map(|host| more(host_text(host, resolved.now))));
        rows.extend(step.records.iter().map(|record| more(format!("record: {}", printable(record)))));
    }
    let mut out = render(&[words("SOURCE"), words("LAYER"), words("OUTCOME"), words("SAID")], rows);
    out.push_str(&verdict(resolved));
    out
}

fn said(step: &StepRow) -> String {
    let mut out = printable(&step.said);
    if step.outcome == "failed" {
        return out;
    }
    if let (Some(domain), Some(server)) = (&step.domain, &step.server) {
        out = format!("{} at {}: {out}", printable(domain), printable(server));
    }
    if let Some(ttl) = step.ttl_s {
        let cached = if step.cached { ", kept for flows" } else { "" };
        out = format!("{out}; valid for {ttl} s{cached}");
    }
    out
}

fn host_text(host: &HostRow, now: u64) -> String {
    let mut out = format!("{} ({}", printable(&host.address), printable(&host.from));
    if let Some(id) = &host.host {
        out.push_str(&format!(", host {}", printable(id)));
    }
    if let Some(key) = &host.key {
        out.push_str(&format!(", key {}", printable(key)));
    }
    match host.expires {
        Some(expires) if expires > now => out.push_str(&format!(", lives {}", age((expires - now) * 1000))),
        Some(expires) => out.push_str(&format!(", void for {}", age((now - expires) * 1000))),
        None => {}
    }
    out.push(')');
    if let Some(why) = &host.ignored {
        out.push_str(&format!(", no flow goes there: {}", printable(why)));
    }
    out
}

fn verdict(resolved: &Resolved) -> String {
    let name = printable(&resolved.name);
    match resolved.sources.iter().find(|step| step.won) {
        None => format!("A flow to {name} goes nowhere: no source has a host for it.\n"),
        Some(step) if step.hosts.is_empty() => format!("A flow to {name} stays on this host.\n"),
        Some(step) => {
            let hosts: Vec<String> =
                step.hosts.iter().filter(|host| host.ignored.is_none()).map(|host| printable(&host.address)).collect();
            let layer = or_dash(step.layer.as_deref().unwrap_or_default());
            format!("A flow to {name} goes over {layer} to {}.\n", hosts.join(" or "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(source: &str, outcome: ResolveOutcome, said: &str) -> v1::ResolveStep {
        v1::ResolveStep { source: source.into(), outcome: outcome.into(), said: said.into(), ..Default::default() }
    }

    fn sample() -> Resolved {
        let host = |address: &str, expires, ignored: &str| v1::ResolvedHost {
            address: address.into(),
            from: "txt".into(),
            expires,
            host: "00000000000000ab".into(),
            ignored: ignored.into(),
            key: if ignored.is_empty() { "SHA256:abc".into() } else { String::new() },
        };
        let dns = v1::ResolveStep {
            layer: "net".into(),
            ipcp: "udp0".into(),
            won: true,
            hosts: vec![host("10.0.0.2:3359", 1_060, ""), host("10.0.0.3:3359", 990, "it is void")],
            domain: "echo.flows.test".into(),
            server: "10.0.0.53:53".into(),
            ttl_s: 42,
            records: vec!["echo.flows.test. 60 A 10.0.0.2\u{1b}".into()],
            ..step("dns", ResolveOutcome::Found, "1 of 2 hosts can be asked")
        };
        let steps = vec![step("bound", ResolveOutcome::Unknown, "the name does not exist on this host"), dns];
        Resolved::new("echo", v1::NameResolveReply { steps }, 1_000)
    }

    #[test]
    fn sources_as_text() {
        let want = "\
SOURCE  LAYER  OUTCOME  SAID
bound   -      unknown  the name does not exist on this host
dns     net    found    echo.flows.test at 10.0.0.53:53: 1 of 2 hosts can be asked; valid for 42 s
                          10.0.0.2:3359 (txt, host 00000000000000ab, key SHA256:abc, lives 60 s)
                          10.0.0.3:3359 (txt, host 00000000000000ab, void for 10 s), no flow goes there: it is void
                          record: echo.flows.test. 60 A 10.0.0.2\\u{1b}
A flow to echo goes over net to 10.0.0.2:3359.
";
        assert_eq!(text(&sample()), want);
        let nowhere = Resolved::new("echo", v1::NameResolveReply::default(), 0);
        assert!(text(&nowhere).ends_with("goes nowhere: no source has a host for it.\n"));
        let here = v1::ResolveStep { won: true, ..step("bound", ResolveOutcome::Found, "one process serves it") };
        let here = Resolved::new("echo", v1::NameResolveReply { steps: vec![here] }, 0);
        assert!(text(&here).ends_with("A flow to echo stays on this host.\n"));
    }

    #[test]
    fn sources_as_json() {
        let json = serde_json::to_value(sample()).unwrap();
        assert_eq!(json["found"], true);
        assert_eq!(json["sources"][0]["ttl_s"], serde_json::Value::Null);
        assert_eq!(json["sources"][1]["hosts"][0]["expires"], 1_060);
        assert_eq!(json["sources"][1]["hosts"][0]["key"], "SHA256:abc");
        assert_eq!(json["sources"][1]["hosts"][1]["key"], serde_json::Value::Null);
        assert_eq!(json["sources"][1]["hosts"][0]["ignored"], serde_json::Value::Null);
        assert_eq!(json["sources"][1]["ttl_s"], 42);
    }
}
