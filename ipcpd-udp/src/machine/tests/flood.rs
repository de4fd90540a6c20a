//! The gate at the listen port: cookies, buckets, bounds.

use pace::Prefix;

use super::fates::script;
use super::model::Told;
use super::world::World;
use super::*;

const SLOW: Limits = Limits { pending: 3, rate: 1_000_000, pending_per_prefix: 50 };
const FAST: Limits = Limits { pending: 1000, rate: 100, pending_per_prefix: 50 };

fn bench(limits: Limits) -> Bench {
    Bench::with(Settings { limits, ..settings(A) })
}

fn with_cookie(to: &str, client: u64, cookie: &[u8]) -> Vec<u8> {
    Request::Extended(name(to), Extension { cookie: cookie.to_vec(), ..extension(client) }).encode()
}

fn arrival(outputs: &[Output]) -> Option<(Key, Arrival)> {
    outputs.iter().find_map(|output| match output {
        Output::Arrived { key, arrival } => Some((*key, arrival.clone())),
        _ => None,
    })
}

/// The cookie of an answer that wants one.
fn cookie(output: &Output, to: &str) -> Vec<u8> {
    let Output::SendListen { bytes, .. } = output else { panic!("{output:?}") };
    match Answer::decode(bytes, &name(to)) {
        Ok(Answer::Extended { verdict: Verdict::Cookie, cookie, .. }) => cookie,
        other => panic!("{other:?}"),
    }
}

/// Somebody of a prefix of its own, each time another.
fn stranger(n: u32) -> String {
    let [_, b, c, d] = n.to_be_bytes();
    format!("20.{c}.{d}.{}:40000", b + 1)
}

/// Enough flows that wait for programs.
fn load(bench: &mut Bench) {
    for n in 0..3 {
        let client = u64::try_from(bench.elapsed().as_millis()).unwrap() + 1000 + u64::from(n);
        bench.request(&stranger(n), &extended("here", client));
    }
    assert_eq!(bench.outputs().iter().filter(|output| matches!(output, Output::Arrived { .. })).count(), 3);
}

#[test]
fn a_loaded_server_keeps_nothing_until_the_cookie_comes_back() {
    let mut bench = bench(SLOW);
    load(&mut bench);
    let request = extended("here", 5);
    bench.request(B_FLOW, &request);
    let told = bench.one();
    let baked = cookie(&told, "here");
    let Output::SendListen { to, bytes } = &told else { panic!() };
    assert!(*to == addr(B_FLOW) && bytes.len() < request.len());
    assert_eq!(bench.shim.census(), (3, 3), "nothing is kept");
    bench.request(B_FLOW, &with_cookie("here", 5, &baked));
    let outputs = bench.outputs();
    assert_eq!(verdict_of(&outputs[0], "here").unwrap().0, Verdict::Pending);
    let (key, arrival) = arrival(&outputs).unwrap();
    assert!(arrival.proven);
    // The same again, with and without: still one flow.
    bench.request(B_FLOW, &with_cookie("here", 5, &baked));
    assert_eq!(verdict_of(&bench.one(), "here").unwrap().0, Verdict::Pending);
    bench.request(B_FLOW, &request);
    cookie(&bench.one(), "here");
    assert_eq!(bench.shim.census(), (4, 4));
    bench.shim.answered(bench.now, key, Ok(Accept { flow: FlowId(9), owner: owner(), data: Vec::new() }));
    assert!(matches!(bench.one(), Output::Connect { .. }));
    let counted = |reason| bench.shim.counters().get(reason);
    assert_eq!([Reason::CookieWanted, Reason::CookieValid, Reason::CookieStale].map(counted), [2, 2, 0]);
}

#[test]
fn a_cookie_of_another_request_is_none() {
    let mut bench = bench(SLOW);
    load(&mut bench);
    bench.request(B_FLOW, &extended("here", 5));
    let baked = cookie(&bench.one(), "here");
    for (from, client) in [("10.0.0.3:45000", 5), ("10.0.0.2:45001", 5), (B_FLOW, 6)] {
        bench.request(from, &with_cookie("here", client, &baked));
        cookie(&bench.one(), "here");
    }
    bench.request(B_FLOW, &with_cookie("here", 5, &[0; 32]));
    cookie(&bench.one(), "here");
    assert_eq!(bench.shim.counters().get(Reason::CookieStale), 4);
    assert_eq!(bench.shim.census(), (3, 3));
    bench.now += ms(61_000);
    bench.shim.handle_timeout(bench.now);
    bench.outputs();
    load(&mut bench);
    bench.request(B_FLOW, &with_cookie("here", 5, &baked));
    cookie(&bench.one(), "here");
    assert_eq!(bench.shim.counters().get(Reason::CookieStale), 5, "it is too old");
}

