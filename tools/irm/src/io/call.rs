//! Commands that change something. They print nothing when all went well, save what the caller could not know.

use std::time::Duration;

use proto::v1;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::irmd::{DIRECTORY, Irmd, QUICK, SLOW};
use super::{Fault, list, print, program};
use crate::cli::{
    BindCommand, Bootstrap, Echo, HostCommand, IpcpCommand, IpcpType, Left, NameCommand, Policy, Rules, Shutdown,
    UnbindCommand,
};
use crate::machine::argument::{HostEntry, PortRange};
use crate::machine::text::printable;

fn type_name(kind: IpcpType) -> String {
    match kind {
        IpcpType::Udp => "udp".to_owned(),
    }
}

fn static_host(entry: HostEntry) -> v1::StaticHost {
    v1::StaticHost { name: entry.name, address: entry.address }
}

pub(super) async fn ipcp(irmd: &mut Irmd, command: IpcpCommand) -> Result<(), Fault> {
    let path = irmd.path();
    match command {
        IpcpCommand::Create { kind, name, no_restart } => {
            let request = v1::IpcpCreateRequest { name, r#type: type_name(kind), no_restart };
            Irmd::answer(&path, SLOW, irmd.client.ipcp_create(request)).await?;
        }
        IpcpCommand::Bootstrap(options) => {
            let said = format!("{} is a member of {}", options.name, options.layer);
            let flows = if options.sp_range == Some(PortRange::Listen) { ", its flows on that port" } else { "" };
            let reply = Irmd::answer(&path, SLOW, irmd.client.ipcp_bootstrap(bootstrap(*options)?)).await?;
            print::raw(format!("{said} at {}{flows}\n", printable(&reply.address)).as_bytes())?;
        }
        IpcpCommand::Enroll(options) => {
            let said = format!("{} is a member of {}", options.name, options.layer);
            let session = format!("session {} at {}", options.session, options.via);
            let request = super::enroll::request(*options)?;
            let reply = Irmd::answer(&path, SLOW, irmd.client.ipcp_bootstrap(request)).await?;
            print::raw(format!("{said} at {}, joining {session}\n", printable(&reply.address)).as_bytes())?;
        }
        IpcpCommand::Destroy { name } => {
            Irmd::answer(&path, SLOW, irmd.client.ipcp_destroy(v1::IpcpDestroyRequest { name })).await?;
        }
        IpcpCommand::List(how) => list::ipcps(irmd, how).await?,
        IpcpCommand::Host(command) => host(irmd, command).await?,
    }
    Ok(())
}

fn bootstrap(options: Bootstrap) -> Result<v1::IpcpBootstrapRequest, Fault> {
    let (sp_first, sp_last, sp_listen) = match options.sp_range {
        None => (0, 0, false),
        Some(PortRange::Ports(first, last)) => (first.into(), last.into(), false),
        Some(PortRange::Listen) => (0, 0, true),
    };
    let echo = match options.echo {
        Echo::OnAccept => v1::EchoMoment::OnAccept,
        Echo::OnArrival => v1::EchoMoment::OnArrival,
    };
    let udp = v1::UdpConfig {
        ip: options.ip,
        port: options.port.into(),
        hosts: options.hosts.into_iter().map(static_host).collect(),
        sp_first,
        sp_last,
        sp_listen,
        echo: echo.into(),
        dns_zone: options.dns_zone.unwrap_or_default(),
        dns_servers: options.dns_servers,
        dns_key_file: options.dns_key.map(program::text).transpose()?.unwrap_or_default(),
        dns_lifetime_s: options.dns_lifetime.unwrap_or(0),
        dns_ttl_s: options.dns_ttl.unwrap_or(0),
        ..v1::UdpConfig::default()
    };
    Ok(v1::IpcpBootstrapRequest {
        name: options.name,
        r#type: type_name(options.kind),
        layer: options.layer,
        udp: Some(udp),
        no_restart: options.no_restart,
    })
}

pub(super) async fn host(irmd: &mut Irmd, command: HostCommand) -> Result<(), Fault> {
    let path = irmd.path();
    match command {
        HostCommand::Add { name, host } => {
            let request = v1::HostAddRequest { ipcp: name, host: Some(static_host(host)) };
            Irmd::answer(&path, QUICK, irmd.client.host_add(request)).await?;
        }
        HostCommand::Remove { name, host } => {
            let request = v1::HostRemoveRequest { ipcp: name, name: host };
            Irmd::answer(&path, QUICK, irmd.client.host_remove(request)).await?;
        }
        HostCommand::List { name, listing } => list::hosts(irmd, &name, listing).await?,
    }
    Ok(())
}

fn message(rules: Rules) -> v1::NameRules {
    let Rules { serve, allow_local, allow_remote, deny_remote, identities } = rules;
    v1::NameRules { serve, allow_local, allow_remote, deny_remote, identities }
}

pub(super) async fn name(irmd: &mut Irmd, command: NameCommand) -> Result<(), Fault> {
    let path = irmd.path();
    match command {
        NameCommand::Create { name, policy, rules } => {
            let policy = match policy {
                Policy::RoundRobin => v1::LoadBalancing::RoundRobin,
                Policy::Spill => v1::LoadBalancing::Spill,
            };
            let request = v1::NameCreateRequest { name, policy: policy.into(), rules: Some(message(rules)) };
            Irmd::answer(&path, QUICK, irmd.client.name_create(request)).await?;
        }
        NameCommand::Destroy { name } => {
            Irmd::answer(&path, DIRECTORY, irmd.client.name_destroy(v1::NameDestroyRequest { name })).await?;
        }
        NameCommand::List(how) => list::names(irmd, how).await?,
        NameCommand::Rules { name: Some(name), rules, .. } => {
            let request = v1::NameRulesRequest { name, rules: Some(message(rules)) };
            Irmd::answer(&path, QUICK, irmd.client.name_rules(request)).await?;
        }
        NameCommand::Rules { name: None, listing, .. } => list::rules(irmd, listing).await?,
        NameCommand::May { name, asker, listing } => list::may(irmd, name, asker, listing).await?,
        NameCommand::Register { name, layer } => {
            let request = v1::NameRegisterRequest { name, layer };
            Irmd::answer(&path, DIRECTORY, irmd.client.name_register(request)).await?;
        }
        NameCommand::Unregister { name, layer } => {
            let request = v1::NameUnregisterRequest { name, layer };
            Irmd::answer(&path, DIRECTORY, irmd.client.name_unregister(request)).await?;
        }
        NameCommand::Resolve { name, layer, listing } => list::resolve(irmd, name, layer, listing).await?,
    }
    Ok(())
}

pub(super) async fn bind(irmd: &mut Irmd, command: BindCommand) -> Result<(), Fault> {
    let path = irmd.path();
    match command {
        BindCommand::Program { program, name, auto, user, args } => {
            let user = user.unwrap_or_default();
            let program = v1::BoundProgram { path: program::text(program)?, args, auto_start: auto, user };
            let request = v1::BindProgramRequest { name, program: Some(program) };
            Irmd::answer(&path, QUICK, irmd.client.bind_program(request)).await?;
        }
        BindCommand::Process { pid, name } => {
            Irmd::answer(&path, QUICK, irmd.client.bind_process(v1::BindProcessRequest { name, pid })).await?;
        }
    }
    Ok(())
}

pub(super) async fn unbind(irmd: &mut Irmd, command: UnbindCommand) -> Result<(), Fault> {
    let path = irmd.path();
    match command {
        UnbindCommand::Program { program, name } => {
            let request = v1::UnbindProgramRequest { name, path: program::text(program)? };
            Irmd::answer(&path, QUICK, irmd.client.unbind_program(request)).await?;
        }
        UnbindCommand::Process { pid, name } => {
            Irmd::answer(&path, QUICK, irmd.client.unbind_process(v1::UnbindProcessRequest { name, pid })).await?;
        }
    }
    Ok(())
}

pub(super) async fn dealloc(irmd: &mut Irmd, id: u64) -> Result<(), Fault> {
    Irmd::answer(&irmd.path(), QUICK, irmd.client.flow_dealloc(v1::FlowDeallocRequest { flow_id: id })).await?;
    Ok(())
}

/// Ends irmd, and waits for its end: whoever starts the next one finds the place free.
pub(super) async fn shutdown(irmd: &mut Irmd, how: Shutdown) -> Result<(), Fault> {
    let path = irmd.path();
    let status = Irmd::answer(&path, QUICK, irmd.client.status(v1::Empty {})).await?;
    let process = i32::try_from(status.pid).ok().and_then(Pid::from_raw);
    let process = process.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let drain = Duration::from_secs(how.drain.into());
    let request = v1::ShutdownRequest {
        drain_ms: u32::try_from(drain.as_millis()).unwrap_or(u32::MAX),
        end_flows: how.flows == Left::End,
    };
    let left = Irmd::answer(&path, drain + SLOW, irmd.client.shutdown(request)).await?.flows;
    if let Some(process) = process {
        // Nothing else is to be done meanwhile.
        let within = Timespec::try_from(SLOW).ok();
        let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], within.as_ref());
    }
    match (left, how.flows) {
        (0, _) => Ok(()),
        (1, Left::Keep) => print::raw(b"1 flow goes on without daemons\n"),
        (_, Left::Keep) => print::raw(format!("{left} flows go on without daemons\n").as_bytes()),
        (_, Left::End) => print::raw(format!("{left} flows were ended\n").as_bytes()),
    }
}
