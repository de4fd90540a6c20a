//! Sessions as they live: members that come and go, a server that does, strangers.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::flows::{flow, listen};
use flowring_tests::net::{SOON, await_flows, ipcp};
use lab::{Host, Middlebox, Signal};
use libflow::Cube;

use super::stage::{
    Member, Session, await_name, await_session, await_survey, enroll, exchange, only_flow, ping, ping_error, serve,
    words, write_key,
};

const KINDS: [Middlebox; 6] = [
    Middlebox::Open,
    Middlebox::Firewall,
    Middlebox::FullCone,
    Middlebox::AddressRestricted,
    Middlebox::PortRestricted,
    Middlebox::CarrierOverCone,
];

/// All pairs of six, at once; then one joins late, and one ends.
pub(crate) fn six_members_use_fifteen_flows_at_once() -> Result<()> {
    let session = Session::open()?;
    let members = KINDS.iter().enumerate();
    let members = members.map(|(n, kind)| session.member(&format!("m{n}"), *kind)).collect::<Result<Vec<Member>>>()?;
    let mut servers = Vec::new();
    for (n, member) in members.iter().enumerate() {
        let others: Vec<&Member> = members[..n].iter().collect();
        servers.push(serve(member, &format!("m{n}.chat"), &others)?);
    }
    let mut pings = Vec::new();
    for (a, member) in members.iter().enumerate() {
        for b in a + 1..members.len() {
            pings.push((a, b, member.host.start("oping", &[&format!("m{b}.chat"), "-i", "0.1"])?));
        }
    }
    ensure!(pings.len() == 15);
    for (a, b, ping) in &pings {
        ping.expect_line(2 * SOON, "seq=3").with_context(|| format!("m{a} to m{b}"))?;
    }
    // A late one reaches all and is reached.
    let late = session.member("late", Middlebox::PortRestricted)?;
    let _server = serve(&late, "late.chat", &[&members[0]])?;
    ping_all(&late, 5)?;
    ping(&members[1].host, "late.chat", 2)?;
    // One dies; the others' flows to it end, and theirs with each other go on.
    members[5].host.irm(&["ipcp", "destroy", "--name", "udp0"])?;
    for (a, b, ping) in &mut pings {
        if *b == 5 {
            ensure!(ping.wait(2 * SOON).is_ok(), "m{a} has not noticed that m5 ended");
        } else {
            ensure!(ping.is_running(), "m{a} to m{b}");
        }
    }
    for (a, b, mut ping) in pings.into_iter().filter(|(_, b, _)| *b != 5) {
        ping.signal(Signal::INT)?;
        ensure!(ping.wait(SOON)?.code() == 0, "m{a} to m{b}");
    }
    Ok(())
}

fn ping_all(from: &Member, count: usize) -> Result<()> {
    for n in 0..count {
        await_name(&from.host, &format!("m{n}.chat"))?;
        ping(&from.host, &format!("m{n}.chat"), 2).with_context(|| format!("late to m{n}"))?;
    }
    Ok(())
}

/// Both cubes, whose handshake is bound to what was asked and answered; and the listing says how they go.
pub(crate) fn message_and_stream_flows_go_through_nats() -> Result<()> {
    let session = Session::open()?;
    let a = session.member("a", Middlebox::PortRestricted)?;
    let b = session.member("b", Middlebox::CarrierOverCone)?;
    for cube in [Cube::Message, Cube::Stream] {
        let name = format!("{}.chat", cube.as_str());
        let listener = listen(&b.host, &name)?;
        await_name(&a.host, &name)?;
        let (asked, accepted) = flow(&a.host, &listener, cube)?;
        exchange(&asked, &accepted, cube)?;
        for host in [&a.host, &b.host] {
            let row = only_flow(host)?;
            ensure!(row["way"] == "public" && row["encrypted"] == true, "{row}");
        }
        let id = only_flow(&a.host)?["id"].to_string();
        let shown = a.host.irm(&["flow", "show", &id])?;
        ensure!(shown.contains("way          direct, at the peer's public address"), "{shown}");
        drop((asked, accepted));
        await_flows(&a.host, 0)?;
        await_flows(&b.host, 0)?;
    }
    Ok(())
}

/// The three pairs of the table that cannot meet, and a rendezvous that relays: flows of all cubes, and their ends, through it.
pub(crate) fn what_cannot_meet_is_relayed_where_that_is_offered() -> Result<()> {
    let session = Session::open_with(&["--relay"])?;
    let b = session.member("b", Middlebox::SymmetricRandom)?;
    await_survey(&b.host)?;
    for kind in [Middlebox::SymmetricRandom, Middlebox::Firewall, Middlebox::PortRestricted] {
        let a = session.member(kind.name(), kind)?;
        await_survey(&a.host)?;
        relayed(&session, &a, &b).with_context(|| format!("{kind} to symmetric"))?;
        relayed(&session, &b, &a).with_context(|| format!("symmetric to {kind}"))?;
        // It leaves: the next one has the same names.
        a.host.irm(&["ipcp", "destroy", "--name", "udp0"])?;
    }
    Ok(())
}

