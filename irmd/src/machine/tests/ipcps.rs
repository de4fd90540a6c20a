//! IPCPs come, go and come back.

use super::*;
use proto::v1::IpcpState;

fn bootstrap(name: &str) -> Command {
    let udp = v1::UdpConfig { ip: "10.0.0.1".into(), ..v1::UdpConfig::default() };
    let request = v1::IpcpBootstrapRequest {
        name: name.into(),
        r#type: "udp".into(),
        layer: "net".into(),
        udp: Some(udp),
        no_restart: false,
    };
    Command::IpcpBootstrap(request.into())
}

fn attach(w: &mut World, name: &str, pid: u32) -> CallId {
    let request = v1::AttachRequest {
        version: proto::PROTOCOL_VERSION,
        name: name.into(),
        r#type: "udp".into(),
        socket: "s".into(),
        handoff: "h".into(),
        ..v1::AttachRequest::default()
    };
    w.call(Caller { pid, uid: 500, gid: 500, groups: None }, Command::Attach(request.into()))
}

fn spawned(w: &mut World, pid: u32) -> ChildId {
    let starts: Vec<(String, ChildId)> = w
        .done
        .iter()
        .filter_map(|e| if let Effect::StartIpcp { ipcp, child } = e { Some((ipcp.clone(), *child)) } else { None })
        .collect();
    w.done.retain(|e| !matches!(e, Effect::StartIpcp { .. }));
    let [(ipcp, child)] = &starts[..] else { panic!("{starts:?}") };
    w.irm.ipcp_started(w.now, ipcp, *child, Started::Spawned(pid));
    w.settle();
    *child
}

fn list(w: &mut World) -> Vec<v1::IpcpInfo> {
    match w.answer(ROOT, Command::IpcpList) {
        Reply::Ipcps(ipcps) => ipcps,
        other => panic!("{other:?}"),
    }
}

/// An IPCP that irmd started, in its layer; its child and its attachment.
fn running(w: &mut World) -> (ChildId, CallId) {
    let call = w.call(ROOT, bootstrap("udp0"));
    let child = spawned(w, 77);
    let attached = attach(w, "udp0", 77);
    w.obey();
    assert!(matches!(w.reply(call), Some(Reply::Bootstrapped(address)) if address == "10.0.0.1:3359"));
    (child, attached)
}

#[test]
fn bootstrap_starts_what_does_not_exist() {
    let mut w = World::new();
    running(&mut w);
    let info = list(&mut w).remove(0);
    assert_eq!((info.state(), info.layer.as_str(), info.pid), (IpcpState::Operational, "net", 77));
    assert!(w.done.iter().any(|e| matches!(e, Effect::Persist)));
    let call = w.call(ROOT, bootstrap("udp0"));
    assert_eq!(w.failure(call).kind(), FailureKind::AlreadyExists);
}

#[test]
fn a_killed_ipcp_is_noticed_and_started_again_with_all_it_had() {
    let mut w = World::new();
    let (child, attached) = running(&mut w);
    w.lease(user(10));
    w.call(user(10), serve("echo"));
    w.obey();
    w.cancel(attached);
    let info = list(&mut w).remove(0);
    assert_eq!(info.state(), IpcpState::Down);
    w.irm.child_exited(w.now, child, "was killed by signal 9");
    w.settle();
    let info = list(&mut w).remove(0);
    assert_eq!((info.last_end.as_str(), info.pid), ("was killed by signal 9", 0));
    w.pass(Duration::from_millis(100));
    spawned(&mut w, 78);
    attach(&mut w, "udp0", 78);
    let said = w.obey();
    assert!(matches!(&said[0], IpcpCall::Bootstrap(request) if request.layer == "net"));
    assert_eq!(said[1], IpcpCall::Register(Name::new("echo").unwrap(), false));
    let info = list(&mut w).remove(0);
    assert_eq!((info.state(), info.restarts, info.pid), (IpcpState::Operational, 1, 78));
}

