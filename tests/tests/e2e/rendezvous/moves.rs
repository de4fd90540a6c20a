//! Relayed flows that move to a direct path when there is one, while they carry; and those that have none.

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use anyhow::{Context as _, Result, ensure};
use flowring_tests::flows::{flow, listen};
use flowring_tests::net::{SOON, await_flows, ipcp};
use lab::{Host, Middlebox, Signal};
use libflow::Cube;
use libflow::blocking::Flow;

use super::stage::{Member, Session, await_name, await_session, await_survey};

/// A stream's bytes come in pieces of this length.
const PIECE: usize = 16 << 10;
/// So much is carried before and after what happens meanwhile.
const ENOUGH: u64 = 4 << 20;
const MESSAGES: u64 = 100;

/// Ends of a flow: who asked, who accepted.
pub(super) type Ends = (Flow, Flow);

/// Two flows that carry without a pause, and what came through.
pub(super) struct Carried {
    /// Messages that may be missing beside those of a good path.
    spare: u64,
    stop: AtomicBool,
    bytes: AtomicU64,
    messages: AtomicU64,
}

/// The piece with this number.
fn piece(number: u64) -> Vec<u8> {
    (0..PIECE as u64 / 8).flat_map(|at| (number << 16 | at).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()).collect()
}

impl Carried {
    /// Numbered pieces on one stream, until it is told to stop.
    fn write(&self, asked: &Flow) -> Result<u64> {
        let mut stream = asked.open_stream()?;
        for number in 0.. {
            if self.stop.load(Relaxed) {
                stream.finish()?;
                return Ok(number);
            }
            stream.write_all(&piece(number))?;
        }
        Ok(0)
    }

    /// They come all, in order, unchanged.
    fn read(&self, accepted: &Flow) -> Result<u64> {
        let mut stream = accepted.accept_stream()?;
        let mut buffer = vec![0; PIECE];
        for number in 0.. {
            let mut got = 0;
            while got < PIECE {
                match stream.read(&mut buffer[got..])? {
                    0 if got == 0 => return Ok(number),
                    0 => anyhow::bail!("piece {number} is cut"),
                    more => got += more,
                }
            }
            ensure!(buffer == piece(number), "piece {number} is another");
            self.bytes.fetch_add(PIECE as u64, Relaxed);
        }
        Ok(0)
    }

    /// One message after the other, each answered before the next. Beside a stream that fills every queue under way one may be
    /// lost, and is said again; no more than that.
    fn ask(&self, asked: &Flow) -> Result<()> {
        let (mut buffer, mut lost) = ([0; 64], 0);
        for number in 0_u64.. {
            asked.send(&number.to_be_bytes())?;
            loop {
                match asked.recv_within(&mut buffer, SOON / 10) {
                    Ok(length) if buffer[..length] == number.to_be_bytes() => break,
                    // The answer to one that was said twice.
                    Ok(_) => {}
                    Err(error) => {
                        lost += 1;
                        ensure!(
                            lost <= 2 + self.spare + number / 100,
                            "{lost} of {number} messages are missing: {error}"
                        );
                        asked.send(&number.to_be_bytes())?;
                    }
                }
            }
            self.messages.store(number + 1, Relaxed);
            if self.stop.load(Relaxed) {
                asked.send(b"end")?;
                return Ok(());
            }
        }
        Ok(())
    }

    fn answer(accepted: &Flow) -> Result<()> {
        let mut buffer = [0; 64];
        loop {
            let length = accepted.recv_within(&mut buffer, 4 * SOON)?;
            if &buffer[..length] == b"end" {
                return Ok(());
            }
            accepted.send(&buffer[..length])?;
        }
    }

    /// Much has come through since.
    pub(super) fn goes_on(&self) -> Result<()> {
        let before = (self.bytes.load(Relaxed), self.messages.load(Relaxed));
        lab::wait_until(6 * SOON, "both flows to carry", || {
            self.bytes.load(Relaxed) >= before.0 + ENOUGH && self.messages.load(Relaxed) >= before.1 + MESSAGES
        })
    }
}

/// Both flows carry while something happens, and nothing is missing in the end.
fn carrying(streams: &Ends, messages: &Ends, happens: impl FnOnce(&Carried) -> Result<()>) -> Result<()> {
    carrying_over(0, streams, messages, happens)
}

/// The same with paths that end: so many messages, one a second, may be said in vain.
pub(super) fn carrying_over(
    spare: u64,
    streams: &Ends,
    messages: &Ends,
    happens: impl FnOnce(&Carried) -> Result<()>,
) -> Result<()> {
    let [bytes, messages_through] = [const { AtomicU64::new(0) }; 2];
    let carried = Carried { spare, stop: AtomicBool::new(false), bytes, messages: messages_through };
    std::thread::scope(|scope| {
        let carried = &carried;
        let writer = scope.spawn(|| carried.write(&streams.0));
        let reader = scope.spawn(|| carried.read(&streams.1));
        let asker = scope.spawn(|| carried.ask(&messages.0));
        let answerer = scope.spawn(|| Carried::answer(&messages.1));
        let happened = happens(carried);
        carried.stop.store(true, Relaxed);
        let (wrote, read) = (writer.join().expect("no panic"), reader.join().expect("no panic"));
        let asked = asker.join().expect("no panic");
        drop(answerer.join().expect("no panic"));
        happened?;
        asked?;
        let (wrote, read) = (wrote?, read?);
        ensure!(wrote == read, "{wrote} pieces were written, {read} came");
        Ok(())
    })
}

