//! Who may do what to names, and what is written down.

use super::*;
use crate::config::Config;

fn register(name: &str, layer: &str) -> Command {
    Command::NameRegister(v1::NameRegisterRequest { name: name.into(), layer: layer.into() })
}

fn create(name: &str) -> Command {
    let request = v1::NameCreateRequest { name: name.into(), policy: 2, ..Default::default() };
    Command::NameCreate(request, RulesChange::default())
}

fn exported(w: &mut World) -> Config {
    match w.answer(ROOT, Command::ConfigExport) {
        Reply::Config(config) => config,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_name_is_served_by_those_who_may() {
    let mut w = World::new();
    w.answer(ROOT, create("shop"));
    w.lease(user(10));
    let call = w.call(user(10), serve("shop"));
    assert_eq!(w.failure(call).kind(), FailureKind::NotPermitted);
    // An administrator may bind the process itself.
    w.answer(ROOT, Command::BindProcess(v1::BindProcessRequest { name: "shop".into(), pid: 10 }));
    let accept = w.accept(10, "shop", false);
    w.alloc(20, "shop");
    w.handle(accept);
    w.answer(ROOT, Command::UnbindProcess(v1::UnbindProcessRequest { name: "shop".into(), pid: 10 }));
    let accept = w.accept(10, "shop", false);
    assert_eq!(w.failure(accept).kind(), FailureKind::NotPermitted);
    // Without a lease nobody serves.
    let call = w.call(user(99), serve("other"));
    assert!(w.failure(call).message.contains("no lease"));
}

#[test]
fn another_user_cannot_take_a_name_over() {
    let mut w = World::new();
    w.server(10, "echo");
    let mallory = Caller { pid: 30, uid: 2000, gid: 2000, groups: None };
    w.lease(mallory.clone());
    let call = w.call(mallory, serve("echo"));
    assert_eq!(w.failure(call).kind(), FailureKind::NotPermitted);
}

#[test]
fn names_one_user_may_serve_are_bounded() {
    let mut w = World::with(Settings { quotas: Quotas { names: 2, ..Quotas::default() }, ..Settings::default() });
    w.server(10, "a");
    w.server(10, "b");
    for (pid, name) in [(10, "c"), (11, "a")] {
        w.lease(user(pid));
        let call = w.call(user(pid), serve(name));
        assert!(w.failure(call).message.contains("names-per-user"));
    }
    let reply = w.answer(user(10), serve("a"));
    assert!(matches!(reply, Reply::Served(_)), "it serves that already: {reply:?}");
    w.answer(user(10), Command::Unserve(v1::UnserveRequest { name: "b".into() }));
    w.server(11, "a");
}

#[test]
fn what_tools_made_is_written_down_and_restored() {
    let mut w = World::new();
    w.irm.restore(&Config::parse("[[name]]\nname = \"declared\"\n").unwrap(), name::Origin::Config);
    w.answer(ROOT, create("made"));
    let program =
        v1::BoundProgram { path: "/bin/x".into(), args: vec!["a b".into()], auto_start: true, ..Default::default() };
    w.answer(ROOT, Command::BindProgram(v1::BindProgramRequest { name: "made".into(), program: Some(program) }));
    w.ipcp("udp0", "net");
    w.obey();
    let call = w.call(ROOT, register("made", "net"));
    w.obey();
    assert!(matches!(w.reply(call), Some(Reply::Done)));
    w.lease(user(10));
    w.call(user(10), serve("passing"));
    w.obey();

    let made = w.irm.made_at_run_time();
    assert_eq!(made.names.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["made"]);
    assert!(made.ipcps.is_empty(), "one started by hand is not ours to start");
    let export = exported(&mut w);
    let text = export.to_toml().unwrap();
    assert_eq!(Config::parse(&text).unwrap(), export);

    let mut again = World::new();
    again.irm.restore(&export, name::Origin::Config);
    assert_eq!(exported(&mut again), export);
}

#[test]
fn a_declared_name_that_a_tool_changed_is_written_down() {
    let mut w = World::new();
    w.irm.restore(&Config::parse("[[name]]\nname = \"declared\"\n").unwrap(), name::Origin::Config);
    assert!(w.irm.made_at_run_time().names.is_empty());
    w.call(ROOT, register("declared", "*"));
    assert_eq!(w.irm.made_at_run_time().names[0].layers, ["*"]);
}

#[test]
fn a_destroyed_name_is_taken_out_of_its_layers() {
    let mut w = World::new();
    w.ipcp("udp0", "net");
    w.answer(ROOT, create("made"));
    let call = w.call(ROOT, register("made", ""));
    w.obey();
    assert!(matches!(w.reply(call), Some(Reply::Done)));
    let call = w.call(ROOT, Command::NameDestroy(v1::NameDestroyRequest { name: "made".into() }));
    assert!(w.reply(call).is_none());
    assert_eq!(w.obey(), [IpcpCall::Retract(Name::new("made").unwrap())]);
    assert!(matches!(w.reply(call), Some(Reply::Done)));
    let call = w.call(ROOT, register("made", "net"));
    assert_eq!(w.failure(call).kind(), FailureKind::NotFound);
}

#[test]
fn layers_that_nobody_knows_are_slips() {
    let mut w = World::new();
    w.answer(ROOT, create("made"));
    let call = w.call(ROOT, register("made", "nte"));
    assert_eq!(w.failure(call).kind(), FailureKind::NoSuchLayer);
}

#[test]
fn a_name_no_layer_takes_is_not_served() {
    let mut w = World::new();
    let attach = w.ipcp("udp0", "net");
    w.lease(user(10));
    w.asked();
    let call = w.call(user(10), serve("echo"));
    let (ipcp, _, what) = w.asked().remove(0);
    w.irm.ipcp_answered(w.now, &ipcp, attach, what, Err(fail(FailureKind::Exhausted, "too many names")));
    w.settle();
    assert_eq!(w.failure(call).kind(), FailureKind::Exhausted);
    assert!(w.irm.names.is_empty());
}

#[test]
fn a_name_is_served_though_its_layer_goes_down_meanwhile() {
    let mut w = World::new();
    let attach = w.ipcp("udp0", "net");
    w.lease(user(10));
    let call = w.call(user(10), serve("echo"));
    w.cancel(attach);
    assert!(matches!(w.reply(call), Some(Reply::Served(layers)) if layers.is_empty()));
    w.ipcp("udp0", "net");
    assert!(w.obey().contains(&IpcpCall::Register(Name::new("echo").unwrap(), false)), "told when it comes back");
}

#[test]
fn a_name_that_its_directory_does_not_take_is_served_all_the_same() {
    let mut w = World::new();
    let attach = w.ipcp("udp0", "net");
    w.lease(user(10));
    w.obey();
    let unsaid = || Err(fail(FailureKind::DirectoryFailed, "the name server says no"));
    // Who serves it is not held up; who registers it by hand waits, and hears it.
    let served = w.call(user(10), serve("echo"));
    let by_hand = w.call(ROOT, register("echo", "net"));
    let asked = w.asked();
    let name = Name::new("echo").unwrap();
    assert_eq!(asked[0].2, IpcpCall::Register(name.clone(), false));
    assert_eq!(asked[1].2, IpcpCall::Publish(name.clone(), false));
    w.irm.ipcp_answered(w.now, "udp0", attach, asked[0].2.clone(), Ok(IpcpAnswer::Done));
    w.settle();
    assert!(matches!(w.reply(served), Some(Reply::Served(layers)) if layers == ["net"]));
    assert!(w.reply(by_hand).is_none(), "that the IPCP knows it is not what it waits for");
    w.irm.ipcp_answered(w.now, "udp0", attach, asked[1].2.clone(), unsaid());
    w.settle();
    assert_eq!(w.failure(by_hand).kind(), FailureKind::DirectoryFailed);
    // It is registered, so it can be tried again, served by others, and unregistered.
    let again = w.call(ROOT, register("echo", "net"));
    assert_eq!(w.obey(), [IpcpCall::Publish(name.clone(), false)]);
    assert!(matches!(w.reply(again), Some(Reply::Done)));
    w.lease(user(11));
    let other = w.call(user(11), serve("echo"));
    assert!(matches!(w.reply(other), Some(Reply::Served(layers)) if layers == ["net"]));
    let gone =
        w.call(ROOT, Command::NameUnregister(v1::NameUnregisterRequest { name: "echo".into(), layer: "*".into() }));
    let asked = w.asked();
    assert_eq!(asked[0].2, IpcpCall::Retract(name));
    w.irm.ipcp_answered(w.now, "udp0", attach, asked[0].2.clone(), unsaid());
    w.settle();
    assert_eq!(w.failure(gone).kind(), FailureKind::DirectoryFailed);
}

#[test]
fn where_a_name_is_says_what_a_flow_would_do() {
    let mut w = World::new();
    w.ipcp("udp0", "net");
    w.ipcp("udp1", "lab");
    w.lease(user(10));
    w.obey();
    let resolve = |w: &mut World, name: &str, layer: &str| {
        let request = v1::NameResolveRequest { name: name.into(), layer: layer.into() };
        match w.answer(ROOT, Command::NameResolve(request)) {
            Reply::Resolving(step, ipcps) => {
                (step.won, step.said, ipcps.into_iter().map(|(ipcp, _)| ipcp).collect::<Vec<_>>())
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        resolve(&mut w, "echo", ""),
        (false, "the name does not exist on this host".into(), vec!["udp0".into(), "udp1".into()])
    );
    w.call(user(10), serve("echo"));
    w.obey();
    let (won, said, _) = resolve(&mut w, "echo", "");
    assert!(won && said.contains("one process serves it"), "{said}");
    w.answer(ROOT, create("made"));
    assert!(!resolve(&mut w, "made", "").0);
    assert_eq!(resolve(&mut w, "made", "lab").2, ["udp1"]);
    let call = w.call(ROOT, Command::NameResolve(v1::NameResolveRequest { name: "made".into(), layer: "nte".into() }));
    assert_eq!(w.failure(call).kind(), FailureKind::NoSuchLayer);
}
