//! Middleboxes: each a namespace with `eth0` outside and a switch inside.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};

use crate::io::conntrack;
use crate::machine::middlebox::Middlebox;
use crate::machine::ruleset::{hairpin, ruleset};
use crate::net::{Namespace, inside, ip, nft, settings};
use crate::switch::{Place, Switch};

/// A place for hosts behind a middlebox.
pub(crate) struct Inside {
    pub(crate) switch: Arc<Switch>,
    /// How others reach the hosts: the outermost box; none where hosts keep addresses of their own.
    pub(crate) public: Option<Ipv4Addr>,
    /// Of the innermost box.
    pub(crate) gateway: Ipv4Addr,
    /// All boxes that remember flows, the host's first.
    pub(crate) boxes: Vec<Memory>,
}

/// A box as one that remembers.
#[derive(Clone)]
pub(crate) struct Memory {
    namespace: Namespace,
    kind: Arc<Mutex<Middlebox>>,
    /// Its address outside, and the host that ports are forwarded to.
    public: Ipv4Addr,
    server: Ipv4Addr,
    forwarded: Vec<RangeInclusive<u16>>,
}

impl Memory {
    /// Where it is.
    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// As after a restart: no flow is known any more.
    pub(crate) fn forget(&self) -> Result<()> {
        let kind = self.kind();
        if kind.remembers_senders() {
            nft(&self.namespace, "flush map ip box senders")?;
        }
        let forgotten = inside(Some(&self.namespace), conntrack::forget_all)?;
        forgotten.with_context(|| format!("making a {kind} middlebox forget"))
    }

    fn kind(&self) -> Middlebox {
        *self.kind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is of another kind from now on; what it remembers of flows stays.
    pub(crate) fn become_kind(&self, kind: Middlebox) -> Result<()> {
        let before = self.kind();
        ensure!(
            before.boxes().len() == 1 && kind.boxes().len() == 1 && before.translates() == kind.translates(),
            "a {before} middlebox cannot become a {kind} one: addresses would be others"
        );
        let gone = if before.needs_nft() { "delete table ip box\n" } else { "" };
        let rules = ruleset(kind, self.public, self.server, &self.forwarded).unwrap_or_default();
        nft(&self.namespace, &format!("{gone}{rules}"))?;
        *self.kind.lock().unwrap_or_else(PoisonError::into_inner) = kind;
        Ok(())
    }
}

/// A middlebox that is to be.
pub(crate) struct Plan<'a> {
    pub(crate) kind: Middlebox,
    /// Its number, and so its address, on the lab's switch.
    pub(crate) number: u8,
    /// Its address there.
    pub(crate) outer: Ipv4Addr,
    /// The address of the host that ports are forwarded to.
    pub(crate) server: Ipv4Addr,
    pub(crate) forwarded: &'a [RangeInclusive<u16>],
    /// Addresses of the lab's switch that are behind the box, where it does not translate.
    pub(crate) owned: &'a [Ipv4Addr],
    /// Hosts behind a full cone reach each other at its outer address.
    pub(crate) hairpin: bool,
}

/// Where the hosts behind box `number` are.
pub(crate) fn inner_address(number: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, number, host)
}

impl Plan<'_> {
    /// Makes the boxes, the outermost first.
    pub(crate) fn build(&self, outside: &Arc<Switch>) -> Result<Inside> {
        let outer = self.outer;
        let carrier = Ipv4Addr::new(100, 64, self.number, 1);
        let home = Ipv4Addr::new(100, 64, self.number, 2);
        let inner = inner_address(self.number, 1);
        let (switch, boxes) = match self.kind.boxes()[..] {
            [single] => {
                let (switch, memory) = self.one(single, outside, (self.number, outer, None), inner, self.server)?;
                (switch, vec![memory])
            }
            [first, second] => {
                let (middle, far) = self.one(second, outside, (self.number, outer, None), carrier, home)?;
                let (switch, near) = self.one(first, &middle, (2, home, Some(carrier)), inner, self.server)?;
                (switch, vec![near, far])
            }
            _ => unreachable!("a middlebox is one box or two"),
        };
        Ok(Inside { switch, public: self.kind.translates().then_some(outer), gateway: inner, boxes })
    }

    /// One box: its number, address and gateway outside, its address inside, and whom it forwards to.
    pub(crate) fn one(
        &self,
        kind: Middlebox,
        outside: &Switch,
        (number, address, gateway): (u8, Ipv4Addr, Option<Ipv4Addr>),
        gateway_inside: Ipv4Addr,
        server: Ipv4Addr,
    ) -> Result<(Arc<Switch>, Memory)> {
        let place = Place { number, addresses: &[(IpAddr::V4(address), 24)], gateway };
        let namespace = outside.attach(&place)?;
        let switch = Switch::of_box(namespace.clone(), gateway_inside)?;
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
        if self.hairpin {
            ensure!(kind == Middlebox::FullCone, "of middleboxes only a full cone can hairpin");
            nft(&namespace, &hairpin(address, gateway_inside))?;
            // To hosts of one network it would say that they reach each other directly.
            settings(&namespace, &[("ipv4/conf/all/send_redirects", "0"), ("ipv4/conf/sw/send_redirects", "0")])?;
        }
        let (kind, forwarded) = (Arc::new(Mutex::new(kind)), self.forwarded.to_vec());
        Ok((Arc::new(switch), Memory { namespace, kind, public: address, server, forwarded }))
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
