//! Which of several members is asked for a name, and which after it.

use std::time::Duration;

use proto::rendezvous::{Introduce, Introduction, Mapped, Nat, Refusal, Said};
use proto::{HostId, WireId};

use super::super::*;
use super::world::*;

const FROM: &str = "203.0.113.1:40000";

/// Alice asks; the others have the name.
fn members(count: u64) -> (World, Peer, Vec<Peer>) {
    let mut world = World::new(rules());
    let mut alice = Peer::new(1, "203.0.113.1:3359");
    world.join(&mut alice, &[]).unwrap();
    let mut others = Vec::new();
    for host in 2..2 + count {
        let mut peer = Peer::new(host, &format!("203.0.113.{host}:3359"));
        world.join(&mut peer, &["web"]).unwrap();
        others.push(peer);
    }
    (world, alice, others)
}

/// Who is told because of the last datagram, and with what.
fn told(world: &World, others: &[Peer]) -> Option<(usize, Introduction)> {
    others.iter().enumerate().find_map(|(n, peer)| match world.answers(peer, peer.at).pop() {
        Some(Said::Introduction(introduction)) => Some((n, introduction)),
        _ => None,
    })
}

/// Alice asks every 100 ms, as her shim does, for so long; who was told, in order.
fn asks(world: &mut World, alice: &mut Peer, others: &[Peer], id: u64, time: u64) -> Vec<usize> {
    let mut all = Vec::new();
    for _ in 0..time / 100 {
        assert_eq!(world.introduce(alice, FROM, id, "web"), [Said::Introducing]);
        all.extend(told(world, others).map(|(n, _)| n));
        world.pass(Duration::from_millis(100));
    }
    all.dedup();
    all
}

fn decline(world: &mut World, peer: &Peer, id: u64, refusal: Refusal) {
    let said = Said::Decline { attempt: WireId(id), refusal };
    let bytes = peer.head(1).encode(&peer.key(), &said);
    world.give(Role::Main, peer.at, &bytes);
}

#[test]
fn another_is_asked_where_the_first_does_not_come() {
    let (mut world, mut alice, mut others) = members(2);
    let order = asks(&mut world, &mut alice, &others, 8, 800);
    assert_eq!(order.len(), 2, "both within 0.8 s: {order:?}");
    // The second one comes, and both sides hear of each other.
    let (first, second) = (order[0], order[1]);
    assert_eq!(world.introduce(&mut alice, FROM, 8, "web"), [Said::Introducing]);
    let (n, introduction) = told(&world, &others).unwrap();
    assert_eq!(n, second);
    // The first one comes too late, and is told so.
    let late = world.meet(&mut others[first], "203.0.113.9:50000", 5, 8, introduction.nonce);
    assert_eq!(late, [Said::NotIntroduced(Refusal::UnknownAttempt)]);
    let met = world.meet(&mut others[second], "203.0.113.8:50000", 6, 8, introduction.nonce);
    assert!(matches!(&met[..], [Said::Meeting(meeting)] if meeting.peer == HostId(1)), "{met:?}");
    let [Said::Meeting(meeting)] = &world.introduce(&mut alice, FROM, 8, "web")[..] else { panic!("no meeting") };
    assert_eq!((meeting.peer, meeting.public), (others[second].host, address("203.0.113.8:50000")));
    assert_eq!((world.server.counts().passed_on, world.server.counts().met), (1, 1));
    let told = world.events();
    let passed = Introduced::PassedOn(others[first].host, others[second].host);
    assert!(
        told.iter().any(|event| matches!(event, Event::Introduced { outcome, .. } if *outcome == passed)),
        "{told:?}"
    );
}

/// Twenty attempts of Alice: who is told first of each.
fn twenty(world: &mut World, alice: &mut Peer, others: &[Peer], from: u64) -> Vec<usize> {
    let attempt = |id| {
        assert_eq!(world.introduce(alice, FROM, id, "web"), [Said::Introducing]);
        let (n, _) = told(world, others).unwrap();
        world.pass(Duration::from_millis(200));
        n
    };
    (from..from + 20).map(attempt).collect()
}

