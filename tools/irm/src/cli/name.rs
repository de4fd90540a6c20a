//! Commands about names and what serves them.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use super::{Asker, Listing, Rules, rules};
use crate::machine::argument::{layer_name, name};

/// `irm name …`
#[derive(Debug, Subcommand)]
pub enum NameCommand {
    /// Make a name
    Create {
        /// The name
        #[arg(value_parser = name)]
        name: String,
        /// Who takes the next flow, where several serve the name
        #[arg(long, value_enum, default_value_t = Policy::RoundRobin)]
        policy: Policy,
        /// Who may use it
        #[command(flatten)]
        rules: Rules,
    },
    /// Say who may serve a name and who may allocate to it; without a name, list the rules of patterns
    #[command(after_help = rules::EXAMPLES)]
    Rules {
        /// The name, or the beginning of names and a *
        #[arg(value_name = "NAME|PATTERN", value_parser = name, requires = "rule-set")]
        name: Option<String>,
        /// Who may use it
        #[command(flatten)]
        rules: Rules,
        /// How the list is printed
        #[command(flatten)]
        listing: Listing,
    },
    /// Whether somebody may serve a name or allocate to it, and which rule says so
    May {
        /// The name
        #[arg(value_parser = name)]
        name: String,
        /// Who would
        #[command(flatten)]
        asker: Asker,
        /// How to print
        #[command(flatten)]
        listing: Listing,
    },
    /// Forget a name, its bindings and registrations
    Destroy {
        /// The name
        #[arg(value_parser = name)]
        name: String,
    },
    /// List the names
    List(Listing),
    /// Make a name reachable in a layer
    Register {
        /// The name
        #[arg(value_parser = name)]
        name: String,
        /// The layer
        #[arg(long, value_parser = layer_name)]
        layer: String,
    },
    /// Make a name unreachable in a layer
    Unregister {
        /// The name
        #[arg(value_parser = name)]
        name: String,
        /// The layer
        #[arg(long, value_parser = layer_name)]
        layer: String,
    },
    /// Say where a flow to a name would go, and what every source said
    Resolve {
        /// The name
        #[arg(value_parser = name)]
        name: String,
        /// One layer only
        #[arg(long, value_parser = layer_name)]
        layer: Option<String>,
        /// How to print
        #[command(flatten)]
        listing: Listing,
    },
}

/// Load balancing of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// They take turns.
    RoundRobin,
    /// The first that accepts, in the order of binding.
    Spill,
}

/// `irm bind …`
#[derive(Debug, Subcommand)]
pub enum BindCommand {
    /// Processes of this program may serve the name
    #[command(after_help = "\
Example, a server that starts when its first flow arrives:
  irm bind program /usr/bin/oping --name echo --auto -- --listen echo")]
    Program {
        /// The program: a path, or a word looked up in PATH
        program: PathBuf,
        /// The name
        #[arg(long, value_parser = name)]
        name: String,
        /// Start it when a flow arrives and nobody accepts
        #[arg(long)]
        auto: bool,
        /// Start it as this user, by name or number [default: whoever runs irm; as root irmd's own user]
        #[arg(long)]
        user: Option<String>,
        /// Its arguments when it is started
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// This process may serve the name
    Process {
        /// Its process id
        #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
        pid: u32,
        /// The name
        #[arg(long, value_parser = name)]
        name: String,
    },
}

/// `irm unbind …`
#[derive(Debug, Subcommand)]
pub enum UnbindCommand {
    /// Processes of this program no longer serve the name
    Program {
        /// The program, as it was bound
        program: PathBuf,
        /// The name
        #[arg(long, value_parser = name)]
        name: String,
    },
    /// This process no longer serves the name
    Process {
        /// Its process id
        #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
        pid: u32,
        /// The name
        #[arg(long, value_parser = name)]
        name: String,
    },
}
