//! What is measured of a forwarder.

/// Of one round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    /// Gbit/s of one stream, and of eight.
    pub(super) one: f64,
    pub(super) eight: f64,
    /// Seconds for each gigabyte of the one.
    pub(super) cpu: f64,
    /// Microseconds.
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// A second.
    pub(super) connects: f64,
    /// Kibibytes for each connection.
    pub(super) idle: Option<f64>,
}
