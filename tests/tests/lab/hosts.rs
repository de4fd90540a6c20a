//! Hosts see each other and nothing else.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use lab::{Deadline, Host, Lab, wait_until};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        hosts_reach_each_other_over_ipv4_and_ipv6,
        labs_beside_each_other_have_the_same_addresses,
        a_command_runs_at_its_host_with_its_run_directory,
        the_outside_network_is_out_of_reach,
        processes_are_counted_from_one_and_orphans_are_reaped,
        a_running_program_is_heard_signalled_and_waited_for,
        waiting_ends_at_its_deadline,
    ]
}

fn bound(host: &Host, address: IpAddr, port: u16) -> Result<UdpSocket> {
    let socket = host.inside(move || UdpSocket::bind((address, port)))??;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(socket)
}

/// Sends one datagram; says from where the other heard it.
fn heard(from: (&Host, IpAddr), to: (&Host, IpAddr)) -> Result<SocketAddr> {
    // Ports of the system's choice: a child that another test is just starting may hold the last ones a moment longer.
    let (sender, receiver) = (bound(from.0, from.1, 0)?, bound(to.0, to.1, 0)?);
    sender.send_to(b"hello", receiver.local_addr()?)?;
    let mut bytes = [0; 16];
    let (length, source) = receiver.recv_from(&mut bytes).context("nothing arrived")?;
    ensure!(&bytes[..length] == b"hello", "something else arrived");
    Ok(source)
}

fn hosts_reach_each_other_over_ipv4_and_ipv6() -> Result<()> {
    let lab = Lab::new()?;
    let [a, b, c] = lab.hosts(["a", "b", "c"])?;
    for (one, other) in [(&a, &b), (&b, &c), (&c, &a)] {
        assert_eq!(heard((one, one.address()), (other, other.address()))?.ip(), one.address());
        let (one6, other6) = (one.address6().unwrap(), other.address6().unwrap());
        assert_eq!(heard((one, one6), (other, other6))?.ip(), one6);
    }
    Ok(())
}

fn labs_beside_each_other_have_the_same_addresses() -> Result<()> {
    let (one, other) = (Lab::new()?, Lab::new()?);
    let ([a], [b]) = (one.hosts(["a"])?, other.hosts(["b"])?);
    assert_eq!(a.address(), b.address());
    let sockets = (bound(&a, a.address(), 3359)?, bound(&b, b.address(), 3359)?);
    drop(sockets);
    Ok(())
}

fn a_command_runs_at_its_host_with_its_run_directory() -> Result<()> {
    let lab = Lab::new()?;
    let [a, b] = lab.hosts(["a", "b"])?;
    for host in [&a, &b] {
        let output = host.run("sh", &["-c", "echo $FLOWRING_RUN_DIR; ip -br address show eth0"])?;
        let (folder, address) = output.out.split_once('\n').context("two lines")?;
        assert_eq!(folder, host.run_dir().to_str().unwrap());
        ensure!(address.contains(&format!("{}/24", host.address())), "{address}");
    }
    Ok(())
}

fn the_outside_network_is_out_of_reach() -> Result<()> {
    let lab = Lab::new()?;
    let [a] = lab.hosts(["a"])?;
    let error = a.inside(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect("192.0.2.1:9")
    })?;
    assert_eq!(error.unwrap_err().kind(), std::io::ErrorKind::NetworkUnreachable);
    Ok(())
}

fn processes_are_counted_from_one_and_orphans_are_reaped() -> Result<()> {
    let lab = Lab::new()?;
    let [a] = lab.hosts(["a"])?;
    ensure!(std::process::id() < 1000, "no process namespace: number {}", std::process::id());
    // The inner shell is orphaned at once; /proc shows it until process 1 has reaped it.
    let output = a.run("sh", &["-c", "sh -c 'echo $$' & wait; (sh -c 'exec sh -c true' & echo $!)"])?;
    for number in output.out.split_whitespace() {
        let path = format!("/proc/{number}");
        wait_until(Duration::from_secs(5), "an orphan to be reaped", || !std::path::Path::new(&path).exists())?;
    }
    Ok(())
}

fn a_running_program_is_heard_signalled_and_waited_for() -> Result<()> {
    let lab = Lab::new()?;
    let [a] = lab.hosts(["a"])?;
    let mut shell =
        a.start("sh", &["-c", "trap 'echo bye; exit 7' TERM; echo ready; read line; echo got $line; read x"])?;
    shell.expect_line(Duration::from_secs(5), "ready")?;
    let mut input = shell.input().context("stdin")?;
    std::io::Write::write_all(&mut input, b"word\n")?;
    shell.expect_line(Duration::from_secs(5), "got word")?;
    shell.signal(rustix::process::Signal::TERM)?;
    drop(input);
    let output = shell.wait(Duration::from_secs(5))?;
    assert_eq!((output.code(), output.out.ends_with("bye")), (7, true), "{output:?}");
    let mut endless = a.start("cat", &[] as &[&str])?;
    let error = endless.wait(Duration::from_millis(50)).unwrap_err();
    ensure!(error.to_string().contains("still ran"), "{error}");
    ensure!(!endless.is_running(), "it was not killed");
    Ok(())
}

fn waiting_ends_at_its_deadline() -> Result<()> {
    let deadline = Deadline::after(Duration::from_millis(30));
    let error = wait_until(Duration::from_millis(30), "nothing", || false).unwrap_err();
    ensure!(deadline.is_past() && error.to_string().contains("for nothing"), "{error}");
    Ok(())
}
