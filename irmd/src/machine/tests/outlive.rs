//! Flows that outlive irmd, and its orderly end.

use super::*;
use crate::machine::ticket::Ticket;

const KEY: [u8; 32] = [9; 32];

fn settings() -> Settings {
    Settings { uid: 500, handoff: "irmd.flow".into(), ticket_key: KEY, host_ms: 70_000, ..Settings::default() }
}

/// The next irmd, `after` the first was started.
fn next(w: &World, after: Duration) -> World {
    let host_ms = 70_000 + u64::try_from(after.as_millis()).unwrap();
    let first_flow = w.irm.next_flow();
    let mut next = World::with(Settings { host_ms, first_flow, restarted: true, ..settings() });
    // The two count time from moments of their own, as processes do.
    next.now = next.irm.since;
    next
}

/// A local flow of process 20 to process 10: the tickets of the asking and the accepting end.
fn local(w: &mut World) -> [Ticket; 2] {
    w.server(10, "echo");
    w.lease(user(20));
    w.accept(10, "echo", false);
    let call = w.alloc(20, "echo");
    w.handle(call);
    let ends =
        w.done.iter().find_map(|e| if let Effect::OpenLocal { ends, .. } = e { Some(ends.clone()) } else { None });
    let mut cookie = 100;
    ends.unwrap().map(|end| {
        cookie += 1;
        Ticket { cookie, ..end.ticket }
    })
}

fn adopt(w: &mut World, caller: Caller, ticket: &Ticket, over: bool) -> Result<Adopted, Failure> {
    w.irm.adopt(w.now, caller, &ticket.seal(&KEY), ticket.cookie, over)
}

