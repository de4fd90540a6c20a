//! What is relayed, and how much.

use std::time::Duration;

use proto::rendezvous::{Bound, Refusal, Said};

use super::super::*;
use super::world::*;

const SECOND: Duration = Duration::from_secs(1);
const ALICE: &str = "203.0.113.1:40000";
const BOB: &str = "203.0.113.2:50000";

fn with_relay(relay: RelayRules) -> World {
    World::new(Rules { relay: Some(relay), ..rules() })
}

fn carry(world: &mut World, from: &str, bytes: usize) -> Option<std::net::SocketAddr> {
    let to = world.server.relay(world.now, via(Role::Relay), address(from), &vec![1; bytes]);
    to.map(|(to, via)| {
        assert_eq!(via.role, Role::Relay);
        to
    })
}

/// Both sides are bound.
fn bound(world: &mut World) -> (Peer, Peer, [u8; 16]) {
    let (mut alice, mut bob, nonce) = world.introduced();
    let lonely = world.bind(&mut alice, ALICE, 7, (2, 7, nonce));
    assert!(matches!(lonely[..], [Said::Bound(Bound { both: false, .. })]), "{lonely:?}");
    assert_eq!(carry(world, ALICE, 100), None, "nobody is there yet");
    let both = world.bind(&mut bob, BOB, 9, (1, 7, nonce));
    assert!(matches!(both[..], [Said::Bound(Bound { both: true, .. })]), "{both:?}");
    // Alice hears that Bob is there.
    assert!(matches!(world.answers(&alice, address(ALICE))[..], [Said::Bound(Bound { both: true, .. })]));
    let head = world.sent.iter().find(|sent| sent.to == address(ALICE)).map(|sent| alice.read(&sent.bytes).0);
    assert_eq!(head.unwrap().receiver, proto::WireId(7));
    (alice, bob, nonce)
}

#[test]
fn a_pair_is_relayed_both_ways_and_nobody_else() {
    let mut world = with_relay(RelayRules::default());
    let (mut alice, _, _) = bound(&mut world);
    assert_eq!(carry(&mut world, ALICE, 1_400), Some(address(BOB)));
    assert_eq!(carry(&mut world, BOB, 0), Some(address(ALICE)));
    assert_eq!(carry(&mut world, "203.0.113.1:40001", 100), None);
    assert_eq!(world.server.counts().dropped_for(Reason::Unbound), 1);
    assert_eq!(world.server.counts().relayed, [2, 1_400]);
    assert_eq!(world.join(&mut alice, &[]).unwrap().relay, 3362);
}

#[test]
fn only_who_was_introduced_is_relayed() {
    let mut world = with_relay(RelayRules::default());
    let (mut alice, mut bob, nonce) = world.introduced();
    let unknown = [Said::NotBound(Refusal::UnknownAttempt)];
    assert_eq!(world.bind(&mut alice, ALICE, 7, (2, 7, [0; 16])), unknown, "another nonce");
    assert_eq!(world.bind(&mut alice, ALICE, 7, (2, 8, nonce)), unknown, "another attempt");
    assert_eq!(world.bind(&mut alice, ALICE, 7, (3, 7, nonce)), unknown, "another peer");
    let mut carol = Peer::new(3, "203.0.113.3:3359");
    world.join(&mut carol, &[]).unwrap();
    assert_eq!(world.bind(&mut carol, "203.0.113.3:1", 7, (1, 7, nonce)), unknown, "another member");
    world.introduce(&mut alice, ALICE, 8, "bob.chat");
    let [Said::Introduction(introduction)] = &world.answers(&bob, bob.at)[..] else { panic!("not told") };
    let early = introduction.nonce;
    assert_eq!(world.bind(&mut bob, BOB, 9, (1, 8, early)), unknown, "before the other side came");
}

