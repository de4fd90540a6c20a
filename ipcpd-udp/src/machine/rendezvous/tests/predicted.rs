//! Ports that are predicted: where one side's NAT counts them up and the other's filter looks at ports.

use super::world::{World, ms};
use super::*;

/// Both know what is before them; the box of the first one's host is shared with somebody who begins something every so many
/// milliseconds.
fn meet(seed: u64, kinds: [Kind; 2], every: Option<u64>) -> Result<Way, Outcome> {
    let mut world = World::pair(seed, kinds[0], kinds[1], slow(10 + seed % 30));
    world.survey();
    if let Some(every) = every {
        let counts = kinds.iter().position(|kind| *kind == Kind::SymmetricSequential).unwrap();
        world.neighbour(counts, ms(every));
    }
    world.allocate().map(|path| path.way)
}

const COUNTS: Kind = Kind::SymmetricSequential;

#[test]
fn ports_in_a_row_are_met() {
    for strict in [Kind::PortRestricted, Kind::Firewall, Kind::CarrierPortRestricted, COUNTS] {
        for kinds in [[COUNTS, strict], [strict, COUNTS]] {
            for seed in 0..10 {
                let met = meet(seed, kinds, None);
                assert!(met.is_ok(), "{kinds:?}, seed {seed}: {met:?}");
            }
        }
    }
}

const SEEDS: u64 = 10;

/// Somebody else's new mappings, 10 to 100 a second, between the server's question and the hello.
#[test]
fn ports_that_others_took_in_between_are_reckoned_with() {
    let mut table = String::new();
    for every in [100, 20, 10] {
        let met = |kinds: [Kind; 2]| (0..SEEDS).filter(|seed| meet(*seed, kinds, Some(every)).is_ok()).count() as u64;
        let (asks, asked) = (met([COUNTS, Kind::PortRestricted]), met([Kind::PortRestricted, COUNTS]));
        table.push_str(&format!("every {every} ms: {asks} and {asked} of {SEEDS}\n"));
        assert!(every < 20 || (asks + 1 >= SEEDS && asked + 1 >= SEEDS), "{table}");
    }
    println!("{table}");
}

/// Who does not take part, or whose ports are in no order, stays as it is.
#[test]
fn dice_are_not_predicted() {
    for seed in 0..20 {
        for kinds in [[Kind::SymmetricRandom, Kind::PortRestricted], [Kind::SymmetricRandom, COUNTS]] {
            assert!(meet(seed, kinds, None).is_err(), "{kinds:?}, seed {seed}");
        }
    }
    for punch in [[Level::Plain, Level::Predict], [Level::Predict, Level::Plain], [Level::Plain; 2]] {
        let mut world = World::pair_with(1, [COUNTS, Kind::PortRestricted], slow(10), punch);
        world.survey();
        assert_eq!(world.hosts[0].member.nat().step, i16::from(punch[0] != Level::Plain), "{punch:?}");
        assert!(world.allocate().is_err(), "{punch:?}");
    }
}

/// Not more than two datagrams to a port that was only guessed at.
#[test]
fn guessed_ports_get_two_hellos() {
    let mut world = World::pair(3, Kind::PortRestricted, COUNTS, slow(10));
    world.survey();
    // Everything that the asked one says to the asker is lost: nothing is ever heard.
    world.deaf = Some(0);
    assert!(world.allocate().is_err());
    let outer: IpAddr = "203.0.113.2".parse().unwrap();
    let to: Vec<_> = world.sent_to.iter().filter(|(to, _)| to.ip() == outer).collect();
    let more = to.iter().filter(|(_, count)| **count > 2).count();
    assert!(to.len() >= 10 && more <= 2, "{to:?}");
}
