use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Rules {
    parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}")).0
}

fn entry(text: &str) -> Access {
    access(text).unwrap_or_else(|wrong| panic!("{text}: {wrong:?}"))
}

fn ip(text: &str) -> Host {
    Host::Address(text.parse().unwrap())
}

fn named(text: &str) -> Host {
    Host::Named(text.to_owned())
}

/// An entry as it is written, and what it means: host, mask, ports.
type Row = (&'static str, Verdict, Host, Option<&'static str>, (u16, u16));

#[test]
fn entries_mean_what_the_manual_says() {
    let all = (0, u16::MAX);
    let rows: [Row; 16] = [
        ("allow 10.1.2.3", Verdict::Allow, ip("10.1.2.3"), None, all),
        ("deny 10.1.2.3", Verdict::Deny, ip("10.1.2.3"), None, all),
        ("allow 10.0.0.0/255.0.0.0", Verdict::Allow, ip("10.0.0.0"), Some("255.0.0.0"), all),
        ("allow 10.0.0.0 / 255.0.255.0", Verdict::Allow, ip("10.0.0.0"), Some("255.0.255.0"), all),
        ("allow 10.0.0.0/8", Verdict::Allow, ip("10.0.0.0"), Some("255.0.0.0"), all),
        ("allow 10.0.0.0/0", Verdict::Allow, ip("10.0.0.0"), Some("0.0.0.0"), all),
        ("allow lan.example.org", Verdict::Allow, named("lan.example.org"), None, all),
        (
            "allow Lan-2.example.org./255.255.255.0",
            Verdict::Allow,
            named("lan-2.example.org"),
            Some("255.255.255.0"),
            all,
        ),
        ("deny 10.1.2.3 from 23 - 45", Verdict::Deny, ip("10.1.2.3"), None, (23, 45)),
        ("deny 10.1.2.3 from 23-45", Verdict::Deny, ip("10.1.2.3"), None, (23, 45)),
        ("deny 10.1.2.3 from 23-", Verdict::Deny, ip("10.1.2.3"), None, (23, u16::MAX)),
        ("deny 10.1.2.3 from - 45", Verdict::Deny, ip("10.1.2.3"), None, (0, 45)),
        ("deny 10.1.2.3 port 27901", Verdict::Deny, ip("10.1.2.3"), None, (27901, 27901)),
        ("allow 2001:db8::/32 port 0", Verdict::Allow, ip("2001:db8::"), Some("ffff:ffff::"), (0, 0)),
        ("allow [2001:db8::1]", Verdict::Allow, ip("2001:db8::1"), None, all),
        ("allow *", Verdict::Allow, ip("0.0.0.0"), Some("0.0.0.0"), all),
    ];
    for (text, verdict, host, mask, ports) in rows {
        let mask = mask.map(|mask| mask.parse().unwrap());
        assert_eq!(entry(text), Access { verdict, from: Net { host, mask }, ports }, "{text}");
    }
}

#[test]
fn redirects_mean_what_the_manual_says() {
    let rules = read(
        "redirect 192.168.1.1 port 27910 to q2.example.org 27911\n\
         on gw.example.org redirect gw port 27912 to 10.0.0.9 27910 deny 10.0.0.1 from 5- allow 10.0.0.0/8 delay 30ms+20ms\n\
         redirect * port 5 to fd00::1 6 delay 1s redirect 10.0.0.1 port 1 to 10.0.0.2 2 delay 0s + 250 us",
    );
    let [plain, full, ms, us] = &rules.redirects[..] else { panic!("{rules:?}") };
    assert_eq!((&plain.on, &plain.from), (&None, &Place { host: ip("192.168.1.1"), port: 27910 }));
    assert_eq!(plain.to[0].place, Place { host: named("q2.example.org"), port: 27911 });
    assert_eq!((plain.access.len(), plain.carriage), (0, Default::default()));
    assert_eq!((&full.on, &full.from.host), (&Some(named("gw.example.org")), &named("gw")));
    assert_eq!(full.access, [entry("deny 10.0.0.1 from 5 -"), entry("allow 10.0.0.0/255.0.0.0")]);
    assert_eq!([full.carriage.up.delay.as_millis(), full.carriage.down.delay.as_millis()], [30, 20]);
    assert_eq!((&ms.from.host, &ms.to[0].place.host), (&ANY, &ip("fd00::1")));
    assert_eq!([ms.carriage.up.delay.as_millis(), ms.carriage.down.delay.as_millis()], [1000, 0]);
    assert_eq!([us.carriage.up.delay.as_micros(), us.carriage.down.delay.as_micros()], [0, 250]);
}

