//! Members behind NATs hear where the others are, meet, or are relayed.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::net::SOON;
use lab::{Deadline, Host, Lab, Middlebox};
use proto::rendezvous::{Bind, Bound, Refusal, Said};
use proto::{HostId, WireId};

use super::member::{Member, Server, meeting, seen_at, told};

/// Two members; the second has the name `bob.chat`.
fn members(server: &Server, hosts: [&Host; 2]) -> Result<[Member; 2]> {
    let mut alice = Member::new(hosts[0], server.at(), 1)?;
    let mut bob = Member::new(hosts[1], server.at(), 2)?.named(&["bob.chat"]);
    for (member, host) in [(&mut alice, hosts[0]), (&mut bob, hosts[1])] {
        let joined = member.join()?;
        ensure!(joined.public.ip() == host.public(), "{} is seen at {}", host.name(), joined.public);
    }
    Ok([alice, bob])
}

/// Their flows' sockets, once both know where the other is, and where that is; the attempt's nonce.
fn introduced(members: [&mut Member; 2], hosts: [&Host; 2]) -> Result<([Member; 2], [SocketAddr; 2], [u8; 16])> {
    let [alice, bob] = members;
    let mut cp = alice.flow(hosts[0])?;
    let said = cp.introduce(7, "bob.chat")?;
    ensure!(said == Said::Introducing, "{said:?}");
    let introduction = bob.introduction()?;
    ensure!(introduction.asker == alice.host && introduction.attempt == WireId(7), "{introduction:?}");
    let mut sp = bob.flow(hosts[1])?;
    let for_bob = sp.meet(9, &introduction)?;
    let deadline = Deadline::after(SOON);
    let for_alice = loop {
        if let Some((_, said)) = cp.hear()?
            && let Some(meeting) = meeting(said)
        {
            break meeting;
        }
        ensure!(!deadline.is_past(), "the asking side was not told");
    };
    ensure!(for_alice.own_public == for_bob.public && for_bob.own_public == for_alice.public, "they are told apart");
    Ok(([cp, sp], [for_alice.public, for_bob.public], introduction.nonce))
}

pub(super) fn members_behind_nats_hear_of_each_other_and_meet() -> Result<()> {
    for [one, other] in [
        [Middlebox::PortRestricted, Middlebox::PortRestricted],
        [Middlebox::FullCone, Middlebox::SymmetricRandom],
        [Middlebox::Firewall, Middlebox::AddressRestricted],
    ] {
        let lab = Lab::new()?;
        let [host] = lab.hosts(["server"])?;
        let (a, b) = (lab.host_behind("a", one)?, lab.host_behind("b", other)?);
        let server = Server::start(&host, "")?;
        let [mut alice, mut bob] = members(&server, [&a, &b])?;
        let joined = alice.join()?;
        ensure!(told(&joined) == ["+2", "+2:bob.chat"], "{:?}", told(&joined));
        ensure!(seen_at(&joined, 2) == Some(b.public()), "{joined:?}");
        let (sockets, places, _) = introduced([&mut alice, &mut bob], [&a, &b])?;
        punch(&sockets, places).with_context(|| format!("{one} and {other}"))?;
        let status = server.status(&["--session", "lobby"])?;
        ensure!(status["counts"]["met"] == 1 && status["of_session"][1]["names"][0] == "bob.chat", "{status}");
        server.running.expect_log(SOON, "introduced")?;
    }
    Ok(())
}

/// Both send until both have heard the other; whoever hears answers to where it came from.
fn punch(sockets: &[Member; 2], places: [SocketAddr; 2]) -> Result<()> {
    let mut to = places;
    let mut heard = [false; 2];
    let deadline = Deadline::after(SOON);
    while heard != [true; 2] {
        ensure!(!deadline.is_past(), "heard: {heard:?}");
        for (side, member) in sockets.iter().enumerate() {
            member.socket.send_to(b"hello", to[side])?;
        }
        for (side, member) in sockets.iter().enumerate() {
            let mut buffer = [0; 2048];
            if let Ok((5, from)) = member.socket.recv_from(&mut buffer)
                && &buffer[..5] == b"hello"
            {
                to[side] = from;
                heard[side] = true;
            }
        }
    }
    Ok(())
}

fn bind(member: &mut Member, relay: SocketAddr, id: u64, peer: u64, nonce: [u8; 16]) -> Result<Said> {
    let said = |member: &mut Member| {
        let cookie = member.cookie.clone();
        (id, Said::Bind(Bind { cookie, peer: HostId(peer), attempt: WireId(7), nonce }))
    };
    let bound = |_: &_, said| matches!(said, Said::Bound(_) | Said::NotBound(_)).then_some(said);
    member.ask(relay, said, bound)
}

