//! Several ways between two hosts: a further address of each for each way, and a host between them that passes on what is
//! for others. Each packet comes to that host over its link and leaves over it: so its link is the way's, passed twice.

use std::net::Ipv4Addr;

use anyhow::Result;

use crate::Host;
use crate::net::{ip, settings};

impl Host {
    /// From its further address `own` this host reaches `far` through `router`; `own` is on this host from now on.
    pub fn goes_by(&self, router: &Host, own: Ipv4Addr, far: Ipv4Addr) -> Result<()> {
        let namespace = self.in_namespace()?;
        let via = router.address();
        ip(namespace, &[format!("address add {own}/32 dev eth0"), format!("route add {far} via {via} src {own}")])
    }

    /// It passes on what is for others, and tells nobody of a shorter way.
    pub fn passes_on(&self) -> Result<()> {
        let quiet = ["ipv4/conf/all/send_redirects", "ipv4/conf/eth0/send_redirects"].map(|key| (key, "0"));
        settings(self.in_namespace()?, &[&[("ipv4/ip_forward", "1")], &quiet[..]].concat())
    }
}
