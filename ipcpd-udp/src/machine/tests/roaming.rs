//! Message and stream flows whose hosts go somewhere else, and whose paths end.

use proto::Cube;
use proto::shim::{Control, ControlKind};
use proto::v1::EndReason;
use sim::{Kind, Link};

use super::super::rendezvous::predict::Level;
use super::super::rendezvous::tests::server::Server;
use super::host::Host;
use super::model::Told;
use super::world::World;
use super::*;

const CUBES: [Cube; 3] = [Cube::Raw, Cube::Message, Cube::Stream];

fn link() -> Link {
    Link { delay: ms(5), ..Link::default() }
}

fn server(world: &mut World) -> &mut Server {
    &mut world.server.as_mut().unwrap().1
}

/// Two members behind these.
fn members(seed: u64, kinds: [Kind; 2], link: &Link, relays: bool) -> World {
    let mut world = World::through_rendezvous(seed, kinds, link);
    server(&mut world).relays = relays;
    world.settle();
    world.run(10_000);
    world
}

/// The next flow of this cube.
fn flow(world: &mut World, cube: Cube) -> FlowId {
    while CUBES[((world.hosts[0].flows + 1) % 3) as usize] != cube {
        world.hosts[0].flows += 1;
    }
    let flow = world.ask(0, "echo", 5_000);
    world.run_until_told();
    assert!(matches!(world.hosts[0].story.asked.last().unwrap().told[..], [(_, Told::Allocated)]));
    flow
}

fn rows(host: &Host, now: Instant) -> Vec<Row> {
    host.shim.as_ref().unwrap().rows(now, Key(0), 99)
}

fn ways(world: &World) -> [Vec<&'static str>; 2] {
    [0, 1].map(|host| rows(&world.hosts[host], world.now).iter().map(|row| row.way).collect())
}

/// What programs send arrives, and the rows say where both ends are.
fn goes_on(world: &mut World, flows: usize, what: &str) {
    for host in 0..2 {
        let own = world.hosts[host].listen.ip();
        let rows = rows(&world.hosts[host], world.now);
        assert_eq!(rows.len(), flows, "{what}: at {host}");
        for row in rows {
            assert_eq!(row.local.map(|local| local.ip()), Some(own), "{what}: at {host}");
            assert_eq!(row.state, proto::v1::FlowState::Allocated, "{what}: at {host}");
        }
    }
    let read = [0, 1].map(|host| world.hosts[host].story.read.len());
    // Some SDUs look like what shims say, which programs do not see.
    for _ in 0..8 {
        world.everybody_talks();
        world.run(100);
    }
    for (host, read) in read.into_iter().enumerate() {
        let since = &world.hosts[host].story.read[read..];
        let of = since.iter().map(|(flow, _)| *flow).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(of.len(), flows, "{what}: what {} sent does not arrive", 1 - host);
    }
}

fn counted(world: &World, host: usize, reason: Reason) -> u64 {
    world.hosts[host].shim.as_ref().unwrap().counters().get(reason)
}

/// Long enough for two attempts, shorter than any timeout.
const SOON: u64 = 15_000;

