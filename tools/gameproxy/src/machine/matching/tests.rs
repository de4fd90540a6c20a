use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::said::grammar;
use crate::said::rule::{Host, Net, Place};

fn read(text: &str) -> Rules {
    grammar::parse(text).unwrap().0
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn the_first_that_matches_decides_and_no_match_rejects() {
    let rules = read(
        "global deny 10.0.0.7 port 5 global allow 10.0.0.7 global deny 10.0.0.0/8 from 1024- global allow 10.0.0.0/8
         global allow lan.example from -99",
    );
    let mut names = Names::default();
    let rows = [
        ("10.0.0.7:5", Some(0), false),
        ("10.0.0.7:6", Some(1), true),
        ("[::ffff:10.0.0.7]:6", Some(1), true),
        ("10.0.0.8:1024", Some(2), false),
        ("10.0.0.8:1023", Some(3), true),
        ("192.0.2.1:99", None, false),
        ("[fd00::1]:99", None, false),
    ];
    for (player, place, let_in) in rows {
        assert_eq!(deciding(&rules.access, &names, at(player)), place, "{player}");
        assert_eq!(lets(&rules.access, &names, at(player)), let_in, "{player}");
    }
    names.learn("lan.example", &["192.0.2.1".parse().unwrap(), "fd00::1".parse().unwrap()]);
    for (player, let_in) in [("192.0.2.1:99", true), ("[fd00::1]:99", true), ("192.0.2.1:100", false)] {
        assert_eq!(lets(&rules.access, &names, at(player)), let_in, "{player}");
    }
    assert!(!lets(&[], &names, at("10.0.0.7:6")));
}

#[test]
fn a_redirect_says_why_it_does_not_take_a_datagram() {
    let rules = read(
        "redirect 10.0.0.1 port 5 to a.b 9
         redirect * port 6 to a.b 9
         redirect name port 5 to a.b 9
         on 192.0.2.1 redirect 10.0.0.1 port 7 to a.b 9
         on 192.0.2.1 redirect 10.0.0.99 port 7 to a.b 9
         redirect 10.0.0.1 port 8 to a.b 9 deny 10.0.0.66 allow 10.0.0.0/8 port 5",
    );
    let names = Names::default();
    let machine: Vec<IpAddr> = ["10.0.0.1", "192.0.2.1"].map(|ip| ip.parse().unwrap()).to_vec();
    let other: Vec<IpAddr> = vec!["10.0.0.1".parse().unwrap()];
    let rows = [
        (0, Some(&machine), "10.0.0.1:5", "10.9.9.9:1", Ok(())),
        (0, None, "[::ffff:10.0.0.1]:5", "10.9.9.9:1", Ok(())),
        (0, None, "10.0.0.1:6", "10.9.9.9:1", Err(Not::Port)),
        (0, None, "10.0.0.2:5", "10.9.9.9:1", Err(Not::Address)),
        (1, None, "10.0.0.2:6", "10.9.9.9:1", Ok(())),
        (2, None, "10.0.0.2:5", "10.9.9.9:1", Err(Not::AddressUnknown)),
        (3, Some(&machine), "10.0.0.1:7", "10.9.9.9:1", Ok(())),
        (3, Some(&other), "10.0.0.1:7", "10.9.9.9:1", Err(Not::Machine)),
        (3, Some(&machine), "10.0.0.2:7", "10.9.9.9:1", Err(Not::Address)),
        // The address that players send to is a router's.
        (4, Some(&machine), "10.0.0.1:7", "10.9.9.9:1", Ok(())),
        (4, Some(&other), "10.0.0.1:7", "10.9.9.9:1", Err(Not::Machine)),
        (5, None, "10.0.0.1:8", "10.0.0.66:5", Err(Not::Denied(Some(0)))),
        (5, None, "10.0.0.1:8", "10.0.0.7:5", Ok(())),
        (5, None, "10.0.0.1:8", "10.0.0.7:6", Err(Not::Denied(None))),
    ];
    for (place, machine, orig, player, want) in rows {
        let machine = machine.map(Vec::as_slice);
        assert_eq!(
            takes(&rules.redirects[place], &names, machine, at(orig), at(player)),
            want,
            "{place} {orig} {player}"
        );
    }
}

/// The rules as someone would read them aloud: with bits of addresses as numbers, and nothing shared with what is tested.
fn naive(rules: &Rules, orig: (u32, u16), player: (u32, u16)) -> Option<usize> {
    let number = |host: &Host| match host {
        Host::Address(IpAddr::V4(v4)) => v4.to_bits(),
        other => panic!("{other}"),
    };
    let is_in = |list: &[Access]| {
        for entry in list {
            let mask = match entry.from.mask {
                Some(IpAddr::V4(mask)) => mask.to_bits(),
                _ => u32::MAX,
            };
            let mut same = true;
            for bit in 0..32 {
                let one = 1_u32 << bit;
                if mask & one != 0 && number(&entry.from.host) & one != player.0 & one {
                    same = false;
                }
            }
            if same && player.1 >= entry.ports.0 && player.1 <= entry.ports.1 {
                return entry.verdict == Verdict::Allow;
            }
        }
        false
    };
    if !is_in(&rules.access) {
        return None;
    }
    for (place, redirect) in rules.redirects.iter().enumerate() {
        let from = number(&redirect.from.host);
        let here = redirect.from.port == orig.1 && (from == 0 || from == orig.0);
        if here && (redirect.access.is_empty() || is_in(&redirect.access)) {
            return Some(place);
        }
    }
    None
}

/// Few addresses and ports, so that rules and players meet.
fn small_ip() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![0, 0x0a00_0001, 0x0a00_0002, 0x0a00_0102, 0xc0a8_0101])
}

