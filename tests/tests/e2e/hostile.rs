//! Datagrams nobody should send: dropped, counted, and nobody else notices.

use std::net::{IpAddr, SocketAddrV4};

use anyhow::{Context as _, Result, bail, ensure};
use flowring_tests::cases;
use flowring_tests::harness::{Case, has_other_users};
use flowring_tests::net::{Net, SOON, await_flows, ipcp};
use flowring_tests::spoof::Forger;
use lab::Lab;
use libflow::AllocError;
use libflow::blocking::{Flow, Stack};
use proto::shim::{Control, ControlKind};
use proto::{BootId, HostId, WireId};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        garbage_on_the_shims_port_is_counted_and_dropped,
        datagrams_of_strangers_never_reach_a_flow,
        a_forged_dealloc_ends_no_flow,
        forged_sdus_and_empty_datagrams_break_no_flow,
        a_user_at_its_limit_is_told_and_others_go_on,
    ]
}

/// Garbage of every shape, the same on each run.
fn garbage() -> Vec<Vec<u8>> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |length: usize| -> Vec<u8> {
        (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_be_bytes()[0]
            })
            .collect()
    };
    let mut all = vec![
        Vec::new(),
        vec![0],
        vec![0; 1200],
        b"\0Flow".to_vec(),
        b"\0Flow\x01\x01\0".to_vec(),
        b"echo\0Flow".to_vec(),
        b"echo\0Flow\x01\x01\xff\xff".to_vec(),
        b"echo\0Flow\x07\x01\0\x28".to_vec(),
        vec![b'n'; 256],
        vec![b'n'; 65_507],
        vec![0xff; 1473],
        b"two words".to_vec(),
    ];
    for length in (1..200).chain([1199, 1200, 1201, 4000, 65_507]) {
        all.push(random(length));
    }
    all
}

fn garbage_on_the_shims_port_is_counted_and_dropped() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let _server = net.b.serve("echo")?;
    let before = ipcp(&net.b)?;
    let c = net.another("c")?;
    let socket = c.socket(0)?;
    for _ in 0..10 {
        for datagram in garbage() {
            socket.send_to(&datagram, net.b.shim())?;
        }
        // The receiver's queue is finite: one answer shows that it was read to here.
        let output = net.a.run("oping", &["echo", "-c", "1"])?;
        ensure!(output.code() == 0, "{output:?}");
    }
    let after = ipcp(&net.b)?;
    assert_eq!((&before["pid"], &after["restarts"]), (&after["pid"], &0.into()));
    let counters = after["counters"].as_object().context("counters")?;
    for reason in ["dropped_empty", "dropped_bad_name", "dropped_truncated", "dropped_too_long", "dropped_not_control"]
    {
        ensure!(counters.get(reason).and_then(serde_json::Value::as_u64) > Some(0), "{reason} in {counters:?}");
    }
    let rss = |row: &serde_json::Value| row["rss_bytes"].as_u64().unwrap_or(0);
    ensure!(rss(&after) < rss(&before) + (2 << 20), "memory grew from {} to {}", rss(&before), rss(&after));
    Ok(())
}

/// The addresses of the only flow at `net.b`: its own and its peer's.
fn addresses(net: &Net) -> Result<(SocketAddrV4, SocketAddrV4)> {
    let row = await_flows(&net.b, 1)?.remove(0);
    let address = |key: &str| row[key].as_str().and_then(|text| text.parse().ok()).with_context(|| row.to_string());
    Ok((address("local_address")?, address("peer_address")?))
}

fn datagrams_of_strangers_never_reach_a_flow() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let _server = net.b.serve("echo")?;
    let mut client = net.a.start("oping", &["echo", "-i", "0.02", "-c", "50"])?;
    client.expect_line(SOON, "seq=")?;
    let (sp, cp) = addresses(&net)?;
    let socket = net.another("c")?.socket(0)?;
    for datagram in garbage() {
        socket.send_to(&datagram, sp)?;
        socket.send_to(&datagram, cp)?;
    }
    let output = client.wait(SOON)?;
    ensure!(output.code() == 0, "{output:?}");
    let replies = output.out.lines().filter(|line| line.contains("seq=")).count();
    assert_eq!(replies, 50, "{}", output.out);
    Ok(())
}

