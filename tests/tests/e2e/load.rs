//! Many at once, and too many.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use flowring_tests::net::{AT_ONCE, Net, SOON, await_flows, ipcp, timed};
use lab::{Host, wait_until};
use libflow::{AllocError, Flow, Stack};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::task::JoinSet;

pub(crate) fn cases() -> Vec<Case> {
    cases![
        ten_thousand_flows_at_once,
        a_server_that_accepts_late_while_a_thousand_ask,
        descriptors_running_out_is_a_clear_refusal,
    ]
}

/// Allocations under way at once.
const ABREAST: usize = 32;
const MANY: usize = 10_000;
/// Ten times the budget of 4 KiB for each flow.
const MEMORY_PER_FLOW: u64 = 40 << 10;

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// `count` flows to `name`, all open; the first failure fails.
async fn allocate(stack: &Stack, name: &str, count: usize) -> Result<Vec<Flow>> {
    let (mut under_way, mut flows) = (JoinSet::new(), Vec::with_capacity(count));
    for started in 0..count {
        if started >= ABREAST {
            flows.push(under_way.join_next().await.context("one is under way")???);
        }
        let alloc = stack.alloc(name).timeout(Duration::from_secs(30));
        under_way.spawn(alloc.into_future());
    }
    while let Some(flow) = under_way.join_next().await {
        flows.push(flow??);
    }
    Ok(flows)
}

fn rss(host: &Host) -> Result<(u64, u64)> {
    let status: serde_json::Value = serde_json::from_str(&host.irm(&["status", "--json"])?)?;
    let bytes = |value: &serde_json::Value| value["rss_bytes"].as_u64().context("rss_bytes");
    Ok((bytes(&status)?, bytes(&ipcp(host)?)?))
}

fn ten_thousand_flows_at_once() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let _server = net.b.serve("echo")?;
    let before = [rss(&net.a)?, rss(&net.b)?];
    let runtime = runtime()?;
    let stack = Stack::find(Some(net.a.run_dir()))?;
    let (flows, took) = timed(|| runtime.block_on(allocate(&stack, "echo", MANY)));
    let flows = flows?;
    eprintln!("{MANY} flows in {took:?}");
    for host in [&net.a, &net.b] {
        await_flows(host, MANY)?;
    }
    for (host, (irmd, ipcpd)) in [&net.a, &net.b].into_iter().zip(before) {
        let (irmd_now, ipcpd_now) = rss(host)?;
        let each = (irmd_now.saturating_sub(irmd) + ipcpd_now.saturating_sub(ipcpd)) / MANY as u64;
        eprintln!("host {}: {each} bytes of daemon memory per flow", host.name());
        ensure!(each <= MEMORY_PER_FLOW, "host {}: {each} bytes of daemon memory per flow", host.name());
    }
    // All of them work, the first as the last.
    runtime.block_on(async {
        let mut buffer = [0; 2048];
        for flow in flows.iter().step_by(97).chain(flows.last()) {
            flow.send(b"are you there").await?;
            let length = tokio::time::timeout(SOON, flow.recv(&mut buffer)).await??;
            assert_eq!(&buffer[..length], b"are you there");
        }
        anyhow::Ok(())
    })?;
    drop(flows);
    for host in [&net.a, &net.b] {
        wait_until(Duration::from_secs(60), "all flows to be gone", || ipcp(host).is_ok_and(|row| row["flows"] == 0))?;
    }
    Ok(())
}

fn a_server_that_accepts_late_while_a_thousand_ask() -> Result<()> {
    let net = Net::up(&["slow", "echo"])?;
    let _server = net.b.serve("echo")?;
    let runtime = runtime()?;
    let (asking, serving) = (Stack::find(Some(net.a.run_dir()))?, Stack::find(Some(net.b.run_dir()))?);
    runtime.block_on(async {
        let listener = serving.listen("slow").await?;
        let mut under_way = JoinSet::new();
        for _ in 0..1000 {
            let alloc = asking.alloc("slow").timeout(Duration::from_secs(50));
            under_way.spawn(alloc.into_future());
        }
        // Everyone asks before anyone is accepted.
        tokio::task::yield_now().await;
        let b = net.b.clone();
        tokio::task::spawn_blocking(move || {
            wait_until(Duration::from_secs(30), "a thousand to wait", || {
                b.list("name list")
                    .is_ok_and(|rows| rows.iter().any(|row| row["name"] == "slow" && row["pending"] == 1000))
            })
        })
        .await??;
        // Nobody else notices.
        let a = net.a.clone();
        let other =
            tokio::task::spawn_blocking(move || timed(|| a.run("oping", &["echo", "-c", "3", "-i", "0"]))).await?;
        ensure!(other.0?.code() == 0 && other.1 < AT_ONCE, "another flow took {:?}", other.1);
        let mut accepted = Vec::new();
        for _ in 0..1000 {
            accepted.push(listener.accept_within(SOON).await?);
        }
        let mut asked = Vec::new();
        while let Some(flow) = under_way.join_next().await {
            asked.push(flow??);
        }
        let mut addresses: Vec<String> = accepted.iter().map(|flow| flow.peer().address.clone()).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!((asked.len(), addresses.len()), (1000, 1000), "a flow was made twice");
        Ok(())
    })
}

/// CPU time of a process so far, clock ticks.
fn ticks(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

fn descriptors_running_out_is_a_clear_refusal() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let _server = net.b.serve("echo")?;
    let pid = u32::try_from(ipcp(&net.b)?["pid"].as_u64().context("pid")?)?;
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64;
    let limit = |current| {
        let pid = Pid::from_raw(pid.cast_signed());
        prlimit(pid, Resource::Nofile, Rlimit { current: Some(current), maximum: Some(20_000) })
    };
    limit(open + 20)?;
    let runtime = runtime()?;
    let stack = Stack::find(Some(net.a.run_dir()))?;
    runtime.block_on(async {
        let mut flows = Vec::new();
        let refused = loop {
            let (flow, took) = {
                let alloc = stack.alloc("echo").timeout(SOON);
                let began = tokio::time::timeout(Duration::from_secs(5), alloc).await;
                (began.context("neither a flow nor a refusal within 5 s")?, flows.len())
            };
            match flow {
                Ok(flow) if took < 20 => flows.push(flow),
                Ok(_) => bail!("more flows than descriptors"),
                Err(error) => break error,
            }
        };
        ensure!(flows.len() >= 10, "refused after {} flows: {refused}", flows.len());
        let AllocError::Exhausted { message } = &refused else { bail!("{refused:?}") };
        ensure!(message.contains("no room"), "{message}");
        // The open ones work, and the daemon rests.
        let mut buffer = [0; 64];
        for flow in &flows {
            flow.send(b"x").await?;
            tokio::time::timeout(SOON, flow.recv(&mut buffer)).await??;
        }
        let before = ticks(pid)?;
        tokio::time::timeout(Duration::from_millis(500), flows[0].recv(&mut buffer)).await.unwrap_err();
        let spent = ticks(pid)? - before;
        ensure!(spent < 10, "the ipcpd spins: {spent} ticks in half a second");
        drop(flows);
        tokio::task::spawn_blocking({
            let b = net.b.clone();
            move || wait_until(SOON, "the flows to end", || ipcp(&b).is_ok_and(|row| row["flows"] == 0))
        })
        .await??;
        let flow = stack.alloc("echo").timeout(SOON).await.context("with descriptors free again")?;
        drop(flow);
        anyhow::Ok(())
    })?;
    limit(20_000)?;
    await_flows(&net.b, 0).map(drop)
}
