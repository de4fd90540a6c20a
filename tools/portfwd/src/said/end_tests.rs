use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;

fn tcp(host: Host, first: u16, last: u16) -> End {
    End::Tcp(Place { host, ports: Ports { first, last } })
}

fn address(text: &str) -> Host {
    Host::Address(text.parse().unwrap(), 0)
}

#[test]
fn ends_are_read_as_the_table_says() {
    let named = |name: &str| Host::Named(name.to_owned());
    let table = [
        ("7005", tcp(Host::This, 7005, 7005)),
        ("*:7005", tcp(Host::This, 7005, 7005)),
        (":7005", tcp(Host::This, 7005, 7005)),
        ("tcp:7005", tcp(Host::This, 7005, 7005)),
        ("192.168.0.1:8005", tcp(address("192.168.0.1"), 8005, 8005)),
        ("[fd00::1]:80", tcp(address("fd00::1"), 80, 80)),
        ("[fe80::1%3]:80", tcp(Host::Address("fe80::1".parse().unwrap(), 3), 80, 80)),
        ("[fe80::1%eth0.5]:80", tcp(Host::Zoned(Box::new(("fe80::1".parse().unwrap(), "eth0.5".to_owned()))), 80, 80)),
        ("8000-8099", tcp(Host::This, 8000, 8099)),
        ("10.0.0.1:9000-9099", tcp(address("10.0.0.1"), 9000, 9099)),
        ("[::1]:1-65535", tcp(address("::1"), 1, 65535)),
        ("Web.Example.org:80", tcp(named("web.example.org"), 80, 80)),
        ("localhost:80", tcp(named("localhost"), 80, 80)),
        ("a_b.local.:80", tcp(named("a_b.local"), 80, 80)),
        ("udp:5353", End::Udp(Place { host: Host::This, ports: Ports { first: 5353, last: 5353 } })),
        ("udp:[::1]:53", End::Udp(Place { host: address("::1"), ports: Ports { first: 53, last: 53 } })),
        ("unix:/run/web.sock", End::Unix("/run/web.sock".into())),
        ("unix:@web", End::Unix("@web".into())),
        ("flow:web", End::Flow(Name::new("web").unwrap())),
        ("flow:game:q2", End::Flow(Name::new("game:q2").unwrap())),
    ];
    for (text, want) in table {
        assert_eq!(text.parse::<End>().as_ref(), Ok(&want), "{text}");
        assert_eq!(want.to_string().parse::<End>().as_ref(), Ok(&want), "{want}");
    }
}

#[test]
fn what_is_no_end_is_told_why() {
    let table = [
        ("", "nothing stands"),
        ("0", "'0' is no port"),
        ("65536", "'65536' is no port"),
        ("+7", "'+7' is no host"),
        ("80x", "'80x' is no port"),
        ("9-8", "write 8-9"),
        ("1-2-3", "'2-3' is no port"),
        ("10.0.0.1", "write 10.0.0.1:PORT"),
        ("web.example", "write web.example:PORT"),
        ("10.0.0.1:", "'' is no port"),
        ("10.0.0.256:80", "'10.0.0.256' is no host"),
        ("-web:80", "'-web' is no host"),
        ("fd00::1", "needs brackets"),
        ("[fd00::1]", "write [fd00::1]:PORT"),
        ("[fd00::g]:80", "'fd00::g' is no IPv6 address"),
        ("[fe80::1]:80", "write [fe80::1%INTERFACE]:PORT"),
        ("[fe80::1%]:80", "'fe80::1%' is no IPv6 address"),
        ("[fe80::1%4294967296]:80", "is no IPv6 address"),
        ("[fe80::1%a b]:80", "is no IPv6 address"),
        ("[fe80::1%averylongname999]:80", "is no IPv6 address"),
        ("[fd00::1:80", "is no IPv6 address"),
        ("unix:relative", "is no path"),
        ("unix:/", "is no path"),
        ("unix:@", "is no path"),
        ("flow:", "at least one character"),
        ("flow:two words", "no white space"),
        ("sctp:10.0.0.1:80", "'sctp' is no kind of end"),
    ];
    for (text, want) in table {
        let error = text.parse::<End>().expect_err(text).to_string();
        assert!(error.contains(want), "{text}: {error}");
    }
    assert!(format!("unix:/{}", "a".repeat(107)).parse::<End>().is_err());
    assert!(format!("unix:/{}", "a".repeat(106)).parse::<End>().is_ok());
}

#[test]
fn a_range_gives_its_ports_one_by_one() {
    let ports = Ports::new(8000, 8002).unwrap();
    assert_eq!((ports.len(), ports.get(0), ports.get(2), ports.get(3)), (3, Some(8000), Some(8002), None));
    assert_eq!(ports.iter().collect::<Vec<_>>(), [8000, 8001, 8002]);
    assert_eq!(Ports::new(1, 65535).unwrap().len(), 65535);
}

fn host() -> impl Strategy<Value = Host> + Clone {
    prop_oneof![
        Just(Host::This),
        any::<[u8; 4]>().prop_map(|bytes| Host::Address(IpAddr::V4(Ipv4Addr::from(bytes)), 0)),
        (any::<[u8; 16]>(), any::<u32>())
            .prop_map(|(bytes, zone)| Host::Address(Ipv6Addr::from(bytes).into(), zone))
            .prop_filter(
                "of one link",
                |host| !matches!(host, Host::Address(IpAddr::V6(v6), 0) if v6.is_unicast_link_local())
            ),
        (any::<[u8; 16]>(), "[a-z][a-z0-9.@]{0,14}")
            .prop_map(|(bytes, zone)| Host::Zoned(Box::new((Ipv6Addr::from(bytes), zone)))),
        "[a-z][a-z0-9]{0,9}(\\.[a-z0-9]{1,5}){0,2}".prop_map(Host::Named),
    ]
}

fn end() -> impl Strategy<Value = End> {
    let place = || {
        (host(), 1..=u16::MAX, any::<u16>())
            .prop_map(|(host, first, last)| Place { host, ports: Ports::new(first, last.max(first)).unwrap() })
    };
    prop_oneof![
        place().prop_map(End::Tcp),
        place().prop_map(End::Udp),
        "/[a-z/.]{1,50}".prop_map(|path| End::Unix(path.into())),
        "[!-~]{1,60}".prop_map(|name| End::Flow(Name::new(&name).unwrap())),
    ]
}

proptest! {
    #[test]
    fn what_is_printed_is_read_again(end in end()) {
        prop_assert_eq!(end.to_string().parse::<End>(), Ok(end));
    }

    #[test]
    fn no_text_makes_it_fall(text in "\\PC{0,80}") {
        let _ = text.parse::<End>();
    }
}