fn v4(address: IpAddr, port: u16) -> Result<SocketAddrV4> {
    match address {
        IpAddr::V4(v4) => Ok(SocketAddrV4::new(v4, port)),
        IpAddr::V6(_) => bail!("forged datagrams are IPv4"),
    }
}

fn a_forged_dealloc_ends_no_flow() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let _server = net.b.serve("echo")?;
    let mut client = net.a.start("oping", &["echo", "-i", "0.02", "-c", "50"])?;
    client.expect_line(SOON, "seq=")?;
    let forger = Forger::at(&net.another("c")?)?;
    let (a, b) = (v4(net.a.address(), 3359)?, v4(net.b.address(), 3359)?);
    for guess in 0..1000 {
        let control = Control {
            kind: ControlKind::Dealloc { died: false },
            host: HostId(guess),
            boot: BootId(guess),
            sender: WireId(guess),
            receiver: WireId(guess),
        };
        forger.send(a, b, &control.encode())?;
        forger.send(b, a, &control.encode())?;
    }
    let output = client.wait(SOON)?;
    ensure!(output.code() == 0, "{output:?}");
    Ok(())
}

fn forged_sdus_and_empty_datagrams_break_no_flow() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let _server = net.b.serve("echo")?;
    let mut client = net.a.start("oping", &["echo", "-i", "0.02", "-c", "50"])?;
    client.expect_line(SOON, "seq=")?;
    let (sp, cp) = addresses(&net)?;
    let forger = Forger::at(&net.another("c")?)?;
    // A raw flow has no authentication: these arrive, and are for the program to judge.
    for datagram in garbage().into_iter().filter(|datagram| datagram.len() <= 1472) {
        forger.send(cp, sp, &datagram)?;
        forger.send(sp, cp, &datagram)?;
    }
    let output = client.wait(SOON)?;
    ensure!(output.code() == 0, "{output:?}");
    let row = await_flows(&net.b, 0);
    ensure!(row.is_ok(), "the flow did not end in order");
    Ok(())
}

/// One SDU there and back.
fn echoes(flow: &Flow) -> Result<()> {
    flow.send(b"are you there")?;
    let mut buffer = [0; 64];
    let length = flow.recv_within(&mut buffer, SOON)?;
    ensure!(&buffer[..length] == b"are you there", "{:?}", &buffer[..length]);
    Ok(())
}

fn a_user_at_its_limit_is_told_and_others_go_on() -> Result<()> {
    let lab = Lab::new()?;
    let [a, b] = lab.hosts(["a", "b"])?;
    let config = a.run_dir().join("irmd.toml");
    std::fs::write(&config, "[options]\nflows-per-user = 4\nunlimited-users = []\n")?;
    let _irmd_a = a.irmd().args(&["--config", config.to_str().context("utf-8")?]).start()?;
    let _irmd_b = b.irmd().start()?;
    a.bootstrap(&[("echo", &b)])?;
    b.bootstrap(&[])?;
    let _server = b.serve("echo")?;
    let stack = Stack::find(Some(a.run_dir()))?;
    let alloc = || stack.alloc("echo").timeout(SOON).wait();
    let mut flows = (0..4).map(|_| alloc()).collect::<Result<Vec<Flow>, AllocError>>()?;
    match alloc() {
        Err(AllocError::Exhausted { message }) => {
            ensure!(message.contains("holds 4 flows") && message.contains("flows-per-user"), "{message}");
        }
        other => bail!("a fifth flow of four: {other:?}"),
    }
    for flow in &flows {
        echoes(flow)?;
    }
    if has_other_users() {
        let copy = a.run_dir().join("oping");
        std::fs::copy(lab::binaries::folder().context("prepared")?.join("oping"), &copy)?;
        let copy = copy.to_str().context("utf-8")?;
        let words = ["--reuid=65534", "--regid=65534", "--clear-groups", copy, "echo", "-c", "1"];
        let output = a.run("setpriv", &words)?;
        ensure!(output.code() == 0, "another user: {output:?}");
    }
    drop(flows.pop());
    let mut again = None;
    lab::wait_until(SOON, "room for another", || {
        again = alloc().ok();
        again.is_some()
    })?;
    echoes(&again.context("a flow")?)
}
