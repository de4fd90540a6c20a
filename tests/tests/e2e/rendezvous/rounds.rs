//! How many round trips it takes from the introduction to a path, and to a flow: what a capture at the asker shows.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use capture::{Item, Reader, datagram};
use flowring_tests::flows::{flow, listen};
use lab::Middlebox;
use libflow::Cube;
use proto::Name;
use proto::rendezvous::is_ours;
use proto::shim::{Answer, Verdict};

use super::stage::{Session, await_name, await_survey};
use crate::wire::Capture;

/// A member's link takes so long, each way: long beside what a debug build on a shared machine takes to think.
const DELAY: Duration = Duration::from_millis(50);
/// From member to member and back.
const ROUND_TRIP: Duration = DELAY.saturating_mul(4);
/// Kinds of datagrams.
const MEETING: u8 = 45;
const CHOSEN: u8 = 48;

/// What happened at one socket of the asker, nanoseconds.
#[derive(Debug, Default)]
struct Socket {
    met: Option<u64>,
    chosen: Option<u64>,
    accepted: Option<u64>,
}

/// All sockets that were introduced, by port.
fn sockets(bytes: &[u8]) -> Result<BTreeMap<u16, Socket>> {
    let mut all: BTreeMap<u16, Socket> = BTreeMap::new();
    let mut reader = Reader::new(bytes)?;
    // What dumpcap is about to write may be cut off.
    while let Ok(Some(item)) = reader.next_item() {
        let Item::Packet(packet) = item else { continue };
        let (Ok(found), Some(time)) = (datagram(packet.link, packet.data), packet.time) else { continue };
        let kind = found.payload.get(6).filter(|_| is_ours(found.payload));
        match kind {
            Some(&MEETING) => drop(all.entry(found.to.port()).or_default().met.get_or_insert(time)),
            Some(&CHOSEN) => drop(all.entry(found.from.port()).or_default().chosen.get_or_insert(time)),
            None if is_acceptance(found.payload) => {
                if let Some(socket) = all.get_mut(&found.to.port()) {
                    socket.accepted.get_or_insert(time);
                }
            }
            _ => {}
        }
    }
    Ok(all)
}

fn is_acceptance(payload: &[u8]) -> bool {
    let name = payload.split(|byte| *byte == 0).next().and_then(|name| std::str::from_utf8(name).ok());
    let answer = name.and_then(|name| Name::new(name).ok()).and_then(|name| Answer::decode(payload, &name).ok());
    matches!(answer, Some(Answer::Extended { verdict: Verdict::Accepted, .. }))
}

/// Half of the paths at least are found within two round trips after the asker heard where the other is: by the capture's times, so
/// that a slow test does not count.
pub(crate) fn a_path_takes_two_round_trips_after_the_introduction() -> Result<()> {
    let session = Session::open()?;
    let kinds = [Middlebox::Firewall, Middlebox::AddressRestricted, Middlebox::PortRestricted];
    let members = |side: &str| {
        let member = |kind: &Middlebox| session.far_member(&format!("{side}-{kind}"), *kind, DELAY);
        kinds.iter().map(member).collect::<Result<Vec<_>>>()
    };
    let (askers, others) = (members("asker")?, members("other")?);
    for member in askers.iter().chain(&others) {
        await_survey(&member.host)?;
    }
    let (mut paths, mut flows) = (Vec::new(), Vec::new());
    for asker in &askers {
        let capture = Capture::start(&asker.host)?;
        for other in &others {
            let listener = listen(&other.host, &format!("{}.{}", asker.host.name(), other.host.name()))?;
            await_name(&asker.host, listener.name())?;
            flow(&asker.host, &listener, Cube::Raw)?;
        }
        let whole = |bytes: &[u8]| {
            let whole = |socket: &&Socket| socket.accepted.is_some() && socket.chosen.is_some();
            sockets(bytes).is_ok_and(|all| all.values().filter(whole).count() == others.len())
        };
        let (bytes, ..) = capture.stop(whole)?;
        for socket in sockets(&bytes)?.into_values() {
            let met = socket.met.context("an introduction")?;
            let since = |at: Option<u64>| at.map(|at| Duration::from_nanos(at - met)).context("it was captured");
            paths.push(since(socket.chosen)?);
            flows.push(since(socket.accepted)?);
        }
    }
    paths.sort_unstable();
    flows.sort_unstable();
    let trips = |times: &[Duration]| times[times.len() / 2].as_secs_f64() / ROUND_TRIP.as_secs_f64();
    let (path, flow) = (trips(&paths), trips(&flows));
    eprintln!(
        "after the introduction, in round trips of {ROUND_TRIP:?}, p50 of {}: path {path:.2}, flow {flow:.2}",
        paths.len()
    );
    ensure!(paths.len() == kinds.len() * kinds.len() && path <= 2.0, "{paths:?}");
    Ok(())
}
