//! One direction of a host's access to its network.

use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng;

use crate::chance::{happens, up_to};

/// What a link does to datagrams. The default delivers all at once. Probabilities are 0 to 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link {
    /// From one end to the other.
    pub delay: Duration,
    /// Added at random, at most; by itself it never lets one datagram overtake another.
    pub jitter: Duration,
    /// Lost, each by itself.
    pub loss: f64,
    /// Lost in a row.
    pub bursts: Option<Bursts>,
    /// Held back by `hold`, so that what is sent meanwhile overtakes it.
    pub reorder: f64,
    /// How long a datagram that is to be overtaken is held back.
    pub hold: Duration,
    /// Delivered twice, the copy up to `jitter` and 1 ms later.
    pub duplicate: f64,
    /// Delivered with one bit changed, as where the checksum is off (RFC 768: zero means none).
    pub corrupt: f64,
    /// No faster than this.
    pub rate: Option<Rate>,
}

/// Loss in bursts (Gilbert and Elliott): while it is bad everything is lost. Rolled once per datagram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bursts {
    /// It becomes bad.
    pub begin: f64,
    /// It becomes good again; a burst is 1 / `end` datagrams long on average.
    pub end: f64,
}

/// A bottleneck and its queue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Bits per second, counting UDP payload and 28 bytes of headers.
    pub bits: u64,
    /// Bytes that wait at most; what does not fit is lost.
    pub queue: u64,
}

/// UDP and IPv4.
const HEADERS: u64 = 28;

/// A link and what it remembers.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) link: Link,
    bad: bool,
    free: Option<Instant>,
    last: Option<Instant>,
}

/// One copy of a datagram at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passage {
    pub(crate) at: Instant,
    /// The bit that was changed.
    pub(crate) flipped: Option<usize>,
}

impl Line {
    pub(crate) fn new(link: Link) -> Self {
        Self { link, bad: false, free: None, last: None }
    }

    /// Sends a datagram of `length` bytes along; none, one or two copies come out.
    pub(crate) fn pass(&mut self, now: Instant, length: usize, rng: &mut ChaCha12Rng) -> Vec<Passage> {
        let burst = self.in_burst(rng);
        let lost = happens(rng, self.link.loss);
        let Some(left) = self.queue(now, length) else { return Vec::new() };
        if burst || lost {
            return Vec::new();
        }
        let mut at = left + self.link.delay + up_to(rng, self.link.jitter);
        if happens(rng, self.link.reorder) {
            at += self.link.hold;
        } else {
            at = self.last.map_or(at, |last| last.max(at));
            self.last = Some(at);
        }
        let flipped = (length > 0 && happens(rng, self.link.corrupt)).then(|| rng.next_u32() as usize % (8 * length));
        let mut copies = vec![Passage { at, flipped }];
        if happens(rng, self.link.duplicate) {
            let later = up_to(rng, self.link.jitter + Duration::from_millis(1));
            copies.push(Passage { at: at + later, flipped });
        }
        copies
    }

    fn in_burst(&mut self, rng: &mut ChaCha12Rng) -> bool {
        if let Some(Bursts { begin, end }) = self.link.bursts {
            self.bad = if self.bad { !happens(rng, end) } else { happens(rng, begin) };
        }
        self.bad
    }

    /// When the datagram has left the queue; `None`: it did not fit.
    fn queue(&mut self, now: Instant, length: usize) -> Option<Instant> {
        let Some(Rate { bits, queue }) = self.link.rate else { return Some(now) };
        let free = self.free.unwrap_or(now).max(now);
        let waiting = (free - now).as_nanos() * u128::from(bits) / 8_000_000_000;
        let length = length as u64 + HEADERS;
        if waiting + u128::from(length) > u128::from(queue.max(length)) {
            return None;
        }
        let left = free + Duration::from_nanos(length * 8 * 1_000_000_000 / bits.max(1));
        self.free = Some(left);
        Some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    #[expect(clippy::disallowed_methods, reason = "any instant will do as the origin of a test's time")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// What becomes of `count` datagrams, `pause` apart: their number, their copies in order of sending.
    fn send(link: Link, count: u64, pause: Duration, length: usize) -> (Instant, Vec<Vec<Passage>>) {
        let (start, mut rng) = (origin(), ChaCha12Rng::seed_from_u64(7));
        let mut line = Line::new(link);
        let sent = (0..count).map(|n| line.pass(start + pause * n as u32, length, &mut rng));
        (start, sent.collect())
    }

    #[test]
    fn a_good_link_delays_only() {
        let (start, sent) = send(Link { delay: ms(20), ..Link::default() }, 3, ms(1), 10);
        let want: Vec<_> = (0..3).map(|n| vec![Passage { at: start + ms(20 + n), flipped: None }]).collect();
        assert_eq!(sent, want);
    }

    #[test]
    fn faults_are_as_frequent_as_asked() {
        let share = |link: Link, what: fn(&Vec<Passage>) -> bool| {
            let (_, sent) = send(link, 10_000, ms(1), 10);
            sent.iter().filter(|copies| what(copies)).count()
        };
        let one = || Link::default();
        assert!((900..1100).contains(&share(Link { loss: 0.1, ..one() }, |c| c.is_empty())));
        assert!((900..1100).contains(&share(Link { duplicate: 0.1, ..one() }, |c| c.len() == 2)));
        assert!((900..1100).contains(&share(Link { corrupt: 0.1, ..one() }, |c| c[0].flipped.is_some())));
        assert_eq!(share(Link { loss: 1.0, ..one() }, |c| c.is_empty()), 10_000);
        assert_eq!(share(one(), |c| c.len() != 1 || c[0].flipped.is_some()), 0);
    }

    #[test]
    fn bursts_are_as_long_as_asked() {
        let bursts = Some(Bursts { begin: 0.01, end: 0.2 });
        let (_, sent) = send(Link { bursts, ..Link::default() }, 100_000, ms(1), 10);
        let lost = sent.iter().filter(|copies| copies.is_empty()).count();
        let runs = sent.windows(2).filter(|two| !two[0].is_empty() && two[1].is_empty()).count();
        assert!((400..600).contains(&(100 * lost / runs)), "{lost} lost in {runs} runs: five each");
    }

    #[test]
    fn jitter_keeps_the_order_and_reordering_does_not() {
        let overtaken = |link: Link| {
            let (_, sent) = send(link, 1000, ms(1), 10);
            let at: Vec<_> = sent.iter().map(|copies| copies[0].at).collect();
            at.windows(2).filter(|two| two[1] < two[0]).count()
        };
        assert_eq!(overtaken(Link { jitter: ms(10), ..Link::default() }), 0);
        let held = overtaken(Link { reorder: 0.05, hold: ms(5), ..Link::default() });
        assert!((30..70).contains(&held), "{held}");
    }

    #[test]
    fn a_rate_spaces_datagrams_and_its_queue_ends() {
        // 1,250 bytes with headers are 10 ms at 1 Mbit/s; four fit into the queue.
        let rate = Some(Rate { bits: 1_000_000, queue: 5000 });
        let (start, sent) = send(Link { rate, ..Link::default() }, 6, ms(0), 1222);
        let at: Vec<_> = sent.iter().map(|copies| copies.first().map(|copy| copy.at - start)).collect();
        assert_eq!(at, [Some(ms(10)), Some(ms(20)), Some(ms(30)), Some(ms(40)), None, None]);
    }
}
