//! What a server and its members send to somebody who asked for nothing, as a capture shows it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use anyhow::{Context as _, Result, ensure};
use capture::Sent;
use flowring_tests::net::SOON;
use lab::{Host, Middlebox};
use proto::rendezvous::{
    Bind, DATAGRAM, Head, Introduce, MAX_LOCALS, Mapped, Meet, Meeting, Nat, PORT, Refusal, Said, is_ours,
};
use proto::{BootId, HostId, Name, WireId};

use super::stage::{SECRET, SESSION, Session, await_session, serve};
use crate::rendezvous_server::member::{Member, meeting};
use crate::wire::Capture;

/// Headers of IPv4 and UDP.
const HEADERS: usize = 28;
/// Each forged datagram is said so often.
const TIMES: usize = 20;

/// A socket at `forger` whose datagrams come from `victim`. Answers go to the victim, which is asked for its hardware address alone.
fn forged(forger: &Host, victim: IpAddr, port: u16) -> Result<UdpSocket> {
    #[expect(clippy::disallowed_methods, reason = "a socket at somebody else's address")]
    let socket = forger.inside(move || UdpSocket::bind((victim, port)))??;
    Ok(socket)
}

fn takes_the_address(forger: &Host, victim: IpAddr) -> Result<()> {
    forger.inside(|| {
        // It neither answers for the address nor names it when it asks for others'.
        for (name, value) in [("arp_ignore", "1"), ("arp_announce", "2")] {
            std::fs::write(format!("/proc/sys/net/ipv4/conf/all/{name}"), value)?;
        }
        Ok::<_, std::io::Error>(())
    })??;
    let output = forger.run("ip", &["address", "add", &format!("{victim}/32"), "dev", "lo"])?;
    ensure!(output.code() == 0, "{}", output.err);
    Ok(())
}

/// All that can be said to a server without a cookie of one's address, with the port of the server it is for. `known`: a member
/// whose words somebody else says again.
fn forgeries(known: &mut Member) -> Vec<(u16, Vec<u8>)> {
    let (cookie, nat, name) = (vec![7; 32], Nat::default(), Name::new("echo").expect("a name"));
    let head = Head { session: known.session, member: HostId(77), sender: WireId(1), receiver: WireId(0) };
    let introduce = Introduce {
        cookie: cookie.clone(),
        name,
        peer: HostId(0),
        locals: vec![],
        round: 0,
        moves: None,
        nat,
        mapped: Mapped::default(),
        round_trip_us: 0,
    };
    let meet = Meet {
        cookie: cookie.clone(),
        attempt: WireId(5),
        nonce: [1; 16],
        locals: vec![],
        nat,
        mapped: Mapped::default(),
        round_trip_us: 0,
    };
    let bind = Bind { cookie: cookie.clone(), peer: HostId(5), attempt: WireId(5), nonce: [1; 16] };
    let (id, join) = known.join_said();
    let mut all = vec![(PORT, known.bytes(id, &join)), (PORT, head.encode(&known.key, &join))];
    for said in [
        Said::Introduce(introduce),
        Said::Meet(meet),
        Said::Leave { boot: BootId(3), cookie },
        Said::Decline { attempt: WireId(5), refusal: Refusal::Exhausted },
        Said::Carry { to: HostId(5), payload: vec![1; 64] },
    ] {
        all.push((PORT, head.encode(&known.key, &said)));
    }
    all.push((PORT + 2, head.encode(&known.key, &Said::Bind(bind))));
    for (port, alternate) in [(PORT, false), (PORT, true), (PORT + 1, false), (PORT + 1, true)] {
        all.push((port, head.encode_bare(&Said::NatProbe { alternate })));
    }
    // Cut, and made longer.
    let whole = all.clone();
    all.extend(whole.iter().map(|(port, bytes)| (*port, bytes[..bytes.len() / 2].to_vec())));
    all.extend(whole.iter().map(|(port, bytes)| (*port, [&bytes[..], &[0]].concat())));
    all.push((PORT, b"\0Flow".to_vec()));
    all
}

/// Whoever is named as the source of whatever anybody says hears less than was said in its name: of each kind, and in all.
pub(crate) fn a_capture_shows_no_amplification_by_the_server() -> Result<()> {
    let session = Session::open_with(&["--relay"])?;
    let [victim, forger, host] = session.lab.hosts(["victim", "forger", "known"])?;
    let server = SocketAddr::new(session.at.address(), PORT);
    let mut known = Member::of(host.socket(0)?, server, 9, SESSION, SECRET)?;
    known.join()?;
    takes_the_address(&forger, victim.address())?;
    let capture = Capture::start(&session.at)?;
    let all = forgeries(&mut known);
    for (n, (port, bytes)) in (5_000..).zip(&all) {
        let socket = forged(&forger, victim.address(), n)?;
        for _ in 0..TIMES {
            socket.send_to(bytes, (server.ip(), *port))?;
        }
    }
    // A member's own word after it: whatever the server had to say was said by then.
    known.join()?;
    let last = known.local()?;
    let (bytes, ..) =
        capture.stop(|bytes| capture::sent(bytes).is_ok_and(|sent| sent.iter().any(|it| it.to == last)))?;
    let sent = capture::sent(&bytes).context("the capture")?;
    let [to_server, to_victim] = totals(&sent, victim.address());
    let heard: usize = to_victim.values().sum();
    ensure!(
        to_server.len() == all.len() && heard > 0,
        "{} of {} kinds arrived, {heard} bytes went back",
        to_server.len(),
        all.len()
    );
    for (port, said) in &to_server {
        let heard = to_victim.get(port).copied().unwrap_or(0);
        let kind = &all[usize::from(port - 5_000)];
        ensure!(
            heard <= *said,
            "{heard} bytes for {said} of {:02x?} at port {}",
            &kind.1[..8.min(kind.1.len())],
            kind.0
        );
    }
    let said: usize = to_server.values().sum();
    eprintln!("{said} bytes were said in a victim's name, {heard} came to it: 1 for {}", said / heard);
    ensure!(heard * 4 < said, "{heard} bytes came to the victim of {said}");
    ensure!(to_victim.keys().all(|port| to_server.contains_key(port)), "ports that nothing was said from");
    Ok(())
}

