//! Hosts, boxes and links together.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use sim::{Behaviour, Datagram, Event, Fate, Filtering, Host, Kind, Link, Mapping, Network, Ports, Realm};

#[expect(clippy::disallowed_methods, reason = "any instant will do as the origin of a test's time")]
fn origin() -> Instant {
    Instant::now()
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const CLIENT: &str = "203.0.113.1:40000";
const SERVER: &str = "192.0.2.1:3359";
const SP: &str = "192.0.2.1:50000";
const STRANGER: &str = "192.0.2.9:1";

/// A client behind a box, a server and a stranger in the open.
struct World {
    net: Network,
    now: Instant,
    client: Host,
    local: SocketAddr,
    server: Host,
    stranger: Host,
}

impl World {
    fn new(kind: Kind, seed: u64, link: &Link) -> Self {
        let mut net = Network::new(seed);
        let place = kind.build(&mut net, addr(CLIENT).ip());
        let mut add = |realm, ip| net.host(realm, ip, link.clone(), link.clone());
        let client = add(place.realm, place.address);
        let server = add(Realm::INTERNET, addr(SERVER).ip());
        let stranger = add(Realm::INTERNET, addr(STRANGER).ip());
        Self { net, now: origin(), client, local: SocketAddr::new(place.address, 40_000), server, stranger }
    }

    /// All that arrives in the next seconds.
    fn arrivals(&mut self) -> Vec<Datagram> {
        self.now += Duration::from_secs(10);
        std::iter::from_fn(|| self.net.poll(self.now))
            .filter_map(|event| if let Event::Datagram(datagram) = event { Some(datagram) } else { None })
            .collect()
    }

    fn send(&mut self, host: Host, from: SocketAddr, to: SocketAddr) -> Option<Datagram> {
        self.net.send(self.now, host, from, to, vec![1]);
        let mut all = self.arrivals();
        assert!(all.len() <= 1);
        all.pop()
    }
}

/// What of the server's datagrams gets through to a client that asked it: from the port that was asked, from another
/// one, from another host.
#[test]
fn each_kind_lets_in_what_it_is_named_after() {
    for kind in Kind::ALL {
        let mut world = World::new(kind, 3, &Link::default());
        let request = world.send(world.client, world.local, addr(SERVER)).expect("requests leave");
        assert_eq!(request.host, world.server);
        let open = matches!(kind, Kind::Open | Kind::Firewall);
        assert_eq!(request.from == addr(CLIENT), open || request.from.port() == 40_000, "{kind:?}");
        let heard = [(world.server, SERVER), (world.server, SP), (world.stranger, STRANGER)]
            .map(|(host, from)| world.send(host, addr(from), request.from).is_some());
        let want = match kind {
            Kind::Open | Kind::FullCone => [true, true, true],
            Kind::AddressRestricted => [true, true, false],
            _ => [true, false, false],
        };
        assert_eq!(heard, want, "{kind:?}");
        // Once it has sent there, answers come: the client opens the way (and a symmetric box shows another port).
        let opener = world.send(world.client, world.local, addr(SP)).expect("openers leave");
        assert!(world.send(world.server, addr(SP), opener.from).is_some(), "{kind:?}");
        let symmetric = matches!(kind, Kind::SymmetricRandom | Kind::SymmetricSequential | Kind::CarrierSymmetric);
        assert_eq!(opener.from != request.from, symmetric, "{kind:?}");
    }
}

#[test]
fn hairpinning_is_a_matter_of_the_box() {
    for hairpin in [false, true] {
        let mut net = Network::new(1);
        let cone = Behaviour::new(Mapping::EndpointIndependent, Filtering::EndpointIndependent, Ports::Random);
        let lan = net.nat(Realm::INTERNET, addr(CLIENT).ip(), Behaviour { hairpin, ..cone });
        let [a, b] = ["10.0.0.1:1", "10.0.0.2:1"].map(addr);
        let [host_a, host_b] = [a, b].map(|end| net.host(lan, end.ip(), Link::default(), Link::default()));
        let mut now = origin();
        net.gateway(lan).unwrap().forward(7, b);
        net.send(now, host_a, a, SocketAddr::new(addr(CLIENT).ip(), 7), vec![1]);
        now += ms(1);
        let arrived = net.poll(now);
        match (hairpin, arrived) {
            (false, None) => assert_eq!(net.tally().filtered, 1),
            (true, Some(Event::Datagram(datagram))) => {
                assert_eq!((datagram.host, datagram.to), (host_b, b));
                assert_eq!(datagram.from.ip(), addr(CLIENT).ip(), "seen from outside");
            }
            other => panic!("{other:?}"),
        }
        // By their inner addresses they reach each other in any case.
        net.send(now, host_a, a, b, vec![2]);
        assert!(matches!(net.poll(now), Some(Event::Datagram(datagram)) if datagram.from == a));
    }
}

#[test]
fn a_closed_port_is_told_to_who_sent() {
    for kind in Kind::ALL {
        let mut world = World::new(kind, 3, &Link { delay: ms(5), ..Link::default() });
        world.net.send(world.now, world.client, world.local, addr(SERVER), vec![1]);
        let at = world.now + ms(10);
        assert_eq!(world.net.poll(at - ms(1)), None);
        let Some(Event::Datagram(datagram)) = world.net.poll(at) else { panic!("it arrives after both links") };
        world.net.refuse(at, &datagram);
        let error = Event::Unreachable { host: world.client, local: world.local, peer: addr(SERVER) };
        assert_eq!(world.net.poll(at + ms(10)), Some(error), "as it was sent, not as it arrived");
    }
}

#[test]
fn a_script_stands_in_for_links() {
    let mut world = World::new(Kind::Open, 1, &Link { loss: 1.0, ..Link::default() });
    for host in [world.client, world.server] {
        world.net.relink(host, Link { loss: 1.0, ..Link::default() }, Link::default());
    }
    let mut fates = [Fate::Lose, Fate::Double, Fate::Delay(ms(3)), Fate::Deliver].into_iter();
    world.net.script(move |_| fates.next().unwrap());
    for _ in 0..4 {
        world.net.send(world.now, world.client, world.local, addr(SERVER), vec![1]);
    }
    let numbers: Vec<u64> = world.arrivals().iter().map(|datagram| datagram.number).collect();
    assert_eq!(numbers, [2, 2, 4, 3]);
    world.net.unscript();
    assert_eq!(world.send(world.client, world.local, addr(SERVER)), None, "the link loses all");
}

fn any_link() -> impl Strategy<Value = Link> {
    (0u64..50, 0u64..20, 0..3, 0..3, 0..3, 0..3).prop_map(|(delay, jitter, loss, reorder, duplicate, corrupt)| Link {
        delay: ms(delay),
        jitter: ms(jitter),
        loss: f64::from(loss) * 0.1,
        reorder: f64::from(reorder) * 0.1,
        hold: ms(30),
        duplicate: f64::from(duplicate) * 0.1,
        corrupt: f64::from(corrupt) * 0.1,
        ..Link::default()
    })
}

proptest! {
    /// Whatever is sent to wherever: nothing arrives that was not sent, nothing at a host it was not for, nothing
    /// more often than links doubled it, nothing before its time; every datagram's end is counted.
    #[test]
    fn datagrams_come_from_somewhere_and_end_somewhere(
        seed: u64, kind in 0usize..10, link in any_link(),
        sends in proptest::collection::vec((0usize..3, 0usize..6, 0u64..30), 1..60),
    ) {
        let mut world = World::new(Kind::ALL[kind], seed, &link);
        let (hosts, start) = ([world.client, world.server, world.stranger], world.now);
        let mut sent = Vec::new();
        let mut arrived: Vec<(Instant, Datagram)> = Vec::new();
        let mut latest = None;
        for (who, to, pause) in sends {
            let to = latest.filter(|_| to == 5).unwrap_or(addr([CLIENT, SERVER, SP, STRANGER, "192.0.2.77:7", CLIENT][to]));
            let from = [world.local, addr(SERVER), addr(STRANGER)][who];
            sent.push((world.now, hosts[who], to));
            world.net.send(world.now, hosts[who], from, to, vec![sent.len() as u8; 9]);
            world.now += ms(pause);
            while let Some(event) = world.net.poll(world.now) {
                let Event::Datagram(datagram) = event else { panic!("nobody refused anything") };
                latest = Some(datagram.from);
                arrived.push((world.now, datagram));
            }
        }
        arrived.extend(world.arrivals().into_iter().map(|datagram| (world.now, datagram)));
        let tally = world.net.tally();
        prop_assert_eq!(tally.sent, sent.len() as u64);
        prop_assert_eq!(tally.delivered, arrived.len() as u64);
        prop_assert_eq!(tally.sent + tally.doubled, tally.delivered + tally.lost + tally.filtered + tally.nowhere);
        let mut copies = vec![0u64; sent.len()];
        for (at, datagram) in &arrived {
            let (when, sender, to) = sent[datagram.number as usize - 1];
            copies[datagram.number as usize - 1] += 1;
            prop_assert!(*at >= when + 2 * link.delay || sender == datagram.host);
            prop_assert!(when >= start);
            let owner = match to.ip() {
                ip if ip == addr(SERVER).ip() => world.server,
                ip if ip == addr(STRANGER).ip() => world.stranger,
                _ => world.client,
            };
            prop_assert_eq!(datagram.host, owner, "not for this host");
            let flips: u32 = datagram.bytes.iter().map(|byte| (byte ^ datagram.number as u8).count_ones()).sum();
            prop_assert!(flips <= 2 && (flips == 0 || link.corrupt > 0.0), "one bit per link");
        }
        let twice = copies.iter().filter(|n| **n > 1).count();
        prop_assert!(twice == 0 || link.duplicate > 0.0, "twice without duplication");
        prop_assert!(copies.iter().all(|n| *n <= 4), "two links double at most");
    }

    /// The same seed is the same life.
    #[test]
    fn a_seed_is_a_life(seed: u64, kind in 0usize..10, link in any_link()) {
        let start = origin();
        let life = || {
            let mut world = World::new(Kind::ALL[kind], seed, &link);
            world.now = start;
            for n in 0..20 {
                world.net.send(start + ms(n), world.client, world.local, addr(SERVER), vec![n as u8; 5]);
            }
            world.arrivals()
        };
        prop_assert_eq!(life(), life());
    }
}

#[test]
fn ten_thousand_seconds_take_milliseconds() {
    let mut world = World::new(Kind::PortRestricted, 1, &Link { delay: ms(50), ..Link::default() });
    let mut heard = 0;
    for _ in 0..1000 {
        heard += u32::from(world.send(world.client, world.local, addr(SERVER)).is_some());
    }
    assert_eq!(heard, 1000, "10 s each");
}
