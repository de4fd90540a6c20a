//! Relayed message and stream flows, and paths that appear.

use proto::rendezvous::{FlowIds, Introduction, Refusal};
use sim::{Kind, Link};

use super::super::moving::{FIRST_PAUSE, LONGEST_PAUSE};
use super::super::rendezvous::tests::server::Server;
use super::host::Host;
use super::model::Told;
use super::world::World;
use super::*;

const CANNOT_MEET: [Kind; 2] = [Kind::SymmetricRandom, Kind::PortRestricted];

fn server(world: &mut World) -> &mut Server {
    &mut world.server.as_mut().unwrap().1
}

/// Two members that do not meet, and a relay.
fn relayed(seed: u64, link: &Link) -> World {
    let mut world = World::through_rendezvous(seed, CANNOT_MEET, link);
    server(&mut world).relays = true;
    world.settle();
    world.run(10_000);
    world
}

fn link() -> Link {
    Link { delay: ms(5), ..Link::default() }
}

/// The next flow of this cube, through the relay.
fn flow(world: &mut World, cube: proto::Cube) -> FlowId {
    let cubes = [proto::Cube::Raw, proto::Cube::Message, proto::Cube::Stream];
    while cubes[((world.hosts[0].flows + 1) % 3) as usize] != cube {
        world.hosts[0].flows += 1;
    }
    let flow = world.ask(0, "echo", 5_000);
    world.run_until_told();
    assert!(matches!(world.hosts[0].story.asked.last().unwrap().told[..], [(_, Told::Allocated)]));
    assert_eq!(ways(world), ["relayed"; 2]);
    flow
}

/// What both sides say of their only flow.
fn ways(world: &World) -> [&'static str; 2] {
    [0, 1].map(|host| only(&world.hosts[host], world.now).way)
}

fn only(host: &Host, now: Instant) -> Row {
    let mut rows = host.shim.as_ref().unwrap().rows(now, Key(0), 9);
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.remove(0)
}

fn counted(world: &World, host: usize, reason: Reason) -> u64 {
    world.hosts[host].shim.as_ref().unwrap().counters().get(reason)
}

/// Its box lets strangers in from now on, and the flow takes some time to notice.
fn opens(world: &mut World) {
    world.rebox(1, Kind::FullCone);
    world.run(2 * LONGEST_PAUSE.as_millis() as u64);
}

#[test]
fn a_relayed_flow_takes_a_path_that_appears() {
    for cube in [proto::Cube::Message, proto::Cube::Stream] {
        let mut world = relayed(1, &link());
        let flow = flow(&mut world, cube);
        world.run(60_000);
        assert_eq!(ways(&world), ["relayed"; 2]);
        opens(&mut world);
        assert_eq!(ways(&world), ["public", "mapped"]);
        let relay = server(&mut world).at.ip();
        for host in &world.hosts {
            assert_ne!(only(host, world.now).peer.ip(), relay);
        }
        // Of the rendezvous nothing is needed any more; and nothing more is sought.
        server(&mut world).up = false;
        let sought = counted(&world, 0, Reason::PathsSought);
        world.run(3_600_000);
        assert_eq!(counted(&world, 0, Reason::PathsSought), sought);
        assert_eq!([0, 1].map(|host| world.hosts[host].live().len()), [1, 1]);
        world.everybody_talks();
        world.run(1_000);
        world.hosts[0].leave(world.now, flow, false);
        world.settle();
        world.run(3_000);
        assert_eq!(world.hosts[1].live().len(), 0, "the end is told directly");
        world.check().unwrap();
    }
}

