//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::io::Options;

/// The IPC Resource Manager daemon: names, the programs that serve them, IPC processes, every flow of this host.
#[derive(Debug, Parser)]
#[command(
    name = "irmd",
    version,
    after_help = "Without root, give --run-dir DIR (or set FLOWRING_RUN_DIR or XDG_RUNTIME_DIR): \
    the sockets are made there.\nThe configuration file is described in docs/irmd.md; everything in it can also be \
    done with irm while irmd runs.\n\nExit codes: 0 stopped by SIGTERM, SIGINT or irm shutdown, 1 could not start."
)]
pub struct Cli {
    /// Folder of the sockets [default: $FLOWRING_RUN_DIR, /run/flowring as root, $XDG_RUNTIME_DIR/flowring]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// What to set up at the start [default: /etc/flowring/irmd.toml as root, ~/.config/flowring/irmd.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of what irm makes at run time [default: state in a chosen run directory, else /var/lib/flowring as
    /// root, else ~/.local/state/flowring]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Folder of ipcpd-udp [default: that of irmd, else the PATH]
    #[arg(long, value_name = "DIR")]
    ipcpd_dir: Option<PathBuf>,
    /// At SIGTERM let the IPCPs go on: for a service manager that restarts irmd alone (`irm shutdown` ends all)
    #[arg(long)]
    leave_ipcps: bool,
    /// Serve metrics for Prometheus at http://ADDR:PORT/metrics, such as 127.0.0.1:9339 [default: as irmd.toml says, else
    /// nowhere]
    #[arg(long, value_name = "ADDR:PORT", value_parser = crate::config::metrics_address)]
    metrics: Option<std::net::SocketAddr>,
    /// What to log: error, warn, info, debug, or a filter such as irmd=debug; irm log changes it
    #[arg(long, value_name = "FILTER", default_value = "info", env = "FLOWRING_LOG")]
    pub log: String,
    /// How lines of the log look; those of the IPCPs that irmd starts, too
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = logs::Format::Auto, env = "FLOWRING_LOG_FORMAT")]
    pub log_format: logs::Format,
}

impl From<Cli> for Options {
    fn from(cli: Cli) -> Self {
        let Cli { run_dir, config, state_dir, ipcpd_dir, leave_ipcps, metrics, log, log_format } = cli;
        Self { run_dir, config, state_dir, ipcpd_dir, leave_ipcps, metrics, log, log_format: Some(log_format) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
