//! Tables, details and JSON of flows.

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
  ID  NAME  QOS  LAYER  STATE      SIDE        PROCESS     LOCAL           PEER                      IDENTITY     AGE  IDLE       SENT  RECEIVED  DROPS  RTT
  12  echo  raw  net    allocated  accepting   oping (77)  10.0.0.1:40000  10.0.0.2:40123 (classic)  plaintext    3 s     -  4 (256 B)   0 (0 B)      0    -
9999  db    raw  local  pending    allocating  5           -               db (6)                    -          20 ms     -          -         -      -    -
";
    assert_eq!(table(&rows, None).0, want);
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
    let table = table(&[known.clone().into(), strange.clone().into()], None).0;
    assert!(table.contains(" SHA256:LHDhK3oGR… ") && table.contains(" not shown "), "{table}");
    let line = "identity     SHA256:LHDhK3oGRvkie/Qnx7OOczTY5Tg as db (by first use)\n";
    assert!(details(&known.into()).contains(line));
    let json = serde_json::to_value(FlowRow::from(strange)).unwrap();
    assert_eq!((&json["plaintext"], &json["peer_identity"]), (&false.into(), &serde_json::Value::Null));
}

#[test]
fn how_a_flow_goes_through_nats_is_shown() {
    let met = v1::FlowInfo { way: "mapped".into(), classic: false, ..remote() };
    let table = table(&[met.clone().into()], None).0;
    assert!(table.contains(" 10.0.0.2:40123 (mapped) "), "{table}");
    let details = details(&met.into());
    assert!(details.contains("way          direct, at an address that the peer's NAT made for it\n"), "{details}");
}

#[test]
fn a_narrow_terminal_shows_what_fits() {
    let (table, left_out) = table(&[remote().into()], Some(80));
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert!(left_out.starts_with(&["SIDE", "LOCAL"]) && table.starts_with("ID  NAME"), "{left_out:?}\n{table}");
}

#[test]
fn flows_as_json() {
    let want = r#"{"id":12,"name":"echo","source_name":"John Day","layer":"net","ipcp":"udp0","qos":{"cube":"raw","timeout_ms":0,"keepalive_ms":0},"state":"allocated","side":"accepting","process":{"pid":77,"uid":0,"gid":0,"command":"oping"},"peer_process":null,"local_address":"10.0.0.1:40000","peer_address":"10.0.0.2:40123","classic":true,"plaintext":true,"peer_identity":null,"peer_certified":null,"trusted_by":null,"age_ms":3100,"sdu_limit":1472,"counters":{"sdus_sent":4,"bytes_sent":256,"sdus_received":0,"bytes_received":0,"send_errors":0,"receive_errors":0},"peer_counters":null,"encrypted":false,"idle_ms":null,"sent_ms_ago":null,"received_ms_ago":null,"rates":null,"socket":null,"peer_socket":null,"path":null,"asked":0,"way":null,"ended":null}"#;
    assert_eq!(serde_json::to_string(&FlowRow::from(remote())).unwrap(), want);
}

#[test]
fn rates_are_of_two_readings() {
    let carried = |age_ms, bytes_sent| v1::FlowInfo {
        age_ms,
        counters: Some(v1::Counters { bytes_sent, ..Default::default() }),
        ..remote()
    };
    let mut row = FlowRow::from(carried(1_000, 500));
    let first = row.rated(None).unwrap();
    assert_eq!(row.rate(), 0);
    let mut row = FlowRow::from(carried(3_000, 10_500));
    row.rated(Some(&first)).unwrap();
    assert_eq!(row.rate(), 5_000);
    let shown = table(&[row], None).0;
    assert!(shown.contains("SENT/S") && shown.contains("5.0 kB/s"), "{shown}");
    // A slot that began anew after a restart.
    let mut row = FlowRow::from(carried(4_000, 3));
    row.rated(Some(&first)).unwrap();
    assert_eq!(row.rate(), 0);
}

#[test]
fn an_ended_flow_says_why_and_what_happened() {
    let step = |kind: v1::EventKind, ms_ago, what: &str, why: &str| v1::FlowStep {
        kind: kind.into(),
        ms_ago,
        what: what.into(),
        why: why.into(),
    };
    let ended = v1::FlowInfo {
        state: v1::FlowState::Ended.into(),
        ended: v1::EndReason::PeerDied.into(),
        ended_ms_ago: 4_000,
        words: "the peer's program ended".into(),
        history: vec![
            step(v1::EventKind::Arrived, 9_000, "arrived", ""),
            step(v1::EventKind::Ended, 4_000, "ended", "the peer's program ended\u{1b}"),
        ],
        ..remote()
    };
    let text = details(&FlowRow::from(ended));
    let want = "\
ended        4 s ago, peer died: the peer's program ended
history      9 s ago arrived
             4 s ago ended: the peer's program ended\\u{1b}
";
    assert!(text.ends_with(want), "{text}");
}
