//! Rules about addresses, and what one prefix of them may have.

use super::rules::{REMOTE, from, with};
use super::*;
use policy::{About, Patterns, Stranger};

#[test]
fn the_longest_prefix_decides() {
    let mut w = with(REMOTE);
    w.ipcp("udp0", "net");
    w.obey();
    let table = [
        ("web", "10.1.2.3:5", true),
        ("web", "[::ffff:10.1.2.3]:5", true),
        ("web", "10.9.2.3:5", false),
        ("web", "10.9.1.1:5", true),
        ("web", "11.0.0.1:5", false),
        ("web", "[fd00::9]:5", true),
        ("web", "[fd00:1::9]:5", false),
        ("most", "192.0.2.1:5", false),
        ("most", "192.0.3.1:5", true),
        ("most", "[fd00::1]:5", true),
        ("few", "192.0.2.7:5", true),
        ("few", "192.0.2.8:5", false),
        ("here", "10.1.2.3:5", false),
        ("all", "10.1.2.3:5", true),
        ("web", "nowhere", false),
    ];
    for (name, address, allowed) in table {
        let failure = from(&mut w, name, address, true, false);
        assert_eq!(failure.is_none(), allowed, "{name} from {address}: {failure:?}");
        if let Some(failure) = failure {
            assert_eq!(failure.kind(), FailureKind::NotPermitted);
        }
    }
    assert_eq!(w.irm.refused["refused_allocate_remote"], 7);
}

#[test]
fn an_address_that_is_only_claimed_opens_nothing() {
    for (opted_in, classic, proven, allowed) in [
        (false, false, true, true),
        (false, false, false, false),
        (false, true, false, false),
        (true, true, false, true),
        (true, false, false, false),
    ] {
        let mut w = with(&format!("{REMOTE}\n[options]\nclassic-addresses = {opted_in}\n"));
        w.ipcp("udp0", "net");
        w.obey();
        let failure = from(&mut w, "web", "10.1.2.3:5", proven, classic);
        assert_eq!(failure.is_none(), allowed, "opted in {opted_in}, classic {classic}, proven {proven}: {failure:?}");
        // Where no address is judged nothing need be shown.
        assert_eq!(from(&mut w, "all", "10.1.2.3:5", proven, classic), None);
    }
}

#[test]
fn a_hosts_own_address_does_not_get_around_its_users_rule() {
    let text = "[[name]]\nname = \"web\"\nlayers = [\"net\"]\nallow-local = [\"1000\"]\n";
    let mut w = with(text);
    w.ipcp("udp0", "net");
    w.obey();
    for (address, allowed) in [
        ("10.0.0.1:7", false),
        ("127.0.0.1:7", false),
        ("[::1]:7", false),
        ("[::ffff:127.0.0.1]:7", false),
        ("10.0.0.2:7", true),
    ] {
        assert_eq!(from(&mut w, "web", address, true, false).is_none(), allowed, "{address}");
    }
    // Where any user may, there is nothing to get around.
    let mut w = with(&text.replace("1000", "any"));
    w.ipcp("udp0", "net");
    w.obey();
    assert_eq!(from(&mut w, "web", "127.0.0.1:7", true, false), None);
}

#[test]
fn one_prefix_of_peers_has_its_share_of_flows_and_no_more() {
    let quotas = Quotas { prefix: 3, ..Quotas::default() };
    let mut w = World::with(Settings { uid: 500, quotas, ..Settings::default() });
    w.server(10, "echo");
    w.ipcp("udp0", "net");
    w.obey();
    let arrive = |w: &mut World, address: &str| {
        let Command::FlowReqArr(request) = arrival("echo", "net") else { unreachable!() };
        let request = v1::FlowReqArrRequest { peer_address: address.into(), proven: true, ..request };
        w.call(ROOT, Command::FlowReqArr(request))
    };
    let mut flows = Vec::new();
    for address in ["192.0.2.1:1", "192.0.2.1:2", "192.0.2.99:1"] {
        w.accept(10, "echo", false);
        let call = arrive(&mut w, address);
        match w.reply(call) {
            Some(Reply::Accepted(reply)) => flows.push(reply.flow_id),
            other => panic!("{other:?}"),
        }
    }
    let call = arrive(&mut w, "192.0.2.7:1");
    let failure = w.failure(call);
    assert!(failure.kind() == FailureKind::Exhausted && failure.message.contains("192.0.2.0/24"), "{failure:?}");
    assert_eq!(w.irm.refused["refused_flows_per_prefix"], 1);
    // Its neighbours are none the worse, and what ends is given back.
    let call = arrive(&mut w, "192.0.3.1:1");
    assert!(w.reply(call).is_none());
    w.cancel(call);
    let ended = v1::FlowEndedRequest { ipcp: "udp0".into(), flow_id: flows[0], ..Default::default() };
    w.answer(ROOT, Command::FlowEnded(ended));
    let call = arrive(&mut w, "192.0.2.7:1");
    assert!(w.reply(call).is_none());
    w.cancel(call);
    for flow in &flows[1..] {
        let ended = v1::FlowEndedRequest { ipcp: "udp0".into(), flow_id: *flow, ..Default::default() };
        w.answer(ROOT, Command::FlowEnded(ended));
    }
    assert!(w.irm.flows.users().is_empty(), "nothing is left behind");
}

proptest::proptest! {
    /// However rules stand: a claimed address opens no more than a proven one, an empty list nothing, and deciding is total.
    #[test]
    fn judging_addresses_is_total_and_closed(
        allow in proptest::option::of(proptest::collection::vec(0_u8..=32, 0..4)),
        deny in proptest::option::of(proptest::collection::vec(0_u8..=32, 0..4)),
        bits in proptest::prelude::any::<[u32; 4]>(),
        at in proptest::prelude::any::<u32>(),
    ) {
        let range = |(n, length): (usize, &u8)| {
            let net = ipnet::Ipv4Net::new(bits[n % 4].into(), *length).unwrap().trunc();
            crate::config::Range::Net(net.into())
        };
        let ranges = |lengths: &Option<Vec<u8>>| lengths.as_ref().map(|l| l.iter().enumerate().map(range).collect::<Vec<_>>());
        let rules = crate::config::Rules { allow_remote: ranges(&allow), deny_remote: ranges(&deny), ..Default::default() };
        let mut entry = name::Entry::new(name::Policy::default(), name::Origin::Runtime, 0);
        entry.rules = rules.clone();
        let patterns = Patterns::default();
        let about = About::new("x", Some(&entry), &patterns, 0);
        let address = std::net::Ipv4Addr::from(at);
        let stranger = |proven| Stranger { address: Some(address.into()), proven, ours: false };
        let (proven, claimed) = (about.allocate_from(&stranger(true)), about.allocate_from(&stranger(false)));
        proptest::prop_assert!(proven.allowed || !claimed.allowed);
        // The naive reading: the longest prefix of both lists that contains the address.
        let best = |list: &Option<Vec<crate::config::Range>>| {
            list.iter().flatten().filter_map(|range| match range {
                crate::config::Range::Net(net) if net.contains(&std::net::IpAddr::from(address)) => Some(net.prefix_len()),
                _ => None,
            }).max()
        };
        let want = match (best(&rules.allow_remote), best(&rules.deny_remote)) {
            (None, None) => rules.allow_remote.is_none(),
            (Some(a), Some(d)) => a > d,
            (a, _) => a.is_some(),
        };
        proptest::prop_assert_eq!(proven.allowed, want);
    }
}
