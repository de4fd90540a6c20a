//! `flowtop`: what it shows is what there is, what its keys do, and how it leaves the terminal.

use std::process::ChildStdin;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use flowring_tests::net::{Net, SOON, await_flows, flows};
use flowring_tests::terminal::Terminal;
use lab::{Host, Running};
use rustix::process::Signal;

pub(crate) fn cases() -> Vec<Case> {
    cases![
        flowtop_once_shows_exactly_the_flows_there_are,
        flowtop_ends_a_flow_by_a_key_and_only_after_yes,
        flowtop_waits_for_an_irmd_that_went_away,
        flowtop_leaves_the_terminal_as_it_was,
        flowtop_shows_what_was_refused_and_why,
        flowtop_without_irmd_says_how_to_start_it,
    ]
}

/// Five flows of host a: raw and message and stream to b, raw and stream within a.
struct Five {
    net: Net,
    _programs: Vec<Running>,
    /// Open ends of what flowcat reads.
    _inputs: Vec<ChildStdin>,
}

fn five() -> Result<Five> {
    let net = Net::up(&["echo", "talk", "pipe"])?;
    let mut programs = vec![net.b.serve("echo")?, net.b.serve("talk")?, net.a.serve("near")?];
    let mut inputs = Vec::new();
    for (at, name) in [(&net.b, "pipe"), (&net.a, "tube")] {
        let mut server = at.start("flowcat", &["--listen", name])?;
        inputs.push(server.input().context("its input")?);
        programs.push(at.await_server(server, name)?);
    }
    for words in [&["echo", "-i", "0.1"][..], &["talk", "--qos", "message", "-i", "0.1"], &["near", "-i", "0.1"]] {
        let ping = net.a.start("oping", words)?;
        ping.expect_line(SOON, "seq=")?;
        programs.push(ping);
    }
    for name in ["pipe", "tube"] {
        let mut client = net.a.start("flowcat", &[name])?;
        inputs.push(client.input().context("its input")?);
        programs.push(client);
    }
    await_flows(&net.a, 5)?;
    await_flows(&net.b, 3)?;
    // Its handshake is over: before, who asks would give it up if irmd went away.
    lab::wait_until(SOON, "pipe's host to be judged", || {
        flows(&net.a).is_ok_and(|rows| rows.iter().any(|row| row["name"] == "pipe" && !row["peer_identity"].is_null()))
    })?;
    Ok(Five { net, _programs: programs, _inputs: inputs })
}

/// What a frame says of each flow: id, name, kind, layer, who holds it.
fn rows(frame: &str) -> Vec<[String; 5]> {
    let from = frame.lines().skip_while(|line| !line.trim_start().starts_with("ID NAME")).skip(1);
    let words = from.map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let rows = words.take_while(|words| words.first().is_some_and(|id| id.parse::<u64>().is_ok()));
    // The fourth is the state, of one letter.
    let mut rows: Vec<_> = rows.map(|w| [&w[0], &w[1], &w[2], &w[4], &w[6]].map(Clone::clone)).collect();
    rows.sort();
    rows
}

fn listed(host: &Host) -> Result<Vec<[String; 5]>> {
    let row = |flow: &serde_json::Value| {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("?").to_owned();
        let pid = format!("({})", flow["process"]["pid"]);
        [flow["id"].to_string(), text(&flow["name"]), text(&flow["qos"]["cube"]), text(&flow["layer"]), pid]
    };
    let mut rows: Vec<_> = flows(host)?.iter().map(row).collect();
    rows.sort();
    Ok(rows)
}

fn once(host: &Host, words: &[&str]) -> Result<String> {
    let output = host.run("flowtop", &[&["--once", "--interval", "0.3"], words].concat())?;
    ensure!(output.code() == 0, "flowtop {words:?}: {} {}", output.code(), output.err);
    Ok(output.out)
}

