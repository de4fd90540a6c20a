//! Flows to names that DNS knows, and what the machine asks of it.

use std::net::IpAddr;

use super::super::directory::answer::Records;
use super::super::directory::domain::Zone;
use super::super::directory::plan::Aim;
use super::super::directory::trouble::Trouble;
use super::super::directory::{Dns, LookedUp, Updated, Waiter};
use super::*;

const WALL: u64 = 1_000_000;
/// Another host that has the name.
const C: &str = "10.0.0.3:3359";

fn bench() -> Bench {
    let dns = Dns { zone: Zone::new("z").unwrap(), writes: true, lifetime: 900, ttl: 60 };
    let mut bench = Bench::with(Settings { dns: Some(dns), ..settings(A) });
    // Of the name that every bench registers.
    assert!(matches!(bench.one(), Output::Update { aim: Aim::Publish, .. }));
    bench.shim.updated(bench.now, &name("here"), Updated { result: Ok(()), server: "ns".into() });
    bench
}

fn answer_of(records: Result<Records, Trouble>, ttl: u64) -> LookedUp {
    LookedUp { records, absent: true, server: "ns".into(), ttl: Duration::from_secs(ttl), wall: WALL }
}

fn addresses(text: &str) -> Records {
    let addresses: Vec<IpAddr> = text.split_whitespace().map(|ip| ip.parse().unwrap()).collect();
    Records { addresses, ..Records::default() }
}

/// A claim that lives so many seconds from [`WALL`] on.
fn claim(ip: &str, lives: u64) -> Records {
    let text = format!("v=flow1 addr={ip} exp={}", WALL + lives);
    Records { texts: vec![vec![text.into_bytes()]], ..Records::default() }
}

impl Bench {
    fn find(&mut self, flow: u64, to: &str) -> Key {
        self.shim.flow_alloc(self.now, self.ask(flow, to)).unwrap()
    }

    fn found(&mut self, of: &str, records: Records, ttl: u64) {
        self.shim.looked_up(self.now, &name(of), &answer_of(Ok(records), ttl));
    }

    fn failed(&mut self) -> Vec<Failure> {
        let failed = |output| match output {
            Output::Failed { failure, .. } => Some(failure),
            _ => None,
        };
        self.outputs().into_iter().filter_map(failed).collect()
    }

    /// Where the next request goes, and its flow.
    fn requested(&mut self) -> (Key, SocketAddr) {
        let outputs = self.outputs();
        let open = outputs.iter().find_map(|output| match output {
            Output::Open { key, port, .. } => Some((*key, *port)),
            _ => None,
        });
        let (key, port) = open.unwrap_or_else(|| panic!("no socket in {outputs:?}"));
        self.shim.opened(self.now, key, Ok(SocketAddr::new(addr(A).ip(), port)));
        let Output::SendFlow { to: Some(to), .. } = self.one() else { panic!("no request") };
        (key, to)
    }
}

#[test]
fn ten_thousand_asks_for_a_name_are_one_look_up() {
    let mut bench = bench();
    bench.shim.settings.max_flows = 20_000;
    bench.shim.settings.cp = (20_000, 40_000);
    for flow in 1..=10_000 {
        bench.find(flow, "dns");
    }
    assert_eq!(bench.one(), Output::LookUp { name: name("dns"), domain: "dns.z".into() });
    bench.found("dns", addresses("10.0.0.2"), 60);
    let mut opened = 0;
    while opened < 10_000 {
        let some = bench.outputs().iter().filter(|output| matches!(output, Output::Open { .. })).count();
        assert!((1..=32).contains(&some), "{some} at once: others wait");
        opened += some;
        bench.shim.handle_timeout(bench.now);
    }
    assert_eq!(bench.shim.finding.len(), 0);
    // From now on nobody is asked.
    bench.shim.settings.max_flows = 30_000;
    bench.find(10_001, "dns");
    assert!(matches!(bench.one(), Output::Open { .. }));
}

