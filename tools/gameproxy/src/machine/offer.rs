//! What client sides are told of the rules, and what they take of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::front::Front;
use super::matching;
use super::names::Names;
pub use crate::said::offer::{Offer, Offered};
use crate::said::rule::{Access, Host, Net, Rules};

impl Offer {
    /// What is known of the rules: host names are their addresses, and what hangs on one that is not known is left out.
    pub fn of(rules: &Rules, names: &Names) -> Self {
        let addresses = |host: &Host| names.addresses(host).to_vec();
        let each = |entry: &Access| -> Vec<Access> {
            let one =
                |ip: IpAddr| Access { from: Net { host: Host::Address(ip), mask: entry.from.mask }, ..entry.clone() };
            addresses(&entry.from.host).into_iter().map(one).collect()
        };
        let offered = rules.redirects.iter().filter_map(|redirect| {
            let on = redirect.on.as_ref().map_or_else(Vec::new, addresses);
            let unknown = redirect.on.is_some() && on.is_empty();
            let offered = Offered { port: redirect.from.port, on, from: addresses(&redirect.from.host) };
            (!unknown && !offered.from.is_empty()).then_some(offered)
        });
        Self { access: rules.access.iter().flat_map(each).collect(), redirects: offered.collect() }
    }

    /// What of it is for the machine that has these addresses, its own and the one that it is seen at. Who has no address of its
    /// own takes what is for any.
    pub fn front(&self, machine: &[IpAddr]) -> Front {
        let mut ports: Vec<SocketAddr> = Vec::new();
        for redirect in &self.redirects {
            let whose = if redirect.on.is_empty() { &redirect.from } else { &redirect.on };
            if !whose.iter().any(|ip| ip.is_unspecified() || matching::among(machine, *ip)) {
                continue;
            }
            for ip in &redirect.from {
                let own = ip.is_unspecified() || matching::among(machine, *ip);
                match (own, redirect.on.is_empty()) {
                    (true, _) => ports.push(SocketAddr::new(ip.to_canonical(), redirect.port)),
                    // What players send to is a router's: its datagrams come to whatever address this machine has.
                    (false, false) => ports.push(SocketAddr::from((Ipv4Addr::UNSPECIFIED, redirect.port))),
                    (false, true) => {}
                }
            }
        }
        ports.sort_unstable();
        ports.dedup();
        // A port of all addresses is one of each.
        let all = |port: u16, v6: bool| {
            move |at: &SocketAddr| at.port() == port && at.ip().is_unspecified() && (at.is_ipv6() || !v6)
        };
        let covered = |at: &SocketAddr| match at.ip().is_unspecified() {
            true => at.is_ipv4() && ports.iter().any(|other| other.is_ipv6() && all(at.port(), true)(other)),
            false => ports.iter().any(all(at.port(), at.is_ipv6())),
        };
        let kept = ports.iter().filter(|at| !covered(at)).copied().collect();
        Front { access: self.access.clone(), ports: kept }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::said::grammar;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_machine_takes_what_is_for_it() {
        let text = "global allow lan/255.255.255.0 global deny unknown global deny *
            redirect 10.0.0.1 port 1 to a.b 9
            redirect 10.0.0.2 port 2 to a.b 9
            on gw redirect 10.0.0.1 port 3 to a.b 9
            on 10.0.0.1 redirect 192.0.2.1 port 4 to a.b 9
            on 10.0.0.2 redirect 10.0.0.1 port 5 to a.b 9
            redirect * port 6 to a.b 9
            redirect 10.0.0.1 port 6 to a.b 9
            redirect unknown port 7 to a.b 9
            on unknown redirect 10.0.0.1 port 8 to a.b 9
            redirect fd00::1 port 9 to a.b 9
            redirect :: port 1 to a.b 9";
        let rules = grammar::parse(text).unwrap().0;
        let mut names = Names::default();
        names.learn("lan", &[ip("10.1.0.0"), ip("10.2.0.0")]);
        names.learn("gw", &[ip("203.0.113.1")]);
        let offer = Offer::of(&rules, &names);
        assert_eq!((offer.access.len(), offer.redirects.len()), (3, 9));
        assert_eq!(Offer::parse(&offer.bytes()).unwrap().bytes(), offer.bytes());
        let ports = |machine: &[&str]| {
            let machine: Vec<IpAddr> = machine.iter().map(|text| ip(text)).collect();
            offer.front(&machine).ports.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(ports(&[]), ["0.0.0.0:6", "[::]:1"]);
        assert_eq!(ports(&["10.0.0.1"]), ["0.0.0.0:4", "0.0.0.0:6", "[::]:1"]);
        assert_eq!(ports(&["10.0.0.1", "203.0.113.1"]), ["0.0.0.0:4", "0.0.0.0:6", "10.0.0.1:3", "[::]:1"]);
        assert_eq!(ports(&["::ffff:10.0.0.2"]), ["0.0.0.0:5", "0.0.0.0:6", "10.0.0.2:2", "[::]:1"]);
        assert_eq!(ports(&["fd00::1"]), ["0.0.0.0:6", "[::]:1", "[fd00::1]:9"]);
        let front = offer.front(&[]);
        assert!(front.lets("10.2.0.77:5".parse().unwrap()) && !front.lets("10.3.0.77:5".parse().unwrap()));
    }
}