#[test]
fn comments_and_line_ends_part_words_and_order_is_kept() {
    let text = "\u{feff}# who\nglobal # a\n allow# b\n1.2.3.4#c\r\n\tglobal deny 1.2.3.0/24 from#\n1-2\n#";
    let rules = read(text);
    assert_eq!(rules.access, [entry("allow 1.2.3.4"), entry("deny 1.2.3.0/24 from 1-2")]);
    assert_eq!(read(""), Rules::default());
}

#[test]
fn faults_say_where_and_what_was_expected() {
    let rows = [
        ("gobal allow 1.2.3.4", "1:1: 'gobal' stands where 'global', 'on' or 'redirect' is expected"),
        ("global\n  alow 1.2.3.4", "2:3: 'alow' stands where 'allow' or 'deny' is expected"),
        ("global allow", "1:13: the text ends where an address or a host name is expected"),
        ("global allow 1.2.3.256", "1:14: '1.2.3.256' stands where an address or a host name is expected"),
        ("global allow from 1-2", "1:14: 'from' stands where an address or a host name is expected"),
        ("global allow a..b", "1:14: 'a..b' stands where an address"),
        ("global allow 1.2.3.4/300", "1:22: '300' stands where a mask, such as 255.255.255.0 or 24, is expected"),
        ("global allow 1.2.3.4/host", "1:22: 'host' stands where a mask"),
        ("global allow 1.2.3.4/ffff::", "1:22: 'ffff::' stands where a mask"),
        ("global allow ::/255.0.0.0", "1:17: '255.0.0.0' stands where a mask, such as ffff:ffff:: or 32, is"),
        ("global allow 1.2.3.4 from 5", "1:28: the text ends where '-' of a range of ports"),
        ("global allow 1.2.3.4 from 5 - 4", "1:31: the ports 5 - 4 go backwards; write 4 - 5"),
        ("global allow 1.2.3.4 port 65536", "1:27: '65536' stands where a port from 0 to 65535 is expected"),
        ("global allow 1.2.3.4 port -1", "1:27: '-1' stands where a port"),
        ("global allow 1.2.3.4 prot 1", "1:22: 'prot' stands where 'global', 'on' or 'redirect' is expected"),
        ("on 1.2.3.4 global", "1:12: 'global' stands where 'redirect' behind 'on' and its address is expected"),
        ("redirect port 5 to a 6", "1:10: 'port' stands where the address or the host name that players send to is"),
        ("redirect a 5 to b 6", "1:12: '5' stands where 'port' behind the address of a redirect is expected"),
        ("redirect a port 0 to b 6", "1:17: '0' stands where the port that players send to, 1 to 65535, is expected"),
        ("redirect a port 5x to b 6", "1:17: '5x' stands where the port"),
        ("redirect a port 5 too b 6", "1:19: 'too' stands where 'to' behind the port of a redirect is expected"),
        ("redirect a port 5 to b", "1:23: the text ends where the port of the server"),
        ("redirect a port 5 to * 6", "1:22: the server of a redirect is one host"),
        ("redirect a port 5 to b port 6", "1:24: 'port' stands where the port of the server"),
        ("redirect a port 5 to b 6 delay", "1:31: the text ends where a time, such as 30ms, is expected"),
        ("redirect a port 5 to b 6 delay 5", "1:33: the text ends where the unit of 5, s, ms or us, is expected"),
        ("redirect a port 5 to b 6 delay 1.5s", "1:33: '.5s' stands where the unit of 1, s, ms or us, is expected"),
        ("redirect a port 5 to b 6 delay 5m", "1:33: 'm' stands where the unit"),
        ("redirect a port 5 to b 6 delay 11s", "1:32: a delay is at most 10 s"),
        ("redirect a port 5 to b 6 delay 99999999999999999999s", "1:32: a delay is at most 10 s"),
        ("redirect a port 5 to b 6 delay 5ms+", "1:36: the text ends where a time"),
        ("# é\nredirect é port 5 to b 6", "2:10: 'é' stands where"),
    ];
    for (text, want) in rows {
        let fault = parse(text).expect_err(text).to_string();
        assert!(fault.starts_with(want), "{text}\n  {fault}\n  {want}");
    }
}

