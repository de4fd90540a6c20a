//! Texts of /proc, read. Whatever they hold, nothing panics: what is not as expected is left out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A UDP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpRow {
    /// Where it is bound.
    pub local: SocketAddr,
    /// Nobody is its only peer.
    pub unconnected: bool,
    /// Whose it is.
    pub uid: u32,
    /// Its number.
    pub inode: u64,
}

/// `/proc/net/udp` or `/proc/net/udp6`.
pub fn udp(text: &str) -> Vec<UdpRow> {
    text.lines().skip(1).filter_map(udp_row).collect()
}

fn udp_row(line: &str) -> Option<UdpRow> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let remote = hex_address(words.get(2)?)?;
    Some(UdpRow {
        local: hex_address(words.get(1)?)?,
        unconnected: remote.port() == 0,
        uid: words.get(7)?.parse().ok()?,
        inode: words.get(9)?.parse().ok()?,
    })
}

/// `0100007F:0D1F`: words of memory as this machine has them, in hexadecimal digits.
fn hex_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(at)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Of `/proc/net/snmp`: UDP datagrams delivered, and lost to full receive queues.
pub fn udp_queues(snmp: &str) -> Option<(u64, u64)> {
    let mut lines = snmp.lines().filter(|line| line.starts_with("Udp:"));
    let heads: Vec<&str> = lines.next()?.split_whitespace().collect();
    let values: Vec<&str> = lines.next()?.split_whitespace().collect();
    let value = |name: &str| values.get(heads.iter().position(|head| *head == name)?)?.parse().ok();
    Some((value("InDatagrams")?, value("RcvbufErrors")?))
}

/// Of `/proc/PID/limits`: how many descriptors, and how far that may be raised. `None` for a text without it.
pub fn descriptors(limits: &str) -> Option<(u64, u64)> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut numbers = line.split_whitespace().map(|number| match number {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    });
    Some((numbers.next()??, numbers.next()??))
}

/// Of `/proc/PID/stat`: the state's letter, and when it started, in ticks after boot. The command may hold anything.
pub fn stat(text: &str) -> Option<(char, u64)> {
    let (_, rest) = text.rsplit_once(')')?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    Some((words.first()?.chars().next()?, words.get(19)?.parse().ok()?))
}

/// Of `/proc/uptime`: milliseconds since boot.
pub fn uptime_ms(text: &str) -> Option<u64> {
    let seconds: f64 = text.split_whitespace().next()?.parse().ok()?;
    (seconds.is_finite() && seconds >= 0.0).then_some((seconds * 1000.0) as u64)
}

/// Of `/proc/PID/cgroup`: the path of its control group (version 2).
pub fn control_group(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

/// The systemd service in the path of a control group.
pub fn unit(group: &str) -> Option<&str> {
    group.rsplit('/').find(|part| part.ends_with(".service"))
}

/// Words of `/proc/PID/cmdline`: at most so many bytes were read.
pub fn words(cmdline: &[u8]) -> Vec<String> {
    let words = cmdline.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// Of `/proc/self/mountinfo`: the mount point that a path lies on.
pub fn mount_of<'a>(mounts: &'a str, path: &str) -> Option<&'a str> {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| std::path::Path::new(path).starts_with(point)).max_by_key(|point| point.len())
}

/// Major and minor number of a kernel's release.
pub fn kernel(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn udp_sockets() {
        let text = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
 2107: 0100000A:0D1F 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 4711 2 0000000000000000 0
 2108: 0100000A:9C40 0200000A:9C41 01 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 7
 nonsense
";
        let rows = udp(text);
        let want = UdpRow { local: "10.0.0.1:3359".parse().unwrap(), unconnected: true, uid: 1000, inode: 4711 };
        assert_eq!(rows[0], want);
        assert_eq!((rows.len(), rows[1].unconnected), (2, false));
        let six =
            "head\n 1: 000000FD000000000000000001000000:0D1F 00000000000000000000000000000000:0000 07 0:0 0:0 0 0 0 9";
        assert_eq!(udp(six)[0].local, "[fd00::1]:3359".parse().unwrap());
    }

    #[test]
    fn counters_limits_and_processes() {
        let snmp = "Ip: a b\nIp: 1 2\nUdp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors\nUdp: 10 1 2 3 4\n";
        assert_eq!(udp_queues(snmp), Some((10, 4)));
        assert_eq!(udp_queues("Udp: InDatagrams\n"), None);
        let limits = "Limit    Soft Limit    Hard Limit   Units\nMax open files            1024   20000   files\n";
        assert_eq!(descriptors(limits), Some((1024, 20_000)));
        assert_eq!(descriptors("Max open files            unlimited   unlimited   files"), Some((u64::MAX, u64::MAX)));
        let line = "42 (a) b) c) T 1 1 1 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 5555 1 1";
        assert_eq!(stat(line), Some(('T', 5555)));
        assert_eq!(uptime_ms("12.34 56.78\n"), Some(12_340));
        assert_eq!(
            control_group("1:x:/y\n0::/system.slice/flowring-irmd.service\n").and_then(unit),
            Some("flowring-irmd.service")
        );
        assert_eq!(unit("/user.slice"), None);
        assert_eq!(words(b"irmd\0--run-dir\0/x\0"), ["irmd", "--run-dir", "/x"]);
        assert_eq!(kernel("6.13.0-rc1"), Some((6, 13)));
        assert_eq!(kernel("5.10"), Some((5, 10)));
        assert_eq!(kernel("six"), None);
        let mounts = "1 0 8:1 / / rw - ext4 a rw\n2 1 8:2 / /var rw - ext4 b rw\n3 1 8:2 / /va rw - ext4 b rw\n";
        assert_eq!(mount_of(mounts, "/var/lib/flowring"), Some("/var"));
        assert_eq!(mount_of(mounts, "/run"), Some("/"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*|[0-9A-F: ()\\n]{0,200}") {
            let _ = (udp(&format!("\n{text}")), udp_queues(&text), descriptors(&text), stat(&text), uptime_ms(&text));
            let _ = (kernel(&text), mount_of(&text, &text), control_group(&text), words(text.as_bytes()));
        }
    }
}
