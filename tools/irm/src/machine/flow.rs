//! Flows as a listing, and one flow in full.

use proto::v1;
use serde::Serialize;

use super::ipcp::given;
use super::name::ProcessRow;
use super::table::{Column, left_out, number, render, render_pairs, words};
use super::text::{age, bytes, cube, flow_state, or_dash, printable};

/// One flow in `irm flow list --json` and `irm flow show --json`.
#[derive(Debug, Serialize)]
pub struct FlowRow {
    /// Its id.
    pub id: u64,
    pub(super) name: String,
    source_name: Option<String>,
    pub(super) layer: String,
    ipcp: Option<String>,
    qos: QosRow,
    pub(super) state: &'static str,
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
    pub(super) age_ms: u64,
    sdu_limit: u32,
    counters: Option<CountersRow>,
    peer_counters: Option<CountersRow>,
    encrypted: bool,
    pub(super) idle_ms: Option<u64>,
    sent_ms_ago: Option<u64>,
    received_ms_ago: Option<u64>,
    rates: Option<RatesRow>,
    socket: Option<SocketRow>,
    peer_socket: Option<SocketRow>,
    path: Option<PathRow>,
    asked: u32,
    way: Option<String>,
    ended: Option<EndRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    history: Vec<StepRow>,
}

/// What moved per second since the reading before.
#[derive(Debug, Serialize)]
struct RatesRow {
    sdus_sent: u64,
    bytes_sent: u64,
    sdus_received: u64,
    bytes_received: u64,
}

#[derive(Debug, Serialize)]
struct SocketRow {
    receive_queue: u64,
    receive_buffer: u64,
    send_queue: u64,
    send_buffer: u64,
    drops: u64,
}

#[derive(Debug, Serialize)]
struct PathRow {
    rtt_us: u64,
    congestion_window: u64,
    sent_packets: u64,
    lost_packets: u64,
    sent_bytes: u64,
    received_bytes: u64,
    mtu: u32,
    ms_ago: u64,
}

#[derive(Debug, Serialize)]
struct EndRow {
    ms_ago: u64,
    reason: Option<&'static str>,
    failure: Option<&'static str>,
    words: Option<String>,
}

#[derive(Debug, Serialize)]
struct StepRow {
    kind: &'static str,
    ms_ago: u64,
    what: String,
    why: Option<String>,
}

impl From<v1::SocketInfo> for SocketRow {
    fn from(info: v1::SocketInfo) -> Self {
        let v1::SocketInfo { receive_queue, receive_buffer, send_queue, send_buffer, drops } = info;
        Self { receive_queue, receive_buffer, send_queue, send_buffer, drops }
    }
}

impl From<v1::PathInfo> for PathRow {
    fn from(p: v1::PathInfo) -> Self {
        Self {
            rtt_us: p.rtt_us,
            congestion_window: p.congestion_window,
            sent_packets: p.sent_packets,
            lost_packets: p.lost_packets,
            sent_bytes: p.sent_bytes,
            received_bytes: p.received_bytes,
            mtu: p.mtu,
            ms_ago: p.ms_ago,
        }
    }
}

impl From<v1::FlowStep> for StepRow {
    fn from(step: v1::FlowStep) -> Self {
        Self { kind: step.kind().word(), ms_ago: step.ms_ago, what: step.what, why: given(step.why) }
    }
}

impl EndRow {
    fn of(info: &v1::FlowInfo) -> Option<Self> {
        let (reason, failure) = (info.ended(), info.failure());
        (info.state() == v1::FlowState::Ended).then(|| Self {
            ms_ago: info.ended_ms_ago,
            reason: (reason != v1::EndReason::Unspecified).then(|| reason.word()),
            failure: (failure != v1::FailureKind::Unspecified).then(|| failure.word()),
            words: given(info.words.clone()),
        })
    }
}

/// What a flow had carried when it was how old.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    age_ms: u64,
    counted: [u64; 4],
}

impl FlowRow {
    /// SDUs both ways.
    pub(super) fn sdus(&self) -> u64 {
        self.counters.as_ref().map_or(0, |c| c.sdus_sent.saturating_add(c.sdus_received))
    }

