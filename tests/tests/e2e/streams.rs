//! Message flows and stream flows between hosts and within one.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::flows::{flow, listen, pattern};
use flowring_tests::harness::Case;
use flowring_tests::net::{Net, SOON, await_flows, flows};
use lab::{Lab, Link, Middlebox};
use libflow::blocking::{Flow, Stack, Stream};
use libflow::{Cube, Qos, Reason};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = cases![
        messages_pass_between_hosts,
        messages_pass_within_a_host,
        a_stream_carries_bytes_both_ways_and_ends_each_way_for_itself,
        a_stream_within_a_host_does_the_same,
        a_reset_is_no_end,
        a_program_that_dies_leaves_no_stream_that_looks_complete,
        what_was_finished_arrives_though_the_flow_ends_at_once,
        data_with_request_and_answer_is_there_when_the_flow_is,
        a_bad_link_damages_nothing,
        many_streams_share_a_flow_and_a_stalled_one_stops_no_other,
        the_tools_measure_messages_and_streams,
        flows_go_on_while_all_daemons_are_restarted,
        a_program_without_a_runtime_serves_streams,
    ];
    cases.extend(cases![middleboxes: a_nat_that_forgets_ends_no_stream, streams_pass_every_middlebox]);
    cases
}

/// A stream of a new flow, and its other end.
fn streams(asked: &Flow, accepted: &Flow) -> Result<(Stream, Stream)> {
    std::thread::scope(|scope| {
        let other = scope.spawn(|| accepted.accept_stream());
        let one = asked.open_stream()?;
        Ok((one, other.join().expect("no panic")?))
    })
}

fn exchange_messages(asked: &Flow, accepted: &Flow) -> Result<()> {
    ensure!(asked.qos().cube == Cube::Message && accepted.qos().cube == Cube::Message, "another QoS");
    let limit = asked.sdu_limit();
    ensure!(limit >= 1000, "messages of {limit} bytes are short");
    let mut buffer = vec![0; 65_536];
    for length in [1, 100, 1000] {
        for (from, to) in [(asked, accepted), (accepted, asked)] {
            let message = pattern(length);
            from.send(&message)?;
            let got = to.recv_within(&mut buffer, SOON)?;
            ensure!(buffer[..got] == message, "{got} bytes came for {length}");
        }
    }
    let long = asked.send(&vec![0; 100_000]).unwrap_err().to_string();
    ensure!(long.contains("does not fit this flow"), "{long}");
    let none = asked.open_stream().unwrap_err().to_string();
    ensure!(none == "this is a message flow, which has no streams; allocate it with Qos::stream()", "{none}");
    Ok(())
}

fn messages_pass_between_hosts() -> Result<()> {
    let net = Net::up(&["talk"])?;
    let listener = listen(&net.b, "talk")?;
    let (asked, accepted) = flow(&net.a, &listener, Cube::Message)?;
    exchange_messages(&asked, &accepted)?;
    ensure!(asked.path().is_some_and(|path| path.datagrams_sent > 3), "{:?}", asked.path());
    asked.dealloc();
    let mut buffer = [0; 100];
    let end = accepted.recv_within(&mut buffer, SOON).unwrap_err().to_string();
    ensure!(end.contains("the peer deallocated it"), "{end}");
    drop(accepted);
    await_flows(&net.b, 0).map(drop)
}

fn messages_pass_within_a_host() -> Result<()> {
    let net = Net::up(&[])?;
    let listener = listen(&net.b, "talk")?;
    let (asked, accepted) = flow(&net.b, &listener, Cube::Message)?;
    exchange_messages(&asked, &accepted)
}

/// A question of a megabyte, an answer of another after the question has ended.
fn converse(one: Stream, other: Stream) -> Result<()> {
    let (question, answer) = (pattern(1 << 20), pattern((1 << 20) + 7));
    std::thread::scope(|scope| {
        let (wanted, reply) = (&question, &answer);
        let answering = scope.spawn(move || -> Result<()> {
            let mut other = other;
            let mut got = Vec::new();
            other.read_to_end(&mut got)?;
            ensure!(got == *wanted, "{} bytes came", got.len());
            other.write_all(reply)?;
            other.finish()?;
            // The end has arrived before this end is dropped.
            ensure!(other.stopped()?.is_none(), "stopped");
            Ok(())
        });
        let mut one = one;
        one.write_all(&question)?;
        one.finish()?;
        let mut got = Vec::new();
        one.read_to_end(&mut got)?;
        ensure!(got == answer, "{} bytes came back", got.len());
        answering.join().expect("no panic")
    })
}

