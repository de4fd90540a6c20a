//! Who comes, stays and goes.

use std::time::Duration;

use proto::rendezvous::{Change, NamesAt, Refusal, Said, Seen};
use proto::{BootId, HostId};

use super::super::*;
use super::world::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_newcomer_hears_of_all_and_all_of_it() {
    let mut world = World::new(rules());
    let (mut alice, mut bob) = (Peer::new(1, "203.0.113.1:3359"), Peer::new(2, "203.0.113.2:3359"));
    let joined = world.join(&mut alice, &["alice.chat"]).unwrap();
    assert_eq!((joined.public, joined.reset, joined.changes.len()), (alice.at, true, 0));
    assert_eq!((joined.names_at, joined.refresh_ms, joined.relay), (NamesAt { generation: 1, count: 1 }, 25_000, 0));
    let joined = world.join(&mut bob, &[]).unwrap();
    let there = Change::Member { member: HostId(1), public: alice.at, locals: alice.locals.clone() };
    assert_eq!(joined.changes, [there, Change::Name(HostId(1), name("alice.chat"))]);
    assert_eq!((joined.seen.version, joined.seen.epoch != 0), (joined.latest, true));
    // Alice is told that there is news, once, and hears only that.
    let news = world.pass(5 * SECOND);
    assert_eq!(news.iter().map(|news| news.to).collect::<Vec<_>>(), [alice.at]);
    assert_eq!(alice.read(&news[0].bytes).1, Said::News(joined.seen));
    let joined = world.join(&mut alice, &[]).unwrap();
    let there = Change::Member { member: HostId(2), public: bob.at, locals: bob.locals.clone() };
    assert_eq!((joined.reset, joined.changes), (false, vec![there]));
    assert_eq!(world.pass(60 * SECOND), []);
}

#[test]
fn names_come_and_go_by_changes() {
    let mut world = World::new(rules());
    let (mut alice, mut bob) = (Peer::new(1, "203.0.113.1:3359"), Peer::new(2, "203.0.113.2:3359"));
    world.join(&mut alice, &["a", "b"]).unwrap();
    world.join(&mut bob, &[]).unwrap();
    // A new generation: what is not named again is gone.
    alice.names_at = NamesAt { generation: 2, count: 0 };
    assert_eq!(world.join(&mut alice, &["b", "c"]).unwrap().names_at, NamesAt { generation: 2, count: 2 });
    let changes = world.join(&mut bob, &[]).unwrap().changes;
    assert_eq!(changes, [Change::NameGone(HostId(1), name("a")), Change::Name(HostId(1), name("c"))]);
    // What the server has already is not counted again; what it has not is asked for.
    for (generation, count, have) in [(2, 1, (2, 2)), (2, 5, (2, 2)), (3, 4, (2, 2)), (2, 2, (2, 3))] {
        alice.names_at = NamesAt { generation, count };
        let have = NamesAt { generation: have.0, count: have.1 };
        assert_eq!(world.join(&mut alice, &["d"]).unwrap().names_at, have, "{generation} {count}");
    }
    assert_eq!(world.join(&mut bob, &[]).unwrap().changes, [Change::Name(HostId(1), name("d"))]);
}

#[test]
fn a_long_list_comes_in_pieces() {
    let mut world = World::new(rules());
    for host in 1..=100 {
        let mut peer = Peer::new(host, &format!("203.0.113.{host}:3359"));
        world.join(&mut peer, &[&format!("name-of-{host}")]).unwrap();
    }
    let (mut late, mut names, mut pieces) = (Peer::new(200, "203.0.113.200:3359"), 0, 0);
    loop {
        let joined = world.join(&mut late, &[]).unwrap();
        assert_eq!(joined.reset, pieces == 0);
        names += joined.changes.iter().filter(|change| matches!(change, Change::Name(..))).count();
        pieces += 1;
        if joined.seen.version == joined.latest {
            break;
        }
    }
    assert_eq!(names, 100);
    assert!((5..12).contains(&pieces), "{pieces} pieces");
}

