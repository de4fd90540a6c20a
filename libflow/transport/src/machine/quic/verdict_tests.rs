//! What each end of a connection is called.

use identity::CheckError;
use noq::{ApplicationClose, ConnectionError, VarInt};

use super::verdict::{ABORTED, CLOSED, HandshakeError, NONSENSE, REFUSED, failed, over};
use crate::Over;

fn application(code: VarInt, words: &'static str) -> ConnectionError {
    ConnectionError::ApplicationClosed(ApplicationClose { error_code: code, reason: words.into() })
}

#[test]
fn the_end_of_a_flow() {
    let cases = [
        (ConnectionError::LocallyClosed, false, Over::Closed),
        (ConnectionError::LocallyClosed, true, Over::SocketClosed),
        (ConnectionError::TimedOut, false, Over::TimedOut),
        // What the peer said before its socket was shut counts.
        (application(CLOSED, ""), true, Over::PeerClosed),
        (application(ABORTED, ""), false, Over::PeerClosed),
        (application(REFUSED, "not\nyou"), false, Over::Refused("not you".to_owned())),
        (application(NONSENSE, "what?"), false, Over::Protocol("it says that this side did: what?".to_owned())),
        (application(77u32.into(), ""), false, Over::Protocol("it closed with the unknown code 77".to_owned())),
        (ConnectionError::Reset, false, Over::Protocol("reset by peer".to_owned())),
    ];
    for (error, shut, want) in cases {
        assert_eq!(over(&error, shut), want, "{error:?}");
    }
}

#[test]
fn the_end_of_a_handshake() {
    let cases = [
        (ConnectionError::LocallyClosed, true, HandshakeError::SocketClosed),
        (ConnectionError::TimedOut, false, HandshakeError::Silent),
        (application(REFUSED, "no"), false, HandshakeError::Refused("no".to_owned())),
        (application(CLOSED, ""), false, HandshakeError::PeerGone),
        (application(ABORTED, ""), false, HandshakeError::PeerGone),
        (application(NONSENSE, "what?"), false, HandshakeError::Protocol("what?".to_owned())),
    ];
    for (error, shut, want) in cases {
        assert_eq!(failed(&error, None, shut), want, "{error:?}");
        // What this side found comes before all that follows from it.
        let found = Some(CheckError::NoChain);
        assert_eq!(failed(&error, found, shut), HandshakeError::Identity(CheckError::NoChain));
    }
}
