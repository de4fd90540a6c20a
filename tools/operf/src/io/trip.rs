//! Round trips: one SDU there and back, then the next.

use std::time::{Duration, Instant};

use super::carrier::{Carrier, Gone};
use super::clock::Meter;
use super::load::answer;
use super::watch::{Watch, Watching};
use crate::machine::account::Account;
use crate::machine::latency::Latency;
use crate::machine::params::Params;
use crate::machine::sdu::{self, Sdu};

/// A reply that takes longer is lost.
const GIVE_UP: Duration = Duration::from_millis(500);

/// A ping of this number only wakes a loop whose echo was lost. No other ping has it.
const KICK: u32 = u32::MAX;

/// So many of them without an answer: nobody is there any more.
const KICKS: u32 = 6;

/// An echoing side that hears nothing for so long ends the test.
const SILENCE: Duration = Duration::from_secs(5);

/// Sends, waits, times, for the test's time. The account counts round trips, its errors those given up.
pub(crate) fn ping(carrier: &mut impl Carrier, params: &Params) -> (Account, Latency, Result<(), Gone>) {
    let mut out = sdu::blank(params.size as usize, 1, true);
    let mut room = vec![0; sdu::MAX];
    let mut account = Account::default();
    let mut latency = Latency::default();
    let watching = Watching { patience: GIVE_UP, kick: Some(kick(params)), times: KICKS };
    let watch = match Watch::start(carrier, watching) {
        Ok(watch) => watch,
        Err(error) => return (account, latency, Err(Gone(error.to_string()))),
    };
    let meter = Meter::start(carrier.has_helpers());
    let end = meter.start + params.time;
    let mut sent_at = meter.start;
    let mut seq = 0u32;
    let result = loop {
        sdu::number(&mut out, seq.into());
        let got = match carrier.send(&out) {
            Ok(_) => echo_of(carrier, seq, sent_at, &mut room),
            Err(gone) => Err(gone),
        };
        watch.step();
        // One look at the clock ends this round trip and starts the next.
        let now = Instant::now();
        match got {
            Ok(true) => {
                latency.record(now - sent_at);
                account.sdus += 1;
            }
            Ok(false) => account.errors += 1,
            Err(gone) => break Err(gone),
        }
        if now >= end {
            break Ok(());
        }
        sent_at = now;
        seq = (seq + 1) % KICK;
    };
    account.took(meter.start.elapsed(), meter.cpu());
    account.bytes = account.sdus * u64::from(params.size);
    (account, latency, result)
}

fn kick(params: &Params) -> Vec<u8> {
    let mut sdu = sdu::blank(params.size as usize, 1, true);
    sdu::number(&mut sdu, KICK.into());
    sdu
}

/// Waits for the echo; what else comes (late echoes of those given up) is passed over.
fn echo_of(carrier: &mut impl Carrier, seq: u32, sent_at: Instant, room: &mut [u8]) -> Result<bool, Gone> {
    loop {
        let len = carrier.recv(room)?;
        match sdu::read(&room[..len]) {
            Some(Sdu::Ping(got)) if got == seq => return Ok(true),
            _ if sent_at.elapsed() > GIVE_UP => return Ok(false),
            _ => {}
        }
    }
}

/// Echoes pings until the other side's last word; answers it with the account.
pub(crate) fn echo(carrier: &mut impl Carrier, params: &Params) -> (Account, Result<(), Gone>) {
    let mut room = vec![0; sdu::MAX];
    let mut account = Account::default();
    let watch = match Watch::start(carrier, Watching { patience: SILENCE, kick: None, times: 1 }) {
        Ok(watch) => watch,
        Err(error) => return (account, Err(Gone(error.to_string()))),
    };
    let meter = Meter::start(carrier.has_helpers());
    let give_up = meter.start + params.time + SILENCE;
    let result = loop {
        let len = match carrier.recv(&mut room) {
            Ok(len) => len,
            Err(gone) => break Err(gone),
        };
        watch.step();
        match sdu::read(&room[..len]) {
            Some(Sdu::Ping(seq)) => {
                if let Err(gone) = carrier.send(&room[..len]) {
                    break Err(gone);
                }
                account.sdus += 1;
                account.bytes += len as u64;
                // A look at the clock now and then: a ping without end does not keep this thread for ever.
                if seq % 1024 == 0 && Instant::now() > give_up {
                    break Ok(());
                }
            }
            Some(Sdu::End(_)) => {
                account.took(meter.start.elapsed(), meter.cpu());
                answer(carrier, &account, &mut room);
                break Ok(());
            }
            Some(Sdu::Hello(_)) => {
                let _ = carrier.send(&sdu::welcome());
            }
            _ => {}
        }
    };
    if account.elapsed_ns == 0 {
        account.took(meter.start.elapsed(), meter.cpu());
    }
    (account, result)
}
