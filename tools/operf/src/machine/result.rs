//! How a result reads: lines for people, one object for scripts. The keys are documented in docs/tools.md.

use serde::Serialize;

use super::account::{Account, loss_percent, lost};
use super::latency::Micros;
use super::params::Params;

/// What carried the SDUs.
#[derive(Clone, Debug, Serialize)]
pub struct Route {
    /// The name, or the address of a bare socket's peer.
    pub target: String,
    /// `flow` or `bare`.
    pub carrier: &'static str,
    /// `raw`, `message` or `stream`; a bare socket is as raw as can be.
    pub qos: &'static str,
    /// The flow's id on this host.
    pub flow_id: Option<u64>,
    /// The flow's layer; `local` within a host.
    pub layer: Option<String>,
    /// The peer's address; none within a host.
    pub peer_address: Option<String>,
}

/// What a message or stream flow has seen of its path, at this side.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Path {
    /// Smoothed round trip.
    pub rtt_us: f64,
    /// Bytes that may be under way.
    pub congestion_window: u64,
    /// The longest UDP payload the path carries.
    pub mtu: u16,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Packets taken for lost.
    pub packets_lost: u64,
    /// Bytes of UDP payload sent.
    pub bytes_sent: u64,
}

/// A test's parameters in JSON.
#[derive(Debug, Serialize)]
struct Test {
    mode: &'static str,
    sdu_bytes: u32,
    reverse: bool,
    batch: bool,
}

impl From<&Params> for Test {
    fn from(params: &Params) -> Self {
        let Params { mode, size, reverse, batch, .. } = *params;
        Self { mode: mode.as_str(), sdu_bytes: size, reverse, batch }
    }
}

/// Of `--json` without `--rtt` and `--alloc`. What only the other side knows is null where its account never came.
#[derive(Debug, Serialize)]
pub struct Throughput<'a> {
    #[serde(flatten)]
    route: &'a Route,
    #[serde(flatten)]
    test: Test,
    seconds: f64,
    sent_sdus: Option<u64>,
    send_errors: Option<u64>,
    sent_bits_per_second: Option<f64>,
    sender_cpu_ns_per_sdu: Option<f64>,
    received_sdus: Option<u64>,
    received_bits_per_second: Option<f64>,
    received_sdus_per_second: Option<f64>,
    receiver_cpu_ns_per_sdu: Option<f64>,
    lost_sdus: Option<u64>,
    loss_percent: Option<f64>,
    duplicate_sdus: Option<u64>,
    reordered_sdus: Option<u64>,
    path: Option<Path>,
    ended: Option<&'a str>,
}

impl<'a> Throughput<'a> {
    /// `ended`: why the flow ended before its time.
    pub fn new(
        route: &'a Route,
        params: &Params,
        sender: Option<&Account>,
        receiver: Option<&Account>,
        ended: Option<&'a str>,
    ) -> Self {
        let both = sender.zip(receiver);
        Self {
            route,
            test: params.into(),
            seconds: sender.or(receiver).map_or(0.0, |account| account.elapsed_ns as f64 / 1e9),
            sent_sdus: sender.map(|s| s.sdus),
            send_errors: sender.map(|s| s.errors),
            sent_bits_per_second: sender.map(Account::bits_per_second),
            sender_cpu_ns_per_sdu: sender.map(Account::cpu_ns_per_sdu),
            received_sdus: receiver.map(|r| r.sdus),
            received_bits_per_second: receiver.map(Account::bits_per_second),
            received_sdus_per_second: receiver.map(Account::sdus_per_second),
            receiver_cpu_ns_per_sdu: receiver.map(Account::cpu_ns_per_sdu),
            // A stream loses nothing: what is missing waited to be sent when the time was over.
            lost_sdus: both.map(|(s, r)| if route.qos == "stream" { 0 } else { lost(s, r) }),
            loss_percent: both.map(|(s, r)| if route.qos == "stream" { 0.0 } else { loss_percent(s, r) }),
            duplicate_sdus: receiver.map(|r| r.duplicates),
            reordered_sdus: receiver.map(|r| r.reordered),
            path: None,
            ended,
        }
    }

