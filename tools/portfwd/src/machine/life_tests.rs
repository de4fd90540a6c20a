use proptest::prelude::*;
use proto::forward::Broken;

use super::Side::{Client, Target};
use super::*;

#[expect(clippy::disallowed_methods, reason = "a test begins at some moment")]
fn now() -> Instant {
    Instant::now()
}

fn life() -> Life {
    Life::new(now(), None)
}

fn reset() -> Cause {
    Cause::plain(Broken::Reset)
}

/// What `side` said is written, and its end told if it is to be.
fn deliver(it: &mut Life, side: Side) -> bool {
    let tell = it.written(side);
    if tell {
        it.told(side);
    }
    tell
}

fn by(side: Side) -> Option<Outcome> {
    Some(Outcome::Broken { by: Some(side), cause: reset() })
}

#[test]
fn each_way_ends_for_itself() {
    let mut it = life();
    it.read_end(Client);
    assert_eq!((it.work(Client), it.work(Target)), (Work::Deliver, Work::Carry));
    assert!(deliver(&mut it, Client));
    assert_eq!((it.work(Client), it.work(Target), it.outcome()), (Work::Watch, Work::Carry, None));
    assert!(!deliver(&mut it, Client), "the end is told once");
    it.read_end(Target);
    assert!(deliver(&mut it, Target));
    assert_eq!(it.outcome(), Some(Outcome::Clean));
}

#[test]
fn a_reset_that_is_read_is_the_end() {
    let mut it = life();
    it.read_failed(Target, reset());
    assert_eq!(it.outcome(), by(Target));
}

#[test]
fn what_a_broken_side_said_before_is_delivered_first() {
    let mut it = life();
    it.failed(now(), Target, reset());
    assert_eq!((it.work(Client), it.work(Target), it.outcome()), (Work::Watch, Work::Carry, None));
    // The kernel tells a reset once, then it reads as an end.
    it.read_end(Target);
    assert_eq!(it.outcome(), by(Target));
}

#[test]
fn a_reset_behind_an_end_that_has_not_been_told_takes_its_place() {
    let mut it = life();
    it.read_end(Target);
    it.failed(now(), Target, reset());
    assert_eq!((it.work(Target), it.outcome()), (Work::Deliver, None));
    assert!(!deliver(&mut it, Target));
    assert_eq!(it.outcome(), by(Target));
}

#[test]
fn a_reset_behind_an_end_that_has_been_told_is_told_too() {
    let mut it = life();
    it.read_end(Client);
    assert!(deliver(&mut it, Client));
    it.failed(now(), Client, reset());
    assert_eq!(it.outcome(), by(Client));
}

#[test]
fn the_other_side_s_end_does_not_hide_a_break() {
    let mut it = life();
    it.read_end(Target);
    it.failed(now(), Client, reset());
    // Nobody takes what the target said: it was not delivered.
    assert_eq!(it.work(Target), Work::Watch);
    it.read_failed(Client, reset());
    assert_eq!(it.outcome(), by(Client));
}

#[test]
fn who_takes_nothing_does_not_hold_up_the_news() {
    let start = now();
    let mut it = Life::new(start, None);
    assert!(!it.counts_time());
    it.failed(start, Target, reset());
    it.progress(start + LAST_WORDS / 2);
    it.handle_timeout(start + LAST_WORDS);
    assert_eq!(it.outcome(), None);
    assert_eq!(it.poll_timeout(), Some(start + LAST_WORDS / 2 + LAST_WORDS));
    it.handle_timeout(start + LAST_WORDS * 2);
    assert_eq!(it.outcome(), by(Target));
}

#[test]
fn idleness_has_a_limit_where_one_is_set() {
    let (start, limit) = (now(), Duration::from_secs(10));
    let mut it = Life::new(start, Some(limit));
    it.progress(start + limit / 2);
    it.handle_timeout(start + limit);
    assert_eq!((it.outcome(), it.poll_timeout()), (None, Some(start + limit / 2 + limit)));
    it.handle_timeout(start + limit * 2);
    assert_eq!(it.outcome(), Some(Outcome::Broken { by: None, cause: Cause::plain(Broken::Idle) }));
}

#[derive(Clone, Copy, Debug)]
enum Event {
    End(Side),
    Written(Side),
    ReadFailed(Side),
    Failed(Side),
    Cut,
    Timeout,
}

fn event() -> impl Strategy<Value = Event> {
    let side = prop_oneof![Just(Client), Just(Target)];
    prop_oneof![
        3 => side.clone().prop_map(Event::End),
        3 => side.clone().prop_map(Event::Written),
        1 => side.clone().prop_map(Event::ReadFailed),
        1 => side.prop_map(Event::Failed),
        1 => Just(Event::Cut),
        1 => Just(Event::Timeout),
    ]
}

proptest! {
    /// Whatever happens in whatever order: it is clean only if nothing broke and both ends were told, and the first break is
    /// the one that is told.
    #[test]
    fn a_break_is_never_taken_for_an_end(events in proptest::collection::vec(event(), 0..12)) {
        let mut at = now();
        let mut it = Life::new(at, None);
        let mut first = None;
        let mut told = 0;
        for event in events {
            let before = it.outcome();
            at += LAST_WORDS * 2;
            match event {
                Event::End(side) => it.read_end(side),
                Event::Written(side) => told += usize::from(deliver(&mut it, side)),
                Event::ReadFailed(side) => it.read_failed(side, reset()),
                Event::Failed(side) => it.failed(at, side, reset()),
                Event::Cut => it.cut(Cause::plain(Broken::Stopped)),
                Event::Timeout => it.handle_timeout(at),
            }
            match event {
                _ if before.is_some() => break,
                Event::ReadFailed(side) | Event::Failed(side) => { first.get_or_insert((Some(side), reset())); }
                Event::Cut => { first.get_or_insert((None, Cause::plain(Broken::Stopped))); }
                _ => {}
            }
            match it.outcome() {
                None => {}
                Some(Outcome::Clean) => prop_assert!(first.is_none() && told == 2),
                Some(Outcome::Broken { by, cause }) => prop_assert_eq!(Some((by, cause)), first.clone()),
            }
        }
        // Whoever broke, it ends without anybody's doing.
        if let (Some(due), None) = (it.poll_timeout(), it.outcome()) {
            it.handle_timeout(due);
            prop_assert!(it.is_over());
        }
    }
}
