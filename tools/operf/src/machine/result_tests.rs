use std::time::Duration;

use super::super::params::Mode;
use super::*;

fn route() -> Route {
    Route {
        target: "perf".into(),
        carrier: "flow",
        qos: "raw",
        flow_id: Some(12),
        layer: Some("net".into()),
        peer_address: Some("10.0.0.2:40123".into()),
    }
}

fn params(mode: Mode) -> Params {
    Params { mode, size: 1_400, time: Duration::from_secs(5), reverse: false, batch: true }
}

const MICROS: Micros = Micros { count: 10, min: 1.0, mean: 2.0, p50: 2.5, p90: 3.0, p99: 4.0, p999: 5.0, max: 6.0 };

fn sender() -> Account {
    Account { sdus: 1_000, bytes: 1_400_000, elapsed_ns: 2_000_000_000, cpu_ns: 5_000_000, ..Account::default() }
}

fn receiver() -> Account {
    Account { sdus: 990, bytes: 1_386_000, reordered: 2, cpu_ns: 4_950_000, ..sender() }
}

#[test]
fn throughput_reads() {
    let want = "\
sent             1000 SDUs   5.60 Mbit/s       500 SDUs/s    5000 ns CPU/SDU
received          990 SDUs   5.54 Mbit/s       495 SDUs/s    5000 ns CPU/SDU
lost               10 SDUs (1.000%), 2 reordered, 0 duplicates
";
    let (route, params) = (route(), params(Mode::Throughput));
    assert_eq!(Throughput::new(&route, &params, Some(&sender()), Some(&receiver()), None).text(), want);
    let sent = "sent             1000 SDUs   5.60 Mbit/s       500 SDUs/s    5000 ns CPU/SDU\n";
    let unheard = "the other side's account never came\n";
    let alone = Throughput::new(&route, &params, Some(&sender()), None, Some("peer died"));
    assert_eq!(alone.text(), format!("{sent}{unheard}"));
    let alone = Throughput::new(&route, &params, None, Some(&sender()), Some("peer died"));
    assert_eq!(alone.text(), format!("{}{unheard}", sent.replace("sent    ", "received")));
}

#[test]
fn throughput_keys_stay() {
    let (route, params) = (route(), params(Mode::Throughput));
    let result = Throughput::new(&route, &params, Some(&sender()), Some(&receiver()), None);
    let want = r#"{"target":"perf","carrier":"flow","qos":"raw","flow_id":12,"layer":"net","peer_address":"10.0.0.2:40123","mode":"throughput","sdu_bytes":1400,"reverse":false,"batch":true,"seconds":2.0,"sent_sdus":1000,"send_errors":0,"sent_bits_per_second":5600000.0,"sender_cpu_ns_per_sdu":5000.0,"received_sdus":990,"received_bits_per_second":5544000.0,"received_sdus_per_second":495.0,"receiver_cpu_ns_per_sdu":5000.0,"lost_sdus":10,"loss_percent":1.0,"duplicate_sdus":0,"reordered_sdus":2,"path":null,"ended":null}"#;
    assert_eq!(serde_json::to_string(&result).unwrap(), want);
}

#[test]
fn rtt_reads_and_its_keys_stay() {
    let route = Route { carrier: "bare", qos: "raw", flow_id: None, layer: None, ..route() };
    let params = Params { batch: false, ..params(Mode::Rtt) };
    let client = Account { sdus: 990, errors: 10, cpu_ns: 4_950_000, ..sender() };
    let result = Rtt::new(&route, &params, &client, Some(&sender()), Some(MICROS), None);
    let want = "\
990 round trips in 2.0 s, 495/s, 10 lost (1.000%)
rtt min/mean/p50/p90/p99/p99.9/max = 1.0/2.0/2.5/3.0/4.0/5.0/6.0 us
client 5000 ns CPU per round trip, server 5000
";
    assert_eq!(result.text(), want);
    let want = r#"{"target":"perf","carrier":"bare","qos":"raw","flow_id":null,"layer":null,"peer_address":"10.0.0.2:40123","mode":"rtt","sdu_bytes":1400,"reverse":false,"batch":false,"seconds":2.0,"sent_sdus":1000,"lost_sdus":10,"loss_percent":1.0,"round_trips_per_second":495.0,"client_cpu_ns_per_round_trip":5000.0,"server_cpu_ns_per_round_trip":5000.0,"rtt_us":{"count":10,"min":1.0,"mean":2.0,"p50":2.5,"p90":3.0,"p99":4.0,"p999":5.0,"max":6.0},"ended":null}"#;
    assert_eq!(serde_json::to_string(&result).unwrap(), want);
}

#[test]
fn allocations_read_and_their_keys_stay() {
    let allocs = Allocs { done: 3_000, failures: 1, last_failure: Some("no\u{7}".into()) };
    let result = Alloc::new("perf", 8, 2.0, &allocs, Some(MICROS), None);
    let want = "\
3000 flows allocated and deallocated in 2.0 s, 1500/s, 1 failed
alloc min/mean/p50/p90/p99/p99.9/max = 1.0/2.0/2.5/3.0/4.0/5.0/6.0 us
the last failure: no\u{fffd}
";
    assert_eq!(result.text(), want);
    let want = r#"{"target":"perf","mode":"alloc","parallel":8,"seconds":2.0,"allocs":3000,"failures":1,"allocs_per_second":1500.0,"alloc_us":{"count":10,"min":1.0,"mean":2.0,"p50":2.5,"p90":3.0,"p99":4.0,"p999":5.0,"max":6.0},"dealloc_us":null,"last_failure":"no\u0007"}"#;
    assert_eq!(serde_json::to_string(&result).unwrap(), want);
}

#[test]
fn the_first_line_says_what_is_measured() {
    let want = "OPERF perf: 1400-byte SDUs in batches from here, 5 s, raw flow 12 over net to 10.0.0.2:40123";
    assert_eq!(opening(&route(), &params(Mode::Throughput)), want);
    let bare = Route {
        target: "127.0.0.1:7000".into(),
        carrier: "bare",
        qos: "raw",
        flow_id: None,
        layer: None,
        peer_address: None,
    };
    let want = "OPERF 127.0.0.1:7000: 1400-byte SDUs there and back, 5 s, bare UDP socket";
    assert_eq!(opening(&bare, &params(Mode::Rtt)), want);
}
