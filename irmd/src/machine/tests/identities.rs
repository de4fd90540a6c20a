//! Which peers are trusted, and in which words others are refused: the table of docs/security.md.

use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

use identity::{CertificateDer, Fingerprint, HostKey, Issuer, ProgramKey, check};
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;
use crate::config::{Config, Identity};

/// 2026-11-21 10:31:09 UTC.
const NOW: u64 = 1_795_257_069;
const DAY: u64 = 24 * 3_600;

pub(super) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Keys of hosts that are the same in each run: seeds of 32 bytes 1, 2, 3.
fn key(seed: usize) -> HostKey {
    let bytes = [
        "AEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB",
        "AICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIC",
        "AMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD",
    ];
    let pem =
        format!("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEI{}\n-----END PRIVATE KEY-----\n", bytes[seed - 1]);
    HostKey::from_pem(&pem).unwrap()
}

fn print(seed: usize) -> Fingerprint {
    key(seed).fingerprint()
}

static CAS: LazyLock<[CertifiedIssuer<'static, KeyPair>; 2]> = LazyLock::new(|| {
    ["CA", "Other"].map(|called| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, called);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    })
});

/// A host whose certificate the first CA signed until then.
fn certified(seed: usize, until: u64) -> Issuer {
    let mut request = CertificateSigningRequestParams::from_pem(&key(seed).request().unwrap()).unwrap();
    (request.params.not_before, request.params.not_after) = (at(NOW - DAY).into(), at(until).into());
    let certificate = request.signed_by(&CAS[0]).unwrap().der().clone();
    Issuer::certified(key(seed), vec![certificate], at(NOW)).unwrap()
}

fn chain(host: &Issuer, name: &str) -> Vec<CertificateDer<'static>> {
    let name = (!name.is_empty()).then(|| Name::new(name).unwrap());
    host.issue(&ProgramKey::generate().unwrap().public_key(), name.as_ref(), at(NOW)).unwrap().chain
}

fn of(seed: usize, name: &str) -> Vec<CertificateDer<'static>> {
    chain(&Issuer::new(key(seed)).unwrap(), name)
}

/// A host with these words of irmd.toml; files named ca:/1 and ca:/2 hold the CAs.
fn host(words: &str) -> World {
    let mut config = Config::parse(words).unwrap();
    let unread = config.read_cas(&|path| match path.to_str() {
        Some("/1") => Ok(vec![CAS[0].der().clone()]),
        Some("/2") => Ok(vec![CAS[1].der().clone()]),
        _ => Err("no such file".into()),
    });
    assert!(unread.is_empty(), "{unread:?}");
    let mut w = World::new();
    w.irm.restore(&config, name::Origin::Config);
    w.ipcp("udp0", "net");
    w.obey();
    w
}

fn judging(flow: u64, chain: Vec<CertificateDer<'static>>, wall: u64) -> Command {
    let shown = check(&chain, at(wall));
    Command::Judge(Box::new(Judging { flow: FlowId(flow), chain, shown, wall }))
}

/// A flow to another host, over which the directory says this.
fn flow_out(w: &mut World, pid: u32, name: &str, directory: &str) -> u64 {
    let call = w.alloc(pid, name);
    for (ipcp, attach, what) in w.asked() {
        let reply = v1::AllocReply {
            token: vec![9; 16],
            peer_address: "10.0.0.2:40000".into(),
            host_key: directory.into(),
            ..v1::AllocReply::default()
        };
        w.irm.ipcp_answered(w.now, &ipcp, attach, what, Ok(IpcpAnswer::Allocated(reply)));
        w.settle();
    }
    w.handle(call).flow_id
}

/// A flow from another host to "web", accepted by process 10.
fn flow_in(w: &mut World, cube: v1::Cube) -> Result<v1::FlowHandle, Failure> {
    let Command::FlowReqArr(request) = arrival("web", "net") else { unreachable!() };
    let qos = Some(v1::QosSpec { cube: cube.into(), ..v1::QosSpec::default() });
    let call =
        w.call(ROOT, Command::FlowReqArr(v1::FlowReqArrRequest { qos, classic: false, proven: true, ..request }));
    let accept = w.accept(10, "web", false);
    match w.reply(accept) {
        Some(Reply::Handle(handle)) => Ok(handle),
        None => {
            w.cancel(accept);
            Err(w.failure(call))
        }
        other => panic!("{other:?}"),
    }
}

