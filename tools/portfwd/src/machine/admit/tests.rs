#![expect(clippy::disallowed_methods, reason = "a test begins at some moment")]

use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn the_longest_prefix_decides() {
    let options = Options {
        allow: nets(&[
            "10.0.0.0/8",
            "10.1.7.0/24",
            "192.0.2.1/32",
            "2001:db8::/32",
            "::ffff:172.16.0.0/108",
            "10.3.0.0/16",
        ]),
        deny: nets(&["10.1.0.0/16", "2001:db8:bad::/48", "10.3.0.0/16"]),
        ..Options::default()
    };
    let mut door = Door::new(&options);
    let rows = [
        ("10.0.0.1", true),
        ("10.255.255.255", true),
        ("11.0.0.0", false),
        ("9.255.255.255", false),
        ("10.1.2.3", false),
        ("10.1.7.3", true),
        ("10.2.0.0", true),
        ("10.3.0.1", false),
        ("::ffff:10.2.0.1", true),
        ("::ffff:10.1.0.1", false),
        ("192.0.2.1", true),
        ("192.0.2.2", false),
        ("172.31.0.1", true),
        ("172.32.0.1", false),
        ("2001:db8::1", true),
        ("2001:db8:bad::1", false),
        ("2001:db9::", false),
        ("::", false),
        ("255.255.255.255", false),
    ];
    for (client, allowed) in rows {
        let expected = if allowed { Ok(()) } else { Err(Refusal::Denied) };
        assert_eq!(door.admit(Instant::now(), ip(client), 0), expected, "{client}");
    }
    assert_eq!(door.admit(Instant::now(), None, 0), Ok(()), "over a Unix socket");
}

#[test]
fn a_denied_prefix_alone_lets_all_others_in() {
    let mut door = Door::new(&Options { deny: nets(&["0.0.0.0/0"]), ..Options::default() });
    assert_eq!(door.admit(Instant::now(), ip("10.0.0.1"), 0), Err(Refusal::Denied));
    assert_eq!(door.admit(Instant::now(), ip("fe80::1"), 0), Ok(()));
}

#[test]
fn numbers_are_limits_and_the_refused_cost_nobody_anything() {
    let options = Options {
        max_connections: NonZeroU32::new(3),
        rate: NonZeroU32::new(2),
        deny: nets(&["10.9.0.0/16"]),
        ..Options::default()
    };
    let (mut door, now) = (Door::new(&options), Instant::now());
    for _ in 0..100 {
        assert_eq!(door.admit(now, ip("10.0.0.1"), 3), Err(Refusal::TooMany));
        assert_eq!(door.admit(now, ip("10.9.0.1"), 0), Err(Refusal::Denied));
    }
    let results = [Ok(()), Ok(()), Err(Refusal::TooFast), Err(Refusal::TooFast)];
    assert_eq!([(); 4].map(|()| door.admit(now, ip("10.0.0.1"), 0)), results);
    let later = now + Duration::from_millis(500);
    assert_eq!(door.admit(later, ip("10.0.0.1"), 2), Ok(()));
    assert_eq!(door.admit(later, ip("10.0.0.1"), 2), Err(Refusal::TooFast));
}

proptest! {
    /// Whatever comes when: never more than a second's worth at once and the rate for ever; and after a rest that again.
    #[test]
    fn a_rate_holds(rate in 1..5000_u32, gaps in prop::collection::vec(0..2_000_000_u64, 1..400)) {
        let mut door = Door::new(&Options { rate: NonZeroU32::new(rate), ..Options::default() });
        let start = Instant::now();
        let (mut now, mut let_in) = (start, 0_u32);
        for gap in gaps {
            now += Duration::from_micros(gap);
            let_in += u32::from(door.admit(now, None, 0).is_ok());
            let most = f64::from(rate) * (1.0 + now.duration_since(start).as_secs_f64());
            // A share of a second is rounded to nanoseconds.
            prop_assert!(f64::from(let_in) <= most * 1.00001 + 0.01, "{let_in} of {most}");
        }
        now += Duration::from_millis(1001);
        let at_once = (0..rate + 5).filter(|_| door.admit(now, None, 0).is_ok()).count();
        prop_assert_eq!(at_once, rate as usize);
    }
}