/// A flow of this cube, through the relay.
fn relayed(session: &Session, a: &Member, b: &Member, cube: Cube) -> Result<Ends> {
    let name = format!("{}.{}", cube.as_str(), b.host.name());
    let listener = listen(&b.host, &name)?;
    await_name(&a.host, &name)?;
    let ends = flow(&a.host, &listener, cube)?;
    let relay = format!("{}:", session.at.address());
    for row in [await_rows(&a.host)?, await_rows(&b.host)?].concat() {
        ensure!(row["way"] == "relayed", "{row}");
        ensure!(row["peer_address"].as_str().is_some_and(|at| at.starts_with(&relay)), "{row}");
    }
    Ok(ends)
}

pub(super) fn await_rows(host: &Host) -> Result<Vec<serde_json::Value>> {
    flowring_tests::net::flows(host)
}

/// All flows of the host are direct ones.
fn is_direct(session: &Session, host: &Host) -> bool {
    let relay = format!("{}:", session.at.address());
    let direct = |row: &serde_json::Value| {
        row["way"] != "relayed" && !row["peer_address"].as_str().unwrap_or(&relay).starts_with(&relay)
    };
    await_rows(host).is_ok_and(|rows| rows.len() == 2 && rows.iter().all(direct))
}

/// What a host's shim counted.
pub(super) fn count(host: &Host, what: &str) -> Result<u64> {
    // What is not listed did not happen.
    Ok(ipcp(host)?["counters"][what].as_u64().unwrap_or(0))
}

/// Symmetric to port-restricted: relayed. Then somebody opens the second box, and both flows go there, while they carry. The
/// asker's ipcpd dies and is brought them back as direct ones; the rendezvous ends, and they do not notice.
pub(crate) fn relayed_flows_move_to_a_path_that_appears() -> Result<()> {
    let mut session = Session::open_with(&["--relay"])?;
    let a = session.member("a", Middlebox::SymmetricRandom)?;
    let b = session.member("b", Middlebox::PortRestricted)?;
    await_survey(&a.host)?;
    await_survey(&b.host)?;
    let streams = relayed(&session, &a, &b, Cube::Stream)?;
    let messages = relayed(&session, &a, &b, Cube::Message)?;
    carrying(&streams, &messages, |carried| {
        carried.goes_on()?;
        b.host.change_middlebox(Middlebox::FullCone)?;
        for host in [&a.host, &b.host] {
            lab::wait_until(8 * SOON, "the flows to be direct", || is_direct(&session, host))
                .with_context(|| format!("{}: {:?}", host.name(), await_rows(host)))?;
        }
        carried.goes_on()?;
        restart_ipcpd(&a)?;
        await_flows(&a.host, 2)?;
        ensure!(is_direct(&session, &a.host), "{:?}", await_rows(&a.host)?);
        session.kill()?;
        carried.goes_on()
    })?;
    drop((streams, messages));
    // The ends are told directly, too.
    await_flows(&a.host, 0)?;
    await_flows(&b.host, 0).map(drop)
}

/// kill -9; it comes back, and joins again.
pub(super) fn restart_ipcpd(member: &Member) -> Result<()> {
    let before = ipcp(&member.host)?["restarts"].as_u64().unwrap_or(0);
    let pid = ipcp(&member.host)?["pid"].as_i64().context("a pid")?;
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("a pid")?;
    rustix::process::kill_process(pid, Signal::KILL)?;
    lab::wait_until(SOON, "another ipcpd", || {
        ipcp(&member.host).is_ok_and(|row| row["restarts"] == before + 1 && row["state"] == "operational")
    })?;
    await_session(&member.host, "joined session")
}

/// Nothing changes: both sides look for a path now and then, in vain, and the flows do not notice.
pub(crate) fn flows_without_another_way_stay_relayed() -> Result<()> {
    let session = Session::open_with(&["--relay"])?;
    let a = session.member("a", Middlebox::SymmetricRandom)?;
    let b = session.member("b", Middlebox::PortRestricted)?;
    await_survey(&a.host)?;
    let streams = relayed(&session, &a, &b, Cube::Stream)?;
    let messages = relayed(&session, &a, &b, Cube::Message)?;
    let before = count(&a.host, "paths_not_found")?;
    carrying(&streams, &messages, |carried| {
        carried.goes_on()?;
        // Twice each.
        lab::wait_until(6 * SOON, "attempts in vain", || {
            count(&a.host, "paths_not_found").is_ok_and(|now| now >= before + 4)
        })?;
        carried.goes_on()
    })?;
    // Each pause is twice the one before, the first 5 s: no flood, however long this took.
    let sought = [count(&b.host, "paths_sought_again")?, count(&a.host, "paths_sought_again")?];
    let mut most = 0;
    for row in await_rows(&a.host)? {
        ensure!(row["way"] == "relayed", "{row}");
        let age = row["age_ms"].as_u64().context("an age")?;
        most += u64::from((age / 5_000 + 1).ilog2()) + 1;
    }
    ensure!((4..=most).contains(&sought[1]) && sought[0] <= most, "{sought:?} attempts, not {most}");
    for row in await_rows(&b.host)? {
        ensure!(row["way"] == "relayed", "{row}");
    }
    Ok(())
}
