//! The clock, the state directory, limits, the kernel.

use x509_parser::time::ASN1Time;

use super::facts::{Facts, Process, State};
use super::finding::{Line, Lines};
use super::proc;
use super::words::{
    BUFFERS_SMALL, BUFFERS_TINY, CERTIFICATE_EARLY, CERTIFICATE_ENDS, CERTIFICATE_OVER, CLOCK_BACK, CLOCK_FREE,
    CLOCK_WRONG, CONNTRACK_FULL, DESCRIPTORS_FEW, DESCRIPTORS_SHORT, DISK_FULL, GSO_MISSING, KERNEL_HASH, KEY_MISSING,
    KEY_OPEN, MEMORY_SHORT, QUEUE_LISTEN, QUEUE_OVERFLOW, STATE_FOREIGN, STATE_MISSING, STATE_READONLY, STATE_WRITABLE,
    USER_NAMESPACES,
};
use crate::machine::text::{age, bytes};

/// 1 January 2026: this tool is younger, so a clock that says less is wrong.
const MADE: u64 = 1_767_225_600;

/// A file may be so much of the future: clocks of file systems are coarse, and are set right by little steps. Seconds.
const AHEAD: u64 = 60;

/// A certificate that ends within a week is to be renewed. Seconds.
const SOON: i64 = 7 * 86_400;

/// A hundred years. Seconds.
const AGES: i64 = 100 * 365 * 86_400;

/// Flows that may wait for one name, unless irmd.toml says otherwise.
const BACKLOG: u64 = 4_096;

/// Less than so many descriptors left is trouble.
const LEFT: u64 = 64;

/// On its way at 1 Gbit/s over 40 ms: bytes.
const ON_THE_WAY: u64 = 5_000_000;

/// Linux' own since 2006: what is below was made smaller by somebody. Bytes.
const USUAL_BUFFER: u64 = 212_992;

/// Room that a full datagram takes in a socket's buffer, with what the kernel keeps beside it. Bytes.
const DATAGRAM_ROOM: u64 = 2_304;

/// Writing a file of state anew needs no more, bytes.
const ROOM: u64 = 1 << 20;

/// The clock.
pub(super) fn clock(facts: &Facts) -> Vec<Line> {
    let mut lines = Lines::of("clock");
    let now = facts.here.now;
    if now < MADE {
        lines.find(&CLOCK_WRONG, &[("date", &date(now))]);
    }
    if let Some((file, ahead)) = facts.clock.ahead.as_ref().filter(|(_, ahead)| *ahead > AHEAD) {
        lines.find(&CLOCK_BACK, &[("file", file), ("age", &age(ahead.saturating_mul(1000)))]);
    }
    match &facts.clock.synchronised {
        _ if !lines.is_empty() => {}
        Ok(true) => lines.ok(format!("it is {}, and something keeps the clock right", date(now))),
        Ok(false) => lines.find(&CLOCK_FREE, &[]),
        Err(why) => lines.unchecked(format!("not checked: whether the clock is kept right: {why}")),
    }
    lines.done()
}

/// A moment of unix time, as text.
fn date(now: u64) -> String {
    let moment = i64::try_from(now).ok().and_then(|now| ASN1Time::from_timestamp(now).ok());
    moment.map_or_else(|| format!("{now} s after 1970"), |moment| moment.to_string())
}

/// This host's certificate.
pub(super) fn certificate(facts: &Facts) -> Vec<Line> {
    let mut lines = Lines::of("certificate");
    let now = i64::try_from(facts.here.now).unwrap_or(i64::MAX);
    let in_words = |seconds: i64| age(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000));
    match facts.certificate {
        Err(ref why) => lines.unchecked(format!("not checked: {why}")),
        Ok((from, _)) if now < from => lines.find(&CERTIFICATE_EARLY, &[("age", &in_words(from - now))]),
        Ok((_, until)) if now > until => lines.find(&CERTIFICATE_OVER, &[("age", &in_words(now - until))]),
        // Those that irmd makes itself have no end worth the name.
        Ok((_, until)) if until - now > AGES => lines.ok("this host's certificate does not end"),
        Ok((_, until)) if until - now < SOON => lines.find(&CERTIFICATE_ENDS, &[("age", &in_words(until - now))]),
        Ok((_, until)) => {
            lines.ok(format!("this host's certificate is good for {}", in_words(until.saturating_sub(now))))
        }
    }
    lines.done()
}

