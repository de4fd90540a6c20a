//! Two members and a server on a simulated network.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;
use proto::rendezvous::{Filtering, Mapped, Mapping, Nat, Refusal};
use proto::{HostId, Name};
use sim::{Behaviour, Kind, Link, Realm};

use super::attempt::Trouble;
use super::member::Standing;
use super::predict::Level;
use super::punch::{Punch, Way};
use world::{Outcome, World, ms};

mod members;
mod predicted;
mod searched;
pub(in crate::machine) mod server;
mod world;

const SIX: [Kind; 6] =
    [Kind::Open, Kind::Firewall, Kind::FullCone, Kind::AddressRestricted, Kind::PortRestricted, Kind::SymmetricRandom];

fn symmetric(kind: Kind) -> bool {
    use Kind::*;
    matches!(kind, SymmetricRandom | SymmetricSequential | SymmetricPerAddress | CarrierSymmetric)
}

fn strict(kind: Kind) -> bool {
    symmetric(kind) || matches!(kind, Kind::Firewall | Kind::PortRestricted | Kind::CarrierPortRestricted)
}

/// Whether hosts behind these can meet: one's filter must pass what the other's mapping does not tell.
fn meets(a: Kind, b: Kind) -> bool {
    !(symmetric(a) && strict(b) || symmetric(b) && strict(a))
}

fn slow(delay: u64) -> Link {
    Link { delay: ms(delay), ..Link::default() }
}

/// The table of Kegel's rules, as it was measured.
#[test]
fn the_table_of_six_kinds() {
    let want = "\
        yes yes yes yes yes yes\n\
        yes yes yes yes yes no\n\
        yes yes yes yes yes yes\n\
        yes yes yes yes yes yes\n\
        yes yes yes yes yes no\n\
        yes no yes yes no no\n";
    let mut got = String::new();
    for a in SIX {
        let row = SIX.map(|b| if World::pair(1, a, b, slow(10)).allocate().is_ok() { "yes" } else { "no" });
        got.push_str(&row.join(" "));
        got.push('\n');
    }
    assert_eq!(got, want);
    let computed: Vec<bool> = SIX.iter().flat_map(|a| SIX.map(|b| meets(*a, b))).collect();
    let table: Vec<bool> = want.split_whitespace().map(|word| word == "yes").collect();
    assert_eq!(table, computed);
}

/// Where either side's router maps the flow's port, all meet; where it only says so, those that meet anyway.
#[test]
fn a_mapped_port_makes_all_meet() {
    let pairs = || SIX.iter().flat_map(|a| SIX.map(|b| (*a, b)));
    for ((a, b), n) in pairs().flat_map(|pair| [(pair, 0), (pair, 1)]) {
        if [a, b][n] == Kind::Open {
            continue;
        }
        let mut world = World::pair(7, a, b, slow(10));
        world.map_port(n, true);
        let won = world.allocate().unwrap_or_else(|outcome| panic!("{a:?} to {b:?}, mapped at {n}: {outcome:?}"));
        let by_it = won.way == Way::Mapped || [a, b][n] == Kind::Firewall;
        assert!(meets(a, b) || by_it, "{a:?} to {b:?}, mapped at {n}: {won:?}");
        let mut world = World::pair(7, a, b, slow(10));
        world.map_port(n, false);
        let outcome = world.allocate();
        assert_eq!(outcome.is_ok(), meets(a, b), "{a:?} to {b:?}, a lie at {n}: {outcome:?}");
    }
}

/// Every pair of ten kinds under one seed, each held against the computed table.
fn pairs(seed: u64) -> Result<(), String> {
    let link = Link { jitter: ms(seed % 7), ..slow(5 + seed % 40) };
    for (a, b) in Kind::ALL.into_iter().flat_map(|a| Kind::ALL.map(|b| (a, b))) {
        let outcome = World::pair(seed, a, b, link.clone()).allocate();
        if outcome.is_ok() != meets(a, b) {
            return Err(format!("{a:?} to {b:?}: {outcome:?}"));
        }
    }
    Ok(())
}

/// All ten kinds, all pairs, many seeds; `FLOWRING_SIM_LIVES` says how many.
#[test]
fn random_pairs_meet_where_they_can() {
    sim::seeds::play("cargo test -p ipcpd-udp --lib random_pairs", 2, pairs);
}

