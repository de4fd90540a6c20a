//! What passes is whole.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use flowring_tests::iperf3;
use flowring_tests::net::{Net, SOON};
use lab::Link;

use super::stage::{self, BOTH, Over, Stage, exchange, start};

pub(super) fn cases() -> Vec<Case> {
    let mut all = cases![
        stripes_carry_both_ways_over_a_bad_link,
        stripes_within_a_host_do_the_same,
        stripes_half_close_each_way,
        every_schedule_carries_all,
        a_hundred_clients_at_once,
        status_and_metrics_say_what_goes_on,
        a_configuration_file_serves_many,
    ];
    all.extend(cases!(programs ["iperf3"]: iperf3_measures_through_stripes));
    all
}

pub(super) const BAD: Link = Link {
    delay: Duration::from_millis(10),
    loss: 0.01,
    reorder: 0.02,
    reorder_by: Duration::from_millis(8),
    duplicate: 0.01,
    seed: 11,
    ..Link::CLEAN
};

fn stripes_carry_both_ways_over_a_bad_link() -> Result<()> {
    for over in BOTH {
        let stage = Stage::up(over, 4)?;
        stage.net.b.link().set(BAD)?;
        let (client, server) = stage.pair()?;
        exchange(&client, &server, 3_000_000).with_context(|| format!("over {over:?}"))?;
    }
    Ok(())
}

fn stripes_within_a_host_do_the_same() -> Result<()> {
    let net = Net::bare()?;
    let target = net.b.inside(|| TcpListener::bind("127.0.0.1:0"))??;
    let to = target.local_addr()?.to_string();
    let relay = start(&net.b, &["relay", "--accept", "flow:bulk", "--to", &to])?;
    let proxy = start(&net.b, &["proxy", "--listen", "127.0.0.1:0", "--to", "flow:bulk", "-n", "4"])?;
    let client = stage::connect(&net.b, stage::listening(&proxy)?)?;
    let (server, _) = target.accept()?;
    stage::patient(&server)?;
    exchange(&client, &server, 10_000_000)?;
    drop(relay);
    Ok(())
}

/// Its control connection, its two streams, each way: all of them are clients of the proxy's.
fn iperf3_measures_through_stripes() -> Result<()> {
    for over in BOTH {
        let mut stage = Stage::up(over, 4)?;
        // iperf3 takes its place.
        let to = stage.target.take().context("a target")?.local_addr()?;
        let port = to.port().to_string();
        // A program that is being started at this moment may have the target open for a little longer.
        let free = || stage.net.b.inside(|| TcpListener::bind(to)).is_ok_and(|bound| bound.is_ok());
        lab::wait_until(SOON, "the target's port to be free", free)?;
        let mut server = stage.net.b.start("iperf3", &["-s", "-B", "127.0.0.1", "-p", &port])?;
        let sockets = || stage.net.b.run("ss", &["-Hltn", &format!("sport = :{port}")]);
        lab::wait_until(3 * SOON, "iperf3 to listen", || {
            !server.is_running() || sockets().is_ok_and(|output| !output.out.trim().is_empty())
        })?;
        ensure!(server.is_running(), "iperf3 ended: {} {}", server.out(), server.err());
        stage.net.b.link().set(BAD)?;
        for more in [&[][..], &["-R"]] {
            let (address, port) = (stage.entry.ip().to_string(), stage.entry.port().to_string());
            let words = ["-c", &address, "-p", &port, "-P", "2", "-t", "2"];
            let received = iperf3::received(&stage.net.a, &[&words[..], more].concat())?;
            ensure!(received > 100_000, "{over:?}: {received} bytes");
        }
    }
    Ok(())
}

/// One way ends, the other goes on: as with `ssh` and `nc -N`.
fn stripes_half_close_each_way() -> Result<()> {
    for over in BOTH {
        let stage = Stage::up(over, 3)?;
        for client_first in [true, false] {
            let (client, server) = stage.pair()?;
            let (first, second) = if client_first { (&client, &server) } else { (&server, &client) };
            let (mut first, mut second) = (first, second);
            first.write_all(b"question")?;
            first.shutdown(Shutdown::Write)?;
            ensure!(stage::read(second)? == b"question");
            // Only now is the answer made.
            second.write_all(b"answer")?;
            let mut got = [0; 6];
            first.read_exact(&mut got)?;
            second.shutdown(Shutdown::Write)?;
            ensure!(&got == b"answer" && stage::read(first)?.is_empty(), "{over:?}");
        }
    }
    Ok(())
}

fn every_schedule_carries_all() -> Result<()> {
    for schedule in ["lowest-rtt", "round-robin", "redundant"] {
        let stage = Stage::with(Over::Flows, 3, &["--schedule", schedule, "--congestion", "cubic"])?;
        stage.net.b.link().set(Link { loss: 0.0, ..BAD })?;
        let (client, server) = stage.pair()?;
        exchange(&client, &server, 1_000_000).with_context(|| schedule.to_owned())?;
    }
    for words in [["--framing", "u32"], ["--end", "mark"], ["--schedule", "round-robin"], ["--congestion", "reno"]] {
        let stage = Stage::with(Over::Tcp, 3, &words)?;
        let (client, server) = stage.pair()?;
        exchange(&client, &server, 1_000_000).with_context(|| words.join(" "))?;
    }
    Ok(())
}

