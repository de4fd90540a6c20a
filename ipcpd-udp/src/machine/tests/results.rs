//! What the simulation says of allocation: under loss, and behind middleboxes. The tables of docs/loss.md.

use std::fmt::Write as _;

use sim::{Kind, Link};

use super::model::Told;
use super::world::World;
use super::*;

const SEEDS: u64 = 200;
const LOSSES: [u32; 6] = [0, 1, 5, 10, 20, 30];
const RTTS: [u64; 4] = [1, 20, 100, 200];
const NOTHING: Link = Link {
    delay: Duration::ZERO,
    jitter: Duration::ZERO,
    loss: 0.0,
    bursts: None,
    reorder: 0.0,
    hold: Duration::ZERO,
    duplicate: 0.0,
    corrupt: 0.0,
    rate: None,
};

/// Half a round trip, and this much lost; one in twenty datagrams is overtaken, one in a hundred doubled.
fn bad_way(rtt: u64, loss: u32) -> Link {
    let delay = Duration::from_micros(rtt * 500);
    let (reorder, duplicate) = (0.05, 0.01);
    Link { delay, jitter: delay / 10, loss: f64::from(loss) / 100.0, reorder, hold: delay * 2, duplicate, ..NOTHING }
}

/// Where the server's flows are.
#[derive(Clone, Copy, PartialEq)]
enum Ports {
    Own,
    Listen,
}

fn world(seed: u64, kind: Kind, ports: Ports) -> World {
    let mut world = World::new(seed, kind, &NOTHING);
    if ports == Ports::Listen {
        world.share(1);
    }
    world
}

/// An allocation with the default deadline: how long it took, if it succeeded, and how many datagrams both sides sent.
fn allocate(seed: u64, way: &Link, known: bool, ports: Ports) -> (Option<Duration>, u64) {
    let mut world = world(seed, Kind::Open, ports);
    if known {
        // It also knows how far the host is.
        world.relink(&Link { delay: way.delay, ..NOTHING }, &NOTHING);
        let flow = world.ask(0, "echo", 5000);
        world.run(1000);
        world.hosts[0].leave(world.now, flow, false);
        world.settle();
        world.run(5000);
    }
    world.relink(way, &NOTHING);
    let before = world.net.tally().sent;
    world.ask(0, "echo", 5000);
    world.run_until_told();
    (world.hosts[0].story.asked.last().and_then(|asked| asked.took()), world.net.tally().sent - before)
}

fn at(sorted: &[Duration], percent: usize) -> String {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).map_or("–".to_owned(), |time| format!("{}", time.as_millis()))
}

fn cell(way: &Link, known: bool, ports: Ports) -> String {
    let all: Vec<_> = (0..SEEDS).map(|seed| allocate(seed, way, known, ports)).collect();
    let mut took: Vec<Duration> = all.iter().filter_map(|(took, _)| *took).collect();
    took.sort();
    let datagrams: u64 = all.iter().map(|(_, sent)| sent).sum();
    let mean = datagrams * 10 / SEEDS;
    format!("{} | {} | {} | {}.{}", took.len(), at(&took, 50), at(&took, 99), mean / 10, mean % 10)
}

fn loss_table(rtts: &[u64], ports: Ports) -> String {
    let mut text = format!(
        "| loss each way | RTT ms | first contact: of {SEEDS} | median ms | p99 ms | datagrams | known host: of {SEEDS} | median ms | p99 ms | datagrams |\n\
         |---|---|---|---|---|---|---|---|---|---|\n"
    );
    for loss in LOSSES {
        for &rtt in rtts {
            let way = bad_way(rtt, loss);
            let [first, known] = [false, true].map(|known| cell(&way, known, ports));
            let _ = writeln!(text, "| {loss} % | {rtt} | {first} | {known} |");
        }
    }
    text
}

#[test]
fn allocation_under_loss() {
    snapshot::page_has("../docs/loss.md", "loss table", &loss_table(&RTTS, Ports::Own));
}

#[test]
fn allocation_on_the_listen_port_under_loss() {
    snapshot::page_has("../docs/loss.md", "one port loss table", &loss_table(&[20, 200], Ports::Listen));
}

const RTT: u64 = 100;

