//! Who is introduced to whom.

use std::time::Duration;

use proto::rendezvous::{FlowIds, Introduce, Mapped, Nat, Refusal, Said};
use proto::{HostId, WireId};

use super::super::*;
use super::world::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn both_sides_hear_where_the_other_is_at_once() {
    let mut world = World::new(rules());
    let (alice, bob, nonce) = world.introduced();
    let at = [address("203.0.113.1:40000"), address("203.0.113.2:50000")];
    let heard = [(&alice, at[0]), (&bob, at[1])].map(|(peer, to)| {
        let sent = world.sent.iter().find(|sending| sending.to == to).unwrap();
        let (head, Said::Meeting(meeting)) = peer.read(&sent.bytes) else { panic!("no meeting") };
        (head, meeting)
    });
    let [(to_alice, for_alice), (to_bob, for_bob)] = &heard;
    assert_eq!((to_alice.sender, to_alice.receiver), (WireId(9), WireId(7)));
    assert_eq!((to_bob.sender, to_bob.receiver), (WireId(7), WireId(9)));
    assert_eq!((for_alice.peer, for_alice.public, for_alice.own_public), (HostId(2), at[1], at[0]));
    assert_eq!((for_bob.peer, for_bob.public, for_bob.own_public), (HostId(1), at[0], at[1]));
    assert_eq!(for_alice.locals, [address("192.168.2.5:50000")]);
    assert_eq!((for_alice.shim_public, &for_alice.shim_locals), (bob.at, &bob.locals));
    assert_eq!((for_alice.nonce, for_bob.nonce), (nonce, nonce));
    // Alice is 10 ms away, Bob 30: both hellos leave 30 ms after the server spoke.
    assert_eq!((for_alice.start_us, for_bob.start_us), (20_000, 0));
    assert_eq!(world.server.counts().met, 1);
    let events = world.events();
    assert!(
        matches!(events.last(), Some(Event::Introduced { outcome: Introduced::Met(HostId(2), _), .. })),
        "{events:?}"
    );
}

#[test]
fn what_was_lost_is_said_again_and_no_second_attempt() {
    let mut world = World::new(rules());
    let (mut alice, mut bob) = (Peer::new(1, "203.0.113.1:3359"), Peer::new(2, "203.0.113.2:3359"));
    world.join(&mut alice, &[]).unwrap();
    world.join(&mut bob, &["bob.chat"]).unwrap();
    let mut nonces = Vec::new();
    for _ in 0..3 {
        assert_eq!(world.introduce(&mut alice, "203.0.113.1:40000", 7, "bob.chat"), [Said::Introducing]);
        for said in world.answers(&bob, bob.at) {
            let Said::Introduction(introduction) = said else { panic!("{said:?}") };
            nonces.push(introduction.nonce);
        }
        world.pass(SECOND);
    }
    assert!(nonces.len() == 3 && nonces.iter().all(|nonce| *nonce == nonces[0]), "{nonces:?}");
    // At once again: the other is not told as often as one asks.
    world.introduce(&mut alice, "203.0.113.1:40000", 7, "bob.chat");
    world.introduce(&mut alice, "203.0.113.1:40000", 7, "bob.chat");
    assert_eq!(world.answers(&bob, bob.at), []);
    for _ in 0..2 {
        assert!(matches!(world.meet(&mut bob, "203.0.113.2:50000", 9, 7, nonces[0])[..], [Said::Meeting(_)]));
        let again = world.introduce(&mut alice, "203.0.113.1:40000", 7, "bob.chat");
        assert!(matches!(again[..], [Said::Meeting(_)]), "{again:?}");
    }
    assert_eq!((world.server.counts().attempts, world.server.counts().met), (1, 1));
}

