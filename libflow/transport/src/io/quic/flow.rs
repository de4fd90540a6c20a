//! A flow between hosts.
#![expect(clippy::disallowed_methods, reason = "a close waits for messages to leave")]

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use noq::{Connection, Endpoint, PathId, SendDatagramError, VarInt};

use super::ending::{Unconfirmed, at_once};
use super::link::Link;
use super::stream::{RecvHalf, SendHalf};
use crate::machine::quic::verdict::{ABORTED, CLOSED, NONSENSE, over};
use crate::{MessageError, Over, Stats, StreamError};

/// How long the peer is told of the end, before its own idle timeout must do.
const FAREWELL: Duration = Duration::from_secs(1);

/// How often a close looks whether messages have left.
const LOOKED_AFTER: Duration = Duration::from_millis(1);

/// One end of a message or stream flow between two hosts.
///
/// A clone is the same flow. When the last clone and the last half of a stream are dropped, it ends as by
/// [`Flow::abort`].
#[derive(Clone)]
pub struct Flow(Arc<Inner>);

/// What a flow's streams share with it.
pub(super) struct Inner {
    connection: Connection,
    endpoint: Endpoint,
    link: Arc<Link>,
    pub(super) unconfirmed: Unconfirmed,
    /// Of the queue of unsent messages while it is empty.
    message_room: usize,
    close_within: Duration,
}

impl Inner {
    /// Why the flow is over; `error`: what the library calls it.
    pub(super) fn over(&self, error: &noq::ConnectionError) -> Over {
        over(error, self.link.is_shut())
    }

    pub(super) fn nonsense(&self, words: &str) {
        self.end(NONSENSE, words);
    }

    /// Ends it, unless it is over: the first reason stands.
    fn end(&self, code: VarInt, words: &str) {
        if self.connection.close_reason().is_none() {
            self.connection.close(code, words.as_bytes());
        }
    }
}

impl Flow {
    pub(super) fn new(connection: Connection, endpoint: Endpoint, link: Arc<Link>, close_within: Duration) -> Self {
        let message_room = connection.datagram_send_buffer_space();
        let unconfirmed = Unconfirmed::default();
        Self(Arc::new(Inner { connection, endpoint, link, unconfirmed, message_room, close_within }))
    }

    /// Opens a stream; the peer learns of it at once, also before the first byte. Waits while the peer has
    /// [`super::config::MAX_STREAMS`] open.
    pub async fn open_stream(&self) -> Result<(SendHalf, RecvHalf), StreamError> {
        let opened = self.0.connection.open_bi().await;
        let (send, recv) = opened.map_err(|error| StreamError::Over(self.0.over(&error)))?;
        let mut send = SendHalf::new(send, self.0.clone());
        send.announce().await?;
        Ok((send, RecvHalf::new(recv, self.0.clone(), false)))
    }

    /// The next stream that the peer opened. Cancel-safe.
    pub async fn accept_stream(&self) -> Result<(SendHalf, RecvHalf), StreamError> {
        let accepted = self.0.connection.accept_bi().await;
        let (send, recv) = accepted.map_err(|error| StreamError::Over(self.0.over(&error)))?;
        Ok((SendHalf::new(send, self.0.clone()), RecvHalf::new(recv, self.0.clone(), true)))
    }

    /// Sends one message, as soon as there is room for it.
    pub async fn send_message(&self, message: Bytes) -> Result<(), MessageError> {
        let len = check(&message)?;
        self.0.connection.send_datagram_wait(message).await.map_err(|error| self.unsent(error, len))
    }

    /// Sends one message if there is room for it now.
    pub fn try_send_message(&self, message: Bytes) -> Result<(), MessageError> {
        let len = check(&message)?;
        match at_once(self.0.connection.send_datagram_wait(message)) {
            Some(sent) => sent.map_err(|error| self.unsent(error, len)),
            None => Err(MessageError::WouldBlock),
        }
    }

    /// The next message that came. Of those that nobody asks for, the oldest are dropped. Cancel-safe.
    pub async fn recv_message(&self) -> Result<Bytes, MessageError> {
        loop {
            match self.0.connection.read_datagram().await {
                Ok(message) if message.is_empty() => {}
                Ok(message) => return Ok(message),
                Err(error) => return Err(MessageError::Over(self.0.over(&error))),
            }
        }
    }