#[test]
fn who_did_not_come_is_asked_last_until_it_is_heard() {
    let (mut world, mut alice, mut others) = members(3);
    let order = asks(&mut world, &mut alice, &others, 9, 700);
    let absent = order[0];
    let first = twenty(&mut world, &mut alice, &others, 100);
    assert!(!first.contains(&absent) && (0..3).all(|n| n == absent || first.contains(&n)), "{first:?}");
    world.join(&mut others[absent], &[]).unwrap();
    let first = twenty(&mut world, &mut alice, &others, 200);
    assert!((0..3).all(|n| first.contains(&n)), "{first:?}");
}

#[test]
fn where_none_comes_all_are_asked_again_and_again() {
    let (mut world, mut alice, others) = members(3);
    let order = asks(&mut world, &mut alice, &others, 9, 6_000);
    assert!(order.len() >= 8 && order.windows(2).all(|two| two[0] != two[1]), "{order:?}");
    assert!((0..3).all(|n| order[..3].contains(&n)), "each before one is asked twice: {order:?}");
    // The last that is heard at all: nobody else is there to be asked.
    let (mut world, mut alice, others) = members(1);
    assert_eq!(asks(&mut world, &mut alice, &others, 9, 3_000), [0]);
    assert_eq!(world.server.counts().passed_on, 0);
}

#[test]
fn who_is_silent_is_not_asked_while_others_are_there() {
    let (mut world, mut alice, mut others) = members(2);
    world.pass(Duration::from_secs(63));
    world.join(&mut alice, &[]).unwrap();
    world.join(&mut others[1], &[]).unwrap();
    assert_eq!(twenty(&mut world, &mut alice, &others, 100), [1; 20]);
}

/// A refusal is the asker's only if nobody else has the name; nobody who refused is asked again.
#[test]
fn who_says_no_is_followed_by_the_next() {
    let (mut world, mut alice, others) = members(3);
    for n in 0..3 {
        assert_eq!(world.introduce(&mut alice, FROM, 9, "web"), [Said::Introducing]);
        let (asked, _) = told(&world, &others).unwrap();
        decline(&mut world, &others[asked], 9, Refusal::Exhausted);
        let answers = world.answers(&alice, address(FROM));
        let over = vec![Said::NotIntroduced(Refusal::Exhausted)];
        assert_eq!(answers, if n == 2 { over } else { vec![] }, "the asker hears at once that it is over");
        decline(&mut world, &others[asked], 9, Refusal::Exhausted);
        assert_eq!(world.answers(&alice, address(FROM)), [], "said twice");
    }
    let again = world.introduce(&mut alice, FROM, 9, "web");
    assert_eq!(again, [Said::NotIntroduced(Refusal::Exhausted)]);
    assert_eq!(world.server.counts().passed_on, 2);
}

/// Whoever names the member gets that one or none.
#[test]
fn a_member_that_is_named_is_not_replaced() {
    let (mut world, mut alice, others) = members(2);
    let said = |cookie| {
        let (peer, locals, nat) = (HostId(3), Vec::new(), Nat::default());
        Said::Introduce(Introduce {
            cookie,
            name: name("web"),
            peer,
            locals,
            round: 0,
            moves: None,
            nat,
            mapped: Mapped::default(),
            round_trip_us: 0,
        })
    };
    for _ in 0..30 {
        assert_eq!(world.say(&mut alice, address(FROM), 9, said), [Said::Introducing]);
        assert!(told(&world, &others).is_none_or(|(n, _)| n == 1));
        world.pass(Duration::from_millis(100));
    }
    decline(&mut world, &others[1], 9, Refusal::TooMany);
    assert_eq!(world.answers(&alice, address(FROM)), [Said::NotIntroduced(Refusal::TooMany)]);
}

/// Whoever left is passed at once.
#[test]
fn who_leaves_while_it_is_asked_is_passed() {
    let (mut world, mut alice, mut others) = members(2);
    world.introduce(&mut alice, FROM, 9, "web");
    let (n, _) = told(&world, &others).unwrap();
    let (at, boot) = (others[n].at, others[n].boot);
    let count = others[n].count + 1;
    assert_eq!(world.say(&mut others[n], at, count, |cookie| Said::Leave { boot, cookie }), [Said::Left]);
    world.introduce(&mut alice, FROM, 9, "web");
    assert_eq!(told(&world, &others).map(|(other, _)| other), Some(1 - n));
}
