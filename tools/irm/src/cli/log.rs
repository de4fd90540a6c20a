//! `irm log …`

use clap::Args;

use super::Listing;

pub(super) const EXAMPLES: &str = "\
A filter is a level (off, error, warn, info, debug, trace), or TARGET=LEVEL, several with commas between them. Without one
irm log shows what each daemon logs. What irm log sets holds until the daemon starts again; irmd's --log says with what it
begins.

Examples:
  irm log                                 what is logged
  irm log irmd=debug,info --for 60        the lives of flows, too, for a minute
  irm log irmd=debug,info --ipcp udp0     for one IPCP";

/// `irm log …`
#[derive(Debug, Args)]
pub struct Log {
    /// What to log from now on, e.g. debug or irmd=debug,info
    pub filter: Option<String>,
    /// Only this IPCP; irmd for irmd alone [else irmd and all its IPCPs]
    #[arg(long, value_name = "NAME")]
    pub ipcp: Option<String>,
    /// For so long, then as before; at most a day
    #[arg(long = "for", value_name = "SECONDS", requires = "filter", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: Option<u32>,
    /// How to print
    #[command(flatten)]
    pub listing: Listing,
}