/// Where irmd keeps what lasts.
pub(super) fn state(facts: &Facts) -> Vec<Line> {
    let mut lines = Lines::of("state");
    let state = match &facts.state {
        Ok(state) => state,
        Err(why) => {
            lines.unchecked(format!("not checked: {why}"));
            return lines.done();
        }
    };
    let (dir, user) = (state.folder.path.as_str(), state.uid.to_string());
    let Some(about) = state.folder.about else {
        lines.find(&STATE_MISSING, &[("dir", dir), ("user", &user)]);
        return lines.done();
    };
    if state.read_only {
        lines.find(&STATE_READONLY, &[("dir", dir), ("mount", &state.mount)]);
    } else if state.free < ROOM {
        lines.find(&DISK_FULL, &[("dir", dir), ("free", &bytes(state.free))]);
    }
    if about.uid != 0 && about.uid != state.uid {
        lines.find(&STATE_FOREIGN, &[("dir", dir), ("owner", &about.uid.to_string()), ("user", &user)]);
    }
    if about.mode & 0o022 != 0 {
        lines.find(&STATE_WRITABLE, &[("dir", dir), ("mode", &format!("{:04o}", about.mode))]);
    }
    key(&mut lines, state);
    if lines.is_empty() {
        lines.ok(format!("{dir} is user {}'s, with {} free, the host's key in it", about.uid, bytes(state.free)));
    }
    lines.done()
}

fn key(lines: &mut Lines, state: &State) {
    match &state.key {
        Err(why) => lines.unchecked(format!("not checked: this host's key: {why}")),
        Ok(key) => match key.about {
            None => lines.find(&KEY_MISSING, &[("file", &key.path)]),
            Some(about) if about.mode & 0o077 != 0 => {
                lines.find(&KEY_OPEN, &[("file", &key.path), ("mode", &format!("{:04o}", about.mode))]);
            }
            Some(_) => {}
        },
    }
}

/// Descriptors of the daemons and of the programs that hold flows.
pub(super) fn descriptors(facts: &Facts) -> Vec<Line> {
    let mut lines = Lines::of("descriptors");
    let (mut told, mut uncounted) = (Vec::new(), Vec::new());
    for process in &facts.processes {
        one_limit(&mut lines, process, &mut told, &mut uncounted);
    }
    if lines.is_empty() && !told.is_empty() {
        lines.ok(told.join(", "));
    }
    if !uncounted.is_empty() {
        let one = uncounted.first().map_or("", String::as_str);
        lines.unchecked(format!("not checked: how many are open in {} processes ({one})", uncounted.len()));
    }
    lines.done()
}

fn one_limit(lines: &mut Lines, process: &Process, told: &mut Vec<String>, uncounted: &mut Vec<String>) {
    let Ok((limit, hard)) = process.limit else {
        uncounted.extend(process.limit.as_ref().err().cloned());
        return;
    };
    let open = process.open.clone().unwrap_or(u64::from(process.flows));
    // Beyond the hard limit only root gets.
    let more = if hard > limit { hard } else { limit.saturating_mul(4).max(65_536) };
    let (pid, shown, more) = (process.pid.to_string(), limit.to_string(), more.to_string());
    let of = [("program", process.program.as_str()), ("pid", &pid), ("limit", &shown), ("more", &more)];
    if limit.saturating_sub(open) < LEFT.max(limit / 10) {
        lines.find(&DESCRIPTORS_SHORT, &[of.as_slice(), &[("open", &open.to_string())]].concat());
    } else if process.daemon && limit < BACKLOG {
        lines.find(&DESCRIPTORS_FEW, &of);
    } else if let Ok(open) = &process.open {
        told.push(format!("{} (pid {pid}) has {open} of {limit}", process.program));
    } else {
        uncounted.extend(process.open.as_ref().err().cloned());
    }
}

/// Buffers of sockets.
pub(super) fn buffers(facts: &Facts) -> Vec<Line> {
    let mut lines = Lines::of("socket buffers");
    for (setting, size) in &facts.system.buffers {
        let size = match size {
            Ok(size) => *size,
            Err(why) => {
                lines.unchecked(format!("not checked: {setting}: {why}"));
                continue;
            }
        };
        let (bytes, datagrams, want) = (size.to_string(), (size / DATAGRAM_ROOM).to_string(), USUAL_BUFFER.to_string());
        let of = [("bytes", bytes.as_str()), ("setting", setting), ("datagrams", &datagrams), ("want", &want)];
        if size < USUAL_BUFFER {
            lines.find(&BUFFERS_TINY, &of);
        } else if setting.ends_with("_max") && size < ON_THE_WAY {
            lines.find(&BUFFERS_SMALL, &of);
        }
    }
    if lines.is_empty() {
        lines.ok("sockets may buffer what 1 Gbit/s over 40 ms has on the way");
    }
    lines.done()
}

/// Receive queues that were full.
pub(super) fn queues(facts: &Facts) -> Vec<Line> {
    let mut lines = Lines::of("receive queues");
    match &facts.system.queues {
        Err(why) => lines.unchecked(format!("not checked: {why}")),
        Ok((_, 0)) => {}
        Ok((delivered, lost)) => {
            let share = *lost as f64 * 100.0 / (*lost as f64 + *delivered as f64);
            let share = if share < 0.01 { "less than 0.01 %".to_owned() } else { format!("{share:.2} %") };
            lines.find(&QUEUE_OVERFLOW, &[("times", &lost.to_string()), ("share", &share)]);
        }
    }
    for ipcp in &facts.ipcps {
        if let Some(times) = ipcp.info.counters.get("dropped_queue_full").filter(|times| **times > 0) {
            lines.find(&QUEUE_LISTEN, &[("ipcp", &ipcp.info.name), ("times", &times.to_string())]);
        }
    }
    if lines.is_empty() {
        lines.ok("no receive queue of a UDP socket has overflowed");
    }
    lines.done()
}