fn a_stream_carries_bytes_both_ways_and_ends_each_way_for_itself() -> Result<()> {
    let net = Net::up(&["talk"])?;
    let listener = listen(&net.b, "talk")?;
    let (asked, accepted) = flow(&net.a, &listener, Cube::Stream)?;
    for _ in 0..3 {
        let (one, other) = streams(&asked, &accepted)?;
        converse(one, other)?;
        // Either side opens.
        let (one, other) = streams(&accepted, &asked)?;
        converse(one, other)?;
    }
    exchange_on_stream_flow(&asked, &accepted)
}

/// Messages go beside streams.
fn exchange_on_stream_flow(asked: &Flow, accepted: &Flow) -> Result<()> {
    asked.send(b"beside")?;
    let mut buffer = [0; 100];
    let got = accepted.recv_within(&mut buffer, SOON)?;
    ensure!(&buffer[..got] == b"beside", "{got} bytes");
    Ok(())
}

fn a_stream_within_a_host_does_the_same() -> Result<()> {
    let net = Net::up(&[])?;
    let listener = listen(&net.b, "talk")?;
    let (asked, accepted) = flow(&net.b, &listener, Cube::Stream)?;
    for _ in 0..3 {
        let (one, other) = streams(&asked, &accepted)?;
        converse(one, other)?;
        let (one, other) = streams(&accepted, &asked)?;
        converse(one, other)?;
    }
    exchange_on_stream_flow(&asked, &accepted)?;
    reset_is_told(&asked, &accepted)
}

fn reset_is_told(asked: &Flow, accepted: &Flow) -> Result<()> {
    let (mut one, mut other) = streams(asked, accepted)?;
    one.write_all(b"half of it")?;
    let mut buffer = [0; 10];
    other.read_exact(&mut buffer)?;
    one.reset(Reason(42));
    let end = other.read(&mut buffer).unwrap_err();
    ensure!(end.kind() == std::io::ErrorKind::ConnectionReset, "{end:?}");
    ensure!(end.to_string().contains("reset by its sender (reason 42)"), "{end}");
    // The other half was stopped with it: writing fails as soon as that is known.
    let stopped = loop {
        if let Err(error) = other.write_all(&[0; 10_000]) {
            break error;
        }
    };
    ensure!(stopped.to_string().contains("stopped by its receiver (reason 42)"), "{stopped}");
    Ok(())
}

fn a_reset_is_no_end() -> Result<()> {
    let net = Net::up(&["talk"])?;
    let listener = listen(&net.b, "talk")?;
    let (asked, accepted) = flow(&net.a, &listener, Cube::Stream)?;
    reset_is_told(&asked, &accepted)?;
    // Dropped without being finished: no end either.
    let (mut one, mut other) = streams(&asked, &accepted)?;
    one.write_all(b"half")?;
    drop(one);
    let mut got = Vec::new();
    let end = other.read_to_end(&mut got).unwrap_err();
    ensure!(end.kind() == std::io::ErrorKind::ConnectionReset, "{end:?}");
    Ok(())
}

/// With the example of the manual, in a process of its own that is killed in the middle of a text.
fn a_program_that_dies_leaves_no_stream_that_looks_complete() -> Result<()> {
    let net = Net::up(&["words"])?;
    for (from, at) in [(&net.a, &net.b), (&net.b, &net.b)] {
        let listener = listen(at, "words")?;
        let mut client = from.start("examples/word_client", &[] as &[&str])?;
        let mut input = client.input().context("its input")?;
        input.write_all(&pattern(100).iter().map(|byte| b'a' + byte % 26).collect::<Vec<_>>())?;
        drop(input);
        let flow = listener.accept_within(SOON)?;
        let mut stream = flow.accept_stream()?;
        let mut text = [0; 100];
        stream.read_exact(&mut text)?;
        // It has finished its half and waits for the answer: which never ends well, since it dies.
        client.kill()?;
        let error = loop {
            if let Err(error) = stream.write_all(&[0; 100_000]) {
                break error;
            }
        };
        ensure!(error.kind() != std::io::ErrorKind::WriteZero, "{error:?}");
    }
    Ok(())
}

