//! `irm doctor`: things are broken one by one; it finds each, in the words that are written down, and the command that
//! it names mends it.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use flowring_tests::name_server::{Kind, NameServer};
use flowring_tests::net::{Net, SOON, ipcp};
use lab::{Host, Lab, Running, Signal};
use serde_json::Value;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = cases![
        hosts_that_work_are_told_so,
        an_irmd_that_is_dead_stopped_or_gone,
        an_ipcpd_that_is_dead_or_stopped,
        daemons_of_another_version_are_named,
        a_port_that_another_socket_has,
        an_address_that_nobody_else_reaches,
        a_peer_whose_shim_is_dead_and_addresses_where_none_is,
        names_that_nobody_serves_or_knows,
        files_that_others_may_write_or_read,
        a_clock_that_was_set_back,
    ];
    cases.extend(cases![programs ["ip"]: addresses_and_interfaces_that_are_gone]);
    cases.extend(cases![programs ["nft"]: firewalls_that_drop_and_keep_in]);
    cases.extend(cases![programs ["prlimit"]: a_daemon_that_is_short_of_descriptors]);
    cases.extend(cases![programs ["mount"]: a_state_directory_that_cannot_be_written]);
    cases.extend(cases![programs ["named"]: name_servers_that_are_wrong_and_records_that_are_void]);
    cases
}

/// What the doctor says, and its exit code held against that.
fn examine(host: &Host, more: &[&str]) -> Result<Value> {
    let words = [&["doctor", "--json"], more].concat();
    let output = host.run("irm", &words)?;
    let report: Value = serde_json::from_str(&output.out).with_context(|| format!("{output:?}"))?;
    let code = if report["troubles"] == 0 { 0 } else { 1 };
    ensure!(output.code() == code && output.err.is_empty(), "{output:?}");
    Ok(report)
}

/// Waits until `host` has a finding; it must have these words, exactly. Gives the report.
fn finds_with(host: &Host, more: &[&str], id: &str, found: &str, mend: &str) -> Result<Value> {
    let mut last = Value::Null;
    let line = |report: &Value| report["checks"].as_array()?.iter().find(|line| line["id"] == id).cloned();
    let in_time = lab::wait_until(SOON, id, || {
        last = examine(host, more).unwrap_or_default();
        line(&last).is_some_and(|line| line["found"] == found)
    });
    in_time.with_context(|| format!("instead of {found:?} it says {last:#}"))?;
    let line = line(&last).context("the line that was there")?;
    ensure!(line["do"] == mend && line["means"].as_str().is_some_and(|means| !means.is_empty()), "{line:#}");
    Ok(last)
}

fn finds(host: &Host, id: &str, found: &str, mend: &str) -> Result<()> {
    finds_with(host, &[], id, found, mend).map(drop)
}

/// Waits until nothing is wrong.
fn is_well(host: &Host) -> Result<()> {
    let mut last = Value::Null;
    let in_time = lab::wait_until(SOON, "a host where nothing is wrong", || {
        last = examine(host, &[]).unwrap_or_default();
        last["troubles"] == 0
    });
    in_time.with_context(|| format!("it says {last:#}"))
}

/// Does what the doctor says, as who reads it would.
fn obey(host: &Host, mend: &str) -> Result<()> {
    let ours = lab::binaries::folder().context("the programs")?.display();
    let path = std::env::var("PATH").unwrap_or_default();
    let output = host.run("sh", &["-c", &format!("PATH={ours}:{path}:/usr/sbin:/sbin; {mend}")])?;
    ensure!(output.code() == 0, "{mend}: {output:?}");
    Ok(())
}

/// Finds it, does what is said, and finds nothing any more.
fn mends(host: &Host, id: &str, found: &str, mend: &str) -> Result<()> {
    finds(host, id, found, mend)?;
    obey(host, mend)?;
    is_well(host)
}

fn of_version_2(host: &Host, program: &str, args: &[&str]) -> Result<Running> {
    let mut command = host.command(program);
    command.args(args).env("FLOWRING_TEST_PROTOCOL_VERSION", "2");
    Running::start(&format!("{}: {program} of version 2", host.name()), command)
}

fn pid_of_ipcp(host: &Host) -> Result<u64> {
    ipcp(host)?["pid"].as_u64().context("a pid")
}

/// `FIRST udp0 --layer net --ip IP`, with more.
fn bootstrap(ip: &str, more: &str) -> String {
    format!("irm ipcp bootstrap --type udp --name udp0 --layer net --ip {ip}{more}")
}

