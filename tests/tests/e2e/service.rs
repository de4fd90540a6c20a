//! The daemons under a service manager: units, readiness, watchdog, sockets that outlive irmd; and their orderly end.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::harness::{Case, lacks};
use flowring_tests::net::{Net, SOON, await_flows, flows, ipcp};
use lab::{Host, Lab, Running, wait_until};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Signal;

pub(crate) fn cases() -> Vec<Case> {
    cases![
        the_units_are_sound,
        a_service_manager_hears_how_the_daemons_are,
        a_socket_that_is_passed_outlives_irmd_and_programs_wait_for_it,
        restarting_irmd_as_a_service_leaves_ipcps_and_flows_alone,
        an_ipcp_that_irmd_is_not_to_start_is_bootstrapped_when_it_comes,
        a_shutdown_keeps_flows_unless_it_is_to_end_them,
        a_shutdown_waits_for_flows_and_takes_nothing_new,
    ]
}

fn the_units_are_sound() -> Result<()> {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return lacks("the_units_are_sound", "systemd-analyze is not installed");
    }
    let lab = Lab::new()?;
    let [a] = lab.hosts(["a"])?;
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/systemd");
    let folder = lab::binaries::folder().context("built daemons")?;
    let mut files = Vec::new();
    for unit in std::fs::read_dir(units)? {
        let unit = unit?;
        // As installed, but for where the daemons are.
        let text = std::fs::read_to_string(unit.path())?.replace("/usr/bin/", &format!("{}/", folder.display()));
        let name = unit.file_name().into_string().map_err(|name| anyhow::anyhow!("{name:?}"))?;
        // A template as one of its instances.
        let file = a.run_dir().join(name.replace('@', "@udp0"));
        std::fs::write(&file, text)?;
        files.push(file);
    }
    ensure!(files.len() == 7, "{files:?}");
    let verify = |files: &[std::path::PathBuf]| {
        let mut command = Command::new("systemd-analyze");
        command.args(["verify", "--man=no", "--recursive-errors=no"]).args(files).env("SYSTEMD_LOG_LEVEL", "warning");
        command.output()
    };
    let output = verify(&files)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // What it says of other units of this machine is not ours.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("flowring")).collect();
    ensure!(output.status.success() && ours.is_empty(), "{said}");
    // It would have found a mistake.
    let wrong = a.run_dir().join("flowring-wrong.service");
    std::fs::write(&wrong, "[Service]\nExecStart=/usr/bin/no-such-daemon\nTypo=yes\n")?;
    let output = verify(&[wrong])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(said.contains("Typo"), "{said}");
    Ok(())
}

/// A service manager's ear.
struct Ear {
    socket: UnixDatagram,
    path: std::path::PathBuf,
}

impl Ear {
    fn new(host: &Host, name: &str) -> Result<Self> {
        let path = host.run_dir().join(name);
        let socket = UnixDatagram::bind(&path)?;
        socket.set_read_timeout(Some(SOON))?;
        Ok(Self { socket, path })
    }

    /// Waits until the daemon says something that begins a line with `word`; all that it said then.
    fn hear(&self, word: &str) -> Result<String> {
        let mut buffer = [0; 4096];
        loop {
            let length = self.socket.recv(&mut buffer).with_context(|| format!("no {word} in time"))?;
            let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if said.lines().any(|line| line.starts_with(word)) {
                return Ok(said);
            }
        }
    }

    fn start(&self, host: &Host, program: &str, args: &[&str]) -> Result<Running> {
        let mut command = host.command(program);
        command.args(args).env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", "200000");
        Running::start(&format!("{}: {program}", host.name()), command)
    }
}