fn list(w: &mut World) -> Vec<v1::FlowInfo> {
    match w.answer(ROOT, Command::FlowList(Listed::default())) {
        Reply::Flows(rows) => rows.into_iter().map(|row| row.info).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_ends_of_a_local_flow_come_back_in_either_order() {
    for order in [[0, 1], [1, 0]] {
        let mut w = World::with(settings());
        let tickets = local(&mut w);
        w.pass(Duration::from_secs(7));
        let before = list(&mut w);
        let mut w = next(&w, Duration::from_secs(8));
        w.lease(user(20));
        w.lease(user(10));
        for (n, index) in order.into_iter().enumerate() {
            let ticket = &tickets[index];
            let adopted = adopt(&mut w, user([20, 10][index]), ticket, false).unwrap();
            assert_eq!(adopted, Adopted { end: ticket.end(), row: Some(ticket.row) });
            let row = list(&mut w).remove(0);
            assert_eq!(
                (row.process.is_some(), row.peer_process.is_some()),
                (n == 1 || index == 0, n == 1 || index == 1)
            );
        }
        let mut after = list(&mut w);
        assert_eq!(after[0].age_ms, before[0].age_ms + 1_000);
        after[0].age_ms = before[0].age_ms;
        assert_eq!(after, before);
        assert_eq!(w.irm.flows.users().of(1000).flows, 2);
        // Ids go on, and either end's word ends both.
        assert!(w.irm.next_flow() > tickets[0].peer.0);
        w.irm.released(tickets[1].peer);
        w.settle();
        assert!(w.irm.flows.is_empty() && w.irm.flows.users().is_empty());
        let told = |e: &Effect| matches!(e, Effect::Gone(end, _) if *end == tickets[0].row);
        assert!(w.done.iter().any(told), "{:?}", w.done);
    }
}

#[test]
fn a_ticket_that_is_not_good_is_refused_and_counted() {
    let mut w = World::with(settings());
    let [asking, accepting] = local(&mut w);
    let mut w = next(&w, Duration::from_secs(1));
    w.lease(user(20));
    let refusals = [
        // Sealed by somebody else.
        w.irm.adopt(w.now, user(20), &asking.seal(&[8; 32]), asking.cookie, false),
        w.irm.adopt(w.now, user(20), b"", 0, false),
        // Another user's, another socket's.
        adopt(&mut w, Caller { uid: 1001, ..user(20) }, &asking, false),
        w.irm.adopt(w.now, user(20), &asking.seal(&KEY), accepting.cookie, false),
    ];
    for refused in refusals {
        assert_eq!(refused.unwrap_err().kind(), FailureKind::NotPermitted);
    }
    assert!(w.irm.flows.is_empty());
    adopt(&mut w, user(20), &asking, false).unwrap();
    // Again, by whomever, and under a row of other ends.
    assert_eq!(adopt(&mut w, user(20), &asking, false).unwrap_err().kind(), FailureKind::AlreadyExists);
    assert_eq!(adopt(&mut w, user(21), &asking, false).unwrap_err().kind(), FailureKind::AlreadyExists);
    let crossed = Ticket { peer: FlowId(77), accepting: true, ..asking.clone() };
    assert_eq!(adopt(&mut w, user(20), &crossed, false).unwrap_err().kind(), FailureKind::AlreadyExists);
    let crossed = Ticket { row: accepting.peer, peer: FlowId(78), ..asking };
    assert_eq!(adopt(&mut w, user(20), &crossed, false).unwrap_err().kind(), FailureKind::AlreadyExists);
    let Reply::Status(status) = w.answer(ROOT, Command::Status) else { panic!() };
    assert_eq!((status.counters["refused_tickets"], status.counters["adopted"]), (8, 1));
}

#[test]
fn an_end_whose_other_is_gone_is_told_and_not_listed() {
    let mut w = World::with(settings());
    let [asking, accepting] = local(&mut w);
    let mut w = next(&w, Duration::from_secs(1));
    w.lease(user(20));
    assert_eq!(adopt(&mut w, user(20), &asking, true).unwrap().row, None);
    assert!(w.irm.flows.is_empty());
    // The other end went after the first was back, and nobody else knows: its program's word is enough.
    adopt(&mut w, user(20), &asking, false).unwrap();
    w.irm.suspected(asking.row);
    w.settle();
    assert!(w.irm.flows.is_empty());
    assert!(w.done.iter().any(|e| matches!(e, Effect::Gone(end, EndReason::PeerUnknown) if *end == asking.row)));
    // With both ends there it proves nothing.
    w.lease(user(10));
    for (pid, ticket) in [(20, &asking), (10, &accepting)] {
        adopt(&mut w, user(pid), ticket, false).unwrap();
    }
    w.irm.suspected(asking.row);
    assert_eq!(w.irm.flows.len(), 1);
    // An administrator may end one that has a single end.
    let mut w = next(&w, Duration::from_secs(1));
    w.lease(user(10));
    adopt(&mut w, user(10), &accepting, false).unwrap();
    let dealloc = Command::FlowDealloc(v1::FlowDeallocRequest { flow_id: asking.row.0 });
    assert!(matches!(w.answer(ROOT, dealloc), Reply::Done));
    assert!(w.done.iter().any(|e| matches!(e, Effect::CloseLocal { row, .. } if *row == asking.row)));
    assert!(w.irm.flows.is_empty());
}

#[test]
fn for_a_second_after_a_restart_nobody_is_told_that_a_name_is_unknown() {
    let mut w = next(&World::with(settings()), Duration::from_secs(1));
    for (ms, want) in [(0, FailureKind::Recovering), (999, FailureKind::Recovering), (1, FailureKind::UnknownName)] {
        w.pass(Duration::from_millis(ms));
        let call = w.alloc(20, "echo");
        assert_eq!(w.failure(call).kind(), want, "{ms}");
    }
    // A first start restarts nothing.
    let mut w = World::with(settings());
    let call = w.alloc(20, "echo");
    assert_eq!(w.failure(call).kind(), FailureKind::UnknownName);
}

#[test]
fn programs_that_an_earlier_irmd_started_are_waited_for() {
    let config = crate::config::Config::parse(
        "[[name]]\nname = \"echo\"\n[[name.program]]\npath = \"/bin/echo\"\nauto = true\n",
    )
    .unwrap();
    let starts = |w: &World| w.done.iter().filter(|e| matches!(e, Effect::StartProgram { .. })).count();
    for (found, at_once, in_the_end) in [(true, 0, 1), (false, 0, 1)] {
        let mut w = next(&World::with(settings()), Duration::from_secs(1));
        w.irm.restore(&config, name::Origin::Config);
        assert_eq!(w.irm.found_program(w.now, "other", "/bin/echo"), None);
        assert_eq!(w.irm.found_program(w.now, "echo", "/bin/other"), None);
        let child = found.then(|| w.irm.found_program(w.now, "echo", "/bin/echo").unwrap());
        let mut request = v1::FlowAllocRequest { name: "echo".into(), timeout_ms: 60_000, ..Default::default() };
        request.version = proto::PROTOCOL_VERSION;
        w.call(user(20), Command::FlowAlloc(request, [Token([1; 16]), Token([2; 16])]));
        assert_eq!(starts(&w), at_once);
        w.pass(Duration::from_millis(1_001));
        assert_eq!(starts(&w), usize::from(!found), "one that runs is given its time");
        if let Some(child) = child {
            w.irm.child_exited(w.now, child, "ended");
            w.settle();
            w.pass(Duration::from_secs(2));
        }
        assert!(starts(&w) <= in_the_end);
    }
}

fn shutdown(drain_ms: u32, end_flows: bool) -> Command {
    Command::Shutdown(v1::ShutdownRequest { drain_ms, end_flows })
}

fn stopped(w: &World) -> bool {
    w.done.iter().any(|e| matches!(e, Effect::Stop))
}

#[test]
fn a_shutdown_takes_nothing_new_and_waits_for_flows() {
    let mut w = World::with(settings());
    let [asking, _] = local(&mut w);
    let call = w.call(ROOT, shutdown(60_000, false));
    for refused in [w.alloc(20, "echo"), w.call(user(20), serve("other"))] {
        assert_eq!(w.failure(refused).kind(), FailureKind::ShuttingDown);
    }
    assert!(matches!(w.answer(ROOT, Command::Status), Reply::Status(_)), "one may look");
    w.pass(Duration::from_secs(59));
    assert!(!stopped(&w) && w.reply(call).is_none());
    w.irm.released(asking.row);
    w.settle();
    assert!(stopped(&w) && matches!(w.reply(call), Some(Reply::Stopped(0))));
}

#[test]
fn a_shutdown_keeps_or_ends_what_is_left() {
    for end in [false, true] {
        let mut w = World::with(settings());
        let [asking, accepting] = local(&mut w);
        let attach = w.ipcp("udp0", "net");
        w.obey();
        let call = w.call(ROOT, shutdown(1_000, end));
        w.pass(Duration::from_millis(999));
        assert!(!stopped(&w));
        w.pass(Duration::from_millis(1));
        let told = [asking.row, accepting.peer]
            .map(|end| w.done.iter().any(|e| matches!(e, Effect::Gone(flow, EndReason::Admin) if *flow == end)));
        assert_eq!(told, [end; 2]);
        if end {
            // Its IPCP ends the flows that it has; nobody starts it again.
            assert_eq!(w.obey(), [IpcpCall::Shutdown]);
            assert!(!stopped(&w));
            w.cancel(attach);
        }
        assert!(stopped(&w));
        assert!(matches!(w.reply(call), Some(Reply::Stopped(1))));
        assert!(!w.done.iter().any(|e| matches!(e, Effect::StartIpcp { .. } | Effect::Persist)));
    }
}

#[test]
fn a_second_shutdown_takes_the_place_of_the_first() {
    let mut w = World::with(settings());
    local(&mut w);
    let patient = w.call(ROOT, shutdown(3_600_000, true));
    let call = w.call(user(20), shutdown(0, false));
    assert_eq!(w.failure(call).kind(), FailureKind::NotPermitted);
    let call = w.call(ROOT, shutdown(0, false));
    assert!(stopped(&w));
    for call in [patient, call] {
        assert!(matches!(w.reply(call), Some(Reply::Stopped(1))));
    }
    assert!(matches!(w.answer(ROOT, shutdown(5_000, false)), Reply::Stopped(1)), "it is over");
}

#[test]
fn an_ipcp_that_does_not_end_is_not_waited_for() {
    let mut w = World::with(settings());
    local(&mut w);
    w.ipcp("udp0", "net");
    w.call(ROOT, shutdown(0, true));
    assert!(!stopped(&w));
    w.pass(Duration::from_secs(3));
    assert!(stopped(&w));
}