fn small_port() -> impl Strategy<Value = u16> {
    1..5_u16
}

fn small_entry() -> impl Strategy<Value = Access> {
    let mask = prop::option::of(prop::sample::select(vec![0_u32, 0xff00_0000, 0xffff_ff00, 0xff00_00ff, u32::MAX]));
    (any::<bool>(), small_ip(), mask, small_port(), small_port()).prop_map(|(allow, ip, mask, a, b)| Access {
        verdict: if allow { Verdict::Allow } else { Verdict::Deny },
        from: Net {
            host: Host::Address(Ipv4Addr::from_bits(ip).into()),
            mask: mask.map(|mask| Ipv4Addr::from_bits(mask).into()),
        },
        ports: (a.min(b), a.max(b)),
    })
}

proptest! {
    /// Written, read and asked, rules say what they say when read aloud.
    #[test]
    fn rules_are_as_a_naive_reader_has_them(
        access in prop::collection::vec(small_entry(), 0..4),
        redirects in prop::collection::vec((small_ip(), small_port(), prop::collection::vec(small_entry(), 0..3)), 0..5),
        asked in prop::collection::vec((small_ip(), small_port(), small_ip(), small_port()), 20),
    ) {
        let redirect = |(ip, port, access): (u32, u16, Vec<Access>)| {
            let place = |ip: u32, port| Place { host: Host::Address(Ipv4Addr::from_bits(ip).into()), port };
            Redirect { access, ..Redirect::new(place(ip, port), place(0x0a00_0009, 9)) }
        };
        let rules = Rules { access, redirects: redirects.into_iter().map(redirect).collect(), ..Rules::default() };
        let lines = rules.access.iter().map(|entry| format!("global {}\n", grammar::write_access(entry)));
        let text: String = lines.chain(rules.redirects.iter().map(|one| grammar::write_redirect(one) + "\n")).collect();
        let read = read(&text);
        for (to, to_port, from, from_port) in asked {
            let (orig, player) = (SocketAddr::from((Ipv4Addr::from_bits(to), to_port)), SocketAddr::from((Ipv4Addr::from_bits(from), from_port)));
            let names = Names::default();
            let found = if lets(&read.access, &names, player) { first(&read, &names, None, orig, player) } else { None };
            prop_assert_eq!(found, naive(&rules, (to, to_port), (from, from_port)), "{} to {}:\n{}", player, orig, text);
        }
    }
}