fn what_was_finished_arrives_though_the_flow_ends_at_once() -> Result<()> {
    let net = Net::up(&["talk"])?;
    net.b.link().set(Link { delay: Duration::from_millis(10), loss: 0.02, seed: 3, ..Link::CLEAN })?;
    let listener = listen(&net.b, "talk")?;
    for asking_ends in [true, false] {
        let (asked, accepted) = flow(&net.a, &listener, Cube::Stream)?;
        let (one, other) = streams(&asked, &accepted)?;
        let (ending, reading) =
            if asking_ends { ((asked, one), (accepted, other)) } else { ((accepted, other), (asked, one)) };
        let sent = pattern(300_000);
        std::thread::scope(|scope| {
            let sent = &sent;
            let reader = scope.spawn(move || -> Result<()> {
                let (_flow, mut stream) = reading;
                let mut got = Vec::new();
                stream.read_to_end(&mut got)?;
                ensure!(got == *sent, "{} bytes came", got.len());
                Ok(())
            });
            let (flow, mut stream) = ending;
            stream.write_all(sent)?;
            stream.finish()?;
            drop(stream);
            flow.dealloc();
            reader.join().expect("no panic")
        })?;
    }
    Ok(())
}

fn data_with_request_and_answer_is_there_when_the_flow_is() -> Result<()> {
    let net = Net::up(&["talk"])?;
    let listener = listen(&net.b, "talk")?;
    let asking = Stack::find(Some(net.a.run_dir()))?;
    std::thread::scope(|scope| {
        let accepted = scope.spawn(|| -> Result<Flow> {
            let incoming = listener.incoming_within(SOON)?;
            ensure!(incoming.data() == b"player one" && incoming.source() == "me", "{incoming:?}");
            Ok(incoming.accept_with("seat 7")?)
        });
        let alloc = asking.alloc("talk").qos(Qos::stream()).source("me").data("player one").timeout(SOON);
        let asked = alloc.wait()?;
        let accepted = accepted.join().expect("no panic")?;
        ensure!(asked.data() == b"seat 7" && accepted.data() == b"player one", "data got lost");
        Ok(())
    })
}

fn a_bad_link_damages_nothing() -> Result<()> {
    let net = Net::up(&["talk"])?;
    let listener = listen(&net.b, "talk")?;
    net.b.link().set(Link {
        delay: Duration::from_millis(10),
        loss: 0.03,
        reorder: 0.02,
        reorder_by: Duration::from_millis(5),
        duplicate: 0.02,
        corrupt: 0.01,
        seed: 9,
        ..Link::CLEAN
    })?;
    let (asked, accepted) = flow(&net.a, &listener, Cube::Stream)?;
    let (one, other) = streams(&asked, &accepted)?;
    converse(one, other)
}

fn many_streams_share_a_flow_and_a_stalled_one_stops_no_other() -> Result<()> {
    let net = Net::up(&["talk"])?;
    let listener = listen(&net.b, "talk")?;
    let (asked, accepted) = flow(&net.a, &listener, Cube::Stream)?;
    // Nobody reads these; their writers stop when the window is full.
    let stalled: Vec<_> = (0..10).map(|_| streams(&asked, &accepted)).collect::<Result<_>>()?;
    std::thread::scope(|scope| {
        for (one, _) in stalled {
            scope.spawn(move || {
                let mut one = one;
                // Ends when the flow does.
                while one.write_all(&[1; 65_536]).is_ok() {}
            });
        }
        for _ in 0..20 {
            let (one, other) = streams(&asked, &accepted)?;
            converse(one, other)?;
        }
        accepted.end();
        asked.end();
        Ok(())
    })
}

fn the_tools_measure_messages_and_streams() -> Result<()> {
    let net = Net::up(&["perf", "echo"])?;
    let server = net.b.start("operf", &["--listen", "perf"])?;
    let server = net.b.await_server(server, "perf")?;
    for qos in ["message", "stream"] {
        for more in [&["--rtt"][..], &[], &["--reverse"], &["--alloc"]] {
            let words = [&["perf", "--qos", qos, "-t", "0.3", "--json"], more].concat();
            let output = net.a.run("operf", &words)?;
            ensure!(output.code() == 0, "operf {}: {} {}", words.join(" "), output.out, output.err);
            let json: serde_json::Value = serde_json::from_str(&output.out)?;
            ensure!(qos != "stream" || json["lost_sdus"].as_u64().unwrap_or(0) == 0, "{json}");
        }
    }
    drop(server);
    let _echo = net.b.serve("echo")?;
    let output = net.a.run("oping", &["echo", "--qos", "message", "-c", "3", "-i", "0.05"])?;
    ensure!(output.code() == 0 && output.out.contains("message flow"), "{} {}", output.out, output.err);
    Ok(())
}

