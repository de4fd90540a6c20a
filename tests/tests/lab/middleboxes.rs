//! Each kind of middlebox is what it is called, in the words of RFC 4787.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use lab::{Behaviour, Host, Lab, Middlebox};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = cases![
        middleboxes:
        each_kind_maps_and_filters_as_it_is_called,
        sequential_ports_follow_each_other_and_random_ones_do_not,
        what_comes_unasked_does_not_take_a_port_away,
        forwarded_ports_reach_the_server_behind_every_kind,
        two_hosts_behind_one_box_share_its_address,
        a_box_that_forgot_lets_nobody_in_until_the_host_sends,
        neighbours_reach_each_other_by_hairpinning_only,
    ];
    cases.extend(cases![a_plain_router_needs_no_nft]);
    cases
}

const SOON: Duration = Duration::from_secs(5);

/// Two hosts with two sockets each: four endpoints, as a STUN server has them.
struct Endpoints([[UdpSocket; 2]; 2]);

impl Endpoints {
    fn up(lab: &Lab) -> Result<Self> {
        let [d, e] = lab.hosts(["d", "e"])?;
        let two = |host: &Host| Ok::<_, anyhow::Error>([host.socket(3478)?, host.socket(3479)?]);
        Ok(Self([two(&d)?, two(&e)?]))
    }

    fn all(&self) -> impl Iterator<Item = &UdpSocket> {
        self.0.iter().flatten()
    }
}

/// What `to` sees as the source of a datagram from `client`.
fn seen(client: &UdpSocket, to: &UdpSocket) -> Result<SocketAddr> {
    client.send_to(b"who am I", to.local_addr()?)?;
    let (_, from) = to.recv_from(&mut [0; 64]).context("nothing came through the middlebox")?;
    Ok(from)
}

/// On what the mapping of one port depends.
fn mapping(client: &UdpSocket, ends: &Endpoints) -> Result<Behaviour> {
    let mut by_address = Vec::new();
    for host in &ends.0 {
        by_address.push([seen(client, &host[0])?, seen(client, &host[1])?]);
    }
    // Asked again, it is the same: it is no accident.
    for (host, before) in ends.0.iter().zip(&by_address) {
        assert_eq!([seen(client, &host[0])?, seen(client, &host[1])?], *before);
    }
    let all: BTreeSet<_> = by_address.iter().flatten().collect();
    Ok(match all.len() {
        1 => Behaviour::EndpointIndependent,
        2 if by_address.iter().all(|[one, other]| one == other) => Behaviour::AddressDependent,
        _ => Behaviour::AddressAndPortDependent,
    })
}

/// Who is let in once `client` has sent to the first endpoint.
fn filtering(client: &UdpSocket, ends: &Endpoints) -> Result<Behaviour> {
    let [[asked, other_port], [other_address, _]] = &ends.0;
    let public = seen(client, asked)?;
    let mut heard = BTreeSet::new();
    for _ in 0..3 {
        other_address.send_to(b"address", public)?;
        other_port.send_to(b"port", public)?;
        // Sent last and let in for sure: what was let in came before it.
        asked.send_to(b"asked", public)?;
        loop {
            let mut bytes = [0; 64];
            let (length, _) = client.recv_from(&mut bytes).context("the answer did not come in")?;
            heard.insert(bytes[..length].to_vec());
            if &bytes[..length] == b"asked" {
                break;
            }
        }
    }
    Ok(match (heard.contains(&b"address"[..]), heard.contains(&b"port"[..])) {
        (true, true) => Behaviour::EndpointIndependent,
        (false, true) => Behaviour::AddressDependent,
        (false, false) => Behaviour::AddressAndPortDependent,
        (true, false) => anyhow::bail!("another address is let in, another port of the same is not"),
    })
}

