//! `irm nat`.

use std::time::Duration;

use clap::Args;

/// Shown behind the options.
pub(super) const EXPLAINED: &str = "\
Asks a rendezvous from sockets of its own how it sees them, in RFC 4787's words: needs no session and no key. Sends about 20
datagrams of 1,200 bytes to the server and some to this host's own public address, and asks the router whether it maps ports (PCP,
NAT-PMP, UPnP; it is not asked for one). Takes some seconds; with --lifetime as long as is said there.

Exit codes:
  0  it was found out
  1  it could not be: the server does not answer, or irmd knows none
  2  wrong usage, a server's name is not found, or irmd is not reachable

Examples:
  irm nat                            at the rendezvous of this host's layer
  irm nat --via rdv.example
  irm nat --via rdv.example --via rdv.example.net     two addresses tell more than one
  irm nat --via rdv.example --lifetime";

/// Seconds that lifetimes are looked for, unless it is said.
const LIFETIME: &str = "180";

/// `irm nat …`
#[derive(Clone, Debug, Args)]
pub struct Nat {
    /// The rendezvous to ask; a second one at another address tells by address from endpoint-independent mappings [default: that
    /// of the first layer that is enrolled in a session]
    #[arg(long, value_name = "SERVER[:PORT]")]
    pub via: Vec<String>,
    /// Also find out how long an idle mapping lives, up to so many seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = LIFETIME, value_parser = lifetime)]
    pub lifetime: Option<Duration>,
    /// Print JSON, whose keys stay the same over versions
    #[arg(long)]
    pub json: bool,
}

fn lifetime(text: &str) -> Result<Duration, String> {
    tool::seconds("time", text, 5.0..=600.0, "180")
}