/// Segmentation by the kernel.
pub(super) fn offload(facts: &Facts) -> Vec<Line> {
    let mut lines = Lines::of("segmentation");
    for (what, there) in [("UDP_SEGMENT", &facts.system.segment), ("UDP_GRO", &facts.system.receive)] {
        match there {
            Ok(true) => {}
            Ok(false) => lines.find(&GSO_MISSING, &[("what", what)]),
            Err(why) => lines.unchecked(format!("not checked: {what}: {why}")),
        }
    }
    if lines.is_empty() {
        lines.ok("the kernel segments UDP and joins segments (UDP_SEGMENT, UDP_GRO)");
    }
    lines.done()
}

/// How the kernel finds one of many sockets of a port.
pub(super) fn kernel(facts: &Facts) -> Vec<Line> {
    let mut lines = Lines::of("kernel");
    let release = facts.system.release.as_str();
    let Some(version) = proc::kernel(release) else {
        lines.unchecked(format!("not checked: the kernel calls itself {release}"));
        return lines.done();
    };
    let by_hash = version >= (6, 13);
    if !by_hash {
        let on_one_port = |ipcp: &&super::facts::Ipcp| ipcp.info.config.as_ref().is_some_and(|udp| udp.sp_listen);
        for ipcp in facts.ipcps.iter().filter(on_one_port) {
            let mut info = ipcp.info.clone();
            info.config.iter_mut().for_each(|udp| udp.sp_listen = false);
            let destroy = format!("irm ipcp destroy --name {}", super::finding::quoted(&info.name));
            let again = format!("{destroy} && {}", super::command::bootstrap(&info, None));
            lines.find(&KERNEL_HASH, &[("release", release), ("ipcp", &info.name), ("bootstrap command", &again)]);
        }
    }
    if lines.is_empty() {
        let how =
            if by_hash { "by hash" } else { "one after the other, which flows on ports of their own do not notice" };
        lines.ok(format!("Linux {release} finds flows that share a port {how}"));
    }
    lines.done()
}

/// The firewall's table of flows.
pub(super) fn conntrack(facts: &Facts) -> Vec<Line> {
    let mut lines = Lines::of("connection tracking");
    match &facts.system.conntrack {
        Err(why) => lines.unchecked(format!("not checked: {why}")),
        Ok(None) => lines.ok("no firewall of this host keeps a table of flows"),
        Ok(Some((count, max))) if *max > 0 && count.saturating_mul(10) >= max.saturating_mul(9) => {
            let values = [count.to_string(), max.to_string(), max.saturating_mul(4).to_string()];
            lines.find(&CONNTRACK_FULL, &[("count", &values[0]), ("max", &values[1]), ("want", &values[2])]);
        }
        Ok(Some((count, max))) => lines.ok(format!("the firewall's table of flows has {count} of {max} entries")),
    }
    lines.done()
}

/// Memory that the daemons may have.
pub(super) fn memory(facts: &Facts) -> Vec<Line> {
    let mut lines = Lines::of("memory");
    for process in facts.processes.iter().filter(|process| process.daemon) {
        match &process.memory {
            Ok(Some((used, limit))) if used.saturating_mul(10) >= limit.saturating_mul(9) => {
                let unit = process.unit.as_deref().unwrap_or("UNIT");
                let values = [
                    ("program", process.program.clone()),
                    ("pid", process.pid.to_string()),
                    ("used", bytes(*used)),
                    ("limit", bytes(*limit)),
                    ("unit", unit.to_owned()),
                    ("want", limit.saturating_mul(2).to_string()),
                ];
                let values: Vec<_> = values.iter().map(|(word, value)| (*word, value.as_str())).collect();
                lines.find(&MEMORY_SHORT, &values);
            }
            Ok(_) => {}
            Err(why) => lines.unchecked(format!("not checked: of {}: {why}", process.program)),
        }
    }
    if lines.is_empty() && facts.processes.iter().any(|process| process.daemon) {
        lines.ok("no control group of a daemon is short of memory");
    }
    lines.done()
}

/// What the tests and the demo want.
pub(super) fn namespaces(facts: &Facts) -> Vec<Line> {
    let mut lines = Lines::of("user namespaces");
    match facts.system.no_user_namespaces {
        Some((setting, want)) => lines.find(&USER_NAMESPACES, &[("setting", setting), ("want", want)]),
        None => lines.ok("an ordinary user may make user namespaces (for cargo demo and the tests)"),
    }
    lines.done()
}
