//! Tracks whose number adapts.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::flows::pattern;
use flowring_tests::harness::Case;
use flowring_tests::net::{Net, SOON, await_flows};
use lab::Link;

use super::stage::{self, Stage, read, write};

pub(super) fn cases() -> Vec<Case> {
    cases![tracks_become_more_where_each_feels_loss, tracks_stay_few_where_one_fills_the_path]
}

fn tracks_become_more_where_each_feels_loss() -> Result<()> {
    let stage = Stage::auto(&["--congestion", "cubic"])?;
    stage.net.b.link().set(Link {
        delay: Duration::from_millis(10),
        loss: 0.02,
        rate: Some(100_000_000),
        seed: 3,
        ..Link::CLEAN
    })?;
    let (client, server) = stage.pair()?;
    let bytes = pattern(30_000_000);
    let writing = write(&client, bytes.clone())?;
    let server_too = server.try_clone()?;
    let reading = std::thread::Builder::new().name("read".into()).spawn(move || read(&server_too))?;
    stage.proxy.expect_log(6 * SOON, "4 tracks, because 2 bring")?;
    let group = stage::group(&stage.net.a)?;
    ensure!(group["view"]["adapted"]["why"].as_str().is_some_and(|why| why.contains("Mbit/s")), "{group}");
    let text = stage.net.a.run("tcpstripe", &["status"])?;
    ensure!(text.out.contains("tracks, because"), "{text:?}");
    writing.join().expect("no panic")?;
    let got = reading.join().expect("no panic")?;
    ensure!(got == bytes, "{} bytes of {}, or others", got.len(), bytes.len());
    Ok(())
}

fn tracks_stay_few_where_one_fills_the_path() -> Result<()> {
    let stage = Stage::auto(&[])?;
    let queue = 200 << 10;
    stage.net.b.link().set(Link { delay: Duration::from_millis(10), rate: Some(20_000_000), queue, ..Link::CLEAN })?;
    let (client, server) = stage.pair()?;
    let bytes = pattern(25_000_000);
    let writing = write(&client, bytes.clone())?;
    let server_too = server.try_clone()?;
    let reading = std::thread::Builder::new().name("read".into()).spawn(move || read(&server_too))?;
    stage.proxy.expect_log(2 * SOON, "2 tracks, because 1 bring")?;
    stage.proxy.expect_log(2 * SOON, "1 track, because 1 brought")?;
    // What is not wanted ends at both ends, while the other carries on.
    await_flows(&stage.net.a, 1)?;
    await_flows(&stage.net.b, 1)?;
    let got = reading.join().expect("no panic")?;
    ensure!(got == bytes, "{} bytes of {}, or others", got.len(), bytes.len());
    writing.join().expect("no panic")?;
    let refused = stage.net.a.run("tcpstripe", &["proxy", "-l", "0", "--to", "tcp:10.0.0.2:9100", "-n", "auto"])?;
    ensure!(refused.code() == 2 && refused.err.contains("give their number instead of auto"), "{refused:?}");
    Ok(())
}

impl Stage {
    /// Over flows, from one track on.
    fn auto(words: &[&str]) -> Result<Self> {
        let net = Net::up(&["bulk"])?;
        let target = net.b.inside(|| std::net::TcpListener::bind("127.0.0.1:0"))??;
        let to = target.local_addr()?.to_string();
        let relay = stage::start(&net.b, &[&["relay", "--accept", "flow:bulk", "--to", &to], words].concat())?;
        let proxy = ["proxy", "--listen", "127.0.0.1:0", "--to", "flow:bulk", "-n", "auto"];
        let proxy = stage::start(&net.a, &[&proxy, words].concat())?;
        let entry = stage::listening(&proxy).context("the proxy")?;
        Ok(Self { proxy, relay, entry, target: Some(target), net })
    }
}
