//! Flows as a listing, and one flow in full.

use proto::v1;
use serde::Serialize;

use super::ipcp::given;
use super::name::ProcessRow;
use super::table::{Column, number, render, render_pairs, words};
use super::text::{age, bytes, cube, flow_state, or_dash, printable};

/// One flow in `irm flow list --json` and `irm flow show --json`.
#[derive(Debug, Serialize)]
pub struct FlowRow {
    id: u64,
    name: String,
    source_name: Option<String>,
    layer: String,
    ipcp: Option<String>,
    qos: QosRow,
    state: &'static str,
    side: &'static str,
    process: Option<ProcessRow>,
    peer_process: Option<ProcessRow>,
    local_address: Option<String>,
    peer_address: Option<String>,
    classic: bool,
    plaintext: bool,
    peer_identity: Option<String>,
    peer_certified: Option<String>,
    trusted_by: Option<String>,
    age_ms: u64,
    sdu_limit: u32,
    counters: Option<CountersRow>,
    peer_counters: Option<CountersRow>,
}

#[derive(Debug, Serialize)]
struct QosRow {
    cube: &'static str,
    timeout_ms: u32,
    keepalive_ms: u32,
}

#[derive(Debug, Serialize)]
struct CountersRow {
    sdus_sent: u64,
    bytes_sent: u64,
    sdus_received: u64,
    bytes_received: u64,
    send_errors: u64,
    receive_errors: u64,
}

impl From<v1::Counters> for CountersRow {
    fn from(c: v1::Counters) -> Self {
        Self {
            sdus_sent: c.sdus_sent,
            bytes_sent: c.bytes_sent,
            sdus_received: c.sdus_received,
            bytes_received: c.bytes_received,
            send_errors: c.send_errors,
            receive_errors: c.receive_errors,
        }
    }
}

impl From<v1::FlowInfo> for FlowRow {
    fn from(info: v1::FlowInfo) -> Self {
        let qos = info.qos.unwrap_or_default();
        let raw = matches!(qos.cube(), v1::Cube::Raw | v1::Cube::Unspecified);
        let plaintext = raw && !info.ipcp.is_empty();
        Self {
            state: flow_state(info.state()),
            id: info.flow_id,
            name: info.name,
            source_name: given(info.source_name),
            layer: info.layer,
            ipcp: given(info.ipcp),
            qos: QosRow { cube: cube(Some(&qos)), timeout_ms: qos.timeout_ms, keepalive_ms: qos.keepalive_ms },
            side: if info.accepting { "accepting" } else { "allocating" },
            process: ProcessRow::of(info.process),
            peer_process: ProcessRow::of(info.peer_process),
            local_address: given(info.local_address),
            peer_address: given(info.peer_address),
            classic: info.classic,
            plaintext,
            peer_identity: given(info.peer_identity),
            peer_certified: given(info.peer_certified),
            trusted_by: given(info.trusted_by),
            age_ms: info.age_ms,
            sdu_limit: info.sdu_limit,
            counters: info.counters.map(CountersRow::from),
            peer_counters: info.peer_counters.map(CountersRow::from),
        }
    }
}

const COLUMNS: [Column; 13] = [
    number("ID"),
    words("NAME"),
    words("QOS"),
    words("LAYER"),
    words("STATE"),
    words("SIDE"),
    words("PROCESS"),
    words("LOCAL"),
    words("PEER"),
    words("IDENTITY"),
    number("AGE"),
    number("SENT"),
    number("RECEIVED"),
];

/// The listing as a table.
pub fn table(rows: &[FlowRow]) -> String {
    render(&COLUMNS, rows.iter().map(cells))
}

fn process(row: Option<&ProcessRow>) -> String {
    row.map_or("-", ProcessRow::text).to_owned()
}

/// Who is at the other end: a process of this host, an address, and whether a shim of 2016 is there.
fn peer(row: &FlowRow) -> String {
    match (&row.peer_process, &row.peer_address) {
        (Some(process), _) => process.text().to_owned(),
        (None, Some(address)) if row.classic => format!("{} (classic)", printable(address)),
        (None, Some(address)) => printable(address),
        (None, None) => "-".to_owned(),
    }
}

