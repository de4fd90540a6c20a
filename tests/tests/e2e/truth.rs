//! One run with known numbers of SDUs, drops and refusals: list, events, status, metrics and capture tell just these.

use anyhow::{Context as _, Result, ensure};
use capture::Direction;
use flowring_tests::cases;
use flowring_tests::flows::{flow, listen, stack};
use flowring_tests::harness::Case;
use flowring_tests::net::{SOON, flows};
use lab::{Host, Lab};
use libflow::Cube;
use libflow::blocking::Flow;
use serde_json::Value;

use crate::capture::{Capture, went};
use crate::metrics::{AT, await_value, scrape, value};
use crate::see::events;

pub(crate) fn cases() -> Vec<Case> {
    cases![list_events_metrics_and_capture_tell_the_same_numbers]
}

/// SDUs that are read one by one.
const READ: u64 = 400;
const READ_BYTES: usize = 300;
/// SDUs that come while nobody reads.
const FLOOD: u64 = 3_000;
const FLOOD_BYTES: usize = 1_000;
const UNKNOWN: usize = 3;
const REFUSED: usize = 2;

fn refuse(a: &Host, b: &Host) -> Result<()> {
    let picky = listen(b, "picky")?;
    let asking = stack(a)?;
    for _ in 0..UNKNOWN {
        ensure!(asking.alloc("nowhere").timeout(SOON).wait().is_err(), "there is a flow to nowhere");
    }
    for _ in 0..REFUSED {
        std::thread::scope(|scope| {
            scope.spawn(|| picky.incoming_within(SOON)?.refuse("not today"));
            ensure!(asking.alloc("picky").timeout(SOON).wait().is_err(), "it was not refused");
            Ok(())
        })?;
    }
    Ok(())
}

/// Sends and reads what is known; how many SDUs of the flood were read, the others were dropped.
fn exchange(asked: &Flow, accepted: &Flow, dropped: impl Fn() -> Result<u64>) -> Result<u64> {
    for _ in 0..READ {
        asked.send(&[1; READ_BYTES])?;
        accepted.recv_within(&mut [0; 2_000], SOON)?;
    }
    for _ in 0..FLOOD {
        asked.send(&[2; FLOOD_BYTES])?;
    }
    let mut read = 0;
    lab::wait_until(SOON, "every SDU to be read or dropped", || {
        while accepted.try_recv(&mut [0; 2_000]).is_ok() {
            read += 1;
        }
        dropped().is_ok_and(|dropped| dropped + read == FLOOD)
    })?;
    ensure!(read < FLOOD, "the queue held them all");
    Ok(read)
}

fn counted(events: &[Value], key: &str, word: &str) -> usize {
    events.iter().filter(|event| event[key] == word).count()
}

/// What the run came to.
struct Run {
    sent: u64,
    sent_bytes: u64,
    read: u64,
    dropped: u64,
}

fn list_events_metrics_and_capture_tell_the_same_numbers() -> Result<()> {
    let lab = Lab::new()?;
    let [a, b] = lab.hosts(["a", "b"])?;
    let _daemons = [a.irmd().args(&["--metrics", AT]).start()?, b.irmd().args(&["--metrics", AT]).start()?];
    b.bootstrap(&[])?;
    a.bootstrap(&[("sink", &b), ("picky", &b)])?;
    refuse(&a, &b)?;
    let run = carry(&a, &b)?;
    metrics_tell(&a, &b, &run)?;
    events_tell(&a, &b)
}

