//! Flows within the host, out of it and into it.

use super::*;

#[test]
fn a_local_flow_from_end_to_end() {
    let mut w = World::new();
    w.server(10, "echo");
    w.lease(user(20));
    let accept = w.accept(10, "echo", false);
    let asked = w.alloc(20, "echo");
    let (a, b) = (w.handle(asked), w.handle(accept));
    assert_eq!((a.flow_id, b.flow_id), (1, 2));
    assert_eq!((a.token, b.token), (vec![1; 16], vec![2; 16]));
    assert_eq!((a.layer.as_str(), b.source_name.as_str(), a.handoff.as_str()), ("local", "me", "irmd.flow"));
    assert_eq!((a.data.as_slice(), b.data.as_slice()), (&b""[..], &b"hello"[..]));
    w.irm.taken(FlowId(1));
    w.irm.taken(FlowId(2));
    w.irm.released(FlowId(2));
    w.settle();
    let tail: Vec<String> = w.done.iter().skip(1).map(|e| format!("{e:?}")).collect();
    assert_eq!(
        tail,
        [
            "Forget(FlowId(2))",
            "Gone(FlowId(1), PeerDeallocated)",
            "CloseLocal { row: FlowId(1), over: Some(FlowId(2)) }"
        ]
    );
    // The other end's release finds nothing left.
    w.irm.released(FlowId(1));
    assert!(w.irm.flows.is_empty() && w.irm.calls.is_empty() && w.irm.timers.is_empty());
}

#[test]
fn either_end_is_found_by_its_id_and_an_administrator_ends_both() {
    let mut w = World::new();
    w.server(10, "echo");
    w.accept(10, "echo", false);
    w.alloc(20, "echo");
    for id in [1, 2] {
        let Reply::Flows(rows) = w.answer(ROOT, Command::FlowShow(v1::FlowShowRequest { flow_id: id })) else {
            panic!("no row")
        };
        let info = &rows[0].info;
        assert_eq!((info.flow_id, rows[0].peer), (1, Some(FlowId(2))));
        assert_eq!((info.process.as_ref().unwrap().pid, info.peer_process.as_ref().unwrap().pid), (20, 10));
    }
    w.irm.taken(FlowId(1));
    w.done.clear();
    w.answer(ROOT, Command::FlowDealloc(v1::FlowDeallocRequest { flow_id: 2 }));
    assert!(matches!(w.done[0], Effect::Gone(FlowId(1), v1::EndReason::Admin)), "{:?}", w.done);
    assert!(matches!(w.done[1], Effect::Withdraw(Token([2, ..]), _)), "{:?}", w.done);
    // It is shown on for a while, as one that is over, by either id.
    for flow_id in [1, 2] {
        match w.answer(ROOT, Command::FlowShow(v1::FlowShowRequest { flow_id })) {
            Reply::Flows(rows) => assert_eq!(rows[0].info.ended(), v1::EndReason::Admin),
            other => panic!("{other:?}"),
        }
    }
    let call = w.call(ROOT, Command::FlowShow(v1::FlowShowRequest { flow_id: 3 }));
    assert_eq!(w.failure(call).kind(), FailureKind::NotFound);
}

#[test]
fn failures_have_their_own_kinds() {
    let bad = |change: &dyn Fn(&mut v1::FlowAllocRequest)| {
        let mut request = alloc_request("echo");
        change(&mut request);
        Command::FlowAlloc(request, [Token([0; 16]); 2])
    };
    let cube = |cube: i32| v1::QosSpec { cube, ..v1::QosSpec::default() };
    let table: &[(Command, FailureKind, &str)] = &[
        (bad(&|r| r.version = 7), FailureKind::Invalid, "version 7 and this irmd version 1"),
        (bad(&|r| r.name = "two words".into()), FailureKind::Invalid, "no white space"),
        (bad(&|r| r.data = vec![0; 600]), FailureKind::Invalid, "512 at most"),
        (bad(&|r| r.qos = Some(cube(77))), FailureKind::UnsupportedQos, "cube 77"),
        (bad(&|r| r.name = "nowhere".into()), FailureKind::UnknownName, "no layer exists"),
        (bad(&|r| r.layer = "lab".into()), FailureKind::NoSuchLayer, "no layer lab"),
        (bad(&|r| (r.layer, r.name) = ("local".into(), "no".into())), FailureKind::UnknownName, "on this host"),
    ];
    for (command, kind, text) in table {
        let mut w = World::new();
        w.server(10, "echo");
        let call = w.call(user(20), command.clone());
        let failure = w.failure(call);
        assert_eq!(failure.kind(), *kind, "{failure:?}");
        assert!(failure.message.contains(text), "{failure:?}");
    }
}

