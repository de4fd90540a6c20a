//! What ties a handshake to the request and the answer that led to it.

use sha2::{Digest as _, Sha256};

/// SHA-256 over all of request and answer that both programs act upon (`proto::shim::Binding`).
pub(crate) type Binding = [u8; 32];

/// Length of the client's first destination connection id, bytes: within RFC 9000's 8 to 20.
pub(crate) const FIRST_ID: usize = 16;

/// The application protocol (RFC 7301) of one flow. The server takes only its own, so a request or an answer that was
/// changed on the path ends in the alert `no_application_protocol`.
pub(crate) fn protocol(binding: &Binding) -> Vec<u8> {
    use std::fmt::Write as _;
    let mut text = "flowring/1 ".to_owned();
    for byte in binding {
        let _ = write!(text, "{byte:02x}");
    }
    text.into_bytes()
}

/// The destination connection id of the client's first packets: strangers do not know it.
pub(crate) fn first_id(binding: &Binding) -> [u8; FIRST_ID] {
    let digest = Sha256::new().chain_update(b"flowring dcid").chain_update(binding).finalize();
    std::array::from_fn(|at| digest[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_the_wire_stays_as_it_is() {
        let binding: Binding = std::array::from_fn(|at| at as u8);
        let text = "flowring/1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        assert_eq!(protocol(&binding), text.as_bytes());
        // printf 'flowring dcid' | cat - <(the 32 bytes) | sha256sum
        let id: String = first_id(&binding).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(id, FIRST_ID_OF_THAT);
    }

    const FIRST_ID_OF_THAT: &str = "9ff67ef978a8e486495a58f8f737f010";
}
