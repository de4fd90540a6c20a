//! Our congestion controller as the library wants one.

use std::any::Any;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use noq::congestion::{Controller, ControllerFactory, ControllerMetrics};
use noq_proto::RttEstimator;

use crate::machine::quic::congestion::Bbr;

/// Makes one for each path.
#[derive(Debug, Default)]
pub(super) struct Factory;

#[derive(Clone, Debug)]
struct Adapted(Bbr);

impl ControllerFactory for Factory {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        // Any number will do that two flows do not share.
        Box::new(Adapted(Bbr::new(now, mtu, RandomState::new().hash_one(()))))
    }
}

impl Controller for Adapted {
    fn on_packet_sent(&mut self, now: Instant, bytes: u16, number: u64) {
        self.0.sent(now, number, bytes.into());
    }

    fn on_ack(&mut self, now: Instant, _: Instant, bytes: u64, number: u64, _: bool, _: &RttEstimator) {
        self.0.acked(now, number, bytes);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, _: Option<u64>) {
        self.0.acks_end(now, in_flight, app_limited);
    }

    fn on_packet_lost(&mut self, bytes: u16, number: u64, now: Instant) {
        self.0.lost(now, number, bytes.into());
    }

    fn on_congestion_event(&mut self, _: Instant, _: Instant, persistent: bool, ecn: bool, _: u64, _: u64) {
        if ecn {
            self.0.marked();
        }
        if persistent {
            self.0.all_lost();
        }
    }

    fn on_spurious_congestion_event(&mut self) {
        self.0.none_lost();
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.0.set_packet(mtu);
    }

    fn window(&self) -> u64 {
        self.0.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.0.window();
        metrics.pacing_rate = Some(self.0.pacing() as u64);
        metrics.send_quantum = Some(self.0.burst());
        metrics.bandwidth_estimate = Some((self.0.bandwidth() * 8.0) as u64).filter(|rate| *rate > 0);
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