#[test]
fn a_name_nobody_accepts_for_is_told_apart_from_an_unknown_one() {
    let mut w = World::new();
    w.server(10, "echo");
    let call = w.alloc(20, "echo");
    w.pass(Duration::from_millis(4_999));
    assert!(w.reply(call).is_none());
    w.pass(Duration::from_millis(1));
    assert_eq!(w.failure(call).kind(), FailureKind::NobodyAccepts);
    // One that exists only by name waits too.
    let request = v1::NameCreateRequest { name: "later".into(), ..Default::default() };
    w.answer(ROOT, Command::NameCreate(request, RulesChange::default()));
    let call = w.alloc(20, "later");
    w.server_as(Caller { uid: 500, ..user(11) }, "later");
    w.accept(11, "later", false);
    assert_eq!(w.handle(call).layer, "local");
}

#[test]
fn ask_lets_the_program_decide() {
    let mut w = World::new();
    w.server(10, "echo");
    let answer = |flow_id, accept, reason: &str| {
        let (reason, data) = (reason.to_owned(), b"welcome".to_vec());
        Command::FlowAnswer(v1::FlowAnswerRequest { flow_id, accept, reason, data })
    };
    let offered = |w: &mut World| {
        let accept = w.accept(10, "echo", true);
        let asked = w.alloc(20, "echo");
        (asked, w.handle(accept).flow_id)
    };
    let (asked, flow) = offered(&mut w);
    let call = w.call(user(11), answer(flow, true, ""));
    assert_eq!(w.failure(call).kind(), FailureKind::NotPermitted);
    w.answer(user(10), answer(flow, true, ""));
    assert_eq!(w.handle(asked).data, b"welcome");
    let call = w.call(user(10), answer(flow, true, ""));
    assert_eq!(w.failure(call).kind(), FailureKind::FlowGone);

    let (asked, flow) = offered(&mut w);
    w.answer(user(10), answer(flow, false, "full"));
    let failure = w.failure(asked);
    assert_eq!((failure.kind(), failure.reason.as_str()), (FailureKind::Refused, "full"));

    let (asked, flow) = offered(&mut w);
    w.cancel(asked);
    let call = w.call(user(10), answer(flow, true, ""));
    assert_eq!(w.failure(call).kind(), FailureKind::FlowGone);

    let (asked, _) = offered(&mut w);
    w.dies(10, &[]);
    assert_eq!(w.failure(asked).kind(), FailureKind::NobodyAccepts);
    assert_eq!(w.irm.flows.len(), 1);
}

#[test]
fn a_vanished_accept_gets_no_flow() {
    let mut w = World::new();
    w.server(10, "echo");
    w.server(11, "echo");
    let gone = w.accept(10, "echo", false);
    let waits = w.accept(11, "echo", false);
    w.cancel(gone);
    w.alloc(20, "echo");
    assert_eq!(w.handle(waits).name, "echo");
    assert_eq!(w.irm.accepting, 0);
}

#[test]
fn a_pair_that_cannot_be_made_fails_the_caller_and_keeps_the_accept() {
    let mut w = World::new();
    w.server(10, "echo");
    let accept = w.accept(10, "echo", false);
    w.no_pairs = true;
    let call = w.alloc(20, "echo");
    assert_eq!(w.failure(call).kind(), FailureKind::Exhausted);
    w.no_pairs = false;
    let call = w.alloc(20, "echo");
    w.handle(call);
    w.handle(accept);
}

#[test]
fn a_program_killed_with_local_flows_open_ends_them() {
    let mut w = World::new();
    w.server(10, "echo");
    w.accept(10, "echo", false);
    w.alloc(20, "echo");
    w.irm.taken(FlowId(1));
    w.irm.taken(FlowId(2));
    w.done.clear();
    w.dies(10, &[FlowId(2)]);
    assert!(matches!(w.done[0], Effect::Gone(FlowId(1), v1::EndReason::PeerDied)));
    assert!(w.irm.names.is_empty(), "a name that lived by its process is gone with it");
}

