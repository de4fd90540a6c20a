//! One lease's life, told as stories and as random ones.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proto::handoff::ToDaemon;
use proto::v1::{EndReason, Failure, FailureKind, Redeem, Release};
use proto::{FlowId, Token};

use super::{CallId, Effect, LeaseTable, Taken};

#[expect(clippy::disallowed_methods, reason = "any instant will do to begin with")]
fn start() -> Instant {
    Instant::now()
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn token(n: u8) -> Token {
    Token([n; 16])
}

fn redeem(n: u8) -> Effect {
    Effect::Say(ToDaemon::Redeem(Redeem { token: token(n).0.to_vec() }))
}

fn release(flow: u64) -> Effect {
    Effect::Say(ToDaemon::Release(Release { flow_id: flow }))
}

fn resolved(call: u64, flow: u64) -> Effect {
    Effect::Resolve { call: CallId(call), result: Ok(Taken { flow: FlowId(flow), sdu_limit: 1472 }) }
}

fn failure() -> Failure {
    Failure::new(FailureKind::IpcpDown, "nobody there")
}

/// A table that holds flow 1 with ticket "t1".
fn holding() -> LeaseTable {
    let mut table = LeaseTable::new(false, 1);
    table.redeem(token(1), CallId(1));
    assert_eq!(table.take_effects(), [Effect::Open]);
    table.opened();
    assert_eq!(table.take_effects(), [redeem(1)]);
    table.granted(&token(1).0, FlowId(1), 1472, b"t1".to_vec(), true);
    assert_eq!(table.take_effects(), [resolved(1, 1)]);
    table
}

#[test]
fn redeems_wait_for_the_lease_and_fail_with_it() {
    let now = start();
    let mut table = LeaseTable::new(false, 1);
    table.redeem(token(1), CallId(1));
    table.redeem(token(2), CallId(2));
    assert_eq!(table.take_effects(), [Effect::Open], "opened once");
    table.open_failed(now, &failure());
    let mut failed = table.take_effects();
    failed.sort_by_key(|effect| format!("{effect:?}"));
    assert_eq!(failed, [1, 2].map(|n| Effect::Resolve { call: CallId(n), result: Err(failure()) }));
    assert_eq!(table.poll_timeout(), None, "nothing to open it again for");
    table.redeem(token(3), CallId(3));
    assert_eq!(table.take_effects(), [Effect::Open], "wanted anew");
}

#[test]
fn a_grant_without_its_socket_is_released_and_told() {
    let mut table = LeaseTable::new(false, 1);
    table.redeem(token(1), CallId(1));
    table.opened();
    table.take_effects();
    table.granted(&token(1).0, FlowId(9), 1472, vec![], false);
    let effects = table.take_effects();
    assert_eq!(effects[0], release(9));
    let Effect::Resolve { result: Err(failure), .. } = &effects[1] else { panic!("{effects:?}") };
    assert_eq!(failure.kind(), FailureKind::Exhausted);
}

#[test]
fn a_grant_that_nobody_waits_for_is_released() {
    let mut table = holding();
    table.granted(&token(7).0, FlowId(7), 1472, vec![], true);
    assert_eq!(table.take_effects(), [release(7)]);
}

#[test]
fn a_lost_lease_is_opened_again_with_growing_pauses_and_the_flow_handed_back() {
    let mut now = start();
    let mut table = holding();
    table.lost(now);
    for least in [20, 40, 80, 160, 240, 240] {
        assert_eq!(table.take_effects(), [], "no flow ends because of it");
        let at = table.poll_timeout().unwrap();
        assert!((now + ms(least)..=now + ms(least + least / 2)).contains(&at), "{:?} for {least} ms", at - now);
        table.handle_timeout(at - ms(1));
        assert_eq!(table.take_effects(), [], "early calls do nothing");
        now = at;
        table.handle_timeout(now);
        table.handle_timeout(now);
        assert_eq!(table.take_effects(), [Effect::Open], "repeated calls do nothing");
        table.open_failed(now, &failure());
    }
    now = table.poll_timeout().unwrap();
    table.handle_timeout(now);
    table.opened();
    let back = Effect::HandBack { flow: FlowId(1), ticket: b"t1".to_vec() };
    assert_eq!(table.take_effects(), [Effect::Open, Effect::Announce, back]);
    table.granted(b"t1", FlowId(5), 1472, b"t5".to_vec(), false);
    assert_eq!(table.take_effects(), [Effect::Rehome { was: FlowId(1), now: FlowId(5) }]);
    table.lost(now);
    assert!(table.poll_timeout().unwrap() < now + ms(31), "the pause is short again");
}

#[test]
fn a_daemon_that_says_no_is_not_pressed() {
    let now = start();
    let mut table = holding();
    table.lost(now);
    table.handle_timeout(now + ms(100));
    table.open_failed(now + ms(100), &Failure::new(FailureKind::Invalid, "another version"));
    assert!(table.poll_timeout().unwrap() >= now + ms(2_100));
}

#[test]
fn programs_do_not_come_all_at_once() {
    let now = start();
    let pauses: std::collections::BTreeSet<_> = (0..100)
        .map(|seed| {
            let mut table = LeaseTable::new(true, seed);
            table.want();
            table.opened();
            table.lost(now);
            table.poll_timeout().unwrap()
        })
        .collect();
    assert!(pauses.len() > 30, "{} different pauses", pauses.len());
}

#[test]
fn many_flows_are_handed_back_some_at_a_time() {
    let now = start();
    let mut table = LeaseTable::new(false, 1);
    table.want();
    table.opened();
    let ticket = |flow: u64| flow.to_be_bytes().to_vec();
    for flow in 1..=1000 {
        let token = Token([u8::try_from(flow % 256).unwrap(); 16]);
        table.redeem(token, CallId(flow));
        table.granted(&token.0, FlowId(flow), 1472, ticket(flow), true);
    }
    table.lost(now);
    table.handle_timeout(now + ms(100));
    table.take_effects();
    table.opened();
    // One is released meanwhile, one ends, of one the daemon has no room.
    table.released(FlowId(700), false);
    table.gone(now, FlowId(800), EndReason::PeerDied);
    let mut handed = Vec::new();
    let mut full = true;
    loop {
        let effects = table.take_effects();
        let back: Vec<u64> = effects
            .iter()
            .filter_map(|effect| if let Effect::HandBack { flow, .. } = effect { Some(flow.0) } else { None })
            .collect();
        if back.is_empty() {
            break;
        }
        assert!(back.len() <= 128);
        for flow in back {
            if flow == 900 && std::mem::take(&mut full) {
                table.denied(now, &ticket(flow), Failure::new(FailureKind::Exhausted, "no room"));
            } else {
                table.granted(&ticket(flow), FlowId(flow), 1472, ticket(flow), false);
                handed.push(flow);
            }
        }
    }
    table.handle_timeout(now + ms(1_000));
    let again = Effect::HandBack { flow: FlowId(900), ticket: ticket(900) };
    assert!(table.take_effects().contains(&again), "it is presented again");
    let want: Vec<u64> = (1..=1000).filter(|flow| ![700, 800, 900].contains(flow)).collect();
    assert_eq!(handed, want);
}

#[test]
fn a_flow_not_taken_back_goes_on_and_is_not_presented_again() {
    let now = start();
    let mut table = holding();
    for _ in 0..2 {
        table.lost(now);
        table.handle_timeout(now + ms(100));
        table.opened();
        let presented = table.take_effects().iter().any(|e| matches!(e, Effect::HandBack { .. }));
        if presented {
            table.denied(now, b"t1", failure());
            assert_eq!(table.take_effects(), []);
        }
    }
    table.lost(now);
    table.handle_timeout(now + ms(100));
    table.opened();
    assert_eq!(table.take_effects(), [Effect::Open, Effect::Announce]);
}

#[test]
fn a_flow_that_moved_is_handed_back_with_its_new_ticket() {
    let mut table = holding();
    table.moved(FlowId(1), b"t2".to_vec());
    table.moved(FlowId(2), b"nobody's".to_vec());
    let now = start();
    table.lost(now);
    table.handle_timeout(now + ms(500));
    table.opened();
    let handed = table.take_effects();
    assert!(handed.contains(&Effect::HandBack { flow: FlowId(1), ticket: b"t2".to_vec() }), "{handed:?}");
}

#[test]
fn a_flow_released_while_it_is_handed_back_is_released_again() {
    let now = start();
    let mut table = holding();
    table.lost(now);
    table.handle_timeout(now + ms(100));
    table.opened();
    table.take_effects();
    table.released(FlowId(1), false);
    table.take_effects();
    table.granted(b"t1", FlowId(1), 1472, b"t1".to_vec(), false);
    assert_eq!(table.take_effects(), [release(1)]);
}

#[test]
fn irmds_lease_is_opened_again_without_flows() {
    let now = start();
    let mut table = LeaseTable::new(true, 1);
    table.want();
    table.open_failed(now, &failure());
    assert_eq!(table.poll_timeout(), None, "an irmd that was never there is not waited for");
    table.want();
    table.opened();
    table.lost(now);
    assert!(table.poll_timeout().unwrap() < now + ms(31));
}

#[test]
fn gone_ends_the_flow_once_and_shuts_its_socket_later() {
    let now = start();
    let mut table = holding();
    table.gone(now, FlowId(1), EndReason::PeerDied);
    table.gone(now, FlowId(1), EndReason::Admin);
    table.gone(now, FlowId(2), EndReason::Admin);
    assert_eq!(table.take_effects(), [Effect::End { flow: FlowId(1), reason: EndReason::PeerDied }]);
    assert_eq!(table.poll_timeout(), Some(now + ms(150)));
    table.handle_timeout(now + ms(150));
    assert_eq!(table.take_effects(), [Effect::Shut { flow: FlowId(1) }]);
    table.found_closed(now, FlowId(1));
    table.lost(now);
    assert_eq!((table.take_effects(), table.poll_timeout()), (vec![], None), "nothing is left of it");
}

#[test]
fn a_closed_socket_gets_a_reason_within_bounds() {
    let now = start();
    let mut table = holding();
    table.found_closed(now, FlowId(1));
    table.handle_timeout(now + ms(199));
    assert_eq!(table.take_effects(), []);
    table.handle_timeout(now + ms(200));
    assert_eq!(table.take_effects(), [Effect::End { flow: FlowId(1), reason: EndReason::Unspecified }]);
    let mut table = holding();
    table.found_closed(now, FlowId(1));
    table.gone(now + ms(10), FlowId(1), EndReason::PeerDied);
    table.handle_timeout(now + ms(200));
    let said = [Effect::End { flow: FlowId(1), reason: EndReason::PeerDied }, Effect::Shut { flow: FlowId(1) }];
    assert_eq!(table.take_effects(), said);
}

proptest! {
    /// Whatever happens in whatever order: each redeem gets exactly one answer by the time the lease is lost for good.
    #[test]
    fn each_redeem_is_answered_once(steps in proptest::collection::vec((0..7u8, 0..6u8), 0..80)) {
        let mut now = start();
        let mut table = LeaseTable::new(false, 1);
        let (mut asked, mut answered) = (0, Vec::new());
        let mut opening = false;
        let mut effects = Vec::new();
        for (what, n) in steps {
            match what {
                0 => {
                    table.redeem(token(n), CallId(asked));
                    asked += 1;
                }
                1 if opening => {
                    opening = false;
                    table.opened();
                }
                2 if opening => {
                    opening = false;
                    table.open_failed(now, &failure());
                }
                3 if table.is_open() => table.lost(now),
                4 if table.is_open() => table.granted(&token(n).0, FlowId(n.into()), 1, vec![n; 20], n % 2 == 0),
                5 if table.is_open() => table.denied(now, &token(n).0, failure()),
                _ => {
                    now += ms(u64::from(n) * 100);
                    table.handle_timeout(now);
                    table.released(FlowId(n.into()), false);
                }
            }
            effects.extend(table.take_effects());
            for effect in effects.drain(..) {
                match effect {
                    Effect::Open => {
                        prop_assert!(!opening, "opened twice at once");
                        opening = true;
                    }
                    Effect::Resolve { call, .. } => answered.push(call.0),
                    Effect::Say(_) => prop_assert!(table.is_open(), "said into a closed lease"),
                    _ => {}
                }
            }
        }
        if opening {
            table.open_failed(now, &failure());
        }
        table.lost(now);
        answered.extend(table.take_effects().iter().filter_map(|effect| match effect {
            Effect::Resolve { call, .. } => Some(call.0),
            _ => None,
        }));
        answered.sort_unstable();
        prop_assert_eq!(answered, (0..asked).collect::<Vec<_>>());
    }
}