/// A flow, what it carries, what the list and the capture say of that, and its end.
fn carry(a: &Host, b: &Host) -> Result<Run> {
    let listener = listen(b, "sink")?;
    let (asked, accepted) = flow(a, &listener, Cube::Raw)?;
    let mut capture = Capture::of(b, &accepted)?;
    let dropped = || flows(b)?[0]["socket"]["drops"].as_u64().context("no drops shown");
    let read = READ + exchange(&asked, &accepted, dropped)?;
    let dropped = dropped()?;
    let (sent, sent_bytes) = (READ + FLOOD, READ * READ_BYTES as u64 + FLOOD * FLOOD_BYTES as u64);
    ensure!(read + dropped == sent, "{read} read, {dropped} dropped of {sent}");
    let (here, there) = (flows(a)?.remove(0), flows(b)?.remove(0));
    ensure!(here["counters"]["sdus_sent"] == sent && here["counters"]["bytes_sent"] == sent_bytes, "{here:#}");
    ensure!(there["counters"]["sdus_received"] == read && there["socket"]["drops"] == dropped, "{there:#}");
    let end = |key: &str| -> Result<std::net::SocketAddr> { Ok(here[key].as_str().context(key.to_owned())?.parse()?) };
    let (local, peer) = (end("local_address")?, end("peer_address")?);
    asked.dealloc();
    let (said, packets) = capture.end()?;
    let went = went(&packets, local, peer, Direction::Inbound);
    // Without root a packet socket's room is small: what it had none for is said.
    let missed = said.split(", ").find_map(|part| part.split_once(" dropped by the kernel")?.0.parse::<u64>().ok());
    let missed = missed.with_context(|| format!("the capture says nothing of drops: {said}"))?;
    ensure!(went.len() as u64 + missed == sent, "{} datagrams in the capture: {said}", went.len());
    let bytes = went.iter().map(Vec::len).sum::<usize>() as u64;
    ensure!(missed > 0 || bytes == sent_bytes, "{bytes} bytes in the capture");
    Ok(Run { sent, sent_bytes, read, dropped })
}

fn metrics_tell(a: &Host, b: &Host, run: &Run) -> Result<()> {
    // What waits until the ends have come through.
    await_value(a, r#"flowring_flow_ends_total{reason="deallocated"}"#, 1)?;
    await_value(b, r#"flowring_flow_ends_total{reason="peer_deallocated"}"#, 1)?;
    let (here, there) = (scrape(a)?, scrape(b)?);
    for (page, sample, wanted) in [
        (&here, r#"flowring_sent_sdus_total{layer="net"}"#, run.sent),
        (&here, r#"flowring_sent_bytes_total{layer="net"}"#, run.sent_bytes),
        (&here, r#"flowring_allocation_seconds_count{side="asking",outcome="allocated"}"#, 1),
        (&here, r#"flowring_allocation_seconds_count{side="asking",outcome="refused"}"#, (UNKNOWN + REFUSED) as u64),
        (&here, r#"flowring_refusals_total{side="asking",reason="unknown_name"}"#, UNKNOWN as u64),
        (&here, r#"flowring_refusals_total{side="asking",reason="refused"}"#, REFUSED as u64),
        (&there, r#"flowring_received_sdus_total{layer="net"}"#, run.read),
        (&there, r#"flowring_datagrams_dropped_total{ipcp="udp0",reason="at_flows"}"#, run.dropped),
        (&there, r#"flowring_refusals_total{side="accepting",reason="refused"}"#, REFUSED as u64),
        (&there, r#"flowring_allocation_seconds_count{side="accepting",outcome="allocated"}"#, 1),
    ] {
        ensure!(value(page, sample) == wanted, "{sample} is not {wanted} in\n{page}");
    }
    Ok(())
}

/// The events, and what irmd adds up of them.
fn events_tell(a: &Host, b: &Host) -> Result<()> {
    let (here, there) = (events(a, &[])?, events(b, &[])?);
    for (events, key, word, wanted) in [
        (&here, "kind", "allocated", 1),
        (&here, "kind", "ended", 1),
        (&here, "kind", "refused", UNKNOWN + REFUSED),
        (&here, "failure", "unknown_name", UNKNOWN),
        (&here, "failure", "refused", REFUSED),
        (&there, "kind", "allocated", 1),
        (&there, "kind", "ended", 1),
        (&there, "kind", "refused", REFUSED),
        (&there, "failure", "refused", REFUSED),
    ] {
        ensure!(counted(events, key, word) == wanted, "{key} {word} is not {wanted} times in {events:#?}");
    }
    let status: Value = serde_json::from_str(&a.irm(&["status", "--json"])?)?;
    ensure!(status["flows_requested"] == UNKNOWN + REFUSED + 1 && status["flows_allocated"] == 1, "{status:#}");
    ensure!(status["refusals"]["unknown_name"] == UNKNOWN && status["refusals"]["refused"] == REFUSED, "{status:#}");
    Ok(())
}