#[test]
fn what_is_known_here_does_not_wait_for_a_server_that_is_silent() {
    let mut bench = bench();
    bench.find(1, "dns");
    bench.outputs();
    bench.asking(bench.ask(2, "echo"));
    let here = bench.shim.flow_alloc(bench.now, bench.ask(3, "here")).unwrap_err();
    assert_eq!(here.kind(), FailureKind::UnknownName);
    // Its own deadline comes, and nothing is left of it.
    bench.shim.cancel(bench.now, FlowId(2));
    bench.outputs();
    while bench.elapsed() < ms(5_000) {
        bench.next();
    }
    bench.now = bench.start + ms(5_000);
    bench.shim.handle_timeout(bench.now);
    assert_eq!(bench.shim.finding.len(), 0);
    let mut bench = self::bench();
    bench.find(1, "dns");
    bench.outputs();
    let outputs = bench.next();
    assert_eq!(bench.elapsed(), ms(5_000));
    let [Output::Failed { failure, .. }] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!(failure.kind(), FailureKind::DirectoryFailed);
}

#[test]
fn a_name_that_does_not_exist_and_a_server_that_fails_are_two_things() {
    let mut bench = bench();
    let table = [
        (Ok(Records::default()), FailureKind::UnknownName, "NXDOMAIN"),
        (Err(Trouble::NoAnswer), FailureKind::DirectoryFailed, "did not answer"),
        (Err(Trouble::ServFail), FailureKind::DirectoryFailed, "SERVFAIL"),
        (Err(Trouble::Refused), FailureKind::DirectoryFailed, "REFUSED"),
        (Err(Trouble::Malformed("x".into())), FailureKind::DirectoryFailed, "cannot be read"),
        (Ok(addresses("0.0.0.0")), FailureKind::UnknownName, "not the address of one host"),
        (Ok(claim("10.0.0.2", 0)), FailureKind::UnknownName, "void"),
        (Ok(addresses("10.0.0.1")), FailureKind::UnknownName, "on this host only"),
    ];
    for (n, (records, kind, word)) in table.into_iter().enumerate() {
        let (flow, to) = (n as u64 + 1, format!("name{n}"));
        bench.find(flow, &to);
        bench.outputs();
        bench.shim.looked_up(bench.now, &name(&to), &answer_of(records, 60));
        let failed = bench.failed();
        let [failure] = &failed[..] else { panic!("{failed:?}") };
        assert_eq!(failure.kind(), kind, "{failure}");
        assert!(failure.message.contains(word) && failure.message.contains(&to), "{failure}");
        // Kept for a moment: a storm of asks is not a storm of look-ups.
        let again = bench.shim.flow_alloc(bench.now, bench.ask(flow, &to)).unwrap_err();
        assert_eq!(again.kind(), kind);
        assert!(bench.outputs().is_empty());
    }
    bench.assert_empty();
}

#[test]
fn answers_are_kept_as_long_as_they_say() {
    let mut bench = bench();
    let begins = |bench: &mut Bench, flow, to| {
        let key = bench.shim.flow_alloc(bench.now, bench.ask(flow, to));
        bench.shim.cancel(bench.now, FlowId(flow));
        drop(key);
        bench.outputs().iter().any(|output| matches!(output, Output::LookUp { .. }))
    };
    assert!(begins(&mut bench, 1, "dns"));
    bench.found("dns", addresses("10.0.0.2"), 10);
    bench.now += ms(9_999);
    assert!(!begins(&mut bench, 2, "dns"));
    bench.now += ms(1);
    assert!(begins(&mut bench, 3, "dns"));
    // Negative ones no longer than a minute, whatever they say: a name may come any time.
    assert!(begins(&mut bench, 4, "none"));
    bench.found("none", Records::default(), 100_000);
    bench.now += ms(59_999);
    assert!(!begins(&mut bench, 5, "none"));
    bench.now += ms(1);
    assert!(begins(&mut bench, 6, "none"));
}

