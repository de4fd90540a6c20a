//! The run directory, irmd, its IPCPs.

use proto::v1;

use super::command;
use super::facts::{Facts, Folder, Ipcp, Irmd};
use super::finding::{Line, Lines};
use super::words::{
    DAEMON_REPLACED, DAEMON_YOUNG, IPCP_DOWN, IPCP_LOOPING, IPCP_NONE, IPCP_STALE, IPCP_STARTING, IPCP_STOPPED,
    IPCP_STRANGER, IPCP_UNMADE, IRMD_BUILD, IRMD_DEAD, IRMD_FORBIDDEN, IRMD_NO_IRMD, IRMD_NONE, IRMD_OTHERS,
    IRMD_STOPPED, IRMD_STUCK, IRMD_VERSION, RUN_DIR_CLOSED, RUN_DIR_ELSEWHERE, RUN_DIR_FOREIGN, RUN_DIR_MISSING,
    RUN_DIR_NONE, RUN_DIR_WRITABLE, SESSION_NONE,
};
use crate::machine::text::age;

/// A daemon that started less long ago is still hearing what there is, milliseconds.
const YOUNG: u64 = 10_000;

/// Started again so often, and none of the last lived for a minute: it does not stay.
const MANY: u32 = 3;
const STAYS: u64 = 60_000;

/// The folder of the sockets.
pub(super) fn run_dir(facts: &Facts) -> Vec<Line> {
    let mut lines = Lines::of("run directory");
    let folder = match &facts.run_dir {
        Ok(folder) => folder,
        Err(_) => {
            lines.find(&RUN_DIR_NONE, &[]);
            return lines.done();
        }
    };
    let dir = folder.path.as_str();
    let Some(about) = folder.about else {
        match &facts.elsewhere {
            _ if matches!(facts.irmd, Irmd::Forbidden) => {
                lines.unchecked(format!("not checked: {dir} is closed to this user"))
            }
            Some(other) => lines.find(&RUN_DIR_ELSEWHERE, &[("dir", dir), ("other", other)]),
            None => lines.find(&RUN_DIR_MISSING, &[("dir", dir), ("start command", &command::start(facts, dir))]),
        }
        return lines.done();
    };
    let irmd_uid = if let Irmd::Up { uid, .. } = facts.irmd { uid } else { facts.here.uid };
    if about.uid != 0 && about.uid != irmd_uid && about.uid != facts.here.uid {
        lines.find(&RUN_DIR_FOREIGN, &[("dir", dir), ("owner", &about.uid.to_string())]);
    }
    let mode = format!("{:04o}", about.mode);
    if about.mode & 0o022 != 0 {
        lines.find(&RUN_DIR_WRITABLE, &[("dir", dir), ("mode", &mode)]);
    } else if about.mode & 0o005 != 0o005 {
        lines.find(&RUN_DIR_CLOSED, &[("dir", dir), ("mode", &mode)]);
    }
    if lines.is_empty() {
        lines.ok(format!("{dir} is user {}'s, mode {mode}", about.uid));
    }
    lines.done()
}

/// irmd at its socket.
pub(super) fn irmd(facts: &Facts) -> Vec<Line> {
    let mut lines = Lines::of("irmd");
    let Ok(Folder { path: dir, .. }) = &facts.run_dir else {
        lines.unchecked("not checked: there is no run directory to look in");
        return lines.done();
    };
    let socket = format!("{dir}/irmd.sock");
    let start = command::start(facts, dir);
    let at = [("socket", socket.as_str()), ("start command", &start), ("dir", dir)];
    match &facts.irmd {
        Irmd::Nowhere => {}
        // What to do about that is said of the directory.
        Irmd::Missing if facts.run_dir.as_ref().is_ok_and(|dir| dir.about.is_none()) => {
            lines.unchecked("not checked: there is no run directory to look in");
        }
        Irmd::Missing | Irmd::Dead if facts.elsewhere.is_some() => {
            let other = facts.elsewhere.as_deref().unwrap_or_default();
            lines.find(&RUN_DIR_ELSEWHERE, &[("dir", dir), ("other", other)]);
        }
        Irmd::Missing => lines.find(&IRMD_NONE, &at),
        Irmd::Dead => lines.find(&IRMD_DEAD, &at),
        Irmd::Forbidden => lines.find(&IRMD_FORBIDDEN, &at),
        Irmd::Silent { pid, stopped: true, .. } => lines.find(&IRMD_STOPPED, &[("pid", &pid.to_string())]),
        Irmd::Silent { pid, ms, .. } => {
            let restart = command::restart(facts, dir, *pid);
            let values = [("pid", pid.to_string()), ("ms", ms.to_string()), ("restart command", restart)];
            let values: Vec<_> = values.iter().map(|(word, value)| (*word, value.as_str())).collect();
            lines.find(&IRMD_STUCK, &[values.as_slice(), &at].concat());
        }
        Irmd::Strange(why) => {
            let restart = command::restart(facts, dir, 0);
            lines.find(&IRMD_NO_IRMD, &[("socket", &socket), ("why", why), ("restart command", &restart)]);
        }
        Irmd::Up { status, uid, ms } => {
            let (pid, up) = (status.pid, age(status.uptime_ms));
            lines.ok(format!("irmd {} (pid {pid}, user {uid}) is up for {up} and answered in {ms} ms", status.build));
        }
    }
    lines.done()
}

