//! Processes that irmd starts: IPCPs, and programs on demand.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use proto::RunDir;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::process::{Child, Command};

use super::programs::{Program, Programs};
use super::users::Login;
use crate::machine::{ChildId, Started};

/// What children are started with, and those that live.
#[derive(Debug)]
pub(super) struct Children {
    run_dir: RunDir,
    state_dir: PathBuf,
    ipcpd_dir: Option<PathBuf>,
    /// What IPCPs are to log: as much as irmd itself.
    log: String,
    log_format: Option<logs::Format>,
    /// Programs on demand that run, written down for the next irmd.
    programs: Programs,
    /// By descriptor, not by number: numbers recycle.
    alive: HashMap<ChildId, OwnedFd>,
    ipcps: Vec<ChildId>,
    /// IPCPs that attached, our children or not.
    attached: HashMap<String, OwnedFd>,
}

impl Children {
    pub(super) fn new(
        run_dir: RunDir,
        state_dir: PathBuf,
        ipcpd_dir: Option<PathBuf>,
        log: String,
        log_format: Option<logs::Format>,
    ) -> Self {
        let programs = Programs::new(run_dir.path().join("programs"));
        let (alive, attached) = (HashMap::new(), HashMap::new());
        Self { run_dir, state_dir, ipcpd_dir, log, log_format, programs, alive, ipcps: Vec::new(), attached }
    }

    /// Starts an IPCP's process, unless one serves at its socket already.
    pub(super) fn start_ipcp(&mut self, ipcp: &str, child: ChildId) -> (Started, Option<Child>) {
        if listens(&self.run_dir.ipcp(ipcp)) {
            return (Started::Found, None);
        }
        let program = match self.find_ipcpd() {
            Ok(program) => program,
            Err(why) => return (Started::Failed(why), None),
        };
        let mut command = Command::new(&program);
        // A group of its own: Ctrl-C for irmd is not for its children, and they outlive a killed irmd.
        command.process_group(0);
        command.args(["--name", ipcp]).arg("--run-dir").arg(self.run_dir.path());
        command.arg("--state-dir").arg(&self.state_dir);
        // As it was changed meanwhile, if it was.
        let log = logs::lasting().unwrap_or_else(|| self.log.clone());
        if !log.is_empty() {
            command.env("FLOWRING_LOG", log);
        }
        if let Some(format) = self.log_format {
            command.env("FLOWRING_LOG_FORMAT", format.as_str());
        }
        match self.spawn(command, child) {
            Ok((pid, process)) => {
                self.ipcps.push(child);
                (Started::Spawned(pid), Some(process))
            }
            Err(error) => (Started::Failed(format!("{}: {error}", program.display())), None),
        }
    }

    /// Starts a program on demand, as another user if one is given.
    pub(super) fn start_program(
        &mut self,
        child: ChildId,
        name: &str,
        path: &str,
        args: &[String],
        user: Option<Login>,
    ) -> Result<(u32, Child), String> {
        let mut command = Command::new(path);
        command.args(args).current_dir("/");
        match user {
            Some(user) => user.enter(&mut command),
            // A group of its own: Ctrl-C for irmd is not for its children, and they outlive a killed irmd.
            None => drop(command.process_group(0)),
        }
        let (pid, process) = self.spawn(command, child).map_err(|e| e.to_string())?;
        self.programs.started(child, name, path, pid);
        Ok((pid, process))
    }

    /// Programs that an earlier irmd started and that still run.
    pub(super) fn programs_of_before(&self) -> Vec<Program> {
        self.programs.of_before()
    }

    /// One of them is known again; the future ends when it does.
    pub(super) fn found(&mut self, child: ChildId, program: Program) -> Option<impl Future<Output = ()> + use<>> {
        let fd = pidfd(program.pid)?;
        // Looked at again now that the number cannot go to another process unseen.
        let ended = handoff::watch_readable(fd.try_clone().ok()?).ok().filter(|_| program.runs())?;
        self.alive.insert(child, fd);
        self.programs.add(child, program);
        Some(async move {
            // An error would be that of the descriptor, which cannot be: then it counts as ended.
            let _ = ended.readable().await;
        })
    }

