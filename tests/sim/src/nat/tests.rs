//! Each behaviour by itself, as RFC 4787 words it.

use super::*;
use rand_chacha::rand_core::SeedableRng;

#[expect(clippy::disallowed_methods, reason = "any instant will do as the origin of a test's time")]
fn origin() -> Instant {
    Instant::now()
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

const INNER: &str = "10.0.0.2:5000";
const OTHER: &str = "10.0.0.3:5000";
/// X1:x1, X1:x2 and X2:x1 of the RFC.
const X: [&str; 3] = ["192.0.2.1:80", "192.0.2.1:81", "192.0.2.2:80"];
const OUTER: &str = "203.0.113.1";

struct Bench {
    nat: Nat,
    now: Instant,
    rng: ChaCha12Rng,
}

impl Bench {
    fn new(behaviour: Behaviour) -> Self {
        let nat = Nat::new(behaviour, OUTER.parse().unwrap());
        Self { nat, now: origin(), rng: ChaCha12Rng::seed_from_u64(1) }
    }

    fn out(&mut self, from: &str, to: &str) -> SocketAddr {
        self.nat.outbound(self.now, addr(from), addr(to), &mut self.rng).expect("a port")
    }

    fn comes_in(&mut self, from: &str, to: SocketAddr) -> bool {
        self.nat.inbound(self.now, addr(from), to).inspect(|inner| assert_eq!(*inner, addr(INNER))).is_some()
    }
}

const MAPPINGS: [Mapping; 3] =
    [Mapping::EndpointIndependent, Mapping::AddressDependent, Mapping::AddressAndPortDependent];
const FILTERINGS: [Filtering; 3] =
    [Filtering::EndpointIndependent, Filtering::AddressDependent, Filtering::AddressAndPortDependent];
const PORTS: [Ports; 3] = [Ports::Preserving, Ports::Sequential, Ports::Random];

#[test]
fn mapping_depends_on_what_it_is_named_after() {
    for filtering in FILTERINGS {
        for ports in PORTS {
            for (mapping, same) in MAPPINGS.into_iter().zip([[true, true], [true, false], [false, false]]) {
                let mut bench = Bench::new(Behaviour::new(mapping, filtering, ports));
                let [first, second, third] = X.map(|to| bench.out(INNER, to));
                assert_eq!([first == second, first == third], same, "{mapping:?} {filtering:?} {ports:?}");
                assert_eq!(X.map(|to| bench.out(INNER, to)), [first, second, third], "the same again");
            }
        }
    }
}

#[test]
fn filtering_depends_on_what_it_is_named_after() {
    for mapping in MAPPINGS {
        for (filtering, may) in
            FILTERINGS.into_iter().zip([[true, true, true], [true, true, false], [true, false, false]])
        {
            let mut bench = Bench::new(Behaviour::new(mapping, filtering, Ports::Random));
            let outer = bench.out(INNER, X[0]);
            assert_eq!(X.map(|from| bench.comes_in(from, outer)), may, "{mapping:?} {filtering:?}");
            assert!(!bench.comes_in(X[0], SocketAddr::new(outer.ip(), outer.port() ^ 1)), "no mapping, no entry");
        }
    }
}

#[test]
fn ports_are_chosen_as_asked() {
    let symmetric = |ports| Behaviour {
        range: (5000, 5003),
        ..Behaviour::new(Mapping::AddressAndPortDependent, Filtering::EndpointIndependent, ports)
    };
    let mut bench = Bench::new(symmetric(Ports::Preserving));
    assert_eq!(X.map(|to| bench.out(INNER, to).port()), [5000, 5001, 5002], "preserved if free");
    let mut bench = Bench::new(symmetric(Ports::Sequential));
    assert_eq!(X.map(|to| bench.out(OTHER, to).port()), [5000, 5001, 5002]);
    assert_eq!(bench.out(INNER, X[0]).port(), 5003);
    assert_eq!(bench.nat.outbound(bench.now, addr(INNER), addr(X[1]), &mut bench.rng), None, "none is left");
    let mut bench = Bench::new(Behaviour { range: (1024, 65_535), ..symmetric(Ports::Random) });
    let drawn = X.map(|to| bench.out(INNER, to).port());
    assert!(drawn.iter().all(|port| *port >= 1024) && drawn[0] + 1 != drawn[1]);
}

#[test]
fn two_hosts_never_share_an_outer_endpoint() {
    for ports in PORTS {
        let eim = Behaviour::new(Mapping::EndpointIndependent, Filtering::EndpointIndependent, ports);
        let mut bench = Bench::new(eim);
        assert_ne!(bench.out(INNER, X[0]), bench.out(OTHER, X[0]), "{ports:?}");
    }
}

#[test]
fn a_mapping_lives_as_long_as_it_is_used() {
    let second = Duration::from_secs(1);
    for inbound_refresh in [false, true] {
        let eim = Behaviour::new(Mapping::EndpointIndependent, Filtering::AddressDependent, Ports::Random);
        let mut bench = Bench::new(Behaviour { lifetime: 30 * second, inbound_refresh, ..eim });
        let outer = bench.out(INNER, X[0]);
        bench.now += 29 * second;
        assert!(bench.comes_in(X[0], outer));
        bench.now += 29 * second;
        assert_eq!(bench.comes_in(X[0], outer), inbound_refresh);
        bench.now += 30 * second;
        assert!(!bench.comes_in(X[0], outer));
        assert_eq!((bench.nat.mappings(bench.now), bench.nat.by_inner.len()), (0, 0), "nothing is kept");
        assert_ne!(bench.out(INNER, X[0]), outer, "a new one");
    }
}

#[test]
fn leave_to_send_ends_where_the_mapping_goes_on() {
    let eim = Behaviour::new(Mapping::EndpointIndependent, Filtering::AddressAndPortDependent, Ports::Random);
    let mut bench = Bench::new(eim);
    let outer = bench.out(INNER, X[0]);
    bench.now += Duration::from_secs(100);
    assert_eq!(bench.out(INNER, X[1]), outer);
    bench.now += Duration::from_secs(100);
    assert!(bench.comes_in(X[1], outer) && !bench.comes_in(X[0], outer));
}

#[test]
fn a_forwarded_port_is_open_to_all() {
    let symmetric = Behaviour::new(Mapping::AddressAndPortDependent, Filtering::AddressAndPortDependent, Ports::Random);
    let mut bench = Bench::new(symmetric);
    bench.nat.forward(3359, addr(INNER));
    let outer = SocketAddr::new(bench.nat.outer(), 3359);
    assert!(bench.comes_in(X[0], outer));
    bench.now += Duration::from_secs(10_000);
    assert!(bench.comes_in(X[2], outer));
    assert_eq!(bench.out(INNER, X[0]), outer, "and answers from it");
}

#[test]
fn a_firewall_changes_no_address_and_lets_answers_in() {
    let mut bench = Bench::new(Behaviour::firewall());
    assert!(!bench.comes_in(X[0], addr(INNER)), "nobody was asked");
    assert_eq!(X.map(|to| bench.out(INNER, to)), [addr(INNER); 3]);
    assert!(bench.comes_in(X[0], addr(INNER)) && !bench.comes_in("192.0.2.3:80", addr(INNER)));
    bench.nat.forget();
    assert!(!bench.comes_in(X[0], addr(INNER)));
    bench.nat.forward(5000, addr(INNER));
    assert!(bench.comes_in("192.0.2.3:80", addr(INNER)), "an opened port");
}
