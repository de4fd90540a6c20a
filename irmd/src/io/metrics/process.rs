//! irmd's own process, as the kernel accounts for it.

use procfs::process::{LimitValue, Stat};
use procfs::{CurrentSI, KernelStats, WithCurrentSystemInfo};

use crate::machine::metrics::Process;

/// How it stands now; zeroes where /proc does not say.
pub(super) fn own() -> Process {
    let Ok(own) = procfs::process::Process::myself() else { return Process::default() };
    let max_fds = match own.limits().map(|limits| limits.max_open_files.soft_limit) {
        Ok(LimitValue::Value(limit)) => limit,
        _ => 0,
    };
    let open_fds = own.fd_count().unwrap_or(0) as u64;
    match own.stat() {
        Ok(stat) => Process {
            cpu_seconds: seconds(stat.utime + stat.stime),
            resident: stat.rss_bytes().get(),
            virtual_memory: stat.vsize,
            open_fds,
            max_fds,
            started: started(&stat),
        },
        Err(_) => Process { open_fds, max_fds, ..Process::default() },
    }
}

/// Whether a process had started before this one.
pub(super) fn is_older(pid: u32) -> bool {
    let started = |process: Result<procfs::process::Process, _>| {
        process.and_then(|process| process.stat()).map(|stat| stat.starttime)
    };
    let other = i32::try_from(pid).ok().and_then(|pid| started(procfs::process::Process::new(pid)).ok());
    other.zip(started(procfs::process::Process::myself()).ok()).is_some_and(|(other, own)| other < own)
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / procfs::ticks_per_second() as f64
}

fn started(stat: &Stat) -> f64 {
    KernelStats::current().map_or(0.0, |kernel| kernel.btime as f64 + seconds(stat.starttime))
}
