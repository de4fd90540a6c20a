//! Flows through a rendezvous, shim to shim: from `flow_alloc` to SDUs and to the end.

use sim::{Kind, Link};

use super::host::Answering;
use super::model::Told;
use super::world::World;
use super::*;

fn link(delay: u64) -> Link {
    Link { delay: ms(delay), ..Link::default() }
}

fn met(kinds: [Kind; 2]) -> World {
    let mut world = World::through_rendezvous(1, kinds, &link(5));
    world.settle();
    world.run(3_000);
    world
}

/// What the last caller was told: that it has a flow, or why not.
fn told(world: &World) -> Result<(), Failure> {
    match world.hosts[0].story.asked.last().unwrap().told.first() {
        Some((_, Told::Allocated)) => Ok(()),
        Some((_, Told::Failed(failure))) => Err(failure.clone()),
        _ => panic!("nothing was told"),
    }
}

#[test]
fn a_flow_between_two_nats_is_a_flow_like_any_other() {
    let mut world = met([Kind::PortRestricted, Kind::PortRestricted]);
    let flow = world.ask(0, "echo", 5_000);
    world.run_until_told();
    told(&world).unwrap();
    world.run(1_000);
    let shim = world.hosts[0].shim.as_ref().unwrap();
    assert_eq!(shim.row(world.now, flow).unwrap().way, "public");
    world.everybody_talks();
    world.run(1_000);
    world.check().unwrap();
}

/// Each kind that can meet does, and the flow's end is told through both boxes.
#[test]
fn ends_are_told_through_both_nats() {
    for kinds in [
        [Kind::FullCone, Kind::SymmetricRandom],
        [Kind::SymmetricRandom, Kind::AddressRestricted],
        [Kind::Firewall, Kind::CarrierPortRestricted],
        [Kind::PortRestricted, Kind::Open],
    ] {
        let mut world = met(kinds);
        let flow = world.ask(0, "echo", 5_000);
        world.run_until_told();
        told(&world).unwrap();
        world.run(2_000);
        assert_eq!(world.hosts[1].live().len(), 1, "{kinds:?}");
        world.hosts[0].leave(world.now, flow, false);
        world.settle();
        world.run(3_000);
        assert_eq!(world.hosts[1].live().len(), 0, "{kinds:?}: the other side heard of the end");
    }
}

/// An idle flow lives on: both NATs' mappings are kept, and both shims hear each other.
#[test]
fn an_idle_flow_stays_for_an_hour() {
    let mut world = met([Kind::PortRestricted, Kind::FullCone]);
    world.ask(0, "echo", 5_000);
    world.run_until_told();
    world.run(3_600_000);
    assert_eq!((world.hosts[0].live().len(), world.hosts[1].live().len()), (1, 1));
    world.everybody_talks();
    world.check().unwrap();
}

#[test]
fn what_cannot_meet_fails_with_both_nats_named() {
    let mut world = met([Kind::SymmetricRandom, Kind::SymmetricRandom]);
    world.ask(0, "echo", 8_000);
    world.run_until_told();
    let failure = told(&world).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::TimedOut);
    assert!(failure.message.contains("a relay would do") && failure.message.contains("symmetric"), "{failure}");
    world.run(10_000);
    for host in &world.hosts {
        host.shim.as_ref().unwrap().assert_empty();
        assert_eq!(host.open_sockets(), 0);
    }
}

/// Two symmetric NATs: the flow goes through the relay, its end is told through the server, and it lives idle.
#[test]
fn what_cannot_meet_is_relayed() {
    for kinds in [[Kind::SymmetricRandom; 2], [Kind::SymmetricRandom, Kind::Firewall]] {
        let mut world = World::through_rendezvous(1, kinds, &link(5));
        world.server.as_mut().unwrap().1.relays = true;
        world.settle();
        world.run(5_000);
        let flow = world.ask(0, "echo", 5_000);
        world.run_until_told();
        told(&world).unwrap();
        assert!(world.hosts[0].story.asked[0].took().unwrap() < ms(1_500), "the relay is asked soon");
        let shim = world.hosts[0].shim.as_ref().unwrap();
        assert_eq!(shim.row(world.now, flow).unwrap().way, "relayed");
        world.run(3_600_000);
        assert_eq!((world.hosts[0].live().len(), world.hosts[1].live().len()), (1, 1));
        world.everybody_talks();
        world.run(1_000);
        world.hosts[0].leave(world.now, flow, false);
        world.settle();
        world.run(3_000);
        assert_eq!(world.hosts[1].live().len(), 0, "the other side heard of the end");
        world.check().unwrap();
    }
}

