//! Programs on demand.

use super::*;

fn bind(w: &mut World, name: &str, path: &str) {
    let program =
        v1::BoundProgram { path: path.into(), args: vec!["-x".into()], auto_start: true, ..Default::default() };
    let request = v1::BindProgramRequest { name: name.into(), program: Some(program) };
    assert!(matches!(w.answer(ROOT, Command::BindProgram(request)), Reply::Done));
}

fn starts(w: &mut World) -> Vec<(ChildId, String)> {
    let (starts, rest): (Vec<Effect>, Vec<Effect>) =
        std::mem::take(&mut w.done).into_iter().partition(|e| matches!(e, Effect::StartProgram { .. }));
    w.done = rest;
    let start = |e| if let Effect::StartProgram { child, path, .. } = e { Some((child, path)) } else { None };
    starts.into_iter().filter_map(start).collect()
}

#[test]
fn a_flow_starts_a_program_once_and_is_taken_by_it() {
    let mut w = World::new();
    bind(&mut w, "echo", "/bin/server");
    let calls: Vec<CallId> = (0..50).map(|_| w.alloc(20, "echo")).collect();
    assert_eq!(starts(&mut w), [(ChildId(1), "/bin/server".to_owned())], "no herd");
    let Reply::Events(told, _) = w.answer(ROOT, Command::FlowEvents(0)) else { panic!() };
    let told: Vec<_> = told.records.iter().filter(|record| record.kind == v1::EventKind::Started).collect();
    assert_eq!(told.len(), 1, "told of the flow it was started for");
    assert_eq!(told[0].words.as_deref(), Some("/bin/server"));
    w.irm.program_started(w.now, ChildId(1), Ok(60));
    w.server_as(Caller { uid: 500, ..user(60) }, "echo");
    for call in calls {
        w.accept(60, "echo", false);
        w.handle(call);
    }
    w.dies(60, &[]);
    w.irm.child_exited(w.now, ChildId(1), "exited with status 0");
    w.alloc(20, "echo");
    assert_eq!(starts(&mut w).len(), 1, "started anew for the next flow");
}

#[test]
fn an_early_exit_is_told_with_its_status_and_paused() {
    let mut w = World::new();
    bind(&mut w, "echo", "/bin/server");
    let call = w.alloc(20, "echo");
    w.irm.child_exited(w.now, ChildId(1), "exited with status 3");
    w.settle();
    let failure = w.failure(call);
    assert_eq!(failure.kind(), FailureKind::NobodyAccepts);
    assert!(failure.message.contains("/bin/server exited with status 3"), "{failure:?}");
    starts(&mut w);
    let call = w.alloc(20, "echo");
    assert!(w.failure(call).message.contains("status 3"));
    w.pass(Duration::from_secs(1));
    w.alloc(20, "echo");
    assert_eq!(starts(&mut w).len(), 1);
}

#[test]
fn a_program_that_cannot_be_started_is_told() {
    let mut w = World::new();
    bind(&mut w, "echo", "/bin/none");
    let call = w.alloc(20, "echo");
    w.irm.program_started(w.now, ChildId(1), Err("No such file or directory".into()));
    w.settle();
    assert!(w.failure(call).message.contains("could not be started (No such file"));
}

#[test]
fn processes_that_are_busy_get_a_moment_before_help_comes() {
    let mut w = World::new();
    bind(&mut w, "echo", "/bin/server");
    w.lease(ROOT);
    w.answer(ROOT, serve("echo"));
    let call = w.alloc(20, "echo");
    assert!(starts(&mut w).is_empty());
    w.pass(Duration::from_millis(500));
    assert_eq!(starts(&mut w).len(), 1);
    w.pass(Duration::from_millis(4_500));
    assert_eq!(w.failure(call).kind(), FailureKind::NobodyAccepts);
}

#[test]
fn the_last_server_gone_the_next_is_started() {
    let mut w = World::new();
    bind(&mut w, "echo", "/bin/server");
    w.lease(ROOT);
    w.answer(ROOT, serve("echo"));
    w.alloc(20, "echo");
    w.dies(ROOT.pid, &[]);
    assert_eq!(starts(&mut w).len(), 1);
}

#[test]
fn round_robin_starts_the_programs_in_turn_and_spill_the_first() {
    for (policy, want) in [(1, ["/bin/a", "/bin/b"]), (2, ["/bin/a", "/bin/a"])] {
        let mut w = World::new();
        let request = v1::NameCreateRequest { name: "echo".into(), policy, ..Default::default() };
        w.answer(ROOT, Command::NameCreate(request, RulesChange::default()));
        bind(&mut w, "echo", "/bin/a");
        bind(&mut w, "echo", "/bin/b");
        w.alloc(20, "echo");
        w.pass(Duration::from_secs(4));
        w.alloc(20, "echo");
        w.pass(Duration::from_secs(6));
        w.alloc(20, "echo");
        let started: Vec<String> = starts(&mut w).into_iter().map(|(_, path)| path).collect();
        assert_eq!(started, want, "policy {policy}");
    }
}
