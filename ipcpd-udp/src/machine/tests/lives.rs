//! Random lives of two hosts, many of them, held against the reference in [`super::model`].
//!
//! `FLOWRING_SIM_SEED=7 cargo test -p ipcpd-udp --lib random_lives` plays one again;
//! `FLOWRING_SIM_LIVES=100000 cargo test --release -p ipcpd-udp --lib random_lives` plays that many.

use std::collections::BTreeSet;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sim::{Bursts, Kind, Link, Rate};

use super::host::{Answering, Manners};
use super::world::World;
use super::*;

type Seen = BTreeSet<(Phase, table::Cause, Phase)>;

/// As many as take a few seconds in a debug build.
const LIVES: u64 = 1500;
const ROUNDS: u32 = 30;

fn below(rng: &mut ChaCha12Rng, bound: u32) -> u32 {
    rng.next_u32() % bound
}

/// A link between good and hardly usable.
fn any_link(rng: &mut ChaCha12Rng) -> Link {
    let mut share = |most: u32| f64::from(below(rng, most + 1)) / 100.0;
    let (loss, reorder, duplicate) = (share(40), share(20), share(20));
    let [delay, jitter, hold, extra] = [60, 40, 3000, 24].map(|most| u64::from(below(rng, most)));
    Link {
        delay: ms(delay),
        jitter: ms(jitter),
        loss,
        reorder,
        hold: ms(hold),
        duplicate,
        bursts: extra.is_multiple_of(4).then_some(Bursts { begin: 0.05, end: 0.3 }),
        corrupt: if extra == 1 { 0.05 } else { 0.0 },
        rate: (extra == 2).then_some(Rate { bits: 500_000, queue: 10_000 }),
    }
}

fn any_manners(rng: &mut ChaCha12Rng) -> Manners {
    let one_in = |rng: &mut ChaCha12Rng, n: u32, value: u32| if below(rng, n) == 0 { value } else { 0 };
    Manners {
        answering: Answering::Accept { after: 0 },
        trouble: one_in(rng, 3, 5),
        untaken: one_in(rng, 3, 10),
        takes_within: u64::from(one_in(rng, 2, 4900)),
        slow: one_in(rng, 2, 30),
        talkative: one_in(rng, 2, 50),
    }
}

/// One life, and the transitions that were seen in it. `Err`: what is wrong with it.
pub(super) fn life(seed: u64) -> Result<Seen, String> {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let kind = if below(&mut rng, 2) == 0 { Kind::Open } else { Kind::ALL[below(&mut rng, 10) as usize] };
    let mut world = World::new(seed, kind, &any_link(&mut rng));
    // Flows on the listen port: at one host, the other, both, or none.
    for host in (0..2).filter(|host| ((seed / 3) >> host) & 1 == 1) {
        world.share(host);
    }
    for host in &mut world.hosts {
        host.manners = any_manners(&mut rng);
    }
    let crashes = below(&mut rng, 2) == 0;
    for _ in 0..ROUNDS {
        let host = below(&mut rng, 2) as usize;
        let time = u64::from(below(&mut rng, 1500));
        act(&mut world, &mut rng, host, time, crashes);
        world.settle();
        world.run(time);
    }
    world.check()?;
    Ok(world.hosts.iter_mut().flat_map(|host| host.seen()).collect())
}

fn act(world: &mut World, rng: &mut ChaCha12Rng, host: usize, time: u64, crashes: bool) {
    let now = world.now;
    let flows: Vec<FlowId> =
        world.hosts[host].programs.iter().filter(|(_, p)| p.holds).map(|(flow, _)| *flow).collect();
    let some = flows.get(below(rng, flows.len().max(1) as u32) as usize).copied();
    let played = &mut world.hosts[host];
    match (below(rng, 17), some) {
        (dice @ 0..=4, _) => {
            // Nobody can ask for a host behind a box.
            let host = if world.boxed { 0 } else { host };
            let to = match below(rng, 20) {
                0 => "nobody",
                _ => ["echo", "back"][host],
            };
            let flow = world.ask(host, to, 1000 + 3 * time);
            if dice == 0 {
                world.run(time / 2);
                world.hosts[host].cancel(world.now, flow);
            } else if dice == 2 {
                world.run(time / 4);
                world.stranger_talks();
            } else if dice == 1 && time.is_multiple_of(3) {
                world.run(time / 4);
                world.hosts[host].dealloc(world.now, flow);
            }
        }
        (5, _) => played.manners.answering = Answering::Accept { after: time },
        (6, _) => played.manners.answering = Answering::Refuse { after: time / 3 },
        (7, _) => played.manners.answering = Answering::Never,
        (8, _) => played.manners.answering = Answering::Accept { after: 0 },
        (9, Some(flow)) => played.leave(now, flow, false),
        (10, Some(flow)) => played.leave(now, flow, true),
        (11, Some(flow)) => played.dealloc(now, flow),
        (12, Some(flow)) => played.suspect(now, flow),
        (14, _) => world.stranger_talks(),
        (13, _) if crashes => played.crash(now, time),
        _ => world.everybody_talks(),
    }
}

#[test]
fn random_lives() {
    sim::seeds::play("cargo test -p ipcpd-udp --lib random_lives", LIVES, |seed| life(seed).map(drop));
}