#[test]
fn why_there_is_no_introduction_is_said() {
    let mut world = World::new(rules());
    let (mut alice, mut bob) = (Peer::new(1, "203.0.113.1:3359"), Peer::new(2, "203.0.113.2:3359"));
    let refused = |refusal| vec![Said::NotIntroduced(refusal)];
    let ask =
        |world: &mut World, peer: &mut Peer, id, wanted: &str| world.introduce(peer, "203.0.113.1:40000", id, wanted);
    assert_eq!(ask(&mut world, &mut alice, 1, "a"), refused(Refusal::UnknownAttempt), "no member");
    world.join(&mut alice, &["alice.chat"]).unwrap();
    world.join(&mut bob, &["bob.chat"]).unwrap();
    assert_eq!(ask(&mut world, &mut alice, 2, "nobody.chat"), refused(Refusal::UnknownName));
    assert_eq!(ask(&mut world, &mut alice, 3, "alice.chat"), refused(Refusal::Yourself));
    assert_eq!(ask(&mut world, &mut alice, 4, "bob.chat"), [Said::Introducing]);
    let decline = Said::Decline { attempt: WireId(4), refusal: Refusal::Exhausted };
    let decline = bob.head(1).encode(&bob.key(), &decline);
    world.give(Role::Main, address("203.0.113.2:1"), &decline);
    assert_eq!(world.sent, [], "not from where Bob is");
    world.give(Role::Main, bob.at, &decline);
    assert_eq!(world.answers(&alice, address("203.0.113.1:40000")), refused(Refusal::Exhausted));
    assert_eq!(ask(&mut world, &mut alice, 4, "bob.chat"), refused(Refusal::Exhausted));
    world.pass(63 * SECOND);
    world.join(&mut alice, &[]).unwrap();
    assert_eq!(ask(&mut world, &mut alice, 5, "bob.chat"), refused(Refusal::Silent));
    let counted: Vec<_> = world.server.counts().refused().filter(|(_, count)| *count > 0).collect();
    let want = [("unknown_name", 1), ("silent", 1), ("yourself", 1), ("exhausted", 1), ("unknown_attempt", 1)];
    assert_eq!(counted, want);
}

#[test]
fn of_several_that_have_a_name_one_is_asked_or_the_one_that_is_named() {
    let mut world = World::new(rules());
    let mut peers = [1, 2, 3].map(|host| Peer::new(host, &format!("203.0.113.{host}:3359")));
    for peer in &mut peers {
        world.join(peer, &["web"]).unwrap();
    }
    let [alice, bob, carol] = &mut peers;
    let mut asked = [0; 2];
    for id in 0..20 {
        world.introduce(alice, "203.0.113.1:40000", id * 7 + 1, "web");
        for (count, peer) in asked.iter_mut().zip([&*bob, &*carol]) {
            *count += world.answers(peer, peer.at).len();
        }
    }
    assert!(asked[0] + asked[1] == 20 && asked[0] > 4 && asked[1] > 4, "{asked:?}");
    let to = |cookie| {
        let (nat, locals) = (Nat::default(), Vec::new());
        let peer = HostId(3);
        Said::Introduce(Introduce {
            cookie,
            name: name("web"),
            peer,
            locals,
            round: 0,
            nat,
            mapped: Mapped::default(),
            round_trip_us: 0,
            moves: None,
        })
    };
    world.pass(5 * SECOND);
    for id in 1_000..1_010 {
        world.say(alice, address("203.0.113.1:40000"), id, to);
        assert_eq!(world.answers(carol, carol.at).len(), 1);
    }
}

/// For a flow that there is, its peer is asked, whatever names it has; and only that.
#[test]
fn who_has_a_flow_is_introduced_again_without_a_name() {
    let mut world = World::new(rules());
    let (mut alice, mut bob) = (Peer::new(1, "203.0.113.1:3359"), Peer::new(2, "203.0.113.2:3359"));
    let mut carol = Peer::new(3, "203.0.113.3:3359");
    world.join(&mut alice, &[]).unwrap();
    world.join(&mut bob, &[]).unwrap();
    world.join(&mut carol, &["bob.chat"]).unwrap();
    let ids = FlowIds { asker: WireId(70), asked: WireId(71), adrift: true };
    let to = |peer| {
        move |cookie| {
            let (name, locals, nat) = (name("bob.chat"), Vec::new(), Nat::default());
            let (round, round_trip_us, moves) = (0, 0, Some(ids));
            Said::Introduce(Introduce {
                cookie,
                name,
                peer: HostId(peer),
                locals,
                round,
                nat,
                mapped: Mapped::default(),
                round_trip_us,
                moves,
            })
        }
    };
    let from = address("203.0.113.1:40000");
    assert_eq!(world.say(&mut alice, from, 8, to(2)), [Said::Introducing]);
    let [Said::Introduction(introduction)] = &world.answers(&bob, bob.at)[..] else { panic!("not told") };
    assert_eq!((introduction.attempt, introduction.moves), (WireId(8), Some(ids)));
    assert!(world.answers(&carol, carol.at).is_empty());
    // Nobody, oneself, one who is no member.
    for (id, peer) in [(10, 0), (11, 1), (12, 4)] {
        assert_eq!(world.say(&mut alice, from, id, to(peer)), [Said::NotIntroduced(Refusal::Silent)]);
    }
}