fn relayed(session: &Session, a: &Member, b: &Member) -> Result<()> {
    for cube in [Cube::Raw, Cube::Message, Cube::Stream] {
        // Each host has names of its own: who asks remembers whose key a name has.
        let name = format!("{}.{}", cube.as_str(), b.host.name());
        let listener = listen(&b.host, &name)?;
        await_name(&a.host, &name)?;
        let (asked, accepted) = flow(&a.host, &listener, cube)?;
        exchange(&asked, &accepted, cube)?;
        for host in [&a.host, &b.host] {
            let row = only_flow(host)?;
            ensure!(row["way"] == "relayed", "{row}");
            let relay = format!("{}:", session.at.address());
            ensure!(row["peer_address"].as_str().is_some_and(|at| at.starts_with(&relay)), "{row}");
        }
        drop((asked, accepted));
        await_flows(&a.host, 0)?;
        await_flows(&b.host, 0)?;
    }
    Ok(())
}

/// In the asker's own network somebody has the address that the other has in its: it hears hellos, and wins nothing.
pub(crate) fn a_stranger_with_the_private_address_gets_no_flow() -> Result<()> {
    let session = Session::open()?;
    let b = session.member("b", Middlebox::FullCone)?;
    let [a, stranger] = session.lab.hosts_behind(["a", "stranger"], Middlebox::FullCone)?;
    // Whatever a sends to the other's private address comes to the stranger.
    let private = format!("{}/32", b.host.address());
    run(&stranger, "ip", &["address", "add", &private, "dev", "eth0"])?;
    run(&a, "ip", &["route", "add", &private, "via", &stranger.address().to_string()])?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        let mirror = scope.spawn(|| mirror(&stranger, &stop));
        let met = meets_in_public(&session, a, &b);
        stop.store(true, Relaxed);
        let heard = mirror.join().expect("no panic")?;
        met?;
        ensure!(heard > 0, "the stranger heard no hello: this shows nothing");
        Ok(())
    })
}

fn meets_in_public(session: &Session, a: Host, b: &Member) -> Result<()> {
    let a = session.enroll(a, Duration::ZERO)?;
    let _server = serve(b, "echo", &[&a])?;
    let mut running = a.host.start("oping", &["echo", "-i", "0.05"])?;
    running.expect_line(SOON, "seq=3")?;
    let row = only_flow(&a.host)?;
    ensure!(row["way"] == "public", "{row}");
    running.signal(Signal::INT)?;
    running.wait(SOON).map(drop)
}

/// Whatever comes to any port of its, from whomever, goes back from there.
fn mirror(stranger: &Host, stop: &AtomicBool) -> Result<u32> {
    let rules = "add table ip mirror\n\
                 add chain ip mirror pre { type nat hook prerouting priority -100; }\n\
                 add rule ip mirror pre udp dport 1-65535 redirect to :9999\n";
    run(stranger, "nft", &[rules])?;
    let socket = stranger.socket(9999)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let (mut heard, mut buffer) = (0, [0; 2048]);
    while !stop.load(Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        heard += 1;
        socket.send_to(&buffer[..length], from)?;
    }
    Ok(heard)
}

fn run(host: &Host, program: &str, words: &[&str]) -> Result<()> {
    let output = host.run(program, words)?;
    ensure!(output.code() == 0, "{program} {words:?}: {}", output.err);
    Ok(())
}

/// Open flows do not notice; new ones come about as soon as it is back; names are known again without anybody's help.
pub(crate) fn flows_outlive_a_rendezvous_that_restarts_and_one_that_is_gone() -> Result<()> {
    let mut session = Session::open()?;
    let a = session.member("a", Middlebox::PortRestricted)?;
    let b = session.member("b", Middlebox::Firewall)?;
    let _server = serve(&b, "echo", &[&a])?;
    let mut running = a.host.start("oping", &["echo", "-i", "0.05"])?;
    running.expect_line(SOON, "seq=3")?;
    session.kill()?;
    session.start()?;
    // It knows nobody; both are heard again within 25 s.
    lab::wait_until(4 * SOON, "the name to be known again", || {
        a.host.run("oping", &["echo", "-c", "1"]).is_ok_and(|output| output.code() == 0)
    })?;
    ensure!(running.is_running(), "the flow ended");
    session.kill()?;
    let error = ping_error(&a.host, "echo")?;
    ensure!(error.contains("did not answer") || error.contains("does not answer"), "{error}");
    let before = running.out().lines().count();
    lab::wait_until(SOON, "the flow to go on", || running.out().lines().count() > before + 20)?;
    running.signal(Signal::INT)?;
    ensure!(running.wait(SOON)?.code() == 0);
    await_flows(&a.host, 0)?;
    await_flows(&b.host, 0).map(drop)
}

