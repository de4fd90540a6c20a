//! What strangers, liars and those who say again what others said get.

use std::time::Duration;

use proto::rendezvous::{DATAGRAM, Malformed, Refusal, Said, SessionId};
use proto::{HostId, WireId};

use super::super::*;
use super::world::*;

const SECOND: Duration = Duration::from_secs(1);

/// A JOIN of a peer, as bytes.
fn join_bytes(peer: &Peer) -> Vec<u8> {
    let join = proto::rendezvous::Join {
        cookie: peer.cookie.clone(),
        boot: peer.boot,
        locals: peer.locals.clone(),
        seen: peer.seen,
        names_at: peer.names_at,
        names: Vec::new(),
        round_trip_us: 0,
    };
    peer.head(peer.count).encode(&peer.key(), &Said::Join(join))
}

#[test]
fn a_wrong_key_and_an_unknown_session_are_told_the_same() {
    let mut world = World::new(rules());
    let answers = [("lobby", &b"wrong"[..]), ("nowhere", b"secret"), ("", b"")].map(|(session, secret)| {
        let mut peer = Peer::new(1, "203.0.113.1:3359");
        (peer.session, peer.secret) = (session.to_owned(), secret.to_vec());
        assert!(world.join(&mut peer, &[]).is_none());
        let [sent] = &world.sent[..] else { panic!("{:?}", world.sent) };
        let (head, said) = peer.read(&sent.bytes);
        assert_eq!(head.session, SessionId::of(session));
        let mut bytes = sent.bytes.clone();
        // But for the session that was asked for.
        bytes[8..16].fill(0);
        (said, bytes)
    });
    assert_eq!(answers[0].0, Said::Unknown);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!((world.server.counts().wrong_keys, world.server.counts().unknown_sessions), (1, 2));
    assert_eq!(world.server.status(world.now, None).members, 0);
}

#[test]
fn without_a_cookie_nothing_is_kept_and_little_is_said() {
    let mut world = World::new(rules());
    let idle = world.server.timers.len();
    for host in 1..=255 {
        let peer = Peer::new(host, &format!("203.0.{host}.1:3359"));
        let bytes = join_bytes(&peer);
        let [sent] = world.give(Role::Main, peer.at, &bytes) else { panic!("{host}") };
        assert!(sent.bytes.len() < 100 && sent.to == peer.at);
        assert!(matches!(world.answers(&peer, peer.at)[..], [Said::Cookie(_)]));
    }
    assert_eq!((world.server.status(world.now, None).members, world.server.timers.len()), (0, idle));
    assert_eq!(world.server.counts().cookies, 255);
}

#[test]
fn a_cookie_is_good_where_it_was_given_and_not_for_ever() {
    let (mut world, mut alice) = (World::new(rules()), Peer::new(1, "203.0.113.1:3359"));
    world.join(&mut alice, &[]).unwrap();
    let cookie = |world: &mut World, peer: &mut Peer, from: &str| {
        peer.count += 1;
        world.give(Role::Main, address(from), &join_bytes(peer));
        matches!(world.answers(peer, address(from))[..], [Said::Cookie(_)])
    };
    assert!(!cookie(&mut world, &mut alice, "203.0.113.1:4000"), "another port of the same address");
    assert!(cookie(&mut world, &mut alice, "203.0.113.2:3359"), "another address");
    world.pass(300 * SECOND);
    assert!(cookie(&mut world, &mut alice, "203.0.113.1:3359"), "too old");
}

#[test]
fn what_asks_is_padded_or_gets_nothing() {
    let (mut world, mut alice) = (World::new(rules()), Peer::new(1, "203.0.113.1:3359"));
    world.join(&mut alice, &[]).unwrap();
    alice.count += 1;
    let bytes = join_bytes(&alice);
    for length in [0, 1, 57, 58, 200, DATAGRAM - 1] {
        assert_eq!(world.give(Role::Main, alice.at, &bytes[..length]), [], "{length} bytes");
    }
    let mut long = bytes.clone();
    long.push(0);
    assert_eq!(world.give(Role::Main, alice.at, &long), []);
    assert_eq!(world.give(Role::Main, alice.at, &bytes).len(), 1);
    let counts = world.server.counts();
    assert_eq!((counts.dropped_for(Reason::Unpadded), counts.dropped_for(Malformed::TooLong.into())), (2, 1));
}