fn flows_go_on_while_all_daemons_are_restarted() -> Result<()> {
    let mut net = Net::up(&["talk"])?;
    let listener = listen(&net.b, "talk")?;
    let (asked, accepted) = flow(&net.a, &listener, Cube::Stream)?;
    let (mut one, mut other) = streams(&asked, &accepted)?;
    let id = asked.id();
    one.write_all(b"before")?;
    let mut got = [0; 6];
    other.read_exact(&mut got)?;
    net.irmd_a.process().kill()?;
    net.irmd_b.process().kill()?;
    one.write_all(b"during")?;
    other.read_exact(&mut got)?;
    ensure!(&got == b"during", "{got:?}");
    let _again = (net.a.irmd().start()?, net.b.irmd().start()?);
    lab::wait_until(SOON, "the flow is listed again", || {
        flows(&net.a)
            .is_ok_and(|rows| rows.iter().any(|row| row["qos"]["cube"] == "stream" && row["state"] == "allocated"))
    })?;
    ensure!(asked.id() == id, "another id");
    let (first, second) = streams(&asked, &accepted)?;
    converse(first, second)?;
    one.write_all(b"behind")?;
    other.read_exact(&mut got)?;
    ensure!(&got == b"behind", "{got:?}");
    Ok(())
}

/// The listener's and the asking side's programs of these tests have no runtime: so it is shown everywhere; here with many.
fn a_program_without_a_runtime_serves_streams() -> Result<()> {
    let net = Net::up(&["talk"])?;
    let listener = listen(&net.b, "talk")?;
    let mut kept = Vec::new();
    for _ in 0..20 {
        kept.push(flow(&net.a, &listener, Cube::Stream)?);
    }
    for (asked, accepted) in &kept {
        let (mut one, mut other) = streams(asked, accepted)?;
        one.write_all(b"hello")?;
        let mut got = [0; 5];
        other.read_exact(&mut got)?;
        ensure!(&got == b"hello", "{got:?}");
    }
    Ok(())
}

/// The client's NAT gives it another port in the middle of a stream.
fn a_nat_that_forgets_ends_no_stream() -> Result<()> {
    let lab = Lab::new()?;
    let [server] = lab.hosts(["server"])?;
    let client = lab.host_behind("client", Middlebox::SymmetricRandom)?;
    let net = Net::of(lab, client, server)?;
    net.a.bootstrap(&[("talk", &net.b)])?;
    net.b.bootstrap(&[])?;
    let listener = listen(&net.b, "talk")?;
    for cube in [Cube::Stream, Cube::Message] {
        let (asked, accepted) = flow(&net.a, &listener, cube)?;
        if cube == Cube::Stream {
            let (one, other) = streams(&asked, &accepted)?;
            converse(one, other)?;
            net.a.forget_mappings()?;
            let (one, other) = streams(&asked, &accepted)?;
            converse(one, other)?;
        } else {
            exchange_messages(&asked, &accepted)?;
            net.a.forget_mappings()?;
            // The first ones open the way anew, and may be lost.
            let mut buffer = [0; 100];
            lab::wait_until(SOON, "messages pass both ways again", || {
                asked.send(b"here I am").is_ok()
                    && accepted.recv_within(&mut buffer, Duration::from_millis(200)).is_ok()
                    && accepted.send(b"there you are").is_ok()
                    && asked.recv_within(&mut buffer, Duration::from_millis(200)).is_ok()
            })?;
        }
    }
    Ok(())
}

fn streams_pass_every_middlebox() -> Result<()> {
    for kind in Middlebox::ALL {
        let lab = Lab::new()?;
        let [server] = lab.hosts(["server"])?;
        let client = lab.host_behind("client", kind)?;
        let net = Net::of(lab, client, server)?;
        net.a.bootstrap(&[("talk", &net.b)])?;
        net.b.bootstrap(&[])?;
        let listener = listen(&net.b, "talk")?;
        let (asked, accepted) = flow(&net.a, &listener, Cube::Stream)?;
        let (one, other) = streams(&asked, &accepted)?;
        converse(one, other).with_context(|| format!("behind {kind}"))?;
    }
    Ok(())
}
