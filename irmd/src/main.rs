//! irmd: see the library.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// The IPC Resource Manager daemon: names, the programs that serve them, IPC processes, every flow of this host.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Without root, give --run-dir DIR (or set FLOWRING_RUN_DIR or XDG_RUNTIME_DIR): \
    the sockets are made there.\nThe configuration file is described in docs/irmd.md; everything in it can also be \
    done with irm while irmd runs.\n\nExit codes: 0 stopped by SIGTERM or SIGINT, 1 could not start."
)]
struct Cli {
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
    /// What to log: error, warn, info, debug, or a filter such as irmd=debug
    #[arg(long, value_name = "FILTER", default_value = "info", env = "FLOWRING_LOG")]
    log: String,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = match cli.log.parse::<tracing_subscriber::EnvFilter>() {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("irmd: --log {}: {error}", cli.log);
            return ExitCode::FAILURE;
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let options = irmd::io::Options {
        run_dir: cli.run_dir,
        config: cli.config,
        state_dir: cli.state_dir,
        ipcpd_dir: cli.ipcpd_dir,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(irmd::io::run(options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("irmd: {error:#}");
            ExitCode::FAILURE
        }
    }
}
