//! What processes took.

use std::fs;

use anyhow::{Context as _, Result};

/// A process that leads a group, with all that are in it.
pub(crate) struct Process(pub(crate) u32);

/// Clock ticks a second, as the kernel tells times in /proc.
const TICKS: f64 = 100.0;

impl Process {
    /// Seconds of CPU that the group has taken, of children that have ended, too.
    pub(crate) fn cpu(&self) -> Result<f64> {
        let ticks: u64 = self.group()?.iter().flat_map(|stat| stat.iter().skip(11).take(4)).sum();
        Ok(ticks as f64 / TICKS)
    }

    /// Resident memory of its own, bytes.
    pub(crate) fn memory(&self) -> Result<u64> {
        let mut bytes = 0;
        for stat in self.group()? {
            let status = fs::read_to_string(format!("/proc/{}/status", stat[0])).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
            bytes += line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024;
        }
        Ok(bytes)
    }

    /// /proc/PID/stat of each: the number, then what stands behind the name's bracket, from the parent's number on.
    fn group(&self) -> Result<Vec<Vec<u64>>> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").context("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u64>().ok()) else { continue };
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            let Some(fields) = of_group(pid, &stat) else { continue };
            if fields[2] == u64::from(self.0) {
                found.push(fields);
            }
        }
        Ok(found)
    }
}

/// The number, then parent, group, …; fields that are below 0 read as 0.
fn of_group(pid: u64, stat: &str) -> Option<Vec<u64>> {
    let (_, behind) = stat.rsplit_once(") ")?;
    let numbers = behind.split(' ').skip(1).map(|field| field.trim().parse().unwrap_or(0));
    let fields: Vec<u64> = std::iter::once(pid).chain(numbers).collect();
    (fields.len() > 16).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_line_is_read() {
        let stat = "42 (a (b) c) S 1 40 40 0 -1 4194560 100 0 0 0 7 5 3 2 20 0 1 0 12345 1000 50";
        let fields = of_group(42, stat).unwrap();
        assert_eq!((fields[0], fields[1], fields[2]), (42, 1, 40));
        assert_eq!(fields.iter().skip(11).take(4).sum::<u64>(), 17);
    }
}
