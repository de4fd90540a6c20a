//! What `irm flow capture` writes, and what `flowdump` and Wireshark's dissector make of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use capture::{Direction, Sent};
use flowring_tests::cases;
use flowring_tests::flows::{carry, flow, listen, pattern};
use flowring_tests::harness::Case;
use flowring_tests::net::{Net, SOON, await_flows};
use lab::{Host, Lab, Running, Signal};
use libflow::blocking::{Flow, Stack};
use libflow::{AllocError, Cube};
use serde_json::Value;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = cases![
        a_capture_holds_each_sdu_of_a_raw_flow_once,
        a_capture_over_ipv6_does_the_same,
        batches_are_cut_as_they_go_over_the_wire,
        a_capture_of_a_stream_flow_has_quic_only,
        a_capture_ends_at_its_count_and_when_nobody_reads_it,
        what_cannot_be_captured_is_said_in_one_sentence,
    ];
    cases.extend(cases![programs ["setpriv"]: without_the_capability_it_is_named]);
    cases.extend(cases![programs ["tshark"]:
        wireshark_reads_names_kinds_ids_qos_answers_and_reasons, wireshark_reads_the_names_of_2016]);
    cases
}

const SDUS: u32 = 300;

/// In the program: its copies run where the repository cannot be read.
const SCRIPT: &str = include_str!("../../../tools/wireshark/flowring.lua");

