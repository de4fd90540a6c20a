//! Keys, and the seals they make: HMAC-SHA-256, cut to 16 bytes.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::{HostId, WireId};

/// Length of a seal, bytes.
pub(super) const SEAL: usize = 16;

const SESSION: &[u8] = b"flowring rendezvous 1 session";
const ATTEMPT: &[u8] = b"flowring rendezvous 1 attempt";

/// A session as datagrams name it: the first 8 bytes of SHA-256 over `flowring rendezvous 1 session` and its name. No secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u64);

impl SessionId {
    /// Of the session with that name.
    pub fn of(name: &str) -> Self {
        let hash = Sha256::new().chain_update(SESSION).chain_update(name.as_bytes()).finalize();
        Self(u64::from_be_bytes(hash[..8].try_into().expect("8 of 32 bytes")))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What the members of a session and its server share. Made of the bytes of a key file and the session's name, so that one
/// key file may serve several sessions.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// Of a session's name and the bytes of its key file, white space at its end not counted.
    pub fn new(session: &str, secret: &[u8]) -> Self {
        Self(mac(secret.trim_ascii_end(), &[SESSION, session.as_bytes()]))
    }

    /// The seal of some bytes.
    pub fn seal(&self, bytes: &[u8]) -> [u8; SEAL] {
        cut(mac(&self.0, &[bytes]))
    }

    /// Whether the bytes were sealed with this key. Takes the same time whatever the answer.
    pub fn verify(&self, bytes: &[u8], seal: &[u8; SEAL]) -> bool {
        verify(&self.0, bytes, seal)
    }

    /// The key of one attempt: who asks under which id, who is asked, the server's nonce. Nobody without the session's key can
    /// make it, though all of that is said in clear.
    pub fn attempt(&self, asker: HostId, attempt: WireId, asked: HostId, nonce: &[u8; 16]) -> AttemptKey {
        let numbers = [asker.0, attempt.0, asked.0].map(u64::to_be_bytes);
        AttemptKey(mac(&self.0, &[ATTEMPT, &numbers[0], &numbers[1], &numbers[2], nonce]))
    }
}

/// What two members share for one flow.
#[derive(Clone, PartialEq, Eq)]
pub struct AttemptKey([u8; 32]);

impl AttemptKey {
    /// The seal of some bytes.
    pub fn seal(&self, bytes: &[u8]) -> [u8; SEAL] {
        cut(mac(&self.0, &[bytes]))
    }

    /// Whether the bytes were sealed with this key. Takes the same time whatever the answer.
    pub fn verify(&self, bytes: &[u8], seal: &[u8; SEAL]) -> bool {
        verify(&self.0, bytes, seal)
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("any key length will do")
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = keyed(key);
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn cut(whole: [u8; 32]) -> [u8; SEAL] {
    *whole.first_chunk().expect("16 of 32 bytes")
}

fn verify(key: &[u8], bytes: &[u8], seal: &[u8; SEAL]) -> bool {
    let mut mac = keyed(key);
    mac.update(bytes);
    mac.verify_truncated_left(seal).is_ok()
}

impl fmt::Debug for SessionKey {
    /// Secrets stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(…)")
    }
}

impl fmt::Debug for AttemptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AttemptKey(…)")
    }
}