/// In whichever moment something falls silent for good, the program is told within the time that it gave.
#[test]
fn a_caller_hears_within_its_deadline_whatever_falls_silent() {
    let silent = Link { loss: 1.0, ..link(5) };
    type Falls<'a> = (&'a str, &'a dyn Fn(&mut World));
    let falls: [Falls<'_>; 4] = [
        ("the server", &|world| world.server.as_mut().unwrap().1.up = false),
        ("the other host", &|world| world.hosts[1].crash(world.now, 60_000)),
        ("its program", &|world| world.hosts[1].manners.answering = Answering::Never),
        ("the network", &|world| world.relink(&silent, &silent)),
    ];
    for kinds in [[Kind::PortRestricted, Kind::AddressRestricted], [Kind::SymmetricRandom; 2]] {
        for relays in [false, true] {
            for (what, fall) in &falls {
                for after in (0..1_200).step_by(30) {
                    let mut world = met(kinds);
                    world.server.as_mut().unwrap().1.relays = relays;
                    world.ask(0, "echo", 2_500);
                    world.run(after);
                    fall(&mut world);
                    world.run_until_told();
                    let waited = world.hosts[0].story.asked[0].waited().expect("an answer");
                    assert!(waited <= ms(2_500), "{kinds:?}, {what} after {after} ms: {waited:?}");
                }
            }
        }
    }
}

/// The machine is paused under both shims, for longer than silence may last: their flows live.
#[test]
fn flows_outlive_a_pause_of_the_machine() {
    for paused in [21_000, 60_000, 3_600_000] {
        let mut world = met([Kind::PortRestricted, Kind::Firewall]);
        world.ask(0, "echo", 5_000);
        world.run_until_told();
        world.run(7_000);
        world.now += ms(paused);
        world.run(60_000);
        assert_eq!((world.hosts[0].live().len(), world.hosts[1].live().len()), (1, 1), "{paused} ms");
        // A peer that vanished is noticed as soon as ever.
        world.hosts[1].crash(world.now, 600_000);
        world.run(30_000);
        assert_eq!(world.hosts[0].live().len(), 0);
    }
}

#[test]
fn a_name_that_nobody_has_is_unknown() {
    let mut world = met([Kind::PortRestricted, Kind::PortRestricted]);
    world.ask(0, "nowhere", 5_000);
    world.run_until_told();
    assert_eq!(told(&world).unwrap_err().kind(), FailureKind::UnknownName);
}

/// A refusal is heard, though datagrams are lost.
#[test]
fn a_refusal_is_heard() {
    for seed in 0..20 {
        let lossy = Link { loss: 0.1, ..link(5) };
        let mut world = World::through_rendezvous(seed, [Kind::PortRestricted, Kind::Firewall], &lossy);
        world.settle();
        world.run(10_000);
        world.hosts[1].manners.answering = Answering::Refuse { after: 10 };
        world.ask(0, "echo", 5_000);
        world.run_until_told();
        let failure = told(&world).unwrap_err();
        assert!(matches!(failure.kind(), FailureKind::Refused), "seed {seed}: {failure}");
        world.run(10_000);
        world.hosts[1].shim.as_ref().unwrap().assert_empty();
    }
}

