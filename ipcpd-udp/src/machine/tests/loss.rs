//! How often an allocation succeeds where datagrams are lost, delayed, reordered and doubled: 200 ms there and back,
//! the default deadline.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng;

use super::world::{Fate, World};
use super::*;

/// Loses so many in a hundred; doubles three; delays the rest by 80 to 120 ms, so that some overtake others.
fn far(seed: u64, loss: u32) -> World {
    World::new(seed, bad(loss))
}

fn bad(loss: u32) -> impl FnMut(&mut ChaCha12Rng) -> Fate {
    move |rng| match rng.next_u32() % 100 {
        n if n < loss => Fate::Lose,
        n if n >= 97 => Fate::Double,
        _ => Fate::Delay(80 + u64::from(rng.next_u32() % 41)),
    }
}

/// Of so many first flows between two hosts, and of so many second ones, how many were allocated; and the median time
/// of the first, milliseconds.
fn allocated(seeds: u64, loss: u32) -> [u64; 3] {
    let (mut first, mut second, mut times) = (0, 0, Vec::new());
    for seed in 0..seeds {
        let mut world = far(seed, loss);
        world.ask(0, 1, "echo", 0);
        let mut time = 0;
        while world.hosts[0].allocated == 0 && world.hosts[0].failed.is_empty() {
            world.run(10);
            time += 10;
        }
        assert!(time <= 5_010, "an answer by the deadline: seed {seed}");
        times.push(time);
        first += u64::from(world.hosts[0].allocated);
        assert!(world.hosts[1].offers.len() <= 1, "never a second flow: seed {seed}");
        // The second one knows how far the peer is and what it understands.
        let before = world.hosts[0].allocated;
        world.ask(0, 2, "echo", 0);
        world.run(5_100);
        second += u64::from(world.hosts[0].allocated - before);
        truthful(&mut world, seed);
    }
    times.sort_unstable();
    [first, second, times[times.len() / 2]]
}

/// Once the network is well again and every word was said, no side has a flow that the other has not.
fn truthful(world: &mut World, seed: u64) {
    world.heal();
    world.run(60_000);
    let [a, b] = &world.hosts;
    assert_eq!(a.live().len(), b.live().len(), "seed {seed}");
    for host in 0..2 {
        for flow in world.hosts[host].offers.keys().copied().collect::<Vec<_>>() {
            world.hosts[host].shim.released(world.now, flow);
        }
        world.settle();
        world.run(2_000);
    }
    for host in &world.hosts {
        assert!(host.live().is_empty(), "seed {seed}");
        let mut ended: Vec<_> = host.ended.iter().map(|(flow, _)| *flow).collect();
        ended.sort_unstable();
        ended.dedup();
        assert_eq!(ended.len(), host.offers.len(), "each flow that was offered ended once: seed {seed}");
    }
}

#[test]
fn allocations_succeed_where_three_in_ten_datagrams_are_lost() {
    let seeds = std::env::var("FLOWRING_SEEDS").map_or(300, |text| text.parse().unwrap());
    for loss in [0, 10, 30] {
        let [first, second, median] = allocated(seeds, loss);
        eprintln!("loss {loss} %: {first} and {second} of {seeds}, median {median} ms");
        let lowest = if loss == 30 { seeds * 99 / 100 } else { seeds };
        assert!(first >= lowest && second >= lowest, "loss {loss} %: {first} and {second} of {seeds}");
    }
}

#[test]
fn what_was_deallocated_is_heard_of_where_three_in_ten_datagrams_are_lost() {
    let mut late = Vec::new();
    for seed in 0..200 {
        let mut world = far(seed, 0);
        world.ask(0, 1, "echo", 0);
        world.run(1_000);
        world.turn(bad(30));
        let side = (seed % 2) as usize;
        let flow = *world.hosts[side].offers.keys().next().unwrap();
        world.hosts[side].shim.released(world.now, flow);
        world.settle();
        let mut time = 0;
        while world.hosts[1 - side].ended.is_empty() {
            world.run(10);
            time += 10;
        }
        assert!(time <= 30_000, "seed {seed}: {time} ms");
        assert!(
            matches!(world.hosts[1 - side].ended[0].1, EndReason::PeerDeallocated | EndReason::PeerUnknown),
            "seed {seed}"
        );
        late.push(time);
    }
    late.sort_unstable();
    eprintln!("dealloc heard of after {} ms (median), {} ms (99 in 100)", late[100], late[197]);
    assert!(late[100] < 500 && late[197] < 5_000, "{late:?}");
}
