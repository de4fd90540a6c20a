//! Who may do what, as a table: every kind of caller, every verb, every state a name may be in.

use super::*;
use crate::config::{Config, Identity, NameEntry};

const ADMIN_GROUP: u32 = 77;
/// irmd's own user.
const OWN: u32 = 500;
const CONFIG: &str = r#"
[options]
admin-group = "@77"

[[name]]
name = "declared"

[[name]]
name = "theirs"
owner = "1000"

[[name]]
name = "shared"
owner = "1000"
serve = ["@60"]
allow-local = ["owner", "1001"]

[[name]]
name = "open"
serve = ["any"]

[[name]]
name = "shut"
owner = "1000"
serve = []
allow-local = []

[[rule]]
pattern = "game.*"
serve = ["@60"]
allow-local = ["@60"]

[[rule]]
pattern = "game.free.*"
serve = ["any"]
"#;

fn caller(uid: u32, groups: &[u32]) -> Caller {
    Caller { pid: uid + 10, uid, gid: uid, groups: Some(groups.into()) }
}

/// As columns. irmd's own user is root, unless a test says otherwise.
fn callers() -> Vec<(&'static str, Caller)> {
    vec![
        ("root", caller(0, &[])),
        ("irmd's", caller(OWN, &[])),
        ("admin", caller(3000, &[5, ADMIN_GROUP])),
        ("owner", caller(1000, &[])),
        ("@60", caller(1001, &[60])),
        ("other", caller(2000, &[5])),
    ]
}

const NAMES: [&str; 9] = ["absent", "passing", "declared", "theirs", "shared", "open", "shut", "game.x", "game.free.x"];

/// `uid`: irmd's own user.
fn world(uid: u32) -> World {
    let mut w = World::with(Settings { uid, handoff: "irmd.flow".into(), ..Settings::default() });
    w.irm.restore(&Config::parse(CONFIG).unwrap(), name::Origin::Config);
    // One that the owner's process made by serving it.
    w.server_as(Caller { pid: 44, ..caller(1000, &[]) }, "passing");
    w.ipcp("udp0", "net");
    w.obey();
    w
}

fn bind(name: &str, user: &str) -> Command {
    let program = v1::BoundProgram { path: "/bin/x".into(), user: user.into(), ..Default::default() };
    Command::BindProgram(v1::BindProgramRequest { name: name.into(), program: Some(program) })
}

