//! Clients that people have, through `PORT -> flow:NAME`, between two hosts with a bad link.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::iperf3;
use flowring_tests::net::{Net, SOON};
use lab::{Host, Link, Running, wait_until};

use super::reload::nginx;
use super::stage::{portfwd, rule};

/// What is fetched, bytes.
const PAGE: usize = 3 << 20;
/// Each of the servers' ports, and where clients find it at the other host.
const PORTS: [(&str, u16, u16); 4] =
    [("web", 8080, 7005), ("perf", 5201, 7006), ("store", 6379, 7007), ("code", 9418, 7008)];
/// What a client has to come to its end.
const PATIENCE: &str = "60";

/// 50 ms there and back, and every hundredth datagram lost.
const BAD: Link = Link { delay: Duration::from_millis(25), loss: 0.01, ..Link::CLEAN };

pub(super) fn the_usual_clients_work_over_a_flow() -> Result<()> {
    let net = Net::up(&PORTS.map(|(name, ..)| name))?;
    let page: String = (0..).map(|n: u32| n.wrapping_mul(2_654_435_761).to_string()).scan(0, grown).collect();
    let _servers = [nginx(&net.b, 8080, &page)?, perf(&net.b)?, store(&net.b)?, code(&net.b)?];
    let far: String = PORTS.iter().map(|(name, to, _)| format!("flow:{name} -> 127.0.0.1:{to}\n")).collect();
    let _far = portfwd(&net.b, &far, &[])?;
    for (name, ..) in PORTS {
        wait_until(SOON, "the name to be served", || net.b.accepting(name).is_ok_and(|accepting| accepting > 0))?;
    }
    let near: String = PORTS.iter().map(|(name, _, at)| format!("127.0.0.1:{at} -> flow:{name}\n")).collect();
    let _near = portfwd(&net.a, &near, &[])?;
    net.b.link().set(BAD)?;
    fetches(&net.a, &page)?;
    measures(&net.a)?;
    stores(&net.a)?;
    clones(&net.a, &net.b)?;
    for (_, _, at) in PORTS {
        let name = format!("127.0.0.1:{at}");
        wait_until(SOON, "its connections to be over", || rule(&net.a, &name).is_ok_and(|rule| rule["open"] == 0))?;
        let rule = rule(&net.a, &name)?;
        ensure!(rule["refused"].as_object().is_some_and(serde_json::Map::is_empty), "{rule}");
    }
    Ok(())
}

/// Pieces of text until there are as many bytes as the page has.
fn grown(sum: &mut usize, piece: String) -> Option<String> {
    *sum += piece.len();
    (*sum <= PAGE).then_some(piece)
}

fn listening(host: &Host, mut server: Running, port: u16) -> Result<Running> {
    wait_until(SOON, "the server to listen", || {
        !server.is_running() || host.run("ss", &["-Hltn", &format!("sport = :{port}")]).is_ok_and(|o| !o.out.is_empty())
    })?;
    ensure!(server.is_running(), "it ended: {} {}", server.out(), server.err());
    Ok(server)
}

fn perf(host: &Host) -> Result<Running> {
    listening(host, host.start("iperf3", &["-s", "-p", "5201"])?, 5201)
}

fn store(host: &Host) -> Result<Running> {
    let folder = text(host.run_dir())?;
    let words = ["--port", "6379", "--bind", "127.0.0.1", "--save", "", "--dir", &folder, "--daemonize", "no"];
    listening(host, host.start("redis-server", &words)?, 6379)
}

/// A repository with one commit, served.
fn code(host: &Host) -> Result<Running> {
    let base = host.run_dir().join("code");
    let one = base.join("one");
    std::fs::create_dir_all(&one)?;
    std::fs::write(one.join("file"), "flows by name\n".repeat(20_000))?;
    git(host, &one, &["init", "-q"])?;
    git(host, &one, &["add", "file"])?;
    git(host, &one, &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "Say what it is"])?;
    let base = format!("--base-path={}", text(&base)?);
    let words = ["daemon", "--reuseaddr", "--export-all", "--listen=127.0.0.1", "--port=9418", &base];
    listening(host, host.start("git", &words)?, 9418)
}

fn git(host: &Host, at: &Path, words: &[&str]) -> Result<String> {
    let output = host.run("git", &[&["-C", &text(at)?], words].concat())?;
    ensure!(output.code() == 0, "git {words:?} ended with {}: {}", output.code(), output.err);
    Ok(output.out)
}

fn fetches(host: &Host, page: &str) -> Result<()> {
    for _ in 0..2 {
        let fetched = host.run("curl", &["-sS", "--max-time", PATIENCE, "http://127.0.0.1:7005/"])?;
        ensure!(fetched.code() == 0, "curl ended with {}: {}", fetched.code(), fetched.err);
        ensure!(fetched.out == page, "{} bytes came, not those of the page", fetched.out.len());
    }
    Ok(())
}

/// Two streams there, then back. What is under way when the time is over counts for nothing.
fn measures(host: &Host) -> Result<()> {
    for more in [&[][..], &["-R"]] {
        let words = ["-c", "127.0.0.1", "-p", "7006", "-P", "2", "-t", "2"];
        let received = iperf3::received(host, &[&words[..], more].concat())?;
        ensure!(received > 100_000, "{received} bytes");
    }
    Ok(())
}

/// Many commands on one connection, and many connections.
fn stores(host: &Host) -> Result<()> {
    let words = ["-p", "7007", "-q", "--csv", "-c", "20", "-n", "2000", "-P", "20", "-t", "set,get"];
    let output = host.run("redis-benchmark", &words)?;
    ensure!(output.code() == 0 && output.out.contains("GET"), "{output:?}");
    let client = |words: &[&str]| -> Result<String> {
        let output = host.run("redis-cli", &[&["-p", "7007"], words].concat())?;
        ensure!(output.code() == 0, "redis-cli {words:?} ended with {}: {}", output.code(), output.err);
        Ok(output.out.trim().to_owned())
    };
    let long = "x".repeat(100_000);
    client(&["set", "long", &long])?;
    let kept = client(&["get", "long"])?;
    ensure!(kept == long, "{} bytes are kept, not {}", kept.len(), long.len());
    Ok(())
}

fn clones(from: &Host, of: &Host) -> Result<()> {
    let copy = from.run_dir().join("copy");
    git(from, Path::new("/"), &["clone", "-q", "git://127.0.0.1:7008/one", &text(&copy)?])?;
    let [ours, theirs] =
        [git(from, &copy, &["rev-parse", "HEAD"])?, git(of, &of.run_dir().join("code/one"), &["rev-parse", "HEAD"])?];
    ensure!(ours == theirs && copy.join("file").is_file(), "{ours} was cloned, not {theirs}");
    Ok(())
}

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().context("a path of text")?.to_owned())
}
