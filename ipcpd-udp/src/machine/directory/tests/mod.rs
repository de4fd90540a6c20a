//! Answers and updates, as values; [`calendar`]: registrations.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use proto::HostId;

use super::answer::{Asked, From, Host, MOST_HOSTS, Records, Service, hosts};
use super::claim::{Claim, Key};
use super::plan::{Aim, Own, Standing, Update, plan};
use crate::machine::tests::{addr, name, origin};

mod calendar;

const WALL: u64 = 1_000_000;

fn strings(text: &str) -> Vec<Vec<u8>> {
    text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

fn ips(text: &str) -> Vec<IpAddr> {
    text.split_whitespace().map(|ip| ip.parse().unwrap()).collect()
}

fn service(priority: u16, port: u16, target: &str, addresses: &str) -> Service {
    Service { priority, weight: 0, port, target: target.into(), addresses: ips(addresses) }
}

/// `address from` of the hosts a flow may go to, then those it may not, with why.
fn judged(own: &str, texts: &[&str], services: &[Service], addresses: &str) -> Vec<String> {
    let records = Records {
        texts: texts.iter().map(|text| strings(text)).collect(),
        services: services.to_vec(),
        addresses: ips(addresses),
    };
    let asked = Asked { name: &name("echo"), domain: "echo.z", own: addr(own), wall: WALL, now: origin() };
    let word = |host: Host| {
        let from = match host.from {
            From::Claim => "txt",
            From::Service => "srv",
            From::Address => "a",
        };
        match host.ignored {
            None => format!("{} {from}", host.at),
            Some(why) => format!("not {}: {why}", host.at),
        }
    };
    hosts(&records, asked).into_iter().map(word).collect()
}

const OWN: &str = "10.0.0.1:3359";

#[test]
fn what_an_administrator_writes_by_hand_lasts() {
    assert_eq!(judged(OWN, &[], &[], "10.0.0.2 10.0.0.3"), ["10.0.0.2:3359 a", "10.0.0.3:3359 a"]);
    assert_eq!(judged(OWN, &["v=spf1 -all"], &[], "10.0.0.2"), ["10.0.0.2:3359 a"]);
    let here = service(0, 3400, "echo.z", "");
    assert_eq!(judged(OWN, &[], &[here], "10.0.0.2"), ["10.0.0.2:3400 srv"]);
    let there = service(5, 3401, "host.z", "10.0.0.7 10.0.0.8");
    let want = ["10.0.0.7:3401 srv", "10.0.0.8:3401 srv"];
    assert_eq!(judged(OWN, &[], std::slice::from_ref(&there), "10.0.0.2"), want);
    // "There is no such service" (RFC 2782).
    assert!(judged(OWN, &[], &[service(0, 0, "", "")], "10.0.0.2").is_empty());
    assert_eq!(judged(OWN, &["v=flow1 addr=10.0.0.9"], &[there], ""), ["10.0.0.9:3359 txt", want[0], want[1]]);
}

#[test]
fn a_claim_speaks_for_its_address() {
    let live = "v=flow1 name=echo host=2 addr=10.0.0.2 port=3359 exp=1000001";
    let void = "v=flow1 name=echo host=3 addr=10.0.0.3 port=3400 exp=1000000";
    let other = "v=flow1 name=echo.z host=4 addr=10.0.0.4 port=3359 exp=1000001";
    assert_eq!(judged(OWN, &[live], &[], "10.0.0.2"), ["10.0.0.2:3359 txt"]);
    // Neither the address nor the service of a void claim is an administrator's.
    let port = service(0, 3400, "echo.z", "");
    let want = ["not 10.0.0.3:3400: its record is void: the host did not refresh it"];
    assert_eq!(judged(OWN, &[void], std::slice::from_ref(&port), "10.0.0.3"), want);
    assert_eq!(judged(OWN, &[void, live], &[port], "10.0.0.3 10.0.0.2"), [want[0], "10.0.0.2:3359 txt"]);
    // Of another name with the same domain name.
    assert!(judged(OWN, &[other], &[], "10.0.0.4").is_empty());
    // What stood there before the host came stands there after it is gone.
    let kept = format!("{void} kept=1").replace("3400", "3359");
    assert_eq!(judged(OWN, &[&kept], &[], "10.0.0.3"), ["10.0.0.3:3359 a"]);
    // Old and new of one host, from two caches.
    assert_eq!(judged(OWN, &[&live.replace("1000001", "999999"), live], &[], ""), ["10.0.0.2:3359 txt"]);
}

const KEY: &str = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
const OTHER_KEY: &str = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// `address key` of the hosts a flow may go to, in order.
fn keys(texts: &[&str], addresses: &str) -> Vec<String> {
    let texts = texts.iter().map(|text| strings(text)).collect();
    let records = Records { texts, addresses: ips(addresses), ..Records::default() };
    let asked = Asked { name: &name("echo"), domain: "echo.z", own: addr(OWN), wall: WALL, now: origin() };
    let usable = hosts(&records, asked).into_iter().filter(|host| host.ignored.is_none());
    usable.map(|host| format!("{} {}", host.at, host.key.map_or("none".into(), |key| key.to_string()))).collect()
}

#[test]
fn a_claim_says_its_hosts_key() {
    let with = |ip: &str, exp: u64, key: &str| format!("v=flow1 name=echo addr={ip} exp={exp} {key}");
    let (two, three) = (with("10.0.0.2", WALL + 9, &format!("key={KEY}")), with("10.0.0.3", WALL + 9, ""));
    let want = [format!("10.0.0.2:3359 {KEY}"), "10.0.0.3:3359 none".to_owned()];
    assert_eq!(keys(&[&two, &three], "10.0.0.2 10.0.0.3"), want);
    // Its key changed, and some cache has the old record still: the later one counts, in whatever order.
    let later = with("10.0.0.2", WALL + 10, &format!("key={OTHER_KEY}"));
    for texts in [[&*two, &*later], [&*later, &*two]] {
        assert_eq!(keys(&texts, ""), [format!("10.0.0.2:3359 {OTHER_KEY}")]);
    }
    // What is no key keeps flows away, from the address that stands there, too: it is not the same as none.
    for bad in ["key=", "key=SHA256:short", "key=sha256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"] {
        let text = with("10.0.0.2", WALL + 9, bad);
        assert!(keys(&[&text], "10.0.0.2").is_empty(), "{bad}");
        let why = "not 10.0.0.2:3359: its record's key is no fingerprint (SHA256: and 43 characters)";
        assert_eq!(judged(OWN, &[&text], &[], "10.0.0.2"), [why], "{bad}");
    }
}

#[test]
fn a_host_publishes_its_key_and_another_one_when_it_changes() {
    let mut zone = Zone::default();
    for key in [None, Some(KEY), Some(OTHER_KEY), None] {
        let host = Own { key: key.map(|key| key.parse().unwrap()), ..own(2, "10.0.0.2:3400") };
        assert!(zone.apply(&plan(Aim::Publish, &host, &zone.standing, WALL).unwrap()));
        let [claim] = &zone.claims()[..] else { panic!("one record of a host") };
        assert_eq!(claim.key, host.key.map_or(Key::Unsaid, Key::Is));
    }
}

#[test]
fn addresses_that_no_flow_may_go_to() {
    let table = [
        (OWN, "0.0.0.0", "it is not the address of one host"),
        (OWN, "255.255.255.255", "it is not the address of one host"),
        (OWN, "224.0.0.1", "it is not the address of one host"),
        (OWN, "127.0.0.1", "it means another host on every host"),
        (OWN, "10.0.0.1", "it is this host"),
        (OWN, "fd00::1", "it is of the other IP version than the layer"),
        ("[fd00::1]:3359", "fe80::1", "it means another host on every host"),
        ("[fd00::1]:3359", "::ffff:10.0.0.2", "it means another host on every host"),
        ("[fd00::1]:3359", "ff02::1", "it is not the address of one host"),
        ("[fd00::1]:3359", "10.0.0.2", "it is of the other IP version than the layer"),
    ];
    for (own, ip, why) in table {
        let want = format!("not {}: {why}", SocketAddr::new(ip.parse().unwrap(), 3359));
        assert_eq!(judged(own, &[], &[], ip).join(" "), want, "{ip} for {own}");
        assert_eq!(judged(own, &[&format!("v=flow1 addr={ip}")], &[], ""), [want], "{ip} for {own}");
    }
    assert_eq!(judged("127.0.0.1:3359", &[], &[], "127.0.0.2"), ["127.0.0.2:3359 a"]);
    let port = "not 10.0.0.2:0: it is not the address of one host";
    assert_eq!(judged(OWN, &["v=flow1 addr=10.0.0.2 port=0"], &[], ""), [port]);
}

#[test]
fn a_server_that_names_thousands_is_cut_short() {
    let texts: Vec<String> = (0..10_000).map(|n| format!("v=flow1 addr=10.1.{}.{}", n / 256, n % 256)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    assert_eq!(judged(OWN, &texts, &[], "").len(), MOST_HOSTS);
}

/// A zone as its primary server has it.
#[derive(Clone, Debug, Default)]
struct Zone {
    standing: Standing,
}

impl Zone {
    /// As RFC 2136 §3 has it.
    fn apply(&mut self, update: &Update) -> bool {
        let set = |texts: &[Vec<Vec<u8>>]| texts.iter().cloned().collect::<BTreeSet<_>>();
        if set(&update.required) != set(&self.standing.texts) {
            return false;
        }
        self.standing.texts.retain(|text| !update.texts_out.contains(text));
        self.standing.addresses.retain(|ip| !update.addresses_out.contains(ip));
        self.standing.ports.retain(|port| !update.ports_out.contains(port));
        if let Some(text) = &update.text_in {
            let text: Vec<Vec<u8>> = text.iter().map(|string| string.clone().into_bytes()).collect();
            if !self.standing.texts.contains(&text) {
                self.standing.texts.push(text);
            }
        }
        self.standing.addresses.extend(update.address_in.filter(|ip| !self.standing.addresses.contains(ip)));
        self.standing.ports.extend(update.port_in.filter(|port| !self.standing.ports.contains(port)));
        true
    }

    fn claims(&self) -> Vec<Claim> {
        self.standing.texts.iter().filter_map(|text| Claim::decode(text).ok()).collect()
    }
}

fn own(host: u64, at: &str) -> Own {
    Own { name: name("echo"), host: HostId(host), at: addr(at), key: None, lifetime: 900, ttl: 60 }
}

#[test]
fn a_host_comes_refreshes_and_goes() {
    let mut zone = Zone::default();
    zone.standing.texts.push(strings("something else"));
    zone.standing.ports.push(1);
    let before = zone.clone();
    let host = own(2, "10.0.0.2:3400");
    for wall in [WALL, WALL + 300, WALL + 600] {
        assert!(zone.apply(&plan(Aim::Publish, &host, &zone.standing, wall).unwrap()));
        let claims = zone.claims();
        assert_eq!((claims.len(), claims[0].expires, claims[0].at), (1, Some(wall + 900), host.at));
        assert_eq!((&*zone.standing.addresses, &*zone.standing.ports), (&*ips("10.0.0.2"), &[1, 3400][..]));
    }
    assert!(zone.apply(&plan(Aim::Withdraw, &host, &zone.standing, WALL + 700).unwrap()));
    assert_eq!(zone.standing, before.standing);
    assert_eq!(plan(Aim::Withdraw, &host, &zone.standing, WALL + 700), None);
}

#[test]
fn what_two_hosts_share_stays_for_the_other() {
    // One machine with two shims, and another name with the same domain name.
    let (a, b) = (own(2, "10.0.0.2:3400"), own(2, "10.0.0.2:3401"));
    let c = Own { name: name("echo.z"), ..own(2, "10.0.0.2:3400") };
    let mut zone = Zone::default();
    for host in [&a, &b, &c] {
        assert!(zone.apply(&plan(Aim::Publish, host, &zone.standing, WALL).unwrap()));
    }
    assert_eq!((zone.claims().len(), zone.standing.addresses.len()), (3, 1));
    for (host, left) in [(&a, vec![3400, 3401]), (&c, vec![3401]), (&b, vec![])] {
        assert!(zone.apply(&plan(Aim::Withdraw, host, &zone.standing, WALL).unwrap()));
        assert_eq!(zone.standing.ports, left);
        assert_eq!(zone.standing.addresses.is_empty(), left.is_empty());
    }
    assert!(zone.standing.texts.is_empty());
}

#[test]
fn the_next_holder_of_the_key_removes_what_is_void() {
    let (dead, next) = (own(2, "10.0.0.2:3400"), own(3, "10.0.0.3:3359"));
    let mut zone = Zone::default();
    assert!(zone.apply(&plan(Aim::Publish, &dead, &zone.standing, WALL).unwrap()));
    let publish =
        |zone: &mut Zone, wall| assert!(zone.apply(&plan(Aim::Publish, &next, &zone.standing, wall).unwrap()));
    publish(&mut zone, WALL + 899);
    assert_eq!((zone.claims().len(), zone.standing.addresses.len()), (2, 2));
    // The address and the port go at once, the claim that says that they are void a TTL later.
    publish(&mut zone, WALL + 900);
    assert_eq!((zone.claims().len(), &*zone.standing.addresses), (2, &*ips("10.0.0.3")));
    assert!(zone.standing.ports.is_empty());
    publish(&mut zone, WALL + 959);
    assert_eq!(zone.claims().len(), 2);
    publish(&mut zone, WALL + 960);
    assert_eq!(zone.claims().len(), 1);
}

#[test]
fn an_administrators_records_are_left_alone() {
    let mut zone = Zone::default();
    zone.standing.addresses = ips("10.0.0.2 10.0.0.9");
    zone.standing.texts = vec![strings("v=flow1 addr=10.0.0.7")];
    let before = zone.clone();
    let host = own(2, "10.0.0.2:3359");
    for wall in [WALL, WALL + 5_000] {
        assert!(zone.apply(&plan(Aim::Publish, &host, &zone.standing, wall).unwrap()));
        assert!(zone.claims().iter().any(|claim| claim.kept));
    }
    assert!(zone.apply(&plan(Aim::Withdraw, &host, &zone.standing, WALL + 9_999).unwrap()));
    assert_eq!(zone.standing, before.standing);
}

proptest! {
    /// Hosts come and go, die, and write from what they read a while ago: nobody's live record is ever lost, and when the
    /// last has gone nothing of theirs is left.
    #[test]
    fn hosts_that_change_one_name_at_once(steps in prop::collection::vec((0usize..4, 0u8..4, 0u64..400), 1..60)) {
        let hosts = ["10.0.0.1:3359", "10.0.0.2:3359", "10.0.0.2:3400", "10.0.0.3:3401"];
        let hosts: Vec<Own> = hosts.iter().enumerate().map(|(n, at)| own(n as u64 / 2 + 1, at)).collect();
        let mut zone = Zone::default();
        let mut wall = WALL;
        // When each last wrote, if it is there; and what it read before it was held up.
        let mut there: [Option<u64>; 4] = [None; 4];
        let mut stale: [Option<(Aim, Update, u64)>; 4] = [const { None }; 4];
        for (who, what, wait) in steps {
            wall += wait;
            let aim = if what == 1 { Aim::Withdraw } else { Aim::Publish };
            let Some(update) = plan(aim, &hosts[who], &zone.standing, wall) else { continue };
            match what {
                // Reads now, writes later.
                2 => stale[who] = Some((aim, update, wall)),
                3 => if let Some((aim, update, read)) = stale[who].take()
                    && zone.apply(&update) { there[who] = (aim == Aim::Publish).then_some(read) },
                _ => {
                    prop_assert!(zone.apply(&update));
                    there[who] = (aim == Aim::Publish).then_some(wall);
                }
            }
            for (host, wrote) in hosts.iter().zip(&there) {
                let live = wrote.is_some_and(|at| wall < at + 900);
                let claim = zone.claims().into_iter().find(|claim| claim.at == host.at);
                let stands = claim.as_ref().is_some_and(|claim| claim.is_live(wall));
                prop_assert_eq!(live, stands, "{:?} at {}: {:?}", host, wall, zone);
                if live {
                    prop_assert!(zone.standing.addresses.contains(&host.at.ip()));
                    prop_assert!(host.at.port() == 3359 || zone.standing.ports.contains(&host.at.port()));
                }
            }
        }
        wall += 10_000;
        for host in hosts.iter().chain(&hosts) {
            for aim in [Aim::Publish, Aim::Withdraw] {
                if let Some(update) = plan(aim, host, &zone.standing, wall) {
                    prop_assert!(zone.apply(&update));
                }
            }
        }
        prop_assert_eq!(zone.standing, Standing::default());
    }
}
