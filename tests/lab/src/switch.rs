//! A bridge in a namespace, a veth pair to each host on it; and how a link comes between.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::io::emulator::Emulator;
use crate::io::offload;
use crate::io::packet::PacketSocket;
use crate::net::{Namespace, inside, ip, ip_says, keep_rules_off_bridges, new_namespace, path};
use crate::wait_until;

/// Links of many labs may come up at once, and the kernel takes its time.
const CARRIER: Duration = Duration::from_secs(20);

/// A bridge `sw` that hosts are attached to.
pub(crate) struct Switch {
    namespace: Namespace,
    members: Mutex<Vec<Member>>,
}

/// One who answers for addresses on a switch.
struct Member {
    number: u8,
    namespace: Namespace,
    device: &'static str,
    addresses: Vec<IpAddr>,
    /// A link is between it and the switch.
    has_link: bool,
}

/// What a new host or box on a switch gets.
pub(crate) struct Place<'a> {
    /// Its number on the switch.
    pub(crate) number: u8,
    /// Its addresses with the lengths of their prefixes.
    pub(crate) addresses: &'a [(IpAddr, u8)],
    /// Where everything else is sent.
    pub(crate) gateway: Option<Ipv4Addr>,
}

impl Switch {
    pub(crate) fn new() -> Result<Self> {
        Self::within(new_namespace("the switch")?)
    }

    /// A bridge in a namespace that is there.
    fn within(namespace: Namespace) -> Result<Self> {
        // No snooping: neighbour discovery must work before anybody joined a group.
        let bridge = format!("link add sw address {} type bridge stp_state 0 forward_delay 0 mcast_snooping 0", mac(0));
        ip(&namespace, &[&bridge, "link set sw up"])?;
        keep_rules_off_bridges(&namespace)?;
        Ok(Self { namespace, members: Mutex::new(Vec::new()) })
    }

    /// A switch inside a box: the box has `gateway` on it.
    pub(crate) fn of_box(namespace: Namespace, gateway: Ipv4Addr) -> Result<Self> {
        let switch = Self::within(namespace.clone())?;
        ip(&namespace, &[format!("address add {gateway}/24 dev sw")])?;
        switch.join(Member { number: 0, namespace, device: "sw", addresses: vec![gateway.into()], has_link: false })?;
        Ok(switch)
    }

    /// A new network namespace with `eth0` on this switch.
    pub(crate) fn attach(&self, place: &Place<'_>) -> Result<Namespace> {
        let host = new_namespace("a host")?;
        let (number, mac) = (place.number, mac(place.number));
        let port = format!("port{number}");
        let peer = format!("link add {port} type veth peer name eth0 address {mac} netns {}", path(&host));
        ip(&self.namespace, &[peer, format!("link set {port} master sw txqueuelen 10000 up")])?;
        let mut lines = vec!["link set lo up".to_owned(), "link set eth0 txqueuelen 10000 up".to_owned()];
        for (address, prefix) in place.addresses {
            // Without duplicate detection it can be bound at once.
            let nodad = if address.is_ipv6() { " nodad" } else { "" };
            lines.push(format!("address add {address}/{prefix} dev eth0{nodad}"));
        }
        if let Some(gateway) = place.gateway {
            // Also from an address that is not of the gateway's network.
            lines.push(format!("route add {gateway}/32 dev eth0"));
            lines.push(format!("route add default via {gateway}"));
        }
        ip(&host, &lines)?;
        // The kernel tells the bridge of a new carrier when it has time for it; what is sent before is lost.
        wait_until(CARRIER, "a port of the switch to forward", || {
            ip_says(&self.namespace, &port).is_ok_and(|said| said.contains("state forwarding"))
        })?;
        let addresses = place.addresses.iter().map(|(address, _)| *address).collect();
        self.join(Member { number, namespace: host.clone(), device: "eth0", addresses, has_link: false })?;
        Ok(host)
    }

    /// Member `number` answers for one more address.
    pub(crate) fn also(&self, number: u8, address: Ipv4Addr) {
        let mut members = self.lock();
        if let Some(member) = members.iter_mut().find(|member| member.number == number) {
            member.addresses.push(address.into());
        }
    }

    /// Member `number` and others that are isolated, too, do not reach each other.
    pub(crate) fn isolate(&self, number: u8) -> Result<()> {
        ip(&self.namespace, &[format!("link set port{number} type bridge_slave isolated on")])
    }

    /// Puts a link between member `number` and the switch: `eth0` ═ port ─link─ mid ═ up on the bridge.
    pub(crate) fn interpose(&self, name: &str, number: u8) -> Result<Emulator> {
        self.introduce(number)?;
        let (port, mid, up) = (format!("port{number}"), format!("mid{number}"), format!("up{number}"));
        let lines = [
            format!("link set {port} nomaster addrgenmode none"),
            format!("link add {mid} type veth peer name {up}"),
            format!("link set {mid} addrgenmode none txqueuelen 10000 up"),
            format!("link set {up} master sw txqueuelen 10000 up"),
        ];
        ip(&self.namespace, &lines)?;
        let host = self.namespace_of(number)?;
        inside(Some(&host), || offload::switch_off("eth0"))?.context("offloads of eth0")?;
        let open = || {
            offload::switch_off(&up)?;
            Ok::<_, std::io::Error>([PacketSocket::open(&port)?, PacketSocket::open(&mid)?])
        };
        let sockets = inside(Some(&self.namespace), open)?.context("packet sockets of a link")?;
        Emulator::start(name, sockets)
    }

    /// Member `number` and all others know each other's hardware addresses: no packet waits for a question that a bad
    /// link loses.
    fn introduce(&self, number: u8) -> Result<()> {
        let mut members = self.lock();
        let at = members.iter().position(|member| member.number == number).context("a member of the switch")?;
        members[at].has_link = true;
        for other in members.iter().filter(|other| other.number != number) {
            know(other, &members[at])?;
            know(&members[at], other)?;
        }
        Ok(())
    }

    fn join(&self, new: Member) -> Result<()> {
        let mut members = self.lock();
        for other in members.iter().filter(|other| other.has_link) {
            know(other, &new)?;
            know(&new, other)?;
        }
        members.push(new);
        Ok(())
    }

    fn namespace_of(&self, number: u8) -> Result<Namespace> {
        let members = self.lock();
        let member = members.iter().find(|member| member.number == number).context("a member of the switch")?;
        Ok(member.namespace.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `one` learns where `other` is.
fn know(one: &Member, other: &Member) -> Result<()> {
    let lines: Vec<String> = other
        .addresses
        .iter()
        .map(|address| format!("neigh replace {address} lladdr {} nud permanent dev {}", mac(other.number), one.device))
        .collect();
    ip(&one.namespace, &lines)
}

/// The hardware address of member `number` of any switch; 0 is the switch itself.
fn mac(number: u8) -> String {
    format!("02:00:00:00:00:{number:02x}")
}