#[test]
fn our_own_client_repeats_at_once_with_the_cookie_it_was_given() {
    let (mut client, mut server) = (Bench::new(), bench(SLOW));
    load(&mut server);
    server.shim.register(server.now, name("echo"), None).unwrap();
    let (key, _, request) = client.asking(client.ask(1, "echo"));
    server.request(B_FLOW, &request);
    let Output::SendListen { bytes, .. } = server.one() else { panic!() };
    client.answer(key, B, &bytes);
    let Output::SendFlow { bytes: again, .. } = client.one() else { panic!("at once") };
    // The same answer once more, or a forger's, gets nothing out of it.
    client.answer(key, B, &bytes);
    assert_eq!(client.outputs(), []);
    server.request(B_FLOW, &again);
    assert!(arrival(&server.outputs()).is_some());
    // Lost on the way, it is sent again soon: the host has shown that it tells requests apart.
    let Output::SendFlow { bytes: later, .. } = &client.next()[0] else { panic!() };
    assert!(*later == again && client.elapsed() < ms(120), "{:?}", client.elapsed());
}

#[test]
fn a_rate_above_the_mark_is_load_and_load_ends_with_it() {
    let mut bench = bench(FAST);
    let (mut flows, mut cookies) = (0, 0);
    // A second of ten times the mark: a tenth of the mark may come at once, then nobody unproven is let in.
    for n in 0..1000 {
        bench.now += ms(1);
        bench.request(&stranger(n), &extended("here", u64::from(n) + 1));
        for output in bench.outputs() {
            flows += usize::from(matches!(output, Output::Arrived { .. }));
            cookies += usize::from(matches!(verdict_of(&output, "here"), Some((Verdict::Cookie, _))));
        }
    }
    assert!(flows <= 12, "{flows} flows");
    assert_eq!(flows + cookies, 1000);
    bench.now += ms(999);
    bench.request(B_FLOW, &extended("here", 5000));
    cookie(&bench.one(), "here");
    bench.now += ms(2);
    bench.request(B_FLOW, &extended("here", 5001));
    assert!(arrival(&bench.outputs()).is_some_and(|(_, arrival)| !arrival.proven));
}

#[test]
fn the_unproven_get_a_quarter_of_the_flows_there_can_be() {
    let limits = Limits { pending: 1000, ..Limits::default() };
    let mut bench = Bench::with(Settings { limits, max_flows: 40, ..settings(A) });
    for n in 0..20 {
        bench.request(&stranger(n), &extended("here", u64::from(n) + 1));
    }
    assert_eq!(bench.shim.census().0, 10);
}

#[test]
fn what_starts_a_program_needs_a_cookie_at_all_times() {
    let mut bench = Bench::new();
    bench.shim.starts(&name("here"), true);
    bench.request(B_FLOW, &extended("here", 5));
    let baked = cookie(&bench.one(), "here");
    bench.request(B_FLOW, &with_cookie("here", 5, &baked));
    assert!(arrival(&bench.outputs()).unwrap().1.proven);
    // Classic callers know none: irmd is told that this one is not proven, and says what may be done for it.
    bench.request("10.0.0.2:45001", b"here");
    let (_, told) = arrival(&bench.outputs()).unwrap();
    assert!(told.classic && !told.proven);
    bench.shim.starts(&name("here"), false);
    bench.request(B_FLOW, &extended("here", 6));
    assert!(!arrival(&bench.outputs()).unwrap().1.proven);
}

#[test]
fn a_flood_from_one_prefix_is_its_own_loss() {
    let mut bench = bench(SLOW);
    load(&mut bench);
    let mut answered = 0;
    for n in 0..5000 {
        bench.request(&format!("10.9.9.{}:40000", n % 250), &extended("here", n));
        answered += bench.outputs().len();
    }
    assert_eq!(answered, 1000, "what a loaded shim takes of one prefix at once");
    assert_eq!(bench.shim.counters().get(Reason::PrefixRate), 4000);
    bench.request(B_FLOW, &extended("here", 5));
    let baked = cookie(&bench.one(), "here");
    bench.request(B_FLOW, &with_cookie("here", 5, &baked));
    assert!(arrival(&bench.outputs()).is_some());
}

#[test]
fn a_cookie_passes_where_its_prefix_is_exhausted() {
    let mut bench = bench(SLOW);
    load(&mut bench);
    bench.request(B_FLOW, &extended("here", 5));
    let baked = cookie(&bench.one(), "here");
    for n in 0..5000 {
        bench.request("10.0.0.77:40000", &extended("here", n));
    }
    bench.outputs();
    bench.request(B_FLOW, &with_cookie("here", 5, &baked));
    assert!(arrival(&bench.outputs()).is_some());
}