    /// What is known of the flow's path.
    pub fn over(self, path: Option<Path>) -> Self {
        Self { path, ..self }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let (Some(sdus), Some(bps)) = (self.sent_sdus, self.sent_bits_per_second) {
            let rate = if self.seconds > 0.0 { sdus as f64 / self.seconds } else { 0.0 };
            text.push_str(&side("sent", sdus, bps, rate, self.sender_cpu_ns_per_sdu));
        }
        if let Some(errors) = self.send_errors.filter(|errors| *errors > 0) {
            text.push_str(&format!("failed    {errors:>11} sends\n"));
        }
        let receiver = (self.received_sdus, self.received_bits_per_second, self.received_sdus_per_second);
        if let (Some(sdus), Some(bps), Some(rate)) = receiver {
            text.push_str(&side("received", sdus, bps, rate, self.receiver_cpu_ns_per_sdu));
        }
        match (self.lost_sdus, self.loss_percent, self.reordered_sdus, self.duplicate_sdus) {
            (Some(lost), Some(percent), Some(reordered), Some(again)) => text.push_str(&format!(
                "lost      {lost:>11} SDUs ({percent:.3}%), {reordered} reordered, {again} duplicates\n"
            )),
            _ => text.push_str("the other side's account never came\n"),
        }
        if let Some(path) = &self.path {
            text.push_str(&format!(
                "path      rtt {:.2} ms, window {} KiB, mtu {}, {} datagrams sent from here, {} packets lost\n",
                path.rtt_us / 1e3,
                path.congestion_window / 1024,
                path.mtu,
                path.datagrams_sent,
                path.packets_lost
            ));
        }
        text
    }
}

fn side(what: &str, sdus: u64, bits_per_second: f64, rate: f64, cpu_ns: Option<f64>) -> String {
    let (bits, cpu) = (bits(bits_per_second), cpu_ns.unwrap_or_default());
    format!("{what:<8}  {sdus:>11} SDUs  {bits:>12}  {rate:>8.0} SDUs/s  {cpu:>6.0} ns CPU/SDU\n")
}

/// Of `--rtt --json`.
#[derive(Debug, Serialize)]
pub struct Rtt<'a> {
    #[serde(flatten)]
    route: &'a Route,
    #[serde(flatten)]
    test: Test,
    seconds: f64,
    sent_sdus: u64,
    lost_sdus: u64,
    loss_percent: f64,
    round_trips_per_second: f64,
    client_cpu_ns_per_round_trip: f64,
    server_cpu_ns_per_round_trip: Option<f64>,
    rtt_us: Option<Micros>,
    ended: Option<&'a str>,
}

impl<'a> Rtt<'a> {
    /// `client.sdus` counts round trips, `client.errors` those given up. `ended`: why the flow ended before its time.
    pub fn new(
        route: &'a Route,
        params: &Params,
        client: &Account,
        server: Option<&Account>,
        rtt_us: Option<Micros>,
        ended: Option<&'a str>,
    ) -> Self {
        let sent = client.sdus + client.errors;
        Self {
            route,
            test: params.into(),
            seconds: client.elapsed_ns as f64 / 1e9,
            sent_sdus: sent,
            lost_sdus: client.errors,
            loss_percent: if sent == 0 { 0.0 } else { client.errors as f64 * 100.0 / sent as f64 },
            round_trips_per_second: client.sdus_per_second(),
            client_cpu_ns_per_round_trip: client.cpu_ns_per_sdu(),
            server_cpu_ns_per_round_trip: server.map(Account::cpu_ns_per_sdu),
            rtt_us,
            ended,
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{} round trips in {:.1} s, {:.0}/s, {} lost ({:.3}%)\n",
            self.sent_sdus - self.lost_sdus,
            self.seconds,
            self.round_trips_per_second,
            self.lost_sdus,
            self.loss_percent
        );
        if let Some(rtt) = &self.rtt_us {
            text.push_str(&format!("rtt {}\n", times(rtt)));
        }
        text.push_str(&format!("client {:.0} ns CPU per round trip", self.client_cpu_ns_per_round_trip));
        if let Some(cpu) = self.server_cpu_ns_per_round_trip {
            text.push_str(&format!(", server {cpu:.0}"));
        }
        text.push('\n');
        text
    }
}