fn hosts_that_work_are_told_so() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let _server = net.b.serve("echo")?;
    for host in [&net.a, &net.b] {
        is_well(host)?;
        let output = host.run("irm", &["doctor", "--name", "echo"])?;
        ensure!(output.code() == 0 && output.out.contains("\nNothing is wrong ("), "{output:?}");
        for check in ["irmd", "IPCPs", "addresses", "ports", "reachable", "name", "state", "descriptors", "kernel"] {
            ensure!(
                output.out.lines().any(|line| line.starts_with(&format!("ok       {check} "))),
                "{check}: {output:?}"
            );
        }
    }
    let output = net.a.run("irm", &["doctor", "--name", "echo"])?;
    ensure!(output.out.contains("10.0.0.2:3359, for echo, answered in"), "{output:?}");
    ensure!(output.out.contains("a flow to echo goes over net to 10.0.0.2:3359"), "{output:?}");
    // The requests left nothing behind.
    ensure!(net.b.list("flow list")?.is_empty());
    let usage = net.a.run("irm", &["doctor", "--name", "two words"])?;
    ensure!(usage.code() == 2, "{usage:?}");
    Ok(())
}

fn an_irmd_that_is_dead_stopped_or_gone() -> Result<()> {
    let lab = Lab::new()?;
    let [a] = lab.hosts(["a"])?;
    let dir = a.run_dir().display().to_string();
    let start = format!("irmd --run-dir {dir}");
    finds(&a, "irmd-none", &format!("there is no {dir}/irmd.sock: irmd does not run"), &start)?;
    let mut irmd = a.irmd().start()?;
    is_well(&a)?;
    let pid = irmd.process().pid();
    irmd.process().signal(Signal::STOP)?;
    let found = format!("irmd (pid {pid}) is stopped by a signal or a debugger");
    mends(&a, "irmd-stopped", &found, &format!("kill -CONT {pid}"))?;
    irmd.process().kill()?;
    finds(&a, "irmd-dead", &format!("nobody listens at {dir}/irmd.sock: irmd was killed or crashed"), &start)?;
    // Somebody else's socket is no irmd.
    std::fs::remove_file(format!("{dir}/irmd.sock"))?;
    let _listener = std::os::unix::net::UnixListener::bind(format!("{dir}/irmd.sock"))?;
    let pid = std::process::id();
    let found = format!("irmd (pid {pid}) at {dir}/irmd.sock did not answer within 700 ms");
    finds(&a, "irmd-stuck", &found, &format!("kill {pid} && {start}"))?;
    let nowhere = a.run_dir().join("nowhere").display().to_string();
    let found = format!("the run directory {nowhere} does not exist");
    let more = ["--run-dir", nowhere.as_str()];
    finds_with(&a, &more, "run-dir-missing", &found, &format!("irmd --run-dir {nowhere}")).map(drop)
}

fn an_ipcpd_that_is_dead_or_stopped() -> Result<()> {
    let net = Net::bare()?;
    net.a.bootstrap_with(&[], &["--no-restart"])?;
    is_well(&net.a)?;
    let pid = pid_of_ipcp(&net.a)?;
    obey(&net.a, &format!("kill -STOP {pid}"))?;
    let found = format!("IPCP udp0 (pid {pid}) is stopped by a signal or a debugger");
    let report = finds_with(&net.a, &[], "ipcp-stopped", &found, &format!("kill -CONT {pid}"))?;
    ensure!(report.to_string().contains("\"self-silent\""), "{report:#}");
    obey(&net.a, &format!("kill -CONT {pid}"))?;
    is_well(&net.a)?;
    obey(&net.a, &format!("kill -KILL {pid}"))?;
    let found = "IPCP udp0 is down: was killed by signal 9";
    let again = format!("irm ipcp destroy --name udp0 && {}", bootstrap("10.0.0.1", ""));
    mends(&net.a, "ipcp-down", found, &again)
}

fn daemons_of_another_version_are_named() -> Result<()> {
    let lab = Lab::new()?;
    let [a, b] = lab.hosts(["a", "b"])?;
    let irmd = of_version_2(&a, "irmd", &[])?;
    irmd.expect_log(SOON, "irmd is ready")?;
    let (dir, pid) = (a.run_dir().display().to_string(), irmd.pid());
    let found = "irmd speaks protocol version 2, this irm and what was installed with it version 1";
    finds(&a, "irmd-version", found, &format!("kill {pid} && irmd --run-dir {dir}"))?;

    let _irmd = b.irmd().start()?;
    let ipcpd = of_version_2(&b, "ipcpd-udp", &["--name", "udp0"])?;
    let socket = b.run_dir().join("ipcp-udp0.sock").display().to_string();
    let found = format!("an IPCP udp0 listens at {socket}, and irmd does not know it");
    mends(&b, "ipcp-refused", &found, &format!("kill {}", ipcpd.pid()))
}

