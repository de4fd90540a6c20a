//! `irm doctor`.

use clap::Args;

use crate::machine::argument::name;

/// Shown behind the options.
pub(super) const EXPLAINED: &str = "\
Works without irmd, too, and then says what can be said. Sends requests for a name that nobody has to this host's IPCPs
and to the hosts of their directories; changes nothing. Some checks need root or irmd's user: what could not be looked at
is listed with the reason. Takes at most 3 seconds.

Exit codes:
  0  nothing is wrong; there may be notes
  1  there is trouble: what it is, what it means and the command that mends it are printed
  2  wrong usage

Example:
  irm doctor --name echo";

/// `irm doctor …`
#[derive(Clone, Debug, Args)]
pub struct Doctor {
    /// Also follow this name to where a flow to it would go
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub name: Option<String>,
    /// Print JSON, whose keys stay the same over versions
    #[arg(long)]
    pub json: bool,
    /// Say of notes, too, what they mean and what to do
    #[arg(long, short)]
    pub verbose: bool,
}
