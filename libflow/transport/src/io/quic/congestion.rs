//! Our congestion controller as the library wants one.

use std::any::Any;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use noq::congestion::{Controller, ControllerFactory, ControllerMetrics};
use noq_proto::RttEstimator;

use crate::machine::quic::congestion::Bbr;

/// Makes one for each path as the library counts them; a flow that moves has one for all, and `moves` says how often it did.
#[derive(Debug)]
pub(super) struct Factory {
    moves: Arc<AtomicU64>,
}

impl Factory {
    /// For a flow that counts its moves there.
    pub(super) fn new(moves: Arc<AtomicU64>) -> Self {
        Self { moves }
    }

    fn adapted(&self, now: Instant, mtu: u16) -> Adapted {
        // Any number will do that two flows do not share.
        let bbr = Bbr::new(now, mtu, RandomState::new().hash_one(()));
        Adapted { bbr, moves: self.moves.clone(), seen: self.moves.load(Ordering::Relaxed) }
    }
}

#[derive(Clone, Debug)]
struct Adapted {
    bbr: Bbr,
    moves: Arc<AtomicU64>,
    /// Moves that the controller was told of.
    seen: u64,
}

impl ControllerFactory for Factory {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(self.adapted(now, mtu))
    }
}

impl Controller for Adapted {
    fn on_packet_sent(&mut self, now: Instant, bytes: u16, number: u64) {
        let moves = self.moves.load(Ordering::Relaxed);
        if moves != self.seen {
            self.seen = moves;
            self.bbr.moved(now, number);
        }
        self.bbr.sent(now, number, bytes.into());
    }

    fn on_ack(&mut self, now: Instant, _: Instant, bytes: u64, number: u64, _: bool, _: &RttEstimator) {
        self.bbr.acked(now, number, bytes);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, _: Option<u64>) {
        self.bbr.acks_end(now, in_flight, app_limited);
    }

    fn on_packet_lost(&mut self, bytes: u16, number: u64, now: Instant) {
        self.bbr.lost(now, number, bytes.into());
    }

    fn on_congestion_event(&mut self, _: Instant, _: Instant, persistent: bool, ecn: bool, _: u64, number: u64) {
        if self.bbr.is_of_before(number) {
            return;
        }
        if ecn {
            self.bbr.marked();
        }
        if persistent {
            self.bbr.all_lost();
        }
    }

    fn on_spurious_congestion_event(&mut self) {
        self.bbr.none_lost();
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.bbr.set_packet(mtu);
    }

    fn window(&self) -> u64 {
        self.bbr.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.bbr.window();
        metrics.pacing_rate = Some(self.bbr.pacing() as u64);
        metrics.send_quantum = Some(self.bbr.burst());
        metrics.bandwidth_estimate = Some((self.bbr.bandwidth() * 8.0) as u64).filter(|rate| *rate > 0);
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        Bbr::FIRST_WINDOW * 1200
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "any instant will do as the origin of a test's time")]

    use std::time::Duration;

    use super::*;

    const FIRST: u64 = Bbr::FIRST_WINDOW * 1472;

    #[test]
    fn a_move_is_a_new_start() {
        let (start, moves) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let mut controller = Factory::new(moves.clone()).adapted(start, 1200);
        controller.on_mtu_update(1472);
        for round in 0..10u32 {
            let (now, first) = (start + Duration::from_millis(10) * round, u64::from(round) * 10);
            (first..first + 10).for_each(|number| controller.on_packet_sent(now, 1472, number));
            let now = now + Duration::from_millis(10);
            (first..first + 10).for_each(|number| controller.bbr.acked(now, number, 1472));
            controller.on_end_acks(now, 0, false, Some(first + 9));
        }
        let now = start + Duration::from_millis(100);
        (100..140).for_each(|number| controller.on_packet_sent(now, 1472, number));
        assert!(controller.window() > FIRST, "{}", controller.window());
        assert!(controller.metrics().bandwidth_estimate.is_some());
        moves.fetch_add(1, Ordering::Relaxed);
        controller.on_packet_sent(now, 1472, 140);
        let anew = |controller: &Adapted| {
            assert_eq!(controller.window(), FIRST);
            assert_eq!(controller.metrics().bandwidth_estimate, None);
        };
        anew(&controller);
        // Nothing that was under way before changes that, whether it arrived or not.
        (100..110).for_each(|number| controller.bbr.acked(now, number, 1472));
        controller.on_end_acks(now + Duration::from_millis(1), 31 * 1472, false, Some(109));
        (110..140).for_each(|number| controller.on_packet_lost(1472, number, now));
        controller.on_congestion_event(now, now, true, false, 30 * 1472, 139);
        anew(&controller);
        // Told once, it goes on from there.
        controller.bbr.acked(now + Duration::from_millis(50), 140, 1472);
        controller.on_end_acks(now + Duration::from_millis(50), 0, false, Some(140));
        controller.on_packet_sent(now + Duration::from_millis(50), 1472, 141);
        assert!(controller.window() > FIRST, "{}", controller.window());
    }
}
