//! This host: files, processes, interfaces, the kernel's settings. All of it is read, none of it written.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{SetSockOpt, setsockopt, sockopt};
use rustix::fs::{StatVfsMountFlags, statvfs};

use super::kernel;
use crate::machine::doctor::facts::{Clock, Folder, Holder, Interface, Known, Owner, Process, State, System};
use crate::machine::doctor::proc::{self, UdpRow};

/// Longest file of /proc that is read: the sockets of a host with many flows.
const LONGEST: u64 = 64 << 20;

/// Ticks of the clock in which /proc counts, each second: the same on every machine that Linux runs on.
const TICKS: u64 = 100;

fn read(path: impl AsRef<Path>) -> Known<String> {
    let path = path.as_ref();
    let why = |error: std::io::Error| format!("cannot read {}: {}", path.display(), words(&error));
    let mut bytes = Vec::new();
    fs::File::open(path).map_err(why)?.take(LONGEST).read_to_end(&mut bytes).map_err(why)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The kernel's words without their number.
fn words(error: &std::io::Error) -> String {
    error.to_string().split(" (os error").next().unwrap_or_default().to_lowercase()
}

fn number(path: impl AsRef<Path>) -> Known<u64> {
    let path = path.as_ref();
    read(path)?.trim().parse().map_err(|_| format!("{} holds no number", path.display()))
}

/// A file or folder, with whose it is; an error where that cannot be seen.
pub(super) fn folder(path: &Path) -> Known<Folder> {
    let shown = path.display().to_string();
    match fs::metadata(path) {
        Ok(about) => Ok(Folder { path: shown, about: Some(Owner { uid: about.uid(), mode: about.mode() & 0o7777 }) }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Folder { path: shown, about: None }),
        Err(error) => Err(format!("cannot look at {shown}: {}", words(&error))),
    }
}

/// Whether a process is stopped by a signal or a debugger.
pub(super) fn stopped(pid: u32) -> bool {
    let stat = read(format!("/proc/{pid}/stat")).ok();
    pid != 0 && stat.and_then(|text| proc::stat(&text)).is_some_and(|(state, _)| matches!(state, 'T' | 't'))
}

fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn command(pid: u32) -> String {
    read(format!("/proc/{pid}/comm")).map_or_else(|_| "a process".to_owned(), |comm| comm.trim_end().to_owned())
}

/// Processes called irmd, but for `own` and those that are certainly in another network.
pub(super) fn other_irmds(own: u32) -> Known<Vec<u32>> {
    let network = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net"));
    let here = network("self").map_err(|error| format!("cannot look at this network: {}", words(&error)))?;
    let mut found = pids();
    found.retain(|pid| {
        *pid != own && command(*pid) == "irmd" && network(&pid.to_string()).map_or(true, |its| its == here)
    });
    Ok(found)
}

/// The interfaces, with their addresses.
pub(super) fn interfaces() -> Known<Vec<Interface>> {
    let all = getifaddrs().map_err(|error| format!("cannot list interfaces: {error}"))?;
    #[expect(clippy::disallowed_methods, reason = "a socket to ask the kernel by")]
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))
        .or_else(|_| std::net::UdpSocket::bind((std::net::Ipv6Addr::UNSPECIFIED, 0)))
        .or_else(|_| std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0)));
    let mut found: BTreeMap<String, Interface> = BTreeMap::new();
    for one in all {
        let interface = found.entry(one.interface_name.clone()).or_insert_with(|| Interface {
            up: one.flags.contains(InterfaceFlags::IFF_UP),
            running: one.flags.contains(InterfaceFlags::IFF_RUNNING),
            loopback: one.flags.contains(InterfaceFlags::IFF_LOOPBACK),
            mtu: socket.as_ref().ok().and_then(|any| kernel::mtu(any.as_fd(), &one.interface_name).ok()).unwrap_or(0),
            name: one.interface_name,
            addresses: Vec::new(),
        });
        let address = one.address.and_then(|address| {
            let four = address.as_sockaddr_in().map(|four| IpAddr::V4(four.ip()));
            four.or_else(|| address.as_sockaddr_in6().map(|six| IpAddr::V6(six.ip())))
        });
        interface.addresses.extend(address);
    }
    Ok(found.into_values().collect())
}

/// The UDP sockets of this network.
pub(super) fn udp() -> Known<Vec<UdpRow>> {
    let mut rows = proc::udp(&read("/proc/net/udp")?);
    // Without IPv6 there is no such file.
    rows.extend(proc::udp(&read("/proc/net/udp6").unwrap_or_default()));
    Ok(rows)
}

/// Who holds these sockets, as far as this user may see.
pub(super) fn holders(inodes: &[u64]) -> Vec<Holder> {
    if inodes.is_empty() {
        return Vec::new();
    }
    let targets: Vec<PathBuf> = inodes.iter().map(|inode| format!("socket:[{inode}]").into()).collect();
    let mut found = Vec::new();
    for pid in pids() {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        for target in descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok()) {
            if let Some(inode) = targets.iter().position(|one| *one == target).and_then(|at| inodes.get(at)) {
                found.push(Holder { inode: *inode, pid, command: command(pid) });
            }
        }
    }
    found
}

