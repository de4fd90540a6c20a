//! `irm doctor`: looks at everything at once, each within its time, and prints what the machine makes of it.

mod host;
mod kernel;
mod probe;
mod reach;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proto::{RunDir, v1};
use tokio::task::{JoinSet, spawn_blocking};

use self::probe::Question;
use self::reach::Told;
use super::irmd::Irmd as Caller;
use super::{Fault, print};
use crate::cli::{Doctor, Listing};
use crate::machine::doctor::facts::{
    Clock, Facts, Folder, Here, Holder, Interface, Ipcp, Irmd, Known, Probe, Process, State, Stranger, System, Zone,
};
use crate::machine::doctor::proc::UdpRow;
use crate::machine::doctor::{examine, peer_address, shim, text};

/// Peers that are asked, and programs whose limits are read.
const PEERS: usize = 64;
const PROGRAMS: usize = 32;

/// All of it ends then, whoever is silent.
const ALL: Duration = Duration::from_millis(2_800);

/// `nft` answers sooner, or hangs.
const NFT: Duration = Duration::from_millis(1_500);

pub(super) async fn doctor(run_dir: Option<&Path>, how: Doctor) -> Result<(), Fault> {
    let report = examine(&gather(run_dir, how.name).await);
    print::listing(Listing { json: how.json }, &report, |report| text(report, how.verbose))?;
    if report.is_well() { Ok(()) } else { Err(Fault::Unwell) }
}

#[expect(clippy::disallowed_methods, reason = "what time it is, is one of the questions")]
async fn gather(given: Option<&Path>, name: Option<String>) -> Facts {
    let (now, last) = (SystemTime::now(), Instant::now() + ALL);
    let run_dir = RunDir::find(given).map_err(|error| error.to_string());
    let (irmd, caller, told) = match &run_dir {
        Ok(dir) => reach::irmd(dir).await,
        Err(_) => (Irmd::Nowhere, None, Told::nothing()),
    };
    let caller = caller.as_ref();
    let infos = irmd.status().map(|status| status.ipcps.clone()).unwrap_or_default();
    let pid = irmd.status().map_or(0, |status| status.pid);
    let dir = run_dir.as_ref().ok().map(|dir| dir.path().to_path_buf());
    let uid = if let Irmd::Up { uid, .. } = irmd { Some(uid) } else { None };
    let state = state_dir(given.is_some(), dir.as_deref(), &told);
    let asked = (infos.clone(), dir.clone(), processes(pid, &infos, &told));
    // One that does not answer is no other.
    let own = if let Irmd::Silent { pid, .. } = irmd { pid } else { pid };
    let looked = spawn_blocking(move || look(&asked.0, asked.1.as_deref(), asked.2, state, uid, own, now));
    let (own_probes, (name, (peer_probes, peers_left_out)), zones, firewall, looked, elsewhere, strangers) = tokio::join!(
        all(own_questions(&infos), last),
        follow(caller, name, &infos, last),
        zones(caller, &infos),
        ruleset(),
        looked,
        elsewhere(&run_dir, &irmd),
        strangers(&run_dir, &infos),
    );
    let looked = looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    Facts {
        here: here(dir.as_deref(), now),
        run_dir: run_dir.map(|dir| {
            let closed = Folder { path: dir.to_string(), about: None };
            host::folder(dir.path()).unwrap_or(closed)
        }),
        elsewhere,
        irmd,
        others: looked.others,
        ipcps: infos.into_iter().map(|info| Ipcp { stopped: host::stopped(info.pid), info }).collect(),
        strangers,
        interfaces: looked.interfaces,
        udp: looked.udp,
        holders: looked.holders,
        own_probes,
        peer_probes,
        peers_left_out,
        firewall,
        zones,
        certificate: validity(&told.identity),
        names: told.names,
        name,
        clock: looked.clock,
        state: looked.state,
        processes: looked.processes,
        system: looked.system,
    }
}

fn here(dir: Option<&Path>, now: SystemTime) -> Here {
    let units = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
    let unit = |folder: &str| Path::new(folder).join("flowring-irmd.service").exists();
    let usual = dir == Some(Path::new("/run/flowring")) && Path::new("/run/systemd/system").exists();
    Here {
        uid: rustix::process::geteuid().as_raw(),
        version: proto::protocol_version(),
        build: env!("CARGO_PKG_VERSION").to_owned(),
        now: now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        unit: usual && units.into_iter().any(unit),
    }
}

/// What is read from this host's files.
struct Looked {
    others: Known<Vec<u32>>,
    interfaces: Known<Vec<Interface>>,
    udp: Known<Vec<UdpRow>>,
    holders: Vec<Holder>,
    clock: Clock,
    state: Known<State>,
    processes: Vec<Process>,
    system: System,
}

