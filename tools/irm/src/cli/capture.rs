//! `irm flow capture`, on the command line.

use std::path::PathBuf;

use clap::Args;

use crate::machine::argument::name;

/// What stands below the options.
pub(super) const EXAMPLES: &str = "\
Every datagram of the flow, both ways, as it goes over the wire, and those of the shims about it, with times in
nanoseconds. What was said before the capture began is not in it: with --name the capture begins before the flow, and has
its allocation. It ends with the flow, at Ctrl-C or after --count. It needs CAP_NET_RAW: run it as root.

Examples:
  irm flow capture 12 -w flow.pcapng
  irm flow capture 12 -w - | wireshark -k -i -
  irm flow capture --name echo -w - | flowdump -";

/// `irm flow capture …`
#[derive(Debug, Args)]
pub struct Capture {
    /// Its id in `irm flow list`
    #[arg(value_parser = clap::value_parser!(u64).range(1..), required_unless_present = "name")]
    pub id: Option<u64>,
    /// Allocations to this name from now on, either way, and the flows that come of them
    #[arg(long, conflicts_with = "id", value_parser = name)]
    pub name: Option<String>,
    /// The pcapng file to write; - for standard output
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    pub file: PathBuf,
    /// Stop after so many datagrams
    #[arg(short, long, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Keep so many bytes of each packet, headers included
    #[arg(long, value_name = "BYTES", default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(64..=262_144))]
    pub snap: u32,
    /// Listen at this device only [default: all that have an address]
    #[arg(short, long, value_name = "DEVICE")]
    pub interface: Option<String>,
}
