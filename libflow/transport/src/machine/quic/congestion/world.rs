//! A sender, a link, a receiver, in virtual time: what a congestion controller makes of a path.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

use super::{Bbr, xorshift};

pub(super) const PACKET: u64 = 1472;
const MS: Duration = Duration::from_millis(1);

/// Where a test's time begins.
#[expect(clippy::disallowed_methods, reason = "any instant will do as the origin of a test's time")]
pub(super) fn moment() -> Instant {
    Instant::now()
}

/// A bottleneck and the way there and back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    /// Bytes per second.
    pub(super) rate: f64,
    pub(super) rtt: Duration,
    /// Bytes that wait at the bottleneck at most.
    pub(super) queue: u64,
    /// Share lost by chance, after the queue.
    pub(super) loss: f64,
    /// Each acknowledgement is late by up to so much.
    pub(super) jitter: Duration,
    /// One in ten times the sender's machine wakes it late, by up to so much.
    pub(super) late: Duration,
}

impl Path {
    /// With a queue of one bandwidth-delay product.
    pub(super) fn new(mbit: f64, rtt_ms: u64, loss: f64) -> Self {
        let (rate, rtt) = (mbit * 1e6 / 8.0, MS * u32::try_from(rtt_ms).unwrap());
        let queue = (rate * rtt.as_secs_f64()) as u64;
        Self { rate, rtt, queue, loss, jitter: Duration::ZERO, late: Duration::ZERO }
    }
}

/// Who sends.
#[derive(Debug)]
pub(super) enum Control {
    Bbr(Box<Bbr>),
    Cubic(Cubic),
}

/// A TCP of today, roughly: RFC 9438 without its finer points.
#[derive(Debug)]
pub(super) struct Cubic {
    window: f64,
    most: f64,
    since: Option<Instant>,
    slow_start: bool,
    recovered_at: u64,
}

impl Cubic {
    pub(super) fn new() -> Self {
        Self { window: 10.0, most: 0.0, since: None, slow_start: true, recovered_at: 0 }
    }

    fn acked(&mut self, now: Instant, rtt: Duration) {
        if self.slow_start {
            self.window += 1.0;
            return;
        }
        let since = *self.since.get_or_insert(now);
        let time = (now + rtt).saturating_duration_since(since).as_secs_f64();
        let k = (self.most * 0.3 / 0.4).cbrt();
        let target = 0.4 * (time - k).powi(3) + self.most;
        let reno = self.most * 0.7 + 0.53 * time / rtt.as_secs_f64();
        let target = target.max(reno);
        if target > self.window {
            self.window += ((target - self.window) / self.window).min(0.5);
        }
    }

    fn lost(&mut self, number: u64, next: u64) {
        if number < self.recovered_at {
            return;
        }
        self.recovered_at = next;
        self.most = self.window;
        self.window = (self.window * 0.7).max(2.0);
        self.slow_start = false;
        self.since = None;
    }
}

/// What became of a sender.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) lost: u64,
}

struct Sender {
    control: Control,
    next: u64,
    /// When each packet under way was sent.
    under_way: BTreeMap<u64, Instant>,
    largest: u64,
    tokens: f64,
    refilled: Instant,
    wake: Option<Instant>,
    tally: Tally,
    /// Packets that arrived and are not acknowledged yet.
    arrived: Vec<u64>,
    /// When something was acknowledged last.
    heard: Instant,
    /// Acknowledgements overtake none.
    last_ack: Instant,
    rtt: Duration,
    /// Sends from here on.
    start: Instant,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wake,
    Arrive(u64),
    /// Nothing was acknowledged for long.
    Silence,
    /// The receiver does not wait for a second packet any longer.
    Alone,
    Ack(Vec<u64>),
}

/// Senders that share a path.
pub(super) struct World {
    pub(super) path: Path,
    senders: Vec<Sender>,
    events: BinaryHeap<Reverse<(Instant, u64, usize, Event)>>,
    count: u64,
    now: Instant,
    start: Instant,
    /// When the bottleneck is through with what waits.
    busy_until: Instant,
    random: u64,
    /// The bottleneck's worst and the sum of all waits, for a mean.
    waits: (Duration, u64),
}

impl World {
    pub(super) fn new(path: Path, seed: u64) -> Self {
        let start = moment();
        Self {
            path,
            senders: Vec::new(),
            events: BinaryHeap::new(),
            count: 0,
            now: start,
            start,
            busy_until: start,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            waits: (Duration::ZERO, 0),
        }
    }