type About = (&'static str, fn(&str) -> Command);

fn about_names() -> Vec<About> {
    vec![
        ("serve", serve),
        ("allocate", alloc),
        ("name create", |name| {
            Command::NameCreate(
                v1::NameCreateRequest { name: name.into(), ..Default::default() },
                RulesChange::default(),
            )
        }),
        ("name create with rules", |name| {
            let said = v1::NameRules { serve: vec!["any".into()], ..Default::default() };
            let change = RulesChange { said, ..Default::default() };
            Command::NameCreate(v1::NameCreateRequest { name: name.into(), ..Default::default() }, change)
        }),
        ("name destroy", |name| Command::NameDestroy(v1::NameDestroyRequest { name: name.into() })),
        ("name register", |name| {
            Command::NameRegister(v1::NameRegisterRequest { name: name.into(), layer: "net".into() })
        }),
        ("name unregister", |name| {
            Command::NameUnregister(v1::NameUnregisterRequest { name: name.into(), layer: "*".into() })
        }),
        ("name rules", |name| Command::NameRules(name.into(), RulesChange::default())),
        ("identity allow", |name| Command::IdentityAllow { name: name.into(), who: None, remove: true }),
        ("certify, to ask", |name| {
            Command::Certify(v1::CertifyRequest {
                version: proto::protocol_version(),
                name: name.into(),
                ..Default::default()
            })
        }),
        ("name may, itself", |name| Command::NameMay(May { name: name.into(), ..May::default() })),
        ("bind program", |name| bind(name, "")),
        ("unbind program", |name| {
            Command::UnbindProgram(v1::UnbindProgramRequest { name: name.into(), path: "/bin/x".into() })
        }),
        ("bind process", |name| Command::BindProcess(v1::BindProcessRequest { name: name.into(), pid: 44 })),
    ]
}

fn about_all() -> Vec<(&'static str, Command)> {
    let udp0 = || "udp0".to_owned();
    let trust = |name: &str, who: &str| Command::IdentityTrust {
        name: name.into(),
        who: Identity::try_from(who.to_owned()).unwrap(),
        wall: 0,
    };
    let print = identity::Fingerprint([7; 32]).to_string();
    let attach = v1::AttachRequest { version: proto::protocol_version(), name: "udp1".into(), ..Default::default() };
    vec![
        ("attach as an IPCP", Command::Attach(attach.into())),
        ("say that a flow arrived", arrival("open", "net")),
        ("bring flows back as an IPCP", Command::FlowsAdopted(Vec::new())),
        ("say that a flow ended", Command::FlowEnded(v1::FlowEndedRequest::default())),
        ("status", Command::Status),
        ("ipcp list", Command::IpcpList),
        ("ipcp create", Command::IpcpCreate(v1::IpcpCreateRequest::default())),
        ("ipcp bootstrap", Command::IpcpBootstrap(Box::default())),
        ("ipcp destroy", Command::IpcpDestroy(v1::IpcpDestroyRequest { name: "none".into() })),
        ("ipcp host add", Command::HostAdd(v1::HostAddRequest { ipcp: udp0(), host: None })),
        ("ipcp host remove", Command::HostRemove(v1::HostRemoveRequest { ipcp: udp0(), name: "x".into() })),
        ("name list", Command::NameList),
        ("name resolve", Command::NameResolve(v1::NameResolveRequest { name: "open".into(), ..Default::default() })),
        ("rule list", Command::RuleList),
        ("rules of a pattern", Command::NameRules("*".into(), RulesChange::default())),
        (
            "name may, another user",
            Command::NameMay(May { name: "open".into(), user: Some(caller(7, &[])), address: String::new() }),
        ),
        ("name may, a host", Command::NameMay(May { name: "open".into(), user: None, address: "10.0.0.9".into() })),
        ("bind program as another", bind("open", "4000")),
        ("unbind process", Command::UnbindProcess(v1::UnbindProcessRequest { name: "passing".into(), pid: 44 })),
        ("flow list", Command::FlowList(Listed::default())),
        ("identity list", Command::IdentityList),
        ("identity trust, a host", trust("far", &print)),
        ("identity trust, a CA", trust("far", "ca:/ca.pem")),
        ("identity trust, a pattern", trust("f*", &print)),
        ("identity forget", Command::IdentityForget("far".into(), None)),
        ("config export", Command::ConfigExport),
        ("shutdown", Command::Shutdown(v1::ShutdownRequest::default())),
    ]
}

/// Whether it was refused for who asks; anything else that may be wrong is beside the point.
fn permitted(own: u32, who: &Caller, command: Command) -> &'static str {
    let mut w = world(own);
    w.lease(who.clone());
    let call = w.call(who.clone(), command);
    match w.reply(call) {
        Some(Reply::Failed(failure)) if failure.kind() == FailureKind::NotPermitted => {
            // A refusal is counted, and logged with its reason.
            assert!(w.irm.refused.keys().any(|key| key.starts_with("refused_")), "{failure:?}");
            assert!(failure.message.starts_with(&format!("user {} may not", who.uid)), "{failure:?}");
            "-"
        }
        _ => "yes",
    }
}

fn row(what: &str, cells: impl Iterator<Item = &'static str>) -> String {
    let mut line = format!("{what:<38}");
    for cell in cells {
        line += &format!(" {cell:<7}");
    }
    line.trim_end().to_owned() + "\n"
}

