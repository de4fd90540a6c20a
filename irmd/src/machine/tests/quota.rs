//! What one user may have, and what a stranger may cause.

use super::*;

fn world(quotas: Quotas) -> World {
    let quotas = Quotas { unlimited: vec![0, 500], ..quotas };
    World::with(Settings { uid: 500, quotas, ..Settings::default() })
}

fn of(pid: u32, uid: u32) -> Caller {
    Caller { pid, uid, gid: uid, groups: None }
}

#[track_caller]
fn exhausted(w: &mut World, call: CallId, key: &str) {
    let failure = w.failure(call);
    assert_eq!(failure.kind(), FailureKind::Exhausted, "{failure:?}");
    assert!(failure.message.contains(key), "{failure:?}");
}

#[test]
fn flows_of_a_user_are_counted_at_both_ends_and_given_back() {
    let mut w = world(Quotas { flows: 4, ..Quotas::default() });
    w.server_as(of(30, 77), "echo");
    let mut flows = Vec::new();
    for _ in 0..4 {
        w.call(of(30, 77), Command::FlowAccept(v1::FlowAcceptRequest { name: "echo".into(), ..Default::default() }));
        let call = w.alloc(20, "echo");
        flows.push(w.handle(call).flow_id);
    }
    let held = |w: &World, uid| w.irm.flows.users().of(uid).flows;
    assert_eq!((held(&w, 1000), held(&w, 77)), (4, 4));
    let call = w.alloc(21, "echo");
    exhausted(&mut w, call, "user 1000 holds 4 flows");
    let accept = v1::FlowAcceptRequest { name: "echo".into(), ..Default::default() };
    let call = w.call(of(30, 77), Command::FlowAccept(accept));
    exhausted(&mut w, call, "flows-per-user");
    // Another user is none the worse, and root has no limit.
    for uid in [78, 0] {
        let call = w.call(of(40, uid), alloc("nowhere"));
        assert_eq!(w.failure(call).kind(), FailureKind::UnknownName);
    }
    for flow in flows {
        w.irm.released(FlowId(flow));
    }
    w.settle();
    assert!(w.irm.flows.users().is_empty());
    w.alloc(21, "echo");
    assert_eq!(held(&w, 1000), 1);
}

#[test]
fn allocations_under_way_are_counted_until_they_are_over() {
    let mut w = world(Quotas { pending: 3, ..Quotas::default() });
    w.server_as(of(30, 77), "echo");
    let calls: Vec<CallId> = (0..3).map(|_| w.alloc(20, "echo")).collect();
    let call = w.alloc(22, "echo");
    exhausted(&mut w, call, "pending-per-user");
    w.cancel(calls[0]);
    w.alloc(20, "echo");
    let call = w.alloc(20, "echo");
    exhausted(&mut w, call, "pending-per-user");
    w.pass(Duration::from_secs(6));
    assert!(w.irm.flows.users().is_empty());
}

/// A caller that goes away does not get its place back before the IPCP has answered: else it could go on and on.
#[test]
fn abandoned_allocations_count_until_their_ipcp_has_answered() {
    let mut w = world(Quotas { pending: 2, ..Quotas::default() });
    w.ipcp("udp0", "net");
    w.obey();
    for _ in 0..2 {
        let call = w.alloc(20, "far");
        w.cancel(call);
    }
    let call = w.alloc(20, "far");
    exhausted(&mut w, call, "pending-per-user");
    w.obey();
    let call = w.alloc(20, "far");
    w.obey();
    w.handle(call);
}

#[test]
fn accepts_are_bounded_for_each_process_and_user() {
    let mut w = world(Quotas { accepts: 2, ..Quotas::default() });
    w.server_as(of(30, 77), "echo");
    for n in 0..3 {
        let accept = v1::FlowAcceptRequest { name: "echo".into(), ..Default::default() };
        let call = w.call(of(30, 77), Command::FlowAccept(accept));
        if n == 2 {
            exhausted(&mut w, call, "accepts-per-process");
        }
    }
    let settings = Settings { accepts: 8, ..Settings::default() };
    let mut w = World::with(settings);
    for pid in 30..34 {
        let name = format!("echo{pid}");
        w.server_as(of(pid, 77), &name);
        let call = w.call(of(pid, 77), Command::FlowAccept(v1::FlowAcceptRequest { name, ..Default::default() }));
        if pid >= 32 {
            exhausted(&mut w, call, "2 of them user 77's");
        }
    }
    w.server_as(of(50, 78), "other");
    let other = v1::FlowAcceptRequest { name: "other".into(), ..Default::default() };
    let call = w.call(of(50, 78), Command::FlowAccept(other));
    assert!(w.reply(call).is_none(), "it waits");
}