/// Most of them only wait, which must disturb none of the others.
fn a_hundred_clients_at_once() -> Result<()> {
    for over in BOTH {
        let stage = Stage::up(over, 2)?;
        let mut pairs = Vec::new();
        for _ in 0..100 {
            pairs.push(stage.pair()?);
        }
        std::thread::scope(|scope| {
            let all: Vec<_> = pairs
                .iter()
                .step_by(4)
                .map(|(client, server)| scope.spawn(|| exchange(client, server, 50_000)))
                .collect();
            all.into_iter().try_for_each(|one| one.join().expect("no panic"))
        })
        .with_context(|| format!("over {over:?}"))?;
    }
    Ok(())
}

fn status_and_metrics_say_what_goes_on() -> Result<()> {
    let mut stage = Stage::with(Over::Flows, 3, &["--metrics", "127.0.0.1:9200"])?;
    let (mut client, mut server) = stage.pair()?;
    client.write_all(b"hello")?;
    let mut got = [0; 5];
    server.read_exact(&mut got)?;
    lab::wait_until(SOON, "three tracks in the status", || {
        stage::group(&stage.net.a)
            .is_ok_and(|group| group["view"]["tracks"].as_array().is_some_and(|all| all.len() == 3))
    })?;
    let group = stage::group(&stage.net.a)?;
    ensure!(group["view"]["bytes_out"] == 5 && group["client"] == client.local_addr()?.to_string(), "{group}");
    let relay = stage::group(&stage.net.b)?;
    ensure!(relay["view"]["bytes_in"] == 5, "{relay}");
    let text = stage.net.a.run("tcpstripe", &["status"])?;
    ensure!(text.code() == 0 && text.out.contains("TRACK") && text.out.contains("flow "), "{text:?}");
    let mut scrape = stage::connect(&stage.net.a, "127.0.0.1:9200".parse()?)?;
    scrape.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let page = String::from_utf8(stage::read(&scrape)?)?;
    ensure!(page.starts_with("HTTP/1.1 200 OK") && page.contains("\ntcpstripe_tracks_open 3\n"), "{page}");
    // Told to stop: it ends in order, and its client is reset.
    stage.proxy.signal(rustix::process::Signal::TERM)?;
    ensure!(stage.proxy.wait(SOON)?.code() == 0);
    stage::expect_reset(&client, "the client")?;
    stage::expect_reset(&server, "the target")?;
    let none = stage.net.a.run("tcpstripe", &["status"])?;
    ensure!(none.code() == 1 && none.err.contains("start a proxy or a relay"), "{none:?}");
    Ok(())
}

fn a_configuration_file_serves_many() -> Result<()> {
    let net = Net::bare()?;
    let folder = tempfile::tempdir()?;
    let target = net.a.inside(|| TcpListener::bind("127.0.0.1:0"))??;
    let file = folder.path().join("stripes.toml");
    let config = format!(
        "[[proxy]]\nlisten = \"127.0.0.1:9000\"\nto = [\"tcp:127.0.0.1:9100,local=127.0.0.2\", \"tcp:127.0.0.1:9101,local=127.0.0.3,device=lo\"]\ntracks = 4\n\n\
         [[relay]]\naccept = [\"tcp:127.0.0.1:9100\", \"tcp:127.0.0.1:9101\"]\nto = \"{}\"\n",
        target.local_addr()?
    );
    std::fs::write(&file, &config)?;
    let path = file.display().to_string();
    let checked = net.a.run("tcpstripe", &["check", &path])?;
    ensure!(checked.code() == 0 && checked.out.contains("2 rules, all sound"), "{checked:?}");
    let _running = start(&net.a, &["run", &path])?;
    let client = stage::connect(&net.a, "127.0.0.1:9000".parse()?)?;
    let (server, _) = target.accept()?;
    stage::patient(&server)?;
    // Two of the four tracks over each path.
    let all = stage::status(&net.a)?;
    let groups = all[0]["groups"].as_array().context("groups")?;
    let relay = groups.iter().find(|group| group["rule"].as_str().is_some_and(|rule| rule.starts_with("tcp:")));
    let carriers = relay.context("the relay's group")?["carriers"].to_string();
    for path in ["tcp 127.0.0.2:", "tcp 127.0.0.3:"] {
        ensure!(carriers.matches(path).count() == 2, "{carriers}");
    }
    exchange(&client, &server, 1_000_000)?;
    std::fs::write(&file, config.replace("tracks = 4", "tracks = 400"))?;
    let wrong = net.a.run("tcpstripe", &["run", &path])?;
    ensure!(
        wrong.code() == 2 && wrong.err.contains("line 1, column 1: 400 tracks are too few or too many"),
        "{wrong:?}"
    );
    Ok(())
}