#[test]
fn an_outage_is_lived_through_on_what_was_known() {
    let mut bench = bench();
    let fails = |bench: &mut Bench, flow, trouble: Trouble| {
        bench.find(flow, "dns");
        assert!(matches!(bench.one(), Output::LookUp { .. }));
        bench.shim.looked_up(bench.now, &name("dns"), &answer_of(Err(trouble), 0));
    };
    bench.find(1, "dns");
    bench.outputs();
    bench.found("dns", claim("10.0.0.2", 100), 10);
    assert_eq!(bench.requested().1, addr(B));
    bench.now += ms(50_000);
    bench.shim.handle_timeout(bench.now);
    bench.outputs();
    fails(&mut bench, 2, Trouble::NoAnswer);
    assert_eq!(bench.requested().1, addr(B));
    // Believed for two seconds without asking.
    bench.now += ms(1_999);
    bench.find(3, "dns");
    assert_eq!(bench.requested().1, addr(B));
    // But never past what the record itself says.
    bench.now = bench.start + ms(100_000);
    bench.shim.handle_timeout(bench.now);
    bench.outputs();
    fails(&mut bench, 4, Trouble::NoAnswer);
    assert_eq!(bench.failed()[0].kind(), FailureKind::DirectoryFailed);
    // A server that denies it is no outage.
    let mut bench = self::bench();
    bench.find(1, "dns");
    bench.outputs();
    bench.found("dns", claim("10.0.0.2", 100), 10);
    bench.requested();
    bench.now += ms(10_000);
    bench.shim.handle_timeout(bench.now);
    bench.outputs();
    fails(&mut bench, 2, Trouble::Refused);
    assert_eq!(bench.failed()[0].kind(), FailureKind::DirectoryFailed);
}

#[test]
fn a_record_that_ends_before_its_ttl_ends() {
    let mut bench = bench();
    bench.find(1, "dns");
    bench.outputs();
    bench.found("dns", claim("10.0.0.2", 5), 60);
    bench.requested();
    bench.now += ms(5_000);
    let failure = bench.shim.flow_alloc(bench.now, bench.ask(2, "dns")).unwrap_err();
    assert!(failure.kind() == FailureKind::UnknownName && failure.message.contains("void"), "{failure}");
}

#[test]
fn look_ups_are_bounded_and_the_rest_takes_its_turn() {
    let mut bench = bench();
    bench.shim.settings.max_flows = 400;
    for n in 0..300 {
        bench.find(n + 1, &format!("name{n}"));
    }
    let mut under_way: Vec<Name> = Vec::new();
    let mut asked = 0;
    loop {
        for output in bench.outputs() {
            if let Output::LookUp { name, .. } = output {
                under_way.push(name);
                asked += 1;
            }
        }
        assert!(under_way.len() <= 128);
        let Some(of) = under_way.pop() else { break };
        bench.shim.looked_up(bench.now, &of, &answer_of(Err(Trouble::NoAnswer), 0));
    }
    assert_eq!(asked, 300);
    // Programs that wait count as flows, and one that no longer waits takes no turn.
    for n in 0..400 {
        bench.find(n + 1, &format!("other{n}"));
    }
    assert_eq!(
        bench.shim.flow_alloc(bench.now, bench.ask(999, "one-more")).unwrap_err().kind(),
        FailureKind::Exhausted
    );
    for flow in 1..=400 {
        bench.shim.cancel(bench.now, FlowId(flow));
    }
    let begun = bench.outputs().iter().filter(|output| matches!(output, Output::LookUp { .. })).count();
    assert_eq!((begun, bench.shim.finding.len()), (128, 0));
    bench.shim.looked_up(bench.now, &name("other0"), &answer_of(Err(Trouble::NoAnswer), 0));
    assert!(bench.outputs().is_empty());
}

#[test]
fn the_next_host_is_asked_where_one_has_no_flow_to_give() {
    let mut bench = bench();
    let key = bench.find(1, "dns");
    bench.outputs();
    bench.found("dns", addresses("10.0.0.2 10.0.0.3"), 60);
    let (first, to) = bench.requested();
    assert_eq!(first, key);
    let other = if to == addr(B) { addr(C) } else { addr(B) };
    bench.shim.handle_unreachable(bench.now, first, Unreachable::Port);
    bench.shim.handle_unreachable(bench.now, first, Unreachable::Port);
    let outputs = bench.outputs();
    let again = outputs.iter().find_map(|output| match output {
        Output::Again { key, next } => Some((*key, *next)),
        _ => None,
    });
    let (was, second) = again.unwrap_or_else(|| panic!("no other host in {outputs:?}"));
    assert!(was == first && !outputs.iter().any(|output| matches!(output, Output::Failed { .. })), "{outputs:?}");
    let Some(Output::Open { port, .. }) = outputs.iter().find(|output| matches!(output, Output::Open { .. })) else {
        panic!("{outputs:?}")
    };
    bench.shim.opened(bench.now, second, Ok(SocketAddr::new(addr(A).ip(), *port)));
    let Output::SendFlow { to: Some(to), bytes, .. } = bench.one() else { panic!("no request") };
    assert_eq!(to, other);
    let Ok(Request::Extended(_, extension)) = Request::decode(&bytes) else { panic!("an extended one") };
    // The program's own word is the end, whoever else has the name.
    let accepted = answer(extension.client, WireId(77), Verdict::Accepted).encode(&name("dns"));
    bench.answer(second, &format!("{}:45000", other.ip()), &accepted);
    assert!(matches!(bench.one(), Output::Connect { .. }));
}

