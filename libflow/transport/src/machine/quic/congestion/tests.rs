//! What the controller makes of paths. All is computed: the same figures on every machine.

use std::time::Duration;

use proptest::prelude::*;

use super::world::{PACKET, Path, Tally, World, moment};
use super::{Bbr, LEAST_WINDOW};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const SEEDS: std::ops::Range<u64> = 1..3;
/// Where many cases are computed: what counts is the ratio of times and amounts.
const SLOWER: f64 = 20.0;

/// Share of the path's rate that got through in `seconds`.
fn share(path: Path, tally: Tally, seconds: u32) -> f64 {
    tally.received as f64 * PACKET as f64 / (path.rate * f64::from(seconds))
}

/// Share of what was sent that the path's chance does not explain.
fn waste(path: Path, tally: Tally) -> f64 {
    tally.lost as f64 / tally.sent as f64 - path.loss
}

fn mean(of: impl Fn(u64) -> f64) -> f64 {
    SEEDS.map(&of).sum::<f64>() / SEEDS.count() as f64
}

/// One flow from its start.
fn alone(path: Path, seconds: u32, seed: u64) -> Tally {
    let mut world = World::new(path, seed);
    world.bbr(Duration::ZERO);
    world.run(SECOND * seconds)[0]
}

#[test]
fn a_lossy_path_is_used() {
    // Round trip, loss, and how much of the path at least is used in 4 s, the start included.
    for (mbit, rtt, loss, least) in [
        (100.0, 40, 0.01, 0.91),
        (SLOWER, 20, 0.0, 0.96),
        (SLOWER, 20, 0.03, 0.91),
        (SLOWER, 20, 0.1, 0.75),
        (SLOWER, 40, 0.0, 0.93),
        (SLOWER, 40, 0.03, 0.88),
        (SLOWER, 100, 0.0, 0.81),
        (SLOWER, 100, 0.01, 0.79),
        (SLOWER, 100, 0.1, 0.6),
    ] {
        let path = Path::new(mbit, rtt, loss);
        let used = mean(|seed| share(path, alone(path, 4, seed), 4));
        assert!(used >= least, "{mbit} Mbit/s, {rtt} ms, {loss}: {used:.3}");
        let wasted = waste(path, alone(path, 4, 1));
        assert!(wasted <= 0.02, "{mbit} Mbit/s, {rtt} ms, {loss}: {wasted:.4} wasted");
    }
}

#[test]
fn slow_fast_and_restless_paths_are_used() {
    for (mbit, rtt, jitter, loss, least) in [
        (1.0, 40, 0, 0.01, 0.93),
        (1.0, 40, 10, 0.0, 0.93),
        (10.0, 10, 2, 0.0, 0.95),
        (10.0, 100, 25, 0.0, 0.9),
        (1000.0, 10, 2, 0.0, 0.85),
    ] {
        let path = Path { jitter: MS * jitter, ..Path::new(mbit, rtt, loss) };
        // As long as 10,000 packets take, a second at least.
        let seconds = ((120.0 / mbit) as u32).clamp(1, 10);
        let used = share(path, alone(path, seconds, 1), seconds);
        assert!(used >= least, "{mbit} Mbit/s, {rtt} ms ± {jitter}, {loss}: {used:.3}");
    }
}

#[test]
fn a_sender_that_is_woken_late_makes_up_for_it() {
    for rtt in [20, 40, 100] {
        for loss in [0.0, 0.01] {
            let path = Path { late: MS * 5, ..Path::new(SLOWER, rtt, loss) };
            let used = share(path, alone(path, 10, 1), 10);
            assert!(used > 0.85 - rtt as f64 / 1000.0, "{rtt} ms, {loss}: {used:.3}");
        }
    }
}

#[test]
fn a_short_queue_is_not_flooded() {
    for queue in [0.1, 0.3] {
        let mut path = Path::new(SLOWER, 40, 0.0);
        path.queue = (path.queue as f64 * queue) as u64;
        let tally = alone(path, 10, 1);
        assert!(share(path, tally, 10) > 0.93, "{queue}: {:.3}", share(path, tally, 10));
        assert!(waste(path, tally) < 0.02, "{queue}: {:.4}", waste(path, tally));
    }
}

