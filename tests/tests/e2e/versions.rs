//! Daemons, programs and tools of two protocol versions on one host, and shims of two on two hosts: what works, and what is
//! refused in one clear sentence. docs/operations.md has the table.

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use flowring_tests::net::{Net, SOON, await_flows, flows, ipcp};
use lab::{Host, Lab, Running, wait_until};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_program_of_another_version_is_told_both_versions,
        a_program_that_irmds_upgrade_left_behind_goes_on_and_is_told_once_it_asks,
        an_ipcpd_of_another_version_is_refused_and_both_say_so,
        hosts_of_two_versions_have_flows_with_each_other,
    ]
}

const VARIABLE: &str = "FLOWRING_TEST_PROTOCOL_VERSION";

/// A program as if it had been built from a release with this protocol version.
fn of_version(host: &Host, version: &str, program: &str, args: &[&str]) -> Result<Running> {
    let mut command = host.command(program);
    command.args(args).env(VARIABLE, version);
    Running::start(&format!("{}: {program} of version {version}", host.name()), command)
}

fn irmd_of_version(host: &Host, version: &str) -> Result<Running> {
    let irmd = of_version(host, version, "irmd", &[])?;
    irmd.expect_log(SOON, "irmd is ready")?;
    Ok(irmd)
}

fn names_both(text: &str) -> bool {
    text.contains("version 1") && text.contains("version 2")
}

fn a_program_of_another_version_is_told_both_versions() -> Result<()> {
    let lab = Lab::new()?;
    let [a] = lab.hosts(["a"])?;
    for [of_irmd, of_program] in [["1", "2"], ["2", "1"]] {
        let _irmd = irmd_of_version(&a, of_irmd)?;
        for args in [vec!["here", "-c", "1"], vec!["--listen", "here"]] {
            let output = of_version(&a, of_program, "oping", &args)?.wait(SOON)?;
            ensure!(output.code() == 2 && names_both(&output.err), "{output:?}");
            ensure!(output.err.lines().count() == 1, "one sentence: {}", output.err);
        }
        // Tools that only ask are not refused: they say what runs.
        let output = of_version(&a, of_program, "irm", &["status", "--json"])?.wait(SOON)?;
        let status: serde_json::Value = serde_json::from_str(&output.out).with_context(|| format!("{output:?}"))?;
        assert_eq!(status["version"].to_string(), of_irmd);
    }
    Ok(())
}

fn a_program_that_irmds_upgrade_left_behind_goes_on_and_is_told_once_it_asks() -> Result<()> {
    let lab = Lab::new()?;
    let [a] = lab.hosts(["a"])?;
    let mut irmd = irmd_of_version(&a, "1")?;
    let mut server = a.serve("here")?;
    let client = a.start("oping", &["here", "-i", "0.02"])?;
    client.expect_line(SOON, "seq=3")?;
    await_flows(&a, 1)?;
    irmd.kill()?;
    let _irmd = irmd_of_version(&a, "2")?;
    // Its accept is refused, in words; its flow goes on, though no list shows it.
    server.expect_log(SOON, "version 1")?;
    let said = server.err();
    ensure!(names_both(&said), "{said}");
    ensure!(flows(&a)?.is_empty());
    let _ = server.is_running();
    client.expect_line(SOON, "seq=20 ").map(drop)
}

fn an_ipcpd_of_another_version_is_refused_and_both_say_so() -> Result<()> {
    let lab = Lab::new()?;
    let [a] = lab.hosts(["a"])?;
    for [of_irmd, of_ipcpd] in [["1", "2"], ["2", "1"]] {
        let irmd = irmd_of_version(&a, of_irmd)?;
        let ipcpd = of_version(&a, of_ipcpd, "ipcpd-udp", &["--name", "udp0"])?;
        let log = ipcpd.expect_log(SOON, "irmd did not take this IPCP")?;
        ensure!(names_both(&log), "{log}");
        let log = irmd.expect_log(SOON, "udp0")?;
        ensure!(names_both(&log), "{log}");
        ensure!(ipcp(&a).is_err(), "it is listed though it was refused");
    }
    Ok(())
}

fn hosts_of_two_versions_have_flows_with_each_other() -> Result<()> {
    // The protocol between processes of one host changes; the shim's own version is another number.
    let mut net = Net::bare()?;
    net.irmd_b.stop()?;
    let _irmd = irmd_of_version(&net.b, "2")?;
    net.a.bootstrap(&[("echo", &net.b)])?;
    net.b.bootstrap(&[])?;
    let server = of_version(&net.b, "2", "oping", &["--listen", "echo"])?;
    let _server = net.b.await_server(server, "echo")?;
    let output = net.a.run("oping", &["echo", "-c", "3", "-i", "0.01"])?;
    ensure!(output.code() == 0, "{output:?}");
    // The IPCP was started by irmd and is of its version.
    wait_until(SOON, "its IPCP", || ipcp(&net.b).is_ok_and(|row| row["state"] == "operational"))
}
