//! What is known and told of flows, against what was done: counts, drops, refusals, ends.

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::flows::{listen, pair, stack};
use flowring_tests::harness::Case;
use flowring_tests::net::{Net, SOON, await_flows, flows};
use lab::Host;
use libflow::Cube;
use serde_json::Value;

pub(crate) fn cases() -> Vec<Case> {
    cases![
        counts_are_those_of_what_was_sent,
        a_full_receive_queue_shows_every_drop,
        refusals_are_told_with_their_reasons,
        an_ended_flow_is_shown_with_its_history_and_its_last_counts,
        an_encrypted_flow_shows_its_way,
        a_listing_is_chosen_and_ordered,
    ]
}

pub(crate) fn events(host: &Host, more: &[&str]) -> Result<Vec<Value>> {
    let words: Vec<&str> = ["flow", "events", "--json"].iter().chain(more).copied().collect();
    let out = host.irm(&words)?;
    out.lines().map(|line| serde_json::from_str(line).context("a line of JSON")).collect()
}

fn show(host: &Host, id: &Value) -> Result<Value> {
    let id = id.to_string();
    Ok(serde_json::from_str(&host.irm(&["flow", "show", &id, "--json"])?)?)
}

fn kinds(rows: &Value) -> Vec<&str> {
    rows.as_array().into_iter().flatten().filter_map(|step| step["kind"].as_str()).collect()
}

fn counts_are_those_of_what_was_sent() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let (asked, accepted, _listener) = pair(&net, "echo", Cube::Raw)?;
    for i in 0..17 {
        asked.send(&vec![7; 100 + i])?;
        accepted.recv(&mut [0; 2_000])?;
    }
    accepted.send(&[1; 50])?;
    let row = await_flows(&net.a, 1)?.remove(0);
    let bytes: usize = (0..17).map(|i| 100 + i).sum();
    ensure!(row["counters"]["sdus_sent"] == 17 && row["counters"]["bytes_sent"] == bytes, "{row:#}");
    ensure!(row["encrypted"] == false && row["path"].is_null() && row["rates"].is_null(), "{row:#}");
    ensure!(row["idle_ms"].as_u64() <= row["age_ms"].as_u64() && row["sent_ms_ago"].is_u64(), "{row:#}");
    ensure!(row["received_ms_ago"].is_null(), "nothing was received: {row:#}");
    ensure!(row["asked"].as_u64().is_some_and(|asked| asked >= 1), "{row:#}");
    // The one that came back waits to be read.
    lab::wait_until(SOON, "an SDU in the receive queue", || {
        flows(&net.a).is_ok_and(|rows| rows[0]["socket"]["receive_queue"].as_u64() > Some(50))
    })?;
    let row = await_flows(&net.b, 1)?.remove(0);
    ensure!(row["counters"]["sdus_received"] == 17 && row["counters"]["bytes_received"] == bytes, "{row:#}");
    let shown = show(&net.a, &flows(&net.a)?[0]["id"])?;
    ensure!(kinds(&shown["history"])[..3] == ["requested", "asked", "allocated"], "{shown:#}");
    let status: Value = serde_json::from_str(&net.a.irm(&["status", "--json"])?)?;
    ensure!(status["flows_requested"] == 1 && status["flows_allocated"] == 1, "{status:#}");
    Ok(())
}

fn a_full_receive_queue_shows_every_drop() -> Result<()> {
    let net = Net::up(&["sink"])?;
    let (asked, accepted, _listener) = pair(&net, "sink", Cube::Raw)?;
    let sent = 3_000;
    for _ in 0..sent {
        asked.send(&[7; 1_000])?;
    }
    // All have come when what is queued and what was dropped no longer change with what is read below.
    let dropped =
        |net: &Net| -> Result<u64> { flows(&net.b)?[0]["socket"]["drops"].as_u64().context("no drops shown") };
    lab::wait_until(SOON, "drops", || dropped(&net).is_ok_and(|drops| drops > 0))?;
    let mut read = 0;
    while accepted.try_recv(&mut [0; 2_000]).is_ok() {
        read += 1;
    }
    ensure!(dropped(&net)? + read == sent, "{} dropped and {read} read of {sent}", dropped(&net)?);
    Ok(())
}