fn outcome(reply: Reply) -> String {
    match reply {
        Reply::Judged(reply) => format!("trusted: {}", reply.trusted_by),
        Reply::Failed(failure) => {
            format!("{}: {}", failure.kind().as_str_name().trim_start_matches("FAILURE_KIND_"), failure.message)
        }
        other => panic!("{other:?}"),
    }
}

/// What a program hears that asked for echo, with these words in irmd.toml and this key in the directory.
fn asks(words: &str, directory: Option<Fingerprint>, shown: Vec<CertificateDer<'static>>, wall: u64) -> String {
    let mut w = host(words);
    let directory = directory.map(|it| it.to_string()).unwrap_or_default();
    let flow = flow_out(&mut w, 20, "echo", &directory);
    outcome(w.answer(user(20), judging(flow, shown, wall)))
}

/// The same where the host of seed 1 was trusted before.
fn asks_again(directory: Option<Fingerprint>, shown: Vec<CertificateDer<'static>>) -> String {
    let mut w = host("");
    for (directory, shown) in [(None, of(1, "echo")), (directory, shown)] {
        let directory = directory.map(|it| it.to_string()).unwrap_or_default();
        let flow = flow_out(&mut w, 20, "echo", &directory);
        let said = outcome(w.answer(user(20), judging(flow, shown, NOW)));
        if !said.ends_with("first use") {
            return said;
        }
    }
    unreachable!("both were first")
}

/// What a program hears of who asks for web, where that lets these in.
fn accepts(identities: &str, shown: Vec<CertificateDer<'static>>, wall: u64) -> String {
    let mut w = host(&format!("[[name]]\nname = \"web\"\nlayers = [\"*\"]\nserve = [\"any\"]\n{identities}"));
    w.lease(user(10));
    w.call(user(10), serve("web"));
    w.obey();
    match flow_in(&mut w, v1::Cube::Stream) {
        Ok(handle) => outcome(w.answer(user(10), judging(handle.flow_id, shown, wall))),
        Err(failure) => outcome(Reply::Failed(failure)),
    }
}

fn raw() -> String {
    let mut w = host("[[name]]\nname = \"web\"\nlayers = [\"*\"]\nserve = [\"any\"]\nidentities = [\"any\"]\n");
    w.lease(user(10));
    w.call(user(10), serve("web"));
    w.obey();
    outcome(Reply::Failed(flow_in(&mut w, v1::Cube::Raw).unwrap_err()))
}

fn table() -> Vec<(&'static str, String)> {
    let trust = |who: &str| format!("[[trust]]\nname = \"e*\"\nidentities = [{who}]\n");
    let pin = |seed| trust(&format!("\"{}\"", print(seed)));
    let off = "[options]\ntrust-first-use = false\n";
    let only = |who: &str| format!("identities = [{who}]");
    let strange = vec![of(1, "echo")[0].clone(), of(2, "echo")[1].clone()];
    vec![
        ("first use", asks("", None, of(1, "echo"), NOW)),
        ("first use, but trust-first-use is off", asks(off, None, of(1, "echo"), NOW)),
        ("remembered", asks_again(None, of(1, "echo"))),
        ("changed", asks_again(None, of(2, "echo"))),
        ("changed, the directory names the new one", asks_again(Some(print(2)), of(2, "echo"))),
        ("changed, the directory names the old one", asks_again(Some(print(1)), of(2, "echo"))),
        ("pinned", asks(&pin(1), None, of(1, "echo"), NOW)),
        ("another is pinned", asks(&pin(2), Some(print(1)), of(1, "echo"), NOW)),
        ("a CA", asks(&trust("\"ca:/1\""), None, chain(&certified(1, NOW + DAY), "echo"), NOW)),
        ("another CA", asks(&trust("\"ca:/2\""), None, chain(&certified(1, NOW + DAY), "echo"), NOW)),
        ("no CA", asks(&trust("\"ca:/1\""), None, of(1, "echo"), NOW)),
        (
            "a CA, whose certificate ended",
            asks(&trust("\"ca:/1\", \"ca:/2\""), None, chain(&certified(1, NOW + 60), "echo"), NOW + 61),
        ),
        ("the directory agrees", asks(off, Some(print(1)), of(1, "echo"), NOW)),
        ("the directory disagrees", asks("", Some(print(2)), of(1, "echo"), NOW)),
        ("another name", asks(&pin(1), None, of(1, "bank"), NOW)),
        ("no name", asks(&pin(1), None, of(1, ""), NOW)),
        ("expired", asks("", None, of(1, "echo"), NOW + DAY + 1)),
        ("the clock is an hour behind", asks("", None, of(1, "echo"), NOW - 3_600)),
        ("the clock is a day behind", asks("", None, of(1, "echo"), NOW - DAY)),
        ("no identity", asks("", None, vec![], NOW)),
        ("a certificate of another host", asks("", None, strange, NOW)),
        ("accepting: whoever comes, none is asked", accepts("", of(3, ""), NOW)),
        ("accepting: any", accepts(&only("\"any\""), of(3, "me"), NOW)),
        ("accepting: allowed", accepts(&only(&format!("\"any\", \"{}\"", print(3))), of(3, ""), NOW)),
        (
            "accepting: allowed by a CA",
            accepts(&only("\"ca:/2\", \"ca:/1\""), chain(&certified(3, NOW + DAY), ""), NOW),
        ),
        ("accepting: not allowed", accepts(&only(&format!("\"ca:/1\", \"{}\"", print(1))), of(3, ""), NOW)),
        ("accepting: nobody is allowed", accepts("identities = []", of(3, ""), NOW)),
        ("accepting: expired", accepts(&only("\"any\""), of(3, ""), NOW + 2 * DAY)),
        ("accepting: no identity", accepts(&only("\"any\""), vec![], NOW)),
        ("accepting: a raw flow", raw()),
    ]
}

