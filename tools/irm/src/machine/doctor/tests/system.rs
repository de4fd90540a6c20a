//! What is wrong with clock, state, limits and kernel, which finding that is, words of what was found, the command.

use super::*;

pub(super) const CASES: &[Case] = &[
    (|f| f.here.now = 86_400, "clock-wrong", "the clock says Jan  2 ", "timedatectl set-ntp true"),
    (
        |f| f.clock.ahead = Some(("/run/f/irmd.sock".into(), 3_600)),
        "clock-set-back",
        "/run/f/irmd.sock was written 60 min in the future",
        "timedatectl set-ntp true",
    ),
    (
        |f| f.clock.synchronised = Ok(false),
        "clock-not-synchronised",
        "nothing keeps this host's clock right",
        "timedatectl set-ntp true",
    ),
    (
        |f| f.certificate = Ok((0, NOW as i64 - 3 * 86_400)),
        "certificate-expired",
        "ended 3 d ago",
        "irm identity show --request",
    ),
    (
        |f| f.certificate = Ok((NOW as i64 + 7_200, NOW as i64 + 9_000)),
        "certificate-of-the-future",
        "begins in 2 h",
        "timedatectl set-ntp true",
    ),
    (
        |f| f.certificate = Ok((0, NOW as i64 + 86_400)),
        "certificate-ends",
        "ends in 24 h",
        "irm identity show --request",
    ),
    (
        |f| f.state.as_mut().unwrap().folder.about = None,
        "state-missing",
        "/run/f/state does not exist",
        "install -d -m 700 -o 1000 /run/f/state",
    ),
    (
        |f| f.state.as_mut().unwrap().read_only = true,
        "state-read-only",
        "on a file system that cannot be written",
        "mount -o remount,rw /run",
    ),
    (
        |f| f.state.as_mut().unwrap().uid = 8,
        "state-foreign",
        "is user 1000's, irmd runs as user 8",
        "chown 8 /run/f/state",
    ),
    (
        |f| f.state.as_mut().unwrap().folder = folder("/run/f/state", 0o777),
        "state-writable",
        "(mode 0777)",
        "chmod go-w /run/f/state",
    ),
    (|f| f.state.as_mut().unwrap().free = 4_096, "disk-full", "has 4.1 kB left", "df -h /run/f/state"),
    (
        |f| f.state.as_mut().unwrap().key = Ok(Folder { path: "/k".into(), about: None }),
        "key-missing",
        "key /k is gone",
        "irm identity show",
    ),
    (
        |f| f.state.as_mut().unwrap().key = Ok(folder("/k", 0o644)),
        "key-open",
        "key /k may be read by others (mode 0644)",
        "chmod 600 /k",
    ),
    (
        |f| f.processes[1].open = Ok(19_000),
        "descriptors-short",
        "ipcpd-udp (pid 43) has 19000 of 20000 descriptors open",
        "prlimit --pid 43 --nofile=80000",
    ),
    (
        |f| f.processes[0].limit = Ok((1_024, 4_096)),
        "descriptors-few",
        "irmd (pid 42) may have 1024 descriptors open",
        "prlimit --pid 42 --nofile=4096",
    ),
    (
        |f| f.system.buffers[1].1 = Ok(4_608),
        "buffers-tiny",
        "4608 bytes (net.core.rmem_default)",
        "sysctl -w net.core.rmem_default=212992",
    ),
    (
        |f| f.system.buffers[0].1 = Ok(212_992),
        "buffers-small",
        "at most 212992 bytes (net.core.rmem_max)",
        "sysctl -w net.core.rmem_max=5000000",
    ),
    (
        |f| f.system.queues = Ok((900, 100)),
        "queue-overflow",
        "overflowed 100 times since the host started (10.00 % of what came)",
        "sysctl -w net.core.rmem_default=5000000",
    ),
    (
        |f| {
            f.ipcps[0].info.counters.insert("dropped_queue_full".into(), 3);
        },
        "queue-listen-port",
        "udp0 lost 3 datagrams",
        "irm ipcp list --json",
    ),
    (|f| f.system.receive = Ok(false), "segmentation-missing", "(UDP_GRO)", "uname -r"),
    (
        |f| {
            f.system.release = "6.12.9".into();
            udp(f).sp_listen = true;
        },
        "kernel-hash",
        "Linux 6.12.9 finds sockets",
        "irm ipcp destroy --name udp0 && irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --host echo=10.0.0.2",
    ),
    (
        |f| f.system.conntrack = Ok(Some((950, 1000))),
        "conntrack-full",
        "has 950 of 1000 entries",
        "sysctl -w net.netfilter.nf_conntrack_max=4000",
    ),
    (
        |f| f.processes[0].memory = Ok(Some((95, 100))),
        "memory-short",
        "irmd (pid 42) has 95 B of the 100 B",
        "systemctl set-property flowring-irmd.service MemoryMax=200",
    ),
    (
        |f| f.system.no_user_namespaces = Some(("user.max_user_namespaces", "16384")),
        "user-namespaces",
        "(user.max_user_namespaces)",
        "sysctl -w user.max_user_namespaces=16384",
    ),
];