fn any_host() -> impl Strategy<Value = Host> {
    prop_oneof![
        any::<u32>().prop_map(|bits| Host::Address(Ipv4Addr::from_bits(bits).into())),
        any::<u128>().prop_map(|bits| Host::Address(Ipv6Addr::from_bits(bits).into())),
        "[a-z][a-z0-9-]{0,5}[a-z0-9]\\.example".prop_map(Host::Named),
    ]
}

/// One that a server can have: broadcasts and the like are refused.
fn any_server() -> impl Strategy<Value = Host> {
    any_host().prop_filter("no address of one host", |host| one_host(host).is_ok())
}

fn any_access() -> impl Strategy<Value = Access> {
    (any::<bool>(), any_host(), any::<Option<u128>>(), any::<(u16, u16)>(), 0..3_u8).prop_map(
        |(allow, host, mask, (a, b), open)| {
            let mask = mask.map(|bits| match host {
                Host::Address(IpAddr::V6(_)) => IpAddr::V6(Ipv6Addr::from_bits(bits)),
                _ => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
            });
            let ports = match open {
                0 => (0, u16::MAX),
                1 => (a, u16::MAX),
                _ => (a.min(b), a.max(b)),
            };
            let verdict = if allow { Verdict::Allow } else { Verdict::Deny };
            Access { verdict, from: Net { host, mask }, ports }
        },
    )
}

proptest! {
    /// What is written is read as what was meant, whatever white space and comments stand between the statements.
    #[test]
    fn what_is_written_is_read(
        access in prop::collection::vec(any_access(), 0..4),
        redirects in prop::collection::vec(
            (prop::option::of(any_host()), any_host(), 1..=u16::MAX, any_server(), 1..=u16::MAX,
             prop::collection::vec(any_access(), 0..3), 0..10_000_000_u64, 0..10_000_000_u64),
            0..4,
        ),
        between in prop::sample::select(vec!["\n", " ", "# c # d\n", "\r\n\t"]),
    ) {
        let mut want = Rules { access, ..Rules::default() };
        for (on, from, port, to, server, access, up, down) in redirects {
            let mut redirect = Redirect::new(Place { host: from, port }, Place { host: to, port: server });
            if let Some(on) = on {
                redirect.name = format!("{on} {}", redirect.name);
                redirect.on = Some(on);
            }
            redirect.access = access;
            redirect.carriage.up.delay = Duration::from_micros(up);
            redirect.carriage.down.delay = Duration::from_micros(down);
            want.redirects.push(redirect);
        }
        let mut lines: Vec<String> = want.access.iter().map(|entry| format!("global {}", write_access(entry))).collect();
        lines.extend(want.redirects.iter().map(write_redirect));
        let text = lines.iter().map(|line| format!("{line}{between}")).collect::<String>();
        prop_assert_eq!(read(&text), want, "{}", text);
    }

    /// Whatever a file holds: faults have a place in it.
    #[test]
    fn any_text_is_read_or_faulted(words in prop::collection::vec(
        prop::sample::select(vec!["global", "allow", "deny", "on", "redirect", "port", "to", "from", "delay", "-", "+", "/",
            "1.2.3.4", "a.b", "27910", "5ms", "#", "\n", "::", "*", "é", "0"]), 0..30)) {
        let text = words.join(" ");
        if let Err(fault) = parse(&text) {
            prop_assert!((1..=text.matches('\n').count() + 1).contains(&fault.line) && fault.column >= 1);
        }
    }
}