#[test]
fn who_may_do_what_is_as_written_down() {
    let callers = callers();
    let mut table = row("irmd as root", callers.iter().map(|(name, _)| *name));
    let mut own = 0;
    for (verb, command) in about_all() {
        table += &row(verb, callers.iter().map(|(_, who)| permitted(own, who, command.clone())));
    }
    for (verb, command) in about_names() {
        table.push('\n');
        for name in NAMES {
            table +=
                &row(&format!("{verb}: {name}"), callers.iter().map(|(_, who)| permitted(own, who, command(name))));
        }
    }
    own = OWN;
    table += &row("\nirmd as a user", callers.iter().map(|(name, _)| *name));
    for (verb, command) in about_all() {
        table += &row(verb, callers.iter().map(|(_, who)| permitted(own, who, command.clone())));
    }
    for user in ["", "500", "1000", "0"] {
        let what = format!("bind program as {}", if user.is_empty() { "asked by nobody" } else { user });
        table += &row(&what, callers.iter().map(|(_, who)| permitted(own, who, bind("absent", user))));
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/machine/tests/who.txt");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(known == table, "who may do what has changed; look, then UPDATE_SNAPSHOTS=1 cargo test -p irmd\n{table}");
}

/// Every command has a rank, and what only the trusted may do stays so: an administrator must not forge peers.
#[test]
fn ranks_are_in_order() {
    use policy::Rank;
    assert!(Rank::User < Rank::Administrator && Rank::Administrator < Rank::Trusted);
    let w = world(OWN);
    let want = [Rank::Trusted, Rank::Trusted, Rank::Administrator, Rank::User, Rank::User, Rank::User];
    for ((name, who), want) in callers().into_iter().zip(want) {
        assert_eq!(w.irm.rank(&who), want, "{name}");
    }
    // The first group counts like the others, and a group that does not exist is nobody's.
    assert_eq!(w.irm.rank(&Caller { uid: 9, gid: ADMIN_GROUP, ..Caller::default() }), Rank::Administrator);
    let mut w = World::new();
    let mut config = Config::parse("[options]\nadmin-group = \"gone\"\n").unwrap();
    assert_eq!(config.look_up(&|_, _| None).len(), 1);
    w.irm.restore(&config, name::Origin::Config);
    assert_eq!(w.irm.rank(&caller(3000, &[ADMIN_GROUP])), Rank::User);
}

#[test]
fn a_user_sees_all_names_and_of_processes_programs_and_flows_its_own() {
    let mut w = world(0);
    w.lease(caller(2000, &[]));
    w.call(caller(2000, &[]), serve("mine"));
    w.obey();
    w.answer(ROOT, bind("declared", "0"));
    let of = |w: &mut World, who: Caller, name: &str| {
        let Reply::Names(rows) = w.answer(who, Command::NameList) else { panic!("no names") };
        let row = rows.into_iter().find(|row| row.name == name).unwrap();
        (row.programs.len(), row.processes.len())
    };
    assert_eq!(of(&mut w, ROOT, "declared"), (1, 0));
    for (who, seen) in [(ROOT, 1), (caller(3000, &[ADMIN_GROUP]), 1), (caller(2000, &[]), 1), (caller(1000, &[]), 0)] {
        assert_eq!(of(&mut w, who.clone(), "mine").1, seen, "{who:?}");
        let programs = usize::from(who.uid == 0 || who.uid == 3000);
        assert_eq!(of(&mut w, who, "declared").0, programs);
    }
    let accept = v1::FlowAcceptRequest { name: "mine".into(), ..Default::default() };
    let accepted = w.call(caller(2000, &[]), Command::FlowAccept(accept));
    let asked = w.call(Caller { pid: 71, ..caller(1001, &[]) }, alloc("mine"));
    let ids = [w.handle(asked).flow_id, w.handle(accepted).flow_id];
    for (who, seen) in [(ROOT, true), (caller(1001, &[]), true), (caller(2000, &[]), true), (caller(1000, &[]), false)]
    {
        let rows = match w.answer(who.clone(), Command::FlowList(Listed::default())) {
            Reply::Flows(rows) => rows,
            Reply::FlowsOf(uid, rows) => {
                assert_eq!(uid, who.uid);
                rows
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(rows.len(), usize::from(seen), "{who:?}");
        for id in ids {
            for command in [
                Command::FlowShow(v1::FlowShowRequest { flow_id: id }),
                Command::FlowDealloc(v1::FlowDeallocRequest { flow_id: id }),
            ] {
                if seen && matches!(command, Command::FlowDealloc(_)) {
                    continue;
                }
                let call = w.call(who.clone(), command);
                // Not even that it exists.
                let refused = matches!(w.reply(call), Some(Reply::Failed(f)) if f.kind() == FailureKind::NotFound);
                assert_eq!(refused, !seen, "{who:?}");
            }
        }
    }
    // Either end's user may end it.
    let call = w.call(caller(2000, &[]), Command::FlowDealloc(v1::FlowDeallocRequest { flow_id: ids[1] }));
    assert!(matches!(w.reply(call), Some(Reply::Done)));
}

#[test]
fn a_users_changes_names_and_programs_are_bounded() {
    let mut w = World::new();
    let create = |n: u32| {
        let request = v1::NameCreateRequest { name: format!("n{n}"), ..Default::default() };
        Command::NameCreate(request, RulesChange::default())
    };
    let who = caller(2000, &[]);
    let mut refused = 0;
    for n in 0..50 {
        let call = w.call(who.clone(), create(n));
        if let Some(Reply::Failed(failure)) = w.reply(call) {
            assert!(failure.kind() == FailureKind::Exhausted && failure.message.contains("32 times"), "{failure:?}");
            refused += 1;
        }
    }
    assert_eq!(refused, 18);
    // Others are none the worse; later it may again.
    w.answer(caller(2001, &[]), create(100));
    w.pass(Duration::from_secs(10));
    let call = w.call(who.clone(), create(60));
    assert!(matches!(w.reply(call), Some(Reply::Done)));

    let mut w = World::with(Settings { uid: 0, ..Settings::default() });
    for n in 0..70 {
        w.pass(Duration::from_secs(1));
        let program = v1::BoundProgram { path: format!("/bin/{n}"), ..Default::default() };
        let name = format!("p{}", n % 7);
        let call = w.call(who.clone(), Command::BindProgram(v1::BindProgramRequest { name, program: Some(program) }));
        match w.reply(call) {
            Some(Reply::Done) => assert!(n < 64),
            Some(Reply::Failed(f)) => assert!(n >= 64 && f.message.contains("64 programs"), "{n}: {f:?}"),
            other => panic!("{other:?}"),
        }
    }
}

/// A program runs as who bound it: never as root because irmd does.
#[test]
fn programs_run_as_who_bound_them() {
    let started = |w: &mut World, name: &str| {
        w.done.clear();
        w.call(ROOT, alloc(name));
        w.done.iter().find_map(|e| if let Effect::StartProgram { user, .. } = e { Some(*user) } else { None })
    };
    let auto = |name: &str, user: &str| {
        let program =
            v1::BoundProgram { path: "/bin/x".into(), user: user.into(), auto_start: true, ..Default::default() };
        Command::BindProgram(v1::BindProgramRequest { name: name.into(), program: Some(program) })
    };
    let admin = caller(3000, &[ADMIN_GROUP]);
    // irmd as root.
    let mut w = World::with(Settings::default());
    w.irm.restore(&Config::parse("[options]\nadmin-group = \"77\"\n").unwrap(), name::Origin::Config);
    for (who, user, runs) in [
        (ROOT, "", Some(0)),
        (ROOT, "1000", Some(1000)),
        (caller(1000, &[]), "", Some(1000)),
        (caller(1000, &[]), "1000", Some(1000)),
        (caller(1000, &[]), "0", None),
        (admin.clone(), "", Some(3000)),
        (admin.clone(), "0", None),
        (ROOT, "nobody-knows", None),
    ] {
        let name = format!("n{}{user}", who.uid);
        let call = w.call(who.clone(), auto(&name, user));
        match (w.reply(call), runs) {
            (Some(Reply::Done), Some(uid)) => {
                assert_eq!(started(&mut w, &name), Some(uid), "{who:?} {user}");
                // The name is that user's, so that the program may serve it.
                assert_eq!(w.irm.names.get(&name).unwrap().owner, uid);
                let export = w.irm.made_at_run_time();
                let written: &NameEntry = export.names.iter().find(|n| n.name == name).unwrap();
                assert_eq!(written.programs[0].user.as_ref().unwrap().id, Some(uid));
            }
            (Some(Reply::Failed(_)), None) => assert!(w.irm.names.get(&name).is_none(), "nothing was made"),
            other => panic!("{who:?} {user}: {other:?}"),
        }
    }
    // irmd as a user: it can become nobody else, and root's programs run as it does.
    let mut w = World::new();
    w.answer(ROOT, auto("a", ""));
    assert_eq!(started(&mut w, "a"), Some(500));
    for (who, user) in [(caller(1000, &[]), ""), (ROOT, "0"), (ROOT, "1000")] {
        let call = w.call(who, auto("b", user));
        assert_eq!(w.failure(call).kind(), FailureKind::NotPermitted);
    }
}
