//! `flowcat` between hosts and within one: what arrives is whole, and what is not says so.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use flowring_tests::net::{Net, SOON};
use lab::{Host, Link, Output, Running};
use rustix::process::Signal;

pub(crate) fn cases() -> Vec<Case> {
    cases![
        flowcat_carries_both_ways_over_a_bad_link,
        a_tar_arrives_over_a_bad_link_with_its_hash,
        flowcat_within_a_host_does_the_same,
        flowcat_carries_messages_and_raw_flows,
        flowcat_tells_a_killed_sender_from_an_end,
        flowcat_runs_a_command_for_each_flow,
        flowcat_resets_the_stream_of_a_command_that_fails,
        flowcat_takes_only_the_kind_it_was_told_to,
    ]
}

/// Lines that differ, so many bytes or a few more.
fn text(bytes: usize) -> String {
    let mut text = String::new();
    let mut line = 0_u64;
    while text.len() < bytes {
        text += &format!("line {line} of a text that must arrive whole\n");
        line += 1;
    }
    text
}

fn listen(host: &Host, args: &[&str]) -> Result<Running> {
    let name = args[args.iter().position(|arg| *arg == "--listen").context("--listen")? + 1];
    let server = host.start("flowcat", args)?;
    host.await_server(server, name)
}

/// Writes its input, from a thread, so that neither side waits for the other's pipe; then ends it.
fn feed(to: &mut Running, text: &str) -> Result<std::thread::JoinHandle<()>> {
    let (mut input, text) = (to.input().context("its input")?, text.to_owned());
    // The reader may go away: the exit code tells.
    Ok(std::thread::Builder::new().name("feed".into()).spawn(move || drop(input.write_all(text.as_bytes())))?)
}

fn whole(output: &Output, expected: &str, who: &str) -> Result<()> {
    ensure!(output.code() == 0, "{who} ended with {}: {}", output.code(), output.err);
    // Lines are kept, their last end is not.
    let (out, expected) = (output.out.trim_end(), expected.trim_end());
    ensure!(out == expected, "{who}: {} bytes of {}", out.len(), expected.len());
    Ok(())
}

/// A question and an answer, each of some megabytes and each to its end.
fn exchange(from: &Host, to: &Host, size: usize) -> Result<()> {
    let (question, answer) = (text(size), text(size + 1000));
    let mut server = listen(to, &["--listen", "pipe"])?;
    let answering = feed(&mut server, &answer)?;
    let mut client = from.start("flowcat", &["pipe", "-p"])?;
    let asking = feed(&mut client, &question)?;
    let (client, server) = (client.wait(10 * SOON)?, server.wait(SOON)?);
    whole(&client, &answer, "the client")?;
    whole(&server, &question, "the server")?;
    ensure!(client.err.contains("sent ") && client.err.contains("received "), "no progress: {}", client.err);
    asking.join().expect("no panic");
    answering.join().expect("no panic");
    Ok(())
}

fn flowcat_carries_both_ways_over_a_bad_link() -> Result<()> {
    let net = Net::up(&["pipe"])?;
    net.b.link().set(Link { delay: Duration::from_millis(5), loss: 0.01, seed: 5, ..Link::CLEAN })?;
    exchange(&net.a, &net.b, 2_000_000)
}

/// As people use it: `tar c … | flowcat` and `flowcat --listen | …`, over bytes that are no text.
fn a_tar_arrives_over_a_bad_link_with_its_hash() -> Result<()> {
    let net = Net::up(&["pipe"])?;
    net.b.link().set(Link { delay: Duration::from_millis(10), loss: 0.01, seed: 6, ..Link::CLEAN })?;
    let folder = lab::binaries::folder().context("the folder of the programs")?;
    let flowcat = folder.join("flowcat").display().to_string();
    let listen = format!("{flowcat} --listen pipe | sha256sum");
    let mut server = net.b.await_server(net.b.start("sh", &["-c", &listen])?, "pipe")?;
    drop(server.input());
    let send = format!("tar c -C '{}' oping | tee >(sha256sum >&2) | {flowcat} pipe", folder.display());
    let mut client = net.a.start("bash", &["-o", "pipefail", "-c", &send])?;
    drop(client.input());
    let (client, server) = (client.wait(20 * SOON)?, server.wait(SOON)?);
    ensure!(client.code() == 0 && server.code() == 0, "{client:?} {server:?}");
    let (sent, received) = (client.err.trim(), server.out.trim());
    ensure!(sent.len() == 67 && sent == received, "sent {sent}, received {received}");
    Ok(())
}