#[test]
fn a_silent_host_gets_its_share_of_the_time_only() {
    let mut bench = bench();
    bench.find(1, "dns");
    bench.outputs();
    bench.found("dns", addresses("10.0.0.2 10.0.0.3"), 60);
    bench.requested();
    let mut failed = None;
    let mut again = None;
    while failed.is_none() {
        for output in bench.next() {
            match output {
                Output::Again { .. } => again = Some(bench.elapsed()),
                Output::Open { key, port, .. } => {
                    bench.shim.opened(bench.now, key, Ok(SocketAddr::new(addr(A).ip(), port)));
                }
                Output::Failed { failure, .. } => failed = Some((bench.elapsed(), failure)),
                _ => {}
            }
        }
    }
    assert_eq!(again, Some(ms(2_500)));
    let (at, failure) = failed.unwrap();
    assert_eq!((at, failure.kind()), (ms(5_000), FailureKind::TimedOut));
}

#[test]
fn a_program_that_says_no_speaks_for_all() {
    let mut bench = bench();
    bench.find(1, "dns");
    bench.outputs();
    bench.found("dns", addresses("10.0.0.2 10.0.0.3"), 60);
    let (key, to) = bench.requested();
    let flow = &bench.shim.flows[&key];
    let refused = answer(flow.ours, WireId(0), Verdict::Refused).encode(&name("dns"));
    bench.shim.handle_datagram(bench.now, Via::Flow(key), to, &refused);
    assert_eq!(bench.failed()[0].kind(), FailureKind::Refused);
}

#[test]
fn a_name_that_dns_cannot_hold_is_said_to_be_so() {
    let mut bench = bench();
    let long = "Ö".repeat(40);
    let failure = bench.shim.flow_alloc(bench.now, bench.ask(1, &long)).unwrap_err();
    assert!(failure.kind() == FailureKind::UnknownName && failure.message.contains("63 bytes"), "{failure}");
    let failure = bench.shim.register(bench.now, name(&long), Some(Waiter(1))).unwrap_err();
    assert!(failure.kind() == FailureKind::DirectoryFailed && failure.message.contains("63 bytes"), "{failure}");
    assert!(!bench.shim.register(bench.now, name(&long), None).unwrap());
    assert!(matches!(bench.one(), Output::Warn { .. }));
    let rows = bench.shim.registrations(bench.now, None, 10);
    assert_eq!(rows.len(), 2);
    assert!(rows[1].state == "local" && rows[1].failure.is_some(), "{rows:?}");
    assert!(bench.shim.unregister(bench.now, &name(&long), Some(Waiter(2))).is_ok());
}

#[test]
fn a_name_that_a_restarted_irmd_has_lost_leaves_dns() {
    let mut bench = bench();
    bench.now += Duration::from_secs(60);
    bench.shim.attached(bench.now, bench.now);
    bench.shim.register(bench.now, name("kept"), None).unwrap();
    assert!(matches!(bench.one(), Output::Update { aim: Aim::Publish, .. }));
    bench.shim.updated(bench.now, &name("kept"), Updated { result: Ok(()), server: "ns".into() });
    let until = bench.now + Duration::from_secs(10);
    while bench.now < until {
        assert!(bench.outputs().is_empty(), "it may still come");
        bench.now = bench.shim.poll_timeout().unwrap().0.min(until);
        bench.shim.handle_timeout(bench.now);
    }
    let [Output::Warn { text }, Output::Update { own, aim: Aim::Withdraw, .. }] = &bench.outputs()[..] else {
        panic!()
    };
    assert!(text.contains("here first") && own.name == name("here"), "{text}");
    assert!(bench.shim.registrations(bench.now, None, 10).iter().any(|row| row.name == name("kept")));
}