    /// Bytes both ways.
    pub(super) fn bytes(&self) -> u64 {
        self.counters.as_ref().map_or(0, |c| c.bytes_sent.saturating_add(c.bytes_received))
    }

    /// Bytes a second both ways.
    pub(super) fn rate(&self) -> u64 {
        self.rates.as_ref().map_or(0, |r| r.bytes_sent.saturating_add(r.bytes_received))
    }

    /// All that did not arrive, as far as this host knows.
    pub(super) fn lost(&self) -> u64 {
        let drops = [&self.socket, &self.peer_socket].into_iter().flatten().map(|socket| socket.drops);
        let errors = [&self.counters, &self.peer_counters].into_iter().flatten();
        let errors = errors.map(|c| c.send_errors.saturating_add(c.receive_errors));
        let packets = self.path.iter().map(|path| path.lost_packets);
        drops.chain(errors).chain(packets).fold(0, u64::saturating_add)
    }

    /// Smoothed round trip time, µs; 0: not known.
    pub(super) fn rtt_us(&self) -> u64 {
        self.path.as_ref().map_or(0, |path| path.rtt_us)
    }

    /// Whether a process is at one of its ends here.
    pub(super) fn is_of(&self, pid: u32) -> bool {
        [&self.process, &self.peer_process].into_iter().flatten().any(|process| process.pid() == pid)
    }

    /// Sets the rates since an earlier reading; gives this one.
    pub fn rated(&mut self, before: Option<&Reading>) -> Option<Reading> {
        let c = self.counters.as_ref()?;
        let now =
            Reading { age_ms: self.age_ms, counted: [c.sdus_sent, c.bytes_sent, c.sdus_received, c.bytes_received] };
        let passed = before.map(|before| now.age_ms.saturating_sub(before.age_ms)).filter(|ms| *ms > 0);
        if let (Some(before), Some(ms)) = (before, passed) {
            let rate = |i: usize| {
                let moved = u128::from(now.counted[i].saturating_sub(before.counted[i]));
                u64::try_from(moved * 1_000 / u128::from(ms)).unwrap_or(u64::MAX)
            };
            let [sdus_sent, bytes_sent, sdus_received, bytes_received] = [rate(0), rate(1), rate(2), rate(3)];
            self.rates = Some(RatesRow { sdus_sent, bytes_sent, sdus_received, bytes_received });
        }
        Some(now)
    }
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
        let ended = EndRow::of(&info);
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
            encrypted: info.encrypted,
            idle_ms: info.idle_ms,
            sent_ms_ago: info.sent_ms_ago,
            received_ms_ago: info.received_ms_ago,
            rates: None,
            socket: info.socket.map(SocketRow::from),
            peer_socket: info.peer_socket.map(SocketRow::from),
            path: info.path.map(PathRow::from),
            asked: info.asked,
            way: given(info.way),
            ended,
            history: info.history.into_iter().map(StepRow::from).collect(),
        }
    }
}

const COLUMNS: [Column; 16] = [
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
    number("IDLE"),
    number("SENT"),
    number("RECEIVED"),
    number("DROPS"),
    number("RTT"),
];

/// Two more columns where rates are known.
const RATES: [Column; 2] = [number("SENT/S"), number("RECEIVED/S")];

/// What a narrow terminal does without, the first first. `irm flow show` tells it all.
const EXPENDABLE: [&str; 10] = ["SIDE", "LOCAL", "IDENTITY", "IDLE", "LAYER", "STATE", "RTT", "DROPS", "AGE", "PEER"];

/// The listing as a table, within so many characters if it can be, and the columns that were left out for that.
pub fn table(rows: &[FlowRow], width: Option<usize>) -> (String, Vec<&'static str>) {
    let mut columns = COLUMNS.to_vec();
    let mut all: Vec<Vec<String>> = rows.iter().map(cells).collect();
    if rows.iter().any(|row| row.rates.is_some()) {
        columns.extend(RATES);
        for (cells, row) in all.iter_mut().zip(rows) {
            let rate =
                |octets: Option<u64>| octets.map_or_else(|| "-".to_owned(), |octets| format!("{}/s", bytes(octets)));
            let rates = row.rates.as_ref();
            cells.extend([rate(rates.map(|r| r.bytes_sent)), rate(rates.map(|r| r.bytes_received))]);
        }
    }
    let out = width.map_or_else(Vec::new, |width| left_out(&columns, &all, &EXPENDABLE, width));
    let kept: Vec<bool> = columns.iter().map(|column| !out.contains(&column.head)).collect();
    let keep = |index: usize| kept.get(index).copied().unwrap_or(true);
    let columns: Vec<Column> = columns.into_iter().enumerate().filter(|(i, _)| keep(*i)).map(|(_, c)| c).collect();
    let rows =
        all.into_iter().map(|row| row.into_iter().enumerate().filter(|(i, _)| keep(*i)).map(|(_, c)| c).collect());
    (render(&columns, rows), out)
}