fn starts(w: &mut World) -> usize {
    let count = w.done.iter().filter(|effect| matches!(effect, Effect::StartProgram { .. })).count();
    w.done.clear();
    count
}

/// A name that starts a program, registered in a layer.
fn started(w: &mut World) {
    w.ipcp("udp0", "net");
    w.obey();
    let program = v1::BoundProgram { path: "/bin/server".into(), auto_start: false, ..Default::default() };
    for auto_start in [false, true] {
        let program = v1::BoundProgram { path: format!("/bin/server-{auto_start}"), auto_start, ..program.clone() };
        let request = v1::BindProgramRequest { name: "echo".into(), program: Some(program) };
        w.answer(ROOT, Command::BindProgram(request));
        if !auto_start {
            let call = w.call(
                ROOT,
                Command::NameRegister(v1::NameRegisterRequest { name: "echo".into(), layer: "net".into() }),
            );
            let name = proto::Name::new("echo").unwrap();
            assert_eq!(w.obey(), [IpcpCall::Publish(name, false)]);
            w.reply(call);
        }
    }
}

fn arrives(w: &mut World, classic: bool, proven: bool) -> CallId {
    let Command::FlowReqArr(request) = arrival("echo", "net") else { unreachable!() };
    let call = w.call(ROOT, Command::FlowReqArr(v1::FlowReqArrRequest { classic, proven, ..request }));
    w.settle();
    call
}

#[test]
fn layers_hear_whether_a_name_starts_programs() {
    let mut w = World::new();
    started(&mut w);
    let name = proto::Name::new("echo").unwrap();
    assert_eq!(w.obey(), [IpcpCall::Register(name.clone(), true)]);
    let unbind = v1::UnbindProgramRequest { name: "echo".into(), path: "/bin/server-true".into() };
    w.answer(ROOT, Command::UnbindProgram(unbind));
    assert_eq!(w.obey(), [IpcpCall::Register(name, false)]);
}

#[test]
fn a_program_bound_while_a_layer_is_told_is_told_after_all() {
    let mut w = World::new();
    w.ipcp("udp0", "net");
    w.obey();
    w.answer(
        ROOT,
        Command::NameCreate(
            v1::NameCreateRequest { name: "echo".into(), ..Default::default() },
            RulesChange::default(),
        ),
    );
    w.call(ROOT, Command::NameRegister(v1::NameRegisterRequest { name: "echo".into(), layer: "net".into() }));
    let program = v1::BoundProgram { path: "/bin/server".into(), auto_start: true, ..Default::default() };
    w.answer(ROOT, Command::BindProgram(v1::BindProgramRequest { name: "echo".into(), program: Some(program) }));
    let name = proto::Name::new("echo").unwrap();
    assert_eq!(w.obey(), [IpcpCall::Publish(name.clone(), false), IpcpCall::Register(name, true)]);
}

#[test]
fn a_forged_request_starts_no_program() {
    for (classic, proven, opted_in, want) in
        [(false, true, false, 1), (false, false, true, 0), (true, false, false, 0), (true, false, true, 1)]
    {
        let mut w = World::new();
        let options = crate::config::Options { classic_starts: opted_in, ..Default::default() };
        w.irm.restore(&crate::config::Config { options, ..Default::default() }, name::Origin::Config);
        started(&mut w);
        starts(&mut w);
        let call = arrives(&mut w, classic, proven);
        assert_eq!(starts(&mut w), want, "classic {classic}, proven {proven}, opted in {opted_in}");
        if want == 0 {
            // One that is proven starts it, whoever waits before; the program may take both.
            arrives(&mut w, false, true);
            assert_eq!(starts(&mut w), 1);
            w.pass(Duration::from_secs(3));
            assert_eq!(w.failure(call).kind(), FailureKind::NobodyAccepts);
        }
    }
}
