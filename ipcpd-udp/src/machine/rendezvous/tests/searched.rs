//! Ports that are searched for: where one side's NAT gives them at random and the other's filter looks at ports.

use super::super::search::{PROBES, Role, SOCKETS, role};
use super::world::{World, ms};
use super::*;

const BOTH: [Level; 2] = [Level::Search; 2];

fn world(seed: u64, kinds: [Kind; 2], punch: [Level; 2]) -> World {
    let mut world = World::pair_with(seed, kinds, slow(10 + seed % 30), punch);
    world.survey();
    world
}

/// As long as it took from the first hello, or why nothing came of it.
fn search(seed: u64, kinds: [Kind; 2], punch: [Level; 2]) -> Result<Duration, Outcome> {
    world(seed, kinds, punch).allocate().map(|path| path.took)
}

const DICE: Kind = Kind::SymmetricRandom;

#[test]
fn ports_at_random_are_found() {
    for strict in [Kind::PortRestricted, Kind::Firewall] {
        for kinds in [[DICE, strict], [strict, DICE]] {
            let took: Vec<_> = (0..10).filter_map(|seed| search(seed, kinds, BOTH).ok()).collect();
            let (least, most) = (took.iter().min().unwrap(), took.iter().max().unwrap());
            println!("{kinds:?}: {} of 10, {least:?} to {most:?}", took.len());
            assert!(took.len() >= 9, "{kinds:?}: {took:?}");
            assert!(*least > ms(400) && *most < ms(4_200), "{took:?}");
        }
    }
}

/// Both have to want it; and no search can do where both sides' ports are dice.
#[test]
fn only_both_together_search() {
    for punch in [[Level::Search, Level::Predict], [Level::Predict, Level::Search], [Level::Plain, Level::Search]] {
        let mut world = world(1, [DICE, Kind::PortRestricted], punch);
        assert!(world.allocate().is_err() && world.searched.is_none(), "{punch:?}");
    }
    let mut both = world(1, [DICE, DICE], BOTH);
    assert!(both.allocate().is_err() && both.searched.is_none());
    // A relay is asked at once.
    let mut relayed = World::pair_with(1, [DICE, Kind::PortRestricted], slow(10), BOTH);
    relayed.server.relays = true;
    relayed.survey();
    let _ = relayed.allocate();
    assert!(relayed.searched.is_none());
}

/// What fails says that it was tried, or what would do.
#[test]
fn a_failure_says_what_a_search_did_or_would_do() {
    let (name, server) = (Name::new("alice.chat").unwrap(), "198.51.100.1:3360".parse().unwrap());
    let said = |kinds, punch, deaf| {
        let mut world = world(2, kinds, punch);
        world.deaf = deaf;
        let Err(Outcome::Trouble(trouble)) = world.allocate() else { panic!("it cannot: {kinds:?}") };
        trouble.sentence(&name, server)
    };
    let kinds = [DICE, Kind::PortRestricted];
    let table = [
        (
            kinds,
            [Level::Predict; 2],
            None,
            "--relay; so might a search: enroll with --punch search, as the peer has to",
        ),
        (kinds, [Level::Search, Level::Predict], None, "; so might a search: the peer has to be enrolled with"),
        ([kinds[1], kinds[0]], BOTH, Some(0), "; a search by many ports found none either, another try may"),
        (
            kinds,
            [Level::Plain, Level::Predict],
            None,
            "--relay; so might prediction, if the symmetric NAT counts its ports",
        ),
        ([DICE, DICE], [Level::Predict; 2], None, "start the rendezvous with --relay"),
    ];
    for (kinds, punch, deaf, want) in table {
        let said = said(kinds, punch, deaf);
        assert!(said.contains(want), "{want:?} is missing in {said:?}");
    }
}

/// However it ends: so many datagrams to so many ports of the one address that the server saw, and none anywhere else.
#[test]
fn a_search_is_bounded() {
    let mut world = world(4, [Kind::PortRestricted, DICE], BOTH);
    world.deaf = Some(0);
    assert!(world.allocate().is_err());
    world.run(Duration::from_secs(10));
    let outer: IpAddr = "203.0.113.2".parse().unwrap();
    let probes: u32 = world.sent_to.iter().filter(|(to, _)| to.ip() == outer).map(|(_, count)| *count).sum();
    assert!((PROBES..PROBES + 40).contains(&probes), "{probes} to the side whose port changes");
    let ports = world.sent_to.keys().filter(|to| to.ip() == outer && to.port() >= 1_024).count();
    assert!(ports as u32 + 40 > PROBES, "{ports} of them others");
    let asker: IpAddr = "203.0.113.1".parse().unwrap();
    let hellos: u32 = world.sent_to.iter().filter(|(to, _)| to.ip() == asker).map(|(_, count)| *count).sum();
    assert!(hellos as usize >= SOCKETS && hellos as usize <= SOCKETS + 400, "{hellos} from its sockets");
}

/// Ten kinds, all pairs: what plain hellos cannot do and prediction or a search can.
#[test]
fn the_table_with_everything_on() {
    let mut table = String::new();
    for a in Kind::ALL {
        let row = Kind::ALL.map(|b| {
            let met = world(1, [a, b], BOTH).allocate().is_ok();
            let dice = |kind| symmetric(kind) && kind != Kind::SymmetricSequential;
            // One address of the server does not show a mapping by address; no search can do with two that are dice.
            let hopeless = dice(a) && (symmetric(b)) || dice(b) && symmetric(a);
            let hidden = [a, b].contains(&Kind::SymmetricPerAddress);
            let want = meets(a, b) || !hopeless && !hidden;
            assert_eq!(met, want, "{a:?} to {b:?}");
            if met { "yes" } else { "no" }
        });
        table.push_str(&format!("{}: {}\n", a.as_str(), row.join(" ")));
    }
    println!("{table}");
}

#[test]
fn roles_are_the_opposite_of_each_other() {
    let nats = [Mapping::None, Mapping::EndpointIndependent, Mapping::PortDependent, Mapping::Unknown];
    let filters = [Filtering::Unknown, Filtering::Open, Filtering::PortDependent];
    let all = nats.into_iter().flat_map(|mapping| {
        let one = move |filtering, search| Nat { mapping, filtering, step: 0, search };
        filters.into_iter().flat_map(move |filtering| [true, false].map(|search| one(filtering, search)))
    });
    let all: Vec<Nat> = all.collect();
    for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (*a, *b))) {
        let opposite = role(b, a).map(|role| if role == Role::Opens { Role::Probes } else { Role::Opens });
        assert_eq!(role(a, b), opposite, "{a:?} {b:?}");
    }
}
