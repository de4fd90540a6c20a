//! Tests of [`super`].

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn start() -> Instant {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "a machine's time begins somewhere")]
    *START.get_or_init(Instant::now)
}

fn at(secs: u64) -> Instant {
    start() + Duration::from_secs(secs)
}

const EITHER: Prune = Prune { after: Duration::from_secs(10), of: Silence::Either };
const BOTH: Prune = Prune { after: Duration::from_secs(10), of: Silence::Both };

#[test]
fn a_server_that_never_stops_keeps_no_dead_player_unless_it_may() {
    let mut routes = Routes::new(9);
    let either = routes.open(at(0), 1, EITHER, ()).unwrap();
    let both = routes.open(at(0), 2, BOTH, ()).unwrap();
    for second in 1..=10 {
        if second < 10 {
            assert_eq!(routes.poll_silent(at(second)), None);
        }
        routes.heard(at(second), either, Side::Server);
        routes.heard(at(second), both, Side::Server);
    }
    assert_eq!(routes.poll_silent(at(10)), Some((either, Over::PlayerSilent)));
    assert_eq!(routes.close(either), Some((1, ())));
    assert_eq!(routes.poll_silent(at(19)), None);
    assert_eq!(routes.poll_silent(at(20)), Some((both, Over::ServerSilent)));
    assert_eq!(routes.close(both), Some((2, ())));
    assert!(routes.is_empty() && routes.poll_silent(at(99)).is_none() && routes.poll_timeout().is_none());
}

#[test]
fn a_route_that_is_named_for_silence_may_be_named_again() {
    let mut routes = Routes::new(9);
    let id = routes.open(at(0), 1, BOTH, ()).unwrap();
    assert_eq!((routes.poll_silent(at(9)), routes.silence(at(9), id)), (None, Some(Duration::from_secs(9))));
    assert!(routes.poll_silent(at(10)).is_some() && routes.poll_silent(at(10)).is_none());
    routes.look_again(at(20), id);
    assert_eq!((routes.poll_silent(at(19)), routes.poll_silent(at(20))), (None, Some((id, Over::PlayerSilent))));
    routes.look_again(at(40), id);
    // Somebody speaks again: it is silent for as long as at first before it is named.
    routes.heard(at(35), id, Side::Player);
    assert_eq!((routes.poll_silent(at(44)), routes.silence(at(44), id)), (None, Some(Duration::from_secs(9))));
    assert_eq!(routes.poll_silent(at(45)), Some((id, Over::PlayerSilent)));
    assert_eq!(routes.close(id), Some((1, ())));
    assert_eq!((routes.silence(at(45), id), routes.poll_timeout()), (None, None));
}

#[test]
fn a_server_that_says_nothing_ends_a_route_too() {
    let mut routes = Routes::new(9);
    let id = routes.open(at(0), 1, EITHER, ()).unwrap();
    (1..10).for_each(|second| assert!(routes.heard(at(second), id, Side::Player).is_some()));
    assert_eq!(routes.poll_silent(at(10)), Some((id, Over::ServerSilent)));
}

#[test]
fn made_up_players_make_room_and_those_who_play_stay() {
    let mut routes = Routes::new(3);
    let real = routes.open(at(0), 0, EITHER, ()).unwrap();
    routes.heard(at(0), real, Side::Server);
    routes.open(at(1), 1, EITHER, ()).unwrap();
    routes.open(at(2), 2, EITHER, ()).unwrap();
    for player in 3..10_000 {
        assert!(routes.open(at(3), player, EITHER, ()).is_none(), "no room");
        let evicted = routes.to_evict().unwrap();
        assert_eq!(routes.close(evicted).unwrap().0, player - 2);
        routes.open(at(3), player, EITHER, ()).unwrap();
    }
    assert_eq!(routes.find(&0), Some(real));
    assert!(routes.timers.len() < 2_000 && routes.unanswered.len() < 2_000 && routes.slots.len() == 3);
    let more: Vec<_> = [9_998, 9_999].iter().filter_map(|key| routes.find(key)).collect();
    more.iter().for_each(|id| assert!(routes.heard(at(4), *id, Side::Server).is_some()));
    assert_eq!(routes.to_evict(), None, "all play");
}

#[test]
fn a_late_number_names_no_later_route() {
    let mut routes = Routes::new(1);
    let first = routes.open(at(0), 1, EITHER, 'a').unwrap();
    assert_eq!(RouteId::from_number(first.number()), first);
    routes.close(first);
    let second = routes.open(at(0), 2, EITHER, 'b').unwrap();
    assert_ne!(first, second);
    assert!(routes.get(first).is_none() && routes.heard(at(1), first, Side::Player).is_none());
    assert_eq!(routes.close(first), None);
    assert_eq!(routes.get(second), Some((&2, &'b')));
}

proptest! {
    /// As a map from keys to two moments does.
    #[test]
    fn routes_are_pruned_as_a_naive_table_says(
        steps in proptest::collection::vec((0_u8..6, 0_u8..3, 0_u64..4), 1..200),
    ) {
        let mut routes = Routes::new(4);
        let mut naive: BTreeMap<u8, [u64; 2]> = BTreeMap::new();
        let mut now = 0;
        for (key, what, pass) in steps {
            now += pass;
            let mut over = Vec::new();
            while let Some((id, _)) = routes.poll_silent(at(now)) {
                over.push(routes.close(id).unwrap().0);
            }
            over.sort_unstable();
            let gone: Vec<u8> = naive.iter().filter(|(_, last)| last[0].min(last[1]) + 10 <= now).map(|(key, _)| *key).collect();
            naive.retain(|key, _| !gone.contains(key));
            prop_assert_eq!(over, gone);
            match (what, routes.find(&key)) {
                (0, Some(id)) => {
                    routes.heard(at(now), id, Side::Player);
                    naive.get_mut(&key).unwrap()[0] = now;
                }
                (0, None) => {
                    let opened = routes.open(at(now), key, EITHER, ()).is_some();
                    prop_assert_eq!(opened, naive.len() < 4);
                    if opened {
                        naive.insert(key, [now; 2]);
                    }
                }
                (1, Some(id)) => {
                    routes.heard(at(now), id, Side::Server);
                    naive.get_mut(&key).unwrap()[1] = now;
                }
                (2, Some(id)) => {
                    routes.close(id);
                    naive.remove(&key);
                }
                _ => {}
            }
            prop_assert_eq!(routes.len(), naive.len());
            prop_assert!(naive.keys().all(|key| routes.find(key).is_some()));
        }
    }
}
