//! What `irm` does: one call to irmd, one print.

mod call;
mod capture;
mod doctor;
mod enroll;
mod flow;
mod identity;
mod irmd;
mod list;
mod log;
mod nat;
mod print;
mod program;

use std::process::ExitCode;

use proto::v1;

use crate::cli::{Cli, Command, ConfigCommand, FlowCommand, IpcpCommand, NameCommand};
use crate::machine::text::printable;

/// Why a command failed; decides the exit code.
#[derive(Debug)]
enum Fault {
    /// irmd said no: 1.
    Said(v1::Failure),
    /// Wrong usage, or nobody to talk to: 2.
    Unable(String),
    /// Nobody reads our output any more: 1, silently.
    Unread,
    /// `irm doctor` found trouble, and has said so: 1.
    Unwell,
}

impl From<tonic::Status> for Fault {
    fn from(status: tonic::Status) -> Self {
        Self::Said(v1::Failure::from_status(&status))
    }
}

/// Runs a command line to its exit code.
pub fn run(cli: Cli) -> ExitCode {
    match try_run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Fault::Unread | Fault::Unwell) => ExitCode::from(1),
        Err(Fault::Said(failure)) => {
            print::error(&failure_text(&failure));
            ExitCode::from(1)
        }
        Err(Fault::Unable(text)) => {
            print::error(&text);
            ExitCode::from(2)
        }
    }
}

/// irmd's sentence; the kind of failure where it sent none.
fn failure_text(failure: &v1::Failure) -> String {
    if failure.message.is_empty() {
        format!("irmd failed with {} and said no more; look into its log", failure.kind().as_str_name())
    } else {
        printable(&failure.message)
    }
}

fn try_run(mut cli: Cli) -> Result<(), Fault> {
    if let Command::Completions { shell } = cli.command {
        return print::raw(tool::completions::<Cli>(shell).as_bytes());
    }
    program::locate_in(&mut cli.command)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::Unable(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        // It is of use above all where there is no irmd.
        if let Command::Doctor(how) = cli.command {
            return doctor::doctor(cli.run_dir.as_deref(), how).await;
        }
        if let Command::Nat(how) = cli.command {
            return nat::nat(cli.run_dir.as_deref(), how).await;
        }
        let run_dir = proto::RunDir::find(cli.run_dir.as_deref()).map_err(|error| Fault::Unable(error.to_string()))?;
        command(irmd::Irmd::dial(&run_dir).await?, cli.command).await
    })
}

async fn command(mut irmd: irmd::Irmd, command: Command) -> Result<(), Fault> {
    match command {
        Command::Status(listing) => list::status(&mut irmd, listing).await,
        Command::Ipcp(IpcpCommand::List(listing)) => list::ipcps(&mut irmd, listing).await,
        Command::Ipcp(IpcpCommand::Host(host)) => call::host(&mut irmd, host).await,
        Command::Ipcp(ipcp) => call::ipcp(&mut irmd, ipcp).await,
        Command::Name(NameCommand::List(listing)) => list::names(&mut irmd, listing).await,
        Command::Name(name) => call::name(&mut irmd, name).await,
        Command::Bind(bind) => call::bind(&mut irmd, bind).await,
        Command::Unbind(unbind) => call::unbind(&mut irmd, unbind).await,
        Command::Flow(FlowCommand::List(wanted)) => flow::list(&mut irmd, &wanted).await,
        Command::Flow(FlowCommand::Show { id, listing }) => flow::show(&mut irmd, id, listing).await,
        Command::Flow(FlowCommand::Events(wanted)) => flow::events(&mut irmd, wanted).await,
        Command::Flow(FlowCommand::Capture(options)) => capture::capture(&mut irmd, options).await,
        Command::Flow(FlowCommand::Dealloc { id }) => call::dealloc(&mut irmd, id).await,
        Command::Identity(command) => identity::identity(&mut irmd, command).await,
        Command::Config(ConfigCommand::Export) => list::config(&mut irmd).await,
        Command::Log(command) => log::log(&mut irmd, command).await,
        Command::Shutdown(how) => call::shutdown(&mut irmd, how).await,
        Command::Completions { .. } | Command::Doctor(_) | Command::Nat(_) => Ok(()),
    }
}
