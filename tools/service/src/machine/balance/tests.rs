#![expect(clippy::disallowed_methods, reason = "a test begins at some moment")]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const HEALTH: Health =
    Health { fails: const { NonZeroU32::new(2).unwrap() }, retry: Duration::from_secs(10), check: None };

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("10.0.0.{n}:80")).collect()
}

fn balance(policy: Policy, health: Health, count: usize) -> (Instant, Balance) {
    let now = Instant::now();
    (now, Balance::new(now, policy, health, names(count)))
}

fn client(n: u32) -> Option<IpAddr> {
    Some(IpAddr::V4(Ipv4Addr::from_bits(n.wrapping_mul(2_654_435_761))))
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn down(balance: &mut Balance, now: Instant, target: usize) {
    assert_eq!(balance.failed(now, target), None);
    assert_eq!(balance.failed(now, target), Some(Change::WentDown));
}

#[test]
fn targets_take_turns_and_the_dead_are_passed_over() {
    let (now, mut balance) = balance(Policy::RoundRobin, HEALTH, 3);
    let turns = |balance: &mut Balance, count| -> Vec<usize> {
        (0..count).map(|_| balance.pick(now, None, &[], |_| 0).unwrap()).collect()
    };
    assert_eq!(turns(&mut balance, 4), [0, 1, 2, 0]);
    down(&mut balance, now, 1);
    assert_eq!(turns(&mut balance, 4), [2, 0, 2, 0]);
    assert_eq!(balance.succeeded(1), Some(Change::CameUp));
    assert_eq!(turns(&mut balance, 3), [1, 2, 0]);
}

#[test]
fn an_attempt_that_failed_goes_to_each_other_target_once() {
    for policy in [Policy::RoundRobin, Policy::LeastConnections, Policy::SourceHash] {
        let (now, mut balance) = balance(policy, HEALTH, 4);
        down(&mut balance, now, 3);
        let mut tried = Vec::new();
        while let Some(target) = balance.pick(now, client(7), &tried, |_| 0) {
            assert!(!tried.contains(&target));
            tried.push(target);
        }
        assert_eq!(tried.len(), 4, "{policy:?}");
        assert_eq!(tried[3], 3, "{policy:?}: the dead one is asked last");
    }
}

#[test]
fn the_fewest_connections_win_and_equals_take_turns_by_place() {
    let (now, mut balance) = balance(Policy::LeastConnections, HEALTH, 3);
    let open = [5, 2, 2];
    assert_eq!(balance.pick(now, None, &[], |target| open[target]), Some(1));
    assert_eq!(balance.pick(now, None, &[1], |target| open[target]), Some(2));
    down(&mut balance, now, 1);
    down(&mut balance, now, 2);
    assert_eq!(balance.pick(now, None, &[], |target| open[target]), Some(0));
}

#[test]
fn a_client_keeps_its_target_and_only_those_of_a_dead_one_move() {
    let (now, mut balance) = balance(Policy::SourceHash, HEALTH, 5);
    let all = |balance: &mut Balance| -> Vec<usize> {
        (0..1000).map(|n| balance.pick(now, client(n), &[], |_| 0).unwrap()).collect()
    };
    let before = all(&mut balance);
    assert_eq!(before, all(&mut balance));
    for target in 0..5 {
        let share = before.iter().filter(|chosen| **chosen == target).count();
        assert!((120..=280).contains(&share), "target {target} has {share} of 1000");
    }
    down(&mut balance, now, 2);
    for (was, is) in before.iter().zip(all(&mut balance)) {
        assert!(if *was == 2 { is != 2 } else { is == *was }, "{was} became {is}");
    }
    // Known for ever: forwarders of different versions choose alike.
    assert_eq!(before[..8], [1, 3, 1, 2, 2, 1, 1, 2], "{:?}", &before[..8]);
}

#[test]
fn an_ipv4_client_is_the_same_over_an_ipv6_socket() {
    let (now, mut balance) = balance(Policy::SourceHash, HEALTH, 50);
    let (four, six) = ("192.0.2.7".parse().unwrap(), "::ffff:192.0.2.7".parse().unwrap());
    assert_eq!(balance.pick(now, Some(four), &[], |_| 0), balance.pick(now, Some(six), &[], |_| 0));
}

#[test]
fn one_connection_tries_a_dead_target_when_its_hold_is_over() {
    let (now, mut balance) = balance(Policy::RoundRobin, HEALTH, 2);
    down(&mut balance, now, 0);
    let picks = |balance: &mut Balance, now| -> Vec<usize> {
        (0..4).map(|_| balance.pick(now, None, &[], |_| 0).unwrap()).collect()
    };
    assert_eq!(picks(&mut balance, now + s(9)), [1, 1, 1, 1]);
    assert_eq!(picks(&mut balance, now + s(10)), [0, 1, 1, 1], "one, and no other");
    assert_eq!(balance.failed(now + s(11), 0), None, "it was known");
    assert_eq!(picks(&mut balance, now + s(20)), [1, 1, 1, 1]);
    assert_eq!(picks(&mut balance, now + s(21)), [0, 1, 1, 1]);
    assert_eq!(balance.succeeded(0), Some(Change::CameUp));
    assert_eq!(picks(&mut balance, now + s(21)), [0, 1, 0, 1]);
}

#[test]
fn where_all_are_down_the_longest_dead_is_asked_and_nobody_refused() {
    let (now, mut balance) = balance(Policy::SourceHash, HEALTH, 3);
    for (after, target) in [(0, 1), (1, 2), (2, 0)] {
        assert!(!balance.all_down());
        down(&mut balance, now + s(after), target);
    }
    assert!(balance.all_down());
    assert_eq!(balance.next_trial(), Some(now + s(10)));
    let tried = [vec![], vec![1], vec![1, 2]];
    let picked = tried.map(|tried| balance.pick(now + s(3), client(1), &tried, |_| 0));
    assert_eq!(picked, [Some(1), Some(2), Some(0)]);
    assert_eq!(balance.pick(now, client(1), &[0, 1, 2], |_| 0), None);
}

#[test]
fn checks_are_spread_told_once_and_bring_a_target_down_and_up() {
    let health = Health { check: Some(s(4)), ..HEALTH };
    let (now, mut balance) = balance(Policy::RoundRobin, health, 2);
    assert_eq!(balance.poll_timeout(), Some(now));
    assert_eq!((balance.poll_check(now), balance.poll_check(now)), (Some(0), None));
    assert_eq!(balance.poll_timeout(), Some(now + s(2)), "the other's; the first is under way");
    assert_eq!(balance.checked(now + s(1), 0, true), None);
    assert_eq!(balance.poll_check(now + s(2)), Some(1));
    assert_eq!(balance.checked(now + s(2), 1, false), None);
    assert_eq!(balance.poll_check(now + s(5)), Some(0));
    assert_eq!(balance.checked(now + s(5), 0, true), None);
    assert_eq!(balance.poll_check(now + s(6)), Some(1));
    assert_eq!(balance.checked(now + s(6), 1, false), Some(Change::WentDown));
    assert!(balance.is_up(0) && !balance.is_up(1));
    let now = now + s(10);
    let mut seen = Vec::new();
    while let Some(target) = balance.poll_check(now) {
        seen.push((target, balance.checked(now, target, true)));
    }
    assert_eq!(seen, [(0, None), (1, Some(Change::CameUp))]);
}

#[test]
fn what_was_known_of_a_target_outlives_a_reload() {
    let (now, mut old) = balance(Policy::RoundRobin, HEALTH, 3);
    down(&mut old, now, 2);
    let mut new = Balance::new(now, Policy::SourceHash, HEALTH, ["10.0.0.9:80".to_owned(), "10.0.0.2:80".to_owned()]);
    new.inherit(&old);
    assert!(new.is_up(0) && !new.is_up(1));
    let mut none = Balance::new(now, Policy::RoundRobin, HEALTH, []);
    none.inherit(&old);
    assert_eq!(none.pick(now, None, &[], |_| 0), None);
}

#[derive(Clone, Debug)]
enum Step {
    Pick(u32, Vec<usize>),
    Succeeded(usize),
    Failed(usize),
    Check(bool),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (any::<u32>(), prop::collection::vec(0..6_usize, 0..6)).prop_map(|(n, tried)| Step::Pick(n, tried)),
        (0..7_usize).prop_map(Step::Succeeded),
        (0..7_usize).prop_map(Step::Failed),
        any::<bool>().prop_map(Step::Check),
        (0..20_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whatever happened: who is picked was not tried, somebody is picked as long as one was not, none that is down while one
    /// that was not tried is up (unless its hold is over), and changes alternate.
    #[test]
    fn nobody_is_refused_and_changes_alternate(
        policy in prop_oneof![Just(Policy::RoundRobin), Just(Policy::LeastConnections), Just(Policy::SourceHash)],
        checked in any::<bool>(),
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let health = Health { check: checked.then_some(s(3)), ..HEALTH };
        let (mut now, mut balance) = balance(policy, health, 5);
        let mut up: BTreeMap<usize, bool> = (0..5).map(|target| (target, true)).collect();
        let mut note = |target: usize, change: Option<Change>| {
            match change {
                Some(Change::WentDown) => assert_eq!(up.insert(target, false), Some(true)),
                Some(Change::CameUp) => assert_eq!(up.insert(target, true), Some(false)),
                None => {}
            }
        };
        for step in steps {
            match step {
                Step::Pick(n, tried) => {
                    let over = |place: usize| balance.targets[place].suspected().is_some_and(|since| since + s(10) <= now);
                    let better = (0..5).any(|place| !tried.contains(&place) && balance.is_up(place));
                    let over: Vec<bool> = (0..5).map(over).collect();
                    match balance.pick(now, client(n), &tried, |place| place as u64) {
                        Some(place) => {
                            prop_assert!(!tried.contains(&place));
                            prop_assert!(balance.is_up(place) || over[place] || !better);
                        }
                        None => prop_assert!((0..5).all(|place| tried.contains(&place))),
                    }
                }
                Step::Succeeded(target) => note(target, balance.succeeded(target)),
                Step::Failed(target) => note(target, balance.failed(now, target)),
                Step::Check(reached) => {
                    if let Some(target) = balance.poll_check(now) {
                        note(target, balance.checked(now, target, reached));
                    }
                }
                Step::Wait(seconds) => now += s(seconds),
            }
        }
    }
}

#[test]
fn a_dead_target_that_is_checked_is_left_to_the_checks() {
    let (now, mut balance) = balance(Policy::RoundRobin, Health { check: Some(s(60)), ..HEALTH }, 2);
    down(&mut balance, now, 1);
    let picks = |balance: &mut Balance, at| [(); 2].map(|()| balance.pick(at, None, &[], |_| 0).unwrap());
    assert!(picks(&mut balance, now + s(10)).contains(&1), "no check has ever asked it, as a flow's");
    balance.poll_check(now + s(30));
    assert_eq!(balance.checked(now + s(30), 1, false), None);
    assert_eq!(picks(&mut balance, now + s(50)), [0, 0]);
    assert_eq!(balance.pick(now + s(50), None, &[0], |_| 0), Some(1), "but where there is no other");
    assert_eq!(balance.checked(now + s(90), 1, true), Some(Change::CameUp));
    assert!(picks(&mut balance, now + s(90)).contains(&1));
}