    fn spawn(&mut self, mut command: Command, child: ChildId) -> std::io::Result<(u32, Child)> {
        command.stdin(Stdio::null()).env("FLOWRING_RUN_DIR", self.run_dir.path());
        for variable in handoff::service::VARIABLES {
            command.env_remove(variable);
        }
        let process = command.spawn()?;
        let pid = process.id().unwrap_or_default();
        if let Some(fd) = pidfd(pid) {
            self.alive.insert(child, fd);
        }
        Ok((pid, process))
    }

    /// `--ipcpd-dir`, else beside irmd itself, else the PATH.
    fn find_ipcpd(&self) -> Result<PathBuf, String> {
        const NAME: &str = "ipcpd-udp";
        if let Some(dir) = &self.ipcpd_dir {
            return Ok(dir.join(NAME));
        }
        let own = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(NAME)));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = own.into_iter().chain(std::env::split_paths(&path).map(|dir| dir.join(NAME))).find(|p| p.is_file());
        found.ok_or_else(|| format!("no {NAME} beside irmd or in the PATH; install it or give --ipcpd-dir"))
    }

    /// A child has been reaped.
    pub(super) fn reaped(&mut self, child: ChildId) {
        self.alive.remove(&child);
        self.programs.ended(child);
        self.ipcps.retain(|ipcp| *ipcp != child);
    }

    /// Ends a child.
    pub(super) fn kill(&self, child: ChildId, hard: bool) {
        if let Some(fd) = self.alive.get(&child) {
            signal(fd, hard);
        }
    }

    /// An IPCP attached from this process.
    pub(super) fn attached(&mut self, ipcp: &str, pid: u32) {
        self.attached.extend(pidfd(pid).map(|fd| (ipcp.to_owned(), fd)));
    }

    /// It is attached no longer.
    pub(super) fn detached(&mut self, ipcp: &str) {
        self.attached.remove(ipcp);
    }

    /// Ends an attached IPCP that is no child of ours.
    pub(super) fn kill_attached(&self, ipcp: &str) {
        if let Some(fd) = self.attached.get(ipcp) {
            signal(fd, true);
        }
    }

    /// The IPCPs that irmd started, in this life or in an earlier one (`managed` by name).
    fn started(&self, managed: &[String]) -> impl Iterator<Item = &OwnedFd> {
        let adopted = managed.iter().filter_map(|name| self.attached.get(name));
        self.ipcps.iter().filter_map(|child| self.alive.get(child)).chain(adopted)
    }

    /// Tells those IPCPs to end that irmd started.
    pub(super) fn stop_ipcps(&self, managed: &[String], hard: bool) {
        self.started(managed).for_each(|fd| signal(fd, hard));
    }

    /// Whether one of them still lives.
    pub(super) fn ipcps_live(&self, managed: &[String]) -> bool {
        self.started(managed).any(|fd| {
            let mut ended = [PollFd::new(fd, PollFlags::IN)];
            poll(&mut ended, Some(&Timespec::default())) == Ok(0)
        })
    }
}

fn pidfd(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

fn signal(fd: &OwnedFd, hard: bool) {
    // It may have ended meanwhile: then there is nothing to signal.
    let _ = pidfd_send_signal(fd, if hard { Signal::KILL } else { Signal::TERM });
}

/// Whether something accepts at a Unix socket. Never waits.
pub(super) fn listens(socket: &Path) -> bool {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let Ok(address) = SocketAddrUnix::new(socket) else { return false };
    let Ok(probe) = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None) else {
        return false;
    };
    // EAGAIN: its queue is full, so somebody listens.
    matches!(rustix::net::connect(&probe, &address), Ok(()) | Err(Errno::AGAIN))
}

/// How a process ended, in words.
pub(super) fn how(status: std::io::Result<ExitStatus>) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exited with status {code}"),
            (None, Some(signal)) => format!("was killed by signal {signal}"),
            (None, None) => "ended".into(),
        },
        Err(error) => format!("ended, and how is not known ({error})"),
    }
}