#[test]
fn the_cases_of_trust_have_the_outcomes_and_words_that_are_written_down() {
    let text: String = table().iter().map(|(case, outcome)| format!("{case}\n    {outcome}\n")).collect();
    assert_eq!(text, include_str!("identities.txt"), "now it is:\n{text}");
    let page = include_str!("../../../../docs/security.md");
    let indented: String = text.lines().map(|line| format!("    {line}\n")).collect();
    assert!(page.contains(&indented), "docs/security.md shows another table:\n{indented}");
}

#[test]
fn who_is_shown_is_listed() {
    let mut w = host("");
    let flow = flow_out(&mut w, 20, "echo", "");
    let row = |w: &mut World| match w.answer(ROOT, Command::FlowList(Listed::default())) {
        Reply::Flows(rows) => rows.into_iter().find(|row| row.info.flow_id == flow).unwrap().info,
        other => panic!("{other:?}"),
    };
    assert!(row(&mut w).peer_identity.is_empty());
    w.answer(user(20), judging(flow, of(1, "echo"), NOW));
    let info = row(&mut w);
    let shown = (info.peer_identity, info.peer_certified, info.trusted_by);
    assert_eq!(shown, (print(1).to_string(), "echo".into(), "first use".into()));
    let known: Vec<_> = w.irm.known_hosts().cloned().collect();
    assert_eq!((known[0].uid, known[0].host, known[0].since), (1000, print(1), NOW));
    assert!(w.done.iter().any(|effect| matches!(effect, Effect::PersistKnown)));
}