#[test]
fn without_a_relay_there_is_none() {
    let mut world = World::new(rules());
    let (mut alice, _, nonce) = world.introduced();
    assert_eq!(world.bind(&mut alice, ALICE, 7, (2, 7, nonce)), [Said::NotBound(Refusal::NoRelay)]);
    let mut rules = Rules { relay: Some(RelayRules::default()), ..rules() };
    rules.sessions[0].relay = false;
    let mut world = World::new(rules);
    let (mut alice, _, nonce) = world.introduced();
    assert_eq!(world.bind(&mut alice, ALICE, 7, (2, 7, nonce)), [Said::NotBound(Refusal::NoRelay)]);
    assert_eq!(world.join(&mut alice, &[]).unwrap().relay, 0);
}

#[test]
fn quotas_hold_for_a_pair_and_for_a_session() {
    let mut world =
        with_relay(RelayRules { rate: 100_000, session_rate: 150_000, total: 62_000, ..RelayRules::default() });
    let (mut alice, _, nonce) = bound(&mut world);
    let burst = |world: &mut World, from| (0..100).filter(|_| carry(world, from, 1_000).is_some()).count();
    // What comes in 150 ms, and the one after it.
    assert_eq!((burst(&mut world, ALICE), burst(&mut world, BOB)), (16, 7), "the session's rest is for Bob");
    world.pass(SECOND);
    assert_eq!(burst(&mut world, ALICE), 16);
    world.pass(SECOND);
    assert_eq!((burst(&mut world, ALICE), burst(&mut world, BOB)), (16, 7));
    assert!(world.server.counts().dropped_for(Reason::RelayQuota) > 0);
    let quota = world.bind(&mut alice, ALICE, 7, (2, 7, nonce));
    assert_eq!(quota, [Said::NotBound(Refusal::Quota)]);
}

#[test]
fn the_rate_holds_and_the_longest_datagram_passes() {
    let mut world = with_relay(RelayRules { rate: 10_000, session_rate: 0, ..RelayRules::default() });
    bound(&mut world);
    let burst = |world: &mut World, bytes| (0..100).filter(|_| carry(world, ALICE, bytes).is_some()).count();
    // Some at once, however slow the rate; then as many as it is.
    assert_eq!(burst(&mut world, 1_500), 5);
    let through: usize = (0..600).map(|_| (world.pass(SECOND / 10), burst(&mut world, 1_500)).1).sum();
    assert!((398..=401).contains(&through), "{through} of 400 in a minute");
    world.pass(10 * SECOND);
    assert_eq!(burst(&mut world, 65_000), 1);
    // It is paid for.
    world.pass(5 * SECOND);
    assert_eq!(burst(&mut world, 100), 0);
    world.pass(2 * SECOND);
    assert!(burst(&mut world, 100) > 0);
}

#[test]
fn there_are_not_more_pairs_than_may_be() {
    let mut world = with_relay(RelayRules { pairs_per_session: 1, ..RelayRules::default() });
    let (mut alice, mut bob, _) = bound(&mut world);
    world.introduce(&mut alice, "203.0.113.1:40001", 8, "bob.chat");
    let [Said::Introduction(introduction)] = &world.answers(&bob, bob.at)[..] else { panic!("not told") };
    let nonce = introduction.nonce;
    world.meet(&mut bob, "203.0.113.2:50001", 10, 8, nonce);
    let full = world.bind(&mut alice, "203.0.113.1:40001", 8, (2, 8, nonce));
    assert_eq!(full, [Said::NotBound(Refusal::TooMany)]);
}

#[test]
fn a_pair_lives_as_long_as_somebody_speaks() {
    let mut world = with_relay(RelayRules::default());
    let (mut alice, _, nonce) = bound(&mut world);
    for _ in 0..10 {
        world.pass(50 * SECOND);
        assert!(carry(&mut world, BOB, 10).is_some());
    }
    // The attempt is long forgotten; who is bound may say so again.
    assert!(matches!(world.bind(&mut alice, ALICE, 7, (2, 7, nonce))[..], [Said::Bound(_)]));
    world.pass(61 * SECOND);
    assert_eq!(carry(&mut world, BOB, 10), None);
    let events = world.events();
    assert!(matches!(events.last(), Some(Event::Left { .. } | Event::Relayed { .. })), "{events:?}");
    assert!(world.server.is_idle());
}