#[test]
fn who_is_silent_is_forgotten_and_who_leaves_at_once() {
    let mut world = World::new(rules());
    let (mut alice, mut bob) = (Peer::new(1, "203.0.113.1:3359"), Peer::new(2, "203.0.113.2:3359"));
    let mut carol = Peer::new(3, "203.0.113.3:3359");
    for peer in [&mut alice, &mut bob, &mut carol] {
        world.join(peer, &[]).unwrap();
    }
    world.pass(90 * SECOND);
    world.join(&mut alice, &[]).unwrap();
    world.pass(11 * SECOND);
    world.join(&mut alice, &[]).unwrap();
    let status = world.server.status(world.now, Some("lobby"));
    assert_eq!(status.of_session.iter().map(|member| &*member.host).collect::<Vec<_>>(), ["0000000000000001"]);
    assert_eq!(status.counts["silent"], 2);
    let (at, boot) = (alice.at, alice.boot);
    alice.count += 1;
    let id = alice.count;
    assert_eq!(world.say(&mut alice, at, id, |cookie| Said::Leave { boot, cookie }), [Said::Left]);
    assert_eq!(world.server.status(world.now, None).members, 0);
    // It said so twice.
    alice.count += 1;
    let id = alice.count;
    assert_eq!(world.say(&mut alice, at, id, |cookie| Said::Leave { boot, cookie }), [Said::Left]);
    let events = world.events();
    let went = |event: &&Event| matches!(event, Event::Left { .. });
    assert_eq!(events.iter().filter(went).count(), 3, "{events:?}");
    world.pass(600 * SECOND);
    assert_eq!(world.server.poll_timeout(), None, "nothing is left to be done");
}

#[test]
fn a_restarted_server_has_everything_anew() {
    let (mut world, mut alice) = (World::new(rules()), Peer::new(1, "203.0.113.1:3359"));
    let before = world.join(&mut alice, &["a"]).unwrap();
    world.server = Server::new(rules(), world.server.places.clone(), [8; 32]);
    // The cookie is not its own; `join` asks again with its.
    let joined = world.join(&mut alice, &[]).unwrap();
    assert!(joined.reset && joined.seen.epoch != before.seen.epoch && joined.names_at == NamesAt::default());
    alice.names_at = NamesAt { generation: 2, count: 0 };
    assert_eq!(world.join(&mut alice, &["a"]).unwrap().names_at.count, 1);
}

#[test]
fn a_member_that_moves_keeps_its_names() {
    let mut world = World::new(rules());
    let (mut alice, mut bob) = (Peer::new(1, "203.0.113.1:3359"), Peer::new(2, "203.0.113.2:3359"));
    world.join(&mut alice, &["a"]).unwrap();
    world.join(&mut bob, &[]).unwrap();
    alice.at = address("203.0.113.9:1024");
    world.join(&mut alice, &[]).unwrap();
    let there = Change::Member { member: HostId(1), public: alice.at, locals: alice.locals.clone() };
    assert_eq!(world.join(&mut bob, &[]).unwrap().changes, std::slice::from_ref(&there));
    // Who begins anew hears of the member before it hears of its names.
    bob.seen = Seen::default();
    let changes = world.join(&mut bob, &[]).unwrap().changes;
    assert_eq!(changes[..2], [there, Change::Name(HostId(1), name("a"))]);
}

#[test]
fn a_shim_that_was_started_anew_is_the_same_member() {
    let (mut world, mut alice) = (World::new(rules()), Peer::new(1, "203.0.113.1:3359"));
    world.join(&mut alice, &["a"]).unwrap();
    let mut old = alice.clone();
    (alice.boot, alice.count, alice.names_at) = (BootId(5), 0, NamesAt { generation: 9, count: 0 });
    assert_eq!(world.join(&mut alice, &[]).unwrap().names_at, NamesAt { generation: 9, count: 0 });
    assert!(world.join(&mut old, &[]).is_none(), "the start before is over");
    let status = world.server.status(world.now, Some("lobby"));
    assert_eq!((status.members, status.of_session[0].names.len()), (1, 0));
}

