//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod capture;
mod doctor;
mod flow;
mod identity;
mod ipcp;
mod log;
mod name;
mod nat;
mod rules;

pub use capture::Capture;
pub use doctor::Doctor;
pub use flow::{FlowCommand, FlowEvents, FlowList, Sort, State};
pub use identity::{IdentityCommand, Who, Whom};
pub use ipcp::{Bootstrap, Echo, Enroll, HostCommand, IpcpCommand, IpcpType, Punch};
pub use log::Log;
pub use name::{BindCommand, NameCommand, Policy, UnbindCommand};
pub use nat::Nat;
pub use rules::{Asker, Rules};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  irmd said no; why is on standard error
  2  wrong usage, or irmd is not reachable

Example, two commands to the first flow:
  irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --host echo=10.0.0.2
  oping echo";

/// Asks irmd about names, IPCPs and flows, and changes them.
#[derive(Debug, Parser)]
#[command(name = "irm", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// Folder of irmd's sockets [else $FLOWRING_RUN_DIR, /run/flowring as root, $XDG_RUNTIME_DIR/flowring]
    #[arg(long, value_name = "DIR", global = true)]
    pub run_dir: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The first word.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// How irmd and its IPCPs are
    Status(Listing),
    /// IPC processes: one per layer and address
    #[command(subcommand)]
    Ipcp(IpcpCommand),
    /// Names that flows are allocated to
    #[command(subcommand)]
    Name(NameCommand),
    /// Give a name to a program or a process
    #[command(subcommand)]
    Bind(BindCommand),
    /// Take a name from a program or a process
    #[command(subcommand)]
    Unbind(UnbindCommand),
    /// Every flow of this host
    #[command(subcommand)]
    Flow(FlowCommand),
    /// Which host this is to others, who is trusted with names, who is let in
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// The running configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look for what is wrong, and say what mends it
    #[command(after_help = doctor::EXPLAINED)]
    Doctor(Doctor),
    /// What kind of NAT this host is behind, and with whom flows can go directly
    #[command(after_help = nat::EXPLAINED)]
    Nat(Nat),
    /// What irmd and its IPCPs log, and change it while they run
    #[command(after_help = log::EXAMPLES)]
    Log(Log),
    /// End irmd and its IPCPs in order
    #[command(after_help = SHUTDOWN_EXAMPLES)]
    Shutdown(Shutdown),
    /// Print completions for a shell, e.g. `irm completions bash > /etc/bash_completion.d/irm`
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

const SHUTDOWN_EXAMPLES: &str = "\
At once nothing new is taken: no flow, no name. Flows that there are may end by themselves for the time of --drain, then
the daemons end. Flows that are left go on between their programs, and the next irmd lists them again; with --flows end
they are ended. Returns when irmd has ended; prints how many flows were left.

Examples:
  irm shutdown                            for an upgrade: no flow is lost
  irm shutdown --drain 60 --flows end     before the host goes down";

/// `irm shutdown …`
#[derive(Clone, Copy, Debug, Args)]
pub struct Shutdown {
    /// Flows have so long to end by themselves; at most a day
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=86_400))]
    pub drain: u32,
    /// What becomes of flows that are left then
    #[arg(long, value_enum, default_value_t = Left::Keep)]
    pub flows: Left,
}

/// What becomes of flows without daemons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Left {
    /// They go on.
    Keep,
    /// They are ended, on both sides.
    End,
}

/// How a listing is printed.
#[derive(Clone, Copy, Debug, Args)]
pub struct Listing {
    /// Print JSON, whose keys stay the same over versions
    #[arg(long)]
    pub json: bool,
}

/// `irm config …`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the running state as an irmd.toml
    Export,
}

#[cfg(test)]
mod tests;