/// With one datagram in ten lost, flows come about all the same, and only once.
#[test]
fn loss_makes_no_second_flow() {
    for seed in 0..20 {
        let lossy = Link { loss: 0.05, jitter: ms(3), duplicate: 0.05, ..link(5) };
        let mut world = World::through_rendezvous(seed, [Kind::FullCone, Kind::SymmetricSequential], &lossy);
        world.settle();
        world.run(10_000);
        world.ask(0, "echo", 8_000);
        world.run_until_told();
        told(&world).unwrap();
        world.run(2_000);
        assert_eq!(world.hosts[1].live().len(), 1, "seed {seed}");
        world.check().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

/// Asked before this host is a member: the flow waits for that.
#[test]
fn a_flow_waits_for_the_session() {
    let mut world = World::through_rendezvous(3, [Kind::PortRestricted, Kind::Firewall], &link(5));
    world.server.as_mut().unwrap().1.up = false;
    world.settle();
    world.run(100);
    world.ask(0, "echo", 5_000);
    world.run(400);
    world.server.as_mut().unwrap().1.up = true;
    // Whether the other has joined in time by then is a matter of chance; a second later it has.
    world.run_until_told();
    world.run(1_000);
    world.ask(0, "echo", 5_000);
    world.run_until_told();
    told(&world).unwrap();
    let unfound = World::through_rendezvous(3, [Kind::PortRestricted, Kind::Firewall], &link(5));
    let words = unfound.hosts[0].shim.as_ref().unwrap().session_words().unwrap();
    assert!(words.contains("is not found yet"), "{words}");
    let mut silent = World::through_rendezvous(3, [Kind::PortRestricted, Kind::Firewall], &link(5));
    silent.server.as_mut().unwrap().1.up = false;
    silent.settle();
    silent.ask(0, "echo", 1_000);
    silent.run_until_told();
    let failure = told(&silent).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::DirectoryFailed, "{failure}");
}

/// The server ends, and flows do not notice.
#[test]
fn flows_outlive_the_rendezvous() {
    let mut world = met([Kind::PortRestricted, Kind::Firewall]);
    world.ask(0, "echo", 5_000);
    world.run_until_told();
    world.run(1_000);
    world.server.as_mut().unwrap().1.up = false;
    world.run(600_000);
    assert_eq!((world.hosts[0].live().len(), world.hosts[1].live().len()), (1, 1));
    let server = &mut world.server.as_mut().unwrap().1;
    server.up = true;
    server.restart();
    world.run(60_000);
    world.ask(0, "echo", 5_000);
    world.run_until_told();
    told(&world).unwrap();
    assert_eq!(world.hosts[1].live().len(), 2);
    world.check().unwrap();
}

/// The host has another address. What is bound to the one of before ends, where that is gone: the program is told, and the peer hears
/// it from the new one.
#[test]
fn what_was_on_an_address_that_is_gone_ends_on_both_sides() {
    for gone in [false, true] {
        let mut world = met([Kind::PortRestricted, Kind::FullCone]);
        world.hosts[1].follows = false;
        world.ask(0, "echo", 5_000);
        world.run_until_told();
        told(&world).unwrap();
        world.run(1_000);
        let now = world.now;
        let (before, shim) = (world.hosts[1].listen, world.hosts[1].shim.as_mut().unwrap());
        shim.moved(now, "192.168.77.7:3359".parse().unwrap());
        if gone {
            shim.lost_address(now, before.ip());
        }
        world.settle();
        world.run(3_000);
        let live = (world.hosts[0].live().len(), world.hosts[1].live().len());
        assert_eq!(live, if gone { (0, 0) } else { (1, 1) }, "gone: {gone}");
    }
}

/// A shim that restarts is brought its flows, and both sides go on to speak of them.
#[test]
fn flows_outlive_their_shim() {
    let mut world = met([Kind::PortRestricted, Kind::Firewall]);
    world.ask(0, "echo", 5_000);
    world.run_until_told();
    world.run(1_000);
    world.hosts[0].crash(world.now, 500);
    world.run(120_000);
    assert_eq!((world.hosts[0].live().len(), world.hosts[1].live().len()), (1, 1));
    world.check().unwrap();
}

/// Lives that visit every row of the table that is of flows through a rendezvous.
pub(super) fn directed() -> std::collections::BTreeSet<(Phase, table::Cause, Phase)> {
    let strict = [Kind::PortRestricted, Kind::PortRestricted];
    type Happens = fn(&mut World);
    let lives: [(Happens, [Kind; 2]); 9] = [
        (|_| {}, strict),
        (|_| {}, [Kind::SymmetricRandom; 2]),
        (|world| world.hosts[1].manners.answering = Answering::Refuse { after: 1 }, strict),
        (|world| world.hosts[1].manners.answering = Answering::Never, strict),
        (|world| world.hosts[1].manners.trouble = 100, strict),
        (|world| meanwhile(world, |host, flow, now| host.shim.as_mut().unwrap().cancel(now, flow), 0), strict),
        (|world| meanwhile(world, |host, _, now| host.shim.as_mut().unwrap().stop(now), 1), strict),
        (|world| answered(world, |shim, now, key| shim.connected(now, key, Err("trouble".into()))), strict),
        (|world| answered(world, |shim, now, _| assert!(shim.dealloc(now, FlowId(9)))), strict),
    ];
    let mut seen = std::collections::BTreeSet::new();
    for (happens, kinds) in lives {
        let mut world = met(kinds);
        happens(&mut world);
        if world.hosts[0].story.asked.is_empty() {
            world.ask(0, "echo", 4_000);
        }
        world.run(12_000);
        world.hosts.iter_mut().for_each(|host| seen.extend(host.seen()));
    }
    seen
}

/// Something happens while the two sides have not found each other.
fn meanwhile(world: &mut World, happens: fn(&mut super::host::Host, FlowId, Instant), to: usize) {
    let flow = world.ask(0, "echo", 4_000);
    // The socket on the other side is there after 20 ms, and a path after 60.
    world.run(30);
    let now = world.now;
    happens(&mut world.hosts[to], flow, now);
    world.settle();
}

/// Something happens while the accepting side's socket is being connected.
fn answered(world: &mut World, happens: fn(&mut Shim, Instant, Key)) {
    world.hosts[1].manners.answering = Answering::Never;
    world.ask(0, "echo", 4_000);
    world.run(1_000);
    let (now, host) = (world.now, &mut world.hosts[1]);
    let key = *host.arrived.keys().next().unwrap();
    let shim = host.shim.as_mut().unwrap();
    shim.answered(now, key, Ok(Accept { flow: FlowId(9), owner: owner(), data: vec![] }));
    // The kernel has not connected it yet.
    while !matches!(shim.poll_output(), Some(Output::Connect { .. }) | None) {}
    happens(shim, now, key);
}
