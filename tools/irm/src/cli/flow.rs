//! `irm flow …`

use clap::{Args, Subcommand, ValueEnum};

use super::{Capture, Listing, capture};

const LIST_EXAMPLES: &str = "\
Rates take two readings: they are shown with --watch. IDLE is since the flow's programs last sent or received anything.

Examples:
  irm flow list --name 'game.*' --sort bytes
  irm flow list --state ended             flows that ended within the last minute, and why
  irm flow list --watch 2 --json          a line of JSON every 2 seconds";

const EVENTS_EXAMPLES: &str = "\
Without --follow the events that irmd keeps (4096 unless its [options] say otherwise), oldest first.

Examples:
  irm flow events --follow
  irm flow events --kind refused --kind ended
  irm flow events --follow --json | jq -r 'select(.kind == \"refused\") | .failure'";

/// `irm flow …`
#[derive(Debug, Subcommand)]
pub enum FlowCommand {
    /// List the flows
    #[command(after_help = LIST_EXAMPLES)]
    List(FlowList),
    /// All about one flow, and what happened to it
    Show {
        /// Its id in `irm flow list`
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
        /// How to print
        #[command(flatten)]
        listing: Listing,
    },
    /// What happened to flows: allocations, refusals, ends
    #[command(after_help = EVENTS_EXAMPLES)]
    Events(FlowEvents),
    /// Write what goes over the wire for a flow into a file for Wireshark
    #[command(after_help = capture::EXAMPLES)]
    Capture(Capture),
    /// End a flow, whoever holds it
    Dealloc {
        /// Its id in `irm flow list`
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
    },
}

/// `irm flow list …`
#[derive(Clone, Debug, Args)]
pub struct FlowList {
    /// Only flows to this name; * stands for anything
    #[arg(long, value_name = "PATTERN")]
    pub name: Option<String>,
    /// Only flows through this layer; "local" within this host
    #[arg(long)]
    pub layer: Option<String>,
    /// Only flows in this state
    #[arg(long, value_enum)]
    pub state: Option<State>,
    /// Only flows of this process
    #[arg(long)]
    pub pid: Option<u32>,
    /// Flows that ended within the last minute, too
    #[arg(long)]
    pub all: bool,
    /// All columns, however narrow the terminal is
    #[arg(long)]
    pub wide: bool,
    /// Order of the rows
    #[arg(long, value_enum, default_value_t = Sort::Id)]
    pub sort: Sort,
    /// Again and again, every so many seconds [1 unless given]; with rates
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1",
          value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub watch: Option<u32>,
    /// How to print
    #[command(flatten)]
    pub listing: Listing,
}

/// The state of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// Asked for, not answered.
    Pending,
    /// In use.
    Allocated,
    /// Over, and not yet done with.
    Ending,
    /// Over.
    Ended,
}

/// What rows are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// In the order in which they were asked for
    #[default]
    Id,
    /// By name
    Name,
    /// The youngest first
    Age,
    /// The busiest first: by what moved last
    Idle,
    /// Most SDUs first, both ways
    Sdus,
    /// Most bytes first, both ways
    Bytes,
    /// Fastest first; with --watch
    Rate,
    /// Most losses first: drops, errors, lost packets
    Drops,
    /// Longest round trip first
    Rtt,
}

/// `irm flow events …`
#[derive(Clone, Debug, Args)]
pub struct FlowEvents {
    /// Go on with what happens from now on
    #[arg(long, short)]
    pub follow: bool,
    /// Only events of this kind; may be given more than once
    #[arg(long, value_name = "KIND", value_parser = kinds())]
    pub kind: Vec<String>,
    /// Only events of this flow
    #[arg(long, value_name = "ID")]
    pub flow: Option<u64>,
    /// How to print: with --json one object per line
    #[command(flatten)]
    pub listing: Listing,
}

fn kinds() -> clap::builder::PossibleValuesParser {
    proto::v1::EventKind::KNOWN.iter().map(|kind| kind.word()).collect::<Vec<_>>().into()
}