/// Bytes on the wire from the victim's ports, and to them.
fn totals(sent: &[Sent], victim: IpAddr) -> [BTreeMap<u16, usize>; 2] {
    let mut totals = [BTreeMap::new(), BTreeMap::new()];
    for Sent { from, to, payload, .. } in sent {
        let length = payload.len() + HEADERS;
        if from.ip() == victim {
            *totals[0].entry(from.port()).or_default() += length;
        } else if to.ip() == victim {
            *totals[1].entry(to.port()).or_default() += length;
        }
    }
    totals
}

/// A member that lies about its local addresses: whom it names hears a bounded number of hellos from whoever it asks, in whatever
/// many attempts.
pub(crate) fn a_lying_member_has_few_hellos_sent_to_a_third_party() -> Result<()> {
    let session = Session::open()?;
    let [victim, host] = session.lab.hosts(["victim", "liar"])?;
    let b = session.member("b", Middlebox::Open)?;
    let _server = serve(&b, "echo", &[])?;
    let server = SocketAddr::new(session.at.address(), PORT);
    let mut liar = Member::of(host.socket(0)?, server, 9, SESSION, SECRET)?;
    liar.join()?;
    // It is known to all by now.
    await_session(&b.host, "1 other members")?;
    let capture = Capture::start(&victim)?;
    let ports = 7_000..7_000 + u16::try_from(MAX_LOCALS)?;
    let locals: Vec<_> = ports.map(|port| SocketAddr::new(victim.address(), port)).collect();
    let attempts = 8;
    let mut sockets = Vec::new();
    for id in 1..=attempts {
        let mut flow = liar.flow(&host)?;
        let met = lie(&mut flow, id, &locals)?;
        ensure!(met.public.ip() == b.host.address(), "{met:?}");
        sockets.push(flow);
    }
    // The asked side says hello until its patience ends; the socket's last ones come with the longest pauses.
    let hellos = |bytes: &[u8]| {
        let sent = capture::sent(bytes).unwrap_or_default();
        sent.into_iter().filter(|sent| sent.to.ip() == victim.address() && is_ours(&sent.payload)).collect::<Vec<_>>()
    };
    flowring_tests::net::await_flows(&b.host, 0)?;
    let (bytes, ..) = capture.stop(|bytes| !hellos(bytes).is_empty())?;
    let hellos = hellos(&bytes);
    let all: usize = hellos.iter().map(|sent| sent.payload.len() + HEADERS).sum();
    eprintln!("{attempts} attempts, {} hellos of {all} bytes to a third party", hellos.len());
    // Without a bound of all attempts together it would be ten to each address in each.
    let unbounded = 10 * MAX_LOCALS * attempts as usize;
    ensure!(
        hellos.len() > MAX_LOCALS && hellos.len() <= 200 + 50 * 8 && hellos.len() < unbounded,
        "{} hellos",
        hellos.len()
    );
    ensure!(all < DATAGRAM * hellos.len() / 4, "{all} bytes");
    let mut each: BTreeMap<(u16, u16), usize> = BTreeMap::new();
    hellos.iter().for_each(|sent| *each.entry((sent.from.port(), sent.to.port())).or_default() += 1);
    ensure!(each.values().all(|count| *count <= 10), "{each:?}");
    Ok(())
}

/// Asks for the name with addresses of somebody else's.
fn lie(flow: &mut Member, id: u64, locals: &[SocketAddr]) -> Result<Meeting> {
    let name = Name::new("echo").context("a name")?;
    let said = |member: &mut Member| {
        let (cookie, name, locals) = (member.cookie.clone(), name.clone(), locals.to_vec());
        let (peer, nat) = (HostId(0), Nat::default());
        (
            id,
            Said::Introduce(Introduce {
                cookie,
                name,
                peer,
                locals,
                round: 0,
                moves: None,
                nat,
                mapped: Mapped::default(),
                round_trip_us: 1_000,
            }),
        )
    };
    let deadline = lab::Deadline::after(SOON);
    while !deadline.is_past() {
        if let Some(met) = meeting(flow.ask(flow.server, said, |_, said| Some(said))?) {
            return Ok(met);
        }
    }
    anyhow::bail!("it was not introduced")
}
