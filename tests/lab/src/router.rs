//! Middleboxes: each a namespace with `eth0` outside and a switch inside.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use anyhow::{Result, ensure};

use crate::machine::middlebox::Middlebox;
use crate::machine::ruleset::ruleset;
use crate::net::{ip, nft, settings};
use crate::switch::{Place, Switch};

/// A place for hosts behind a middlebox.
pub(crate) struct Inside {
    pub(crate) switch: Arc<Switch>,
    /// How others reach the hosts: the outermost box; none where hosts keep addresses of their own.
    pub(crate) public: Option<Ipv4Addr>,
    /// Of the innermost box.
    pub(crate) gateway: Ipv4Addr,
}

/// A middlebox that is to be.
pub(crate) struct Plan<'a> {
    pub(crate) kind: Middlebox,
    /// Its number, and so its address, on the lab's switch.
    pub(crate) number: u8,
    /// The address of the host that ports are forwarded to.
    pub(crate) server: Ipv4Addr,
    pub(crate) forwarded: &'a [RangeInclusive<u16>],
    /// Addresses of the lab's switch that are behind the box, where it does not translate.
    pub(crate) owned: &'a [Ipv4Addr],
}

/// Where the hosts behind box `number` are.
pub(crate) fn inner_address(number: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, number, host)
}

impl Plan<'_> {
    /// Makes the boxes, the outermost first.
    pub(crate) fn build(&self, outside: &Arc<Switch>) -> Result<Inside> {
        let outer = Ipv4Addr::new(10, 0, 0, self.number);
        let carrier = Ipv4Addr::new(100, 64, self.number, 1);
        let home = Ipv4Addr::new(100, 64, self.number, 2);
        let inner = inner_address(self.number, 1);
        let switch = match self.kind.boxes()[..] {
            [single] => self.one(single, outside, (self.number, outer, None), inner, self.server)?,
            [first, second] => {
                let middle = self.one(second, outside, (self.number, outer, None), carrier, home)?;
                self.one(first, &middle, (2, home, Some(carrier)), inner, self.server)?
            }
            _ => unreachable!("a middlebox is one box or two"),
        };
        Ok(Inside { switch, public: self.kind.translates().then_some(outer), gateway: inner })
    }

    /// One box: its number, address and gateway outside, its address inside, and whom it forwards to.
    fn one(
        &self,
        kind: Middlebox,
        outside: &Switch,
        (number, address, gateway): (u8, Ipv4Addr, Option<Ipv4Addr>),
        inside: Ipv4Addr,
        server: Ipv4Addr,
    ) -> Result<Arc<Switch>> {
        let place = Place { number, addresses: &[(IpAddr::V4(address), 24)], gateway };
        let namespace = outside.attach(&place)?;
        let switch = Switch::of_box(namespace.clone(), inside)?;
        settings(&namespace, &[("ipv4/ip_forward", "1")])?;
        if !self.owned.is_empty() {
            // It answers on the switch for the addresses behind it, without the usual pause.
            settings(&namespace, &[("ipv4/conf/eth0/proxy_arp", "1"), ("ipv4/neigh/eth0/proxy_delay", "0")])?;
            let routes: Vec<_> = self.owned.iter().map(|owned| format!("route add {owned}/32 dev sw")).collect();
            ip(&namespace, &routes)?;
            self.owned.iter().for_each(|owned| outside.also(number, *owned));
        }
        if let Some(rules) = ruleset(kind, address, server, self.forwarded) {
            nft(&namespace, &rules)?;
        }
        Ok(Arc::new(switch))
    }
}

/// Whether middleboxes can be made here: `nft` is installed and this kernel has what the rules use.
pub(crate) fn probe() -> Result<()> {
    let namespace = crate::net::new_namespace("a trial of nft")?;
    for kind in Middlebox::ALL {
        for single in kind.boxes() {
            if let Some(rules) = ruleset(single, inner_address(1, 1), inner_address(1, 2), &[1..=2]) {
                nft(&namespace, &format!("{rules}delete table ip box"))?;
            }
        }
    }
    Ok(())
}

/// Ports that make sense.
pub(crate) fn check(forwarded: &[RangeInclusive<u16>]) -> Result<()> {
    for range in forwarded {
        ensure!(
            !range.is_empty() && *range.start() > 0,
            "forwarded ports {}-{} are no range; give the smaller first, from 1 on",
            range.start(),
            range.end()
        );
    }
    Ok(())
}
