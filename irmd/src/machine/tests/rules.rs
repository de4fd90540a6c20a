//! Rules of names and patterns: which decides, what is told of it, what lasts.

use super::*;
use crate::config::Config;
use policy::{About, User};

pub(super) fn with(text: &str) -> World {
    let mut w = World::new();
    w.irm.restore(&Config::parse(text).unwrap(), name::Origin::Config);
    w
}

fn other(uid: u32) -> Caller {
    Caller { pid: uid, uid, gid: uid, groups: None }
}

pub(super) fn from(w: &mut World, name: &str, address: &str, proven: bool, classic: bool) -> Option<Failure> {
    let Command::FlowReqArr(request) = arrival(name, "net") else { unreachable!() };
    let request = v1::FlowReqArrRequest { peer_address: address.into(), proven, classic, ..request };
    let call = w.call(ROOT, Command::FlowReqArr(request));
    match w.reply(call) {
        None => {
            w.cancel(call);
            None
        }
        Some(Reply::Failed(failure)) => Some(failure),
        other => panic!("{other:?}"),
    }
}

fn rules(w: &mut World, name: &str, said: v1::NameRules) -> Reply {
    w.answer(ROOT, Command::NameRules(name.into(), RulesChange { said, ..Default::default() }))
}

fn list(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

pub(super) const REMOTE: &str = r#"
[[name]]
name = "web"
layers = ["net"]
allow-remote = ["10.0.0.0/8", "10.9.1.1", "fd00::/16"]
deny-remote = ["10.9.0.0/16", "fd00:1::/32"]

[[name]]
name = "most"
layers = ["net"]
deny-remote = ["192.0.2.0/24"]

[[name]]
name = "few"
layers = ["net"]
deny-remote = ["any"]
allow-remote = ["192.0.2.7"]

[[name]]
name = "here"
layers = ["net"]
allow-remote = []

[[name]]
name = "all"
layers = ["net"]
"#;

#[test]
fn layers_hear_that_callers_must_be_proven() {
    let mut w = with(REMOTE);
    w.ipcp("udp0", "net");
    let told: BTreeMap<String, bool> = w
        .obey()
        .into_iter()
        .filter_map(
            |call| if let IpcpCall::Register(name, prove) = call { Some((name.to_string(), prove)) } else { None },
        )
        .collect();
    let want = [("all", false), ("few", true), ("here", true), ("most", true), ("web", true)];
    assert_eq!(told, want.map(|(name, prove)| (name.to_owned(), prove)).into());
    let name = |text| Name::new(text).unwrap();
    // A rule that comes later is told at once, and so is one of a pattern.
    rules(&mut w, "all", v1::NameRules { deny_remote: list(&["10.0.0.0/8"]), ..Default::default() });
    assert_eq!(w.obey(), [IpcpCall::Register(name("all"), true)]);
    rules(&mut w, "all", v1::NameRules { deny_remote: list(&["default"]), ..Default::default() });
    assert_eq!(w.obey(), [IpcpCall::Register(name("all"), false)]);
    rules(&mut w, "a*", v1::NameRules { deny_remote: list(&["10.0.0.0/8"]), ..Default::default() });
    assert!(w.obey().contains(&IpcpCall::Register(name("all"), true)));
}

#[test]
fn the_most_specific_rule_that_says_something_decides() {
    let text = r#"
[[name]]
name = "game.q2"
serve = ["1"]

[[rule]]
pattern = "*"
serve = ["2"]
allow-local = ["2"]

[[rule]]
pattern = "game.*"
serve = ["3"]

[[rule]]
pattern = "game.q3"
allow-local = ["4"]

[[rule]]
pattern = "game.q*"
allow-local = ["5"]
"#;
    let w = with(text);
    let judge = |name: &str, uid: u32| {
        let about = About::new(name, w.irm.names.get(name), &w.irm.patterns, 9);
        let user = User { uid, gid: uid, groups: &[], trusted: false };
        (about.serve(&user).allowed, about.allocate(&user).allowed)
    };
    let table: [(&str, u32, u32); 5] =
        [("game.q2", 1, 5), ("game.q3", 3, 4), ("game.q4", 3, 5), ("game.x", 3, 2), ("x", 2, 2)];
    for (name, server, asker) in table {
        for uid in 1..=9 {
            assert_eq!(judge(name, uid), (uid == server, uid == asker), "{name} {uid}");
        }
    }
}

#[test]
fn refusals_name_the_rule_here_and_hide_it_from_peers() {
    let mut w = with(
        "[[name]]\nname = \"web\"\nallow-local = [\"alice\", \"@33\"]\nlayers = [\"net\"]\nallow-remote = []\n\
         [[rule]]\npattern = \"game.*\"\nserve = [\"@60\"]\n",
    );
    w.ipcp("udp0", "net");
    w.obey();
    let call = w.call(other(1001), alloc("web"));
    let message = w.failure(call).message;
    assert_eq!(
        message,
        "user 1001 may not allocate flows to web: its rule (irmd.toml) says allow-local = [alice, @33]; an administrator \
         may allow it with irm name rules"
    );
    w.lease(other(1001));
    let call = w.call(other(1001), serve("game.x"));
    let message = w.failure(call).message;
    assert!(message.contains("the rule of game.* (irmd.toml) says serve = [@60]"), "{message}");
    // The IPCP makes a bare verdict of it; see ipcpd-udp's `verdict_of`.
    let failure = from(&mut w, "web", "10.1.1.1:1", true, false).unwrap();
    assert_eq!(failure.kind(), FailureKind::NotPermitted);
    assert!(failure.reason.is_empty());
}

#[test]
fn a_flood_of_refusals_is_counted_and_logged_once_a_second() {
    let mut w = with(REMOTE);
    w.ipcp("udp0", "net");
    w.obey();
    let mut lines = Vec::new();
    for n in 0..1_000 {
        if n == 999 {
            w.now += Duration::from_secs(1);
        }
        let Command::FlowReqArr(request) = arrival("here", "net") else { unreachable!() };
        w.irm.command(w.now, CallId(1_000_000 + n), ROOT, Command::FlowReqArr(request));
        while let Some(effect) = w.irm.poll_effect() {
            if let Effect::Log(_, text) = effect {
                lines.push(text);
            }
        }
    }
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].ends_with("(and 998 refusals before)"), "{lines:?}");
    assert_eq!(w.irm.refused["refused_allocate_remote"], 1_000);
}

