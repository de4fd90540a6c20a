#![expect(clippy::disallowed_methods, reason = "a test begins at some moment")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds { most: 3, idle: Duration::from_secs(60), unanswered: Duration::from_secs(10) };

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn begin(sessions: &mut Sessions<u16>, now: Instant, client: u16) -> SessionId {
    match sessions.from_client(now, client) {
        Arrival::New(id, None) => id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_session_lasts_as_long_as_somebody_speaks() {
    let (mut sessions, now) = (Sessions::new(BOUNDS), Instant::now());
    let id = begin(&mut sessions, now, 1);
    assert_eq!(sessions.from_client(now + s(1), 1), Arrival::Known(id));
    assert_eq!(sessions.from_target(now + s(2), id), Some(1));
    assert_eq!(sessions.poll_timeout(), Some(now + s(62)));
    assert_eq!(sessions.from_client(now + s(61), 1), Arrival::Known(id));
    assert_eq!(sessions.poll_silent(now + s(62)), None);
    assert_eq!(sessions.poll_timeout(), Some(now + s(121)), "looked at again when it may be over");
    assert_eq!(sessions.poll_silent(now + s(121)), Some(id));
    assert_eq!((sessions.poll_silent(now + s(121)), sessions.poll_timeout(), sessions.len()), (None, None, 0));
    assert_eq!(sessions.from_target(now + s(122), id), None);
}

#[test]
fn what_is_never_answered_ends_sooner() {
    let (mut sessions, now) = (Sessions::new(BOUNDS), Instant::now());
    let (mute, spoken) = (begin(&mut sessions, now, 1), begin(&mut sessions, now, 2));
    sessions.from_target(now, spoken);
    assert_eq!((sessions.poll_silent(now + s(10)), sessions.poll_silent(now + s(10))), (Some(mute), None));
    assert_eq!(sessions.client(spoken), Some(2));
}

#[test]
fn the_oldest_unanswered_makes_room_and_no_other() {
    let (mut sessions, now) = (Sessions::new(BOUNDS), Instant::now());
    let ids = [1, 2, 3].map(|client| begin(&mut sessions, now + s(client.into()), client));
    sessions.from_target(now + s(4), ids[0]);
    let Arrival::New(fourth, Some(evicted)) = sessions.from_client(now + s(5), 4) else { panic!("no room") };
    assert_eq!(evicted, ids[1]);
    assert_ne!(fourth, evicted, "the place is the same, the turn is not");
    assert_eq!(fourth.place(), evicted.place());
    assert_eq!(sessions.from_target(now + s(5), evicted), None, "an answer that comes late reaches nobody else");
    assert!(!sessions.end(evicted));
    sessions.from_target(now + s(6), ids[2]);
    sessions.from_target(now + s(6), fourth);
    assert_eq!(sessions.from_client(now + s(7), 5), Arrival::Full);
    assert!(sessions.end(fourth));
    assert!(matches!(sessions.from_client(now + s(7), 5), Arrival::New(_, None)));
}

#[test]
fn narrower_bounds_end_nothing_but_by_silence() {
    let (mut sessions, now) = (Sessions::new(BOUNDS), Instant::now());
    let ids = [1, 2, 3].map(|client| begin(&mut sessions, now, client));
    for id in ids {
        sessions.from_target(now, id);
    }
    sessions.set_bounds(Bounds { most: 1, idle: s(5), unanswered: s(10) });
    assert_eq!((sessions.len(), sessions.poll_timeout()), (3, Some(now + s(5))));
    assert_eq!(sessions.from_client(now + s(1), 1), Arrival::Known(ids[0]));
    assert_eq!(sessions.from_client(now + s(1), 4), Arrival::Full);
    let over: Vec<_> = std::iter::from_fn(|| sessions.poll_silent(now + s(5))).collect();
    assert_eq!(over, [ids[1], ids[2]]);
}

#[test]
fn numbers_name_sessions() {
    for id in [SessionId { place: 0, turn: 0 }, SessionId { place: 7, turn: u32::MAX }] {
        assert_eq!(SessionId::from_number(id.number()), id);
    }
}

proptest! {
    /// Against a plain map: the same sessions are there, never more than may be, and none is over before its time.
    #[test]
    fn sessions_are_a_bounded_map_with_times(steps in prop::collection::vec((0..4_u8, 0..6_u16, 0..8_u64), 0..300)) {
        let (mut sessions, mut now) = (Sessions::new(BOUNDS), Instant::now());
        let mut model: BTreeMap<u16, (SessionId, Instant, bool)> = BTreeMap::new();
        for (what, client, wait) in steps {
            now += s(wait);
            let known = model.get(&client).copied();
            let room = model.len() < BOUNDS.most || model.values().any(|(_, _, answered)| !answered);
            prop_assert_eq!(sessions.has_room(), room);
            match what {
                0 | 1 => match (sessions.from_client(now, client), known) {
                    (Arrival::Known(id), Some((expected, _, answered))) => {
                        prop_assert_eq!(id, expected);
                        model.insert(client, (id, now, answered));
                    }
                    (Arrival::New(id, evicted), None) => {
                        if let Some(evicted) = evicted {
                            let (gone, (_, _, answered)) =
                                model.iter().find(|(_, (id, ..))| *id == evicted).map(|(k, v)| (*k, *v)).unwrap();
                            prop_assert!(!answered && model.len() == BOUNDS.most);
                            model.remove(&gone);
                        }
                        model.insert(client, (id, now, false));
                    }
                    (Arrival::Full, None) => {
                        prop_assert!(model.len() == BOUNDS.most && model.values().all(|(_, _, answered)| *answered));
                    }
                    (arrival, known) => prop_assert!(false, "{arrival:?} of {known:?}"),
                },
                2 => if let Some((id, ..)) = known {
                    prop_assert_eq!(sessions.from_target(now, id), Some(client));
                    model.insert(client, (id, now, true));
                },
                _ => if let Some((id, ..)) = known {
                    prop_assert!(sessions.end(id));
                    model.remove(&client);
                },
            }
            while let Some(over) = sessions.poll_silent(now) {
                let (client, (_, last, answered)) =
                    model.iter().find(|(_, (id, ..))| *id == over).map(|(k, v)| (*k, *v)).unwrap();
                prop_assert!(last + BOUNDS.silence(answered) <= now);
                model.remove(&client);
            }
            prop_assert!(model.values().all(|(_, last, answered)| *last + BOUNDS.silence(*answered) > now));
            prop_assert_eq!((sessions.len(), sessions.timers.len()), (model.len(), model.len()));
            prop_assert!(sessions.poll_timeout().is_none_or(|due| due > now));
        }
    }
}
