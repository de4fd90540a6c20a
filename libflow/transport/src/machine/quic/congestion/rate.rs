//! How fast data arrive at the peer: a sample from each acknowledgement, after draft-ietf-ccwg-bbr, "Delivery Rate
//! Estimation".

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Packets that are remembered at most: 380 MB under way. Beyond that the oldest give no samples.
const REMEMBERED: usize = 1 << 18;
/// What is heard of a packet is heard by then. Of a lost probe of the path's MTU, and of what was under way when the peer's
/// address changed, the transport says nothing.
const HEARD_WITHIN: Duration = Duration::from_secs(10);

/// What is remembered of a packet until it is acknowledged or lost.
#[derive(Clone, Copy, Debug)]
struct Packet {
    number: u64,
    bytes: u64,
    sent: Instant,
    /// What had been delivered when it was sent, and when the last of that was.
    delivered: u64,
    delivered_at: Instant,
    /// When the packet was sent that was acknowledged last before.
    first_sent: Instant,
    /// Bytes under way, itself included.
    in_flight: u64,
    lost: u64,
    app_limited: bool,
    /// Acknowledged, or lost.
    gone: bool,
}

/// What an acknowledgement says of the time since the newest packet in it was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Bytes per second; `None` where the time was too short to tell.
    pub(crate) rate: Option<f64>,
    /// The program had less to send than the path bears.
    pub(crate) app_limited: bool,
    /// Bytes delivered in that time.
    pub(crate) delivered: u64,
    /// What had been delivered before.
    pub(crate) prior_delivered: u64,
    /// Bytes that were under way when the packet was sent.
    pub(crate) in_flight: u64,
    /// Bytes that this acknowledgement confirmed.
    pub(crate) acked: u64,
    pub(crate) rtt: Duration,
}

/// A packet that was lost, and what else was since it was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loss {
    pub(crate) in_flight: u64,
    pub(crate) lost: u64,
    pub(crate) bytes: u64,
    pub(crate) app_limited: bool,
}

/// The packets under way, and what became of those before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rate {
    packets: VecDeque<Packet>,
    /// How many of them are gone.
    gone: usize,
    /// Bytes acknowledged so far.
    pub(crate) delivered: u64,
    /// Bytes lost so far.
    pub(crate) lost: u64,
    /// Bytes under way.
    pub(crate) in_flight: u64,
    delivered_at: Option<Instant>,
    first_sent: Option<Instant>,
    /// Until so much is delivered, packets were sent while the program had no more. 0: it has.
    app_limited: u64,
    /// Of the acknowledgement that is being read: the newest packet, and all its bytes.
    newest: Option<Packet>,
    acked: u64,
}

impl Rate {
    pub(crate) fn sent(&mut self, now: Instant, number: u64, bytes: u64) {
        if self.in_flight == 0 {
            self.first_sent = Some(now);
            self.delivered_at = Some(now);
        }
        // Another space of packet numbers: those of the handshake that are still under way are not worth a second table.
        if self.packets.back().is_some_and(|last| last.number >= number) {
            self.packets.clear();
            self.gone = 0;
        }
        self.forget(now);
        self.in_flight += bytes;
        self.packets.push_back(Packet {
            number,
            bytes,
            sent: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at.unwrap_or(now),
            first_sent: self.first_sent.unwrap_or(now),
            in_flight: self.in_flight,
            lost: self.lost,
            app_limited: self.app_limited > 0,
            gone: false,
        });
    }

    /// A packet was acknowledged; `sample` after the last of one acknowledgement.
    pub(crate) fn acked(&mut self, now: Instant, number: u64, bytes: u64) {
        self.delivered += bytes;
        self.delivered_at = Some(now);
        self.acked += bytes;
        self.in_flight = self.in_flight.saturating_sub(bytes);
        if let Some(packet) = self.take(number)
            && self.newest.is_none_or(|newest| newest.sent <= packet.sent)
        {
            self.newest = Some(packet);
        }
    }

    /// A packet was lost. `None` where nothing is known of it.
    pub(crate) fn lost(&mut self, number: u64, bytes: u64) -> Option<Loss> {
        self.lost += bytes;
        self.in_flight = self.in_flight.saturating_sub(bytes);
        let packet = self.take(number)?;
        Some(Loss {
            in_flight: packet.in_flight,
            lost: self.lost - packet.lost,
            bytes: packet.bytes,
            app_limited: packet.app_limited,
        })
    }

    /// What the acknowledgement says. A rate over less than `min_rtt` is no rate: the peer confirmed a heap at once.
    pub(crate) fn sample(&mut self, now: Instant, min_rtt: Option<Duration>) -> Option<Sample> {
        let acked = std::mem::take(&mut self.acked);
        let newest = self.newest.take()?;
        self.first_sent = Some(newest.sent);
        let sending = newest.sent.saturating_duration_since(newest.first_sent);
        let interval = sending.max(now.saturating_duration_since(newest.delivered_at));
        let delivered = self.delivered - newest.delivered;
        let long = !interval.is_zero() && min_rtt.is_none_or(|min_rtt| interval >= min_rtt);
        Some(Sample {
            rate: long.then(|| delivered as f64 / interval.as_secs_f64()),
            app_limited: newest.app_limited,
            delivered,
            prior_delivered: newest.delivered,
            in_flight: newest.in_flight,
            acked,
            rtt: now.saturating_duration_since(newest.sent),
        })
    }