#[test]
fn rules_are_changed_key_by_key_and_last() {
    let mut w = World::new();
    w.answer(
        ROOT,
        Command::NameCreate(v1::NameCreateRequest { name: "web".into(), ..Default::default() }, RulesChange::default()),
    );
    rules(
        &mut w,
        "web",
        v1::NameRules { serve: list(&["1001", "@33"]), allow_remote: list(&["none"]), ..Default::default() },
    );
    rules(&mut w, "web", v1::NameRules { allow_local: list(&["owner"]), ..Default::default() });
    rules(&mut w, "game.*", v1::NameRules { serve: list(&["none"]), ..Default::default() });
    let made = w.irm.made_at_run_time();
    let text = made.to_toml().unwrap();
    for line in [
        "serve = [\"1001\", \"@33\"]",
        "allow-local = [\"owner\"]",
        "allow-remote = []",
        "pattern = \"game.*\"",
        "serve = []",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert_eq!(Config::parse(&text).unwrap(), made);
    let mut again = World::new();
    again.irm.restore(&made, name::Origin::Runtime);
    assert_eq!(again.irm.made_at_run_time(), made);
    // Nonsense changes nothing, and says what it is.
    for (said, what) in [
        (v1::NameRules { serve: list(&["a b"]), ..Default::default() }, "serve: \"a b\" is no user"),
        (v1::NameRules { serve: list(&["any", "none"]), ..Default::default() }, "stands alone"),
        (v1::NameRules { allow_remote: list(&["10.0.0.1/8"]), ..Default::default() }, "write 10.0.0.0/8"),
        (v1::NameRules { deny_remote: list(&["x"]), ..Default::default() }, "deny-remote: \"x\" is no address"),
        (v1::NameRules { deny_remote: vec!["10.0.0.0/8".into(); 65], ..Default::default() }, "at most 64"),
    ] {
        match rules(&mut w, "web", said) {
            Reply::Failed(f) => assert!(f.kind() == FailureKind::Invalid && f.message.contains(what), "{f:?}"),
            other => panic!("{other:?}"),
        }
    }
    let both =
        v1::NameRules { allow_remote: list(&["10.0.0.0/8"]), deny_remote: list(&["10.0.0.0/8"]), ..Default::default() };
    assert!(matches!(rules(&mut w, "web", both), Reply::Failed(f) if f.message.contains("both in")));
    assert_eq!(w.irm.made_at_run_time(), made);
    for name in ["web", "game.*"] {
        let all = list(&["default"]);
        let said = v1::NameRules {
            serve: all.clone(),
            allow_local: all.clone(),
            allow_remote: all.clone(),
            deny_remote: all,
            identities: Vec::new(),
        };
        rules(&mut w, name, said);
    }
    let bare = w.irm.made_at_run_time();
    assert!(bare.rules.is_empty() && bare.names[0].rules().is_empty());
    assert!(
        matches!(rules(&mut w, "ga*me*", v1::NameRules::default()), Reply::Failed(f) if f.kind() == FailureKind::Invalid)
    );
}

#[test]
fn patterns_are_bounded() {
    let mut w = World::new();
    for n in 0..=policy::PATTERNS {
        let reply = rules(&mut w, &format!("p{n}.*"), v1::NameRules { serve: list(&["any"]), ..Default::default() });
        match reply {
            Reply::Done => assert!(n < policy::PATTERNS),
            Reply::Failed(f) => assert!(n == policy::PATTERNS && f.kind() == FailureKind::Exhausted, "{f:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn whoever_asks_is_told_which_rule_decides() {
    let mut w = with(REMOTE);
    let mut may = |user: Option<Caller>, address: &str| {
        let asked = May { name: "web".into(), user, address: address.into() };
        match w.answer(ROOT, Command::NameMay(asked)) {
            Reply::Rulings(rows) => rows.into_iter().map(|r| format!("{} {} {}", r.verb, r.allowed, r.why)).collect(),
            other => vec![format!("{other:?}")],
        }
    };
    assert_eq!(may(None, "10.9.3.3"), ["allocate false its rule (irmd.toml) says deny-remote = [10.9.0.0/16]"]);
    assert_eq!(may(None, "10.1.3.3"), ["allocate true its rule (irmd.toml) says allow-remote = [10.0.0.0/8]"]);
    assert_eq!(
        may(None, "11.1.1.1"),
        ["allocate false its rule (irmd.toml) says allow-remote = [10.0.0.0/8, 10.9.1.1, fd00::/16]"]
    );
    assert_eq!(
        may(Some(other(1001)), ""),
        ["serve false no rule says otherwise, and the name is user 500's", "allocate true no rule says otherwise",]
    );
    assert!(may(None, "here")[0].contains("is no address"));
    rules(&mut w, "*", v1::NameRules { identities: list(&["any"]), ..Default::default() });
    let asked = May { name: "web".into(), user: None, address: "10.1.3.3".into() };
    let Reply::Rulings(rows) = w.answer(ROOT, Command::NameMay(asked)) else { panic!("no rulings") };
    let why = "its rule (irmd.toml) says allow-remote = [10.0.0.0/8]; it must show an identity: the rule of * (runtime.toml) \
               says identities = [any]";
    assert_eq!((rows[0].allowed, rows[0].why.as_str()), (true, why));
}