/// With loss, jitter and duplicates the two sides agree in the end.
#[test]
fn loss_parts_nobody() {
    for seed in 0..20 {
        let mut world = relayed(seed, &Link { loss: 0.05, jitter: ms(3), duplicate: 0.05, ..link() });
        flow(&mut world, proto::Cube::Stream);
        opens(&mut world);
        assert_eq!(ways(&world), ["public", "mapped"], "seed {seed}");
        world.check().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

/// Nobody authenticates what a raw flow carries: it stays where it began.
#[test]
fn a_raw_flow_never_moves() {
    let mut world = relayed(1, &link());
    flow(&mut world, proto::Cube::Raw);
    opens(&mut world);
    assert_eq!(ways(&world), ["relayed"; 2]);
    assert_eq!([0, 1].map(|host| counted(&world, host, Reason::PathsSought)), [0; 2]);
    world.check().unwrap();
}

/// Where nothing changes, an hour has some attempts, each longer after the one before.
#[test]
fn attempts_in_vain_are_few() {
    let mut world = relayed(1, &link());
    flow(&mut world, proto::Cube::Stream);
    world.run(3_600_000);
    assert_eq!(ways(&world), ["relayed"; 2]);
    let doublings = (LONGEST_PAUSE.as_secs() / FIRST_PAUSE.as_secs()).ilog2() as u64 + 2;
    let most = doublings + 3600 / LONGEST_PAUSE.as_secs();
    for host in 0..2 {
        let sought = counted(&world, host, Reason::PathsSought);
        assert!((most / 2..=most).contains(&sought), "{sought}, not {most}");
        assert_eq!(counted(&world, host, Reason::PathsMoved), 0);
    }
    world.check().unwrap();
}

/// However long the pause has become: when the other is seen elsewhere, a path is looked for soon.
#[test]
fn a_host_that_is_seen_elsewhere_is_met_soon() {
    let mut world = relayed(1, &link());
    flow(&mut world, proto::Cube::Stream);
    world.run(3_600_000);
    let sought = counted(&world, 0, Reason::PathsSought);
    world.run_until(400_000, |world| counted(world, 0, Reason::PathsSought) > sought);
    world.rebox(1, Kind::SymmetricSequential);
    world.forget(1);
    world.run(60_000);
    let since = counted(&world, 0, Reason::PathsSought) - sought;
    assert!((2..=6).contains(&since), "{since}");
}

/// A flow is brought back to its shim as what it is: relayed, and on its way; or direct.
#[test]
fn it_moves_around_restarts() {
    for crashing in [[true, false], [false, true], [true, true]] {
        for after in [false, true] {
            let mut world = relayed(1, &link());
            flow(&mut world, proto::Cube::Message);
            if after {
                opens(&mut world);
            }
            for host in (0..2).filter(|host| crashing[*host]) {
                world.hosts[host].crash(world.now, 500);
            }
            world.run(20_000);
            if !after {
                assert_eq!(ways(&world), ["relayed"; 2]);
                opens(&mut world);
            }
            assert_eq!(ways(&world), ["public", "mapped"], "{crashing:?} {after}");
            world.check().unwrap();
        }
    }
}

/// An introduction for a flow says both its ids, and comes from its peer.
#[test]
fn nobody_else_is_introduced_to_a_flow() {
    use proto::rendezvous::{FlowIds, Introduction, Refusal};
    let mut world = relayed(1, &link());
    flow(&mut world, proto::Cube::Stream);
    let now = world.now;
    let [theirs, ours] = only(&world.hosts[0], now).ids;
    let asker = world.hosts[0].settings.host;
    let shim = world.hosts[1].shim.as_mut().unwrap();
    let mut introduced = |asker, theirs, ours| {
        let moves = Some(FlowIds { asker: theirs, asked: ours, adrift: false });
        let introduction =
            Introduction { asker, attempt: WireId(77), nonce: [1; 16], name: name("echo"), round: 0, moves };
        shim.introduced(now, introduction)
    };
    for (asker, theirs, ours) in [
        (HostId(5), theirs, ours),
        (asker, WireId(theirs.0 ^ 1), ours),
        (asker, theirs, WireId(ours.0 ^ 1)),
        (asker, ours, theirs),
    ] {
        assert_eq!(introduced(asker, theirs, ours), Err(Refusal::UnknownAttempt));
    }
    assert_eq!(introduced(asker, theirs, ours), Ok(()));
    let sought = counted(&world, 1, Reason::PathsSought);
    // It comes to nothing by itself: no server knows of the attempt.
    world.run(10_000);
    assert!(counted(&world, 1, Reason::PathsSought) <= sought + 2);
    assert_eq!(ways(&world), ["relayed"; 2]);
    world.check().unwrap();
}

#[test]
fn an_attempt_that_runs_is_not_given_up_for_another_word() {
    let mut world = relayed(1, &link());
    flow(&mut world, proto::Cube::Stream);
    let now = world.now;
    let shim = world.hosts[1].shim.as_mut().unwrap();
    let (_, flow) = shim.flows.iter().find(|(_, flow)| flow.accepting).unwrap();
    let (ids, asker) = (FlowIds { asker: flow.theirs, asked: flow.ours, adrift: false }, flow.of.unwrap().host);
    let name = flow.name.clone();
    let mut ask = |attempt: u64, now: Instant| {
        let (attempt, name) = (WireId(attempt), name.clone());
        let introduction = Introduction { asker, attempt, nonce: [0; 16], name, round: 0, moves: Some(ids) };
        shim.introduced_again(now, introduction, ids)
    };
    assert_eq!(ask(1, now), Ok(()));
    assert_eq!(ask(1, now), Ok(()), "the same again");
    assert_eq!(ask(2, now), Err(Refusal::TooMany), "a replayed one, say");
    assert_eq!(ask(2, now + FIRST_PAUSE), Ok(()));
}