/// An irmd whose one IPCP, at 10.0.0.1, is from its configuration.
fn configured(host: &Host) -> Result<lab::Daemon> {
    let file = host.run_dir().join("irmd.toml");
    std::fs::write(&file, "[[ipcp]]\nname = \"udp0\"\nlayer = \"net\"\nip = \"10.0.0.1\"\n")?;
    host.irmd().args(&["--config", file.to_str().context("utf-8")?]).start()
}

fn a_port_that_another_socket_has() -> Result<()> {
    let lab = Lab::new()?;
    let [a] = lab.hosts(["a"])?;
    // A program of its own, so that the advice to end it can be followed.
    let mut taken = a.start("operf", &["--bare-listen", "10.0.0.1:3359"])?;
    taken.expect_line(SOON, "listens on")?;
    let _irmd = configured(&a)?;
    let (pid, port) = (taken.pid(), "UDP port 3359 of 10.0.0.1, which IPCP udp0 needs, is held by");
    let report = finds_with(&a, &[], "port-taken", &format!("{port} operf (pid {pid})"), &format!("kill {pid}"))?;
    ensure!(report.to_string().contains("\"ipcp-not-bootstrapped\""), "{report:#}");
    obey(&a, &format!("kill {pid}"))?;
    taken.wait(SOON)?;
    // irmd tries again by itself.
    is_well(&a)
}

fn addresses_and_interfaces_that_are_gone() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let a = &net.a;
    is_well(a)?;
    obey(a, "ip address del 10.0.0.1/24 dev eth0")?;
    let found = "the address 10.0.0.1 of IPCP udp0 is on no interface of this host";
    mends(a, "address-gone", found, "ip address add 10.0.0.1/24 dev eth0")?;
    obey(a, "ip link set eth0 mtu 1000")?;
    let found = "eth0, which has the address 10.0.0.1 of IPCP udp0, has an MTU of 1000 bytes; a request needs 1228";
    mends(a, "mtu-small", found, "ip link set eth0 mtu 1500")?;
    obey(a, "ip link set eth0 down")?;
    let found = "eth0, which has the address 10.0.0.1 of IPCP udp0, is down";
    mends(a, "interface-down", found, "ip link set eth0 up")
}

fn firewalls_that_drop_and_keep_in() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let (a, b) = (&net.a, &net.b);
    is_well(a)?;
    let table = "nft add table inet guard && nft 'add chain inet guard in { type filter hook input priority 0; policy \
                 accept; }' && nft 'add chain inet guard out { type filter hook output priority 0; policy accept; }'";
    obey(b, table)?;
    obey(b, "nft add rule inet guard in udp dport 3359 drop")?;
    let host = "10.0.0.2:3359, where echo is to be, did not answer 3 requests within";
    let report = loop_until(a, "peer-silent", host)?;
    ensure!(report["do"] == "ssh 10.0.0.2 irm doctor", "{report:#}");
    let handle = |chain: &str| -> Result<u64> {
        let rules: Value = serde_json::from_str(&b.run("nft", &["-j", "list", "chain", "inet", "guard", chain])?.out)?;
        let mut rules = rules["nftables"].as_array().into_iter().flatten();
        rules.find_map(|one| one["rule"]["handle"].as_u64()).context("the rule's handle")
    };
    let found = format!("the firewall drops UDP to port 3359: rule {} in chain in of table guard", handle("in")?);
    finds(b, "firewall-drops", &found, "nft insert rule inet guard in udp dport 3359 accept")?;
    loop_until(
        b,
        "self-silent",
        "IPCP udp0 did not answer requests that this host sent to its own 10.0.0.2:3359 within",
    )?;
    obey(b, "nft insert rule inet guard in udp dport 3359 accept")?;
    is_well(b)?;
    is_well(a)?;
    // The other way: nothing leaves.
    obey(b, "nft add rule inet guard out ip daddr 10.0.0.1 udp dport 3359 drop")?;
    obey(b, "irm ipcp host add --name udp0 other=10.0.0.1")?;
    let found = "this host's own firewall forbids sending to 10.0.0.1:3359, where other is to be";
    finds(b, "peer-forbidden", found, "nft list ruleset")
}

