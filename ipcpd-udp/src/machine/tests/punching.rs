//! Flows whose path was predicted or searched for, shim to shim; and what is left of it afterwards: nothing.

use sim::{Kind, Link};

use super::super::rendezvous::predict::Level;
use super::super::rendezvous::search::SOCKETS;
use super::model::Told;
use super::world::World;
use super::*;

const DICE: Kind = Kind::SymmetricRandom;
const STRICT: Kind = Kind::PortRestricted;

fn member(seed: u64, kinds: [Kind; 2], punch: Level) -> World {
    let link = Link { delay: ms(5), ..Link::default() };
    let mut world = World::punching(seed, kinds, &link, punch);
    for host in &mut world.hosts {
        // As many as in life: a search takes at most a quarter.
        (host.settings.cp, host.settings.sp) = ((10_000, 29_999), (30_000, 49_999));
        host.begin_anew();
    }
    world.settle();
    world.run(5_000);
    let words: Vec<_> = world.hosts.iter().map(|host| host.shim.as_ref().unwrap().session_words()).collect();
    let open = [0, 1].map(|n| world.hosts[n].open_sockets());
    assert_eq!(open, [0, 0], "those that measured are closed: seed {seed}, {words:?}");
    world
}

fn told(world: &World) -> bool {
    let told = &world.hosts[0].story.asked.last().unwrap().told;
    matches!(told.first(), Some((_, Told::Allocated)))
}

fn counted(world: &World, host: usize, reason: Reason) -> u64 {
    world.hosts[host].shim.as_ref().unwrap().counters().get(reason)
}

/// A flow like any other: it carries, ends, and leaves no socket; also where nothing was found.
#[test]
fn what_was_searched_for_is_a_flow_like_any_other() {
    for kinds in [[DICE, STRICT], [STRICT, DICE]] {
        let mut found = 0;
        for seed in 0..6 {
            let mut world = member(seed, kinds, Level::Search);
            let flow = world.ask(0, "echo", 8_000);
            world.run_until_told();
            assert_eq!([0, 1].map(|n| counted(&world, n, Reason::PathsSearched)), [1, 1]);
            if told(&world) {
                found += 1;
                world.run(1_000);
                let sockets = [0, 1].map(|n| world.hosts[n].open_sockets());
                assert!(sockets.iter().all(|open| *open <= 2), "the others are closed: {sockets:?}");
                world.run(600_000);
                let ways = [DICE, STRICT].map(|kind| if kind == kinds[0] { "public" } else { "mapped" });
                let way = world.hosts[0].shim.as_ref().unwrap().row(world.now, flow).unwrap().way;
                assert!(ways.contains(&way), "{way}");
                world.everybody_talks();
                world.run(1_000);
            }
            world.check().unwrap();
        }
        assert!(found >= 5, "{kinds:?}: {found} of 6");
    }
}

/// Many at once: one search with one member, and few in a minute; all sockets are closed, whatever comes of it.
#[test]
fn searches_at_once_are_bounded() {
    let mut world = member(3, [DICE, STRICT], Level::Search);
    for _ in 0..8 {
        world.ask(0, "echo", 6_000);
    }
    let mut most = 0;
    for _ in 0..600 {
        world.run(10);
        most = most.max(world.hosts[0].open_sockets());
    }
    assert!(most > SOCKETS && most <= SOCKETS + 2 * 8, "{most} sockets");
    // The next one begins as soon as one is over.
    let searched = [0, 1].map(|n| counted(&world, n, Reason::PathsSearched));
    assert!(searched.iter().all(|searched| (1..=4).contains(searched)), "{searched:?}");
    assert!(counted(&world, 0, Reason::SearchesHeld) >= 4);
    world.run(20_000);
    world.check().unwrap();
}

/// The asking side gives up, or its shim ends, while its sockets are open.
#[test]
fn a_search_that_is_given_up_closes_its_sockets() {
    for what in 0..3 {
        let mut world = member(5, [DICE, STRICT], Level::Search);
        let flow = world.ask(0, "echo", 6_000);
        world.run_until(3_000, |world| world.hosts[0].open_sockets() > 200);
        assert!(world.hosts[0].open_sockets() > 200);
        let now = world.now;
        match what {
            0 => world.hosts[0].shim.as_mut().unwrap().cancel(now, flow),
            1 => world.hosts[0].shim.as_mut().unwrap().stop(now),
            _ => world.hosts[0].crash(now, 500),
        }
        world.settle();
        world.run(20_000);
        for host in &world.hosts {
            assert_eq!(host.open_sockets(), 0, "{what}");
            host.shim.as_ref().unwrap().assert_empty();
        }
    }
}

/// A socket that cannot be opened is done without.
#[test]
fn a_search_does_without_sockets_that_cannot_be_opened() {
    let mut met = 0;
    for seed in 0..6 {
        let mut world = member(seed, [DICE, STRICT], Level::Search);
        world.ask(0, "echo", 8_000);
        world.run(300);
        world.hosts[0].manners.trouble = 30;
        world.run_until_told();
        met += u32::from(told(&world));
        world.hosts[0].manners.trouble = 0;
        world.run(10_000);
        assert!(world.hosts.iter().all(|host| host.open_sockets() <= 1));
    }
    assert!(met >= 3, "{met} of 6 with 180 sockets");
}

/// With a relay, too: before it is asked.
#[test]
fn ports_in_a_row_are_predicted_for_flows() {
    let both = [[Kind::SymmetricSequential, STRICT], [STRICT, Kind::SymmetricSequential]];
    for (kinds, relays) in both.into_iter().flat_map(|kinds| [(kinds, false), (kinds, true)]) {
        let mut world = member(1, kinds, Level::Predict);
        world.server.as_mut().unwrap().1.relays = relays;
        world.run(30_000);
        world.ask(0, "echo", 5_000);
        world.run_until_told();
        assert!(told(&world), "{kinds:?}");
        assert!(world.hosts[0].story.asked[0].took().unwrap() < ms(500), "as soon as any other");
        assert_eq!(counted(&world, 0, Reason::PathsRelayed), 0);
        world.run(600_000);
        world.check().unwrap();
    }
}
