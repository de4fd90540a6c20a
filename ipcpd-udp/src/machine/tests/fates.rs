//! Two machines on a bad network: all short fates. Long random ones: [`super::lives`].

use sim::{Fate, Kind, Link};

use super::host::Answering;
use super::model::Told;
use super::world::World;
use super::*;

const FATES: [Fate; 4] = [Fate::Deliver, Fate::Lose, Fate::Double, Fate::Delay(Duration::from_millis(700))];

/// The first `n` datagrams meet the fates that `choice` of all 4^n spells; those behind them arrive.
pub(super) fn script(world: &mut World, choice: u32, n: u32) {
    let mut left = (choice, n);
    world.net.script(move |_| {
        let (choice, n) = left;
        if n == 0 {
            return Fate::Deliver;
        }
        left = (choice / 4, n - 1);
        FATES[(choice % 4) as usize]
    });
}

/// All fates of the first `n` datagrams.
fn all_fates(n: u32, answering: Answering, dealloc_after: Option<u64>) {
    for choice in 0..4u32.pow(n) {
        let mut world = World::kind();
        script(&mut world, choice, n);
        world.hosts[1].manners.answering = answering;
        world.ask(0, "echo", 5000);
        if let Some(after) = dealloc_after {
            world.run(after);
            for host in 0..2 {
                for flow in world.hosts[host].live().into_keys() {
                    world.hosts[host].leave(world.now, flow, false);
                    world.settle();
                }
            }
        }
        let context = format!("choice {choice} of 4^{n}, {answering:?}");
        world.run(6000);
        assert_eq!(world.hosts[0].story.asked[0].told.len(), 1, "the deadline is over: {context}");
        assert!(world.hosts[1].programs.len() <= 1, "never a second flow: {context}");
        world.check().unwrap_or_else(|what| panic!("{what}: {context}"));
    }
}

#[test]
fn every_fate_of_an_accepted_allocation() {
    all_fates(6, Answering::Accept { after: 0 }, None);
}

#[test]
fn every_fate_of_a_slow_acceptance() {
    all_fates(5, Answering::Accept { after: 1600 }, None);
}

#[test]
fn every_fate_of_a_refusal() {
    all_fates(5, Answering::Refuse { after: 10 }, None);
}

#[test]
fn every_fate_where_nobody_accepts() {
    all_fates(4, Answering::Never, None);
}

#[test]
fn every_fate_of_an_allocation_and_its_dealloc() {
    all_fates(6, Answering::Accept { after: 0 }, Some(1000));
}

#[test]
fn a_good_network_costs_no_datagram_too_many() {
    let mut world = World::kind();
    let flow = world.ask(0, "echo", 5000);
    world.run(5000);
    assert!(matches!(world.hosts[0].story.asked[0].told[..], [(_, Told::Allocated)]));
    let first = 6;
    assert_eq!(
        world.net.tally().sent,
        first,
        "request, PENDING, acceptance twice; probe and answer, once per pair of hosts"
    );
    world.hosts[0].leave(world.now, flow, false);
    world.settle();
    world.run(10_000);
    assert_eq!(world.net.tally().sent, first + 2, "dealloc, ack");
    world.ask(0, "echo", 5000);
    world.run(5000);
    let second = first + 2 + 5;
    assert_eq!(world.net.tally().sent, second, "acceptance once: the client has said that it hears sp");
    world.check().unwrap();
}

#[test]
fn a_flow_whose_caller_gave_up_unheard_is_found_behind_a_firewall() {
    // Nothing says that its port is closed, and its caller's shim probes for another flow all the time.
    let mut world = World::new(1, Kind::Firewall, &Link { delay: ms(50), ..Link::default() });
    world.ask(0, "echo", 5000);
    world.run(1000);
    let flow = world.ask(0, "echo", 5000);
    world.hosts[0].cancel(world.now, flow);
    world.settle();
    world.run(1000);
    assert_eq!(world.hosts.each_ref().map(|host| host.live().len()), [1, 2]);
    world.run(30_000);
    assert_eq!(world.hosts.each_ref().map(|host| host.live().len()), [1, 1]);
    world.check().unwrap();
}

#[test]
fn bytes_from_anywhere_break_nothing() {
    use proptest::prelude::*;
    let ports = [B, B_FLOW, "10.0.0.9:1", "10.0.0.1:3359"];
    proptest!(|(inputs in proptest::collection::vec((0usize..4, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..80), 0u8..5), 1..20))| {
        let mut bench = Bench::new();
        let (asking, extension, request) = bench.asking(bench.ask(1, "echo"));
        let (_, ours, theirs) = { let mut other = Bench::new(); other.held(2) };
        for (port, listen, noise, base) in inputs {
            // Noise behind and inside of what reads well.
            let mut bytes = match base {
                0 => Vec::new(),
                1 => request.clone(),
                2 => answer(extension.client, WireId(4), Verdict::Accepted).encode(&name("echo")),
                3 => Control { kind: ControlKind::Probe, host: HostId(1), boot: BootId(1), sender: theirs, receiver: ours }.encode().to_vec(),
                _ => extended("here", 3),
            };
            for pair in noise.chunks(2) {
                match (bytes.len(), pair) {
                    (0, _) => bytes.extend_from_slice(pair),
                    (n, [at, byte]) => bytes[usize::from(*at) * 7 % n] = *byte,
                    (_, [byte]) => bytes.push(*byte),
                    _ => {}
                }
            }
            let via = if listen { Via::Listen } else { Via::Flow(asking) };
            bench.shim.handle_datagram(bench.now, via, addr(ports[port]), &bytes);
            prop_assert!(bench.outputs().len() <= 4);
        }
        bench.shim.stop(bench.now);
        for _ in 0..1000 {
            if bench.shim.poll_timeout().is_none() { break }
            bench.next();
        }
        prop_assert_eq!(bench.shim.poll_timeout(), None);
    });
}