fn flowcat_within_a_host_does_the_same() -> Result<()> {
    let net = Net::bare()?;
    exchange(&net.b, &net.b, 5_000_000)
}

fn flowcat_carries_messages_and_raw_flows() -> Result<()> {
    let net = Net::up(&["pipe"])?;
    for kind in ["--message", "--raw"] {
        let mut server = listen(&net.b, &["--listen", "pipe"])?;
        drop(server.input());
        let mut client = net.a.start("flowcat", &["pipe", kind])?;
        feed(&mut client, "one message\n")?.join().expect("no panic");
        whole(&client.wait(SOON)?, "", "the client")?;
        whole(&server.wait(SOON)?, "one message\n", "the server")?;
    }
    Ok(())
}

fn flowcat_tells_a_killed_sender_from_an_end() -> Result<()> {
    let net = Net::up(&["pipe"])?;
    for from in [&net.a, &net.b] {
        let server = listen(&net.b, &["--listen", "pipe"])?;
        let mut client = from.start("flowcat", &["pipe"])?;
        let mut input = client.input().context("its input")?;
        input.write_all(b"half of it\n")?;
        let mut server = server;
        server.expect_line(SOON, "half of it")?;
        client.signal(Signal::KILL)?;
        let output = server.wait(SOON)?;
        ensure!(output.code() == 1, "the server took it for an end: {output:?}");
        ensure!(output.err.starts_with("flowcat: "), "{}", output.err);
    }
    Ok(())
}

fn flowcat_runs_a_command_for_each_flow() -> Result<()> {
    let net = Net::up(&["count"])?;
    let command = "echo for $FLOWCAT_SOURCE; wc -l";
    let mut server = listen(&net.b, &["--listen", "count", "--keep", "--exec", command])?;
    for lines in [0, 1, 1000] {
        let mut client = net.a.start("flowcat", &["count"])?;
        feed(&mut client, &"x\n".repeat(lines))?.join().expect("no panic");
        whole(&client.wait(SOON)?, &format!("for flowcat\n{lines}\n"), "the client")?;
    }
    // A command that reads nothing ends its flow, whatever the caller still has to say.
    drop(server.input());
    server.signal(Signal::TERM)?;
    ensure!(server.wait(SOON)?.code() == 0, "a server that was told to stop");
    let _server = listen(&net.b, &["--listen", "count", "--exec", "echo done"])?;
    let mut client = net.a.start("flowcat", &["count"])?;
    let _open = client.input().context("its input")?;
    whole(&client.wait(SOON)?, "done\n", "the client")
}

fn flowcat_resets_the_stream_of_a_command_that_fails() -> Result<()> {
    let net = Net::up(&["bad"])?;
    for from in [&net.a, &net.b] {
        let mut server = listen(&net.b, &["--listen", "bad", "--exec", "echo part; exit 3"])?;
        let client = from.run("flowcat", &["bad"])?;
        ensure!(client.code() == 1 && client.err.starts_with("flowcat: "), "{client:?}");
        // Between hosts the end of the flow may overtake the reset.
        ensure!(from.name() == net.a.name() || client.err.contains("reset by its sender (reason 1)"), "{}", client.err);
        let server = server.wait(SOON)?;
        ensure!(server.code() == 1 && server.err.contains("the command failed (exit status: 3)"), "{server:?}");
    }
    Ok(())
}

fn flowcat_takes_only_the_kind_it_was_told_to() -> Result<()> {
    let net = Net::up(&["pipe"])?;
    let _server = listen(&net.b, &["--listen", "pipe", "--raw"])?;
    let client = net.a.run("flowcat", &["pipe"])?;
    ensure!(client.code() == 3, "{client:?}");
    ensure!(client.err.contains("flowcat serves raw flows here; ask for one"), "{}", client.err);
    let client = net.a.run("flowcat", &["nowhere"])?;
    ensure!(client.code() == 3, "{client:?}");
    Ok(())
}