fn look(
    infos: &[v1::IpcpInfo],
    dir: Option<&Path>,
    processes: Vec<(String, u32, bool, u32)>,
    state: Known<(PathBuf, PathBuf)>,
    uid: Option<u32>,
    pid: u32,
    now: SystemTime,
) -> Looked {
    let udp = host::udp();
    // Looking for who holds a socket means looking at every descriptor there is: only where it matters.
    let wanted = infos.iter().filter(|info| info.state() != v1::IpcpState::Operational);
    let ports: Vec<u16> = wanted.filter_map(shim).map(|shim| shim.port()).collect();
    let rows = udp.iter().flatten().filter(|row| row.unconnected && ports.contains(&row.local.port()));
    let inodes: Vec<u64> = rows.map(|row| row.inode).collect();
    Looked {
        others: host::other_irmds(pid),
        interfaces: host::interfaces(),
        holders: host::holders(&inodes),
        udp,
        clock: host::clock(dir, now),
        state: state.and_then(|(folder, key)| host::state(&folder, uid, &key)),
        processes: processes
            .iter()
            .map(|(program, pid, daemon, flows)| host::process(program, *pid, *daemon, *flows))
            .collect(),
        system: host::system(),
    }
}

/// The daemons, and the programs with most flows: name, pid, whether it is a daemon, flows.
fn processes(irmd: u32, infos: &[v1::IpcpInfo], told: &Told) -> Vec<(String, u32, bool, u32)> {
    let mut found = Vec::new();
    if irmd != 0 {
        found.push(("irmd".to_owned(), irmd, true, 0));
    }
    let up = infos.iter().filter(|info| info.pid != 0);
    found.extend(up.map(|info| ("ipcpd-udp".to_owned(), info.pid, true, info.flows)));
    let mut programs: BTreeMap<u32, (String, u32)> = BTreeMap::new();
    for flow in told.flows.iter().flatten() {
        for process in [&flow.process, &flow.peer_process].into_iter().flatten().filter(|process| process.pid != 0) {
            programs.entry(process.pid).or_insert_with(|| (process.command.clone(), 0)).1 += 1;
        }
    }
    let mut programs: Vec<_> =
        programs.into_iter().map(|(pid, (command, flows))| (command, pid, false, flows)).collect();
    programs.sort_by_key(|(_, _, _, flows)| std::cmp::Reverse(*flows));
    found.extend(programs.into_iter().take(PROGRAMS));
    found
}

/// The state directory and the host's key: by irmd's word, else where an irmd that was started like this tool keeps them.
fn state_dir(given: bool, run_dir: Option<&Path>, told: &Told) -> Known<(PathBuf, PathBuf)> {
    if let Ok(identity) = &told.identity
        && let Some(folder) = Path::new(&identity.key_file).parent()
    {
        return Ok((folder.to_path_buf(), PathBuf::from(&identity.key_file)));
    }
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let run_dir = run_dir.ok_or("irmd does not say where it keeps its state")?;
    let folder = if given || var("FLOWRING_RUN_DIR").is_some() {
        run_dir.join("state")
    } else if rustix::process::geteuid().is_root() {
        "/var/lib/flowring".into()
    } else {
        let base = var("XDG_STATE_HOME").or_else(|| Some(var("HOME")?.join(".local/state")));
        base.ok_or("irmd does not say where it keeps its state")?.join("flowring")
    };
    if folder.exists() {
        let key = folder.join("host-key.pem");
        Ok((folder, key))
    } else {
        Err(format!("irmd does not say where it keeps its state, and {} does not exist", folder.display()))
    }
}

/// From when until when this host's certificate is good.
fn validity(identity: &Known<v1::IdentityShowReply>) -> Known<(i64, i64)> {
    let chain = &identity.as_ref().map_err(Clone::clone)?.chain;
    let first = chain.first().ok_or("irmd shows no certificate")?;
    let (_, read) = x509_parser::parse_x509_certificate(first)
        .map_err(|error| format!("the certificate cannot be read: {error}"))?;
    Ok((read.validity().not_before.timestamp(), read.validity().not_after.timestamp()))
}

/// One request to each IPCP that says that it listens.
fn own_questions(infos: &[v1::IpcpInfo]) -> Vec<Question> {
    let up = infos.iter().filter(|info| info.state() == v1::IpcpState::Operational);
    let shims = up.filter_map(|info| Some((info, shim(info)?)));
    shims
        .map(|(info, to)| Question { ipcp: info.name.clone(), from: probe::any(to.ip()), to, names: Vec::new() })
        .collect()
}

async fn all(questions: Vec<Question>, last: Instant) -> Vec<Probe> {
    let mut tasks = JoinSet::new();
    for (at, question) in questions.into_iter().enumerate() {
        tasks.spawn_blocking(move || (at, probe::ask(question, last)));
    }
    let mut answers = tasks.join_all().await;
    answers.sort_by_key(|(at, _)| *at);
    answers.into_iter().map(|(_, probe)| probe).collect()
}

type Followed = (Option<(String, Known<v1::NameResolveReply>)>, (Vec<Probe>, usize));

