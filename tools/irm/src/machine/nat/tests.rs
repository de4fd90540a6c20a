//! What was seen, as tables.

use std::time::Duration;

use super::lifetime::Trial;
use super::*;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Six sockets at 192.168.1.2, seen at 192.0.2.7 with these ports.
fn facts(own: &[u16], public: &[u16]) -> Facts {
    let seen =
        |(port, public): (&u16, &u16)| Seen { port: *port, public: SocketAddr::new([192, 0, 2, 7].into(), *public) };
    Facts {
        server: at("198.51.100.1:3360"),
        other: Some(at("198.51.100.1:3361")),
        local: at("192.168.1.2:5000"),
        sockets: own.iter().zip(public).map(seen).collect(),
        heard_from_other: Some(false),
        at_other: Some(at("192.0.2.7:5000")),
        at_second: None,
        hairpin: Some(Hairpin::No),
        lifetime: None,
        router: None,
    }
}

/// What the router answers: by PCP, NAT-PMP and UPnP; an address outside, or why not.
fn said(answers: [Result<Option<&str>, &str>; 3]) -> String {
    use gateway::{Protocol, Refusal, Survey};
    let answer = |answer: Result<Option<&str>, &str>| match answer {
        Ok(outside) => Ok(outside.map(|outside| outside.parse().unwrap())),
        Err("") => Err(Refusal::Silent),
        Err(why) => Err(Refusal::Said(why.to_owned())),
    };
    let [pcp, old, upnp] = answers.map(answer);
    let answers = [(Protocol::Pcp, pcp), (Protocol::NatPmp, old), (Protocol::Upnp, upnp)];
    let router = Some(Survey { at: [192, 168, 1, 1].into(), answers });
    let text = text(&Facts { router, ..facts(&OWN, &OWN) }.found());
    let line = text.lines().find_map(|line| line.strip_prefix("router")).unwrap();
    line.trim().to_owned()
}

#[test]
fn what_the_router_says_is_told() {
    let silent = "192.168.1.1 maps no ports: no answer to PCP, NAT-PMP or UPnP";
    assert_eq!(said([Err(""); 3]), silent);
    let maps = said([Ok(None), Ok(Some("192.0.2.7")), Err("")]);
    assert_eq!(maps, "192.168.1.1 maps ports (PCP, NAT-PMP) when a member with --map-ports asks");
    let twice = said([Err("Not authorized"), Err(""), Ok(Some("100.64.3.2"))]);
    assert!(twice.contains("(UPnP) at 100.64.3.2, and another NAT is before it"), "{twice}");
    let refused = said([Err("Not authorized"), Err(""), Err("")]);
    assert_eq!(refused, "192.168.1.1 maps no ports: PCP: Not authorized");
    assert!(!text(&facts(&OWN, &OWN).found()).contains("router"));
}

const OWN: [u16; 4] = [5000, 41_000, 33_333, 60_001];

#[test]
fn mappings_and_filters_are_told_apart() {
    use Filtering::{AddressAndPortDependent as Strict, EndpointIndependentOrAddressDependent as Open};
    let (same, another) = (Some("192.0.2.7:5000"), Some("192.0.2.7:5001"));
    type Row = (Option<&'static str>, Option<&'static str>, Option<bool>, Mapping, Filtering, Direct);
    let table: &[Row] = &[
        (same, None, Some(false), Mapping::EndpointIndependentOrAddressDependent, Strict, Direct::AllButSymmetric),
        (same, same, Some(true), Mapping::EndpointIndependent, Open, Direct::All),
        (same, another, Some(true), Mapping::AddressDependent, Open, Direct::OpenFilters),
        (another, None, Some(false), Mapping::AddressAndPortDependent, Strict, Direct::OpenFilters),
        (another, another, Some(true), Mapping::AddressAndPortDependent, Open, Direct::OpenFilters),
        (None, None, None, Mapping::Unknown, Filtering::Unknown, Direct::Unknown),
        (None, same, Some(false), Mapping::EndpointIndependent, Filtering::Unknown, Direct::Unknown),
        (None, None, Some(true), Mapping::Unknown, Open, Direct::Unknown),
    ];
    for (other, second, heard, mapping, filtering, direct) in table {
        let (at_other, at_second) = (other.map(at), second.map(at));
        let found = Facts { at_other, at_second, heard_from_other: *heard, ..facts(&OWN, &OWN) }.found();
        assert_eq!(
            (found.mapping, found.filtering, found.direct),
            (*mapping, *filtering, *direct),
            "{other:?} {second:?}"
        );
    }
    let mut open = facts(&OWN, &OWN);
    open.local = at("192.0.2.7:5000");
    assert_eq!(open.found().mapping, Mapping::None);
    assert_eq!(open.found().direct, Direct::AllButSymmetric, "a firewall");
    open.heard_from_other = Some(true);
    assert_eq!(open.found().direct, Direct::All);
}