/// Waits for a finding that begins so, where the rest is a time.
fn loop_until(host: &Host, id: &str, found: &str) -> Result<Value> {
    let mut last = Value::Null;
    let mut line = Value::Null;
    let in_time = lab::wait_until(SOON, id, || {
        last = examine(host, &[]).unwrap_or_default();
        let lines = last["checks"].as_array().map_or(&[][..], Vec::as_slice);
        line = lines.iter().find(|line| line["id"] == id).cloned().unwrap_or_default();
        line["found"].as_str().is_some_and(|text| text.starts_with(found))
    });
    in_time.with_context(|| format!("it says {last:#}"))?;
    Ok(line)
}

fn an_address_that_nobody_else_reaches() -> Result<()> {
    let net = Net::bare()?;
    net.a.irm(&["ipcp", "bootstrap", "--type", "udp", "--name", "udp0", "--layer", "net", "--ip", "127.0.0.1"])?;
    is_well(&net.a)?;
    net.b.bootstrap(&[])?;
    net.a.irm(&["ipcp", "host", "add", "--name", "udp0", "echo=10.0.0.2"])?;
    let found = "IPCP udp0 has the loopback address 127.0.0.1, and its directory names the host 10.0.0.2";
    let again = format!("irm ipcp destroy --name udp0 && {}", bootstrap("10.0.0.1", " --host echo=10.0.0.2"));
    mends(&net.a, "loopback-address", found, &again)
}

fn a_peer_whose_shim_is_dead_and_addresses_where_none_is() -> Result<()> {
    let net = Net::bare()?;
    net.a.bootstrap(&[("echo", &net.b)])?;
    let found = "10.0.0.2:3359 answers for echo, and its UDP port 3359 is closed";
    finds(&net.a, "peer-closed", found, "ssh 10.0.0.2 irm doctor")?;
    net.b.bootstrap(&[])?;
    is_well(&net.a)?;
    // On the network, and nobody's.
    let host = |entry: &str| net.a.irm(&["ipcp", "host", "add", "--name", "udp0", entry]).map(drop);
    host("lost=10.0.0.99")?;
    let line =
        loop_until(&net.a, "peer-silent", "10.0.0.99:3359, where lost is to be, did not answer 3 requests within");
    // Where the kernel has looked for it already, it says so at once.
    let unreachable = "there is no way to 10.0.0.99:3359, where lost is to be: no route to host";
    if line.is_err() {
        finds(&net.a, "peer-unreachable", unreachable, "ip route get 10.0.0.99")?;
    }
    net.a.irm(&["ipcp", "host", "remove", "--name", "udp0", "lost"])?;
    host("far=192.168.77.1")?;
    let found = "there is no way to 192.168.77.1:3359, where far is to be: network is unreachable";
    finds(&net.a, "peer-unreachable", found, "ip route get 192.168.77.1")
}

fn names_that_nobody_serves_or_knows() -> Result<()> {
    let net = Net::up(&[])?;
    let name = ["--name", "echo"];
    let mend = "irm ipcp host add --name udp0 echo=ADDRESS";
    finds_with(&net.a, &name, "name-unknown", "no layer knows echo", mend)?;
    net.a.irm(&["name", "create", "echo"])?;
    let found = "echo exists on this host, and no process serves it";
    finds_with(&net.a, &name, "name-not-served", found, "irm bind program PROGRAM --name echo --auto")?;
    let _server = net.a.serve("echo")?;
    let report = examine(&net.a, &name)?;
    ensure!(report["troubles"] == 0, "{report:#}");
    Ok(())
}

fn files_that_others_may_write_or_read() -> Result<()> {
    let net = Net::up(&[])?;
    let dir = net.a.run_dir();
    let mode = |path: &std::path::Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    let shown = dir.display();
    mode(dir, 0o777)?;
    let found = format!("the run directory {shown} may be written by others (mode 0777)");
    mends(&net.a, "run-dir-writable", &found, &format!("chmod go-w {shown}"))?;
    let key = dir.join("state/host-key.pem");
    mode(&key, 0o644)?;
    let shown = key.display();
    let found = format!("this host's key {shown} may be read by others (mode 0644)");
    mends(&net.a, "key-open", &found, &format!("chmod 600 {shown}"))?;
    std::fs::remove_file(&key)?;
    finds(&net.a, "key-missing", &format!("this host's key {shown} is gone"), "irm identity show")
}