#[test]
fn of_flows_that_an_ipcp_tells_of_only_the_peers_are_listed() {
    let mut w = host("");
    let (plain, shown) = (flow_out(&mut w, 20, "echo", ""), flow_out(&mut w, 20, "echo", ""));
    w.answer(user(20), judging(shown, of(1, "echo"), NOW));
    let mut listed = |told_by: &[&str]| {
        let told_by = told_by.iter().map(|ipcp| (*ipcp).to_owned()).collect();
        match w.answer(ROOT, Command::FlowList(Listed { told_by, ..Listed::default() })) {
            Reply::Flows(rows) => rows.into_iter().map(|row| row.info).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    let mut all = listed(&["another"]);
    all.sort_by_key(|info| info.flow_id);
    assert_eq!(all.iter().map(|info| info.flow_id).collect::<Vec<_>>(), [plain, shown]);
    let brief = listed(&["another", "udp0"]);
    assert_eq!(brief.len(), 1);
    assert_eq!((brief[0].flow_id, &brief[0].peer_identity), (shown, &all[1].peer_identity));
    assert!(brief[0].name.is_empty() && all[1].name == "echo");
}

#[test]
fn only_the_flows_process_has_it_judged() {
    let mut w = host("");
    let flow = flow_out(&mut w, 20, "echo", "");
    for caller in [user(21), Caller { uid: 1001, ..user(20) }, ROOT] {
        let failure = match w.answer(caller, judging(flow, of(1, "echo"), NOW)) {
            Reply::Failed(failure) => failure,
            other => panic!("{other:?}"),
        };
        assert_eq!(failure.kind(), FailureKind::NotFound);
    }
    assert_eq!(w.irm.known_hosts().count(), 0);
    w.lease(user(10));
    w.call(user(10), serve("here"));
    w.obey();
    let (call, accept) = (w.alloc(20, "here"), w.accept(10, "here", false));
    let (asking, accepting) = (w.handle(call).flow_id, w.handle(accept).flow_id);
    for (pid, flow) in [(20, asking), (10, accepting)] {
        let said = outcome(w.answer(user(pid), judging(flow, of(1, "here"), NOW)));
        assert!(said.starts_with("INVALID") && said.contains("stays within this host"), "{said}");
    }
}

#[test]
fn a_flow_that_came_back_is_judged() {
    let mut w = World::with(Settings { uid: 500, restarted: true, ..Settings::default() });
    let unknown = w.answer(user(20), judging(7, of(1, "echo"), NOW));
    assert!(matches!(unknown, Reply::Failed(f) if f.kind() == FailureKind::Recovering));
    w.ipcp("udp0", "net");
    let process = Some(v1::Process { pid: 20, uid: 1000, gid: 1000, command: "p".into() });
    let row = |flow_id, accepting| v1::FlowInfo {
        flow_id,
        name: "echo".into(),
        layer: "net".into(),
        ipcp: "udp0".into(),
        state: v1::FlowState::Allocated.into(),
        process: process.clone(),
        peer_address: "10.0.0.2:40000".into(),
        accepting,
        ..v1::FlowInfo::default()
    };
    w.answer(ROOT, Command::FlowsAdopted(vec![row(7, false), row(8, true)]));
    assert_eq!(outcome(w.answer(user(20), judging(7, of(1, "echo"), NOW))), "trusted: first use");
    assert_eq!(outcome(w.answer(user(20), judging(8, of(2, ""), NOW))), "trusted: any");
}

#[test]
fn each_user_remembers_for_itself_and_administrators_decide_for_all() {
    let mut w = host("");
    let judged = |w: &mut World, uid: u32, seed: usize| {
        let caller = Caller { pid: uid, uid, gid: uid, groups: None };
        let call = w.call(caller.clone(), alloc("echo"));
        w.obey();
        let flow = w.handle(call).flow_id;
        outcome(w.answer(caller, judging(flow, of(seed, "echo"), NOW)))
    };
    // A program of user 1000 shows a chain of its own making; that is nobody else's loss.
    assert_eq!(judged(&mut w, 1000, 3), "trusted: first use");
    assert_eq!(judged(&mut w, 1001, 1), "trusted: first use");
    assert!(judged(&mut w, 1000, 1).starts_with("UNTRUSTED: the host of echo has changed"));

    let trust = |name: &str, who: &str| Command::IdentityTrust {
        name: name.into(),
        who: Identity::try_from(who.to_owned()).unwrap(),
        wall: NOW,
    };
    let says =
        |w: &mut World, uid: u32, command: Command| w.answer(Caller { pid: uid, uid, gid: uid, groups: None }, command);
    assert!(matches!(says(&mut w, 1000, trust("echo", &print(1).to_string())), Reply::Done));
    assert_eq!(judged(&mut w, 1000, 1), "trusted: pin");
    for (name, who) in [("e*", print(1).to_string()), ("echo", "ca:/1".into()), ("echo", "any".into())] {
        let said = outcome(says(&mut w, 1000, trust(name, &who)));
        assert!(said.starts_with("NOT_PERMITTED: user 1000 may not trust CAs"), "{said}");
    }
    let rows = |w: &mut World, uid: u32| match says(w, uid, Command::IdentityList) {
        Reply::Trusts(rows) => rows.into_iter().map(|row| (row.user, row.source)).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(rows(&mut w, 1000), [("1000".into(), "trusted".into())]);
    assert_eq!(rows(&mut w, 0).len(), 2);

    assert!(matches!(says(&mut w, 0, trust("e*", &print(2).to_string())), Reply::Done));
    assert!(judged(&mut w, 1000, 1).contains("runtime.toml trusts others with e*"));
    assert_eq!(judged(&mut w, 1001, 2), "trusted: pin");
    assert!(matches!(says(&mut w, 0, trust("echo", &print(1).to_string())), Reply::Done));
    assert_eq!(judged(&mut w, 1001, 1), "trusted: pin");
    assert_eq!(w.irm.known_hosts().count(), 0, "by hand outranks memory");
    let made = w.irm.made_at_run_time();
    assert_eq!(made.trust.len(), 2);
    assert_eq!(Config::parse(&made.to_toml().unwrap()).unwrap(), made);

    let forget = |name: &str, who: Option<Fingerprint>| Command::IdentityForget(name.into(), who.map(Identity::Host));
    assert!(outcome(says(&mut w, 1000, forget("echo", None))).starts_with("NOT_FOUND: nobody of the kind"));
    assert!(outcome(says(&mut w, 0, forget("echo", Some(print(2))))).starts_with("NOT_FOUND"));
    assert!(matches!(says(&mut w, 0, forget("echo", Some(print(1)))), Reply::Forgotten(1)));
    assert!(matches!(says(&mut w, 0, forget("e*", None)), Reply::Forgotten(1)));
    assert_eq!(judged(&mut w, 1001, 3), "trusted: first use");
    assert!(outcome(says(&mut w, 1000, forget("echo", None))).starts_with("NOT_FOUND"), "another user's");
    assert!(matches!(says(&mut w, 1001, forget("echo", None)), Reply::Forgotten(1)));
    let any = says(&mut w, 0, trust("echo", "any"));
    assert!(outcome(any).starts_with("INVALID: any would trust everybody"));
}

#[test]
fn memory_is_bounded() {
    let mut w = host("");
    let known = |uid, name: String| trust::Known {
        uid,
        name: Name::new(&name).unwrap(),
        host: print(1),
        source: trust::Source::FirstUse,
        since: NOW,
    };
    w.irm.restore_known((0..trust::MOST_KNOWN_OF_USER).map(|n| known(1000, format!("n{n}"))).collect());
    let say = |w: &mut World, uid: u32| {
        let caller = Caller { pid: uid, uid, gid: uid, groups: None };
        let call = w.call(caller.clone(), alloc("echo"));
        w.obey();
        let flow = w.handle(call).flow_id;
        outcome(w.answer(caller, judging(flow, of(1, "echo"), NOW)))
    };
    let said = say(&mut w, 1000);
    assert_eq!(
        said,
        "EXHAUSTED: the host of echo cannot be remembered: 4096 hosts are remembered for user 1000, as many as may be; irm \
         identity forget takes some away"
    );
    assert_eq!(say(&mut w, 1001), "trusted: first use");
    let rest = trust::MOST_KNOWN - w.irm.known_hosts().count();
    w.irm.restore_known((0..rest).map(|n| known(1002 + u32::try_from(n / 4_096).unwrap(), format!("n{n}"))).collect());
    assert!(say(&mut w, 2000).contains("this irmd remembers 16384 hosts"));
    assert_eq!(say(&mut w, 1001), "trusted: remembered");
}

#[test]
fn names_let_identities_in() {
    let mut w = host("[[name]]\nname = \"web\"\nlayers = [\"*\"]\nserve = [\"any\"]\n");
    w.lease(user(10));
    w.call(user(10), serve("web"));
    w.obey();
    assert!(!flow_in(&mut w, v1::Cube::Message).unwrap().judged);
    assert!(!flow_in(&mut w, v1::Cube::Raw).unwrap().judged);
    let allow = |who: Option<String>, remove| Command::IdentityAllow {
        name: "web".into(),
        who: who.map(|who| Identity::try_from(who).unwrap()),
        remove,
    };
    assert!(outcome(w.answer(user(10), allow(Some("any".into()), false))).starts_with("NOT_PERMITTED"));
    assert!(matches!(w.answer(ROOT, allow(Some(print(3).to_string()), false)), Reply::Done));
    assert!(matches!(w.answer(ROOT, allow(Some(print(2).to_string()), false)), Reply::Done));
    let handle = flow_in(&mut w, v1::Cube::Message).unwrap();
    assert!(handle.judged);
    assert_eq!(outcome(w.answer(user(10), judging(handle.flow_id, of(3, ""), NOW))), "trusted: allowed");
    let refused = flow_in(&mut w, v1::Cube::Raw).unwrap_err();
    assert_eq!(refused.reason, "it asks for identity: ask for a message or stream flow");
    assert!(matches!(w.answer(ROOT, allow(Some(print(3).to_string()), true)), Reply::Done));
    assert!(outcome(w.answer(ROOT, allow(Some(print(3).to_string()), true))).starts_with("NOT_FOUND"));
    let handle = flow_in(&mut w, v1::Cube::Stream).unwrap();
    let said = outcome(w.answer(user(10), judging(handle.flow_id, of(3, ""), NOW)));
    assert_eq!(said, format!("NOT_PERMITTED: the host {} may not allocate flows to web", print(3)));
    // The last one that goes leaves nobody, not everybody.
    assert!(matches!(w.answer(ROOT, allow(Some(print(2).to_string()), true)), Reply::Done));
    assert!(flow_in(&mut w, v1::Cube::Stream).unwrap().judged);
    let made = w.irm.made_at_run_time();
    assert_eq!(made.names[0].identities, Some(vec![]));
    assert_eq!(Config::parse(&made.to_toml().unwrap()).unwrap(), made);
    assert!(matches!(w.answer(ROOT, allow(None, true)), Reply::Done));
    assert!(!flow_in(&mut w, v1::Cube::Stream).unwrap().judged);
    // Within the host the kernel vouches, whatever the name asks of others.
    w.answer(ROOT, allow(Some(print(3).to_string()), false));
    let (call, accept) = (w.alloc(20, "web"), w.accept(10, "web", false));
    assert!(!w.handle(call).judged && !w.handle(accept).judged);
}

#[test]
fn certificates_are_for_those_who_serve_or_may() {
    let mut w = host("[[name]]\nname = \"bank\"\nserve = [\"@60\"]\n");
    w.lease(user(10));
    w.call(user(10), serve("echo"));
    w.obey();
    let certify = |name: &str, serving| {
        Command::Certify(v1::CertifyRequest {
            version: proto::PROTOCOL_VERSION,
            name: name.into(),
            serving,
            public_key: Vec::new(),
        })
    };
    let table = [
        (10, "echo", true, ""),
        (10, "echo", false, ""),
        (10, "", false, ""),
        (11, "", false, ""),
        (11, "new", false, ""),
        (10, "", true, "INVALID: \"\" is no name"),
        (10, "two words", false, "INVALID: \"two words\" is no name"),
        (11, "echo", true, "NOT_PERMITTED: process 11 does not serve echo"),
        (10, "bank", true, "NOT_PERMITTED: process 10 does not serve bank"),
        (10, "bank", false, "NOT_PERMITTED: user 1000 may not serve bank"),
    ];
    for (pid, name, serving, want) in table {
        match w.answer(user(pid), certify(name, serving)) {
            Reply::Done => assert_eq!(want, "", "{pid} as {name}"),
            failed => {
                let said = outcome(failed);
                assert!(!want.is_empty() && said.starts_with(want), "{pid} as {name}: {said}");
            }
        }
    }
    let stranger = Caller { uid: 1001, ..user(10) };
    assert!(
        outcome(w.answer(stranger, certify("echo", true))).starts_with("NOT_PERMITTED"),
        "a pid that was used again"
    );
}

#[test]
fn a_new_list_of_identities_brings_its_cas() {
    let mut w = host("[[name]]\nname = \"web\"\n");
    let said = v1::NameRules { identities: vec!["ca:/1".into(), "ca:/2".into()], ..Default::default() };
    let mut read = Identity::try_from("ca:/1".to_owned()).unwrap();
    read.read(&|_| Ok(vec![CAS[0].der().clone()])).unwrap();
    let change = RulesChange { said, cas: vec![read], ..Default::default() };
    assert!(matches!(w.answer(ROOT, Command::NameRules("web".into(), change)), Reply::Done));
    let rules = w.irm.rules_of("web").unwrap();
    let has: Vec<bool> = rules
        .identities
        .unwrap()
        .iter()
        .map(|who| match who {
            Identity::Ca(cas) => cas.certificates.as_ref().is_some_and(|all: &Arc<[_]>| all.len() == 1),
            _ => false,
        })
        .collect();
    assert_eq!(has, [true, false]);
}
