//! IPCPs as a listing.

use std::collections::BTreeMap;

use proto::v1;
use serde::Serialize;

use super::host::{self, HostRow};
use super::table::{Column, number, render, words};
use super::text::{bytes, ipcp_state, or_dash, printable};

/// One IPCP in `irm ipcp list --json`.
#[derive(Debug, Serialize)]
pub struct IpcpRow {
    name: String,
    r#type: String,
    layer: Option<String>,
    state: &'static str,
    pid: Option<u32>,
    address: Option<String>,
    flows: u32,
    restarts: u32,
    restart: bool,
    last_end: Option<String>,
    rss_bytes: u64,
    counters: BTreeMap<String, u64>,
    session: Option<String>,
    router_maps: Option<String>,
    config: Option<UdpRow>,
}

#[derive(Debug, Serialize)]
struct UdpRow {
    ip: String,
    port: u32,
    sp_first: Option<u32>,
    sp_last: Option<u32>,
    sp_listen: bool,
    echo: &'static str,
    hosts: Vec<HostRow>,
    dns_zone: Option<String>,
    dns_servers: Vec<String>,
    dns_key: Option<String>,
    dns_lifetime_s: Option<u32>,
    dns_ttl_s: Option<u32>,
    rendezvous: Option<String>,
    session: Option<String>,
    session_key: Option<String>,
    punch: Option<&'static str>,
    map_ports: bool,
}

impl From<v1::UdpConfig> for UdpRow {
    fn from(config: v1::UdpConfig) -> Self {
        let set = |number: u32| (number != 0).then_some(number);
        let echo = match config.echo() {
            v1::EchoMoment::OnArrival => "on-arrival",
            v1::EchoMoment::Unspecified | v1::EchoMoment::OnAccept => "on-accept",
        };
        let punch = match config.punch() {
            v1::Punch::Unspecified => None,
            v1::Punch::Plain => Some("plain"),
            v1::Punch::Predict => Some("predict"),
            v1::Punch::Search => Some("search"),
        };
        Self {
            port: set(config.port).unwrap_or(3359),
            sp_first: set(config.sp_first),
            sp_last: set(config.sp_last),
            sp_listen: config.sp_listen,
            echo,
            hosts: host::rows(&config),
            dns_lifetime_s: set(config.dns_lifetime_s),
            dns_ttl_s: set(config.dns_ttl_s),
            dns_zone: given(config.dns_zone),
            dns_servers: config.dns_servers,
            dns_key: given(config.dns_key_file),
            rendezvous: given(config.rendezvous),
            session: given(config.session),
            session_key: given(config.session_key_file),
            punch,
            map_ports: config.map_ports,
            ip: config.ip,
        }
    }
}

/// `None` for empty text: JSON says `null`.
pub(super) fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

impl From<v1::IpcpInfo> for IpcpRow {
    fn from(info: v1::IpcpInfo) -> Self {
        Self {
            state: ipcp_state(info.state()),
            name: info.name,
            r#type: info.r#type,
            layer: given(info.layer),
            pid: (info.pid != 0).then_some(info.pid),
            address: given(info.address),
            flows: info.flows,
            restarts: info.restarts,
            restart: info.restart,
            last_end: given(info.last_end),
            rss_bytes: info.rss_bytes,
            counters: info.counters.into_iter().collect(),
            session: given(info.session),
            router_maps: given(info.router_maps),
            config: info.config.map(UdpRow::from),
        }
    }
}

const COLUMNS: [Column; 10] = [
    words("NAME"),
    words("TYPE"),
    words("LAYER"),
    words("STATE"),
    words("ADDRESS"),
    number("PID"),
    number("FLOWS"),
    number("RESTARTS"),
    number("DROPPED"),
    number("MEMORY"),
];

/// The listing as a table.
pub fn table(rows: &[IpcpRow]) -> String {
    render(&COLUMNS, rows.iter().map(cells))
}

fn cells(row: &IpcpRow) -> Vec<String> {
    let state = match &row.last_end {
        Some(end) if row.state == "down" => format!("down: {}", printable(end)),
        _ => row.state.to_owned(),
    };
    // The rest counts what went well.
    let bad = |(reason, _): &(&String, &u64)| reason.starts_with("dropped_") || reason.starts_with("refused_");
    let dropped = row.counters.iter().filter(bad).fold(0u64, |sum, (_, n)| sum.saturating_add(*n));
    vec![
        printable(&row.name),
        printable(&row.r#type),
        or_dash(row.layer.as_deref().unwrap_or_default()),
        state,
        or_dash(row.address.as_deref().unwrap_or_default()),
        row.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
        row.flows.to_string(),
        row.restarts.to_string(),
        dropped.to_string(),
        if row.rss_bytes == 0 { "-".to_owned() } else { bytes(row.rss_bytes) },
    ]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::machine) fn sample() -> Vec<v1::IpcpInfo> {
        let config = v1::UdpConfig {
            ip: "10.0.0.1".into(),
            hosts: vec![v1::StaticHost { name: "echo".into(), address: "10.0.0.2".into() }],
            echo: v1::EchoMoment::OnArrival.into(),
            ..Default::default()
        };
        let up = v1::IpcpInfo {
            name: "udp0".into(),
            r#type: "udp".into(),
            layer: "net".into(),
            state: v1::IpcpState::Operational.into(),
            pid: 4711,
            address: "10.0.0.1:3359".into(),
            flows: 2,
            restart: true,
            rss_bytes: 7_340_032,
            counters: [("dropped_late".to_owned(), 3), ("refused_exhausted".to_owned(), 4), ("requests".to_owned(), 9)]
                .into(),
            config: Some(config),
            ..Default::default()
        };
        let down = v1::IpcpInfo {
            name: "udp1".into(),
            r#type: "udp".into(),
            state: v1::IpcpState::Down.into(),
            restarts: 5,
            last_end: "killed by signal 9".into(),
            ..Default::default()
        };
        vec![up, down]
    }

    #[test]
    fn ipcps_as_a_table() {
        let rows: Vec<IpcpRow> = sample().into_iter().map(IpcpRow::from).collect();
        let want = "\
NAME  TYPE  LAYER  STATE                     ADDRESS         PID  FLOWS  RESTARTS  DROPPED  MEMORY
udp0  udp   net    operational               10.0.0.1:3359  4711      2         0        7  7.3 MB
udp1  udp   -      down: killed by signal 9  -                 -      0         5        0       -
";
        assert_eq!(table(&rows), want);
    }

    #[test]
    fn ipcps_as_json() {
        let row = IpcpRow::from(sample().remove(0));
        let want = r#"{"name":"udp0","type":"udp","layer":"net","state":"operational","pid":4711,"address":"10.0.0.1:3359","flows":2,"restarts":0,"restart":true,"last_end":null,"rss_bytes":7340032,"counters":{"dropped_late":3,"refused_exhausted":4,"requests":9},"session":null,"router_maps":null,"config":{"ip":"10.0.0.1","port":3359,"sp_first":null,"sp_last":null,"sp_listen":false,"echo":"on-arrival","hosts":[{"name":"echo","address":"10.0.0.2"}],"dns_zone":null,"dns_servers":[],"dns_key":null,"dns_lifetime_s":null,"dns_ttl_s":null,"rendezvous":null,"session":null,"session_key":null,"punch":null,"map_ports":false}}"#;
        assert_eq!(serde_json::to_string(&row).unwrap(), want);
    }
}