/// Of one release.
pub(super) fn versions(facts: &Facts) -> Vec<Line> {
    let mut lines = Lines::of("daemons");
    let (Some(status), Ok(folder)) = (facts.irmd.status(), &facts.run_dir) else {
        lines.unchecked("not checked: irmd does not say which version it is");
        return lines.done();
    };
    let restart = command::restart(facts, &folder.path, status.pid);
    if status.version != facts.here.version {
        let (theirs, ours) = (status.version.to_string(), facts.here.version.to_string());
        lines.find(&IRMD_VERSION, &[("theirs", &theirs), ("ours", &ours), ("restart command", &restart)]);
    } else if status.build != facts.here.build {
        let values = [("theirs", status.build.as_str()), ("ours", &facts.here.build), ("restart command", &restart)];
        lines.find(&IRMD_BUILD, &values);
    }
    for process in facts.processes.iter().filter(|process| process.daemon) {
        let pid = process.pid.to_string();
        let of = [("program", process.program.as_str()), ("pid", &pid)];
        if process.replaced == Ok(true) {
            let restart = match process.pid == status.pid {
                true => restart.clone(),
                // irmd, or systemd, starts it again.
                false => format!("kill {pid}"),
            };
            lines.find(&DAEMON_REPLACED, &[of.as_slice(), &[("restart command", &restart)]].concat());
        }
        if let Ok(ms) = process.age_ms
            && ms < YOUNG
        {
            lines.find(&DAEMON_YOUNG, &[of.as_slice(), &[("age", &age(ms))]].concat());
        }
    }
    if lines.is_empty() {
        lines.ok(format!("irmd and irm are build {}, protocol version {}", status.build, status.version));
    }
    lines.done()
}

/// One irmd is enough.
pub(super) fn others(facts: &Facts) -> Vec<Line> {
    let mut lines = Lines::of("other irmds");
    let dir = facts.run_dir.as_ref().map_or("", |folder| folder.path.as_str());
    match &facts.others {
        Err(why) => lines.unchecked(format!("not checked: {why}")),
        Ok(pids) if pids.is_empty() => lines.ok("no other irmd runs in this network"),
        Ok(pids) => {
            let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
            lines.find(&IRMD_OTHERS, &[("pids", &pids.join(",")), ("dir", dir)]);
        }
    }
    lines.done()
}

/// The IPCPs, one by one.
pub(super) fn ipcps(facts: &Facts) -> Vec<Line> {
    let mut lines = Lines::of("IPCPs");
    for ipcp in &facts.ipcps {
        one_ipcp(&mut lines, facts, ipcp);
    }
    for stranger in &facts.strangers {
        let values = [("ipcp", stranger.name.as_str()), ("socket", &stranger.socket)];
        match (stranger.alive, facts.irmd.status().is_some()) {
            (true, true) => {
                let stop = command::stop(&stranger.name, stranger.pid);
                lines.find(&IPCP_STRANGER, &[values.as_slice(), &[("stop command", &stop)]].concat());
            }
            (true, false) => lines.ok(format!("IPCP {} runs and waits for irmd", stranger.name)),
            (false, _) => lines.find(&IPCP_STALE, &values),
        }
    }
    if facts.irmd.status().is_none() {
        lines.unchecked("not checked: only irmd knows which IPCPs there are to be");
    } else if facts.ipcps.is_empty() {
        let own = facts.interfaces.iter().flatten().filter(|interface| interface.up && !interface.loopback);
        let ip = own.flat_map(|interface| &interface.addresses).next();
        lines.find(&IPCP_NONE, &[("ip", &ip.map_or("ADDRESS".to_owned(), ToString::to_string))]);
    }
    lines.done()
}

fn one_ipcp(lines: &mut Lines, facts: &Facts, ipcp: &Ipcp) {
    let info = &ipcp.info;
    let why = if info.last_end.is_empty() { "it was not bootstrapped" } else { &info.last_end };
    let (bootstrap, pid, times) = (command::bootstrap(info, None), info.pid.to_string(), info.restarts.to_string());
    let values = [
        ("ipcp", info.name.as_str()),
        ("why", why),
        ("pid", &pid),
        ("times", &times),
        ("bootstrap command", &bootstrap),
        ("log command", if facts.here.unit { "journalctl -u flowring-irmd -e" } else { "irm ipcp list --json" }),
    ];
    let age_ms = facts.processes.iter().find(|process| process.pid == info.pid).map(|process| process.age_ms.clone());
    let young = matches!(age_ms, Some(Ok(ms)) if ms < STAYS) || info.pid == 0;
    let state = info.state();
    if info.restarts >= MANY && young && info.restart {
        lines.find(&IPCP_LOOPING, &values);
    } else if ipcp.stopped {
        lines.find(&IPCP_STOPPED, &values);
    } else {
        match state {
            v1::IpcpState::Down => lines.find(&IPCP_DOWN, &values),
            v1::IpcpState::Attached => lines.find(&IPCP_UNMADE, &values),
            v1::IpcpState::Starting | v1::IpcpState::Unspecified => lines.find(&IPCP_STARTING, &values),
            v1::IpcpState::Operational => {
                let (name, layer, address) = (&info.name, &info.layer, &info.address);
                let again = if info.restarts == 0 { String::new() } else { format!(", started again {times} times") };
                lines.ok(format!("IPCP {name} (pid {pid}) is a member of {layer} at {address}{again}"));
                let server = info.config.as_ref().map_or("", |config| config.rendezvous.as_str());
                // As the IPCP says it of itself; empty where it was not asked or has none.
                if !info.session.is_empty() && !info.session.starts_with("joined ") {
                    let values = [("ipcp", name.as_str()), ("why", &info.session), ("server", server)];
                    lines.find(&SESSION_NONE, &values);
                }
            }
        }
    }
}