    /// What the transport counts as under way, and whether the program had nothing more to send.
    pub(crate) fn settle(&mut self, in_flight: u64, app_limited: bool) {
        self.in_flight = in_flight;
        if self.app_limited > 0 && self.delivered > self.app_limited {
            self.app_limited = 0;
        }
        if app_limited {
            self.app_limited = (self.delivered + in_flight).max(1);
        }
    }

    /// Nothing is under way because the program sends nothing.
    pub(crate) fn idle(&self) -> bool {
        self.in_flight == 0 && self.app_limited > 0
    }

    fn take(&mut self, number: u64) -> Option<Packet> {
        let at = self.packets.binary_search_by_key(&number, |packet| packet.number).ok()?;
        let packet = self.packets.get_mut(at).filter(|packet| !packet.gone)?;
        packet.gone = true;
        let packet = *packet;
        self.gone += 1;
        while self.packets.front().is_some_and(|first| first.gone) {
            self.pop();
        }
        Some(packet)
    }

    /// Makes room: what nothing more will be heard of does not keep what came after it.
    fn forget(&mut self, now: Instant) {
        let old = |packet: &Packet| now.saturating_duration_since(packet.sent) > HEARD_WITHIN;
        while self.packets.len() >= REMEMBERED || self.packets.front().is_some_and(|first| first.gone || old(first)) {
            self.pop();
        }
        // Each packet is moved at most once for each that went.
        if self.gone > 64 && self.gone > self.packets.len() / 2 {
            self.packets.retain(|packet| !packet.gone);
            self.gone = 0;
        }
    }

    fn pop(&mut self) {
        if self.packets.pop_front().is_some_and(|packet| packet.gone) {
            self.gone -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::moment;
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_steady_sender_is_measured_at_its_rate() {
        let (start, mut rate) = (moment(), Rate::default());
        let mut last = None;
        // A packet each ms, acknowledged 10 ms later.
        for at in 0..100u32 {
            let now = start + MS * at;
            if let Some(number) = at.checked_sub(10) {
                rate.acked(now, number.into(), 1000);
                last = rate.sample(now, Some(MS * 10));
            }
            rate.sent(now, at.into(), 1000);
        }
        let sample = last.unwrap();
        assert_eq!(sample.rate.unwrap().round(), 1_000_000.0);
        assert_eq!((sample.rtt, sample.delivered, sample.in_flight), (MS * 10, 10_000, 10_000));
        assert!(rate.packets.len() <= 11);
    }

    #[test]
    fn packets_of_which_nothing_is_heard_cost_nothing() {
        let (start, mut rate) = (moment(), Rate::default());
        // Each hundredth packet is a probe that is neither acknowledged nor lost.
        for at in 0..100_000u32 {
            let now = start + MS * at;
            if let Some(number) = at.checked_sub(10).filter(|number| number % 100 != 0) {
                rate.acked(now, number.into(), 1000);
                assert!(rate.sample(now, None).is_some());
            }
            rate.sent(now, at.into(), 1000);
            // Those of ten seconds, and what is under way.
            assert!(rate.packets.len() <= 2 * (100 + 11) + 65, "{} at {at}", rate.packets.len());
        }
        assert_eq!(rate.gone, rate.packets.iter().filter(|packet| packet.gone).count());
    }

    #[test]
    fn a_heap_of_acknowledgements_is_no_rate() {
        let (start, mut rate) = (moment(), Rate::default());
        rate.sent(start, 0, 1000);
        rate.acked(start + MS, 0, 1000);
        assert!(rate.sample(start + MS, Some(MS * 10)).unwrap().rate.is_none());
    }

    #[test]
    fn what_a_program_did_not_send_is_no_bound() {
        let (start, mut rate) = (moment(), Rate::default());
        rate.sent(start, 0, 1000);
        rate.acked(start + MS, 0, 1000);
        assert!(!rate.sample(start + MS, None).unwrap().app_limited);
        rate.settle(0, true);
        assert!(rate.idle());
        rate.sent(start + MS, 1, 1000);
        rate.acked(start + MS * 2, 1, 1000);
        assert!(rate.sample(start + MS * 2, None).unwrap().app_limited);
    }

    #[test]
    fn numbers_that_begin_again_confuse_nothing() {
        let (start, mut rate) = (moment(), Rate::default());
        rate.sent(start, 5, 1000);
        rate.sent(start, 0, 1000);
        rate.acked(start + MS, 5, 1000);
        assert!(rate.sample(start + MS, None).is_none());
        let loss = rate.lost(0, 1000).unwrap();
        assert_eq!((loss.lost, loss.in_flight, rate.in_flight), (1000, 2000, 0));
        assert!(rate.lost(0, 1000).is_none());
    }
}
