//! Members and a server that comes and goes.

use super::*;

fn two() -> World {
    World::pair(11, Kind::PortRestricted, Kind::Firewall, slow(10))
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

#[test]
fn names_of_one_are_known_to_all() {
    let mut world = two();
    let now = world.now;
    world.hosts[1].member.add_name(now, &name("alice.chat"));
    world.join();
    world.run(Duration::from_secs(30));
    let others = world.hosts[0].member.others();
    let names: Vec<String> = others[&HostId(2)].names.iter().map(Name::to_string).collect();
    assert_eq!(names, ["alice.chat"]);
    assert_eq!(others[&HostId(2)].public.ip(), "203.0.113.2".parse::<IpAddr>().unwrap());
    let now = world.now;
    world.hosts[1].member.remove_name(now, &name("alice.chat"));
    world.hosts[1].member.add_name(now, &name("bob.chat"));
    world.run(Duration::from_secs(30));
    let names: Vec<String> = world.hosts[0].member.others()[&HostId(2)].names.iter().map(Name::to_string).collect();
    assert_eq!(names, ["bob.chat"]);
    world.hosts[1].member.leave();
    world.run(Duration::from_secs(30));
    assert!(world.hosts[0].member.others().is_empty());
}

/// More names than one datagram holds, and more than one answer does.
#[test]
fn many_names_go_in_pages() {
    let mut world = two();
    let now = world.now;
    for n in 0..300 {
        world.hosts[1].member.add_name(now, &name(&format!("service-{n:03}.example.of.some.length")));
    }
    world.join();
    world.run(Duration::from_secs(40));
    assert_eq!(world.server.names(2).len(), 300);
    assert_eq!(world.hosts[0].member.others()[&HostId(2)].names.len(), 300);
}

#[test]
fn a_restarted_server_is_joined_again() {
    let mut world = two();
    let now = world.now;
    world.hosts[1].member.add_name(now, &name("alice.chat"));
    world.join();
    world.run(Duration::from_secs(30));
    world.server.restart();
    world.run(Duration::from_secs(60));
    assert_eq!(world.server.names(2), ["alice.chat"]);
    assert_eq!(world.hosts[0].member.others().len(), 1);
    assert!(world.allocate().is_ok());
}

#[test]
fn a_server_that_is_gone_is_looked_up_again() {
    let mut world = two();
    world.join();
    while world.hosts[0].member.poll_event().is_some() {}
    world.server.up = false;
    world.run(Duration::from_secs(90));
    assert_eq!(world.hosts[0].member.standing(), Standing::Joining);
    world.server.up = true;
    world.run(Duration::from_secs(20));
    assert_eq!(world.hosts[0].member.standing(), Standing::Joined);
}

/// A member that has nothing to say is heard every 15 to 25 s.
#[test]
fn refreshing_becomes_seldomer() {
    let mut world = two();
    world.join();
    world.run(Duration::from_secs(10));
    let before = world.server.joins;
    world.run(Duration::from_secs(600));
    let each = f64::from(world.server.joins - before) / 2.0;
    assert!((24.0..=40.0).contains(&each), "{each} in ten minutes");
}

/// Another key: the same answer as another session, and no storm of questions.
#[test]
fn a_wrong_key_is_told_and_not_repeated() {
    let mut world = two();
    world.server.key = proto::rendezvous::SessionKey::new("darkreign", b"another");
    let (now, at) = (world.now, world.server.at);
    world.hosts[0].member.server_at(now, at);
    world.run(Duration::from_secs(20));
    assert_eq!(world.hosts[0].member.standing(), Standing::Unknown);
    assert!(world.net.tally().sent < 12, "{:?}", world.net.tally());
}

/// The server and the others hear of another address at once, and what stands before the host is found out anew.
#[test]
fn a_host_with_another_address_is_known_there_at_once() {
    let mut world = two();
    let now = world.now;
    world.hosts[1].member.add_name(now, &name("alice.chat"));
    world.join();
    world.run(Duration::from_secs(100));
    let before = world.hosts[1].member.public();
    world.moves(1, "203.0.113.8");
    world.run(Duration::from_secs(1));
    let public = world.hosts[1].member.public();
    assert!(public.is_some() && public != before, "{before:?}, {public:?}");
    world.run(Duration::from_secs(30));
    let other = &world.hosts[0].member.others()[&HostId(2)];
    assert_eq!((Some(other.public), other.names.len()), (public, 1));
    assert_eq!(other.locals, ["203.0.113.8:3359".parse().unwrap()]);
    // Firewall of two hosts now; it is asked as before.
    assert!(world.hosts[1].member.nat().mapping == Mapping::None, "{:?}", world.hosts[1].member.nat());
    assert!(world.allocate().is_ok());
}

/// A full session is told as such, is not asked often, and is joined once there is room.
#[test]
fn a_full_session_is_told_and_joined_later() {
    let mut world = two();
    world.server.room = 1;
    let (now, at) = (world.now, world.server.at);
    world.hosts[0].member.server_at(now, at);
    world.run(Duration::from_secs(1));
    world.hosts[1].member.server_at(now, at);
    let before = world.net.tally().sent;
    world.run(Duration::from_secs(60));
    let standings = [0, 1].map(|n: usize| world.hosts[n].member.standing());
    assert_eq!(standings, [Standing::Joined, Standing::Full]);
    assert!(world.net.tally().sent - before < 40, "{:?}", world.net.tally());
    world.server.room = 2;
    world.run(Duration::from_secs(15));
    assert_eq!(world.hosts[1].member.standing(), Standing::Joined);
}

/// An answer to an earlier question is no answer now, though its seal is true.
#[test]
fn replayed_answers_are_dropped() {
    use proto::WireId;
    use proto::rendezvous::{Head, Joined, NamesAt, Said, Seen, SessionId};
    let mut world = two();
    world.join();
    world.run(Duration::from_secs(60));
    let public = world.hosts[0].member.public();
    let joined = Said::Joined(Joined {
        public: "203.0.113.99:9".parse().unwrap(),
        seen: Seen::default(),
        latest: 0,
        reset: true,
        names_at: NamesAt::default(),
        refresh_ms: 1_000,
        relay: 0,
        cookie: b"old".to_vec(),
        changes: Vec::new(),
    });
    for count in 0..100 {
        let session = SessionId::of("darkreign");
        let head = Head { session, member: HostId(0), sender: WireId(0), receiver: WireId(count) };
        let (now, at, bytes) = (world.now, world.server.at, head.encode(&world.server.key, &joined));
        let _ = world.hosts[0].member.handle(now, at, &bytes, &mut world.rng);
    }
    assert_eq!(world.hosts[0].member.public(), public);
    assert_eq!(world.hosts[0].member.others().len(), 1);
}
