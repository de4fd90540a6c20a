//! Every metric there is. Names and units by Prometheus' conventions: base units, `_total` behind what only grows.

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until irmd (or the IPCP) starts again.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often which values were seen.
    Histogram,
}

impl Kind {
    /// As Prometheus calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its full name; that of a counter ends with `_total`.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// What it tells.
    pub help: &'static str,
    /// Names of its labels, in order.
    pub labels: &'static [&'static str],
}

macro_rules! catalogue {
    ($($ident:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $ident: Metric =
                Metric { name: $name, kind: Kind::$kind, help: $help, labels: &[$($label),*] };
        )*
        /// All of them, in the order in which they are written.
        pub const CATALOGUE: &[&Metric] = &[$(&$ident),*];
    };
}

catalogue! {
    FLOWS: Gauge "flowring_flows" ["layer", "qos", "state"]
        "Flows of this host by layer, cube and state; a flow that looks for its layer is in layer *.";
    ALLOCATION_SECONDS: Histogram "flowring_allocation_seconds" ["side", "outcome"]
        "Time from the request of a flow to its answer, as irmd sees it.";
    REFUSALS: Counter "flowring_refusals_total" ["side", "reason"]
        "Flows that were asked for and not allocated, by reason.";
    FLOW_ENDS: Counter "flowring_flow_ends_total" ["reason"]
        "Flows that were allocated and have ended, by reason.";
    DENIALS: Counter "flowring_denials_total" ["reason"]
        "What irmd denied by a quota, a bound or a rule, flows and all else.";
    SENT_SDUS: Counter "flowring_sent_sdus_total" ["layer"]
        "SDUs that programs of this host have sent on flows; of message and stream flows to other hosts, the datagrams that carry them.";
    SENT_BYTES: Counter "flowring_sent_bytes_total" ["layer"]
        "Bytes of those.";
    RECEIVED_SDUS: Counter "flowring_received_sdus_total" ["layer"]
        "SDUs that programs of this host have received on flows; of message and stream flows to other hosts, the datagrams that carry them.";
    RECEIVED_BYTES: Counter "flowring_received_bytes_total" ["layer"]
        "Bytes of those.";
    SEND_ERRORS: Counter "flowring_send_errors_total" ["layer"]
        "Sends on flows that failed.";
    RECEIVE_ERRORS: Counter "flowring_receive_errors_total" ["layer"]
        "Receives on flows that failed.";
    NAMES: Gauge "flowring_names" []
        "Names on this host.";
    PROCESSES: Gauge "flowring_processes" []
        "Processes that hold a lease with irmd.";
    IPCP_INFO: Gauge "flowring_ipcp_info" ["ipcp", "type", "layer"]
        "What an IPCP is; always 1.";
    IPCP_UP: Gauge "flowring_ipcp_up" ["ipcp"]
        "1 if the IPCP is in its layer and answered this scrape, else 0.";
    IPCP_RESTARTS: Counter "flowring_ipcp_restarts_total" ["ipcp"]
        "How often irmd has started the IPCP again.";
    IPCP_RESIDENT: Gauge "flowring_ipcp_resident_bytes" ["ipcp"]
        "Resident memory of the IPCP, if it answered.";
    DROPPED: Counter "flowring_datagrams_dropped_total" ["ipcp", "reason"]
        "Datagrams that were dropped, by reason: allocation and control datagrams, and those of flows (at_flows).";
    IPCP_REFUSALS: Counter "flowring_ipcp_refusals_total" ["ipcp", "reason"]
        "What the IPCP refused by a bound of its own, before irmd was asked.";
    IPCP_EVENTS: Counter "flowring_ipcp_events_total" ["ipcp", "event"]
        "What else the IPCP counts: requests, answers, retransmissions, cookies, probes.";
    BUILD_INFO: Gauge "flowring_build_info" ["version"]
        "The version of irmd; always 1.";
    CPU_SECONDS: Counter "process_cpu_seconds_total" []
        "User and system time of irmd.";
    RESIDENT: Gauge "process_resident_memory_bytes" []
        "Resident memory of irmd.";
    VIRTUAL: Gauge "process_virtual_memory_bytes" []
        "Address space of irmd.";
    OPEN_FDS: Gauge "process_open_fds" []
        "Open descriptors of irmd.";
    MAX_FDS: Gauge "process_max_fds" []
        "How many descriptors irmd may have.";
    START_TIME: Gauge "process_start_time_seconds" []
        "When irmd started, seconds since 1970.";
}