#[test]
fn a_flow_alone_leaves_the_queue_empty() {
    let mut world = World::new(Path { queue: 2 << 20, ..Path::new(SLOWER, 40, 0.0) }, 1);
    world.bbr(Duration::ZERO);
    world.run(SECOND * 5);
    world.mean_wait();
    world.run(SECOND * 10);
    let wait = world.mean_wait();
    assert!(wait < MS * 5, "{wait:?} of a queue that holds 800 ms");
}

/// Jain's index of two, the second of which begins `after`, over 10 s from then on.
fn fairness(path: Path, after: u32, seed: u64) -> f64 {
    let mut world = World::new(path, seed);
    world.bbr(Duration::ZERO);
    world.bbr(SECOND * after);
    world.run(SECOND * after * 2);
    let both = world.run(SECOND * 10);
    let (one, two) = (both[0].received as f64, both[1].received as f64);
    (one + two).powi(2) / 2.0 / (one.powi(2) + two.powi(2))
}

#[test]
fn flows_share() {
    for (rtt, loss) in [(20, 0.0), (40, 0.0), (40, 0.01), (100, 0.0)] {
        let path = Path::new(SLOWER, rtt, loss);
        let together = mean(|seed| fairness(path, 0, seed));
        assert!(together > 0.95, "{rtt} ms, {loss}: {together:.2}");
    }
    for (rtt, loss) in [(20, 0.0), (40, 0.0), (40, 0.01)] {
        let path = Path::new(SLOWER, rtt, loss);
        let late = mean(|seed| fairness(path, 5, seed));
        assert!(late > 0.8, "{rtt} ms, {loss}: {late:.2} for who comes late");
    }
}

/// Of its fair share, what a TCP with Cubic has beside one flow in 10 s.
fn beside(path: Path, after: [u32; 2], seed: u64) -> f64 {
    let mut world = World::new(path, seed);
    world.cubic(SECOND * after[0]);
    world.bbr(SECOND * after[1]);
    world.run(SECOND);
    let both = world.run(SECOND * 10);
    let (tcp, ours) = (both[0].received as f64, both[1].received as f64);
    2.0 * tcp / (tcp + ours)
}

#[test]
fn tcp_has_its_share() {
    for rtt in [20, 40, 100] {
        for queue in [0.3, 1.0, 4.0] {
            for after in [[0, 0], [0, 1]] {
                let mut path = Path::new(SLOWER, rtt, 0.0);
                path.queue = (path.queue as f64 * queue) as u64;
                let tcp = mean(|seed| beside(path, after, seed));
                assert!(tcp > 0.35, "{rtt} ms, queue {queue}, {after:?}: TCP has {tcp:.2}");
                // Behind a queue that TCP has filled with four times the path's round trip it takes minutes.
                assert!(tcp < 1.95 || queue > 1.0, "{rtt} ms, queue {queue}, {after:?}: TCP has {tcp:.2}");
            }
        }
    }
}

#[test]
fn a_path_that_changes_is_followed() {
    for rtt in [20, 40] {
        let mut world = World::new(Path::new(SLOWER, rtt, 0.0), 1);
        world.bbr(Duration::ZERO);
        world.run(SECOND * 5);
        world.path.rate /= 4.0;
        world.run(SECOND * 2);
        let slow = world.run(SECOND * 8)[0];
        let used = share(world.path, slow, 8);
        assert!(used > 0.9, "{rtt} ms, slower: {used:.2}");
        assert!(waste(world.path, slow) < 0.03, "{rtt} ms, slower: {:.3}", waste(world.path, slow));
        world.path.rate *= 4.0;
        let back = share(world.path, world.run(SECOND * 10)[0], 10);
        assert!(back > 0.75, "{rtt} ms, faster again: {back:.2}");
        world.path.rtt *= 3;
        world.run(SECOND * 12);
        let far = share(world.path, world.run(SECOND * 5)[0], 5);
        assert!(far > 0.85, "{rtt} ms, longer: {far:.2}");
        assert!(world.control(0).window() < 2 << 20);
    }
}

