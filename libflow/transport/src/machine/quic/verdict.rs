//! What the end of a QUIC connection means for the flow on it.

use identity::CheckError;
use noq::{ConnectionClose, ConnectionError, TransportErrorCode, VarInt};

use super::welcome::words_of;
use crate::Over;

/// Application codes of a close (RFC 9000, 19.19).
pub(crate) const ABORTED: VarInt = VarInt::from_u32(0);
/// All that was finished had arrived.
pub(crate) const CLOSED: VarInt = VarInt::from_u32(1);
/// Not let in; the reason is in words.
pub(crate) const REFUSED: VarInt = VarInt::from_u32(2);
/// What the peer said makes no sense; the reason is in words.
pub(crate) const NONSENSE: VarInt = VarInt::from_u32(3);

/// TLS alerts (RFC 8446, 6) as QUIC carries them.
const ALERTS: u64 = 0x100;
const NO_APPLICATION_PROTOCOL: u64 = ALERTS + 120;
/// bad_certificate to unknown_ca, certificate_required.
const OF_CERTIFICATES: [u64; 8] = [42, 43, 44, 45, 46, 48, 51, 116];

/// Why a flow was asked for or accepted, and did not come to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// Client and server do not mean the same request and answer.
    #[error(
        "the request or its answer was changed on the path; allocate again, and if it stays so, look for what alters UDP datagrams between the hosts"
    )]
    Changed,
    /// What the peer shows of its identity is not taken here.
    #[error("the peer's identity is not taken: {0}")]
    Identity(CheckError),
    /// The peer does not take what this side shows, in its words.
    #[error("the peer does not take this program's identity: {0}")]
    IdentityRefused(String),
    /// The peer knows who this is and does not let it in, in its words.
    #[error("the peer refused: {0}")]
    Refused(String),
    /// The deadline came first.
    #[error(
        "the peer accepted, and then did not finish the handshake in time; is UDP between the hosts filtered by size?"
    )]
    Silent,
    /// The socket was closed under it.
    #[error("the flow was ended during its handshake; allocate a new one")]
    SocketClosed,
    /// The peer gave up.
    #[error("the peer gave up during the handshake; allocate a new one")]
    PeerGone,
    /// The peer does not speak what it should.
    #[error("the peer broke the protocol during the handshake: {0}")]
    Protocol(String),
    /// This side's chain or key cannot be used.
    #[error("this program's own identity cannot be used: {0}; is its irmd of the same version?")]
    Unusable(String),
    /// The flow's socket cannot be used.
    #[error("the flow's socket cannot be used: {0}; allocate a new flow")]
    Socket(String),
}

/// Why the flow is over. `shut`: its socket was found shut down.
pub(crate) fn over(error: &ConnectionError, shut: bool) -> Over {
    match error {
        ConnectionError::LocallyClosed if shut => Over::SocketClosed,
        ConnectionError::LocallyClosed => Over::Closed,
        ConnectionError::TimedOut => Over::TimedOut,
        ConnectionError::ApplicationClosed(close) => match close.error_code {
            ABORTED | CLOSED => Over::PeerClosed,
            REFUSED => Over::Refused(words_of(&close.reason)),
            NONSENSE => Over::Protocol(format!("it says that this side did: {}", words_of(&close.reason))),
            code => Over::Protocol(format!("it closed with the unknown code {code}")),
        },
        // The server's check may end after its welcome.
        ConnectionError::ConnectionClosed(close) => match by_alert(close) {
            Some(refused) => Over::Refused(refused.to_string()),
            None => Over::Protocol(said(close)),
        },
        ConnectionError::TransportError(error) => Over::Protocol(error.to_string()),
        other => Over::Protocol(other.to_string()),
    }
}

/// Why the handshake failed. `found`: what this side's check of the peer's chain said.
pub(crate) fn failed(error: &ConnectionError, found: Option<CheckError>, shut: bool) -> HandshakeError {
    if let Some(found) = found {
        return HandshakeError::Identity(found);
    }
    match error {
        ConnectionError::LocallyClosed if shut => HandshakeError::SocketClosed,
        ConnectionError::TimedOut => HandshakeError::Silent,
        // The answer to a first packet with another first id.
        ConnectionError::ConnectionClosed(close) if close.error_code == TransportErrorCode::CONNECTION_REFUSED => {
            HandshakeError::Changed
        }
        // What an application says during the handshake is carried without its code and words (RFC 9000, 10.2.3).
        ConnectionError::ConnectionClosed(close) if close.error_code == TransportErrorCode::APPLICATION_ERROR => {
            HandshakeError::PeerGone
        }
        ConnectionError::ConnectionClosed(close) => {
            by_alert(close).unwrap_or_else(|| HandshakeError::Protocol(said(close)))
        }
        ConnectionError::ApplicationClosed(close) => match close.error_code {
            REFUSED => HandshakeError::Refused(words_of(&close.reason)),
            ABORTED | CLOSED => HandshakeError::PeerGone,
            _ => HandshakeError::Protocol(words_of(&close.reason)),
        },
        ConnectionError::TransportError(error) if u64::from(error.code) == NO_APPLICATION_PROTOCOL => {
            HandshakeError::Changed
        }
        // A chain that rustls itself refuses, before or after ours is asked: an empty one, a signature by another key.
        ConnectionError::TransportError(error) if is_of_certificates(error.code) => {
            HandshakeError::Protocol(format!("it does not show who it is: {}", error.reason))
        }
        other => HandshakeError::Protocol(other.to_string()),
    }
}

/// What the peer's TLS did not take.
fn by_alert(close: &ConnectionClose) -> Option<HandshakeError> {
    match u64::from(close.error_code) {
        NO_APPLICATION_PROTOCOL => Some(HandshakeError::Changed),
        _ if is_of_certificates(close.error_code) => {
            let words = words_of(&close.reason);
            Some(HandshakeError::IdentityRefused(unwrapped(&words).to_owned()))
        }
        _ => None,
    }
}

/// The words of a check of ours, which rustls has wrapped up (`io/quic/tls.rs`); other words as they are.
fn unwrapped(words: &str) -> &str {
    let inner = words.strip_prefix("invalid peer certificate: Other(OtherError(");
    inner.and_then(|it| it.strip_suffix("))")).unwrap_or(words)
}

fn is_of_certificates(code: TransportErrorCode) -> bool {
    OF_CERTIFICATES.contains(&u64::from(code).wrapping_sub(ALERTS))
}

fn said(close: &ConnectionClose) -> String {
    words_of(close.to_string().as_bytes())
}
