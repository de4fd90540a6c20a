//! What a program sees of its flows, through libflow, with the real daemons below.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use flowring_tests::cases;
use flowring_tests::flows::{listen, pair, stack};
use flowring_tests::harness::Case;
use flowring_tests::net::{AT_ONCE, Net, SOON, await_flows, timed};
use lab::Host;
use libflow::blocking::{Flow, Stack};
use libflow::{AllocError, Cube, EndReason, FlowError};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_program_refuses_and_says_why,
        bytes_travel_with_the_request_and_its_answer,
        what_was_sent_is_read_before_the_end_is_told,
        a_killed_client_is_told_to_its_server_at_once,
        a_killed_local_client_is_told_to_its_server_at_once,
        the_first_sdu_never_races_the_connect,
        an_empty_sdu_is_refused_and_the_limit_can_be_asked,
        a_missing_irmd_is_named_with_how_to_start_it,
        two_programs_behind_one_name_take_turns,
        the_examples_echo_between_two_hosts,
        another_user_uses_flows_and_administrates_nothing,
    ]
}

fn a_program_refuses_and_says_why() -> Result<()> {
    let net = Net::up(&["picky"])?;
    let listener = listen(&net.b, "picky")?;
    let asking = stack(&net.a)?;
    let refused = std::thread::scope(|scope| {
        scope.spawn(|| listener.incoming_within(SOON)?.refuse("the game is full"));
        asking.alloc("picky").timeout(SOON).wait()
    });
    match refused {
        Err(AllocError::Refused { reason, message }) => {
            assert_eq!(reason, "the game is full");
            ensure!(message.contains("picky") && message.contains("the game is full"), "{message}");
        }
        other => bail!("refused, but the caller was told {other:?}"),
    }
    await_flows(&net.a, 0)?;
    await_flows(&net.b, 0).map(drop)
}

fn bytes_travel_with_the_request_and_its_answer() -> Result<()> {
    let net = Net::up(&["game"])?;
    let listener = listen(&net.b, "game")?;
    let asking = stack(&net.a)?;
    let player = vec![7; libflow::MAX_DATA];
    let flow = std::thread::scope(|scope| {
        let server = scope.spawn(|| -> Result<Flow> {
            let incoming = listener.incoming_within(SOON)?;
            assert_eq!((incoming.name(), incoming.source()), ("game", "me"));
            assert_eq!(incoming.data(), vec![7; libflow::MAX_DATA]);
            ensure!(incoming.peer().address.starts_with("10.0.0.1:"), "{:?}", incoming.peer());
            Ok(incoming.accept_with(b"map: q2dm1")?)
        });
        let flow = asking.alloc("game").source("me").data(player).timeout(SOON).wait()?;
        server.join().expect("no panic")?;
        anyhow::Ok(flow)
    })?;
    assert_eq!(flow.data(), b"map: q2dm1");
    ensure!(flow.peer().address.starts_with("10.0.0.2:") && flow.peer().layer == "net", "{:?}", flow.peer());
    Ok(())
}

fn expect_gone(flow: &Flow, reason: EndReason) -> Result<Duration> {
    let mut buffer = [0; 2048];
    let (end, took) = timed(|| flow.recv_within(&mut buffer, SOON));
    match end {
        Err(FlowError::Gone(told)) if told == reason => Ok(took),
        other => bail!("it should be gone ({reason:?}), but reading gives {other:?} after {took:?}"),
    }
}

fn what_was_sent_is_read_before_the_end_is_told() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let (asked, accepted, _listener) = pair(&net, "echo", Cube::Raw)?;
    for n in 0..20_u8 {
        asked.send(&[n; 100])?;
    }
    asked.dealloc();
    // The end is known to the whole host before the first SDU is read.
    await_flows(&net.a, 0)?;
    let mut buffer = [0; 2048];
    for n in 0..20_u8 {
        let length = accepted.recv_within(&mut buffer, SOON)?;
        assert_eq!(buffer[..length], [n; 100]);
    }
    expect_gone(&accepted, EndReason::PeerDeallocated)?;
    match accepted.send(b"too late") {
        Err(FlowError::Gone(EndReason::PeerDeallocated)) => Ok(()),
        other => bail!("sending on a flow that is gone gives {other:?}"),
    }
}

fn killed_client(net: &Net, at: &Host) -> Result<()> {
    let listener = listen(&net.b, "echo")?;
    let mut client = at.start("oping", &["echo", "-i", "60"])?;
    let flow = listener.accept_within(SOON)?;
    let mut buffer = [0; 2048];
    flow.recv_within(&mut buffer, SOON).context("its first SDU")?;
    let reader = std::thread::scope(|scope| {
        let reader = scope.spawn(|| expect_gone(&flow, EndReason::PeerDied));
        client.kill()?;
        reader.join().expect("no panic")
    })?;
    ensure!(reader < AT_ONCE, "the reader learnt of it after {reader:?}");
    Ok(())
}

fn a_killed_client_is_told_to_its_server_at_once() -> Result<()> {
    let net = Net::up(&["echo"])?;
    killed_client(&net, &net.a)
}

fn a_killed_local_client_is_told_to_its_server_at_once() -> Result<()> {
    let net = Net::bare()?;
    killed_client(&net, &net.b)
}

