//! What is wrong with the run directory, irmd and its IPCPs, which finding that is, words of what was found, the command.

use super::*;

pub(super) const CASES: &[Case] = &[
    (
        |f| {
            f.run_dir = Err("none".into());
            irmd_is(f, Irmd::Nowhere);
        },
        "run-dir-none",
        "are not set",
        "export FLOWRING_RUN_DIR=/run/flowring",
    ),
    (
        |f| {
            f.run_dir = Ok(Folder { path: "/run/f g".into(), about: None });
            irmd_is(f, Irmd::Missing);
        },
        "run-dir-missing",
        "/run/f g does not exist",
        "irmd --run-dir '/run/f g'",
    ),
    (
        |f| {
            f.elsewhere = Some("/run/flowring".into());
            irmd_is(f, Irmd::Missing);
        },
        "run-dir-elsewhere",
        "no irmd runs in /run/f, one runs in /run/flowring",
        "export FLOWRING_RUN_DIR=/run/flowring",
    ),
    (
        |f| f.run_dir.as_mut().unwrap().about.as_mut().unwrap().uid = 7,
        "run-dir-foreign",
        "is user 7's",
        "export FLOWRING_RUN_DIR=/run/flowring",
    ),
    (
        |f| f.run_dir.as_mut().unwrap().about.as_mut().unwrap().mode = 0o775,
        "run-dir-writable",
        "(mode 0775)",
        "chmod go-w /run/f",
    ),
    (
        |f| f.run_dir.as_mut().unwrap().about.as_mut().unwrap().mode = 0o700,
        "run-dir-closed",
        "(mode 0700)",
        "chmod a+rx /run/f",
    ),
    (
        |f| {
            let info = &mut f.ipcps[0].info;
            info.config.as_mut().unwrap().rendezvous = "rdv.example:3360".into();
            info.session = "session darkreign: rdv.example:3360 is not found yet".into();
        },
        "session-not-joined",
        "is not in its session: session darkreign: rdv.example:3360 is not found yet",
        "irm nat --via rdv.example:3360",
    ),
    (|f| irmd_is(f, Irmd::Dead), "irmd-dead", "nobody listens at /run/f/irmd.sock", "irmd --run-dir /run/f"),
    (
        |f| {
            f.here.unit = true;
            irmd_is(f, Irmd::Dead);
        },
        "irmd-dead",
        "nobody listens",
        "systemctl start flowring-irmd",
    ),
    (|f| irmd_is(f, Irmd::Missing), "irmd-none", "there is no /run/f/irmd.sock", "irmd --run-dir /run/f"),
    (
        |f| irmd_is(f, Irmd::Forbidden),
        "irmd-forbidden",
        "may not use /run/f/irmd.sock",
        "chmod a+rx /run/f && chmod a+rw /run/f/irmd.sock",
    ),
    (
        |f| irmd_is(f, Irmd::Silent { pid: 42, stopped: true, ms: 700 }),
        "irmd-stopped",
        "irmd (pid 42) is stopped",
        "kill -CONT 42",
    ),
    (
        |f| irmd_is(f, Irmd::Silent { pid: 42, stopped: false, ms: 700 }),
        "irmd-stuck",
        "did not answer within 700 ms",
        "kill 42 && irmd --run-dir /run/f",
    ),
    (
        |f| irmd_is(f, Irmd::Strange("it is no socket".into())),
        "irmd-not-irmd",
        "is no irmd: it is no socket",
        "irmd --run-dir /run/f",
    ),
    (
        |f| status(f).version = 2,
        "irmd-version",
        "version 2, this irm and what was installed with it version 1",
        "kill 42 && irmd --run-dir /run/f",
    ),
    (
        |f| status(f).build = "0.0.9".into(),
        "irmd-build",
        "irmd is build 0.0.9, this irm build 0.1.0",
        "kill 42 && irmd --run-dir /run/f",
    ),
    (|f| f.processes[1].replaced = Ok(true), "daemon-replaced", "ipcpd-udp (pid 43) was replaced", "kill 43"),
    (|f| f.processes[0].age_ms = Ok(3_000), "daemon-young", "irmd (pid 42) started 3 s ago", "irm doctor"),
    (|f| f.others = Ok(vec![77, 78]), "irmd-others", "on this host: 77,78", "ps -o pid,user,args -p 77,78"),
    (
        |f| {
            f.ipcps.clear();
            f.own_probes.clear();
        },
        "ipcp-none",
        "there is no IPCP",
        "irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1",
    ),
    (
        |f| {
            state_of(f, v1::IpcpState::Down);
            f.ipcps[0].info.last_end = "was killed by signal 9".into();
        },
        "ipcp-down",
        "udp0 is down: was killed by signal 9",
        "irm ipcp destroy --name udp0 && irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --host echo=10.0.0.2",
    ),
    (
        |f| {
            f.ipcps[0].info.restarts = 9;
            f.processes[1].age_ms = Ok(100);
        },
        "ipcp-looping",
        "started 9 times again",
        "irm ipcp list --json",
    ),
    (
        |f| state_of(f, v1::IpcpState::Attached),
        "ipcp-not-bootstrapped",
        "is in no layer: it was not bootstrapped",
        "irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --host echo=10.0.0.2",
    ),
    (|f| state_of(f, v1::IpcpState::Starting), "ipcp-starting", "just being started", "irm doctor"),
    (|f| f.ipcps[0].stopped = true, "ipcp-stopped", "udp0 (pid 43) is stopped", "kill -CONT 43"),
    (
        |f| {
            f.strangers =
                vec![Stranger { name: "udp1".into(), socket: "/run/f/ipcp-udp1.sock".into(), alive: true, pid: 99 }]
        },
        "ipcp-refused",
        "irmd does not know it",
        "kill 99",
    ),
    (
        |f| {
            f.strangers =
                vec![Stranger { name: "udp1".into(), socket: "/run/f/ipcp-udp1.sock".into(), alive: false, pid: 0 }]
        },
        "ipcp-stale",
        "nobody listens at /run/f/ipcp-udp1.sock",
        "rm /run/f/ipcp-udp1.sock",
    ),
];