    /// The next message that has come.
    pub fn try_recv_message(&self) -> Result<Bytes, MessageError> {
        at_once(self.recv_message()).unwrap_or(Err(MessageError::WouldBlock))
    }

    /// The longest message now, bytes. It grows when the path is found to carry more than the least of QUIC, 1,200 bytes
    /// of UDP payload, and shrinks with the path.
    pub fn message_limit(&self) -> usize {
        self.0.connection.max_datagram_size().unwrap_or(0)
    }

    /// What the flow has seen of its path.
    pub fn stats(&self) -> Stats {
        stats(&self.0.connection)
    }

    /// For who looks at the flow's path without keeping the flow.
    pub fn watch(&self) -> Watch {
        Watch(Arc::downgrade(&self.0))
    }

    /// Ends the flow: waits until messages have left and the peer's host has all streams that were finished, at most
    /// [`super::config::Options::close_within`]; then tells the peer.
    pub async fn close(&self) {
        let inner = &*self.0;
        let _ = tokio::time::timeout(inner.close_within, self.flushed()).await;
        inner.end(CLOSED, "");
        let _ = tokio::time::timeout(FAREWELL, inner.endpoint.wait_all_draining()).await;
    }

    /// All that was finished has arrived, and all messages have left.
    async fn flushed(&self) {
        let inner = &*self.0;
        // The library tells of room, not of an empty queue.
        while inner.connection.datagram_send_buffer_space() < inner.message_room
            && inner.connection.close_reason().is_none()
        {
            tokio::time::sleep(LOOKED_AFTER).await;
        }
        inner.unconfirmed.arrived().await;
    }

    /// Ends the flow at once: what has not arrived may not arrive.
    pub fn abort(&self) {
        self.0.end(ABORTED, "");
    }

    /// Waits for the end of the flow.
    pub async fn closed(&self) -> Over {
        let error = self.0.connection.closed().await;
        self.0.over(&error)
    }

    /// The key exchange that the handshake came to, as TLS calls it: "X25519MLKEM768".
    pub fn key_exchange(&self) -> Option<String> {
        let data = self.0.connection.handshake_data()?.downcast::<noq::crypto::rustls::HandshakeData>().ok()?;
        data.negotiated_key_exchange_group.map(|group| format!("{group:?}"))
    }

    fn unsent(&self, error: SendDatagramError, len: usize) -> MessageError {
        match error {
            SendDatagramError::TooLarge => MessageError::TooLong { limit: self.message_limit(), len },
            SendDatagramError::UnsupportedByPeer | SendDatagramError::Disabled => {
                MessageError::TooLong { limit: 0, len }
            }
            SendDatagramError::ConnectionLost(error) => MessageError::Over(self.0.over(&error)),
        }
    }
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Flow({} to {})", self.0.link.local(), self.0.link.peer())
    }
}

/// Looks at a flow's path without keeping the flow.
#[derive(Clone)]
pub struct Watch(Weak<Inner>);

impl Watch {
    /// As [`Flow::stats`]; `None`: the flow is no more.
    pub fn stats(&self) -> Option<Stats> {
        self.0.upgrade().map(|flow| stats(&flow.connection))
    }

    /// The flow has another path: it is tried at once, not when the peer was silent for twice as long as it was already.
    pub fn path_changed(&self) {
        if let Some(flow) = self.0.upgrade() {
            flow.link.moved();
            flow.endpoint.handle_network_change(None);
        }
    }
}

fn stats(connection: &Connection) -> Stats {
    let all = connection.stats();
    // The one path of the flow, whatever its addresses.
    let path = connection.path_stats(PathId::ZERO).unwrap_or_default();
    Stats {
        rtt: path.rtt,
        congestion_window: path.cwnd,
        mtu: path.current_mtu,
        datagrams_sent: all.udp_tx.datagrams,
        datagrams_received: all.udp_rx.datagrams,
        packets_lost: all.lost_packets,
        bytes_sent: all.udp_tx.bytes,
        bytes_received: all.udp_rx.bytes,
    }
}

fn check(message: &Bytes) -> Result<usize, MessageError> {
    if message.is_empty() { Err(MessageError::Empty) } else { Ok(message.len()) }
}