fn each_kind_maps_and_filters_as_it_is_called() -> Result<()> {
    for kind in Middlebox::ALL {
        let lab = Lab::new()?;
        let ends = Endpoints::up(&lab)?;
        let c = lab.host_behind("c", kind)?;
        let found = (mapping(&c.socket(0)?, &ends)?, filtering(&c.socket(0)?, &ends)?);
        eprintln!("{kind}: mapping {:?}, filtering {:?}", found.0, found.1);
        ensure!(found == (kind.mapping(), kind.filtering()), "{kind} is {found:?}");
        let from = seen(&c.socket(0)?, &ends.0[0][0])?;
        ensure!(from.ip() == c.public(), "{kind}: seen as {from}, not {}", c.public());
        ensure!((c.public() != c.address()) == kind.translates(), "{kind}: {} {}", c.public(), c.address());
    }
    Ok(())
}

fn sequential_ports_follow_each_other_and_random_ones_do_not() -> Result<()> {
    let lab = Lab::new()?;
    let ends = Endpoints::up(&lab)?;
    let steps = |kind: Middlebox| -> Result<Vec<u16>> {
        let client = lab.host_behind(kind.name(), kind)?.socket(0)?;
        let ports = ends.all().map(|end| Ok(seen(&client, end)?.port())).collect::<Result<Vec<_>>>()?;
        Ok(ports.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect())
    };
    assert_eq!(steps(Middlebox::SymmetricSequential)?, [1, 1, 1]);
    ensure!(steps(Middlebox::SymmetricRandom)? != [1, 1, 1], "random ports in sequence");
    Ok(())
}

fn what_comes_unasked_does_not_take_a_port_away() -> Result<()> {
    let lab = Lab::new()?;
    let ends = Endpoints::up(&lab)?;
    for kind in [Middlebox::PortRestricted, Middlebox::AddressRestricted, Middlebox::FullCone] {
        let client = lab.host_behind(kind.name(), kind)?;
        let socket = client.socket(5000)?;
        // A hello to where the other is going to be, as in hole punching.
        let end = &ends.0[0][0];
        end.send_to(b"early", (client.public(), 5000))?;
        let from = seen(&socket, end)?;
        ensure!(from.port() == 5000, "{kind}: an early hello moved the port to {from}");
    }
    Ok(())
}

fn forwarded_ports_reach_the_server_behind_every_kind() -> Result<()> {
    for kind in Middlebox::ALL {
        let lab = Lab::new()?;
        let [a, b] = lab.hosts(["a", "b"])?;
        let s = lab.server_behind("s", kind, &[3359..=3359, 40000..=40009])?;
        let (listening, answering) = (s.socket(3359)?, s.socket(40003)?);
        for (from, port) in [(&a, 0), (&b, 0), (&a, 40003)] {
            let client = from.socket(port)?;
            client.send_to(b"request", s.shim())?;
            let (_, source) = listening.recv_from(&mut [0; 64]).with_context(|| format!("{kind}: no request"))?;
            answering.send_to(b"answer", source)?;
            let (_, answered) = client.recv_from(&mut [0; 64]).with_context(|| format!("{kind}: no answer"))?;
            assert_eq!(answered, SocketAddr::new(s.public(), 40003), "{kind}");
            client.send_to(b"data", answered)?;
            answering.recv_from(&mut [0; 64]).with_context(|| format!("{kind}: no data"))?;
        }
    }
    Ok(())
}

fn two_hosts_behind_one_box_share_its_address() -> Result<()> {
    let lab = Lab::new()?;
    let ends = Endpoints::up(&lab)?;
    for kind in Middlebox::ALL {
        let names = [format!("{kind}-c"), format!("{kind}-d")];
        let [c, d] = lab.hosts_behind([&names[0], &names[1]], kind)?;
        let (from_c, from_d) = (seen(&c.socket(5001)?, &ends.0[0][0])?, seen(&d.socket(5002)?, &ends.0[0][0])?);
        assert_eq!((from_c.ip(), from_d.ip()), (c.public(), d.public()), "{kind}");
        ensure!((from_c.ip() == from_d.ip()) == kind.translates(), "{kind}: {from_c} {from_d}");
        // Inside they see each other without the box.
        let there = d.socket(5003)?;
        let near = c.socket(5003)?;
        near.send_to(b"hello", there.local_addr()?)?;
        let (_, from) = there.recv_from(&mut [0; 64]).with_context(|| format!("{kind}: no neighbours"))?;
        assert_eq!(from, near.local_addr()?, "{kind}");
    }
    Ok(())
}