#[test]
fn ports_have_an_order_or_none() {
    let table: &[(&[u16], Ports)] = &[
        (&OWN, Ports::Preserved),
        (&[7, 8, 9, 10], Ports::Sequential { least: 1, most: 1 }),
        (&[7, 9, 14, 16], Ports::Sequential { least: 2, most: 5 }),
        (&[20, 18, 16, 14], Ports::Sequential { least: -2, most: -2 }),
        (&[65_534, 65_535, 0, 1], Ports::Sequential { least: 1, most: 1 }),
        (&[7, 9, 8, 10], Ports::Random),
        (&[7, 7, 8, 9], Ports::Random),
        (&[100, 40_000, 9, 22_222], Ports::Random),
        (&[5000, 9], Ports::Unknown),
    ];
    for (public, want) in table {
        assert_eq!(facts(&OWN, public).found().ports, *want, "{public:?}");
    }
}

#[test]
fn several_public_addresses_are_seen() {
    let mut several = facts(&OWN, &OWN);
    assert!(!several.found().several_addresses);
    several.sockets[2].public = at("192.0.2.8:33333");
    assert!(several.found().several_addresses);
}

#[test]
fn lifetimes_are_between_two_looks() {
    let seconds = Duration::from_secs;
    assert_eq!(lifetime::rungs(seconds(15)), [0, 5, 10, 15].map(seconds));
    assert_eq!(lifetime::rungs(seconds(12)), [0, 5, 10, 12].map(seconds));
    assert_eq!(lifetime::rungs(seconds(600)).len(), 18);
    let (yes, no) = (Trial::Lived, Trial::Gone);
    let [other, low] = [Hindrance::OtherAddress, Hindrance::LowPorts].map(Trial::Untried);
    let unknown = |why| Lifetime::Unknown { why };
    let table: &[(&[Trial], Lifetime)] = &[
        (&[yes, yes, yes, yes], Lifetime::More { lived: seconds(15) }),
        (&[yes, yes, no, no], Lifetime::Between { lived: seconds(5), gone: seconds(10) }),
        // One datagram too many was lost: the shorter is told.
        (&[yes, yes, no, yes], Lifetime::Between { lived: seconds(5), gone: seconds(10) }),
        (&[yes, no, no, no], Lifetime::Between { lived: seconds(0), gone: seconds(5) }),
        // What could not be tried is not dead.
        (&[yes, yes, other, yes], Lifetime::More { lived: seconds(15) }),
        (&[yes, yes, yes, other], Lifetime::More { lived: seconds(10) }),
        (&[yes, yes, other, no], Lifetime::Between { lived: seconds(5), gone: seconds(15) }),
        (&[yes, other, low, other], unknown(Hindrance::OtherAddress)),
        (&[low, yes, yes, yes], unknown(Hindrance::LowPorts)),
        (&[no, yes, yes, yes], unknown(Hindrance::NotReached)),
        (&[yes], unknown(Hindrance::NotReached)),
        (&[], unknown(Hindrance::NotReached)),
    ];
    for (lived, want) in table {
        let trials: Vec<_> = lifetime::rungs(seconds(15)).into_iter().zip(lived.iter().copied()).collect();
        assert_eq!(lifetime::lifetime(&trials), *want, "{lived:?}");
    }
}

#[test]
fn it_is_told_in_words() {
    let text = text(&facts(&OWN, &OWN).found());
    assert_eq!(
        text,
        "\
asked        198.51.100.1:3360
this host    192.168.1.2:5000, seen as 192.0.2.7:5000
mapping      endpoint-independent, or address-dependent: a second --via at another address would tell (RFC 4787, 4.1)
filtering    address and port-dependent (RFC 4787, 5)
ports        preserved: sockets keep their own (RFC 4787, 4.2)
hairpinning  no: hosts behind it do not reach each other by their public addresses (RFC 4787, 6)
lifetime     not measured; irm nat --lifetime does (RFC 4787, 4.3)
direct       with every host but those behind symmetric NATs (a mapping for each destination); with those a relay would do; \
if its mappings are by address, as behind a symmetric NAT; with hosts behind the same NAT only by their local addresses
"
    );
}

#[test]
fn short_lifetimes_are_warned_of() {
    let (lived, gone) = (Duration::from_secs(15), Duration::from_secs(20));
    let short = Facts { lifetime: Some(Lifetime::Between { lived, gone }), ..facts(&OWN, &OWN) };
    assert!(
        text(&short.found()).contains("between 15 and 20 s idle (RFC 4787, 4.3); flows' keep-alives may come too late")
    );
    let json = serde_json::to_value(short.found()).unwrap();
    assert_eq!(json["lifetime"], serde_json::json!({ "kind": "between", "lived": 15, "gone": 20 }));
    assert_eq!(json["mapping"], "endpoint-independent-or-address-dependent");
    assert_eq!(json["ports"], serde_json::json!({ "kind": "preserved" }));
}