fn a_service_manager_hears_how_the_daemons_are() -> Result<()> {
    let lab = Lab::new()?;
    let [a] = lab.hosts(["a"])?;
    let of_irmd = Ear::new(&a, "notify-irmd")?;
    let mut irmd = of_irmd.start(&a, "irmd", &[])?;
    let said = of_irmd.hear("READY=1")?;
    ensure!(said.contains("STATUS=0 flows, 0 names, 0 of 0 IPCPs"), "{said}");
    a.irm(&["status"])?;
    let of_ipcpd = Ear::new(&a, "notify-ipcpd")?;
    let mut ipcpd = of_ipcpd.start(&a, "ipcpd-udp", &["--name", "udp0"])?;
    let said = of_ipcpd.hear("READY=1")?;
    ensure!(said.contains("STATUS=waits to be bootstrapped"), "{said}");
    of_ipcpd.hear("WATCHDOG=1")?;
    wait_until(SOON, "it to attach", || ipcp(&a).is_ok_and(|row| row["state"] == "attached"))?;
    a.bootstrap(&[])?;
    let _server = a.serve("here")?;
    for _ in 0..3 {
        let said = of_ipcpd.hear("WATCHDOG=1")?;
        ensure!(said.contains("STATUS="), "{said}");
        of_irmd.hear("WATCHDOG=1")?;
    }
    wait_until(SOON, "irmd's status", || {
        of_irmd.hear("STATUS=").is_ok_and(|said| said.contains("1 names, 1 of 1 IPCPs in their layers"))
    })?;
    wait_until(SOON, "the IPCP's status", || of_ipcpd.hear("STATUS=").is_ok_and(|said| said.contains("layer net at")))?;
    for (ear, daemon) in [(&of_ipcpd, &mut ipcpd), (&of_irmd, &mut irmd)] {
        daemon.signal(Signal::TERM)?;
        ear.hear("STOPPING=1")?;
        ensure!(daemon.wait(SOON)?.code() == 0);
    }
    Ok(())
}

/// irmd's sockets as a service manager opens them.
fn sockets(host: &Host) -> Result<[OwnedFd; 2]> {
    let calls = OwnedFd::from(UnixListener::bind(host.run_dir().join("irmd.sock"))?);
    let flags = SocketFlags::CLOEXEC;
    let handoff = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::bind(&handoff, &SocketAddrUnix::new(host.run_dir().join("irmd.flow"))?)?;
    rustix::net::listen(&handoff, 128)?;
    for socket in [&calls, &handoff] {
        rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty())?;
    }
    Ok([calls, handoff])
}

/// irmd with these sockets, as a service manager starts it.
fn activated(host: &Host, sockets: &[OwnedFd; 2]) -> Result<Running> {
    let [calls, handoff] = sockets.each_ref().map(|socket| socket.as_raw_fd());
    let irmd = lab::binaries::folder().context("built daemons")?.join("irmd");
    let script = format!("LISTEN_PID=$$ LISTEN_FDS=2 exec {} --leave-ipcps 3<&{calls} 4<&{handoff}", irmd.display());
    let mut command = host.command("bash");
    command.args(["-c", &script]);
    Running::start(&format!("{}: irmd", host.name()), command)
}

fn a_socket_that_is_passed_outlives_irmd_and_programs_wait_for_it() -> Result<()> {
    let lab = Lab::new()?;
    let [a] = lab.hosts(["a"])?;
    let sockets = sockets(&a)?;
    // irmd does not run yet: who needs it waits.
    let server = a.start("oping", &["--listen", "here"])?;
    let mut irmd = activated(&a, &sockets)?;
    let _server = a.await_server(server, "here")?;
    let client = a.start("oping", &["here", "-i", "0.05"])?;
    client.expect_line(SOON, "seq=3")?;
    let before = await_flows(&a, 1)?;
    irmd.kill()?;
    let mut waits = a.start("oping", &["here", "-c", "1"])?;
    let mut irmd = activated(&a, &sockets)?;
    let output = waits.wait(SOON)?;
    ensure!(output.code() == 0, "{output:?}");
    wait_until(SOON, "the flow of before", || {
        flows(&a).is_ok_and(|rows| rows.iter().map(|row| &row["id"]).collect::<Vec<_>>() == [&before[0]["id"]])
    })?;
    irmd.signal(Signal::TERM)?;
    ensure!(irmd.wait(SOON)?.code() == 0);
    for name in ["irmd.sock", "irmd.flow"] {
        ensure!(a.run_dir().join(name).exists(), "{name} was the service manager's to remove");
    }
    Ok(())
}