#[test]
fn flows_go_along_whoever_goes_and_wherever() {
    let kinds = [Kind::Open, Kind::Firewall, Kind::FullCone, Kind::PortRestricted];
    for (number, [before, there]) in kinds.into_iter().flat_map(|a| kinds.map(|b| [a, b])).enumerate() {
        for goes in [&[0][..], &[1], &[0, 1]] {
            let what = format!("{goes:?} go from {before:?} to {there:?}");
            let mut world = members(number as u64, [before; 2], &link(), false);
            flow(&mut world, Cube::Message);
            flow(&mut world, Cube::Stream);
            world.run(1_000);
            goes_on(&mut world, 2, &what);
            for host in goes {
                world.goes(*host, there);
            }
            world.run(SOON);
            goes_on(&mut world, 2, &what);
            for host in goes.iter().rev() {
                world.goes(*host, before);
            }
            world.run(SOON);
            goes_on(&mut world, 2, &format!("{what} and back"));
            world.run(120_000);
            goes_on(&mut world, 2, &format!("{what}, later"));
            world.check().unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    }
}

#[test]
fn loss_and_restarts_part_nobody() {
    for seed in 0..30 {
        let bad = Link { loss: 0.05, jitter: ms(3), duplicate: 0.05, ..link() };
        let mut world = members(seed, [Kind::PortRestricted, Kind::FullCone], &bad, seed % 2 == 0);
        flow(&mut world, Cube::Stream);
        flow(&mut world, Cube::Message);
        world.run(seed * 100);
        let goes = (seed % 2) as usize;
        world.goes(goes, Kind::PortRestricted);
        world.run(seed * 37);
        // Of either side, before it is where it wants to be, or behind.
        world.hosts[(seed / 2 % 2) as usize].crash(world.now, 500);
        world.run(SOON);
        world.goes(1 - goes, Kind::PortRestricted);
        world.run(SOON);
        assert_eq!([0, 1].map(|host| world.hosts[host].live().len()), [2, 2], "seed {seed}");
        world.check().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

/// Its ipcpd was not there when its host went.
#[test]
fn a_host_goes_while_its_shim_is_down() {
    for host in 0..2 {
        let mut world = members(1, [Kind::PortRestricted; 2], &link(), false);
        flow(&mut world, Cube::Stream);
        world.run(1_000);
        world.hosts[host].crash(world.now, 2_000);
        world.run(1_000);
        world.goes(host, Kind::PortRestricted);
        world.run(SOON);
        goes_on(&mut world, 1, &format!("{host}"));
        world.check().unwrap();
    }
}

/// From where nothing but the relay works, through that; from one such place to another; and from there to a direct path again.
#[test]
fn the_relay_is_a_path_too() {
    for goes in 0..2 {
        let mut world = members(1, [Kind::PortRestricted; 2], &link(), true);
        flow(&mut world, Cube::Stream);
        flow(&mut world, Cube::Message);
        for time in 0..3 {
            world.goes(goes, Kind::SymmetricRandom);
            world.run(SOON);
            assert_eq!(ways(&world), [["relayed"; 2]; 2], "{time}. of {goes}");
            goes_on(&mut world, 2, &format!("{time}. of {goes}"));
        }
        // The other one, too, and both shims anew.
        world.goes(1 - goes, Kind::PortRestricted);
        world.run(SOON);
        goes_on(&mut world, 2, "the other");
        world.hosts[0].crash(world.now, 500);
        world.hosts[1].crash(world.now, 500);
        world.run(SOON);
        goes_on(&mut world, 2, "after restarts");
        world.goes(goes, Kind::Open);
        world.run(2 * SOON);
        assert!(ways(&world).iter().flatten().all(|way| *way != "relayed"), "{:?}", ways(&world));
        goes_on(&mut world, 2, "direct again");
        world.check().unwrap();
    }
}

/// Nobody goes anywhere: a box forgets, and lets in nobody whom it does not know.
#[test]
fn a_path_that_ends_is_not_the_end() {
    let mut world = members(1, [Kind::PortRestricted; 2], &link(), true);
    flow(&mut world, Cube::Stream);
    flow(&mut world, Cube::Message);
    world.run(1_000);
    world.rebox(1, Kind::SymmetricRandom);
    world.forget(1);
    world.run(2 * SOON - 5_000);
    assert_eq!(ways(&world), [["relayed"; 2]; 2]);
    goes_on(&mut world, 2, "through the relay");
    world.check().unwrap();
}

/// A box that gives other ports forgets: the listen port's is another one when the server next hears it, and so is the flow's.
#[test]
fn a_box_that_forgot_is_seen_at_its_port() {
    for kinds in [[Kind::SymmetricRandom, Kind::Open], [Kind::Open, Kind::SymmetricRandom]] {
        let mut world = members(1, kinds, &link(), false);
        flow(&mut world, Cube::Stream);
        world.run(1_000);
        goes_on(&mut world, 1, &format!("{kinds:?}"));
        let boxed = usize::from(kinds[0] == Kind::Open);
        world.forget(boxed);
        world.run(30_000);
        assert!(counted(&world, 0, Reason::PathsMoved) > 0, "{kinds:?}");
        goes_on(&mut world, 1, &format!("{kinds:?}, later"));
        world.check().unwrap();
    }
}

/// Two members between whom the flow is dead, though their listen ports hear each other, and programs that talk, for so long.
fn dead_flow(seed: u64, kinds: [Kind; 2], bad: &Link, time: u64) -> World {
    let mut world = members(seed, kinds, &link(), false);
    flow(&mut world, Cube::Stream);
    world.everybody_talks();
    // The server will not hear for some time who has another port.
    let joins = server(&mut world).joins;
    world.run_until(30_000, |world| world.server.as_ref().unwrap().1.joins >= joins + 2);
    world.relink(bad, bad);
    world.forget(usize::from(kinds[0] == Kind::Open));
    for _ in 0..time / 500 {
        world.everybody_talks();
        world.run(500);
    }
    world
}

/// Its NAT forgot, and gives other ports: nothing comes on the flow any more, and that is enough.
#[test]
fn a_deaf_flow_looks_for_a_path() {
    let mut world = dead_flow(1, [Kind::SymmetricRandom, Kind::Open], &link(), 17_000);
    assert!(counted(&world, 0, Reason::PathsMoved) > 0);
    goes_on(&mut world, 1, "later");
    world.check().unwrap();
}

/// The asking side hears all that is sent; the other, whose NAT forgot, hears nothing, and says so, until it is heard.
#[test]
fn a_deaf_side_that_was_asked_says_so() {
    for seed in 0..20 {
        let bad = Link { loss: if seed == 0 { 0.0 } else { 0.2 }, ..link() };
        let mut world =
            dead_flow(seed, [Kind::Open, Kind::SymmetricRandom], &bad, if seed == 0 { 17_000 } else { 40_000 });
        assert!(counted(&world, 0, Reason::PathsMoved) > 0, "seed {seed}");
        world.relink(&link(), &link());
        world.run(1_000);
        goes_on(&mut world, 1, "later");
        world.check().unwrap();
    }
}

/// The server sees both where they were, and the asking side hears all: it looks because it is told to.
#[test]
fn who_was_asked_and_hears_nothing_is_believed() {
    let mut world = members(1, [Kind::PortRestricted; 2], &link(), false);
    flow(&mut world, Cube::Stream);
    world.run(1_000);
    let now = world.now;
    let shim = world.hosts[1].shim.as_mut().unwrap();
    let key = *shim.flows.keys().next().unwrap();
    for (at, sent) in [(now - ms(4_000), 0), (now - ms(4_000), 1), (now, 2)] {
        shim.looked(at, key, 0, sent);
    }
    world.settle();
    world.run(1_000);
    assert_eq!(counted(&world, 0, Reason::PathsSought), 0, "two datagrams may be lost");
    let shim = world.hosts[1].shim.as_mut().unwrap();
    for (at, sent) in [(now - ms(4_000), 0), (now - ms(4_000), 1), (now, 3)] {
        shim.looked(at, key, 0, sent);
    }
    world.settle();
    world.run(1_000);
    assert_eq!(counted(&world, 0, Reason::PathsSought), 1);
    goes_on(&mut world, 1, "all the same");
    world.check().unwrap();
}

/// Who is not the one that was asked, or does not know the flow's ids, makes nobody look.
#[test]
fn only_the_peer_says_that_it_is_adrift() {
    let mut world = members(1, [Kind::PortRestricted; 2], &link(), false);
    flow(&mut world, Cube::Stream);
    world.run(1_000);
    let says = |world: &mut World, to: usize, wrong: u64| {
        let now = world.now;
        let [ours, theirs] = rows(&world.hosts[1 - to], now)[0].ids;
        let from = &world.hosts[1 - to];
        let (host, boot, listen) = (from.settings.host, from.settings.boot, from.listen);
        let control =
            Control { kind: ControlKind::Moved, host, boot, sender: ours, receiver: WireId(theirs.0 ^ wrong) };
        let shim = world.hosts[to].shim.as_mut().unwrap();
        shim.handle_datagram(now, Via::Listen, listen, &control.encode());
        world.settle();
        world.run(1_000);
    };
    for (to, wrong) in [(0, 1), (1, 0), (1, 1)] {
        says(&mut world, to, wrong);
        assert_eq!([0, 1].map(|host| counted(&world, host, Reason::PathsSought)), [0; 2], "{to} {wrong}");
    }
    for _ in 0..20 {
        says(&mut world, 0, 0);
    }
    assert!((1..=5).contains(&counted(&world, 0, Reason::PathsSought)), "as often as it may");
    goes_on(&mut world, 1, "all the same");
    world.check().unwrap();
}

/// One side talks and the other is mute, as no transport is that confirms what it gets; nothing is found, and nothing is lost.
#[test]
fn a_flow_that_nobody_answers_goes_on() {
    let mut world = members(1, [Kind::PortRestricted; 2], &link(), true);
    let asked = flow(&mut world, Cube::Message);
    for _ in 0..600 {
        world.talk(0, asked);
        world.run(1_000);
    }
    let sought = counted(&world, 0, Reason::PathsSought);
    assert!((1..120).contains(&sought), "{sought}");
    assert!(ways(&world).iter().flatten().all(|way| *way != "relayed"));
    goes_on(&mut world, 1, "after all");
    let sought = counted(&world, 0, Reason::PathsSought);
    for _ in 0..60 {
        world.everybody_talks();
        world.run(1_000);
    }
    assert_eq!(counted(&world, 0, Reason::PathsSought), sought);
    world.check().unwrap();
}

/// What shims say of a path that was predicted goes through the server: while that is away they do not hear each other, and the path is
/// as good as ever.
#[test]
fn a_predicted_path_outlives_the_servers_absence() {
    for (strict, talks) in [(0, false), (1, false), (0, true), (1, true)] {
        let mut kinds = [Kind::SymmetricSequential; 2];
        kinds[strict] = Kind::PortRestricted;
        let mut world = World::punching(1, kinds, &link(), Level::Predict);
        server(&mut world).relays = true;
        world.settle();
        world.run(30_000);
        flow(&mut world, Cube::Stream);
        let before = ways(&world);
        assert!(before.iter().flatten().any(|way| *way == "predicted"), "{before:?}");
        goes_on(&mut world, 1, "before");
        for time in 0..4 {
            server(&mut world).up = false;
            for _ in 0..20 {
                if talks {
                    world.everybody_talks();
                }
                world.run(500);
            }
            server(&mut world).up = true;
            world.run(2 * SOON);
            assert_eq!(ways(&world), before, "{time}. of {strict}, {talks}");
            assert_eq!([0, 1].map(|host| counted(&world, host, Reason::PathsMoved)), [0; 2], "nobody hears of it");
            goes_on(&mut world, 1, "later");
        }
        world.check().unwrap();
    }
}

/// The relay's server forgets all it knew: flows through it are brought back.
#[test]
fn a_relay_that_restarts_is_asked_again() {
    let mut world = members(1, [Kind::PortRestricted, Kind::SymmetricRandom], &link(), true);
    flow(&mut world, Cube::Stream);
    assert_eq!(ways(&world), [["relayed"]; 2]);
    world.goes(0, Kind::PortRestricted);
    server(&mut world).restart();
    world.run(2 * SOON - 2_000);
    goes_on(&mut world, 1, "after the server's restart");
    world.check().unwrap();
}

/// No path, no relay: who went hears that, the other that nobody is there; in time.
#[test]
fn what_finds_no_path_ends_in_time() {
    for goes in 0..2 {
        let mut world = members(1, [Kind::PortRestricted; 2], &link(), false);
        let asked = flow(&mut world, Cube::Stream);
        world.run(1_000);
        world.goes(goes, Kind::SymmetricRandom);
        world.run(40_000);
        assert_eq!([0, 1].map(|host| world.hosts[host].live().len()), [0, 0]);
        let end = world.hosts[0].story.ends[&asked].ended[0];
        assert_eq!(end, if goes == 0 { EndReason::AddressGone } else { EndReason::PeerTimedOut });
        assert!(counted(&world, 0, Reason::PathsSought) > 1, "it was tried");
        world.check().unwrap();
    }
}

/// Nobody authenticates what a raw flow carries; and a layer that was given its address has no other.
#[test]
fn raw_flows_and_those_of_a_given_address_end() {
    for (cube, follows) in [(Cube::Raw, true), (Cube::Stream, false)] {
        let mut world = members(1, [Kind::PortRestricted; 2], &link(), false);
        world.hosts[0].follows = follows;
        let asked = flow(&mut world, cube);
        world.run(1_000);
        world.goes(0, Kind::PortRestricted);
        world.run(1_000);
        assert_eq!(world.hosts[0].story.ends[&asked].ended, [EndReason::AddressGone]);
        world.run(5_000);
        assert_eq!(world.hosts[1].live().len(), 0, "the other hears of it through the server");
        world.check().unwrap();
    }
}

/// As many as there are; each asks for itself, and none is forgotten.
#[test]
fn many_flows_go_along() {
    for goes in 0..2 {
        let mut world = members(1, [Kind::PortRestricted; 2], &link(), false);
        for _ in 0..40 {
            flow(&mut world, Cube::Stream);
        }
        world.goes(goes, Kind::PortRestricted);
        world.run(25_000);
        goes_on(&mut world, 40, "all of them");
        world.check().unwrap();
    }
}

/// A flow that is well looks for nothing, however long it lives.
#[test]
fn a_direct_flow_looks_for_nothing() {
    let mut world = members(1, [Kind::PortRestricted; 2], &link(), true);
    flow(&mut world, Cube::Stream);
    world.run(3_600_000);
    world.hosts[0].crash(world.now, 500);
    world.run(600_000);
    assert_eq!([0, 1].map(|host| counted(&world, host, Reason::PathsSought)), [0; 2]);
    world.check().unwrap();
}