/// Of `--alloc --json`.
#[derive(Debug, Serialize)]
pub struct Alloc<'a> {
    target: &'a str,
    mode: &'static str,
    parallel: u32,
    seconds: f64,
    allocs: u64,
    failures: u64,
    allocs_per_second: f64,
    alloc_us: Option<Micros>,
    dealloc_us: Option<Micros>,
    last_failure: Option<&'a str>,
}

/// What `--alloc` counted.
#[derive(Debug, Default)]
pub struct Allocs {
    /// Flows allocated and deallocated.
    pub done: u64,
    /// Allocations that failed.
    pub failures: u64,
    /// The last failure's sentence.
    pub last_failure: Option<String>,
}

impl<'a> Alloc<'a> {
    /// Times are of each call by itself; the rate is of pairs.
    pub fn new(
        target: &'a str,
        parallel: u32,
        seconds: f64,
        allocs: &'a Allocs,
        alloc_us: Option<Micros>,
        dealloc_us: Option<Micros>,
    ) -> Self {
        Self {
            target,
            mode: "alloc",
            parallel,
            seconds,
            allocs: allocs.done,
            failures: allocs.failures,
            allocs_per_second: if seconds > 0.0 { allocs.done as f64 / seconds } else { 0.0 },
            alloc_us,
            dealloc_us,
            last_failure: allocs.last_failure.as_deref(),
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{} flows allocated and deallocated in {:.1} s, {:.0}/s, {} failed\n",
            self.allocs, self.seconds, self.allocs_per_second, self.failures
        );
        for (what, times_of) in [("alloc", &self.alloc_us), ("dealloc", &self.dealloc_us)] {
            if let Some(micros) = times_of {
                text.push_str(&format!("{what} {}\n", times(micros)));
            }
        }
        if let Some(failure) = self.last_failure {
            text.push_str(&format!("the last failure: {}\n", printable(failure)));
        }
        text
    }
}

fn times(t: &Micros) -> String {
    format!(
        "min/mean/p50/p90/p99/p99.9/max = {:.1}/{:.1}/{:.1}/{:.1}/{:.1}/{:.1}/{:.1} us",
        t.min, t.mean, t.p50, t.p90, t.p99, t.p999, t.max
    )
}

/// `1.23 Gbit/s`
fn bits(per_second: f64) -> String {
    let (value, unit) = match per_second {
        v if v >= 1e9 => (v / 1e9, "Gbit/s"),
        v if v >= 1e6 => (v / 1e6, "Mbit/s"),
        v => (v / 1e3, "kbit/s"),
    };
    format!("{value:.2} {unit}")
}

/// `OPERF perf: 1400-byte SDUs one by one from here, 5 s, raw flow 12 over net to 10.0.0.2:40123`
pub fn opening(route: &Route, params: &Params) -> String {
    let how = match (params.mode, params.batch, params.reverse) {
        (super::params::Mode::Rtt, _, _) => "there and back",
        (_, false, false) => "one by one from here",
        (_, false, true) => "one by one to here",
        (_, true, false) => "in batches from here",
        (_, true, true) => "in batches to here",
    };
    let over = match (route.flow_id, &route.layer) {
        (Some(id), Some(layer)) => format!("{} flow {id} over {}", route.qos, printable(layer)),
        _ => "bare UDP socket".to_owned(),
    };
    let to = route.peer_address.as_deref().map(|address| format!(" to {}", printable(address))).unwrap_or_default();
    format!("OPERF {}: {}-byte SDUs {how}, {} s, {over}{to}", route.target, params.size, params.time.as_secs_f64())
}

/// Text that a peer chose, safe on a terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
#[path = "result_tests.rs"]
mod tests;
