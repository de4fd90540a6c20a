use std::collections::HashSet;

use gateway::Protocol;
use proptest::prelude::*;

use super::*;
use crate::machine::tests::origin;

const SYMMETRIC: Nat =
    Nat { mapping: Mapping::PortDependent, filtering: Filtering::PortDependent, step: 0, search: false };
const ROUTER: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 168, 1, 1);

fn at(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

fn place(public: &str) -> Place {
    Place { local: at("192.168.1.2:3359"), server: at("203.0.113.1:3360"), public: at(public) }
}

fn granted(outside: &str) -> Granted {
    Granted { outside: at(outside), lifetime: 300 }
}

fn gateway(outside: &str) -> Gateway {
    Gateway { at: ROUTER, by: Protocol::Pcp, outside: *at(outside).ip() }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn steps(mapper: &mut Mapper) -> Vec<Step> {
    std::iter::from_fn(|| mapper.poll_step()).collect()
}

fn asked(steps: &[Step]) -> Vec<Asked> {
    let asked = |step: &Step| if let Step::Map(asked) = step { Some(*asked) } else { None };
    steps.iter().filter_map(asked).collect()
}

/// One whose router mapped the listen port.
fn found(public: &str, outside: &str) -> (Mapper, Instant) {
    let (mut mapper, now) = (Mapper::new([1; 32]), origin());
    mapper.at(now, place(public));
    let [Step::Find { towards, port, turn }] = steps(&mut mapper)[..] else { panic!("not looked for") };
    assert_eq!((towards, port.local, port.outside), (*at("203.0.113.1:3360").ip(), at("192.168.1.2:3359"), 0));
    let now = now + ms(3);
    mapper.found(now, turn, Ok((gateway(outside), granted(outside))));
    (mapper, now)
}

fn flow(number: u64) -> (Key, SocketAddr) {
    let port = u16::try_from(40_000 + number).unwrap();
    (Key(number), SocketAddr::new([192, 168, 1, 2].into(), port))
}

fn want(mapper: &mut Mapper, now: Instant, number: u64) -> Option<Duration> {
    let (key, local) = flow(number);
    mapper.want(now, key, local, SYMMETRIC).map(|until| until - now)
}

#[test]
fn a_flow_s_port_is_mapped_renewed_and_ended() {
    let (mut mapper, now) = found("198.51.100.7:5000", "198.51.100.7:3359");
    assert_eq!((mapper.protocol(), steps(&mut mapper)), ("PCP", vec![]));
    assert_eq!(want(&mut mapper, now, 1), Some(HOLD));
    let [first] = asked(&steps(&mut mapper))[..] else { panic!("not asked") };
    assert_eq!((first.port.outside, first.port.lifetime), (0, 300));
    assert_eq!(mapper.outside(first.of), None);
    mapper.answered(now + ms(2), first, Ok(granted("198.51.100.7:41000")));
    assert_eq!(mapper.outside(first.of), Some(at("198.51.100.7:41000").into()));

    // At half its time, for the same port; the listen port's, too.
    let next = mapper.poll_timeout().unwrap();
    assert_eq!(next, now + Duration::from_secs(150));
    mapper.handle_timeout(next + ms(10));
    let renewals = asked(&steps(&mut mapper));
    assert_eq!(renewals.iter().map(|asked| asked.port.outside).collect::<Vec<_>>(), [3359, 41000]);
    assert_eq!(renewals[1].port.nonce, first.port.nonce);
    assert_ne!(renewals[0].port.nonce, first.port.nonce);
    // While it is asked it stands.
    assert!(mapper.outside(first.of).is_some());
    for asked in renewals {
        let outside = SocketAddrV4::new([198, 51, 100, 7].into(), asked.port.outside);
        mapper.answered(next + ms(20), asked, Ok(Granted { outside, lifetime: 300 }));
    }
    mapper.release(first.of);
    let [Step::Unmap { port, .. }] = steps(&mut mapper)[..] else { panic!("not ended") };
    assert_eq!((port.outside, mapper.flows()), (41000, 0));
}

#[test]
fn only_what_may_help_is_asked_for() {
    let nat = |mapping, filtering| Nat { mapping, filtering, ..Nat::default() };
    let cone = Mapping::EndpointIndependent;
    let table = [
        (SYMMETRIC, "198.51.100.7:1", true),
        (nat(cone, Filtering::PortDependent), "198.51.100.7:1", true),
        (nat(Mapping::Unknown, Filtering::Unknown), "198.51.100.7:1", true),
        (nat(cone, Filtering::Open), "198.51.100.7:1", false),
        (nat(Mapping::None, Filtering::PortDependent), "198.51.100.7:1", false),
        // Another NAT is before the router: of the carrier, of another home.
        (SYMMETRIC, "100.64.3.2:1", false),
        (SYMMETRIC, "192.168.0.2:1", false),
        // The router has two ways out.
        (SYMMETRIC, "9.9.9.9:1", true),
        // What no host has.
        (SYMMETRIC, "127.0.0.1:1", false),
        (SYMMETRIC, "224.0.0.1:1", false),
    ];
    for (nat, outside, want) in table {
        let (mut mapper, now) = found("198.51.100.7:5000", outside);
        let (key, local) = flow(1);
        assert_eq!(mapper.want(now, key, local, nat).is_some(), want, "{nat:?} {outside}");
        // A mapping that is of no use is not kept.
        let ends = steps(&mut mapper).iter().any(|step| matches!(step, Step::Unmap { .. }));
        assert_eq!(ends, mapper.protocol().is_empty(), "{outside}");
    }
    // Where the router's own address outside is private and the rendezvous sees just that: a network of its own.
    let (mut mapper, now) = found("10.0.0.3:5000", "10.0.0.3:3359");
    assert!(want(&mut mapper, now, 1).is_some());
    // Not before there is a router, and of no other address or IP version.
    let mut none = Mapper::new([1; 32]);
    assert_eq!(want(&mut none, now, 1), None);
    for local in ["192.168.1.3:4000", "[fd00::2]:4000"] {
        assert_eq!(mapper.want(now, Key(9), local.parse().unwrap(), SYMMETRIC), None, "{local}");
    }
}

#[test]
fn a_router_that_falls_silent_is_asked_by_no_flow_until_it_is_found_again() {
    let (mut mapper, now) = found("198.51.100.7:5000", "198.51.100.7:3359");
    for number in 1..=3 {
        assert!(want(&mut mapper, now, number).is_some());
        let [one] = asked(&steps(&mut mapper))[..] else { panic!("not asked") };
        mapper.answered(now + ms(1_750), one, Err(Refusal::Silent));
        assert_eq!(mapper.outside(one.of), None);
    }
    let [Step::Find { turn, port, .. }] = steps(&mut mapper)[..] else { panic!("not looked for again") };
    assert_eq!(port.outside, 3359, "the listen port is to keep its own");
    assert_eq!(want(&mut mapper, now, 4), None);
    let silent = [Protocol::Pcp, Protocol::NatPmp, Protocol::Upnp].map(|by| (by, Refusal::Silent));
    mapper.found(now + ms(8_000), turn, Err(NotFound::Maps(ROUTER, silent.to_vec())));
    assert!(mapper.hint().contains("switch one of them on there"), "{}", mapper.hint());
    assert_eq!((want(&mut mapper, now, 5), mapper.protocol()), (None, ""));
    // Looked for again after a minute, then two; never in a loop.
    let (mut times, mut before) = (Vec::new(), now + ms(8_000));
    for _ in 0..8 {
        let next = mapper.poll_timeout().unwrap();
        times.push((next - before).as_secs());
        before = next;
        mapper.handle_timeout(next);
        let [Step::Find { turn, .. }] = steps(&mut mapper)[..] else { panic!("not looked for") };
        mapper.found(next, turn, Err(NotFound::NoRouter));
    }
    assert_eq!(times, [60, 120, 240, 480, 960, 1800, 1800, 1800]);
}

#[test]
fn what_is_granted_too_late_is_ended() {
    let (mut mapper, now) = found("198.51.100.7:5000", "198.51.100.7:3359");
    want(&mut mapper, now, 1);
    let [first] = asked(&steps(&mut mapper))[..] else { panic!("not asked") };
    mapper.release(first.of);
    assert_eq!(steps(&mut mapper), vec![], "what was not granted cannot be ended");
    mapper.answered(now + ms(900), first, Ok(granted("198.51.100.7:41000")));
    let [Step::Unmap { port, .. }] = steps(&mut mapper)[..] else { panic!("kept for ever") };
    assert_eq!((port.outside, mapper.flows()), (41000, 0));
    // The same answer again: nobody knows of it.
    mapper.answered(now + ms(901), first, Ok(granted("198.51.100.7:41000")));
    assert!(matches!(steps(&mut mapper)[..], [Step::Unmap { .. }]));
    // No answer at all: it may have been done.
    want(&mut mapper, now, 2);
    let [second] = asked(&steps(&mut mapper))[..] else { panic!("not asked") };
    mapper.release(second.of);
    mapper.answered(now + ms(1_750), second, Err(Refusal::Silent));
    assert!(matches!(steps(&mut mapper)[..], [Step::Unmap { .. }]));
    // Nobody ever says what came of it.
    want(&mut mapper, now, 3);
    mapper.handle_timeout(now + LOST);
    assert_eq!(mapper.flows(), 0);
}

#[test]
fn another_address_of_the_router_has_all_mapped_anew() {
    let (mut mapper, now) = found("198.51.100.7:5000", "198.51.100.7:3359");
    want(&mut mapper, now, 1);
    let [first] = asked(&steps(&mut mapper))[..] else { panic!("not asked") };
    mapper.answered(now, first, Ok(granted("198.51.100.7:41000")));
    mapper.at(now, place("198.51.100.7:5000"));
    assert_eq!(steps(&mut mapper), vec![], "nothing has changed");
    mapper.at(now, place("198.51.100.9:6000"));
    let [Step::Find { turn, .. }] = steps(&mut mapper)[..] else { panic!("not looked for again") };
    assert_eq!(mapper.outside(first.of), None, "where it was it is no longer");
    mapper.found(now, turn, Ok((gateway("198.51.100.9:1"), granted("198.51.100.9:3359"))));
    let [again] = asked(&steps(&mut mapper))[..] else { panic!("not asked again") };
    assert_eq!((again.of, again.port.outside, again.port.nonce), (first.of, 41000, first.port.nonce));
    mapper.answered(now, again, Ok(granted("198.51.100.9:41000")));
    assert_eq!(mapper.outside(first.of), Some(at("198.51.100.9:41000").into()));
    // Another address of this host: its sockets are elsewhere, and so is their router.
    mapper.at(now, Place { local: at("10.1.1.2:3359"), ..place("198.51.100.9:6000") });
    assert_eq!(mapper.flows(), 0);
}

#[test]
fn a_flow_that_came_back_has_the_mapping_that_it_had() {
    let (key, local) = flow(1);
    let (mut before, now) = found("198.51.100.7:5000", "198.51.100.7:3359");
    want(&mut before, now, 1);
    let [first] = asked(&steps(&mut before))[..] else { panic!("not asked") };
    let mut mapper = Mapper::new([1; 32]);
    mapper.resume(now, key, local);
    assert_eq!(steps(&mut mapper), vec![], "there is no router yet");
    mapper.at(now, place("198.51.100.7:5000"));
    let [Step::Find { turn, .. }] = steps(&mut mapper)[..] else { panic!() };
    mapper.found(now, turn, Ok((gateway("198.51.100.7:1"), granted("198.51.100.7:3359"))));
    let [again] = asked(&steps(&mut mapper))[..] else { panic!("not asked") };
    assert_eq!(again.port, first.port, "with the same nonce");
}

#[test]
fn a_host_that_is_elsewhere_tells_nothing_of_the_router_of_before() {
    let (mut mapper, now) = found("203.0.113.9:3359", "203.0.113.9:3359");
    want(&mut mapper, now, 1);
    let [asked] = asked(&steps(&mut mapper))[..] else { panic!("one question") };
    mapper.answered(now, asked, Ok(granted("203.0.113.9:41000")));
    assert!(mapper.outside(Of::Listen).is_some() && mapper.outside(asked.of).is_some());
    mapper.moved();
    assert_eq!((mapper.outside(Of::Listen), mapper.outside(asked.of)), (None, None));
    assert_eq!((mapper.poll_timeout(), want(&mut mapper, now, 2)), (None, None), "nobody is asked");
    mapper.at(now, Place { local: at("10.7.0.2:3359"), ..place("198.51.100.7:3359") });
    assert!(matches!(steps(&mut mapper)[..], [Step::Find { .. }]), "until a router is found here");
}

#[test]
fn a_session_that_ends_leaves_nothing_mapped() {
    let (mut mapper, now) = found("198.51.100.7:5000", "198.51.100.7:3359");
    want(&mut mapper, now, 1);
    let [first] = asked(&steps(&mut mapper))[..] else { panic!("not asked") };
    mapper.answered(now, first, Ok(granted("198.51.100.7:41000")));
    mapper.leave();
    let ports = steps(&mut mapper).into_iter().map(|step| match step {
        Step::Unmap { port, .. } => port.outside,
        other => panic!("{other:?}"),
    });
    assert_eq!(ports.collect::<Vec<_>>(), [3359, 41000]);
}

/// What happens to a host and its router, in any order.
#[derive(Clone, Debug)]
enum Event {
    Want(u64),
    Release(u64),
    /// The oldest question, or a later one, is answered so.
    Answer(usize, Option<(u8, u32)>, bool),
    Wait(u64),
    Elsewhere(u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..100u64).prop_map(Event::Want),
        3 => (0..100u64).prop_map(Event::Release),
        6 => (0..4usize, proptest::option::of((any::<u8>(), any::<u32>())), any::<bool>())
            .prop_map(|(which, granted, silent)| Event::Answer(which, granted, silent)),
        2 => (0..400u64).prop_map(Event::Wait),
        1 => (1..4u8).prop_map(Event::Elsewhere),
    ]
}

proptest! {
    /// Whatever happens: mappings are bounded, none that was granted is left without an owner, and time never stands still.
    #[test]
    fn nothing_is_left_mapped_for_nobody(events in proptest::collection::vec(event(), 0..200)) {
        let (mut mapper, mut now) = found("198.51.100.1:5000", "198.51.100.1:3359");
        let (mut open, mut finds, mut at_router) = (Vec::<Asked>::new(), Vec::new(), HashSet::new());
        for event in events {
            match event {
                Event::Want(number) => drop(want(&mut mapper, now, number)),
                Event::Release(number) => {
                    mapper.release(Of::Flow(Key(number)));
                    if mapper.protocol().is_empty() {
                        // While no router is known none can be told: the mapping's lifetime ends it.
                        at_router.remove(&number);
                    }
                }
                Event::Answer(which, reply, silent) if !open.is_empty() => {
                    let one = open.remove(which.min(open.len() - 1));
                    let result = match reply {
                        Some((host, lifetime)) => {
                            let outside = SocketAddrV4::new([198, 51, 100, host.max(1)].into(), 40_000);
                            if let Of::Flow(key) = one.of {
                                at_router.insert(key.0);
                            }
                            Ok(Granted { outside, lifetime: lifetime.max(1) })
                        }
                        None if silent => Err(Refusal::Silent),
                        None => Err(Refusal::Said("no".into())),
                    };
                    mapper.answered(now, one, result);
                }
                Event::Answer(..) => {
                    if let Some(turn) = finds.pop() {
                        mapper.found(now, turn, Ok((gateway("198.51.100.1:1"), granted("198.51.100.1:3359"))));
                    }
                }
                Event::Wait(seconds) => now += Duration::from_secs(seconds),
                Event::Elsewhere(host) => mapper.at(now, place(&format!("198.51.100.{host}:5000"))),
            }
            mapper.handle_timeout(now);
            if mapper.protocol().is_empty() {
                // The same holds for a question that nobody answers then.
                at_router.retain(|number| mapper.ports.contains_key(&Of::Flow(Key(*number))));
            }
            if let Some(next) = mapper.poll_timeout() {
                prop_assert!(next > now, "due at once, again and again");
            }
            for step in steps(&mut mapper) {
                match step {
                    Step::Map(asked) => open.push(asked),
                    Step::Find { turn, .. } => finds.push(turn),
                    Step::Unmap { port, .. } => drop(at_router.remove(&u64::from(port.local.port()).wrapping_sub(40_000))),
                }
            }
            prop_assert!(mapper.flows() <= MOST);
            for number in &at_router {
                prop_assert!(mapper.ports.contains_key(&Of::Flow(Key(*number))), "{number} is left behind");
            }
        }
    }
}