/// What protects a flow whose peer has not shown who it is.
fn identity(row: &FlowRow) -> String {
    match (row.plaintext, &row.ipcp) {
        (true, _) => "plaintext".to_owned(),
        (false, Some(_)) => "not shown".to_owned(),
        (false, None) => "-".to_owned(),
    }
}

/// The beginning of a fingerprint, for a column; all of it is in `irm flow show`.
fn short(fingerprint: &str) -> String {
    let text = printable(fingerprint);
    match text.char_indices().nth(16) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Who the peer is, and why that is believed.
fn identity_text(row: &FlowRow) -> String {
    let Some(host) = &row.peer_identity else { return identity(row) };
    let name = row.peer_certified.as_deref().map(|name| format!(" as {}", printable(name))).unwrap_or_default();
    let by = row.trusted_by.as_deref().map(|by| format!(" (by {})", printable(by))).unwrap_or_default();
    format!("{}{name}{by}", printable(host))
}

fn carried(sdus: u64, octets: u64) -> String {
    format!("{sdus} ({})", bytes(octets))
}

fn cells(row: &FlowRow) -> Vec<String> {
    let counted = |f: fn(&CountersRow) -> String| row.counters.as_ref().map_or_else(|| "-".to_owned(), f);
    vec![
        row.id.to_string(),
        printable(&row.name),
        row.qos.cube.to_owned(),
        or_dash(&row.layer),
        row.state.to_owned(),
        row.side.to_owned(),
        process(row.process.as_ref()),
        or_dash(row.local_address.as_deref().unwrap_or_default()),
        peer(row),
        row.peer_identity.as_deref().map_or_else(|| identity(row), short),
        age(row.age_ms),
        counted(|c| carried(c.sdus_sent, c.bytes_sent)),
        counted(|c| carried(c.sdus_received, c.bytes_received)),
    ]
}

/// One flow, a line for each thing known of it.
pub fn details(row: &FlowRow) -> String {
    let mut pairs = vec![
        ("flow", row.id.to_string()),
        ("name", printable(&row.name)),
        ("source name", or_dash(row.source_name.as_deref().unwrap_or_default())),
        ("qos", qos_text(&row.qos)),
        ("layer", or_dash(&row.layer)),
        ("ipcp", or_dash(row.ipcp.as_deref().unwrap_or_default())),
        ("state", row.state.to_owned()),
        ("side", row.side.to_owned()),
        ("process", process(row.process.as_ref())),
        ("local", or_dash(row.local_address.as_deref().unwrap_or_default())),
        ("peer", peer(row)),
        ("identity", identity_text(row)),
        ("age", age(row.age_ms)),
        ("sdu limit", if row.sdu_limit == 0 { "-".to_owned() } else { format!("{} B", row.sdu_limit) }),
    ];
    if let Some(c) = &row.counters {
        pairs.push(("sent", counter_text(c.sdus_sent, c.bytes_sent, c.send_errors)));
        pairs.push(("received", counter_text(c.sdus_received, c.bytes_received, c.receive_errors)));
    }
    if let Some(c) = &row.peer_counters {
        pairs.push(("peer sent", counter_text(c.sdus_sent, c.bytes_sent, c.send_errors)));
        pairs.push(("peer received", counter_text(c.sdus_received, c.bytes_received, c.receive_errors)));
    }
    render_pairs(pairs)
}

fn qos_text(qos: &QosRow) -> String {
    let mut text = qos.cube.to_owned();
    if qos.timeout_ms != 0 {
        text.push_str(&format!(", timeout {} ms", qos.timeout_ms));
    }
    if qos.keepalive_ms != 0 {
        text.push_str(&format!(", keep-alive {} ms", qos.keepalive_ms));
    }
    text
}

fn counter_text(sdus: u64, octets: u64, errors: u64) -> String {
    format!("{sdus} SDUs, {octets} B, {errors} errors")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote() -> v1::FlowInfo {
        v1::FlowInfo {
            flow_id: 12,
            name: "echo".into(),
            source_name: "John Day".into(),
            layer: "net".into(),
            ipcp: "udp0".into(),
            state: v1::FlowState::Allocated.into(),
            accepting: true,
            process: Some(v1::Process { pid: 77, uid: 0, gid: 0, command: "oping".into() }),
            local_address: "10.0.0.1:40000".into(),
            peer_address: "10.0.0.2:40123".into(),
            classic: true,
            age_ms: 3_100,
            counters: Some(v1::Counters { sdus_sent: 4, bytes_sent: 256, ..Default::default() }),
            sdu_limit: 1_472,
            ..Default::default()
        }
    }

    fn local() -> v1::FlowInfo {
        v1::FlowInfo {
            flow_id: 9_999,
            name: "db".into(),
            layer: "local".into(),
            state: v1::FlowState::Pending.into(),
            process: Some(v1::Process { pid: 5, ..Default::default() }),
            peer_process: Some(v1::Process { pid: 6, command: "db".into(), ..Default::default() }),
            age_ms: 20,
            ..Default::default()
        }
    }

    #[test]
    fn flows_as_a_table() {
        let rows = [FlowRow::from(remote()), FlowRow::from(local())];
        let want = "  \
  ID  NAME  QOS  LAYER  STATE      SIDE        PROCESS     LOCAL           PEER                      IDENTITY     AGE       SENT  RECEIVED
  12  echo  raw  net    allocated  accepting   oping (77)  10.0.0.1:40000  10.0.0.2:40123 (classic)  plaintext    3 s  4 (256 B)   0 (0 B)
9999  db    raw  local  pending    allocating  5           -               db (6)                    -          20 ms          -         -
";
        assert_eq!(table(&rows), want);
    }

    #[test]
    fn one_flow_in_full() {
        let want = "\
flow         12
name         echo
source name  John Day
qos          raw
layer        net
ipcp         udp0
state        allocated
side         accepting
process      oping (77)
local        10.0.0.1:40000
peer         10.0.0.2:40123 (classic)
identity     plaintext
age          3 s
sdu limit    1472 B
sent         4 SDUs, 256 B, 0 errors
received     0 SDUs, 0 B, 0 errors
";
        assert_eq!(details(&FlowRow::from(remote())), want);
    }

    #[test]
    fn who_is_at_the_other_end_is_shown() {
        let qos = v1::QosSpec { cube: v1::Cube::Stream.into(), ..Default::default() };
        let strange = v1::FlowInfo { qos: Some(qos), classic: false, ..remote() };
        let known = v1::FlowInfo {
            peer_identity: "SHA256:LHDhK3oGRvkie/Qnx7OOczTY5Tg".into(),
            peer_certified: "db".into(),
            trusted_by: "first use".into(),
            ..strange.clone()
        };
        let table = table(&[known.clone().into(), strange.clone().into()]);
        assert!(table.contains(" SHA256:LHDhK3oGR… ") && table.contains(" not shown "), "{table}");
        let line = "identity     SHA256:LHDhK3oGRvkie/Qnx7OOczTY5Tg as db (by first use)\n";
        assert!(details(&known.into()).contains(line));
        let json = serde_json::to_value(FlowRow::from(strange)).unwrap();
        assert_eq!((&json["plaintext"], &json["peer_identity"]), (&false.into(), &serde_json::Value::Null));
    }

    #[test]
    fn flows_as_json() {
        let want = r#"{"id":12,"name":"echo","source_name":"John Day","layer":"net","ipcp":"udp0","qos":{"cube":"raw","timeout_ms":0,"keepalive_ms":0},"state":"allocated","side":"accepting","process":{"pid":77,"uid":0,"gid":0,"command":"oping"},"peer_process":null,"local_address":"10.0.0.1:40000","peer_address":"10.0.0.2:40123","classic":true,"plaintext":true,"peer_identity":null,"peer_certified":null,"trusted_by":null,"age_ms":3100,"sdu_limit":1472,"counters":{"sdus_sent":4,"bytes_sent":256,"sdus_received":0,"bytes_received":0,"send_errors":0,"receive_errors":0},"peer_counters":null}"#;
        assert_eq!(serde_json::to_string(&FlowRow::from(remote())).unwrap(), want);
    }
}