#[test]
fn pauses_grow_while_it_keeps_failing() {
    let mut w = World::new();
    let (child, attached) = running(&mut w);
    w.cancel(attached);
    w.irm.child_exited(w.now, child, "exited with status 1");
    w.settle();
    for ms in [100, 200, 400, 800] {
        w.pass(Duration::from_millis(ms - 1));
        assert!(!w.done.iter().any(|e| matches!(e, Effect::StartIpcp { .. })), "too early, {ms}");
        w.pass(Duration::from_millis(1));
        let child = spawned(&mut w, 79);
        w.irm.child_exited(w.now, child, "exited with status 1");
        w.settle();
    }
}

#[test]
fn a_start_that_fails_is_told_and_leaves_nothing() {
    type Row = (fn(&mut World), FailureKind, &'static str);
    let table: &[Row] = &[
        (
            |w| {
                let child = spawned(w, 77);
                w.irm.child_exited(w.now, child, "exited with status 2");
            },
            FailureKind::IpcpDown,
            "exited with status 2",
        ),
        (
            |w| {
                spawned(w, 77);
                w.pass(Duration::from_secs(5));
            },
            FailureKind::IpcpDown,
            "did not attach within 5 s",
        ),
        (
            |w| {
                spawned(w, 77);
                let attached = attach(w, "udp0", 77);
                let (ipcp, _, what) = w.asked().remove(0);
                let used = fail(FailureKind::AddressInUse, "10.0.0.1:3359 is in use");
                w.irm.ipcp_answered(w.now, &ipcp, attached, what, Err(used));
                w.settle();
                w.cancel(attached);
                w.irm.child_exited(w.now, ChildId(1), "exited with status 0");
            },
            FailureKind::AddressInUse,
            "is in use",
        ),
    ];
    for (events, kind, text) in table {
        let mut w = World::new();
        let call = w.call(ROOT, bootstrap("udp0"));
        events(&mut w);
        w.settle();
        let failure = w.failure(call);
        assert_eq!(failure.kind(), *kind, "{failure:?}");
        assert!(failure.message.contains(text), "{failure:?}");
        assert!(list(&mut w).is_empty());
        assert!(w.irm.timers.is_empty() && w.irm.calls.is_empty());
    }
}

#[test]
fn a_declared_ipcp_that_fails_is_kept_and_tried_again() {
    let mut w = World::new();
    let text = "[[ipcp]]\nname = \"udp0\"\nlayer = \"net\"\nip = \"10.0.0.1\"\n";
    w.irm.restore(&crate::config::Config::parse(text).unwrap(), name::Origin::Config);
    w.irm.begin(w.now);
    w.settle();
    spawned(&mut w, 77);
    let attached = attach(&mut w, "udp0", 77);
    let (ipcp, _, what) = w.asked().remove(0);
    let missing = fail(FailureKind::NoSuchAddress, "10.0.0.1 is not on this host");
    w.irm.ipcp_answered(w.now, &ipcp, attached, what, Err(missing));
    w.settle();
    let info = list(&mut w).remove(0);
    assert!(info.last_end.contains("not on this host"), "{info:?}");
    w.pass(Duration::from_millis(100));
    w.obey();
    assert_eq!(list(&mut w)[0].state(), IpcpState::Operational);
}

#[test]
fn one_that_outlived_irmd_is_taken_back_with_its_flows() {
    let mut w = World::new();
    let text = "[[ipcp]]\nname = \"udp0\"\nlayer = \"net\"\nip = \"10.0.0.1\"\n";
    w.irm.restore(&crate::config::Config::parse(text).unwrap(), name::Origin::Runtime);
    w.irm.begin(w.now);
    w.settle();
    let Some(Effect::StartIpcp { child, .. }) = w.done.pop() else { panic!("not started") };
    w.irm.ipcp_started(w.now, "udp0", child, Started::Found);
    w.settle();
    let attached = w.ipcp("udp0", "net");
    let flow = |flow_id| v1::FlowInfo {
        flow_id,
        name: "echo".into(),
        state: v1::FlowState::Allocated.into(),
        ..v1::FlowInfo::default()
    };
    let answer = IpcpAnswer::Flows(vec![flow(41), flow(44)]);
    w.irm.ipcp_answered(w.now, "udp0", attached, IpcpCall::Flows, Ok(answer));
    w.settle();
    assert_eq!((w.irm.flows.len(), w.irm.next_flow()), (2, 45));
    // After ten seconds only what the IPCP still knows is left.
    w.asked();
    w.pass(Duration::from_secs(10));
    let (ipcp, attach, what) = w.asked().remove(0);
    w.irm.ipcp_answered(w.now, &ipcp, attach, what, Ok(IpcpAnswer::Flows(vec![flow(44)])));
    w.settle();
    assert_eq!(w.irm.flows.iter().map(|flow| flow.id.0).collect::<Vec<_>>(), [44]);
}

#[test]
fn a_second_ipcp_of_the_same_name_is_refused() {
    let mut w = World::new();
    let (_, first) = running(&mut w);
    let second = attach(&mut w, "udp0", 90);
    assert_eq!(w.failure(second).kind(), FailureKind::AlreadyExists);
    w.cancel(second);
    assert_eq!(list(&mut w)[0].state(), IpcpState::Operational);
    w.cancel(first);
    assert_eq!(list(&mut w)[0].state(), IpcpState::Down);
}

#[test]
fn other_versions_and_other_users_do_not_attach() {
    let mut w = World::new();
    let request = v1::AttachRequest { version: 9, name: "udp0".into(), ..v1::AttachRequest::default() };
    let call = w.call(ROOT, Command::Attach(request.clone().into()));
    assert!(w.failure(call).message.contains("version 9 and this irmd version 1"));
    let call = w.call(user(5), Command::Attach(request.into()));
    assert_eq!(w.failure(call).kind(), FailureKind::NotPermitted);
}

#[test]
fn a_destroyed_ipcp_is_gone_with_its_flows() {
    let mut w = World::new();
    let (child, attached) = running(&mut w);
    let flow = w.alloc(20, "far");
    w.obey();
    w.handle(flow);
    let call = w.call(ROOT, Command::IpcpDestroy(v1::IpcpDestroyRequest { name: "udp0".into() }));
    assert_eq!(w.obey(), [IpcpCall::Shutdown]);
    w.cancel(attached);
    assert!(w.reply(call).is_none());
    w.irm.child_exited(w.now, child, "exited with status 0");
    w.settle();
    assert!(matches!(w.reply(call), Some(Reply::Done)));
    assert!(w.irm.ipcps.is_empty() && w.irm.flows.is_empty() && w.irm.timers.is_empty());
}

#[test]
fn one_that_does_not_stop_is_killed() {
    let mut w = World::new();
    running(&mut w);
    let call = w.call(ROOT, Command::IpcpDestroy(v1::IpcpDestroyRequest { name: "udp0".into() }));
    w.pass(Duration::from_secs(3));
    assert!(matches!(w.reply(call), Some(Reply::Done)));
    assert!(w.done.iter().any(|e| matches!(e, Effect::Kill { hard: true, .. })));
}

#[test]
fn flows_of_a_dead_program_do_not_outlive_a_dead_ipcp() {
    let mut w = World::new();
    let (_, attached) = running(&mut w);
    w.lease(user(20));
    let flow = w.alloc(20, "far");
    w.obey();
    w.handle(flow);
    w.cancel(attached);
    assert_eq!(w.irm.flows.len(), 1, "flows outlive daemons");
    w.dies(20, &[]);
    assert!(w.irm.flows.is_empty());
}

#[test]
fn who_waits_for_an_ipcp_that_is_killed_is_answered() {
    let mut w = World::new();
    running(&mut w);
    w.lease(user(10));
    let served = w.call(user(10), super::serve("echo"));
    let asked = w.alloc(20, "far");
    let call = w.call(ROOT, Command::IpcpDestroy(v1::IpcpDestroyRequest { name: "udp0".into() }));
    w.pass(Duration::from_secs(3));
    assert!(matches!(w.reply(call), Some(Reply::Done)));
    assert!(matches!(w.reply(served), Some(Reply::Served(layers)) if layers.is_empty()));
    assert_eq!(w.failure(asked).kind(), FailureKind::IpcpDown);
    assert!(w.irm.calls.is_empty() && w.irm.flows.is_empty());
}

#[test]
fn another_call_that_is_cancelled_takes_no_waiter_along() {
    let mut w = World::new();
    running(&mut w);
    let host = v1::StaticHost { name: "far".into(), address: "10.0.0.2".into() };
    let add = w.call(ROOT, Command::HostAdd(v1::HostAddRequest { ipcp: "udp0".into(), host: Some(host) }));
    w.call(ROOT, Command::IpcpDestroy(v1::IpcpDestroyRequest { name: "udp0".into() }));
    w.pass(Duration::from_secs(3));
    let call = w.call(ROOT, bootstrap("udp0"));
    spawned(&mut w, 78);
    w.cancel(add);
    w.pass(Duration::from_secs(5));
    assert_eq!(w.failure(call).kind(), FailureKind::IpcpDown);
}

#[test]
fn an_ipcp_that_was_found_as_it_ended_is_started_at_once() {
    let mut w = World::new();
    w.call(ROOT, bootstrap("udp0"));
    let children = |w: &World| {
        let child = |e: &Effect| if let Effect::StartIpcp { child, .. } = e { Some(*child) } else { None };
        w.done.iter().filter_map(child).collect::<Vec<_>>()
    };
    for looked in 1..=3 {
        assert_eq!(children(&w).len(), looked);
        w.irm.ipcp_started(w.now, "udp0", children(&w)[looked - 1], Started::Found);
        w.settle();
        w.pass(Duration::from_millis(250));
    }
    w.irm.ipcp_started(w.now, "udp0", children(&w)[3], Started::Spawned(78));
    w.settle();
    w.pass(Duration::from_secs(4));
    assert_eq!(children(&w).len(), 4, "one that was started has its time");
    assert_eq!(list(&mut w)[0].state(), IpcpState::Starting);
    // One that is there and never attaches is given up, as before.
    let mut w = World::new();
    let call = w.call(ROOT, bootstrap("udp0"));
    for _ in 0..40 {
        if let Some(child) = children(&w).last().copied() {
            w.irm.ipcp_started(w.now, "udp0", child, Started::Found);
        }
        w.settle();
        w.pass(Duration::from_millis(250));
    }
    assert_eq!(w.failure(call).kind(), FailureKind::IpcpDown);
}

/// Started by hand or by systemd with its layer, it never was told whose host it is on.
#[test]
fn one_that_comes_with_its_layer_hears_the_hosts_key_and_stays_what_it_is() {
    const KEY: &str = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
    for said in [KEY, ""] {
        let mut w = World::with(Settings { uid: 500, host_key: said.into(), ..Settings::default() });
        w.ipcp("udp0", "net");
        let (told, rest): (Vec<_>, Vec<_>) =
            w.asked().into_iter().partition(|(_, _, what)| matches!(what, IpcpCall::Bootstrap(_)));
        assert_eq!(told.len(), usize::from(!said.is_empty()));
        // It may be of an earlier version, or have been given something else meanwhile.
        for (ipcp, attach, what) in told {
            assert!(
                matches!(&what, IpcpCall::Bootstrap(b) if b.host_key == KEY && b.layer == "net" && b.udp.is_some())
            );
            w.irm.ipcp_answered(w.now, &ipcp, attach, what, Err(super::fail(FailureKind::AlreadyExists, "another")));
        }
        w.settle();
        assert!(!rest.is_empty(), "its flows are asked for");
        assert_eq!(list(&mut w)[0].state(), IpcpState::Operational);
    }
}