/// The target: direct within two round trips after the introduction, half of the time at least.
#[test]
fn a_path_takes_at_most_two_round_trips() {
    let mut took = Vec::new();
    for (n, (a, b)) in SIX.iter().flat_map(|a| SIX.map(|b| (*a, b))).filter(|(a, b)| meets(*a, *b)).enumerate() {
        let Ok(won) = World::pair(n as u64, a, b, slow(20)).allocate() else { panic!("{a:?} to {b:?}") };
        // Four links of 20 ms: a round trip is 80 ms.
        took.push(won.took.as_millis());
    }
    took.sort_unstable();
    assert!(took[took.len() / 2] <= 160, "{took:?}");
}

#[test]
fn loss_is_survived() {
    let lossy = Link { loss: 0.05, jitter: ms(5), ..slow(15) };
    let mut met = 0;
    for seed in 0..50 {
        met += u32::from(World::pair(seed, Kind::PortRestricted, Kind::Firewall, lossy.clone()).allocate().is_ok());
    }
    assert!(met >= 48, "{met} of 50 with one datagram in ten lost on each way");
}

#[test]
fn both_behind_one_nat_take_the_local_way() {
    let mut world = World::new(3);
    let inside =
        world.net.nat(Realm::INTERNET, "203.0.113.9".parse().unwrap(), Kind::PortRestricted.behaviour().unwrap());
    world.host(inside, "192.168.1.2", slow(1));
    world.host(inside, "192.168.1.3", slow(1));
    let won = world.allocate().unwrap();
    assert_eq!((won.way, won.at.ip()), (Way::Local, "192.168.1.3".parse::<IpAddr>().unwrap()));
}

/// Two homes behind one carrier's NAT: only where that lets its customers meet at its outer side.
#[test]
fn a_shared_carrier_needs_hairpinning() {
    for hairpin in [false, true] {
        let mut world = World::new(4);
        let home = Kind::PortRestricted.behaviour().unwrap();
        let carrier = Behaviour { hairpin, ..home };
        let carrier = world.net.nat(Realm::INTERNET, "203.0.113.9".parse().unwrap(), carrier);
        for outer in ["100.64.0.2", "100.64.0.3"] {
            let inside = world.net.nat(carrier, outer.parse().unwrap(), home);
            world.host(inside, "192.168.1.2", slow(5));
        }
        let outcome = world.allocate();
        assert_eq!(outcome.as_ref().map(|won| won.way).ok(), hairpin.then_some(Way::Public), "{outcome:?}");
    }
}

/// Two members have the same private address; each hello to it comes home.
#[test]
fn the_same_private_address_twice() {
    let won = World::pair(5, Kind::PortRestricted, Kind::FullCone, slow(10)).allocate().unwrap();
    assert_eq!(won.way, Way::Public);
}

/// What both sides found before them is said when nothing works.
#[test]
fn a_failure_names_both_nats() {
    let mut world = World::pair(6, Kind::SymmetricRandom, Kind::PortRestricted, slow(10));
    world.survey();
    let Err(Outcome::Trouble(trouble)) = world.allocate() else { panic!("it cannot") };
    let strict = Nat { filtering: Filtering::PortDependent, ..Nat::default() };
    let symmetric = Nat { mapping: Mapping::PortDependent, ..strict };
    let restricted = Nat { mapping: Mapping::EndpointIndependent, ..strict };
    let Trouble::NoPath { own, peer, .. } = &trouble else { panic!("{trouble:?}") };
    assert_eq!((*own, *peer), (symmetric, restricted));
    assert_eq!(
        trouble.sentence(&Name::new("alice.chat").unwrap(), "198.51.100.1:3360".parse().unwrap()),
        "no direct path to alice.chat (2 addresses tried); you: a NAT with another mapping for each port (symmetric) that \
         filters by port, peer: a NAT with endpoint-independent mapping that filters by port; cannot be punched because this \
         side's port changes with where it sends to, and the peer's filter passes only ports it has sent to; a relay would do: \
         start the rendezvous with --relay; so might a search: enroll with --punch search, as the peer has to"
    );
}