/// A flow from behind the box to an open host, if it comes to one.
fn behind(kind: Kind, ports: Ports) -> (World, FlowId, Option<FlowId>) {
    let half = Link { delay: ms(RTT / 2), ..NOTHING };
    let mut world = world(1, kind, ports);
    world.relink(&half, &NOTHING);
    let flow = world.ask(0, "echo", 5000);
    world.run_until_told();
    world.run(RTT);
    let theirs = world.hosts[1].live().into_keys().next();
    (world, flow, theirs)
}

/// Whether an SDU of each side arrives.
fn carries(world: &mut World) -> bool {
    world.everybody_talks();
    world.run(RTT);
    world.hosts.iter().all(|host| host.story.read.len() == 1)
}

/// Whether the end of a flow is heard by the other side's shim within a few seconds.
fn end_is_heard(kind: Kind, ports: Ports, from: usize) -> bool {
    let (mut world, ours, theirs) = behind(kind, ports);
    let flows = [Some(ours), theirs];
    let (Some(mine), Some(other)) = (flows[from], flows[1 - from]) else { return false };
    world.hosts[from].leave(world.now, mine, false);
    world.settle();
    world.run(5000);
    world.hosts[1 - from].story.ends[&other].was_told()
}

fn row(kind: Kind, ports: Ports) -> String {
    let (mut world, ..) = behind(kind, ports);
    let sent = world.net.tally().sent;
    let asked = world.hosts[0].story.asked[0].clone();
    let yes = |is: bool| if is { "yes" } else { "no" };
    match (&asked.told[..], asked.took()) {
        (_, Some(took)) => {
            let trips = took.as_millis() as u64 / RTT;
            let sdus = yes(carries(&mut world));
            let [heard, told] = [0, 1].map(|from| yes(end_is_heard(kind, ports, from)));
            format!("allocated | {trips} | {} | {sent} | {sdus} | {heard} | {told}", took.as_millis())
        }
        ([(_, Told::Failed(failure))], _) => {
            format!(
                "{} | – | – | {sent} | – | – | –",
                failure.kind().as_str_name().trim_start_matches("FAILURE_KIND_").to_lowercase().replace('_', " ")
            )
        }
        other => format!("{other:?}"),
    }
}

fn middlebox_table(ports: Ports) -> String {
    let mut text = "| before the client | outcome | round trips | ms | datagrams | SDUs both ways | server hears dealloc | client hears dealloc |\n\
                    |---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for kind in Kind::ALL {
        let _ = writeln!(text, "| {} | {} |", kind.as_str(), row(kind, ports));
    }
    text
}

#[test]
fn allocation_behind_middleboxes() {
    snapshot::page_has("../docs/loss.md", "middlebox table", &middlebox_table(Ports::Own));
}

#[test]
fn allocation_on_the_listen_port_behind_middleboxes() {
    snapshot::page_has("../docs/loss.md", "one port middlebox table", &middlebox_table(Ports::Listen));
}

/// How long the other side's shim takes to hear of a dealloc, where so many in a hundred datagrams are lost.
#[test]
fn a_dealloc_is_heard_of_under_loss() {
    let mut text =
        "| loss each way | of | heard by the peer's shim | median ms | p99 ms |\n|---|---|---|---|---|\n".to_owned();
    for loss in LOSSES {
        let took = |seed: u64| {
            let mut world = World::new(seed, Kind::Open, &NOTHING);
            world.ask(0, "echo", 5000);
            world.run(2000);
            world.relink(&bad_way(100, loss), &NOTHING);
            let from = (seed % 2) as usize;
            let [mine, other] = [from, 1 - from].map(|n| world.hosts[n].live().into_keys().next().unwrap());
            let start = world.now;
            world.hosts[from].leave(start, mine, false);
            world.settle();
            world.run_until(30_000, |world| world.hosts[1 - from].story.ends[&other].was_told());
            world.hosts[1 - from].story.ends[&other].was_told().then_some(world.now - start)
        };
        let mut all: Vec<Duration> = (0..SEEDS).filter_map(took).collect();
        all.sort();
        let _ = writeln!(text, "| {loss} % | {SEEDS} | {} | {} | {} |", all.len(), at(&all, 50), at(&all, 99));
    }
    snapshot::page_has("../docs/loss.md", "dealloc table", &text);
}