#[test]
fn the_other_side_begins_in_odd_rounds() {
    let mut world = World::new(rules());
    let (mut alice, mut bob) = (Peer::new(1, "203.0.113.1:3359"), Peer::new(2, "203.0.113.2:3359"));
    world.join(&mut alice, &[]).unwrap();
    world.join(&mut bob, &["bob.chat"]).unwrap();
    // A round trip that nobody has is not believed.
    let said = |cookie| {
        let (name, peer, locals) = (name("bob.chat"), HostId(0), Vec::new());
        let (round, nat, round_trip_us) = (1, Nat::default(), u32::MAX);
        Said::Introduce(Introduce {
            cookie,
            name,
            peer,
            locals,
            round,
            nat,
            mapped: Mapped::default(),
            round_trip_us,
            moves: None,
        })
    };
    world.say(&mut alice, address("203.0.113.1:40000"), 7, said);
    let [Said::Introduction(introduction)] = &world.answers(&bob, bob.at)[..] else { panic!("not told") };
    assert_eq!(introduction.round, 1);
    world.meet(&mut bob, "203.0.113.2:50000", 9, 7, introduction.nonce);
    let start = |peer: &Peer, to| match &world.answers(peer, address(to))[..] {
        [Said::Meeting(meeting)] => meeting.start_us,
        other => panic!("{other:?}"),
    };
    assert_eq!((start(&alice, "203.0.113.1:40000"), start(&bob, "203.0.113.2:50000")), (300_000, 470_000));
}

#[test]
fn an_attempt_that_nobody_asks_for_is_forgotten() {
    let mut world = World::new(rules());
    let (mut alice, mut bob) = (Peer::new(1, "203.0.113.1:3359"), Peer::new(2, "203.0.113.2:3359"));
    world.join(&mut alice, &[]).unwrap();
    world.join(&mut bob, &["bob.chat"]).unwrap();
    world.introduce(&mut alice, "203.0.113.1:40000", 7, "bob.chat");
    let [Said::Introduction(introduction)] = &world.answers(&bob, bob.at)[..] else { panic!("not told") };
    let nonce = introduction.nonce;
    assert!(!world.server.is_idle());
    world.pass(20 * SECOND);
    world.introduce(&mut alice, "203.0.113.1:40000", 7, "bob.chat");
    world.pass(20 * SECOND);
    assert_eq!(world.server.status(world.now, None).attempts, 1, "it was asked for since");
    world.pass(15 * SECOND);
    assert_eq!(world.server.status(world.now, None).attempts, 0);
    let met = world.meet(&mut bob, "203.0.113.2:50000", 9, 7, nonce);
    assert_eq!(met, [Said::NotIntroduced(Refusal::UnknownAttempt)]);
    assert_eq!(world.server.counts().unmet, 1);
    assert!(world.server.is_idle());
}

#[test]
fn what_routers_map_is_passed_on_where_it_can_be_true() {
    let own = "203.0.113.1:41000";
    let table = [
        (own, Some(own)),
        // Another way out of the same router.
        ("9.9.9.9:41000", Some("9.9.9.9:41000")),
        // Another NAT is before that router; and nobody's local address is said so where these are hidden.
        ("100.64.3.2:41000", None),
        ("192.168.1.5:41000", None),
        ("127.0.0.1:41000", None),
        ("255.255.255.255:41000", None),
    ];
    for (said, want) in table {
        let mut hiding = rules();
        hiding.hide_local = true;
        let mut world = World::new(hiding);
        let (mut alice, mut bob) = (Peer::new(1, "203.0.113.1:3359"), Peer::new(2, "203.0.113.2:3359"));
        world.join(&mut alice, &[]).unwrap();
        world.join(&mut bob, &["bob.chat"]).unwrap();
        let mapped = Mapped { flow: Some(address(said)), shim: Some(address(said)) };
        let introduce = |cookie| {
            let (name, peer, locals) = (name("bob.chat"), HostId(0), vec![address("192.168.1.5:40000")]);
            let (round, nat, round_trip_us, moves) = (0, Nat::default(), 0, None);
            Said::Introduce(Introduce { cookie, name, peer, locals, round, nat, mapped, round_trip_us, moves })
        };
        world.say(&mut alice, address("203.0.113.1:40000"), 7, introduce);
        let [Said::Introduction(introduction)] = &world.answers(&bob, bob.at)[..] else { panic!("not told") };
        let nonce = introduction.nonce;
        let met = world.meet(&mut bob, "203.0.113.2:50000", 9, 7, nonce);
        let [Said::Meeting(meeting)] = &met[..] else { panic!("{met:?}") };
        let want = want.map(address);
        assert_eq!((meeting.mapped, meeting.locals.len()), (Mapped { flow: want, shim: want }, 0), "{said}");
    }
}
