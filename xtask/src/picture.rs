//! `cargo xtask picture`: the pictures of flowtop in docs/, made from flows that are there.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::binaries::Build;
use lab::{Host, Interrupts, Lab, Link, Running};

use crate::bench::page::in_workspace;

/// How long one step may take.
const STEP: Duration = Duration::from_secs(20);

/// Seconds that the graphs show.
const WATCHED: u32 = 30;

/// What host a shows: the picture's name, and the words for flowtop.
const PICTURES: [(&str, &[&str]); 2] =
    [("flowtop.svg", &["--height", "14"]), ("flowtop-flow.svg", &["--height", "28", "--flow", "BULK"])];

/// What `cargo xtask picture` may be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Folder that the pictures are written to [default: docs]
    #[arg(long, value_name = "DIR")]
    into: Option<std::path::PathBuf>,
}

/// Makes two hosts with five flows and draws them.
pub(crate) fn run(options: &Options) -> Result<()> {
    println!("Building the daemons and tools (some minutes the first time) …");
    let binaries = lab::binaries::prepare(Build { show: true, ..Build::default() })?;
    let docs = in_workspace("docs")?;
    let into = std::path::absolute(options.into.as_ref().unwrap_or(&docs))?;
    lab::enter().context("the picture is taken in network namespaces")?;
    let interrupts = Interrupts::catch()?;
    let lab = Lab::new()?;
    let [a, b] = lab.hosts(["a", "b"])?;
    let (_irmd_a, _irmd_b) = (a.irmd().start()?, b.irmd().start()?);
    a.bootstrap(&[("echo", &b), ("game.q2", &b), ("backup.bulk", &b)])?;
    b.bootstrap(&[("chat", &a)])?;
    let _flows = flows(&a, &b)?;
    // Enough for some seconds of it at full speed, and then the line gets worse.
    let link = Link { delay: Duration::from_millis(4), rate: Some(40_000_000), seed: 7, ..Link::CLEAN };
    b.link().set(link)?;
    println!("Five flows, watched for {WATCHED} seconds …");
    let refused = a.run("oping", &["nowhere", "-c", "1"])?;
    ensure!(refused.code() != 0, "somebody serves nowhere");
    let bulk = id_of(&a, "backup.bulk")?;
    let shots: Vec<Running> = PICTURES
        .iter()
        .map(|(file, words)| shoot(&a, binaries, &into.join(file), words, &bulk))
        .collect::<Result<_>>()?;
    lab::wait_until(STEP, "the graphs to have a beginning", || interrupts.came().unwrap_or(true) || moved(&a, &bulk))?;
    b.link().set(Link { loss: 0.02, ..link })?;
    for mut shot in shots {
        let output = shot.wait(STEP + Duration::from_secs(WATCHED.into()))?;
        ensure!(output.code() == 0, "flowtop ended with {}: {}", output.code(), output.err);
    }
    for (file, _) in PICTURES {
        println!("wrote {}", into.join(file).display());
    }
    Ok(())
}

/// Five flows of host a.
fn flows(a: &Host, b: &Host) -> Result<Vec<Running>> {
    let bulk = b.start("operf", &["--listen", "backup.bulk"])?;
    let mut programs = vec![
        b.serve("echo")?,
        b.serve("game.q2")?,
        a.serve("chat")?,
        a.serve("db")?,
        b.await_server(bulk, "backup.bulk")?,
    ];
    let pings: [(&Host, &[&str]); 4] = [
        (a, &["echo", "-i", "0.1", "-s", "200"]),
        (a, &["game.q2", "--qos", "message", "-i", "0.02", "-s", "400"]),
        (b, &["chat", "-i", "0.05", "-s", "900"]),
        (a, &["db", "-i", "0.01", "-s", "1200"]),
    ];
    for (host, words) in pings {
        let ping = host.start("oping", words)?;
        ping.expect_line(STEP, "seq=")?;
        programs.push(ping);
    }
    programs.push(a.start("operf", &["backup.bulk", "--qos", "stream", "-t", "600"])?);
    lab::wait_until(STEP, "five flows", || a.list("flow list").is_ok_and(|rows| rows.len() == 5))?;
    Ok(programs)
}

fn id_of(host: &Host, name: &str) -> Result<String> {
    let rows = host.list("flow list")?;
    let row = rows.iter().find(|row| row["name"] == name).with_context(|| format!("no flow to {name}"))?;
    Ok(row["id"].to_string())
}

/// Whether the stream has carried enough that its graph has a good beginning.
fn moved(host: &Host, id: &str) -> bool {
    let row = host.irm(&["flow", "show", id, "--json"]).ok().and_then(|text| serde_json::from_str(&text).ok());
    row.is_some_and(|row: serde_json::Value| row["counters"]["bytes_sent"].as_u64().is_some_and(|n| n > 30_000_000))
}

/// flowtop at a host that has a name of its own, so that the picture has not this machine's.
fn shoot(host: &Host, binaries: &Path, file: &Path, words: &[&str], bulk: &str) -> Result<Running> {
    let after = WATCHED.to_string();
    let flowtop = binaries.join("flowtop");
    let [flowtop, file] = [flowtop.as_path(), file].map(|path| path.to_string_lossy().into_owned());
    let mut all =
        vec!["--uts", "sh", "-c", "hostname alpha && exec \"$0\" \"$@\"", &flowtop, "--once", "--width", "104"];
    all.extend(["--after", &after, "--svg", &file]);
    all.extend(words.iter().map(|word| if *word == "BULK" { bulk } else { word }));
    host.start("unshare", &all)
}