#[test]
fn a_stop_takes_the_names_out_and_does_not_wait_for_ever() {
    for answers in [true, false] {
        let mut bench = bench();
        bench.find(1, "dns");
        bench.outputs();
        bench.shim.stop(bench.now);
        let outputs = bench.outputs();
        assert!(matches!(outputs[..], [Output::Update { aim: Aim::Withdraw, .. }]), "{outputs:?}");
        if answers {
            bench.shim.updated(bench.now, &name("here"), Updated { result: Ok(()), server: "ns".into() });
            assert!(bench.outputs().contains(&Output::Stopped));
        } else {
            bench.shim.handle_timeout(bench.now);
            assert_eq!(bench.failed()[0].kind(), FailureKind::IpcpDown);
            assert!(bench.next().contains(&Output::Stopped));
            assert_eq!(bench.elapsed(), ms(1_000));
        }
    }
}

#[test]
fn a_look_up_that_is_never_heard_of_again_is_over() {
    let mut bench = bench();
    let patient = Ask { timeout: ms(60_000), ..bench.ask(1, "dns") };
    bench.shim.flow_alloc(bench.now, patient).unwrap();
    bench.outputs();
    let outputs = bench.next();
    assert_eq!(bench.elapsed(), ms(20_000));
    assert!(matches!(&outputs[..], [Output::Failed { failure, .. }] if failure.kind() == FailureKind::DirectoryFailed));
    bench.assert_empty();
}

/// What the directory has beside an address comes with the flow, and of the host that gave it.
#[test]
fn the_key_of_the_host_that_accepted_is_told() {
    let mut bench = bench();
    let keys =
        ["SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU", "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"];
    let text = |(n, key): (usize, &str)| vec![format!("v=flow1 addr=10.0.0.{} key={key}", n + 2).into_bytes()];
    let records = Records { texts: keys.into_iter().enumerate().map(text).collect(), ..Records::default() };
    bench.find(1, "dns");
    bench.outputs();
    bench.found("dns", records, 60);
    // The first one does not know the name; the next is asked.
    let (mut key, first) = bench.requested();
    let ours = |bench: &Bench, key: Key| bench.shim.flows[&key].ours;
    let refused = answer(ours(&bench, key), WireId(0), Verdict::UnknownName).encode(&name("dns"));
    bench.shim.handle_datagram(bench.now, Via::Flow(key), first, &refused);
    let second;
    (key, second) = bench.requested();
    assert_ne!(first, second);
    let sp = SocketAddr::new(second.ip(), 45_000);
    let accepted = answer(ours(&bench, key), WireId(7), Verdict::Accepted).encode(&name("dns"));
    bench.shim.handle_datagram(bench.now, Via::Flow(key), sp, &accepted);
    bench.outputs();
    bench.shim.connected(bench.now, key, Ok(1472));
    let told = bench.outputs().into_iter().find_map(|output| match output {
        Output::Allocated { host_key, .. } => host_key,
        _ => None,
    });
    let want = keys[if second == addr(C) { 1 } else { 0 }];
    assert_eq!(told.map(|key| key.to_string()).as_deref(), Some(want));
}

#[test]
fn names_are_published_with_this_hosts_key_from_its_first_word_on() {
    let mut bench = bench();
    let key = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU".parse().unwrap();
    for said in [Some(key), None] {
        bench.shim.host_key(bench.now, said);
        let Output::Update { own, aim: Aim::Publish, .. } = bench.one() else { panic!() };
        assert_eq!((own.name, own.key), (name("here"), said));
        bench.shim.updated(bench.now, &name("here"), Updated { result: Ok(()), server: "ns".into() });
        // Said again, it is no news.
        bench.shim.host_key(bench.now, said);
        assert_eq!(bench.outputs(), []);
    }
}