pub(super) fn what_cannot_be_direct_is_relayed_within_its_quota() -> Result<()> {
    let lab = Lab::new()?;
    let [host] = lab.hosts(["server"])?;
    let (a, b) = (lab.host_behind("a", Middlebox::SymmetricRandom)?, lab.host_behind("b", Middlebox::SymmetricRandom)?);
    let server = Server::start(&host, "[relay]\ntotal = \"100kB\"\nrate = \"10MB\"\n")?;
    let [mut alice, mut bob] = members(&server, [&a, &b])?;
    let port = alice.join()?.relay;
    ensure!(port != 0, "there is no relay");
    let relay = SocketAddr::new(host.address(), port);
    let ([mut cp, mut sp], _, nonce) = introduced([&mut alice, &mut bob], [&a, &b])?;
    let first = bind(&mut cp, relay, 7, 2, nonce)?;
    ensure!(matches!(first, Said::Bound(Bound { both: false, .. })), "{first:?}");
    let both = bind(&mut sp, relay, 9, 1, nonce)?;
    ensure!(matches!(both, Said::Bound(Bound { both: true, left: 100_000, .. })), "{both:?}");
    // The asking side hears so, too.
    let told = cp.hear()?;
    ensure!(matches!(told, Some((_, Said::Bound(Bound { both: true, .. })))), "{told:?}");
    let mut buffer = [0; 2048];
    for round in 0..100_u8 {
        for (from, to) in [(&cp, &sp), (&sp, &cp)] {
            from.socket.send_to(&[round; 400], relay)?;
            let (length, at) = to.socket.recv_from(&mut buffer).with_context(|| format!("round {round}"))?;
            ensure!((at, &buffer[..length]) == (relay, &[round; 400][..]), "round {round}: {length} bytes from {at}");
        }
    }
    // 80 kB went; of 30 more, 20 do.
    for _ in 0..30 {
        cp.socket.send_to(&[1; 1_000], relay)?;
    }
    let mut got = 0;
    while sp.socket.recv_from(&mut buffer).is_ok() {
        got += 1;
    }
    ensure!(got == 20, "{got} datagrams");
    let over = bind(&mut cp, relay, 7, 2, nonce)?;
    ensure!(over == Said::NotBound(Refusal::Quota), "{over:?}");
    // A stranger's datagram goes nowhere.
    let stranger = b.socket(0)?;
    stranger.send_to(b"who is there", relay)?;
    lab::wait_until(SOON, "the stranger's datagram to be counted", || {
        server.status(&[]).is_ok_and(|status| status["dropped"]["relay_unbound"] == 1)
    })
}

pub(super) fn a_server_says_what_nat_there_is() -> Result<()> {
    for (kind, same_mapping, from_other) in [
        (Middlebox::FullCone, true, true),
        (Middlebox::AddressRestricted, true, true),
        (Middlebox::PortRestricted, true, false),
        (Middlebox::SymmetricRandom, false, false),
    ] {
        let lab = Lab::new()?;
        let [host] = lab.hosts(["server"])?;
        let behind = lab.host_behind("behind", kind)?;
        let server = Server::start(&host, "")?;
        let mut asker = Member::new(&behind, server.at(), 1)?;
        let seen = |asker: &mut Member, to, alternate| {
            let seen = |_: &_, said| match said {
                Said::NatSeen { public, alternate } => Some((public, alternate)),
                _ => None,
            };
            asker.ask(to, |_| (1, Said::NatProbe { alternate }), seen)
        };
        let (public, other) = seen(&mut asker, server.at(), false)?;
        ensure!(public.ip() == behind.public(), "{public}");
        let other = other.context("there is no other port")?;
        ensure!(other == SocketAddr::new(host.address(), server.at().port() + 1), "{other}");
        // What the other port says comes only where the NAT lets in what it was not asked for.
        let probe = asker.bytes(1, &Said::NatProbe { alternate: true });
        asker.socket.send_to(&probe, server.at())?;
        let came = matches!(asker.hear()?, Some((_, Said::NatSeen { .. })));
        ensure!(came == from_other, "{kind}: from the other port: {came}");
        let (again, _) = seen(&mut asker, other, false)?;
        ensure!((again == public) == same_mapping, "{kind}: {public}, then {again}");
    }
    Ok(())
}
