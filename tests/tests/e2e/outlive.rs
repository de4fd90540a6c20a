//! Daemons die, flows do not.

use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use flowring_tests::net::{Net, SOON, await_flows, flows, ipcp};
use lab::{Daemon, Host, Running, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

pub(crate) fn cases() -> Vec<Case> {
    cases![
        nothing_is_lost_while_all_daemons_are_killed_again_and_again,
        many_flows_of_one_program_are_back_at_once,
        flows_of_many_programs_are_back_at_once,
        local_flows_are_listed_again_and_can_be_ended,
        a_local_flow_whose_other_end_left_while_irmd_was_down_is_over,
        what_a_peer_deallocated_while_the_daemons_were_down_is_heard,
        a_program_that_died_while_its_daemons_were_down_is_told_to_its_peer,
        an_allocation_right_after_a_restart_finds_the_name,
        an_accept_with_a_deadline_outlives_irmd,
        a_program_that_was_started_for_a_flow_is_not_started_twice,
    ]
}

/// How many kills; each is a few hundred milliseconds. FLOWRING_OUTLIVE_KILLS says otherwise.
const KILLS: u64 = 10;

/// Numbers from a seed; the same seed, the same numbers.
struct Dice(u64);

impl Dice {
    /// Seeded by FLOWRING_SEED, else by chance; says what it is.
    fn new() -> Self {
        let said = std::env::var("FLOWRING_SEED").ok().and_then(|text| text.parse().ok());
        let seed = said.unwrap_or_else(|| RandomState::new().hash_one(()) >> 32);
        eprintln!("FLOWRING_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// The process of the IPCP at a host, whether irmd lives or not.
fn ipcpd(host: &Host) -> Option<Pid> {
    let run_dir = host.run_dir().to_str()?.to_owned();
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let words = std::fs::read(entry.path().join("cmdline")).ok()?;
        let mut words = words.split(|byte| *byte == 0);
        let ours = words.next()?.ends_with(b"/ipcpd-udp") && words.any(|word| word == run_dir.as_bytes());
        ours.then(|| Pid::from_raw(pid)).flatten()
    })
}

fn kill_ipcpd(host: &Host) -> Result<()> {
    // Between two lives there is none to kill.
    match ipcpd(host) {
        Some(pid) => Ok(kill_process(pid, Signal::KILL)?),
        None => Ok(()),
    }
}

/// What must be the same before and after: all but what time and traffic change.
fn identity(row: &Value) -> Value {
    let mut row = row.clone();
    // Nor how often the peer was asked for it, which only the daemon knew that asked.
    let moving = [
        "age_ms",
        "asked",
        "counters",
        "idle_ms",
        "path",
        "peer_counters",
        "peer_socket",
        "rates",
        "received_ms_ago",
        "sent_ms_ago",
        "socket",
    ];
    for key in moving {
        row[key] = Value::Null;
    }
    row
}

fn identities(rows: &[Value]) -> Vec<Value> {
    rows.iter().map(identity).collect()
}

/// Waits until a host lists the same flows as before, none younger and none with counts lost.
fn await_same(host: &Host, before: &[Value]) -> Result<()> {
    let mut after = Vec::new();
    let what = format!("the {} flows of before at host {}", before.len(), host.name());
    let back = wait_until(SOON, &what, || {
        after = flows(host).unwrap_or_default();
        identities(&after) == identities(before)
    });
    let seen = identities(&after);
    back.with_context(|| format!("it listed\n{:#?}\nand lists\n{seen:#?}", identities(before)))?;
    for (was, is) in before.iter().zip(&after) {
        ensure!(is["age_ms"].as_u64() >= was["age_ms"].as_u64(), "flow {} became younger: {was} {is}", was["id"]);
        for counters in ["counters", "peer_counters"] {
            for count in ["sdus_sent", "bytes_sent", "sdus_received", "bytes_received"] {
                let (was, is) = (was[counters][count].as_u64(), is[counters][count].as_u64());
                ensure!(is >= was, "{counters}.{count} went from {was:?} to {is:?}");
            }
        }
    }
    Ok(())
}

/// Kills one daemon or several of a host and brings them back.
fn strike(host: &Host, irmd: &mut Daemon, what: u64) -> Result<&'static str> {
    let name = match what {
        0 => {
            irmd.process().kill()?;
            "irmd"
        }
        1 => {
            kill_ipcpd(host)?;
            return Ok("ipcpd");
        }
        2 => {
            kill_ipcpd(host)?;
            irmd.process().kill()?;
            "ipcpd, irmd"
        }
        3 => {
            irmd.process().kill()?;
            kill_ipcpd(host)?;
            "irmd, ipcpd"
        }
        _ => {
            // As it comes back.
            irmd.process().kill()?;
            *irmd = host.irmd().start()?;
            kill_ipcpd(host)?;
            irmd.process().kill()?;
            "irmd, then both while they came back"
        }
    };
    *irmd = host.irmd().start()?;
    Ok(name)
}

/// `steady`, up and running.
fn busy(host: &Host, name: &str, flows: usize) -> Result<Running> {
    let running = host.start("steady", &[name, &flows.to_string()])?;
    running.expect_line(SOON, &format!("{flows} flows"))?;
    running.expect_line(SOON, "at ")?;
    Ok(running)
}

fn round_trips(busy: &Running) -> u64 {
    let said = busy.out();
    said.lines().rev().find_map(|line| line.strip_prefix("at ")?.parse().ok()).unwrap_or(0)
}

/// Stops `steady`: nothing may have been lost. What it sent.
fn settle(busy: &mut Running) -> Result<(std::process::ChildStdin, u64)> {
    let mut input = busy.input().context("its input")?;
    writeln!(input, "stop")?;
    let line = busy.expect_line(SOON, "sent ")?;
    ensure!(line.ends_with(" lost 0 gone 0"), "{line}\n{}", busy.err());
    let sent = line.split(' ').nth(1).context("a number")?.parse()?;
    Ok((input, sent))
}

fn sum(rows: &[Value], counters: &str, count: &str) -> u64 {
    rows.iter().filter_map(|row| row[counters][count].as_u64()).sum()
}

fn nothing_is_lost_while_all_daemons_are_killed_again_and_again() -> Result<()> {
    let mut net = Net::up(&["echo"])?;
    let _far = net.b.serve("echo")?;
    let _near = net.a.serve("here")?;
    let mut far = busy(&net.a, "echo", 8)?;
    let mut near = busy(&net.a, "here", 4)?;
    let before = [await_flows(&net.a, 12)?, await_flows(&net.b, 8)?];
    let kills = std::env::var("FLOWRING_OUTLIVE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let mut dice = Dice::new();
    for _ in 0..kills {
        let (host, what) = (dice.below(2), dice.below(5));
        let (host, irmd) = if host == 0 { (&net.a, &mut net.irmd_a) } else { (&net.b, &mut net.irmd_b) };
        let name = strike(host, irmd, what)?;
        eprintln!("killed at host {}: {name}", host.name());
        // The next one at a random moment, counted in round trips: some 1,000 a second.
        let next = round_trips(&far) + dice.below(500);
        far.expect(SOON, "round trips to go on", |line| {
            line.strip_prefix("at ").and_then(|at| at.parse::<u64>().ok()).is_some_and(|at| at >= next)
        })?;
    }
    await_same(&net.a, &before[0])?;
    await_same(&net.b, &before[1])?;
    let (_far_input, sent) = settle(&mut far)?;
    let (_near_input, sent_here) = settle(&mut near)?;
    // Nothing moves any more: the counts are exact.
    let [a, b] = [flows(&net.a)?, flows(&net.b)?];
    let (local, remote): (Vec<Value>, Vec<Value>) = a.into_iter().partition(|row| row["layer"] == "local");
    let counts = ["sdus_sent", "sdus_received"];
    assert_eq!(counts.map(|count| sum(&remote, "counters", count)), [sent; 2]);
    assert_eq!(counts.map(|count| sum(&b, "counters", count)), [sent; 2]);
    assert_eq!(counts.map(|count| sum(&local, "counters", count)), [sent_here; 2]);
    assert_eq!(counts.map(|count| sum(&local, "peer_counters", count)), [sent_here; 2]);
    // And it all works as before.
    for name in ["echo", "here"] {
        let output = net.a.run("oping", &[name, "-c", "1"])?;
        ensure!(output.code() == 0, "{output:?}");
    }
    Ok(())
}

/// Holds flows until its input is closed.
fn holder(host: &Host, words: &[&str], flows: usize) -> Result<Running> {
    let holder = host.start("holder", words)?;
    holder.expect_line(Duration::from_secs(60), &format!("{flows} flows"))?;
    Ok(holder)
}

fn many_flows_of_one_program_are_back_at_once() -> Result<()> {
    const FLOWS: usize = 1_000;
    let mut net = Net::up(&["echo"])?;
    let _server = net.b.serve("echo")?;
    let _holder = holder(&net.a, &["echo", "1000"], FLOWS)?;
    let before = [await_flows(&net.a, FLOWS)?, await_flows(&net.b, FLOWS)?];
    for what in [2, 0, 1] {
        strike(&net.b, &mut net.irmd_b, what)?;
        strike(&net.a, &mut net.irmd_a, what)?;
        await_same(&net.a, &before[0])?;
        await_same(&net.b, &before[1])?;
        // irmd itself knows them, not only the IPCP that it asks.
        wait_until(SOON, "irmd's own table", || {
            let status = net.b.irm(&["status", "--json"]).unwrap_or_default();
            serde_json::from_str::<Value>(&status).is_ok_and(|status| status["flows"] == FLOWS)
        })?;
    }
    let refused = ipcp(&net.b)?["counters"]["refused_tickets"].clone();
    ensure!(refused.is_null(), "{refused} tickets were refused");
    Ok(())
}

fn flows_of_many_programs_are_back_at_once() -> Result<()> {
    const PROGRAMS: usize = 100;
    let mut net = Net::up(&["echo"])?;
    let _server = net.b.serve("echo")?;
    let _holder = holder(&net.a, &["echo", "100", "100"], PROGRAMS)?;
    let before = await_flows(&net.a, PROGRAMS)?;
    for what in [2, 0, 1] {
        strike(&net.a, &mut net.irmd_a, what)?;
        await_same(&net.a, &before)?;
    }
    Ok(())
}

fn local_flows_are_listed_again_and_can_be_ended() -> Result<()> {
    let mut net = Net::bare()?;
    let _server = net.a.serve("here")?;
    let mut client = net.a.start("oping", &["here", "-i", "0.05"])?;
    client.expect_line(SOON, "seq=3")?;
    let before = await_flows(&net.a, 1)?;
    ensure!(before[0]["process"]["pid"] == client.pid(), "{before:?}");
    for _ in 0..3 {
        strike(&net.a, &mut net.irmd_a, 0)?;
        await_same(&net.a, &before)?;
    }
    net.a.irm(&["flow", "dealloc", &before[0]["id"].to_string()])?;
    let output = client.wait(SOON)?;
    ensure!(output.code() == 1 && output.err.contains("with irm"), "{output:?}");
    await_flows(&net.a, 0)?;
    // Its number is not given again.
    let again = net.a.start("oping", &["here", "-i", "60"])?;
    again.expect_line(SOON, "seq=")?;
    ensure!(flows(&net.a)?[0]["id"].as_u64() > before[0]["id"].as_u64());
    Ok(())
}

fn a_local_flow_whose_other_end_left_while_irmd_was_down_is_over() -> Result<()> {
    let mut net = Net::bare()?;
    let mut server = net.a.serve("here")?;
    let mut client = net.a.start("oping", &["here", "-i", "60"])?;
    client.expect_line(SOON, "seq=")?;
    let mut staying = net.a.start("oping", &["here", "-i", "60"])?;
    staying.expect_line(SOON, "seq=")?;
    let before = await_flows(&net.a, 2)?;
    net.irmd_a.process().kill()?;
    client.kill()?;
    net.irmd_a = net.a.irmd().start()?;
    let left: Vec<Value> = before.into_iter().filter(|row| row["process"]["pid"] == staying.pid()).collect();
    await_same(&net.a, &left)?;
    // The other way round: the kernel tells the program, irmd why as far as it knows.
    net.irmd_a.process().kill()?;
    server.kill()?;
    let output = staying.wait(SOON)?;
    ensure!(output.code() == 1, "{output:?}");
    net.irmd_a = net.a.irmd().start()?;
    await_flows(&net.a, 0).map(drop)
}

fn what_a_peer_deallocated_while_the_daemons_were_down_is_heard() -> Result<()> {
    let mut net = Net::up(&["echo"])?;
    let server = net.b.serve("echo")?;
    let mut client = net.a.start("oping", &["echo", "-i", "60"])?;
    client.expect_line(SOON, "seq=")?;
    let staying = net.a.start("oping", &["echo", "-i", "60"])?;
    staying.expect_line(SOON, "seq=")?;
    await_flows(&net.b, 2)?;
    net.irmd_b.process().kill()?;
    kill_ipcpd(&net.b)?;
    client.signal(Signal::INT)?;
    ensure!(client.wait(SOON)?.code() == 0);
    net.irmd_b = net.b.irmd().start()?;
    // The server hears it: its end of the flow is released, the other is not.
    let rows = await_flows(&net.b, 1)?;
    assert_eq!(rows[0]["process"]["pid"], server.pid());
    assert_eq!(rows[0]["peer_address"], flows(&net.a)?[0]["local_address"]);
    Ok(())
}

fn a_program_that_died_while_its_daemons_were_down_is_told_to_its_peer() -> Result<()> {
    let mut net = Net::up(&["echo"])?;
    let mut server = net.b.serve("echo")?;
    let mut client = net.a.start("oping", &["echo", "-i", "0.1"])?;
    client.expect_line(SOON, "seq=")?;
    await_flows(&net.b, 1)?;
    net.irmd_b.process().kill()?;
    kill_ipcpd(&net.b)?;
    server.kill()?;
    net.irmd_b = net.b.irmd().start()?;
    wait_until(SOON, "the IPCP to be back", || ipcp(&net.b).is_ok_and(|row| row["state"] == "operational"))?;
    // The client's probes hear RECOVERING for 5 s, then that there is no such flow.
    let output = client.wait(Duration::from_secs(20))?;
    ensure!(output.code() == 1, "{output:?}");
    await_flows(&net.a, 0)?;
    await_flows(&net.b, 0).map(drop)
}

fn an_allocation_right_after_a_restart_finds_the_name() -> Result<()> {
    let mut net = Net::up(&["echo"])?;
    let _far = net.b.serve("echo")?;
    let _near = net.a.serve("here")?;
    for what in [0, 3, 2] {
        strike(&net.b, &mut net.irmd_b, what)?;
        strike(&net.a, &mut net.irmd_a, what)?;
        // Both at once, before anybody may have come back.
        let pings = ["here", "echo"].map(|name| net.a.start("oping", &[name, "-c", "1"]));
        for ping in pings {
            let output = ping?.wait(SOON)?;
            ensure!(output.code() == 0, "after {what}: {output:?}");
        }
    }
    Ok(())
}

fn an_accept_with_a_deadline_outlives_irmd() -> Result<()> {
    let mut net = Net::bare()?;
    let mut waiter = net.a.start("waiter", &["here", "60"])?;
    wait_until(SOON, "the accept", || net.a.accepting("here").is_ok_and(|n| n == 1))?;
    strike(&net.a, &mut net.irmd_a, 0)?;
    wait_until(SOON, "the accept to be asked again", || net.a.accepting("here").is_ok_and(|n| n == 1))?;
    let _ping = net.a.start("oping", &["here", "-c", "1"])?;
    let output = waiter.wait(SOON)?;
    ensure!(output.code() == 0 && output.out.contains("accepted"), "{output:?}");
    Ok(())
}

fn a_program_that_was_started_for_a_flow_is_not_started_twice() -> Result<()> {
    let mut net = Net::bare()?;
    // It says that it was started, and then takes its time.
    let (log, go) = (net.a.run_dir().join("started"), net.a.run_dir().join("go"));
    let script = format!("echo $$ >> {}; cat {} > /dev/null; exec oping --listen here", log.display(), go.display());
    rustix::fs::mkfifoat(rustix::fs::CWD, &go, rustix::fs::Mode::from_raw_mode(0o600))?;
    let path = std::env::var("PATH").unwrap_or_default();
    let tools = lab::binaries::folder().context("built tools")?;
    let script = format!("PATH={}:{path}; {script}", tools.display());
    net.a.irm(&["bind", "program", "/bin/sh", "--name", "here", "--auto", "--", "-c", &script])?;
    let starts = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
    let mut lost = net.a.start("oping", &["here", "-c", "1", "--alloc-timeout", "30"])?;
    wait_until(SOON, "the program to be started", || starts() == 1)?;
    wait_until(SOON, "it to be written down", || {
        std::fs::read_to_string(net.a.run_dir().join("programs")).is_ok_and(|text| text.contains("/bin/sh"))
    })?;
    strike(&net.a, &mut net.irmd_a, 0)?;
    // Whoever asked the old irmd is told, and asks the new one.
    let output = lost.wait(SOON)?;
    ensure!(output.code() == 2 && output.err.contains("ended while it allocated"), "{output:?}");
    let mut ping = net.a.start("oping", &["here", "-c", "1", "--alloc-timeout", "30"])?;
    wait_until(SOON, "the flow to wait", || flows(&net.a).is_ok_and(|rows| rows.len() == 1))?;
    std::fs::write(&go, "go")?;
    let output = ping.wait(SOON)?;
    ensure!(output.code() == 0, "{output:?}");
    assert_eq!(starts(), 1, "it was started again");
    Ok(())
}