fn process(row: Option<&ProcessRow>) -> String {
    row.map_or("-", ProcessRow::text).to_owned()
}

/// Who is at the other end: a process of this host, an address, and whether a shim of 2016 is there.
fn peer(row: &FlowRow) -> String {
    match (&row.peer_process, &row.peer_address) {
        (Some(process), _) => process.text().to_owned(),
        (None, Some(address)) if row.classic => format!("{} (classic)", printable(address)),
        (None, Some(address)) => match &row.way {
            Some(way) => format!("{} ({})", printable(address), printable(way)),
            None => printable(address),
        },
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
        row.idle_ms.map_or_else(|| "-".to_owned(), age),
        counted(|c| carried(c.sdus_sent, c.bytes_sent)),
        counted(|c| carried(c.sdus_received, c.bytes_received)),
        if row.socket.is_none() && row.counters.is_none() { "-".to_owned() } else { row.lost().to_string() },
        row.path.as_ref().map_or_else(|| "-".to_owned(), |path| rtt(path.rtt_us)),
    ]
}

fn rtt(us: u64) -> String {
    if us < 10_000 { format!("{us} µs") } else { format!("{} ms", us / 1_000) }
}

fn queue(row: &SocketRow) -> String {
    format!(
        "{} of {} B to read, {} of {} B to send, {} dropped",
        row.receive_queue, row.receive_buffer, row.send_queue, row.send_buffer, row.drops
    )
}

/// How a flow ended, and what happened to it.
fn past(row: &FlowRow, pairs: &mut Vec<(&'static str, String)>) {
    if let Some(end) = &row.ended {
        let why = end.reason.or(end.failure).unwrap_or("unknown").replace('_', " ");
        let words = end.words.as_deref().map(|words| format!(": {}", printable(words))).unwrap_or_default();
        pairs.push(("ended", format!("{} ago, {why}{words}", age(end.ms_ago))));
    }
    for (index, step) in row.history.iter().enumerate() {
        let why = step.why.as_deref().map(|why| format!(": {}", printable(why))).unwrap_or_default();
        let head = if index == 0 { "history" } else { "" };
        pairs.push((head, format!("{} ago {}{why}", age(step.ms_ago), printable(&step.what))));
    }
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
    if let Some(idle) = row.idle_ms {
        pairs.push(("idle", age(idle)));
    }
    for (head, socket) in [("socket", &row.socket), ("peer socket", &row.peer_socket)] {
        pairs.extend(socket.as_ref().map(|socket| (head, queue(socket))));
    }
    if let Some(path) = &row.path {
        let text = format!(
            "rtt {}, window {}, {} of {} packets lost, {} B of payload ({} ago)",
            rtt(path.rtt_us),
            bytes(path.congestion_window),
            path.lost_packets,
            path.sent_packets,
            path.mtu,
            age(path.ms_ago)
        );
        pairs.push(("path", text));
    }
    pairs.extend(row.way.as_deref().map(|way| ("way", way_text(way))));
    past(row, &mut pairs);
    render_pairs(pairs)
}

/// How a flow goes whose hosts a rendezvous introduced.
fn way_text(way: &str) -> String {
    match way {
        "local" => "direct, at the peer's local address".to_owned(),
        "public" => "direct, at the peer's public address".to_owned(),
        "mapped" => "direct, at an address that the peer's NAT made for it".to_owned(),
        "predicted" => "direct, at a port that the peer's NAT was expected to give next".to_owned(),
        "relayed" => "through the rendezvous' relay".to_owned(),
        other => printable(other),
    }
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
#[path = "flow_tests.rs"]
mod tests;
