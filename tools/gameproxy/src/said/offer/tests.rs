use proptest::prelude::*;

use super::*;

fn any_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
    ]
}

fn any_ips() -> impl Strategy<Value = Vec<IpAddr>> {
    prop::collection::vec(any_ip(), 0..4)
}

fn any_offer() -> impl Strategy<Value = Offer> {
    let entry =
        (any::<bool>(), any_ip(), any_ip(), any::<(u16, u16)>()).prop_map(|(allow, host, mask, ports)| Access {
            verdict: if allow { Verdict::Allow } else { Verdict::Deny },
            from: Net { host: Host::Address(host), mask: Some(mask) },
            ports,
        });
    let redirect = (any::<u16>(), any_ips(), any_ips()).prop_map(|(port, on, from)| Offered { port, on, from });
    (prop::collection::vec(entry, 0..5), prop::collection::vec(redirect, 0..5))
        .prop_map(|(access, redirects)| Offer { access, redirects })
}

#[test]
fn the_bytes_are_these() {
    let entry = |text: &str| crate::said::grammar::access(text).unwrap();
    let offer = Offer {
        access: vec![entry("allow 10.0.0.1 from 1-2"), entry("deny ::/0")],
        redirects: vec![Offered { port: 27910, on: vec![], from: vec!["10.0.0.9".parse().unwrap()] }],
    };
    let mut want = vec![1, 0, 2, 1, 4, 10, 0, 0, 1, 4, 255, 255, 255, 255, 0, 1, 0, 2, 0, 6];
    want.extend([0; 16]);
    want.push(6);
    want.extend([0; 16]);
    want.extend([0, 0, 255, 255, 0, 1, 0x6d, 0x06, 0, 1, 4, 10, 0, 0, 9]);
    assert_eq!(offer.bytes(), want);
    let mut said = Vec::new();
    About::Have { number: 1, time: 2, round_trip: 3, own: vec!["10.0.0.1".parse().unwrap()] }.put(&mut said);
    assert_eq!(said, [1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 1, 4, 10, 0, 0, 1]);
    said.clear();
    About::Is { number: 1, length: 2, time: 3, seen: None }.put(&mut said);
    assert_eq!(said, [2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0]);
    said.clear();
    About::Part { number: 1, at: 1024, bytes: b"x" }.put(&mut said);
    assert_eq!(said, [3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 4, 0, b'x']);
    said.clear();
    About::Want { number: 1, at: 1024, parts: 16 }.put(&mut said);
    assert_eq!(said, [4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 4, 0, 16]);
}

#[test]
fn nonsense_is_told() {
    assert_eq!(Offer::parse(&[]), Err(Malformed::Short));
    assert_eq!(Offer::parse(&[2, 0, 0, 0, 0]), Err(Malformed::Version(2)));
    assert_eq!(Offer::parse(&[1, 0, 0, 0, 0, 0]), Err(Malformed::Long));
    assert_eq!(Offer::parse(&[1, 0, 1, 2]), Err(Malformed::Word(2)));
    assert_eq!(About::parse(&[9]), Err(Malformed::Word(9)));
    let mut long = Vec::new();
    About::Is { number: 1, length: LONGEST as u32 + 1, time: 0, seen: None }.put(&mut long);
    assert_eq!(About::parse(&long), Err(Malformed::Length(LONGEST as u32 + 1)));
}

proptest! {
    #[test]
    fn what_is_written_is_read(offer in any_offer(), number in any::<u64>(), time in any::<u64>(), at in any::<u32>(), own in any_ips(), seen in prop::option::of(any_ip()), bytes in any::<Vec<u8>>()) {
        prop_assert_eq!(Offer::parse(&offer.bytes()), Ok(offer));
        let all = [
            About::Have { number, time, round_trip: at, own },
            About::Is { number, length: at % (LONGEST as u32), time, seen },
            About::Part { number, at, bytes: &bytes },
            About::Want { number, at, parts: at as u8 },
        ];
        for about in all {
            let mut out = Vec::new();
            about.put(&mut out);
            prop_assert_eq!(About::parse(&out), Ok(about));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(0..8_u8, 0..200)) {
        let _ = About::parse(&bytes);
        if let Ok(offer) = Offer::parse(&bytes) {
            prop_assert_eq!(offer.bytes(), bytes);
        }
    }
}