#[test]
fn what_was_said_before_changes_nothing() {
    let (mut world, mut alice) = (World::new(rules()), Peer::new(1, "203.0.113.1:3359"));
    world.join(&mut alice, &[]).unwrap();
    alice.count += 1;
    let first = join_bytes(&alice);
    assert_eq!(world.give(Role::Main, alice.at, &first).len(), 1);
    alice.count += 1;
    assert_eq!(world.give(Role::Main, alice.at, &join_bytes(&alice)).len(), 1);
    // From another port of the same address: a neighbour of the same NAT.
    assert_eq!(world.give(Role::Main, address("203.0.113.1:9"), &first), []);
    assert_eq!(world.server.counts().dropped_for(Reason::Stale), 1);
    // Nor does a JOIN from before bring back who has left.
    alice.count += 2;
    let (at, boot, id) = (alice.at, alice.boot, alice.count - 1);
    let join = join_bytes(&alice);
    alice.count += 1;
    assert_eq!(world.give(Role::Main, at, &join).len(), 1);
    assert_eq!(world.say(&mut alice, at, id, |cookie| Said::Leave { boot, cookie }), [], "a LEAVE from before");
    let id = alice.count;
    assert_eq!(world.say(&mut alice, at, id, |cookie| Said::Leave { boot, cookie }), [Said::Left]);
    assert_eq!(world.give(Role::Main, at, &join), []);
    assert_eq!(world.server.status(world.now, None).members, 0);
}

#[test]
fn only_the_first_socket_of_the_other_side_is_introduced() {
    let mut world = World::new(rules());
    let (mut alice, mut bob, nonce) = world.introduced();
    let unknown = [Said::NotIntroduced(Refusal::UnknownAttempt)];
    assert_eq!(world.meet(&mut bob, "203.0.113.2:50001", 10, 7, nonce), unknown, "a second socket");
    assert_eq!(world.meet(&mut bob, "203.0.113.2:50000", 9, 7, [0; 16]), unknown, "another nonce");
    assert_eq!(world.meet(&mut bob, "203.0.113.2:50000", 9, 8, nonce), unknown, "another attempt");
    let mut carol = Peer::new(3, "203.0.113.3:3359");
    world.join(&mut carol, &[]).unwrap();
    assert_eq!(world.meet(&mut carol, "203.0.113.3:50000", 9, 7, nonce), unknown, "another member");
    // What the asking side said, said from elsewhere: it moves nothing.
    assert_eq!(world.introduce(&mut alice, "203.0.113.1:40001", 7, "bob.chat"), []);
    assert_eq!(world.server.counts().dropped_for(Reason::Elsewhere), 1);
}

#[test]
fn a_member_is_not_introduced_for_ever() {
    let mut world = World::new(rules());
    let mut bob = Peer::new(2, "203.0.113.2:3359");
    world.join(&mut bob, &["bob.chat"]).unwrap();
    let mut told = 0;
    for host in 10..30 {
        let mut peer = Peer::new(host, &format!("203.0.113.{host}:3359"));
        world.join(&mut peer, &[]).unwrap();
        for id in 0..10 {
            world.introduce(&mut peer, &format!("203.0.113.{host}:40000"), host * 100 + id, "bob.chat");
            told += world.answers(&bob, bob.at).len();
        }
    }
    assert_eq!(told, 50, "as many at once as may be");
    world.pass(SECOND);
    let mut peer = Peer::new(31, "203.0.113.31:3359");
    world.join(&mut peer, &[]).unwrap();
    for id in 0..100 {
        world.introduce(&mut peer, "203.0.113.31:40000", id + 1, "bob.chat");
        told += world.answers(&bob, bob.at).len();
    }
    assert_eq!(told, 60, "and ten a second");
    assert_eq!(world.answers(&peer, address("203.0.113.31:40000")), [Said::NotIntroduced(Refusal::TooMany)]);
}

#[test]
fn a_lie_about_addresses_is_not_handed_on() {
    let mut world = World::new(rules());
    let (mut liar, mut bob) = (Peer::new(1, "203.0.113.1:3359"), Peer::new(2, "203.0.113.2:3359"));
    let lies = ["8.8.8.8:53", "127.0.0.1:22", "198.51.100.1:53", "169.254.1.1:5", "255.255.255.255:9", "10.0.0.7:3359"];
    liar.locals = lies.map(address).into();
    world.join(&mut liar, &[]).unwrap();
    let changes = world.join(&mut bob, &[]).unwrap().changes;
    let locals = vec![address("10.0.0.7:3359")];
    assert_eq!(changes, [proto::rendezvous::Change::Member { member: HostId(1), public: liar.at, locals }]);
}

