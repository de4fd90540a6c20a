//! What happened is told: in order, with its reasons, to whom it concerns, and within bounds.

use super::*;
use crate::machine::history::{ENDED, ENDED_FOR, Record};
use proto::v1::EventKind;

fn events(w: &mut World, caller: Caller) -> (Vec<Record>, Option<u32>) {
    match w.answer(caller, Command::FlowEvents(0)) {
        Reply::Events(past, only) => (past.records, only),
        other => panic!("{other:?}"),
    }
}

fn kinds(w: &mut World) -> Vec<EventKind> {
    events(w, ROOT).0.iter().map(|record| record.kind).collect()
}

fn listed(w: &mut World, caller: Caller) -> Vec<v1::FlowInfo> {
    match w.answer(caller, Command::FlowList(Listed { ended: true, ..Listed::default() })) {
        Reply::Flows(rows) | Reply::FlowsOf(_, rows) => rows.into_iter().map(|row| row.info).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_local_flow_from_its_request_to_its_end() {
    let mut w = World::new();
    w.server(10, "echo");
    w.lease(user(20));
    let call = w.alloc(20, "echo");
    w.pass(Duration::from_millis(5));
    w.accept(10, "echo", false);
    let id = FlowId(w.handle(call).flow_id);
    w.irm.taken(id);
    w.pass(Duration::from_secs(2));
    w.irm.clock(w.now);
    w.irm.released(id);
    w.irm.carried(id, v1::Counters { sdus_sent: 7, ..Default::default() });
    w.settle();
    use EventKind::*;
    assert_eq!(kinds(&mut w), [Requested, Allocated, HandedOver, Ended]);
    let records = events(&mut w, ROOT).0;
    assert_eq!(records.iter().map(|record| record.number).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!((records[1].took, records[3].took), (Duration::from_millis(5), Duration::from_secs(2)));
    assert_eq!(records[3].ended, EndReason::Deallocated);
    assert!(records.iter().all(|record| record.subject.flow == Some(id) && record.subject.name == "echo"));
    assert_eq!(records[3].subject.acceptor.as_ref().map(|process| process.pid), Some(10));
    w.pass(Duration::from_secs(3));
    let rows = listed(&mut w, ROOT);
    assert_eq!((rows.len(), rows[0].state(), rows[0].ended()), (1, v1::FlowState::Ended, EndReason::Deallocated));
    assert_eq!((rows[0].ended_ms_ago, rows[0].age_ms, rows[0].counters.unwrap().sdus_sent), (3_000, 2_005, 7));
    let Reply::Flows(shown) = w.answer(ROOT, Command::FlowShow(v1::FlowShowRequest { flow_id: id.0 })) else {
        panic!()
    };
    let steps: Vec<_> = shown[0].info.history.iter().map(|step| (step.kind(), step.ms_ago)).collect();
    assert_eq!(steps, [(Requested, 5_005), (Allocated, 5_000), (HandedOver, 5_000), (Ended, 3_000)]);
    w.pass(ENDED_FOR);
    assert!(listed(&mut w, ROOT).is_empty());
}

#[test]
fn refusals_are_counted_by_reason_flow_or_none() {
    let mut w = World::new();
    w.server(10, "echo");
    for name in ["nowhere", "no/such name", "nowhere"] {
        w.alloc(20, name);
    }
    w.alloc(20, "echo");
    w.pass(Duration::from_secs(5));
    let call = w.alloc(20, "echo");
    w.cancel(call);
    let Reply::Status(status) = w.answer(ROOT, Command::Status) else { panic!() };
    let refused: u64 = status.refusals.values().sum();
    assert_eq!((status.flows_requested, status.flows_allocated, refused), (5, 0, 5), "{status:?}");
    assert_eq!((status.refusals["nobody_accepts"], status.refusals["flow_gone"]), (1, 1));
    let records = events(&mut w, ROOT).0;
    let refused: Vec<_> = records.iter().filter(|record| record.kind == EventKind::Refused).collect();
    assert_eq!(refused.iter().filter(|record| record.subject.flow.is_none()).count(), 3);
    assert!(refused.iter().all(|record| record.words.is_some()));
    assert_eq!(refused[3].took, Duration::from_secs(5));
}

#[test]
fn requests_that_had_to_be_repeated_are_told() {
    let mut w = World::new();
    let udp0 = w.ipcp("udp0", "net");
    w.obey();
    let call = w.alloc(20, "far");
    let asked = w.asked().remove(0);
    let reply =
        v1::AllocReply { token: vec![9; 16], peer_address: "10.0.0.2:4".into(), asked: 3, ..Default::default() };
    w.irm.ipcp_answered(w.now, "udp0", udp0, asked.2, Ok(IpcpAnswer::Allocated(reply)));
    w.settle();
    let flow_id = w.handle(call).flow_id;
    let counters = Some(v1::Counters { bytes_sent: 5, ..Default::default() });
    let reason = EndReason::PeerDied.into();
    w.answer(ROOT, Command::FlowEnded(v1::FlowEndedRequest { ipcp: "udp0".into(), flow_id, reason, counters }));
    use EventKind::*;
    assert_eq!(kinds(&mut w), [Requested, Asked, AskedAgain, Allocated, Ended]);
    let row = listed(&mut w, ROOT).remove(0);
    assert_eq!((row.ended(), row.counters, row.layer.as_str()), (EndReason::PeerDied, counters, "net"));
}

#[test]
fn the_past_is_bounded() {
    let mut w = World::new();
    let events = 64;
    w.irm.history.keep(events);
    for _ in 0..2 * ENDED {
        let call = w.alloc(20, "nowhere");
        w.failure(call);
    }
    w.server(10, "echo");
    for _ in 0..2 * ENDED {
        let call = w.alloc(20, "echo");
        w.cancel(call);
    }
    assert_eq!(w.irm.history().after(0).count(), events);
    assert_eq!(w.irm.history().gone(w.now).count(), ENDED);
    let last = w.irm.history().last();
    assert_eq!(
        w.irm.history().after(last - 3).map(|record| record.number).collect::<Vec<_>>(),
        [last - 2, last - 1, last]
    );
    assert_eq!(w.irm.history().after(last + 9).count(), 0);
    w.irm.history.keep(0);
    w.alloc(20, "nowhere");
    assert_eq!((w.irm.history().after(0).count(), w.irm.history().last()), (0, last + 1));
}

#[test]
fn a_user_hears_and_sees_its_own() {
    let mut w = World::new();
    w.server(10, "echo");
    let call = w.alloc(20, "echo");
    w.cancel(call);
    let other = Caller { pid: 30, uid: 2000, gid: 2000, groups: None };
    let (records, only) = events(&mut w, other.clone());
    assert_eq!(only, Some(2000));
    assert!(records.iter().all(|record| record.concerns(1000) && !record.concerns(2000)));
    assert!(listed(&mut w, other.clone()).is_empty());
    assert_eq!((listed(&mut w, user(20)).len(), listed(&mut w, ROOT).len()), (1, 1));
    let call = w.call(other, Command::FlowShow(v1::FlowShowRequest { flow_id: 1 }));
    assert_eq!(w.failure(call).kind(), FailureKind::NotFound);
}

#[test]
fn a_peer_that_is_not_trusted_is_told_once_however_often_it_is_asked_about() {
    let mut w = World::new();
    w.server(10, "echo");
    w.lease(user(20));
    let call = w.alloc(20, "echo");
    w.accept(10, "echo", false);
    let id = FlowId(w.handle(call).flow_id);
    let failure = v1::Failure::new(FailureKind::Untrusted, "not the one that is trusted");
    for _ in 0..1_000 {
        w.irm.note_untrusted(id, &failure);
    }
    assert_eq!(kinds(&mut w), [EventKind::Requested, EventKind::Allocated, EventKind::Refused]);
    let Reply::Status(status) = w.answer(ROOT, Command::Status) else { panic!() };
    assert_eq!((status.flows_allocated, status.refusals["untrusted"]), (1, 1));
}

#[test]
fn a_user_cannot_have_it_told_that_a_peer_asked() {
    let mut w = World::new();
    w.server(10, "echo");
    let request =
        v1::FlowReqArrRequest { name: "echo".into(), peer_address: "203.0.113.9:1".into(), ..Default::default() };
    let call = w.call(user(20), Command::FlowReqArr(request));
    assert_eq!(w.failure(call).kind(), FailureKind::NotPermitted);
    assert!(kinds(&mut w).is_empty());
}

#[test]
fn an_allocation_that_was_given_up_is_listed_once_its_ipcp_has_answered() {
    let mut w = World::new();
    let udp0 = w.ipcp("udp0", "net");
    w.obey();
    let call = w.alloc(20, "far");
    let asked = w.asked().remove(0);
    w.cancel(call);
    let failure = v1::Failure::new(FailureKind::TimedOut, "no answer");
    w.irm.ipcp_answered(w.now, "udp0", udp0, asked.2, Err(failure));
    w.settle();
    let row = listed(&mut w, ROOT).remove(0);
    assert_eq!((row.state(), row.failure()), (v1::FlowState::Ended, FailureKind::FlowGone));
    use EventKind::*;
    assert_eq!(kinds(&mut w), [Requested, Asked, Refused]);
}