/// One side of a relayed flow is elsewhere: both are introduced again, and the other's socket comes from the pair of before.
#[test]
fn a_socket_goes_over_to_the_next_pair_of_the_same_two_and_never_back() {
    let mut world = with_relay(RelayRules::default());
    let (mut alice, mut bob, first) = bound(&mut world);
    world.pass(SECOND);
    let elsewhere = "203.0.113.1:41000";
    world.introduce(&mut alice, elsewhere, 8, "bob.chat");
    let told = world.answers(&bob, bob.at);
    let Some(Said::Introduction(introduction)) = told.first() else { panic!("not told: {told:?}") };
    let nonce = introduction.nonce;
    world.meet(&mut bob, BOB, 10, 8, nonce);
    assert!(matches!(world.bind(&mut bob, BOB, 10, (1, 8, nonce))[..], [Said::Bound(Bound { both: false, .. })]));
    let both = world.bind(&mut alice, elsewhere, 8, (2, 8, nonce));
    assert!(matches!(both[..], [Said::Bound(Bound { both: true, .. })]), "{both:?}");
    assert_eq!(carry(&mut world, BOB, 10), Some(address(elsewhere)));
    assert_eq!(carry(&mut world, elsewhere, 10), Some(address(BOB)));
    assert_eq!(carry(&mut world, ALICE, 10), None, "nobody is there any more");
    assert_eq!(world.bind(&mut bob, BOB, 9, (1, 7, first)), [Said::NotBound(Refusal::TooMany)], "said again");
    assert_eq!(carry(&mut world, BOB, 10), Some(address(elsewhere)));
    // What is left of the first pair goes by itself, and takes nothing of the second with it.
    for _ in 0..5 {
        world.pass(40 * SECOND);
        assert_eq!(carry(&mut world, BOB, 10), Some(address(elsewhere)));
    }
    world.pass(61 * SECOND);
    assert!(world.server.is_idle());
}

#[test]
fn a_socket_that_is_refused_stays_where_it_is() {
    let mut world = with_relay(RelayRules::default());
    let (mut alice, mut bob, _) = bound(&mut world);
    let elsewhere = "203.0.113.1:41000";
    world.introduce(&mut alice, elsewhere, 8, "bob.chat");
    let told = world.answers(&bob, bob.at);
    let Some(Said::Introduction(introduction)) = told.first() else { panic!("not told: {told:?}") };
    let nonce = introduction.nonce;
    world.meet(&mut bob, "198.51.100.7:5555", 10, 8, nonce);
    world.bind(&mut alice, elsewhere, 8, (2, 8, nonce));
    // This side of the second pair has a socket that was heard a moment ago.
    assert_eq!(world.bind(&mut alice, ALICE, 8, (2, 8, nonce)), [Said::NotBound(Refusal::TooMany)]);
    assert_eq!(carry(&mut world, ALICE, 10), Some(address(BOB)));
    assert_eq!(carry(&mut world, BOB, 10), Some(address(ALICE)));
}

#[test]
fn a_side_moves_only_when_its_socket_is_silent() {
    let mut world = with_relay(RelayRules::default());
    let (mut alice, _, nonce) = bound(&mut world);
    let thief = "203.0.113.1:666";
    assert_eq!(world.bind(&mut alice, thief, 7, (2, 7, nonce)), [Said::NotBound(Refusal::TooMany)]);
    assert_eq!(carry(&mut world, BOB, 10), Some(address(ALICE)));
    world.pass(3 * SECOND);
    assert!(matches!(world.bind(&mut alice, thief, 7, (2, 7, nonce))[..], [Said::Bound(_)]));
    assert_eq!(carry(&mut world, BOB, 10), Some(address(thief)));
    assert_eq!(carry(&mut world, ALICE, 10), None);
}