#[test]
fn one_network_does_not_take_everybody_s_share() {
    let (mut world, mut alice) = (World::new(rules()), Peer::new(1, "203.0.113.1:3359"));
    world.join(&mut alice, &[]).unwrap();
    let flood = Peer::new(9, "192.0.2.9:1");
    let bytes = join_bytes(&flood);
    let answered = (0..10_000).filter(|_| !world.give(Role::Main, flood.at, &bytes).is_empty()).count();
    assert_eq!(answered, 1_000, "cookies for a second's worth");
    assert!(world.join(&mut alice, &[]).is_some());
    // With a cookie there is a bound, too.
    let mut flood = Peer::new(9, "192.0.2.9:1");
    world.pass(2 * SECOND);
    world.join(&mut flood, &[]).unwrap();
    let answered = (0..10_000).filter(|_| world.join(&mut flood, &[]).is_some()).count();
    assert!((998..=1_000).contains(&answered), "{answered}");
    assert!(world.join(&mut alice, &[]).is_some());
}

#[test]
fn what_nobody_says_to_a_server_is_dropped() {
    let mut world = World::new(rules());
    let (mut alice, bob, nonce) = world.introduced();
    let key = alice.key();
    let hello = proto::rendezvous::Hello { challenge: 1, echo: 0, seen_at: alice.at, locals: Vec::new() };
    let attempt = key.attempt(alice.host, WireId(7), bob.host, &nonce);
    for bytes in [
        alice.head(1).encode(&key, &Said::Left),
        alice.head(1).encode(&key, &Said::Introducing),
        alice.head(1).encode(&key, &Said::Carried(vec![1])),
        alice.head(1).encode_bare(&Said::Unknown),
        alice.head(1).encode_bare(&Said::Cookie(vec![1; 17])),
        alice.head(1).encode_between(&attempt, &Said::Hello(hello)),
    ] {
        assert_eq!(world.give(Role::Main, alice.at, &bytes), [], "{bytes:?}");
    }
    alice.count += 1;
    assert_eq!(world.give(Role::Other, alice.at, &join_bytes(&alice)), [], "the other port is for probes");
    let nobody = Peer { host: HostId(0), ..alice.clone() };
    assert_eq!(world.give(Role::Main, alice.at, &join_bytes(&nobody)), [], "0 is the server");
}

#[test]
fn another_port_of_who_asks_is_reached_and_no_other_address() {
    let (mut world, alice) = (World::new(rules()), Peer::new(1, "203.0.113.1:3359"));
    let reach = alice.head(5).encode_bare(&Said::NatReach { port: 40_000 });
    let [sent] = world.give(Role::Main, alice.at, &reach) else { panic!("no answer") };
    assert_eq!((sent.via.role, sent.to), (Role::Main, address("203.0.113.1:40000")));
    assert!(sent.bytes.len() < reach.len());
    // Ports of services, and a datagram that is not padded.
    let low = alice.head(5).encode_bare(&Said::NatReach { port: 53 });
    assert_eq!(world.give(Role::Main, alice.at, &low), []);
    assert_eq!(world.give(Role::Main, alice.at, &reach[..reach.len() - 1]), []);
}

#[test]
fn probes_of_nats_are_answered_from_both_ports() {
    let (mut world, alice) = (World::new(rules()), Peer::new(1, "203.0.113.1:3359"));
    for (role, alternate, from) in [
        (Role::Main, false, Role::Main),
        (Role::Main, true, Role::Other),
        (Role::Other, false, Role::Other),
        (Role::Other, true, Role::Main),
    ] {
        let probe = alice.head(5).encode_bare(&Said::NatProbe { alternate });
        let [sent] = world.give(role, alice.at, &probe) else { panic!("no answer") };
        assert_eq!((sent.via.role, sent.to), (from, alice.at));
        let (head, said) = alice.read(&sent.bytes);
        let other = address(if role == Role::Main { "198.51.100.1:3361" } else { SERVER });
        assert_eq!((head.receiver, said), (WireId(5), Said::NatSeen { public: alice.at, alternate: Some(other) }));
    }
}