fn the_first_sdu_never_races_the_connect() -> Result<()> {
    let net = Net::up(&["greeter"])?;
    let listener = listen(&net.b, "greeter")?;
    let asking = stack(&net.a)?;
    std::thread::scope(|scope| {
        let greeter = scope.spawn(|| -> Result<Vec<Flow>> {
            let mut open = Vec::new();
            for n in 0..100_u8 {
                let flow = listener.accept_within(SOON)?;
                // Before the client can know that it has a flow.
                flow.send(&[n])?;
                open.push(flow);
            }
            Ok(open)
        });
        for n in 0..100_u8 {
            let flow = asking.alloc("greeter").timeout(SOON).wait()?;
            let mut buffer = [0; 2048];
            let length = flow.recv_within(&mut buffer, SOON).with_context(|| format!("greeting {n}"))?;
            assert_eq!(buffer[..length], [n]);
        }
        greeter.join().expect("no panic").map(drop)
    })
}

fn an_empty_sdu_is_refused_and_the_limit_can_be_asked() -> Result<()> {
    for (net, limit) in [(Net::up(&["echo"])?, 1472), (Net::up6(&["echo"])?, 1452)] {
        let (asked, accepted, _listener) = pair(&net, "echo", Cube::Raw)?;
        assert_eq!((asked.sdu_limit(), accepted.sdu_limit()), (limit, limit));
        ensure!(matches!(asked.send(b""), Err(FlowError::Empty)));
        match asked.send(&vec![1; limit + 1]) {
            Err(FlowError::TooLong { limit: told, len }) => assert_eq!((told, len), (limit, limit + 1)),
            other => bail!("an SDU over the limit gives {other:?}"),
        }
        asked.send(&vec![1; limit])?;
        let mut buffer = vec![0; 4096];
        assert_eq!(accepted.recv_within(&mut buffer, SOON)?, limit);
    }
    Ok(())
}

fn a_missing_irmd_is_named_with_how_to_start_it() -> Result<()> {
    let nowhere = Stack::find(Some(Path::new("/tmp/no-such-run-dir")))?;
    let (failed, took) = timed(|| nowhere.alloc("echo").wait());
    match failed {
        Err(AllocError::IrmdUnreachable(error)) => {
            assert_eq!(error.path, Path::new("/tmp/no-such-run-dir/irmd.sock"));
            ensure!(error.to_string().contains("irmd --run-dir /tmp/no-such-run-dir"), "{error}");
        }
        other => bail!("{other:?}"),
    }
    ensure!(took < AT_ONCE, "it took {took:?}");
    Ok(())
}

fn two_programs_behind_one_name_take_turns() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let servers = [net.b.serve("echo")?, net.b.start("oping", &["--listen", "echo"])?];
    lab::wait_until(SOON, "both to accept", || {
        net.b.list("name list").is_ok_and(|rows| rows[0]["processes"].as_array().map(Vec::len) == Some(2))
            && net.b.accepting("echo").is_ok_and(|accepting| accepting >= 2)
    })?;
    let asking = stack(&net.a)?;
    let flows = (0..6).map(|_| asking.alloc("echo").timeout(SOON).wait()).collect::<Result<Vec<_>, _>>()?;
    let rows = await_flows(&net.b, flows.len())?;
    for server in &servers {
        let share = rows.iter().filter(|row| row["process"]["pid"] == server.pid()).count();
        assert_eq!(share, 3, "{rows:#?}");
    }
    Ok(())
}

fn the_examples_echo_between_two_hosts() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let server = net.b.start("examples/echo_server", &["echo"])?;
    let _server = net.b.await_server(server, "echo")?;
    let output = net.a.run("examples/echo_client", &["echo"])?;
    assert_eq!((output.code(), output.out.as_str()), (0, "hello 1\nhello 2\nhello 3"), "{}", output.err);
    Ok(())
}

/// Only where the tests run as root: a user namespace of an ordinary user has no second user.
fn another_user_uses_flows_and_administrates_nothing() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let _server = net.b.serve("echo")?;
    if !flowring_tests::harness::has_other_users() {
        eprintln!(
            "SKIPPED in part: a user namespace has one user only; run the tests as root for the rules about users"
        );
        return Ok(());
    }
    // Copies: the other user may not be able to read where the programs were built.
    for program in ["oping", "irm"] {
        std::fs::copy(lab::binaries::folder().context("prepared")?.join(program), net.a.run_dir().join(program))?;
    }
    let as_other = |program: &str, args: &[&str]| -> Result<lab::Output> {
        let copy = net.a.run_dir().join(program);
        let words = ["--reuid=65534", "--regid=65534", "--clear-groups", copy.to_str().context("utf-8")?];
        net.a.run("setpriv", &[&words, args].concat())
    };
    let output = as_other("oping", &["echo", "-c", "1"])?;
    ensure!(output.code() == 0, "{output:?}");
    for words in [vec!["config", "export"], vec!["ipcp", "destroy", "--name", "udp0"]] {
        let output = as_other("irm", &words)?;
        ensure!(output.code() == 1 && output.err.contains("65534"), "irm {words:?}: {output:?}");
    }
    Ok(())
}