#[test]
fn waiting_flows_are_bounded() {
    let mut w = World::with(Settings { backlog: 2, pending: 3, ..Settings::default() });
    w.server(10, "a");
    w.server(10, "b");
    let calls: Vec<CallId> = ["a", "a", "a", "b", "b"].into_iter().map(|name| w.alloc(20, name)).collect();
    let failed: Vec<bool> = calls.iter().map(|call| w.replies.contains_key(call)).collect();
    assert_eq!(failed, [false, false, true, false, true]);
    assert_eq!(w.failure(calls[2]).kind(), FailureKind::Exhausted);
    assert_eq!(w.failure(calls[4]).kind(), FailureKind::Exhausted);
}

#[test]
fn layers_are_asked_in_order_and_the_first_that_reaches_wins() {
    let mut w = World::new();
    let (udp0, udp1) = (w.ipcp("udp0", "net"), w.ipcp("udp1", "lab"));
    w.obey();
    let call = w.alloc(20, "far");
    let asked = w.asked();
    assert_eq!((asked[0].0.as_str(), asked[0].1), ("udp0", udp0));
    let unknown = fail(FailureKind::UnknownName, "no");
    w.irm.ipcp_answered(w.now, "udp0", udp0, asked[0].2.clone(), Err(unknown));
    w.settle();
    let asked = w.asked();
    assert_eq!((asked[0].0.as_str(), asked[0].1), ("udp1", udp1));
    w.done.push(Effect::Call { ipcp: "udp1".into(), attach: udp1, what: asked[0].2.clone() });
    w.obey();
    let handle = w.handle(call);
    assert_eq!((handle.layer.as_str(), handle.handoff.as_str()), ("lab", "udp1.flow"));
    assert_eq!((handle.peer_address.as_str(), handle.data.as_slice()), ("10.0.0.2:40000", &b"olleh"[..]));
    let ended = v1::FlowEndedRequest { ipcp: "udp0".into(), flow_id: handle.flow_id, reason: 3, counters: None };
    w.answer(ROOT, Command::FlowEnded(ended.clone()));
    assert_eq!(w.irm.flows.len(), 1, "another IPCP's word does not count");
    w.answer(ROOT, Command::FlowEnded(v1::FlowEndedRequest { ipcp: "udp1".into(), ..ended }));
    assert!(w.irm.flows.is_empty());
}

#[test]
fn a_name_no_layer_knows_fails_at_once_and_a_dead_ipcp_is_named_only_then() {
    let mut w = World::new();
    let udp0 = w.ipcp("udp0", "net");
    w.obey();
    let call = w.alloc(20, "far");
    let asked = w.asked().remove(0);
    w.irm.ipcp_answered(w.now, "udp0", udp0, asked.2, Err(fail(FailureKind::UnknownName, "no")));
    w.settle();
    assert_eq!(w.failure(call).kind(), FailureKind::UnknownName);

    // Killed in the middle of an allocation: told at once.
    let call = w.alloc(20, "far");
    w.cancel(udp0);
    assert_eq!(w.failure(call).kind(), FailureKind::IpcpDown);
    let call = w.alloc(20, "far");
    assert_eq!(w.failure(call).kind(), FailureKind::IpcpDown);

    // Another layer reaches the name: nobody hears of the dead one.
    w.ipcp("udp1", "lab");
    w.obey();
    let call = w.alloc(20, "far");
    w.obey();
    assert_eq!(w.handle(call).layer, "lab");
}

#[test]
fn a_caller_that_left_leaves_no_flow_behind() {
    let mut w = World::new();
    let udp0 = w.ipcp("udp0", "net");
    w.obey();
    let call = w.alloc(20, "far");
    w.cancel(call);
    assert_eq!(w.irm.flows.len(), 1);
    let asked = w.asked().remove(0);
    let reply = IpcpAnswer::Allocated(v1::AllocReply::default());
    w.irm.ipcp_answered(w.now, "udp0", udp0, asked.2, Ok(reply));
    w.settle();
    assert!(w.irm.flows.is_empty());
    assert_eq!(w.asked(), [("udp0".to_owned(), udp0, IpcpCall::Dealloc(FlowId(1)))]);
}

#[test]
fn a_silent_ipcp_is_given_up() {
    let mut w = World::new();
    w.ipcp("udp0", "net");
    w.obey();
    let call = w.alloc(20, "far");
    w.pass(Duration::from_secs(6));
    let failure = w.failure(call);
    assert_eq!((failure.kind(), failure.message.contains("udp0")), (FailureKind::TimedOut, true));
}