    /// A BBR that begins after `after`.
    pub(super) fn bbr(&mut self, after: Duration) {
        let seed = self.draw();
        let at = self.now + after;
        self.join(Control::Bbr(Box::new(Bbr::new(at, u16::try_from(PACKET).unwrap(), seed))), after);
    }

    pub(super) fn cubic(&mut self, after: Duration) {
        self.join(Control::Cubic(Cubic::new()), after);
    }

    fn join(&mut self, control: Control, after: Duration) {
        let at = self.now + after;
        self.senders.push(Sender {
            control,
            next: 0,
            under_way: BTreeMap::new(),
            largest: 0,
            tokens: 0.0,
            refilled: at,
            wake: None,
            tally: Tally::default(),
            arrived: Vec::new(),
            heard: at,
            last_ack: at,
            rtt: self.path.rtt,
            start: at,
        });
        self.at(at, self.senders.len() - 1, Event::Wake);
        self.at(at, self.senders.len() - 1, Event::Silence);
    }

    /// Lets `time` pass; what each sender got through in it.
    pub(super) fn run(&mut self, time: Duration) -> Vec<Tally> {
        let before: Vec<Tally> = self.senders.iter().map(|sender| sender.tally).collect();
        let end = self.now + time;
        while let Some(Reverse((at, ..))) = self.events.peek()
            && *at <= end
        {
            let Some(Reverse((at, _, who, event))) = self.events.pop() else { break };
            self.now = at;
            match event {
                Event::Wake => self.send(who),
                Event::Arrive(number) => self.arrive(who, number),
                Event::Alone => self.acknowledge(who),
                Event::Silence => self.silence(who),
                Event::Ack(numbers) => self.acked(who, &numbers),
            }
        }
        self.now = end;
        let since = |(sender, before): (&Sender, &Tally)| Tally {
            sent: sender.tally.sent - before.sent,
            received: sender.tally.received - before.received,
            lost: sender.tally.lost - before.lost,
        };
        self.senders.iter().zip(&before).map(since).collect()
    }

    /// The mean time in the queue since the last call.
    pub(super) fn mean_wait(&mut self) -> Duration {
        let (sum, count) = std::mem::take(&mut self.waits);
        sum / u32::try_from(count.max(1)).unwrap()
    }

    pub(super) fn control(&self, who: usize) -> &Bbr {
        match &self.senders[who].control {
            Control::Bbr(bbr) => bbr,
            Control::Cubic(_) => panic!("sender {who} is a TCP"),
        }
    }

    /// A BBR is told that its path is another one.
    pub(super) fn moved(&mut self, who: usize) {
        let sender = &mut self.senders[who];
        if let Control::Bbr(bbr) = &mut sender.control {
            bbr.moved(self.now, sender.next);
        }
    }

    fn at(&mut self, at: Instant, who: usize, event: Event) {
        self.count += 1;
        self.events.push(Reverse((at, self.count, who, event)));
    }

    fn draw(&mut self) -> u64 {
        xorshift(&mut self.random)
    }