/// A process' limits and age. `program` empty: as it calls itself.
pub(super) fn process(program: &str, pid: u32, daemon: bool, flows: u32) -> Process {
    let about = |file: &str| format!("/proc/{pid}/{file}");
    let program = if program.is_empty() { command(pid) } else { program.to_owned() };
    let private = |what: &str, error: &std::io::Error| format!("{what} of {program} (pid {pid}): {}", words(error));
    let limit = read(about("limits")).and_then(|text| proc::descriptors(&text).ok_or("no limit is said".to_owned()));
    let open = fs::read_dir(about("fd")).map(|entries| entries.count() as u64);
    let replaced = fs::read_link(about("exe")).map(|path| path.to_string_lossy().ends_with(" (deleted)"));
    let group = read(about("cgroup"));
    let group = group.as_ref().ok().and_then(|text| proc::control_group(text));
    Process {
        age_ms: age_ms(pid),
        limit,
        open: open.map_err(|error| private("descriptors", &error)),
        replaced: replaced.map_err(|error| private("the program file", &error)),
        memory: group.map_or(Ok(None), memory),
        unit: group.and_then(proc::unit).map(str::to_owned),
        program: program.clone(),
        pid,
        daemon,
        flows,
    }
}

fn age_ms(pid: u32) -> Known<u64> {
    let (_, ticks) = proc::stat(&read(format!("/proc/{pid}/stat"))?).ok_or("no start is said")?;
    let up = proc::uptime_ms(&read("/proc/uptime")?).ok_or("no uptime is said")?;
    Ok(up.saturating_sub(ticks.saturating_mul(1000 / TICKS)))
}

/// What a control group, or one that it is in, has used most of.
fn memory(group: &str) -> Known<Option<(u64, u64)>> {
    let root = Path::new("/sys/fs/cgroup");
    let own = root.join(group.trim_start_matches('/'));
    let groups = own.ancestors().take_while(|folder| folder.starts_with(root));
    let used = groups.filter_map(|folder| {
        let limit = number(folder.join("memory.max")).ok().filter(|limit| *limit > 0)?;
        // What only keeps files at hand is given back before anything is ended.
        let stat = read(folder.join("memory.stat")).unwrap_or_default();
        let spare = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse().ok()).unwrap_or(0);
        Some((number(folder.join("memory.current")).ok()?.saturating_sub(spare), limit))
    });
    Ok(used.max_by(|one, other| (one.0 as f64 / one.1 as f64).total_cmp(&(other.0 as f64 / other.1 as f64))))
}

/// The state directory; `uid`: irmd's user, where it is known.
pub(super) fn state(folder: &Path, uid: Option<u32>, key: &Path) -> Known<State> {
    let about = self::folder(folder)?;
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let system =
        statvfs(there).map_err(|error| format!("cannot look at the file system of {}: {error}", there.display()))?;
    let mounts = read("/proc/self/mountinfo").unwrap_or_default();
    Ok(State {
        uid: uid.or(about.about.map(|owner| owner.uid)).unwrap_or(0),
        read_only: system.f_flag.contains(StatVfsMountFlags::RDONLY),
        mount: proc::mount_of(&mounts, &there.to_string_lossy()).unwrap_or("/").to_owned(),
        free: system.f_bavail.saturating_mul(system.f_frsize),
        key: self::folder(key),
        folder: about,
    })
}

/// The clock, and whether a file of irmd's is of the future.
pub(super) fn clock(run_dir: Option<&Path>, now: SystemTime) -> Clock {
    let synchronised = kernel::clock_is_synchronised().map_err(|error| words(&error));
    let files = ["irmd.lock", "irmd.sock", "flow-ids"];
    let ahead = files.iter().filter_map(|file| {
        let path = run_dir?.join(file);
        let ahead = fs::metadata(&path).ok()?.modified().ok()?.duration_since(now).unwrap_or(Duration::ZERO);
        Some((path.display().to_string(), ahead.as_secs()))
    });
    Clock { synchronised, ahead: ahead.max_by_key(|(_, ahead)| *ahead) }
}

/// The kernel and its settings.
pub(super) fn system() -> System {
    let setting = |name: &str| number(format!("/proc/sys/{}", name.replace('.', "/")));
    let buffer = |name: &'static str| (name, setting(name));
    let queues = read("/proc/net/snmp").and_then(|text| proc::udp_queues(&text).ok_or("no UDP is counted".to_owned()));
    let (count, max) = (setting("net.netfilter.nf_conntrack_count"), setting("net.netfilter.nf_conntrack_max"));
    let forbid = [
        ("kernel.unprivileged_userns_clone", 0, "1"),
        ("user.max_user_namespaces", 0, "16384"),
        ("kernel.apparmor_restrict_unprivileged_userns", 1, "0"),
    ];
    let forbids = |(name, value, want): &(&'static str, u64, &'static str)| {
        (setting(name) == Ok(*value)).then_some((*name, *want))
    };
    System {
        release: read("/proc/sys/kernel/osrelease").map_or_else(|why| why, |text| text.trim().to_owned()),
        buffers: ["net.core.rmem_max", "net.core.wmem_max", "net.core.rmem_default", "net.core.wmem_default"]
            .map(buffer)
            .into(),
        queues,
        segment: takes(sockopt::UdpGsoSegment, &1_400),
        receive: takes(sockopt::UdpGroSegment, &true),
        conntrack: Ok(count.ok().zip(max.ok())),
        no_user_namespaces: forbid.iter().find_map(forbids),
        no_ipv6: ["net.ipv6.conf.all.disable_ipv6"]
            .iter()
            .filter(|name| setting(name) == Ok(1))
            .map(ToString::to_string)
            .collect(),
    }
}

/// Whether a UDP socket takes an option.
#[expect(clippy::disallowed_methods, reason = "a socket to try an option on")]
fn takes<O: SetSockOpt>(option: O, value: &O::Val) -> Known<bool> {
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0)).map_err(|error| words(&error))?;
    Ok(setsockopt(&socket, option, value).is_ok())
}