#[test]
fn a_cookie_shown_again_and_again_spends_its_own_prefix_only() {
    let mut bench = bench(SLOW);
    load(&mut bench);
    let baked: Vec<_> = [B_FLOW, "10.0.1.1:45000"]
        .map(|from| {
            bench.request(from, &extended("here", 5));
            cookie(&bench.one(), "here")
        })
        .into();
    let shown = with_cookie("here", 5, &baked[0]);
    let mut answered = 0;
    for _ in 0..40_000 {
        bench.request(B_FLOW, &shown);
        answered += usize::from(!bench.outputs().is_empty());
    }
    assert_eq!(answered, 16_000);
    bench.request("10.0.1.1:45000", &with_cookie("here", 5, &baked[1]));
    assert!(arrival(&bench.outputs()).is_some());
}

#[test]
fn classic_callers_are_let_in_by_a_trickle_under_load() {
    let mut bench = bench(SLOW);
    load(&mut bench);
    let mut flows = 0;
    for n in 0..1000 {
        bench.request(&stranger(100 + n), b"here");
        flows += bench.outputs().iter().filter(|output| matches!(output, Output::Arrived { .. })).count();
    }
    // Half of max_pending, less those there before.
    assert_eq!(flows, 47);
    assert_eq!(bench.shim.counters().get(Reason::ClassicLoad), 1000 - 47);
}

#[test]
fn flows_that_wait_are_bounded_for_each_prefix() {
    let limits = Limits { pending: 1000, pending_per_prefix: 4, ..Limits::default() };
    let mut bench = bench(limits);
    for client in 1..=6 {
        bench.request(&format!("10.0.0.{client}:45000"), &extended("here", client));
    }
    assert_eq!(bench.shim.census().0, 4);
    assert_eq!(bench.shim.counters().get(Reason::PrefixPending), 2);
    let last = bench.outputs().pop().unwrap();
    assert_eq!(verdict_of(&last, "here").unwrap().0, Verdict::Exhausted);
    bench.request("10.0.1.1:45000", &extended("here", 7));
    assert!(arrival(&bench.outputs()).is_some(), "another prefix is none the worse");
    while bench.shim.census().0 > 0 {
        bench.next();
    }
    bench.assert_empty();
}

#[test]
fn unknown_control_datagrams_get_no_more_answers_than_requests() {
    let mut bench = Bench::new();
    let mut answers = 0;
    for n in 1..40_000 {
        bench.control_from_b(ControlKind::Probe, WireId(n), WireId(n));
        answers += bench.outputs().len();
    }
    assert_eq!(answers, 16_000);
}

#[test]
fn a_hundred_thousand_forged_requests_leave_nothing_behind() {
    let mut bench = Bench::new();
    let forged = extended("here", 7);
    let mut most = 0;
    for n in 0..100_000u32 {
        bench.now += Duration::from_micros(20);
        let from = SocketAddr::from((n.wrapping_mul(2_654_435_761).to_be_bytes(), 40_000));
        bench.shim.handle_timeout(bench.now);
        bench.shim.handle_datagram(bench.now, Via::Listen, from, &forged);
        bench.outputs();
        most = most.max(bench.shim.census().0);
    }
    assert!(most <= 256, "{most} flows at a time");
    assert!(Prefix::of(addr(B).ip()) != Prefix::of(addr("10.0.1.1:1").ip()));
    while bench.shim.census().0 > 0 {
        bench.next();
    }
    bench.assert_empty();
}

/// Host B is loaded at all times.
fn loaded_world() -> World {
    let mut world = World::kind();
    world.hosts[1].shim.as_mut().unwrap().settings.limits.pending = 0;
    world
}

#[test]
fn load_costs_two_datagrams() {
    let mut world = loaded_world();
    world.ask(0, "echo", 5000);
    world.run(10_000);
    assert!(matches!(world.hosts[0].story.asked[0].told[..], [(_, Told::Allocated)]));
    let why = "request, cookie, request, PENDING, acceptance twice, and the probe of a new pair with its answer";
    assert_eq!(world.net.tally().sent, 8, "{why}");
}

#[test]
fn every_fate_of_an_allocation_at_a_loaded_server() {
    for choice in 0..4u32.pow(6) {
        let mut world = loaded_world();
        script(&mut world, choice, 6);
        // Long enough for the sixth request of a host that has never heard of the other.
        world.ask(0, "echo", 30_000);
        world.run(30_000);
        let told = &world.hosts[0].story.asked[0].told;
        assert!(matches!(told[..], [(_, Told::Allocated)]), "choice {choice}: {told:?}");
        assert_eq!(world.hosts[1].programs.len(), 1, "one flow: choice {choice}");
        world.check().unwrap_or_else(|what| panic!("{what}: choice {choice}"));
    }
}
