//! What is cut short is reset at both ends; what can go on does.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use flowring_tests::net::{Net, SOON, await_flows, flows};
use lab::Link;

use super::stage::{self, BOTH, Over, Stage, expect_reset, read, write};
use flowring_tests::flows::pattern;

pub(super) fn cases() -> Vec<Case> {
    cases![
        a_reset_passes_each_way,
        a_dead_target_is_a_reset,
        a_killed_program_is_a_reset,
        a_name_nobody_serves_is_a_reset,
        a_killed_track_costs_nothing_and_is_replaced,
        a_black_hole_is_survived,
        a_black_hole_for_long_and_then_a_killed_proxy,
        two_layers_are_two_paths_and_one_may_die,
        who_is_no_proxy_gets_no_track,
        a_stalled_client_stops_no_other,
        a_relay_that_is_full_says_so,
    ]
}

/// So that a transfer takes its time.
const SLOW: Link = Link { delay: Duration::from_millis(5), rate: Some(40_000_000), ..Link::CLEAN };

fn a_reset_passes_each_way() -> Result<()> {
    for over in BOTH {
        let stage = Stage::up(over, 3)?;
        let (client, server) = stage.pair()?;
        stage::reset(client)?;
        expect_reset(&server, "the target")?;
        let (client, server) = stage.pair()?;
        stage::reset(server)?;
        expect_reset(&client, "the client")?;
        // Behind an end, too: whoever has said all may still give up.
        let (mut client, server) = stage.pair()?;
        client.write_all(b"all")?;
        client.shutdown(std::net::Shutdown::Write)?;
        ensure!(read(&server)? == b"all");
        stage::reset(client)?;
        // It is no reader any more: what is written to it fails.
        let mut server = server;
        let failed = lab::wait_until(SOON, "writes to fail", || server.write_all(&[0; 10_000]).is_err());
        failed.with_context(|| format!("over {over:?}"))?;
    }
    Ok(())
}

fn a_dead_target_is_a_reset() -> Result<()> {
    for over in BOTH {
        let mut stage = Stage::up(over, 3)?;
        drop(stage.target.take());
        let refused = stage::expect_refusal(&stage.net.a, stage.entry, b"hello?", "the client");
        refused.with_context(|| format!("over {over:?}"))?;
        if over == Over::Flows {
            stage.proxy.expect_log(SOON, "the target refused the connection")?;
        }
    }
    Ok(())
}

fn a_killed_program_is_a_reset() -> Result<()> {
    for over in BOTH {
        for proxy in [true, false] {
            let mut stage = Stage::with(over, 3, &["--patience", "1"])?;
            let (mut client, mut server) = stage.pair()?;
            client.write_all(b"half")?;
            let mut got = [0; 4];
            server.read_exact(&mut got)?;
            if proxy {
                stage.proxy.kill()?
            } else {
                stage.relay.kill()?
            }
            expect_reset(&client, "the client").with_context(|| format!("{over:?}, proxy: {proxy}"))?;
            expect_reset(&server, "the target").with_context(|| format!("{over:?}, proxy: {proxy}"))?;
        }
    }
    Ok(())
}

fn a_name_nobody_serves_is_a_reset() -> Result<()> {
    let mut stage = Stage::with(Over::Flows, 2, &["--dial-timeout", "2"])?;
    stage.relay.kill()?;
    let client = stage.connect()?;
    expect_reset(&client, "the client")?;
    stage.proxy.expect_log(SOON, "reset, because")?;
    Ok(())
}

fn a_killed_track_costs_nothing_and_is_replaced() -> Result<()> {
    let stage = Stage::up(Over::Flows, 3)?;
    stage.net.b.link().set(SLOW)?;
    let (client, server) = stage.pair()?;
    let bytes = pattern(12_000_000);
    let writing = write(&client, bytes.clone())?;
    let server_too = server.try_clone()?;
    let reading = std::thread::Builder::new().name("read".into()).spawn(move || read(&server_too))?;
    for _ in 0..2 {
        let rows = await_flows(&stage.net.a, 3)?;
        let id = rows[1]["id"].as_u64().context("a flow's id")?;
        stage.net.a.irm(&["flow", "dealloc", &id.to_string()])?;
        lab::wait_until(SOON, "another track in its place", || {
            let ids = |rows: &Vec<serde_json::Value>| rows.iter().any(|row| row["id"] == id);
            flows(&stage.net.a).is_ok_and(|rows| rows.len() == 3 && !ids(&rows)) || reading.is_finished()
        })?;
    }
    writing.join().expect("no panic")?;
    let got = reading.join().expect("no panic")?;
    ensure!(got == bytes, "{} bytes of {}, or others", got.len(), bytes.len());
    let group = stage::group(&stage.net.a)?;
    ensure!(group["view"]["tracks"].as_array().is_some_and(|tracks| tracks.len() >= 2), "{group}");
    // The way back is open still.
    let mut server = server;
    server.write_all(b"thanks")?;
    drop(server);
    ensure!(read(&client)? == b"thanks");
    Ok(())
}

fn a_black_hole_is_survived() -> Result<()> {
    let stage = Stage::up(Over::Flows, 2)?;
    stage.net.b.link().set(SLOW)?;
    let (client, server) = stage.pair()?;
    let bytes = pattern(6_000_000);
    let writing = write(&client, bytes.clone())?;
    let mut first = vec![0; 1_000_000];
    (&server).read_exact(&mut first)?;
    stage.net.b.link().cut()?;
    let stalled = |view: &serde_json::Value| {
        view["tracks"].as_array().is_some_and(|tracks| tracks.iter().any(|track| track["stalled"] == true))
    };
    lab::wait_until(SOON, "a stalled track", || stage::group(&stage.net.a).is_ok_and(|group| stalled(&group["view"])))?;
    stage.net.b.link().restore()?;
    let got = [first, read(&server)?].concat();
    ensure!(got == bytes, "{} bytes of {}, or others", got.len(), bytes.len());
    writing.join().expect("no panic")?;
    Ok(())
}