    fn chance(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// As much as window and pacing allow; timers are as coarse as a program's: the next whole millisecond.
    fn send(&mut self, who: usize) {
        let now = self.now;
        if now < self.senders[who].start || self.senders[who].wake.is_some_and(|at| at > now) {
            return;
        }
        self.senders[who].wake = None;
        loop {
            let late = if self.chance() < 0.1 { self.path.late.mul_f64(self.chance()) } else { Duration::ZERO };
            let sender = &mut self.senders[who];
            let under_way = sender.under_way.len() as u64 * PACKET;
            let (window, pacing) = match &sender.control {
                Control::Bbr(bbr) => (bbr.window(), Some(bbr.pacing())),
                Control::Cubic(cubic) => ((cubic.window * PACKET as f64) as u64, None),
            };
            if under_way + PACKET > window {
                return;
            }
            if let Some(rate) = pacing {
                let most = (rate * 0.002).clamp(10.0 * PACKET as f64, 256.0 * PACKET as f64).min(rate * 0.01);
                let most = most.max(PACKET as f64);
                let passed = now.saturating_duration_since(sender.refilled).as_secs_f64();
                sender.tokens = (sender.tokens + rate * passed).min(most);
                sender.refilled = now;
                if sender.tokens < PACKET as f64 {
                    let rest = Duration::from_secs_f64((PACKET as f64 - sender.tokens) / rate);
                    let since = (now + rest).saturating_duration_since(self.start).as_nanos();
                    let tick = u32::try_from(since / 1_000_000 + 1).unwrap();
                    let at = self.start + MS * tick + late;
                    sender.wake = Some(at);
                    self.at(at, who, Event::Wake);
                    return;
                }
                sender.tokens -= PACKET as f64;
            }
            self.packet(who);
        }
    }

    fn packet(&mut self, who: usize) {
        let now = self.now;
        let sender = &mut self.senders[who];
        let number = sender.next;
        sender.next += 1;
        sender.tally.sent += 1;
        sender.under_way.insert(number, now);
        if let Control::Bbr(bbr) = &mut sender.control {
            bbr.sent(now, number, PACKET);
        }
        let begins = self.busy_until.max(now);
        let wait = begins.saturating_duration_since(now);
        if wait.as_secs_f64() * self.path.rate > self.path.queue as f64 {
            return;
        }
        self.waits = (self.waits.0 + wait, self.waits.1 + 1);
        self.busy_until = begins + Duration::from_secs_f64(PACKET as f64 / self.path.rate);
        if self.chance() < self.path.loss {
            return;
        }
        let at = self.busy_until + self.path.rtt / 2;
        self.at(at, who, Event::Arrive(number));
    }

    /// Every second packet is acknowledged at once; one that is alone is, 2 ms later.
    fn arrive(&mut self, who: usize, number: u64) {
        let sender = &mut self.senders[who];
        sender.tally.received += 1;
        sender.arrived.push(number);
        match sender.arrived.len() {
            1 => self.at(self.now + MS * 2, who, Event::Alone),
            _ => self.acknowledge(who),
        }
    }

    fn acknowledge(&mut self, who: usize) {
        let numbers = std::mem::take(&mut self.senders[who].arrived);
        if !numbers.is_empty() {
            let late = self.path.jitter.mul_f64(self.chance());
            let at = self.senders[who].last_ack.max(self.now + self.path.rtt / 2 + late);
            self.senders[who].last_ack = at;
            self.at(at, who, Event::Ack(numbers));
        }
    }

    fn acked(&mut self, who: usize, numbers: &[u64]) {
        let now = self.now;
        let sender = &mut self.senders[who];
        sender.heard = now;
        for number in numbers {
            let Some(sent) = sender.under_way.remove(number) else { continue };
            sender.rtt = now.saturating_duration_since(sent);
            sender.largest = sender.largest.max(*number);
            match &mut sender.control {
                Control::Bbr(bbr) => bbr.acked(now, *number, PACKET),
                Control::Cubic(cubic) => cubic.acked(now, sender.rtt),
            }
        }
        if let Control::Bbr(bbr) = &mut sender.control {
            bbr.acks_end(now, sender.under_way.len() as u64 * PACKET, false);
        }
        let gone: Vec<u64> = sender.under_way.range(..sender.largest.saturating_sub(2)).map(|(at, _)| *at).collect();
        self.lost(who, gone);
        self.send(who);
    }

    fn lost(&mut self, who: usize, gone: Vec<u64>) {
        let sender = &mut self.senders[who];
        for number in gone {
            sender.under_way.remove(&number);
            sender.tally.lost += 1;
            match &mut sender.control {
                Control::Bbr(bbr) => bbr.lost(self.now, number, PACKET),
                Control::Cubic(cubic) => cubic.lost(number, sender.next),
            }
        }
    }

    /// All is taken for lost that is under way if nothing was heard for two round trips and a quarter of a second.
    fn silence(&mut self, who: usize) {
        let sender = &self.senders[who];
        let patience = self.path.rtt * 2 + MS * 250;
        if !sender.under_way.is_empty() && self.now.saturating_duration_since(sender.heard) > patience {
            let gone = sender.under_way.keys().copied().collect();
            self.lost(who, gone);
            match &mut self.senders[who].control {
                Control::Bbr(bbr) => bbr.all_lost(),
                Control::Cubic(cubic) => (cubic.window, cubic.slow_start) = (2.0, true),
            }
            self.send(who);
        }
        self.at(self.now + MS * 50, who, Event::Silence);
    }
}