fn a_clock_that_was_set_back() -> Result<()> {
    let net = Net::bare()?;
    let lock = net.a.run_dir().join("irmd.lock");
    let file = std::fs::File::options().write(true).open(&lock)?;
    #[expect(clippy::disallowed_methods, reason = "of the future, by the clock on the wall")]
    file.set_modified(SystemTime::now() + Duration::from_secs(10 * 3_600 + 60))?;
    let found = format!("{} was written 10 h in the future", lock.display());
    finds(&net.a, "clock-set-back", &found, "timedatectl set-ntp true")
}

fn a_daemon_that_is_short_of_descriptors() -> Result<()> {
    let net = Net::up(&[])?;
    let pid = pid_of_ipcp(&net.a)?;
    obey(&net.a, &format!("prlimit --pid {pid} --nofile=70:"))?;
    let line = loop_until(&net.a, "descriptors-short", &format!("ipcpd-udp (pid {pid}) has "))?;
    ensure!(line["found"].as_str().is_some_and(|found| found.ends_with(" of 70 descriptors open")), "{line:#}");
    let Some(mend) = line["do"].as_str() else { bail!("{line:#}") };
    ensure!(mend.starts_with(&format!("prlimit --pid {pid} --nofile=")), "{line:#}");
    obey(&net.a, mend)?;
    is_well(&net.a)
}

fn a_state_directory_that_cannot_be_written() -> Result<()> {
    let net = Net::up(&[])?;
    let state = net.a.run_dir().join("state").display().to_string();
    // A file system of its own, as an administrator would have.
    obey(&net.a, &format!("mount --bind {state} {state} && mount -o remount,bind,ro {state}"))?;
    let found = format!("the state directory {state} is on a file system that cannot be written");
    let finds = finds(&net.a, "state-read-only", &found, &format!("mount -o remount,rw {state}"));
    // Before the folder goes.
    obey(&net.a, &format!("umount {state}"))?;
    finds?;
    is_well(&net.a)
}

fn name_servers_that_are_wrong_and_records_that_are_void() -> Result<()> {
    let net = Net::bare()?;
    let record = "_flowring._udp.echo TXT \"v=flow1\" \"name=echo\" \"host=0f69fd5565715fa4\" \"addr=10.0.0.2\" \
                  \"port=3359\" \"exp=1000000000\"";
    let mut dns = NameServer::start(Kind::Bind, &net.another("ns")?, record)?;
    let words = dns.words();
    net.a.bootstrap_with(&[], &words.iter().map(String::as_str).collect::<Vec<_>>())?;
    is_well(&net.a)?;
    let line = finds_void(&net.a)?;
    ensure!(line["do"] == "ssh 10.0.0.2 irm name register echo --layer net", "{line:#}");
    let server = words.last().context("a server")?;
    let again = |zone: &str, server: &str| {
        let more = format!(" --dns-zone {zone} --dns-server {server}");
        format!("irm ipcp destroy --name udp0 && {}", bootstrap("10.0.0.1", &more))
    };
    dns.kill()?;
    let found = "layer net looked up a name in flows.test for 1500 ms and had no answer";
    finds(&net.a, "dns-slow", found, &again("flows.test", "ADDRESS"))?;
    dns.restart()?;
    is_well(&net.a)?;
    // A server that is no server of the zone says so at once.
    obey(&net.a, &again("other.test", server))?;
    let line = loop_until(&net.a, "dns-failed", "layer net cannot look up names in other.test: ")?;
    ensure!(line["do"] == again("other.test", "ADDRESS"), "{line:#}");
    // Nobody is there at all.
    obey(&net.a, &again("flows.test", "10.0.0.99"))?;
    finds(&net.a, "dns-slow", found, &again("flows.test", "ADDRESS"))?;
    // Mended as said, with the right address in the place of ADDRESS.
    obey(&net.a, &again("flows.test", "ADDRESS").replace("ADDRESS", server))?;
    is_well(&net.a)
}

fn finds_void(host: &Host) -> Result<Value> {
    let report = examine(host, &["--name", "echo"])?;
    let mut lines = report["checks"].as_array().into_iter().flatten();
    let line = lines.find(|line| line["id"] == "name-void").cloned();
    let line = line.with_context(|| format!("{report:#}"))?;
    let found = line["found"].as_str().unwrap_or_default();
    ensure!(found.starts_with("echo is at 10.0.0.2:3359, where no flow goes: ") && found.contains("void"), "{line:#}");
    Ok(line)
}