fn flowtop_once_shows_exactly_the_flows_there_are() -> Result<()> {
    let five = five()?;
    for (host, count) in [(&five.net.a, 5), (&five.net.b, 3)] {
        let frame = once(host, &["--width", "160"])?;
        ensure!(rows(&frame).len() == count, "{frame}");
        ensure!(rows(&frame) == listed(host)?, "irm lists {:?}, and this is shown:\n{frame}", listed(host)?);
        ensure!(frame.contains(&format!("Flows  {count}: {count} allocated")), "{frame}");
    }
    // Both that ping between hosts move something, the streams nothing.
    let frame = once(&five.net.a, &["--width", "80", "--height", "24", "--filter", "echo"])?;
    ensure!(frame.lines().count() == 24 && frame.lines().all(|line| line.chars().count() <= 80), "{frame}");
    let row = frame.lines().find(|line| line.contains("echo") && line.contains("raw")).context("no echo")?;
    ensure!(!row.contains(" - "), "nothing moves: {row}");
    ensure!(!frame.contains("tube"), "it is not asked for:\n{frame}");
    // One flow in full, and a picture.
    let id = flows(&five.net.a)?.iter().find(|flow| flow["name"] == "pipe").context("pipe")?["id"].to_string();
    let frame = once(&five.net.a, &["--flow", &id])?;
    ensure!(frame.contains(&format!("flow {id} pipe allocated")) && frame.contains("encrypted"), "{frame}");
    let file = five.net.a.run_dir().join("flows.svg");
    once(&five.net.a, &["--svg", file.to_str().context("a path")?])?;
    let picture = std::fs::read_to_string(&file)?;
    ensure!(picture.starts_with("<svg ") && picture.contains(">pipe"), "{picture}");
    let output = five.net.a.run("flowtop", &["--once", "--flow", "999999"])?;
    ensure!(output.code() == 1 && output.err.contains("there is no flow 999999"), "{output:?}");
    Ok(())
}

fn top(host: &Host, words: &[&str], columns: u16, lines: u16) -> Result<Terminal> {
    let mut command = host.command("flowtop");
    command.args(["--interval", "0.2"]).args(words);
    Terminal::start(command, columns, lines)
}

fn flowtop_ends_a_flow_by_a_key_and_only_after_yes() -> Result<()> {
    let five = five()?;
    let host = &five.net.a;
    let mut top = top(host, &[], 80, 24)?;
    top.await_text(SOON, "five flows", |text| text.contains("Flows  5: 5 allocated") && text.contains("near"))?;
    top.press("/near\r")?;
    top.await_text(SOON, "one row", |text| text.contains("filter near: 1 flow") && !text.contains("tube"))?;
    top.press("k")?;
    top.await_text(SOON, "a question", |text| text.contains("to near held by oping (pid ") && text.contains("y/n"))?;
    top.press("n")?;
    top.await_text(SOON, "an answer", |text| text.contains("goes on"))?;
    ensure!(flows(host)?.len() == 5, "it was ended in spite of the n");
    top.press("k")?;
    top.await_text(SOON, "a question", |text| text.contains("y/n"))?;
    top.press("y")?;
    top.await_text(SOON, "the end", |text| text.contains("is ended") || text.contains("Flows  4"))?;
    let left = await_flows(host, 4)?;
    ensure!(left.iter().all(|flow| flow["name"] != "near"), "another was ended: {left:?}");
    // Esc takes the filter away, then quits.
    top.press("\u{1b}")?;
    top.await_text(SOON, "the others", |text| text.contains("tube") && !text.contains("near"))?;
    // Another window, and one too small.
    top.resize(120, 30)?;
    top.await_text(SOON, "more columns", |text| text.contains(" AGE"))?;
    top.resize(30, 5)?;
    top.await_text(SOON, "a word", |text| text.contains("window too small"))?;
    top.resize(80, 24)?;
    top.await_text(SOON, "the flows again", |text| text.contains("tube"))?;
    top.press("q")?;
    ensure!(top.wait(SOON)?.success() && top.is_soon_restored(SOON), "{}", top.text());
    Ok(())
}