#[test]
fn a_flow_from_a_peer_is_given_to_a_program() {
    let mut w = World::new();
    w.ipcp("udp0", "net");
    w.obey();
    let call = w.call(ROOT, arrival("echo", "net"));
    assert_eq!(w.failure(call).kind(), FailureKind::UnknownName);

    w.lease(user(10));
    let served = w.call(user(10), serve("echo"));
    assert_eq!(w.obey(), [IpcpCall::Register(Name::new("echo").unwrap(), false)]);
    assert!(matches!(w.reply(served), Some(Reply::Served(layers)) if layers == ["net"]));

    let call = w.call(ROOT, arrival("echo", "net"));
    assert!(w.reply(call).is_none());
    let accept = w.accept(10, "echo", false);
    let handle = w.handle(accept);
    assert_eq!(
        (handle.source_name.as_str(), handle.classic, handle.data.as_slice()),
        ("John Day", true, &b"hello"[..])
    );
    assert_eq!((handle.handoff.as_str(), handle.token), ("udp0.flow", vec![3; 16]));
    let Some(Reply::Accepted(reply)) = w.reply(call) else { panic!("not accepted") };
    let process = reply.process.unwrap();
    assert_eq!((reply.flow_id, process.pid, process.command.as_str()), (handle.flow_id, 10, "program-10"));

    // Nobody comes for the next one within its deadline of 2 s.
    let call = w.call(ROOT, arrival("echo", "net"));
    w.pass(Duration::from_secs(2));
    assert_eq!(w.failure(call).kind(), FailureKind::NobodyAccepts);
}

#[test]
fn an_asked_layer_is_asked() {
    let mut w = World::new();
    w.ipcp("udp0", "net");
    w.ipcp("udp1", "lab");
    w.obey();
    let mut request = alloc_request("far");
    request.layer = "lab".into();
    w.call(user(20), Command::FlowAlloc(request, [Token([0; 16]); 2]));
    let asked = w.asked();
    assert_eq!((asked.len(), asked[0].0.as_str()), (1, "udp1"));
}

#[test]
fn accepts_need_a_served_name_and_end_with_it() {
    let mut w = World::new();
    let call = w.accept(10, "echo", false);
    assert_eq!(w.failure(call).kind(), FailureKind::NotPermitted);
    w.server(10, "echo");
    let request = v1::FlowAcceptRequest { name: "echo".into(), ask: false, timeout_ms: 50 };
    let timed = w.call(user(10), Command::FlowAccept(request));
    let waits = w.accept(10, "echo", false);
    w.pass(Duration::from_millis(50));
    assert_eq!(w.failure(timed).kind(), FailureKind::TimedOut);
    w.answer(user(10), Command::Unserve(v1::UnserveRequest { name: "echo".into() }));
    assert_eq!(w.failure(waits).kind(), FailureKind::NotPermitted);
    assert_eq!((w.irm.accepting, w.irm.names.len()), (0, 0));
}

#[test]
fn an_accept_that_is_given_a_flow_does_not_time_out_beside_it() {
    let mut w = World::new();
    w.ipcp("udp0", "net");
    w.obey();
    let asked = w.alloc(20, "late");
    w.lease(user(10));
    w.call(user(10), serve("late"));
    let request = v1::FlowAcceptRequest { name: "late".into(), ask: false, timeout_ms: 3_500 };
    let accept = w.call(user(10), Command::FlowAccept(request));
    // The IPCP that is asked does not stop and is killed; the flow turns to this host. By the time the timer is
    // looked at, the deadlines of accept and flow have passed too.
    w.call(ROOT, Command::IpcpDestroy(v1::IpcpDestroyRequest { name: "udp0".into() }));
    w.pass(Duration::from_secs(10));
    let ends = (w.reply(asked), w.reply(accept));
    assert!(matches!(ends, (Some(Reply::Handle(_)), Some(Reply::Handle(_)))), "{ends:?}");
}

#[test]
fn a_directory_that_could_not_be_asked_is_named_when_no_other_layer_reaches_the_name() {
    let mut w = World::new();
    let udp0 = w.ipcp("udp0", "net");
    let udp1 = w.ipcp("udp1", "lab");
    w.obey();
    let kinds = [FailureKind::DirectoryFailed, FailureKind::UnknownName];
    for (first, second) in [(kinds[0], kinds[1]), (kinds[1], kinds[0])] {
        let call = w.alloc(20, "far");
        for (ipcp, attach, kind) in [("udp0", udp0, first), ("udp1", udp1, second)] {
            let asked = w.asked().remove(0);
            w.irm.ipcp_answered(w.now, ipcp, attach, asked.2, Err(fail(kind, "no")));
            w.settle();
        }
        assert_eq!(w.failure(call).kind(), FailureKind::DirectoryFailed);
    }
}