fn restarting_irmd_as_a_service_leaves_ipcps_and_flows_alone() -> Result<()> {
    let mut net = Net::bare()?;
    net.irmd_a.stop()?;
    net.irmd_a = net.a.irmd().args(&["--leave-ipcps"]).start()?;
    net.a.bootstrap(&[("echo", &net.b)])?;
    net.b.bootstrap(&[])?;
    let _server = net.b.serve("echo")?;
    let client = net.a.start("oping", &["echo", "-i", "0.05"])?;
    client.expect_line(SOON, "seq=3")?;
    let (before, pid) = (await_flows(&net.a, 1)?, ipcp(&net.a)?["pid"].clone());
    let output = net.irmd_a.stop()?;
    ensure!(output.code() == 0, "{output:?}");
    ensure!(Path::new("/proc").join(pid.to_string()).exists(), "the IPCP ended with irmd");
    net.irmd_a = net.a.irmd().args(&["--leave-ipcps"]).start()?;
    wait_until(SOON, "the same IPCP to be back", || {
        ipcp(&net.a).is_ok_and(|row| row["state"] == "operational" && row["pid"] == pid)
    })?;
    assert_eq!(await_flows(&net.a, 1)?[0]["id"], before[0]["id"]);
    // But when all is to end, all ends.
    net.a.irm(&["shutdown"])?;
    ensure!(!Path::new("/proc").join(pid.to_string()).exists(), "the IPCP still runs");
    ensure!(net.irmd_a.process().wait(SOON)?.code() == 0);
    Ok(())
}

fn an_ipcp_that_irmd_is_not_to_start_is_bootstrapped_when_it_comes() -> Result<()> {
    let lab = Lab::new()?;
    let [a] = lab.hosts(["a"])?;
    let file = a.run_dir().join("irmd.toml");
    std::fs::write(
        &file,
        "[[ipcp]]\nname = \"udp0\"\nlayer = \"net\"\nip = \"10.0.0.1\"\nport = 3400\nstart = false\n",
    )?;
    let _irmd = a.irmd().args(&["--config", file.to_str().context("utf-8")?]).start()?;
    assert_eq!(ipcp(&a)?["state"], "down");
    for _ in 0..2 {
        let mut ipcpd = a.start("ipcpd-udp", &["--name", "udp0"])?;
        wait_until(SOON, "it to be bootstrapped", || {
            ipcp(&a).is_ok_and(|row| row["state"] == "operational" && row["pid"] == ipcpd.pid())
        })?;
        assert_eq!(ipcp(&a)?["address"], "10.0.0.1:3400");
        ipcpd.kill()?;
        wait_until(SOON, "its end to be seen", || ipcp(&a).is_ok_and(|row| row["state"] == "down"))?;
    }
    ensure!(a.irm(&["config", "export"])?.contains("start = false"));
    assert_eq!(ipcp(&a)?["restarts"], 0);
    Ok(())
}