/// The relay's host is out of reach for ten seconds: nothing is lost. Then the proxy dies, and nothing that was cut short looks whole.
fn a_black_hole_for_long_and_then_a_killed_proxy() -> Result<()> {
    let mut stage = Stage::with(Over::Flows, 4, &["--patience", "2"])?;
    stage.net.b.link().set(SLOW)?;
    let (client, server) = stage.pair()?;
    let bytes = pattern(10_000_000);
    let writing = write(&client, bytes.clone())?;
    let mut first = vec![0; 1_000_000];
    (&server).read_exact(&mut first)?;
    stage.net.b.link().cut()?;
    let age = || stage::group(&stage.net.a).ok().and_then(|group| group["seconds"].as_f64());
    let since = age().context("the group's age")?;
    lab::wait_until(3 * SOON, "ten seconds", || age().is_some_and(|age| age > since + 10.0))?;
    stage.net.b.link().restore()?;
    let got = [first, read(&server)?].concat();
    ensure!(got == bytes, "{} bytes of {}, or others", got.len(), bytes.len());
    writing.join().expect("no panic")?;
    // The way back is open still, and that of another client both ways.
    let (mut other, mut its_server) = stage.pair()?;
    other.write_all(b"half")?;
    its_server.read_exact(&mut [0; 4])?;
    stage.proxy.kill()?;
    expect_reset(&client, "the client")?;
    expect_reset(&other, "the other client")?;
    expect_reset(&its_server, "its target")
}

fn two_layers_are_two_paths_and_one_may_die() -> Result<()> {
    let net = Net::up(&["bulk"])?;
    for (host, table) in [(&net.a, true), (&net.b, false)] {
        let (ip, entry) = (host.address().to_string(), format!("bulk={}:3360", net.b.address()));
        let words =
            ["ipcp", "bootstrap", "--type", "udp", "--name", "udp1", "--layer", "other", "--ip", &ip, "--port", "3360"];
        let directory = ["--host", entry.as_str()];
        host.irm(&[&words[..], if table { &directory } else { &[] }].concat())?;
    }
    let target = net.b.inside(|| TcpListener::bind("127.0.0.1:0"))??;
    let to = target.local_addr()?.to_string();
    let _relay = stage::start(&net.b, &["relay", "--accept", "flow:bulk", "--to", &to])?;
    let paths = ["--to", "flow:bulk,layer=net", "--to", "flow:bulk,layer=other"];
    let proxy = stage::start(&net.a, &[&["proxy", "--listen", "127.0.0.1:0", "-n", "4"], &paths[..]].concat())?;
    net.b.link().set(SLOW)?;
    let client = stage::connect(&net.a, stage::listening(&proxy)?)?;
    let (server, _) = target.accept()?;
    stage::patient(&server)?;
    let rows = await_flows(&net.a, 4)?;
    let on = |layer: &str| rows.iter().filter(|row| row["layer"] == layer).count();
    ensure!((on("net"), on("other")) == (2, 2), "{rows:#?}");
    let bytes = pattern(8_000_000);
    let writing = write(&client, bytes.clone())?;
    let mut first = vec![0; 1_000_000];
    (&server).read_exact(&mut first)?;
    net.a.irm(&["ipcp", "destroy", "--name", "udp1"])?;
    let got = [first, read(&server)?].concat();
    ensure!(got == bytes, "{} bytes of {}, or others", got.len(), bytes.len());
    writing.join().expect("no panic")?;
    Ok(())
}

fn who_is_no_proxy_gets_no_track() -> Result<()> {
    let stage = Stage::up(Over::Flows, 2)?;
    for (kind, words) in [("--stream", "ask with tcpstripe proxy"), ("--raw", "which are stream flows")] {
        let output = stage.net.a.run("flowcat", &["bulk", kind])?;
        ensure!(output.code() == 3 && output.err.contains(words), "{output:?}");
    }
    let all = stage::status(&stage.net.b)?;
    ensure!(all[0]["totals"]["strangers"] == 2, "{all:?}");
    // It goes on.
    let (client, server) = stage.pair()?;
    stage::exchange(&client, &server, 10_000)
}

fn a_stalled_client_stops_no_other() -> Result<()> {
    for over in BOTH {
        let stage = Stage::with(over, 2, &["--window", "256K"])?;
        let (stalled, unread) = stage.pair()?;
        // More than all the kernel's buffers on the way take.
        let all = pattern(80_000_000);
        let writing = write(&stalled, all.clone())?;
        for _ in 0..5 {
            let (client, server) = stage.pair()?;
            stage::exchange(&client, &server, 300_000)?;
        }
        ensure!(!writing.is_finished(), "80 MB went where nobody reads");
        let relay = stage::group(&stage.net.b)?;
        // The window, and what each track has read at once.
        ensure!(relay["view"]["held_most"].as_u64().is_some_and(|held| held <= 3 * (256 << 10)), "{relay}");
        ensure!(read(&unread)? == all, "what waited is not what was said");
        writing.join().expect("no panic")?;
    }
    Ok(())
}

fn a_relay_that_is_full_says_so() -> Result<()> {
    let stage = Stage::with(Over::Flows, 2, &["--max-clients", "1"])?;
    let (first, server) = stage.pair()?;
    stage::expect_refusal(&stage.net.a, stage.entry, b"", "one too many")?;
    stage.proxy.expect_log(SOON, "as many clients as may be")?;
    stage::exchange(&first, &server, 10_000)
}