fn a_box_that_forgot_lets_nobody_in_until_the_host_sends() -> Result<()> {
    for kind in Middlebox::ALL {
        let lab = Lab::new()?;
        let ends = Endpoints::up(&lab)?;
        let (c, end) = (lab.host_behind("c", kind)?, &ends.0[0][0]);
        let client = c.socket(0)?;
        let before = seen(&client, end)?;
        c.forget_mappings()?;
        end.send_to(b"too late", before)?;
        let after = seen(&client, end)?;
        end.send_to(b"again", after)?;
        let mut bytes = [0; 64];
        let (length, _) = client.recv_from(&mut bytes)?;
        let first = String::from_utf8_lossy(&bytes[..length]).into_owned();
        let expected = if kind == Middlebox::Open { "too late" } else { "again" };
        ensure!(first == expected, "{kind}: {first:?} came first");
        let moves = matches!(
            kind,
            Middlebox::SymmetricSequential | Middlebox::SymmetricRandom | Middlebox::CarrierOverSymmetric
        );
        ensure!((before != after) == moves, "{kind}: {before}, then {after}");
    }
    Ok(())
}

fn a_plain_router_needs_no_nft() -> Result<()> {
    let lab = Lab::new()?;
    let [a] = lab.hosts(["a"])?;
    let c = lab.host_behind("c", Middlebox::Open)?;
    // Reached at its own address without having sent anything.
    let (here, there) = (a.socket(0)?, c.socket(3359)?);
    here.set_read_timeout(Some(SOON))?;
    here.send_to(b"hello", c.shim())?;
    let (_, from) = there.recv_from(&mut [0; 64])?;
    assert_eq!(from, here.local_addr()?);
    Ok(())
}

/// Hosts that are apart, and homes of one carrier: at the address that both are seen at, where the box hairpins; never inside.
fn neighbours_reach_each_other_by_hairpinning_only() -> Result<()> {
    for (hairpin, homes) in [(false, false), (true, false), (false, true), (true, true)] {
        let lab = Lab::new()?;
        let [outside] = lab.hosts(["outside"])?;
        let [a, b] = match homes {
            true => lab.homes(["a", "b"], Middlebox::PortRestricted, hairpin)?,
            false => lab.hosts_apart(["a", "b"], hairpin)?,
        };
        let what = format!("hairpin: {hairpin}, homes: {homes}");
        let (far, one, other) = (outside.socket(3478)?, a.socket(5001)?, b.socket(5002)?);
        let (seen_one, seen_other) = (seen(&one, &far)?, seen(&other, &far)?);
        ensure!(seen_one.ip() == a.public() && seen_other.ip() == a.public(), "{what}: {seen_one}, {seen_other}");
        // Both send, as behind two boxes: the first opens the way for the second's answer.
        let wait = Duration::from_millis(if hairpin { 5_000 } else { 300 });
        [&one, &other].into_iter().try_for_each(|socket| socket.set_read_timeout(Some(wait)))?;
        for (from, to) in [(&one, seen_other), (&other, seen_one)] {
            from.send_to(b"hello", to)?;
        }
        let came = [&one, &other].map(|socket| socket.recv_from(&mut [0; 64]).map(|(_, from)| from).ok());
        match hairpin {
            true => ensure!(came.contains(&Some(seen_one)) || came.contains(&Some(seen_other)), "{what}: {came:?}"),
            false => ensure!(came == [None, None], "{what}: {came:?}"),
        }
        if !homes {
            one.send_to(b"hello", (b.address(), 5002))?;
            other.set_read_timeout(Some(Duration::from_millis(300)))?;
            let inside =
                std::iter::from_fn(|| other.recv_from(&mut [0; 64]).ok()).any(|(_, from)| from.ip() == a.address());
            ensure!(!inside, "{what}: they reach each other inside");
        }
    }
    Ok(())
}