pub(crate) fn a_wrong_key_is_told_as_an_unknown_session_is() -> Result<()> {
    let session = Session::open()?;
    let host = session.lab.host_behind("a", Middlebox::PortRestricted)?;
    let _irmd = host.irmd().start()?;
    let wrong = host.run_dir().join("wrong.key");
    write_key(&wrong, "something else")?;
    enroll(&host, &session.via(), &wrong)?;
    await_session(&host, "knows no such session, or its key is another")?;
    let error = ping_error(&host, "echo")?;
    ensure!(error.contains("knows no such session, or its key is another"), "{error}");
    // A key that others can read is none.
    let open = host.run_dir().join("open.key");
    std::fs::write(&open, "x")?;
    host.irm(&["ipcp", "destroy", "--name", "udp0"])?;
    let Err(error) = enroll(&host, &session.via(), &open) else { anyhow::bail!("an open key was taken") };
    ensure!(format!("{error:#}").contains("open to every user"), "{error:#}");
    Ok(())
}

/// kill -9 of the asking side's ipcpd: its flow is brought back to it, and goes on to be kept through both NATs.
pub(crate) fn a_member_that_restarts_keeps_its_flows() -> Result<()> {
    let session = Session::open()?;
    let a = session.member("a", Middlebox::PortRestricted)?;
    let b = session.member("b", Middlebox::PortRestricted)?;
    let _server = serve(&b, "echo", &[&a])?;
    let mut running = a.host.start("oping", &["echo", "-i", "0.05"])?;
    running.expect_line(SOON, "seq=3")?;
    let pid = ipcp(&a.host)?["pid"].as_i64().context("a pid")?;
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("a pid")?;
    rustix::process::kill_process(pid, Signal::KILL)?;
    lab::wait_until(SOON, "another ipcpd", || {
        ipcp(&a.host).is_ok_and(|row| row["restarts"] == 1 && row["state"] == "operational")
    })?;
    await_session(&a.host, "joined session")?;
    let row = only_flow(&a.host)?;
    ensure!(row["way"] == "public", "{row}");
    ensure!(running.is_running(), "the flow ended");
    ping(&a.host, "echo", 3)?;
    running.signal(Signal::INT)?;
    ensure!(running.wait(SOON)?.code() == 0);
    // The end is told to the other side, through both NATs.
    await_flows(&b.host, 0).map(drop)
}

/// The accepting side's box restarts: nothing comes in until something went out, and its program only answers. The shim's
/// keep-alives open it, and its listen port's.
pub(crate) fn a_nat_that_forgets_is_opened_again() -> Result<()> {
    let session = Session::open()?;
    let a = session.member("a", Middlebox::PortRestricted)?;
    let b = session.member("b", Middlebox::PortRestricted)?;
    let _server = serve(&b, "echo", &[&a])?;
    let mut running = a.host.start("oping", &["echo", "-i", "0.05"])?;
    running.expect_line(SOON, "seq=3")?;
    b.host.forget_mappings()?;
    let before = running.out().lines().count();
    // What was under way may still be counted.
    lab::wait_until(4 * SOON, "pings to come back", || running.out().lines().count() > before + 20)?;
    running.signal(Signal::INT)?;
    running.wait(SOON)?;
    await_flows(&b.host, 0).map(drop)
}

/// All of a host is gone at once; the other hears of it, though nothing of it can be asked any more.
pub(crate) fn a_peer_that_vanishes_is_noticed_through_two_nats() -> Result<()> {
    let session = Session::open()?;
    let a = session.member("a", Middlebox::PortRestricted)?;
    let b = session.member("b", Middlebox::AddressRestricted)?;
    await_survey(&a.host)?;
    let listener = listen(&b.host, "echo")?;
    await_name(&a.host, "echo")?;
    let stack = flowring_tests::flows::stack(&a.host)?;
    let qos = libflow::Qos { timeout_ms: 4_000, ..libflow::Qos::from(Cube::Raw) };
    let asked = std::thread::scope(|scope| -> Result<_> {
        let accepted = scope.spawn(|| listener.accept_within(SOON));
        let asked = stack.alloc("echo").qos(qos).timeout(SOON).wait()?;
        Ok((asked, accepted.join().expect("no panic")?))
    })?;
    b.host.link().cut()?;
    let mut buffer = [0; 64];
    let ended = asked.0.recv_within(&mut buffer, 2 * SOON);
    let error = ended.err().context("an SDU from a host that is gone")?.to_string();
    ensure!(error.contains("peer") || error.contains("timed out"), "{error}");
    ensure!(words(&a.host)?.contains("joined session"));
    Ok(())
}