/// Where the name leads, and whether somebody is there and at the hosts of the directories.
async fn follow(caller: Option<&Caller>, name: Option<String>, infos: &[v1::IpcpInfo], last: Instant) -> Followed {
    let known = all(directory(infos).0, last);
    let named = async {
        let name = name?;
        let Some(caller) = caller else { return Some((name, Err("irmd does not answer".to_owned()), Vec::new())) };
        let reply = match reach::resolve(caller, name.clone(), String::new()).await {
            Ok(Some(reply)) => reply,
            Ok(None) => return Some((name, Err("its sources did not answer in time".to_owned()), Vec::new())),
            Err(why) => return Some((name, Err(why), Vec::new())),
        };
        let there = all(resolved(&name, &reply, infos), last).await;
        Some((name, Ok(reply), there))
    };
    let (mut probes, named) = tokio::join!(known, named);
    let named = named.map(|(name, reply, there)| {
        probes.extend(there);
        (name, reply)
    });
    (named, (probes, directory(infos).1))
}

/// The hosts of the static directories, and how many are left out.
fn directory(infos: &[v1::IpcpInfo]) -> (Vec<Question>, usize) {
    let mut hosts: BTreeMap<(String, std::net::SocketAddr), (IpAddr, Vec<String>)> = BTreeMap::new();
    for info in infos {
        let Some(shim) = shim(info) else { continue };
        for host in info.config.iter().flat_map(|udp| &udp.hosts) {
            if let Some(to) = peer_address(&host.address).filter(|to| to.is_ipv4() == shim.is_ipv4()) {
                let entry = hosts.entry((info.name.clone(), to)).or_insert_with(|| (shim.ip(), Vec::new()));
                entry.1.push(host.name.clone());
            }
        }
    }
    let left_out = hosts.len().saturating_sub(PEERS);
    let questions = hosts.into_iter().take(PEERS).map(|((ipcp, to), (from, names))| Question { ipcp, from, to, names });
    (questions.collect(), left_out)
}

/// Hosts where the name is by another word than the static directory's.
fn resolved(name: &str, reply: &v1::NameResolveReply, infos: &[v1::IpcpInfo]) -> Vec<Question> {
    let steps = reply.steps.iter().filter(|step| step.source == "dns");
    let hosts = steps.flat_map(|step| step.hosts.iter().map(move |host| (step, host)));
    let questions = hosts.filter(|(_, host)| host.ignored.is_empty()).filter_map(|(step, host)| {
        let shim = shim(infos.iter().find(|info| info.name == step.ipcp)?)?;
        let to = peer_address(&host.address)?;
        Some(Question { ipcp: step.ipcp.clone(), from: shim.ip(), to, names: vec![name.to_owned()] })
    });
    questions.take(PEERS).collect()
}

async fn zones(caller: Option<&Caller>, infos: &[v1::IpcpInfo]) -> Vec<Zone> {
    let Some(caller) = caller else { return Vec::new() };
    let unknown = format!("{}{:08x}", probe::NAME, std::process::id());
    let with = infos.iter().filter(|info| info.config.as_ref().is_some_and(|udp| !udp.dns_zone.is_empty()));
    let up = with.filter(|info| info.state() == v1::IpcpState::Operational).take(PEERS);
    // One after the other, each with its time, would take too long where several are silent.
    let mut tasks = JoinSet::new();
    for info in up {
        let (caller, info, unknown) = (caller.another(), info.clone(), unknown.clone());
        tasks.spawn(async move { reach::zone(&caller, &info, unknown).await });
    }
    tasks.join_all().await
}

/// The rules of nftables, where this user may read them.
async fn ruleset() -> Known<String> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let mut nft = tokio::process::Command::new("nft");
    nft.args(["-j", "list", "ruleset"]).env("PATH", path).stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(NFT, nft.output()).await {
        Err(_) => Err("nft did not answer in time".to_owned()),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            Err("nft is not installed, so the rules of the firewall cannot be read".to_owned())
        }
        Ok(Err(error)) => Err(format!("nft cannot be run: {error}")),
        Ok(Ok(output)) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(Ok(_)) => Err("only root may read the rules of the firewall".to_owned()),
    }
}

/// The system's irmd, where there is none in this user's run directory.
async fn elsewhere(run_dir: &Known<RunDir>, irmd: &Irmd) -> Option<String> {
    let usual = "/run/flowring";
    let here = run_dir.as_ref().ok()?.path();
    if !matches!(irmd, Irmd::Missing | Irmd::Dead) || here == Path::new(usual) {
        return None;
    }
    let there = tokio::net::UnixStream::connect(Path::new(usual).join("irmd.sock"));
    tokio::time::timeout(reach::ANSWERS, there).await.ok()?.ok().map(|_| usual.to_owned())
}

async fn strangers(run_dir: &Known<RunDir>, infos: &[v1::IpcpInfo]) -> Vec<Stranger> {
    match run_dir {
        Ok(run_dir) => reach::strangers(run_dir, infos).await,
        Err(_) => Vec::new(),
    }
}
