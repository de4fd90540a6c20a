//! Throughput: one side sends as fast as it goes, the other counts.

use std::time::{Duration, Instant};

use super::carrier::{Carrier, Gone};
use super::clock::Meter;
use super::watch::{Watch, Watching};
use crate::machine::account::Account;
use crate::machine::arrivals::Arrivals;
use crate::machine::params::Params;
use crate::machine::sdu::{self, Sdu};

/// Most SDUs of a batch, and most bytes: what the kernel takes in one call.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 65_000;

/// Sends between two looks at the clock, and bytes: on a slow path each send waits for room.
const SENDS_PER_LOOK: usize = 32;
const BYTES_PER_LOOK: usize = 32 * 1024;

/// The last word is repeated this often, so many times.
const ASK_EVERY: Duration = Duration::from_millis(50);
const ASKS: u32 = 60;

/// A receiver that hears nothing for so long after the end gives up.
const SILENCE: Duration = Duration::from_secs(5);

/// A report is repeated while the sender asks; silence for so long means that it arrived.
const LINGER: Duration = Duration::from_millis(400);

/// Sends for the test's time. The account is whole even when the carrier went away.
pub(crate) fn send(carrier: &mut impl Carrier, params: &Params) -> (Account, Result<(), Gone>) {
    let size = params.size as usize;
    let count = if params.batch { (BATCH_BYTES / size).clamp(1, BATCH) } else { 1 };
    let mut sdus = sdu::blank(size, count, false);
    let mut account = Account::default();
    let meter = Meter::start(carrier.has_helpers());
    let end = meter.start + params.time;
    let mut tried = 0;
    let result = loop {
        let result = if params.batch {
            send_batches(carrier, &mut sdus, size, &mut tried, &mut account)
        } else {
            send_singly(carrier, &mut sdus, &mut tried, &mut account)
        };
        if result.is_err() || Instant::now() >= end {
            break result;
        }
    };
    account.took(meter.start.elapsed(), meter.cpu());
    account.bytes = account.sdus * size as u64;
    (account, result.and_then(|()| carrier.drop_backlog()))
}

fn send_singly(c: &mut impl Carrier, sdu: &mut [u8], seq: &mut u64, account: &mut Account) -> Result<(), Gone> {
    for _ in 0..(BYTES_PER_LOOK / sdu.len().max(1)).clamp(1, SENDS_PER_LOOK) {
        sdu::number(sdu, *seq);
        if c.send(sdu)? {
            *seq += 1;
            account.sdus += 1;
        } else {
            account.errors += 1;
        }
    }
    Ok(())
}

fn send_batches(
    c: &mut impl Carrier,
    sdus: &mut [u8],
    size: usize,
    seq: &mut u64,
    account: &mut Account,
) -> Result<(), Gone> {
    for (sdu, n) in sdus.chunks_exact_mut(size).zip(*seq..) {
        sdu::number(sdu, n);
    }
    let sent = c.send_batch(sdus, size)?;
    *seq += sent;
    account.sdus += sent;
    account.errors += u64::from(sent == 0);
    Ok(())
}

/// Tells the receiver that all was sent, and asks for its account; `None` if it never answers.
pub(crate) fn conclude(carrier: &mut impl Carrier, account: &Account) -> Result<Option<Account>, Gone> {
    let mut room = vec![0; sdu::MAX];
    for _ in 0..ASKS {
        carrier.send(&sdu::end(account))?;
        let asked = Instant::now();
        while let Some(wait) = ASK_EVERY.checked_sub(asked.elapsed()) {
            let Some(len) = carrier.recv_within(&mut room, wait)? else { break };
            if let Some(Sdu::Report(report)) = sdu::read(&room[..len]) {
                // Lost, it costs the receiver a moment.
                let _ = carrier.send(&sdu::ack());
                return Ok(Some(report));
            }
        }
    }
    Ok(None)
}

/// Both sides as the receiver knows them.
pub(crate) struct Received {
    /// The receiver's own account.
    pub(crate) own: Account,
    /// The sender's, if its last word came.
    pub(crate) sender: Option<Account>,
    /// Why the carrier carries no more, if it ended it.
    pub(crate) gone: Option<Gone>,
}

/// What the receiving loop keeps.
struct Count {
    arrivals: Arrivals,
    bytes: u64,
    end: Option<Account>,
    hello: bool,
}

impl Count {
    fn take(&mut self, bytes: &[u8]) {
        match sdu::read(bytes) {
            Some(Sdu::Data(seq)) if self.arrivals.take(seq) => self.bytes += bytes.len() as u64,
            Some(Sdu::End(account)) => self.end = Some(account),
            Some(Sdu::Hello(_)) => self.hello = true,
            _ => {}
        }
    }
}

/// Counts until the sender's last word, and answers it with the account.
pub(crate) fn receive(carrier: &mut impl Carrier, params: &Params) -> Received {
    let mut count = Count { arrivals: Arrivals::default(), bytes: 0, end: None, hello: false };
    let mut room = vec![0; sdu::MAX];
    let watch = match Watch::start(carrier, Watching { patience: SILENCE, kick: None, times: 1 }) {
        Ok(watch) => watch,
        Err(error) => return Received { own: Account::default(), sender: None, gone: Some(Gone(error.to_string())) },
    };
    let meter = Meter::start(carrier.has_helpers());
    let give_up = meter.start + params.time + SILENCE;
    let (mut first, mut last) = (None, meter.start);
    let gone = loop {
        let came = if params.batch {
            carrier.recv_batch(&mut |bytes| count.take(bytes))
        } else {
            carrier.recv(&mut room).map(|len| count.take(&room[..len]))
        };
        watch.step();
        let now = Instant::now();
        match came {
            Err(gone) => break Some(gone),
            Ok(()) if count.end.is_some() || now > give_up => break None,
            Ok(()) if count.hello => {
                count.hello = false;
                let _ = carrier.send(&sdu::welcome());
            }
            Ok(()) => {
                first.get_or_insert(now);
                last = now;
            }
        }
    };
    let Arrivals { received, duplicates, reordered, .. } = count.arrivals;
    let mut own = Account { sdus: received, bytes: count.bytes, duplicates, reordered, ..Account::default() };
    own.took(last - first.unwrap_or(last), meter.cpu());
    drop(watch);
    if gone.is_none() && count.end.is_some() {
        answer(carrier, &own, &mut room);
    }
    Received { own, sender: count.end, gone }
}

/// Sends the receiver's account for each time it is asked for.
pub(crate) fn answer(carrier: &mut impl Carrier, own: &Account, room: &mut [u8]) {
    let _ = carrier.send(&sdu::report(own));
    for _ in 0..ASKS {
        match carrier.recv_within(room, LINGER) {
            Ok(Some(len)) => match sdu::read(&room[..len]) {
                Some(Sdu::End(_)) => {
                    let _ = carrier.send(&sdu::report(own));
                }
                Some(Sdu::Ack) => return,
                _ => {}
            },
            Ok(None) | Err(Gone(_)) => return,
        }
    }
}