fn flowtop_waits_for_an_irmd_that_went_away() -> Result<()> {
    let mut five = five()?;
    let top = top(&five.net.a, &[], 80, 24)?;
    top.await_text(SOON, "five flows", |text| text.contains("Flows  5: 5 allocated") && text.contains("near"))?;
    five.net.irmd_a.process().kill()?;
    let gone =
        |text: &str| text.contains("irmd cannot be asked; trying again") && text.contains("irmd is not reachable");
    let text = top.await_text(SOON, "that irmd is gone", gone)?;
    ensure!(text.contains("pipe") && text.contains("near"), "flows that go on are not shown:\n{text}");
    five.net.irmd_a = five.net.a.irmd().start()?;
    top.await_text(SOON, "all five again", |text| text.contains("Flows  5: 5 allocated") && text.contains("(pid "))?;
    Ok(())
}

fn flowtop_leaves_the_terminal_as_it_was() -> Result<()> {
    let net = Net::bare()?;
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP] {
        let mut top = top(&net.a, &[], 80, 24)?;
        top.await_text(SOON, "an empty list", |text| text.contains("no flows; `oping NAME` allocates one"))?;
        ensure!(!top.is_restored()?, "it never took the terminal");
        top.signal(signal)?;
        let status = top.wait(SOON)?;
        ensure!(status.code() == Some(i32::from(signal == Signal::HUP)), "{signal:?}: {status}");
        ensure!(top.is_soon_restored(SOON), "{signal:?} leaves the terminal otherwise");
    }
    let mut top = top(&net.a, &[], 80, 24)?;
    top.await_text(SOON, "an empty list", |text| text.contains("no flows"))?;
    // Ctrl-C, as the terminal sends it now that it makes no signal of it.
    top.press("\u{3}")?;
    ensure!(top.wait(SOON)?.success() && top.is_soon_restored(SOON), "Ctrl-C");
    // A line that breaks: nothing stays behind that draws for nobody.
    let top = self::top(&net.a, &[], 80, 24)?;
    top.await_text(SOON, "an empty list", |text| text.contains("no flows"))?;
    let status = top.hang_up(SOON)?;
    ensure!(status.code() == Some(1), "{status}");
    Ok(())
}

fn flowtop_shows_what_was_refused_and_why() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let output = net.a.run("oping", &["nowhere", "-c", "1"])?;
    ensure!(output.code() == 2, "{output:?}");
    let frame = once(&net.a, &["--refusals"])?;
    let row = frame.lines().find(|line| line.contains("nowhere")).with_context(|| frame.clone())?;
    ensure!(row.contains("oping (") && row.contains("unknown name"), "{row}");
    let sum = frame.lines().find(|line| line.trim_start().starts_with("1 ")).unwrap_or_default();
    ensure!(sum.ends_with("unknown name"), "{frame}");
    ensure!(frame.contains("(1 in all)"), "{frame}");
    // As it happens.
    let mut top = top(&net.a, &[], 80, 24)?;
    top.press("r")?;
    top.await_text(SOON, "one refusal", |text| text.contains("nowhere"))?;
    net.a.run("oping", &["elsewhere", "-c", "1"])?;
    top.await_text(SOON, "another", |text| text.contains("elsewhere") && text.contains("(2 in all)"))?;
    top.press("qq")?;
    ensure!(top.wait(SOON)?.success());
    Ok(())
}

fn flowtop_without_irmd_says_how_to_start_it() -> Result<()> {
    let net = Net::bare()?;
    let nowhere = net.another("c")?;
    for words in [&["--once"][..], &["--once", "--refusals"]] {
        let output = nowhere.run("flowtop", words)?;
        ensure!(output.code() == 3 && output.out.is_empty(), "{output:?}");
        ensure!(output.err.contains("start it with `irmd --run-dir "), "{}", output.err);
    }
    let mut top = top(&nowhere, &[], 80, 24)?;
    let status = top.wait(SOON)?;
    ensure!(status.code() == Some(3) && top.is_soon_restored(SOON), "{status}");
    top.await_text(Duration::from_secs(1), "why", |text| text.contains("irmd is not reachable"))?;
    // No terminal to draw on.
    let output = net.a.run::<&str>("flowtop", &[])?;
    ensure!(output.code() == 2 && output.err.contains("--once"), "{output:?}");
    Ok(())
}
