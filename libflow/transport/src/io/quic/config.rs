//! What is asked of the library.

use std::sync::Arc;
use std::time::Duration;

use noq::congestion::{ControllerFactory, CubicConfig, NewRenoConfig};
use noq::{EndpointConfig, MtuDiscoveryConfig, TransportConfig, VarInt};

use super::congestion;
use super::link::Link;
use crate::Congestion;

/// Streams that either side of a flow may have open at once, at least.
pub const MAX_STREAMS: u32 = 1024;
/// What the peer is granted: the library tells of ended streams when they are more than an eighth of that.
const GRANTED: u32 = MAX_STREAMS + MAX_STREAMS / 7 + 1;
/// Unidirectional streams: the server's welcome, and what later versions add.
const OURS: u32 = 4;
/// Messages that wait to be sent, bytes.
const UNSENT_MESSAGES: usize = 256 << 10;
/// Ethernet's longest UDP payload over IPv4 and over IPv6: up to where the path is searched.
const MTU: [u16; 2] = [1472, 1452];
/// TLS: a chain of 16 KiB and what is around it.
const HANDSHAKE_BYTES: usize = 24 << 10;

/// How a flow behaves. The windows are what the peer can make this program keep in memory.
#[derive(Clone, Debug)]
pub struct Options {
    /// How this side finds out how much the path bears.
    pub congestion: Congestion,
    /// A peer that is silent for so long is gone. The shorter one of both sides counts. Default 45 s.
    pub idle_timeout: Duration,
    /// An idle flow says something each such time, which keeps it, and the NATs under way, alive. Default 15 s.
    pub keep_alive: Option<Duration>,
    /// Bytes of one stream that may wait for this program to read them. Default 2 MiB: 400 Mbit/s at 40 ms.
    pub stream_window: u32,
    /// Bytes of all streams together. Default 256 MiB: 127 streams that nobody reads do not hinder the others.
    pub flow_window: u32,
    /// Bytes written that the peer has not confirmed. Default 16 MiB.
    pub send_window: u32,
    /// Bytes of messages that wait for this program; then the oldest are dropped. Default 1 MiB.
    pub message_window: u32,
    /// What the round trip is taken for until it is measured. Default 100 ms.
    pub first_rtt: Duration,
    /// How long a close waits for what was finished to arrive. Default 60 s.
    pub close_within: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            congestion: Congestion::default(),
            idle_timeout: Duration::from_secs(45),
            keep_alive: Some(Duration::from_secs(15)),
            stream_window: 2 << 20,
            flow_window: 256 << 20,
            send_window: 16 << 20,
            message_window: 1 << 20,
            first_rtt: Duration::from_millis(100),
            close_within: Duration::from_secs(60),
        }
    }
}

fn controller(congestion: Congestion, link: &Link) -> Arc<dyn ControllerFactory + Send + Sync> {
    match congestion {
        Congestion::Bbr3 => Arc::new(congestion::Factory::new(link.moves())),
        Congestion::Cubic => Arc::new(CubicConfig::default()),
        Congestion::NewReno => Arc::new(NewRenoConfig::default()),
    }
}

/// One connection.
pub(super) fn transport(options: &Options, link: &Link) -> Arc<TransportConfig> {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(if link.is_v4() { MTU[0] } else { MTU[1] });
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(GRANTED.into())
        .max_concurrent_uni_streams(OURS.into())
        .max_idle_timeout(options.idle_timeout.try_into().ok())
        .keep_alive_interval(options.keep_alive)
        .stream_receive_window(options.stream_window.into())
        .receive_window(options.flow_window.into())
        .send_window(options.send_window.into())
        .datagram_receive_buffer_size(Some(options.message_window as usize))
        .datagram_send_buffer_size(UNSENT_MESSAGES)
        .crypto_buffer_size(HANDSHAKE_BYTES)
        .initial_rtt(options.first_rtt)
        .mtu_discovery_config(Some(mtu))
        .congestion_controller_factory(controller(options.congestion, link))
        // Nobody on the path needs to know the round trip.
        .allow_spin(false);
    Arc::new(config)
}

/// The one endpoint of a flow's socket. It takes datagrams of up to 1472 bytes, the library's default.
pub(super) fn endpoint() -> EndpointConfig {
    let mut config = EndpointConfig::default();
    // QUIC's first byte is then never NUL, which the daemons' own datagrams begin with.
    config.grease_quic_bit(false);
    config
}

/// A reason as QUIC carries it.
pub(super) fn code(reason: crate::Reason) -> VarInt {
    VarInt::from_u32(reason.0)
}

/// And back; a flow's peer sends no longer ones.
pub(super) fn reason(code: VarInt) -> crate::Reason {
    crate::Reason(u32::try_from(code.into_inner()).unwrap_or(u32::MAX))
}