/// What the survey finds, by kind.
#[test]
fn nats_are_found_out() {
    for kind in Kind::ALL {
        let mut world = World::pair(7, kind, Kind::Open, slow(10));
        world.survey();
        let nat = world.hosts[0].member.nat();
        let mapping = match kind {
            Kind::Open | Kind::Firewall => Mapping::None,
            // The server has two ports and one address.
            Kind::SymmetricPerAddress => Mapping::EndpointIndependent,
            kind if symmetric(kind) => Mapping::PortDependent,
            _ => Mapping::EndpointIndependent,
        };
        let filtering = if strict(kind) { Filtering::PortDependent } else { Filtering::Open };
        let step = i16::from(kind == Kind::SymmetricSequential);
        assert_eq!(nat, Nat { mapping, filtering, step, search: false }, "{kind:?}");
    }
}

/// A stranger who has the other's private address in the asker's own network cannot answer a hello.
#[test]
fn a_stranger_at_the_private_address_wins_nothing() {
    let mut world = World::pair(8, Kind::FullCone, Kind::FullCone, slow(10));
    world.mirror_at("192.168.1.3");
    let won = world.allocate().unwrap();
    assert_eq!(won.way, Way::Public);
    assert!(world.mirrored > 0, "it heard hellos, and sent them back");
}

/// An IPv4 socket and a peer that has IPv6 only: nothing is tried, nothing waited for, and why is said.
#[test]
fn the_other_ip_version_is_not_waited_for() {
    use proto::rendezvous::{Head, Meeting, SessionId, SessionKey};
    let (key, session) = (SessionKey::new("darkreign", b"secret"), SessionId::of("darkreign"));
    let key = key.attempt(HostId(1), proto::WireId(1), HostId(2), &[0; 16]);
    let head = Head { session, member: HostId(1), sender: proto::WireId(1), receiver: proto::WireId(2) };
    let world = World::new(1);
    let own: SocketAddr = "192.168.1.2:4000".parse().unwrap();
    let tried = |locals: Vec<SocketAddr>| {
        let (public, at) = ("[fd00::2]:5000".parse().unwrap(), own);
        let meeting = Meeting {
            peer: HostId(2),
            nonce: [0; 16],
            public,
            locals,
            shim_public: public,
            shim_locals: Vec::new(),
            own_public: at,
            nat: Nat::default(),
            mapped: Mapped::default(),
            start_us: 0,
        };
        let punch = Punch::new(
            world.now,
            true,
            head,
            key.clone(),
            &meeting,
            &[own],
            std::iter::empty(),
            &mut world.rng.clone(),
        );
        (punch.tried(), punch.until() - punch.begins())
    };
    assert_eq!(tried(vec!["[fd00::3]:5000".parse().unwrap()]), (0, Duration::ZERO));
    let (tries, waits) = tried(vec!["192.168.1.9:5000".parse().unwrap()]);
    assert!(tries == 1 && waits > Duration::from_secs(1), "an address of this version is tried");
    let trouble = Trouble::NoPath {
        own: Nat::default(),
        peer: Nat::default(),
        tried: 0,
        heard: false,
        plain: false,
        searched: false,
        relay: None,
    };
    let said = trouble.sentence(&Name::new("echo").unwrap(), own);
    assert!(said.contains("other IP version") && said.contains("relay") && !trouble.is_worth_another(), "{said}");
}

/// However bad the way, so many datagrams go to one address.
#[test]
fn hellos_are_bounded() {
    let mut world = World::pair(9, Kind::SymmetricRandom, Kind::SymmetricRandom, slow(10));
    assert!(world.allocate().is_err());
    let most = world.sent_to.iter().filter(|(to, _)| **to != world.server.at).map(|(_, count)| *count).max();
    assert!(most <= Some(11), "{:?}", world.sent_to);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Any datagram at the sockets: no panic, and nothing wins.
    #[test]
    fn noise_wins_nothing(noise in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..20), seed in any::<u64>()) {
        let mut world = World::pair(seed, Kind::Open, Kind::Open, slow(10));
        world.noise = noise;
        let won = world.allocate().unwrap();
        prop_assert_eq!(won.at.ip(), world.hosts[1].address);
    }
}
