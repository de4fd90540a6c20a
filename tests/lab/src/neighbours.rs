//! Hosts that share an outer address and do not reach each other inside: only a box that hairpins (RFC 4787, section 6) lets them
//! meet.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};

use crate::router::{self, Inside};
use crate::{Host, Lab, Middlebox};

impl Lab {
    /// Hosts of one network that does not let them speak to each other (a café's, say), behind one full cone. No
    /// [`link`](Host::link) can be put before these: it would join them.
    pub fn hosts_apart<const N: usize>(&self, names: [impl AsRef<str>; N], hairpin: bool) -> Result<[Host; N]> {
        let (switch, number) = (self.outside()?, self.number()?);
        let server = router::inner_address(number, 2);
        let outer = self.outer(number);
        let plan =
            router::Plan { kind: Middlebox::FullCone, number, outer, server, forwarded: &[], owned: &[], hairpin };
        let inside = plan.build(switch).context("a middlebox for hosts that are apart")?;
        let hosts = (2_u8..).zip(names).map(|(host, name)| {
            let placed = self.place(&inside, host, name.as_ref(), router::inner_address(number, host), 24)?;
            inside.switch.isolate(host)?;
            Ok(placed)
        });
        all(hosts.collect::<Result<Vec<_>>>()?)
    }

    /// Hosts in homes of their own, each behind its box of `kind`; and all homes behind one full cone of their carrier. All have the
    /// same address at home.
    pub fn homes<const N: usize>(
        &self,
        names: [impl AsRef<str>; N],
        kind: Middlebox,
        hairpin: bool,
    ) -> Result<[Host; N]> {
        let (switch, number) = (self.outside()?, self.number()?);
        let outer = self.outer(number);
        let address = |last| Ipv4Addr::new(100, 64, number, last);
        let plan = router::Plan { kind, number, outer, server: address(2), forwarded: &[], owned: &[], hairpin };
        let carrier = (number, outer, None);
        let (middle, far) = plan.one(Middlebox::FullCone, switch, carrier, address(1), address(2))?;
        let plan = router::Plan { hairpin: false, ..plan };
        let hosts = (2_u8..).zip(names).map(|(home, name)| {
            let inner = router::inner_address(number, 1);
            let host = router::inner_address(number, 2);
            let (switch, near) = plan.one(kind, &middle, (home, address(home), Some(address(1))), inner, host)?;
            let boxes = vec![near, far.clone()];
            let inside = Inside { switch, public: Some(outer), gateway: inner, boxes };
            self.place(&inside, 2, name.as_ref(), host, 24)
        });
        all(hosts.collect::<Result<Vec<_>>>()?)
    }
}

fn all<const N: usize>(hosts: Vec<Host>) -> Result<[Host; N]> {
    Ok(hosts.try_into().unwrap_or_else(|_| unreachable!("as many hosts as names")))
}