fn a_shutdown_keeps_flows_unless_it_is_to_end_them() -> Result<()> {
    let mut net = Net::up(&["echo"])?;
    let _far = net.b.serve("echo")?;
    let _near = net.a.serve("here")?;
    let mut far = net.a.start("oping", &["echo", "-i", "0.05"])?;
    let mut near = net.a.start("oping", &["here", "-i", "0.05"])?;
    for client in [&far, &near] {
        client.expect_line(SOON, "seq=3")?;
    }
    let before = await_flows(&net.a, 2)?;
    let said = net.a.irm(&["shutdown"])?;
    ensure!(said.contains("2 flows go on"), "{said}");
    ensure!(net.irmd_a.process().wait(SOON)?.code() == 0);
    ensure!(!net.a.run_dir().join("irmd.sock").exists() && !net.a.run_dir().join("ipcp-udp0.sock").exists());
    net.irmd_a = net.a.irmd().start()?;
    let told = |rows: &[serde_json::Value]| {
        let keys = ["id", "name", "process", "peer_process", "local_address", "peer_address"];
        rows.iter().map(|row| keys.map(|key| row[key].clone())).collect::<Vec<_>>()
    };
    wait_until(SOON, "the same flows", || flows(&net.a).is_ok_and(|rows| told(&rows) == told(&before)))?;
    // The IPCP says so at once, and tells irmd of what came back some milliseconds later.
    let known = || net.a.irm(&["status", "--json"]).ok().and_then(|text| serde_json::from_str(&text).ok());
    wait_until(SOON, "irmd to know them, too", || {
        known().is_some_and(|status: serde_json::Value| status["flows"] == 2)
    })?;
    // What irm made is there again: it was not destroyed.
    let exported = net.a.irm(&["config", "export"])?;
    ensure!(exported.contains("udp0"), "{exported}");
    let said = net.a.irm(&["shutdown", "--flows", "end"])?;
    ensure!(said.contains("2 flows were ended"), "{said}");
    for client in [&mut far, &mut near] {
        let output = client.wait(SOON)?;
        // One SDU may be on its way when the flow is ended; none was lost before.
        let figures = output.out.lines().find(|line| line.contains(" SDUs sent, ")).unwrap_or_default();
        let mut figures = figures.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u32>().ok());
        let (sent, received) = (figures.next(), figures.next());
        ensure!(output.code() == 1 && sent.zip(received).is_some_and(|(s, r)| r + 1 >= s), "{output:?}");
    }
    await_flows(&net.b, 0)?;
    net.irmd_a = net.a.irmd().start()?;
    wait_until(SOON, "the IPCP to be back", || ipcp(&net.a).is_ok_and(|row| row["state"] == "operational"))?;
    ensure!(flows(&net.a)?.is_empty());
    Ok(())
}

fn a_shutdown_waits_for_flows_and_takes_nothing_new() -> Result<()> {
    let mut net = Net::bare()?;
    let _server = net.a.serve("here")?;
    let mut client = net.a.start("oping", &["here", "-i", "0.05"])?;
    client.expect_line(SOON, "seq=3")?;
    let mut shutdown = net.a.start("irm", &["shutdown", "--drain", "60"])?;
    for (tool, args, code) in [("oping", vec!["here"], 2), ("irm", vec!["name", "create", "new"], 1)] {
        wait_until(SOON, "it to be refused", || {
            net.a.run(tool, &args).is_ok_and(|output| output.code() == code && output.err.contains("shutting down"))
        })?;
    }
    // Flows end when they end, and irmd with the last.
    ensure!(shutdown.is_running() && client.is_running());
    client.signal(Signal::INT)?;
    ensure!(client.wait(SOON)?.code() == 0);
    let output = shutdown.wait(Duration::from_secs(20))?;
    ensure!(output.code() == 0 && output.out.is_empty(), "{output:?}");
    ensure!(net.irmd_a.process().wait(SOON)?.code() == 0);
    // One who loses patience says so again.
    net.irmd_a = net.a.irmd().start()?;
    let _server = net.a.serve("there")?;
    let client = net.a.start("oping", &["there", "-i", "0.05"])?;
    client.expect_line(SOON, "seq=3")?;
    let mut patient = net.a.start("irm", &["shutdown", "--drain", "3600"])?;
    wait_until(SOON, "it to be under way", || {
        net.a.run("irm", &["name", "create", "new"]).is_ok_and(|output| output.err.contains("shutting down"))
    })?;
    let said = net.a.irm(&["shutdown"])?;
    ensure!(said.contains("1 flow goes on"), "{said}");
    ensure!(patient.wait(SOON)?.code() == 0);
    Ok(())
}