/// `irm flow capture` at a host, once it captures.
pub(crate) struct Capture {
    irm: Running,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Capture {
    fn start(host: &Host, what: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("flow.pcapng");
        let words = [&["flow", "capture", "-w", text(&file)?], what].concat();
        let irm = host.start("irm", &words)?;
        irm.expect_log(SOON, "Ctrl-C stops")?;
        Ok(Self { irm, file, _folder: folder })
    }

    pub(crate) fn of(host: &Host, flow: &Flow) -> Result<Self> {
        Self::start(host, &[&flow.id().to_string()])
    }

    /// Its end: what it said, and what is in the file.
    pub(crate) fn end(&mut self) -> Result<(String, Vec<Sent>)> {
        let output = self.irm.wait(SOON)?;
        ensure!(output.code() == 0, "{}", output.err);
        let sent = capture::sent(&std::fs::read(&self.file)?)?;
        Ok((output.err, sent))
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path of text")
}

/// SDUs of different lengths, each with its number.
fn sdu(number: u32) -> Vec<u8> {
    let mut sdu = pattern(20 + (number as usize * 7) % 1_200);
    sdu[..4].copy_from_slice(&number.to_be_bytes());
    sdu
}

fn exchange(asked: &Flow, accepted: &Flow) -> Result<()> {
    let mut buffer = [0; 2_048];
    for number in 0..SDUS {
        asked.send(&sdu(number))?;
        accepted.recv_within(&mut buffer, SOON)?;
        if number % 3 == 0 {
            accepted.send(&sdu(number + SDUS))?;
            asked.recv_within(&mut buffer, SOON)?;
        }
    }
    Ok(())
}

/// Both ends of a flow, as a host lists it.
fn ends(host: &Host) -> Result<[SocketAddr; 2]> {
    let row = await_flows(host, 1)?.remove(0);
    let end = |key: &str| -> Result<SocketAddr> { Ok(row[key].as_str().context("an address")?.parse()?) };
    Ok([end("local_address")?, end("peer_address")?])
}

/// What went one way between two addresses, as the capture tells its direction.
pub(crate) fn went(sent: &[Sent], from: SocketAddr, to: SocketAddr, direction: Direction) -> Vec<Vec<u8>> {
    let right = |one: &&Sent| one.from == from && one.to == to && one.direction == Some(direction);
    sent.iter().filter(right).map(|one| one.payload.clone()).collect()
}

/// Each SDU once, in its order, both ways; dealloc and its acknowledgement between the shims; nothing else.
fn holds_all(net: &Net) -> Result<()> {
    let listener = listen(&net.b, "talk")?;
    let (asked, accepted) = flow(&net.a, &listener, Cube::Raw)?;
    // Another flow between the two is none of it.
    let (other, other_end) = flow(&net.a, &listener, Cube::Raw)?;
    let rows = await_flows(&net.a, 2)?;
    let row = rows.iter().find(|row| row["id"] == asked.id().0).context("the flow's row")?;
    let end = |key: &str| -> Result<SocketAddr> { Ok(row[key].as_str().context("an address")?.parse()?) };
    let (local, peer) = (end("local_address")?, end("peer_address")?);
    let mut captures = [Capture::of(&net.a, &asked)?, Capture::of(&net.b, &accepted)?];
    exchange(&other, &other_end)?;
    exchange(&asked, &accepted)?;
    asked.dealloc();
    let up: Vec<_> = (0..SDUS).map(sdu).collect();
    let down: Vec<_> = (0..SDUS).step_by(3).map(|number| sdu(number + SDUS)).collect();
    let ways = [(Direction::Outbound, Direction::Inbound), (Direction::Inbound, Direction::Outbound)];
    for (number, (capture, (there, back))) in captures.iter_mut().zip(ways).enumerate() {
        // The accepting side's program has read its end now.
        let (said, sent) = capture.end()?;
        ensure!(said.contains("has ended") && said.contains(", 0 dropped by the kernel"), "{said}");
        ensure!(went(&sent, local, peer, there) == up, "capture {number}: other SDUs went up: {said}");
        ensure!(went(&sent, peer, local, back) == down, "capture {number}: other SDUs went down");
        let rest = sent.len() - up.len() - down.len();
        let shims = sent.iter().filter(|one| one.payload.starts_with(b"\0Flow\x01")).count();
        ensure!(rest == shims && shims >= 2, "capture {number}: {rest} others, {shims} of the shims");
        let dump = dump(if number == 0 { &net.a } else { &net.b }, &capture.file)?;
        let total = dump.last().context("a line")?;
        let (near, far) = if number == 0 { (up.len(), down.len()) } else { (down.len(), up.len()) };
        // The label says this host's end first: nobody saw who asked.
        ensure!(total["client_sent"]["datagrams"] == near && total["server_sent"]["datagrams"] == far, "{total}");
        ensure!(dump.iter().any(|row| row["control"] == "dealloc"), "{dump:?}");
    }
    Ok(())
}

/// The lines of `flowdump --json`.
fn dump(host: &Host, file: &Path) -> Result<Vec<Value>> {
    let output = host.run("flowdump", &["--json", text(file)?])?;
    ensure!(output.code() == 0, "flowdump: {}", output.err);
    output.out.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

fn a_capture_holds_each_sdu_of_a_raw_flow_once() -> Result<()> {
    holds_all(&Net::up(&["talk"])?)
}

fn a_capture_over_ipv6_does_the_same() -> Result<()> {
    holds_all(&Net::up6(&["talk"])?)
}

/// On the loopback, where the kernel leaves batches whole.
fn batches_are_cut_as_they_go_over_the_wire() -> Result<()> {
    let lab = Lab::on_loopback()?;
    let [a, b] = lab.hosts(["a", "b"])?;
    let net = Net::of(lab, a, b)?;
    net.a.bootstrap(&[("talk", &net.b)])?;
    net.b.bootstrap(&[])?;
    let listener = listen(&net.b, "talk")?;
    let (asked, accepted) = flow(&net.a, &listener, Cube::Raw)?;
    let [local, peer] = ends(&net.a)?;
    let mut capture = Capture::of(&net.a, &asked)?;
    let bytes = pattern(40 * 1_000 + 300);
    let mut left = &bytes[..];
    let mut buffer = [0; 2_048];
    let mut got = Vec::new();
    while !left.is_empty() {
        let sent = asked.send_batch(left, 1_000)?;
        let length = left.len().min(sent * 1_000);
        left = &left[length..];
        while got.len() < bytes.len() - left.len() {
            let length = accepted.recv_within(&mut buffer, SOON)?;
            got.extend_from_slice(&buffer[..length]);
        }
    }
    ensure!(got == bytes, "other bytes came");
    asked.dealloc();
    let (said, sent) = capture.end()?;
    let seen = went(&sent, local, peer, Direction::Outbound);
    let lengths: Vec<usize> = seen.iter().map(Vec::len).collect();
    if said.contains("does not say where it cuts") {
        // A kernel before 6.2.
        ensure!(lengths.iter().sum::<usize>() == bytes.len(), "{lengths:?}: {said}");
    } else {
        ensure!(lengths == [vec![1_000; 40], vec![300]].concat(), "{lengths:?}: {said}");
    }
    ensure!(seen.concat() == bytes, "other bytes are in the capture");
    Ok(())
}

fn a_capture_of_a_stream_flow_has_quic_only() -> Result<()> {
    let net = Net::up(&["talk"])?;
    let listener = listen(&net.b, "talk")?;
    let (asked, accepted) = flow(&net.a, &listener, Cube::Stream)?;
    let [local, peer] = ends(&net.b)?;
    let mut capture = Capture::of(&net.b, &accepted)?;
    let secret = pattern(200_000);
    carry(&asked, &accepted, &secret)?;
    drop((asked, accepted));
    let (_, sent) = capture.end()?;
    let quic: Vec<_> =
        sent.iter().filter(|one| [one.from, one.to] == [local, peer] || [one.to, one.from] == [local, peer]).collect();
    ensure!(quic.iter().map(|one| one.payload.len()).sum::<usize>() > secret.len(), "less than was sent");
    // RFC 9000, 17: the second bit of each packet is set.
    ensure!(
        quic.iter().all(|one| one.payload.first().is_some_and(|first| first & 0x40 != 0)),
        "something else than QUIC"
    );
    ensure!(sent.iter().all(|one| !one.payload.windows(32).any(|part| part == &secret[..32])), "plaintext");
    let shims = sent.iter().filter(|one| one.payload.starts_with(b"\0Flow")).count();
    ensure!(quic.len() + shims == sent.len(), "{} + {shims} of {}", quic.len(), sent.len());
    Ok(())
}

fn a_capture_ends_at_its_count_and_when_nobody_reads_it() -> Result<()> {
    let net = Net::up(&["talk"])?;
    let listener = listen(&net.b, "talk")?;
    let (asked, accepted) = flow(&net.a, &listener, Cube::Raw)?;
    let id = asked.id().to_string();
    let mut counted = Capture::start(&net.a, &[&id, "--count", "5", "--snap", "64"])?;
    let mut stopped = Capture::start(&net.a, &[&id])?;
    let shell =
        net.a.start("sh", &["-c", "\"$0\" flow capture \"$1\" -w - | head -c 1000 > /dev/null", &irm()?, &id])?;
    shell.expect_log(SOON, "Ctrl-C stops")?;
    exchange(&asked, &accepted)?;
    let output = counted.irm.wait(SOON)?;
    ensure!(output.err.contains("captured 5 datagrams"), "{}", output.err);
    // Cut to 64 bytes, and said so: only the first, of 20 bytes, is whole.
    ensure!(capture::sent(&std::fs::read(&counted.file)?)?.len() == 1, "longer than 64 bytes");
    let said = net.a.run("flowdump", &["-d", text(&counted.file)?])?;
    ensure!(said.out.contains("5 packets: 0 of the shims, 5 of flows, 4 cut off by the capture"), "{}", said.out);
    let mut shell = shell;
    let output = shell.wait(SOON)?;
    ensure!(output.err.contains("nobody reads it any more"), "{}", output.err);
    stopped.irm.signal(Signal::INT)?;
    let (said, sent) = stopped.end()?;
    ensure!(said.contains(&format!("captured {} datagrams", SDUS + SDUS / 3)) && !said.contains("ended"), "{said}");
    ensure!(sent.len() as u32 == SDUS + SDUS / 3, "{} datagrams", sent.len());
    Ok(())
}

/// Where irm is.
fn irm() -> Result<String> {
    let path = lab::binaries::folder().context("the programs")?.join("irm");
    Ok(text(&path)?.to_owned())
}

fn refusal(host: &Host, words: &[&str]) -> Result<String> {
    let output = host.run("irm", &[&["flow", "capture"], words].concat())?;
    ensure!(output.code() != 0 && output.err.trim().lines().count() == 1, "{output:?}");
    Ok(output.err)
}

fn what_cannot_be_captured_is_said_in_one_sentence() -> Result<()> {
    let net = Net::up(&["talk"])?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("x");
    let file = text(&file)?;
    let local = listen(&net.a, "here")?;
    let (one, _other) = flow(&net.a, &local, Cube::Raw)?;
    let said = refusal(&net.a, &[&one.id().to_string(), "-w", file])?;
    ensure!(said.contains("stays within this host") && said.contains("irm flow show"), "{said}");
    let said = refusal(&net.a, &["9999", "-w", file])?;
    ensure!(said.contains("no flow 9999"), "{said}");
    let listener = listen(&net.b, "talk")?;
    let (asked, _accepted) = flow(&net.a, &listener, Cube::Raw)?;
    let id = asked.id().to_string();
    let said = refusal(&net.a, &[&id, "-w", "/nowhere/x"])?;
    ensure!(said.contains("cannot write /nowhere/x"), "{said}");
    let said = refusal(&net.a, &[&id, "-w", file, "-i", "nodev0"])?;
    ensure!(said.contains("no device nodev0"), "{said}");
    // Another network than the IPCP's: b asks a's irmd.
    let run_dir = text(net.a.run_dir())?;
    let said = refusal(&net.b, &[&id, "-w", file, "--run-dir", run_dir])?;
    ensure!(said.contains("no address of the network that irm runs in"), "{said}");
    drop(asked);
    await_flows(&net.b, 0)?;
    let said = refusal(&net.a, &[&id, "-w", file])?;
    ensure!(said.contains(&id) && !said.contains("CAP_NET_RAW"), "{said}");
    Ok(())
}

fn without_the_capability_it_is_named() -> Result<()> {
    let net = Net::up(&["talk"])?;
    let listener = listen(&net.b, "talk")?;
    let (asked, _accepted) = flow(&net.a, &listener, Cube::Raw)?;
    let (irm, id) = (irm()?, asked.id().to_string());
    let words = ["--bounding-set", "-net_raw", "--inh-caps", "-all", &irm, "flow", "capture", &id, "-w", "/dev/null"];
    let output = net.a.run("setpriv", &words)?;
    ensure!(output.code() == 2 && output.err.trim().lines().count() == 1, "{output:?}");
    ensure!(output.err.contains("CAP_NET_RAW") && output.err.contains("setcap cap_net_raw+ep"), "{}", output.err);
    Ok(())
}

/// A capture of a name has the allocation, a refusal with its reason, and the flow; the dissector names all of it.
fn wireshark_reads_names_kinds_ids_qos_answers_and_reasons() -> Result<()> {
    let net = Net::up(&["talk"])?;
    let listener = listen(&net.b, "talk")?;
    let mut capture = Capture::start(&net.a, &["--name", "talk"])?;
    let stack = Stack::find(Some(net.a.run_dir()))?;
    std::thread::scope(|scope| {
        scope.spawn(|| listener.incoming_within(SOON)?.refuse("come back on Monday"));
        match stack.alloc("talk").timeout(SOON).wait() {
            Err(AllocError::Refused { .. }) => Ok(()),
            other => Err(anyhow::anyhow!("{other:?}")),
        }
    })?;
    let (asked, accepted) = flow(&net.a, &listener, Cube::Raw)?;
    exchange(&asked, &accepted)?;
    asked.dealloc();
    await_flows(&net.b, 0)?;
    lab::wait_until(SOON, "the acknowledgement of the dealloc", || {
        dump(&net.a, &capture.file).is_ok_and(|rows| rows.iter().any(|row| row["control"] == "dealloc ack"))
    })?;
    capture.irm.signal(Signal::INT)?;
    capture.end()?;
    let rows = dump(&net.a, &capture.file)?;
    let total = rows.last().context("a line")?;
    ensure!(total["client_sent"]["datagrams"] == SDUS && total["server_sent"]["datagrams"] == SDUS / 3, "{total}");
    let fields = ["kind", "name", "client_id", "server_id", "qos.cube", "verdict", "reason", "control"];
    let seen = dissected(&net.a, &capture.file, &fields)?;
    // What flowdump says of the same file, datagram by datagram.
    let shims: Vec<&Value> = rows
        .iter()
        .filter(|row| ["request", "answer", "control"].contains(&row["kind"].as_str().unwrap_or("")))
        .collect();
    ensure!(seen.len() == shims.len(), "{} and {}: {seen:?}", seen.len(), shims.len());
    for (line, row) in seen.iter().zip(&shims) {
        is_said_the_same(line, row)?;
    }
    for (verdict, reason) in [("refused", Some("come back on Monday")), ("ACCEPTED", None)] {
        ensure!(shims.iter().any(|row| row["verdict"] == verdict && row["reason"].as_str() == reason), "no {verdict}");
    }
    Ok(())
}

/// What the dissector shows of a capture, and flowdump in `--json`.
fn is_said_the_same(line: &[String], row: &Value) -> Result<()> {
    const VERDICTS: [&str; 11] = [
        "PENDING",
        "ACCEPTED",
        "refused",
        "unknown name",
        "nobody accepts",
        "not permitted",
        "unsupported QoS",
        "exhausted",
        "version",
        "RECOVERING",
        "cookie wanted",
    ];
    const CONTROLS: [&str; 5] = ["dealloc", "dealloc ack", "probe", "alive", "no such flow"];
    let [kind, name, client, server, cube, verdict, reason, control] = line else { anyhow::bail!("{line:?}") };
    let same = |shown: &str, key: &str| shown == row[key].as_str().unwrap_or_default();
    let id = |shown: &str, key: &str| same(shown.trim_start_matches("0x"), key);
    let numbered = |shown: &str, words: &[&str], key: &Value| {
        shown.parse::<usize>().ok().and_then(|n| words.get(n - 1)).copied() == key.as_str()
    };
    ensure!(numbered(kind, &["request", "answer", "control"], &row["kind"]), "{line:?}: {row}");
    ensure!(same(name, "name") && id(client, "client_id") && id(server, "server_id"), "{line:?}: {row}");
    ensure!(same(reason, "reason") && numbered(verdict, &VERDICTS, &row["verdict"]), "{line:?}: {row}");
    ensure!(numbered(control, &CONTROLS, &row["control"]), "{line:?}: {row}");
    ensure!(numbered(cube, &["raw", "message", "stream"], &row["qos"]["cube"]), "{line:?}: {row}");
    Ok(())
}

/// The dissector's fields of each datagram that it knows, as tshark prints them.
fn dissected(host: &Host, file: &Path, fields: &[&str]) -> Result<Vec<Vec<String>>> {
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("flowring.lua");
    std::fs::write(&script, SCRIPT)?;
    let script = format!("lua_script:{}", text(&script)?);
    let mut words = ["-X", &script, "-r", text(file)?, "-Y", "flowring", "-T", "fields", "-E", "separator=|"]
        .map(str::to_owned)
        .to_vec();
    for field in fields {
        words.extend(["-e".to_owned(), format!("flowring.{field}")]);
    }
    let output = host.run("tshark", &words)?;
    ensure!(output.code() == 0, "tshark: {}", output.err);
    Ok(output.out.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect())
}

/// The six captures of 2016: which datagrams are requests and echoes, and of which name.
fn wireshark_reads_the_names_of_2016() -> Result<()> {
    let net = Net::bare()?;
    let folder = tempfile::tempdir()?;
    let (request, echo) = ("4", "5");
    let table: [(&str, &[u8], &[&str], &str); 6] = [
        ("flow", include_bytes!("../../../proto/tests/wire/flow-4d348ef9s.pcap"), &[request, echo], "echo-server"),
        ("unknown", include_bytes!("../../../proto/tests/wire/unknown-name.pcap"), &[request, echo], "echo-server"),
        (
            "refused",
            include_bytes!("../../../proto/tests/wire/refused-by-server-app.pcap"),
            &[request, echo],
            "echo-server",
        ),
        (
            "doubled",
            include_bytes!("../../../proto/tests/wire/c-server-duplicate-request.pcap"),
            &[request, echo, request, echo],
            "echo-server",
        ),
        (
            "edge",
            include_bytes!("../../../proto/tests/wire/c-server-edge-requests.pcap"),
            &[request, echo, request, echo, request, echo, request, echo],
            "nobody",
        ),
        (
            "scripted",
            include_bytes!("../../../proto/tests/wire/c-client-vs-scripted-server.pcap"),
            &[request, echo, request, echo, request, request, request, echo, request, echo, request],
            "echo-server",
        ),
    ];
    for (name, bytes, kinds, last) in table {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes)?;
        let seen = dissected(&net.a, &file, &["kind", "name"])?;
        ensure!(seen.iter().map(|line| line[0].as_str()).eq(kinds.iter().copied()), "{name}: {seen:?}");
        ensure!(seen.iter().all(|line| line[1] == "echo-server" || line[1] == last), "{name}: {seen:?}");
        ensure!(seen.last().is_some_and(|line| line[1] == last), "{name}: {seen:?}");
    }
    Ok(())
}