#[test]
fn a_full_session_says_so_and_its_members_stay() {
    let mut rules = rules();
    rules.sessions[0].members = Some(2);
    rules.limits.members_per_address = 1;
    let mut world = World::new(rules);
    let (mut alice, mut bob) = (Peer::new(1, "203.0.113.1:3359"), Peer::new(2, "203.0.113.1:3360"));
    world.join(&mut alice, &[]).unwrap();
    assert!(world.join(&mut bob, &[]).is_none(), "one for each address");
    assert_eq!(world.answers(&bob, bob.at), [Said::NotIntroduced(Refusal::TooMany)]);
    bob.at = address("203.0.113.2:1");
    world.join(&mut bob, &[]).unwrap();
    let mut carol = Peer::new(3, "203.0.113.3:3359");
    assert!(world.join(&mut carol, &[]).is_none());
    assert_eq!(world.answers(&carol, carol.at), [Said::NotIntroduced(Refusal::TooMany)]);
    assert!(world.join(&mut alice, &[]).is_some() && world.join(&mut bob, &[]).is_some());
}

#[test]
fn local_addresses_are_hidden_from_strangers_where_told() {
    let mut rules = rules();
    rules.hide_local = true;
    let mut world = World::new(rules);
    let (mut alice, mut near) = (Peer::new(1, "203.0.113.1:3359"), Peer::new(2, "203.0.113.1:3360"));
    let mut far = Peer::new(3, "203.0.113.3:3359");
    world.join(&mut alice, &[]).unwrap();
    for (peer, shown) in [(&mut near, 1), (&mut far, 0)] {
        let changes = world.join(peer, &[]).unwrap().changes;
        let Change::Member { member: HostId(1), locals, .. } = &changes[0] else { panic!("{changes:?}") };
        assert_eq!(locals.len(), shown);
    }
}

#[test]
fn another_key_empties_a_session_and_the_others_stay() {
    let mut world = World::new(rules());
    let (mut alice, mut bob) = (Peer::new(1, "203.0.113.1:3359"), Peer::new(2, "203.0.113.2:3359"));
    bob.session = "other".to_owned();
    world.join(&mut alice, &[]).unwrap();
    world.join(&mut bob, &[]).unwrap();
    let mut changed = rules();
    changed.sessions[0].key = proto::rendezvous::SessionKey::new("lobby", b"another");
    world.server.reload(changed.clone());
    assert_eq!(world.server.status(world.now, None).members, 1);
    assert!(world.join(&mut alice, &[]).is_none());
    alice.secret = b"another".to_vec();
    assert!(world.join(&mut alice, &[]).is_some() && !world.join(&mut bob, &[]).unwrap().reset);
    changed.sessions.remove(1);
    world.server.reload(changed);
    assert!(world.join(&mut bob, &[]).is_none());
    world.pass(600 * SECOND);
    assert_eq!(world.server.poll_timeout(), None);
}

#[test]
fn a_server_that_closes_lets_nobody_new_in() {
    let mut world = World::new(rules());
    let (mut alice, mut bob) = (Peer::new(1, "203.0.113.1:3359"), Peer::new(2, "203.0.113.2:3359"));
    world.join(&mut alice, &[]).unwrap();
    assert!(world.server.is_idle());
    world.server.close();
    assert!(world.join(&mut bob, &[]).is_none() && world.join(&mut alice, &[]).is_some());
}

#[test]
fn control_datagrams_are_carried_between_members_only() {
    let mut world = World::new(rules());
    let (mut alice, mut bob) = (Peer::new(1, "203.0.113.1:3359"), Peer::new(2, "203.0.113.2:3359"));
    world.join(&mut alice, &[]).unwrap();
    world.join(&mut bob, &[]).unwrap();
    let carry = alice.head(5).encode(&alice.key(), &Said::Carry { to: HostId(2), payload: vec![1; 64] });
    world.give(Role::Main, alice.at, &carry);
    let [sent] = &world.sent[..] else { panic!("{:?}", world.sent) };
    let (head, said) = bob.read(&sent.bytes);
    assert_eq!((sent.to, head.member, said), (bob.at, HostId(1), Said::Carried(vec![1; 64])));
    assert!(world.give(Role::Main, address("203.0.113.1:9"), &carry).is_empty(), "from elsewhere");
    let nobody = alice.head(5).encode(&alice.key(), &Said::Carry { to: HostId(9), payload: vec![] });
    assert!(world.give(Role::Main, alice.at, &nobody).is_empty());
}