fn refusals_are_told_with_their_reasons() -> Result<()> {
    let net = Net::up(&["picky", "absent", "idle"])?;
    let listener = listen(&net.b, "picky")?;
    net.b.irm(&["name", "create", "idle"])?;
    net.b.irm(&["name", "register", "idle", "--layer", "net"])?;
    let asking = stack(&net.a)?;
    for _ in 0..3 {
        ensure!(asking.alloc("nowhere").timeout(SOON).wait().is_err());
    }
    std::thread::scope(|scope| {
        scope.spawn(|| listener.incoming_within(SOON)?.refuse("the game is full"));
        ensure!(asking.alloc("picky").timeout(SOON).wait().is_err());
        Ok(())
    })?;
    ensure!(asking.alloc("absent").timeout(SOON).wait().is_err());
    ensure!(asking.alloc("idle").timeout(std::time::Duration::from_millis(300)).wait().is_err());
    let refused = events(&net.a, &["--kind", "refused"])?;
    let of = |what: &str| refused.iter().filter(|row| row["failure"] == what).count();
    ensure!(of("unknown_name") == 4 && of("refused") == 1 && refused.len() == 6, "{refused:#?}");
    ensure!(of("nobody_accepts") + of("timed_out") == 1, "{refused:#?}");
    let full = refused.iter().find(|row| row["failure"] == "refused").context("no refusal")?;
    ensure!(full["words"].as_str().is_some_and(|words| words.contains("the game is full")), "{full:#}");
    let status: Value = serde_json::from_str(&net.a.irm(&["status", "--json"])?)?;
    ensure!(status["refusals"]["unknown_name"] == 4 && status["refusals"]["refused"] == 1, "{status:#}");
    // The other host tells its side of it.
    let there = events(&net.b, &["--kind", "refused"])?;
    ensure!(there.iter().any(|row| row["failure"] == "refused" && row["side"] == "accepting"), "{there:#?}");
    Ok(())
}

fn an_ended_flow_is_shown_with_its_history_and_its_last_counts() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let (asked, accepted, _listener) = pair(&net, "echo", Cube::Raw)?;
    asked.send(&[7; 64])?;
    accepted.recv(&mut [0; 2_000])?;
    let id = await_flows(&net.a, 1)?.remove(0)["id"].clone();
    drop(asked);
    await_flows(&net.a, 0)?;
    let rows = net.a.list("flow list --state ended")?;
    ensure!(rows.len() == 1 && rows[0]["id"] == id, "{rows:#?}");
    ensure!(rows[0]["ended"]["reason"] == "deallocated" && rows[0]["counters"]["sdus_sent"] == 1, "{rows:#?}");
    let shown = show(&net.a, &id)?;
    ensure!(kinds(&shown["history"]).last() == Some(&"ended"), "{shown:#}");
    let ended = events(&net.a, &["--kind", "ended", "--flow", &id.to_string()])?;
    ensure!(ended.len() == 1 && ended[0]["ended"] == "deallocated", "{ended:#?}");
    Ok(())
}

fn an_encrypted_flow_shows_its_way() -> Result<()> {
    let net = Net::up(&["safe"])?;
    let (asked, accepted, _listener) = pair(&net, "safe", Cube::Message)?;
    lab::wait_until(SOON, "what QUIC sees of the path", || {
        let moved = asked.send(&[7; 100]).is_ok() && accepted.recv_within(&mut [0; 2000], SOON).is_ok();
        let shown = flows(&net.a).is_ok_and(|rows| {
            let path = &rows[0]["path"];
            rows[0]["encrypted"] == true && path["rtt_us"].as_u64() > Some(0) && path["mtu"].as_u64() >= Some(1_200)
        });
        moved && shown
    })
}

fn a_listing_is_chosen_and_ordered() -> Result<()> {
    let net = Net::up(&["game.q2", "game.q3", "web"])?;
    let pairs = [pair(&net, "game.q2", Cube::Raw)?, pair(&net, "game.q3", Cube::Raw)?, pair(&net, "web", Cube::Raw)?];
    pairs[1].0.send(&[7; 500])?;
    let names = |words: &str| -> Result<Vec<String>> {
        let rows = net.a.list(&format!("flow list {words}"))?;
        Ok(rows.iter().filter_map(|row| row["name"].as_str().map(str::to_owned)).collect())
    };
    ensure!(names("--name game.*")? == ["game.q2", "game.q3"], "{:?}", names("--name game.*"));
    ensure!(names("--sort bytes")?[0] == "game.q3", "{:?}", names("--sort bytes"));
    ensure!(names("--layer local")?.is_empty() && names("--state pending")?.is_empty());
    ensure!(names(&format!("--pid {}", std::process::id()))?.len() == 3);
    ensure!(net.a.irm(&["flow", "list", "--state", "asleep"]).is_err());
    Ok(())
}