/// Shares of a path that a flow from another one gets in its first second, in the next two, and in two more.
fn shares_after(before: Path, after: Path, told: bool, seed: u64) -> [f64; 3] {
    let mut world = World::new(before, seed);
    world.bbr(Duration::ZERO);
    world.run(SECOND * 5);
    world.path = after;
    if told {
        world.moved(0);
    }
    [1, 2, 2].map(|seconds| share(after, world.run(SECOND * seconds)[0], seconds))
}

#[test]
fn another_path_is_found_out_at_once() {
    let fast = Path::new(SLOWER * 5.0, 10, 0.0);
    // From where to where; the least in the second and third second; the most that a flow has in the two after it that was not told.
    for (before, after, least, untold) in [
        (fast, Path::new(2.0, 10, 0.0), 0.95, 1.1),
        (fast, Path::new(2.0, 60, 0.0), 0.95, 0.75),
        (fast, Path::new(2.0, 200, 0.0), 0.95, 0.6),
        (fast, Path::new(2.0, 60, 0.02), 0.85, 1.1),
        (fast, Path::new(SLOWER, 300, 0.0), 0.5, 0.5),
        (Path::new(2.0, 60, 0.0), fast, 0.95, 1.1),
    ] {
        for seed in SEEDS {
            let shares = shares_after(before, after, true, seed);
            assert!(shares[1] > least && shares[2] > least.max(0.85), "{before:?} to {after:?}: {shares:.2?}");
            let shares = shares_after(before, after, false, seed);
            assert!(shares[2] < untold, "{before:?} to {after:?}, which nobody told: {shares:.2?}");
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Does {
    Sends(u16),
    Hears(u8, u8),
    Loses(u8),
    Waits(u32),
    Marked,
    AllLost,
    NoneLost,
    Packet(u16),
}

fn does() -> impl Strategy<Value = Does> {
    prop_oneof![
        4 => (1u16..1500).prop_map(Does::Sends),
        4 => (any::<u8>(), any::<u8>()).prop_map(|(at, many)| Does::Hears(at, many)),
        1 => any::<u8>().prop_map(Does::Loses),
        4 => (0u32..50_000_000).prop_map(Does::Waits),
        1 => Just(Does::Marked),
        1 => Just(Does::AllLost),
        1 => Just(Does::NoneLost),
        1 => (0u16..1500).prop_map(Does::Packet),
    ]
}

proptest! {
    /// Whatever happens in whatever order, there is a window and a rate, and neither is without bounds.
    #[test]
    fn nothing_stops_or_bursts_it(all in proptest::collection::vec(does(), 1..400)) {
        let mut now = moment();
        let mut bbr = Bbr::new(now, 1200, 7);
        let (mut next, mut under_way, mut packet) = (0, std::collections::VecDeque::new(), 1200u64);
        for what in all {
            match what {
                Does::Sends(bytes) => {
                    bbr.sent(now, next, bytes.into());
                    under_way.push_back((next, u64::from(bytes)));
                    next += 1;
                }
                Does::Hears(at, many) => {
                    for _ in 0..many {
                        let at = usize::from(at) % under_way.len().max(1);
                        let Some((number, bytes)) = under_way.remove(at) else { break };
                        bbr.acked(now, number, bytes);
                    }
                    bbr.acks_end(now, under_way.iter().map(|(_, bytes)| bytes).sum(), many % 3 == 0);
                }
                Does::Loses(many) => {
                    for _ in 0..many {
                        let Some((number, bytes)) = under_way.pop_front() else { break };
                        bbr.lost(now, number, bytes);
                    }
                }
                Does::Waits(nanos) => now += Duration::from_nanos(nanos.into()),
                Does::Marked => bbr.marked(),
                Does::AllLost => bbr.all_lost(),
                Does::NoneLost => bbr.none_lost(),
                Does::Packet(bytes) => {
                    packet = u64::from(bytes).max(1);
                    bbr.set_packet(bytes);
                }
            }
            prop_assert!(bbr.window() >= LEAST_WINDOW.min(packet));
            prop_assert!(bbr.window() < 1 << 32, "{}", bbr.window());
            prop_assert!(bbr.pacing().is_finite() && bbr.pacing() > 0.0, "{}", bbr.pacing());
            prop_assert!(bbr.burst() >= 2 * packet && bbr.burst() <= (64 << 10).max(2 * packet));
        }
    }
}
